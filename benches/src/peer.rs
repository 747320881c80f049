//! The others, measured in the same run on the same inputs. Each in its own file, each in its
//! best build, and each refused when its result differs.

pub(crate) mod ark;
#[cfg(feature = "blst")]
pub(crate) mod blst;
pub(crate) mod card;
pub(crate) mod groth16;
#[cfg(feature = "halo2curves")]
pub(crate) mod halo2curves;
#[cfg(feature = "jsonrpsee")]
pub(crate) mod jsonrpsee;
pub(crate) mod library;
pub(crate) mod outside;
#[cfg(feature = "snarkrs")]
pub(crate) mod snarkrs;

/// Runs a peer's code on a pool of so many threads, made at the first use: starting threads is
/// no part of what a peer is measured at.
#[cfg(any(feature = "halo2curves", feature = "parallel", feature = "snarkrs"))]
fn on_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex, PoisonError};

    use anyhow::Context;
    use rayon::{ThreadPool, ThreadPoolBuilder};

    static POOLS: Mutex<BTreeMap<usize, Arc<ThreadPool>>> = Mutex::new(BTreeMap::new());
    let pool = {
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        match pools.get(&threads) {
            Some(pool) => Arc::clone(pool),
            None => {
                let pool = ThreadPoolBuilder::new().num_threads(threads).build();
                let pool = Arc::new(pool.context("threads for a peer")?);
                pools.insert(threads, Arc::clone(&pool));
                pool
            }
        }
    };
    Ok(pool.install(work))
}
