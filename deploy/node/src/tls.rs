//! TLS without a socket: rustls between the bytes of a connection and its HTTP machine.
//!
//! A [`Session`] takes what was read from a socket ([`Session::receive`]), gives what it says in the clear
//! ([`Session::clear`]), takes an answer in the clear ([`Session::seal`]) and gives it to whatever can be written to
//! ([`Session::flush`]). The shape is that of `caldera_rpc::http`, on top of which it stands, and rustls was made for it.
//!
//! The suites, versions (1.2 and 1.3) and groups are those that rustls takes by itself; its cryptography is `ring`, for
//! that builds with a C compiler and nothing else. There is no early data, which could be sent a second time by
//! somebody else. The one protocol that is agreed upon is `http/1.1`.
//!
//! Bounds. What is read at once is at most `limits.tls_buffer_bytes`, and what is sealed at once as well; beside it
//! rustls keeps at most one record of 16 KiB, or 64 KiB of a handshake. Nothing more is read while what came before has
//! not been taken, so a peer that sends without end is stopped by TCP, as without TLS. A handshake has
//! `limits.handshake_ms` in all, however its bytes come, and its connection counts like any other.
//!
//! Certificates are read again when the operator says so ([`Tls::reload`]). Whoever connects from then on is shown the new
//! ones; sessions that stand keep what they began with. Files that cannot be used change nothing, and the reason stays
//! to be seen until a reload succeeds.
//!
//! The text of a key is overwritten once it is parsed. Its scalars live in `ring` for as long as the certificate is in
//! force, and `ring` does not overwrite them; the process writes no core dump (`main.rs`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Buf, BytesMut};
use caldera_rpc::chain::chain;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

/// `[tls]` of the configuration: files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The box's certificate and those between it and its issuer, the box's first.
    pub certificate: PathBuf,
    /// Its private key, which nobody but its owner can read.
    pub key: PathBuf,
    /// Who signs the certificates of clients. With it a client without one is refused.
    pub client_ca: Option<PathBuf>,
}

/// Why the files of TLS cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("tls.{field} {}", path.display())]
    File {
        /// The field that names it.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is longer than any of its kind.
    #[error("tls.{field} {}: expected at most {max} bytes", path.display())]
    TooLong {
        /// The field that names it.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// The limit.
        max: u64,
    },
    /// Others can read the private key.
    #[error("tls.key {}: mode {mode:03o} lets others read it; expected 600 (chmod 600 it, and take another key if others could read it)", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("tls.{field} {}: expected {expected} in PEM", path.display())]
    Pem {
        /// The field that names it.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong.
        source: pem::Error,
    },
    /// A certificate of an authority is none.
    #[error("tls.client_ca {}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// Clients cannot be checked against it.
    #[error("tls.client_ca")]
    Verifier(#[from] VerifierBuilderError),
    /// The certificate and the key do not belong together, or are of no use.
    #[error("tls.certificate {} with tls.key {}", certificate.display(), key.display())]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The cryptography has none of the versions that are spoken here.
    #[error("tls: {0}")]
    Versions(rustls::Error),
}

/// What new connections are shown.
pub struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    fault: Mutex<Option<String>>,
}

impl Tls {
    /// Reads the files.
    pub fn open(files: TlsFiles) -> Result<Tls, TlsError> {
        let config = read(&files)?;
        Ok(Tls {
            files,
            config: ArcSwap::from_pointee(config),
            fault: Mutex::new(None),
        })
    }

    /// Reads the files again, for connections that come from now on. On an error those in force stay.
    pub fn reload(&self) -> Result<(), TlsError> {
        let answer = read(&self.files).map(|config| self.config.store(Arc::new(config)));
        if let Ok(mut fault) = self.fault.lock() {
            *fault = answer.as_ref().err().map(|error| chain(error).to_string());
        }
        answer
    }

    /// Why the last reload changed nothing.
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().ok().and_then(|fault| fault.clone())
    }

    /// Begins a session with a client that has just connected.
    pub fn accept(
        &self,
        buffer_bytes: usize,
        handshake_by: Duration,
    ) -> Result<Session, rustls::Error> {
        let mut connection = ServerConnection::new(self.config.load_full())?;
        connection.set_buffer_limit(Some(buffer_bytes));
        Ok(Session {
            connection,
            buffer_bytes,
            clear: BytesMut::new(),
            sealed: 0,
            handshake_by: Some(handshake_by),
            heard: false,
            ended: false,
            told_end: false,
            closing: false,
        })
    }
}

/// How handshakes end, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// Well.
    Completed,
    /// Not in its time.
    Late,
    /// The client speaks HTTP without TLS.
    Plain,
    /// The client has no certificate, or none that is trusted here.
    Certificate,
    /// The client does not go on with what it was shown: it does not trust the box's certificate, for one.
    Refused,
    /// What came is no handshake, or one that has nothing in common with ours.
    Malformed,
    /// The client went away.
    Abandoned,
}

impl Handshake {
    /// Every one, in the order in which they are counted.
    pub const ALL: [Handshake; 7] = [
        Handshake::Completed,
        Handshake::Late,
        Handshake::Plain,
        Handshake::Certificate,
        Handshake::Refused,
        Handshake::Malformed,
        Handshake::Abandoned,
    ];

    /// Its name in `/metrics`.
    pub fn name(self) -> &'static str {
        match self {
            Handshake::Completed => "completed",
            Handshake::Late => "late",
            Handshake::Plain => "plain",
            Handshake::Certificate => "certificate",
            Handshake::Refused => "refused",
            Handshake::Malformed => "malformed",
            Handshake::Abandoned => "abandoned",
        }
    }
}

/// A session with one client.
pub struct Session {
    connection: ServerConnection,
    buffer_bytes: usize,
    /// Deciphered, and not taken yet.
    clear: BytesMut,
    /// So many bytes of the answer are sealed and not all written.
    sealed: usize,
    /// When the handshake must be done, until it is.
    handshake_by: Option<Duration>,
    heard: bool,
    ended: bool,
    told_end: bool,
    closing: bool,
}

impl Session {
    /// How many bytes [`Session::receive`] takes at once.
    pub fn room(&self) -> usize {
        self.buffer_bytes
    }

    /// Takes what was read from the socket. After an error there may be something to flush, which tells the
    /// client; then the connection ends.
    pub fn receive(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        if self.closing {
            // Nobody listens any more.
            return Ok(());
        }
        if !std::mem::replace(&mut self.heard, true)
            && bytes.first().is_some_and(u8::is_ascii_uppercase)
        {
            return Err(Fault::Plain);
        }
        while !bytes.is_empty() && !self.ended {
            // A slice is read whole or until rustls has a record; the error is that of a message too long.
            self.connection.read_tls(&mut bytes).map_err(Fault::Long)?;
            let state = self.connection.process_new_packets()?;
            let (count, begin) = (state.plaintext_bytes_to_read(), self.clear.len());
            if count > 0 {
                self.clear.resize(begin + count, 0);
                let mut reader = self.connection.reader();
                reader
                    .read_exact(&mut self.clear[begin..])
                    .map_err(Fault::Long)?;
            }
            self.ended = state.peer_has_closed();
        }
        Ok(())
    }

    /// What the client has said and nobody has taken.
    pub fn clear(&self) -> &[u8] {
        &self.clear
    }

    /// The first `count` bytes of it are taken.
    pub fn take(&mut self, count: usize) {
        self.clear.advance(count);
        if self.clear.is_empty() {
            // A connection that rests holds no buffer.
            self.clear = BytesMut::new();
        }
    }

    /// Whether the client has said that it will say no more, and all that it said is taken: said once.
    pub fn has_ended(&mut self) -> bool {
        self.ended && self.clear.is_empty() && !std::mem::replace(&mut self.told_end, true)
    }

    /// Seals the beginning of an answer, to be written by [`Session::flush`]; nothing while there is something to flush, or a
    /// handshake.
    pub fn seal(&mut self, answer: &[u8]) {
        if self.sealed == 0 && !self.connection.is_handshaking() && !self.wants_flush() {
            let answer = &answer[..answer.len().min(self.buffer_bytes)];
            // It takes no more than its limit, and does not fail.
            self.sealed = self.connection.writer().write(answer).unwrap_or(0);
        }
    }

    /// Writes what there is to write, and says how many bytes of the answer have left with it. An error that the socket
    /// would block is one that comes back later.
    pub fn flush(&mut self, socket: &mut dyn Write) -> io::Result<usize> {
        while self.wants_flush() {
            if self.connection.write_tls(socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(std::mem::take(&mut self.sealed))
    }

    /// Whether there is something to write.
    pub fn wants_flush(&self) -> bool {
        self.connection.wants_write()
    }

    /// Says, by the next flush, that nothing follows: a client can tell an end from a cut.
    pub fn close(&mut self) {
        if !std::mem::replace(&mut self.closing, true) {
            self.connection.send_close_notify();
        }
    }

    /// Until when the handshake must be done; `None` once it is.
    pub fn handshake_by(&self) -> Option<Duration> {
        self.handshake_by
    }

    /// Whether the handshake has just been completed: said once.
    pub fn has_completed(&mut self) -> bool {
        self.handshake_by.is_some()
            && !self.connection.is_handshaking()
            && self.handshake_by.take().is_some()
    }
}

/// Why a session ends.
#[derive(Debug, Error)]
pub enum Fault {
    /// HTTP without TLS.
    #[error("HTTP without TLS")]
    Plain,
    /// A message that does not fit into its buffer.
    #[error("reading TLS: {0}")]
    Long(io::Error),
    /// What rustls says.
    #[error("TLS")]
    Protocol(#[from] rustls::Error),
}

impl Fault {
    /// As what a handshake that ends so is counted.
    pub fn handshake(&self) -> Handshake {
        match self {
            Fault::Plain => Handshake::Plain,
            Fault::Protocol(rustls::Error::AlertReceived(_)) => Handshake::Refused,
            Fault::Protocol(
                rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_),
            ) => Handshake::Certificate,
            Fault::Long(_) | Fault::Protocol(_) => Handshake::Malformed,
        }
    }
}

/// What somebody who speaks HTTP without TLS is told.
pub const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\nContent-Length: 27\r\n\r\nthis box speaks https here\n";

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let certificates = certificates("certificate", &files.certificate)?;
    let key = private_key(&files.key)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(authorities(path)?),
                Arc::clone(&provider) as Arc<CryptoProvider>,
            );
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|source| TlsError::Pair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            source,
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates("client_ca", path)? {
        store
            .add(certificate)
            .map_err(|source| TlsError::Authority {
                path: path.to_owned(),
                source,
            })?;
    }
    Ok(store)
}

fn certificates(
    field: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = text(field, path, |_| Ok(()))?;
    let refused = |source| TlsError::Pem {
        field,
        path: path.to_owned(),
        expected: "certificates",
        source,
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(refused)?;
    if all.is_empty() {
        return Err(refused(pem::Error::NoItemsFound));
    }
    Ok(all)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    // The mode of the open file, not of the name: what was checked is what is read.
    let text = text("key", path, |mode| match mode & 0o077 {
        0 => Ok(()),
        _ => Err(TlsError::Exposed {
            path: path.to_owned(),
            mode,
        }),
    })?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|source| TlsError::Pem {
        field: "key",
        path: path.to_owned(),
        expected: "a private key",
        source,
    })
}

/// A file, once its mode was found good.
fn text(
    field: &'static str,
    path: &Path,
    good: impl FnOnce(u32) -> Result<(), TlsError>,
) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |source| TlsError::File {
        field,
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    good(metadata.mode() & 0o777)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(TlsError::TooLong {
            field,
            path: path.to_owned(),
            max: FILE_BYTES_MAX,
        });
    }
    // Sized once, so that no copy of a part is left behind by a growing buffer.
    let mut text = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(failed)?;
    Ok(text)
}

/// A bundle of all public authorities has a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;
