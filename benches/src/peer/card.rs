//! Peers on a GPU, in turns with our device on the same card. Each is a library (`peer/library.rs`) that `make
//! peers` makes.
//!
//! | name | what it has |
//! |---|---|
//! | `sppark`, `icicle` | sums and a transform, by CUDA |
//! | `snarkrs-cuda`, `snarkrs-wgpu` | whole proofs |
//!
//! One that cannot be used says why, and the rest is measured without it.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use caldera_devices::{FORWARD, inputs};
use caldera_kernels::{CurveId, Group};
use caldera_prover::format::json::{Proof, PublicInputs};
use caldera_prover::groth16::{verification_key, verify};

use crate::duel::{Answer, Contender};
use crate::key::Key;
use crate::peer::library::{CURVE, Library, Work};
use crate::record::Silicon;

/// A peer by its name, and where its library lies: `NAME=LIBRARY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its name in tables and records.
    pub(crate) name: &'static str,
    path: PathBuf,
}

const NAMES: [&str; 4] = ["sppark", "icicle", "snarkrs-cuda", "snarkrs-wgpu"];

impl FromStr for Wanted {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Wanted> {
        let (name, path) = text
            .split_once('=')
            .with_context(|| format!("expected NAME=LIBRARY, got {text}"))?;
        let Some(name) = NAMES.into_iter().find(|it| *it == name) else {
            bail!("expected one of {}, got {name}", NAMES.join(", "));
        };
        let path = path.into();
        Ok(Wanted { name, path })
    }
}

impl Wanted {
    /// Whether it has whole proofs; if not, sums and transforms.
    pub(crate) fn proves(&self) -> bool {
        self.name.starts_with("snarkrs")
    }
}

/// A peer that can be used.
pub(crate) struct Peer {
    /// Its name in tables and records.
    pub(crate) name: &'static str,
    /// The device that it computes on.
    pub(crate) silicon: Silicon,
    proves: bool,
    library: Library,
}

impl Peer {
    /// Opens one, to compute on the card of a device that is measured, and on CUDA's device of this number.
    pub(crate) fn open(wanted: &Wanted, cuda: Option<u32>, card: &Silicon) -> Result<Peer> {
        let pci = card.pci.as_deref().unwrap_or_default();
        Ok(Peer {
            name: wanted.name,
            silicon: card.clone(),
            proves: wanted.proves(),
            library: Library::open(&wanted.path, wanted.name, cuda, pci)?,
        })
    }

    /// Does a kind of work over 2^log2 elements, on the same inputs as ours; none where it has no such work.
    pub(crate) fn work(
        &self,
        curve: CurveId,
        kind: &str,
        log2: u32,
    ) -> Result<Option<Contender<'_>>> {
        if curve != CURVE || self.proves {
            return Ok(None);
        }
        let inputs = inputs(curve, kind, log2, log2);
        let sum = |group| self.library.sum(group, &inputs.points, &inputs.scalars);
        let work = match kind {
            "msm-g1" => sum(Group::G1)?,
            "msm-g2" => sum(Group::G2)?,
            FORWARD => self.library.transform(&inputs.scalars)?,
            _ => None,
        };
        Ok(
            work.map(|work| {
                self.contender(work, |work: &Work<'_>| Ok(Answer::Bytes(work.read()?)))
            }),
        )
    }

    /// Proves with a key and its witness; none where it does not prove.
    pub(crate) fn proof(&self, key: &Key) -> Result<Option<Contender<'_>>> {
        if key.zkey.curve() != CURVE {
            return Ok(None);
        }
        let mut witness = Vec::new();
        key.witness.write(&mut witness).context("the witness")?;
        let Some(work) = self.library.proof(&key.file, &witness)? else {
            return Ok(None);
        };
        let judge = verification_key(&key.zkey).context("the verification key")?;
        let public = PublicInputs::new(CURVE, key.public()).context("public inputs")?;
        Ok(Some(self.contender(work, move |work: &Work<'_>| {
            let text = work.read()?;
            let proof = Proof::parse(&text, Some(CURVE)).context("its proof")?;
            verify(&judge, &proof, &public).context("its proof does not verify")?;
            Ok(Answer::Verified)
        })))
    }

    fn contender<'a>(
        &'a self,
        work: Work<'a>,
        answer: impl FnMut(&Work<'a>) -> Result<Answer> + 'a,
    ) -> Contender<'a> {
        let build = self.library.build().to_owned();
        Contender::peer(self.name, build, work, |work| work.run(), answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_with_their_libraries() {
        let sppark: Wanted = "sppark=/a=b/lib.so".parse().expect("well-formed");
        assert_eq!((sppark.name, sppark.proves()), ("sppark", false));
        assert_eq!(sppark.path, PathBuf::from("/a=b/lib.so"));
        let snarkrs: Wanted = "snarkrs-wgpu=x".parse().expect("well-formed");
        assert!(snarkrs.proves());
        for (text, expected) in [
            ("sppark", "expected NAME=LIBRARY, got sppark"),
            (
                "cuzk=x",
                "expected one of sppark, icicle, snarkrs-cuda, snarkrs-wgpu, got cuzk",
            ),
        ] {
            let error = text.parse::<Wanted>().expect_err("malformed");
            assert_eq!(error.to_string(), expected);
        }
    }
}
