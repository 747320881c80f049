//! Storage: what each tenant holds, and giving it back while a tenant is quiet.
//!
//! When, and what, is the scheduler's business (`caldera_scheduler::storage`); here is what is known of
//! holdings, and what is done. A release goes through two stages:
//!
//! ```text
//! quiet ─ plan ─ Confirming ─┬ plan again without them ┐  keys whose source is not right stay
//!                  └ demand  │                         │
//!                    returns └─ Going ─ written down ◄─┘  tables, files, mappings are gone
//! ```
//!
//! While sources are being looked at nothing has gone, and demand that returns ends the matter. Once
//! things go they go to the end, and the row says that they were taken again. Bytes count as back
//! when they are: tables when the table maker has freed them, files when they are removed, a key when
//! its last mapping is too.
//!
//! A job that comes for a key that is away is admitted like any other. Its key is read again by
//! the registrar, and the preparers wait for that and for nothing else.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use caldera_rpc::chain::chain;
use caldera_rpc::error::RpcError;
use caldera_rpc::methods::{Digest, StorageRelease, StorageStatus, TenantStorage};
use caldera_scheduler::scenario::{GiveBack, Share};
use caldera_scheduler::storage::{Bound, Item, Kind, Plan, plan};
use caldera_scheduler::{Nanos, Policy, TenantId};
use caldera_store::releases::ReleaseRow;

use super::circuits::{Away, Circuit};
use super::{Caller, Flow, Question, Service, as_json, ms};
use crate::clerk::Task;
use crate::clock::unix_time;
use crate::registrar;
use crate::source::SourceError;
use crate::tables;

/// A release that is under way.
pub(super) struct Release {
    /// Names it to the threads that do the work.
    number: u64,
    share: Share,
    quiet_since_ms: u64,
    /// Keys whose source was looked at, and what is wrong with it if something is.
    looked_at: HashMap<Digest, Option<SourceError>>,
    stage: Stage,
}

enum Stage {
    /// So many sources are being looked at.
    Confirming(usize),
    Going(Going),
}

struct Going {
    plan: Plan,
    /// Bytes that are back: tables, keys, other blobs.
    back: [u64; 3],
    /// Answers that are still to come.
    answers: usize,
    /// Keys that are still mapped.
    mapped: HashSet<Digest>,
    /// When demand returned.
    returned_ms: Option<u64>,
}

/// What can be held, by name.
#[derive(Clone, Copy)]
enum Held {
    Tables(Digest),
    Key(Digest),
    Blob(Digest),
}

/// The mark of a class, by its name.
pub(super) fn mark(policy: &Policy, scenario: &str) -> Option<GiveBack> {
    let class = policy.find(scenario).and_then(|id| policy.class(id));
    class.and_then(|class| class.give_back)
}

impl Service {
    /// Something came from a tenant that is demand.
    pub(super) fn stir(&mut self, tenant: TenantId, at: Nanos) {
        let it = &mut self.tenants[tenant.0 as usize];
        if !it.watch.arrive(at) {
            return;
        }
        let at_ms = unix_time().as_millis() as u64;
        match &mut it.release {
            Some(release) => match &mut release.stage {
                Stage::Confirming(_) => it.release = None,
                Stage::Going(going) => going.returned_ms = Some(at_ms),
            },
            None => {
                let tenant = it.name.clone();
                self.tell_clerk(Task::TakenAgain { tenant, at_ms });
            }
        }
    }

    /// Whether a blob is on its way out.
    pub(super) fn leaves(&self, tenant: TenantId, digest: Digest) -> bool {
        let blob = (tenant, digest);
        self.removing.contains(&blob) || self.erasing.contains(&blob)
    }

    /// How long until somebody may be quiet.
    pub(super) fn quiet_in(&self, now: Nanos) -> Option<Duration> {
        if self.stopping {
            return None;
        }
        // With a release under way the end of that is what happens next.
        let idle = self.tenants.iter().filter(|it| it.release.is_none());
        let due = idle.filter_map(|it| it.watch.due()).min()?;
        Some(Duration::from_nanos(due.since(now).0))
    }

    /// Begins the releases that are due.
    pub(super) fn watch_storage(&mut self, now: Nanos) {
        for tenant in (0..).map(TenantId).take(self.tenants.len()) {
            let it = &mut self.tenants[tenant.0 as usize];
            if self.stopping || it.release.is_some() {
                continue;
            }
            let Some((share, since)) = it.watch.give(now) else {
                continue;
            };
            let unix_ms = unix_time().as_millis() as u64;
            let number = self.ticket();
            self.tenants[tenant.0 as usize].release = Some(Release {
                number,
                share,
                quiet_since_ms: unix_ms.saturating_sub(now.since(since).as_millis()),
                looked_at: HashMap::new(),
                stage: Stage::Confirming(0),
            });
            self.go_on(tenant);
        }
    }

    /// Another policy is in force.
    pub(super) fn adopt_marks(&mut self, policy: &Policy) {
        for it in &mut self.tenants {
            it.watch.adopt(mark(policy, &it.scenario));
        }
    }

    /// Bounds what a tenant may store by what its class may keep, and by its own quota where that is less. What it has
    /// stays. The store bounds all tenants alike besides.
    pub(super) fn limit_storage(&self, tenant: TenantId) {
        let it = self.tenant(tenant);
        let class = self.policy.find(&it.scenario);
        let class = class.and_then(|id| self.policy.class(id));
        let bounds = [class.map(|class| class.storage_max), it.terms.blob_bytes()];
        let max = bounds.into_iter().flatten().min();
        self.parts.blobs.limit_tenant(&it.name, max);
    }

    pub(super) fn limit_all_storage(&self) {
        (0..)
            .map(TenantId)
            .take(self.tenants.len())
            .for_each(|tenant| self.limit_storage(tenant));
    }

    /// A source was looked at.
    pub(super) fn confirmed(
        &mut self,
        number: u64,
        circuit: Digest,
        result: Result<(), SourceError>,
    ) {
        let Some((tenant, release)) = self.release(number) else {
            return;
        };
        if let Err(error) = &result {
            tracing::warn!(%circuit, error = %chain(&error), "a key is not given back");
        }
        release.looked_at.insert(circuit, result.err());
        if let Stage::Confirming(left) = &mut release.stage {
            *left -= 1;
            if *left == 0 {
                self.go_on(tenant);
            }
        }
    }

    /// Tables are freed.
    pub(super) fn tables_released(&mut self, number: u64, bytes: u64) {
        self.went(number, |going| {
            going.back[0] = bytes;
            going.answers -= 1;
        });
    }

    /// Files are removed.
    pub(super) fn blobs_released(&mut self, number: u64, keys: u64, blobs: u64) {
        let Some((tenant, _)) = self.release(number) else {
            return;
        };
        self.removing.retain(|(of, _)| *of != tenant);
        let leaving = self.circuits.iter_mut();
        let gone: Vec<Digest> = leaving
            .filter(|((of, _), it)| *of == tenant && it.away == Some(Away::Leaving))
            .map(|((_, circuit), it)| {
                it.away = Some(Away::Gone);
                *circuit
            })
            .collect();
        for circuit in gone {
            self.bring_back(tenant, circuit);
        }
        self.went(number, |going| {
            [going.back[1], going.back[2]] = [keys, blobs];
            going.answers -= 1;
        });
    }

    /// Nothing of a key is mapped any more.
    pub(super) fn unmapped(&mut self, tenant: TenantId, circuit: Digest) {
        self.parts.residence.look(tenant);
        if let Some(release) = &self.tenants[tenant.0 as usize].release {
            self.went(release.number, |going| {
                going.mapped.remove(&circuit);
            });
        }
    }

    pub(super) fn look_at_storage(&mut self, caller: Caller) -> Flow {
        let ticket = self.ticket();
        let tenant = match caller {
            Caller::Operator | Caller::Fleet => None,
            Caller::Tenant(tenant) => Some(self.tenant(tenant).name.clone()),
        };
        self.tell_clerk(Task::Releases { ticket, tenant });
        Flow::Wait(ticket, Question::Call)
    }

    /// What a tenant holds, and when it is to give it back.
    pub(super) fn storage_of(&self, tenant: TenantId) -> TenantStorage {
        let it = self.tenant(tenant);
        let [tables_bytes, keys_bytes, blobs_bytes] = self.held(tenant);
        let now = self.parts.clock.now();
        TenantStorage {
            tenant: it.name.to_string(),
            scenario: it.scenario.clone(),
            tables_bytes,
            keys_bytes,
            blobs_bytes,
            quiet: it.watch.is_quiet() && it.release.is_none(),
            due_ms: it.watch.due().map(|due| ms(due.since(now))),
        }
    }

    /// The clerk has read what was given back.
    pub(super) fn releases(&mut self, ticket: u64, rows: Result<Vec<ReleaseRow>, RpcError>) {
        let Some(waiting) = self.waiting.remove(&ticket) else {
            return;
        };
        let Question::Call = waiting.question else {
            return;
        };
        let own = |tenant: TenantId| match waiting.caller {
            Caller::Operator => true,
            Caller::Fleet => false,
            Caller::Tenant(caller) => caller == tenant,
        };
        let tenants = (0..).map(TenantId).zip(&self.tenants);
        let tenants = tenants.filter(|(tenant, _)| own(*tenant));
        let tenants = tenants.map(|(tenant, _)| self.storage_of(tenant)).collect();
        let outcome = rows.and_then(|rows| {
            as_json(&StorageStatus {
                tenants,
                releases: rows.into_iter().map(show).collect(),
            })
        });
        self.settle(waiting, outcome);
    }

    /// Bytes that a tenant holds: tables, keys, other blobs.
    pub(super) fn held(&self, tenant: TenantId) -> [u64; 3] {
        let mut held = [0; 3];
        held[0] = self.tables_of(tenant).map(|(_, bytes)| bytes).sum();
        for (_, bytes, key) in self.files_of(tenant) {
            held[if key.is_some() { 1 } else { 2 }] += bytes;
        }
        held
    }

    /// All that a tenant holds, and what keeps it, with what is known of sources.
    fn holdings(
        &self,
        tenant: TenantId,
        looked_at: &HashMap<Digest, Option<SourceError>>,
    ) -> Vec<(Held, Item)> {
        let uses = self.uses(tenant);
        let needed = |yes: bool| yes.then_some(Bound::Job);
        let tables = self.tables_of(tenant).map(|(circuit, bytes)| {
            let item = Item {
                kind: Kind::Tables,
                bytes,
                bound: needed(uses.circuits.contains(&circuit)),
            };
            (Held::Tables(circuit), item)
        });
        let files = self.files_of(tenant).map(|(digest, bytes, key)| {
            let Some(circuit) = key else {
                let spent = uses.proved.contains(&digest);
                let item = Item {
                    kind: if spent { Kind::Spent } else { Kind::Blob },
                    bytes,
                    // A program is as good as in use: without it its circuit takes no inputs.
                    bound: needed(
                        uses.witnesses.contains(&digest)
                            || self.circuit_of(tenant, digest).is_some(),
                    ),
                };
                return (Held::Blob(digest), item);
            };
            // What is being checked or read again is in use as much as what is proved with.
            let busy = circuit.is_loaded() != Some(true) || uses.circuits.contains(&digest);
            let sourced =
                circuit.row.source.is_some() && looked_at.get(&digest).is_none_or(Option::is_none);
            let item = Item {
                kind: Kind::Key,
                bytes,
                bound: needed(busy).or((!sourced).then_some(Bound::NoSource)),
            };
            (Held::Key(digest), item)
        });
        tables.chain(files).collect()
    }

    /// What the tables of a tenant's circuits take.
    fn tables_of(&self, tenant: TenantId) -> impl Iterator<Item = (Digest, u64)> {
        let all = self.tables.iter().filter(move |((of, _), _)| *of == tenant);
        all.map(|(&(_, circuit), &bytes)| (circuit, bytes))
    }

    /// A tenant's files and their lengths, each with its circuit if it is the key of one; without
    /// those that are on their way out.
    fn files_of(&self, tenant: TenantId) -> impl Iterator<Item = (Digest, u64, Option<&Circuit>)> {
        let files = self.parts.blobs.list(&self.tenant(tenant).name);
        files.into_iter().filter_map(move |(digest, bytes)| {
            let digest = Digest(digest);
            let circuit = self.circuits.get(&(tenant, digest));
            let leaves = circuit.is_some_and(|it| it.away == Some(Away::Leaving))
                || self.leaves(tenant, digest);
            let key = circuit.filter(|it| it.is_loaded().is_some());
            (!leaves).then_some((digest, bytes, key))
        })
    }

    /// Plans with what is known of sources, and looks at those of which nothing is known; or goes ahead.
    fn go_on(&mut self, tenant: TenantId) {
        let Some(release) = &self.tenants[tenant.0 as usize].release else {
            return;
        };
        let (held, items): (Vec<Held>, Vec<Item>) = self
            .holdings(tenant, &release.looked_at)
            .into_iter()
            .unzip();
        let plan = plan(&items, release.share);
        let going: Vec<Held> = plan.going.iter().map(|&at| held[at]).collect();
        let mut unknown = Vec::new();
        for held in &going {
            if let Held::Key(circuit) = held
                && !release.looked_at.contains_key(circuit)
                && let Some(it) = self.circuits.get(&(tenant, *circuit))
                && let Some(source) = &it.row.source
            {
                unknown.push(registrar::Request::Confirm {
                    release: release.number,
                    circuit: *circuit,
                    bytes: it.row.bytes,
                    source: source.clone(),
                });
            }
        }
        if unknown.is_empty() {
            self.go(tenant, plan, &going);
            return;
        }
        if let Some(release) = &mut self.tenants[tenant.0 as usize].release {
            release.stage = Stage::Confirming(unknown.len());
        }
        for request in unknown {
            if self.parts.registrar.send(request).is_err() {
                tracing::error!("the registrar has ended");
            }
        }
    }

    /// Lets things go.
    fn go(&mut self, tenant: TenantId, plan: Plan, held: &[Held]) {
        let Some(release) = &mut self.tenants[tenant.0 as usize].release else {
            return;
        };
        let number = release.number;
        let (mut circuits, mut keys, mut blobs) = (Vec::new(), Vec::new(), Vec::new());
        let mut mapped = HashSet::new();
        for held in held {
            match *held {
                Held::Tables(circuit) => circuits.push((tenant, circuit)),
                Held::Key(circuit) => {
                    if let Some(it) = self.circuits.get_mut(&(tenant, circuit)) {
                        // The table maker may have the last reference.
                        circuits.push((tenant, circuit));
                        keys.push((circuit, it.let_go()));
                        mapped.insert(circuit);
                    }
                }
                Held::Blob(digest) => blobs.push(digest),
            }
        }
        self.removing
            .extend(blobs.iter().map(|digest| (tenant, *digest)));
        let (tables, files) = (!circuits.is_empty(), !keys.is_empty() || !blobs.is_empty());
        release.stage = Stage::Going(Going {
            plan,
            back: [0; 3],
            answers: usize::from(tables) + usize::from(files),
            mapped,
            returned_ms: None,
        });
        if tables {
            let request = tables::Request::Release {
                release: number,
                circuits,
            };
            // Without a maker the box is stopping.
            let _ = self.parts.tables.send(request);
        }
        if files {
            self.tell_clerk(Task::Release {
                release: number,
                tenant: self.tenant(tenant).name.clone(),
                keys,
                blobs,
            });
        }
        self.went(number, |_| {});
    }

    /// Some of it has gone; writes down what was given back when all has.
    fn went(&mut self, number: u64, note: impl FnOnce(&mut Going)) {
        let Some((tenant, release)) = self.release(number) else {
            return;
        };
        let Stage::Going(going) = &mut release.stage else {
            return;
        };
        note(going);
        if going.answers > 0 || !going.mapped.is_empty() {
            return;
        }
        let at_ms = unix_time().as_millis() as u64;
        let reason = release.short_reason();
        let Stage::Going(going) = &release.stage else {
            return;
        };
        let [tables, keys, blobs] = going.back;
        let back = tables + keys + blobs;
        let short = going.plan.aim.saturating_sub(back);
        let (held, returned_ms) = (going.plan.held.max(back), going.returned_ms);
        let quiet_since_ms = release.quiet_since_ms;
        let it = &mut self.tenants[tenant.0 as usize];
        it.release = None;
        if held == 0 {
            return;
        }
        tracing::info!(tenant = %it.name, tables, keys, blobs, held, short, reason, "given back");
        let row = ReleaseRow {
            id: 0,
            tenant: it.name.clone(),
            class: it.scenario.clone(),
            at_ms,
            quiet_since_ms,
            held,
            tables,
            keys,
            blobs,
            short,
            short_reason: (short > 0).then_some(reason),
            taken_again_ms: returned_ms.map(|returned| returned.max(at_ms)),
        };
        for (sum, bytes) in self
            .telemetry
            .given_back
            .iter_mut()
            .zip([tables, keys, blobs])
        {
            *sum += bytes;
        }
        self.tell_clerk(Task::NoteRelease { row });
    }

    fn release(&mut self, number: u64) -> Option<(TenantId, &mut Release)> {
        let mut all = (0..).map(TenantId).zip(&mut self.tenants);
        all.find_map(|(tenant, it)| {
            let release = it.release.as_mut()?;
            (release.number == number).then_some((tenant, release))
        })
    }
}

impl Release {
    /// Why less is back than should be.
    fn short_reason(&self) -> String {
        let mut reasons = Vec::new();
        if let Stage::Going(going) = &self.stage {
            let Plan {
                needed, sourceless, ..
            } = going.plan;
            if needed > 0 {
                reasons.push(format!("{needed} bytes are needed by unfinished jobs"));
            }
            if sourceless > 0 {
                reasons.push(format!(
                    "{sourceless} bytes of keys have no source to be read again from"
                ));
            }
        }
        reasons.extend(
            self.looked_at
                .values()
                .flatten()
                .map(SourceError::to_string),
        );
        if reasons.is_empty() {
            reasons.push("something could not be removed; the box's log has the rest".into());
        }
        reasons.join("; ")
    }
}

/// A release as the wire has it.
fn show(row: ReleaseRow) -> StorageRelease {
    StorageRelease {
        release: row.id,
        tenant: row.tenant.to_string(),
        scenario: row.class,
        at_ms: row.at_ms,
        quiet_since_ms: row.quiet_since_ms,
        held_bytes: row.held,
        tables_bytes: row.tables,
        keys_bytes: row.keys,
        blobs_bytes: row.blobs,
        short_bytes: row.short,
        short_reason: row.short_reason,
        taken_again_ms: row.taken_again_ms,
    }
}
