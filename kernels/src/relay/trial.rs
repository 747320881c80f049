//! Which member computes something else than the host: one piece of work of each kind on each curve, on a thousand
//! elements.
//!
//! Asked for when a proof came out wrong that the host alone makes right. Who fails here is to blame; who passes may still
//! be, for what goes wrong rarely, or with other values, is not found by one try.

use std::sync::Arc;

use bytes::Bytes;

use crate::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve, Projective};
use crate::device::{
    CurveId, Device, DeviceError, Form, Group, Plan, Progress, Transform, VectorId, Work,
};
use crate::held::Held;

/// What came of each kind of work on one curve, of none if there was no room for vectors.
pub(super) type Results = Vec<(&'static str, Option<Vec<u8>>)>;

/// The curves that are tried.
pub(super) const CURVES: [CurveId; 2] = [CurveId::Bn254, CurveId::Bls12_381];

/// How a device cuts work up: as ever, or on its host alone.
type Planner<'a> = dyn Fn(&Work) -> Result<Arc<dyn Plan>, DeviceError> + 'a;

/// Tries a device on both curves.
///
/// # Errors
/// If it is lost, and of a host whatever else goes wrong.
pub(super) fn try_all(
    device: &dyn Device,
    plan: &Planner<'_>,
) -> Result<[Results; CURVES.len()], DeviceError> {
    Ok([
        try_curve::<Bn254>(device, plan)?,
        try_curve::<Bls12_381>(device, plan)?,
    ])
}

/// In what the results of a device differ from those of the host, if in anything.
pub(super) fn differing(results: &[Results], expected: &[Results]) -> Option<String> {
    let mut curves = CURVES.iter().zip(results.iter().zip(expected));
    curves.find_map(|(curve, (results, expected))| {
        let mut pairs = results.iter().zip(expected);
        let differ = |ours: &Option<Vec<u8>>, theirs: &Option<Vec<u8>>| {
            ours.is_some() && theirs.is_some() && ours != theirs
        };
        let (wrong, _) = pairs.find(|(ours, theirs)| differ(&ours.1, &theirs.1))?;
        let what = wrong.0;
        Some(format!("{what} on {curve:?} is not what the host computes"))
    })
}

fn try_curve<C: Curve>(device: &dyn Device, plan: &Planner<'_>) -> Result<Results, DeviceError> {
    let mut results = Vec::new();
    let mut random = Random(0x5eed);
    let mut held = Held::new(device);
    let mut vectors = Vec::with_capacity(4);
    for _ in 0..4 {
        match able(held.vector(C::ID, COUNT))? {
            Some(id) => vectors.push((id, scalars(&mut random))),
            None => return Ok(results),
        }
    }
    let [w, a, b, c]: [VectorId; 4] = std::array::from_fn(|at| vectors[at].0);
    let mut run = |what, work: Option<Work>, reads: &[VectorId]| {
        for (id, scalars) in &vectors {
            device.vector_write(*id, 0, scalars)?;
        }
        let done = match work {
            Some(work) => able(plan(&work).and_then(|plan| finish(&*plan)))?,
            None => None,
        };
        let result = match done {
            Some(Some(point)) => Some(point),
            Some(None) => {
                let mut bytes = vec![0; reads.len() * COUNT * C::ID.scalar_bytes()];
                let each = bytes.chunks_mut(COUNT * C::ID.scalar_bytes());
                for (id, bytes) in reads.iter().zip(each) {
                    device.vector_read(*id, 0, bytes)?;
                }
                Some(bytes)
            }
            None => None,
        };
        results.push((what, result));
        Ok::<_, DeviceError>(())
    };
    let matrix = able(held.matrix(C::ID, COUNT, COUNT, entries(&mut random)))?;
    let product = matrix.map(|matrix| Work::Product {
        matrix,
        witness: w,
        a,
        b,
    });
    run("a product", product, &[a, b])?;
    run(
        "a multiplication",
        Some(Work::Multiply { a, b, out: c }),
        &[c],
    )?;
    let subtract = Work::MultiplySubtract { a, b, c };
    run("a multiplication with a subtraction", Some(subtract), &[a])?;
    for (what, transform) in [
        ("a transform", Transform::Forward),
        ("an inverse transform", Transform::Inverse),
        ("a shift", Transform::Shift),
    ] {
        let vector = a;
        run(what, Some(Work::Ntt { vector, transform }), &[a])?;
    }
    for (what, group, points) in [
        ("a sum in G1", Group::G1, multiples::<C::Fq>()),
        ("a sum in G2", Group::G2, multiples::<C::Fq2>()),
    ] {
        let bases = able(held.bases(C::ID, group, Bytes::from(points)))?;
        for form in [Form::Canonical, Form::Montgomery] {
            let sum = bases.map(|bases| Work::Msm {
                bases,
                scalars: w,
                offset: 0,
                form,
            });
            run(what, sum, &[])?;
        }
    }
    Ok(results)
}

/// `None` if the device only does not do it.
fn able<T>(result: Result<T, DeviceError>) -> Result<Option<T>, DeviceError> {
    match result {
        Ok(it) => Ok(Some(it)),
        Err(DeviceError::Unfit { .. } | DeviceError::Memory { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn finish(plan: &dyn Plan) -> Result<Option<Vec<u8>>, DeviceError> {
    for stage in 0..plan.stages() {
        for lane in 0..plan.open(stage)? {
            while plan.run(stage, lane)? == Progress::More {}
        }
    }
    Ok(plan.point())
}

/// The same in every try.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

fn scalar(random: &mut Random) -> [u8; 32] {
    let mut bytes = [0; 32];
    for word in bytes.chunks_mut(8) {
        word.copy_from_slice(&random.next().to_le_bytes());
    }
    // Below the modulus of either curve.
    bytes[31] &= 0x1f;
    bytes
}

fn scalars(random: &mut Random) -> Vec<u8> {
    (0..COUNT).flat_map(|_| scalar(random)).collect()
}

/// Two for each row on average, over both matrices.
fn entries(random: &mut Random) -> Bytes {
    let mut bytes = Vec::new();
    for at in 0..2 * COUNT as u32 {
        bytes.extend((at % 2).to_le_bytes());
        for _ in 0..2 {
            let place = random.next() as u32 % COUNT as u32;
            bytes.extend(place.to_le_bytes());
        }
        bytes.extend(scalar(random));
    }
    Bytes::from(bytes)
}

/// 1, 2, 3 times the generator, and so on.
fn multiples<F: Coordinate>() -> Vec<u8> {
    let size = Affine::<F>::BYTES;
    let mut bytes = vec![0; COUNT * size];
    let mut sum = Projective::<F>::INFINITY;
    for point in bytes.chunks_mut(size) {
        sum = sum.add_affine(&F::GENERATOR);
        sum.to_affine().to_bytes(point);
    }
    bytes
}

/// Elements: tens of milliseconds for all of it on one core, and enough to fill lanes and buckets.
const COUNT: usize = 1 << 10;
