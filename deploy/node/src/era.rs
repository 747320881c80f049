//! The ledger, as the clerk keeps it: read from the journal at the start, executed in memory, and written down in the
//! commit of what it is about.
//!
//! The clerk alone has it, so there is one order of commands and no lock. A command is executed, its record is written in the
//! group that is being written, and its answer goes out when that is on the disk. If the group cannot be written what it has
//! changed is taken back ([`Ledger::undo`]), so what is in memory is never anything but what the journal says. A disk that is full
//! is tried twice a second, and a try costs what its group does and no more. A write that was said to have failed may have
//! reached the disk: the head of the journal says so, and then, and only then, the journal is read again.
//!
//! **Jobs.** Where the ledger's policy names a price for a tenant's scenario and the tenant is a party, a submission reserves
//! the fee, in the commit that accepts it, or is refused with it. The end of the job brings one event of this node, signed with its
//! key: a proof that the box's own verifier has accepted charges the fee; a failure gives it back, and counts
//! against the node unless the job's own input is to blame. The event is in the commit that ends the job. A job's end is
//! written once (`caldera_store::jobs`), so there is one event of it. A proof that another box has made is no work of this
//! node's, and there is no event of it here. It is charged all the same, or lending would make proofs free: the fee goes where fees
//! go, and earns nobody on this box anything.
//!
//! **Reuse.** A presentation that is used again, which the registry has accepted, is paid for and becomes an event in the commit
//! of the registry's change.
//!
//! **Storage.** What a tenant has given back becomes an event when it takes it again, and before each close until then: each
//! is of the time since the later of the release and the epoch's opening, so an epoch pays for what the box had the use of in it.
//!
//! **A damaged journal** is refused, and named: nothing is charged and nothing paid until somebody has seen to it, and the
//! box goes on proving.

mod answer;
mod ask;

use std::collections::HashMap;
use std::time::Duration;

use caldera_rpc::chain::chain;
use caldera_rpc::era::{Amount, EraId, NodeName, PublicKey, Signature};
use caldera_rpc::error::{EraFault, RpcError};
use caldera_rpc::methods::{Bill, JobName, Metered};
use caldera_rpc::node_key::{NodeKey, verify};
use caldera_scheduler::ledger::command::{
    Cause, ClassId, Close, Deed, EpochNumber, Event, Id, Party, Role,
};
use caldera_scheduler::ledger::journal::{Audit, Bad};
use caldera_scheduler::ledger::policy::Price;
use caldera_scheduler::ledger::retention::{Kept, Retention};
use caldera_scheduler::ledger::{
    Answer, Command, Error, Head, Ledger, Outcome, Policy, Record, Signatures,
};
use caldera_store::TenantName;
use caldera_store::database::{Database, DatabaseError, Group};
use caldera_store::ledger::{LedgerHead, LedgerParty};
use caldera_store::releases::ReleaseRow;
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use answer::{explanation, statement};
pub(crate) use ask::json;
pub use ask::{Ask, Asked, Reading};

/// What the configuration says of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EraConfig {
    /// The policy with which the ledger is opened. Later ones are adopted.
    pub policy: Policy,
    /// The file of the node's private key.
    pub node_key_file: std::path::PathBuf,
    /// Who is behind this node.
    pub node_owner: u32,
    /// Where it is paid on the chain.
    pub node_address: [u8; 20],
}

/// What a change to a job means to the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Whose job it is.
    pub tenant: TenantName,
    /// The tenant's scenario.
    pub scenario: String,
    /// How it ended, if it has.
    pub end: Option<WorkEnd>,
}

/// A presentation that was used again, as the ledger is to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reused {
    /// The number of the registry's change that says so.
    pub change: u64,
    /// Who used it, and pays.
    pub tenant: TenantName,
    /// The tenant's scenario.
    pub scenario: String,
    /// Digest of that change.
    pub digest: [u8; 32],
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkEnd {
    /// With a proof that has passed its self-check, of this digest.
    Proved([u8; 32]),
    /// With a proof that another box has made: it is charged, and is no work of this one.
    Elsewhere {
        /// Its digest.
        proof: [u8; 32],
        /// That box's signature, if it is to be paid here.
        metered: Option<Metered>,
    },
    /// Without one.
    Failed(Cause),
    /// Nobody wanted it any more.
    Cancelled,
}

/// Why a journal is not used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be read or written.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// It is wrong.
    #[error(transparent)]
    Bad(#[from] Bad),
    /// The ledger takes no command with which it begins.
    #[error("opening the ledger: {0}")]
    Refused(Error),
    /// The node is in the ledger, and not as the configuration has it: what it earns would be another's, or paid elsewhere.
    #[error(
        "node {party} of the ledger, whose key this is: expected {expected}, as it was registered, got {got}; a node of \
         another owner or address is another node, with a key of its own"
    )]
    Node {
        /// The node.
        party: Party,
        /// Its owner and address in the ledger.
        expected: String,
        /// Those of the configuration.
        got: String,
    },
}

/// How the ledger stands, for whoever watches.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EraGauges {
    /// Why it is refused.
    pub damaged: Option<String>,
    /// Records.
    pub records: u64,
    /// Parties.
    pub parties: u64,
    /// The open epoch.
    pub epoch: u32,
    /// What house accounts hold, by their names on the wire.
    pub house: Vec<(&'static str, u128)>,
    /// Proofs, failures, releases, reuses and proofs of other boxes that became events since the start.
    pub events: [u64; 5],
    /// Submissions that were refused for want of funds, events that the ledger refused, and reuses that nobody paid
    /// for, since the start.
    pub refused: [u64; 3],
    /// Of those active in the newest month that is over, rewarded and others: by how many months before it they were active for the
    /// first time, the last of all that were before.
    pub retention: [[Kept; COHORTS]; 2],
}

/// Cohorts that are told apart: those of a year, and older ones together.
pub const COHORTS: usize = 13;

/// The ledger, or why there is none; for the clerk.
pub struct Era {
    config: EraConfig,
    key: NodeKey,
    keeper: Keep,
    /// Whether a write has failed, and the journal was not looked at since.
    doubted: bool,
    /// How it stood when that was told.
    told: EraGauges,
}

enum Keep {
    Sound(Box<Keeper>),
    Damaged(String),
}

/// A sound ledger. It grows with the journal, so there is one of it, and nothing copies it.
pub struct Keeper {
    ledger: Ledger,
    /// This node.
    node: Party,
    /// Who pays for a tenant's jobs, and who has developed what asks for them.
    tenants: HashMap<TenantName, [Option<Party>; 2]>,
    /// The tenant of each party.
    parties: HashMap<Party, TenantName>,
    /// All nodes: this one, and boxes that prove for tenants of this one.
    nodes: HashMap<NodeName, Party>,
    retention: Retention,
    /// All closes by their epoch, each with its time: a year of hours has 4 MB.
    closed: Vec<(u64, Close)>,
    /// All policies that there ever were, by their hashes.
    policies: HashMap<[u8; 32], Policy>,
    counts: Counts,
    /// Records that are not known to be on the disk, each with its command and the id that this was given.
    fresh: Vec<(Record, Id, Command)>,
    /// Parties of which the same is so.
    named: Vec<LedgerParty>,
    /// What else there was before these.
    before: (Counts, usize),
}

/// What is counted beside the ledger.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// The number of this node's next event.
    sequence: u64,
    events: [u64; 5],
    refused: [u64; 3],
}

/// The parts of a ledger that a journal makes.
struct Replayed {
    ledger: Ledger,
    retention: Retention,
    closed: Vec<(u64, Close)>,
    policies: HashMap<[u8; 32], Policy>,
    /// The last event of each node.
    sequences: HashMap<Party, u64>,
}

impl Era {
    /// Reads the journal, and begins it if it is empty. One that is damaged is refused and named, which is no error of
    /// the box.
    pub fn open(
        config: EraConfig,
        key: NodeKey,
        database: &mut Database,
        now: u64,
    ) -> Result<Era, OpenError> {
        let keeper = Keeper::open(&config, &key, database, now);
        Ok(Era {
            keeper: judged(keeper)?,
            config,
            key,
            doubted: false,
            told: EraGauges::default(),
        })
    }

    /// Looks at the journal after a write has failed. It is read again only if its head says that this was not so.
    pub fn refresh(&mut self, database: &mut Database, now: u64) -> Result<(), OpenError> {
        if !self.doubted {
            return Ok(());
        }
        if let Keep::Sound(keeper) = &self.keeper {
            let head = database.ledger_head()?;
            let Head { records, digest } = keeper.ledger.head();
            if (records, digest) != (head.records, head.digest) {
                self.keeper = judged(Keeper::open(&self.config, &self.key, database, now))?;
            }
        }
        self.doubted = false;
        Ok(())
    }

    /// What is executed from now on is one group.
    pub fn begin(&mut self) {
        if let Keep::Sound(keeper) = &mut self.keeper {
            keeper.begin();
        }
    }

    /// The group is written down.
    pub fn written(&mut self) {
        if let Keep::Sound(keeper) = &mut self.keeper {
            keeper.written();
        }
    }

    /// The group could not be written down.
    pub fn forget(&mut self) {
        self.doubted = true;
        if let Keep::Sound(keeper) = &mut self.keeper {
            keeper.forget();
        }
    }

    /// How long until an epoch can be closed.
    pub fn due_in(&self, now: u64) -> Option<Duration> {
        let Keep::Sound(keeper) = &self.keeper else {
            return None;
        };
        if self.doubted {
            return None;
        }
        let (_, closes) = keeper.ledger.epoch().ok()?;
        Some(Duration::from_secs(closes.saturating_sub(now)))
    }

    /// Takes a submission: `Ok` if it is paid for, or free.
    pub fn submitted(&mut self, job: u64, work: &Work, now: u64) -> Result<(), RpcError> {
        let Keep::Sound(keeper) = &mut self.keeper else {
            return Ok(());
        };
        let Some((party, _, price)) = keeper.payer(&work.tenant, &work.scenario) else {
            return Ok(());
        };
        match keeper.reserve(hold_of(job), party, price.proof, now) {
            Ok(_) => Ok(()),
            Err(error) => {
                keeper.counts.refused[0] += 1;
                Err(answer::refused(&error))
            }
        }
    }

    /// Gives back what is held for a submission that is no job any more.
    pub fn unsubmitted(&mut self, job: u64, now: u64) {
        if let Keep::Sound(keeper) = &mut self.keeper {
            keeper.give_back(hold_of(job), refund_of(job), now);
        }
    }

    /// Takes the end of a job, which is being written down.
    pub fn ended(&mut self, job: u64, work: &Work, now: u64) {
        let Keep::Sound(keeper) = &mut self.keeper else {
            return;
        };
        let hold = hold_of(job);
        let Some((_, fee, _)) = keeper.ledger.hold(hold) else {
            return;
        };
        let policy = keeper.ledger.policy();
        let priced = policy.ok().and_then(|policy| policy.price(&work.scenario));
        let class = priced.map(|(_, class)| class.id);
        let developer = keeper.developer(&work.tenant);
        let proved = |class, proof| Deed::Proof {
            hold,
            class,
            developer,
            fee,
            proof,
        };
        let (deed, kind) = match (work.end, class) {
            (Some(WorkEnd::Proved(proof)), Some(class)) => (proved(class, proof), 0),
            (Some(WorkEnd::Failed(cause)), _) => (Deed::Failure { hold, cause }, 1),
            (Some(WorkEnd::Elsewhere { proof, metered }), Some(class)) => {
                let deed = proved(class, proof);
                let paid = metered.is_some_and(|it| keeper.meter_others(job, it, deed, now));
                if !paid {
                    keeper.charge(job, fee, now);
                }
                return;
            }
            // Cancelled, or its scenario costs nothing any more.
            _ => return keeper.give_back(hold, refund_of(job), now),
        };
        if !keeper.meter(&self.key, deed, kind, now) {
            keeper.give_back(hold, refund_of(job), now);
        }
    }

    /// Takes a reuse that the registry has accepted, which is being written down. It is paid at once or never: the registry
    /// has its own rules of who may use what, and money is none of them, so one without funds is not refused. It earns
    /// nobody anything.
    pub fn reused(&mut self, reused: &Reused, now: u64) {
        let Keep::Sound(keeper) = &mut self.keeper else {
            return;
        };
        let hold = id_of(b"caldera reuse", reused.change);
        // A commit that was reported as failed may have reached the disk: then it has been paid for.
        if keeper.ledger.knows(hold) {
            return;
        }
        let Some((party, class, price)) = keeper.payer(&reused.tenant, &reused.scenario) else {
            return;
        };
        let fee = price.reuse;
        if fee == 0 {
            return;
        }
        if let Err(error) = keeper.reserve(hold, party, fee, now) {
            let Reused { change, tenant, .. } = reused;
            tracing::info!(%tenant, change, error = %chain(&error), "a reuse is not paid for");
            keeper.counts.refused[2] += 1;
            return;
        }
        let deed = Deed::Reuse {
            hold,
            class,
            developer: keeper.developer(&reused.tenant),
            fee,
            proof: reused.digest,
        };
        if !keeper.meter(&self.key, deed, 3, now) {
            let refund = id_of(b"caldera refund of a reuse", reused.change);
            keeper.give_back(hold, refund, now);
        }
    }

    /// Takes a release whose tenant has taken its storage again, which is being written down.
    pub fn taken_again(&mut self, row: &ReleaseRow, now: u64) {
        let (Keep::Sound(keeper), Some(until)) = (&mut self.keeper, row.taken_again_ms) else {
            return;
        };
        keeper.released(&self.key, row, until / 1000, now);
    }

    /// Closes the open epoch if its time has come.
    pub fn close_due(&mut self, group: &Group<'_>, now: u64) -> Result<(), DatabaseError> {
        if self.due_in(now) != Some(Duration::ZERO) {
            return Ok(());
        }
        let Keep::Sound(keeper) = &mut self.keeper else {
            return Ok(());
        };
        let Ok((epoch, _)) = keeper.ledger.epoch() else {
            return Ok(());
        };
        match keeper.close(&self.key, epoch, group, now)? {
            Ok(_) => tracing::info!(epoch, "an epoch is closed"),
            Err(error) => {
                tracing::error!(epoch, error = %chain(&error), "an epoch cannot be closed")
            }
        }
        Ok(())
    }

    /// Writes the new records into a group.
    pub fn write(&mut self, group: &Group<'_>) -> Result<(), DatabaseError> {
        match &mut self.keeper {
            Keep::Sound(keeper) => keeper.write(group),
            _ => Ok(()),
        }
    }

    /// How it stands, if that is something new.
    pub fn news(&mut self) -> Option<EraGauges> {
        let same = match &self.keeper {
            Keep::Sound(keeper) => {
                let records = keeper.ledger.head().records;
                (records, keeper.counts.refused) == (self.told.records, self.told.refused)
            }
            Keep::Damaged(_) => self.told.damaged.is_some(),
        };
        if same {
            return None;
        }
        self.told = self.gauges();
        Some(self.told.clone())
    }

    /// How it stands.
    pub fn gauges(&self) -> EraGauges {
        match &self.keeper {
            Keep::Sound(keeper) => keeper.gauges(),
            Keep::Damaged(why) => EraGauges {
                damaged: Some(why.clone()),
                ..EraGauges::default()
            },
        }
    }
}

impl Keep {
    fn sound(&mut self) -> Result<&mut Keeper, RpcError> {
        match self {
            Keep::Sound(keeper) => Ok(keeper),
            Keep::Damaged(why) => Err(RpcError::Era {
                fault: EraFault::Damaged,
                detail: why.clone(),
            }),
        }
    }
}

/// What is kept of a journal that was read; an error only if it could not be, or if the configuration is of another node.
fn judged(opened: Result<Keeper, OpenError>) -> Result<Keep, OpenError> {
    match opened {
        Ok(keeper) => Ok(Keep::Sound(Box::new(keeper))),
        Err(error @ (OpenError::Database(_) | OpenError::Node { .. })) => Err(error),
        Err(error) => {
            tracing::error!(error = %chain(&error), "the ledger is refused; the box goes on without it");
            Ok(Keep::Damaged(chain(&error).to_string()))
        }
    }
}

impl Keeper {
    fn open(
        config: &EraConfig,
        key: &NodeKey,
        database: &mut Database,
        now: u64,
    ) -> Result<Keeper, OpenError> {
        let Replayed {
            ledger,
            retention,
            closed,
            policies,
            sequences,
        } = replay(database, Signatures::Checked)?;
        let mut keeper = Keeper {
            ledger: ledger.with(Signatures::Verify(verify)),
            node: 0,
            tenants: HashMap::new(),
            parties: HashMap::new(),
            nodes: HashMap::new(),
            retention,
            before: (Counts::default(), closed.len()),
            closed,
            policies,
            counts: Counts::default(),
            fresh: Vec::new(),
            named: Vec::new(),
        };
        for row in database.ledger_parties()? {
            keeper.name(&row);
        }
        if keeper.ledger.head().records == 0 {
            let policy = config.policy.clone();
            keeper.found(Command::Open { policy }, b"caldera open", 0, now)?;
        }
        let public = key.public();
        for party in keeper.ledger.parties() {
            let view = keeper.ledger.party(party).map_err(OpenError::Refused)?;
            if view.role == Role::Node {
                keeper.nodes.insert(PublicKey(view.key).name(), party);
            }
        }
        let known = keeper.nodes.get(&PublicKey(public).name());
        keeper.node = match known.copied() {
            Some(party) => {
                let view = keeper.ledger.party(party).map_err(OpenError::Refused)?;
                let (owner, address) = (config.node_owner, config.node_address);
                if (view.owner, view.address) != (owner, address) {
                    return Err(OpenError::Node {
                        party,
                        expected: payee(view.owner, &view.address),
                        got: payee(owner, &address),
                    });
                }
                party
            }
            None => {
                let node = keeper.next_party();
                let register = Command::Register {
                    party: node,
                    role: Role::Node,
                    owner: config.node_owner,
                    address: config.node_address,
                    key: public,
                };
                keeper.found(register, b"caldera node", node.into(), now)?;
                node
            }
        };
        keeper.counts.sequence = sequences.get(&keeper.node).map_or(0, |last| last + 1);
        let group = database.group()?;
        keeper.write(&group)?;
        group.commit()?;
        keeper.written();
        Ok(keeper)
    }

    fn begin(&mut self) {
        self.ledger.mark();
        self.before = (self.counts, self.closed.len());
    }

    fn written(&mut self) {
        self.ledger.confirm();
        for (record, id, command) in self.fresh.drain(..) {
            self.retention.take(record.at, id, &command);
        }
        self.named.clear();
        self.before = (self.counts, self.closed.len());
    }

    fn forget(&mut self) {
        self.ledger.undo();
        for (.., command) in self.fresh.drain(..) {
            if let Some((name, party)) = node_of(&command)
                && self.nodes.get(&name) == Some(&party)
            {
                self.nodes.remove(&name);
            }
        }
        for row in self.named.drain(..) {
            self.parties.remove(&row.party);
            if let Some(of) = self.tenants.get_mut(&row.tenant) {
                of[usize::from(row.developer)] = None;
            }
        }
        let (counts, closed) = self.before;
        self.counts = counts;
        self.closed.truncate(closed);
    }

    /// Executes what the box itself begins with.
    fn found(
        &mut self,
        command: Command,
        domain: &[u8],
        number: u64,
        now: u64,
    ) -> Result<(), OpenError> {
        let done = self.execute(id_of(domain, number), command, now);
        done.map(drop).map_err(OpenError::Refused)
    }

    /// Executes a command; its record is written with the next group.
    fn execute(&mut self, id: Id, command: Command, now: u64) -> Result<Answer, Error> {
        let answer = self.ledger.execute(id, &command, now)?;
        if let Answer::New(record) = &answer {
            if let Outcome::Closed { close } = &record.outcome {
                self.closed.push((record.at, (**close).clone()));
            }
            if let Some((hash, policy)) = policy_of(&command) {
                self.policies.insert(hash, policy);
            }
            self.nodes.extend(node_of(&command));
            self.fresh.push((record.clone(), id, command));
        }
        Ok(answer)
    }

    /// Who pays for a tenant's jobs, of which class they are and what they cost; nobody for what costs nothing.
    fn payer(&self, tenant: &TenantName, scenario: &str) -> Option<(Party, ClassId, Price)> {
        let [party, _] = self.tenants.get(tenant)?;
        let (price, class) = self.ledger.policy().ok()?.price(scenario)?;
        Some(((*party)?, class.id, price.clone()))
    }

    fn developer(&self, tenant: &TenantName) -> Option<Party> {
        self.tenants.get(tenant).and_then(|it| it[1])
    }

    /// Sets aside what a job may cost.
    fn reserve(&mut self, hold: Id, party: Party, amount: u128, now: u64) -> Result<Answer, Error> {
        // By the ledger's time, which a clock that has jumped may have set ahead.
        let expires = now.max(self.ledger.now()).saturating_add(HOLD_S);
        let reserve = Command::Reserve {
            party,
            amount,
            expires,
        };
        self.execute(hold, reserve, now)
    }

    /// Charges a job whose work is not this node's. What the ledger does not take is given back: the job has ended.
    fn charge(&mut self, job: u64, amount: u128, now: u64) {
        let hold = hold_of(job);
        let id = id_of(b"caldera charge", job);
        if let Err(error) = self.execute(id, Command::Charge { hold, amount }, now) {
            tracing::error!(job, error = %chain(&error), "a job that was proved elsewhere is not charged");
            self.counts.refused[1] += 1;
            self.give_back(hold, refund_of(job), now);
        }
    }

    /// Takes what was given back, from the later of then and the epoch's opening until now, or until it was taken again. What was
    /// before the opening was taken before the close.
    fn released(&mut self, key: &NodeKey, row: &ReleaseRow, until: u64, now: u64) {
        let Some([Some(party), _]) = self.tenants.get(&row.tenant) else {
            return;
        };
        let Ok(opened) = self.ledger.opened_at() else {
            return;
        };
        let from = opened.max(row.at_ms / 1000);
        let bytes = row.tables + row.keys + row.blobs;
        let returned_s = until.saturating_sub(from);
        if bytes == 0 || returned_s == 0 {
            return;
        }
        let deed = Deed::Release {
            party: *party,
            bytes,
            held_s: row.at_ms.saturating_sub(row.quiet_since_ms) / 1000,
            returned_s,
        };
        self.meter(key, deed, 2, now);
    }

    /// Closes an epoch. Before it what tenants have given back, and not taken again, becomes an event for its part of the epoch.
    fn close(
        &mut self,
        key: &NodeKey,
        epoch: EpochNumber,
        group: &Group<'_>,
        now: u64,
    ) -> Result<Result<Answer, Error>, DatabaseError> {
        let until = now.max(self.ledger.now());
        let over = self.ledger.epoch();
        if over.is_ok_and(|(open, closes)| open == epoch && closes <= until) {
            for row in group.open_releases()? {
                self.released(key, &row, until, now);
            }
        }
        Ok(self.execute(0, Command::Close { epoch }, now))
    }

    /// Gives back what was set aside, if anything was and is still, by a command of this id.
    fn give_back(&mut self, hold: Id, id: Id, now: u64) {
        if self.ledger.hold(hold).is_none() {
            return;
        }
        if let Err(error) = self.execute(id, Command::Refund { hold }, now) {
            let hold = format!("{hold:#034x}");
            tracing::error!(hold, error = %chain(&error), "a hold is not given back");
        }
    }

    /// Signs what this node did and takes it. What the ledger refuses is logged and counted: a job that has ended has
    /// ended. Whether it was taken.
    fn meter(&mut self, key: &NodeKey, what: Deed, kind: usize, now: u64) -> bool {
        let event = Event {
            node: self.node,
            sequence: self.counts.sequence,
            observed: now,
            what,
        };
        let signature = key.sign(&event.signed_bytes()).to_vec();
        let shown = format!("{event:?}");
        match self.execute(0, Command::Meter { event, signature }, now) {
            Ok(_) => {
                self.counts.sequence += 1;
                self.counts.events[kind] += 1;
                true
            }
            Err(error) => {
                tracing::error!(event = shown, error = %chain(&error), "an event is refused");
                self.counts.refused[1] += 1;
                if matches!(error, Error::Conflict { .. }) {
                    // That number is taken; the next one need not be.
                    self.counts.sequence += 1;
                }
                false
            }
        }
    }

    /// Takes what another node has signed that it did for a job of this box. Whether it was taken: it is if the node is one of this
    /// ledger's, and has signed just this.
    fn meter_others(&mut self, job: u64, metered: Metered, what: Deed, now: u64) -> bool {
        let node = metered.node;
        // What this node did it says itself.
        let Some(sequence) = self
            .ledger
            .record_of(hold_of(job))
            .filter(|_| node != self.node)
        else {
            return false;
        };
        let event = Event {
            node,
            sequence,
            observed: metered.observed,
            what,
        };
        let signature = metered.signature.0.to_vec();
        match self.execute(0, Command::Meter { event, signature }, now) {
            Ok(_) => {
                self.counts.events[4] += 1;
                true
            }
            Err(error) => {
                tracing::error!(job, node, error = %chain(&error), "what another node says that it did is refused");
                self.counts.refused[1] += 1;
                false
            }
        }
    }

    /// What a job earns a node that is not this one.
    fn bill(&self, job: JobName, work: &Work, lender: NodeName) -> Option<Bill> {
        let hold = hold_of(job.0);
        let (_, fee, _) = self.ledger.hold(hold)?;
        let (_, class) = self.ledger.policy().ok()?.price(&work.scenario)?;
        let node = *self.nodes.get(&lender)?;
        (node != self.node).then_some(Bill {
            node,
            sequence: self.ledger.record_of(hold)?,
            hold: EraId(hold),
            class: class.id,
            developer: self.developer(&work.tenant),
            fee: Amount(fee),
        })
    }

    fn write(&mut self, group: &Group<'_>) -> Result<(), DatabaseError> {
        for row in &self.named {
            group.ledger_party(row)?;
        }
        if self.fresh.is_empty() {
            return Ok(());
        }
        for (record, ..) in &self.fresh {
            group.record(record.sequence, &record.digest, &record.bytes)?;
        }
        let Head { records, digest } = self.ledger.head();
        // A ledger with a record is open.
        let state = self.ledger.state_hash().unwrap_or_default();
        group.ledger_head(&LedgerHead {
            records,
            digest,
            state,
        })
    }

    fn name(&mut self, row: &LedgerParty) {
        let of = self.tenants.entry(row.tenant.clone()).or_default();
        of[usize::from(row.developer)] = Some(row.party);
        self.parties.insert(row.party, row.tenant.clone());
    }

    fn next_party(&self) -> Party {
        self.ledger.parties().last().map_or(1, |last| last + 1)
    }

    fn gauges(&self) -> EraGauges {
        let epoch = self.ledger.epoch().map_or(0, |(epoch, _)| epoch);
        let month = self.retention.month().checked_sub(1);
        let mut retention = [[Kept::default(); COHORTS]; 2];
        for (group, kept) in self.retention.groups() {
            if Some(group.month) == month {
                let age = (group.month - group.cohort) as usize;
                let sum = &mut retention[usize::from(!group.rewarded)][age.min(COHORTS - 1)];
                *sum = sum.and(kept);
            }
        }
        EraGauges {
            damaged: None,
            records: self.ledger.head().records,
            parties: self.ledger.parties().count() as u64,
            epoch,
            house: answer::house(&self.ledger),
            events: self.counts.events,
            refused: self.counts.refused,
            retention,
        }
    }
}

/// Who is behind a node and where it is paid, as the configuration has it.
fn payee(owner: u32, address: &[u8; 20]) -> String {
    let digits: String = address.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("node_owner = {owner} and node_address = \"0x{digits}\"")
}

/// Executes the whole journal and holds it against its head.
fn replay(database: &Database, signatures: Signatures) -> Result<Replayed, OpenError> {
    let head = database.ledger_head()?;
    let mut audit = Audit::new(signatures);
    let mut retention = Retention::default();
    let mut closed = Vec::new();
    let mut policies = HashMap::new();
    let mut sequences = HashMap::new();
    let mut wrong = None;
    database.ledger_rows(|row| {
        match audit.take_kept(row.sequence, &row.digest, &row.bytes) {
            Ok(record) => {
                retention.take(record.at, record.id, &record.command);
                policies.extend(policy_of(&record.command));
                match (&record.command, &record.outcome) {
                    (Command::Meter { event, .. }, _) => {
                        let last = sequences.entry(event.node).or_insert(event.sequence);
                        *last = event.sequence.max(*last);
                    }
                    (_, Outcome::Closed { close }) => closed.push((record.at, (**close).clone())),
                    _ => {}
                }
            }
            Err(bad) => wrong = Some(bad),
        }
        wrong.is_none()
    })?;
    if let Some(bad) = wrong {
        return Err(bad.into());
    }
    let known = Head {
        records: head.records,
        digest: head.digest,
    };
    let ledger = audit.finish_at(&known, &head.state)?;
    Ok(Replayed {
        ledger,
        retention,
        closed,
        policies,
        sequences,
    })
}

/// The policy that a command brings, by its hash.
fn policy_of(command: &Command) -> Option<([u8; 32], Policy)> {
    match command {
        Command::Open { policy } | Command::Adopt { policy, .. } => {
            Some((policy.hash(), policy.clone()))
        }
        _ => None,
    }
}

/// The node that a command brings, and which party that is.
fn node_of(command: &Command) -> Option<(NodeName, Party)> {
    match command {
        &Command::Register {
            party,
            role: Role::Node,
            key,
            ..
        } => Some((PublicKey(key).name(), party)),
        _ => None,
    }
}

/// Signs that a node did what a bill says, for the ledger that the bill is from.
fn sign_for(key: &NodeKey, bill: &Bill, proof: [u8; 32], now: u64) -> Metered {
    let event = Event {
        node: bill.node,
        sequence: bill.sequence,
        observed: now,
        what: Deed::Proof {
            hold: bill.hold.0,
            class: bill.class,
            developer: bill.developer,
            fee: bill.fee.0,
            proof,
        },
    };
    Metered {
        node: bill.node,
        observed: now,
        signature: Signature(key.sign(&event.signed_bytes())),
    }
}

/// The hold that pays for a job.
pub fn hold_of(job: u64) -> Id {
    id_of(b"caldera job", job)
}

/// The command that gives that hold back.
fn refund_of(job: u64) -> Id {
    id_of(b"caldera refund", job)
}

fn id_of(domain: &[u8], number: u64) -> Id {
    let hash = Sha256::new()
        .chain_update(domain)
        .chain_update(number.to_be_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    Id::from_be_bytes(hash[..16].try_into().expect("sixteen bytes"))
}

/// How long a job may take before what it would cost is free again: a job whose tenant is not configured any more
/// never ends.
const HOLD_S: u64 = 30 * 86_400;
