//! The memory of an I/O: one slot of a per-core slab, at an address that does not move.
#![allow(unsafe_code, reason = "slots are linked and reached by address, on one thread")]

use std::cell::{Cell, RefCell};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::task::Waker;

use super::buf::IoBuf;
use super::channel::Channel;
use super::consumer::IoConsumer;
use super::nvme_command::NvmeCommand;
use super::{IoFlags, IoType};
use crate::NvmeStatus;
use crate::env::IoVec;

/// Bytes that a driver may use for itself while it has an I/O.
pub const DRIVER_CONTEXT_BYTES: usize = 64;

/// Pieces of a scatter-gather list that a part of a split I/O can have.
pub(super) const INLINE_IOVS: usize = 8;

/// Who learns of the completion.
pub(super) enum Done {
    /// Nobody: the slot is free, or its future was dropped.
    Nobody,
    /// A consumer's callback.
    Consumer(Rc<dyn IoConsumer>),
    /// A future that holds the slot.
    Future,
    /// The I/O that this one is a part of.
    Parent(NonNull<IoSlot>),
    /// The I/O of a device above that this one does.
    Upper(NonNull<IoSlot>),
}

/// How far an I/O that is split into parts has come.
#[derive(Default)]
pub(super) struct SplitState {
    /// Blocks handed to parts so far.
    pub(super) issued_blocks: u64,
    /// Index of the piece of the list that the next part starts in, and the offset in it.
    pub(super) iov_index: usize,
    pub(super) iov_offset: usize,
    /// Parts that have not completed.
    pub(super) in_flight: u32,
    /// The first failure.
    pub(super) status: NvmeStatus,
}

/// Life of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Someone holds its token, or it is free.
    Held,
    /// The token was turned into a number for the kernel.
    Parked,
    /// The result waits for its future.
    Ready,
}

/// One I/O. The first cache line is what submission and completion touch.
#[repr(C, align(64))]
pub(super) struct IoSlot {
    pub(super) next: *mut IoSlot,
    pub(super) kind: IoType,
    pub(super) flags: IoFlags,
    pub(super) state: State,
    /// Interceptors that have seen the submission and not the completion.
    pub(super) seen: u8,
    pub(super) status: NvmeStatus,
    /// The interceptors above the one that made the I/O; only set with [`IoFlags::BELOW`].
    pub(super) above: u8,
    pub(super) generation: u32,
    pub(super) offset_blocks: u64,
    pub(super) num_blocks: u64,
    pub(super) iovs: *const IoVec,
    pub(super) iov_count: usize,
    pub(super) submit_ticks: u64,

    pub(super) channel: *const Channel,
    /// Set while the slot is in use; who ends the I/O moves it out.
    pub(super) done: ManuallyDrop<Done>,
    pub(super) tag: u64,
    /// As `done`.
    pub(super) buf: ManuallyDrop<IoBuf>,

    pub(super) inline_iovs: [IoVec; INLINE_IOVS],
    pub(super) driver: [u64; DRIVER_CONTEXT_BYTES / 8],
    /// The second place of a copy, in blocks; the result dword of a command.
    pub(super) argument: u64,
    /// An NVMe command that is passed on as it is.
    pub(super) command: NvmeCommand,
    pub(super) index: u32,
    pub(super) waker: Option<Waker>,
    pub(super) split: SplitState,
    /// When an I/O that waited for a limit went on.
    pub(super) passed_ticks: u64,
}

/// The slots of a core: a free list through fixed chunks.
pub(super) struct Slab {
    free: Cell<*mut IoSlot>,
    chunks: RefCell<Vec<NonNull<IoSlot>>>,
    capacity_max: usize,
}

const CHUNK: usize = 256;

impl Slab {
    /// A slab that grows, a chunk at a time, up to `capacity_max` slots.
    pub(super) fn new(capacity_max: usize) -> Self {
        let slab = Self {
            free: Cell::new(ptr::null_mut()),
            chunks: RefCell::new(Vec::new()),
            capacity_max,
        };
        slab.grow();
        slab
    }

    /// Takes a slot, from a new chunk if need be; its fields are those of its last use.
    pub(super) fn take(&self) -> Option<NonNull<IoSlot>> {
        if self.free.get().is_null() {
            self.grow();
        }
        self.take_free()
    }

    /// Takes a slot that is free already.
    #[inline(always)]
    pub(super) fn take_free(&self) -> Option<NonNull<IoSlot>> {
        let slot = NonNull::new(self.free.get())?;
        // SAFETY: a slot of the free list is initialised, and nobody else has it.
        self.free.set(unsafe { (*slot.as_ptr()).next });
        Some(slot)
    }

    /// Whether a slot can be taken.
    pub(super) fn has_free(&self) -> bool {
        if self.free.get().is_null() {
            self.grow();
        }
        !self.free.get().is_null()
    }

    /// Puts a slot back.
    ///
    /// # Safety
    /// The slot must have been taken from this slab, and nobody may use it after this.
    #[inline(always)]
    pub(super) unsafe fn put(&self, slot: NonNull<IoSlot>) {
        // SAFETY: the caller gives up the only access to the slot.
        unsafe { (*slot.as_ptr()).next = self.free.get() };
        self.free.set(slot.as_ptr());
    }

    /// The slot with an index, if there is one.
    pub(super) fn at(&self, index: usize) -> Option<NonNull<IoSlot>> {
        let chunk = *self.chunks.borrow().get(index / CHUNK)?;
        // SAFETY: a chunk has CHUNK slots.
        Some(unsafe { chunk.add(index % CHUNK) })
    }

    /// Slots that are taken. Walks the free list: for statistics and tests.
    pub(super) fn in_use(&self) -> usize {
        let (mut free, mut at) = (0, self.free.get());
        while let Some(slot) = NonNull::new(at) {
            free += 1;
            // SAFETY: a slot of the free list is initialised.
            at = unsafe { slot.as_ref() }.next;
        }
        self.chunks.borrow().len() * CHUNK - free
    }

    /// Calls `f` with every slot that is taken. Walks all slots: for looks now and then.
    pub(super) fn each_in_use(&self, mut f: impl FnMut(&IoSlot)) {
        let chunks = self.chunks.borrow().len();
        let (mut free, mut at) = (vec![false; chunks * CHUNK], self.free.get());
        while let Some(slot) = NonNull::new(at) {
            // SAFETY: a slot of the free list is initialised.
            let slot = unsafe { slot.as_ref() };
            free[slot.index as usize] = true;
            at = slot.next;
        }
        for (index, _) in free.iter().enumerate().filter(|(_, free)| !**free) {
            if let Some(slot) = self.at(index) {
                // SAFETY: a slot is initialised, and who has its token is not running: this is one
                // thread.
                f(unsafe { slot.as_ref() });
            }
        }
    }

    #[cold]
    fn grow(&self) {
        let mut chunks = self.chunks.borrow_mut();
        let base = chunks.len() * CHUNK;
        if base + CHUNK > self.capacity_max.max(CHUNK) {
            return;
        }
        let chunk = Box::leak(Box::<[IoSlot]>::new_uninit_slice(CHUNK));
        for (i, place) in chunk.iter_mut().enumerate().rev() {
            let index = u32::try_from(base + i).unwrap_or(u32::MAX);
            let slot: *mut IoSlot = place.write(IoSlot::empty(index, self.free.get()));
            self.free.set(slot);
        }
        let first: *mut MaybeUninit<IoSlot> = chunk.as_mut_ptr();
        if let Some(first) = NonNull::new(first.cast::<IoSlot>()) {
            chunks.push(first);
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        let in_flight = self.in_use();
        if in_flight != 0 {
            // A device may still write to what these slots point at: keep them for ever.
            tracing::error!(in_flight, "a core ends with I/O in flight");
            return;
        }
        for &chunk in self.chunks.get_mut().iter() {
            let slots = ptr::slice_from_raw_parts_mut(chunk.as_ptr(), CHUNK);
            // SAFETY: the chunk came from a leaked box of CHUNK initialised slots.
            drop(unsafe { Box::from_raw(slots) });
        }
    }
}

impl IoSlot {
    /// Moves the buffers out. They are moved out once per use of the slot, at its end.
    #[inline(always)]
    pub(super) fn take_buf(&mut self) -> IoBuf {
        // SAFETY: the slot was in use, so the buffers are there, and it is about to be freed.
        unsafe { ManuallyDrop::take(&mut self.buf) }
    }

    /// Moves out who is to be told. As [`IoSlot::take_buf`].
    #[inline(always)]
    pub(super) fn take_done(&mut self) -> Done {
        // SAFETY: as in `take_buf`.
        unsafe { ManuallyDrop::take(&mut self.done) }
    }

    fn empty(index: u32, next: *mut IoSlot) -> Self {
        Self {
            next,
            kind: IoType::Read,
            flags: IoFlags::empty(),
            state: State::Held,
            seen: 0,
            status: NvmeStatus::SUCCESS,
            above: 0,
            generation: 0,
            offset_blocks: 0,
            num_blocks: 0,
            iovs: ptr::null(),
            iov_count: 0,
            submit_ticks: 0,
            channel: ptr::null(),
            done: ManuallyDrop::new(Done::Nobody),
            tag: 0,
            buf: ManuallyDrop::new(IoBuf::None),
            inline_iovs: [IoVec::EMPTY; INLINE_IOVS],
            driver: [0; DRIVER_CONTEXT_BYTES / 8],
            argument: 0,
            command: NvmeCommand::default(),
            index,
            waker: None,
            split: SplitState::default(),
            passed_ticks: 0,
        }
    }
}

/// A first-in-first-out list of slots, linked through the slots.
pub(super) struct SlotList {
    head: Cell<*mut IoSlot>,
    tail: Cell<*mut IoSlot>,
}

impl SlotList {
    pub(super) const fn new() -> Self {
        Self { head: Cell::new(ptr::null_mut()), tail: Cell::new(ptr::null_mut()) }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    /// Appends a slot.
    ///
    /// # Safety
    /// The slot is live, on no other list, and stays so while it is on this one.
    #[inline(always)]
    pub(super) unsafe fn push(&self, slot: NonNull<IoSlot>) {
        // SAFETY: the caller owns the slot.
        unsafe { (*slot.as_ptr()).next = ptr::null_mut() };
        let tail = self.tail.replace(slot.as_ptr());
        if tail.is_null() {
            self.head.set(slot.as_ptr());
        } else {
            // SAFETY: what is on the list is live.
            unsafe { (*tail).next = slot.as_ptr() };
        }
    }

    #[inline(always)]
    pub(super) fn pop(&self) -> Option<NonNull<IoSlot>> {
        let slot = NonNull::new(self.head.get())?;
        // SAFETY: what is on the list is live.
        let next = unsafe { (*slot.as_ptr()).next };
        self.head.set(next);
        if next.is_null() {
            self.tail.set(ptr::null_mut());
        }
        Some(slot)
    }

    /// Takes the whole list.
    #[inline(always)]
    pub(super) fn take(&self) -> SlotList {
        let taken = SlotList::new();
        taken.head.set(self.head.replace(ptr::null_mut()));
        taken.tail.set(self.tail.replace(ptr::null_mut()));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_distinct_reused_and_bounded() {
        let slab = Slab::new(CHUNK + 10);
        let taken: Vec<_> = std::iter::from_fn(|| slab.take()).collect();
        assert_eq!(taken.len(), CHUNK, "a chunk that would go beyond the maximum is not made");
        let distinct: std::collections::HashSet<_> = taken.iter().collect();
        assert_eq!(distinct.len(), taken.len());
        for (index, slot) in taken.iter().enumerate() {
            assert_eq!(slab.at(index), Some(*slot));
        }
        assert_eq!(slab.at(CHUNK), None);
        let last = taken[CHUNK - 1];
        // SAFETY: each slot was taken from this slab and is not used again.
        taken.into_iter().for_each(|slot| unsafe { slab.put(slot) });
        assert_eq!(slab.in_use(), 0);
        let again = slab.take().unwrap();
        assert_eq!(again, last, "the slot that was freed last is the warmest");
        // SAFETY: the slot was taken from this slab and is not used again.
        unsafe { slab.put(again) };
    }

    #[test]
    fn a_slab_grows_by_chunks() {
        let slab = Slab::new(3 * CHUNK);
        let taken: Vec<_> = std::iter::from_fn(|| slab.take()).collect();
        assert_eq!(taken.len(), 3 * CHUNK);
        assert_eq!(slab.at(2 * CHUNK + 1).map(|s| s.as_ptr().is_aligned()), Some(true));
        // SAFETY: each slot was taken from this slab and is not used again.
        taken.into_iter().for_each(|slot| unsafe { slab.put(slot) });
    }

    #[test]
    fn a_list_keeps_the_order() {
        let slab = Slab::new(CHUNK);
        let list = SlotList::new();
        let slots: Vec<_> = (0..3).filter_map(|_| slab.take()).collect();
        for round in 0..2 {
            for &slot in &slots {
                // SAFETY: the slot is live and on no list.
                unsafe { list.push(slot) };
            }
            let taken = if round == 0 { list.take() } else { list.take().take() };
            assert!(list.is_empty());
            let popped: Vec<_> = std::iter::from_fn(|| taken.pop()).collect();
            assert_eq!(popped, slots);
        }
        // SAFETY: each slot was taken from this slab and is not used again.
        slots.into_iter().for_each(|slot| unsafe { slab.put(slot) });
    }
}
