//! The devices of this machine: which one a command computes on.

use std::path::PathBuf;
use std::sync::Arc;

use caldera_devices::{ICICLE_FOLDER, Options};
use caldera_kernels::Device;
use caldera_kernels::cpu::CpuConfig;

/// What a command is told about devices.
#[derive(clap::Args)]
pub(crate) struct Choice {
    /// What computes: cpu, or a device beside it, such as icicle:CUDA:0
    #[arg(
        long,
        value_name = "NAME,...",
        env = "CALDERA_DEVICES",
        value_delimiter = ','
    )]
    devices: Vec<String>,
    /// Where ICICLE is installed
    #[arg(long, value_name = "DIR", default_value = ICICLE_FOLDER)]
    icicle: PathBuf,
}

impl Choice {
    /// Opens what was chosen. To be called by a thread that lives as long as the device is used.
    pub(crate) fn open(&self, cpu: CpuConfig) -> anyhow::Result<Arc<dyn Device>> {
        let wanted = caldera_devices::choose(&self.devices)?;
        let options = Options {
            icicle_folder: self.icicle.clone(),
            ..Options::new(cpu)
        };
        Ok(caldera_devices::open(&wanted, &options)?)
    }
}
