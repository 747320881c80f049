//! The year of epochs: whoever tries to be paid more than an honest twin is not, whatever the seed.

use caldera_scheduler::ledger::Policy;
use caldera_scheduler::sim::economy::plot::plot;
use caldera_scheduler::sim::economy::report::Report;
use caldera_scheduler::sim::economy::{Setup, year};

/// Eighty-three days: payouts mature and are settled, and months pass.
fn run(seed: u64, epochs: u32) -> Report {
    let text = include_str!("../../deploy/era.toml");
    let setup = Setup {
        policy: Policy::parse(text).expect("the shipped policy"),
        seed,
        epochs,
        cores: 0.05,
        nodes: 6,
        rollups: 1,
        users: 20,
    };
    year(&setup, &mut |_| {}).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"))
}

#[test]
fn no_adversary_gains_by_what_it_does() {
    for seed in 0..5 {
        let report = run(seed, 2_000);
        assert_eq!(report.epochs, 2_000);
        assert_eq!(report.players.len(), 8);
        for line in &report.players {
            let (name, gain) = (line.name, line.gain.0);
            assert!(gain <= 0, "seed {seed}: the {name} gains {gain} units");
            // A twin that earned nothing would be no measure, but for those whose twins rest.
            let rests = name.starts_with("wash trader");
            assert_eq!(line.honest.0 > 0, !rests, "seed {seed}: {name}");
        }
        let lost = report
            .players
            .iter()
            .filter(|line| line.name.starts_with("wash"));
        assert!(lost.clone().count() == 2 && lost.clone().all(|line| line.profit.0 < 0));
        // Each way of sending an event again was refused or without effect, hundreds of times.
        for why in ["Before", "Conflict", "Resolved", "Signature"] {
            let times = report.refused.get(why).copied().unwrap_or(0);
            assert!(times > 500, "seed {seed}: {why} {times} times");
        }
    }
}

#[test]
fn equal_work_is_paid_as_the_classes_say_and_no_job_brings_what_it_costs() {
    let report = run(7, 2_000);
    let figures = &report.figures;
    assert!(figures.probed > 600);
    assert!((figures.node_ratio - 1.25).abs() < 1e-12, "{figures:?}");
    assert!((figures.user_ratio - 1.5).abs() < 1e-12, "{figures:?}");
    let most = figures.job_most;
    assert!(most > 0.5 && most < figures.job_ceiling, "{most}");
}

#[test]
fn what_is_earned_comes_back() {
    let report = run(3, 2_300);
    let back = &report.reinvestment;
    for (what, amount) in [
        ("claims", back.claimed),
        ("standing orders", back.staked),
        ("fees and gas paid with rewards", back.paid),
        ("rewards of stakes", back.harvested),
        ("gas", back.gas_charged),
        ("storage", back.storage),
        ("settled", back.settled),
    ] {
        assert!(amount.0 > 0, "{what}");
    }
    assert!(back.share > 0.0 && back.share < 1.0);
    assert!(
        report.retention.iter().all(|line| line.n > 5),
        "{:?}",
        report.retention
    );
    assert!(report.retention[0].rewarded && !report.retention[1].rewarded);
    // What people do is said to be assumed, wherever the figures are.
    assert!(report.table().contains("Assumed, not measured"));
    assert!(plot(&report).contains("people as assumed"));
}

#[test]
fn a_seed_says_everything() {
    let (one, other) = (run(1, 200), run(1, 200));
    assert_eq!(one.table(), other.table());
    assert_ne!(one.table(), run(2, 200).table());
}
