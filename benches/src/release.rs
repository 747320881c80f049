//! What a quiet tenant's storage is worth to a box, and what it costs to have it again: a whole node
//! in this process, two tenants, one with tables of its key and one without any.
//!
//! Both prove and then say nothing. The policy says that they are quiet, and they give back what
//! it asks for. What is back is counted in three ways that know nothing of each other: by the
//! box's own account (`pool_storageV1`), by the kernel's of this process (`/proc/self/smaps_rollup`)
//! and of the file system (the lengths of files, and `statvfs`, in which others' files move too). Then
//! demand returns. The time of its first proof, from the submission to the answer that it is proved,
//! is held against those of proofs before, when all was there; and every proof is verified here.
//!
//! The key is read from a folder of the same disk, whose pages the kernel may still have in memory:
//! what is timed is this box's part.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use caldera_kernels::CurveId;
use caldera_node::Node;
use caldera_node::config::{Config, Overrides};
use caldera_prover::format::json::{Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16::{Synthetic, setup_synthetic, verify};
use caldera_rpc::auth::Secret;
use caldera_rpc::methods::{StorageRelease, StorageStatus, TenantStorage};
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::Bench;
use crate::live::Client;
use crate::record::Record;
use crate::table::{figure, table};

/// What came of it, release by release.
pub(crate) struct Released {
    log2: u32,
    rounds: Vec<Round>,
    /// Proofs that were made and verified.
    proofs: u64,
}

/// One time of quiet of both tenants.
struct Round {
    before: Footprint,
    after: Footprint,
    tenants: Vec<Tenant>,
}

struct Tenant {
    name: &'static str,
    release: StorageRelease,
    /// What it held afterwards.
    kept: u64,
    /// Milliseconds of proofs while all was there.
    warm: Vec<f64>,
    /// Of the first proof when demand had returned.
    first: f64,
}

/// What the kernel says of this process and of the disk.
#[derive(Clone, Copy)]
struct Footprint {
    rss: u64,
    files: u64,
    disk_free: u64,
}

impl Released {
    /// Whether what the policy asks for was back each time, by every account.
    pub(crate) fn holds(&self) -> bool {
        self.rounds.iter().all(|round| {
            let of = |it: fn(&StorageRelease) -> u64| -> u64 {
                round.tenants.iter().map(|tenant| it(&tenant.release)).sum()
            };
            let (tables, keys) = (of(|it| it.tables_bytes), of(|it| it.keys_bytes));
            let files = keys + of(|it| it.blobs_bytes);
            let enough = |tenant: &Tenant| {
                let (held, back) = (tenant.release.held_bytes, back(&tenant.release));
                5 * back >= 4 * held && back + tenant.kept == held
            };
            round.tenants.iter().all(enough)
                && round.before.files - round.after.files == files
                // Of memory nine tenths: what else the process does is in that figure too.
                && 10 * round.before.rss.saturating_sub(round.after.rss) >= 9 * (tables + keys)
        })
    }
}

/// Lets both tenants go quiet so many times.
pub(crate) fn release(bench: &mut Bench, log2: u32, rounds: u64) -> Result<Released> {
    let world = World::new(log2)?;
    let tenants = [TABLED, PLAIN].map(|name| world.tenant(name));
    let [tabled, plain] = tenants;
    let tenants = [tabled?, plain?];
    let mut released = Released {
        log2,
        rounds: Vec::new(),
        proofs: 0,
    };
    for round in 0..rounds {
        bench.say(&format!("release: {round} of {rounds}"));
        // One proves while there is no room for tables, so it has none.
        world.node.grant_tables(0);
        let mut warm = Vec::new();
        for (tenant, grant) in [(&tenants[1], 0), (&tenants[0], TABLE_BYTES)] {
            world.node.grant_tables(grant);
            let proofs = tenant.proofs(WARM)?;
            released.proofs += proofs.len() as u64;
            warm.insert(0, proofs);
        }
        // Tables are there, and so are the proofs that follow.
        wait(|| Ok((tenants[0].storage()?.0.tables_bytes > 0).then_some(())))?;
        let proofs = tenants[0].proofs(WARM)?;
        released.proofs += proofs.len() as u64;
        warm[0] = proofs;
        ensure!(tenants[1].storage()?.0.tables_bytes == 0, "it has tables");

        let before = world.footprint()?;
        world.quiet(AT_ONCE, &tenants[0])?;
        let mut gone = Vec::new();
        for tenant in &tenants {
            gone.push(wait(|| {
                let (now, mut releases) = tenant.storage()?;
                let release = releases.pop().filter(|_| now.quiet);
                Ok(release.map(|release| (release, held(&now))))
            })?);
        }
        let after = world.footprint()?;
        world.quiet(NEVER, &tenants[0])?;
        let mut all = Vec::new();
        for ((tenant, (release, kept)), warm) in tenants.iter().zip(gone).zip(warm) {
            let first = tenant.proofs(1)?[0];
            released.proofs += 1;
            all.push(Tenant {
                name: tenant.name,
                release,
                kept,
                warm,
                first,
            });
        }
        released.rounds.push(Round {
            before,
            after,
            tenants: all,
        });
    }
    for at in 0..tenants.len() {
        bench.keep(record(bench, &released, at))?;
    }
    world.node.stop();
    Ok(released)
}

/// First proofs of one tenant as a line.
fn record(bench: &Bench, released: &Released, at: usize) -> Record {
    let of = |it: &dyn Fn(&Tenant) -> f64| -> Vec<f64> {
        released
            .rounds
            .iter()
            .map(|round| it(&round.tenants[at]))
            .collect()
    };
    let firsts = of(&|tenant| tenant.first);
    let warm = quantile(
        &released
            .rounds
            .iter()
            .flat_map(|round| round.tenants[at].warm.clone())
            .collect::<Vec<_>>(),
        0.5,
    );
    let parts = of(&|it| back(&it.release) as f64 / it.release.held_bytes as f64);
    let fell = |of: &dyn Fn(&Round) -> f64| {
        let all: Vec<f64> = released.rounds.iter().map(of).collect();
        quantile(&all, 0.5) / MIB
    };
    Record {
        size: 1 << released.log2,
        threads: bench.origin.cores,
        value: quantile(&firsts, 0.5),
        unit: "wall ms".to_owned(),
        spread: [quantile(&firsts, 0.25), quantile(&firsts, 0.75)],
        wall_s: quantile(&firsts, 0.5) / 1e3,
        rounds: firsts.len(),
        inside: Some(format!(
            "from submission to proof, a key that was given back read again; {warm:.1} ms while all \
             was there; {:.1} of {:.1} MiB back ({:.1} %); with both tenants' releases RSS fell by \
             {:.1} MiB and files by {:.1} MiB",
            quantile(&of(&|it| back(&it.release) as f64), 0.5) / MIB,
            quantile(&of(&|it| it.release.held_bytes as f64), 0.5) / MIB,
            100.0 * quantile(&parts, 0.5),
            fell(&|it| it.before.rss as f64 - it.after.rss as f64),
            fell(&|it| it.before.files as f64 - it.after.files as f64),
        )),
        ..bench.ours(
            "release",
            format!(
                "{}, first proof after a release",
                released.rounds[0].tenants[at].name
            ),
        )
    }
}

/// Releases as tables: what is back by the box's account, and by the kernel's.
pub(crate) fn of_released(released: &Released) -> String {
    let mib = |bytes: u64| figure(bytes as f64 / MIB);
    let (mut rows, mut kernel) = (Vec::new(), Vec::new());
    for (round, at) in released.rounds.iter().zip(1..) {
        for tenant in &round.tenants {
            let it = &tenant.release;
            rows.push(vec![
                at.to_string(),
                tenant.name.to_owned(),
                mib(it.held_bytes),
                mib(it.tables_bytes),
                mib(it.keys_bytes),
                mib(it.blobs_bytes),
                figure(100.0 * back(it) as f64 / it.held_bytes as f64),
                figure(quantile(&tenant.warm, 0.5)),
                figure(tenant.first),
            ]);
        }
        let fell = |of: fn(&Footprint) -> u64| of(&round.before) as f64 - of(&round.after) as f64;
        kernel.push(vec![
            at.to_string(),
            mib(round.before.rss),
            mib(round.after.rss),
            figure(fell(|it| it.rss) / MIB),
            mib(round.before.files),
            mib(round.after.files),
            figure(fell(|it| it.files) / MIB),
            figure(-fell(|it| it.disk_free) / MIB),
        ]);
    }
    let head = [
        "round", "tenant", "held MiB", "tables", "keys", "blobs", "% back", "warm ms", "first ms",
    ];
    let kernel_head = [
        "round",
        "RSS MiB",
        "after",
        "fell",
        "files MiB",
        "after",
        "fell",
        "statvfs says",
    ];
    format!(
        "2^{}, {} proofs, all verified; {}\n{}\n{}",
        released.log2,
        released.proofs,
        if released.holds() {
            "holds"
        } else {
            "does not hold"
        },
        table(&head, &rows),
        table(&kernel_head, &kernel)
    )
}

/// A box, and the sources of its keys.
struct World {
    node: Node,
    folder: TempDir,
    log2: u32,
}

impl World {
    fn new(log2: u32) -> Result<World> {
        let folder = tempfile::tempdir().context("a folder")?;
        let keys = folder.path().join("keys");
        std::fs::create_dir(&keys).context("the folder of sources")?;
        let file = folder.path().join("calderad.toml");
        let text = format!("{CONFIG}\n[storage]\nkey_sources = [{keys:?}]\n");
        std::fs::write(&file, text).context("the configuration")?;
        write_policy(folder.path(), NEVER)?;
        let config = Config::load(Some(&file), &Overrides::default())?;
        let node = Node::start(config).context("starting a box")?;
        Ok(World { node, folder, log2 })
    }

    /// A tenant with a key of its own, registered with its source.
    fn tenant(&self, name: &'static str) -> Result<Member> {
        let path = self.folder.path().join(format!("data/secrets/{name}.hex"));
        let text = std::fs::read_to_string(path).context("a secret")?;
        let url = format!("http://{}", self.node.address());
        let client = Client::new(url, name, Secret::parse(&text).context("a secret")?);
        let synthetic = Synthetic {
            curve: CurveId::Bn254,
            domain_log2: self.log2,
            dense: 0.9,
            seed: [name.len() as u8; 32],
        };
        let (mut zkey, mut witness) = (Vec::new(), Vec::new());
        setup_synthetic(&synthetic, 1, &mut zkey, &mut |_| ())
            .context("a key")?
            .write(&mut witness)
            .context("a witness")?;
        let source = self.folder.path().join(format!("keys/{name}.zkey"));
        std::fs::write(&source, &zkey).context("a source")?;
        let circuit = client.store(&zkey)?;
        let params = json!({ "zkey": circuit, "check": "trusted", "source": source });
        client.call("prover_registerCircuitV1", params)?;
        // Of the key there is no other copy in this process now.
        drop(zkey);
        let info = wait(|| {
            let info = client.call("prover_listCircuitsV1", json!({}))?[0].take();
            ensure!(info["state"] != "failed", "the key was refused: {info}");
            Ok((info["state"] == "ready").then_some(info))
        })?;
        let key = info["verificationKey"].to_string();
        Ok(Member {
            name,
            client,
            circuit,
            witness,
            key: VerificationKey::parse(key.as_bytes()).context("its verification key")?,
        })
    }

    /// Puts a policy in force by which tenants are quiet after so long; anybody is asked to wait for it.
    fn quiet(&self, ms: u64, anybody: &Member) -> Result<()> {
        write_policy(self.folder.path(), ms)?;
        ensure!(self.node.reload_policy()?, "there is a policy file");
        // Goes through the arbiter behind the policy, and is no demand.
        anybody.client.call("pool_statusV1", json!({})).map(drop)
    }

    fn footprint(&self) -> Result<Footprint> {
        let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").context("smaps_rollup")?;
        let rss = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kib = rss.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        let data = self.folder.path().join("data");
        let disk = statvfs(&data).context("statvfs")?;
        Ok(Footprint {
            rss: 1024 * kib.context("a line of Rss in smaps_rollup")?,
            files: lengths(&data.join("blobs"))?,
            disk_free: disk.blocks_free() * disk.fragment_size(),
        })
    }
}

/// A tenant, and what it proves.
struct Member {
    name: &'static str,
    client: Client,
    circuit: String,
    witness: Vec<u8>,
    key: VerificationKey,
}

impl Member {
    /// Makes proofs one after another and verifies them; milliseconds from submission to proof.
    fn proofs(&self, count: usize) -> Result<Vec<f64>> {
        (0..count).map(|_| self.proof()).collect()
    }

    fn proof(&self) -> Result<f64> {
        // Every job comes with its witness, as real ones do.
        let witness = self.client.store(&self.witness)?;
        let params = json!({ "circuit": self.circuit, "witness": witness });
        let begun = Instant::now();
        let status = self.client.call("prover_submitV1", params)?;
        let query = json!({ "job": status["job"] });
        loop {
            let status = self.client.call("prover_statusV1", query.clone())?;
            match status["state"].as_str() {
                Some("proved") => break,
                Some("failed" | "cancelled") | None => bail!("a proof did not come out: {status}"),
                Some(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        let result = self.client.call("prover_resultV1", query)?;
        self.verify(&result).context("a proof that is wrong")?;
        Ok(ms)
    }

    fn verify(&self, result: &Value) -> Result<()> {
        let curve = self.key.curve;
        let proof = Proof::parse(result["proof"].to_string().as_bytes(), Some(curve))?;
        let inputs = result["publicInputs"].to_string();
        let inputs = PublicInputs::parse(inputs.as_bytes(), curve)?;
        Ok(verify(&self.key, &proof, &inputs)?)
    }

    fn storage(&self) -> Result<(TenantStorage, Vec<StorageRelease>)> {
        let status = self.client.call("pool_storageV1", json!({}))?;
        let mut status: StorageStatus = serde_json::from_value(status)?;
        let own = status.tenants.pop().context("its own line")?;
        Ok((own, status.releases))
    }
}

fn back(release: &StorageRelease) -> u64 {
    release.tables_bytes + release.keys_bytes + release.blobs_bytes
}

fn held(it: &TenantStorage) -> u64 {
    it.tables_bytes + it.keys_bytes + it.blobs_bytes
}

fn write_policy(folder: &Path, quiet_ms: u64) -> Result<()> {
    let text: String = [TABLED, PLAIN]
        .map(|name| {
            format!(
                "[classes.{name}]\nvalue = 1\nguarantee_percent = 0\n\
                 [classes.{name}.give_back]\nquiet_ms = {quiet_ms}\n"
            )
        })
        .concat();
    std::fs::write(folder.join("policy.toml"), text).context("the policy")
}

/// Bytes of all files below a folder.
fn lengths(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() {
            lengths(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(sum)
}

/// Asks until there is an answer.
fn wait<T>(mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(begun.elapsed() < PATIENCE, "nothing came of it");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A quantile of a few figures, by rank.
fn quantile(figures: &[f64], at: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * at).round() as usize]
}

const TABLED: &str = "with_tables";
const PLAIN: &str = "without_any";

const CONFIG: &str = "
listen = '127.0.0.1:0'
data = 'data'
development = true
keep_witnesses = true
policy_file = 'policy.toml'
[[tenant]]
name = 'with_tables'
scenario = 'with_tables'
[[tenant]]
name = 'without_any'
scenario = 'without_any'
";

/// A year, in which nobody is quiet here, and a moment, after which everybody is.
const NEVER: u64 = 31_536_000_000;
const AT_ONCE: u64 = 1;

const TABLE_BYTES: u64 = 2 << 30;
/// Proofs before each release.
const WARM: usize = 3;
const MIB: f64 = (1 << 20) as f64;
/// Far above anything that should happen, so that a bench that hangs ends.
const PATIENCE: Duration = Duration::from_secs(300);
