//! Contenders measured against each other in one run: A B A B, not A A B B.
//!
//! A machine's speed drifts with its clock, its heat and its neighbours. When A and B take turns,
//! both meet the same drift, and the ratio of the two in one round is free of most of it. So a
//! ratio is the median of the rounds' ratios, not the ratio of two medians. One round that is not
//! counted goes first and warms caches, pages and branch predictors.
//!
//! The spread is the quartiles: half of all rounds lie within. The extremes of a shared machine
//! say more about its neighbours than about the code.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::clock::{Times, timed};

/// One who is measured.
pub(crate) struct Contender<'a> {
    /// Its name in tables and records.
    pub(crate) name: String,
    /// Version and build flags of a peer; none for ours.
    pub(crate) build: Option<String>,
    body: Box<dyn Body + 'a>,
}

impl<'a> Contender<'a> {
    /// Ours: `run` works on `state` and is timed; `answer` says what came out and is not.
    pub(crate) fn ours<S: 'a>(
        name: impl Into<String>,
        state: S,
        run: impl FnMut(&mut S) -> Result<()> + 'a,
        answer: impl FnMut(&S) -> Result<Answer> + 'a,
    ) -> Contender<'a> {
        Contender {
            name: name.into(),
            build: None,
            body: Box::new(Parts { state, run, answer }),
        }
    }

    /// The same of a peer, whose version and flags are `build`.
    pub(crate) fn peer<S: 'a>(
        name: impl Into<String>,
        build: String,
        state: S,
        run: impl FnMut(&mut S) -> Result<()> + 'a,
        answer: impl FnMut(&S) -> Result<Answer> + 'a,
    ) -> Contender<'a> {
        Contender {
            build: Some(build),
            ..Contender::ours(name, state, run, answer)
        }
    }
}

/// What a run computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Bytes that all contenders must agree on.
    Bytes(Vec<u8>),
    /// Checked where it was made: a proof, which differs each time and was verified.
    Verified,
}

trait Body {
    fn run(&mut self) -> Result<()>;
    fn answer(&mut self) -> Result<Answer>;
}

struct Parts<S, R, A> {
    state: S,
    run: R,
    answer: A,
}

impl<S, R, A> Body for Parts<S, R, A>
where
    R: FnMut(&mut S) -> Result<()>,
    A: FnMut(&S) -> Result<Answer>,
{
    fn run(&mut self) -> Result<()> {
        (self.run)(&mut self.state)
    }

    fn answer(&mut self) -> Result<Answer> {
        (self.answer)(&self.state)
    }
}

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    /// At least so many rounds are counted.
    pub(crate) min: usize,
    /// At most so many.
    pub(crate) max: usize,
    /// After the least, no round begins once this has passed.
    pub(crate) budget: Duration,
}

/// The counted runs of one contender, in order.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    pub(crate) name: String,
    pub(crate) build: Option<String>,
    pub(crate) times: Vec<Times>,
}

/// Lets the contenders take turns. In every round each must give the answer that the first one
/// gave: a contender that computes something else is refused, for its time means nothing.
pub(crate) fn duel(contenders: Vec<Contender<'_>>, rounds: Rounds) -> Result<Vec<Runs>> {
    take_turns(contenders, rounds, &mut |_, error| Err(error))
}

/// The same, but a peer that is refused, or fails, falls out with all its runs, and the others go
/// on: for machines that are there for an hour. `fallen` is told which one and why.
pub(crate) fn duel_with_guests(
    contenders: Vec<Contender<'_>>,
    rounds: Rounds,
    fallen: &mut dyn FnMut(&str, &anyhow::Error),
) -> Result<Vec<Runs>> {
    take_turns(contenders, rounds, &mut |contender, error| {
        if contender.build.is_none() {
            return Err(error);
        }
        fallen(&contender.name, &error);
        Ok(())
    })
}

/// `falls` says of one that may not go on whether the others do.
fn take_turns(
    contenders: Vec<Contender<'_>>,
    rounds: Rounds,
    falls: &mut dyn FnMut(&Contender<'_>, anyhow::Error) -> Result<()>,
) -> Result<Vec<Runs>> {
    let mut all: Vec<(Contender<'_>, Runs)> = contenders
        .into_iter()
        .map(|contender| {
            let runs = Runs {
                name: contender.name.clone(),
                build: contender.build.clone(),
                times: vec![],
            };
            (contender, runs)
        })
        .collect();
    let mut start = Instant::now();
    for round in 0..=rounds.max.max(rounds.min) {
        if round > rounds.min && start.elapsed() >= rounds.budget {
            break;
        }
        let mut reference: Option<Answer> = None;
        let mut stay = Vec::with_capacity(all.len());
        for (mut contender, mut runs) in all {
            match contender.turn(round, &mut reference) {
                Ok(times) => {
                    if round > 0 {
                        runs.times.push(times);
                    }
                    stay.push((contender, runs));
                }
                Err(error) => falls(&contender, error)?,
            }
        }
        all = stay;
        if round == 0 {
            start = Instant::now();
        }
    }
    Ok(all.into_iter().map(|(_, runs)| runs).collect())
}

impl Contender<'_> {
    fn turn(&mut self, round: usize, reference: &mut Option<Answer>) -> Result<Times> {
        let name = &self.name;
        let (times, ()) = timed(|| self.body.run()).with_context(|| name.clone())?;
        let answer = self.body.answer().with_context(|| name.clone())?;
        ensure!(
            *reference.get_or_insert_with(|| answer.clone()) == answer,
            "{name} is refused: its result in round {round} differs from the first contender's"
        );
        Ok(times)
    }
}

/// A median and the quartiles around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of some values; all zero for none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Spread {
            low: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            high: quantile(&sorted, 0.75),
        }
    }
}

impl Runs {
    /// CPU seconds of a run.
    pub(crate) fn cpu(&self) -> Spread {
        Spread::of(self.times.iter().map(|t| t.cpu.as_secs_f64()))
    }

    /// Wall seconds of a run.
    pub(crate) fn wall(&self) -> Spread {
        Spread::of(self.times.iter().map(|t| t.wall.as_secs_f64()))
    }

    /// CPU seconds of this one over those of `other`, round by round.
    pub(crate) fn cpu_ratio(&self, other: &Runs) -> Spread {
        self.ratio(other, |t| t.cpu.as_secs_f64())
    }

    /// Wall seconds of this one over those of `other`, round by round.
    pub(crate) fn wall_ratio(&self, other: &Runs) -> Spread {
        self.ratio(other, |t| t.wall.as_secs_f64())
    }

    fn ratio(&self, other: &Runs, of: impl Fn(&Times) -> f64) -> Spread {
        Spread::of(
            self.times
                .iter()
                .zip(&other.times)
                .map(|(a, b)| of(a) / of(b).max(1e-12)),
        )
    }
}

/// Linear between the two nearest of sorted values.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let at = q * last as f64;
    let (below, share) = (at.floor() as usize, at.fract());
    sorted[below] + (sorted[(below + 1).min(last)] - sorted[below]) * share
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn contender<'a>(
        name: &'static str,
        order: &'a RefCell<String>,
        answer: impl Fn(usize) -> u8 + 'a,
    ) -> Contender<'a> {
        Contender::ours(
            name,
            0,
            move |runs: &mut usize| {
                *runs += 1;
                order.borrow_mut().push_str(name);
                Ok(())
            },
            move |&runs| Ok(Answer::Bytes(vec![answer(runs)])),
        )
    }

    const THREE: Rounds = Rounds {
        min: 3,
        max: 3,
        budget: Duration::ZERO,
    };

    #[test]
    fn they_take_turns_after_one_round_that_does_not_count() {
        let order = RefCell::new(String::new());
        let runs = duel(
            vec![contender("a", &order, |_| 1), contender("b", &order, |_| 1)],
            THREE,
        )
        .expect("they agree");
        assert_eq!(*order.borrow(), "abababab");
        assert_eq!(
            runs.iter().map(|r| r.times.len()).collect::<Vec<_>>(),
            [3, 3]
        );
    }

    #[test]
    fn who_computes_something_else_is_refused() {
        for wrong_from in [1, 3] {
            let order = RefCell::new(String::new());
            let wrong = contender("b", &order, |run| u8::from(run >= wrong_from));
            let error = duel(vec![contender("a", &order, |_| 0), wrong], THREE)
                .expect_err("they differ from some round on");
            let expected = format!("b is refused: its result in round {}", wrong_from - 1);
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_guest_that_computes_something_else_or_fails_falls_out_alone() {
        let order = RefCell::new(String::new());
        let guest = |name: &'static str, wrong_from: usize| Contender {
            build: Some("a build".to_owned()),
            ..contender(name, &order, move |run| u8::from(run >= wrong_from))
        };
        let fails = Contender::peer(
            "f",
            "a build".to_owned(),
            (),
            |()| anyhow::bail!("no device"),
            |()| Ok(Answer::Verified),
        );
        let host = contender("a", &order, |_| 0);
        let mut said = Vec::new();
        let runs = duel_with_guests(
            vec![host, guest("b", 3), fails, guest("c", 9)],
            THREE,
            &mut |_, error| said.push(format!("{error:#}")),
        )
        .expect("the host is well");
        let left: Vec<(&str, usize)> = runs.iter().map(|r| (&*r.name, r.times.len())).collect();
        assert_eq!(left, [("a", 3), ("c", 3)]);
        assert_eq!(*order.borrow(), "abcabcabcac");
        assert_eq!(said[0], "f: no device");
        assert!(said[1].starts_with("b is refused"), "{said:?}");
        // The host is no guest.
        let wrong = contender("a", &order, |run| u8::from(run > 1));
        let other = contender("b", &order, |_| 0);
        assert!(duel_with_guests(vec![other, wrong], THREE, &mut |_, _| ()).is_err());
    }

    #[test]
    fn answers_may_change_from_round_to_round_for_all_alike() {
        let order = RefCell::new(String::new());
        let evolving = || contender("a", &order, |run| run as u8);
        assert!(duel(vec![evolving(), evolving()], THREE).is_ok());
    }

    #[test]
    fn the_budget_ends_the_rounds_but_not_before_the_least() {
        let order = RefCell::new(String::new());
        let rounds = Rounds {
            min: 2,
            max: 1000,
            budget: Duration::ZERO,
        };
        let runs = duel(vec![contender("a", &order, |_| 1)], rounds).expect("alone");
        assert_eq!(runs[0].times.len(), 2);
    }

    #[test]
    fn medians_and_quartiles() {
        let spread = Spread::of([5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(
            spread,
            Spread {
                low: 2.0,
                median: 3.0,
                high: 4.0
            }
        );
        assert_eq!(
            Spread::of([1.0, 2.0]),
            Spread {
                low: 1.25,
                median: 1.5,
                high: 1.75
            }
        );
        assert_eq!(
            Spread::of([7.0]),
            Spread {
                low: 7.0,
                median: 7.0,
                high: 7.0
            }
        );
        assert_eq!(
            Spread::of([]),
            Spread {
                low: 0.0,
                median: 0.0,
                high: 0.0
            }
        );
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let runs = |cpu: [u64; 3]| Runs {
            name: String::new(),
            build: None,
            times: cpu
                .map(|ms| Times {
                    cpu: Duration::from_millis(ms),
                    wall: Duration::from_millis(1),
                })
                .to_vec(),
        };
        // A machine that slows down tenfold in the middle: each round still says one half.
        let (a, b) = (runs([10, 100, 10]), runs([20, 200, 20]));
        assert_eq!(a.cpu_ratio(&b).median, 0.5);
        assert_eq!(a.cpu_ratio(&b).high, 0.5);
        assert_eq!(a.wall_ratio(&b).median, 1.0);
    }
}
