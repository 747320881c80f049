//! Keys to measure with: development keys of a synthetic circuit, made in memory.

use anyhow::{Context, Result};
use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{Synthetic, setup_synthetic};

/// A key with a domain of 2^log2, and a witness of which a share `dense` is full-size and the
/// rest 0 or 1. The same each time.
pub(crate) fn synthetic(
    curve: CurveId,
    log2: u32,
    dense: f64,
    threads: usize,
) -> Result<(Zkey, Wtns)> {
    let circuit = Synthetic {
        curve,
        domain_log2: log2,
        dense,
        seed: [0xca; 32],
    };
    let mut file = Vec::new();
    let witness = setup_synthetic(&circuit, threads, &mut file, &mut |_| ())
        .with_context(|| format!("a synthetic key of 2^{log2}"))?;
    Ok((
        Zkey::parse(Bytes::from(file)).context("our own key")?,
        witness,
    ))
}
