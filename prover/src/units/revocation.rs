//! Which units are revoked: a tree of the gaps between them.
//!
//! A unit's name is the position of its issuer (16 bits) over its nonce (48 bits). The leaves of
//! the tree are the gaps between neighbouring revoked names, each `low + 2^64 next`; a unit is
//! not revoked if its name lies strictly within a gap that is in the tree. One path of seven
//! levels of eight children and three comparisons of 64 bits prove it: a third of what a sparse
//! tree of 32 levels costs, whose depth pays for every name that could be and not for those that
//! are revoked.
//!
//! The idea of a leaf that names its successor is that of indexed Merkle trees ([Aztec]); here the
//! tree is made whole by the authority that publishes its root, so nobody has to prove an
//! insertion, and a gap needs no hash of its own because it fits into one element.
//!
//! It tells a verifier nothing but the root. Who looks up a gap at somebody else's tells them
//! which unit is about to be used: a holder who minds takes the whole list of revoked names,
//! which is public, and builds the tree at home. A revoked unit may leave the list when it has
//! expired, for then it is refused all the same.
//!
//! [Aztec]: https://docs.aztec.network/developers/docs/foundational-topics/advanced/storage/indexed_merkle_tree

use ark_bn254::Fr;

use super::tree::{Levels, WIDE};
use super::{ISSUERS_MAX, NONCE_MAX, REVOKED_MAX, UnitError, within};

/// Levels of the tree.
pub(super) const GAP_LEVELS: usize = 7;

/// The gaps between revoked units.
#[derive(Debug, Clone)]
pub struct RevocationTree {
    /// The revoked names in rising order, between 0 and 2^64 - 1, which name nothing.
    fences: Vec<u64>,
    levels: Levels,
}

/// A gap, and its way to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The revoked name before it, or 0.
    pub low: u64,
    /// The revoked name after it, or 2^64 - 1.
    pub next: u64,
    /// Its place among the leaves.
    pub index: u32,
    /// At each level all children of one parent, the leaves first.
    pub families: [[Fr; WIDE]; GAP_LEVELS],
}

impl RevocationTree {
    /// A tree of revoked units: the issuer's position and the nonce of each, in any order, twice
    /// or once.
    pub fn new(revoked: &[(u16, u64)]) -> Result<RevocationTree, UnitError> {
        let mut fences = vec![0, u64::MAX];
        for &(issuer, nonce) in revoked {
            within("a revocation nonce", 1..=NONCE_MAX, nonce)?;
            fences.push(name(issuer, nonce));
        }
        fences.sort_unstable();
        fences.dedup();
        let got = fences.len() as u64 - 2;
        within("the number of revoked units", 0..=REVOKED_MAX as u64, got)?;
        let leaves = fences.windows(2).map(|gap| leaf(gap[0], gap[1]));
        Ok(RevocationTree {
            levels: Levels::new(leaves.collect(), WIDE, GAP_LEVELS),
            fences,
        })
    }

    /// The root: a presentation's second public value.
    pub fn root(&self) -> Fr {
        self.levels.root()
    }

    /// The gap that a unit lies in.
    pub fn gap(&self, issuer: u16, nonce: u64) -> Result<Gap, UnitError> {
        within("a revocation nonce", 1..=NONCE_MAX, nonce)?;
        let name = name(issuer, nonce);
        // 0 is below every name, so the place found is never the first.
        match self.fences.binary_search(&name) {
            Ok(_) => Err(UnitError::Revoked { issuer, nonce }),
            Err(place) => Ok(Gap {
                low: self.fences[place - 1],
                next: self.fences[place],
                index: place as u32 - 1,
                families: self.levels.families(place - 1),
            }),
        }
    }
}

fn name(issuer: u16, nonce: u64) -> u64 {
    const { assert!(ISSUERS_MAX == 1 << 16) };
    u64::from(issuer) << 48 | nonce
}

fn leaf(low: u64, next: u64) -> Fr {
    Fr::from(u128::from(low) | u128::from(next) << 64)
}
