//! The reader: the thread that reads the ledger's journal for whoever wants to know how something came about.
//!
//! A statement and an explanation are made by executing the journal again, so that they say what anybody else finds who has
//! the records. That takes as long as the journal is, so neither the thread that answers nor the one that writes does it. The
//! reader opens the file to read it, and closes it afterwards; few may wait for it at a time.

use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use caldera_rpc::chain::chain;
use caldera_rpc::error::{EraFault, RpcError};
use caldera_scheduler::ledger::Policy;
use caldera_scheduler::ledger::statement::{Statement, explain};
use caldera_store::database::{Database, DatabaseError};
use serde_json::Value;

use crate::era::{self, Reading};
use crate::service::{Message, Post};

/// The reader before its thread starts.
pub struct Reader {
    /// The file.
    pub path: PathBuf,
    /// How the policy's classes are called: that with which the ledger was opened.
    pub policy: Policy,
    /// What is to be read, each with the number of its question.
    pub readings: Receiver<(u64, Reading)>,
    /// Where answers go.
    pub service: Post,
}

/// So many may wait.
pub const READINGS_MAX: usize = 8;

impl Reader {
    /// Works until nobody is left who could ask. Called once, on the reader's own thread.
    pub fn run(self) {
        while let Ok((ticket, reading)) = self.readings.recv() {
            let answer = self.read(&reading);
            self.service.send(Message::EraAnswered { ticket, answer });
        }
    }

    fn read(&self, reading: &Reading) -> Result<Value, RpcError> {
        let journal = read_journal(&self.path).map_err(|error| {
            tracing::error!(error = %chain(&error), "reading the ledger's journal");
            RpcError::Internal
        })?;
        let bad = |error: &dyn std::error::Error| RpcError::Era {
            fault: EraFault::Damaged,
            detail: error.to_string(),
        };
        match reading {
            Reading::Statement(query) => {
                let all = Statement::of(&journal, query.party).map_err(|error| bad(&error))?;
                era::json(&era::statement(all, query.from.unwrap_or(0)))
            }
            Reading::Explain(query) => {
                let all = explain(&journal, query.epoch, query.party).map_err(|error| {
                    use caldera_scheduler::ledger::statement::Unexplained;
                    match error {
                        Unexplained::Bad(error) => bad(&error),
                        error => RpcError::Era {
                            fault: EraFault::Unknown,
                            detail: error.to_string(),
                        },
                    }
                })?;
                let name = |id| {
                    let class = self.policy.class(id);
                    class.map_or_else(|| id.to_string(), |class| class.name.clone())
                };
                era::json(&era::explanation(query.party, all, name))
            }
        }
    }
}

/// All records of a file, one after the other.
fn read_journal(path: &std::path::Path) -> Result<Vec<u8>, DatabaseError> {
    let database = Database::open_to_read(path)?;
    let mut journal = Vec::new();
    database.ledger_rows(|row| {
        journal.extend_from_slice(&row.bytes);
        true
    })?;
    Ok(journal)
}
