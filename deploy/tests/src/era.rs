//! A `calderad` with a ledger: short epochs, a node's key of its own, one scenario that has a price, and a circuit that is
//! proved in no time.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::programs::{Run, run_caldera};
use crate::service::{Client, Service};

/// What a proof of a financial tenant's costs by the policy that is shipped.
pub const FEE: u128 = 1_000_000_000_000;
/// What the use of a presentation again costs.
pub const REUSE_FEE: u128 = 500_000_000_000;

/// Two tenants, of which the first pays.
pub const TENANTS: [(&str, &str); 2] = [("exchange", "financial"), ("plaza", "social")];

const PUBLIC_KEY: &str = "node.pub";

/// A box with a ledger.
pub struct Box {
    /// It.
    pub service: Service,
    /// Who runs it.
    pub operator: Client,
    _folder: tempfile::TempDir,
}

impl Box {
    /// Starts one with epochs of so many seconds, whose payouts can be claimed at once.
    pub fn start(length_s: u32) -> Box {
        Box::start_with(length_s, 0)
    }

    /// The same, and a payout can be taken back for so many seconds.
    pub fn start_with(length_s: u32, claim_delay_s: u32) -> Box {
        Box::start_by(&times(length_s, claim_delay_s), "")
    }

    /// Starts one by the policy that is shipped with these words in place of those. `extra` is further configuration at the top level.
    pub fn start_by(edits: &[(&str, String)], extra: &str) -> Box {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "development = true\n{extra}\n[limits]\ntenant_results = 1000000\n{}",
            section_by(folder.path(), edits)
        );
        let service = Service::start(&TENANTS, &config);
        let operator = service.client("operator");
        Box {
            service,
            operator,
            _folder: folder,
        }
    }

    /// Registers a tenant, as of the owner of this number, and gives it so much; the number of the party.
    pub fn party(&self, tenant: &str, role: &str, owner: u64, units: u128) -> Value {
        let register = json!({
            "id": id(1_000_000 + owner), "tenant": tenant, "role": role, "owner": owner,
            "verified": true, "address": format!("0x{owner:040x}"),
        });
        let party = self.operator.call("era_registerV1", register)["party"].clone();
        if units > 0 {
            let transfer = deposit(2_000_000 + owner, &party, units);
            self.operator.call("era_transferV1", transfer);
        }
        party
    }

    /// `caldera era` and these words, as somebody whom the service knows.
    pub fn era(&self, who: &str, words: &[&str]) -> Run {
        let url = format!("http://{}", self.service.address());
        let secret = self.service.folder().join(format!("{who}.secret"));
        let secret = secret.to_str().expect("a path in UTF-8");
        let connection = ["--url", &url, "--tenant", who, "--secret-file", secret];
        let begin = ["--json", "era"];
        run_caldera(begin.iter().chain(words).chain(&connection))
    }

    /// The same; what it prints.
    pub fn era_says(&self, who: &str, words: &[&str]) -> Value {
        let said = self.era(who, words).expect_success();
        serde_json::from_str(&said).expect("JSON")
    }

    /// A party as the operator sees it.
    pub fn account(&self, party: &Value) -> Value {
        self.operator.call("era_accountV1", json!({"party": party}))[0].clone()
    }

    /// The folder of the service.
    pub fn data(&self) -> PathBuf {
        self.service.folder().join("data")
    }

    /// `caldera era audit` of the folder, whoever has it open; the run, and what it printed.
    pub fn audit(&self) -> (Run, Value) {
        let data = self.data();
        let arguments = ["--json", "era", "audit"].map(str::as_ref);
        let run = run_caldera(arguments.into_iter().chain([data.as_os_str()]));
        let said = serde_json::from_str(&run.stdout).expect("JSON");
        (run, said)
    }

    /// Registers the circuit for a tenant; what it then submits to have a proof.
    pub fn circuit(&self, client: &Client) -> Value {
        let [zkey, wtns] = ["c.zkey", "c.wtns"].map(|name| self.service.folder().join(name));
        if !zkey.exists() {
            run_caldera([
                "setup".as_ref(),
                "--synthetic".as_ref(),
                "2^5".as_ref(),
                "-o".as_ref(),
                zkey.as_os_str(),
                "--witness".as_ref(),
                wtns.as_os_str(),
            ])
            .expect_success();
        }
        let read = |path: &PathBuf| std::fs::read(path).expect("it was made");
        let circuit = client.register(&read(&zkey), "trusted");
        json!({"circuit": circuit, "witness": client.upload(&read(&wtns))})
    }
}

/// The section of a configuration that has a box keep a ledger, with the policy that is shipped but for its times; policy and key
/// are put into this folder.
pub fn section(folder: &Path, length_s: u32, claim_delay_s: u32) -> String {
    section_by(folder, &times(length_s, claim_delay_s))
}

/// What makes an epoch so long, and payouts mature so much later.
pub fn times(length_s: u32, claim_delay_s: u32) -> [(&'static str, String); 2] {
    [
        ("length_s = 3600", format!("length_s = {length_s}")),
        (
            "claim_delay_s = 259200",
            format!("claim_delay_s = {claim_delay_s}"),
        ),
    ]
}

/// The policy that is shipped with these words in place of those.
pub fn policy(edits: &[(&str, String)]) -> String {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../era.toml");
    let mut policy = std::fs::read_to_string(shipped).expect("the policy that is shipped");
    for (from, to) in edits {
        assert!(policy.contains(from), "the policy has no {from:?}");
        policy = policy.replace(from, to);
    }
    policy
}

fn section_by(folder: &Path, edits: &[(&str, String)]) -> String {
    let key = folder.join("node.key");
    let public = run_caldera(["era".as_ref(), "keygen".as_ref(), key.as_os_str()]);
    std::fs::write(folder.join(PUBLIC_KEY), public.expect_success()).expect("written");
    let file = folder.join("era.toml");
    std::fs::write(&file, policy(edits)).expect("written");
    format!(
        "[era]\npolicy_file = {file:?}\nnode_key_file = {key:?}\nnode_owner = 1\nnode_address = \"0x{}\"\n",
        "01".repeat(20)
    )
}

/// The public key of the node whose section was made in this folder.
pub fn node_key(folder: &Path) -> String {
    let public = std::fs::read_to_string(folder.join(PUBLIC_KEY));
    public.expect("a key").trim().to_owned()
}

/// A transfer from outside.
pub fn deposit(number: u64, party: &Value, units: u128) -> Value {
    let to = party.to_string();
    let leg = json!({"asset": "era", "from": "outside", "to": to, "amount": units.to_string()});
    json!({"id": id(number), "legs": [leg]})
}

/// An id of a command.
pub fn id(number: u64) -> String {
    format!("0x{number:032x}")
}

/// An amount.
pub fn units(value: &Value) -> u128 {
    let text = value.as_str().expect("a string");
    text.parse().expect("digits")
}
