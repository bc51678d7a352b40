//! A time limit for I/O, and what is done about I/O that exceeds it.
//!
//! Nothing is kept per I/O: a poller looks through the core's slots a few times per limit.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::buf::IoBuf;
use super::channel::{Channel, Gate};
use super::core::Request;
use super::events::DeviceEvent;
use super::io::IoFlags;
use super::slot::{Done, IoSlot, State};
use super::{Bdev, IoType};
use crate::reactor::{PollerHandle, Progress};

/// Looks per time limit.
const LOOKS: u32 = 4;
/// Time between two looks at the least and at the most.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// What is done about I/O that takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoTimeoutAction {
    /// It is told of.
    Ignore,
    /// The device is reset: its driver abandons what is in flight, where it can.
    Reset,
    /// The device is removed, and its driver abandons what is in flight, where it can. Whoever
    /// listens to the event removes it, since a device does not know its registry.
    Remove,
}

impl IoTimeoutAction {
    /// The name in events and RPC.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Reset => "reset",
            Self::Remove => "remove",
        }
    }
}

/// A time limit for I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoTimeout {
    /// The time from the moment at which the I/O was given to the driver. The time that it waited
    /// for a limit of its rate does not count. It is noticed up to a quarter later.
    pub after: Duration,
    /// What is done then.
    pub action: IoTimeoutAction,
}

/// The watch of a channel.
#[derive(Default)]
pub(super) struct Deadline {
    poller: RefCell<Option<PollerHandle>>,
    /// The start of the youngest I/O that was told of.
    told: Cell<u64>,
}

/// I/O that takes too long.
struct Overdue {
    kind: IoType,
    offset_blocks: u64,
    num_blocks: u64,
    since: u64,
}

impl Bdev {
    /// Sets the time limit for I/O, or lifts it.
    pub async fn set_io_timeout(self: &Arc<Self>, timeout: Option<IoTimeout>) {
        self.lock().io_timeout = timeout;
        // Asked for there, so that of two changes the later one stays on every core.
        self.on_channels(|channel| channel.set_io_timeout(channel.bdev().io_timeout())).await;
    }

    /// The time limit for I/O.
    #[must_use]
    pub fn io_timeout(&self) -> Option<IoTimeout> {
        self.lock().io_timeout
    }
}

impl Channel {
    pub(super) fn set_io_timeout(&self, timeout: Option<IoTimeout>) {
        let poller = timeout.zip(self.shared()).map(|(timeout, shared)| {
            let channel = Rc::downgrade(&shared);
            let look = (timeout.after / LOOKS).clamp(LOOK_MIN, LOOK_MAX);
            self.reactor().register_poller("I/O time limit", Some(look), move || {
                if let Some(channel) = channel.upgrade() {
                    channel.look_for_overdue(timeout);
                }
                Progress::Idle
            })
        });
        drop(self.deadline.poller.replace(poller));
    }

    fn look_for_overdue(&self, timeout: IoTimeout) {
        // While I/O is held back a reset is under way, or a change that waits for the rest.
        if self.outstanding.get() == 0 || self.gate.get().contains(Gate::HELD) {
            return;
        }
        let clock = self.reactor().clock();
        let now = clock.ticks();
        let Some(by) = now.checked_sub(clock.ticks_in(timeout.after)) else { return };
        let (mut oldest, mut count, mut youngest) = (None::<Overdue>, 0, self.deadline.told.get());
        self.core().slab().each_in_use(|slot| {
            let Some(since) = self.in_flight_since(slot) else { return };
            if since > by || since <= self.deadline.told.get() {
                return;
            }
            (count, youngest) = (count + 1, youngest.max(since));
            if oldest.as_ref().is_none_or(|oldest| since < oldest.since) {
                let (kind, offset_blocks) = (slot.kind, slot.offset_blocks);
                let num_blocks = slot.num_blocks;
                oldest = Some(Overdue { kind, offset_blocks, num_blocks, since });
            }
        });
        let Some(oldest) = oldest else { return };
        self.deadline.told.set(youngest);
        let waited = clock.duration_of(now.saturating_sub(oldest.since));
        let Overdue { kind, offset_blocks, num_blocks, .. } = oldest;
        let device = self.bdev().name();
        let action = timeout.action;
        let act = action.name();
        tracing::warn!(device, %kind, offset_blocks, count, ?waited, act, "I/O takes too long");
        self.act(action);
        let event =
            DeviceEvent::IoTimeout { kind, offset_blocks, num_blocks, waited, count, action };
        self.bdev().notify(&event);
    }

    /// Since when the I/O of a slot is the driver's; none when the slot is not such an I/O of this
    /// channel.
    fn in_flight_since(&self, slot: &IoSlot) -> Option<u64> {
        let own = std::ptr::eq(slot.channel, self) && slot.state != State::Ready;
        if !own || slot.flags.contains(IoFlags::INTERNAL) || slot.kind == IoType::Reset {
            return None;
        }
        let waits = |throttle: &Rc<super::qos::Throttle>| throttle.holds(slot);
        if self.throttle.borrow().as_ref().is_some_and(waits) {
            return None;
        }
        let waited = slot.flags.contains(IoFlags::WAITED);
        Some(if waited { slot.passed_ticks } else { slot.submit_ticks })
    }

    fn act(&self, action: IoTimeoutAction) {
        match action {
            IoTimeoutAction::Ignore => {}
            IoTimeoutAction::Reset => self.start_reset(),
            IoTimeoutAction::Remove => {
                let bdev = Arc::clone(self.bdev());
                self.reactor().spawn("device removal", async move {
                    let abandon = |channel: &Channel| {
                        let status = channel.driver().borrow_mut().reset();
                        tracing::info!(device = channel.bdev().name(), %status, "I/O abandoned");
                    };
                    bdev.on_channels(abandon).await;
                });
            }
        }
    }

    /// Resets the device, for nobody in particular.
    fn start_reset(&self) {
        let request = Request {
            kind: IoType::Reset,
            flags: IoFlags::empty(),
            offset_blocks: 0,
            num_blocks: 0,
            argument: 0,
            iovs: NonNull::from(&[]),
            buf: IoBuf::None,
            done: Done::Nobody,
            tag: 0,
        };
        match self.core().start(self, request) {
            Ok(io) => self.submit_slow(io),
            Err(_) => tracing::error!(device = self.bdev().name(), "no slot for a reset"),
        }
    }
}
