//! Witnesses and keys, from the box that has a job to the box that proves it, without the broker.
//!
//! `GET /v1/jobs/JOB/TOKEN/witness` and `.../key`, HTTP/1.1 over TLS. Both sides show a certificate of the fleet's authority, which
//! names their box ([`name_of`]). A job's bytes are given to the lender of the placement in force, and to nobody
//! else; whoever asks for something else hears 404, whether it is there or not.
//!
//! The lender writes what comes into a file of its own, goes on where it was cut off, and has nothing until the length and SHA-256
//! are what the placement says and file and folder are on the disk. Nobody sends a byte to a box that has not asked for it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use caldera_rpc::chain::chain;
use caldera_scheduler::JobId;
use futures_util::TryStreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, HOST, RANGE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::calderad::{Calderad, Part};
use crate::{BoxId, Token};

/// Who a box is to other boxes.
#[derive(Clone)]
pub struct Identity {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// Why a box is nobody, or why bytes did not come.
#[derive(Debug, Error)]
pub enum TransferError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What should be a certificate or a key is none.
    #[error("{}: expected {expected} in PEM, got {got}", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong.
        got: String,
    },
    /// The files do not fit each other.
    #[error("certificates: {0}")]
    Tls(String),
    /// The other box is not there, or went away.
    #[error("{who} at {address}: {what}")]
    Away {
        /// Which.
        who: BoxId,
        /// Where.
        address: SocketAddr,
        /// What happened.
        what: String,
    },
    /// It does not give it: the placement is not in force any more.
    #[error("{who}: the {} of this placement: expected status 206, got {got}", part.name())]
    Refused {
        /// Which box.
        who: BoxId,
        /// What was asked for.
        part: Part,
        /// What it said.
        got: StatusCode,
    },
    /// It is something else.
    #[error("{who}: the {}: expected {expected}, got {got}", part.name())]
    Corrupt {
        /// Which box.
        who: BoxId,
        /// What was asked for.
        part: Part,
        /// Length and digest that were announced.
        expected: String,
        /// Those that came.
        got: String,
    },
}

/// Who may have which job's bytes: the placements in force.
#[derive(Clone, Default)]
pub struct Grants(Arc<Mutex<HashMap<JobId, Grant>>>);

#[derive(Debug, Clone, Copy)]
struct Grant {
    token: Token,
    lender: BoxId,
    witness_bytes: u64,
    key_bytes: u64,
}

/// What is to be fetched.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// From whom.
    pub who: BoxId,
    /// Where that is.
    pub address: SocketAddr,
    /// Of which job.
    pub job: JobId,
    /// By which placement.
    pub token: Token,
    /// Which part.
    pub part: Part,
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// How long it is.
    pub bytes: u64,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The name in a box's certificate.
pub fn name_of(who: BoxId) -> String {
    format!("{:032x}.box", who.0)
}

impl Identity {
    /// Reads the files.
    pub fn open(ca: &Path, certificate: &Path, key: &Path) -> Result<Identity, TransferError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = |error: &dyn std::fmt::Display| TransferError::Tls(error.to_string());
        let mut roots = RootCertStore::empty();
        for authority in certificates(ca)? {
            roots.add(authority).map_err(|error| tls(&error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(certificate)?;
        let private = |path: &Path| {
            PrivateKeyDer::from_pem_file(path).map_err(|error| TransferError::Pem {
                path: path.to_owned(),
                expected: "a private key",
                got: error.to_string(),
            })
        };
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| tls(&error))?;
        let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| tls(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), private(key)?)
            .map_err(|error| tls(&error))?;
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| tls(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private(key)?)
            .map_err(|error| tls(&error))?;
        Ok(Identity {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }
}

impl Grants {
    /// A placement is in force, in place of the one that its job had. Witness and key have so many bytes.
    pub fn give(&self, job: JobId, token: Token, lender: BoxId, bytes: (u64, u64)) {
        let (witness_bytes, key_bytes) = bytes;
        let grant = Grant {
            token,
            lender,
            witness_bytes,
            key_bytes,
        };
        self.lock().insert(job, grant);
    }

    /// This placement is not, whatever else is.
    pub fn end(&self, job: JobId, token: Token) {
        let mut grants = self.lock();
        if grants.get(&job).is_some_and(|grant| grant.token == token) {
            grants.remove(&job);
        }
    }

    /// No placement of a job is.
    pub fn end_all(&self, job: JobId) {
        self.lock().remove(&job);
    }

    fn of(&self, job: JobId, token: Token) -> Option<Grant> {
        let grant = self.lock().get(&job).copied();
        grant.filter(|grant| grant.token == token)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Grant>> {
        // Nothing that holds it can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives out what is granted, for as long as it is polled.
pub async fn serve<C: Calderad>(
    listener: TcpListener,
    identity: Identity,
    grants: Grants,
    calderad: Arc<C>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Of file descriptors there will be some again.
                tracing::warn!(error = %chain(&error), "a box cannot connect");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let (acceptor, grants) = (identity.acceptor.clone(), grants.clone());
        let calderad = Arc::clone(&calderad);
        tokio::spawn(async move {
            let _place = place;
            let stream = match timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    return tracing::warn!(error = %chain(&error), "a stranger connects");
                }
                Err(_) => return,
            };
            let shown = stream.get_ref().1.peer_certificates();
            let Some(shown) = shown.and_then(|chain| chain.first()).cloned() else {
                return;
            };
            let service = service_fn(move |request| {
                let answer = answer(&request, &shown, &grants, Arc::clone(&calderad));
                std::future::ready(Ok::<_, std::convert::Infallible>(answer))
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(error = %chain(&error), "a box went away");
            }
        });
    }
}

fn answer<C: Calderad>(
    request: &Request<Incoming>,
    shown: &CertificateDer<'static>,
    grants: &Grants,
    calderad: Arc<C>,
) -> Response<Body> {
    let only = |status| {
        let empty = Empty::new().map_err(|never: std::convert::Infallible| match never {});
        let mut response = Response::new(empty.boxed_unsync());
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::GET {
        return only(StatusCode::METHOD_NOT_ALLOWED);
    }
    let granted = asked(request.uri().path()).and_then(|(job, token, part)| {
        let grant = grants.of(job, token)?;
        is_named(shown, grant.lender).then_some((job, part, grant))
    });
    let Some((job, part, grant)) = granted else {
        return only(StatusCode::NOT_FOUND);
    };
    let all = match part {
        Part::Witness => grant.witness_bytes,
        Part::Key => grant.key_bytes,
    };
    let range = request.headers().get(RANGE);
    let Some(from) = range.and_then(|it| it.to_str().ok()).and_then(first_byte) else {
        return only(StatusCode::BAD_REQUEST);
    };
    if from >= all {
        return only(StatusCode::RANGE_NOT_SATISFIABLE);
    }
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES_AHEAD);
    tokio::spawn(async move {
        let mut at = from;
        while at < all {
            let piece = calderad.read(job, part, at).await;
            let piece = piece.map_err(io::Error::other);
            at += piece.as_ref().map_or(all, |piece| piece.len() as u64);
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let mut response = Response::new(StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync());
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let headers = response.headers_mut();
    let range = format!("bytes {from}-{}/{all}", all - 1);
    if let Ok(range) = range.try_into() {
        headers.insert(CONTENT_RANGE, range);
    }
    headers.insert(CONTENT_LENGTH, (all - from).into());
    response
}

/// `/v1/jobs/JOB/TOKEN/PART`, both numbers of 16 digits.
fn asked(path: &str) -> Option<(JobId, Token, Part)> {
    let mut parts = path.strip_prefix("/v1/jobs/")?.split('/');
    let mut number = || {
        let digits = parts.next()?;
        let all = digits.len() == 16 && digits.bytes().all(|it| it.is_ascii_hexdigit());
        all.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
    };
    let (job, token) = (JobId(number()?), Token(number()?));
    let part = match parts.next()? {
        "witness" => Part::Witness,
        "key" => Part::Key,
        _ => return None,
    };
    parts.next().is_none().then_some((job, token, part))
}

/// Of `bytes=FIRST-`, which is all that boxes ask each other.
fn first_byte(range: &str) -> Option<u64> {
    let digits = range.strip_prefix("bytes=")?.strip_suffix('-')?;
    let all = digits.bytes().all(|it| it.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten()
}

/// Whether a certificate, which the authority has signed, is this box's.
fn is_named(shown: &CertificateDer<'_>, who: BoxId) -> bool {
    let name = ServerName::try_from(name_of(who));
    let certificate = ParsedCertificate::try_from(shown);
    match (certificate, name) {
        (Ok(certificate), Ok(name)) => verify_server_name(&certificate, &name).is_ok(),
        _ => false,
    }
}

/// Fetches into a file, of which what was fetched before is not fetched again. Returns when it is right, and on the disk.
pub async fn fetch(identity: &Identity, wanted: &Wanted, file: &Path) -> Result<(), TransferError> {
    if file.exists() {
        return Ok(());
    }
    let part = file.with_extension("part");
    let begun = std::fs::metadata(&part).map_or(0, |metadata| metadata.len());
    // More than all is something else; it begins anew.
    let begun = if begun > wanted.bytes { 0 } else { begun };
    let (pieces, receiver) = mpsc::channel(PIECES_AHEAD);
    let (outcome, written) = oneshot::channel();
    let (path, what) = (part.clone(), wanted.part);
    tokio::task::spawn_blocking(move || {
        let abandoned = outcome.send(write(&path, begun, receiver)).is_err();
        // Nobody will ask for the rest of this witness.
        if abandoned
            && what == Part::Witness
            && let Err(error) = erase(&path)
        {
            tracing::error!(error = %chain(&error), "a part of a witness is not erased");
        }
    });
    let brought = if begun < wanted.bytes {
        bring(identity, wanted, begun, pieces).await
    } else {
        drop(pieces);
        Ok(())
    };
    let failed = |source| TransferError::File {
        path: part.clone(),
        source,
    };
    let (bytes, digest) = written
        .await
        .map_err(|error| failed(io::Error::other(error)))?
        .map_err(failed)?;
    brought?;
    if (bytes, digest) != (wanted.bytes, wanted.digest) {
        let tell = |bytes: u64, digest: [u8; 32]| format!("{bytes} bytes, {}", hex::encode(digest));
        // Whatever is wrong with it is wrong with what would be added.
        std::fs::remove_file(&part).map_err(failed)?;
        return Err(TransferError::Corrupt {
            who: wanted.who,
            part: wanted.part,
            expected: tell(wanted.bytes, wanted.digest),
            got: tell(bytes, digest),
        });
    }
    std::fs::rename(&part, file).map_err(failed)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// Brings what is missing, piece by piece.
async fn bring(
    identity: &Identity,
    wanted: &Wanted,
    from: u64,
    pieces: mpsc::Sender<Bytes>,
) -> Result<(), TransferError> {
    let away = |what: &dyn std::fmt::Display| TransferError::Away {
        who: wanted.who,
        address: wanted.address,
        what: what.to_string(),
    };
    let connecting = async {
        let stream = TcpStream::connect(wanted.address).await?;
        let name = ServerName::try_from(name_of(wanted.who)).map_err(io::Error::other)?;
        identity.connector.connect(name, stream).await
    };
    let stream = timeout(HANDSHAKE_WITHIN, connecting)
        .await
        .map_err(|error| away(&error))?
        .map_err(|error| away(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| away(&error))?;
    let driver = tokio::spawn(connection);
    let path = format!(
        "/v1/jobs/{:016x}/{:016x}/{}",
        wanted.job.0,
        wanted.token.0,
        wanted.part.name()
    );
    let request = Request::builder()
        .uri(path)
        .header(HOST, name_of(wanted.who))
        .header(RANGE, format!("bytes={from}-"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| away(&error))?;
    let response = timeout(IDLE, sender.send_request(request))
        .await
        .map_err(|error| away(&error))?
        .map_err(|error| away(&error))?;
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Err(TransferError::Refused {
            who: wanted.who,
            part: wanted.part,
            got: response.status(),
        });
    }
    let mut body = response.into_body();
    let mut left = wanted.bytes - from;
    while left > 0 {
        let frame = timeout(IDLE, body.frame()).await;
        let frame = frame.map_err(|error| away(&error))?;
        let Some(frame) = frame else {
            return Err(away(&"it was cut off"));
        };
        let frame = frame.map_err(|error| away(&error))?;
        if let Ok(bytes) = frame.into_data() {
            // What is beyond its length would be found out by the digest; it is not even written.
            left = left.saturating_sub(bytes.len() as u64);
            if pieces.send(bytes).await.is_err() {
                break;
            }
        }
    }
    driver.abort();
    Ok(())
}

/// Writes what comes behind what is there, and says how long it is and what its digest is.
fn write(
    path: &Path,
    begun: u64,
    mut pieces: mpsc::Receiver<Bytes>,
) -> io::Result<(u64, [u8; 32])> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.set_len(begun)?;
    let mut digest = Sha256::new();
    io::copy(&mut (&mut file).take(begun), &mut Hashing(&mut digest))?;
    let mut bytes = file.seek(SeekFrom::Start(begun))?;
    while let Some(piece) = pieces.blocking_recv() {
        file.write_all(&piece)?;
        digest.update(&piece);
        bytes += piece.len() as u64;
    }
    file.sync_all()?;
    Ok((bytes, digest.finalize().into()))
}

struct Hashing<'a>(&'a mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Overwrites a witness and deletes it, as far as a disk can be made to forget.
pub fn erase(path: &Path) -> io::Result<()> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let length = file.metadata()?.len();
    io::copy(&mut io::repeat(0).take(length), &mut file)?;
    file.sync_data()?;
    std::fs::remove_file(path)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TransferError> {
    let wrong = |got: String| TransferError::Pem {
        path: path.to_owned(),
        expected: "certificates",
        got,
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| wrong(error.to_string()))?
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    match found.is_empty() {
        true => Err(wrong("none".to_owned())),
        false => Ok(found),
    }
}

const CONNECTIONS_MAX: usize = 64;
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// So long nothing comes before a box is taken for gone.
const IDLE: Duration = Duration::from_secs(30);
/// So many pieces of a mebibyte are read before they are sent.
const PIECES_AHEAD: usize = 4;
