//! The ledger, and the commands that agents give.
//!
//! A [`Market`] counts what its commands moved, for the report, and knows nothing of balances: whoever
//! wants one asks the ledger. What a node signs is a MAC under its key, for the ledger knows no
//! curve and is told here that this is one; a wrong one is refused as a wrong signature is.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use sha2::{Digest, Sha256};

use super::{ERA, Fault, HOUR};
use crate::ledger::command::{
    Cause, ClassId, Close, Deed, EpochNumber, Hash, Id, Leg, Owner, Party, Role, standing_id,
};
use crate::ledger::policy::WHOLE;
use crate::ledger::retention::Retention;
use crate::ledger::{
    Account, Answer, Asset, Command, Error, Event, Ledger, Outcome, Policy, Portion, Signatures,
    Stream,
};

/// The ledger and what its commands have moved.
pub(super) struct Market {
    pub(super) ledger: Ledger,
    pub(super) now: u64,
    pub(super) retention: Retention,
    pub(super) moved: Moved,
    pub(super) records: u64,
    /// What was refused, by reason; adversaries make most of them.
    pub(super) refused: BTreeMap<String, u64>,
    parties: Vec<Known>,
    owners: Owner,
    ids: Id,
    sequences: HashMap<Party, u64>,
    jobs: Vec<Job>,
    /// When each is due.
    unbondings: Vec<(u64, Id)>,
}

/// A party as the simulation knows it.
pub(super) struct Known {
    pub(super) role: Role,
    pub(super) owner: Owner,
    pub(super) stakes: Vec<Id>,
    /// From outside, and to outside.
    pub(super) came: u128,
    pub(super) went: u128,
    /// Settled on the chain, where it can be claimed.
    pub(super) on_chain: u128,
    /// Claimed and neither staked nor spent: whoever pays spends this first.
    earned: u128,
    /// Fees of jobs that have earned it something, and what it was paid for storage.
    backing: u128,
    compensated: u128,
    claimed: bool,
}

/// Sums over all that was done.
#[derive(Debug, Clone, Default)]
pub(super) struct Moved {
    pub(super) failures: u64,
    pub(super) reuses: u64,
    pub(super) claimed: u128,
    pub(super) reinvested: u128,
    pub(super) harvested: u128,
    /// By hand, not by a standing order.
    pub(super) staked: u128,
    pub(super) settled: u128,
    pub(super) fees: u128,
    /// Of fees and of ERA for gas, what was paid with what had been claimed.
    pub(super) paid_with_rewards: u128,
    pub(super) from_outside: u128,
    pub(super) to_outside: u128,
    pub(super) gas_charged: u128,
    pub(super) gas_reimbursed: u128,
    pub(super) released: u128,
}

/// A job that was paid.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) node: Party,
    pub(super) user: Party,
    pub(super) developer: Option<Party>,
    pub(super) class: ClassId,
    pub(super) fee: u128,
    pub(super) reused: bool,
    /// Coefficients.
    pub(super) proving: u32,
    pub(super) using: u32,
    /// The node; user and developer.
    pub(super) earns: (bool, bool),
}

impl Market {
    pub(super) fn open(policy: &Policy) -> Result<Market, Fault> {
        let mut market = Market {
            ledger: Ledger::new(Signatures::Verify(verify)),
            now: 0,
            retention: Retention::default(),
            moved: Moved::default(),
            records: 0,
            refused: BTreeMap::new(),
            parties: Vec::new(),
            owners: 0,
            ids: 0,
            sequences: HashMap::new(),
            jobs: Vec::new(),
            unbondings: Vec::new(),
        };
        let policy = policy.clone();
        market.must(Command::Open { policy })?;
        let pool = market.policy().staking.pool_per_year;
        market.transfer(Asset::Era, Account::Outside, Account::StakingPool, pool)?;
        let wei = 1_000 * ERA;
        market.transfer(Asset::Gas, Account::Outside, Account::GasFloat, wei)?;
        Ok(market)
    }

    /// Gives a command with the next id.
    pub(super) fn give(&mut self, command: Command) -> Result<(Id, Outcome), Error> {
        self.ids += 1;
        let id = self.ids;
        match self.put(id, command)? {
            Answer::New(record) => Ok((id, record.outcome)),
            Answer::Before { sequence } => unreachable!("a new id was used in {sequence}"),
        }
    }

    /// Gives a command with any id, and learns what it moved.
    pub(super) fn put(&mut self, id: Id, command: Command) -> Result<Answer, Error> {
        let answer = self.ledger.execute(id, &command, self.now);
        match &answer {
            Ok(Answer::New(record)) => {
                self.records += 1;
                self.retention.take(record.at, id, &command);
                self.learn(id, &command, &record.outcome);
            }
            Ok(Answer::Before { .. }) => *self.refused.entry("Before".to_owned()).or_default() += 1,
            Err(error) => {
                let name = format!("{error:?}");
                let name = name.chars().take_while(|c| c.is_alphanumeric()).collect();
                *self.refused.entry(name).or_default() += 1;
            }
        }
        answer
    }

    /// Gives one that cannot be refused.
    pub(super) fn must(&mut self, command: Command) -> Result<(Id, Outcome), Fault> {
        self.give(command).map_err(|error| Fault {
            epoch: self.epoch(),
            what: "a command".to_owned(),
            expected: "to be executed".to_owned(),
            got: error.to_string(),
        })
    }

    /// What must be so.
    pub(super) fn hold(
        &self,
        so: bool,
        what: &str,
        expected: impl Display,
        got: impl Display,
    ) -> Result<(), Fault> {
        match so {
            true => Ok(()),
            false => Err(Fault {
                epoch: self.epoch(),
                what: what.to_owned(),
                expected: expected.to_string(),
                got: got.to_string(),
            }),
        }
    }

    fn learn(&mut self, id: Id, command: &Command, outcome: &Outcome) {
        let moved = &mut self.moved;
        let parties = &mut self.parties;
        match (command, outcome) {
            (Command::Transfer { legs }, _) => {
                for leg in legs.iter().filter(|leg| leg.asset == Asset::Era) {
                    if let Account::Free { party } = leg.to {
                        parties[party as usize].came += leg.amount;
                        moved.from_outside += leg.amount;
                    }
                    if let Account::Free { party } = leg.from {
                        parties[party as usize].went += leg.amount;
                        moved.to_outside += leg.amount;
                    }
                }
            }
            (&Command::Claim { party, .. }, &Outcome::Moved { amount, staked }) => {
                moved.claimed += amount;
                moved.reinvested += staked;
                let known = &mut parties[party as usize];
                known.claimed = true;
                known.earned += amount - staked;
                let standing = standing_id(party);
                if staked > 0 && !known.stakes.contains(&standing) {
                    known.stakes.push(standing);
                }
            }
            (&Command::Stake { party, amount }, _) => {
                moved.staked += amount;
                parties[party as usize].stakes.push(id);
            }
            (Command::Unstake { .. }, &Outcome::Moved { amount, .. }) => {
                moved.harvested += amount;
                let due = self.now + self.ledger.policy().map_or(0, |p| p.staking.unbonding_s);
                self.unbondings.push((due, id));
            }
            (Command::Harvest { .. }, &Outcome::Moved { amount, .. }) => moved.harvested += amount,
            (
                Command::OffsetGas { .. },
                &Outcome::Offset {
                    charged,
                    reimbursed,
                },
            ) => {
                moved.gas_charged += charged;
                moved.gas_reimbursed += reimbursed;
            }
            (Command::Settle { .. }, &Outcome::Settled { total, .. }) => moved.settled += total,
            _ => {}
        }
    }

    pub(super) fn epoch(&self) -> EpochNumber {
        self.ledger.epoch().map_or(0, |(epoch, _)| epoch)
    }

    /// # Panics
    /// Before the ledger is open, which the first thing that a market does is to do.
    pub(super) fn policy(&self) -> &Policy {
        self.ledger.policy().expect("a market's ledger is open")
    }

    pub(super) fn streams(&self) -> [Stream; 4] {
        let streams = self.ledger.streams(self.now);
        streams.expect("a market's ledger is open")
    }

    pub(super) fn sum(&self, asset: Asset) -> i128 {
        self.ledger.sum(asset).expect("a market's ledger is open")
    }

    pub(super) fn close(&mut self, epoch: EpochNumber) -> Result<Close, Fault> {
        match self.must(Command::Close { epoch })?.1 {
            Outcome::Closed { close } => Ok(*close),
            other => unreachable!("a close has said {other:?}"),
        }
    }

    pub(super) fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    pub(super) fn new_owner(&mut self, verified: bool) -> Result<Owner, Fault> {
        self.owners += 1;
        let owner = self.owners;
        self.must(Command::Verify { owner, verified })?;
        Ok(owner)
    }

    pub(super) fn register(&mut self, role: Role, owner: Owner) -> Result<Party, Fault> {
        let party = self.parties.len() as Party;
        let mut address = [0x0e; 20];
        address[..4].copy_from_slice(&party.to_be_bytes());
        let key = match role {
            Role::Node => key(party),
            Role::Developer | Role::User => [0; 32],
        };
        self.must(Command::Register {
            party,
            role,
            owner,
            address,
            key,
        })?;
        self.parties.push(Known {
            role,
            owner,
            stakes: Vec::new(),
            came: 0,
            went: 0,
            on_chain: 0,
            earned: 0,
            backing: 0,
            compensated: 0,
            claimed: false,
        });
        Ok(party)
    }

    /// Somebody new, who is verified.
    pub(super) fn newcomer(&mut self, role: Role) -> Result<Party, Fault> {
        let owner = self.new_owner(true)?;
        self.register(role, owner)
    }

    pub(super) fn known(&self, party: Party) -> &Known {
        &self.parties[party as usize]
    }

    pub(super) fn parties(&self) -> impl Iterator<Item = (Party, &Known)> {
        (0..).zip(&self.parties)
    }

    /// Whether a party has claimed since this was asked the last time.
    pub(super) fn take_claimed(&mut self, party: Party) -> bool {
        std::mem::take(&mut self.parties[party as usize].claimed)
    }

    pub(super) fn transfer(
        &mut self,
        asset: Asset,
        from: Account,
        to: Account,
        amount: u128,
    ) -> Result<(), Fault> {
        let legs = vec![Leg {
            asset,
            from,
            to,
            amount,
        }];
        self.must(Command::Transfer { legs }).map(drop)
    }

    /// Brings ERA from outside.
    pub(super) fn fund(&mut self, party: Party, amount: u128) -> Result<(), Fault> {
        self.transfer(
            Asset::Era,
            Account::Outside,
            Account::Free { party },
            amount,
        )
    }

    pub(super) fn free(&self, party: Party) -> u128 {
        let free = self.ledger.balance(Asset::Era, Account::Free { party });
        free.map_or(0, i128::unsigned_abs)
    }

    /// All that a party has: purses, what it can claim here and on the chain, and what its stakes have earned.
    pub(super) fn wealth(&self, party: Party) -> u128 {
        let Ok(view) = self.ledger.party(party) else {
            return 0;
        };
        let known = self.known(party);
        let earned = known.stakes.iter();
        let earned: u128 = earned
            .map(|&stake| self.ledger.earned(stake).unwrap_or(0))
            .sum();
        view.free
            + view.held
            + view.staked
            + view.unbonding
            + view.payable
            + known.on_chain
            + earned
    }

    /// What a party has more than came to it from outside.
    pub(super) fn profit(&self, party: Party) -> i128 {
        let known = self.known(party);
        (self.wealth(party) + known.went).cast_signed() - known.came.cast_signed()
    }

    /// Sets a fee aside; a user that has too little brings `TOP_UP` from outside first.
    pub(super) fn reserve(&mut self, party: Party, amount: u128) -> Result<Id, Fault> {
        if self.free(party) < amount {
            self.fund(party, TOP_UP.max(amount))?;
        }
        let expires = self.now + HOUR;
        let reserve = Command::Reserve {
            party,
            amount,
            expires,
        };
        Ok(self.must(reserve)?.0)
    }

    /// A job from reserve to charge. Gives the hold and the event.
    pub(super) fn job(&mut self, job: &Job) -> Result<(Id, Event), Fault> {
        // A job may cost a little more than was thought.
        let hold = self.reserve(job.user, job.fee + job.fee / 10)?;
        let event = self.event(
            job.node,
            match job.reused {
                false => Deed::Proof {
                    hold,
                    class: job.class,
                    developer: job.developer,
                    fee: job.fee,
                    proof: [7; 32],
                },
                true => Deed::Reuse {
                    hold,
                    class: job.class,
                    developer: job.developer,
                    fee: job.fee,
                    proof: [8; 32],
                },
            },
        );
        self.send(&event)?;
        self.moved.fees += job.fee;
        self.spend_rewards(job.user, job.fee);
        self.moved.reuses += u64::from(job.reused);
        let class = self.policy().class(job.class);
        let (proof, reuse, using) = class.map_or((0, 0, 0), |c| (c.proof, c.reuse, c.user));
        let owner = |party: Party| self.parties[party as usize].owner;
        let node = job.fee >= self.policy().fees.min && owner(job.node) != owner(job.user);
        let own = job.developer.map(owner) == Some(owner(job.user));
        if node && !own {
            self.parties[job.user as usize].backing += job.fee;
        }
        self.jobs.push(Job {
            proving: if job.reused { reuse } else { proof },
            using,
            earns: (node, node && !own),
            ..job.clone()
        });
        Ok((hold, event))
    }

    /// Counts what of a payment was paid with what had been claimed.
    pub(super) fn spend_rewards(&mut self, party: Party, paid: u128) {
        let earned = &mut self.parties[party as usize].earned;
        let of_that = paid.min(*earned);
        *earned -= of_that;
        self.moved.paid_with_rewards += of_that;
    }

    /// A job that did not come to a proof.
    pub(super) fn failure(&mut self, job: &Job, cause: Cause) -> Result<(), Fault> {
        let hold = self.reserve(job.user, job.fee)?;
        let event = self.event(job.node, Deed::Failure { hold, cause });
        self.moved.failures += 1;
        self.send(&event)
    }

    /// What an epoch pays a party for storage: in all no more than its fees have ever backed.
    pub(super) fn compensated(&mut self, portion: &Portion) -> Result<(), Fault> {
        let ceiling = u128::from(self.policy().ceilings.storage);
        let known = &mut self.parties[portion.party as usize];
        known.compensated += portion.amount;
        let (most, got) = (
            known.backing * ceiling / u128::from(WHOLE),
            known.compensated,
        );
        self.hold(got <= most, "paid for storage", most, got)
    }

    /// A tenant gave storage back for an hour.
    pub(super) fn release(&mut self, node: Party, party: Party, bytes: u64) -> Result<(), Fault> {
        self.moved.released += u128::from(bytes);
        let event = self.event(
            node,
            Deed::Release {
                party,
                bytes,
                held_s: 2 * 86_400,
                returned_s: HOUR,
            },
        );
        self.send(&event)
    }

    /// The next event of a node.
    pub(super) fn event(&mut self, node: Party, what: Deed) -> Event {
        let sequence = self.sequences.entry(node).or_default();
        *sequence += 1;
        Event {
            node,
            sequence: *sequence,
            observed: self.now,
            what,
        }
    }

    fn send(&mut self, event: &Event) -> Result<(), Fault> {
        let signature = sign(event.node, event);
        let event = event.clone();
        self.must(Command::Meter { event, signature }).map(drop)
    }

    /// Claims what has matured.
    pub(super) fn claim(&mut self, party: Party) -> Option<u128> {
        let up_to = self.epoch();
        match self.give(Command::Claim { party, up_to }) {
            Ok((_, Outcome::Moved { amount, .. })) => Some(amount),
            _ => None,
        }
    }

    /// Takes out what has come to the end of its unbonding.
    pub(super) fn withdraw_due(&mut self) -> Result<(), Fault> {
        let due: Vec<_> = self
            .unbondings
            .extract_if(.., |&mut (due, _)| due <= self.now)
            .collect();
        for (_, unbonding) in due {
            self.must(Command::Withdraw { unbonding })?;
        }
        Ok(())
    }

    /// Settles an epoch on the chain, where its payouts are still their parties'.
    pub(super) fn settle(&mut self, epoch: EpochNumber) -> Result<(), Fault> {
        let leaves = self.ledger.leaves(epoch).unwrap_or_default();
        if leaves.is_empty() {
            return Ok(());
        }
        self.must(Command::Settle { epoch })?;
        for leaf in leaves {
            // The address begins with the party's number.
            let [a, b, c, d, ..] = leaf.account;
            let party = Party::from_be_bytes([a, b, c, d]);
            self.parties[party as usize].on_chain += leaf.amount;
        }
        Ok(())
    }
}

impl Job {
    /// A proof for a user, without a developer.
    pub(super) fn proof(node: Party, user: Party, class: ClassId, fee: u128) -> Job {
        Job {
            node,
            user,
            developer: None,
            class,
            fee,
            reused: false,
            proving: 0,
            using: 0,
            earns: (false, false),
        }
    }
}

fn key(party: Party) -> Hash {
    let mut key = [0x5a; 32];
    key[..4].copy_from_slice(&party.to_be_bytes());
    key
}

/// What a node of this number sends with an event.
pub(super) fn sign(signer: Party, event: &Event) -> Vec<u8> {
    mac(&key(signer), &event.signed_bytes())
}

fn mac(key: &Hash, message: &[u8]) -> Vec<u8> {
    let mac = Sha256::new().chain_update(key).chain_update(message);
    mac.finalize().to_vec()
}

fn verify(key: &Hash, message: &[u8], signature: &[u8]) -> bool {
    mac(key, message) == signature
}

/// What a user brings when it has too little.
const TOP_UP: u128 = 20 * ERA;
