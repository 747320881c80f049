//! What `presentation.circom` is given: the signals of an opening. Compiled into the test that puts the same
//! inputs to both circuits, and into the bench that has both prove the same presentation.

use ark_bn254::Fr;
use caldera_prover::units::{Opening, keccak_element};
use serde_json::{Value, json};

/// What keeps the hashes of one purpose apart from all others.
pub(crate) fn tag(purpose: &str) -> Fr {
    keccak_element(format!("caldera state unit v1 {purpose}").as_bytes())
}

/// An opening as the inputs of presentation.circom.
pub(crate) fn signals(o: &Opening) -> Value {
    let number = |value: &Fr| Value::from(value.to_string());
    let list = |values: &[Fr]| Value::from(values.iter().map(number).collect::<Vec<_>>());
    let families = |families: &[[Fr; 8]]| {
        Value::from(
            families
                .iter()
                .map(|family| list(family))
                .collect::<Vec<_>>(),
        )
    };
    let bounds = |side: fn(&(Fr, Fr)) -> Fr| list(&o.bounds.each_ref().map(side));
    let selector: Vec<u32> = (0..5).map(|slot| o.selectors >> (4 * slot) & 15).collect();
    json!({
        "issuersRoot": number(&o.statement.issuers_root),
        "revocationRoot": number(&o.statement.revocation_root),
        "request": number(&o.statement.request),
        "nullifier": number(&o.statement.nullifier),
        "grant": number(&o.statement.grant),
        "tagSubject": number(&tag("subject")),
        "tagNullifier": number(&tag("nullifier")),
        "tagRequest": number(&tag("request")),
        "tagUnit": number(&tag("unit")),
        "secret": number(&o.secret),
        "blinding": number(&o.blinding),
        "scope": number(&o.scope),
        "index": number(&o.index),
        "presentations": number(&o.presentations),
        "claims": list(&o.claims),
        "selector": selector,
        "least": bounds(|bounds| bounds.0),
        "greatest": bounds(|bounds| bounds.1),
        "setRoot": number(&o.set_root),
        "setIndex": o.set_index,
        "setFamilies": families(&o.set_families),
        "schema": number(&o.schema),
        "validThrough": number(&o.valid_through),
        "validUntil": number(&o.valid_until),
        "nonce": number(&o.nonce),
        "ax": number(&o.issuer.x),
        "ay": number(&o.issuer.y),
        "rx": number(&o.signature.r.x),
        "ry": number(&o.signature.r.y),
        "s": o.signature.s.to_string(),
        "position": o.position,
        "siblings": list(&o.siblings),
        "gapLow": number(&o.gap_low),
        "gapNext": number(&o.gap_next),
        "gapIndex": o.gap_index,
        "gapFamilies": families(&o.gap_families),
    })
}
