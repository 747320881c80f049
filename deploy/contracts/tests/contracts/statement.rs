//! A circuit with any number of public inputs, its development key, and proofs of it.
//!
//! Each public input is squared and so stands in a constraint; besides there is a secret. Inputs
//! can have any value, which is what a registry's tests need: theirs are hashes. The presentation
//! circuit has five inputs in the same order. Everything is drawn from fixed seeds, blinding too: the
//! same test makes the same proofs, and gas is the same to the last unit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_prover::format::json::{Proof, PublicInputs, VerificationKey};
use caldera_prover::format::{R1cs, Wtns, Zkey, base_modulus, scalar_modulus};
use caldera_prover::groth16::{Blinding, Job, ProvingKey, Step, setup_r1cs};
use num_bigint::BigUint;

pub(crate) struct Statement {
    key: Arc<ProvingKey>,
    inputs: usize,
}

impl Statement {
    /// The statement with so many public inputs; made once.
    pub(crate) fn of(inputs: usize) -> Arc<Statement> {
        static STATEMENTS: Mutex<BTreeMap<usize, Arc<Statement>>> = Mutex::new(BTreeMap::new());
        let mut statements = STATEMENTS.lock().expect("no test panics in here");
        statements
            .entry(inputs)
            .or_insert_with(|| Arc::new(Statement::new(inputs)))
            .clone()
    }

    fn new(inputs: usize) -> Statement {
        let mut zkey = Vec::new();
        setup_r1cs(&circuit(inputs), &[5; 32], 2, &mut zkey, &mut |_| {}).expect("a circuit");
        let zkey = Zkey::parse(Bytes::from(zkey)).expect("a well-formed key");
        let device = CpuDevice::new(CpuConfig {
            quantum: Duration::MAX,
            lanes: 1,
        });
        let key = ProvingKey::load(&zkey, device).expect("a good key");
        Statement { key, inputs }
    }

    pub(crate) fn verification_key(&self) -> &VerificationKey {
        self.key.verification_key()
    }

    /// A proof for these public inputs, of which there are as many as the circuit has.
    pub(crate) fn prove(&self, inputs: &[BigUint], blinding: u8) -> (Proof, PublicInputs) {
        assert_eq!(inputs.len(), self.inputs);
        let r = modulus_r();
        let secret = BigUint::from(7u8);
        let mut wires = vec![BigUint::from(1u8)];
        wires.extend(inputs.iter().cloned());
        wires.push(&secret * &secret);
        wires.push(secret);
        wires.extend(inputs.iter().map(|input| input * input % &r));
        let elements: Vec<u8> = wires.iter().flat_map(little_endian).collect();
        let witness =
            Wtns::from_elements(CurveId::Bn254, Bytes::from(elements)).expect("a witness");
        let fill = AtomicU8::new(0);
        let blinding = Blinding::draw(CurveId::Bn254, &mut |bytes| {
            let draw = fill.fetch_add(1, Ordering::Relaxed);
            bytes.copy_from_slice(&crate::chain::keccak(&[blinding, draw]));
            Ok(())
        })
        .expect("one of the draws is below the order");
        let job = Job::new(&self.key, witness, blinding).expect("a witness of this circuit");
        let mut tasks = Vec::new();
        job.start(&mut |task| tasks.push(task)).expect("a new job");
        while let Some(task) = tasks.pop() {
            while job
                .run(task, &mut |task| tasks.push(task))
                .expect("a good witness")
                == Step::Again
            {}
        }
        job.proof().expect("all tasks have run")
    }
}

/// x_i x_i = y_i for each input, and s s = z for a secret. Wires: 1, inputs, z, s, y.
fn circuit(inputs: usize) -> R1cs {
    let inputs = inputs as u32;
    let (square, secret, first) = (inputs + 1, inputs + 2, inputs + 3);
    let mut rows: Vec<[u32; 3]> = (0..inputs).map(|i| [i + 1, i + 1, first + i]).collect();
    rows.push([secret, secret, square]);
    let wires = first + inputs;

    let mut header = 32u32.to_le_bytes().to_vec();
    header.extend(scalar_modulus(CurveId::Bn254));
    for count in [wires, 0, inputs, 1] {
        header.extend(count.to_le_bytes());
    }
    header.extend(u64::from(wires).to_le_bytes());
    header.extend((rows.len() as u32).to_le_bytes());
    let mut constraints = Vec::new();
    for wire in rows.iter().flatten() {
        constraints.extend(1u32.to_le_bytes());
        constraints.extend(wire.to_le_bytes());
        constraints.extend(little_endian(&BigUint::from(1u8)));
    }
    let mut file = b"r1cs\x01\0\0\0\x02\0\0\0".to_vec();
    for (kind, content) in [(1u32, header), (2, constraints)] {
        file.extend(kind.to_le_bytes());
        file.extend((content.len() as u64).to_le_bytes());
        file.extend(content);
    }
    R1cs::parse(Bytes::from(file)).expect("a well-formed file")
}

pub(crate) fn modulus_r() -> BigUint {
    BigUint::from_bytes_le(scalar_modulus(CurveId::Bn254))
}

pub(crate) fn modulus_q() -> BigUint {
    BigUint::from_bytes_le(base_modulus(CurveId::Bn254))
}

/// Field elements that look like hashes, different for each seed.
pub(crate) fn hashes(count: usize, seed: u8) -> Vec<BigUint> {
    (0..count)
        .map(|index| BigUint::from_bytes_be(&crate::chain::keccak(&[seed, index as u8])[1..]))
        .collect()
}

fn little_endian(number: &BigUint) -> [u8; 32] {
    let digits = number.to_bytes_le();
    let mut bytes = [0; 32];
    bytes[..digits.len()].copy_from_slice(&digits);
    bytes
}
