//! What nodes did, and what of it earns.
//!
//! Only work that somebody else paid for earns anything, and the fee is its measure: of all measures
//! it is the one that nobody can inflate for nothing.

use super::SUPPLY_MAX;
use super::command::{Account, Cause, ClassId, Deed, Event, Id, Owner, Party, Role};
use super::error::Error;
use super::state::{Hold, PartyRow, Scenario, State};

/// A job that was paid.
struct Job {
    hold: Id,
    class: ClassId,
    developer: Option<Party>,
    fee: u128,
    reused: bool,
}

impl State {
    /// Takes an event whose signature is right, of a node of this owner's.
    pub(super) fn meter(
        &mut self,
        event: &Event,
        owner: Owner,
        held: Option<Hold>,
        now: u64,
    ) -> Result<(), Error> {
        let node = (event.node, owner);
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
                let job = Job {
                    hold,
                    class,
                    developer,
                    fee,
                    reused: matches!(event.what, Deed::Reuse { .. }),
                };
                self.work(node, &job, &held.expect("a job has a hold"), now)
            }
            Deed::Failure { hold, cause } => {
                let payer = held.expect("a job has a hold").party;
                self.resolve(hold, Account::Fees, 0);
                if cause == Cause::Node && owner != self.party(payer)?.owner {
                    self.count(owner, false);
                }
                Ok(())
            }
            Deed::Release {
                party,
                bytes,
                held_s,
                returned_s,
            } => {
                if self.party(party)?.owner == owner || held_s < self.policy.storage.age_min_s {
                    return Ok(());
                }
                let more = u128::from(bytes) * u128::from(returned_s);
                let row = self.parties.edit(party).expect("has just been found");
                let sum = row.work.byte_seconds.checked_add(more);
                row.work.byte_seconds = sum.ok_or(Error::Overflow {
                    what: "released storage",
                })?;
                self.active.insert(party);
                Ok(())
            }
        }
    }

    /// Charges a job and writes down what it earns whom.
    fn work(
        &mut self,
        (node, owner): (Party, Owner),
        job: &Job,
        hold: &Hold,
        now: u64,
    ) -> Result<(), Error> {
        let &Job {
            class,
            developer,
            fee,
            ..
        } = job;
        let requester = hold.party;
        let class_rules = self
            .policy
            .class(class)
            .ok_or(Error::UnknownClass { class })?;
        let proving = if job.reused {
            class_rules.reuse
        } else {
            class_rules.proof
        };
        let using = class_rules.user;
        let developer = developer.map(|party| -> Result<(Party, Owner), Error> {
            let row = self.party(party)?;
            require(row, party, Role::Developer)?;
            Ok((party, row.owner))
        });
        let developer = developer.transpose()?;
        self.chargeable(hold, fee, now)?;

        self.resolve(job.hold, Account::Fees, fee);
        let payer = self.party(requester)?.owner;
        if fee < self.policy.fees.min || owner == payer {
            return Ok(());
        }
        self.count(owner, true);
        // An epoch's fees are at most the supply of 2^96, and coefficients have 17 bits.
        self.edit(node).work.proving += fee * u128::from(proving);
        if developer.is_some_and(|(_, owner)| owner == payer) {
            return Ok(());
        }
        let work = &mut self.edit(requester).work;
        work.using += fee * u128::from(using);
        // What is carried over from epochs without number is not without number itself.
        work.backing = (work.backing + fee).min(SUPPLY_MAX);
        if let Some((developer, _)) = developer {
            self.edit(developer).work.developing += fee;
            if self.is_verified(payer) {
                self.scenario(developer, (payer, class), now);
            }
        }
        Ok(())
    }

    /// A party that exists and now has work in this epoch.
    fn edit(&mut self, party: Party) -> &mut PartyRow {
        self.active.insert(party);
        self.parties.edit(party).expect("has been found before")
    }

    /// A job in a scenario of a developer's.
    fn scenario(&mut self, developer: Party, of: (Owner, ClassId), now: u64) {
        match self.scenarios.edit((developer, of)) {
            // Two jobs of one moment.
            Some(scenario) if scenario.last == now => return,
            Some(scenario) => {
                self.aging.remove((developer, scenario.last, of));
                scenario.last = now;
            }
            None => {
                let scenario = Scenario { last: now };
                self.scenarios.insert((developer, of), scenario);
                let before = self.scenario_counts.find(developer).copied();
                self.scenario_counts.put(developer, before.unwrap_or(0) + 1);
            }
        }
        self.aging.insert((developer, now, of));
    }

    /// Counts for all nodes of the owner: a bad one gains nothing by another number.
    fn count(&mut self, owner: Owner, success: bool) {
        let window = self.window();
        self.owner(owner).tally.count(window, success);
    }

    /// The window of success in which the open epoch lies.
    pub(super) fn window(&self) -> u32 {
        self.epoch.number / self.policy.success.window_epochs
    }
}

/// Whether a party is what it should be.
pub(super) fn require(row: &PartyRow, party: Party, role: Role) -> Result<(), Error> {
    match row.role == role {
        true => Ok(()),
        false => Err(Error::Role {
            party,
            expected: match role {
                Role::Node => "node",
                Role::Developer => "developer",
                Role::User => "user",
            },
        }),
    }
}
