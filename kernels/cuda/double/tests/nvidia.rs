//! What talks to NVIDIA's driver, on the double of the driver. A library is found when a process
//! starts, so each test starts this program again for itself alone, with the double where the
//! system looks for libraries.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use caldera_cuda::{CudaDevice, Nvidia, NvidiaConfig, NvidiaError, bundle};
use caldera_cuda_double::{GONE, QUIET, VARIABLE};
use caldera_kernels::conformance::{Effort, run};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::curve::{Bn254, Coordinate as _, Curve};
use caldera_kernels::field::FqBn254;
use caldera_kernels::relay::{Member, Relay};
use caldera_kernels::{CurveId, Device, DeviceError, Form, Group, Plan, Progress, Work};
use caldera_prover::format::Zkey;
use caldera_prover::groth16::{ProvingKey, Synthetic, prove, setup_synthetic, verify};

/// Cargo puts the double beside this test.
fn double() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.with_file_name("libcaldera_cuda_double.so");
    assert!(library.is_file(), "no {}", library.display());
    library
}

/// Runs a test of this file again for each case, which is faults and a text, in a process of its own
/// that has the double and is given the text: there, `body`.
fn with_double(test: &str, cases: &[(&str, &str)], body: impl Fn(&str)) {
    if let Ok(case) = std::env::var(CHILD) {
        return body(&case);
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["libcuda.so", "libcuda.so.1"] {
        std::os::unix::fs::symlink(double(), folder.path().join(name)).unwrap();
    }
    let kernels = folder.path().join(bundle::NAME);
    std::fs::write(&kernels, caldera_cuda_double::bundle()).unwrap();
    for (faults, case) in cases {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env("LD_LIBRARY_PATH", folder.path())
            .env(bundle::VARIABLE, &kernels)
            .env(VARIABLE, faults)
            .env(GONE, folder.path().join("gone"))
            .env(CHILD, case)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{faults}: {text}\n{errors}");
        // A name that is not that of a test runs none.
        assert!(text.contains("1 passed"), "{faults}: {text}");
    }
}

fn open(name: &str, memory: usize) -> Result<Arc<Nvidia>, NvidiaError> {
    Nvidia::open(NvidiaConfig {
        name: name.to_owned(),
        memory,
        patience: PATIENCE,
    })
}

fn device() -> Arc<CudaDevice> {
    let driver = open("0", usize::MAX).unwrap();
    CudaDevice::new(driver, QUANTUM).unwrap()
}

#[test]
fn it_computes_what_arkworks_does() {
    with_double("it_computes_what_arkworks_does", &[("", "")], |_| {
        let device = device();
        if let Err(failure) = run(&*device, CurveId::Bn254, Effort::Quick, 31) {
            panic!("{failure}");
        }
        assert_eq!(device.info().kind, "cuda");
        assert_eq!(device.info().name, "double of a GPU");
        let site = device.site(0);
        // What the driver may need itself is left to it.
        assert_eq!(site.memory, Some((8 << 30) / 32 * 31));
        assert_eq!(site.pci.as_deref(), Some("ffff:ca:00.0"));
        assert_eq!(device.health().software[0].version, "13.0");
        // The double looks for what is left over.
    });
}

/// Lengths around the pieces that copies go in, the small ones and the large ones.
#[test]
fn copies_arrive_whole_in_pieces_of_any_length() {
    let test = "copies_arrive_whole_in_pieces_of_any_length";
    with_double(test, &[("", "")], |_| {
        let device = device();
        let of = |len: usize| -> Vec<u8> {
            let scalar = |i: usize| {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&(i as u64 * 0x9e37_79b9).to_le_bytes());
                bytes
            };
            (0..len).flat_map(scalar).collect()
        };
        let (small, large) = ((64 << 10) / 32, (2 << 20) / 32);
        for len in [
            1,
            small - 1,
            small,
            small + 1,
            large,
            large + 1,
            2 * large,
            3 * large - 1,
            5 * large + 7,
        ] {
            let id = device.vector(CurveId::Bn254, len).unwrap();
            let scalars = of(len);
            device.vector_write(id, 0, &scalars).unwrap();
            let mut back = vec![0; scalars.len()];
            device.vector_read(id, 0, &mut back).unwrap();
            assert!(back == scalars, "{len}");
            device.vector_free(id);
        }
    });
}

/// Large copies to the device stand still until a number of launches have run, and these belong to
/// sums that read what they need in between. So does a key's upload, while a witness goes up, whose pieces are smaller, and is
/// summed over.
#[test]
fn a_quantum_waits_for_no_upload() {
    let test = "a_quantum_waits_for_no_upload";
    let cases = [("stall:40", "witness"), ("stall:40,larger:2097152", "key")];
    with_double(test, &cases, |case| {
        let device = device();
        let bytes = vec![0; 16 << 20];
        let vector = device.vector(CurveId::Bn254, bytes.len() / 32).unwrap();
        let goes_up = || match case {
            "witness" => device.vector_write(vector, 0, &bytes),
            _ => {
                let points = bytes.clone().into();
                device.bases(CurveId::Bn254, Group::G1, points).map(drop)
            }
        };
        std::thread::scope(|scope| {
            let upload = scope.spawn(goes_up);
            while !upload.is_finished() {
                if case == "key" {
                    device.vector_write(vector, 0, &bytes).unwrap();
                }
                sum(&*device).unwrap();
            }
            upload.join().unwrap().unwrap();
        });
        device.vector_free(vector);
    });
}

/// What a relay brings to a device is on the bus piece behind piece, is waited for at the end, and is all that a sum reads then; of what
/// is given up in the midst of it nothing comes later, and nothing stays behind.
#[test]
fn the_pieces_of_a_copy_overlap() {
    let test = "the_pieces_of_a_copy_overlap";
    with_double(test, &[("together:3", "")], |_| {
        let host = || {
            CpuDevice::new(CpuConfig {
                quantum: QUANTUM,
                lanes: 1,
            })
        };
        let member = |device| Member { device, width: 1 };
        let relay = Relay::new(vec![member(host() as Arc<dyn Device>), member(device())]);
        relay.allow(0b10);
        // Five pieces and a bit of one.
        const LEN: usize = (5 << 16) + 77;
        let mut scalars: Vec<u8> = (0..LEN * 4)
            .flat_map(|i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
            .collect();
        scalars
            .iter_mut()
            .skip(31)
            .step_by(32)
            .for_each(|top| *top &= 0x1f);
        let of = |device: &dyn Device, offset| {
            let curve = CurveId::Bn254;
            let mut point = [0; 64];
            FqBn254::GENERATOR.to_bytes(&mut point);
            let bases = device
                .bases(curve, Group::G1, point.repeat(300).into())
                .unwrap();
            let vector = device.vector(curve, LEN).unwrap();
            device.vector_write(vector, 0, &scalars).unwrap();
            let work = Work::Msm {
                bases,
                scalars: vector,
                offset,
                form: Form::Canonical,
            };
            let plan = device.plan(&work).unwrap();
            device.bases_free(bases);
            device.vector_free(vector);
            plan
        };
        let finish = |plan: &dyn Plan| {
            for stage in 0..plan.stages() {
                for lane in 0..plan.open(stage).unwrap() {
                    while plan.run(stage, lane).unwrap() == Progress::More {}
                }
            }
            plan.point().unwrap()
        };
        for offset in [0, LEN / 2, LEN - 300] {
            let sum = finish(&*of(&*relay, offset));
            assert_eq!(sum, finish(&*of(&*host(), offset)), "{offset}");
            // The double looks whether memory is given back that something is on its way to.
            let dropped = of(&*relay, offset);
            dropped.open(0).unwrap();
            for _ in 0..2 {
                assert_eq!(dropped.run(0, 0), Ok(Progress::More));
            }
        }
        assert_eq!(relay.health().lost, None);
        // The double looks whether anything is left in pinned memory.
    });
}

/// However many plans take turns: whoever takes the device over waits for few launches.
#[test]
fn few_launches_are_in_flight_at_once() {
    let test = "few_launches_are_in_flight_at_once";
    // More than three that were not waited for end the process.
    with_double(test, &[("flights:3", "")], |_| {
        let device = device();
        let plans: Vec<_> = (0..5).map(|_| plan(&*device).unwrap()).collect();
        let mut left: Vec<_> = plans.iter().map(|plan| (plan, 0, false)).collect();
        while !left.is_empty() {
            left.retain_mut(|(plan, stage, is_open)| {
                if !std::mem::replace(is_open, true) {
                    plan.open(*stage).unwrap();
                }
                if plan.run(*stage, 0).unwrap() == Progress::Done {
                    (*stage, *is_open) = (*stage + 1, false);
                }
                *stage < plan.stages()
            });
        }
        let sums: Vec<_> = plans.iter().map(|plan| plan.point().unwrap()).collect();
        assert!(sums.iter().all(|sum| *sum == sums[0]));
        assert_eq!(sums[0], sum(&*device).unwrap());
    });
}

#[test]
fn what_is_not_there_is_named() {
    let cases = [
        (
            "not_ready",
            "0|the NVIDIA driver is not ready (error 802): its Fabric Manager has not set up the NVSwitches; \
             `systemctl status nvidia-fabricmanager` says why, and its version must be the driver's",
        ),
        (
            "",
            "1|no NVIDIA device 1: the driver sees 0 (GPU-cacacaca-caca-caca-caca-cacacacaca00 at ffff:ca:00.0)",
        ),
        (
            "instance",
            "MIG-dada|no NVIDIA device MIG-dada: \
             the driver sees 0 (MIG-cacacaca-caca-caca-caca-cacacacaca00 at ffff:ca:00.0)",
        ),
        (
            "devices:2",
            "GPU-CA|NVIDIA device GPU-CA may be any of \
             0 (GPU-cacacaca-caca-caca-caca-cacacacaca00 at ffff:ca:00.0), \
             1 (GPU-cacacaca-caca-caca-caca-cacacacaca01 at ffff:ca:01.0)",
        ),
        (
            "version:12090",
            "0|the NVIDIA driver is too old: it runs CUDA 12.9, and 13.0 is needed (driver 580 or later)",
        ),
    ];
    with_double("what_is_not_there_is_named", &cases, |case| {
        let (ordinal, expected) = case.split_once('|').unwrap();
        let opened = open(ordinal, usize::MAX);
        assert_eq!(opened.map(|_| ()).unwrap_err().to_string(), expected);
    });
}

/// What the driver says of a machine without a device depends on what files it has.
#[test]
fn a_machine_without_a_device_says_so() {
    let test = "a_machine_without_a_device_says_so";
    with_double(test, &[("absent", "")], |_| {
        let error = open("0", usize::MAX).map(|_| ()).unwrap_err();
        let is_there = std::fs::exists("/dev/nvidiactl").unwrap();
        assert_eq!(
            is_there,
            !matches!(error, NvidiaError::Missing { .. }),
            "{error}"
        );
    });
}

/// By its number on the bus, which is not the driver's; by its UUID, or the end of it that tells it apart; by its
/// address; and the instance of a card.
#[test]
fn the_third_of_four_is_opened() {
    let uuid = "GPU-cacacaca-caca-caca-caca-cacacacaca01";
    let instance = "MIG-cacacaca-caca-caca-caca-cacacacaca00";
    let cases = [
        ("devices:4,shuffled", format!("2|{uuid}|4")),
        ("devices:4", format!("{}|{uuid}|4", uuid.to_uppercase())),
        ("devices:4,shuffled", format!("FFFF:CA:02.0|{uuid}|4")),
        ("instance", format!("0|{instance}|1")),
        ("instance", format!("MIG-cacacaca-c|{instance}|1")),
    ];
    let cases = cases.each_ref().map(|(faults, case)| (*faults, &case[..]));
    with_double("the_third_of_four_is_opened", &cases, |case| {
        let [name, uuid, count] = case.split('|').collect::<Vec<_>>()[..] else {
            panic!("{case}");
        };
        assert_eq!(caldera_cuda::count().to_string(), count);
        let driver = open(name, usize::MAX).unwrap();
        assert_eq!(driver.uuid(), uuid);
        assert_eq!(driver.architecture(), 90);
    });
}

/// Memory that the driver does not have, or that was not allowed, is refused, and all else goes on.
#[test]
fn a_device_without_room_says_so_and_stays() {
    const BYTES: usize = 48 << 20;
    let test = "a_device_without_room_says_so_and_stays";
    let cases = [
        ("memory:50331648", "18446744073709551615"),
        ("", "50331648"),
    ];
    with_double(test, &cases, |allowed| {
        let driver = open("0", allowed.parse().unwrap()).unwrap();
        let device = CudaDevice::new(driver, QUANTUM).unwrap();
        let refused = device.vector(CurveId::Bn254, BYTES / 32).unwrap_err();
        assert!(
            matches!(refused, DeviceError::Memory { bytes: BYTES, .. }),
            "{refused:?}"
        );
        sum(&*device).unwrap();
    });
}

/// What is given back can be had again, though nothing has been asked of the device meanwhile.
#[test]
fn memory_that_is_given_back_can_be_had_at_once() {
    const BYTES: usize = 32 << 20;
    let test = "memory_that_is_given_back_can_be_had_at_once";
    with_double(test, &[("memory:50331648", "")], |_| {
        let device = device();
        let vector = || device.vector(CurveId::Bn254, BYTES / 32);
        for _ in 0..3 {
            let id = vector().unwrap();
            assert!(matches!(vector(), Err(DeviceError::Memory { .. })));
            device.vector_free(id);
        }
    });
}

/// What threads spill needs memory of the device's, which the driver takes when a kernel is launched that needs more of it than
/// those before: at the start, not when work has taken the rest.
#[test]
fn work_begins_on_a_device_that_is_full() {
    let test = "work_begins_on_a_device_that_is_full";
    with_double(test, &[("memory:50331648", "")], |_| {
        let device = device();
        let plan = plan(&*device).unwrap();
        let mut len = 1 << 20;
        while len > 0 {
            match device.vector(CurveId::Bn254, len) {
                Ok(_) => {}
                Err(DeviceError::Memory { .. }) => len /= 2,
                Err(error) => panic!("{error}"),
            }
        }
        run_plan(&*plan).unwrap();
        assert!(plan.point().is_some());
    });
}

/// Threads that sum at once: three launches at most are in flight, and each is timed by itself.
#[test]
fn several_threads_launch_one_at_a_time() {
    let test = "several_threads_launch_one_at_a_time";
    with_double(test, &[("flights:3", "")], |_| {
        let device = device();
        let expected = sum(&*device).unwrap();
        let sums = || (0..6).all(|_| sum(&*device).unwrap() == expected);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(sums)).collect();
            assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
        });
    });
}

/// Sums of zeros cost next to nothing, and what they cost says nothing of the next ones: no launch that may be all of a
/// large sum.
#[test]
fn what_was_quick_makes_no_long_launches() {
    const POINTS: usize = 1 << 14;
    // Of 254,200 digits, what a launch of two multiprocessors may cut, the 24 of a scalar at first are 10,591 threads and six waves.
    let test = "what_was_quick_makes_no_long_launches";
    with_double(test, &[("wide:9216", "")], |_| {
        let device = device();
        let curve = CurveId::Bn254;
        let mut point = vec![0; curve.point_bytes(Group::G2)];
        Bn254::g2().to_bytes(&mut point);
        let bases = device
            .bases(curve, Group::G2, point.repeat(POINTS).into())
            .unwrap();
        let scalars = device.vector(curve, POINTS).unwrap();
        let work = Work::Msm {
            bases,
            scalars,
            offset: 0,
            form: Form::Canonical,
        };
        for _ in 0..4 {
            let plan = device.plan(&work).unwrap();
            run_plan(&*plan).unwrap();
            assert_eq!(plan.point(), Some(vec![0; point.len()]));
        }
        // All of full size and equal: each bucket that is used has all of its parts.
        let mut scalar = [0x2b; 32];
        scalar[31] = 0;
        device
            .vector_write(scalars, 0, &scalar.repeat(POINTS))
            .unwrap();
        let plan = device.plan(&work).unwrap();
        run_plan(&*plan).unwrap();
        let words: Vec<u64> = scalar
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| u64::from_le_bytes(*bytes))
            .collect();
        let mut expected = vec![0; point.len()];
        let times = Bn254::g2()
            .mul_canonical(&words)
            .mul_canonical(&[POINTS as u64]);
        times.to_affine().to_bytes(&mut expected);
        assert_eq!(plan.point(), Some(expected));
    });
}

/// How late a thread wakes that waits for a device is part of what the device takes.
#[test]
fn a_thread_that_waits_wakes_in_time() {
    let test = "a_thread_that_waits_wakes_in_time";
    with_double(test, &[("", "")], |_| {
        let device = device();
        let worker = std::thread::spawn(move || {
            sum(&*device).unwrap();
            nix::sys::prctl::get_timerslack().unwrap()
        });
        assert_eq!(worker.join().unwrap(), 1_000);
    });
}

/// A device that fails in the midst of work is lost and says why; the work ends right elsewhere.
#[test]
fn what_a_lost_device_had_begun_ends_right() {
    let cases = [
        ("fail:30", "CUDA_ERROR_LAUNCH_FAILED"),
        ("fail:200", "CUDA_ERROR_LAUNCH_FAILED"),
        ("fail:700", "CUDA_ERROR_LAUNCH_FAILED"),
        ("hang:100", "no answer in"),
        ("hang:333", "no answer in"),
    ];
    with_double("what_a_lost_device_had_begun_ends_right", &cases, |why| {
        let (relay, proofs) = proofs_on_two(20);
        let failed = proofs.iter().filter(|it| **it == Proved::Failed).count();
        // A transform works in place: its proof fails with the device, once.
        assert!(failed <= 1, "{proofs:?}");
        assert!(!proofs.contains(&Proved::Wrong), "{proofs:?}");
        let lost = relay.health().lost.unwrap_or_default();
        assert!(lost.contains(why), "{lost:?}");
    });
}

/// Nobody uses it at the time.
#[test]
fn a_device_that_goes_by_itself_is_seen() {
    let test = "a_device_that_goes_by_itself_is_seen";
    with_double(test, &[("", "")], |_| {
        let device = device();
        sum(&*device).unwrap();
        device.probe().unwrap();
        std::fs::write(std::env::var(GONE).unwrap(), "").unwrap();
        let error = device.probe().unwrap_err().to_string();
        assert!(error.contains("CUDA_ERROR_ECC_UNCORRECTABLE"), "{error}");
        assert!(matches!(sum(&*device), Err(DeviceError::Lost { .. })));
    });
}

/// Nor does the driver notice: what was done is done, and what is asked is not.
#[test]
fn a_device_that_goes_unnoticed_is_missed() {
    let test = "a_device_that_goes_unnoticed_is_missed";
    with_double(test, &[("", "")], |_| {
        let device = device();
        sum(&*device).unwrap();
        for _ in 0..10 {
            device.probe().unwrap();
        }
        std::fs::write(std::env::var(GONE).unwrap(), QUIET).unwrap();
        let begun = Instant::now();
        let error = loop {
            if let Err(error) = device.probe() {
                break error.to_string();
            }
            assert!(begun.elapsed() < 60 * PATIENCE, "it is not missed");
            std::thread::yield_now();
        };
        assert!(error.contains("no answer in"), "{error}");
        assert!(matches!(sum(&*device), Err(DeviceError::Lost { .. })));
    });
}

/// Work that was not done, and is said to be: the proofs are right all the same, and the device is
/// given up.
#[test]
fn a_kernel_that_does_nothing_is_found() {
    let cases = ["skip:msm_accumulate", "skip:ntt_shift", "skip:product_rows"];
    let test = "a_kernel_that_does_nothing_is_found";
    with_double(test, &cases.map(|faults| (faults, "")), |_| {
        let (relay, proofs) = proofs_on_two(3);
        assert_eq!(proofs, [Proved::Right; 3]);
        let lost = relay.health().lost;
        assert!(lost.is_some_and(|why| why.contains("self-check")));
    });
}

/// A sum of one point many times.
fn plan(device: &dyn Device) -> Result<Arc<dyn Plan>, DeviceError> {
    let curve = CurveId::Bn254;
    let mut point = [0; 64];
    FqBn254::GENERATOR.to_bytes(&mut point);
    let bases = device.bases(curve, Group::G1, point.repeat(300).into())?;
    let scalars = device.vector(curve, 300)?;
    let mut bytes = vec![7; 300 * 32];
    bytes
        .iter_mut()
        .skip(31)
        .step_by(32)
        .for_each(|top| *top = 0);
    device.vector_write(scalars, 0, &bytes)?;
    let work = Work::Msm {
        bases,
        scalars,
        offset: 0,
        form: Form::Canonical,
    };
    let plan = device.plan(&work)?;
    // The plan keeps what it needs.
    device.bases_free(bases);
    device.vector_free(scalars);
    Ok(plan)
}

fn sum(device: &dyn Device) -> Result<Vec<u8>, DeviceError> {
    let plan = plan(device)?;
    run_plan(&*plan)?;
    Ok(plan.point().unwrap())
}

fn run_plan(plan: &dyn Plan) -> Result<(), DeviceError> {
    for stage in 0..plan.stages() {
        plan.open(stage)?;
        while plan.run(stage, 0)? == Progress::More {}
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proved {
    Right,
    Wrong,
    Failed,
}

/// Proofs, one after the other, on the host and the double, all that can be on the double.
fn proofs_on_two(count: usize) -> (Arc<Relay>, Vec<Proved>) {
    let host = CpuDevice::new(CpuConfig {
        quantum: QUANTUM,
        lanes: 2,
    });
    let member = |device| Member { device, width: 1 };
    let relay = Relay::new(vec![member(host), member(device())]);
    let circuit = Synthetic {
        curve: CurveId::Bn254,
        domain_log2: 8,
        dense: 0.4,
        seed: [0x33; 32],
    };
    let mut file = Vec::new();
    let witness = setup_synthetic(&circuit, 2, &mut file, &mut |_| ()).unwrap();
    let zkey = Zkey::parse(Bytes::from(file)).unwrap();
    let key = ProvingKey::load(&zkey, relay.clone()).unwrap();
    relay.allow(0b10);
    let one = |_| match prove(&key, witness.clone(), 1, &mut |_, _| ()) {
        Ok((proof, public)) if verify(key.verification_key(), &proof, &public).is_ok() => {
            Proved::Right
        }
        Ok(_) => Proved::Wrong,
        Err(_) => Proved::Failed,
    };
    let proofs = (0..count).map(one).collect();
    (relay, proofs)
}

const CHILD: &str = "CALDERA_CUDA_DOUBLE_CHILD";
const QUANTUM: Duration = Duration::from_millis(2);
/// More than an emulated launch takes where others compute too.
const PATIENCE: Duration = Duration::from_secs(5);
