//! What is read as a request reads the same after it was written; its parameters fit a method or
//! are refused; a response that is read is read again.

use caldera_rpc::jsonrpc::{self, Response};
use caldera_rpc::methods::{
    AddTenant, DeclareDemand, EstimateProof, HistogramsQuery, JobQuery, JobWait, ListCircuits,
    ListTenants, Method, OpenRequest, PoolQuery, Present, ProfileQuery, PublishIssuers,
    RegisterCircuit, Reuse, Revoke, RotateTenant, StateQuery, StorageQuery, Submit, TenantQuery,
    UnregisterCircuit, VerifyPresentation,
};

pub(crate) fn run(data: &[u8]) {
    if let Ok(response) = Response::parse(data) {
        let again = Response::parse(response.to_json().to_string().as_bytes());
        assert_eq!(again.ok().as_ref(), Some(&response));
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
            Method::AddTenant => params.decode::<AddTenant>().map(drop),
            Method::RotateTenant => params.decode::<RotateTenant>().map(drop),
            Method::SuspendTenant | Method::ResumeTenant | Method::RemoveTenant => {
                params.decode::<TenantQuery>().map(drop)
            }
            Method::ListTenants => params.decode::<ListTenants>().map(drop),
        };
    }
    let _ = jsonrpc::encode(message.batch, &responses);
}
