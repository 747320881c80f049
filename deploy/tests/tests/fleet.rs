//! `caldera fleet` and the process that it asks, of which a thread of this test plays the part.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use caldera_tests::programs::{self, Run, run};
use serde_json::{Value, json};

/// Runs `caldera fleet` against a socket that answers once, and gives what was asked of it.
fn ask(arguments: &[&str], status: u16, answer: &Value) -> (Run, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("control.sock");
    let listener = UnixListener::bind(&socket).expect("listening");
    let mut command = std::process::Command::new(programs::caldera());
    command
        .arg("fleet")
        .args(arguments)
        .arg("--socket")
        .arg(&socket);
    std::thread::scope(|scope| {
        let told = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let mut asked = String::new();
            let mut buffer = [0; 4096];
            while !is_whole(&asked) {
                let count = stream.read(&mut buffer).expect("a request");
                assert!(count > 0, "{asked}");
                asked += std::str::from_utf8(&buffer[..count]).expect("text");
            }
            let body = answer.to_string();
            let text = format!(
                "HTTP/1.1 {status} It\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(text.as_bytes()).expect("answered");
            asked
        });
        let run = run(command);
        (run, told.join().expect("it was asked"))
    })
}

/// Whether a request has come to its end.
fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let lines = head.lines();
    let length = lines.filter_map(|line| line.split_once(": "));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.next().is_none_or(|(_, length)| {
        length
            .parse::<usize>()
            .is_ok_and(|length| body.len() >= length)
    })
}

fn status() -> Value {
    json!({
        "box": "0123456789abcdef0123456789abcdef", "boot": 3, "draining": true,
        "calderad": { "connected": true, "error": null },
        "broker": { "connected": false, "server": null, "version": null, "error": "it is too old" },
        "submitter": { "jobs": 4, "waiting": 1, "placed": 3,
                       "loans": [{ "box": "ff", "rate": 2000, "leftMs": 9000, "hasCredit": false }] },
        "lender": { "offered": 8, "room": 6, "held": 2, "loans": [{ "box": "fe", "rate": 50, "leftMs": 60000 }] },
        "boxes": [{ "box": "ff", "boot": 9, "heardMs": 840, "room": 4, "cores": 16,
                    "speed": 1000, "price": 0, "avoidedMs": null }],
        "totals": { "taken": 120, "committed": 110 },
    })
}

#[test]
fn how_a_fleet_stands_is_shown_and_it_is_emptied() {
    let (shown, asked) = ask(&["status"], 200, &status());
    assert!(asked.starts_with("GET /status HTTP/1.1\r\n"), "{asked}");
    let shown = shown.expect_success();
    for part in [
        "box 0123456789abcdef0123456789abcdef, boot 3, draining\n",
        "calderad: connected\n",
        "broker: not connected: it is too old\n",
        "lent: 4 jobs, 3 placed, 1 wait\n",
        "for others: 2 held, room for 6 of 8\n",
        "loan to fe: 50 core-ms a second, 60000 ms left\n",
        "loan by ff: 2000 core-ms a second, 9000 ms left, used up for now\n",
        "committed 110",
        "840",
    ] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    let (shown, _) = ask(&["status", "--json"], 200, &status());
    let shown: Value = serde_json::from_str(&shown.expect_success()).expect("JSON");
    assert_eq!(shown, status());

    for (arguments, body) in [
        (&["drain"][..], r#"{"drain":true}"#),
        (&["drain", "--off"], r#"{"drain":false}"#),
    ] {
        let (run, asked) = ask(arguments, 200, &status());
        run.expect_success();
        assert!(asked.starts_with("POST /drain HTTP/1.1\r\n"), "{asked}");
        assert!(asked.ends_with(body), "{asked}");
    }
    // It is empty at once, or it is said what is left.
    let empty =
        json!({ "box": "1", "boot": 1, "lender": { "held": 0 }, "submitter": { "jobs": 0 } });
    let (run, asked) = ask(&["leave"], 200, &empty);
    assert!(run.expect_success().contains("nothing is left"), "{asked}");
    assert!(asked.ends_with(r#"{"drain":true}"#), "{asked}");
    let (late, _) = ask(&["leave", "--timeout", "0"], 200, &status());
    assert!(
        late.stderr
            .contains("it holds 2 jobs of others, and 4 of this box"),
        "{late}"
    );
    assert_ne!(late.code, Some(0));
    let (grant, revoke) = (
        ["loan", "grant", "ff", "--rate", "2000"],
        ["loan", "revoke", "ff"],
    );
    for (arguments, body) in [
        (
            &[&grant[..], &["--seconds", "60"]].concat()[..],
            json!({ "grant": { "box": "ff", "rate": 2000, "seconds": 60 } }),
        ),
        (&revoke, json!({ "revoke": { "box": "ff" } })),
    ] {
        let (run, asked) = ask(arguments, 200, &status());
        assert!(run.expect_success().contains("loan by ff"), "{asked}");
        assert!(asked.starts_with("POST /loans HTTP/1.1\r\n"), "{asked}");
        let (_, asked) = asked.split_once("\r\n\r\n").expect("a body");
        assert_eq!(serde_json::from_str::<Value>(asked).expect("JSON"), body);
    }
    // Of what is not known yet nothing is made up, and what is refused is told.
    let (shown, _) = ask(&["status"], 200, &json!({ "box": "1", "boot": 1 }));
    let shown = shown.expect_success();
    assert!(shown.contains("broker: not known\n"), "{shown}");
    let (refused, _) = ask(&["drain"], 404, &json!({ "error": "what?" }));
    assert!(refused.stderr.contains("HTTP status 404"), "{refused}");
    assert_ne!(refused.code, Some(0));
}

#[test]
fn a_fleet_that_does_not_run_is_told() {
    let mut command = std::process::Command::new(programs::caldera());
    command.args(["fleet", "status", "--socket", "/nowhere/control.sock"]);
    let unreachable = run(command).expect_code(69);
    assert!(
        unreachable.stderr.contains("/nowhere/control.sock"),
        "{unreachable}"
    );
}
