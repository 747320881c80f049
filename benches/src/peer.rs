//! The others, measured in the same run on the same inputs. Each in its own file, each in its
//! best build, and each refused when its result differs.

pub(crate) mod ark;
pub(crate) mod groth16;
#[cfg(feature = "halo2curves")]
pub(crate) mod halo2curves;
