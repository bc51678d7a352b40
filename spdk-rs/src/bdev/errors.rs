//! Failed I/O as events: the first at once, a storm of them as a few events with counts.

use std::cell::Cell;
use std::time::Duration;

use super::IoType;
use super::channel::Channel;
use super::events::DeviceEvent;
use super::slot::IoSlot;
use crate::NvmeStatus;
use crate::reactor::sleep;

/// The least time between two events of one channel.
const PERIOD: Duration = Duration::from_millis(100);

/// Status code types (NVMe Base Specification 2.0, figure 90).
const GENERIC: u8 = 0;
const MEDIA: u8 = 2;

/// What a channel has to tell of failed I/O.
#[derive(Default)]
pub(super) struct ErrorReport {
    /// Failures that were not told of, and the last of them.
    untold: Cell<u64>,
    last: Cell<Option<(IoType, u64, u64, NvmeStatus)>>,
    /// Whether one was told of within the last period.
    told: Cell<bool>,
}

/// Whether a status says that the medium or the device failed, rather than that the I/O was wrong,
/// was abandoned, or had no path.
pub(super) const fn is_device_error(status: NvmeStatus) -> bool {
    match status.sct() {
        // Data transfer error, internal error.
        GENERIC => matches!(status.sc(), 0x04 | 0x06),
        // All but a compare that found a difference (0x85), a refusal (0x86) and blocks that were
        // never written (0x87).
        MEDIA => !matches!(status.sc(), 0x85..=0x87),
        _ => false,
    }
}

impl Channel {
    /// An I/O has failed.
    #[cold]
    #[inline(never)]
    pub(super) fn io_failed(&self, slot: &IoSlot) {
        if !is_device_error(slot.status) {
            return;
        }
        let errors = &self.errors;
        errors.untold.set(errors.untold.get() + 1);
        errors.last.set(Some((slot.kind, slot.offset_blocks, slot.num_blocks, slot.status)));
        if errors.told.replace(true) {
            return;
        }
        self.tell_errors();
        let Some(shared) = self.shared() else { return };
        let weak = std::rc::Rc::downgrade(&shared);
        self.reactor().spawn("media errors", async move {
            loop {
                sleep(PERIOD).await;
                let Some(channel) = weak.upgrade() else { return };
                if channel.errors.untold.get() == 0 {
                    channel.errors.told.set(false);
                    return;
                }
                channel.tell_errors();
            }
        });
    }

    pub(super) fn tell_errors(&self) {
        let count = self.errors.untold.replace(0);
        if let Some((kind, offset_blocks, num_blocks, status)) = self.errors.last.take() {
            let event = DeviceEvent::MediaError { kind, offset_blocks, num_blocks, status, count };
            self.bdev().notify(&event);
        }
    }
}
