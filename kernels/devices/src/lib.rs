//! Opens the device that was asked for, by the name that people write in a configuration.
//!
//! | name | what computes |
//! |---|---|
//! | `cpu` | the processor, on the caller's threads |
//! | `icicle:KIND:N` | ICICLE's device N of a kind, such as `icicle:CUDA:0`; what it does not do, the processor |
//!
//! What was asked for and is not there is an [`OpenError`] that says why; nothing takes its place in
//! silence.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use caldera_icicle::{IcicleDevice, Setup};
use caldera_kernels::Device;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};

/// A device by its name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Wanted {
    /// The processor.
    #[default]
    Cpu,
    /// A device of an ICICLE installation.
    Icicle {
        /// What ICICLE calls it: "CUDA".
        kind: String,
        /// Which of them.
        index: u32,
    },
}

/// A name that no device has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("devices: expected {expected}, got {got:?}")]
pub struct NameError {
    /// What names look like.
    pub expected: &'static str,
    /// The names.
    pub got: String,
}

/// The one of several names that stands beside the processor, which is always there.
///
/// # Errors
/// For a name that is none, and for two devices.
pub fn choose(names: &[String]) -> Result<Wanted, NameError> {
    let mut device = Wanted::Cpu;
    for name in names {
        match (&device, name.parse()?) {
            (_, Wanted::Cpu) => {}
            (Wanted::Cpu, wanted) => device = wanted,
            _ => {
                return Err(NameError {
                    expected: "at most one beside cpu",
                    got: names.join(","),
                });
            }
        }
    }
    Ok(device)
}

/// What devices need to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How work on the processor is cut; of it, the length of a quantum holds for all devices.
    pub cpu: CpuConfig,
    /// Where ICICLE is installed.
    pub icicle_folder: PathBuf,
    /// After what time without an answer a device is given up.
    pub patience: Duration,
}

/// Why a device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This program's own path, by which a child is started, is not known.
    #[error("finding this program, to start {device} in a process of its own: {source}")]
    Program {
        /// For which device.
        device: Wanted,
        /// What the system said.
        source: std::io::Error,
    },
    /// ICICLE's devices.
    #[error("device {device}: {source}")]
    Icicle {
        /// Which one.
        device: Wanted,
        /// Why not.
        source: caldera_icicle::StartError,
    },
}

/// Where ICICLE's own documentation has it installed.
pub const ICICLE_FOLDER: &str = "/opt/icicle";
/// Work is cut to take milliseconds, but for transforms and what they need at first.
pub const PATIENCE: Duration = Duration::from_secs(1);

impl Options {
    /// With ICICLE and patience as they are where nobody says otherwise.
    pub fn new(cpu: CpuConfig) -> Options {
        Options {
            cpu,
            icicle_folder: ICICLE_FOLDER.into(),
            patience: PATIENCE,
        }
    }
}

/// Opens a device. Devices that live in a process of their own start this program again, which must
/// call [`child`] first of all; the calling thread must live as long as the device.
///
/// # Errors
/// If it is not there or fails its self-test.
pub fn open(wanted: &Wanted, options: &Options) -> Result<Arc<dyn Device>, OpenError> {
    let cpu = CpuDevice::new(options.cpu);
    match wanted {
        Wanted::Cpu => Ok(cpu),
        Wanted::Icicle { kind, index } => {
            let program = std::env::current_exe().map_err(|source| OpenError::Program {
                device: wanted.clone(),
                source,
            })?;
            let mut command = Command::new(program);
            command.arg(CHILD);
            let setup = Setup {
                command,
                folder: options.icicle_folder.clone(),
                kind: kind.clone(),
                index: *index,
                patience: options.patience,
            };
            match IcicleDevice::start(cpu, setup) {
                Ok(device) => Ok(device),
                Err(source) => Err(OpenError::Icicle {
                    device: wanted.clone(),
                    source,
                }),
            }
        }
    }
}

/// For the first line of `main`: whether this process was started to be a device's child, and if so
/// its exit code after a whole life as one.
pub fn child() -> Option<ExitCode> {
    let is_child = std::env::args_os().nth(1).as_deref() == Some(OsStr::new(CHILD));
    is_child.then(caldera_icicle::serve)
}

const CHILD: &str = "--device-child";

impl FromStr for Wanted {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Wanted, NameError> {
        let wrong = || NameError {
            expected: "cpu or icicle:KIND:N (such as icicle:CUDA:0)",
            got: name.to_owned(),
        };
        if name == "cpu" {
            return Ok(Wanted::Cpu);
        }
        let (kind, index) = name
            .strip_prefix("icicle:")
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(wrong)?;
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        // A name of ICICLE's has 63 bytes at most.
        if !(1..=63).contains(&kind.len()) || !kind.bytes().all(is_word) {
            return Err(wrong());
        }
        Ok(Wanted::Icicle {
            kind: kind.to_owned(),
            index: index
                .parse()
                .ok()
                .filter(|&index: &u32| index < INDEX_MAX)
                .ok_or_else(wrong)?,
        })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Cpu => f.write_str("cpu"),
            Wanted::Icicle { kind, index } => write!(f, "icicle:{kind}:{index}"),
        }
    }
}

/// More devices than any box has.
const INDEX_MAX: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["cpu", "icicle:CUDA:0", "icicle:CUDA-PQC:12"] {
            let wanted: Wanted = name.parse().unwrap();
            assert_eq!(wanted.to_string(), name);
        }
        for name in [
            "",
            "CPU",
            "gpu",
            "icicle",
            "icicle:CUDA",
            "icicle::0",
            "icicle:CUDA:-1",
            "icicle:CUDA:256",
            "icicle:CU DA:0",
            "icicle:CUDA:0:1",
        ] {
            let error = name.parse::<Wanted>().unwrap_err();
            assert_eq!(error.got, name);
        }
    }

    #[test]
    fn one_device_stands_beside_the_processor() {
        let choose = |names: &str| {
            let names: Vec<String> = names.split(',').map(str::to_owned).collect();
            choose(&names).map(|wanted| wanted.to_string())
        };
        assert_eq!(choose("cpu"), Ok("cpu".into()));
        assert_eq!(choose("cpu,icicle:CUDA:1"), Ok("icicle:CUDA:1".into()));
        assert!(choose("icicle:CUDA:0,icicle:CUDA:1").is_err());
        assert!(choose("cpu,").is_err());
    }

    #[test]
    fn a_device_that_is_not_there_is_named_with_the_reason() {
        let folder = std::env::temp_dir().join("caldera-devices-no-icicle");
        let options = Options {
            icicle_folder: folder.clone(),
            ..Options::new(CpuConfig {
                quantum: Duration::from_millis(2),
                lanes: 1,
            })
        };
        let wanted = "icicle:CUDA:3".parse().unwrap();
        let error = open(&wanted, &options).err().unwrap().to_string();
        let expected = format!(
            "device icicle:CUDA:3: ICICLE: no libicicle_device.so in {} or its lib",
            folder.display()
        );
        assert_eq!(error, expected);
        assert_eq!(open(&Wanted::Cpu, &options).unwrap().info().kind, "cpu");
    }
}
