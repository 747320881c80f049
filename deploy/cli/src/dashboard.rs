//! `caldera dashboard`: a box's dashboard in a browser on this machine.
//!
//! A browser can speak to no socket of the file system, and it should not hold the operator's secret, by which tenants are
//! added and removed. So this command stands between: it listens on loopback alone, signs each request as `--tenant
//! operator`, and passes on what the box answers. It asks the box for nothing but files of the page, snapshots and profiles
//! of jobs, whatever the browser says.
//!
//! Who else can speak to loopback (other users of this machine, pages that a browser has open) must not read along. The
//! URL that is printed holds a word of 128 random bits as the first part of its path, new at each start; nothing is
//! answered below another. The page never tells it (it names its files relative to itself, and its policy sends no referrer).

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use caldera_rpc::chain::chain;
use caldera_rpc::http::{Connection as Http, Disposition, Event, Head, Limits, Method, Response};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Report;
use crate::service::Connection;
use caldera_client::Client;

/// Show a calderad in a browser: who owns what, reallocations, queues, jobs
///
/// Listens on 127.0.0.1, prints a URL to open, and goes on until it is interrupted. The URL is a secret: whoever on this
/// machine has it sees what the operator sees, and can change nothing. Give --tenant operator. The box serves the dashboard at
/// its operator_socket, or with `dashboard = true` at its port.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value = "0")]
    port: u16,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<Report> {
    let client = arguments.connection.client()?;
    // What fails at once says so here, not in the browser.
    client.get(PAGE)?;
    let address = (Ipv4Addr::LOCALHOST, arguments.port);
    let cannot = || format!("cannot listen on 127.0.0.1:{}", arguments.port);
    let listener = TcpListener::bind(address).with_context(cannot)?;
    let word = word()?;
    let url = format!("http://{}/{word}/", listener.local_addr()?);
    let mut out = io::stdout();
    match json {
        true => writeln!(out, "{}", json!({ "url": url }))?,
        false => writeln!(out, "{url}")?,
    }
    out.flush()?;
    let bridge = Arc::new(Bridge {
        client,
        word: Sha256::digest(&word).into(),
        open: Arc::default(),
    });
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => bridge.admit(stream),
            // Out of descriptors, or a browser that has gone before it was met.
            Err(error) => {
                eprintln!("caldera: accepting a connection: {error}");
                std::thread::sleep(AGAIN);
            }
        }
    }
    Ok(Report::new("", serde_json::Value::Null))
}

/// What all connections share.
struct Bridge {
    client: Client,
    /// The digest of the word in the URL: comparing digests tells nothing of the word by the time it takes.
    word: [u8; 32],
    /// Each connection holds one.
    open: Arc<()>,
}

impl Bridge {
    fn admit(self: &Arc<Self>, stream: TcpStream) {
        // A connection beyond the bound is closed as it comes.
        if Arc::strong_count(&self.open) > CONNECTIONS_MAX {
            return;
        }
        let (bridge, held) = (Arc::clone(self), Arc::clone(&self.open));
        std::thread::spawn(move || {
            // A browser that goes away in the middle is no news.
            let _ = Served::new(&bridge, stream).and_then(Served::run);
            drop(held);
        });
    }

    /// The path at the box for a path here; nothing for who does not know the word.
    fn path(&self, head: &Head) -> Option<String> {
        let (word, rest) = head.path.strip_prefix('/')?.split_once('/')?;
        if <[u8; 32]>::from(Sha256::digest(word)) != self.word {
            return None;
        }
        let query = head.query.as_ref().map(|query| format!("?{query}"));
        Some(format!("{PAGE}{rest}{}", query.unwrap_or_default()))
    }
}

/// One connection of a browser's.
struct Served<'a> {
    bridge: &'a Bridge,
    stream: TcpStream,
    http: Http,
    begin: Instant,
    /// How long the browser may take for a piece of an answer.
    patience: Duration,
}

impl<'a> Served<'a> {
    fn new(bridge: &'a Bridge, stream: TcpStream) -> io::Result<Served<'a>> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK_EVERY))?;
        // A kernel that takes megabytes for who reads nothing would hide it for a quarter of an hour of snapshots.
        setsockopt(&stream, SndBuf, &SEND_BYTES)?;
        Ok(Served {
            bridge,
            stream,
            http: Http::new(Limits::default(), Duration::ZERO),
            begin: Instant::now(),
            patience: WRITE_MAX,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            self.act()?;
            self.flush()?;
            match self.http.disposition() {
                Disposition::Open => {}
                Disposition::Linger => self.stream.shutdown(Shutdown::Write)?,
                Disposition::Close => return Ok(()),
            }
            let room = self.http.room().min(BUFFER_BYTES);
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => self.http.end_of_stream(),
                Ok(count) => {
                    self.http.receive(&buffer[..count], self.begin.elapsed());
                }
                Err(error) if is_late(&error) => {}
                Err(error) => return Err(error),
            }
            // Refusals of what is late are answered by the machine itself.
            let _ = self.http.expire(self.begin.elapsed());
        }
    }

    /// Answers all requests that have come.
    fn act(&mut self) -> io::Result<()> {
        let mut asked = None;
        // An error is answered by the machine itself.
        while let Ok(Some(event)) = self.http.poll(self.begin.elapsed()) {
            match event {
                Event::Head(head) => asked = Some(head),
                Event::Body(_) => {}
                Event::End => {
                    if let Some(head) = asked.take() {
                        self.answer(&head)?;
                        self.flush()?;
                    }
                }
            }
        }
        // A body that was announced is not read: the connection closes after the answer.
        if asked.is_some() {
            self.respond(&Response::text(
                405,
                "this page is read and not written to\n",
            ));
        }
        Ok(())
    }

    fn answer(&mut self, head: &Head) -> io::Result<()> {
        let Some(path) = self.bridge.path(head) else {
            self.respond(&Response::text(404, "nothing here\n"));
            return Ok(());
        };
        if !matches!(head.method, Method::Get | Method::Head) {
            self.respond(&Response::text(
                405,
                "this page is read and not written to\n",
            ));
            return Ok(());
        }
        let mut answer = match self.bridge.client.ask(&path) {
            Ok(answer) => answer,
            Err(error) => {
                let text = format!("{}\n", chain(&error));
                self.respond(&Response::text(502, &text));
                return Ok(());
            }
        };
        let status = answer.status().as_u16();
        let field = |name: &str| {
            let value = answer.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let content_type = field("content-type");
        if content_type.as_deref() == Some(EVENTS) {
            // What goes on for ever has no end to tell the head of; the box says the same.
            if head.method == Method::Head {
                self.respond(&Response::text(405, "a stream is read with GET\n"));
                return Ok(());
            }
            return self.pass_on(answer.into_body().into_reader());
        }
        let passed = PASSED.iter();
        let fields: Vec<(&str, String)> = passed
            .filter_map(|name| Some((*name, field(name)?)))
            .collect();
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut body = Vec::new();
        let read = answer.body_mut().as_reader().take(ANSWER_BYTES_MAX);
        if let Err(error) = { read }.read_to_end(&mut body) {
            let text = format!("the box broke off: {error}\n");
            self.respond(&Response::text(502, &text));
            return Ok(());
        }
        self.respond(&Response {
            content_type: content_type.as_deref(),
            fields: &fields,
            body: &body,
            ..Response::new(status)
        });
        Ok(())
    }

    /// Passes events on as they come, until either end goes.
    fn pass_on(&mut self, mut events: impl Read) -> io::Result<()> {
        self.http.begin_stream(EVENTS, self.begin.elapsed());
        self.flush()?;
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            // A box that is gone ends the stream, and the page asks anew.
            let count = match events.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            self.http.stream(&buffer[..count], self.begin.elapsed());
            self.flush()?;
        }
        self.http.end_stream();
        Ok(())
    }

    fn respond(&mut self, response: &Response<'_>) {
        // A connection that was refused meanwhile has had its answer.
        let _ = self.http.respond(response, self.begin.elapsed());
    }

    fn flush(&mut self) -> io::Result<()> {
        let count = self.http.output().len();
        write_within(&mut self.stream, self.http.output(), self.patience)?;
        self.http.sent(count, self.begin.elapsed());
        Ok(())
    }
}

/// Where bytes go, if the wait for it can be bounded.
trait Sink: Write {
    /// The longest that one `write` waits from now on.
    fn wait_at_most(&mut self, span: Duration) -> io::Result<()>;
}

impl Sink for TcpStream {
    fn wait_at_most(&mut self, span: Duration) -> io::Result<()> {
        self.set_write_timeout(Some(span))
    }
}

/// Writes all, or fails after `span`: whoever takes a byte now and then is no reader either.
fn write_within(sink: &mut impl Sink, mut bytes: &[u8], span: Duration) -> io::Result<()> {
    let begin = Instant::now();
    while !bytes.is_empty() {
        let left = span.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        sink.wait_at_most(left)?;
        match sink.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if is_late(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// 128 bits that nobody guesses.
fn word() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("no randomness from the operating system")?;
    Ok(hex::encode(bytes))
}

/// Where the box serves it.
const PAGE: &str = "/dashboard/";
const EVENTS: &str = "text/event-stream";
/// Fields of the box's answers that the browser is to have.
const PASSED: [&str; 5] = [
    "Content-Security-Policy",
    "Referrer-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Retry-After",
];
/// Those of a browser with some pages open.
const CONNECTIONS_MAX: usize = 32;
const BUFFER_BYTES: usize = 16 * 1024;
/// A page of a profile is some hundred kilobytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// How often a connection that says nothing is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What the kernel takes for a browser that does not read.
const SEND_BYTES: usize = 64 * 1024;
/// A browser that has not taken a piece of an answer after so long is given up; so does the box with who is slow.
const WRITE_MAX: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a byte at each call and counts them.
    struct Dripping(usize);

    impl Write for Dripping {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(1);
            self.0 += count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Dripping {
        fn wait_at_most(&mut self, span: Duration) -> io::Result<()> {
            assert!(!span.is_zero());
            Ok(())
        }
    }

    #[test]
    fn the_time_for_a_piece_is_for_all_of_it() {
        let mut patient = Dripping(0);
        write_within(&mut patient, &[0; 1000], Duration::MAX).expect("no bound");
        assert_eq!(patient.0, 1000);
        // However many bytes go in that time, these are more.
        let mut endless = Dripping(0);
        let bytes = vec![0; 64 << 20];
        let late = write_within(&mut endless, &bytes, Duration::from_millis(1));
        assert_eq!(late.expect_err("late").kind(), ErrorKind::TimedOut);
    }

    /// Events without end, and how many bytes of them were asked for.
    struct Endless(usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'\n');
            self.0 += buffer.len();
            Ok(buffer.len())
        }
    }

    #[test]
    fn who_reads_nothing_of_a_stream_is_given_up_after_little_of_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let mut browser =
            TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (stream, _) = listener.accept().expect("accepted");
        let identity = caldera_client::Identity::default();
        let secret = caldera_rpc::auth::Secret::parse(&"0".repeat(64)).expect("a secret");
        let bridge = Bridge {
            client: Client::new("http://127.0.0.1:1", &identity, "operator", secret)
                .expect("nobody is asked"),
            word: [0; 32],
            open: Arc::default(),
        };
        let mut served = Served::new(&bridge, stream).expect("a socket");
        served.patience = Duration::from_millis(1);
        browser
            .write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            .expect("written");
        let mut buffer = [0; BUFFER_BYTES];
        let count = served.stream.read(&mut buffer).expect("a request");
        served.http.receive(&buffer[..count], Duration::ZERO);
        while let Ok(Some(_)) = served.http.poll(Duration::ZERO) {}
        let mut events = Endless(0);
        let given_up = served.pass_on(&mut events);
        assert_eq!(given_up.expect_err("given up").kind(), ErrorKind::TimedOut);
        assert!(events.0 < 1 << 20, "{}", events.0);
    }
}
