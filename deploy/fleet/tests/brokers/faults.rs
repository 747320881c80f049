//! What a death costs, with as many jobs as somebody asks for: `CALDERA_FLEET_JOBS` of them for each fault, forty if nobody says.
//!
//! Three servers, one box that submits and one that proves for it. In the middle of the jobs something dies, and each job
//! has to end once all the same. What is proved in vain, and for how long nothing ends, is printed; proofs in vain are held to one in a
//! hundred where there are enough jobs to say so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use caldera_fleet::config::Config;
use caldera_fleet::nats::JOBS;
use caldera_fleet::run::Fleet;
use nix::sys::signal::Signal;

use crate::r#box::TestBox;
use crate::servers::{self, Servers, wait};
use crate::{A, ALWAYS, B, a_key, nothing_twice, runtime};

/// Small, for what is measured is not how fast bytes go from box to box.
const WITNESS: u64 = 1_000;
const FEW: u64 = 40;
/// From so many jobs on a hundredth of them is a number.
const ENOUGH: u64 = 1_000;

struct Field {
    servers: Servers,
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
}

impl Seat {
    fn new(config: Config) -> Seat {
        Seat {
            at: Arc::default(),
            config,
            fleet: None,
        }
    }

    fn start(&mut self) {
        let fleet = Fleet::start(self.config.clone(), Arc::clone(&self.at));
        self.fleet = Some(fleet.expect("it starts"));
    }

    fn kill(&mut self) {
        self.fleet.take().expect("it runs").kill();
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
        fault: impl FnOnce(&mut Field) -> Option<usize>,
        mend: impl FnOnce(&mut Field, usize),
    ) {
        let (ended, begun) = self.so_far();
        let (brought, at_home) = self.submitter.at.ended();
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
        println!(
            "{name}: {count} jobs, {by_other} by the other box, {by_itself} at home, {more} proofs in vain, nothing ended for {:.1} s at the longest",
            gap.as_secs_f64()
        );
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
    let count = std::env::var("CALDERA_FLEET_JOBS").map_or(FEW, |text| {
        text.parse().expect("CALDERA_FLEET_JOBS is a number")
    });
    let mut servers = Servers::new(3, ALWAYS, true);
    let (submitter, lender) = (servers.admit(A, 0), servers.admit(B, 32));
    servers.start();
    let mut field = Field {
        servers,
        submitter: Seat::new(submitter),
        lender: Seat::new(lender),
        key: a_key(),
        jobs: 0,
        runtime: runtime(),
    };
    field.submitter.start();
    field.lender.start();

    let start_one = |field: &mut Field, which: usize| field.servers.start_one(which);
    field.try_out("nothing dies", count, |_| None, |_, _| ());
    let kill = |field: &mut Field, which: usize| {
        field.servers.kill(which);
        Some(which)
    };
    let leader_killed = |field: &mut Field| kill(field, field.leader());
    field.try_out("leader killed", count, leader_killed, start_one);
    let follower_killed = |field: &mut Field| kill(field, (field.leader() + 1) % 3);
    field.try_out("follower killed", count, follower_killed, start_one);
    let leader_frozen = |field: &mut Field| {
        let which = field.leader();
        field.servers.signal(which, Signal::SIGSTOP);
        Some(which)
    };
    let thaw = |field: &mut Field, which: usize| field.servers.signal(which, Signal::SIGCONT);
    field.try_out("leader frozen", count, leader_frozen, thaw);
    let all_killed = |field: &mut Field| {
        (0..3).for_each(|n| field.servers.kill(n));
        (0..3).for_each(|n| field.servers.start_one(n));
        None
    };
    field.try_out("all servers killed", count, all_killed, |_, _| ());
    let lender_killed = |field: &mut Field| {
        field.lender.kill();
        field.lender.start();
        None
    };
    field.try_out("lender killed", count, lender_killed, |_, _| ());
    let submitter_killed = |field: &mut Field| {
        field.submitter.kill();
        field.submitter.start();
        None
    };
    field.try_out("submitter killed", count, submitter_killed, |_, _| ());

    let stop = |seat: &mut Seat| seat.fleet.take().expect("it runs").stop(servers::PATIENCE);
    stop(&mut field.lender);
    stop(&mut field.submitter);
}
