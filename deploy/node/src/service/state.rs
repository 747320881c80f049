//! State units: the registry that a box keeps, and what tenants do with it (`docs/state-units.md`).
//!
//! ```text
//! operator   state_issueV1, state_revokeV1: roots           verifier   state_grantV1: opens a request
//! sender     state_presentV1 (a job), state_verifyV1 (checked ─ notary ─ checked again, recorded), state_reuseV1
//! ```
//!
//! The rules are the registry's (`caldera_scheduler::registry`), which is pure. What this adds is who the caller is, who
//! verifies, and the disk. A change is made here at once, and handed to the clerk, who writes it in the group of the
//! jobs of that moment. Every answer, a refusal too, waits until all changes that were made before it are on the disk:
//! so nothing is told that a power cut could take back. A disk that takes no writes holds the answers up; the
//! changes are tried again in their order, and nothing new is taken meanwhile.
//!
//! Presentations that expired more than a day ago are forgotten, some with each change, and all of them when a box starts: what a box
//! keeps in memory of presentations is what may still be used, and nullifiers. The journal keeps everything.
//!
//! **Who sees what.** A tenant is told of presentations of which it is verifier or sender, and of its own requests; for
//! all others the answer is that of a registry that has none.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::Sender;

use caldera_kernels::CurveId;
use caldera_prover::format::json::{Proof, PublicInputs};
use caldera_prover::units::{Opening, domain_native};
use caldera_rpc::chain::chain;
use caldera_rpc::error::{Full, RpcError, StateLack, StateRule};
use caldera_rpc::jsonrpc::{Json, Params};
use caldera_rpc::methods::{
    Address, Digest, Link, Method, OpenRequest, Present, PresentationInfo, PublishIssuers,
    RequestInfo, Reuse, Revoke, StateInfo, StateQuery, Submit, VerifyPresentation, Word,
};
use caldera_scheduler::registry::{
    Change, Command, Grant, Inputs, Refusal, Registry, Seconds, Tree, Word as RegistryWord,
    closes_in_time,
};
use caldera_scheduler::{Nanos, TenantId};
use caldera_store::database::{Database, DatabaseError};
use caldera_store::registry::{JournalError, RegistryRow};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Caller, Flow, Question, RETRY_MS, Service, as_json};
use crate::clerk::Task;
use crate::clock::unix_time;
use crate::era::Reused;
use crate::notary::{Hashing, Question as NotaryQuestion, Verification};

/// The registry of a box, and what stands between it and the disk.
pub struct States {
    registry: Registry,
    window_seconds: u64,
    /// Why it cannot be believed.
    damage: Option<String>,
    /// To the notary.
    notary: Sender<NotaryQuestion>,
    /// Whether there is a key to verify presentations with.
    verifies: bool,
    /// The number of the last change, and of the last that is on the disk.
    last: u64,
    written: u64,
    /// Answers that wait for the disk, by the last change that was made before them.
    held: VecDeque<(u64, u64, Result<Json, RpcError>)>,
    /// Presentations that the notary has, by ticket.
    judging: HashMap<u64, Judging>,
    /// Requests that it hashes, by ticket.
    hashing: HashMap<u64, Asked>,
}

/// A request that is to be opened when its element is known.
struct Asked {
    tenant: TenantId,
    closes: Seconds,
    valid_through: Seconds,
}

struct Judging {
    tenant: TenantId,
    grant: Grant,
    inputs: Inputs,
}

impl States {
    /// The registry as the journal has it. One that is damaged serves nothing.
    pub fn replay(
        database: &Database,
        window_seconds: u64,
        notary: Sender<NotaryQuestion>,
        verifies: bool,
    ) -> Result<States, DatabaseError> {
        let domain = RegistryWord(domain_native(&database.box_id()?));
        let mut registry = Registry::new(domain, window_seconds);
        let (mut last, mut damage) = (0, None);
        match database.registry() {
            Ok(changes) => {
                for bytes in changes {
                    let change = Change::from_bytes(&bytes).map_err(|error| error.to_string());
                    let made = change.and_then(|change| {
                        registry.apply(&change).map_err(|error| error.to_string())
                    });
                    if let Err(error) = made {
                        damage = Some(format!("row {}: {error}", last + 1));
                        break;
                    }
                    last += 1;
                }
                registry.sweep(forgotten_at(now()), usize::MAX);
            }
            Err(JournalError::Database(error)) if !matches!(error, DatabaseError::Damaged(_)) => {
                return Err(error);
            }
            Err(error) => damage = Some(chain(&error).to_string()),
        }
        if let Some(damage) = &damage {
            tracing::error!(
                damage,
                "the journal of state units is damaged; they are not served"
            );
        }
        Ok(States {
            registry,
            window_seconds,
            damage,
            notary,
            verifies,
            last,
            written: last,
            held: VecDeque::new(),
            judging: HashMap::new(),
            hashing: HashMap::new(),
        })
    }

    /// Makes a change; the row to be written. What expired long ago is forgotten meanwhile, more than one change
    /// can add and no more than an answer may wait for.
    fn make(&mut self, command: &Command, now: Seconds) -> Result<RegistryRow, RpcError> {
        let change = self.registry.decide(command, now).map_err(refused)?;
        self.registry.apply(&change).map_err(|error| {
            tracing::error!(error = %chain(&error), "a change that the registry decided and does not take");
            RpcError::Internal
        })?;
        self.registry.sweep(forgotten_at(now), SWEPT_MAX);
        self.last += 1;
        Ok(RegistryRow {
            sequence: self.last,
            change: change.to_bytes(),
        })
    }

    /// Why state units are not served.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }
}

/// What a call comes to.
enum Outcome {
    Told(Json),
    /// The notary has it, under this ticket.
    Asked(u64),
    /// It is a job.
    Job(Flow),
}

impl Service {
    /// What is asked of state units.
    pub(super) fn state(
        &mut self,
        caller: Caller,
        method: Method,
        params: Params,
        received: Nanos,
    ) -> Result<Flow, RpcError> {
        if let Some(damage) = &self.states.damage {
            return Err(RpcError::StateUnserved {
                lack: StateLack::Journal,
                detail: format!("the journal of the registry is damaged: {damage}"),
            });
        }
        // While changes wait for the disk so does whatever is answered, refusals too; so that is bounded.
        if self.states.held.len() >= HELD_MAX {
            return Err(RpcError::QueueFull {
                full: Full::Box,
                retry_after_ms: STORAGE_RETRY_MS,
            });
        }
        if self.fault.is_some() && self.states.written != self.states.last {
            let retry_after_ms = STORAGE_RETRY_MS;
            return Err(RpcError::StorageUnavailable { retry_after_ms });
        }
        if method != Method::StateGet {
            self.takes_changes()?;
        }
        match self.state_outcome(caller, method, params, received) {
            Ok(Outcome::Job(flow)) => Ok(flow),
            Ok(Outcome::Asked(ticket)) => Ok(Flow::Wait(ticket, Question::Call)),
            Ok(Outcome::Told(value)) => self.after_the_disk(Ok(value)),
            Err(error) => self.after_the_disk(Err(error)),
        }
    }

    /// Whether a change could be made and written down now.
    fn takes_changes(&self) -> Result<(), RpcError> {
        if self.stopping {
            return Err(RpcError::Stopping);
        }
        if self.fault.is_some() {
            let retry_after_ms = STORAGE_RETRY_MS;
            return Err(RpcError::StorageUnavailable { retry_after_ms });
        }
        Ok(())
    }

    fn state_outcome(
        &mut self,
        caller: Caller,
        method: Method,
        params: Params,
        received: Nanos,
    ) -> Result<Outcome, RpcError> {
        let told = |info: StateInfo| Ok(Outcome::Told(as_json(&info)?));
        match (method, caller) {
            (Method::StateGet, _) => told(self.look_up(caller, params.decode()?)?),
            (Method::StateIssue, _) => {
                let PublishIssuers { issuers_root } = params.decode()?;
                told(self.publish(caller, Tree::Issuers, issuers_root)?)
            }
            (Method::StateRevoke, _) => match params.decode()? {
                Revoke {
                    revocation_root: Some(root),
                    request: None,
                } => told(self.publish(caller, Tree::Revocation, root)?),
                Revoke {
                    revocation_root: None,
                    request: Some(request),
                } => {
                    let verifier = self.party(tenant_of(caller)?);
                    let request = RegistryWord(request.0);
                    self.change(&Command::Close { verifier, request })?;
                    told(self.look_up(caller, StateQuery::default())?)
                }
                _ => Err(RpcError::misfit(
                    "",
                    "expected revocationRoot or request, one of the two",
                )),
            },
            (Method::StateGrant, _) => Ok(Outcome::Asked(self.open(caller, params.decode()?)?)),
            (Method::StatePresent, _) => {
                let tenant = tenant_of(caller)?;
                let flow = self.present(tenant, params.decode()?, received)?;
                Ok(Outcome::Job(flow))
            }
            (Method::StateVerify, _) => {
                let tenant = tenant_of(caller)?;
                Ok(Outcome::Asked(self.judge(tenant, &params.decode()?)?))
            }
            (Method::StateReuse, _) => {
                let tenant = tenant_of(caller)?;
                let Reuse { grant, link } = params.decode()?;
                Ok(Outcome::Told(as_json(&self.reuse(tenant, grant, link)?)?))
            }
            _ => Err(RpcError::MethodNotFound),
        }
    }

    /// The authority publishes a root.
    fn publish(&mut self, caller: Caller, tree: Tree, root: Word) -> Result<StateInfo, RpcError> {
        if caller != Caller::Operator {
            return Err(RpcError::InvalidRequest {
                detail: "for the operator".into(),
            });
        }
        let what = match tree {
            Tree::Issuers => "issuersRoot",
            Tree::Revocation => "revocationRoot",
        };
        caldera_units::element(what, &root).map_err(|_| {
            let detail =
                format!("expected a number below the modulus of BN254's scalars, got {root}");
            RpcError::misfit(what, detail)
        })?;
        let root = RegistryWord(root.0);
        self.change(&Command::Publish { tree, root })?;
        self.look_up(caller, StateQuery::default())
    }

    /// A verifier opens a request: the notary is asked for its element; the ticket of the answer.
    fn open(&mut self, caller: Caller, asked: OpenRequest) -> Result<u64, RpcError> {
        let tenant = tenant_of(caller)?;
        let closes = Seconds(asked.closes);
        let valid_through = Seconds(asked.request.valid_through);
        // Better refused before it is hashed than after.
        closes_in_time(closes, valid_through, now()).map_err(refused)?;
        let own = self.states.hashing.values();
        if own.filter(|it| it.tenant == tenant).count() >= HASHING_MAX {
            return Err(RpcError::QueueFull {
                full: Full::Calls,
                retry_after_ms: RETRY_MS,
            });
        }
        let ticket = self.ticket();
        let question = NotaryQuestion::Hash(Hashing {
            ticket,
            terms: asked.request,
            verifier: self.address(tenant),
        });
        self.ask_notary(question)?;
        let asked = Asked {
            tenant,
            closes,
            valid_through,
        };
        self.states.hashing.insert(ticket, asked);
        Ok(ticket)
    }

    fn ask_notary(&self, question: NotaryQuestion) -> Result<(), RpcError> {
        self.states.notary.send(question).map_err(|_| {
            tracing::error!("the notary has ended");
            RpcError::Internal
        })
    }

    /// Whether what a tenant asked for, before the notary was asked, may change something now.
    fn changes_for(&self, tenant: TenantId) -> Result<(), RpcError> {
        if !self.stands(Caller::Tenant(tenant)) {
            return Err(RpcError::AccessEnded);
        }
        self.takes_changes()
    }

    /// The notary knows the element of a request, which is opened now.
    pub(super) fn hashed(&mut self, ticket: u64, element: Result<Word, RpcError>) {
        let Some(asked) = self.states.hashing.remove(&ticket) else {
            return;
        };
        let outcome = element.and_then(|request| {
            self.changes_for(asked.tenant)?;
            as_json(&self.opened(&asked, request)?)
        });
        self.hold(ticket, outcome);
    }

    fn opened(&mut self, asked: &Asked, request: Word) -> Result<StateInfo, RpcError> {
        let &Asked {
            tenant,
            closes,
            valid_through,
        } = asked;
        let verifier = self.party(tenant);
        let word = RegistryWord(request.0);
        let open = self.states.registry.request(verifier, word);
        if open.is_none() && self.states.registry.requests_of(verifier) >= REQUESTS_MAX {
            return Err(RpcError::QuotaExceeded {
                detail: format!("{REQUESTS_MAX} requests that are not taken back"),
            });
        }
        // What is so already is not written again.
        if open != Some(closes) {
            self.change(&Command::Open {
                verifier,
                request: word,
                closes,
                valid_through,
            })?;
        }
        let query = StateQuery {
            grant: None,
            request: Some(request),
        };
        self.look_up(Caller::Tenant(tenant), query)
    }

    /// A job whose proof is a presentation.
    fn present(
        &mut self,
        tenant: TenantId,
        asked: Present,
        received: Nanos,
    ) -> Result<Flow, RpcError> {
        let (witness, witness_data) = match (asked.opening, asked.witness) {
            (Some(opening), None) => {
                let statement = Opening::statement_of(opening.bytes()).map_err(|error| {
                    RpcError::StateRefused {
                        rule: StateRule::OpeningMalformed,
                        detail: error.to_string(),
                    }
                })?;
                let key = asked.idempotency_key.clone();
                let known = key.is_some_and(|key| self.keys.contains_key(&(tenant, key)));
                if !known {
                    // Better refused now than when the proof is made.
                    let inputs = inputs_of(&statement.public_inputs())?;
                    let grant = caldera_units::registry_grant(&asked.grant);
                    let sender = self.party(tenant);
                    self.would_be_recorded(sender, &grant, &inputs)?;
                }
                let digest = Digest(Sha256::digest(opening.bytes()).into());
                (digest, Some(opening))
            }
            (None, Some(witness)) => (witness, None),
            _ => {
                return Err(RpcError::misfit(
                    "",
                    "expected opening or witness, one of the two",
                ));
            }
        };
        self.stir(tenant, received);
        let submission = Submit {
            circuit: asked.circuit,
            witness,
            witness_data,
            deadline_ms: asked.deadline_ms,
            idempotency_key: asked.idempotency_key,
        };
        self.submit(tenant, submission, received)
    }

    /// Whether a presentation would be recorded if its proof held. That its nullifier is spent is told to who has such a
    /// proof alone: whoever has seen a nullifier could ask by a statement of its own whether, and so where, it was used.
    fn would_be_recorded(
        &self,
        sender: RegistryWord,
        grant: &Grant,
        inputs: &Inputs,
    ) -> Result<(), RpcError> {
        let registry = &self.states.registry;
        match registry.check(sender, grant, inputs, now()) {
            Ok(_) | Err(Refusal::Spent { .. }) => Ok(()),
            Err(refusal) => Err(refused(refusal)),
        }
    }

    /// Gives a presentation to the notary, if it would be recorded; the ticket of the answer.
    fn judge(&mut self, tenant: TenantId, asked: &VerifyPresentation) -> Result<u64, RpcError> {
        if !self.states.verifies {
            return Err(RpcError::StateUnserved {
                lack: StateLack::Key,
                detail: "no key of presentations is configured".into(),
            });
        }
        let (public, inputs) = read_inputs(&asked.public_inputs)?;
        let malformed = |error: &dyn std::fmt::Display| RpcError::StateRefused {
            rule: StateRule::ProofMalformed,
            detail: error.to_string(),
        };
        let text = asked.proof.to_string();
        let proof = Proof::parse(text.as_bytes(), Some(CurveId::Bn254))
            .map_err(|error| malformed(&error))?;
        let grant = caldera_units::registry_grant(&asked.grant);
        let sender = self.party(tenant);
        self.would_be_recorded(sender, &grant, &inputs)?;
        let own = self.states.judging.values();
        if own.filter(|it| it.tenant == tenant).count() >= JUDGING_MAX {
            return Err(RpcError::QueueFull {
                full: Full::Calls,
                retry_after_ms: RETRY_MS,
            });
        }
        let ticket = self.ticket();
        self.ask_notary(NotaryQuestion::Verify(Verification {
            ticket,
            tenant,
            proof,
            inputs: public,
        }))?;
        let judging = Judging {
            tenant,
            grant,
            inputs,
        };
        self.states.judging.insert(ticket, judging);
        Ok(ticket)
    }

    /// The notary has verified presentations: those that hold are checked again, for time has passed, and recorded.
    pub(super) fn judged(&mut self, judged: Vec<(u64, Result<(), RpcError>)>) {
        for (ticket, verdict) in judged {
            let Some(it) = self.states.judging.remove(&ticket) else {
                continue;
            };
            let outcome = verdict.and_then(|()| {
                self.changes_for(it.tenant)?;
                let (grant, inputs) = (it.grant, it.inputs);
                let sender = self.party(it.tenant);
                self.change(&Command::Present {
                    sender,
                    grant,
                    inputs,
                })?;
                let name = RegistryWord(inputs.grant.0);
                as_json(&self.presentation(it.tenant, name)?)
            });
            self.hold(ticket, outcome);
        }
    }

    /// A sender uses a presentation again.
    fn reuse(
        &mut self,
        tenant: TenantId,
        grant: Word,
        link: Link,
    ) -> Result<PresentationInfo, RpcError> {
        let grant = RegistryWord(grant.0);
        // Before anything else is said of it.
        self.presentation(tenant, grant)?;
        let link = caldera_scheduler::registry::Link(link.0);
        let sender = self.party(tenant);
        let command = Command::Reuse {
            sender,
            grant,
            link,
        };
        self.change_for(&command, Some(tenant))?;
        self.presentation(tenant, grant)
    }

    /// Where the registry stands, as the caller may see it.
    fn look_up(&self, caller: Caller, query: StateQuery) -> Result<StateInfo, RpcError> {
        let registry = &self.states.registry;
        let root = |tree| registry.root(tree).map(|root| Word(root.0));
        let address = match caller {
            Caller::Operator | Caller::Fleet => None,
            Caller::Tenant(tenant) => Some(self.address(tenant)),
        };
        let request = match query.request {
            None => None,
            Some(request) => {
                let verifier = self.party(tenant_of(caller)?);
                let closes = registry.request(verifier, RegistryWord(request.0));
                closes.map(|closes| RequestInfo {
                    request,
                    closes: closes.0,
                })
            }
        };
        let presentation = match query.grant {
            None => None,
            Some(grant) => Some(self.presentation(tenant_of(caller)?, RegistryWord(grant.0))?),
        };
        Ok(StateInfo {
            domain: Word(registry.domain().0),
            address,
            issuers_root: root(Tree::Issuers),
            revocation_root: root(Tree::Revocation),
            window_seconds: self.states.window_seconds,
            request,
            presentation,
        })
    }

    /// A presentation of which a tenant is verifier or sender.
    fn presentation(
        &self,
        tenant: TenantId,
        grant: RegistryWord,
    ) -> Result<PresentationInfo, RpcError> {
        let party = self.party(tenant);
        let kept = self.states.registry.presentation(&grant);
        let kept = kept.filter(|it| it.verifier == party || it.sender == party);
        let kept = kept.ok_or_else(|| refused(Refusal::PresentationUnknown { grant }))?;
        Ok(PresentationInfo {
            grant: Word(grant.0),
            verifier: address_of(&kept.verifier),
            sender: address_of(&kept.sender),
            request: Word(kept.request.0),
            link: Link(kept.link.0),
            remaining: kept.remaining,
            expiry: kept.expiry.0,
        })
    }

    /// Makes a change, and has it written down.
    fn change(&mut self, command: &Command) -> Result<(), RpcError> {
        self.change_for(command, None)
    }

    /// The same, and the ledger is told of it as a reuse by this tenant.
    fn change_for(
        &mut self,
        command: &Command,
        reused_by: Option<TenantId>,
    ) -> Result<(), RpcError> {
        let row = self.states.make(command, now())?;
        let reused = reused_by.filter(|_| self.parts.config.era.is_some());
        let reused = reused.map(|tenant| {
            let tenant = self.tenant(tenant);
            Reused {
                change: row.sequence,
                tenant: tenant.name.clone(),
                scenario: tenant.scenario.clone(),
                digest: Sha256::digest(&row.change).into(),
            }
        });
        self.tell_clerk(Task::State(row, reused));
        Ok(())
    }

    /// The changes up to this one are on the disk.
    pub(super) fn state_written(&mut self, sequence: u64) {
        self.states.written = sequence;
        while let Some((_, ticket, outcome)) = self
            .states
            .held
            .pop_front_if(|(after, ..)| *after <= sequence)
        {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                self.settle(waiting, outcome);
            }
        }
    }

    /// Answers a call once all changes that were made are on the disk.
    fn after_the_disk(&mut self, outcome: Result<Json, RpcError>) -> Result<Flow, RpcError> {
        if self.states.written == self.states.last {
            return outcome.map(Flow::Done);
        }
        let ticket = self.ticket();
        self.states
            .held
            .push_back((self.states.last, ticket, outcome));
        Ok(Flow::Wait(ticket, Question::Call))
    }

    /// The same for a call that waits already.
    fn hold(&mut self, ticket: u64, outcome: Result<Json, RpcError>) {
        self.states
            .held
            .push_back((self.states.last, ticket, outcome));
        self.state_written(self.states.written);
    }

    fn address(&self, tenant: TenantId) -> Address {
        caldera_units::address(self.tenant(tenant).name.as_str())
    }

    fn party(&self, tenant: TenantId) -> RegistryWord {
        caldera_units::party(&self.address(tenant))
    }
}

fn tenant_of(caller: Caller) -> Result<TenantId, RpcError> {
    match caller {
        Caller::Tenant(tenant) => Ok(tenant),
        Caller::Operator | Caller::Fleet => Err(RpcError::InvalidRequest {
            detail: "the operator asks, presents and uses nothing; call as a tenant".into(),
        }),
    }
}

fn address_of(party: &RegistryWord) -> Address {
    let mut address = Address([0; 20]);
    address.0.copy_from_slice(&party.0[12..]);
    address
}

/// Public inputs as snarkjs writes them.
fn read_inputs(texts: &[String]) -> Result<(PublicInputs, Inputs), RpcError> {
    let malformed = |detail: String| RpcError::StateRefused {
        rule: StateRule::InputsMalformed,
        detail,
    };
    let text = Value::from(texts).to_string();
    let inputs = PublicInputs::parse(text.as_bytes(), CurveId::Bn254)
        .map_err(|error| malformed(error.to_string()))?;
    let words = inputs_of(&inputs)?;
    Ok((inputs, words))
}

/// Public inputs as the registry has them.
fn inputs_of(inputs: &PublicInputs) -> Result<Inputs, RpcError> {
    let words = inputs.iter().map(|bytes| {
        let mut word = RegistryWord(*bytes);
        word.0.reverse();
        word
    });
    let words: Vec<RegistryWord> = words.collect();
    let &[issuers_root, revocation_root, request, nullifier, grant] = &words[..] else {
        return Err(RpcError::StateRefused {
            rule: StateRule::InputsMalformed,
            detail: format!("public inputs: expected 5, got {}", words.len()),
        });
    };
    Ok(Inputs {
        issuers_root,
        revocation_root,
        request,
        nullifier,
        grant,
    })
}

fn refused(refusal: Refusal) -> RpcError {
    let rule = match refusal {
        Refusal::RootsFull { .. } => StateRule::RootsFull,
        Refusal::RootUnknown { .. } => StateRule::RootUnknown,
        Refusal::RootStale { .. } => StateRule::RootStale,
        Refusal::RequestUnknown { .. } => StateRule::RequestUnknown,
        Refusal::RequestOver { .. } => StateRule::RequestOver,
        Refusal::Closes { .. } => StateRule::RequestEnd,
        Refusal::Request { .. } => StateRule::RequestMismatch,
        Refusal::Grant { .. } => StateRule::GrantMismatch,
        Refusal::Sender => StateRule::GrantSender,
        Refusal::Expired { .. } => StateRule::GrantExpired,
        Refusal::Outlives { .. } => StateRule::GrantOutlives,
        Refusal::Spent { .. } => StateRule::NullifierSpent,
        Refusal::Presented { .. } => StateRule::GrantPresented,
        Refusal::PresentationUnknown { .. } => StateRule::PresentationUnknown,
        Refusal::UsedUp => StateRule::UsesSpent,
        Refusal::Link { .. } => StateRule::LinkMismatch,
    };
    RpcError::StateRefused {
        rule,
        detail: refusal.to_string(),
    }
}

/// The time by which the registry judges.
fn now() -> Seconds {
    Seconds(unix_time().as_secs())
}

/// What expired then or before is forgotten now.
fn forgotten_at(now: Seconds) -> Seconds {
    Seconds(now.0.saturating_sub(KEPT_SECONDS))
}

/// For so long whoever uses a presentation that has expired is told that it has.
const KEPT_SECONDS: u64 = 24 * 3_600;
/// Presentations that are forgotten by one change, which adds one at most.
const SWEPT_MAX: usize = 16;
/// Answers that may wait for the disk at a time.
const HELD_MAX: usize = 1 << 14;
/// Requests that one verifier may have open, or not taken back.
const REQUESTS_MAX: usize = 4_096;
/// Presentations of one tenant that may be with the notary at a time.
const JUDGING_MAX: usize = 64;
/// Requests of one tenant that the notary may be hashing at a time: at ten milliseconds each others wait for little.
const HASHING_MAX: usize = 4;
/// When to come back to a box whose disk takes no writes.
const STORAGE_RETRY_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use caldera_scheduler::registry::Link as RegistryLink;

    use super::*;

    /// In 2020: all of it is past for a clock that goes right.
    const BEGIN: Seconds = Seconds(1_600_000_000);

    fn word(number: u64) -> RegistryWord {
        RegistryWord::right(&number.to_be_bytes())
    }

    fn states(database: &Database) -> States {
        let (notary, _) = mpsc::channel();
        States::replay(database, 0, notary, false).expect("a good journal")
    }

    /// A registry with roots and an open request, and the rows of that.
    fn standing(states: &mut States) -> Vec<RegistryRow> {
        let publish = |tree| Command::Publish {
            tree,
            root: word(1),
        };
        let open = Command::Open {
            verifier: word(2),
            request: word(3),
            closes: Seconds(BEGIN.0 + 1_000 * KEPT_SECONDS),
            valid_through: Seconds(BEGIN.0 + 1_000 * KEPT_SECONDS),
        };
        let commands = [publish(Tree::Issuers), publish(Tree::Revocation), open];
        let rows = commands.map(|command| states.make(&command, BEGIN).expect("a change"));
        rows.into()
    }

    /// A presentation of this nullifier that is good for an hour from then.
    fn presented(states: &States, nullifier: u64, now: Seconds) -> (Command, RegistryWord) {
        let grant = Grant {
            verifier: word(2),
            sender: word(2),
            request: word(3),
            tip: RegistryLink([9; 20]).next(),
            uses: 1,
            expiry: Seconds(now.0 + 3_600),
            challenge: word(0),
        };
        let name = grant.digest(&states.registry.domain(), &word(nullifier));
        let inputs = Inputs {
            issuers_root: word(1),
            revocation_root: word(1),
            request: word(3),
            nullifier: word(nullifier),
            grant: name,
        };
        let sender = grant.sender;
        let present = Command::Present {
            sender,
            grant,
            inputs,
        };
        (present, name)
    }

    fn rule(outcome: Result<RegistryRow, RpcError>) -> StateRule {
        match outcome {
            Err(RpcError::StateRefused { rule, .. }) => rule,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    /// Ten presentations an hour for ten days: what is kept is a day and an hour of them, on the box that took them
    /// and on the one that starts with its journal. Who is late is told so, and what was spent stays spent.
    #[test]
    fn a_registry_does_not_grow_with_what_has_expired() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("caldera.sqlite");
        let mut database = Database::open(&path).expect("a new file");
        let mut states = states(&database);
        let mut rows = standing(&mut states);
        let mut names = Vec::new();
        let mut most = 0;
        for number in 0..2_400 {
            let now = Seconds(BEGIN.0 + 360 * number);
            let (present, name) = presented(&states, number, now);
            rows.push(states.make(&present, now).expect("taken"));
            names.push(name);
            most = most.max(states.registry.presentations());
        }
        assert_eq!(most, 250, "a day and an hour, by ten an hour");
        let now = Seconds(BEGIN.0 + 360 * 2_400);
        let reuse = |number: usize| Command::Reuse {
            sender: word(2),
            grant: names[number],
            link: RegistryLink([9; 20]),
        };
        let late = states.make(&reuse(2_380), now);
        assert_eq!(rule(late), StateRule::GrantExpired);
        let long_ago = states.make(&reuse(100), now);
        assert_eq!(rule(long_ago), StateRule::PresentationUnknown);
        rows.push(states.make(&reuse(2_399), now).expect("good still"));
        for number in [100, 2_380, 2_399] {
            let (again, _) = presented(&states, number, now);
            assert_eq!(rule(states.make(&again, now)), StateRule::NullifierSpent);
        }

        let group = database.group().expect("a group");
        group.registry(&rows).expect("rows that follow");
        group.commit().expect("room");
        let mut again = self::states(&database);
        assert_eq!(again.registry.presentations(), 0);
        assert_eq!(again.last, rows.len() as u64);
        let (spent, _) = presented(&again, 100, now);
        assert_eq!(rule(again.make(&spent, now)), StateRule::NullifierSpent);
    }

    /// Many that end together are not forgotten together: an answer waits for no more than a few.
    #[test]
    fn a_change_forgets_a_few_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::open(&folder.path().join("caldera.sqlite")).expect("a new file");
        let mut states = states(&database);
        standing(&mut states);
        for number in 0..100 {
            let (present, _) = presented(&states, number, BEGIN);
            states.make(&present, BEGIN).expect("taken");
        }
        let mut now = Seconds(BEGIN.0 + 3_600 + KEPT_SECONDS);
        let mut kept = 100;
        for number in 100..106 {
            let (present, _) = presented(&states, number, now);
            states.make(&present, now).expect("taken");
            let swept = kept + 1 - states.registry.presentations();
            assert!(swept <= SWEPT_MAX, "{swept} by one change");
            kept = states.registry.presentations();
            now.0 += 1;
        }
        assert_eq!(kept, 100 + 6 - 6 * SWEPT_MAX);
    }
}
