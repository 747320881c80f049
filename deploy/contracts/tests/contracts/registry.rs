//! `StateRegistry`: what is allowed, and each way to do what is not.

use num_bigint::BigUint;
use revm::primitives::{Address, U256};

use ark_bn254::{Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::CurveGroup;
use ark_ff::{BigInteger, Field, PrimeField};
use caldera_kernels::{CurveId, Group};
use caldera_prover::format::json::{Point, Proof, VerificationKey};
use caldera_prover::groth16::{VerifyError, solidity, verify};
use caldera_prover::units;
use caldera_scheduler::registry;

use crate::chain::{CHAIN_ID, Chain, End, Outcome, account, address_word, call, keccak, word};
use crate::compile::contract;
use crate::statement::{Statement, hashes, modulus_r};
use crate::verifier::big_endian;

pub(crate) const AUTHORITY: u8 = 10;
pub(crate) const VERIFIER: u8 = 20;
pub(crate) const SENDER: u8 = 30;
const STRANGER: u8 = 66;
/// An issuer's key.
pub(crate) const ISSUER: u8 = 40;

const ISSUERS_WINDOW: u64 = 3_600;
const REVOCATION_WINDOW: u64 = 600;

/// A registry with one request open, and the roots that it was made with.
pub(crate) struct World {
    pub(crate) chain: Chain,
    pub(crate) registry: Address,
    issuers: Vec<BigUint>,
    revocations: Vec<BigUint>,
    pub(crate) request: BigUint,
}

/// What a holder has in hand: a grant, its chain, and what the proof says.
#[derive(Clone)]
pub(crate) struct Granted {
    verifier: Address,
    sender: Address,
    request: BigUint,
    /// From the tip back to the seed.
    pub(crate) chain: Vec<[u8; 20]>,
    uses: u16,
    expiry: u64,
    challenge: [u8; 32],
    nullifier: BigUint,
    issuers_index: u64,
    revocation_index: u64,
}

impl World {
    pub(crate) fn new() -> World {
        let mut chain = Chain::new();
        let [issuers, revocation, request] = [7u8, 8, 9].map(|seed| hashes(1, seed).remove(0));
        let arguments = [
            address_word(account(AUTHORITY)),
            big(&issuers),
            big(&revocation),
            word(ISSUERS_WINDOW),
            word(REVOCATION_WINDOW),
        ];
        let code = &contract("StateRegistry").code;
        let registry = chain
            .deploy(account(1), code, &arguments.concat())
            .address();
        let mut world = World {
            chain,
            registry,
            issuers: vec![issuers],
            revocations: vec![revocation],
            request,
        };
        let closes = world.chain.now() + 1_000_000;
        world.open(VERIFIER, closes).returned();
        world
    }

    fn send(&mut self, from: u8, signature: &str, arguments: &[Vec<u8>]) -> Outcome {
        let call = call(signature, arguments);
        self.chain.send(account(from), self.registry, &call)
    }

    fn open(&mut self, verifier: u8, closes: u64) -> Outcome {
        let request = big(&self.request);
        self.send(
            verifier,
            "openRequest(uint256,uint256)",
            &[request, word(closes)],
        )
    }

    fn close(&mut self, verifier: u8) -> Outcome {
        let request = big(&self.request);
        self.send(verifier, "closeRequest(uint256)", &[request])
    }

    pub(crate) fn replace_issuers(&mut self, by: u8, seed: u8) -> Outcome {
        let root = hashes(1, seed).remove(0);
        let outcome = self.send(by, "replaceIssuers(uint256)", &[big(&root)]);
        if matches!(outcome.end, End::Returned(_)) {
            self.issuers.push(root);
        }
        outcome
    }

    pub(crate) fn replace_revocation(&mut self, by: u8, seed: u8) -> Outcome {
        let root = hashes(1, seed).remove(0);
        let outcome = self.send(by, "replaceRevocation(uint256)", &[big(&root)]);
        if matches!(outcome.end, End::Returned(_)) {
            self.revocations.push(root);
        }
        outcome
    }

    pub(crate) fn set_revoker(&mut self, by: u8, issuer: u8, may: bool) -> Outcome {
        let arguments = [address_word(account(issuer)), word(u64::from(may))];
        self.send(by, "setRevoker(address,bool)", &arguments)
    }

    /// A grant to the verifier and the sender of these tests, against the current roots. Each seed
    /// is another holder.
    pub(crate) fn grant(&self, seed: u8, uses: u16) -> Granted {
        let mut chain = vec![<[u8; 20]>::try_from(&keccak(&[seed])[..20]).unwrap()];
        for _ in 0..uses {
            let link = keccak(chain.last().unwrap());
            chain.push(link[..20].try_into().unwrap());
        }
        chain.reverse();
        Granted {
            verifier: account(VERIFIER),
            sender: account(SENDER),
            request: self.request.clone(),
            chain,
            uses,
            expiry: self.chain.now() + 100_000,
            challenge: keccak(b"challenge"),
            nullifier: hashes(1, 100 + seed).remove(0),
            issuers_index: self.issuers.len() as u64 - 1,
            revocation_index: self.revocations.len() as u64 - 1,
        }
    }

    /// By docs/state-units.md, written down a second time.
    fn grant_hash(&self, granted: &Granted) -> BigUint {
        self.grant_hash_in(CHAIN_ID, self.registry, granted)
    }

    fn grant_hash_in(&self, chain_id: u64, registry: Address, granted: &Granted) -> BigUint {
        let mut bytes = domain(chain_id, registry).to_vec();
        bytes.extend(address_word(granted.verifier));
        bytes.extend(address_word(granted.sender));
        bytes.extend(big(&granted.request));
        bytes.extend(link_word(&granted.chain[0]));
        bytes.extend(word(u64::from(granted.uses)));
        bytes.extend(word(granted.expiry));
        bytes.extend(granted.challenge);
        bytes.extend(big(&granted.nullifier));
        BigUint::from_bytes_be(&keccak(&bytes)[..31])
    }

    fn inputs(&self, granted: &Granted) -> Vec<BigUint> {
        vec![
            self.issuers[granted.issuers_index as usize].clone(),
            self.revocations[granted.revocation_index as usize].clone(),
            granted.request.clone(),
            granted.nullifier.clone(),
            self.grant_hash(granted),
        ]
    }

    /// The words of a call of `present`: a proof of `inputs`, and what is granted.
    fn presentation(&self, granted: &Granted, inputs: &[BigUint]) -> Vec<u8> {
        let (proof, public) = Statement::of(5).prove(inputs, 1);
        let proof = solidity::call(&proof, &public).expect("BN254")[4..4 + 256].to_vec();
        let arguments = [
            proof,
            grant_words(granted),
            big(&granted.nullifier),
            word(granted.issuers_index),
            word(granted.revocation_index),
        ];
        call(PRESENT, &arguments)
    }

    pub(crate) fn present(&mut self, granted: &Granted) -> Outcome {
        let inputs = self.inputs(granted);
        self.present_proving(SENDER, granted, &inputs)
    }

    /// Presents by `from`, with a proof for `inputs` whatever else is said.
    fn present_proving(&mut self, from: u8, granted: &Granted, inputs: &[BigUint]) -> Outcome {
        let call = self.presentation(granted, inputs);
        self.chain.send(account(from), self.registry, &call)
    }

    /// The first, second, .. reuse, by this preimage.
    pub(crate) fn reuse(&mut self, granted: &Granted, number: u16, preimage: &[u8; 20]) -> Outcome {
        self.reuse_by(SENDER, granted, number, preimage)
    }

    fn reuse_by(
        &mut self,
        from: u8,
        granted: &Granted,
        number: u16,
        preimage: &[u8; 20],
    ) -> Outcome {
        let arguments = [
            big(&granted.nullifier),
            address_word(granted.verifier),
            big(&granted.request),
            granted.state(preimage, granted.uses - (number - 1)),
        ];
        self.send(from, REUSE, &arguments)
    }
}

impl Granted {
    /// What is recorded while so many uses are left and the chain stands at `link`.
    fn state(&self, link: &[u8; 20], uses_left: u16) -> Vec<u8> {
        let mut state = link.to_vec();
        state.extend(uses_left.to_be_bytes());
        state.extend(&self.expiry.to_be_bytes()[3..]);
        state.extend(&self.revocation_index.to_be_bytes()[3..]);
        state
    }
}

const PRESENT: &str =
    "present(uint256[8],(address,uint256,uint160,uint16,uint40,bytes32),uint256,uint256,uint256)";
const REUSE: &str = "reuse(uint256,address,uint256,uint256)";
const GRANT_OF: &str = "grantOf(address,(address,uint256,uint160,uint16,uint40,bytes32),uint256)";

fn grant_words(granted: &Granted) -> Vec<u8> {
    [
        address_word(granted.verifier),
        big(&granted.request),
        link_word(&granted.chain[0]),
        word(u64::from(granted.uses)),
        word(granted.expiry),
        granted.challenge.to_vec(),
    ]
    .concat()
}

fn big(number: &BigUint) -> Vec<u8> {
    big_endian(number).to_vec()
}

fn domain(chain_id: u64, registry: Address) -> [u8; 32] {
    let name = b"caldera state registry v1";
    let mut text = name.to_vec();
    text.resize(32, 0);
    let domain = [
        word(96),
        word(chain_id),
        address_word(registry),
        word(name.len() as u64),
        text,
    ];
    keccak(&domain.concat())
}

fn link_word(link: &[u8; 20]) -> Vec<u8> {
    [&[0; 12][..], link].concat()
}

#[test]
fn a_presentation_and_all_of_its_uses() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    let outcome = world.present(&granted);
    outcome.returned();
    assert_eq!(outcome.logs, 1);
    for (number, preimage) in (1..).zip(&granted.chain[1..]) {
        let outcome = world.reuse(&granted, number, preimage);
        assert_eq!(outcome.number(), U256::from(3 - number));
        assert_eq!(outcome.logs, 1);
    }
    // Over-use: no preimage is left.
    let nullifier = [big(&granted.nullifier)];
    world
        .reuse(&granted, 4, &[7; 20])
        .refused("NotAsRecorded(uint256)", &nullifier);
}

/// A chain that is longer than its grant's uses has preimages left when no use is.
#[test]
fn a_chain_is_no_longer_than_its_uses() {
    let mut world = World::new();
    let granted = Granted {
        uses: 2,
        ..world.grant(1, 4)
    };
    world.present(&granted).returned();
    world.reuse(&granted, 1, &granted.chain[1]).returned();
    world.reuse(&granted, 2, &granted.chain[2]).returned();
    let nullifier = [big(&granted.nullifier)];
    world
        .reuse(&granted, 3, &granted.chain[3])
        .refused("NoUsesLeft(uint256)", &nullifier);
    // With another count than is recorded.
    world
        .reuse(&granted, 2, &granted.chain[3])
        .refused("NotAsRecorded(uint256)", &nullifier);
}

#[test]
fn the_contract_hashes_a_grant_as_the_document_says() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    let mut arguments = vec![
        address_word(granted.sender),
        grant_words(&granted),
        big(&granted.nullifier),
    ];
    let outcome = world.send(STRANGER, GRANT_OF, &arguments);
    assert_eq!(outcome.returned(), big(&world.grant_hash(&granted)));
    // A number that has no place in its field is no grant.
    arguments[1][3 * 32 + 29] = 1;
    assert_eq!(
        world.send(STRANGER, GRANT_OF, &arguments).end,
        End::Reverted(Vec::new())
    );
}

/// A holder computes it with the prover, a box with its registry, a chain with the contract: three times
/// written, one number.
#[test]
fn prover_registry_and_contract_hash_a_grant_alike() {
    let mut world = World::new();
    let domain = domain(CHAIN_ID, world.registry);
    for (seed, uses) in [(1, 3), (2, 1), (3, 40)] {
        let granted = world.grant(seed, uses);
        let tip = granted.chain[0];
        let request = Fr::from_be_bytes_mod_order(&big(&granted.request));
        let by_prover = units::Grant {
            domain,
            verifier: granted.verifier.into_array(),
            sender: granted.sender.into_array(),
            request,
            tip,
            uses,
            expiry: granted.expiry,
            challenge: granted.challenge,
        };
        let nullifier = Fr::from_be_bytes_mod_order(&big(&granted.nullifier));
        let by_prover = by_prover.element(nullifier).expect("numbers within range");
        let by_prover = by_prover.into_bigint().to_bytes_be();
        let by_registry = registry::Grant {
            verifier: registry::Word::right(granted.verifier.as_slice()),
            sender: registry::Word::right(granted.sender.as_slice()),
            request: registry::Word::right(&big(&granted.request)),
            tip: registry::Link(tip),
            uses,
            expiry: registry::Seconds(granted.expiry),
            challenge: registry::Word(granted.challenge),
        };
        let nullifier = registry::Word::right(&big(&granted.nullifier));
        let by_registry = by_registry.digest(&registry::Word(domain), &nullifier);
        let by_registry = by_registry.0.to_vec();
        let arguments = [
            address_word(granted.sender),
            grant_words(&granted),
            big(&granted.nullifier),
        ];
        let outcome = world.send(STRANGER, GRANT_OF, &arguments);
        let by_contract = outcome.returned();
        assert_eq!(by_prover, by_contract);
        assert_eq!(by_registry, by_contract);
    }
}

#[test]
fn a_replayed_or_forged_preimage() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    world.present(&granted).returned();
    let wrong = "NotAsRecorded(uint256)";
    let nullifier = [big(&granted.nullifier)];
    // The recorded value itself, one too far down the chain, another chain's, zero.
    let other = world.grant(2, 3);
    for preimage in [granted.chain[0], granted.chain[2], other.chain[1], [0; 20]] {
        world
            .reuse(&granted, 1, &preimage)
            .refused(wrong, &nullifier);
    }
    world.reuse(&granted, 1, &granted.chain[1]).returned();
    // What was revealed is known to all now.
    for number in [1, 2] {
        world
            .reuse(&granted, number, &granted.chain[1])
            .refused(wrong, &nullifier);
    }
    world.reuse(&granted, 2, &granted.chain[2]).returned();
}

/// A preimage seen in flight, brought by somebody else.
#[test]
fn another_sender() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    world.present(&granted).returned();
    let nullifier = [big(&granted.nullifier)];
    for stranger in [STRANGER, VERIFIER, AUTHORITY] {
        world
            .reuse_by(stranger, &granted, 1, &granted.chain[1])
            .refused("NotAsRecorded(uint256)", &nullifier);
    }
    world.reuse(&granted, 1, &granted.chain[1]).returned();
}

/// A reuse that names another presentation, verifier or request than was presented, or claims more uses, a later
/// expiry or a newer revocation root than is recorded.
#[test]
fn what_is_not_as_it_was_recorded() {
    let mut world = World::new();
    let closes = world.chain.now() + 1_000;
    world.open(STRANGER, closes).returned();
    let granted = world.grant(1, 3);
    let another = world.grant(2, 3);
    world.present(&granted).returned();
    world.present(&another).returned();
    world.replace_revocation(AUTHORITY, 51).returned();
    let honest = [
        big(&granted.nullifier),
        address_word(granted.verifier),
        big(&granted.request),
        granted.state(&granted.chain[1], 3),
    ];
    let longer = Granted {
        expiry: granted.expiry + 1,
        ..granted.clone()
    };
    let newer = Granted {
        revocation_index: 1,
        ..granted.clone()
    };
    for (argument, other) in [
        (0, big(&another.nullifier)),
        (1, address_word(account(STRANGER))),
        (2, word(5)),
        (3, granted.state(&granted.chain[1], 4)),
        (3, granted.state(&granted.chain[1], 0)),
        (3, longer.state(&granted.chain[1], 3)),
        (3, newer.state(&granted.chain[1], 3)),
    ] {
        let mut arguments = honest.clone();
        arguments[argument] = other;
        let named = arguments[0].clone();
        world
            .send(SENDER, REUSE, &arguments)
            .refused("NotAsRecorded(uint256)", &[named]);
    }
    let mut nobodys = honest.clone();
    nobodys[0] = word(5);
    world
        .send(SENDER, REUSE, &nobodys)
        .refused("NotPresented(uint256)", &[word(5)]);
    world.send(SENDER, REUSE, &honest).returned();
}

/// Whoever was told what is recorded can see that it is: the contract says how to hash it.
#[test]
fn what_is_recorded_can_be_opened() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    let nullifier = [big(&granted.nullifier)];
    let records = "records(uint256)";
    let before = world.send(STRANGER, records, &nullifier);
    assert_eq!(before.number(), U256::ZERO);
    world.present(&granted).returned();
    world.reuse(&granted, 1, &granted.chain[1]).returned();
    let opening = [
        address_word(granted.sender),
        address_word(granted.verifier),
        big(&granted.request),
        granted.state(&granted.chain[1], 2),
    ];
    let signature = "recordOf(address,address,uint256,uint256)";
    let opened = world.send(STRANGER, signature, &opening).number();
    assert_eq!(opened, U256::from_be_slice(&keccak(&opening.concat())));
    assert_eq!(world.send(STRANGER, records, &nullifier).number(), opened);
}

#[test]
fn after_the_expiry() {
    let mut world = World::new();
    let mut granted = world.grant(1, 3);
    granted.expiry = world.chain.now() + 100;
    let late = world.grant(2, 3);
    let late = Granted {
        expiry: granted.expiry,
        ..late
    };
    world.present(&granted).returned();
    world.chain.pass(99);
    world.reuse(&granted, 1, &granted.chain[1]).returned();
    world.chain.pass(1);
    let expired = "GrantExpired(uint256)";
    world
        .reuse(&granted, 2, &granted.chain[2])
        .refused(expired, &[word(granted.expiry)]);
    world.present(&late).refused(expired, &[word(late.expiry)]);
}

#[test]
fn a_nullifier_counts_once() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    world.present(&granted).returned();
    // Another grant of the same holder for the same use index.
    let again = Granted {
        nullifier: granted.nullifier.clone(),
        ..world.grant(2, 3)
    };
    world
        .present(&again)
        .refused("NullifierUsed(uint256)", &[big(&granted.nullifier)]);
    // Spelt otherwise it is another number to the registry, and no input to the verifier.
    let spelt = Granted {
        nullifier: &granted.nullifier + modulus_r(),
        ..world.grant(2, 3)
    };
    let mut inputs = world.inputs(&spelt);
    inputs[3] = granted.nullifier.clone();
    world
        .present_proving(SENDER, &spelt, &inputs)
        .refused("ProofRefused()", &[]);
}

/// Whoever has seen a proof can make others of the same statement of it, which nobody can tell from the holder's own: A / r,
/// r B + r s delta, C + s A. All of them hold. But they say the same five values, and what is counted is the nullifier.
#[test]
fn a_proof_that_is_made_anew_counts_once() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    let statement = Statement::of(5);
    let key = statement.verification_key();
    let (proof, public) = statement.prove(&world.inputs(&granted), 1);
    let others = [(2u64, 0u64), (1, 5), (7, 11)].map(|(r, s)| {
        let other = made_anew(key, &proof, Fr::from(r), Fr::from(s));
        assert_ne!(other, proof);
        verify(key, &other, &public).expect("another proof of the same");
        other
    });
    // A change that is none of these does not hold.
    let mut wrong = others[2].clone();
    wrong.c = others[1].c.clone();
    assert_eq!(verify(key, &wrong, &public), Err(VerifyError::Refused));

    // On a chain each would be taken, were it the first.
    let words = |proof: &Proof| solidity::call(proof, &public).expect("BN254")[4..4 + 256].to_vec();
    let call_of = |world: &World, proof: &Proof| {
        let mut call = world.presentation(&granted, &world.inputs(&granted));
        call[4..4 + 256].copy_from_slice(&words(proof));
        call
    };
    for first in &others {
        let mut world = World::new();
        let call = call_of(&world, first);
        let presented = world.chain.send(account(SENDER), world.registry, &call);
        presented.returned();
    }
    world.present(&granted).returned();
    for other in &others {
        let call = call_of(&world, other);
        world
            .chain
            .send(account(SENDER), world.registry, &call)
            .refused("NullifierUsed(uint256)", &[big(&granted.nullifier)]);
    }
    world.reuse(&granted, 1, &granted.chain[1]).returned();

    // A box verifies the proof and hands its registry the five values alone: the second time they are spent.
    let inputs = world.inputs(&granted);
    let word = |at: usize| registry::Word::right(&big(&inputs[at]));
    let of_registry = |granted: &Granted| registry::Grant {
        verifier: registry::Word::right(granted.verifier.as_slice()),
        sender: registry::Word::right(granted.sender.as_slice()),
        request: registry::Word::right(&big(&granted.request)),
        tip: registry::Link(granted.chain[0]),
        uses: granted.uses,
        expiry: registry::Seconds(granted.expiry),
        challenge: registry::Word(granted.challenge),
    };
    let domain = registry::Word(domain(CHAIN_ID, world.registry));
    let mut kept = registry::Registry::new(domain, 0);
    let now = registry::Seconds(1);
    let grant = of_registry(&granted);
    let present = registry::Command::Present {
        sender: grant.sender,
        grant,
        inputs: registry::Inputs {
            issuers_root: word(0),
            revocation_root: word(1),
            request: word(2),
            nullifier: word(3),
            grant: word(4),
        },
    };
    for command in [
        registry::Command::Publish {
            tree: registry::Tree::Issuers,
            root: word(0),
        },
        registry::Command::Publish {
            tree: registry::Tree::Revocation,
            root: word(1),
        },
        registry::Command::Open {
            verifier: grant.verifier,
            request: grant.request,
            closes: registry::EXPIRY_MAX,
            valid_through: registry::EXPIRY_MAX,
        },
        present,
    ] {
        let change = kept.decide(&command, now).expect("a good one");
        kept.apply(&change).expect("its own change");
    }
    let again = kept.decide(&present, now);
    let presented = registry::Refusal::Presented { grant: word(4) };
    assert_eq!(again, Err(presented));
}

/// Another proof of the same statement, from the proof and the key alone.
fn made_anew(key: &VerificationKey, proof: &Proof, r: Fr, s: Fr) -> Proof {
    let (a, c) = (one(&proof.a), one(&proof.c));
    let (b, delta) = (two(&proof.b), two(&key.delta_2));
    let inverse = r.inverse().expect("not zero");
    let of = |group, coordinates: &[Fq]| {
        let bytes = coordinates
            .iter()
            .flat_map(|it| it.into_bigint().to_bytes_le());
        let bytes: Vec<u8> = bytes.collect();
        Point::from_bytes(CurveId::Bn254, group, &bytes).expect("coordinates below q")
    };
    let first = (a * inverse).into_affine();
    let second = (b * r + delta * (r * s)).into_affine();
    let third = (c + a * s).into_affine();
    Proof {
        curve: CurveId::Bn254,
        a: of(Group::G1, &[first.x, first.y]),
        b: of(
            Group::G2,
            &[second.x.c0, second.x.c1, second.y.c0, second.y.c1],
        ),
        c: of(Group::G1, &[third.x, third.y]),
    }
}

fn coordinates(point: &Point) -> Vec<Fq> {
    let numbers = point.bytes().chunks_exact(32);
    numbers.map(Fq::from_le_bytes_mod_order).collect()
}

fn one(point: &Point) -> G1Affine {
    let it = coordinates(point);
    G1Affine::new(it[0], it[1])
}

fn two(point: &Point) -> G2Affine {
    let it = coordinates(point);
    G2Affine::new(Fq2::new(it[0], it[1]), Fq2::new(it[2], it[3]))
}

/// The same grant under the holder's next nullifier would set its chain back to the tip, and what
/// has been revealed would count again. But the grant is hashed with the one nullifier that it is for.
#[test]
fn a_grant_is_presented_once() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    world.present(&granted).returned();
    world.reuse(&granted, 1, &granted.chain[1]).returned();
    world
        .present(&granted)
        .refused("NullifierUsed(uint256)", &[big(&granted.nullifier)]);
    // A proof with the next nullifier and the grant as it was hashed.
    let again = Granted {
        nullifier: world.grant(2, 0).nullifier,
        ..granted.clone()
    };
    let mut inputs = world.inputs(&again);
    inputs[4] = world.grant_hash(&granted);
    world
        .present_proving(SENDER, &again, &inputs)
        .refused("ProofRefused()", &[]);
}

/// Each public input is bound: a proof of anything else is refused.
#[test]
fn a_proof_of_something_else() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    let honest = world.inputs(&granted);
    for input in 0..5 {
        let mut inputs = honest.clone();
        inputs[input] += 1u8;
        world
            .present_proving(SENDER, &granted, &inputs)
            .refused("ProofRefused()", &[]);
    }
    // A grant for another sender, verifier, request, tip, number of uses, expiry or challenge.
    let changes: [&dyn Fn(&mut Granted); 6] = [
        &|granted| granted.sender = account(STRANGER),
        &|granted| granted.verifier = account(STRANGER),
        &|granted| granted.chain[0] = [1; 20],
        &|granted| granted.uses = 4,
        &|granted| granted.expiry += 1,
        &|granted| granted.challenge = [1; 32],
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut other = granted.clone();
        change(&mut other);
        let mut inputs = honest.clone();
        inputs[4] = world.grant_hash(&other);
        assert_ne!(inputs[4], honest[4], "change {index}");
        world
            .present_proving(SENDER, &granted, &inputs)
            .refused("ProofRefused()", &[]);
    }
    // One for another registry or another chain.
    for domain in [
        world.grant_hash_in(CHAIN_ID + 1, world.registry, &granted),
        world.grant_hash_in(CHAIN_ID, account(1), &granted),
    ] {
        let mut inputs = honest.clone();
        inputs[4] = domain;
        world
            .present_proving(SENDER, &granted, &inputs)
            .refused("ProofRefused()", &[]);
    }
    // The proof itself, in the hands of another sender.
    world
        .present_proving(STRANGER, &granted, &honest)
        .refused("ProofRefused()", &[]);
    world.present(&granted).returned();
}

/// An off-curve point ends in a refusal that leaves gas, and nothing is recorded.
#[test]
fn a_malformed_proof_records_nothing() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    let inputs = world.inputs(&granted);
    let mut call = world.presentation(&granted, &inputs);
    call[4 + 31] ^= 1;
    let outcome = world.chain.send(account(SENDER), world.registry, &call);
    outcome.refused("ProofRefused()", &[]);
    assert!(outcome.gas < 500_000, "{}", outcome.gas);
    world.present(&granted).returned();
}

#[test]
fn a_request_that_is_not_open() {
    let mut world = World::new();
    let request = big(&world.request);
    let refusal = [address_word(account(VERIFIER)), request];
    let not_open = "RequestNotOpen(address,uint256)";
    let granted = world.grant(1, 3);
    let waiting = world.grant(2, 3);
    world.present(&granted).returned();

    // A stranger closes only a request of his own.
    world.close(STRANGER).returned();
    world.reuse(&granted, 1, &granted.chain[1]).returned();

    world.close(VERIFIER).returned();
    world.present(&waiting).refused(not_open, &refusal);
    world
        .reuse(&granted, 2, &granted.chain[2])
        .refused(not_open, &refusal);

    // Nor does a stranger open one but his own.
    let far = world.chain.now() + 1_000_000;
    world.open(STRANGER, far).returned();
    world.present(&waiting).refused(not_open, &refusal);

    // Opened again until then, and then over.
    let closes = world.chain.now() + 50;
    world.open(VERIFIER, closes).returned();
    world.reuse(&granted, 2, &granted.chain[2]).returned();
    world.chain.pass(50);
    world.present(&waiting).refused(not_open, &refusal);
    world
        .reuse(&granted, 3, &granted.chain[3])
        .refused(not_open, &refusal);

    let now = world.chain.now();
    world
        .open(VERIFIER, now)
        .refused("InThePast(uint256)", &[word(now)]);
    let r = big(&modulus_r());
    world
        .send(
            VERIFIER,
            "openRequest(uint256,uint256)",
            &[r.clone(), word(now + 9)],
        )
        .refused("NotInField(uint256)", &[r]);
}

/// A window that began when a root was set would have been over long before this root was
/// replaced, and every holder with a proof in hand would have been refused at that moment.
/// (semaphore-protocol/semaphore, issues 1093 and 1094)
#[test]
fn windows_begin_when_a_root_is_replaced() {
    let mut world = World::new();
    world.chain.pass(10 * ISSUERS_WINDOW);
    let before = world.grant(1, 3);
    let just = world.grant(2, 3);
    let after = world.grant(3, 3);
    world.replace_issuers(AUTHORITY, 50).returned();
    let replaced = world.chain.now();
    world.present(&before).returned();
    world.chain.pass(ISSUERS_WINDOW - 1);
    world.present(&just).returned();
    world.chain.pass(1);
    world
        .present(&after)
        .refused("StaleRoot(uint256,uint256)", &[word(0), word(replaced)]);
    // Issuers that are replaced do not end what is recorded.
    world.reuse(&before, 1, &before.chain[1]).returned();
    let current = Granted {
        issuers_index: 1,
        ..after
    };
    world.present(&current).returned();
}

#[test]
fn a_stale_revocation_root() {
    let mut world = World::new();
    let recorded = world.grant(1, 4);
    let waiting = world.grant(2, 3);
    let stale = world.grant(3, 3);
    world.present(&recorded).returned();
    world.chain.pass(10 * REVOCATION_WINDOW);
    world.reuse(&recorded, 1, &recorded.chain[1]).returned();

    world.replace_revocation(AUTHORITY, 51).returned();
    let replaced = world.chain.now();
    world.chain.pass(REVOCATION_WINDOW / 2);
    // Another one does not prolong the first one's window.
    world.replace_revocation(AUTHORITY, 52).returned();
    world.chain.pass(REVOCATION_WINDOW / 2 - 1);
    world.reuse(&recorded, 2, &recorded.chain[2]).returned();
    world.present(&waiting).returned();
    world.chain.pass(1);
    let refusal = [word(0), word(replaced)];
    world
        .reuse(&recorded, 3, &recorded.chain[3])
        .refused("StaleRoot(uint256,uint256)", &refusal);
    world
        .present(&stale)
        .refused("StaleRoot(uint256,uint256)", &refusal);

    // The root between is in its window still; the next proof is against the current one.
    let between = Granted {
        revocation_index: 1,
        ..stale.clone()
    };
    world.present(&between).returned();
    let fresh = world.grant(4, 3);
    assert_eq!(fresh.revocation_index, 2);
    world.present(&fresh).returned();
    world.reuse(&fresh, 1, &fresh.chain[1]).returned();
}

/// The same value again, to end what was proved against the old one: an issuer has been left out.
#[test]
fn a_root_may_be_replaced_by_itself() {
    let mut world = World::new();
    let recorded = world.grant(1, 3);
    world.present(&recorded).returned();
    world.replace_revocation(AUTHORITY, 8).returned();
    let replaced = world.chain.now();
    assert_eq!(world.revocations[0], world.revocations[1]);
    world.chain.pass(REVOCATION_WINDOW);
    world
        .reuse(&recorded, 1, &recorded.chain[1])
        .refused("StaleRoot(uint256,uint256)", &[word(0), word(replaced)]);
}

#[test]
fn a_root_that_never_was() {
    let mut world = World::new();
    let granted = world.grant(1, 3);
    let inputs = world.inputs(&granted);
    for (issuers_index, revocation_index) in [(1, 0), (0, 1), (u64::MAX, 0), (0, 1 << 40)] {
        let granted = Granted {
            issuers_index,
            revocation_index,
            ..granted.clone()
        };
        let unknown = issuers_index.max(revocation_index);
        world
            .present_proving(SENDER, &granted, &inputs)
            .refused("UnknownRoot(uint256)", &[word(unknown)]);
    }
    let r = big(&modulus_r());
    for function in ["replaceIssuers(uint256)", "replaceRevocation(uint256)"] {
        world
            .send(AUTHORITY, function, std::slice::from_ref(&r))
            .refused("NotInField(uint256)", std::slice::from_ref(&r));
    }
}

#[test]
fn only_the_authority_replaces_roots_and_hands_itself_on() {
    let mut world = World::new();
    let heir = 11;
    let offer = "offerAuthority(address)";
    let not_authority = "NotAuthority(address)";
    for stranger in [STRANGER, VERIFIER, SENDER, 1] {
        let caller = [address_word(account(stranger))];
        world
            .replace_issuers(stranger, 50)
            .refused(not_authority, &caller);
        world
            .replace_revocation(stranger, 50)
            .refused(not_authority, &caller);
        world
            .send(stranger, offer, &caller)
            .refused(not_authority, &caller);
        world
            .send(stranger, "takeAuthority()", &[])
            .refused("NotOffered(address)", &caller);
    }
    let nobody = [address_word(Address::ZERO)];

    // An offer is not yet the role.
    let to_heir = [address_word(account(heir))];
    world.send(AUTHORITY, offer, &to_heir).returned();
    world
        .replace_issuers(heir, 50)
        .refused(not_authority, &to_heir);
    world.replace_issuers(AUTHORITY, 50).returned();
    world
        .send(STRANGER, "takeAuthority()", &[])
        .refused("NotOffered(address)", &[address_word(account(STRANGER))]);
    // Taken back.
    world.send(AUTHORITY, offer, &nobody).returned();
    world
        .send(heir, "takeAuthority()", &[])
        .refused("NotOffered(address)", &to_heir);
    // Taken; the old one is nobody now, and the offer does not hold twice.
    world.send(AUTHORITY, offer, &to_heir).returned();
    world.send(heir, "takeAuthority()", &[]).returned();
    world.replace_revocation(heir, 50).returned();
    let old = [address_word(account(AUTHORITY))];
    world
        .replace_revocation(AUTHORITY, 51)
        .refused(not_authority, &old);
    world
        .send(heir, "takeAuthority()", &[])
        .refused("NotOffered(address)", &to_heir);
}

/// Who revokes a unit need not wait for the authority; what is revoked stops counting as if the authority had done it.
#[test]
fn an_issuers_key_replaces_the_revocation_root_and_nothing_else() {
    let mut world = World::new();
    let recorded = world.grant(1, 3);
    world.present(&recorded).returned();
    let not_authority = "NotAuthority(address)";
    let issuer = [address_word(account(ISSUER))];
    let refused = |outcome: Outcome| outcome.refused(not_authority, &issuer);
    refused(world.set_revoker(ISSUER, ISSUER, true));
    refused(world.replace_revocation(ISSUER, 51));

    let outcome = world.set_revoker(AUTHORITY, ISSUER, true);
    outcome.returned();
    assert_eq!(outcome.logs, 1);
    world.replace_revocation(ISSUER, 51).returned();
    let replaced = world.chain.now();
    // It opens nothing else to it, and nobody else's key.
    refused(world.replace_issuers(ISSUER, 50));
    refused(world.set_revoker(ISSUER, STRANGER, true));
    refused(world.send(ISSUER, "offerAuthority(address)", &issuer));
    world
        .replace_revocation(STRANGER, 51)
        .refused(not_authority, &[address_word(account(STRANGER))]);

    // The window of what was proved before begins, and ends.
    world.chain.pass(REVOCATION_WINDOW - 1);
    world.reuse(&recorded, 1, &recorded.chain[1]).returned();
    world.chain.pass(1);
    world
        .reuse(&recorded, 2, &recorded.chain[2])
        .refused("StaleRoot(uint256,uint256)", &[word(0), word(replaced)]);
    let fresh = world.grant(2, 3);
    assert_eq!(fresh.revocation_index, 1);
    world.present(&fresh).returned();

    // The authority has the last word: it replaces that root too, and takes the leave back.
    world.replace_revocation(AUTHORITY, 52).returned();
    world.set_revoker(AUTHORITY, ISSUER, false).returned();
    refused(world.replace_revocation(ISSUER, 53));
    let revokers = world.send(STRANGER, "revokers(address)", &issuer);
    assert_eq!(revokers.number(), U256::ZERO);
}

#[test]
fn a_registry_without_an_authority() {
    let mut chain = Chain::new();
    let code = &contract("StateRegistry").code;
    let mut deploy = |authority: Address, issuers: Vec<u8>| {
        let arguments = [address_word(authority), issuers, word(1), word(1), word(1)];
        chain.deploy(account(1), code, &arguments.concat())
    };
    deploy(Address::ZERO, word(1)).refused("NoAuthority()", &[]);
    let r = big(&modulus_r());
    deploy(account(9), r.clone()).refused("NotInField(uint256)", &[r]);
    deploy(account(9), word(1)).returned();
}

/// The roots that a registry has had, and when each was replaced.
#[test]
fn roots_can_be_looked_up() {
    let mut world = World::new();
    world.chain.pass(5);
    world.replace_issuers(AUTHORITY, 50).returned();
    world.replace_revocation(AUTHORITY, 51).returned();
    world.replace_revocation(AUTHORITY, 52).returned();
    let now = world.chain.now();
    let current = [word(1), word(2)].concat();
    assert_eq!(world.send(STRANGER, "current()", &[]).returned(), current);
    let [issuers, revocations] = [world.issuers.clone(), world.revocations.clone()];
    for (function, roots) in [("issuers", issuers), ("revocations", revocations)] {
        let signature = format!("{function}(uint256)");
        for (index, root) in roots.iter().enumerate() {
            let replaced = if index + 1 < roots.len() { now } else { 0 };
            let found = world.send(STRANGER, &signature, &[word(index as u64)]);
            assert_eq!(found.returned(), [big(root), word(replaced)].concat());
        }
        let beyond = [word(roots.len() as u64)];
        world
            .send(STRANGER, &signature, &beyond)
            .refused("UnknownRoot(uint256)", &beyond);
    }
}

/// Nothing can come back in: there is no instruction in the registry that calls another contract, but static calls,
/// which its verifier makes to precompiles.
#[test]
fn nothing_is_called_that_could_call_back() {
    let code = &contract("StateRegistry").code;
    let mut static_calls = 0;
    let mut at = 0;
    while let Some(instruction) = code.get(at) {
        match instruction {
            // PUSH1 to PUSH32, and what they push.
            0x60..=0x7f => at += usize::from(instruction - 0x5f),
            // CREATE, CALL, CALLCODE, DELEGATECALL, CREATE2, SELFDESTRUCT.
            0xf0 | 0xf1 | 0xf2 | 0xf4 | 0xf5 | 0xff => panic!("{instruction:#x} at {at}"),
            0xfa => static_calls += 1,
            _ => {}
        }
        at += 1;
    }
    assert!(static_calls > 0, "what was looked through is not the code");
}
