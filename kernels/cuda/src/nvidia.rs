//! NVIDIA's driver as a [`Driver`]: libcuda, loaded when it is wanted.
//!
//! One context, the device's primary one; a stream for launches, and others for memory and copies,
//! so that a witness goes up while another proof computes. Nobody waits for memory to be had or cleared: the other streams
//! do, by an event. Copies go through two pieces of pinned
//! memory in turn, the host working on one while the device does on the other: a *ferry*, of which
//! there is one each way and a third one for what is small, so that the few words which a quantum
//! reads never wait for a key that goes up. A launch stands between two events of the device's clock.
//! Waiting asks, with short sleeps between, and gives up as lost what has not ended within a
//! patience: nothing here waits for a device without end.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use caldera_kernels::{DeviceError, Site, Software};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;
use zeroize::Zeroize as _;

use crate::bundle::{ARCHITECTURE_MIN, Bundle, BundleError, Shape};
use crate::driver::{Driver, Fence, Kernel};
use crate::nvrtc::{Nvrtc, NvrtcError, shapes};
use crate::sources;

/// Which GPU, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NvidiaConfig {
    /// Its number as nvidia-smi counts (by address on the PCI bus) among those that the driver sees; or its UUID, or as much of that
    /// as no other has; or its address.
    pub name: String,
    /// Bytes of its memory that may be used at most.
    pub memory: usize,
    /// After what time without an answer it is given up as lost.
    pub patience: Duration,
}

/// Why a GPU cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NvidiaError {
    /// The driver is not installed.
    #[error("no NVIDIA driver: libcuda.so.1 cannot be loaded")]
    NoLibrary,
    /// The driver is there and this user may not use it.
    #[error("no permission for the NVIDIA driver: {}: {error}", path.display())]
    Permission {
        /// The file that could not be opened.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The driver is older than the code that is shipped.
    #[error(
        "the NVIDIA driver is too old: it runs CUDA {}.{}, and {}.{} is needed (driver 580 or later)",
        got / 1000, got % 1000 / 10, expected / 1000, expected % 1000 / 10
    )]
    TooOld {
        /// What is needed: 1000 x major + 10 x minor.
        expected: i32,
        /// What the driver runs.
        got: i32,
    },
    /// What the driver needs of the system is missing.
    #[error(
        "the NVIDIA driver cannot start (error {code}): there is no {}; where its kernel module is loaded, \
         `nvidia-modprobe -c0 -u` as root makes it",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// What the driver said, as CUDA numbers errors.
        code: u32,
    },
    /// The NVSwitches of a machine with many GPUs are not set up.
    #[error(
        "the NVIDIA driver is not ready (error 802): its Fabric Manager has not set up the NVSwitches; \
         `systemctl status nvidia-fabricmanager` says why, and its version must be the driver's"
    )]
    NotReady,
    /// The library is not the kernel module's.
    #[error(
        "the NVIDIA driver's library and its kernel module have different versions (error 803): \
         one was updated and the module not loaded anew"
    )]
    Mismatch,
    /// The driver sees no such device.
    #[error("no NVIDIA device {wanted}: the driver sees {}", list(seen))]
    NoDevice {
        /// What was asked for.
        wanted: String,
        /// What there is.
        seen: Vec<String>,
    },
    /// More than one device has a UUID that begins so.
    #[error("NVIDIA device {wanted} may be any of {}", list(seen))]
    Several {
        /// What was asked for.
        wanted: String,
        /// Which ones.
        seen: Vec<String>,
    },
    /// No compiled kernels that it can run.
    #[error(transparent)]
    Kernels(#[from] BundleError),
    /// A developer's compiler failed.
    #[error(transparent)]
    Compiler(#[from] NvrtcError),
    /// The driver refused.
    #[error("NVIDIA driver: {call}: {error}")]
    Driver {
        /// What was asked of it.
        call: &'static str,
        /// What it said.
        error: DriverError,
    },
}

fn list(seen: &[String]) -> String {
    match seen {
        [] => "none".to_owned(),
        _ => seen.join(", "),
    }
}

/// How many GPUs the driver sees; none where there is no driver that could be used.
pub fn count() -> usize {
    // SAFETY: as in `Nvidia::open`.
    if !unsafe { sys::is_culib_present() } || result::init().is_err() {
        return 0;
    }
    let count = result::device::get_count().unwrap_or(0);
    usize::try_from(count).unwrap_or(0)
}

/// One GPU.
pub struct Nvidia {
    name: String,
    site: Site,
    software: Vec<Software>,
    uuid: String,
    architecture: u32,
    multiprocessors: u32,
    /// What may be allocated.
    memory: usize,
    device: sys::CUdevice,
    context: sys::CUcontext,
    patience: Duration,
    /// Why it is lost, once it is: nothing is asked of it again, for each answer might take as long.
    lost: OnceLock<String>,
    launches: sys::CUstream,
    code: Code,
    /// Bytes that are allocated.
    used: AtomicUsize,
    next_fence: AtomicU64,
    /// Those of launches that have not been waited for, by fence.
    flights: Mutex<HashMap<u64, Events>>,
    /// Those that can be used again.
    events: Mutex<Vec<Events>>,
    functions: Mutex<Functions>,
    /// Getting, clearing and giving back memory.
    memory_calls: Mutex<Calls>,
    up: Mutex<Ferry>,
    down: Mutex<Ferry>,
    small: Mutex<Ferry>,
    question: Mutex<Question>,
}

// SAFETY: the handles are the driver's, which takes them on any thread whose current context is
// theirs: each call makes it so first.
unsafe impl Send for Nvidia {}
// SAFETY: as above; what is not the driver's stands behind locks and atomics.
unsafe impl Sync for Nvidia {}

/// Where code comes from.
enum Code {
    Shipped(Bundle),
    /// A developer's compiler.
    Compiled(Nvrtc),
}

#[derive(Default)]
struct Functions {
    modules: HashMap<String, (sys::CUmodule, Vec<Shape>)>,
    functions: Vec<(sys::CUfunction, Shape)>,
    known: HashMap<(String, String), Kernel>,
}

/// Before and after a launch.
struct Events {
    start: sys::CUevent,
    end: sys::CUevent,
}

/// A stream of its own, and the event behind what was asked of it.
struct Calls {
    stream: sys::CUstream,
    done: sys::CUevent,
    /// Whether something was asked since that event was last recorded.
    is_new: bool,
    /// Streams that have been told to wait for it since.
    told: Vec<sys::CUstream>,
}

/// Whether the card answers: an event on a stream of its own. One that was reached long ago says nothing of
/// today, and the driver may tell it without the card; this one has the time on it, which is the card's.
struct Question {
    stream: sys::CUstream,
    event: sys::CUevent,
    asked: Option<Instant>,
}

/// A GPU as the driver tells of it.
struct Card {
    device: sys::CUdevice,
    name: String,
    uuid: String,
    /// Domain, bus and device on the PCI bus.
    place: [i32; 3],
}

/// What copies go through.
struct Ferry {
    stream: sys::CUstream,
    /// Pinned memory, so many bytes each.
    pieces: [*mut u8; 2],
    bytes: usize,
    /// When the device has done with each.
    done: [sys::CUevent; 2],
}

impl Calls {
    const NONE: Self = Self {
        stream: std::ptr::null_mut(),
        done: std::ptr::null_mut(),
        is_new: false,
        told: Vec::new(),
    };

    /// In place, so that `drop` finds what was made before a failure. The context is current.
    fn open(&mut self) -> Result<(), DriverError> {
        self.stream = stream()?;
        self.done = event()?;
        self.is_new = true;
        Ok(())
    }
}

impl Question {
    const NONE: Self = Self {
        stream: std::ptr::null_mut(),
        event: std::ptr::null_mut(),
        asked: None,
    };

    /// As [`Calls::open`].
    fn open(&mut self) -> Result<(), DriverError> {
        self.stream = stream()?;
        self.event = event()?;
        Ok(())
    }
}

impl Card {
    /// All that the driver sees, as nvidia-smi counts: the driver itself begins with the fastest.
    fn all() -> Result<Vec<Self>, NvidiaError> {
        let count = result::device::get_count().map_err(refused("number of devices"))?;
        let mut cards = Vec::new();
        for ordinal in 0..count {
            let device = result::device::get(ordinal).map_err(refused("a device by its number"))?;
            let name = result::device::get_name(device).map_err(refused("a device's name"))?;
            let uuid = result::device::get_uuid(device).map_err(refused("a device's UUID"))?;
            use sys::CUdevice_attribute_enum as Attribute;
            cards.push(Self {
                device,
                uuid: uuid_text(&uuid, name.contains(" MIG ")),
                name,
                place: [
                    attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?,
                    attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)?,
                    attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)?,
                ],
            });
        }
        // Instances of one card stay in the driver's order.
        cards.sort_by_key(|card| card.place);
        Ok(cards)
    }

    /// The one that is meant, of all.
    fn find(wanted: &str) -> Result<Self, NvidiaError> {
        let all: Vec<_> = Self::all()?.into_iter().enumerate().collect();
        let described = |cards: &[(usize, Card)]| {
            let text = |(i, card): &(usize, Card)| format!("{i} ({} at {})", card.uuid, card.pci());
            cards.iter().map(text).collect()
        };
        let seen = described(&all);
        let is_meant = |(i, card): &(usize, Card)| card.is_called(wanted, *i);
        let mut meant: Vec<_> = all.into_iter().filter(is_meant).collect();
        let wanted = wanted.to_owned();
        if meant.len() > 1 {
            let seen = described(&meant);
            return Err(NvidiaError::Several { wanted, seen });
        }
        let one = meant.pop().map(|(_, card)| card);
        one.ok_or_else(|| match obstacle(&open_file) {
            // One that may not be opened is not seen.
            Some(Obstacle::Denied(path, error)) => NvidiaError::Permission { path, error },
            _ => NvidiaError::NoDevice { wanted, seen },
        })
    }

    fn is_called(&self, wanted: &str, index: usize) -> bool {
        let begins = |text: &str| {
            let start = text.get(..wanted.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(wanted))
        };
        let has_kind = wanted.len() > 4;
        wanted.parse() == Ok(index)
            || self.pci().eq_ignore_ascii_case(wanted)
            || has_kind && begins(&self.uuid)
    }

    /// A GPU is function 0 of its slot.
    fn pci(&self) -> String {
        let [domain, bus, device] = self.place;
        format!("{domain:04x}:{bus:02x}:{device:02x}.0")
    }
}

impl Ferry {
    const fn none(bytes: usize) -> Self {
        Self {
            stream: std::ptr::null_mut(),
            pieces: [std::ptr::null_mut(); 2],
            bytes,
            done: [std::ptr::null_mut(); 2],
        }
    }

    /// As [`Calls::open`].
    fn open(&mut self) -> Result<(), DriverError> {
        self.stream = stream()?;
        for (piece, done) in self.pieces.iter_mut().zip(&mut self.done) {
            // SAFETY: the context is current; given back in `Nvidia::drop`.
            *piece = unsafe { result::malloc_host(self.bytes, 0) }?.cast();
            // SAFETY: so many bytes, which nobody else knows of.
            unsafe { piece.write_bytes(0, self.bytes) };
            *done = event()?;
        }
        Ok(())
    }

    /// The first bytes of a piece.
    ///
    /// # Safety
    /// The device has done with the piece, and `len` is within it.
    unsafe fn piece(&mut self, i: usize, len: usize) -> &mut [u8] {
        // SAFETY: pinned memory of so many bytes that was cleared at first, and is this ferry's alone.
        unsafe { std::slice::from_raw_parts_mut(self.pieces[i % 2], len) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn own<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}

fn refused(call: &'static str) -> impl Fn(DriverError) -> NvidiaError {
    move |error| NvidiaError::Driver { call, error }
}

impl Nvidia {
    /// Opens a GPU, with the shipped kernels, or those that a developer's compiler makes if
    /// [`COMPILER`] names it.
    ///
    /// # Errors
    /// If there is no such GPU to be used; the error says why.
    pub fn open(config: NvidiaConfig) -> Result<Arc<Self>, NvidiaError> {
        // SAFETY: loads libraries by NVIDIA's names, and nothing else of this program's does.
        if !unsafe { sys::is_culib_present() } {
            return Err(NvidiaError::NoLibrary);
        }
        let mut version = 0;
        // SAFETY: a place for a number. This call is in every driver, and is allowed before all others.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(refused("its version"))?;
        if version < VERSION_MIN {
            return Err(NvidiaError::TooOld {
                expected: VERSION_MIN,
                got: version,
            });
        }
        if let Err(error) = result::init() {
            return Err(why_not(error, &config.name, &open_file));
        }
        let card = Card::find(&config.name)?;
        let device = card.device;
        use sys::CUdevice_attribute_enum as Attribute;
        let major = attribute(
            device,
            Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
        )?;
        let minor = attribute(
            device,
            Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )?;
        let architecture = (10 * major + minor) as u32;
        let multiprocessors =
            attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let mut software = vec![Software {
            name: "CUDA".to_owned(),
            version: format!("{}.{}", version / 1000, version % 1000 / 10),
        }];
        // The driver's own version, where the kernel tells it.
        let kernel = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
        let line = kernel
            .lines()
            .find_map(|it| it.strip_prefix("NVRM version:"));
        software.extend(line.map(|line| Software {
            name: "NVRM".to_owned(),
            version: line.split_whitespace().collect::<Vec<_>>().join(" "),
        }));
        let code = match std::env::var_os(COMPILER) {
            Some(path) => Code::Compiled(Nvrtc::load(&PathBuf::from(path))?),
            None => Code::Shipped(Bundle::find(&sources::digest())?),
        };
        if architecture < ARCHITECTURE_MIN {
            return Err(BundleError::Architecture { got: architecture }.into());
        }
        // SAFETY: the device was found above; released in `drop`.
        let context = unsafe { result::primary_ctx::retain(device) }
            .map_err(refused("a device's context"))?;
        // From here on `drop` gives back what there is.
        let mut this = Self {
            site: Site {
                uuid: Some(card.uuid.clone()),
                memory: None,
                pci: Some(card.pci()),
            },
            name: card.name,
            software,
            uuid: card.uuid,
            architecture,
            multiprocessors: multiprocessors.max(1) as u32,
            memory: config.memory,
            device,
            context,
            patience: config.patience,
            lost: OnceLock::new(),
            launches: std::ptr::null_mut(),
            code,
            used: AtomicUsize::new(0),
            next_fence: AtomicU64::new(0),
            flights: Mutex::default(),
            events: Mutex::default(),
            functions: Mutex::default(),
            question: Mutex::new(Question::NONE),
            memory_calls: Mutex::new(Calls::NONE),
            up: Mutex::new(Ferry::none(PIECE)),
            down: Mutex::new(Ferry::none(PIECE)),
            small: Mutex::new(Ferry::none(SMALL)),
        };
        this.prepare()
            .map_err(refused("streams and pinned memory"))?;
        Ok(Arc::new(this))
    }

    fn prepare(&mut self) -> Result<(), DriverError> {
        self.make_current()?;
        self.launches = stream()?;
        own(&mut self.memory_calls).open()?;
        for ferry in [&mut self.up, &mut self.down, &mut self.small] {
            own(ferry).open()?;
        }
        own(&mut self.question).open()?;
        // What the driver takes for itself later is not to be met as the end of its memory.
        let (free, _) = result::mem_get_info()?;
        self.memory = self.memory.min(free - free / RESERVE);
        self.site.memory = u64::try_from(self.memory).ok();
        // Memory that is given back stays with this process's pool, so that getting some again
        // costs nothing.
        // SAFETY: the device was found by `open`, and the attribute is a number of 64 bits.
        unsafe {
            let pool = result::device::get_default_mem_pool(self.device)?;
            let mut all = u64::MAX;
            result::mem_pool::set_attribute(
                pool,
                sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                (&raw mut all).cast(),
            )
        }
    }

    /// The device's UUID, as NVIDIA's tools print it.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Its architecture: 10 x major + minor.
    pub fn architecture(&self) -> u32 {
        self.architecture
    }

    fn make_current(&self) -> Result<(), DriverError> {
        // SAFETY: the context was retained by `open` and is released in `drop`.
        unsafe { result::ctx::set_current(self.context) }
    }

    fn lost(&self, why: impl std::fmt::Display) -> DeviceError {
        DeviceError::Lost {
            device: self.name.clone(),
            why: self.lost.get_or_init(|| why.to_string()).clone(),
        }
    }

    fn is_not_lost(&self) -> Result<(), DeviceError> {
        match self.lost.get() {
            Some(why) => Err(self.lost(why)),
            None => Ok(()),
        }
    }

    /// One call of the driver's, any failure of which means that the device is lost.
    fn call<T>(
        &self,
        what: &str,
        call: impl FnOnce() -> Result<T, DriverError>,
    ) -> Result<T, DeviceError> {
        self.is_not_lost()?;
        self.make_current()
            .and_then(|()| call())
            .map_err(|error| self.lost(format!("{what}: {error}")))
    }

    /// Whether an event that was recorded has been reached.
    fn has_reached(&self, event: sys::CUevent) -> Result<bool, DeviceError> {
        self.is_not_lost()?;
        // SAFETY: an event of ours that has been recorded.
        let state = self
            .make_current()
            .and_then(|()| unsafe { result::event::query(event) });
        match state {
            Ok(()) => Ok(true),
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            Err(error) => Err(self.lost(error)),
        }
    }

    /// Waits for an event, but not for ever.
    fn wait_for(&self, event: sys::CUevent) -> Result<(), DeviceError> {
        let start = Instant::now();
        be_punctual();
        while !self.has_reached(event)? {
            let waited = start.elapsed();
            if waited > self.patience {
                return Err(self.lost(format!("no answer in {waited:?}")));
            }
            if waited > SPIN {
                // An eighth late at most, and seldom enough that others have the core meanwhile.
                std::thread::sleep((waited / 8).clamp(NAP_MIN, NAP_MAX));
            } else {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    /// Asks something of the stream for memory, and waits for nothing: see [`Nvidia::after_memory`].
    fn memory_call<T>(
        &self,
        what: &str,
        call: impl FnOnce(sys::CUstream) -> Result<T, DriverError>,
    ) -> Result<Result<T, DriverError>, DeviceError> {
        let mut calls = lock(&self.memory_calls);
        self.call(what, || Ok(()))?;
        let got = call(calls.stream);
        calls.is_new = true;
        Ok(got)
    }

    /// What comes on another stream from now on comes after all that was asked of memory.
    fn after_memory(&self, stream: sys::CUstream) -> Result<(), DeviceError> {
        let mut calls = lock(&self.memory_calls);
        if calls.is_new {
            // SAFETY: an event and a stream of ours.
            self.call("order of streams", || unsafe {
                result::event::record(calls.done, calls.stream)
            })?;
            calls.is_new = false;
            calls.told.clear();
        }
        if calls.told.contains(&stream) {
            return Ok(());
        }
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: a stream of ours, and an event that has been recorded.
        self.call("order of streams", || unsafe {
            result::stream::wait_event(stream, calls.done, flags)
        })?;
        calls.told.push(stream);
        Ok(())
    }

    /// The ferry for so many bytes.
    fn ferry<'a>(&'a self, large: &'a Mutex<Ferry>, bytes: usize) -> MutexGuard<'a, Ferry> {
        let ferry = lock(if bytes <= SMALL { &self.small } else { large });
        // A device that refuses is lost, as the copy will find.
        let _ = self.after_memory(ferry.stream);
        ferry
    }

    /// The module of a unit.
    fn load(&self, unit: &str) -> Result<(sys::CUmodule, Vec<Shape>), DeviceError> {
        let why = |error: &dyn std::fmt::Display| self.lost(format!("{unit}: {error}"));
        let units = sources::units();
        let source = units
            .iter()
            .find(|known| known.name == unit)
            .ok_or_else(|| why(&"there is no such unit"))?;
        let (image, shapes) = match &self.code {
            Code::Shipped(bundle) => {
                let (image, _) = bundle
                    .image(unit, self.architecture)
                    .map_err(|error| why(&error))?;
                (image, bundle.shapes(unit).to_vec())
            }
            Code::Compiled(nvrtc) => {
                let mut ptx = nvrtc
                    .compile(source, ARCHITECTURE_MIN)
                    .map_err(|error| why(&error))?;
                let shapes = shapes(&String::from_utf8_lossy(&ptx));
                ptx.push(0);
                (ptx, shapes)
            }
        };
        // SAFETY: code whose digest is that of what was compiled, or PTX with a zero at its end.
        let module = self.call(unit, || unsafe {
            result::module::load_data(image.as_ptr().cast())
        })?;
        Ok((module, shapes))
    }

    /// A launch that the driver may refuse.
    fn try_launch(
        &self,
        kernel: Kernel,
        blocks: u32,
        words: &[u64],
    ) -> Result<Result<Fence, DriverError>, DeviceError> {
        let (function, expected) = {
            let functions = lock(&self.functions);
            let (function, shape) = &functions.functions[kernel.id];
            (*function, shape.words as usize)
        };
        assert_eq!(words.len(), expected, "words of a kernel's argument");
        let free = lock(&self.events).pop();
        let events = match free {
            Some(events) => events,
            None => self.call("events", || {
                Ok(Events {
                    start: event()?,
                    end: event()?,
                })
            })?,
        };
        let mut parameters = [words.as_ptr().cast_mut().cast::<c_void>()];
        self.after_memory(self.launches)?;
        // SAFETY: events and a stream of ours.
        self.call("launch", || unsafe {
            result::event::record(events.start, self.launches)
        })?;
        // SAFETY: a function of a loaded module, whose one parameter is as many words as there are
        // and is copied before the call returns; the addresses among them are of memory that stays
        // until the fence was waited for.
        let launched = unsafe {
            result::launch_kernel(
                function,
                (blocks, 1, 1),
                (kernel.threads, 1, 1),
                0,
                self.launches,
                &mut parameters,
            )
        };
        if let Err(error) = launched {
            lock(&self.events).push(events);
            return Ok(Err(error));
        }
        self.call("launch", || unsafe {
            result::event::record(events.end, self.launches)
        })?;
        // Only uniqueness matters.
        let fence = self.next_fence.fetch_add(1, Ordering::Relaxed);
        lock(&self.flights).insert(fence, events);
        Ok(Ok(Fence(fence)))
    }
}

/// The reason behind a driver that does not start.
fn why_not(
    error: DriverError,
    wanted: &str,
    open: &dyn Fn(&Path) -> std::io::Result<()>,
) -> NvidiaError {
    match error.0 {
        sys::CUresult::CUDA_ERROR_SYSTEM_NOT_READY => return NvidiaError::NotReady,
        sys::CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => return NvidiaError::Mismatch,
        _ => {}
    }
    match (obstacle(open), error.0) {
        (Some(Obstacle::Denied(path, error)), _) => NvidiaError::Permission { path, error },
        (Some(Obstacle::Missing(path)), code) => NvidiaError::Missing {
            path,
            code: code as u32,
        },
        (None, sys::CUresult::CUDA_ERROR_NO_DEVICE) => NvidiaError::NoDevice {
            wanted: wanted.to_owned(),
            seen: Vec::new(),
        },
        (None, _) => NvidiaError::Driver {
            call: "its start",
            error,
        },
    }
}

/// What keeps this process from the driver's files.
#[derive(Debug)]
enum Obstacle {
    Denied(PathBuf, std::io::Error),
    Missing(PathBuf),
}

/// Looks at the files that the driver opens: the first one that may not be opened, else the first one that is not there.
fn obstacle(open: &dyn Fn(&Path) -> std::io::Result<()>) -> Option<Obstacle> {
    let mut missing = Vec::new();
    let mut is_card_there = false;
    let common = ["/dev/nvidiactl", "/dev/nvidia-uvm"].map(PathBuf::from);
    let cards = (0..CARDS_MAX).map(|i| PathBuf::from(format!("/dev/nvidia{i}")));
    for (i, path) in common.into_iter().chain(cards).enumerate() {
        match open(&path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Some(Obstacle::Denied(path, error));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if i < 3 {
                    missing.push(path);
                }
            }
            _ => is_card_there |= i >= 2,
        }
    }
    // Cards are numbered with gaps where some are not handed in.
    missing
        .into_iter()
        .find(|path| !is_card_there || path.as_os_str() != "/dev/nvidia0")
        .map(Obstacle::Missing)
}

fn open_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).open(path).map(|_| ())
}

fn attribute(
    device: sys::CUdevice,
    attribute: sys::CUdevice_attribute,
) -> Result<i32, NvidiaError> {
    // SAFETY: a device that the driver has named.
    unsafe { result::device::get_attribute(device, attribute) }
        .map_err(refused("a device's attribute"))
}

/// Lets this thread's sleeps end when they should: Linux lets them last 50 us longer where nobody says otherwise.
fn be_punctual() {
    thread_local! {
        static IS_PUNCTUAL: Cell<bool> = const { Cell::new(false) };
    }
    if !IS_PUNCTUAL.replace(true) {
        // Where it is refused, sleeps are as they were.
        let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
    }
}

fn stream() -> Result<sys::CUstream, DriverError> {
    result::stream::create(result::stream::StreamKind::NonBlocking)
}

fn event() -> Result<sys::CUevent, DriverError> {
    result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)
}

/// As NVIDIA's tools print it; of an instance of a card it is the instance's own.
fn uuid_text(uuid: &sys::CUuuid, is_instance: bool) -> String {
    let hex: Vec<String> = uuid
        .bytes
        .iter()
        .map(|byte| format!("{:02x}", *byte as u8))
        .collect();
    let part = |range: std::ops::Range<usize>| hex[range].concat();
    format!(
        "{}-{}-{}-{}-{}-{}",
        if is_instance { "MIG" } else { "GPU" },
        part(0..4),
        part(4..6),
        part(6..8),
        part(8..10),
        part(10..16)
    )
}

impl Driver for Nvidia {
    fn name(&self) -> &str {
        &self.name
    }

    fn probe(&self) -> Result<(), DeviceError> {
        self.is_not_lost()?;
        // Who has it asks at this very moment.
        let Ok(mut question) = self.question.try_lock() else {
            return Ok(());
        };
        let Question { stream, event, .. } = *question;
        if let Some(asked) = question.asked
            && !self.has_reached(event)?
        {
            let waited = asked.elapsed();
            // Once more: it may be this thread that was away for so long.
            if waited > self.patience && !self.has_reached(event)? {
                return Err(self.lost(format!("no answer in {waited:?}")));
            }
            return Ok(());
        }
        // SAFETY: a stream and an event of ours.
        self.call("whether it is there", || unsafe {
            result::event::record(event, stream)
        })?;
        question.asked = Some(Instant::now());
        Ok(())
    }

    fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    fn site(&self) -> Site {
        self.site.clone()
    }

    fn software(&self) -> Vec<Software> {
        self.software.clone()
    }

    fn allocate(&self, bytes: usize, what: &'static str) -> Result<u64, DeviceError> {
        let full = DeviceError::Memory { what, bytes };
        // Only the sum matters; it never exceeds what is allowed.
        let within = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= self.memory)
            });
        if within.is_err() {
            return Err(full);
        }
        let allocated = self.memory_call("memory", |stream| {
            // SAFETY: a stream of ours; what the memory holds is never read before it is written.
            unsafe { result::malloc_async(stream, bytes) }
        });
        let error = match allocated {
            Ok(Ok(address)) => return Ok(address),
            Ok(Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY))) => full,
            Ok(Err(error)) => self.lost(format!("memory: {error}")),
            Err(lost) => lost,
        };
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        Err(error)
    }

    fn free(&self, address: u64, bytes: usize) {
        let calls = lock(&self.memory_calls);
        // SAFETY: allocated by the above, given back once; launches that use it have been waited for.
        let freed = self.call("memory", || unsafe {
            result::free_async(address, calls.stream)
        });
        // A lost device's memory is gone with it.
        let _ = freed;
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<(), DeviceError> {
        self.memory_call("clearing", |stream| {
            // SAFETY: memory of that many bytes.
            unsafe { result::memset_d8_async(address, 0, bytes, stream) }
        })?
        .map_err(|error| self.lost(format!("clearing: {error}")))
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let mut ferry = self.ferry(&self.up, bytes.len());
        let (stream, done) = (ferry.stream, ferry.done);
        let size = ferry.bytes;
        for (i, chunk) in bytes.chunks(size).enumerate() {
            if i >= 2 {
                self.wait_for(done[i % 2])?;
            }
            // SAFETY: the device has done with the piece, or was not told of it yet.
            let piece = unsafe { ferry.piece(i, chunk.len()) };
            piece.copy_from_slice(chunk);
            let to = address + (i * size) as u64;
            // SAFETY: memory of that many bytes; the piece stays as it is until the event.
            self.call("upload", || unsafe {
                result::memcpy_htod_async(to, piece, stream)?;
                result::event::record(done[i % 2], stream)
            })?;
        }
        let used = bytes.len().div_ceil(size);
        for (i, done) in done.into_iter().enumerate().take(used) {
            self.wait_for(done)?;
            // SAFETY: the device has done with it. It may have been a witness.
            unsafe { ferry.piece(i, bytes.len().min(size)) }.zeroize();
        }
        Ok(())
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let mut ferry = self.ferry(&self.down, bytes.len());
        let (stream, done) = (ferry.stream, ferry.done);
        let size = ferry.bytes;
        let all = bytes.len();
        let mut chunks: Vec<&mut [u8]> = bytes.chunks_mut(size).collect();
        // One piece comes down while the one before is taken out.
        for i in 0..chunks.len() + 1 {
            if i < chunks.len() {
                // SAFETY: the piece before last was taken out below.
                let piece = unsafe { ferry.piece(i, chunks[i].len()) };
                let from = address + (i * size) as u64;
                // SAFETY: memory of that many bytes; nobody touches the piece until the event.
                self.call("download", || unsafe {
                    result::memcpy_dtoh_async(piece, from, stream)?;
                    result::event::record(done[i % 2], stream)
                })?;
            }
            if let Some(before) = i.checked_sub(1) {
                self.wait_for(done[before % 2])?;
                let chunk = &mut *chunks[before];
                // SAFETY: the device has done with it.
                chunk.copy_from_slice(unsafe { ferry.piece(before, chunk.len()) });
            }
        }
        for i in 0..all.div_ceil(size).min(2) {
            // SAFETY: as above. It may have been of a witness.
            unsafe { ferry.piece(i, all.min(size)) }.zeroize();
        }
        Ok(())
    }

    fn kernel(&self, unit: &str, name: &str) -> Result<Kernel, DeviceError> {
        let mut functions = lock(&self.functions);
        let key = (unit.to_owned(), name.to_owned());
        if let Some(&kernel) = functions.known.get(&key) {
            return Ok(kernel);
        }
        if !functions.modules.contains_key(unit) {
            let module = self.load(unit)?;
            functions.modules.insert(unit.to_owned(), module);
        }
        let (module, shapes) = &functions.modules[unit];
        let missing = || self.lost(format!("there is no kernel {name} in {unit}"));
        let shape = shapes
            .iter()
            .find(|shape| shape.name == name)
            .ok_or_else(missing)?
            .clone();
        let symbol = CString::new(name).map_err(|_| missing())?;
        let module = *module;
        // SAFETY: a module that is loaded until `drop`.
        let function = self.call(name, || unsafe {
            result::module::get_function(module, symbol)
        })?;
        let threads = shape.threads;
        // SAFETY: as above.
        let blocks = self.call(name, || unsafe {
            result::occupancy::max_active_block_per_multiprocessor(function, threads as i32, 0)
        })?;
        let kernel = Kernel {
            id: functions.functions.len(),
            threads,
            wave: blocks.max(1) as u32 * self.multiprocessors,
        };
        functions.functions.push((function, shape));
        functions.known.insert(key, kernel);
        Ok(kernel)
    }

    fn settle(&self, kernels: &[Kernel]) -> Result<(), DeviceError> {
        for &kernel in kernels {
            let words = vec![0; lock(&self.functions).functions[kernel.id].1.words as usize];
            let fence = match self.try_launch(kernel, 1, &words)? {
                Ok(fence) => fence,
                Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                    let what = "what threads spill";
                    return Err(DeviceError::Memory { what, bytes: 0 });
                }
                Err(error) => return Err(self.lost(format!("launch: {error}"))),
            };
            self.wait(&fence)?;
        }
        Ok(())
    }

    fn launch(&self, kernel: Kernel, blocks: u32, words: &[u64]) -> Result<Fence, DeviceError> {
        self.try_launch(kernel, blocks, words)?
            .map_err(|error| self.lost(format!("launch: {error}")))
    }

    fn wait(&self, fence: &Fence) -> Result<Duration, DeviceError> {
        let events = lock(&self.flights)
            .remove(&fence.0)
            .expect("each launch is waited for once");
        self.wait_for(events.end)?;
        // SAFETY: both were recorded on one stream, and the later one has passed.
        let milliseconds = self.call("the device's clock", || unsafe {
            result::event::elapsed(events.start, events.end)
        })?;
        lock(&self.events).push(events);
        Ok(Duration::from_secs_f64(
            f64::from(milliseconds.max(0.0)) / 1e3,
        ))
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        // Giving back waits for the device, which a lost one may never answer.
        if self.lost.get().is_some() {
            return;
        }
        // It is not lost, so no failure matters here.
        let _ = self.make_current();
        let free = std::mem::take(&mut *lock(&self.events));
        let flights = std::mem::take(&mut *lock(&self.flights));
        let calls = own(&mut self.memory_calls);
        let (done, stream) = (calls.done, calls.stream);
        // What held secrets is cleared before the memory goes.
        if !done.is_null() {
            // SAFETY: an event and a stream of ours.
            let recorded = self.call("clearing", || unsafe {
                result::event::record(done, stream)
            });
            if recorded.and_then(|()| self.wait_for(done)).is_err() {
                return;
            }
        }
        let question = own(&mut self.question);
        let mut events = vec![done, question.event];
        let mut streams = vec![self.launches, stream, question.stream];
        let mut pieces = Vec::new();
        for ferry in [&mut self.up, &mut self.down, &mut self.small] {
            let ferry = own(ferry);
            events.extend(ferry.done);
            streams.push(ferry.stream);
            pieces.extend(ferry.pieces);
        }
        for pair in free.into_iter().chain(flights.into_values()) {
            events.extend([pair.start, pair.end]);
        }
        // SAFETY: made by this type, given back once, null where they were never made.
        unsafe {
            for event in events.into_iter().filter(|event| !event.is_null()) {
                let _ = result::event::destroy(event);
            }
            for piece in pieces.into_iter().filter(|piece| !piece.is_null()) {
                let _ = result::free_host(piece.cast());
            }
            for (module, _) in lock(&self.functions).modules.values() {
                let _ = result::module::unload(*module);
            }
            for stream in streams.into_iter().filter(|stream| !stream.is_null()) {
                let _ = result::stream::destroy(stream);
            }
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

/// Names a developer's NVRTC, which compiles the kernels at start in the place of the shipped ones.
pub const COMPILER: &str = "CALDERA_CUDA_NVRTC";

/// What the shipped code is made for: CUDA 13.0.
const VERSION_MIN: i32 = 13_000;

/// Pinned memory: large enough that a copy is bound by the bus, small enough to fill in a blink.
const PIECE: usize = 4 << 20;

/// What is copied by itself in a quantum is smaller: lengths, and sums of sets.
const SMALL: usize = 64 << 10;

/// Asking again at once, before sleeping between.
const SPIN: Duration = Duration::from_micros(20);
const NAP_MIN: Duration = Duration::from_micros(5);
const NAP_MAX: Duration = Duration::from_micros(25);

/// How much longer than it was told a thread that waits for the device may sleep.
const TIMER_SLACK_NS: u64 = 1_000;

/// A part of this of the memory that is free at the start is left to the driver.
const RESERVE: usize = 32;

/// More GPUs than any machine has.
const CARDS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// What is true of most machines that run these tests; where a driver is, the next check that
    /// fails must say so, or none.
    #[test]
    fn a_machine_without_a_driver_says_so() {
        let config = NvidiaConfig {
            name: "4711".to_owned(),
            memory: 1 << 30,
            patience: Duration::from_secs(1),
        };
        let error = Nvidia::open(config)
            .map(|_| ())
            .expect_err("no such device");
        // SAFETY: as in `open`.
        let there = unsafe { sys::is_culib_present() };
        match error {
            NvidiaError::NoLibrary => {
                assert!(!there);
                let text = error.to_string();
                assert_eq!(text, "no NVIDIA driver: libcuda.so.1 cannot be loaded");
            }
            NvidiaError::Kernels(_) | NvidiaError::Compiler(_) => panic!("{error}"),
            _ => assert!(there),
        }
    }

    #[test]
    fn a_uuid_reads_as_in_nvidias_tools() {
        let mut uuid = sys::CUuuid { bytes: [0; 16] };
        for (i, byte) in uuid.bytes.iter_mut().enumerate() {
            *byte = (0xa0u8 + i as u8) as _;
        }
        let text = "-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf";
        assert_eq!(uuid_text(&uuid, false), format!("GPU{text}"));
        assert_eq!(uuid_text(&uuid, true), format!("MIG{text}"));
    }

    /// As files of the driver's are there, may be opened, or not.
    #[test]
    fn what_keeps_the_driver_from_starting_is_named() {
        let unknown = DriverError(sys::CUresult::CUDA_ERROR_UNKNOWN);
        let none = DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE);
        let all = &["nvidiactl", "nvidia-uvm", "nvidia0"][..];
        let why = |error, there: &[&str], denied: &[&str]| {
            let open = |path: &Path| {
                let name = path.strip_prefix("/dev").expect("a device's file");
                let is_in = |names: &[&str]| names.iter().any(|it| Path::new(it) == name);
                match (is_in(denied), is_in(there)) {
                    (true, _) => Err(ErrorKind::PermissionDenied.into()),
                    (_, true) => Ok(()),
                    _ => Err(ErrorKind::NotFound.into()),
                }
            };
            why_not(error, "0", &open)
        };
        for (text, error, there, denied) in [
            (
                "no NVIDIA device 0: the driver sees none",
                none,
                all,
                &[][..],
            ),
            (
                "there is no /dev/nvidia-uvm;",
                unknown,
                &["nvidiactl", "nvidia3"],
                &[],
            ),
            (
                "`nvidia-modprobe -c0 -u` as root",
                unknown,
                &["nvidiactl"],
                &[],
            ),
            (
                "there is no /dev/nvidia0;",
                none,
                &["nvidiactl", "nvidia-uvm"],
                &[],
            ),
            (
                "no permission for the NVIDIA driver: /dev/nvidia2:",
                none,
                all,
                &["nvidia2"],
            ),
            (
                "/dev/nvidia-uvm: permission denied",
                unknown,
                &[],
                &["nvidia-uvm"],
            ),
        ] {
            let got = why(error, there, denied).to_string();
            assert!(got.contains(text), "{text}: {got}");
        }
        let not_ready = DriverError(sys::CUresult::CUDA_ERROR_SYSTEM_NOT_READY);
        let got = why(not_ready, all, &[]).to_string();
        assert!(got.contains("nvidia-fabricmanager"), "{got}");
        // What the driver itself says is for where there is one.
        let got = why(unknown, &["nvidiactl", "nvidia-uvm", "nvidia7"], &[]);
        assert!(matches!(got, NvidiaError::Driver { .. }));
    }
}
