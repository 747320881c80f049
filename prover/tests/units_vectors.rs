//! Hashes, signatures and roots are circomlib's.
//!
//! `units_vectors.json` was printed by circomlibjs 0.1.7 under node, with `poseidon` and `eddsa`
//! from `buildPoseidon()` and `buildEddsa()`:
//!
//! - `poseidon`: for n = 1 to 16, `poseidon([1n ** 60n, 2n ** 60n, .., n ** 60n])`;
//! - `eddsa`: for k = 1 to 4, with the private key of 32 bytes k and the message k ** 60n,
//!   `prv2pub` and `signPoseidon`; `scalar` is the pruned BLAKE-512 hash of the key over 8;
//! - `issuers`: the root of depth 16 over `poseidon([ax, ay, k])` of those keys and zeros, by
//!   `poseidon` of two children;
//! - `gaps`: the root of depth 7 over the 21 gaps between 0, (i << 48) + i * i for i = 1 to 20, and
//!   2^64 - 1, each `low + 2^64 next`, and zeros, by `poseidon` of eight children.

mod units_support;

use ark_bn254::Fr;
use ark_ff::Field;
use caldera_prover::units::{
    AcceptedIssuer, IssuerKey, IssuerSecret, IssuerTree, Point, RevocationTree, Scalar, Signature,
    UnitError, poseidon,
};
use serde_json::Value;
use units_support::{decimal, issuer};

#[test]
fn poseidon_is_circomlibs_for_every_width() {
    // The best known of them, from circomlib's own tests.
    let one_two = "7853200120776062878684798364095072458815029376092732009249414926327459813530";
    assert_eq!(poseidon::hash(&[1, 2].map(Fr::from)), decimal(one_two));
    let expected = vectors();
    let expected = expected["poseidon"].as_array().expect("a list");
    assert_eq!(expected.len(), poseidon::INPUTS_MAX);
    let inputs: Vec<Fr> = (1..=16u64).map(|i| Fr::from(i).pow([60])).collect();
    for (n, hash) in expected.iter().enumerate() {
        assert_eq!(
            poseidon::hash(&inputs[..=n]),
            number(hash),
            "{} inputs",
            n + 1
        );
    }
}

#[test]
fn signatures_of_circomlibjs_verify() {
    for vector in signatures() {
        assert!(vector.key.verify(vector.message, &vector.signature));
        // The same key makes signatures that differ only where they may.
        let secret = IssuerSecret::from_scalar(vector.scalar, [5; 32]);
        assert_eq!(secret.key(), vector.key);
        let ours = secret.sign(vector.message);
        assert!(vector.key.verify(vector.message, &ours));
        assert_ne!(ours, vector.signature);
    }
}

#[test]
fn signatures_of_something_else_do_not() {
    let all = signatures();
    for (i, vector) in all.iter().enumerate() {
        let Signature { r, s } = vector.signature;
        let other = &all[(i + 1) % all.len()];
        assert!(!other.key.verify(vector.message, &vector.signature));
        assert!(!vector.key.verify(other.message, &vector.signature));
        let s_other = Signature {
            r,
            s: s + Scalar::from(1u8),
        };
        assert!(!vector.key.verify(vector.message, &s_other));
        let r_negated = Signature { r: r.negated(), s };
        assert!(!vector.key.verify(vector.message, &r_negated));
        let mut r_off_curve = r;
        r_off_curve.x += Fr::from(1);
        assert!(
            !vector
                .key
                .verify(vector.message, &Signature { r: r_off_curve, s })
        );
    }
}

#[test]
fn keys_that_nobody_can_have_are_refused() {
    let Point { x, y } = issuer(0).key().point();
    assert!(IssuerKey::new(x, y).is_ok());
    let refusals = [
        (Point { x: y, y: x }, "a point on Baby Jubjub"),
        (Point::neutral(), "a point that is not neutral"),
        // Of order two, and a good key plus it.
        (
            Point {
                x: Fr::from(0),
                y: -Fr::from(1),
            },
            "a point of the prime subgroup",
        ),
        (Point { x: -x, y: -y }, "a point of the prime subgroup"),
    ];
    for (point, expected) in refusals {
        let got = IssuerKey::new(point.x, point.y);
        assert_eq!(got, Err(UnitError::IssuerKey(expected)));
    }
}

#[test]
fn roots_are_circomlibs() {
    let keys = signatures().into_iter().zip(1u64..);
    let keys = keys.map(|(Vector { key, .. }, k)| AcceptedIssuer {
        key,
        schema: Fr::from(k),
    });
    let keys: Vec<_> = keys.collect();
    let issuers = IssuerTree::new(&keys).expect("four issuers");
    assert_eq!(issuers.root(), number(&vectors()["issuers"]));

    let mut revoked: Vec<_> = (1..=20).map(|i| (i, u64::from(i * i))).collect();
    revoked.reverse();
    let revoked = RevocationTree::new(&revoked).expect("twenty units");
    assert_eq!(revoked.root(), number(&vectors()["gaps"]));
}

struct Vector {
    scalar: Scalar,
    key: IssuerKey,
    message: Fr,
    signature: Signature,
}

fn signatures() -> Vec<Vector> {
    let vectors = vectors();
    let list = vectors["eddsa"].as_array().expect("a list").clone();
    let vectors = list.iter().map(|vector| {
        let scalar = |name: &str| -> Scalar {
            let digits = vector[name].as_str().expect("a decimal number");
            let digits: num_bigint::BigUint = digits.parse().expect("a decimal number");
            Scalar::from(digits)
        };
        Vector {
            scalar: scalar("scalar"),
            key: IssuerKey::new(number(&vector["ax"]), number(&vector["ay"])).expect("a good key"),
            message: number(&vector["message"]),
            signature: Signature {
                r: Point {
                    x: number(&vector["rx"]),
                    y: number(&vector["ry"]),
                },
                s: scalar("s"),
            },
        }
    });
    vectors.collect()
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("units_vectors.json")).expect("JSON")
}

fn number(value: &Value) -> Fr {
    decimal(value.as_str().expect("a decimal number"))
}
