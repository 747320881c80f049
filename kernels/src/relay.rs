//! Several devices as one: each piece of work goes to the one that may be used and is quickest, and
//! goes on elsewhere when a device is lost.
//!
//! Vectors have a copy on every device, of which some are up to date; bases and matrices are on all
//! that had room, until a copy is given up (`copies.rs`). All memory is set aside when work is planned, on every device. Which of them does
//! it is decided when its first quantum runs, so that a proof that is under way moves to another
//! device, and back, from one piece of work to the next ([`Relay::allow`], and for one piece
//! [`Plan::allow`]). What a vector lacks on the device that was chosen is copied there first, in quanta of
//! its own, once for all who wait for it (`crossing.rs`).
//!
//! **Choice.** For each device, kind of work, curve and size the time that work took is kept, a
//! running mean of what was measured. A device costs that time, by the size next to it that is
//! known, and the time of the copies. What was never tried costs nothing, and so is tried; the first time
//! does not count, for kernels are compiled and tables made in it. Who costs more than another is tried again when the others
//! have worked a hundred times as long as that takes (`prices.rs`).
//!
//! **Sharing.** A sum may be done by several at once, each of which sums some of its points, where what is known of all of
//! them says that it ends clearly sooner so (`share.rs`). That needs a caller who carries parts of it forward at the same time
//! ([`Plan::beside`], `beside.rs`).
//!
//! **Loss.** A device that answers with [`DeviceError::Lost`] is never asked again. Work in progress
//! begins again on another one if what it reads is still somewhere. What works in place was copied to the lost device from
//! somewhere, and what was copied is still there: it begins again from that. A transform that has ended on the lost device and has
//! not been fetched from there is done again in the same way, when somebody asks for what it made (`past.rs`). Only what was
//! made there alone, step upon step, is gone: that ends with the error, and the proof must be made again.
//!
//! **No room.** A device that answers with [`DeviceError::Memory`] in the midst of a piece of work is not lost: the piece is done
//! elsewhere, from what the device still has if nobody else does, and pieces of its kind that are as large do not come there
//! until something has been freed on it.

mod beside;
mod copies;
mod crossing;
mod past;
mod prices;
mod share;
mod standing;
mod tables;
mod trial;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use crate::device::{
    BasesId, CurveId, Device, DeviceError, DeviceInfo, Group, Health, MatrixId, Original, Plan,
    Progress, Site, Software, Thing, Transform, VectorId, Work,
};
use crate::forfeit::forfeit;
use crate::holdings::Holdings;
use beside::{Share, SharePlan};
use copies::Copies;
use crossing::Crossing;
use past::Past;
use prices::Prices;
use share::{GRAIN, Offer, Shares};
use standing::Standing;
use tables::TablesPlan;

/// A device and how many threads may run its lanes at once.
#[derive(Clone)]
pub struct Member {
    /// The device.
    pub device: Arc<dyn Device>,
    /// For a processor the number of workers, for a GPU one.
    pub width: usize,
}

/// What a kind of work of one size has been seen to cost on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Which device, by its place among the members.
    pub member: usize,
    /// "product", "multiply", "ntt", "msm-g1", "msm-g2" or "copy".
    pub kind: &'static str,
    /// On which curve.
    pub curve: CurveId,
    /// Rounded up to a power of two.
    pub log2: u32,
    /// How long so many took, with all threads that may run it.
    pub nanoseconds: u64,
}

impl Price {
    /// All kinds.
    pub const KINDS: [&str; 6] = ["product", "multiply", "ntt", "msm-g1", "msm-g2", "copy"];
}

/// Keeps what a relay has measured.
pub type Keeper = dyn Fn(&[Price]) + Send + Sync;

/// See the top of this file.
pub struct Relay {
    info: DeviceInfo,
    beside: Vec<DeviceInfo>,
    shared: Arc<Shared>,
    held: Holdings<Vector, Copies<BasesId>, Copies<MatrixId>>,
    keeper: OnceLock<Box<Keeper>>,
    /// Held by who tries the members.
    examining: Mutex<()>,
}

impl Relay {
    /// Of at least one member and at most 64. The first one is the host: it must have room for
    /// everything, and what callers write comes to it.
    ///
    /// # Panics
    /// If there is none, or more.
    pub fn new(members: Vec<Member>) -> Arc<Relay> {
        assert!(!members.is_empty());
        assert!(members.len() <= MEMBERS_MAX);
        let infos = || members.iter().map(|member| member.device.info());
        let names: Vec<&str> = infos().map(|info| info.name.as_str()).collect();
        let info = DeviceInfo {
            kind: "relay",
            name: names.join(" + "),
            quantum: infos().map(|info| info.quantum).max().unwrap_or_default(),
            lanes: infos().map(|info| info.lanes).max().unwrap_or(1),
        };
        let beside = infos().skip(1).cloned().collect();
        let members: Vec<Runner> = members
            .into_iter()
            .map(|member| Runner {
                device: member.device,
                width: member.width.max(1) as u64,
                lost: OnceLock::new(),
                replays: AtomicU64::new(0),
                prices: Prices::default(),
                short: [const { AtomicUsize::new(usize::MAX) }; Kind::ALL.len()],
            })
            .collect();
        Arc::new(Relay {
            info,
            beside,
            shared: Arc::new(Shared {
                members,
                allowed: AtomicU64::new(u64::MAX),
                copies_by_order: AtomicBool::new(false),
            }),
            held: Holdings::default(),
            keeper: OnceLock::new(),
            examining: Mutex::new(()),
        })
    }

    /// Who is given all prices by [`Device::keep`]. The first one stays.
    pub fn kept_by(&self, keeper: Box<Keeper>) {
        let _ = self.keeper.set(keeper);
    }

    /// Which members may begin pieces of work from now on, a bit each; where none of those can, the
    /// others may. Work that has begun stays where it is.
    pub fn allow(&self, members: u64) {
        self.shared.allowed.store(members, Ordering::Relaxed);
    }

    /// Takes what was measured before, by this relay or by one of the same members, until it is measured again.
    /// What is of no member or no kind is left out.
    pub fn believe(&self, prices: &[Price]) {
        for price in prices {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == price.kind);
            let runner = self.shared.members.get(price.member);
            if let (Some(kind), Some(runner)) = (kind, runner)
                && (price.log2 as usize) < SIZES
            {
                let prices = &runner.prices;
                prices.believe(kind, price.curve, price.log2, price.nanoseconds);
            }
        }
    }

    /// What has been measured.
    pub fn prices(&self) -> Vec<Price> {
        let mut prices = Vec::new();
        for (member, runner) in self.shared.members.iter().enumerate() {
            for kind in Kind::ALL {
                for curve in [CurveId::Bn254, CurveId::Bls12_381] {
                    for log2 in 0..SIZES as u32 {
                        let nanoseconds = runner.prices.known(kind, curve, log2);
                        if nanoseconds > 0 {
                            prices.push(Price {
                                member,
                                kind: kind.name(),
                                curve,
                                log2,
                                nanoseconds,
                            });
                        }
                    }
                }
            }
        }
        prices
    }

    fn part(&self, work: &Work) -> Result<Part, DeviceError> {
        let vector = |id: VectorId| self.held.vector(id);
        let mut part = Part {
            kind: Kind::Multiply,
            curve: CurveId::Bn254,
            size: 0,
            reads: Vec::new(),
            writes: Vec::new(),
            bases: Vec::new(),
            matrix: None,
            transform: None,
        };
        match *work {
            Work::Product {
                matrix,
                witness,
                a,
                b,
            } => {
                part.kind = Kind::Product;
                part.matrix = Some(self.held.matrix(matrix)?);
                part.reads = vec![vector(witness)?];
                part.writes = vec![vector(a)?, vector(b)?];
            }
            Work::Multiply { a, b, out } => {
                part.reads = vec![vector(a)?, vector(b)?];
                part.writes = vec![vector(out)?];
            }
            Work::MultiplySubtract { a, b, c } => {
                part.reads = vec![vector(a)?, vector(b)?, vector(c)?];
                part.writes = vec![vector(a)?];
            }
            Work::Ntt {
                vector: id,
                transform,
            } => {
                part.kind = Kind::Ntt;
                part.transform = Some(transform);
                part.reads = vec![vector(id)?];
                part.writes = vec![vector(id)?];
            }
            Work::Msm { bases, scalars, .. } => {
                let bases = self.held.bases(bases)?;
                part.kind = match bases.group {
                    Group::G1 => Kind::MsmG1,
                    Group::G2 => Kind::MsmG2,
                };
                part.size = bases.count;
                part.reads = vec![vector(scalars)?];
                part.bases = vec![bases];
            }
            Work::Tables { ref bases, .. } => {
                part.bases = bases
                    .iter()
                    .map(|&id| self.held.bases(id))
                    .collect::<Result<_, _>>()?;
            }
        }
        if let Some(first) = part.writes.first().or(part.reads.first()) {
            part.curve = first.curve;
            if !part.is_sum() {
                part.size = first.len;
            }
        }
        Ok(part)
    }

    /// A plan made of a plan on each member that can do the work.
    fn lay_out(&self, part: Part, plans: Vec<Option<Arc<Laid>>>) -> Arc<dyn Plan> {
        let names = |laid: &Option<Arc<Laid>>| -> Box<[&'static str]> {
            let plan = laid.as_ref().map(|laid| &laid.plan);
            let names = plan.map(|plan| (0..plan.stages()).map(move |stage| plan.kernel(stage)));
            names.into_iter().flatten().collect()
        };
        let names: Vec<_> = plans.iter().map(names).collect();
        let longest = names.iter().map(|names| names.len()).max();
        let grain = |laid: &Option<Arc<Laid>>| laid.as_ref()?.plan.grain();
        let plan = Arc::new(RelayPlan {
            shared: Arc::clone(&self.shared),
            stages: 1 + longest.unwrap_or(0),
            names,
            grains: plans.iter().map(grain).collect(),
            standings: plans.iter().map(|it| Standing::new(it.is_some())).collect(),
            plans: plans.into_iter().map(ArcSwapOption::new).collect(),
            sum: OnceLock::new(),
            is_over: AtomicBool::new(false),
            allowed: AtomicU64::new(u64::MAX),
            shares: OnceLock::new(),
            deciding: Mutex::new(false),
            pieces: AtomicUsize::new(1),
            opening: Mutex::new(()),
            opened: AtomicUsize::new(0),
            lanes: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            is_passed: AtomicBool::new(false),
            untouched: AtomicU64::new(0),
            chosen: AtomicUsize::new(NONE),
            arrival: Mutex::new(Arrival::default()),
            is_replayed: AtomicBool::new(false),
            replay: Mutex::new(None),
            own: OnceLock::new(),
            spent: AtomicU64::new(0),
            part,
        });
        for bases in &plan.part.bases {
            bases.used_by(&plan);
        }
        if let Some(matrix) = &plan.part.matrix {
            matrix.used_by(&plan);
        }
        plan
    }

    /// The same work in a member's own names, and what of that has to stay while it is planned; `None` if the
    /// member lacks something of it.
    fn translate(&self, work: &Work, part: &Part, member: usize) -> Option<(Work, Vec<Stays>)> {
        let vector = |id: VectorId| self.held.vector(id).ok()?.ids[member];
        let mut stays: Vec<Stays> = Vec::new();
        let work = match *work {
            Work::Product { witness, a, b, .. } => {
                let matrix = part.matrix.as_ref()?.on(member)?;
                let id = matrix.id;
                stays.push(matrix);
                Work::Product {
                    matrix: id,
                    witness: vector(witness)?,
                    a: vector(a)?,
                    b: vector(b)?,
                }
            }
            Work::Multiply { a, b, out } => Work::Multiply {
                a: vector(a)?,
                b: vector(b)?,
                out: vector(out)?,
            },
            Work::MultiplySubtract { a, b, c } => Work::MultiplySubtract {
                a: vector(a)?,
                b: vector(b)?,
                c: vector(c)?,
            },
            Work::Ntt {
                vector: id,
                transform,
            } => Work::Ntt {
                vector: vector(id)?,
                transform,
            },
            Work::Msm {
                scalars,
                offset,
                form,
                ..
            } => {
                let bases = part.bases[0].on(member)?;
                let id = bases.id;
                stays.push(bases);
                Work::Msm {
                    bases: id,
                    scalars: vector(scalars)?,
                    offset,
                    form,
                }
            }
            Work::Tables { bytes, .. } => {
                let mut ids = Vec::with_capacity(part.bases.len());
                for bases in &part.bases {
                    let bases = bases.on(member)?;
                    ids.push(bases.id);
                    stays.push(bases);
                }
                Work::Tables { bases: ids, bytes }
            }
        };
        Some((work, stays))
    }

    /// The copies of something, if it is there.
    fn copies(&self, of: Original) -> Option<Copied> {
        match of {
            Original::Bases(id) => self.held.bases(id).ok().map(Copied::Bases),
            Original::Matrix(id) => self.held.matrix(id).ok().map(Copied::Matrix),
        }
    }
}

impl Device for Relay {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        let ids = self.shared.on_each(|device| device.vector(curve, len))?;
        let there = (0..ids.len()).filter(|&i| ids[i].is_some());
        let vector = Vector {
            shared: Arc::clone(&self.shared),
            curve,
            len,
            // All are zero.
            current: AtomicU64::new(there.map(|i| 1 << i).sum()),
            past: Past::default(),
            crossings: ids.iter().map(|_| Mutex::default()).collect(),
            ids,
        };
        Ok(self.held.add_vector(vector))
    }

    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        let vector = self.held.vector(id)?;
        let whole = at == 0 && scalars.len() == vector.len * vector.curve.scalar_bytes();
        while !whole && !vector.is_current(HOST) {
            vector.regain()?;
            vector.bring(HOST).map_err(Failed::into_error)?;
        }
        let host = &self.shared.members[HOST].device;
        host.vector_write(vector.ids[HOST].expect("the host has all"), at, scalars)?;
        vector.made_by(HOST, None);
        Ok(())
    }

    fn vector_read(&self, id: VectorId, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        let vector = self.held.vector(id)?;
        vector.regain()?;
        vector.read(at, scalars)
    }

    fn vector_free(&self, id: VectorId) {
        self.held.remove_vector(id);
    }

    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError> {
        let of = copies::Source {
            bytes: points.len(),
            curve,
            thing: Thing::Bases,
            group,
            count: points.len() / curve.point_bytes(group),
        };
        let copies = Copies::new(
            &self.shared,
            of,
            Box::new(move |device| device.bases(curve, group, points.clone())),
            |device, id| device.bases_free(id),
        )?;
        Ok(self.held.add_bases(copies))
    }

    fn bases_free(&self, id: BasesId) {
        self.held.remove_bases(id);
    }

    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError> {
        let bases = self.held.bases(id)?;
        let host = &self.shared.members[HOST].device;
        host.tables_bytes(bases.host())
    }

    fn tables_free(&self, id: BasesId) {
        if let Ok(bases) = self.held.bases(id) {
            let host = &self.shared.members[HOST].device;
            host.tables_free(bases.host());
        }
    }

    fn matrix(
        &self,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: Bytes,
    ) -> Result<MatrixId, DeviceError> {
        let of = copies::Source {
            bytes: entries.len(),
            curve,
            thing: Thing::Matrix,
            group: Group::G1,
            count: 0,
        };
        let copies = Copies::new(
            &self.shared,
            of,
            Box::new(move |device| device.matrix(curve, rows, columns, entries.clone())),
            |device, id| device.matrix_free(id),
        )?;
        Ok(self.held.add_matrix(copies))
    }

    fn matrix_free(&self, id: MatrixId) {
        self.held.remove_matrix(id);
    }

    fn plan(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        let part = self.part(work)?;
        let on = |member: usize| {
            let (work, stays) = self.translate(work, &part, member)?;
            let plan = self.shared.members[member].device.plan(&work);
            Some(plan.map(|plan| Arc::new(Laid { plan, work, stays })))
        };
        let host = on(HOST).expect("the host has all")?;
        if matches!(work, Work::Tables { .. }) {
            // They are the host's: those of copies are planned one by one ([`Device::copy_tables`]).
            return Ok(Arc::clone(&host.plan));
        }
        let mut plans = vec![Some(host)];
        for member in 1..self.shared.members.len() {
            plans.push(match on(member) {
                _ if self.shared.is_lost(member) => None,
                Some(Ok(plan)) => Some(plan),
                // It has no room, or does not do such work.
                None => None,
                Some(Err(error)) => {
                    self.shared.note(member, &error);
                    None
                }
            });
        }
        Ok(self.lay_out(part, plans))
    }

    fn is_mixed(&self) -> bool {
        let others = 1..self.shared.members.len();
        let host = &self.shared.members[HOST].device;
        host.is_mixed()
            || others
                .into_iter()
                .any(|member| !self.shared.is_lost(member))
    }

    fn plan_on_host(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        let part = self.part(work)?;
        let (work, stays) = self.translate(work, &part, HOST).expect("the host has all");
        let plan = self.shared.members[HOST].device.plan_on_host(&work)?;
        let mut plans = vec![Some(Arc::new(Laid { plan, work, stays }))];
        plans.resize_with(self.shared.members.len(), || None);
        Ok(self.lay_out(part, plans))
    }

    fn distrust(&self, why: &str) {
        if self.examine(why) > 0 {
            return;
        }
        // It is not known which of them it was: all go.
        for (member, runner) in self.shared.members.iter().enumerate() {
            runner.device.distrust(why);
            if member != HOST {
                // Of two reasons the first one counts.
                let _ = runner.lost.set(why.to_owned());
            }
        }
    }

    fn examine(&self, why: &str) -> usize {
        // Two proofs may have come out wrong at once.
        let _one = lock(&self.examining);
        let host = &*self.shared.members[HOST].device;
        let Ok(expected) = trial::try_all(host, &|work| host.plan_on_host(work)) else {
            return 0;
        };
        let mut guilty = 0;
        for (member, runner) in self.shared.members.iter().enumerate() {
            let device = &*runner.device;
            if self.shared.is_lost(member) || (member == HOST && !device.is_mixed()) {
                continue;
            }
            let found = match trial::try_all(device, &|work| device.plan(work)) {
                Ok(results) => match trial::differing(&results, &expected) {
                    Some(what) => format!("{what}; found by a self-test after: {why}"),
                    None => continue,
                },
                // It does not answer, or nothing that makes sense.
                Err(error) => error.to_string(),
            };
            guilty += 1;
            device.distrust(&found);
            if member != HOST {
                let _ = runner.lost.set(found);
            }
        }
        guilty
    }

    fn beside(&self) -> &[DeviceInfo] {
        &self.beside
    }

    fn is_lost(&self, member: usize) -> bool {
        member < self.shared.members.len() && self.shared.is_lost(member)
    }

    fn site(&self, member: usize) -> Site {
        let member = self.shared.members.get(member);
        member.map_or_else(Site::default, |runner| runner.device.site(HOST))
    }

    fn copy_bytes(&self, member: usize, of: Original) -> usize {
        match self.copies(of) {
            Some(Copied::Bases(bases)) => bases.bytes_on(member),
            Some(Copied::Matrix(matrix)) => matrix.bytes_on(member),
            None => 0,
        }
    }

    fn copy_len(&self, member: usize, of: Original) -> usize {
        match self.copies(of) {
            Some(Copied::Bases(bases)) => bases.len_on(member),
            Some(Copied::Matrix(matrix)) => matrix.len_on(member),
            None => 0,
        }
    }

    fn copy_free(&self, member: usize, of: Original) {
        match self.copies(of) {
            Some(Copied::Bases(bases)) => bases.give_up(member),
            Some(Copied::Matrix(matrix)) => matrix.give_up(member),
            None => {}
        }
    }

    fn copy_is_used(&self, member: usize, of: Original) -> bool {
        match self.copies(of) {
            Some(Copied::Bases(bases)) => bases.is_used(member),
            Some(Copied::Matrix(matrix)) => matrix.is_used(member),
            None => false,
        }
    }

    fn copy_tables(
        &self,
        member: usize,
        bases: &[BasesId],
        bytes: usize,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let work = Work::Tables {
            bases: bases.to_vec(),
            bytes,
        };
        let part = self.part(&work)?;
        let runner = self.shared.members.get(member);
        let runner = runner.ok_or_else(|| self.shared.loss("there is no such member"))?;
        if self.shared.is_lost(member) {
            return Err(self.shared.loss("tables were to be made there"));
        }
        let Some((work, stays)) = self.translate(&work, &part, member) else {
            return Err(DeviceError::Unfit {
                device: runner.device.info().name.clone(),
                what: "tables of points that it has no copy of",
            });
        };
        let plan = runner.device.plan(&work).inspect_err(|error| {
            self.shared.note(member, error);
        })?;
        Ok(Arc::new(TablesPlan {
            shared: Arc::clone(&self.shared),
            member,
            laid: Laid { plan, work, stays },
        }))
    }

    fn copy_tables_bytes(&self, member: usize, id: BasesId) -> usize {
        let copy = self.held.bases(id).ok().and_then(|bases| bases.on(member));
        let bytes = copy.and_then(|copy| {
            let runner = &self.shared.members[member];
            runner.device.tables_bytes(copy.id).ok()
        });
        bytes.unwrap_or(0)
    }

    fn copy_tables_free(&self, member: usize, id: BasesId) {
        let copy = self.held.bases(id).ok().and_then(|bases| bases.on(member));
        if let Some(copy) = copy {
            let runner = &self.shared.members[member];
            runner.device.tables_free(copy.id);
            runner.freed();
        }
    }

    fn copies_by_order(&self) {
        self.shared.copies_by_order.store(true, Ordering::Relaxed);
    }

    fn copy(&self, member: usize, of: Original) -> Result<(), DeviceError> {
        match of {
            Original::Bases(id) => self.held.bases(id)?.bring(member),
            Original::Matrix(id) => self.held.matrix(id)?.bring(member),
        }
    }

    fn keep(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper(&self.prices());
        }
    }

    fn health(&self) -> Health {
        let mut health = Health::default();
        let mut lost = Vec::new();
        for (info, own) in self.members() {
            lost.extend(own.lost.map(|why| format!("{}: {why}", info.name)));
            health.fallen_back += own.fallen_back;
            let software = own.software.into_iter();
            health
                .software
                .extend(software.filter(|it: &Software| !it.name.is_empty()));
        }
        health.lost = (!lost.is_empty()).then(|| lost.join("; "));
        health
    }

    fn members(&self) -> Vec<(DeviceInfo, Health)> {
        let member = |runner: &Runner| {
            let own = runner.device.health();
            let health = Health {
                lost: runner.lost.get().cloned().or(own.lost),
                fallen_back: own.fallen_back + runner.replays.load(Ordering::Relaxed),
                software: own.software,
            };
            (runner.device.info().clone(), health)
        };
        self.shared.members.iter().map(member).collect()
    }

    /// Takes note of all that have gone; what the host has lost it does by itself.
    fn probe(&self) -> Result<(), DeviceError> {
        for (member, runner) in self.shared.members.iter().enumerate().skip(1) {
            if !self.shared.is_lost(member)
                && let Err(error) = runner.device.probe()
            {
                self.shared.note(member, &error);
            }
        }
        Ok(())
    }
}

/// What plans and things share.
struct Shared {
    members: Vec<Runner>,
    allowed: AtomicU64,
    /// Points and matrices come to the host alone, until somebody brings them elsewhere.
    copies_by_order: AtomicBool,
}

struct Runner {
    device: Arc<dyn Device>,
    width: u64,
    lost: OnceLock<String>,
    /// Pieces of work that others did in place of it.
    replays: AtomicU64,
    prices: Prices,
    /// By kind of work, the least size that it has found no room for since something was freed there.
    short: [AtomicUsize; Kind::ALL.len()],
}

impl Runner {
    /// Something has gone from its memory: all may be tried again.
    fn freed(&self) {
        for size in &self.short {
            size.store(usize::MAX, Ordering::Relaxed);
        }
    }

    fn has_room(&self, kind: Kind, size: usize) -> bool {
        size < self.short[kind as usize].load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Does something on the host and on each other member that is not lost and has room.
    fn on_each<T>(
        &self,
        make: impl Fn(&dyn Device) -> Result<T, DeviceError>,
    ) -> Result<Vec<Option<T>>, DeviceError> {
        let mut made = vec![Some(make(&*self.members[HOST].device)?)];
        for member in 1..self.members.len() {
            let result = match self.is_lost(member) {
                true => None,
                false => Some(make(&*self.members[member].device)),
            };
            made.push(match result {
                Some(Ok(thing)) => Some(thing),
                Some(Err(error)) => {
                    self.note(member, &error);
                    None
                }
                None => None,
            });
        }
        Ok(made)
    }

    fn is_lost(&self, member: usize) -> bool {
        self.members[member].lost.get().is_some()
    }

    /// Takes note of a piece of work that is done again in place of a member that was lost.
    fn fell_back(&self, lost: usize) {
        if let Some(runner) = self.members.get(lost) {
            runner.replays.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes note of a member's error: whether it is lost.
    fn note(&self, member: usize, error: &DeviceError) -> bool {
        let lost = matches!(error, DeviceError::Lost { .. });
        if lost {
            // Of two reasons the first one counts.
            let _ = self.members[member].lost.set(error.to_string());
        }
        lost
    }

    /// Takes note of the error that a member met at a piece of work of so many elements: whether others are to do it, for that
    /// one is lost, or has no room.
    fn gave_up(&self, member: usize, kind: Kind, size: usize, error: &DeviceError) -> bool {
        if member != HOST && matches!(error, DeviceError::Memory { .. }) {
            let short = &self.members[member].short[kind as usize];
            short.fetch_min(size, Ordering::Relaxed);
            return true;
        }
        member != HOST && self.note(member, error)
    }

    /// The member that does a part soonest, of those that have a plan for it and, if there are any, of those that may.
    fn choose(
        &self,
        part: &Part,
        size: usize,
        standings: &[Standing],
        allowed: &AtomicU64,
    ) -> Result<usize, DeviceError> {
        let has_room = |member: &usize| self.members[*member].has_room(part.kind, size);
        let can = |member: &usize| self.can(*member, standings) && has_room(member);
        let may = |member: &usize| self.may(*member, standings, allowed) && has_room(member);
        let price = |member: &usize| {
            let prices = &self.members[*member].prices;
            prices.guess(part.kind, part.curve, size) + self.copying(part, *member)
        };
        let members = 0..self.members.len();
        let chosen = members.clone().filter(may).min_by_key(price);
        chosen
            .or_else(|| members.filter(can).min_by_key(price))
            .ok_or_else(|| self.loss("no device is left"))
    }

    /// How a sum is shared between those that may do it, if that pays; never while one of them is still to be tried.
    fn share(
        &self,
        part: &Part,
        standings: &[Standing],
        grains: &[Option<usize>],
        allowed: &AtomicU64,
    ) -> Option<Shares> {
        let mut offers = [None; MEMBERS_MAX];
        for (member, offer) in offers.iter_mut().enumerate().take(self.members.len()) {
            let runner = &self.members[member];
            let may = self.may(member, standings, allowed);
            if !may || !runner.has_room(part.kind, part.size) {
                continue;
            }
            let prices = &runner.prices;
            let times = prices.times(part.kind, part.curve)?;
            if grains[member].is_some_and(|grain| GRAIN.is_multiple_of(grain)) {
                let start = self.copying(part, member);
                *offer = Some(Offer { start, times });
            }
        }
        share::share(part.size, &offers[..self.members.len()])
    }

    /// One that may do a part and costs more than another, if it is time to see whether it still does.
    fn to_be_tried(
        &self,
        part: &Part,
        standings: &[Standing],
        allowed: &AtomicU64,
    ) -> Option<usize> {
        let (kind, curve, size) = (part.kind, part.curve, part.size);
        let prices = |member: usize| &self.members[member].prices;
        let guess = |member: &usize| prices(*member).guess(kind, curve, size);
        let has_room = |member: &usize| self.members[*member].has_room(kind, size);
        let may = |member: &usize| self.may(*member, standings, allowed) && has_room(member);
        let members = || (0..self.members.len()).filter(may);
        let cheapest = members().min_by_key(guess)?;
        if guess(&cheapest) == 0 {
            // That one is tried anyway.
            return None;
        }
        let mut others = members().filter(|member| *member != cheapest);
        let member = others.find(|member| prices(*member).is_old(kind, curve, size))?;
        prices(member).is_being_tried(kind, curve, size);
        Some(member)
    }

    fn can(&self, member: usize, standings: &[Standing]) -> bool {
        standings[member].is_there() && !self.is_lost(member)
    }

    fn may(&self, member: usize, standings: &[Standing], allowed: &AtomicU64) -> bool {
        let allowed = allowed.load(Ordering::Relaxed) & self.allowed.load(Ordering::Relaxed);
        self.can(member, standings) && allowed >> member & 1 == 1
    }

    /// What it takes to bring a member what it lacks for a part.
    fn copying(&self, part: &Part, member: usize) -> u64 {
        let prices = &self.members[member].prices;
        let missing = part
            .reads
            .iter()
            .filter(|vector| !vector.is_current(member));
        missing
            .map(|vector| prices.guess(Kind::Copy, part.curve, vector.len))
            .sum()
    }

    fn loss(&self, why: &str) -> DeviceError {
        let names: Vec<&str> = self
            .members
            .iter()
            .filter(|runner| runner.lost.get().is_some())
            .map(|runner| runner.device.info().name.as_str())
            .collect();
        DeviceError::Lost {
            device: names.join(" + "),
            why: why.to_owned(),
        }
    }
}

/// What a piece of work is about.
struct Part {
    kind: Kind,
    curve: CurveId,
    size: usize,
    reads: Vec<Arc<Vector>>,
    writes: Vec<Arc<Vector>>,
    bases: Vec<Arc<Copies<BasesId>>>,
    matrix: Option<Arc<Copies<MatrixId>>>,
    transform: Option<Transform>,
}

impl Part {
    fn is_sum(&self) -> bool {
        matches!(self.kind, Kind::MsmG1 | Kind::MsmG2)
    }

    /// What it reads and overwrites.
    fn in_place(&self) -> impl Iterator<Item = &Arc<Vector>> {
        let is_read = |it: &&Arc<Vector>| self.reads.iter().any(|read| Arc::ptr_eq(it, read));
        self.writes.iter().filter(is_read)
    }

    /// Whether it can be done again after it was half done. Of `untouched`, a bit each, the copies were not overwritten.
    fn is_repeatable(&self, untouched: u64) -> bool {
        let is_left = |vector: &Arc<Vector>| vector.had_before() | vector.living(untouched) != 0;
        self.in_place().all(is_left)
    }

    /// What it was to overwrite is again as it was before, wherever it still is so.
    fn take_back(&self, untouched: u64) {
        for vector in self.in_place() {
            let before = vector.had_before() | vector.living(untouched);
            vector.current.store(before, Ordering::Release);
        }
    }
}

/// Kinds of work that are priced apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Product,
    Multiply,
    Ntt,
    MsmG1,
    MsmG2,
    Copy,
}

impl Kind {
    const ALL: [Kind; 6] = [
        Kind::Product,
        Kind::Multiply,
        Kind::Ntt,
        Kind::MsmG1,
        Kind::MsmG2,
        Kind::Copy,
    ];

    fn name(self) -> &'static str {
        Price::KINDS[self as usize]
    }
}

/// A vector with a copy on each member.
struct Vector {
    shared: Arc<Shared>,
    curve: CurveId,
    len: usize,
    ids: Vec<Option<VectorId>>,
    /// A bit for each member whose copy is up to date.
    current: AtomicU64,
    past: Past,
    /// Of each member the copy that is under way to it.
    crossings: Box<[Mutex<Crossing>]>,
}

impl Vector {
    fn is_current(&self, member: usize) -> bool {
        self.current.load(Ordering::Acquire) >> member & 1 == 1
    }

    /// Of so many members, a bit each, those that are not lost.
    fn living(&self, members: u64) -> u64 {
        let is_lost = |member: &usize| self.shared.is_lost(*member);
        let lost = (0..self.ids.len()).filter(is_lost);
        lost.fold(members, |members, lost| members & !(1 << lost))
    }

    /// Reads an up-to-date copy, the host's if it is one.
    fn read(&self, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        loop {
            let found = (0..self.ids.len())
                .filter(|&member| self.is_current(member) && !self.shared.is_lost(member))
                .find_map(|member| Some((member, self.ids[member]?)));
            let (member, id) = found.ok_or_else(|| self.shared.loss("it had the only copy"))?;
            match self.shared.members[member]
                .device
                .vector_read(id, at, scalars)
            {
                Err(error) if member != HOST && self.shared.note(member, &error) => {}
                other => return other,
            }
        }
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        for (runner, id) in self.shared.members.iter().zip(&self.ids) {
            if let Some(id) = id {
                runner.device.vector_free(*id);
                runner.freed();
            }
        }
    }
}

/// Why a vector did not come to a member, or work on it did not go on.
enum Failed {
    /// Nobody has the vector; the member may be well.
    Gone(DeviceError),
    /// The member did not do it.
    Member(DeviceError),
}

impl Failed {
    fn into_error(self) -> DeviceError {
        match self {
            Failed::Gone(error) | Failed::Member(error) => error,
        }
    }
}

/// Brings what a part reads to the member that was chosen.
#[derive(Default)]
struct Arrival {
    ended: bool,
}

impl Arrival {
    fn quantum(&mut self, part: &Part, member: usize) -> Result<Progress, Failed> {
        if let Some(vector) = part.reads.iter().find(|it| !it.is_current(member)) {
            if vector.is_gone() {
                return vector.redo().map_err(Failed::Gone);
            }
            return match vector.bring(member) {
                // Lost on the way; next it is made again.
                Err(Failed::Gone(_)) if vector.had_before() != 0 => Ok(Progress::More),
                brought => brought.map(|_| Progress::More),
            };
        }
        for vector in &part.writes {
            vector.clear_way(member).map_err(Failed::Member)?;
            // From here on the other copies are old.
            vector.made_by(member, part.transform);
        }
        self.ended = true;
        Ok(Progress::Done)
    }
}

/// Work on one member, one quantum after another: a share, or what begins again after a loss.
struct Run {
    member: usize,
    laid: Arc<Laid>,
    arrival: Arrival,
    stage: usize,
    lanes: usize,
    lane: usize,
    ended: bool,
    /// Nanoseconds of all quanta but copies.
    spent: u64,
}

/// Something that there are copies of.
enum Copied {
    Bases(Arc<Copies<BasesId>>),
    Matrix(Arc<Copies<MatrixId>>),
}

/// What stays on a member while it is held.
type Stays = Arc<dyn Send + Sync>;

/// A plan on one member.
struct Laid {
    plan: Arc<dyn Plan>,
    /// The work in the member's own names.
    work: Work,
    /// What it uses there, which therefore goes after it.
    stays: Vec<Stays>,
}

struct RelayPlan {
    shared: Arc<Shared>,
    part: Part,
    /// The first stage, and as many as the longest of the plans has.
    stages: usize,
    /// Of each member the kernels of its plan's stages.
    names: Vec<Box<[&'static str]>>,
    /// Of each member at multiples of how many points its plan can be cut.
    grains: Box<[Option<usize>]>,
    /// Of each member whether its plan is there, and whether work has begun with it: then it stays until that has ended.
    standings: Box<[Standing]>,
    /// Of each member the plan, unless it was let go. Workers read it only while it stays, and wait for nobody.
    plans: Box<[ArcSwapOption<Laid>]>,
    /// The sum, once all has ended: after that nobody needs the plan that made it.
    sum: OnceLock<Vec<u8>>,
    /// All lanes of all stages have ended, and no worker is at any plan.
    is_over: AtomicBool,
    /// Members that may begin with it.
    allowed: AtomicU64,
    /// Of a sum that several may do: the place of a share for each other member that can.
    shares: OnceLock<Box<[Share]>>,
    /// Held by who decides where it is done; whether that was decided before.
    deciding: Mutex<bool>,
    /// What has not ended: the lanes of this plan are one, each share that has points is another.
    pieces: AtomicUsize,
    opening: Mutex<()>,
    /// Stages opened so far.
    opened: AtomicUsize,
    /// Lanes of the open stage.
    lanes: AtomicUsize,
    /// Those of them that have not ended.
    left: AtomicUsize,
    /// Of a stage with nothing to do: whether its lane has been run.
    is_passed: AtomicBool,
    /// Members that had no room for it in the midst of it, a bit each: what it works on in place is there as it was.
    untouched: AtomicU64,
    chosen: AtomicUsize,
    arrival: Mutex<Arrival>,
    is_replayed: AtomicBool,
    replay: Mutex<Option<Run>>,
    /// Points of the host's share, where there are shares.
    own: OnceLock<usize>,
    /// Nanoseconds of all quanta but copies.
    spent: AtomicU64,
}

impl RelayPlan {
    /// The plan of the member that was chosen, and its stage; `None` where it has no such stage.
    fn inner(&self, stage: usize) -> Option<(usize, Arc<Laid>, usize)> {
        let (member, stage) = self.place(stage)?;
        Some((member, self.laid(member)?, stage))
    }

    /// The member that was chosen and the stage of its plan; `None` where it has no such stage.
    fn place(&self, stage: usize) -> Option<(usize, usize)> {
        let member = self.chosen.load(Ordering::Acquire);
        let names = self.names.get(member)?;
        let stage = stage.checked_sub(1).filter(|&it| it < names.len())?;
        Some((member, stage))
    }

    fn laid(&self, member: usize) -> Option<Arc<Laid>> {
        self.plans.get(member)?.load_full()
    }

    fn shares(&self) -> &[Share] {
        self.shares.get().map_or(&[], |shares| shares)
    }

    /// Who does it, or the host's share of it: [`BESIDE`] if that has none. Settled by the first who asks; again only if
    /// that one was lost before it began. `None` while another one settles it.
    fn decide(&self) -> Result<Option<usize>, DeviceError> {
        let settled = || Some(self.chosen.load(Ordering::Acquire)).filter(|&it| it != NONE);
        if let Some(chosen) = settled() {
            return Ok(Some(chosen));
        }
        let Ok(mut was_decided) = self.deciding.try_lock() else {
            return Ok(None);
        };
        if let Some(chosen) = settled() {
            return Ok(Some(chosen));
        }
        let tried = match *was_decided {
            true => None,
            false => self.try_one(),
        };
        let shared = match *was_decided || tried.is_some() || self.shares().is_empty() {
            true => None,
            false => self.share_out()?,
        };
        let member = match tried.or(shared) {
            Some(member) => member,
            None => self.choose(self.part.size)?,
        };
        *was_decided = true;
        self.chosen.store(member, Ordering::Release);
        Ok(Some(member))
    }

    /// One that is to be tried again, whatever it was known to cost.
    fn try_one(&self) -> Option<usize> {
        let (standings, allowed) = (&self.standings, &self.allowed);
        let member = self.shared.to_be_tried(&self.part, standings, allowed)?;
        standings[member].begin().then_some(member)
    }

    /// Gives each member its share, if it pays to share.
    fn share_out(&self) -> Result<Option<usize>, DeviceError> {
        let (standings, grains) = (&self.standings, &self.grains);
        let shares = self
            .shared
            .share(&self.part, standings, grains, &self.allowed);
        let Some(shares) = shares else {
            return Ok(None);
        };
        let all = || shares.iter().enumerate().filter(|(_, share)| **share > 0);
        // A plan may have been let go just now: then nobody is cut, and one does it all.
        if !all().all(|(member, _)| standings[member].begin()) {
            return Ok(None);
        }
        let mut from = 0;
        for (member, share) in all() {
            let points = from..from + share;
            from = points.end;
            let laid = self.laid(member).expect("it has begun there");
            laid.plan.narrow(points.clone())?;
            if member != HOST {
                self.pieces.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(share) = self.shares().iter().find(|it| it.member() == member) {
                // Decided once.
                let _ = share.points.set(points);
            }
        }
        Ok(Some(match shares[HOST] {
            0 => BESIDE,
            _ => {
                let _ = self.own.set(shares[HOST]);
                HOST
            }
        }))
    }

    /// From then on the plan of the one that is chosen stays until its work has ended.
    fn choose(&self, size: usize) -> Result<usize, DeviceError> {
        loop {
            let member = self
                .shared
                .choose(&self.part, size, &self.standings, &self.allowed)?;
            // Its plan may have been let go just now; then another. The host's never is.
            if self.standings[member].begin() {
                return Ok(member);
            }
        }
    }

    /// A share whose member was lost, on another one that sums it beside what it has.
    fn lay_out_again(&self, lost: usize, points: &Range<usize>) -> Result<Run, DeviceError> {
        self.shared.fell_back(lost);
        loop {
            let member = self.choose(points.len())?;
            // Its own share may have ended, and its plan been let go just now; then another.
            let Some(laid) = self.laid(member) else {
                continue;
            };
            let device = &self.shared.members[member].device;
            match device.plan(&laid.work) {
                Ok(plan) => {
                    plan.narrow(points.clone())?;
                    let again = Laid {
                        plan,
                        work: laid.work.clone(),
                        stays: laid.stays.clone(),
                    };
                    return Ok(Run::of(member, Arc::new(again)));
                }
                Err(error) if self.gave_up(member, points.len(), &error) => {}
                Err(error) => {
                    let why = format!("nobody can do what it left: {error}");
                    return Err(self.shared.loss(&why));
                }
            }
        }
    }

    /// Takes note of how long a member took for so much of it.
    fn learn(&self, member: usize, size: usize, spent: u64) {
        let part = &self.part;
        let spent = spent / self.shared.members[member].width;
        for (at, runner) in self.shared.members.iter().enumerate() {
            match at == member {
                true => runner.prices.learn(part.kind, part.curve, size, spent),
                // Of the whole, where this was a share: they would be asked for that.
                false => runner
                    .prices
                    .done_elsewhere(part.kind, part.curve, part.size, spent),
            }
        }
    }

    /// Drops the plan of a member unless work has begun there that has not ended: a copy that it uses was given up.
    fn let_go(&self, member: usize) {
        let Some(standing) = self.standings.get(member) else {
            return;
        };
        let share_ended = |it: &Share| it.member() == member && it.has_ended();
        let is_over =
            || self.is_over.load(Ordering::Acquire) || self.shares().iter().any(share_ended);
        if standing.take(is_over) {
            // No worker needs it: none has begun there, or all have ended. Frees, which takes a while.
            drop(self.plans[member].swap(None));
        }
    }

    /// One of the pieces that it was divided into has ended; the worker that ends the last one adds them up.
    fn piece_ended(&self) {
        if self.pieces.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if let Some(sum) = self.made() {
            // There is one sum, however often it is read.
            let _ = self.sum.set(sum);
        }
        // What began again after a loss holds its plan as well; that is freed by whoever lets it go.
        if let Ok(mut replay) = self.replay.try_lock() {
            *replay = None;
        }
        // Pairs with the Acquire in `let_go`.
        self.is_over.store(true, Ordering::Release);
    }

    /// The sum in the plan of the member that made it, and what others have added to it.
    fn made(&self) -> Option<Vec<u8>> {
        let member = match self.is_replayed.load(Ordering::Acquire) {
            // Nobody is at it any more.
            true => {
                let replay = self.replay.try_lock().ok()?;
                replay.as_ref().filter(|it| it.ended)?.member
            }
            false => self.chosen.load(Ordering::Acquire),
        };
        let own = match member {
            BESIDE => None,
            member => Some(self.laid(member)?.plan.point()?),
        };
        let shared = self.shares().iter().filter(|it| it.points.get().is_some());
        let sums: Vec<&Vec<u8>> = shared.map(|it| it.sum.get()).collect::<Option<_>>()?;
        match (own, sums.is_empty()) {
            (own, true) => own,
            (own, false) => {
                let all = own.iter().chain(sums).map(Vec::as_slice);
                Some(beside::add(self.part.curve, self.part.bases[0].group, all))
            }
        }
    }

    /// The first stage: chooses, and copies what is missing.
    fn arrive(&self, arrival: &mut Arrival) -> Result<Progress, DeviceError> {
        let Some(member) = self.decide()? else {
            return Ok(Progress::More);
        };
        if member == BESIDE {
            arrival.ended = true;
            return Ok(Progress::Done);
        }
        match arrival.quantum(&self.part, member) {
            Err(Failed::Member(error)) if self.gave_up(member, self.part.size, &error) => {
                // Another one, from the start.
                *arrival = Arrival::default();
                self.chosen.store(NONE, Ordering::Release);
                Ok(Progress::More)
            }
            other => other.map_err(Failed::into_error),
        }
    }

    /// See [`Shared::gave_up`].
    fn gave_up(&self, member: usize, size: usize, error: &DeviceError) -> bool {
        self.shared.gave_up(member, self.part.kind, size, error)
    }

    /// The member that was chosen has given it up, having begun with it: it is for others, from the start.
    fn gave_up_midway(&self, member: usize, error: &DeviceError) -> bool {
        let size = self.own.get().copied().unwrap_or(self.part.size);
        if !self.gave_up(member, size, error) {
            return false;
        }
        self.note_untouched(member, error);
        self.is_replayed.store(true, Ordering::Release);
        self.give_up_spent();
        true
    }

    fn note_untouched(&self, member: usize, error: &DeviceError) {
        if matches!(error, DeviceError::Memory { .. }) {
            self.untouched.store(1 << member, Ordering::Release);
        }
    }

    /// A quantum of the work on another member than the one that was lost or had no room.
    fn run_replay(&self, lost: DeviceError) -> Result<Progress, DeviceError> {
        let Ok(mut guard) = self.replay.try_lock() else {
            // Another lane carries it on; this one has nothing left to do.
            return Ok(Progress::Done);
        };
        if guard.is_none() {
            let untouched = self.untouched.load(Ordering::Acquire);
            if !self.part.is_repeatable(untouched) {
                return Err(lost);
            }
            self.part.take_back(untouched);
            let member = self.choose(self.part.size)?;
            self.shared.fell_back(self.chosen.load(Ordering::Acquire));
            let laid = self.laid(member).expect("chosen for it");
            *guard = Some(Run::of(member, laid));
        }
        let replay = guard.as_mut().expect("just made");
        if replay.ended {
            return Ok(Progress::Done);
        }
        match replay.quantum(&self.part) {
            Err(Failed::Member(error)) if self.gave_up(replay.member, self.part.size, &error) => {
                // This one too: the next quantum begins on another.
                if replay.arrival.ended {
                    self.note_untouched(replay.member, &error);
                }
                forfeit(Duration::from_nanos(replay.spent));
                drop(guard.take());
                Ok(Progress::More)
            }
            other => other.map_err(Failed::into_error),
        }
    }

    /// What was done so far will be done again: nobody is charged twice.
    fn give_up_spent(&self) {
        forfeit(Duration::from_nanos(self.spent.swap(0, Ordering::Relaxed)));
    }

    /// All lanes of all stages have ended; called once, by the worker that ended the last.
    fn ended(&self) {
        self.piece_ended();
        let member = self.chosen.load(Ordering::Acquire);
        let is_replayed = self.is_replayed.load(Ordering::Acquire);
        if member < self.shared.members.len() && !is_replayed {
            let size = self.own.get().copied().unwrap_or(self.part.size);
            self.learn(member, size, self.spent.load(Ordering::Relaxed));
        }
    }
}

impl Run {
    fn of(member: usize, laid: Arc<Laid>) -> Run {
        Run {
            member,
            laid,
            arrival: Arrival::default(),
            stage: 0,
            lanes: 0,
            lane: 0,
            ended: false,
            spent: 0,
        }
    }

    /// With a plan of its own, where all is that it reads.
    fn arrived(member: usize, plan: Arc<dyn Plan>, work: Work) -> Run {
        let stays = Vec::new();
        let mut run = Run::of(member, Arc::new(Laid { plan, work, stays }));
        run.arrival.ended = true;
        run
    }

    /// The next quantum of the work, one lane after another.
    fn quantum(&mut self, part: &Part) -> Result<Progress, Failed> {
        if !self.arrival.ended {
            self.arrival.quantum(part, self.member)?;
            return Ok(Progress::More);
        }
        let begin = Instant::now();
        let ran = self.run();
        // Of the quantum that meets a loss too: that is for nothing like those before it.
        self.spent += nanoseconds(begin);
        ran.map_err(Failed::Member)
    }

    fn run(&mut self) -> Result<Progress, DeviceError> {
        let plan = &self.laid.plan;
        if self.lane == self.lanes {
            self.lanes = plan.open(self.stage)?;
            self.lane = 0;
        }
        if plan.run(self.stage, self.lane)? == Progress::Done {
            self.lane += 1;
            if self.lane == self.lanes {
                self.stage += 1;
                self.ended = self.stage == plan.stages();
            }
        }
        Ok(match self.ended {
            true => Progress::Done,
            false => Progress::More,
        })
    }
}

impl Plan for RelayPlan {
    fn stages(&self) -> usize {
        self.stages
    }

    fn kernel(&self, stage: usize) -> &'static str {
        match self.place(stage) {
            Some((member, stage)) => self.names[member][stage],
            None if stage == 0 => "relay.copy",
            None => "relay.nothing",
        }
    }

    fn bytes(&self) -> usize {
        let laid = (0..self.plans.len()).filter_map(|member| self.laid(member));
        laid.map(|laid| laid.plan.bytes()).sum()
    }

    fn open(&self, stage: usize) -> Result<usize, DeviceError> {
        let Ok(_opening) = self.opening.try_lock() else {
            return Err(refusal(stage, 0, "another thread is opening a stage"));
        };
        if stage >= self.stages {
            return Err(refusal(stage, 0, "there is no such stage"));
        }
        if self.opened.load(Ordering::Relaxed) != stage {
            return Err(refusal(stage, 0, "stages are opened once each, in order"));
        }
        if self.left.load(Ordering::Acquire) != 0 {
            let why = "the stage before has lanes that have not ended";
            return Err(refusal(stage, 0, why));
        }
        let replayed = self.is_replayed.load(Ordering::Acquire);
        let lanes = match self.inner(stage).filter(|_| !replayed) {
            Some((member, laid, inner)) => match laid.plan.open(inner) {
                Err(error) if self.gave_up_midway(member, &error) => 1,
                other => other?,
            },
            None => 1,
        };
        self.is_passed.store(false, Ordering::Relaxed);
        self.lanes.store(lanes, Ordering::Relaxed);
        self.left.store(lanes, Ordering::Relaxed);
        // Pairs with the Acquire in `run`.
        self.opened.store(stage + 1, Ordering::Release);
        Ok(lanes)
    }

    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
        let opened = self.opened.load(Ordering::Acquire);
        if opened == 0 || opened - 1 != stage {
            return Err(refusal(stage, lane, "the stage is not open"));
        }
        if lane >= self.lanes.load(Ordering::Relaxed) {
            return Err(refusal(stage, lane, "there is no such lane"));
        }
        let progress = if stage == 0 {
            let Ok(mut arrival) = self.arrival.try_lock() else {
                return Err(refusal(
                    stage,
                    lane,
                    "the lane is running on another thread",
                ));
            };
            if arrival.ended {
                return Err(refusal(stage, lane, "the lane has ended"));
            }
            self.arrive(&mut arrival)?
        } else if self.is_replayed.load(Ordering::Acquire) {
            self.run_replay(self.shared.loss("it was lost in the midst of its work"))?
        } else {
            match self.inner(stage) {
                Some((member, laid, inner)) => {
                    let begin = Instant::now();
                    let ran = laid.plan.run(inner, lane);
                    self.spent.fetch_add(nanoseconds(begin), Ordering::Relaxed);
                    match ran {
                        Err(error) if self.gave_up_midway(member, &error) => {
                            let untouched = self.untouched.load(Ordering::Acquire);
                            if !self.part.is_repeatable(untouched) {
                                return Err(error);
                            }
                            // On another member from the next quantum on, which is that one's.
                            Progress::More
                        }
                        other => other?,
                    }
                }
                None => {
                    if self.is_passed.swap(true, Ordering::AcqRel) {
                        return Err(refusal(stage, lane, "the lane has ended"));
                    }
                    Progress::Done
                }
            }
        };
        if progress == Progress::Done {
            let left = self.left.fetch_sub(1, Ordering::AcqRel);
            if left == 1 && stage + 1 == self.stages {
                self.ended();
            }
        }
        Ok(progress)
    }

    fn point(&self) -> Option<Vec<u8>> {
        self.sum.get().cloned()
    }

    fn beside(self: Arc<Self>) -> Vec<Arc<dyn Plan>> {
        if !self.part.is_sum() {
            return Vec::new();
        }
        let others = 1..self.standings.len();
        let places: Box<[Share]> = others
            .filter(|&member| self.standings[member].is_there())
            .map(Share::of)
            .collect();
        let count = places.len();
        match self.shares.set(places) {
            Ok(()) => (0..count).map(|at| SharePlan::of(&self, at)).collect(),
            Err(_) => Vec::new(),
        }
    }

    fn allow(&self, members: u64) {
        self.allowed.store(members, Ordering::Relaxed);
    }

    /// Copies are for the host's threads, and so is what is begun again after a loss.
    fn member(&self, stage: usize) -> usize {
        let replayed = self.is_replayed.load(Ordering::Acquire);
        let place = self.place(stage).filter(|_| !replayed);
        place.map_or(HOST, |(member, _)| member)
    }
}

fn refusal(stage: usize, lane: usize, why: &'static str) -> DeviceError {
    DeviceError::Lane { stage, lane, why }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanoseconds(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The member that has everything.
const HOST: usize = 0;

/// No member.
const NONE: usize = usize::MAX;

/// No member either, for the others do it all.
const BESIDE: usize = usize::MAX - 1;

/// A bit of a word for each.
const MEMBERS_MAX: usize = 64;

/// log2 of sizes that are told apart.
const SIZES: usize = 33;
