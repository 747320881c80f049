//! The alert rules and the Grafana dashboard name figures that a box exports, by labels that it gives them; and each alert has its part in
//! the manual.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use caldera_kernels::{DeviceInfo, Health, Site};
use caldera_node::era::EraGauges;
use caldera_node::telemetry::{
    Doors, FleetGauges, Gauges, Silicon, Telemetry, TenantGauges, TlsDoors,
};
use caldera_scheduler::Nanos;
use serde_json::Value;

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The families of a box that has everything, with the labels of each.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let telemetry = Telemetry::new(Nanos::from_millis(2), 2, 1);
    let device = DeviceInfo {
        kind: "cuda",
        name: "a GPU".into(),
        quantum: Duration::from_millis(2),
        lanes: 1,
    };
    let gauges = Gauges {
        tenants: vec![TenantGauges {
            name: "a".into(),
            device_time: Some(Nanos::ZERO),
            ..TenantGauges::default()
        }],
        units: vec![(0, 0, Some("a".into()))],
        devices: vec![Silicon {
            info: device,
            health: Health::default(),
            site: Site::default(),
        }],
        ledger: Some(EraGauges {
            house: vec![("treasury", 0)],
            ..EraGauges::default()
        }),
        fleet: Some(FleetGauges::default()),
        doors: Doors {
            tls: Some(TlsDoors::default()),
            ..Doors::default()
        },
        ..Gauges::default()
    };
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in telemetry.metrics(&gauges).lines() {
        if line.starts_with('#') {
            continue;
        }
        let end = line.find(['{', ' ']).expect("a name and a value");
        let labels = families.entry(line[..end].to_owned()).or_default();
        let inner = line[end..]
            .strip_prefix('{')
            .and_then(|it| it.split('}').next());
        for label in inner.unwrap_or_default().split("\",") {
            labels.extend(label.split_once('=').map(|(name, _)| name.to_owned()));
        }
    }
    families
}

/// The names in an expression that may be a figure's, each with the labels that are asked of it.
fn named(expression: &str) -> Vec<(String, Vec<String>)> {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = expression.as_bytes();
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes[at..].iter().take_while(|byte| part(**byte)).count();
        if length == 0 {
            at += 1;
            continue;
        }
        let name = expression[at..at + length].to_owned();
        at += length;
        let selector = expression[at..]
            .strip_prefix('{')
            .and_then(|it| it.split('}').next());
        let asked = selector.unwrap_or_default().split("\",");
        let asked = asked.filter_map(|it| {
            let end = it.find(['=', '!'])?;
            Some(it[..end].trim().to_owned())
        });
        names.push((name, asked.collect()));
    }
    names
}

/// Expressions of the rules, which stand after `expr:` and on the lines below it that are further in.
fn of_rules(text: &str) -> Vec<String> {
    let mut expressions: Vec<String> = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let line_starts = line.trim_start();
        if let Some(first) = line_starts.strip_prefix("expr:") {
            expressions.push(first.trim().trim_start_matches(">-").to_owned());
            within = true;
        } else if within && line.starts_with("          ") && !line_starts.contains(": ") {
            let last = expressions.last_mut().expect("one was begun");
            last.push(' ');
            last.push_str(line_starts);
        } else {
            within = false;
        }
    }
    expressions
}

/// All values of a key, however deep.
fn of_key<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if name == key {
                    found.extend(member.as_str());
                }
                of_key(member, key, found);
            }
        }
        Value::Array(members) => members.iter().for_each(|it| of_key(it, key, found)),
        _ => {}
    }
}

#[test]
fn every_figure_that_is_named_is_exported() {
    let exported = exported();
    let dashboard: Value =
        serde_json::from_str(&read("deploy/grafana/caldera.json")).expect("JSON");
    let mut expressions = Vec::new();
    of_key(&dashboard, "expr", &mut expressions);
    of_key(&dashboard, "query", &mut expressions);
    let rules = of_rules(&read("deploy/prometheus/caldera.rules.yml"));
    assert!(expressions.len() > 30 && rules.len() > 15, "{rules:?}");
    // Those that Prometheus and a scrape configuration add.
    let added = ["host", "instance", "job"];
    let mut seen = BTreeSet::new();
    for expression in expressions
        .into_iter()
        .chain(rules.iter().map(String::as_str))
    {
        for (name, labels) in named(expression) {
            if !name.starts_with("caldera_") {
                continue;
            }
            let Some(there) = exported.get(&name) else {
                panic!("{name} is not exported: {expression}");
            };
            for label in labels {
                let known = there.contains(&label) || added.contains(&&*label);
                assert!(known, "{name} has no label {label}: {expression}");
            }
            seen.insert(name);
        }
    }
    assert!(seen.len() > 25, "{seen:?}");
}

/// An alert that wakes somebody says where to read on, and that is there; the test of the rules has each of them fire.
#[test]
fn every_alert_has_its_runbook_and_its_test() {
    let rules = read("deploy/prometheus/caldera.rules.yml");
    let tests = read("deploy/prometheus/caldera.test.yml");
    let manual = read("docs/operating.md");
    let of = |key: &str| -> Vec<String> {
        let lines = rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix(key));
        lines
            .map(|it| it.trim().trim_matches('"').to_owned())
            .collect()
    };
    let (alerts, runbooks) = (of("- alert:"), of("runbook:"));
    assert_eq!(alerts.len(), runbooks.len());
    for (alert, runbook) in alerts.iter().zip(&runbooks) {
        let anchor = alert.to_lowercase();
        assert_eq!(runbook, &format!("operating.md#alert-{anchor}"));
        let heading = format!("#### Alert {alert}");
        assert!(manual.lines().any(|line| line == heading), "no {heading:?}");
        let fires = format!("{{alertname=\"{alert}\"}}");
        assert!(tests.contains(&fires), "{alert} is never seen to fire");
    }
    for line in manual
        .lines()
        .filter_map(|line| line.strip_prefix("#### Alert "))
    {
        assert!(alerts.iter().any(|alert| alert == line), "no alert {line}");
    }
    // One in the other's place would have been compared with itself.
    assert_eq!(alerts.iter().collect::<BTreeSet<_>>().len(), alerts.len());
}
