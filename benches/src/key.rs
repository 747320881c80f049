//! Keys to measure with, each with a witness: development keys of a synthetic circuit, made in
//! memory, or any key from a file.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{Synthetic, setup_synthetic};
use memmap2::Mmap;

use crate::peer::ark::{Bls12_381, Bn254, Curve};

/// A key and a witness that satisfies it.
pub(crate) struct Key {
    /// Its name in tables and records.
    pub(crate) name: String,
    /// The whole file, for those who read it themselves.
    pub(crate) file: Bytes,
    /// The same, read by us.
    pub(crate) zkey: Zkey,
    /// The witness.
    pub(crate) witness: Wtns,
}

impl Key {
    /// A key with a domain of 2^log2, and a witness of which a share `dense` is full-size and the
    /// rest 0 or 1. The same each time.
    pub(crate) fn synthetic(curve: CurveId, log2: u32, dense: f64, threads: usize) -> Result<Key> {
        let circuit = Synthetic {
            curve,
            domain_log2: log2,
            dense,
            seed: [0xca; 32],
        };
        let mut file = Vec::new();
        let witness = setup_synthetic(&circuit, threads, &mut file, &mut |_| ())
            .with_context(|| format!("a synthetic key of 2^{log2}"))?;
        let file = Bytes::from(file);
        Ok(Key {
            name: format!("{} synthetic, dense {dense}", name(curve)),
            zkey: Zkey::parse(file.clone()).context("our own key")?,
            file,
            witness,
        })
    }

    /// A key and a witness from files.
    pub(crate) fn read(zkey: &Path, witness: &Path) -> Result<Key> {
        let file = mapped(zkey)?;
        Ok(Key {
            name: zkey
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            zkey: Zkey::parse(file.clone())
                .with_context(|| format!("the key {}", zkey.display()))?,
            file,
            witness: self::witness(witness)?,
        })
    }

    /// The size of its domain.
    pub(crate) fn domain(&self) -> u64 {
        u64::from(self.zkey.header().domain)
    }

    /// The public part of its witness, element by element.
    pub(crate) fn public(&self) -> Vec<[u8; 32]> {
        let (elements, _) = self.witness.elements().as_chunks::<32>();
        elements[1..=self.zkey.header().public as usize].to_vec()
    }
}

/// A witness from its file.
pub(crate) fn witness(path: &Path) -> Result<Wtns> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Wtns::parse(Bytes::from(bytes)).with_context(|| format!("the witness {}", path.display()))
}

/// A file, mapped and not read.
pub(crate) fn mapped(path: &Path) -> Result<Bytes> {
    let map = || {
        let file = File::open(path)?;
        // SAFETY: the mapping is private and read-only. Its bytes change only if somebody writes
        // to the file meanwhile; readers take every byte as hostile, and a file that is cut short
        // ends a bench and nothing else.
        unsafe { Mmap::map(&file) }
    };
    let map = map().with_context(|| format!("mapping {}", path.display()))?;
    Ok(Bytes::from_owner(map))
}

/// "bn254" or "bls12-381".
pub(crate) fn name(curve: CurveId) -> &'static str {
    match curve {
        CurveId::Bn254 => Bn254::NAME,
        CurveId::Bls12_381 => Bls12_381::NAME,
    }
}
