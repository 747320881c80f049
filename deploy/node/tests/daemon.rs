//! `calderad` as its supervisor sees it: a line, a datagram, signals, exit codes.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn calderad(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_calderad"));
    command
        .args(arguments)
        .env_remove("NOTIFY_SOCKET")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Ends a child that a failed assertion would leave behind.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn on_data(folder: &Path) -> Vec<String> {
    let data = folder.join("data").display().to_string();
    let all = ["--development", "--listen", "127.0.0.1:0", "--data", &data];
    all.map(String::from).to_vec()
}

#[test]
fn it_says_where_it_listens_and_stops_when_told() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let supervisor = UnixDatagram::bind(&path).expect("bound");
        let arguments = on_data(folder.path());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = calderad(&arguments);
        let mut child = Guard(
            command
                .env("NOTIFY_SOCKET", &path)
                .spawn()
                .expect("started"),
        );
        let stdout = child.0.stdout.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line
            .strip_prefix("calderad listening on ")
            .expect("the line");
        std::net::TcpStream::connect(address.trim()).expect("it listens there");
        let doing = until_ready(&supervisor);
        assert_eq!(
            doing,
            [
                "opening the database",
                "replaying the ledger",
                "opening devices"
            ]
        );

        let pid = i32::try_from(child.0.id()).expect("a process");
        kill(Pid::from_raw(pid), signal).expect("sent");
        let status = child.0.wait().expect("it ends");
        assert_eq!(status.code(), Some(0), "{signal}");
        assert_eq!(heard(&supervisor), "STOPPING=1");
    }
}

/// What the supervisor is told next.
fn heard(supervisor: &UnixDatagram) -> String {
    let mut state = [0; 64];
    loop {
        match supervisor.recv(&mut state) {
            // By a signal of another test's, which this process gets too.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            count => {
                let count = count.expect("a datagram");
                return String::from_utf8_lossy(&state[..count]).into_owned();
            }
        }
    }
}

/// What it waits for before it is ready is said, one after the other.
fn until_ready(supervisor: &UnixDatagram) -> Vec<String> {
    let mut doing = Vec::new();
    loop {
        let state = heard(supervisor);
        if state == READY {
            return doing;
        }
        let status = state.strip_prefix("STATUS=");
        doing.push(status.expect("a state before it is ready").to_owned());
    }
}

const READY: &str = "READY=1\nSTATUS=serving";

/// Not even the thread that waits for signals: whatever is woken there holds up a quantum.
#[test]
fn nothing_but_a_worker_may_run_on_a_workers_core() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = on_data(folder.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut child = Guard(
        calderad(&arguments)
            .args(["--workers", "1"])
            .spawn()
            .expect("started"),
    );
    let stdout = child.0.stdout.take().expect("a pipe");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let read = |path: &Path| {
        let status = fs::read_to_string(path.join("status")).ok()?;
        let field = |name: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(name));
            found.expect("a field of the kernel's").trim().to_owned()
        };
        Some((field("Name:"), field("Cpus_allowed_list:")))
    };
    // A thread that has ended runs nowhere.
    let tasks = || -> Vec<_> {
        let tasks = fs::read_dir(format!("/proc/{}/task", child.0.id())).expect("a process");
        let tasks = tasks.filter_map(|task| read(&task.ok()?.path()));
        tasks.collect()
    };
    let cores = tasks();
    let worker = cores.iter().find(|(name, _)| name == "worker-0");
    let (_, own) = worker.expect("a worker").clone();
    let (_, ours) = read(Path::new("/proc/self")).expect("this process");
    if own == ours {
        // The only core that there is: nothing can stand aside.
        return;
    }
    let there = || {
        let mut there = tasks();
        there.retain(|(_, list)| *list == own || list.contains(['-', ',']));
        there
    };
    let expected = [("worker-0".to_owned(), own.clone())];
    // One that has been joined stands in the list for a moment more.
    let settled = (0..10_000).any(|_| there() == expected);
    assert!(settled, "{:?}", there());
}

/// The thread that decides says so: a box that is idle, and one that is asked for an answer, is fed alike.
#[test]
fn the_watchdog_is_fed_until_it_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("bound");
    // One that is silent fails the test and does not hold it up for ever.
    let patience = Some(Duration::from_secs(60));
    supervisor.set_read_timeout(patience).expect("set");
    let arguments = on_data(folder.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = calderad(&arguments);
    let command = command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "30000");
    let child = Guard(command.spawn().expect("started"));
    let heard = || heard(&supervisor);
    let mut fed = 0;
    let mut ready = false;
    while !ready || fed < 20 {
        match heard().as_str() {
            READY => ready = true,
            state if state.starts_with("STATUS=") => {}
            "WATCHDOG=1" => fed += 1,
            other => panic!("it says {other:?}"),
        }
    }
    let pid = i32::try_from(child.0.id()).expect("a process");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("sent");
    while heard() != "STOPPING=1" {}
}

/// What it says of its policy stands in the log; it goes on in any case.
#[test]
fn a_hangup_makes_it_read_its_policy_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("policy.toml");
    let class = "[classes.financial]\nvalue = 9\nguarantee_percent = 40\n";
    fs::write(&policy, class).expect("written");
    let config = folder.path().join("calderad.toml");
    fs::write(&config, "policy_file = 'policy.toml'\n").expect("written");
    let mut arguments = on_data(folder.path());
    arguments.extend(["--config".to_owned(), config.display().to_string()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut child = Guard(calderad(&arguments).spawn().expect("started"));
    let mut stdout = BufReader::new(child.0.stdout.take().expect("a pipe"));
    let mut stderr = BufReader::new(child.0.stderr.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    assert!(line.starts_with("calderad listening on"), "{line}");
    let pid = Pid::from_raw(i32::try_from(child.0.id()).expect("a process"));
    let mut logged = |says: &str| {
        kill(pid, Signal::SIGHUP).expect("sent");
        loop {
            let mut line = String::new();
            let count = stderr.read_line(&mut line).expect("text");
            assert_ne!(count, 0, "it ended and did not say {says:?}");
            if line.contains(says) {
                break line;
            }
        }
    };
    fs::write(&policy, class.replace('9', "10")).expect("written");
    logged("another policy is in force");
    fs::write(&policy, class.replace("9", "'9'")).expect("written");
    let line = logged("the policy is refused");
    assert!(
        line.contains("line 2: classes.financial.value: invalid type"),
        "{line}"
    );
    fs::write(&policy, class.replace("financial", "other")).expect("written");
    let line = logged("the policy is refused");
    assert!(
        line.contains("classes.financial: expected to stay"),
        "{line}"
    );
    fs::remove_file(&policy).expect("removed");
    let line = logged("the policy is refused");
    assert!(line.contains("reading policy"), "{line}");
    fs::write(&policy, class).expect("written");
    logged("another policy is in force");
    kill(pid, Signal::SIGTERM).expect("sent");
    assert_eq!(child.0.wait().expect("it ends").code(), Some(0));
}

#[test]
fn what_is_wrong_has_its_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data").display().to_string();
    let ends = |arguments: &[&str], code: i32, says: &str| {
        let output = calderad(arguments).output().expect("it ran");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(says), "{text:?} does not say {says:?}");
        assert!(output.stdout.is_empty(), "nothing listens");
    };
    ends(&["--no-such-flag"], 2, "no-such-flag");
    ends(&["--data", &data], 78, "no [[tenant]]");
    ends(&["--config", "/no/such/file"], 78, "/no/such/file");
    let many = ["--development", "--data", &data, "--workers", "100000"];
    ends(&many, 78, "100000 workers");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("an address").to_string();
    let second = ["--development", "--data", &data, "--listen", &address];
    ends(&second, 75, "listening on");

    let secret = Path::new(&data).join("secrets/operator.hex");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("changed");
    let exposed = ["--development", "--data", &data, "--listen", "127.0.0.1:0"];
    ends(&exposed, 78, "lets others read it");
}

#[test]
fn a_reader_of_its_output_that_is_gone_does_not_end_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("bound");
    let arguments = on_data(folder.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = calderad(&arguments);
    let mut child = Guard(
        command
            .env("NOTIFY_SOCKET", &path)
            .spawn()
            .expect("started"),
    );
    drop(child.0.stdout.take());
    until_ready(&supervisor);
    let pid = i32::try_from(child.0.id()).expect("a process");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("sent");
    assert_eq!(child.0.wait().expect("it ends").code(), Some(0));
    let mut text = String::new();
    let mut stderr = child.0.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut text).expect("text");
    assert!(text.contains("stopping"), "{text}");
}

/// Nothing takes the place of a device that was asked for.
#[test]
fn a_device_that_is_not_there_is_said_and_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = on_data(folder.path());
    for (devices, code, said) in [
        ("icicle:CUDA:0", 69, "no libicicle_device.so"),
        ("gpu", 78, "devices: expected cpu, cuda:N"),
        (
            "icicle:CUDA:0,icicle:CUDA:1",
            78,
            "at most one device of ICICLE's",
        ),
    ] {
        let config = folder.path().join("calderad.toml");
        fs::write(&config, "icicle_folder = 'nowhere'").expect("written");
        let config = config.display().to_string();
        let mut arguments: Vec<&str> = data.iter().map(String::as_str).collect();
        arguments.extend(["--config", &config, "--devices", devices]);
        let output = calderad(&arguments).output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(said), "{text}");
    }
}

/// Unless the operator says that the box is to serve without: then it says what is missing, and goes on.
#[test]
fn a_box_goes_on_without_a_device_where_it_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("calderad.toml");
    let text = "icicle_folder = 'nowhere'\ndevices = ['icicle:CUDA:0']\ndevices_required = false\n\
                operator_secret_file = 'operator.hex'";
    fs::write(&config, text).expect("written");
    secret(&folder.path().join("operator.hex"));
    let config = config.display().to_string();
    let data = on_data(folder.path());
    let mut arguments: Vec<&str> = data.iter().map(String::as_str).collect();
    arguments.extend(["--config", &config]);
    let mut child = Guard(calderad(&arguments).spawn().expect("started"));
    let mut line = String::new();
    let stdout = child.0.stdout.take().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert!(line.starts_with("calderad listening on "), "{line}");
    let pid = Pid::from_raw(i32::try_from(child.0.id()).expect("a process"));
    kill(pid, Signal::SIGTERM).expect("sent");
    let mut text = String::new();
    let mut stderr = child.0.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut text).expect("text");
    assert!(text.contains("a device is not there"), "{text}");
    assert!(text.contains("no libicicle_device.so"), "{text}");
    assert_eq!(child.0.wait().expect("it ends").code(), Some(0));
}

fn secret(path: &Path) {
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.expect("a file");
    file.write_all("5".repeat(64).as_bytes()).expect("written");
}

/// A check reads what a start reads, says the same of it, and leaves nothing behind.
#[test]
fn a_check_of_the_configuration_makes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, data) = (
        folder.path().join("calderad.toml"),
        folder.path().join("data"),
    );
    let check = |text: &str| {
        fs::write(&config, text).expect("written");
        let output = calderad(&["--check"])
            .args(["--config".as_ref(), config.as_os_str()])
            .args(["--data".as_ref(), data.as_os_str()])
            .output()
            .expect("it ends");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.code(), said)
    };
    secret(&folder.path().join("operator.hex"));
    let tenant = "[[tenant]]\nname = 'bank'\nscenario = 'financial'\n";
    let well =
        format!("operator_secret_file = 'operator.hex'\ndevices = ['icicle:CUDA:0']\n{tenant}");
    let (code, said) = check(&well);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the configuration can be used"), "{said}");
    for (text, reason) in [
        (
            format!("devices = ['gpu']\n{tenant}"),
            "devices: expected cpu, cuda:N",
        ),
        (
            format!("operator_secret_file = 'other.hex'\n{tenant}"),
            "other.hex",
        ),
        (format!("{tenant}secret_file = 'other.hex'\n"), "other.hex"),
        (
            format!("policy_file = 'other.toml'\n{tenant}"),
            "other.toml",
        ),
        (format!("workers = 4096\n{tenant}"), "4096 workers"),
        (
            format!("{tenant}[tls]\ncertificate_file = 'a.pem'\nkey_file = 'b.pem'\n"),
            "a.pem",
        ),
        (
            format!("{tenant}[state]\nkey = 'state.zkey'\n"),
            "state.zkey",
        ),
    ] {
        let (code, said) = check(&text);
        assert_eq!(code, Some(78), "{text}: {said}");
        assert!(said.contains(reason), "{text}: {said}");
    }
    // Readable to others.
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.path().join("operator.hex"), mode).expect("set");
    let (code, said) = check(&well);
    assert_eq!(code, Some(78), "{said}");
    assert!(!data.exists());
}

/// Witnesses and secrets are in its memory.
#[test]
fn it_leaves_no_core_dump_and_outlives_a_file_that_is_too_long() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = on_data(folder.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut child = Guard(calderad(&arguments).spawn().expect("started"));
    let mut stdout = BufReader::new(child.0.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line");
    let proc = Path::new("/proc").join(child.0.id().to_string());
    let limits = fs::read_to_string(proc.join("limits")).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
    let pid = Pid::from_raw(i32::try_from(child.0.id()).expect("a process"));
    kill(pid, Signal::SIGXFSZ).expect("sent");
    kill(pid, Signal::SIGTERM).expect("sent");
    assert_eq!(child.0.wait().expect("it ends").code(), Some(0));
}
