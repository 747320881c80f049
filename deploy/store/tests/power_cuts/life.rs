//! A real ledger's life, record by record: parties, deposits, jobs, stakes, closes, claims, what is taken back and what goes to the chain.
//!
//! It is lived once. Each box that is cut writes down as much of it as it comes to, and what is found on its disk is executed again from
//! nothing: the state must be the one that the head has.

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex};

use caldera_scheduler::ledger::command::{Cause, Deed, Id, Leg, Party, Role};
use caldera_scheduler::ledger::journal::Audit;
use caldera_scheduler::ledger::{
    Account, Answer, Asset, Command, Event, Head, Ledger, Policy, Record, Signatures,
};
use caldera_store::ledger::LedgerHead;

/// More than a story comes to: each of its steps writes three records at most.
const RECORDS: usize = 240;

/// All records, each with the hash of the state after it.
pub(crate) static LIFE: LazyLock<Vec<(Record, [u8; 32])>> = LazyLock::new(live);

/// What the head says after so many records.
pub(crate) fn head(records: u64) -> LedgerHead {
    match records.checked_sub(1) {
        None => LedgerHead::default(),
        Some(last) => {
            let (record, state) = &LIFE[last as usize];
            LedgerHead {
                records,
                digest: record.digest,
                state: *state,
            }
        }
    }
}

/// What was read of a journal.
pub(crate) struct Found {
    audit: Audit,
    records: u64,
    wrong: Option<String>,
}

impl Found {
    pub(crate) fn new() -> Found {
        Found {
            audit: Audit::new(Signatures::Checked),
            records: 0,
            wrong: None,
        }
    }

    /// Takes the next row; whether to go on.
    pub(crate) fn take(&mut self, sequence: u64, digest: &[u8; 32], bytes: &[u8]) -> bool {
        if let Err(bad) = self.audit.take_kept(sequence, digest, bytes) {
            self.wrong = Some(bad.to_string());
        }
        let (record, _) = &LIFE[self.records as usize];
        if record.bytes != bytes {
            self.wrong = Some(format!("record {} is another", self.records));
        }
        self.records += 1;
        self.wrong.is_none()
    }

    /// How many records there are, if they make the state that the head has.
    pub(crate) fn state(self, known: &LedgerHead) -> Result<u64, String> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        if *known != head(self.records) {
            return Err(format!("{} records and the head {known:?}", self.records));
        }
        let head = Head {
            records: known.records,
            digest: known.digest,
        };
        let state = self.audit.finish_at(&head, &known.state);
        state.map_err(|bad| bad.to_string())?;
        COUNTS.lock().expect("nobody panics").insert(self.records);
        Ok(self.records)
    }
}

/// After how many different numbers of records the state was held against the head.
pub(crate) fn counts() -> usize {
    COUNTS.lock().expect("nobody panics").len()
}

static COUNTS: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

fn live() -> Vec<(Record, [u8; 32])> {
    let mut life = Life {
        ledger: Ledger::new(Signatures::Checked),
        records: Vec::new(),
        now: 1_800_000_000,
        id: 0,
        sequence: 0,
    };
    life.begin();
    while life.records.len() < RECORDS {
        life.hour();
    }
    life.records
}

struct Life {
    ledger: Ledger,
    records: Vec<(Record, [u8; 32])>,
    now: u64,
    id: Id,
    sequence: u64,
}

impl Life {
    fn begin(&mut self) {
        // Short times, so that payouts mature and stakes end.
        let text = include_str!("../../../era.toml")
            .replace("claim_delay_s = 259200", "claim_delay_s = 3600")
            .replace("lock_s = 2592000", "lock_s = 3600")
            .replace("unbonding_s = 604800", "unbonding_s = 3600");
        let policy = Policy::parse(&text).expect("the shipped policy with shorter times");
        self.done(Command::Open { policy });
        for (party, role) in [
            (NODE, Role::Node),
            (DEVELOPER, Role::Developer),
            (USER, Role::User),
        ] {
            self.done(Command::Register {
                party,
                role,
                owner: party,
                address: [party as u8; 20],
                key: if role == Role::Node { [1; 32] } else { [0; 32] },
            });
        }
        let on = true;
        self.done(Command::Order { party: NODE, on });
        self.transfer(Account::StakingPool);
    }

    /// Each hour has all that there is, and ends with a close.
    fn hour(&mut self) {
        let (epoch, closes) = self.ledger.epoch().expect("is open");
        self.transfer(Account::Free { party: USER });
        let hold = self.reserve();
        self.meter(Deed::Proof {
            hold,
            class: 1,
            developer: Some(DEVELOPER),
            fee: FEE,
            proof: [7; 32],
        });
        let hold = self.reserve();
        let cause = Cause::Node;
        self.meter(Deed::Failure { hold, cause });
        self.meter(Deed::Release {
            party: USER,
            bytes: 1 << 20,
            held_s: 600,
            returned_s: 900,
        });
        let amount = FEE;
        let stake = self.done(Command::Stake {
            party: USER,
            amount,
        });
        self.now = closes.max(self.now + 3_600);
        self.done(Command::Close { epoch });
        self.done(Command::Harvest { stake });
        let unbonding = self.done(Command::Unstake { stake, amount });
        if epoch % 3 == 1 {
            let reason = [9; 32];
            self.done(Command::ClawBack {
                party: DEVELOPER,
                epoch,
                reason,
            });
        }
        self.now += 3_600;
        self.done(Command::Withdraw { unbonding });
        let up_to = epoch;
        self.done(Command::Claim { party: NODE, up_to });
        self.done(Command::Settle { epoch });
    }

    fn transfer(&mut self, to: Account) {
        let leg = Leg {
            asset: Asset::Era,
            from: Account::Outside,
            to,
            amount: 1_000 * FEE,
        };
        self.done(Command::Transfer { legs: vec![leg] });
    }

    fn reserve(&mut self) -> Id {
        self.done(Command::Reserve {
            party: USER,
            amount: FEE,
            expires: self.now + 60,
        })
    }

    fn meter(&mut self, what: Deed) {
        self.sequence += 1;
        let event = Event {
            node: NODE,
            sequence: self.sequence,
            observed: self.now,
            what,
        };
        let signature = vec![5; 64];
        self.done(Command::Meter { event, signature });
    }

    fn done(&mut self, command: Command) -> Id {
        self.id += 1;
        let answer = self.ledger.execute(self.id, &command, self.now);
        let Ok(Answer::New(record)) = answer else {
            panic!("{command:?}: {answer:?}");
        };
        let state = self.ledger.state_hash().expect("is open");
        self.records.push((record, state));
        self.id
    }
}

const NODE: Party = 1;
const DEVELOPER: Party = 2;
const USER: Party = 3;
const FEE: u128 = 1_000_000_000_000_000;
