//! Boxes that lend each other proofs: decides which job of one is proved on another, keeps each to one result, and carries that out.
//!
//! What the fleet decides touches nothing: no socket, no file, no thread, no clock. What
//! happened and what time it is come in through [`Submitter::handle`] and [`Lender::handle`], what is to be done goes
//! out as commands. Whoever carries them out may be killed between any two of them, may be cut off from the
//! others, and may hear everything late, twice or never: `tests/simulator` does all of that to thousands of fleets.
//! How the parts agree, and what is assumed of a message broker, stands in `docs/fleet.md`.
//!
//! The shape (a state machine that is told the time, with a simulator around it) is that of the scheduler's arbiter and,
//! before it, of TigerBeetle's simulator. Fencing tokens are Kleppmann's (2016), leases Gray's and Cheriton's (1989).
//!
//! | file | subject |
//! |---|---|
//! | `terms` | how long things may take |
//! | `placement` | which box is to prove a job: a pure function of what boxes say of themselves |
//! | `lease` | when a placement is given up, and when silence proves nothing |
//! | `loan` | how much of a box's time another one was granted for a term |
//! | `submitter` | the side of the box that has accepted jobs |
//! | `lender` | the side of the box that proves them |
//!
//! Beside them stands what they are carried out with:
//!
//! | file | subject |
//! |---|---|
//! | `messages` | what boxes send each other, as text |
//! | `journal` | boots and placements, on the disk |
//! | `nats` | the broker: what is asked of it, and whether it may be believed |
//! | `transfer` | witnesses and keys, from box to box |
//! | `calderad` | the box that this process stands beside |
//! | `run` | carries the commands out |
//! | `config` | what an operator writes down |
//! | `admission` | who belongs to a fleet |

#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use caldera_scheduler::Nanos;

pub mod admission;
pub mod calderad;
pub mod config;
pub mod journal;
pub mod lease;
pub mod lender;
pub mod loan;
pub mod messages;
pub mod nats;
pub mod placement;
pub mod run;
pub mod submitter;
pub mod terms;
pub mod transfer;

pub use lender::Lender;
pub use placement::Advertisement;
pub use submitter::Submitter;
pub use terms::Terms;

/// Names a box. It is the beginning of the digest of its node key, so nobody hands these names out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BoxId(pub u128);

/// Counts the starts of a box's fleet process. It is on the disk before anybody hears of it, so it never
/// falls, whatever the clock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boot(pub u64);

/// Counts the placements that a box has recorded, of all its jobs. Of two placements of one job the one with the higher token is
/// in force, and the other has no effect any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// One delivery of one message by the broker: what an acknowledgement names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Delivery(pub u64);

/// The beginning of the digest of a proving key. Enough for a guess whether a box has it; a key is fetched by all of its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHint(pub u64);

/// What is known of a job by who places it and by who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Its proving key.
    pub key: KeyHint,
    /// How long the key is, for boxes that do not have it.
    pub key_bytes: u64,
    /// How long the witness is.
    pub witness_bytes: u64,
    /// What it takes of one core of the speed 1,000.
    pub work: Nanos,
    /// When it is needed, by the clock of whoever holds this value.
    pub due: Option<Nanos>,
    /// What may be paid for a second of such a core.
    pub price_max: u64,
}

/// What a lender answers for one placement. There is one of it, whatever is delivered how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A proof, which is believed when it is verified.
    Proof(Arc<[u8]>),
    /// It could not be proved. That is a hint and no verdict: the box that accepted the job finds out by itself.
    Failed,
    /// It is not taken.
    Refused(Refusal),
}

/// Why a lender does not take a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has as many as it takes.
    Full,
    /// It is being emptied.
    Draining,
    /// It would be late.
    TooLate,
    /// It is beyond what was lent to its submitter, or that was reclaimed.
    Loan,
}

impl fmt::Display for BoxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "box {:032x}", self.0)
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot {}", self.0)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {}", self.0)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Full => "full",
            Refusal::Draining => "draining",
            Refusal::TooLate => "too late",
            Refusal::Loan => "beyond its loan",
        })
    }
}
