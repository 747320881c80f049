//! The tree over an epoch's payouts, as a contract on the EVM can check it.
//!
//! A leaf is `keccak256(keccak256(abi.encode(uint256 index, address account, uint256 amount)))`:
//! hashed twice, so that no inner node, which is a hash of 64 bytes, can be passed off as a leaf. A
//! node hashes its two children with the smaller first, so a path is hashes alone, without sides. An
//! odd last node goes up as it is. This is what OpenZeppelin's `MerkleProof` verifies.

use sha3::{Digest, Keccak256};

use super::command::{Address, Hash};

/// One payout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Its place, from 0.
    pub index: u32,
    /// Who can claim it on the chain.
    pub account: Address,
    /// How much.
    pub amount: u128,
}

impl Leaf {
    /// Its hash.
    pub fn hash(&self) -> Hash {
        let mut encoded = [0; 96];
        encoded[28..32].copy_from_slice(&self.index.to_be_bytes());
        encoded[44..64].copy_from_slice(&self.account);
        encoded[80..].copy_from_slice(&self.amount.to_be_bytes());
        let once = Keccak256::digest(encoded);
        Keccak256::digest(once).into()
    }
}

/// The root over these leaves; zeros if there are none.
pub fn root(leaves: &[Leaf]) -> Hash {
    let mut level = hashes(leaves);
    while level.len() > 1 {
        level = parents(&level);
    }
    level.first().copied().unwrap_or_default()
}

/// The path that proves the leaf at this place, from the bottom up.
///
/// # Panics
/// If there is no such leaf.
pub fn path(leaves: &[Leaf], at: usize) -> Vec<Hash> {
    assert!(at < leaves.len(), "leaf {at} of {}", leaves.len());
    let (mut level, mut at, mut path) = (hashes(leaves), at, Vec::new());
    while level.len() > 1 {
        path.extend(level.get(at ^ 1));
        level = parents(&level);
        at /= 2;
    }
    path
}

/// Whether a path leads from this leaf to this root.
pub fn verify(leaf: &Leaf, path: &[Hash], root: &Hash) -> bool {
    let up = |below: Hash, beside: &Hash| node(&below, beside);
    path.iter().fold(leaf.hash(), up) == *root
}

fn hashes(leaves: &[Leaf]) -> Vec<Hash> {
    leaves.iter().map(Leaf::hash).collect()
}

fn parents(level: &[Hash]) -> Vec<Hash> {
    let parent = |pair: &[Hash]| match pair {
        [left, right] => node(left, right),
        alone => alone[0],
    };
    level.chunks(2).map(parent).collect()
}

fn node(a: &Hash, b: &Hash) -> Hash {
    let (first, second) = if a < b { (a, b) } else { (b, a) };
    let hash = Keccak256::new().chain_update(first).chain_update(second);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: &[u8]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn keccak_is_ethereums() {
        // Of nothing, as Ethereum writes it for an account without code.
        let empty: Hash = Keccak256::digest([]).into();
        assert_eq!(
            hex(&empty),
            "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
        );
    }

    #[test]
    fn every_leaf_has_a_path_and_no_other_leaf_has_it() {
        for count in 0..=20 {
            let leaf = |index| Leaf {
                index,
                account: [index as u8; 20],
                amount: u128::from(index) << 70,
            };
            let leaves: Vec<_> = (0..count).map(leaf).collect();
            let root = root(&leaves);
            assert_eq!(root == [0; 32], count == 0);
            for (at, leaf) in leaves.iter().enumerate() {
                let mut path = path(&leaves, at);
                assert!(verify(leaf, &path, &root), "leaf {at} of {count}");
                let other = Leaf {
                    amount: leaf.amount + 1,
                    ..*leaf
                };
                assert!(!verify(&other, &path, &root), "another amount at {at}");
                if let Some(last) = path.last_mut() {
                    last[31] ^= 1;
                    assert!(!verify(leaf, &path, &root), "another path at {at}");
                }
            }
        }
    }
}
