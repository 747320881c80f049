//! The devices of this box against arkworks: the conformance suite that development runs too, on
//! the silicon that will do the work.

use std::sync::Arc;

use anyhow::Result;
use caldera_devices::{Options, Wanted, alone};
use caldera_kernels::conformance::{Effort, run};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::{CurveId, Device};

use crate::figures::identity;
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
