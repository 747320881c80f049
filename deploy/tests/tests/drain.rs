//! How a box goes: it takes nobody in, what is on its way arrives, and what never would does not hold it up.

use std::io::{Read, Write};
use std::net::TcpStream;

use caldera_tests::service::Service;
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

const BODY: &[u8] = b"half of it before the signal, half of it after";

/// An upload of which the box has taken the head and half of the body.
fn half_an_upload(service: &Service) -> TcpStream {
    let mut stream = TcpStream::connect(service.address()).expect("connected");
    let head = format!(
        "PUT /v1/blobs/{} HTTP/1.1\r\nHost: box\r\nAuthorization: Bearer {}\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        hex::encode(Sha256::digest(BODY)),
        service.client("bank").token(),
        BODY.len()
    );
    stream.write_all(head.as_bytes()).expect("written");
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).expect("an answer");
    assert!(go_on.starts_with(b"HTTP/1.1 100 "), "{go_on:?}");
    stream.write_all(&BODY[..20]).expect("written");
    stream
}

/// Tells the box to go, and waits until nobody can come in.
fn begin_to_stop(service: &Service) {
    service.signal(Signal::SIGTERM);
    while TcpStream::connect(service.address()).is_ok() {}
}

#[test]
fn what_is_on_its_way_arrives() {
    // An hour: the box goes when the answer has left, and not when its time is up.
    let limits = "[limits]\ndrain_ms = 3600000\nbody_gap_ms = 3600000\n";
    let service = Service::start(&[("bank", "financial")], limits);
    let mut upload = half_an_upload(&service);
    begin_to_stop(&service);
    upload.write_all(&BODY[20..]).expect("written");
    let mut answer = String::new();
    upload.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn what_never_arrives_holds_nobody_up() {
    // The upload has an hour, and the box a fifth of a second.
    let limits = "[limits]\ndrain_ms = 200\nbody_gap_ms = 3600000\n";
    let service = Service::start(&[("bank", "financial")], limits);
    let mut upload = half_an_upload(&service);
    begin_to_stop(&service);
    assert_eq!(service.stop(), Some(0));
    // An end or a reset, and no answer that says that it is stored.
    let mut answer = String::new();
    let _ = upload.read_to_string(&mut answer);
    assert!(!answer.contains(" 201 "), "{answer}");
}
