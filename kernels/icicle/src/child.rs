//! The child's life: a request, an answer, until the socket closes.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::process::ExitCode;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, getsockopt, recvmsg, send, sockopt};
use nix::unistd::{Pid, getppid};

use crate::library::{Bases, IcicleError, Library, Scalars};
use crate::memory::Memory;
use crate::wire::{Answer, MESSAGE_BYTES_MAX, Request};

/// What the program does that [`Setup`](crate::Setup) starts: answers on the socket that is its
/// standard input until that closes. Says on stderr why it ended, if that was not asked for.
pub fn serve() -> ExitCode {
    match answer_all() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device child: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer_all() -> io::Result<()> {
    // What is here are witnesses, which have no business in a core dump, nor within reach of other
    // processes of the same user. The parent's own setting has ended with the start of this program;
    // and a limit of nothing does not hold a program back to which the kernel pipes dumps.
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // Whoever asks may be killed while a driver hangs here.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let socket = io::stdin();
    let socket = socket.as_fd();
    // Or has been before that: then the signal never comes.
    let (expected, got) = (
        getsockopt(&socket, sockopt::PeerCredentials)?.pid(),
        getppid().as_raw(),
    );
    if expected != got {
        return Err(io::Error::other(format!(
            "the parent: expected process {expected}, which has made the socket, got {got}"
        )));
    }
    let mut child = Child::default();
    let mut message = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let (length, file) = receive(socket.as_raw_fd(), &mut message)?;
        if length == 0 {
            return Ok(());
        }
        let answer = match Request::decode(&message[..length]) {
            Some(request) => child.answer(request, file),
            None => Answer::Failed("not a request".into()),
        };
        send(socket.as_raw_fd(), &answer.encode(), MsgFlags::MSG_NOSIGNAL)?;
    }
}

fn receive(socket: RawFd, message: &mut [u8]) -> io::Result<(usize, Option<RawFd>)> {
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(message)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(socket, &mut parts, Some(&mut control), flags)?;
    let file = received.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(files) => files.first().copied(),
        _ => None,
    });
    Ok((received.bytes, file))
}

#[derive(Default)]
struct Child {
    library: Option<Library>,
    memory: Option<Memory>,
    bases: HashMap<u64, Bases>,
    vectors: HashMap<u64, Scalars>,
    next: u64,
}

impl Child {
    fn answer(&mut self, request: Request, file: Option<RawFd>) -> Answer {
        match self.follow(request, file) {
            Ok(body) => Answer::Done(body),
            Err(error) if error.is_no_room() => Answer::NoRoom(error.to_string()),
            Err(error) => {
                let more = self.library.as_ref().map(|library| library.explain(&error));
                Answer::Failed(format!("{error}{}", more.unwrap_or_default()))
            }
        }
    }

    fn follow(&mut self, request: Request, file: Option<RawFd>) -> Result<Vec<u8>, IcicleError> {
        match request {
            Request::Load {
                folder,
                backends,
                kind,
                index,
            } => {
                let library = Library::open(&folder, backends.as_deref(), &kind, index)?;
                let memory = library.memory().unwrap_or(u64::MAX);
                let mut names = String::new();
                for (curve, name) in crate::library::CURVES {
                    if library.curves().any(|known| known == curve) {
                        names.push_str(name);
                        names.push(' ');
                    }
                }
                self.library = Some(library);
                return Ok([&memory.to_le_bytes(), names.as_bytes()].concat());
            }
            Request::Settle { cores } => {
                settle(&cores)?;
                return Ok(Vec::new());
            }
            Request::Memory { bytes } => {
                let file = file.ok_or_else(|| nonsense("memory without a file"))?;
                self.memory = Some(
                    Memory::received(file, bytes as usize)
                        .map_err(|error| nonsense(&format!("mapping memory: {error}")))?,
                );
                return Ok(Vec::new());
            }
            _ => {}
        }
        let library = self
            .library
            .as_mut()
            .ok_or_else(|| nonsense("nothing is loaded"))?;
        let mut memory = self.memory.as_mut().map(Memory::bytes);
        let mut part = |count: u64, size: usize| -> Result<&mut [u8], IcicleError> {
            let memory = memory.take().unwrap_or_default();
            let there = (memory.len() / size) as u64;
            let bytes = (count <= there).then(|| count as usize * size);
            bytes
                .map(|bytes| &mut memory[..bytes])
                .ok_or(IcicleError::Range {
                    what: "elements in the memory",
                    expected: there,
                    got: count,
                })
        };
        let find = |bases: &u64| {
            self.bases
                .get(bases)
                .ok_or_else(|| nonsense(&format!("no bases {bases}")))
        };
        let find_vector = |vector: &u64| {
            self.vectors
                .get(vector)
                .ok_or_else(|| nonsense(&format!("no vector {vector}")))
        };
        match request {
            Request::Load { .. } | Request::Settle { .. } | Request::Memory { .. } => {
                unreachable!("returned above")
            }
            Request::Bases {
                curve,
                group,
                count,
            } => {
                let bases = library.bases(curve, group, count)?;
                self.next += 1;
                self.bases.insert(self.next, bases);
                Ok(self.next.to_le_bytes().to_vec())
            }
            Request::Write { bases, at, count } => {
                let bases = find(&bases)?;
                library.write(bases, at, part(count, bases.point_bytes())?)?;
                Ok(Vec::new())
            }
            Request::Forget { bases } => {
                let bases = self
                    .bases
                    .remove(&bases)
                    .ok_or_else(|| nonsense(&format!("no bases {bases}")))?;
                library.forget(bases)?;
                Ok(Vec::new())
            }
            Request::Sum {
                bases,
                at,
                count,
                form,
            } => {
                let bases = find(&bases)?;
                library.sum(bases, at, part(count, bases.scalar_bytes())?, form)
            }
            Request::Domain { curve, log2 } => {
                library.domain(curve, log2)?;
                Ok(Vec::new())
            }
            Request::Vector { curve, log2 } => {
                let vector = library.vector(curve, log2)?;
                self.next += 1;
                self.vectors.insert(self.next, vector);
                Ok(self.next.to_le_bytes().to_vec())
            }
            Request::Put { vector, at, count } => {
                let vector = find_vector(&vector)?;
                library.put(vector, at, part(count, vector.scalar_bytes())?)?;
                Ok(Vec::new())
            }
            Request::Get { vector, at, count } => {
                let vector = find_vector(&vector)?;
                library.get(vector, at, part(count, vector.scalar_bytes())?)?;
                Ok(Vec::new())
            }
            Request::Transform { vector, step } => {
                library.transform(find_vector(&vector)?, step)?;
                Ok(Vec::new())
            }
            Request::Release { vector } => {
                let vector = self
                    .vectors
                    .remove(&vector)
                    .ok_or_else(|| nonsense(&format!("no vector {vector}")))?;
                library.release(vector)?;
                Ok(Vec::new())
            }
        }
    }
}

fn settle(cores: &[u64]) -> Result<(), IcicleError> {
    let mut set = CpuSet::new();
    let set_all = cores.iter().try_for_each(|&core| set.set(core as usize));
    set_all
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|error| IcicleError::Cores {
            cores: cores.to_vec(),
            why: error.desc(),
        })
}

fn nonsense(why: &str) -> IcicleError {
    IcicleError::Request(why.to_owned())
}
