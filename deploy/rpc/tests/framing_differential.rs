//! Where a request ends, read by three servers: ours, hyper and nginx.
//!
//! Request smuggling needs two servers that cut one stream of bytes in two ways. So each line of
//! `framing/corpus.txt`, with a well formed request behind it, is given to the machine of this crate, to a hyper
//! server on a loopback socket, and to an nginx process that passes what it took on to that hyper server (so
//! what nginx took is seen as a backend sees it). What is compared is a *reading*: the method, the target and the
//! body of each request that was taken whole, in order. The rule is that our reading is the beginning of
//! each of theirs: we take nothing that either refuses and nothing otherwise than either reads it.
//!
//! Where we mean to break the rule, `framing/reasons.txt` says why, by name and peer; a difference without a
//! reason fails the test, and so does a reason without a difference. The idea of comparing HTTP servers by their
//! readings is that of T-Reqs (Jabiyev, Sprecher, Onarlioglu and Kirda, CCS 2021).
//!
//! nginx is Debian's: `.ci/tools nginx` installs it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use caldera_rpc::http::{Connection, Event, Limits, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;

const CORPUS: &str = include_str!("framing/corpus.txt");
const REASONS: &str = include_str!("framing/reasons.txt");

/// Stands behind each request: who has lost the place does not find it.
const NEXT: &[u8] = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Each request that was taken whole.
type Reading = Vec<Taken>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    method: String,
    target: String,
    body: Vec<u8>,
}

#[test]
fn nothing_is_taken_that_hyper_or_nginx_refuses_or_reads_otherwise() {
    let corpus = corpus();
    assert!(corpus.len() >= 200, "{}", corpus.len());
    let mut reasons = reasons();
    let backend = Backend::start();
    let nginx = Nginx::start(backend.address);
    let mut unexplained = Vec::new();
    let mut taken = 0;
    for (name, request) in &corpus {
        let stream = [request.as_slice(), NEXT].concat();
        let ours = our_reading(&stream);
        taken += usize::from(ours.len() > 1);
        let peers = [
            ("hyper", backend.reading(connect(backend.address), &stream)),
            ("nginx", backend.reading(nginx.connect(), &stream)),
        ];
        for (peer, theirs) in peers {
            let explained = reasons.remove(&(name.clone(), peer.to_owned())).is_some();
            if theirs.starts_with(&ours) == explained {
                unexplained.push(format!(
                    "{name} / {peer} (reason on file: {explained})\n    ours   {}\n    theirs {}",
                    show(&ours),
                    show(&theirs)
                ));
            }
        }
    }
    assert!(
        unexplained.is_empty(),
        "{} of {}:\n{}",
        unexplained.len(),
        corpus.len(),
        unexplained.join("\n")
    );
    assert!(reasons.is_empty(), "no such request: {:?}", reasons.keys());
    // A machine that refused everything would pass otherwise.
    assert!(taken >= 60, "only {taken} were taken");
}

fn show(reading: &Reading) -> String {
    let one = |it: &Taken| {
        let target: String = it.target.chars().take(40).collect();
        format!(
            "{} {target} {:?}",
            it.method,
            String::from_utf8_lossy(&it.body)
        )
    };
    let all: Vec<String> = reading.iter().map(one).collect();
    format!("[{}]", all.join(", "))
}

/// What this crate's machine takes.
fn our_reading(mut bytes: &[u8]) -> Reading {
    let now = Duration::ZERO;
    let mut connection = Connection::new(Limits::default(), now);
    let mut reading = Reading::new();
    let mut begun = None;
    loop {
        let count = connection.receive(bytes, now);
        bytes = &bytes[count..];
        if bytes.is_empty() {
            connection.end_of_stream();
        }
        loop {
            match connection.poll(now) {
                Ok(Some(Event::Head(head))) => {
                    let target = match &head.query {
                        Some(query) => format!("{}?{query}", head.path),
                        None => head.path,
                    };
                    begun = Some(Taken {
                        method: format!("{:?}", head.method).to_uppercase(),
                        target,
                        body: Vec::new(),
                    });
                    if connection.accept_body(1 << 20, now).is_err() {
                        return reading;
                    }
                }
                Ok(Some(Event::Body(piece))) => {
                    if let Some(begun) = &mut begun {
                        begun.body.extend_from_slice(&piece);
                    }
                }
                Ok(Some(Event::End)) => {
                    reading.extend(begun.take());
                    connection.respond(&Response::text(200, "ok"), now);
                    connection.sent(connection.output().len(), now);
                }
                Ok(None) => {
                    // An interim answer leaves like any other.
                    let waits = connection.output().len();
                    if waits == 0 {
                        break;
                    }
                    connection.sent(waits, now);
                }
                Err(_) => return reading,
            }
        }
        if bytes.is_empty() || count == 0 {
            return reading;
        }
    }
}

/// A hyper server that writes down what it takes.
struct Backend {
    address: SocketAddr,
    taken: Arc<Mutex<Reading>>,
}

impl Backend {
    /// Starts it; it runs as long as the test does.
    fn start() -> Backend {
        let taken = Arc::new(Mutex::new(Reading::new()));
        let (told, address) = channel();
        let log = Arc::clone(&taken);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build();
            let runtime = runtime.expect("a runtime");
            let tasks = tokio::task::LocalSet::new();
            tasks.block_on(&runtime, serve(log, told));
        });
        let address = address.recv().expect("the server listens");
        Backend { address, taken }
    }

    /// Sends a stream, reads all that is answered, and gives what the server has taken meanwhile.
    fn reading(&self, mut peer: Peer, stream: &[u8]) -> Reading {
        self.taken.lock().expect("no panic").clear();
        peer.exchange(stream);
        std::mem::take(&mut *self.taken.lock().expect("no panic"))
    }
}

async fn serve(log: Arc<Mutex<Reading>>, told: std::sync::mpsc::Sender<SocketAddr>) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("an address");
    told.send(address).expect("the test waits");
    while let Ok((stream, _)) = listener.accept().await {
        let log = Arc::clone(&log);
        let service = hyper::service::service_fn(move |request| take(request, Arc::clone(&log)));
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        tokio::task::spawn_local(async move {
            // What it refuses ends the connection with an error, which is an outcome like any other.
            let _ = connection.await;
        });
    }
}

async fn take(
    request: hyper::Request<Incoming>,
    log: Arc<Mutex<Reading>>,
) -> Result<hyper::Response<String>, Infallible> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
        match frame.map(|frame| frame.into_data()) {
            Ok(Ok(bytes)) => body.extend_from_slice(&bytes),
            // Trailer fields.
            Ok(Err(_)) => {}
            Err(_) => {
                let mut refused = hyper::Response::new(String::new());
                *refused.status_mut() = hyper::StatusCode::BAD_REQUEST;
                return Ok(refused);
            }
        }
    }
    log.lock().expect("no panic").push(Taken {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        body,
    });
    Ok(hyper::Response::new("ok".to_owned()))
}

/// An nginx that passes on what it takes.
struct Nginx {
    child: Child,
    folder: tempfile::TempDir,
}

impl Nginx {
    fn start(backend: SocketAddr) -> Nginx {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().display();
        // What is not said here is as Debian's nginx has it by itself.
        let configuration = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr notice;\n\
             events {{ worker_connections 64; }}\n\
             http {{\n\
               access_log off; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;\n\
               fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;\n\
               server {{\n\
                 listen unix:{root}/socket;\n\
                 location / {{\n\
                   proxy_pass http://{backend}; proxy_http_version 1.1; proxy_set_header Host a;\n\
                   proxy_ignore_client_abort on;\n\
                 }}\n\
               }}\n\
             }}\n"
        );
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, configuration).expect("the configuration can be written");
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx", "nginx"]
            .into_iter()
            .find(|program| !program.starts_with('/') || std::path::Path::new(program).exists());
        let mut child = Command::new(program.unwrap_or("nginx"))
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nginx can be started: .ci/tools nginx installs it");
        let log = child.stderr.take().expect("standard error is a pipe");
        let mut lines = BufReader::new(log).lines();
        let mut said = String::new();
        // It says so when its sockets are open.
        loop {
            match lines.next() {
                Some(Ok(line)) if line.contains("event method") => break,
                Some(Ok(line)) => said.push_str(&line),
                _ => panic!("nginx did not start; it said {said}"),
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        Nginx { child, folder }
    }

    fn connect(&self) -> Peer {
        let stream = UnixStream::connect(self.folder.path().join("socket")).expect("nginx listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        Peer::Unix(stream)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a server may be silent before the test gives it up; none of these waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

fn connect(address: SocketAddr) -> Peer {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    Peer::Tcp(stream)
}

enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Peer {
    /// Writes all, says that nothing follows, and reads to the end. A server that has refused may close before
    /// it has been sent everything.
    fn exchange(&mut self, stream: &[u8]) {
        let mut answer = Vec::new();
        let outcome = match self {
            Peer::Tcp(peer) => {
                let _ = peer.write_all(stream);
                let _ = peer.shutdown(Shutdown::Write);
                peer.read_to_end(&mut answer)
            }
            Peer::Unix(peer) => {
                let _ = peer.write_all(stream);
                let _ = peer.shutdown(Shutdown::Write);
                peer.read_to_end(&mut answer)
            }
        };
        if let Err(error) = outcome {
            let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!late, "no answer to {:?}", String::from_utf8_lossy(stream));
        }
    }
}

fn corpus() -> Vec<(String, Vec<u8>)> {
    let lines = CORPUS.lines().filter(|line| !line.starts_with("# "));
    let entry = |line: &str| {
        let (name, bytes) = line.split_once('\t').expect("a name, a tab and bytes");
        (name.to_owned(), unescape(bytes))
    };
    let corpus: Vec<_> = lines.map(entry).collect();
    let names: std::collections::BTreeSet<_> = corpus.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), corpus.len(), "each name stands once");
    corpus
}

/// Why, by the name of the request and the peer.
fn reasons() -> BTreeMap<(String, String), String> {
    let lines = REASONS.lines().filter(|line| !line.starts_with("# "));
    let entry = |line: &str| {
        let parts: Vec<&str> = line.split('\t').collect();
        let [name, peer, why] = parts[..] else {
            panic!("expected a name, a peer and a reason, got {line:?}");
        };
        assert!(
            why.split(' ').count() >= 5,
            "{name}: a reason is a sentence"
        );
        ((name.to_owned(), peer.to_owned()), why.to_owned())
    };
    lines.map(entry).collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).expect("digits");
                u8::from_str_radix(digits, 16).expect("two digits")
            }
            other => panic!("no such escape: {other:?}"),
        });
    }
    bytes
}
