//! A year of hourly epochs with ten thousand parties: how long closes and a replay take.
//!
//! `cargo run --release -p caldera-scheduler --no-default-features --example ledger_year -- JOBS EPOCHS` runs
//! that many paid jobs in each epoch, with claims, standing orders and stakes, keeps the journal in
//! memory, and then executes it again from nothing. In the last epochs every party has work, for
//! that is the dearest close. All is by one seed; the loop of contribution, reward and
//! reinvestment is closed by the standing orders of every third node and by users who pay with
//! what they have claimed. It ends with 1 if a bar is missed: the replay takes ten seconds at most, and of each kind of close
//! 99 of 100 take 50 ms at most. The bars are for a release build, and `make soak` holds it against them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use caldera_scheduler::ledger::command::{Deed, Leg, Party, Role};
use caldera_scheduler::ledger::journal::audit;
use caldera_scheduler::ledger::{
    Account, Answer, Asset, Command, Event, Ledger, Outcome, Policy, Signatures,
};

const NODES: u32 = 2_000;
const DEVELOPERS: u32 = 500;
const PARTIES: u32 = 10_000;
/// Epochs at the end in which every party has work.
const FULL: u32 = 20;
const ERA: u128 = 1_000_000_000_000_000_000;
/// What a replay of the year may take,
const REPLAY_MAX: Duration = Duration::from_secs(10);
/// and 99 of 100 closes.
const CLOSE_P99_MAX: Duration = Duration::from_millis(50);

struct Year {
    ledger: Ledger,
    journal: Vec<u8>,
    now: u64,
    id: u128,
    sequences: Vec<u64>,
    seed: u64,
    closes: Vec<Closing>,
}

/// How long a close took, and how long it was on a core: on a machine that others use, too, the
/// mean of the second says more.
struct Closing {
    took: Duration,
    computed: Duration,
    payouts: u32,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse().expect("a number"));
    let jobs: u32 = arguments.next().unwrap_or(50);
    let epochs: u32 = arguments.next().unwrap_or(8_760);
    let text = include_str!("../../deploy/era.toml");
    let mut year = Year {
        // What a node signs is checked where the curve is; here it is taken as checked.
        ledger: Ledger::new(Signatures::Checked),
        journal: Vec::new(),
        now: 0,
        id: 0,
        sequences: vec![0; NODES as usize],
        seed: 1,
        closes: Vec::new(),
    };
    let begun = Instant::now();
    year.begin(Policy::parse(text).expect("the shipped policy is one"));
    for epoch in 0..epochs {
        for _ in 0..jobs {
            let user = NODES + DEVELOPERS + year.below(PARTIES - NODES - DEVELOPERS);
            year.job(user);
        }
        for _ in 0..jobs {
            let party = year.below(PARTIES);
            let up_to = epoch;
            // Some have nothing to claim, or not yet.
            year.attempt(Command::Claim { party, up_to });
        }
        year.close(epoch);
    }
    // Everybody has work: a job of every user's, over all nodes and developers.
    for epoch in epochs..epochs + FULL {
        for user in NODES + DEVELOPERS..PARTIES {
            year.job(user);
        }
        year.close(epoch);
    }
    let missed = report(&year, begun.elapsed(), epochs);
    for bar in &missed {
        eprintln!("missed: {bar}");
    }
    ExitCode::from(u8::from(!missed.is_empty()))
}

impl Year {
    fn begin(&mut self, policy: Policy) {
        self.execute(Command::Open { policy });
        for party in 0..PARTIES {
            let role = match party {
                0..NODES => Role::Node,
                _ if party < NODES + DEVELOPERS => Role::Developer,
                _ => Role::User,
            };
            let mut address = [0; 20];
            address[..4].copy_from_slice(&party.to_be_bytes());
            let key = if party < NODES { [1; 32] } else { [0; 32] };
            self.execute(Command::Register {
                party,
                role,
                owner: party,
                address,
                key,
            });
            self.execute(Command::Verify {
                owner: party,
                verified: true,
            });
            if party < NODES && party % 3 == 0 {
                self.execute(Command::Order { party, on: true });
            }
        }
        let mut give = |to, amount| {
            let leg = Leg {
                asset: Asset::Era,
                from: Account::Outside,
                to,
                amount,
            };
            self.execute(Command::Transfer { legs: vec![leg] });
        };
        give(Account::StakingPool, 50_000 * ERA);
        for party in NODES + DEVELOPERS..PARTIES {
            give(Account::Free { party }, 100_000 * ERA);
        }
    }

    fn job(&mut self, party: Party) {
        let node = self.below(NODES);
        let developer = Some(NODES + self.below(DEVELOPERS));
        let fee = ERA / 10 + u128::from(self.below(1 << 30)) * 1_000_003;
        let expires = self.now + 3_600;
        self.execute(Command::Reserve {
            party,
            amount: 2 * fee,
            expires,
        });
        let (hold, class) = (self.id, (self.below(3)) as u8);
        let sequence = &mut self.sequences[node as usize];
        *sequence += 1;
        let what = Deed::Proof {
            hold,
            class,
            developer,
            fee,
            proof: [7; 32],
        };
        let event = Event {
            node,
            sequence: *sequence,
            observed: self.now,
            what,
        };
        self.execute(Command::Meter {
            event,
            signature: vec![7; 64],
        });
    }

    fn close(&mut self, epoch: u32) {
        self.now += 3_600;
        let (begun, computed) = (Instant::now(), on_core());
        let outcome = self.execute(Command::Close { epoch });
        let (took, computed) = (begun.elapsed(), on_core() - computed);
        let Some(Outcome::Closed { close }) = outcome else {
            panic!("a close gave {outcome:?}");
        };
        self.closes.push(Closing {
            took,
            computed,
            payouts: close.payouts,
        });
    }

    fn execute(&mut self, command: Command) -> Option<Outcome> {
        let told = format!("{:?}", std::mem::discriminant(&command));
        let done = self.attempt(command);
        assert!(done.is_some(), "{told} was refused");
        done
    }

    fn attempt(&mut self, command: Command) -> Option<Outcome> {
        self.id += 1;
        match self.ledger.execute(self.id, command, self.now) {
            Ok(Answer::New(record)) => {
                self.journal.extend_from_slice(&record.bytes);
                Some(record.outcome)
            }
            _ => None,
        }
    }

    /// SplitMix64.
    fn below(&mut self, end: u32) -> u32 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * u128::from(end)) >> 64) as u32
    }
}

/// Prints what was measured; the bars that were missed.
fn report(year: &Year, written: Duration, epochs: u32) -> Vec<String> {
    let mut missed = Vec::new();
    let mut hold = |what: &str, took: Duration, max: Duration| {
        if took > max {
            missed.push(format!("{what} took {took:.2?}, the bar is {max:.2?}"));
        }
    };
    let head = year.ledger.head();
    println!(
        "{} records, {} bytes, {epochs} epochs: written in {written:.2?}, {:.0} records a second",
        head.records,
        year.journal.len(),
        head.records as f64 / written.as_secs_f64()
    );
    let (usual, full) = year.closes.split_at(epochs as usize);
    for (what, closes) in [("usual", usual), ("everybody's", full)] {
        let mut times: Vec<_> = closes.iter().map(|close| close.took).collect();
        times.sort_unstable();
        let payouts: u64 = closes.iter().map(|close| u64::from(close.payouts)).sum();
        let computed: Duration = closes.iter().map(|close| close.computed).sum();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        println!(
            "{} {what} closes, {:.0} payouts each: min {:.2?}, p50 {:.2?}, p99 {:.2?}, max {:.2?}; on a core {:.2?}",
            closes.len(),
            payouts as f64 / closes.len() as f64,
            at(0.0),
            at(0.5),
            at(0.99),
            at(1.0),
            computed / closes.len() as u32,
        );
        hold(&format!("99 of 100 {what} closes"), at(0.99), CLOSE_P99_MAX);
    }
    let (begun, computed) = (Instant::now(), on_core());
    let mut again =
        audit(&year.journal, Signatures::Checked, Some(&head)).expect("what was written is sound");
    let (took, computed) = (begun.elapsed(), on_core() - computed);
    println!("replay: {took:.2?}, of that on a core {computed:.2?}");
    hold("the replay", took, REPLAY_MAX);
    let mut ledger = year.ledger.clone();
    assert_eq!(again.state_hash(), ledger.state_hash());
    let state = again.state_hash().expect("is open");
    let state: String = state.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("state {state}");
    assert_eq!(again.sum(Asset::Era), Ok(0));
    missed
}

/// How long the kernel has had this process on a core: what is left on a machine that others use, too.
fn on_core() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("Linux says so");
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.expect("a number of nanoseconds"))
}
