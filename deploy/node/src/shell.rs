//! The shell: sockets around machines that know none. The only file that names mio.
//!
//! One thread, one poll. HTTP is read and written by `caldera_rpc::http`, which takes bytes and
//! the time and gives events and bytes; calls go to the [`Service`], whose answers come back in
//! its own time and find their connection by the number of the request. Other threads wake the
//! poll through an eventfd ([`Bell`]). Where TLS is spoken, a [`Session`] stands between the two.
//!
//! Bounds. A connection holds one request at a time; while its answer is awaited nothing more is
//! read from it. One turn reads at most `READS_A_TURN` buffers from a connection, so a client
//! that sends a key as fast as loopback allows leaves room for the others; and an upload that is
//! further ahead of the disk than `UNWRITTEN_MAX` is not read at all until the clerk has caught
//! up. So memory is bounded by the number of connections, which is bounded.
//!
//! What a turn costs does not grow with the number of connections, or many slow ones would slow all others: those
//! that have more to read stand in a list, deadlines in a heap, and connections of one address are counted as they
//! come and go.
//!
//! The time at which a demand begins is taken right after the `read` that brought its last byte. All that follows of that
//! read has the same time: what HTTP counts with it are seconds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::{Entry, HashMap};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caldera_rpc::chain::chain;
use caldera_rpc::http::{BodyKind, Connection, Disposition, Event, Head, Method, Response};
use caldera_rpc::methods::{Digest, JobName};
use caldera_scheduler::Nanos;
use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::config::{Config, Limits, is_loopback};
use crate::dashboard::Page;
use crate::local_socket::LocalSocket;
use crate::service::{Answer, Caller, Outgoing, Service, Wake};
use crate::telemetry::{Doors, TlsDoors};
use crate::tls::{Fault, Handshake, PLAIN, Session, Tls};

/// A poll and a way to wake it.
pub struct Bell {
    poll: Poll,
    wake: Wake,
}

/// The sockets that listen, before the shell runs.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    locals: Vec<(Door, LocalSocket)>,
}

/// The sockets and what stands behind them.
pub struct Shell {
    poll: Poll,
    listener: Option<TcpListener>,
    /// Where the operator is served and nowhere else, and the fleet; and their files.
    locals: Vec<(Door, UnixListener, LocalSocket)>,
    /// Whether `/metrics` names tenants to whoever asks from loopback.
    names_tenants: bool,
    /// Whether the dashboard is served at the port.
    dashboard: bool,
    peers: HashMap<Token, Box<Peer>>,
    /// How many have come in at each door.
    inside: HashMap<Door, usize>,
    /// Those that have more to read, or had at their last turn.
    wanting: Vec<Token>,
    /// When something is to be done about a connection, or was until its deadline moved: each has an entry that is
    /// no later than its deadline, at [`Peer::alarm`].
    alarms: BinaryHeap<Reverse<(Duration, Token)>>,
    /// The connection of each request that awaits its answer.
    requests: HashMap<u64, Token>,
    next_token: usize,
    next_request: u64,
    service: Service,
    /// With what a connection begins; nothing for plain HTTP.
    tls: Option<Arc<Tls>>,
    doors: Doors,
    /// Whether somebody may wait at a door of whom no event will tell again.
    unaccepted: bool,
    limits: Limits,
    clock: Clock,
    /// The time of what is being done for a connection: when it was last read from, or when its turn began.
    now: Nanos,
    stop: Arc<AtomicBool>,
    buffer: Box<[u8]>,
}

/// A connection's end, of either kind.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Where somebody has come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Door {
    /// At the port, from the address that connections are counted by.
    Port { origin: IpAddr, loopback: bool },
    /// At the operator's socket.
    Operator,
    /// At the fleet's.
    Fleet,
}

/// One connection.
struct Peer {
    stream: Socket,
    /// Between the stream and `http`; nothing for plain HTTP.
    tls: Option<Box<Session>>,
    /// Why the session ends.
    fault: Option<Fault>,
    http: Connection,
    door: Door,
    request: Request,
    /// Whether the socket may have more to read than was read.
    readable: bool,
    /// Whether the system has told that the peer will send no more; there may be something to read before.
    hung_up: bool,
    /// Whether the peer has just said that it will send no more.
    ended: bool,
    /// Whether the sending side was shut down.
    shut: bool,
    /// Whether the socket has failed.
    broken: bool,
    /// Bytes of an upload that the clerk has not written.
    unwritten: usize,
    /// When it is looked at though nothing happens.
    alarm: Option<Duration>,
    /// Whether it stands in the list of those that have more to read.
    listed: bool,
}

/// What a connection's request has come to.
enum Request {
    /// There is none.
    None,
    /// A call whose body is coming.
    Call { caller: Caller, body: Vec<u8> },
    /// An upload whose body is coming.
    Upload(u64),
    /// A body that is thrown away, and the answer that follows it.
    Discard(Answer),
    /// A file of the dashboard's.
    Page(&'static Page),
    /// The answer comes from elsewhere.
    Awaited(u64),
    /// The answer is a stream, which begins when the request is complete.
    Stream(u64),
    /// An upload is complete, or failed, and the clerk has not answered.
    Stored(u64),
}

impl Bell {
    /// Makes a poll.
    pub fn new() -> io::Result<Bell> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let wake: Wake = Arc::new(move || {
            // An eventfd that cannot be written to is one whose poll is about to return.
            let _ = waker.wake();
        });
        Ok(Bell { poll, wake })
    }

    /// What wakes the shell.
    pub fn wake(&self) -> Wake {
        Arc::clone(&self.wake)
    }
}

impl Listener {
    /// Listens on an address.
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        let socket = TcpListener::bind(address)?;
        let address = socket.local_addr()?;
        Ok(Listener {
            socket,
            address,
            locals: Vec::new(),
        })
    }

    /// Serves the operator at a socket of its own, if there is one.
    pub fn with_operator(self, socket: Option<LocalSocket>) -> Listener {
        self.with(Door::Operator, socket)
    }

    /// Serves the fleet at a socket of its own, if there is one.
    pub fn with_fleet(self, socket: Option<LocalSocket>) -> Listener {
        self.with(Door::Fleet, socket)
    }

    fn with(mut self, door: Door, socket: Option<LocalSocket>) -> Listener {
        self.locals.extend(socket.map(|socket| (door, socket)));
        self
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Shell {
    /// Puts a service behind a socket. `stop` is looked at whenever the bell rings.
    pub fn new(
        bell: Bell,
        mut listener: Listener,
        tls: Option<Arc<Tls>>,
        service: Service,
        config: &Config,
        clock: Clock,
        stop: Arc<AtomicBool>,
    ) -> io::Result<Shell> {
        let limits = config.limits;
        let registry = bell.poll.registry();
        registry.register(&mut listener.socket, LISTENER, Interest::READABLE)?;
        let mut locals = Vec::new();
        for (door, mut file) in listener.locals {
            if let Some(socket) = file.take()? {
                let mut socket = UnixListener::from_std(socket);
                let token = match door {
                    Door::Fleet => FLEETS,
                    Door::Operator | Door::Port { .. } => OPERATORS,
                };
                registry.register(&mut socket, token, Interest::READABLE)?;
                locals.push((door, socket, file));
            }
        }
        Ok(Shell {
            poll: bell.poll,
            listener: Some(listener.socket),
            locals,
            names_tenants: config.metrics_name_tenants,
            dashboard: config.dashboard,
            peers: HashMap::new(),
            inside: HashMap::new(),
            wanting: Vec::new(),
            alarms: BinaryHeap::new(),
            requests: HashMap::new(),
            next_token: FIRST_PEER,
            next_request: 0,
            service,
            doors: Doors {
                tls: tls.as_ref().map(|_| TlsDoors::default()),
                ..Doors::default()
            },
            unaccepted: false,
            tls,
            limits,
            now: clock.now(),
            clock,
            stop,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        })
    }

    /// Serves until it is told to stop, and then for as long as answers are on their way, at most
    /// `drain_ms`. Called once, on the RPC thread.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_A_TURN);
        let mut stop_by = None;
        loop {
            let wait = self.wait(stop_by);
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    OPERATORS | FLEETS => self.accept_locals(),
                    WAKER => {}
                    token => {
                        if let Some(mut peer) = self.peers.remove(&token) {
                            peer.readable |= event.is_readable() || event.is_read_closed();
                            peer.hung_up |= event.is_read_closed();
                            self.turn_of(token, peer);
                        }
                    }
                }
            }
            if std::mem::take(&mut self.unaccepted) {
                self.accept();
                self.accept_locals();
            }
            self.again();
            self.service.pump();
            self.deliver();
            self.expire();
            if self.stop.load(Ordering::Acquire) && stop_by.is_none() {
                self.listener = None;
                self.locals.clear();
                self.service.stop();
                let drain = Duration::from_millis(self.limits.drain_ms);
                stop_by = Some(self.clock.elapsed() + drain);
            }
            if stop_by.is_some_and(|by| self.is_idle() || self.clock.elapsed() >= by) {
                return Ok(());
            }
        }
    }

    /// Whether nobody waits for an answer, and all that were given have left.
    fn is_idle(&self) -> bool {
        let written = |peer: &Peer| peer.http.output().is_empty();
        self.requests.is_empty() && self.peers.values().all(|peer| written(peer))
    }

    /// How long to sleep if nothing happens.
    fn wait(&self, stop_by: Option<Duration>) -> Duration {
        if !self.wanting.is_empty() {
            return Duration::ZERO;
        }
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        let next = alarm.into_iter().chain(stop_by).min();
        let left = next.map_or(TICK, |at| at.saturating_sub(self.clock.elapsed()));
        // A poll counts in milliseconds and rounds up, so it does not return before its time.
        let due = self.service.due_in().unwrap_or(TICK);
        left.min(TICK).min(due)
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            let (stream, address) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Out of descriptors, or a client that has gone before it was met. Others may wait behind it.
                    tracing::warn!(error = %chain(&error), "accepting a connection");
                    self.unaccepted = true;
                    return;
                }
            };
            let local = self.inside(Door::Operator) + self.inside(Door::Fleet);
            if self.peers.len() - local >= self.limits.connections {
                tracing::warn!(%address, max = self.limits.connections, "too many connections");
                self.doors.turned_away[0] += 1;
                continue;
            }
            let door = Door::at(address.ip());
            if self.inside(door) >= self.limits.address_connections {
                let max = self.limits.address_connections;
                tracing::warn!(%address, max, "too many connections from one address");
                self.doors.turned_away[1] += 1;
                continue;
            }
            // Answers are written whole; waiting for more to send would only delay them.
            let _ = stream.set_nodelay(true);
            self.admit(Socket::Tcp(stream), door);
        }
    }

    /// As [`Shell::accept`], with bounds of their own: a flood at the port does not shut those out who are on the box.
    fn accept_locals(&mut self) {
        for at in 0..self.locals.len() {
            while let Some((door, listener, _)) = self.locals.get(at) {
                let door = *door;
                let stream = match listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), ?door, "accepting a connection");
                        self.unaccepted = true;
                        break;
                    }
                };
                let max = match door {
                    Door::Fleet => FLEETS_MAX,
                    Door::Operator | Door::Port { .. } => OPERATORS_MAX,
                };
                if self.inside(door) >= max {
                    tracing::warn!(max, ?door, "too many connections");
                    continue;
                }
                self.admit(Socket::Unix(stream), door);
            }
        }
    }

    fn admit(&mut self, mut stream: Socket, door: Door) {
        let token = Token(self.next_token);
        self.next_token += 1;
        let both = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        if let Err(error) = registry.register(stream.source(), token, both) {
            tracing::warn!(error = %chain(&error), "registering a connection");
            return;
        }
        let now = self.clock.elapsed();
        let by = now + Duration::from_millis(self.limits.handshake_ms);
        let begin = |tls: &Arc<Tls>| tls.accept(self.limits.tls_buffer_bytes, by);
        // The kernel sees to who reads at the others.
        let at_port = matches!(door, Door::Port { .. });
        let tls = self.tls.as_ref().filter(|_| at_port);
        let tls = match tls.map(begin).transpose() {
            Ok(session) => session.map(Box::new),
            Err(error) => {
                tracing::error!(error = %chain(&error), "beginning a session of TLS");
                return;
            }
        };
        let peer = Peer {
            stream,
            tls,
            fault: None,
            http: Connection::new(self.limits.http(), now),
            door,
            request: Request::None,
            readable: true,
            hung_up: false,
            ended: false,
            shut: false,
            broken: false,
            unwritten: 0,
            alarm: None,
            listed: false,
        };
        self.peers.insert(token, Box::new(peer));
        *self.inside.entry(door).or_default() += 1;
        self.turn(token);
    }

    /// How many have come in at a door and are there.
    fn inside(&self, door: Door) -> usize {
        self.inside.get(&door).copied().unwrap_or(0)
    }

    /// Goes on with connections that had more to read than one turn allows.
    fn again(&mut self) {
        for token in std::mem::take(&mut self.wanting) {
            if let Some(peer) = self.peers.get_mut(&token) {
                peer.listed = false;
                self.turn(token);
            }
        }
    }

    /// Sees to it that a connection, which is put back after whatever was done to it, is looked at in time.
    fn put_back(&mut self, token: Token, mut peer: Box<Peer>) {
        if peer.wants_turn() && !peer.listed {
            peer.listed = true;
            self.wanting.push(token);
        }
        if let Some(at) = peer.deadline()
            && peer.alarm.is_none_or(|alarm| at < alarm)
        {
            peer.alarm = Some(at);
            self.alarms.push(Reverse((at, token)));
        }
        self.peers.insert(token, peer);
        // Those of connections that have ended would stay until their time, however many came and went.
        if self.alarms.len() > 4 * self.peers.len() + ALARMS_SPARE {
            let alarms = self.peers.iter();
            let alarms = alarms.filter_map(|(token, peer)| Some(Reverse((peer.alarm?, *token))));
            self.alarms = alarms.collect();
        }
    }

    /// The turn of a connection, if it is still there.
    fn turn(&mut self, token: Token) {
        if let Some(peer) = self.peers.remove(&token) {
            self.turn_of(token, peer);
        }
    }

    /// Reads, acts and writes for one connection, which was taken out, so that what is read can be handed to the rest of
    /// the shell.
    fn turn_of(&mut self, token: Token, mut peer: Box<Peer>) {
        let mut rests = false;
        for round in 0..READS_A_TURN {
            let read = peer.read(&mut self.buffer, self.clock);
            match read {
                Some(at) => self.now = at,
                None if round == 0 => self.now = self.clock.now(),
                None => {}
            }
            self.act(token, &mut peer);
            // A request that was pipelined is looked at once the answer before it has left.
            let wrote = peer.write(self.elapsed());
            if read.is_none() && !wrote {
                rests = true;
                break;
            }
        }
        // What was read may hold requests that have had no turn yet, and no event will say so.
        peer.readable |= !rests;
        if std::mem::take(&mut peer.ended)
            && let Request::Awaited(request) = &peer.request
        {
            self.service.hurry(*request);
        }
        if peer.tls.as_mut().is_some_and(|tls| tls.has_completed()) {
            self.doors.handshake(Handshake::Completed);
        }
        if peer.stays() {
            self.put_back(token, peer);
        } else {
            if let Entry::Occupied(mut inside) = self.inside.entry(peer.door) {
                *inside.get_mut() -= 1;
                if *inside.get() == 0 {
                    inside.remove();
                }
            }
            self.part(&peer);
            self.drop_request(peer.request);
        }
    }

    /// Counts a handshake that came to nothing, and says why a session ended.
    fn part(&mut self, peer: &Peer) {
        if let Some(fault) = &peer.fault {
            tracing::debug!(%fault, door = ?peer.door, "a connection ends");
        }
        if let Some(by) = peer.tls.as_ref().and_then(|tls| tls.handshake_by()) {
            let late = self.clock.elapsed() >= by;
            let ended = match &peer.fault {
                Some(fault) => fault.handshake(),
                None if late => Handshake::Late,
                None => Handshake::Abandoned,
            };
            self.doors.handshake(ended);
        }
    }

    /// As [`Shell::now`], for machines that count in [`Duration`]s.
    fn elapsed(&self) -> Duration {
        Clock::elapsed_at(self.now)
    }

    /// Acts on what a connection has read.
    fn act(&mut self, token: Token, peer: &mut Peer) {
        // All that one read brought came at one time.
        let now = self.elapsed();
        loop {
            let event = match peer.http.poll(now) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "request refused");
                    self.service.count_request(error.status());
                    self.drop_request(peer.request.take());
                    return;
                }
            };
            match event {
                Event::Head(head) => self.head(token, peer, &head),
                Event::Body(bytes) => match &mut peer.request {
                    Request::Call { body, .. } => body.extend_from_slice(&bytes),
                    Request::Upload(upload) => {
                        peer.unwritten += bytes.len();
                        self.service.upload(*upload, bytes);
                        if peer.unwritten >= UNWRITTEN_MAX {
                            return;
                        }
                    }
                    _ => {}
                },
                Event::End => self.end(token, peer),
            }
        }
    }

    fn head(&mut self, token: Token, peer: &mut Peer, head: &Head) {
        match self.route(token, peer, head) {
            // Nobody takes this body: the connection closes after the answer.
            Ok(Request::Discard(answer))
                if matches!(head.method, Method::Get | Method::Head)
                    && head.body != BodyKind::None =>
            {
                self.respond(peer, &answer);
            }
            Ok(request) => peer.request = request,
            // A body that nobody wants is not read: the connection closes after the answer.
            Err(answer) => self.respond(peer, &answer),
        }
    }

    /// What a request asks for, before its body is read.
    fn route(&mut self, token: Token, peer: &mut Peer, head: &Head) -> Result<Request, Answer> {
        let blob = head.path.strip_prefix(BLOBS);
        let job = head.path.strip_prefix(JOBS);
        let job = job.and_then(|path| path.strip_suffix(EVENTS));
        let lent = head.path.strip_prefix(LENT_JOBS);
        let shown = self.dashboard || peer.door == Door::Operator;
        if let Some(path) = head.path.strip_prefix(DASHBOARD).filter(|_| shown) {
            return self.dashboard(token, peer, head, path);
        }
        match (head.method, head.path.as_str()) {
            (Method::Get | Method::Head, "/livez") => {
                Ok(Request::Discard(Answer::text(200, "alive\n".into())))
            }
            (Method::Get | Method::Head, "/readyz") => Ok(Request::Discard(self.ready())),
            (Method::Get | Method::Head, "/metrics") => {
                // Names of tenants are for the operator; figures for the box's own collectors too.
                let local = !matches!(
                    peer.door,
                    Door::Port {
                        loopback: false,
                        ..
                    }
                );
                let signed = head.authorization.is_some();
                let operator = peer.door == Door::Operator
                    || signed && matches!(self.authorised(peer, head), Ok(Caller::Operator));
                if !local && !operator {
                    return Err(unauthorised());
                }
                let request = self.request(token);
                let named = operator || self.names_tenants;
                self.service.metrics(request, self.doors(), named);
                Ok(Request::Awaited(request))
            }
            (Method::Post, "/") => {
                let caller = self.authorised(peer, head)?;
                if head.body != BodyKind::None {
                    // A length above the limit is refused by the machine itself.
                    let now = self.elapsed();
                    let _ = peer.http.accept_body(self.limits.request_bytes, now);
                }
                let body = Vec::new();
                Ok(Request::Call { caller, body })
            }
            (Method::Put | Method::Delete, _) if blob.is_some() => {
                let Caller::Tenant(tenant) = self.authorised(peer, head)? else {
                    return Err(Answer::text(403, "tenants alone store anything\n".into()));
                };
                let digest: Digest = blob
                    .unwrap_or_default()
                    .parse()
                    .map_err(|error| Answer::text(400, format!("{error}\n")))?;
                let request = self.request(token);
                if head.method == Method::Delete {
                    self.service.remove_blob(request, tenant, digest);
                    return Ok(Request::Awaited(request));
                }
                let length = match head.body {
                    BodyKind::Length(length) => Some(length),
                    BodyKind::None => Some(0),
                    BodyKind::Chunked => None,
                };
                let now = self.elapsed();
                if peer.http.accept_body(self.limits.blob_bytes, now).is_err() {
                    self.requests.remove(&request);
                    return Ok(Request::None);
                }
                match self.service.begin_upload(request, tenant, digest, length) {
                    Some(answer) => {
                        self.requests.remove(&request);
                        Ok(Request::Discard(answer))
                    }
                    None => Ok(Request::Upload(request)),
                }
            }
            (Method::Get, _) if job.is_some() && head.body == BodyKind::None => {
                let Caller::Tenant(tenant) = self.authorised(peer, head)? else {
                    return Err(Answer::text(403, "tenants alone have jobs\n".into()));
                };
                let job: JobName = job
                    .unwrap_or_default()
                    .parse()
                    .map_err(|error| Answer::text(400, format!("{error}\n")))?;
                let request = self.request(token);
                self.service.watch(request, tenant, job).inspect_err(|_| {
                    self.requests.remove(&request);
                })?;
                Ok(Request::Stream(request))
            }
            (Method::Get, _) if lent.is_some() && head.body == BodyKind::None => {
                if self.authorised(peer, head)? != Caller::Fleet {
                    return Err(Answer::text(
                        403,
                        "this is for the fleet of the box\n".into(),
                    ));
                }
                let nothing = || Answer::text(404, "nothing here\n".into());
                let (job, what) = lent.and_then(|it| it.split_once('/')).ok_or_else(nothing)?;
                let of_key = match what {
                    "key" => true,
                    "witness" => false,
                    _ => return Err(nothing()),
                };
                let job: JobName = job
                    .parse()
                    .map_err(|error| Answer::text(400, format!("{error}\n")))?;
                let request = self.request(token);
                let range = head.range.as_deref();
                let asked = self.service.fleet_bytes(request, job, of_key, range);
                asked.inspect_err(|_| {
                    self.requests.remove(&request);
                })?;
                Ok(Request::Awaited(request))
            }
            (_, "/livez" | "/readyz" | "/metrics" | "/") => {
                Err(Answer::text(405, "no such method here\n".into()))
            }
            _ if blob.is_some() || job.is_some() || lent.is_some() => {
                Err(Answer::text(405, "no such method here\n".into()))
            }
            _ => Err(Answer::text(404, "nothing here\n".into())),
        }
    }

    /// What the operator's browser asks for.
    fn dashboard(
        &mut self,
        token: Token,
        peer: &Peer,
        head: &Head,
        path: &str,
    ) -> Result<Request, Answer> {
        if !matches!(head.method, Method::Get | Method::Head) || head.body != BodyKind::None {
            return Err(Answer::text(405, "no such method here\n".into()));
        }
        if self.authorised(peer, head)? != Caller::Operator {
            return Err(Answer::text(
                403,
                "the dashboard is the operator's\n".into(),
            ));
        }
        if let Some(page) = Page::find(path) {
            return Ok(Request::Page(page));
        }
        let job = path.strip_prefix(TIMELINES);
        match (head.method, path) {
            (Method::Get, STREAM) => {
                let request = self.request(token);
                self.service.open_screen(request).inspect_err(|_| {
                    self.requests.remove(&request);
                })?;
                Ok(Request::Stream(request))
            }
            (Method::Get, _) if job.is_some() => {
                let wrong = |error: String| Answer::text(400, error + "\n");
                let job = job.unwrap_or_default();
                let job: JobName = job.parse().map_err(|error| wrong(format!("{error}")))?;
                let from = head.query.as_deref().map(|query| {
                    let from = query.strip_prefix("from=");
                    from.and_then(|from| from.parse().ok()).ok_or_else(|| {
                        wrong(format!("expected ?from= and a whole number, got {query:?}"))
                    })
                });
                let from = from.transpose()?;
                let request = self.request(token);
                self.service.timeline(request, job, from).inspect_err(|_| {
                    self.requests.remove(&request);
                })?;
                Ok(Request::Awaited(request))
            }
            (_, STREAM) => Err(Answer::text(405, "no such method here\n".into())),
            _ if job.is_some() => Err(Answer::text(405, "no such method here\n".into())),
            _ => Err(Answer::text(404, "nothing here\n".into())),
        }
    }

    fn ready(&self) -> Answer {
        let mut answer = self.service.ready();
        if let Some(fault) = self.tls.as_ref().and_then(|tls| tls.fault()) {
            let text = format!("certificates are not replaced, those in force stay: {fault}\n");
            answer.body.extend_from_slice(text.as_bytes());
        }
        answer
    }

    /// What was seen at the sockets, by a connection that is being looked at.
    fn doors(&self) -> Doors {
        let reload_failed = self.tls.as_ref().is_some_and(|tls| tls.fault().is_some());
        Doors {
            connections: self.peers.len() as u64 + 1,
            tls: self.doors.tls.map(|tls| TlsDoors {
                reload_failed,
                ..tls
            }),
            ..self.doors
        }
    }

    /// Who asks, if they have come in where they should.
    fn authorised(&mut self, peer: &Peer, head: &Head) -> Result<Caller, Answer> {
        let caller = self.service.caller(head.authorization.as_deref());
        let caller = caller.ok_or_else(unauthorised)?;
        let has_own = self.locals.iter().any(|(door, ..)| *door == Door::Operator);
        match (caller, peer.door) {
            (Caller::Operator, Door::Port { .. }) if has_own => {
                let text = "the operator is served at operator_socket alone\n";
                Err(Answer::text(403, text.into()))
            }
            (Caller::Operator, Door::Fleet) => {
                let text = "this socket is the fleet's and tenants'\n";
                Err(Answer::text(403, text.into()))
            }
            (Caller::Fleet, Door::Port { .. } | Door::Operator) => {
                let text = "the fleet is served at fleet.socket alone\n";
                Err(Answer::text(403, text.into()))
            }
            (Caller::Tenant(_), Door::Operator) => {
                let text = "this socket is the operator's alone\n";
                Err(Answer::text(403, text.into()))
            }
            (caller, Door::Fleet) => {
                self.service.meet_at_fleets(caller);
                Ok(caller)
            }
            (caller, _) => Ok(caller),
        }
    }

    /// A request is complete.
    fn end(&mut self, token: Token, peer: &mut Peer) {
        match peer.request.take() {
            Request::Call { caller, .. } if !self.service.stands(caller) => {
                self.respond(peer, &unauthorised());
            }
            Request::Call { caller, body } => {
                let request = self.request(token);
                peer.request = Request::Awaited(request);
                // It may hold a witness.
                let body = Zeroizing::new(body);
                self.service.call(request, caller, &body, self.now);
            }
            Request::Upload(upload) => {
                peer.request = Request::Stored(upload);
                self.service.finish_upload(upload);
            }
            Request::Discard(answer) => self.respond(peer, &answer),
            Request::Page(page) => {
                self.service.count_request(200);
                // A connection that was refused or timed out meanwhile has had its answer.
                let _ = peer.http.respond(&page.response(), self.elapsed());
            }
            Request::Stream(number) => {
                peer.request = Request::Stream(number);
                self.service.count_request(200);
                peer.http.begin_stream("text/event-stream", self.elapsed());
            }
            other => peer.request = other,
        }
    }

    fn request(&mut self, token: Token) -> u64 {
        self.next_request += 1;
        self.requests.insert(self.next_request, token);
        self.next_request
    }

    /// Carries out what the service has to tell its clients.
    fn deliver(&mut self) {
        let all = self.service.outgoing();
        if !all.is_empty() {
            self.now = self.clock.now();
        }
        for outgoing in all {
            match outgoing {
                Outgoing::Answer { exchange, answer } => {
                    let Some(token) = self.requests.remove(&exchange) else {
                        continue;
                    };
                    if let Some(mut peer) = self.peers.remove(&token) {
                        peer.request = Request::None;
                        peer.unwritten = 0;
                        self.respond(&mut peer, &answer);
                        self.turn_of(token, peer);
                    }
                }
                Outgoing::Event {
                    exchange,
                    text,
                    last,
                } => {
                    let Some(token) = self.requests.get(&exchange).copied() else {
                        continue;
                    };
                    if last {
                        self.requests.remove(&exchange);
                    }
                    if let Some(peer) = self.peers.get_mut(&token) {
                        peer.http
                            .stream(text.as_bytes(), Clock::elapsed_at(self.now));
                        if last {
                            peer.request = Request::None;
                            peer.http.end_stream();
                        }
                    }
                    self.turn(token);
                }
                Outgoing::Snapshot { exchange, text } => {
                    let Some(token) = self.requests.get(&exchange).copied() else {
                        continue;
                    };
                    if let Some(peer) = self.peers.get_mut(&token)
                        && peer.http.output().is_empty()
                    {
                        peer.http
                            .stream(text.as_bytes(), Clock::elapsed_at(self.now));
                    }
                    self.turn(token);
                }
                Outgoing::Written { upload, bytes } => {
                    let Some(token) = self.requests.get(&upload).copied() else {
                        continue;
                    };
                    if let Some(peer) = self.peers.get_mut(&token) {
                        peer.unwritten = peer.unwritten.saturating_sub(bytes);
                    }
                    self.turn(token);
                }
            }
        }
    }

    fn respond(&mut self, peer: &mut Peer, answer: &Answer) {
        self.service.count_request(answer.status);
        let retry_after = answer.retry_after_s.map(|seconds| seconds.to_string());
        let mut fields = Vec::new();
        if answer.status == 401 {
            fields.push(("WWW-Authenticate", "Bearer"));
        }
        if let Some(seconds) = &retry_after {
            fields.push(("Retry-After", seconds));
        }
        if let Some(range) = &answer.content_range {
            fields.push(("Content-Range", range));
        }
        let response = Response {
            content_type: (!answer.content_type.is_empty()).then_some(answer.content_type),
            fields: &fields,
            body: &answer.body,
            ..Response::new(answer.status)
        };
        // A connection that was refused or timed out meanwhile has had its answer.
        let _ = peer.http.respond(&response, self.elapsed());
    }

    fn expire(&mut self) {
        let now = self.clock.elapsed();
        // Those that come in the meantime are looked at in the next turn.
        for _ in 0..self.alarms.len() {
            let Some(&Reverse((at, token))) = self.alarms.peek().filter(|it| it.0.0 <= now) else {
                break;
            };
            self.alarms.pop();
            let Some(peer) = self.peers.get_mut(&token) else {
                continue;
            };
            // An earlier one took its place.
            if peer.alarm != Some(at) {
                continue;
            }
            peer.alarm = None;
            if peer.deadline().is_none_or(|at| at > now) {
                // Its deadline has moved.
            } else if peer.handshake_by().is_some_and(|by| by <= now) {
                peer.broken = true;
            } else if let Err(error) = peer.http.expire(now) {
                tracing::debug!(error = %chain(&error), "connection timed out");
                let request = peer.request.take();
                self.drop_request(request);
            }
            self.turn(token);
        }
    }

    /// The client of a request has gone, or will never complete it.
    fn drop_request(&mut self, request: Request) {
        match request {
            Request::Upload(number) | Request::Stored(number) => {
                self.requests.remove(&number);
                self.service.abandon_upload(number);
            }
            Request::Awaited(number) | Request::Stream(number) => {
                self.requests.remove(&number);
                self.service.forget(number);
            }
            Request::None | Request::Call { .. } | Request::Discard(_) | Request::Page(_) => {}
        }
    }
}

impl Request {
    fn take(&mut self) -> Request {
        std::mem::replace(self, Request::None)
    }
}

impl Door {
    fn at(address: IpAddr) -> Door {
        Door::Port {
            origin: origin(address),
            loopback: is_loopback(address),
        }
    }
}

impl Socket {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(stream) => stream,
            Socket::Unix(stream) => stream,
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(into),
            Socket::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(from),
            Socket::Unix(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Peer {
    /// Whether there is something to read and room for it.
    fn wants_turn(&self) -> bool {
        let deciphered = self.tls.as_ref().is_some_and(|tls| !tls.clear().is_empty());
        (self.readable || deciphered) && self.unwritten < UNWRITTEN_MAX && self.http.room() > 0
    }

    /// When something is to be done about it though nothing happens.
    fn deadline(&self) -> Option<Duration> {
        let both = self.handshake_by().into_iter().chain(self.http.deadline());
        both.min()
    }

    fn handshake_by(&self) -> Option<Duration> {
        self.tls.as_ref().and_then(|tls| tls.handshake_by())
    }

    /// Reads once; when something came, if something did.
    fn read(&mut self, buffer: &mut [u8], clock: Clock) -> Option<Nanos> {
        if !self.wants_turn() {
            return None;
        }
        // What is deciphered goes first.
        if self.tls.is_some() {
            let now = clock.now();
            if self.take_clear(now) {
                return Some(now);
            }
        }
        let room = match &self.tls {
            Some(tls) => tls.room(),
            None => self.http.room(),
        };
        let room = buffer.len().min(room);
        match self.stream.read(&mut buffer[..room]) {
            Ok(0) => {
                self.end();
                None
            }
            Ok(count) => {
                let now = clock.now();
                // Less than there was room for is all that there was, and another event will tell of more. But of an end that
                // is there already none will.
                self.readable = count == room || self.hung_up;
                let bytes = &buffer[..count];
                let Some(tls) = &mut self.tls else {
                    self.http.receive(bytes, Clock::elapsed_at(now));
                    return Some(now);
                };
                if let Err(fault) = tls.receive(bytes) {
                    self.fail(fault);
                    return None;
                }
                self.take_clear(now);
                Some(now)
            }
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::WouldBlock => self.readable = false,
                    io::ErrorKind::Interrupted => {}
                    _ => self.broken = true,
                }
                None
            }
        }
    }

    /// Gives the machine what is deciphered, as far as it has room; whether there was something.
    fn take_clear(&mut self, now: Nanos) -> bool {
        let Some(tls) = &mut self.tls else {
            return false;
        };
        // A machine that is given nothing takes it for a sign of life.
        let taken = match tls.clear() {
            [] => 0,
            clear => self.http.receive(clear, Clock::elapsed_at(now)),
        };
        tls.take(taken);
        if tls.has_ended() {
            self.end();
        }
        taken > 0
    }

    /// The peer sends no more.
    fn end(&mut self) {
        self.readable = false;
        self.ended = true;
        self.http.end_of_stream();
    }

    /// Ends a session that cannot go on. What there is to tell the peer is told as far as the socket takes it.
    fn fail(&mut self, fault: Fault) {
        let told = match (&fault, &mut self.tls) {
            (Fault::Plain, _) => self.stream.write(PLAIN),
            (_, Some(tls)) => tls.flush(&mut self.stream),
            (_, None) => Ok(0),
        };
        if let Err(error) = told {
            tracing::debug!(error = %chain(&error), "telling why a session ends");
        }
        self.fault = Some(fault);
        self.broken = true;
    }

    /// Writes what there is to write; whether something of an answer went.
    fn write(&mut self, now: Duration) -> bool {
        let mut wrote = false;
        if self.tls.is_some() {
            while !self.broken && self.flush(now, &mut wrote) {}
            return wrote;
        }
        while !self.broken && !self.http.output().is_empty() {
            match self.stream.write(self.http.output()) {
                Ok(count) => {
                    wrote |= count > 0;
                    self.http.sent(count, now);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => break,
                    io::ErrorKind::Interrupted => {}
                    _ => self.broken = true,
                },
            }
        }
        wrote
    }

    /// Writes what is sealed and seals the next piece of an answer; whether there is one. Bytes of an answer count as sent
    /// when they have left, not when they are sealed, so that the limits of a slow reader hold as they do without TLS.
    fn flush(&mut self, now: Duration, wrote: &mut bool) -> bool {
        let Some(tls) = &mut self.tls else {
            return false;
        };
        match tls.flush(&mut self.stream) {
            Ok(count) => {
                if count > 0 {
                    *wrote = true;
                    self.http.sent(count, now);
                }
            }
            Err(error) => {
                match error.kind() {
                    io::ErrorKind::WouldBlock => {}
                    io::ErrorKind::Interrupted => return true,
                    _ => self.broken = true,
                }
                return false;
            }
        }
        tls.seal(self.http.output());
        tls.wants_flush()
    }

    /// Does what the machine asks of the socket; whether the connection stays.
    fn stays(&mut self) -> bool {
        if self.broken {
            return false;
        }
        let disposition = self.http.disposition();
        if disposition != Disposition::Open
            && let Some(tls) = &mut self.tls
        {
            tls.close();
            let told = tls.flush(&mut self.stream);
            if disposition == Disposition::Linger && told.is_err() && tls.wants_flush() {
                // The socket takes it later, or the time to linger is not yet over.
                return true;
            }
        }
        match disposition {
            Disposition::Open => true,
            Disposition::Close => false,
            Disposition::Linger => {
                if !self.shut {
                    self.shut = true;
                    return self.stream.shutdown(Shutdown::Write).is_ok();
                }
                true
            }
        }
    }
}

/// What stands for a client when its connections are counted: an address of IPv4, and of IPv6 the /64 that one
/// client has.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

fn unauthorised() -> Answer {
    Answer::text(
        401,
        "a bearer token of a tenant of this box is needed\n".into(),
    )
}

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const OPERATORS: Token = Token(2);
const FLEETS: Token = Token(3);
const FIRST_PEER: usize = 4;
/// Connections at the operator's socket: a person, a screen, a collector, and room.
const OPERATORS_MAX: usize = 16;
/// At the fleet's: a call that waits for jobs, one for each job of others that is proved here, pieces, and room.
const FLEETS_MAX: usize = 64;
const BLOBS: &str = "/v1/blobs/";
const LENT_JOBS: &str = "/v1/fleet/jobs/";
const JOBS: &str = "/v1/jobs/";
const EVENTS: &str = "/events";
const DASHBOARD: &str = "/dashboard/";
/// Of the dashboard: its snapshots, and profiles of jobs.
const STREAM: &str = "stream";
const TIMELINES: &str = "jobs/";
const BUFFER_BYTES: usize = 64 * 1024;
/// As many alarms as may be of nobody before they are thrown away.
const ALARMS_SPARE: usize = 1024;
/// One MiB a turn: a millisecond or two of copying.
const READS_A_TURN: usize = 16;
const UNWRITTEN_MAX: usize = 4 * 1024 * 1024;
const EVENTS_A_TURN: usize = 256;
/// How often measurements are taken in while nothing else happens.
const TICK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    /// The danger: a socket that takes both versions of IP shows loopback of IPv4 as an address of IPv6.
    #[test]
    fn loopback_is_loopback_in_either_version() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            let door = Door::at(address.parse().expect("an address"));
            let Door::Port { loopback, .. } = door else {
                panic!("{door:?}");
            };
            assert_eq!(loopback, expected, "{address}");
        }
    }
}
