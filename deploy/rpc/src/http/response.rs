//! The head of an answer, in bytes.
//!
//! Every answer says how long it is, or has no body by its status, or is a stream that ends with its
//! connection. None may be kept by a cache: what
//! one tenant reads is nobody else's. There is no `Date`, for there is no clock here; a caller that
//! wants one adds it to the fields.

use std::fmt::Write;

use bytes::BytesMut;

/// An answer.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// From 200 to 599.
    pub status: u16,
    /// What the body is.
    pub content_type: Option<&'a str>,
    /// More header fields, name and value. `Content-Length`, `Content-Type`, `Cache-Control`
    /// and `Connection` are written without being asked for.
    pub fields: &'a [(&'a str, &'a str)],
    /// The body; left out for HEAD.
    pub body: &'a [u8],
    /// Whether the connection ends with it.
    pub close: bool,
}

impl<'a> Response<'a> {
    /// An answer with no body.
    pub const fn new(status: u16) -> Response<'a> {
        Response {
            status,
            content_type: None,
            fields: &[],
            body: &[],
            close: false,
        }
    }

    /// An answer in JSON.
    pub const fn json(status: u16, body: &'a [u8]) -> Response<'a> {
        Response {
            content_type: Some("application/json"),
            body,
            ..Response::new(status)
        }
    }

    /// An answer in plain text.
    pub const fn text(status: u16, body: &'a str) -> Response<'a> {
        Response {
            content_type: Some("text/plain; charset=utf-8"),
            body: body.as_bytes(),
            ..Response::new(status)
        }
    }

    pub(super) fn write(&self, out: &mut BytesMut, head_only: bool, keep_alive: bool) {
        assert!((200..=599).contains(&self.status), "status {}", self.status);
        out.reserve(HEAD_BYTES + self.body.len());
        put_number(out, "HTTP/1.1 ", self.status.into());
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        put(" ");
        put(phrase(self.status));
        put("\r\n");
        for (name, value) in self.fields {
            assert!(is_token(name), "field name {name:?}");
            assert!(!value.bytes().any(|byte| byte.is_ascii_control()), "{name}");
            put(name);
            put(": ");
            put(value);
            put("\r\n");
        }
        if let Some(content_type) = self.content_type {
            put("Content-Type: ");
            put(content_type);
            put("\r\nX-Content-Type-Options: nosniff\r\n");
        }
        put("Cache-Control: no-store\r\n");
        if !keep_alive {
            put("Connection: close\r\n");
        }
        // RFC 9110, 8.6: an answer with status 204 has no length.
        if self.status != 204 {
            put_number(out, "Content-Length: ", self.body.len() as u64);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !head_only && self.status != 204 {
            out.extend_from_slice(self.body);
        }
    }
}

fn put_number(out: &mut BytesMut, before: &str, number: u64) {
    // A buffer of bytes grows, and takes all that is written to it.
    let _ = write!(out, "{before}{number}");
}

/// The head of an answer without a length, after which the connection ends.
pub(super) fn write_stream_head(out: &mut BytesMut, content_type: &str) {
    let head = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nConnection: close\r\n\
                X-Content-Type-Options: nosniff\r\nContent-Type: ";
    for text in [head, content_type, "\r\n\r\n"] {
        out.extend_from_slice(text.as_bytes());
    }
}

fn is_token(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !name.is_empty() && name.bytes().all(fits)
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        // The phrase is for people and may be empty (RFC 9112, 4).
        _ => "",
    }
}

/// About what a head takes, so that an answer finds its room at once.
const HEAD_BYTES: usize = 256;
