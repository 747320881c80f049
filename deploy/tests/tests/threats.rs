//! What `make test-threats` takes out still is in the sources, every row of the threat table has something that is
//! taken out, and every test that the table names is there. Whether the tests notice takes longer to say.

use std::path::Path;

use caldera_tests::threats::{
    DOCUMENT, EXEMPTIONS, Edit, MUTATIONS, Mutation, Row, Try, faults, rows,
};

fn read(file: &str) -> Option<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(top.join(file)).ok()
}

#[test]
fn every_threat_has_a_line_that_is_taken_out() {
    let faults = faults(&read, MUTATIONS, EXEMPTIONS);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

const TABLE: &str = "
## Threats

| threat | what stops it | tried by |
|---|---|---|
| replay | a check | it_is_refused, it_is_refused_again; `scheduler/tests/some.rs`: it_is_counted |
| many secrets | not stopped | |

## What each party learns
";

#[test]
fn a_row_names_its_tests() {
    let test = |file: &str, name: &str| (file.to_owned(), name.to_owned());
    let replay = Row {
        threat: "replay".to_owned(),
        tests: vec![
            test("prover/tests/units_circuit.rs", "it_is_refused"),
            test("prover/tests/units_circuit.rs", "it_is_refused_again"),
            test("scheduler/tests/some.rs", "it_is_counted"),
        ],
    };
    let secrets = Row {
        threat: "many secrets".to_owned(),
        tests: vec![],
    };
    assert_eq!(rows(TABLE), Ok(vec![replay, secrets]));
    for (good, bad) in [
        ("| not stopped |", "| not | stopped |"),
        ("it_is_counted", "[counted](contracts.md)"),
        ("## Threats", "## Dangers"),
    ] {
        assert!(rows(&TABLE.replace(good, bad)).is_err(), "{bad}");
    }
}

const REPLAY: Try = Try {
    threat: "replay",
    file: "scheduler/tests/some.rs",
    test: "it_is_counted",
    says: "counted twice",
};

const CHECK: Edit = Edit {
    file: "scheduler/src/some.rs",
    takes: "check(use);",
    puts: "",
};

const COUNTED: Mutation = Mutation {
    what: "the check",
    edits: &[CHECK],
    tries: &[REPLAY],
};

/// The faults of a little tree with one row, after a change of it.
fn faults_of(
    mutations: &[Mutation],
    exemptions: &[(&str, &str)],
    change: impl Fn(&str, String) -> String,
) -> Vec<String> {
    let read = |file: &str| {
        let text = match file {
            DOCUMENT => TABLE.replace("it_is_refused, it_is_refused_again; ", ""),
            "scheduler/src/some.rs" => "check(use);".to_owned(),
            "scheduler/tests/some.rs" => "#[test]\nfn it_is_counted() {".to_owned(),
            _ => return None,
        };
        Some(change(file, text))
    };
    faults(&read, mutations, exemptions)
}

#[test]
fn whatever_does_not_fit_is_found() {
    let exempt = [("many secrets", "for the issuer to see to")];
    let same = |_: &str, text: String| text;
    assert_eq!(faults_of(&[COUNTED], &exempt, same), [""; 0]);

    let found = |fault: &str, faults: Vec<String>| {
        assert!(
            faults.len() == 1 && faults[0].contains(fault),
            "{fault}: {faults:?}"
        );
    };
    let changed = |of: &'static str, from: &'static str, to: &'static str| {
        faults_of(&[COUNTED], &exempt, move |file, text| match file == of {
            true => text.replace(from, to),
            false => text,
        })
    };
    let source = CHECK.file;
    found("0 times", changed(source, "check(use);", ""));
    let twice = changed(source, "check(use);", "check(use); check(use);");
    found("2 times", twice);
    let renamed = changed(REPLAY.file, "it_is_counted", "it_counts");
    found("has no test it_is_counted", renamed);
    let other = changed(REPLAY.file, "#[test]\n", "");
    found("has no test it_is_counted", other);
    found("no mutation", faults_of(&[COUNTED], &[], same));
    let unknown = [exempt[0], ("no row", "")];
    found("exempt and no row", faults_of(&[COUNTED], &unknown, same));
    let both = [exempt[0], ("replay", "")];
    found("exempt and has", faults_of(&[COUNTED], &both, same));

    let tries = |tries: &'static [Try]| Mutation { tries, ..COUNTED };
    const ELSEWHERE: Try = Try {
        threat: "another",
        ..REPLAY
    };
    const UNNAMED: Try = Try {
        test: "it_is_more",
        ..REPLAY
    };
    const SILENT: Try = Try { says: "", ..REPLAY };
    let with = |it: Mutation| faults_of(&[COUNTED, it], &exempt, same);
    found("no row \"another\"", with(tries(&[ELSEWHERE])));
    found("names it_is_more", with(tries(&[UNNAMED])));
    found("says nothing", with(tries(&[SILENT])));
    found("tries nothing", with(tries(&[])));
    const SAME: Edit = Edit {
        puts: CHECK.takes,
        ..CHECK
    };
    let edits = |edits: &'static [Edit]| Mutation { edits, ..COUNTED };
    found("changes nothing in", with(edits(&[SAME])));
    const ABSENT: Edit = Edit {
        file: "scheduler/src/none.rs",
        ..CHECK
    };
    found("is not there", with(edits(&[ABSENT])));
}

/// A test of the contracts is one for which their own test takes out lines.
#[test]
fn a_test_of_the_contracts_is_asked_for_where_their_lines_are() {
    const FOLDER: &str = "deploy/contracts/tests/contracts/";
    let exempt = [("many secrets", "")];
    for (lines, good) in [("\"some::it_reverts\"", true), ("\"it_reverts\"", false)] {
        let read = |file: &str| match file.strip_prefix(FOLDER) {
            Some("some.rs") => Some("#[test]\nfn it_reverts() {".to_owned()),
            Some("threats.rs") => Some(lines.to_owned()),
            _ if file == DOCUMENT => Some(TABLE.replace(
                "it_is_refused, it_is_refused_again",
                &format!("`{FOLDER}some.rs`: it_reverts"),
            )),
            _ if file == CHECK.file => Some(CHECK.takes.to_owned()),
            _ => Some("#[test]\nfn it_is_counted() {".to_owned()),
        };
        let faults = faults(&read, &[COUNTED], &exempt);
        assert_eq!(faults.is_empty(), good, "{lines}: {faults:?}");
    }
}
