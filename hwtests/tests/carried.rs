//! The carried folder on a machine that has nothing else: a path without compilers, and no variables of the
//! one who built it. The programs are those of this build; `make carried` takes stripped ones of a release.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The programs of the service must have been built: `make test` builds all before it tests.
#[test]
fn the_folder_tries_and_measures_by_itself() {
    let temporary = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder of our own");
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
    let results = temporary.path().join("results");
    let output = Command::new(folder.join("run"))
        .arg("--quick")
        .arg("--output")
        .arg(&results)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("bash");
    let said = String::from_utf8_lossy(&output.stdout);
    // A warning or a slow core is this machine's; an end by a signal would be the script's.
    let code = output.status.code();
    assert!(code.is_some_and(|code| code <= 2), "{code:?}: {said}");
    let read = |name: &str| {
        fs::read_to_string(results.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}: {said}"))
    };
    let found: Value = serde_json::from_str(&read("results.json")).expect("JSON");
    let list = |name: &str| found[name].as_array().cloned().unwrap_or_default();
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
    assert!(list("peers").iter().any(|it| it["ours"] == false), "{said}");
    assert!(!list("take-over").is_empty(), "{said}");
    let checks = found["accept"]["checks"].as_array().expect("the checks");
    let conformance = checks.iter().find(|it| it["name"] == "device.conformance");
    assert_eq!(conformance.expect("at every level")["verdict"], "PASS");
    let moved = checks.iter().find(|it| it["name"] == "service.reallocate");
    assert_ne!(moved.expect("at level 3")["verdict"], "SKIP", "{said}");
    assert!(read("table.txt").contains("bound over time"));
    assert!(read("report.html").contains("</html>"));
    assert!(results.join("traces/cpu-ntt-10.json").is_file());
}
