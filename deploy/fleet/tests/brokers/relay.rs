//! The network between servers, and between them and everybody else: wires that carry bytes until they are cut.
//!
//! A wire that is cut says nothing to either end: bytes, ends of connections and new connections wait, as packets do that are
//! sent again and again, and go on when it is mended. So nobody hears that anything happened.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// The wires of some servers.
#[derive(Default)]
pub(crate) struct Network {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    cut: Vec<Cut>,
    /// Nothing is carried any more.
    over: bool,
    listeners: Vec<SocketAddr>,
}

/// Which wires of a server carry nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    None,
    /// Those to the other servers.
    Servers,
    All,
}

/// Between which of the servers; none is everybody else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) from: Option<usize>,
    pub(crate) to: usize,
}

impl Network {
    /// Of so many servers, without a wire.
    pub(crate) fn new(servers: usize) -> Arc<Network> {
        let network = Network::default();
        network.state().cut = vec![Cut::None; servers];
        Arc::new(network)
    }

    /// Carries what comes in at one address to another.
    pub(crate) fn wire(self: &Arc<Self>, ends: Ends, at: SocketAddr, to: SocketAddr) {
        let listener = TcpListener::bind(at).expect("nobody else listens there");
        self.state().listeners.push(at);
        let network = Arc::clone(self);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept()
                && !network.state().over
            {
                let network = Arc::clone(&network);
                std::thread::spawn(move || network.carry(ends, stream, to));
            }
        });
    }

    /// Cuts a server off.
    pub(crate) fn cut(&self, server: usize, wires: Cut) {
        self.state().cut[server] = wires;
    }

    pub(crate) fn mend(&self, server: usize) {
        self.state().cut[server] = Cut::None;
        self.changed.notify_all();
    }

    /// Ends all threads that carry something.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.over = true;
        let listeners = std::mem::take(&mut state.listeners);
        drop(state);
        self.changed.notify_all();
        // So that whoever listens looks, too.
        for at in listeners {
            let _ = TcpStream::connect(at);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics")
    }

    /// Waits while a wire is cut; whether anything is carried after that.
    fn passes(&self, ends: Ends) -> bool {
        let mut state = self.state();
        loop {
            if state.over {
                return false;
            }
            let is_cut = match ends.from {
                None => state.cut[ends.to] == Cut::All,
                Some(from) => [ends.to, from].iter().any(|it| state.cut[*it] != Cut::None),
            };
            if !is_cut {
                return true;
            }
            state = self.changed.wait(state).expect("nobody panics");
        }
    }

    fn carry(self: Arc<Self>, ends: Ends, near: TcpStream, to: SocketAddr) {
        if !self.passes(ends) {
            return;
        }
        let Ok(far) = TcpStream::connect(to) else {
            return;
        };
        let (Ok(back), Ok(forth)) = (far.try_clone(), near.try_clone()) else {
            return;
        };
        let network = Arc::clone(&self);
        std::thread::spawn(move || network.pump(ends, back, forth));
        self.pump(ends, near, far);
    }

    /// One direction.
    fn pump(&self, ends: Ends, mut from: TcpStream, mut to: TcpStream) {
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut piece).unwrap_or(0);
            if !self.passes(ends) || count == 0 || to.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        // Whoever ends ends it for both, for these are programs that end a connection whole.
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
