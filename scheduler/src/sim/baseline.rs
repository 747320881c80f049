//! What a box without an arbiter makes of the same jobs: first come, first served.
//!
//! As favourable to it as it can be: a job takes as many free cores as it can use, and takes more
//! when they come free; nothing is lost between jobs. On a pool that all share ([`fifo`]), or on one
//! pool for each class, as large as the class's own peak ([`partition`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use crate::Nanos;
use crate::scenario::Policy;
use crate::sim::outcome::Outcome;
use crate::sim::trace::{Arrival, Trace};

/// All jobs on one pool, in order of arrival.
pub fn fifo(trace: &Trace, units: u32, parallelism: u32, seed: u64, policy: &Policy) -> Outcome {
    serve(trace, |_| true, units, parallelism, seed, policy)
}

/// Each class on a pool of its own, in order of arrival.
pub fn partition(trace: &Trace, parallelism: u32, seed: u64, policy: &Policy) -> Outcome {
    let mut all = Outcome::new(0, policy);
    for class in 0..policy.classes().len() {
        let peak = trace.peak(|c| c == class);
        if peak > 0.0 {
            let of = |c| c == class;
            all.add(&serve(trace, of, cores(peak), parallelism, seed, policy));
        }
    }
    all
}

/// Whole cores for a demand. What is over by rounding alone is nothing.
pub fn cores(demand: f64) -> u32 {
    ((demand - 1e-9).ceil() as u32).max(1)
}

/// A job that has cores.
struct Running {
    arrival: Arrival,
    left: Nanos,
    cores: u32,
    /// `left` was right then.
    at: Nanos,
    ends: Nanos,
}

fn serve(
    trace: &Trace,
    of: impl Fn(usize) -> bool,
    units: u32,
    parallelism: u32,
    seed: u64,
    policy: &Policy,
) -> Outcome {
    let class = |arrival: &Arrival| trace.tenants()[usize::from(arrival.tenant)].class;
    let mut outcome = Outcome::new(units, policy);
    let mut free = units;
    let mut numbers = 0u64..;
    let mut running: BTreeMap<u64, Running> = BTreeMap::new();
    // Running with fewer cores than they could use.
    let mut thin: BTreeSet<u64> = BTreeSet::new();
    let mut waiting: VecDeque<Arrival> = VecDeque::new();
    let mut ends: BinaryHeap<Reverse<(Nanos, u64)>> = BinaryHeap::new();
    let mut arrivals = trace.arrivals(seed).filter(|a| of(class(a))).peekable();
    let mut last_end = Nanos::ZERO;
    loop {
        let end = ends.peek().map(|&Reverse((at, _))| at);
        let arrival = arrivals.peek().map(|arrival| arrival.at);
        let Some(now) = end.into_iter().chain(arrival).min() else {
            break;
        };
        if end == Some(now) {
            let Some(Reverse((_, number))) = ends.pop() else {
                break;
            };
            // A job that got more cores since has another end.
            if running.get(&number).is_none_or(|job| job.ends != now) {
                continue;
            }
            if let Some(job) = running.remove(&number) {
                thin.remove(&number);
                free += job.cores;
                last_end = now;
                outcome.classes[class(&job.arrival)].ended(job.arrival.service);
            }
        } else {
            waiting.extend(arrivals.next());
        }

        while free > 0 {
            let number = match thin.first() {
                Some(&number) => number,
                None => {
                    let Some((arrival, number)) = waiting.pop_front().zip(numbers.next()) else {
                        break;
                    };
                    let waited = now.since(arrival.at);
                    outcome.classes[class(&arrival)].started(arrival.service, waited);
                    let job = Running {
                        arrival,
                        left: arrival.service,
                        cores: 0,
                        at: now,
                        ends: Nanos::MAX,
                    };
                    running.insert(number, job);
                    number
                }
            };
            let Some(job) = running.get_mut(&number) else {
                break;
            };
            let flowed = now.since(job.at).0.saturating_mul(u64::from(job.cores));
            (job.left, job.at) = (job.left.since(Nanos(flowed)), now);
            let more = free.min(parallelism - job.cores);
            (job.cores, free) = (job.cores + more, free - more);
            job.ends = now.plus(Nanos(job.left.0.div_ceil(u64::from(job.cores))));
            ends.push(Reverse((job.ends, number)));
            if job.cores < parallelism {
                thin.insert(number);
            } else {
                thin.remove(&number);
            }
        }
    }
    outcome.horizon = last_end.max(trace.duration());
    outcome
}
