//! The head of a request: first the guard, then the parser, then what the fields mean together.
//!
//! The guard looks at each byte once, as it comes, and refuses line ends that are not CR LF,
//! control characters and folded lines. What passes it can be cut into lines in one way only, and
//! `httparse` reads it. Afterwards the fields that say where the body ends are judged together:
//! RFC 9112, 6.3 lists how they may contradict each other, and each contradiction there is a
//! request smuggled past somebody's proxy.

use std::fmt;

use super::{HttpError, Limits};

/// The head of a request. Fields that nothing here looks at are dropped.
#[derive(PartialEq, Eq)]
pub struct Head {
    /// What to do.
    pub method: Method,
    /// The target without its query: `/...` as it was sent, nothing decoded.
    pub path: String,
    /// What follows the first question mark.
    pub query: Option<String>,
    /// The field `Authorization`.
    pub authorization: Option<String>,
    /// The field `Content-Type`.
    pub content_type: Option<String>,
    /// The field `Range`.
    pub range: Option<String>,
    /// Whether a body follows.
    pub body: BodyKind,
}

/// The methods that anything here answers to. Any other is refused with 501.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD; the body of its answer is left out by the connection.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
}

/// How a request says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// A body that has bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// A head and what the connection has to know beside it.
pub(super) struct Parsed {
    pub(super) head: Head,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
}

/// The guard, and how far it has looked.
#[derive(Debug, Default)]
pub(super) struct Scan {
    at: usize,
    line: usize,
}

impl fmt::Debug for Head {
    /// Leaves the token out: whoever reads a log could use it for a minute.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Head")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("query", &self.query)
            .field("authorization", &self.authorization.is_some())
            .field("content_type", &self.content_type)
            .field("range", &self.range)
            .field("body", &self.body)
            .finish()
    }
}

impl Scan {
    /// Looks at what has come since the last call; gives the length of the head, its empty line
    /// counted, when all of it is there. `input` begins with the head each time.
    pub(super) fn find_end(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, HttpError> {
        let max = limits.head_bytes_max;
        while let Some(&byte) = input.get(self.at) {
            if self.at >= max {
                return Err(HttpError::HeadTooLong { max });
            }
            match byte {
                b'\r' => match input.get(self.at + 1) {
                    None => return Ok(None),
                    Some(b'\n') if self.at + 1 >= max => {
                        return Err(HttpError::HeadTooLong { max });
                    }
                    Some(b'\n') if self.line == self.at => return Ok(Some(self.at + 2)),
                    Some(b'\n') => {
                        self.line = self.at + 2;
                        self.at += 1;
                    }
                    Some(_) => return Err(HttpError::BareCarriageReturn),
                },
                b'\n' => return Err(HttpError::BareLineFeed),
                b' ' | b'\t' if self.line == self.at => return Err(HttpError::Folded),
                b' '..=b'~' | 0x80.. => {}
                // A tab too: it is white space around a value to some readers and part of it to others.
                control => return Err(HttpError::ControlByte(control)),
            }
            self.at += 1;
        }
        Ok(None)
    }
}

/// Reads a head that the guard has passed.
pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Parsed, HttpError> {
    // An empty line before the request would be skipped by the parser.
    if bytes.first() == Some(&b'\r') {
        return Err(HttpError::Malformed(httparse::Error::NewLine));
    }
    let mut fields = vec![httparse::EMPTY_HEADER; limits.headers_max];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(HttpError::Malformed(httparse::Error::NewLine)),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HttpError::TooManyFields {
                max: limits.headers_max,
            });
        }
        Err(httparse::Error::Version) if names_a_version(bytes) => return Err(HttpError::Version),
        Err(error) => return Err(HttpError::Malformed(error)),
    }
    // A complete parse fills all three.
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(HttpError::Malformed(httparse::Error::Status));
    };
    let method = Method::read(method)?;
    let fields = Fields::collect(request.headers)?;
    let (path, query) = read_target(target, limits)?;
    Ok(Parsed {
        keep_alive: minor == 1 && !fields.close,
        // A client of HTTP/1.0 does not know interim answers (RFC 9110, 10.1.1).
        expects_continue: minor == 1 && fields.expects_continue,
        head: Head {
            method,
            path,
            query,
            body: fields.body(minor)?,
            authorization: fields.authorization,
            content_type: fields.content_type,
            range: fields.range,
        },
    })
}

impl Method {
    fn read(name: &str) -> Result<Method, HttpError> {
        match name {
            "GET" => Ok(Method::Get),
            "HEAD" => Ok(Method::Head),
            "POST" => Ok(Method::Post),
            "PUT" => Ok(Method::Put),
            "DELETE" => Ok(Method::Delete),
            "OPTIONS" => Ok(Method::Options),
            _ => Err(HttpError::MethodUnknown),
        }
    }
}

/// The fields that mean something here, each at most once.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    expects_continue: bool,
    authorization: Option<String>,
    content_type: Option<String>,
    range: Option<String>,
}

impl Fields {
    fn collect(headers: &[httparse::Header<'_>]) -> Result<Fields, HttpError> {
        let mut fields = Fields::default();
        let mut hosts = 0;
        let mut codings = false;
        let mut expectations = false;
        for header in headers {
            let value = header.value;
            match header.name.to_ascii_lowercase().as_str() {
                "host" => {
                    hosts += 1;
                    check_host(value)?;
                }
                "content-length" => {
                    let length = read_length(value)?;
                    once(&mut fields.length, length, "Content-Length")?;
                }
                "transfer-encoding" => {
                    if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(HttpError::TransferEncoding);
                    }
                    fields.chunked = true;
                }
                "content-encoding" => {
                    if codings {
                        return Err(HttpError::Repeated("Content-Encoding"));
                    }
                    if !value.eq_ignore_ascii_case(b"identity") {
                        return Err(HttpError::ContentEncoding);
                    }
                    codings = true;
                }
                "expect" => {
                    if expectations {
                        return Err(HttpError::Repeated("Expect"));
                    }
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(HttpError::Expectation);
                    }
                    expectations = true;
                }
                "connection" => {
                    fields.close |= value
                        .split(|&byte| byte == b',')
                        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
                }
                "authorization" => {
                    let text = visible_text(value)?;
                    once(&mut fields.authorization, text, "Authorization")?;
                }
                "content-type" => {
                    let text = visible_text(value)?;
                    once(&mut fields.content_type, text, "Content-Type")?;
                }
                "range" => {
                    let text = visible_text(value)?;
                    once(&mut fields.range, text, "Range")?;
                }
                _ => {}
            }
        }
        if hosts != 1 {
            return Err(HttpError::HostCount { got: hosts });
        }
        fields.expects_continue = expectations;
        Ok(fields)
    }

    fn body(&self, minor: u8) -> Result<BodyKind, HttpError> {
        match (self.length, self.chunked) {
            (None, false) => Ok(BodyKind::None),
            (Some(length), false) => Ok(BodyKind::Length(length)),
            (Some(_), true) => Err(HttpError::TwoFramings),
            (None, true) if minor == 0 => Err(HttpError::TransferEncodingInOldVersion),
            (None, true) => Ok(BodyKind::Chunked),
        }
    }
}

/// Whether the request line has three parts, of which the last is `HTTP/` and two digits: another
/// version, and not a line that is no request.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|&byte| byte == b' ').skip(2);
    match (parts.next(), parts.next()) {
        (Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]), None) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

fn once<T>(slot: &mut Option<T>, value: T, name: &'static str) -> Result<(), HttpError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(HttpError::Repeated(name)),
    }
}

/// Only digits: no sign, no list, no space within, nothing that wraps around.
fn read_length(value: &[u8]) -> Result<u64, HttpError> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(HttpError::ContentLength);
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .filter(|&length| length <= i64::MAX as u64)
        .ok_or(HttpError::ContentLength)
}

fn visible_text(value: &[u8]) -> Result<String, HttpError> {
    match std::str::from_utf8(value) {
        Ok(text) if text.is_ascii() => Ok(text.to_owned()),
        _ => Err(HttpError::Malformed(httparse::Error::HeaderValue)),
    }
}

/// A name, an IPv4 address or an IPv6 address in brackets, perhaps with a port. An empty one is
/// allowed by RFC 9110 for targets without an authority, which are not served here.
fn check_host(value: &[u8]) -> Result<(), HttpError> {
    let text = std::str::from_utf8(value).map_err(|_| HttpError::Host)?;
    let (name_fits, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(HttpError::Host)?;
            (address.parse::<std::net::Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            // Each label has characters; one dot at the end is that of a name in full.
            let labels = name.strip_suffix('.').unwrap_or(name);
            let labelled = labels.split('.').all(|label| !label.is_empty());
            (labelled && name.bytes().all(fits), port)
        }
    };
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    if name_fits && port_fits {
        Ok(())
    } else {
        Err(HttpError::Host)
    }
}

fn read_target(target: &str, limits: &Limits) -> Result<(String, Option<String>), HttpError> {
    if target.len() > limits.target_bytes_max {
        return Err(HttpError::TargetTooLong {
            max: limits.target_bytes_max,
            got: target.len(),
        });
    }
    // The characters of a path and a query in RFC 3986, and no others: no fragment, no backslash.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&byte);
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let stays = path
        .split('/')
        .all(|segment| !matches!(segment, "." | ".."));
    if !path.starts_with('/') || !stays || !target.bytes().all(fits) || !is_coded(target) {
        return Err(HttpError::Target);
    }
    Ok((path.to_owned(), query.map(str::to_owned)))
}

/// Whether each percent sign begins the code of a byte, and none that of a NUL or of a dot, which would hide a
/// segment that others resolve.
fn is_coded(target: &str) -> bool {
    target.split('%').skip(1).all(|rest| {
        let digits = rest
            .get(..2)
            .filter(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| byte != 0 && byte != b'.')
    })
}
