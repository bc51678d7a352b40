//! A buffer that a device may read and write.
#![allow(unsafe_code, reason = "the buffer is memory by address; ownership makes it safe to use")]

use std::fmt;
use std::mem::ManuallyDrop;
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
///
/// The value itself is one pointer, because it moves twice per I/O: what describes the memory
/// lies in a header that stays where it is, also while the buffer waits in a cache.
pub struct DmaBuf {
    header: NonNull<Header>,
}

/// What describes a buffer. The entry comes first: an I/O of one buffer uses it as its table.
struct Header {
    iov: IoVec,
    arena: Arc<Arena>,
    capacity_pages: u32,
    class: SizeClass,
}

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
        let (iov, class) = (IoVec::new(base.as_ptr(), len), SizeClass::of(capacity));
        let header = Box::new(Header { iov, arena, capacity_pages, class });
        Self { header: NonNull::from(Box::leak(header)) }
    }

    #[inline(always)]
    fn header(&self) -> &Header {
        // SAFETY: the header lives as long as the buffer, which owns it.
        unsafe { self.header.as_ref() }
    }

    /// The number of bytes that an operation transfers with this buffer.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        self.header().iov.len()
    }

    /// Whether the buffer has no bytes to transfer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of bytes there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.header().capacity_pages as usize * PAGE_BYTES
    }

    /// The class of the core's cache that keeps the buffer when it is free.
    pub(super) fn class(&self) -> SizeClass {
        self.header().class
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
        // SAFETY: as in `header`, and `self` is borrowed exclusively.
        let header = unsafe { self.header.as_mut() };
        header.iov = IoVec::new(header.iov.base(), len);
        Ok(())
    }

    /// The address of the first byte.
    #[inline(always)]
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.header().iov.base()
    }

    /// The buffer as an entry of a scatter-gather list.
    #[inline(always)]
    #[must_use]
    pub fn io_vec(&self) -> IoVec {
        self.header().iov
    }

    /// The buffer as a list of one entry. It stays where it is when the buffer is moved.
    #[inline(always)]
    #[must_use]
    pub fn io_vecs(&self) -> &[IoVec] {
        std::slice::from_ref(&self.header().iov)
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the memory is mapped, initialised (zero pages at first), and owned by `self`.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// The bytes, to be changed.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.header().iov.base(), self.len()) }
    }

    /// Sets every byte to `value`.
    pub fn fill(&mut self, value: u8) {
        self.as_mut_slice().fill(value);
    }

    /// Whether this buffer belongs to `arena`.
    pub(super) fn is_from(&self, arena: &Arc<Arena>) -> bool {
        Arc::ptr_eq(&self.header().arena, arena)
    }

    /// Gives the memory back to the arena itself, past the core's cache.
    pub(super) fn release(self) {
        let header = ManuallyDrop::new(self).header;
        // SAFETY: the header came from a leaked box, and the buffer that owned it is gone.
        let header = unsafe { Box::from_raw(header.as_ptr()) };
        if let Some(base) = NonNull::new(header.iov.base()) {
            header.arena.give(base, header.capacity_pages as usize * PAGE_BYTES);
        }
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        // The cache, or else the arena, takes over what this value owned.
        let own = DmaBuf { header: self.header };
        if let Some(refused) = BufferCache::put(own) {
            refused.release();
        }
    }
}

impl fmt::Debug for DmaBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuf({:p}, {} of {} bytes)", self.as_ptr(), self.len(), self.capacity())
    }
}
