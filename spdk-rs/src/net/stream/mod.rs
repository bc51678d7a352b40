//! A connected byte stream: receives into the handler's memory, gathered sends, orderly ends.
//!
//! What a call asks for is done when the stream is flushed, at the end of the turn, so that a
//! handler may make any call from any callback, and all that a turn queues leaves together.
//!
//! The states: *open*; *draining* after an orderly shutdown, where what is queued leaves, what
//! arrives is dropped, and the peer's end is waited for; *closing*, where the connection was shut
//! down and the kernel gives back what is in flight; *closed*.
#![allow(unsafe_code, reason = "pieces are queued by address")]

mod close;
mod handler;
mod low_water;
mod queue;
mod readiness;
mod ring;
mod space;

use std::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use std::net::SocketAddr;
use std::os::fd::{AsFd, RawFd};
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::Duration;

use spdk_rs_sys::event::Ready;

pub use handler::{CloseReason, StreamHandler};
pub use low_water::LOW_WATER_LIMIT;
pub use queue::SendFull;
pub use space::{ReadBuffer, ReadSpace, Received};

use self::low_water::LowWater;
use self::queue::SendQueue;
use super::core::{Endpoint, Key, Net, Op};
use super::{NetError, Socket};
use crate::env::IoVec;
use crate::reactor::Reactor;

/// Pieces that one send names at the most.
const SEND_PIECES_MAX: usize = 256;
/// Bytes at a time that are received only to be dropped.
const DROP_BYTES: usize = 16 * 1024;

/// The room that a stream has for what is queued. One call can queue all of the bytes, and all of
/// the pieces but 4.
#[derive(Clone, Copy, Debug)]
pub struct StreamOptions {
    /// Bytes of copied data (headers) that may be queued, at least 256.
    pub copy_bytes: usize,
    /// Pieces, and tokens, that may be queued, at least 16.
    pub pieces: usize,
}

impl StreamOptions {
    const COPY_BYTES_MIN: usize = 256;
    const PIECES_MIN: usize = 16;
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { copy_bytes: 32 * 1024, pieces: 512 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Draining,
    Closing,
    Closed,
}

/// A connected byte stream on a reactor. It lives until it is shut down or the peer ends it,
/// whoever drops it; [`StreamHandler::closed`] tells.
pub struct Stream {
    this: Weak<Self>,
    net: Rc<Net>,
    key: OnceCell<Key>,
    fd: RawFd,
    socket: RefCell<Option<Socket>>,
    peer: SocketAddr,
    local: SocketAddr,
    handler: RefCell<Option<Rc<dyn StreamHandler>>>,
    state: Cell<State>,
    reason: Cell<Option<CloseReason>>,
    /// In the list of those with something to do.
    marked: Cell<bool>,
    paused: Cell<bool>,
    /// Somebody was told that there is no room.
    room_wanted: Cell<bool>,
    /// The peer has sent its last byte.
    peer_ended: Cell<bool>,
    /// The end of our bytes was sent.
    end_sent: Cell<bool>,
    /// The connection was shut down in both directions.
    cut: Cell<bool>,
    /// Whoever watches over the time limit of an orderly end.
    limit_waker: RefCell<Option<Waker>>,
    receiver: Receiver,
    low_water: LowWater,
    sender: Sender,
    ready: ReadyState,
}

/// The one receive.
struct Receiver {
    in_flight: Cell<bool>,
    /// The last receive left nothing behind.
    drained: Cell<bool>,
    /// While the receive is in flight its pieces and, in the ring, its header are the kernel's.
    space: RefCell<ReadSpace>,
    /// Bytes that the space has.
    space_bytes: Cell<usize>,
    /// Bytes that it is to wait for.
    waits_for: Cell<usize>,
    message: UnsafeCell<nix::libc::msghdr>,
    /// Where dropped bytes go.
    waste: OnceCell<Box<[UnsafeCell<u8>]>>,
}

/// The one send, and what waits behind it.
struct Sender {
    in_flight: Cell<bool>,
    queue: RefCell<SendQueue>,
    /// While the send is in flight these are the kernel's.
    pieces: UnsafeCell<Box<[IoVec]>>,
    message: UnsafeCell<nix::libc::msghdr>,
}

/// Without a ring: what the kernel said last.
struct ReadyState {
    readable: Cell<bool>,
    writable: Cell<bool>,
    /// The end or an error is behind the bytes that are there.
    ending: Cell<bool>,
}

impl Stream {
    /// Makes a stream of a connected socket. No callback comes before this has returned.
    ///
    /// # Errors
    /// [`NetError::ReactorEnding`], or `Open` when the kernel or the reactor has no place for it.
    pub fn open(
        reactor: &Rc<Reactor>,
        socket: Socket,
        options: &StreamOptions,
        handler: Rc<dyn StreamHandler>,
    ) -> Result<Rc<Self>, NetError> {
        let net = Net::of(reactor)?;
        let (fd, peer, local) = (socket.raw_fd(), socket.peer_addr(), socket.local_addr()?);
        let copy_bytes = options.copy_bytes.max(StreamOptions::COPY_BYTES_MIN);
        let pieces = options.pieces.max(StreamOptions::PIECES_MIN);
        let stream = Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            net,
            key: OnceCell::new(),
            fd,
            socket: RefCell::new(Some(socket)),
            peer,
            local,
            handler: RefCell::new(Some(handler)),
            state: Cell::new(State::Open),
            reason: Cell::new(None),
            marked: Cell::new(false),
            paused: Cell::new(false),
            room_wanted: Cell::new(false),
            peer_ended: Cell::new(false),
            end_sent: Cell::new(false),
            cut: Cell::new(false),
            limit_waker: RefCell::default(),
            receiver: Receiver::new(),
            low_water: LowWater::new(),
            sender: Sender::new(copy_bytes, pieces),
            ready: ReadyState {
                readable: Cell::new(false),
                writable: Cell::new(true),
                ending: Cell::new(false),
            },
        });
        let endpoint: Rc<dyn Endpoint> = Rc::<Self>::clone(&stream);
        let key = match stream.socket.borrow().as_ref() {
            Some(socket) => stream.net.add(socket.as_fd(), endpoint)?,
            None => return Err(NetError::ReactorEnding),
        };
        stream.key.get_or_init(|| key);
        stream.mark();
        Ok(stream)
    }

    /// The peer's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The local address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether bytes can be queued: neither side has ended the stream.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.get() == State::Open
    }

    /// Whether so many copied bytes and pieces by address can be queued now, in one call. False:
    /// [`StreamHandler::send_room`] is called after some of what is queued has left.
    #[inline]
    #[must_use]
    pub fn has_room(&self, copied_bytes: usize, pieces: usize) -> bool {
        let room = self.sender.queue.borrow().has_room(copied_bytes, pieces);
        if !room {
            self.room_wanted.set(true);
        }
        room
    }

    /// Bytes that are queued and have not left.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.sender.queue.borrow().bytes()
    }

    /// Queues a copy of `bytes`. With a token, [`StreamHandler::sent`] reports when they have left.
    /// On a stream that is ending they are dropped, and so is the token.
    ///
    /// # Errors
    /// [`SendFull`]: nothing was queued; [`StreamHandler::send_room`] follows.
    #[inline]
    pub fn send(&self, bytes: &[u8], token: Option<u64>) -> Result<(), SendFull> {
        // SAFETY: no memory is named.
        unsafe { self.send_gather(bytes, &[], &[], token) }
    }

    /// Queues a copy of `head`, the `payload` by its address, and a copy of `tail`: all or nothing.
    /// With a token, [`StreamHandler::sent`] reports when all of them have left. On a stream that
    /// is ending they are dropped, and so is the token.
    ///
    /// # Errors
    /// [`SendFull`]: nothing was queued; [`StreamHandler::send_room`] follows.
    ///
    /// # Safety
    /// The memory of the payload is valid for reading, and nobody writes it, until a token queued
    /// with it or behind it was reported, or [`StreamHandler::closed`] was called. Where neither
    /// happens, it stays so for ever; the stream keeps its handler for as long.
    pub unsafe fn send_gather(
        &self,
        head: &[u8],
        payload: &[IoVec],
        tail: &[u8],
        token: Option<u64>,
    ) -> Result<(), SendFull> {
        if self.state.get() != State::Open {
            return Ok(());
        }
        if !self.has_room(head.len().saturating_add(tail.len()), payload.len()) {
            return Err(SendFull);
        }
        let mut queue = self.sender.queue.borrow_mut();
        queue.copy(head);
        for &piece in payload {
            queue.name(piece);
        }
        queue.copy(tail);
        if let Some(token) = token {
            queue.mark(token);
        }
        drop(queue);
        self.mark();
        Ok(())
    }

    /// Starts no further receive. One that is in the kernel already may still end with bytes.
    /// While reading is paused, the end of the connection may go unnoticed.
    pub fn pause_reading(&self) {
        self.paused.set(true);
    }

    /// Reads on, after a pause or after a read space without room.
    pub fn resume_reading(&self) {
        self.paused.set(false);
        self.mark();
    }

    /// Ends the stream in order: what is queued leaves, then the peer is told, and its end is
    /// waited for; all that within `limit`, or the connection is reset. What arrives meanwhile is
    /// dropped. No effect on a stream that is ending already.
    pub fn shutdown(&self, limit: Duration) {
        if self.state.get() == State::Open {
            self.state.set(State::Draining);
            self.watch_limit(limit);
            self.mark();
        }
    }

    /// Ends the stream at once: unsent bytes are dropped and the connection is reset.
    pub fn abort(&self) {
        self.close(CloseReason::Aborted);
    }

    fn mark(&self) {
        if !self.marked.get()
            && let Some(this) = self.this.upgrade()
        {
            self.marked.set(true);
            self.net.mark(this);
        }
    }

    /// Calls the handler, with nothing borrowed.
    #[inline]
    fn tell(&self, call: impl FnOnce(&dyn StreamHandler)) {
        let handler = self.handler.borrow().clone();
        if let Some(handler) = handler {
            call(&*handler);
        }
    }

    /// Bytes arrived in the space: the end of a receive.
    fn received(&self, bytes: usize, drained: bool) {
        self.receiver.drained.set(drained);
        if self.state.get() == State::Open {
            self.receiver.space.borrow().fill(bytes);
        }
        self.give_back();
        if bytes == 0 {
            return self.peer_end();
        }
        if self.state.get() == State::Open {
            self.tell(|handler| handler.received(bytes));
        }
        self.mark();
    }

    /// A receive ended with an error.
    fn receive_failed(&self, errno: i32) {
        self.give_back();
        if matches!(errno, nix::libc::EAGAIN | nix::libc::EINTR) {
            self.mark();
        } else {
            self.close(CloseReason::from_errno(errno));
        }
    }

    /// Bytes were taken over by the kernel: the end of a send.
    fn has_sent(&self, bytes: usize) {
        self.sender.queue.borrow_mut().advance(bytes);
        while let Some(token) = self.sender.pop_token() {
            self.tell(|handler| handler.sent(token));
            if self.state.get() == State::Closed {
                return;
            }
        }
        if self.room_wanted.take() && self.state.get() == State::Open {
            self.tell(|handler| handler.send_room());
        }
        self.mark();
    }

    /// A send ended with an error.
    fn send_failed(&self, errno: i32) {
        if matches!(errno, nix::libc::EAGAIN | nix::libc::EINTR) {
            self.mark();
        } else {
            self.close(CloseReason::from_errno(errno));
        }
    }

    /// Gets the next read space, unless reading is not wanted; returns its pieces. With pieces the
    /// receive counts as in flight from now on: the space is its own until [`Self::give_back`].
    fn take_space(&self) -> Option<*mut [IoVec]> {
        self.receiver.in_flight.set(true);
        let (pieces, bytes) = {
            let space = &mut *self.receiver.space.borrow_mut();
            match self.state.get() {
                State::Open if !self.paused.get() => self.tell(|handler| handler.read_space(space)),
                State::Draining if !self.peer_ended.get() => {
                    // SAFETY: only receives write there and nobody reads it; the stream owns it.
                    unsafe { space.push(self.receiver.waste()) };
                }
                _ => {}
            }
            self.receiver.waits_for.set(space.waits_for());
            let (pieces, bytes) = space.seal();
            (&raw mut *pieces, bytes)
        };
        self.receiver.space_bytes.set(bytes);
        if bytes == 0 {
            self.give_back();
            return None;
        }
        Some(pieces)
    }

    /// The receive has ended, or never began: its space is nobody's.
    fn give_back(&self) {
        self.receiver.space.borrow_mut().clear();
        self.receiver.in_flight.set(false);
    }
}

impl Receiver {
    fn new() -> Self {
        Self {
            in_flight: Cell::new(false),
            drained: Cell::new(true),
            space: RefCell::new(ReadSpace::new()),
            space_bytes: Cell::new(0),
            waits_for: Cell::new(0),
            message: UnsafeCell::new(spdk_rs_sys::socket::message_of(std::ptr::null_mut(), 0)),
            waste: OnceCell::new(),
        }
    }

    /// Where bytes go that nobody wants.
    fn waste(&self) -> IoVec {
        let make = || (0..DROP_BYTES).map(|_| UnsafeCell::new(0)).collect::<Box<[_]>>();
        let place = UnsafeCell::raw_get(self.waste.get_or_init(make).as_ptr());
        IoVec::new(place, DROP_BYTES)
    }
}

impl Sender {
    fn new(copy_bytes: usize, pieces: usize) -> Self {
        let in_flight = vec![IoVec::EMPTY; pieces.min(SEND_PIECES_MAX)].into_boxed_slice();
        Self {
            in_flight: Cell::new(false),
            queue: RefCell::new(SendQueue::new(copy_bytes, pieces)),
            pieces: UnsafeCell::new(in_flight),
            message: UnsafeCell::new(spdk_rs_sys::socket::message_of(std::ptr::null_mut(), 0)),
        }
    }

    fn pop_token(&self) -> Option<u64> {
        self.queue.borrow_mut().pop_token()
    }

    fn is_idle(&self) -> bool {
        !self.in_flight.get() && self.queue.borrow().is_empty()
    }

    /// The pieces of the next send; none when nothing is queued. No send is in flight.
    fn next_pieces(&self) -> Option<*mut [IoVec]> {
        // SAFETY: no send is in flight, and nobody else has a reference.
        let pieces = unsafe { &mut *self.pieces.get() };
        match self.queue.borrow().first(pieces) {
            0 => None,
            count => Some(&raw mut pieces[..count]),
        }
    }
}

impl Endpoint for Stream {
    #[inline]
    fn completed(self: Rc<Self>, op: Op, result: i32, flags: u32) {
        self.ring_completed(op, result, flags);
    }

    fn ready(self: Rc<Self>, ready: Ready) {
        self.note_ready(ready);
    }

    #[inline]
    fn flush(self: Rc<Self>, arm_only: bool) -> usize {
        self.marked.set(false);
        match self.state.get() {
            State::Closed => 0,
            State::Closing | State::Draining if arm_only => {
                self.mark();
                0
            }
            State::Closing => self.close_on(),
            _ if self.net.has_ring() => {
                self.ring_flush();
                0
            }
            _ => self.ready_flush(),
        }
    }

    fn end(self: Rc<Self>) {
        self.close(CloseReason::ReactorEnded);
    }

    fn keeps_waiting(self: Rc<Self>, now: u64) -> bool {
        self.low_water_holds(now)
    }
}
