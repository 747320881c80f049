//! The circuit of presentations before other judges: the same statement in circom, compiled by
//! circom2 and built from circomlib; snarkjs, which checks its witnesses, holds a ceremony
//! for it and verifies what our prover makes of the key.

// Shared with the bench of presentations, which lives in another crate.
#[path = "../interop/circuits/signals.rs"]
mod signals;

use std::path::Path;
use std::time::Duration;

use ark_bn254::Fr;
use ark_ff::PrimeField;
use bytes::Bytes;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_prover::format::{R1cs, Wtns, Zkey};
use caldera_prover::groth16::{ProvingKey, prove, setup_r1cs};
use caldera_prover::units::{
    AcceptedIssuer, Bounds, Grant, HolderSecret, IssuerSecret, IssuerTree, Opening, Presentation,
    Request, RevocationTree, ScopeName, UnitContent, ValueSet, circuit, domain_native,
    keccak_element, seed, tip, witness,
};
use caldera_tests::interop::{self, circom2, json, node, snarkjs};
use serde_json::{Value, json};
use signals::{signals, tag};

/// Every case is put to both circuits; both must give the expected answer, and the same public
/// values where they accept.
#[test]
fn circom_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    // The compiler sees its working folder alone.
    let circomlib = interop::folder().join("node_modules/circomlib/circuits");
    copy_folder(&circomlib, &folder.path().join("circomlib"));
    let source = "presentation.circom";
    let from = interop::folder().join("circuits").join(source);
    std::fs::copy(from, folder.path().join(source)).unwrap();
    circom2(folder.path(), [source, "--wasm", "--O0"]).expect_success();

    let cases = cases();
    let inputs: Vec<Value> = cases.iter().map(|case| signals(&case.opening)).collect();
    let judged = judged(folder.path(), &inputs);
    assert_eq!(judged.len(), cases.len());
    let constraints = Constraints::read();
    for (case, verdict) in cases.iter().zip(judged) {
        let expected = case.good.then(|| {
            let elements = case.opening.statement.elements();
            Value::from(elements.map(|value| value.to_string()).to_vec())
        });
        assert_eq!(
            verdict,
            expected.unwrap_or(Value::Null),
            "circom: {}",
            case.what
        );
        let ours = constraints.hold(&witness(&case.opening));
        assert_eq!(ours, case.good, "ours: {}", case.what);
    }
}

/// From our file of the circuit to a proof by our prover that snarkjs accepts, and no other
/// statement with it. A ceremony of this size takes snarkjs minutes, so it is held where
/// `CALDERA_CEREMONY_SOAK` is set; else the key is a development key, which snarkjs reads alike.
#[test]
fn snarkjs_accepts_what_we_prove() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let opening = world(|_| {});
    let witness = witness(&opening);
    std::fs::write(file("presentation.r1cs"), circuit()).unwrap();
    let mut bytes = Vec::new();
    witness.write(&mut bytes).unwrap();
    std::fs::write(file("witness.wtns"), bytes).unwrap();
    let said = snarkjs([
        "wtns".as_ref(),
        "check".as_ref(),
        &*file("presentation.r1cs"),
        &*file("witness.wtns"),
    ])
    .expect_success();
    assert!(said.contains("WITNESS IS CORRECT"), "{said}");

    if std::env::var_os("CALDERA_CEREMONY_SOAK").is_some() {
        let script = "circuits/presentation-ceremony.mjs";
        node(script, [&*file("presentation.r1cs"), folder.path()]).expect_success();
    } else {
        let r1cs = R1cs::parse(circuit().clone()).unwrap();
        let mut key = Vec::new();
        setup_r1cs(&r1cs, &[1; 32], 2, &mut key, &mut |_| {}).unwrap();
        std::fs::write(file("final.zkey"), key).unwrap();
        snarkjs([
            "zkey".as_ref(),
            "export".as_ref(),
            "verificationkey".as_ref(),
            &*file("final.zkey"),
            &*file("final.vk.json"),
        ])
        .expect_success();
    }
    let zkey = Zkey::parse(Bytes::from(std::fs::read(file("final.zkey")).unwrap())).unwrap();
    assert_eq!(zkey.header().domain, 1 << 14);
    let device = CpuDevice::new(CpuConfig {
        quantum: Duration::from_millis(2),
        lanes: 2,
    });
    let key = ProvingKey::load(&zkey, device).unwrap();
    let (proof, inputs) = prove(&key, witness, 2, &mut |_, _| {}).unwrap();

    let case = |inputs: Value| {
        json!({
            "verificationKey": json(&file("final.vk.json")),
            "publicInputs": inputs,
            "proof": serde_json::to_value(&proof).unwrap(),
        })
    };
    let honest = serde_json::to_value(&inputs).unwrap();
    let mut cases = vec![case(honest.clone())];
    for place in 0..5 {
        let mut other = honest.clone();
        other[place] = "1".into();
        cases.push(case(other));
    }
    let verdicts = interop::snarkjs_verdicts(&cases);
    assert_eq!(verdicts, [true, false, false, false, false, false]);
}

struct Case {
    what: &'static str,
    good: bool,
    opening: Opening,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |what, good, opening| {
        cases.push(Case {
            what,
            good,
            opening,
        })
    };
    let lie = |change: &dyn Fn(&mut Opening)| {
        let mut opening = world(|_| {});
        change(&mut opening);
        opening
    };
    let one = Fr::from(1);
    let two_64 = Fr::from(1u128 << 64);

    case("an honest presentation", true, world(|_| {}));
    case("no set", true, world(|parts| parts.set = None));
    case(
        "the last second",
        true,
        world(|parts| parts.valid_until = VALID_THROUGH),
    );
    case("a first presentation", true, world(|parts| parts.index = 0));
    case("nobody revoked", true, world(|parts| parts.revoked.clear()));
    for place in 0..4 {
        let opening = lie(&|o: &mut Opening| match place {
            0 => o.statement.issuers_root += one,
            1 => o.statement.revocation_root += one,
            2 => o.statement.request += one,
            _ => o.statement.nullifier += one,
        });
        case("another public value", false, opening);
    }
    case(
        "another grant with the same unit",
        true,
        lie(&|o| o.statement.grant += one),
    );
    case(
        "another signature",
        false,
        lie(&|o| o.signature.r = o.signature.r.negated()),
    );
    case("another secret", false, lie(&|o| o.secret += one));
    case("another claim", false, lie(&|o| o.claims[9] += one));
    let claim = |claim: usize, value: Fr| {
        lie(&|o| {
            o.claims[claim] = value;
            sign(o);
        })
    };
    case("the least", true, claim(1, Fr::from(LEAST)));
    case("less than the least", false, claim(1, Fr::from(LEAST - 1)));
    case("65 bits", false, claim(1, two_64));
    case("the greatest", true, claim(2, Fr::from(2)));
    case("more than the greatest", false, claim(2, Fr::from(3)));
    case("less than zero", false, claim(2, -one));
    case("not in the set", false, claim(0, Fr::from(41)));
    case("a wider bound", false, lie(&|o| o.bounds[0].0 -= one));
    case(
        "the set left out",
        false,
        lie(&|o| o.set_root = Fr::from(0)),
    );
    case(
        "over",
        false,
        lie(&|o| {
            o.valid_until = o.valid_through - one;
            sign(o);
        }),
    );
    case(
        "longer than times can be",
        false,
        lie(&|o| {
            o.valid_until = o.valid_through + Fr::from(1u64 << 40);
            sign(o);
        }),
    );
    case("another position", false, lie(&|o| o.position -= 1));
    case("another sibling", false, lie(&|o| o.siblings[7] += one));
    case(
        "a fence of the gap",
        false,
        lie(&|o| {
            o.nonce -= one;
            sign(o);
        }),
    );
    case(
        "a fence in a gap of the same leaf",
        false,
        lie(&|o| {
            o.nonce -= one;
            sign(o);
            o.gap_low -= two_64;
            o.gap_next += one;
        }),
    );
    case("another gap", false, lie(&|o| o.gap_index += 1));
    case(
        "an index too many",
        false,
        lie(&|o| {
            o.index = o.presentations;
            count(o);
        }),
    );
    case(
        "an index below zero",
        false,
        lie(&|o| {
            o.index = -one;
            count(o);
        }),
    );
    cases
}

const VALID_THROUGH: u64 = 1_800_000_000;
const LEAST: u64 = 90_000;

/// What a case may change before anything is signed.
struct Parts {
    valid_until: u64,
    index: u16,
    revoked: Vec<(u16, u64)>,
    set: Option<ValueSet>,
}

fn issuer() -> IssuerSecret {
    IssuerSecret::from_seed(&[3; 32])
}

fn world(change: impl FnOnce(&mut Parts)) -> Opening {
    let mut parts = Parts {
        valid_until: 1_900_000_000,
        index: 2,
        revoked: vec![(3, 999), (3, 1001), (1, 1000)],
        set: Some(ValueSet::new(0, &[40, 276, 756]).unwrap()),
    };
    change(&mut parts);
    let secret = HolderSecret::from_bytes(&[7; 32]).unwrap();
    let blinding = Fr::from(123_456_789u64);
    let schema = keccak_element(b"example schema v1");
    let mut claims = [0; 16];
    claims[..5].copy_from_slice(&[756, 90_000, 2, 1_999, u64::MAX]);
    let content = UnitContent {
        schema,
        subject: secret.subject(blinding),
        claims,
        valid_until: parts.valid_until,
        nonce: 1000,
    };
    let scope = ScopeName {
        scenario: ScopeName::part("retail"),
        verifier: ScopeName::part("shop"),
        purpose: ScopeName::part("instalment"),
        epoch: 12,
    };
    let request = Request {
        schema,
        scope: scope.element(),
        valid_through: VALID_THROUGH,
        presentations: 3,
        bounds: [
            Bounds::at_least(1, LEAST),
            Bounds::at_most(2, 2),
            Bounds::between(3, 1_999, 2_001),
            Bounds::equal(4, u64::MAX),
        ],
        set: parts.set,
    };
    let keys: Vec<_> = (0..6)
        .map(|i| AcceptedIssuer {
            key: IssuerSecret::from_seed(&[i; 32]).key(),
            schema,
        })
        .collect();
    let grant = Grant {
        domain: domain_native(&[9; 32]),
        verifier: [0x11; 20],
        sender: [0x22; 20],
        request: request.element().unwrap(),
        tip: tip(&seed(&secret, &[1; 32]), 5),
        uses: 5,
        expiry: 1_850_000_000,
        challenge: [0x33; 32],
    };
    Presentation {
        secret: &secret,
        blinding,
        unit: &content.issue(&issuer()).unwrap(),
        issuers: &IssuerTree::new(&keys).unwrap(),
        revoked: &RevocationTree::new(&parts.revoked).unwrap(),
        request: &request,
        grant: &grant,
        index: parts.index,
    }
    .open()
    .unwrap()
}

/// The issuer signs the unit as it is now.
fn sign(o: &mut Opening) {
    let hash = caldera_prover::units::poseidon::hash;
    let subject = hash(&[tag("subject"), o.secret, o.blinding]);
    let validity = o.nonce + o.valid_until * Fr::from(1u64 << 48);
    let message = [tag("unit"), o.schema, subject, hash(&o.claims), validity];
    o.signature = issuer().sign(hash(&message));
}

/// The nullifier of the opening as it is now.
fn count(o: &mut Opening) {
    let inputs = [tag("nullifier"), o.secret, o.scope, o.index];
    o.statement.nullifier = caldera_prover::units::poseidon::hash(&inputs);
}

fn judged(folder: &Path, inputs: &[Value]) -> Vec<Value> {
    let mut child = std::process::Command::new("node")
        .arg(interop::folder().join("circuits/presentation.mjs"))
        .arg(folder)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("node can be started");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // The script reads all of its input before it writes.
    std::io::Write::write_all(
        &mut stdin,
        Value::from(inputs.to_vec()).to_string().as_bytes(),
    )
    .expect("node reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("node ends");
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).expect("a list of verdicts")
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The shipped circuit, read from its file.
struct Constraints(Vec<[Vec<(usize, Fr)>; 3]>);

impl Constraints {
    fn read() -> Constraints {
        let r1cs = R1cs::parse(circuit().clone()).unwrap();
        let rows = r1cs.constraints().map(|row| {
            [row.a, row.b, row.c].map(|side| {
                let terms = side.terms();
                terms
                    .map(|(wire, c)| (wire as usize, Fr::from_le_bytes_mod_order(c)))
                    .collect()
            })
        });
        Constraints(rows.collect())
    }

    fn hold(&self, witness: &Wtns) -> bool {
        let values = witness.elements().chunks_exact(32);
        let values: Vec<Fr> = values.map(Fr::from_le_bytes_mod_order).collect();
        self.0.iter().all(|row| {
            let [a, b, c] = row
                .each_ref()
                .map(|side| side.iter().map(|(wire, c)| *c * values[*wire]).sum::<Fr>());
            a * b == c
        })
    }
}
