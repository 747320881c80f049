//! Circuits, keys, an executor and a second opinion for the tests of Groth16.
//!
//! The second opinion is [`reference_proof`]: the same proof by the textbook, with arkworks's
//! fields and groups, sums term by term and transforms by their definition. It is quadratic and
//! shares no line with what it judges.

#![allow(dead_code, reason = "each test file uses its own part of this one")]

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, Field, PrimeField};
use ark_serialize::CanonicalSerialize;
use bytes::Bytes;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::{CurveId, Device, Group};
use caldera_prover::format::json::{Point, Proof, PublicInputs};
use caldera_prover::format::{Part, R1cs, Wtns, Zkey, base_modulus, scalar_modulus};
use caldera_prover::groth16::{Blinding, Job, ProveError, ProvingKey, Step, Task, setup_r1cs};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A constraint system in the making, and a witness for it.
pub(crate) struct Circuit {
    pub(crate) curve: CurveId,
    pub(crate) outputs: u32,
    pub(crate) inputs: u32,
    pub(crate) values: Vec<i64>,
    pub(crate) constraints: Vec<[Vec<(u32, i64)>; 3]>,
}

impl Circuit {
    /// `steps` products (x - 1) (x + 2) in a row, each followed by a row that subtracts a
    /// constant to make the result small again; the square of the last is the output. One
    /// output, one input, two rows a step and one more.
    pub(crate) fn products(curve: CurveId, steps: u32) -> Circuit {
        let mut circuit = Circuit {
            curve,
            outputs: 1,
            inputs: 1,
            values: vec![1, 0, 3],
            constraints: Vec::new(),
        };
        let mut last = 2;
        for step in 0..steps {
            let x = circuit.values[last as usize];
            let product = circuit.wire((x - 1) * (x + 2));
            circuit.constraints.push([
                vec![(last, 1), (0, -1)],
                vec![(last, 1), (0, 2)],
                vec![(product, 1)],
            ]);
            let shift = circuit.values[product as usize] - i64::from(step % 5) - 2;
            let small = circuit.wire(i64::from(step % 5) + 2);
            circuit.constraints.push([
                vec![(product, 1), (0, -shift)],
                vec![(0, 1)],
                vec![(small, 1)],
            ]);
            last = small;
        }
        circuit.values[1] = circuit.values[last as usize].pow(2);
        circuit
            .constraints
            .push([vec![(last, 1)], vec![(last, 1)], vec![(1, 1)]]);
        circuit
    }

    /// x * y = z with all wires public: nothing for the C query.
    pub(crate) fn all_public(curve: CurveId) -> Circuit {
        Circuit {
            curve,
            outputs: 1,
            inputs: 2,
            values: vec![1, 77, 7, 11],
            constraints: vec![[vec![(2, 1)], vec![(3, 1)], vec![(1, 1)]]],
        }
    }

    /// A square root of 49, with nothing public but that there is one.
    pub(crate) fn nothing_public(curve: CurveId) -> Circuit {
        Circuit {
            curve,
            outputs: 0,
            inputs: 0,
            values: vec![1, -7],
            constraints: vec![[vec![(1, 1)], vec![(1, 1)], vec![(0, 49)]]],
        }
    }

    fn wire(&mut self, value: i64) -> u32 {
        self.values.push(value);
        self.values.len() as u32 - 1
    }

    pub(crate) fn r1cs(&self) -> R1cs {
        self.r1cs_with_wires(self.values.len() as u32)
    }

    /// The same constraints with another claim of how many wires there are.
    pub(crate) fn r1cs_with_wires(&self, wires: u32) -> R1cs {
        let mut header = Vec::new();
        header.extend(32u32.to_le_bytes());
        header.extend(scalar_modulus(self.curve));
        for count in [wires, self.outputs, self.inputs, 0] {
            header.extend(count.to_le_bytes());
        }
        header.extend((self.values.len() as u64).to_le_bytes());
        header.extend((self.constraints.len() as u32).to_le_bytes());
        let mut rows = Vec::new();
        for side in self.constraints.iter().flatten() {
            rows.extend((side.len() as u32).to_le_bytes());
            for (wire, coefficient) in side {
                rows.extend(wire.to_le_bytes());
                rows.extend(scalar(self.curve, *coefficient));
            }
        }
        let mut file = b"r1cs\x01\0\0\0\x02\0\0\0".to_vec();
        for (kind, content) in [(2u32, rows), (1, header)] {
            file.extend(kind.to_le_bytes());
            file.extend((content.len() as u64).to_le_bytes());
            file.extend(content);
        }
        R1cs::parse(Bytes::from(file)).expect("a well-formed file")
    }

    pub(crate) fn witness(&self) -> Wtns {
        let elements: Vec<u8> = self
            .values
            .iter()
            .flat_map(|value| scalar(self.curve, *value))
            .collect();
        Wtns::from_elements(self.curve, Bytes::from(elements)).expect("a well-formed witness")
    }

    pub(crate) fn zkey_bytes(&self) -> Vec<u8> {
        let mut file = Vec::new();
        setup_r1cs(&self.r1cs(), &[5; 32], 2, &mut file, &mut |_| {})
            .expect("a circuit with a key");
        file
    }

    pub(crate) fn zkey(&self) -> Zkey {
        Zkey::parse(Bytes::from(self.zkey_bytes())).expect("a well-formed key")
    }
}

/// A small number mod r, negative ones from above.
pub(crate) fn scalar(curve: CurveId, value: i64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&value.unsigned_abs().to_le_bytes());
    if value >= 0 {
        return bytes;
    }
    let mut borrow = 0;
    for (byte, modulus) in bytes.iter_mut().zip(scalar_modulus(curve)) {
        let difference = i16::from(*modulus) - i16::from(*byte) - borrow;
        borrow = i16::from(difference < 0);
        *byte = difference as u8;
    }
    bytes
}

/// A witness with one element changed.
pub(crate) fn changed(witness: &Wtns, index: usize, to: [u8; 32]) -> Wtns {
    let mut elements = witness.elements().to_vec();
    elements[32 * index..32 * (index + 1)].copy_from_slice(&to);
    Wtns::from_elements(witness.curve(), Bytes::from(elements)).expect("still whole elements")
}

/// A device that cuts as finely as it can, so that small proofs have many quanta.
pub(crate) fn cpu() -> Arc<dyn Device> {
    CpuDevice::new(CpuConfig {
        quantum: Duration::from_micros(1),
        lanes: 4,
    })
}

/// r = 0x0707.. and s = 0x0909..
pub(crate) fn fixed_blinding(curve: CurveId) -> Blinding {
    let mut fill = [7, 9].into_iter();
    Blinding::draw(curve, &mut |bytes| {
        bytes.fill(fill.next().expect("two draws, none of them refused"));
        Ok(())
    })
    .expect("both are below the order")
}

/// Runs a job on the calling thread, one quantum at a time, each time of a task that the seed
/// picks among all that are ready. Says how many quanta there were.
pub(crate) fn run_in_random_order(job: &Job, seed: u64) -> Result<usize, ProveError> {
    let mut random = ChaCha20Rng::seed_from_u64(seed);
    let mut tasks = Vec::new();
    job.start(&mut |task| tasks.push(task))?;
    for quanta in 1.. {
        assert!(tasks.len() <= job.tasks_max());
        assert!(!tasks.is_empty(), "the job has stopped without an end");
        let task = tasks.swap_remove(random.next_u32() as usize % tasks.len());
        // The token must survive a queue of words.
        assert_eq!(Task::from_bits(task.to_bits()), task);
        match job.run(task, &mut |task| tasks.push(task))? {
            Step::Again => tasks.push(task),
            Step::LaneEnded => {}
            Step::Finished => {
                assert!(tasks.is_empty(), "the job ended with tasks left");
                assert_eq!(job.nodes_done(), job.nodes());
                return Ok(quanta);
            }
        }
    }
    unreachable!("the range does not end")
}

/// Runs a job on several threads that take single quanta from one queue.
pub(crate) fn run_on_threads(job: &Job, threads: usize) -> Result<(), ProveError> {
    struct Queue {
        tasks: Vec<Task>,
        end: Option<Result<(), ProveError>>,
    }
    let queue = Mutex::new(Queue {
        tasks: Vec::new(),
        end: None,
    });
    let changed = Condvar::new();
    let push = |task| {
        queue.lock().expect("no panic").tasks.push(task);
        changed.notify_one();
    };
    job.start(&mut |task| push(task))?;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let mut guard = queue.lock().expect("no panic");
                    let task = loop {
                        if guard.end.is_some() {
                            return;
                        }
                        match guard.tasks.pop() {
                            Some(task) => break task,
                            None => guard = changed.wait(guard).expect("no panic"),
                        }
                    };
                    drop(guard);
                    let end = match job.run(task, &mut |task| push(task)) {
                        Ok(Step::Again) => {
                            push(task);
                            continue;
                        }
                        Ok(Step::LaneEnded) => continue,
                        Ok(Step::Finished) => Ok(()),
                        Err(error) => Err(error),
                    };
                    queue.lock().expect("no panic").end.get_or_insert(end);
                    changed.notify_all();
                }
            });
        }
    });
    let end = queue.into_inner().expect("no panic").end;
    end.expect("the threads end with an end")
}

/// A job with known blinding for a circuit's own witness.
pub(crate) fn job(key: &Arc<ProvingKey>, witness: Wtns) -> Arc<Job> {
    Job::new(key, witness, fixed_blinding(key.curve())).expect("the witness fits the key")
}

/// The proof that [`fixed_blinding`] gives, by the textbook.
pub(crate) fn reference_proof(zkey: &Zkey, witness: &Wtns) -> (Proof, PublicInputs) {
    match zkey.curve() {
        CurveId::Bn254 => reference::<ark_bn254::g1::Config, ark_bn254::g2::Config>(zkey, witness),
        CurveId::Bls12_381 => {
            reference::<ark_bls12_381::g1::Config, ark_bls12_381::g2::Config>(zkey, witness)
        }
    }
}

fn reference<P1, P2>(zkey: &Zkey, witness: &Wtns) -> (Proof, PublicInputs)
where
    P1: SWCurveConfig,
    P2: SWCurveConfig<ScalarField = P1::ScalarField>,
{
    let header = zkey.header();
    let scalars = |bytes: &[u8]| -> Vec<P1::ScalarField> {
        let chunks = bytes.chunks_exact(32);
        chunks
            .map(P1::ScalarField::from_le_bytes_mod_order)
            .collect()
    };
    let g1 = |bytes: &[u8]| points::<P1>(CurveId::base_bytes(header.curve), bytes);
    let g2 = |bytes: &[u8]| points::<P2>(CurveId::base_bytes(header.curve), bytes);
    let w = scalars(witness.elements());
    let (r, s) = (scalars(&[7; 32])[0], scalars(&[9; 32])[0]);

    // a = A w, b = B w; coefficients are stored times 2^512.
    let n = header.domain as usize;
    let unscale = P1::ScalarField::from(2u64)
        .pow([512])
        .inverse()
        .expect("not zero");
    let mut sides = vec![[P1::ScalarField::ZERO; 2]; n];
    for entry in zkey.part(Part::Coefficients).chunks_exact(44) {
        let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().expect("4 bytes"));
        let value = scalars(&entry[12..])[0] * unscale;
        sides[word(4) as usize][word(0) as usize] += value * w[word(8) as usize];
    }
    let a: Vec<_> = sides.iter().map(|side| side[0]).collect();
    let b: Vec<_> = sides.iter().map(|side| side[1]).collect();
    let c: Vec<_> = sides.iter().map(|side| side[0] * side[1]).collect();

    // The root that snarkjs uses: 5^((r - 1) / 2n), 5 being no square in either field.
    let order: num_bigint::BigUint = P1::ScalarField::MODULUS.into();
    let exponent = (order - 1u32) / (2 * n as u64);
    let v = P1::ScalarField::from(5u64).pow(exponent.to_u64_digits());
    let odd = |values: &[P1::ScalarField]| odd_evaluations(values, v);
    let (a, b, c) = (odd(&a), odd(&b), odd(&c));
    let quotient: Vec<_> = (0..n).map(|i| a[i] * b[i] - c[i]).collect();

    let part = |part: Part| zkey.part(part).clone();
    let first_private = 1 + header.public as usize;
    let sum_a = sum(&g1(&part(Part::A)), &w);
    let sum_b1 = sum(&g1(&part(Part::B1)), &w);
    let sum_b2 = sum(&g2(&part(Part::B2)), &w);
    let sum_c = sum(&g1(&part(Part::C)), &w[first_private..]);
    let sum_h = sum(&g1(&part(Part::H)), &quotient);

    let delta = g1(&header.delta_g1)[0];
    let pi_a = sum_a + g1(&header.alpha_g1)[0] + delta * r;
    let pi_b = sum_b2 + g2(&header.beta_g2)[0] + g2(&header.delta_g2)[0] * s;
    // As the paper and snarkjs have it.
    let pi_b1 = sum_b1 + g1(&header.beta_g1)[0] + delta * s;
    let pi_c = sum_c + sum_h + pi_a * s + pi_b1 * r - delta * (r * s);

    let public = witness
        .elements()
        .chunks_exact(32)
        .take(first_private)
        .skip(1);
    let public = public
        .map(|bytes| bytes.try_into().expect("32 bytes"))
        .collect();
    (
        Proof {
            curve: header.curve,
            a: json_point(header.curve, Group::G1, &pi_a.into_affine()),
            b: json_point(header.curve, Group::G2, &pi_b.into_affine()),
            c: json_point(header.curve, Group::G1, &pi_c.into_affine()),
        },
        PublicInputs::new(header.curve, public).expect("below r"),
    )
}

/// The polynomial with these values at v^0, v^2, v^4 .. has what values at v^1, v^3, v^5 ..?
fn odd_evaluations<F: PrimeField>(values: &[F], v: F) -> Vec<F> {
    let n = values.len();
    let power = |e: usize| v.pow([(e % (2 * n)) as u64]);
    let scale = F::from(n as u64).inverse().expect("not zero");
    let coefficients: Vec<F> = (0..n)
        .map(|k| {
            (0..n)
                .map(|j| values[j] * power(2 * n * k - 2 * j * k))
                .sum::<F>()
                * scale
        })
        .collect();
    (0..n)
        .map(|i| {
            (0..n)
                .map(|k| coefficients[k] * power((2 * i + 1) * k))
                .sum()
        })
        .collect()
}

fn sum<P: SWCurveConfig>(bases: &[Affine<P>], scalars: &[P::ScalarField]) -> Projective<P> {
    assert_eq!(bases.len(), scalars.len());
    let terms = bases.iter().zip(scalars);
    terms.fold(Projective::ZERO, |sum, (base, scalar)| {
        sum + *base * *scalar
    })
}

/// Points in the layout of keys: Montgomery coordinates, infinity all zero.
fn points<P: SWCurveConfig>(coordinate_len: usize, bytes: &[u8]) -> Vec<Affine<P>> {
    type Prime<P> = <<P as ark_ec::CurveConfig>::BaseField as Field>::BasePrimeField;
    let radix = Prime::<P>::from(2u64).pow([8 * coordinate_len as u64]);
    let unscale = radix.inverse().expect("not zero");
    let degree = P::BaseField::extension_degree() as usize;
    let coordinate = |bytes: &[u8]| {
        let parts = bytes.chunks_exact(coordinate_len);
        P::BaseField::from_base_prime_field_elems(
            parts.map(|part| Prime::<P>::from_le_bytes_mod_order(part) * unscale),
        )
        .expect("as many as the degree")
    };
    let half = degree * coordinate_len;
    bytes
        .chunks_exact(2 * half)
        .map(|point| match point.iter().all(|byte| *byte == 0) {
            true => Affine::identity(),
            false => Affine::new(coordinate(&point[..half]), coordinate(&point[half..])),
        })
        .collect()
}

/// An arkworks point as JSON has it.
pub(crate) fn json_point<P: SWCurveConfig>(
    curve: CurveId,
    group: Group,
    point: &Affine<P>,
) -> Point {
    let mut bytes = Vec::new();
    let zero = (P::BaseField::ZERO, P::BaseField::ZERO);
    let (x, y) = point.xy().unwrap_or(zero);
    x.serialize_uncompressed(&mut bytes)
        .expect("a vector takes all");
    y.serialize_uncompressed(&mut bytes)
        .expect("a vector takes all");
    assert_eq!(bytes.len() % base_modulus(curve).len(), 0);
    Point::from_bytes(curve, group, &bytes).expect("arkworks's elements are reduced")
}
