//! Loading a key costs no more memory than the key, though a key has a million points and as many
//! coefficients: what the device keeps are slices of the file, and what is computed does not grow
//! with it.
//!
//! Danger: a reader that copies its sections, a device that decodes the points once more. A box
//! with 30 GiB of keys would want 60. The allocator of this program counts the bytes that are live
//! at once; the file itself is made before the counting begins.
//!
//! And a job that waits holds what it is charged for: less, and the arbiter gives out memory that is not there;
//! much more, and it is not all it gives out.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_prover::format::Zkey;
use caldera_prover::groth16::{Blinding, Job, ProvingKey, Synthetic, setup_synthetic};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to `System` unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `System` by way of `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test, so that no other allocates meanwhile.
#[test]
fn a_loaded_key_takes_its_file_and_a_job_what_it_is_charged_for() {
    for curve in [CurveId::Bn254, CurveId::Bls12_381] {
        let synthetic = Synthetic {
            curve,
            domain_log2: 12,
            dense: 0.5,
            seed: [1; 32],
        };
        let mut file = Vec::new();
        let witness = setup_synthetic(&synthetic, 2, &mut file, &mut |_| ()).expect("a key");
        let file = Bytes::from(file);
        let device = CpuDevice::new(CpuConfig {
            quantum: Duration::from_millis(2),
            lanes: 2,
        });

        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let zkey = Zkey::parse(file.clone()).expect("a key");
        let key = ProvingKey::load(&zkey, Arc::clone(&device) as _).expect("it loads");
        let took = PEAK.load(Ordering::Relaxed) - before;
        // The verification key and its tables: a constant, here about a thirtieth.
        assert!(
            took <= file.len() / 16,
            "a key of {} bytes took {took} more to load",
            file.len()
        );

        let lay_out = |witness| {
            let blinding = Blinding::random(curve).expect("chance");
            Job::new(&key, witness, blinding).expect("it is laid out")
        };
        // The first leaves what the device keeps for all: roots of unity.
        drop(lay_out(witness.clone()));
        let before = LIVE.load(Ordering::Relaxed);
        let job = lay_out(witness.clone());
        let held = LIVE.load(Ordering::Relaxed) - before;
        let charged = job.bytes();
        // Names of stages and countdowns are not in it.
        let range = charged..charged + charged / 50;
        assert!(
            range.contains(&held),
            "a job of {charged} bytes holds {held}"
        );
        drop((job, key));
    }
}
