//! The circuit is satisfied by what is true and by nothing else.
//!
//! Whoever lies here lies in one place and makes everything else agree with it: the issuer signs
//! the changed unit, the nullifier and the request are computed anew where a liar could do so. So each
//! test meets the one constraint that it names.

mod units_support;

use ark_bn254::Fr;
use ark_ff::{BigInteger, Field, PrimeField};
use caldera_prover::format::{R1cs, Wtns};
use caldera_prover::units::{
    Gap, HolderSecret, IssuerTree, Opening, Point, RevocationTree, Scalar, UnitError, circuit,
    constraints_by_part, poseidon, witness,
};
use units_support::{
    Adapt, NONCE, POSITION, World, broken, decimal, holds, issuer, rows, satisfied, values,
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
    let delta = Fr::from(0x1234_5678_9abc_def1u64);
    assert_eq!(unbound(&[delta]), [0usize; 0]);
}

/// If a digit of a number could be anything, two more in one place and one less in the next would be the same number.
#[test]
fn no_number_has_two_spellings() {
    let spellings = unbound(&[Fr::from(2), -Fr::from(1)]);
    assert_eq!(spellings, [0usize; 0], "numbers that have two spellings");
}

/// The wires where a change of an honest witness, of that wire and of those after it, breaks nothing.
fn unbound(change: &[Fr]) -> Vec<usize> {
    let honest = values(&witness(&World::new().opening()));
    let mut bound = vec![false; honest.len() + 1 - change.len()];
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
            for first in wire.saturating_sub(change.len() - 1)..=wire {
                if bound.get(first) != Some(&false) {
                    continue;
                }
                let [a, b, c] = [0, 1, 2].map(|side| {
                    let changed = change.iter().zip(first..);
                    let changed = changed.map(|(delta, wire)| *delta * coefficient(side, wire));
                    sums[side] + changed.sum::<Fr>()
                });
                bound[first] = a * b != c;
            }
        }
    }
    (0..bound.len()).filter(|&wire| !bound[wire]).collect()
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
    // The bits of h and of h + r say the same number of the field, and two scalars.
    let beyond = (1u8..)
        .find(|nonce| {
            let mut opening = World::new().opening();
            let mut challenge = sign_knowingly(*nonce, [0, 0], false)(&mut opening).into_bigint();
            challenge.add_with_carry(&Fr::MODULUS);
            challenge.num_bits() <= Fr::MODULUS_BIT_SIZE
        })
        .expect("a third of all hashes leave room for the modulus");
    refused("a challenge above the modulus", |o| {
        sign_knowingly(beyond, [0, 0], true)(o);
    });
    accepted("an issuer whose scalar is known here", |o| {
        sign_knowingly(beyond, [0, 0], false)(o);
    });
    refused("R with another x", |o| {
        sign_knowingly(beyond, [1, 0], false)(o);
    });
    refused("R with another y", |o| {
        sign_knowingly(beyond, [0, 1], false)(o);
    });

    refused("another S", |o| o.signature.s += Scalar::from(1u8));
    refused("a negated S", |o| o.signature.s = -o.signature.s);
    refused("another R", |o| {
        o.signature.r = o.signature.r.plus(&issuer(1).key().point())
    });
    refused("R off the curve", |o| o.signature.r.x += Fr::from(1));
    refused("another issuer's signature", |o| o.sign_by(&issuer(4)));
    refused("another unit's signature", |o| o.claims[9] += Fr::from(1));

    // EIP-2494's generator of the whole group, times l: a generator of the eight points of small order.
    let generator = Point {
        x: decimal("995203441582195749578291179787384436505546430278305826713579947235728471134"),
        y: decimal("5472060717959818805561601436314318772137091100104008585924551046643952123905"),
    };
    let small = generator.times(&-Scalar::from(1u8)).plus(&generator);
    for (multiple, order) in [(8u8, 1), (4, 2), (2, 4), (1, 8)] {
        refused(&format!("a key of order {order}"), |o| {
            o.issuer = small.times(&Scalar::from(multiple));
            // S B = R is all that is left of the equation.
            o.signature.r = Point::base().times(&o.signature.s);
            o.statement.issuers_root = root_over(o);
        });
    }
}

/// Signs by an issuer whose scalar is known here, over an R of which each coordinate is so much more, for
/// the challenge or for what its bits and the modulus come to; the challenge.
fn sign_knowingly(nonce: u8, more: [u64; 2], above: bool) -> impl Fn(&mut Opening) -> Fr {
    move |o: &mut Opening| {
        let (scalar, nonce) = (Scalar::from(5u8), Scalar::from(nonce));
        o.issuer = Point::base().times(&scalar);
        o.statement.issuers_root = root_over(o);
        let r = Point::base().times(&nonce);
        let [x, y] = more.map(Fr::from);
        let (x, y) = (r.x + x, r.y + y);
        o.signature.r = Point { x, y };
        let challenge = poseidon::hash(&[x, y, o.issuer.x, o.issuer.y, o.message()]);
        let number = |integer: <Fr as PrimeField>::BigInt| {
            Scalar::from_le_bytes_mod_order(&integer.to_bytes_le())
        };
        let mut h = number(challenge.into_bigint());
        if above {
            h += number(Fr::MODULUS);
        }
        o.signature.s = nonce + h * Scalar::from(8u8) * scalar;
        challenge
    }
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
    refused("a claim that was not signed", |o| {
        o.claims[1] += Fr::from(1)
    });
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
    // Claim 4 instead of claim 1, which is within it too.
    refused("a bound on another claim", |o| o.selectors ^= 5);
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
    refused("where another stands", |o| o.set_index = 1);
    for absent in [0, 41, 757] {
        for index in 0..8 {
            refused("a value that is not in the set", |o| {
                value(absent)(o);
                o.set_index = index;
            });
        }
    }
    accepted("where it stands too", |o| o.set_index = 5);
    refused("a leaf of one's own", |o| {
        value(41)(o);
        o.set_families[0][0] = Fr::from(41);
        o.set_index = 0;
    });
    let own = |o: &mut Opening| {
        value(41)(o);
        o.set_index = 0;
        path_over(0, o.claims[0], &mut o.set_families)
    };
    refused("no set where one was asked for", |o| {
        own(o);
        o.set_root = Fr::from(0);
    });
    refused("a whole set of one's own", |o| {
        own(o);
    });
    refused("a request for a set of one's own", |o| o.set_root = own(o));
}

/// Puts a leaf in its place, and all above it anew: the root that it leads to.
fn path_over(index: u32, leaf: Fr, families: &mut [[Fr; 8]]) -> Fr {
    let mut node = leaf;
    for (level, family) in families.iter_mut().enumerate() {
        family[(index >> (3 * level)) as usize % 8] = node;
        node = poseidon::hash(family);
    }
    node
}

#[test]
fn a_unit_is_of_the_schema_and_valid() {
    refused("another schema", |o| {
        o.schema += Fr::from(1);
        o.sign_by(&issuer(3));
        o.statement.issuers_root = root_over(o);
    });
    refused("a unit of another schema", |o| {
        o.schema += Fr::from(1);
        o.sign_by(&issuer(3));
        o.schema -= Fr::from(1);
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
                stand_in(o, &gap);
            });
            refused("a revoked unit in a gap of the same leaf", |o| {
                nonce(o, bad);
                stand_in(o, &gap);
                o.gap_low -= two_64;
                o.gap_next += Fr::from(1);
            });
        }
        let own = |o: &mut Opening| {
            nonce(o, bad);
            o.gap_low = name(bad - 1);
            o.gap_next = name(bad + 1);
            o.gap_low + o.gap_next * two_64
        };
        refused("a gap that nobody published", |o| {
            own(o);
        });
        refused("a leaf of one's own", |o| {
            let leaf = own(o);
            o.gap_families[0][o.gap_index as usize % 8] = leaf;
        });
        refused("a tree of one's own", |o| {
            let leaf = own(o);
            path_over(o.gap_index, leaf, &mut o.gap_families);
        });
        refused("an empty place", |o| {
            nonce(o, bad);
            o.gap_index = 7;
            o.gap_low = Fr::from(0);
            o.gap_next = Fr::from(0);
        });
    }
    refused("another place", |o| o.gap_index += 1);
    // The same sum as the issuer signed, under a name that nobody has revoked.
    refused("a nonce that reaches into the validity", |o| {
        stand_in(o, &revoked.gap(POSITION + 1, NONCE).expect("a gap"));
        o.nonce += Fr::from(1u64 << 48);
        o.valid_until -= Fr::from(1);
    });
    refused("a root before or after this one", |o| {
        o.statement.revocation_root = RevocationTree::new(&[(POSITION, NONCE)])
            .expect("one")
            .root();
    });
}

fn stand_in(o: &mut Opening, gap: &Gap) {
    (o.gap_low, o.gap_next) = (Fr::from(gap.low), Fr::from(gap.next));
    (o.gap_index, o.gap_families) = (gap.index, gap.families);
}

/// An issuer that signs two units under one nonce has given both one name.
#[test]
fn units_of_one_nonce_are_revoked_together() {
    let revoked = RevocationTree::new(&[(POSITION, NONCE), (1, NONCE)]).expect("two units");
    for income in [90_000, 90_001] {
        let mut world = World::new();
        world.unit.content.claims[1] = income;
        world.sign();
        let honest = world.opening();
        world.revoked = revoked.clone();
        let (issuer, nonce) = (POSITION, NONCE);
        let refused = Err(UnitError::Revoked { issuer, nonce });
        assert_eq!(world.open().map(|_| ()), refused);
        for (position, near) in [(0, 1), (1, NONCE + 1), (POSITION, NONCE + 1)] {
            let mut opening = honest.clone();
            opening.statement.revocation_root = revoked.root();
            stand_in(&mut opening, &revoked.gap(position, near).expect("a gap"));
            assert!(!satisfied(&opening), "a revoked unit is accepted");
        }
        assert!(satisfied(&honest), "a unit before it was revoked");
    }
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
