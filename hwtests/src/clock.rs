//! Clocks: quanta, leases and reallocation times are measured with CLOCK_MONOTONIC, and tokens
//! are judged by the wall clock.
//!
//! Order between processors is tried with one shared word: a thread reads the largest time that
//! any thread has published, then its own clock; what it reads must not be smaller, because the
//! published reading happened before its own. The word is published with Release and read with
//! Acquire, so that "before" is the memory model's.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use nix::time::{ClockId, clock_getres, clock_gettime};

use crate::host::Host;
use crate::report::Finding;
use crate::thread::{Policy, on_each};

/// The source that the kernel took for its clock. Only some can be read without a system call.
pub(crate) fn source(host: &Host) -> Finding {
    let folder = "/sys/devices/system/clocksource/clocksource0";
    let Some(current) = host.text(&format!("{folder}/current_clocksource")) else {
        return Finding::skip("the kernel does not name its clock source");
    };
    let cpuinfo = host.cpuinfo();
    let flags = cpuinfo.get("flags").cloned().unwrap_or_default();
    let has = |name: &str| flags.split_whitespace().any(|flag| flag == name);
    let steady = has("constant_tsc") && has("nonstop_tsc");
    match current.as_str() {
        "tsc" if steady => Finding::pass("tsc, constant and never stopped"),
        "tsc" => Finding::warn("tsc, but not marked constant and never stopped"),
        "kvm-clock" | "hyperv_clocksource_tsc_page" | "arch_sys_counter" => {
            Finding::pass(current.clone())
        }
        other => Finding::warn(format!("{other}: each reading is a system call")),
    }
    .figure("source", current)
}

/// CLOCK_MONOTONIC: resolution, cost of a reading, and that it never goes back, on one processor
/// or between any two.
pub(crate) fn monotonic(cpus: &[usize], readings: u64) -> Result<Finding> {
    let resolution = nanoseconds(clock_getres(ClockId::CLOCK_MONOTONIC)?);
    let published = AtomicU64::new(0);
    let costs = on_each(cpus, Policy::Normal, |_| {
        let first = now_ns()?;
        for reading in 0..readings {
            // Pairs with the Release below, on whichever processor that was.
            let seen = published.load(Ordering::Acquire);
            let now = now_ns()?;
            if now < seen {
                return Ok(Err((reading, seen - now)));
            }
            published.fetch_max(now, Ordering::Release);
        }
        Ok(Ok((now_ns()? - first) as f64 / readings as f64))
    })?;
    let mut slowest = 0.0_f64;
    for cost in costs {
        match cost {
            Ok(cost) => slowest = slowest.max(cost),
            Err((reading, back)) => {
                let reason = format!("went back by {back} ns at reading {reading}");
                return Ok(Finding::fail(reason).figure("back_ns", back));
            }
        }
    }
    let reason = format!("resolution {resolution} ns, {slowest:.0} ns a reading and a shared word");
    let finding = if slowest > READING_NS_MAX || resolution > RESOLUTION_NS_MAX {
        Finding::warn(reason)
    } else {
        Finding::pass(reason)
    };
    Ok(finding
        .figure("resolution_ns", resolution)
        .figure("reading_ns", slowest))
}

/// The wall clock: that something keeps it right. A token is refused when it is a minute off.
pub(crate) fn wall() -> Finding {
    // SAFETY: timex is plain integers, for which all zeros is a value; modes 0 asks only.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live timex of our own, and with modes 0 nothing is changed.
    let answer = unsafe { libc::adjtimex(&mut state) };
    if answer < 0 {
        return Finding::skip(format!("adjtimex: {}", nix::errno::Errno::last()));
    }
    let error_us = state.maxerror;
    let finding = if state.status & libc::STA_UNSYNC != 0 {
        Finding::warn("nothing keeps the wall clock right; tokens off by a minute are refused")
    } else {
        Finding::pass(format!("kept right to within {error_us} us"))
    };
    finding.figure("error_us_max", error_us)
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn now_ns() -> Result<u64> {
    Ok(nanoseconds(clock_gettime(ClockId::CLOCK_MONOTONIC)?))
}

fn nanoseconds(time: nix::sys::time::TimeSpec) -> u64 {
    // Both parts of a clock that counts from the start of the machine are positive.
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// A reading through the vDSO takes 20-60 ns and the shared word as much again on two sockets;
/// a system call takes more than this.
const READING_NS_MAX: f64 = 1000.0;

/// With less than a microsecond of resolution a histogram of quanta says nothing.
const RESOLUTION_NS_MAX: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    fn with_source(source: &str, flags: &str) -> Verdict {
        let root = tempfile::tempdir().expect("a folder of our own");
        let folder = root
            .path()
            .join("sys/devices/system/clocksource/clocksource0");
        std::fs::create_dir_all(&folder).expect("inside it");
        std::fs::create_dir_all(root.path().join("proc")).expect("inside it");
        std::fs::write(folder.join("current_clocksource"), source).expect("inside it");
        std::fs::write(
            root.path().join("proc/cpuinfo"),
            format!("flags\t: {flags}\n"),
        )
        .expect("inside it");
        super::source(&Host::at(root.path())).verdict
    }

    #[test]
    fn sources() {
        assert_eq!(
            with_source("tsc\n", "fpu constant_tsc nonstop_tsc"),
            Verdict::Pass
        );
        assert_eq!(with_source("tsc\n", "fpu constant_tsc"), Verdict::Warn);
        assert_eq!(with_source("kvm-clock\n", ""), Verdict::Pass);
        assert_eq!(
            with_source("hpet\n", "constant_tsc nonstop_tsc"),
            Verdict::Warn
        );
    }

    #[test]
    fn this_clock_does_not_go_back() {
        let cpus = crate::thread::allowed().expect("our own affinity");
        let finding = monotonic(&cpus, 1000).expect("reading a clock");
        assert_ne!(finding.verdict, Verdict::Fail, "{}", finding.reason);
    }
}
