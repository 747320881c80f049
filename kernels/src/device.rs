//! The one trait behind which all silicon stands.
//!
//! A `Device` keeps vectors of scalars, sets of base points and sparse matrices, names them by
//! ids, and turns a piece of `Work` into a `Plan`. Nothing runs when a plan is made: a plan is a
//! chain of stages, a stage is a set of lanes, and a lane is a sequence of *quanta* that run in
//! order. Lanes of one stage are independent of each other, so any number of threads may carry
//! one stage forward at once; one lane is carried by one thread at a time. A quantum runs to
//! completion and is sized to take at most [`DeviceInfo::quantum`]; between two quanta everything
//! that matters is in state that the device keeps (buckets, partly transformed vectors), so a
//! core or a GPU can change hands at any quantum boundary and no work is lost. Preemption is a
//! return, not a callback.
//!
//! The trait is coarse on purpose (one call a stage, one call a quantum) and object-safe, because
//! it has several real implementations: the prover never learns which one it is given.
//!
//! Byte layouts are those of snarkjs's files, so that a mapped key is used as it lies:
//! scalars are little-endian; points are little-endian Montgomery coordinates, `x || y`, with
//! `c0` before `c1` in G2, and infinity is all zero bytes; R = 2^(8 * size of a field element).

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use zeroize::Zeroizing;

/// A pairing-friendly curve whose scalar field and groups a device computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CurveId {
    /// BN254, also called bn128 and alt_bn128: 32-byte base field, 32-byte scalar field.
    Bn254,
    /// BLS12-381: 48-byte base field, 32-byte scalar field.
    Bls12_381,
}

/// Which of the two source groups of the pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Points over the base field.
    G1,
    /// Points over its quadratic extension.
    G2,
}

impl CurveId {
    /// Bytes of one scalar.
    pub const fn scalar_bytes(self) -> usize {
        32
    }

    /// Bytes of one coordinate in the base field.
    pub const fn base_bytes(self) -> usize {
        match self {
            CurveId::Bn254 => 32,
            CurveId::Bls12_381 => 48,
        }
    }

    /// Bytes of one affine point of `group`.
    pub const fn point_bytes(self, group: Group) -> usize {
        match group {
            Group::G1 => 2 * self.base_bytes(),
            Group::G2 => 4 * self.base_bytes(),
        }
    }
}

/// Names a vector of scalars that lives on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VectorId(pub u64);

/// Names a set of base points that a device can sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BasesId(pub u64);

/// Names a pair of sparse matrices A and B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MatrixId(pub u64);

/// What a device is and how finely it cuts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Kind of device: "cpu", or what drives a GPU: "wgpu", "cuda", "icicle".
    pub kind: &'static str,
    /// The silicon's own name, for people: a CPU model, a GPU's product name.
    pub name: String,
    /// The longest that one quantum should hold a core or the device.
    pub quantum: Duration,
    /// How many lanes a stage is cut into at least, where its size allows: twice the number of
    /// workers is a good figure.
    pub lanes: usize,
}

/// How the 32 bytes of a scalar are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// The plain integer, below the field's modulus: a witness.
    Canonical,
    /// Montgomery form, x * 2^256 mod r: all that devices compute themselves.
    Montgomery,
}

/// A transform of a vector whose length is a power of two n; w is the primitive n-th root of
/// unity that snarkjs uses, w = g^((r-1)/n), and v is that of order 2n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Coefficients to evaluations at w^i, both in natural order.
    Forward,
    /// Evaluations at w^i to coefficients, both in natural order, 1/n included.
    Inverse,
    /// Evaluations at w^i to evaluations of the same polynomial at v * w^i, both in natural
    /// order: inverse, scale by v^i, forward; a device may fuse the three and skip the bit
    /// reversals between them.
    Shift,
}

/// One piece of work over vectors, bases and matrices that are already on the device.
///
/// What a plan reads and writes must stay alive and unused by other plans until it has run;
/// contents are read when a stage runs, not when the plan is made.
#[derive(Debug, Clone)]
pub enum Work {
    /// a = A w and b = B w. `w` is canonical, the results are in Montgomery form, and rows
    /// beyond the matrix's are set to zero.
    Product {
        /// The matrices.
        matrix: MatrixId,
        /// The witness: as many elements as the matrix has columns.
        witness: VectorId,
        /// Receives A w.
        a: VectorId,
        /// Receives B w.
        b: VectorId,
    },
    /// out_i = a_i b_i, all of one length, in Montgomery form.
    Multiply {
        /// First factor.
        a: VectorId,
        /// Second factor.
        b: VectorId,
        /// Receives the products.
        out: VectorId,
    },
    /// a_i = a_i b_i - c_i in place, all of one length, in Montgomery form.
    MultiplySubtract {
        /// First factor; receives the result.
        a: VectorId,
        /// Second factor.
        b: VectorId,
        /// What is subtracted.
        c: VectorId,
    },
    /// An in-place number-theoretic transform.
    Ntt {
        /// The vector; its length is a power of two of at least 2.
        vector: VectorId,
        /// Which transform.
        transform: Transform,
    },
    /// The sum of `scalars[offset + i] * bases[i]` over all bases.
    Msm {
        /// The points.
        bases: BasesId,
        /// The vector that holds the scalars.
        scalars: VectorId,
        /// Index of the first scalar in it.
        offset: usize,
        /// How the scalars are to be read.
        form: Form,
    },
    /// Tables of multiples of bases, which make sums of them cheaper, never different. The device
    /// spends the bytes where they save most, by what the sums so far have been like: better made
    /// after a sum than before. They take the place of tables that are there, and take effect for
    /// plans made after a lane has ended.
    Tables {
        /// The sets of bases.
        bases: Vec<BasesId>,
        /// What all tables together may take.
        bytes: usize,
    },
}

/// Whether a lane has more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The lane has further quanta: run it again, on any thread.
    More,
    /// The lane has reached its end and must not be run again.
    Done,
}

/// Work that has been cut up and may be run.
///
/// The caller opens stage 0, runs every lane of it to [`Progress::Done`], opens stage 1, and so
/// on; after the last stage a plan of an MSM has a [`Plan::point`]. Dropping a plan at any
/// moment frees what the device kept for it.
pub trait Plan: Send + Sync {
    /// How many stages there are; at least one; fixed from the start.
    fn stages(&self) -> usize;

    /// A name for the kernel of a stage, for traces: "msm.accumulate", "ntt.inverse".
    fn kernel(&self, stage: usize) -> &'static str;

    /// Opens a stage and says how many lanes it has, at least one. Called exactly once for each
    /// stage, in order, after every lane of the stage before has ended, by any thread. Cheap:
    /// it plans, it does not compute.
    fn open(&self, stage: usize) -> Result<usize, DeviceError>;

    /// Runs one quantum of one lane of the open stage on the calling thread. Allocates nothing
    /// and blocks on nothing on a CPU; waits for the device's fence on a GPU. Running a lane on
    /// two threads at once, or after its end, is refused with [`DeviceError::Lane`]. A device that finds in the midst of
    /// it that it has no room says [`DeviceError::Memory`], and has left what it works on in place as it was: others can do it.
    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError>;

    /// The sum, once the last stage of an MSM has ended: an affine point in the layout at the
    /// top of this file. `None` before that and for all other work.
    fn point(&self) -> Option<Vec<u8>>;

    /// Bytes of the host's memory that it has set aside to compute with, from when it was made until it is dropped,
    /// for all its stages; vectors, bases and matrices are not in it.
    fn bytes(&self) -> usize {
        0
    }

    /// How long its silicon has computed for it so far, by the silicon's own clock; `None` where there is none or nobody asked for
    /// it when the device was opened. What is still under way is not in it.
    fn device_time(&self) -> Option<Duration> {
        None
    }

    /// When, by the host's clock, its silicon began with the latest of what is in [`Plan::device_time`], where its own clock
    /// can be held against the host's.
    fn device_began(&self) -> Option<Instant> {
        None
    }

    /// Of a sum, at multiples of how many points it can be cut for others to do the rest; `None` where it can only do
    /// all, and for all other work.
    fn grain(&self) -> Option<usize> {
        None
    }

    /// Leaves of a sum only these points, counted as the bases are. Called at most once, before the first stage is
    /// opened, with bounds that are multiples of the [grain](Plan::grain) or the end. Allocates nothing.
    fn narrow(&self, points: Range<usize>) -> Result<(), DeviceError> {
        let why = "only sums are cut, and none that cannot be";
        let _ = points;
        Err(DeviceError::Lane {
            stage: 0,
            lane: 0,
            why,
        })
    }

    /// Plans that may be carried forward at the same time as this one, each as if it were a piece of work of its own. With them
    /// this one's work may be done by several members at once; its point is there when all of them have ended.
    /// Called at most once, before the first stage is opened. Who does not call it runs this one alone, which
    /// then is all of the work.
    fn beside(self: Arc<Self>) -> Vec<Arc<dyn Plan>> {
        Vec::new()
    }

    /// Which members may begin with this from now on, a bit each: the host's first, then those of
    /// [`Device::beside`]. Work that has begun stays where it is. Cheap; allocates nothing.
    fn allow(&self, members: u64) {
        let _ = members;
    }

    /// Which member the lanes of the open stage are to be run for: 0 for the host, and where there is
    /// nobody beside it. Any thread may run them; a thread that waits for that member's fences anyway
    /// keeps others from doing so.
    fn member(&self, stage: usize) -> usize {
        let _ = stage;
        0
    }
}

/// How a device is at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why silicon was given up, if it was; what it did is done elsewhere since.
    pub lost: Option<String>,
    /// Pieces of work that other silicon of the device's did instead of that which should have.
    pub fallen_back: u64,
    /// What the device runs on beside this program, for support: a driver with its version, a
    /// library with its digest.
    pub software: Vec<Software>,
}

/// A driver or a library that a device uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Software {
    /// Its name, or where it lies.
    pub name: String,
    /// Its version, or its SHA-256 in hexadecimal digits where it knows none.
    pub version: String,
}

/// Where a device lies in its machine, as far as its driver says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Site {
    /// Bytes of memory of its own that it may use; `None` where its memory is the host's, or is not known.
    pub memory: Option<u64>,
    /// Its address on the PCI bus as Linux writes it: `0000:3b:00.0`.
    pub pci: Option<String>,
    /// What its driver and its maker's tools call this one, wherever it is plugged in:
    /// `GPU-8a2c...`.
    pub uuid: Option<String>,
}

/// What copies may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thing {
    /// Points.
    Bases,
    /// Pairs of matrices.
    Matrix,
}

/// Something of which each member of a device may have a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Original {
    /// Points.
    Bases(BasesId),
    /// A pair of matrices.
    Matrix(MatrixId),
}

/// Writes scalars to where it is told: from which element on, and where.
pub type Fill<'a> = dyn FnMut(usize, &mut [u8]) -> Result<(), DeviceError> + 'a;

/// Silicon that computes. See the top of this file.
pub trait Device: Send + Sync {
    /// What this device is.
    fn info(&self) -> &DeviceInfo;

    /// A new vector of `len` scalars, all zero.
    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError>;

    /// Copies whole scalars into a vector, from element `at` on. No check of their range.
    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError>;

    /// As [`Device::vector_write`], of so many bytes that `fill` writes where the device wants them: the memory that its bus
    /// reads, where it has such, so that nothing is copied twice. `fill` is told from which element on, once or for one part after the
    /// other. They may arrive after this has returned, and have arrived when [`Device::vector_settle`] has; until then nothing but more of
    /// this is asked of the vector, by as many threads as like, and no plan runs on it.
    ///
    /// # Errors
    /// Those of [`Device::vector_write`], and those of `fill`.
    fn vector_fill(
        &self,
        id: VectorId,
        at: usize,
        bytes: usize,
        fill: &mut Fill<'_>,
    ) -> Result<(), DeviceError> {
        let mut scalars = Zeroizing::new(vec![0; bytes]);
        fill(at, &mut scalars)?;
        self.vector_write(id, at, &scalars)
    }

    /// Waits until all has arrived that a vector was filled with.
    ///
    /// # Errors
    /// Those of the device.
    fn vector_settle(&self, id: VectorId) -> Result<(), DeviceError> {
        let _ = id;
        Ok(())
    }

    /// Copies whole scalars out of a vector, from element `at` on.
    fn vector_read(&self, id: VectorId, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError>;

    /// Overwrites a vector with zeros and frees it. Freeing an unknown id does nothing. Plans
    /// that use the vector keep it alive until they are dropped.
    fn vector_free(&self, id: VectorId);

    /// Makes points known to the device. A device whose memory is the host's keeps the bytes
    /// themselves (no copy, any alignment); others copy. The points are not checked here.
    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError>;

    /// Forgets bases. Plans that use them keep them alive until they are dropped.
    fn bases_free(&self, id: BasesId);

    /// Bytes that the tables of bases take now: those that new plans use.
    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError>;

    /// Gives up the tables of bases; of unknown bases, and of bases without, there are none. Plans
    /// that use them keep them alive until they are dropped.
    fn tables_free(&self, id: BasesId);

    /// Makes a pair of sparse matrices known to the device. `entries` are those of a zkey's
    /// section 4 without its count, in any order: u32 matrix (0 = A, 1 = B), u32 row, u32
    /// column, then the coefficient times R^2 mod r in 32 bytes, all little-endian; equal
    /// positions add up. Kept as they are where possible, with an index of rows beside them.
    fn matrix(
        &self,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: Bytes,
    ) -> Result<MatrixId, DeviceError>;

    /// Forgets matrices. Plans that use them keep them alive until they are dropped.
    fn matrix_free(&self, id: MatrixId);

    /// Cuts work into stages and quanta, and sets aside all memory that running it will need.
    fn plan(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError>;

    /// Whether silicon beside the host's may compute here.
    fn is_mixed(&self) -> bool {
        false
    }

    /// The same as [`Device::plan`], done by the host alone. For when a result was wrong, and it has to
    /// be known whether the input or other silicon is to blame.
    fn plan_on_host(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        self.plan(work)
    }

    /// Told that what was computed here was wrong where the host's own result was right. Silicon
    /// beside the host's is given up then: of several that which fails when it is [tried](Device::examine), and all if none does.
    fn distrust(&self, why: &str) {
        let _ = why;
    }

    /// Told the same of a result that may be older than the latest loss. Of several each is tried, and given up if it computes something
    /// else than the host; how many were. Takes tens of milliseconds for each, so it is never called by a worker.
    fn examine(&self, why: &str) -> usize {
        self.distrust(why);
        usize::from(!self.is_mixed())
    }

    /// The devices that this one stands for beside its host, each of which does whole pieces of work by
    /// itself. Members are counted from the host, which is number 0.
    fn beside(&self) -> &[DeviceInfo] {
        &[]
    }

    /// Whether a member has been given up. Cheap; once true it stays so.
    fn is_lost(&self, member: usize) -> bool {
        let _ = member;
        false
    }

    /// Where a member lies; number 0 is the device itself, or its host.
    fn site(&self, member: usize) -> Site {
        let _ = member;
        Site::default()
    }

    /// Multiplications a second in the curve's scalar field, of elements that stay in registers, with all
    /// of the device at work: what a kernel's rate is held against. Measured now, which takes some
    /// milliseconds of the device's time; `None` where it has no such loop.
    ///
    /// # Errors
    /// Those of the device.
    fn peak(&self, curve: CurveId) -> Result<Option<f64>, DeviceError> {
        let _ = curve;
        Ok(None)
    }

    /// Bytes of the copy that a member beside the host has, as they were given; none if it has no copy. One that
    /// was given up counts until the last plan that uses it is dropped.
    fn copy_bytes(&self, member: usize, of: Original) -> usize {
        let _ = (member, of);
        0
    }

    /// Whether it makes copies of such things. What a device does not keep never comes to it, and nobody waits for that.
    fn keeps(&self, curve: CurveId, thing: Thing) -> bool {
        let _ = (curve, thing);
        true
    }

    /// Bytes that the copy of a member beside the host takes once it is there; none of what that one does not keep.
    fn copy_len(&self, member: usize, of: Original) -> usize {
        let _ = (member, of);
        0
    }

    /// Gives up the copy of a member beside the host. No work begins with it from now on; work that has begun
    /// goes on to its end. Frees what nothing uses any more, so it is called again while there are
    /// [bytes](Device::copy_bytes) left, and never by a worker.
    fn copy_free(&self, member: usize, of: Original) {
        let _ = (member, of);
    }

    /// Whether plans use the copy of a member beside the host, ended or not.
    fn copy_is_used(&self, member: usize, of: Original) -> bool {
        let _ = (member, of);
        false
    }

    /// As [`Device::plan`] of [`Work::Tables`], for copies of points that a member beside the host has. Its quanta are that member's,
    /// and whoever runs them waits for its fences. Like all work it keeps the copies there until it is dropped.
    ///
    /// # Errors
    /// [`DeviceError::Unfit`] where the member has no copy of one of them or makes no tables, and those of the device.
    fn copy_tables(
        &self,
        member: usize,
        bases: &[BasesId],
        bytes: usize,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let _ = (member, bases, bytes);
        Err(DeviceError::Unfit {
            device: self.info().name.clone(),
            what: "tables of copies",
        })
    }

    /// As [`Device::tables_bytes`], of the copy that a member beside the host has; none if it has no copy that was not given
    /// up, with which its tables go.
    fn copy_tables_bytes(&self, member: usize, id: BasesId) -> usize {
        let _ = (member, id);
        0
    }

    /// As [`Device::tables_free`], of the copy that a member beside the host has.
    fn copy_tables_free(&self, member: usize, id: BasesId) {
        let _ = (member, id);
    }

    /// From now on points and matrices come to members beside the host by [`Device::copy`] alone. Before that they
    /// come to all that have room when they are made known.
    fn copies_by_order(&self) {}

    /// Brings a copy to a member beside the host that has none, for plans that are made from then on.
    fn copy(&self, member: usize, of: Original) -> Result<(), DeviceError> {
        let _ = (member, of);
        Ok(())
    }

    /// Writes down what it has learnt of its members, if that is kept anywhere. Takes the time of a file; never called by a
    /// worker.
    fn keep(&self) {}

    /// How the device is. A device of one kind of silicon that is part of the host is always well.
    fn health(&self) -> Health {
        Health::default()
    }

    /// What each member is and how it is, the host's first; of a device without members itself.
    fn members(&self) -> Vec<(DeviceInfo, Health)> {
        vec![(self.info().clone(), self.health())]
    }

    /// Looks whether silicon has gone that nobody is using, so that this is seen before somebody needs it. Called a few times a second,
    /// by a thread that is no worker; waits for no work that is under way. A device that is told of it otherwise says here what
    /// it was told.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    fn probe(&self) -> Result<(), DeviceError> {
        match self.health().lost {
            Some(why) => Err(DeviceError::Lost {
                device: self.info().name.clone(),
                why,
            }),
            None => Ok(()),
        }
    }
}

/// Why a device refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// An id that this device never gave out, or has freed.
    #[error("no {what} with id {id} on this device")]
    Unknown {
        /// "vector", "bases" or "matrix".
        what: &'static str,
        /// The id.
        id: u64,
    },
    /// A length that does not fit the work.
    #[error("{what}: expected {expected}, got {got}")]
    Length {
        /// Which length.
        what: &'static str,
        /// What would fit.
        expected: usize,
        /// What was given.
        got: usize,
    },
    /// A length that must be a power of two within the field's two-adicity.
    #[error("transform of {got} elements: expected a power of two from 2 to 2^{max_log2}")]
    Domain {
        /// The length.
        got: usize,
        /// log2 of the largest domain.
        max_log2: u32,
    },
    /// Things of two curves in one piece of work.
    #[error("{what}: expected {expected:?}, got {got:?}")]
    Curve {
        /// What is of the wrong curve.
        what: &'static str,
        /// The curve of the work.
        expected: CurveId,
        /// Its own.
        got: CurveId,
    },
    /// A matrix entry outside the matrix.
    #[error("matrix entry {entry}: {what} {got} is outside 0..{expected}")]
    Entry {
        /// Index of the entry.
        entry: usize,
        /// "matrix", "row" or "column".
        what: &'static str,
        /// The exclusive bound.
        expected: usize,
        /// The value found.
        got: usize,
    },
    /// A stage or lane that is not open, is running elsewhere, or has ended.
    #[error("stage {stage}, lane {lane}: {why}")]
    Lane {
        /// The stage.
        stage: usize,
        /// The lane.
        lane: usize,
        /// Why it cannot run.
        why: &'static str,
    },
    /// Work that the device does not do; another one may.
    #[error("device {device} does not do {what}")]
    Unfit {
        /// Which device, as in [`DeviceInfo::name`].
        device: String,
        /// The work: "products".
        what: &'static str,
    },
    /// No room left for what was asked.
    #[error("out of device memory: {bytes} bytes for {what}")]
    Memory {
        /// What it was for.
        what: &'static str,
        /// How much.
        bytes: usize,
    },
    /// The device is gone or cannot be believed any more: its driver failed, it did not answer in
    /// time, or what it computed was wrong. Nothing that it holds can be used again; the work can
    /// be done on another device.
    #[error("device {device} is lost: {why}")]
    Lost {
        /// Which device, as in [`DeviceInfo::name`].
        device: String,
        /// What happened.
        why: String,
    },
}
