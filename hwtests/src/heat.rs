//! Power and heat while the box works: temperatures and power by the kernel's own sensors and by
//! NVIDIA's tool, noted once a second beside the work.
//!
//! A fan that stands still shows in minutes of full work and in nothing else.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::gpu;
use crate::host::Host;
use crate::report::{Finding, Line, Plot, Verdict};

/// Does `work`, and says what it came to and what the sensors said meanwhile.
pub(crate) fn beside<T>(host: &Host, work: impl FnOnce() -> T) -> (T, Result<Finding>) {
    let before = throttles(host);
    let (stop, stopped) = channel::<()>();
    std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let start = Instant::now();
            let mut watch = Watch::default();
            let mut energy = Energy::read(host);
            loop {
                let at = start.elapsed().as_secs_f64();
                for (name, celsius, limit) in temperatures(host) {
                    watch.temperature(at, name, celsius, limit);
                }
                for gpu in gpu::read().unwrap_or_default() {
                    let name = format!("gpu {}", gpu.uuid);
                    if let Some(celsius) = gpu.celsius {
                        watch.temperature(at, name.clone(), celsius, None);
                    }
                    if let Some(watts) = gpu.watts {
                        watch.power(at, name, watts);
                    }
                }
                let now = Energy::read(host);
                for (name, watts) in now.since(&energy) {
                    watch.power(at, name, watts);
                }
                energy = now;
                match stopped.recv_timeout(PERIOD) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return watch,
                }
            }
        });
        let done = work();
        drop(stop);
        let finding = match watch.join() {
            Ok(watch) => Ok(watch.judge(throttles(host).saturating_sub(before))),
            Err(_) => Err(anyhow::anyhow!(
                "the thread that reads the sensors panicked"
            )),
        };
        (done, finding)
    })
}

/// What was read, by sensor.
#[derive(Default)]
struct Watch {
    celsius: BTreeMap<String, Vec<(f64, f64)>>,
    limits: BTreeMap<String, f64>,
    watts: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Watch {
    fn temperature(&mut self, at: f64, name: String, celsius: f64, limit: Option<f64>) {
        if let Some(limit) = limit {
            self.limits.insert(name.clone(), limit);
        }
        self.celsius.entry(name).or_default().push((at, celsius));
    }

    fn power(&mut self, at: f64, name: String, watts: f64) {
        self.watts.entry(name).or_default().push((at, watts));
    }

    /// The hottest against what each may be, and the times that a processor was slowed down.
    fn judge(self, throttled: i64) -> Finding {
        if self.celsius.is_empty() && self.watts.is_empty() {
            return Finding::skip("no sensor of heat or power can be read here");
        }
        let top = |points: &[(f64, f64)]| points.iter().fold(f64::MIN, |top, it| top.max(it.1));
        let mut verdict = Verdict::Pass;
        let mut parts = Vec::new();
        for (name, points) in &self.celsius {
            let top = top(points);
            let Some(&limit) = self.limits.get(name) else {
                continue;
            };
            if top >= limit {
                verdict = Verdict::Fail;
                parts.push(format!("{name} at {top:.0} of {limit:.0} degrees"));
            } else if top >= limit - NEAR {
                verdict = verdict.max(Verdict::Warn);
                parts.push(format!("{name} at {top:.0} of {limit:.0} degrees"));
            }
        }
        if throttled > 0 {
            verdict = Verdict::Fail;
            parts.push(format!(
                "slowed down by heat {throttled} times while it worked"
            ));
        }
        let hottest = self.celsius.values().map(|points| top(points));
        let hottest = hottest.fold(f64::MIN, f64::max);
        if parts.is_empty() {
            parts.push(if self.celsius.is_empty() {
                "no sensor of heat".to_owned()
            } else {
                format!(
                    "{hottest:.0} degrees at the hottest of {}",
                    self.celsius.len()
                )
            });
        }
        for (name, points) in &self.watts {
            parts.push(format!("{name} {:.0} W at most", top(points)));
        }
        let lines = |of: BTreeMap<String, Vec<(f64, f64)>>| -> Vec<Line> {
            of.into_iter()
                .map(|(name, points)| Line { name, points })
                .collect()
        };
        let plot = |title, y, lines: Vec<Line>| Plot {
            title,
            x: "s",
            y,
            log: false,
            bound: None,
            lines,
        };
        Finding::new(verdict, parts.join("; "))
            .figure("throttled", throttled)
            .figure("celsius_max", hottest)
            .plot(plot("heat", "degrees Celsius", lines(self.celsius)))
            .plot(plot("power", "W", lines(self.watts)))
    }
}

/// Name, degrees, and the degrees at which the sensor's own chip calls it too hot.
fn temperatures(host: &Host) -> Vec<(String, f64, Option<f64>)> {
    let mut all = Vec::new();
    for chip in host.names("/sys/class/hwmon") {
        let folder = format!("/sys/class/hwmon/{chip}");
        let name = host
            .text(&format!("{folder}/name"))
            .unwrap_or_else(|| chip.clone());
        for file in host.names(&folder) {
            let Some(sensor) = file
                .strip_suffix("_input")
                .filter(|sensor| sensor.starts_with("temp"))
            else {
                continue;
            };
            let read = |part: &str| host.number(&format!("{folder}/{sensor}_{part}"));
            let Some(millidegrees) = read("input") else {
                continue;
            };
            let label = host.text(&format!("{folder}/{sensor}_label"));
            let label = label.unwrap_or_else(|| sensor.to_owned());
            let limit = read("crit").or_else(|| read("max")).filter(|&it| it > 0);
            all.push((
                format!("{chip} {name} {label}"),
                millidegrees as f64 / 1e3,
                limit.map(|limit| limit as f64 / 1e3),
            ));
        }
    }
    all
}

/// Times that any processor was slowed down by heat.
fn throttles(host: &Host) -> i64 {
    let count = |cpu: &usize| {
        host.number(&format!(
            "/sys/devices/system/cpu/cpu{cpu}/thermal_throttle/core_throttle_count"
        ))
    };
    host.online().iter().filter_map(count).sum()
}

/// Counters of energy of the processors' packages.
struct Energy {
    at: Instant,
    microjoules: BTreeMap<String, i64>,
}

impl Energy {
    fn read(host: &Host) -> Energy {
        let folder = "/sys/class/powercap";
        let zone = |name: String| {
            // "intel-rapl:0" is a package, "intel-rapl:0:1" a part of it.
            let number = name.strip_prefix("intel-rapl:")?;
            if number.contains(':') {
                return None;
            }
            let label = host.text(&format!("{folder}/{name}/name"))?;
            let energy = host.number(&format!("{folder}/{name}/energy_uj"))?;
            Some((label, energy))
        };
        Energy {
            at: Instant::now(),
            microjoules: host.names(folder).into_iter().filter_map(zone).collect(),
        }
    }

    /// Watts since an earlier reading; none for a counter that began anew meanwhile.
    fn since(&self, before: &Energy) -> Vec<(String, f64)> {
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let watts = |(name, now): (&String, &i64)| {
            let used = now - before.microjoules.get(name)?;
            (used > 0 && seconds > 0.0).then(|| (name.clone(), used as f64 / 1e6 / seconds))
        };
        self.microjoules.iter().filter_map(watts).collect()
    }
}

/// As often as sensors change.
const PERIOD: Duration = Duration::from_secs(1);

/// Degrees below the limit at which somebody should look at the fans.
const NEAR: f64 = 5.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(millidegrees: i64, throttled: i64) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder of our own");
        let write = |path: &str, text: String| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("inside it");
            std::fs::write(path, text).expect("inside it");
        };
        let chip = "sys/class/hwmon/hwmon0";
        write(&format!("{chip}/name"), "k10temp\n".to_owned());
        write(&format!("{chip}/temp1_input"), format!("{millidegrees}\n"));
        write(&format!("{chip}/temp1_crit"), "95000\n".to_owned());
        write("sys/devices/system/cpu/online", "0\n".to_owned());
        write(
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
            format!("{throttled}\n"),
        );
        root
    }

    #[test]
    fn heat_is_judged_by_the_sensors_own_limit() {
        for (millidegrees, verdict) in [
            (60_000, Verdict::Pass),
            (91_000, Verdict::Warn),
            (95_000, Verdict::Fail),
        ] {
            let root = machine(millidegrees, 3);
            let ((), finding) = beside(&Host::at(root.path()), || ());
            let finding = finding.expect("a thread that ends");
            assert_eq!(finding.verdict, verdict, "{}", finding.reason);
        }
    }

    #[test]
    fn a_processor_that_was_slowed_down_meanwhile_fails() {
        let root = machine(60_000, 3);
        let count = "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count";
        let ((), finding) = beside(&Host::at(root.path()), || {
            std::fs::write(root.path().join(count), "5\n").expect("inside it");
        });
        let finding = finding.expect("a thread that ends");
        assert_eq!(finding.verdict, Verdict::Fail, "{}", finding.reason);
        assert_eq!(finding.figures["throttled"], 2);
    }

    #[test]
    fn energy_becomes_power() {
        let at = Instant::now();
        let of = |seconds, energy| Energy {
            at: at + Duration::from_secs(seconds),
            microjoules: BTreeMap::from([("package-0".to_owned(), energy)]),
        };
        let watts = of(2, 500_000_000).since(&of(0, 100_000_000));
        assert_eq!(watts, [("package-0".to_owned(), 200.0)]);
        assert!(of(2, 5).since(&of(0, 100)).is_empty());
    }
}
