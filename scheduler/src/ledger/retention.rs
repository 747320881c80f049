//! Who comes back: of the parties that were active in a month, how many are active in the next.
//!
//! It is counted from the records alone, one after the other, in whole numbers. A party is *active* in a
//! month in which at least one job earned it something: a proof or a reuse that was verified and that
//! somebody else paid for with at least `fees.min`. It is *rewarded* in a month in which it has claimed
//! a payout. Its *cohort* is the month of its first activity. Months have 30 days, and the first
//! begins with the ledger.
//!
//! What is counted says that the rewarded come back more often, or less; not that they do because they
//! are rewarded, for those who claim are others than those who do not. With a few parties it says little,
//! so each figure has its number and Wilson's interval (Wilson, "Probable Inference, the Law of
//! Succession, and Statistical Inference", 1927), which keeps its promise for small numbers, too.

use std::collections::{BTreeMap, HashMap};

use super::command::{Command, Deed, EpochNumber, Id, Owner, Party};
use super::journal::{Audit, Bad, Parts, next};
use super::policy::MONTH;
use super::{Policy, Signatures};

/// Counts months, from 0.
pub type Month = u32;

/// What a figure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The month of the first activity.
    pub cohort: Month,
    /// The month of which it is said how many came back.
    pub month: Month,
    /// Whether they have claimed something in that month.
    pub rewarded: bool,
}

/// How many there were, and how many of them were there in the next month, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Active in the month: n.
    pub active: u64,
    /// Active in the next, too. Of the month before the newest it can still grow.
    pub kept: u64,
}

/// Reads records in their order.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    opened: u64,
    now: u64,
    fee_min: u128,
    /// By the epoch from which they hold.
    upcoming: BTreeMap<EpochNumber, u128>,
    owners: HashMap<Party, Owner>,
    /// Whose a hold is, and when it expires.
    holds: HashMap<Id, (Party, u64)>,
    presences: HashMap<Party, Presence>,
    groups: BTreeMap<Group, Kept>,
}

/// What is known of a party that has been active or rewarded.
#[derive(Debug, Clone, Default)]
struct Presence {
    active: Option<Active>,
    /// The newest month in which it claimed.
    claimed: Option<Month>,
}

/// The newest month in which a party was active.
#[derive(Debug, Clone)]
struct Active {
    cohort: Month,
    month: Month,
    rewarded: bool,
}

impl Kept {
    /// The part that came back; nothing of nobody.
    pub fn rate(&self) -> Option<f64> {
        (self.active > 0).then(|| self.kept as f64 / self.active as f64)
    }

    /// Wilson's interval of 95 %; everything is possible of nobody.
    pub fn interval(&self) -> (f64, f64) {
        let Some(rate) = self.rate() else {
            return (0.0, 1.0);
        };
        let (n, z) = (self.active as f64, Z);
        let whole = 1.0 + z * z / n;
        let centre = (rate + z * z / (2.0 * n)) / whole;
        let half = z / whole * (rate * (1.0 - rate) / n + z * z / (4.0 * n * n)).sqrt();
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Kept) -> Kept {
        Kept {
            active: self.active + other.active,
            kept: self.kept + other.kept,
        }
    }
}

impl Retention {
    /// Reads a journal, auditing it.
    pub fn of(journal: &[u8]) -> Result<Retention, Bad> {
        let mut audit = Audit::new(Signatures::Checked);
        let mut retention = Retention::default();
        let mut rest = journal;
        while !rest.is_empty() {
            let place = (
                audit.ledger().head().records,
                (journal.len() - rest.len()) as u64,
            );
            let bad = |fault| Bad {
                record: place.0,
                byte: place.1,
                fault,
            };
            let bytes = next(rest).map_err(bad)?;
            let Parts {
                at, id, command, ..
            } = audit.take(bytes)?;
            retention.take(at, id, &command);
            rest = &rest[bytes.len()..];
        }
        Ok(retention)
    }

    /// Takes what the next record of a sound journal asks for: its time, its id, its command.
    pub fn take(&mut self, at: u64, id: Id, command: &Command) {
        self.now = at;
        match command {
            Command::Open { policy } => {
                self.opened = at;
                self.fee_min = fee_min(policy);
            }
            Command::Adopt { epoch, policy } => {
                drop(self.upcoming.split_off(epoch));
                self.upcoming.insert(*epoch, fee_min(policy));
            }
            &Command::Register { party, owner, .. } => drop(self.owners.insert(party, owner)),
            &Command::Reserve { party, expires, .. } => {
                self.holds.insert(id, (party, expires));
            }
            Command::Charge { hold, .. }
            | Command::Refund { hold }
            | Command::OffsetGas { hold, .. } => drop(self.holds.remove(hold)),
            Command::Meter { event, .. } => match event.what {
                Deed::Proof {
                    hold,
                    developer,
                    fee,
                    ..
                }
                | Deed::Reuse {
                    hold,
                    developer,
                    fee,
                    ..
                } => self.job(event.node, hold, developer, fee),
                Deed::Failure { hold, .. } => drop(self.holds.remove(&hold)),
                Deed::Release { .. } => {}
            },
            Command::Close { epoch } => {
                self.holds.retain(|_, &mut (_, expires)| expires > at);
                if let Some(min) = self.upcoming.remove(&epoch.saturating_add(1)) {
                    self.fee_min = min;
                }
            }
            &Command::Claim { party, .. } => self.reward(party),
            Command::Verify { .. }
            | Command::Transfer { .. }
            | Command::Stake { .. }
            | Command::Unstake { .. }
            | Command::Withdraw { .. }
            | Command::Harvest { .. }
            | Command::Order { .. }
            | Command::ClawBack { .. }
            | Command::Settle { .. } => {}
        }
    }

    /// The month of the newest record, which is not over.
    pub fn month(&self) -> Month {
        // A ledger's time never goes back; a month of 2^32 is beyond any.
        u32::try_from((self.now - self.opened) / MONTH).unwrap_or(Month::MAX)
    }

    /// All groups, in order. Of a month before the newest but one nothing changes any more.
    pub fn groups(&self) -> impl Iterator<Item = (Group, Kept)> {
        self.groups.iter().map(|(&group, &kept)| (group, kept))
    }

    /// All groups of which this is true together.
    pub fn sum(&self, of: impl Fn(&Group) -> bool) -> Kept {
        let groups = self.groups().filter(|(group, _)| of(group));
        groups.fold(Kept::default(), |sum, (_, kept)| sum.and(kept))
    }

    /// A job that was paid: for whom it counts is what docs/ledger.md says under Metering.
    fn job(&mut self, node: Party, hold: Id, developer: Option<Party>, fee: u128) {
        let Some((requester, _)) = self.holds.remove(&hold) else {
            return;
        };
        let owner = |party| self.owners.get(&party);
        if fee < self.fee_min || owner(node) == owner(requester) {
            return;
        }
        let own = developer.is_some_and(|developer| owner(developer) == owner(requester));
        self.act(node);
        if !own {
            self.act(requester);
            developer.into_iter().for_each(|party| self.act(party));
        }
    }

    fn act(&mut self, party: Party) {
        let month = self.month();
        let presence = self.presences.entry(party).or_default();
        let before = presence.active.take();
        let rewarded = presence.claimed == Some(month);
        let cohort = before.as_ref().map_or(month, |before| before.cohort);
        presence.active = Some(Active {
            cohort,
            month,
            rewarded,
        });
        if let Some(before) = &before {
            if before.month == month {
                return;
            }
            if before.month + 1 == month {
                self.groups.entry(before.group()).or_default().kept += 1;
            }
        }
        let group = Group {
            cohort,
            month,
            rewarded,
        };
        self.groups.entry(group).or_default().active += 1;
    }

    fn reward(&mut self, party: Party) {
        let month = self.month();
        let presence = self.presences.entry(party).or_default();
        presence.claimed = Some(month);
        if let Some(active) = &mut presence.active
            && active.month == month
            && !active.rewarded
        {
            // It was counted among the others.
            let from = active.group();
            active.rewarded = true;
            let to = active.group();
            self.groups.entry(to).or_default().active += 1;
            let others = self.groups.entry(from).or_default();
            others.active -= 1;
            if *others == Kept::default() {
                self.groups.remove(&from);
            }
        }
    }
}

impl Active {
    fn group(&self) -> Group {
        Group {
            cohort: self.cohort,
            month: self.month,
            rewarded: self.rewarded,
        }
    }
}

fn fee_min(policy: &Policy) -> u128 {
    policy.fees.min
}

/// Of a normal distribution 95 % lie within so many standard deviations.
const Z: f64 = 1.959_963_984_540_054;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        // 81 of 263 is the example of Newcombe (1998), who has 0.2553 and 0.3662; all were worked out a second time.
        for (active, kept, low, high) in [
            (10, 3, 0.107_791, 0.603_222),
            (10, 0, 0.0, 0.277_533),
            (263, 81, 0.255_289, 0.366_210),
        ] {
            let (from, to) = Kept { active, kept }.interval();
            assert!((from - low).abs() < 1e-6, "{kept} of {active}: {from}");
            assert!((to - high).abs() < 1e-6, "{kept} of {active}: {to}");
        }
        assert_eq!(Kept::default().interval(), (0.0, 1.0));
        assert_eq!(Kept::default().rate(), None);
    }
}
