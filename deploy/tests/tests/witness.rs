//! Witnesses from inputs: the same bytes as snarkjs's calculator makes, from programs that the
//! real circom compiled; what is wrong with inputs in one line; and the way through a real service.

use std::path::{Path, PathBuf};

use caldera_tests::interop::{
    self, circom2, json, semaphore_program, semaphore_verification_key, semaphore_witnesses,
    semaphore_zkey, snarkjs, snarkjs_verdicts,
};
use caldera_tests::programs::run_caldera;
use caldera_tests::service::{Client, Service};
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

/// Compiles a circuit of one line.
fn product(formula: &str) -> Compiled {
    let folder = tempfile::tempdir().unwrap();
    let source = format!(
        "pragma circom 2.1.0;\n\
         template Product() {{ signal input a; signal input b; signal output c; c <== {formula}; }}\n\
         component main = Product();\n"
    );
    std::fs::write(folder.path().join("product.circom"), source).unwrap();
    circom2(folder.path(), ["product.circom", "--wasm", "--r1cs"]).expect_success();
    let name = "product";
    Compiled { folder, name }
}

/// The danger: a program that is not the circuit's, or a circuit that asserts less than it constrains, makes a
/// witness that fails only when all of the proof has been computed, and nobody learns where.
#[test]
fn a_computed_witness_is_held_against_the_constraints() {
    let service = Service::start(
        &[("plaza", "social"), ("bank", "financial")],
        "development = true\nlimits = { witness_inputs = 4 }\n",
    );
    let (plaza, bank) = (service.client("plaza"), service.client("bank"));
    let (right, wrong) = (product("a * b"), product("a * b + 1"));
    // Each key is made of secrets of its own, so they are two circuits to the service.
    let keys = ["one.zkey", "two.zkey"].map(|name| {
        let key = right.file(name);
        let r1cs = right.file("product.r1cs");
        run_caldera(["setup".as_ref(), &*r1cs, "-o".as_ref(), &*key]).expect_success();
        std::fs::read(key).unwrap()
    });
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    let (program, r1cs) = (read(right.program()), read(right.file("product.r1cs")));
    let register = |client: &Client, key: &[u8], program: &[u8], r1cs: Option<&[u8]>| {
        let mut asked = json!({
            "zkey": client.upload(key),
            "check": "trusted",
            "witnessProgram": client.upload(program),
        });
        if let Some(r1cs) = r1cs {
            asked["r1cs"] = client.upload(r1cs).into();
        }
        client.call("prover_registerCircuitV1", asked.clone());
        client.settled(asked["zkey"].as_str().unwrap())
    };
    let one = register(&plaza, &keys[0], &program, Some(&r1cs));
    assert_eq!(one["state"], "ready", "{one}");
    let two = register(&plaza, &keys[1], &program, Some(&r1cs));
    let translations = || service.log().matches("witness program translated").count();
    assert_eq!(translations(), 1, "circuits of one tenant share one");
    register(&bank, &keys[0], &program, Some(&r1cs));
    assert_eq!(translations(), 2, "tenants do not");

    let prove = |circuit: &Value, inputs: Value| {
        let asked = json!({"circuit": circuit, "inputs": inputs});
        let job = plaza.call("prover_submitV1", asked)["job"].clone();
        (plaza.ended(&job), job)
    };
    let inputs = json!({"a": 3, "b": 5});
    let (ended, job) = prove(&one["circuit"], inputs.clone());
    assert_eq!(ended["state"], "proved", "{ended}");
    let result = plaza.call("prover_resultV1", json!({"job": job}));
    assert_eq!(result["publicInputs"], json!(["15"]));
    // What it cost is the tenant's: in the job's sum, and in the tenant's.
    let timings = &result["timings"];
    let stage = &timings["stages"][0];
    assert_eq!(stage["kernel"], "witness", "{timings}");
    let ms = timings["witnessMs"].as_f64().unwrap();
    assert!(ms > 0.0 && stage["cpuMs"] == ms, "{timings}");
    let stages = timings["stages"].as_array().unwrap().iter();
    let sum: f64 = stages.map(|it| it["cpuMs"].as_f64().unwrap()).sum();
    let pool = plaza.call("pool_statusV1", json!({}));
    let tenants = pool["tenants"].as_array().unwrap();
    let own = tenants.iter().find(|it| it["tenant"] == "plaza").unwrap();
    let core_ms = own["detail"]["coreMs"].as_f64().unwrap();
    assert!(core_ms >= sum - 1e-3, "{core_ms} of {sum}: {own}");

    // More values than the box takes.
    let (ended, _) = prove(&one["circuit"], json!({"a": [1, 2, 3, 4], "b": 5}));
    assert_eq!(ended["error"]["reason"], "inputsFormat", "{ended}");
    let message = ended["error"]["message"].as_str().unwrap();
    assert!(message.contains("at most 4 values, got 5"), "{message}");

    // The constraints stay while their circuit is there.
    let path = format!("/v1/blobs/{}", one["r1cs"].as_str().unwrap());
    let answer = plaza.send("DELETE", &path, Some(&plaza.token()), b"");
    assert_eq!(answer.status, 409, "{answer:?}");

    let again = |program: &[u8], r1cs: Option<&[u8]>| {
        plaza.call(
            "prover_unregisterCircuitV1",
            json!({"circuit": two["circuit"]}),
        );
        register(&plaza, &keys[1], program, r1cs)
    };
    let other = read(wrong.program());
    assert_eq!(again(&other, Some(&r1cs))["state"], "ready");
    let (ended, _) = prove(&two["circuit"], inputs.clone());
    let error = &ended["error"];
    assert_eq!(error["reason"], "constraintUnsatisfied", "{ended}");
    let expected = "inputs refused: constraint 0, counted from 0, of 1 does not hold";
    assert_eq!(error["message"], expected);
    // Without them nothing but the proof says so.
    assert_eq!(again(&other, None)["state"], "ready");
    let (ended, _) = prove(&two["circuit"], inputs);
    assert_eq!(ended["error"]["reason"], "selfCheckFailed", "{ended}");

    // What are no constraints, or others', is refused by name.
    let others = Compiled::new("polynomial", "bn128");
    for bad in [b"r1cs".to_vec(), read(others.file("polynomial.r1cs"))] {
        let info = again(&program, Some(&bad));
        assert_eq!(info["error"]["reason"], "r1cs", "{info}");
    }
    let alone = json!({"zkey": one["circuit"], "r1cs": one["r1cs"]});
    plaza.call(
        "prover_unregisterCircuitV1",
        json!({"circuit": one["circuit"]}),
    );
    let error = plaza.try_call("prover_registerCircuitV1", alone);
    assert_eq!(error.unwrap_err()["data"]["reason"], "invalidParams");
    assert_eq!(service.stop(), Some(0));
}
