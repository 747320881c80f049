//! What is taken out, in the order of the table, but that one change may be tried by the tests of several rows.

use super::{Edit, Mutation, Try, USUAL};

/// Rows for which nothing is taken out, and why.
pub const EXEMPTIONS: &[(&str, &str)] = &[(
    "one person, many secrets",
    "nothing here stops it, so nothing can be taken out: the issuer issues one unit a person",
)];

/// All of them.
#[rustfmt::skip]
pub const MUTATIONS: &[Mutation] = &[
    // The signature.
    Mutation { what: "the first coordinate of S B = R + 8 h A",
        edits: &[edit(CURVE, "    system.enforce(&x_divisor, &r.x, &x);\n", "")],
        tries: &[circuit(FORGED, "a_signature_must_be_the_issuers", "R with another x is accepted")] },
    Mutation { what: "the second coordinate of S B = R + 8 h A",
        edits: &[edit(CURVE, "    system.enforce(&y_divisor, &r.y, &y);\n", "")],
        tries: &[circuit(FORGED, "a_signature_must_be_the_issuers", "R with another y is accepted")] },
    Mutation { what: "the bits of h below the modulus, and a liar who takes those of h + r",
        edits: &[
            edit(CURVE, "&(&(&one - &equal) - &bit)", "&(&one - &bit)"),
            edit(CURVE, "    let value = element.value().into_bigint();\n", "
    let mut value = element.value().into_bigint();
    let mut above = value;
    above.add_with_carry(&Fr::MODULUS);
    if above.num_bits() <= Fr::MODULUS_BIT_SIZE {
        value = above;
    }
"),
        ],
        tries: &[circuit(SPELLINGS, "a_signature_must_be_the_issuers", "a challenge above the modulus is accepted")] },
    Mutation { what: "a bit is 0 or 1",
        edits: &[edit(SYSTEM, "        self.enforce(&bit, &other, &zero);\n", "")],
        tries: &[circuit(SPELLINGS, "no_number_has_two_spellings", "numbers that have two spellings")] },
    // The issuer.
    Mutation { what: "the root of the issuers",
        edits: &[edit(CIRCUIT, "    system.equal(&root, &issuers_root);\n", "")],
        tries: &[
            circuit(ISSUER, "an_issuer_must_be_in_the_tree", "an issuer of one's own is accepted"),
            circuit(PUBLIC, "a_statement_is_the_witness_own", "other issuers is accepted"),
        ] },
    Mutation { what: "the schema in an issuer's leaf, and a liar who is accepted for the honest one",
        edits: &[
            edit(CIRCUIT, "    let leaf = poseidon(system, &[key.x, key.y, schema]);\n", "
    let accepted_for = system.wire(super::keccak_element(b\"example schema v1\"));
    let leaf = poseidon(system, &[key.x, key.y, accepted_for]);
"),
            WIRES_14_241,
        ],
        tries: &[circuit(VOUCHES, "an_issuer_must_be_in_the_tree", "an issuer that is accepted for another schema is accepted")] },
    Mutation { what: "the registry takes the roots of issuers that were published",
        edits: &[edit(REGISTRY, "        self.find_root(Tree::Issuers, inputs.issuers_root, now)?;\n", "")],
        tries: &[registry(ISSUER, "a_root_that_nobody_published_is_none", "left: Ok(Recorded")] },
    Mutation { what: "4 A has an image in Montgomery's form",
        edits: &[edit(CURVE, "system.quotient(&one, &u);", "system.quotient(&one, &one);")],
        tries: &[circuit(KEY, "a_signature_must_be_the_issuers", "a key of order 8 is accepted")] },
    Mutation { what: "a key is on the curve",
        edits: &[edit(BABY_JUBJUB, "        if !point.is_on_curve() {", "        if false {")],
        tries: &[vectors(KEY, "keys_that_nobody_can_have_are_refused", "a point on Baby Jubjub")] },
    Mutation { what: "a key is not neutral",
        edits: &[edit(BABY_JUBJUB, "if point == Point::neutral() {", "if false {")],
        tries: &[vectors(KEY, "keys_that_nobody_can_have_are_refused", "a point that is not neutral")] },
    Mutation { what: "a key is of the prime subgroup",
        edits: &[edit(BABY_JUBJUB, "if !point.is_in_subgroup() {", "if false {")],
        tries: &[vectors(KEY, "keys_that_nobody_can_have_are_refused", "a point of the prime subgroup")] },
    // The subject.
    Mutation { what: "the subject is the secret's, and a liar who has somebody else's",
        edits: &[
            edit(CIRCUIT, "    let subject = tagged(system, \"subject\", &[&secret, &blinding]);\n", "
    tagged(system, \"subject\", &[&secret, &blinding]);
    let honest = super::HolderSecret::from_bytes(&[7; 32]).expect(\"below the modulus\");
    let subject = system.wire(honest.subject(opening.blinding));
"),
            WIRES_14_241,
        ],
        tries: &[circuit(SUBJECT, "a_unit_belongs_to_one_secret", "somebody else's unit is accepted")] },
    Mutation { what: "subject and nullifier are of one secret, and a liar who has two",
        edits: &[
            edit(CIRCUIT, "    let computed = tagged(system, \"nullifier\", &[&secret, &scope, &index]);\n", "
    let second = system.wire(Fr::from(8u8));
    let computed = tagged(system, \"nullifier\", &[&second, &scope, &index]);
"),
            WIRES_14_241,
        ],
        tries: &[circuit(SECRETS, "a_unit_belongs_to_one_secret", "a nullifier of a second secret is accepted")] },
    // Claims and what is asked of them.
    Mutation { what: "the claims are those that were signed, and a liar who signs others",
        edits: &[
            edit(CIRCUIT, "    let claims_hash = poseidon(system, &claims);\n", "
    poseidon(system, &claims);
    let mut signed = [0; super::CLAIMS];
    signed[..5].copy_from_slice(&[756, 90_000, 2, 1_999, u64::MAX]);
    let claims_hash = system.wire(super::poseidon::hash(&signed.map(Fr::from)));
"),
            WIRES_14_241,
        ],
        tries: &[circuit(CLAIM, "claims_are_within_their_bounds", "a claim that was not signed is accepted")] },
    Mutation { what: "a claim is the least and 64 bits",
        edits: &[
            edit(CIRCUIT, "limits.push(&claim - &above);", "limits.push(system.wire(bounds.0));"),
            edit(CIRCUIT, WIRES, "WIRES: usize = 14_244;"),
        ],
        tries: &[circuit(CLAIM, "claims_are_within_their_bounds", "one less than the least is accepted")] },
    Mutation { what: "a claim is the greatest less 64 bits",
        edits: &[
            edit(CIRCUIT, "limits.push(&claim + &below);", "limits.push(system.wire(bounds.1));"),
            edit(CIRCUIT, WIRES, "WIRES: usize = 14_244;"),
        ],
        tries: &[circuit(CLAIM, "claims_are_within_their_bounds", "a claim of 65 bits is accepted")] },
    Mutation { what: "the request is the one that was pinned",
        edits: &[edit(CIRCUIT, "    system.equal(&computed, &request);\n", "")],
        tries: &[
            circuit(BOUND, "claims_are_within_their_bounds", "one less than the least is accepted"),
            circuit(SET, "a_claim_is_in_its_set", "no set where one was asked for is accepted"),
            circuit(NULLIFIER, "a_nullifier_is_bound_to_its_scope_and_index", "a scope of one's own is accepted"),
            circuit(MORE, "an_index_is_below_the_number_of_presentations", "one index more is accepted"),
            circuit(PUBLIC, "a_statement_is_the_witness_own", "another request is accepted"),
        ] },
    Mutation { what: "the request says of which claims it asks, and a liar who takes others",
        edits: &[
            edit(CIRCUIT, "let selectors = system.number(&selectors);", "let selectors = system.wire(Fr::from(0x4321u32));"),
            WIRES_14_241,
        ],
        tries: &[circuit(BOUND, "claims_are_within_their_bounds", "a bound on another claim is accepted")] },
    Mutation { what: "the root of the set",
        edits: &[edit(CIRCUIT, "    system.enforce(&set, &(&set - &root), &zero);\n", "")],
        tries: &[circuit(SET, "a_claim_is_in_its_set", "a whole set of one's own is accepted")] },
    Mutation { what: "a node is where its path says",
        edits: &[edit(SYSTEM, "        self.enforce(last, &(&one - &zero), &(chosen - &zero));\n", "")],
        tries: &[circuit(SET, "a_claim_is_in_its_set", "where another stands is accepted")] },
    Mutation { what: "no place of a set is empty",
        edits: &[edit(ASKED, "leaves.resize(SET_MAX, values[values.len() - 1]);", "leaves.resize(SET_MAX, 0);")],
        tries: &[circuit(SET, "a_claim_is_in_its_set", "a value that is not in the set is accepted")] },
    // Validity and schema.
    Mutation { what: "what is left of a unit's time is not negative",
        edits: &[
            edit(CIRCUIT, "system.integer(opening.valid_until - opening.valid_through, 40)", "system.integer(opening.valid_until - opening.valid_through, 254)"),
            edit(CIRCUIT, WIRES, "WIRES: usize = 14_454;"),
        ],
        tries: &[circuit(EXPIRED, "a_unit_is_of_the_schema_and_valid", "a unit that is over is accepted")] },
    Mutation { what: "what is left of a unit's time has 40 bits",
        edits: &[
            edit(CIRCUIT, "system.integer(opening.valid_until - opening.valid_through, 40)", "system.integer(opening.valid_until - opening.valid_through, 41)"),
            WIRES_14_241,
        ],
        tries: &[circuit(EXPIRED, "a_unit_is_of_the_schema_and_valid", "longer than the longest is accepted")] },
    Mutation { what: "the request says of which schema, and a liar who takes another",
        edits: &[
            edit(CIRCUIT, "    let mut asked = vec![&schema,", "
    let pinned = system.wire(super::keccak_element(b\"example schema v1\"));
    let mut asked = vec![&pinned,"),
            WIRES_14_241,
        ],
        tries: &[circuit(SCHEMA, "a_unit_is_of_the_schema_and_valid", "another schema is accepted")] },
    Mutation { what: "the unit says of which schema it is, and a liar who has one of another",
        edits: &[
            edit(CIRCUIT, "    let message = tagged(\n", "
    let signed = system.wire(super::keccak_element(b\"example schema v1\") + Fr::one());
    let message = tagged(
"),
            edit(CIRCUIT, "&[&schema, &subject, &claims_hash, &validity]", "&[&signed, &subject, &claims_hash, &validity]"),
            WIRES_14_241,
        ],
        tries: &[circuit(SCHEMA, "a_unit_is_of_the_schema_and_valid", "a unit of another schema is accepted")] },
    // Revocation.
    Mutation { what: "the root of the gaps",
        edits: &[edit(CIRCUIT, "    system.equal(&root, &revocation_root);\n", "")],
        tries: &[
            circuit(REVOKED, "a_revoked_unit_has_no_gap", "a tree of one's own is accepted"),
            circuit(PUBLIC, "a_statement_is_the_witness_own", "other revoked units is accepted"),
        ] },
    Mutation { what: "the name is behind the low end of the gap",
        edits: &[edit(CIRCUIT, "    system.equal(&(&(&low + &after) + &one), &name);\n", "")],
        tries: &[circuit(REVOKED, "a_revoked_unit_has_no_gap", "a revoked unit is accepted")] },
    Mutation { what: "64 bits between the low end and the name",
        edits: &[
            edit(CIRCUIT, "system.integer(name.value() - low.value() - Fr::one(), 64)", "system.integer(name.value() - low.value() - Fr::one(), 254)"),
            WIRES_14_430,
        ],
        tries: &[circuit(REVOKED, "a_revoked_unit_has_no_gap", "a revoked unit is accepted")] },
    Mutation { what: "64 bits between the name and the next",
        edits: &[
            edit(CIRCUIT, "system.integer(opening.gap_next - name.value() - Fr::one(), 64)", "system.integer(opening.gap_next - name.value() - Fr::one(), 254)"),
            WIRES_14_430,
        ],
        tries: &[circuit(REVOKED, "a_revoked_unit_has_no_gap", "a revoked unit is accepted")] },
    Mutation { what: "64 bits of the low end",
        edits: &[
            edit(CIRCUIT, "system.integer(opening.gap_low, 64)", "system.integer(opening.gap_low, 254)"),
            WIRES_14_430,
        ],
        tries: &[circuit(REVOKED, "a_revoked_unit_has_no_gap", "a revoked unit in a gap of the same leaf is accepted")] },
    Mutation { what: "48 bits of the nonce",
        edits: &[
            edit(CIRCUIT, "system.integer(opening.nonce, 48)", "system.integer(opening.nonce, 49)"),
            WIRES_14_241,
        ],
        tries: &[circuit(REVOKED, "a_revoked_unit_has_no_gap", "a nonce that reaches into the validity is accepted")] },
    Mutation { what: "the name has the issuer's position, and a liar who takes another",
        edits: &[
            edit(CIRCUIT, "&system.number(&position).times(", "&system.wire(Fr::from(2u8)).times("),
            WIRES_14_241,
        ],
        tries: &[circuit(EQUIVOCATION, "units_of_one_nonce_are_revoked_together", "a revoked unit is accepted")] },
    Mutation { what: "no gap is found for a fence",
        edits: &[edit(REVOCATION, "
            Ok(_) => Err(UnitError::Revoked { issuer, nonce }),
            Err(place) => Ok(Gap {", "
            Ok(place) | Err(place) => Ok(Gap {")],
        tries: &[circuit(EQUIVOCATION, "units_of_one_nonce_are_revoked_together", "left: Ok(())")] },
    // Index and nullifier.
    Mutation { what: "16 bits of the presentations that are left",
        edits: &[
            edit(CIRCUIT, "let others = system.integer(others, 16);", "let others = system.wire(others);"),
            edit(CIRCUIT, WIRES, "WIRES: usize = 14_225;"),
        ],
        tries: &[circuit(MORE, "an_index_is_below_the_number_of_presentations", "one index more is accepted")] },
    Mutation { what: "16 bits of the index",
        edits: &[
            edit(CIRCUIT, "let index = system.integer(opening.index, 16);", "let index = system.wire(opening.index);"),
            edit(CIRCUIT, WIRES, "WIRES: usize = 14_225;"),
        ],
        tries: &[circuit(MORE, "an_index_is_below_the_number_of_presentations", "an index below zero is accepted")] },
    Mutation { what: "the nullifier is that of secret, scope and index",
        edits: &[edit(CIRCUIT, "    system.equal(&computed, &nullifier);\n", "")],
        tries: &[
            circuit(NULLIFIER, "a_nullifier_is_bound_to_its_scope_and_index", "a nullifier of another scope is accepted"),
            circuit(PUBLIC, "a_statement_is_the_witness_own", "another nullifier is accepted"),
        ] },
    Mutation { what: "the registry refuses a nullifier that it has",
        edits: &[edit(REGISTRY, "if self.is_spent(&nullifier) {", "if false {")],
        tries: &[registry(MORE, "a_nullifier_is_spent_once_and_a_grant_presented_once", "left: Ok(Recorded")] },
    Mutation { what: "the registry keeps nullifiers",
        edits: &[edit(REGISTRY, "                self.nullifiers.insert(nullifier);\n", "")],
        tries: &[registry(MALLEABLE, "a_nullifier_is_spent_once_and_a_grant_presented_once", "left: Ok(Recorded")] },
    // The grant.
    Mutation { what: "the grant is in a constraint",
        edits: &[edit(CIRCUIT, "system.product(&grant, &grant);", "system.product(&request, &request);")],
        tries: &[
            circuit(FREE, "no_wire_is_free", "left: [5]"),
            circuit(PUBLIC, "a_statement_is_the_witness_own", "left: 0"),
        ] },
    // Not by a constraint: a set-up gives each public wire a row of its own, so a proof holds for all of them.
    Mutation { what: "the equation of a proof",
        edits: &[edit(VERIFY, "            Some(value) if value.0 == self.key.alpha_g1_beta_g2 => Ok(()),\n", "            Some(_) => Ok(()),\n")],
        tries: &[
            by("prover/tests/units_proofs.rs", PUBLIC, "a_proof_is_for_its_statement_alone", "another value 0"),
            by("prover/tests/units_proofs.rs", MALLEABLE, "a_proof_is_for_its_statement_alone", "another value 0"),
        ] },
    Mutation { what: "the v of a point of a line",
        edits: &[edit(CURVE, "    system.enforce(slope, &(&p.u - &u), &(&v + &p.v));\n", "")],
        tries: &[circuit(FREE, "the_circuit_costs_what_the_document_says", "left: [(\"grant\", 1)")] },
    Mutation { what: "the u of a point of a line",
        edits: &[edit(CURVE, "    system.enforce(slope, slope, &right);\n", "")],
        tries: &[circuit(FREE, "the_circuit_costs_what_the_document_says", "left: [(\"grant\", 1)")] },
    Mutation { what: "a quotient",
        edits: &[edit(SYSTEM, "        self.enforce(&quotient, b, a);\n", "")],
        tries: &[circuit(FREE, "the_circuit_costs_what_the_document_says", "left: [(\"grant\", 1)")] },
    Mutation { what: "the domain in the grant",
        edits: &[edit(GRANT, "        words[..32].copy_from_slice(&self.domain);\n", "")],
        tries: &[rules(REPLAY, "a_grant_is_for_what_it_says", "another domain")] },
    Mutation { what: "the verifier in the grant",
        edits: &[edit(GRANT, "        words[44..64].copy_from_slice(&self.verifier);\n", "")],
        tries: &[rules(REPLAY, "a_grant_is_for_what_it_says", "another verifier")] },
    Mutation { what: "the sender in the grant",
        edits: &[edit(GRANT, "        words[76..96].copy_from_slice(&self.sender);\n", "")],
        tries: &[rules(REPLAY, "a_grant_is_for_what_it_says", "another sender")] },
    Mutation { what: "the challenge in the grant",
        edits: &[edit(GRANT, "        words[224..256].copy_from_slice(&self.challenge);\n", "")],
        tries: &[rules(REPLAY, "a_grant_is_for_what_it_says", "another challenge")] },
    Mutation { what: "the registry asks whether the proof binds the grant",
        edits: &[edit(REGISTRY, "if digest != inputs.grant {", "if false {")],
        tries: &[registry(REPLAY, "whatever_the_grant_says_is_bound", "change 0")] },
    Mutation { what: "the domain in the registry's digest",
        edits: &[edit(REGISTRY, "            *domain,\n", "            Word([0; 32]),\n")],
        tries: &[registry(REPLAY, "whatever_the_grant_says_is_bound", "another registry")] },
    Mutation { what: "the verifier in the registry's digest",
        edits: &[edit(REGISTRY, "            self.verifier,\n", "            Word([0; 32]),\n")],
        tries: &[registry(REPLAY, "whatever_the_grant_says_is_bound", "change 0")] },
    Mutation { what: "the sender in the registry's digest",
        edits: &[edit(REGISTRY, "            self.sender,\n", "            Word([0; 32]),\n")],
        tries: &[registry(REPLAY, "whatever_the_grant_says_is_bound", "change 1")] },
    Mutation { what: "the challenge in the registry's digest",
        edits: &[edit(REGISTRY, "            self.challenge,\n", "            Word([0; 32]),\n")],
        tries: &[registry(REPLAY, "whatever_the_grant_says_is_bound", "change 6")] },
    Mutation { what: "the nullifier in the grant",
        edits: &[edit(GRANT, "        words[256..].copy_from_slice(&nullifier.into_bigint().to_bytes_be());\n", "")],
        tries: &[rules(ANEW, "a_grant_is_for_what_it_says", "another presentation")] },
    Mutation { what: "the nullifier in the registry's digest",
        edits: &[edit(REGISTRY, "            *nullifier,\n", "            Word([0; 32]),\n")],
        tries: &[registry(ANEW, "a_nullifier_is_spent_once_and_a_grant_presented_once", "left: Err(Presented")] },
    // Reuse.
    Mutation { what: "the uses in the grant",
        edits: &[edit(GRANT, "        words[190..192].copy_from_slice(&self.uses.to_be_bytes());\n", "")],
        tries: &[rules(OVERUSE, "a_grant_is_for_what_it_says", "other uses")] },
    Mutation { what: "the end of the chain in the grant",
        edits: &[edit(GRANT, "        words[140..160].copy_from_slice(&self.tip);\n", "")],
        tries: &[rules(OVERUSE, "a_grant_is_for_what_it_says", "another tip")] },
    Mutation { what: "uses are left",
        edits: &[edit(REGISTRY, "kept.remaining.checked_sub(1).ok_or(Refusal::UsedUp)?", "kept.remaining.saturating_sub(1)")],
        tries: &[registry(OVERUSE, "a_grant_is_used_as_often_as_it_says_and_by_each_link_once", "left: Err(Link")] },
    Mutation { what: "a link leads to the one that is kept",
        edits: &[
            edit(REGISTRY, "if got != kept.link {", "if false {"),
            edit(REGISTRY, "link.next() == kept.link && kept.remaining", "kept.remaining"),
        ],
        tries: &[registry(OVERUSE, "a_grant_is_used_as_often_as_it_says_and_by_each_link_once", "Ok(Used")] },
    Mutation { what: "the link takes the place of the one before",
        edits: &[edit(REGISTRY, "                kept.link = link;\n", "")],
        tries: &[registry(OVERUSE, "a_grant_is_used_as_often_as_it_says_and_by_each_link_once", "Ok(Used")] },
    Mutation { what: "a use is counted",
        edits: &[edit(REGISTRY, "                kept.remaining = remaining;\n", "")],
        tries: &[registry(OVERUSE, "a_grant_is_used_as_often_as_it_says_and_by_each_link_once", "left: Err(Link")] },
    // Ends.
    Mutation { what: "a grant that is over is not presented",
        edits: &[edit(REGISTRY, "if grant.expiry <= now {", "if false {")],
        tries: &[registry(ENDS, "a_grant_ends_when_it_says_and_no_later_than_its_request", "failed: a presentation")] },
    Mutation { what: "a grant that is over is not used",
        edits: &[edit(REGISTRY, "if kept.expiry <= now {", "if false {")],
        tries: &[registry(ENDS, "a_grant_ends_when_it_says_and_no_later_than_its_request", "failed: a use")] },
    Mutation { what: "a grant ends with its request",
        edits: &[edit(REGISTRY, "if grant.expiry > closes {", "if false {")],
        tries: &[registry(ENDS, "a_grant_ends_when_it_says_and_no_later_than_its_request", "left: Ok(Recorded")] },
    Mutation { what: "a use asks whether its request is open",
        edits: &[edit(REGISTRY, "        self.open_until(kept.verifier, kept.request, now)?;\n", "")],
        tries: &[registry(ENDS, "a_request_that_is_closed_or_over_ends_what_answers_it", "left: Ok(Used")] },
    Mutation { what: "a request closes with the validity of its units",
        edits: &[edit(REGISTRY, "let until = EXPIRY_MAX.min(valid_through);", "let until = EXPIRY_MAX.max(valid_through);")],
        tries: &[registry(OVER, "nothing_is_used_beyond_the_validity_of_its_unit", "left: Ok(Opened")] },
    // Roots.
    Mutation { what: "the end of a window",
        edits: &[edit(REGISTRY, "if now >= until || now < replaced {", "if now < replaced {")],
        tries: &[registry(STALE, "the_window_counts_from_the_replacement", "left: Ok(Recorded")] },
    Mutation { what: "a window does not begin before the root is replaced",
        edits: &[edit(REGISTRY, "if now >= until || now < replaced {", "if now >= until {")],
        tries: &[registry(STALE, "a_clock_that_was_ahead_keeps_no_root_alive", "left: Ok(Recorded")] },
    Mutation { what: "a window counts from the replacement, and not from the making",
        edits: &[edit(REGISTRY, "let replaced = next.published;", "let replaced = self.roots(tree).list[index].published;")],
        tries: &[registry(STALE, "the_window_counts_from_the_replacement", "replaced: Seconds(0)")] },
    Mutation { what: "a use asks for the window again",
        edits: &[edit(REGISTRY, "        self.in_window(Tree::Revocation, kept.revocation as usize, now)?;\n", "")],
        tries: &[registry(STALE, "the_window_counts_from_the_replacement", "a use asks again")] },
    Mutation { what: "a root that is published again has a new life",
        edits: &[edit(REGISTRY, "self.newest.insert(value, index);", "self.newest.entry(value).or_insert(index);")],
        tries: &[registry(STALE, "the_window_counts_from_the_replacement", "the newest root")] },
    // Who looks on.
    Mutation { what: "the scope in the nullifier",
        edits: &[edit(UNIT, "&[tag(\"nullifier\"), self.0, scope, Fr::from(index)]", "&[tag(\"nullifier\"), self.0, self.0, Fr::from(index)]")],
        tries: &[
            rules(COLLUSION, "what_two_verifiers_see_is_not_of_one_holder", "one nullifier in two scopes"),
            rules(COLLUSION, "verifiers_who_collude_cannot_tell_whose_presentations_they_have", "one holder, two verifiers"),
        ] },
    Mutation { what: "the index in the nullifier",
        edits: &[edit(UNIT, "&[tag(\"nullifier\"), self.0, scope, Fr::from(index)]", "&[tag(\"nullifier\"), self.0, scope, scope]")],
        tries: &[rules(COLLUSION, "what_two_verifiers_see_is_not_of_one_holder", "one nullifier of two indices")] },
    Mutation { what: "the salt of a chain",
        edits: &[edit(GRANT, "            .chain_update(salt)\n", "")],
        tries: &[rules(COLLUSION, "what_two_verifiers_see_is_not_of_one_holder", "one chain for two grants")] },
    Mutation { what: "the blinding of a subject",
        edits: &[edit(UNIT, "&[tag(\"subject\"), self.0, blinding]", "&[tag(\"subject\"), self.0, self.0]")],
        tries: &[rules(COLLUSION, "what_two_verifiers_see_is_not_of_one_holder", "one subject in two units")] },
    // Other tenants.
    Mutation { what: "the sender of a presentation",
        edits: &[edit(REGISTRY, "if grant.sender != sender {", "if false {")],
        tries: &[registry(TENANT, "the_sender_of_the_grant_alone_brings_it_and_its_uses", "failed: a presentation")] },
    Mutation { what: "the sender of a use",
        edits: &[edit(REGISTRY, "if kept.sender != sender {", "if false {")],
        tries: &[registry(TENANT, "the_sender_of_the_grant_alone_brings_it_and_its_uses", "failed: a use")] },
    Mutation { what: "a presentation is its verifier's and sender's to see",
        edits: &[edit(STATE, "        let kept = kept.filter(|it| it.verifier == party || it.sender == party);\n", "")],
        tries: &[by("deploy/tests/tests/scenarios.rs", TENANT, "a_state_of_one_rollup_counts_in_the_other", "left: \"grantSender\"")] },
    Mutation { what: "a spent nullifier is told of a proof that holds alone",
        edits: &[edit(STATE, "            Ok(_) | Err(Refusal::Spent { .. }) => Ok(()),\n", "            Ok(_) => Ok(()),\n")],
        tries: &[by("deploy/tests/tests/scenarios.rs", ORACLE, "what_does_not_hold_is_refused_and_not_recorded", "nullifierSpent")] },
    // Behind the box.
    Mutation { what: "a row's check",
        edits: &[edit("deploy/store/src/registry.rs", "if check != written {", "if false {")],
        tries: &[by("deploy/store/tests/registry.rs", ALTERED, "nobody_changes_a_row_without_being_found", "UPDATE registry SET change")] },
    Mutation { what: "a row's number",
        edits: &[edit("deploy/store/src/registry.rs", "if sequence != expected {", "if false {")],
        tries: &[by("deploy/store/tests/registry.rs", ALTERED, "nobody_changes_a_row_without_being_found", "DELETE FROM registry")] },
];

const fn edit(file: &'static str, takes: &'static str, puts: &'static str) -> Edit {
    Edit { file, takes, puts }
}

const fn by(
    file: &'static str,
    threat: &'static str,
    test: &'static str,
    says: &'static str,
) -> Try {
    Try {
        threat,
        file,
        test,
        says,
    }
}

const fn circuit(threat: &'static str, test: &'static str, says: &'static str) -> Try {
    by(USUAL, threat, test, says)
}

const fn rules(threat: &'static str, test: &'static str, says: &'static str) -> Try {
    by("prover/tests/units_rules.rs", threat, test, says)
}

const fn vectors(threat: &'static str, test: &'static str, says: &'static str) -> Try {
    by("prover/tests/units_vectors.rs", threat, test, says)
}

const fn registry(threat: &'static str, test: &'static str, says: &'static str) -> Try {
    by("scheduler/tests/registry.rs", threat, test, says)
}

/// The number of wires: what stands there, and there with one wire more, and with 254 bits instead of 64.
const WIRES: &str = "WIRES: usize = 14_240;";
const WIRES_14_241: Edit = edit(CIRCUIT, WIRES, "WIRES: usize = 14_241;");
const WIRES_14_430: Edit = edit(CIRCUIT, WIRES, "WIRES: usize = 14_430;");

const CIRCUIT: &str = "prover/src/units/circuit.rs";
const CURVE: &str = "prover/src/units/curve.rs";
const SYSTEM: &str = "prover/src/units/system.rs";
const BABY_JUBJUB: &str = "prover/src/units/baby_jubjub.rs";
const ASKED: &str = "prover/src/units/request.rs";
const REVOCATION: &str = "prover/src/units/revocation.rs";
const GRANT: &str = "prover/src/units/grant.rs";
const VERIFY: &str = "prover/src/groth16/verify.rs";
const UNIT: &str = "prover/src/units/unit.rs";
const REGISTRY: &str = "scheduler/src/registry.rs";
const STATE: &str = "deploy/node/src/service/state.rs";

const FORGED: &str = "forged unit, another issuer's signature";
const SPELLINGS: &str =
    "a number that is written in two ways: digits that are no bits, a challenge above the modulus";
const ISSUER: &str = "an issuer of one's own, another position";
const VOUCHES: &str =
    "an issuer that vouches for what it is not accepted for: customs for who somebody is";
const KEY: &str = "a key of small order or off the curve";
const SUBJECT: &str = "swapped subject: somebody else's unit";
const SECRETS: &str = "two secrets: one for the subject, one for the nullifier";
const CLAIM: &str = "wrong claim, claim of more than 64 bits, below zero";
const BOUND: &str = "a bound missed by one, widened, or put on another claim";
const SET: &str = "not in the set; the set left out; zero as an implicit member";
const EXPIRED: &str = "expired; a validity that wraps";
const SCHEMA: &str = "another schema";
const REVOKED: &str = "forged non-revocation: a fence, a gap of one's own, an empty place, the same leaf split otherwise, \
     a nonce that reaches into the validity";
const EQUIVOCATION: &str = "issuer equivocation: two units of one nonce";
const MORE: &str = "more presentations than allowed";
const NULLIFIER: &str = "a nullifier of another scope or index";
const PUBLIC: &str = "a public value changed after proving";
const FREE: &str = "a wire that a prover may choose";
const MALLEABLE: &str = "malleable proof";
const REPLAY: &str = "replay to another verifier, chain or sender";
const ANEW: &str = "the grant again under another nullifier, to begin its chain anew";
const OVERUSE: &str = "over-use";
const ENDS: &str = "a grant or a request that is over";
const OVER: &str = "used when the unit is over";
const ORACLE: &str = "asking whether a nullifier that was seen is spent";
const STALE: &str = "stale root";
const COLLUSION: &str = "colluding verifiers, who look for one holder in two presentations";
const TENANT: &str = "one tenant uses another's grant, or looks at what is another's";
const ALTERED: &str = "a registry that somebody alters on the disk";
