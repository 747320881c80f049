//! How much of the machine's memory jobs may hold while they are under way.
//!
//! Witnesses and the vectors of a proof are in memory from the preparation of a job to its end, and the arbiter
//! divides the bytes for them among the tenants. Keys, tables and what cores compute with come beside them, so the
//! default is half of what the process may have: what the machine has, or less where a control group says less
//! (`memory.max` of cgroup v2, of the process's own group and of all above it).

use std::path::Path;

/// Bytes for jobs where the operator names none; `None` where the machine does not say what it has.
pub fn for_jobs() -> Option<u64> {
    below(Path::new("/"))
}

/// The same, as a tree like `/proc` and `/sys` says.
fn below(root: &Path) -> Option<u64> {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let meminfo = text("proc/meminfo")?;
    let total = meminfo.lines().find_map(|line| {
        let kilobytes = line.strip_prefix("MemTotal:")?.strip_suffix("kB")?;
        kilobytes.trim().parse::<u64>().ok()?.checked_mul(1024)
    })?;
    let groups = text("proc/self/cgroup").unwrap_or_default();
    // Of version 2 there is one, with no number and no name.
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let bounds = own.into_iter().flat_map(|own| {
        let folders = Path::new(own).ancestors();
        folders.filter_map(|folder| {
            let max = Path::new("sys/fs/cgroup").join(folder).join("memory.max");
            // "max" where there is no bound.
            text(max.to_str()?)?.trim().parse::<u64>().ok()
        })
    });
    Some(bounds.fold(total, u64::min) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
            std::fs::write(path, text).expect("written");
        }
        below(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        1000 kB\nMemFree:  9 kB\n");

    #[test]
    fn half_of_the_machine_or_of_the_smallest_group() {
        let own = ("proc/self/cgroup", "0::/system.slice/calderad.service\n");
        let at = |folder: &'static str, max| (folder, max);
        assert_eq!(with(&[MEMINFO]), Some(512_000));
        assert_eq!(with(&[MEMINFO, own]), Some(512_000));
        let service = "sys/fs/cgroup/system.slice/calderad.service/memory.max";
        let slice = "sys/fs/cgroup/system.slice/memory.max";
        assert_eq!(with(&[MEMINFO, own, at(service, "max\n")]), Some(512_000));
        assert_eq!(with(&[MEMINFO, own, at(service, "4096\n")]), Some(2048));
        let both = [MEMINFO, own, at(service, "max\n"), at(slice, "8192\n")];
        assert_eq!(with(&both), Some(4096));
        // A group that allows more than there is allows what there is.
        assert_eq!(
            with(&[MEMINFO, own, at(service, "9999999999\n")]),
            Some(512_000)
        );
    }

    #[test]
    fn a_machine_that_does_not_say_bounds_nothing() {
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("proc/meminfo", "MemTotal: many kB\n")]), None);
    }

    #[test]
    fn this_machine_says() {
        assert!(for_jobs().is_some_and(|bytes| bytes > 0));
    }
}
