//! What NVIDIA's own tool says of its GPUs: memory errors, slow-downs, heat and power. None of it is
//! in /sys; `nvidia-smi` comes with the driver, so a box that has the one has the other.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::pci::{self, Kind};
use crate::report::{Finding, Verdict};

/// One GPU, now. What the tool does not know is `None`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gpu {
    pub(crate) uuid: String,
    pub(crate) driver: String,
    pub(crate) corrected: Option<u64>,
    pub(crate) uncorrected: Option<u64>,
    /// Slowed down by heat or by the power supply.
    pub(crate) slowed: bool,
    pub(crate) celsius: Option<f64>,
    pub(crate) watts: Option<f64>,
}

/// Memory errors and slow-downs.
pub(crate) fn health(host: &Host) -> Finding {
    let cards = pci::cards(host);
    let nvidia = |card: &&pci::Card| card.kind == Kind::Gpu && card.id().starts_with("10de:");
    let on_bus = cards.iter().filter(nvidia).count();
    if on_bus == 0 {
        return Finding::skip("no GPU of NVIDIA's on the PCI bus");
    }
    match read() {
        Ok(gpus) => judge(on_bus, &gpus),
        Err(error) => Finding::fail(format!("{error:#}")),
    }
}

fn judge(on_bus: usize, gpus: &[Gpu]) -> Finding {
    let mut verdict = Verdict::Pass;
    let mut parts = Vec::new();
    if gpus.len() < on_bus {
        verdict = Verdict::Fail;
        parts.push(format!(
            "{on_bus} GPUs on the bus, {} known to the driver",
            gpus.len()
        ));
    }
    for gpu in gpus {
        let (corrected, uncorrected) = (gpu.corrected.unwrap_or(0), gpu.uncorrected.unwrap_or(0));
        if uncorrected > 0 {
            verdict = Verdict::Fail;
        } else if corrected > 0 || gpu.slowed || gpu.uncorrected.is_none() {
            verdict = verdict.max(Verdict::Warn);
        }
        let errors = match gpu.uncorrected {
            Some(_) => format!("{corrected} corrected, {uncorrected} uncorrected memory errors"),
            None => "memory errors are not counted (no ECC, or off)".to_owned(),
        };
        let slowed = if gpu.slowed {
            ", slowed down by heat or power"
        } else {
            ""
        };
        parts.push(format!(
            "{}: driver {}, {errors}{slowed}",
            gpu.uuid, gpu.driver
        ));
    }
    Finding::new(verdict, parts.join("; ")).figure("gpus", gpus.len())
}

/// Asks the tool.
pub(crate) fn read() -> Result<Vec<Gpu>> {
    let output = Command::new("nvidia-smi")
        .arg(format!("--query-gpu={}", FIELDS.join(",")))
        .arg("--format=csv,noheader,nounits")
        .stdin(Stdio::null())
        .output()
        .context("running nvidia-smi, which comes with the driver")?;
    ensure!(
        output.status.success(),
        "nvidia-smi: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout).trim()
    );
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Result<Vec<Gpu>> {
    let gpu = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [
            uuid,
            driver,
            corrected,
            uncorrected,
            heat,
            brake,
            celsius,
            watts,
        ] = fields[..]
        else {
            anyhow::bail!("nvidia-smi: expected {} fields, got {line:?}", FIELDS.len());
        };
        Ok(Gpu {
            uuid: uuid.to_owned(),
            driver: driver.to_owned(),
            corrected: corrected.parse().ok(),
            uncorrected: uncorrected.parse().ok(),
            slowed: [heat, brake].contains(&"Active"),
            celsius: celsius.parse().ok(),
            watts: watts.parse().ok(),
        })
    };
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(gpu)
        .collect()
}

/// By the names that old drivers know as well.
const FIELDS: [&str; 8] = [
    "uuid",
    "driver_version",
    "ecc.errors.corrected.volatile.total",
    "ecc.errors.uncorrected.volatile.total",
    "clocks_throttle_reasons.hw_thermal_slowdown",
    "clocks_throttle_reasons.hw_power_brake_slowdown",
    "temperature.gpu",
    "power.draw",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(lines: &str, on_bus: usize) -> Verdict {
        judge(on_bus, &parse(lines).expect("lines of the tool")).verdict
    }

    #[test]
    fn the_tools_lines() {
        let good = "GPU-1, 580.65.06, 0, 0, Not Active, Not Active, 41, 71.30\n";
        assert_eq!(verdict(good, 1), Verdict::Pass);
        assert_eq!(verdict(good, 2), Verdict::Fail);
        for (line, expected) in [
            (
                "GPU-1, 580, 3, 0, Not Active, Not Active, 41, 71.30",
                Verdict::Warn,
            ),
            (
                "GPU-1, 580, 0, 2, Not Active, Not Active, 41, 71.30",
                Verdict::Fail,
            ),
            (
                "GPU-1, 580, 0, 0, Active, Not Active, 41, 71.30",
                Verdict::Warn,
            ),
            (
                "GPU-1, 580, [N/A], [N/A], Not Active, Not Active, 41, [N/A]",
                Verdict::Warn,
            ),
        ] {
            assert_eq!(verdict(line, 1), expected, "{line}");
        }
        assert!(parse("NVIDIA-SMI has failed").is_err());
    }
}
