//! Doorbells, and their shadows in memory (Doorbell Buffer Config, NVMe Base Specification 2.0,
//! section 5.8).
//!
//! A controller that is a program has to be woken by a doorbell, which is an exit of the virtual
//! machine. With shadows the host writes its tails and heads to memory, and rings a doorbell only
//! when the value passes the one that the controller asked for (EventIdx). The host writes its value
//! and then reads the controller's; the controller writes what it asks for and then reads the
//! host's. With a full barrier between the two on both sides, at least one of them sees the other.
#![allow(unsafe_code, reason = "the controller reads and writes the shadows")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use spdk_rs_sys::mmio::Doorbell;

use super::controller::PcieController;
use super::data::{PAGE, prp};
use super::rings::shared_memory;
use crate::env::{DmaBuf, Memory};
use crate::nvme::controller::LinkError;
use crate::nvme::spec::{Sqe, opcode};

/// The shadows of a controller's doorbells, and what the controller asks for: a page each.
pub(super) struct Shadows {
    values: DmaBuf,
    values_iova: u64,
    events: DmaBuf,
    events_iova: u64,
}

impl Shadows {
    /// Shadows of zeroes. They have to stay until the controller is stopped.
    pub(super) fn new(
        memory: &Memory,
        controller: &PcieController,
    ) -> Result<Arc<Self>, LinkError> {
        let (values, values_iova) = shared_memory(memory, controller, PAGE)?;
        let (events, events_iova) = shared_memory(memory, controller, PAGE)?;
        Ok(Arc::new(Self { values, values_iova, events, events_iova }))
    }

    /// The command that tells the controller of them.
    pub(super) fn command(&self) -> Sqe {
        let mut sqe = Sqe::new(opcode::admin::DOORBELL_BUFFER_CONFIG, 0);
        sqe.dptr = prp(self.values_iova, self.events_iova);
        sqe
    }
}

/// A word that both sides read and write.
fn word(buf: &DmaBuf, offset: usize) -> *const AtomicU32 {
    debug_assert!(offset.is_multiple_of(4) && offset + 4 <= buf.len());
    #[expect(clippy::cast_ptr_alignment, reason = "a page with an offset of whole words")]
    let word = buf.as_ptr().wrapping_add(offset).cast::<AtomicU32>();
    word
}

/// A doorbell, with or without a shadow.
pub(super) struct Bell {
    register: Doorbell,
    shadow: Option<Shadow>,
}

struct Shadow {
    value: *const AtomicU32,
    event: *const AtomicU32,
    /// Keeps the words in place.
    _pages: Arc<Shadows>,
}

impl Bell {
    /// The doorbell of a queue that the controller does not have yet, at an offset in bytes from the
    /// first one. Its shadow begins at zero, as the queue does, whatever a queue of the same number
    /// left there. Beyond the page of the shadows it has none.
    pub(super) fn new(register: Doorbell, offset: usize, shadows: Option<&Arc<Shadows>>) -> Self {
        let shadow = shadows.filter(|_| offset + 4 <= PAGE).map(|pages| Shadow {
            value: word(&pages.values, offset),
            event: word(&pages.events, offset),
            _pages: Arc::clone(pages),
        });
        if let Some(shadow) = &shadow {
            shadow.clear();
        }
        Self { register, shadow }
    }

    /// Whether it has a shadow.
    pub(super) fn is_shadowed(&self) -> bool {
        self.shadow.is_some()
    }

    /// Tells the controller of a value by the register, whatever it asks for.
    pub(super) fn ring_anyway(&self, now: u16) {
        self.register.ring(now.into());
    }

    /// Tells the controller of a new value, by the register if that is needed.
    #[inline(always)]
    pub(super) fn ring(&self, before: u16, now: u16) {
        match &self.shadow {
            None => self.register.ring(now.into()),
            Some(shadow) => {
                if shadow.tell(before, now) {
                    self.register.ring(now.into());
                }
            }
        }
    }
}

impl Shadow {
    /// Begins anew: nothing was told, and the first value is asked for.
    fn clear(&self) {
        for word in [self.value, self.event] {
            // SAFETY: the word lies in a page that is kept, and everybody accesses it atomically.
            let word = unsafe { &*word };
            word.store(0, Ordering::Release);
        }
    }

    /// Writes a value; whether the controller asks for its doorbell.
    #[inline]
    fn tell(&self, before: u16, now: u16) -> bool {
        // SAFETY: the word lies in a page that is kept, and everybody accesses it atomically.
        let value = unsafe { &*self.value };
        // The entries of the queue were written before.
        value.store(u32::from(now).to_le(), Ordering::Release);
        // Nothing less orders a read after a write.
        fence(Ordering::SeqCst);
        // SAFETY: as above.
        let event = unsafe { &*self.event };
        let event = u32::from_le(event.load(Ordering::Relaxed));
        passes(event, before, now)
    }
}

/// Whether the step from one value to another passes the one that was asked for: whether the event
/// is one of `before`, `before + 1`, … `now - 1`. Values wrap at the end of the queue, and none beyond
/// it is ever asked for, so the count may wrap at 2^16 instead.
#[inline(always)]
fn passes(event: u32, before: u16, now: u16) -> bool {
    // The upper half of an event is not used by queues of 2^16 entries or fewer.
    let event = u16::try_from(event & 0xffff).unwrap_or(0);
    now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doorbell_is_rung_when_the_value_passes_the_event() {
        // Every step of a ring, against every event that can be asked for, counted one by one.
        let entries = 8_u16;
        for before in 0..entries {
            for step in 1..entries {
                let now = (before + step) % entries;
                for event in 0..entries {
                    let passed = (0..step).any(|i| (before + i) % entries == event);
                    assert_eq!(
                        passes(event.into(), before, now),
                        passed,
                        "{before}+{step} {event}"
                    );
                }
            }
        }
        assert!(passes(65_535, 65_535, 0) && !passes(0, 65_535, 0));
    }
}
