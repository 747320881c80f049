//! The ledger's methods: who may ask, and what a job means to it. All else is the clerk's (`era`), which answers when what
//! was done is on the disk.

use caldera_rpc::era::{EpochQuery, PolicyQuery, RetentionQuery};
use caldera_rpc::error::{EraFault, RpcError};
use caldera_rpc::jsonrpc::{Json, Params};
use caldera_rpc::methods::Method;
use caldera_scheduler::TenantId;
use caldera_scheduler::ledger::command::Cause;
use caldera_store::TenantName;
use caldera_store::jobs::JobWrite;
use serde_json::Value;

use super::{Caller, Flow, Question, Service};
use crate::clerk::Task;
use crate::era::{Ask, Work, WorkEnd};

impl Service {
    /// A method of the ledger's.
    pub(super) fn era(
        &mut self,
        caller: Caller,
        method: Method,
        params: Params,
    ) -> Result<Flow, RpcError> {
        let caller = match caller {
            Caller::Operator => None,
            Caller::Fleet => return Err(RpcError::MethodNotFound),
            Caller::Tenant(_) if method.is_operators() => {
                return Err(RpcError::InvalidRequest {
                    detail: "for the operator".into(),
                });
            }
            Caller::Tenant(tenant) => {
                self.hold_scope(tenant, method.scope())?;
                Some(self.tenant(tenant).name.clone())
            }
        };
        let ask = match method {
            Method::EraAccount => Ask::Account(params.decode()?),
            Method::EraStatement => Ask::Statement(params.decode()?),
            Method::EraExplain => Ask::Explain(params.decode()?),
            Method::EraPolicy => {
                let PolicyQuery {} = params.decode()?;
                Ask::Policy
            }
            Method::EraEpoch => {
                let EpochQuery { before } = params.decode()?;
                Ask::Epoch { before }
            }
            Method::EraRetention => {
                let RetentionQuery {} = params.decode()?;
                Ask::Retention
            }
            Method::EraClaim => Ask::Claim(params.decode()?),
            Method::EraStake => Ask::Stake(params.decode()?),
            Method::EraUnstake => Ask::Unstake(params.decode()?),
            Method::EraOffset => Ask::Offset(params.decode()?),
            Method::EraRegister => Ask::Register(params.decode()?),
            Method::EraVerify => Ask::Verify(params.decode()?),
            Method::EraTransfer => Ask::Transfer(params.decode()?),
            Method::EraAdopt => Ask::Adopt(params.decode()?),
            Method::EraClawBack => Ask::ClawBack(params.decode()?),
            Method::EraClose => Ask::Close(params.decode()?),
            Method::EraSettle => Ask::Settle(params.decode()?),
            _ => return Err(RpcError::MethodNotFound),
        };
        if self.parts.config.era.is_none() {
            return Err(RpcError::Era {
                fault: EraFault::Off,
                detail: "this box keeps no ledger".into(),
            });
        }
        if self.stopping {
            return Err(RpcError::Stopping);
        }
        Ok(self.ask_ledger(caller, ask))
    }

    /// Has the clerk answer what is asked of the ledger.
    pub(super) fn ask_ledger(&mut self, caller: Option<TenantName>, ask: Ask) -> Flow {
        let ticket = self.ticket();
        self.tell_clerk(Task::Era {
            ticket,
            caller,
            ask: Box::new(ask),
        });
        Flow::Wait(ticket, Question::Call)
    }

    /// The clerk has an answer, and what it says is written down.
    pub(super) fn era_answered(&mut self, ticket: u64, answer: Result<Value, RpcError>) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            self.settle(waiting, answer.map(|it| Json::from(&it)));
        }
    }

    /// A change to a job, with what it means to the ledger if there is one.
    pub(super) fn tell_of_job(&self, tenant: TenantId, write: JobWrite, end: Option<WorkEnd>) {
        let task = match self.parts.config.era {
            None => Task::Job(write),
            Some(_) => Task::Work(write, self.means(tenant, end)),
        };
        self.tell_clerk(task);
    }

    /// What a job of a tenant means to the ledger.
    pub(super) fn means(&self, tenant: TenantId, end: Option<WorkEnd>) -> Work {
        let tenant = self.tenant(tenant);
        Work {
            tenant: tenant.name.clone(),
            scenario: tenant.scenario.clone(),
            end,
        }
    }
}

/// Whose fault it is that a job has no proof: what its owner has sent, or chosen not to leave there, or this box.
///
/// A proof that fails its own check was made twice, the second time by the host alone, before its job fails: what fails both
/// times is the witness. That the constraints which a tenant has registered hold says nothing against that, for nobody but
/// the tenant knows whether they are those of the key.
pub(super) fn cause(error: &RpcError) -> Cause {
    match error {
        RpcError::WitnessRefused { .. }
        | RpcError::InputsRefused { .. }
        | RpcError::ProgramRefused { .. }
        | RpcError::ProgramMissing { .. }
        | RpcError::KeyRefused { .. }
        | RpcError::SelfCheckFailed
        | RpcError::DevelopmentKey
        | RpcError::BlobUnknown { .. }
        | RpcError::CircuitUnknown { .. }
        | RpcError::CircuitNotReady { .. }
        | RpcError::KeySource { .. }
        | RpcError::QuotaExceeded { .. } => Cause::Input,
        _ => Cause::Node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_the_inputs_fault_and_the_rest_the_nodes() {
        assert_eq!(cause(&RpcError::SelfCheckFailed), Cause::Input);
        assert_eq!(cause(&RpcError::DevelopmentKey), Cause::Input);
        assert_eq!(cause(&RpcError::Internal), Cause::Node);
    }
}
