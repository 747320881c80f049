//! A proving key, laid out on a device.
//!
//! A key is large and a proof reads all of it, so nothing of it is copied here: each query is a
//! slice of the file's bytes, mapped or not, and a device whose memory is the host's keeps the
//! slice itself. What is computed when a key is loaded does not grow with it: the verification
//! key, made ready for the self-check.
//!
//! Loading believes the key's points. Whether they are what they should be is asked once, by
//! [`check`](super::check()), when a key is new; afterwards its digest stands for the answer.

use std::sync::Arc;

use caldera_kernels::{
    BasesId, CurveId, Device, DeviceError, Group, Held, MatrixId, Original, Plan, Work,
};

use super::assemble::{self, Assembly};
use super::verify::{self, PointFault, Verifier, VerifyError};
use crate::format::json::{PublicInputs, TargetElement, VerificationKey};
use crate::format::{Part, Zkey, ZkeyHeader};

/// A key on a device: what any number of proofs, one after another or at once, are made with.
///
/// Dropping the last reference frees what the device holds of it.
pub struct ProvingKey {
    held: Held<Arc<dyn Device>>,
    header: ZkeyHeader,
    bases: QueryBases,
    matrix: MatrixId,
    /// Entries of the matrix, and their bytes.
    coefficients: (usize, usize),
    /// Bytes of the points and the matrix.
    copy_len: usize,
    verification_key: VerificationKey,
    verifier: Box<dyn Verifier>,
}

/// The five queries on the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryBases {
    pub(super) a: BasesId,
    pub(super) b1: BasesId,
    pub(super) b2: BasesId,
    /// Absent for a circuit without private wires: there is nothing to sum.
    pub(super) c: Option<BasesId>,
    pub(super) h: BasesId,
}

/// Why a key cannot be proved with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A point of the verification key is not a point, so no proof could ever be checked.
    #[error("verification key")]
    VerificationKey(#[from] VerifyError),
    /// The device had no room or refused the key's shape.
    #[error("device")]
    Device(#[from] DeviceError),
}

impl ProvingKey {
    /// Makes a key known to a device and its verification key ready. Takes milliseconds and no
    /// memory to speak of where the device's memory is the host's, a copy of the key elsewhere.
    pub fn load(zkey: &Zkey, device: Arc<dyn Device>) -> Result<Arc<ProvingKey>, KeyError> {
        let header = zkey.header().clone();
        let curve = header.curve;
        let (verification_key, verifier) = prepared(zkey)?;

        let mut held = Held::new(Arc::clone(&device));
        let mut query = |part| {
            let group = match part {
                Part::B2 => Group::G2,
                _ => Group::G1,
            };
            held.bases(curve, group, zkey.part(part).clone())
        };
        let bases = QueryBases {
            a: query(Part::A)?,
            b1: query(Part::B1)?,
            b2: query(Part::B2)?,
            c: match zkey.part(Part::C).is_empty() {
                true => None,
                false => Some(query(Part::C)?),
            },
            h: query(Part::H)?,
        };
        let matrix = held.matrix(
            curve,
            header.domain as usize,
            header.wires as usize,
            zkey.part(Part::Coefficients).clone(),
        )?;
        let copied = [
            Part::A,
            Part::B1,
            Part::B2,
            Part::C,
            Part::H,
            Part::Coefficients,
        ];
        Ok(Arc::new(ProvingKey {
            copy_len: copied.iter().map(|part| zkey.part(*part).len()).sum(),
            held,
            header,
            bases,
            matrix,
            coefficients: (
                zkey.coefficient_count(),
                zkey.part(Part::Coefficients).len(),
            ),
            verification_key,
            verifier,
        }))
    }

    /// The curve of the key.
    pub fn curve(&self) -> CurveId {
        self.header.curve
    }

    /// How many wires the circuit has, the constant included: the length of a witness.
    pub fn wires(&self) -> usize {
        self.header.wires as usize
    }

    /// How many of them are public, without the constant.
    pub fn public_count(&self) -> usize {
        self.header.public as usize
    }

    /// The size of the domain: a power of two above the number of constraints.
    pub fn domain_size(&self) -> usize {
        self.header.domain as usize
    }

    /// The key that judges this key's proofs.
    pub fn verification_key(&self) -> &VerificationKey {
        &self.verification_key
    }

    /// The device that holds the key.
    pub fn device(&self) -> &Arc<dyn Device> {
        self.held.device()
    }

    /// Work that makes tables for this key: multiples of its points in at most so many bytes, with
    /// which proofs take less time. Jobs made after a lane of it has ended use its tables; better
    /// run after a proof with this key than before, for the device has seen then what the scalars
    /// are like. Dropped half-way, it leaves the tables that are made already.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn tables(&self, bytes: usize) -> Result<Arc<dyn Plan>, DeviceError> {
        self.device().plan(&Work::Tables {
            bases: self.queries().collect(),
            bytes,
        })
    }

    /// Bytes of the tables that new jobs use.
    pub fn tables_bytes(&self) -> usize {
        self.queries()
            .filter_map(|id| self.device().tables_bytes(id).ok())
            .sum()
    }

    /// Gives all tables up, at once for new jobs; those that are under way keep what they use to
    /// their end.
    pub fn tables_free(&self) {
        for id in self.queries() {
            self.device().tables_free(id);
        }
    }

    /// Bytes of a copy of the key on silicon that has memory of its own: its points and its matrices, as they
    /// are in the file.
    pub fn copy_len(&self) -> usize {
        self.copy_len
    }

    /// The same on a member of the device beside the host, of what that one keeps; see [`Device::copy_len`].
    pub fn copy_len_on(&self, member: usize) -> usize {
        let each = self.originals();
        each.map(|of| self.device().copy_len(member, of)).sum()
    }

    /// Bytes that a member of the device beside the host has of the key; see [`Device::copy_bytes`].
    pub fn copy_bytes(&self, member: usize) -> usize {
        let each = self.originals();
        each.map(|of| self.device().copy_bytes(member, of)).sum()
    }

    /// Gives up a member's copy of the key: proofs that are under way stay right; see [`Device::copy_free`].
    pub fn copy_free(&self, member: usize) {
        for of in self.originals() {
            self.device().copy_free(member, of);
        }
    }

    /// Whether jobs that were laid out, and are not dropped yet, use a member's copy of the key.
    pub fn copy_is_used(&self, member: usize) -> bool {
        self.originals()
            .any(|of| self.device().copy_is_used(member, of))
    }

    /// Brings what is missing of the key to a member, for jobs that are made from then on.
    ///
    /// # Errors
    /// If it has no room, or is lost; what came until then stays.
    pub fn copy(&self, member: usize) -> Result<(), DeviceError> {
        self.originals()
            .try_for_each(|of| self.device().copy(member, of))
    }

    /// As [`ProvingKey::tables`], on a member of the device beside the host that has a copy of all the key's points; see
    /// [`Device::copy_tables`].
    ///
    /// # Errors
    /// If it has not, makes none, has no room, or is lost.
    pub fn copy_tables(&self, member: usize, bytes: usize) -> Result<Arc<dyn Plan>, DeviceError> {
        let bases: Vec<BasesId> = self.queries().collect();
        self.device().copy_tables(member, &bases, bytes)
    }

    /// Bytes of the tables that a member beside the host has for new jobs.
    pub fn copy_tables_bytes(&self, member: usize) -> usize {
        let each = self.queries();
        each.map(|id| self.device().copy_tables_bytes(member, id))
            .sum()
    }

    /// Gives those up, as [`ProvingKey::tables_free`] does the host's.
    pub fn copy_tables_free(&self, member: usize) {
        for id in self.queries() {
            self.device().copy_tables_free(member, id);
        }
    }

    fn originals(&self) -> impl Iterator<Item = Original> {
        let matrix = std::iter::once(Original::Matrix(self.matrix));
        self.queries().map(Original::Bases).chain(matrix)
    }

    fn queries(&self) -> impl Iterator<Item = BasesId> {
        let QueryBases { a, b1, b2, c, h } = self.bases;
        [a, b1, b2, h].into_iter().chain(c)
    }

    pub(super) fn bases(&self) -> &QueryBases {
        &self.bases
    }

    pub(super) fn matrix(&self) -> MatrixId {
        self.matrix
    }

    /// How many entries the matrix has, and how many bytes they take.
    pub(super) fn coefficients(&self) -> (usize, usize) {
        self.coefficients
    }

    pub(super) fn verifier(&self) -> &dyn Verifier {
        &*self.verifier
    }

    /// What turns five sums into a proof with this key.
    pub(super) fn assembly(&self) -> Box<dyn Assembly> {
        assemble::assembly(&self.header)
    }

    /// The public part of a witness whose elements have been checked: elements 1 to
    /// `public_count`.
    pub(super) fn public_inputs(&self, elements: &[u8]) -> PublicInputs {
        let (elements, _) = elements.as_chunks::<32>();
        let public = elements[1..=self.public_count()].to_vec();
        PublicInputs::new(self.curve(), public).expect("the elements have been checked")
    }
}

/// The verification key that belongs to a proving key, as `snarkjs zkey export verificationkey`
/// makes it. All its points are checked.
pub fn verification_key(zkey: &Zkey) -> Result<VerificationKey, VerifyError> {
    prepared(zkey).map(|(key, _)| key)
}

fn prepared(zkey: &Zkey) -> Result<(VerificationKey, Box<dyn Verifier>), VerifyError> {
    let header = zkey.header();
    let curve = header.curve;
    let point = |what, group, bytes: &[u8]| {
        let fault = PointFault::Range;
        assemble::canonical(curve, group, bytes).ok_or(VerifyError::Point { what, fault })
    };
    let ic = zkey.part(Part::Ic).chunks(curve.point_bytes(Group::G1));
    let mut key = VerificationKey {
        curve,
        alpha_1: point("vk_alpha_1", Group::G1, &header.alpha_g1)?,
        beta_2: point("vk_beta_2", Group::G2, &header.beta_g2)?,
        gamma_2: point("vk_gamma_2", Group::G2, &header.gamma_g2)?,
        delta_2: point("vk_delta_2", Group::G2, &header.delta_g2)?,
        alpha_beta_12: None,
        ic: ic
            .map(|bytes| point("IC", Group::G1, bytes))
            .collect::<Result<_, _>>()?,
    };
    // The verifier has no use for these two, the prover has.
    point("vk_beta_1", Group::G1, &header.beta_g1)?;
    point("vk_delta_1", Group::G1, &header.delta_g1)?;
    let verifier = verify::prepare(&key)?;
    key.alpha_beta_12 = TargetElement::from_bytes(curve, &verifier.alpha_beta());
    Ok((key, verifier))
}

impl std::fmt::Debug for ProvingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProvingKey")
            .field("curve", &self.curve())
            .field("wires", &self.wires())
            .field("public", &self.public_count())
            .field("domain", &self.domain_size())
            .finish_non_exhaustive()
    }
}
