//! What the box is, and whether it is set up for steady work: read, never measured.
//!
//! Each function looks at one thing and returns a finding. They read the machine through [`Host`]
//! so that captured text of other machines is as good as this one.

use std::collections::BTreeMap;

use nix::sys::resource::{Resource, getrlimit};

use crate::host::{Host, chosen, cpu_list};
use crate::report::{Finding, Verdict};

/// Kernel, preemption model and whether there is a hypervisor below.
pub(crate) fn system(host: &Host) -> Finding {
    let Some(release) = host.text("/proc/sys/kernel/osrelease") else {
        return Finding::skip("/proc/sys/kernel/osrelease is not there");
    };
    let build = host.text("/proc/sys/kernel/version").unwrap_or_default();
    let preemption = ["PREEMPT_RT", "PREEMPT_DYNAMIC", "PREEMPT"]
        .into_iter()
        .find(|word| build.split_whitespace().any(|w| w == *word))
        .unwrap_or("no preemption in the build string");
    let cpuinfo = host.cpuinfo();
    let virtual_machine = flags(&cpuinfo).any(|flag| flag == "hypervisor");
    let place = if virtual_machine {
        "in a virtual machine"
    } else {
        "on bare metal"
    };
    Finding::pass(format!("Linux {release}, {preemption}, {place}"))
        .figure("release", release)
        .figure("preemption", preemption)
        .figure("virtual_machine", virtual_machine)
}

/// Model, and how many of the processors that are online this process may use.
pub(crate) fn cores(host: &Host, allowed: &[usize]) -> Finding {
    let online = host.online();
    let model = host
        .cpuinfo()
        .get("model name")
        .cloned()
        .unwrap_or_else(|| "unknown".to_owned());
    let (got, all) = (allowed.len(), online.len().max(allowed.len()));
    let finding = if got < all {
        Finding::warn(format!(
            "{model}: only {got} of {all} processors may be used (control group)"
        ))
    } else if got < 2 {
        Finding::warn(format!(
            "{model}: one processor, which arbiter and worker must share"
        ))
    } else {
        Finding::pass(format!("{model}: {got} processors"))
    };
    finding
        .figure("model", model)
        .figure("online", online.len())
        .figure("allowed", allowed.to_vec())
}

/// Two hardware threads of one core share its multipliers, so that a worker's neighbour shows
/// in its quanta.
pub(crate) fn smt(host: &Host) -> Finding {
    match host.number("/sys/devices/system/cpu/smt/active") {
        Some(0) => Finding::pass("one hardware thread a core"),
        Some(_) => {
            Finding::warn("hardware threads share cores: quanta vary with what the sibling runs")
        }
        None => Finding::skip("the kernel does not say"),
    }
}

/// Instructions that the field arithmetic can use.
pub(crate) fn features(host: &Host) -> Finding {
    let cpuinfo = host.cpuinfo();
    if !cpuinfo.contains_key("flags") {
        return Finding::skip("no x86 feature flags in /proc/cpuinfo");
    }
    let has = |name: &str| flags(&cpuinfo).any(|flag| flag == name);
    let present: Vec<&str> = FEATURES.iter().copied().filter(|name| has(name)).collect();
    let missing: Vec<&str> = ["bmi2", "adx"]
        .into_iter()
        .filter(|name| !has(name))
        .collect();
    let finding = if missing.is_empty() {
        Finding::pass(present.join(" "))
    } else {
        Finding::warn(format!(
            "without {}: multiplications take longer",
            missing.join(", ")
        ))
    };
    finding.figure("present", present)
}

/// A governor that follows the load makes the first quanta of a proof the slowest.
pub(crate) fn governor(host: &Host) -> Finding {
    let mut governors: Vec<String> = host
        .online()
        .iter()
        .filter_map(|cpu| {
            host.text(&format!(
                "/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
            ))
        })
        .collect();
    governors.sort();
    governors.dedup();
    match governors.as_slice() {
        [] => Finding::skip("no cpufreq: the clock is the hypervisor's or the firmware's"),
        [one] if one == "performance" => Finding::pass("performance on every processor"),
        others => Finding::warn(format!("{}: performance is steadier", others.join(", "))),
    }
    .figure("governors", governors)
}

/// Times that a processor was slowed down by heat since it started.
pub(crate) fn throttle(host: &Host) -> Finding {
    let counts: Vec<i64> = host
        .online()
        .iter()
        .filter_map(|cpu| {
            let folder = format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
            host.number(&format!("{folder}/core_throttle_count"))
        })
        .collect();
    let total: i64 = counts.iter().sum();
    if counts.is_empty() {
        Finding::skip("no thermal counters on this machine")
    } else if total > 0 {
        Finding::warn(format!(
            "slowed down by heat {total} times since it started"
        ))
        .figure("count", total)
    } else {
        Finding::pass("never slowed down by heat since it started").figure("count", 0)
    }
}

/// Which processors are near which memory.
pub(crate) fn numa(host: &Host) -> Finding {
    let Some(nodes) = host
        .text("/sys/devices/system/node/online")
        .and_then(|list| cpu_list(&list))
        .filter(|nodes| !nodes.is_empty())
    else {
        return Finding::skip("the kernel names no memory nodes");
    };
    let map: Vec<String> = nodes
        .iter()
        .map(|node| {
            let list = host.text(&format!("/sys/devices/system/node/node{node}/cpulist"));
            format!(
                "node {node}: {}",
                list.unwrap_or_else(|| "no processors".to_owned())
            )
        })
        .collect();
    Finding::pass(map.join("; ")).figure("nodes", nodes.len())
}

/// Room for a key and its working vectors, and no swap that a witness could be written to.
pub(crate) fn memory(host: &Host) -> Finding {
    let Some(total) = host.memory_bytes("MemTotal") else {
        return Finding::skip("/proc/meminfo is not there");
    };
    let available = host.memory_bytes("MemAvailable").unwrap_or(0);
    let swap = host.memory_bytes("SwapTotal").unwrap_or(0);
    let sizes = format!(
        "{:.1} GiB, {:.1} available",
        gibibytes(total),
        gibibytes(available)
    );
    let finding = if total < MEMORY_MIN {
        Finding::fail(format!("{sizes}: less than {} GiB", MEMORY_MIN >> 30))
    } else if total < MEMORY_GOOD {
        Finding::warn(format!(
            "{sizes}: keys of 2^20 constraints and above will not fit"
        ))
    } else if swap > 0 {
        Finding::warn(format!(
            "{sizes}; swap is on, so a witness could reach a disk"
        ))
    } else {
        Finding::pass(format!("{sizes}, no swap"))
    };
    finding
        .figure("total_bytes", total)
        .figure("available_bytes", available)
        .figure("swap_bytes", swap)
}

/// Errors that the memory controllers have counted since the start.
pub(crate) fn memory_errors(host: &Host) -> Finding {
    let folder = "/sys/devices/system/edac/mc";
    let controllers: Vec<String> = host
        .names(folder)
        .into_iter()
        .filter(|name| host.number(&format!("{folder}/{name}/ue_count")).is_some())
        .collect();
    if controllers.is_empty() {
        return Finding::skip("no memory controller reports errors here (no ECC, or a guest)");
    }
    let sum = |counter: &str| -> i64 {
        let count = |name: &String| host.number(&format!("{folder}/{name}/{counter}"));
        controllers.iter().filter_map(count).sum()
    };
    let (corrected, uncorrected) = (sum("ce_count"), sum("ue_count"));
    let verdict = match (corrected, uncorrected) {
        (0, 0) => Verdict::Pass,
        (_, 0) => Verdict::Warn,
        _ => Verdict::Fail,
    };
    let reason = format!("{corrected} corrected, {uncorrected} uncorrected memory errors");
    Finding::new(verdict, reason)
        .figure("corrected", corrected)
        .figure("uncorrected", uncorrected)
}

/// Large pages save address translations in buckets and transforms.
pub(crate) fn hugepages(host: &Host) -> Finding {
    let reserved = host.memory_bytes("HugePages_Total").unwrap_or(0);
    let text = host.text("/sys/kernel/mm/transparent_hugepage/enabled");
    let Some(setting) = text.as_deref().and_then(chosen) else {
        return Finding::skip("the kernel has no transparent huge pages");
    };
    let finding = if setting == "never" && reserved == 0 {
        Finding::warn("transparent huge pages are off and none are reserved")
    } else {
        Finding::pass(format!("transparent: {setting}; reserved: {reserved}"))
    };
    finding
        .figure("transparent", setting)
        .figure("reserved", reserved)
}

/// Which processors the kernel keeps other work away from: those of the workers, on a box that is set
/// up for it.
pub(crate) fn isolation(host: &Host) -> Finding {
    let list = |name: &str| {
        let text = host.text(&format!("/sys/devices/system/cpu/{name}"))?;
        // An empty list of processors without a tick is printed as a null pointer.
        cpu_list(if text == "(null)" { "" } else { &text })
    };
    let Some(isolated) = list("isolated") else {
        return Finding::skip("the kernel does not say which processors are isolated");
    };
    let tickless = list("nohz_full").unwrap_or_default();
    let finding = if isolated.is_empty() {
        Finding::warn(
            "no processor is isolated (isolcpus): other programs run on the workers' cores",
        )
    } else if isolated.iter().any(|cpu| !tickless.contains(cpu)) {
        Finding::warn(format!(
            "isolated: {isolated:?}, without a tick: {tickless:?}: the kernel's tick interrupts the others"
        ))
    } else {
        Finding::pass(format!("isolated and without a tick: {isolated:?}"))
    };
    finding
        .figure("isolated", isolated)
        .figure("tickless", tickless)
}

/// Maker, model and serial numbers, for whoever has to find the box.
pub(crate) fn machine(host: &Host) -> BTreeMap<&'static str, String> {
    let names = [
        ("maker", "sys_vendor"),
        ("product", "product_name"),
        ("serial number", "product_serial"),
        ("board", "board_name"),
        ("firmware", "bios_version"),
    ];
    let read = |(name, file): (&'static str, &str)| {
        Some((name, host.text(&format!("/sys/class/dmi/id/{file}"))?))
    };
    let mut all: BTreeMap<&'static str, String> = names.into_iter().filter_map(read).collect();
    if let Some(name) = host.text("/proc/sys/kernel/hostname") {
        all.insert("host name", name);
    }
    all
}

/// What the kernel lets this process lock and open: mailboxes and leased data are locked, and each
/// connection and blob is a file.
pub(crate) fn limits() -> Finding {
    let read = |resource| getrlimit(resource).map(|(soft, _)| soft);
    let (locked, files) = match (
        read(Resource::RLIMIT_MEMLOCK),
        read(Resource::RLIMIT_NOFILE),
    ) {
        (Ok(locked), Ok(files)) => (locked, files),
        (Err(error), _) | (_, Err(error)) => {
            return Finding::skip(format!("getrlimit: {error}"));
        }
    };
    let text = format!("{} MiB may be locked, {files} files open", locked >> 20);
    let finding = if locked < LOCKED_MIN || files < FILES_MIN {
        Finding::warn(format!(
            "{text}: at least {} MiB and {FILES_MIN} are better",
            LOCKED_MIN >> 20
        ))
    } else {
        Finding::pass(text)
    };
    finding
        .figure("locked_bytes_max", locked)
        .figure("files_max", files)
}

/// Whether real-time threads may keep a core: the kernel's throttle and its fair server both take
/// it away from them for a share of each second, which shows as pauses of about 50 ms.
pub(crate) fn realtime(host: &Host, fifo: Result<(), String>) -> Finding {
    let runtime = host.number("/proc/sys/kernel/sched_rt_runtime_us");
    let fair = host.number("/sys/kernel/debug/sched/fair_server/cpu0/runtime");
    let finding = match (fifo, runtime) {
        (Err(why), _) => Finding::warn(format!(
            "SCHED_FIFO is refused ({why}): workers run at normal priority"
        )),
        (Ok(()), Some(us)) if us >= 0 => Finding::warn(format!(
            "SCHED_FIFO is allowed, throttled to {us} us of each period"
        )),
        (Ok(()), None) => Finding::warn("SCHED_FIFO is allowed; its throttle cannot be read"),
        (Ok(()), Some(_)) if fair.is_some_and(|ns| ns > 0) => {
            Finding::warn("SCHED_FIFO is allowed; the fair server still takes the core at times")
        }
        (Ok(()), Some(_)) => Finding::pass("SCHED_FIFO is allowed and not throttled"),
    };
    finding
        .figure(
            "runtime_us",
            runtime.map_or(serde_json::Value::Null, Into::into),
        )
        .figure(
            "fair_server_ns",
            fair.map_or(serde_json::Value::Null, Into::into),
        )
}

fn flags(cpuinfo: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    cpuinfo
        .get("flags")
        .map(String::as_str)
        .unwrap_or_default()
        .split_whitespace()
}

fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 30)
}

/// What multiplication and hashing look for, in the kernel's spelling.
const FEATURES: [&str; 7] = [
    "bmi2",
    "adx",
    "avx2",
    "fma",
    "avx512f",
    "avx512ifma",
    "sha_ni",
];

/// A 2^16 key takes about 40 MiB, its working vectors less; below this not even the service and a
/// store fit with a margin.
const MEMORY_MIN: u64 = 1 << 30;

/// A 2^20 key takes about 0.6 GiB and vectors and buckets as much again; two tenants, twice.
const MEMORY_GOOD: u64 = 4 << 30;

/// The stacks and mailboxes of a large box; connections, blobs and the store's files with a margin.
const LOCKED_MIN: u64 = 8 << 20;
const FILES_MIN: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of text.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn with(files: &[(&str, &str)]) -> Machine {
            let root = tempfile::tempdir().expect("a folder of our own");
            for (path, text) in files {
                let path = root.path().join(path.trim_start_matches('/'));
                std::fs::create_dir_all(path.parent().expect("a file in a folder"))
                    .expect("inside our folder");
                std::fs::write(path, text).expect("inside our folder");
            }
            Machine(root)
        }

        fn host(&self) -> Host {
            Host::at(self.0.path())
        }
    }

    fn verdict(finding: &Finding) -> Verdict {
        finding.verdict
    }

    #[test]
    fn an_empty_machine_is_skipped_not_failed() {
        let machine = Machine::with(&[]);
        let host = machine.host();
        for finding in [
            system(&host),
            smt(&host),
            features(&host),
            governor(&host),
            throttle(&host),
            numa(&host),
            memory(&host),
            memory_errors(&host),
            hugepages(&host),
            isolation(&host),
            crate::pci::drivers(&host),
            crate::pci::links(&host),
            crate::pci::errors(&host),
            crate::pci::permissions(&host),
            crate::kernel_log::faults(&host),
        ] {
            assert_eq!(verdict(&finding), Verdict::Skip, "{}", finding.reason);
        }
    }

    #[test]
    fn kernel_and_hypervisor() {
        let machine = Machine::with(&[
            ("/proc/sys/kernel/osrelease", "6.1.0-rt\n"),
            ("/proc/sys/kernel/version", "#1 SMP PREEMPT_RT Debian\n"),
            (
                "/proc/cpuinfo",
                "model name\t: X\nflags\t: fpu hypervisor\n",
            ),
        ]);
        let finding = system(&machine.host());
        assert_eq!(
            finding.reason,
            "Linux 6.1.0-rt, PREEMPT_RT, in a virtual machine"
        );
    }

    #[test]
    fn processors_that_may_not_be_used_are_a_warning() {
        let machine = Machine::with(&[("/sys/devices/system/cpu/online", "0-3\n")]);
        assert_eq!(
            verdict(&cores(&machine.host(), &[0, 1, 2, 3])),
            Verdict::Pass
        );
        assert_eq!(verdict(&cores(&machine.host(), &[0, 1])), Verdict::Warn);
        let single = Machine::with(&[("/sys/devices/system/cpu/online", "0\n")]);
        assert_eq!(verdict(&cores(&single.host(), &[0])), Verdict::Warn);
    }

    #[test]
    fn hardware_threads() {
        let path = "/sys/devices/system/cpu/smt/active";
        assert_eq!(
            verdict(&smt(&Machine::with(&[(path, "0\n")]).host())),
            Verdict::Pass
        );
        assert_eq!(
            verdict(&smt(&Machine::with(&[(path, "1\n")]).host())),
            Verdict::Warn
        );
    }

    #[test]
    fn instructions() {
        let modern = Machine::with(&[("/proc/cpuinfo", "flags\t: fpu bmi2 adx avx2 fma\n")]);
        let finding = features(&modern.host());
        assert_eq!(verdict(&finding), Verdict::Pass);
        assert_eq!(finding.reason, "bmi2 adx avx2 fma");
        let old = Machine::with(&[("/proc/cpuinfo", "flags\t: fpu sse2 avx2\n")]);
        assert_eq!(verdict(&features(&old.host())), Verdict::Warn);
    }

    #[test]
    fn governors() {
        let of = |first: &str, second: &str| {
            let machine = Machine::with(&[
                ("/sys/devices/system/cpu/online", "0-1\n"),
                (
                    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                    first,
                ),
                (
                    "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                    second,
                ),
            ]);
            verdict(&governor(&machine.host()))
        };
        assert_eq!(of("performance\n", "performance\n"), Verdict::Pass);
        assert_eq!(of("performance\n", "schedutil\n"), Verdict::Warn);
    }

    #[test]
    fn heat() {
        let of = |count: &str| {
            let machine = Machine::with(&[
                ("/sys/devices/system/cpu/online", "0\n"),
                (
                    "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
                    count,
                ),
            ]);
            verdict(&throttle(&machine.host()))
        };
        assert_eq!(of("0\n"), Verdict::Pass);
        assert_eq!(of("17\n"), Verdict::Warn);
    }

    #[test]
    fn nodes_of_memory() {
        let machine = Machine::with(&[
            ("/sys/devices/system/node/online", "0-1\n"),
            ("/sys/devices/system/node/node0/cpulist", "0-7\n"),
            ("/sys/devices/system/node/node1/cpulist", "8-15\n"),
        ]);
        assert_eq!(numa(&machine.host()).reason, "node 0: 0-7; node 1: 8-15");
    }

    #[test]
    fn memory_and_swap() {
        let of = |total: u64, swap: u64| {
            let text = format!("MemTotal: {total} kB\nMemAvailable: 9 kB\nSwapTotal: {swap} kB\n");
            verdict(&memory(&Machine::with(&[("/proc/meminfo", &text)]).host()))
        };
        assert_eq!(of(8 << 20, 0), Verdict::Pass);
        assert_eq!(of(8 << 20, 1), Verdict::Warn);
        assert_eq!(of(2 << 20, 0), Verdict::Warn);
        assert_eq!(of(1 << 19, 0), Verdict::Fail);
    }

    #[test]
    fn errors_of_memory() {
        let of = |corrected: &str, uncorrected: &str| {
            let machine = Machine::with(&[
                ("/sys/devices/system/edac/mc/mc0/ce_count", corrected),
                ("/sys/devices/system/edac/mc/mc0/ue_count", uncorrected),
                ("/sys/devices/system/edac/mc/power/control", "auto\n"),
            ]);
            verdict(&memory_errors(&machine.host()))
        };
        assert_eq!(of("0\n", "0\n"), Verdict::Pass);
        assert_eq!(of("2\n", "0\n"), Verdict::Warn);
        assert_eq!(of("2\n", "1\n"), Verdict::Fail);
    }

    #[test]
    fn large_pages() {
        let path = "/sys/kernel/mm/transparent_hugepage/enabled";
        let of = |setting: &str, reserved: &str| {
            let machine = Machine::with(&[(path, setting), ("/proc/meminfo", reserved)]);
            verdict(&hugepages(&machine.host()))
        };
        assert_eq!(
            of("always [madvise] never\n", "HugePages_Total: 0\n"),
            Verdict::Pass
        );
        assert_eq!(
            of("always madvise [never]\n", "HugePages_Total: 0\n"),
            Verdict::Warn
        );
        assert_eq!(
            of("always madvise [never]\n", "HugePages_Total: 64\n"),
            Verdict::Pass
        );
    }

    #[test]
    fn isolated_processors() {
        let of = |isolated: &str, tickless: &str| {
            let machine = Machine::with(&[
                ("/sys/devices/system/cpu/isolated", isolated),
                ("/sys/devices/system/cpu/nohz_full", tickless),
            ]);
            verdict(&isolation(&machine.host()))
        };
        assert_eq!(of("\n", "(null)\n"), Verdict::Warn);
        assert_eq!(of("2-7\n", "(null)\n"), Verdict::Warn);
        assert_eq!(of("2-7\n", "2-7\n"), Verdict::Pass);
    }

    #[test]
    fn real_time() {
        let throttle = "/proc/sys/kernel/sched_rt_runtime_us";
        let server = "/sys/kernel/debug/sched/fair_server/cpu0/runtime";
        let free = Machine::with(&[(throttle, "-1\n"), (server, "0\n")]);
        assert_eq!(verdict(&realtime(&free.host(), Ok(()))), Verdict::Pass);
        assert_eq!(
            verdict(&realtime(&free.host(), Err("EPERM".to_owned()))),
            Verdict::Warn
        );
        let throttled = Machine::with(&[(throttle, "950000\n")]);
        assert_eq!(verdict(&realtime(&throttled.host(), Ok(()))), Verdict::Warn);
        let served = Machine::with(&[(throttle, "-1\n"), (server, "50000000\n")]);
        assert_eq!(verdict(&realtime(&served.host(), Ok(()))), Verdict::Warn);
    }
}
