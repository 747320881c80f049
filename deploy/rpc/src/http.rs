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
//! An answer may be given at any point after `Head`; if the body has not been read to its end, the
//! connection closes after the answer, because what follows on the wire is no request. Requests
//! that were pipelined wait in the input buffer, which is bounded, so they are answered in order
//! and a client that sends without reading is stopped by TCP.
//!
//! **Framing.** Where two implementations can disagree about where a request ends, a proxy in front
//! of this box can be made to let a request through that it never saw. So there is a guard in front
//! of the parser (`httparse`), and it refuses rather than repairs: see [`HttpError`] for the list.
//! Some of it is stricter than RFC 9112 demands, on purpose: an empty line before a request, the
//! absolute form of a target, a repeated `Content-Length` even with equal values, and HTTP/1.0
//! without a `Host` are refused. After a refusal the connection closes.
//!
//! **Time.** A peer that opens a connection and sends one byte a minute costs a slot. There is a
//! limit for an idle connection, for a whole head, for the gap between two pieces of a body, for
//! the mean rate of a body, for the mean rate at which the peer takes an answer, and for the
//! time that a closing connection is listened to.
//!
//! **Closing.** Closing a socket with unread input makes the kernel send a reset, which can destroy
//! the answer before the peer reads it. So a closing connection asks its caller to shut down the
//! sending side first and to read on for a moment ([`Disposition::Linger`]; RFC 9112, 9.6).

mod chunked;
mod head;
mod response;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
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
#[derive(Debug)]
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
    /// A target that is neither a path nor, for OPTIONS, an asterisk.
    #[error("a target is a path that begins with a slash")]
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
    /// The fields after the last chunk are too long or malformed.
    #[error("trailer fields are too long or malformed")]
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
    began: Duration,
    last: Duration,
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
            State::Closing { .. } | State::Closed => BUFFER_BYTES,
            _ => BUFFER_BYTES
                .max(self.limits.head_bytes_max + 1)
                .saturating_sub(self.input.len()),
        }
    }

    /// Takes bytes from the peer, and says how many: all, if there are no more than
    /// [`Connection::room`]. Call [`Connection::poll`] after it, until that gives nothing.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) -> usize {
        match &mut self.state {
            State::Closing { .. } | State::Closed => return bytes.len(),
            State::Body(body) => body.last = now,
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
        self.step().inspect_err(|error| self.refuse(error, now))
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
            began: now,
            last: now,
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
            State::Head { .. } | State::Closing { .. } | State::Closed => return false,
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
        drop(self.output.split_to(count));
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
            State::Body(body) => Some(body.deadline(&self.limits)),
            State::Closing { by } => *by,
            State::Offered(_) | State::Complete | State::Answer => None,
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
            _ if !self.output.is_empty() => Disposition::Open,
            State::Closing { .. } if self.peer_ended => Disposition::Close,
            State::Closing { .. } => Disposition::Linger,
            State::Head { .. } if self.peer_ended && self.input.is_empty() => Disposition::Close,
            _ => Disposition::Open,
        }
    }

    fn step(&mut self) -> Result<Option<Event>, HttpError> {
        match &mut self.state {
            State::Head { .. } if !self.output.is_empty() => Ok(None),
            State::Head { scan, .. } => match scan.find_end(&self.input, &self.limits)? {
                Some(length) => {
                    let head = self.input.split_to(length);
                    let parsed = head::parse(&head, &self.limits)?;
                    Ok(Some(Event::Head(self.begin(parsed))))
                }
                None if self.peer_ended && !self.input.is_empty() => Err(HttpError::CutShort),
                None => Ok(None),
            },
            State::Body(body) => match body.take(&mut self.input)? {
                Piece::Data(bytes) => Ok(Some(Event::Body(bytes))),
                Piece::End => {
                    self.state = State::Complete;
                    self.step()
                }
                Piece::None if self.peer_ended => Err(HttpError::CutShort),
                Piece::None => Ok(None),
            },
            State::Complete => {
                self.state = State::Answer;
                Ok(Some(Event::End))
            }
            State::Offered(_) | State::Answer | State::Closing { .. } | State::Closed => Ok(None),
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

    fn deadline(&self, limits: &Limits) -> Duration {
        let by_gap = self.last + limits.body_gap_max;
        let by_rate = self.began + limits.time_for(self.taken);
        by_gap.min(by_rate)
    }
}

/// Bytes that wait unread at most: the head limit fits in, and one read of a socket is not cut
/// into many.
const BUFFER_BYTES: usize = 64 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
