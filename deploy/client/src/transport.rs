//! The way to a `calderad`: which URLs there are, and whom we trust on the other side.
//!
//! | URL | way |
//! |---|---|
//! | `http://HOST:PORT` | plain, for loopback and for networks that are trusted |
//! | `https://HOST:PORT` | TLS: the box's certificate is held against `--cacert`, or what the system trusts |
//! | `unix:/PATH` | the operator's socket of a box on this machine |
//!
//! No proxy from the environment is used, because a witness must not take a detour by accident.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use ureq::config::Config;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Error};
use zeroize::Zeroizing;

use crate::ClientError;

/// Whom we trust, and who we are, where TLS is spoken.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Certificates of authorities; those of the system if left out.
    pub cacert: Option<PathBuf>,
    /// Our own certificate, for a box that asks for one.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
}

/// An HTTP agent for a URL, and what its requests' URLs begin with.
pub(crate) fn agent(url: &str, identity: &Identity) -> Result<(Agent, String), ClientError> {
    let base = url.trim_end_matches('/').to_owned();
    let builder = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_recv_response(Some(Duration::from_secs(60)));
    if let Some(path) = url.strip_prefix("unix:") {
        let socket = OperatorSocket { path: path.into() };
        let agent = Agent::with_parts(builder.build(), socket, DefaultResolver::default());
        // A URL has to have a host; nobody looks it up.
        return Ok((agent, "http://127.0.0.1".to_owned()));
    }
    let config: Config = if url.starts_with("https://") {
        builder.tls_config(tls(identity)?).build()
    } else if url.starts_with("http://") {
        builder.build()
    } else {
        return Err(ClientError::Configuration(format!(
            "the URL: expected http://HOST:PORT, https://HOST:PORT or unix:/PATH, got {url}"
        )));
    };
    Ok((config.new_agent(), base))
}

/// Connects to a socket in the file system, whatever the URL of the request says.
#[derive(Debug)]
struct OperatorSocket {
    path: PathBuf,
}

impl<In: Transport> Connector<In> for OperatorSocket {
    type Out = Wire;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _chained: Option<In>,
    ) -> Result<Option<Wire>, Error> {
        let config = &details.config;
        Ok(Some(Wire {
            stream: UnixStream::connect(&self.path)?,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
        }))
    }
}

#[derive(Debug)]
struct Wire {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let span = timeout.not_zero().map(|span| *span);
        self.stream.set_write_timeout(span)?;
        let sent = self.stream.write_all(&self.buffers.output()[..amount]);
        sent.map_err(|error| late(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let span = timeout.not_zero().map(|span| *span);
        self.stream.set_read_timeout(span)?;
        let read = self.stream.read(self.buffers.input_append_buf());
        let amount = read.map_err(|error| late(error, timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // One call after another over one connection is not worth asking for: a fresh one costs nothing here.
        false
    }
}

fn late(error: std::io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    }
}

fn tls(identity: &Identity) -> Result<TlsConfig, ClientError> {
    let roots = match &identity.cacert {
        Some(path) => certificates(path)?,
        None => certificates(Path::new(SYSTEM)).map_err(|error| {
            ClientError::Configuration(format!(
                "certificates of authorities: expected a file, for this system lists none ({error})"
            ))
        })?,
    };
    let mut builder = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)));
    if identity.cert.is_some() != identity.key.is_some() {
        let what = "our own certificate and its key: expected both or neither, got one";
        return Err(ClientError::Configuration(what.into()));
    }
    if let (Some(cert), Some(key)) = (&identity.cert, &identity.key) {
        let text = Zeroizing::new(read(key)?);
        let key = PrivateKey::from_pem(&text)
            .map_err(|error| ClientError::Configuration(format!("{}: {error}", key.display())))?;
        let own = ClientCert::new_with_certs(&certificates(cert)?, key);
        builder = builder.client_cert(Some(own));
    }
    Ok(builder.build())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, ClientError> {
    let refused = |what: String| ClientError::Configuration(format!("{}: {what}", path.display()));
    let text = read(path)?;
    let mut all = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(it) = item.map_err(|error| refused(error.to_string()))? {
            all.push(it);
        }
    }
    if all.is_empty() {
        return Err(refused("expected certificates in PEM, got none".into()));
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|source| ClientError::File {
        path: path.to_owned(),
        source,
    })
}

/// Where Debian keeps the authorities that it trusts.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
