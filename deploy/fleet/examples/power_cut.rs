//! Cuts the power of all NATS servers of a fleet at once, and counts what is left of what they had confirmed.
//!
//! Three servers keep their files on a disk of their own, an image behind a loop device. When a thousand messages are confirmed, the servers are
//! stopped where they are and the image is copied: what the kernel had not written by then is not in it, as it would not be on a disk whose
//! power went. Servers are started on the copy. With `sync_interval: always`, which boxes insist on, nothing may be missing; with the
//! default something must be, or the cut was none. Needs root, loop devices, mkfs.ext4, and the server that `.ci/tools nats` brings.

// Only some of it is needed here.
#[allow(dead_code)]
#[path = "../tests/brokers/relay.rs"]
mod relay;
#[allow(dead_code)]
#[path = "../tests/brokers/servers.rs"]
mod servers;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, stream};
use caldera_fleet::BoxId;
use nix::sys::signal::Signal;
use servers::Servers;

const MESSAGES: u64 = 1_000;
const SERVERS: usize = 3;
const STREAM: &str = "POWER";
const OPERATOR: BoxId = BoxId(1);
const IMAGE_BYTES: u64 = 512 << 20;

fn main() -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("a runtime")?;
    let mut code = ExitCode::SUCCESS;
    for (jetstream, may_lose) in [("sync_interval: always", false), ("", true)] {
        let left = runtime.block_on(cut(jetstream))?;
        let lost = MESSAGES - left;
        let set = match jetstream {
            "" => "sync_interval by default",
            it => it,
        };
        let verdict = if may_lose == (lost > 0) {
            "as it should be"
        } else {
            "NOT as it should be"
        };
        println!(
            "{set}: {MESSAGES} messages confirmed by {SERVERS} servers, {lost} lost by a power cut of all: {verdict}"
        );
        if may_lose != (lost > 0) {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// How many messages are left.
async fn cut(jetstream: &'static str) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let (image, copy) = (folder.path().join("disk"), folder.path().join("copy"));
    std::fs::File::create(&image)?.set_len(IMAGE_BYTES)?;
    run("mkfs.ext4", &["-q".as_ref(), image.as_os_str()])?;
    let disk = Disk::mount(&image, folder.path().join("mount"))?;

    let mut servers = Servers::new(SERVERS, jetstream, true);
    servers.admit(OPERATOR, 0);
    let stores = |disk: &Disk, servers: &Servers| -> Result<()> {
        for n in 0..SERVERS {
            let store = disk.0.join(format!("store-{n}"));
            std::fs::create_dir_all(&store)?;
            let link = servers.folder.path().join(format!("store-{n}"));
            let _ = std::fs::remove_file(&link);
            symlink(store, link)?;
        }
        Ok(())
    };
    stores(&disk, &servers)?;
    servers.start();
    let client = jetstream::new(servers.operator(OPERATOR).await);
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["power.>".to_owned()],
        num_replicas: SERVERS,
        ..stream::Config::default()
    };
    client.create_stream(config).await?;
    for n in 0..MESSAGES {
        let subject = format!("power.{n}");
        client.publish(subject, "confirmed".into()).await?.await?;
    }
    // From here on no server does anything more, and what they have written is where it is.
    (0..SERVERS).for_each(|n| servers.signal(n, Signal::SIGSTOP));
    run(
        "cp",
        &[
            "--sparse=always".as_ref(),
            image.as_os_str(),
            copy.as_os_str(),
        ],
    )?;
    (0..SERVERS).for_each(|n| servers.kill(n));
    drop(disk);

    let disk = Disk::mount(&copy, folder.path().join("mount-copy"))?;
    stores(&disk, &servers)?;
    (0..SERVERS).for_each(|n| servers.start_one(n));
    (0..SERVERS).for_each(|n| servers.wait_for(n));
    let client = jetstream::new(servers.operator(OPERATOR).await);
    // A stream of which the servers know nothing any more has lost all.
    let left = match client.get_stream(STREAM).await {
        Ok(mut stream) => stream.info().await?.state.messages,
        Err(error)
            if matches!(
                error.kind(),
                jetstream::context::GetStreamErrorKind::JetStream(_)
            ) =>
        {
            0
        }
        Err(error) => return Err(error.into()),
    };
    ensure!(
        left <= MESSAGES,
        "expected at most {MESSAGES} messages, got {left}"
    );
    drop(servers);
    drop(disk);
    Ok(left)
}

/// A mounted image.
struct Disk(PathBuf);

impl Disk {
    /// Written to only when somebody asks for it, or after minutes: so that the control loses something however slow this machine is.
    fn mount(image: &Path, at: PathBuf) -> Result<Disk> {
        std::fs::create_dir(&at)?;
        let options = ["-o".as_ref(), "loop,commit=300".as_ref()];
        run(
            "mount",
            &[&options[..], &[image.as_os_str(), at.as_os_str()]].concat(),
        )?;
        Ok(Disk(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &[self.0.as_os_str()]) {
            eprintln!("{error:#}");
        }
    }
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<()> {
    let status = Command::new(program).args(arguments).status();
    let status = status.with_context(|| format!("{program} does not start"))?;
    ensure!(status.success(), "{program} {arguments:?}: {status}");
    Ok(())
}
