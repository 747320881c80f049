//! However a stream is cut, the same requests come out of it. The first byte says where to cut;
//! the rest is the stream.

use std::time::Duration;

use caldera_rpc::http::{Connection, Disposition, Event, Limits, Response};

pub(crate) fn run(data: &[u8]) {
    let Some((seed, stream)) = data.split_first() else {
        return;
    };
    let whole = serve(stream, stream.len().max(1));
    assert_eq!(serve(stream, usize::from(*seed % 17) + 1), whole);
}

/// Serves a stream in pieces of one length; gives everything that could be seen of it.
fn serve(stream: &[u8], length: usize) -> Vec<String> {
    let mut connection = Connection::new(Limits::default(), NOW);
    let mut seen = vec![String::new()];
    for mut piece in stream.chunks(length) {
        while !piece.is_empty() {
            let taken = connection.receive(piece, NOW);
            piece = &piece[taken..];
            drain(&mut connection, &mut seen);
            assert!(connection.room() > 0, "nothing moves");
        }
    }
    connection.end_of_stream();
    drain(&mut connection, &mut seen);
    assert_eq!(connection.disposition(), Disposition::Close);
    assert_eq!(connection.expire(Duration::MAX), Ok(()));
    seen
}

fn drain(connection: &mut Connection, seen: &mut Vec<String>) {
    loop {
        connection.sent(connection.output().len(), NOW);
        match connection.poll(NOW) {
            Ok(None) if connection.output().is_empty() => return,
            Ok(None) => {}
            Ok(Some(Event::Head(head))) => {
                seen.push(format!("{head:?}"));
                if let Err(error) = connection.accept_body(10_000, NOW) {
                    seen.push(format!("{error:?}"));
                }
                seen.push(String::new());
            }
            // Pieces are joined, for their lengths do depend on the cut.
            Ok(Some(Event::Body(bytes))) => {
                if let Some(body) = seen.last_mut() {
                    body.extend(bytes.iter().map(|byte| char::from(*byte)));
                }
            }
            Ok(Some(Event::End)) => {
                seen.push("end".to_owned());
                assert!(connection.respond(&Response::new(200), NOW));
            }
            Err(error) => seen.push(format!("{error:?}")),
        }
    }
}

const NOW: Duration = Duration::ZERO;
