//! Whole processes beside outside programs: from the start of a process to its end.
//!
//! An outside program loads its key for each proof, and what it did when cannot be seen from
//! here. So ours is then a process as well, with the same work: `caldera-bench` starts itself,
//! maps the key, believes it, reads the witness, proves, checks the proof and writes both files,
//! as `caldera prove --check trusted` does.
//!
//! What is measured is the CPU time of the children as the kernel accounts for it. "On so many
//! threads" is two things: ours is told, and each process may run on so many processors only,
//! which the peers take as their number of threads or are held to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use caldera_kernels::cpu::CpuConfig;
use caldera_prover::format::Zkey;
use caldera_prover::format::json::{Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16::{self, ProvingKey, verification_key, verify};
use caldera_prover::units::{self, Opening};
use clap::ValueEnum;

use crate::bench::{Bench, OURS, VectorsName};
use crate::drive::Confined;
use crate::duel::{Answer, Contender};
use crate::key::{self, Key};
use crate::memory::Resident;
use crate::peer::outside::{Files, Outside, Run, written};
use crate::record::{Case, Unit};

/// What is inside the time of each.
const INSIDE: &str = "a whole process: start, key from its file (ours mapped, not checked), \
                      witness from its file, proof, proof.json and public.json written; ours with \
                      its self-check";

/// Measures one key beside all programs that have its curve. `at` is where the key and the
/// witness lie, if they are files already.
pub(crate) fn process(
    bench: &mut Bench,
    key: &Key,
    at: Option<(&Path, &Path)>,
    peers: &[Outside],
) -> Result<()> {
    let peers: Vec<&Outside> = peers
        .iter()
        .filter(|peer| peer.has(key.zkey.curve()))
        .collect();
    if peers.is_empty() {
        return Ok(());
    }
    let folder = tempfile::tempdir().context("a folder for proofs")?;
    let (zkey, witness) = match at {
        Some((zkey, witness)) => (zkey.to_owned(), witness.to_owned()),
        None => written_to(folder.path(), key)?,
    };
    let files = |who: &str| Files {
        zkey: zkey.clone(),
        witness: witness.clone(),
        proof: folder.path().join(format!("{who}-proof.json")),
        public: folder.path().join(format!("{who}-public.json")),
    };
    let public = PublicInputs::new(key.zkey.curve(), key.public()).context("public inputs")?;
    let judge = Judge::new(&key.zkey, public)?;
    for threads in bench.threads.clone() {
        let case = Case {
            bench: "process",
            case: bench.named(key.name.clone()),
            size: key.domain(),
            threads,
            unit: Unit::Milliseconds,
            inside: Some(INSIDE),
        };
        let mut contenders = vec![Contender::ours(
            OURS,
            ourselves(&files(OURS), threads, bench.vectors, false)?,
            move |run: &mut Run| on_processors(threads, || run.run()),
            |_| judge.judge(&files(OURS)),
        )];
        for peer in &peers {
            let files = files(peer.name());
            let judge = &judge;
            contenders.push(Contender::peer(
                peer.name(),
                peer.build()?,
                peer.proving(&files),
                move |run: &mut Run| on_processors(threads, || run.run()),
                move |_| judge.judge(&files),
            ));
        }
        bench.case(&case, contenders)?;
    }
    Ok(())
}

/// The work of our process. Where it is asked, it says what it had resident. What it is given is a witness,
/// or the opening of a presentation to make one of.
pub(crate) fn whole(
    files: &Files,
    threads: usize,
    vectors: VectorsName,
    resident: bool,
    opening: bool,
) -> Result<()> {
    let zkey = Zkey::parse(key::mapped(&files.zkey)?).context("the key")?;
    let witness = if opening {
        let path = &files.witness;
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        units::witness(&Opening::from_bytes(&bytes).context("the opening")?)
    } else {
        key::witness(&files.witness)?
    };
    let device = vectors.device(CpuConfig {
        quantum: Duration::from_millis(2),
        lanes: lanes(threads),
    })?;
    let key = ProvingKey::load(&zkey, device).context("loading the key")?;
    let (proof, public) =
        groth16::prove(&key, witness, threads, &mut |_, _| ()).context("proving")?;
    for (path, text) in [
        (&files.proof, proof.print()),
        (&files.public, public.print()),
    ] {
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if resident {
        let resident = serde_json::to_string(&Resident::here()?).context("JSON")?;
        println!("{resident}");
    }
    Ok(())
}

/// Into how many lanes its work is cut.
pub(crate) fn lanes(threads: usize) -> usize {
    2 * threads
}

/// The name of the command that does it.
pub(crate) const WHOLE: &str = "whole";

/// Our process for these files.
pub(crate) fn ourselves(
    files: &Files,
    threads: usize,
    vectors: VectorsName,
    opening: bool,
) -> Result<Run> {
    let vectors = vectors.to_possible_value();
    let vectors = vectors.context("vectors without a name")?;
    let mut arguments = vec![WHOLE.into(), "--threads".into(), threads.to_string().into()];
    arguments.extend(["--vectors".into(), vectors.get_name().into()]);
    if opening {
        arguments.push("--opening".into());
    }
    arguments.extend(files.in_order());
    Ok(Run {
        path: std::env::current_exe().context("this program's path")?,
        arguments,
    })
}

/// A key and its witness, written to a folder.
pub(crate) fn written_to(folder: &Path, key: &Key) -> Result<(PathBuf, PathBuf)> {
    let (zkey, witness) = (folder.join("key.zkey"), folder.join("witness.wtns"));
    std::fs::write(&zkey, &key.file).context("writing the key")?;
    let mut file = Vec::new();
    key.witness.write(&mut file).context("the witness")?;
    std::fs::write(&witness, file).context("writing the witness")?;
    Ok((zkey, witness))
}

/// Who says whether a proof holds.
pub(crate) struct Judge {
    key: VerificationKey,
    public: PublicInputs,
}

impl Judge {
    /// Of proofs by this key, of these public inputs.
    pub(crate) fn new(zkey: &Zkey, public: PublicInputs) -> Result<Judge> {
        let key = verification_key(zkey).context("the verification key")?;
        Ok(Judge { key, public })
    }

    /// Judges what a process has written and takes it away, so that it is not found again after
    /// one that has written nothing.
    pub(crate) fn judge(&self, files: &Files) -> Result<Answer> {
        let proof = written(&files.proof)?;
        let public = written(&files.public)?;
        for path in [&files.proof, &files.public] {
            std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
        }
        let curve = self.key.curve;
        let proof = Proof::parse(&proof, Some(curve)).context("its proof")?;
        let public = PublicInputs::parse(&public, curve).context("its public inputs")?;
        anyhow::ensure!(
            public == self.public,
            "its public inputs are not the witness's"
        );
        verify(&self.key, &proof, &public).context("its proof does not verify")?;
        Ok(Answer::Verified)
    }
}

/// Lets what `work` starts run on so many processors: children inherit the set of the thread that
/// starts them.
pub(crate) fn on_processors<T>(count: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _confined = Confined::to(0..count)?;
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_gets_so_many_processors_and_the_thread_has_all_again() {
        let count = || std::thread::available_parallelism().map_or(0, usize::from);
        let all = count();
        let one = on_processors(1, || Ok(count())).expect("a set of one");
        assert_eq!((one, count()), (1, all));
    }
}
