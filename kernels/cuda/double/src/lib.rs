//! A `libcuda.so.1` of our own: the part of CUDA's driver API that `caldera_cuda` calls, on the
//! emulation of a GPU. For tests of what talks to NVIDIA's driver, on machines that have none.
//!
//! It does everything as late as the API allows. What is asked of a stream runs when an event of
//! that stream is queried, one operation a query, so pinned memory is read and written long after the
//! call that named it, and a stream that nobody asks about or waits for stands still; but memory that is given back on a stream can be had
//! again on the same one at once. And it is strict: a thread
//! without a context, a handle that is none, memory that is not pinned, or not there yet where a stream stands, an event that
//! was not recorded, launches that are timed together, a launch over memory (or a copy
//! from it, or its end) that something is still on its way to, something left over at the end ends the process with a sentence. It says
//! as little as it may: an event that was reached before the device failed is reached, whoever asks. Semantics are those of the
//! [CUDA driver API](https://docs.nvidia.com/cuda/cuda-driver-api/), stream by stream; errors of the
//! device are sticky, as there.
//!
//! [`VARIABLE`] makes it fail, in the ways that `Fault` lists.

// A C ABI is made of unsafe functions; the SAFETY lines say what this one relies on.
#![allow(unsafe_code)]
// Each function is what NVIDIA documents under its name.
#![allow(missing_docs, non_snake_case)]
#![allow(clippy::missing_safety_doc, clippy::too_many_arguments)]

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use caldera_cuda::bundle::{self, Compiled, PTX};
use caldera_cuda::{Driver, Kernel, sources};
use caldera_cuda_emulation::Emulation;
use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUevent, CUfunction, CUmemPool_attribute,
    CUmemoryPool, CUmodule, CUresult, CUstream, CUuuid,
};

/// Names what goes wrong: `fault` or `fault:number`, several with commas between.
pub const VARIABLE: &str = "CALDERA_CUDA_DOUBLE";

/// Names a file: once it is there, the first device is gone. What is in it says how: if [`QUIET`], no call says so.
pub const GONE: &str = "CALDERA_CUDA_DOUBLE_GONE";

/// The device has fallen off the bus, and the driver has not noticed: it takes what it is asked, and nothing is done.
pub const QUIET: &str = "quiet";

/// What can be made to go wrong; with launches it is the first device that is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fault {
    /// `absent`: the driver finds no device.
    Absent,
    /// `version:N`: it says that it is this old.
    Version(u64),
    /// `memory:BYTES`: a device says that it has so much, and more is refused.
    Memory(u64),
    /// `fail:N`: launch N ends with an error, and the device with it.
    Fail(u64),
    /// `hang:N`: launch N never ends, and nothing else that the device has to do.
    Hang(u64),
    /// `skip:NAME`: launches of the kernel NAME do nothing, and say that all is well.
    Skip(String),
    /// `stall:N`: the first large copy to the device, of more than 1 MiB, stands still until N more launches have run.
    Stall(u64),
    /// `larger:BYTES`: a large copy is one of more than that.
    Larger(u64),
    /// `together:N`: if never so many copies to the device were under way at once, that is a misuse.
    Together(u64),
    /// `flights:N`: more launches that have not been waited for are a misuse.
    Flights(u64),
    /// `devices:N`: so many of them, in place of one.
    Devices(u64),
    /// `shuffled`: the driver's order of them is not that of the bus.
    Shuffled,
    /// `instance`: they are instances of cards.
    Instance,
    /// `not_ready`: the switches between the devices are not set up.
    NotReady,
    /// `wide:N`: launches of more threads, of kernels whose time depends on scalars, are a misuse.
    Wide(u64),
}

fn faults() -> Vec<Fault> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let parse = |word: &str| {
        let (name, number) = word.split_once(':').unwrap_or((word, "0"));
        if name == "skip" {
            return Fault::Skip(number.to_owned());
        }
        let Ok(number) = number.parse() else {
            misuse(&format!("{VARIABLE}: expected a number, got {number:?}"));
        };
        match name {
            "absent" => Fault::Absent,
            "version" => Fault::Version(number),
            "memory" => Fault::Memory(number),
            "fail" => Fault::Fail(number),
            "hang" => Fault::Hang(number),
            "stall" => Fault::Stall(number),
            "larger" => Fault::Larger(number),
            "together" => Fault::Together(number),
            "flights" => Fault::Flights(number),
            "devices" => Fault::Devices(number),
            "shuffled" => Fault::Shuffled,
            "instance" => Fault::Instance,
            "not_ready" => Fault::NotReady,
            "wide" => Fault::Wide(number),
            _ => misuse(&format!("{VARIABLE}: there is no fault {name:?}")),
        }
    };
    text.split(',')
        .filter(|it| !it.is_empty())
        .map(parse)
        .collect()
}

/// The bytes of a bundle whose code this library takes: the names of units.
pub fn bundle() -> Vec<u8> {
    let images = |mut unit: Compiled| {
        let text = format!("{CODE}{}\0", unit.unit);
        unit.images = vec![(ARCHITECTURE, text.clone().into()), (PTX, text.into())];
        unit
    };
    let units: Vec<Compiled> = Emulation::units().into_iter().map(images).collect();
    bundle::write(&sources::digest(), &units)
}

/// A program that uses the API wrongly is not to go on.
fn misuse(what: &str) -> ! {
    eprintln!("caldera-cuda-double: {what}");
    std::process::abort()
}

/// What a stream has to do.
enum Operation {
    Up {
        to: u64,
        from: usize,
        bytes: usize,
    },
    Down {
        to: usize,
        from: u64,
        bytes: usize,
    },
    Clear {
        at: u64,
        bytes: usize,
    },
    Allocate {
        at: u64,
    },
    Free {
        at: u64,
    },
    Launch {
        skipped: bool,
        kernel: Kernel,
        blocks: u32,
        words: Vec<u64>,
    },
    Record {
        event: u64,
        number: u64,
    },
    /// Until that record was reached, on the stream that it is on.
    Wait {
        event: u64,
        number: u64,
        on: u64,
    },
}

#[derive(Default, Clone, Copy)]
struct Event {
    /// The stream that it was last recorded on, if ever.
    stream: Option<u64>,
    /// When that was reached, by the device's clock.
    reached: Option<Duration>,
    /// How often it was recorded, and which of these was the last that was reached.
    number: u64,
    passed: u64,
    /// Whether a stream has been told to wait for the last one: then it may be recorded again at once.
    awaited: bool,
    /// Whether somebody was told that it is not ready yet.
    asked: bool,
}

#[derive(Clone)]
struct Function {
    module: u64,
    name: String,
    kernel: Kernel,
    words: usize,
}

struct World {
    emulation: Arc<Emulation>,
    faults: Vec<Fault>,
    next: u64,
    cards: Vec<Card>,
    /// That whose context the calling thread has.
    current: usize,
    streams: HashMap<u64, Stream>,
    events: HashMap<u64, Event>,
    /// Pinned memory by address.
    pinned: HashMap<usize, Box<[u8]>>,
    /// The devices' memory by address: whose it is, and how much.
    memory: HashMap<u64, (usize, usize)>,
    /// What of it is not there yet where its stream stands.
    fresh: HashSet<u64>,
    modules: HashMap<u64, String>,
    functions: HashMap<u64, Function>,
    clock: Duration,
}

/// One device.
#[derive(Default, Clone)]
struct Card {
    retained: u32,
    launches: u64,
    /// The most copies to the device that were under way at once.
    together: usize,
    /// Bytes that are set aside for what threads spill: grows when a kernel is launched that needs more.
    spilled: usize,
    /// How many launches have to have run before large copies go on.
    stalled: Option<u64>,
    /// The events that were asked for since it hangs.
    hangs: Option<HashSet<u64>>,
    /// What every call says once the device has failed.
    failed: Option<CUresult>,
}

struct Stream {
    card: usize,
    waiting: VecDeque<Operation>,
    has_launched: bool,
    /// Since the last launch.
    records: u32,
}

thread_local! {
    /// The device whose context this thread has.
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

fn world() -> MutexGuard<'static, World> {
    static WORLD: OnceLock<Mutex<World>> = OnceLock::new();
    let make = || {
        Mutex::new(World {
            emulation: Emulation::new(),
            faults: faults(),
            next: 1,
            cards: vec![Card::default(); devices(&faults())],
            current: FIRST,
            streams: HashMap::new(),
            events: HashMap::new(),
            pinned: HashMap::new(),
            memory: HashMap::new(),
            fresh: HashSet::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            clock: Duration::ZERO,
        })
    };
    WORLD
        .get_or_init(make)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// For calls that need a context.
fn within() -> MutexGuard<'static, World> {
    let Some(current) = CURRENT.get() else {
        misuse("a call on a thread that has no context");
    };
    let mut world = world();
    if std::env::var_os(GONE).is_some_and(|path| Path::new(&path).exists()) {
        let path = std::env::var_os(GONE).unwrap_or_default();
        let card = &mut world.cards[FIRST];
        if std::fs::read_to_string(path).is_ok_and(|text| text == QUIET) {
            card.hangs.get_or_insert_default();
        } else {
            card.failed = Some(CUresult::CUDA_ERROR_ECC_UNCORRECTABLE);
        }
    }
    world.current = current;
    world
}

impl World {
    fn handle<T>(&mut self) -> (u64, *mut T) {
        let id = self.next;
        self.next += 1;
        (id, id as usize as *mut T)
    }

    fn fault<T>(&self, pick: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        self.faults.iter().find_map(pick)
    }

    /// What calls about the current device say.
    fn state(&self) -> CUresult {
        let failed = self.cards[self.current].failed;
        failed.unwrap_or(CUresult::CUDA_SUCCESS)
    }

    /// Whether a launch of a device's is one that goes wrong.
    fn meets(&self, card: usize, fault: &Fault) -> bool {
        card == FIRST && self.faults.contains(fault)
    }

    /// Bytes of the current device that are taken.
    fn used(&self) -> usize {
        let own = self.memory.values().filter(|it| it.0 == self.current);
        own.map(|it| it.1).sum::<usize>() + self.cards[self.current].spilled
    }

    /// Bytes that are given back on a stream, and not yet gone: what is asked of that stream next comes after, and may have them at once.
    fn returned(&self, stream: CUstream) -> usize {
        let stream = self.streams.get(&(stream.addr() as u64));
        let waiting = stream.into_iter().flat_map(|it| &it.waiting);
        let bytes = waiting.filter_map(|operation| match operation {
            Operation::Free { at } => Some(self.memory.get(at)?.1),
            _ => None,
        });
        bytes.sum()
    }

    /// An address that something is about to be done with; other words are none.
    fn is_there(&self, address: u64) {
        let is_within = |at: &u64| address >= *at && address < at + self.memory[at].1 as u64;
        if self.fresh.iter().any(is_within) {
            misuse("memory is used on a stream that was not told to wait for it");
        }
    }

    /// What a device has.
    fn room(&self) -> usize {
        let told = self.fault(|it| match it {
            Fault::Memory(bytes) => Some(*bytes as usize),
            _ => None,
        });
        told.unwrap_or(MEMORY)
    }

    /// Asks something of a stream.
    fn queue(&mut self, stream: CUstream, operation: Operation) -> CUresult {
        let id = stream.addr() as u64;
        let Some(stream) = self.streams.get_mut(&id) else {
            misuse("there is no such stream");
        };
        if stream.card != self.current {
            misuse("a stream of a device whose context the thread does not have");
        }
        match operation {
            Operation::Record { .. } => stream.records += 1,
            Operation::Launch { .. } => {
                // The end of the one before and the start of this one.
                if stream.records != 1 + u32::from(stream.has_launched) {
                    misuse("launches are timed together");
                }
                (stream.has_launched, stream.records) = (true, 0);
            }
            _ => {}
        }
        if self.cards[self.current].failed.is_none() {
            stream.waiting.push_back(operation);
        }
        let together = self.ups().count();
        let card = &mut self.cards[self.current];
        card.together = card.together.max(together);
        self.state()
    }

    /// Copies to the current device that are under way: where to, how many bytes.
    fn ups(&self) -> impl Iterator<Item = (u64, usize)> {
        let own = self.streams.values().filter(|it| it.card == self.current);
        let waiting = own.flat_map(|it| &it.waiting);
        waiting.filter_map(|operation| match *operation {
            Operation::Up { to, bytes, .. } => Some((to, bytes)),
            _ => None,
        })
    }

    /// What is asked of memory at an address runs on another stream than copies to it: nobody can say which comes first.
    fn has_arrived(&self, at: u64, what: &str) {
        if self.cards[self.current].failed.is_some() || self.ups().next().is_none() {
            return;
        }
        let around = |(&start, &(_, bytes)): (&u64, &(usize, usize))| {
            start <= at && at < start + bytes as u64
        };
        let Some((&start, &(_, bytes))) = self.memory.iter().find(|&it| around(it)) else {
            return;
        };
        if self
            .ups()
            .any(|(to, _)| (start..start + bytes as u64).contains(&to))
        {
            misuse(&format!("{what} memory that a copy is on its way to"));
        }
    }

    fn pinned(&self, at: usize, bytes: usize) {
        let mut pieces = self.pinned.iter();
        if !pieces.any(|(start, piece)| *start <= at && at + bytes <= *start + piece.len()) {
            misuse("a copy from or to memory that is not pinned");
        }
    }

    fn stalls(&mut self, card: usize, bytes: usize) -> bool {
        let stall = self.fault(|it| match it {
            Fault::Stall(launches) => Some(*launches),
            _ => None,
        });
        let larger = self.fault(|it| match it {
            Fault::Larger(bytes) => Some(*bytes as usize),
            _ => None,
        });
        let stall = stall.filter(|_| bytes > larger.unwrap_or(1 << 20));
        let Some(more) = stall else { return false };
        let card = &mut self.cards[card];
        let until = *card.stalled.get_or_insert(card.launches + more);
        card.launches < until
    }

    /// Launches of the current device that nobody has seen the end of.
    fn flights(&self) -> usize {
        let own = self.streams.values().filter(|it| it.card == self.current);
        let waiting = own.flat_map(|it| &it.waiting);
        let is_launch = |it: &&Operation| matches!(it, Operation::Launch { .. });
        waiting.filter(is_launch).count()
    }

    /// Runs the next operation of a stream; whether there was one that could.
    fn advance(&mut self, stream: u64) -> bool {
        let Some(Stream { card, waiting, .. }) = self.streams.get_mut(&stream) else {
            return false;
        };
        let card = *card;
        if self.cards[card].hangs.is_some() {
            return false;
        }
        let Some(operation) = waiting.pop_front() else {
            return false;
        };
        if let Operation::Wait { event, number, on } = operation
            && self.events.get(&event).is_some_and(|it| it.passed < number)
        {
            waiting.push_front(operation);
            return self.advance(on);
        }
        self.clock += TICK;
        match operation {
            Operation::Up { to, from, bytes } if self.stalls(card, bytes) => {
                let again = Operation::Up { to, from, bytes };
                let stream = self.streams.get_mut(&stream);
                stream.expect("found above").waiting.push_front(again);
                return false;
            }
            Operation::Up { to, from, bytes } => {
                self.is_there(to);
                self.pinned(from, bytes);
                // SAFETY: pinned, as was just seen, and the caller must leave it alone until an event says otherwise.
                let bytes = unsafe { std::slice::from_raw_parts(from as *const u8, bytes) };
                let _ = self.emulation.upload(to, bytes);
            }
            Operation::Down { to, from, bytes } => {
                self.is_there(from);
                self.pinned(to, bytes);
                // SAFETY: as above.
                let bytes = unsafe { std::slice::from_raw_parts_mut(to as *mut u8, bytes) };
                let _ = self.emulation.download(from, bytes);
            }
            Operation::Allocate { at } => {
                self.fresh.remove(&at);
            }
            Operation::Clear { at, bytes } => {
                self.is_there(at);
                let _ = self.emulation.clear(at, bytes);
            }
            Operation::Free { at } => {
                let Some((_, bytes)) = self.memory.remove(&at) else {
                    misuse("memory is given back that is not there");
                };
                self.emulation.free(at, bytes);
            }
            Operation::Launch {
                skipped,
                kernel,
                blocks,
                words,
            } => {
                words.iter().for_each(|word| self.is_there(*word));
                // One without an argument does nothing but set memory aside.
                self.cards[card].launches += u64::from(words.iter().any(|word| *word != 0));
                let launches = self.cards[card].launches;
                if self.meets(card, &Fault::Hang(launches)) {
                    self.cards[card].hangs = Some(HashSet::new());
                    return false;
                }
                if self.meets(card, &Fault::Fail(launches)) {
                    self.cards[card].failed = Some(CUresult::CUDA_ERROR_LAUNCH_FAILED);
                    return false;
                }
                if !skipped {
                    let fence = self.emulation.launch(kernel, blocks, &words);
                    let took = fence.and_then(|fence| self.emulation.wait(&fence));
                    self.clock += took.unwrap_or_default();
                }
            }
            Operation::Record { event, number } => {
                let now = self.clock;
                if let Some(event) = self.events.get_mut(&event) {
                    event.passed = number;
                    if event.number == number {
                        event.reached = Some(now);
                    }
                }
            }
            Operation::Wait { .. } => {}
        }
        true
    }
}

/// # Safety
/// `at` is the caller's place for a T.
unsafe fn give<T>(at: *mut T, value: T) -> CUresult {
    if at.is_null() {
        misuse("a result has no place");
    }
    // SAFETY: as above.
    unsafe { at.write(value) };
    CUresult::CUDA_SUCCESS
}

/// A text for each error that is made here.
unsafe fn told(error: CUresult, at: *mut *const c_char) -> CUresult {
    let text: &CStr = match error {
        CUresult::CUDA_ERROR_LAUNCH_FAILED => c"CUDA_ERROR_LAUNCH_FAILED",
        CUresult::CUDA_ERROR_ECC_UNCORRECTABLE => c"CUDA_ERROR_ECC_UNCORRECTABLE",
        CUresult::CUDA_ERROR_NO_DEVICE => c"CUDA_ERROR_NO_DEVICE",
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        CUresult::CUDA_ERROR_SYSTEM_NOT_READY => c"CUDA_ERROR_SYSTEM_NOT_READY",
        _ => c"an error of the double's",
    };
    // SAFETY: the caller's place.
    unsafe { give(at, text.as_ptr()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(error: CUresult, text: *mut *const c_char) -> CUresult {
    // SAFETY: handed through.
    unsafe { told(error, text) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(error: CUresult, text: *mut *const c_char) -> CUresult {
    // SAFETY: handed through.
    unsafe { told(error, text) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> CUresult {
    let told = world().fault(|it| match it {
        Fault::Version(version) => Some(*version as c_int),
        _ => None,
    });
    // SAFETY: the caller's place.
    unsafe { give(version, told.unwrap_or(13_000)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuInit(flags: c_uint) -> CUresult {
    if flags != 0 {
        misuse("flags of the driver's start");
    }
    let faults = &world().faults;
    if faults.contains(&Fault::Absent) {
        return CUresult::CUDA_ERROR_NO_DEVICE;
    }
    if faults.contains(&Fault::NotReady) {
        return CUresult::CUDA_ERROR_SYSTEM_NOT_READY;
    }
    CUresult::CUDA_SUCCESS
}

fn devices(faults: &[Fault]) -> usize {
    let many = faults.iter().find_map(|it| match it {
        Fault::Devices(many) => Some(*many as usize),
        _ => None,
    });
    many.unwrap_or(1)
}

/// How many the driver sees.
fn count() -> c_int {
    world().cards.len() as c_int
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { give(count, self::count()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> CUresult {
    if !(0..count()).contains(&ordinal) {
        return CUresult::CUDA_ERROR_INVALID_DEVICE;
    }
    // SAFETY: the caller's place.
    unsafe { give(device, ordinal) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(
    name: *mut c_char,
    len: c_int,
    _device: CUdevice,
) -> CUresult {
    let told = match world().faults.contains(&Fault::Instance) {
        true => INSTANCE,
        false => NAME,
    };
    let bytes = told.to_bytes_with_nul();
    assert!(bytes.len() <= len as usize);
    // SAFETY: the caller has room for `len` bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), name, bytes.len()) };
    CUresult::CUDA_SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetUuid_v2(uuid: *mut CUuuid, device: CUdevice) -> CUresult {
    let mut bytes = [0xca; 16];
    bytes[15] = device as u8;
    let bytes = bytes.map(|byte: u8| byte as c_char);
    // SAFETY: the caller's place.
    unsafe { give(uuid, CUuuid { bytes }) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    attribute: CUdevice_attribute,
    device: CUdevice,
) -> CUresult {
    use CUdevice_attribute as A;
    let told = match attribute {
        A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR => ARCHITECTURE as c_int / 10,
        A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR => ARCHITECTURE as c_int % 10,
        A::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID => 0xffff,
        A::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID => 0xca,
        A::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID if world().faults.contains(&Fault::Shuffled) => {
            count() - 1 - device
        }
        A::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID => device,
        A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT => MULTIPROCESSORS,
        _ => return CUresult::CUDA_ERROR_INVALID_VALUE,
    };
    // SAFETY: the caller's place.
    unsafe { give(value, told) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: CUdevice) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { give(bytes, world().room()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(
    context: *mut CUcontext,
    device: CUdevice,
) -> CUresult {
    world().cards[device as usize].retained += 1;
    // SAFETY: the caller's place.
    unsafe { give(context, (CONTEXT + device as usize) as *mut _) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRelease_v2(device: CUdevice) -> CUresult {
    let mut world = world();
    let card = &mut world.cards[device as usize];
    card.retained = match card.retained.checked_sub(1) {
        Some(left) => left,
        None => misuse("a context is given back that nobody has"),
    };
    let is_left = |card: &Card| card.retained > 0 || card.failed.is_some();
    if world.cards.iter().any(is_left) {
        return CUresult::CUDA_SUCCESS;
    }
    for (what, left) in [
        ("streams", world.streams.len()),
        ("events", world.events.len()),
        ("pieces of pinned memory", world.pinned.len()),
        ("pieces of the device's memory", world.memory.len()),
        ("modules", world.modules.len()),
    ] {
        if left != 0 {
            misuse(&format!("{left} {what} are left over"));
        }
    }
    let together = world.fault(|it| match it {
        Fault::Together(copies) => Some(*copies as usize),
        _ => None,
    });
    let most = world.cards.iter().map(|card| card.together).max();
    if together.is_some_and(|copies| most.unwrap_or(0) < copies) {
        misuse("copies to the device wait for each other");
    }
    CUresult::CUDA_SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxSetCurrent(context: CUcontext) -> CUresult {
    let mut world = world();
    let card = context.addr().checked_sub(CONTEXT);
    let Some(card) = card.filter(|card| *card < world.cards.len()) else {
        misuse("there is no such context");
    };
    CURRENT.set(Some(card));
    world.current = card;
    CUresult::CUDA_SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreate(stream: *mut CUstream, _flags: c_uint) -> CUresult {
    let mut world = within();
    let (id, handle) = world.handle();
    let stream_of_it = Stream {
        card: world.current,
        waiting: VecDeque::new(),
        has_launched: false,
        records: 0,
    };
    world.streams.insert(id, stream_of_it);
    // SAFETY: the caller's place.
    unsafe { give(stream, handle) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamDestroy_v2(stream: CUstream) -> CUresult {
    let mut world = within();
    let id = stream.addr() as u64;
    // What was asked is done all the same.
    while world.advance(id) {}
    if world.streams.remove(&id).is_none() {
        misuse("there is no such stream");
    }
    world.state()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(event: *mut CUevent, _flags: c_uint) -> CUresult {
    let mut world = within();
    let (id, handle) = world.handle();
    world.events.insert(id, Event::default());
    // SAFETY: the caller's place.
    unsafe { give(event, handle) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventDestroy_v2(event: CUevent) -> CUresult {
    let mut world = within();
    if world.events.remove(&(event.addr() as u64)).is_none() {
        misuse("there is no such event");
    }
    world.state()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventRecord(event: CUevent, stream: CUstream) -> CUresult {
    let mut world = within();
    let id = event.addr() as u64;
    let number = match world.events.get_mut(&id) {
        Some(event) if event.stream.is_some() && event.reached.is_none() && !event.awaited => {
            misuse("an event is recorded again before it was reached");
        }
        Some(event) => {
            *event = Event {
                stream: Some(stream.addr() as u64),
                number: event.number + 1,
                passed: event.passed,
                ..Event::default()
            };
            event.number
        }
        None => misuse("there is no such event"),
    };
    world.queue(stream, Operation::Record { event: id, number })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamWaitEvent(
    stream: CUstream,
    event: CUevent,
    flags: c_uint,
) -> CUresult {
    let mut world = within();
    if flags != 0 {
        misuse("flags of a stream that waits");
    }
    let id = event.addr() as u64;
    let Some(event) = world.events.get_mut(&id) else {
        misuse("there is no such event");
    };
    let Some(on) = event.stream else {
        misuse("a stream waits for an event that was never recorded");
    };
    event.awaited = true;
    let number = event.number;
    let wait = Operation::Wait {
        event: id,
        number,
        on,
    };
    world.queue(stream, wait)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventQuery(event: CUevent) -> CUresult {
    let mut world = within();
    let id = event.addr() as u64;
    let Some(state) = world.events.get_mut(&id) else {
        misuse("there is no such event");
    };
    let Some(stream) = state.stream else {
        misuse("an event is asked for that was never recorded");
    };
    let reached = state.reached.is_some();
    let asked = std::mem::replace(&mut state.asked, true);
    if asked && !reached {
        world.advance(stream);
    }
    let current = world.current;
    let hangs = world.cards[current].hangs.as_mut();
    if let Some(patient) = hangs.filter(|_| !reached) {
        patient.insert(id);
        if patient.len() > PATIENT_MAX {
            misuse("a device that does not answer is asked for one thing after the other");
        }
    }
    match (world.events[&id].reached, world.cards[current].failed) {
        (Some(_), _) => CUresult::CUDA_SUCCESS,
        (None, Some(error)) => error,
        (None, None) => CUresult::CUDA_ERROR_NOT_READY,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime_v2(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> CUresult {
    let world = within();
    let reached = |event: CUevent| match world.events.get(&(event.addr() as u64)) {
        Some(Event {
            reached: Some(at), ..
        }) => *at,
        _ => misuse("the time of an event that was not reached"),
    };
    let elapsed = reached(end).saturating_sub(reached(start));
    // SAFETY: the caller's place.
    unsafe { give(milliseconds, elapsed.as_secs_f32() * 1e3) };
    world.state()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemHostAlloc(
    at: *mut *mut c_void,
    bytes: usize,
    _flags: c_uint,
) -> CUresult {
    let mut world = within();
    let mut piece = vec![0xa5; bytes].into_boxed_slice();
    let address = piece.as_mut_ptr();
    world.pinned.insert(address.addr(), piece);
    // SAFETY: the caller's place.
    unsafe { give(at, address.cast()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFreeHost(at: *mut c_void) -> CUresult {
    let mut world = within();
    let Some(piece) = world.pinned.remove(&at.addr()) else {
        misuse("pinned memory is given back that is not there");
    };
    let failed = world.cards[world.current].failed;
    if failed.is_none() && piece.iter().any(|&byte| byte != 0) {
        misuse("pinned memory is given back with what was in it");
    }
    world.state()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetDefaultMemPool(
    pool: *mut CUmemoryPool,
    _device: CUdevice,
) -> CUresult {
    // SAFETY: the caller's place.
    unsafe { give(pool, CONTEXT as *mut _) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemPoolSetAttribute(
    _pool: CUmemoryPool,
    _attribute: CUmemPool_attribute,
    _value: *mut c_void,
) -> CUresult {
    within().state()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocAsync(
    at: *mut CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    let mut world = within();
    let current = world.current;
    if let Some(error) = world.cards[current].failed {
        return error;
    }
    if world.used() - world.returned(stream) + bytes > world.room() {
        return CUresult::CUDA_ERROR_OUT_OF_MEMORY;
    }
    let Ok(address) = world.emulation.allocate(bytes, "memory") else {
        return CUresult::CUDA_ERROR_OUT_OF_MEMORY;
    };
    world.memory.insert(address, (current, bytes));
    world.fresh.insert(address);
    let queued = world.queue(stream, Operation::Allocate { at: address });
    // SAFETY: the caller's place.
    unsafe { give(at, address) };
    queued
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> CUresult {
    let world = within();
    // SAFETY: the caller's places.
    unsafe {
        give(free, world.room().saturating_sub(world.used()));
        give(total, world.room())
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    blocks: *mut c_int,
    function: CUfunction,
    threads: c_int,
    shared: usize,
) -> CUresult {
    let world = within();
    let function = world.functions.get(&(function.addr() as u64));
    if function.is_none_or(|it| it.kernel.threads as c_int != threads) || shared != 0 {
        misuse("there is no such function, or it is asked for another shape");
    }
    // SAFETY: the caller's place.
    unsafe { give(blocks, RESIDENT) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFreeAsync(at: CUdeviceptr, stream: CUstream) -> CUresult {
    let mut world = within();
    world.has_arrived(at, "the end of");
    world.queue(stream, Operation::Free { at })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemsetD8Async(
    at: CUdeviceptr,
    byte: u8,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    if byte != 0 {
        misuse("memory is set to what is not zero");
    }
    let mut world = within();
    world.has_arrived(at, "zeros for");
    world.queue(stream, Operation::Clear { at, bytes })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: CUdeviceptr,
    from: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    let from = from.addr();
    within().queue(stream, Operation::Up { to, from, bytes })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    let to = to.addr();
    let mut world = within();
    world.has_arrived(from, "a copy from");
    world.queue(stream, Operation::Down { to, from, bytes })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void) -> CUresult {
    let mut world = within();
    // SAFETY: the images of `bundle` end with a zero, and callers add one to what they compile.
    let image = unsafe { CStr::from_ptr(image.cast()) };
    let Some(unit) = image.to_str().ok().and_then(|text| text.strip_prefix(CODE)) else {
        return CUresult::CUDA_ERROR_INVALID_IMAGE;
    };
    let (id, handle) = world.handle();
    world.modules.insert(id, unit.to_owned());
    // SAFETY: the caller's place.
    unsafe { give(module, handle) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleUnload(module: CUmodule) -> CUresult {
    let mut world = within();
    if world.modules.remove(&(module.addr() as u64)).is_none() {
        misuse("there is no such module");
    }
    world.state()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    function: *mut CUfunction,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    let mut world = within();
    let module = module.addr() as u64;
    // SAFETY: a C string, as the API has it.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let Some(unit) = world.modules.get(&module) else {
        misuse("there is no such module");
    };
    let units = Emulation::units();
    let shape = units
        .iter()
        .filter(|known| known.unit == *unit)
        .flat_map(|known| &known.kernels)
        .find(|kernel| kernel.name == name);
    let (Some(shape), Ok(kernel)) = (shape, world.emulation.kernel(unit, &name)) else {
        return CUresult::CUDA_ERROR_NOT_FOUND;
    };
    let words = shape.words as usize;
    let (id, handle) = world.handle();
    let function_of_it = Function {
        module,
        name: name.into_owned(),
        kernel,
        words,
    };
    world.functions.insert(id, function_of_it);
    // SAFETY: the caller's place.
    unsafe { give(function, handle) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: CUfunction,
    blocks: c_uint,
    blocks_y: c_uint,
    blocks_z: c_uint,
    threads: c_uint,
    threads_y: c_uint,
    threads_z: c_uint,
    shared: c_uint,
    stream: CUstream,
    arguments: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    let mut world = within();
    let Some(known) = world.functions.get(&(function.addr() as u64)).cloned() else {
        misuse("there is no such function");
    };
    let kernel = known.kernel;
    if !world.modules.contains_key(&known.module) {
        misuse("a function whose module was unloaded");
    }
    let rest = [blocks_y, blocks_z, threads_y, threads_z];
    if rest != [1; 4] || shared != 0 || !extra.is_null() || threads != kernel.threads {
        misuse("a launch of another shape than the kernel's");
    }
    if blocks == 0 || blocks > i32::MAX as u32 {
        return CUresult::CUDA_ERROR_INVALID_VALUE;
    }
    // SAFETY: one argument, a structure of so many words; copied before the call returns.
    let words = unsafe { std::slice::from_raw_parts((*arguments).cast::<u64>(), known.words) };
    for &word in words {
        world.has_arrived(word, "a launch over");
    }
    let most = world.fault(|it| match it {
        Fault::Flights(most) => Some(*most as usize),
        _ => None,
    });
    if most.is_some_and(|most| world.flights() >= most) {
        misuse("too many launches at once");
    }
    let most = world.fault(|it| match it {
        Fault::Wide(most) => Some(*most),
        _ => None,
    });
    let depends = ["digits", "msm_merge", "msm_fold", "msm_gather"].contains(&&known.name[..]);
    if depends && most.is_some_and(|most| u64::from(blocks) * u64::from(threads) > most) {
        misuse(&format!("{} is launched with {blocks} blocks", known.name));
    }
    // A device of some kilobytes, for tests of keys, has nothing to set aside.
    let spills = ["msm_", "table_"];
    if world.room() > 2 * SPILLED && spills.iter().any(|it| known.name.starts_with(it)) {
        let unit = &world.modules[&known.module];
        let spilled = if unit.ends_with("g2") {
            SPILLED
        } else {
            SPILLED / 4
        };
        let (room, used) = (world.room(), world.used());
        let current = world.current;
        let before = world.cards[current].spilled;
        if spilled > before {
            if used - before + spilled > room {
                let stream = world.streams.get_mut(&(stream.addr() as u64));
                stream.expect("a stream of ours").records -= 1;
                return CUresult::CUDA_ERROR_OUT_OF_MEMORY;
            }
            world.cards[current].spilled = spilled;
        }
    }
    let launch = Operation::Launch {
        skipped: world.faults.contains(&Fault::Skip(known.name)),
        kernel,
        blocks,
        words: words.to_vec(),
    };
    world.queue(stream, launch)
}

const NAME: &CStr = c"double of a GPU";
const INSTANCE: &CStr = c"double of a GPU MIG 1g.10gb";
const MULTIPROCESSORS: c_int = 2;
/// Blocks of a multiprocessor.
const RESIDENT: c_int = 3;
/// What threads of the most spilling kernels need room for, all together.
const SPILLED: usize = 8 << 20;
const ARCHITECTURE: u32 = 90;
const MEMORY: usize = 8 << 30;
/// What its code begins with.
const CODE: &str = "caldera-cuda-double ";
/// The context of the first device; the others' follow.
const CONTEXT: usize = 0xca1d;
/// The number of the first device.
const FIRST: usize = 0;
/// One a thread may be waiting, and one more by turns of luck.
const PATIENT_MAX: usize = 3;
/// What an operation takes at least.
const TICK: Duration = Duration::from_micros(1);
