//! Sums of multiples of points: buckets of signed digits.
//!
//! A scalar is cut into windows of c bits with digits from -(2^(c-1) - 1) to 2^(c-1), and a point
//! belongs, with its sign, to one bucket of each window where its digit is not zero. Steps, all of
//! them on the device but for the last:
//!
//! 1. `digits`: digits of all scalars, and how many points each bucket will get;
//! 2. `scan`: from that, where each bucket's points and each bucket's segments begin, in three
//!    kernels;
//! 3. `scatter`: a counting sort of the points' numbers by bucket;
//! 4. `accumulate`: sums of segments, which are at most [`SEGMENT_MAX`] points of one bucket, by
//!    mixed additions. A bucket that has many points, because many scalars are equal, is many
//!    segments and as many threads;
//! 5. `combine`: a tree over the segments of a bucket, eight to one in a round;
//! 6. `collect`: a bucket's sum; points that do not fit a binding come in pieces of 1 to 6;
//! 7. `reduce`: each window's weighted sum of buckets, 2^[`CHUNK_LOG2`] to one in a level;
//! 8. on the host: c doublings and an addition for each window.
//!
//! Between 3 and 4 the host looks how many segments there are and how many points the largest bucket
//! of each 1,024 has: what 4 and 5 have to do is as many workgroups as that, and each takes as long as
//! its longest thread (see `Found`). All other steps depend on how many scalars there are, not on
//! what they are.

use std::sync::{Arc, OnceLock};

use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve, Projective};
use caldera_kernels::field::{PrimeField, batch_inverse};
use caldera_kernels::{CurveId, DeviceError, Form, Group, Plan};

use crate::generate::Variant;
use crate::gpu::{Gpu, Memory, Part, Secret};
use crate::pace::Load;
use crate::plan::{Stage, Staged, Step, Steps, THREADS};
use crate::shaders::{Kernel, Over};
use crate::vector::{SCALAR, Vector};

/// Points on the device.
pub(crate) struct Bases {
    pub(crate) curve: CurveId,
    pub(crate) group: Group,
    pub(crate) count: usize,
    buffer: Memory,
}

impl Bases {
    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        curve: CurveId,
        group: Group,
        points: &[u8],
    ) -> Result<Self, DeviceError> {
        let size = curve.point_bytes(group);
        let count = points.len() / size;
        if count * size != points.len() {
            return Err(DeviceError::Length {
                what: "bytes of points",
                expected: count * size,
                got: points.len(),
            });
        }
        // The top bit of a point's number is its sign.
        if count >= 1 << 31 {
            return Err(DeviceError::Length {
                what: "points",
                expected: (1 << 31) - 1,
                got: count,
            });
        }
        let buffer = gpu.buffer("bases", points.len() as u64)?;
        gpu.write(&buffer, 0, points)?;
        Ok(Self {
            curve,
            group,
            count,
            buffer,
        })
    }
}

/// The kernels of a sum.
pub(crate) fn kernels(curve: CurveId, group: Group) -> Vec<(Kernel, Over)> {
    let words = [
        Kernel::MsmScanBlocks,
        Kernel::MsmScanStarts,
        Kernel::MsmScanPlaces,
        Kernel::MsmScatter,
    ];
    let points = [
        Kernel::MsmAccumulate,
        Kernel::MsmCombine,
        Kernel::MsmCollect,
        Kernel::MsmReduce,
    ];
    let mut all = vec![(Kernel::MsmDigits, Over::Scalars(curve))];
    all.extend(words.map(|kernel| (kernel, Over::Words)));
    all.extend(points.map(|kernel| (kernel, Over::Points(curve, group))));
    all
}

/// How a sum is cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Bits of a window.
    bits: u32,
    windows: usize,
    /// Of one window.
    buckets: usize,
    /// Points of a piece; bindings of bases and scalars begin at its multiples.
    piece: usize,
    /// Points of a segment.
    segment: usize,
    /// Segments of a piece, at most.
    segments: usize,
}

/// log2 of the buckets that one thread reduces. This and the next are held down by lavapipe, which
/// silently ends all loops of a thread that has taken 65,535 turns of any loops in all; what the
/// longest threads take is counted in a test below.
const CHUNK_LOG2: u32 = 3;
/// Points that one thread adds up, at most and at least.
const SEGMENT_MAX: usize = 32;
const SEGMENT_MIN: usize = 16;
/// Segments that one thread of a round takes together.
const ROUND: usize = 8;
/// Buckets that one workgroup scans.
const SCAN: usize = 1024;
/// What an addition of two sums costs, where that of a point is 1.
const FULL_ADDITION: f64 = 1.4;

impl Cut {
    fn of(gpu: &Gpu, curve: CurveId, group: Group, n: usize) -> Result<Self, DeviceError> {
        let scalar_bits = match curve {
            CurveId::Bn254 => <<Bn254 as Curve>::Fr as PrimeField>::MODULUS_BITS,
            CurveId::Bls12_381 => <<Bls12_381 as Curve>::Fr as PrimeField>::MODULUS_BITS,
        };
        let point = curve.point_bytes(group);
        let sum = 2 * point as u64;
        let mut best: Option<(f64, Self)> = None;
        for bits in 2..=BITS_MAX {
            // One bit more than the scalars have, for the last carry.
            let windows = (scalar_bits + 1).div_ceil(bits) as usize;
            let buckets = 1usize << (bits - 1);
            if (windows * buckets) as u64 * sum > gpu.binding {
                break;
            }
            let cost = windows as f64 * (n as f64 + buckets as f64 * 2.0 * FULL_ADDITION);
            if best.is_none_or(|(least, _)| cost < least) {
                let segment = (n / buckets)
                    .next_power_of_two()
                    .clamp(SEGMENT_MIN, SEGMENT_MAX);
                let segments = |piece: usize| {
                    windows * piece / segment + (windows * buckets).min(windows * piece)
                };
                // A multiple of eight scalars and of four points is a multiple of what bindings
                // begin at.
                let mut piece = n.next_multiple_of(8);
                while piece > 8
                    && ((piece * point) as u64 > gpu.binding
                        || (piece + 8) as u64 * SCALAR > gpu.binding
                        || (piece * windows * 4) as u64 > gpu.binding
                        || segments(piece) as u64 * sum > gpu.binding)
                {
                    // Where there are so many, whole workgroups: see `Plan::grain`.
                    let multiple = if piece > 256 { 64 } else { 8 };
                    piece = (piece / 2).next_multiple_of(multiple);
                }
                let cut = Self {
                    bits,
                    windows,
                    buckets,
                    piece,
                    segment,
                    segments: segments(piece),
                };
                best = Some((cost, cut));
            }
        }
        best.map(|(_, cut)| cut).ok_or(DeviceError::Memory {
            what: "buckets in one binding",
            bytes: gpu.binding as usize,
        })
    }

    fn all_buckets(&self) -> usize {
        self.windows * self.buckets
    }
}

/// Bits of a window, at most.
const BITS_MAX: u32 = 16;

/// What a plan keeps on the device.
struct Scratch {
    digits: Secret,
    counts: Secret,
    blocks: Secret,
    places: Secret,
    sorted: Secret,
    parts: Secret,
    buckets: Secret,
    levels: Secret,
}

pub(crate) fn plan(
    gpu: &Arc<Gpu>,
    variant: Variant,
    bases: Arc<Bases>,
    scalars: Arc<Vector>,
    offset: usize,
    form: Form,
) -> Result<Arc<dyn Plan>, DeviceError> {
    let (curve, group) = (bases.curve, bases.group);
    if bases.count == 0 {
        let stages = vec![Stage {
            name: "msm.digits",
            steps: Vec::new(),
        }];
        let infinity = vec![0; curve.point_bytes(group)];
        let finish = Box::new(move |_: &Gpu| Ok(infinity.clone()));
        return Ok(Staged::plan(
            Steps::new(gpu, variant)?,
            stages,
            (),
            Some(finish),
        ));
    }
    let cut = Cut::of(gpu, curve, group, bases.count)?;
    let point = curve.point_bytes(group) as u64;
    let all = cut.all_buckets();
    let (levels, last) = levels(&cut);
    let level_points = levels.iter().map(|level| 2 * level.count).sum::<usize>();
    let entries = (cut.windows * cut.piece * 4) as u64;
    let scratch = Scratch {
        digits: gpu.secret("digits", entries)?,
        counts: gpu.secret("buckets' sizes", 4 * all as u64)?,
        blocks: gpu.secret("buckets' sizes", Found::bytes(blocks(all)) as u64)?,
        places: gpu.secret("buckets' places", 8 * (all as u64 + 1))?,
        sorted: gpu.secret("points by bucket", entries)?,
        parts: gpu.secret("sums of segments", cut.segments as u64 * 2 * point)?,
        buckets: gpu.secret("buckets", all as u64 * 2 * point)?,
        levels: gpu.secret("reduced buckets", level_points as u64 * 2 * point)?,
    };
    let maker = Maker {
        steps: Steps::new(gpu, variant)?,
        program: gpu.program(group)?,
        cut,
        bases: &bases,
        scalars: &scalars,
        offset,
        form,
        scratch: &scratch,
    };
    let mut sort = Vec::new();
    let mut stages = Vec::new();
    for from in (0..bases.count).step_by(cut.piece) {
        let count = cut.piece.min(bases.count - from);
        sort.extend(maker.sort(from, count)?);
        let rounds = rounds(count, cut.segment);
        let seen: Seen = (0..=rounds).map(|_| Arc::default()).collect();
        sort.push(maker.look(seen.clone()));
        stages.push(Stage {
            name: "msm.sort",
            steps: std::mem::take(&mut sort),
        });
        stages.push(Stage {
            name: "msm.accumulate",
            steps: maker.accumulate(from, count, &seen)?,
        });
    }
    stages.push(Stage {
        name: "msm.reduce",
        steps: maker.reduce(&levels)?,
    });
    let steps = maker.steps;
    let buffer = scratch.levels.buffer.clone();
    let windows = cut.windows;
    let bits = cut.bits;
    let finish = Box::new(move |gpu: &Gpu| {
        let mut bytes = zeroize::Zeroizing::new(vec![0; windows * 2 * point as usize]);
        gpu.read(&buffer, last as u64 * 2 * point, &mut bytes)?;
        Ok(match (curve, group) {
            (CurveId::Bn254, Group::G1) => combine::<<Bn254 as Curve>::Fq>(&bytes, bits),
            (CurveId::Bn254, Group::G2) => combine::<<Bn254 as Curve>::Fq2>(&bytes, bits),
            (CurveId::Bls12_381, Group::G1) => combine::<<Bls12_381 as Curve>::Fq>(&bytes, bits),
            (CurveId::Bls12_381, Group::G2) => combine::<<Bls12_381 as Curve>::Fq2>(&bytes, bits),
        })
    });
    Ok(Staged::plan(
        steps,
        stages,
        (bases, scalars, scratch),
        Some(finish),
    ))
}

/// Blocks of buckets that are scanned, and of one more than there are, for the end of the last.
fn blocks(buckets: usize) -> usize {
    (buckets + 1).div_ceil(SCAN)
}

/// Rounds of `combine`: a bucket has at most one point of each scalar.
fn rounds(count: usize, segment: usize) -> u32 {
    let mut rounds = 0;
    while ROUND.pow(rounds) < count.div_ceil(segment) {
        rounds += 1;
    }
    rounds
}

/// How many workgroups of `accumulate` and of each round there are, and what they have.
type Seen = Vec<Arc<OnceLock<(u32, Load)>>>;

/// What the scan has found: of each block where its points and segments begin, where the last ones
/// end, and of each block how many points its largest bucket has.
struct Found<'a>(&'a [[u32; 2]]);

impl Found<'_> {
    /// Bytes of it, for so many blocks.
    fn bytes(blocks: usize) -> usize {
        8 * (2 * blocks + 1)
    }

    /// What the workgroups have whose threads have a segment each, by the longest thread of a block;
    /// without those at the end that have nothing.
    fn load(&self, of_largest: impl Fn(u32) -> f64) -> (u32, Load) {
        let blocks = self.0.len() / 2;
        let segments = self.0[blocks][1];
        let mut units = vec![IDLE; (segments as usize).div_ceil(THREADS)];
        for block in 0..blocks {
            let [from, end] = [block, block + 1].map(|at| self.0[at][1] as usize);
            let groups = from / THREADS..end.div_ceil(THREADS);
            let own = of_largest(self.0[blocks + 1 + block][0]);
            for most in units.get_mut(groups).into_iter().flatten() {
                *most = most.max(own);
            }
        }
        let used = units.iter().rposition(|&units| units > IDLE);
        units.truncate(used.map_or(0, |last| last + 1));
        (units.len() as u32, Load::new((0..).zip(units)))
    }

    fn accumulate(&self, segment: usize) -> (u32, Load) {
        self.load(|points| points.min(segment as u32).into())
    }

    /// A round over segments that are so far apart.
    fn combine(&self, segment: usize, stride: u32) -> (u32, Load) {
        self.load(|points| {
            let others = points.div_ceil(segment as u32).saturating_sub(1);
            f64::from((others / stride).min(ROUND as u32 - 1)).max(IDLE)
        })
    }
}

/// What a thread takes that finds nothing to do, against an addition.
const IDLE: f64 = 1.0 / 16.0;

/// One level of the reduction.
struct Level {
    /// Values of each window before it.
    size: usize,
    chunk_log2: u32,
    doublings: u32,
    /// Threads, and what is left.
    count: usize,
    from: usize,
    to: usize,
}

/// All levels, and where the windows' sums are in the end, in points.
fn levels(cut: &Cut) -> (Vec<Level>, usize) {
    let mut levels = Vec::new();
    let (mut size, mut doublings, mut from, mut to) = (cut.buckets, 0, 0, 0);
    while size > 1 {
        let chunk_log2 = CHUNK_LOG2.min(size.ilog2());
        let count = cut.windows * (size >> chunk_log2);
        levels.push(Level {
            size,
            chunk_log2,
            doublings,
            count,
            from,
            to,
        });
        size >>= chunk_log2;
        doublings += chunk_log2;
        from = to;
        to += 2 * count;
    }
    // The weighted sums stand after the plain ones.
    (levels, from + cut.windows)
}

struct Maker<'a, 'g> {
    steps: Steps<'g>,
    program: Arc<Memory>,
    cut: Cut,
    bases: &'a Bases,
    scalars: &'a Vector,
    offset: usize,
    form: Form,
    scratch: &'a Scratch,
}

impl Maker<'_, '_> {
    fn sort(&self, from: usize, count: usize) -> Result<Vec<Step>, DeviceError> {
        let (cut, scratch) = (&self.cut, self.scratch);
        let all = |secret: &'_ Secret| secret.buffer.clone();
        let (digits, counts) = (all(&scratch.digits), all(&scratch.counts));
        let (sums, places, sorted) = (
            all(&scratch.blocks),
            all(&scratch.places),
            all(&scratch.sorted),
        );
        let buckets = cut.all_buckets();
        let block_count = blocks(buckets);
        let first = self.offset + from;
        let bound = first / 8 * 8;
        let scan = [buckets as u32, cut.segment as u32, block_count as u32];
        Ok(vec![
            self.steps
                .threads(
                    Kernel::MsmDigits,
                    Over::Scalars(self.bases.curve),
                    &[
                        self.scalars.part(bound, first + count - bound),
                        Part::all(&digits),
                        Part::all(&counts),
                    ],
                    &[
                        count as u32,
                        (first - bound) as u32,
                        cut.bits,
                        cut.windows as u32,
                        cut.buckets as u32,
                        u32::from(self.form == Form::Montgomery),
                    ],
                    count,
                    cut.windows as f64,
                )?
                .of_points(from..from + count),
            self.steps.groups(
                Kernel::MsmScanBlocks,
                Over::Words,
                &[Part::all(&counts), Part::all(&sums)],
                &scan,
                block_count,
                Load::even(1.0),
            )?,
            self.steps.groups(
                Kernel::MsmScanStarts,
                Over::Words,
                &[Part::all(&sums)],
                &scan,
                1,
                Load::even(block_count as f64),
            )?,
            self.steps.groups(
                Kernel::MsmScanPlaces,
                Over::Words,
                &[Part::all(&counts), Part::all(&sums), Part::all(&places)],
                &scan,
                block_count,
                Load::even(1.0),
            )?,
            self.steps
                .threads(
                    Kernel::MsmScatter,
                    Over::Words,
                    &[
                        Part::all(&digits),
                        Part::all(&places),
                        Part::all(&counts),
                        Part::all(&sorted),
                    ],
                    &[count as u32, cut.windows as u32, cut.buckets as u32],
                    count,
                    cut.windows as f64,
                )?
                .of_points(from..from + count),
        ])
    }

    /// What `accumulate` and `combine` have to do, once the points are sorted.
    fn look(&self, seen: Seen) -> Step {
        let buffer = self.scratch.blocks.buffer.clone();
        let (blocks, segment) = (blocks(self.cut.all_buckets()), self.cut.segment);
        Step::Look(Box::new(move |gpu| {
            // How scalars fall into buckets is as secret as they are.
            let mut bytes = zeroize::Zeroizing::new(vec![0; Found::bytes(blocks)]);
            gpu.read(&buffer, 0, &mut bytes)?;
            let word = |at: &[u8]| u32::from_le_bytes([at[0], at[1], at[2], at[3]]);
            let pairs = bytes.chunks_exact(8);
            let pairs: Vec<[u32; 2]> = pairs.map(|at| [word(at), word(&at[4..])]).collect();
            let pairs = zeroize::Zeroizing::new(pairs);
            let found = Found(&pairs);
            let mut stride = 1;
            for (number, seen) in seen.iter().enumerate() {
                if number == 0 {
                    seen.get_or_init(|| found.accumulate(segment));
                } else {
                    seen.get_or_init(|| found.combine(segment, stride));
                    stride *= ROUND as u32;
                }
            }
            Ok(())
        }))
    }

    fn over(&self) -> Over {
        Over::Points(self.bases.curve, self.bases.group)
    }

    fn accumulate(&self, from: usize, count: usize, seen: &Seen) -> Result<Vec<Step>, DeviceError> {
        let (cut, scratch) = (&self.cut, self.scratch);
        let buckets = cut.all_buckets();
        let point = self.bases.curve.point_bytes(self.bases.group) as u64;
        let segments = cut.windows * count / cut.segment + buckets.min(cut.windows * count);
        let program = Part::all(&self.program);
        let places = || Part::all(&scratch.places.buffer);
        let parts = || Part::all(&scratch.parts.buffer);
        let accumulate = self.steps.threads(
            Kernel::MsmAccumulate,
            self.over(),
            &[
                program,
                places(),
                Part::all(&scratch.sorted.buffer),
                Part {
                    buffer: &self.bases.buffer,
                    range: from as u64 * point..(from + count) as u64 * point,
                },
                parts(),
            ],
            &[buckets as u32, cut.segment as u32],
            segments,
            cut.segment as f64,
        )?;
        let mut steps = vec![accumulate.counted_by(Arc::clone(&seen[0]))];
        let mut stride = 1;
        for seen in &seen[1..] {
            let combine = self.steps.threads(
                Kernel::MsmCombine,
                self.over(),
                &[Part::all(&self.program), places(), parts()],
                &[buckets as u32, stride],
                segments,
                (ROUND - 1) as f64,
            )?;
            steps.push(combine.counted_by(Arc::clone(seen)));
            stride *= ROUND as u32;
        }
        steps.push(self.steps.threads(
            Kernel::MsmCollect,
            self.over(),
            &[
                Part::all(&self.program),
                places(),
                parts(),
                Part::all(&scratch.buckets.buffer),
            ],
            &[buckets as u32, u32::from(from > 0)],
            buckets,
            if from > 0 { 2.0 } else { 1.0 },
        )?);
        Ok(steps)
    }

    fn reduce(&self, levels: &[Level]) -> Result<Vec<Step>, DeviceError> {
        levels
            .iter()
            .enumerate()
            .map(|(number, level)| {
                self.steps.threads(
                    Kernel::MsmReduce,
                    self.over(),
                    &[
                        Part::all(&self.program),
                        Part::all(&self.scratch.buckets.buffer),
                        Part::all(&self.scratch.levels.buffer),
                    ],
                    &[
                        level.count as u32,
                        level.chunk_log2,
                        level.size as u32,
                        level.doublings,
                        number as u32,
                        level.from as u32,
                        (level.from + self.cut.windows * level.size) as u32,
                        level.to as u32,
                        (level.to + level.count) as u32,
                    ],
                    level.count,
                    f64::from(2 << level.chunk_log2),
                )
            })
            .collect()
    }
}

/// The sum over windows, of points (X, Y, ZZ, ZZZ) in Montgomery form.
fn combine<F: Coordinate>(bytes: &[u8], bits: u32) -> Vec<u8> {
    let windows: Vec<[F; 4]> = bytes
        .chunks_exact(4 * F::BYTES)
        .map(|point| {
            let at = |i: usize| {
                F::from_montgomery_le_unchecked(&point[i * F::BYTES..(i + 1) * F::BYTES])
            };
            [at(0), at(1), at(2), at(3)]
        })
        .collect();
    let mut inverses: Vec<F> = windows.iter().map(|[_, _, _, zzz]| *zzz).collect();
    batch_inverse(&mut inverses);
    let mut sum = Projective::<F>::INFINITY;
    for ([x, y, zz, _], inverse) in windows.iter().zip(&inverses).rev() {
        for _ in 0..bits {
            sum = sum.double();
        }
        if !zz.is_zero() {
            // ZZ^3 = ZZZ^2, so 1 / ZZ is the square of ZZ / ZZZ.
            let root = *zz * *inverse;
            sum = sum.add_affine(&Affine {
                x: *x * root.square(),
                y: *y * *inverse,
            });
        }
    }
    let mut point = vec![0; 2 * F::BYTES];
    sum.to_affine().to_bytes(&mut point);
    point
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formulas::{Program, turns};
    use crate::generate::limbs;
    use caldera_kernels::Progress;

    /// Sums in G2 of BLS12-381 with 13-bit limbs came out wrong from 3,500 points on, where threads
    /// had 52 steps of a reduction to take: lavapipe had ended their loops.
    #[test]
    fn no_thread_takes_more_turns_than_lavapipe_allows() {
        for curve in [CurveId::Bn254, CurveId::Bls12_381] {
            for group in [Group::G1, Group::G2] {
                for variant in [Variant::Portable, Variant::Int64] {
                    let program = |program| turns(group, limbs(curve, variant), program);
                    let add = program(Program::Add) + program(Program::Finish);
                    let add_affine = program(Program::AddAffine) + program(Program::Finish);
                    let double = program(Program::Double);
                    // Loads, stores and copies of points, and looking for infinity: at most eight
                    // loops over the eight elements of a point in G2.
                    let beside = 64;
                    // Of every thirty-two points one may be a doubling.
                    let accumulate = SEGMENT_MAX * (add_affine + double + beside) + beside;
                    let chunk = 1 << CHUNK_LOG2;
                    let reduce = 3 * chunk * (add + beside) + BITS_MAX as usize * (double + beside);
                    let what = format!("{curve:?} {group:?} {variant:?}");
                    assert!(accumulate < 65_535, "{what}: {accumulate} to accumulate");
                    assert!(reduce < 65_535, "{what}: {reduce} to reduce");
                }
            }
        }
    }

    /// Of three blocks, two with nothing but pairs and between them one with a bucket of all.
    #[test]
    fn what_there_is_to_do_is_seen_from_the_sort() {
        let found = [
            [0, 0],
            [2_000, 1_000],
            [2_000 + 9_600, 1_300],
            [2_000 + 9_600 + 40, 1_320],
            [2, 0],
            [9_600, 0],
            [2, 0],
        ];
        let found = Found(&found);
        // 1,000 segments of two points, 300 of 32, 20 of two: workgroups 15 and 20 have some of both.
        let (groups, load) = found.accumulate(32);
        assert_eq!(groups, 21);
        assert_eq!(load.of(0..15), 15.0 * 2.0);
        assert_eq!(load.of(0..21), 15.0 * 2.0 + 6.0 * 32.0);
        let (groups, load) = found.combine(32, 1);
        assert_eq!(groups, 21);
        assert_eq!(load.of(0..21), 15.0 * IDLE + 6.0 * 7.0);
        assert_eq!(found.combine(32, 64).1.of(15..21), 6.0 * 4.0);
        assert_eq!(found.combine(32, 512).0, 0);
        let nothing = [[0, 0], [0, 0], [0, 0]];
        assert_eq!(Found(&nothing).accumulate(32).0, 0);
        assert_eq!(rounds(9_600, 32), 3);
        assert_eq!(rounds(32, 32), 0);
    }

    /// Workgroups that have nothing to do are not there, so that nobody thinks the others were quick.
    #[test]
    fn as_many_workgroups_run_as_have_something_to_do() {
        let config = crate::WgpuConfig {
            adapter: Some("llvmpipe".to_owned()),
            checked: true,
            choice: crate::Choice::Fixed(Variant::Int64),
            ..crate::WgpuConfig::default()
        };
        let gpu = Gpu::open(&config).expect("a Vulkan driver, as `.ci/tools vulkan` brings it");
        let (curve, n) = (CurveId::Bn254, 1 << 10);
        let mut generator = vec![0; 64];
        Bn254::g1().to_bytes(&mut generator);
        let bases = Bases::new(&gpu, curve, Group::G1, &generator.repeat(n)).expect("whole points");
        let bases = Arc::new(bases);
        let over = Over::Points(curve, Group::G1);
        let kernel = |kernel| {
            gpu.pipeline(kernel, over, Variant::Int64)
                .expect("a shader")
        };
        let run = |scalars: &[u8]| {
            let vector = Vector::new(&gpu, curve, n).expect("room");
            vector.write(&gpu, 0, scalars).expect("it fits");
            let form = Form::Canonical;
            let plan = plan(
                &gpu,
                Variant::Int64,
                bases.clone(),
                Arc::new(vector),
                0,
                form,
            );
            let plan = plan.expect("work that fits");
            for stage in 0..plan.stages() {
                plan.open(stage).expect("the next stage");
                while plan.run(stage, 0).expect("an open lane") == Progress::More {}
            }
            plan.point().expect("it has ended")
        };
        let word = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let mut all: Vec<u8> = (0..4 * n).flat_map(word).collect();
        all.chunks_exact_mut(32)
            .for_each(|scalar| scalar[31] &= 0x0f);
        let kernels = [Kernel::MsmAccumulate, Kernel::MsmCombine].map(kernel);
        let ran = |scalars: &[u8]| {
            let before = kernels.each_ref().map(|kernel| kernel.ran());
            let sum = run(scalars);
            let after = kernels.each_ref().map(|kernel| kernel.ran());
            (sum, [after[0] - before[0], after[1] - before[1]])
        };
        let (_, of_all) = ran(&all);
        assert!(of_all[0] > 30, "{of_all:?}");
        assert_eq!(ran(&vec![0; 32 * n]), (vec![0; 64], [0, 0]));
        // One bucket with all points in segments of 16 or 32, which two rounds add up.
        let ones: Vec<u8> = (0..32 * n).map(|i| u8::from(i % 32 == 0)).collect();
        assert_eq!(ran(&ones).1, [1, 2]);
        assert_eq!(ran(&all).1, of_all);
    }
}
