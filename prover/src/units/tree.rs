//! Merkle trees of a fixed depth, built whole from their leaves.
//!
//! Issuers stand in a tree of two children a node, with circomlib's Poseidon of two, for others
//! have such trees. Where the shape is ours a node has eight: its hash costs 402 constraints
//! instead of 240 and replaces three levels.
//!
//! Every path has the full depth, so an inner node never passes for a leaf. An empty place is
//! zero, and zero proves nothing: no issuer's leaf is zero, for a leaf is a hash; the gap that is
//! written as zero has nothing in it; and a set repeats its last value to the end.

use std::collections::HashMap;

use ark_bn254::Fr;
use ark_ff::Zero;

use super::baby_jubjub::{IssuerKey, Point};
use super::{ISSUERS_MAX, UnitError, poseidon, within};

/// Levels of the tree of issuers.
pub(super) const ISSUER_LEVELS: usize = 16;
/// Children of a node of the wide trees.
pub(super) const WIDE: usize = 8;

/// A key that is believed for one schema: a customs office vouches for declarations, and not for who somebody is. Who may
/// vouch for several has a place for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedIssuer {
    /// Whose signatures are believed.
    pub key: IssuerKey,
    /// For units of which schema: [`UnitContent::schema`](super::UnitContent::schema).
    pub schema: Fr,
}

/// The accepted issuers: the position of each is half of the name of its units in the
/// revocation tree, so an issuer's position must never become another's.
#[derive(Debug, Clone)]
pub struct IssuerTree {
    positions: HashMap<[u64; 4], u16>,
    /// To tell who is not accepted from who is accepted for something else.
    accepted: Vec<AcceptedIssuer>,
    levels: Levels,
}

/// An issuer's way to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerPath {
    /// The issuer's position: bit i says that the node of level i is a right child.
    pub position: u16,
    /// The other child at each level, the leaf's first.
    pub siblings: [Fr; ISSUER_LEVELS],
}

impl IssuerTree {
    /// A tree of issuers, each at its index.
    pub fn new(issuers: &[AcceptedIssuer]) -> Result<IssuerTree, UnitError> {
        let got = issuers.len() as u64;
        within("the number of issuers", 1..=ISSUERS_MAX as u64, got)?;
        let mut positions = HashMap::new();
        let mut leaves = Vec::with_capacity(issuers.len());
        for (second, issuer) in issuers.iter().enumerate() {
            let leaf = issuer_leaf(issuer);
            // Below ISSUERS_MAX, so the position fits.
            if let Some(first) = positions.insert(leaf.0.0, second as u16) {
                let first = first.into();
                return Err(UnitError::IssuerTwice { first, second });
            }
            leaves.push(leaf);
        }
        Ok(IssuerTree {
            positions,
            accepted: issuers.to_vec(),
            levels: Levels::new(leaves, 2, ISSUER_LEVELS),
        })
    }

    /// The root: a presentation's first public value.
    pub fn root(&self) -> Fr {
        self.levels.root
    }

    /// An issuer's way to the root.
    pub fn path(&self, issuer: &AcceptedIssuer) -> Result<IssuerPath, UnitError> {
        let leaf = issuer_leaf(issuer);
        let Some(&position) = self.positions.get(&leaf.0.0) else {
            let is_known = self.accepted.iter().any(|it| it.key == issuer.key);
            return Err(if is_known {
                UnitError::IssuerSchema
            } else {
                UnitError::Issuer
            });
        };
        let mut siblings = [Fr::zero(); ISSUER_LEVELS];
        for (level, sibling) in siblings.iter_mut().enumerate() {
            *sibling = self
                .levels
                .node(level, (usize::from(position) >> level) ^ 1);
        }
        Ok(IssuerPath { position, siblings })
    }
}

/// What stands for an issuer in the tree.
fn issuer_leaf(issuer: &AcceptedIssuer) -> Fr {
    let Point { x, y } = issuer.key.point();
    poseidon::hash(&[x, y, issuer.schema])
}

/// All levels of a tree, without the empty subtrees on the right.
#[derive(Debug, Clone)]
pub(super) struct Levels {
    arity: usize,
    levels: Vec<Vec<Fr>>,
    /// The empty subtree of each level.
    empty: Vec<Fr>,
    root: Fr,
}

impl Levels {
    pub(super) fn new(leaves: Vec<Fr>, arity: usize, depth: usize) -> Levels {
        let mut levels = vec![leaves];
        let mut empty = vec![Fr::zero()];
        for level in 0..depth {
            // Sets are filled up with their last value, so many neighbours are alike.
            let mut before: Option<(&[Fr], Fr)> = None;
            let nodes = levels[level].chunks(arity).map(|children| {
                if let Some((_, hash)) = before.filter(|(same, _)| *same == children) {
                    return hash;
                }
                let mut whole = children.to_vec();
                whole.resize(arity, empty[level]);
                let hash = poseidon::hash(&whole);
                before = Some((children, hash));
                hash
            });
            let nodes = nodes.collect();
            levels.push(nodes);
            empty.push(poseidon::hash(&vec![empty[level]; arity]));
        }
        let root = levels[depth].first().copied().unwrap_or(empty[depth]);
        Levels {
            arity,
            levels,
            empty,
            root,
        }
    }

    pub(super) fn root(&self) -> Fr {
        self.root
    }

    fn node(&self, level: usize, index: usize) -> Fr {
        let nodes = &self.levels[level];
        nodes.get(index).copied().unwrap_or(self.empty[level])
    }

    /// The nodes on the way from a leaf of a wide tree to the root: at each level all children
    /// of one parent.
    pub(super) fn families<const DEPTH: usize>(&self, leaf: usize) -> [[Fr; WIDE]; DEPTH] {
        assert_eq!(self.arity, WIDE);
        let mut families = [[Fr::zero(); WIDE]; DEPTH];
        for (level, family) in families.iter_mut().enumerate() {
            let first = (leaf >> (3 * (level + 1))) * WIDE;
            for (child, node) in family.iter_mut().enumerate() {
                *node = self.node(level, first + child);
            }
        }
        families
    }
}
