//! Products of vectors element by element, in pieces that can be bound.

use std::sync::Arc;

use caldera_kernels::{DeviceError, Plan};

use crate::generate::Variant;
use crate::gpu::Gpu;
use crate::plan::{Stage, Staged, Steps};
use crate::shaders::{Kernel, Over};
use crate::vector::{Vector, fitting};

/// x y to `third`, or x = x y - `third`.
pub(crate) fn plan(
    gpu: &Arc<Gpu>,
    variant: Variant,
    [x, y, third]: [Arc<Vector>; 3],
    subtract: bool,
) -> Result<Arc<dyn Plan>, DeviceError> {
    let maker = Steps::new(gpu, variant)?;
    let mut steps = Vec::new();
    let fitting = fitting(gpu);
    for from in (0..x.len).step_by(fitting) {
        let count = fitting.min(x.len - from);
        steps.push(maker.threads(
            Kernel::Multiply,
            Over::Scalars(x.curve),
            &[
                x.part(from, count),
                y.part(from, count),
                third.part(from, count),
            ],
            &[count as u32, u32::from(subtract)],
            count,
            1.0,
        )?);
    }
    let name = if subtract {
        "vector.multiply_subtract"
    } else {
        "vector.multiply"
    };
    let stages = vec![Stage { name, steps }];
    Ok(Staged::plan(maker, stages, [x, y, third], None))
}
