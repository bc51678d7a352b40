//! Sockets on reactors, with a ring and without one.
#![allow(unsafe_code, reason = "the tests queue payload by address, and name read space")]

mod close;
mod echo;
mod ends;
mod listen;
mod low_water;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use spdk_rs_sys::cpu::CoreId;

use super::*;
use crate::env::{Clock, IoVec, Memory, VirtualClock};
use crate::reactor::{LocalReactor, Reactor, ReactorConfig};

/// How long a test may wait for the kernel before it counts as stuck.
const STUCK_NS: u64 = 20_000_000_000;

fn memory() -> Memory {
    Memory::ordinary(4 << 20).unwrap()
}

fn reactor_with(ring: bool) -> Option<LocalReactor> {
    let config = ReactorConfig { ring, ..ReactorConfig::new(CoreId(0)) };
    let reactor = LocalReactor::new(config, memory()).unwrap();
    if ring && reactor.ring().is_none() {
        println!("skipped: {}", reactor.ring_refusal().unwrap_or_default());
        return None;
    }
    Some(reactor)
}

/// Runs a test on a reactor with a ring and on one without.
fn with_both(test: impl Fn(&LocalReactor)) {
    for ring in [true, false] {
        println!("ring: {ring}");
        if let Some(reactor) = reactor_with(ring) {
            test(&reactor);
        }
    }
}

/// Turns the reactor until something holds.
fn until(reactor: &Rc<Reactor>, what: &str, holds: impl Fn() -> bool) {
    let started = spdk_rs_sys::os::monotonic_ns();
    // So that no sleep lasts for ever.
    let _tick =
        reactor.register_poller("tick", Some(std::time::Duration::from_millis(200)), || {
            crate::reactor::Progress::Idle
        });
    while !holds() {
        reactor.turn();
        let waited = spdk_rs_sys::os::monotonic_ns() - started;
        assert!(waited < STUCK_NS, "stuck while waiting until {what}");
    }
}

/// Runs a test in virtual time, with a ring and without one.
fn with_both_virtual(test: impl Fn(&LocalReactor, &VirtualClock)) {
    for ring in [true, false] {
        println!("ring: {ring}");
        let time = VirtualClock::default();
        let clock = Clock::Virtual(time.clone());
        let config = ReactorConfig { ring, clock, ..ReactorConfig::new(CoreId(0)) };
        let reactor = LocalReactor::new(config, memory()).unwrap();
        if !ring || reactor.ring().is_some() {
            test(&reactor, &time);
        }
    }
}

/// Some turns, in which things happen or not.
fn some_turns(reactor: &Rc<Reactor>) {
    reactor.block_on(async {
        for _ in 0..8 {
            crate::reactor::yield_now().await;
        }
    });
}

/// The open descriptors of the process. Every test is a process of its own under nextest; under
/// another runner it is not exact.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

type Hook = Box<dyn Fn(&Probe)>;

/// A handler that keeps what it is told.
struct Probe {
    stream: OnceCell<Rc<Stream>>,
    buffer: ReadBuffer,
    /// Filled before the buffer, when there is any; its size and how much is filled.
    direct: RefCell<Vec<u8>>,
    direct_filled: Cell<usize>,
    /// Bytes that it waits for.
    waits_for: Cell<usize>,
    read: RefCell<Vec<u8>>,
    sent: RefCell<Vec<u64>>,
    rooms: Cell<usize>,
    closed: RefCell<Vec<CloseReason>>,
    on_received: Hook,
    on_sent: Hook,
    on_closed: Hook,
}

impl Probe {
    fn new(buffer_bytes: usize) -> Self {
        Self {
            stream: OnceCell::new(),
            buffer: ReadBuffer::new(buffer_bytes),
            direct: RefCell::default(),
            direct_filled: Cell::new(0),
            waits_for: Cell::new(0),
            read: RefCell::default(),
            sent: RefCell::default(),
            rooms: Cell::new(0),
            closed: RefCell::default(),
            on_received: Box::new(Probe::take_all),
            on_sent: Box::new(|_| ()),
            on_closed: Box::new(|_| ()),
        }
    }

    fn stream(&self) -> &Rc<Stream> {
        self.stream.get().unwrap()
    }

    /// Moves what is in the buffer to the log.
    fn take_all(&self) {
        let data = self.buffer.data();
        self.read.borrow_mut().extend_from_slice(&data);
        self.buffer.consume(data.len());
    }

    fn is_closed(&self) -> bool {
        !self.closed.borrow().is_empty()
    }

    fn open(self, reactor: &Rc<Reactor>, socket: Socket) -> Rc<Self> {
        self.open_with(reactor, socket, &StreamOptions::default())
    }

    fn open_with(self, reactor: &Rc<Reactor>, socket: Socket, options: &StreamOptions) -> Rc<Self> {
        let probe = Rc::new(self);
        let handler: Rc<dyn StreamHandler> = Rc::<Self>::clone(&probe);
        let stream = Stream::open(reactor, socket, options, handler).unwrap();
        assert!(probe.stream.set(stream).is_ok());
        probe
    }
}

impl StreamHandler for Probe {
    fn read_space(&self, out: &mut ReadSpace) {
        assert!(!self.is_closed(), "asked for space after the end");
        let filled = self.direct_filled.get();
        let mut direct = self.direct.borrow_mut();
        if filled < direct.len() {
            // In uneven pieces, as many as there may be.
            let mut rest = &mut direct[filled..];
            for size in [1, 2, 3, 700, 5, 4096, 1, usize::MAX] {
                let (now, later) = rest.split_at_mut(size.min(rest.len()));
                // SAFETY: the probe lives until the end, and its vector is left alone.
                assert!(unsafe { out.push(IoVec::new(now.as_mut_ptr(), now.len())) });
                rest = later;
            }
        }
        out.then_buffer(&self.buffer);
        out.wait_for(self.waits_for.get());
    }

    fn received(&self, bytes: usize) {
        assert!(bytes > 0 && !self.is_closed());
        let direct = self.direct.borrow().len() - self.direct_filled.get();
        self.direct_filled.set(self.direct_filled.get() + bytes.min(direct));
        (self.on_received)(self);
    }

    fn sent(&self, token: u64) {
        assert!(!self.is_closed());
        self.sent.borrow_mut().push(token);
        (self.on_sent)(self);
    }

    fn send_room(&self) {
        assert!(!self.is_closed());
        self.rooms.set(self.rooms.get() + 1);
        (self.on_sent)(self);
    }

    fn closed(&self, why: CloseReason) {
        self.closed.borrow_mut().push(why);
        (self.on_closed)(self);
    }
}

/// Two connected sockets, made by the reactor's own means.
fn pair(reactor: &Rc<Reactor>, options: SocketOptions) -> (Socket, Socket) {
    let taken = Rc::new(RefCell::new(None));
    let place = Rc::clone(&taken);
    let listen = ListenOptions { socket: options, ..ListenOptions::default() };
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let on_accept = Box::new(move |socket, _| *place.borrow_mut() = Some(socket));
    let listener = Listener::bind(reactor, any, &listen, on_accept).unwrap();
    let to = listener.local_addr();
    let connecting = ConnectOptions { socket: options, ..ConnectOptions::default() };
    let inner = Rc::clone(reactor);
    let near = reactor.block_on(async move { connect(&inner, to, &connecting).await }).unwrap();
    until(reactor, "the connection is accepted", || taken.borrow().is_some());
    let far = taken.take().unwrap();
    assert_eq!(far.peer_addr(), near.local_addr().unwrap());
    assert_eq!(near.peer_addr(), far.local_addr().unwrap());
    listener.close();
    until(reactor, "the listener is gone", || live_sockets(reactor) == 0);
    (near, far)
}

/// Small kernel buffers, so that sends and receives are cut.
fn tiny() -> SocketOptions {
    let bytes = Some(2048);
    SocketOptions { send_buffer_bytes: bytes, receive_buffer_bytes: bytes, ..Default::default() }
}

/// A repeatable sequence.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_ne_bytes()[0]).collect()
    }
}
