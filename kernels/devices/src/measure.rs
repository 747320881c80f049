//! What a device takes for each kind of work: for people who choose one, and who tune one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve, Projective};
use caldera_kernels::field::PrimeField;
use caldera_kernels::{
    CurveId, Device, DeviceError, Form, Group, Held, Plan, Progress, Transform, VectorId, Work,
};

/// What one kind of work of one size took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// One of [`KINDS`].
    pub kind: &'static str,
    /// How many quanta it was.
    pub quanta: usize,
    /// The longest of them.
    pub longest: Duration,
    /// The median of several runs, on one thread. Copies to and from the device are not in it.
    pub median: Duration,
}

/// Measures each kind of work that the device does over 2^log2 elements, `rounds` times after one that is not counted.
/// `tell` is called before each kind.
///
/// # Errors
/// Those of the device.
pub fn measure(
    device: &dyn Device,
    curve: CurveId,
    log2: u32,
    rounds: usize,
    tell: &mut dyn FnMut(&'static str),
) -> Result<Vec<Measured>, DeviceError> {
    match curve {
        CurveId::Bn254 => measure_on::<Bn254>(device, log2, rounds, tell),
        CurveId::Bls12_381 => measure_on::<Bls12_381>(device, log2, rounds, tell),
    }
}

/// One quantum of a plan: which part of the work, from when to when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantum {
    /// Which run of the work; the first is not told of.
    pub round: usize,
    /// Which stage of the plan, and which lane of the stage.
    pub stage: usize,
    /// The lane.
    pub lane: u32,
    /// Since the beginning of its run.
    pub begin: Duration,
    /// How long it held its thread.
    pub span: Duration,
    /// How long silicon is known to have computed since the quantum before, by its own clock; see [`Plan::device_time`].
    ///
    /// [`Plan::device_time`]: caldera_kernels::Plan::device_time
    pub device: Option<Duration>,
    /// When that began, since the beginning of its run, where it is known; see [`Plan::device_began`].
    ///
    /// [`Plan::device_began`]: caldera_kernels::Plan::device_began
    pub device_begin: Option<Duration>,
}

/// One kind of work on a device, with all that it needs there, to be done again and again.
pub struct Bench<'a> {
    device: &'a dyn Device,
    _held: Held<&'a dyn Device>,
    work: Work,
    /// Of a vector of its size.
    bytes: usize,
}

impl<'a> Bench<'a> {
    /// Over 2^log2 elements. Of more than 2^distinct points of a sum, those that follow are the first ones again,
    /// which takes less time to make and the same to sum.
    ///
    /// # Errors
    /// Those of the device.
    ///
    /// # Panics
    /// For a kind that is not of [`KINDS`] and not [`FORWARD`].
    pub fn new(
        device: &'a dyn Device,
        curve: CurveId,
        kind: &str,
        log2: u32,
        distinct: u32,
    ) -> Result<Self, DeviceError> {
        assert!(
            KINDS.contains(&kind) || kind == FORWARD,
            "a kind of work, not {kind:?}"
        );
        let mut held = Held::new(device);
        let size = Size {
            log2,
            distinct: distinct.min(log2),
        };
        let work = match curve {
            CurveId::Bn254 => work::<Bn254>(device, &mut held, kind, size)?,
            CurveId::Bls12_381 => work::<Bls12_381>(device, &mut held, kind, size)?,
        };
        Ok(Self {
            device,
            _held: held,
            work,
            bytes: curve.scalar_bytes() << log2,
        })
    }

    /// Makes tables for its sum, with so many bytes; how many they take. Nothing where it is no sum.
    ///
    /// # Errors
    /// Those of the device.
    pub fn tables(&mut self, bytes: usize) -> Result<usize, DeviceError> {
        let Work::Msm { bases, .. } = self.work else {
            return Ok(0);
        };
        let work = Work::Tables {
            bases: vec![bases],
            bytes,
        };
        let plan = self.device.plan(&work)?;
        run(&*plan, &mut |_| ())?;
        self.device.tables_bytes(bases)
    }

    /// The next time that it is done: nothing of it has begun.
    ///
    /// # Errors
    /// Those of the device.
    pub fn plan(&self) -> Result<Arc<dyn Plan>, DeviceError> {
        self.device.plan(&self.work)
    }

    /// What a transform has left, or the factors that a product left; nothing of other work.
    ///
    /// # Errors
    /// Those of the device.
    pub fn vector(&self) -> Result<Vec<u8>, DeviceError> {
        let (Work::Ntt { vector, .. } | Work::Multiply { out: vector, .. }) = self.work else {
            return Ok(Vec::new());
        };
        let mut bytes = vec![0; self.bytes];
        self.device.vector_read(vector, 0, &mut bytes)?;
        Ok(bytes)
    }
}

/// What a kind of work is done on, as it lies in a device's memory.
pub struct Inputs {
    /// Of a sum.
    pub points: Bytes,
    /// The scalars of a sum, or the elements of a vector.
    pub scalars: Vec<u8>,
}

/// What [`Bench::new`] gives to a sum or to a vector, for whoever computes the same in another way.
///
/// # Panics
/// For a kind that is not of [`KINDS`] and not [`FORWARD`].
pub fn inputs(curve: CurveId, kind: &str, log2: u32, distinct: u32) -> Inputs {
    assert!(
        KINDS.contains(&kind) || kind == FORWARD,
        "a kind of work, not {kind:?}"
    );
    let size = Size {
        log2,
        distinct: distinct.min(log2),
    };
    fn of<C: Curve>(kind: &str, size: Size) -> Inputs {
        Inputs {
            points: match kind {
                "msm-g1" => points::<C::Fq>(size),
                "msm-g2" => points::<C::Fq2>(size),
                _ => Bytes::new(),
            },
            scalars: scalars::<C::Fr>(1 << size.log2),
        }
    }
    match curve {
        CurveId::Bn254 => of::<Bn254>(kind, size),
        CurveId::Bls12_381 => of::<Bls12_381>(kind, size),
    }
}

/// Runs a plan to its end on the calling thread. `each` is told of each quantum, of no round.
///
/// # Errors
/// Those of the device.
pub fn run(plan: &dyn Plan, each: &mut dyn FnMut(Quantum)) -> Result<(), DeviceError> {
    let mut computed = Duration::ZERO;
    let start = Instant::now();
    for stage in 0..plan.stages() {
        for lane in 0..plan.open(stage)? {
            loop {
                let begin = start.elapsed();
                let progress = plan.run(stage, lane)?;
                let span = start.elapsed() - begin;
                let device = plan.device_time().map(|all| {
                    let before = std::mem::replace(&mut computed, all);
                    all.saturating_sub(before)
                });
                let began = plan.device_began();
                each(Quantum {
                    round: 0,
                    stage,
                    lane: lane as u32,
                    begin,
                    span,
                    device,
                    device_begin: began.map(|at| at.saturating_duration_since(start)),
                });
                if progress == Progress::Done {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Runs one kind of work over 2^log2 elements, `rounds` times after one that is not counted, on the calling
/// thread. `each` is told of each quantum and costs no time that is in them.
///
/// # Errors
/// Those of the device.
///
/// # Panics
/// For a kind that is not of [`KINDS`].
pub fn quanta(
    device: &dyn Device,
    curve: CurveId,
    kind: &str,
    log2: u32,
    rounds: usize,
    each: &mut dyn FnMut(Quantum),
) -> Result<(), DeviceError> {
    let bench = Bench::new(device, curve, kind, log2, log2)?;
    for round in 0..=rounds {
        run(&*bench.plan()?, &mut |quantum| {
            // The first round may compile shaders and fill caches.
            if round > 0 {
                each(Quantum { round, ..quantum });
            }
        })?;
    }
    Ok(())
}

fn measure_on<C: Curve>(
    device: &dyn Device,
    log2: u32,
    rounds: usize,
    tell: &mut dyn FnMut(&'static str),
) -> Result<Vec<Measured>, DeviceError> {
    let mut all = Vec::new();
    for kind in KINDS {
        tell(kind);
        let mut times = vec![Duration::ZERO; rounds];
        let (mut count, mut longest) = (0, Duration::ZERO);
        let ran = quanta(device, C::ID, kind, log2, rounds, &mut |it| {
            // From the beginning to the end of the last.
            times[it.round - 1] = it.begin + it.span;
            count += usize::from(it.round == 1);
            longest = longest.max(it.span);
        });
        match ran {
            Err(DeviceError::Unfit { .. }) => continue,
            other => other?,
        }
        all.push(Measured {
            kind,
            quanta: count,
            longest,
            median: median(times),
        });
    }
    Ok(all)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// What it takes to bring 2^log2 scalars to a device, the median of some times.
pub(crate) fn copying(
    device: &dyn Device,
    curve: CurveId,
    log2: u32,
    rounds: usize,
) -> Result<Duration, DeviceError> {
    let mut held = Held::new(device);
    let vector = held.vector(curve, 1 << log2)?;
    let zeros = vec![0; curve.scalar_bytes() << log2];
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begin = Instant::now();
        device.vector_write(vector, 0, &zeros)?;
        times.push(begin.elapsed());
    }
    Ok(median(times))
}

/// What a kind of work needs, on the device, and the work.
fn work<C: Curve>(
    device: &dyn Device,
    held: &mut Held<&dyn Device>,
    kind: &str,
    size: Size,
) -> Result<Work, DeviceError> {
    let n = 1usize << size.log2;
    let scalars = scalars::<C::Fr>(n);
    let mut vector = || -> Result<VectorId, DeviceError> {
        let vector = held.vector(C::ID, n)?;
        device.vector_write(vector, 0, &scalars)?;
        Ok(vector)
    };
    Ok(match kind {
        "product" => {
            let (a, b, witness) = (vector()?, vector()?, vector()?);
            // Three entries a row, as in a circuit of additions and products.
            let entries = (0..3 * n as u32).flat_map(|i| {
                let column = i.wrapping_mul(0x9e37_79b1) % n as u32;
                let numbers = [i % 2, i / 3, column].map(u32::to_le_bytes);
                let coefficient = &scalars[32 * column as usize..][..32];
                [&numbers.concat()[..], coefficient].concat()
            });
            let matrix = held.matrix(C::ID, n, n, Bytes::from_iter(entries))?;
            Work::Product {
                matrix,
                witness,
                a,
                b,
            }
        }
        "multiply" => {
            let (a, b) = (vector()?, vector()?);
            Work::Multiply { a, b, out: a }
        }
        "ntt" => Work::Ntt {
            vector: vector()?,
            transform: Transform::Shift,
        },
        FORWARD => Work::Ntt {
            vector: vector()?,
            transform: Transform::Forward,
        },
        "msm-g1" | "msm-g2" => {
            let witness = vector()?;
            let (group, points) = if kind == "msm-g1" {
                (Group::G1, points::<C::Fq>(size))
            } else {
                (Group::G2, points::<C::Fq2>(size))
            };
            Work::Msm {
                bases: held.bases(C::ID, group, points)?,
                scalars: witness,
                offset: 0,
                form: Form::Canonical,
            }
        }
        other => unreachable!("{other:?} was held against the list of kinds"),
    })
}

/// The kinds of work that are measured: both matrices of a key by a vector, with three entries a row; products
/// of two vectors; a transform with its shift; sums in either group.
pub const KINDS: [&str; 5] = ["product", "multiply", "ntt", "msm-g1", "msm-g2"];

/// A transform one way; the one of [`KINDS`] goes there and back.
pub const FORWARD: &str = "ntt-forward";

/// 2^log2 elements, of which 2^distinct points are each another one.
#[derive(Clone, Copy)]
struct Size {
    log2: u32,
    distinct: u32,
}

/// Powers of an element, ever higher: as dense as scalars can be, and the same each time.
fn scalars<F: PrimeField>(count: usize) -> Vec<u8> {
    let generator = F::from(0x9e37_79b9_7f4a_7c15) * F::from(0xbf58_476d_1ce4_e5b9);
    let mut power = generator;
    let mut bytes = vec![0; 32 * count];
    for scalar in bytes.chunks_mut(32) {
        power.to_canonical_le(scalar);
        power = power.square() * generator;
    }
    bytes
}

/// Points in no order that the sums' buckets would feel: sums of multiples that double.
fn points<F: Coordinate>(size: Size) -> Bytes {
    let count = 1 << size.distinct;
    let mut step = F::GENERATOR.mul_canonical(&[0x9e37_79b9]).to_affine();
    let mut sum = Projective::<F>::INFINITY;
    let mut sums = Vec::with_capacity(count);
    for i in 0..count {
        sum = sum.double().add_affine(&step);
        sums.push(sum);
        if i % 1024 == 1023 {
            step = sum.to_affine();
        }
    }
    let mut bytes = vec![0; count * Affine::<F>::BYTES];
    let affine = Projective::batch_to_affine(&sums);
    for (point, bytes) in affine.iter().zip(bytes.chunks_mut(Affine::<F>::BYTES)) {
        point.to_bytes(bytes);
    }
    bytes.repeat(1 << (size.log2 - size.distinct)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use caldera_kernels::cpu::{CpuConfig, CpuDevice};

    #[test]
    fn each_kind_is_measured_once_and_nothing_is_left() {
        let device = CpuDevice::new(CpuConfig {
            quantum: Duration::from_micros(100),
            lanes: 2,
        });
        let mut told = Vec::new();
        let measured = measure(&*device, CurveId::Bls12_381, 8, 2, &mut |kind| {
            told.push(kind);
        });
        let measured = measured.unwrap();
        let kinds: Vec<&str> = measured.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, ["product", "multiply", "ntt", "msm-g1", "msm-g2"]);
        assert_eq!(kinds, told);
        for it in &measured {
            assert!(it.quanta > 0, "{it:?}");
            assert!(it.median > Duration::ZERO, "{it:?}");
        }
        // The first vector's id is 1: freed.
        let refused = device.vector_read(VectorId(1), 0, &mut []);
        assert!(matches!(refused, Err(DeviceError::Unknown { .. })));
    }
}
