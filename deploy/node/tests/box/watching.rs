//! What a box shows of itself to those who watch it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::{Client, World, larger, until};

/// Both tenants prove, so that cores change hands; when this returns nothing runs any more.
fn proofs(world: &World) {
    let key = larger();
    let mut jobs = Vec::new();
    let tenants = ["chat", "bank"].map(|name| world.client(name));
    for tenant in &tenants {
        let (circuit, witness) = (tenant.register(&key.zkey), tenant.store(&key.witness));
        for _ in 0..4 {
            jobs.push((tenant, tenant.submit(&circuit, &witness)));
        }
    }
    for (tenant, job) in &jobs {
        tenant.proved(job);
    }
}

/// A figure of `/metrics`, summed over all labels but those given.
fn sum_of(client: &Client, name: &str, label: &str) -> f64 {
    let (_, metrics) = client.get("/metrics");
    let of_it = metrics
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    let figures = of_it.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    figures.sum()
}

/// Every reallocation is counted once: under its cause, as a whole and in each part.
#[test]
fn every_reallocation_is_in_one_histogram() {
    let world = World::new();
    proofs(&world);
    let (operator, bank) = (world.client("operator"), world.client("bank"));
    let (mut pool, mut list, mut metrics) = (Value::Null, Value::Null, 0.0);
    // A core that comes free at the very end may still change hands between two questions.
    until(|| {
        pool = operator.call("pool_statusV1", json!({}));
        list = operator.call("pool_histogramsV1", json!({}));
        metrics = sum_of(&operator, "caldera_reallocation_seconds_count", "");
        let again = operator.call("pool_statusV1", json!({}));
        (again["reallocations"]["count"] == pool["reallocations"]["count"]).then_some(())
    });
    let count = pool["reallocations"]["count"].as_u64().expect("a count");
    assert!(count > 0, "{pool}");
    assert_eq!(metrics, count as f64);

    let mut parts: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
    for it in list.as_array().expect("a list") {
        assert_eq!(it["resource"], "core");
        let text = |key: &str| it[key].as_str().expect("a word");
        let of = parts.entry(text("cause")).or_default();
        let times = it["count"].as_u64().expect("a count");
        of.push((text("part"), times));
        assert!(text("hgrm").starts_with("       Value     Percentile"));
        let total = format!("Total count    = {times:>12}]");
        assert!(text("hgrm").contains(&total), "{it}");
    }
    let mut sum = 0;
    for (cause, of) in &parts {
        let names: Vec<&str> = of.iter().map(|(part, _)| *part).collect();
        assert_eq!(names, ["total", "detect", "decide", "drain", "first"]);
        assert!(of.iter().all(|(_, it)| *it == of[0].1), "{cause}: {of:?}");
        let label = format!("cause=\"{cause}\"");
        for part in &names[1..] {
            let labels = format!("{label},part=\"{part}\"");
            let name = "caldera_reallocation_part_seconds_count";
            assert_eq!(sum_of(&operator, name, &labels), of[0].1 as f64);
        }
        sum += of[0].1;
    }
    assert_eq!(sum, count, "{parts:?}");
    // What the newest records say stands in the histograms too.
    for it in pool["reallocations"]["recent"].as_array().expect("a list") {
        assert!(parts.contains_key(it["cause"].as_str().expect("a cause")));
    }

    let (cause, of) = parts.iter().next().expect("one cause at least");
    let one = operator.call("pool_histogramsV1", json!({ "cause": cause }));
    assert_eq!(one.as_array().map(Vec::len), Some(of.len()));
    let refused = |client: &Client, params| client.refusal("pool_histogramsV1", params);
    assert_eq!(
        refused(&operator, json!({ "cause": "whim" })),
        "invalidParams"
    );
    assert_eq!(refused(&bank, json!({})), "invalidRequest");
    world.stop();
}
