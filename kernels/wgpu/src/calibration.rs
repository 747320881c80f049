//! Which variant multiplies faster on this device, measured once and kept.
//!
//! Measured are chains of multiplications in BN254's base field, where sums of points spend their
//! time, in as many threads as take a few milliseconds. That costs two small shaders and some tens
//! of milliseconds of the device.
//!
//! What is kept is a file in a folder of the caller's, one for each adapter with its driver. It
//! names the adapter, the driver and the shaders that were measured, by a digest of their text, and
//! ends with a digest of itself; a file that does not fit, for whatever reason, is measured anew.
//! Losing it costs time and nothing else, so that a folder that cannot be written to is no error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use caldera_kernels::{CurveId, DeviceError};

use crate::generate::Variant;
use crate::gpu::{Command, Dispatch, Gpu, JOB_WORDS, Part};
use crate::shaders::{Kernel, Over};

/// How to multiply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Thus. Refused where the device has no 64-bit integers and they are asked for.
    Fixed(Variant),
    /// As was measured to be faster, now or, if that was kept in a folder, before.
    Measured {
        /// Where it is kept.
        folder: Option<PathBuf>,
    },
}

/// What one multiplication takes, over all threads: (portable, with 64-bit integers), in
/// picoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    portable_ps: u64,
    int64_ps: u64,
}

impl Times {
    fn faster(self) -> Variant {
        if self.int64_ps < self.portable_ps {
            Variant::Int64
        } else {
            Variant::Portable
        }
    }
}

pub(crate) fn choose(gpu: &Arc<Gpu>, choice: &Choice) -> Result<Variant, DeviceError> {
    let folder = match choice {
        Choice::Fixed(Variant::Int64) if !gpu.has_int64 => {
            return Err(DeviceError::Lost {
                device: gpu.name.clone(),
                why: "it has no 64-bit integers in shaders, which were asked for".to_owned(),
            });
        }
        Choice::Fixed(variant) => return Ok(*variant),
        Choice::Measured { .. } if !gpu.has_int64 => return Ok(Variant::Portable),
        Choice::Measured { folder } => folder,
    };
    let Some(folder) = folder else {
        return Ok(measure(gpu)?.faster());
    };
    let key = Key::of(gpu);
    let path = folder.join(key.file_name());
    if let Some(times) = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| key.parse(&text))
    {
        return Ok(times.faster());
    }
    let times = measure(gpu)?;
    keep(&path, &key.text(times));
    Ok(times.faster())
}

/// Writes a file whole or not at all. Whether that worked is only a matter of time at the next
/// start.
fn keep(path: &Path, text: &str) {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let kept = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path));
    if kept.is_err() {
        let _ = std::fs::remove_file(&new);
    }
}

/// What was measured.
struct Key {
    identity: String,
    shaders: u64,
}

impl Key {
    fn of(gpu: &Gpu) -> Self {
        let texts = [Variant::Portable, Variant::Int64].map(|variant| CHAIN.text(OVER, variant));
        Self {
            identity: gpu.identity.replace('\n', " "),
            shaders: digest(texts.concat().as_bytes()),
        }
    }

    fn file_name(&self) -> String {
        format!("wgpu-{:016x}.txt", digest(self.identity.as_bytes()))
    }

    fn text(&self, times: Times) -> String {
        let body = format!(
            "{}\nshaders {:016x}\nportable {} ps\nint64 {} ps\n",
            self.identity, self.shaders, times.portable_ps, times.int64_ps
        );
        let end = digest(body.as_bytes());
        format!("{body}digest {end:016x}\n")
    }

    /// The times, if this is what `text` wrote for this device and these shaders.
    fn parse(&self, text: &str) -> Option<Times> {
        let time = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_suffix(" ps")?.parse().ok()
        };
        let times = Times {
            portable_ps: time("portable ")?,
            int64_ps: time("int64 ")?,
        };
        (self.text(times) == text).then_some(times)
    }
}

/// FNV-1a: against accidents, not against anybody.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

const CHAIN: Kernel = Kernel::Chain;
const OVER: Over = Over::Base(CurveId::Bn254);
/// Multiplications of each thread.
const LENGTH: u32 = 64;
/// Workgroups, from and to.
const GROUPS: std::ops::RangeInclusive<u32> = 16..=8192;
/// As long as this is enough to be seen.
const ENOUGH: Duration = Duration::from_millis(2);

fn measure(gpu: &Arc<Gpu>) -> Result<Times, DeviceError> {
    Ok(Times {
        portable_ps: multiplication_ps(gpu, Variant::Portable)?,
        int64_ps: multiplication_ps(gpu, Variant::Int64)?,
    })
}

fn multiplication_ps(gpu: &Arc<Gpu>, variant: Variant) -> Result<u64, DeviceError> {
    let pipeline = gpu.pipeline(CHAIN, OVER, variant)?;
    let jobs = gpu.jobs(1)?;
    let elements = u64::from(*GROUPS.end()) * 64 * 32;
    let (from, to) = (
        gpu.buffer("calibration", elements)?,
        gpu.buffer("calibration", elements)?,
    );
    let bind = gpu.bind(&pipeline, &jobs, &[Part::all(&from), Part::all(&to)])?;
    let run = |groups: u32| {
        let mut job = [0; JOB_WORDS];
        job[1..3].copy_from_slice(&[groups * 64, LENGTH]);
        let command = Command::Dispatch(Dispatch {
            pipeline: &pipeline,
            bind: &bind,
            job: 0,
            groups,
        });
        gpu.submit(&[command], Some((&jobs, &[job])))
    };
    // The driver may compile now. Zeros multiply as fast as anything.
    run(1)?;
    let mut groups = *GROUPS.start();
    while groups < *GROUPS.end() && run(groups)? < ENOUGH {
        groups *= 2;
    }
    // Whatever else the machine does can only slow one down.
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        fastest = fastest.min(run(groups)?);
    }
    let count = u128::from(groups) * 64 * u128::from(LENGTH);
    Ok((fastest.as_nanos() * 1000 / count) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_whole_or_not_at_all() {
        let key = Key {
            identity: "A Card 10de:2330 driver 1.2".to_owned(),
            shaders: 0x0123_4567_89ab_cdef,
        };
        let times = Times {
            portable_ps: 100,
            int64_ps: 73,
        };
        let text = key.text(times);
        assert_eq!(key.parse(&text), Some(times));
        assert_eq!(times.faster(), Variant::Int64);
        for at in 0..text.len() {
            assert_eq!(key.parse(&text[..at]), None);
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            let damaged = String::from_utf8(damaged).expect("one bit of ASCII");
            assert_eq!(key.parse(&damaged), None, "at {at}");
        }
        let other = Key {
            identity: "A Card 10de:2330 driver 1.3".to_owned(),
            ..key
        };
        assert_eq!(other.parse(&text), None);
        assert_ne!(other.file_name(), key_name());
        fn key_name() -> String {
            Key {
                identity: "A Card 10de:2330 driver 1.2".to_owned(),
                shaders: 0,
            }
            .file_name()
        }
    }
}
