//! What a death costs, with as many jobs as somebody asks for: `CALDERA_FLEET_JOBS` of them for each fault, forty if nobody says; and of the faults
//! those alone whose names hold `CALDERA_FLEET_FAULT`, if somebody says that.
//!
//! Three servers on wires that can be cut, one box that submits and one that proves for it. In the middle of the jobs something dies, hangs or
//! is cut off, and each job has to end once all the same. What is proved in vain, and for how long nothing ends, is printed; proofs in vain are
//! held to one in a hundred where there are enough jobs to say so. While a server dies, and no box, no job is placed again but those that were refused: room
//! that is told in two beats may be taken twice while a stream has no leader.
//!
//! How long it takes until a box that has died is given up is printed too.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use caldera_fleet::config::Config;
use caldera_fleet::nats::JOBS;
use caldera_fleet::run::Fleet;
use caldera_tests::programs::run_caldera;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::r#box::TestBox;
use crate::relay::{Cut, Network};
use crate::servers::{self, Servers, wait};
use crate::{A, ALWAYS, B, C, a_key, nothing_twice, runtime};

/// Small, for what is measured is not how fast bytes go from box to box.
const WITNESS: u64 = 1_000;
const FEW: u64 = 40;
/// From so many jobs on a hundredth of them is a number.
const ENOUGH: u64 = 1_000;

struct Field {
    servers: Servers,
    network: Arc<Network>,
    submitter: Seat,
    lender: Seat,
    key: Arc<Vec<u8>>,
    jobs: u64,
    runtime: tokio::runtime::Runtime,
}

struct Seat {
    at: Arc<TestBox>,
    config: Config,
    fleet: Option<Fleet>,
    /// How many of its jobs were placed once more by processes that are gone.
    replaced: u64,
}

/// What a fault does to the placements of those boxes that live through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placements {
    /// Each stands, but for those that are refused.
    Stand,
    /// They may be given up.
    MayEnd,
}

impl Seat {
    fn new(config: Config) -> Seat {
        Seat {
            at: Arc::default(),
            config,
            fleet: None,
            replaced: 0,
        }
    }

    fn start(&mut self) {
        let fleet = Fleet::start(self.config.clone(), Arc::clone(&self.at));
        self.fleet = Some(fleet.expect("it starts"));
    }

    fn kill(&mut self) {
        self.replaced = self.replaced();
        self.fleet.take().expect("it runs").kill();
    }

    /// How many jobs of others it has refused.
    fn refused(&self) -> u64 {
        let now = self.fleet.as_ref().map(Fleet::totals);
        now.map_or(0, |it| it.refused.load(Ordering::Relaxed))
    }

    /// How many of its jobs were placed once more.
    fn replaced(&self) -> u64 {
        let now = self.fleet.as_ref().map(Fleet::totals);
        self.replaced + now.map_or(0, |it| it.replaced.load(Ordering::Relaxed))
    }
}

impl Field {
    /// The server that leads the stream of jobs.
    fn leader(&self) -> usize {
        let leader = || {
            self.runtime.block_on(async {
                let operator = async_nats::jetstream::new(self.servers.operator(A).await);
                let mut jobs = operator.get_stream(JOBS).await.ok()?;
                let cluster = jobs.info().await.ok()?.cluster.clone()?;
                cluster.leader?.strip_prefix('n')?.parse().ok()
            })
        };
        let mut found = None;
        wait("a leader", || {
            found = leader();
            found.is_some()
        });
        found.expect("it was found")
    }

    /// The server that the submitter is connected to.
    fn submitters(&self) -> usize {
        let socket = &self.submitter.config.control_socket;
        let status = ["fleet", "status", "--json", "--socket"].map(OsString::from);
        let status = status.into_iter().chain([socket.into()]);
        let said = run_caldera(status).expect_success();
        let said: Value = serde_json::from_str(&said).expect("JSON");
        let name = said["broker"]["server"].as_str().expect("a server");
        let nth = name.strip_prefix('n').map(str::parse);
        nth.expect("a name of ours").expect("a number")
    }

    fn submit(&mut self, count: u64) {
        let jobs = self.jobs..self.jobs + count;
        self.submitter.at.submit_small(jobs, &self.key, WITNESS);
        self.jobs += count;
    }

    /// How many jobs have ended, and how often a proof was begun.
    fn so_far(&self) -> (usize, usize) {
        let (brought, at_home) = self.submitter.at.ended();
        let begun = self.lender.at.state().begun.values().sum::<u32>();
        (brought + at_home, begun as usize)
    }

    /// Jobs in the middle of which something happens, and is mended when all have ended.
    fn try_out(
        &mut self,
        name: &str,
        count: u64,
        placements: Placements,
        fault: impl FnOnce(&mut Field) -> Option<usize>,
        mend: impl FnOnce(&mut Field, usize),
    ) {
        if std::env::var("CALDERA_FLEET_FAULT").is_ok_and(|only| !name.contains(&only)) {
            return;
        }
        let (ended, begun) = self.so_far();
        let (brought, at_home) = self.submitter.at.ended();
        let replaced = self.submitter.replaced();
        let refused = self.lender.refused();
        self.submit(count);
        let third = ended + count as usize / 3;
        wait("a third of the jobs", || self.so_far().0 >= third);
        let which = fault(self);
        let all = ended + count as usize;
        let (mut last, mut since, mut gap) = (0, Instant::now(), Duration::ZERO);
        wait(name, || {
            let now = self.so_far().0;
            if now != last {
                gap = gap.max(since.elapsed());
                (last, since) = (now, Instant::now());
            }
            now == all
        });
        let (by_other, by_itself) = self.submitter.at.ended();
        let (by_other, by_itself) = (by_other - brought, by_itself - at_home);
        assert_eq!(by_other + by_itself, count as usize, "{name}");
        nothing_twice(&self.submitter.at);
        let more = (self.so_far().1 - begun).saturating_sub(by_other);
        let replaced = self.submitter.replaced() - replaced;
        let refused = self.lender.refused().saturating_sub(refused);
        println!(
            "{name}: {count} jobs, {by_other} by the other box, {by_itself} at home, {replaced} placed again of which {refused} were refused, {more} proofs in vain, nothing ended for {:.1} s at the longest",
            gap.as_secs_f64()
        );
        if placements == Placements::Stand {
            assert!(
                replaced <= refused,
                "{name}: a box that lives was taken for dead"
            );
        }
        if count >= ENOUGH {
            assert!(
                more as u64 * 100 <= count,
                "{name}: {more} proofs in vain of {count}"
            );
        }
        if let Some(which) = which {
            mend(self, which);
            (0..3).for_each(|n| self.servers.wait_for(n));
        }
    }
}

#[test]
fn each_job_ends_once_and_few_are_proved_in_vain() {
    use Placements::{MayEnd, Stand};
    let count = std::env::var("CALDERA_FLEET_JOBS").map_or(FEW, |text| {
        text.parse().expect("CALDERA_FLEET_JOBS is a number")
    });
    let (mut servers, network) = Servers::on_wires(3, ALWAYS);
    let (submitter, lender) = (servers.admit(A, 0), servers.admit(B, 32));
    servers.start();
    let mut field = Field {
        servers,
        network,
        submitter: Seat::new(submitter),
        lender: Seat::new(lender),
        key: a_key(),
        jobs: 0,
        runtime: runtime(),
    };
    field.submitter.start();
    field.lender.start();
    let start_one = |field: &mut Field, which: usize| field.servers.start_one(which);
    field.try_out("nothing dies", count, Stand, |_| None, |_, _| ());
    let kill = |field: &mut Field, which: usize| {
        field.servers.kill(which);
        Some(which)
    };
    let leader_killed = |field: &mut Field| kill(field, field.leader());
    field.try_out("leader killed", count, Stand, leader_killed, start_one);
    let follower_killed = |field: &mut Field| kill(field, (field.leader() + 1) % 3);
    field.try_out("follower killed", count, Stand, follower_killed, start_one);
    let leader_frozen = |field: &mut Field| {
        let which = field.leader();
        field.servers.signal(which, Signal::SIGSTOP);
        Some(which)
    };
    let thaw = |field: &mut Field, which: usize| field.servers.signal(which, Signal::SIGCONT);
    field.try_out("leader frozen", count, MayEnd, leader_frozen, thaw);
    let cut_leader = |field: &mut Field, wires| {
        let which = field.leader();
        field.network.cut(which, wires);
        Some(which)
    };
    let leader_cut_off = |field: &mut Field| cut_leader(field, Cut::All);
    let leader_alone = |field: &mut Field| cut_leader(field, Cut::Servers);
    let submitters_alone = |field: &mut Field| {
        let which = field.submitters();
        field.network.cut(which, Cut::Servers);
        Some(which)
    };
    let mend = |field: &mut Field, which: usize| field.network.mend(which);
    field.try_out("leader cut off", count, MayEnd, leader_cut_off, mend);
    let name = "leader cut off from the other servers alone";
    field.try_out(name, count, MayEnd, leader_alone, mend);
    let name = "submitter's server cut off from the others alone";
    field.try_out(name, count, MayEnd, submitters_alone, mend);
    let all_killed = |field: &mut Field| {
        (0..3).for_each(|n| field.servers.kill(n));
        (0..3).for_each(|n| field.servers.start_one(n));
        None
    };
    field.try_out("all servers killed", count, MayEnd, all_killed, |_, _| ());
    let lender_killed = |field: &mut Field| {
        field.lender.kill();
        field.lender.start();
        None
    };
    field.try_out("lender killed", count, MayEnd, lender_killed, |_, _| ());
    let submitter_killed = |field: &mut Field| {
        field.submitter.kill();
        field.submitter.start();
        None
    };
    let name = "submitter killed";
    field.try_out(name, count, MayEnd, submitter_killed, |_, _| ());

    let stop = |seat: &mut Seat| seat.fleet.take().expect("it runs").stop(servers::PATIENCE);
    stop(&mut field.lender);
    stop(&mut field.submitter);
}

#[test]
fn what_a_dead_box_held_is_placed_again_and_nothing_else() {
    let mut servers = Servers::new(1, ALWAYS, true);
    let configs = [(A, 0), (B, 16), (C, 16)].map(|(who, lend)| servers.admit(who, lend));
    servers.start();
    let mut seats = configs.map(Seat::new);
    seats.iter_mut().for_each(Seat::start);
    let [a, b, c] = &mut seats;
    let began = |seat: &Seat| seat.at.state().begun.len() as u64;
    b.at.state().held_up = true;
    c.at.state().held_up = true;
    a.at.submit_small(0..FEW / 2, &a_key(), WITNESS);
    wait("jobs that both hold", || began(b) + began(c) == FEW / 2);
    let held = began(b);
    assert!(held > 0, "nothing was lent to one of them");
    assert!(began(c) > 0, "nothing was lent to the other");
    b.kill();
    let died = Instant::now();
    c.at.release();
    wait("what it held", || a.replaced() == held);
    let found = died.elapsed().as_secs_f64();
    println!("{held} jobs of a box that died are placed again after {found:.1} s");
    wait("all jobs", || a.at.are_ended());
    nothing_twice(&a.at);
    assert_eq!(a.replaced(), held, "a box that lives was taken for dead");
    assert_eq!(a.at.ended(), (FEW as usize / 2, 0));
}
