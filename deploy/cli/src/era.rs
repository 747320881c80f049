//! `caldera era`: the ledger of a box, asked of a running `calderad` or read from its data folder.
//!
//! What is asked is one call each. `audit` and `export` read the journal itself, and need no service: `audit`
//! executes every record again from nothing, with its signatures, and names the first that is wrong; `export` gives what
//! was settled in the form in which the contract takes it. Neither changes a byte.
//!
//! A command is done once for each id. The id is drawn here, unless one is given or made of a key: words that stand for what is
//! asked, such as the number of an invoice. Whoever gives neither finds the id in what is printed, of a failure too, and can send the
//! command again with it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use caldera_rpc::auth::Secret;
use caldera_rpc::era::{
    AccountQuery, Adopt, Amount, Claim, ClawBack, CloseEpoch, EpochQuery, EraAccount, EraAsset,
    EraEpochs, EraExplanation, EraId, EraLeg, EraPolicy, EraReceipt, EraRetention, EraRole,
    EraStatement, ExplainQuery, Offset, PolicyQuery, PublicKey, RegisterParty, RetentionQuery,
    Settle, Stake, StatementQuery, Transfer, Unstake, VerifyOwner,
};
use caldera_rpc::methods::{Address, Digest, Method};
use caldera_rpc::node_key::{NodeKey, verify};
use caldera_scheduler::ledger::journal::{Audit, Bad};
use caldera_scheduler::ledger::statement::settlement;
use caldera_scheduler::ledger::{Head, Policy, Signatures, merkle};
use caldera_store::database::Database;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::failure::Misconfigured;
use crate::files::Outputs;
use crate::receipt::Receipt;
use crate::service::Connection;
use crate::table::Table;
use crate::{Report, files};

/// Look after the ledger of a calderad: accounts, rewards, stakes, epochs
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Account(AccountArguments),
    Statement(StatementArguments),
    Explain(ExplainArguments),
    #[command(subcommand)]
    Policy(PolicyCommand),
    #[command(subcommand)]
    Epoch(EpochCommand),
    Claim(ClaimArguments),
    Stake(StakeArguments),
    Unstake(UnstakeArguments),
    Offset(OffsetArguments),
    Register(RegisterArguments),
    Verify(VerifyArguments),
    Transfer(TransferArguments),
    ClawBack(ClawBackArguments),
    Settle(SettleArguments),
    Retention(BareArguments),
    Audit(AuditArguments),
    Export(ExportArguments),
    Keygen(KeygenArguments),
}

/// Show what parties have
#[derive(clap::Args)]
struct AccountArguments {
    /// Number of a party; without it all that the caller may see
    #[arg(value_name = "PARTY")]
    party: Option<u32>,
    #[command(flatten)]
    connection: Connection,
}

/// Show what happened to a party, from the journal
#[derive(clap::Args)]
struct StatementArguments {
    /// Number of the party
    #[arg(value_name = "PARTY")]
    party: u32,
    /// Comma-separated values, with a line of names
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Explain what an epoch pays a party, down to the events
#[derive(clap::Args)]
struct ExplainArguments {
    /// Number of the party
    #[arg(value_name = "PARTY")]
    party: u32,
    /// Number of the epoch
    #[arg(value_name = "EPOCH")]
    epoch: u32,
    #[command(flatten)]
    connection: Connection,
}

/// Check, show and adopt policies
#[derive(clap::Subcommand)]
enum PolicyCommand {
    /// Check a policy file; one that is refused is refused with the sum that shows it
    Check {
        /// The file (TOML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show the policy of the open epoch
    Show(BareArguments),
    /// Adopt a policy from a later epoch on; for the operator
    Adopt {
        /// The file (TOML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// From which epoch on
        #[arg(long, value_name = "EPOCH")]
        from: u32,
        #[command(flatten)]
        id: Named,
        #[command(flatten)]
        connection: Connection,
    },
}

/// List epochs, and close the open one
#[derive(clap::Subcommand)]
enum EpochCommand {
    /// Show the open epoch and the newest that were closed
    List {
        /// Only epochs before this one, in place of the newest
        #[arg(long, value_name = "EPOCH")]
        before: Option<u32>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Close the open epoch, if it is over; for the operator
    Close {
        /// Number of the epoch
        #[arg(value_name = "EPOCH")]
        epoch: u32,
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(clap::Args)]
struct BareArguments {
    #[command(flatten)]
    connection: Connection,
}

/// The id of a command, for which it is done once
#[derive(clap::Args)]
struct Named {
    /// Id of the command, 0x and 32 hexadecimal digits; drawn if neither it nor a key is given
    #[arg(long, value_name = "ID", conflicts_with = "idempotency_key")]
    id: Option<EraId>,
    /// Words of yours that stand for this command and no other, of which its id is made
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
}

/// Take what is due: payouts, or what a stake has earned, or an unbonding
#[derive(clap::Args)]
struct ClaimArguments {
    /// Number of the party
    #[arg(value_name = "PARTY")]
    party: u32,
    /// The last epoch of which payouts are claimed
    #[arg(long, value_name = "EPOCH")]
    up_to: Option<u32>,
    /// What this stake has earned, in place of payouts
    #[arg(long, value_name = "ID", conflicts_with = "up_to")]
    stake: Option<EraId>,
    /// This unbonding, in place of payouts
    #[arg(long, value_name = "ID", conflicts_with_all = ["up_to", "stake"])]
    unbonding: Option<EraId>,
    #[command(flatten)]
    id: Named,
    #[command(flatten)]
    connection: Connection,
}

/// Stake an amount, or set the standing order
#[derive(clap::Args)]
struct StakeArguments {
    /// Number of the party
    #[arg(value_name = "PARTY")]
    party: u32,
    /// Units
    #[arg(value_name = "AMOUNT", required_unless_present = "standing")]
    amount: Option<Amount>,
    /// Whether a part of every claim is staked from now on, in place of an amount
    #[arg(long, value_name = "true|false", conflicts_with = "amount")]
    standing: Option<bool>,
    #[command(flatten)]
    id: Named,
    #[command(flatten)]
    connection: Connection,
}

/// End a stake, or a part of it
#[derive(clap::Args)]
struct UnstakeArguments {
    /// Number of the party
    #[arg(value_name = "PARTY")]
    party: u32,
    /// The stake
    #[arg(value_name = "STAKE")]
    stake: EraId,
    /// Units
    #[arg(value_name = "AMOUNT")]
    amount: Amount,
    #[command(flatten)]
    id: Named,
    #[command(flatten)]
    connection: Connection,
}

/// Reimburse a part of a transaction's gas, for ERA; for the operator
///
/// What it was, and what it has cost, is in its receipt, as a node answers eth_getTransactionReceipt: ask one that you trust. The transaction
/// must have gone through, and have been sent by the party.
#[derive(clap::Args)]
struct OffsetArguments {
    /// Number of the party that sent it
    #[arg(value_name = "PARTY")]
    party: u32,
    /// Units of ERA at most
    #[arg(long, value_name = "AMOUNT")]
    era_max: Amount,
    /// The receipt (JSON), alone or as the result of the node's answer
    #[arg(long, value_name = "FILE")]
    receipt: PathBuf,
    /// The party's account on the chain, if it is not the address at which it is paid
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<Address>,
    #[command(flatten)]
    id: Named,
    #[command(flatten)]
    connection: Connection,
}

/// Make a tenant a party of the ledger, or a box that proves for this one; for the operator
#[derive(clap::Args)]
struct RegisterArguments {
    /// Name of the tenant
    #[arg(value_name = "NAME", required_unless_present = "node_key")]
    name: Option<String>,
    /// The developer of what asks for the tenant's jobs, and not the one who pays for them
    #[arg(long)]
    developer: bool,
    /// In place of a tenant: the public node key of a box of the fleet, which is paid for what it proves for this one
    #[arg(long, value_name = "KEY", conflicts_with_all = ["name", "developer"])]
    node_key: Option<PublicKey>,
    /// Number of the owner
    #[arg(long, value_name = "OWNER")]
    owner: u32,
    /// It is known who the owner is; without this that stays as it is
    #[arg(long)]
    verified: bool,
    /// Where it is paid on the chain
    #[arg(long, value_name = "ADDRESS")]
    address: Address,
    #[command(flatten)]
    id: Named,
    #[command(flatten)]
    connection: Connection,
}

/// Say that it is known who an owner is, or that it is not any more; for the operator
#[derive(clap::Args)]
struct VerifyArguments {
    /// Number of the owner
    #[arg(value_name = "OWNER")]
    owner: u32,
    /// It is not known any more
    #[arg(long)]
    withdraw: bool,
    #[command(flatten)]
    id: Named,
    #[command(flatten)]
    connection: Connection,
}

/// Move amounts between accounts, all or none; for the operator
///
/// An account is outside, treasury, gasFloat, stakingPool, storageFund, budget or the number of a party. A deposit comes
/// from outside. Further legs follow the first, three words each.
#[derive(clap::Args)]
struct TransferArguments {
    /// From where, to where, how much in units or wei; and again for each further leg, 16 at most
    #[arg(value_names = ["FROM", "TO", "AMOUNT"], num_args = 3.., required = true)]
    legs: Vec<String>,
    /// Wei, in place of ERA
    #[arg(long)]
    gas: bool,
    #[command(flatten)]
    id: Named,
    #[command(flatten)]
    connection: Connection,
}

/// Take a payout back that is not mature, because of an event that should not have been paid; for the operator
///
/// The events of a payout, and the proof that it is one of its epoch's, are what `caldera era explain` shows. It must be one that has earned
/// the party something in that epoch. The record has the digest of event and reason: keep the words.
#[derive(clap::Args)]
struct ClawBackArguments {
    /// Number of the party
    #[arg(value_name = "PARTY")]
    party: u32,
    /// Number of the epoch
    #[arg(value_name = "EPOCH")]
    epoch: u32,
    /// The node whose event it is
    #[arg(long, value_name = "PARTY")]
    node: u32,
    /// The node's number of the event
    #[arg(long, value_name = "NUMBER")]
    event: u64,
    /// Why, in words
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    id: Named,
    #[command(flatten)]
    connection: Connection,
}

/// Take what is left of a closed epoch to the chain; for the operator
#[derive(clap::Args)]
struct SettleArguments {
    /// Number of the epoch
    #[arg(value_name = "EPOCH")]
    epoch: u32,
    #[command(flatten)]
    id: Named,
    #[command(flatten)]
    connection: Connection,
}

/// Execute the journal of a data folder again from nothing and compare
///
/// Holds each record's bytes, place, predecessor, signature and outcome, and the state after the last against what the box wrote
/// down. Names the first record that is wrong, and repairs nothing. The box may be running.
#[derive(clap::Args)]
struct AuditArguments {
    /// The data folder
    #[arg(value_name = "DATA")]
    data: PathBuf,
}

/// Write what was settled of an epoch as the contract takes it: root, sum, and claims with their paths
#[derive(clap::Args)]
struct ExportArguments {
    /// Number of the epoch
    #[arg(value_name = "EPOCH")]
    epoch: u32,
    /// The data folder
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// Where to write it; standard output without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Make a node's private key, and print the public one
#[derive(clap::Args)]
struct KeygenArguments {
    /// Where to write it; there must be no such file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    match &arguments.command {
        Command::Account(it) => {
            let query = AccountQuery { party: it.party };
            let client = it.connection.client()?;
            let all: Vec<EraAccount> = client.call(Method::EraAccount, &query)?;
            report(accounts(&all), &all)
        }
        Command::Statement(it) => statement(it),
        Command::Explain(it) => {
            let query = ExplainQuery {
                party: it.party,
                epoch: it.epoch,
            };
            let client = it.connection.client()?;
            let why: EraExplanation = client.call(Method::EraExplain, &query)?;
            report(explanation(&why), &why)
        }
        Command::Policy(PolicyCommand::Check { file }) => check(file),
        Command::Policy(PolicyCommand::Show(it)) => {
            let client = it.connection.client()?;
            let policy: EraPolicy = client.call(Method::EraPolicy, &PolicyQuery {})?;
            let figures = serde_json::to_string_pretty(&policy.policy)?;
            let text = format!(
                "epoch {}, policy {}\n{figures}\n",
                policy.epoch, policy.hash
            );
            report(text, &policy)
        }
        Command::Policy(PolicyCommand::Adopt {
            file,
            from,
            id,
            connection,
        }) => {
            let (text, _) = read_policy(file)?;
            let request = Adopt {
                id: id.draw()?,
                epoch: *from,
                policy: text,
            };
            command(connection, Method::EraAdopt, &request, request.id)
        }
        Command::Epoch(EpochCommand::List { before, connection }) => {
            let query = EpochQuery { before: *before };
            let all: EraEpochs = connection.client()?.call(Method::EraEpoch, &query)?;
            report(epochs(&all), &all)
        }
        Command::Epoch(EpochCommand::Close { epoch, connection }) => {
            let client = connection.client()?;
            let request = CloseEpoch { epoch: *epoch };
            let done: EraReceipt = client.call(Method::EraClose, &request)?;
            report(format!("closed by record {}\n", done.record), &done)
        }
        Command::Claim(it) => {
            let request = Claim {
                id: it.id.draw()?,
                party: it.party,
                up_to: it.up_to,
                stake: it.stake,
                unbonding: it.unbonding,
            };
            command(&it.connection, Method::EraClaim, &request, request.id)
        }
        Command::Stake(it) => {
            let request = Stake {
                id: it.id.draw()?,
                party: it.party,
                amount: it.amount,
                standing: it.standing,
            };
            command(&it.connection, Method::EraStake, &request, request.id)
        }
        Command::Unstake(it) => {
            let request = Unstake {
                id: it.id.draw()?,
                party: it.party,
                stake: it.stake,
                amount: it.amount,
            };
            command(&it.connection, Method::EraUnstake, &request, request.id)
        }
        Command::Offset(it) => offset(it),
        Command::Register(it) => {
            let request = RegisterParty {
                id: it.id.draw()?,
                tenant: it.name.clone(),
                role: match (it.developer, it.node_key) {
                    (_, Some(_)) => EraRole::Node,
                    (true, None) => EraRole::Developer,
                    (false, None) => EraRole::User,
                },
                key: it.node_key,
                owner: it.owner,
                verified: it.verified.then_some(true),
                address: it.address,
            };
            command(&it.connection, Method::EraRegister, &request, request.id)
        }
        Command::Verify(it) => {
            let request = VerifyOwner {
                id: it.id.draw()?,
                owner: it.owner,
                verified: !it.withdraw,
            };
            command(&it.connection, Method::EraVerify, &request, request.id)
        }
        Command::Transfer(it) => {
            let request = Transfer {
                id: it.id.draw()?,
                legs: it.legs()?,
            };
            command(&it.connection, Method::EraTransfer, &request, request.id)
        }
        Command::ClawBack(it) => {
            let request = ClawBack {
                id: it.id.draw()?,
                party: it.party,
                epoch: it.epoch,
                node: it.node,
                sequence: it.event,
                reason: it.reason.clone(),
            };
            command(&it.connection, Method::EraClawBack, &request, request.id)
        }
        Command::Settle(it) => {
            let request = Settle {
                id: it.id.draw()?,
                epoch: it.epoch,
            };
            command(&it.connection, Method::EraSettle, &request, request.id)
        }
        Command::Retention(it) => {
            let client = it.connection.client()?;
            let all: EraRetention = client.call(Method::EraRetention, &RetentionQuery {})?;
            report(retention(&all), &all)
        }
        Command::Audit(it) => audit(&it.data),
        Command::Export(it) => export(it),
        Command::Keygen(it) => keygen(&it.file),
    }
}

impl TransferArguments {
    fn legs(&self) -> anyhow::Result<Vec<EraLeg>> {
        let asset = if self.gas {
            EraAsset::Gas
        } else {
            EraAsset::Era
        };
        let leg = |words: &[String]| match words {
            [from, to, amount] => Ok(EraLeg {
                asset,
                from: from.clone(),
                to: to.clone(),
                amount: amount
                    .parse::<Amount>()
                    .map_err(|error| Misconfigured(format!("{amount}: {error}")))?,
            }),
            words => Err(Misconfigured(format!(
                "a leg: expected FROM, TO and AMOUNT, got {}",
                words.join(" ")
            ))),
        };
        let legs: Result<_, Misconfigured> = self.legs.chunks(3).map(leg).collect();
        Ok(legs?)
    }
}

/// Takes from a receipt what it says, and asks for that.
fn offset(it: &OffsetArguments) -> anyhow::Result<Report> {
    let named = || it.receipt.display().to_string();
    let receipt = Receipt::parse(&files::read(&it.receipt)?).with_context(named)?;
    let sender = match it.sender {
        Some(sender) => sender,
        None => {
            let party = Some(it.party);
            let client = it.connection.client()?;
            let found: Vec<EraAccount> =
                client.call(Method::EraAccount, &AccountQuery { party })?;
            let account = found
                .first()
                .context("the box knows the party and not what it has")?;
            account.address
        }
    };
    receipt.sent_by(sender).with_context(named)?;
    let request = Offset {
        id: it.id.draw()?,
        party: it.party,
        era_max: it.era_max,
        receipt: receipt.transaction,
        gas_used: receipt.gas_used,
        gas_price: Amount(receipt.gas_price),
    };
    command(&it.connection, Method::EraOffset, &request, request.id)
}

impl Named {
    fn draw(&self) -> anyhow::Result<EraId> {
        if let Some(id) = self.id {
            return Ok(id);
        }
        if let Some(key) = &self.idempotency_key {
            let hash: [u8; 32] = Sha256::new()
                .chain_update(b"caldera era key")
                .chain_update(key)
                .finalize()
                .into();
            let (short, _) = hash.split_first_chunk().expect("32 bytes have 16");
            return Ok(EraId(u128::from_be_bytes(*short)));
        }
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
        Ok(EraId(u128::from_be_bytes(bytes)))
    }
}

fn command(
    connection: &Connection,
    method: Method,
    request: &impl Serialize,
    id: EraId,
) -> anyhow::Result<Report> {
    let client = connection.client()?;
    // An answer that is lost on its way leaves open whether it was done.
    let again =
        || format!("command {id}, which is done once however often it is sent with --id {id}");
    let done: EraReceipt = client.call(method, request).with_context(again)?;
    let mut text = format!("record {}", done.record);
    if done.repeated {
        text += ", which was there before";
    }
    let parts = [
        ("moved", done.moved),
        ("staked", done.staked),
        ("charged", done.charged),
        ("reimbursed", done.reimbursed),
    ];
    for (what, amount) in parts {
        if let Some(amount) = amount {
            text += &format!(", {what} {amount}");
        }
    }
    if let Some(party) = done.party {
        text += &format!(", party {party}");
    }
    if let Some(reason) = done.reason {
        text += &format!(", reason {reason}");
    }
    let mut document = serde_json::to_value(&done)?;
    document["id"] = json!(id);
    Ok(Report::new(format!("{text}\nid {id}\n"), document))
}

fn report(text: String, document: &impl Serialize) -> anyhow::Result<Report> {
    Ok(Report::new(text, serde_json::to_value(document)?))
}

fn accounts(all: &[EraAccount]) -> String {
    let mut table = Table::new(&[
        ">party",
        "tenant",
        "role",
        ">owner",
        ">free",
        ">held",
        ">staked",
        ">unbonding",
        ">payable",
        ">wei",
    ]);
    for it in all {
        let role = match it.role {
            EraRole::Node => "node",
            EraRole::Developer => "developer",
            EraRole::User => "user",
        };
        table.row([
            it.party.to_string(),
            it.tenant.clone().unwrap_or_else(|| "-".to_owned()),
            role.to_owned(),
            it.owner.to_string(),
            it.free.to_string(),
            it.held.to_string(),
            it.staked.to_string(),
            it.unbonding.to_string(),
            it.payable.to_string(),
            it.gas.to_string(),
        ]);
    }
    table.to_string()
}

/// Asks for pieces until there is no more.
fn statement(arguments: &StatementArguments) -> anyhow::Result<Report> {
    let client = arguments.connection.client()?;
    let mut query = StatementQuery {
        party: arguments.party,
        from: None,
    };
    let mut whole: EraStatement = client.call(Method::EraStatement, &query)?;
    while let Some(next) = whole.next.take() {
        query.from = Some(next);
        let more: EraStatement = client.call(Method::EraStatement, &query)?;
        whole.lines.extend(more.lines);
        whole.next = more.next;
    }
    if arguments.csv {
        return report(whole.csv(), &whole);
    }
    let names = [">record", ">at", "what", "purse", ">change", ">balance"];
    let mut table = Table::new(&names);
    for it in &whole.lines {
        table.row([
            it.record.to_string(),
            it.at.to_string(),
            it.what.clone(),
            it.purse.clone(),
            it.change.to_string(),
            it.balance.to_string(),
        ]);
    }
    report(table.to_string(), &whole)
}

fn explanation(why: &EraExplanation) -> String {
    let mut streams = Table::new(&[
        "stream", ">budget", ">paid", ">weights", ">work", ">factor", "by", ">weight", ">amount",
    ]);
    for it in &why.streams {
        let by = match (it.successes, it.failures, it.scenarios) {
            (Some(good), Some(bad), _) => format!("{good} of {} jobs", good + bad),
            (_, _, Some(scenarios)) => format!("{scenarios} scenarios"),
            _ => "-".to_owned(),
        };
        streams.row([
            it.stream.clone(),
            it.budget.to_string(),
            it.paid.to_string(),
            it.weights.to_string(),
            it.work.to_string(),
            it.factor
                .map_or_else(|| "-".to_owned(), |it| it.to_string()),
            by,
            it.weight.to_string(),
            it.amount.to_string(),
        ]);
    }
    let mut events = Table::new(&[">record", "what", ">node", ">sequence", "class", ">fee"]);
    for it in &why.events {
        events.row([
            it.record.to_string(),
            it.what.clone(),
            it.node.to_string(),
            it.sequence.to_string(),
            it.class.clone().unwrap_or_else(|| "-".to_owned()),
            it.fee.map_or_else(|| "-".to_owned(), |fee| fee.to_string()),
        ]);
    }
    let mut text = format!(
        "Epoch {} pays party {} {} units, by policy {}.\n{streams}{events}record {}, root {}",
        why.epoch, why.party, why.amount, why.policy, why.closed_by, why.root
    );
    if let Some(index) = why.index {
        text += &format!(", leaf {index}, path");
        why.path.iter().for_each(|hash| text += &format!(" {hash}"));
    }
    text + "\n"
}

fn epochs(all: &EraEpochs) -> String {
    let mut table = Table::new(&[
        ">epoch",
        ">closed at",
        ">fees",
        ">issued",
        ">budget",
        ">nodes",
        ">developers",
        ">users",
        ">storage",
        ">dust",
        ">carried",
        ">payouts",
    ]);
    for it in &all.closed {
        table.row([
            it.epoch.to_string(),
            it.at.to_string(),
            it.fees.to_string(),
            it.issued.to_string(),
            it.budget.to_string(),
            it.nodes.to_string(),
            it.developers.to_string(),
            it.users.to_string(),
            it.storage.to_string(),
            it.dust.to_string(),
            it.carried.to_string(),
            it.payouts.to_string(),
        ]);
    }
    format!(
        "{table}epoch {} is open until {}, with fees {} and budget {}\n",
        all.open, all.closes_at, all.fees, all.budget
    )
}

fn retention(all: &EraRetention) -> String {
    let names = [
        ">cohort",
        ">month",
        "rewarded",
        ">n",
        ">came back",
        "rate",
        "95 %",
    ];
    let mut table = Table::new(&names);
    for it in &all.groups {
        let rate = match it.active {
            0 => "-".to_owned(),
            n => format!("{:.3}", it.kept as f64 / n as f64),
        };
        table.row([
            it.cohort.to_string(),
            it.month.to_string(),
            if it.rewarded { "yes" } else { "no" }.to_owned(),
            it.active.to_string(),
            it.kept.to_string(),
            rate,
            format!("{:.3} to {:.3}", it.low, it.high),
        ]);
    }
    format!("{table}month {} is not over\n", all.month)
}

fn read_policy(file: &Path) -> anyhow::Result<(String, Policy)> {
    let named = || file.display().to_string();
    let bytes = files::read(file)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| Misconfigured(error.to_string()))
        .with_context(named)?;
    let policy = Policy::parse(text)
        .map_err(|error| Misconfigured(error.to_string()))
        .with_context(named)?;
    Ok((text.to_owned(), policy))
}

fn check(file: &Path) -> anyhow::Result<Report> {
    let (_, policy) = read_policy(file)?;
    let hash = Digest(policy.hash());
    let mut classes = Table::new(&[">id", "class", ">proof", ">reuse", ">user"]);
    for class in &policy.classes {
        classes.row([
            class.id.to_string(),
            class.name.clone(),
            class.proof.to_string(),
            class.reuse.to_string(),
            class.user.to_string(),
        ]);
    }
    Ok(Report::new(
        format!("{} is the policy {hash}.\n{classes}", file.display()),
        json!({ "file": file, "hash": hash, "policy": &*policy }),
    ))
}

/// The tables in a data folder.
fn open(data: &Path) -> anyhow::Result<Database> {
    let path = data.join("caldera.sqlite");
    Database::open_to_read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// A wrong journal is an answer, "no", and not a failure.
fn audit(data: &Path) -> anyhow::Result<Report> {
    let database = open(data)?;
    // Before the records: those that a running box adds meanwhile are not looked at.
    let head = database.ledger_head().context("reading the journal")?;
    let mut audit = Audit::new(Signatures::Verify(verify));
    let mut bad: Option<Bad> = None;
    let mut bytes = 0;
    let read = database.ledger_rows(|row| {
        if row.sequence >= head.records {
            return false;
        }
        bytes += row.bytes.len() as u64;
        bad = audit.take_kept(row.sequence, &row.digest, &row.bytes).err();
        bad.is_none()
    });
    read.context("reading the journal")?;
    let known = Head {
        records: head.records,
        digest: head.digest,
    };
    let audited = match bad {
        Some(bad) => Err(bad),
        None => audit.finish_at(&known, &head.state),
    };
    let (text, document, code) = match audited {
        Ok(ledger) => {
            let epoch = ledger.epoch().map(|(epoch, _)| epoch).ok();
            let (digest, state) = (Digest(head.digest), Digest(head.state));
            let text = format!(
                "{} records in {bytes} bytes are sound.\nhead {digest}\nstate {state}\n",
                head.records
            );
            let document = json!({
                "sound": true, "records": head.records, "bytes": bytes, "digest": digest,
                "state": state, "epoch": epoch,
            });
            (text, document, 0)
        }
        Err(bad) => {
            let text = format!("The journal is wrong: {bad}\n");
            let document = json!({
                "sound": false, "record": bad.record, "byte": bad.byte,
                "fault": bad.fault.to_string(),
            });
            (text, document, 1)
        }
    };
    Ok(Report {
        text,
        json: document,
        code,
    })
}

fn export(arguments: &ExportArguments) -> anyhow::Result<Report> {
    let database = open(&arguments.data)?;
    let mut journal = Vec::new();
    let read = database.ledger_rows(|row| {
        journal.extend_from_slice(&row.bytes);
        true
    });
    read.context("reading the journal")?;
    let settled = settlement(&journal, arguments.epoch)?;
    let claims = settled.leaves.iter().enumerate().map(|(at, leaf)| {
        let path = merkle::path(&settled.leaves, at);
        let path: Vec<String> = path.iter().map(hex).collect();
        json!({
            "index": leaf.index,
            "account": Address(leaf.account),
            "amount": Amount(leaf.amount),
            "path": path,
        })
    });
    let document = json!({
        "epoch": arguments.epoch,
        "record": settled.record,
        "root": hex(&settled.root),
        "total": Amount(settled.total),
        "claims": claims.collect::<Vec<Value>>(),
    });
    let text = format!("{document:#}\n");
    let Some(path) = &arguments.output else {
        return Ok(Report::new(text, document));
    };
    let mut outputs = Outputs::default();
    outputs.add(path, |out| Ok(out.write_all(text.as_bytes())?))?;
    outputs.commit()?;
    let said = format!(
        "{} claims of {} units in {}\n",
        settled.leaves.len(),
        settled.total,
        path.display()
    );
    Ok(Report::new(said, json!({ "file": path })))
}

fn keygen(file: &Path) -> anyhow::Result<Report> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).context("the system gives no random bytes")?;
    let secret = Secret::from_bytes(*bytes);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut out| {
            out.write_all(secret.to_file_text().as_bytes())?;
            out.sync_all()
        })
        .with_context(|| format!("cannot write {}", file.display()))?;
    let public = Digest(NodeKey::new(&secret).public());
    Ok(Report::new(
        format!("{public}\n"),
        json!({ "file": file, "publicKey": public }),
    ))
}

fn hex(bytes: &[u8; 32]) -> String {
    format!("0x{}", Digest(*bytes))
}
