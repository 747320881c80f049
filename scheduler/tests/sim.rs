//! The deciders under invented time: small boxes on which everything goes wrong, by the thousand; a
//! permanent peak; the same jobs with and without the arbiter; and the program.

use std::path::PathBuf;
use std::process::{Command, Output};

use caldera_scheduler::queue::Work;
use caldera_scheduler::sim::baseline::{fifo, partition};
use caldera_scheduler::sim::chaos;
use caldera_scheduler::sim::machine::{Inventory, SimulatedBox};
use caldera_scheduler::sim::pattern::{Mix, mixed};
use caldera_scheduler::sim::play::{Setup, play};
use caldera_scheduler::sim::report::units_at;
use caldera_scheduler::sim::trace::{DEVICE_HEADER, HEADER, Trace};
use caldera_scheduler::{Nanos, Policy};

const CLASSES: [&str; 4] = ["financial", "supply_chain", "retail", "social"];
const SOCIAL: usize = 3;

fn setup(units: u32) -> Setup {
    let mut classes = Policy::standard().classes().to_vec();
    for class in &mut classes {
        class.prepared_max = 16;
    }
    Setup {
        inventory: Inventory::cores(units),
        policy: Policy::new(classes, *Policy::standard().limits()).expect("a policy"),
        parallelism: 4,
        tables: vec![],
        witness: 0,
        preparation: Nanos::from_millis(1),
        tick_gap: Nanos::ZERO,
        seed: 1,
        checks: false,
        faults: vec![],
    }
}

#[test]
fn whatever_goes_wrong_every_property_holds() {
    let (mut ended, mut lost, mut used) = (0, 0, 0);
    for seed in 0..SEEDS {
        match chaos::run(seed) {
            Ok(outcome) => {
                let counters = &outcome.reallocations.counters;
                ended += counters.proved;
                lost += counters.lost;
                used += u64::from(outcome.device_time > 0);
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(ended > 50 * SEEDS, "{ended} jobs are too few to show much");
    assert!(lost > SEEDS / 20, "{lost} devices were lost");
    assert!(used > SEEDS / 3, "{used} boxes used their devices");
}

#[test]
fn a_seed_says_everything() {
    for seed in 0..20 {
        assert_eq!(chaos::run(seed), chaos::run(seed));
    }
}

/// All the others want more than the box, without end. The social tenant wants less than its
/// guarantee, and no job of it waits longer than its bound.
#[test]
fn no_job_of_the_lowest_class_waits_beyond_its_bound_under_a_permanent_peak() {
    let mut text = format!("{HEADER}\n");
    for second in 0..30 {
        text += &format!("{second},f,financial,20,0.2\n{second},c,supply_chain,20,0.2\n");
        text += &format!("{second},r,retail,20,0.2\n{second},s,social,1,0.04\n");
    }
    let trace = Trace::read(&text, &CLASSES).expect("a series");
    let setup = Setup {
        checks: true,
        ..setup(4)
    };
    let bound = setup.policy.classes()[SOCIAL].ageing_max;
    let outcome = play(&trace, &setup, &mut |_| {}).expect("every property");
    let social = &outcome.classes[SOCIAL];
    assert_eq!((social.jobs, social.late_jobs), (30, 0));
    assert!(
        social.waits.max() <= bound.as_micros(),
        "{}",
        social.waits.max()
    );
    // It was a peak: the others waited, and nothing stood idle until the end.
    assert!(outcome.classes[0].late_jobs > 100);
    assert!(outcome.utilisation() > 0.97, "{}", outcome.utilisation());
}

/// A day of the mix, made short: three quarters of the joint peak do the same work with next to
/// nothing late, where first come, first served makes much of it wait.
#[test]
fn a_smaller_box_does_the_same_work() {
    let mix = Mix {
        seed: 1,
        step: Nanos::from_secs(10),
        steps: 240,
        cores: 24.0,
        tenants: 2,
    };
    let trace = mixed(&mix, &CLASSES);
    let setup = setup(units_at(&trace, 0.75));
    let valuable = |class| class != SOCIAL;
    let ours = play(&trace, &setup, &mut |_| {}).expect("all jobs end");
    let (policy, parallelism, seed) = (&setup.policy, setup.parallelism, setup.seed);
    let queue = fifo(&trace, setup.inventory.cores, parallelism, seed, policy);
    let parts = partition(&trace, parallelism, seed, policy);
    for outcome in [&ours, &queue, &parts] {
        let jobs: u64 = outcome.classes.iter().map(|class| class.jobs).sum();
        assert_eq!(jobs, trace.jobs(), "the same finite work");
    }
    let (used, before) = (ours.utilisation(), parts.utilisation());
    assert!(used > before + 0.25, "{used} of the box, {before} in parts");
    assert!(
        ours.late_share(valuable) < 0.2 * queue.late_share(valuable),
        "{} late, {} without the arbiter",
        ours.late_share(valuable),
        queue.late_share(valuable)
    );
    assert_eq!(ours.reallocations.over, 0);
    assert!(ours.reallocations.spans.max() < 100_000);
}

/// One job, half of it such that a device can do it four times as fast as a core.
#[test]
fn a_device_is_a_kind_of_its_own() {
    let text = format!("{DEVICE_HEADER}\n0,a,financial,1,4,2\n");
    let trace = Trace::read(&text, &CLASSES).expect("a series");
    let on = |devices| {
        let inventory = Inventory {
            devices,
            device_speed: 4,
            device_memory: 1,
            ..Inventory::cores(1)
        };
        let setup = Setup {
            inventory,
            parallelism: 1,
            checks: true,
            ..setup(1)
        };
        play(&trace, &setup, &mut |_| {}).expect("every property")
    };
    let (without, with) = (on(0), on(1));
    assert_eq!(without.device_utilisation(), None);
    // Two seconds of the core, beside which the device works for half of one.
    let saved = without.horizon.since(with.horizon);
    let least = Nanos::from_millis(1_990);
    assert!(saved > least && saved <= Nanos::from_secs(2), "{saved}");
    assert_eq!((with.on_devices, without.on_devices), (2_000_000_000, 0));
    assert_eq!(with.device_time, 500_000_000);
    let horizon = with.horizon.0 as f64;
    assert_eq!(with.device_utilisation(), Some(5e8 / horizon));
    assert_eq!(with.utilisation(), 2e9 / horizon);
}

/// A device is lost in the midst of a job: its quantum is made again by a core, it is nobody's from then
/// on, and what it did not do is done without it.
#[test]
fn a_job_ends_without_the_device_that_it_began_on() {
    let inventory = Inventory {
        devices: 1,
        device_speed: 4,
        device_memory: 1,
        ..Inventory::cores(1)
    };
    let mut simulated = SimulatedBox::of(inventory, Policy::standard());
    simulated.join(1, "social");
    let work = Work {
        core: Nanos::from_secs(4),
        parallelism: 1,
        devices: 1,
        device_memory: 1,
        host_memory: 0,
    };
    assert!(simulated.submit_work(1, 1, work, Nanos::from_secs(3), None));
    simulated.run(Nanos::from_millis(100));
    assert_eq!(simulated.owners(), [Some(1), Some(1)]);
    simulated.lose(1);
    simulated.run(Nanos::from_millis(1));
    assert_eq!(simulated.owners(), [Some(1), None]);
    simulated.run(Nanos::from_secs(2));
    assert_eq!((simulated.unfinished(), simulated.counters().lost), (1, 1));
    simulated.mend(1);
    simulated.run(Nanos::from_millis(1));
    assert_eq!(simulated.owners(), [Some(1), Some(1)]);
    simulated.run(Nanos::from_secs(2));
    assert_eq!(simulated.unfinished(), 0);
    assert_eq!(simulated.counters().proved, 1);
}

#[test]
fn the_program_generates_converts_and_plays() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = |name: &str| folder.join(name).display().to_string();
    let requests = "t_s,reqs_a,reqs_b\n-1,3,1\n0,0,2\n1,5,2\n";
    std::fs::write(path("requests.csv"), requests).expect("a file");
    let (series, json, svg) = (path("series.csv"), path("report.json"), path("report.svg"));
    let series_a = [
        "--series",
        "reqs_a=financial:0.5",
        "--series",
        "reqs_b=social:1",
    ];
    let mut arguments = vec!["convert", "REQUESTS", "-o", &series];
    arguments.extend(series_a);
    let requests = path("requests.csv");
    arguments[1] = &requests;
    succeeds(&arguments);
    let written = std::fs::read_to_string(&series).expect("the series");
    assert!(written.starts_with(HEADER) && written.ends_with("2,reqs_b,social,2,1\n"));

    let table = succeeds(&[
        "run", &series, "--peak", "4", "--ratios", "0.5,1", "--check", "--faults", "2", "--json",
        &json, "--svg", &svg,
    ]);
    assert!(table.contains("fixed partition"), "{table}");
    let report = std::fs::read_to_string(&json).expect("the report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["points"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["trace"]["jobs"], 13);
    let drawing = std::fs::read_to_string(&svg).expect("the drawing");
    assert!(drawing.contains("the bound: 100 ms") && drawing.ends_with("</svg>\n"));

    let mut arguments = vec!["generate", "retail", "--hours", "0.1", "--step-s", "1"];
    let generated = succeeds(&arguments);
    assert!(Trace::read(&generated, &CLASSES).is_ok());
    arguments.extend(["--device-part", "0.5"]);
    assert!(succeeds(&arguments).starts_with(DEVICE_HEADER));
    let table = succeeds(&[
        "run",
        "--hours",
        "0.05",
        "--step-s",
        "1",
        "--cores",
        "4",
        "--ratios",
        "1",
        "--devices",
        "2",
        "--device-part",
        "0.5",
        "--check",
    ]);
    assert!(table.contains("2 devices, used "), "{table}");
    assert!(succeeds(&["seeds", "--from", "7", "--count", "3"]).contains("3 seeds"));
}

#[test]
fn the_program_runs_epochs_on_the_ledger() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = |name: &str| folder.join(name).display().to_string();
    let (json, svg) = (path("economy.json"), path("economy.svg"));
    let table = succeeds(&[
        "economy", "--epochs", "200", "--seed", "5", "--seeds", "2", "--users", "12", "--json",
        &json, "--svg", &svg,
    ]);
    assert!(table.contains("seed 5: 200 epochs") && table.contains("seed 6: 200 epochs"));
    assert!(table.contains("Assumed, not measured") && table.contains("honest twin"));
    let reports = std::fs::read_to_string(&json).expect("the reports");
    let reports: serde_json::Value = serde_json::from_str(&reports).expect("JSON");
    assert_eq!(reports[1]["epochs"], 200);
    // Amounts are strings, whole to the last unit.
    let paid = reports[0]["months"][0]["nodes"].as_str().expect("a string");
    assert!(paid.parse::<u128>().expect("units") > 1_000_000_000_000_000_000);
    let drawing = std::fs::read_to_string(&svg).expect("the drawing");
    assert!(drawing.contains("ERA paid, by month") && drawing.ends_with("</svg>\n"));

    let policy = path("poor.toml");
    std::fs::write(&policy, "epoch = 1\n").expect("a file");
    assert!(fails(&["economy", "--policy", &policy]).contains("poor.toml"));
    assert!(fails(&["economy", "--cores", "nan"]).contains("--cores"));
}

/// What others counted is converted, and its peak is the one that is told of it.
#[test]
fn a_series_that_nobody_here_made_is_converted() {
    let counted = concat!(env!("CARGO_MANIFEST_DIR"), "/traces/azure-llm-2023.csv");
    let converted = succeeds(&[
        "convert",
        counted,
        "--series",
        "reqs_code=financial:4",
        "--series",
        "reqs_conv=retail:4",
    ]);
    let trace = Trace::read(&converted, &CLASSES).expect("a series");
    assert_eq!(trace.jobs(), 28_185);
    let of_code = |class: usize| CLASSES[class] == "financial";
    let demand = trace.demand(of_code);
    let mean = demand.iter().sum::<f64>() / demand.len() as f64;
    let over = trace.peak(of_code) / mean;
    assert!((26.0..28.0).contains(&over), "{over}");
}

/// A box of the joint peak is never used to four fifths by a mix, however small.
#[test]
fn a_bar_that_is_reached_nowhere_is_an_error_if_asked_for() {
    let arguments = [
        "run", "--hours", "0.05", "--step-s", "1", "--cores", "4", "--ratios", "4",
    ];
    assert!(succeeds(&arguments).contains("capacity"));
    let gated = [&arguments[..], &["--gate"]].concat();
    let said = fails(&gated);
    assert!(
        said.contains("expected a size at which 80 % is used"),
        "{said}"
    );
}

#[test]
fn the_program_says_what_is_wrong_with_a_series() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hole.csv");
    let text = format!("{HEADER}\n0,a,social,1,1\n1,a,social,1,1\n3,a,social,1,1\n");
    std::fs::write(&path, text).expect("a file");
    let said = fails(&["run", &path.display().to_string()]);
    let expected = "line 4, column t_s: a hole in time: expected 1 or 2, got \"3\"";
    assert!(said.contains(expected), "{said}");
    assert!(fails(&["run", "--ratios", "nan"]).contains("--ratios"));
    assert!(fails(&["run", "nowhere.csv"]).contains("nowhere.csv"));
    assert!(fails(&["generate", "coffee"]).contains("expected mixed"));
    assert!(fails(&["convert", "x", "--series", "a"]).contains("COLUMN=SCENARIO"));
}

fn sim(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_sim");
    let output = Command::new(program).args(arguments).output();
    output.expect("the program starts")
}

fn succeeds(arguments: &[&str]) -> String {
    let output = sim(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn fails(arguments: &[&str]) -> String {
    let output = sim(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// As many as take well below a minute.
const SEEDS: u64 = 2_000;
