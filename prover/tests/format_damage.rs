//! Damaged files: bytes flipped, files cut, sections swapped, dropped and doubled, lengths put
//! to any value. No reader may panic, and what a reader still accepts must survive being written
//! and read again. What "read again" means for each kind is in `fuzz/bodies`, which the fuzzers
//! share.

mod format_builder;

#[path = "../fuzz/bodies/proof_json.rs"]
mod proof_json;
#[path = "../fuzz/bodies/public_json.rs"]
mod public_json;
#[path = "../fuzz/bodies/r1cs.rs"]
mod r1cs;
#[path = "../fuzz/bodies/vk_json.rs"]
mod vk_json;
#[path = "../fuzz/bodies/wtns.rs"]
mod wtns;
#[path = "../fuzz/bodies/zkey.rs"]
mod zkey;

use format_builder::{CURVES, Curve, Parts};
use proptest::prelude::*;
use proptest::sample::Index;

/// What a reader is put through, from `fuzz/bodies`.
type Body = fn(&[u8]);

/// One thing that can happen to the bytes of a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// A number of four bytes, as counts and lengths are.
    Number(Index, u32),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<Index>;
    prop_oneof![
        4 => (place(), 1..=u8::MAX).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        1 => place().prop_map(Damage::Cut),
        1 => (place(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (place(), 1..40usize).prop_map(|(at, len)| Damage::Remove(at, len)),
        2 => (place(), prop_oneof![any::<u32>(), 0..16u32, Just(u32::MAX)])
            .prop_map(|(at, number)| Damage::Number(at, number)),
    ]
}

fn strike(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let at = match damage {
        Damage::Flip(at, _) | Damage::Cut(at) | Damage::Remove(at, _) => at,
        Damage::Insert(at, _) | Damage::Number(at, _) => at,
    };
    let at = at.index(bytes.len());
    match damage {
        Damage::Flip(_, mask) => bytes[at] ^= mask,
        Damage::Cut(_) => bytes.truncate(at),
        Damage::Insert(_, more) => drop(bytes.splice(at..at, more.iter().copied())),
        Damage::Remove(_, len) => drop(bytes.drain(at..bytes.len().min(at + len))),
        Damage::Number(_, number) => {
            let end = bytes.len().min(at + 4);
            bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        }
    }
}

/// One thing that can happen to the sections of a file.
#[derive(Debug, Clone)]
enum Disorder {
    Swap(Index, Index),
    Drop(Index),
    Double(Index),
    /// The content of one section in the place of another's.
    Exchange(Index, Index),
}

fn disorder() -> impl Strategy<Value = Disorder> {
    let place = any::<Index>;
    prop_oneof![
        3 => (place(), place()).prop_map(|(a, b)| Disorder::Swap(a, b)),
        1 => place().prop_map(Disorder::Drop),
        1 => place().prop_map(Disorder::Double),
        1 => (place(), place()).prop_map(|(a, b)| Disorder::Exchange(a, b)),
    ]
}

fn disturb(parts: &mut Parts, disorder: &Disorder) {
    let sections = &mut parts.sections;
    let count = sections.len();
    if count == 0 {
        return;
    }
    match disorder {
        Disorder::Swap(a, b) => sections.swap(a.index(count), b.index(count)),
        Disorder::Drop(at) => drop(sections.remove(at.index(count))),
        Disorder::Double(at) => sections.push(sections[at.index(count)].clone()),
        Disorder::Exchange(a, b) => {
            let (a, b) = (a.index(count), b.index(count));
            let kinds = (sections[a].0, sections[b].0);
            sections.swap(a, b);
            (sections[a].0, sections[b].0) = kinds;
        }
    }
}

fn curve() -> impl Strategy<Value = Curve> {
    prop::sample::select(&CURVES[..])
}

/// Runs `body` on a binary file that has been disturbed, and then struck.
fn survives(mut parts: Parts, disorders: &[Disorder], damages: &[Damage], body: Body) {
    for disorder in disorders {
        disturb(&mut parts, disorder);
    }
    let mut bytes = parts.bytes();
    body(&bytes);
    for damage in damages {
        strike(&mut bytes, damage);
        body(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys(
        curve in curve(),
        disorders in prop::collection::vec(disorder(), 0..3),
        damages in prop::collection::vec(damage(), 0..6),
    ) {
        survives(format_builder::zkey(curve), &disorders, &damages, zkey::run);
    }

    #[test]
    fn witnesses(
        curve in curve(),
        disorders in prop::collection::vec(disorder(), 0..3),
        damages in prop::collection::vec(damage(), 0..6),
    ) {
        survives(format_builder::wtns(curve), &disorders, &damages, wtns::run);
    }

    #[test]
    fn constraints(
        curve in curve(),
        disorders in prop::collection::vec(disorder(), 0..3),
        damages in prop::collection::vec(damage(), 0..6),
    ) {
        survives(format_builder::r1cs(curve), &disorders, &damages, r1cs::run);
    }

    #[test]
    fn texts(curve in curve(), damages in prop::collection::vec(damage(), 0..6)) {
        let texts: [(String, Body); 3] = [
            (format_builder::verification_key(curve), vk_json::run),
            (format_builder::proof(curve), proof_json::run),
            (format_builder::public(curve), public_json::run),
        ];
        for (text, body) in texts {
            let mut bytes = text.into_bytes();
            body(&bytes);
            for damage in &damages {
                strike(&mut bytes, damage);
                body(&bytes);
            }
        }
    }

    /// The one place where a witness says something else after a flip without anybody noticing
    /// is within its elements, below the modulus: so every flip elsewhere must be refused.
    #[test]
    fn a_flip_in_a_witness_is_refused_or_changes_an_element(
        curve in curve(),
        at in any::<Index>(),
        mask in 1..=u8::MAX,
    ) {
        let whole = format_builder::wtns(curve);
        let mut bytes = whole.bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        let read = caldera_prover::format::Wtns::parse(bytes.into());
        // The version may be lowered: snarkjs accepts older ones.
        let accepted = at as u64 >= whole.offset(2) + 32 || (4..8).contains(&at);
        prop_assert!(read.is_err() || accepted, "a flip at {} was not seen", at);
    }
}
