//! The promises about money: five to four, three to two, never more for splitting, never more than
//! the fee.

use caldera_scheduler::ledger::command::{
    Cause, Close, Deed, Id, Leg, Party, Role, close_id, standing_id,
};
use caldera_scheduler::ledger::{
    Account, Answer, Asset, Command, Error, Event, Ledger, Outcome, Policy, Record,
};

use crate::world::{Random, key, ledger, policy, register, sign};

/// A ledger, and what tests do with it.
pub(crate) struct Bench {
    pub(crate) ledger: Ledger,
    pub(crate) now: u64,
    next: Id,
    sequence: u64,
}

impl Bench {
    fn new(policy: Policy) -> Bench {
        let mut bench = Bench::of(ledger(), 1_000);
        bench.done(Command::Open { policy });
        bench
    }

    pub(crate) fn of(ledger: Ledger, now: u64) -> Bench {
        Bench {
            ledger,
            now,
            next: 1,
            sequence: 0,
        }
    }

    fn try_to(&mut self, command: Command) -> Result<Record, Error> {
        self.next += 1;
        match self.ledger.execute(self.next, command, self.now)? {
            Answer::New(record) => Ok(record),
            Answer::Before { sequence } => panic!("was done before, by {sequence}"),
        }
    }

    pub(crate) fn done(&mut self, command: Command) -> Record {
        let told = format!("{command:?}");
        self.try_to(command)
            .unwrap_or_else(|error| panic!("{told}: {error}"))
    }

    pub(crate) fn give(&mut self, to: Account, amount: u128) {
        let leg = Leg {
            asset: Asset::Era,
            from: Account::Outside,
            to,
            amount,
        };
        self.done(Command::Transfer { legs: vec![leg] });
    }

    /// A job from its reservation to its proof.
    pub(crate) fn job(
        &mut self,
        node: Party,
        requester: Party,
        developer: Option<Party>,
        class: u8,
        fee: u128,
    ) {
        self.give(Account::Free { party: requester }, fee);
        let expires = self.now + 100;
        self.done(Command::Reserve {
            party: requester,
            amount: fee,
            expires,
        });
        let hold = self.next;
        self.event(
            node,
            Deed::Proof {
                hold,
                class,
                developer,
                fee,
                proof: [1; 32],
            },
        );
    }

    fn failure(&mut self, node: Party, requester: Party, cause: Cause) {
        self.give(Account::Free { party: requester }, 10_000);
        let expires = self.now + 10;
        self.done(Command::Reserve {
            party: requester,
            amount: 10_000,
            expires,
        });
        let hold = self.next;
        self.event(node, Deed::Failure { hold, cause });
    }

    pub(crate) fn event(&mut self, node: Party, what: Deed) {
        self.sequence += 1;
        let event = Event {
            node,
            sequence: self.sequence,
            observed: 0,
            what,
        };
        let signature = sign(&key(node), &event.signed_bytes());
        self.done(Command::Meter { event, signature });
    }

    pub(crate) fn close(&mut self) -> Close {
        let (epoch, at) = self.ledger.epoch().expect("is open");
        self.now = self.now.max(at);
        match self.done(Command::Close { epoch }).outcome {
            Outcome::Closed { close } => *close,
            other => panic!("a close gave {other:?}"),
        }
    }

    /// What the newest epoch pays.
    fn paid(&self, party: Party) -> u128 {
        let (open, _) = self.ledger.epoch().expect("is open");
        let payouts = self.ledger.payouts(party).expect("is there");
        let of = payouts.iter().filter(|(epoch, ..)| epoch + 1 == open);
        of.map(|(_, amount, _)| amount).sum()
    }

    fn balance(&self, account: Account) -> i128 {
        self.ledger.balance(Asset::Era, account).expect("is there")
    }
}

#[test]
fn financial_and_light_are_five_to_four_and_users_three_to_two() {
    // Where the budget binds and where the ceilings do, at fees that divide and that do not.
    for budget in ["5_000", "900_000_007", "1_000_000_000_003"] {
        for fee in [1_000, 99_991, 1 << 70] {
            let mut bench = Bench::new(policy(&[(
                "budget_max = \"900_000_007\"",
                &format!("budget_max = \"{budget}\""),
            )]));
            for (party, owner) in [(0, 0), (1, 1), (14, 14), (15, 15)] {
                bench.done(register(party, owner));
            }
            bench.job(0, 14, None, 1, fee);
            bench.job(1, 15, None, 0, fee);
            let streams = bench.ledger.streams(bench.now).expect("is open");
            for (stream, (more, less)) in [(&streams[0], (5, 4)), (&streams[2], (3, 2))] {
                let [high, low] = &stream.parties[..] else {
                    panic!("two have a part in {stream:?}");
                };
                assert_eq!(high.weight * less, low.weight * more, "weights are exact");
                assert_eq!(high.amount + low.amount, stream.paid);
                // Within one unit of paid * more / (more + less), without a fraction.
                let off = (high.amount * (more + less)).abs_diff(stream.paid * more);
                assert!(off < more + less, "{stream:?}");
            }
            let close = bench.close();
            assert_eq!(
                close.nodes + close.users,
                bench.paid(0) + bench.paid(1) + bench.paid(14) + bench.paid(15)
            );
        }
    }
}

#[test]
fn nobody_gains_by_being_on_every_side() {
    let mut random = Random(7);
    for round in 0..300 {
        // Much more issued than earned, so that only ceilings hold payouts down.
        let mut bench = Bench::new(policy(&[
            ("per_epoch = \"100_003\"", "per_epoch = \"40_000_000\""),
            ("min = \"1_000\"", "min = \"30\""),
        ]));
        // The owner of node 0, user 14 and developer 8 hides behind three owners; others work, too.
        for (party, owner) in [(0, 0), (8, 1), (14, 2), (1, 3), (15, 4), (9, 5)] {
            bench.done(register(party, owner));
            bench.done(Command::Verify {
                owner,
                verified: true,
            });
        }
        bench.give(Account::StorageFund, 1_000_000_000);
        let mut fees = 0;
        for _ in 0..1 + random.below(4) {
            let fee = 30 + u128::from(random.below(if round % 2 == 0 { 40 } else { 1_000_000 }));
            let class = [0, 1, 9][random.below(3) as usize];
            bench.job(0, 14, Some(8), class, fee);
            fees += fee;
        }
        bench.event(
            1,
            Deed::Release {
                party: 14,
                bytes: 1 << 50,
                held_s: 100_000,
                returned_s: 1 << 20,
            },
        );
        if random.one_in(2) {
            bench.job(
                1,
                15,
                Some(9),
                1,
                1_000 + u128::from(random.below(1_000_000)),
            );
        }
        bench.close();
        let paid = bench.paid(0) + bench.paid(8) + bench.paid(14);
        assert!(paid < fees, "round {round}: {paid} for {fees}");
    }
}

#[test]
fn one_owner_on_both_sides_earns_nothing() {
    let mut bench = Bench::new(policy(&[]));
    for (party, owner) in [(0, 1), (14, 1), (8, 2), (1, 3), (15, 2), (16, 4)] {
        bench.done(register(party, owner));
    }
    bench.done(Command::Verify {
        owner: 2,
        verified: true,
    });
    bench.done(Command::Verify {
        owner: 4,
        verified: true,
    });
    // The node's owner pays: nobody earns. The developer's pays: the node alone does.
    bench.job(0, 14, Some(8), 1, 10_000);
    bench.job(1, 15, Some(8), 1, 10_000);
    // Below the smallest fee nobody does.
    bench.job(1, 16, Some(8), 1, 999);
    assert_eq!(bench.ledger.scenarios(8), Ok(0));
    bench.close();
    assert_eq!([0, 14, 8, 15, 16].map(|party| bench.paid(party)), [0; 5]);
    assert!(bench.paid(1) > 0);
    // Another's many jobs are one scenario in each class, and an owner that is not verified none.
    for _ in 0..3 {
        bench.job(1, 16, Some(8), 1, 10_000);
    }
    bench.job(1, 14, Some(8), 1, 10_000);
    assert_eq!(bench.ledger.scenarios(8), Ok(1));
    bench.job(1, 16, Some(8), 0, 10_000);
    assert_eq!(bench.ledger.scenarios(8), Ok(2));
    // A month later it has been forgotten.
    bench.now += 2_592_000;
    bench.close();
    assert_eq!(bench.ledger.scenarios(8), Ok(0));
}

#[test]
fn splitting_an_account_never_pays_its_owner_more() {
    let mut random = Random(11);
    for round in 0..200 {
        let jobs: Vec<(u128, u8)> = (0..2 + random.below(7))
            .map(|_| (1_000 + random.amount(24), random.below(2) as u8))
            .collect();
        let others: Vec<u128> = (0..1 + random.below(3))
            .map(|_| 1_000 + random.amount(24))
            .collect();
        let budget = 1 + random.amount(30);
        // Once with one node and one user, once with several of the same owners.
        let paid = [1, 2, 3, 4].map(|parts: u32| {
            let mut bench = Bench::new(policy(&[(
                "budget_max = \"900_000_007\"",
                &format!("budget_max = \"{budget}\""),
            )]));
            for part in 0..4 {
                bench.done(register(part, 5));
                bench.done(register(14 + part, 6));
            }
            for (at, &fee) in others.iter().enumerate() {
                bench.done(register(4 + at as u32, 10 + at as u32));
                bench.done(register(18 + at as u32, 20 + at as u32));
                bench.job(4 + at as u32, 18 + at as u32, None, 0, fee);
            }
            for (at, &(fee, class)) in jobs.iter().enumerate() {
                let part = at as u32 % parts;
                bench.job(part, 14 + part, None, class, fee);
                // Every other job fails first: a new number does not make a bad node a better one.
                if at % 2 == 0 {
                    bench.failure(part, 18, Cause::Node);
                }
            }
            bench.close();
            let nodes: u128 = (0..4).map(|part| bench.paid(part)).sum();
            let users: u128 = (14..18).map(|part| bench.paid(part)).sum();
            (nodes, users)
        });
        assert!(
            paid.iter().all(|of| *of == paid[0]),
            "round {round}: {paid:?}"
        );
    }
}

/// One stake, and the same in parts, harvested whenever it pleases them.
#[test]
fn splitting_a_stake_never_pays_more() {
    let mut random = Random(13);
    for round in 0..200 {
        let parts: Vec<u128> = (0..1 + random.below(6))
            .map(|_| random.amount(34))
            .collect();
        let mut bench = Bench::new(policy(&[]));
        for party in 14..18 {
            bench.done(register(party, party));
            bench.give(Account::Free { party }, 1 << 40);
        }
        bench.give(Account::StakingPool, 1 << 44);
        let stake = |bench: &mut Bench, party, amount| {
            bench.done(Command::Stake { party, amount });
            bench.next
        };
        let one = stake(&mut bench, 14, parts.iter().sum());
        let many: Vec<_> = parts
            .iter()
            .map(|&amount| stake(&mut bench, 15, amount))
            .collect();
        let (mut by_one, mut by_many) = (0, 0);
        for _ in 0..12 {
            if random.one_in(3) {
                let amount = random.amount(30);
                stake(&mut bench, 16, amount);
            }
            bench.close();
            for &id in &many {
                if random.one_in(2)
                    && let Ok(Record {
                        outcome: Outcome::Moved { amount, .. },
                        ..
                    }) = bench.try_to(Command::Harvest { stake: id })
                {
                    by_many += amount;
                }
            }
        }
        let end = |bench: &mut Bench, stake, amount| {
            let record = bench.done(Command::Unstake { stake, amount });
            let Outcome::Moved { amount, .. } = record.outcome else {
                panic!("an end gives what was earned");
            };
            amount
        };
        by_one += end(&mut bench, one, parts.iter().sum());
        for (&id, &amount) in many.iter().zip(&parts) {
            by_many += end(&mut bench, id, amount);
        }
        assert!(
            by_many <= by_one,
            "round {round}: {by_many} of {parts:?}, {by_one} undivided"
        );
        // And not much less: what rounding takes is less than a unit each.
        assert!(
            by_one - by_many <= parts.len() as u128,
            "round {round}: {by_many}, {by_one}"
        );
    }
}

#[test]
fn a_pool_that_is_empty_owes_nothing() {
    let mut bench = Bench::new(policy(&[
        ("lock_s = 7200", "lock_s = 0"),
        ("staking = 999", "staking = 0"),
        ("treasury = 1497", "treasury = 2496"),
    ]));
    bench.done(register(14, 1));
    bench.give(Account::Free { party: 14 }, 1 << 50);
    bench.give(Account::StakingPool, 1_000);
    bench.done(Command::Stake {
        party: 14,
        amount: 1 << 40,
    });
    let close = bench.close();
    // 2^40 at 7 % for an hour would earn 8,786,051.
    assert_eq!((close.staking, close.shortfall), (1_000, 8_785_051));
    assert_eq!(bench.balance(Account::StakingPool), 0);
    let close = bench.close();
    assert_eq!((close.staking, close.shortfall), (0, 8_786_051));
    // Filled again it earns from then on, and not what was missed.
    bench.give(Account::StakingPool, 1 << 40);
    let close = bench.close();
    assert_eq!((close.staking, close.shortfall), (8_786_051, 0));
}

#[test]
fn a_stake_that_the_pool_cannot_pay_for_is_not_taken() {
    let mut bench = Bench::new(policy(&[]));
    bench.done(register(14, 1));
    bench.give(Account::Free { party: 14 }, 1 << 50);
    // 7 % for two hours of 2^40: 17,572,103.6, and one less is too little.
    bench.give(Account::StakingPool, 17_572_103);
    let stake = Command::Stake {
        party: 14,
        amount: 1 << 40,
    };
    assert_eq!(
        bench.try_to(stake.clone()),
        Err(Error::PoolUnfunded {
            needed: 17_572_104,
            got: 17_572_103
        })
    );
    bench.give(Account::StakingPool, 1);
    bench.done(stake);
}

#[test]
fn a_claim_waits_is_taken_back_or_paid_once_and_can_be_staked() {
    let mut bench = Bench::new(policy(&[]));
    for (party, owner) in [(0, 0), (1, 1), (14, 14)] {
        bench.done(register(party, owner));
    }
    bench.give(Account::StakingPool, 1 << 40);
    bench.job(0, 14, None, 1, 1 << 30);
    bench.job(1, 14, None, 1, 1 << 30);
    bench.close();
    let until = bench.now + 7_200;
    let (paid, other, user) = (bench.paid(0), bench.paid(1), bench.paid(14));
    assert!(paid.abs_diff(other) <= 1);
    let claim = Command::Claim { party: 0, up_to: 9 };
    assert_eq!(
        bench.try_to(claim.clone()),
        Err(Error::Locked {
            until,
            now: bench.now
        })
    );
    assert_eq!(
        bench.try_to(Command::Settle { epoch: 0 }),
        Err(Error::Locked {
            until,
            now: bench.now
        })
    );
    // Fraud is found in time: it goes back to the budget.
    let budget = bench.balance(Account::Budget);
    let back = Command::ClawBack {
        party: 1,
        epoch: 0,
        reason: [9; 32],
    };
    bench.done(back.clone());
    assert_eq!(bench.balance(Account::Budget) - budget, other.cast_signed());
    assert_eq!(bench.try_to(back), Err(Error::NothingDue));
    // Time goes by; half of the rest is staked by order, once.
    bench.now = until;
    bench.done(Command::Order { party: 0, on: true });
    let back = Command::ClawBack {
        party: 0,
        epoch: 0,
        reason: [9; 32],
    };
    assert_eq!(
        bench.try_to(back),
        Err(Error::Matured {
            since: until,
            now: until
        })
    );
    let outcome = bench.done(claim.clone()).outcome;
    assert_eq!(
        outcome,
        Outcome::Moved {
            amount: paid,
            staked: paid / 2
        }
    );
    assert_eq!(bench.try_to(claim), Err(Error::NothingDue));
    assert_eq!(
        bench.balance(Account::Staked { party: 0 }),
        (paid / 2).cast_signed()
    );
    assert_eq!(bench.ledger.earned(standing_id(0)), Ok(0));
    // What is left is settled on the chain, once, and cannot be claimed here as well.
    let outcome = bench.done(Command::Settle { epoch: 0 }).outcome;
    assert!(
        matches!(outcome, Outcome::Settled { leaves: 1, total, .. } if total == user),
        "{outcome:?}"
    );
    assert_eq!(
        bench.try_to(Command::Settle { epoch: 0 }),
        Err(Error::NothingDue)
    );
    assert_eq!(
        bench.try_to(Command::Claim {
            party: 14,
            up_to: 9
        }),
        Err(Error::NothingDue)
    );
    assert_eq!(bench.balance(Account::Payable), 0);
    assert_eq!(bench.ledger.sum(Asset::Era), Ok(0));
}

#[test]
fn what_comes_twice_changes_nothing_and_what_differs_is_a_conflict() {
    let mut bench = Bench::new(policy(&[]));
    bench.done(register(0, 0));
    bench.done(register(14, 14));
    bench.give(Account::Free { party: 14 }, 5_000);
    let now = bench.now;
    let reserve = Command::Reserve {
        party: 14,
        amount: 4_000,
        expires: now + 10,
    };
    let first = bench.done(reserve.clone());
    let hold = bench.next;
    let again = bench.ledger.execute(hold, reserve, now + 5);
    assert_eq!(
        again,
        Ok(Answer::Before {
            sequence: first.sequence
        })
    );
    let event = Event {
        node: 0,
        sequence: 6,
        observed: 0,
        what: Deed::Proof {
            hold,
            class: 0,
            developer: None,
            fee: 4_000,
            proof: [1; 32],
        },
    };
    let signature = sign(&key(0), &event.signed_bytes());
    let done = bench
        .ledger
        .meter(event.clone(), signature.clone(), now)
        .expect("is right");
    let Answer::New(done) = done else {
        panic!("is new")
    };
    assert_eq!(bench.balance(Account::Fees), 4_000);
    let again = bench.ledger.meter(event.clone(), signature, now);
    assert_eq!(
        again,
        Ok(Answer::Before {
            sequence: done.sequence
        })
    );
    // The same number for something else; another number for the same job.
    let other = Event {
        observed: 1,
        ..event.clone()
    };
    let signature = sign(&key(0), &other.signed_bytes());
    let conflict = Error::Conflict {
        id: event.id(),
        sequence: done.sequence,
    };
    assert_eq!(bench.ledger.meter(other, signature, now), Err(conflict));
    let late = Event {
        sequence: 5,
        ..event
    };
    let signature = sign(&key(0), &late.signed_bytes());
    let resolved = Error::Resolved {
        what: "hold",
        id: hold,
    };
    assert_eq!(bench.ledger.meter(late, signature, now), Err(resolved));
    assert_eq!(bench.balance(Account::Fees), 4_000);
    // A close is a close.
    let close = bench.close();
    let head = bench.ledger.head();
    assert_eq!(
        bench.ledger.close(0, now),
        Ok(Answer::Before {
            sequence: close.last
        })
    );
    assert_eq!(bench.ledger.head(), head);
    assert_ne!(close_id(0), close_id(1));
}

#[test]
fn legs_are_done_together_or_not_at_all() {
    let mut bench = Bench::new(policy(&[]));
    for party in 14..17 {
        bench.done(register(party, party));
    }
    bench.give(Account::Free { party: 14 }, 100);
    let leg = |from, to, amount| Leg {
        asset: Asset::Era,
        from: Account::Free { party: from },
        to: Account::Free { party: to },
        amount,
    };
    let hash = bench.ledger.state_hash();
    // The second leg spends what the first has brought, the third more than there is.
    let legs = vec![leg(14, 15, 100), leg(15, 16, 60), leg(15, 14, 41)];
    let short = Error::Insufficient {
        account: Account::Free { party: 15 },
        asset: Asset::Era,
        needed: 41,
        got: 40,
    };
    assert_eq!(bench.try_to(Command::Transfer { legs }), Err(short));
    assert_eq!(bench.ledger.state_hash(), hash);
    let legs = vec![leg(14, 15, 100), leg(15, 16, 60), leg(15, 14, 40)];
    bench.done(Command::Transfer { legs });
    let has = |party| bench.balance(Account::Free { party });
    assert_eq!([has(14), has(15), has(16)], [40, 0, 60]);
    // More than an encoding has room for is refused before it is encoded.
    for got in [17, 70_000] {
        let legs = vec![leg(14, 15, 1); got];
        let limit = Error::Limit {
            what: "legs",
            expected: 16,
            got: got as u128,
        };
        assert_eq!(bench.try_to(Command::Transfer { legs }), Err(limit));
    }
}

#[test]
fn a_key_belongs_to_a_node() {
    let mut bench = Bench::new(policy(&[]));
    for (role, key) in [
        (Role::Node, [0; 32]),
        (Role::User, [1; 32]),
        (Role::Developer, [1; 32]),
    ] {
        let party = Command::Register {
            party: 1,
            role,
            owner: 1,
            address: [1; 20],
            key,
        };
        assert_eq!(bench.try_to(party), Err(Error::Key));
    }
}

#[test]
fn success_follows_the_curve() {
    let policy = policy(&[]);
    // Fewer than five jobs: neutral. Then along the curve, rounded down.
    for (successes, failures, factor) in [
        (4, 0, 9_000),
        (0, 5, 0),
        (5, 5, 2_500),
        (7, 3, 2_500 + 2_000 * 6_501 / 4_000),
        (9, 1, 9_001),
        (95, 5, 9_001 + 500 * 999 / 1_000),
        (5, 0, 10_000),
    ] {
        assert_eq!(
            policy.success_factor(successes, failures),
            factor,
            "{successes} to {failures}"
        );
    }
    // Failures by the job's own input do not count, those of the node do.
    let weight = |failure: Option<Cause>| {
        let mut bench = Bench::new(policy.clone());
        bench.done(register(0, 0));
        bench.done(register(14, 14));
        for _ in 0..9 {
            bench.job(0, 14, None, 0, 10_000);
        }
        if let Some(cause) = failure {
            bench.failure(0, 14, cause);
            assert_eq!(bench.balance(Account::Free { party: 14 }), 10_000);
        }
        bench.ledger.streams(bench.now).expect("is open")[0].weights
    };
    assert_eq!(weight(None), 90_000 * 10_000 * 10_000);
    assert_eq!(weight(Some(Cause::Input)), weight(None));
    assert_eq!(weight(Some(Cause::Node)), 90_000 * 10_000 * 9_001);
}

/// Whoever gives storage back is quiet, and pays nothing in those epochs: what it has paid before backs what it gets, to the last
/// unit and once.
#[test]
fn a_quiet_tenant_is_paid_for_storage_by_what_it_has_paid_before() {
    let mut bench = Bench::new(policy(&[]));
    for (party, owner) in [(0, 0), (14, 14), (15, 15), (16, 0)] {
        bench.done(register(party, owner));
    }
    bench.job(0, 14, None, 0, 1_000_010);
    bench.close();
    bench.close();
    let release = |party, held_s| Deed::Release {
        party,
        bytes: 1 << 30,
        held_s,
        returned_s: 3_600,
    };
    // A GiB for an hour is a million, for 36 seconds 10,000; and 5 % of the fee are 50,000.
    let part = |returned_s| Deed::Release {
        party: 14,
        bytes: 1 << 30,
        held_s: 86_400,
        returned_s,
    };
    let mut paid = Vec::new();
    for returned_s in [36, 0, 36, 3_600, 3_600] {
        bench.event(0, part(returned_s));
        paid.push(bench.close().storage);
        assert_eq!(paid.last(), Some(&bench.paid(14)));
    }
    assert_eq!(paid, [10_000, 0, 10_000, 30_000, 0]);
    // Another job backs another 5 % of its fee, and of what was left of the first.
    bench.job(0, 14, None, 0, 1_000_000);
    bench.close();
    bench.event(0, release(14, 86_400));
    assert_eq!(bench.close().storage, 50_000);
    // What was held for too short a time, by who has paid nothing, or by the node's own owner, is nothing.
    bench.job(0, 14, None, 0, 1_000_000);
    bench.event(0, release(14, 86_399));
    bench.event(0, release(15, 86_400));
    bench.event(0, release(16, 86_400));
    assert_eq!(bench.close().storage, 0);
}

/// The fund divides what it has, and what it could not pay stays backed.
#[test]
fn storage_that_the_fund_cannot_pay_is_paid_later() {
    let mut bench = Bench::new(policy(&[
        ("storage = 503", "storage = 500"),
        ("treasury = 1497", "treasury = 1500"),
    ]));
    for (party, owner) in [(0, 0), (14, 14), (15, 15)] {
        bench.done(register(party, owner));
    }
    // Two fees whose parts are rounded: the fund has 5 % of the sum, rounded down, in each epoch.
    for fee in [1_039, 1_019] {
        bench.job(0, 14, None, 0, fee);
        bench.close();
    }
    // 51 and 50 of 1,039 and 1,019; together 2,058 back 102.
    assert_eq!(bench.balance(Account::StorageFund), 101);
    let all = Deed::Release {
        party: 14,
        bytes: 1 << 40,
        held_s: 86_400,
        returned_s: 3_600,
    };
    bench.event(0, all.clone());
    assert_eq!(bench.close().storage, 101);
    bench.give(Account::StorageFund, 1_000);
    bench.event(0, all);
    assert_eq!(bench.close().storage, 1);
}

/// Whoever stakes just before a close, and ends it just after, has no more of it than those seconds.
#[test]
fn a_stake_earns_for_its_own_seconds() {
    let mut bench = Bench::new(policy(&[("lock_s = 7200", "lock_s = 0")]));
    for party in 14..16 {
        bench.done(register(party, party));
        bench.give(Account::Free { party }, 1 << 50);
    }
    bench.give(Account::StakingPool, 1 << 50);
    let stake = |party| Command::Stake {
        party,
        amount: 1 << 40,
    };
    bench.done(stake(14));
    let patient = bench.next;
    let (_, closes) = bench.ledger.epoch().expect("is open");
    bench.now = closes - 1;
    bench.done(stake(15));
    let hasty = bench.next;
    // 2^40 at 7 % earn 8,786,051.8 in an hour and 2,440.57 in a second.
    let close = bench.close();
    assert_eq!((close.staking, close.shortfall), (8_788_492, 0));
    assert_eq!(bench.ledger.earned(patient), Ok(8_786_051));
    assert_eq!(bench.ledger.earned(hasty), Ok(2_440));
    bench.now += 1;
    let end = bench.done(Command::Unstake {
        stake: hasty,
        amount: 1 << 40,
    });
    let Outcome::Moved { amount, .. } = end.outcome else {
        panic!("an end gives what was earned");
    };
    assert_eq!(amount, 4_881);
    // What has been earned within the epoch is in the close.
    let close = bench.close();
    assert_eq!(close.staking, 8_788_492);
    assert_eq!(bench.ledger.earned(patient), Ok(17_572_103));
    assert_eq!(bench.ledger.sum(Asset::Era), Ok(0));
}

/// By a standing order, too: what is added earns from then on.
#[test]
fn what_an_order_adds_earns_from_then_on() {
    let mut bench = Bench::new(policy(&[
        ("claim_delay_s = 7200", "claim_delay_s = 0"),
        ("split = 5000", "split = 10000"),
        ("per_epoch = \"100_003\"", "per_epoch = \"40_000_000\""),
    ]));
    for (party, owner) in [(0, 0), (14, 14)] {
        bench.done(register(party, owner));
    }
    bench.give(Account::StakingPool, 1 << 50);
    bench.done(Command::Order { party: 0, on: true });
    let mut earned = 0;
    let mut staked = 0;
    for _ in 0..3 {
        bench.job(0, 14, None, 1, 40_000_000);
        let (_, closes) = bench.ledger.epoch().expect("is open");
        bench.now = closes - 1;
        let up_to = 9;
        if let Ok(record) = bench.try_to(Command::Claim { party: 0, up_to }) {
            let Outcome::Moved { staked: more, .. } = record.outcome else {
                panic!("a claim moves something");
            };
            earned += staked * 700 * 3_599 / (10_000 * 31_536_000);
            staked += more;
            earned += staked * 700 / (10_000 * 31_536_000);
        }
        bench.close();
    }
    assert!(staked > 10_000_000, "{staked}");
    let has = bench.ledger.earned(standing_id(0)).expect("is there");
    assert!(has.abs_diff(earned) <= 1, "{has}, {earned}");
}
