//! The inputs of a circuit: a JSON object from signals to numbers, as circom's tools take it.
//!
//! A value is a number, or arrays of arrays of numbers, which circom flattens. A number is a whole
//! JSON number, a string of decimal digits or of hexadecimal ones after `0x`, with a minus sign before either if it is negative,
//! or `true` or `false`. It may be larger than the prime and is then taken modulo it.
//!
//! JavaScript's tools read a JSON number as a float, and one above 2^53 silently as another. Here
//! it is what is written. Stricter than they are is this reader also where a slip is likelier than an
//! intention: no signal twice, no rows of different lengths, no empty string for zero, no fraction or
//! exponent.
//!
//! A parser of its own, because serde_json makes floats of large numbers. It keeps where in the text each number
//! stands; the numbers themselves are made one by one when the program asks for them.

use std::fmt;

use zeroize::Zeroizing;

use crate::number::{Number, Prime};
use crate::{Limits, WitnessError};

/// The inputs of one calculation. Overwritten when dropped.
pub struct Inputs {
    text: Zeroizing<Vec<u8>>,
    signals: Vec<Signal>,
}

/// The values of one signal, flattened.
pub(crate) struct Signal {
    pub(crate) name: String,
    values: Vec<Value>,
}

/// Where the digits of a number stand.
#[derive(Clone, Copy)]
struct Value {
    start: u32,
    len: u16,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Decimal { negative: bool },
    Hexadecimal { negative: bool },
    Truth(bool),
}

impl Inputs {
    /// Reads a text.
    pub fn parse(text: Vec<u8>, limits: &Limits) -> Result<Inputs, WitnessError> {
        let text = Zeroizing::new(text);
        // Places are kept in 32 bits.
        let expected_max = limits.inputs_bytes.min(u32::MAX as usize);
        if text.len() > expected_max {
            return Err(WitnessError::Length {
                expected_max,
                got: text.len(),
            });
        }
        // No list of so many is begun.
        let commas = text.iter().filter(|byte| **byte == b',').count();
        if commas >= limits.inputs {
            return Err(WitnessError::Count {
                expected_max: limits.inputs,
                got: commas + 1,
            });
        }
        let signals = Reader { text: &text, at: 0 }.object()?;
        Ok(Inputs { text, signals })
    }

    pub(crate) fn signals(&self) -> &[Signal] {
        &self.signals
    }

    /// How many values all signals have.
    pub(crate) fn len(&self) -> u64 {
        self.signals.iter().map(Signal::len).sum()
    }

    /// A value of a signal, and how many digits it was written in.
    pub(crate) fn number(&self, signal: usize, index: usize, prime: &Prime) -> (Number, usize) {
        let value = self.signals[signal].values[index];
        let start = value.start as usize;
        let digits = &self.text[start..start + usize::from(value.len)];
        let number = match value.kind {
            Kind::Decimal { negative } => prime.reduce(negative, 10, digits),
            Kind::Hexadecimal { negative } => prime.reduce(negative, 16, digits),
            Kind::Truth(truth) => prime.reduce(false, 10, if truth { b"1" } else { b"0" }),
        };
        (number, digits.len())
    }
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("values", &self.len())
            .finish_non_exhaustive()
    }
}

impl Signal {
    pub(crate) fn len(&self) -> u64 {
        self.values.len() as u64
    }

    /// FNV-1a of 64 bits, upper and lower half: how a program knows its signals.
    pub(crate) fn hash(&self) -> (i32, i32) {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in self.name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        ((hash >> 32) as i32, hash as i32)
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// Lengths of arrays inside each other, outermost first.
type Shape = Vec<usize>;

impl Reader<'_> {
    fn object(&mut self) -> Result<Vec<Signal>, WitnessError> {
        let mut signals: Vec<Signal> = Vec::new();
        let mut names = std::collections::HashSet::new();
        self.need(b'{', "{")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                let name = self.name()?;
                if !names.insert(name.clone()) {
                    return Err(WitnessError::Twice { signal: name });
                }
                self.need(b':', ":")?;
                let mut values = Vec::new();
                self.value(&name, 0, &mut values)?;
                signals.push(Signal { name, values });
                if self.comma_or(b'}', ", or }")? {
                    break;
                }
            }
        }
        match self.peek() {
            None => Ok(signals),
            Some(_) => Err(self.fault("the end")),
        }
    }

    /// The name of a signal: what circom's grammar allows, and dots and brackets, with which parts of
    /// buses are named.
    fn name(&mut self) -> Result<String, WitnessError> {
        if self.peek() != Some(b'"') {
            return Err(self.fault("the name of a signal"));
        }
        let start = self.at + 1;
        let rest = &self.text[start..];
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_$.[]".contains(&byte);
        let len = rest.iter().take_while(|byte| allowed(**byte)).count();
        if rest.get(len) != Some(&b'"') || !(1..=NAME_BYTES_MAX).contains(&len) {
            self.at = start + len.min(NAME_BYTES_MAX);
            return Err(self.fault("a signal's name of letters, digits, _ and $"));
        }
        self.at = start + len + 1;
        Ok(rest[..len].iter().map(|byte| char::from(*byte)).collect())
    }

    /// A number, or an array of values of one shape. Recurses at most [`DIMENSIONS_MAX`] deep.
    fn value(
        &mut self,
        signal: &str,
        depth: usize,
        values: &mut Vec<Value>,
    ) -> Result<Shape, WitnessError> {
        if self.peek() != Some(b'[') {
            values.push(self.number(signal)?);
            return Ok(Shape::new());
        }
        if depth == DIMENSIONS_MAX {
            return Err(WitnessError::Depth {
                signal: signal.to_owned(),
                expected_max: DIMENSIONS_MAX,
            });
        }
        self.at += 1;
        let mut first: Option<Shape> = None;
        let mut count = 0;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(vec![0]);
        }
        loop {
            let shape = self.value(signal, depth + 1, values)?;
            count += 1;
            match &first {
                None => first = Some(shape),
                Some(first) if *first != shape => {
                    return Err(WitnessError::Shape {
                        signal: signal.to_owned(),
                        at: self.at,
                        expected: shown(first),
                        got: shown(&shape),
                    });
                }
                Some(_) => {}
            }
            if self.comma_or(b']', ", or ]")? {
                break;
            }
        }
        let mut shape = vec![count];
        shape.extend(first.unwrap_or_default());
        Ok(shape)
    }

    fn number(&mut self, signal: &str) -> Result<Value, WitnessError> {
        let refuse = |at, got| {
            Err(WitnessError::Number {
                signal: signal.to_owned(),
                at,
                got,
            })
        };
        let at = self.at;
        let (start, end, quoted) = match self.peek() {
            Some(b'"') => {
                let start = self.at + 1;
                let rest = &self.text[start..];
                let len = rest.iter().position(|byte| *byte == b'"');
                match len {
                    Some(len) => (start, start + len, true),
                    None => return refuse(at, "a string without an end"),
                }
            }
            Some(b'0'..=b'9' | b'-' | b'+' | b't' | b'f' | b'n') => {
                let start = self.at;
                let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                let rest = &self.text[start..];
                let len = rest.iter().take_while(|byte| word(byte)).count();
                (start, start + len, false)
            }
            Some(b'{') => return refuse(at, "an object"),
            _ => return refuse(at, "something else"),
        };
        self.at = end + usize::from(quoted);
        let word = &self.text[start..end];
        let truth = |truth| Value {
            start: 0,
            len: 0,
            kind: Kind::Truth(truth),
        };
        match word {
            b"true" if !quoted => return Ok(truth(true)),
            b"false" if !quoted => return Ok(truth(false)),
            b"null" if !quoted => return refuse(at, "null"),
            b"" => return refuse(at, "an empty string"),
            _ => {}
        }
        let (negative, start, word) = match word {
            [b'-', rest @ ..] => (true, start + 1, rest),
            _ => (false, start, word),
        };
        let (kind, start, digits) = match word {
            [b'0', b'x' | b'X', rest @ ..] if quoted => {
                (Kind::Hexadecimal { negative }, start + 2, rest)
            }
            _ => (Kind::Decimal { negative }, start, word),
        };
        let digit = |byte: &u8| match kind {
            Kind::Hexadecimal { .. } => byte.is_ascii_hexdigit(),
            _ => byte.is_ascii_digit(),
        };
        if digits.len() > DIGITS_MAX {
            return refuse(at, "one of more than 1,024 digits");
        }
        if digits.is_empty() || !digits.iter().all(digit) {
            let fraction = digits.iter().any(|byte| b".eE".contains(byte));
            return refuse(
                at,
                match (quoted, fraction) {
                    (false, true) => {
                        "a number with a fraction or an exponent; a large one goes in a string"
                    }
                    (true, _) => "a string that is not a whole number",
                    (false, false) => "something else",
                },
            );
        }
        Ok(Value {
            start: start as u32,
            len: digits.len() as u16,
            kind,
        })
    }

    /// Takes a comma, and then says false, or what ends a list.
    fn comma_or(&mut self, end: u8, expected: &'static str) -> Result<bool, WitnessError> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.fault(expected)),
        }
    }

    fn need(&mut self, byte: u8, expected: &'static str) -> Result<(), WitnessError> {
        if self.peek() != Some(byte) {
            return Err(self.fault(expected));
        }
        self.at += 1;
        Ok(())
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text[self.at..];
        let space = |byte: &&u8| matches!(**byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += rest.iter().take_while(space).count();
        self.text.get(self.at).copied()
    }

    fn fault(&self, expected: &'static str) -> WitnessError {
        let got = match self.text.get(self.at) {
            None => "the end".to_owned(),
            // A digit may be one of a secret.
            Some(byte) if byte.is_ascii_alphanumeric() => "a letter or digit".to_owned(),
            Some(byte) if byte.is_ascii_graphic() => char::from(*byte).to_string(),
            Some(byte) => format!("byte {byte}"),
        };
        WitnessError::Json {
            expected,
            at: self.at,
            got,
        }
    }
}

/// A shape for people.
fn shown(shape: &Shape) -> String {
    match shape.is_empty() {
        true => "a number".to_owned(),
        false => shape.iter().map(|len| format!("[{len}]")).collect(),
    }
}

/// Arrays inside each other. circom's own signals have seldom more than three.
const DIMENSIONS_MAX: usize = 16;
/// Digits of one number: six times those of circom's longest prime.
const DIGITS_MAX: usize = 1024;
/// Characters of the name of a signal.
const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Inputs, WitnessError> {
        Inputs::parse(text.as_bytes().to_vec(), &Limits::default())
    }

    fn values(text: &str) -> Vec<u64> {
        let prime = Prime::new(&[1, u32::MAX]).expect("it is odd and has two words");
        let inputs = parse(text).expect("inputs");
        (0..inputs.signals().len())
            .flat_map(|signal| {
                let count = inputs.signals()[signal].len() as usize;
                let inputs = &inputs;
                (0..count).map(move |at| {
                    let (number, _) = inputs.number(signal, at, &prime);
                    u64::from(number.0[0]) | u64::from(number.0[1]) << 32
                })
            })
            .collect()
    }

    #[test]
    fn every_way_to_write_a_number() {
        let minus_five = 0xffff_ffff_0000_0001 - 5;
        assert_eq!(
            values(
                r#" { "a" : [ [1, "2"], ["0x0A", "007"] ],"b":-5, "c":["-5",true,false, "-0x5"],
                "d":9007199254740993, "e": [], "f":"-0" } "#
            ),
            [
                1,
                2,
                10,
                7,
                minus_five,
                minus_five,
                1,
                0,
                minus_five,
                9007199254740993,
                0
            ]
        );
        assert!(values("{}").is_empty());
    }

    #[test]
    fn hashes_are_those_of_circom() {
        let hash = |name: &str| {
            let (high, low) = Signal {
                name: name.to_owned(),
                values: Vec::new(),
            }
            .hash();
            (high as u32, low as u32)
        };
        // As circom_runtime's fnvHash prints them.
        assert_eq!(hash("a"), (0xaf63_dc4c, 0x8601_ec8c));
        assert_eq!(hash("in"), (0x08b7_3807, 0xb55c_4bbe));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("", "inputs: expected { at byte 0, got the end"),
            ("[]", "inputs: expected { at byte 0, got ["),
            (
                "{\"a\":1}x",
                "inputs: expected the end at byte 7, got a letter or digit",
            ),
            (
                "{\"a\" 1}",
                "inputs: expected : at byte 5, got a letter or digit",
            ),
            (
                "{\"a\":1,}",
                "inputs: expected the name of a signal at byte 7, got }",
            ),
            (
                "{\"a\":1 \"b\":2}",
                "inputs: expected , or } at byte 7, got \"",
            ),
            ("{\"a\":1,\"a\":1}", "inputs: signal a is given twice"),
            (
                "{\"\\u0061\":1}",
                "inputs: expected a signal's name of letters, digits, _ and $ at byte 2, got \\",
            ),
            (
                "{\"\":1}",
                "inputs: expected a signal's name of letters, digits, _ and $ at byte 2, got \"",
            ),
            (
                "{\"a\":[[1,2],[3]]}",
                "inputs: signal a: expected [2] at byte 15, as beside it, got [1]",
            ),
            (
                "{\"a\":[1,[3]]}",
                "inputs: signal a: expected a number at byte 11, as beside it, got [1]",
            ),
            (
                "{\"a\":1.5}",
                "inputs: signal a: expected a whole number at byte 5, got a number with a fraction or an exponent; a large one goes in a string",
            ),
            (
                "{\"a\":1e3}",
                "inputs: signal a: expected a whole number at byte 5, got a number with a fraction or an exponent; a large one goes in a string",
            ),
            (
                "{\"a\":\"1e3\"}",
                "inputs: signal a: expected a whole number at byte 5, got a string that is not a whole number",
            ),
            (
                "{\"a\":\"\"}",
                "inputs: signal a: expected a whole number at byte 5, got an empty string",
            ),
            (
                "{\"a\":\"1",
                "inputs: signal a: expected a whole number at byte 5, got a string without an end",
            ),
            (
                "{\"a\":null}",
                "inputs: signal a: expected a whole number at byte 5, got null",
            ),
            (
                "{\"a\":{\"b\":1}}",
                "inputs: signal a: expected a whole number at byte 5, got an object",
            ),
            (
                "{\"a\":0x10}",
                "inputs: signal a: expected a whole number at byte 5, got something else",
            ),
            (
                "{\"a\":-}",
                "inputs: signal a: expected a whole number at byte 5, got something else",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let nested = |depth| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&nested(DIMENSIONS_MAX)).is_ok());
        assert_eq!(
            parse(&nested(DIMENSIONS_MAX + 1)).expect_err("too deep"),
            WitnessError::Depth {
                signal: "a".to_owned(),
                expected_max: DIMENSIONS_MAX
            }
        );
        let long = |digits| format!("{{\"a\":\"{}\"}}", "9".repeat(digits));
        assert!(parse(&long(DIGITS_MAX)).is_ok());
        assert!(parse(&long(DIGITS_MAX + 1)).is_err());
        let limits = Limits {
            inputs_bytes: 6,
            ..Limits::default()
        };
        let few = Limits {
            inputs: 2,
            ..Limits::default()
        };
        assert!(Inputs::parse(b"{\"a\":[1,2]}".to_vec(), &few).is_ok());
        assert_eq!(
            Inputs::parse(b"{\"a\":[1,2],\"b\":3}".to_vec(), &few).expect_err("too many"),
            WitnessError::Count {
                expected_max: 2,
                got: 3
            }
        );
        assert_eq!(
            Inputs::parse(b"{\"a\":1}".to_vec(), &limits).expect_err("too long"),
            WitnessError::Length {
                expected_max: 6,
                got: 7
            }
        );
    }
}
