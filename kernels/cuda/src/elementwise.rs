//! Products of vectors, element by element.

use std::sync::Arc;

use caldera_kernels::DeviceError;

use crate::driver::Kernel;
use crate::plan::{Steps, Sweep};
use crate::vector::Vector;

pub(crate) struct Elementwise {
    pub(crate) kernel: Kernel,
    pub(crate) name: &'static str,
    /// As the kernel's argument has them.
    pub(crate) vectors: [Arc<Vector>; 3],
}

impl Steps for Elementwise {
    fn stages(&self) -> usize {
        1
    }

    fn name(&self, _: usize) -> &'static str {
        self.name
    }

    fn open(&self, _: usize) -> Result<Vec<Sweep>, DeviceError> {
        let words = self.vectors.iter().map(|vector| vector.at(0)).collect();
        let len = self.vectors[0].len();
        Ok(vec![Sweep::threads(self.kernel, len, words)])
    }
}
