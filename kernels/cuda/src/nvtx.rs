//! Ranges for NVIDIA's profilers, by the ABI of NVTX version 3.
//!
//! A profiler (Nsight Systems, CUPTI) names a library in `NVTX_INJECTION64_PATH`. Whoever has ranges to tell of loads it when the
//! first of them begins and calls its `InitializeInjectionNvtx2` with a function that gives out tables, into whose slots
//! the profiler writes its own functions; NVTX's headers for C do the same (`nvtxInit.h`, `nvtxTypes.h` of NVIDIA/NVTX). Nothing is
//! linked. Where no library is named, or it does not attach, a range costs one load and a comparison, and
//! its name is not even made.

use std::ffi::{CString, OsString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use libloading::Library;

/// A range of one thread, from when it is made to when it is dropped.
#[must_use]
pub(crate) struct Pushed(Option<Pop>);

/// A range of the whole process: other threads may end it.
#[must_use]
#[derive(Default)]
pub(crate) struct Started(Option<(End, u64)>);

/// Begins a range of this thread. Ranges of a thread lie within each other.
pub(crate) fn push(name: impl FnOnce() -> String) -> Pushed {
    let Some(tool) = tool() else {
        return Pushed(None);
    };
    let (Some(push), Some(pop)) = (tool.push, tool.pop) else {
        return Pushed(None);
    };
    if let Ok(name) = CString::new(name()) {
        // SAFETY: the profiler's function, of the signature that its slot has; the name lives until it returns.
        unsafe { push(name.as_ptr()) };
        return Pushed(Some(pop));
    }
    Pushed(None)
}

/// Begins a range that ends with what is returned.
pub(crate) fn start(name: impl FnOnce() -> String) -> Started {
    let Some(tool) = tool() else {
        return Started(None);
    };
    let (Some(start), Some(end)) = (tool.start, tool.end) else {
        return Started(None);
    };
    let begun = CString::new(name()).ok().map(|name| {
        // SAFETY: as in `push`.
        (end, unsafe { start(name.as_ptr()) })
    });
    Started(begun)
}

impl Drop for Pushed {
    fn drop(&mut self) {
        if let Some(pop) = self.0 {
            // SAFETY: the profiler's function; it takes nothing.
            unsafe { pop() };
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some((end, range)) = self.0 {
            // SAFETY: the profiler's function, given what it has returned.
            unsafe { end(range) };
        }
    }
}

type Push = unsafe extern "C" fn(*const c_char) -> c_int;
type Pop = unsafe extern "C" fn() -> c_int;
type Start = unsafe extern "C" fn(*const c_char) -> u64;
type End = unsafe extern "C" fn(u64);

/// The functions that a profiler has put into their slots.
struct Tool {
    push: Option<Push>,
    pop: Option<Pop>,
    start: Option<Start>,
    end: Option<End>,
}

/// The profiler, if there is one.
fn tool() -> Option<&'static Tool> {
    static TOOL: OnceLock<Option<Tool>> = OnceLock::new();
    let attached = TOOL.get_or_init(|| {
        let path: Option<OsString> = std::env::var_os(LIBRARY);
        path.and_then(|path| attach(Path::new(&path)))
    });
    attached.as_ref()
}

/// Loads a profiler's library and lets it fill the slots. A library that is none is none: as in NVTX's own headers, a
/// program does not fail because it is not watched.
fn attach(path: &Path) -> Option<Tool> {
    // SAFETY: a library that whoever started this program has named to be loaded into it.
    let library = unsafe { Library::new(path) }.ok()?;
    // SAFETY: the signature that NVTX's types give this name.
    let initialise = unsafe {
        library.get::<unsafe extern "C" fn(GetExportTable) -> c_int>(b"InitializeInjectionNvtx2\0")
    };
    // SAFETY: as above; what it is given lives as long as the process.
    let answer = unsafe { initialise.ok()?(export_table) };
    // Its functions may be called until the process ends, and on a refusal it may have begun threads.
    std::mem::forget(library);
    if answer == 0 {
        return None;
    }
    let slot = |id: usize| SLOTS[CORE][id].load(Ordering::Acquire);
    // SAFETY: what a profiler puts into these slots are functions of these signatures; an empty slot is null, which is what
    // `None` of a function pointer is.
    unsafe {
        Some(Tool {
            start: std::mem::transmute::<*mut c_void, Option<Start>>(slot(RANGE_START)),
            end: std::mem::transmute::<*mut c_void, Option<End>>(slot(RANGE_END)),
            push: std::mem::transmute::<*mut c_void, Option<Push>>(slot(RANGE_PUSH)),
            pop: std::mem::transmute::<*mut c_void, Option<Pop>>(slot(RANGE_POP)),
        })
    }
}

type GetExportTable = unsafe extern "C" fn(u32) -> *const c_void;

/// `NvtxExportTableCallbacks`.
#[repr(C)]
struct Callbacks {
    struct_size: usize,
    module_function_table:
        unsafe extern "C" fn(c_int, *mut *const *const AtomicPtr<c_void>, *mut u32) -> c_int,
}

/// `NvtxExportTableVersionInfo`.
#[repr(C)]
struct VersionInfo {
    struct_size: usize,
    version: u32,
    reserved: u32,
    set_injection_version: unsafe extern "C" fn(u32),
}

unsafe extern "C" fn export_table(id: u32) -> *const c_void {
    static CALLBACKS: Callbacks = Callbacks {
        struct_size: size_of::<Callbacks>(),
        module_function_table,
    };
    static VERSION: VersionInfo = VersionInfo {
        struct_size: size_of::<VersionInfo>(),
        version: NVTX_VERSION,
        reserved: 0,
        set_injection_version,
    };
    match id {
        CALLBACKS_TABLE => (&raw const CALLBACKS).cast(),
        VERSION_TABLE => (&raw const VERSION).cast(),
        _ => std::ptr::null(),
    }
}

unsafe extern "C" fn set_injection_version(_: u32) {}

/// A module's table: for each of its functions where the slot is; and the last of its numbers.
unsafe extern "C" fn module_function_table(
    module: c_int,
    table: *mut *const *const AtomicPtr<c_void>,
    size: *mut u32,
) -> c_int {
    static PLACES: [[AtomicUsize; SLOTS_MAX]; MODULES] =
        [const { [const { AtomicUsize::new(0) }; SLOTS_MAX] }; MODULES];
    let Some(module) = usize::try_from(module)
        .ok()
        .filter(|module| (CORE..MODULES).contains(module))
    else {
        return 0;
    };
    for (place, slot) in PLACES[module].iter().zip(&SLOTS[module]).skip(1) {
        place.store(
            std::ptr::from_ref(slot).expose_provenance(),
            Ordering::Release,
        );
    }
    // SAFETY: places of the caller's, or none, as NVTX's types have it. An atomic word is laid out as a word.
    unsafe {
        if !table.is_null() {
            *table = (&raw const PLACES[module]).cast();
        }
        if !size.is_null() {
            *size = SLOTS_MAX as u32 - 1;
        }
    }
    1
}

/// Where a profiler's functions go, by module and number; number 0 is none in any module.
static SLOTS: [[AtomicPtr<c_void>; SLOTS_MAX]; MODULES] =
    [const { [const { AtomicPtr::new(null_mut()) }; SLOTS_MAX] }; MODULES];

/// Names the profiler's library.
const LIBRARY: &str = "NVTX_INJECTION64_PATH";

const NVTX_VERSION: u32 = 3;
/// `NvtxExportTableID`.
const CALLBACKS_TABLE: u32 = 1;
const VERSION_TABLE: u32 = 3;
/// `NvtxCallbackModule`: that of functions without domains, and one more than the last.
const CORE: usize = 1;
const MODULES: usize = 7;
/// More than any module has.
const SLOTS_MAX: usize = 33;
/// `NvtxCallbackIdCore`.
const RANGE_START: usize = 5;
const RANGE_END: usize = 7;
const RANGE_PUSH: usize = 9;
const RANGE_POP: usize = 11;
