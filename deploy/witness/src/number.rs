//! Numbers below a circuit's prime: from the digits of a text, to the words of a program.
//!
//! circom's primes differ in length, so a number has as many 32-bit words as the prime and room for
//! [`WORDS_MAX`]. A digit costs five additions below the prime; a thousand inputs of 77 digits are
//! a few milliseconds, which the caller charges for as fuel.

use zeroize::Zeroize;

/// Words of the longest prime: 512 bits. circom's longest have 256.
pub(crate) const WORDS_MAX: usize = 16;

/// A number below a prime, little-endian.
#[derive(Clone, Copy, Zeroize)]
pub(crate) struct Number(pub(crate) [u32; WORDS_MAX]);

/// A circuit's prime.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prime {
    words: [u32; WORDS_MAX],
    len: usize,
}

impl Prime {
    /// From its words; `None` unless there are 2 to [`WORDS_MAX`], the number is odd and the top word is not 0.
    pub(crate) fn new(words: &[u32]) -> Option<Prime> {
        let fits = (2..=WORDS_MAX).contains(&words.len());
        if !fits || words[0] & 1 == 0 || words[words.len() - 1] == 0 {
            return None;
        }
        let mut prime = Prime {
            words: [0; WORDS_MAX],
            len: words.len(),
        };
        prime.words[..words.len()].copy_from_slice(words);
        Some(prime)
    }

    pub(crate) fn words(&self) -> &[u32] {
        &self.words[..self.len]
    }

    /// The number of a sign and digits of base 10 or 16, which are known to be digits, modulo the
    /// prime: what is larger is taken as circom takes it, and -1 is the prime less 1.
    pub(crate) fn reduce(&self, negative: bool, radix: u32, digits: &[u8]) -> Number {
        let mut number = Number([0; WORDS_MAX]);
        for digit in digits {
            let value = char::from(*digit).to_digit(radix).unwrap_or(0);
            let twice = self.add(&number, &number);
            let four = self.add(&twice, &twice);
            let eight = self.add(&four, &four);
            number = match radix {
                10 => self.add(&eight, &twice),
                _ => self.add(&eight, &eight),
            };
            let mut small = Number([0; WORDS_MAX]);
            small.0[0] = value;
            number = self.add(&number, &small);
        }
        let zero = number.0.iter().all(|word| *word == 0);
        if negative && !zero {
            let mut rest = Number(self.words);
            subtract(&mut rest.0, &number.0, self.len);
            number.zeroize();
            return rest;
        }
        number
    }

    /// Whether words, as many as the prime has, are a number below it.
    pub(crate) fn is_above(&self, words: &[u32]) -> bool {
        for at in (0..self.len).rev() {
            if words[at] != self.words[at] {
                return words[at] < self.words[at];
            }
        }
        false
    }

    fn add(&self, a: &Number, b: &Number) -> Number {
        let mut sum = Number([0; WORDS_MAX]);
        let mut carry = 0;
        for at in 0..self.len {
            let word = u64::from(a.0[at]) + u64::from(b.0[at]) + carry;
            sum.0[at] = word as u32;
            carry = word >> 32;
        }
        if carry > 0 || !self.is_above(&sum.0) {
            subtract(&mut sum.0, &self.words, self.len);
        }
        sum
    }
}

/// Subtracts in place; a borrow at the end is lost, for it cancels a carry.
fn subtract(from: &mut [u32; WORDS_MAX], number: &[u32; WORDS_MAX], len: usize) {
    let mut borrow = 0;
    for at in 0..len {
        let word = i64::from(from[at]) - i64::from(number[at]) - borrow;
        from[at] = word as u32;
        borrow = i64::from(word < 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2^64 - 2^32 + 1: a prime of circom's whose sums overflow their words.
    fn goldilocks() -> Prime {
        Prime::new(&[1, u32::MAX]).expect("it is odd and has two words")
    }

    fn small(number: Number) -> u128 {
        assert!(number.0[2..].iter().all(|word| *word == 0));
        u128::from(number.0[0]) | u128::from(number.0[1]) << 32
    }

    #[test]
    fn numbers_are_taken_modulo_the_prime() {
        const P: u128 = 0xffff_ffff_0000_0001;
        let prime = goldilocks();
        for number in [
            0,
            1,
            9,
            P - 1,
            P,
            P + 1,
            2 * P + 5,
            u128::MAX / 3,
            u128::MAX,
        ] {
            let decimal = number.to_string();
            assert_eq!(
                small(prime.reduce(false, 10, decimal.as_bytes())),
                number % P
            );
            let hexadecimal = format!("{number:X}");
            assert_eq!(
                small(prime.reduce(false, 16, hexadecimal.as_bytes())),
                number % P
            );
            assert_eq!(
                small(prime.reduce(true, 10, decimal.as_bytes())),
                (P - number % P) % P
            );
        }
    }

    #[test]
    fn what_cannot_be_a_prime_is_none() {
        let words = [1; WORDS_MAX + 1];
        assert!(Prime::new(&words).is_none());
        assert!(Prime::new(&words[..WORDS_MAX]).is_some());
        for bad in [&[][..], &[7], &[2, 1], &[1, 0]] {
            assert!(Prime::new(bad).is_none(), "{bad:?}");
        }
    }
}
