//! The token of an I/O: who holds it owes its completion.
#![allow(unsafe_code, reason = "the token is the one pointer to its slot")]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::buf::IoBuf;
use super::core::BdevCore;
use super::lent::Lent;
use super::slot::{DRIVER_CONTEXT_BYTES, IoSlot, SlotList, State};
use super::{IoType, NvmeCommand};
use crate::NvmeStatus;
use crate::env::iovec::total_len;
use crate::env::{IoVec, SharedRegion};

bitflags::bitflags! {
    /// Modifiers of an I/O.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IoFlags: u8 {
        /// The data are on the medium before a write completes (force unit access).
        const FUA = 1;
        /// A read without a buffer: the device lends its own memory, see [`super::Lent`]. Only
        /// where [`super::IoHandle::lends`] says so.
        const LEND = 1 << 1;
        /// An interceptor has it. Set and cleared by the block device layer.
        const KEPT = 1 << 4;
        /// An interceptor keeps it that was shown its completion. As [`IoFlags::KEPT`].
        const ENDED = 1 << 5;
        /// Made by an interceptor: those above it do not see it, see [`super::Below`].
        const BELOW = 1 << 6;
        /// Has waited for a limit on the rate of I/O.
        const WAITED = 1 << 3;
        /// Made by the block device layer itself: passes locks that hold others back.
        const INTERNAL = 1 << 7;
    }
}

/// An I/O on its way to a device and back.
///
/// The token cannot be cloned. Whoever holds it completes it exactly once with
/// [`BdevIo::complete`], which consumes it. Dropping one uncompleted is a bug of the holder; the
/// I/O then ends as aborted, with an error in the log, so that nobody waits for ever.
pub struct BdevIo {
    slot: NonNull<IoSlot>,
}

impl BdevIo {
    /// # Safety
    /// The slot is live and no other token of it exists.
    #[inline(always)]
    pub(super) unsafe fn from_slot(slot: NonNull<IoSlot>) -> Self {
        Self { slot }
    }

    #[inline(always)]
    fn get(&self) -> &IoSlot {
        // SAFETY: the slot is live while its token exists.
        unsafe { self.slot.as_ref() }
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self) -> &mut IoSlot {
        // SAFETY: as in `get`, and the token is the one way to the slot's fields while it is held.
        unsafe { self.slot.as_mut() }
    }

    /// Gives the token up without completing the I/O.
    #[inline(always)]
    pub(super) fn into_slot(self) -> NonNull<IoSlot> {
        ManuallyDrop::new(self).slot
    }

    /// What is asked for.
    #[inline(always)]
    #[must_use]
    pub fn kind(&self) -> IoType {
        self.get().kind
    }

    /// Its modifiers.
    #[inline(always)]
    #[must_use]
    pub fn flags(&self) -> IoFlags {
        self.get().flags
    }

    /// Whether a write has to be on the medium before it completes.
    #[inline(always)]
    #[must_use]
    pub fn fua(&self) -> bool {
        self.get().flags.contains(IoFlags::FUA)
    }

    /// Whether a read wants the device's own memory: the driver then calls [`BdevIo::lend`]
    /// instead of copying.
    #[inline(always)]
    #[must_use]
    pub fn wants_lent(&self) -> bool {
        self.get().flags.contains(IoFlags::LEND)
    }

    /// Gives a read that wants it the device's memory: as many bytes as the I/O has blocks.
    #[inline(always)]
    pub fn lend(&mut self, lent: Lent) {
        debug_assert!(self.wants_lent());
        let slot = self.get_mut();
        // A read that wants to be lent memory has brought none, so nothing is lost here.
        slot.buf = ManuallyDrop::new(IoBuf::Lent(lent));
    }

    /// The first block.
    #[inline(always)]
    #[must_use]
    pub fn offset_blocks(&self) -> u64 {
        self.get().offset_blocks
    }

    /// The number of blocks.
    #[inline(always)]
    #[must_use]
    pub fn num_blocks(&self) -> u64 {
        self.get().num_blocks
    }

    /// Notes when an I/O that waited for a limit went on.
    pub(super) fn waited_until(&mut self, now: u64) {
        let slot = self.get_mut();
        slot.flags |= IoFlags::WAITED;
        slot.passed_ticks = now;
    }

    /// Whether this is the I/O of a slot.
    pub(super) fn is_in(&self, slot: &IoSlot) -> bool {
        std::ptr::eq(self.slot.as_ptr(), slot)
    }

    /// Bytes per block of the I/O's device.
    #[must_use]
    pub(super) fn block_len(&self) -> u32 {
        self.get().channel().block_len
    }

    /// For a copy: the first block that is read. For a zone management see
    /// [`BdevIo::zone_action`].
    #[must_use]
    pub fn source_blocks(&self) -> u64 {
        self.get().argument
    }

    /// The memory of the I/O, piece by piece. It belongs to the I/O: until it is completed, the
    /// device may read it (write, compare) or write it (read) by these addresses.
    #[inline(always)]
    #[must_use]
    pub fn iovs(&self) -> &[IoVec] {
        let slot = self.get();
        // SAFETY: the table lives in the slot or in the list that the slot owns.
        unsafe { std::slice::from_raw_parts(slot.iovs, slot.iov_count) }
    }

    /// The tick at which it was submitted.
    #[must_use]
    pub fn submit_ticks(&self) -> u64 {
        self.get().submit_ticks
    }

    /// Memory of the driver's own while it has the I/O; what an earlier user left is in it.
    #[inline(always)]
    #[must_use]
    pub fn driver_context(&mut self) -> &mut [u64; DRIVER_CONTEXT_BYTES / 8] {
        &mut self.get_mut().driver
    }

    /// The NVMe command of an [`IoType::NvmeAdmin`] or [`IoType::NvmeIo`].
    #[must_use]
    pub fn nvme_command(&self) -> &NvmeCommand {
        &self.get().command
    }

    /// Sets the second result of a command (NVMe completion dwords 0 and 1).
    pub fn set_result(&mut self, result: u64) {
        self.get_mut().argument = result;
    }

    /// Ends the I/O. Its consumer learns of it when the driver has been left.
    #[inline(always)]
    pub fn complete(self, status: NvmeStatus) {
        let slot = self.into_slot();
        // SAFETY: the token is consumed, so this is the one access to the slot.
        let fields = unsafe { &mut *slot.as_ptr() };
        fields.status = status;
        // SAFETY: the channel outlives its I/O: the core keeps it while some are outstanding.
        let channel = unsafe { &*fields.channel };
        // SAFETY: the slot is live and on no list.
        unsafe { channel.completed().push(slot) };
    }

    /// Turns the token into a number of 48 bits, for the kernel or a device to give back.
    /// [`BdevCore::unpark`] turns it into the token again, once.
    #[inline(always)]
    #[must_use]
    pub fn park(mut self) -> u64 {
        let slot = self.get_mut();
        slot.state = State::Parked;
        // Counted here, so that no number is given out twice.
        slot.generation = slot.generation.wrapping_add(1);
        let number = u64::from(slot.generation & 0xff_ffff) << 24 | u64::from(slot.index);
        let _ = self.into_slot();
        number
    }

    /// Copies from a memory device into the I/O's buffers.
    ///
    /// # Panics
    /// When the range reaches beyond the region.
    #[inline]
    pub fn copy_from_region(&mut self, region: &SharedRegion, offset_bytes: usize) {
        // SAFETY: the I/O owns the memory that its table names; a read's may be written.
        unsafe { region.read_into(offset_bytes, self.iovs()) };
    }

    /// Copies the I/O's buffers to a memory device.
    ///
    /// # Panics
    /// When the range reaches beyond the region.
    #[inline]
    pub fn copy_to_region(&self, region: &SharedRegion, offset_bytes: usize) {
        // SAFETY: the I/O owns the memory that its table names.
        unsafe { region.write_from(offset_bytes, self.iovs()) };
    }

    /// Whether the I/O's buffers equal a range of a memory device.
    ///
    /// # Panics
    /// When the range reaches beyond the region.
    #[must_use]
    pub fn equals_region(&self, region: &SharedRegion, offset_bytes: usize) -> bool {
        // SAFETY: the I/O owns the memory that its table names.
        unsafe { region.equals(offset_bytes, self.iovs()) }
    }

    /// The bytes of a piece of this I/O's memory. Not for a read that a device may be writing.
    pub(super) fn piece_bytes(&self, piece: &IoVec) -> &[u8] {
        // SAFETY: the I/O owns the memory that its table names, and `piece` is a part of that.
        unsafe { std::slice::from_raw_parts(piece.base(), piece.len()) }
    }

    /// Fills the I/O's buffers from a slice, from byte `offset_bytes` of the I/O on.
    ///
    /// # Panics
    /// When the slice reaches beyond the I/O's buffers.
    pub fn copy_in(&mut self, offset_bytes: usize, from: &[u8]) {
        let mut rest = from;
        for piece in pieces_at(self.iovs(), offset_bytes, from.len()) {
            let (head, tail) = rest.split_at(piece.len());
            // SAFETY: the I/O owns the memory that its table names, and no slice that safe code
            // holds lies in it while it does; `piece` is a part of that as long as `head`.
            unsafe { std::ptr::copy_nonoverlapping(head.as_ptr(), piece.base(), head.len()) };
            rest = tail;
        }
    }

    /// Copies the I/O's buffers to a slice, from byte `offset_bytes` of the I/O on.
    ///
    /// # Panics
    /// When the slice is longer than the I/O's buffers from there.
    pub fn copy_out(&self, offset_bytes: usize, to: &mut [u8]) {
        let len = to.len();
        let mut rest = to;
        for piece in pieces_at(self.iovs(), offset_bytes, len) {
            let (head, tail) = rest.split_at_mut(piece.len());
            head.copy_from_slice(self.piece_bytes(&piece));
            rest = tail;
        }
    }

    /// Fills the I/O's buffers with one byte value: what a device that stores nothing returns.
    pub fn fill(&mut self, value: u8) {
        for iov in self.iovs() {
            // SAFETY: the I/O owns the memory that its table names.
            unsafe { std::ptr::write_bytes(iov.base(), value, iov.len()) };
        }
    }
}

/// The pieces of memory that hold `len` bytes from byte `offset` of a table on.
///
/// # Panics
/// When the table has fewer bytes.
fn pieces_at(iovs: &[IoVec], offset: usize, len: usize) -> impl Iterator<Item = IoVec> {
    let bytes = total_len(iovs);
    assert!(
        offset <= bytes && len <= bytes - offset,
        "{len} bytes at byte {offset} of an I/O whose buffers have {bytes} bytes"
    );
    let (mut skip, mut left) = (offset, len);
    iovs.iter().filter_map(move |iov| {
        let piece = iov.advanced(skip).truncated(left);
        skip = skip.saturating_sub(iov.len());
        left -= piece.len();
        (!piece.is_empty()).then_some(piece)
    })
}

impl Drop for BdevIo {
    fn drop(&mut self) {
        let slot = self.get();
        tracing::error!(
            kind = slot.kind.name(),
            offset_blocks = slot.offset_blocks,
            num_blocks = slot.num_blocks,
            "an I/O was dropped uncompleted by its driver; it ends as aborted"
        );
        // SAFETY: `self` is not used after this.
        unsafe { BdevIo::from_slot(self.slot) }.complete(NvmeStatus::ABORTED_BY_REQUEST);
    }
}

impl fmt::Debug for BdevIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, offset, blocks) = (self.kind(), self.offset_blocks(), self.num_blocks());
        write!(f, "BdevIo({kind}, {blocks} blocks at {offset})")
    }
}

/// A list of I/Os in the order in which they were added, without an allocation.
pub struct IoList {
    slots: SlotList,
    len: usize,
}

impl Default for IoList {
    fn default() -> Self {
        Self::new()
    }
}

impl IoList {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: SlotList::new(), len: 0 }
    }

    /// Appends an I/O.
    #[inline(always)]
    pub fn push(&mut self, io: BdevIo) {
        self.len += 1;
        // SAFETY: the list holds the token from here on.
        unsafe { self.slots.push(io.into_slot()) };
    }

    /// Moves all of another list behind this one.
    pub fn append(&mut self, other: &mut IoList) {
        while let Some(io) = other.pop() {
            self.push(io);
        }
    }

    /// Takes the first I/O.
    #[inline(always)]
    #[must_use]
    pub fn pop(&mut self) -> Option<BdevIo> {
        let slot = self.slots.pop()?;
        self.len -= 1;
        // SAFETY: what is on the list came in as a token.
        Some(unsafe { BdevIo::from_slot(slot) })
    }

    /// Whether there is none.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The number of I/Os.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for IoList {
    fn drop(&mut self) {
        // Each ends as aborted, loudly.
        while let Some(io) = self.pop() {
            drop(io);
        }
    }
}

impl BdevCore {
    /// The token that was parked under a number; none when the number is late or forged.
    #[inline]
    #[must_use]
    pub fn unpark(&self, number: u64) -> Option<BdevIo> {
        let index = usize::try_from(number & 0xff_ffff).ok()?;
        let mut slot = self.slab().at(index)?;
        // SAFETY: a slot of the slab is initialised for as long as the slab lives, and while it
        // is parked nobody else has access to it.
        let fields = unsafe { slot.as_mut() };
        let generation = u64::from(fields.generation & 0xff_ffff);
        if fields.state != State::Parked || generation != number >> 24 {
            return None;
        }
        fields.state = State::Held;
        // SAFETY: the state says that the token was given up.
        Some(unsafe { BdevIo::from_slot(slot) })
    }
}

#[cfg(test)]
mod tests;
