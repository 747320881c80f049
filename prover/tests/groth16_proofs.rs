//! Proofs are right: equal to the textbook's, accepted by the verifier, and the same in whatever
//! order and on however many threads their quanta run.

mod groth16_support;

use caldera_kernels::{CurveId, Group};
use caldera_prover::format::{Part, Wtns, Zkey};
use caldera_prover::groth16::{
    Job, ProvingKey, Stage, Step, Synthetic, prove, setup_synthetic, verify,
};
use groth16_support::{
    Circuit, cpu, fixed_blinding, job, reference_proof, run_in_random_order, run_on_threads,
};

fn circuits() -> Vec<Circuit> {
    let both = [CurveId::Bn254, CurveId::Bls12_381];
    both.into_iter()
        .flat_map(|curve| {
            [
                Circuit::products(curve, 1),
                // 27 rows and 2 public wires: a domain of 32 that is nearly full.
                Circuit::products(curve, 13),
                Circuit::all_public(curve),
                Circuit::nothing_public(curve),
            ]
        })
        .collect()
}

#[test]
fn proofs_are_those_of_the_textbook() {
    for circuit in circuits() {
        let (zkey, witness) = (circuit.zkey(), circuit.witness());
        let expected = reference_proof(&zkey, &witness);
        let key = ProvingKey::load(&zkey, cpu()).expect("a good key");
        let job = job(&key, witness);
        run_in_random_order(&job, 1).expect("a good witness");
        let got = job.proof().expect("the job has finished");
        assert_eq!(got, expected);
        verify(key.verification_key(), &got.0, &got.1).expect("a good proof");
    }
}

#[test]
fn the_order_of_quanta_does_not_matter() {
    let circuit = Circuit::products(CurveId::Bn254, 100);
    let key = ProvingKey::load(&circuit.zkey(), cpu()).expect("a good key");
    let mut proofs = Vec::new();
    for seed in 0..12 {
        let job = job(&key, circuit.witness());
        let quanta = run_in_random_order(&job, seed).expect("a good witness");
        assert!(quanta > job.nodes(), "the device did not cut");
        proofs.push(job.proof().expect("the job has finished"));
    }
    for threads in 1..=4 {
        let job = job(&key, circuit.witness());
        run_on_threads(&job, threads).expect("a good witness");
        proofs.push(job.proof().expect("the job has finished"));
    }
    for proof in &proofs {
        assert_eq!(*proof, proofs[0]);
    }
}

#[test]
fn several_jobs_share_a_key() {
    let circuit = Circuit::products(CurveId::Bn254, 20);
    let key = ProvingKey::load(&circuit.zkey(), cpu()).expect("a good key");
    let jobs: Vec<_> = (0..3).map(|_| job(&key, circuit.witness())).collect();
    std::thread::scope(|scope| {
        for job in &jobs {
            scope.spawn(|| run_on_threads(job, 2).expect("a good witness"));
        }
    });
    for job in &jobs {
        assert_eq!(job.proof(), jobs[0].proof());
        assert!(job.proof().is_some());
    }
}

#[test]
fn two_proofs_of_one_witness_differ_and_both_verify() {
    let circuit = Circuit::products(CurveId::Bn254, 20);
    let key = ProvingKey::load(&circuit.zkey(), cpu()).expect("a good key");
    let mut last = None;
    for threads in [1, 3] {
        let mut seen = Vec::new();
        let (proof, inputs) = prove(&key, circuit.witness(), threads, &mut |done, total| {
            seen.push((done, total));
        })
        .expect("a good witness");
        verify(key.verification_key(), &proof, &inputs).expect("a good proof");
        assert_ne!(last.as_ref(), Some(&proof), "the blinding was used twice");
        last = Some(proof);
        let (done, total) = *seen.last().expect("at least the end is told");
        assert_eq!(done, total);
        assert!(seen.is_sorted());
    }
}

#[test]
fn synthetic_circuits_prove_at_any_density() {
    for curve in [CurveId::Bn254, CurveId::Bls12_381] {
        for (domain_log2, dense) in [(3, 1.0), (6, 0.0), (8, 0.5)] {
            let synthetic = Synthetic {
                curve,
                domain_log2,
                dense,
                seed: [domain_log2 as u8; 32],
            };
            let (zkey, witness) = make(&synthetic);
            assert_eq!(zkey.header().domain, 1 << domain_log2);
            let expected = reference_proof(&zkey, &witness);
            let key = ProvingKey::load(&zkey, cpu()).expect("a good key");
            let job = Job::new(&key, witness, fixed_blinding(curve)).expect("a witness that fits");
            run_on_threads(&job, 2).expect("a good witness");
            assert_eq!(job.proof(), Some(expected));
        }
    }
}

fn make(synthetic: &Synthetic) -> (Zkey, Wtns) {
    let mut file = Vec::new();
    let witness = setup_synthetic(synthetic, 2, &mut file, &mut |_| {}).expect("a good circuit");
    (Zkey::parse(file.into()).expect("a good key"), witness)
}

/// A box counts what each of its workers did for a job, and says so when the job has ended: a quantum
/// that is counted only after others can go on from it may be missing.
#[test]
fn a_quantum_is_counted_before_anything_follows_from_it() {
    let circuit = Circuit::products(CurveId::Bn254, 13);
    let key = ProvingKey::load(&circuit.zkey(), cpu()).expect("a good key");
    let job = job(&key, circuit.witness());
    let mut tasks = Vec::new();
    job.start(&mut |task| tasks.push(task)).expect("it starts");
    let (counted, mut quanta) = (std::cell::Cell::new(0), 0);
    while let Some(task) = tasks.pop() {
        quanta += 1;
        let mut count = || counted.set(counted.get() + 1);
        let step = job.run_counted(task, &mut count, &mut |opened| {
            assert_eq!(counted.get(), quanta, "{} is not counted", job.kernel(task));
            tasks.push(opened);
        });
        assert_eq!(counted.get(), quanta);
        if step.expect("a good witness") == Step::Again {
            tasks.push(task);
        }
    }
    assert!(job.proof().is_some() && quanta > job.nodes());
}

/// A trace names a quantum by its stage: each task has the part and the kernel of its stage, each
/// stage has tasks, and sizes are those of the key.
#[test]
fn every_task_has_a_stage_and_every_stage_the_size_of_its_part() {
    for circuit in circuits() {
        let zkey = circuit.zkey();
        let key = ProvingKey::load(&zkey, cpu()).expect("a good key");
        let job = job(&key, circuit.witness());
        let stages: Vec<Stage> = job.stages().collect();
        assert_eq!(stages.len(), job.nodes());
        let mut met = vec![false; stages.len()];
        let mut tasks = Vec::new();
        job.start(&mut |task| tasks.push(task)).expect("it starts");
        while let Some(task) = tasks.pop() {
            let stage = job.stage(task);
            met[stage] = true;
            let named = (stages[stage].part, stages[stage].kernel);
            assert_eq!(named, (job.part(task), job.kernel(task)));
            let step = job.run(task, &mut |task| tasks.push(task));
            if step.expect("a good witness") == Step::Again {
                tasks.push(task);
            }
        }
        for (stage, met) in stages.iter().zip(met) {
            // A circuit without private wires has nothing to sum over C.
            assert_eq!(met, stage.kernel != "none", "{stage:?}");
            let part = match stage.part {
                "msm-a" => Part::A,
                "msm-b1" => Part::B1,
                "msm-b2" => Part::B2,
                "msm-c" => Part::C,
                "msm-h" => Part::H,
                "product" => {
                    assert_eq!(stage.size, zkey.coefficient_count());
                    continue;
                }
                _ => {
                    assert_eq!(stage.table_bytes, None);
                    continue;
                }
            };
            let group = if part == Part::B2 {
                Group::G2
            } else {
                Group::G1
            };
            let points = zkey.part(part).len();
            assert_eq!(
                stage.size,
                points / circuit.curve.point_bytes(group),
                "{stage:?}"
            );
            assert_eq!(stage.bytes, points + 32 * stage.size, "{stage:?}");
            assert_eq!(stage.table_bytes, met.then_some(0), "{stage:?}");
        }
    }
}
