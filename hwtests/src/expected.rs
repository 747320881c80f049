//! What a box should have in it, as a file that stays with the order: `--write-expected` writes it on a box
//! that is as it should be, `--expected` holds another, or the same one later, against it.
//!
//! Less than expected is a failure, more is a warning: somebody should know of it. What memory
//! modules there are is known to root alone (the firmware's table); the kernel's own sum of memory
//! differs a little from kernel to kernel, so it may be a hundredth less.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::pci::{self, Card};
use crate::report::{Finding, Limit, Part, Verdict};

/// A box on a sheet of paper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    model: String,
    processors: usize,
    memory_bytes: u64,
    /// "BANK 0 DIMM_A1 32768 MiB"; empty where the firmware's table cannot be read.
    #[serde(default)]
    memory_modules: Vec<String>,
    /// "gpu 10de:2330" and how many of it.
    #[serde(default)]
    cards: BTreeMap<String, usize>,
    /// "Samsung SSD 990 1000204886016 bytes" and how many of it.
    #[serde(default)]
    disks: BTreeMap<String, usize>,
    /// What was measured must not be worse than this.
    #[serde(default)]
    pub(crate) bounds: Bounds,
}

/// Bounds of what is measured from level 2 on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bounds {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_copy_bytes_per_second_min: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk_sync_p99_us_max: Option<u64>,
    /// Of devices, by the names that they are asked for by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) devices: BTreeMap<String, DeviceBounds>,
}

/// What a device's figures may be, by their names in the report. A figure of another size is another figure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceBounds {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    least: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    most: BTreeMap<String, f64>,
}

impl Bounds {
    /// Holds a device's figures against what is expected of it.
    pub(crate) fn hold(&self, part: &mut Part) {
        let Some(DeviceBounds { least, most }) = self.devices.get(&part.device) else {
            return;
        };
        for (name, &bound) in least {
            part.hold(name, Limit::AtLeast(bound), Verdict::Fail);
        }
        for (name, &bound) in most {
            part.hold(name, Limit::AtMost(bound), Verdict::Fail);
        }
    }

    /// Takes a device's figures as those of a good one, with a margin: rates, and how long it is waited for. The longest of
    /// some times is chance, and is no bound.
    pub(crate) fn learn(&mut self, part: &Part) {
        for (name, value) in &part.figures {
            let Some(value) = value.as_f64() else {
                continue;
            };
            let own = self.devices.entry(part.device.clone()).or_default();
            if name.ends_with("per_second") {
                own.least.insert(name.clone(), value * 0.7);
            } else if name.ends_with("_us_p50") || name.ends_with("_us_p99") {
                own.most.insert(name.clone(), value * 3.0);
            }
        }
    }
}

impl Expected {
    /// The machine as it is.
    pub(crate) fn of(host: &Host) -> Expected {
        let mut cards = BTreeMap::new();
        for card in pci::cards(host) {
            *cards.entry(name(&card)).or_default() += 1;
        }
        let mut disks = BTreeMap::new();
        for disk in disk_names(host) {
            *disks.entry(disk).or_default() += 1;
        }
        Expected {
            model: model(host),
            processors: host.online().len(),
            memory_bytes: host.memory_bytes("MemTotal").unwrap_or(0),
            memory_modules: modules(host),
            cards,
            disks,
            bounds: Bounds::default(),
        }
    }

    pub(crate) fn read(path: &Path) -> Result<Expected> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the expected file {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("the expected file {}", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).context("an expected file")?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// What the machine has less and more than this.
    pub(crate) fn compare(&self, host: &Host) -> Finding {
        let got = Expected::of(host);
        let (mut less, mut more) = (Vec::new(), Vec::new());
        if got.model != self.model {
            less.push(format!(
                "processor: expected {:?}, got {:?}",
                self.model, got.model
            ));
        }
        let mut numbers = |what: &str, expected: u64, got: u64, least: u64| {
            let text = format!("{what}: expected {expected}, got {got}");
            if got < least {
                less.push(text);
            } else if got > expected + (expected - least) {
                more.push(text);
            }
        };
        let processors = self.processors as u64;
        numbers("processors", processors, got.processors as u64, processors);
        let memory = self.memory_bytes;
        numbers(
            "memory bytes",
            memory,
            got.memory_bytes,
            memory - memory / 100,
        );
        let listed = |names: &[String]| -> BTreeMap<String, usize> {
            let mut counts = BTreeMap::new();
            for name in names {
                *counts.entry(name.clone()).or_default() += 1;
            }
            counts
        };
        let unread = !self.memory_modules.is_empty() && got.memory_modules.is_empty();
        let modules = if unread {
            BTreeMap::new()
        } else {
            listed(&self.memory_modules)
        };
        for (what, expected, got) in [
            ("memory module", &modules, &listed(&got.memory_modules)),
            ("card", &self.cards, &got.cards),
            ("disk", &self.disks, &got.disks),
        ] {
            let names: std::collections::BTreeSet<&String> =
                expected.keys().chain(got.keys()).collect();
            for name in names {
                let count = |of: &BTreeMap<String, usize>| of.get(name).copied().unwrap_or(0);
                let (expected, got) = (count(expected), count(got));
                let text = format!("{what} {name}: expected {expected}, got {got}");
                if got < expected {
                    less.push(text);
                } else if got > expected {
                    more.push(text);
                }
            }
        }
        if unread {
            more.push("memory modules: the firmware's table cannot be read (root can)".to_owned());
        }
        let (fewer, further) = (less.len(), more.len());
        let all: Vec<String> = less.into_iter().chain(more).collect();
        let finding = match (fewer, further) {
            (0, 0) => Finding::pass(format!(
                "{}, {} processors, {} memory modules, {} cards, {} disks, as expected",
                self.model,
                self.processors,
                self.memory_modules.len(),
                self.cards.values().sum::<usize>(),
                self.disks.values().sum::<usize>()
            )),
            (0, _) => Finding::warn(all.join("; ")),
            _ => Finding::fail(all.join("; ")),
        };
        finding.figure("less", fewer).figure("more", further)
    }
}

fn name(card: &Card) -> String {
    format!("{} {}", card.kind.word(), card.id())
}

fn model(host: &Host) -> String {
    let cpuinfo = host.cpuinfo();
    let model = cpuinfo.get("model name").cloned();
    model.unwrap_or_else(|| "unknown".to_owned())
}

/// Disks that are hardware, or what a guest is given as such.
fn disk_names(host: &Host) -> Vec<String> {
    let disk = |name: String| {
        if ["loop", "ram", "zram", "dm-", "md", "sr"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            return None;
        }
        let sectors = host.number(&format!("/sys/block/{name}/size"))?;
        let model = host
            .text(&format!("/sys/block/{name}/device/model"))
            .unwrap_or_else(|| "disk".to_owned());
        // The kernel counts in sectors of 512 bytes, whatever the disk's are.
        (sectors > 0).then(|| format!("{model} {} bytes", sectors * 512))
    };
    host.names("/sys/block")
        .into_iter()
        .filter_map(disk)
        .collect()
}

/// Modules of memory by the firmware's table: structures of type 17 of SMBIOS 3.
fn modules(host: &Host) -> Vec<String> {
    let entries = host.names("/sys/firmware/dmi/entries").into_iter();
    entries
        .filter(|name| name.starts_with("17-"))
        .filter_map(|name| module(&host.bytes(&format!("/sys/firmware/dmi/entries/{name}/raw"))?))
        .collect()
}

/// One module; `None` for an empty slot.
fn module(raw: &[u8]) -> Option<String> {
    let length = usize::from(*raw.get(1)?);
    let word = |at: usize| Some(u16::from_le_bytes([*raw.get(at)?, *raw.get(at + 1)?]));
    let mebibytes = match word(0x0c)? {
        0 | 0xffff => return None,
        // Too large for the field: 32 bits further on, of which the highest is kept free.
        0x7fff => (u32::from(word(0x1c)?) | u32::from(word(0x1e)?) << 16) & 0x7fff_ffff,
        size if size & 0x8000 != 0 => u32::from(size & 0x7fff) / 1024,
        size => u32::from(size),
    };
    // Texts lie behind the fields, each ended by a zero, and are named by their number.
    let text = |at: usize| -> Option<String> {
        let number = usize::from(*raw.get(at)?).checked_sub(1)?;
        let text = raw.get(length..)?.split(|&byte| byte == 0).nth(number)?;
        Some(String::from_utf8_lossy(text).trim().to_owned())
    };
    let place = [text(0x11), text(0x10)].into_iter().flatten();
    let place: Vec<String> = place.filter(|text| !text.is_empty()).collect();
    Some(
        format!("{} {mebibytes} MiB", place.join(" "))
            .trim()
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_the_firmware() {
        let mut raw = vec![0; 0x28];
        (raw[0], raw[1]) = (17, 0x28);
        (raw[0x10], raw[0x11]) = (1, 2);
        raw.extend_from_slice(b"DIMM_A1\0BANK 0\0\0");
        let with = |size: u16, extended: u32| {
            let mut raw = raw.clone();
            raw[0x0c..0x0e].copy_from_slice(&size.to_le_bytes());
            raw[0x1c..0x20].copy_from_slice(&extended.to_le_bytes());
            module(&raw)
        };
        assert_eq!(with(0, 0), None);
        let name = |size: &str| Some(format!("BANK 0 DIMM_A1 {size} MiB"));
        assert_eq!(with(16384, 0), name("16384"));
        assert_eq!(with(0x7fff, 65536), name("65536"));
        assert_eq!(with(0x8000 | 2048, 0), name("2"));
        for cut in 0..raw.len() {
            // A table that is cut short says less; it must not end the program.
            let _ = module(&raw[..cut]);
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder of our own");
        let path = folder.path().join("expected.toml");
        let mut expected = Expected::of(&Host::at("/"));
        expected.cards.insert("gpu 10de:2330".to_owned(), 8);
        expected.bounds.disk_sync_p99_us_max = Some(900);
        let part = Part::new("wgpu:A Card", Verdict::Pass, "well")
            .figure("bn254.ntt.2^10.per_second", 1e6)
            .figure("take_over_us_p50", 200.0)
            .figure("take_over_us_max", 900.0)
            .figure("name", "A Card");
        expected.bounds.learn(&part);
        expected.write(&path).expect("inside it");
        assert_eq!(Expected::read(&path).expect("our own"), expected);
        std::fs::write(&path, "processors = 4\nmodell = \"x\"\n").expect("inside it");
        let error = format!("{:#}", Expected::read(&path).expect_err("a wrong word"));
        assert!(error.contains("modell"), "{error}");
        // What it came to is within its bounds; a third of the speed is not, nor four times the wait.
        let held = |part: Part| {
            let mut part = part;
            expected.bounds.hold(&mut part);
            part.verdict
        };
        assert_eq!(held(part.clone()), Verdict::Pass);
        let slow = part.clone().figure("bn254.ntt.2^10.per_second", 3e5);
        assert_eq!(held(slow), Verdict::Fail);
        assert_eq!(
            held(part.clone().figure("take_over_us_p50", 800)),
            Verdict::Fail
        );
        assert_eq!(held(part.figure("take_over_us_max", 1e9)), Verdict::Pass);
    }
}
