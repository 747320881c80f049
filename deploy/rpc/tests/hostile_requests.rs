//! Requests that two implementations could read in two ways, each refused with its own error.
//!
//! Request smuggling lives in the gap between what a proxy and a server believe, so the table holds
//! the malformed requests that other servers and parsers were seen to take. Each is followed by a
//! second, whole request, because that is what an attacker hides: it must never come out.

use std::time::Duration;

use caldera_rpc::http::{BodyKind, Connection, Disposition, Event, HttpError, Limits};

const NOW: Duration = Duration::ZERO;
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// Feeds bytes, accepts every body, answers nothing; gives the events and how it ended.
fn feed(connection: &mut Connection, mut bytes: &[u8]) -> (Vec<Event>, Option<HttpError>) {
    let mut events = Vec::new();
    loop {
        let taken = connection.receive(bytes, NOW);
        bytes = &bytes[taken..];
        loop {
            match connection.poll(NOW) {
                Ok(Some(event)) => {
                    let is_head = matches!(event, Event::Head(_));
                    events.push(event);
                    if is_head && let Err(error) = connection.accept_body(1024 * 1024, NOW) {
                        return (events, Some(error));
                    }
                }
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        if bytes.is_empty() || taken == 0 {
            return (events, None);
        }
    }
}

/// The error that a request ends with. It is answered, the connection closes, and nothing that
/// follows is read.
fn refused(request: &str) -> HttpError {
    let mut connection = Connection::new(Limits::default(), NOW);
    let (events, error) = feed(&mut connection, format!("{request}{HIDDEN}").as_bytes());
    let Some(error) = error else {
        panic!("taken: {request:?} as {events:?}");
    };
    for event in &events {
        assert_ne!(*event, Event::End, "{request:?}");
        if let Event::Head(head) = event {
            assert_ne!(head.path, "/hidden", "{request:?}");
        }
    }
    let answer = String::from_utf8(connection.output().to_vec()).expect("an answer in ASCII");
    let start = format!("HTTP/1.1 {} ", error.status());
    assert!(answer.starts_with(&start), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    connection.sent(answer.len(), NOW);
    assert_eq!(connection.disposition(), Disposition::Linger);
    assert_eq!(feed(&mut connection, HIDDEN.as_bytes()), (vec![], None));
    assert!(connection.output().is_empty());
    error
}

/// A request with these lines after its `Host`, and this behind its head.
fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn contradictory_framing() {
    use HttpError::{ContentLength, Repeated, TransferEncoding, TwoFramings};
    for (fields, expected) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            TwoFramings,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            TwoFramings,
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            Repeated("Content-Length"),
        ),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            Repeated("Content-Length"),
        ),
        ("Content-Length: 5, 5\r\n", ContentLength),
        ("Content-Length: +5\r\n", ContentLength),
        ("Content-Length: -5\r\n", ContentLength),
        ("Content-Length: 0x5\r\n", ContentLength),
        ("Content-Length: 5 5\r\n", ContentLength),
        ("Content-Length: five\r\n", ContentLength),
        ("Content-Length: \r\n", ContentLength),
        ("Content-Length: 18446744073709551621\r\n", ContentLength),
        ("Content-Length: 9223372036854775808\r\n", ContentLength),
        ("Transfer-Encoding: xchunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked, identity\r\n", TransferEncoding),
        ("Transfer-Encoding: gzip, chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked, chunked\r\n", TransferEncoding),
        ("Transfer-Encoding: identity\r\n", TransferEncoding),
        ("Transfer-Encoding: \"chunked\"\r\n", TransferEncoding),
        ("Transfer-Encoding: chunked;q=1\r\n", TransferEncoding),
        ("Transfer-Encoding: \r\n", TransferEncoding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            TransferEncoding,
        ),
        (
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            TransferEncoding,
        ),
    ] {
        assert_eq!(refused(&post(fields, "0\r\n\r\n")), expected, "{fields:?}");
    }
    assert_eq!(
        refused("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        HttpError::TransferEncodingInOldVersion
    );
}

#[test]
fn lines_that_end_or_begin_oddly() {
    use HttpError::{BareCarriageReturn, BareLineFeed, ControlByte, Folded};
    for (request, expected) in [
        ("GET / HTTP/1.1\nHost: a\n\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLineFeed),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLineFeed),
        (
            "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
            BareCarriageReturn,
        ),
        ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", BareCarriageReturn),
        ("GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", Folded),
        ("GET / HTTP/1.1\r\nHost: a\r\n\tX: b\r\n\r\n", Folded),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Folded),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Folded),
        ("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", ControlByte(0)),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", ControlByte(0)),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: \x0b\r\n\r\n",
            ControlByte(11),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
            ControlByte(127),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\t0\r\n\r\n",
            ControlByte(9),
        ),
    ] {
        assert_eq!(refused(request), expected, "{request:?}");
    }
}

#[test]
fn lines_that_are_no_request() {
    for request in [
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "GET\r\nHost: a\r\n\r\n",
        "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}",
    ] {
        assert_eq!(refused(request).status(), 400, "{request:?}");
    }
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "http/1.1", "HTTP/1.1x"] {
        let status = refused(&format!("GET / {version}\r\nHost: a\r\n\r\n")).status();
        assert!(matches!(status, 505 | 400), "{version}");
    }
    assert_eq!(
        refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        HttpError::Version
    );
    for method in ["TRACE", "CONNECT", "PATCH", "get", "PRI"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(refused(&request), HttpError::MethodUnknown);
    }
}

#[test]
fn odd_targets() {
    for target in [
        "http://a/",
        "a:80",
        "a",
        "*",
        "\\a",
        "/a#b",
        "/a\\b",
        "/a\"b",
        "/a<b>",
        "/é",
        "?a",
        "/..",
        "/./a",
        "/a/../b?c",
        "/%",
        "/%2",
        "/%zz",
        "/%00",
        "/%2e%2E/a",
        "/?%",
    ] {
        assert_eq!(refused(&get(target)), HttpError::Target, "{target}");
    }
    let long = format!("/{}", "a".repeat(2048));
    assert_eq!(
        refused(&get(&long)),
        HttpError::TargetTooLong {
            max: 2048,
            got: 2049
        }
    );
}

#[test]
fn hosts() {
    for (fields, got) in [
        ("", 0),
        ("Host: a\r\nHost: b\r\n", 2),
        ("Host: a\r\nhost: a\r\n", 2),
    ] {
        for version in ["1.0", "1.1"] {
            let request = format!("GET / HTTP/{version}\r\n{fields}\r\n");
            assert_eq!(refused(&request), HttpError::HostCount { got });
        }
    }
    for host in [
        "", ".", "a..b", ".a", "a b", "a/b", "a@b", "a,b", ":80", "a:b", "a:123456", "[::1", "[x]",
        "[::1]x", "é",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(refused(&request), HttpError::Host, "{host:?}");
    }
}

#[test]
fn fields_with_one_meaning() {
    for (fields, expected) in [
        ("Expect: 200-ok\r\n", HttpError::Expectation),
        (
            "Expect: 100-continue\r\nExpect: 100-continue\r\n",
            HttpError::Repeated("Expect"),
        ),
        ("Content-Encoding: gzip\r\n", HttpError::ContentEncoding),
        (
            "Content-Type: a/b\r\nContent-Type: a/b\r\n",
            HttpError::Repeated("Content-Type"),
        ),
        (
            "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
            HttpError::Repeated("Authorization"),
        ),
    ] {
        assert_eq!(refused(&post(fields, "")), expected, "{fields:?}");
    }
}

#[test]
fn heads_that_are_too_long() {
    let limits = Limits::default();
    let max = limits.head_bytes_max;
    let padded = |length: usize| {
        let shell = post("X: \r\n", "").len();
        post(&format!("X: {}\r\n", "a".repeat(length - shell)), "")
    };
    assert_eq!(padded(max).len(), max);
    let mut connection = Connection::new(limits, NOW);
    let (events, error) = feed(&mut connection, padded(max).as_bytes());
    assert_eq!((events.len(), error), (2, None));
    assert_eq!(refused(&padded(max + 1)), HttpError::HeadTooLong { max });
    // The limit holds where no end comes at all.
    assert_eq!(
        refused(&"a".repeat(max + 1)),
        HttpError::HeadTooLong { max }
    );

    let fields = "X: a\r\n".repeat(limits.headers_max - 1);
    let mut connection = Connection::new(limits, NOW);
    let (events, error) = feed(&mut connection, post(&fields, "").as_bytes());
    assert_eq!((events.len(), error), (2, None));
    let fields = "X: a\r\n".repeat(limits.headers_max);
    let max = limits.headers_max;
    assert_eq!(
        refused(&post(&fields, "")),
        HttpError::TooManyFields { max }
    );
}

#[test]
fn chunks() {
    use HttpError::{ChunkEnd, ChunkExtension, ChunkSize, Trailer};
    let long = "a".repeat(300);
    let many =
        "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(70);
    let trailers = "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(100);
    for (body, expected) in [
        ("x\r\n", ChunkSize),
        ("\r\n", ChunkSize),
        ("-1\r\n", ChunkSize),
        ("+1\r\nx\r\n", ChunkSize),
        ("0x1\r\nx\r\n", ChunkSize),
        (" 1\r\nx\r\n", ChunkSize),
        ("1 \r\nx\r\n", ChunkSize),
        ("1,\r\nx\r\n", ChunkSize),
        ("1\nx\r\n", ChunkSize),
        ("1\rx\r\n", ChunkSize),
        ("10000000000000000\r\n", ChunkSize),
        ("fffffffffffffffff\r\n", ChunkSize),
        ("0000000000000001\r\nx\r\n", ChunkSize),
        ("1;a\nx\r\n", ChunkExtension),
        ("1;a\0\r\nx\r\n", ChunkExtension),
        (&format!("1;{long}\r\nx\r\n"), ChunkExtension),
        (&many, ChunkExtension),
        ("1\r\nxx\r\n", ChunkEnd),
        ("1\r\nx\n", ChunkEnd),
        ("1\r\nx\rx", ChunkEnd),
        ("1\r\nx1\r\n", ChunkEnd),
        ("0\r\nno colon\r\n\r\n", Trailer),
        ("0\r\n: x\r\n\r\n", Trailer),
        ("0\r\nX : x\r\n\r\n", Trailer),
        ("0\r\n X: x\r\n\r\n", Trailer),
        ("0\r\nX: x\n\r\n", Trailer),
        ("0\r\nX: \0\r\n\r\n", Trailer),
        ("0\r\n\n", Trailer),
        (&format!("0\r\n{trailers}\r\n"), Trailer),
    ] {
        let request = post("Transfer-Encoding: chunked\r\n", body);
        assert_eq!(refused(&request), expected, "{body:?}");
    }
}

#[test]
fn bodies_that_are_too_long() {
    let max = 1024 * 1024;
    let too_long = HttpError::BodyTooLong { max };
    assert_eq!(refused(&post("Content-Length: 1048577\r\n", "")), too_long);
    let chunked = |body: &str| refused(&post("Transfer-Encoding: chunked\r\n", body));
    assert_eq!(chunked("100001\r\n"), too_long);
    assert_eq!(chunked("fffffffffffffff\r\n"), too_long);
    assert_eq!(chunked("1\r\nx\r\n100000\r\n"), too_long);
}

/// What must go on working beside all that.
#[test]
fn what_is_taken() {
    for (request, body) in [
        (get("/"), BodyKind::None),
        (get("/v1/blobs/00?a=b&c=%20"), BodyKind::None),
        (
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n".to_owned(),
            BodyKind::None,
        ),
        (
            "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            BodyKind::None,
        ),
        (
            "HEAD / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n".to_owned(),
            BodyKind::None,
        ),
        (
            "GET / HTTP/1.1\r\nHost:a.b-c:1\r\nX:\r\nY: \u{e9}\r\n\r\n".to_owned(),
            BodyKind::None,
        ),
        (post("Content-Length: 0\r\n", ""), BodyKind::Length(0)),
        (
            post("content-length:  003 \r\n", "abc"),
            BodyKind::Length(3),
        ),
        (
            post("Transfer-Encoding: Chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            BodyKind::Chunked,
        ),
        (
            post(
                "Transfer-Encoding: chunked\r\n",
                "03;a=\"b\"\r\nabc\r\n0;x\r\nY: z\r\n\r\n",
            ),
            BodyKind::Chunked,
        ),
        (
            post("Connection: Upgrade\r\nUpgrade: h2c\r\n", ""),
            BodyKind::None,
        ),
    ] {
        let mut connection = Connection::new(Limits::default(), NOW);
        let (events, error) = feed(&mut connection, format!("{request}{HIDDEN}").as_bytes());
        assert_eq!(error, None, "{request:?}");
        let Some(Event::Head(head)) = events.first() else {
            panic!("no head: {request:?}");
        };
        assert_eq!(head.body, body, "{request:?}");
        assert_eq!(events.last(), Some(&Event::End), "{request:?}");
    }
}
