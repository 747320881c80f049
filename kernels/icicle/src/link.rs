//! This process's end of the socket: starts the child, asks, waits no longer than it said, kills.
//!
//! A child that hangs in its driver may not end when it is killed. So nobody who has anything else to do
//! waits for its end: a thread of its own does, from the kill on.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, recv, sendmsg,
    setsockopt, shutdown, socketpair, sockopt,
};
use nix::sys::time::TimeVal;

use crate::memory::Memory;
use crate::wire::{Answer, MESSAGE_BYTES_MAX, Request};

/// What is shared with the child. Dropping it kills the child.
pub(crate) struct Link {
    process: Arc<Process>,
    memory: Memory,
    message: Vec<u8>,
}

/// How the end of a killed child is waited for: by [`process::Child::wait`], but in tests of a child
/// that does not end.
pub(crate) type Reap = fn(&mut process::Child) -> io::Result<ExitStatus>;

/// The child's process. Any thread may end it, in the midst of another thread's exchange too.
pub(crate) struct Process {
    socket: OwnedFd,
    id: u32,
    /// Gone from the kill on.
    child: Mutex<Option<process::Child>>,
    reap: Reap,
    end: Arc<End>,
}

/// How the child ended, once that is known.
#[derive(Default)]
struct End {
    status: Mutex<Option<io::Result<ExitStatus>>>,
    known: Condvar,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Whether the child has closed its end, which only its own end does. Waits for nothing, and takes no
    /// answer away.
    pub(crate) fn has_ended(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        let peeked = recv(self.socket.as_raw_fd(), &mut [0], flags);
        !matches!(peeked, Ok(1..) | Err(Errno::EAGAIN | Errno::EINTR))
    }

    /// Kills the child, and wakes whoever waits for its answer. Waits for nothing.
    pub(crate) fn kill(&self) {
        let child = self.child.lock();
        let Some(mut child) = child.unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        // Each fails only if it has ended already.
        let _ = child.kill();
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        let (reap, end) = (self.reap, Arc::clone(&self.end));
        let reaper = thread::Builder::new().name("icicle-reaper".into());
        // Without a thread it stays a zombie until this process ends, which harms nobody.
        let _ = reaper.spawn(move || {
            let status = reap(&mut child);
            *end.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            end.known.notify_all();
        });
    }

    /// What to say of a socket that is closed: how the child ended is what people need. It ends at once
    /// or, in the hands of a driver, perhaps never.
    fn end(&self, error: Errno) -> String {
        self.kill();
        let status = self.end.status.lock();
        let status = status.unwrap_or_else(PoisonError::into_inner);
        let known = self
            .end
            .known
            .wait_timeout_while(status, GRACE, |status| status.is_none());
        let (status, _) = known.unwrap_or_else(PoisonError::into_inner);
        match &*status {
            Some(Ok(status)) => match status.signal() {
                Some(signal) => format!("its process was ended by signal {signal}"),
                None => format!("its process ended: {status}"),
            },
            Some(Err(_)) => format!("its process cannot be reached: {error}"),
            None => format!("its process has closed its socket and does not end: {error}"),
        }
    }
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The device is full; the child can be asked again.
    NoRoom(String),
    /// The child is of no more use.
    Lost(String),
}

impl Link {
    /// Starts `command` with a socket as its standard input, memory that both map, and of this process's
    /// environment what a driver needs.
    pub(crate) fn start(mut command: Command, reap: Reap) -> io::Result<Link> {
        let (socket, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        // What ICICLE prints must not come between the lines of this process's standard output.
        let errors = io::stderr().as_fd().try_clone_to_owned()?;
        confine(&mut command);
        let child = command
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(errors))
            .spawn()?;
        let process = Process {
            socket,
            id: child.id(),
            child: Mutex::new(Some(child)),
            reap,
            end: Arc::default(),
        };
        let mut link = Link {
            process: Arc::new(process),
            memory: Memory::new(MEMORY_BYTES_MIN)?,
            message: vec![0; MESSAGE_BYTES_MAX],
        };
        // The descriptor is the link's now, and with it the child is killed if this fails.
        link.share().map_err(|trouble| match trouble {
            Trouble::NoRoom(why) | Trouble::Lost(why) => io::Error::other(why),
        })?;
        Ok(link)
    }

    /// By which any thread may end it.
    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// The first bytes of the shared memory, at least so many of them as asked for.
    pub(crate) fn memory(&mut self, bytes: usize) -> Result<&mut [u8], Trouble> {
        if self.memory.bytes().len() < bytes {
            self.memory = Memory::new(bytes.next_power_of_two())
                .map_err(|error| Trouble::NoRoom(format!("{bytes} shared bytes: {error}")))?;
            self.share()?;
        }
        Ok(&mut self.memory.bytes()[..bytes])
    }

    /// Asks, and waits for the answer as long as `patience`.
    pub(crate) fn ask(
        &mut self,
        request: &Request,
        patience: Duration,
    ) -> Result<Vec<u8>, Trouble> {
        self.send(request, &[])?;
        self.answer(patience)
    }

    fn share(&mut self) -> Result<(), Trouble> {
        let request = Request::Memory {
            bytes: self.memory.bytes().len() as u64,
        };
        let file: RawFd = self.memory.file().as_raw_fd();
        self.send(&request, &[ControlMessage::ScmRights(&[file])])?;
        self.answer(PATIENCE_SHORT)?;
        Ok(())
    }

    fn send(&mut self, request: &Request, control: &[ControlMessage<'_>]) -> Result<(), Trouble> {
        let bytes = request.encode();
        let parts = [IoSlice::new(&bytes)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(
            self.process.socket.as_raw_fd(),
            &parts,
            control,
            flags,
            None,
        )
        .map(|_| ())
        .map_err(|error| self.gone(error))
    }

    fn answer(&mut self, patience: Duration) -> Result<Vec<u8>, Trouble> {
        let time = TimeVal::new(
            patience.as_secs() as i64,
            i64::from(patience.subsec_micros()),
        );
        let received =
            setsockopt(&self.process.socket, sockopt::ReceiveTimeout, &time).and_then(|()| {
                loop {
                    match recv(
                        self.process.socket.as_raw_fd(),
                        &mut self.message,
                        MsgFlags::empty(),
                    ) {
                        Err(Errno::EINTR) => {}
                        other => return other,
                    }
                }
            });
        let length = match received {
            Ok(0) => return Err(self.gone(Errno::EPIPE)),
            Err(Errno::EAGAIN) => {
                return Err(Trouble::Lost(format!("no answer within {patience:?}")));
            }
            Err(error) => return Err(self.gone(error)),
            Ok(length) => length,
        };
        match Answer::decode(&self.message[..length]) {
            Some(Answer::Done(body)) => Ok(body),
            Some(Answer::NoRoom(why)) => Err(Trouble::NoRoom(why)),
            Some(Answer::Failed(why)) => Err(Trouble::Lost(why)),
            None => Err(Trouble::Lost("it answered with nonsense".into())),
        }
    }

    fn gone(&self, error: Errno) -> Trouble {
        Trouble::Lost(self.process.end(error))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// Leaves of this process's environment what libraries and drivers are found and set up by, beside what the
/// command itself sets: all else may be secrets, which are no business of theirs.
fn confine(command: &mut Command) {
    let set: Vec<(OsString, Option<OsString>)> = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.map(OsStr::to_owned)))
        .collect();
    command.env_clear();
    command.envs(env::vars_os().filter(|(name, _)| is_passed(name)));
    for (name, value) in set {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

fn is_passed(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    PASSED.contains(&&*name)
        || PASSED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// How libraries are found, and where drivers keep what they have compiled.
const PASSED: [&str; 7] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "RUST_BACKTRACE",
];

/// ICICLE's licence is among its own.
const PASSED_PREFIXES: [&str; 4] = ["ICICLE_", "CUDA_", "NVIDIA_", "VK_"];

/// How long a child may take to end after it has closed its socket, before that is said without how it
/// ended.
const GRACE: Duration = Duration::from_millis(100);

/// For what is hardly any work.
pub(crate) const PATIENCE_SHORT: Duration = Duration::from_secs(1);

/// Room for a slice of a sum or a small transform.
const MEMORY_BYTES_MIN: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo tells a test where its sources are. That is nothing that a driver needs.
    #[test]
    fn a_child_has_of_the_environment_what_drivers_need() {
        let mut command = Command::new("env");
        command.env("CALDERA_GIVEN", "1").env_remove("HOME");
        confine(&mut command);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let has = |name: &str| text.lines().any(|line| line.starts_with(name));
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some());
        assert!(!has("CARGO_MANIFEST_DIR="), "{text}");
        assert!(has("PATH="), "{text}");
        assert!(has("CALDERA_GIVEN="), "{text}");
        assert!(!has("HOME="), "{text}");
        for passed in ["ICICLE_LICENSE", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"] {
            assert!(is_passed(OsStr::new(passed)), "{passed}");
        }
        for kept in ["CALDERA_TOKEN", "LD_PRELOAD", "NOTIFY_SOCKET", "PATHS"] {
            assert!(!is_passed(OsStr::new(kept)), "{kept}");
        }
    }
}
