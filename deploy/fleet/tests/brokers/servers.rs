//! NATS servers on loopback, each test with an address of its own, and the folder of who belongs to their fleet.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use caldera_fleet::config::{Config, Lend};
use caldera_fleet::nats::Access;
use caldera_fleet::{BoxId, admission};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::relay::{Ends, Network};

/// Boxes of these names have no key that anybody asks for.
pub(crate) const NO_KEY: &str = "";
/// Long enough for any election on any machine; nothing is asserted of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) struct Servers {
    pub(crate) folder: tempfile::TempDir,
    host: String,
    servers: Vec<(u16, Option<Child>)>,
    jetstream: &'static str,
    with_accounts: bool,
    /// The wires on which all that is said to a server goes, if they can be cut.
    network: Option<Arc<Network>>,
}

impl Servers {
    /// So many servers, which say this of JetStream. They are not started yet.
    pub(crate) fn new(count: usize, jetstream: &'static str, with_accounts: bool) -> Servers {
        static FLEETS: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().expect("a folder");
        admission::init(&folder.path().join("fleet")).expect("an authority");
        // All of 127/8 is this machine, and nobody else's connections come from there.
        let pid = std::process::id();
        let host = format!(
            "127.{}.{}.{}",
            100 + (pid >> 16) % 100,
            (pid >> 8) & 255,
            pid & 255
        );
        let first = 20_000 + 100 * FLEETS.fetch_add(1, Ordering::Relaxed) as u16;
        let servers = (0..count as u16).map(|n| (first + 10 * n, None)).collect();
        Servers {
            folder,
            host,
            servers,
            jetstream,
            with_accounts,
            network: None,
        }
    }

    /// The same, on wires that can be cut: one from each server to each other, and one to each from everybody else.
    pub(crate) fn on_wires(count: usize, jetstream: &'static str) -> (Servers, Arc<Network>) {
        let mut servers = Servers::new(count, jetstream, true);
        let network = Network::new(count);
        servers.network = Some(Arc::clone(&network));
        for to in 0..count {
            let port = servers.servers[to].0;
            let others = (0..count).filter(|from| *from != to);
            for from in std::iter::once(None).chain(others.map(Some)) {
                let own = port + u16::from(from.is_some());
                let at = servers.wire(from, to);
                network.wire(Ends { from, to }, servers.at(at), servers.at(own));
            }
        }
        (servers, network)
    }

    /// The port at which one server, or everybody else, reaches another server on a wire.
    fn wire(&self, from: Option<usize>, to: usize) -> u16 {
        self.servers[to].0 + 3 + from.map_or(0, |from| 1 + from as u16)
    }

    fn at(&self, port: u16) -> SocketAddr {
        let host = &self.host;
        format!("{host}:{port}").parse().expect("an address")
    }

    pub(crate) fn fleet(&self) -> PathBuf {
        self.folder.path().join("fleet")
    }

    /// Starts all, after all boxes are admitted.
    pub(crate) fn start(&mut self) {
        // Beside the boxes somebody who may do everything: the operator, and whoever has broken in.
        let accounts = std::fs::read_to_string(self.fleet().join("accounts.conf"));
        let accounts = accounts.expect("accounts").replace(
            "users [\n",
            "users [\n      { user: operator, password: operator }\n",
        );
        std::fs::write(self.folder.path().join("accounts.conf"), accounts).expect("accounts");
        for n in 0..self.servers.len() {
            let hosts = [self.host.clone()];
            admission::admit_server(&self.fleet(), &n.to_string(), &hosts).expect("a certificate");
            self.start_one(n);
        }
        for n in 0..self.servers.len() {
            self.wait_for(n);
        }
    }

    pub(crate) fn start_one(&mut self, n: usize) {
        let folder = self.folder.path();
        let host = &self.host;
        let port = self.servers[n].0;
        let own = self.fleet().join(format!("server-{n}"));
        let all = 0..self.servers.len();
        let routes = all.filter_map(|to| match &self.network {
            Some(_) => (to != n).then(|| self.wire(Some(n), to)),
            None => Some(self.servers[to].0 + 1),
        });
        let routes: Vec<_> = routes.map(|port| format!("nats://{host}:{port}")).collect();
        // Servers tell each other of each other: on wires they say an address at which nobody listens.
        let advertise = match &self.network {
            Some(_) => format!("advertise: \"{host}:{}\", ", port + 9),
            None => String::new(),
        };
        let cluster = if self.servers.len() > 1 {
            format!(
                "cluster {{ name: fleet, listen: \"{host}:{}\", {advertise}routes: {routes:?} }}\n",
                port + 1
            )
        } else {
            String::new()
        };
        let include = if self.with_accounts {
            "include accounts.conf\n"
        } else {
            ""
        };
        let text = format!(
            "server_name: n{n}\nlisten: \"{host}:{port}\"\nhttp: \"{host}:{}\"\n\
             jetstream {{ store_dir: {:?}, {} }}\n\
             tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n{cluster}{include}",
            port + 2,
            folder.join(format!("store-{n}")),
            self.jetstream,
            own.join("server.crt"),
            own.join("server.key"),
            self.fleet().join("ca.crt"),
        );
        let path = folder.join(format!("n{n}.conf"));
        std::fs::write(&path, text).expect("a configuration");
        let program =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/nats-server");
        let server = Command::new(program)
            .arg("-c")
            .arg(path)
            .arg("-l")
            .arg(folder.join(format!("n{n}.log")))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.servers[n].1 = Some(server.expect("nats-server, which .ci/tools nats brings"));
    }

    /// Waits until a server says that it is well, with all that it keeps.
    pub(crate) fn wait_for(&self, n: usize) {
        let address = format!("{}:{}", self.host, self.servers[n].0 + 2);
        wait(&format!("server {n}"), || {
            let Ok(mut stream) = TcpStream::connect(&address) else {
                return false;
            };
            let mut answer = String::new();
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").is_ok()
                && stream.read_to_string(&mut answer).is_ok()
                && answer.starts_with("HTTP/1.0 200")
        });
    }

    pub(crate) fn kill(&mut self, n: usize) {
        if let Some(mut server) = self.servers[n].1.take() {
            server.kill().expect("it is killed");
            server.wait().expect("it ends");
        }
    }

    /// Stops a server where it is, or has it go on.
    pub(crate) fn signal(&self, n: usize, signal: Signal) {
        let server = self.servers[n].1.as_ref().expect("it runs");
        kill(Pid::from_raw(server.id().cast_signed()), signal).expect("it is told");
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        let ports = (0..self.servers.len()).map(|n| match &self.network {
            Some(_) => self.wire(None, n),
            None => self.servers[n].0,
        });
        ports
            .map(|port| format!("tls://{}:{port}", self.host))
            .collect()
    }

    pub(crate) fn access(&self, who: BoxId) -> Access {
        let own = self.fleet().join(format!("box-{:032x}", who.0));
        Access {
            urls: self.urls(),
            replicas: self.servers.len(),
            nkey_seed_file: own.join("box.nk"),
            ca: own.join("ca.crt"),
            certificate: own.join("box.crt"),
            key: own.join("box.key"),
        }
    }

    /// Where one of forty boxes listens: above the servers.
    pub(crate) fn address(&self, nth: u16) -> SocketAddr {
        self.at(self.servers[0].0 + 50 + nth)
    }

    /// The configuration of a box, admitted. It listens at a port of its own.
    pub(crate) fn admit(&self, who: BoxId, lend: u32) -> Config {
        let own = admission::admit(&self.fleet(), who, NO_KEY).expect("it is admitted");
        let listen = self.address((who.0 % 40) as u16);
        let state = self.folder.path().join(format!("state-{:x}", who.0));
        std::fs::create_dir(&state).expect("a folder");
        Config {
            me: who,
            control_socket: state.join("control.sock"),
            state,
            ca: own.join("ca.crt"),
            certificate: own.join("box.crt"),
            key: own.join("box.key"),
            nats: self.access(who),
            listen,
            advertise: listen,
            calderad: (PathBuf::new(), PathBuf::new()),
            lend: (lend > 0).then(|| Lend {
                tenant: "guests".into(),
                secret_file: PathBuf::new(),
                jobs: lend,
                cores: 1,
                speed: 1_000,
                price: 0,
                only_loans: false,
            }),
        }
    }

    /// Connected as somebody who may do everything, with a box's certificate.
    pub(crate) async fn operator(&self, who: BoxId) -> async_nats::Client {
        let access = self.access(who);
        async_nats::ConnectOptions::with_user_and_password("operator".into(), "operator".into())
            .require_tls(true)
            .ignore_discovered_servers()
            .add_root_certificates(access.ca)
            .add_client_certificate(access.certificate, access.key)
            .connect(access.urls)
            .await
            .expect("the operator is let in")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.servers.len()).for_each(|n| self.kill(n));
        if let Some(network) = &self.network {
            network.end();
        }
    }
}

/// Waits until something is so.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
