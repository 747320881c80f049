//! Development keys: made in seconds by one who knows their secrets.
//!
//! A key that can be trusted comes from a ceremony, in which tau, alpha, beta and delta are
//! never known to anybody. Here they are drawn from a seed and known, so every point of the key
//! is a known scalar times a generator and fixed-base tables make them fast. Whoever has the
//! seed can forge proofs for any statement. Hence the mark: a key from here carries a section
//! that says so ([`DEVELOPMENT_MARK`]), has no contribution, and is refused by
//! [`check`](super::check()) unless development keys are wanted.
//!
//! In every other respect the file is what `snarkjs groth16 setup` would have written from a
//! ceremony with the same secrets: the domain, the rows of the public wires appended to A, the
//! C query for private wires only, and the H query that makes snarkjs's prover go without a
//! division. With L_j the Lagrange basis of the domain of size n at tau, and a wire's column
//! of A being A_jw:
//!
//! ```text
//! A_w  = sum_j A_jw L_j            B_w = sum_j B_jw L_j
//! IC_w = beta A_w + alpha B_w + sum_j C_jw L_j        (gamma = 1)
//! C_w  = the same / delta          H_i = L'_{2i+1} / delta
//! ```
//!
//! where L' is the basis of the domain of size 2n. a b - c vanishes on the even half of that
//! domain, so its values on the odd half times the H_i are (a b - c)(tau) / delta.
//!
//! Circuits come from an `.r1cs` file or are [`Synthetic`].

mod synthetic;

use std::io::Write;
use std::ops::Range;

use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_kernels::curve::fixed_base::FixedBase;
use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve};
use caldera_kernels::field::{Field, PrimeField};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::PartProgress;
use super::blinding::draw_scalar;
use crate::format::{Part, R1cs, Wtns, ZkeyHeader, ZkeyWriteError, ZkeyWriter};

use synthetic::Sized;
pub use synthetic::Synthetic;

/// What a development key says of itself in its own section.
pub const DEVELOPMENT_MARK: &str =
    "caldera development key: its secrets are known, proofs can be forged";

/// Why a development key was not made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Neither a constraint nor a public wire: there is no domain for that.
    #[error("a circuit without constraints and public wires has no key")]
    Empty,
    /// More constraints than the field has roots of unity for.
    #[error("a domain of 2^{got} is needed, {curve:?} has keys up to 2^{expected_max}")]
    TooLarge {
        /// The curve.
        curve: CurveId,
        /// log2 of the largest domain.
        expected_max: u32,
        /// log2 of the domain that the circuit needs.
        got: u32,
    },
    /// More coefficients than the file's 32-bit count can hold.
    #[error("{got} coefficients, a key holds at most {}", u32::MAX)]
    Coefficients {
        /// How many there are.
        got: u64,
    },
    /// More wires than the constraints could ever use: a count that is only claimed, and for
    /// which no memory is set aside.
    #[error(
        "{got} wires, of which constraints use at most {used_max}: expected at most {expected_max}"
    )]
    Wires {
        /// How many wires the constraints and the public rows can use between them.
        used_max: u64,
        /// That many, and some room for wires that nothing uses.
        expected_max: u64,
        /// How many the circuit says it has.
        got: u32,
    },
    /// A synthetic circuit smaller than its own frame.
    #[error("synthetic circuit of 2^{got}: expected at least 2^{expected_min}")]
    TooSmall {
        /// log2 of the smallest domain.
        expected_min: u32,
        /// log2 of the domain asked for.
        got: u32,
    },
    /// A synthetic circuit of another domain than it was said to have.
    #[error(
        "synthetic circuit of {got} constraints: expected {expected_min} to {expected_max} in its domain"
    )]
    Constraints {
        /// The fewest that need the domain.
        expected_min: u32,
        /// The most that it has room for.
        expected_max: u32,
        /// What was asked for.
        got: u32,
    },
    /// A share of full-size witness elements that is no share.
    #[error("dense share: expected 0 to 1, got {got}")]
    Dense {
        /// What was asked for.
        got: f64,
    },
    /// No threads to compute with.
    #[error("no threads to make a key with")]
    Threads,
    /// The output failed or refused.
    #[error(transparent)]
    Write(#[from] ZkeyWriteError),
}

/// Makes a development key for a constraint system. The same seed gives the same key.
pub fn setup_r1cs(
    r1cs: &R1cs,
    seed: &[u8; 32],
    threads: usize,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(PartProgress),
) -> Result<(), SetupError> {
    match r1cs.curve() {
        CurveId::Bn254 => write_key::<Bn254>(r1cs, seed, threads, out, progress),
        CurveId::Bls12_381 => write_key::<Bls12_381>(r1cs, seed, threads, out, progress),
    }
}

/// Makes a development key for a synthetic circuit, and a witness that satisfies it.
pub fn setup_synthetic(
    synthetic: &Synthetic,
    threads: usize,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(PartProgress),
) -> Result<Wtns, SetupError> {
    synthetic.check()?;
    setup_sized(synthetic, &synthetic.whole(), threads, out, progress)
}

/// The same of a circuit that has fewer constraints than its domain has room for.
///
/// # Errors
/// As there, and if another domain would be the smallest that has room for so many.
pub fn setup_synthetic_part(
    synthetic: &Synthetic,
    constraints: u32,
    threads: usize,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(PartProgress),
) -> Result<Wtns, SetupError> {
    synthetic.check()?;
    let part = synthetic.part(constraints)?;
    setup_sized(synthetic, &part, threads, out, progress)
}

fn setup_sized(
    synthetic: &Synthetic,
    sized: &Sized<'_>,
    threads: usize,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(PartProgress),
) -> Result<Wtns, SetupError> {
    let seed = &synthetic.seed;
    match synthetic.curve {
        CurveId::Bn254 => {
            write_key::<Bn254>(sized, seed, threads, out, progress)?;
            Ok(sized.witness::<<Bn254 as Curve>::Fr>())
        }
        CurveId::Bls12_381 => {
            write_key::<Bls12_381>(sized, seed, threads, out, progress)?;
            Ok(sized.witness::<<Bls12_381 as Curve>::Fr>())
        }
    }
}

/// A constraint system, as a set-up needs it: counts, and all terms in order of their rows.
trait Circuit<F> {
    fn wires(&self) -> u32;
    fn public(&self) -> u32;
    fn constraints(&self) -> u32;
    /// Visits every term of every constraint, A before B before C. The same each time.
    fn terms(&self, visit: &mut dyn FnMut(Term<F>));
}

#[derive(Debug, Clone, Copy)]
struct Term<F> {
    matrix: Matrix,
    row: u32,
    wire: u32,
    coefficient: F,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matrix {
    A,
    B,
    C,
}

impl<F: PrimeField> Circuit<F> for R1cs {
    fn wires(&self) -> u32 {
        self.wires()
    }

    fn public(&self) -> u32 {
        self.public_count()
    }

    fn constraints(&self) -> u32 {
        self.constraint_count()
    }

    fn terms(&self, visit: &mut dyn FnMut(Term<F>)) {
        for (row, constraint) in (0..).zip(self.constraints()) {
            let sides = [
                (Matrix::A, constraint.a),
                (Matrix::B, constraint.b),
                (Matrix::C, constraint.c),
            ];
            for (matrix, side) in sides {
                for (wire, coefficient) in side.terms() {
                    let coefficient = F::from_canonical_le(coefficient)
                        .expect("the reader has held every coefficient against the modulus");
                    visit(Term {
                        matrix,
                        row,
                        wire,
                        coefficient,
                    });
                }
            }
        }
    }
}

/// What nobody may know of a real key.
struct Secrets<F> {
    tau: F,
    alpha: F,
    beta: F,
    delta: F,
    delta_inverse: F,
}

fn write_key<C: Curve>(
    circuit: &dyn Circuit<C::Fr>,
    seed: &[u8; 32],
    threads: usize,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(PartProgress),
) -> Result<(), SetupError> {
    if threads == 0 {
        return Err(SetupError::Threads);
    }
    let domain_log2 = domain_log2::<C>(circuit)?;
    let domain = 1usize << domain_log2;
    let secrets = Secrets::<C::Fr>::draw(C::ID, seed, domain);
    let columns = Columns::new::<C>(circuit, &secrets, domain_log2, threads)?;

    let wires = circuit.wires() as usize;
    let g1 = FixedBase::new(&C::g1(), 3 * wires + domain);
    let g2 = FixedBase::new(&C::g2(), wires);
    let one = |scalar: C::Fr| Bytes::from(multiples(&g1, &[scalar]));
    let two = |scalar: C::Fr| Bytes::from(multiples(&g2, &[scalar]));
    let header = ZkeyHeader {
        curve: C::ID,
        wires: circuit.wires(),
        public: circuit.public(),
        domain: domain as u32,
        alpha_g1: one(secrets.alpha),
        beta_g1: one(secrets.beta),
        beta_g2: two(secrets.beta),
        gamma_g2: two(C::Fr::ONE),
        delta_g1: one(secrets.delta),
        delta_g2: two(secrets.delta),
    };
    let mut key = KeyFile {
        writer: ZkeyWriter::new(out, header, columns.coefficients, Some(DEVELOPMENT_MARK))?,
        threads,
        progress,
    };

    let public_rows = 1 + circuit.public() as usize;
    let mixed = |wire: usize| {
        secrets.beta * columns.a[wire] + secrets.alpha * columns.b[wire] + columns.c[wire]
    };
    key.points(Part::Ic, &g1, 0..public_rows, mixed)?;
    key.coefficients::<C::Fr>(circuit, columns.coefficients)?;
    key.points(Part::A, &g1, 0..wires, |wire| columns.a[wire])?;
    key.points(Part::B1, &g1, 0..wires, |wire| columns.b[wire])?;
    key.points(Part::B2, &g2, 0..wires, |wire| columns.b[wire])?;
    key.points(Part::C, &g1, public_rows..wires, |wire| {
        mixed(wire) * secrets.delta_inverse
    })?;
    drop(columns);
    let odd = odd_lagrange::<C>(&secrets, domain_log2, threads);
    key.points(Part::H, &g1, 0..domain, |i| odd[i])?;
    key.writer.finish()?;
    Ok(())
}

/// log2 of the domain that snarkjs gives a circuit: the smallest that is larger than
/// constraints and public wires together.
fn domain_log2<C: Curve>(circuit: &dyn Circuit<C::Fr>) -> Result<u32, SetupError> {
    let rows = u64::from(circuit.constraints()) + u64::from(circuit.public());
    let got = 1 + rows.checked_ilog2().ok_or(SetupError::Empty)?;
    // The H query needs the domain of twice the size, and a count of 32 bits its size.
    let expected_max = (C::Fr::TWO_ADICITY - 1).min(31);
    if got > expected_max {
        return Err(SetupError::TooLarge {
            curve: C::ID,
            expected_max,
            got,
        });
    }
    Ok(got)
}

impl<F: PrimeField> Secrets<F> {
    /// Draws the secrets from a seed.
    fn draw(curve: CurveId, seed: &[u8; 32], domain: usize) -> Secrets<F> {
        let mut stream = ChaCha20Rng::from_seed(*seed);
        let mut scalar = || {
            loop {
                let value: F = random(curve, &mut stream);
                // A zero is no secret at all, and a tau within the domain of twice the size
                // has no Lagrange basis.
                if value != F::ZERO && value.pow(&[2 * domain as u64]) != F::ONE {
                    return value;
                }
            }
        };
        let (tau, alpha, beta, delta) = (scalar(), scalar(), scalar(), scalar());
        Secrets {
            tau,
            alpha,
            beta,
            delta,
            delta_inverse: delta.inverse().expect("delta was drawn not to be zero"),
        }
    }
}

/// A uniform field element from a stream.
fn random<F: PrimeField>(curve: CurveId, stream: &mut ChaCha20Rng) -> F {
    let mut bytes = [0; 32];
    draw_scalar(curve, &mut bytes, &mut |out| {
        stream.fill_bytes(out);
        Ok(())
    })
    .expect("a stream cipher's output is below the modulus sooner or later");
    F::from_canonical_le(&bytes).expect("draw_scalar gives values below the modulus")
}

/// The three polynomials of each wire at tau, and how many coefficients section 4 will have.
struct Columns<F> {
    a: Vec<F>,
    b: Vec<F>,
    c: Vec<F>,
    coefficients: u32,
}

impl<F: PrimeField> Columns<F> {
    fn new<C: Curve<Fr = F>>(
        circuit: &dyn Circuit<F>,
        secrets: &Secrets<F>,
        domain_log2: u32,
        threads: usize,
    ) -> Result<Columns<F>, SetupError> {
        check_wires(circuit)?;
        let lagrange = lagrange::<C>(secrets, domain_log2, threads);
        let wires = circuit.wires() as usize;
        let (mut a, mut b, mut c) = (
            vec![F::ZERO; wires],
            vec![F::ZERO; wires],
            vec![F::ZERO; wires],
        );
        let mut count = 0u64;
        circuit.terms(&mut |term| {
            let column = match term.matrix {
                Matrix::A => &mut a,
                Matrix::B => &mut b,
                Matrix::C => &mut c,
            };
            column[term.wire as usize] += lagrange[term.row as usize] * term.coefficient;
            count += u64::from(term.matrix != Matrix::C);
        });
        for (row, wire) in public_rows(circuit) {
            a[wire as usize] += lagrange[row as usize];
            count += 1;
        }
        let coefficients =
            u32::try_from(count).map_err(|_| SetupError::Coefficients { got: count })?;
        Ok(Columns {
            a,
            b,
            c,
            coefficients,
        })
    }
}

/// Holds the count of wires, which a small file can claim to be large, against the terms.
fn check_wires<F>(circuit: &dyn Circuit<F>) -> Result<(), SetupError> {
    let mut used_max = 1 + u64::from(circuit.public());
    circuit.terms(&mut |_| used_max += 1);
    let expected_max = used_max + UNUSED_WIRES_MAX;
    match u64::from(circuit.wires()) <= expected_max {
        true => Ok(()),
        false => Err(SetupError::Wires {
            used_max,
            expected_max,
            got: circuit.wires(),
        }),
    }
}

/// The rows that are appended to A so that the columns of the public wires are independent,
/// without which inputs could be traded against each other: row and wire, coefficient 1.
fn public_rows<F>(circuit: &dyn Circuit<F>) -> impl Iterator<Item = (u32, u32)> {
    let constraints = circuit.constraints();
    (0..=circuit.public()).map(move |wire| (constraints + wire, wire))
}

/// L_j(tau) for the domain of size n = 2^log2: (tau^n - 1) / n * w^j / (tau - w^j).
fn lagrange<C: Curve>(secrets: &Secrets<C::Fr>, log2: u32, threads: usize) -> Vec<C::Fr> {
    let n = 1u64 << log2;
    let scale = (secrets.tau.pow(&[n]) - C::Fr::ONE) * inverse_of(n);
    fractions(secrets.tau, root(log2), C::Fr::ONE, scale, log2, threads)
}

/// L'_{2i+1}(tau) / delta for the domain of size 2n, whose odd elements are v w^i.
fn odd_lagrange<C: Curve>(secrets: &Secrets<C::Fr>, log2: u32, threads: usize) -> Vec<C::Fr> {
    let twice = 2u64 << log2;
    let scale =
        (secrets.tau.pow(&[twice]) - C::Fr::ONE) * inverse_of(twice) * secrets.delta_inverse;
    let v = root(log2 + 1);
    fractions(secrets.tau, root(log2), v, scale, log2, threads)
}

/// scale * x_i / (tau - x_i) with x_i = shift * w^i, for i below 2^log2.
fn fractions<F: PrimeField>(tau: F, w: F, shift: F, scale: F, log2: u32, threads: usize) -> Vec<F> {
    let n = 1usize << log2;
    let mut values = vec![F::ZERO; n];
    let piece = n.div_ceil(threads);
    std::thread::scope(|scope| {
        for (index, values) in values.chunks_mut(piece).enumerate() {
            scope.spawn(move || {
                let mut x = shift * w.pow(&[(index * piece) as u64]);
                // One inversion for the lot: products forward, inverses backward.
                let mut product = F::ONE;
                let mut numerators = Vec::with_capacity(values.len());
                for value in values.iter_mut() {
                    numerators.push(x);
                    *value = product;
                    product *= tau - x;
                    x *= w;
                }
                let mut inverse = product.inverse().expect("tau is not in the domain") * scale;
                for (value, x) in values.iter_mut().zip(&numerators).rev() {
                    *value = *value * inverse * *x;
                    inverse *= tau - *x;
                }
            });
        }
    });
    values
}

/// 1 / n for a power of two: neither zero nor as large as the modulus.
fn inverse_of<F: PrimeField>(n: u64) -> F {
    F::from(n).inverse().expect("the modulus is odd")
}

/// v of order 2^log2; `domain_log2` has seen to it that there is one.
fn root<F: PrimeField>(log2: u32) -> F {
    F::root_of_unity(log2).expect("the domain is within the two-adicity")
}

/// A key being written, with what its writing needs.
struct KeyFile<'a, W: Write> {
    writer: ZkeyWriter<W>,
    threads: usize,
    progress: &'a mut dyn FnMut(PartProgress),
}

impl<W: Write> KeyFile<'_, W> {
    /// Writes a part's points: the scalar of each index times the generator.
    fn points<F: Coordinate, S: PrimeField>(
        &mut self,
        part: Part,
        generator: &FixedBase<F>,
        range: Range<usize>,
        scalar: impl Fn(usize) -> S + Sync,
    ) -> Result<(), SetupError> {
        let (start, end) = (range.start, range.end);
        let mut done = start;
        while done < end {
            let pieces = std::thread::scope(|scope| {
                let piece = |index: usize| {
                    let from = end.min(done + index * POINTS_PER_PIECE);
                    let to = end.min(from + POINTS_PER_PIECE);
                    let scalar = &scalar;
                    scope.spawn(move || {
                        let scalars: Vec<S> = (from..to).map(scalar).collect();
                        multiples(generator, &scalars)
                    })
                };
                let running: Vec<_> = (0..self.threads).map(piece).collect();
                running
                    .into_iter()
                    .map(|thread| thread.join().expect("a multiplication does not panic"))
                    .collect::<Vec<_>>()
            });
            for piece in pieces {
                self.writer.write(part, &piece)?;
            }
            done = end.min(done + self.threads * POINTS_PER_PIECE);
            (self.progress)(PartProgress {
                part,
                done: done - start,
                total: end - start,
            });
        }
        Ok(())
    }

    /// Writes section 4: A and B of each row as they come, then the rows of the public wires.
    fn coefficients<F: PrimeField>(
        &mut self,
        circuit: &dyn Circuit<F>,
        total: u32,
    ) -> Result<(), SetupError> {
        let part = Part::Coefficients;
        let total = total as usize;
        let mut done = 0;
        // 2^256: the Montgomery form of a coefficient times this is the coefficient times R^2.
        let r = F::from(2).pow(&[256]);
        let mut entries = Vec::with_capacity(ENTRIES_PER_PIECE * ENTRY_LEN);
        let mut failed = None;
        let mut push = |matrix: Matrix, row: u32, wire: u32, coefficient: F| {
            let mut value = [0; 32];
            (coefficient * r).to_montgomery_le(&mut value);
            entries.extend_from_slice(&(matrix as u32).to_le_bytes());
            entries.extend_from_slice(&row.to_le_bytes());
            entries.extend_from_slice(&wire.to_le_bytes());
            entries.extend_from_slice(&value);
            done += 1;
            if entries.len() == ENTRIES_PER_PIECE * ENTRY_LEN || done == total {
                if failed.is_none() {
                    failed = self.writer.write(part, &entries).err();
                }
                entries.clear();
                (self.progress)(PartProgress { part, done, total });
            }
        };
        circuit.terms(&mut |term| {
            if term.matrix != Matrix::C {
                push(term.matrix, term.row, term.wire, term.coefficient);
            }
        });
        for (row, wire) in public_rows(circuit) {
            push(Matrix::A, row, wire, F::ONE);
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Each scalar times the generator, in the layout of keys.
fn multiples<F: Coordinate, S: PrimeField>(generator: &FixedBase<F>, scalars: &[S]) -> Vec<u8> {
    let points = generator.multiply(scalars);
    let mut bytes = vec![0; points.len() * Affine::<F>::BYTES];
    for (point, bytes) in points
        .iter()
        .zip(bytes.chunks_exact_mut(Affine::<F>::BYTES))
    {
        point.to_bytes(bytes);
    }
    bytes
}

/// What one thread multiplies at a time: half a second of G2 at most, and 1 MiB.
const POINTS_PER_PIECE: usize = 1 << 13;

const ENTRIES_PER_PIECE: usize = 1 << 14;

/// Compilers leave few wires unused; these would take 400 MB.
const UNUSED_WIRES_MAX: u64 = 1 << 22;

/// Matrix, row, wire, value.
const ENTRY_LEN: usize = 4 + 4 + 4 + 32;

#[cfg(test)]
mod tests {
    use caldera_kernels::field::FrBn254;

    use super::*;

    /// The basis sums to 1 and interpolates x^2; the odd half and the even half together are
    /// the basis of twice the size.
    #[test]
    fn lagrange_bases_interpolate() {
        let log2 = 5;
        let n = 1usize << log2;
        let secrets = Secrets::<FrBn254>::draw(CurveId::Bn254, &[7; 32], n);
        for threads in [1, 3] {
            let basis = lagrange::<Bn254>(&secrets, log2, threads);
            let w: FrBn254 = root(log2);
            let sum = |power: u64| {
                let terms = basis.iter().enumerate();
                terms.fold(FrBn254::ZERO, |sum, (j, l)| {
                    sum + *l * w.pow(&[j as u64 * power])
                })
            };
            assert_eq!(sum(0), FrBn254::ONE);
            assert_eq!(sum(2), secrets.tau.square());

            let odd = odd_lagrange::<Bn254>(&secrets, log2, threads);
            let twice = {
                let v: FrBn254 = root(log2 + 1);
                let scale =
                    (secrets.tau.pow(&[2 * n as u64]) - FrBn254::ONE) * inverse_of(2 * n as u64);
                fractions(secrets.tau, v, FrBn254::ONE, scale, log2 + 1, threads)
            };
            for (i, odd) in odd.iter().enumerate() {
                assert_eq!(*odd * secrets.delta, twice[2 * i + 1]);
            }
        }
    }
}
