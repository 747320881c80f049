//! The device of this box against arkworks: the conformance suite that development runs too, on
//! the silicon that will do the work.

use anyhow::Result;
use caldera_kernels::conformance::{Effort, run};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::{CurveId, Device};

use crate::proof::QUANTUM;
use crate::report::Finding;
use crate::thread::{Policy, on_each};

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
