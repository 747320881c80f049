//! TLS of a real `calderad`, with certificates of `caldera tls init`: whoever should get in does, whoever should not does
//! not, and neither holds up the others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use caldera_tests::programs::{self, run, run_caldera};
use caldera_tests::service::{Client, Service};
use nix::sys::signal::Signal;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// A folder of certificates.
struct Certificates(TempDir);

impl Certificates {
    fn make(clients: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let this = Certificates(folder);
        this.remake(clients);
        this
    }

    /// Others in the place of those that are there.
    fn remake(&self, clients: &[&str]) {
        let others = tempfile::tempdir().expect("a folder");
        let mut arguments = vec!["tls".to_owned(), "init".into(), text(others.path())];
        for client in clients {
            arguments.extend(["--client".to_owned(), (*client).to_owned()]);
        }
        run_caldera(arguments).expect_success();
        for file in std::fs::read_dir(others.path()).expect("a folder") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), self.path(&file.file_name().to_string_lossy()))
                .expect("copied");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What the configuration of a box says of them.
    fn config(&self, mutual: bool) -> String {
        let field = |name: &str, file: &str| format!("{name} = {:?}\n", self.path(file));
        let client_ca = match mutual {
            true => field("client_ca", "ca.crt"),
            false => String::new(),
        };
        let (certificate, key) = (
            field("certificate", "server.crt"),
            field("key", "server.key"),
        );
        format!("[tls]\n{certificate}{key}{client_ca}")
    }

    /// How a client trusts them, perhaps with a certificate of its own.
    fn trust(&self, client: Option<&str>) -> TlsConfig {
        let own = client.map(|name| {
            let cert = std::fs::read(self.path(&format!("{name}.crt"))).expect("a certificate");
            let key = std::fs::read(self.path(&format!("{name}.key"))).expect("a key");
            let cert = Certificate::from_pem(&cert).expect("a certificate");
            ClientCert::new_with_certs(&[cert], PrivateKey::from_pem(&key).expect("a key"))
        });
        let ca = std::fs::read(self.path("ca.crt")).expect("a certificate");
        let ca = Certificate::from_pem(&ca).expect("a certificate");
        TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(vec![ca])))
            .client_cert(own)
            .build()
    }

    fn client(&self, service: &Service, account: &str, certificate: Option<&str>) -> Client {
        Client::over(
            &format!("https://{}", service.address()),
            self.trust(certificate),
            service.account(account).clone(),
        )
    }
}

#[test]
fn who_trusts_the_box_is_served_and_others_are_counted() {
    let certificates = Certificates::make(&[]);
    let service = Service::start(&[("bank", "financial")], &certificates.config(false));
    let bank = certificates.client(&service, "bank", None);
    assert!(bank.call("pool_statusV1", json!({}))["units"].is_array());
    assert_eq!(count(&bank, "completed"), 1, "one connection for all of it");

    let other = Certificates::make(&[]);
    let stranger = other.client(&service, "bank", None);
    stranger.try_get("/livez").expect_err("it trusts another");
    // Some clients say why they go, and some just go.
    until(&bank, &["refused", "abandoned"], 1);

    // Plain HTTP is told what is wrong, in its own language.
    let plain = service.client("bank").get("/livez");
    assert_eq!(
        (plain.status, plain.body.as_str()),
        (400, "this box speaks https here\n")
    );
    until(&bank, &["plain"], 1);

    let garbage = [[0_u8; 64], [0xff; 64], [0x16; 64]];
    for bytes in &garbage {
        let mut stream = TcpStream::connect(service.address()).expect("connected");
        stream.write_all(bytes).expect("written");
        let mut alert = Vec::new();
        let _ = stream.read_to_end(&mut alert);
        // An alert (21), fatal (2), or nothing; and the end.
        assert!(
            alert.is_empty() || (alert[0] == 21 && alert[5] == 2),
            "{alert:?}"
        );
    }
    until(&bank, &["malformed"], garbage.len() as u64);
    drop(TcpStream::connect(service.address()).expect("connected"));
    until(&bank, &["refused", "abandoned"], 2);
    assert_eq!(service.stop(), Some(0));
}

/// TLS 1.3 where both can, 1.2 where the client cannot, `http/1.1` and nothing else on top.
#[test]
fn versions_and_protocols_are_agreed_upon() {
    let certificates = Certificates::make(&[]);
    let service = Service::start(&[("bank", "financial")], &certificates.config(false));
    let shake = |versions: &[&'static rustls::SupportedProtocolVersion], protocol: &[u8]| {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(certificates.path("ca.crt")).expect("one");
        roots.add(ca).expect("an authority");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut stream = TcpStream::connect(service.address()).expect("connected");
        while client.is_handshaking() {
            client.complete_io(&mut stream)?;
        }
        std::io::Result::Ok((
            client.protocol_version(),
            client.alpn_protocol().map(<[u8]>::to_vec),
        ))
    };
    let http = Some(b"http/1.1".to_vec());
    let both = shake(rustls::ALL_VERSIONS, b"http/1.1").expect("agreed");
    assert_eq!(both, (Some(ProtocolVersion::TLSv1_3), http.clone()));
    let old = shake(&[&rustls::version::TLS12], b"http/1.1").expect("agreed");
    assert_eq!(old, (Some(ProtocolVersion::TLSv1_2), http));
    shake(rustls::ALL_VERSIONS, b"h2").expect_err("no HTTP/2 here");
}

#[test]
fn a_box_that_asks_for_certificates_serves_nobody_without() {
    let certificates = Certificates::make(&["bank", "plaza"]);
    let service = Service::start(&[("bank", "financial")], &certificates.config(true));
    let bank = certificates.client(&service, "bank", Some("client-bank"));
    assert!(bank.call("pool_statusV1", json!({}))["units"].is_array());
    let bare = certificates.client(&service, "bank", None);
    bare.try_get("/livez").expect_err("no certificate");
    until(&bank, &["certificate"], 1);
    // A certificate of a box is not one of a client.
    let server = certificates.client(&service, "bank", Some("server"));
    server.try_get("/livez").expect_err("for another purpose");
    until(&bank, &["certificate"], 2);

    // The command line, by arguments and by the environment.
    let secret = service.folder().join("bank.secret");
    let url = format!("https://{}", service.address());
    let asks = [
        "pool",
        "--json",
        "--tenant",
        "bank",
        "--url",
        &url,
        "--secret-file",
    ];
    let mut command = std::process::Command::new(programs::caldera());
    command.args(asks).arg(&secret);
    let files = [
        ("CACERT", "ca.crt"),
        ("CERT", "client-bank.crt"),
        ("KEY", "client-bank.key"),
    ];
    for (name, file) in files {
        command
            .arg(format!("--{}", name.to_lowercase()))
            .arg(certificates.path(file));
    }
    let answer: Value = serde_json::from_str(&run(command).expect_success()).expect("JSON");
    assert!(answer["units"].is_array(), "{answer}");
    let mut command = std::process::Command::new(programs::caldera());
    command.args(asks).arg(&secret);
    for (name, file) in files {
        command.env(format!("CALDERA_{name}"), certificates.path(file));
    }
    run(command).expect_success();
    let mut command = std::process::Command::new(programs::caldera());
    command.args(asks).arg(&secret);
    command.env("CALDERA_CACERT", certificates.path("ca.crt"));
    let refused = run(command).expect_code(69);
    assert!(refused.stdout.contains("unavailable"), "{refused}");
    assert_eq!(service.stop(), Some(0));
}

/// Other certificates for those who come, none of those who are there is dropped; and files that are no use change nothing.
#[test]
fn certificates_are_replaced_under_open_connections() {
    let certificates = Certificates::make(&[]);
    let service = Service::start(&[("bank", "financial")], &certificates.config(false));
    let before = certificates.client(&service, "bank", None);
    assert_eq!(before.get("/livez").status, 200);
    let late = certificates.client(&service, "bank", None);
    certificates.remake(&[]);
    let after = || certificates.client(&service, "bank", None);
    after().try_get("/livez").expect_err("not in force yet");
    service.signal(Signal::SIGHUP);
    let begin = Instant::now();
    while after().try_get("/livez").is_err() {
        assert!(begin.elapsed() < PATIENCE, "{}", service.log());
    }
    late.try_get("/livez").expect_err("it trusts the old alone");
    // It trusts the old alone as well: what serves it is the connection that it has.
    assert_eq!(before.get("/livez").status, 200);

    let client = after();
    std::fs::write(certificates.path("server.crt"), "no certificate").expect("written");
    service.signal(Signal::SIGHUP);
    let shown = |client: &Client| {
        client
            .get("/readyz")
            .body
            .contains("certificates are not replaced")
    };
    let begin = Instant::now();
    while !shown(&client) {
        assert!(begin.elapsed() < PATIENCE, "{}", service.log());
    }
    assert!(
        service.log().contains("tls.certificate"),
        "{}",
        service.log()
    );
    assert!(
        client
            .get("/metrics")
            .body
            .contains("caldera_tls_reload_failed 1\n")
    );
    assert_eq!(client.get("/readyz").status, 200);
    after().try_get("/livez").expect("those in force stay");

    // A certificate and a key of two pairs, then again a pair.
    let other = Certificates::make(&[]);
    std::fs::copy(other.path("server.crt"), certificates.path("server.crt")).expect("copied");
    service.signal(Signal::SIGHUP);
    let begin = Instant::now();
    while !client.get("/readyz").body.contains("with tls.key") {
        assert!(begin.elapsed() < PATIENCE, "{}", service.log());
    }
    certificates.remake(&[]);
    service.signal(Signal::SIGHUP);
    let begin = Instant::now();
    while shown(&client) {
        assert!(begin.elapsed() < PATIENCE, "{}", service.log());
    }
    assert!(
        client
            .get("/metrics")
            .body
            .contains("caldera_tls_reload_failed 0\n")
    );
    assert_eq!(after().get("/livez").status, 200);
    assert_eq!(service.stop(), Some(0));
}

/// Half of them say nothing, half begin a handshake and do not go on; none of them costs more than its place, and that for
/// no longer than its time.
#[test]
fn handshakes_that_stand_still_hold_nobody_up() {
    const COUNT: usize = 100;
    let certificates = Certificates::make(&[]);
    let limits = "[limits]\nhandshake_ms = 2000\n";
    let config = certificates.config(false) + limits;
    let service = Service::start(&[("bank", "financial")], &config);
    let bank = certificates.client(&service, "bank", None);
    assert_eq!(bank.get("/livez").status, 200);
    let before = resident_kib(&service);
    let open: Vec<TcpStream> = (0..COUNT)
        .map(|number| {
            let mut stream = TcpStream::connect(service.address()).expect("connected");
            if number % 2 == 0 {
                // A record of a handshake, 16 KiB long, of which this is the beginning.
                stream
                    .write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc])
                    .expect("written");
                stream.write_all(&[3; 8192]).expect("written");
            }
            stream
        })
        .collect();
    let fresh = certificates.client(&service, "bank", None);
    assert_eq!(
        fresh.get("/livez").status,
        200,
        "a handshake between theirs"
    );
    let grown = resident_kib(&service).saturating_sub(before);
    assert!(
        grown < 64 * COUNT as u64,
        "{grown} KiB for {COUNT} connections"
    );
    until(&bank, &["late"], COUNT as u64);
    for mut stream in open {
        let mut rest = Vec::new();
        // An end or a reset: the box has let go of it.
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(service.stop(), Some(0));
}

/// A key streams to the disk as it comes, deciphered or not.
#[test]
fn a_large_upload_grows_nothing() {
    const MIB: usize = 192;
    let certificates = Certificates::make(&[]);
    let service = Service::start(&[("bank", "financial")], &certificates.config(false));
    let bank = certificates.client(&service, "bank", None);
    bank.upload(&vec![1; 1 << 20]);
    let before = resident_kib(&service);
    let blob: Vec<u8> = (0..MIB << 17)
        .flat_map(|word: usize| word.to_le_bytes())
        .collect();
    let digest = bank.upload(&blob);
    let path = service
        .folder()
        .join("data/blobs/tenants/bank")
        .join(digest);
    assert_eq!(
        std::fs::metadata(path).expect("stored").len(),
        blob.len() as u64
    );
    let grown = peak_kib(&service).saturating_sub(before);
    assert!(
        grown < 24 << 10,
        "{grown} KiB more for an upload of {MIB} MiB"
    );
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn what_would_give_secrets_away_does_not_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Certificates::make(&[]);
    let start = |listen: &str, more: &str| {
        let config = folder.path().join("calderad.toml");
        let tenant = "[[tenant]]\nname = 'bank'\nscenario = 'financial'\n";
        let data = folder.path().join("data");
        let text = format!("listen = {listen:?}\ndata = {data:?}\n{more}\n{tenant}");
        std::fs::write(&config, text).expect("written");
        let mut command = std::process::Command::new(programs::calderad());
        command.arg("--config").arg(config);
        run(command).expect_code(78)
    };
    let refused = start("0.0.0.0:0", "");
    let reason = "listen: expected a loopback address; or [tls]; or allow_plain = true";
    assert!(refused.stderr.contains(reason), "{refused}");

    let key = certificates.path("server.key");
    for mode in [0o640, 0o604] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("changed");
        let refused = start("127.0.0.1:0", &certificates.config(false));
        let said = format!("{}: mode {mode:03o} lets others read it", key.display());
        assert!(refused.stderr.contains(&said), "{refused}");
        assert!(refused.stderr.contains("chmod 600"), "{refused}");
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let other = Certificates::make(&[]);
    std::fs::copy(other.path("server.key"), &key).expect("copied");
    let refused = start("127.0.0.1:0", &certificates.config(false));
    assert!(refused.stderr.contains("with tls.key"), "{refused}");
    std::fs::remove_file(&key).expect("removed");
    let refused = start("127.0.0.1:0", &certificates.config(false));
    assert!(refused.stderr.contains("tls.key"), "{refused}");
}

#[test]
fn certificates_are_made_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let into = folder.path().join("tls");
    let init = |more: &[&str]| {
        let mut arguments = vec![
            "--json".to_owned(),
            "tls".into(),
            "init".into(),
            text(&into),
        ];
        arguments.extend(more.iter().map(|it| (*it).to_owned()));
        run_caldera(arguments)
    };
    let hosts = "box.example,192.0.2.7,2001:db8::7";
    let made = init(&["--host", hosts, "--client", "a", "--days", "30"]).expect_success();
    let made: Value = serde_json::from_str(&made).expect("JSON");
    assert_eq!(
        made["hosts"],
        json!(["box.example", "192.0.2.7", "2001:db8::7"])
    );
    let (from, until) = (made["notBefore"].as_u64(), made["notAfter"].as_u64());
    assert_eq!(
        until.zip(from).map(|(until, from)| until - from),
        Some(30 * 86_400 + 3600)
    );
    let files = made["files"].as_array().expect("files");
    assert_eq!(files.len(), 6);
    for file in files {
        let path = into.join(file.as_str().expect("a name"));
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode()
            & 0o777;
        let private = path.extension().is_some_and(|it| it == "key");
        assert_eq!(
            mode & 0o077 == 0,
            private,
            "{} has {mode:03o}",
            path.display()
        );
    }
    let key = std::fs::read(into.join("server.key")).expect("a key");
    let again = init(&[]).expect_code(78);
    assert!(again.stdout.contains("nothing is overwritten"), "{again}");
    assert_eq!(std::fs::read(into.join("server.key")).expect("a key"), key);
    for bad in [["--host", "a b"], ["--client", "../up"], ["--days", "0"]] {
        init(&bad).expect_code(2);
    }
    init(&["--days", "30", "--ca-days", "29"]).expect_code(78);
}

/// How many handshakes have ended so.
fn count(client: &Client, outcome: &str) -> u64 {
    let text = client.get("/metrics").body;
    let line = format!("caldera_tls_handshakes_total{{outcome=\"{outcome}\"}} ");
    let value = text.lines().find_map(|it| it.strip_prefix(&line));
    value.expect("it is shown").parse().expect("a number")
}

/// Asks until so many have ended in one of these ways, and no more.
fn until(client: &Client, outcomes: &[&str], wanted: u64) {
    let begin = Instant::now();
    loop {
        let counted: u64 = outcomes.iter().map(|outcome| count(client, outcome)).sum();
        if counted == wanted {
            return;
        }
        assert!(counted < wanted, "{counted} {outcomes:?}");
        assert!(
            begin.elapsed() < PATIENCE,
            "{counted} of {wanted} {outcomes:?}"
        );
    }
}

fn resident_kib(service: &Service) -> u64 {
    memory(service, "VmRSS:")
}

fn peak_kib(service: &Service) -> u64 {
    memory(service, "VmHWM:")
}

fn memory(service: &Service, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.process()));
    let status = status.expect("the process runs");
    let value = status.lines().find_map(|it| it.strip_prefix(line));
    let value = value.and_then(|it| it.trim().strip_suffix(" kB"));
    value
        .expect("the kernel counts it")
        .parse()
        .expect("a number")
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// Far beyond all that these tests wait for.
const PATIENCE: Duration = Duration::from_secs(120);
