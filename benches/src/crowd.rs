//! Cores that change hands while strangers hold the port: what `reallocate` measures, of a real `calderad`, quiet
//! and beside thousands of clients that send one byte a second and a flood of bad requests.
//!
//! The crowd itself takes of the processors that the box has, where it is not beyond a network. So there is a third side:
//! the same crowd at another box, which proves nothing, on the same machine. What is worse beside a crowd at the box than beside that one the box
//! answers for.
//!
//! The three take turns, on the same box with the same tenants. The slow clients come from many
//! addresses of 127.0.0.0/8, each with fewer connections than one may have, and begin a request that they never
//! complete. The box keeps its own limits of time: it answers 408 and closes, and they come again at once. The
//! flood comes from other addresses: so many connections a second, each with one request out of a list of those
//! that must be refused. Tenants come from 127.0.0.1.
//!
//! The crowd is one thread that looks at each of its sockets when it is its turn and polls none. What it takes of
//! a processor is shown. A sample over the limit is exempt as in `reallocate`.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::bench::Bench;
use crate::clock;
use crate::daemon::{Daemon, open_files};
use crate::duel::Spread;
use crate::reallocate::{self, DECLARED, Flipper, Moved, TENANTS, Trigger};
use crate::record::Record;
use crate::table::{figure, table};

/// What is to be measured.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Plan {
    /// Clients that hold a connection and send one byte a second.
    #[arg(long, default_value_t = CLIENTS)]
    pub(crate) clients: usize,
    /// Bad requests a second, each on a connection of its own.
    #[arg(long, default_value_t = FLOOD)]
    pub(crate) flood: usize,
    /// How often demand flips, on each side, in each round.
    #[arg(long, default_value_t = FLIPS)]
    pub(crate) flips: u64,
    /// Workers of the box, in place of its default.
    #[arg(long)]
    pub(crate) workers: Option<usize>,
}

impl Plan {
    /// What is asked for, with so many flips at most.
    pub(crate) fn usual(flips: u64) -> Plan {
        Plan {
            clients: CLIENTS,
            flood: FLOOD,
            flips: flips.min(FLIPS),
            workers: None,
        }
    }
}

/// What came out.
pub(crate) struct Crowded {
    plan: Plan,
    /// Quiet, beside the crowd at another box, and beside the crowd.
    sides: [Moved; 3],
    /// The median and the 99th percentile beside the crowd over those without it, round by round.
    ratios: [Spread; 2],
    /// The same over those beside the crowd at another box.
    over_elsewhere: [Spread; 2],
    /// The same of one quiet round over the one before: noise.
    noise: [Spread; 2],
    /// Connections that the box held, at least and at the median of all looks.
    held: [u64; 2],
    /// Bad requests that were answered or whose connection was closed, and those with which neither was done.
    refused: [u64; 2],
    /// Slow clients that were turned out and came again.
    returned: u64,
    /// What the crowd took of one processor, from 0 to 1.
    busy: Spread,
}

impl Crowded {
    /// Whether no core took longer than it may, but for those that the machine answers for.
    pub(crate) fn holds(&self) -> bool {
        self.sides.iter().all(Moved::is_in_time)
    }
}

/// Measures.
pub(crate) fn crowd(bench: &mut Bench, plan: Plan) -> Result<Crowded> {
    ensure!(plan.flips > 0, "no flips to measure");
    let connections = plan.clients + plan.flood + ROOM;
    open_files(connections as u64 + 1024)?;
    let config = CONFIG.replace("{connections}", &connections.to_string());
    let other_box = Daemon::start(&config, Some(DECLARED), &[(TENANTS[0], TENANTS[0])])?;
    let config = match plan.workers {
        Some(workers) => format!("workers = {workers}\n{config}"),
        None => config,
    };
    let daemon = Daemon::start(&config, Some(DECLARED), &TENANTS.map(|name| (name, name)))?;
    let (busy, other) = (daemon.client(TENANTS[0])?, daemon.client(TENANTS[1])?);
    let flips = reallocate::Plan::usual(Trigger::Declared, plan.flips);
    let process = daemon.server()?.process().as_raw().cast_unsigned();
    let mut flipper = Flipper::new(&flips, &busy, &other, process)?;
    let elsewhere = Crowd::new(plan, address(&other_box)?);
    let crowd = Crowd::new(plan, address(&daemon)?);
    let watched = [other_box.client(TENANTS[0])?, daemon.client(TENANTS[0])?];

    let mut sides = [(); 3].map(|()| Moved::new(&flips));
    let mut rounds = Vec::new();
    let mut shares = Vec::new();
    let mut held = Vec::new();
    let begun = Instant::now();
    for round in 0..bench.rounds.min {
        bench.say(&format!(
            "crowd: round {} of {}, quiet",
            round + 1,
            bench.rounds.min
        ));
        let mut figures = [one(bench, &mut flipper, &mut sides[0], &flips)?; 3];
        for (at, (crowd, watched)) in [&elsewhere, &crowd].into_iter().zip(&watched).enumerate() {
            bench.say(&format!("crowd: {}", SIDES[at + 1]));
            let connections = || Ok::<_, anyhow::Error>(watched.metric(CONNECTIONS)? as u64);
            let stop = AtomicBool::new(false);
            figures[at + 1] = std::thread::scope(|scope| {
                let works = scope.spawn(|| crowd.run(&stop));
                let measured = (|| {
                    crowd.await_clients(connections)?;
                    held.push(connections()?);
                    let measured = one(bench, &mut flipper, &mut sides[at + 1], &flips)?;
                    held.push(connections()?);
                    Ok::<_, anyhow::Error>(measured)
                })();
                stop.store(true, Ordering::Relaxed);
                let worked = works.join();
                let share = worked.unwrap_or_else(|_| anyhow::bail!("the crowd panicked"))?;
                shares.push(share);
                measured
            })?;
            // What is measured next begins when the last of them has gone.
            while connections()? as usize > ROOM {
                std::thread::sleep(TICK);
            }
        }
        rounds.push(figures);
    }
    held.sort_unstable();
    let ratio = |over: usize, at: usize| {
        Spread::of(rounds.iter().map(|sides| sides[2][at] / sides[over][at]))
    };
    let noise = |at: usize| {
        let pairs = rounds.windows(2);
        Spread::of(pairs.map(|pair| pair[1][0][at] / pair[0][0][at]))
    };
    let crowded = Crowded {
        plan,
        sides,
        ratios: [ratio(0, 0), ratio(0, 1)],
        over_elsewhere: [ratio(1, 0), ratio(1, 1)],
        noise: [noise(0), noise(1)],
        held: [held[0], held[held.len() / 2]],
        refused: [&crowd.refused, &crowd.ignored].map(|it| it.load(Ordering::Relaxed)),
        returned: crowd.returned.load(Ordering::Relaxed),
        busy: Spread::of(shares),
    };
    for at in 0..SIDES.len() {
        let line = record(bench, &crowded, at, flipper.units(), begun.elapsed());
        bench.keep(line)?;
    }
    daemon.stop()?;
    other_box.stop()?;
    Ok(crowded)
}

fn address(of: &Daemon) -> Result<SocketAddrV4> {
    let at: SocketAddr = of.server()?.address().parse()?;
    match at {
        SocketAddr::V4(at) => Ok(at),
        at => anyhow::bail!("a box on {at}, which is no address of IPv4"),
    }
}

/// One round: the median and the 99th percentile, and all samples into `side`.
fn one(
    bench: &Bench,
    flipper: &mut Flipper<'_>,
    side: &mut Moved,
    plan: &reallocate::Plan,
) -> Result<[f64; 2]> {
    let mut round = Moved::new(plan);
    flipper.flip(bench, &mut round)?;
    let all = round.all();
    side.take(round)?;
    Ok([0.5, 0.99].map(|quantile| all.value_at_quantile(quantile).max(1) as f64))
}

fn record(bench: &Bench, crowded: &Crowded, at: usize, units: u32, wall: Duration) -> Record {
    let side = &crowded.sides[at];
    let all = side.all();
    let ms = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
    Record {
        size: crowded.plan.clients as u64,
        threads: units as usize,
        wall_s: wall.as_secs_f64(),
        inside: Some(format!(
            "cores that change hands; p99 {:.3} ms, p99.9 {:.3} ms, longest {:.3} ms; {} over the limit, {} of them exempt; beside {} slow clients, of whom {} at least were held, and {} bad requests a second",
            ms(0.99),
            ms(0.999),
            all.max() as f64 / 1e6,
            side.missed,
            side.exempt,
            crowded.plan.clients * at.min(1),
            crowded.held[0] * at.min(1) as u64,
            crowded.plan.flood * at.min(1),
        )),
        ..bench.times("crowd", SIDES[at].to_owned(), &all)
    }
}

/// The figures as tables.
pub(crate) fn of_crowded(crowded: &Crowded) -> String {
    let rows: Vec<Vec<String>> = crowded
        .sides
        .iter()
        .zip(SIDES)
        .map(|(side, name)| {
            let ms =
                |of: &Histogram<u64>, quantile| figure(of.value_at_quantile(quantile) as f64 / 1e6);
            let (all, calls) = (side.all(), &side.calls);
            vec![
                name.to_owned(),
                all.len().to_string(),
                ms(&all, 0.5),
                ms(&all, 0.99),
                ms(&all, 0.999),
                figure(all.max() as f64 / 1e6),
                side.missed.to_string(),
                side.exempt.to_string(),
                ms(calls, 0.5),
                ms(calls, 0.99),
                figure(calls.max() as f64 / 1e6),
            ]
        })
        .collect();
    let head = [
        "cores that change hands",
        "cores",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "longest ms",
        "over 100 ms",
        "exempt",
        "the call p50",
        "p99",
        "longest",
    ];
    let of = |spread: Spread| {
        format!(
            "{:.2} ({:.2}..{:.2})",
            spread.median, spread.low, spread.high
        )
    };
    let [p50, p99] = crowded.ratios;
    let [other50, other99] = crowded.over_elsewhere;
    let [noise50, noise99] = crowded.noise;
    format!(
        "{} slow clients ({} held at least, {} at the median; {} turned out and come again) and {} bad requests a second ({} refused, {} unanswered), by {:.0} % of a processor\n\
         crowded over quiet: p50 {}, p99 {}; over the crowd at another box: p50 {}, p99 {}; quiet over the quiet before: p50 {}, p99 {}\n{}",
        crowded.plan.clients,
        crowded.held[0],
        crowded.held[1],
        crowded.returned,
        crowded.plan.flood,
        crowded.refused[0],
        crowded.refused[1],
        crowded.busy.median * 100.0,
        of(p50),
        of(p99),
        of(other50),
        of(other99),
        of(noise50),
        of(noise99),
        table(&head, &rows)
    )
}

/// Those who hold the port, and what became of them.
struct Crowd {
    plan: Plan,
    to: SocketAddrV4,
    returned: AtomicU64,
    refused: AtomicU64,
    ignored: AtomicU64,
}

/// A client that never completes its request.
struct Slow {
    stream: Option<TcpStream>,
    sent: usize,
}

/// A request that must be refused.
struct Bad {
    stream: TcpStream,
    request: &'static [u8],
    sent: bool,
    since: Instant,
}

impl Crowd {
    fn new(plan: Plan, to: SocketAddrV4) -> Crowd {
        Crowd {
            plan,
            to,
            returned: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
        }
    }

    /// Is there until it is told to go; what it took of a processor.
    fn run(&self, stop: &AtomicBool) -> Result<f64> {
        let before = clock::thread()?;
        let mut slow: Vec<Slow> = Vec::new();
        slow.resize_with(self.plan.clients, || Slow {
            stream: None,
            sent: 0,
        });
        let mut bad: Vec<Bad> = Vec::new();
        let (mut tick, mut requests) = (0, 0);
        let start = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            // Each slow client has its turn once a second, each bad request at each tick.
            for at in (tick % TICKS..slow.len()).step_by(TICKS) {
                self.drip(at, &mut slow[at])?;
            }
            let due = self.plan.flood * (tick + 1) / TICKS;
            while requests < due {
                if let Some(one) = self.begin(requests)? {
                    bad.push(one);
                }
                requests += 1;
            }
            bad.retain_mut(|one| !self.is_over(one));
            tick += 1;
            let next = start + TICK * u32::try_from(tick).unwrap_or(u32::MAX);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let times = clock::thread()? - before;
        Ok(times.cpu.as_secs_f64() / times.wall.as_secs_f64().max(1e-9))
    }

    /// Waits until the box holds nearly all of them: some are always on their way back.
    fn await_clients(&self, connections: impl Fn() -> Result<u64>) -> Result<()> {
        let wanted = self.plan.clients as u64 * 95 / 100;
        let begun = Instant::now();
        while connections()? < wanted {
            ensure!(
                begun.elapsed() < PATIENCE,
                "{wanted} slow clients were to be held, and {} are after {} s",
                connections()?,
                PATIENCE.as_secs()
            );
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// The next byte of a slow client, who comes again if the box has had enough.
    fn drip(&self, at: usize, slow: &mut Slow) -> Result<()> {
        if let Some(stream) = &mut slow.stream {
            let byte = SLOW.get(slow.sent).copied().unwrap_or(b'x');
            let sent = stream.write(&[byte]);
            slow.sent += 1;
            let there = match sent {
                Ok(_) => true,
                Err(error) => is_waiting(&error),
            };
            if there && !has_answered(stream) {
                return Ok(());
            }
            self.returned.fetch_add(1, Ordering::Relaxed);
        }
        let from = source(SLOW_NET, at / CLIENTS_OF_ONE);
        (slow.stream, slow.sent) = (connect_from(from, self.to)?, 0);
        Ok(())
    }

    fn begin(&self, number: usize) -> Result<Option<Bad>> {
        let from = source(BAD_NET, number);
        let stream = connect_from(from, self.to)?;
        Ok(stream.map(|stream| Bad {
            stream,
            request: BAD[number % BAD.len()],
            sent: false,
            since: Instant::now(),
        }))
    }

    fn is_over(&self, bad: &mut Bad) -> bool {
        if !bad.sent {
            match bad.stream.write(bad.request) {
                Ok(_) => bad.sent = true,
                Err(error) if is_waiting(&error) => {}
                Err(_) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
            }
        }
        if bad.sent && has_answered(&bad.stream) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let late = bad.since.elapsed() > BAD_PATIENCE;
        self.ignored.fetch_add(u64::from(late), Ordering::Relaxed);
        late
    }
}

/// Whether there is an answer, or the connection is over.
fn has_answered(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(_) => true,
        Err(error) => !is_waiting(&error),
    }
}

/// Whether a socket only asks for patience: it is being connected, or has nothing.
fn is_waiting(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
    )
}

/// One of the 254 addresses that are taken of a net.
fn source(net: [u8; 3], number: usize) -> Ipv4Addr {
    let [a, b, c] = net;
    Ipv4Addr::new(
        a,
        b,
        c.wrapping_add((number / 254) as u8),
        (number % 254 + 1) as u8,
    )
}

/// Begins a connection; nothing if the system has none to give at the moment.
fn connect_from(from: Ipv4Addr, to: SocketAddrV4) -> Result<Option<TcpStream>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("a socket of the crowd")?;
    socket.set_nonblocking(true)?;
    let from = SocketAddrV4::new(from, 0);
    socket
        .bind(&from.into())
        .with_context(|| format!("an address of the crowd: {from}"))?;
    let Err(error) = socket.connect(&to.into()) else {
        return Ok(Some(socket.into()));
    };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EINPROGRESS) => Ok(Some(socket.into())),
        Some(Errno::EADDRNOTAVAIL | Errno::EAGAIN | Errno::ECONNREFUSED) => Ok(None),
        _ => Err(error).context("connecting from the crowd"),
    }
}

/// What a slow client has to say, and then x for ever.
const SLOW: &[u8] = b"POST / HTTP/1.1\r\nHost: box\r\nX-Patience: ";

/// What the flood is made of: framing that is refused, strangers, and what is nowhere.
const BAD: [&[u8]; 8] = [
    b"POST / HTTP/1.1\r\nHost: box\r\nContent-Length: 2\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nHost: box\r\nAuthorization: Bearer eyJhbGciOiJub25lIn0.e30.\r\nContent-Length: 2\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nHost: box\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /nothing HTTP/1.1\r\nHost: box\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PUT /v1/blobs/0 HTTP/1.1\r\nHost: box\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"DELETE / HTTP/1.1\r\nHost: box\r\n : \r\n\r\n",
];

const SIDES: [&str; 3] = ["quiet", "beside a crowd at another box", "beside the crowd"];
const CLIENTS: usize = 10_000;
/// On two processors the crowd and the box share them: what more there is the machine measures, not the box.
const FLOOD: usize = 500;
/// About twenty seconds.
const FLIPS: u64 = 3_000;
/// Connections of tenants, and of bad requests that are not yet over.
const ROOM: usize = 32;
/// Slow clients of one address; the box allows more.
const CLIENTS_OF_ONE: usize = 50;
const SLOW_NET: [u8; 3] = [127, 77, 0];
const BAD_NET: [u8; 3] = [127, 78, 0];
/// The crowd does a hundredth of its work at a time.
const TICKS: usize = 100;
const TICK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(120);
/// The box gives a head ten seconds.
const BAD_PATIENCE: Duration = Duration::from_secs(15);
const CONNECTIONS: &str = "caldera_connections";

/// Its limits of time are those of every box.
const CONFIG: &str = "
listen = '127.0.0.1:0'
data = 'data'
development = true
keep_witnesses = true
policy_file = 'policy.toml'
[limits]
table_bytes = 0
connections = {connections}
address_connections = 100
";
