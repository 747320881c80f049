//! The program: what it says where it cannot begin, and that it begins, tells how it is, drains and stops where nobody else is there.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use caldera_fleet::config::Config;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_calderad-fleet"));
    program.env_remove("CALDERA_LOG");
    program
}

fn done(arguments: &[&str]) -> Output {
    program().args(arguments).output().expect("it runs")
}

/// A fleet of one box, with nobody to talk to. Returns the path of its configuration.
fn a_box(folder: &Path) -> String {
    let fleet = folder.join("fleet");
    let fleet = fleet.to_str().expect("a path");
    let node_key = "ab".repeat(32);
    assert!(done(&["init", fleet]).status.success());
    let admitted = done(&["admit", fleet, "--node-key", &node_key]);
    assert!(admitted.status.success(), "{admitted:?}");
    let own = std::fs::read_dir(fleet).expect("a folder").flatten();
    let own = own.map(|it| it.path()).find(|it| it.is_dir());
    let own = own.expect("a folder of the box");
    let secret = own.join("fleet.hex");
    std::fs::write(&secret, "11".repeat(32)).expect("a secret");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&secret, private).expect("it is set");
    let text = format!(
        "node_key = '{node_key}'\nstate = '.'\ncontrol_socket = 'control.sock'\n\
         certificate = 'box.crt'\nkey = 'box.key'\nca = 'ca.crt'\n\
         [nats]\nurls = ['tls://127.0.0.1:1']\nnkey_seed_file = 'box.nk'\nreplicas = 1\n\
         [transfer]\nlisten = '127.0.0.1:0'\nadvertise = '127.0.0.1:7421'\n\
         [calderad]\nsocket = 'nobody.sock'\nsecret_file = 'fleet.hex'\n"
    );
    let path = own.join("fleet.toml");
    std::fs::write(&path, text).expect("a configuration");
    path.to_str().expect("a path").to_owned()
}

/// A box is admitted, joins by what it is told, and is dismissed; what cannot be is named, and nothing is half done.
#[test]
fn a_box_joins_and_is_dismissed() {
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = folder.path().join("fleet");
    let fleet = fleet.to_str().expect("a path");
    assert!(done(&["init", fleet]).status.success());
    let node_key = "ab".repeat(32);
    assert!(
        done(&["admit", fleet, "--node-key", &node_key])
            .status
            .success()
    );
    let who = caldera_fleet::BoxId::of_node_key(&node_key).expect("a key");
    let name = format!("{:032x}", who.0);
    let own = format!("{fleet}/box-{name}");
    let accounts = || std::fs::read_to_string(format!("{fleet}/accounts.conf")).expect("accounts");
    assert!(accounts().contains(&name));

    let urls = "tls://nats-1:4222,tls://nats-2:4222";
    let join = ["join", &own, "--servers", urls];
    let refused = |more: &[&str], says: &str| {
        let refused = done(&[&join[..], more].concat());
        assert_ne!(refused.status.code(), Some(0), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(says), "{said}");
        assert!(!Path::new(&own).join("fleet.toml").exists(), "{says}");
    };
    refused(
        &["--advertise", "0.0.0.0:7421"],
        "transfer.advertise: expected",
    );
    let there = ["--advertise", "192.0.2.7:7421"];
    refused(
        &[&there[..], &["--replicas", "2"]].concat(),
        "nats.replicas: expected 1, 3 or 5",
    );
    refused(&[&there[..], &["--lend", "guests"]].concat(), "--lend-jobs");
    let lend = [
        "--lend",
        "guests",
        "--lend-secret-file",
        "g.hex",
        "--lend-jobs",
        "4",
    ];
    let none = [&there[..], &lend, &["--lend-cores", "0"]].concat();
    refused(&none, "lend.cores: expected");

    let all = [&join[..], &there, &lend, &["--lend-cores", "8"]].concat();
    let joined = done(&all);
    assert!(joined.status.success(), "{joined:?}");
    let path = Path::new(&own).join("fleet.toml");
    let config = Config::open(&path).expect("a configuration");
    assert_eq!(config.me, who);
    assert_eq!(config.nats.urls.join(","), urls);
    assert_eq!(config.nats.nkey_seed_file, Path::new(&own).join("box.nk"));
    let lends = config.lend.expect("it lends");
    assert_eq!((lends.jobs, lends.cores), (4, 8));
    // What is there is not written over.
    let written = std::fs::read_to_string(&path).expect("it was written");
    let again = done(&[&join[..], &there].concat());
    assert_eq!(again.status.code(), Some(78), "{again:?}");
    assert_eq!(
        std::fs::read_to_string(&path).expect("it is there"),
        written
    );

    let dismiss = |name: &str| done(&["dismiss", fleet, "--box", name]);
    let wrong = dismiss("ab");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("32 hexadecimal digits"));
    assert!(dismiss(&name).status.success());
    assert!(!accounts().contains(&name));
    assert!(!Path::new(&own).exists());
    let stranger = dismiss(&name);
    assert_eq!(stranger.status.code(), Some(78));
    let said = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(said.contains("expected one of the 0 boxes"), "{said}");
}

fn ask(socket: &Path, request: &str, body: &str) -> (String, Value) {
    let (status, body) = ask_text(socket, request, body);
    (status, serde_json::from_str(&body).expect("JSON"))
}

fn ask_text(socket: &Path, request: &str, body: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).expect("somebody listens");
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.lines().next().unwrap_or_default().to_owned();
    (status, body.to_owned())
}

#[test]
fn a_box_that_is_alone_tells_how_it_is_and_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = a_box(folder.path());
    let socket = Path::new(&config).with_file_name("control.sock");
    let mut running = program()
        .args(["run", "--config", &config])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(running.stderr.take().expect("a log")).lines();
    // Others may have said that nobody answers them.
    let first = loop {
        let line = lines.next().expect("a line").expect("text");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        if line["fields"]["message"] == "calderad-fleet runs" {
            break line;
        }
    };
    assert_eq!(first["fields"]["boot"], 1);
    let mode = std::fs::metadata(&socket)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let (status, is) = ask(&socket, "GET /status", "");
    assert!(status.ends_with("200 OK"), "{status}");
    assert_eq!((&is["boot"], &is["draining"]), (&json!(1), &json!(false)));
    assert_eq!(
        is["lender"],
        json!({"offered": 0, "room": 0, "held": 0, "loans": []})
    );
    assert_eq!(
        is["submitter"],
        json!({"jobs": 0, "waiting": 0, "placed": 0, "loans": []})
    );
    assert_eq!(is["broker"]["connected"], false);
    let (_, is) = ask(&socket, "POST /drain", r#"{"drain":true}"#);
    assert_eq!(is["draining"], true);
    // Each figure once, with its kind.
    let (status, text) = ask_text(&socket, "GET /metrics", "");
    assert!(status.ends_with("200 OK"), "{status}");
    for (name, value) in [
        ("calderad_fleet_boot", 1),
        ("calderad_fleet_draining", 1),
        ("calderad_fleet_broker_connected", 0),
        ("calderad_fleet_boxes", 0),
        ("calderad_fleet_held", 0),
        ("calderad_fleet_committed_total", 0),
        ("calderad_fleet_forged_total", 0),
    ] {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        let sample = format!("# TYPE {name} {kind}\n{name} {value}\n");
        assert_eq!(text.matches(&sample).count(), 1, "{sample} in\n{text}");
    }
    let (_, is) = ask(&socket, "POST /drain", r#"{"drain":false}"#);
    assert_eq!(is["draining"], false);
    let (status, _) = ask(&socket, "POST /drain", "{}");
    assert!(status.contains("400"), "{status}");

    // Another process of the same box is none.
    let second = done(&["run", "--config", &config]);
    assert_eq!(second.status.code(), Some(70), "{second:?}");

    let pid = Pid::from_raw(running.id() as i32);
    kill(pid, Signal::SIGTERM).expect("it is told");
    assert_eq!(running.wait().expect("it ends").code(), Some(0));
    // Nothing secret was said.
    let seed = std::fs::read_to_string(Path::new(&config).with_file_name("box.nk"));
    let seed = seed.expect("a seed");
    for line in lines.map_while(Result::ok) {
        assert!(
            !line.contains(seed.trim()) && !line.contains(&"11".repeat(32)),
            "{line}"
        );
    }
}

#[test]
fn what_cannot_be_used_is_said_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = a_box(folder.path());
    let path = Path::new(&config);
    let says = |file: &str, text: &str, code: i32, what: &str| {
        let file = path.with_file_name(file);
        let before = std::fs::read(&file).expect("a file");
        std::fs::write(&file, text).expect("it is written");
        let ended = done(&["run", "--config", &config]);
        let log = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{log}");
        assert!(log.contains(what), "{log}");
        std::fs::write(&file, before).expect("it is written");
    };
    says("fleet.toml", "state = 1", 78, "fleet.toml");
    says("fleet.hex", "11", 78, "64 hexadecimal digits");
    says("box.nk", "SUA", 78, "expected the seed of a user");
    says("box.crt", "nothing", 78, "expected certificates in PEM");
    let fleet = folder.path().join("fleet");
    let fleet = fleet.to_str().expect("a path");
    // A key that is there is not made anew.
    let again = done(&["init", fleet]);
    assert_eq!(again.status.code(), Some(78), "{again:?}");
    let again = done(&["admit", fleet, "--node-key", &"ab".repeat(32)]);
    assert_eq!(again.status.code(), Some(78), "{again:?}");
    let short = done(&["admit", fleet, "--node-key", "ab"]);
    assert_eq!(short.status.code(), Some(78), "{short:?}");
}
