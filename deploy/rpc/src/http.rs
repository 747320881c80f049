//! One HTTP/1.1 connection of a server, as a state machine without a socket.
//!
//! Bytes go in ([`Connection::receive`]), events come out ([`Connection::poll`]), answers go in
//! ([`Connection::respond`]), bytes come out ([`Connection::output`]). Time is an argument: a
//! [`Duration`] since whatever instant the caller chose at its start, never going back. The caller
//! asks for [`Connection::deadline`] after each call, and calls [`Connection::expire`] once it has
//! passed. The shape is that of quinn-proto and rustls.
//!
//! What one request looks like to the caller:
//!
//! ```text
//! poll -> Head          who is it, and may it do this? (authorise here, before any body)
//! accept_body(limit)    only if there is a body; sends 100 Continue where it was asked for
//! poll -> Body ...      as they come; nothing is collected here, so a body may be gigabytes
//! poll -> End
//! respond               now or much later; the next request is read after this answer has left
//! ```
//!
//! An answer may also be a stream ([`Connection::begin_stream`]) that goes on until its sender ends it or its
//! reader goes away; the connection ends with it.
//!
//! An answer may be given at any point after `Head`; if the body has not been read to its end, the
//! connection closes after the answer, because what follows on the wire is no request. Requests
//! that were pipelined wait in the input buffer, which is bounded, so they are answered in order
//! and a client that sends without reading is stopped by TCP.
//!
//! **Framing.** Where two implementations can disagree about where a request ends, a proxy in front
//! of this box can be made to let a request through that it never saw. So there is a guard in front
//! of the parser (`httparse`), and it refuses rather than repairs: see [`HttpError`] for the list.
//! Some of it is stricter than RFC 9112 demands, on purpose: an empty line before a request, the
//! absolute form of a target and `*`, dots as a segment of a path, a tab in a head, a repeated
//! `Content-Length` even with equal values, and HTTP/1.0 without a `Host` are refused. After a refusal the connection
//! closes. `tests/framing_differential.rs` compares what is taken with what hyper and nginx take.
//!
//! **Time.** A peer that opens a connection and sends one byte a minute costs a slot. There is a
//! limit for an idle connection, for a whole head, for the gap between two pieces of a body, for
//! the mean rate of a body (counting only the time in which it is waited for), for the mean rate at which the peer takes an answer, and for the
//! time that a closing connection is listened to.
//!
//! **Closing.** Closing a socket with unread input makes the kernel send a reset, which can destroy
//! the answer before the peer reads it. So a closing connection asks its caller to shut down the
//! sending side first and to read on for a moment ([`Disposition::Linger`]; RFC 9112, 9.6).

mod chunked;
mod head;
mod response;

use std::fmt;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

pub use self::head::{BodyKind, Head, Method};
pub use self::response::Response;

use self::chunked::{Chunked, Piece};
use self::head::{Framing, Parsed, Scan};

/// What one connection may cost. The defaults suit a host that sends keys and witnesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request line and its header section. Beyond: 431.
    pub head_bytes_max: usize,
    /// Header fields. Beyond: 431.
    pub headers_max: usize,
    /// Bytes of a target. Beyond: 414.
    pub target_bytes_max: usize,
    /// Bytes of a body in JSON: what the caller gives to [`Connection::accept_body`] for one.
    /// Beyond: 413. Bodies that are streamed have limits of their own.
    pub json_bytes_max: u64,
    /// How long a connection may wait between requests. Beyond: closed.
    pub idle_max: Duration,
    /// From the first byte of a head to its last. Beyond: 408.
    pub head_max: Duration,
    /// From one piece of a body to the next. Beyond: 408.
    pub body_gap_max: Duration,
    /// Bytes of a body, or of an answer, that must pass in each second, after `rate_grace`.
    /// Beyond: 408 for a body; closed for an answer.
    pub rate_min: u64,
    /// Time that `rate_min` leaves out of the sum.
    pub rate_grace: Duration,
    /// How long a closing connection is listened to.
    pub linger_max: Duration,
}

/// One connection.
pub struct Connection {
    limits: Limits,
    input: BytesMut,
    output: BytesMut,
    /// When the peer must have taken all of `output`.
    output_by: Duration,
    state: State,
    /// The request that is being read or answered.
    exchange: Exchange,
    peer_ended: bool,
}

/// What a connection has read.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A request begins.
    Head(Head),
    /// A piece of its body, never empty.
    Body(Bytes),
    /// It is complete.
    End,
}

/// What the owner of the socket is to do, once all of [`Connection::output`] is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Go on.
    Open,
    /// Shut down the sending side; go on reading, and hand in what comes (it is thrown away), the
    /// end of the stream, and the time.
    Linger,
    /// Close the socket. Nothing is to be called after this.
    Close,
}

/// Why a request was refused. The answer is already in the output and the connection is closing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HttpError {
    /// A line feed without a carriage return before it.
    #[error("a line in a head ends with a bare line feed")]
    BareLineFeed,
    /// A carriage return without a line feed after it.
    #[error("a carriage return stands alone in a head")]
    BareCarriageReturn,
    /// A control character, NUL for one.
    #[error("byte {0:#04x} stands in a head")]
    ControlByte(u8),
    /// A header field that goes on in the next line, or a line that begins with a space.
    #[error("a line in a head begins with white space")]
    Folded,
    /// Not `method SP target SP version`, or a header field that is none.
    #[error("the head does not parse: {0}")]
    Malformed(httparse::Error),
    /// The head is too long.
    #[error("a head has at most {max} bytes")]
    HeadTooLong {
        /// The limit.
        max: usize,
    },
    /// Too many header fields.
    #[error("a head has at most {max} fields")]
    TooManyFields {
        /// The limit.
        max: usize,
    },
    /// The target is too long.
    #[error("a target has at most {max} bytes, got {got}")]
    TargetTooLong {
        /// The limit.
        max: usize,
        /// Its length.
        got: usize,
    },
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("only HTTP/1.1 and HTTP/1.0 are spoken here")]
    Version,
    /// A method that nothing here answers to.
    #[error("method not known")]
    MethodUnknown,
    /// A target that is no path, or one that leaves room for reading it in two ways: with `.` or `..` as a
    /// segment, or with a percent sign that codes no byte, a NUL or a dot.
    #[error(
        "a target is a path that begins with a slash, without segments of dots, and well coded"
    )]
    Target,
    /// None, or more than one, where exactly one must be.
    #[error("expected exactly one Host, got {got}")]
    HostCount {
        /// How many.
        got: usize,
    },
    /// A host that is no host.
    #[error("Host is no name or address")]
    Host,
    /// A field that may stand once stands twice.
    #[error("{0} stands more than once")]
    Repeated(&'static str),
    /// A length that is not a decimal number below 2^63.
    #[error("Content-Length is not a number")]
    ContentLength,
    /// A coding that is not exactly one `chunked`.
    #[error("Transfer-Encoding is not exactly one chunked")]
    TransferEncoding,
    /// A coding in a version that has none.
    #[error("Transfer-Encoding in HTTP/1.0")]
    TransferEncodingInOldVersion,
    /// Two ways to say where the body ends.
    #[error("both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// A compressed body.
    #[error("Content-Encoding is not supported")]
    ContentEncoding,
    /// An expectation that is not `100-continue`.
    #[error("only 100-continue can be expected")]
    Expectation,
    /// A chunk whose size is not a hexadecimal number below 2^60.
    #[error("a chunk's size is not a number")]
    ChunkSize,
    /// The extension of a chunk is too long, or all of them are, or has a control character.
    #[error("a chunk's extension is too long or malformed")]
    ChunkExtension,
    /// A chunk that does not end where it said.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// The fields after the last chunk are too many, too long or malformed.
    #[error("trailer fields are too many, too long or malformed")]
    Trailer,
    /// The body is longer than the caller accepts.
    #[error("a body here has at most {max} bytes")]
    BodyTooLong {
        /// The limit.
        max: u64,
    },
    /// The peer stopped sending within a request.
    #[error("the stream ended within a request")]
    CutShort,
    /// The peer was too slow.
    #[error("{0} took too long")]
    TimedOut(&'static str),
}

impl HttpError {
    /// The status that it is answered with.
    pub const fn status(&self) -> u16 {
        match self {
            HttpError::HeadTooLong { .. } | HttpError::TooManyFields { .. } => 431,
            HttpError::TargetTooLong { .. } => 414,
            HttpError::Version => 505,
            HttpError::MethodUnknown => 501,
            HttpError::ContentEncoding => 415,
            HttpError::Expectation => 417,
            HttpError::BodyTooLong { .. } => 413,
            HttpError::TimedOut(_) => 408,
            _ => 400,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_bytes_max: 16 * 1024,
            headers_max: 64,
            target_bytes_max: 2048,
            json_bytes_max: 1024 * 1024,
            idle_max: Duration::from_secs(60),
            head_max: Duration::from_secs(10),
            body_gap_max: Duration::from_secs(10),
            // A key of a gigabyte may take a bit more than four hours, and no longer.
            rate_min: 64 * 1024,
            rate_grace: Duration::from_secs(10),
            linger_max: Duration::from_secs(2),
        }
    }
}

#[derive(Debug)]
enum State {
    /// Between requests, or within a head. `since` is when its first byte could be looked at;
    /// without one, `idle` is when the wait began.
    Head {
        scan: Scan,
        since: Option<Duration>,
        idle: Duration,
    },
    /// The head was given out; the caller has to accept the body or to answer.
    Offered(Framing),
    /// The body is coming.
    Body(Body),
    /// The body is read; `End` has not been given out.
    Complete,
    /// Only the answer is missing.
    Answer,
    /// An answer goes out piece by piece; what comes in is thrown away.
    Streaming,
    /// The last answer is in the output; what comes in is thrown away. `by` is set when the
    /// output has been written.
    Closing { by: Option<Duration> },
    /// It is over.
    Closed,
}

#[derive(Debug)]
struct Body {
    framing: BodyFraming,
    max: u64,
    taken: u64,
    /// Since when the peer is waited for. While the caller has not yet taken what has come, nobody
    /// waits for the peer, and a slow disk is not held against it.
    waiting: Option<Duration>,
    /// How long it was waited for before that.
    waited: Duration,
}

#[derive(Debug)]
enum BodyFraming {
    Length { left: u64 },
    Chunked(Chunked),
}

/// What has to be known of a request until it is answered.
#[derive(Debug, Clone, Copy, Default)]
struct Exchange {
    keep_alive: bool,
    expects_continue: bool,
    head_only: bool,
}

impl fmt::Debug for Connection {
    /// Shows where it stands and not what it holds: tokens and witnesses pass through it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Connection")
            .field("state", &self.state)
            .field("input_bytes", &self.input.len())
            .field("output_bytes", &self.output.len())
            .field("peer_ended", &self.peer_ended)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(limits: Limits, now: Duration) -> Connection {
        Connection {
            limits,
            input: BytesMut::new(),
            output: BytesMut::new(),
            output_by: now,
            state: State::idle(now),
            exchange: Exchange::default(),
            peer_ended: false,
        }
    }

    /// How many bytes the next [`Connection::receive`] will take. While it is 0 there is no use in
    /// reading the socket; ask again after each `poll` and `respond`.
    pub fn room(&self) -> usize {
        match self.state {
            State::Streaming | State::Closing { .. } | State::Closed => BUFFER_BYTES,
            _ => BUFFER_BYTES
                .max(self.limits.head_bytes_max + 1)
                .saturating_sub(self.input.len()),
        }
    }

    /// Takes bytes from the peer, and says how many: all, if there are no more than
    /// [`Connection::room`]. Call [`Connection::poll`] after it, until that gives nothing.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) -> usize {
        match &mut self.state {
            State::Streaming | State::Closing { .. } | State::Closed => return bytes.len(),
            State::Body(body) => body.arrived(now),
            _ => {}
        }
        let taken = bytes.len().min(self.room());
        self.input.extend_from_slice(&bytes[..taken]);
        self.note_head_began(now);
        taken
    }

    /// The peer will send no more. What it sent before is still served.
    pub fn end_of_stream(&mut self) {
        self.peer_ended = true;
    }

    /// What has been read, one event a call; `None` when more bytes, or the caller's answer, are
    /// needed first. An error comes once; its answer is in the output and nothing follows.
    pub fn poll(&mut self, now: Duration) -> Result<Option<Event>, HttpError> {
        self.step(now).inspect_err(|error| self.refuse(error, now))
    }

    /// Lets the body come in, of at most `max` bytes. Call it after `Head` if its body is not
    /// [`BodyKind::None`]; where there is nothing to accept it does nothing. An error means that
    /// the length that was announced is too long; it is already answered.
    pub fn accept_body(&mut self, max: u64, now: Duration) -> Result<(), HttpError> {
        let State::Offered(framing) = &self.state else {
            return Ok(());
        };
        let framing = match *framing {
            Framing::Length(length) if length > max => {
                let error = HttpError::BodyTooLong { max };
                self.refuse(&error, now);
                return Err(error);
            }
            Framing::Length(left) => BodyFraming::Length { left },
            Framing::Chunked => BodyFraming::Chunked(Chunked::new()),
        };
        self.state = State::Body(Body {
            framing,
            max,
            taken: 0,
            waiting: None,
            waited: Duration::ZERO,
        });
        if self.exchange.expects_continue {
            self.output.extend_from_slice(CONTINUE);
            self.note_output(now);
        }
        Ok(())
    }

    /// Answers the request. `false` if there is none to answer: the connection was refused, cut or
    /// timed out before, and the answer has nowhere to go.
    ///
    /// # Panics
    ///
    /// If the response holds a status or a field that cannot stand in a head.
    pub fn respond(&mut self, response: &Response<'_>, now: Duration) -> bool {
        let complete = match self.state {
            State::Complete | State::Answer => true,
            State::Offered(_) | State::Body(_) => false,
            State::Head { .. } | State::Streaming | State::Closing { .. } | State::Closed => {
                return false;
            }
        };
        let keep_alive = self.exchange.keep_alive && complete && !response.close;
        response.write(&mut self.output, self.exchange.head_only, keep_alive);
        self.note_output(now);
        if keep_alive {
            self.state = State::idle(now);
            self.exchange = Exchange::default();
        } else {
            self.begin_closing();
        }
        true
    }

    /// Begins an answer that has no length: it ends with the connection. `false` if there is no request to
    /// answer, or one whose body has not been read.
    pub fn begin_stream(&mut self, content_type: &str, now: Duration) -> bool {
        let (State::Complete | State::Answer) = self.state else {
            return false;
        };
        response::write_stream_head(&mut self.output, content_type);
        self.note_output(now);
        self.state = State::Streaming;
        self.input = BytesMut::new();
        true
    }

    /// Adds a piece to a stream. `false`, and the connection is closed, if the peer takes so little of it that
    /// more than 64 KiB wait for it; or if there is no stream. A piece for a peer that has taken all before may be longer.
    pub fn stream(&mut self, bytes: &[u8], now: Duration) -> bool {
        let State::Streaming = self.state else {
            return false;
        };
        if !self.output.is_empty() && self.output.len() + bytes.len() > BUFFER_BYTES {
            self.state = State::Closed;
            return false;
        }
        // What waits already has its time; more of it buys no more.
        let waited = !self.output.is_empty();
        self.output.extend_from_slice(bytes);
        if !waited {
            self.note_output(now);
        }
        true
    }

    /// Ends a stream, if there is one.
    pub fn end_stream(&mut self) {
        if let State::Streaming = self.state {
            self.begin_closing();
        }
    }

    /// What is to be written to the peer.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `count` bytes of the output were written. Call [`Connection::poll`] after it: a
    /// request that was pipelined is looked at when the answer before it has left.
    ///
    /// # Panics
    ///
    /// If there were not so many.
    pub fn sent(&mut self, count: usize, now: Duration) {
        self.output.advance(count);
        if !self.output.is_empty() {
            return;
        }
        match &mut self.state {
            State::Head { idle, .. } => *idle = now,
            State::Closing { by } => *by = Some(now + self.limits.linger_max),
            _ => {}
        }
        self.note_head_began(now);
    }

    /// When [`Connection::expire`] is to be called, unless something comes before. `None` while
    /// the caller's own answer is awaited. It changes with every call that takes `&mut self`.
    pub fn deadline(&self) -> Option<Duration> {
        let output_by = (!self.output.is_empty()).then_some(self.output_by);
        let state_by = match &self.state {
            State::Head { .. } if !self.output.is_empty() => None,
            State::Head {
                since: Some(since), ..
            } => Some(*since + self.limits.head_max),
            State::Head { idle, .. } => Some(*idle + self.limits.idle_max),
            State::Body(body) => body.deadline(&self.limits),
            State::Closing { by } => *by,
            State::Offered(_) | State::Complete | State::Answer | State::Streaming => None,
            State::Closed => return None,
        };
        match (output_by, state_by) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// Acts on a deadline that has passed, and says so; without one it does nothing. Calling it
    /// more often than needed does no harm.
    pub fn expire(&mut self, now: Duration) -> Result<(), HttpError> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let late = match &self.state {
            _ if !self.output.is_empty() && now >= self.output_by => {
                self.state = State::Closed;
                return Err(HttpError::TimedOut("taking the answer"));
            }
            State::Head { since: Some(_), .. } => HttpError::TimedOut("a head"),
            State::Body(_) => HttpError::TimedOut("a body"),
            _ => {
                self.state = State::Closed;
                return Ok(());
            }
        };
        self.refuse(&late, now);
        Err(late)
    }

    /// What to do with the socket; look at it after each round of calls.
    pub fn disposition(&self) -> Disposition {
        match self.state {
            State::Closed => Disposition::Close,
            // Who reads a stream says nothing more, and who has ended reads no more.
            State::Streaming if self.peer_ended => Disposition::Close,
            _ if !self.output.is_empty() => Disposition::Open,
            State::Closing { .. } if self.peer_ended => Disposition::Close,
            State::Closing { .. } => Disposition::Linger,
            State::Head { .. } if self.peer_ended && self.input.is_empty() => Disposition::Close,
            _ => Disposition::Open,
        }
    }

    fn step(&mut self, now: Duration) -> Result<Option<Event>, HttpError> {
        match &mut self.state {
            State::Head { .. } if !self.output.is_empty() => Ok(None),
            State::Head { scan, .. } => match scan.find_end(&self.input, &self.limits)? {
                Some(length) => {
                    let parsed = head::parse(&self.input[..length], &self.limits);
                    self.input.advance(length);
                    Ok(Some(Event::Head(self.begin(parsed?))))
                }
                None if self.peer_ended && !self.input.is_empty() => Err(HttpError::CutShort),
                None => Ok(None),
            },
            State::Body(body) => match body.take(&mut self.input)? {
                Piece::Data(bytes) => Ok(Some(Event::Body(bytes))),
                Piece::End => {
                    self.state = State::Complete;
                    self.step(now)
                }
                Piece::None if self.peer_ended => Err(HttpError::CutShort),
                Piece::None => {
                    body.waiting.get_or_insert(now);
                    Ok(None)
                }
            },
            State::Complete => {
                self.state = State::Answer;
                Ok(Some(Event::End))
            }
            State::Offered(_)
            | State::Answer
            | State::Streaming
            | State::Closing { .. }
            | State::Closed => Ok(None),
        }
    }

    fn begin(&mut self, parsed: Parsed) -> Head {
        self.exchange = Exchange {
            keep_alive: parsed.keep_alive,
            expects_continue: parsed.expects_continue,
            head_only: parsed.head.method == Method::Head,
        };
        self.state = match parsed.head.body {
            BodyKind::None | BodyKind::Length(0) => State::Complete,
            BodyKind::Length(length) => State::Offered(Framing::Length(length)),
            BodyKind::Chunked => State::Offered(Framing::Chunked),
        };
        parsed.head
    }

    fn refuse(&mut self, error: &HttpError, now: Duration) {
        let mut text = error.to_string();
        text.push('\n');
        let response = Response {
            content_type: Some("text/plain; charset=utf-8"),
            body: text.as_bytes(),
            ..Response::new(error.status())
        };
        response.write(&mut self.output, self.exchange.head_only, false);
        self.note_output(now);
        self.begin_closing();
    }

    fn begin_closing(&mut self) {
        self.state = State::Closing { by: None };
        self.input = BytesMut::new();
    }

    fn note_output(&mut self, now: Duration) {
        self.output_by = now + self.limits.time_for(self.output.len() as u64);
    }

    /// A head begins when its first byte can be looked at: not while an answer is on its way.
    fn note_head_began(&mut self, now: Duration) {
        if let State::Head { since, .. } = &mut self.state
            && since.is_none()
            && self.output.is_empty()
            && !self.input.is_empty()
        {
            *since = Some(now);
        }
    }
}

impl State {
    fn idle(now: Duration) -> State {
        State::Head {
            scan: Scan::default(),
            since: None,
            idle: now,
        }
    }
}

impl Limits {
    /// How long `bytes` may take at the lowest rate that is put up with.
    fn time_for(&self, bytes: u64) -> Duration {
        self.rate_grace + Duration::from_millis(bytes.saturating_mul(1000) / self.rate_min.max(1))
    }
}

impl Body {
    fn take(&mut self, input: &mut BytesMut) -> Result<Piece, HttpError> {
        let piece = match &mut self.framing {
            BodyFraming::Length { left: 0 } => Piece::End,
            BodyFraming::Length { left } => {
                let ready = (*left).min(input.len() as u64);
                *left -= ready;
                match ready {
                    0 => Piece::None,
                    // It is at most the length of `input`, which is a usize.
                    _ => Piece::Data(input.split_to(ready as usize).freeze()),
                }
            }
            BodyFraming::Chunked(chunked) => {
                let max = self.max - self.taken;
                chunked.take(input, max).map_err(|error| match error {
                    HttpError::BodyTooLong { .. } => HttpError::BodyTooLong { max: self.max },
                    other => other,
                })?
            }
        };
        if let Piece::Data(bytes) = &piece {
            self.taken += bytes.len() as u64;
        }
        Ok(piece)
    }

    fn arrived(&mut self, now: Duration) {
        if let Some(since) = self.waiting.take() {
            self.waited += now.saturating_sub(since);
        }
    }

    fn deadline(&self, limits: &Limits) -> Option<Duration> {
        let left = limits.time_for(self.taken).saturating_sub(self.waited);
        self.waiting
            .map(|since| since + left.min(limits.body_gap_max))
    }
}

/// Bytes that wait unread at most: the head limit fits in, and one read of a socket is not cut
/// into many.
const BUFFER_BYTES: usize = 64 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    const PUT: &[u8] = b"PUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n";

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn open() -> Connection {
        Connection::new(Limits::default(), at(0))
    }

    /// Takes all of the output.
    fn written(connection: &mut Connection, now: Duration) -> String {
        let text = String::from_utf8(connection.output().to_vec()).expect("ASCII");
        connection.sent(text.len(), now);
        text
    }

    fn expect_head(connection: &mut Connection, now: Duration) -> Head {
        match connection.poll(now) {
            Ok(Some(Event::Head(head))) => head,
            other => panic!("expected a head, got {other:?}"),
        }
    }

    #[test]
    fn a_request_and_the_next() {
        let mut connection = open();
        for second in 1..4 {
            assert_eq!(connection.receive(GET, at(second)), GET.len());
            let head = expect_head(&mut connection, at(second));
            assert_eq!((head.method, head.path.as_str()), (Method::Get, "/livez"));
            assert_eq!(connection.poll(at(second)), Ok(Some(Event::End)));
            assert_eq!(connection.poll(at(second)), Ok(None));
            assert_eq!(connection.deadline(), None);
            assert!(connection.respond(&Response::text(200, "ok"), at(second)));
            assert_eq!(
                written(&mut connection, at(second)),
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\
                 Content-Length: 2\r\n\r\nok"
            );
            assert_eq!(connection.disposition(), Disposition::Open);
        }
    }

    #[test]
    fn the_next_request_waits_for_the_answer_to_leave() {
        let mut connection = open();
        connection.receive(&GET.repeat(2), at(0));
        expect_head(&mut connection, at(0));
        assert_eq!(connection.poll(at(0)), Ok(Some(Event::End)));
        assert_eq!(connection.poll(at(0)), Ok(None));
        connection.respond(&Response::new(204), at(0));
        assert_eq!(connection.poll(at(0)), Ok(None));
        written(&mut connection, at(0));
        expect_head(&mut connection, at(0));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut connection = open();
        let mut taken = 0;
        while connection.room() > 0 {
            taken += connection.receive(GET, at(0));
            let _ = connection.poll(at(0));
        }
        assert_eq!(connection.receive(GET, at(0)), 0);
        assert!(taken <= BUFFER_BYTES + GET.len());
    }

    #[test]
    fn a_body_is_offered_before_it_is_read() {
        let mut connection = open();
        let request = b"PUT /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\
                        Expect: 100-continue\r\n\r\n";
        connection.receive(request, at(0));
        assert_eq!(
            expect_head(&mut connection, at(0)).body,
            BodyKind::Length(3)
        );
        connection.receive(b"ab", at(0));
        assert_eq!(connection.poll(at(0)), Ok(None));
        assert_eq!(connection.output(), b"");
        connection.accept_body(3, at(0)).expect("short enough");
        assert_eq!(written(&mut connection, at(0)).as_bytes(), CONTINUE);
        let piece = Bytes::from_static(b"ab");
        assert_eq!(connection.poll(at(0)), Ok(Some(Event::Body(piece))));
        assert_eq!(connection.poll(at(0)), Ok(None));
        connection.receive(b"c", at(0));
        let piece = Bytes::from_static(b"c");
        assert_eq!(connection.poll(at(0)), Ok(Some(Event::Body(piece))));
        assert_eq!(connection.poll(at(0)), Ok(Some(Event::End)));
        connection.respond(&Response::new(201), at(0));
        written(&mut connection, at(0));
        assert_eq!(connection.disposition(), Disposition::Open);
    }

    #[test]
    fn an_answer_before_the_end_of_the_body_closes() {
        for accepted in [false, true] {
            let mut connection = open();
            connection.receive(PUT, at(0));
            expect_head(&mut connection, at(0));
            if accepted {
                connection
                    .accept_body(u64::MAX, at(0))
                    .expect("short enough");
                connection.receive(b"x", at(0));
                assert!(matches!(connection.poll(at(0)), Ok(Some(Event::Body(_)))));
            }
            connection.respond(&Response::new(401), at(0));
            assert!(written(&mut connection, at(0)).contains("\r\nConnection: close\r\n"));
            assert_eq!(connection.disposition(), Disposition::Linger);
            // The rest of the body is no request.
            connection.receive(GET, at(0));
            assert_eq!(connection.poll(at(0)), Ok(None));
            assert_eq!(connection.deadline(), Some(at(2)));
            assert_eq!(connection.expire(at(2)), Ok(()));
            assert_eq!(connection.disposition(), Disposition::Close);
        }
    }

    #[test]
    fn the_client_or_its_version_or_the_caller_asks_to_close() {
        let old: &[u8] = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
        let asks: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n";
        for (request, close) in [(old, false), (asks, false), (GET, true)] {
            let mut connection = open();
            connection.receive(request, at(0));
            expect_head(&mut connection, at(0));
            let response = Response {
                close,
                ..Response::new(204)
            };
            connection.respond(&response, at(0));
            assert_eq!(
                written(&mut connection, at(0)),
                "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n\
                 Connection: close\r\n\r\n"
            );
            assert_eq!(connection.disposition(), Disposition::Linger);
        }
    }

    #[test]
    fn head_gets_the_length_and_no_body() {
        let mut connection = open();
        connection.receive(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", at(0));
        expect_head(&mut connection, at(0));
        connection.respond(&Response::text(200, "hello"), at(0));
        let text = written(&mut connection, at(0));
        assert!(text.ends_with("Content-Length: 5\r\n\r\n"), "{text}");
        // The next request is not a HEAD, and its refusal has a body.
        connection.receive(b"\n", at(0));
        assert_eq!(connection.poll(at(0)), Err(HttpError::BareLineFeed));
        assert!(written(&mut connection, at(0)).ends_with("line feed\n"));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_goes_nowhere() {
        let mut connection = open();
        assert!(!connection.respond(&Response::new(200), at(0)));
        connection.receive(GET, at(0));
        expect_head(&mut connection, at(0));
        assert!(connection.respond(&Response::new(200), at(0)));
        assert!(!connection.respond(&Response::new(200), at(0)));
    }

    /// One byte a second never ends a head, and each byte would push back a naive deadline.
    #[test]
    fn a_slow_head_is_cut_off() {
        let mut connection = open();
        assert_eq!(connection.deadline(), Some(at(60)));
        for (second, byte) in (5..15).zip(GET) {
            connection.receive(&[*byte], at(second));
            assert_eq!(connection.poll(at(second)), Ok(None));
            assert_eq!(connection.deadline(), Some(at(15)));
            assert_eq!(connection.expire(at(second)), Ok(()));
        }
        let late = HttpError::TimedOut("a head");
        assert_eq!(connection.expire(at(15)), Err(late));
        assert!(written(&mut connection, at(15)).starts_with("HTTP/1.1 408 "));
        assert_eq!(connection.disposition(), Disposition::Linger);
    }

    #[test]
    fn an_idle_connection_is_closed_without_a_word() {
        let mut connection = open();
        connection.receive(GET, at(0));
        expect_head(&mut connection, at(0));
        connection.respond(&Response::new(204), at(30));
        assert_eq!(connection.deadline(), Some(at(40)));
        written(&mut connection, at(31));
        assert_eq!(connection.deadline(), Some(at(91)));
        assert_eq!(connection.expire(at(90)), Ok(()));
        assert_eq!(connection.disposition(), Disposition::Open);
        assert_eq!(connection.expire(at(91)), Ok(()));
        assert_eq!(connection.output(), b"");
        assert_eq!(connection.disposition(), Disposition::Close);
    }

    #[test]
    fn a_body_that_stops_or_drips_is_cut_off() {
        let begin = || {
            let mut connection = open();
            connection.receive(PUT, at(0));
            expect_head(&mut connection, at(0));
            // The caller may think as long as it likes before it accepts.
            assert_eq!(connection.deadline(), None);
            connection
                .accept_body(u64::MAX, at(100))
                .expect("short enough");
            assert_eq!(connection.poll(at(100)), Ok(None));
            assert_eq!(connection.deadline(), Some(at(110)));
            connection
        };
        let late = Err(HttpError::TimedOut("a body"));
        let mut stops = begin();
        assert_eq!(stops.expire(at(110)), late);
        assert!(stops.output().starts_with(b"HTTP/1.1 408 "));

        // A byte every second keeps the gap small, and the mean rate is held against it.
        let mut drips = begin();
        for second in 101..110 {
            drips.receive(b"x", at(second));
            assert!(matches!(drips.poll(at(second)), Ok(Some(Event::Body(_)))));
            assert_eq!(drips.poll(at(second)), Ok(None));
            assert_eq!(drips.expire(at(second)), Ok(()));
        }
        assert_eq!(drips.expire(at(111)), late);

        // 64 KiB buy one more second.
        let mut goes = begin();
        goes.receive(&[0; 65536], at(109));
        assert!(matches!(goes.poll(at(109)), Ok(Some(Event::Body(_)))));
        // As long as the caller has not asked for more, the peer is not late.
        assert_eq!(goes.deadline(), None);
        assert_eq!(goes.poll(at(200)), Ok(None));
        assert_eq!(goes.deadline(), Some(at(202)));
    }

    #[test]
    fn a_stream_ends_with_its_sender_or_its_reader() {
        let begin = || {
            let mut connection = open();
            connection.receive(GET, at(0));
            expect_head(&mut connection, at(0));
            assert_eq!(connection.poll(at(0)), Ok(Some(Event::End)));
            assert!(connection.begin_stream("text/event-stream", at(0)));
            connection
        };
        let mut connection = begin();
        let head = written(&mut connection, at(0));
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        assert!(!head.contains("Content-Length"), "{head}");
        // It may be quiet for as long as it likes, and what its reader says is not listened to.
        assert_eq!(connection.deadline(), None);
        assert_eq!(connection.receive(GET, at(500)), GET.len());
        assert_eq!(connection.poll(at(500)), Ok(None));
        assert!(!connection.respond(&Response::new(204), at(500)));
        assert!(connection.stream(b"data: 1\n\n", at(500)));
        assert!(connection.stream(b"data: 2\n\n", at(505)));
        // Who does not read is given up at the time that the first of it had.
        assert_eq!(connection.deadline(), Some(at(510)));
        assert_eq!(written(&mut connection, at(506)), "data: 1\n\ndata: 2\n\n");
        connection.end_stream();
        assert_eq!(connection.disposition(), Disposition::Linger);

        let mut left = begin();
        left.end_of_stream();
        assert_eq!(left.disposition(), Disposition::Close);
        let mut slow = begin();
        while slow.stream(&[b'x'; 1000], at(1)) {}
        assert!(slow.output().len() <= BUFFER_BYTES);
        assert_eq!(slow.disposition(), Disposition::Close);
        // A long piece goes to who has taken what was before, and only to them.
        let long = vec![b'x'; 2 * BUFFER_BYTES];
        let mut quick = begin();
        assert!(!quick.stream(&long, at(1)));
        let mut quick = begin();
        written(&mut quick, at(0));
        assert!(quick.stream(&long, at(1)));
        // There is none to add to where none was begun, or before a body was read.
        let mut none = open();
        assert!(!none.begin_stream("text/event-stream", at(0)));
        none.receive(PUT, at(0));
        expect_head(&mut none, at(0));
        assert!(!none.begin_stream("text/event-stream", at(0)));
        assert!(!none.stream(b"x", at(0)));
    }

    #[test]
    fn an_answer_that_is_not_taken_is_given_up() {
        let mut connection = open();
        connection.receive(GET, at(0));
        expect_head(&mut connection, at(0));
        connection.respond(&Response::new(204), at(0));
        connection.sent(1, at(9));
        assert_eq!(connection.deadline(), Some(at(10)));
        let late = HttpError::TimedOut("taking the answer");
        assert_eq!(connection.expire(at(10)), Err(late));
        assert_eq!(connection.disposition(), Disposition::Close);
    }

    #[test]
    fn the_end_of_the_stream() {
        // Between requests it is the end; what was sent before it is served first.
        let mut connection = open();
        connection.receive(&GET.repeat(2), at(0));
        connection.end_of_stream();
        for _ in 0..2 {
            assert_eq!(connection.disposition(), Disposition::Open);
            expect_head(&mut connection, at(0));
            connection.respond(&Response::new(204), at(0));
            written(&mut connection, at(0));
        }
        assert_eq!(connection.disposition(), Disposition::Close);
        // Within one it is an error, which a client that only shut down its sending side reads.
        for sent in [&GET[..9], PUT] {
            let mut connection = open();
            connection.receive(sent, at(0));
            if sent == PUT {
                expect_head(&mut connection, at(0));
                connection
                    .accept_body(u64::MAX, at(0))
                    .expect("short enough");
            }
            connection.end_of_stream();
            assert_eq!(connection.poll(at(0)), Err(HttpError::CutShort));
            assert!(written(&mut connection, at(0)).starts_with("HTTP/1.1 400 "));
            assert_eq!(connection.disposition(), Disposition::Close);
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let mut connection = open();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer abc.def.ghi\r\n\r\n";
        connection.receive(request, at(0));
        let head = expect_head(&mut connection, at(0));
        assert_eq!(head.authorization.as_deref(), Some("Bearer abc.def.ghi"));
        assert!(!format!("{head:?}").contains("abc"));
    }

    #[test]
    #[should_panic(expected = "field name")]
    fn a_field_cannot_split_an_answer() {
        let mut connection = open();
        connection.receive(GET, at(0));
        expect_head(&mut connection, at(0));
        let fields = [("A\r\nB", "c")];
        let response = Response {
            fields: &fields,
            ..Response::new(200)
        };
        connection.respond(&response, at(0));
    }
}
