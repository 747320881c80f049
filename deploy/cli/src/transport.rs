//! The way to a `calderad`: which URLs there are, and whom we trust on the other side.
//!
//! | URL | way |
//! |---|---|
//! | `http://HOST:PORT` | plain, for loopback and for networks that are trusted |
//! | `https://HOST:PORT` | TLS: the box's certificate is held against `--cacert`, or what the system trusts |
//!
//! No proxy from the environment is used, because a witness must not take a detour by accident.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::crypto::ring;
use ureq::Agent;
use ureq::config::Config;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use zeroize::Zeroizing;

use crate::failure::Misconfigured;

/// Whom we trust, and who we are, where TLS is spoken.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Identity {
    /// Certificates of the authorities that the box's certificate is held against, in PEM; for https. Left out:
    /// those of the system
    #[arg(long, value_name = "FILE", env = "CALDERA_CACERT")]
    pub(crate) cacert: Option<PathBuf>,
    /// Our own certificate, for a box that asks for one, in PEM
    #[arg(long, value_name = "FILE", env = "CALDERA_CERT", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", env = "CALDERA_KEY", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

/// An HTTP agent for a URL, and what its requests' URLs begin with.
pub(crate) fn agent(url: &str, identity: &Identity) -> anyhow::Result<(Agent, String)> {
    let base = url.trim_end_matches('/').to_owned();
    let builder = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_recv_response(Some(Duration::from_secs(60)));
    let config: Config = if url.starts_with("https://") {
        builder.tls_config(tls(identity)?).build()
    } else if url.starts_with("http://") {
        builder.build()
    } else {
        return Err(Misconfigured(format!(
            "--url: expected http://HOST:PORT or https://HOST:PORT, got {url}"
        ))
        .into());
    };
    Ok((config.new_agent(), base))
}

fn tls(identity: &Identity) -> anyhow::Result<TlsConfig> {
    let roots = match &identity.cacert {
        Some(path) => certificates(path)?,
        None => certificates(Path::new(SYSTEM)).map_err(|error| {
            Misconfigured(format!(
                "--cacert: expected a file, for this system lists no authorities ({error:#})"
            ))
        })?,
    };
    let mut builder = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)));
    if let (Some(cert), Some(key)) = (&identity.cert, &identity.key) {
        let text = Zeroizing::new(read(key)?);
        let key = PrivateKey::from_pem(&text)
            .map_err(|error| Misconfigured(format!("{}: {error}", key.display())))?;
        let own = ClientCert::new_with_certs(&certificates(cert)?, key);
        builder = builder.client_cert(Some(own));
    }
    Ok(builder.build())
}

fn certificates(path: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let refused = |what: String| Misconfigured(format!("{}: {what}", path.display()));
    let text = read(path)?;
    let mut all = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(it) = item.map_err(|error| refused(error.to_string()))? {
            all.push(it);
        }
    }
    if all.is_empty() {
        return Err(refused("expected certificates in PEM, got none".into()).into());
    }
    Ok(all)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Where Debian keeps the authorities that it trusts.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
