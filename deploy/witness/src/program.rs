//! A witness program: translated once, asked what it is, and run many times.
//!
//! Before the interpreter sees a file its length and its counts of everything are held against
//! bounds, in [`survey`]; the interpreter's own reader checks all the rest, and is told to refuse every extension of WebAssembly that circom
//! does not use. Memory and table are bounded where they are made.
//!
//! All is translated here, at once: left until a function is first called, as wasmi would by default,
//! the translation of a long one would be a slice that nobody can cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmi::{
    CompilationMode, Config, Engine, Func, Instance, Linker, Module, StoreLimits,
    StoreLimitsBuilder, Val, ValType,
};

use crate::number::{Prime, WORDS_MAX};
use crate::{Limits, ProgramError, SLICE_FUEL};

/// A program that can be run. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    inner: Arc<Inner>,
}

struct Inner {
    /// What a slice may burn, see [`Program::slice`].
    slice: AtomicU64,
    /// What it may at most, which only falls.
    slice_max: AtomicU64,
    module: Module,
    linker: Linker<Host>,
    limits: Limits,
    about: About,
}

/// What a program says of itself.
#[derive(Clone, Copy)]
pub(crate) struct About {
    pub(crate) prime: Prime,
    /// Wires of the circuit.
    pub(crate) witness: u32,
    /// Values of all its inputs.
    pub(crate) inputs: u32,
}

/// What belongs to a running program beside its memory.
pub(crate) struct Host {
    limits: StoreLimits,
}

/// Why a program's call came back before its end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HostCall {
    /// `exceptionHandler`: circom's runtime gives up.
    Exception(i32),
    /// `printErrorMessage`: there is a message to be read.
    Message,
}

impl std::fmt::Display for HostCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl wasmi::errors::HostError for HostCall {}

/// A program in a memory of its own.
pub(crate) struct Running {
    pub(crate) store: wasmi::Store<Host>,
    pub(crate) memory: wasmi::Memory,
    pub(crate) functions: Functions,
    /// Where in its memory numbers are handed over.
    pub(crate) shared: usize,
}

/// The functions that circom exports.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    pub(crate) init: Func,
    pub(crate) input_signal_size: Func,
    pub(crate) set_input_signal: Func,
    pub(crate) witness: Func,
    pub(crate) message_char: Func,
}

impl Program {
    /// Translates a program and asks it for its prime and sizes. Takes time in proportion to the
    /// file, about 20 ms a megabyte.
    pub fn load(bytes: &[u8], limits: &Limits) -> Result<Program, ProgramError> {
        if bytes.len() > limits.program_bytes {
            return Err(ProgramError::Length {
                expected_max: limits.program_bytes,
                got: bytes.len(),
            });
        }
        survey(bytes)?;
        let engine = Engine::new(&config());
        let module = Module::new(&engine, bytes).map_err(|error| ProgramError::Module {
            why: short(&error.to_string()),
        })?;
        for import in module.imports() {
            let known = import.module() == "runtime" && IMPORTS.contains(&import.name());
            if !known {
                return Err(ProgramError::Import {
                    got: short(&format!("{}.{}", import.module(), import.name())),
                });
            }
        }
        let linker = linker(&engine).map_err(|error| ProgramError::Module {
            why: short(&error.to_string()),
        })?;
        let (_, about) = start(&module, &linker, limits)?;
        Ok(Program {
            inner: Arc::new(Inner {
                slice: AtomicU64::new(SLICE_FUEL / 100),
                slice_max: AtomicU64::new(SLICE_FUEL),
                module,
                linker,
                limits: *limits,
                about,
            }),
        })
    }

    /// The prime of the circuit's field: little-endian, in as many bytes as an element has.
    pub fn prime(&self) -> Vec<u8> {
        let words = self.about().prime;
        words.words().iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// How many wires the circuit has, the constant 1 included.
    pub fn wires(&self) -> u32 {
        self.about().witness
    }

    /// How many values its inputs have in all.
    pub fn inputs(&self) -> u32 {
        self.about().inputs
    }

    /// Fuel for the next slice of a calculation, so that it takes about a millisecond. A program whose
    /// instructions take longer than others' gets less; an unknown one begins with little.
    pub fn slice(&self) -> u64 {
        self.inner.slice.load(Ordering::Relaxed)
    }

    /// Tells how long a core worked on a slice. More than two milliseconds lower for good what this
    /// program gets in a slice: it cannot save fuel up with cheap instructions and burn it with dear ones. Not below a
    /// hundredth, for what else takes a core's time, pages and interrupts, is not the program's.
    pub fn took(&self, fuel: u64, ns: u64) {
        let inner = &*self.inner;
        let fair = (fuel as u128 * SLICE_NS as u128 / u128::from(ns.max(1))) as u64;
        if ns > 2 * SLICE_NS {
            let lowered = fair.max(SLICE_FUEL / 100);
            inner.slice_max.fetch_min(lowered, Ordering::Relaxed);
        }
        let max = inner.slice_max.load(Ordering::Relaxed);
        let next = fair.min(2 * fuel).clamp(SLICE_FUEL / 100, max);
        inner.slice.store(next, Ordering::Relaxed);
    }

    pub(crate) fn about(&self) -> &About {
        &self.inner.about
    }

    /// A new instance.
    pub(crate) fn start(&self) -> Result<Running, ProgramError> {
        let inner = &*self.inner;
        start(&inner.module, &inner.linker, &inner.limits).map(|(running, _)| running)
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("wires", &self.wires())
            .field("inputs", &self.inputs())
            .finish_non_exhaustive()
    }
}

/// The machine that circom compiles for: WebAssembly 1.0 and nothing later.
fn config() -> Config {
    let mut config = Config::default();
    config
        .consume_fuel(true)
        .compilation_mode(CompilationMode::Eager)
        .ignore_custom_sections(true)
        .set_max_recursion_depth(CALLS_MAX)
        .set_max_stack_height(STACK_BYTES_MAX)
        .set_max_cached_stacks(0)
        .floats(false)
        .wasm_multi_value(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_bulk_memory(false)
        .wasm_reference_types(false)
        .wasm_tail_call(false)
        .wasm_extended_const(false)
        .wasm_saturating_float_to_int(false)
        .wasm_custom_page_sizes(false);
    config
}

/// circom's runtime. What a circuit logs is thrown away: it may be a secret.
fn linker(engine: &Engine) -> Result<Linker<Host>, wasmi::Error> {
    type Caller<'a> = wasmi::Caller<'a, Host>;
    /// A call across the border takes as long as many instructions, so it costs as much.
    fn charge(caller: &mut Caller<'_>) -> Result<(), wasmi::Error> {
        let fuel = caller.get_fuel()?;
        caller.set_fuel(fuel.saturating_sub(HOST_CALL_FUEL))
    }
    let mut linker = Linker::new(engine);
    linker.func_wrap(
        "runtime",
        "exceptionHandler",
        |_: Caller<'_>, code: i32| -> Result<(), wasmi::Error> {
            Err(wasmi::Error::host(HostCall::Exception(code)))
        },
    )?;
    linker.func_wrap(
        "runtime",
        "printErrorMessage",
        |mut caller: Caller<'_>| -> Result<(), wasmi::Error> {
            charge(&mut caller)?;
            Err(wasmi::Error::host(HostCall::Message))
        },
    )?;
    for name in ["writeBufferMessage", "showSharedRWMemory"] {
        linker.func_wrap("runtime", name, |mut caller: Caller<'_>| {
            charge(&mut caller)
        })?;
    }
    Ok(linker)
}

/// Makes an instance and asks it what it is. It is asked each time, because where the shared memory lies belongs to the
/// instance; what the answers may be is checked each time too.
fn start(
    module: &Module,
    linker: &Linker<Host>,
    limits: &Limits,
) -> Result<(Running, About), ProgramError> {
    let store_limits = StoreLimitsBuilder::new()
        .memory_size(limits.memory_bytes)
        .table_elements(TABLE_MAX)
        .instances(1)
        .memories(1)
        .tables(1)
        .build();
    let mut store = wasmi::Store::new(
        module.engine(),
        Host {
            limits: store_limits,
        },
    );
    store.limiter(|host| &mut host.limits);
    refuel(&mut store, START_FUEL);
    let instance = linker
        .instantiate_and_start(&mut store, module)
        .map_err(|error| ProgramError::Module {
            why: short(&error.to_string()),
        })?;
    let memory = instance
        .get_memory(&store, "memory")
        .ok_or(ProgramError::Export { expected: "memory" })?;
    let find = |name, parameters, result, expected| {
        function(&instance, &store, name, parameters, result)
            .ok_or(ProgramError::Export { expected })
    };
    let version = find("getVersion", 0, true, "getVersion() -> i32")?;
    let shared = find(
        "getSharedRWMemoryStart",
        0,
        true,
        "getSharedRWMemoryStart() -> i32",
    )?;
    let words = find("getFieldNumLen32", 0, true, "getFieldNumLen32() -> i32")?;
    let raw_prime = find("getRawPrime", 0, false, "getRawPrime()")?;
    let witness_size = find("getWitnessSize", 0, true, "getWitnessSize() -> i32")?;
    let input_size = find("getInputSize", 0, true, "getInputSize() -> i32")?;
    let functions = Functions {
        init: find("init", 1, false, "init(i32)")?,
        input_signal_size: find(
            "getInputSignalSize",
            2,
            true,
            "getInputSignalSize(i32, i32) -> i32",
        )?,
        set_input_signal: find("setInputSignal", 3, false, "setInputSignal(i32, i32, i32)")?,
        witness: find("getWitness", 1, false, "getWitness(i32)")?,
        message_char: find("getMessageChar", 0, true, "getMessageChar() -> i32")?,
    };
    let mut ask = |function: Func, results: usize| {
        let mut result = [Val::I32(0)];
        refuel(&mut store, START_FUEL);
        let called = function.call(&mut store, &[], &mut result[..results]);
        let why = |error: wasmi::Error| match error.as_trap_code() {
            Some(wasmi::TrapCode::OutOfFuel) => "it does not come to an end",
            _ => "it traps",
        };
        match called {
            Ok(()) => Ok(result[0].i32().unwrap_or(0)),
            Err(error) => Err(ProgramError::Silent { why: why(error) }),
        }
    };
    let got = ask(version, 1)?;
    if got != 2 {
        return Err(ProgramError::Version { got });
    }
    let size = |what, expected: String, got: i32| ProgramError::Size {
        what,
        expected,
        got: got.into(),
    };
    let words = ask(words, 1)?;
    let len = usize::try_from(words)
        .ok()
        .filter(|len| (2..=WORDS_MAX).contains(len))
        .ok_or_else(|| size("a field", format!("2 to {WORDS_MAX} words"), words))?;
    let shared = ask(shared, 1)? as u32 as usize;
    let witness = ask(witness_size, 1)?;
    let element_bytes = 4 * len;
    let witness_max = (limits.witness_bytes / element_bytes).min(u32::MAX as usize);
    let wires = u32::try_from(witness)
        .ok()
        .filter(|count| (1..=witness_max).contains(&(*count as usize)))
        .ok_or_else(|| size("a witness", format!("1 to {witness_max} elements"), witness))?;
    let inputs = ask(input_size, 1)?;
    let input_count =
        u32::try_from(inputs).map_err(|_| size("inputs", "0 values or more".to_owned(), inputs))?;
    ask(raw_prime, 0)?;
    let mut running = Running {
        store,
        memory,
        functions,
        shared,
    };
    let prime = running
        .words(len)
        .and_then(|words| Prime::new(&words[..len]))
        .ok_or_else(|| {
            size(
                "a prime",
                "an odd number of the field's length".to_owned(),
                words,
            )
        })?;
    let about = About {
        prime,
        witness: wires,
        inputs: input_count,
    };
    Ok((running, about))
}

impl Running {
    /// The number in the shared memory; `None` if that lies outside of the memory.
    pub(crate) fn words(&mut self, len: usize) -> Option<[u32; WORDS_MAX]> {
        let data = self.memory.data(&self.store);
        let bytes = data.get(self.shared..)?.get(..4 * len)?;
        let mut words = [0; WORDS_MAX];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            // Chunks of four bytes.
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Some(words)
    }

    /// Puts a number there; `None` if that lies outside of the memory.
    pub(crate) fn put(&mut self, words: &[u32]) -> Option<()> {
        let data = self.memory.data_mut(&mut self.store);
        let bytes = data.get_mut(self.shared..)?.get_mut(..4 * words.len())?;
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Some(())
    }
}

/// Sets what is left to burn.
pub(crate) fn refuel(store: &mut wasmi::Store<Host>, fuel: u64) {
    store
        .set_fuel(fuel)
        .expect("the engine was configured to count fuel");
}

/// An exported function with so many parameters of 32 bits, and one result or none.
fn function(
    instance: &Instance,
    store: &wasmi::Store<Host>,
    name: &str,
    parameters: usize,
    result: bool,
) -> Option<Func> {
    let function = instance.get_func(store, name)?;
    let kind = function.ty(store);
    let numbers = |types: &[ValType], count: usize| {
        types.len() == count && types.iter().all(|it| *it == ValType::I32)
    };
    let fits = numbers(kind.params(), parameters) && numbers(kind.results(), result.into());
    fits.then_some(function)
}

/// Walks over the table of contents and counts, before anything is translated or made. A start section
/// is refused too: wasmi would run it in one piece while it makes an instance. So are functions with many
/// locals: a call clears them all and costs no more fuel for it. Anything that is not a module is left for
/// wasmi to refuse.
fn survey(module: &[u8]) -> Result<(), ProgramError> {
    let mut rest = Walk(module.get(8..).unwrap_or_default());
    while let Some(kind) = rest.byte() {
        let Some(mut section) = rest.piece() else {
            break;
        };
        if kind == START {
            return Err(ProgramError::Start);
        }
        let Some((_, what, max)) = COUNTS.iter().find(|(of, ..)| *of == kind) else {
            continue;
        };
        let count = section.number().unwrap_or(0);
        let size = |what, max: u32, got: u32| ProgramError::Size {
            what,
            expected: format!("at most {max}"),
            got: got.into(),
        };
        if count > *max {
            return Err(size(what, *max, count));
        }
        if kind == CODE {
            while let Some(mut body) = section.piece() {
                let groups = body.number().unwrap_or(0);
                let mut locals = 0u32;
                for _ in 0..groups {
                    let Some(count) = body.number() else {
                        break;
                    };
                    locals = locals.saturating_add(count);
                    body.byte();
                }
                if locals > LOCALS_MAX {
                    return Err(size("the locals of a function", LOCALS_MAX, locals));
                }
            }
        }
    }
    Ok(())
}

/// Bytes that are read from the front.
struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number of 32 bits in LEB128.
    fn number(&mut self) -> Option<u32> {
        let mut number = 0u64;
        for at in 0..5 {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return u32::try_from(number).ok();
            }
        }
        None
    }

    /// A length and as many bytes.
    fn piece(&mut self) -> Option<Walk<'a>> {
        let len = self.number()? as usize;
        let piece = self.0.get(..len)?;
        self.0 = &self.0[len..];
        Some(Walk(piece))
    }
}

/// A message about a stranger's file, short and on one line.
fn short(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(200).map(printable).collect()
}

/// The functions of circom's runtime, all in the module `runtime`.
const IMPORTS: [&str; 4] = [
    "exceptionHandler",
    "printErrorMessage",
    "writeBufferMessage",
    "showSharedRWMemory",
];
/// The section of what runs before anything is called.
const START: u8 = 8;
/// The section of functions' bodies.
const CODE: u8 = 10;
/// How many of each kind of thing a module may have, by section. circom makes hundreds of functions for a field, and
/// one more for each template and function of the circuit; a data segment for each constant; one memory, one table,
/// one global.
const COUNTS: [(u8, &str, u32); 10] = [
    (1, "types", 10_000),
    (2, "imports", 16),
    (3, "functions", 100_000),
    (4, "tables", 1),
    (5, "memories", 1),
    (6, "globals", 100),
    (7, "exports", 100),
    (9, "element segments", 1_000),
    (CODE, "function bodies", 100_000),
    (11, "data segments", 1_000_000),
];
/// Locals of a function: circom's have up to forty.
const LOCALS_MAX: u32 = 1_000;
/// Functions inside each other. circom's templates call their components', seldom a hundred deep.
const CALLS_MAX: usize = 10_000;
/// Bytes of the interpreter's stack.
const STACK_BYTES_MAX: usize = 8 << 20;
/// Elements of the table: one a template.
const TABLE_MAX: usize = 100_000;
/// What a slice should take.
const SLICE_NS: u64 = 1_000_000;
/// What a question before the start may burn.
const START_FUEL: u64 = SLICE_FUEL;
/// What a call across the border costs.
pub(crate) const HOST_CALL_FUEL: u64 = 200;
