//! The dashboard as it is served: to whom, by which methods, with which fields; and what stands between it and a browser.
//! What a browser makes of it is tried in `dashboard/walk.mjs`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use caldera_tests::programs;
use caldera_tests::service::Service;
use serde_json::Value;

const TENANTS: [(&str, &str); 2] = [("bank", "financial"), ("shop", "social")];
const FILES: [(&str, &str); 6] = [
    ("", "text/html; charset=utf-8"),
    ("dashboard.js", "text/javascript; charset=utf-8"),
    ("style.css", "text/css; charset=utf-8"),
    ("icon.svg", "image/svg+xml"),
    ("uPlot.iife.min.js", "text/javascript; charset=utf-8"),
    ("uPlot.min.css", "text/css; charset=utf-8"),
];

/// A request of these lines; the whole answer. The connection ends with it.
fn ask(mut stream: impl Read + Write, request: &str, fields: &[&str], body: &str) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let text =
        format!("{request} HTTP/1.1\r\nHost: box\r\nConnection: close\r\n{fields}\r\n{body}");
    stream.write_all(text.as_bytes()).expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    String::from_utf8(answer).expect("text")
}

fn at_port(service: &Service, request: &str, fields: &[&str]) -> String {
    let stream = TcpStream::connect(service.address()).expect("connected");
    ask(stream, request, fields, "")
}

fn status(answer: &str) -> u16 {
    let line = answer.lines().next().expect("a line");
    let code = line.split(' ').nth(1).expect("a status");
    code.parse().expect("a number")
}

fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(it, _)| *it == name).map(|(_, value)| value)
}

fn bearer(service: &Service, account: &str) -> String {
    format!("Authorization: Bearer {}", service.client(account).token())
}

/// Reads a stream of events up to the end of the next, which is a snapshot.
fn next_snapshot(events: &mut impl BufRead) -> Value {
    let mut lines = events.lines().map(|line| line.expect("text"));
    let name = lines.find(|line| line.starts_with("event: "));
    assert_eq!(name.as_deref(), Some("event: snapshot"));
    let data = lines.next().expect("its data");
    let data = data.strip_prefix("data: ").expect("its data");
    serde_json::from_str(data).expect("JSON")
}

#[test]
fn every_file_comes_with_its_type_and_its_policy_and_is_not_kept() {
    let service = Service::start(&TENANTS, "dashboard = true\n");
    let operator = bearer(&service, "operator");
    for (name, kind) in FILES {
        let answer = at_port(&service, &format!("GET /dashboard/{name}"), &[&operator]);
        assert_eq!(status(&answer), 200, "{name}");
        assert_eq!(field(&answer, "Content-Type"), Some(kind), "{name}");
        assert_eq!(field(&answer, "Cache-Control"), Some("no-store"), "{name}");
        let nosniff = field(&answer, "X-Content-Type-Options");
        assert_eq!(nosniff, Some("nosniff"), "{name}");
        let referrer = field(&answer, "Referrer-Policy");
        assert_eq!(referrer, Some("no-referrer"), "{name}");
        for of in ["Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy"] {
            assert_eq!(field(&answer, of), Some("same-origin"), "{name}");
        }
        let policy = field(&answer, "Content-Security-Policy").expect("a policy");
        let mut directives: Vec<&str> = policy.split("; ").collect();
        directives.sort_unstable();
        let expected = [
            "base-uri 'none'",
            "connect-src 'self'",
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "img-src 'self'",
            "script-src 'self'",
            "style-src 'self'",
        ];
        assert_eq!(directives, expected, "{name}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let length = format!("Content-Length: {}", body.len());
        assert!(head.contains(&length), "{name}");
        // HEAD is the same without the body.
        let short = at_port(&service, &format!("HEAD /dashboard/{name}"), &[&operator]);
        assert_eq!(short, format!("{head}\r\n\r\n"), "{name}");
    }
    assert_eq!(service.stop(), Some(0));
}

/// At the port it is there only where the configuration says so, and then for the operator alone; it is read, never written to.
#[test]
fn it_is_the_operators_and_is_read() {
    let off = Service::start(&TENANTS, "");
    let operator = bearer(&off, "operator");
    for path in ["", "stream", "jobs/0x0000000000000001"] {
        let answer = at_port(&off, &format!("GET /dashboard/{path}"), &[&operator]);
        assert_eq!(status(&answer), 404, "{answer}");
    }
    assert_eq!(off.stop(), Some(0));

    let service = Service::start(&TENANTS, "dashboard = true\n");
    let operator = bearer(&service, "operator");
    for path in ["", "style.css", "stream", "jobs/0x0000000000000001"] {
        let request = format!("GET /dashboard/{path}");
        let answer = at_port(&service, &request, &[]);
        assert_eq!(status(&answer), 401, "{answer}");
        assert_eq!(field(&answer, "WWW-Authenticate"), Some("Bearer"));
        let answer = at_port(&service, &request, &[&bearer(&service, "bank")]);
        assert_eq!(status(&answer), 403, "{answer}");
        assert!(
            answer.contains("the dashboard is the operator's"),
            "{answer}"
        );
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = at_port(
                &service,
                &format!("{method} /dashboard/{path}"),
                &[&operator],
            );
            assert_eq!(status(&answer), 405, "{method} {path}: {answer}");
        }
        // A body makes it another request than the one that is answered.
        let stream = TcpStream::connect(service.address()).expect("connected");
        let answer = ask(stream, &request, &[&operator, "Content-Length: 1"], "x");
        assert_eq!(status(&answer), 405, "{path}: {answer}");
    }
    for (path, expected) in [
        ("GET /dashboard/nothing.js", 404),
        ("GET /dashboard/uplot/LICENSE", 404),
        ("GET /dashboard/jobs/7", 400),
        ("GET /dashboard/jobs/0x0000000000000001?from=x", 400),
        ("GET /dashboard/jobs/0x0000000000000001", 404),
        ("HEAD /dashboard/stream", 405),
        ("GET /dashboard", 404),
    ] {
        let answer = at_port(&service, path, &[&operator]);
        assert_eq!(status(&answer), expected, "{path}: {answer}");
    }
    assert_eq!(service.stop(), Some(0));
}

/// Each who looks has the same snapshots, and they hold what the page shows; a job's profile is the one that its tenant has.
#[test]
fn a_stream_tells_what_is_true_now() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("operator.sock");
    let extra = format!("development = true\noperator_socket = {socket:?}\n");
    let service = Service::start(&TENANTS, &extra);
    let [zkey, witness] = ["made.zkey", "made.wtns"].map(|name| service.folder().join(name));
    let setup = ["setup", "--synthetic", "2^10", "--output"];
    let setup = setup.iter().map(std::ffi::OsStr::new);
    programs::run_caldera(setup.chain([zkey.as_os_str()])).expect_success();
    let bank = service.client("bank");
    let circuit = bank.register(&std::fs::read(zkey).expect("read"), "full");
    let witness = bank.upload(&std::fs::read(witness).expect("read"));
    let submission = serde_json::json!({"circuit": circuit, "witness": witness});
    let job = bank.call("prover_submitV1", submission)["job"].clone();
    assert_eq!(bank.ended(&job)["state"], "proved");

    let operator = bearer(&service, "operator");
    let open = || {
        let mut stream = UnixStream::connect(&socket).expect("connected");
        let request = format!("GET /dashboard/stream HTTP/1.1\r\nHost: box\r\n{operator}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("written");
        let mut events = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            events.read_line(&mut head).expect("a head");
        }
        assert_eq!(status(&head), 200, "{head}");
        assert_eq!(field(&head, "Content-Type"), Some("text/event-stream"));
        assert_eq!(field(&head, "Cache-Control"), Some("no-store"));
        events
    };
    let (mut one, mut other) = (open(), open());
    let first = next_snapshot(&mut one);
    assert_eq!(first["ended"]["proved"], 1, "{first}");
    assert_eq!(first["boundMs"], 100.0);
    assert_eq!(first["jobs"][0]["job"], job);
    assert_eq!(first["jobs"][0]["tenant"], "bank");
    assert_eq!(first["storage"][0]["tenant"], "bank");
    assert!(
        first["storage"][0]["keysBytes"].as_u64() > Some(0),
        "{first}"
    );
    assert!(first.get("era").is_none(), "{first}");
    let told = first["pool"]["tenants"].as_array().expect("tenants");
    let names: Vec<&Value> = told.iter().map(|it| &it["tenant"]).collect();
    assert_eq!(names, ["bank", "shop"]);
    // They are made once for all: the second sees those that the first sees, to the millisecond.
    let seen: Vec<Value> = (0..3).map(|_| next_snapshot(&mut one)).collect();
    let mut there = next_snapshot(&mut other);
    while there["pool"]["upMs"].as_f64() < seen[0]["pool"]["upMs"].as_f64() {
        there = next_snapshot(&mut other);
    }
    assert_eq!(there, seen[0]);
    // A second is made to lie between two of them, however slow this machine is.
    for pair in seen.windows(2) {
        let [a, b] = [0, 1].map(|at| pair[at]["pool"]["upMs"].as_f64().expect("a time"));
        assert!(b - a >= 1e3, "{a} {b}");
    }

    let name = job.as_str().expect("a name");
    let own = bank.call("prover_profileV1", serde_json::json!({"job": job}));
    let stream = UnixStream::connect(&socket).expect("connected");
    let answer = ask(
        stream,
        &format!("GET /dashboard/jobs/{name}"),
        &[&operator],
        "",
    );
    assert_eq!(status(&answer), 200, "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    let shown: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(shown["quanta"], own["quanta"]);
    assert_eq!(shown["stages"], own["stages"]);
    let beyond = format!("GET /dashboard/jobs/{name}?from={}", own["total"]);
    let answer = ask(
        UnixStream::connect(&socket).expect("connected"),
        &beyond,
        &[&operator],
        "",
    );
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    let rest: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(rest["quanta"], serde_json::json!([]), "{rest}");

    // A box that stops ends the streams, and does not wait for who looks.
    assert_eq!(service.stop(), Some(0));
    let mut left = String::new();
    one.read_to_string(&mut left).expect("an end");
}

/// `caldera dashboard`, killed when dropped; and its URL.
struct Bridge {
    child: Child,
    address: String,
    word: String,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(service: &Service, socket: &Path, account: &str) -> Command {
    let mut command = Command::new(programs::caldera());
    command.args(["dashboard", "--tenant", account, "--secret-file"]);
    command.arg(service.folder().join(format!("{account}.secret")));
    command.args(["--url", &format!("unix:{}", socket.display())]);
    command
}

fn bridge(service: &Service, socket: &Path) -> Bridge {
    let mut command = command(service, socket, "operator");
    let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
    let stdout = child.stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let rest = line.trim().strip_prefix("http://").expect("a URL");
    let (address, word) = rest.split_once('/').expect("a path");
    Bridge {
        child,
        address: address.to_owned(),
        word: word.trim_end_matches('/').to_owned(),
    }
}

/// What stands between a browser and the box answers to who knows its word, and reads alone.
#[test]
fn a_browser_is_served_below_the_word_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("operator.sock");
    let service = Service::start(&TENANTS, &format!("operator_socket = {socket:?}\n"));
    let bridge = bridge(&service, &socket);
    assert!(
        bridge.address.starts_with("127.0.0.1:"),
        "{}",
        bridge.address
    );
    assert_eq!(bridge.word.len(), 32);
    let word = &bridge.word;
    let get = |request: &str| {
        let stream = TcpStream::connect(&bridge.address).expect("connected");
        ask(stream, request, &[], "")
    };
    for (name, kind) in FILES {
        let answer = get(&format!("GET /{word}/{name}"));
        assert_eq!(status(&answer), 200, "{name}: {answer}");
        assert_eq!(field(&answer, "Content-Type"), Some(kind));
        assert_eq!(field(&answer, "Cache-Control"), Some("no-store"));
        let policy = field(&answer, "Content-Security-Policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        let direct = UnixStream::connect(&socket).expect("connected");
        let operator = bearer(&service, "operator");
        let direct = ask(direct, &format!("GET /dashboard/{name}"), &[&operator], "");
        let body = |answer: &str| answer.split_once("\r\n\r\n").expect("a head").1.to_owned();
        assert_eq!(body(&answer), body(&direct), "{name}");
    }
    let other = "0".repeat(32);
    for (request, expected) in [
        ("GET /".to_owned(), 404),
        (format!("GET /{other}/"), 404),
        (format!("GET /{word}"), 404),
        ("GET /dashboard/".to_owned(), 404),
        (format!("POST /{word}/"), 405),
        // What has no end has no head alone, here as at the box.
        (format!("HEAD /{word}/stream"), 405),
        // It leads to nothing of the box's but the dashboard.
        (format!("GET /{word}/metrics"), 404),
        (format!("GET /{word}/../livez"), 400),
    ] {
        let answer = get(&request);
        assert_eq!(status(&answer), expected, "{request}: {answer}");
    }
    let mut stream = TcpStream::connect(&bridge.address).expect("connected");
    let request = format!("GET /{word}/stream HTTP/1.1\r\nHost: here\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut events = BufReader::new(stream);
    let snapshot = next_snapshot(&mut events);
    assert!(snapshot["pool"]["units"].is_array(), "{snapshot}");
    // A box that goes ends the stream; then the answer says that it cannot be reached.
    assert_eq!(service.stop(), Some(0));
    let mut rest = String::new();
    events.read_to_string(&mut rest).expect("an end");
    let answer = get(&format!("GET /{word}/"));
    assert_eq!(status(&answer), 502, "{answer}");
}

#[test]
fn who_is_not_the_operator_is_told_before_a_browser_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("operator.sock");
    let service = Service::start(&TENANTS, &format!("operator_socket = {socket:?}\n"));
    let refused = programs::run(command(&service, &socket, "bank"));
    assert_ne!(refused.code, Some(0), "{refused}");
    assert!(refused.stderr.contains("403"), "{refused}");
    let nowhere = programs::run(command(&service, &folder.path().join("none"), "operator"));
    nowhere.expect_code(69);
    assert_eq!(service.stop(), Some(0));
}
