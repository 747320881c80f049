//! What trusted state units save: a state that is verified once and used again, against a state that is
//! verified at every use.
//!
//! Two questions. *Costs*: what verifiers pay for k uses of one state, and for n presentations that come
//! together, in CPU time of this machine and in gas of the contracts (`deploy/contracts/gas.tsv`, which a
//! test keeps true). *Workflows*: how many users get through a workflow over two rollups in an hour of
//! the same cores, everything counted: units signed, roots replaced, witnesses, proofs, verification,
//! records on the disk, and those who are refused.
//!
//! The other side is not a straw man: it has the same circuit, prover, registry and disk, a prepared key, and it
//! verifies in batches whatever arrives together; it only has no reuse, so each use is a
//! presentation of its own.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};
use bytes::Bytes;
use caldera_prover::format::json::{Proof, PublicInputs};
use caldera_prover::format::{R1cs, Zkey};
use caldera_prover::groth16::{PreparedKey, ProvingKey, prove, setup_r1cs};
use caldera_prover::units::{
    AcceptedIssuer, Bounds, Grant, HolderSecret, IssuerSecret, IssuerTree, PUBLIC, Presentation,
    Request, RevocationTree, ScopeName, Statement, Unit, UnitContent, circuit, domain_native,
    keccak_element, link, seed, tip, witness,
};
use caldera_scheduler::registry::{Command, Inputs, Link, Registry, Seconds, Tree, Word};
use caldera_store::database::Database;
use caldera_store::registry::RegistryRow;

use crate::bench::{Bench, OURS};
use crate::clock::{self, Times};
use crate::duel::{Answer, Contender, Runs, Spread};
use crate::plot::{line, text};
use crate::quanta::QUANTUM;
use crate::record::{Case, Origin, Unit as Measured};
use crate::table::table;

/// What a verifier pays, on each way.
pub(crate) struct Costs {
    /// By the number of uses of one state.
    uses: Vec<Cost>,
    /// By the number of presentations in a batch.
    batches: Vec<Cost>,
}

struct Cost {
    count: u16,
    /// CPU time over that of verifying each time.
    cpu: Spread,
    /// Gas over that of verifying each time, where the record has it.
    gas: Option<f64>,
}

/// Verifies k uses and batches of n, and each by itself.
pub(crate) fn costs(bench: &mut Bench, uses: &[u16], batches: &[u16]) -> Result<Costs> {
    let most = uses.iter().chain(batches).copied().max().unwrap_or(1);
    let office = Office::new(bench)?;
    bench.say(&format!("proving {most} presentations to verify"));
    let single = (0..most)
        .map(|number| office.present(number.into(), 0, 0))
        .collect::<Result<Vec<_>>>()?;
    let gas = Gas::read()?;
    let mut costs = Costs {
        uses: Vec::new(),
        batches: Vec::new(),
    };
    for &count in uses {
        let again = office.present(u64::from(most) + u64::from(count), 0, count - 1)?;
        let contenders = vec![
            office.reusing(OURS, &again),
            office.each(EACH, &single[..count.into()]),
        ];
        let case = of_one_thread(bench, "uses of one state", count);
        let runs = bench.case(&case, contenders)?;
        costs.uses.push(Cost {
            count,
            cpu: runs[0].cpu_ratio(&runs[1]),
            gas: gas.of_uses(count),
        });
    }
    for &count in batches {
        let contenders = vec![
            office.together(OURS, &single[..count.into()]),
            office.each(EACH, &single[..count.into()]),
        ];
        let case = of_one_thread(bench, "presentations together", count);
        let runs = bench.case(&case, contenders)?;
        costs.batches.push(Cost {
            count,
            cpu: runs[0].cpu_ratio(&runs[1]),
            gas: gas.of_batch(count),
        });
    }
    Ok(costs)
}

fn of_one_thread(bench: &Bench, what: &str, count: u16) -> Case {
    Case {
        bench: "states",
        case: bench.named(what.to_owned()),
        size: count.into(),
        threads: 1,
        unit: Measured::NanosecondsPerOperation {
            operations: count.into(),
        },
        inside: Some("verification with a prepared key, every rule of the registry, its change"),
    }
}

/// The costs as tables, and what the aim of 65 % says to them.
pub(crate) fn of_costs(costs: &Costs) -> String {
    let rows = |costs: &[Cost]| -> Vec<Vec<String>> {
        let saved = |ratio: f64| format!("{:.1} %", 100.0 * (1.0 - ratio));
        let row = |cost: &Cost| {
            let verdict = |ratio: f64| {
                if 1.0 - ratio >= AIM { "met" } else { "not met" }
            };
            vec![
                cost.count.to_string(),
                saved(cost.cpu.median),
                format!("{} .. {}", saved(cost.cpu.high), saved(cost.cpu.low)),
                verdict(cost.cpu.median).to_owned(),
                cost.gas.map_or("-".to_owned(), saved),
                cost.gas.map_or("not recorded", verdict).to_owned(),
            ]
        };
        costs.iter().map(row).collect()
    };
    let head = |what| [what, "CPU saved", "quartiles", "65 %", "gas saved", "65 %"];
    let even = |what: &str, costs: &[Cost]| {
        let from = |points: &Points| match break_even(points) {
            None => "-".to_owned(),
            Some(count) => format!("{count:.2}"),
        };
        vec![what.to_owned(), from(&cpu(costs)), from(&gas(costs))]
    };
    let evens = [
        even("uses of one state", &costs.uses),
        even("presentations together", &costs.batches),
    ];
    format!(
        "Against verifying each by itself\n{}\n{}\n{}",
        table(&head("uses of one state"), &rows(&costs.uses)),
        table(&head("presentations together"), &rows(&costs.batches)),
        table(&["less from so many on", "CPU", "gas"], &evens),
    )
}

fn cpu(costs: &[Cost]) -> Points {
    costs.iter().map(|it| (it.count, it.cpu.median)).collect()
}

fn gas(costs: &[Cost]) -> Points {
    let known = costs.iter().filter_map(|it| Some((it.count, it.gas?)));
    known.collect()
}

/// From how many on it costs less than verifying each by itself, 1 if it does at once; `None` if it never does, or too few are
/// known. What is left of the cost of n is a part that each has and one that is had once: each + once / n. The fewest and
/// the most say both, and where the sum is 1.
fn break_even(points: &[(u16, f64)]) -> Option<f64> {
    let (&(few, at_few), &(most, at_most)) = (points.first()?, points.last()?);
    let (few, most) = (f64::from(few).recip(), f64::from(most).recip());
    if few == most {
        return None;
    }
    let once = (at_few - at_most) / (few - most);
    let each = at_most - once * most;
    (each < 1.0).then(|| (once / (1.0 - each)).max(1.0))
}

/// What is left of the cost, by how many there are.
type Points = Vec<(u16, f64)>;

/// What is saved, by uses and by batch, in CPU time and in gas: an SVG.
pub(crate) fn draw(costs: &Costs, origin: &Origin) -> Result<String> {
    let curves: [(&str, &str, Points); 4] = [
        ("uses of one state, CPU time", "#0072b2", cpu(&costs.uses)),
        ("uses of one state, gas", "#d55e00", gas(&costs.uses)),
        (
            "presentations together, CPU time",
            "#56b4e9",
            cpu(&costs.batches),
        ),
        (
            "presentations together, gas",
            "#e69f00",
            gas(&costs.batches),
        ),
    ];
    let most = curves
        .iter()
        .flat_map(|(.., points)| points)
        .map(|(count, _)| *count);
    let most = f64::from(most.max().unwrap_or(1).max(2));
    let x = |count: f64| LEFT + count.ln() / most.ln() * (RIGHT - LEFT);
    // From a quarter more than verifying each time up to nothing at all.
    let y = |saved: f64| BOTTOM - (saved.max(-0.25) + 0.25) / 1.25 * (BOTTOM - TOP);
    let mut out = String::new();
    let bold = "font-size=\"17\" font-weight=\"bold\"";
    text(&mut out, LEFT, 28.0, bold, "Cost of verification saved")?;
    let about = format!("{}; commit {}; {}", origin.cpu, origin.commit, origin.date);
    text(&mut out, LEFT, 47.0, "fill=\"#666\"", &about)?;
    for percent in [-25, 0, 25, 50, 65, 75, 100] {
        let at = y(f64::from(percent) / 100.0);
        let (colour, width) = match percent {
            0 => ("#222", 1.5),
            65 => ("#009e73", 1.5),
            _ => ("#ddd", 1.0),
        };
        line(&mut out, [LEFT, at], [RIGHT, at], colour, width)?;
        let label = format!("{percent} %");
        text(
            &mut out,
            LEFT - 8.0,
            at + 4.0,
            "text-anchor=\"end\"",
            &label,
        )?;
    }
    for count in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0] {
        if count <= most {
            let how = "text-anchor=\"middle\" fill=\"#666\"";
            text(&mut out, x(count), BOTTOM + 18.0, how, &format!("{count}"))?;
        }
    }
    for (number, (name, colour, points)) in curves.iter().enumerate() {
        let mut before = None;
        for &(count, ratio) in points {
            let here = [x(count.into()), y(1.0 - ratio)];
            writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                here[0], here[1]
            )?;
            if let Some(before) = before {
                line(&mut out, before, here, colour, 2.0)?;
            }
            before = Some(here);
        }
        let mut label = (*name).to_owned();
        if let Some(count) = break_even(points) {
            // A ring where the curve leaves the cost of verifying each by itself.
            writeln!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"6\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                x(count.min(most)),
                y(0.0)
            )?;
            write!(label, ": less from {count:.2} on")?;
        }
        let at = BOTTOM + 40.0 + 16.0 * number as f64;
        text(&mut out, LEFT, at, &format!("fill=\"{colour}\""), &label)?;
    }
    let height = BOTTOM + 110.0;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n{out}</svg>\n"
    ))
}

/// One way of getting users through the workflow.
pub(crate) struct Flow {
    /// Users over users in the same CPU time and in the same time by the clock: with reuse over without.
    gain: Spread,
    gain_wall: Spread,
    /// The same where holders prove at home, of what is left for the box.
    gain_at_home: Spread,
    /// Users who get through in an hour by the clock, with reuse and without.
    an_hour: [Spread; 2],
    users: u64,
    uses: u64,
    /// CPU seconds of the parts of a round, with reuse and without: the last round's.
    parts: [Parts; 2],
}

/// CPU time of the parts of a round.
#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    issued: Duration,
    published: Duration,
    proved: Duration,
    verified: Duration,
    recorded: Duration,
}

/// Takes `users` through the workflow, with reuse and without.
pub(crate) fn workflow(bench: &mut Bench, users: u64) -> Result<Flow> {
    let office = Office::new(bench)?;
    let plan: Vec<User> = (0..users).map(User::of).collect();
    let case = Case {
        bench: "states",
        case: bench.named("a workflow over two rollups".to_owned()),
        size: users,
        threads: bench.origin.cores,
        unit: Measured::Milliseconds,
        inside: Some(
            "units signed, roots replaced, witnesses, proofs, verification, records, refusals",
        ),
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let runs = {
        let contenders = vec![
            office.flow(OURS, &plan, true, &mut with),
            office.flow(EACH, &plan, false, &mut without),
        ];
        bench.case(&case, contenders)?
    };
    Ok(Flow::of(&plan, &runs, &with, &without))
}

impl Flow {
    fn of(plan: &[User], runs: &[Runs], with: &[Parts], without: &[Parts]) -> Flow {
        let [reusing, each] = runs else {
            unreachable!("two contenders, two accounts");
        };
        let at_home = with.iter().zip(without).skip(1).map(|(with, without)| {
            without.without_proofs().as_secs_f64() / with.without_proofs().as_secs_f64().max(1e-12)
        });
        let through = plan.iter().filter(|user| user.fate != Fate::Revoked);
        let through = through.count() as f64;
        let an_hour = |runs: &Runs| {
            let walls = runs.times.iter().map(|it| it.wall.as_secs_f64());
            Spread::of(walls.map(|wall| through * 3_600.0 / wall.max(1e-12)))
        };
        Flow {
            an_hour: [an_hour(reusing), an_hour(each)],
            gain: each.cpu_ratio(reusing),
            gain_wall: each.wall_ratio(reusing),
            gain_at_home: Spread::of(at_home),
            users: plan.len() as u64,
            uses: plan.iter().map(|user| u64::from(user.uses)).sum(),
            parts: [with, without].map(|parts| parts.last().copied().unwrap_or_default()),
        }
    }
}

impl Parts {
    fn without_proofs(&self) -> Duration {
        self.issued + self.published + self.verified + self.recorded
    }
}

/// The gains as a table, and what the aim of 70 % says to them.
pub(crate) fn of_flow(flow: &Flow) -> String {
    let row = |what: &str, gain: Spread| {
        let percent = |ratio: f64| format!("{:+.0} %", 100.0 * (ratio - 1.0));
        vec![
            what.to_owned(),
            percent(gain.median),
            format!("{} .. {}", percent(gain.low), percent(gain.high)),
            if gain.median >= 1.0 + FLOW_AIM {
                "met".to_owned()
            } else {
                "not met".to_owned()
            },
        ]
    };
    let rows = [
        row("users in the same CPU time", flow.gain),
        row("users in the same time", flow.gain_wall),
        row("the same, holders prove at home", flow.gain_at_home),
    ];
    let hourly = |what: &str, it: Spread| {
        let quartiles = format!("{:.0} .. {:.0}", it.low, it.high);
        vec![what.to_owned(), format!("{:.0}", it.median), quartiles]
    };
    let [with, without] = flow.an_hour;
    let hours = [hourly("with reuse", with), hourly("without", without)];
    let part = |name: &str, of: fn(&Parts) -> Duration| {
        let cell = |parts: &Parts| format!("{:.1}", 1e3 * of(parts).as_secs_f64());
        vec![name.to_owned(), cell(&flow.parts[0]), cell(&flow.parts[1])]
    };
    let parts = [
        part("units signed", |parts| parts.issued),
        part("roots replaced", |parts| parts.published),
        part("witnesses and proofs", |parts| parts.proved),
        part("verification", |parts| parts.verified),
        part("rules and records", |parts| parts.recorded),
    ];
    format!(
        "{} users, {} uses\n{}\n{}\n{}",
        flow.users,
        flow.uses,
        table(
            &["users an hour, by the clock", "median", "quartiles"],
            &hours
        ),
        table(&["with reuse", "more", "quartiles", "70 %"], &rows),
        table(&["CPU ms of a round", "with reuse", "without"], &parts),
    )
}

/// What one user of the workflow does. The same for both ways, and from round to round.
#[derive(Debug, Clone, Copy)]
struct User {
    number: u64,
    /// How often the second rollup needs the state: an instalment each, say.
    uses: u16,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// All is well.
    Served,
    /// The unit is revoked before it is presented: the holder finds no gap for it.
    Revoked,
    /// The proof has been altered on its way: it is refused, and the user has to come again.
    Altered,
}

impl User {
    /// Of each twenty users one is revoked and one comes with an altered proof. Uses are 1 to 12.
    fn of(number: u64) -> User {
        User {
            number,
            uses: USES[number as usize % USES.len()],
            fate: match number % 20 {
                1 => Fate::Revoked,
                3 => Fate::Altered,
                _ => Fate::Served,
            },
        }
    }
}

/// The parties and what they hold: an issuer of the first rollup, a verifier on the second, a registry.
struct Office {
    issuer: IssuerSecret,
    issuers: IssuerTree,
    request: Request,
    key: Arc<ProvingKey>,
    prepared: PreparedKey,
    threads: usize,
    domain: [u8; 32],
    /// As each run finds it.
    fresh: Registry,
}

/// A presentation that was made.
struct Made {
    grant: Grant,
    statement: Statement,
    seed: [u8; 20],
    proof: Proof,
    inputs: PublicInputs,
}

impl Office {
    fn new(bench: &Bench) -> Result<Office> {
        let r1cs = R1cs::parse(circuit().clone()).context("the circuit")?;
        let mut zkey = Vec::new();
        let cores = bench.origin.cores;
        setup_r1cs(&r1cs, &[1; 32], cores, &mut zkey, &mut |_| ()).context("a key")?;
        let zkey = Zkey::parse(Bytes::from(zkey)).context("the key")?;
        let key = ProvingKey::load(&zkey, bench.device(QUANTUM, cores)?).context("the key")?;
        let prepared = PreparedKey::with_vectors(key.verification_key(), bench.vectors.into())?;
        let issuer = IssuerSecret::from_seed(&[3; 32]);
        let scope = ScopeName {
            scenario: ScopeName::part("retail"),
            verifier: ScopeName::part("shop"),
            purpose: ScopeName::part("instalment"),
            epoch: 1,
        };
        let mut bounds = [Bounds::OPEN; 4];
        bounds[0] = Bounds::at_least(0, LEAST);
        let request = Request {
            schema: keccak_element(b"kyc v1"),
            scope: scope.element(),
            valid_through: NOW.0 + 600_000,
            presentations: u16::MAX,
            bounds,
            set: None,
        };
        let domain = domain_native(&[9; 32]);
        let mut office = Office {
            issuers: IssuerTree::new(&[AcceptedIssuer {
                key: issuer.key(),
                schema: request.schema,
            }])?,
            issuer,
            request,
            key,
            prepared,
            threads: cores,
            fresh: Registry::new(Word(domain), WINDOW),
            domain,
        };
        office.fresh = office.opened()?;
        Ok(office)
    }

    /// A unit for a holder, signed.
    fn issue(&self, holder: &HolderSecret, number: u64) -> Result<Unit> {
        let mut claims = [0; 16];
        claims[0] = LEAST + number;
        let content = UnitContent {
            schema: self.request.schema,
            subject: holder.subject(Fr::from(number)),
            claims,
            valid_until: NOW.0 + 1_000_000,
            nonce: number + 1,
        };
        Ok(content.issue(&self.issuer)?)
    }

    /// The presentation of a fresh unit.
    fn present(&self, number: u64, index: u16, uses: u16) -> Result<Made> {
        let holder = holder(number)?;
        let unit = self.issue(&holder, number)?;
        self.prove(
            &holder,
            number,
            &unit,
            &RevocationTree::new(&[])?,
            index,
            uses,
        )
    }

    fn prove(
        &self,
        secret: &HolderSecret,
        number: u64,
        unit: &Unit,
        revoked: &RevocationTree,
        index: u16,
        uses: u16,
    ) -> Result<Made> {
        let mut salt = [0; 32];
        salt[..2].copy_from_slice(&index.to_be_bytes());
        let seed = *seed(secret, &salt);
        let grant = Grant {
            domain: self.domain,
            verifier: VERIFIER,
            sender: VERIFIER,
            request: self.request.element()?,
            tip: tip(&seed, uses),
            uses,
            expiry: NOW.0 + 500_000,
            challenge: [0; 32],
        };
        let opening = Presentation {
            secret,
            blinding: Fr::from(number),
            unit,
            issuers: &self.issuers,
            revoked,
            request: &self.request,
            grant: &grant,
            index,
        }
        .open()?;
        let statement = opening.statement;
        let (proof, inputs) = prove(&self.key, witness(&opening), self.threads, &mut |_, _| ())?;
        Ok(Made {
            grant,
            statement,
            seed,
            proof,
            inputs,
        })
    }

    /// A registry that takes what this office presents: made once, for its roots cost more than a verification.
    fn opened(&self) -> Result<Registry> {
        let mut registry = Registry::new(Word(self.domain), WINDOW);
        let issuers = word(self.issuers.root());
        let none = word(RevocationTree::new(&[])?.root());
        for command in [
            publish(Tree::Issuers, issuers),
            publish(Tree::Revocation, none),
            Command::Open {
                verifier: Word::right(&VERIFIER),
                request: word(self.request.element()?),
                closes: Seconds(NOW.0 + 600_000),
                valid_through: Seconds(self.request.valid_through),
            },
        ] {
            carry_out(&mut registry, &command)?;
        }
        Ok(registry)
    }

    /// One state, verified once and used as often as its grant says.
    fn reusing<'a>(&'a self, name: &str, made: &'a Made) -> Contender<'a> {
        Contender::ours(
            name,
            (),
            move |()| {
                let mut registry = self.fresh.clone();
                self.prepared.verify(&made.proof, &made.inputs)?;
                carry_out(&mut registry, &made.present())?;
                for left in (0..made.grant.uses).rev() {
                    carry_out(&mut registry, &made.reuse(left))?;
                }
                Ok(())
            },
            |()| Ok(Answer::Verified),
        )
    }

    /// Each presentation verified by itself.
    fn each<'a>(&'a self, name: &str, made: &'a [Made]) -> Contender<'a> {
        Contender::ours(
            name,
            (),
            move |()| {
                let mut registry = self.fresh.clone();
                for made in made {
                    self.prepared.verify(&made.proof, &made.inputs)?;
                    carry_out(&mut registry, &made.present())?;
                }
                Ok(())
            },
            |()| Ok(Answer::Verified),
        )
    }

    /// All of them in one batch.
    fn together<'a>(&'a self, name: &str, made: &'a [Made]) -> Contender<'a> {
        Contender::ours(
            name,
            (),
            move |()| {
                let mut registry = self.fresh.clone();
                let statements: Vec<_> = made.iter().map(|it| (&it.proof, &it.inputs)).collect();
                for verdict in self.prepared.verify_batch(&statements)? {
                    verdict?;
                }
                for made in made {
                    carry_out(&mut registry, &made.present())?;
                }
                Ok(())
            },
            |()| Ok(Answer::Verified),
        )
    }

    /// All users through the workflow; one account of each round goes to `accounts`.
    fn flow<'a>(
        &'a self,
        name: &str,
        plan: &'a [User],
        reuse: bool,
        accounts: &'a mut Vec<Parts>,
    ) -> Contender<'a> {
        Contender::ours(
            name,
            0,
            move |served: &mut u64| {
                let folder = tempfile::tempdir().context("a folder")?;
                let path = folder.path().join("caldera.sqlite");
                let mut round = Round {
                    office: self,
                    desk: Desk {
                        registry: self.fresh.clone(),
                        journal: Database::open(&path).context("a journal")?,
                        sequence: 0,
                    },
                    revoked: Vec::new(),
                    parts: Parts::default(),
                };
                *served = 0;
                for group in plan.chunks(TOGETHER) {
                    *served += round.group(group, reuse)?;
                }
                accounts.push(round.parts);
                Ok(())
            },
            // Both ways serve the same users.
            |served| Ok(Answer::Bytes(served.to_be_bytes().to_vec())),
        )
    }
}

/// One run of the workflow.
struct Round<'a> {
    office: &'a Office,
    desk: Desk,
    revoked: Vec<(u16, u64)>,
    parts: Parts,
}

impl Round<'_> {
    /// Users who arrive together; how many of them got through.
    fn group(&mut self, users: &[User], reuse: bool) -> Result<u64> {
        let office = self.office;
        let mut held = HashMap::new();
        spent(&mut self.parts.issued, || {
            for user in users {
                let secret = holder(user.number)?;
                let unit = office.issue(&secret, user.number)?;
                held.insert(user.number, (secret, unit));
            }
            Ok(())
        })?;
        // The issuer says who is revoked now, and the registry has the new root.
        let tree = spent(&mut self.parts.published, || {
            let gone = users.iter().filter(|user| user.fate == Fate::Revoked);
            self.revoked.extend(gone.map(|user| (0, user.number + 1)));
            let tree = RevocationTree::new(&self.revoked)?;
            if Some(word(tree.root())) != self.desk.registry.root(Tree::Revocation) {
                let root = publish(Tree::Revocation, word(tree.root()));
                self.desk.carry_out(&[root])?;
            }
            Ok(tree)
        })?;
        let most = users.iter().map(|user| user.uses).max().unwrap_or(0);
        let presentations = if reuse { 1 } else { most };
        let mut made: Vec<Option<Made>> = users.iter().map(|_| None).collect();
        let mut through = vec![true; users.len()];
        for index in 0..presentations {
            // Those who present now: all at first, later those who need the state once more.
            let mut due: Vec<usize> = (0..users.len())
                .filter(|&at| through[at] && users[at].uses > index)
                .collect();
            let mut again = false;
            while !due.is_empty() {
                spent(&mut self.parts.proved, || {
                    for &at in &due {
                        let user = &users[at];
                        let (secret, unit) = &held[&user.number];
                        let uses = if reuse { user.uses - 1 } else { 0 };
                        let number = user.number;
                        match office.prove(secret, number, unit, &tree, index, uses) {
                            Ok(it) => made[at] = Some(it),
                            // Found before any proof is begun, as a holder finds it.
                            Err(_) if user.fate == Fate::Revoked => through[at] = false,
                            Err(error) => return Err(error),
                        }
                    }
                    Ok(())
                })?;
                due.retain(|&at| through[at]);
                let altered = |at: usize| users[at].fate == Fate::Altered && index == 0 && !again;
                let verdicts = spent(&mut self.parts.verified, || {
                    let brought: Vec<_> = due
                        .iter()
                        .filter_map(|&at| made[at].as_ref().map(|made| (at, made)))
                        .map(|(at, made)| (made.brought(altered(at)), &made.inputs))
                        .collect();
                    let statements: Vec<_> = brought.iter().map(|(p, x)| (p, *x)).collect();
                    Ok(office.prepared.verify_batch(&statements)?)
                })?;
                ensure!(
                    verdicts.len() == due.len(),
                    "a verdict for each presentation"
                );
                let mut refused = Vec::new();
                spent(&mut self.parts.recorded, || {
                    let mut taken = Vec::new();
                    for (&at, verdict) in due.iter().zip(verdicts) {
                        ensure!(verdict.is_err() == altered(at), "a verdict that is wrong");
                        let made = made[at].as_ref().context("a presentation")?;
                        match verdict {
                            Ok(()) => taken.push(made.present()),
                            Err(_) => refused.push(at),
                        }
                    }
                    self.desk.carry_out(&taken)
                })?;
                due = refused;
                again = true;
            }
        }
        if reuse {
            spent(&mut self.parts.recorded, || {
                // Each use in its own time, together with those of the others.
                for index in 1..most {
                    let due = made.iter().flatten().filter(|it| it.grant.uses >= index);
                    let due: Vec<_> = due.map(|it| it.reuse(it.grant.uses - index)).collect();
                    self.desk.carry_out(&due)?;
                }
                Ok(())
            })?;
        }
        Ok(through.iter().filter(|it| **it).count() as u64)
    }
}

/// The registry as a box keeps it: nothing counts before it is on the disk.
struct Desk {
    registry: Registry,
    journal: Database,
    /// The journal's last row.
    sequence: u64,
}

impl Desk {
    /// Carries out what has come together, in one commit.
    fn carry_out(&mut self, commands: &[Command]) -> Result<()> {
        let mut rows = Vec::with_capacity(commands.len());
        for command in commands {
            let change = self.registry.decide(command, NOW)?;
            self.registry.apply(&change)?;
            self.sequence += 1;
            rows.push(RegistryRow {
                sequence: self.sequence,
                change: change.to_bytes(),
            });
        }
        if rows.is_empty() {
            return Ok(());
        }
        let group = self.journal.group()?;
        group.registry(&rows)?;
        Ok(group.commit()?)
    }
}

impl Made {
    fn present(&self) -> Command {
        let grant = &self.grant;
        let statement = &self.statement;
        Command::Present {
            sender: Word::right(&grant.sender),
            grant: caldera_scheduler::registry::Grant {
                verifier: Word::right(&grant.verifier),
                sender: Word::right(&grant.sender),
                request: word(grant.request),
                tip: Link(grant.tip),
                uses: grant.uses,
                expiry: Seconds(grant.expiry),
                challenge: Word(grant.challenge),
            },
            inputs: Inputs {
                issuers_root: word(statement.issuers_root),
                revocation_root: word(statement.revocation_root),
                request: word(statement.request),
                nullifier: word(statement.nullifier),
                grant: word(statement.grant),
            },
        }
    }

    /// The use after which so many are left.
    fn reuse(&self, left: u16) -> Command {
        Command::Reuse {
            sender: Word::right(&self.grant.sender),
            grant: word(self.statement.grant),
            link: Link((0..left).fold(self.seed, |value, _| link(&value))),
        }
    }

    /// The proof as it arrives: another one, well formed, if it was altered.
    fn brought(&self, altered: bool) -> Proof {
        let mut proof = self.proof.clone();
        if altered {
            proof.a = proof.c.clone();
        }
        proof
    }
}

/// Gas of whole transactions.
struct Gas(HashMap<String, f64>);

impl Gas {
    fn read() -> Result<Gas> {
        let lines = GAS.lines().filter(|line| !line.starts_with('#'));
        let entry = |line: &str| -> Result<(String, f64)> {
            let (what, gas) = line.split_once('\t').context("a tab")?;
            Ok((what.to_owned(), gas.parse()?))
        };
        Ok(Gas(lines.map(entry).collect::<Result<_>>()?))
    }

    fn single(&self) -> Option<f64> {
        let inputs = PUBLIC;
        self.0
            .get(&format!("verify one proof of {inputs} inputs"))
            .copied()
    }

    fn of_uses(&self, count: u16) -> Option<f64> {
        let (first, again) = (self.0.get("present")?, self.0.get("reuse")?);
        let each = f64::from(count) * self.single()?;
        Some((first + f64::from(count - 1) * again) / each)
    }

    fn of_batch(&self, count: u16) -> Option<f64> {
        let inputs = PUBLIC;
        let name = format!("verify {count} proofs of {inputs} inputs at once, a proof");
        Some(self.0.get(&name)? / self.single()?)
    }
}

fn holder(number: u64) -> Result<HolderSecret> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number + 1).to_le_bytes());
    Ok(HolderSecret::from_bytes(&bytes)?)
}

fn publish(tree: Tree, root: Word) -> Command {
    Command::Publish { tree, root }
}

fn carry_out(registry: &mut Registry, command: &Command) -> Result<()> {
    let change = registry.decide(command, NOW)?;
    Ok(registry.apply(&change)?)
}

fn word(element: Fr) -> Word {
    Word::right(&element.into_bigint().to_bytes_be())
}

/// Adds the CPU time that `work` takes.
fn spent<T>(account: &mut Duration, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (Times { cpu, .. }, value) = clock::timed(work)?;
    *account += cpu;
    Ok(value)
}

/// The name of the other side.
const EACH: &str = "verifying each time";
/// What may be saved of the cost of verification, and what more users may get through.
const AIM: f64 = 0.65;
const FLOW_AIM: f64 = 0.70;
/// Users who arrive together, and whose presentations are verified together.
const TOGETHER: usize = 8;
/// How often users need their state: from once to a year's instalments.
const USES: [u16; 5] = [1, 2, 3, 5, 12];
/// The drawing's frame.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 730.0;
const TOP: f64 = 66.0;
const BOTTOM: f64 = 380.0;
const VERIFIER: [u8; 20] = [0x11; 20];
const LEAST: u64 = 1_000;
const NOW: Seconds = Seconds(1_800_000_000);
const WINDOW: u64 = 3_600;
const GAS: &str = include_str!("../../deploy/contracts/gas.tsv");

#[cfg(test)]
mod tests {
    use super::*;

    /// Three had once, a quarter each: even at four. What is always less is less from the first, what is never is never.
    #[test]
    fn costs_break_even_where_the_curve_crosses() {
        let curve = |each: f64, once: f64| -> Points {
            let at = |count: u16| (count, each + once / f64::from(count));
            [1, 2, 5, 12].map(at).to_vec()
        };
        let even = break_even(&curve(0.25, 3.0)).expect("it crosses");
        assert!((even - 4.0).abs() < 1e-9, "{even}");
        assert_eq!(break_even(&curve(0.25, 0.5)), Some(1.0));
        assert_eq!(break_even(&curve(1.0, 0.5)), None);
        assert_eq!(break_even(&[(8, 0.5)]), None);
        assert_eq!(break_even(&[]), None);
    }
}
