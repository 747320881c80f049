//! What the claims of a unit mean.
//!
//! A schema is a small JSON file: a name, which is hashed into the unit, and the claims by their order, each with its
//! unit. Who changes the meaning of a claim gives the schema another name.

use std::collections::BTreeMap;

use ark_bn254::Fr;
use caldera_prover::units::{CLAIMS, keccak_element};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::TermsError;

/// What the claims of a unit mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schema {
    /// Its name, which is hashed into the unit.
    pub schema: String,
    /// Whose state it is, and who vouches for it.
    pub about: String,
    /// The claims from the first on; a unit has 0 for the rest.
    pub claims: Vec<Claim>,
}

/// One claim of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// What it is counted in.
    pub unit: String,
    /// What it says.
    pub about: String,
}

/// Why a file is no schema.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// Not JSON, or not of this form.
    #[error("not a schema")]
    Syntax(#[from] serde_json::Error),
    /// No name, or none that can be read.
    #[error("schema: expected a name of 1 to 64 visible characters, got {got:?}")]
    Name {
        /// The name.
        got: String,
    },
    /// No claim, or too many.
    #[error("schema {schema}: expected 1 to {max} claims, got {got}")]
    Claims {
        /// Which schema.
        schema: String,
        /// So many a unit has.
        max: usize,
        /// So many there are.
        got: usize,
    },
    /// Two claims of one name, or two schemas.
    #[error("{what} {got:?} is there twice")]
    Twice {
        /// What.
        what: &'static str,
        /// Its name.
        got: String,
    },
}

impl Schema {
    /// Reads a schema.
    pub fn parse(text: &[u8]) -> Result<Schema, SchemaError> {
        let it: Schema = serde_json::from_slice(text)?;
        let is_name = |name: &str| {
            (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let names = it.claims.iter().map(|claim| &claim.name);
        if let Some(got) = names.clone().chain([&it.schema]).find(|it| !is_name(it)) {
            let got = got.clone();
            return Err(SchemaError::Name { got });
        }
        if !(1..=CLAIMS).contains(&it.claims.len()) {
            return Err(SchemaError::Claims {
                got: it.claims.len(),
                schema: it.schema,
                max: CLAIMS,
            });
        }
        for (at, name) in names.clone().enumerate() {
            if names.clone().take(at).any(|before| before == name) {
                return Err(SchemaError::Twice {
                    what: "claim",
                    got: name.clone(),
                });
            }
        }
        Ok(it)
    }

    /// Its name as a unit has it.
    pub fn element(&self) -> Fr {
        keccak_element(self.schema.as_bytes())
    }

    /// Which claim has that name.
    pub fn claim(&self, name: &str) -> Result<u8, TermsError> {
        let found = self.claims.iter().position(|claim| claim.name == name);
        found.map(|at| at as u8).ok_or_else(|| {
            let names = self.claims.iter().map(|claim| claim.name.as_str());
            TermsError::Claim {
                schema: self.schema.clone(),
                expected: names.collect::<Vec<_>>().join(", "),
                got: name.to_owned(),
            }
        })
    }
}

/// Schemas by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schemas(BTreeMap<String, Schema>);

impl Schemas {
    /// Those of `docs/schemas`.
    pub fn standard() -> Schemas {
        let mut schemas = Schemas(BTreeMap::new());
        for text in STANDARD {
            let schema = Schema::parse(text.as_bytes()).expect("a test has read it");
            schemas.add(schema).expect("a test has read them all");
        }
        schemas
    }

    /// Adds one, whose name must be new.
    pub fn add(&mut self, schema: Schema) -> Result<(), SchemaError> {
        let name = schema.schema.clone();
        match self.0.insert(name.clone(), schema) {
            None => Ok(()),
            Some(_) => Err(SchemaError::Twice {
                what: "schema",
                got: name,
            }),
        }
    }

    /// The schema of that name.
    pub fn find(&self, name: &str) -> Result<&Schema, TermsError> {
        self.0.get(name).ok_or_else(|| TermsError::Schema {
            expected: self.0.keys().cloned().collect::<Vec<_>>().join(", "),
            got: name.to_owned(),
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Schema> {
        self.0.values()
    }
}

/// Those of the worked scenarios.
const STANDARD: [&str; 4] = [
    include_str!("../../../docs/schemas/customs.json"),
    include_str!("../../../docs/schemas/equipment.json"),
    include_str!("../../../docs/schemas/kyc.json"),
    include_str!("../../../docs/schemas/supply-chain.json"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_schemas_are_read() {
        let schemas = Schemas::standard();
        assert_eq!(schemas.iter().count(), STANDARD.len());
        let kyc = schemas.find("caldera.kyc.v1").expect("there");
        assert_eq!(kyc.claim("level").expect("there"), 0);
        assert!(matches!(kyc.claim("colour"), Err(TermsError::Claim { .. })));
        assert!(matches!(
            schemas.find("caldera.kyc"),
            Err(TermsError::Schema { .. })
        ));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let claim = r#"{"name":"a","unit":"u","about":""}"#;
        let schema = |name: &str, claims: &[&str]| {
            let claims = claims.join(",");
            let text = format!(r#"{{"schema":"{name}","about":"","claims":[{claims}]}}"#);
            Schema::parse(text.as_bytes())
        };
        assert!(schema("x", &[claim]).is_ok());
        let name = |result| matches!(result, Err(SchemaError::Name { .. }));
        assert!(name(schema("", &[claim])));
        assert!(name(schema("a b", &[claim])));
        let twice = schema("x", &[claim, claim]);
        assert!(matches!(twice, Err(SchemaError::Twice { .. })));
        let none = schema("x", &[]);
        assert!(matches!(none, Err(SchemaError::Claims { got: 0, .. })));
        assert!(matches!(Schema::parse(b"{}"), Err(SchemaError::Syntax(_))));
        let mut schemas = Schemas::standard();
        let again = schema("caldera.kyc.v1", &[claim]).expect("a schema");
        assert!(matches!(schemas.add(again), Err(SchemaError::Twice { .. })));
    }
}
