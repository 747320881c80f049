//! The ledger written a second time, from docs/ledger.md alone, in rationals.
//!
//! Slow and plain on purpose: every balance is a whole number of any length, every share an exact
//! fraction, and nothing is kept that could be found out by looking. It takes the ledger's commands and
//! says what must come of them; of a refusal it says every reason that holds, for the document leaves
//! it open which of several is named.

use std::collections::{BTreeMap, HashMap, HashSet};

use caldera_scheduler::ledger::command::{Cause, Deed, Id, Party, Role};
use caldera_scheduler::ledger::{Account, Asset, Command, Policy};
use num_bigint::BigInt;
use num_rational::BigRational;
use sha3::{Digest, Keccak256};

pub(crate) type Whole = BigInt;
type Exact = BigRational;

const MONTH: u64 = 2_592_000;
const YEAR: u64 = 31_536_000;

/// What a command does.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It was done before.
    Before,
    /// It is refused, for each of these reasons.
    Refused(Vec<&'static str>),
    /// It is done.
    Done(Effect),
}

/// What came of it.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    Nothing,
    Moved {
        amount: Whole,
        staked: Whole,
    },
    Offset {
        charged: Whole,
        reimbursed: Whole,
    },
    Settled {
        root: [u8; 32],
        leaves: usize,
        total: Whole,
    },
    Closed(Box<Closed>),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Closed {
    pub(crate) root: [u8; 32],
    pub(crate) payouts: usize,
    pub(crate) fees: Whole,
    pub(crate) issued: Whole,
    pub(crate) budget: Whole,
    /// Nodes, developers, users, storage.
    pub(crate) paid: [Whole; 4],
    pub(crate) dust: Whole,
    pub(crate) carried: Whole,
    pub(crate) staking: Whole,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Id(Id),
    Event(Party, u64),
    Close(u32),
}

struct Member {
    role: Role,
    owner: u32,
    address: [u8; 20],
    order: bool,
    proving: Whole,
    developing: Whole,
    using: Whole,
    backing: Whole,
    byte_seconds: Whole,
}

struct Hold {
    party: Party,
    amount: Whole,
    expires: u64,
}

struct Stake {
    party: Party,
    amount: Whole,
    since: Exact,
    earned: Exact,
    until: u64,
}

pub(crate) struct Reference {
    now: u64,
    policy: Option<Policy>,
    upcoming: BTreeMap<u32, Policy>,
    epoch: u32,
    opened: u64,
    used: HashMap<Key, Command>,
    balances: HashMap<(Asset, Account), Whole>,
    members: BTreeMap<Party, Member>,
    /// Of each owner: windows and how the jobs in them went, since the last beginning.
    jobs: HashMap<u32, Vec<(u32, bool)>>,
    verified: HashSet<u32>,
    holds: HashMap<Id, Hold>,
    stakes: HashMap<Id, Stake>,
    standing: HashMap<Party, Stake>,
    unbondings: HashMap<Id, (Party, Whole, u64)>,
    scenarios: HashMap<(Party, u8, u32), u64>,
    payouts: BTreeMap<(Party, u32), (Whole, u64)>,
    matures: BTreeMap<u32, u64>,
    receipts: HashSet<[u8; 32]>,
    per_unit: Exact,
    /// What divisions have left to the accumulator, in 2^-64 units.
    rest: Exact,
    owed: Exact,
    /// Until when stakes have earned, and how much in the open epoch.
    accrued: u64,
    staking: Whole,
}

fn whole(number: impl Into<Whole>) -> Whole {
    number.into()
}

fn over(above: impl Into<Whole>, below: impl Into<Whole>) -> Exact {
    Exact::new(above.into(), below.into())
}

fn floor(number: &Exact) -> Whole {
    number.floor().to_integer()
}

fn bp(amount: &Whole, basis_points: u32) -> Whole {
    floor(&over(amount * basis_points, 10_000))
}

fn scale() -> Whole {
    whole(1) << 64
}

impl Reference {
    pub(crate) fn new() -> Reference {
        Reference {
            now: 0,
            policy: None,
            upcoming: BTreeMap::new(),
            epoch: 0,
            opened: 0,
            used: HashMap::new(),
            balances: HashMap::new(),
            members: BTreeMap::new(),
            jobs: HashMap::new(),
            verified: HashSet::new(),
            holds: HashMap::new(),
            stakes: HashMap::new(),
            standing: HashMap::new(),
            unbondings: HashMap::new(),
            scenarios: HashMap::new(),
            payouts: BTreeMap::new(),
            matures: BTreeMap::new(),
            receipts: HashSet::new(),
            per_unit: over(0, 1),
            rest: over(0, 1),
            owed: over(0, 1),
            accrued: 0,
            staking: whole(0),
        }
    }

    pub(crate) fn balance(&self, asset: Asset, account: Account) -> Whole {
        self.balances
            .get(&(asset, account))
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn payouts(&self, party: Party) -> Vec<(u32, Whole, u64)> {
        let of = self.payouts.range((party, 0)..=(party, u32::MAX));
        of.map(|(&(_, epoch), (amount, matures))| (epoch, amount.clone(), *matures))
            .collect()
    }

    pub(crate) fn earned(&self, stake: Id) -> Option<Whole> {
        let stake = self.stakes.get(&stake)?;
        Some(floor(&self.earned_exactly(stake)))
    }

    pub(crate) fn execute(&mut self, id: Id, command: &Command, now: u64) -> Verdict {
        let key = match command {
            Command::Meter { event, .. } => Key::Event(event.node, event.sequence),
            Command::Close { epoch } => Key::Close(*epoch),
            _ => Key::Id(id),
        };
        if let Some(before) = self.used.get(&key) {
            return match before == command {
                true => Verdict::Before,
                false => Verdict::Refused(vec!["Conflict"]),
            };
        }
        let now = now.max(self.now);
        let faults = self.faults(command, now);
        if !faults.is_empty() {
            return Verdict::Refused(faults);
        }
        let effect = self.carry_out(id, command, now);
        self.now = now;
        self.used.insert(key, command.clone());
        Verdict::Done(effect)
    }

    fn policy(&self) -> &Policy {
        self.policy.as_ref().expect("looked at before")
    }

    fn supply(&self, asset: Asset) -> Whole {
        -(self.balance(asset, Account::Outside) + self.balance(asset, Account::Issuance))
    }

    fn shift(&mut self, asset: Asset, from: Account, to: Account, amount: &Whole) {
        *self.balances.entry((asset, from)).or_default() -= amount;
        *self.balances.entry((asset, to)).or_default() += amount;
    }

    fn era(&mut self, from: Account, to: Account, amount: &Whole) {
        self.shift(Asset::Era, from, to, amount);
    }

    /// Every reason for which a command is refused.
    fn faults(&self, command: &Command, now: u64) -> Vec<&'static str> {
        let mut faults = Vec::new();
        let Some(policy) = &self.policy else {
            return match command {
                Command::Open { .. } => faults,
                _ => vec!["NotOpen"],
            };
        };
        let mut when = |is: bool, fault: &'static str| {
            if is {
                faults.push(fault);
            }
        };
        let is_there = |party: &Party| self.members.contains_key(party);
        let gone = |id: &Id| match self.used.contains_key(&Key::Id(*id)) {
            true => "Resolved",
            false => "Unknown",
        };
        let zero = Whole::default();
        match command {
            Command::Open { .. } => when(true, "AlreadyOpen"),
            Command::Adopt { epoch, .. } => when(*epoch <= self.epoch, "ClosedEpoch"),
            Command::Register {
                party, role, key, ..
            } => {
                when(is_there(party), "PartyExists");
                when((*role == Role::Node) == (*key == [0; 32]), "Key");
            }
            Command::Verify { .. } => {}
            Command::Transfer { legs } => {
                when(legs.is_empty(), "Zero");
                when(legs.len() > 16, "Limit");
                let mut moved: HashMap<(Asset, Account), Whole> = HashMap::new();
                for leg in legs {
                    use Account::{
                        Budget, Free, GasFloat, Outside, StakingPool, StorageFund, Treasury,
                    };
                    let era = leg.asset == Asset::Era;
                    let from = match leg.from {
                        Outside | Free { .. } => true,
                        Treasury => era,
                        GasFloat => !era,
                        _ => false,
                    };
                    let to = match leg.to {
                        Outside | Free { .. } => true,
                        Treasury | StakingPool | StorageFund | Budget => era,
                        GasFloat => !era,
                        _ => false,
                    };
                    when(!from || !to || leg.from == leg.to, "Forbidden");
                    when(leg.amount == 0, "Zero");
                    for account in [leg.from, leg.to] {
                        when(
                            account.party().is_some_and(|party| !is_there(&party)),
                            "UnknownParty",
                        );
                    }
                    let has = |account, moved: &HashMap<(Asset, Account), Whole>| {
                        self.balance(leg.asset, account)
                            + moved.get(&(leg.asset, account)).unwrap_or(&zero)
                    };
                    if leg.from == Outside {
                        let more = -moved.get(&(leg.asset, Outside)).unwrap_or(&zero);
                        let supply = self.supply(leg.asset) + more + leg.amount;
                        when(supply > whole(1) << 96, "Overflow");
                    } else {
                        when(has(leg.from, &moved) < whole(leg.amount), "Insufficient");
                    }
                    *moved.entry((leg.asset, leg.from)).or_default() -= leg.amount;
                    *moved.entry((leg.asset, leg.to)).or_default() += leg.amount;
                }
            }
            Command::Reserve {
                party,
                amount,
                expires,
            } => {
                when(!is_there(party), "UnknownParty");
                when(*amount == 0, "Zero");
                when(*expires <= now, "Expired");
                let free = self.balance(Asset::Era, Account::Free { party: *party });
                when(free < whole(*amount), "Insufficient");
            }
            Command::Charge { hold, amount } => match self.holds.get(hold) {
                None => when(true, gone(hold)),
                Some(hold) => {
                    when(*amount == 0, "Zero");
                    when(now >= hold.expires, "Expired");
                    when(whole(*amount) > hold.amount, "Insufficient");
                }
            },
            Command::Refund { hold } => when(!self.holds.contains_key(hold), gone(hold)),
            Command::Meter { event, signature } => {
                let node = self.members.get(&event.node);
                when(node.is_none(), "UnknownParty");
                when(node.is_some_and(|node| node.role != Role::Node), "Role");
                when(signature.len() > 128, "Limit");
                let signed = node.is_none() || signature.first() != Some(&0xff);
                when(!signed, "Signature");
                match event.what {
                    Deed::Proof {
                        hold,
                        class,
                        developer,
                        fee,
                        ..
                    }
                    | Deed::Reuse {
                        hold,
                        class,
                        developer,
                        fee,
                        ..
                    } => {
                        when(
                            policy.classes.iter().all(|known| known.id != class),
                            "UnknownClass",
                        );
                        if let Some(developer) = developer {
                            let developer = self.members.get(&developer);
                            when(developer.is_none(), "UnknownParty");
                            when(
                                developer.is_some_and(|it| it.role != Role::Developer),
                                "Role",
                            );
                        }
                        match self.holds.get(&hold) {
                            None => when(true, gone(&hold)),
                            Some(hold) => {
                                when(fee == 0, "Zero");
                                when(now >= hold.expires, "Expired");
                                when(whole(fee) > hold.amount, "Insufficient");
                            }
                        }
                    }
                    Deed::Release { party, .. } => when(!is_there(&party), "UnknownParty"),
                    Deed::Failure { hold, .. } => {
                        when(!self.holds.contains_key(&hold), gone(&hold))
                    }
                }
            }
            Command::OffsetGas {
                hold,
                receipt,
                gas_used,
                price,
            } => {
                when(self.receipts.contains(receipt), "ReceiptUsed");
                match self.holds.get(hold) {
                    None => when(true, gone(hold)),
                    Some(hold) => {
                        when(now >= hold.expires, "Expired");
                        let cost = whole(*gas_used) * *price;
                        when(cost >= whole(1) << 128, "Overflow");
                        let (part, _) = self.gas(&cost, &hold.amount);
                        when(part == zero, "Zero");
                        when(
                            part > self.balance(Asset::Gas, Account::GasFloat),
                            "Insufficient",
                        );
                    }
                }
            }
            Command::Stake { party, amount } => {
                when(!is_there(party), "UnknownParty");
                when(*amount == 0, "Zero");
                if let Some(fault) = self.no_stake(&whole(*amount), now) {
                    when(true, fault);
                }
                let free = self.balance(Asset::Era, Account::Free { party: *party });
                when(free < whole(*amount), "Insufficient");
            }
            Command::Unstake { stake, amount } => match self.stakes.get(stake) {
                None => when(true, gone(stake)),
                Some(stake) => {
                    when(*amount == 0, "Zero");
                    when(now < stake.until, "Locked");
                    when(whole(*amount) > stake.amount, "Insufficient");
                }
            },
            Command::Withdraw { unbonding } => match self.unbondings.get(unbonding) {
                None => when(true, gone(unbonding)),
                Some((_, _, due)) => when(now < *due, "Locked"),
            },
            Command::Harvest { stake } => match self.stakes.get(stake) {
                None => when(true, gone(stake)),
                Some(stake) => when(floor(&self.earned_exactly(stake)) == zero, "NothingDue"),
            },
            Command::Order { party, .. } => when(!is_there(party), "UnknownParty"),
            Command::Close { epoch } => {
                let over = now >= self.opened + policy.epoch.length_s;
                when(*epoch != self.epoch || !over, "EpochNotOver");
            }
            Command::Claim { party, up_to } => {
                when(!is_there(party), "UnknownParty");
                let payouts = self.payouts(*party);
                let open: Vec<_> = payouts
                    .iter()
                    .filter(|(epoch, ..)| epoch <= up_to)
                    .collect();
                let some = open.iter().any(|(.., matures)| *matures <= now);
                when(!some && open.is_empty(), "NothingDue");
                when(!some && !open.is_empty(), "Locked");
            }
            Command::ClawBack { party, epoch, .. } => {
                when(!is_there(party), "UnknownParty");
                match self.payouts.get(&(*party, *epoch)) {
                    None => when(true, "NothingDue"),
                    Some((_, matures)) => when(*matures <= now, "Matured"),
                }
            }
            Command::Settle { epoch } => match self.matures.get(epoch) {
                None => when(true, "EpochNotOver"),
                Some(matures) => {
                    when(now < *matures, "Locked");
                    when(self.payouts.keys().all(|(_, of)| of != epoch), "NothingDue");
                }
            },
        }
        faults
    }

    fn carry_out(&mut self, id: Id, command: &Command, now: u64) -> Effect {
        match command {
            Command::Open { policy } => {
                self.policy = Some(policy.clone());
                self.opened = now;
                self.accrued = now;
            }
            Command::Adopt { epoch, policy } => {
                self.upcoming.retain(|of, _| of < epoch);
                self.upcoming.insert(*epoch, policy.clone());
            }
            Command::Register {
                party,
                role,
                owner,
                address,
                ..
            } => {
                let member = Member {
                    role: *role,
                    owner: *owner,
                    address: *address,
                    order: false,
                    proving: whole(0),
                    developing: whole(0),
                    using: whole(0),
                    backing: whole(0),
                    byte_seconds: whole(0),
                };
                self.members.insert(*party, member);
            }
            Command::Verify { owner, verified } => match verified {
                true => drop(self.verified.insert(*owner)),
                false => drop(self.verified.remove(owner)),
            },
            Command::Transfer { legs } => {
                for leg in legs {
                    self.shift(leg.asset, leg.from, leg.to, &whole(leg.amount));
                }
            }
            Command::Reserve {
                party,
                amount,
                expires,
            } => {
                let (party, amount) = (*party, whole(*amount));
                self.era(Account::Free { party }, Account::Held { party }, &amount);
                self.holds.insert(
                    id,
                    Hold {
                        party,
                        amount,
                        expires: *expires,
                    },
                );
            }
            Command::Charge { hold, amount } => self.resolve(hold, Account::Fees, &whole(*amount)),
            Command::Refund { hold } => self.resolve(hold, Account::Fees, &whole(0)),
            Command::Meter { event, .. } => self.meter(event.node, &event.what, now),
            Command::OffsetGas {
                hold,
                receipt,
                gas_used,
                price,
            } => {
                let cost = whole(*gas_used) * *price;
                let party = self.holds[hold].party;
                let (part, charged) = self.gas(&cost, &self.holds[hold].amount);
                self.resolve(hold, Account::Treasury, &charged);
                self.shift(
                    Asset::Gas,
                    Account::GasFloat,
                    Account::Free { party },
                    &part,
                );
                self.receipts.insert(*receipt);
                return Effect::Offset {
                    charged,
                    reimbursed: part,
                };
            }
            Command::Stake { party, amount } => {
                self.accrue(now);
                let stake = self.new_stake(*party, whole(*amount), now);
                self.stakes.insert(id, stake);
            }
            Command::Unstake { stake, amount } => {
                let amount = whole(*amount);
                self.accrue(now);
                let harvested = self.take(stake);
                let found = self.stakes.get_mut(stake).expect("no fault");
                let party = found.party;
                found.amount -= &amount;
                if found.amount == whole(0) {
                    let ended = self.stakes.remove(stake).expect("no fault");
                    self.rest += ended.earned * scale();
                }
                self.era(
                    Account::Staked { party },
                    Account::Unbonding { party },
                    &amount,
                );
                let due = now + self.policy().staking.unbonding_s;
                self.unbondings.insert(id, (party, amount, due));
                return Effect::Moved {
                    amount: harvested,
                    staked: whole(0),
                };
            }
            Command::Withdraw { unbonding } => {
                let (party, amount, _) = self.unbondings.remove(unbonding).expect("no fault");
                self.era(
                    Account::Unbonding { party },
                    Account::Free { party },
                    &amount,
                );
                return Effect::Moved {
                    amount,
                    staked: whole(0),
                };
            }
            Command::Harvest { stake } => {
                let amount = self.take(stake);
                return Effect::Moved {
                    amount,
                    staked: whole(0),
                };
            }
            Command::Order { party, on } => self.member(*party).order = *on,
            Command::Close { .. } => return Effect::Closed(Box::new(self.close(now))),
            Command::Claim { party, up_to } => return self.claim(*party, *up_to, now),
            Command::ClawBack { party, epoch, .. } => {
                let (amount, _) = self.payouts.remove(&(*party, *epoch)).expect("no fault");
                self.era(Account::Payable, Account::Budget, &amount);
                return Effect::Moved {
                    amount,
                    staked: whole(0),
                };
            }
            Command::Settle { epoch } => {
                let of = self.payouts.iter().filter(|((_, of), _)| of == epoch);
                let payouts: Vec<_> = of
                    .map(|((party, _), (amount, _))| (*party, amount.clone()))
                    .collect();
                self.payouts.retain(|(_, of), _| of != epoch);
                let total: Whole = payouts.iter().map(|(_, amount)| amount).sum();
                self.era(Account::Payable, Account::Outside, &total);
                let root = self.root(&payouts);
                return Effect::Settled {
                    root,
                    leaves: payouts.len(),
                    total,
                };
            }
        }
        Effect::Nothing
    }

    fn member(&mut self, party: Party) -> &mut Member {
        self.members.get_mut(&party).expect("no fault")
    }

    fn resolve(&mut self, hold: &Id, to: Account, amount: &Whole) {
        let Hold {
            party,
            amount: held,
            ..
        } = self.holds.remove(hold).expect("no fault");
        self.era(Account::Held { party }, to, amount);
        self.era(
            Account::Held { party },
            Account::Free { party },
            &(held - amount),
        );
    }

    fn meter(&mut self, node: Party, what: &Deed, now: u64) {
        let window = self.epoch / self.policy().success.window_epochs;
        match *what {
            Deed::Proof {
                hold,
                class,
                developer,
                fee,
                ..
            }
            | Deed::Reuse {
                hold,
                class,
                developer,
                fee,
                ..
            } => {
                let requester = self.holds[&hold].party;
                self.resolve(&hold, Account::Fees, &whole(fee));
                let owner = |party: Party| self.members[&party].owner;
                let payer = owner(requester);
                if fee < self.policy().fees.min || owner(node) == payer {
                    return;
                }
                let own_developer = developer.is_some_and(|developer| owner(developer) == payer);
                let rules = self
                    .policy()
                    .classes
                    .iter()
                    .find(|known| known.id == class)
                    .expect("no fault");
                let proving = match what {
                    Deed::Proof { .. } => rules.proof,
                    _ => rules.reuse,
                };
                let (fee, user) = (whole(fee), rules.user);
                self.member(node).proving += &fee * proving;
                self.job(node, window, true);
                if own_developer {
                    return;
                }
                self.member(requester).using += &fee * user;
                let most = whole(1) << 96;
                let backing = (&self.member(requester).backing + &fee).min(most);
                self.member(requester).backing = backing;
                if let Some(developer) = developer {
                    self.member(developer).developing += &fee;
                    if self.verified.contains(&payer) {
                        self.scenarios.insert((developer, class, payer), now);
                    }
                }
            }
            Deed::Failure { hold, cause } => {
                let payer = self.holds[&hold].party;
                self.resolve(&hold, Account::Fees, &whole(0));
                if cause == Cause::Node && self.members[&node].owner != self.members[&payer].owner {
                    self.job(node, window, false);
                }
            }
            Deed::Release {
                party,
                bytes,
                held_s,
                returned_s,
            } => {
                let same = self.members[&node].owner == self.members[&party].owner;
                if !same && held_s >= self.policy().storage.age_min_s {
                    self.member(party).byte_seconds += whole(bytes) * returned_s;
                }
            }
        }
    }

    fn job(&mut self, node: Party, window: u32, success: bool) {
        let jobs = self.jobs.entry(self.members[&node].owner).or_default();
        let goes_on =
            |&(last, _): &(u32, bool)| window == last || Some(window) == last.checked_add(1);
        if !jobs.last().is_none_or(goes_on) {
            jobs.clear();
        }
        jobs.retain(|(of, _)| of + 1 >= window);
        jobs.push((window, success));
    }

    /// What of a cost of gas is reimbursed out of a hold, and what it costs.
    fn gas(&self, cost: &Whole, held: &Whole) -> (Whole, Whole) {
        let offset = &self.policy().offset;
        let price = |part: &Whole| over(part * offset.era, offset.wei).ceil().to_integer();
        let part = bp(cost, offset.ceiling);
        if price(&part) <= *held {
            let charged = price(&part);
            return (part, charged);
        }
        let part = floor(&over(held * offset.wei, offset.era));
        let charged = price(&part);
        (part, charged)
    }

    fn staked(&self) -> Whole {
        let all = self.stakes.values().chain(self.standing.values());
        all.map(|stake| &stake.amount).sum()
    }

    fn no_stake(&self, amount: &Whole, now: u64) -> Option<&'static str> {
        let rules = &self.policy().staking;
        let staked = self.staked() + amount;
        if staked > whole(rules.stake_max) {
            return Some("Limit");
        }
        let needed = over(staked * rules.rate * rules.lock_s, whole(10_000) * YEAR).ceil();
        let (_, paid, _) = self.due(now);
        let short = needed.to_integer() > self.balance(Asset::Era, Account::StakingPool) - paid;
        short.then_some("PoolUnfunded")
    }

    fn new_stake(&mut self, party: Party, amount: Whole, now: u64) -> Stake {
        self.era(Account::Free { party }, Account::Staked { party }, &amount);
        Stake {
            party,
            amount,
            since: self.per_unit.clone(),
            earned: over(0, 1),
            until: now + self.policy().staking.lock_s,
        }
    }

    fn earned_exactly(&self, stake: &Stake) -> Exact {
        &stake.earned + (&self.per_unit - &stake.since) * &stake.amount
    }

    /// Takes the whole units that a stake has earned.
    fn take(&mut self, stake: &Id) -> Whole {
        let earned = self.earned_exactly(&self.stakes[stake]);
        let (units, per_unit) = (floor(&earned), self.per_unit.clone());
        let stake = self.stakes.get_mut(stake).expect("no fault");
        let party = stake.party;
        stake.earned = earned - &units;
        stake.since = per_unit;
        self.era(Account::StakeRewards, Account::Free { party }, &units);
        units
    }

    fn claim(&mut self, party: Party, up_to: u32, now: u64) -> Effect {
        let due = |(epoch, _, matures): &(u32, Whole, u64)| *epoch <= up_to && *matures <= now;
        let due: Vec<_> = self.payouts(party).into_iter().filter(due).collect();
        for (epoch, ..) in &due {
            self.payouts.remove(&(party, *epoch));
        }
        let amount: Whole = due.iter().map(|(_, amount, _)| amount).sum();
        self.era(Account::Payable, Account::Free { party }, &amount);
        let part = bp(&amount, self.policy().reinvest.split);
        let refused = self.no_stake(&part, now).is_some();
        if !self.members[&party].order || part == whole(0) || refused {
            return Effect::Moved {
                amount,
                staked: whole(0),
            };
        }
        self.accrue(now);
        let more = self.new_stake(party, part.clone(), now);
        match self.standing.remove(&party) {
            None => drop(self.standing.insert(party, more)),
            Some(old) => {
                let earned = self.earned_exactly(&old);
                let amount = old.amount + more.amount;
                self.standing.insert(
                    party,
                    Stake {
                        amount,
                        earned,
                        ..more
                    },
                );
            }
        }
        Effect::Moved {
            amount,
            staked: part,
        }
    }

    fn close(&mut self, now: u64) -> Closed {
        let policy = self.policy().clone();
        let expired: Vec<_> = self
            .holds
            .iter()
            .filter(|(_, hold)| hold.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.resolve(&id, Account::Fees, &whole(0));
        }
        let fees = self.balance(Asset::Era, Account::Fees);
        let rules = &policy.fees;
        for (to, part) in [
            (Account::Budget, rules.budget),
            (Account::StakingPool, rules.staking),
            (Account::StorageFund, rules.storage),
            (Account::Treasury, rules.treasury),
        ] {
            self.era(Account::Fees, to, &bp(&fees, part));
        }
        let rest = self.balance(Asset::Era, Account::Fees);
        self.era(Account::Fees, Account::Dust, &rest);

        let left = whole(policy.issuance.total) + self.balance(Asset::Era, Account::Issuance);
        let mut issued = left.max(whole(0)).min(whole(policy.issuance.per_epoch));
        if self.supply(Asset::Era) + &issued > whole(1) << 96 {
            issued = whole(0);
        }
        self.era(Account::Issuance, Account::Budget, &issued);

        let budget = self.balance(Asset::Era, Account::Budget);
        let open = budget.clone().min(whole(policy.epoch.budget_max));
        let shares = [
            policy.shares.nodes,
            policy.shares.developers,
            policy.shares.users,
        ];
        let dust = bp(&open, shares.iter().sum())
            - shares.iter().map(|&share| bp(&open, share)).sum::<Whole>();
        self.era(Account::Budget, Account::Dust, &dust);

        let window = self.epoch / policy.success.window_epochs;
        let coefficient = |of: &dyn Fn(&caldera_scheduler::ledger::policy::Class) -> u32| {
            policy.classes.iter().map(of).max()
        };
        let weights: [Vec<(Party, Whole)>; 3] = [
            self.weights(|_, member| {
                &member.proving * factor(&policy, self.jobs.get(&member.owner), window)
            }),
            self.weights(|party, member| {
                let recent =
                    |(of, _, _): &(Party, u8, u32), last: &u64| *of == party && last + MONTH > now;
                let count = self
                    .scenarios
                    .iter()
                    .filter(|(scenario, last)| recent(scenario, last))
                    .count();
                let mut reached = policy
                    .tiers
                    .iter()
                    .filter(|tier| tier.scenarios_min as usize <= count);
                &member.developing * reached.next_back().expect("begins at 0").weight
            }),
            self.weights(|_, member| member.using.clone()),
        ];
        let largest = [
            whole(coefficient(&|class| class.proof.max(class.reuse)).unwrap()) * 10_000,
            whole(policy.tiers.iter().map(|tier| tier.weight).max().unwrap()),
            whole(coefficient(&|class| class.user).unwrap()),
        ];
        let ceilings = [
            policy.ceilings.nodes,
            policy.ceilings.developers,
            policy.ceilings.users,
        ];
        let mut paid = Vec::new();
        let mut payouts: BTreeMap<Party, Whole> = BTreeMap::new();
        for at in 0..3 {
            let sum: Whole = weights[at].iter().map(|(_, weight)| weight).sum();
            let most = floor(&over(sum * ceilings[at], &largest[at] * 10_000));
            let amount = bp(&open, shares[at]).min(most);
            self.divide(&amount, &weights[at], &mut payouts);
            self.era(Account::Budget, Account::Payable, &amount);
            paid.push(amount);
        }

        let dues = self.weights(|_, member| {
            let hours = over(
                &member.byte_seconds * policy.storage.price_gib_hour,
                (whole(1) << 30) * 3_600,
            );
            floor(&hours).min(bp(&member.backing, policy.ceilings.storage))
        });
        let fund = self.balance(Asset::Era, Account::StorageFund);
        let storage = dues.iter().map(|(_, due)| due).sum::<Whole>().min(fund);
        let mut stored = BTreeMap::new();
        self.divide(&storage, &dues, &mut stored);
        self.era(Account::StorageFund, Account::Payable, &storage);
        paid.push(storage);
        // What has paid for storage does so once.
        for (party, amount) in stored {
            if amount > whole(0) {
                let used = over(&amount * 10_000, policy.ceilings.storage).ceil();
                self.member(party).backing -= used.to_integer();
            }
            *payouts.entry(party).or_default() += amount;
        }

        let carried = self.balance(Asset::Era, Account::Budget);
        self.accrue(now);
        let staking = std::mem::take(&mut self.staking);
        let payouts: Vec<_> = payouts
            .into_iter()
            .filter(|(_, amount)| *amount > whole(0))
            .collect();
        let matures = now + policy.epoch.claim_delay_s;
        for (party, amount) in &payouts {
            self.payouts
                .insert((*party, self.epoch), (amount.clone(), matures));
        }
        self.matures.insert(self.epoch, matures);
        for member in self.members.values_mut() {
            for work in [
                &mut member.proving,
                &mut member.developing,
                &mut member.using,
                &mut member.byte_seconds,
            ] {
                *work = whole(0);
            }
        }
        self.epoch += 1;
        self.opened = now;
        if let Some(next) = self.upcoming.remove(&self.epoch) {
            self.policy = Some(next);
        }
        Closed {
            root: self.root(&payouts),
            payouts: payouts.len(),
            fees,
            issued,
            budget,
            paid: paid.try_into().expect("four streams"),
            dust,
            carried,
            staking,
        }
    }

    fn weights(&self, weight: impl Fn(Party, &Member) -> Whole) -> Vec<(Party, Whole)> {
        let all = self
            .members
            .iter()
            .map(|(party, member)| (*party, weight(*party, member)));
        all.filter(|(_, weight)| *weight > whole(0)).collect()
    }

    /// Largest remainder over owners, and then over each owner's parties.
    fn divide(
        &self,
        amount: &Whole,
        weights: &[(Party, Whole)],
        payouts: &mut BTreeMap<Party, Whole>,
    ) {
        let sum: Whole = weights.iter().map(|(_, weight)| weight).sum();
        if sum == whole(0) {
            return;
        }
        let share = |weight: &Whole| over(amount * weight, sum.clone());
        let mut owners: BTreeMap<u32, Whole> = BTreeMap::new();
        for (party, weight) in weights {
            *owners.entry(self.members[party].owner).or_default() += weight;
        }
        let owners: Vec<_> = owners
            .iter()
            .map(|(owner, weight)| (*owner, share(weight)))
            .collect();
        for (owner, amount) in round(amount, &owners) {
            let of = weights
                .iter()
                .filter(|(party, _)| self.members[party].owner == owner);
            let of: Vec<_> = of.map(|(party, weight)| (*party, share(weight))).collect();
            let rounded = round(&amount, &of);
            for ((party, amount), (_, exact)) in rounded.into_iter().zip(of) {
                let off = over(amount.clone(), 1) - exact;
                assert!(
                    off < over(1, 1) && off > over(-1, 1),
                    "party {party} is off by {off}"
                );
                *payouts.entry(party).or_default() += amount;
            }
        }
    }

    /// What stakes have earned since the last time, what the pool has of it, and what division leaves.
    fn due(&self, now: u64) -> (Whole, Whole, Exact) {
        let rate = self.policy().staking.rate;
        let seconds = now - self.accrued;
        // `owed` is a fraction of a unit here.
        let exact = over(self.staked() * rate * seconds, whole(10_000) * YEAR) + &self.owed;
        let due = floor(&exact);
        let paid = due
            .clone()
            .min(self.balance(Asset::Era, Account::StakingPool));
        let owed = exact - &due;
        (due, paid, owed)
    }

    fn accrue(&mut self, now: u64) {
        if now == self.accrued {
            return;
        }
        let (due, paid, owed) = self.due(now);
        self.accrued = now;
        let staked = self.staked();
        if staked == whole(0) {
            return;
        }
        self.owed = if paid == due { owed } else { over(0, 1) };
        self.era(Account::StakingPool, Account::StakeRewards, &paid);
        let scaled = over(&paid * scale(), 1) + &self.rest;
        let more = floor(&(&scaled / &staked));
        self.rest = scaled - &more * &staked;
        self.per_unit += over(more, scale());
        self.staking += paid;
    }

    fn root(&self, payouts: &[(Party, Whole)]) -> [u8; 32] {
        let keccak = |bytes: &[u8]| -> [u8; 32] { Keccak256::digest(bytes).into() };
        let word = |bytes: &[u8]| [&vec![0; 32 - bytes.len()], bytes].concat();
        let leaf = |(index, (party, amount)): (usize, &(Party, Whole))| {
            let (_, amount) = amount.to_bytes_be();
            let address = &self.members[party].address;
            let words = [word(&index.to_be_bytes()), word(address), word(&amount)].concat();
            keccak(&keccak(&words))
        };
        let mut level: Vec<_> = payouts.iter().enumerate().map(leaf).collect();
        while level.len() > 1 {
            let pair = |pair: &[[u8; 32]]| match pair {
                [one] => *one,
                pair => {
                    let mut pair = pair.to_vec();
                    pair.sort_unstable();
                    keccak(&pair.concat())
                }
            };
            level = level.chunks(2).map(pair).collect();
        }
        level.first().copied().unwrap_or([0; 32])
    }
}

fn factor(policy: &Policy, jobs: Option<&Vec<(u32, bool)>>, window: u32) -> u32 {
    let rules = &policy.success;
    let jobs: &[(u32, bool)] = jobs.map_or(&[], |jobs| jobs);
    let last = jobs.last().map_or(window, |(last, _)| *last);
    let counted = |(of, _): &&(u32, bool)| window >= last && window - last <= 1 && of + 1 >= window;
    let counted: Vec<_> = jobs.iter().filter(counted).collect();
    let successes = counted.iter().filter(|(_, success)| *success).count() as u64;
    if counted.is_empty() || (counted.len() as u64) < rules.sample_min {
        return rules.neutral;
    }
    let rate = floor(&over(10_000 * successes, counted.len() as u64));
    let at = rules
        .curve
        .iter()
        .position(|(to, _)| whole(*to) >= rate)
        .expect("ends at the whole")
        .max(1);
    let ((r0, w0), (r1, w1)) = (rules.curve[at - 1], rules.curve[at]);
    let rise = floor(&over((rate - r0) * (w1 - w0), r1 - r0));
    u32::try_from(rise).expect("at most 10,000") + w0
}

/// Rounds exact shares to whole ones with this sum: down, and up for the largest remainders.
fn round(sum: &Whole, shares: &[(u32, Exact)]) -> Vec<(u32, Whole)> {
    let mut rounded: Vec<_> = shares
        .iter()
        .map(|(of, share)| (*of, floor(share)))
        .collect();
    let mut left = sum - rounded.iter().map(|(_, amount)| amount).sum::<Whole>();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|&a, &b| {
        shares[b]
            .1
            .fract()
            .cmp(&shares[a].1.fract())
            .then(shares[a].0.cmp(&shares[b].0))
    });
    for at in order {
        if left == whole(0) {
            break;
        }
        rounded[at].1 += 1;
        left -= 1;
    }
    assert_eq!(left, whole(0), "there were fewer shares than units");
    rounded
}
