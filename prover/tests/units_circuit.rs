//! The circuit is satisfied by what is true and by nothing else.
//!
//! Whoever lies here lies in one place and makes everything else agree with it: the issuer signs
//! the changed unit, the nullifier and the request are computed anew where a liar could do so. So each
//! test meets the one constraint that it names.

mod units_support;

use ark_bn254::Fr;
use ark_ff::Field;
use caldera_prover::format::{R1cs, Wtns};
use caldera_prover::units::{
    HolderSecret, IssuerTree, Opening, RevocationTree, Scalar, circuit, constraints_by_part,
    poseidon, witness,
};
use units_support::{
    Adapt, NONCE, POSITION, World, broken, holds, issuer, rows, satisfied, values,
};

#[test]
fn the_circuit_costs_what_the_document_says() {
    let parts = [
        ("grant", 1),
        ("subject", 258),
        ("nullifier and index", 327),
        ("claims", 609),
        ("bounds", 592),
        ("set", 1252),
        ("request", 571),
        ("unit", 406),
        ("signature", 2903),
        ("issuer", 4134),
        ("revocation", 3078),
    ];
    assert_eq!(constraints_by_part(), parts);
    let r1cs = R1cs::parse(circuit().clone()).expect("a good file");
    assert_eq!(r1cs.constraint_count(), 14_131);
    assert_eq!(r1cs.public_count(), 5);
    // A key's domain is larger than constraints and public values together.
    assert!(r1cs.constraint_count() + r1cs.public_count() < 1 << 14);
}

#[test]
fn an_honest_presentation_satisfies_the_circuit() {
    let mut world = World::new();
    assert_eq!(broken(&witness(&world.opening())), None);
    for index in 0..world.request.presentations {
        world.index = index;
        assert!(satisfied(&world.opening()));
    }
    world.request.set = None;
    world.sign();
    assert!(satisfied(&world.opening()));
    // The last second, and the ends of all ranges.
    world.request.valid_through = world.unit.content.valid_until;
    world.unit.content.nonce = caldera_prover::units::NONCE_MAX;
    world.request.presentations = u16::MAX;
    world.index = u16::MAX - 1;
    world.sign();
    assert!(satisfied(&world.opening()));
    world.issuers = IssuerTree::new(&[3, 4].map(units_support::accepted)).expect("two issuers");
    world.unit.content.nonce = 1;
    world.revoked = RevocationTree::new(&[]).expect("nobody");
    world.sign();
    assert!(satisfied(&world.opening()));
}

#[test]
fn a_witness_is_a_file_of_all_wires() {
    let witness = witness(&World::new().opening());
    let mut file = Vec::new();
    witness.write(&mut file).expect("a vector takes all");
    let read = Wtns::parse(file.into()).expect("a good file");
    assert_eq!(read.elements(), witness.elements());
    let r1cs = R1cs::parse(circuit().clone()).expect("a good file");
    assert_eq!(read.len(), r1cs.wires() as usize);
    read.check(0..read.len()).expect("all below the modulus");
}

/// Changing any one wire of an honest witness breaks a constraint: none is free to be chosen.
#[test]
fn no_wire_is_free() {
    let honest = values(&witness(&World::new().opening()));
    let delta = Fr::from(0x1234_5678_9abc_def1u64);
    let mut bound = vec![false; honest.len()];
    for row in rows() {
        assert!(holds(row, &honest));
        let sums = row.each_ref().map(|side| {
            let terms = side.iter().map(|(wire, c)| honest[*wire] * c);
            terms.sum::<Fr>()
        });
        let coefficient = |side: usize, wire: usize| {
            let place = row[side].binary_search_by_key(&wire, |term| term.0);
            place.map_or(Fr::from(0), |place| row[side][place].1)
        };
        for &(wire, _) in row.iter().flatten() {
            let [a, b, c] = [0, 1, 2].map(|i| sums[i] + delta * coefficient(i, wire));
            bound[wire] |= a * b != c;
        }
    }
    let free: Vec<usize> = (0..bound.len()).filter(|&wire| !bound[wire]).collect();
    assert_eq!(free, [0usize; 0]);
}

/// A lie must be refused, and the same opening without it must not be.
fn refused(what: &str, lie: impl Fn(&mut Opening)) {
    let mut opening = World::new().opening();
    lie(&mut opening);
    assert!(!satisfied(&opening), "{what} is accepted");
}

fn accepted(what: &str, truth: impl Fn(&mut Opening)) {
    let mut opening = World::new().opening();
    truth(&mut opening);
    assert!(satisfied(&opening), "{what} is refused");
}

#[test]
fn adapting_alone_changes_nothing() {
    accepted("an opening that is computed anew", |o| {
        let before = o.statement;
        o.sign_by(&issuer(3));
        o.count();
        o.ask();
        assert_eq!(o.statement, before);
    });
}

#[test]
fn a_signature_must_be_the_issuers() {
    refused("another S", |o| o.signature.s += Scalar::from(1u8));
    refused("a negated S", |o| o.signature.s = -o.signature.s);
    refused("another R", |o| {
        o.signature.r = o.signature.r.plus(&issuer(1).key().point())
    });
    refused("R off the curve", |o| o.signature.r.x += Fr::from(1));
    refused("another issuer's signature", |o| o.sign_by(&issuer(4)));
    refused("another unit's signature", |o| o.claims[9] += Fr::from(1));
    refused("the neutral key", |o| {
        o.issuer = caldera_prover::units::Point::neutral();
        // S B = R is all that is left of the equation.
        o.signature.r = caldera_prover::units::Point::base().times(&o.signature.s);
        o.statement.issuers_root = root_over(o);
    });
    refused("the key of order two", |o| {
        o.issuer.x = Fr::from(0);
        o.issuer.y = -Fr::from(1);
        o.signature.r = caldera_prover::units::Point::base().times(&o.signature.s);
        o.statement.issuers_root = root_over(o);
    });
}

/// The root that the opening's own issuer and path lead to: of a tree that nobody would publish.
fn root_over(opening: &Opening) -> Fr {
    use caldera_prover::units::poseidon::hash;
    let leaf = hash(&[opening.issuer.x, opening.issuer.y, opening.schema]);
    let siblings = opening.siblings.iter().enumerate();
    siblings.fold(leaf, |node, (level, &sibling)| {
        match opening.position >> level & 1 {
            0 => hash(&[node, sibling]),
            _ => hash(&[sibling, node]),
        }
    })
}

#[test]
fn an_issuer_must_be_in_the_tree() {
    accepted("a tree that is computed anew", |o| {
        o.statement.issuers_root = root_over(o)
    });
    refused("an issuer of one's own", |o| {
        o.issuer = issuer(99).key().point();
        o.sign_by(&issuer(99));
    });
    let another_schema = |o: &mut Opening| {
        o.schema += Fr::from(1);
        o.sign_by(&issuer(3));
        o.ask();
    };
    refused(
        "an issuer that is accepted for another schema",
        another_schema,
    );
    accepted("one that is accepted for this one too", |o| {
        another_schema(o);
        o.statement.issuers_root = root_over(o);
    });
    refused("another position", |o| o.position = POSITION - 1);
    refused("another sibling", |o| o.siblings[15] += Fr::from(1));
}

#[test]
fn a_unit_belongs_to_one_secret() {
    let other = Fr::from(8);
    refused("somebody else's unit", |o| {
        o.secret = other;
        o.count();
    });
    refused("a nullifier of a second secret", |o| {
        let honest = o.secret;
        o.secret = other;
        o.count();
        o.secret = honest;
    });
    refused("another blinding", |o| o.blinding += Fr::from(1));
}

#[test]
fn a_nullifier_is_bound_to_its_scope_and_index() {
    let secret = HolderSecret::from_bytes(&[7; 32]).expect("below the modulus");
    refused("a nullifier of another scope", |o| {
        o.statement.nullifier = secret.nullifier(o.scope + Fr::from(1), 2);
    });
    refused("a scope of one's own", |o| {
        o.scope += Fr::from(1);
        o.count();
    });
    refused("a nullifier of another index", |o| {
        o.statement.nullifier = secret.nullifier(o.scope, 1);
    });
    refused("a nullifier of nothing", |o| {
        o.statement.nullifier += Fr::from(1)
    });
}

#[test]
fn an_index_is_below_the_number_of_presentations() {
    let at = |index: Fr| {
        move |o: &mut Opening| {
            o.index = index;
            o.count();
        }
    };
    accepted("the last index", at(Fr::from(2)));
    refused("one index more", at(Fr::from(3)));
    refused("an index below zero", at(-Fr::from(1)));
    refused("an index of 17 bits", at(Fr::from(1u32 << 16)));
    refused("more presentations than were asked for", |o| {
        o.presentations = Fr::from(4);
        o.index = Fr::from(3);
        o.count();
    });
}

#[test]
fn claims_are_within_their_bounds() {
    let claim = |claim: usize, value: Fr| {
        move |o: &mut Opening| {
            o.claims[claim] = value;
            o.sign_by(&issuer(3));
        }
    };
    let two_64 = Fr::from(1u128 << 64);
    accepted("the least", claim(1, Fr::from(90_000)));
    refused("one less than the least", claim(1, Fr::from(89_999)));
    accepted("the greatest of all", claim(1, two_64 - Fr::from(1)));
    refused("a claim of 65 bits", claim(1, two_64));
    refused("a claim below zero", claim(1, -Fr::from(1)));
    accepted("the greatest", claim(2, Fr::from(2)));
    accepted("zero", claim(2, Fr::from(0)));
    refused("one more than the greatest", claim(2, Fr::from(3)));
    refused("a claim below zero", claim(2, -Fr::from(1)));
    for (value, good) in [(1_998, false), (1_999, true), (2_001, true), (2_002, false)] {
        let mut opening = World::new().opening();
        claim(3, Fr::from(value))(&mut opening);
        assert_eq!(satisfied(&opening), good, "{value} within 1999 to 2001");
    }
    refused(
        "one less than what it must equal",
        claim(4, two_64 - Fr::from(2)),
    );
    refused("one more than what it must equal", claim(4, two_64));
    refused("a wider bound", |o| o.bounds[0].0 -= Fr::from(1));
    refused("a bound on another claim", |o| o.selectors ^= 1);
}

#[test]
fn a_claim_is_in_its_set() {
    let value = |value: u64| {
        move |o: &mut Opening| {
            o.claims[0] = Fr::from(value);
            o.sign_by(&issuer(3));
        }
    };
    // Values stand in rising order and the last fills the tree.
    accepted("the last value", |o| value(756)(o));
    accepted("where it stands too", |o| o.set_index = 5);
    refused("where another stands", |o| o.set_index = 1);
    for absent in [0, 41, 757] {
        for index in 0..8 {
            refused("a value that is not in the set", |o| {
                value(absent)(o);
                o.set_index = index;
            });
        }
    }
    refused("no set where one was asked for", |o| {
        value(41)(o);
        o.set_root = Fr::from(0);
    });
    refused("a whole set of one's own", |o| {
        value(41)(o);
        o.set_index = 0;
        let mut node = Fr::from(41);
        for family in &mut o.set_families {
            family[0] = node;
            node = poseidon::hash(family);
        }
    });
    refused("a leaf of one's own", |o| {
        value(41)(o);
        o.set_families[0][0] = Fr::from(41);
        o.set_index = 0;
    });
}

#[test]
fn a_unit_is_of_the_schema_and_valid() {
    refused("another schema", |o| {
        o.schema += Fr::from(1);
        o.sign_by(&issuer(3));
        o.statement.issuers_root = root_over(o);
    });
    let until = |seconds: i64| {
        move |o: &mut Opening| {
            o.valid_until = o.valid_through + Fr::from(seconds);
            o.sign_by(&issuer(3));
        }
    };
    accepted("a unit's last second", until(0));
    refused("a unit that is over", until(-1));
    accepted("the longest", until((1 << 40) - 1));
    refused("longer than the longest", until(1 << 40));
    refused("an earlier time of one's own", |o| {
        o.valid_through -= Fr::from(1);
    });
}

#[test]
fn a_revoked_unit_has_no_gap() {
    let revoked = World::new().revoked;
    let two_64 = Fr::from(1u128 << 64);
    let name = |nonce: u64| Fr::from(u64::from(POSITION) << 48 | nonce);
    let nonce = |o: &mut Opening, nonce: u64| {
        o.nonce = Fr::from(nonce);
        o.sign_by(&issuer(3));
    };
    for bad in [NONCE - 1, NONCE + 1] {
        // Every gap that there is, for a unit at the fence on either side.
        for (position, near) in [
            (0, 1),
            (1, NONCE + 1),
            (POSITION, NONCE),
            (POSITION, NONCE + 2),
        ] {
            let gap = revoked.gap(position, near).expect("a gap");
            refused("a revoked unit", |o| {
                nonce(o, bad);
                (o.gap_low, o.gap_next) = (Fr::from(gap.low), Fr::from(gap.next));
                (o.gap_index, o.gap_families) = (gap.index, gap.families);
            });
            refused("a revoked unit in a gap of the same leaf", |o| {
                nonce(o, bad);
                o.gap_low = Fr::from(gap.low) - two_64;
                o.gap_next = Fr::from(gap.next) + Fr::from(1);
                (o.gap_index, o.gap_families) = (gap.index, gap.families);
            });
        }
        refused("a gap that nobody published", |o| {
            nonce(o, bad);
            o.gap_low = name(bad - 1);
            o.gap_next = name(bad + 1);
        });
        refused("an empty place", |o| {
            nonce(o, bad);
            o.gap_index = 7;
            o.gap_low = Fr::from(0);
            o.gap_next = Fr::from(0);
        });
    }
    refused("another place", |o| o.gap_index += 1);
    refused("a nonce of 49 bits", |o| nonce(o, NONCE + (1 << 48)));
    refused("a root before or after this one", |o| {
        o.statement.revocation_root = RevocationTree::new(&[(POSITION, NONCE)])
            .expect("one")
            .root();
    });
}

#[test]
fn a_statement_is_the_witness_own() {
    refused("other issuers", |o| o.statement.issuers_root += Fr::from(1));
    refused("other revoked units", |o| {
        o.statement.revocation_root += Fr::from(1)
    });
    refused("another request", |o| o.statement.request += Fr::from(1));
    refused("another nullifier", |o| {
        o.statement.nullifier += Fr::from(1)
    });
    // The grant is not opened: it stands in a constraint of its own, and the proof binds it.
    let honest = values(&witness(&World::new().opening()));
    let with_grant: Vec<_> = rows()
        .iter()
        .filter(|row| row.iter().flatten().any(|term| term.0 == 5))
        .collect();
    assert_eq!(with_grant.len(), 1);
    let mut other = honest.clone();
    other[5] += Fr::from(1);
    assert!(!holds(with_grant[0], &other));
    assert_eq!(
        honest[5].square(),
        World::new().opening().statement.grant.square()
    );
}
