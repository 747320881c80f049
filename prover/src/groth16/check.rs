//! Is a key what it claims to be? Asked once, when a key is new.
//!
//! A proving key is a stranger's file of a million points. One point off the curve, or outside
//! the subgroup, can make a proof leak its witness; a delta that everybody knows makes every
//! proof forgeable. So before a key is used for the first time:
//!
//! - it must have had a contribution to its ceremony, and must not carry the mark of a
//!   development key, unless the box is in development mode;
//! - the six points of its header must be points and not infinity, and gamma the generator;
//! - all points of all parts must be points: reduced, on the curve, in the subgroup;
//! - all coefficients must be scalars within the matrices.
//!
//! That the points are the *right* ones, those of a certain circuit and ceremony, is not asked:
//! `snarkjs zkey verify` does, with the circuit and the powers of tau at hand. What the self-check
//! of each proof adds is that wrong points cannot give a proof that leaves the box.
//!
//! The cost is some dozen additions a point; it is cut into pieces that several threads take in
//! turn.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use caldera_kernels::curve::check::{Fault, PointsError, check_points};
use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve};
use caldera_kernels::{CurveId, Group};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::PartProgress;
use super::blinding::EntropyError;
use crate::format::{FormatError, Part, Zkey};

/// How a key is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Whether keys are accepted for which anybody can forge proofs: development keys, and keys
    /// without a contribution.
    pub development: bool,
    /// How many threads to check on, besides the caller's, which only waits.
    pub threads: usize,
}

/// Why a key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The key says that it is a development key.
    #[error("development key: its secrets are known and anybody can forge proofs for it")]
    Development,
    /// Nobody has contributed to the key's second phase, so delta is known.
    #[error("key without a contribution: delta is known and anybody can forge proofs for it")]
    NoContribution,
    /// A point of the header is not a point of its group.
    #[error("{what} of the header: {error}")]
    HeaderPoint {
        /// Which point.
        what: &'static str,
        /// What is wrong with it.
        error: PointsError,
    },
    /// A point of the header is infinity: proofs would say less than they should.
    #[error("{what} of the header is infinity")]
    HeaderInfinity {
        /// Which point.
        what: &'static str,
    },
    /// gamma is not the generator of G2, as it is in every key of snarkjs.
    #[error("gamma of the header is not the generator of G2")]
    Gamma,
    /// A point of a large part is not a point of its group.
    #[error("{part}: point {index}: {}", describe(*fault))]
    Point {
        /// Which part.
        part: Part,
        /// Which point of it.
        index: usize,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A coefficient is out of range.
    #[error(transparent)]
    Coefficient(#[from] FormatError),
    /// There was no randomness for the random combinations.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The caller asked for no threads.
    #[error("no threads to check with")]
    Threads,
}

/// Checks a key completely. Of several faults the one that stands first in this order is
/// reported: contributions, header, then the parts as [`Part::ALL`] has them.
pub fn check(
    zkey: &Zkey,
    checks: &Checks,
    progress: &mut dyn FnMut(PartProgress),
) -> Result<(), CheckError> {
    if checks.threads == 0 {
        return Err(CheckError::Threads);
    }
    if !checks.development {
        if zkey.development().is_some() {
            return Err(CheckError::Development);
        }
        if zkey.contribution_count() == 0 {
            return Err(CheckError::NoContribution);
        }
    }
    check_header(zkey)?;

    let pieces: Vec<Piece> = Part::ALL
        .into_iter()
        .flat_map(|part| pieces_of(part, count(zkey, part)))
        .collect();
    let next = AtomicUsize::new(0);
    let mut seeds = vec![[0; 32]; checks.threads];
    for seed in &mut seeds {
        getrandom::fill(seed).map_err(|e| EntropyError::Source(e.to_string()))?;
    }
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for seed in seeds {
            let (sender, next, pieces) = (sender.clone(), &next, &pieces);
            scope.spawn(move || {
                let mut random = ChaCha20Rng::from_seed(seed);
                // Pieces are taken in order, so when one fails all before it have been taken
                // and will be heard of.
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = check_piece(zkey, piece, &mut random);
                    if result.is_err() {
                        next.store(pieces.len(), Ordering::Relaxed);
                    }
                    // The receiver lives as long as this scope.
                    let _ = sender.send((piece, result));
                }
            });
        }
        drop(sender);
        let mut done = [0; Part::ALL.len()];
        let mut first: Option<(&Piece, CheckError)> = None;
        for (piece, result) in results {
            match result {
                Ok(()) => {
                    let part = piece.part;
                    done[part as usize] += piece.range.len();
                    progress(PartProgress {
                        part,
                        done: done[part as usize],
                        total: count(zkey, part),
                    });
                }
                Err(error) => {
                    let place = |piece: &Piece| (piece.part, piece.range.start);
                    if first
                        .as_ref()
                        .is_none_or(|(other, _)| place(piece) < place(other))
                    {
                        first = Some((piece, error));
                    }
                }
            }
        }
        first.map_or(Ok(()), |(_, error)| Err(error))
    })
}

/// A stretch of one part.
struct Piece {
    part: Part,
    range: Range<usize>,
}

fn pieces_of(part: Part, count: usize) -> impl Iterator<Item = Piece> {
    let step = match part {
        Part::Coefficients => COEFFICIENTS_PER_PIECE,
        _ => POINTS_PER_PIECE,
    };
    (0..count).step_by(step).map(move |start| Piece {
        part,
        range: start..count.min(start + step),
    })
}

/// How many points or coefficients a part has.
fn count(zkey: &Zkey, part: Part) -> usize {
    match part.group() {
        Some(group) => zkey.part(part).len() / zkey.curve().point_bytes(group),
        None => zkey.coefficient_count(),
    }
}

fn check_piece(zkey: &Zkey, piece: &Piece, random: &mut ChaCha20Rng) -> Result<(), CheckError> {
    let Piece { part, range } = piece;
    let Some(group) = part.group() else {
        return Ok(zkey.check_coefficients(range.clone())?);
    };
    let len = zkey.curve().point_bytes(group);
    let points = &zkey.part(*part)[range.start * len..range.end * len];
    let fault = check_points(zkey.curve(), group, points, &mut |out| {
        random.fill_bytes(out)
    });
    match fault {
        Ok(()) => Ok(()),
        Err(PointsError::Point { index, fault, .. }) => Err(CheckError::Point {
            part: *part,
            index: range.start + index,
            fault,
        }),
        Err(PointsError::Length { .. }) => {
            unreachable!("the slice above is a whole number of points")
        }
    }
}

fn check_header(zkey: &Zkey) -> Result<(), CheckError> {
    let header = zkey.header();
    let points = [
        ("alpha in G1", Group::G1, &header.alpha_g1),
        ("beta in G1", Group::G1, &header.beta_g1),
        ("beta in G2", Group::G2, &header.beta_g2),
        ("gamma in G2", Group::G2, &header.gamma_g2),
        ("delta in G1", Group::G1, &header.delta_g1),
        ("delta in G2", Group::G2, &header.delta_g2),
    ];
    for (what, group, bytes) in points {
        // A single point is asked directly, without random combinations.
        check_points(header.curve, group, bytes, &mut |_| {})
            .map_err(|error| CheckError::HeaderPoint { what, error })?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(CheckError::HeaderInfinity { what });
        }
    }
    let generator = match header.curve {
        CurveId::Bn254 => bytes_of(&Bn254::g2()),
        CurveId::Bls12_381 => bytes_of(&Bls12_381::g2()),
    };
    match header.gamma_g2 == generator {
        true => Ok(()),
        false => Err(CheckError::Gamma),
    }
}

fn bytes_of<F: Coordinate>(point: &Affine<F>) -> Vec<u8> {
    let mut bytes = vec![0; Affine::<F>::BYTES];
    point.to_bytes(&mut bytes);
    bytes
}

fn describe(fault: Fault) -> &'static str {
    match fault {
        Fault::NotReduced => "a coordinate is not below the field's modulus",
        Fault::OffCurve => "not on the curve",
        Fault::OutsideSubgroup => "outside the subgroup of order r",
    }
}

/// Long enough that random combinations pay, short enough for a progress bar: about a tenth of
/// a second in G2.
const POINTS_PER_PIECE: usize = 1 << 15;

const COEFFICIENTS_PER_PIECE: usize = 1 << 18;
