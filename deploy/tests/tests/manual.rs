//! Manual pages and completions: what an installer asks the program for.

use std::process::Command;

use caldera_tests::programs::{run, run_caldera};

/// Each command that the help lists has a page, and the first page has the exit codes.
#[test]
fn manual_pages() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("made/man1");
    run_caldera(["man".as_ref(), pages.as_os_str()]).expect_success();
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    let first = page("caldera.1");
    for code in ["subgroup", "self\\-check", "try\\-later"] {
        assert!(first.contains(code), "{code}: {first}");
    }
    let help = run_caldera(["--help"]).expect_success();
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let commands: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.contains(&"prove"), "{help}");
    for command in commands {
        let page = page(&format!("caldera-{command}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    // A folder that cannot be made.
    let file = pages.join("caldera.1/below");
    run_caldera(["man".as_ref(), file.as_os_str()]).expect_code(74);
}

/// The shell takes the script, and completes a command with it.
#[test]
fn completions() {
    let script = run_caldera(["completions", "bash"]).expect_success();
    let asks = r#"
        COMP_WORDS=(caldera ver) COMP_CWORD=1
        _caldera caldera ver caldera
        printf '%s\n' "${COMPREPLY[@]}""#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("asks.bash");
    std::fs::write(&file, script + asks).unwrap();
    let mut bash = Command::new("bash");
    bash.arg("--norc").arg(&file);
    assert_eq!(run(bash).expect_success(), "verify\n");
    run_caldera(["completions", "no-such-shell"]).expect_code(2);
}
