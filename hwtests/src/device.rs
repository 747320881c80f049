//! The devices of this box against arkworks: the conformance suite that development runs too, on
//! the silicon that will do the work.

use std::sync::Arc;

use anyhow::Result;
use caldera_devices::{Options, Wanted, alone};
use caldera_kernels::conformance::{Effort, run};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::{CurveId, Device};

use crate::figures::identity;
use crate::pci::Card;
use crate::proof::QUANTUM;
use crate::report::{Finding, Part, Verdict};
use crate::thread::{Policy, on_each};

/// A device that was asked for, or why it cannot be had.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) wanted: Wanted,
    pub(crate) device: Result<Arc<dyn Device>, String>,
}

/// Opens each by itself. The calling thread must live as long as they do.
pub(crate) fn open(wanted: Vec<Wanted>, options: &Options) -> Vec<Opened> {
    let each = |wanted: Wanted| Opened {
        device: alone(&wanted, options)
            .map_err(|error| format!("{:#}", anyhow::Error::from(error))),
        wanted,
    };
    wanted.into_iter().map(each).collect()
}

/// The processor, as others see it.
pub(crate) fn processor(threads: usize) -> Opened {
    let device = CpuDevice::new(CpuConfig {
        quantum: QUANTUM,
        lanes: 2 * threads,
    });
    Opened {
        wanted: Wanted::Cpu,
        device: Ok(device),
    }
}

/// Whether each GPU on the bus is one of the devices: what was not named was not tried, and proves nothing here.
pub(crate) fn named(gpus: &[Card], devices: &[Opened]) -> Finding {
    if gpus.is_empty() {
        return Finding::skip("no GPU on the PCI bus");
    }
    let site = |it: &Opened| it.device.as_ref().ok()?.site(0).pci;
    let is_beside = |it: &&Opened| it.wanted != Wanted::Cpu;
    let sites: Vec<_> = devices.iter().filter(is_beside).map(site).collect();
    if sites.is_empty() && !devices.is_empty() {
        return Finding::skip("the processor alone was asked for");
    }
    let left: Vec<String> = gpus
        .iter()
        .filter(|card| !sites.contains(&Some(card.address.clone())))
        .map(Card::name)
        .collect();
    // One that does not say where it lies may be any of them.
    let silent = sites.iter().filter(|site| site.is_none()).count();
    let count = left.len().saturating_sub(silent);
    if count == 0 {
        return Finding::pass(format!("each of {} GPUs on the bus is named", gpus.len()));
    }
    let cards = left.join(", ");
    Finding::warn(match silent {
        0 => format!("not named, so not tried (--devices, CALDERA_DEVICES or --config): {cards}"),
        _ => format!(
            "{count} not named, so not tried (--devices, CALDERA_DEVICES or --config), of: {cards}"
        ),
    })
    .figure("not_named", count)
}

/// Runs the suite on each device beside the processor, for both curves.
pub(crate) fn others(devices: &[Opened], effort: Effort, passes: u64) -> Finding {
    let others = devices.iter().filter(|it| it.wanted != Wanted::Cpu);
    let parts = others.map(|Opened { wanted, device }| {
        let tried = device.as_ref().map_err(Clone::clone).and_then(|device| {
            for pass in 0..passes {
                for curve in CURVES {
                    run(&**device, curve, effort, pass)
                        .map_err(|failure| format!("{curve:?}, seed {pass}: {failure}"))?;
                }
            }
            // What the processor did in its place is no answer of the device's.
            match device.health().lost {
                Some(why) => Err(format!("lost: {why}")),
                None => Ok(device.info().name.clone()),
            }
        });
        match (tried, device) {
            (Ok(name), Ok(device)) => Part {
                reason: format!("{name} agrees with arkworks on both curves"),
                ..identity(wanted, &**device)
            }
            .figure("passes", passes),
            (Err(error), _) => Part::new(wanted, Verdict::Fail, error),
            (_, Err(error)) => Part::new(wanted, Verdict::Fail, error),
        }
    });
    let parts: Vec<Part> = parts.collect();
    if parts.is_empty() {
        return Finding::skip(
            "no device beside the processor was asked for (--devices or --config)",
        );
    }
    let good = format!("{} agree with arkworks on both curves", parts.len());
    Finding::of_parts(parts, good)
}

/// Runs the suite for both curves on every processor, each with seeds of its own, `passes` times.
pub(crate) fn conformance(cpus: &[usize], effort: Effort, passes: u64) -> Result<Finding> {
    let failures = on_each(cpus, Policy::Normal, |cpu| {
        let device = CpuDevice::new(CpuConfig {
            quantum: QUANTUM,
            lanes: 2 * cpus.len(),
        });
        for pass in 0..passes {
            for curve in CURVES {
                let seed = cpu as u64 * passes + pass;
                if let Err(failure) = run(&*device, curve, effort, seed) {
                    return Ok(Some(format!(
                        "processor {cpu}, {curve:?}, seed {seed}: {failure}"
                    )));
                }
            }
        }
        Ok(None)
    })?;
    let failures: Vec<String> = failures.into_iter().flatten().collect();
    let device = CpuDevice::new(CpuConfig {
        quantum: QUANTUM,
        lanes: 1,
    });
    let finding = if failures.is_empty() {
        Finding::pass(format!(
            "{} agrees with arkworks on both curves, on each of {} processors",
            device.info().name,
            cpus.len()
        ))
    } else {
        Finding::fail(failures.join("; "))
    };
    Ok(finding
        .figure("passes", passes)
        .figure("kind", device.info().kind))
}

const CURVES: [CurveId; 2] = [CurveId::Bn254, CurveId::Bls12_381];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::Kind;

    #[test]
    fn a_gpu_that_nobody_named_is_told_of() {
        let gpu = |address: &str| Card {
            address: address.to_owned(),
            kind: Kind::Gpu,
            vendor: 0x10de,
            device: 0x2330,
            driver: Some("nvidia".to_owned()),
        };
        let gpus = [gpu("0000:3b:00.0"), gpu("0000:5e:00.0")];
        assert_eq!(named(&[], &[]).verdict, Verdict::Skip);
        let nobody = named(&gpus, &[]);
        assert_eq!(nobody.verdict, Verdict::Warn);
        assert!(nobody.reason.contains("0000:5e:00.0"), "{}", nobody.reason);
        assert_eq!(named(&gpus, &[processor(1)]).verdict, Verdict::Skip);
        // Devices that do not say where they lie.
        let silent = |name: &str| Opened {
            wanted: name.parse().expect("a name"),
            ..processor(1)
        };
        let one = named(&gpus, &[silent("icicle:CUDA:0")]);
        assert_eq!(one.verdict, Verdict::Warn);
        assert_eq!(one.figures["not_named"], 1);
        let both = named(&gpus, &[silent("icicle:CUDA:0"), silent("wgpu")]);
        assert_eq!(both.verdict, Verdict::Pass);
    }
}
