//! What must not become a proof does not, says why, and leaves nothing behind on the device.

mod groth16_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use bytes::Bytes;
use caldera_kernels::{
    BasesId, CurveId, Device, DeviceError, DeviceInfo, Group, MatrixId, Plan, Progress, VectorId,
    Work,
};
use caldera_prover::format::{FormatError, scalar_modulus};
use caldera_prover::groth16::{
    Blinding, Job, JobError, ProveError, ProvingKey, Step, Task, VerifyError, prove,
};
use groth16_support::{
    Circuit, changed, cpu, fixed_blinding, job, run_in_random_order, run_on_threads, scalar,
};

const BN254: CurveId = CurveId::Bn254;

fn key(circuit: &Circuit) -> Arc<ProvingKey> {
    ProvingKey::load(&circuit.zkey(), cpu()).expect("a good key")
}

#[test]
fn a_witness_with_any_one_element_changed_gives_no_proof() {
    let circuit = Circuit::products(BN254, 3);
    let key = key(&circuit);
    for index in 1..circuit.values.len() {
        let to = scalar(BN254, circuit.values[index] + 1);
        let job = job(&key, changed(&circuit.witness(), index, to));
        let refused = run_in_random_order(&job, index as u64);
        assert_eq!(refused, Err(ProveError::SelfCheck(VerifyError::Refused)));
        assert_eq!(job.proof(), None);
        assert_eq!(job.error(), refused.as_ref().err());
    }
    let to = scalar(BN254, 1_000_000);
    let refused = prove(&key, changed(&circuit.witness(), 3, to), 2, &mut |_, _| {});
    assert_eq!(refused, Err(ProveError::SelfCheck(VerifyError::Refused)));
}

#[test]
fn witnesses_that_do_not_fit_are_refused_before_any_work() {
    let circuit = Circuit::products(BN254, 3);
    let key = key(&circuit);
    let refusal = |witness| Job::new(&key, witness, fixed_blinding(BN254)).expect_err("no fit");

    let wires = circuit.values.len();
    let other = Circuit::products(BN254, 4);
    assert_eq!(
        refusal(other.witness()),
        JobError::Length {
            expected: wires,
            got: other.values.len()
        }
    );
    assert_eq!(
        refusal(Circuit::products(CurveId::Bls12_381, 3).witness()),
        JobError::Curve {
            expected: BN254,
            got: CurveId::Bls12_381
        }
    );
    // As an integer mod r it is the same witness.
    let too_large = changed(&circuit.witness(), wires - 1, *scalar_modulus(BN254));
    assert!(matches!(
        refusal(too_large),
        JobError::Witness(FormatError::WitnessElement { index, .. }) if index == wires as u64 - 1
    ));
    assert_eq!(
        prove(&key, circuit.witness(), 0, &mut |_, _| {}),
        Err(ProveError::Threads)
    );
}

#[test]
fn a_cancelled_job_stops_and_stays_stopped() {
    let circuit = Circuit::products(BN254, 20);
    let key = key(&circuit);
    let job = job(&key, circuit.witness());
    let mut tasks = Vec::new();
    job.start(&mut |task| tasks.push(task))
        .expect("a first start");
    let task = tasks[0];
    job.run(task, &mut |_| {}).expect("it is not cancelled yet");
    job.cancel();
    for task in tasks {
        let opened = &mut |_| panic!("a cancelled job opens nothing");
        assert_eq!(job.run(task, opened), Err(ProveError::Cancelled));
    }
    assert_eq!(job.error(), Some(&ProveError::Cancelled));
    assert_eq!(job.proof(), None);
}

#[test]
fn a_finished_job_cannot_be_cancelled_or_run() {
    let circuit = Circuit::products(BN254, 2);
    let job = job(&key(&circuit), circuit.witness());
    run_on_threads(&job, 2).expect("a good witness");
    job.cancel();
    assert!(job.proof().is_some());
    let task = Task::from_bits(0);
    assert_eq!(job.run(task, &mut |_| {}), Err(ProveError::Task(0)));
    assert!(job.proof().is_some());
}

#[test]
fn tasks_that_are_not_open_fail_the_job() {
    let circuit = Circuit::products(BN254, 2);
    let key = key(&circuit);
    // Nodes that are not open yet, lanes and nodes that do not exist.
    for bits in [1 << 48, 15 << 48, 0xffff_ffff, 200 << 48, 1 << 32] {
        let job = job(&key, circuit.witness());
        job.start(&mut |_| {}).expect("a first start");
        let refused = job.run(Task::from_bits(bits), &mut |_| {});
        assert_eq!(refused, Err(ProveError::Task(bits)), "{bits:#x}");
        assert_eq!(job.error(), Some(&ProveError::Task(bits)));
    }
    // A second start.
    let job = job(&key, circuit.witness());
    job.start(&mut |_| {}).expect("a first start");
    assert!(job.start(&mut |_| {}).is_err());
    assert!(job.error().is_some());
}

/// A lane that has ended is not run again, whoever keeps it: the device's own, and the host's.
#[test]
fn spent_tasks_fail_the_job() {
    let circuit = Circuit::products(BN254, 2);
    let key = key(&circuit);
    let count = {
        let job = job(&key, circuit.witness());
        let mut count = 0;
        job.start(&mut |_| count += 1).expect("a first start");
        count
    };
    for index in 0..count {
        let job = job(&key, circuit.witness());
        let mut tasks = Vec::new();
        job.start(&mut |task| tasks.push(task))
            .expect("a first start");
        let task = tasks[index];
        while job.run(task, &mut |_| {}).expect("a first run") == Step::Again {}
        assert!(job.run(task, &mut |_| {}).is_err(), "{}", job.kernel(task));
        assert!(job.error().is_some());
    }
}

/// The n-th quantum or opening fails, for many n: each time the job says so, whatever runs
/// afterwards is refused with the same error, and the device is left empty.
#[test]
fn a_device_that_fails_in_the_middle_leaves_no_proof_and_nothing_behind() {
    let circuit = Circuit::products(BN254, 10);
    let zkey = circuit.zkey();
    let faulty = Faulty::new(isize::MAX);
    let total = {
        let key = ProvingKey::load(&zkey, faulty.clone()).expect("a good key");
        let job = job(&key, circuit.witness());
        run_in_random_order(&job, 1).expect("no fault yet");
        isize::MAX - faulty.calls_left.load(Ordering::Relaxed)
    };
    assert_eq!(faulty.live(), 0, "a finished job leaves nothing");
    assert!(total > 50, "only {total} calls");

    let steps = 24;
    let mut failed = 0;
    for n in (0..steps).map(|i| i * total / steps) {
        for threads in [0, 3] {
            let faulty = Faulty::new(n);
            let key = ProvingKey::load(&zkey, faulty.clone()).expect("loading makes no plans");
            let job = job(&key, circuit.witness());
            let result = match threads {
                0 => run_in_random_order(&job, 1).map(|_| ()),
                threads => run_on_threads(&job, threads),
            };
            // How finely a device cuts, and which lane takes what, differs from run to run, so
            // a late fault may stay away.
            if faulty.calls_left.load(Ordering::Relaxed) >= 0 {
                assert_eq!(result, Ok(()));
            } else {
                match &result {
                    Err(ProveError::Device { error, .. }) => assert_eq!(*error, FAULT),
                    other => panic!("call {n}: {other:?}"),
                }
                failed += 1;
                assert_eq!(job.proof(), None);
            }
            assert_eq!(job.error(), result.as_ref().err());
            drop(job);
            drop(key);
            assert_eq!(faulty.live(), 0, "call {n}");
        }
    }
    assert!(failed >= steps, "only {failed} runs met their fault");
}

/// The device refuses the n-th thing that it is asked to keep.
#[test]
fn a_device_without_room_is_left_empty() {
    let circuit = Circuit::products(BN254, 2);
    let zkey = circuit.zkey();
    let mut refused = 0;
    for room in 0.. {
        let faulty = Faulty::new(isize::MAX);
        faulty.room_left.store(room, Ordering::Relaxed);
        let result = ProvingKey::load(&zkey, faulty.clone())
            .map_err(|_| ())
            .and_then(|key| {
                Job::new(&key, circuit.witness(), fixed_blinding(BN254)).map_err(|error| {
                    assert_eq!(error, JobError::Device(NO_ROOM));
                })
            });
        let made = result.is_ok();
        drop(result);
        assert_eq!(faulty.live(), 0, "room for {room}");
        if made {
            break;
        }
        refused += 1;
    }
    // Five queries, a matrix, four vectors, eleven plans.
    assert_eq!(refused, 21);
}

#[test]
fn nothing_secret_is_printed() {
    let circuit = Circuit::products(BN254, 2);
    let key = key(&circuit);
    let blinding = Blinding::random(BN254).expect("this machine has a generator");
    assert_eq!(format!("{blinding:?}"), "Blinding(secret)");
    let job = Job::new(&key, circuit.witness(), blinding).expect("a good witness");
    assert_eq!(
        format!("{job:?}"),
        format!(
            "Job {{ nodes: {}, nodes_done: 0, error: None, .. }}",
            job.nodes()
        )
    );
}

const FAULT: DeviceError = DeviceError::Memory {
    what: "a fault of the test",
    bytes: 1,
};

const NO_ROOM: DeviceError = DeviceError::Memory {
    what: "a test without room",
    bytes: 1,
};

/// The CPU device, counting what it keeps and failing when told to.
struct Faulty {
    inner: Arc<dyn Device>,
    /// Openings and quanta until one fails; shared with the plans.
    calls_left: Arc<AtomicIsize>,
    /// Vectors, bases, matrices and plans until one is refused.
    room_left: AtomicIsize,
    kept: Arc<AtomicUsize>,
}

impl Faulty {
    fn new(calls_left: isize) -> Arc<Faulty> {
        Arc::new(Faulty {
            inner: cpu(),
            calls_left: Arc::new(AtomicIsize::new(calls_left)),
            room_left: AtomicIsize::new(isize::MAX),
            kept: Arc::new(AtomicUsize::new(0)),
        })
    }

    fn live(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    fn keep<T>(&self, made: Result<T, DeviceError>) -> Result<T, DeviceError> {
        take_one(&self.room_left, NO_ROOM)?;
        self.kept.fetch_add(1, Ordering::Relaxed);
        made
    }

    fn free(&self) {
        self.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes one of what is left, to below zero once there is none.
fn take_one(left: &AtomicIsize, error: DeviceError) -> Result<(), DeviceError> {
    match left.fetch_sub(1, Ordering::Relaxed) > 0 {
        true => Ok(()),
        false => Err(error),
    }
}

impl Device for Faulty {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        self.keep(self.inner.vector(curve, len))
    }

    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        self.inner.vector_write(id, at, scalars)
    }

    fn vector_read(&self, id: VectorId, at: usize, out: &mut [u8]) -> Result<(), DeviceError> {
        self.inner.vector_read(id, at, out)
    }

    fn vector_free(&self, id: VectorId) {
        self.inner.vector_free(id);
        self.free();
    }

    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError> {
        self.keep(self.inner.bases(curve, group, points))
    }

    fn bases_free(&self, id: BasesId) {
        self.inner.bases_free(id);
        self.free();
    }

    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError> {
        self.inner.tables_bytes(id)
    }

    fn tables_free(&self, id: BasesId) {
        self.inner.tables_free(id);
    }

    fn matrix(
        &self,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: Bytes,
    ) -> Result<MatrixId, DeviceError> {
        self.keep(self.inner.matrix(curve, rows, columns, entries))
    }

    fn matrix_free(&self, id: MatrixId) {
        self.inner.matrix_free(id);
        self.free();
    }

    fn plan(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        let inner = self.keep(self.inner.plan(work))?;
        Ok(Arc::new(FaultyPlan {
            inner,
            calls_left: Arc::clone(&self.calls_left),
            kept: Arc::clone(&self.kept),
        }))
    }
}

struct FaultyPlan {
    inner: Arc<dyn Plan>,
    calls_left: Arc<AtomicIsize>,
    kept: Arc<AtomicUsize>,
}

impl Plan for FaultyPlan {
    fn stages(&self) -> usize {
        self.inner.stages()
    }

    fn kernel(&self, stage: usize) -> &'static str {
        self.inner.kernel(stage)
    }

    fn open(&self, stage: usize) -> Result<usize, DeviceError> {
        take_one(&self.calls_left, FAULT)?;
        self.inner.open(stage)
    }

    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
        take_one(&self.calls_left, FAULT)?;
        self.inner.run(stage, lane)
    }

    fn point(&self) -> Option<Vec<u8>> {
        self.inner.point()
    }
}

impl Drop for FaultyPlan {
    fn drop(&mut self) {
        self.kept.fetch_sub(1, Ordering::Relaxed);
    }
}
