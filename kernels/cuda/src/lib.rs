//! The NVIDIA device: our own CUDA kernels behind [`caldera_kernels::Device`].
//!
//! The kernels are in `cuda/`, one subject a file. What runs them is behind a small seam,
//! [`Driver`], with two implementations: NVIDIA's driver, and for tests an emulation that compiles
//! the same sources for the processor (`emulation/`), so that all but the silicon is held against
//! arkworks on machines without a GPU.

#![deny(unsafe_code)]

pub mod bundle;
mod device;
mod driver;
mod elementwise;
mod msm;
mod ntt;
// NVIDIA's driver.
#[allow(unsafe_code)]
mod nvidia;
// NVIDIA's compiler.
#[allow(unsafe_code)]
pub mod nvrtc;
// NVIDIA's profilers.
#[allow(unsafe_code)]
mod nvtx;
mod plan;
pub mod sources;
mod spmv;
mod tables;
mod vector;

pub use device::CudaDevice;
pub use driver::{Driver, Fence, Kernel, PIECE};
pub use nvidia::{COMPILER, Nvidia, NvidiaConfig, NvidiaError, count, ordinal};
