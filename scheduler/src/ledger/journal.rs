//! Records as bytes: what is kept, and how anyone finds out that it is what was written.
//!
//! A record holds its command, what came of it, its place, its time, and the digest of the record before
//! it. Nothing in it is believed: an [`Audit`] executes each command on what the records before it
//! have made, and compares every byte of what comes out. It stops at the first record that is
//! wrong, says which and why, and repairs nothing.
//!
//! A chain shows what was changed in the middle. That its end is missing, or that all of it was
//! written anew, only somebody can see who knows its [`Head`].

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::command::{Command, Hash, Id, Outcome};
use super::encoding::{Coded, Malformed, Reader};
use super::{Error, Ledger, Performed, Signatures};

/// Bytes of a record before its body.
const BODY: usize = 4 + 8 + 8 + 32 + 4;
/// Bytes of a record besides its body and its outcome.
const FRAME: usize = BODY + 4 + 32;
/// The longest record: a policy of 64 classes and the largest curve has 4 KiB, a close 400 bytes.
pub const RECORD_MAX: usize = 1 << 16;

/// How far a chain of records goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// How many there are.
    pub records: u64,
    /// The digest of the last; zeros if there is none.
    pub digest: Hash,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place, from 0.
    pub sequence: u64,
    /// Its time.
    pub at: u64,
    /// Its digest.
    pub digest: Hash,
    /// What came of the command.
    pub outcome: Outcome,
    /// All of it, as it is kept.
    pub bytes: Vec<u8>,
}

/// The parts of a record whose digest is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Its place.
    pub sequence: u64,
    /// Its time.
    pub at: u64,
    /// The digest of the one before.
    pub previous: Hash,
    /// The command's id.
    pub id: Id,
    /// What was asked.
    pub command: Command,
    /// What came of it.
    pub outcome: Outcome,
    /// Its digest.
    pub digest: Hash,
}

/// The first record that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("record {record}, at byte {byte}: {fault}")]
pub struct Bad {
    /// Its place, from 0.
    pub record: u64,
    /// Where it begins.
    pub byte: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum Fault {
    #[error("expected {expected} bytes, got {got}")]
    Cut { expected: usize, got: usize },
    #[error("its length is {got}, expected {FRAME} to {RECORD_MAX}")]
    Length { got: usize },
    #[error("its bytes do not have the digest that stands at their end")]
    Digest,
    #[error("it is the record {got}")]
    Place { got: u64 },
    #[error("it does not follow the record before it")]
    Chain,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("it is older than the record before it: {got}, expected {expected} or later")]
    Time { expected: u64, got: u64 },
    #[error("what it asks for is refused: {0}")]
    Refused(Error),
    #[error("it asks again for what record {before} did")]
    Repeated { before: u64 },
    #[error("executed again it is another record, from byte {at} of it on")]
    Outcome { at: usize },
    #[error("the journal ends here, expected {expected} records")]
    Short { expected: u64 },
    #[error("it is kept under another {what}")]
    Kept { what: &'static str },
    #[error(
        "the state after it has the hash {}, expected {}",
        hex(got),
        hex(expected)
    )]
    State { expected: Hash, got: Hash },
    #[error("the journal is whole and is not the one that ends with the digest that is known")]
    OtherJournal,
}

/// Reads a journal from its beginning.
#[derive(Debug, Clone)]
pub struct Audit {
    ledger: Ledger,
    byte: u64,
}

/// A record that is being written: its command, and then what came of it. All of it is put where it is kept, once.
pub(super) struct Draft {
    bytes: Vec<u8>,
}

impl Draft {
    pub(super) fn new(head: &Head, at: u64, id: Id, command: &Command) -> Draft {
        // An event, of which there are most, has 291 bytes; a close has more.
        let mut bytes = Vec::with_capacity(320);
        0_u32.write(&mut bytes);
        head.records.write(&mut bytes);
        at.write(&mut bytes);
        head.digest.write(&mut bytes);
        with_length(&mut bytes, |out| {
            id.write(out);
            command.write(out);
        });
        Draft { bytes }
    }

    /// The command with its id.
    pub(super) fn body(&self) -> &[u8] {
        &self.bytes[BODY..]
    }

    /// All but the digest.
    pub(super) fn finished(mut self, outcome: &Outcome) -> Vec<u8> {
        with_length(&mut self.bytes, |out| outcome.write(out));
        set_length(&mut self.bytes, 0, 32);
        self.bytes
    }
}

/// Writes something and, before it, how long it is.
fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    0_u32.write(out);
    write(out);
    set_length(out, at, 0);
}

/// Puts the length of what follows, and of so much more, where room was left for it.
fn set_length(out: &mut [u8], at: usize, more: usize) {
    // Bodies are bounded by the limits of lists and texts.
    let length = u32::try_from(out.len() - at - 4 + more).expect("records are short");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Takes the bytes of the next record from the front of a journal.
pub fn next(journal: &[u8]) -> Result<&[u8], Fault> {
    let cut = |expected| Fault::Cut {
        expected,
        got: journal.len(),
    };
    let (length, _) = journal.split_first_chunk::<4>().ok_or(cut(4))?;
    let length = (u32::from_be_bytes(*length) as usize).saturating_add(4);
    if !(FRAME..=RECORD_MAX).contains(&length) {
        return Err(Fault::Length { got: length });
    }
    journal.get(..length).ok_or(cut(length))
}

/// The parts of one record, if its digest is right.
pub fn parts(record: &[u8]) -> Result<Parts, Fault> {
    let framed = next(record)?;
    if framed.len() != record.len() {
        return Err(Fault::Length { got: record.len() });
    }
    let (inner, digest) = record
        .split_last_chunk::<32>()
        .expect("a frame has a digest");
    let right: Hash = Sha256::digest(inner).into();
    if right != *digest {
        return Err(Fault::Digest);
    }
    let mut reader = Reader {
        bytes: inner,
        at: 4,
    };
    let reader = &mut reader;
    let (sequence, at, previous) = (u64::read(reader)?, u64::read(reader)?, Hash::read(reader)?);
    let length = u32::read(reader)? as usize;
    let (id, command) = <(Id, Command)>::read_all(reader.take("body", length)?)?;
    let length = u32::read(reader)? as usize;
    let outcome = Outcome::read_all(reader.take("outcome", length)?)?;
    if reader.at != inner.len() {
        return Err(Fault::Malformed(Malformed::Trailing {
            expected: reader.at,
            got: inner.len(),
        }));
    }
    Ok(Parts {
        sequence,
        at,
        previous,
        id,
        command,
        outcome,
        digest: *digest,
    })
}

impl Audit {
    /// Begins with nothing.
    pub fn new(signatures: Signatures) -> Audit {
        Audit {
            ledger: Ledger::new(signatures),
            byte: 0,
        }
    }

    /// Holds one record against all that came before, and executes it.
    pub fn take(&mut self, record: &[u8]) -> Result<Parts, Bad> {
        let (place, byte) = (self.ledger.head.records, self.byte);
        let bad = |fault| Bad {
            record: place,
            byte,
            fault,
        };
        let done = self.execute(record).map_err(bad)?;
        self.byte += record.len() as u64;
        Ok(done)
    }

    /// The same of a record that is kept under a number and a digest.
    pub fn take_kept(&mut self, sequence: u64, digest: &Hash, record: &[u8]) -> Result<Parts, Bad> {
        let (place, byte) = (self.ledger.head.records, self.byte);
        let done = self.take(record)?;
        let what = match (sequence == place, *digest == done.digest) {
            (true, true) => return Ok(done),
            (false, _) => "number",
            (true, false) => "digest",
        };
        Err(Bad {
            record: place,
            byte,
            fault: Fault::Kept { what },
        })
    }

    /// As [`Audit::finish`], for a journal of which the hash of the state is known, too; zeros of one without a record.
    pub fn finish_at(self, head: &Head, state: &Hash) -> Result<Ledger, Bad> {
        let byte = self.byte;
        let mut ledger = self.finish(Some(head))?;
        let got = ledger.state_hash().unwrap_or_default();
        match got == *state {
            true => Ok(ledger),
            false => Err(Bad {
                record: head.records.saturating_sub(1),
                byte,
                fault: Fault::State {
                    expected: *state,
                    got,
                },
            }),
        }
    }

    /// Says that there are no more, and gives the ledger that they have made.
    pub fn finish(self, head: Option<&Head>) -> Result<Ledger, Bad> {
        let have = self.ledger.head;
        let fault = match head {
            Some(head) if have.records < head.records => Some(Fault::Short {
                expected: head.records,
            }),
            Some(head) if have != *head => Some(Fault::OtherJournal),
            _ => None,
        };
        match fault {
            None => Ok(self.ledger),
            Some(fault) => Err(Bad {
                record: have.records,
                byte: self.byte,
                fault,
            }),
        }
    }

    /// What the records so far have made.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn execute(&mut self, record: &[u8]) -> Result<Parts, Fault> {
        let found = parts(record)?;
        if found.sequence != self.ledger.head.records {
            return Err(Fault::Place {
                got: found.sequence,
            });
        }
        if found.previous != self.ledger.head.digest {
            return Err(Fault::Chain);
        }
        let expected = self.ledger.now();
        if found.at < expected {
            return Err(Fault::Time {
                expected,
                got: found.at,
            });
        }
        // Whatever has the same bytes has the digest that was held against them.
        let inner = &record[..record.len() - 32];
        match self.ledger.perform(found.id, &found.command, found.at) {
            Err(error) => Err(Fault::Refused(error)),
            Ok(Performed::Before { sequence }) => Err(Fault::Repeated { before: sequence }),
            Ok(Performed::New(again)) if again.bytes == inner => {
                self.ledger.keep(&again, found.digest);
                Ok(found)
            }
            Ok(Performed::New(again)) => {
                let pairs = again.bytes.iter().zip(inner);
                let at = pairs.take_while(|(a, b)| a == b).count();
                Err(Fault::Outcome { at })
            }
        }
    }
}

/// Audits a journal that lies in one piece.
pub fn audit(journal: &[u8], signatures: Signatures, head: Option<&Head>) -> Result<Ledger, Bad> {
    let mut audit = Audit::new(signatures);
    let mut rest = journal;
    while !rest.is_empty() {
        let (record, byte) = (audit.ledger.head.records, audit.byte);
        let bytes = next(rest).map_err(|fault| Bad {
            record,
            byte,
            fault,
        })?;
        audit.take(bytes)?;
        rest = &rest[bytes.len()..];
    }
    audit.finish(head)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
