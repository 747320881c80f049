//! Series that look like four kinds of chains, from a seed.
//!
//! One day each, however long it is made to last, and of mean 1 before it is scaled:
//!
//! - **financial**: little at night, more in the session; heavy-tailed from step to step, with
//!   bursts that decay within a few steps, the highest of them 27 times the mean (as the "code"
//!   series of Azure's public trace of language-model requests peaks at 27 times its own);
//! - **supply chain**: office hours, with a batch at each full hour;
//! - **retail**: a wave with a small crest at noon and a high one in the evening;
//! - **social**: quiet: a shallow wave.
//!
//! The mix gives each class a part of the whole such that a fixed partition, each class at its own
//! peak, is used to about 45 %. The parts were chosen for that figure alone.
//!
//! Chains prove at the pace of their blocks, so arrivals keep to the series: what rounding to whole
//! jobs takes from one step the next one gets. Within a step they come at random times.

use crate::Nanos;
use crate::sim::random::Random;
use crate::sim::trace::{Row, Tenant, Trace};

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// All chance depends on it.
    pub seed: u64,
    /// How long a step is.
    pub step: Nanos,
    /// How many steps the day has; at least 100.
    pub steps: u32,
    /// The mean demand of all classes together, in cores.
    pub cores: f64,
    /// How many tenants each class has.
    pub tenants: u16,
}

/// One class of the mix.
struct Part {
    class: &'static str,
    /// Its part of the whole mean.
    share: f64,
    /// Core time of its jobs.
    service: Nanos,
    /// Its series, of mean 1.
    series: fn(&mut Random, usize) -> Vec<f64>,
}

/// What the highest financial step is over the mean.
pub const FINANCIAL_PEAK: f64 = 27.0;

const PARTS: [Part; 4] = [
    Part {
        class: "financial",
        share: 0.02,
        service: Nanos::from_secs(2),
        series: financial,
    },
    Part {
        class: "supply_chain",
        share: 0.17,
        service: Nanos::from_secs(8),
        series: supply_chain,
    },
    Part {
        class: "retail",
        share: 0.33,
        service: Nanos::from_secs(8),
        series: retail,
    },
    Part {
        class: "social",
        share: 0.48,
        service: Nanos::from_secs(16),
        series: social,
    },
];

/// All four classes together.
pub fn mixed(mix: &Mix, classes: &[&str]) -> Trace {
    generate(mix, classes, &PARTS, 1.0)
}

/// One class alone, with all of the demand; `None` for a class that has no pattern.
pub fn single(mix: &Mix, class: &str, classes: &[&str]) -> Option<Trace> {
    let part = PARTS.iter().position(|part| part.class == class)?;
    let part = &PARTS[part..=part];
    Some(generate(mix, classes, part, part[0].share))
}

/// # Panics
/// If `classes` lacks one of the four, or the day has fewer than 100 steps.
fn generate(mix: &Mix, classes: &[&str], parts: &[Part], whole: f64) -> Trace {
    assert!(mix.steps >= 100, "a day has at least 100 steps");
    let mut random = Random::new(mix.seed);
    let (mut tenants, mut rows) = (vec![], vec![]);
    for part in parts {
        let mut random = random.fork();
        let series = (part.series)(&mut random, mix.steps as usize);
        let Some(class) = classes.iter().position(|&class| class == part.class) else {
            panic!("no class {}", part.class);
        };
        let jobs = mix.cores * part.share / whole * mix.step.0 as f64 / part.service.0 as f64;
        for number in 0..mix.tenants {
            let tenant = tenants.len() as u16;
            tenants.push(Tenant {
                name: format!("{}-{number}", part.class),
                class,
            });
            let mut owed = random.fraction();
            for (step, value) in (0..).zip(&series) {
                owed += jobs * value / f64::from(mix.tenants);
                let arrivals = owed as u32;
                owed -= f64::from(arrivals);
                if arrivals > 0 {
                    let service = part.service;
                    rows.push(Row {
                        step,
                        tenant,
                        arrivals,
                        service,
                        for_devices: Nanos::ZERO,
                    });
                }
            }
        }
    }
    rows.sort_by_key(|row| row.step);
    Trace::of(mix.step, mix.steps, tenants, rows)
}

fn financial(random: &mut Random, steps: usize) -> Vec<f64> {
    let mut series: Vec<f64> = (0..steps)
        .map(|step| {
            let session = bump(hour(step, steps), 12.5, 4.0);
            // Log-normal, of mean 1.
            let noise = (0.6 * random.normal() - 0.18).exp();
            (0.25 + session) * noise
        })
        .collect();
    for _ in 0..24 {
        let at = hour_to_step(9.0 + 7.0 * random.fraction(), steps);
        burst(
            &mut series,
            at,
            2.0 + 10.0 * random.fraction() * random.fraction(),
        );
    }
    let mut series = of_mean_one(series);
    // Below the peak to come, whatever chance has made.
    for value in &mut series {
        *value = value.min(0.7 * FINANCIAL_PEAK);
    }
    // The highest burst, where the market opens: so high that it is 27 times the mean with it.
    let at = hour_to_step(9.5, steps);
    let mean = series.iter().sum::<f64>() / steps as f64;
    let area: f64 = DECAY.iter().sum::<f64>() / steps as f64;
    let height = (FINANCIAL_PEAK * mean - series[at]) / (1.0 - FINANCIAL_PEAK * area);
    burst(&mut series, at, height);
    of_mean_one(series)
}

fn supply_chain(random: &mut Random, steps: usize) -> Vec<f64> {
    let series = (0..steps).map(|step| {
        let hour = hour(step, steps);
        let office = bump(hour, 13.0, 4.5);
        let batch = if hour.fract() < 0.1 { 0.35 } else { 0.0 };
        1.2 + office * (1.0 + batch) + 0.15 * random.normal()
    });
    of_mean_one(series.collect())
}

fn retail(random: &mut Random, steps: usize) -> Vec<f64> {
    let series = (0..steps).map(|step| {
        let hour = hour(step, steps);
        0.9 + 0.4 * bump(hour, 12.5, 2.5) + 0.8 * bump(hour, 19.5, 3.0) + 0.1 * random.normal()
    });
    of_mean_one(series.collect())
}

fn social(random: &mut Random, steps: usize) -> Vec<f64> {
    let series = (0..steps)
        .map(|step| 1.0 + 0.2 * bump(hour(step, steps), 20.5, 4.0) + 0.08 * random.normal());
    of_mean_one(series.collect())
}

/// The hour of the day of a step.
fn hour(step: usize, steps: usize) -> f64 {
    24.0 * step as f64 / steps as f64
}

fn hour_to_step(hour: f64, steps: usize) -> usize {
    (hour / 24.0 * steps as f64) as usize
}

/// One at `centre`, nothing from `width` hours on, round between.
fn bump(hour: f64, centre: f64, width: f64) -> f64 {
    let away = ((hour - centre) / width).abs().min(1.0);
    (0.5 * std::f64::consts::PI * away).cos().powi(2)
}

fn burst(series: &mut [f64], at: usize, height: f64) {
    for (value, decay) in series[at..].iter_mut().zip(DECAY) {
        *value += height * decay;
    }
}

fn of_mean_one(series: Vec<f64>) -> Vec<f64> {
    let series: Vec<f64> = series.into_iter().map(|value| value.max(0.0)).collect();
    let mean = series.iter().sum::<f64>() / series.len() as f64;
    series.into_iter().map(|value| value / mean).collect()
}

/// A burst, step by step.
const DECAY: [f64; 4] = [1.0, 0.5, 0.25, 0.12];

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [&str; 4] = ["financial", "supply_chain", "retail", "social"];
    const MIX: Mix = Mix {
        seed: 1,
        step: Nanos::from_secs(10),
        steps: 8_640,
        cores: 120.0,
        tenants: 4,
    };

    #[test]
    fn the_financial_series_peaks_at_27_times_its_mean() {
        for seed in 1..9 {
            let series = financial(&mut Random::new(seed), 8_640);
            let peak = series.iter().copied().fold(0.0, f64::max);
            assert!((peak - FINANCIAL_PEAK).abs() < 0.3, "{peak}");
        }
    }

    #[test]
    fn a_fixed_partition_of_the_mix_is_used_to_about_45_percent() {
        for seed in 1..5 {
            let trace = mixed(&Mix { seed, ..MIX }, &CLASSES);
            let mean = trace.work() as f64 / trace.duration().0 as f64;
            assert!((mean / MIX.cores - 1.0).abs() < 0.03, "{mean}");
            let peaks: f64 = (0..4).map(|class| trace.peak(|c| c == class)).sum();
            assert!((0.42..0.48).contains(&(mean / peaks)), "{}", mean / peaks);
        }
    }

    #[test]
    fn a_seed_says_everything() {
        assert_eq!(mixed(&MIX, &CLASSES), mixed(&MIX, &CLASSES));
        assert_ne!(
            mixed(&MIX, &CLASSES),
            mixed(&Mix { seed: 2, ..MIX }, &CLASSES)
        );
        let trace = single(&MIX, "retail", &CLASSES).expect("a pattern");
        assert!(trace.tenants().iter().all(|tenant| tenant.class == 2));
        assert_eq!(single(&MIX, "other", &CLASSES), None);
    }
}
