//! A block device: its facts, and who uses it.

use std::fmt;
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "open, close, claim and resize are control plane")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use uuid::Uuid;

use super::channel::Channel;
use super::claim::Claims;
use super::core::BdevCore;
use super::deadline::IoTimeout;
use super::device_stats::HistogramState;
use super::events::{DeviceEvent, EventListener};
use super::interceptor::{InterceptorFactory, Notice};
use super::qos::SharedLimits;
use super::sampling::Sampling;
use super::stats::{ChannelCounters, IoStats};
use super::{BdevOps, IoType, IoTypes, ZoneGeometry};
use crate::reactor::ReactorHandle;

/// What one I/O of a driver may be at the most. The block device layer splits larger ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoLimits {
    /// Blocks per I/O that transfers or copies data.
    pub blocks_max: u64,
    /// Blocks per unmap and write zeroes, which transfer nothing.
    pub dataless_blocks_max: u64,
    /// Pieces of memory per I/O.
    pub segments_max: usize,
    /// An I/O does not cross a multiple of this many blocks; 0 for no boundary.
    pub boundary_blocks: u64,
}

impl Default for IoLimits {
    fn default() -> Self {
        Self {
            blocks_max: u64::MAX,
            dataless_blocks_max: u64::MAX,
            segments_max: usize::MAX,
            boundary_blocks: 0,
        }
    }
}

/// The facts of a device that do not change while it exists, but for its size.
#[derive(Clone, Debug)]
pub struct BdevInfo {
    /// Unique name.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
    /// Unique identifier.
    pub uuid: Uuid,
    /// What it is, in words ("Malloc disk").
    pub product_name: String,
    /// The driver ("malloc", "aio").
    pub driver_name: &'static str,
    /// Bytes per block: the unit of every offset and length.
    pub block_len: u32,
    /// Bytes per physical block: what the medium writes as one.
    pub phys_block_len: u32,
    /// Size in blocks.
    pub num_blocks: u64,
    /// Buffers start at a multiple of this many bytes, a power of two.
    pub alignment: usize,
    /// Whether completed writes may be lost in a power cut until they are flushed.
    pub write_cache: bool,
    /// Whether it can only be read.
    pub read_only: bool,
    /// What one I/O of the driver may be.
    pub limits: IoLimits,
}

/// A registered or registrable block device.
pub struct Bdev {
    id: u64,
    info: BdevInfo,
    num_blocks: AtomicU64,
    native: IoTypes,
    zones: Option<ZoneGeometry>,
    ops: Box<dyn BdevOps>,
    removed: AtomicBool,
    state: State,
    /// One quiescing operation (reset, compare-and-write) at a time.
    pub(super) quiesce: futures::lock::Mutex<()>,
}

#[expect(clippy::disallowed_types, reason = "see the import")]
type State = Mutex<BdevState>;

/// Who uses a device.
#[derive(Default)]
pub(super) struct BdevState {
    pub(super) claims: Claims,
    pub(super) listeners: Vec<(u64, EventListener)>,
    channels: Vec<ChannelEntry>,
    interceptors: Vec<(u64, Arc<dyn InterceptorFactory>)>,
    pub(super) retired: IoStats,
    /// All I/O is held back; a channel that is opened now begins so.
    held: bool,
    /// The limits on the rate of I/O; a channel that is opened now begins with them.
    pub(super) qos: Option<Arc<SharedLimits>>,
    pub(super) histograms: Option<HistogramState>,
    pub(super) sampling: Option<Sampling>,
    pub(super) io_timeout: Option<IoTimeout>,
    next_serial: u64,
}

struct ChannelEntry {
    reactor: ReactorHandle,
    counters: Arc<ChannelCounters>,
}

/// Kinds that the block device layer can do on top of reads and writes.
const EMULATED: IoTypes = IoTypes::of(&[
    IoType::WriteZeroes,
    IoType::Compare,
    IoType::CompareAndWrite,
    IoType::Copy,
    IoType::Reset,
]);

impl Bdev {
    /// A device that is not registered yet.
    #[must_use]
    pub fn new(info: BdevInfo, ops: Box<dyn BdevOps>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let read_write = IoTypes::of(&[IoType::Read, IoType::Write]);
        let mut native = ops.io_types();
        if info.read_only {
            let changing: Vec<_> = native.iter().filter(|kind| kind.modifies()).collect();
            native = native.without(IoTypes::of(&changing));
        }
        debug_assert!(info.read_only || read_write.without(native) == IoTypes::default());
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            num_blocks: AtomicU64::new(info.num_blocks),
            native,
            zones: ops.zones(),
            info,
            ops,
            removed: AtomicBool::new(false),
            state: State::default(),
            quiesce: futures::lock::Mutex::new(()),
        })
    }

    /// The facts. For the size ask [`Bdev::num_blocks`].
    #[must_use]
    pub fn info(&self) -> &BdevInfo {
        &self.info
    }

    /// The unique name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// A number that no other device of this process has or had.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The present size in blocks.
    #[must_use]
    pub fn num_blocks(&self) -> u64 {
        self.num_blocks.load(Ordering::Acquire)
    }

    /// The present size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.num_blocks() * u64::from(self.info.block_len)
    }

    /// The driver's part.
    #[must_use]
    pub fn ops(&self) -> &dyn BdevOps {
        &*self.ops
    }

    /// The kinds of I/O that the driver does itself.
    #[must_use]
    pub fn native_io_types(&self) -> IoTypes {
        self.native
    }

    /// The zones of a zoned device; `None` when its blocks can be written in any order.
    #[must_use]
    pub fn zones(&self) -> Option<&ZoneGeometry> {
        self.zones.as_ref()
    }

    /// The kinds of I/O that can be asked for, emulated ones included.
    #[must_use]
    pub fn io_types(&self) -> IoTypes {
        // Whatever else is emulated writes, and where zones are written in order it cannot.
        if self.info.read_only || self.zones.is_some() {
            self.native.with(IoTypes::of(&[IoType::Compare, IoType::Reset]))
        } else {
            self.native.with(EMULATED)
        }
    }

    /// Whether the device was removed: every further I/O fails.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// The figures of all cores, and of channels that were closed.
    #[must_use]
    pub fn stats(&self) -> IoStats {
        let state = self.lock();
        let mut all = state.retired;
        for entry in &state.channels {
            all.merge(&entry.counters.snapshot());
        }
        all
    }

    /// The cores that have a channel open, with its figures.
    #[must_use]
    pub fn channel_stats(&self) -> Vec<(ReactorHandle, IoStats)> {
        let of = |entry: &ChannelEntry| (entry.reactor.clone(), entry.counters.snapshot());
        self.lock().channels.iter().map(of).collect()
    }

    /// Changes the size and tells channels and listeners.
    pub async fn resize(self: &Arc<Self>, num_blocks: u64) {
        let before = self.num_blocks.swap(num_blocks, Ordering::AcqRel);
        if before == num_blocks {
            return;
        }
        self.on_channels(move |channel| channel.set_num_blocks(num_blocks)).await;
        self.notify(&DeviceEvent::Resized { before, now: num_blocks });
    }

    /// Puts interceptors on every channel, present and future; returns their id.
    pub async fn add_interceptor(self: &Arc<Self>, factory: Arc<dyn InterceptorFactory>) -> u64 {
        let id = {
            let mut state = self.lock();
            let id = state.serial();
            state.interceptors.push((id, Arc::clone(&factory)));
            id
        };
        self.on_channels(move |channel| channel.add_interceptor(id, factory.make())).await;
        id
    }

    /// Tells the interceptors of an id on every core what is to become of what they keep.
    pub async fn tell_interceptors(self: &Arc<Self>, id: u64, notice: Notice) {
        self.on_channels(move |channel| channel.tell(Some(id), notice)).await;
    }

    /// Removes the interceptors of an id; they are told to let go what they keep.
    pub async fn remove_interceptor(self: &Arc<Self>, id: u64) {
        self.lock().interceptors.retain(|(own, _)| *own != id);
        self.on_channels(move |channel| channel.remove_interceptor(id)).await;
    }

    /// Marks the device removed, fails further I/O, tells listeners, and returns when nothing is
    /// in flight any more.
    pub(super) async fn remove(self: &Arc<Self>) {
        self.removed.store(true, Ordering::Release);
        self.on_channels(Channel::set_removed).await;
        self.notify(&DeviceEvent::Removed);
        self.drained().await;
    }

    /// Returns when every core has had a moment with no I/O in flight.
    pub async fn drained(self: &Arc<Self>) {
        let cores: Vec<_> = self.lock().channels.iter().map(|e| e.reactor.clone()).collect();
        for reactor in cores {
            let bdev = Arc::clone(self);
            // A reactor that has ended has no I/O in flight.
            let _ = reactor
                .spawn(move |reactor| async move {
                    if let Some(channel) = BdevCore::of(&reactor).find(&bdev) {
                        channel.drained().await;
                    }
                })
                .await;
        }
    }

    /// Runs `f` for the channel of every core that has one, on that core.
    pub(super) async fn on_channels<F>(self: &Arc<Self>, f: F)
    where
        F: Fn(&Channel) + Clone + Send + 'static,
    {
        let cores: Vec<_> = self.lock().channels.iter().map(|e| e.reactor.clone()).collect();
        for reactor in cores {
            let (bdev, f) = (Arc::clone(self), f.clone());
            // A reactor that has ended has no channels.
            let _ = reactor
                .call(move |reactor| {
                    if let Some(channel) = BdevCore::of(reactor).find(&bdev) {
                        f(&channel);
                    }
                })
                .await;
        }
    }

    /// Holds back the I/O of channels that are opened from now on, or no more.
    pub(super) fn set_held(&self, held: bool) {
        self.lock().held = held;
    }

    /// Holds back the I/O of whoever opens the device from now on. For a device that nobody has
    /// open, until [`Bdev::let_go`].
    pub(crate) fn hold_newcomers(&self) {
        self.set_held(true);
    }

    /// Lets the I/O go that was held back.
    pub(crate) async fn let_go(self: &Arc<Self>) {
        self.set_held(false);
        self.on_channels(Channel::release).await;
    }

    /// Whether a channel that is opened now begins with its I/O held back.
    pub(super) fn is_held(&self) -> bool {
        self.lock().held
    }

    /// The cores that have a channel open.
    pub(super) fn cores(&self) -> Vec<ReactorHandle> {
        self.lock().channels.iter().map(|entry| entry.reactor.clone()).collect()
    }

    /// Has a listener told of events for as long as the device exists.
    pub(super) fn listen(&self, listener: EventListener) {
        let mut state = self.lock();
        let id = state.serial();
        state.listeners.push((id, listener));
    }

    /// Tells every listener.
    pub fn notify(&self, event: &DeviceEvent) {
        let listeners: Vec<_> =
            self.lock().listeners.iter().map(|(_, listener)| Arc::clone(listener)).collect();
        for listener in listeners {
            listener(self, event);
        }
    }

    pub(super) fn channel_opened(
        &self,
        reactor: ReactorHandle,
        counters: Arc<ChannelCounters>,
    ) -> Vec<(u64, Arc<dyn InterceptorFactory>)> {
        let mut state = self.lock();
        state.channels.push(ChannelEntry { reactor, counters });
        state.interceptors.clone()
    }

    pub(super) fn channel_closed(&self, counters: &Arc<ChannelCounters>) {
        let mut state = self.lock();
        state.retired.merge(&counters.snapshot());
        if let Some(histograms) = &mut state.histograms {
            histograms.retire(counters);
        }
        state.channels.retain(|entry| !Arc::ptr_eq(&entry.counters, counters));
    }

    /// The state, unless another thread has it.
    pub(super) fn try_lock(&self) -> Option<std::sync::MutexGuard<'_, BdevState>> {
        self.state.try_lock().ok()
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, BdevState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl BdevState {
    /// The counters of the open channels.
    pub(super) fn counters(&self) -> impl Iterator<Item = &Arc<ChannelCounters>> {
        self.channels.iter().map(|entry| &entry.counters)
    }

    pub(super) fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }
}

impl fmt::Debug for Bdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = &self.info;
        let blocks = self.num_blocks();
        write!(f, "Bdev({} {}, {blocks} × {} bytes)", info.driver_name, info.name, info.block_len)
    }
}
