//! What a status call asks of the allocator, from the bytes of its request to those of its answer: it is the call that is
//! made most, and each allocation is a few tens of nanoseconds on the one thread that serves all connections.
//!
//! The allocator of this program counts what the thread of the test asks for. The bound is what was counted when this
//! was written, so one more is either found here or has a reason.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use caldera_rpc::auth::{Keyring, Secret, sign};
use caldera_rpc::http::{Connection, Event, Limits, Response};
use caldera_rpc::jsonrpc::{self, Response as Answer};
use caldera_rpc::methods::{Digest, JobName, JobState, JobStatus, JobWait, Method};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to `System` unchanged; counting does not allocate, because the
// cell is made at compile time and needs no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; the pointer came from `System` by way of this allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` by way of `alloc` or `realloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_status_call_allocates_little() {
    let mut ring = Keyring::new(Secret::from_bytes([9; 32]));
    ring.insert("rollup", Secret::from_bytes([1; 32]));
    let token = sign("rollup", &Secret::from_bytes([1; 32]), NOW_S);
    let status = JobStatus {
        job: JobName(0x0123_4567_89ab_cdef),
        circuit: Digest([0xa5; 32]),
        state: JobState::Proved,
        progress: 1.0,
        submitted_ms: 1_800_000_000_123,
        deadline_ms: None,
        started_ms: Some(12.345_678),
        finished_ms: Some(98.765_432),
        late: None,
        error: None,
    };
    let call = format!(
        r#"{{"id":1,"jsonrpc":"2.0","method":"{}","params":{{"job":"{}"}}}}"#,
        Method::Status.name(),
        status.job
    );
    let request = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1:8645\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{call}",
        call.len()
    );

    let mut connection = Connection::new(Limits::default(), Duration::ZERO);
    // What a connection keeps is found by its first requests.
    let mut counts = [0; 4];
    for (round, counted) in (0..).zip(&mut counts) {
        let now = Duration::from_secs(round);
        let before = ALLOCATIONS.with(Cell::get);
        serve(&mut connection, &request, &ring, &status, now);
        *counted = ALLOCATIONS.with(Cell::get) - before;
    }
    assert_eq!(counts[2], counts[3], "{counts:?}");
    assert!(counts[3] <= ALLOCATIONS_MAX, "{counts:?}");
}

/// Does what a server does with one call.
fn serve(
    connection: &mut Connection,
    request: &str,
    ring: &Keyring,
    status: &JobStatus,
    now: Duration,
) {
    connection.receive(request.as_bytes(), now);
    let Ok(Some(Event::Head(head))) = connection.poll(now) else {
        panic!("expected a head");
    };
    assert_eq!(head.path, "/");
    let caller = ring.verify(head.authorization.as_deref(), NOW_S);
    assert_eq!(caller, Ok("rollup"));
    drop(head);
    connection.accept_body(1 << 20, now).expect("short enough");
    let mut body = Vec::new();
    while let Some(event) = connection.poll(now).expect("a request") {
        match event {
            Event::Body(bytes) => body.extend_from_slice(&bytes),
            Event::End => break,
            Event::Head(_) => panic!("expected one head"),
        }
    }
    let message = jsonrpc::parse(&body).expect("a call");
    assert!(!message.batch);
    let mut answers = Vec::with_capacity(message.entries.len());
    for entry in message.entries {
        let call = entry.expect("a call");
        assert_eq!(Method::from_name(&call.method), Some(Method::Status));
        let query: JobWait = call.params.decode().expect("a job");
        assert_eq!(query.job, status.job);
        let id = call.id.expect("an id");
        answers.push(Answer::result(id, status));
    }
    let body = jsonrpc::encode(message.batch, &answers).expect("an answer");
    assert!(connection.respond(&Response::json(200, &body), now));
    assert!(connection.output().ends_with(&body));
    connection.sent(connection.output().len(), now);
    assert_eq!(connection.poll(now), Ok(None));
}

const NOW_S: u64 = 1_800_000_000;
const ALLOCATIONS_MAX: u64 = 12;
