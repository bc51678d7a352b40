//! A device on one core: the driver's channel, and what stands before it.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::buf::IoBuf;
use super::core::BdevCore;
use super::deadline::Deadline;
use super::errors::ErrorReport;
use super::interceptor::{Interceptor, Notice};
use super::io::{BdevIo, IoFlags, IoList};
use super::qos::Throttle;
use super::slot::SlotList;
use super::stats::ChannelCounters;
use super::zone::check_split;
use super::{Bdev, BdevChannel, IoType, IoTypes, emulate, split};
use crate::NvmeStatus;
use crate::reactor::{PollerHandle, Reactor, yield_now};

bitflags::bitflags! {
    /// Why an I/O cannot go straight to the driver.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Gate: u8 {
        /// The device was removed.
        const REMOVED = 1;
        /// Interceptors are there.
        const INTERCEPTED = 2;
        /// New I/O is held back, for a reset or an atomic change.
        const HELD = 4;
        /// The driver wants no I/O across a boundary.
        const BOUNDARY = 8;
        /// The channel is not on its core's list of those with I/O outstanding.
        const INACTIVE = 16;
        /// The rate of I/O is limited.
        const LIMITED = 32;
    }
}

/// An interceptor and its id; none after it was removed, so that indices stay.
type Hook = (u64, Option<Rc<dyn Interceptor>>);

/// A device's channel on one core. Shared by all handles of that core.
pub struct Channel {
    pub(super) num_blocks: Cell<u64>,
    pub(super) blocks_max: u64,
    pub(super) block_len: u32,
    pub(super) native: IoTypes,
    pub(super) gate: Cell<Gate>,
    pub(super) align_mask: usize,
    pub(super) segments_max: usize,
    pub(super) outstanding: Cell<usize>,
    pub(super) polled: bool,
    /// Whether the driver lends its memory to reads that it takes whole.
    pub(super) lends: bool,
    pub(super) counters: Arc<ChannelCounters>,
    driver: RefCell<Box<dyn BdevChannel>>,
    core: Rc<BdevCore>,
    bdev: Arc<Bdev>,
    own: Weak<Channel>,
    hooks: RefCell<Vec<Hook>>,
    held: RefCell<IoList>,
    pub(super) throttle: RefCell<Option<Rc<Throttle>>>,
    pub(super) sampler: RefCell<Option<PollerHandle>>,
    pub(super) deadline: Deadline,
    pub(super) errors: ErrorReport,
    /// I/Os of this channel that quiesce the device, or wait for their turn to.
    pub(super) waiting: Cell<usize>,
    /// I/Os that interceptors have.
    kept: Cell<usize>,
}

impl Channel {
    pub(super) fn open(core: &Rc<BdevCore>, bdev: &Arc<Bdev>) -> std::io::Result<Rc<Self>> {
        let driver = bdev.ops().create_channel(core.reactor())?;
        let info = bdev.info();
        let counters = Arc::new(ChannelCounters::new(info.block_len));
        let channel = Rc::new_cyclic(|own| Self {
            num_blocks: Cell::new(bdev.num_blocks()),
            blocks_max: info.limits.blocks_max,
            block_len: info.block_len,
            native: bdev.native_io_types(),
            gate: Cell::new(if info.limits.boundary_blocks == 0 {
                Gate::INACTIVE
            } else {
                Gate::INACTIVE | Gate::BOUNDARY
            }),
            align_mask: info.alignment.max(1) - 1,
            segments_max: info.limits.segments_max,
            outstanding: Cell::new(0),
            polled: driver.is_polled(),
            lends: bdev.ops().lends() && info.limits.boundary_blocks == 0,
            counters: Arc::clone(&counters),
            driver: RefCell::new(driver),
            core: Rc::clone(core),
            bdev: Arc::clone(bdev),
            own: Weak::clone(own),
            hooks: RefCell::default(),
            held: RefCell::default(),
            throttle: RefCell::default(),
            sampler: RefCell::default(),
            deadline: Deadline::default(),
            errors: ErrorReport::default(),
            waiting: Cell::new(0),
            kept: Cell::new(0),
        });
        let factories = bdev.channel_opened(core.reactor().handle(), counters);
        for (id, factory) in factories {
            channel.add_interceptor(id, factory.make());
        }
        // The channel is registered. What came before that is seen here, what comes after is on
        // its way as a message: a resize, a removal, a lock of all I/O.
        channel.num_blocks.set(bdev.num_blocks());
        channel.set_limits(bdev.shared_limits());
        channel.set_sampling(bdev.sampling_period());
        channel.set_io_timeout(bdev.io_timeout());
        channel.counters.watch(bdev.watched_kinds());
        if bdev.is_held() {
            channel.hold();
        }
        if bdev.is_removed() {
            channel.set_removed();
        }
        Ok(channel)
    }

    /// The device.
    #[must_use]
    pub fn bdev(&self) -> &Arc<Bdev> {
        &self.bdev
    }

    pub(super) fn core(&self) -> &Rc<BdevCore> {
        &self.core
    }

    pub(super) fn reactor(&self) -> &Rc<Reactor> {
        self.core.reactor()
    }

    #[inline(always)]
    pub(super) fn completed(&self) -> &SlotList {
        self.core.completed()
    }

    /// The shared pointer to this channel: the core's list or a handle holds one while I/O is
    /// outstanding.
    pub(super) fn shared(&self) -> Option<Rc<Channel>> {
        self.own.upgrade()
    }

    /// Whether the driver takes an I/O of this kind and length as it is.
    #[inline(always)]
    pub(super) fn takes(&self, kind: IoType, num_blocks: u64) -> bool {
        self.native.contains(kind) && num_blocks <= self.blocks_max
    }

    /// Hands an I/O to the driver.
    #[inline(always)]
    pub(super) fn submit_native(&self, io: BdevIo) {
        self.driver.borrow_mut().submit(io);
    }

    pub(super) fn submit_native_batch(&self, batch: &mut IoList) {
        self.driver.borrow_mut().submit_batch(batch);
    }

    #[inline(always)]
    pub(super) fn poll_driver(&self) -> usize {
        self.driver.borrow_mut().poll()
    }

    pub(super) fn driver(&self) -> &RefCell<Box<dyn BdevChannel>> {
        &self.driver
    }

    /// The way of an I/O that cannot go straight to the driver.
    #[cold]
    pub(super) fn submit_slow(&self, io: BdevIo) {
        if self.gate.get().contains(Gate::INACTIVE) {
            self.core.activate(self);
        }
        let gate = self.gate.get();
        if gate.contains(Gate::REMOVED) {
            io.complete(NvmeStatus::INVALID_NAMESPACE);
        } else if gate.contains(Gate::HELD) && !io.flags().contains(IoFlags::INTERNAL) {
            self.held.borrow_mut().push(io);
        } else if gate.contains(Gate::LIMITED) && !io.flags().contains(IoFlags::INTERNAL) {
            self.limit(io);
        } else if gate.contains(Gate::INTERCEPTED) && !io.flags().contains(IoFlags::INTERNAL) {
            self.intercept(io);
        } else {
            self.route(io);
        }
    }

    /// To the driver as it is, in parts, or by other means.
    pub(super) fn route(&self, io: BdevIo) {
        if !self.native.contains(io.kind()) {
            emulate::start(self, io);
        } else if split::is_needed(self, &io) {
            if let Err(status) = check_split(self, &io) {
                return io.complete(status);
            }
            // The parts of a copy onto itself would have to come in order.
            if io.kind() == IoType::Copy && overlaps(&io) {
                emulate::start(self, io);
            } else {
                split::start(self, io);
            }
        } else {
            self.submit_native(io);
        }
    }

    /// Lets the interceptors that have not seen a submission see it, then goes on.
    pub(super) fn intercept(&self, io: BdevIo) {
        let Some(mut io) = self.with_buffer(io) else { return };
        let fresh = io.kind() == IoType::Reset && io.get_mut().seen == 0;
        if fresh && self.native.contains(IoType::Reset) {
            // The driver resets in its own way; one that is emulated tells them itself.
            self.abandon_everywhere();
        }
        loop {
            let index = usize::from(io.get_mut().seen);
            let hook = match self.hooks.borrow().get(index) {
                Some((_, hook)) => hook.clone(),
                None => break,
            };
            io.get_mut().seen += 1;
            if let Some(hook) = hook {
                self.keep(&mut io, IoFlags::KEPT);
                match hook.submission(io) {
                    Some(passed) => io = passed,
                    None => return,
                }
                self.unkeep(&mut io);
            }
        }
        self.route(io);
    }

    fn keep(&self, io: &mut BdevIo, flags: IoFlags) {
        io.get_mut().flags |= flags;
        self.kept.set(self.kept.get() + 1);
    }

    fn unkeep(&self, io: &mut BdevIo) {
        let flags = &mut io.get_mut().flags;
        if flags.contains(IoFlags::KEPT) {
            *flags -= IoFlags::KEPT | IoFlags::ENDED;
            self.kept.set(self.kept.get() - 1);
        }
    }

    /// Tells the interceptors, or those of an id, what is to become of what they keep.
    pub(super) fn tell(&self, id: Option<u64>, notice: Notice) {
        let told = |own: u64| id.is_none_or(|id| id == own);
        let hooks: Vec<_> = self.hooks.borrow().iter().cloned().collect();
        for (_, hook) in hooks.into_iter().filter(|(own, _)| told(*own)) {
            if let Some(hook) = hook {
                hook.told(notice);
            }
        }
    }

    /// Has the interceptors of every core end what they keep: those of this core at once, so that
    /// the I/O that asks for it is not among that.
    fn abandon_everywhere(&self) {
        self.tell(None, Notice::Abandon);
        let (bdev, own) = (Arc::clone(&self.bdev), self.reactor().core());
        self.reactor().spawn("reset of interceptors", async move {
            let abandon = move |channel: &Channel| {
                if channel.reactor().core() != own {
                    channel.tell(None, Notice::Abandon);
                }
            };
            bdev.on_channels(abandon).await;
        });
    }

    /// Gives a read that wanted the device's memory a buffer of its own, since an interceptor may
    /// look at it or change it. Without memory the read ends here.
    fn with_buffer(&self, mut io: BdevIo) -> Option<BdevIo> {
        if !io.wants_lent() {
            return Some(io);
        }
        let bytes = io.num_blocks().saturating_mul(u64::from(self.block_len));
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let Ok(buf) = self.reactor().memory().alloc_aligned(bytes, self.align_mask + 1) else {
            io.complete(NvmeStatus::NOT_READY);
            return None;
        };
        let slot = io.get_mut();
        slot.flags -= IoFlags::LEND;
        (slot.iovs, slot.iov_count) = (buf.io_vecs().as_ptr(), 1);
        // The read has brought no buffer, so nothing is lost here.
        slot.buf = ManuallyDrop::new(IoBuf::One(buf));
        Some(io)
    }

    /// Lets the interceptors that saw the submission see the completion. None: one keeps it.
    #[cold]
    pub(super) fn intercept_completion(
        &self,
        io: BdevIo,
        status: NvmeStatus,
    ) -> Option<(BdevIo, NvmeStatus)> {
        let (mut io, mut status) = (io, status);
        if io.flags().contains(IoFlags::ENDED) {
            io.get_mut().seen -= 1;
        }
        self.unkeep(&mut io);
        let above = if io.flags().contains(IoFlags::BELOW) { io.get_mut().above } else { 0 };
        while io.get_mut().seen > above {
            let index = usize::from(io.get_mut().seen) - 1;
            let hook = self.hooks.borrow().get(index).and_then(|(_, hook)| hook.clone());
            if let Some(hook) = hook {
                self.keep(&mut io, IoFlags::KEPT | IoFlags::ENDED);
                (io, status) = hook.completion(io, status)?;
                self.unkeep(&mut io);
            }
            io.get_mut().seen -= 1;
        }
        Some((io, status))
    }

    pub(super) fn add_interceptor(&self, id: u64, hook: Box<dyn Interceptor>) {
        let mut hooks = self.hooks.borrow_mut();
        if self.outstanding.get() == 0 {
            hooks.retain(|(_, hook)| hook.is_some());
        }
        if hooks.len() >= usize::from(u8::MAX) {
            tracing::error!(device = self.bdev.name(), "a channel takes at most 255 interceptors");
            return;
        }
        hooks.push((id, Some(Rc::from(hook))));
        self.gate.set(self.gate.get() | Gate::INTERCEPTED);
    }

    /// Removes the interceptors of an id; what they keep goes on.
    pub(super) fn remove_interceptor(&self, id: u64) {
        self.tell(Some(id), Notice::Release);
        let mut hooks = self.hooks.borrow_mut();
        let of_id = hooks.iter_mut().filter(|(own, _)| *own == id);
        let removed: Vec<_> = of_id.map(|(_, hook)| hook.take()).collect();
        if hooks.iter().all(|(_, hook)| hook.is_none()) {
            self.gate.set(self.gate.get() - Gate::INTERCEPTED);
        }
        // What ends with an interceptor may come back to this list.
        drop(hooks);
        drop(removed);
    }

    pub(super) fn set_num_blocks(&self, num_blocks: u64) {
        self.num_blocks.set(num_blocks);
        self.driver.borrow_mut().resized(num_blocks);
    }

    pub(super) fn set_removed(&self) {
        self.gate.set(self.gate.get() | Gate::REMOVED);
        self.tell(None, Notice::Removed);
        self.resubmit_limited();
        self.release_held();
    }

    /// Holds new I/O back.
    pub(super) fn hold(&self) {
        self.gate.set(self.gate.get() | Gate::HELD);
    }

    /// Lets the I/O that was held back go, in order.
    pub(super) fn release(&self) {
        self.gate.set(self.gate.get() - Gate::HELD);
        self.wake_limited();
        self.release_held();
    }

    fn release_held(&self) {
        let mut waiting = self.held.take();
        while let Some(io) = waiting.pop() {
            self.submit_slow(io);
        }
    }

    /// Ends when nothing is in flight but what is held back, waits for a limit, or waits to quiesce
    /// the device.
    pub(super) async fn drained(&self) {
        let resting = || self.held.borrow().len() + self.limited() + self.waiting.get();
        while self.outstanding.get() > resting() {
            yield_now().await;
        }
    }

    /// As [`Channel::drained`], but for what interceptors have: the device has nothing of it, and
    /// on its way there it is held back with the rest.
    pub(super) async fn quiet(&self) {
        let waiting = || self.held.borrow().len() + self.limited() + self.waiting.get();
        let idle = || waiting() + self.kept.get();
        while self.outstanding.get() > idle() {
            yield_now().await;
        }
    }
}

impl BdevIo {
    /// Sends an I/O on its way that an interceptor kept at its submission.
    pub fn resume(mut self) {
        let channel = self.get_mut().channel();
        channel.unkeep(&mut self);
        channel.submit_slow(self);
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.bdev.channel_closed(&self.counters);
    }
}

/// Whether a copy writes blocks that it reads.
fn overlaps(io: &BdevIo) -> bool {
    io.source_blocks().abs_diff(io.offset_blocks()) < io.num_blocks()
}

/// Kinds whose blocks are checked against the size of the device.
#[inline(always)]
pub(super) const fn has_range(kind: IoType) -> bool {
    !matches!(kind, IoType::Reset | IoType::Abort | IoType::NvmeAdmin | IoType::NvmeIo)
}
