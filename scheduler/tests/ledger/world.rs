//! A small world of parties that does things at random, some of them wrong, and the same for the
//! same seed.

use caldera_scheduler::ledger::command::{Cause, Deed, Id, Leg, Party, Role};
use caldera_scheduler::ledger::{
    Account, Answer, Asset, Command, Error, Event, Ledger, Policy, Signatures,
};
use sha2::{Digest, Sha256};

pub(crate) const NODES: u32 = 8;
pub(crate) const PARTIES: u32 = 24;
const OWNERS: u64 = 11;

/// Numbers that look random (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        let at = self.below(list.len() as u64) as usize;
        list.get(at).copied()
    }

    /// An amount of any length up to so many bits.
    pub(crate) fn amount(&mut self, bits: u64) -> u128 {
        let bits = self.below(bits) as u32;
        let wide = (u128::from(self.bits()) << 64) | u128::from(self.bits());
        (1 << bits) | (wide & ((1 << bits) - 1))
    }
}

/// A policy for tests: short times, and figures that can be put in.
pub(crate) fn policy(changes: &[(&str, &str)]) -> Policy {
    Policy::parse(&text(changes)).expect("a policy for tests is one")
}

/// Its text.
pub(crate) fn text(changes: &[(&str, &str)]) -> String {
    let mut text = include_str!("policy.toml").to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "the policy has no {from:?}");
        text = text.replace(from, to);
    }
    text
}

/// The policies that a random world adopts.
pub(crate) fn policies() -> [Policy; 4] {
    [
        policy(&[]),
        // Ceilings that always cut, another month's windows, a large budget.
        policy(&[
            ("nodes = 5000 # ceiling", "nodes = 50"),
            ("window_epochs = 4", "window_epochs = 7"),
            (
                "budget_max = \"900_000_007\"",
                "budget_max = \"79_000_000_000_000_000_000_000_000_000\"",
            ),
            (
                "stake_max = \"1_000_000_000_000_000\"",
                "stake_max = \"70_000_000_000_000_000_000_000_000_000\"",
            ),
            (
                "pool_per_year = \"70",
                "pool_per_year = \"70_000_000_000_000",
            ),
        ]),
        // Budgets that always cut, odd shares, a stake that earns much.
        policy(&[
            ("budget_max = \"900_000_007\"", "budget_max = \"1_003\""),
            ("developers = 2500 # share", "developers = 2499"),
            ("rate = 700", "rate = 100000"),
            (
                "stake_max = \"1_000_000_000_000_000\"",
                "stake_max = \"1_000_000_000\"",
            ),
            ("split = 5000", "split = 10000"),
        ]),
        // Without a class, and gas that is dear.
        policy(&[
            (
                "[classes.reused]\nid = 9\nproof = 7001\nreuse = 3\nuser = 99999\n",
                "",
            ),
            ("era = \"2000\"", "era = \"7_919\""),
            ("wei = \"1\"", "wei = \"104_729\""),
            ("claim_delay_s = 7200", "claim_delay_s = 0"),
        ]),
    ]
}

/// Whether a signature is a MAC of the message under the node's key, after a byte that says so: a
/// real check of real bytes, without a curve.
pub(crate) fn verify(key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    sign(key, message) == signature
}

pub(crate) fn sign(key: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let mac = Sha256::new().chain_update(key).chain_update(message);
    [&[1], &mac.finalize()[..]].concat()
}

pub(crate) fn key(party: Party) -> [u8; 32] {
    match party < NODES {
        true => [party as u8 + 1; 32],
        false => [0; 32],
    }
}

pub(crate) fn ledger() -> Ledger {
    Ledger::new(Signatures::Verify(verify))
}

/// A command that registers a party of this world.
pub(crate) fn register(party: Party, owner: u32) -> Command {
    let role = match party {
        0..NODES => Role::Node,
        NODES..14 => Role::Developer,
        _ => Role::User,
    };
    Command::Register {
        party,
        role,
        owner,
        address: [party as u8; 20],
        key: key(party),
    }
}

/// One command after the other.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now: u64,
    /// The bits of the largest amounts that usually come in.
    bits: u64,
    next: Id,
    sequences: [u64; NODES as usize],
    holds: Vec<(Id, Party, u128)>,
    stakes: Vec<Id>,
    unbondings: Vec<Id>,
    policies: [Policy; 4],
    /// Some of those that were done, to be done again.
    done: Vec<(Id, Command)>,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        World {
            random: Random(seed),
            now: 1_000_000,
            bits: [40, 70, 97][(seed % 3) as usize],
            next: 1,
            sequences: [0; NODES as usize],
            holds: Vec::new(),
            stakes: Vec::new(),
            unbondings: Vec::new(),
            policies: policies(),
            done: Vec::new(),
        }
    }

    /// What is done next. What there is to be spent is looked up in the ledger.
    pub(crate) fn next(&mut self, ledger: &Ledger) -> (Id, Command) {
        if self.random.one_in(60) {
            self.now += self.random.below(5_000);
        } else if self.random.one_in(500) {
            // A clock that goes back.
            self.now -= self.random.below(1_000);
        } else {
            self.now += self.random.below(3);
        }
        if let Some((id, command)) = self.again() {
            return (id, command);
        }
        self.next += 1;
        // Most are there from the beginning.
        let command = match self.next - 2 {
            1..=20 if ledger.epoch().is_ok() => {
                let owner = self.random.below(OWNERS) as u32;
                register(self.next as Party - 3, owner)
            }
            _ => self.command(ledger),
        };
        (self.next, command)
    }

    /// Stakes that were made not long ago.
    pub(crate) fn stakes(&self) -> impl Iterator<Item = Id> {
        self.stakes.iter().copied()
    }

    /// What was done before, or something else under its id.
    fn again(&mut self) -> Option<(Id, Command)> {
        if !self.random.one_in(40) || self.done.is_empty() {
            return None;
        }
        let at = self.random.below(self.done.len() as u64) as usize;
        let (id, mut command) = self.done[at].clone();
        if self.random.one_in(3) {
            match &mut command {
                Command::Transfer { legs } => legs[0].amount += 1,
                Command::Meter { event, .. } => event.observed += 1,
                _ => command = Command::Order { party: 1, on: true },
            }
        }
        Some((id, command))
    }

    /// Learns what was done.
    pub(crate) fn learn(&mut self, id: Id, command: &Command, answer: &Result<Answer, Error>) {
        if !matches!(answer, Ok(Answer::New(_))) {
            return;
        }
        match *command {
            Command::Reserve { party, amount, .. } => self.holds.push((id, party, amount)),
            Command::Stake { .. } => self.stakes.push(id),
            Command::Unstake { .. } => self.unbondings.push(id),
            _ => {}
        }
        for list in [&mut self.stakes, &mut self.unbondings] {
            if list.len() > 60 {
                list.remove(0);
            }
        }
        if self.holds.len() > 60 {
            self.holds.remove(0);
        }
        if self.random.one_in(8) {
            self.done.push((id, command.clone()));
        }
        if self.done.len() > 500 {
            let at = self.random.below(500) as usize;
            self.done.swap_remove(at);
        }
    }

    fn party(&mut self) -> Party {
        // One in thirty is nobody.
        let nobody = u64::from(self.random.one_in(30));
        self.random.below(u64::from(PARTIES) + nobody) as Party
    }

    fn payer(&mut self) -> Party {
        14 + self.random.below(10) as Party
    }

    /// Mostly what there is; seldom more.
    fn part_of(&mut self, has: i128) -> u128 {
        let has = has.max(0).cast_unsigned();
        match self.random.below(20) {
            0 => has + 1,
            1 => has,
            2 => 0,
            _ => {
                let part = self.random.amount(90);
                if part <= has { part } else { part % (has + 1) }
            }
        }
    }

    fn command(&mut self, ledger: &Ledger) -> Command {
        let Ok((epoch, closes)) = ledger.epoch() else {
            return Command::Open {
                policy: self.policies[0].clone(),
            };
        };
        let balance = |account| ledger.balance(Asset::Era, account).unwrap_or(0);
        match self.random.below(100) {
            0 => {
                let owner = self.random.below(OWNERS) as u32;
                let mut command = register(self.party(), owner);
                if let Command::Register { key, .. } = &mut command
                    && self.random.one_in(20)
                {
                    *key = [0; 32];
                }
                command
            }
            1 => Command::Verify {
                owner: self.random.below(OWNERS) as u32,
                verified: !self.random.one_in(4),
            },
            2..=17 => self.transfer(ledger),
            18..=39 => {
                let party = self.payer();
                Command::Reserve {
                    party,
                    amount: self.part_of(balance(Account::Free { party })),
                    expires: self.now + self.random.below(9_000),
                }
            }
            40..=64 => self.meter(),
            65..=67 => {
                let hold = self.hold();
                Command::Charge {
                    hold: hold.0,
                    amount: self.part_of(hold.2.cast_signed()),
                }
            }
            68..=69 => Command::Refund {
                hold: self.hold().0,
            },
            70..=71 => {
                let receipt = [self.random.below(250) as u8; 32];
                let gas_used = self.random.below(400_000);
                let price = self.random.amount(70);
                // One in ten costs more than can be counted.
                let price = if self.random.one_in(10) {
                    price << 54
                } else {
                    price
                };
                Command::OffsetGas {
                    hold: self.hold().0,
                    receipt,
                    gas_used,
                    price,
                }
            }
            72..=75 => {
                let party = self.party();
                Command::Stake {
                    party,
                    amount: self.part_of(balance(Account::Free { party })),
                }
            }
            76..=78 => {
                let amount = self.random.amount(60);
                let stake = self.random.of(&self.stakes).unwrap_or(77);
                Command::Unstake { stake, amount }
            }
            79..=80 => Command::Withdraw {
                unbonding: self.random.of(&self.unbondings).unwrap_or(78),
            },
            81..=83 => Command::Harvest {
                stake: self.random.of(&self.stakes).unwrap_or(79),
            },
            84 => Command::Order {
                party: self.party(),
                on: !self.random.one_in(3),
            },
            85..=89 => Command::Close {
                epoch: if self.random.one_in(10) {
                    epoch.saturating_sub(1)
                } else {
                    epoch
                },
            },
            90..=94 => Command::Claim {
                party: self.party(),
                up_to: epoch.saturating_sub(self.random.below(4) as u32),
            },
            95 => Command::ClawBack {
                party: self.party(),
                epoch: epoch.saturating_sub(1 + self.random.below(3) as u32),
                reason: [7; 32],
            },
            96..=97 => Command::Settle {
                epoch: epoch.saturating_sub(self.random.below(6) as u32),
            },
            98 if self.random.one_in(4) => Command::Adopt {
                epoch: epoch + self.random.below(4) as u32,
                policy: self.policies[self.random.below(4) as usize].clone(),
            },
            _ => {
                // Nothing much happens for a while, and an epoch is over.
                self.now = self.now.max(closes);
                Command::Close { epoch }
            }
        }
    }

    fn hold(&mut self) -> (Id, Party, u128) {
        // The newest are most likely to be there.
        let newest = self.holds.len().saturating_sub(12);
        let from = if self.random.one_in(4) { 0 } else { newest };
        self.random.of(&self.holds[from..]).unwrap_or((76, 14, 1))
    }

    fn meter(&mut self) -> Command {
        let node = self.random.below(u64::from(NODES)) as Party;
        let hold = self.hold();
        let fee = match self.random.below(6) {
            0 => self.part_of(hold.2.cast_signed()),
            1 => self.random.amount(20),
            _ => hold.2,
        };
        let unknown = usize::from(self.random.one_in(9));
        let known = self.random.below(5) as usize;
        let class = [0, 0, 1, 1, 9, 4][known + unknown];
        let developer = (!self.random.one_in(3)).then(|| 8 + self.random.below(6) as Party);
        let developer = if self.random.one_in(40) {
            Some(self.party())
        } else {
            developer
        };
        let proof = [3; 32];
        let hold = hold.0;
        let what = match self.random.below(12) {
            0 => Deed::Failure {
                hold,
                cause: Cause::Node,
            },
            1 => Deed::Failure {
                hold,
                cause: Cause::Input,
            },
            2 => Deed::Release {
                party: self.party(),
                bytes: self.random.amount(48) as u64,
                held_s: self.random.below(200_000),
                returned_s: self.random.below(100_000),
            },
            3..=4 => Deed::Reuse {
                hold,
                class,
                developer,
                fee,
                proof,
            },
            _ => Deed::Proof {
                hold,
                class,
                developer,
                fee,
                proof,
            },
        };
        let sequence = &mut self.sequences[node as usize];
        *sequence += 1;
        let node = if self.random.one_in(60) { 20 } else { node };
        let event = Event {
            node,
            sequence: *sequence,
            observed: self.now / 2,
            what,
        };
        let signature = match self.random.below(50) {
            0 => vec![0xff; 33],
            1 => vec![0xff; 129],
            _ => sign(&key(node), &event.signed_bytes()),
        };
        Command::Meter { event, signature }
    }

    fn transfer(&mut self, ledger: &Ledger) -> Command {
        let mut legs = Vec::new();
        let count = match self.random.below(40) {
            0 => 0,
            1 => 17,
            2..8 => 4,
            _ => 1,
        };
        for _ in 0..count {
            let asset = if self.random.one_in(6) {
                Asset::Gas
            } else {
                Asset::Era
            };
            let party = if self.random.one_in(3) {
                self.party()
            } else {
                self.payer()
            };
            let other = self.party();
            let from = match self.random.below(40) {
                0..22 => Account::Outside,
                22..34 => Account::Free { party: other },
                34..38 => match asset {
                    Asset::Era => Account::Treasury,
                    Asset::Gas => Account::GasFloat,
                },
                38 => Account::Payable,
                _ => Account::Budget,
            };
            let to = match self.random.below(40) {
                0..26 => Account::Free { party },
                26..29 => Account::Outside,
                29 => Account::StakingPool,
                30..35 => Account::StorageFund,
                35 => Account::Budget,
                36..39 => Account::GasFloat,
                _ => Account::Held { party },
            };
            let amount = match from {
                Account::Outside if self.random.one_in(200) => self.random.amount(98),
                Account::Outside => self.random.amount(self.bits),
                _ => {
                    let has = ledger.balance(asset, from).unwrap_or(0);
                    self.part_of(has)
                }
            };
            legs.push(Leg {
                asset,
                from,
                to,
                amount,
            });
        }
        Command::Transfer { legs }
    }
}
