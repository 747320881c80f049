//! Carries out what the two sides decide.
//!
//! Four threads, each with a runtime of its own, so that none waits for what another does:
//!
//! | thread | what it does |
//! |---|---|
//! | `submitter` | takes jobs from its box, places them, brings their proofs home |
//! | `lender` | takes jobs of others, has its box prove them, answers; and says at each beat that it is there |
//! | `transfer` | gives out witnesses and keys of what is placed |
//! | `control` | tells an operator how all that is |
//!
//! beside them `journal`, which writes placements in groups, and threads for files. Nothing in them blocks: whatever may wait is a task of its own, whose
//! outcome comes back as an event. A side handles one event at a time, and begins what came of it in that order.
//!
//! **What ends the process** is what does not go away by itself: a broker that forgets what it confirms, a journal that cannot be written. A
//! broker that is silent, a box that is away, another that sends nonsense do not: jobs come home, and the box proves them.
//!
//! **Stopping** ([`Fleet::stop`]) takes nothing new, waits a while for what is held for others, and gives its box
//! nothing back: what is placed is still placed when the next process begins.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use caldera_rpc::chain::chain;
use caldera_scheduler::Nanos;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use crate::calderad::Calderad;
use crate::config::Config;
use crate::journal::{Journal, JournalError};
use crate::nats::BrokerError;
use crate::transfer::{self, Grants, Identity, TransferError};
use crate::{Boot, Terms};

mod control;
mod lending;
mod loans;
mod submitting;

/// Why the process ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// The broker cannot be used.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The certificates cannot.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A thread, a runtime, a folder or a port.
    #[error("{what}")]
    System {
        /// What was asked of the system.
        what: String,
        /// Why it was not given.
        source: io::Error,
    },
    /// A thread is gone.
    #[error("thread {thread} has ended by itself")]
    Ended {
        /// Which.
        thread: &'static str,
    },
}

/// What was done since the process began.
#[derive(Debug, Default)]
pub struct Totals {
    /// Jobs that the box handed out.
    pub taken: AtomicU64,
    /// Placements that were published.
    pub placed: AtomicU64,
    /// Placements of jobs that were placed before: their lenders died, fell silent, refused or sent what is no proof.
    pub replaced: AtomicU64,
    /// Jobs that ended with a proof from elsewhere.
    pub committed: AtomicU64,
    /// Jobs that came home.
    pub returned: AtomicU64,
    /// Proofs that were begun for others.
    pub begun: AtomicU64,
    /// Others' jobs that were answered with a proof.
    pub lent: AtomicU64,
    /// Others' jobs that were refused.
    pub refused: AtomicU64,
    /// What came as a proof and was none.
    pub wrong_proofs: AtomicU64,
    /// Answers of whom nobody had asked.
    pub forged: AtomicU64,
}

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    /// Nothing new is taken.
    Draining,
    Over,
}

/// What all threads of a process know.
struct Shared<C> {
    config: Config,
    terms: Terms,
    boot: Boot,
    calderad: Arc<C>,
    identity: Identity,
    grants: Grants,
    stage: watch::Receiver<Stage>,
    began: Instant,
    totals: Arc<Totals>,
    /// What went wrong when the box was asked last.
    calderad_error: Mutex<Option<String>>,
}

/// A process that runs, or what would be one.
pub struct Fleet {
    stage: Arc<watch::Sender<Stage>>,
    threads: Vec<JoinHandle<()>>,
    failed: mpsc::UnboundedReceiver<RunError>,
    /// How many jobs of others are held.
    held: watch::Receiver<usize>,
    boot: Boot,
    totals: Arc<Totals>,
}

impl Fleet {
    /// Begins another boot of a box. When this returns the other threads run; that the broker is there is not waited for.
    pub fn start<C: Calderad>(config: Config, calderad: Arc<C>) -> Result<Fleet, RunError> {
        let system = |what: String| move |source| RunError::System { what, source };
        let folder = config.state.join(FETCHED);
        std::fs::create_dir_all(&folder).map_err(system(format!("folder {}", folder.display())))?;
        let identity = Identity::open(&config.ca, &config.certificate, &config.key)?;
        let listener = std::net::TcpListener::bind(config.listen)
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            })
            .map_err(system(format!("listening on {}", config.listen)))?;
        let control = control::bind(&config.control_socket)?;
        let journal = Journal::open(&config.state.join(JOURNAL), config.me)?;
        // Witnesses that a process left behind when it was killed.
        lending::forget_witnesses(&folder)
            .map_err(system(format!("folder {}", folder.display())))?;

        let (stage, stages) = watch::channel(Stage::Running);
        let stage = Arc::new(stage);
        let (failures, failed) = mpsc::unbounded_channel();
        let (holds, held) = watch::channel(0);
        let totals = Arc::new(Totals::default());
        let boot = journal.boot();
        let shared = Arc::new(Shared {
            config,
            terms: Terms::standard(),
            boot,
            calderad,
            identity,
            grants: Grants::default(),
            stage: stages,
            began: Instant::now(),
            totals: Arc::clone(&totals),
            calderad_error: Mutex::new(None),
        });
        let mut fleet = Fleet {
            stage: Arc::clone(&stage),
            threads: Vec::new(),
            failed,
            held,
            boot,
            totals,
        };
        let (submitter, asked) = mpsc::channel(1);
        let it = Arc::clone(&shared);
        fleet.thread("submitter", &failures, &shared, async move {
            submitting::run(it, journal, asked).await
        })?;
        let (lender, asked) = mpsc::channel(1);
        let (loans, orders) = mpsc::channel(1);
        let it = Arc::clone(&shared);
        fleet.thread("lender", &failures, &shared, async move {
            lending::run(it, holds, asked, orders).await
        })?;
        let it = Arc::clone(&shared);
        fleet.thread("transfer", &failures, &shared, async move {
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(system("listening".to_owned()))?;
            let identity = it.identity.clone();
            transfer::serve(
                listener,
                identity,
                it.grants.clone(),
                Arc::clone(&it.calderad),
            )
            .await;
            Ok(())
        })?;
        let it = control::Control {
            shared: Arc::clone(&shared),
            stage,
            submitter,
            lender,
            loans,
        };
        fleet.thread("control", &failures, &shared, async move {
            let listener = tokio::net::UnixListener::from_std(control)
                .map_err(system("listening".to_owned()))?;
            control::serve(listener, it).await;
            Ok(())
        })?;
        Ok(fleet)
    }

    fn thread<C: Calderad>(
        &mut self,
        name: &'static str,
        failures: &mpsc::UnboundedSender<RunError>,
        shared: &Arc<Shared<C>>,
        side: impl Future<Output = Result<(), RunError>> + Send + 'static,
    ) -> Result<(), RunError> {
        let system = |source| RunError::System {
            what: format!("thread {name}"),
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system)?;
        let (failures, mut stage) = (failures.clone(), shared.stage.clone());
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    ended = side => {
                        let error = ended.err().unwrap_or(RunError::Ended { thread: name });
                        let _ = failures.send(error);
                    }
                    // Wherever it is: nothing is relied on that is not on a disk.
                    _ = stage.wait_for(|stage| *stage == Stage::Over) => {}
                }
            });
            // A task that waits for a file would keep the thread.
            runtime.shutdown_background();
        });
        self.threads.push(thread.map_err(system)?);
        Ok(())
    }

    /// Which start of the box this is.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// What was done.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Why it has ended, if it has.
    pub fn failed(&mut self) -> Option<RunError> {
        self.failed.try_recv().ok()
    }

    /// Waits until it ends by itself, and says why, or until it is told to stop.
    pub fn wait(&mut self, stop: oneshot::Receiver<()>) -> Option<RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    error = self.failed.recv() => error,
                    _ = stop => None,
                }
            }),
            Err(source) => Some(RunError::System {
                what: "a runtime".to_owned(),
                source,
            }),
        }
    }

    /// Takes nothing new any more, from nobody.
    pub fn drain(&self) {
        let _ = self.stage.send(Stage::Draining);
    }

    /// Waits so long at most for what is held for others, and ends.
    pub fn stop(mut self, patience: Duration) {
        self.drain();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        if let Ok(runtime) = runtime {
            let emptied = self.held.wait_for(|held| *held == 0);
            let _ = runtime.block_on(async { tokio::time::timeout(patience, emptied).await });
        }
        self.end();
    }

    /// Ends at once, wherever it is.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stage.send(Stage::Over);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}

impl<C> Shared<C> {
    fn now(&self) -> Nanos {
        let passed = self.began.elapsed().as_nanos();
        Nanos(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    fn is_draining(&self) -> bool {
        *self.stage.borrow() >= Stage::Draining
    }

    fn calderad_error(&self) -> Option<String> {
        self.calderad_is(|error| error.clone())
    }

    fn calderad_is<T>(&self, look: impl FnOnce(&mut Option<String>) -> T) -> T {
        // Nothing that holds it can panic half-way.
        let error = self.calderad_error.lock();
        look(&mut error.unwrap_or_else(PoisonError::into_inner))
    }
}

impl Totals {
    fn count(one: &AtomicU64) {
        one.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks a box until it answers.
async fn until_answered<T, E: std::error::Error, F: Future<Output = Result<T, E>>>(
    what: &'static str,
    mut ask: impl FnMut() -> F,
) -> T {
    let mut pause = ASK_AGAIN_MIN;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => tracing::warn!(error = %chain(&error), "{what}"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(ASK_AGAIN_MAX);
    }
}

pub(crate) fn duration(nanos: Nanos) -> Duration {
    Duration::from_nanos(nanos.0)
}

fn nanos(duration: Duration) -> Nanos {
    Nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// The files of a process, in its state folder.
const JOURNAL: &str = "journal.db";
const FETCHED: &str = "fetched";
const ASK_AGAIN_MIN: Duration = Duration::from_millis(100);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(5);
