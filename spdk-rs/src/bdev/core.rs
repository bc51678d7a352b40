//! The block device layer of one core: its I/O slots, its open channels, its completions.
#![allow(unsafe_code, reason = "takes tokens back from slots when they complete")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::buf::IoBuf;
use super::channel::{Channel, Gate};
use super::consumer::IoCompletion;
use super::interceptor::Notice;
use super::io::{BdevIo, IoFlags};
use super::slot::{Done, IoSlot, Slab, SlotList, State};
use super::{Bdev, IoType, split};
use crate::NvmeStatus;
use crate::env::IoVec;
use crate::reactor::{LiveList, Reactor, Rest, Source};

/// I/O slots of a core at the most (SPDK's default size of its pool).
const SLOTS_MAX: usize = 65_536;

/// What a core keeps of the block device layer.
pub struct BdevCore {
    reactor: Rc<Reactor>,
    slab: Slab,
    completed: SlotList,
    /// Channels with I/O outstanding.
    active: LiveList<Rc<Channel>>,
    channels: RefCell<HashMap<u64, Weak<Channel>>>,
}

impl BdevCore {
    /// The part of a reactor, made at first use.
    #[must_use]
    pub fn of(reactor: &Rc<Reactor>) -> Rc<Self> {
        reactor.extension(|| {
            let core = Rc::new(Self {
                reactor: Rc::clone(reactor),
                slab: Slab::new(SLOTS_MAX),
                completed: SlotList::new(),
                active: LiveList::default(),
                channels: RefCell::default(),
            });
            let source: Rc<dyn Source> = Rc::<Self>::clone(&core);
            reactor.add_source(source);
            core
        })
    }

    /// The reactor.
    #[must_use]
    pub fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// I/O slots that are in use.
    #[must_use]
    pub fn slots_in_use(&self) -> usize {
        self.slab.in_use()
    }

    pub(super) fn slab(&self) -> &Slab {
        &self.slab
    }

    #[inline(always)]
    pub(super) fn completed(&self) -> &SlotList {
        &self.completed
    }

    /// The core's channel to a device, opened at first use.
    pub(super) fn channel(self: &Rc<Self>, bdev: &Arc<Bdev>) -> std::io::Result<Rc<Channel>> {
        if let Some(open) = self.find(bdev) {
            return Ok(open);
        }
        let channel = Channel::open(self, bdev)?;
        let mut channels = self.channels.borrow_mut();
        channels.retain(|_, open| open.strong_count() > 0);
        channels.insert(bdev.id(), Rc::downgrade(&channel));
        Ok(channel)
    }

    /// The core's channel to a device, if it is open.
    pub(super) fn find(&self, bdev: &Bdev) -> Option<Rc<Channel>> {
        self.channels.borrow().get(&bdev.id())?.upgrade()
    }

    /// The devices with an open channel here, by name, each with how often it is used.
    #[must_use]
    pub fn open_channels(&self) -> Vec<(String, usize)> {
        let open = self.channels.borrow();
        let mut all: Vec<(String, usize)> = open
            .values()
            .filter_map(Weak::upgrade)
            // One of the uses is the question itself.
            .map(|channel| (channel.bdev().name().to_owned(), Rc::strong_count(&channel) - 1))
            .collect();
        all.sort_unstable();
        all
    }

    /// Has a channel polled from now on, while it has I/O outstanding.
    #[cold]
    pub(super) fn activate(&self, channel: &Channel) {
        channel.gate.set(channel.gate.get() - Gate::INACTIVE);
        if let Some(shared) = channel.shared() {
            self.active.push(shared);
        }
    }

    /// Forgets channels without I/O outstanding.
    #[cold]
    fn deactivate(&self) {
        self.active.retain(|channel| {
            let active = channel.outstanding.get() != 0;
            if !active {
                channel.gate.set(channel.gate.get() | Gate::INACTIVE);
            }
            active
        });
    }

    /// Ends an I/O whose completion was collected.
    #[inline(always)]
    fn finish(&self, slot: NonNull<IoSlot>, now: u64) {
        // SAFETY: a completed slot is live, and its token was consumed: this is the one access.
        let fields = unsafe { &mut *slot.as_ptr() };
        if fields.seen != 0 && !Self::intercepted(slot) {
            return;
        }
        // SAFETY: the core's list of active channels holds the channel while I/O is outstanding.
        let channel = unsafe { &*fields.channel };
        channel.outstanding.set(channel.outstanding.get() - 1);
        let latency_ticks = now.wrapping_sub(fields.submit_ticks);
        let Done::Consumer(consumer) = &*fields.done else {
            return self.finish_other(slot, latency_ticks);
        };
        if !fields.status.is_success() {
            return self.finish_failed(slot, latency_ticks);
        }
        // Before anything is taken out of the slot: nothing then has to be kept across a latency
        // that is looked at closer.
        channel.counters.succeeded(fields.kind, fields.num_blocks, latency_ticks);
        // SAFETY: the slot gives its consumer up: it is freed below without dropping it.
        let consumer = unsafe { std::ptr::read(consumer) };
        let (status, buf, tag) = (fields.status, fields.take_buf(), fields.tag);
        // SAFETY: all that is needed was taken out; nobody else knows the slot.
        unsafe { self.slab.put(slot) };
        consumer.io_done(tag, status, buf, latency_ticks);
    }

    /// Ends an I/O that failed and has a callback. Apart from the others, for which nothing is
    /// kept then across the counting of a failure.
    #[cold]
    #[inline(never)]
    fn finish_failed(&self, slot: NonNull<IoSlot>, latency_ticks: u64) {
        // SAFETY: as in `finish`, whose only access is handed over.
        let fields = unsafe { &mut *slot.as_ptr() };
        // SAFETY: as in `finish`.
        Self::count(unsafe { &*fields.channel }, fields, latency_ticks);
        let (status, done) = (fields.status, fields.take_done());
        let (buf, tag) = (fields.take_buf(), fields.tag);
        // SAFETY: all that is needed was taken out; nobody else knows the slot.
        unsafe { self.slab.put(slot) };
        if let Done::Consumer(consumer) = done {
            consumer.io_done(tag, status, buf, latency_ticks);
        }
    }

    /// Ends an I/O that has no callback. Apart from the others, which are the most.
    #[inline(never)]
    fn finish_other(&self, slot: NonNull<IoSlot>, latency_ticks: u64) {
        // SAFETY: as in `finish`, whose only access is handed over.
        let fields = unsafe { &mut *slot.as_ptr() };
        // SAFETY: as in `finish`.
        let channel = unsafe { &*fields.channel };
        let status = fields.status;
        match fields.take_done() {
            Done::Future => {
                // What is done for another I/O of this device is a part of that one.
                if !fields.flags.intersects(IoFlags::INTERNAL | IoFlags::BELOW) {
                    Self::count(channel, fields, latency_ticks);
                }
                fields.state = State::Ready;
                fields.submit_ticks = latency_ticks;
                if let Some(waker) = fields.waker.take() {
                    waker.wake();
                }
            }
            Done::Parent(parent) => {
                // SAFETY: a part has no buffers of its own, and nobody else knows its slot.
                unsafe { self.slab.put(slot) };
                split::part_done(channel, parent, status);
            }
            Done::Upper(upper) => {
                Self::count(channel, fields, latency_ticks);
                let result = has_result(fields.kind).then_some(fields.argument);
                // SAFETY: it has no buffers of its own, and nobody else knows its slot.
                unsafe { self.slab.put(slot) };
                // SAFETY: the token of the I/O above was given up for this one.
                let mut io = unsafe { BdevIo::from_slot(upper) };
                if let Some(result) = result {
                    io.set_result(result);
                }
                io.complete(status);
            }
            Done::Consumer(_) | Done::Nobody => {
                Self::count(channel, fields, latency_ticks);
                drop(fields.take_buf());
                // SAFETY: the buffers were taken out; nobody else knows the slot.
                unsafe { self.slab.put(slot) };
            }
        }
    }

    fn count(channel: &Channel, slot: &IoSlot, latency_ticks: u64) {
        if slot.status.is_success() {
            channel.counters.succeeded(slot.kind, slot.num_blocks, latency_ticks);
        } else {
            channel.counters.failed(slot.kind, latency_ticks);
            channel.io_failed(slot);
        }
    }

    /// Shows a completion to the interceptors; false when one of them keeps the I/O.
    #[cold]
    fn intercepted(slot: NonNull<IoSlot>) -> bool {
        // SAFETY: the completed slot's token was consumed; it is made anew for the interceptors.
        let mut io = unsafe { BdevIo::from_slot(slot) };
        let (channel, status) = (io.get_mut().channel(), io.get_mut().status);
        let Some((mut io, status)) = channel.intercept_completion(io, status) else { return false };
        io.get_mut().status = status;
        let _ = io.into_slot();
        true
    }

    /// The result of an I/O whose future is asking, if it is there. Frees the slot.
    ///
    /// # Safety
    /// `slot` belongs to a future that was not answered yet and that gives it up on `Some`.
    pub(super) unsafe fn take_result(&self, slot: NonNull<IoSlot>) -> Option<IoCompletion> {
        // SAFETY: a future's slot stays live until it was answered; no token exists when Ready.
        let fields = unsafe { &mut *slot.as_ptr() };
        if fields.state != State::Ready {
            return None;
        }
        let done = IoCompletion {
            status: fields.status,
            buf: fields.take_buf(),
            latency_ticks: fields.submit_ticks,
            result: if has_result(fields.kind) { fields.argument } else { 0 },
        };
        // SAFETY: the future gives the slot up.
        unsafe { self.slab.put(slot) };
        Some(done)
    }

    /// Takes a slot and makes it an I/O of `channel`.
    pub(super) fn start(&self, channel: &Channel, request: Request) -> Result<BdevIo, IoBuf> {
        match self.slab.take() {
            Some(slot) => Ok(Self::fill(self.reactor.now(), channel, slot, request)),
            None => Err(request.buf),
        }
    }

    /// Makes a slot that was taken an I/O of `channel`, submitted `now`.
    #[inline(always)]
    pub(super) fn fill(
        now: u64,
        channel: &Channel,
        slot: NonNull<IoSlot>,
        request: Request,
    ) -> BdevIo {
        // SAFETY: the slab gave the slot to us alone.
        let fields = unsafe { &mut *slot.as_ptr() };
        fields.kind = request.kind;
        fields.flags = request.flags;
        fields.state = State::Held;
        fields.seen = 0;
        fields.offset_blocks = request.offset_blocks;
        fields.num_blocks = request.num_blocks;
        fields.submit_ticks = now;
        fields.channel = std::ptr::from_ref(channel);
        fields.done = ManuallyDrop::new(request.done);
        fields.tag = request.tag;
        if !request.kind.has_data() {
            fields.argument = request.argument;
        }
        fields.iovs = request.iovs.as_ptr().cast();
        fields.iov_count = request.iovs.len();
        fields.buf = ManuallyDrop::new(request.buf);
        channel.outstanding.set(channel.outstanding.get() + 1);
        // SAFETY: the slot is live and this is its one token.
        unsafe { BdevIo::from_slot(slot) }
    }

    /// Passes an I/O of a kind to the driver, straight when nothing stands before it.
    #[inline(always)]
    pub(super) fn submit(channel: &Channel, io: BdevIo, kind: IoType, num_blocks: u64) {
        if channel.takes(kind, num_blocks) && channel.gate.get().is_empty() {
            channel.submit_native(io);
        } else {
            channel.submit_slow(io);
        }
    }
}

/// An I/O before it has a slot.
pub(super) struct Request {
    pub(super) kind: IoType,
    pub(super) flags: IoFlags,
    pub(super) offset_blocks: u64,
    pub(super) num_blocks: u64,
    pub(super) argument: u64,
    /// The table of `buf`, which the buffers keep at its place while they are moved.
    pub(super) iovs: NonNull<[IoVec]>,
    pub(super) buf: IoBuf,
    pub(super) done: Done,
    pub(super) tag: u64,
}

/// Whether a kind of I/O ends with a second result.
const fn has_result(kind: IoType) -> bool {
    matches!(kind, IoType::NvmeAdmin | IoType::NvmeIo | IoType::ZoneAppend | IoType::ZoneReport)
}

impl IoSlot {
    /// The channel of a slot in use.
    pub(super) fn channel(&self) -> Rc<Channel> {
        // SAFETY: the core's list of active channels holds the channel while I/O is outstanding.
        let channel = unsafe { &*self.channel };
        match channel.shared() {
            Some(shared) => shared,
            None => unreachable!("a channel with I/O outstanding is held by its core"),
        }
    }
}

impl Source for BdevCore {
    fn poll(&self) -> usize {
        let (mut work, mut resting) = (0, false);
        self.active.each(|channel| {
            if channel.outstanding.get() == 0 {
                resting = true;
            } else if channel.polled {
                work += channel.poll_driver();
            }
        });
        if resting {
            self.deactivate();
        }
        work
    }

    fn dispatch(&self) -> usize {
        if self.completed.is_empty() {
            return 0;
        }
        let ready = self.completed.take();
        let now = self.reactor.now();
        while let Some(slot) = ready.pop() {
            self.finish(slot, now);
        }
        1
    }

    fn outstanding(&self) -> usize {
        let mut all = 0;
        self.active.each(|channel| all += channel.outstanding.get());
        all
    }

    fn end(&self) {
        // What interceptors keep would never end by itself.
        self.active.each(|channel| channel.tell(None, Notice::Abandon));
        // Nobody will wait for the time of what waits for a limit.
        self.active.each(|channel| channel.set_limits(None));
    }

    fn rest(&self) -> Rest {
        if !self.completed.is_empty() {
            return Rest::Poll;
        }
        let mut resting = false;
        let must_poll = self.active.any(|channel| {
            let idle = channel.outstanding.get() == 0;
            resting |= idle;
            !idle && channel.driver().borrow().rest() == Rest::Poll
        });
        if resting {
            // A sleep may be long: a device that was closed is not kept open by it.
            self.deactivate();
        }
        if must_poll { Rest::Poll } else { Rest::Sleep }
    }
}

/// The status of an I/O for which there is no slot.
pub(super) const NO_SLOT: NvmeStatus = NvmeStatus::NOT_READY;
