//! What a box is, read from the files of its kernel below a root.
//!
//! A file that is not there says that the box has no such thing (a virtual machine has no
//! governor); one that is there and says something else than its format allows is an error, since a
//! plan from half of a machine would isolate the wrong cores. The formats are those of the kernel's
//! `Documentation/ABI`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

/// A box as its kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Logical processors that are online, by number.
    pub cpus: Vec<Cpu>,
    /// Those of them that the control group of this process may use.
    pub allowed: Vec<usize>,
    /// Whether a control group limits how much of them may be used.
    pub quota: bool,
    /// GPUs, by address.
    pub gpus: Vec<Gpu>,
    /// Interrupts by number, and the processors on which each is served.
    pub interrupts: BTreeMap<u32, Vec<usize>>,
    /// How the clock of the first core is governed; absent where nobody governs it.
    pub governor: Option<String>,
    /// The longest time that a core takes to wake from an idle state, in microseconds.
    pub wake_us_max: Option<u64>,
    /// Reserved huge pages: how many of so many KiB.
    pub huge_pages: BTreeMap<u64, u64>,
    /// How transparent huge pages are given: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// The command line of the kernel that runs.
    pub kernel_line: String,
    /// Processors that the running kernel keeps its own scheduler off.
    pub isolated: Vec<usize>,
    /// Real-time work per period, in microseconds: the share that normal threads cannot take.
    pub real_time: Option<RealTime>,
    /// Whether the kernel has fair servers (6.12 and later), which can be set core by core.
    pub fair_server: bool,
    /// Whether the system boots by GRUB as Debian sets it up.
    pub grub: bool,
}

/// A logical processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Its number.
    pub number: usize,
    /// All threads of its physical core, itself among them, lowest first.
    pub threads: Vec<usize>,
    /// Its NUMA node.
    pub node: usize,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// Its PCI address.
    pub address: String,
    /// Its maker by PCI number: 10de is NVIDIA.
    pub vendor: String,
    /// The NUMA node that it hangs on, if the firmware says so.
    pub node: Option<usize>,
    /// The processors near it.
    pub near: Vec<usize>,
    /// PCI Express lanes now and at most.
    pub lanes: Option<[u32; 2]>,
}

/// `sched_rt_runtime_us` in each `sched_rt_period_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RealTime {
    /// Microseconds for real-time threads; -1 for no limit.
    pub runtime_us: i64,
    /// The period.
    pub period_us: i64,
}

/// Why a machine could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system does not give a file.
    #[error("reading {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file says what it cannot.
    #[error("{}: expected {expected}, got {got:?}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What such a file holds.
        expected: &'static str,
        /// What it holds.
        got: String,
    },
}

impl Machine {
    /// Reads the machine whose `/proc` and `/sys` lie below `root`, and which boots from `system`. The two
    /// differ where the system does not run.
    pub fn read(root: &Path, system: &Path) -> Result<Machine, ReadError> {
        let files = Files { root };
        let online = files.needed("sys/devices/system/cpu/online")?;
        let online = files.list("sys/devices/system/cpu/online", &online)?;
        let nodes = files.nodes()?;
        let mut cpus = Vec::with_capacity(online.len());
        for number in &online {
            let path = format!("sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list");
            let mut threads = files.list_if_there(&path)?.unwrap_or(vec![*number]);
            threads.retain(|it| online.contains(it));
            let node = nodes.iter().find(|(_, cpus)| cpus.contains(number));
            cpus.push(Cpu {
                number: *number,
                threads,
                node: node.map_or(0, |(node, _)| *node),
            });
        }
        let mut allowed = files
            .list_if_there("sys/fs/cgroup/cpuset.cpus.effective")?
            .filter(|list| !list.is_empty())
            .unwrap_or_else(|| online.clone());
        allowed.retain(|it| online.contains(it));
        let quota = files
            .text("sys/fs/cgroup/cpu.max")?
            .is_some_and(|text| !text.starts_with("max"));
        Ok(Machine {
            allowed,
            quota,
            gpus: files.gpus()?,
            interrupts: files.interrupts()?,
            governor: files.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")?,
            wake_us_max: files.wake_us_max()?,
            huge_pages: files.huge_pages()?,
            transparent_huge_pages: files
                .text("sys/kernel/mm/transparent_hugepage/enabled")?
                .and_then(|text| {
                    let (_, rest) = text.split_once('[')?;
                    rest.split_once(']').map(|(chosen, _)| chosen.to_owned())
                }),
            kernel_line: files.text("proc/cmdline")?.unwrap_or_default(),
            isolated: files
                .list_if_there("sys/devices/system/cpu/isolated")?
                .unwrap_or_default(),
            real_time: files.real_time()?,
            fair_server: root.join("sys/kernel/debug/sched/fair_server").is_dir(),
            grub: ["etc/default/grub", "etc/grub.d"]
                .iter()
                .any(|it| system.join(it).exists()),
            cpus,
        })
    }

    /// NUMA nodes with processors.
    pub fn nodes(&self) -> usize {
        let mut nodes: Vec<_> = self.cpus.iter().map(|cpu| cpu.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.len()
    }

    /// Whether this is a part of a box, such as a container, whose kernel is somebody else's.
    pub fn limited(&self) -> bool {
        self.quota || self.allowed.len() < self.cpus.len()
    }
}

/// The files below a root.
struct Files<'a> {
    root: &'a Path,
}

impl Files<'_> {
    /// Without the end of its line; `None` if there is no such file.
    fn text(&self, path: &str) -> Result<Option<String>, ReadError> {
        let path = self.root.join(path);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            // Attributes of a device that has none (ENODEV, EINVAL) are as good as not there.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.kind() == io::ErrorKind::NotADirectory
                    || matches!(error.raw_os_error(), Some(19 | 22)) =>
            {
                Ok(None)
            }
            Err(source) => Err(ReadError::File { path, source }),
        }
    }

    fn needed(&self, path: &str) -> Result<String, ReadError> {
        self.text(path)?.ok_or_else(|| ReadError::File {
            path: self.root.join(path),
            source: io::ErrorKind::NotFound.into(),
        })
    }

    fn number<T: std::str::FromStr>(&self, path: &str) -> Result<Option<T>, ReadError> {
        let Some(text) = self.text(path)? else {
            return Ok(None);
        };
        let number = text.parse();
        number
            .map(Some)
            .map_err(|_| self.content(path, "a number", &text))
    }

    fn content(&self, path: &str, expected: &'static str, got: &str) -> ReadError {
        ReadError::Content {
            path: self.root.join(path),
            expected,
            got: got.to_owned(),
        }
    }

    fn list(&self, path: &str, text: &str) -> Result<Vec<usize>, ReadError> {
        let expected = "a list of processors such as 0-3,8";
        parse_list(text).ok_or_else(|| self.content(path, expected, text))
    }

    fn list_if_there(&self, path: &str) -> Result<Option<Vec<usize>>, ReadError> {
        let text = self.text(path)?;
        text.map(|text| self.list(path, &text)).transpose()
    }

    /// The names in a folder in order; none if it is not there.
    fn names(&self, path: &str) -> Result<Vec<String>, ReadError> {
        let path = self.root.join(path);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(ReadError::File { path, source }),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| ReadError::File {
                path: path.clone(),
                source,
            })?;
            names.extend(entry.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn nodes(&self) -> Result<BTreeMap<usize, Vec<usize>>, ReadError> {
        let mut nodes = BTreeMap::new();
        for name in self.names("sys/devices/system/node")? {
            let Some(number) = name.strip_prefix("node").and_then(|it| it.parse().ok()) else {
                continue;
            };
            let path = format!("sys/devices/system/node/{name}/cpulist");
            nodes.insert(number, self.list_if_there(&path)?.unwrap_or_default());
        }
        Ok(nodes)
    }

    fn gpus(&self) -> Result<Vec<Gpu>, ReadError> {
        let mut gpus = Vec::new();
        for address in self.names("sys/bus/pci/devices")? {
            let of = |name: &str| format!("sys/bus/pci/devices/{address}/{name}");
            // Display controllers: VGA and 3D.
            let class = self.text(&of("class"))?.unwrap_or_default();
            if !class.starts_with("0x0300") && !class.starts_with("0x0302") {
                continue;
            }
            let vendor = self.text(&of("vendor"))?.unwrap_or_default();
            let now = self.number(&of("current_link_width"))?;
            let most = self.number(&of("max_link_width"))?;
            gpus.push(Gpu {
                vendor: vendor.trim_start_matches("0x").to_owned(),
                node: self
                    .number::<i64>(&of("numa_node"))?
                    .and_then(|node| usize::try_from(node).ok()),
                near: self
                    .list_if_there(&of("local_cpulist"))?
                    .unwrap_or_default(),
                lanes: now.zip(most).map(|(now, most)| [now, most]),
                address,
            });
        }
        Ok(gpus)
    }

    fn interrupts(&self) -> Result<BTreeMap<u32, Vec<usize>>, ReadError> {
        let mut interrupts = BTreeMap::new();
        for name in self.names("proc/irq")? {
            let Ok(number) = name.parse() else { continue };
            let path = format!("proc/irq/{name}/effective_affinity_list");
            interrupts.insert(number, self.list_if_there(&path)?.unwrap_or_default());
        }
        Ok(interrupts)
    }

    fn wake_us_max(&self) -> Result<Option<u64>, ReadError> {
        let folder = "sys/devices/system/cpu/cpu0/cpuidle";
        let mut longest = None;
        for name in self.names(folder)? {
            longest = longest.max(self.number(&format!("{folder}/{name}/latency"))?);
        }
        Ok(longest)
    }

    fn huge_pages(&self) -> Result<BTreeMap<u64, u64>, ReadError> {
        let folder = "sys/kernel/mm/hugepages";
        let mut pages = BTreeMap::new();
        for name in self.names(folder)? {
            let size = name.strip_prefix("hugepages-");
            let size = size.and_then(|it| it.strip_suffix("kB")?.parse().ok());
            let count = self.number(&format!("{folder}/{name}/nr_hugepages"))?;
            if let (Some(size), Some(count)) = (size, count) {
                pages.insert(size, count);
            }
        }
        Ok(pages)
    }

    fn real_time(&self) -> Result<Option<RealTime>, ReadError> {
        let runtime = self.number("proc/sys/kernel/sched_rt_runtime_us")?;
        let period = self.number("proc/sys/kernel/sched_rt_period_us")?;
        Ok(runtime.zip(period).map(|(runtime_us, period_us)| RealTime {
            runtime_us,
            period_us,
        }))
    }
}

/// Reads a list such as `0-3,8`, lowest first; the empty text is no processor.
pub fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse::<usize>().ok()?);
        if first > last || last >= PROCESSORS_MAX {
            return None;
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

/// Writes a list as the kernel does: `0-3,8`.
pub fn write_list(all: &[usize]) -> String {
    let mut runs: Vec<[usize; 2]> = Vec::new();
    for number in all {
        match runs.last_mut() {
            Some([_, last]) if *last + 1 == *number => *last = *number,
            _ => runs.push([*number; 2]),
        }
    }
    let runs = runs.iter().map(|[first, last]| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// Twice what Linux can be built for: a list with more is no list.
const PROCESSORS_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_list(""), Some(vec![]));
        for wrong in ["a", "3-1", "0-", "0-999999999", "1;2"] {
            assert_eq!(parse_list(wrong), None, "{wrong}");
        }
        assert_eq!(write_list(&[0, 1, 2, 8, 10, 11]), "0-2,8,10-11");
        assert_eq!(write_list(&[]), "");
    }
}
