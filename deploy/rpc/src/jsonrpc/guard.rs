//! What JSON may cost, seen before it is parsed.
//!
//! One pass over the bytes, which allocates nothing and calls nothing: how deep objects and arrays stand inside each
//! other, and how long a number is written. A parser that recurses is so never given more than it has stack for, and none
//! is given a number of a million digits to turn into a float. It is the idea of httparse's guard in
//! [`crate::http`], for bodies. Whether the text is JSON at all is for the parser to say: strings are only followed as far as
//! needed to know what stands outside of them.

use crate::error::RpcError;

/// Objects and arrays inside each other. Our deepest request has four: batch, request, `params`
/// array, object. The rest is room for what a method refuses by name.
pub const DEPTH_MAX: usize = 16;

/// Characters of a number. Those of 64 bits have at most twenty.
pub const NUMBER_BYTES_MAX: usize = 32;

/// Refuses a body that nests too deep or holds too long a number, whatever else it is.
pub(super) fn check(body: &[u8]) -> Result<(), RpcError> {
    let refuse = |detail: String| Err(RpcError::Parse { detail });
    let (mut depth, mut number) = (0, 0);
    let mut bytes = body.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        number = match byte {
            b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E' => number + 1,
            _ => 0,
        };
        if number > NUMBER_BYTES_MAX {
            return refuse(format!(
                "a number has at most {NUMBER_BYTES_MAX} characters; the one that ends at byte {at} has more"
            ));
        }
        match byte {
            // To the end of the string, in a loop of its own: nearly all of a large body is strings.
            b'"' => {
                while let Some((_, &byte)) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            bytes.next();
                        }
                        _ => {}
                    }
                }
            }
            b'[' | b'{' if depth == DEPTH_MAX => {
                return refuse(format!(
                    "nested deeper than {DEPTH_MAX} levels at byte {at}"
                ));
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_that_outside_of_strings() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(check(nested(DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(check(format!("[{}]", vec!["{}"; 100].join(",")).as_bytes()).is_ok());
        for text in [
            format!("\"{}\"", "[".repeat(99)),
            format!("\"\\\"{}\"", "{".repeat(99)),
        ] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
        // The escape is escaped: the string ends, and what follows counts.
        let text = format!("\"\\\\\"{}", "[".repeat(99));
        assert!(check(text.as_bytes()).is_err());
        // A closing bracket too many buys no depth.
        assert!(check(format!("{}{}", "]".repeat(99), nested(17)).as_bytes()).is_err());
    }

    #[test]
    fn numbers_are_bounded_and_strings_of_digits_are_not() {
        let digits = "9".repeat(NUMBER_BYTES_MAX + 1);
        assert!(check(digits.as_bytes()).is_err());
        assert!(check(&digits.as_bytes()[1..]).is_ok());
        assert!(check(format!("\"{digits}\"").as_bytes()).is_ok());
        assert!(check(format!("[1{}]", ",1".repeat(1000)).as_bytes()).is_ok());
        assert!(check(format!("-0.{digits}e+1").as_bytes()).is_err());
    }
}
