//! `a * b / c` without losing a bit between.
//!
//! A product of two amounts has up to 256 bits, and a share is such a product over a third amount.
//! The division is schoolbook division in digits of 64 bits (Knuth, The Art of Computer
//! Programming, volume 2, 4.3.1, algorithm D), at most two digits below the line. Most products
//! fit into 128 bits, and those are left to the compiler.

/// Quotient and remainder of `a * b / c`; `None` if the quotient needs more than 128 bits.
///
/// # Panics
/// If `c` is zero.
pub(super) fn mul_div(a: u128, b: u128, c: u128) -> Option<(u128, u128)> {
    if let Some(product) = a.checked_mul(b) {
        return Some(divided(product, c));
    }
    let (high, low) = mul(a, b);
    div(high, low, c)
}

/// `(a * b + add) / 2^64`: the whole part, and the 64 bits after it; `None` if the whole part
/// needs more than 128 bits.
pub(super) fn mul_shift(a: u128, b: u128, add: u64) -> Option<(u128, u64)> {
    let (high, low) = mul(a, b);
    let (low, carry) = low.overflowing_add(u128::from(add));
    let high = high + u128::from(carry);
    let whole = (high >> 64 == 0).then_some((high << 64) | (low >> 64))?;
    Some((whole, low as u64))
}

/// `(a * 2^64 + add) / c` and its remainder; `None` if the quotient needs more than 128 bits.
pub(super) fn shift_div(a: u128, add: u128, c: u128) -> Option<(u128, u128)> {
    let (low, carry) = (a << 64).overflowing_add(add);
    div((a >> 64) + u128::from(carry), low, c)
}

/// The product: high and low half.
fn mul(a: u128, b: u128) -> (u128, u128) {
    let (a1, a0) = (a >> 64, a & DIGIT);
    let (b1, b0) = (b >> 64, b & DIGIT);
    // Each of these is below 2^128 - 2^65 + 1 + a digit, so none overflows.
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 64);
    let other = a0 * b1 + (middle & DIGIT);
    let high = a1 * b1 + (middle >> 64) + (other >> 64);
    (high, (other << 64) | (low & DIGIT))
}

fn div(high: u128, low: u128, by: u128) -> Option<(u128, u128)> {
    assert!(by > 0, "division by zero");
    if high >= by {
        return None;
    }
    if high == 0 {
        return Some(divided(low, by));
    }
    // The divisor's top bit is brought to the top; the remainder goes back at the end.
    let shift = by.leading_zeros();
    let by = by << shift;
    let (high, low) = match shift {
        0 => (high, low),
        _ => ((high << shift) | (low >> (128 - shift)), low << shift),
    };
    let (first, rest) = digit(high, low >> 64, by);
    let (second, rest) = digit(rest, low & DIGIT, by);
    Some(((first << 64) | second, rest >> shift))
}

/// Quotient and remainder by one division: there is none of 128 bits in the machine, and the compiler calls for each.
fn divided(a: u128, by: u128) -> (u128, u128) {
    let quotient = a / by;
    (quotient, a - quotient * by)
}

/// One digit of a quotient: three digits, the upper two below the divisor, by two normalised ones.
fn digit(upper: u128, next: u128, by: u128) -> (u128, u128) {
    let (by1, by0) = (by >> 64, by & DIGIT);
    let (mut guess, mut rest) = divided(upper, by1);
    // The guess is at most two too large.
    while guess > DIGIT || guess * by0 > ((rest << 64) | next) {
        guess -= 1;
        rest += by1;
        if rest > DIGIT {
            break;
        }
    }
    // What is subtracted is at most what is there, so the wrapping cancels.
    let remainder = ((upper << 64) | next).wrapping_sub(guess.wrapping_mul(by));
    (guess, remainder)
}

const DIGIT: u128 = u64::MAX as u128;

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;

    use super::*;

    /// Numbers of all widths, with ends of runs where carries are.
    fn nasty() -> Vec<u128> {
        let mut numbers = vec![3, 10_000, u128::MAX, u128::MAX - 1, DIGIT, DIGIT + 1];
        numbers.extend((0..128).map(|bit| 1_u128 << bit));
        numbers.extend((1..128).map(|bit| (1_u128 << bit) - 1));
        numbers.extend((0..128).map(|bit| u128::MAX << bit));
        let mut state = 1_u128;
        for _ in 0..40 {
            state = state.wrapping_mul(0xda94_2042_e4dd_58b5_9e37_79b9_7f4a_7c15) + 1;
            numbers.push(state >> (state as u32 % 120));
        }
        numbers
    }

    #[test]
    fn products_over_divisors_are_those_of_whole_numbers() {
        let numbers = nasty();
        let mut wide = 0;
        for (at, &a) in numbers.iter().enumerate() {
            for &b in numbers.iter().skip(at % 3).step_by(3) {
                for &c in numbers.iter().skip(at % 7).step_by(7) {
                    let product = BigUint::from(a) * b;
                    let (quotient, rest) = (&product / c, &product % c);
                    let expected = u128::try_from(&quotient)
                        .ok()
                        .map(|quotient| (quotient, u128::try_from(&rest).expect("below c")));
                    assert_eq!(mul_div(a, b, c), expected, "{a} * {b} / {c}");
                    wide += u32::from(expected.is_some() && product.bits() > 128);
                }
            }
        }
        assert!(wide > 10_000, "only {wide} divisions were wide");
    }

    #[test]
    fn shifts_are_those_of_whole_numbers() {
        for &a in &nasty() {
            for &b in nasty().iter().step_by(2) {
                let sum: BigUint = BigUint::from(a) * b + DIGIT;
                let whole = u128::try_from(&sum >> 64_u32).ok();
                let fraction = u64::try_from(&sum & BigUint::from(DIGIT)).expect("64 bits");
                assert_eq!(mul_shift(a, b, u64::MAX), whole.map(|w| (w, fraction)));
                let sum: BigUint = (BigUint::from(a) << 64) + (b - 1);
                let expected = u128::try_from(&sum / b).ok();
                assert_eq!(shift_div(a, b - 1, b).map(|(q, _)| q), expected, "{a} {b}");
            }
        }
    }
}
