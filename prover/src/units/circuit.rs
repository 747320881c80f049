//! The statement of a presentation, as a constraint system.
//!
//! In words: *I know a secret and a unit about its owner, signed by an issuer that the tree has for its schema, not
//! among the revoked ones, still valid then, whose claims are as asked; the nullifier is my
//! secret's for this scope and one of the indices that are allowed; and I mean this grant.*
//!
//! The constraints come in the order in which `docs/state-units.md` states them. Where a hash
//! decides, its inputs are wires and no input is checked before: a prover who puts something
//! else in gets another hash.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::{One, Zero};
use bytes::Bytes;
use caldera_kernels::CurveId;
use zeroize::Zeroizing;

use super::curve::{Edwards, enforce_signature, strict_bits};
use super::poseidon::Parameters;
use super::presentation::Opening;
use super::system::{Sum, System};
use super::tree::WIDE;
use super::unit::{element_bytes, tag};
use super::{BOUNDS, Point, Scalar};
use crate::format::{R1csBuilder, Wtns};

/// The circuit, as an `.r1cs` file: for a ceremony, or for development keys by
/// [`setup_r1cs`](crate::groth16::setup_r1cs). Made when first asked for.
pub fn circuit() -> &'static Bytes {
    static CIRCUIT: OnceLock<Bytes> = OnceLock::new();
    CIRCUIT.get_or_init(|| {
        let system = recorded();
        let mut builder = R1csBuilder::new(CurveId::Bn254, WIRES as u32, PUBLIC);
        for row in system.rows() {
            let sides = row.each_ref().map(|terms| {
                let terms = terms.iter();
                let terms = terms.map(|(wire, c)| (*wire, element_bytes(c)));
                terms.collect::<Vec<_>>()
            });
            builder.constraint([&sides[0], &sides[1], &sides[2]]);
        }
        Bytes::from(builder.finish())
    })
}

/// What each part of the circuit costs.
pub fn constraints_by_part() -> Vec<(&'static str, u32)> {
    recorded().parts()
}

fn recorded() -> System {
    let mut system = System::recording();
    presentation(&mut system, &Opening::blank());
    assert_eq!(system.wires(), WIRES, "the room that witnesses are given");
    system
}

/// The witness of an opening. Nothing is asked of it here, so the witness of a wrong one does
/// not satisfy the circuit; [`Presentation::open`](super::Presentation::open) asks. The bytes are overwritten when the last
/// reference to them goes.
pub fn witness(opening: &Opening) -> Wtns {
    let mut system = System::filling(WIRES);
    presentation(&mut system, opening);
    let mut elements = Zeroizing::new(Vec::with_capacity(32 * system.wires()));
    for value in system.values() {
        elements.extend_from_slice(&element_bytes(value));
    }
    let elements = Bytes::from_owner(elements);
    Wtns::from_elements(CurveId::Bn254, elements).expect("the first element is the constant 1")
}

fn presentation(system: &mut System, opening: &Opening) {
    let statement = &opening.statement;
    let issuers_root = system.wire(statement.issuers_root);
    let revocation_root = system.wire(statement.revocation_root);
    let request = system.wire(statement.request);
    let nullifier = system.wire(statement.nullifier);
    let grant = system.wire(statement.grant);

    // A public value in no constraint would have no part in the key, and a proof for one
    // grant would do for all.
    system.part("grant");
    system.product(&grant, &grant);

    system.part("subject");
    let secret = system.wire(opening.secret);
    let blinding = system.wire(opening.blinding);
    let subject = tagged(system, "subject", &[&secret, &blinding]);

    system.part("nullifier and index");
    let scope = system.wire(opening.scope);
    let index = system.integer(opening.index, 16);
    let others = opening.presentations - opening.index - Fr::one();
    let others = system.integer(others, 16);
    let presentations = &(&index + &others) + &system.constant(Fr::one());
    let computed = tagged(system, "nullifier", &[&secret, &scope, &index]);
    system.equal(&computed, &nullifier);

    system.part("claims");
    let claims = opening.claims.map(|claim| system.wire(claim));
    let claims_hash = poseidon(system, &claims);

    system.part("bounds");
    let selectors = system.bits(Fr::from(opening.selectors), 4 * (BOUNDS + 1));
    let mut limits = Vec::new();
    for (bounds, selector) in opening.bounds.iter().zip(selectors.chunks(4)) {
        let claim = system.select(selector, &claims);
        // With both limits below 2^64, which the verifier sees to, the claim is the least plus 64
        // bits and the greatest less 64 bits, so it lies between.
        let above = system.integer(claim.value() - bounds.0, 64);
        let below = system.integer(bounds.1 - claim.value(), 64);
        limits.push(&claim - &above);
        limits.push(&claim + &below);
    }

    system.part("set");
    let set = system.wire(opening.set_root);
    let member = system.select(&selectors[4 * BOUNDS..], &claims);
    let root = wide_root(system, &member, opening.set_index, &opening.set_families);
    // No root is zero, so a prover cannot say that there is no set.
    let zero = system.constant(Fr::zero());
    system.enforce(&set, &(&set - &root), &zero);

    system.part("request");
    let schema = system.wire(opening.schema);
    let valid_through = system.wire(opening.valid_through);
    let selectors = system.number(&selectors);
    let mut asked = vec![&schema, &scope, &valid_through, &presentations, &selectors];
    asked.extend(&limits);
    asked.push(&set);
    let computed = tagged(system, "request", &asked);
    system.equal(&computed, &request);

    system.part("unit");
    let nonce = system.integer(opening.nonce, 48);
    let longer = system.integer(opening.valid_until - opening.valid_through, 40);
    let valid_until = &valid_through + &longer;
    let validity = &nonce + &valid_until.times(Fr::from(1u64 << 48));
    let message = tagged(
        system,
        "unit",
        &[&schema, &subject, &claims_hash, &validity],
    );

    system.part("signature");
    let point = |system: &mut System, point: &Point| Edwards {
        x: system.wire(point.x),
        y: system.wire(point.y),
    };
    let key = point(system, &opening.issuer);
    let r = point(system, &opening.signature.r);
    signature(system, &key, &r, &opening.signature.s, &message);

    system.part("issuer");
    let leaf = poseidon(system, &[key.x, key.y, schema]);
    let position = system.bits(Fr::from(opening.position), 16);
    let root = binary_root(system, &leaf, &position, &opening.siblings);
    system.equal(&root, &issuers_root);

    system.part("revocation");
    let name = &nonce + &system.number(&position).times(Fr::from(1u64 << 48));
    let one = system.constant(Fr::one());
    let low = system.integer(opening.gap_low, 64);
    let after = system.integer(name.value() - low.value() - Fr::one(), 64);
    system.equal(&(&(&low + &after) + &one), &name);
    let before = system.integer(opening.gap_next - name.value() - Fr::one(), 64);
    let next = &(&name + &before) + &one;
    let leaf = &low + &next.times(Fr::from(1u128 << 64));
    let root = wide_root(system, &leaf, opening.gap_index, &opening.gap_families);
    system.equal(&root, &revocation_root);
}

fn signature(system: &mut System, key: &Edwards, r: &Edwards, s: &Scalar, message: &Sum) {
    let inputs = [&r.x, &r.y, &key.x, &key.y, message].map(Sum::clone);
    let challenge = poseidon(system, &inputs);
    let challenge = strict_bits(system, &challenge);
    enforce_signature(system, key, &challenge, s, r);
}

/// The hash for one purpose.
fn tagged(system: &mut System, purpose: &str, inputs: &[&Sum]) -> Sum {
    let tag = system.constant(tag(purpose));
    let inputs = [&tag].into_iter().chain(inputs.iter().copied());
    poseidon(system, &inputs.cloned().collect::<Vec<_>>())
}

/// x^5 is three constraints; all between is sums. The fourth power is a left factor only, so the
/// matrix B, which is paid for in G2, is without a third of these wires.
fn poseidon(system: &mut System, inputs: &[Sum]) -> Sum {
    let parameters = Parameters::of(inputs.len());
    let mut state = vec![system.constant(Fr::zero())];
    state.extend_from_slice(inputs);
    let rounds = parameters.rounds();
    for round in 0..rounds {
        for (element, constant) in state.iter_mut().zip(parameters.constants(round)) {
            *element = &*element + &system.constant(*constant);
        }
        for element in &mut state[..parameters.raised(round)] {
            let square = system.product(element, element);
            let fourth = system.product(&square, &square);
            *element = system.product(&fourth, element);
        }
        // Of the last state only the first element is wanted.
        let wanted = if round + 1 == rounds {
            1
        } else {
            parameters.width()
        };
        let mixed = (0..wanted).map(|i| system.combination(parameters.row(i), &state));
        state = mixed.collect();
    }
    state.remove(0)
}

fn binary_root(system: &mut System, leaf: &Sum, position: &[Sum], siblings: &[Fr]) -> Sum {
    let mut node = leaf.clone();
    for (bit, sibling) in position.iter().zip(siblings) {
        let sibling = system.wire(*sibling);
        let left = system.choose(bit, &node, &sibling);
        let right = &(&node + &sibling) - &left;
        node = poseidon(system, &[left, right]);
    }
    node
}

fn wide_root(system: &mut System, leaf: &Sum, index: u32, families: &[[Fr; WIDE]]) -> Sum {
    let index = system.bits(Fr::from(index), 3 * families.len());
    let mut node = leaf.clone();
    for (bits, family) in index.chunks(3).zip(families) {
        let family = family.map(|child| system.wire(child));
        system.enforce_member(bits, &family, &node);
        node = poseidon(system, &family);
    }
    node
}

/// How many values of the circuit are public.
pub const PUBLIC: u32 = 5;
/// How many wires the circuit has, the constant 1 included.
pub const WIRES: usize = 14_240;
