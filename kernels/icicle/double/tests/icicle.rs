//! The ICICLE device on the double: it computes what arkworks does, refuses to start where it
//! should, and survives all that such a library can do.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caldera_icicle::{IcicleDevice, Setup, StartError, folder_around};
use caldera_kernels::conformance::{Effort, run};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::relay::{Member, Relay};
use caldera_kernels::{
    CurveId, Device, DeviceError, Group, Original, Plan, Progress, Thing, Transform, VectorId, Work,
};
use tempfile::TempDir;

const FILES: [&str; 5] = [
    "libicicle_device.so",
    "libicicle_field_bn254.so",
    "libicicle_curve_bn254.so",
    "libicicle_field_bls12_381.so",
    "libicicle_curve_bls12_381.so",
];

/// Cargo puts the double beside this test.
fn double() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.with_file_name("libcaldera_icicle_double.so");
    assert!(library.is_file(), "no {}", library.display());
    library
}

/// An installation of those of ICICLE's libraries.
fn installation(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("lib")).unwrap();
    for file in files {
        // A copy each: one file, however often it is opened, would be one library.
        std::fs::copy(double(), folder.path().join("lib").join(file)).unwrap();
    }
    folder
}

fn host() -> Arc<CpuDevice> {
    CpuDevice::new(CpuConfig {
        quantum: Duration::from_millis(2),
        lanes: 2,
    })
}

fn start_in(folder: &Path, kind: &str, fault: &str) -> Result<Arc<IcicleDevice>, StartError> {
    IcicleDevice::start(host(), setup(folder, kind, fault))
}

fn setup(folder: &Path, kind: &str, fault: &str) -> Setup {
    let mut command = Command::new(env!("CARGO_BIN_EXE_icicle-double-child"));
    command.env("CALDERA_DOUBLE_FAULT", fault);
    Setup {
        patience: PATIENCE,
        ..Setup::new(command, folder.to_owned(), kind)
    }
}

fn start(fault: &str) -> Result<Arc<IcicleDevice>, StartError> {
    let folder = installation(&FILES);
    // The child has opened what it needs; the folder may go.
    start_in(folder.path(), "CPU", fault)
}

fn conforms(device: &IcicleDevice, seed: u64) {
    for curve in [CurveId::Bn254, CurveId::Bls12_381] {
        if let Err(failure) = run(device, curve, Effort::Quick, seed) {
            panic!("{curve:?}, seed {seed}: {failure}");
        }
    }
}

#[test]
fn it_computes_what_arkworks_does() {
    let device = start("").unwrap();
    conforms(&device, 1);
    let counts = device.counts();
    assert!(counts.slices > 200, "{counts:?}");
    assert!(counts.transforms > 60, "{counts:?}");
    let health = device.health();
    assert_eq!(health.lost, None);
    assert_eq!(health.fallen_back, 0);
    assert_eq!(device.info().kind, "icicle");
    assert_eq!(health.software.len(), FILES.len());
    assert!(health.software.iter().all(|file| file.version.len() == 64));
}

/// Whatever happens to the child in the midst of work, the work ends right.
#[test]
fn a_child_that_fails_is_replaced_by_the_host() {
    // The self-test makes 8 sums and, each curve in a library of its own, 4 calls for transforms.
    for (fault, why) in [
        ("abort-msm:20", "signal 6"),
        ("abort-ntt:9", "signal 6"),
        ("hang-msm:21", "no answer within"),
        ("hang-ntt:10", "no answer within"),
        ("fail-msm:22", "unknown error"),
        ("fail-ntt:11", "unknown error"),
        ("astray-msm:23", "no point of the curve"),
    ] {
        let device = start(fault).unwrap();
        if let Err(failure) = run(&*device, CurveId::Bn254, Effort::Quick, 2) {
            panic!("{fault}: {failure}");
        }
        let health = device.health();
        let lost = health.lost.unwrap_or_default();
        assert!(lost.contains(why), "{fault}: {lost:?}");
        let counts = device.counts();
        assert!(counts.slices > 0, "{fault}: {counts:?}");
        assert!(health.fallen_back > 0, "{fault}");
    }
}

#[test]
fn what_has_no_room_on_the_device_is_done_by_the_host() {
    // The self-test takes ten pieces of memory, of each curve two for points and three for scalars.
    let device = start("full:10").unwrap();
    let before = device.counts();
    conforms(&device, 3);
    let health = device.health();
    assert_eq!(health.lost, None);
    assert!(health.fallen_back > 160, "{health:?}");
    assert_eq!(device.counts(), before);
}

/// Sets up a shift of so many scalars on a unit, each its own number: the vector and what is in it.
fn numbers(unit: &IcicleDevice, log2: u32) -> (VectorId, Vec<u8>) {
    let vector = unit.vector(CurveId::Bn254, 1 << log2).unwrap();
    let mut scalars = vec![0; 32 << log2];
    for (number, scalar) in (0u64..).zip(scalars.chunks_mut(32)) {
        scalar[..8].copy_from_slice(&number.to_le_bytes());
    }
    unit.vector_write(vector, 0, &scalars).unwrap();
    (vector, scalars)
}

fn shift(unit: &IcicleDevice, vector: VectorId) -> Arc<dyn Plan> {
    let transform = Transform::Shift;
    let plan = unit.plan(&Work::Ntt { vector, transform }).unwrap();
    assert_eq!(plan.open(0).unwrap(), 1);
    plan
}

/// A large transform gives way between its copies and its steps: one call for what it needs, two
/// pieces over, an inverse and a forward one, two pieces back, and two that the host takes over.
#[test]
fn a_large_transform_is_cut() {
    let unit = unit("");
    let (vector, _) = numbers(&unit, 17);
    let plan = shift(&unit, vector);
    assert_eq!(plan.bytes(), 32 << 17);
    let mut quanta = 1;
    while plan.run(0, 0).unwrap() == Progress::More {
        quanta += 1;
    }
    assert_eq!(quanta, 1 + 2 + 2 + 2 + 2);
    // Small ones are not worth it.
    let (vector, _) = numbers(&unit, 4);
    let plan = shift(&unit, vector);
    for progress in [Progress::More, Progress::More, Progress::Done] {
        assert_eq!(plan.run(0, 0), Ok(progress));
    }
}

/// Whenever it is lost, what a transform was to replace is still there, for another try elsewhere; and
/// once all of the result is here, the loss comes too late.
#[test]
fn a_transform_that_is_lost_leaves_its_scalars_alone() {
    let whole = 1 + 2 + 2 + 2 + 2;
    for before in 0..whole {
        let unit = unit("");
        let (vector, scalars) = numbers(&unit, 17);
        let plan = shift(&unit, vector);
        for _ in 0..before {
            assert_eq!(plan.run(0, 0), Ok(Progress::More));
        }
        unit.distrust("for a test");
        if before < whole - 2 {
            let lost = plan.run(0, 0);
            assert!(
                matches!(lost, Err(DeviceError::Lost { .. })),
                "{before}: {lost:?}"
            );
            let mut left = vec![0; scalars.len()];
            unit.vector_read(vector, 0, &mut left).unwrap();
            assert!(left == scalars, "{before}");
        } else {
            while plan.run(0, 0).unwrap() == Progress::More {}
        }
    }
}

/// What a transform needs at first is made when its key comes: no proof waits for that, and it cannot be
/// taken for a hang.
#[test]
fn transforms_of_a_keys_size_are_prepared_with_the_key() {
    let key = |unit: &IcicleDevice| {
        let points = Bytes::from(vec![0; 64 * ((1 << 10) - 1)]);
        let _ = unit.bases(CurveId::Bn254, Group::G1, points);
    };
    // The self-test has prepared its own size, and the key is the second.
    let lost = unit("abort-domain:1");
    key(&lost);
    let why = lost.health().lost.unwrap_or_default();
    assert!(why.contains("signal 6"), "{why:?}");
    // No transform of that size is a third.
    let unit = unit("abort-domain:2");
    key(&unit);
    let (vector, _) = numbers(&unit, 10);
    let plan = shift(&unit, vector);
    while plan.run(0, 0).unwrap() == Progress::More {}
    assert_eq!(unit.health().lost, None);
}

#[test]
fn a_device_that_computes_something_else_is_refused() {
    for (fault, what) in [
        ("wrong-msm:0", "a sum in G1"),
        ("wrong-msm:2", "a sum in G2"),
        ("wrong-ntt:0", "the transform Forward"),
        ("wrong-ntt:1", "the transform Inverse"),
        ("wrong-ntt:3", "the transform Shift"),
    ] {
        match start(fault).map(|_| ()) {
            Err(StartError::SelfTest { what: found, .. }) if found.starts_with(what) => {}
            other => panic!("{fault}: {other:?}"),
        }
    }
    for (fault, why) in [
        ("abort-msm:0", "signal 6"),
        ("fail-ntt:0", "unknown error"),
        ("astray-msm:1", "no point of the curve"),
    ] {
        match start(fault).map(|_| ()) {
            Err(StartError::Refused { why: found, .. }) if found.contains(why) => {}
            other => panic!("{fault}: {other:?}"),
        }
    }
}

#[test]
fn what_is_asked_for_and_not_there_is_an_error_that_says_why() {
    let whole = installation(&FILES);
    let refused = |folder: &Path, kind: &str| start_in(folder, kind, "").err().unwrap().to_string();

    let error = refused(whole.path(), "CUDA");
    assert!(error.contains("no device CUDA:0"), "{error}");
    assert!(
        error.contains("knows: CPU; no folder of backends"),
        "{error}"
    );

    let empty = tempfile::tempdir().unwrap();
    let error = refused(empty.path(), "CPU");
    assert!(error.contains("no libicicle_device.so"), "{error}");

    // A library, but not the one that its name says.
    let curve = whole.path().join("lib/libicicle_curve_bn254.so");
    std::fs::copy(some_other_library(), &curve).unwrap();
    let error = refused(whole.path(), "CPU");
    assert!(error.contains("no symbol bn254_msm"), "{error}");

    std::fs::write(&curve, "no library").unwrap();
    let error = refused(whole.path(), "CPU");
    assert!(error.contains("loading"), "{error}");
    assert!(error.contains("libicicle_curve_bn254.so"), "{error}");
    assert!(error.contains("file too short"), "{error}");

    // Its name is there, and the system will not tell of what: a link to itself, for no file is closed to
    // root.
    let link = empty.path().join("libicicle_device.so");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let error = refused(empty.path(), "CPU");
    assert!(error.contains("libicicle_device.so: Too many"), "{error}");

    let command = Command::new("/nonexistent/calderad");
    let setup = Setup::new(command, whole.path().to_owned(), "CPU");
    let started = IcicleDevice::start(host(), setup).map(|_| ());
    assert!(matches!(started, Err(StartError::Child(_))), "{started:?}");
}

#[test]
fn a_curve_without_libraries_is_the_hosts() {
    let folder = installation(&FILES[..3]);
    let device = start_in(folder.path(), "CPU", "").unwrap();
    run(&*device, CurveId::Bls12_381, Effort::Quick, 4).unwrap();
    let sums = device.counts().slices;
    run(&*device, CurveId::Bn254, Effort::Quick, 5).unwrap();
    assert!(device.counts().slices > sums + 100, "{:?}", device.counts());
}

/// Told that its results are wrong, it does without ICICLE.
#[test]
fn a_device_that_is_not_trusted_computes_on() {
    let device = start("").unwrap();
    assert!(device.is_mixed());
    device.distrust("a proof did not verify");
    device.distrust("nor another");
    assert!(!device.is_mixed());
    let lost = device.health().lost;
    assert_eq!(lost.as_deref(), Some("a proof did not verify"));
    let before = device.counts().slices;
    conforms(&device, 6);
    assert_eq!(device.counts().slices, before);
}

/// The C library of this very process.
fn some_other_library() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("/libc.so") || path.contains("/libc-"))
        .expect("this process has loaded a C library")
        .into()
}

/// Long enough for a double on a busy machine, short enough for one that hangs.
const PATIENCE: Duration = Duration::from_secs(5);

fn unit(fault: &str) -> Arc<IcicleDevice> {
    let folder = installation(&FILES);
    IcicleDevice::unit(host(), setup(folder.path(), "CPU", fault)).unwrap()
}

/// As one of several it does what it can do, and leaves the rest to the others.
#[test]
fn a_unit_does_sums_and_transforms_and_refuses_the_rest() {
    let unit = unit("");
    assert_eq!(unit.info().name, "ICICLE CPU:0");
    let curve = CurveId::Bn254;
    let vector = unit.vector(curve, 8).unwrap();
    let work = Work::Multiply {
        a: vector,
        b: vector,
        out: vector,
    };
    let refused = unit.plan(&work).err();
    assert!(
        matches!(refused, Some(DeviceError::Unfit { .. })),
        "{refused:?}"
    );
    let refused = unit.matrix(curve, 1, 1, Bytes::new()).err();
    assert!(
        matches!(refused, Some(DeviceError::Unfit { .. })),
        "{refused:?}"
    );
    let refused = unit.bases(curve, Group::G1, Bytes::new()).err();
    assert!(
        matches!(refused, Some(DeviceError::Unfit { .. })),
        "{refused:?}"
    );

    let members = vec![
        Member {
            device: host(),
            width: 1,
        },
        Member {
            device: unit.clone(),
            width: 1,
        },
    ];
    let relay = Relay::new(members);
    // What both can do goes to it, for nothing else may.
    relay.allow(0b10);
    let before = unit.counts();
    for curve in [CurveId::Bn254, CurveId::Bls12_381] {
        run(&*relay, curve, Effort::Quick, 7).unwrap();
    }
    let counts = unit.counts();
    assert!(counts.slices > before.slices + 200, "{counts:?}");
    assert!(counts.transforms > before.transforms + 40, "{counts:?}");
    assert_eq!(relay.health().lost, None);
    assert_eq!(unit.health().fallen_back, 0);
}

/// Full in the midst of work, it leaves that to the others and stays. It keeps points of the curves that it knows, and no
/// matrices: nobody waits for those to come.
#[test]
fn a_unit_without_room_leaves_its_work_to_others() {
    // As above, and a key's points: those have room, and what transforms need has none.
    let unit = unit("full:11");
    for (thing, is_kept) in [(Thing::Bases, true), (Thing::Matrix, false)] {
        assert_eq!(unit.keeps(CurveId::Bn254, thing), is_kept, "{thing:?}");
    }
    let member = |device| Member { device, width: 1 };
    let relay = Relay::new(vec![member(host()), member(unit.clone())]);
    let points = Bytes::from(vec![0; 64 * 16]);
    let bases = relay.bases(CurveId::Bn254, Group::G1, points).unwrap();
    let bases = Original::Bases(bases);
    assert_eq!(
        [relay.copy_len(1, bases), relay.copy_bytes(1, bases)],
        [1024; 2]
    );
    let matrix = relay.matrix(CurveId::Bn254, 1, 1, Bytes::from(vec![0; 44]));
    let matrix = Original::Matrix(matrix.unwrap());
    assert_eq!(
        [relay.copy_len(1, matrix), relay.copy_bytes(1, matrix)],
        [0; 2]
    );
    relay.copy(1, matrix).unwrap();
    relay.allow(0b10);
    let before = unit.counts();
    if let Err(failure) = run(&*relay, CurveId::Bn254, Effort::Quick, 10) {
        panic!("{failure}");
    }
    let health = relay.health();
    assert_eq!(health.lost, None);
    assert!(health.fallen_back > 0, "{health:?}");
    assert_eq!(
        unit.health().fallen_back,
        0,
        "by itself it does nothing else"
    );
    assert_eq!(unit.counts().transforms, before.transforms);
}

/// A child that ends while nobody asks it for anything.
#[test]
fn a_unit_that_goes_by_itself_is_seen() {
    let unit = unit("");
    unit.probe().unwrap();
    let killed = Command::new("kill")
        .args(["-9", &unit.process().to_string()])
        .status();
    assert!(killed.unwrap().success());
    // It is gone at once, or as soon as the kernel has got round to it.
    while unit.probe().is_ok() {
        std::thread::yield_now();
    }
    let lost = unit.health().lost;
    assert!(lost.is_some_and(|why| why.contains("has ended")));
}

/// Lost in the midst of a sum, it leaves that to the others, and all that comes later.
#[test]
fn a_unit_that_is_lost_leaves_its_work_to_others() {
    for (fault, why) in [
        ("abort-msm:20", "signal 6"),
        ("hang-msm:21", "no answer within"),
        ("astray-msm:23", "no point of the curve"),
    ] {
        let unit = unit(fault);
        let member = |device| Member { device, width: 1 };
        let relay = Relay::new(vec![member(host()), member(unit.clone())]);
        relay.allow(0b10);
        let sums = |seed| run(&*relay, CurveId::Bn254, Effort::Quick, seed);
        if let Err(failure) = sums(8) {
            panic!("{fault}: {failure}");
        }
        assert!(relay.is_lost(1), "{fault}");
        let health = relay.health();
        assert!(
            health.lost.is_some_and(|lost| lost.contains(why)),
            "{fault}"
        );
        assert!(health.fallen_back > 0, "{fault}");
        assert_eq!(unit.health().fallen_back, 0, "{fault}");
    }
}

/// A child in the hands of a driver cannot be killed. Nobody waits for that.
#[test]
fn a_child_that_does_not_end_holds_nobody_up() {
    for (fault, why) in [
        ("abort-msm:20", "does not end"),
        ("hang-msm:21", "no answer within"),
    ] {
        let folder = installation(&FILES);
        let mut setup = setup(folder.path(), "CPU", fault);
        setup.reap = |_| {
            loop {
                std::thread::park();
            }
        };
        let unit = IcicleDevice::unit(host(), setup).unwrap();
        let member = |device| Member { device, width: 1 };
        let relay = Relay::new(vec![member(host()), member(unit.clone())]);
        relay.allow(0b10);
        if let Err(failure) = run(&*relay, CurveId::Bn254, Effort::Quick, 9) {
            panic!("{fault}: {failure}");
        }
        let lost = unit.health().lost.unwrap_or_default();
        assert!(lost.contains(why), "{fault}: {lost:?}");
        unit.distrust("nor can it be believed");
    }
}

/// Whoever says that a device is not to be trusted does not wait for an exchange that hangs, and
/// ends it.
#[test]
fn distrust_ends_an_exchange_that_hangs() {
    let folder = installation(&FILES);
    let tell = folder.path().join("tell");
    let told = UnixListener::bind(&tell).unwrap();
    let mut setup = setup(folder.path(), "CPU", "hang-msm:8");
    setup.command.env("CALDERA_DOUBLE_TELL", tell);
    setup.patience = Duration::from_secs(3600);
    let device = IcicleDevice::start(host(), setup).unwrap();
    std::thread::scope(|scope| {
        let sums = scope.spawn(|| run(&*device, CurveId::Bn254, Effort::Quick, 10));
        told.accept().unwrap();
        device.distrust("a proof did not verify");
        sums.join().unwrap().unwrap();
    });
    let lost = device.health().lost;
    assert_eq!(lost.as_deref(), Some("a proof did not verify"));
}

/// The child holds witnesses: the kernel gives what shows them to root, as it does for no process
/// that may be dumped.
#[test]
fn the_childs_memory_is_out_of_reach_for_its_own_user() {
    let folder = installation(&FILES);
    let mut setup = setup(folder.path(), "CPU", "");
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        // Root's own processes show nothing of that: the child is somebody else's, who must reach it.
        let child = folder.path().join("child");
        std::fs::copy(setup.command.get_program(), &child).unwrap();
        let all = Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), all).unwrap();
        let mut command = Command::new(child);
        command.uid(65534).gid(65534);
        setup.command = command;
    }
    let device = IcicleDevice::start(host(), setup).unwrap();
    let memory = format!("/proc/{}/mem", device.process());
    let owner = std::fs::metadata(memory).unwrap().uid();
    assert_eq!(owner, 0);
}

/// What starts the child must be there as long as it is: here a shell comes between the two, and goes.
#[test]
fn a_child_whose_parent_is_gone_does_not_serve() {
    let folder = installation(&FILES);
    let mut setup = setup(folder.path(), "CPU", "");
    let child = setup.command.get_program().to_owned();
    let mut command = Command::new("sh");
    // Descriptor 3 keeps the socket: a shell's background has none for its input.
    let script = "exec 3<&0; \"$1\" <&3 &";
    command.args(["-c", script, "sh"]).arg(child);
    setup.command = command;
    let refused = IcicleDevice::start(host(), setup).err();
    assert!(matches!(refused, Some(StartError::Child(_))), "{refused:?}");
}

/// It may take its time, but not for ever.
#[test]
fn preparing_transforms_has_a_patience_of_its_own() {
    let folder = installation(&FILES);
    let mut setup = setup(folder.path(), "CPU", "hang-domain:1");
    setup.loading = PATIENCE;
    setup.patience = Duration::from_secs(3600);
    let unit = IcicleDevice::unit(host(), setup).unwrap();
    let points = Bytes::from(vec![0; 64 << 7]);
    let _ = unit.bases(CurveId::Bn254, Group::G1, points);
    let lost = unit.health().lost.unwrap_or_default();
    assert!(lost.contains("no answer within 5s"), "{lost:?}");
}

/// The keys of two tenants, of which the device holds one: the second one is refused by what the device
/// said it has, and by what it may use of that, and has room when the first has gone.
#[test]
fn keys_take_no_more_than_the_devices_memory() {
    let key = |unit: &IcicleDevice, points: usize| {
        let points = Bytes::from(vec![0; 64 * points]);
        unit.bases(CurveId::Bn254, Group::G1, points)
    };
    let unlimited = u64::MAX;
    for (of_its_own, option, memory) in [
        ("1048576", unlimited, 1 << 20),
        ("1048576", 500_000, 500_000),
        ("", 500_000, 500_000),
    ] {
        let folder = installation(&FILES);
        let mut setup = setup(folder.path(), "CPU", "");
        setup.command.env("CALDERA_DOUBLE_MEMORY", of_its_own);
        setup.memory = option;
        let unit = IcicleDevice::unit(host(), setup).unwrap();
        assert_eq!(unit.site(0).memory, Some(memory));
        let points = memory as usize / 64;
        let first = key(&unit, points - 10).unwrap();
        let refused = key(&unit, 11).unwrap_err();
        let expected = DeviceError::Memory {
            what: "points on ICICLE's device",
            bytes: 11 * 64,
        };
        assert_eq!(refused, expected);
        key(&unit, 10).unwrap();
        unit.bases_free(first);
        key(&unit, points - 10).unwrap();
        assert_eq!(unit.health().lost, None);
    }
    // Memory that is the host's is not the device's.
    assert_eq!(unit("").site(0).memory, None);
}

/// An installation with a folder of backends, in which there are those.
fn with_backends(backends: &[&str]) -> (TempDir, PathBuf) {
    let folder = installation(&FILES);
    let at = folder.path().join("lib/backend");
    std::fs::create_dir(&at).unwrap();
    for file in backends {
        std::fs::copy(double(), at.join(file)).unwrap();
    }
    (folder, at)
}

/// A backend is loaded when what it needs is there, from where it is or where somebody says, and is named
/// with its digest like all else.
#[test]
fn a_backend_is_found_loaded_and_named() {
    let (folder, at) = with_backends(&[
        "libicicle_backend_cuda_device.so",
        "libicicle_backend_cuda_field_babybear.so",
    ]);
    let elsewhere = installation(&FILES);
    for (folder, backends) in [(folder.path(), None), (elsewhere.path(), Some(at.clone()))] {
        let mut setup = setup(folder, "CUDA", "");
        setup.backends = backends;
        let software = IcicleDevice::start(host(), setup)
            .unwrap()
            .health()
            .software;
        // What is for no curve of ours does not compute.
        assert_eq!(software.len(), FILES.len() + 1);
        let backend = at.join("libicicle_backend_cuda_device.so");
        assert_eq!(software[FILES.len()].name, backend.display().to_string());
        assert_eq!(software[FILES.len()].version.len(), 64);
    }
}

/// ICICLE says nothing of backends that it could not load.
#[test]
fn why_a_backend_does_not_do_is_said() {
    let (folder, at) = with_backends(&[]);
    let refused = |kind: &str, fault: &str| {
        let refused = start_in(folder.path(), kind, fault).err().unwrap();
        refused.to_string()
    };
    let error = refused("CUDA", "");
    assert!(error.contains("no backend of a device"), "{error}");

    let device = at.join("libicicle_backend_cuda_device.so");
    std::fs::write(&device, "no library").unwrap();
    let error = refused("CUDA", "");
    assert!(error.contains("no device CUDA:0"), "{error}");
    let why = format!("cannot be loaded: {}: ", device.display());
    assert!(error.contains(&why), "{error}");
    assert!(error.contains("file too short"), "{error}");

    // Whole, but of another number.
    std::fs::copy(double(), &device).unwrap();
    let mut setup = setup(folder.path(), "CUDA", "");
    setup.index = 7;
    let error = IcicleDevice::start(host(), setup)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("knows: CPU,CUDA"), "{error}");
    assert!(error.contains("all 1 backends"), "{error}");

    // The device is there, and cannot sum.
    let curve = at.join("libicicle_backend_cuda_curve_bn254.so");
    std::fs::write(&curve, "no library").unwrap();
    let error = refused("CUDA", "none-msm:0");
    assert!(error.contains("not implemented"), "{error}");
    let why = format!("cannot be loaded: {}: ", curve.display());
    assert!(error.contains(&why), "{error}");
}

#[test]
fn an_installation_without_curves_is_refused() {
    for files in [&FILES[..1], &FILES[..2]] {
        let folder = installation(files);
        let error = start_in(folder.path(), "CPU", "")
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("no curve has its libraries"), "{error}");
    }
}

#[test]
fn an_installation_is_found_around_its_backends() {
    let (folder, at) = with_backends(&[]);
    let lib = folder.path().join("lib");
    assert_eq!(folder_around(&at), Some(lib));
    let backend = folder.path().join("backend");
    std::fs::create_dir(&backend).unwrap();
    assert_eq!(folder_around(&backend).as_deref(), Some(folder.path()));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(folder_around(empty.path()), None);
}

/// All its threads run on the cores that it is given, and on no other.
#[test]
fn a_child_keeps_to_its_cores() {
    let allowed = |task: &Path| {
        let status = std::fs::read_to_string(task.join("status")).unwrap();
        let mut lines = status.lines();
        let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.unwrap().trim().to_owned()
    };
    let ours = allowed(Path::new("/proc/self"));
    let last = ours.rsplit([',', '-']).next().unwrap().to_owned();
    let folder = installation(&FILES);
    let start = |cores| {
        let mut setup = setup(folder.path(), "CPU", "");
        setup.cores = cores;
        IcicleDevice::start(host(), setup)
    };
    let device = start(vec![last.parse().unwrap()]).unwrap();
    let tasks = format!("/proc/{}/task", device.process());
    for task in std::fs::read_dir(tasks).unwrap() {
        assert_eq!(allowed(&task.unwrap().path()), last);
    }
    let device = start(Vec::new()).unwrap();
    let process = format!("/proc/{}", device.process());
    assert_eq!(allowed(Path::new(&process)), ours);
    // One that is not there.
    let refused = start(vec![1023]).err().unwrap().to_string();
    assert!(refused.contains("cores [1023] alone"), "{refused}");
}
