//! The little circuit in `interop/circuits`, compiled by circom2 for either curve, with a witness
//! by its own wasm and, where asked for, the keys of a ceremony by snarkjs. Real inputs, and small
//! enough that a test may make its own.

use std::path::{Path, PathBuf};

use crate::interop::{self, circom2, node, snarkjs};

/// The circuit, in a folder that goes with it.
pub struct Circuit {
    folder: tempfile::TempDir,
}

impl Circuit {
    /// Compiles it (`bn128` or `bls12381`) and makes `witness.wtns`.
    pub fn compile(curve: &str) -> Self {
        let circuit = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let name = "polynomial.circom";
        let source = interop::folder().join("circuits").join(name);
        std::fs::copy(source, circuit.file(name)).unwrap();
        circom2(
            circuit.folder.path(),
            [name, "--r1cs", "--wasm", "-p", curve],
        )
        .expect_success();
        let input = circuit.file("input.json");
        std::fs::write(
            &input,
            r#"{"x": "12345678901234567890", "a": "7", "y": "99"}"#,
        )
        .unwrap();
        snarkjs([
            "wtns".as_ref(),
            "calculate".as_ref(),
            &*circuit.file("polynomial_js/polynomial.wasm"),
            &*input,
            &*circuit.file("witness.wtns"),
        ])
        .expect_success();
        circuit
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Keys of a ceremony by snarkjs alone; see `interop/ceremony.mjs`.
    pub fn ceremony(&self, curve: &str) {
        node(
            "ceremony.mjs",
            [
                Path::new(curve),
                &*self.file("polynomial.r1cs"),
                self.folder.path(),
            ],
        )
        .expect_success();
    }

    /// Panics unless snarkjs accepts `proof.json` for `public.json`.
    pub fn judged_by_snarkjs(&self, verification_key: &str) {
        let said = snarkjs([
            "groth16".as_ref(),
            "verify".as_ref(),
            &*self.file(verification_key),
            &*self.file("public.json"),
            &*self.file("proof.json"),
        ])
        .expect_success();
        assert!(said.contains("OK!"), "{said}");
    }
}
