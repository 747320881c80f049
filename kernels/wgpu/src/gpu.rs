//! The adapter, and what every kernel needs of it: buffers, pipelines, transfers, and the one way
//! of running a slice of work to its fence.
//!
//! Whatever goes wrong in the driver comes back later and elsewhere: wgpu reports validation
//! errors and lost devices to callbacks, and panics when it waits for a device that is lost. All of
//! that is kept in one place, which is looked at after each fence; from then on everything is
//! refused with [`DeviceError::Lost`], and wgpu is asked for nothing more.
//!
//! Vectors hold secrets, and so does what is computed from them: buffers of the kind [`Secret`]
//! are overwritten with zeros when they are dropped, and so are the four buffers through which data
//! comes and goes, each time. Two go each way, so that the host fills or empties one while the device
//! copies the other.
//!
//! wgpu fills a buffer with zeros where it is first used, which for a gigabyte is many times a quantum and
//! would be taken for the kernel's own time. So large ones are filled when they are made, piece by piece,
//! with the queue free for others in between.
//!
//! What all buffers take is counted, and refused beyond a limit: a driver that runs out of memory
//! where it is used, not where it is asked for, takes the device with it.

use std::collections::HashMap;
use std::future::Future;
use std::ops::{Deref, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use caldera_kernels::{DeviceError, Group, Software};

use crate::formulas;
use crate::generate::Variant;
use crate::pace::Pace;
use crate::shaders::{Kernel, Over};
use crate::{Open, WgpuConfig};

/// An opened adapter.
pub(crate) struct Gpu {
    pub(crate) name: String,
    /// Its address on the PCI bus, if the driver tells it.
    pub(crate) pci: Option<String>,
    /// What its driver calls this one and no other.
    pub(crate) uuid: Option<String>,
    /// What may be used of memory, if anybody says.
    pub(crate) memory: Option<u64>,
    used: Arc<AtomicU64>,
    /// Adapter and driver, for what is kept on disk.
    pub(crate) identity: String,
    pub(crate) driver: Software,
    pub(crate) quantum: Duration,
    /// The largest part of a buffer that can be bound, in bytes.
    pub(crate) binding: u64,
    pub(crate) has_int64: bool,
    largest: u64,
    patience: Duration,
    checked: bool,
    /// What a submission takes that does nothing.
    overhead: Duration,
    /// What times of the host's are counted from.
    opened: Instant,
    clock: Option<Timestamps>,
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// [`wgpu::Device::poll`], but for tests.
    pub(crate) poll: Poll,
    lost: Arc<Mutex<Option<String>>>,
    /// Held while something is on the queue, so that what is timed is that and nothing else, and
    /// that nobody's patience is spent on what others have there.
    turn: Mutex<()>,
    transfers: Mutex<Transfers>,
    pipelines: Mutex<HashMap<(Kernel, Over, Variant), Arc<Pipeline>>>,
    programs: Mutex<HashMap<Group, Arc<Memory>>>,
}

/// How it is waited for what is on the queue.
pub(crate) type Poll = Box<
    dyn Fn(&wgpu::Device, wgpu::PollType) -> Result<wgpu::PollStatus, wgpu::PollError>
        + Send
        + Sync,
>;

/// A kernel as the driver has it, and what it has been seen to cost.
pub(crate) struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    pace: Mutex<Pace>,
    /// Whether it has run: some drivers compile when it first does.
    warm: AtomicBool,
    /// Workgroups that have run.
    #[cfg(test)]
    ran: std::sync::atomic::AtomicU64,
}

impl Pipeline {
    pub(crate) fn pace(&self) -> Pace {
        *lock(&self.pace)
    }

    pub(crate) fn set_pace(&self, pace: Pace) {
        *lock(&self.pace) = pace;
    }

    #[cfg(test)]
    pub(crate) fn ran(&self) -> u64 {
        self.ran.load(Ordering::Relaxed)
    }

    /// Whether it has run.
    pub(crate) fn is_warm(&self) -> bool {
        self.warm.load(Ordering::Relaxed)
    }

    pub(crate) fn set_warm(&self) {
        self.warm.store(true, Ordering::Relaxed);
    }
}

/// The device's own clock, at the beginning and the end of a submission.
struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    /// Mapped while it is read.
    read: wgpu::Buffer,
    /// Nanoseconds of a tick.
    period: f64,
    shift: Mutex<Shift>,
}

/// What lies between a device's clock and the host's: a device begins after it was told to, and has ended before the
/// host hears of it, and each submission says so much of it, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shift {
    least: f64,
    most: f64,
}

impl Shift {
    const UNKNOWN: Self = Self {
        least: f64::NEG_INFINITY,
        most: f64::INFINITY,
    };

    /// When, by the host's clock, the device began that ran from `ticks.start` to `ticks.end` by its own within
    /// `span` of the host's.
    fn place(&mut self, ticks: &Range<f64>, span: &Range<f64>) -> f64 {
        let (least, most) = (span.start - ticks.start, span.end - ticks.end);
        let (closer, nearer) = (self.least.max(least), self.most.min(most));
        // Two clocks drift apart, and one may begin anew: then what was known holds no more.
        *self = if closer <= nearer {
            Self {
                least: closer,
                most: nearer,
            }
        } else {
            Self { least, most }
        };
        ticks.start + (self.least + self.most) / 2.0
    }
}

/// When silicon computed, by the host's clock, and how long, by its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Computed {
    pub(crate) begin: Instant,
    pub(crate) span: Duration,
}

impl Timestamps {
    fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: TIMESTAMPS,
                usage,
                mapped_at_creation: false,
            })
        };
        Self {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            read: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            period: f64::from(queue.get_timestamp_period()),
            shift: Mutex::new(Shift::UNKNOWN),
        }
    }
}

/// Bytes of two.
const TIMESTAMPS: u64 = 16;

/// Where data comes and goes, in turns.
struct Transfers {
    /// Mapped whenever nobody uses them.
    up: [wgpu::Buffer; 2],
    down: [wgpu::Buffer; 2],
}

/// Bytes of each transfer.
const TRANSFER: usize = 1 << 22;
/// Bytes that are cleared at a time, of one buffer: half a millisecond on a card that writes
/// 128 GB a second.
pub(crate) const CLEAR: u64 = 64 << 20;
/// As much is cleared in no time, wherever that happens.
const LITTLE: u64 = 1 << 20;
/// Of what a kernel binds when it runs over nothing: more than any writes then.
const NOTHING: u64 = 4096;

/// A part of a buffer that a kernel binds, in bytes.
pub(crate) struct Part<'a> {
    pub(crate) buffer: &'a wgpu::Buffer,
    pub(crate) range: Range<u64>,
}

impl<'a> Part<'a> {
    pub(crate) fn all(buffer: &'a wgpu::Buffer) -> Self {
        Self {
            buffer,
            range: 0..buffer.size(),
        }
    }
}

/// Words of a job's parameters, at most.
pub(crate) const JOB_WORDS: usize = 16;
/// Where the next job's parameters stand: the alignment that every adapter takes.
pub(crate) const JOB_STRIDE: u64 = 256;
/// Bindings begin at multiples of it; every adapter takes that.
pub(crate) const ALIGNMENT: u64 = 256;

/// One kernel over some workgroups.
pub(crate) struct Dispatch<'a> {
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) bind: &'a wgpu::BindGroup,
    /// Which of the plan's jobs.
    pub(crate) job: u32,
    pub(crate) groups: u32,
}

/// Something to put on the queue.
pub(crate) enum Command<'a> {
    Dispatch(Dispatch<'a>),
    Clear(&'a wgpu::Buffer, Range<u64>),
}

/// A buffer, which counts as long as it is there.
pub(crate) struct Memory {
    buffer: wgpu::Buffer,
    bytes: u64,
    used: Arc<AtomicU64>,
}

impl Deref for Memory {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes of a card's own memory, its largest heap, as Vulkan tells and wgpu does not.
fn own_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    use wgpu::DeviceType::{DiscreteGpu, VirtualGpu};
    if !matches!(adapter.get_info().device_type, DiscreteGpu | VirtualGpu) {
        return None;
    }
    // SAFETY: it is asked what it has, while it is there.
    #[allow(unsafe_code)]
    let properties = unsafe {
        let adapter = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = adapter.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(adapter.raw_physical_device())
    };
    let heaps = properties.memory_heaps_as_slice().iter();
    let own = heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0);
    own.map(|heap| heap.size).max()
}

/// VK_MEMORY_HEAP_DEVICE_LOCAL_BIT.
const DEVICE_LOCAL: u32 = 1;

/// What the driver calls this device wherever it is plugged in, as Vulkan tells and wgpu does not. NVIDIA's
/// is the one that its own tools and CUDA know; an emulation's is its version's, the same for all names
/// that it is opened by.
fn own_uuid(adapter: &wgpu::Adapter) -> Option<String> {
    let mut own = ash::vk::PhysicalDeviceIDProperties::default();
    let mut all = ash::vk::PhysicalDeviceProperties2::default().push_next(&mut own);
    // SAFETY: it is asked what it is, while it is there; wgpu takes no device that is older than these
    // questions.
    #[allow(unsafe_code)]
    unsafe {
        let adapter = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = adapter.shared_instance().raw_instance();
        instance.get_physical_device_properties2(adapter.raw_physical_device(), &mut all);
    }
    let vendor = all.properties.vendor_id;
    uuid_text(vendor, own.device_uuid)
}

fn uuid_text(vendor: u32, uuid: [u8; 16]) -> Option<String> {
    if uuid == [0; 16] {
        return None;
    }
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-");
    Some(if vendor == NVIDIA {
        format!("GPU-{parts}")
    } else {
        parts
    })
}

/// Its number on the PCI bus.
const NVIDIA: u32 = 0x10de;

/// What an adapter is chosen by.
#[derive(Debug, Clone)]
struct There {
    name: String,
    pci: Option<String>,
    kind: wgpu::DeviceType,
}

impl There {
    fn of(info: &wgpu::AdapterInfo) -> Self {
        Self {
            name: info.name.clone(),
            pci: Some(info.device_pci_bus_id.clone()).filter(|address| !address.is_empty()),
            kind: info.device_type,
        }
    }

    /// What a person would choose: a card before what is built in, that before an emulation.
    fn rank(&self) -> u32 {
        match self.kind {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        }
    }

    /// Cards of one kind are told apart by where they lie.
    fn is_called(&self, name: &str) -> bool {
        let lies_there = |pci: &String| pci.eq_ignore_ascii_case(name);
        self.name.contains(name) || self.pci.as_ref().is_some_and(lies_there)
    }
}

/// The best adapter, or the best of that name. What emulates a GPU takes the place of one only
/// where it is named.
fn choose(there: &[There], wanted: Option<&str>) -> Result<usize, Open> {
    let is_wanted = |it: &There| match wanted {
        Some(name) => it.is_called(name),
        None => it.kind != wgpu::DeviceType::Cpu,
    };
    let fitting = there.iter().enumerate().filter(|(_, it)| is_wanted(it));
    let best = fitting.min_by_key(|(_, it)| it.rank());
    best.map(|(place, _)| place).ok_or_else(|| {
        let found: Vec<String> = there
            .iter()
            .map(|it| match &it.pci {
                Some(pci) => format!("{} at {pci}", it.name),
                None => it.name.clone(),
            })
            .collect();
        let found = found.join(", ");
        match wanted {
            _ if there.is_empty() => Open::NoDriver,
            Some(name) => Open::NotThere {
                name: name.to_owned(),
                found,
            },
            None => Open::Emulated { found },
        }
    })
}

/// What else may be to blame where no GPU is found.
fn why(error: Open, instance: &wgpu::Instance) -> Open {
    // SAFETY: nothing is done with it.
    #[allow(unsafe_code)]
    let has_loader = unsafe { instance.as_hal::<wgpu::hal::api::Vulkan>() }.is_some();
    let nodes = ["/dev", "/dev/dri"]
        .map(std::fs::read_dir)
        .into_iter()
        .flatten();
    let nodes = nodes.flatten().flatten().map(|entry| entry.path());
    blame(error, has_loader, nodes, |node| {
        let node = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(node);
        node.map(|_| ())
    })
}

/// Without Vulkan's loader nothing is found, and what may not be opened is not found either.
fn blame(
    error: Open,
    has_loader: bool,
    nodes: impl Iterator<Item = PathBuf>,
    open: impl Fn(&Path) -> std::io::Result<()>,
) -> Open {
    if !has_loader {
        return Open::NoLibrary;
    }
    let is_gpu = |node: &PathBuf| {
        let name = node.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| {
            name.starts_with("renderD") || name == "nvidiactl" || name == "nvidia0"
        })
    };
    let refused = |node: PathBuf| match open(&node) {
        Err(source) if source.kind() == std::io::ErrorKind::PermissionDenied => Some(node),
        _ => None,
    };
    match nodes.filter(is_gpu).find_map(refused) {
        Some(node) => Open::NotAllowed { node },
        None => error,
    }
}

impl Gpu {
    pub(crate) fn open(config: &WgpuConfig) -> Result<Arc<Self>, Open> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::VULKAN;
        let instance = wgpu::Instance::new(descriptor);
        let mut adapters = ready(instance.enumerate_adapters(wgpu::Backends::VULKAN));
        let there: Vec<There> = adapters
            .iter()
            .map(|it| There::of(&it.get_info()))
            .collect();
        let place =
            choose(&there, config.adapter.as_deref()).map_err(|error| why(error, &instance))?;
        let adapter = adapters.swap_remove(place);
        let limits = [own_memory(&adapter), config.memory];
        let memory = limits.into_iter().flatten().min();
        let info = adapter.get_info();
        let limits = adapter.limits();
        let has_int64 = adapter.features().contains(wgpu::Features::SHADER_INT64);
        let mut wanted = wgpu::Features::SHADER_INT64;
        if config.timestamps {
            wanted |= wgpu::Features::TIMESTAMP_QUERY;
        }
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("caldera"),
            required_features: adapter.features() & wanted,
            required_limits: limits.clone(),
            ..Default::default()
        });
        let (device, queue) = ready(request).map_err(|error| Open::Refused {
            name: info.name.clone(),
            why: error.to_string(),
        })?;
        let lost = Arc::new(Mutex::new(None));
        let note = {
            let lost = lost.clone();
            move |why: String| {
                lock(&lost).get_or_insert(why);
            }
        };
        let note_error = note.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            note_error(error.to_string());
        }));
        device.set_device_lost_callback(move |reason, message| {
            // A device that we let go is not lost.
            if reason != wgpu::DeviceLostReason::Destroyed {
                note(message);
            }
        });
        let both = |usage, mapped_at_creation| {
            [0; 2].map(|_| {
                device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("transfer"),
                    size: TRANSFER as u64,
                    usage,
                    mapped_at_creation,
                })
            })
        };
        let transfers = Transfers {
            up: both(
                wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
                true,
            ),
            down: both(
                wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                false,
            ),
        };
        let binding = limits.max_storage_buffer_binding_size;
        let has_clock = device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let mut gpu = Self {
            clock: has_clock.then(|| Timestamps::new(&device, &queue)),
            name: info.name.clone(),
            pci: There::of(&info).pci,
            uuid: own_uuid(&adapter),
            memory,
            used: Arc::new(AtomicU64::new(4 * TRANSFER as u64)),
            identity: format!(
                "{} {:04x}:{:04x} {} {}",
                info.name, info.vendor, info.device, info.driver, info.driver_info
            ),
            driver: Software {
                name: info.driver.clone(),
                version: info.driver_info.clone(),
            },
            quantum: config.quantum,
            // Shaders count words of what they bind in 32 bits.
            binding: binding.min(config.binding_max).min(u64::from(u32::MAX)) / ALIGNMENT
                * ALIGNMENT,
            has_int64,
            largest: limits.max_buffer_size,
            patience: config.patience,
            checked: config.checked,
            overhead: Duration::ZERO,
            opened: Instant::now(),
            device,
            queue,
            poll: Box::new(|device, what| device.poll(what)),
            lost,
            turn: Mutex::default(),
            transfers: Mutex::new(transfers),
            pipelines: Mutex::default(),
            programs: Mutex::default(),
        };
        let mut overhead = Duration::MAX;
        for _ in 0..4 {
            let took = gpu.submit(&[], None).map_err(|error| Open::Refused {
                name: info.name.clone(),
                why: error.to_string(),
            })?;
            overhead = overhead.min(took);
        }
        gpu.overhead = overhead;
        Ok(Arc::new(gpu))
    }

    /// Whether the device still stands.
    pub(crate) fn check(&self) -> Result<(), DeviceError> {
        match &*lock(&self.lost) {
            None => Ok(()),
            Some(why) => Err(DeviceError::Lost {
                device: self.name.clone(),
                why: why.clone(),
            }),
        }
    }

    /// A buffer of zeros for kernels to use.
    pub(crate) fn buffer(&self, what: &'static str, bytes: u64) -> Result<Memory, DeviceError> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        self.allocate(what, bytes, usage)
    }

    fn allocate(
        &self,
        what: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Memory, DeviceError> {
        self.check()?;
        let bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        let no_memory = DeviceError::Memory {
            what,
            bytes: bytes as usize,
        };
        if bytes > self.largest {
            return Err(no_memory);
        }
        // Only the sum matters.
        let reserved = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                let used = used.checked_add(bytes)?;
                (used <= self.memory.unwrap_or(u64::MAX)).then_some(used)
            });
        if reserved.is_err() {
            return Err(no_memory);
        }
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let memory = Memory {
            buffer: self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(what),
                size: bytes,
                usage,
                mapped_at_creation: false,
            }),
            bytes,
            used: self.used.clone(),
        };
        match ready(scope.pop()) {
            None => Ok(memory),
            Some(_) => Err(no_memory),
        }
    }

    /// The same for what must not stay behind.
    pub(crate) fn secret(
        self: &Arc<Self>,
        what: &'static str,
        bytes: u64,
    ) -> Result<Secret, DeviceError> {
        let buffer = self.buffer(what, bytes)?;
        if buffer.size() > LITTLE {
            self.clear(&buffer)?;
        }
        Ok(Secret {
            buffer,
            gpu: self.clone(),
        })
    }

    /// Fills a buffer with zeros, in pieces that are waited for each: what others have to do finds the queue free
    /// in between, and nobody's kernels are thought to have taken so long.
    fn clear(&self, buffer: &wgpu::Buffer) -> Result<(), DeviceError> {
        let mut from = 0;
        while from < buffer.size() {
            let bytes = CLEAR.min(buffer.size() - from);
            let _turn = self.turn()?;
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.clear_buffer(buffer, from, Some(bytes));
            self.fence(encoder, self.patience)?;
            from += bytes;
        }
        Ok(())
    }

    /// Where the parameters of a plan's jobs go.
    pub(crate) fn jobs(&self, count: usize) -> Result<Memory, DeviceError> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        self.allocate("jobs", count as u64 * JOB_STRIDE, usage)
    }

    pub(crate) fn pipeline(
        &self,
        kernel: Kernel,
        over: Over,
        variant: Variant,
    ) -> Result<Arc<Pipeline>, DeviceError> {
        let key = (kernel, over, variant);
        if let Some(pipeline) = lock(&self.pipelines).get(&key) {
            return Ok(pipeline.clone());
        }
        let text = kernel.text(over, variant);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.section()),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        };
        let module = if self.checked {
            self.device.create_shader_module(descriptor)
        } else {
            // SAFETY: the texts are our own, in `wgsl/` and `generate.rs`: their loops are counted,
            // and all indices come from jobs that are made to fit what they bind, or from the
            // counting sort of digits. The suite runs the same texts with all checks as well.
            #[allow(unsafe_code)]
            unsafe {
                self.device.create_shader_module_trusted(
                    descriptor,
                    wgpu::ShaderRuntimeChecks::unchecked(),
                )
            }
        };
        let mut entries = vec![wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: true,
                min_binding_size: None,
            },
            count: None,
        }];
        for binding in 1..=kernel.bindings() as u32 {
            entries.push(wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    // One buffer may be bound twice, which only this kind may be.
                    ty: wgpu::BufferBindingType::Storage { read_only: false },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            });
        }
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            });
        let pipeline_layout = self
            .device
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
        let pipeline = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(kernel.section()),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            });
        self.check()?;
        let pipeline = Arc::new(Pipeline {
            pipeline,
            layout,
            pace: Mutex::new(Pace::NEW),
            warm: AtomicBool::new(false),
            #[cfg(test)]
            ran: Default::default(),
        });
        Ok(lock(&self.pipelines).entry(key).or_insert(pipeline).clone())
    }

    /// Compiles kernels and runs each once over nothing, for some drivers compile when a kernel first runs. Takes
    /// seconds where they have not been compiled on this machine before.
    pub(crate) fn warm(
        &self,
        kernels: &[(Kernel, Over)],
        variant: Variant,
    ) -> Result<(), DeviceError> {
        let nothing = self.buffer("nothing", NOTHING)?;
        let jobs = self.jobs(1)?;
        for &(kernel, over) in kernels {
            let pipeline = self.pipeline(kernel, over, variant)?;
            if pipeline.is_warm() {
                continue;
            }
            // A job of no threads: each kernel leaves at once, or writes a zero to the first place.
            let parts: Vec<Part<'_>> = (0..kernel.bindings())
                .map(|_| Part::all(&nothing))
                .collect();
            let bind = self.bind(&pipeline, &jobs, &parts)?;
            let command = Command::Dispatch(Dispatch {
                pipeline: &pipeline,
                bind: &bind,
                job: 0,
                groups: 1,
            });
            let jobs = Some((&*jobs, &[[0; JOB_WORDS]][..]));
            self.within(&[command], jobs, WARM_PATIENCE)?;
        }
        Ok(())
    }

    /// All that there are.
    #[cfg(test)]
    pub(crate) fn pipelines(&self) -> Vec<Arc<Pipeline>> {
        lock(&self.pipelines).values().cloned().collect()
    }

    /// The formulas' instructions for the points of a group, which are the same on all curves.
    pub(crate) fn program(&self, group: Group) -> Result<Arc<Memory>, DeviceError> {
        if let Some(program) = lock(&self.programs).get(&group) {
            return Ok(program.clone());
        }
        let words = formulas::code(group);
        let buffer = self.buffer("programs", 4 * words.len() as u64)?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(&buffer, 0, &bytes)?;
        Ok(lock(&self.programs)
            .entry(group)
            .or_insert(Arc::new(buffer))
            .clone())
    }

    pub(crate) fn bind(
        &self,
        pipeline: &Pipeline,
        jobs: &wgpu::Buffer,
        parts: &[Part<'_>],
    ) -> Result<wgpu::BindGroup, DeviceError> {
        let job = wgpu::BufferBinding {
            buffer: jobs,
            offset: 0,
            size: wgpu::BufferSize::new(4 * JOB_WORDS as u64),
        };
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(job),
        }];
        for (i, part) in parts.iter().enumerate() {
            entries.push(wgpu::BindGroupEntry {
                binding: i as u32 + 1,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: part.buffer,
                    offset: part.range.start,
                    size: wgpu::BufferSize::new(part.range.end - part.range.start),
                }),
            });
        }
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        self.check()?;
        Ok(group)
    }

    /// Puts commands on the queue, with the words of their jobs, and waits for the fence. Says how
    /// long that took beyond what an empty submission takes.
    pub(crate) fn submit(
        &self,
        commands: &[Command<'_>],
        jobs: Option<(&wgpu::Buffer, &[[u32; JOB_WORDS]])>,
    ) -> Result<Duration, DeviceError> {
        self.time(commands, jobs).map(|(took, _)| took)
    }

    /// Whether the device's own clock is read.
    pub(crate) fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// The same, and when and how long its kernels ran by the device's own clock, if that is read.
    pub(crate) fn time(
        &self,
        commands: &[Command<'_>],
        jobs: Option<(&wgpu::Buffer, &[[u32; JOB_WORDS]])>,
    ) -> Result<(Duration, Option<Computed>), DeviceError> {
        self.within(commands, jobs, COLD_PATIENCE)
    }

    /// The same, waiting so long at least for kernels that have never run.
    fn within(
        &self,
        commands: &[Command<'_>],
        jobs: Option<(&wgpu::Buffer, &[[u32; JOB_WORDS]])>,
        cold: Duration,
    ) -> Result<(Duration, Option<Computed>), DeviceError> {
        let _turn = self.turn()?;
        let start = Instant::now();
        if let Some((buffer, jobs)) = jobs {
            let mut bytes = vec![0; jobs.len() * JOB_STRIDE as usize];
            for (place, words) in bytes.chunks_exact_mut(JOB_STRIDE as usize).zip(jobs) {
                for (place, word) in place.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                    *place = word.to_le_bytes();
                }
            }
            self.queue.write_buffer(buffer, 0, &bytes);
        }
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let is_dispatch = |command: &Command<'_>| matches!(command, Command::Dispatch(_));
        let (first, last) = (
            commands.iter().position(is_dispatch),
            commands.iter().rposition(is_dispatch),
        );
        let clock = self.clock.as_ref().filter(|_| first.is_some());
        for (at, command) in commands.iter().enumerate() {
            match command {
                Command::Dispatch(dispatch) => {
                    let ends = [(first, 0), (last, 1)];
                    let [begin, end] = ends.map(|(end, index)| (end == Some(at)).then_some(index));
                    let writes = clock.filter(|_| begin.is_some() || end.is_some());
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: None,
                        timestamp_writes: writes.map(|clock| wgpu::ComputePassTimestampWrites {
                            query_set: &clock.queries,
                            beginning_of_pass_write_index: begin,
                            end_of_pass_write_index: end,
                        }),
                    });
                    pass.set_pipeline(&dispatch.pipeline.pipeline);
                    pass.set_bind_group(0, dispatch.bind, &[dispatch.job * JOB_STRIDE as u32]);
                    pass.dispatch_workgroups(dispatch.groups, 1, 1);
                    #[cfg(test)]
                    {
                        let groups = u64::from(dispatch.groups);
                        dispatch.pipeline.ran.fetch_add(groups, Ordering::Relaxed);
                    }
                }
                Command::Clear(buffer, range) => {
                    let bytes = range.end - range.start;
                    encoder.clear_buffer(buffer, range.start, Some(bytes));
                }
            }
        }
        if let Some(clock) = clock {
            encoder.resolve_query_set(&clock.queries, 0..2, &clock.resolved, 0);
            encoder.copy_buffer_to_buffer(&clock.resolved, 0, &clock.read, 0, TIMESTAMPS);
        }
        // Each kernel that has never run may be compiled now.
        let pipelines = || {
            commands.iter().filter_map(|command| match command {
                Command::Dispatch(dispatch) => Some(dispatch.pipeline),
                Command::Clear(..) => None,
            })
        };
        let patience = match pipelines().all(Pipeline::is_warm) {
            true => self.patience,
            false => self.patience.max(cold),
        };
        let begin = Instant::now();
        let index = self.queue.submit([encoder.finish()]);
        if let Some(clock) = clock {
            self.map(&clock.read, wgpu::MapMode::Read);
        }
        self.wait("a fence", Some(index), patience)?;
        let end = Instant::now();
        pipelines().for_each(Pipeline::set_warm);
        let took = (end - start).saturating_sub(self.overhead);
        let computed = clock.map(|clock| self.computed(clock, begin, end));
        Ok((took, computed.transpose()?))
    }

    /// What lies between the two timestamps of the last submission, which the host made at `told` and had heard the
    /// end of at `heard`.
    fn computed(
        &self,
        clock: &Timestamps,
        told: Instant,
        heard: Instant,
    ) -> Result<Computed, DeviceError> {
        let [begin, end] = match clock.read.get_mapped_range(0..TIMESTAMPS) {
            Ok(view) => [0, 8].map(|at| {
                let mut word = [0; 8];
                word.copy_from_slice(&view[at..at + 8]);
                u64::from_le_bytes(word)
            }),
            Err(error) => return Err(self.unmapped(&error)),
        };
        clock.read.unmap();
        let ns = |ticks: u64| ticks as f64 * clock.period;
        let ticks = ns(begin)..ns(end.max(begin));
        let since = |at: Instant| at.saturating_duration_since(self.opened).as_nanos() as f64;
        let begin = lock(&clock.shift).place(&ticks, &(since(told)..since(heard)));
        Ok(Computed {
            begin: self.opened + Duration::from_nanos(begin.max(0.0) as u64),
            span: Duration::from_nanos((ticks.end - ticks.start) as u64),
        })
    }

    /// The queue for oneself. Whoever waited for it behind what did not end need not wait again.
    fn turn(&self) -> Result<MutexGuard<'_, ()>, DeviceError> {
        let turn = lock(&self.turn);
        self.check()?;
        Ok(turn)
    }

    /// Submits and waits.
    fn fence(&self, encoder: wgpu::CommandEncoder, patience: Duration) -> Result<(), DeviceError> {
        let index = self.queue.submit([encoder.finish()]);
        self.wait("a fence", Some(index), patience)
    }

    /// Waits for a submission, or for all that there is. Of a device that is lost wgpu says so by a
    /// panic.
    fn wait(
        &self,
        what: &str,
        submission_index: Option<wgpu::SubmissionIndex>,
        patience: Duration,
    ) -> Result<(), DeviceError> {
        let poll = || {
            (self.poll)(
                &self.device,
                wgpu::PollType::Wait {
                    submission_index,
                    timeout: Some(patience),
                },
            )
        };
        // What a panic leaves half done within wgpu is met by nobody: nothing more is asked of it.
        let why = match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Ok(_)) => return self.check(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
                (Some(text), _) => text.trim().to_owned(),
                (_, Some(text)) => (*text).to_owned(),
                _ => "wgpu panicked and did not say why".to_owned(),
            },
        };
        Err(self.lose(format!("waiting for {what}: {why}")))
    }

    /// From now on the device is lost, if it was not before; says why.
    fn lose(&self, why: String) -> DeviceError {
        DeviceError::Lost {
            device: self.name.clone(),
            why: lock(&self.lost).get_or_insert(why).clone(),
        }
    }

    /// Copies bytes into a buffer; whole words at whole words.
    pub(crate) fn write(
        &self,
        buffer: &wgpu::Buffer,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        let transfers = lock(&self.transfers);
        let up = &transfers.up;
        let mut chunks = bytes.chunks(TRANSFER).zip(up.iter().cycle()).peekable();
        if let Some((chunk, up)) = chunks.peek() {
            self.fill(up, chunk)?;
        }
        let mut to = at;
        while let Some((chunk, up)) = chunks.next() {
            up.unmap();
            let turn = self.turn()?;
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(up, 0, buffer, to, chunk.len() as u64);
            let copied = self.queue.submit([encoder.finish()]);
            self.map(up, wgpu::MapMode::Write);
            // While the device copies this one.
            if let Some((chunk, up)) = chunks.peek() {
                self.fill(up, chunk)?;
            }
            self.wait("a transfer", Some(copied), self.patience)?;
            drop(turn);
            to += chunk.len() as u64;
        }
        for (chunk, up) in bytes.chunks(TRANSFER).zip(up) {
            self.wipe(up, chunk.len())?;
        }
        Ok(())
    }

    fn fill(&self, up: &wgpu::Buffer, bytes: &[u8]) -> Result<(), DeviceError> {
        let range = 0..bytes.len().next_multiple_of(8) as u64;
        match up.get_mapped_range_mut(range) {
            Ok(mut view) => {
                view.slice(..bytes.len()).copy_from_slice(bytes);
                Ok(())
            }
            Err(error) => Err(self.unmapped(&error)),
        }
    }

    fn wipe(&self, up: &wgpu::Buffer, bytes: usize) -> Result<(), DeviceError> {
        let range = 0..bytes.next_multiple_of(8) as u64;
        match up.get_mapped_range_mut(range) {
            Ok(mut view) => {
                view.slice(..).fill(0);
                Ok(())
            }
            Err(error) => Err(self.unmapped(&error)),
        }
    }

    fn unmapped(&self, error: &dyn std::fmt::Display) -> DeviceError {
        self.lose(format!("a transfer's buffer is not mapped: {error}"))
    }

    /// Asks for a buffer to be mapped once the device is done with it, which whoever waits for that has.
    fn map(&self, buffer: &wgpu::Buffer, mode: wgpu::MapMode) {
        let lost = self.lost.clone();
        buffer.map_async(mode, .., move |mapped| {
            if let Err(error) = mapped {
                lock(&lost).get_or_insert(format!("mapping a transfer's buffer: {error}"));
            }
        });
    }

    /// Copies bytes out of a buffer; whole words from whole words.
    pub(crate) fn read(
        &self,
        buffer: &wgpu::Buffer,
        at: u64,
        bytes: &mut [u8],
    ) -> Result<(), DeviceError> {
        let transfers = lock(&self.transfers);
        let down = &transfers.down;
        let used: Vec<u64> = bytes
            .chunks(TRANSFER)
            .zip(down)
            .map(|(chunk, _)| chunk.len() as u64)
            .collect();
        let mut from = at;
        let mut before: Option<(&mut [u8], &wgpu::Buffer)> = None;
        for (chunk, down) in bytes.chunks_mut(TRANSFER).zip(down.iter().cycle()) {
            let turn = self.turn()?;
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, from, down, 0, chunk.len() as u64);
            let copied = self.queue.submit([encoder.finish()]);
            self.map(down, wgpu::MapMode::Read);
            // While the device copies this one.
            if let Some((chunk, down)) = before.take() {
                self.empty(down, chunk)?;
            }
            self.wait("a transfer", Some(copied), self.patience)?;
            drop(turn);
            from += chunk.len() as u64;
            before = Some((chunk, down));
        }
        if let Some((chunk, down)) = before {
            self.empty(down, chunk)?;
        }
        let _turn = self.turn()?;
        let mut encoder = self.device.create_command_encoder(&Default::default());
        for (bytes, down) in used.into_iter().zip(down) {
            encoder.clear_buffer(down, 0, Some(bytes.next_multiple_of(8)));
        }
        // Whatever comes next on the queue comes after it.
        self.queue.submit([encoder.finish()]);
        Ok(())
    }

    fn empty(&self, down: &wgpu::Buffer, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let range = 0..bytes.len().next_multiple_of(8) as u64;
        match down.get_mapped_range(range) {
            Ok(view) => bytes.copy_from_slice(&view[..bytes.len()]),
            Err(error) => return Err(self.unmapped(&error)),
        }
        down.unmap();
        Ok(())
    }
}

/// How long a fence is waited for behind which a kernel runs for the first time, at least: some
/// drivers compile shaders then, which takes seconds.
const COLD_PATIENCE: Duration = Duration::from_secs(60);
/// The same where nobody waits for it but who brings a key.
const WARM_PATIENCE: Duration = Duration::from_secs(600);

impl Drop for Gpu {
    /// wgpu waits without bound for a queue that is dropped, and panics if that ends otherwise than
    /// well. One that does not come to its end is left as it is, once for each device that is lost.
    fn drop(&mut self) {
        let settled = self
            .check()
            .and_then(|()| self.wait("the end", None, self.patience));
        if settled.is_err() {
            std::mem::forget((self.device.clone(), self.queue.clone()));
        }
    }
}

/// A buffer that is overwritten with zeros when it is dropped.
pub(crate) struct Secret {
    pub(crate) buffer: Memory,
    gpu: Arc<Gpu>,
}

impl Drop for Secret {
    fn drop(&mut self) {
        // What a lost device holds is out of reach.
        if self.gpu.check().is_err() {
            return;
        }
        if self.buffer.size() > LITTLE {
            // A device that does not do it is lost.
            let _ = self.gpu.clear(&self.buffer);
            return;
        }
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        encoder.clear_buffer(&self.buffer, 0, None);
        // The queue keeps the buffer until it has done so.
        self.gpu.queue.submit([encoder.finish()]);
    }
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a future of wgpu's comes to; on native platforms all of those used here are ready at once.
fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return output;
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Choice;

    fn gpu() -> Arc<Gpu> {
        let config = WgpuConfig {
            adapter: Some("llvmpipe".to_owned()),
            checked: true,
            choice: Choice::Fixed(Variant::Portable),
            ..WgpuConfig::default()
        };
        Gpu::open(&config).expect("a Vulkan driver, as `.ci/tools vulkan` brings it")
    }

    fn is_lost<T>(result: Result<T, DeviceError>, expected: &str) {
        match result {
            Err(DeviceError::Lost { why, .. }) if why.contains(expected) => {}
            Err(other) => panic!("expected a loss with {expected:?}, got {other}"),
            Ok(_) => panic!("expected a loss with {expected:?}, got a result"),
        }
    }

    #[test]
    fn an_emulation_is_used_only_where_it_is_named() {
        let card = |name: &str, pci: &str, kind| There {
            name: name.to_owned(),
            pci: Some(pci.to_owned()).filter(|pci| !pci.is_empty()),
            kind,
        };
        let emulation = card(
            "llvmpipe (LLVM 15.0.6, 256 bits)",
            "",
            wgpu::DeviceType::Cpu,
        );
        let built_in = card("A Chip", "0000:00:02.0", wgpu::DeviceType::IntegratedGpu);
        let [first, second] = ["0000:3b:00.0", "0000:af:00.0"]
            .map(|pci| card("A Card", pci, wgpu::DeviceType::DiscreteGpu));
        let all = [emulation, built_in, first, second];
        let chosen = |there: &[There], name| choose(there, name).map_err(|error| error.to_string());
        assert_eq!(chosen(&all, None), Ok(2));
        assert_eq!(chosen(&all[..2], None), Ok(1));
        assert_eq!(chosen(&all, Some("llvmpipe")), Ok(0));
        assert_eq!(chosen(&all, Some("Card")), Ok(2));
        assert_eq!(chosen(&all, Some("0000:AF:00.0")), Ok(3));
        let error = chosen(&all[..1], None).expect_err("there is no GPU");
        assert!(
            error.contains("no GPU") && error.contains("llvmpipe (LLVM"),
            "{error}"
        );
        let error = chosen(&all, Some("0000:af:00.1")).expect_err("nothing lies there");
        assert!(error.contains("A Card at 0000:af:00.0"), "{error}");
        assert!(matches!(choose(&[], Some("llvmpipe")), Err(Open::NoDriver)));
    }

    #[test]
    fn who_finds_no_gpu_hears_whether_library_driver_or_permission_is_to_blame() {
        let nodes = || {
            ["/dev/null", "/dev/dri/card0", "/dev/dri/renderD128"]
                .map(PathBuf::from)
                .into_iter()
        };
        let denied = |_: &Path| Err(std::io::ErrorKind::PermissionDenied.into());
        let opened = |_: &Path| Ok(());
        assert!(matches!(
            blame(Open::NoDriver, false, nodes(), denied),
            Open::NoLibrary
        ));
        assert!(matches!(
            blame(Open::NoDriver, true, nodes(), opened),
            Open::NoDriver
        ));
        match blame(Open::NoDriver, true, nodes(), denied) {
            Open::NotAllowed { node } => assert_eq!(node, Path::new("/dev/dri/renderD128")),
            other => panic!("expected a node that may not be opened, got {other}"),
        }
    }

    #[test]
    fn secrets_are_overwritten() {
        let gpu = gpu();
        let secret = gpu.secret("test", 1000).expect("room");
        let buffer = secret.buffer.clone();
        gpu.write(&buffer, 0, &[0xa5; 1000]).expect("it fits");
        let mut bytes = [0; 1000];
        gpu.read(&buffer, 0, &mut bytes).expect("it fits");
        assert_eq!(bytes, [0xa5; 1000]);
        drop(secret);
        gpu.read(&buffer, 0, &mut bytes).expect("it fits");
        assert_eq!(bytes, [0; 1000]);
        // What it came through.
        assert_eq!(left_in_transfers(&gpu), [0; 4]);
    }

    /// How many bytes of each transfer's buffer are not zero: up, then down.
    fn left_in_transfers(gpu: &Gpu) -> [usize; 4] {
        let transfers = lock(&gpu.transfers);
        let Transfers { up, down } = &*transfers;
        for down in down {
            gpu.map(down, wgpu::MapMode::Read);
        }
        gpu.wait("a mapping", None, gpu.patience)
            .expect("it stands");
        let [first, second] = up;
        let [third, fourth] = down;
        let left = [first, second, third, fourth].map(|buffer| {
            let view = buffer.get_mapped_range(..).expect("it is mapped");
            view.iter().filter(|&&byte| byte != 0).count()
        });
        for down in down {
            down.unmap();
        }
        left
    }

    /// Larger than the four buffers together, and neither ends nor begins where they do. While one is
    /// copied another is filled, and nothing stays in any.
    #[test]
    fn what_goes_through_in_pieces_arrives_whole_and_leaves_nothing_behind() {
        let gpu = gpu();
        let (bytes, at) = (4 * TRANSFER + 4096, 512);
        let secret = gpu.secret("test", (bytes + 2 * at) as u64).expect("room");
        for count in [bytes, TRANSFER, TRANSFER + 8, 8, 0] {
            let sent: Vec<u8> = (0..count)
                .map(|i| (i as u32).wrapping_mul(0x9e37_79b1) as u8 | 1)
                .collect();
            gpu.write(&secret.buffer, at as u64, &sent)
                .expect("it fits");
            let mut got = vec![0; count];
            gpu.read(&secret.buffer, at as u64, &mut got)
                .expect("it fits");
            assert!(got == sent, "{count} bytes came back otherwise");
            assert_eq!(left_in_transfers(&gpu), [0; 4], "after {count} bytes");
        }
        let mut beside = vec![1; at];
        gpu.read(&secret.buffer, 0, &mut beside).expect("it fits");
        assert_eq!(beside, vec![0; at]);
    }

    /// What wgpu would fill with zeros at its first use, and what is overwritten when it is dropped, goes in
    /// pieces; whoever wants the queue has it in between.
    #[test]
    fn large_secrets_are_zeros_from_the_start_and_at_the_end() {
        let gpu = gpu();
        let bytes = CLEAR + LITTLE + 4096;
        let secret = gpu.secret("test", bytes).expect("room");
        let buffer = secret.buffer.clone();
        let ends = [0, CLEAR - 8, CLEAR, bytes - 8];
        for at in ends {
            let mut read = [1; 8];
            gpu.read(&buffer, at, &mut read).expect("it fits");
            assert_eq!(read, [0; 8], "at {at}");
            gpu.write(&buffer, at, &[0xa5; 8]).expect("it fits");
        }
        drop(secret);
        for at in ends {
            let mut read = [1; 8];
            gpu.read(&buffer, at, &mut read).expect("it fits");
            assert_eq!(read, [0; 8], "at {at}, after it was dropped");
        }
    }

    /// A device that begins 300 after it was told and is heard of 500 late, by a clock that is 10,000 behind.
    #[test]
    fn a_devices_clock_is_placed_between_what_the_host_did() {
        let mut shift = Shift::UNKNOWN;
        let mut place = |begin: f64, span: f64, before: f64, after: f64| {
            let ticks = begin - 10_000.0..begin + span - 10_000.0;
            shift.place(&ticks, &(begin - before..begin + span + after)) - begin
        };
        assert_eq!(place(20_000.0, 1_000.0, 300.0, 500.0), 100.0);
        // One that was told and heard of more closely says more, and what it said stays known.
        assert_eq!(place(30_000.0, 1_000.0, 20.0, 40.0), 10.0);
        assert_eq!(place(40_000.0, 5_000.0, 4_000.0, 9_000.0), 10.0);
        assert_eq!(place(50_000.0, 5_000.0, 30.0, 10.0), -5.0);
        // The clock has begun anew.
        let ticks = 0.0..1_000.0;
        assert_eq!(shift.place(&ticks, &(60_000.0..61_200.0)), 60_100.0);
    }

    #[test]
    fn a_device_has_one_name_whatever_it_is_asked_for_by() {
        let [first, second] = [gpu(), gpu()].map(|gpu| gpu.uuid.clone());
        assert_eq!(first, second);
        assert_eq!(first.map(|uuid| uuid.len()), Some(36));
        let uuid: [u8; 16] = std::array::from_fn(|i| 0xa0 + i as u8);
        let own = "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf";
        assert_eq!(uuid_text(0x1002, uuid).as_deref(), Some(own));
        assert_eq!(uuid_text(NVIDIA, uuid), Some(format!("GPU-{own}")));
        assert_eq!(uuid_text(NVIDIA, [0; 16]), None);
    }

    /// What wgpu refuses, it refuses later and elsewhere; and from then on nothing is believed.
    #[test]
    fn an_error_of_validation_loses_the_device() {
        let gpu = gpu();
        let buffer = gpu.buffer("test", 512).expect("room");
        let pipeline = gpu
            .pipeline(Kernel::MsmScanStarts, Over::Words, Variant::Portable)
            .expect("a good shader");
        let part = Part {
            buffer: &buffer,
            range: 256..1024,
        };
        is_lost(
            gpu.bind(&pipeline, &gpu.jobs(1).expect("room"), &[part]),
            "",
        );
        is_lost(gpu.buffer("test", 512), "");
        is_lost(gpu.write(&buffer, 0, &[0; 8]), "");
        is_lost(gpu.read(&buffer, 0, &mut [0; 8]), "");
        is_lost(gpu.submit(&[], None), "");
    }

    /// A chain of multiplications in so many workgroups.
    fn chain(gpu: &Gpu, groups: u32) -> Result<Duration, DeviceError> {
        let over = Over::Base(caldera_kernels::CurveId::Bn254);
        let pipeline = gpu
            .pipeline(Kernel::Chain, over, Variant::Portable)
            .expect("a good shader");
        let (jobs, buffer) = (
            gpu.jobs(1).expect("room"),
            gpu.buffer("test", 32 << 16).expect("room"),
        );
        let bind = gpu
            .bind(&pipeline, &jobs, &[Part::all(&buffer), Part::all(&buffer)])
            .expect("buffers that fit");
        let mut job = [0; JOB_WORDS];
        job[1..3].copy_from_slice(&[1 << 16, 1 << 10]);
        let command = Command::Dispatch(Dispatch {
            pipeline: &pipeline,
            bind: &bind,
            job: 0,
            groups,
        });
        gpu.submit(&[command], Some((&jobs, &[job])))
    }

    /// Only a kernel that has never run is waited for longer: the driver may compile it.
    #[test]
    fn a_fence_that_does_not_come_loses_the_device() {
        let mut gpu = gpu();
        Arc::get_mut(&mut gpu).expect("nobody else has it").patience = Duration::ZERO;
        chain(&gpu, 1).expect("a kernel that has never run is waited for");
        is_lost(chain(&gpu, 1 << 10), "fence");
        is_lost(gpu.check(), "fence");
        // Nobody waits for its end, which the test would have to be long to see.
        let lost = gpu.lost.clone();
        drop(gpu);
        assert!(Arc::strong_count(&lost) > 1, "wgpu's device was dropped");
    }

    #[test]
    fn a_transfer_that_is_not_where_it_should_be_loses_the_device() {
        let gpu = gpu();
        let buffer = gpu.buffer("test", 512).expect("room");
        lock(&gpu.transfers).up[0].unmap();
        is_lost(gpu.write(&buffer, 0, &[0; 8]), "not mapped");
        is_lost(gpu.read(&buffer, 0, &mut [0; 8]), "not mapped");
    }

    #[test]
    fn a_device_that_stands_is_let_go() {
        let gpu = gpu();
        drop(gpu.secret("test", 1000).expect("room"));
        let lost = gpu.lost.clone();
        drop(gpu);
        assert_eq!(Arc::strong_count(&lost), 1);
    }

    /// So wgpu says that the driver has lost a device: to whoever waits, by a panic.
    #[test]
    fn a_panic_of_wgpus_is_a_loss() {
        let mut gpu = gpu();
        let (buffer, secret) = (gpu.buffer("test", 512), gpu.secret("test", 512));
        drop(secret.expect("room"));
        Arc::get_mut(&mut gpu).expect("nobody else has it").poll =
            Box::new(|_, _| panic!("Error in Device::poll: Parent device is lost"));
        let secret = gpu.secret("test", 512);
        let why = "Parent device is lost";
        is_lost(gpu.write(&buffer.expect("room"), 0, &[0; 8]), why);
        is_lost(gpu.submit(&[], None), why);
        is_lost(gpu.buffer("test", 512), why);
        let lost = gpu.lost.clone();
        drop((secret, gpu));
        assert!(Arc::strong_count(&lost) > 1, "wgpu's device was dropped");
    }
}
