//! A running box: all threads, put together and taken apart.
//!
//! Starting goes from what can fail for the operator's reasons (secrets, the store, the address)
//! to what cannot, so a box that does not start has changed nothing but its own folder. Every
//! thread settles on its cores before it does anything else and says what it got; the address is
//! given out only when all of them stand.
//!
//! A thread that panics takes the process with it. Kernels and readers of strangers' files are
//! caught where they are called; what is left is a broken invariant of ours, and a box that has
//! lost its arbiter, its clerk or a worker looks alive and is not. Whoever supervises the process
//! starts it again, and the store is made for that.
//!
//! Stopping: the shell is told, stops listening, gives answers that are on their way the time that the configuration names,
//! and ends; then workers end after the quantum that they are in. Jobs that have not ended go on when the box
//! starts again; what the store holds is synced as it is written, so there is nothing to flush.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use caldera_devices::{Missing, Wanted};
use caldera_kernels::Device;
use caldera_prover::groth16::PreparedKey;
use caldera_rpc::auth::{FLEET, Keyring, OPERATOR};
use caldera_rpc::chain::chain;
use caldera_rpc::node_key::NodeKey;
use caldera_scheduler::arbiter::TenantRefusal;
use caldera_scheduler::mailbox::mailbox;
use caldera_scheduler::pool::{self, Core, Kind, PoolError};
use caldera_scheduler::{Arbiter, Nanos, Pool, UnitId};
use caldera_store::blob::{BlobError, BlobLimits, BlobStore};
use caldera_store::database::{Database, DatabaseError};
use caldera_store::tenants::TenantRow;
use thiserror::Error;

use crate::arbiter_thread::{self, ArbiterThread, Command, Inbox, Outbox};
use crate::board::Board;
use crate::clerk::Clerk;
use crate::clock::{Clock, unix_time};
use crate::config::{Config, ConfigError, draw_secret, open_secret, read_policy, read_schemas};
use crate::era::{Era, OpenError};
use crate::lending::{self, Lender};
use crate::local_socket::{LocalSocket, LocalSocketError};
use crate::memory;
use crate::notary::{self, Notary};
use crate::notify::{Watchdog, notify};
use crate::numa::Nodes;
use crate::pin::{self, PinError, Placement, Standing};
use crate::preparer::{PREPARERS, Preparations, Preparer};
use crate::reader::{READINGS_MAX, Reader};
use crate::reaper::reaper;
use crate::registrar::Registrar;
use crate::residence::{self, Residence};
use crate::service::{Message, Parts, Post, Service, States, Wake};
use crate::shell::{Bell, Listener, Shell};
use crate::tables::{self, TableMaker};
use crate::telemetry::Silicon;
use crate::tls::{Tls, TlsError};
use crate::witness::Programs;
use crate::worker::Worker;

/// A box that runs.
pub struct Node {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    wake: Wake,
    board: Arc<Board>,
    inbox: Arc<Inbox>,
    preparations: Arc<Preparations>,
    residence: Arc<Residence>,
    tables: Option<Sender<tables::Request>>,
    policy_file: Option<PathBuf>,
    tls: Option<Arc<Tls>>,
    service: Post,
    shell: Option<JoinHandle<()>>,
    threads: Vec<JoinHandle<()>>,
    background: Vec<usize>,
}

/// Why a box did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration does not fit this machine, or a secret cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Certificates or the key of TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] Box<TlsError>),
    /// A socket for those who are on the box cannot be made.
    #[error(transparent)]
    LocalSocket(#[from] LocalSocketError),
    /// The device that the configuration asks for cannot be had.
    #[error(transparent)]
    Device(#[from] caldera_devices::OpenError),
    /// Workers cannot be placed.
    #[error(transparent)]
    Placement(#[from] PinError),
    /// The pool was refused.
    #[error("pool")]
    Pool(#[from] PoolError),
    /// A tenant was refused.
    #[error("tenants")]
    Tenant(#[from] TenantRefusal),
    /// The data folder cannot be made.
    #[error("making {}", path.display())]
    Data {
        /// The folder.
        path: std::path::PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store of blobs cannot be opened.
    #[error("blob store")]
    Blobs(#[from] BlobError),
    /// The database cannot be opened.
    #[error("database")]
    Database(#[from] DatabaseError),
    /// The ledger cannot be opened.
    #[error("ledger")]
    Era(#[source] Box<OpenError>),
    /// The address cannot be listened on.
    #[error("listening on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The system gave no thread or no poll.
    #[error("{what}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl StartError {
    /// The exit code that fits, from `sysexits.h`: 78 for what the operator wrote, 75 for what
    /// another process holds and may give back, 69 for what the machine does not give.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Config(_)
            | StartError::Tls(_)
            | StartError::Placement(PinError::Workers { .. })
            | StartError::Pool(_)
            | StartError::Tenant(_) => 78,
            StartError::LocalSocket(
                LocalSocketError::Occupied { .. } | LocalSocketError::Group { .. },
            ) => 78,
            StartError::Blobs(BlobError::Locked { .. })
            | StartError::LocalSocket(LocalSocketError::Answered { .. }) => 75,
            StartError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => 75,
            _ => 69,
        }
    }
}

impl Node {
    /// Starts a box. When this returns it answers at [`Node::address`].
    pub fn start(config: Config) -> Result<Node, StartError> {
        Node::start_on(config, |device| device)
    }

    /// Reads all that a configuration names, as [`Node::start`] would. It makes nothing, opens no device, and leaves the data
    /// folder alone: a box may be running on it.
    pub fn check(config: &Config) -> Result<(), StartError> {
        config.check_secrets()?;
        let tls = config.tls.clone().map(Tls::open).transpose();
        tls.map_err(Box::new)?;
        read_schemas(config.state.schemas.as_deref())?;
        presentation_key(config)?;
        placement(config)?;
        Ok(())
    }

    /// Starts a box on what `device` makes of the configured device: around it, so that what it
    /// does can be watched, held up or broken.
    pub fn start_on(
        config: Config,
        device: impl FnOnce(Arc<dyn Device>) -> Arc<dyn Device>,
    ) -> Result<Node, StartError> {
        let clock = Clock::start();
        let config = Arc::new(config);
        make_data_folder(&config)?;
        let mut keyring = keyring(&config)?;
        let tls = config
            .tls
            .clone()
            .map(Tls::open)
            .transpose()
            .map_err(Box::new)?;
        let tls = tls.map(Arc::new);
        let placement = placement(&config)?;
        let workers = placement.workers.len();
        let blobs = BlobStore::open(
            &config.data.join("blobs"),
            BlobLimits {
                blob_bytes_max: config.limits.blob_bytes,
                tenant_bytes_max: config.limits.tenant_blob_bytes,
            },
        )?;
        notify("STATUS=opening the database");
        let mut database = Database::open(&config.data.join(DATABASE))?;
        database.limit_bytes(config.limits.database_bytes)?;
        let master = open_secret(None, &config.data, MASTER)?;
        let added = added_tenants(&config, &mut database, &blobs)?;
        for row in added.iter().filter(|row| !row.suspended) {
            let name = row.tenant.as_str();
            let before = row
                .before
                .map(|(salt, until)| (master.derive(name, &salt), until));
            keyring.hold(name, master.derive(name, &row.salt), before);
        }
        let known = config.tenants.iter().map(|it| &it.name);
        let known: HashSet<_> = known.chain(added.iter().map(|it| &it.tenant)).collect();
        let mut strangers = database.tenants_with_rows()?;
        strangers.extend(blobs.tenants());
        strangers.retain(|name| !known.contains(name));
        strangers.sort_unstable();
        strangers.dedup();
        for name in &strangers {
            tracing::warn!(tenant = %name, "the store has something of a tenant that nobody has named");
        }
        let schemas = Arc::new(read_schemas(config.state.schemas.as_deref())?);
        let presentation_key = presentation_key(&config)?;
        let (notary, notary_questions) = channel();
        let window_seconds = config.state.window_seconds;
        let states = States::replay(
            &database,
            window_seconds,
            notary,
            presentation_key.is_some(),
        )?;
        let (rows, quiet) = (database.all()?, database.open_releases()?);
        let jobs = database.resume_jobs()?;
        notify("STATUS=replaying the ledger");
        let era = open_era(&config, &mut database)?;
        let ledger = era.as_ref().map(|era| Box::new(era.gauges()));
        let listener = Listener::bind(config.listen).map_err(|source| StartError::Listen {
            address: config.listen,
            source,
        })?;
        let address = listener.address();
        let operator_socket = config.operator_socket.as_ref();
        let operator_socket = operator_socket.map(LocalSocket::bind).transpose()?;
        let fleet_socket = config.fleet.as_ref().map(|fleet| &fleet.socket);
        let fleet_socket = fleet_socket.map(LocalSocket::bind).transpose()?;
        let system = |what| move |source| StartError::System { what, source };
        let bell = Bell::new().map_err(system("a poll"))?;
        let wake = bell.wake();
        let quantum = config.policy.limits().quantum;
        let options = caldera_devices::Options {
            icicle_folder: config.icicle_folder.clone(),
            patience: config.device_patience,
            cores: placement.background.clone(),
            calibration: Some(config.data.join("calibration")),
            warn: |text| tracing::warn!("{text}"),
            ..caldera_devices::Options::new(Duration::from_nanos(quantum.0), workers)
        };
        notify("STATUS=opening devices");
        let (opened, missing) = if config.devices_required {
            (caldera_devices::open(&config.devices, &options)?, vec![])
        } else {
            caldera_devices::open_present(&config.devices, &options)?
        };
        let missing = missing.into_iter().map(|Missing { wanted, why }| {
            let error = chain(&why);
            tracing::error!(device = %wanted, %error, "a device is not there: others do its work");
            Silicon::missing(&wanted, &why)
        });
        let missing = missing.collect();
        let device = device(opened);
        // See `residence`.
        device.copies_by_order();
        let devices = device.beside().len();

        let slots = slots(&config);
        let board = Arc::new(Board::new(
            workers,
            devices,
            config.policy.limits().tenants_max as usize,
            slots,
        ));
        let inbox = Arc::new(Inbox::new(slots));
        let outbox = Arc::new(Outbox::new(Arc::clone(&wake)));
        let jobs_max = config.policy.limits().jobs_max as usize;
        let preparations = Arc::new(Preparations::new(jobs_max));
        let programs = Arc::new(Programs::default());
        let (sender, messages) = channel();
        let post = Post::new(sender, Arc::clone(&wake));
        let (measured, measurements) = rtrb::RingBuffer::new(MEASUREMENTS_MAX);
        let job_bytes = config.limits.job_bytes.or_else(memory::for_jobs);
        let job_bytes = job_bytes.unwrap_or(u64::MAX);
        let pool = pool(&placement, &*device, &Nodes::here(), job_bytes)?;
        let residence = Residence::new(
            &pool,
            config.policy.limits().tenants_max as usize,
            Arc::clone(&board),
            Arc::clone(&inbox),
        );
        let residence = Arc::new(residence.with_tables(config.limits.device_table_times));
        let mut arbiter_sides = Vec::with_capacity(pool.units().len());
        let mut crew = Crew::new();

        let [arbiter_fifo, worker_fifo] = config.realtime.priorities(&placement);
        for (number, core) in (0..).zip(&placement.workers) {
            let unit = UnitId(number);
            let (arbiter_side, worker_side) = mailbox(unit, RECORDS_MAX);
            arbiter_sides.push(arbiter_side);
            let worker = Worker::new(
                unit,
                Arc::clone(&board),
                worker_side,
                Arc::clone(&inbox),
                clock,
            )
            .timed(config.limits.profile_bytes > 0);
            let name = format!("worker-{number}");
            crew.hire(name, vec![*core], worker_fifo, move || worker.run())?;
        }
        for (member, unit) in (1..).zip(&pool.units()[pool.range(Kind::Device)]) {
            let (arbiter_side, worker_side) = mailbox(unit.id(), RECORDS_MAX);
            arbiter_sides.push(arbiter_side);
            let (board, inbox) = (Arc::clone(&board), Arc::clone(&inbox));
            let worker = Worker::new(unit.id(), board, worker_side, inbox, clock)
                .timed(config.limits.profile_bytes > 0)
                .of_device(Arc::clone(&device));
            // It waits for fences most of the time, on cores that it shares with threads that workers
            // depend on: so it is like those.
            let (name, cores) = (format!("device-{member}"), placement.background.clone());
            crew.hire(name, cores, None, move || worker.run())?;
        }
        let arbiter = Arbiter::new(pool, config.policy.clone());
        let tenants = config.tenants.iter();
        let tenants = tenants.map(|tenant| (tenant.class, tenant.quotas.running));
        let tenants = tenants.chain(added.iter().filter_map(|row| {
            // What was written came from 32 bits.
            let running = row.running.map(|it| u32::try_from(it).unwrap_or(u32::MAX));
            Some((config.policy.find(&row.scenario)?, running))
        }));
        let tenants: Vec<_> = tenants.collect();
        let arbiter = ArbiterThread::new(
            arbiter_thread::Parts {
                arbiter,
                mailboxes: arbiter_sides,
                board: Arc::clone(&board),
                slots,
                inbox: Arc::clone(&inbox),
                outbox: Arc::clone(&outbox),
                preparations: Arc::clone(&preparations),
                device: Arc::clone(&device),
                residence: Arc::clone(&residence),
                measurements: measured,
                clock,
            },
            &tenants,
        );
        let arbiter = match arbiter {
            Ok(arbiter) => arbiter,
            Err(refusal) => {
                board.stop();
                return Err(refusal.into());
            }
        };
        let cores_of_arbiter = vec![placement.arbiter];
        crew.hire(
            "arbiter".into(),
            cores_of_arbiter,
            arbiter_fifo,
            move || {
                arbiter.run();
            },
        )?;
        let background = &placement.background;
        let (grave, reaper) = reaper();
        crew.hire("reaper".into(), background.clone(), None, move || {
            reaper.run();
        })?;
        for number in 0..PREPARERS {
            let preparer = Preparer {
                number,
                preparations: Arc::clone(&preparations),
                blobs: blobs.clone(),
                programs: Arc::clone(&programs),
                witness: config.limits.witness(),
                witness_max: Nanos::from_millis(config.limits.witness_ms),
                residence: Arc::clone(&residence),
                arbiter: Arc::clone(&inbox),
                service: post.clone(),
                board: Arc::clone(&board),
                workers: workers + devices,
                clock,
            };
            let name = format!("preparer-{number}");
            crew.hire(name, background.clone(), None, move || preparer.run())?;
        }
        let (registrar_sender, requests) = channel();
        let sources = &config.key_sources;
        let registrar = Registrar {
            requests,
            blobs: blobs.clone(),
            device: Arc::clone(&device),
            residence: Arc::clone(&residence),
            sources: sources.clone(),
            development: config.development,
            programs: Arc::clone(&programs),
            witness: config.limits.witness(),
            threads: background.len(),
            service: post.clone(),
        };
        crew.hire("registrar".into(), background.clone(), None, move || {
            registrar.run();
        })?;
        if devices > 0 {
            let (residence, device) = (Arc::clone(&residence), Arc::clone(&device));
            crew.hire("residence".into(), background.clone(), None, move || {
                residence.run(&*device);
            })?;
        }
        let (table_sender, requests) = channel();
        let tables_held = Arc::default();
        let limits = &config.limits;
        let maker = TableMaker::new(
            requests,
            limits.table_bytes,
            limits.table_times,
            Arc::clone(&tables_held),
            post.clone(),
        );
        crew.hire("tables".into(), background.clone(), None, move || {
            maker.run();
        })?;
        let era = match (era, &config.era) {
            (Some(era), Some(it)) => {
                let (sender, readings) = sync_channel(READINGS_MAX);
                let reader = Reader {
                    path: config.data.join(DATABASE),
                    policy: it.policy.clone(),
                    readings,
                    service: post.clone(),
                };
                crew.hire("reader".into(), background.clone(), None, move || {
                    reader.run();
                })?;
                Some((era, sender))
            }
            _ => None,
        };
        let (clerk_sender, tasks) = channel();
        let clerk = Clerk {
            tasks,
            blobs: blobs.clone(),
            database,
            sources: sources.clone(),
            development: config.development,
            service: post.clone(),
            era,
        };
        crew.hire("clerk".into(), background.clone(), None, move || {
            clerk.run()
        })?;

        let notary = Notary {
            requests: notary_questions,
            key: presentation_key,
            schemas,
            service: post.clone(),
        };
        crew.hire("notary".into(), background.clone(), None, move || {
            notary.run();
        })?;

        let lender = match config.fleet {
            None => None,
            Some(_) => {
                let (sender, tasks) = sync_channel(lending::TASKS_MAX);
                let lender = Lender {
                    tasks,
                    blobs: blobs.clone(),
                    service: post.clone(),
                };
                crew.hire("lender".into(), background.clone(), None, move || {
                    lender.run();
                })?;
                Some(sender)
            }
        };

        let mut refused = crew.refused();
        if let Err(text) = pin::lock_memory() {
            refused.push(text);
        }
        for text in &refused {
            tracing::warn!("this system refused {text}");
        }
        let stands: Vec<Standing> = crew.standings(workers + devices);
        let hosts = placement.background.first().copied();
        let cores = placement.workers.iter().copied();
        let cores = cores.chain(hosts.into_iter().cycle());
        let units = cores.zip(stands).collect();
        let parts = Parts {
            job_bytes,
            config: Arc::clone(&config),
            clock,
            keyring,
            master,
            added,
            strangers,
            units,
            refused,
            inbox: Arc::clone(&inbox),
            outbox,
            preparations: Arc::clone(&preparations),
            grave,
            clerk: clerk_sender,
            lender,
            registrar: registrar_sender,
            tables: table_sender.clone(),
            tables_held,
            programs,
            blobs,
            board: Arc::clone(&board),
            device,
            missing,
            residence: Arc::clone(&residence),
            messages,
            measurements,
            circuits: rows,
            ledger,
            jobs,
            quiet,
        };
        let service = Service::new(parts, states);
        let stop = Arc::new(AtomicBool::new(false));
        let shell = Shell::new(
            bell,
            listener
                .with_operator(operator_socket)
                .with_fleet(fleet_socket),
            tls.clone(),
            service,
            &config,
            clock,
            Arc::clone(&stop),
        )
        .map_err(system("a poll"))?;
        let rpc_cores = background.clone();
        let shell = std::thread::Builder::new()
            .name("rpc".into())
            .spawn(move || {
                let _vital = Vital;
                pin::settle(&rpc_cores, None);
                if let Err(error) = shell.run() {
                    // A box that cannot poll its sockets serves nobody: as after a panic.
                    tracing::error!(error = %chain(&error), "polling");
                    std::process::abort();
                }
            })
            .map_err(system("a thread"))?;
        Ok(Node {
            address,
            stop,
            wake,
            board,
            inbox,
            preparations,
            residence,
            tables: Some(table_sender),
            policy_file: config.policy_file.clone(),
            tls,
            service: post,
            shell: Some(shell),
            threads: crew.threads,
            background: placement.background.clone(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what the tables of all keys may take. Tables beyond it are given up, those of the
    /// keys that have not proved for longest first; proofs go on meanwhile. With a larger grant
    /// tables are made again as keys prove.
    pub fn grant_tables(&self, bytes: u64) {
        if let Some(tables) = &self.tables {
            // The maker lives as long as a sender does.
            let _ = tables.send(tables::Request::Grant { bytes });
        }
    }

    /// Reads the policy file again and gives it to the arbiter, which logs whether it is in force
    /// now. One that cannot be read or makes no policy changes nothing; nor does this without a
    /// policy file: `false`.
    pub fn reload_policy(&self) -> Result<bool, ConfigError> {
        let Some(path) = &self.policy_file else {
            return Ok(false);
        };
        let policy = read_policy(path)?;
        self.service.send(Message::Offered {
            policy: Box::new(policy.clone()),
        });
        self.inbox.send_waiting(Command::Adopt(Box::new(policy)));
        Ok(true)
    }

    /// Reads the certificates and the key of TLS again, for connections to come. What cannot be used changes nothing, and
    /// stays to be seen on `/readyz` and in `/metrics`; nor does this change anything without TLS: `false`.
    pub fn reload_tls(&self) -> Result<bool, TlsError> {
        match &self.tls {
            Some(tls) => tls.reload().map(|()| true),
            None => Ok(false),
        }
    }

    /// Has the arbiter's thread feed `watchdog` from now on: a box that no longer decides is then
    /// one that no longer lives.
    pub fn watch(&self, watchdog: Watchdog) {
        let command = Command::Watch(Box::new(watchdog));
        self.inbox.send_waiting(command);
    }

    /// Ties the calling thread to the cores of the background: one that started the box and waits for signals
    /// may otherwise be woken on a worker's.
    pub fn stand_aside(&self) {
        pin::settle(&self.background, None);
    }

    /// Stops the box and waits for all its threads.
    pub fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        let Some(shell) = self.shell.take() else {
            return;
        };
        self.stop.store(true, Ordering::Release);
        (self.wake)();
        // Threads that panic take the process with them, so these joins cannot fail.
        let _ = shell.join();
        self.tables = None;
        self.board.stop();
        self.inbox.wake();
        self.preparations.wake();
        self.residence.wake();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Threads as they start.
struct Crew {
    threads: Vec<JoinHandle<()>>,
    standings: Arc<Mutex<Vec<(String, Standing)>>>,
}

impl Crew {
    fn new() -> Crew {
        Crew {
            threads: Vec::new(),
            standings: Arc::default(),
        }
    }

    /// Starts a thread on its cores and waits until it stands there.
    fn hire(
        &mut self,
        name: String,
        cores: Vec<usize>,
        fifo: Option<i32>,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), StartError> {
        let (said, standing) = channel();
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let _vital = Vital;
                // The one who hires waits for this.
                let _ = said.send(pin::settle(&cores, fifo));
                work();
            })
            .map_err(|source| StartError::System {
                what: "a thread",
                source,
            })?;
        let standing = standing.recv().map_err(|_| StartError::System {
            what: "a thread",
            source: io::Error::other("it ended before it began"),
        })?;
        tracing::debug!(
            name,
            thread = standing.thread,
            policy = standing.policy,
            "thread"
        );
        self.threads.push(thread);
        if let Ok(mut standings) = self.standings.lock() {
            standings.push((name, standing));
        }
        Ok(())
    }

    /// What the first `count` threads got.
    fn standings(&self, count: usize) -> Vec<Standing> {
        let all = self.standings.lock().map(|all| all.clone());
        let all = all.unwrap_or_default().into_iter();
        all.take(count).map(|(_, standing)| standing).collect()
    }

    /// What was refused, in words.
    fn refused(&self) -> Vec<String> {
        let all = self.standings.lock().map(|all| all.clone());
        let words = |(name, standing): (String, Standing)| {
            let refused = standing.refused.into_iter();
            refused
                .map(move |text| format!("{text} ({name})"))
                .collect::<Vec<_>>()
        };
        all.unwrap_or_default()
            .into_iter()
            .flat_map(words)
            .collect()
    }
}

/// Ends the process if its thread panics.
struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The panic itself has been printed by now.
            std::process::abort();
        }
    }
}

/// The workers' cores, the devices beside the host, and the memory for jobs.
fn pool(
    placement: &Placement,
    device: &dyn Device,
    nodes: &Nodes,
    job_bytes: u64,
) -> Result<Pool, PoolError> {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let cores = placement.workers.iter().map(|core| Core {
        number: number(*core),
        node: nodes.of_core(*core),
    });
    let devices = (0..device.beside().len()).map(|at| {
        let site = device.site(at + 1);
        pool::Device {
            number: number(at),
            node: site.pci.and_then(|address| nodes.of_device(&address)),
            // Where a driver does not say how much there is, it says when there is none left.
            memory: site.memory.map_or(u64::MAX, residence::room),
        }
    });
    let (cores, devices): (Vec<_>, Vec<_>) = (cores.collect(), devices.collect());
    Pool::of(&cores, &devices, job_bytes)
}

fn placement(config: &Config) -> Result<Placement, PinError> {
    let beside = config.devices.iter().filter(|it| **it != Wanted::Cpu);
    Placement::plan(&pin::allowed_cores()?, config.workers, beside.count())
}

fn presentation_key(config: &Config) -> Result<Option<PreparedKey>, ConfigError> {
    let open = |path: &PathBuf| {
        notary::open_key(path, config.development).map_err(|source| ConfigError::StateKey {
            path: path.clone(),
            source: Box::new(source),
        })
    };
    config.state.key.as_ref().map(open).transpose()
}

fn make_data_folder(config: &Config) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data)
        // A box that acknowledges jobs must find its folder after a power cut.
        .and_then(|()| {
            let parent = config.data.canonicalize()?;
            std::fs::File::open(parent.parent().unwrap_or(&parent))?.sync_all()
        })
        .map_err(|source| StartError::Data {
            path: config.data.clone(),
            source,
        })
}

fn keyring(config: &Config) -> Result<Keyring, ConfigError> {
    let mut keyring = Keyring::new(draw_secret()?);
    let operator = open_secret(
        config.operator_secret_file.as_deref(),
        &config.data,
        OPERATOR,
    )?;
    keyring.insert(OPERATOR, operator);
    for tenant in &config.tenants {
        let name = tenant.name.as_str();
        let secret = open_secret(tenant.secret_file.as_deref(), &config.data, name)?;
        keyring.insert(name, secret);
    }
    if let Some(fleet) = &config.fleet {
        let secret = open_secret(fleet.secret_file.as_deref(), &config.data, FLEET)?;
        keyring.insert(FLEET, secret);
    }
    Ok(keyring)
}

/// The tenants that were added. What removed ones had is erased before.
fn added_tenants(
    config: &Config,
    database: &mut Database,
    blobs: &BlobStore,
) -> Result<Vec<TenantRow>, StartError> {
    let mut added = Vec::new();
    for row in database.tenants()? {
        let name = &row.tenant;
        if row.removed {
            let witnesses = database.witnesses_left(name)?;
            let witnesses: Vec<_> = witnesses.into_iter().map(|it| (name.clone(), it)).collect();
            blobs.erase(&witnesses)?;
            for (digest, _) in blobs.list(name) {
                blobs.remove(name, digest)?;
            }
            database.forget_tenant(name)?;
            tracing::info!(tenant = %name, "what a removed tenant had is erased");
            continue;
        }
        if config.tenants.iter().any(|it| it.name == *name) {
            return Err(StartError::Config(ConfigError::TenantTwice {
                name: name.to_string(),
            }));
        }
        if config.fleet.is_some() && name.as_str() == FLEET {
            return Err(StartError::Config(ConfigError::Field {
                field: "fleet".into(),
                expected: format!("no tenant of the name {FLEET:?}"),
                got: "one that was added: remove it first".into(),
            }));
        }
        if config.policy.find(&row.scenario).is_none() {
            return Err(StartError::Config(ConfigError::Field {
                field: format!("scenario of tenant {name}, which was added"),
                expected: "a class of the policy".into(),
                got: row.scenario,
            }));
        }
        added.push(row);
    }
    Ok(added)
}

/// The ledger, if the configuration names one.
fn open_era(config: &Config, database: &mut Database) -> Result<Option<Era>, StartError> {
    let Some(it) = &config.era else {
        return Ok(None);
    };
    let secret = open_secret(Some(&it.node_key_file), &config.data, "")?;
    let now = unix_time().as_secs();
    match Era::open(it.clone(), NodeKey::new(&secret), database, now) {
        Ok(era) => Ok(Some(era)),
        Err(OpenError::Database(error)) => Err(error.into()),
        Err(error) => Err(StartError::Era(Box::new(error))),
    }
}

/// The tables, in the data folder.
const DATABASE: &str = "caldera.sqlite";
/// The file of the master key in `DATA/secrets`; no tenant's name has a dot in it.
const MASTER: &str = "tenants.master";

/// Room for twice the jobs that may be prepared at once, by tenants that are still to come too: see `ArbiterThread`.
fn slots(config: &Config) -> usize {
    let prepared = |tenant: &crate::config::TenantConfig| {
        config
            .policy
            .class(tenant.class)
            .map_or(0, |class| class.prepared_max as usize)
    };
    let classes = config.policy.classes().iter();
    let most = classes.map(|class| class.prepared_max as usize).max();
    let to_come = config.policy.limits().tenants_max as usize - config.tenants.len();
    let all = config.tenants.iter().map(prepared).sum::<usize>() + to_come * most.unwrap_or(0);
    2 * all + PREPARERS
}

/// Quanta of half a minute at 2 ms each: a ring of a MiB that the arbiter empties
/// twenty times a second.
const RECORDS_MAX: usize = 16_384;
const MEASUREMENTS_MAX: usize = 65_536;
