//! The carried folder on a machine that has nothing else: a path without compilers, and no variables of the
//! one who built it. The programs are those of this build; `make carried` takes stripped ones of a release.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// The folder and what came of it: the programs of the service must have been built, and `make test` builds
/// all before it tests.
struct Carried {
    temporary: TempDir,
}

impl Carried {
    fn new() -> Carried {
        let temporary =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder of our own");
        let folder = temporary.path().join("carried");
        fs::create_dir(&folder).expect("inside it");
        let links = temporary.path().join("links");
        fs::create_dir(&links).expect("inside our folder");
        let own = Path::new(env!("CARGO_BIN_EXE_caldera-hwtest"));
        for name in ["caldera", "calderad", "caldera-hwtest", "caldera-bench"] {
            let program = own.with_file_name(name);
            assert!(program.is_file(), "{name} has not been built");
            symlink(program, links.join(name)).expect("inside our folder");
        }
        // A peer on a GPU: one of our own, on the processor.
        fs::create_dir(links.join("peers")).expect("inside our folder");
        let peer = std::env::current_exe()
            .expect("this test")
            .with_file_name("libcaldera_peer_double.so");
        symlink(peer, links.join("peers/libcaldera_peer_sppark.so")).expect("inside our folder");
        // What unpacks to links are the programs, and takes no time.
        let packed = Command::new("tar")
            .arg("-czf")
            .arg(folder.join("programs.tar.gz"))
            .arg("-C")
            .arg(&links)
            .arg(".")
            .status();
        assert!(packed.expect("tar").success());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("carried/run");
        fs::copy(script, folder.join("run")).expect("the script");
        Carried { temporary }
    }

    fn results(&self, name: &str) -> PathBuf {
        self.temporary.path().join("results").join(name)
    }

    /// Runs it with these arguments; its exit code, what it said, and results.json.
    fn run(&self, arguments: &[&str], variables: &[(&str, &OsStr)]) -> (i32, String, Value) {
        let output = Command::new(self.temporary.path().join("carried/run"))
            .arg("--quick")
            .arg("--output")
            .arg(self.temporary.path().join("results"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(variables.iter().copied())
            .output()
            .expect("bash");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // An end by a signal would be the script's.
        let code = output.status.code().expect("an end by itself");
        let results = fs::read_to_string(self.results("results.json"))
            .unwrap_or_else(|error| panic!("{error}: {said}"));
        let found = serde_json::from_str(&results).expect("JSON");
        (code, said, found)
    }
}

fn list(found: &Value, name: &str) -> Vec<Value> {
    found[name].as_array().cloned().unwrap_or_default()
}

#[test]
fn the_folder_tries_and_measures_by_itself() {
    let carried = Carried::new();
    let (code, said, found) = carried.run(&[], &[]);
    // A warning or a slow core is this machine's.
    assert!(code <= 2, "{code}: {said}");
    let read = |name: &str| {
        fs::read_to_string(carried.results(name))
            .unwrap_or_else(|error| panic!("{name}: {error}: {said}"))
    };
    let list = |name: &str| list(&found, name);
    for step in list("steps") {
        // Acceptance may warn on a machine that tests; a slow core is not what is tested.
        let may = matches!(step["step"].as_str(), Some("accept" | "take-over"));
        assert!(may || step["exit"] == 0, "{step}: {said}");
    }
    let device = |it: &Value| it["device"].as_str().unwrap_or_default().to_owned();
    let kernels = list("kernels");
    assert_eq!(
        kernels.iter().filter(|it| device(it) == "cpu").count(),
        10,
        "{said}"
    );
    assert!(list("gpu").len() >= 8, "{said}");
    assert!(list("peers").iter().any(|it| it["ours"] == false), "{said}");
    assert!(!list("take-over").is_empty(), "{said}");
    let checks = found["accept"]["checks"].as_array().expect("the checks");
    let conformance = checks.iter().find(|it| it["name"] == "device.conformance");
    assert_eq!(conformance.expect("at every level")["verdict"], "PASS");
    let moved = checks.iter().find(|it| it["name"] == "service.reallocate");
    assert_ne!(moved.expect("at level 3")["verdict"], "SKIP", "{said}");
    assert!(read("table.txt").contains("bound over time"));
    assert!(read("report.html").contains("</html>"));
    assert!(carried.results("traces/cpu-ntt-10.json").is_file());
    let archive = carried.temporary.path().join("results.tar.gz");
    assert!(archive.is_file());
}

/// On the double of NVIDIA's driver, which may fail in the middle: what was measured by then is there.
#[test]
fn a_gpu_is_measured_first_and_one_that_hangs_holds_up_its_own_step_alone() {
    let carried = Carried::new();
    let libraries = carried.temporary.path().join("libraries");
    fs::create_dir(&libraries).expect("inside our folder");
    let double = std::env::current_exe()
        .expect("this test")
        .with_file_name("libcaldera_cuda_double.so");
    symlink(double, libraries.join("libcuda.so.1")).expect("inside our folder");
    let kernels = libraries.join("kernels");
    fs::write(&kernels, caldera_cuda_double::bundle()).expect("inside our folder");
    let run_with = |faults: &str, arguments: &[&str], more: &[(&str, &OsStr)]| {
        let variables = [
            ("LD_LIBRARY_PATH", libraries.as_os_str()),
            ("CALDERA_CUDA_KERNELS", kernels.as_os_str()),
            (caldera_cuda_double::VARIABLE, faults.as_ref()),
        ];
        carried.run(arguments, &[&variables[..], more].concat())
    };
    let run = |faults: &str, arguments: &[&str]| run_with(faults, arguments, &[]);
    let rows = |found: &Value| list(found, "gpu").len();

    let (code, said, found) = run("", &["--only", "gpu"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(found["devices"], "cuda:0", "{said}");
    // Products, a transform, sums in G1 of two sizes with tables and without, one in G2, two of take-overs, a proof alone, with
    // tables and in the pool; of the peer a transform and the sums without tables.
    assert_eq!(rows(&found), 12 + 4, "{said}");
    let best = list(&found, "best");
    let against = |it: &Value| it["peer"]["name"] == "sppark" && it["ratio"].is_number();
    assert_eq!(best.len(), 4, "{said}");
    assert!(best.iter().all(against), "{best:?}");
    assert!(said.contains("ours over the best peer:"), "{said}");
    assert!(
        said.contains("peer snarkrs-cuda: not in this folder"),
        "{said}"
    );
    let uuid = |it: &Value| it["silicon"]["uuid"].as_str() == Some(UUID);
    assert!(list(&found, "gpu").iter().all(uuid), "{said}");
    assert!(said.contains("aim (H100)"), "{said}");

    let absent: [(&str, &OsStr); 1] = [(caldera_peer_double::VARIABLE, "absent".as_ref())];
    let (code, said, found) = run_with("", &["--only", "gpu"], &absent);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("sppark is left out: no CUDA driver"),
        "{said}"
    );
    assert_eq!(
        (rows(&found), list(&found, "best").len()),
        (12, 0),
        "{said}"
    );

    // Each step is a process of its own, whose first launches make the factors of transforms.
    let (code, said, found) = run("hang:40", &["--only", "gpu"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("no answer in"), "{said}");
    assert!((1..16).contains(&rows(&found)), "{said}");

    let (code, said, found) = run("", &["--only", "gpu", "--minutes", "0"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("no time is left"), "{said}");
    assert_eq!(rows(&found), 0);
}

const UUID: &str = "GPU-cacacaca-caca-caca-caca-cacacacaca00";
