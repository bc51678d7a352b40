//! Connecting without blocking the reactor.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nix::libc;
use spdk_rs_sys::event::Ready;
use spdk_rs_sys::socket::{self, ShutdownOf};

use super::core::{Endpoint, Key, Net, Op};
use super::{NetError, Socket, SocketOptions};
use crate::reactor::{Reactor, sleep};

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// How long the peer may take to answer.
    pub timeout: Duration,
    /// The local address, with port 0 as a rule; the kernel's choice when `None`.
    pub local_addr: Option<SocketAddr>,
    /// What the socket is set to.
    pub socket: SocketOptions,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        let timeout = Duration::from_secs(10);
        Self { timeout, local_addr: None, socket: SocketOptions::default() }
    }
}

/// Connects to a peer. Dropping the future gives the attempt up.
///
/// # Errors
/// [`NetError`]: `Connect` with the kernel's error, `ConnectTimeout`, `Bind` when the local address
/// cannot be used, `ReactorEnding`.
pub async fn connect(
    reactor: &Rc<Reactor>,
    to: SocketAddr,
    options: &ConnectOptions,
) -> Result<Socket, NetError> {
    let net = Net::of(reactor)?;
    let fd = socket::stream_for(&to).map_err(NetError::Open)?;
    options.socket.apply(fd.as_fd())?;
    if let Some(addr) = options.local_addr {
        socket::bind(fd.as_fd(), &addr).map_err(|source| NetError::Bind { addr, source })?;
    }
    let fail = |source| NetError::Connect { to, source };
    let connected = socket::connect(fd.as_fd(), &to).map_err(fail)?;
    // On the same host it has happened by now.
    if connected || socket::is_writable(fd.as_fd()).map_err(fail)? {
        socket::pending_error(fd.as_fd()).map_err(fail)?;
        return Ok(Socket::new(fd, to));
    }
    let attempt = Attempt::start(net, fd)?;
    let guard = GiveUp(Rc::clone(&attempt));
    let in_time = within(options.timeout, std::future::poll_fn(|cx| attempt.poll(cx))).await;
    let fd = guard.0.fd.take();
    match (in_time, fd) {
        (Some(()), Some(fd)) if !attempt.ended.get() => {
            guard.0.leave(&fd);
            socket::pending_error(fd.as_fd()).map_err(fail)?;
            Ok(Socket::new(fd, to))
        }
        (Some(()), fd) => {
            guard.0.fd.replace(fd);
            Err(NetError::ReactorEnding)
        }
        (None, fd) => {
            guard.0.fd.replace(fd);
            Err(NetError::ConnectTimeout { to, after: options.timeout })
        }
    }
}

/// What the future yields, unless the time is over first.
async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut limit) = (pin!(future), pin!(sleep(limit)));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        limit.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// A connection being made.
struct Attempt {
    this: Weak<Self>,
    net: Rc<Net>,
    key: OnceCell<Key>,
    fd: RefCell<Option<OwnedFd>>,
    waker: RefCell<Option<Waker>>,
    /// A poll is in the ring.
    armed: Cell<bool>,
    marked: Cell<bool>,
    decided: Cell<bool>,
    /// Nobody waits for the outcome any more.
    given_up: Cell<bool>,
    ended: Cell<bool>,
}

/// Gives an attempt up when its future is dropped.
struct GiveUp(Rc<Attempt>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Attempt {
    fn start(net: Rc<Net>, fd: OwnedFd) -> Result<Rc<Self>, NetError> {
        let attempt = Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            net,
            key: OnceCell::new(),
            fd: RefCell::new(None),
            waker: RefCell::default(),
            armed: Cell::new(false),
            marked: Cell::new(false),
            decided: Cell::new(false),
            given_up: Cell::new(false),
            ended: Cell::new(false),
        });
        let endpoint: Rc<dyn Endpoint> = Rc::<Self>::clone(&attempt);
        let key = attempt.net.add(fd.as_fd(), endpoint)?;
        attempt.key.get_or_init(|| key);
        attempt.fd.replace(Some(fd));
        if attempt.net.has_ring() {
            attempt.mark();
        }
        Ok(attempt)
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.decided.get() || self.ended.get() {
            return Poll::Ready(());
        }
        self.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn mark(&self) {
        if let Some(this) = self.this.upgrade()
            && !self.marked.replace(true)
        {
            self.net.mark(this);
        }
    }

    fn decide(&self) {
        self.decided.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Leaves the reactor: the outcome is known and nothing is in flight.
    fn leave(&self, fd: &OwnedFd) {
        if let Some(&key) = self.key.get() {
            self.net.remove(fd.as_fd(), key);
        }
    }

    fn give_up(&self) {
        if self.fd.borrow().is_none() || self.given_up.replace(true) {
            return;
        }
        if let Some(fd) = self.fd.borrow().as_ref() {
            // This also ends the poll in the ring.
            let _ = socket::shutdown(fd.as_fd(), ShutdownOf::Both);
        }
        self.mark();
    }
}

impl Endpoint for Attempt {
    fn completed(self: Rc<Self>, _op: Op, _result: i32, _flags: u32) {
        self.armed.set(false);
        if self.given_up.get() {
            self.mark();
        } else {
            self.decide();
        }
    }

    fn ready(self: Rc<Self>, ready: Ready) {
        // A socket that is not connecting yet hangs up; this one is.
        if ready.is_writable() {
            self.decide();
        }
    }

    fn flush(self: Rc<Self>, arm_only: bool) -> usize {
        self.marked.set(false);
        if self.given_up.get() {
            if arm_only {
                self.mark();
            } else if !self.armed.get()
                && let Some(fd) = self.fd.take()
            {
                self.leave(&fd);
                return 1;
            }
            return 0;
        }
        let fd = self.fd.borrow().as_ref().map(AsRawFd::as_raw_fd);
        if let (Some(fd), Some(&key), false) = (fd, self.key.get(), self.armed.get()) {
            let queued = self.net.push(key, Op::Poll, |ring, user_data| {
                ring.poll_once(fd, libc::POLLOUT, user_data).is_ok()
            });
            self.armed.set(queued);
            if !queued {
                self.mark();
            }
        }
        0
    }

    fn end(self: Rc<Self>) {
        self.ended.set(true);
        self.give_up();
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
