//! Which variant multiplies faster on this device.

use std::path::PathBuf;
use std::sync::Arc;

use caldera_kernels::DeviceError;

use crate::generate::Variant;
use crate::gpu::Gpu;

/// How to multiply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Thus.
    Fixed(Variant),
    /// As was measured to be faster, now or, if that was kept in a folder, before.
    Measured {
        /// Where it is kept.
        folder: Option<PathBuf>,
    },
}

pub(crate) fn choose(_gpu: &Arc<Gpu>, choice: &Choice) -> Result<Variant, DeviceError> {
    match choice {
        Choice::Fixed(variant) => Ok(*variant),
        Choice::Measured { .. } => Ok(Variant::Portable),
    }
}
