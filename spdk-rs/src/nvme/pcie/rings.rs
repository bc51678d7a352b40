//! A submission and a completion queue in memory (NVMe over PCIe Transport 1.0, section 3.1; NVMe
//! Base Specification 2.0, section 3.3.1).
#![allow(unsafe_code, reason = "the controller reads and writes the rings")]

use std::sync::atomic::{Ordering, fence};

use zerocopy::byteorder::little_endian::{U16, U64};

use super::cmb::SqRoom;
use super::controller::PcieController;
use super::data::PAGE;
use super::shadow::Bell;
use crate::env::{DmaBuf, Memory};
use crate::nvme::controller::LinkError;
use crate::nvme::spec::{Cqe, Sqe};

/// The rings of a queue pair, of the same number of entries.
pub(super) struct Rings {
    sq: *mut Sqe,
    /// Where the submission queue is instead, when it is in the controller's memory.
    sq_room: Option<SqRoom>,
    cq: *mut Cqe,
    entries: u16,
    tail: u16,
    /// The tail that the controller was told.
    told: u16,
    head: u16,
    /// The head that the controller was told.
    taken: u16,
    /// The phase tag of entries that are new.
    phase: u16,
    sq_bell: Bell,
    cq_bell: Bell,
    /// The controller's addresses.
    pub(super) sq_iova: u64,
    pub(super) cq_iova: u64,
    /// The memory, which nobody else has.
    _sq: Option<DmaBuf>,
    _cq: DmaBuf,
}

/// A buffer of zeroes that is one run for the controller, and its address.
pub(super) fn shared_memory(
    memory: &Memory,
    controller: &PcieController,
    bytes: usize,
) -> Result<(DmaBuf, u64), LinkError> {
    // Memory that is aligned to its length does not cross a huge page, where physical addresses
    // may not run on.
    let align = bytes.next_power_of_two().clamp(PAGE, 2 << 20);
    let mut buf = memory.alloc_aligned(bytes, align)?;
    buf.fill(0);
    let iova = controller.function().dma().whole(buf.as_ptr(), bytes).ok_or_else(|| {
        let why = format!("{bytes} bytes of buffer memory are out of the controller's reach");
        LinkError::Device { why }
    })?;
    Ok((buf, iova))
}

impl Rings {
    /// Rings of `entries` entries each for the queue `qid` of a controller.
    pub(super) fn new(
        memory: &Memory,
        controller: &PcieController,
        qid: u16,
        entries: u16,
    ) -> Result<Self, LinkError> {
        let count = usize::from(entries);
        let sq_bytes = count * size_of::<Sqe>();
        let sq_room = controller.sq_room(qid, sq_bytes);
        let (sq, sq_iova) = match &sq_room {
            Some(room) => (None, room.address),
            None => {
                let (sq, iova) = shared_memory(memory, controller, sq_bytes)?;
                (Some(sq), iova)
            }
        };
        let (cq, cq_iova) = shared_memory(memory, controller, count * size_of::<Cqe>())?;
        Ok(Self {
            sq: sq.as_ref().map_or(std::ptr::null_mut(), |sq| sq.as_ptr().cast_mut().cast()),
            sq_room,
            cq: cq.as_ptr().cast_mut().cast(),
            entries,
            tail: 0,
            told: 0,
            head: 0,
            taken: 0,
            phase: 1,
            sq_bell: controller.bell(2 * usize::from(qid)),
            cq_bell: controller.bell(2 * usize::from(qid) + 1),
            sq_iova,
            cq_iova,
            _sq: sq,
            _cq: cq,
        })
    }

    /// Puts a command in. There is room as long as fewer than `entries` commands are outstanding.
    #[inline(always)]
    pub(super) fn push(&mut self, sqe: &Sqe) {
        if let Some(room) = &self.sq_room {
            room.write(self.tail, sqe);
        } else {
            let place = self.sq.wrapping_add(usize::from(self.tail));
            // SAFETY: the tail is below the number of entries of the ring, and the controller reads
            // an entry only after its doorbell.
            unsafe { place.write(*sqe) };
        }
        self.tail = if self.tail + 1 == self.entries { 0 } else { self.tail + 1 };
    }

    /// Whether there are commands that the controller was not told of.
    #[inline(always)]
    pub(super) fn is_untold(&self) -> bool {
        self.tail != self.told
    }

    /// Tells the controller of all commands.
    #[inline(always)]
    pub(super) fn tell(&mut self) {
        let before = std::mem::replace(&mut self.told, self.tail);
        self.sq_bell.ring(before, self.tail);
    }

    /// Whether the controller is told by shadows of doorbells.
    pub(super) fn is_shadowed(&self) -> bool {
        self.sq_bell.is_shadowed()
    }

    /// Tells by the doorbells what was told by their shadows.
    pub(super) fn tell_again(&self) {
        self.sq_bell.ring_anyway(self.told);
        self.cq_bell.ring_anyway(self.taken);
    }

    /// How far both sides are: it changes with every command and completion.
    pub(super) fn progress(&self) -> (u16, u16, u16) {
        (self.told, self.head, self.phase)
    }

    /// Whether the next completion is there.
    #[inline(always)]
    pub(super) fn is_ready(&self) -> bool {
        self.next_status() & 1 == self.phase
    }

    #[inline(always)]
    fn next_status(&self) -> u16 {
        let entry = self.cq.wrapping_add(usize::from(self.head)).cast::<u8>();
        #[expect(clippy::cast_ptr_alignment, reason = "an entry has 16 bytes and starts aligned")]
        let status = entry.wrapping_add(14).cast::<u16>();
        // SAFETY: the head is below the number of entries. The controller may write meanwhile, in
        // units no smaller than this.
        u16::from_le(unsafe { status.read_volatile() })
    }

    /// Takes the next completion, if it is there.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<Cqe> {
        let status_phase = self.next_status();
        if status_phase & 1 != self.phase {
            return None;
        }
        // The rest of the entry was written before its phase tag.
        fence(Ordering::Acquire);
        #[expect(clippy::cast_ptr_alignment, reason = "an entry has 16 bytes and starts aligned")]
        let words = self.cq.wrapping_add(usize::from(self.head)).cast::<u64>();
        // SAFETY: as in `next_status`.
        let result = u64::from_le(unsafe { words.read_volatile() });
        // SAFETY: as in `next_status`; it is the second half of the entry.
        let ids = u64::from_le(unsafe { words.wrapping_add(1).read_volatile() });
        self.head += 1;
        if self.head == self.entries {
            self.head = 0;
            self.phase ^= 1;
        }
        let [a, b, c, d, e, f, ..] = ids.to_le_bytes();
        Some(Cqe {
            result: U64::new(result),
            sqhd: U16::from_bytes([a, b]),
            sqid: U16::from_bytes([c, d]),
            cid: U16::from_bytes([e, f]),
            status_phase: U16::new(status_phase),
        })
    }

    /// Tells the controller which completions were taken.
    #[inline(always)]
    pub(super) fn tell_taken(&mut self) {
        let before = std::mem::replace(&mut self.taken, self.head);
        self.cq_bell.ring(before, self.head);
    }

    /// The number of entries.
    pub(super) fn entries(&self) -> u16 {
        self.entries
    }
}

const _: () = {
    assert!(size_of::<Sqe>() == 64);
    assert!(size_of::<Cqe>() == 16);
};
