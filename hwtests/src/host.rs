//! Reads what the kernel says of the machine: /proc and /sys, as text.
//!
//! All of it goes through a root folder, so that tests hand in text that was captured on other
//! machines. A file that is absent is `None`: kernels, virtual machines and containers leave out
//! different ones, and each check says for itself what an absence means.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where /proc and /sys are.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    root: PathBuf,
}

impl Host {
    /// The machine under `root`; "/" for this one.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Host {
        Host { root: root.into() }
    }

    /// The text of a file, without the white space around it.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    /// Where a path of the machine is.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether this is the machine that the program runs on.
    pub(crate) fn is_here(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The bytes of a file that is no text.
    pub(crate) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(path)).ok()
    }

    /// The last part of what a link leads to: of a device, its driver.
    pub(crate) fn link(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        target.file_name()?.to_str().map(str::to_owned)
    }

    /// A file that holds one number in hexadecimal digits, with "0x" before them.
    pub(crate) fn hexadecimal(&self, path: &str) -> Option<u32> {
        u32::from_str_radix(self.text(path)?.strip_prefix("0x")?, 16).ok()
    }

    /// A file that holds one number.
    pub(crate) fn number(&self, path: &str) -> Option<i64> {
        self.text(path)?.parse().ok()
    }

    /// The names in a folder, sorted; empty where there is none.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// The processors that are online.
    pub(crate) fn online(&self) -> Vec<usize> {
        self.text("/sys/devices/system/cpu/online")
            .and_then(|list| cpu_list(&list))
            .unwrap_or_default()
    }

    /// The first processor's entry of /proc/cpuinfo: all processors of a box are of one kind.
    pub(crate) fn cpuinfo(&self) -> BTreeMap<String, String> {
        self.text("/proc/cpuinfo")
            .map(|text| first_block(&text))
            .unwrap_or_default()
    }

    /// A line of /proc/meminfo in bytes.
    pub(crate) fn memory_bytes(&self, name: &str) -> Option<u64> {
        meminfo_bytes(&self.text("/proc/meminfo")?, name)
    }

    /// Time of all processors since the start, in ticks.
    pub(crate) fn ticks(&self) -> Option<Ticks> {
        ticks(&self.text("/proc/stat")?)
    }
}

/// What /proc/stat says in its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticks {
    /// All states together, guest time not counted twice.
    pub(crate) total: u64,
    /// Time that the hypervisor gave to somebody else.
    pub(crate) stolen: u64,
}

impl Ticks {
    /// The share of time that was stolen since `before`; 0 where no tick has passed.
    pub(crate) fn stolen_share(self, before: Ticks) -> f64 {
        let total = self.total.saturating_sub(before.total);
        let stolen = self.stolen.saturating_sub(before.stolen);
        if total == 0 {
            0.0
        } else {
            stolen as f64 / total as f64
        }
    }
}

/// The kernel's list format: "0-3,8,10-11".
pub(crate) fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high): (usize, usize) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        if low > high || high >= CPUS_MAX {
            return None;
        }
        cpus.extend(low..=high);
    }
    Some(cpus)
}

/// The word in brackets of a choice such as `always [madvise] never`.
pub(crate) fn chosen(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0)
}

/// "key : value" lines up to the first empty line.
fn first_block(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .take_while(|line| !line.trim().is_empty())
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

fn meminfo_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut words = line.split_once(':')?.1.split_whitespace();
    let count: u64 = words.next()?.parse().ok()?;
    match words.next() {
        Some("kB") => count.checked_mul(1024),
        _ => Some(count),
    }
}

fn ticks(text: &str) -> Option<Ticks> {
    let words = text
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    // user nice system idle iowait irq softirq steal guest guest_nice; user holds guest already.
    let fields: Vec<u64> = words.map_while(|word| word.parse().ok()).take(8).collect();
    (fields.len() == 8).then(|| Ticks {
        total: fields.iter().sum(),
        stolen: fields[7],
    })
}

/// More processors than Linux can be built for: a longer list is not a list.
const CPUS_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(cpu_list("0-3,8,10-11\n"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(cpu_list("0"), Some(vec![0]));
        assert_eq!(cpu_list(""), Some(vec![]));
        assert_eq!(cpu_list("3-1"), None);
        assert_eq!(cpu_list("0-x"), None);
        assert_eq!(cpu_list("0-99999999999"), None);
    }

    #[test]
    fn the_choice_in_brackets() {
        assert_eq!(chosen("always [madvise] never"), Some("madvise"));
        assert_eq!(chosen("[always] madvise never"), Some("always"));
        assert_eq!(chosen("always madvise never"), None);
    }

    // Captured on an EPYC virtual machine, Linux 6.18; a few lines of each.
    const CPUINFO: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n\
        flags\t\t: fpu avx2 bmi2 adx avx512ifma constant_tsc nonstop_tsc hypervisor\n\n\
        processor\t: 1\nmodel name\t: another\n";
    const MEMINFO: &str = "MemTotal:       24684084 kB\nMemFree:        21843300 kB\n\
        MemAvailable:   24175172 kB\nHugePages_Total:       3\nSwapTotal:             0 kB\n";
    const STAT: &str = "cpu  6077 1 6245 175843 1575 0 180 264 7 9\n\
        cpu0 2798 0 2480 89513 178 0 13 119 0 0\n";

    #[test]
    fn cpuinfo_of_the_first_processor() {
        let block = first_block(CPUINFO);
        assert_eq!(block["model name"], "AMD EPYC");
        assert!(block["flags"].split(' ').any(|flag| flag == "adx"));
        assert_eq!(block["processor"], "0");
    }

    #[test]
    fn meminfo_in_bytes() {
        assert_eq!(meminfo_bytes(MEMINFO, "MemTotal"), Some(24_684_084 * 1024));
        assert_eq!(meminfo_bytes(MEMINFO, "HugePages_Total"), Some(3));
        assert_eq!(meminfo_bytes(MEMINFO, "Mem"), None);
        assert_eq!(meminfo_bytes("MemTotal: many kB", "MemTotal"), None);
    }

    #[test]
    fn stolen_time() {
        let before = ticks(STAT).expect("a captured line");
        assert_eq!(
            before,
            Ticks {
                total: 190_185,
                stolen: 264
            }
        );
        let after = Ticks {
            total: before.total + 400,
            stolen: before.stolen + 4,
        };
        assert_eq!(after.stolen_share(before), 0.01);
        assert_eq!(before.stolen_share(before), 0.0);
        assert_eq!(ticks("cpu  1 2 3\n"), None);
        assert_eq!(ticks("intr 5"), None);
    }

    #[test]
    fn files_under_another_root() {
        let root = tempfile::tempdir().expect("a folder of our own");
        let folder = root.path().join("sys/devices/system/cpu");
        std::fs::create_dir_all(&folder).expect("inside it");
        std::fs::write(folder.join("online"), "0-1\n").expect("inside it");
        std::fs::write(folder.join("number"), "-1\n").expect("inside it");
        let host = Host::at(root.path());
        assert_eq!(host.online(), vec![0, 1]);
        assert_eq!(host.number("/sys/devices/system/cpu/number"), Some(-1));
        assert_eq!(
            host.names("/sys/devices/system/cpu"),
            vec!["number", "online"]
        );
        assert_eq!(host.text("/proc/cpuinfo"), None);
        assert!(host.names("/nowhere").is_empty());
    }
}
