//! Transfers a second of the ledger that are on the disk: executed and written in groups, as the clerk does it, against a plain
//! table of accounts in SQLite with one transaction each.
//!
//! The ledger's side is one thread and does all that the clerk does with a group once it has it: it executes the transfers between
//! a thousand parties, each a record in the chain, counts them for retention, and writes the group in one commit, with the hash of the
//! state. What comes before, a call's way through RPC, is not in it. The other side does what a first version would:
//! two balances and a row of what was moved, in one transaction, synced. Both files lie in one folder, of which the
//! disk is what is measured: name it with TMPDIR.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use caldera_scheduler::ledger::command::{Leg, Role};
use caldera_scheduler::ledger::retention::Retention;
use caldera_scheduler::ledger::{
    Account, Answer as Executed, Asset, Command, Ledger, Policy, Signatures,
};
use caldera_store::database::Database;
use caldera_store::ledger::LedgerHead;
use rusqlite::{Connection, params};

use crate::bench::{Bench, OURS};
use crate::duel::{Answer, Contender, Spread};
use crate::record::{Case, Unit};
use crate::table::table;

/// What came out.
pub(crate) struct Moved {
    /// Durable transfers a second.
    per_second: f64,
    /// The same over one transaction each.
    against: Spread,
    transfers: u64,
}

impl Moved {
    /// Whether it is as fast as it should be.
    pub(crate) fn holds(&self) -> bool {
        self.per_second >= GATE
    }
}

/// Measures `transfers` of each, in each round.
pub(crate) fn ledger(bench: &mut Bench, transfers: u64) -> Result<Moved> {
    ensure!(transfers > 0, "transfers: expected 1 or more, got 0");
    let folder = tempfile::tempdir().context("a folder")?;
    let case = Case {
        bench: "ledger",
        case: format!("{transfers} transfers, groups of {GROUP}"),
        size: transfers,
        threads: 1,
        unit: Unit::WallMilliseconds,
        inside: Some("executed, chained, hashed, written and synced"),
    };
    let contenders = vec![
        Contender::ours(
            OURS,
            Books::open(&folder.path().join("ledger.sqlite"))?,
            |books: &mut Books| books.transfer(transfers),
            |_| Ok(Answer::Verified),
        ),
        Contender::ours(
            "SQLite, one by one",
            (accounts(&folder.path().join("accounts.sqlite"))?, 0),
            |(connection, next): &mut (Connection, u64)| {
                for _ in 0..transfers {
                    *next += 1;
                    one_by_one(connection, *next)?;
                }
                Ok(())
            },
            |_| Ok(Answer::Verified),
        ),
    ];
    let runs = bench.case(&case, contenders)?;
    Ok(Moved {
        per_second: transfers as f64 / runs[0].wall().median,
        against: runs[1].wall_ratio(&runs[0]),
        transfers,
    })
}

/// The figures as a table.
pub(crate) fn of_moved(moved: &Moved) -> String {
    let Spread { median, low, high } = moved.against;
    let rows = vec![vec![
        "SQLite, one by one".to_owned(),
        format!("{median:.1} ({low:.1}..{high:.1})"),
    ]];
    format!(
        "{} transfers in groups of {GROUP} on one thread: {:.0} a second, durable\n{}",
        moved.transfers,
        moved.per_second,
        table(&["against", "the ledger over it"], &rows)
    )
}

/// A ledger and where its records go.
struct Books {
    ledger: Ledger,
    retention: Retention,
    database: Database,
    next: u128,
}

impl Books {
    fn open(path: &Path) -> Result<Books> {
        let mut books = Books {
            ledger: Ledger::new(Signatures::Checked),
            retention: Retention::default(),
            database: Database::open(path)?,
            next: 0,
        };
        let policy = Policy::parse(include_str!("../../deploy/era.toml"))?;
        let mut commands = vec![Command::Open { policy }];
        for party in 1..=PARTIES {
            commands.push(Command::Register {
                party,
                role: Role::User,
                owner: party,
                address: [0; 20],
                key: [0; 32],
            });
            let legs = vec![leg(Account::Outside, party, 1 << 60)];
            commands.push(Command::Transfer { legs });
        }
        books.write(commands.into_iter())?;
        Ok(books)
    }

    fn transfer(&mut self, transfers: u64) -> Result<()> {
        let mut left = transfers;
        while left > 0 {
            let count = left.min(GROUP);
            let first = self.next as u32;
            let transfers = (first..).take(count as usize).map(|at| {
                let [from, to] = [at, at.wrapping_mul(7) + 1].map(|it| it % PARTIES + 1);
                let to = if from == to { to % PARTIES + 1 } else { to };
                let legs = vec![leg(Account::Free { party: from }, to, 1)];
                Command::Transfer { legs }
            });
            self.write(transfers)?;
            left -= count;
        }
        Ok(())
    }

    fn write(&mut self, commands: impl Iterator<Item = Command>) -> Result<()> {
        let group = self.database.group()?;
        for command in commands {
            self.next += 1;
            let Executed::New(record) = self.ledger.execute(self.next, &command, NOW)? else {
                bail!("a command that was there before");
            };
            self.retention.take(record.at, self.next, &command);
            group.record(record.sequence, &record.digest, &record.bytes)?;
        }
        let state = self.ledger.state_hash()?;
        let head = self.ledger.head();
        group.ledger_head(&LedgerHead {
            records: head.records,
            digest: head.digest,
            state,
        })?;
        Ok(group.commit()?)
    }
}

fn leg(from: Account, party: u32, amount: u128) -> Leg {
    Leg {
        asset: Asset::Era,
        from,
        to: Account::Free { party },
        amount,
    }
}

fn accounts(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         CREATE TABLE accounts (party INTEGER PRIMARY KEY, free INTEGER NOT NULL CHECK (free >= 0)) STRICT;
         CREATE TABLE transfers (id INTEGER PRIMARY KEY, debit INTEGER NOT NULL, credit INTEGER NOT NULL,
            amount INTEGER NOT NULL) STRICT;",
    )?;
    for party in 1..=PARTIES {
        let row = params![party, 1_i64 << 60];
        connection.execute("INSERT INTO accounts VALUES (?1, ?2)", row)?;
    }
    Ok(connection)
}

fn one_by_one(connection: &mut Connection, next: u64) -> Result<()> {
    let (parties, next) = (i64::from(PARTIES), next.cast_signed());
    let from = next % parties + 1;
    let to = (next * 7 + 1) % parties + 1;
    let transaction = connection.transaction()?;
    for (query, party) in [
        ("UPDATE accounts SET free = free - 1 WHERE party = ?1", from),
        ("UPDATE accounts SET free = free + 1 WHERE party = ?1", to),
    ] {
        transaction.prepare_cached(query)?.execute([party])?;
    }
    transaction
        .prepare_cached("INSERT INTO transfers VALUES (?1, ?2, ?3, 1)")?
        .execute([next, from, to])?;
    Ok(transaction.commit()?)
}

/// Durable transfers a second that are asked for, on one core.
const GATE: f64 = 50_000.0;
/// What gathers while a commit is synced.
const GROUP: u64 = 1_024;
const PARTIES: u32 = 1_000;
/// The ledger's time, in seconds.
const NOW: u64 = 1_800_000_000;
