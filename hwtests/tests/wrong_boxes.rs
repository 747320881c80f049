//! Boxes that are wrong on purpose: each must fail the check that it was made for, and no other.
//!
//! What the program reads is a folder of text, a box that is in order, of which one thing is changed. What it
//! measures is this machine, made worse: its disk by the kernel's own limit of writes for a group of
//! processes, a core by a thread that stands above all normal ones. Both need root; where they are refused the
//! test says so on its output.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

fn hwtest() -> Command {
    Command::new(env!("CARGO_BIN_EXE_caldera-hwtest"))
}

fn report(command: &mut Command) -> Value {
    let output = command.output().expect("our own program");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn verdicts(report: &Value) -> Vec<(String, String)> {
    let checks = report["checks"].as_array().expect("a list of checks");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    checks
        .iter()
        .map(|check| (text(&check["name"]), text(&check["verdict"])))
        .collect()
}

/// A box in order, as text: two processors that are isolated, a GPU, a disk, two memory modules.
struct Machine(tempfile::TempDir);

const GPU: &str = "sys/bus/pci/devices/0000:3b:00.0";

impl Machine {
    fn new() -> Machine {
        let machine = Machine(tempfile::tempdir().expect("a folder of our own"));
        for (path, text) in [
            ("proc/sys/kernel/osrelease", "6.12.0"),
            ("proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC"),
            (
                "proc/cpuinfo",
                "model name\t: Example 9000\nflags\t: bmi2 adx avx2 constant_tsc nonstop_tsc",
            ),
            (
                "proc/meminfo",
                "MemTotal: 67108864 kB\nMemAvailable: 60000000 kB\nSwapTotal: 0 kB\nHugePages_Total: 0",
            ),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never",
            ),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "tsc",
            ),
            ("sys/devices/system/node/online", "0"),
            ("sys/devices/system/node/node0/cpulist", "0-1"),
            ("sys/devices/system/cpu/online", "0-1"),
            ("sys/devices/system/cpu/isolated", "1"),
            ("sys/devices/system/cpu/nohz_full", "1"),
            ("sys/devices/system/cpu/smt/active", "0"),
            ("sys/devices/system/edac/mc/mc0/ce_count", "0"),
            ("sys/devices/system/edac/mc/mc0/ue_count", "0"),
            ("sys/block/nvme0n1/size", "1953525168"),
            ("sys/block/nvme0n1/device/model", "Example SSD"),
            ("dev/kmsg", "6,1,1,-;all is well"),
            ("dev/nvidiactl", ""),
            ("dev/nvidia-uvm", ""),
            ("dev/nvidia0", ""),
        ] {
            machine.write(path, text);
        }
        for cpu in 0..2 {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}");
            machine.write(&format!("{folder}/cpufreq/scaling_governor"), "performance");
            machine.write(
                &format!("{folder}/thermal_throttle/core_throttle_count"),
                "0",
            );
        }
        for (name, text) in [
            ("class", "0x030200"),
            ("vendor", "0x10de"),
            ("device", "0x2330"),
            ("current_link_width", "16"),
            ("max_link_width", "16"),
            ("current_link_speed", "32.0 GT/s PCIe"),
            ("max_link_speed", "32.0 GT/s PCIe"),
            ("aer_dev_correctable", "RxErr 0\nTOTAL_ERR_COR 0"),
            ("aer_dev_nonfatal", "TOTAL_ERR_NONFATAL 0"),
            ("aer_dev_fatal", "TOTAL_ERR_FATAL 0"),
        ] {
            machine.write(&format!("{GPU}/{name}"), text);
        }
        let driver = machine.path(GPU).join("driver");
        symlink("../../../bus/pci/drivers/nvidia", driver).expect("inside our folder");
        for slot in 0..2 {
            machine.module(slot, 32768);
        }
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file in a folder")).expect("inside our folder");
        fs::write(path, text).expect("inside our folder");
    }

    fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() {
            fs::remove_dir_all(path).expect("inside our folder");
        } else {
            fs::remove_file(path).expect("inside our folder");
        }
    }

    /// A memory module, as the firmware's table has it (SMBIOS, type 17).
    fn module(&self, slot: usize, mebibytes: u16) {
        let mut raw = vec![0; 0x28];
        (raw[0], raw[1], raw[0x10]) = (17, 0x28, 1);
        // From 32 GiB on the size stands in a wider field.
        raw[0x0c..0x0e].copy_from_slice(&mebibytes.min(0x7fff).to_le_bytes());
        raw[0x1c..0x20].copy_from_slice(&u32::from(mebibytes).to_le_bytes());
        raw.extend_from_slice(format!("DIMM_{slot}\0\0").as_bytes());
        self.write(&format!("sys/firmware/dmi/entries/17-{slot}/raw"), raw);
    }

    fn run(&self, flag: &str, expected: &Path) -> Value {
        report(
            hwtest()
                .arg("--json")
                .arg("--root")
                .arg(self.0.path())
                .arg(flag)
                .arg(expected),
        )
    }
}

/// What is changed, which checks are to notice, and how badly.
type Fault = (fn(&Machine), &'static [(&'static str, &'static str)]);

const FAULTS: [Fault; 17] = [
    (
        |it| it.write(&format!("{GPU}/current_link_width"), "4"),
        &[("pci.link", "FAIL")],
    ),
    (
        |it| it.write(&format!("{GPU}/current_link_speed"), "2.5 GT/s PCIe"),
        &[("pci.link", "WARN")],
    ),
    (
        |it| it.write(&format!("{GPU}/aer_dev_fatal"), "TOTAL_ERR_FATAL 2"),
        &[("pci.errors", "FAIL")],
    ),
    (
        |it| it.remove(&format!("{GPU}/driver")),
        &[("pci.driver", "FAIL")],
    ),
    (|it| it.remove("dev/nvidia0"), &[("pci.permission", "FAIL")]),
    // A GPU that is not there has no driver, no link and no file either.
    (
        |it| it.remove(GPU),
        &[
            ("system.inventory", "FAIL"),
            ("pci.driver", "SKIP"),
            ("pci.permission", "SKIP"),
            ("pci.link", "SKIP"),
            ("pci.errors", "SKIP"),
        ],
    ),
    (
        |it| it.write("sys/devices/system/edac/mc/mc0/ce_count", "7"),
        &[("memory.errors", "WARN")],
    ),
    (
        |it| it.write("sys/devices/system/edac/mc/mc0/ue_count", "1"),
        &[("memory.errors", "FAIL")],
    ),
    (
        |it| {
            it.write(
                "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count",
                "9",
            )
        },
        &[("cpu.throttle", "WARN")],
    ),
    (
        |it| {
            it.write(
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "powersave",
            )
        },
        &[("cpu.governor", "WARN")],
    ),
    (
        |it| it.write("sys/devices/system/cpu/isolated", ""),
        &[("cpu.isolation", "WARN")],
    ),
    (
        |it| {
            it.write(
                "sys/kernel/mm/transparent_hugepage/enabled",
                "always madvise [never]",
            )
        },
        &[("memory.pages", "WARN")],
    ),
    // A smaller module, of which the kernel's sum says nothing here.
    (|it| it.module(1, 16384), &[("system.inventory", "FAIL")]),
    (
        |it| it.remove("sys/firmware/dmi/entries/17-0"),
        &[("system.inventory", "FAIL")],
    ),
    (
        |it| it.remove("sys/block/nvme0n1"),
        &[("system.inventory", "FAIL")],
    ),
    (
        |it| {
            it.write(
                "dev/kmsg",
                "4,2,3,-;NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.",
            )
        },
        &[("system.faults", "FAIL")],
    ),
    (
        |it| {
            it.write(
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "hpet",
            )
        },
        &[("clock.source", "WARN")],
    ),
];

#[test]
fn each_fault_fails_its_check_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder of our own");
    let expected = folder.path().join("expected.toml");
    let sound = Machine::new();
    sound.run("--write-expected", &expected);
    let before = verdicts(&sound.run("--expected", &expected));
    // What must be tried is skipped on a folder; all that is read is as it should be.
    for name in ["schedule.normal", "proof.whole", "clock.wall"] {
        let skipped = (name.to_owned(), "SKIP".to_owned());
        assert!(before.contains(&skipped), "{name}: {before:?}");
    }
    for name in [
        "system.inventory",
        "pci.link",
        "cpu.isolation",
        "memory.errors",
    ] {
        let passed = (name.to_owned(), "PASS".to_owned());
        assert!(before.contains(&passed), "{name}: {before:?}");
    }
    assert!(
        before.iter().all(|it| it.1 == "PASS" || it.1 == "SKIP"),
        "{before:?}"
    );

    for (number, (change, noticed)) in FAULTS.iter().enumerate() {
        let machine = Machine::new();
        change(&machine);
        let after = verdicts(&machine.run("--expected", &expected));
        let changed: Vec<(&str, &str)> = after
            .iter()
            .filter(|it| !before.contains(it))
            .map(|(name, verdict)| (name.as_str(), verdict.as_str()))
            .collect();
        assert_eq!(changed, *noticed, "fault {number}");
    }
}

/// A thread of SCHED_FIFO that holds a core for 200 of each 300 ms.
#[test]
fn a_core_that_is_held_by_another_fails_as_jitter() {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (told, hears) = std::sync::mpsc::channel();
        let over = &over;
        scope.spawn(move || {
            let refused = hold(over, &told);
            // Already told, where it was not refused.
            let _ = told.send(refused.err());
        });
        let refused = hears.recv().expect("the thread tells");
        if let Some(why) = &refused {
            println!("not tried: SCHED_FIFO is refused to this user: {why}");
        } else {
            let report = report(hwtest().args(["--json", "--only", "schedule.normal"]));
            over.store(true, Ordering::Relaxed);
            let expected = ("schedule.normal".to_owned(), "FAIL".to_owned());
            assert!(verdicts(&report).contains(&expected), "{report:#}");
        }
        over.store(true, Ordering::Relaxed);
    });
}

fn hold(
    over: &AtomicBool,
    told: &std::sync::mpsc::Sender<Option<nix::Error>>,
) -> Result<(), nix::Error> {
    let own = nix::unistd::Pid::from_raw(0);
    let mut core = nix::sched::CpuSet::new();
    core.set(0)?;
    nix::sched::sched_setaffinity(own, &core)?;
    let parameters = libc::sched_param { sched_priority: 10 };
    // SAFETY: 0 names the calling thread, and the pointer is to a live sched_param that the call
    // only reads.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) };
    nix::errno::Errno::result(answer)?;
    // The other side may have given up.
    let _ = told.send(None);
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(200) {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The kernel lets a group of processes write five times a second.
#[test]
fn a_slow_disk_fails_as_such() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder of our own");
    let group = match Group::new(folder.path()) {
        Ok(group) => group,
        Err(why) => {
            println!("not tried: writes to this disk cannot be limited: {why}");
            return;
        }
    };
    let run = |limit: bool| {
        let mut command = Command::new("sh");
        let join = if limit {
            "echo $$ > \"$0\" && exec \"$@\""
        } else {
            "exec \"$@\""
        };
        command
            .args(["-c", join])
            .arg(group.0.join("cgroup.procs"))
            .arg(env!("CARGO_BIN_EXE_caldera-hwtest"))
            .args(["--level", "2", "--shorten", "100", "--json"])
            .args(["--only", "disk.sync", "--data"])
            .arg(folder.path());
        report(&mut command)
    };
    let p50 = |report: &Value| {
        let checks = report["checks"].as_array().expect("a list of checks");
        let check = checks.iter().find(|check| check["name"] == "disk.sync");
        check.expect("the check that was asked for")["figures"]["p50_us"].clone()
    };
    let (free, limited) = (run(false), run(true));
    let failed = ("disk.sync".to_owned(), "FAIL".to_owned());
    assert!(verdicts(&limited).contains(&failed), "{limited:#}");
    assert!(p50(&limited).as_u64() > p50(&free).as_u64(), "{free:#}");
}

/// A control group of either version, with a limit of writes to the disk of a folder.
struct Group(PathBuf);

impl Group {
    fn new(folder: &Path) -> Result<Group, String> {
        let said = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let device = fs::metadata(folder)
            .map_err(|error| said("the folder", error))?
            .dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let link = format!("/sys/dev/block/{major}:{minor}");
        let place = fs::canonicalize(&link).map_err(|error| said(&link, error))?;
        // The limit is of a whole disk.
        let disk = if place.join("partition").exists() {
            place.parent().map(Path::to_owned)
        } else {
            Some(place)
        };
        let disk = disk.ok_or("a partition without a disk")?.join("dev");
        let disk = fs::read_to_string(&disk).map_err(|error| said("its number", error))?;
        let disk = disk.trim();
        let name = format!("caldera-hwtest-{}", std::process::id());
        let (root, file, limit) = if Path::new("/sys/fs/cgroup/blkio").is_dir() {
            (
                "/sys/fs/cgroup/blkio",
                "blkio.throttle.write_iops_device",
                format!("{disk} 5"),
            )
        } else {
            let root = "/sys/fs/cgroup";
            let control = format!("{root}/cgroup.subtree_control");
            fs::write(&control, "+io").map_err(|error| said(&control, error))?;
            (root, "io.max", format!("{disk} wiops=5"))
        };
        let folder = Path::new(root).join(name);
        fs::create_dir(&folder).map_err(|error| said("a control group", error))?;
        let group = Group(folder);
        fs::write(group.0.join(file), limit).map_err(|error| said(file, error))?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It has no processes any more; if it could not be removed the next start of the machine does.
        let _ = fs::remove_dir(&self.0);
    }
}
