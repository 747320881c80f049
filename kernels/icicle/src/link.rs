//! This process's end of the socket: starts the child, asks, waits no longer than it said, kills.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, setsockopt,
    socketpair, sockopt,
};
use nix::sys::time::TimeVal;

use crate::memory::Memory;
use crate::wire::{Answer, MESSAGE_BYTES_MAX, Request};

/// The child and what is shared with it. Dropping it kills the child.
pub(crate) struct Link {
    child: Child,
    socket: OwnedFd,
    memory: Memory,
    message: Vec<u8>,
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
    /// Starts `command` with a socket as its standard input, and memory that both map.
    pub(crate) fn start(mut command: Command) -> io::Result<Link> {
        let (socket, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        // What ICICLE prints must not come between the lines of this process's standard output.
        let errors = io::stderr().as_fd().try_clone_to_owned()?;
        let child = command
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(errors))
            .spawn()?;
        let mut link = Link {
            child,
            socket,
            memory: Memory::new(MEMORY_BYTES_MIN)?,
            message: vec![0; MESSAGE_BYTES_MAX],
        };
        // The descriptor is the link's now, and with it the child is killed if this fails.
        link.share().map_err(|trouble| match trouble {
            Trouble::NoRoom(why) | Trouble::Lost(why) => io::Error::other(why),
        })?;
        Ok(link)
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
        sendmsg::<()>(self.socket.as_raw_fd(), &parts, control, flags, None)
            .map(|_| ())
            .map_err(|error| self.gone(error))
    }

    fn answer(&mut self, patience: Duration) -> Result<Vec<u8>, Trouble> {
        let time = TimeVal::new(
            patience.as_secs() as i64,
            i64::from(patience.subsec_micros()),
        );
        let received = setsockopt(&self.socket, sockopt::ReceiveTimeout, &time).and_then(|()| {
            loop {
                match recv(
                    self.socket.as_raw_fd(),
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

    /// What to say of a socket that is closed: how the child ended is what people need.
    fn gone(&mut self, error: Errno) -> Trouble {
        // It has closed its socket, so it has ended or is about to; a kill is harmless then.
        let _ = self.child.kill();
        Trouble::Lost(match self.child.wait() {
            Ok(status) => match status.signal() {
                Some(signal) => format!("its process was ended by signal {signal}"),
                None => format!("its process ended: {status}"),
            },
            Err(_) => format!("its process cannot be reached: {error}"),
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For what is hardly any work.
pub(crate) const PATIENCE_SHORT: Duration = Duration::from_secs(1);

/// Room for a slice of a sum or a small transform.
const MEMORY_BYTES_MIN: usize = 4 << 20;
