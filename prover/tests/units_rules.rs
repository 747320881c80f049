//! Every rule of a state unit has its own refusal, and what the code accepts the circuit does.

mod units_support;

use ark_bn254::Fr;
use caldera_kernels::CurveId;
use caldera_prover::format::json::PublicInputs;
use caldera_prover::units::{
    Bounds, Grant, HolderSecret, IssuerTree, NONCE_MAX, Opening, RevocationTree, ScopeName,
    Statement, TIME_MAX, UnitError, ValueSet, claim, keccak_element, link, seed, tip, witness,
};
use proptest::prelude::*;
use units_support::{Adapt, NONCE, POSITION, World, accepted, issuer, satisfied};

/// Opens a changed world.
fn refusal(change: impl FnOnce(&mut World)) -> UnitError {
    let mut world = World::new();
    change(&mut world);
    world
        .open()
        .map(|_| ())
        .expect_err("this was to be refused")
}

#[test]
fn each_rule_has_its_refusal() {
    let error = refusal(|world| world.unit.content.claims[9] += 1);
    assert_eq!(error, UnitError::Signature);
    let error = refusal(|world| world.unit.issuer = issuer(4).key());
    assert_eq!(error, UnitError::Signature);
    let error = refusal(|world| {
        world.secret = HolderSecret::from_bytes(&[8; 32]).expect("below the modulus");
    });
    assert_eq!(error, UnitError::Subject);
    let error = refusal(|world| world.blinding += Fr::from(1));
    assert_eq!(error, UnitError::Subject);
    let error = refusal(|world| {
        world.unit.content.schema = keccak_element(b"another schema v1");
        world.sign();
    });
    assert_eq!(error, UnitError::Schema);
    let error = refusal(|world| {
        world.request.valid_through = world.unit.content.valid_until + 1;
        world.sign();
    });
    let (expected_min, got) = (1_900_000_001, 1_900_000_000);
    assert_eq!(error, UnitError::Expired { expected_min, got });
    let error = refusal(|world| {
        world.issuer = issuer(9);
        world.sign();
    });
    assert_eq!(error, UnitError::Issuer);
    // A key that is believed for one schema vouches for another.
    let error = refusal(|world| {
        let another = keccak_element(b"another schema v1");
        world.unit.content.schema = another;
        world.request.schema = another;
        world.sign();
    });
    assert_eq!(error, UnitError::IssuerSchema);
    let error = refusal(|world| {
        world.revoked = RevocationTree::new(&[(POSITION, NONCE)]).expect("one");
    });
    let (issuer, nonce) = (POSITION, NONCE);
    assert_eq!(error, UnitError::Revoked { issuer, nonce });
    let error = refusal(|world| world.request.bounds[2] = Bounds::equal(3, 2_000));
    assert_eq!(error, UnitError::Bounds { slot: 2, claim: 3 });
    let error = refusal(|world| {
        world.request.set = Some(ValueSet::new(0, &[755, 757]).expect("a set of two"));
    });
    assert_eq!(error, UnitError::Set { claim: 0 });
    let error = refusal(|world| world.request.presentations = 5);
    assert_eq!(error, UnitError::GrantRequest);
    let error = refusal(|world| world.index = 3);
    assert!(
        range(&error, "the index of a presentation", 0, 2, 3),
        "{error}"
    );
    let error = refusal(|world| world.grant.expiry = 0);
    assert!(
        range(&error, "the expiry of a grant", 1, TIME_MAX, 0),
        "{error}"
    );
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    for (digits, good) in [
        ("0", true),
        ("18446744073709551615", true),
        ("18446744073709551616", false),
        ("-1", false),
        ("+1", false),
        ("1.0", false),
        ("", false),
    ] {
        assert_eq!(claim(3, digits).is_ok(), good, "{digits:?}");
    }
    assert_eq!(claim(3, "x"), Err(UnitError::Claim { index: 3 }));

    let mut content = World::new().unit.content;
    for nonce in [0, NONCE_MAX + 1] {
        content.nonce = nonce;
        let error = content.message().expect_err("no such nonce");
        assert!(
            range(&error, "a revocation nonce", 1, NONCE_MAX, nonce),
            "{error}"
        );
        let error = RevocationTree::new(&[(0, nonce)]).expect_err("no such nonce");
        assert!(
            range(&error, "a revocation nonce", 1, NONCE_MAX, nonce),
            "{error}"
        );
    }
    content.nonce = 1;
    content.valid_until = TIME_MAX + 1;
    let error = content.message().expect_err("no such time");
    assert!(
        range(&error, "valid_until", 0, TIME_MAX, TIME_MAX + 1),
        "{error}"
    );

    let mut request = World::new().request;
    request.presentations = 0;
    assert!(request.element().is_err());
    request.presentations = 1;
    request.bounds[1] = Bounds::between(2, 6, 5);
    let (claim, least, greatest) = (2, 6, 5);
    let empty = UnitError::BoundsEmpty {
        claim,
        least,
        greatest,
    };
    assert_eq!(request.element(), Err(empty));
    request.bounds[1] = Bounds::at_least(16, 0);
    let error = request.element().expect_err("no such claim");
    assert!(range(&error, "the claim of bounds", 0, 15, 16), "{error}");
    request.bounds[1] = Bounds::OPEN;
    request.valid_through = TIME_MAX + 1;
    assert!(request.element().is_err());

    let none = ValueSet::new(0, &[]).expect_err("an empty set");
    assert!(
        range(&none, "the number of values in a set", 1, 512, 0),
        "{none}"
    );
    let many: Vec<u64> = (0..513).collect();
    assert!(ValueSet::new(0, &many).is_err());
    assert!(ValueSet::new(0, &many[1..]).is_ok());
    assert!(ValueSet::new(16, &many[1..]).is_err());

    assert!(IssuerTree::new(&[]).is_err());
    let twice = IssuerTree::new(&[1, 2, 1].map(accepted)).expect_err("an issuer twice");
    assert_eq!(
        twice,
        UnitError::IssuerTwice {
            first: 0,
            second: 2
        }
    );
    assert!(HolderSecret::from_bytes(&[0xff; 32]).is_err());
}

#[test]
fn secrets_are_not_shown() {
    let world = World::new();
    let shown = format!("{:?} {:?} {:?}", world.secret, world.issuer, world.unit);
    for secret in ["90000", "1999", "0707", "\u{7}"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let again = HolderSecret::from_bytes(&world.secret.to_bytes()).expect("what it gave itself");
    assert_eq!(*again.to_bytes(), [7; 32]);
}

#[test]
fn a_statement_goes_through_public_inputs() {
    let statement = World::new().opening().statement;
    let inputs = statement.public_inputs();
    assert_eq!(Statement::from_public_inputs(&inputs), Ok(statement));
    let four: Vec<[u8; 32]> = inputs.iter().take(4).copied().collect();
    let four = PublicInputs::new(CurveId::Bn254, four).expect("below the modulus");
    let error = Statement::from_public_inputs(&four);
    assert_eq!(error, Err(UnitError::Statement { got: 4 }));
}

#[test]
fn a_grant_is_for_what_it_says() {
    let world = World::new();
    let nullifier = world.opening().statement.nullifier;
    let honest = world.grant.element(nullifier).expect("a good grant");
    assert_eq!(world.opening().statement.grant, honest);
    let other = world.grant.element(nullifier + Fr::from(1));
    assert_ne!(other.expect("a good grant"), honest, "another presentation");
    type Change = fn(&mut Grant);
    let changes: [(&str, Change); 8] = [
        ("another domain", |grant| grant.domain[0] ^= 1),
        ("another verifier", |grant| grant.verifier[19] ^= 1),
        ("another sender", |grant| grant.sender[0] ^= 1),
        ("another request", |grant| grant.request += Fr::from(1)),
        ("another tip", |grant| grant.tip[3] ^= 1),
        ("other uses", |grant| grant.uses += 1),
        ("another expiry", |grant| grant.expiry += 1),
        ("another challenge", |grant| grant.challenge[31] ^= 1),
    ];
    for (what, change) in changes {
        let mut other = world.grant;
        change(&mut other);
        let other = other.element(nullifier).expect("a good grant");
        assert_ne!(other, honest, "{what}");
    }
    let chain = seed(&world.secret, &[1; 32]);
    assert_eq!(tip(&chain, 0), *chain);
    assert_eq!(link(&tip(&chain, 4)), world.grant.tip);
    assert_ne!(*seed(&world.secret, &[2; 32]), *chain);
}

/// Two verifiers who lay side by side what they were shown find nothing that is one holder's: all that is the same in
/// both is everybody's.
#[test]
fn what_two_verifiers_see_is_not_of_one_holder() {
    let shown = |purpose: &str, index: u16, salt: u8| {
        let mut world = World::new();
        let name = ScopeName {
            scenario: ScopeName::part("retail"),
            verifier: ScopeName::part("shop"),
            purpose: ScopeName::part(purpose),
            epoch: 12,
        };
        world.request.scope = name.element();
        world.index = index;
        let chain = seed(&world.secret, &[salt; 32]);
        world.grant.tip = tip(&chain, world.grant.uses);
        world.sign();
        (world.opening().statement, world.grant.tip)
    };
    let (one, one_tip) = shown("instalment", 0, 1);
    let (two, two_tip) = shown("insurance", 0, 2);
    let (again, _) = shown("instalment", 1, 2);
    assert_eq!(one.issuers_root, two.issuers_root);
    assert_eq!(one.revocation_root, two.revocation_root);
    assert_ne!(one.request, two.request);
    assert_ne!(one.grant, two.grant);
    assert_ne!(one.nullifier, two.nullifier, "one nullifier in two scopes");
    assert_ne!(
        one.nullifier, again.nullifier,
        "one nullifier of two indices"
    );
    assert_ne!(one_tip, two_tip, "one chain for two grants");
    // Nor do two issuers know that they have signed for one holder.
    let secret = World::new().secret;
    let subjects = [1, 2].map(|blinding| secret.subject(Fr::from(blinding)));
    assert_ne!(subjects[0], subjects[1], "one subject in two units");
}

/// All that a registry is shown of a presentation, by name: the public values, and the grant's fields that are the holder's and the
/// verifier's to choose.
fn shown(holder: u8, verifier: &str, index: u16) -> Vec<(&'static str, Vec<u8>)> {
    let mut world = World::new();
    world.secret = HolderSecret::from_bytes(&[holder; 32]).expect("below the modulus");
    world.blinding = Fr::from(holder);
    world.unit.content.subject = world.secret.subject(world.blinding);
    world.unit.content.nonce = u64::from(holder) * 100;
    world.index = index;
    let part = |what: &str| ScopeName::part(&format!("{what} {verifier} {index}"));
    let address = |what: &str| <[u8; 20]>::try_from(&part(what)[..20]).expect("20 of 32 bytes");
    let party = ScopeName::part(verifier);
    world.request.scope = ScopeName {
        scenario: ScopeName::part("retail"),
        verifier: party,
        purpose: ScopeName::part("instalment"),
        epoch: 12,
    }
    .element();
    world.grant.verifier = party[..20].try_into().expect("20 of 32 bytes");
    world.grant.sender = address("sender");
    world.grant.challenge = part("challenge");
    let salt = ScopeName::part(&format!("salt {holder} {verifier} {index}"));
    world.grant.tip = tip(&seed(&world.secret, &salt), world.grant.uses);
    world.sign();
    let statement = world.opening().statement;
    let inputs = statement.public_inputs();
    let names = [
        "issuers_root",
        "revocation_root",
        "request",
        "nullifier",
        "grant",
    ];
    let values = inputs.iter().map(|value| value.to_vec());
    let mut shown: Vec<_> = names.into_iter().zip(values).collect();
    let Grant {
        domain,
        verifier,
        sender,
        tip,
        challenge,
        ..
    } = world.grant;
    shown.extend([
        ("domain", domain.to_vec()),
        ("verifier", verifier.to_vec()),
        ("sender", sender.to_vec()),
        ("tip", tip.to_vec()),
        ("challenge", challenge.to_vec()),
    ]);
    shown
}

/// Names of what stands in both, wherever.
fn common(one: &[(&'static str, Vec<u8>)], other: &[(&'static str, Vec<u8>)]) -> Vec<&'static str> {
    let in_other = |it: &&(&'static str, Vec<u8>)| other.iter().any(|(_, value)| *value == it.1);
    one.iter().filter(in_other).map(|it| it.0).collect()
}

/// Verifiers who lay side by side what each was shown find nothing that says whether it was one holder: what is equal between
/// two presentations of one holder is what is equal between those of two, and that is what all holders share.
#[test]
fn verifiers_who_collude_cannot_tell_whose_presentations_they_have() {
    let one = shown(7, "shop", 0);
    let shared = ["issuers_root", "revocation_root", "domain"];
    for (what, other) in [
        ("one holder, two verifiers", shown(7, "bank", 0)),
        ("two holders, two verifiers", shown(8, "bank", 0)),
    ] {
        assert_eq!(common(&one, &other), shared, "{what}");
    }
    // One verifier sees that both are for its request, and no more.
    let own = [
        "issuers_root",
        "revocation_root",
        "request",
        "domain",
        "verifier",
    ];
    for (what, other) in [
        ("one holder, two presentations", shown(7, "shop", 1)),
        ("two holders", shown(8, "shop", 1)),
    ] {
        assert_eq!(common(&one, &other), own, "{what}");
    }
    // That the same holder comes again with one presentation is what a nullifier is for.
    let again = shown(7, "shop", 0);
    assert!(common(&one, &again).contains(&"nullifier"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the numbers are: what the code opens satisfies the circuit, what it refuses for
    /// a claim does not.
    #[test]
    fn code_and_circuit_agree(
        value in any::<u64>(),
        claim in 0u8..16,
        least in any::<u64>(),
        width in any::<u64>(),
        nonce in 1..NONCE_MAX,
        revoked in prop::collection::vec((0u16..6, 1..NONCE_MAX), 0..40),
        presentations in 1u16..,
        index in any::<u16>(),
        longer in 0..(1u64 << 39),
    ) {
        let mut world = World::new();
        world.unit.content.claims[usize::from(claim)] = value;
        world.unit.content.nonce = nonce;
        world.unit.content.valid_until = world.request.valid_through + longer;
        world.request.set = None;
        world.request.presentations = presentations;
        world.request.bounds = [Bounds::OPEN; 4];
        world.index = index;
        world.revoked = RevocationTree::new(&revoked).expect("numbers within range");
        world.sign();
        let is_revoked = revoked.contains(&(POSITION, nonce));
        let opened = world.open();
        prop_assert_eq!(opened.is_ok(), index < presentations && !is_revoked);
        let Ok(mut opening) = opened else { return Ok(()) };
        prop_assert!(satisfied(&opening));

        let bounds = Bounds::between(claim, least, least.saturating_add(width));
        world.request.bounds[3] = bounds;
        world.sign();
        let within = (bounds.least..=bounds.greatest).contains(&value);
        match world.open() {
            Ok(opening) => prop_assert!(within && satisfied(&opening)),
            Err(error) => {
                prop_assert_eq!(error, UnitError::Bounds { slot: 3, claim });
                prop_assert!(!within);
                opening.bounds[3] = (Fr::from(bounds.least), Fr::from(bounds.greatest));
                opening.selectors |= u32::from(claim) << 12;
                opening.ask();
                prop_assert!(!satisfied(&opening));
            }
        }
    }
}

fn range(error: &UnitError, what: &str, min: u64, max: u64, got: u64) -> bool {
    let expected = (what, min, max, got);
    matches!(error, UnitError::Range { what, expected_min, expected_max, got }
        if (*what, *expected_min, *expected_max, *got) == expected)
}

#[test]
fn an_opening_survives_as_bytes() {
    let opening = World::new().opening();
    let bytes = opening.to_bytes();
    assert_eq!(bytes.len(), Opening::BYTES);
    assert_eq!(Opening::statement_of(&bytes), Ok(opening.statement));
    let back = Opening::from_bytes(&bytes).expect("an opening");
    assert_eq!(back.to_bytes(), bytes);
    let bytes_of = |opening: &Opening| {
        let mut bytes = Vec::new();
        witness(opening).write(&mut bytes).expect("room");
        bytes
    };
    assert_eq!(bytes_of(&back), bytes_of(&opening));
}

/// Whatever the bytes are, they are refused or make a witness: nothing panics.
#[test]
fn bytes_that_are_no_opening_are_refused() {
    let good = World::new().opening().to_bytes().to_vec();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Opening::from_bytes(&bytes)
            .map(|_| ())
            .expect_err("refused")
    };
    let form = |error| matches!(error, UnitError::Opening { .. });
    assert!(form(refused(&|bytes| bytes.truncate(100))));
    assert!(form(refused(&|bytes| bytes.push(0))));
    assert!(form(refused(&|bytes| bytes[0] ^= 1)));
    let range = |error| matches!(error, UnitError::Range { .. });
    assert!(range(refused(&|bytes| bytes[13] = 0xff)));
    let element = |error| matches!(error, UnitError::Element(_));
    assert!(element(refused(&|bytes| bytes[22..54].fill(0xff))));
    let elements = (good.len() - 54) / 32;
    for at in 0..elements {
        let start = 54 + 32 * at;
        assert!(
            element(refused(&|bytes| bytes[start..start + 32].fill(0xff))),
            "element {at}"
        );
        let mut other = good.clone();
        other[start] ^= 1;
        if let Ok(opening) = Opening::from_bytes(&other) {
            // The grant is bound by the proof, and by nothing else here. The number of presentations is not a
            // wire: it becomes one less than the index, whose low bits are those of the honest one.
            let expected = matches!(at, 4 | 9);
            assert_eq!(satisfied(&opening), expected, "element {at}");
        }
    }
}
