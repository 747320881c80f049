//! Opens the devices that were asked for, by the names that people write in a configuration.
//!
//! | name | what computes |
//! |---|---|
//! | `cpu` | the processor, on the caller's threads; always there |
//! | `cuda:N` | NVIDIA's GPU number N as nvidia-smi counts, by our own kernels; or `cuda:GPU-8a2c` by its UUID or as much of that as no other has, `cuda:MIG-…` an instance of one, `cuda:0000:3b:00.0` by its address on the PCI bus |
//! | `wgpu`, `wgpu:NAME` | a GPU with a Vulkan driver: the best one, or the one whose name has NAME in it or that lies at NAME on the PCI bus (`wgpu:0000:3b:00.0`); an emulation only by its name (`wgpu:llvmpipe`) |
//! | `icicle:KIND:N` | ICICLE's device N of a kind, such as `icicle:CUDA:0`: sums and transforms |
//!
//! Several devices are one to the caller (`caldera_kernels::relay`): work goes to the one that has been
//! quickest for its kind and size. What was asked for and is not there is an [`OpenError`] that says
//! why; nothing takes its place in silence.

#[cfg(test)]
#[allow(dead_code)]
#[path = "../build.rs"]
mod build;
mod measure;
mod prices;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "cuda")]
use caldera_cuda::{CudaDevice, Nvidia, NvidiaConfig};
pub use caldera_icicle::PATIENCE;
use caldera_icicle::{IcicleDevice, Setup};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::relay::{Member, Relay};
use caldera_kernels::{Device, DeviceError};
#[cfg(feature = "wgpu")]
use caldera_wgpu::{Choice, WgpuConfig, WgpuDevice};

pub use measure::{Bench, FORWARD, Inputs, KINDS, Measured, Quantum, inputs, measure, quanta, run};
pub use prices::{Book, Figures, RecalibrationError, STEPS, Source, Unusable, recalibrate};

/// A device by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// The processor.
    Cpu,
    /// A GPU of NVIDIA's.
    Cuda {
        /// Its number on the PCI bus, its UUID or the beginning of that, or its address.
        name: String,
    },
    /// A GPU with a Vulkan driver.
    Wgpu {
        /// A part of its name, or its address on the PCI bus; without one, the best there is.
        name: Option<String>,
    },
    /// A device of an ICICLE installation.
    Icicle {
        /// What ICICLE calls it: "CUDA".
        kind: String,
        /// Which of them.
        index: u32,
    },
}

/// A name that no device has, or a choice that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("devices: expected {expected}, got {got:?}")]
pub struct NameError {
    /// What names look like.
    pub expected: &'static str,
    /// The names.
    pub got: String,
}

/// What devices need to be opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// How work on the processor is cut; of it, the length of a quantum holds for all devices.
    pub cpu: CpuConfig,
    /// How many threads run the processor's lanes at once.
    pub workers: usize,
    /// Where ICICLE is installed.
    pub icicle_folder: PathBuf,
    /// After what time without an answer a device is given up.
    pub patience: Duration,
    /// The cores that a device's own process may run on; none: all that this one may.
    pub cores: Vec<usize>,
    /// What may be used at most of a GPU's own memory.
    pub device_bytes: usize,
    /// Where what was measured of devices is kept; without, they are measured each time.
    pub calibration: Option<PathBuf>,
    /// Whether the clocks of GPUs are read that are read only if somebody asks: it costs a little of each quantum.
    pub timestamps: bool,
    /// Told what is wrong with what is kept there, which stops nothing.
    pub warn: fn(&str),
}

/// Why a device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This program's own path, by which a child is started, is not known.
    #[error("finding this program, to start {device} in a process of its own")]
    Program {
        /// For which device.
        device: Wanted,
        /// What the system said.
        source: std::io::Error,
    },
    /// ICICLE's devices.
    #[error("device {device}")]
    Icicle {
        /// Which one.
        device: Wanted,
        /// Why not.
        source: caldera_icicle::StartError,
    },
    /// This program was built without.
    #[error("device {device}: this program was built without the feature {feature}")]
    NotBuilt {
        /// Which one.
        device: Wanted,
        /// Of `caldera-devices`.
        feature: &'static str,
    },
    /// NVIDIA's GPUs.
    #[cfg(feature = "cuda")]
    #[error("device {device}")]
    Nvidia {
        /// Which one.
        device: Wanted,
        /// Why not.
        source: caldera_cuda::NvidiaError,
    },
    /// A device that is there and has no room for what it always needs.
    #[error("device {device}")]
    Device {
        /// Which one.
        device: Wanted,
        /// What it said.
        source: DeviceError,
    },
    /// Two names for one GPU, which would be two units that compute on the same silicon.
    #[error("device {device}: it is the one {place}, as {other} is, which was asked for too")]
    Twice {
        /// Which one.
        device: Wanted,
        /// What came before it.
        other: Wanted,
        /// Where both lie, or what their drivers call both.
        place: String,
    },
    /// GPUs by Vulkan.
    #[cfg(feature = "wgpu")]
    #[error("device {device}")]
    Wgpu {
        /// Which one.
        device: Wanted,
        /// Why not.
        source: caldera_wgpu::Open,
    },
}

/// A device that was asked for and is not there.
#[derive(Debug)]
pub struct Missing {
    /// Its name in the configuration.
    pub wanted: Wanted,
    /// Why it cannot be had.
    pub why: OpenError,
}

/// A device of this machine, or one that could be.
pub struct Candidate {
    /// Its name in a configuration.
    pub wanted: Wanted,
    /// The device, or why it cannot be had.
    pub device: Result<Arc<dyn Device>, OpenError>,
}

/// Where ICICLE's own documentation has it installed.
pub const ICICLE_FOLDER: &str = "/opt/icicle";

/// Where ICICLE is where nobody says so: around the backends that ICICLE's own variable names, if it is
/// there, else where its documentation has it installed.
pub fn icicle_folder() -> PathBuf {
    let around = icicle_backends().and_then(|backends| caldera_icicle::folder_around(&backends));
    around.unwrap_or_else(|| ICICLE_FOLDER.into())
}

/// ICICLE's own variable for where its backends are installed.
fn icicle_backends() -> Option<PathBuf> {
    let named = std::env::var_os("ICICLE_BACKEND_INSTALL_DIR");
    named.filter(|name| !name.is_empty()).map(PathBuf::from)
}

impl Options {
    /// For so many workers, with all else as it is where nobody says otherwise.
    pub fn new(quantum: Duration, workers: usize) -> Options {
        Options {
            cpu: CpuConfig {
                quantum,
                // Twice the number of workers lets them all end at about the same time.
                lanes: 2 * workers,
            },
            workers,
            icicle_folder: icicle_folder(),
            patience: PATIENCE,
            cores: Vec::new(),
            device_bytes: usize::MAX,
            calibration: None,
            timestamps: false,
            warn: |_| (),
        }
    }
}

/// Reads names; the processor is always there and need not be among them.
///
/// # Errors
/// For a name that is none, one that comes twice, and two of ICICLE's.
pub fn choose(names: &[String]) -> Result<Vec<Wanted>, NameError> {
    let refuse = |expected| NameError {
        expected,
        got: names.join(","),
    };
    let mut chosen = Vec::new();
    for name in names {
        let wanted: Wanted = name.parse()?;
        let is_icicle = |it: &Wanted| matches!(it, Wanted::Icicle { .. });
        if chosen.contains(&wanted) {
            return Err(refuse("each device once"));
        }
        if is_icicle(&wanted) && chosen.iter().any(is_icicle) {
            return Err(refuse("at most one device of ICICLE's"));
        }
        chosen.push(wanted);
    }
    Ok(chosen)
}

/// Opens devices, and the processor with them, as one. Devices that live in a process of their own
/// start this program again, which must call [`child`] first of all; the calling thread must live as
/// long as the device.
///
/// # Errors
/// If one is not there or fails its self-test, or if two are the same silicon.
pub fn open(wanted: &[Wanted], options: &Options) -> Result<Arc<dyn Device>, OpenError> {
    gather(wanted, options, |_, why| Err(why))
}

/// As [`open`], with those that are there: for a service that is to run whatever has become of one of its
/// cards. What is missing is told, and never replaced in silence.
///
/// # Errors
/// If this program was built without one of them, or if two are the same silicon.
pub fn open_present(
    wanted: &[Wanted],
    options: &Options,
) -> Result<(Arc<dyn Device>, Vec<Missing>), OpenError> {
    let mut missing = Vec::new();
    let device = gather(wanted, options, |wanted, why| {
        if let OpenError::NotBuilt { .. } = why {
            return Err(why);
        }
        let wanted = wanted.clone();
        missing.push(Missing { wanted, why });
        Ok(())
    })?;
    Ok((device, missing))
}

/// Opens devices and joins them; `on_failure` says whether it goes on without one.
fn gather(
    wanted: &[Wanted],
    options: &Options,
    mut on_failure: impl FnMut(&Wanted, OpenError) -> Result<(), OpenError>,
) -> Result<Arc<dyn Device>, OpenError> {
    let host: Arc<dyn Device> = CpuDevice::new(options.cpu);
    let mut others = Vec::new();
    for device in wanted {
        let opened = match device {
            Wanted::Cpu => continue,
            Wanted::Icicle { .. } => icicle(Arc::clone(&host), device, options, IcicleDevice::unit),
            Wanted::Cuda { .. } | Wanted::Wgpu { .. } => alone(device, options),
        };
        match opened {
            Ok(opened) => others.push((device.clone(), opened)),
            Err(why) => on_failure(device, why)?,
        }
    }
    join(host, others, options)
}

/// The processor and others as one device, if no two of these are the same silicon as far as their
/// drivers say.
fn join(
    host: Arc<dyn Device>,
    others: Vec<(Wanted, Arc<dyn Device>)>,
    options: &Options,
) -> Result<Arc<dyn Device>, OpenError> {
    let mut places: HashMap<String, &Wanted> = HashMap::new();
    for (device, opened) in &others {
        let site = opened.site(0);
        // Instances of one card lie in one place, and share no silicon that computes.
        let is_instance = |uuid: &String| uuid.starts_with("MIG-");
        let pci = site
            .pci
            .filter(|_| !site.uuid.as_ref().is_some_and(is_instance));
        // An emulation lies nowhere, but its driver has a name for it.
        let pci = pci.map(|at| format!("at {at} on the PCI bus"));
        let uuid = site.uuid.map(|uuid| format!("called {uuid}"));
        for place in [pci, uuid].into_iter().flatten() {
            if let Some(other) = places.insert(place.to_ascii_lowercase(), device) {
                return Err(OpenError::Twice {
                    device: device.clone(),
                    other: other.clone(),
                    place,
                });
            }
        }
    }
    if others.is_empty() {
        return Ok(host);
    }
    let mut members = vec![Member {
        device: host,
        width: options.workers,
    }];
    let others = others.into_iter();
    members.extend(others.map(|(_, device)| Member { device, width: 1 }));
    let attended = options.calibration.as_ref().map(|folder| {
        let of = |it: &Member| prices::Attended::of(folder, &*it.device, it.width);
        members.iter().map(of).collect()
    });
    let relay = Relay::new(members);
    if let Some(attended) = attended {
        prices::attend(&relay, attended, options);
    }
    Ok(relay)
}

/// CUDA's own number of the GPU at an address on the PCI bus, where there is one.
pub fn cuda_number(pci: &str) -> Option<u32> {
    #[cfg(feature = "cuda")]
    return caldera_cuda::ordinal(pci);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = pci;
        None
    }
}

/// The devices that this machine has or could have, each as it is one of several: what it does not do is left to others.
pub fn survey(options: &Options) -> Vec<Candidate> {
    #[cfg(feature = "cuda")]
    let seen = caldera_cuda::count();
    #[cfg(not(feature = "cuda"))]
    let seen = 0;
    // The first one in any case: why it cannot be used is worth a line.
    let cuda = (0..seen.max(1)).map(|index| Wanted::Cuda {
        name: index.to_string(),
    });
    let others = [
        Wanted::Wgpu { name: None },
        Wanted::Icicle {
            kind: "CUDA".into(),
            index: 0,
        },
    ];
    let all = [Wanted::Cpu].into_iter().chain(cuda).chain(others);
    let each = |wanted: Wanted| Candidate {
        device: match wanted {
            Wanted::Icicle { .. } => {
                let host = CpuDevice::new(options.cpu);
                icicle(host, &wanted, options, IcicleDevice::unit)
            }
            _ => alone(&wanted, options),
        },
        wanted,
    };
    all.map(each).collect()
}

/// One device, without the processor where it can do without: for whoever tries or measures that one.
///
/// # Errors
/// If it is not there or fails its self-test.
pub fn alone(wanted: &Wanted, options: &Options) -> Result<Arc<dyn Device>, OpenError> {
    match wanted {
        Wanted::Cuda { name } => cuda(wanted, name, options),
        Wanted::Wgpu { name } => wgpu(wanted, name.clone(), options),
        Wanted::Cpu => Ok(CpuDevice::new(options.cpu)),
        Wanted::Icicle { .. } => {
            let host = CpuDevice::new(options.cpu);
            icicle(host, wanted, options, IcicleDevice::start)
        }
    }
}

/// Starts a device of ICICLE's by itself, or as one of several.
type Start = fn(Arc<dyn Device>, Setup) -> Result<Arc<IcicleDevice>, caldera_icicle::StartError>;

fn icicle(
    host: Arc<dyn Device>,
    wanted: &Wanted,
    options: &Options,
    start: Start,
) -> Result<Arc<dyn Device>, OpenError> {
    let Wanted::Icicle { kind, index } = wanted else {
        unreachable!("called for ICICLE's devices");
    };
    let program = std::env::current_exe().map_err(|source| OpenError::Program {
        device: wanted.clone(),
        source,
    })?;
    let mut command = Command::new(program);
    command.arg(CHILD);
    let setup = Setup {
        index: *index,
        patience: options.patience,
        cores: options.cores.clone(),
        memory: options.device_bytes as u64,
        backends: icicle_backends(),
        ..Setup::new(command, options.icicle_folder.clone(), kind)
    };
    match start(host, setup) {
        Ok(device) => Ok(device),
        Err(source) => Err(OpenError::Icicle {
            device: wanted.clone(),
            source,
        }),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(wanted: &Wanted, _name: &str, _options: &Options) -> Result<Arc<dyn Device>, OpenError> {
    Err(OpenError::NotBuilt {
        device: wanted.clone(),
        feature: "cuda",
    })
}

#[cfg(feature = "cuda")]
fn cuda(wanted: &Wanted, name: &str, options: &Options) -> Result<Arc<dyn Device>, OpenError> {
    let config = NvidiaConfig {
        name: name.to_owned(),
        memory: options.device_bytes,
        patience: options.patience,
    };
    let driver = Nvidia::open(config).map_err(|source| OpenError::Nvidia {
        device: wanted.clone(),
        source,
    })?;
    match CudaDevice::new(driver, options.cpu.quantum) {
        Ok(device) => Ok(device),
        Err(source) => Err(OpenError::Device {
            device: wanted.clone(),
            source,
        }),
    }
}

#[cfg(not(feature = "wgpu"))]
fn wgpu(
    wanted: &Wanted,
    _name: Option<String>,
    _options: &Options,
) -> Result<Arc<dyn Device>, OpenError> {
    Err(OpenError::NotBuilt {
        device: wanted.clone(),
        feature: "wgpu",
    })
}

#[cfg(feature = "wgpu")]
fn wgpu(
    wanted: &Wanted,
    name: Option<String>,
    options: &Options,
) -> Result<Arc<dyn Device>, OpenError> {
    match WgpuDevice::open(wgpu_config(name, options)) {
        Ok(device) => Ok(device),
        Err(source) => Err(OpenError::Wgpu {
            device: wanted.clone(),
            source,
        }),
    }
}

#[cfg(feature = "wgpu")]
fn wgpu_config(name: Option<String>, options: &Options) -> WgpuConfig {
    WgpuConfig {
        adapter: name,
        quantum: options.cpu.quantum,
        patience: options.patience,
        memory: (options.device_bytes != usize::MAX).then_some(options.device_bytes as u64),
        choice: Choice::Measured {
            folder: options.calibration.clone(),
        },
        timestamps: options.timestamps,
        ..WgpuConfig::default()
    }
}

/// For the first line of `main`: whether this process was started to be a device's child, and if so
/// its exit code after a whole life as one.
pub fn child() -> Option<ExitCode> {
    let is_child = std::env::args_os().nth(1).as_deref() == Some(OsStr::new(CHILD));
    is_child.then(caldera_icicle::serve)
}

const CHILD: &str = "--device-child";

impl Wanted {
    /// The kind of device, as devices themselves name theirs.
    pub fn kind(&self) -> &'static str {
        match self {
            Wanted::Cpu => "cpu",
            Wanted::Cuda { .. } => "cuda",
            Wanted::Wgpu { .. } => "wgpu",
            Wanted::Icicle { .. } => "icicle",
        }
    }
}

impl FromStr for Wanted {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Wanted, NameError> {
        let wrong = || NameError {
            expected: "cpu, cuda:N (or a UUID or PCI address after cuda:), wgpu, wgpu:NAME \
                       or icicle:KIND:N (such as icicle:CUDA:0)",
            got: name.to_owned(),
        };
        if name == "cpu" {
            return Ok(Wanted::Cpu);
        }
        let number = |text: &str| text.parse().ok().filter(|&index: &u32| index < INDEX_MAX);
        if let Some(which) = name.strip_prefix("cuda:") {
            if !is_uuid(which) && !is_address(which) && number(which).is_none() {
                return Err(wrong());
            }
            return Ok(Wanted::Cuda {
                name: which.to_owned(),
            });
        }
        if name == "wgpu" {
            return Ok(Wanted::Wgpu { name: None });
        }
        if let Some(part) = name.strip_prefix("wgpu:") {
            return match part.trim() {
                "" => Err(wrong()),
                part => Ok(Wanted::Wgpu {
                    name: Some(part.to_owned()),
                }),
            };
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
            index: number(index).ok_or_else(wrong)?,
        })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Cpu => f.write_str("cpu"),
            Wanted::Cuda { name } => write!(f, "cuda:{name}"),
            Wanted::Wgpu { name: None } => f.write_str("wgpu"),
            Wanted::Wgpu { name: Some(name) } => write!(f, "wgpu:{name}"),
            Wanted::Icicle { kind, index } => write!(f, "icicle:{kind}:{index}"),
        }
    }
}

/// A UUID of NVIDIA's, or as much of one as tells anything.
fn is_uuid(text: &str) -> bool {
    let rest = ["GPU-", "MIG-"]
        .iter()
        .find_map(|kind| text.strip_prefix(kind));
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    rest.is_some_and(|rest| (1..=36).contains(&rest.len()) && rest.bytes().all(is_part))
}

/// A place on the PCI bus as Linux writes it: `0000:3b:00.0`.
fn is_address(text: &str) -> bool {
    let is_hex = |part: &str, len: std::ops::RangeInclusive<usize>| {
        len.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let [domain, bus, device, function] = parts[..] else {
        return false;
    };
    is_hex(domain, 4..=8)
        && is_hex(bus, 2..=2)
        && is_hex(device, 2..=2)
        && is_hex(function, 1..=1)
        && text.matches('.').count() == 1
        && text.rfind('.') > text.rfind(':')
}

/// More devices than any box has.
const INDEX_MAX: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use caldera_kernels::{Around, Site};

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in [
            "cpu",
            "cuda:1",
            "cuda:GPU-8a2c41f0-5b1e-4c0d-9f6e-1d2c3b4a5f60",
            "cuda:GPU-8a",
            "cuda:MIG-8a2c41f0-5b1e-4c0d-9f6e-1d2c3b4a5f60",
            "cuda:0000:3B:00.0",
            "wgpu",
            "wgpu:RTX 4090",
            "wgpu:0000:3b:00.0",
            "icicle:CUDA:0",
            "icicle:CUDA-PQC:12",
        ] {
            let wanted: Wanted = name.parse().unwrap();
            assert_eq!(wanted.to_string(), name);
        }
        for name in [
            "",
            "CPU",
            "gpu",
            "cuda",
            "cuda:x",
            "cuda:-1",
            "cuda:GPU-",
            "cuda:TPU-8a2c",
            "cuda:GPU-8a2x",
            "cuda:3b:00.0",
            "cuda:0000.3b:00:0",
            "cuda:0000:3b:00.0.1",
            "wgpu:",
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
    fn several_devices_are_chosen_each_once() {
        let choose = |names: &str| {
            let names: Vec<String> = names.split(',').map(str::to_owned).collect();
            choose(&names).map(|wanted| wanted.len())
        };
        assert_eq!(choose("cpu"), Ok(1));
        assert_eq!(choose("wgpu,icicle:CUDA:1"), Ok(2));
        assert!(choose("icicle:CUDA:0,icicle:CUDA:1").is_err());
        assert!(choose("wgpu,wgpu").is_err());
        assert!(choose("cpu,").is_err());
    }

    #[test]
    fn a_device_that_is_not_there_is_named_with_the_reason() {
        let folder = std::env::temp_dir().join("caldera-devices-no-icicle");
        let options = Options {
            icicle_folder: folder.clone(),
            ..Options::new(Duration::from_millis(2), 1)
        };
        let wanted = ["icicle:CUDA:3".parse().unwrap()];
        let error = open(&wanted, &options).err().unwrap();
        assert_eq!(error.to_string(), "device icicle:CUDA:3");
        let why = std::error::Error::source(&error).unwrap().to_string();
        let expected = format!(
            "ICICLE: no libicicle_device.so in {} or its lib",
            folder.display()
        );
        assert_eq!(why, expected);
        for names in [&[][..], &[Wanted::Cpu]] {
            assert_eq!(open(names, &options).unwrap().info().kind, "cpu");
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn what_devices_may_take_holds_for_wgpu() {
        let options = Options::new(Duration::from_millis(2), 1);
        let config = wgpu_config(None, &options);
        assert_eq!((config.patience, config.memory), (PATIENCE, None));
        let options = Options {
            patience: Duration::from_millis(250),
            device_bytes: 1 << 30,
            ..options
        };
        let config = wgpu_config(None, &options);
        assert_eq!(config.patience, options.patience);
        assert_eq!(config.memory, Some(1 << 30));
    }

    #[test]
    fn one_gpu_by_two_names_is_refused() {
        let options = Options::new(Duration::from_millis(2), 1);
        let named = |name: &str, pci: Option<&str>, uuid: Option<&str>| {
            let site = Site {
                uuid: uuid.map(str::to_owned),
                memory: None,
                pci: pci.map(str::to_owned),
            };
            let quantum = |_: &'static str, quantum: &mut dyn FnMut() -> _| quantum();
            let inner = CpuDevice::new(options.cpu);
            let device: Arc<dyn Device> = Around::at(site, inner, Arc::new(quantum));
            (name.parse().unwrap(), device)
        };
        let at = |name: &str, pci| named(name, pci, None);
        let joined = |others| join(CpuDevice::new(options.cpu), others, &options).map(|_| ());
        let (here, there) = (Some("0000:3b:00.0"), Some("0000:af:00.0"));
        joined(vec![at("cuda:0", here), at("wgpu:A Card", there)]).unwrap();
        // Two instances of a card are two.
        let instance = |uuid| named(&format!("cuda:{uuid}"), here, Some(uuid));
        joined(vec![instance("MIG-1a"), instance("MIG-2b")]).unwrap();
        assert!(joined(vec![instance("GPU-1a"), instance("GPU-2b")]).is_err());
        // What no driver says anything of may be anything.
        joined(vec![at("wgpu:llvmpipe", None), at("wgpu:lavapipe", None)]).unwrap();
        let twice = vec![
            at("cuda:0", here),
            at("cuda:1", there),
            at("wgpu", Some("0000:3B:00.0")),
        ];
        let error = joined(twice).unwrap_err().to_string();
        let expected = "device wgpu: it is the one at 0000:3B:00.0 on the PCI bus, as cuda:0 is";
        assert!(error.starts_with(expected), "{error}");
        // Emulations lie nowhere.
        let own = |name| named(name, None, Some("6d657361-3232"));
        let twice = vec![own("wgpu:llvmpipe"), own("wgpu:LLVM 15")];
        let error = joined(twice).unwrap_err().to_string();
        let expected = "device wgpu:LLVM 15: it is the one called 6d657361-3232, as wgpu:llvmpipe";
        assert!(error.starts_with(expected), "{error}");
        let other = named("wgpu:LLVM 15", None, Some("6d657361-3233"));
        joined(vec![own("wgpu:llvmpipe"), other]).unwrap();
    }
}
