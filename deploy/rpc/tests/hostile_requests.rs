//! Requests that two implementations could read in two ways, each refused with its own error.
//!
//! The first part is the list of malformed requests that other servers and parsers were seen to
//! take: request smuggling lives in the gap between what a proxy and a server believe. Each is
//! followed by a second, whole request, because that is what an attacker would hide: it must never
//! come out as an event.

use std::time::Duration;

use caldera_rpc::http::{Connection, Disposition, Event, HttpError, Limits};

const NOW: Duration = Duration::ZERO;
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// Feeds bytes, accepts every body, answers nothing; gives the events and how it ended.
fn feed(connection: &mut Connection, bytes: &[u8]) -> (Vec<Event>, Option<HttpError>) {
    let mut events = Vec::new();
    let mut rest = bytes;
    loop {
        let taken = connection.receive(rest, NOW);
        rest = &rest[taken..];
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
        if rest.is_empty() || taken == 0 {
            return (events, None);
        }
    }
}

/// The error that a request ends with. It must be answered, the connection must close, and
/// nothing that follows may be read.
fn refused(request: &str) -> HttpError {
    let mut connection = Connection::new(Limits::default(), NOW);
    let bytes = format!("{request}{HIDDEN}");
    let (events, error) = feed(&mut connection, bytes.as_bytes());
    let error = error.unwrap_or_else(|| panic!("taken: {request:?} as {events:?}"));
    for event in &events {
        assert_ne!(*event, Event::End, "{request:?}");
        if let Event::Head(head) = event {
            assert_ne!(head.path, "/hidden", "{request:?}");
        }
    }
    let answer = String::from_utf8(connection.output().to_vec()).unwrap();
    let status = error.status();
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    connection.sent(answer.len(), NOW);
    assert_eq!(connection.disposition(), Disposition::Linger);
    let (events, error) = feed(&mut connection, HIDDEN.as_bytes());
    assert!(events.is_empty());
    assert_eq!(error, None);
    assert!(connection.output().is_empty());
    error_or(error, status);
    assert_eq!(connection.poll(NOW), Ok(None));
    refused_once(request)
}

fn error_or(error: Option<HttpError>, status: u16) {
    assert!(error.is_none(), "a second error after status {status}");
}

fn refused_once(request: &str) -> HttpError {
    let mut connection = Connection::new(Limits::default(), NOW);
    feed(&mut connection, request.as_bytes())
        .1
        .expect("refused without what follows, too")
}
