//! Which device holds whose keys, with two devices of the processor's behind the relay, as a box with a GPU has.
//!
//! The dangers: the arbiter orders room and believes it has it while the bytes are still there, or a proof goes wrong because
//! they are not; more goes than was asked for, or what is needed most; and a guess about NUMA nodes that draws a
//! tenant to the far end of the machine.

use std::sync::Arc;
use std::time::Duration;

use caldera_kernels::CurveId;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::relay::{Member, Relay};
use caldera_node::arbiter_thread::{Command, Inbox};
use caldera_node::board::Board;
use caldera_node::numa::Nodes;
use caldera_node::residence::{Order, Residence, Underway};
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{Blinding, Job, ProvingKey, Step, Synthetic, setup_synthetic};
use caldera_scheduler::pool::{self, Core, Pool};
use caldera_scheduler::{TenantId, UnitId};

const DEVICE: UnitId = UnitId(1);
const OWNER: TenantId = TenantId(0);
const OTHER: TenantId = TenantId(1);

/// A box of one core and one device, whose room is so many keys.
struct World {
    relay: Arc<Relay>,
    zkey: Zkey,
    witness: Wtns,
    len: u64,
    board: Arc<Board>,
    inbox: Arc<Inbox>,
    residence: Residence,
}

fn world(keys: u64) -> World {
    let synthetic = Synthetic {
        curve: CurveId::Bn254,
        domain_log2: 6,
        dense: 0.5,
        seed: [1; 32],
    };
    let mut file = Vec::new();
    let witness = setup_synthetic(&synthetic, 1, &mut file, &mut |_| ()).expect("a key");
    let zkey = Zkey::parse(file.into()).expect("a key");
    let member = |_| Member {
        device: CpuDevice::new(CpuConfig {
            quantum: Duration::from_millis(2),
            lanes: 1,
        }),
        width: 1,
    };
    let relay = Relay::new((0..2).map(member).collect());
    let len = ProvingKey::load(&zkey, relay.clone())
        .expect("it loads")
        .copy_len() as u64;
    let cores = [Core {
        number: 0,
        node: None,
    }];
    let devices = [pool::Device {
        number: 0,
        node: None,
        memory: keys * len,
    }];
    let pool = Pool::of(&cores, &devices, u64::MAX).expect("a pool");
    let board = Arc::new(Board::new(1, 1, 2, 1));
    let inbox = Arc::new(Inbox::new(1));
    let residence = Residence::new(&pool, 2, Arc::clone(&board), Arc::clone(&inbox));
    World {
        relay,
        zkey,
        witness,
        len,
        board,
        inbox,
        residence,
    }
}

impl World {
    fn key(&self, tenant: TenantId) -> Arc<ProvingKey> {
        let key = ProvingKey::load(&self.zkey, self.relay.clone()).expect("it loads");
        self.residence.settle(tenant, &key);
        key
    }

    /// How many keys of whom the arbiter has been told to be on the device.
    fn told(&self) -> Vec<(TenantId, u64)> {
        let next = || match self.inbox.take_command()? {
            Command::Resident { tenant, bytes, .. } => Some((tenant, bytes)),
            _ => None,
        };
        let told = std::iter::from_fn(next);
        told.map(|(tenant, bytes)| {
            assert_eq!(bytes % self.len, 0);
            (tenant, bytes / self.len)
        })
        .collect()
    }

    /// Orders so many bytes to go; whether they have gone.
    fn evict(&self, tenant: TenantId, bytes: u64, underway: &mut Underway) -> bool {
        self.residence.order(Order::Evict {
            tenant,
            unit: DEVICE,
            bytes,
        });
        self.residence.round(underway)
    }

    fn look(&self, tenant: TenantId) {
        self.residence.order(Order::Look { tenant });
        assert!(self.residence.round(&mut Underway::default()));
    }

    fn is_there(&self, key: &ProvingKey) -> bool {
        key.copy_bytes(1) as u64 == self.len
    }
}

#[test]
fn what_has_not_been_used_for_longest_goes_and_no_more_than_is_asked() {
    let world = world(3);
    let keys = [0; 3].map(|_| world.key(OTHER));
    assert_eq!(world.told(), [(OTHER, 1), (OTHER, 2), (OTHER, 3)]);
    for used in [1, 2, 0] {
        world.residence.bring(&keys[used]);
    }
    assert_eq!(world.told(), [], "all were there");
    assert!(world.evict(OTHER, world.len + 1, &mut Underway::default()));
    assert_eq!(world.told(), [(OTHER, 1)]);
    assert_eq!(world.residence.held(0), Some(world.len));
    assert_eq!(
        keys.each_ref().map(|key| world.is_there(key)),
        [true, false, false]
    );
    // The next job brings it back.
    world.residence.bring(&keys[2]);
    assert_eq!(world.told(), [(OTHER, 2)]);
    // What is dropped is told when somebody looks.
    drop(keys);
    world.look(OTHER);
    assert_eq!(world.told(), [(OTHER, 0)]);
}

#[test]
fn room_goes_to_the_owner_who_lacked_it() {
    let world = world(1);
    let theirs = world.key(OTHER);
    let own = world.key(OWNER);
    assert_eq!(
        world.told(),
        [(OTHER, 1)],
        "there was no room for the second"
    );
    assert!(!world.is_there(&own));
    world.board.reseat(1, Some(OWNER));
    world.residence.bring(&own);
    assert!(!world.is_there(&own), "nobody has made room");
    assert!(world.evict(OTHER, 1, &mut Underway::default()));
    assert_eq!(world.told(), [(OTHER, 0), (OWNER, 1)]);
    assert_eq!(
        (world.is_there(&theirs), world.is_there(&own)),
        (false, true)
    );
    // It does not come back while the device is somebody else's, not even where there is room.
    drop(own);
    world.look(OWNER);
    world.residence.bring(&theirs);
    assert_eq!(world.told(), [(OWNER, 0)]);
    // An order that comes when the device is its own by then is answered, and changes nothing.
    world.board.reseat(1, Some(OTHER));
    world.residence.bring(&theirs);
    assert_eq!(world.told(), [(OTHER, 1)]);
    assert!(world.evict(OTHER, 1, &mut Underway::default()));
    assert_eq!(world.told(), [(OTHER, 1)]);
    assert!(world.is_there(&theirs));
}

#[test]
fn a_key_that_is_computed_with_stays_until_that_has_ended() {
    let world = world(1);
    let key = world.key(OTHER);
    assert_eq!(world.told(), [(OTHER, 1)]);
    let job = |witness: &Wtns| {
        let blinding = Blinding::random(key.curve()).expect("randomness");
        Job::new(&key, witness.clone(), blinding).expect("it is laid out")
    };
    world.relay.allow(0b10);
    let (begun, waiting) = (job(&world.witness), job(&world.witness));
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
    let mut underway = Underway::default();
    assert!(!world.evict(OTHER, world.len, &mut underway));
    assert!(key.copy_bytes(1) > 0);
    assert_eq!(world.told(), [], "it is not gone");
    for (job, mut tasks) in [(begun, tasks), (waiting, Vec::new())] {
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
        assert!(world.residence.round(&mut underway));
        assert_eq!(key.copy_bytes(1), 0);
    }
    assert_eq!(world.told(), [(OTHER, 0)]);
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
