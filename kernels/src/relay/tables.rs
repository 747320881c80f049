//! Tables of one member's copies: work of that member alone, which nobody does in place of it.

use std::sync::Arc;

use super::{Laid, Shared};
use crate::device::{DeviceError, Plan, Progress};

/// The member's own plan, whose losses are the relay's too.
pub(super) struct TablesPlan {
    pub(super) shared: Arc<Shared>,
    pub(super) member: usize,
    pub(super) laid: Laid,
}

impl TablesPlan {
    fn noted<T>(&self, result: Result<T, DeviceError>) -> Result<T, DeviceError> {
        result.inspect_err(|error| {
            self.shared.note(self.member, error);
        })
    }
}

impl Plan for TablesPlan {
    fn stages(&self) -> usize {
        self.laid.plan.stages()
    }

    fn kernel(&self, stage: usize) -> &'static str {
        self.laid.plan.kernel(stage)
    }

    fn open(&self, stage: usize) -> Result<usize, DeviceError> {
        self.noted(self.laid.plan.open(stage))
    }

    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
        self.noted(self.laid.plan.run(stage, lane))
    }

    fn point(&self) -> Option<Vec<u8>> {
        None
    }

    fn member(&self, _: usize) -> usize {
        self.member
    }
}
