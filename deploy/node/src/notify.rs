//! Telling systemd how things stand: `sd_notify(3)` without its library.
//!
//! The protocol is a datagram of text to the socket that `NOTIFY_SOCKET` names. Where nothing is
//! named nothing is sent; a socket that does not listen is logged and otherwise ignored, for the
//! box works without it.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use caldera_rpc::chain::chain;
use caldera_scheduler::Nanos;
use thiserror::Error;

/// Sends a state such as `READY=1` to whoever started this process and asked to be told.
pub fn notify(state: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(name.as_bytes(), state) {
        tracing::warn!(error = %chain(&error), state, "telling systemd");
    }
}

/// What systemd wants to hear again and again; if it does not, it kills the process and starts it anew
/// (`sd_watchdog_enabled(3)`). It belongs to the thread without which nothing goes on: what it says is
/// worth as much as what the thread that says it is.
#[derive(Debug)]
pub struct Watchdog {
    socket: UnixDatagram,
    every: Nanos,
    due: Nanos,
}

/// Why systemd's watchdog cannot be fed.
#[derive(Debug, Error)]
pub enum WatchdogError {
    /// A variable that systemd sets holds something else.
    #[error("{variable}: expected a number above zero, got {got:?}")]
    Variable {
        /// Which.
        variable: &'static str,
        /// What it holds.
        got: String,
    },
    /// The socket cannot be had.
    #[error("the socket in NOTIFY_SOCKET")]
    Socket(#[from] io::Error),
}

impl Watchdog {
    /// The watchdog that systemd has asked this process to feed, if it has.
    pub fn from_environment() -> Result<Option<Watchdog>, WatchdogError> {
        let text = |variable| env::var_os(variable).map(|it| it.to_string_lossy().into_owned());
        let Some(name) = env::var_os("NOTIFY_SOCKET") else {
            return Ok(None);
        };
        let (span, process) = (text("WATCHDOG_USEC"), text("WATCHDOG_PID"));
        match interval(span, process, std::process::id())? {
            Some(every) => Ok(Some(Watchdog::new(name.as_bytes(), every)?)),
            None => Ok(None),
        }
    }

    fn new(name: &[u8], every: Nanos) -> io::Result<Watchdog> {
        let socket = UnixDatagram::unbound()?;
        // Whoever feeds it has better things to do than to wait for a reader.
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address(name)?)?;
        Ok(Watchdog {
            socket,
            every,
            due: Nanos::ZERO,
        })
    }

    /// Says that all is well if it is time to. Costs a system call then, and never waits. What cannot
    /// be said is said when it is due again: `interval` leaves room for one that is lost.
    pub fn feed(&mut self, now: Nanos) {
        if now >= self.due {
            self.due = now.plus(self.every);
            let _ = self.socket.send(b"WATCHDOG=1");
        }
    }

    /// When it wants to be fed next.
    pub fn due(&self) -> Nanos {
        self.due
    }
}

/// How often to feed: a third of what systemd waits for. `None` if it does not wait, or for another process.
fn interval(
    span: Option<String>,
    process: Option<String>,
    own: u32,
) -> Result<Option<Nanos>, WatchdogError> {
    let number = |variable, text: String| match text.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(WatchdogError::Variable {
            variable,
            got: text,
        }),
    };
    let Some(span) = span else { return Ok(None) };
    let span = number("WATCHDOG_USEC", span)?;
    if let Some(process) = process
        && number("WATCHDOG_PID", process)? != u64::from(own)
    {
        return Ok(None);
    }
    Ok(Some(Nanos(span.saturating_mul(1_000) / 3)))
}

fn send(name: &[u8], state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(state.as_bytes(), &address(name)?)?;
    Ok(())
}

fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_arrives_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        send(path.as_os_str().as_bytes(), "READY=1").expect("sent");
        let mut text = [0; 32];
        let count = socket.recv(&mut text).expect("received");
        assert_eq!(&text[..count], b"READY=1");
    }

    #[test]
    fn a_watchdog_is_fed_when_it_is_due_and_not_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_nonblocking(true).expect("set");
        let said = || socket.recv(&mut [0; 32]).is_ok();
        let name = path.as_os_str().as_bytes();
        let mut watchdog = Watchdog::new(name, Nanos(100)).expect("made");
        watchdog.feed(Nanos(7));
        assert!(said());
        assert_eq!(watchdog.due(), Nanos(107));
        watchdog.feed(Nanos(106));
        assert!(!said());
        watchdog.feed(Nanos(107));
        assert!(said());
        // Nobody reads any more, and the thread goes on.
        drop(socket);
        watchdog.feed(Nanos(1_000));
    }

    #[test]
    fn a_watchdog_of_another_process_is_left_alone() {
        let of = |span: Option<&str>, process: Option<&str>| {
            interval(span.map(String::from), process.map(String::from), 12)
        };
        assert_eq!(of(None, None).expect("well"), None);
        assert_eq!(of(Some("3"), None).expect("well"), Some(Nanos(1_000)));
        assert_eq!(of(Some("3"), Some("12")).expect("well"), Some(Nanos(1_000)));
        assert_eq!(of(Some("3"), Some("13")).expect("well"), None);
        for (span, process) in [("0", "12"), ("-1", "12"), ("3", "it")] {
            assert!(of(Some(span), Some(process)).is_err(), "{span} {process}");
        }
    }
}
