//! What a second box adds, what it takes to bring a witness to it, and how long cores take to change hands on a box of a fleet, whose NATS server runs, is frozen or is killed.
//!
//! Each box is a real `calderad`, all of it on one processor of its own, and a real `calderad-fleet` beside it; they meet at a real NATS
//! server on loopback, which writes before it confirms. A rollup keeps the line of the first box full; as many proofs are waited for by it
//! and, in turns, by a box of the same kind on the same processor that has nobody. Fleet processes and the NATS server run where there is
//! room, so on two processors they take from what is measured. With one processor both boxes share it, and the figure says nothing.
//!
//! A witness goes the way that it goes between boxes: read in pieces from a real `calderad`, for a job that it has lent to this process, over
//! TLS with both certificates into a file whose SHA-256 is right and which is on the disk. Beside it stands the same file over a bare TCP
//! connection, hashed as it comes, and synced. The disk is that of the temporary folder: name it with TMPDIR.
//!
//! Cores change hands on a third box, as `reallocate` has them do by demands that are declared, while a tenant of that box has small jobs that it
//! lends: before it has a fleet process; while that process and the NATS server run, and another box proves what is lent; while the server is
//! frozen; and after it was killed. The other box computes on the same processors, which is more than a fleet does to a box.
//!
//! Whatever is waited for is waited for so long at most, and then said by name.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use caldera_client::ask_local;
use caldera_fleet::calderad::{Calderad, Lent, Part, Socket};
use caldera_fleet::config::secret;
use caldera_fleet::transfer::{Grants, Identity, Wanted, fetch, serve};
use caldera_fleet::{BoxId, Token, admission};
use caldera_rpc::auth::OPERATOR;
use caldera_rpc::methods::Method;
use hdrhistogram::Histogram;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::bench::{Bench, OURS};
use crate::daemon::{Daemon, program};
use crate::drive::Confined;
use crate::duel::{Answer, Contender, Spread};
use crate::live::{Client, Feed, small_key};
use crate::reallocate::{self, Flipper, Moved, TENANTS, Trigger};
use crate::record::{Case, Record, Unit};
use crate::table::{figure, table};
use crate::upload;

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// log2 of the key's domain.
    #[arg(long, default_value_t = LOG2)]
    log2: u32,
    /// Proofs of one round.
    #[arg(long, default_value_t = PROOFS)]
    proofs: u64,
    /// MiB of the witness that is brought to another box.
    #[arg(long, default_value_t = MIB)]
    mib: u64,
    /// How often demand flips on a box of the fleet, in each state of the NATS server.
    #[arg(long, default_value_t = FLIPS)]
    flips: u64,
    /// The NATS server, 2.14 or newer; by default the one that `.ci/tools nats` brings.
    #[arg(long, value_name = "PATH")]
    nats: Option<PathBuf>,
}

/// What came out.
pub(crate) struct Fleet {
    /// Proofs a second of two boxes, over those of one.
    gain: Spread,
    /// The part of the proofs that the second box made.
    elsewhere: f64,
    mib: u64,
    /// The time of a witness to another box, over plain TCP, SHA-256 and fsync.
    brought: Spread,
    /// Cores that changed hands, and the proofs that other boxes made meanwhile, in each of [`STATES`].
    moved: Vec<(Moved, u64)>,
}

impl Plan {
    /// What is measured unless something else is asked for.
    pub(crate) fn usual() -> Plan {
        Plan {
            log2: LOG2,
            proofs: PROOFS,
            mib: MIB,
            flips: FLIPS,
            nats: None,
        }
    }

    /// It takes no time.
    pub(crate) fn short() -> Plan {
        Plan {
            log2: 5,
            proofs: 2,
            mib: 3,
            flips: 20,
            nats: None,
        }
    }

    fn nats(&self) -> Result<PathBuf> {
        let brought =
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/nats-server");
        let path = self.nats.clone().unwrap_or_else(brought);
        ensure!(
            path.is_file(),
            "{} is missing: `.ci/tools nats` brings a NATS server, --nats names another",
            path.display()
        );
        Ok(path)
    }
}

impl Fleet {
    /// Whether all are as they should be.
    pub(crate) fn holds(&self) -> bool {
        self.gain.median >= GAIN_MIN
            && self.brought.median <= BROUGHT_MAX
            && self.moved.iter().all(|(moved, _)| moved.is_in_time())
    }
}

/// Measures all.
pub(crate) fn fleet(bench: &mut Bench, plan: &Plan) -> Result<Fleet> {
    ensure!(plan.proofs > 0, "proofs: expected 1 or more, got 0");
    ensure!(plan.mib > 0, "mib: expected 1 or more, got 0");
    ensure!(plan.flips > 0, "flips: expected 1 or more, got 0");
    let nats = plan.nats()?;
    bench.say("fleet: boxes start");
    let region = Region::new()?;
    let processors = bench.origin.cores;
    let mut first = Member::new(&region, 0, on_processor(0, start_box)?)?;
    let mut second = Member::new(&region, 1, on_processor(1 % processors, start_box)?)?;
    let mut third = Member::new(&region, 2, start_flipped()?)?;
    let alone = on_processor(0, start_box)?;
    let server = region.start(&nats)?;
    first.join(&region)?;
    second.join(&region)?;
    first.await_room()?;
    bench.say("fleet: a key is made");
    let key = small_key(plan.log2)?;
    let (gain, elsewhere) = shared(bench, plan, &first, &alone, &key)?;
    let brought = brought(bench, plan, &alone, [&first, &second], &key)?;
    // Only who proves for the third box goes on.
    drop((first, alone));
    let moved = moved(bench, plan, &region, &mut third, server)?;
    Ok(Fleet {
        gain,
        elsewhere,
        mib: plan.mib,
        brought,
        moved,
    })
}

/// The figures as a table.
pub(crate) fn of_fleet(it: &Fleet) -> String {
    let ratio = |r: Spread| format!("{:.2} ({:.2}..{:.2})", r.median, r.low, r.high);
    let met = |met| if met { "met" } else { "not met" }.to_owned();
    let rows = vec![
        vec![
            "proofs of two boxes, over those of one".to_owned(),
            ratio(it.gain),
            format!(">= {GAIN_MIN}"),
            met(it.gain.median >= GAIN_MIN),
        ],
        vec![
            format!("{} MiB to another box, over TCP, SHA-256 and fsync", it.mib),
            ratio(it.brought),
            format!("<= {BROUGHT_MAX}"),
            met(it.brought.median <= BROUGHT_MAX),
        ],
    ];
    let states = it
        .moved
        .iter()
        .zip(STATES)
        .map(|((moved, elsewhere), name)| {
            let all = moved.all();
            let ms = |quantile| figure(all.value_at_quantile(quantile) as f64 / 1e6);
            vec![
                name.to_owned(),
                all.len().to_string(),
                ms(0.5),
                ms(0.99),
                figure(all.max() as f64 / 1e6),
                moved.missed.to_string(),
                moved.exempt.to_string(),
                elsewhere.to_string(),
                met(moved.is_in_time()),
            ]
        });
    let head = [
        "cores that change hands",
        "cores",
        "p50 ms",
        "p99 ms",
        "longest ms",
        "over 100 ms",
        "exempt",
        "proved elsewhere",
        "",
    ];
    format!(
        "{:.0} % of the proofs of two boxes were made by the second\n{}\n{}",
        100.0 * it.elsewhere,
        table(&["a fleet", "ratio", "bar", ""], &rows),
        table(&head, &states.collect::<Vec<_>>())
    )
}

/// Proofs by two boxes and by one.
fn shared(
    bench: &mut Bench,
    plan: &Plan,
    first: &Member,
    alone: &Daemon,
    key: &(Vec<u8>, Vec<u8>),
) -> Result<(Spread, f64)> {
    let case = Case {
        bench: "fleet",
        case: format!("{} proofs, boxes of one processor", plan.proofs),
        size: 1 << plan.log2,
        threads: 2,
        unit: Unit::WallMilliseconds,
        inside: Some(
            "from submissions to proofs that the box which took them has verified, its line full",
        ),
    };
    let proofs = plan.proofs;
    let by = |name: &'static str, line: Line| {
        Contender::ours(
            name,
            line,
            move |line: &mut Line| line.prove(proofs),
            |line| line.cancel().map(|()| Answer::Verified),
        )
    };
    let contenders = vec![
        by(OURS, Line::new(bench, "two boxes", &first.daemon, key)?),
        by("one box", Line::new(bench, "one box", alone, key)?),
    ];
    let runs = bench.case(&case, contenders)?;
    let operator = first.daemon.client(OPERATOR)?;
    let elsewhere = operator.metric(ELSEWHERE)? / operator.metric(PROVED)?.max(1.0);
    Ok((runs[1].wall_ratio(&runs[0]), elsewhere))
}

/// A witness to another box, and over a bare connection.
fn brought(
    bench: &mut Bench,
    plan: &Plan,
    from: &Daemon,
    members: [&Member; 2],
    key: &(Vec<u8>, Vec<u8>),
) -> Result<Spread> {
    bench.say(&format!(
        "fleet: a witness of {} MiB is stored and lent",
        plan.mib
    ));
    let folder = tempfile::tempdir().context("a folder")?;
    let source = folder.path().join("source");
    upload::write(&source, plan.mib)?;
    let client = from.client(ROLLUP)?;
    let name = client.digest_of(&source)?;
    client.upload(&source, &name)?;
    let digest = digest(&name)?;

    let taker = Builder::new_current_thread().enable_all().build()?;
    let giver = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let fleet = secret(&from.secret_file("fleet"))?;
    let socket = Arc::new(Socket::new(&socket_of(from), fleet, None));
    let mut line = Line::new(bench, "who lends", from, key)?;
    let lent = lent(&taker, &socket, &mut line, &name, digest)?;
    let [giving, taking] = members;
    let grants = Grants::default();
    grants.give(
        lent.job,
        TOKEN,
        taking.who,
        (lent.witness_bytes, lent.key_bytes),
    );
    let listener = giver.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let wanted = Wanted {
        who: giving.who,
        address: listener.local_addr()?,
        job: lent.job,
        token: TOKEN,
        part: Part::Witness,
        digest,
        bytes: lent.witness_bytes,
    };
    giver.spawn(serve(listener, giving.identity()?, grants, socket));
    let identity = taking.identity()?;

    let case = Case {
        bench: "fleet",
        case: format!("a witness of {} MiB to another box", plan.mib),
        size: plan.mib << 20,
        threads: bench.origin.cores,
        unit: Unit::WallMilliseconds,
        inside: Some(
            "from a calderad's blob to a synced file of another box's fleet process, TLS and SHA-256 included; not what that box's calderad does with it",
        ),
    };
    let remove = |path: &PathBuf| {
        std::fs::remove_file(path).context("removing a file")?;
        Ok::<_, anyhow::Error>(Answer::Verified)
    };
    let contenders = vec![
        Contender::ours(
            OURS,
            folder.path().join("brought.wtns"),
            |path: &mut PathBuf| {
                let fetched = taker
                    .block_on(async { timeout(PATIENCE, fetch(&identity, &wanted, path)).await });
                Ok(fetched.context(in_vain("a witness from another box"))??)
            },
            remove,
        ),
        Contender::ours(
            "TCP, SHA-256, fsync",
            folder.path().join("plain"),
            |path: &mut PathBuf| plain(&source, path, digest),
            remove,
        ),
    ];
    let runs = bench.case(&case, contenders)?;
    line.cancel()?;
    Ok(runs[0].wall_ratio(&runs[1]))
}

/// Has a box lend a job with this witness, which is none of its circuit: it is submitted behind others, so nobody looks at it.
fn lent(
    runtime: &Runtime,
    socket: &Socket,
    line: &mut Line,
    witness: &str,
    digest: [u8; 32],
) -> Result<Lent> {
    let began = Instant::now();
    loop {
        for _ in 0..DEEP {
            line.submit()?;
        }
        let usual = line.submission.clone();
        line.submission["witness"] = witness.into();
        let submitted = line.submit();
        line.submission = usual;
        submitted?;
        // If it came first in its line after all, it has failed.
        let large = line.jobs.pop();
        let taken = runtime.block_on(async { timeout(PATIENCE, taken(socket, digest)).await });
        if let Some(lent) = taken.context(in_vain("jobs that a box lends"))?? {
            // The others would be in the way.
            line.cancel()?;
            line.jobs = large.into_iter().collect();
            return Ok(lent);
        }
        ensure!(
            began.elapsed() < PATIENCE,
            in_vain("a job with a large witness that is lent")
        );
    }
}

/// Takes jobs until there is the one with a witness, and gives the others back.
async fn taken(socket: &Socket, digest: [u8; 32]) -> Result<Option<Lent>> {
    let mut cursor = socket.held().await?.cursor;
    loop {
        let taken = socket.take(1, Duration::from_secs(1), cursor).await?;
        cursor = taken.cursor;
        let Some(lent) = taken.jobs.into_iter().next() else {
            return Ok(None);
        };
        if lent.witness == digest {
            return Ok(Some(lent));
        }
        socket.give_back(lent.job, lent.fence).await?;
    }
}

/// The same file over a bare connection: what wire, digest and disk take at least.
fn plain(source: &Path, to: &Path, expected: [u8; 32]) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let digest = std::thread::scope(|scope| {
        let giving = scope.spawn(move || {
            let (mut stream, _) = listener.accept()?;
            std::io::copy(&mut File::open(source)?, &mut stream)
        });
        let mut stream = TcpStream::connect(address)?;
        let (mut file, mut digest) = (File::create(to)?, Sha256::new());
        let mut piece = vec![0; 1 << 20];
        loop {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                break;
            }
            digest.update(&piece[..count]);
            file.write_all(&piece[..count])?;
        }
        file.sync_all()?;
        match giving.join() {
            Ok(given) => given?,
            Err(_) => bail!("who sends panicked"),
        };
        Ok::<_, anyhow::Error>(<[u8; 32]>::from(digest.finalize()))
    })?;
    let folder = to.parent().context("a folder")?;
    File::open(folder)?.sync_all()?;
    ensure!(digest == expected, "another file has come");
    Ok(())
}

/// Cores that change hands on a box, in each of [`STATES`].
fn moved(
    bench: &mut Bench,
    plan: &Plan,
    region: &Region,
    member: &mut Member,
    server: Process,
) -> Result<Vec<(Moved, u64)>> {
    let process = member.daemon.server()?.process().as_raw().cast_unsigned();
    let flips = reallocate::Plan::usual(Trigger::Declared, plan.flips);
    let [busy, other] = TENANTS.map(|name| member.daemon.client(name));
    let (busy, other) = (busy?, other?);
    let mut flipper = Flipper::new(&flips, &busy, &other, process)?;
    let rollup = member.daemon.client(ROLLUP)?;
    let (zkey, witness) = small_key(SMALL)?;
    let mut feed = Feed::new(&rollup, &zkey, &witness)?;
    let operator = member.daemon.client(OPERATOR)?;
    let elsewhere = || Ok::<_, anyhow::Error>(operator.metric(ELSEWHERE)? as u64);
    let mut server = Some(server);
    let mut all = Vec::new();
    for (state, name) in STATES.into_iter().enumerate() {
        bench.say(&format!("fleet: {} flips, {name}", plan.flips));
        match (state, &server) {
            (0, _) => {}
            (1, _) => {
                member.join(region)?;
                member.await_room()?;
            }
            (2, Some(server)) => server.signal(Signal::SIGSTOP)?,
            _ => server = None,
        }
        let begun = Instant::now();
        let mut moved = Moved::new(&flips);
        let stop = AtomicBool::new(false);
        let proved = std::thread::scope(|scope| {
            let (feed, stop) = (&mut feed, &stop);
            let fed = scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    feed.fill(LENT)?;
                    std::thread::sleep(LENT_EVERY);
                }
                Ok::<_, anyhow::Error>(())
            });
            let measured = (|| {
                let before = elsewhere()?;
                // Else it would be measured how nothing is lent.
                while state == 1 && elsewhere()? == before {
                    let waited = begun.elapsed();
                    ensure!(waited < PATIENCE, in_vain("a proof of another box"));
                    std::thread::sleep(STEP);
                }
                flipper.flip(bench, &mut moved)?;
                Ok(elsewhere()? - before)
            })();
            stop.store(true, Ordering::Relaxed);
            match fed.join() {
                Ok(fed) => fed.and(measured),
                Err(_) => bail!("who submits jobs panicked"),
            }
        })?;
        let line = of_state(bench, &moved, name, flipper.units(), begun.elapsed());
        bench.keep(line)?;
        all.push((moved, proved));
    }
    Ok(all)
}

fn of_state(bench: &Bench, moved: &Moved, name: &str, units: u32, wall: Duration) -> Record {
    let all: Histogram<u64> = moved.all();
    let ms = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
    Record {
        size: u64::from(units),
        threads: units as usize,
        wall_s: wall.as_secs_f64(),
        inside: Some(format!(
            "from the receipt of the demand to the worker's first look; p99 {:.3} ms, longest {:.3} ms; {} over the limit, {} of them exempt",
            ms(0.99),
            all.max() as f64 / 1e6,
            moved.missed,
            moved.exempt,
        )),
        ..bench.times("fleet", format!("cores that change hands, {name}"), &all)
    }
}

/// A rollup that keeps the line of a box full.
struct Line {
    /// Whose it is, for whoever waits.
    name: &'static str,
    tell: bool,
    tenant: Client,
    operator: Client,
    submission: Value,
    /// Those of this turn.
    jobs: Vec<Value>,
}

impl Line {
    fn new(
        bench: &Bench,
        name: &'static str,
        daemon: &Daemon,
        (zkey, witness): &(Vec<u8>, Vec<u8>),
    ) -> Result<Line> {
        let tenant = daemon.client(ROLLUP)?;
        let circuit = tenant.circuit(zkey)?;
        let witness = tenant.store(witness)?;
        Ok(Line {
            name,
            tell: bench.tell,
            tenant,
            operator: daemon.client(OPERATOR)?,
            submission: json!({ "circuit": circuit, "witness": witness }),
            jobs: Vec::new(),
        })
    }

    fn submit(&mut self) -> Result<()> {
        let method = Method::Submit.name();
        let mut status = self.tenant.call(method, self.submission.clone())?;
        self.jobs.push(status["job"].take());
        Ok(())
    }

    /// Until so many more are proved, whoever did it.
    fn prove(&mut self, proofs: u64) -> Result<()> {
        self.jobs.clear();
        let before = self.operator.metric(PROVED)?;
        let began = Instant::now();
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let proved = (self.operator.metric(PROVED)? - before) as u64;
            if proved >= proofs {
                if self.tell {
                    let seconds = began.elapsed().as_secs_f64();
                    eprintln!("fleet: {}: {proved} proofs in {seconds:.1} s", self.name);
                }
                return Ok(());
            }
            if proved > last {
                (last, since) = (proved, Instant::now());
            }
            ensure!(
                since.elapsed() < PATIENCE,
                "{}: {}, after {proved} of {proofs}; of the jobs in its line the first is {}",
                self.name,
                in_vain("another proof"),
                self.first()?
            );
            while (self.jobs.len() as u64) < proved + DEEP {
                self.submit()?;
            }
            std::thread::sleep(STEP);
        }
    }

    /// How the first of its jobs is that has not ended.
    fn first(&self) -> Result<Value> {
        for job in &self.jobs {
            let method = Method::Status.name();
            let status = self.tenant.call(method, json!({ "job": job }))?;
            if status["state"] != "proved" {
                return Ok(status);
            }
        }
        Ok(Value::Null)
    }

    /// Nothing of this turn goes on in the next.
    fn cancel(&self) -> Result<()> {
        for job in &self.jobs {
            let status = self
                .tenant
                .call(Method::Cancel.name(), json!({ "job": job }))?;
            let ended = ["proved", "cancelled"]
                .iter()
                .any(|it| status["state"] == *it);
            ensure!(ended, "a job was to be proved or cancelled: {status}");
        }
        Ok(())
    }
}

/// Who belongs to a fleet, and where it meets.
struct Region {
    folder: TempDir,
    port: u16,
}

impl Region {
    fn new() -> Result<Region> {
        let folder = tempfile::tempdir().context("a folder")?;
        admission::init(&folder.path().join("fleet"))?;
        let port = free_port()?;
        Ok(Region { folder, port })
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("fleet")
    }

    /// Starts the server, after all boxes are admitted.
    fn start(&self, nats: &Path) -> Result<Process> {
        let authority = self.authority();
        let own = admission::admit_server(&authority, "only", &["127.0.0.1".to_owned()])?;
        let text = format!(
            "server_name: only\nlisten: \"127.0.0.1:{}\"\n\
             jetstream {{ store_dir: {:?}, sync_interval: always }}\n\
             tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n\
             include ./fleet/accounts.conf\n",
            self.port,
            self.folder.path().join("store"),
            own.join("server.crt"),
            own.join("server.key"),
            authority.join("ca.crt"),
        );
        let path = self.folder.path().join("nats.conf");
        std::fs::write(&path, text).context("the server's configuration")?;
        Process::start(Command::new(nats).arg("-c").arg(path), &own.join("log"))
    }
}

/// A box of a fleet.
struct Member {
    daemon: Daemon,
    who: BoxId,
    node_key: String,
    /// The folder of its fleet process.
    own: PathBuf,
    process: Option<Process>,
}

impl Member {
    /// Admits a box that runs.
    fn new(region: &Region, nth: usize, daemon: Daemon) -> Result<Member> {
        let node_key = format!("{:064x}", nth + 1);
        let who = BoxId::of_node_key(&node_key).context("a node key")?;
        let own = admission::admit(&region.authority(), who, &node_key)?;
        Ok(Member {
            daemon,
            who,
            node_key,
            own,
            process: None,
        })
    }

    /// Starts its fleet process.
    fn join(&mut self, region: &Region) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let text = format!(
            "node_key = '{}'\nstate = '.'\ncontrol_socket = 'control.sock'\n\
             certificate = 'box.crt'\nkey = 'box.key'\nca = 'ca.crt'\n\
             [nats]\nurls = ['tls://127.0.0.1:{}']\nnkey_seed_file = 'box.nk'\nreplicas = 1\n\
             [transfer]\nlisten = '{address}'\nadvertise = '{address}'\n\
             [calderad]\nsocket = {:?}\nsecret_file = {:?}\n\
             [lend]\ntenant = '{GUESTS}'\nsecret_file = {:?}\njobs = {OFFERED}\ncores = 1\n",
            self.node_key,
            region.port,
            socket_of(&self.daemon),
            self.daemon.secret_file("fleet"),
            self.daemon.secret_file(GUESTS),
        );
        let path = self.own.join("fleet.toml");
        std::fs::write(&path, text).context("the configuration of a fleet process")?;
        let mut command = Command::new(program("calderad-fleet")?);
        command.args(["run", "--config"]).arg(path);
        self.process = Some(Process::start(&mut command, &self.own.join("log"))?);
        Ok(())
    }

    /// Waits until another box has said that it has room.
    fn await_room(&self) -> Result<()> {
        let socket = self.own.join("control.sock");
        let began = Instant::now();
        loop {
            // It may not listen yet.
            let status = ask_local(&socket, "/status", None).unwrap_or_default();
            let boxes = status["boxes"].as_array().map_or(&[][..], Vec::as_slice);
            if boxes.iter().any(|it| it["room"].as_u64() > Some(0)) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "{}: {status}; what its fleet process says: {}",
                in_vain("another box that has room"),
                std::fs::read_to_string(self.own.join("log")).unwrap_or_default()
            );
            std::thread::sleep(STEP);
        }
    }

    fn identity(&self) -> Result<Identity> {
        let path = |name: &str| self.own.join(name);
        Ok(Identity::open(
            &path("ca.crt"),
            &path("box.crt"),
            &path("box.key"),
        )?)
    }
}

/// A program that runs; killed when this is dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Result<Process> {
        let log = File::create(log).context("a log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Process(child))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = Pid::from_raw(self.0.id().cast_signed());
        kill(process, signal).with_context(|| format!("sending {signal}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_box() -> Result<Daemon> {
    Daemon::start(CONFIG, Some(POLICY), &[(ROLLUP, "only"), (GUESTS, "only")])
}

/// A box with all processors, whose demand flips, and which lends other jobs.
fn start_flipped() -> Result<Daemon> {
    let [busy, other] = TENANTS;
    let tenants = [(busy, busy), (other, other), (ROLLUP, busy), (GUESTS, busy)];
    Daemon::start(CONFIG, Some(reallocate::DECLARED), &tenants)
}

/// Starts something all of whose threads stay on one processor.
fn on_processor<T>(place: usize, start: fn() -> Result<T>) -> Result<T> {
    let _confined = Confined::to(place..place + 1)?;
    start()
}

fn socket_of(daemon: &Daemon) -> PathBuf {
    daemon.data().with_file_name("fleet.sock")
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
    Ok(listener.local_addr()?.port())
}

/// What an error says of a wait that was too long.
fn in_vain(what: &str) -> String {
    format!("waited {} s in vain for {what}", PATIENCE.as_secs())
}

fn digest(name: &str) -> Result<[u8; 32]> {
    let digest: caldera_rpc::methods::Digest = name.parse()?;
    Ok(digest.0)
}

const ROLLUP: &str = "rollup";
const GUESTS: &str = "guests";
const TOKEN: Token = Token(1);
const PROVED: &str = "caldera_jobs_ended_total{outcome=\"proved\"}";
const ELSEWHERE: &str = "caldera_fleet_proved_total";
/// A quarter of a minute of one processor; a round and a half of them for each that is counted.
const PROOFS: u64 = 32;
const LOG2: u32 = 16;
const MIB: u64 = 200;
/// Half a minute: longer than it takes to find that a server hangs.
const FLIPS: u64 = 5_000;
/// log2 of the domain of what is lent while demand flips; how many of it are submitted at once, which is more than a tenant may have prepared; and
/// how often: it is to be lent, and not to keep the processors from the box that is measured.
const SMALL: u32 = 4;
const LENT: usize = 16;
const LENT_EVERY: Duration = Duration::from_millis(300);
const STATES: [&str; 4] = [
    "without a fleet",
    "in a fleet",
    "its NATS server frozen",
    "its NATS server killed",
];
/// What is asked for.
const GAIN_MIN: f64 = 1.8;
const BROUGHT_MAX: f64 = 3.0;
/// So many jobs a box asks for at once: what it proves between two beats, twice over.
const OFFERED: u32 = 16;
/// Jobs that are not ended: what both boxes have begun, and more.
const DEEP: u64 = 40;
/// Between two looks at what has come out: a look costs the box a millisecond.
const STEP: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(120);

const POLICY: &str = "
[classes.only]
value = 1
guarantee_percent = 0
";

/// Without tables of keys, which would make later proofs cheaper than earlier ones.
const CONFIG: &str = "
listen = '127.0.0.1:0'
data = 'data'
development = true
keep_witnesses = true
policy_file = 'policy.toml'
[limits]
table_bytes = 0
[fleet]
socket = 'fleet.sock'
lend = ['rollup']
after_ms = 0
";
