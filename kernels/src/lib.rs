//! Touches silicon: fields, curves, and the devices that compute with them.
//!
//! The public face is [`Device`]: everything that proves stands on it. What a proof is, and what
//! time it is, is not known here.

#![deny(unsafe_code)]

mod around;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod cpu;
pub mod curve;
mod device;
pub mod field;
mod forfeit;
mod held;
mod holdings;
// Vector instructions and rows of raw words.
#[allow(unsafe_code)]
mod lanes;
pub mod pairing;
mod primitive;
pub mod relay;

pub use around::{Around, Filling, Loading, Quantum};
pub use device::{
    BasesId, CurveId, Device, DeviceError, DeviceInfo, Fill, Form, Group, Health, MatrixId,
    Original, Plan, Progress, Site, Software, Thing, Transform, VectorId, Work,
};
pub use forfeit::{forfeit, forfeited};
pub use held::Held;
pub use holdings::{Fitted, Holdings, Registry, Shape, Shaped, same_length, scalars_fit};
