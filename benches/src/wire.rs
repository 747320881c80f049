//! Calls on many connections at once from one thread: as many as the server takes, or so many a second.
//!
//! A client that sends its next call when it has the answer of its last one stops asking while a server
//! stands still, and does not see what others would have waited: coordinated omission (Gil Tene). So
//! latencies are taken at an open loop: each call has a moment at which it is due, whatever became of those
//! before it, and its latency counts from there, the time in which no connection was free included.
//!
//! Sockets are non-blocking and are watched by mio, as those of the server are; a timer of the kernel tells
//! when a call is due, for a poll only counts in milliseconds. Every answer must be, byte for byte but for its
//! head, the first one that the same call had.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use caldera_node::clock::unix_time;
use caldera_rpc::auth::{Secret, sign};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::clock::{self, Times};

/// Connections to one server.
pub(crate) struct Wire {
    poll: Poll,
    events: Events,
    lines: Vec<Line>,
    host: String,
    name: String,
    secret: Secret,
    /// When the tokens of the requests were made.
    signed: Option<Instant>,
    buffer: Box<[u8]>,
}

/// One of them, and the one call that is made on it.
struct Line {
    stream: TcpStream,
    call: String,
    request: Vec<u8>,
    /// Bytes of the request that have left, and all once it has.
    sent: usize,
    answer: Vec<u8>,
    /// The body of the first answer.
    first: Option<Vec<u8>>,
    /// When the call that is under way was due.
    due: Option<Instant>,
}

/// What some calls took of whoever made them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    /// Of the thread that made them.
    pub(crate) times: Times,
}

impl Made {
    /// How busy that thread was, from 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        self.times.cpu.as_secs_f64() / self.times.wall.as_secs_f64().max(1e-9)
    }
}

impl Wire {
    /// Connects once for each of the calls, which are JSON.
    pub(crate) fn connect(
        address: &str,
        name: &str,
        secret: Secret,
        calls: Vec<String>,
    ) -> Result<Wire> {
        let poll = Poll::new().context("a poll")?;
        let to: SocketAddr = address.parse().context("a server's address")?;
        let mut lines = Vec::with_capacity(calls.len());
        for (at, call) in calls.into_iter().enumerate() {
            let stream = std::net::TcpStream::connect(to).context("connecting")?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(at), both)?;
            lines.push(Line {
                stream,
                call,
                request: Vec::new(),
                sent: 0,
                answer: Vec::new(),
                first: None,
                due: None,
            });
        }
        ensure!(!lines.is_empty(), "connections: expected 1 or more, got 0");
        Ok(Wire {
            poll,
            events: Events::with_capacity(1024),
            lines,
            host: address.to_owned(),
            name: name.to_owned(),
            secret,
            signed: None,
            buffer: vec![0; 64 << 10].into_boxed_slice(),
        })
    }

    /// Makes so many calls, one at a time on each connection and never none.
    pub(crate) fn closed(&mut self, calls: u64) -> Result<Made> {
        let before = clock::thread()?;
        let (mut begun, mut done) = (0, 0);
        for at in 0..self.lines.len() {
            if begun < calls {
                self.begin(at, None)?;
                begun += 1;
            }
        }
        let mut ended = Vec::new();
        while done < calls {
            self.turn(None, &mut ended)?;
            for at in ended.drain(..) {
                done += 1;
                if begun < calls {
                    self.begin(at, None)?;
                    begun += 1;
                }
            }
        }
        Ok(Made {
            times: clock::thread()? - before,
        })
    }

    /// Makes so many calls, `rate` a second, and records what each took from when it was due, in nanoseconds.
    pub(crate) fn open(
        &mut self,
        calls: u64,
        rate: f64,
        latency: &mut Histogram<u64>,
    ) -> Result<Made> {
        ensure!(
            rate >= 1.0,
            "calls a second: expected 1 or more, got {rate}"
        );
        let gap = Duration::from_secs_f64(1.0 / rate);
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let fd = timer.as_fd().as_raw_fd();
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
        let before = clock::thread()?;
        let start = Instant::now() + gap;
        timer.set(Expiration::Interval(gap.into()), TimerSetTimeFlags::empty())?;
        let due = |call: u64| start + gap.mul_f64(call as f64);
        let mut free: Vec<usize> = (0..self.lines.len()).collect();
        let (mut begun, mut done) = (0, 0);
        let mut ended = Vec::new();
        let mut answered = Instant::now();
        while done < calls {
            while begun < calls && due(begun) <= Instant::now() {
                let Some(at) = free.pop() else { break };
                self.begin(at, Some(due(begun)))?;
                begun += 1;
            }
            self.turn(Some(&timer), &mut ended)?;
            let now = Instant::now();
            if !ended.is_empty() {
                answered = now;
            }
            // The timer goes on whatever becomes of the server.
            ensure!(now - answered < PATIENCE, "{NO_ANSWER}");
            for at in ended.drain(..) {
                if let Some(due) = self.lines[at].due.take() {
                    latency.saturating_record((now - due).as_nanos() as u64);
                }
                free.push(at);
                done += 1;
            }
        }
        let made = Made {
            times: clock::thread()? - before,
        };
        self.poll.registry().deregister(&mut SourceFd(&fd))?;
        Ok(made)
    }

    fn begin(&mut self, at: usize, due: Option<Instant>) -> Result<()> {
        if self.signed.is_none_or(|it| it.elapsed() > TOKEN_AGE_MAX) {
            self.sign();
        }
        let line = &mut self.lines[at];
        (line.sent, line.due) = (0, due);
        line.write()
    }

    /// A token is good for a minute.
    fn sign(&mut self) {
        let token = sign(&self.name, &self.secret, unix_time().as_secs());
        for line in &mut self.lines {
            // One that is half sent stays as it is.
            if line.sent == line.request.len() {
                line.request = format!(
                    "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                    self.host,
                    line.call.len(),
                    line.call
                )
                .into_bytes();
                line.sent = line.request.len();
            }
        }
        self.signed = Some(Instant::now());
    }

    /// Waits for something to happen, and tells which calls have been answered.
    fn turn(&mut self, timer: Option<&TimerFd>, ended: &mut Vec<usize>) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(PATIENCE)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled.context("waiting for answers")?,
        }
        ensure!(!self.events.is_empty(), "{NO_ANSWER}");
        for event in &self.events {
            if event.token() == TIMER {
                // How often it has struck is known from the clock.
                let _ = timer.map(TimerFd::wait);
                continue;
            }
            let line = &mut self.lines[event.token().0];
            if event.is_writable() {
                line.write()?;
            }
            if event.is_readable() && line.read(&mut self.buffer)? {
                ended.push(event.token().0);
            }
        }
        Ok(())
    }
}

impl Line {
    fn write(&mut self) -> Result<()> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending a call"),
            }
        }
        Ok(())
    }

    /// Reads what there is; whether the answer is complete.
    fn read(&mut self, buffer: &mut [u8]) -> Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server has closed a connection"),
                Ok(count) => {
                    self.answer.extend_from_slice(&buffer[..count]);
                    // What did not fill the buffer was all that there was, and more is told.
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("reading an answer"),
            }
        }
        let Some(body) = body(&self.answer)? else {
            return Ok(false);
        };
        match &self.first {
            Some(first) => ensure!(body == first, "{} has another answer now", self.call),
            None => {
                ensure!(
                    body.windows(RESULT.len()).any(|part| part == RESULT),
                    "{}: {}",
                    self.call,
                    String::from_utf8_lossy(body)
                );
                self.first = Some(body.to_vec());
            }
        }
        self.answer.clear();
        Ok(true)
    }
}

/// The body of an answer, once it is complete. The status must be 200 and the length said.
fn body(answer: &[u8]) -> Result<Option<&[u8]>> {
    let Some(end) = answer.windows(4).position(|part| part == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = answer.split_at(end + 4);
    let head = std::str::from_utf8(head).context("the head of an answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.with_context(|| format!("no length in {head}"))?;
    ensure!(rest.len() <= length, "more than was asked for: {head}");
    Ok((rest.len() == length).then_some(rest))
}

const TIMER: Token = Token(usize::MAX - 1);
const RESULT: &[u8] = b"\"result\":";
/// Tokens are taken for a minute.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(20);
/// A server that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const NO_ANSWER: &str = "no answer within 30 s";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_at_its_length() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-Length: 3\r\nx: y\r\n\r\nabc";
        for end in 0..answer.len() {
            assert_eq!(body(&answer[..end]).expect("as far as it goes"), None);
        }
        assert_eq!(body(answer).expect("an answer"), Some(&b"abc"[..]));
        for wrong in [
            &b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        ] {
            assert!(body(wrong).is_err());
        }
    }
}
