//! Transforms: how they are put together from the kernels of `wgsl/ntt.wgsl`.
//!
//! From natural order decimation in frequency leads to bits reversed, from there decimation in
//! time back, so a shift needs no reversal: inverse, scaling by v^i / n where i is the place with
//! its bits reversed, forward. The other two end with one.
//!
//! Layers go several at a time through a workgroup's own memory, in passes over tiles of up to
//! 2^8 elements: up to six layers and at least four elements side by side, which is a line of
//! memory of 128 bytes, and eight layers where those next to each other are wanted. A transform of
//! 2^20 elements is three passes. A vector that is larger than what can be bound first goes
//! through single layers whose two halves are bound apart, then piece by piece through passes.
//!
//! The table of a domain of n holds v^i for all i below n, 32 bytes each, made on the device by
//! doubling. It stays for the next transform; pieces have one of their own. A key's is made when its
//! matrices come to the device; where there is none yet, or it had to make room, a transform begins with
//! that as a stage of its own. Plans that begin so at once write the same powers to the same places.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use caldera_kernels::curve::{Bls12_381, Bn254, Curve};
use caldera_kernels::field::PrimeField;
use caldera_kernels::{CurveId, DeviceError, Plan, Progress, Transform};

use crate::generate::Variant;
use crate::gpu::{Gpu, Memory, Part};
use crate::pace::Load;
use crate::plan::{Stage, Staged, Step, Steps};
use crate::shaders::{Kernel, Over};
use crate::vector::{SCALAR, Vector, fitting};

/// Powers of v for one size.
pub(crate) struct Domain {
    curve: CurveId,
    log2: u32,
    /// Whether the table is whole.
    is_made: Arc<AtomicBool>,
    table: Memory,
    /// v^(2^i) for i up to log2, then 1/n.
    constants: Memory,
}

/// log2 of a length, if it can be transformed.
pub(crate) fn domain_log2(curve: CurveId, len: usize) -> Result<u32, DeviceError> {
    let adicity = match curve {
        CurveId::Bn254 => <<Bn254 as Curve>::Fr as PrimeField>::TWO_ADICITY,
        CurveId::Bls12_381 => <<Bls12_381 as Curve>::Fr as PrimeField>::TWO_ADICITY,
    };
    // The tables of all transforms are made from the root of twice the order.
    let max_log2 = adicity - 1;
    if !len.is_power_of_two() || len < 2 || len.ilog2() > max_log2 {
        return Err(DeviceError::Domain { got: len, max_log2 });
    }
    Ok(len.ilog2())
}

impl Domain {
    /// Room for it, and what it is made of.
    pub(crate) fn new(gpu: &Gpu, curve: CurveId, log2: u32) -> Result<Self, DeviceError> {
        let constants = match curve {
            CurveId::Bn254 => constants::<<Bn254 as Curve>::Fr>(log2),
            CurveId::Bls12_381 => constants::<<Bls12_381 as Curve>::Fr>(log2),
        };
        let n = 1usize << log2;
        let table = gpu.buffer("roots of unity", n as u64 * SCALAR)?;
        let one = match curve {
            CurveId::Bn254 => one::<<Bn254 as Curve>::Fr>(),
            CurveId::Bls12_381 => one::<<Bls12_381 as Curve>::Fr>(),
        };
        gpu.write(&table, 0, &one)?;
        let constant_buffer = gpu.buffer("roots of unity", constants.len() as u64)?;
        gpu.write(&constant_buffer, 0, &constants)?;
        Ok(Self {
            curve,
            log2,
            is_made: Arc::default(),
            table,
            constants: constant_buffer,
        })
    }

    pub(crate) fn is_made(&self) -> bool {
        self.is_made.load(Ordering::Acquire)
    }

    /// Makes the table, in quanta, on the calling thread.
    pub(crate) fn make(&self, gpu: &Arc<Gpu>, variant: Variant) -> Result<(), DeviceError> {
        let maker = Steps::new(gpu, variant)?;
        let stages = vec![Stage {
            name: POWERS,
            steps: self.powers(&maker)?,
        }];
        let plan = Staged::plan(maker, stages, (), None);
        plan.open(0)?;
        while plan.run(0, 0)? == Progress::More {}
        Ok(())
    }

    /// What makes the table, if nobody has made it before this begins.
    fn powers(&self, maker: &Steps<'_>) -> Result<Vec<Step>, DeviceError> {
        let (is_made, seen) = (self.is_made.clone(), Arc::new(OnceLock::new()));
        let all = seen.clone();
        let mut steps = vec![Step::Look(Box::new(move |_| {
            let groups = if is_made.load(Ordering::Acquire) {
                0
            } else {
                u32::MAX
            };
            all.get_or_init(|| (groups, Load::even(1.0)));
            Ok(())
        }))];
        // Doubled in one binding as long as it fits, and then in pieces, each from one that is
        // there already.
        let fits = 1usize << fitting(maker.gpu).ilog2();
        for i in 0..self.log2 {
            let have = 1usize << i;
            let constants = || Part::all(&self.constants);
            let over = Over::Scalars(self.curve);
            if 2 * have <= fits {
                let step = maker.threads(
                    Kernel::NttPowers,
                    over,
                    &[self.part(0, 2 * have), constants()],
                    &[have as u32, i],
                    have,
                    1.0,
                )?;
                steps.push(step.counted_by(seen.clone()));
                continue;
            }
            for at in (0..have).step_by(fits) {
                let step = maker.threads(
                    Kernel::NttExtend,
                    over,
                    &[self.part(at, fits), self.part(have + at, fits), constants()],
                    &[fits as u32, i],
                    fits,
                    1.0,
                )?;
                steps.push(step.counted_by(seen.clone()));
            }
        }
        let is_made = self.is_made.clone();
        steps.push(Step::Look(Box::new(move |_| {
            is_made.store(true, Ordering::Release);
            Ok(())
        })));
        Ok(steps)
    }

    fn part(&self, from: usize, count: usize) -> Part<'_> {
        Part {
            buffer: &self.table,
            range: from as u64 * SCALAR..(from + count) as u64 * SCALAR,
        }
    }
}

fn one<F: PrimeField>() -> Vec<u8> {
    let mut bytes = vec![0; F::BYTES];
    F::ONE.to_montgomery_le(&mut bytes);
    bytes
}

fn constants<F: PrimeField>(log2: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut push = |x: &F| {
        let mut part = vec![0; F::BYTES];
        x.to_montgomery_le(&mut part);
        bytes.extend(part);
    };
    let mut power = F::root_of_unity(log2 + 1).expect("domain_log2 has looked");
    for _ in 0..log2 + 1 {
        push(&power);
        power = power.square();
    }
    let n = F::from(1u64 << log2);
    push(&n.inverse().expect("a power of two is not zero"));
    bytes
}

pub(crate) fn plan(
    gpu: &Arc<Gpu>,
    variant: Variant,
    vector: Arc<Vector>,
    transform: Transform,
    mut domain: impl FnMut(u32) -> Result<Arc<Domain>, DeviceError>,
) -> Result<Arc<dyn Plan>, DeviceError> {
    let log2 = domain_log2(vector.curve, vector.len)?;
    let [whole, piece] = domains(gpu, log2);
    let (whole, piece) = (domain(whole)?, domain(piece)?);
    let maker = Transformer {
        steps: Steps::new(gpu, variant)?,
        vector: &vector,
        whole: &whole,
        piece: &piece,
    };
    let mut stages = Vec::new();
    let mut stage = |name, steps| stages.push(Stage { name, steps });
    let mut powers = Vec::new();
    for domain in [&whole, &piece] {
        let is_other = powers.is_empty() || !Arc::ptr_eq(&whole, &piece);
        if is_other && !domain.is_made() {
            powers.extend(domain.powers(&maker.steps)?);
        }
    }
    if !powers.is_empty() {
        stage(POWERS, powers);
    }
    match transform {
        Transform::Forward => {
            stage("ntt.forward", maker.layers(true, false)?);
            stage("ntt.reverse", maker.reverse()?);
        }
        Transform::Inverse => {
            stage("ntt.inverse", maker.layers(true, true)?);
            stage("ntt.scale", maker.scale(false)?);
            stage("ntt.reverse", maker.reverse()?);
        }
        Transform::Shift => {
            stage("ntt.inverse", maker.layers(true, true)?);
            stage("ntt.scale", maker.scale(true)?);
            stage("ntt.forward", maker.layers(false, false)?);
        }
    }
    let steps = maker.steps;
    Ok(Staged::plan(
        steps,
        stages,
        (vector.clone(), whole.clone(), piece.clone()),
        None,
    ))
}

/// Makes tables.
const POWERS: &str = "ntt.powers";

/// log2 of the domains that a transform of 2^log2 elements needs tables of.
pub(crate) fn domains(gpu: &Gpu, log2: u32) -> [u32; 2] {
    // Pieces that can be bound, and whose tables can.
    [log2, log2.min(fitting(gpu).ilog2())]
}

/// The kernels of a shift of so many elements, with its table.
pub(crate) fn kernels(gpu: &Gpu, curve: CurveId, log2: u32) -> Vec<(Kernel, Over)> {
    let [whole, piece] = domains(gpu, log2);
    let in_parts: &[Kernel] = match whole == piece {
        true => &[],
        false => &[Kernel::NttExtend, Kernel::NttSplit],
    };
    let always = [Kernel::NttPowers, Kernel::NttPass, Kernel::NttScale];
    let all = always.iter().chain(in_parts);
    all.map(|&kernel| (kernel, Over::Scalars(curve))).collect()
}

struct Transformer<'a, 'g> {
    steps: Steps<'g>,
    vector: &'a Vector,
    whole: &'a Domain,
    piece: &'a Domain,
}

impl Transformer<'_, '_> {
    fn over(&self) -> Over {
        Over::Scalars(self.vector.curve)
    }

    fn layers(&self, frequency: bool, inverse: bool) -> Result<Vec<Step>, DeviceError> {
        let mut steps = Vec::new();
        let mut pieces = Vec::new();
        let size = 1usize << self.piece.log2;
        for at in (0..self.vector.len).step_by(size) {
            self.passes(at, frequency, inverse, &mut pieces)?;
        }
        let mut split = Vec::new();
        for half_log2 in (self.piece.log2..self.whole.log2).rev() {
            split.push(self.split(half_log2, frequency, inverse)?);
        }
        if frequency {
            steps.extend(split.into_iter().flatten());
            steps.extend(pieces);
        } else {
            steps.extend(pieces);
            steps.extend(split.into_iter().rev().flatten());
        }
        Ok(steps)
    }

    /// All layers of one piece.
    fn passes(
        &self,
        at: usize,
        frequency: bool,
        inverse: bool,
        steps: &mut Vec<Step>,
    ) -> Result<(), DeviceError> {
        let log2 = self.piece.log2;
        let mut passes = passes(log2);
        if frequency {
            passes.reverse();
        }
        let size = 1usize << log2;
        for (low, layers, columns) in passes {
            steps.push(self.steps.groups(
                Kernel::NttPass,
                self.over(),
                &[self.vector.part(at, size), Part::all(&self.piece.table)],
                &[
                    layers,
                    low,
                    columns,
                    u32::from(frequency),
                    u32::from(inverse),
                    log2,
                ],
                size >> (layers + columns),
                Load::even(f64::from(layers << (layers + columns)) / 1024.0),
            )?);
        }
        Ok(())
    }

    /// One layer of butterflies 2^half_log2 apart, over the whole vector.
    fn split(
        &self,
        half_log2: u32,
        frequency: bool,
        inverse: bool,
    ) -> Result<Vec<Step>, DeviceError> {
        let mut steps = Vec::new();
        let n = self.vector.len;
        let half = 1usize << half_log2;
        // Powers go up by this much from butterfly to butterfly.
        let stride = self.whole.log2 - half_log2;
        let count = ((1usize << self.piece.log2) >> (stride + 1))
            .max(MULTIPLE)
            .min(half);
        for base in (0..n).step_by(2 * half) {
            for j in (0..half).step_by(count) {
                let (first, last) = (j << stride, (j + count - 1) << stride);
                // Powers first..=last, or n - last..=n - first of which n itself is no power but
                // one; bindings begin at multiples of eight.
                let (low, high) = if inverse {
                    (n - last, if first == 0 { n } else { n - first + 1 })
                } else {
                    (first, last + 1)
                };
                let low_bound = low / MULTIPLE * MULTIPLE;
                let start = if inverse { n - first } else { first };
                steps.push(self.steps.threads(
                    Kernel::NttSplit,
                    self.over(),
                    &[
                        self.vector.part(base + j, count),
                        self.vector.part(base + half + j, count),
                        self.whole.part(low_bound, high - low_bound),
                    ],
                    &[
                        count as u32,
                        stride,
                        (start - low_bound) as u32,
                        u32::from(frequency),
                        u32::from(inverse),
                        u32::from(first == 0),
                    ],
                    count,
                    1.0,
                )?);
            }
        }
        Ok(steps)
    }

    fn scale(&self, shift: bool) -> Result<Vec<Step>, DeviceError> {
        let mut steps = Vec::new();
        let size = 1usize << self.piece.log2;
        for at in (0..self.vector.len).step_by(size) {
            for from in (0..self.vector.len).step_by(size) {
                steps.push(self.steps.threads(
                    Kernel::NttScale,
                    self.over(),
                    &[
                        self.vector.part(at, size),
                        self.whole.part(from, size),
                        Part::all(&self.whole.constants),
                    ],
                    &[
                        size as u32,
                        at as u32,
                        self.whole.log2,
                        from as u32,
                        size as u32,
                        u32::from(shift),
                        self.whole.log2 + 1,
                    ],
                    size,
                    self.share(),
                )?);
            }
        }
        Ok(steps)
    }

    /// Of a piece's elements those whose places with their bits reversed are in a given piece.
    fn share(&self) -> f64 {
        1.0 / f64::from(1 << (self.whole.log2 - self.piece.log2))
    }

    fn reverse(&self) -> Result<Vec<Step>, DeviceError> {
        let mut steps = Vec::new();
        let size = 1usize << self.piece.log2;
        for x in (0..self.vector.len).step_by(size) {
            for y in (x..self.vector.len).step_by(size) {
                steps.push(self.steps.threads(
                    Kernel::NttReverse,
                    self.over(),
                    &[self.vector.part(x, size), self.vector.part(y, size)],
                    &[size as u32, self.whole.log2, x as u32, y as u32],
                    size,
                    self.share(),
                )?);
            }
        }
        Ok(steps)
    }
}

/// What passes all layers of a transform take, from that of neighbours up: the first layer, how many,
/// and log2 of the elements side by side. All but the first share what is left.
fn passes(log2: u32) -> Vec<(u32, u32, u32)> {
    let mut passes = Vec::new();
    let mut low = 0;
    while low < log2 {
        let layers = match low {
            0 => TILE_LOG2.min(log2),
            _ => {
                let left = log2 - low;
                left.div_ceil(left.div_ceil(TILE_LOG2 - SIDE_LOG2))
            }
        };
        passes.push((low, layers, (TILE_LOG2 - layers).min(low)));
        low += layers;
    }
    passes
}

/// log2 of the elements of a tile: 8 KiB of a workgroup's own memory.
const TILE_LOG2: u32 = 8;
/// log2 of the elements side by side, where a pass is not over neighbours.
const SIDE_LOG2: u32 = 2;
/// Elements that bindings begin at multiples of.
const MULTIPLE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_take_all_layers_and_share_them() {
        let layers = |log2| passes(log2).iter().map(|pass| pass.1).collect::<Vec<_>>();
        assert_eq!(layers(22), [8, 5, 5, 4]);
        assert_eq!(layers(20), [8, 6, 6]);
        assert_eq!(layers(9), [8, 1]);
        for log2 in 1..=28 {
            let mut next = 0;
            for (low, layers, columns) in passes(log2) {
                assert_eq!(low, next);
                assert!((1..=TILE_LOG2).contains(&layers) && layers + columns <= TILE_LOG2);
                assert!(low == 0 || columns >= SIDE_LOG2, "{low} {layers} of {log2}");
                next += layers;
            }
            assert_eq!(next, log2);
        }
    }
}
