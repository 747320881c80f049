//! From a unit and a request to a statement, and to all that the circuit is given.

use ark_bn254::Fr;
use ark_ff::{One, Zero};
use caldera_kernels::CurveId;
use zeroize::Zeroize;

use super::baby_jubjub::{Point, Scalar, Signature};
use super::grant::Grant;
use super::request::{Request, SET_LEVELS};
use super::revocation::{GAP_LEVELS, RevocationTree};
use super::tree::{AcceptedIssuer, ISSUER_LEVELS, IssuerTree, WIDE};
use super::unit::{HolderSecret, Unit, element, element_bytes};
use super::{BOUNDS, CLAIMS, UnitError, within};
use crate::format::json::PublicInputs;

/// What a proof says to the world: its five public values, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// Whose units are accepted: [`IssuerTree::root`].
    pub issuers_root: Fr,
    /// Which units are revoked: [`RevocationTree::root`].
    pub revocation_root: Fr,
    /// What was asked: [`Request::element`].
    pub request: Fr,
    /// What counts this presentation: [`HolderSecret::nullifier`].
    pub nullifier: Fr,
    /// What is allowed: [`Grant::element`].
    pub grant: Fr,
}

impl Statement {
    /// The statement as a proof's public inputs.
    pub fn public_inputs(&self) -> PublicInputs {
        let values = self.elements().iter().map(element_bytes).collect();
        PublicInputs::new(CurveId::Bn254, values).expect("field elements are below the modulus")
    }

    /// A statement from a proof's public inputs.
    pub fn from_public_inputs(inputs: &PublicInputs) -> Result<Statement, UnitError> {
        let got = inputs.len();
        let values: Vec<&[u8; 32]> = inputs.iter().collect();
        let &[issuers, revocation, request, nullifier, grant] = &values[..] else {
            return Err(UnitError::Statement { got });
        };
        if inputs.curve() != CurveId::Bn254 {
            return Err(UnitError::Statement { got });
        }
        Ok(Statement {
            issuers_root: element("the root of the issuers", issuers)?,
            revocation_root: element("the root of the revoked units", revocation)?,
            request: element("the request", request)?,
            nullifier: element("the nullifier", nullifier)?,
            grant: element("the grant", grant)?,
        })
    }

    /// The values, in the order of the public inputs.
    pub fn elements(&self) -> [Fr; 5] {
        let &Statement {
            issuers_root,
            revocation_root,
            request,
            nullifier,
            grant,
        } = self;
        [issuers_root, revocation_root, request, nullifier, grant]
    }
}

/// What a holder presents, and to what end.
#[derive(Debug, Clone, Copy)]
pub struct Presentation<'a> {
    /// The holder's secret.
    pub secret: &'a HolderSecret,
    /// The blinding of the unit's subject.
    pub blinding: Fr,
    /// The unit.
    pub unit: &'a Unit,
    /// The accepted issuers.
    pub issuers: &'a IssuerTree,
    /// The revoked units.
    pub revoked: &'a RevocationTree,
    /// What the verifier asks.
    pub request: &'a Request,
    /// What the holder allows.
    pub grant: &'a Grant,
    /// The number of the presentation in its scope, from 0. One that was used already gives the
    /// same nullifier, which the registry refuses.
    pub index: u16,
}

impl Presentation<'_> {
    /// Opens it for the circuit, if every rule of the statement holds.
    pub fn open(&self) -> Result<Opening, UnitError> {
        let &Presentation {
            secret,
            blinding,
            unit,
            issuers,
            revoked,
            request,
            grant,
            index,
        } = self;
        let request_element = request.element()?;
        let content = &unit.content;
        unit.check()?;
        if secret.subject(blinding) != content.subject {
            return Err(UnitError::Subject);
        }
        if content.schema != request.schema {
            return Err(UnitError::Schema);
        }
        if content.valid_until < request.valid_through {
            return Err(UnitError::Expired {
                expected_min: request.valid_through,
                got: content.valid_until,
            });
        }
        let last = u64::from(request.presentations) - 1;
        within("the index of a presentation", 0..=last, index.into())?;
        for (slot, bounds) in request.bounds.iter().enumerate() {
            let claim = bounds.claim;
            let value = content.claims[usize::from(claim)];
            if !(bounds.least..=bounds.greatest).contains(&value) {
                return Err(UnitError::Bounds { slot, claim });
            }
        }
        let (set_index, set_families) = match &request.set {
            Some(set) => set.find(content.claims[usize::from(set.claim())])?,
            // The circuit asks for some path all the same: one to the claim that it would ask about.
            None => (0, without_set(Fr::from(content.claims[0]))),
        };
        if grant.request != request_element {
            return Err(UnitError::GrantRequest);
        }
        let nullifier = secret.nullifier(request.scope, index);
        let path = issuers.path(&AcceptedIssuer {
            key: unit.issuer,
            schema: content.schema,
        })?;
        let gap = revoked.gap(path.position, content.nonce)?;
        Ok(Opening {
            statement: Statement {
                issuers_root: issuers.root(),
                revocation_root: revoked.root(),
                request: request_element,
                nullifier,
                grant: grant.element(nullifier)?,
            },
            secret: secret.element(),
            blinding,
            scope: request.scope,
            index: Fr::from(index),
            presentations: Fr::from(request.presentations),
            claims: content.claims.map(Fr::from),
            selectors: request.selectors(),
            bounds: request
                .bounds
                .map(|bounds| (Fr::from(bounds.least), Fr::from(bounds.greatest))),
            set_root: request.set_root(),
            set_index,
            set_families,
            schema: request.schema,
            valid_through: Fr::from(request.valid_through),
            valid_until: Fr::from(content.valid_until),
            nonce: Fr::from(content.nonce),
            issuer: unit.issuer.point(),
            signature: unit.signature,
            position: path.position,
            siblings: path.siblings,
            gap_low: Fr::from(gap.low),
            gap_next: Fr::from(gap.next),
            gap_index: gap.index,
            gap_families: gap.families,
        })
    }
}

/// All that the circuit is given: the statement and what is behind it. The fields are open, so
/// that tests, and whoever audits the circuit, can put wrong values in; [`Presentation::open`]
/// makes right ones. Secret, and overwritten when dropped.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names are those of docs/state-units.md")]
pub struct Opening {
    pub statement: Statement,
    pub secret: Fr,
    pub blinding: Fr,
    pub scope: Fr,
    pub index: Fr,
    pub presentations: Fr,
    pub claims: [Fr; CLAIMS],
    /// The claims asked about, four bits each.
    pub selectors: u32,
    /// The least and the greatest.
    pub bounds: [(Fr, Fr); BOUNDS],
    /// Zero if there is no set.
    pub set_root: Fr,
    pub set_index: u32,
    pub set_families: [[Fr; WIDE]; SET_LEVELS],
    pub schema: Fr,
    pub valid_through: Fr,
    pub valid_until: Fr,
    pub nonce: Fr,
    pub issuer: Point,
    pub signature: Signature,
    pub position: u16,
    pub siblings: [Fr; ISSUER_LEVELS],
    pub gap_low: Fr,
    pub gap_next: Fr,
    pub gap_index: u32,
    pub gap_families: [[Fr; WIDE]; GAP_LEVELS],
}

impl Opening {
    /// Something of the right shape, for a system that records: its values mean nothing.
    pub(super) fn blank() -> Opening {
        let zero = Fr::zero();
        Opening {
            statement: Statement {
                issuers_root: zero,
                revocation_root: zero,
                request: zero,
                nullifier: zero,
                grant: zero,
            },
            secret: zero,
            blinding: zero,
            scope: zero,
            index: zero,
            presentations: Fr::one(),
            claims: [zero; CLAIMS],
            selectors: 0,
            bounds: [(zero, zero); BOUNDS],
            set_root: zero,
            set_index: 0,
            set_families: [[zero; WIDE]; SET_LEVELS],
            schema: zero,
            valid_through: zero,
            valid_until: zero,
            nonce: zero,
            issuer: Point::base(),
            signature: Signature {
                r: Point::base(),
                s: Scalar::zero(),
            },
            position: 0,
            siblings: [zero; ISSUER_LEVELS],
            gap_low: zero,
            gap_next: zero,
            gap_index: 0,
            gap_families: [[zero; WIDE]; GAP_LEVELS],
        }
    }
}

/// A path from a claim to a root that nobody asked for.
fn without_set(claim: Fr) -> [[Fr; WIDE]; SET_LEVELS] {
    let mut node = claim;
    std::array::from_fn(|_| {
        let mut family = [Fr::zero(); WIDE];
        family[0] = node;
        node = super::poseidon::hash(&family);
        family
    })
}

impl Opening {
    /// Overwrites everything. Beside the secret itself much tells whose unit it is: the nonce, the signature,
    /// the places in the trees.
    fn wipe(&mut self) {
        self.visit(&mut |element| element.zeroize());
        self.signature.s.zeroize();
        self.selectors.zeroize();
        self.set_index.zeroize();
        self.position.zeroize();
        self.gap_index.zeroize();
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field that is forgotten keeps its value here.
    #[test]
    fn nothing_is_left_of_an_opening_that_is_wiped() {
        let mut opening = Opening::blank();
        let mut next = Fr::one();
        opening.visit(&mut |element| {
            next += Fr::one();
            *element = next;
        });
        opening.signature.s = Scalar::from(7u8);
        opening.selectors = 1;
        opening.set_index = 2;
        opening.gap_index = 3;
        opening.position = 4;
        opening.wipe();
        let bytes = opening.to_bytes();
        assert!(bytes[Opening::MAGIC.len()..].iter().all(|byte| *byte == 0));
    }
}
