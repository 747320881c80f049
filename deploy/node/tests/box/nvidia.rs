//! Boxes with NVIDIA's GPUs, by our own kernels, from the configuration to the proof: this package's `calderad` as its
//! supervisor starts it, with the double of NVIDIA's driver (`caldera_cuda_double`) where the system looks for libraries.
//!
//! The dangers: a GPU that is asked for and not there, and nobody is told; one that fails, hangs or goes, and takes a job, the
//! box or another GPU with it; one that is full of keys that nobody proves with.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use caldera_cuda_double::{GONE, VARIABLE};
use caldera_kernels::CurveId;
use caldera_node::residence::room;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::seats::copy_len;
use crate::world::{Client, Material, configured, made, sized, until};

/// A `calderad` that runs.
struct Program {
    child: Child,
    folder: TempDir,
    url: String,
}

/// `calderad` with such lines in its configuration, on a double that fails as `faults` says, and its folder.
fn calderad(faults: &str, lines: &str) -> (Command, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let test = std::env::current_exe().expect("a running test has a path");
    let double = test.with_file_name("libcaldera_cuda_double.so");
    assert!(double.is_file(), "no {}", double.display());
    for name in ["libcuda.so", "libcuda.so.1"] {
        symlink(&double, folder.path().join(name)).expect("our folder");
    }
    let kernels = folder.path().join("kernels");
    std::fs::write(&kernels, caldera_cuda_double::bundle()).expect("our folder");
    let config = configured(folder.path(), &format!("development = true\n{lines}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_calderad"));
    command
        .arg("--config")
        .arg(config)
        .env_remove("NOTIFY_SOCKET")
        .env("LD_LIBRARY_PATH", folder.path())
        .env("CALDERA_CUDA_KERNELS", kernels)
        .env(VARIABLE, faults)
        .env(GONE, folder.path().join("gone"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    (command, folder)
}

impl Program {
    /// Two cores and the devices that are named.
    fn start(faults: &str, devices: &[&str]) -> Program {
        // An emulated launch may take a while where others compute too, and is not to be taken for a hang.
        Program::patient(20_000, faults, devices)
    }

    /// Without tables: faults come with a launch of some number, which is to be one of a proof's.
    fn patient(patience_ms: u32, faults: &str, devices: &[&str]) -> Program {
        Program::limited("device_table_times = 0", patience_ms, faults, devices)
    }

    fn limited(limits: &str, patience_ms: u32, faults: &str, devices: &[&str]) -> Program {
        let devices = format!("devices = {devices:?}");
        let patience = format!("device_patience_ms = {patience_ms}");
        let lines = format!(
            "workers = 2\n{devices}\n{patience}\n[limits]\nprofile_bytes = 1048576\n{limits}"
        );
        let (mut command, folder) = calderad(faults, &lines);
        let said = std::fs::File::create(folder.path().join("said")).expect("our folder");
        let mut child = command.stderr(said).spawn().expect("our own program");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("calderad listening on ");
        let Some(address) = address else {
            let _ = child.kill();
            let said = std::fs::read_to_string(folder.path().join("said"));
            panic!("{faults}: {line:?}: {said:?}");
        };
        let url = format!("http://{address}");
        Program { child, folder, url }
    }

    fn client(&self, name: &str) -> Client {
        Client::of_box(self.url.clone(), self.folder.path(), name)
    }

    fn pool(&self) -> Value {
        self.client("operator").call("pool_statusV1", json!({}))
    }

    fn gone(&self) -> PathBuf {
        self.folder.path().join("gone")
    }

    /// Stops it as its supervisor does: the double looks for what was used wrongly until the end.
    fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).expect("a process");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("sent");
        let status = self.child.wait().expect("it ends");
        let said = std::fs::read_to_string(self.folder.path().join("said")).expect("its output");
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(!said.contains("caldera-cuda-double"), "{said}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // One that was stopped has gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Proves, a few at a time, until there is an answer; each proof is held against the verifier here.
fn proves_until<T>(client: &Client, seen: impl Fn(&[String]) -> Option<T>) -> T {
    proves_with_until(client, sized(SIZE), seen)
}

fn proves_with_until<T>(
    client: &Client,
    key: &Material,
    seen: impl Fn(&[String]) -> Option<T>,
) -> T {
    let (circuit, witness) = (client.register(&key.zkey), client.store(&key.witness));
    until(|| {
        let jobs = [0; 3].map(|_| client.submit(&circuit, &witness));
        for job in &jobs {
            client.proved(job);
        }
        seen(&jobs)
    })
}

/// Which units have run quanta of a job.
fn units(client: &Client, job: &str) -> Vec<u64> {
    let profile = client.call("prover_profileV1", json!({ "job": job }));
    let quanta = profile["quanta"].as_array().expect("quanta");
    quanta.iter().filter_map(|it| it["unit"].as_u64()).collect()
}

/// Of two GPUs both compute for proofs that verify, and each is what the driver says it is.
#[test]
fn gpus_that_are_named_are_units_of_the_pool_and_prove() {
    let program = Program::start("devices:2", &["cuda:0", "cuda:1"]);
    let (bank, operator) = (program.client("bank"), program.client("operator"));
    let mut seen = [false; 2];
    let key = sized(SIZE);
    let (circuit, witness) = (bank.register(&key.zkey), bank.store(&key.witness));
    until(|| {
        let jobs = [0; 3].map(|_| bank.submit(&circuit, &witness));
        for job in &jobs {
            bank.proved(job);
            for unit in units(&bank, job) {
                if let Some(at) = unit.checked_sub(2) {
                    seen[at as usize] = true;
                }
            }
        }
        (seen == [true; 2]).then_some(())
    });
    let pool = program.pool();
    let kinds: Vec<&Value> = rows(&pool).iter().map(|row| &row["kind"]).collect();
    assert_eq!(kinds, ["cpu", "cuda", "cuda"], "{pool}");
    for at in 1..3 {
        assert_eq!(pool["units"][at + 1]["device"], "double of a GPU", "{pool}");
        let software = &rows(&pool)[at]["software"][0];
        assert_eq!(software["version"], "13.0", "{pool}");
        assert!(rows(&pool)[at].get("lost").is_none(), "{pool}");
    }
    let seconds = "caldera_tenant_device_seconds_total{tenant=\"bank\"}";
    assert!(operator.metric(seconds) > 0.0);
    assert_eq!(operator.metric("caldera_proofs_disagreed_total"), 0.0);
    // One may be for a moment, on a machine with other work.
    until(|| (operator.metric("caldera_units_fenced") == 0.0).then_some(()));
    program.stop();
}

fn rows(pool: &Value) -> &[Value] {
    pool["devices"].as_array().expect("devices")
}

#[test]
fn a_gpu_that_cannot_be_used_ends_the_program_with_the_reason() {
    for (faults, devices, said) in [
        ("absent", "['cuda:0']", "device cuda:0: "),
        ("", "['cuda:1']", "no NVIDIA device 1: the driver sees 0 ("),
        (
            "version:12090",
            "['cuda:0']",
            "the NVIDIA driver is too old: it runs CUDA 12.9, and 13.0 is needed",
        ),
    ] {
        let (mut command, _folder) = calderad(faults, &format!("devices = {devices}"));
        let Output { status, stderr, .. } = command.output().expect("it ends");
        let text = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(69), "{faults}: {text}");
        assert!(text.contains(said), "{faults}: {text}");
    }
    // Two names for one card are no two units.
    let (mut command, _folder) = calderad("", "devices = ['cuda:0', 'cuda:0']");
    let output = command.output().expect("it ends");
    assert_eq!(output.status.code(), Some(78));
}

/// The first of two fails or hangs in the midst of a proof: it leaves the pool, the other one stays, and
/// every job ends right.
#[test]
fn a_gpu_that_fails_or_hangs_costs_no_job_and_no_other_gpu() {
    let other_curve = made(CurveId::Bls12_381, SIZE);
    for (fault, patience_ms, why) in [
        ("devices:2,fail:3", 20_000, "CUDA_ERROR_LAUNCH_FAILED"),
        ("devices:2,hang:6", 5_000, "no answer in"),
    ] {
        let program = Program::patient(patience_ms, fault, &["cuda:0", "cuda:1"]);
        let (bank, operator) = (program.client("bank"), program.client("operator"));
        let lost = |member: u32| {
            let name = format!("caldera_device_lost{{kind=\"cuda\",member=\"{member}\"}}");
            operator.metric(&name)
        };
        proves_until(&bank, |_| (lost(1) == 1.0).then_some(()));
        until(|| (operator.metric("caldera_units_fenced") == 1.0).then_some(()));
        let pool = program.pool();
        assert!(pool["units"][2]["owner"].is_null(), "{pool}");
        let told = rows(&pool)[1]["lost"].as_str().unwrap_or_default();
        assert!(told.contains(why), "{fault}: {pool}");
        assert!(rows(&pool)[2].get("lost").is_none(), "{fault}: {pool}");
        assert_eq!([lost(1), lost(2)], [1.0, 0.0], "{fault}");
        // The other one is used as before: for a curve that nobody has proved with, whose prices are not known. For one that is, an
        // emulated GPU is known to be slow by now, and is tried for a hundredth of the time.
        let chat = program.client("chat");
        proves_with_until(&chat, &other_curve, |jobs| {
            let ran = jobs.iter().flat_map(|job| units(&chat, job));
            let ran: Vec<u64> = ran.collect();
            assert!(!ran.contains(&2), "{fault}: {ran:?}");
            ran.contains(&3).then_some(())
        });
        until(|| (operator.metric("caldera_units_fenced") == 1.0).then_some(()));
        program.stop();
    }
}

/// Nobody proves at the time.
#[test]
fn a_gpu_that_goes_while_nobody_uses_it_leaves_the_pool() {
    let program = Program::start("devices:2", &["cuda:0", "cuda:1"]);
    let operator = program.client("operator");
    let lost = |member: u32| {
        let name = format!("caldera_device_lost{{kind=\"cuda\",member=\"{member}\"}}");
        operator.metric(&name)
    };
    assert_eq!([lost(1), lost(2)], [0.0; 2]);
    std::fs::write(program.gone(), "").expect("our folder");
    until(|| (operator.metric("caldera_units_fenced") == 1.0).then_some(()));
    assert_eq!([lost(1), lost(2)], [1.0, 0.0]);
    let pool = program.pool();
    let why = rows(&pool)[1]["lost"].as_str().unwrap_or_default();
    assert!(why.contains("CUDA_ERROR_ECC_UNCORRECTABLE"), "{pool}");
    proves_until(&program.client("bank"), |_| Some(()));
    program.stop();
}

/// A GPU has room for the key of one tenant or of the other: that of the one who does not prove any more goes, by the
/// arbiter's order.
#[test]
fn keys_make_way_on_a_gpu_that_is_small() {
    let [large, small] = [SIZE + 1, SIZE].map(|log2| copy_len(sized(log2)));
    // A 32nd is left to the driver.
    let memory = (large + small / 2) / 3 * 4 / 31 * 32;
    let there = room(memory - memory / 32);
    assert!(
        large <= there && large + small > there,
        "{large}, {small} of {there}"
    );
    let program = Program::start(&format!("memory:{memory}"), &["cuda:0"]);
    let [operator, bank, chat] = ["operator", "bank", "chat"].map(|name| program.client(name));
    let has = |name: &str| {
        let pool = program.pool();
        let tenants = pool["tenants"].as_array().expect("tenants");
        let found = tenants.iter().find(|it| it["tenant"] == name);
        let bytes = found.expect("it is there")["detail"]["deviceBytes"].as_u64();
        bytes.expect("a number")
    };
    let key = sized(SIZE + 1);
    let of_chat = (chat.register(&key.zkey), chat.store(&key.witness));
    until(|| (has("chat") == large).then_some(()));
    assert_eq!(program.pool()["units"][2]["memoryBytes"], there);
    let jobs = [0; 3].map(|_| chat.submit(&of_chat.0, &of_chat.1));
    proves_until(&bank, |_| {
        (has("bank") == small && has("chat") == 0).then_some(())
    });
    for job in &jobs {
        chat.proved(job);
    }
    let evictions = operator.metric("caldera_device_evictions_total{outcome=\"ordered\"}");
    assert!(evictions >= 1.0, "{evictions}");
    assert!(rows(&program.pool())[1].get("lost").is_none());
    // Without a copy there, and with one.
    chat.proved(&chat.submit(&of_chat.0, &of_chat.1));
    program.stop();
}

/// A key that is proved with has tables on its GPU, made as the driver wants it. That proofs with them are right, `kernels/cuda/emulation` tries: a
/// pool leaves an emulated GPU nothing for long.
#[test]
fn a_gpu_has_tables_of_a_key_that_proves() {
    let program = Program::limited("device_table_times = 1", 20_000, "", &["cuda:0"]);
    let key = sized(SIZE - 3);
    let bank = program.client("bank");
    let tables = || program.pool()["units"][2]["tableBytes"].as_u64();
    assert_eq!(tables(), Some(0));
    let most = copy_len(key);
    let took = proves_with_until(&bank, key, |_| tables().filter(|bytes| *bytes > 0));
    assert!(took <= most, "{took} of {most}");
    proves_with_until(&bank, key, |_| Some(()));
    program.stop();
}

/// log2 of the constraints: a proof by an emulated GPU takes a fraction of a second.
const SIZE: u32 = 8;
