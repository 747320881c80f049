//! ICICLE, loaded at run time from where the operator installed it, in a process of its own.
//!
//! ICICLE (<https://github.com/ingonyama-zk/icicle>) computes sums and transforms on GPUs. Its C ABI
//! has been the same from v3.6 to v4.0 in all that is used here; nothing of it is needed to build.
//! Its libraries throw C++ exceptions through that ABI, which ends a Rust process; its CUDA backend
//! can hang in a driver. So none of it is ever loaded here: a child process loads it
//! ([`serve`]), and this one sends it requests over a socket and data through shared memory.
//!
//! [`IcicleDevice`] stands around the host's own device. Vectors stay with the host; of the work,
//! sums and transforms go to the child, a slice at a time; all else the host does. When the child
//! aborts, does not answer, or answers with what is no point of the curve, it is killed, and the
//! sum or transform in progress is done again by the host, from its start, a quantum at a time.
//! From then on the device is lost ([`Device::health`](caldera_kernels::Device::health)) and the host does everything.
//!
//! What a child could still do unseen is to return a wrong point of the curve. It is tried on known
//! sums and transforms before it is used, and no proof leaves the prover unverified: see
//! [`Device::distrust`](caldera_kernels::Device::distrust).

#![deny(unsafe_code)]

pub mod abi;
mod child;
mod device;
mod installation;
// The only place where ICICLE's functions are called.
#[allow(unsafe_code)]
mod library;
mod link;
// Pages that two processes map.
#[allow(unsafe_code)]
mod memory;
mod slices;
mod total;
mod wire;

pub use child::serve;
pub use device::{Counts, IcicleDevice, PATIENCE, Setup, StartError};
pub use installation::folder_around;
