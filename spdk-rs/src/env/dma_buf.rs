//! A buffer that a device may read and write.
#![allow(unsafe_code, reason = "the buffer is memory by address; ownership makes it safe to use")]

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use super::buffer_cache::SizeClass;
use super::iovec::IoVec;
use super::memory::{Arena, PAGE_BYTES};
use super::{BufferCache, MemoryError};

/// Memory for I/O: page aligned, pinned where the system allows it, owned by one party.
///
/// It is moved into an operation and comes back with the result; so nobody holds a reference to
/// the bytes while a device may write them. Dropping it gives the memory back to the core's cache
/// or to the arena.
pub struct DmaBuf {
    base: NonNull<u8>,
    len: usize,
    arena: Option<Arc<Arena>>,
    capacity_pages: u32,
    class: SizeClass,
}

// An I/O moves its buffer in and out of its slot: 32 bytes, also as one variant of `IoBuf`.
const _: () = assert!(size_of::<DmaBuf>() == 32);

// SAFETY: the buffer owns its bytes alone; the arena is shared under its own lock.
unsafe impl Send for DmaBuf {}
// SAFETY: a shared reference only reads the bytes and the lengths.
unsafe impl Sync for DmaBuf {}

impl DmaBuf {
    pub(super) fn from_arena(
        arena: Arc<Arena>,
        base: NonNull<u8>,
        capacity: usize,
        len: usize,
    ) -> Self {
        let capacity_pages = u32::try_from(capacity / PAGE_BYTES).unwrap_or(u32::MAX);
        Self { base, len, arena: Some(arena), capacity_pages, class: SizeClass::of(capacity) }
    }

    /// The number of bytes that an operation transfers with this buffer.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer has no bytes to transfer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of bytes there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity_pages as usize * PAGE_BYTES
    }

    /// The class of the core's cache that keeps the buffer when it is free.
    pub(super) fn class(&self) -> SizeClass {
        self.class
    }

    /// Sets how many bytes an operation transfers, up to the capacity.
    ///
    /// # Errors
    /// [`MemoryError::Layout`] when `len` is larger than the capacity.
    pub fn set_len(&mut self, len: usize) -> Result<(), MemoryError> {
        if len > self.capacity() {
            let allowed = "the length is at most the buffer's capacity";
            return Err(MemoryError::Layout { bytes: len, align: 1, allowed });
        }
        self.len = len;
        Ok(())
    }

    /// The address of the first byte.
    #[inline(always)]
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.base.as_ptr()
    }

    /// The buffer as an entry of a scatter-gather list.
    #[inline(always)]
    #[must_use]
    pub fn io_vec(&self) -> IoVec {
        IoVec::new(self.base.as_ptr(), self.len)
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the memory is mapped, initialised (zero pages at first), and owned by `self`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// The bytes, to be changed.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }

    /// Sets every byte to `value`.
    pub fn fill(&mut self, value: u8) {
        self.as_mut_slice().fill(value);
    }

    /// Whether this buffer belongs to `arena` and has that capacity.
    pub(super) fn is_from(&self, arena: &Arc<Arena>) -> bool {
        self.arena.as_ref().is_some_and(|own| Arc::ptr_eq(own, arena))
    }

    /// Gives the memory back to the arena itself, past the core's cache.
    pub(super) fn release(mut self) {
        self.give_back();
    }

    fn give_back(&mut self) {
        if let Some(arena) = self.arena.take() {
            arena.give(self.base, self.capacity_pages as usize * PAGE_BYTES);
        }
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        let Some(arena) = self.arena.take() else { return };
        let whole = DmaBuf {
            base: self.base,
            len: self.len,
            arena: Some(arena),
            capacity_pages: self.capacity_pages,
            class: self.class,
        };
        if let Some(refused) = BufferCache::put(whole) {
            refused.release();
        }
    }
}

impl fmt::Debug for DmaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuf({:p}, {} of {} bytes)", self.base, self.len, self.capacity())
    }
}
