//! Poseidon with circomlib's parameters: the hash that is cheap within a circuit.
//!
//! The permutation is that of the [paper](https://eprint.iacr.org/2019/458): eight full rounds
//! and, between the halves of them, partial rounds that raise the first element alone, x -> x^5.
//! circomlib fixes the rest: the width is one more than there are inputs, the capacity element
//! is the first and begins as zero, the inputs follow it, and the first element of the last
//! state is the hash. (That is not the sponge of the arkworks crates, which absorbs behind the
//! capacity and squeezes from there.)
//!
//! The constants are not listed here but made, by the paper's own generator: a shift register of
//! 80 bits (Grain) that begins with the parameters, so that nobody chose them. They are what
//! circomlib lists, which its vectors in `tests/units_vectors.rs` confirm for every width.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::{BigInteger256, Field, PrimeField, Zero};

/// How many inputs can be hashed at once.
pub const INPUTS_MAX: usize = 16;

/// Hashes 1 to [`INPUTS_MAX`] field elements; panics at any other number of them, for the number
/// is never an input of somebody else's.
pub fn hash(inputs: &[Fr]) -> Fr {
    let parameters = Parameters::of(inputs.len());
    let mut state = vec![Fr::zero()];
    state.extend_from_slice(inputs);
    for round in 0..parameters.rounds() {
        for (element, constant) in state.iter_mut().zip(parameters.constants(round)) {
            *element += constant;
        }
        for element in &mut state[..parameters.raised(round)] {
            let square = element.square();
            *element *= square.square();
        }
        state = (0..parameters.width)
            .map(|i| {
                let terms = parameters.row(i).iter().zip(&state);
                terms
                    .map(|(coefficient, element)| *coefficient * element)
                    .sum()
            })
            .collect();
    }
    state[0]
}

/// The constants for one width.
pub(super) struct Parameters {
    width: usize,
    rounds_partial: usize,
    constants: Vec<Fr>,
    matrix: Vec<Fr>,
}

impl Parameters {
    /// Those for a number of inputs, made when first asked for.
    pub(super) fn of(inputs: usize) -> &'static Parameters {
        assert!(inputs >= 1, "nothing to hash");
        assert!(inputs <= INPUTS_MAX, "too much to hash at once");
        static MADE: [OnceLock<Parameters>; INPUTS_MAX] = [const { OnceLock::new() }; INPUTS_MAX];
        MADE[inputs - 1].get_or_init(|| Parameters::make(inputs))
    }

    fn make(inputs: usize) -> Parameters {
        let width = inputs + 1;
        let rounds_partial = ROUNDS_PARTIAL[inputs - 1];
        let mut grain = Grain::new(width, rounds_partial);
        let constants = (0..(ROUNDS_FULL + rounds_partial) * width)
            .map(|_| grain.element())
            .collect();
        let xs: Vec<Fr> = (0..width).map(|_| grain.element_reduced()).collect();
        let ys: Vec<Fr> = (0..width).map(|_| grain.element_reduced()).collect();
        let mut matrix: Vec<Fr> = xs
            .iter()
            .flat_map(|x| ys.iter().map(move |y| *x + y))
            .collect();
        ark_ff::batch_inversion(&mut matrix);
        Parameters {
            width,
            rounds_partial,
            constants,
            matrix,
        }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn rounds(&self) -> usize {
        ROUNDS_FULL + self.rounds_partial
    }

    /// How many elements, from the first, the round raises to the fifth power.
    pub(super) fn raised(&self, round: usize) -> usize {
        let first_partial = ROUNDS_FULL / 2;
        let partial = first_partial..first_partial + self.rounds_partial;
        if partial.contains(&round) {
            1
        } else {
            self.width
        }
    }

    /// What the round adds before it raises.
    pub(super) fn constants(&self, round: usize) -> &[Fr] {
        &self.constants[round * self.width..][..self.width]
    }

    /// The coefficients of the next state's element.
    pub(super) fn row(&self, element: usize) -> &[Fr] {
        &self.matrix[element * self.width..][..self.width]
    }
}

/// The generator of the paper's appendix: a register of 80 bits, the oldest lowest.
struct Grain(u128);

impl Grain {
    fn new(width: usize, rounds_partial: usize) -> Grain {
        let mut state = 0;
        let mut at = 0;
        // Each number with its highest bit first.
        let mut put = |value: usize, bits: u32| {
            for bit in (0..bits).rev() {
                state |= ((value as u128 >> bit) & 1) << at;
                at += 1;
            }
        };
        put(1, 2); // a prime field
        put(0, 4); // a power as S-box
        put(Fr::MODULUS_BIT_SIZE as usize, 12);
        put(width, 12);
        put(ROUNDS_FULL, 10);
        put(rounds_partial, 10);
        put((1 << 30) - 1, 30);
        let mut grain = Grain(state);
        for _ in 0..160 {
            grain.step();
        }
        grain
    }

    fn step(&mut self) -> bool {
        let taps = 1 | 1 << 13 | 1 << 23 | 1 << 38 | 1 << 51 | 1 << 62;
        let new = (self.0 & taps).count_ones() & 1;
        self.0 = self.0 >> 1 | u128::from(new) << 79;
        new == 1
    }

    /// One bit of output: of each pair of steps the second counts, if the first gave 1.
    fn bit(&mut self) -> bool {
        loop {
            let counts = self.step();
            let bit = self.step();
            if counts {
                return bit;
            }
        }
    }

    /// A number of as many bits as the modulus has, the highest first.
    fn number(&mut self) -> BigInteger256 {
        let mut number = BigInteger256::zero();
        for bit in (0..Fr::MODULUS_BIT_SIZE as usize).rev() {
            number.0[bit / 64] |= u64::from(self.bit()) << (bit % 64);
        }
        number
    }

    /// The next number that is below the modulus.
    fn element(&mut self) -> Fr {
        loop {
            if let Some(element) = Fr::from_bigint(self.number()) {
                return element;
            }
        }
    }

    /// The next number, reduced: below twice the modulus, as it has no more bits.
    fn element_reduced(&mut self) -> Fr {
        let number = self.number();
        Fr::from(num_bigint::BigUint::from(number))
    }
}

const ROUNDS_FULL: usize = 8;

/// The paper's numbers of partial rounds for 1 to 16 inputs, as circomlib rounded them up.
const ROUNDS_PARTIAL: [usize; INPUTS_MAX] = [
    56, 57, 56, 60, 60, 63, 64, 63, 60, 66, 60, 65, 70, 60, 64, 68,
];
