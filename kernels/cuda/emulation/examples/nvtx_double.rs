//! A library that speaks the ABI by which NVIDIA's profilers are told of ranges, and writes down what it is told: for tests, on
//! machines that have no profiler. The lines go to the file that `CALDERA_NVTX_DOUBLE` names. Without that it refuses to attach.
//!
//! As the profilers do, it wants the tables of two modules, and writes into slots of both.

// The ABI is C's.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

static LINES: OnceLock<Mutex<File>> = OnceLock::new();
static RANGES: AtomicU64 = AtomicU64::new(1);

fn write(line: &str) {
    if let Some(file) = LINES.get() {
        let mut file = file.lock().expect("no panic");
        writeln!(file, "{line}").expect("a file of the test's");
    }
}

/// # Safety
/// A string that ends with a zero byte.
unsafe fn text(name: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .into_owned()
}

unsafe extern "C" fn push(name: *const c_char) -> c_int {
    // SAFETY: what this function is for.
    write(&format!("push {}", unsafe { text(name) }));
    0
}

unsafe extern "C" fn pop() -> c_int {
    write("pop");
    0
}

unsafe extern "C" fn start(name: *const c_char) -> u64 {
    let range = RANGES.fetch_add(1, Ordering::Relaxed);
    // SAFETY: what this function is for.
    write(&format!("start {range} {}", unsafe { text(name) }));
    range
}

unsafe extern "C" fn end(range: u64) {
    write(&format!("end {range}"));
}

#[repr(C)]
struct Callbacks {
    struct_size: usize,
    module_function_table:
        unsafe extern "C" fn(c_int, *mut *mut *mut *const c_void, *mut u32) -> c_int,
}

/// What the program that has ranges to tell of calls, once.
///
/// # Safety
/// `export_table` gives out the tables of NVTX's ABI.
#[unsafe(no_mangle)]
#[allow(non_snake_case)]
pub unsafe extern "C" fn InitializeInjectionNvtx2(
    export_table: unsafe extern "C" fn(u32) -> *const c_void,
) -> c_int {
    let Some(path) = std::env::var_os("CALDERA_NVTX_DOUBLE") else {
        return 0;
    };
    let file = OpenOptions::new().create(true).append(true).open(path);
    if LINES.set(Mutex::new(file.expect("a file"))).is_err() {
        return 0;
    }
    // SAFETY: the caller's promise: table 1 has the callbacks, modules 1 and 5 the functions without and with domains, a
    // table the places of its slots.
    unsafe {
        let callbacks = export_table(1).cast::<Callbacks>();
        if callbacks.is_null() || (*callbacks).struct_size < size_of::<Callbacks>() {
            return 0;
        }
        let slots = |module| {
            let (mut table, mut size) = (std::ptr::null_mut(), 0);
            let given = ((*callbacks).module_function_table)(module, &mut table, &mut size);
            (given != 0 && size >= 15).then_some(table)
        };
        let (Some(core), Some(domains)) = (slots(1), slots(5)) else {
            return 0;
        };
        for (id, function) in [
            (5, start as *const c_void),
            (7, end as *const c_void),
            (9, push as *const c_void),
            (11, pop as *const c_void),
        ] {
            **core.add(id) = function;
        }
        // Range pop within a domain.
        **domains.add(5) = pop as *const c_void;
    }
    write("attached");
    1
}
