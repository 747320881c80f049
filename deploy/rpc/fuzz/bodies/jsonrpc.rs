//! What is read as a request reads the same after it was written; its parameters fit a method or
//! are refused; a response that is read is read again.

use caldera_rpc::era;
use caldera_rpc::jsonrpc::{self, Response};
use caldera_rpc::methods::{
    AddTenant, DeclareDemand, EstimateProof, FleetBillQuery, FleetHeldQuery, FleetMeter,
    FleetResult, FleetReturn, FleetTake, HistogramsQuery, JobQuery, JobWait, ListCircuits,
    ListTenants, Method, OpenRequest, PoolQuery, Present, ProfileQuery, PublishIssuers,
    RegisterCircuit, Reuse, Revoke, RotateTenant, StateQuery, StorageQuery, Submit, TenantQuery,
    UnregisterCircuit, VerifyPresentation,
};

pub(crate) fn run(data: &[u8]) {
    if let Ok(response) = Response::parse(data) {
        let written = jsonrpc::encode(false, std::slice::from_ref(&response));
        let again = written.map(|written| Response::parse(&written).ok());
        assert_eq!(again, Some(Some(response)));
    }
    let Ok(message) = jsonrpc::parse(data) else {
        return;
    };
    assert!(message.batch || message.entries.len() == 1);
    let mut responses = Vec::new();
    for entry in message.entries {
        let request = match entry {
            Ok(request) => request,
            Err(refusal) => {
                responses.push(refusal.into_response());
                continue;
            }
        };
        let written = request.to_json().to_string();
        let again = jsonrpc::parse(written.as_bytes());
        assert_eq!(
            again.map(|message| message.entries),
            Ok(vec![Ok(request.clone())])
        );
        let Some(method) = Method::from_name(&request.method) else {
            continue;
        };
        let params = request.params;
        let _ = match method {
            Method::RegisterCircuit => params.decode::<RegisterCircuit>().map(drop),
            Method::ListCircuits => params.decode::<ListCircuits>().map(drop),
            Method::UnregisterCircuit => params.decode::<UnregisterCircuit>().map(drop),
            Method::Estimate => params.decode::<EstimateProof>().map(drop),
            Method::Submit => params.decode::<Submit>().map(drop),
            Method::Status | Method::Result => params.decode::<JobWait>().map(drop),
            Method::Cancel => params.decode::<JobQuery>().map(drop),
            Method::Profile => params.decode::<ProfileQuery>().map(drop),
            Method::Pool => params.decode::<PoolQuery>().map(drop),
            Method::Demand => params.decode::<DeclareDemand>().map(drop),
            Method::Histograms => params.decode::<HistogramsQuery>().map(drop),
            Method::Storage => params.decode::<StorageQuery>().map(drop),
            Method::StateIssue => params.decode::<PublishIssuers>().map(drop),
            Method::StateGrant => params.decode::<OpenRequest>().map(drop),
            Method::StatePresent => params.decode::<Present>().map(drop),
            Method::StateVerify => params.decode::<VerifyPresentation>().map(drop),
            Method::StateReuse => params.decode::<Reuse>().map(drop),
            Method::StateRevoke => params.decode::<Revoke>().map(drop),
            Method::StateGet => params.decode::<StateQuery>().map(drop),
            Method::EraAccount => params.decode::<era::AccountQuery>().map(drop),
            Method::EraAdopt => params.decode::<era::Adopt>().map(drop),
            Method::EraClaim => params.decode::<era::Claim>().map(drop),
            Method::EraClawBack => params.decode::<era::ClawBack>().map(drop),
            Method::EraClose => params.decode::<era::CloseEpoch>().map(drop),
            Method::EraEpoch => params.decode::<era::EpochQuery>().map(drop),
            Method::EraExplain => params.decode::<era::ExplainQuery>().map(drop),
            Method::EraOffset => params.decode::<era::Offset>().map(drop),
            Method::EraPolicy => params.decode::<era::PolicyQuery>().map(drop),
            Method::EraVerify => params.decode::<era::VerifyOwner>().map(drop),
            Method::EraRegister => params.decode::<era::RegisterParty>().map(drop),
            Method::EraRetention => params.decode::<era::RetentionQuery>().map(drop),
            Method::EraSettle => params.decode::<era::Settle>().map(drop),
            Method::EraStake => params.decode::<era::Stake>().map(drop),
            Method::EraStatement => params.decode::<era::StatementQuery>().map(drop),
            Method::EraTransfer => params.decode::<era::Transfer>().map(drop),
            Method::EraUnstake => params.decode::<era::Unstake>().map(drop),
            Method::AddTenant => params.decode::<AddTenant>().map(drop),
            Method::RotateTenant => params.decode::<RotateTenant>().map(drop),
            Method::SuspendTenant | Method::ResumeTenant | Method::RemoveTenant => {
                params.decode::<TenantQuery>().map(drop)
            }
            Method::ListTenants => params.decode::<ListTenants>().map(drop),
            Method::FleetTake => params.decode::<FleetTake>().map(drop),
            Method::FleetHeld => params.decode::<FleetHeldQuery>().map(drop),
            Method::FleetResult => params.decode::<FleetResult>().map(drop),
            Method::FleetReturn => params.decode::<FleetReturn>().map(drop),
            Method::FleetBill => params.decode::<FleetBillQuery>().map(drop),
            Method::FleetMeter => params.decode::<FleetMeter>().map(drop),
        };
    }
    let _ = jsonrpc::encode(message.batch, &responses);
}
