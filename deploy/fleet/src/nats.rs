//! The broker: NATS JetStream, as far as `docs/fleet.md` asks anything of one.
//!
//! | what | where | how |
//! |---|---|---|
//! | jobs | stream `caldera-jobs`, a work queue | one durable consumer a box, for what is placed with it |
//! | answers | stream `caldera-answers`, kept for a day | one durable consumer a box, for what is answered to it |
//! | hints | no stream | plain messages |
//! | loans | bucket `caldera-loans`, a stream that keeps the last of each subject | `nats/loans.rs` |
//!
//! **A subject holds one message**: each publish expects that its subject is empty, and a server that says it is not has the
//! message already.
//!
//! **What a server cannot be asked is not believed.** A stream is as durable as each server that keeps it, and a client is not told how that
//! writes. So the account of the boxes imports the system account's ping, as [`SERVERS`]: each server of
//! the cluster answers with its version and with `sync_always`. That import is part of what [`crate::admission`] writes for the servers. All are
//! asked at each connection and every few seconds; one that is too old, or that confirms before it has written, ends the process.
//!
//! **Silence is normal.** While a stream has no leader publishes are not answered, fetches are empty, and async-nats says that
//! a stream is not found; so all of that means only that it is tried again. A stream or a consumer that is gone is told by nobody either: after each
//! empty fetch the consumer is looked for, and made anew with its stream if it is not there.
//!
//! **A server that is cut off from the others** keeps its clients, and answers all of their pings. So one is left for the next by which
//! most of those that it counts do not answer, or that confirms no publish, or knows of no consumer, for longer than an election takes.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{CreateStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::{Acker, PublishMessage};
use async_nats::jetstream::stream::{Config as StreamConfig, RetentionPolicy, StorageType};
use async_nats::jetstream::{AckKind, Context, ErrorCode};
use async_nats::{Client, ConnectOptions, Event, ReconnectToServer, StatusCode, Subscriber};
use bytes::Bytes;
use caldera_rpc::chain::chain;
use futures_util::StreamExt;
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use zeroize::Zeroizing;

mod loans;

pub use loans::{KeepError, LOANS, loans_of};

use crate::messages::{BODY_MAX, Subject};
use crate::{BoxId, Delivery};

/// Where all servers are asked what they are.
pub const SERVERS: &str = "caldera.servers";
/// The stream of jobs.
pub const JOBS: &str = "caldera-jobs";
/// The stream of answers.
pub const ANSWERS: &str = "caldera-answers";

/// How a broker is reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// Servers, each `tls://HOST:PORT`, or `nats://HOST:PORT` on loopback.
    pub urls: Vec<String>,
    /// How many servers keep each message.
    pub replicas: usize,
    /// The seed of this box's nkey.
    pub nkey_seed_file: PathBuf,
    /// Who signs the servers' certificates.
    pub ca: PathBuf,
    /// This box's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What is wrong with a broker, and does not go away by itself.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// A file cannot be read.
    #[error("{what} {}", path.display())]
    File {
        /// What it holds.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What should be a seed is none.
    #[error("nkey seed {}: expected the seed of a user, which begins with SU: calderad-fleet admit makes one", path.display())]
    Seed {
        /// The file.
        path: PathBuf,
    },
    /// The way there cannot be set up.
    // The library's error says its cause in its own words, and is none here: it would be said twice.
    #[error("NATS: {0}")]
    Connect(async_nats::ConnectError),
    /// The client has ended.
    #[error("NATS: the connection was closed for good: {0}")]
    Closed(String),
    /// An old server.
    #[error(
        "NATS server {server}: expected version {}.{}.0 or newer, got {got}: install a newer nats-server",
        VERSION_MIN.0,
        VERSION_MIN.1
    )]
    Version {
        /// Which.
        server: String,
        /// Its version.
        got: String,
    },
    /// A server that confirms what a power cut takes from it.
    #[error(
        "NATS server {server}: expected jetstream {{ sync_interval: always }}, got a server that confirms before it has written: set that in its configuration and start it again"
    )]
    Sync {
        /// Which.
        server: String,
    },
    /// No server with JetStream.
    #[error(
        "NATS: expected servers with JetStream, got none: set jetstream {{ store_dir: ..., sync_interval: always }}"
    )]
    NoJetStream,
    /// Servers that do not say what they are.
    #[error(
        "NATS: expected the servers to answer at {SERVERS}, got that nobody listens there: include the accounts that calderad-fleet admit writes into each server's configuration"
    )]
    Mute,
    /// A stream of another make.
    #[error(
        "NATS stream {stream}: expected one with {replicas} replicas in files, as this box would make it, got another: give all boxes of a fleet the same `replicas`, or delete the stream"
    )]
    Stream {
        /// Which.
        stream: &'static str,
        /// How many servers are to keep a message.
        replicas: usize,
    },
}

/// What one server says of itself, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub struct Server {
    server: ServerName,
    statsz: Stats,
}

#[derive(Debug, Clone, Deserialize)]
struct ServerName {
    name: String,
    ver: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Stats {
    #[serde(default)]
    active_servers: usize,
    jetstream: Option<JetStreamStats>,
}

#[derive(Debug, Clone, Deserialize)]
struct JetStreamStats {
    config: Option<JetStreamConfig>,
}

#[derive(Debug, Clone, Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_always: bool,
}

/// A kind of message that is kept until it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Jobs, for their lender.
    Jobs,
    /// Answers, for their submitter.
    Answers,
}

/// A message that wants an acknowledgement.
pub struct Delivered {
    /// From whom, and what for.
    pub subject: Subject,
    /// The rest.
    pub body: Bytes,
    /// Acknowledges it.
    pub acker: Acker,
}

/// One connection of one box. Clones share it.
#[derive(Clone)]
pub struct Broker {
    client: Client,
    jetstream: Context,
    me: BoxId,
    replicas: usize,
    /// Counts connections.
    connections: watch::Receiver<u64>,
    /// Whether the servers were found good. Nothing is said to a broker before that.
    good: Arc<AtomicBool>,
    /// Since when publishes were not confirmed, consumers not found, and most servers silent.
    silent: Arc<Mutex<[Option<Instant>; 3]>>,
}

/// What only a server knows that is connected to the others.
#[derive(Clone, Copy)]
enum Asked {
    Publish,
    Consumer,
    Servers,
}

impl Broker {
    /// Begins to connect; nothing is there yet, and perhaps will not be for long. Within a runtime, which drives the connection.
    pub async fn connect(access: &Access, me: BoxId) -> Result<Broker, BrokerError> {
        // Another user of rustls in this process may have chosen already; there is only one to choose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let seed = seed(&access.nkey_seed_file)?;
        for (what, path) in [
            ("certificates of NATS' authority", &access.ca),
            ("certificate", &access.certificate),
            ("certificate's key", &access.key),
        ] {
            std::fs::File::open(path).map_err(|source| BrokerError::File {
                what,
                path: path.clone(),
                source,
            })?;
        }
        let (sender, connections) = watch::channel(0);
        let sender = Arc::new(sender);
        // Boxes begin with different servers.
        let next = Arc::new(AtomicUsize::new(me.0 as usize));
        let mut options = ConnectOptions::with_nkey(seed.to_string())
            .name(me.to_string())
            .custom_inbox_prefix(inbox(me))
            .connection_timeout(CONNECT_WITHIN)
            .ping_interval(PING_EVERY)
            .request_timeout(Some(ANSWER_WITHIN))
            .retry_on_initial_connect()
            // What servers call themselves need not be in their certificates.
            .ignore_discovered_servers()
            .reconnect_to_server_callback(move |servers, _| {
                // Each time another, for one that was left may well be there.
                let nth = next.fetch_add(1, Ordering::Relaxed);
                let server = servers.get(nth % servers.len().max(1));
                let addr = server.map(|it| it.addr.clone());
                let delay = None;
                std::future::ready(addr.map(|addr| ReconnectToServer { addr, delay }))
            })
            .reconnect_delay_callback(|attempts| {
                RECONNECT_MIN
                    .saturating_mul(1 << attempts.min(6))
                    .min(RECONNECT_MAX)
            })
            .event_callback(move |event| {
                match &event {
                    Event::Connected => {
                        sender.send_modify(|count| *count += 1);
                        tracing::info!("connected to NATS");
                    }
                    Event::Disconnected => tracing::warn!("cut off from NATS"),
                    event => tracing::warn!(%event, "NATS"),
                }
                std::future::ready(())
            });
        if access.urls.iter().any(|url| url.starts_with("tls://")) {
            options = options
                .require_tls(true)
                .add_root_certificates(access.ca.clone())
                .add_client_certificate(access.certificate.clone(), access.key.clone());
        }
        let client = options
            .connect(access.urls.clone())
            .await
            .map_err(BrokerError::Connect)?;
        Ok(Broker {
            jetstream: async_nats::jetstream::new(client.clone()),
            client,
            me,
            replicas: access.replicas,
            connections,
            good: Arc::new(AtomicBool::new(false)),
            silent: Arc::default(),
        })
    }

    /// Looks whether the servers are good, at each connection and once in a minute; returns when they are not.
    pub async fn watch_over(mut self) -> BrokerError {
        let closed = |error: watch::error::RecvError| BrokerError::Closed(error.to_string());
        if let Err(error) = self.connections.wait_for(|count| *count > 0).await {
            return closed(error);
        }
        loop {
            match self.servers().await {
                Ok(Some(servers)) => {
                    if let Err(error) = judge(&servers) {
                        return error;
                    }
                    self.good.store(true, Ordering::Release);
                    let all = servers.iter().map(|it| it.statsz.active_servers).max();
                    let most = servers.len() * 2 > all.unwrap_or_default();
                    self.heard(Asked::Servers, most).await;
                    if !most {
                        sleep(AGAIN).await;
                        continue;
                    }
                }
                Ok(None) => {
                    sleep(AGAIN).await;
                    continue;
                }
                Err(error) => return error,
            }
            // A server may have been replaced behind a connection that was kept.
            if let Ok(Err(error)) = timeout(CHECK_EVERY, self.connections.changed()).await {
                return closed(error);
            }
        }
    }

    /// What all servers say of themselves; nothing if they are silent.
    async fn servers(&self) -> Result<Option<Vec<Server>>, BrokerError> {
        let info = self.client.server_info();
        if !info.version.is_empty() && !is_new(&info.version) {
            return Err(BrokerError::Version {
                server: info.server_name,
                got: info.version,
            });
        }
        let inbox = self.client.new_inbox();
        let Ok(mut answers) = self.client.subscribe(inbox.clone()).await else {
            return Ok(None);
        };
        let asked = self
            .client
            .publish_with_reply(SERVERS, inbox, Bytes::new())
            .await;
        if asked.is_err() {
            return Ok(None);
        }
        let mut servers: Vec<Server> = Vec::new();
        let until = Instant::now() + ANSWER_WITHIN;
        while let Ok(Some(message)) = timeout_at(until, answers.next()).await {
            if message.status == Some(StatusCode::NO_RESPONDERS) {
                return Err(BrokerError::Mute);
            }
            match serde_json::from_slice::<Server>(&message.payload) {
                Ok(server) => servers.push(server),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "what a NATS server says of itself")
                }
            }
            // Each knows how many they are.
            let all = servers.iter().map(|it| it.statsz.active_servers).max();
            if all.is_some_and(|all| servers.len() >= all) {
                break;
            }
        }
        Ok((!servers.is_empty()).then_some(servers))
    }

    /// Whether there is a connection to servers that were found good. Nobody may be at its other end.
    pub fn is_connected(&self) -> bool {
        self.good.load(Ordering::Acquire) && self.client.connection_state() == State::Connected
    }

    /// Name and version of the server at the other end.
    pub fn server(&self) -> Option<(String, String)> {
        let info = self.client.server_info();
        (self.is_connected() && !info.version.is_empty())
            .then_some((info.server_name, info.version))
    }

    /// Publishes a message under its subject, once. Whether the broker has it now, this or an earlier one; if it is silent, it may.
    pub async fn publish_once(&self, subject: Subject, body: Vec<u8>) -> bool {
        if !self.is_connected() {
            // It would wait in this process, and reach the broker long after its sender has done something else.
            return false;
        }
        let message = PublishMessage::build()
            .payload(body.into())
            .expected_last_subject_sequence(0);
        let publish = async {
            let subject = subject.to_string();
            self.jetstream.send_publish(subject, message).await?.await
        };
        let stored = match timeout(ANSWER_WITHIN, publish).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => true,
            Ok(Err(error)) => {
                tracing::debug!(%subject, %error, "a publish was not confirmed");
                false
            }
            Err(_) => {
                tracing::debug!(%subject, "a publish was not answered");
                false
            }
        };
        self.heard(Asked::Publish, stored).await;
        stored
    }

    /// Leaves a server that has not answered for long.
    async fn heard(&self, asked: Asked, answered: bool) {
        let patience = match asked {
            Asked::Publish | Asked::Consumer => SILENT_FOR,
            // Who leads does not matter to them.
            Asked::Servers => ANSWER_WITHIN,
        };
        let leave = {
            // Nothing that holds it can panic half-way.
            let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
            let since = &mut silent[asked as usize];
            if answered {
                *since = None;
            }
            let is_long = !answered
                && since.get_or_insert_with(Instant::now).elapsed() > patience
                && self.is_connected();
            if is_long {
                *silent = [None; 3];
            }
            is_long
        };
        if leave {
            let server = self.client.server_info().server_name;
            tracing::warn!(server, "NATS answers nothing; another server is asked");
            // One that is closed for good is seen elsewhere.
            let _ = self.client.force_reconnect().await;
        }
    }

    /// Says something of which nothing depends that it is heard.
    pub async fn hint(&self, subject: Subject, body: Vec<u8>) {
        if self.is_connected() {
            let publish = self.client.publish(subject.to_string(), body.into());
            let _ = timeout(ANSWER_WITHIN, publish).await;
        }
    }

    /// Hears hints under a pattern.
    pub async fn hear(&self, pattern: String) -> Result<Subscriber, BrokerError> {
        let heard = self.client.subscribe(pattern).await;
        heard.map_err(|error| BrokerError::Closed(error.to_string()))
    }

    /// Waits until what was said has left.
    pub async fn flush(&self) {
        let _ = timeout(ANSWER_WITHIN, self.client.flush()).await;
    }

    /// Brings what is kept for this box, for as long as somebody takes it. Returns what does not go away by itself.
    pub async fn bring(self, kept: Kept, to: mpsc::Sender<Delivered>) -> Result<(), BrokerError> {
        while !to.is_closed() {
            if !self.is_connected() {
                // Whoever is asked next has not been silent.
                *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = [None; 3];
                sleep(AGAIN).await;
                continue;
            }
            let consumer = self.consumer(kept).await;
            if let Ok(found) = &consumer {
                self.heard(Asked::Consumer, found.is_some()).await;
            }
            match consumer {
                Ok(Some(consumer)) => {
                    if self.fetch(&consumer, &to).await.is_break() {
                        return Ok(());
                    }
                }
                Ok(None) => sleep(AGAIN).await,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fetches until there is nothing, or the consumer is not there.
    async fn fetch(
        &self,
        consumer: &PullConsumer,
        to: &mpsc::Sender<Delivered>,
    ) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        loop {
            let batch = consumer
                .batch()
                .max_messages(BATCH)
                .expires(FETCH)
                .messages()
                .await;
            let Ok(mut batch) = batch else {
                sleep(AGAIN).await;
                return Continue(());
            };
            // A server that has died does not say that the fetch is over.
            let until = Instant::now() + FETCH + AGAIN;
            let mut any = false;
            loop {
                match timeout_at(until, batch.next()).await {
                    Ok(Some(Ok(message))) => {
                        any = true;
                        let (message, acker) = message.split();
                        let subject = match Subject::parse(&message.subject) {
                            Ok(subject) => subject,
                            Err(error) => {
                                tracing::warn!(error = %chain(&error), "thrown away");
                                let _ = acker.ack_with(AckKind::Term).await;
                                continue;
                            }
                        };
                        let body = message.payload;
                        let delivered = Delivered {
                            subject,
                            body,
                            acker,
                        };
                        if to.send(delivered).await.is_err() {
                            return Break(());
                        }
                    }
                    Ok(Some(Err(error))) => {
                        tracing::debug!(%error, "a fetch ended");
                        sleep(AGAIN).await;
                        return Continue(());
                    }
                    Ok(None) | Err(_) => break,
                }
            }
            if to.is_closed() {
                return Break(());
            }
            if !any {
                return Continue(());
            }
        }
    }

    /// The consumer of this box, made if it is not there; nothing if the broker does not say.
    async fn consumer(&self, kept: Kept) -> Result<Option<PullConsumer>, BrokerError> {
        let name = format!("{:032x}", self.me.0);
        let there = self
            .jetstream
            .get_consumer_from_stream(&name, kept.stream())
            .await;
        if let Ok(consumer) = there {
            return Ok(Some(consumer));
        }
        let stream = self.jetstream.create_stream(kept.config(self.replicas));
        if let Err(error) = stream.await {
            if let CreateStreamErrorKind::JetStream(error) = error.kind()
                && error.error_code() == ErrorCode::STREAM_NAME_EXIST
            {
                return Err(BrokerError::Stream {
                    stream: kept.stream(),
                    replicas: self.replicas,
                });
            }
            tracing::debug!(%error, stream = kept.stream(), "a stream is not there yet");
            return Ok(None);
        }
        let config = pull::Config {
            durable_name: Some(name),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACKNOWLEDGE_WITHIN,
            filter_subject: kept.filter(self.me),
            max_ack_pending: PENDING_MAX,
            ..pull::Config::default()
        };
        let made = self
            .jetstream
            .create_consumer_on_stream(config, kept.stream())
            .await;
        if let Err(error) = &made {
            tracing::debug!(%error, stream = kept.stream(), "a consumer is not there yet");
        }
        Ok(made.ok())
    }
}

impl Kept {
    fn stream(self) -> &'static str {
        match self {
            Kept::Jobs => JOBS,
            Kept::Answers => ANSWERS,
        }
    }

    fn config(self, replicas: usize) -> StreamConfig {
        let (subject, retention) = match self {
            Kept::Jobs => ("caldera.job.>", RetentionPolicy::WorkQueue),
            Kept::Answers => ("caldera.answer.>", RetentionPolicy::Limits),
        };
        StreamConfig {
            name: self.stream().to_owned(),
            subjects: vec![subject.to_owned()],
            retention,
            storage: StorageType::File,
            num_replicas: replicas,
            max_age: KEPT_FOR,
            max_message_size: BODY_MAX as i32,
            ..StreamConfig::default()
        }
    }

    fn filter(self, me: BoxId) -> String {
        match self {
            Kept::Jobs => format!("caldera.job.*.{:032x}.>", me.0),
            Kept::Answers => format!("caldera.answer.*.{:032x}.>", me.0),
        }
    }
}

/// What was delivered and not acknowledged: of each subject the newest delivery alone, for an acknowledgement of an older one deletes
/// the message under the newer.
#[derive(Default)]
pub struct Deliveries {
    count: u64,
    pending: HashMap<Delivery, (Subject, Arc<Acker>)>,
    newest: HashMap<Subject, Delivery>,
}

impl Deliveries {
    /// Gives a delivery its number.
    pub fn number(&mut self, subject: Subject, acker: Acker) -> Delivery {
        self.count += 1;
        let delivery = Delivery(self.count);
        if let Some(older) = self.newest.insert(subject, delivery) {
            self.pending.remove(&older);
        }
        self.pending.insert(delivery, (subject, Arc::new(acker)));
        delivery
    }

    /// Takes out what is to be acknowledged; nothing if a newer delivery has come.
    pub fn take(&mut self, delivery: Delivery) -> Option<Arc<Acker>> {
        let (subject, acker) = self.pending.remove(&delivery)?;
        self.newest.remove(&subject);
        Some(acker)
    }

    /// What goes on being worked on.
    pub fn progress(&self, delivery: Delivery) -> Option<Arc<Acker>> {
        let (_, acker) = self.pending.get(&delivery)?;
        Some(acker.clone())
    }
}

/// Where answers to requests of a box arrive; nobody else may listen there.
pub fn inbox(me: BoxId) -> String {
    format!("_INBOX.{:032x}", me.0)
}

/// Whether a broker of these servers keeps what it confirms.
pub fn judge(servers: &[Server]) -> Result<(), BrokerError> {
    for it in servers {
        let server = it.server.name.clone();
        if !is_new(&it.server.ver) {
            let got = it.server.ver.clone();
            return Err(BrokerError::Version { server, got });
        }
        let config = it
            .statsz
            .jetstream
            .as_ref()
            .and_then(|it| it.config.as_ref());
        if config.is_some_and(|config| !config.sync_always) {
            return Err(BrokerError::Sync { server });
        }
    }
    let any = servers.iter().any(|it| it.statsz.jetstream.is_some());
    any.then_some(()).ok_or(BrokerError::NoJetStream)
}

fn is_new(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= VERSION_MIN,
        _ => false,
    }
}

fn seed(path: &Path) -> Result<Zeroizing<String>, BrokerError> {
    let text = std::fs::read_to_string(path).map_err(|source| BrokerError::File {
        what: "nkey seed",
        path: path.to_owned(),
        source,
    })?;
    let text = Zeroizing::new(text);
    let seed = Zeroizing::new(text.trim().to_owned());
    let good = nkeys::KeyPair::from_seed(&seed)
        .is_ok_and(|pair| pair.key_pair_type() == nkeys::KeyPairType::User);
    good.then_some(seed).ok_or_else(|| BrokerError::Seed {
        path: path.to_owned(),
    })
}

const VERSION_MIN: (u32, u32) = (2, 14);
/// A server that hangs keeps its connections: three pings without an answer end one. A lease is longer.
const PING_EVERY: Duration = Duration::from_secs(2);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// As long as a publish waits before it is tried again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const RECONNECT_MIN: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(250);
/// From the first question without an answer, which has waited itself; an election takes up to 8.2 s.
const SILENT_FOR: Duration = Duration::from_secs(7);
const CHECK_EVERY: Duration = Duration::from_secs(3);
/// So long a fetch waits for messages.
const FETCH: Duration = Duration::from_secs(3);
const BATCH: usize = 64;
/// Five beats: what is worked on is told at each.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(10);
const PENDING_MAX: i64 = 4_096;
/// Longer than any lease; what is older is of no use to anybody.
const KEPT_FOR: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, jetstream: &str) -> Server {
        let text = format!(
            r#"{{"server":{{"name":"n1","id":"N","ver":"{version}"}},
                "statsz":{{"mem":1,"active_servers":3,"jetstream":{jetstream}}}}}"#
        );
        serde_json::from_str(&text).expect("what a server says")
    }

    const GOOD: &str = r#"{"config":{"sync_interval":120000000000,"sync_always":true}}"#;

    #[test]
    fn servers_that_are_old_or_forget_are_refused() {
        assert!(judge(&[server("2.14.0", GOOD), server("2.15.3-RC.1", GOOD)]).is_ok());
        assert!(judge(&[server("3.0.0", GOOD), server("2.14.1", "null")]).is_ok());
        for version in ["2.13.9", "2.9.10", "1.99.0", "", "new"] {
            let error = judge(&[server("2.14.0", GOOD), server(version, GOOD)]);
            let error = error.expect_err(version);
            assert!(matches!(error, BrokerError::Version { .. }), "{error}");
        }
        let lazy = server("2.14.0", r#"{"config":{"sync_interval":120000000000}}"#);
        let error = judge(&[server("2.14.0", GOOD), lazy]).expect_err("it forgets");
        assert!(
            error.to_string().contains("sync_interval: always"),
            "{error}"
        );
        let error = judge(&[server("2.14.0", "null")]).expect_err("nobody keeps anything");
        assert!(matches!(error, BrokerError::NoJetStream), "{error}");
    }
}
