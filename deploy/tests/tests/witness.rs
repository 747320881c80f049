//! Witnesses from inputs: the same bytes as snarkjs's calculator makes, from programs that the
//! real circom compiled; what is wrong with inputs in one line; and the way through a real service.

use std::path::{Path, PathBuf};

use caldera_tests::interop::{
    self, circom2, json, semaphore_program, semaphore_verification_key, semaphore_witnesses,
    semaphore_zkey, snarkjs, snarkjs_verdicts,
};
use caldera_tests::programs::run_caldera;
use caldera_tests::service::Service;
use serde_json::{Value, json};

/// A circuit of `interop/circuits`, compiled to a witness program.
struct Compiled {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Compiled {
    fn new(name: &'static str, prime: &str) -> Compiled {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("{name}.circom");
        let source = interop::folder().join("circuits").join(&file);
        std::fs::copy(source, folder.path().join(&file)).unwrap();
        circom2(folder.path(), [&file, "--wasm", "--r1cs", "-p", prime]).expect_success();
        Compiled { folder, name }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self) -> PathBuf {
        self.file(&format!("{0}_js/{0}.wasm", self.name))
    }

    fn inputs(&self, inputs: &Value) -> PathBuf {
        let file = self.file("inputs.json");
        std::fs::write(&file, inputs.to_string()).unwrap();
        file
    }

    /// That we and snarkjs make the same bytes.
    fn agrees(&self, inputs: &Value) {
        let inputs = self.inputs(inputs);
        let theirs = self.file("theirs.wtns");
        calculate(&self.program(), &inputs, &theirs);
        let ours = self.file("ours.wtns");
        witness(&self.program(), &inputs, &ours).expect_success();
        let (ours, theirs) = (std::fs::read(ours).unwrap(), std::fs::read(theirs).unwrap());
        assert!(ours == theirs, "{} {}", ours.len(), theirs.len());
    }

    /// The code and the line with which inputs are refused.
    fn refused(&self, inputs: &Value, code: i32, expected: &str) {
        let output = self.file("none.wtns");
        let run = witness(&self.program(), &self.inputs(inputs), &output).expect_code(code);
        assert!(run.stderr.contains(expected), "{expected}: {run}");
        assert!(!output.exists());
    }
}

fn calculate(program: &Path, inputs: &Path, output: &Path) {
    snarkjs([
        "wtns".as_ref(),
        "calculate".as_ref(),
        program,
        inputs,
        output,
    ])
    .expect_success();
}

fn witness(program: &Path, inputs: &Path, output: &Path) -> caldera_tests::programs::Run {
    run_caldera(["witness".as_ref(), program, inputs, "-o".as_ref(), output])
}

fn inputs() -> Value {
    json!({
        "grid": [[1, "2", -3, "-4"], [0, true, false, "0x10"],
            ["21888242871839275222246405745257275088548364400416034343698204186575808495618",
             "115792089237316195423570985008687907853269984665640564039457584007913129639936", 7, 8]],
        "row": [5, 6, "7", 8],
        "scalar": 999,
    })
}

#[test]
fn arrays_and_every_way_to_write_a_number() {
    for prime in ["bn128", "bls12381"] {
        let circuit = Compiled::new("inputs", prime);
        circuit.agrees(&inputs());
        // circom flattens arrays, so their shape is not its business.
        let mut flat = inputs();
        flat["grid"] = json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        circuit.agrees(&flat);
    }
}

#[test]
fn the_polynomial_of_either_curve() {
    for prime in ["bn128", "bls12381"] {
        Compiled::new("polynomial", prime)
            .agrees(&json!({"x": "12345678901234567890", "a": "-7", "y": "99"}));
    }
}

#[test]
fn what_is_wrong_with_inputs_is_named() {
    let circuit = Compiled::new("inputs", "bn128");
    let with = |signal: &str, value: Value| {
        let mut inputs = inputs();
        inputs[signal] = value;
        inputs
    };
    circuit.refused(
        &with("scalar", json!(1000)),
        95,
        "assert failed: Error in template Below_0 line: 11; Error in template Inputs_1 line: 23",
    );
    circuit.refused(
        &with("row", json!([1, 2])),
        94,
        "signal row: expected 4 values, got 2",
    );
    circuit.refused(
        &with("surplus", json!(1)),
        94,
        "the circuit has no input signal surplus",
    );
    circuit.refused(
        &with("scalar", json!(1.5)),
        94,
        "signal scalar: expected a whole number",
    );
    circuit.refused(
        &json!({"scalar": 1}),
        94,
        "expected 17 values in all, got 1, in scalar",
    );
    let zkey = semaphore_zkey(1);
    let run = witness(&zkey, &circuit.inputs(&inputs()), &circuit.file("x.wtns"));
    run.expect_code(65);
}

#[test]
fn the_largest_semaphore() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (theirs, ours) = (file("theirs.wtns"), file("ours.wtns"));
    semaphore_witnesses(32, std::slice::from_ref(&theirs));
    let inputs = file("inputs.json");
    std::fs::write(&inputs, interop::semaphore_inputs(32).to_string()).unwrap();
    witness(&semaphore_program(32), &inputs, &ours).expect_success();
    assert!(std::fs::read(&ours).unwrap() == std::fs::read(theirs).unwrap());

    let (proof, public) = (file("proof.json"), file("public.json"));
    let program = semaphore_program(32);
    let wasm: &Path = "--wasm".as_ref();
    run_caldera([
        "prove".as_ref(),
        wasm,
        &*program,
        &*semaphore_zkey(32),
        &*inputs,
        &*proof,
        &*public,
    ])
    .expect_success();
    let case = json!({
        "verificationKey": json(&semaphore_verification_key(32)),
        "publicInputs": json(&public),
        "proof": json(&proof),
    });
    assert_eq!(snarkjs_verdicts(&[case]), [true]);
}

/// From inputs to a proof that snarkjs accepts, and every way in which that ends otherwise.
#[test]
fn a_service_takes_inputs() {
    let service = Service::start(&[("plaza", "social")], "[limits]\nwitness_ms = 60000\n");
    let plaza = service.client("plaza");
    let zkey = plaza.upload(&std::fs::read(semaphore_zkey(16)).unwrap());
    let program = plaza.upload(&std::fs::read(semaphore_program(16)).unwrap());
    let registered = plaza.call(
        "prover_registerCircuitV1",
        json!({"zkey": zkey, "check": "trusted", "witnessProgram": program}),
    );
    assert_eq!(registered["witnessProgram"], program.as_str());
    assert_eq!(plaza.settled(&zkey)["state"], "ready");

    let inputs = interop::semaphore_inputs(16);
    let job = plaza.call(
        "prover_submitV1",
        json!({"circuit": zkey, "inputs": inputs}),
    )["job"]
        .clone();
    let ended = plaza.ended(&job);
    assert_eq!(ended["state"], "proved", "{ended}");
    let result = plaza.call("prover_resultV1", json!({"job": job}));
    let case = json!({
        "verificationKey": json(&semaphore_verification_key(16)),
        "publicInputs": result["publicInputs"],
        "proof": result["proof"],
    });
    assert_eq!(snarkjs_verdicts(&[case]), [true]);
    assert!(
        result["timings"]["witnessMs"].as_f64().unwrap() > 0.0,
        "{result}"
    );

    // The program stays while its circuit is there.
    let answer = plaza.send(
        "DELETE",
        &format!("/v1/blobs/{program}"),
        Some(&plaza.token()),
        b"",
    );
    assert_eq!(answer.status, 409, "{answer:?}");

    let failed = |inputs: Value| {
        let job = plaza.call(
            "prover_submitV1",
            json!({"circuit": zkey, "inputs": inputs}),
        )["job"]
            .clone();
        plaza.ended(&job)["error"].clone()
    };
    let mut wrong = inputs.clone();
    wrong["scope"] = json!([1, 2]);
    let error = failed(wrong);
    assert_eq!(error["reason"], "inputsSignals", "{error}");
    assert_eq!(
        error["message"],
        "inputs refused: inputs: signal scope: expected 1 values, got 2"
    );
    let mut wrong = inputs.clone();
    wrong["secret"] = json!("0x");
    assert_eq!(failed(wrong)["reason"], "inputsFormat");
    // Above the order of the subgroup: an assertion of the circuit's own.
    let mut wrong = inputs.clone();
    wrong["secret"] =
        json!("21888242871839275222246405745257275088548364400416034343698204186575808495616");
    let error = failed(wrong);
    assert_eq!(error["reason"], "circuitAssertion", "{error}");
    assert!(
        error["message"].as_str().unwrap().contains("line: "),
        "{error}"
    );

    let error = plaza
        .try_call(
            "prover_submitV1",
            json!({"circuit": zkey, "inputs": {}, "witness": zkey}),
        )
        .unwrap_err();
    assert_eq!(error["data"]["reason"], "invalidParams");

    // Another circuit's program is not this one's.
    plaza.call("prover_unregisterCircuitV1", json!({"circuit": zkey}));
    let other = plaza.upload(&std::fs::read(semaphore_program(1)).unwrap());
    plaza.call(
        "prover_registerCircuitV1",
        json!({"zkey": zkey, "check": "trusted", "witnessProgram": other}),
    );
    let error = plaza.settled(&zkey)["error"].clone();
    assert_eq!(error["reason"], "witnessProgram", "{error}");
    // And without one inputs are refused at once.
    plaza.call("prover_unregisterCircuitV1", json!({"circuit": zkey}));
    assert_eq!(
        plaza.register(&std::fs::read(semaphore_zkey(16)).unwrap(), "trusted"),
        zkey
    );
    let error = plaza
        .try_call(
            "prover_submitV1",
            json!({"circuit": zkey, "inputs": inputs}),
        )
        .unwrap_err();
    assert_eq!(error["data"]["reason"], "witnessProgramMissing");
    assert_eq!(service.stop(), Some(0));
}
