//! Which device holds whose keys, with two devices of the processor's behind the relay, as a box with a GPU has.
//!
//! The dangers: the arbiter orders room and believes it has it while the bytes are still there, or a proof goes wrong because
//! they are not; more goes than may, or what is needed most, or for nothing; a device takes more than its room; what a lost device
//! had is reckoned with; a tenant's old key keeps its new one away; an order waits behind gigabytes that nobody waits for; and a
//! guess about NUMA nodes that draws a tenant to the far end of the machine.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::relay::{Member, Relay};
use caldera_kernels::{Around, CurveId, Device, DeviceError, Progress, Work};
use caldera_node::arbiter_thread::{Command, Inbox};
use caldera_node::board::Board;
use caldera_node::numa::Nodes;
use caldera_node::residence::{Books, Residence, Turn};
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{Blinding, Job, ProvingKey, Step, Synthetic, Task, setup_synthetic};
use caldera_scheduler::eviction::Victim;
use caldera_scheduler::pool::{self, Core, Pool};
use caldera_scheduler::{Nanos, TenantId, UnitId};

const DEVICE: UnitId = UnitId(1);
const OWNER: TenantId = TenantId(0);
const OTHER: TenantId = TenantId(1);

/// A box of one core and one device or more, the room of each of which is so many keys.
struct World {
    relay: Arc<Relay>,
    /// Whether the last device is lost with its next quantum.
    is_dying: Arc<AtomicBool>,
    /// Whether the last device has no room for points, whatever the book says.
    is_full: Arc<AtomicBool>,
    /// Quanta in which the last device made tables.
    making: Arc<AtomicUsize>,
    zkey: Zkey,
    witness: Wtns,
    len: u64,
    board: Arc<Board>,
    inbox: Arc<Inbox>,
    residence: Residence,
    books: RefCell<Books>,
    now: Cell<Nanos>,
}

/// What the arbiter is told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// So many keys of somebody are on a device.
    Keys(TenantId, u64),
    /// Whether an order was carried out.
    Made(bool),
}

use Told::{Keys, Made};

/// A key of a circuit of so many constraints, and a witness.
fn material(domain_log2: u32) -> (Zkey, Wtns) {
    let synthetic = Synthetic {
        curve: CurveId::Bn254,
        domain_log2,
        dense: 0.5,
        seed: [1; 32],
    };
    let mut file = Vec::new();
    let witness = setup_synthetic(&synthetic, 1, &mut file, &mut |_| ()).expect("a key");
    (Zkey::parse(file.into()).expect("a key"), witness)
}

fn world(keys: u64) -> World {
    world_of(1, keys)
}

fn world_of(devices: usize, keys: u64) -> World {
    let (zkey, witness) = material(6);
    let cpu = || {
        CpuDevice::new(CpuConfig {
            quantum: Duration::from_micros(50),
            lanes: 1,
        })
    };
    let is_dying = Arc::new(AtomicBool::new(false));
    let dies = Arc::clone(&is_dying);
    let making = Arc::new(AtomicUsize::new(0));
    let made = Arc::clone(&making);
    let last = Around::new(
        cpu(),
        Arc::new(move |kernel, quantum| {
            made.fetch_add(usize::from(kernel == "msm.tables"), Ordering::Relaxed);
            match dies.load(Ordering::Relaxed) {
                false => quantum(),
                true => Err(DeviceError::Lost {
                    device: "the last".into(),
                    why: "its time had come".into(),
                }),
            }
        }),
    );
    let is_full = Arc::new(AtomicBool::new(false));
    let full = Arc::clone(&is_full);
    let last = Around::loaded(
        last,
        Arc::new(move |bytes| match full.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(DeviceError::Memory {
                bytes,
                what: "bases",
            }),
        }),
    );
    let all = (0..devices).map(|_| cpu() as Arc<dyn Device>);
    let all = all.chain([last as Arc<dyn Device>]);
    let relay = Relay::new(all.map(|device| Member { device, width: 1 }).collect());
    relay.copies_by_order();
    let len = ProvingKey::load(&zkey, relay.clone())
        .expect("it loads")
        .copy_len() as u64;
    let cores = [Core {
        number: 0,
        node: None,
    }];
    let device = |number| pool::Device {
        number,
        node: None,
        memory: keys * len,
    };
    let units: Vec<_> = (0..devices as u32).map(device).collect();
    let pool = Pool::of(&cores, &units, u64::MAX).expect("a pool");
    let board = Arc::new(Board::new(1, devices, 2, 1));
    let inbox = Arc::new(Inbox::new(1));
    let residence = Residence::new(&pool, 2, Arc::clone(&board), Arc::clone(&inbox)).with_tables(4);
    World {
        relay,
        is_dying,
        is_full,
        making,
        zkey,
        witness,
        len,
        board,
        inbox,
        residence,
        books: RefCell::default(),
        now: Cell::default(),
    }
}

impl World {
    fn key(&self, tenant: TenantId) -> Arc<ProvingKey> {
        self.key_of(&self.zkey, tenant)
    }

    fn key_of(&self, zkey: &Zkey, tenant: TenantId) -> Arc<ProvingKey> {
        let key = ProvingKey::load(zkey, self.relay.clone()).expect("it loads");
        assert_eq!(key.copy_bytes(1), 0, "only the residence brings it");
        self.residence.settle(tenant, &key);
        assert!(self.round());
        key
    }

    fn turn(&self) -> Turn {
        self.residence
            .turn(&mut self.books.borrow_mut(), &*self.relay, self.now.get())
    }

    /// All that can be done now; whether that is all.
    fn round(&self) -> bool {
        loop {
            match self.turn() {
                Turn::More => {}
                turn => return turn == Turn::Done,
            }
        }
    }

    /// Loses the last device.
    fn lose(&self) {
        self.is_dying.store(true, Ordering::Relaxed);
        let last = self.relay.beside().len();
        self.relay.allow(1 << last);
        let [a, b, out] = [(); 3].map(|()| self.relay.vector(CurveId::Bn254, 8).expect("room"));
        let plan = self.relay.plan(&Work::Multiply { a, b, out });
        let plan = plan.expect("it is laid out");
        let mut stages = 0..plan.stages();
        while !self.relay.is_lost(last) {
            let stage = stages.next().expect("its work is one of them");
            plan.open(stage).expect("in order");
            while !self.relay.is_lost(last) && plan.run(stage, 0) == Ok(Progress::More) {}
        }
        self.relay.allow(u64::MAX);
    }

    fn lay_out(&self, key: &Arc<ProvingKey>) -> Arc<Job> {
        let blinding = Blinding::random(key.curve()).expect("randomness");
        Job::new(key, self.witness.clone(), blinding).expect("it is laid out")
    }

    /// A proof, of which the residence is told.
    fn prove(&self, key: &Arc<ProvingKey>) {
        end(&self.lay_out(key), Vec::new());
        self.residence.proved(key);
    }

    /// Bytes of a key's tables on the first device.
    fn tables(&self, key: &ProvingKey) -> u64 {
        assert_eq!(key.tables_bytes(), 0, "the host's are somebody else's");
        key.copy_tables_bytes(1) as u64
    }

    fn bring(&self, tenant: TenantId, key: &Arc<ProvingKey>) {
        self.residence.bring(tenant, key);
        assert!(self.round());
    }

    fn told(&self) -> Vec<Told> {
        let next = || match self.inbox.take_command()? {
            Command::Resident { tenant, bytes, .. } => {
                assert_eq!(bytes % self.len, 0);
                Some(Keys(tenant, bytes / self.len))
            }
            Command::Evicted { unit, made } => {
                assert_eq!(unit, DEVICE);
                Some(Made(made))
            }
            _ => None,
        };
        std::iter::from_fn(next).collect()
    }

    /// Orders room for the owner, for which so many bytes of the other may go and so many stay; whether it has come to
    /// an end.
    fn evict(&self, spare: u64, keeps: u64) -> bool {
        let victim = Victim {
            tenant: OTHER,
            spare,
            part: keeps,
            keeps,
        };
        self.residence.evict(DEVICE, OWNER, [victim].into_iter());
        self.round()
    }

    fn look(&self, tenant: TenantId) {
        self.residence.look(tenant);
        assert!(self.round());
    }

    fn is_there(&self, key: &ProvingKey) -> bool {
        key.copy_bytes(1) == key.copy_len()
    }
}

/// Runs a job to its end from these tasks on, or from its start if there are none.
fn end(job: &Job, mut tasks: Vec<Task>) {
    if tasks.is_empty() {
        job.start(&mut |task| tasks.push(task)).expect("it starts");
    }
    while let Some(task) = tasks.pop() {
        match job.run(task, &mut |task| tasks.push(task)) {
            Ok(Step::Again) => tasks.push(task),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
    // Whoever finishes has passed the self-check.
    assert!(job.proof().is_some());
}

#[test]
fn what_has_not_been_used_for_longest_goes_and_no_more_than_is_needed() {
    let world = world(3);
    let keys = [0; 3].map(|_| world.key(OTHER));
    let own = world.key(OWNER);
    let all = [Keys(OTHER, 1), Keys(OTHER, 2), Keys(OTHER, 3)];
    assert_eq!(world.told(), all);
    for used in [1, 2, 0] {
        world.bring(OTHER, &keys[used]);
    }
    assert_eq!(world.told(), [], "all were there");
    world.board.reseat(1, Some(OWNER));
    assert!(world.evict(3 * world.len, 0));
    assert_eq!(world.told(), [Keys(OTHER, 2), Keys(OWNER, 1), Made(true)]);
    assert_eq!(world.residence.held(0), Some(3 * world.len));
    let there = || keys.each_ref().map(|key| world.is_there(key));
    assert_eq!(there(), [true, false, true]);
    assert!(world.is_there(&own));
    // What is dropped is told when somebody looks, and the next job brings what has room then.
    drop(own);
    world.look(OWNER);
    assert_eq!(world.told(), [Keys(OWNER, 0)]);
    world.board.reseat(1, Some(OTHER));
    world.bring(OTHER, &keys[1]);
    assert_eq!(world.told(), [Keys(OTHER, 3)]);
    drop(keys);
    world.look(OTHER);
    assert_eq!(world.told(), [Keys(OTHER, 0)]);
}

/// Keys are whole: one that is larger than what may go stays, and where the others are not enough all stay.
#[test]
fn nothing_goes_below_what_is_kept_nor_in_vain() {
    let world = world(4);
    let keys = [0; 4].map(|_| world.key(OTHER));
    let (larger, _) = material(7);
    let large = world.key_of(&larger, OWNER);
    let need = large.copy_len() as u64;
    assert!(
        (2 * world.len + 1..=3 * world.len).contains(&need),
        "{need}"
    );
    world.told();
    world.board.reseat(1, Some(OWNER));
    // Three of them must go.
    for (spare, keeps) in [
        (world.len - 1, 0),
        (3 * world.len - 1, 0),
        (4 * world.len, world.len + 1),
    ] {
        assert!(world.evict(spare, keeps));
        assert_eq!(world.told(), [Made(false)], "{spare}, {keeps}");
        assert!(keys.iter().all(|key| world.is_there(key)));
    }
    assert!(world.evict(4 * world.len, world.len));
    let there = keys.each_ref().map(|key| world.is_there(key));
    assert_eq!(there, [false, false, false, true]);
    assert!(world.is_there(&large));
    // Nothing is lacking any more.
    while world.inbox.take_command().is_some() {}
    assert!(world.evict(world.len, 0));
    assert_eq!(world.told(), [Made(true)]);
    assert!(world.is_there(&keys[3]));
}

#[test]
fn room_goes_to_the_owner_who_lacked_it() {
    let world = world(1);
    let theirs = world.key(OTHER);
    let own = world.key(OWNER);
    assert_eq!(
        world.told(),
        [Keys(OTHER, 1)],
        "there was no room for the second"
    );
    assert!(!world.is_there(&own));
    world.board.reseat(1, Some(OWNER));
    world.bring(OWNER, &own);
    assert!(!world.is_there(&own), "nobody has made room");
    assert!(world.evict(world.len, 0));
    assert_eq!(world.told(), [Keys(OTHER, 0), Keys(OWNER, 1), Made(true)]);
    assert_eq!(
        (world.is_there(&theirs), world.is_there(&own)),
        (false, true)
    );
    // It does not come back while the device is somebody else's, not even where there is room.
    drop(own);
    world.look(OWNER);
    world.bring(OTHER, &theirs);
    assert_eq!(world.told(), [Keys(OWNER, 0)]);
    // An order that comes when the device is somebody else's by then is answered, and changes nothing.
    world.board.reseat(1, Some(OTHER));
    world.bring(OTHER, &theirs);
    let _own = world.key(OWNER);
    assert_eq!(world.told(), [Keys(OTHER, 1)]);
    assert!(world.evict(world.len, 0));
    assert_eq!(world.told(), [Made(true)]);
    assert!(world.is_there(&theirs));
}

/// However many requests wait, and whatever they are about, the device never has more than its room.
#[test]
fn a_flood_of_requests_drops_the_oldest_and_harms_nobody() {
    let world = world(2);
    let load = || ProvingKey::load(&world.zkey, world.relay.clone()).expect("it loads");
    let keys = [0; 3].map(|_| load());
    world.residence.settle(OTHER, &keys[0]);
    for _ in 0..1_000 {
        world.residence.bring(OWNER, &keys[1]);
        world.residence.look(OWNER);
    }
    world.residence.bring(OTHER, &keys[2]);
    assert!(world.round());
    assert_eq!(world.told(), [Keys(OWNER, 1), Keys(OTHER, 1)]);
    let there = keys.each_ref().map(|key| world.is_there(key));
    assert_eq!(there, [false, true, true], "the first was forgotten");
    // Its next job brings it as soon as there is room.
    world.bring(OTHER, &keys[0]);
    assert_eq!(world.told(), []);
    let [first, second, _third] = keys;
    drop(second);
    world.bring(OTHER, &first);
    world.look(OWNER);
    assert_eq!(world.told(), [Keys(OTHER, 2), Keys(OWNER, 0)]);
}

#[test]
fn a_key_that_is_computed_with_stays_until_that_has_ended() {
    let world = world(1);
    let (key, own) = (world.key(OTHER), world.key(OWNER));
    assert_eq!(world.told(), [Keys(OTHER, 1)]);
    world.board.reseat(1, Some(OWNER));
    world.relay.allow(0b10);
    let (begun, waiting) = (world.lay_out(&key), world.lay_out(&key));
    let mut tasks = Vec::new();
    begun
        .start(&mut |task| tasks.push(task))
        .expect("it starts");
    // One quantum of each, and the device is chosen.
    for task in std::mem::take(&mut tasks) {
        let step = begun.run(task, &mut |task| tasks.push(task));
        if step.expect("a good witness") == Step::Again {
            tasks.push(task);
        }
    }
    assert!(!world.evict(world.len, 0));
    assert!(key.copy_bytes(1) > 0);
    assert_eq!(world.told(), [], "it is not gone");
    assert!(!world.is_there(&own));
    for (job, tasks) in [(begun, tasks), (waiting, Vec::new())] {
        end(&job, tasks);
        assert!(world.round());
        assert_eq!(key.copy_bytes(1), 0);
    }
    assert_eq!(world.told(), [Keys(OTHER, 0), Keys(OWNER, 1), Made(true)]);
    assert!(world.is_there(&own));
}

/// A rollup registers the key of its circuit's next version beside the one that is on the device, which has room for one. Nobody else's
/// key is in the way, so no order could help, and the new key stayed away until the old one was unregistered.
#[test]
fn an_older_key_of_a_tenant_makes_way_for_its_new_one() {
    let world = world(1);
    let [old, new] = [(); 2].map(|()| world.key(OWNER));
    let there = || [&old, &new].map(|key| world.is_there(key));
    assert_eq!(
        (world.told(), there()),
        (vec![Keys(OWNER, 1)], [true, false])
    );
    // Not while somebody else has the device, nor while a job is laid out with the old one.
    world.board.reseat(1, Some(OTHER));
    world.bring(OWNER, &new);
    world.board.reseat(1, Some(OWNER));
    let job = world.lay_out(&old);
    world.bring(OWNER, &new);
    assert_eq!((world.told(), there()), (vec![], [true, false]));
    drop(job);
    world.bring(OWNER, &new);
    assert_eq!(world.told(), [Keys(OWNER, 0), Keys(OWNER, 1)]);
    assert_eq!(there(), [false, true]);
    // Who proves with both in turn does not have them copied in turn.
    for _ in 0..3 {
        world.bring(OWNER, &old);
        world.bring(OWNER, &new);
    }
    assert_eq!((world.told(), there()), (vec![], [false, true]));
    // Where nobody has the device too.
    world.board.reseat(1, None);
    world.bring(OWNER, &old);
    world.bring(OWNER, &old);
    assert_eq!(world.told(), [Keys(OWNER, 0), Keys(OWNER, 1)]);
    assert_eq!(there(), [true, false]);
}

/// The memory of work that ends counts nowhere here: a key that came beside a large proof stayed away until another key went.
#[test]
fn a_key_for_which_there_was_no_room_for_a_while_is_tried_again() {
    let world = world(2);
    world.is_full.store(true, Ordering::Relaxed);
    let key = world.key(OWNER);
    // Not with every job, and each time it is given more time.
    for pause in [100, 200, 400] {
        let Nanos(now) = world.now.get();
        world.now.set(Nanos(now + pause * 1_000_000 - 1));
        world.is_full.store(false, Ordering::Relaxed);
        world.bring(OWNER, &key);
        assert_eq!((world.told(), world.is_there(&key)), (vec![], false));
        world.is_full.store(pause < 400, Ordering::Relaxed);
        world.now.set(Nanos(now + pause * 1_000_000));
        world.bring(OWNER, &key);
    }
    assert_eq!(world.told(), [Keys(OWNER, 1)]);
    assert!(world.is_there(&key));
    // Once something has gone, it is tried at once.
    world.is_full.store(true, Ordering::Relaxed);
    let other = world.key(OTHER);
    world.is_full.store(false, Ordering::Relaxed);
    drop(key);
    world.look(OWNER);
    world.bring(OTHER, &other);
    assert_eq!(world.told(), [Keys(OWNER, 0), Keys(OTHER, 1)]);
}

/// The arbiter does not ask the same twice: were an order answered as long as the owner's key is put off, that would stay away.
#[test]
fn an_order_for_a_key_that_is_put_off_waits_for_it() {
    let world = world(1);
    world.is_full.store(true, Ordering::Relaxed);
    let own = world.key(OWNER);
    world.is_full.store(false, Ordering::Relaxed);
    let theirs = world.key(OTHER);
    assert_eq!(world.told(), [Keys(OTHER, 1)]);
    world.board.reseat(1, Some(OWNER));
    assert!(!world.evict(world.len, 0));
    assert_eq!((world.told(), world.is_there(&theirs)), (vec![], true));
    world.now.set(Nanos(100_000_000));
    world.is_full.store(true, Ordering::Relaxed);
    assert!(world.round());
    // In vain: and it is put off for longer now, or it would have what others bring go again and again.
    assert_eq!(world.told(), [Keys(OTHER, 0), Made(true)]);
    world.is_full.store(false, Ordering::Relaxed);
    world.board.reseat(1, None);
    world.bring(OTHER, &theirs);
    assert_eq!(world.told(), [Keys(OTHER, 1)]);
    world.board.reseat(1, Some(OWNER));
    assert!(!world.evict(world.len, 0));
    world.now.set(Nanos(299_999_999));
    assert!(!world.round());
    // Nobody waits for whoever has the device no more.
    world.board.reseat(1, Some(OTHER));
    assert!(world.round());
    assert_eq!(world.told(), [Made(true)]);
    world.board.reseat(1, Some(OWNER));
    assert!(!world.evict(world.len, 0));
    world.now.set(Nanos(300_000_000));
    assert!(world.round());
    assert_eq!(world.told(), [Keys(OTHER, 0), Keys(OWNER, 1), Made(true)]);
    assert!(world.is_there(&own));
}

/// It takes what is its own before what is somebody else's, and only if all of it together is enough.
#[test]
fn an_owner_gives_its_own_before_others_do() {
    let world = world(3);
    let [first, second] = [(); 2].map(|()| world.key(OWNER));
    let theirs = world.key(OTHER);
    let (larger, _) = material(7);
    let large = world.key_of(&larger, OWNER);
    assert!(large.copy_len() as u64 > 2 * world.len);
    world.told();
    world.board.reseat(1, Some(OWNER));
    // Its own are not enough: none goes in vain.
    world.bring(OWNER, &large);
    assert_eq!(world.told(), []);
    assert!(world.evict(0, 0));
    assert_eq!(world.told(), [Made(false)]);
    assert!(
        [&first, &second, &theirs]
            .iter()
            .all(|key| world.is_there(key))
    );
    assert!(world.evict(world.len, 0));
    assert!(world.is_there(&large) && !world.is_there(&theirs));
    // One of its own is enough.
    drop(large);
    world.board.reseat(1, None);
    for (tenant, key) in [(OTHER, &theirs), (OWNER, &first), (OWNER, &second)] {
        world.bring(tenant, key);
        assert!(world.is_there(key));
    }
    let third = world.key(OWNER);
    world.board.reseat(1, Some(OTHER));
    world.bring(OWNER, &third);
    world.board.reseat(1, Some(OWNER));
    while world.inbox.take_command().is_some() {}
    assert!(world.evict(3 * world.len, 0));
    assert_eq!(world.told(), [Keys(OWNER, 1), Keys(OWNER, 2), Made(true)]);
    let there = [&first, &second, &third, &theirs].map(|key| world.is_there(key));
    assert_eq!(there, [false, true, true, true]);
}

/// Copying a key takes a while; somebody who owns the device and computes on cores meanwhile does not wait for those of others.
#[test]
fn an_order_waits_for_one_request_at_most() {
    let world = world(2);
    let load = || ProvingKey::load(&world.zkey, world.relay.clone()).expect("it loads");
    let keys = [0; 2].map(|_| load());
    world.board.reseat(1, Some(OWNER));
    let order = || {
        let nobody = [].into_iter();
        world.residence.evict(DEVICE, OWNER, nobody);
    };
    for key in &keys {
        world.residence.settle(OTHER, key);
    }
    order();
    assert_eq!(world.turn(), Turn::More);
    assert_eq!(world.told(), [Made(true), Keys(OTHER, 1)]);
    order();
    assert_eq!(world.turn(), Turn::More);
    assert_eq!(world.told(), [Made(true), Keys(OTHER, 2)]);
    assert_eq!(world.turn(), Turn::Done);
}

/// Else the arbiter reckons with keys that are no more, and does not ask the same again.
#[test]
fn what_an_order_finds_out_is_told_though_it_cannot_be_carried_out() {
    let world = world(4);
    let [first, _second, _third, _fourth] = [0; 4].map(|_| world.key(OTHER));
    let (larger, _) = material(7);
    let large = world.key_of(&larger, OWNER);
    world.told();
    world.board.reseat(1, Some(OWNER));
    drop(first);
    assert!(world.evict(0, 0));
    assert_eq!(world.told(), [Keys(OTHER, 3), Made(false)]);
    assert!(!world.is_there(&large));
}

#[test]
fn tables_have_what_keys_leave_and_go_before_any_key_does() {
    let world = world(2);
    world.relay.allow(0b10);
    let key = world.key(OWNER);
    assert_eq!(world.tables(&key), 0, "nobody has proved with it");
    world.prove(&key);
    assert!(world.round());
    let took = world.tables(&key);
    assert!(0 < took && took <= world.len, "{took} of {}", world.len);
    assert_eq!(world.residence.tables(0), Some(took));
    assert_eq!(world.residence.held(0), Some(world.len));
    world.prove(&key);
    let with = world.lay_out(&key);
    assert!(world.round());
    assert_eq!(world.tables(&key), took, "they are made once");

    let other = world.key(OTHER);
    assert!(world.is_there(&other) && world.is_there(&key));
    assert_eq!(
        (world.tables(&key), world.residence.tables(0)),
        (0, Some(0))
    );
    assert_eq!(
        world.told(),
        [Keys(OWNER, 1), Keys(OTHER, 1)],
        "of keys alone"
    );
    end(&with, Vec::new());
    world.prove(&key);
    assert!(world.round());
    assert_eq!(world.tables(&key), 0, "there is no room");
    drop(other);
    world.look(OTHER);
    assert_eq!(world.tables(&key), took);
    world.prove(&key);
}

/// Of several those of the key that no job was laid out with for longest, and no more than are needed.
#[test]
fn tables_of_the_key_that_is_idle_go_first() {
    // Of each key as many as four times as much.
    let world = world(11);
    let keys = [0; 2].map(|_| world.key(OWNER));
    for key in &keys {
        world.prove(key);
        assert!(world.round());
    }
    let took = keys.each_ref().map(|key| world.tables(key));
    assert!(took.iter().all(|bytes| *bytes > world.len), "{took:?}");
    world.bring(OWNER, &keys[0]);
    // Until there is no place beside both.
    let mut others = Vec::new();
    while world.tables(&keys[1]) > 0 {
        assert_eq!(world.tables(&keys[0]), took[0]);
        others.push(world.key(OTHER));
    }
    assert!(others.iter().all(|other| world.is_there(other)));
    assert_eq!(world.tables(&keys[0]), took[0]);
}

/// The danger: quanta of tables between those of whoever has the device, and a half-made table that keeps a key where others
/// are to have room.
#[test]
fn tables_are_made_where_nobody_else_computes_and_are_left_when_room_is_asked_for() {
    let world = world(3);
    let key = world.key(OTHER);
    let (larger, _) = material(7);
    let large = world.key_of(&larger, OWNER);
    assert!(!world.is_there(&large));
    world.prove(&key);
    world.board.reseat(1, Some(OWNER));
    assert!(world.round());
    let quanta = || world.making.load(Ordering::Relaxed);
    assert_eq!(quanta(), 0);
    world.board.reseat(1, None);
    assert_eq!((world.turn(), quanta()), (Turn::More, 1));
    world.board.reseat(1, Some(OWNER));
    assert_eq!((world.round(), quanta()), (true, 1));
    // They go on where they were.
    world.board.reseat(1, Some(OTHER));
    assert_eq!((world.turn(), quanta()), (Turn::More, 2));
    world.board.reseat(1, Some(OWNER));
    assert!(world.evict(world.len, 0));
    assert!(world.is_there(&large) && !world.is_there(&key));
    assert_eq!((quanta(), world.residence.tables(0)), (2, Some(0)));
    // With the key that comes again they begin anew.
    drop(large);
    world.board.reseat(1, None);
    world.look(OWNER);
    world.bring(OTHER, &key);
    assert!(world.is_there(&key) && world.tables(&key) > 0);
    assert!(quanta() > 3, "{} are no making", quanta());
}

/// Nobody goes on with them there, and nobody would find their memory again.
#[test]
fn half_made_tables_go_with_their_key() {
    let world = world(3);
    let key = world.key(OTHER);
    world.prove(&key);
    assert_eq!(world.turn(), Turn::More);
    assert!(world.residence.tables(0) > Some(0));
    world.board.reseat(1, Some(OWNER));
    drop(key);
    world.look(OTHER);
    assert_eq!(world.residence.tables(0), Some(0));
    assert_eq!(world.told(), [Keys(OTHER, 1), Keys(OTHER, 0)]);
}

#[test]
fn a_device_that_is_lost_while_tables_are_made_holds_nothing() {
    let world = world(3);
    let key = world.key(OWNER);
    world.prove(&key);
    assert_eq!(world.turn(), Turn::More);
    world.is_dying.store(true, Ordering::Relaxed);
    assert!(world.round());
    assert!(world.relay.is_lost(1));
    assert_eq!(world.told(), [Keys(OWNER, 1), Keys(OWNER, 0)]);
    let there = [world.residence.held(0), world.residence.tables(0)];
    assert_eq!(there, [Some(0); 2]);
    world.prove(&key);
}

/// What was there is gone, and a tenant that has one live copy left keeps that by its guarantee.
#[test]
fn what_a_lost_device_had_counts_no_more() {
    let world = world_of(2, 1);
    let theirs = world.key(OTHER);
    let own = world.key(OWNER);
    assert_eq!(world.told(), [Keys(OTHER, 1), Keys(OTHER, 1)]);
    world.board.reseat(1, Some(OWNER));
    world.lose();
    assert!(world.evict(world.len, world.len));
    assert_eq!(world.told(), [Keys(OTHER, 0), Made(false)]);
    assert_eq!(
        [0, 1].map(|at| world.residence.held(at)),
        [Some(world.len), Some(0)]
    );
    assert!(world.is_there(&theirs) && !world.is_there(&own));
    // It is told once, and nothing comes there.
    world.bring(OTHER, &theirs);
    assert_eq!(world.told(), []);
    assert_eq!(own.copy_bytes(2), 0);
}

#[test]
fn what_the_kernel_says_is_believed_and_nothing_else() {
    let sys = tempfile::tempdir().expect("a folder");
    let nodes = Nodes::below(sys.path());
    let make = |path: &str| std::fs::create_dir_all(sys.path().join(path)).expect("a folder");
    make("devices/system/cpu/cpu3/node1");
    make("devices/system/cpu/cpu3/cache");
    make("devices/system/cpu/cpu4/node64");
    make("devices/system/cpu/cpu5/nodes");
    assert_eq!(nodes.of_core(3), Some(1));
    for core in [2, 4, 5] {
        assert_eq!(nodes.of_core(core), None, "core {core}");
    }
    for (address, text, node) in [
        ("0000:3b:00.0", "1\n", Some(1)),
        ("0000:af:00.0", "-1\n", None),
        ("0000:b0:00.0", "64\n", None),
        ("0000:b1:00.0", "", None),
        ("0000:b2:00.0", "+1\n", None),
    ] {
        make(&format!("bus/pci/devices/{address}"));
        let file = sys
            .path()
            .join(format!("bus/pci/devices/{address}/numa_node"));
        std::fs::write(file, text).expect("written");
        assert_eq!(nodes.of_device(address), node, "{address}");
    }
    // Drivers write the digits as they like.
    assert_eq!(nodes.of_device("0000:3B:00.0"), Some(1));
    std::fs::write(sys.path().join("numa_node"), "0\n").expect("written");
    for address in ["0000:3c:00.0", "", "..", "../../..", "0000:3b:00.0/.."] {
        assert_eq!(nodes.of_device(address), None, "{address:?}");
    }
}
