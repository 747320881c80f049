//! Tenants that come, change and go while the box runs, and what each of them may do.
//!
//! A tenant stands either in the configuration, which alone changes it, or in the store, where the operator's methods put it:
//! a name is in one of them. What those methods change is told when it is on the disk, and in force then.
//!
//! Secrets of added tenants are derived (`caldera_rpc::auth`), so the store has none. A tenant that is suspended or removed
//! has no secret here, and its tokens are answered like those of a name that never was; what it has under way and
//! would go on is ended with an error that says so. What a removed one had is
//! erased by the next start (`node.rs`), which is when its name can be given again.

use std::time::Duration;

use caldera_rpc::auth::{FLEET, OPERATOR, Secret};
use caldera_rpc::error::{Full, RpcError};
use caldera_rpc::jsonrpc::{Json, Params};
use caldera_rpc::methods::{
    AddTenant, ListTenants, Method, Quotas, RotateTenant, Scope, TenantInfo, TenantQuery,
    TenantSecret, TenantState,
};
use caldera_rpc::rate::Rate;
use caldera_scheduler::TenantId;
use caldera_scheduler::scenario::ClassId;
use caldera_scheduler::storage::Watch;
use caldera_store::TenantName;
use caldera_store::tenants::TenantRow;

use super::{Answer, Caller, Flow, Question, RETRY_MS, Service, Tenant, as_json};
use crate::arbiter_thread::Command;
use crate::clerk::Task;
use crate::clock::unix_time;

/// What a tenant may do and how much it may have, wherever that is written.
pub(super) struct Terms {
    scopes: Vec<Scope>,
    quotas: Quotas,
    rate: Option<Rate>,
}

/// A change that is being written down.
pub(super) struct Change {
    ticket: u64,
    row: TenantRow,
    whose: Whose,
    /// Whether a secret is to be told.
    tells: bool,
}

/// To whom a change happens.
#[derive(Clone, Copy)]
enum Whose {
    New(ClassId),
    Member(TenantId),
    Stranger,
}

impl Terms {
    pub(super) fn new(scopes: Vec<Scope>, quotas: Quotas) -> Terms {
        Terms {
            scopes,
            quotas,
            rate: quotas.requests.map(Rate::new),
        }
    }

    /// Those of a tenant that was added.
    pub(super) fn of(row: &TenantRow) -> Terms {
        Terms::new(scopes(row), quotas(row))
    }

    /// What all of its blobs may take, if it has a bound of its own.
    pub(super) fn blob_bytes(&self) -> Option<u64> {
        self.quotas.blob_bytes
    }
}

impl Service {
    /// What only the operator may call.
    pub(super) fn manage(
        &mut self,
        caller: Caller,
        method: Method,
        params: Params,
    ) -> Result<Flow, RpcError> {
        if caller != Caller::Operator {
            return Err(RpcError::InvalidRequest {
                detail: "for the operator".into(),
            });
        }
        if method == Method::ListTenants {
            let ListTenants {} = params.decode()?;
            return Ok(Flow::Done(as_json(&self.list_tenants())?));
        }
        if self.stopping {
            return Err(RpcError::Stopping);
        }
        if self.change.is_some() {
            return Err(RpcError::QueueFull {
                full: Full::Box,
                retry_after_ms: RETRY_MS,
            });
        }
        match method {
            Method::AddTenant => self.add_tenant(params.decode()?),
            Method::RotateTenant => self.rotate_tenant(params.decode()?),
            Method::SuspendTenant => {
                self.change_tenant(params.decode()?, |row| row.suspended = true)
            }
            Method::ResumeTenant => {
                self.change_tenant(params.decode()?, |row| row.suspended = false)
            }
            Method::RemoveTenant => self.remove_tenant(params.decode()?),
            _ => Err(RpcError::MethodNotFound),
        }
    }

    fn add_tenant(&mut self, request: AddTenant) -> Result<Flow, RpcError> {
        let tenant: TenantName =
            request
                .tenant
                .parse()
                .map_err(|error: caldera_store::TenantNameError| {
                    RpcError::misfit("tenant", error.to_string())
                })?;
        if tenant.as_str() == OPERATOR {
            let detail = format!("{OPERATOR} is the operator's name");
            return Err(RpcError::misfit("tenant", detail));
        }
        if tenant.as_str() == FLEET && self.parts.config.fleet.is_some() {
            let detail = format!("{FLEET} is the name of the box's fleet");
            return Err(RpcError::misfit("tenant", detail));
        }
        let against = |detail| RpcError::TenantState {
            tenant: tenant.to_string(),
            detail,
        };
        match self.tenants.iter().find(|it| it.name == tenant) {
            Some(it) if it.member.as_ref().is_some_and(|row| row.removed) => {
                return Err(against("was removed, and can be added after a restart"));
            }
            Some(_) => return Err(against("is here already")),
            None if self.parts.strangers.contains(&tenant) => {
                return Err(against(
                    "the store has something of a tenant of that name: remove it, restart, and add it",
                ));
            }
            None => {}
        }
        let max = self.policy.limits().tenants_max as usize;
        if self.tenants.len() >= max {
            return Err(RpcError::QuotaExceeded {
                detail: format!(
                    "a box has at most {max} tenants, removed ones counted until a restart"
                ),
            });
        }
        let class = self.policy.find(&request.scenario).ok_or_else(|| {
            let known = self
                .policy
                .classes()
                .iter()
                .map(|class| class.name.as_str());
            let known: Vec<_> = known.collect();
            RpcError::misfit("scenario", format!("expected one of {}", known.join(", ")))
        })?;
        let scopes = request
            .scopes
            .unwrap_or_else(|| vec![Scope::Read, Scope::Submit]);
        if scopes.is_empty() {
            return Err(RpcError::misfit("scopes", "expected one or two, got none"));
        }
        let quotas = request.quotas.unwrap_or_default();
        let Quotas {
            queue,
            running,
            calls,
            requests,
            ..
        } = quotas;
        if [queue, running, calls, requests].contains(&Some(0)) {
            return Err(RpcError::misfit("quotas", "expected at least 1 of each"));
        }
        let row = TenantRow {
            tenant,
            scenario: request.scenario,
            salt: draw_salt()?,
            before: None,
            suspended: false,
            removed: false,
            may_read: scopes.contains(&Scope::Read),
            may_submit: scopes.contains(&Scope::Submit),
            queue: queue.map(u64::from),
            running: running.map(u64::from),
            calls: calls.map(u64::from),
            blob_bytes: quotas.blob_bytes,
            requests: requests.map(u64::from),
        };
        Ok(self.write_tenant(row, Whose::New(class), true))
    }

    fn rotate_tenant(&mut self, request: RotateTenant) -> Result<Flow, RpcError> {
        let (id, mut row) = self.member(&request.tenant)?;
        let overlap_ms = request.overlap_ms.unwrap_or(OVERLAP_MS);
        if overlap_ms > OVERLAP_MS_MAX {
            let detail = format!("expected 0 to {OVERLAP_MS_MAX}, got {overlap_ms}");
            return Err(RpcError::misfit("overlapMs", detail));
        }
        let until = unix_time().as_secs() + overlap_ms.div_ceil(1000);
        row.before = (overlap_ms > 0).then_some((row.salt, until));
        row.salt = draw_salt()?;
        Ok(self.write_tenant(row, Whose::Member(id), true))
    }

    fn change_tenant(
        &mut self,
        request: TenantQuery,
        change: impl FnOnce(&mut TenantRow),
    ) -> Result<Flow, RpcError> {
        let (id, mut row) = self.member(&request.tenant)?;
        change(&mut row);
        Ok(self.write_tenant(row, Whose::Member(id), false))
    }

    fn remove_tenant(&mut self, request: TenantQuery) -> Result<Flow, RpcError> {
        let stranger = self.parts.strangers.iter();
        let stranger = stranger.clone().find(|it| it.as_str() == request.tenant);
        let Some(tenant) = stranger.cloned() else {
            return self.change_tenant(request, |row| row.removed = true);
        };
        let row = TenantRow {
            tenant,
            scenario: String::new(),
            salt: draw_salt()?,
            before: None,
            suspended: false,
            removed: true,
            may_read: false,
            may_submit: false,
            queue: None,
            running: None,
            calls: None,
            blob_bytes: None,
            requests: None,
        };
        Ok(self.write_tenant(row, Whose::Stranger, false))
    }

    /// A tenant that was added and not removed.
    fn member(&self, name: &str) -> Result<(TenantId, TenantRow), RpcError> {
        let unknown = || RpcError::TenantUnknown {
            tenant: name.chars().take(80).collect(),
        };
        let mut all = (0..).map(TenantId).zip(&self.tenants);
        let (id, tenant) = all
            .find(|(_, it)| it.name.as_str() == name)
            .ok_or_else(unknown)?;
        match &tenant.member {
            Some(row) if row.removed => Err(unknown()),
            Some(row) => Ok((id, row.clone())),
            None => Err(RpcError::TenantState {
                tenant: name.to_owned(),
                detail: "stands in the configuration, which alone changes it",
            }),
        }
    }

    fn write_tenant(&mut self, row: TenantRow, whose: Whose, tells: bool) -> Flow {
        let ticket = self.ticket();
        self.tell_clerk(Task::Tenant {
            ticket,
            row: Box::new(row.clone()),
        });
        self.change = Some(Change {
            ticket,
            row,
            whose,
            tells,
        });
        Flow::Wait(ticket, Question::Call)
    }

    /// A change is on the disk: it is in force, and told.
    pub(super) fn tenant_written(&mut self, ticket: u64, written: Result<(), RpcError>) {
        let Some(change) = self.change.take_if(|change| change.ticket == ticket) else {
            return;
        };
        let outcome = written.and_then(|()| self.apply(change));
        if let Some(waiting) = self.waiting.remove(&ticket) {
            self.settle(waiting, outcome);
        }
    }

    fn apply(&mut self, change: Change) -> Result<Json, RpcError> {
        let row = change.row;
        let name = row.tenant.clone();
        tracing::info!(tenant = %name, removed = row.removed, suspended = row.suspended, "a tenant was changed");
        let secret = self.parts.master.derive(name.as_str(), &row.salt);
        if row.suspended || row.removed {
            self.parts.keyring.remove(name.as_str());
        } else {
            let before = row
                .before
                .map(|(salt, until)| (self.parts.master.derive(name.as_str(), &salt), until));
            let keyring = &mut self.parts.keyring;
            keyring.hold(name.as_str(), secret.clone(), before);
        }
        let told = match change.tells {
            true => as_json(&told(&row, &secret))?,
            false => as_json(&info(&name, None, &row))?,
        };
        match change.whose {
            Whose::New(class) => {
                let running = quotas(&row).running;
                let tenant = TenantId(u32::try_from(self.tenants.len()).unwrap_or(u32::MAX));
                let class_ = self.policy.class(class);
                let watch = Watch::new(class_.and_then(|it| it.give_back), self.parts.clock.now());
                self.tenants.push(Tenant {
                    name,
                    scenario: row.scenario.clone(),
                    ended: std::collections::VecDeque::new(),
                    watch,
                    release: None,
                    terms: Terms::of(&row),
                    member: Some(row),
                    guest: false,
                });
                self.limit_storage(tenant);
                let join = Command::Join {
                    tenant,
                    class,
                    running,
                };
                self.parts.inbox.send_waiting(join);
            }
            Whose::Member(tenant) => {
                let (suspended, removed) = (row.suspended, row.removed);
                self.tenants[tenant.0 as usize].member = Some(row);
                if suspended || removed {
                    self.break_off(tenant);
                }
                if removed {
                    self.cancel_all(tenant);
                }
            }
            Whose::Stranger => {
                self.parts.strangers.retain(|it| *it != name);
                self.parts.added.push(row);
            }
        }
        Ok(told)
    }

    fn list_tenants(&self) -> Vec<TenantInfo> {
        let known = self.tenants.iter().map(|tenant| match &tenant.member {
            Some(row) => info(&tenant.name, Some(&tenant.scenario), row),
            None => TenantInfo {
                tenant: tenant.name.to_string(),
                state: TenantState::Configured,
                scenario: Some(tenant.scenario.clone()),
                scopes: tenant.terms.scopes.clone(),
                quotas: tenant.terms.quotas,
                old_until_ms: None,
            },
        });
        let bare = |name: &TenantName, state| TenantInfo {
            tenant: name.to_string(),
            state,
            scenario: None,
            scopes: Vec::new(),
            quotas: Quotas::default(),
            old_until_ms: None,
        };
        let strangers = self.parts.strangers.iter();
        let strangers = strangers.map(|name| bare(name, TenantState::Unconfigured));
        let gone = self.parts.added.iter().filter(|row| row.removed);
        let gone = gone.map(|row| bare(&row.tenant, TenantState::Removed));
        known.chain(strangers).chain(gone).collect()
    }

    /// Whether a tenant may do that by HTTP now, or what it is answered.
    pub(super) fn enter(&mut self, tenant: TenantId, scope: Scope) -> Result<(), Answer> {
        let entered = self
            .pace(tenant)
            .and_then(|()| self.hold_scope(tenant, scope));
        entered.map_err(|error| match error {
            RpcError::QueueFull { .. } => Answer::error(429, &error),
            error => Answer::error(403, &error),
        })
    }

    /// Takes one request of a tenant, unless it sends too fast or has too many under way.
    pub(super) fn pace(&mut self, tenant: TenantId) -> Result<(), RpcError> {
        let calls = self.tenant(tenant).terms.quotas.calls;
        let calls_full = calls.is_some_and(|max| {
            let own = self.under_way.values().filter(|it| **it == tenant);
            own.count() >= max as usize
        });
        let terms = &mut self.tenants[tenant.0 as usize].terms;
        let full = |full, after: Duration| RpcError::QueueFull {
            full,
            retry_after_ms: after.as_millis() as u64 + 1,
        };
        if let Some(rate) = &mut terms.rate {
            let now = self.parts.clock.elapsed();
            rate.take(now).map_err(|after| full(Full::Rate, after))?;
        }
        if calls_full {
            return Err(full(Full::Calls, Duration::from_secs(1)));
        }
        Ok(())
    }

    pub(super) fn hold_scope(&self, tenant: TenantId, scope: Scope) -> Result<(), RpcError> {
        if self.tenant(tenant).terms.scopes.contains(&scope) {
            return Ok(());
        }
        Err(RpcError::OutOfScope {
            scope: scope.name(),
        })
    }

    /// Whether the tenant may have one more unfinished job.
    pub(super) fn hold_queue(&self, tenant: TenantId) -> Result<(), RpcError> {
        let max = self.tenant(tenant).terms.quotas.queue;
        match max.map(u64::from) {
            Some(max) if self.unfinished_of(tenant) >= max => Err(RpcError::QueueFull {
                full: Full::Tenant,
                retry_after_ms: 1000,
            }),
            _ => Ok(()),
        }
    }

    /// Whether who began a request may still be served: a tenant may have been suspended or removed since.
    pub fn stands(&self, caller: Caller) -> bool {
        let Caller::Tenant(tenant) = caller else {
            return true;
        };
        let member = self.tenant(tenant).member.as_ref();
        member.is_none_or(|row| !row.suspended && !row.removed)
    }

    /// Ends what a tenant has under way that would go on after its tokens are refused: uploads, streams of
    /// events, and calls that wait for the end of a job.
    fn break_off(&mut self, tenant: TenantId) {
        let error = RpcError::AccessEnded;
        let own = self.under_way.iter().filter(|(_, of)| **of == tenant);
        let own: Vec<u64> = own.map(|(exchange, _)| *exchange).collect();
        for exchange in own {
            if self.break_stream(exchange, &error) {
                continue;
            }
            if self.exchanges.contains_key(&exchange) {
                for (ticket, ..) in self.waits_of(exchange) {
                    self.break_wait(ticket, &error);
                }
                continue;
            }
            self.tell_clerk(Task::Abandon { upload: exchange });
            self.answer(exchange, Answer::error(401, &error));
        }
    }

    /// A request of a tenant is under way from now until it is answered or given up.
    pub(super) fn begin_under_way(&mut self, exchange: u64, tenant: TenantId) {
        self.under_way.insert(exchange, tenant);
    }
}

fn info(name: &TenantName, scenario: Option<&str>, row: &TenantRow) -> TenantInfo {
    let named = scenario.unwrap_or(&row.scenario);
    TenantInfo {
        tenant: name.to_string(),
        state: if row.removed {
            TenantState::Removed
        } else if row.suspended {
            TenantState::Suspended
        } else {
            TenantState::Active
        },
        scenario: (!named.is_empty()).then(|| named.to_owned()),
        scopes: scopes(row),
        quotas: quotas(row),
        old_until_ms: row.before.map(|(_, until)| until.saturating_mul(1000)),
    }
}

fn scopes(row: &TenantRow) -> Vec<Scope> {
    let all = [(Scope::Read, row.may_read), (Scope::Submit, row.may_submit)];
    let held = all.into_iter().filter(|(_, held)| *held);
    held.map(|(scope, _)| scope).collect()
}

fn quotas(row: &TenantRow) -> Quotas {
    // What was written came from 32 bits.
    let small = |it: Option<u64>| it.map(|it| u32::try_from(it).unwrap_or(u32::MAX));
    Quotas {
        queue: small(row.queue),
        running: small(row.running),
        calls: small(row.calls),
        blob_bytes: row.blob_bytes,
        requests: small(row.requests),
    }
}

fn told(row: &TenantRow, secret: &Secret) -> TenantSecret {
    let text = secret.to_file_text();
    TenantSecret {
        tenant: row.tenant.to_string(),
        // The end of the line is for files.
        secret: text.trim_end().to_owned(),
        old_until_ms: row.before.map(|(_, until)| until.saturating_mul(1000)),
    }
}

fn draw_salt() -> Result<[u8; 16], RpcError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| {
        tracing::error!(%error, "no randomness from the operating system");
        RpcError::Internal
    })?;
    Ok(salt)
}

const OVERLAP_MS: u64 = 3_600_000;
/// A year.
const OVERLAP_MS_MAX: u64 = 365 * 24 * 3_600_000;
