//! What the kernel has logged since the machine started: faults of GPUs (XIDs), machine checks,
//! errors of the bus and of disks.
//!
//! A fault that healed itself an hour ago leaves no other trace than this.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::host::Host;
use crate::report::{Finding, Verdict};

/// Looks through the log for what hardware does when it breaks.
pub(crate) fn faults(host: &Host) -> Finding {
    let text = match read(&host.path(PATH)) {
        Ok(text) => text,
        Err(error) => return Finding::skip(format!("{PATH} cannot be read: {error}")),
    };
    let mut worst = Verdict::Pass;
    let mut found = Vec::new();
    let mut lines = 0_u64;
    for line in text.lines() {
        // "6,339,5140900,-;NVRM: Xid ..."
        let message = line.split_once(';').map_or(line, |(_, message)| message);
        lines += 1;
        let verdict = judge(message);
        if verdict > Verdict::Pass {
            worst = worst.max(verdict);
            found.push(message.trim().to_owned());
        }
    }
    let count = found.len();
    let reason = match found.as_slice() {
        [] => format!("{lines} lines, none of a fault"),
        _ => {
            let shown = found.iter().rev().take(SHOWN).rev();
            let shown: Vec<&str> = shown.map(String::as_str).collect();
            format!("{count} lines, the last: {}", shown.join(" | "))
        }
    };
    Finding::new(worst, reason)
        .figure("lines", lines)
        .figure("faults", count)
}

/// What one line says of the hardware.
fn judge(message: &str) -> Verdict {
    if let Some((_, rest)) = message.split_once("NVRM: Xid") {
        // "NVRM: Xid (PCI:0000:3b:00): 79, pid=..., GPU has fallen off the bus."
        let code = rest.split_once("): ").map(|(_, rest)| rest);
        let code = code.and_then(|rest| rest.split(',').next()?.trim().parse::<u32>().ok());
        return match code {
            Some(code) if PROGRAMS.contains(&code) => Verdict::Warn,
            _ => Verdict::Fail,
        };
    }
    let corrected = ["orrected error", "everity=Corrected"]
        .iter()
        .any(|word| message.contains(word))
        && !message.contains("ncorrected");
    let fault = ["[Hardware Error]", "PCIe Bus Error"]
        .iter()
        .any(|word| message.contains(word));
    match (fault, corrected) {
        (true, true) => Verdict::Warn,
        (true, false) => Verdict::Fail,
        (false, _) if message.contains("I/O error, dev") => Verdict::Fail,
        (false, _) => Verdict::Pass,
    }
}

/// The kernel gives one record a read, and none where a file would wait for the next.
fn read(path: &Path) -> std::io::Result<String> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let (mut all, mut record) = (Vec::new(), vec![0; RECORD_BYTES]);
    while all.len() < LOG_BYTES_MAX {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&record[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // Overwritten before it was read: the next read is of the oldest that is left.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

const PATH: &str = "/dev/kmsg";

/// XIDs that a program's own mistake can bring about: an engine's exception, a page that is not
/// there, and what follows from both.
const PROGRAMS: [u32; 4] = [13, 31, 43, 45];

/// The kernel's own bound of a record, with room.
const RECORD_BYTES: usize = 8192 + 1024;

/// Far beyond the kernel's buffer; a file that never ends must not be read for ever.
const LOG_BYTES_MAX: usize = 64 << 20;

/// Lines that fit into a reason.
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        for (line, verdict) in [
            ("usb 1-1: new high-speed USB device", Verdict::Pass),
            (
                "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
                Verdict::Fail,
            ),
            (
                "NVRM: Xid (PCI:0000:3b:00): 31, pid=77, name=x, Ch 00000008, MMU Fault",
                Verdict::Warn,
            ),
            (
                "mce: [Hardware Error]: Machine check events logged",
                Verdict::Fail,
            ),
            (
                "{1}[Hardware Error]: event severity: corrected error",
                Verdict::Warn,
            ),
            (
                "{1}[Hardware Error]: Uncorrected error on a page",
                Verdict::Fail,
            ),
            (
                "pcieport 0000:00:1c.0: PCIe Bus Error: severity=Corrected, type=Physical Layer",
                Verdict::Warn,
            ),
            (
                "pcieport 0000:00:1c.0: PCIe Bus Error: severity=Uncorrected (Fatal)",
                Verdict::Fail,
            ),
            (
                "I/O error, dev nvme0n1, sector 7 op 0x1:(WRITE)",
                Verdict::Fail,
            ),
        ] {
            assert_eq!(judge(line), verdict, "{line}");
        }
    }

    #[test]
    fn a_log_that_is_a_file_is_read_to_its_end() {
        let root = tempfile::tempdir().expect("a folder of our own");
        std::fs::create_dir(root.path().join("dev")).expect("inside it");
        let text = "6,1,2,-;all is well\n4,2,3,-;NVRM: Xid (PCI:0000:01:00): 48, DBE\n";
        std::fs::write(root.path().join("dev/kmsg"), text).expect("inside it");
        let finding = faults(&Host::at(root.path()));
        assert_eq!(finding.verdict, Verdict::Fail);
        assert_eq!(finding.figures["lines"], 2);
        let nothing = faults(&Host::at(root.path().join("nowhere")));
        assert_eq!(nothing.verdict, Verdict::Skip);
    }
}
