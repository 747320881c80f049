//! Compiles the kernels for all architectures into the bundle that lies beside the binary, and holds
//! what came of it against a record: `caldera-cuda-kernels TOOLS BUNDLE RECORD`.
//!
//! TOOLS is the folder with NVIDIA's NVRTC, ptxas and nvdisasm, which `.ci/tools cuda` brings;
//! none of them needs a GPU. The record is a file that is committed, with the bytes that each kernel
//! spills on each architecture and the instructions IMAD of one multiplication, by number and by the
//! slots that they take. None may rise. Where one has fallen, or a kernel is new and spills nothing, the
//! file is written anew, to be committed. In the field, NTT and G1 kernels of BN254 nothing may be spilt,
//! whatever the record says. Registers are recorded for one architecture, and may rise.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::{env, fs, thread};

use caldera_cuda::bundle::{self, ARCHITECTURE_MIN, Compiled, PTX};
use caldera_cuda::nvrtc::{Nvrtc, shapes};
use caldera_cuda::sources::{self, Unit};

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [tools, output, record] = &arguments[..] else {
        eprintln!("usage: caldera-cuda-kernels TOOLS BUNDLE RECORD");
        return ExitCode::from(2);
    };
    match run(tools, output, record) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("caldera-cuda-kernels: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What failed, and of what.
fn causes(error: &dyn std::error::Error) -> String {
    let why = error.source().map(causes);
    why.map_or_else(|| error.to_string(), |why| format!("{error}: {why}"))
}

/// Figures by what they are of: unit, kernel, architecture, what is counted.
type Figures = BTreeMap<[String; 4], u64>;

fn run(tools: &Path, output: &Path, record: &Path) -> Result<(), String> {
    let nvrtc = Nvrtc::load(&tools.join("lib/libnvrtc.so.13")).map_err(|error| causes(&error))?;
    let mut units = sources::units();
    let shipped = units.len();
    units.extend(sources::counted());
    // Those that take longest first.
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by_key(|&i| !units[i].name.starts_with("msm"));
    let next = Mutex::new(order.into_iter());
    let done = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().map(|mut next| next.next());
                    let Ok(Some(i)) = taken else { return };
                    let result = compile(&nvrtc, tools, output, &units[i]);
                    if let Ok(mut done) = done.lock() {
                        done.push((i, result));
                    }
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .map_err(|_| "a compilation panicked".to_owned())?;
    done.sort_by_key(|one| one.0);
    let mut figures = Figures::new();
    let mut compiled = Vec::new();
    for (i, result) in done {
        let (unit, of_unit) = result?;
        if i < shipped {
            compiled.push(unit);
        }
        figures.extend(of_unit);
    }
    judge(&units, &figures, record)?;
    let file = bundle::write(&sources::digest(), &compiled);
    bundle::Bundle::parse(&sources::digest(), file.clone()).map_err(|error| error.to_string())?;
    fs::write(output, &file).map_err(|error| format!("{}: {error}", output.display()))?;
    println!(
        "{}: {} units, {} bytes",
        output.display(),
        compiled.len(),
        file.len()
    );
    Ok(())
}

fn compile(
    nvrtc: &Nvrtc,
    tools: &Path,
    output: &Path,
    unit: &Unit,
) -> Result<(Compiled, Figures), String> {
    let ptx = nvrtc
        .compile(unit, ARCHITECTURE_MIN)
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&ptx).into_owned();
    let file = output.with_file_name(format!("{}.ptx", unit.name));
    fs::write(&file, &ptx).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut images = Vec::new();
    let mut figures = Figures::new();
    let kernels = shapes(&text);
    // Of a unit that is shipped, one kernel that is a multiplication and little else.
    let shipped = !unit.name.starts_with("counted");
    let counted: Vec<&str> = match shipped {
        false => kernels.iter().map(|kernel| &kernel.name[..]).collect(),
        true if unit.name.starts_with("elementwise") => vec!["multiply"],
        true => Vec::new(),
    };
    for architecture in ARCHITECTURES {
        let mut figure = |kernel: &str, what: &str, number| {
            let architecture = format!("sm_{architecture}");
            let key = [&unit.name, kernel, &architecture, what].map(ToOwned::to_owned);
            figures.insert(key, number);
        };
        let code = file.with_extension(format!("sm_{architecture}.cubin"));
        let said = command(
            Command::new(tools.join("bin/ptxas"))
                .arg("-v")
                .arg(format!("-arch=sm_{architecture}"))
                .arg("-o")
                .arg(&code)
                .arg(&file),
        )?;
        for (kernel, [spills, registers]) in usage(&said) {
            figure(&kernel, SPILLS, spills);
            if shipped && architecture == REGISTERS_OF {
                figure(&kernel, "registers", registers);
            }
        }
        if !counted.is_empty() {
            let listing = command(
                Command::new(tools.join("bin/nvdisasm"))
                    .arg("-c")
                    .arg(&code),
            )?;
            for kernel in &counted {
                for (what, count) in multiplications(&listing, kernel) {
                    if shipped || JUDGED.contains(&&what[..]) {
                        figure(kernel, &what, count);
                    }
                }
            }
        }
        images.push((
            architecture,
            fs::read(&code).map_err(|error| format!("{}: {error}", code.display()))?,
        ));
        fs::remove_file(&code).map_err(|error| format!("{}: {error}", code.display()))?;
    }
    fs::remove_file(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    // A driver reads PTX as a string.
    let mut string = ptx;
    string.push(0);
    images.push((PTX, string));
    let compiled = Compiled {
        unit: unit.name.clone(),
        kernels,
        images,
    };
    Ok((compiled, figures))
}

/// What a tool says, on both of its outputs.
fn command(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("{program}: {}\n{said}", output.status))
    }
}

/// Bytes that each kernel spills, with the functions that it calls: they are listed behind it. And
/// the registers of a thread.
fn usage(said: &str) -> BTreeMap<String, [u64; 2]> {
    let mut usage = BTreeMap::new();
    let mut kernel = String::new();
    for line in said.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            kernel = rest.split('\'').next().unwrap_or("").to_owned();
        }
        let [spills, registers] = usage.entry(kernel.clone()).or_insert([0; 2]);
        if line.contains("bytes spill stores") {
            // "N bytes stack frame, N bytes spill stores, N bytes spill loads"
            *spills += line
                .split(',')
                .skip(1)
                .filter_map(|part| part.trim().split(' ').next()?.parse::<u64>().ok())
                .sum::<u64>();
        }
        if let Some((_, rest)) = line.split_once(": Used ") {
            *registers = rest.split(' ').next().unwrap_or("").parse().unwrap_or(0);
        }
    }
    // What is said before the first one.
    usage.remove("");
    usage
}

/// Instructions IMAD of a kernel in a listing, by their kind and all together.
fn multiplications(listing: &str, kernel: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut inside = false;
    for line in listing.lines() {
        if let Some(section) = line.trim().strip_prefix(".text.") {
            inside = section.trim_end_matches(':') == kernel;
        }
        if !inside {
            continue;
        }
        if let Some(word) = line
            .split_whitespace()
            .find(|word| word.starts_with("IMAD"))
        {
            let kind = WIDE
                .into_iter()
                .chain(["IMAD.MOV", "IMAD.SHL", "IMAD.IADD"])
                .find(|kind| word.starts_with(kind))
                .unwrap_or("IMAD");
            let slots = if WIDE.contains(&kind) { 2 } else { 1 };
            for (what, number) in [(kind, 1), (ALL_IMAD, 1), (SLOTS, slots)] {
                *counts.entry(what.to_owned()).or_insert(0) += number;
            }
        }
    }
    counts
}

/// Holds the figures against the record, and writes it if they are better.
fn judge(units: &[Unit], figures: &Figures, record: &Path) -> Result<(), String> {
    let text =
        fs::read_to_string(record).map_err(|error| format!("{}: {error}", record.display()))?;
    let mut before = Figures::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [unit, kernel, architecture, what, number] = fields[..] else {
            return Err(format!("{}: not a figure: {line}", record.display()));
        };
        let number = number
            .parse()
            .map_err(|error| format!("{}: {line}: {error}", record.display()))?;
        before.insert(
            [unit, kernel, architecture, what].map(ToOwned::to_owned),
            number,
        );
    }
    let mut risen = Vec::new();
    // Of which kind the instructions are may change if there are not more of them.
    let judged = figures
        .iter()
        .filter(|(key, _)| JUDGED.contains(&&key[3][..]));
    for (key, &number) in judged {
        let [unit, kernel, architecture, what] = key;
        let forbidden = units
            .iter()
            .any(|known| known.spills_forbidden && known.name == *unit);
        let most = if what == SPILLS && forbidden {
            0
        } else {
            // A kernel that is not in the record may spill nothing; how it multiplies is recorded.
            let new = if what == SPILLS { 0 } else { u64::MAX };
            before.get(key).copied().unwrap_or(new)
        };
        if number > most {
            risen.push(format!(
                "{unit}, {kernel}, {architecture}: {what} {number}, at most {most}"
            ));
        }
    }
    if !risen.is_empty() {
        return Err(format!(
            "worse than {}:\n{}",
            record.display(),
            risen.join("\n")
        ));
    }
    let mut lines: String = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    for (key, number) in figures {
        // What is not there is zero.
        if *number != 0 {
            lines.push_str(&format!("{}\t{number}\n", key.join("\t")));
        }
    }
    if lines != text {
        fs::write(record, lines).map_err(|error| format!("{}: {error}", record.display()))?;
        println!(
            "{}: figures have fallen, or are new: commit it",
            record.display()
        );
    }
    Ok(())
}

const SPILLS: &str = "spills";

/// The figure of all instructions IMAD, whatever their kind.
const ALL_IMAD: &str = "all IMAD";

/// What they take of the multipliers' time: those that make 64 bits, or the upper 32 of them, twice as
/// much as others.
const SLOTS: &str = "IMAD slots";
const WIDE: [&str; 2] = ["IMAD.WIDE", "IMAD.HI"];

/// What may not rise.
const JUDGED: [&str; 3] = [SPILLS, ALL_IMAD, SLOTS];

/// The architecture whose registers are recorded: H100's.
const REGISTERS_OF: u32 = 90;

const ARCHITECTURES: [u32; 6] = [80, 86, 89, 90, 100, 120];
