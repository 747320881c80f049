//! What a verifier asks.
//!
//! ```text
//! request = H(tag "request", schema, scope, valid_through, presentations, selectors,
//!             least 0, greatest 0, .., least 3, greatest 3, set)
//! ```
//!
//! Four bounds, each on a claim of the verifier's choice, say every comparison with a constant:
//! at least (the greatest is 2^64 - 1), at most (the least is 0), between, and equal (both are
//! one). One more claim can be asked to be in a set of up to 512 values. What is not used is
//! wide open. `selectors` has the claims that are asked about, four bits each: those of the
//! bounds from the lowest, then that of the set.
//!
//! The verifier computes the hash and pins it: the circuit opens it, and nobody else has to.

use ark_bn254::Fr;
use ark_ff::Zero;

use super::tree::{Levels, WIDE};
use super::unit::tag;
use super::{
    BOUNDS, CLAIMS, SET_MAX, TIME_MAX, UnitError, keccak, keccak_element, poseidon, within,
};

/// Levels of a set's tree.
pub(super) const SET_LEVELS: usize = 3;

/// Where presentations are counted. Each part is the Keccak-256 hash of a name, or the name itself
/// if it has 32 bytes; an Ethereum address is padded on the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeName {
    /// The scenario.
    pub scenario: [u8; 32],
    /// Who asks.
    pub verifier: [u8; 32],
    /// For what.
    pub purpose: [u8; 32],
    /// The period after which presentations are counted afresh.
    pub epoch: u64,
}

impl ScopeName {
    /// The scope as a field element: keccak256(abi.encode(scenario, verifier, purpose, epoch)) >> 8.
    pub fn element(&self) -> Fr {
        let mut words = [0; 128];
        words[..32].copy_from_slice(&self.scenario);
        words[32..64].copy_from_slice(&self.verifier);
        words[64..96].copy_from_slice(&self.purpose);
        words[120..].copy_from_slice(&self.epoch.to_be_bytes());
        keccak_element(&words)
    }

    /// A part that is a text.
    pub fn part(name: &str) -> [u8; 32] {
        keccak(name.as_bytes())
    }
}

/// A claim that has to lie from `least` to `greatest`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Which claim.
    pub claim: u8,
    /// The least value that will do.
    pub least: u64,
    /// The greatest value that will do.
    pub greatest: u64,
}

impl Bounds {
    /// Every claim is within.
    pub const OPEN: Bounds = Bounds {
        claim: 0,
        least: 0,
        greatest: u64::MAX,
    };

    /// At least.
    pub const fn at_least(claim: u8, least: u64) -> Bounds {
        Bounds {
            claim,
            least,
            greatest: u64::MAX,
        }
    }

    /// At most.
    pub const fn at_most(claim: u8, greatest: u64) -> Bounds {
        Bounds {
            claim,
            least: 0,
            greatest,
        }
    }

    /// Between, both included.
    pub const fn between(claim: u8, least: u64, greatest: u64) -> Bounds {
        Bounds {
            claim,
            least,
            greatest,
        }
    }

    /// Equal.
    pub const fn equal(claim: u8, value: u64) -> Bounds {
        Bounds::between(claim, value, value)
    }

    fn check(&self) -> Result<(), UnitError> {
        let &Bounds {
            claim,
            least,
            greatest,
        } = self;
        within("the claim of bounds", 0..=CLAIMS as u64 - 1, claim.into())?;
        if least > greatest {
            return Err(UnitError::BoundsEmpty {
                claim,
                least,
                greatest,
            });
        }
        Ok(())
    }
}

/// A claim that has to be one of some values.
#[derive(Debug, Clone)]
pub struct ValueSet {
    claim: u8,
    values: Vec<u64>,
    levels: Levels,
}

impl ValueSet {
    /// A set of 1 to [`SET_MAX`] values, in any order, each once or more often.
    pub fn new(claim: u8, values: &[u64]) -> Result<ValueSet, UnitError> {
        within("the claim of a set", 0..=CLAIMS as u64 - 1, claim.into())?;
        let mut values = values.to_vec();
        values.sort_unstable();
        values.dedup();
        let got = values.len() as u64;
        within("the number of values in a set", 1..=SET_MAX as u64, got)?;
        // An empty place must not make zero a member.
        let mut leaves = values.clone();
        leaves.resize(SET_MAX, values[values.len() - 1]);
        let leaves = leaves.into_iter().map(Fr::from).collect();
        Ok(ValueSet {
            claim,
            values,
            levels: Levels::new(leaves, WIDE, SET_LEVELS),
        })
    }

    /// Where the value is, and its way to the root.
    pub(super) fn find(&self, value: u64) -> Result<(u32, [[Fr; WIDE]; SET_LEVELS]), UnitError> {
        let claim = self.claim;
        let place = self.values.binary_search(&value);
        let place = place.map_err(|_| UnitError::Set { claim })?;
        Ok((place as u32, self.levels.families(place)))
    }

    /// The claim that has to be a member.
    pub fn claim(&self) -> u8 {
        self.claim
    }
}

/// All that a verifier asks of a presentation.
#[derive(Debug, Clone)]
pub struct Request {
    /// The schema of the unit: [`keccak_element`] of its name.
    pub schema: Fr,
    /// Where presentations are counted: [`ScopeName::element`].
    pub scope: Fr,
    /// The unit must be valid at this second; now, or when the verifier's need of it ends.
    pub valid_through: u64,
    /// How many presentations one holder may make in the scope.
    pub presentations: u16,
    /// What four claims have to be within.
    pub bounds: [Bounds; BOUNDS],
    /// What one claim has to be in.
    pub set: Option<ValueSet>,
}

impl Request {
    /// The field element that a verifier pins.
    pub fn element(&self) -> Result<Fr, UnitError> {
        within("valid_through", 0..=TIME_MAX, self.valid_through)?;
        let presentations = u64::from(self.presentations);
        within("presentations", 1..=u16::MAX.into(), presentations)?;
        let mut inputs = vec![
            tag("request"),
            self.schema,
            self.scope,
            Fr::from(self.valid_through),
            Fr::from(presentations),
            Fr::from(self.selectors()),
        ];
        for bounds in &self.bounds {
            bounds.check()?;
            inputs.push(Fr::from(bounds.least));
            inputs.push(Fr::from(bounds.greatest));
        }
        inputs.push(self.set_root());
        Ok(poseidon::hash(&inputs))
    }

    /// The claims that are asked about, four bits each.
    pub(super) fn selectors(&self) -> u32 {
        let set = self.set.as_ref().map_or(0, ValueSet::claim);
        let bounds = self.bounds.iter().map(|bounds| bounds.claim);
        let claims = bounds.rev().map(u32::from);
        claims.fold(set.into(), |word, claim| word << 4 | claim)
    }

    /// The set's root, or zero, which is no root, if there is no set.
    pub(super) fn set_root(&self) -> Fr {
        let root = self.set.as_ref().map(|set| set.levels.root());
        root.unwrap_or(Fr::zero())
    }
}
