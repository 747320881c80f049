//! Values of parameters that know where they stand, so that a refusal names the field.
//!
//! Whoever sends eight fields and is told "expected u64" looks for the one by trying. `serde_json` says where in a text an error
//! is, and nothing of a tree of values; `serde_path_to_error` writes down each name on the way in, which is an allocation a
//! member whether or not anything is wrong, and does not name a field that is missing. Here the names are put together on an
//! error's way out, from the innermost, so that what fits costs what it did: each name is moved out of the tree and lent to
//! who reads it.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::de::{Error as _, IntoDeserializer};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

/// A value to be read.
pub(super) struct At(pub(super) Value);

/// Why a value is not what is read, and where in it. Shown, it is why.
#[derive(Debug)]
pub(super) struct Misfit {
    why: String,
    /// From the innermost to the outermost.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Member(String),
    Item(usize),
}

/// Where it is: `legs[0].amount`; empty for the whole.
pub(super) struct Path<'a>(&'a [Step]);

impl Misfit {
    pub(super) fn path(&self) -> Path<'_> {
        Path(&self.steps)
    }

    fn of(name: &str, why: String) -> Misfit {
        let steps = vec![Step::Member(name.to_owned())];
        Misfit { why, steps }
    }

    fn within(mut self, step: Step) -> Misfit {
        self.steps.push(step);
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.why)
    }
}

impl std::error::Error for Misfit {}

impl fmt::Display for Path<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().rev().enumerate() {
            match step {
                Step::Member(name) if at == 0 => out.write_str(name)?,
                Step::Member(name) => write!(out, ".{name}")?,
                Step::Item(index) => write!(out, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(why: T) -> Misfit {
        Misfit {
            why: why.to_string(),
            steps: Vec::new(),
        }
    }

    fn missing_field(field: &'static str) -> Misfit {
        Misfit::of(field, "is missing".to_owned())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Misfit {
        let why = match expected {
            [] => "unknown field: none is expected".to_owned(),
            expected => format!("unknown field: expected one of {}", expected.join(", ")),
        };
        Misfit::of(field, why)
    }
}

impl<'de> Deserializer<'de> for At {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => {
                let (unsigned, signed) = (number.as_u64(), number.as_i64());
                match (unsigned, signed, number.as_f64()) {
                    (Some(number), ..) => visitor.visit_u64(number),
                    (_, Some(number), _) => visitor.visit_i64(number),
                    (.., Some(number)) => visitor.visit_f64(number),
                    _ => Err(Misfit::custom("a number that cannot be read")),
                }
            }
            Value::String(text) => visitor.visit_string(text),
            Value::Array(items) => {
                let mut items = Items::of(items);
                let value = visitor.visit_seq(&mut items)?;
                match items.rest.len() {
                    0 => Ok(value),
                    more => Err(Misfit::custom(format_args!(
                        "expected {} items, got {}",
                        items.next,
                        items.next + more
                    ))),
                }
            }
            Value::Object(members) => visitor.visit_map(Members::of(members)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::String(name) => {
                let name: StringDeserializer<Misfit> = name.into_deserializer();
                visitor.visit_enum(name)
            }
            Value::Object(members) if members.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(Members::of(members)))
            }
            Value::Object(members) => Err(Misfit::custom(format_args!(
                "expected an object with one member, got {}",
                members.len()
            ))),
            other => At(other).deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The members of an object.
struct Members {
    rest: serde_json::map::IntoIter,
    /// The one whose name was read.
    open: Option<(String, Value)>,
}

impl Members {
    fn of(members: Map<String, Value>) -> Members {
        Members {
            rest: members.into_iter(),
            open: None,
        }
    }
}

impl<'de> MapAccess<'de> for Members {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        self.open = self.rest.next();
        match &self.open {
            None => Ok(None),
            Some((name, _)) => {
                let name: de::value::StrDeserializer<'_, Misfit> =
                    name.as_str().into_deserializer();
                seed.deserialize(name).map(Some)
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        match self.open.take() {
            None => Err(Misfit::custom("a value was asked for before its name")),
            Some((name, value)) => seed
                .deserialize(At(value))
                .map_err(|misfit| misfit.within(Step::Member(name))),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// The items of an array.
struct Items {
    rest: std::vec::IntoIter<Value>,
    /// The number of the one that is next.
    next: usize,
}

impl Items {
    fn of(items: Vec<Value>) -> Items {
        Items {
            rest: items.into_iter(),
            next: 0,
        }
    }
}

impl<'de> SeqAccess<'de> for &mut Items {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Misfit> {
        let Some(value) = self.rest.next() else {
            return Ok(None);
        };
        let at = self.next;
        self.next += 1;
        seed.deserialize(At(value))
            .map(Some)
            .map_err(|misfit| misfit.within(Step::Item(at)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;
    use crate::error::RpcError;
    use crate::jsonrpc::Params;
    use crate::methods::{AddTenant, JobWait, ListCircuits, Present, RegisterCircuit, Submit};

    /// The field that is blamed, and the message.
    fn blamed<T: DeserializeOwned + std::fmt::Debug>(params: Value) -> (Option<String>, String) {
        let params = Params::from_value(&params).unwrap();
        let refused = params.decode::<T>().expect_err("a misfit");
        assert!(matches!(refused, RpcError::InvalidParams { .. }));
        let wire = refused.to_wire();
        (wire.data.unwrap().field, wire.message)
    }

    #[test]
    fn the_field_is_named() {
        let digest = "a5".repeat(32);
        let key = |more: Value| {
            let mut params = json!({"circuit": digest, "witness": digest});
            params
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            blamed::<Submit>(params)
        };
        for (field, more, why) in [
            (
                "deadlineMs",
                json!({"deadlineMs": "5000"}),
                r#"invalid type: string "5000", expected u64"#,
            ),
            (
                "witness",
                json!({"witness": format!("0x{digest}")}),
                "expected 64 lower-case hexadecimal digits without 0x, got other text of length 66",
            ),
            (
                "idempotencyKey",
                json!({"idempotencyKey": ""}),
                "expected 1 to 128",
            ),
            (
                "witnessData",
                json!({"witnessData": "-"}),
                "expected base64",
            ),
            ("inputs", json!({"inputs": []}), "expected a map"),
            ("deadlinems", json!({"deadlinems": 1}), "unknown field"),
            ("", json!({"": 1}), "unknown field"),
        ] {
            let (blamed, message) = key(more);
            assert_eq!(blamed.unwrap_or_default(), field, "{message}");
            assert!(message.contains(why), "{message}");
            assert!(message.contains(field), "{message}");
        }
        // Of the members of a submission together no one is to blame, and one that is too long is.
        let (field, message) = blamed::<Submit>(json!({"circuit": digest}));
        assert_eq!(field, None, "{message}");

        let (field, message) = blamed::<JobWait>(json!({}));
        assert_eq!(field.as_deref(), Some("job"));
        assert_eq!(message, "parameters do not fit: job: is missing");
        let (field, _) = blamed::<RegisterCircuit>(json!({"zkey": digest, "r1cs": "x"}));
        assert_eq!(field.as_deref(), Some("r1cs"));
        let (field, message) = blamed::<ListCircuits>(json!({"more": {"deep": 1}}));
        assert_eq!(field.as_deref(), Some("more"), "{message}");
    }

    #[test]
    fn so_is_a_field_within_a_field() {
        let tenant = |more: Value| {
            let mut params = json!({"tenant": "a", "scenario": "b"});
            params
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            blamed::<AddTenant>(params).0
        };
        let quotas = tenant(json!({"quotas": {"queue": -1}}));
        assert_eq!(quotas.as_deref(), Some("quotas.queue"));
        let quotas = tenant(json!({"quotas": {"more": 1}}));
        assert_eq!(quotas.as_deref(), Some("quotas.more"));
        let scopes = tenant(json!({"scopes": ["read", "write"]}));
        assert_eq!(scopes.as_deref(), Some("scopes[1]"));
        let scopes = tenant(json!({"scopes": ["read", {"submit": 1}]}));
        assert_eq!(scopes.as_deref(), Some("scopes[1].submit"));
        let legs = blamed::<crate::era::Transfer>(json!({
            "id": format!("0x{}", "0".repeat(32)),
            "legs": [{"from": "outside", "to": "treasury", "asset": "work", "amount": 1}],
        }));
        assert_eq!(legs.0.as_deref(), Some("legs[0].amount"), "{}", legs.1);
        assert!(blamed::<Present>(json!({"grant": 1})).0.is_some());
    }

    /// What a stranger chose is not sent back whole, neither in the message nor as the field.
    #[test]
    fn a_long_name_is_cut() {
        let (field, message) = blamed::<JobWait>(json!({ "é".repeat(100_000): 1 }));
        assert!(field.unwrap().chars().count() < 300);
        assert!(message.chars().count() < 800);
    }

    /// Something of each shape that parameters have.
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "compared, by Debug and PartialEq alone")]
    struct Shapes {
        a: Option<u64>,
        b: Option<Vec<(i32, String)>>,
        #[serde(default)]
        c: Vec<Kind>,
        d: Option<Box<Shapes>>,
        e: Option<f64>,
        f: Option<Value>,
        g: Option<bool>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    enum Kind {
        Plain,
        Number(u8),
        Named { a: u8 },
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            Just("Plain".to_owned()),
            Just("Number".to_owned()),
            "[a-z]{0,2}"
        ];
        let name = prop_oneof!["[a-h]", Just("Number".to_owned()), Just("Named".to_owned())];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0_u64..300).prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1.0..1.0_f64).prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::vec((name.clone(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// It takes what `serde_json` takes, as what it takes it, and refuses what that refuses.
        #[test]
        fn reads_as_serde_json_does(value in values()) {
            let theirs = Shapes::deserialize(value.clone());
            let ours = Shapes::deserialize(At(value.clone()));
            prop_assert_eq!(ours.ok(), theirs.ok());
            let theirs = Kind::deserialize(value.clone());
            let ours = Kind::deserialize(At(value.clone()));
            prop_assert_eq!(ours.ok(), theirs.ok());
            let ours = Value::deserialize(At(value.clone()));
            prop_assert_eq!(ours.ok(), Some(value));
        }
    }
}
