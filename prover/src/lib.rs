//! Computes: Groth16 proofs, the file formats around them, and the statements of state units.
//!
//! Bytes come in, bytes go out. What a device is called, what time it is and who pays are not
//! known here, and no socket or file is opened here: `deploy` maps files and hands in
//! [`bytes::Bytes`], devices come from `caldera_kernels` behind its `Device` trait.

#![forbid(unsafe_code)]

mod defect;
pub mod format;
pub mod groth16;
pub mod units;

pub use defect::Defect;
