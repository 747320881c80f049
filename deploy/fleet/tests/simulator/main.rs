//! Fleets of which everything goes wrong, one for each seed.
//!
//! Both sides of the fleet run in invented time, on boxes that die, freeze and are cut off, over a broker that loses its leaders and
//! its streams and delivers what it likes as often as it likes; among boxes that lie. At each step it is looked at whether
//!
//! - a placement is published that is not recorded;
//! - a placement is given up whose box is alive and was heard within the lease;
//! - something is committed that is not in the fleet's hands, or is no proof;
//! - an honest box is reported;
//! - a proof is begun in vain though nobody was dead;
//! - a box that takes jobs on loans alone begins one without, after its term, or beyond what it has granted;
//! - a job is placed on a loan that is over;
//!
//! and in the end whether each job that was accepted is done, once, and nobody holds anything. A seed that fails is
//! printed, and `CALDERA_FLEET_SEED=N` plays it alone and prints all that happens.

mod broker;
mod scene;
mod world;

use scene::Weather;
use world::{Outcome, World};

/// Plays so many seeds, and adds up what came of them.
fn play(weather: Weather, seeds: u64) -> Outcome {
    let one = std::env::var("CALDERA_FLEET_SEED").ok();
    let one: Option<u64> = one.map(|seed| seed.parse().expect("a seed is a number"));
    let seeds = one.map_or(0..seeds, |seed| seed..seed + 1);
    let mut sum = Outcome::default();
    for seed in seeds {
        let named = Named(weather, seed);
        match World::new(weather, seed, one.is_some()).run() {
            Ok(outcome) => sum.add(&outcome),
            Err(violation) => panic!("{violation}"),
        }
        std::mem::forget(named);
    }
    println!("{weather:?}: {sum:?}");
    sum
}

/// Says which seed it was, whoever panics.
struct Named(Weather, u64);

impl Drop for Named {
    fn drop(&mut self) {
        let Named(weather, seed) = self;
        eprintln!(
            "{weather:?}, seed {seed}; to see it: CALDERA_FLEET_SEED={seed} and this test's name"
        );
    }
}

#[test]
fn in_calm_weather_every_job_is_proved_once_and_none_is_placed_twice() {
    let sum = play(Weather::Calm, 500);
    assert_eq!(sum.lent + sum.at_home, sum.submitted);
    assert!(sum.lent > sum.submitted / 4, "{sum:?}");
}

#[test]
fn elections_of_the_broker_cost_no_proof_and_no_placement() {
    let sum = play(Weather::Elections, 1_000);
    assert_eq!(sum.lent + sum.at_home, sum.submitted);
    assert!(sum.lent > sum.submitted / 4, "{sum:?}");
}

#[test]
fn in_a_storm_no_job_is_lost_and_none_is_committed_twice() {
    let sum = play(Weather::Storm, 2_000);
    assert!(sum.lent > sum.submitted / 8, "{sum:?}");
    assert!(sum.expired > 100, "{sum:?}");
    assert!(sum.buried > 100, "{sum:?}");
}

#[test]
fn a_box_gives_no_more_than_it_has_lent_and_takes_it_back_at_once() {
    let sum = play(Weather::Loans, 2_000);
    assert!(sum.lent > sum.submitted / 16, "{sum:?}");
    assert!(sum.on_loan > 1_000, "{sum:?}");
    assert!(sum.reclaimed > 100, "{sum:?}");
    assert!(sum.beyond > 100, "{sum:?}");
}

#[test]
fn strangers_are_found_out_and_change_nothing() {
    let sum = play(Weather::Strangers, 2_000);
    assert!(sum.lent > sum.submitted / 8, "{sum:?}");
    assert!(sum.wrong > 100, "{sum:?}");
    assert!(sum.forged > 100, "{sum:?}");
}

#[test]
fn a_seed_says_everything() {
    for seed in 0..20 {
        for weather in [Weather::Strangers, Weather::Loans] {
            let [one, two] = [(), ()].map(|()| World::new(weather, seed, false).run());
            assert_eq!(one.expect("it holds"), two.expect("it holds"));
        }
    }
}
