//! The ledger and the reference are given the same commands, and must agree on everything.

use std::collections::BTreeMap;

use caldera_scheduler::ledger::command::Close;
use caldera_scheduler::ledger::{Account, Answer, Asset, Command, Error, Ledger, Outcome};
use num_bigint::BigInt;

use crate::reference::{Closed, Effect, Reference, Verdict};
use crate::world::{PARTIES, World, ledger};

/// In continuous integration; `CALDERA_LEDGER_OPERATIONS` says another number. A long run can be ended and taken up again:
/// `CALDERA_LEDGER_FROM` is how many have been done, as it prints them.
const OPERATIONS: u64 = 200_000;
/// Worlds of so many operations each, for what is never forgotten makes long ones slow.
const EACH: u64 = 20_000;

#[test]
fn the_ledger_does_what_the_document_says() {
    let number = |name: &str, standard: u64| {
        std::env::var(name).map_or(standard, |text| {
            text.parse().expect("a number of operations")
        })
    };
    let operations = number("CALDERA_LEDGER_OPERATIONS", OPERATIONS);
    let from = number("CALDERA_LEDGER_FROM", 0);
    assert_eq!(from % EACH, 0, "it begins with a world, of {EACH} each");
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for seed in from / EACH..operations.div_ceil(EACH) {
        agree(seed, EACH.min(operations - seed * EACH), &mut counts);
        let done = (seed + 1) * EACH;
        if done.is_multiple_of(1_000_000) {
            println!("{done} operations agree; CALDERA_LEDGER_FROM={done} goes on from here");
        }
    }
    if operations.saturating_sub(from) >= OPERATIONS {
        // A test that never does something does not show that it is right.
        let seldom = |what: &&&str| counts.get(**what).is_none_or(|&count| count < 10);
        let seldom: Vec<_> = EXPECTED.iter().filter(seldom).collect();
        assert!(
            seldom.is_empty(),
            "seldom or never: {seldom:?} of {counts:#?}"
        );
    }
    println!("operations {from} to {operations}: {counts:#?}");
}

fn agree(seed: u64, operations: u64, counts: &mut BTreeMap<String, u64>) {
    let mut world = World::new(seed);
    let mut ledger = ledger();
    let mut reference = Reference::new();
    let mut accumulator = 0;
    for step in 0..operations {
        let (id, command) = world.next(&ledger);
        let told = format!("seed {seed}, step {step}: {command:?}");
        let answer = ledger.execute(id, command.clone(), world.now);
        let verdict = reference.execute(id, &command, world.now);
        let kind = name(&format!("{command:?}"));
        let came = compare(&answer, &verdict).unwrap_or_else(|why| panic!("{told}: {why}"));
        *counts.entry(format!("{kind} {came}")).or_default() += 1;
        world.learn(id, &command, &answer);
        if matches!(command, Command::Close { .. }) || step % 499 == 0 {
            same_books(&ledger, &reference, &world).unwrap_or_else(|why| panic!("{told}: {why}"));
        }
        if let Ok(now) = ledger.accumulator() {
            assert!(now >= accumulator, "{told}: the accumulator fell");
            accumulator = now;
        }
    }
    same_books(&ledger, &reference, &world).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
}

/// What came of it, in a word; or how the two differ.
fn compare(answer: &Result<Answer, Error>, verdict: &Verdict) -> Result<String, String> {
    let differ = || format!("the ledger says {answer:?}, the reference {verdict:?}");
    match (answer, verdict) {
        (Ok(Answer::Before { .. }), Verdict::Before) => Ok("before".to_owned()),
        (Err(error), Verdict::Refused(faults)) => {
            let error = name(&format!("{error:?}"));
            match faults.contains(&error.as_str()) {
                true => Ok(error),
                false => Err(differ()),
            }
        }
        (Ok(Answer::New(record)), Verdict::Done(effect))
            if effect_of(&record.outcome) == *effect =>
        {
            Ok("done".to_owned())
        }
        _ => Err(differ()),
    }
}

fn effect_of(outcome: &Outcome) -> Effect {
    let whole = |amount: u128| BigInt::from(amount);
    match outcome {
        Outcome::Done => Effect::Nothing,
        &Outcome::Moved { amount, staked } => Effect::Moved {
            amount: whole(amount),
            staked: whole(staked),
        },
        &Outcome::Offset {
            charged,
            reimbursed,
        } => Effect::Offset {
            charged: whole(charged),
            reimbursed: whole(reimbursed),
        },
        &Outcome::Settled {
            root,
            leaves,
            total,
        } => Effect::Settled {
            root,
            leaves: leaves as usize,
            total: whole(total),
        },
        Outcome::Closed { close } => {
            let Close {
                root,
                payouts,
                fees,
                issued,
                budget,
                nodes,
                developers,
                users,
                dust,
                carried,
                storage,
                staking,
                ..
            } = *close.clone();
            // Exact: nothing of a budget is lost, and nothing comes to it.
            assert_eq!(budget, nodes + developers + users + dust + carried);
            Effect::Closed(Box::new(Closed {
                root,
                payouts: payouts as usize,
                fees: whole(fees),
                issued: whole(issued),
                budget: whole(budget),
                paid: [nodes, developers, users, storage].map(whole),
                dust: whole(dust),
                carried: whole(carried),
                staking: whole(staking),
            }))
        }
    }
}

/// Every balance, every payout, every stake.
fn same_books(ledger: &Ledger, reference: &Reference, world: &World) -> Result<(), String> {
    let parties: Vec<_> = ledger.parties().collect();
    let purses = parties.iter().flat_map(|&party| Account::purses(party));
    let accounts: Vec<_> = Account::HOUSE.into_iter().chain(purses).collect();
    for asset in [Asset::Era, Asset::Gas] {
        let sum = ledger.sum(asset);
        if sum != Ok(0) {
            return Err(format!("the balances of {asset:?} have the sum {sum:?}"));
        }
        for &account in &accounts {
            let (has, should) = (
                ledger.balance(asset, account),
                reference.balance(asset, account),
            );
            let Ok(has) = has else {
                return Err(format!("{account:?}: {has:?}"));
            };
            if BigInt::from(has) != should {
                return Err(format!(
                    "{account:?} has {has} of {asset:?}, the reference {should}"
                ));
            }
            if has < 0 && !matches!(account, Account::Outside | Account::Issuance) {
                return Err(format!("{account:?} has {has} of {asset:?}"));
            }
        }
    }
    for party in 0..PARTIES {
        let payouts = ledger.payouts(party).unwrap_or_default();
        let payouts: Vec<_> = payouts
            .into_iter()
            .map(|(epoch, amount, at)| (epoch, BigInt::from(amount), at))
            .collect();
        if payouts != reference.payouts(party) {
            return Err(format!(
                "payouts of {party}: {payouts:?}, the reference {:?}",
                reference.payouts(party)
            ));
        }
    }
    for stake in world.stakes() {
        let (has, should) = (
            ledger.earned(stake).ok().map(BigInt::from),
            reference.earned(stake),
        );
        if has != should {
            return Err(format!(
                "stake {stake} has earned {has:?}, the reference says {should:?}"
            ));
        }
    }
    Ok(())
}

/// The first word of what stands for a value.
fn name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// What the random world must come across, so that agreement means something.
const EXPECTED: &[&str] = &[
    "Adopt ClosedEpoch",
    "Adopt done",
    "Charge Expired",
    "Charge Insufficient",
    "Charge Resolved",
    "Charge Zero",
    "Charge before",
    "Charge done",
    "Claim Locked",
    "Claim NothingDue",
    "Claim done",
    "ClawBack Matured",
    "ClawBack NothingDue",
    "ClawBack done",
    "Close EpochNotOver",
    "Close before",
    "Close done",
    "Harvest NothingDue",
    "Harvest Resolved",
    "Harvest done",
    "Meter Conflict",
    "Meter Expired",
    "Meter Insufficient",
    "Meter Limit",
    "Meter Resolved",
    "Meter Role",
    "Meter Signature",
    "Meter UnknownClass",
    "Meter before",
    "Meter done",
    "OffsetGas Insufficient",
    "OffsetGas Overflow",
    "OffsetGas ReceiptUsed",
    "OffsetGas done",
    "Order Conflict",
    "Order done",
    "Refund done",
    "Register PartyExists",
    "Register done",
    "Reserve Insufficient",
    "Reserve done",
    "Settle Locked",
    "Settle done",
    "Stake PoolUnfunded",
    "Stake done",
    "Transfer Conflict",
    "Transfer Forbidden",
    "Transfer Overflow",
    "Transfer done",
    "Unstake Insufficient",
    "Unstake Locked",
    "Unstake done",
    "Withdraw done",
];
