//! To whom a holder allows how much, and the chain of hashes that counts it.
//!
//! ```text
//! grant = keccak256(domain, verifier, sender, request, tip, uses, expiry, challenge, nullifier) >> 8
//! ```
//!
//! each a word of 32 bytes, the highest first. The presentation's proof binds it as its fifth
//! public value, and it binds the fourth: a grant is of one presentation, so that a registry which takes
//! a nullifier once takes a grant once. `tip` is the end of a chain of `uses` hashes from a seed that the holder keeps:
//! each reuse reveals the value before the last one, which nobody else can, and the verifier's
//! registry keeps the last one instead of a list. The grant pins the sender, so a value that is
//! seen on its way is of no use to anybody else.

use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};
use sha3::{Digest, Keccak256};
use zeroize::Zeroizing;

use super::unit::HolderSecret;
use super::{TIME_MAX, UnitError, keccak, keccak_element, within};

/// What a holder allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The registry that counts: a contract on a chain, or a box.
    pub domain: [u8; 32],
    /// To whom, an address.
    pub verifier: [u8; 20],
    /// Who may bring a reuse, an address.
    pub sender: [u8; 20],
    /// For which request: [`Request::element`](super::Request::element).
    pub request: Fr,
    /// The end of the chain: [`tip`].
    pub tip: [u8; 20],
    /// How often it may be used again; 0 for a presentation alone.
    pub uses: u16,
    /// The first second at which it is not good any more.
    pub expiry: u64,
    /// What the verifier chose, so that this grant answers this request and no older one.
    pub challenge: [u8; 32],
}

impl Grant {
    /// The field element that the proof binds: for the presentation that spends this nullifier.
    pub fn element(&self, nullifier: Fr) -> Result<Fr, UnitError> {
        within("the expiry of a grant", 1..=TIME_MAX, self.expiry)?;
        let mut words = [0; 288];
        words[..32].copy_from_slice(&self.domain);
        words[44..64].copy_from_slice(&self.verifier);
        words[76..96].copy_from_slice(&self.sender);
        words[96..128].copy_from_slice(&self.request.into_bigint().to_bytes_be());
        words[140..160].copy_from_slice(&self.tip);
        words[190..192].copy_from_slice(&self.uses.to_be_bytes());
        words[216..224].copy_from_slice(&self.expiry.to_be_bytes());
        words[224..256].copy_from_slice(&self.challenge);
        words[256..].copy_from_slice(&nullifier.into_bigint().to_bytes_be());
        Ok(keccak_element(&words))
    }
}

/// The domain of a box: what keeps its registry apart from every other.
pub fn domain_native(box_id: &[u8; 32]) -> [u8; 32] {
    // As Solidity's abi.encode(string, uint256, bytes32): where the text begins, a chain of 0,
    // the box; then the text's length and the text.
    let name = b"caldera state registry v1";
    let mut words = [0; 160];
    words[31] = 96;
    words[64..96].copy_from_slice(box_id);
    words[127] = name.len() as u8;
    words[128..128 + name.len()].copy_from_slice(name);
    keccak(&words)
}

/// The start of a chain, from the holder's secret and 32 random bytes that the holder keeps.
pub fn seed(secret: &HolderSecret, salt: &[u8; 32]) -> Zeroizing<[u8; 20]> {
    let digest = Zeroizing::new(<[u8; 32]>::from(
        Keccak256::new()
            .chain_update(b"caldera chain seed v1")
            .chain_update(*secret.to_bytes())
            .chain_update(salt)
            .finalize(),
    ));
    let mut seed = Zeroizing::new([0; 20]);
    seed.copy_from_slice(&digest[..20]);
    seed
}

/// The next value of a chain: the first 20 bytes of Keccak-256.
pub fn link(value: &[u8; 20]) -> [u8; 20] {
    let mut next = [0; 20];
    next.copy_from_slice(&keccak(value)[..20]);
    next
}

/// The value of a chain after so many links; after all of the grant's uses it is the tip.
pub fn tip(seed: &[u8; 20], links: u16) -> [u8; 20] {
    (0..links).fold(*seed, |value, _| link(&value))
}
