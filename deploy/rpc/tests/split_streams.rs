//! However the network cuts a stream, the same requests come out of it; whatever it holds, nothing
//! panics.
//!
//! One run gets the bytes whole, another in pieces cut anywhere. Both answer each request at its
//! end. Events (with neighbouring pieces of a body joined) and the final error must be equal.

use std::time::Duration;

use caldera_rpc::http::{Connection, Disposition, Event, HttpError, Limits, Response};
use proptest::prelude::*;

const NOW: Duration = Duration::ZERO;

#[derive(Debug, Default, PartialEq)]
struct Read {
    heads: Vec<String>,
    bodies: Vec<Vec<u8>>,
    ends: usize,
    error: Option<HttpError>,
    output: Vec<u8>,
}

/// Serves a stream that comes in pieces, like a node would.
fn serve<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut connection = Connection::new(Limits::default(), NOW);
    let mut read = Read::default();
    for mut piece in pieces {
        loop {
            let taken = connection.receive(piece, NOW);
            piece = &piece[taken..];
            drain(&mut connection, &mut read);
            if piece.is_empty() {
                break;
            }
            assert!(taken > 0 || connection.room() > 0, "nothing moves");
        }
    }
    connection.end_of_stream();
    drain(&mut connection, &mut read);
    assert!(
        matches!(connection.disposition(), Disposition::Close),
        "{connection:?}"
    );
    read
}

fn drain(connection: &mut Connection, read: &mut Read) {
    loop {
        let output = connection.output().len();
        if output > 0 {
            read.output.extend_from_slice(connection.output());
            connection.sent(output, NOW);
        }
        match connection.poll(NOW) {
            Ok(None) if connection.output().is_empty() => return,
            Ok(None) => {}
            Ok(Some(Event::Head(head))) => {
                read.heads.push(format!("{head:?}"));
                read.bodies.push(Vec::new());
                if let Err(error) = connection.accept_body(100_000, NOW) {
                    assert_eq!(read.error.replace(error), None);
                }
            }
            Ok(Some(Event::Body(bytes))) => {
                assert!(!bytes.is_empty());
                read.bodies
                    .last_mut()
                    .expect("a head comes first")
                    .extend(&bytes);
            }
            Ok(Some(Event::End)) => {
                read.ends += 1;
                let body = read.bodies.last().expect("a head comes first");
                assert!(connection.respond(&Response::json(200, body), NOW));
            }
            Err(error) => assert_eq!(read.error.replace(error), None),
        }
    }
}

/// Cuts bytes into pieces of the lengths given, over and over.
fn cut<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Requests that are whole, and some that are nearly so.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let body = proptest::collection::vec(any::<u8>(), 0..300);
    let fields = prop_oneof![
        4 => Just(""),
        1 => Just("Expect: 100-continue\r\n"),
        1 => Just("Connection: close\r\n"),
        1 => Just("Authorization: Bearer a.b.c\r\nContent-Type: application/json\r\n"),
        1 => Just("X: \r\nY:  \r\n"),
    ];
    let verb = prop_oneof![Just("POST"), Just("PUT"), Just("HEAD"), Just("DELETE")];
    (verb, fields, body, 0_usize..5, any::<u8>()).prop_map(|(verb, fields, body, kind, at)| {
        let mut bytes = format!("{verb} /a?b HTTP/1.1\r\nHost: h\r\n{fields}").into_bytes();
        match kind {
            0 => bytes.extend(b"\r\n"),
            1 | 2 => {
                bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                bytes.extend(&body);
            }
            _ => {
                bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(1 + at as usize % 64) {
                    bytes.extend(format!("{:x};e\r\n", chunk.len()).bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\nT: x\r\n\r\n");
            }
        }
        if kind == 4 {
            let at = at as usize * 7 % bytes.len();
            bytes[at] = bytes[at].wrapping_add(1);
        }
        bytes
    })
}

proptest! {
    #[test]
    fn cutting_changes_nothing(
        requests in proptest::collection::vec(request(), 1..6),
        lengths in proptest::collection::vec(1_usize..40, 1..8),
    ) {
        let bytes = requests.concat();
        let whole = serve([&bytes[..]]);
        prop_assert_eq!(&serve(cut(&bytes, &lengths)), &whole);
        prop_assert_eq!(&serve(cut(&bytes, &[1])), &whole);
    }

    #[test]
    fn garbage_is_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        lengths in proptest::collection::vec(1_usize..100, 1..4),
    ) {
        prop_assert_eq!(serve(cut(&bytes, &lengths)), serve([&bytes[..]]));
    }
}

/// Whole requests are all served, so that the property above is not one of refusals.
#[test]
fn pipelined_requests_are_served_in_order() {
    let mut bytes = Vec::new();
    for number in 0..100 {
        let body = format!("body {number}");
        let head = format!("POST /{number} HTTP/1.1\r\nHost: h\r\n");
        bytes.extend(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).bytes());
    }
    let read = serve([&bytes[..]]);
    assert_eq!(read.ends, 100);
    assert_eq!(read.error, None);
    let answers = String::from_utf8(read.output).unwrap();
    let bodies: Vec<&str> = answers
        .split("\r\n\r\n")
        .skip(1)
        .map(|part| part.split("HTTP/1.1").next().unwrap_or_default())
        .collect();
    let expected: Vec<String> = (0..100).map(|number| format!("body {number}")).collect();
    assert_eq!(bodies, expected);
}
