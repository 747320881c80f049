//! The head of a request: first the guard, then the parser, then what the fields mean together.
//!
//! The guard looks at each byte once, as it comes, and refuses line ends that are not CR LF,
//! control characters and folded lines. What passes it can be cut into lines in one way only, and
//! `httparse` reads it. Afterwards the fields that say where the body ends are judged together:
//! RFC 9112, 6.3 lists how they may contradict each other, and each contradiction there is a
//! request smuggled past somebody's proxy.

use std::fmt;
use std::mem::MaybeUninit;

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
                b' '..=b'~' | 0x80.. => {
                    let end = input.len().min(max);
                    self.at += text_length(&input[self.at..end]);
                    continue;
                }
                // A tab too: it is white space around a value to some readers and part of it to others.
                control => return Err(HttpError::ControlByte(control)),
            }
            self.at += 1;
        }
        Ok(None)
    }
}

/// How many bytes from the first on are text: no control character, eight of them at a time (Lamport, "Multiple byte
/// processing with full-word instructions", 1975). Nearly all of a head is.
fn text_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of each byte below a space, and of each DEL. A borrow may set one above the first of them,
        // never below it.
        let low = word.wrapping_sub(ONES * u64::from(b' ')) & !word;
        let del = word ^ (ONES * 0x7f);
        let del = del.wrapping_sub(ONES) & !del;
        let found = (low | del) & HIGH;
        if found != 0 {
            return at * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | 0x80..);
    let rest = rest.iter().take_while(|byte| is_text(byte)).count();
    words.len() * 8 + rest
}

/// Reads a head that the guard has passed.
pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Parsed, HttpError> {
    // An empty line before the request would be skipped by the parser.
    if bytes.first() == Some(&b'\r') {
        return Err(HttpError::Malformed(httparse::Error::NewLine));
    }
    let mut few = [MaybeUninit::uninit(); FEW];
    let mut many = Vec::new();
    let fields = match few.get_mut(..limits.headers_max) {
        Some(fields) => fields,
        None => {
            many.resize_with(limits.headers_max, MaybeUninit::uninit);
            many.as_mut_slice()
        }
    };
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, fields) {
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
    /// That it stands there: nothing here is read differently for it, and twice is once too often.
    content_type: Option<()>,
    range: Option<String>,
}

/// Names of fields that mean something here.
#[derive(Clone, Copy)]
enum Field {
    Host,
    ContentLength,
    TransferEncoding,
    ContentEncoding,
    Expect,
    Connection,
    Authorization,
    ContentType,
    Range,
}

impl Field {
    /// In whatever case it is written.
    fn of(name: &str) -> Option<Field> {
        let known = NAMES.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        known.map(|(_, field)| *field)
    }
}

impl Fields {
    fn collect(headers: &[httparse::Header<'_>]) -> Result<Fields, HttpError> {
        let mut fields = Fields::default();
        let mut hosts = 0;
        let mut codings = false;
        let mut expectations = false;
        for header in headers {
            let value = header.value;
            let Some(field) = Field::of(header.name) else {
                continue;
            };
            match field {
                Field::Host => {
                    hosts += 1;
                    check_host(value)?;
                }
                Field::ContentLength => {
                    let length = read_length(value)?;
                    once(&mut fields.length, length, "Content-Length")?;
                }
                Field::TransferEncoding => {
                    if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(HttpError::TransferEncoding);
                    }
                    fields.chunked = true;
                }
                Field::ContentEncoding => {
                    if codings {
                        return Err(HttpError::Repeated("Content-Encoding"));
                    }
                    if !value.eq_ignore_ascii_case(b"identity") {
                        return Err(HttpError::ContentEncoding);
                    }
                    codings = true;
                }
                Field::Expect => {
                    if expectations {
                        return Err(HttpError::Repeated("Expect"));
                    }
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(HttpError::Expectation);
                    }
                    expectations = true;
                }
                Field::Connection => {
                    fields.close |= value
                        .split(|&byte| byte == b',')
                        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
                }
                Field::Authorization => {
                    let text = visible_text(value)?.to_owned();
                    once(&mut fields.authorization, text, "Authorization")?;
                }
                Field::ContentType => {
                    visible_text(value)?;
                    once(&mut fields.content_type, (), "Content-Type")?;
                }
                Field::Range => {
                    let text = visible_text(value)?.to_owned();
                    once(&mut fields.range, text, "Range")?;
                }
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

fn visible_text(value: &[u8]) -> Result<&str, HttpError> {
    match std::str::from_utf8(value) {
        Ok(text) if text.is_ascii() => Ok(text),
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

const NAMES: [(&str, Field); 9] = [
    ("host", Field::Host),
    ("content-length", Field::ContentLength),
    ("transfer-encoding", Field::TransferEncoding),
    ("content-encoding", Field::ContentEncoding),
    ("expect", Field::Expect),
    ("connection", Field::Connection),
    ("authorization", Field::Authorization),
    ("content-type", Field::ContentType),
    ("range", Field::Range),
];
/// Fields that are read without asking for memory: as many as a head has unless the configuration says otherwise.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// The danger: eight bytes at a time and one at a time find another end.
    #[test]
    fn text_ends_at_its_first_control_character() {
        let slow = |bytes: &[u8]| {
            let control = |byte: &u8| *byte < b' ' || *byte == 0x7f;
            bytes.iter().position(control).unwrap_or(bytes.len())
        };
        for length in 0..20 {
            for fill in [b' ', b'a', b'~', 0x80, 0xff] {
                let text = vec![fill; length];
                assert_eq!(text_length(&text), length);
                for at in 0..length {
                    for byte in 0..=u8::MAX {
                        let mut text = text.clone();
                        text[at] = byte;
                        assert_eq!(text_length(&text), slow(&text), "{text:?}");
                        // A second one behind the first, where borrows go.
                        text[length - 1] = 0x7f;
                        assert_eq!(text_length(&text), slow(&text), "{text:?}");
                        text[length - 1] = 0;
                        assert_eq!(text_length(&text), slow(&text), "{text:?}");
                    }
                }
            }
        }
    }
}
