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

/// Sends a state such as `READY=1` to whoever started this process and asked to be told.
pub fn notify(state: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(name.as_bytes(), state) {
        tracing::warn!(%error, state, "telling systemd");
    }
}

fn send(name: &[u8], state: &str) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
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
}
