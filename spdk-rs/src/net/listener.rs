//! Listening sockets.
//!
//! Whatever accept(2) fails with, the listener goes on: what concerns one connection is skipped,
//! what lasts (no descriptors, no memory) is logged once and tried again after a pause, in which
//! connections wait in the kernel's queue.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::time::Duration;

use nix::libc;
use spdk_rs_sys::event::Ready;
use spdk_rs_sys::socket::{self, ShutdownOf, SocketOption};

use super::core::{Endpoint, Key, Net, Op};
use super::socket::set;
use super::{NetError, Socket, SocketOptions};
use crate::reactor::{Reactor, sleep};

/// Connections accepted in one turn, so that a storm of them leaves time for I/O.
const ACCEPT_BATCH: usize = 16;
/// The pause after an error that lasts.
const PAUSE: Duration = Duration::from_millis(100);

/// How a listener is made.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    pub backlog: u32,
    /// What accepted sockets are set to.
    pub socket: SocketOptions,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 512, socket: SocketOptions::default() }
    }
}

type OnAccept = Rc<dyn Fn(Socket, SocketAddr)>;

/// A listening socket on a reactor. It lives until [`Listener::close`], whoever drops it, or until
/// the reactor ends.
pub struct Listener {
    this: Weak<Self>,
    net: Rc<Net>,
    key: OnceCell<Key>,
    local: SocketAddr,
    /// `SO_PRIORITY`, the one option that connections do not inherit.
    priority: Option<u8>,
    fd: RefCell<Option<OwnedFd>>,
    on_accept: RefCell<Option<OnAccept>>,
    /// A poll is in the ring.
    armed: Cell<bool>,
    /// Connections may be waiting.
    pending: Cell<bool>,
    /// In the list of those with something to do.
    marked: Cell<bool>,
    pausing: Cell<bool>,
    closing: Cell<bool>,
}

enum Accepted {
    One(Socket, SocketAddr),
    /// That connection is gone again.
    Skip,
    None,
    Pause(std::io::Error),
}

impl Listener {
    /// Listens on `addr`; port 0 takes any free port. An IPv6 address takes IPv6 peers only, so
    /// that `0.0.0.0` and `[::]` can share a port. `on_accept` gets each connection and its peer.
    ///
    /// # Errors
    /// [`NetError`]: `Bind` when the address is in use or not of this host, `Option` when the
    /// kernel refuses one.
    pub fn bind(
        reactor: &Rc<Reactor>,
        addr: SocketAddr,
        options: &ListenOptions,
        on_accept: Box<dyn Fn(Socket, SocketAddr)>,
    ) -> Result<Rc<Self>, NetError> {
        let net = Net::of(reactor)?;
        let fd = socket::stream_for(&addr).map_err(NetError::Open)?;
        set(fd.as_fd(), SocketOption::ReuseAddress, 1)?;
        if addr.is_ipv6() {
            set(fd.as_fd(), SocketOption::V6Only, 1)?;
        }
        options.socket.apply(fd.as_fd())?;
        socket::bind(fd.as_fd(), &addr).map_err(|source| NetError::Bind { addr, source })?;
        socket::listen(fd.as_fd(), options.backlog)
            .map_err(|source| NetError::Listen { addr, source })?;
        let local = socket::local_addr(fd.as_fd()).map_err(NetError::Open)?;
        let listener = Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            net,
            key: OnceCell::new(),
            local,
            priority: options.socket.priority,
            fd: RefCell::new(Some(fd)),
            on_accept: RefCell::new(Some(Rc::from(on_accept))),
            armed: Cell::new(false),
            pending: Cell::new(false),
            marked: Cell::new(false),
            pausing: Cell::new(false),
            closing: Cell::new(false),
        });
        let endpoint: Rc<dyn Endpoint> = Rc::<Self>::clone(&listener);
        let key = match listener.fd.borrow().as_ref() {
            Some(fd) => listener.net.add(fd.as_fd(), endpoint)?,
            None => return Err(NetError::ReactorEnding),
        };
        listener.key.get_or_init(|| key);
        listener.mark();
        Ok(listener)
    }

    /// The address it listens on, with the port that was chosen.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Stops listening; connections that wait are reset. `on_accept` is not called any more, and
    /// dropped soon.
    pub fn close(&self) {
        if !self.closing.replace(true) {
            if let Some(fd) = self.fd.borrow().as_ref() {
                // This also ends the poll in the ring.
                let _ = socket::shutdown(fd.as_fd(), ShutdownOf::Both);
            }
            self.mark();
        }
    }

    fn mark(&self) {
        if let Some(this) = self.this.upgrade()
            && !self.marked.replace(true)
        {
            self.net.mark(this);
        }
    }

    /// Accepts what waits, up to a number; returns how much was done.
    fn accept_some(&self) -> usize {
        let mut work = 0;
        while work < ACCEPT_BATCH && self.pending.get() && !self.closing.get() {
            work += 1;
            match self.accept_one() {
                Accepted::One(socket, peer) => {
                    let on_accept = self.on_accept.borrow().clone();
                    if let Some(on_accept) = on_accept {
                        on_accept(socket, peer);
                    }
                }
                Accepted::Skip => {}
                Accepted::None => self.pending.set(false),
                Accepted::Pause(error) => {
                    self.pending.set(false);
                    self.pause(&error);
                }
            }
        }
        work
    }

    fn accept_one(&self) -> Accepted {
        let fd = self.fd.borrow();
        let Some(fd) = fd.as_ref() else { return Accepted::None };
        match socket::accept(fd.as_fd()) {
            Ok((taken, peer)) => {
                if let Some(priority) = self.priority {
                    // The listening socket took the same value.
                    let _ = set(taken.as_fd(), SocketOption::Priority, priority.into());
                }
                Accepted::One(Socket::new(taken, peer), peer)
            }
            Err(error) => after_error(error),
        }
    }

    /// Lets some time pass before the next try.
    fn pause(&self, error: &std::io::Error) {
        if self.pausing.replace(true) {
            return;
        }
        tracing::warn!(%error, listener = %self.local, "cannot accept connections; they wait");
        let this = Weak::clone(&self.this);
        self.net.reactor().spawn("listener's pause", async move {
            loop {
                sleep(PAUSE).await;
                let Some(listener) = this.upgrade() else { return };
                if listener.try_again() {
                    return;
                }
            }
        });
    }

    /// Whether the pause is over: a connection was accepted, or none waits any more.
    fn try_again(&self) -> bool {
        if self.closing.get() {
            return true;
        }
        // Pausing still, so that another failure is not logged again.
        self.pending.set(true);
        match self.accept_one() {
            Accepted::Pause(_) => {
                self.pending.set(false);
                return false;
            }
            Accepted::One(socket, peer) => {
                tracing::info!(listener = %self.local, "connections are accepted again");
                let on_accept = self.on_accept.borrow().clone();
                if let Some(on_accept) = on_accept {
                    on_accept(socket, peer);
                }
            }
            Accepted::Skip | Accepted::None => {}
        }
        self.pausing.set(false);
        self.mark();
        true
    }

    /// Waits in the ring for connections.
    fn arm(&self) {
        let (Some(&key), Some(fd)) =
            (self.key.get(), self.fd.borrow().as_ref().map(AsRawFd::as_raw_fd))
        else {
            return;
        };
        let queued = self.net.push(key, Op::Poll, |ring, user_data| {
            ring.poll_once(fd, libc::POLLIN, user_data).is_ok()
        });
        self.armed.set(queued);
        if !queued {
            self.mark();
        }
    }

    /// Lets go of everything; nothing is in flight.
    fn finish(&self) {
        let fd = self.fd.take();
        if let (Some(fd), Some(&key)) = (&fd, self.key.get()) {
            self.net.remove(fd.as_fd(), key);
        }
        drop(self.on_accept.take());
    }
}

/// What is to be done about an error of accept(2), which also reports those of the new connection.
fn after_error(error: std::io::Error) -> Accepted {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Accepted::None,
        Some(
            libc::ECONNABORTED
            | libc::EINTR
            | libc::EPROTO
            | libc::EPERM
            | libc::ETIMEDOUT
            | libc::ENETDOWN
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENOPROTOOPT
            | libc::ENONET
            | libc::EOPNOTSUPP,
        ) => Accepted::Skip,
        _ => Accepted::Pause(error),
    }
}

impl Endpoint for Listener {
    fn completed(self: Rc<Self>, _op: Op, _result: i32, _flags: u32) {
        self.armed.set(false);
        self.pending.set(true);
        self.mark();
    }

    fn ready(self: Rc<Self>, _ready: Ready) {
        self.pending.set(true);
        self.mark();
    }

    fn flush(self: Rc<Self>, arm_only: bool) -> usize {
        self.marked.set(false);
        if arm_only && (self.closing.get() || self.pending.get()) {
            self.mark();
            return 0;
        }
        let mut work = 0;
        if self.pending.get() && !self.pausing.get() {
            work = self.accept_some();
        }
        if self.closing.get() {
            if !self.armed.get() && self.fd.borrow().is_some() {
                self.finish();
                work += 1;
            }
        } else if self.pausing.get() {
            // The pause marks it again.
        } else if self.pending.get() {
            self.mark();
        } else if self.net.has_ring() && !self.armed.get() {
            self.arm();
        }
        work
    }

    fn end(self: Rc<Self>) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_pauses_and_what_concerns_one_connection_does_not() {
        let judge = |errno| after_error(std::io::Error::from_raw_os_error(errno));
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EBADF] {
            assert!(matches!(judge(errno), Accepted::Pause(_)), "{errno}");
        }
        for errno in [libc::ECONNABORTED, libc::EINTR, libc::EPROTO, libc::ENETDOWN] {
            assert!(matches!(judge(errno), Accepted::Skip), "{errno}");
        }
        assert!(matches!(judge(libc::EAGAIN), Accepted::None));
    }
}
