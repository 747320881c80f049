//! The threat table of `docs/state-units.md`, and what is taken out to see that its tests would notice.
//!
//! A test that a threat is stopped says little if it also passes without the line that stops it. So each row of
//! the table has mutations: a line is taken out of the sources, or a liar's witness is written into the circuit, and the
//! test that the row names has to fail, in the words that it has for this lie. (Mutation analysis: DeMillo,
//! Lipton and Sayward, 1978.) `make test-threats` tries them one by one, which takes its time; that they still fit the
//! sources, that each row has one, and that each named test is there, is tried by `tests/threats.rs` each time.
//!
//! What a liar does has to be written into the circuit where no field of an opening could say it: the witness is filled in
//! by the code that also states the constraints. A mutation that changes the number of wires corrects the
//! number that is asserted, or every test would fail for that.
//!
//! The contracts' lines are taken out by a test of their own, `deploy/contracts/tests/contracts/threats.rs`; here is only
//! asked whether it tries those tests that the table names.

mod mutations;

pub use mutations::{EXEMPTIONS, MUTATIONS};

/// A change of the sources that no test must overlook.
#[derive(Debug)]
pub struct Mutation {
    /// What is gone, or what a liar does.
    pub what: &'static str,
    /// The change.
    pub edits: &'static [Edit],
    /// Who notices.
    pub tries: &'static [Try],
}

/// One place of a change.
#[derive(Debug)]
pub struct Edit {
    /// Path from the top of the tree.
    pub file: &'static str,
    /// What is there, once.
    pub takes: &'static str,
    /// What stands there instead.
    pub puts: &'static str,
}

/// A test that has to fail.
#[derive(Debug)]
pub struct Try {
    /// The row of the table: its first column.
    pub threat: &'static str,
    /// The file of the test: `PACKAGE/tests/TARGET.rs`.
    pub file: &'static str,
    /// The test.
    pub test: &'static str,
    /// What it says when it fails for this reason and no other.
    pub says: &'static str,
}

/// A row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// The first column.
    pub threat: String,
    /// File and name of each test of the last column.
    pub tests: Vec<(String, String)>,
}

/// The document with the table.
pub const DOCUMENT: &str = "docs/state-units.md";

/// The rows of the table in a document's section "Threats".
pub fn rows(document: &str) -> Result<Vec<Row>, String> {
    let section = document.split_once("\n## Threats\n");
    let section = section.ok_or("no section \"Threats\"")?.1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with('|'));
    // The head, and the line below it.
    let rows: Vec<Row> = lines.skip(2).map(row).collect::<Result<_, _>>()?;
    match rows.is_empty() {
        true => Err("no table of threats".to_owned()),
        false => Ok(rows),
    }
}

/// `| threat | what stops it | tests |`, where tests are names, after the file that they are in if that is not
/// the usual one: `FILE`: NAME, NAME; `FILE`: NAME.
fn row(line: &str) -> Result<Row, String> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [threat, _, tests] = cells[..] else {
        return Err(format!("a row with {} columns: {line}", cells.len()));
    };
    let mut named = Vec::new();
    for part in tests.split(';').map(str::trim).filter(|it| !it.is_empty()) {
        let (file, names) = match part.strip_prefix('`').and_then(|it| it.split_once("`: ")) {
            Some(found) => found,
            None => (USUAL, part),
        };
        for name in names.split(", ") {
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(format!("row \"{threat}\": `{name}` is no name of a test"));
            }
            named.push((file.to_owned(), name.to_owned()));
        }
    }
    Ok(Row {
        threat: threat.to_owned(),
        tests: named,
    })
}

/// What is wrong with table, mutations and exemptions, for a tree of which `read` gives a file's text.
pub fn faults(
    read: &dyn Fn(&str) -> Option<String>,
    mutations: &[Mutation],
    exemptions: &[(&str, &str)],
) -> Vec<String> {
    let Some(document) = read(DOCUMENT) else {
        return vec![format!("{DOCUMENT} is not there")];
    };
    let rows = match rows(&document) {
        Ok(rows) => rows,
        Err(error) => return vec![format!("{DOCUMENT}: {error}")],
    };
    let mut faults = Vec::new();
    for Mutation { what, edits, tries } in mutations {
        if edits.is_empty() || tries.is_empty() {
            faults.push(format!("\"{what}\" changes or tries nothing"));
        }
        for Edit { file, takes, puts } in *edits {
            let times = read(file).map(|text| text.matches(takes).count());
            match times {
                None => faults.push(format!("\"{what}\": {file} is not there")),
                Some(1) if takes != puts => {}
                Some(1) => faults.push(format!("\"{what}\" changes nothing in {file}")),
                Some(times) => faults.push(format!(
                    "\"{what}\": {file} has this {times} times, expected once:\n{takes}"
                )),
            }
        }
        for it in *tries {
            if it.says.is_empty() {
                faults.push(format!("\"{what}\": {} says nothing", it.test));
            }
            let named = |row: &Row| {
                let mut tests = row.tests.iter();
                row.threat == it.threat
                    && tests.any(|(file, test)| file == it.file && test == it.test)
            };
            if !rows.iter().any(named) {
                faults.push(format!(
                    "\"{what}\": no row \"{}\" names {} of {}",
                    it.threat, it.test, it.file
                ));
            }
        }
    }
    for (threat, _) in exemptions {
        if !rows.iter().any(|row| row.threat == *threat) {
            faults.push(format!("\"{threat}\" is exempt and no row"));
        }
    }
    for Row { threat, tests } in &rows {
        let exempt = exemptions.iter().any(|(row, _)| row == threat);
        let tries = mutations.iter().flat_map(|mutation| mutation.tries);
        let tries: Vec<&Try> = tries.filter(|it| it.threat == *threat).collect();
        match (exempt, tries.is_empty()) {
            (false, true) => faults.push(format!("row \"{threat}\" has no mutation")),
            (true, false) => faults.push(format!("row \"{threat}\" is exempt and has mutations")),
            _ => {}
        }
        for (file, test) in tests {
            let text = read(file).unwrap_or_default();
            if !text.contains(&format!("#[test]\nfn {test}() {{")) {
                faults.push(format!("row \"{threat}\": {file} has no test {test}"));
            }
            let tried = match file.strip_prefix(CONTRACTS) {
                Some(of) => {
                    let lines = read(&format!("{CONTRACTS}threats.rs")).unwrap_or_default();
                    let of = of.trim_end_matches(".rs");
                    lines.contains(&format!("\"{of}::{test}\""))
                }
                None => tries.iter().any(|it| it.file == file && it.test == test),
            };
            if !tried {
                faults.push(format!(
                    "row \"{threat}\": nothing is taken out for {test} of {file}"
                ));
            }
        }
    }
    faults
}

/// Where tests are that the table names without a file.
const USUAL: &str = "prover/tests/units_circuit.rs";
/// Where the contracts' tests are, and the one that takes out lines for them.
const CONTRACTS: &str = "deploy/contracts/tests/contracts/";
