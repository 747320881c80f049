//! A small world of state units, and a judge of witnesses that shares nothing with the prover.

#![allow(dead_code, reason = "each test file uses its own part of this one")]

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::PrimeField;
use caldera_prover::format::{R1cs, Wtns};
use caldera_prover::units::{
    AcceptedIssuer, Bounds, Grant, HolderSecret, IssuerSecret, IssuerTree, Opening, Presentation,
    Request, RevocationTree, ScopeName, Unit, UnitContent, UnitError, ValueSet, circuit,
    domain_native, keccak_element, poseidon, seed, tip, witness,
};

/// Everything that a presentation takes.
pub(crate) struct World {
    pub(crate) secret: HolderSecret,
    pub(crate) blinding: Fr,
    pub(crate) issuer: IssuerSecret,
    pub(crate) issuers: IssuerTree,
    pub(crate) revoked: RevocationTree,
    pub(crate) unit: Unit,
    pub(crate) request: Request,
    pub(crate) grant: Grant,
    pub(crate) index: u16,
}

/// An issuer by number.
pub(crate) fn issuer(number: u8) -> IssuerSecret {
    IssuerSecret::from_seed(&[number; 32])
}

/// The same, accepted for units of the world's schema.
pub(crate) fn accepted(number: u8) -> AcceptedIssuer {
    AcceptedIssuer {
        key: issuer(number).key(),
        schema: keccak_element(SCHEMA),
    }
}

/// What the world's unit is about.
const SCHEMA: &[u8] = b"example schema v1";
/// Where issuer 3 stands in the world's tree.
pub(crate) const POSITION: u16 = 3;
/// The nonce of the world's unit.
pub(crate) const NONCE: u64 = 1000;

impl World {
    /// An honest one: a unit of five claims, four bounds, a set, one neighbour revoked on each side.
    pub(crate) fn new() -> World {
        let secret = HolderSecret::from_bytes(&[7; 32]).expect("7.. is below the modulus");
        let blinding = Fr::from(123_456_789u64);
        let schema = keccak_element(SCHEMA);
        let mut claims = [0; 16];
        claims[..5].copy_from_slice(&[756, 90_000, 2, 1_999, u64::MAX]);
        let content = UnitContent {
            schema,
            subject: secret.subject(blinding),
            claims,
            valid_until: 1_900_000_000,
            nonce: NONCE,
        };
        let unit = content.issue(&issuer(3)).expect("numbers within range");
        let keys: Vec<_> = (0..6).map(accepted).collect();
        let scope = ScopeName {
            scenario: ScopeName::part("retail"),
            verifier: ScopeName::part("shop"),
            purpose: ScopeName::part("instalment"),
            epoch: 12,
        };
        let request = Request {
            schema,
            scope: scope.element(),
            valid_through: 1_800_000_000,
            presentations: 3,
            bounds: [
                Bounds::at_least(1, 90_000),
                Bounds::at_most(2, 2),
                Bounds::between(3, 1_999, 2_001),
                Bounds::equal(4, u64::MAX),
            ],
            set: Some(ValueSet::new(0, &[40, 276, 756]).expect("a set of three")),
        };
        let chain = seed(&secret, &[1; 32]);
        let grant = Grant {
            domain: domain_native(&[9; 32]),
            verifier: [0x11; 20],
            sender: [0x22; 20],
            request: request.element().expect("numbers within range"),
            tip: tip(&chain, 5),
            uses: 5,
            expiry: 1_850_000_000,
            challenge: [0x33; 32],
        };
        World {
            secret,
            blinding,
            issuer: issuer(3),
            issuers: IssuerTree::new(&keys).expect("six issuers"),
            revoked: RevocationTree::new(&[
                (POSITION, NONCE - 1),
                (POSITION, NONCE + 1),
                (1, NONCE),
            ])
            .expect("three revoked units"),
            unit,
            request,
            grant,
            index: 2,
        }
    }

    /// The unit with other content, signed again, and a grant for the request as it is now.
    pub(crate) fn sign(&mut self) {
        let content = self.unit.content.clone();
        self.unit = content.issue(&self.issuer).expect("numbers within range");
        self.grant.request = self.request.element().expect("numbers within range");
    }

    pub(crate) fn open(&self) -> Result<Opening, UnitError> {
        Presentation {
            secret: &self.secret,
            blinding: self.blinding,
            unit: &self.unit,
            issuers: &self.issuers,
            revoked: &self.revoked,
            request: &self.request,
            grant: &self.grant,
            index: self.index,
        }
        .open()
    }

    pub(crate) fn opening(&self) -> Opening {
        self.open().expect("an honest world")
    }
}

type Terms = Vec<(usize, Fr)>;

/// The circuit's constraints, read back from its file.
pub(crate) fn rows() -> &'static [[Terms; 3]] {
    static ROWS: OnceLock<Vec<[Terms; 3]>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let r1cs = R1cs::parse(circuit().clone()).expect("a good file");
        let rows = r1cs.constraints().map(|constraint| {
            [constraint.a, constraint.b, constraint.c].map(|side| {
                let terms = side.terms();
                terms
                    .map(|(wire, c)| (wire as usize, Fr::from_le_bytes_mod_order(c)))
                    .collect()
            })
        });
        rows.collect()
    })
}

pub(crate) fn values(witness: &Wtns) -> Vec<Fr> {
    let elements = witness.elements().chunks_exact(32);
    elements.map(Fr::from_le_bytes_mod_order).collect()
}

pub(crate) fn holds(row: &[Terms; 3], values: &[Fr]) -> bool {
    let [a, b, c] = row.each_ref().map(|side| {
        side.iter()
            .map(|(wire, coefficient)| *coefficient * values[*wire])
            .sum::<Fr>()
    });
    a * b == c
}

/// The first constraint that a witness does not satisfy.
pub(crate) fn broken(witness: &Wtns) -> Option<usize> {
    let values = values(witness);
    rows().iter().position(|row| !holds(row, &values))
}

/// Whether the circuit is satisfied by the witness of an opening.
pub(crate) fn satisfied(opening: &Opening) -> bool {
    broken(&witness(opening)).is_none()
}

pub(crate) fn decimal(text: &str) -> Fr {
    text.parse().expect("a decimal number below the modulus")
}

/// The hashes of `docs/state-units.md`, written down a second time over whatever an opening has
/// in it: what one who lies in one place would do so that all others agree with the lie.
pub(crate) trait Adapt {
    /// What an issuer signs.
    fn message(&self) -> Fr;
    /// Has the issuer sign the unit as it is now.
    fn sign_by(&mut self, issuer: &IssuerSecret);
    /// Computes the nullifier anew.
    fn count(&mut self);
    /// Computes the request anew.
    fn ask(&mut self);
}

impl Adapt for Opening {
    fn message(&self) -> Fr {
        let subject = poseidon::hash(&[tag("subject"), self.secret, self.blinding]);
        let claims = poseidon::hash(&self.claims);
        let validity = self.nonce + self.valid_until * Fr::from(1u64 << 48);
        poseidon::hash(&[tag("unit"), self.schema, subject, claims, validity])
    }

    fn sign_by(&mut self, issuer: &IssuerSecret) {
        self.signature = issuer.sign(self.message());
    }

    fn count(&mut self) {
        let inputs = [tag("nullifier"), self.secret, self.scope, self.index];
        self.statement.nullifier = poseidon::hash(&inputs);
    }

    fn ask(&mut self) {
        let mut inputs = vec![
            tag("request"),
            self.schema,
            self.scope,
            self.valid_through,
            self.presentations,
            Fr::from(self.selectors),
        ];
        inputs.extend(self.bounds.iter().flat_map(|bounds| [bounds.0, bounds.1]));
        inputs.push(self.set_root);
        self.statement.request = poseidon::hash(&inputs);
    }
}

fn tag(purpose: &str) -> Fr {
    keccak_element(format!("caldera state unit v1 {purpose}").as_bytes())
}
