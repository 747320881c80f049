//! The key of a node, with which it signs what it did: Ed25519 (RFC 8032).
//!
//! The ledger knows a node by its public key, and the ledger's own crate knows no curve. The private key is 32 bytes
//! in a file of the form of every other secret (`auth`), and overwritten when it is dropped.

use std::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::auth::Secret;

/// A node's private key.
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// The key that this secret is.
    pub fn new(secret: &Secret) -> NodeKey {
        NodeKey(SigningKey::from_bytes(secret.bytes()))
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "NodeKey({})", hex::encode(self.public()))
    }
}

/// Whether a signature of a message is that of the owner of a key. One message has one signature here: keys of
/// small order and other spellings of a signature are refused.
pub fn verify(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (
        VerifyingKey::from_bytes(key),
        Signature::from_slice(signature),
    ) else {
        return false;
    };
    key.verify_strict(message, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 2.
    #[test]
    fn it_signs_as_the_rfc_does() {
        let secret = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let key = NodeKey::new(&Secret::parse(secret).unwrap());
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(hex::encode(key.public()), public);
        let signature = key.sign(&[0x72]);
        assert_eq!(
            hex::encode(signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert!(verify(&key.public(), &[0x72], &signature));
        assert!(!verify(&key.public(), &[0x73], &signature));
        assert!(!verify(&[1; 32], &[0x72], &signature));
        assert!(!verify(&key.public(), &[0x72], &signature[..63]));
        let mut other = signature;
        other[0] ^= 1;
        assert!(!verify(&key.public(), &[0x72], &other));
        assert!(!format!("{key:?}").contains("4ccd"));
    }
}
