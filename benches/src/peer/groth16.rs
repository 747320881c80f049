//! `ark-groth16` proving with a snarkjs key.
//!
//! Its own reduction divides by the vanishing polynomial and expects an H query of powers of tau;
//! a snarkjs key has the odd half of the Lagrange basis over twice the domain there. The crate
//! takes the reduction as a trait, so the peer here is its prover with a reduction of ours that
//! does what a snarkjs key needs: p = a b - c on the odd coset, and nothing after it. That is less
//! work than its own reduction, so the peer loses nothing by it.
//!
//! The constraint matrices of a zkey hold the rows of the public wires already, C is the product
//! of A and B row by row, and the domain is known from the key.

use anyhow::{Context, Result, ensure};
use ark_ff::{PrimeField, UniformRand};
use ark_groth16::r1cs_to_qap::{R1CSToQAP, evaluate_constraint};
use ark_groth16::{
    Groth16, PreparedVerifyingKey, Proof, ProvingKey, VerifyingKey, prepare_verifying_key,
};
use ark_poly::EvaluationDomain;
use ark_relations::gr1cs::{ConstraintSystemRef, Result as R1csResult, SynthesisError};
use ark_relations::utils::matrix::Matrix;
use ark_std::rand::rngs::StdRng;
use ark_std::{cfg_iter, cfg_iter_mut};
use bytes::Bytes;
use caldera_prover::format::{Part, Wtns, Zkey};
#[cfg(feature = "parallel")]
use rayon::prelude::*;

use crate::peer::ark::{Curve, Layout, domain, from_canonical, root_of_unity, seeded};

/// A key and a witness in arkworks' types, ready to prove.
pub(crate) struct Prover<C: Curve> {
    key: ProvingKey<C::Pairing>,
    verifying: PreparedVerifyingKey<C::Pairing>,
    matrices: [Matrix<C::Fr>; 2],
    assignment: Vec<C::Fr>,
    /// The constant and the public wires.
    inputs: usize,
    random: StdRng,
}

impl<C: Curve> Prover<C> {
    /// Converts a key and a witness for it.
    pub(crate) fn new(zkey: &Zkey, witness: &Wtns) -> Result<Prover<C>> {
        let header = zkey.header();
        ensure!(header.curve == C::ID, "the key is of another curve");
        let layout = Layout::<C::Fq>::new();
        let one_g1 = |bytes: &Bytes| {
            layout
                .points::<C::G1>(bytes)?
                .first()
                .copied()
                .context("a point of the key's header")
        };
        let one_g2 = |bytes: &Bytes| {
            layout
                .points::<C::G2>(bytes)?
                .first()
                .copied()
                .context("a point of the key's header")
        };
        let g1 = |part| {
            layout
                .points::<C::G1>(zkey.part(part))
                .with_context(|| format!("{part}"))
        };
        let key = ProvingKey {
            vk: VerifyingKey {
                alpha_g1: one_g1(&header.alpha_g1)?,
                beta_g2: one_g2(&header.beta_g2)?,
                gamma_g2: one_g2(&header.gamma_g2)?,
                delta_g2: one_g2(&header.delta_g2)?,
                gamma_abc_g1: g1(Part::Ic)?,
            },
            beta_g1: one_g1(&header.beta_g1)?,
            delta_g1: one_g1(&header.delta_g1)?,
            a_query: g1(Part::A)?,
            b_g1_query: g1(Part::B1)?,
            b_g2_query: layout.points::<C::G2>(zkey.part(Part::B2)).context("B2")?,
            h_query: g1(Part::H)?,
            l_query: g1(Part::C)?,
        };
        let assignment = witness
            .elements()
            .chunks_exact(32)
            .map(from_canonical)
            .collect::<Result<Vec<C::Fr>>>()
            .context("the witness")?;
        ensure!(
            assignment.len() == header.wires as usize,
            "the witness is of another circuit"
        );
        Ok(Prover {
            verifying: prepare_verifying_key(&key.vk),
            key,
            matrices: matrices(zkey.part(Part::Coefficients), header.domain as usize)?,
            assignment,
            inputs: header.public as usize + 1,
            random: seeded(),
        })
    }

    /// One proof.
    pub(crate) fn prove(&mut self) -> Result<Proof<C::Pairing>> {
        let (r, s) = (C::Fr::rand(&mut self.random), C::Fr::rand(&mut self.random));
        let rows = self.matrices[0].len();
        Groth16::<C::Pairing, OddCoset>::create_proof_with_reduction_and_matrices(
            &self.key,
            r,
            s,
            &self.matrices,
            self.inputs,
            rows,
            &self.assignment,
        )
        .context("ark-groth16 proving")
    }

    /// Whether a proof holds for this witness's public inputs.
    pub(crate) fn verify(&self, proof: &Proof<C::Pairing>) -> Result<bool> {
        let public = &self.assignment[1..self.inputs];
        Groth16::<C::Pairing, OddCoset>::verify_proof(&self.verifying, proof, public)
            .context("ark-groth16 verifying")
    }

    /// The key alone.
    pub(crate) fn into_key(self) -> ProvingKey<C::Pairing> {
        self.key
    }

    /// Changes a private wire, so that the witness no longer satisfies the circuit.
    #[cfg(test)]
    fn spoil(&mut self) {
        self.assignment[self.inputs] += C::Fr::from(1u64);
    }
}

/// The entries of section 4 as rows of A and B. Values are stored times R^2 with R = 2^256.
fn matrices<F: PrimeField>(entries: &[u8], rows: usize) -> Result<[Matrix<F>; 2]> {
    let r_inverse = F::from(2u64)
        .pow([256])
        .inverse()
        .context("a power of two is not zero")?;
    let factor = r_inverse.square();
    let mut matrices = [vec![Vec::new(); rows], vec![Vec::new(); rows]];
    for entry in entries.chunks_exact(44) {
        let (place, value) = entry.split_at(12);
        let number = |at: usize| {
            u32::from_le_bytes([place[at], place[at + 1], place[at + 2], place[at + 3]])
        };
        let row = matrices
            .get_mut(number(0) as usize)
            .and_then(|matrix| matrix.get_mut(number(4) as usize))
            .context("an entry outside the matrices")?;
        row.push((from_canonical::<F>(value)? * factor, number(8) as usize));
    }
    Ok(matrices)
}

/// The reduction that a snarkjs key needs.
struct OddCoset;

impl R1CSToQAP for OddCoset {
    fn witness_map_from_matrices<F: PrimeField, D: EvaluationDomain<F>>(
        matrices: &[Matrix<F>],
        _: usize,
        rows: usize,
        assignment: &[F],
    ) -> R1csResult<Vec<F>> {
        let too_large = |_| SynthesisError::PolynomialDegreeTooLarge;
        let [a, b] = matrices else {
            return Err(SynthesisError::Unsatisfiable);
        };
        let rows_times = |matrix: &Matrix<F>| -> Vec<F> {
            cfg_iter!(matrix)
                .map(|row| evaluate_constraint(row, assignment))
                .collect()
        };
        let (mut a, mut b) = (rows_times(a), rows_times(b));
        let mut c: Vec<F> = cfg_iter!(a).zip(&b).map(|(a, b)| *a * b).collect();
        let domain = domain::<F>(rows.ilog2()).map_err(too_large)?;
        let shift = root_of_unity(rows.ilog2() + 1).map_err(too_large)?;
        let odd = domain
            .get_coset(shift)
            .ok_or(SynthesisError::PolynomialDegreeTooLarge)?;
        for side in [&mut a, &mut b, &mut c] {
            domain.ifft_in_place(side);
            odd.fft_in_place(side);
        }
        cfg_iter_mut!(a)
            .zip(&b)
            .zip(&c)
            .for_each(|((a, b), c)| *a = *a * b - c);
        Ok(a)
    }

    fn instance_map_with_evaluation<F: PrimeField, D: EvaluationDomain<F>>(
        _: ConstraintSystemRef<F>,
        _: &F,
    ) -> Result<(Vec<F>, Vec<F>, Vec<F>, F, usize, usize), SynthesisError> {
        // Only key generation asks for this, and keys come from snarkjs or from our set-up.
        Err(SynthesisError::MissingCS)
    }

    fn h_query_scalars<F: PrimeField, D: EvaluationDomain<F>>(
        _: usize,
        _: F,
        _: F,
        _: F,
    ) -> Result<Vec<F>, SynthesisError> {
        Err(SynthesisError::MissingCS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;
    use crate::peer::ark::{Bls12_381, Bn254, on_threads};

    fn proves<C: Curve>() {
        let key = Key::synthetic(C::ID, 6, 0.5, 1).expect("a small key");
        let mut prover = Prover::<C>::new(&key.zkey, &key.witness).expect("a key of our own");
        let threads = if cfg!(feature = "parallel") { 2 } else { 1 };
        let proof = on_threads(threads, || prover.prove())
            .expect("threads")
            .expect("a proof");
        assert!(prover.verify(&proof).expect("well-formed inputs"));
        prover.spoil();
        let proof = on_threads(threads, || prover.prove())
            .expect("threads")
            .expect("a proof");
        assert!(!prover.verify(&proof).expect("well-formed inputs"));
    }

    #[test]
    fn a_snarkjs_key_proves_and_a_spoilt_witness_does_not() {
        proves::<Bn254>();
        proves::<Bls12_381>();
    }
}
