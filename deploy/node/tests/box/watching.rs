//! What a box shows of itself to those who watch it.

use std::collections::{BTreeMap, BTreeSet};

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

/// The pool as those see it who may: where the core time went, what each cause cost, and how
/// much time a deadline leaves; and to others none of it.
#[test]
fn a_tenant_is_told_of_itself_and_the_operator_of_all() {
    let world = World::new();
    let (operator, bank) = (world.client("operator"), world.client("bank"));
    let before = operator.call("pool_statusV1", json!({}));
    proofs(&world);
    let key = larger();
    let (circuit, witness) = (bank.register(&key.zkey), bank.store(&key.witness));
    let urgent = json!({ "circuit": circuit, "witness": witness, "deadlineMs": 3_600_000 });
    // Seen while a job with a deadline is unfinished: an hour is more than it needs.
    let slack = until(|| {
        bank.call("prover_submitV1", urgent.clone());
        let pool = bank.call("pool_statusV1", json!({}));
        let own = list(&pool, "tenants")
            .iter()
            .find(|it| it["tenant"] == "bank");
        own.expect("its own row")["detail"]["slackMs"].as_f64()
    });
    assert!((0.0..=3_600_000.0).contains(&slack), "{slack}");
    until(|| {
        let pool = operator.call("pool_statusV1", json!({}));
        let idle = |it: &Value| it["queued"] == 0 && it["running"] == 0;
        list(&pool, "tenants").iter().all(idle).then_some(())
    });

    let pool = operator.call("pool_statusV1", json!({}));
    assert!(number(&pool, "upMs") > number(&before, "upMs"));
    let mut core_ms = 0.0;
    for (it, percent) in list(&pool, "tenants").iter().zip([40.0, 2.0]) {
        let detail = &it["detail"];
        assert_eq!(detail["guaranteePercent"], percent, "{it}");
        assert_eq!(detail["slackMs"], Value::Null, "{it}");
        assert!(number(detail, "coreMs") > 0.0, "{it}");
        core_ms += number(detail, "coreMs");
    }
    assert!(core_ms <= number(&pool, "upMs") * list(&pool, "units").len() as f64);
    let seconds = sum_of(&operator, "caldera_tenant_core_seconds_total", "");
    assert!(seconds * 1e3 >= core_ms - 1e-3);
    let causes = list(&pool["reallocations"], "causes");
    let sum: u64 = causes.iter().filter_map(|it| it["count"].as_u64()).sum();
    assert!(sum > 0);
    assert_eq!(pool["reallocations"]["count"], sum);

    let pool = bank.call("pool_statusV1", json!({}));
    assert_eq!(pool["reallocations"]["causes"], json!([]));
    for it in list(&pool, "tenants") {
        assert_eq!(it["foreign"] == true, it.get("detail").is_none(), "{it}");
    }
    for it in list(&pool, "units") {
        assert_eq!(it["owner"].is_null(), it.get("busy").is_none(), "{it}");
    }
    world.stop();
}

/// All of a profile: the first answer, with the quanta of the others added to it.
fn profile(client: &Client, job: &str) -> Value {
    let mut whole = client.call("prover_profileV1", json!({ "job": job }));
    let mut next = whole["next"].take();
    while let Some(from) = next.as_u64() {
        let mut page = client.call("prover_profileV1", json!({ "job": job, "from": from }));
        assert_eq!(page["reallocations"], json!([]));
        let more = page["quanta"].take();
        let quanta = whole["quanta"].as_array_mut().expect("a list");
        quanta.extend(more.as_array().expect("a list").iter().cloned());
        next = page["next"].take();
    }
    whole
}

fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of[key].as_array().expect("a list")
}

fn number(of: &Value, key: &str) -> f64 {
    of[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} of {of}: a number"))
}

/// Every quantum that the job's own timings count is there once, on its worker's track, and no two
/// of a worker overlap.
///
/// Timings are those of the moment at which the job ended. Another worker may have done its part by
/// then and not have come to count it yet, so each but one may have a quantum more in the profile.
fn profile_agrees(profile: &Value, result: &Value) {
    let quanta = list(profile, "quanta");
    assert_eq!(profile["lost"], 0);
    assert_eq!(profile["total"], quanta.len());

    // By kernel and by core: quanta and their time.
    let mut kernels: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    let mut units: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    let (stages, prepared) = (list(profile, "stages"), number(profile, "preparedUs"));
    let finished = number(&profile["status"], "finishedMs") * 1e3;
    for it in quanta {
        let stage = &stages[it["stage"].as_u64().expect("a place") as usize];
        let (start, span) = (number(it, "startUs"), number(it, "spanUs"));
        let of = kernels
            .entry(stage["kernel"].as_str().expect("a kernel"))
            .or_default();
        *of = (of.0 + 1, of.1 + span / 1e3);
        let unit = it["unit"].as_u64().expect("a unit");
        units.entry(unit).or_default().push((start, start + span));
        assert!(prepared <= start && start <= finished, "{it}");
    }
    let agrees = |timed: Option<&Value>, count: usize, ms: f64| -> usize {
        let before = timed.map_or(0, |it| number(it, "quanta") as usize);
        let more = count.checked_sub(before);
        let more = more.unwrap_or_else(|| panic!("{timed:?}: {count} quanta"));
        let near = timed.is_some_and(|it| (number(it, "cpuMs") - ms).abs() < 1e-3);
        assert!(near || more > 0, "{timed:?}: {ms} ms");
        more
    };
    let timed = list(&result["timings"], "stages");
    assert!(
        timed
            .iter()
            .all(|it| kernels.contains_key(it["kernel"].as_str().unwrap_or("")))
    );
    let mut more = 0;
    for (kernel, (count, ms)) in kernels {
        let it = timed.iter().find(|it| it["kernel"] == kernel);
        more += agrees(it, count, ms);
    }
    assert!(
        more < list(profile, "units").len(),
        "{more} more than timed"
    );
    let timed = list(&result["timings"], "cores");
    for (unit, spans) in &mut units {
        spans.sort_by(|a, b| a.0.total_cmp(&b.0));
        for pair in spans.windows(2) {
            assert!(pair[0].1 <= pair[1].0 + 1e-6, "unit {unit}: {pair:?}");
        }
        let core = &list(profile, "units")[*unit as usize]["core"];
        let it = timed.iter().find(|it| it["core"] == *core);
        let ms = spans.iter().map(|(start, end)| (end - start) / 1e3).sum();
        assert!(agrees(it, spans.len(), ms) <= 1, "{it:?}");
    }
    // What a host or a device does in one go is one quantum.
    let parts: BTreeSet<&str> = stages
        .iter()
        .filter_map(|stage| stage["part"].as_str())
        .collect();
    assert!(parts.contains("msm-b2") && parts.contains("verify.pair-c"));
    let cpu: f64 = quanta.iter().map(|it| number(it, "cpuUs")).sum();
    assert!(cpu > 0.0);
}

#[test]
fn a_profile_has_every_quantum_of_its_job_once() {
    let world = World::new();
    let (bank, chat) = (world.client("bank"), world.client("chat"));
    let key = larger();
    let (circuit, witness) = (bank.register(&key.zkey), bank.store(&key.witness));
    // One job alone, and then several at once, so that quanta of many jobs lie mixed.
    let mut jobs = vec![bank.submit(&circuit, &witness)];
    bank.proved(&jobs[0]);
    jobs.extend((0..3).map(|_| bank.submit(&circuit, &witness)));
    for job in &jobs {
        let result = bank.proved(job);
        // A worker counts a quantum just before it leaves the record of it.
        let profile = until(|| {
            let profile = profile(&bank, job);
            (profile["lost"] == 0).then_some(profile)
        });
        profile_agrees(&profile, &result);
        assert_eq!(profile["status"], bank.status(job));
        let (preparing, prepared) = (
            number(&profile, "preparingUs"),
            number(&profile, "preparedUs"),
        );
        assert!(0.0 <= preparing && preparing <= prepared, "{profile}");
    }
    let first = profile(&bank, &jobs[0]);
    let came = list(&first, "reallocations").iter().filter(|it| {
        let (at, end) = (number(it, "atUs"), number(&first["status"], "finishedMs"));
        it["reallocation"]["to"] == "bank" && at >= 0.0 && at <= end * 1e3
    });
    assert!(came.count() > 0, "{first}");

    // The first proof of a key has no tables; once there are some, a profile says so.
    let sizes = |profile: &Value| -> Vec<u64> {
        let stages = list(profile, "stages").iter();
        stages.filter_map(|it| it["tableBytes"].as_u64()).collect()
    };
    assert!(!sizes(&first).is_empty() && sizes(&first).iter().all(|it| *it == 0));
    until(|| {
        let job = bank.submit(&circuit, &witness);
        bank.ended(&job);
        let sizes = sizes(&profile(&bank, &job));
        sizes.iter().any(|it| *it > 0).then_some(())
    });

    let refused =
        |client: &Client, job: &str| client.refusal("prover_profileV1", json!({ "job": job }));
    assert_eq!(refused(&chat, &jobs[0]), "jobUnknown");
    assert_eq!(refused(&bank, "0x0000000000000001"), "jobUnknown");
    let operator = world.client("operator");
    assert_eq!(refused(&operator, &jobs[0]), "invalidRequest");
    world.stop();
}

/// With less memory than quanta the newest are kept, and a profile says how many are not.
#[test]
fn a_profile_says_what_it_has_lost() {
    let world = World::with("development = true\nlimits = { profile_bytes = 5000 }\n");
    let bank = world.client("bank");
    let key = larger();
    let (circuit, witness) = (bank.register(&key.zkey), bank.store(&key.witness));
    let ran = |result: &Value| -> u64 {
        let stages = list(&result["timings"], "stages").iter();
        stages.filter_map(|it| it["quanta"].as_u64()).sum()
    };
    let job = bank.submit(&circuit, &witness);
    let total = ran(&bank.proved(&job));
    let holed = profile(&bank, &job);
    assert_eq!(holed["total"], total);
    let lost = holed["lost"].as_u64().expect("a count");
    assert_eq!(lost + list(&holed, "quanta").len() as u64, total);
    assert!(lost > 0, "{total} quanta fit into the memory of this test");
    // Others come, until nothing is left of it.
    until(|| {
        bank.proved(&bank.submit(&circuit, &witness));
        let answer = bank.ask("prover_profileV1", json!({ "job": job }));
        let reason = &answer["error"]["data"]["reason"];
        (reason == "profileUnavailable").then_some(())
    });
    world.stop();

    let world = World::with("development = true\nlimits = { profile_bytes = 0 }\n");
    let bank = world.client("bank");
    let (circuit, witness) = (bank.register(&key.zkey), bank.store(&key.witness));
    let job = bank.submit(&circuit, &witness);
    bank.proved(&job);
    let reason = bank.refusal("prover_profileV1", json!({ "job": job }));
    assert_eq!(reason, "profileUnavailable");
    world.stop();
}
