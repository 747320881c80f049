//! The operator's own socket, seen from both sides; and what is held to a limit or kept from others though no secret is wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use caldera_tests::programs::{self, Run, run};
use caldera_tests::service::Service;
use serde_json::{Value, json};

const TENANTS: [(&str, &str); 1] = [("bank", "financial")];

/// `caldera ... --url unix:PATH` as an account of the service.
fn at_socket(service: &Service, socket: &Path, account: &str, arguments: &[&str]) -> Run {
    let mut command = Command::new(programs::caldera());
    command.arg("--json").args(arguments);
    command
        .arg("--url")
        .arg(format!("unix:{}", socket.display()));
    command.args(["--tenant", account, "--secret-file"]);
    command.arg(service.folder().join(format!("{account}.secret")));
    run(command)
}

fn on(socket: &Path) -> String {
    format!("operator_socket = {socket:?}\n")
}

fn is_socket(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|it| it.file_type().is_socket())
}

/// What a socket in the file system answers to a request without a token.
fn ask(socket: &Path, path: &str) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_operator_is_served_at_the_socket_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("operator.sock");
    let service = Service::start(&TENANTS, &on(&socket));
    let mode = socket.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let add = ["tenant", "add", "shop", "--scenario", "financial"];
    at_socket(&service, &socket, "operator", &add).expect_success();
    let list = at_socket(&service, &socket, "operator", &["tenant", "list"]).expect_success();
    assert!(list.contains("\"shop\""), "{list}");

    // At the port the operator's secret is worth nothing, whatever is asked.
    let operator = service.client("operator");
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tenant_listV1"}).to_string();
    let refused = operator.post(&operator.token(), &request);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.body.contains("operator_socket"), "{refused:?}");
    // And a tenant's is worth nothing at the socket.
    let bank = service.client("bank");
    assert!(bank.call("pool_statusV1", json!({}))["units"].is_array());
    let refused = at_socket(&service, &socket, "bank", &["pool"]);
    assert_ne!(refused.code, Some(0), "{refused}");
    assert!(refused.stderr.contains("403"), "{refused}");

    // Who may open it may see whom the box works for; who is on the machine may not.
    let all = ask(&socket, "/metrics");
    assert!(all.contains("tenant=\"shop\""), "{all}");
    let some = bank.get("/metrics").body;
    assert!(
        some.contains("caldera_jobs{tenant=\"*\",state=\"queued\"} 0\n"),
        "{some}"
    );
    assert!(!some.contains("bank") && !some.contains("shop"), "{some}");
    assert_eq!(service.stop(), Some(0));
    assert!(!socket.exists(), "it goes with its process");
}

/// After a kill the file is there and nobody answers; what somebody else has put there is not touched.
#[test]
fn what_lies_at_the_sockets_path_is_looked_at_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("operator.sock");
    let mut service = Service::start(&TENANTS, &on(&socket));
    service.kill();
    assert!(is_socket(&socket), "a killed process removes nothing");
    service.start_again();
    at_socket(&service, &socket, "operator", &["tenant", "list"]).expect_success();

    let start = |path: PathBuf| {
        let config = folder.path().join("calderad.toml");
        let data = folder.path().join("data");
        let tenant = "[[tenant]]\nname = 'bank'\nscenario = 'financial'\n";
        let text = format!(
            "listen = '127.0.0.1:0'\ndata = {data:?}\n{}{tenant}",
            on(&path)
        );
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new(programs::calderad());
        command.arg("--config").arg(config);
        run(command)
    };
    let busy = start(socket.clone()).expect_code(75);
    assert!(
        busy.stderr.contains("another process answers there"),
        "{busy}"
    );
    at_socket(&service, &socket, "operator", &["tenant", "list"]).expect_success();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").expect("written");
    let occupied = start(file.clone()).expect_code(78);
    assert!(
        occupied.stderr.contains("expected a socket or nothing"),
        "{occupied}"
    );
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "mine");
    let far = start(folder.path().join("x".repeat(120))).expect_code(69);
    assert!(far.stderr.contains("operator_socket"), "{far}");
    let nowhere = folder.path().join("nothing.sock");
    let unreachable = at_socket(&service, &nowhere, "operator", &["tenant", "list"]);
    let unreachable = unreachable.expect_code(69);
    assert!(unreachable.stderr.contains("nothing.sock"), "{unreachable}");
}

/// Too many from one address are closed as they come and counted; one that goes makes room. The operator comes in elsewhere.
#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("operator.sock");
    let limits = "[limits]\naddress_connections = 3\n";
    let service = Service::start(&TENANTS, &(on(&socket) + limits));
    let connect = || TcpStream::connect(service.address()).expect("connected");
    // What has been answered has been accepted.
    let live = |mut stream: &TcpStream| {
        let sent = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: box\r\n\r\n");
        let mut status = [0; 12];
        sent.is_ok() && stream.read_exact(&mut status).is_ok() && status.ends_with(b"200")
    };
    let held: Vec<TcpStream> = (0..3).map(|_| connect()).collect();
    for stream in &held {
        assert!(live(stream));
    }
    assert!(!live(&connect()), "the fourth");
    let counted = "caldera_connections_refused_total{limit=\"address_connections\"} 1\n";
    let metrics = ask(&socket, "/metrics");
    assert!(metrics.contains(counted), "{metrics}");
    let mut gone = held.into_iter().next().expect("one of them");
    gone.shutdown(Shutdown::Write).expect("shut down");
    let mut rest = Vec::new();
    gone.read_to_end(&mut rest).expect("the box closes it");
    assert!(live(&connect()), "there is room again");
    assert_eq!(service.stop(), Some(0));
}

/// Beyond its pace a tenant is told when to come back, in a field that every HTTP client knows.
#[test]
fn who_is_too_fast_is_told_when_to_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("operator.sock");
    let service = Service::start(&TENANTS, &on(&socket));
    let add = [
        "tenant",
        "add",
        "shop",
        "--scenario",
        "financial",
        "--requests",
        "1",
    ];
    let added = at_socket(&service, &socket, "operator", &add).expect_success();
    let added: Value = serde_json::from_str(&added).expect("JSON");
    let secret = hex::decode(
        added["secret"]
            .as_str()
            .expect("a secret")
            .trim_start_matches("0x"),
    );
    let shop = caldera_tests::service::Account {
        name: "shop".into(),
        secret: secret.expect("digits").try_into().expect("32 bytes"),
    };
    let shop = caldera_tests::service::Client::new(service.address(), shop);
    let heads: Vec<String> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(service.address()).expect("connected");
            let request = format!(
                "DELETE /v1/blobs/{} HTTP/1.1\r\nHost: box\r\nAuthorization: Bearer {}\r\n\
                 Connection: close\r\n\r\n",
                "0".repeat(64),
                shop.token()
            );
            stream.write_all(request.as_bytes()).expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            answer
        })
        .collect();
    let late = heads.iter().find(|head| head.starts_with("HTTP/1.1 429 "));
    let late = late.unwrap_or_else(|| panic!("{heads:?}"));
    assert!(late.contains("\r\nRetry-After: 1\r\n"), "{late}");
    assert_eq!(service.stop(), Some(0));
}
