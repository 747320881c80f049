//! `caldera tenant`: who may use a running `calderad`, changed while it runs.
//!
//! Every command is one call of the operator. A secret is printed once, by the command that made it; the box does not tell
//! it again, and `rotate` makes another.

use caldera_rpc::methods::{
    AddTenant, ListTenants, Method, Quotas, RotateTenant, Scope, TenantInfo, TenantQuery,
    TenantSecret, TenantState,
};

use crate::Report;
use crate::service::Connection;
use crate::table::Table;

/// Add and change tenants of a running calderad
///
/// For the operator: --tenant operator and the operator's secret. Tenants of the configuration are shown, and
/// changed there alone.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Add(AddArguments),
    Rotate(RotateArguments),
    /// Refuse a tenant's tokens until it is resumed; its jobs go on
    Suspend(NameArguments),
    /// Take a suspended tenant's tokens again
    Resume(NameArguments),
    /// Refuse a tenant's tokens for ever, cancel its jobs, and erase what it had at the next start
    Remove(NameArguments),
    List(ListArguments),
}

/// Add a tenant and print its secret, once
#[derive(clap::Args)]
struct AddArguments {
    /// Name of the new tenant: a-z, 0-9, _ and -
    #[arg(value_name = "NAME")]
    name: String,
    /// Its class in the policy
    #[arg(long, value_name = "CLASS")]
    scenario: String,
    /// What it may do: read, submit or both
    #[arg(long, value_name = "SCOPE,...", value_delimiter = ',', default_value = "read,submit", value_parser = scope)]
    scopes: Vec<Scope>,
    /// Unfinished jobs at most
    #[arg(long, value_name = "N")]
    queue: Option<u32>,
    /// Jobs that are proved at once at most; the others wait in its queue
    #[arg(long, value_name = "N")]
    running: Option<u32>,
    /// Requests under way at most: calls that wait, uploads, streams
    #[arg(long, value_name = "N")]
    calls: Option<u32>,
    /// Bytes of all its keys and witnesses at most
    #[arg(long, value_name = "N")]
    blob_bytes: Option<u64>,
    /// Requests a second at most
    #[arg(long, value_name = "N")]
    requests: Option<u32>,
    #[command(flatten)]
    connection: Connection,
}

/// Give a tenant another secret and print it, once
#[derive(clap::Args)]
struct RotateArguments {
    /// Name of the tenant
    #[arg(value_name = "NAME")]
    name: String,
    /// For how long the old secret is taken too, in milliseconds
    #[arg(long, value_name = "MS", default_value = "3600000")]
    overlap_ms: u64,
    #[command(flatten)]
    connection: Connection,
}

#[derive(clap::Args)]
struct NameArguments {
    /// Name of the tenant
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    connection: Connection,
}

/// Show all tenants
#[derive(clap::Args)]
struct ListArguments {
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    match &arguments.command {
        Command::Add(it) => add(it),
        Command::Rotate(it) => {
            let query = RotateTenant {
                tenant: it.name.clone(),
                overlap_ms: Some(it.overlap_ms),
            };
            let client = it.connection.client()?;
            told(&client.call(Method::RotateTenant, &query)?)
        }
        Command::Suspend(it) => change(it, Method::SuspendTenant),
        Command::Resume(it) => change(it, Method::ResumeTenant),
        Command::Remove(it) => change(it, Method::RemoveTenant),
        Command::List(it) => {
            let client = it.connection.client()?;
            let list: Vec<TenantInfo> = client.call(Method::ListTenants, &ListTenants {})?;
            Ok(Report::new(show(&list), serde_json::to_value(&list)?))
        }
    }
}

fn add(arguments: &AddArguments) -> anyhow::Result<Report> {
    let request = AddTenant {
        tenant: arguments.name.clone(),
        scenario: arguments.scenario.clone(),
        scopes: Some(arguments.scopes.clone()),
        quotas: Some(Quotas {
            queue: arguments.queue,
            running: arguments.running,
            calls: arguments.calls,
            blob_bytes: arguments.blob_bytes,
            requests: arguments.requests,
        }),
    };
    let client = arguments.connection.client()?;
    told(&client.call(Method::AddTenant, &request)?)
}

fn told(secret: &TenantSecret) -> anyhow::Result<Report> {
    let text = format!("{}\n", secret.secret);
    Ok(Report::new(text, serde_json::to_value(secret)?))
}

fn change(arguments: &NameArguments, method: Method) -> anyhow::Result<Report> {
    let query = TenantQuery {
        tenant: arguments.name.clone(),
    };
    let client = arguments.connection.client()?;
    let info: TenantInfo = client.call(method, &query)?;
    let json = serde_json::to_value(&info)?;
    Ok(Report::new(show(&[info]), json))
}

fn show(list: &[TenantInfo]) -> String {
    let mut table = Table::new(&[
        "tenant",
        "state",
        "scenario",
        "scopes",
        ">queue",
        ">running",
        ">calls",
        ">bytes",
        ">requests/s",
    ]);
    let number = |it: Option<u64>| it.map_or_else(|| "-".to_owned(), |it| it.to_string());
    for it in list {
        let scopes: Vec<&str> = it.scopes.iter().map(|scope| scope.name()).collect();
        table.row([
            it.tenant.clone(),
            state(it.state).to_owned(),
            it.scenario.clone().unwrap_or_else(|| "-".to_owned()),
            scopes.join(","),
            number(it.quotas.queue.map(u64::from)),
            number(it.quotas.running.map(u64::from)),
            number(it.quotas.calls.map(u64::from)),
            number(it.quotas.blob_bytes),
            number(it.quotas.requests.map(u64::from)),
        ]);
    }
    table.to_string()
}

fn state(state: TenantState) -> &'static str {
    match state {
        TenantState::Configured => "configured",
        TenantState::Active => "active",
        TenantState::Suspended => "suspended",
        TenantState::Removed => "removed",
        TenantState::Unconfigured => "unconfigured",
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    [Scope::Read, Scope::Submit]
        .into_iter()
        .find(|scope| scope.name() == text)
        .ok_or_else(|| "expected read or submit".to_owned())
}
