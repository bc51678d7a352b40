//! The engine's memory: one arena for I/O buffers, and regions of their own for memory devices.
#![allow(unsafe_code, reason = "device memory is copied by address; bounds are checked here")]

use std::ptr::NonNull;
use std::sync::Arc;
#[expect(
    clippy::disallowed_types,
    reason = "the arena's free map is used on the slow path only"
)]
use std::sync::Mutex;

use spdk_rs_sys::hugepage::{self, PageKind, Region};
use spdk_rs_sys::iova::{IovaError, IovaMap, IovaMode};
use spdk_rs_sys::os;
use thiserror::Error;

use super::free_map::FreeMap;
use super::iovec::IoVec;
use super::{BufferCache, DmaBuf};

pub use spdk_rs_sys::hugepage::HugePolicy;

/// Buffers start and end on multiples of this many bytes, so that O_DIRECT, PRP entries and huge
/// pages all accept them.
pub(super) const PAGE_BYTES: usize = 4096;

/// Alignment up to which the arena's placement can answer; larger requests are refused.
const ALIGN_MAX_BYTES: usize = 2 << 20;

/// How much memory to take, and from where.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// Size of the arena for I/O buffers, in bytes; rounded up to 2 MiB.
    pub size_bytes: usize,
    /// Where the pages come from.
    pub backing: hugepage::MemoryOptions,
}

/// Why memory could not be had.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The kernel did not give the pages.
    #[error("cannot map {bytes} bytes of memory")]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// What the kernel said.
        #[source]
        source: hugepage::MemoryError,
    },
    /// More than is available, found before a page was taken.
    #[error(
        "{bytes} bytes are wanted and {available} are available; ask for less, or free or add \
         memory (huge pages: vm.nr_hugepages)"
    )]
    Unavailable {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes available at that moment.
        available: u64,
    },
    /// The arena has no free run of that length.
    #[error(
        "no {bytes} bytes of buffer memory left ({free} bytes free, the longest run {largest}); \
         start the engine with a larger memory size (-s MIB)"
    )]
    Exhausted {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes free in all.
        free: usize,
        /// The longest free run, in bytes.
        largest: usize,
    },
    /// A length or alignment that the arena cannot serve.
    #[error("a buffer of {bytes} bytes aligned to {align}: {allowed}")]
    Layout {
        /// Bytes asked for.
        bytes: usize,
        /// Alignment asked for, in bytes.
        align: usize,
        /// What is allowed.
        allowed: &'static str,
    },
}

/// What kind of memory the arena got, for the start-up report and statistics.
#[derive(Clone, Debug)]
pub struct MemoryReport {
    /// Size of the arena in bytes.
    pub size_bytes: usize,
    /// Bytes that no buffer holds (what per-core caches keep counts as held).
    pub free_bytes: usize,
    /// The longest free run in bytes.
    pub largest_free_bytes: usize,
    /// The pages behind it.
    pub pages: PageKind,
    /// Whether the pages are locked in memory.
    pub locked: bool,
    /// Why they are not, in words.
    pub lock_error: Option<String>,
}

/// The arena that I/O buffers come from. A clone names the same arena.
#[derive(Clone, Debug)]
pub struct Memory {
    arena: Arc<Arena>,
    backing: hugepage::MemoryOptions,
}

/// The mapped region and its free pages.
#[derive(Debug)]
#[expect(
    clippy::disallowed_types,
    reason = "taken when a buffer is made or a cache refilled, never per I/O"
)]
pub(super) struct Arena {
    region: Region,
    free: Mutex<FreeMap>,
}

impl Memory {
    /// Maps the arena.
    ///
    /// # Errors
    /// [`MemoryError::Unavailable`] for more than there is, and [`MemoryError::Map`] when the
    /// kernel does not give the memory.
    pub fn new(options: &MemoryOptions) -> Result<Self, MemoryError> {
        let bytes = options.size_bytes.max(ALIGN_MAX_BYTES).next_multiple_of(ALIGN_MAX_BYTES);
        check_available(&options.backing, bytes)?;
        let region = Region::map(bytes, &options.backing)
            .map_err(|source| MemoryError::Map { bytes, source })?;
        #[expect(clippy::disallowed_types, reason = "see the field")]
        let free = Mutex::new(FreeMap::new(bytes / PAGE_BYTES));
        Ok(Self { arena: Arc::new(Arena { region, free }), backing: options.backing.clone() })
    }

    /// A small arena of ordinary pages, for tests and tools.
    ///
    /// # Errors
    /// As [`Memory::new`].
    pub fn ordinary(size_bytes: usize) -> Result<Self, MemoryError> {
        let backing = hugepage::MemoryOptions { huge: HugePolicy::Never, ..Default::default() };
        Self::new(&MemoryOptions { size_bytes, backing })
    }

    /// A buffer of `len` bytes (at least 1) that starts at a multiple of 4 KiB.
    ///
    /// The content is whatever an earlier owner left. On a reactor it comes from the core's cache
    /// without a lock when one of that size is there.
    ///
    /// # Errors
    /// [`MemoryError::Exhausted`] when the arena is full, [`MemoryError::Layout`] for length 0.
    pub fn alloc(&self, len: usize) -> Result<DmaBuf, MemoryError> {
        self.alloc_aligned(len, PAGE_BYTES)
    }

    /// A buffer of `len` bytes that starts at a multiple of `align`, a power of two up to 2 MiB.
    ///
    /// # Errors
    /// As [`Memory::alloc`], and [`MemoryError::Layout`] for another alignment.
    pub fn alloc_aligned(&self, len: usize, align: usize) -> Result<DmaBuf, MemoryError> {
        if len == 0 || len > self.arena.region.len() {
            let allowed = "the length is 1 byte up to the size of the engine's memory";
            return Err(MemoryError::Layout { bytes: len, align, allowed });
        }
        if !align.is_power_of_two() || align > ALIGN_MAX_BYTES {
            let allowed = "the alignment is a power of two up to 2 MiB";
            return Err(MemoryError::Layout { bytes: len, align, allowed });
        }
        let align = align.max(PAGE_BYTES);
        let capacity = BufferCache::capacity_for(len);
        if align == PAGE_BYTES
            && let Some(buf) = BufferCache::take(&self.arena, capacity, len)
        {
            return Ok(buf);
        }
        let taken = self.arena.take(capacity, align);
        BufferCache::passed_by(capacity, taken.is_err());
        let base = taken?;
        Ok(DmaBuf::from_arena(Arc::clone(&self.arena), base, capacity, len))
    }

    /// A buffer of `len` zero bytes.
    ///
    /// # Errors
    /// As [`Memory::alloc`].
    pub fn alloc_zeroed(&self, len: usize) -> Result<DmaBuf, MemoryError> {
        let mut buf = self.alloc(len)?;
        buf.fill(0);
        Ok(buf)
    }

    /// A region of its own, of zero bytes, from the same kind of pages: the medium of a memory
    /// device. Every page is there when this returns, which takes time: not for a reactor.
    ///
    /// # Errors
    /// [`MemoryError::Unavailable`] for more than there is, which nobody is made to die for, and
    /// [`MemoryError::Map`] when the kernel does not give the memory.
    pub fn map_region(&self, bytes: usize) -> Result<SharedRegion, MemoryError> {
        check_available(&self.backing, bytes)?;
        let failed = |source| MemoryError::Map { bytes, source };
        let region = Region::map(bytes, &self.backing).map_err(failed)?;
        region.populate(0..region.len()).map_err(failed)?;
        Ok(SharedRegion { region: Arc::new(region), len: bytes })
    }

    /// Has the kernel give every page of the arena now. Takes its time: not for a reactor.
    ///
    /// # Errors
    /// [`MemoryError::Map`] when there are not so many.
    pub fn populate(&self) -> Result<(), MemoryError> {
        let bytes = self.arena.region.len();
        let failed = |source| MemoryError::Map { bytes, source };
        self.arena.region.populate(0..bytes).map_err(failed)
    }

    /// The first byte and the length of the arena, for registration with a device or a ring.
    #[must_use]
    pub fn arena_range(&self) -> (*mut u8, usize) {
        (self.arena.region.as_ptr(), self.arena.region.len())
    }

    /// The arena's addresses for a device that no IOMMU translates for.
    ///
    /// # Errors
    /// As [`IovaMap::new`].
    pub(crate) fn iova_map(&self, mode: IovaMode) -> Result<IovaMap, IovaError> {
        IovaMap::new(&self.arena.region, mode)
    }

    /// What the arena is made of and how full it is.
    #[must_use]
    pub fn report(&self) -> MemoryReport {
        let (free, largest) = self.arena.free_bytes();
        let region = &self.arena.region;
        MemoryReport {
            size_bytes: region.len(),
            free_bytes: free,
            largest_free_bytes: largest,
            pages: region.page_kind(),
            locked: region.locked(),
            lock_error: region.lock_error().map(ToString::to_string),
        }
    }
}

/// Refuses a region larger than the machine can give now, as far as that is known beforehand:
/// populating it would go on until the kernel kills some process.
///
/// A region has one kind of page, so pools of huge pages and ordinary memory do not add up. Where
/// only reserved pages will do nothing is checked: mapping those reserves them or fails at once.
fn check_available(backing: &hugepage::MemoryOptions, bytes: usize) -> Result<(), MemoryError> {
    let pools = || {
        let pools = hugepage::huge_page_stats();
        pools.iter().map(|pool| pool.available() * pool.size_bytes).max().unwrap_or(0)
    };
    let Some(ordinary) = os::available_memory() else { return Ok(()) };
    let available = match backing.huge {
        HugePolicy::Require => return Ok(()),
        HugePolicy::Never => ordinary,
        HugePolicy::Prefer => ordinary.max(pools()),
    };
    if bytes as u64 > available {
        return Err(MemoryError::Unavailable { bytes, available });
    }
    Ok(())
}

impl Arena {
    fn take(&self, bytes: usize, align: usize) -> Result<NonNull<u8>, MemoryError> {
        let mut free = self.lock();
        let page = free.take(bytes / PAGE_BYTES, align / PAGE_BYTES).ok_or_else(|| {
            MemoryError::Exhausted {
                bytes,
                free: free.free_pages() * PAGE_BYTES,
                largest: free.largest_run() * PAGE_BYTES,
            }
        })?;
        let base = self.region.as_ptr().wrapping_add(page * PAGE_BYTES);
        // The region's address is not null, and the page lies inside the region.
        Ok(NonNull::new(base).unwrap_or(NonNull::dangling()))
    }

    pub(super) fn give(&self, base: NonNull<u8>, bytes: usize) {
        let page = (base.as_ptr().addr() - self.region.as_ptr().addr()) / PAGE_BYTES;
        self.lock().give(page, bytes / PAGE_BYTES);
    }

    fn free_bytes(&self) -> (usize, usize) {
        let free = self.lock();
        (free.free_pages() * PAGE_BYTES, free.largest_run() * PAGE_BYTES)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FreeMap> {
        self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Memory that several cores read and write as a medium: the content of a memory device.
///
/// Copies in and out go by raw address. Two cores that touch the same bytes at once get
/// unspecified content in those bytes, as two hosts that write one block of a disk do; memory
/// outside the named range is never touched.
#[derive(Clone, Debug)]
pub struct SharedRegion {
    region: Arc<Region>,
    len: usize,
}

impl SharedRegion {
    /// Length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the region has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pages behind it.
    #[must_use]
    pub fn page_kind(&self) -> PageKind {
        self.region.page_kind()
    }

    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside, "{len} bytes at {offset} reach beyond a region of {} bytes", self.len);
        self.region.as_ptr().wrapping_add(offset)
    }

    /// A range of the region by address, for somebody who keeps a clone of it meanwhile.
    ///
    /// # Panics
    /// When the range reaches beyond the region.
    #[inline(always)]
    #[must_use]
    pub fn io_vec(&self, offset: usize, len: usize) -> IoVec {
        IoVec::new(self.at(offset, len), len)
    }

    /// Copies from the region into the pieces of `iovs`, in order.
    ///
    /// # Safety
    /// Each entry must describe memory that may be written to until this returns.
    ///
    /// # Panics
    /// When the range reaches beyond the region.
    #[inline]
    pub unsafe fn read_into(&self, offset: usize, iovs: &[IoVec]) {
        let mut from = offset;
        for iov in iovs {
            let source = self.at(from, iov.len());
            // SAFETY: `at` checked the source; the caller vouches for the destination; the region
            // is a mapping of its own, so the two do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(source, iov.base(), iov.len()) };
            from += iov.len();
        }
    }

    /// Copies the pieces of `iovs` into the region, in order.
    ///
    /// # Safety
    /// Each entry must describe memory that may be read until this returns.
    ///
    /// # Panics
    /// When the range reaches beyond the region.
    #[inline]
    pub unsafe fn write_from(&self, offset: usize, iovs: &[IoVec]) {
        let mut to = offset;
        for iov in iovs {
            let target = self.at(to, iov.len());
            // SAFETY: `at` checked the target; the caller vouches for the source; the region is a
            // mapping of its own, so the two do not overlap.
            unsafe { std::ptr::copy_nonoverlapping(iov.base(), target, iov.len()) };
            to += iov.len();
        }
    }

    /// Compares the region with the pieces of `iovs`; true when all bytes are equal.
    ///
    /// # Safety
    /// Each entry must describe memory that may be read until this returns.
    ///
    /// # Panics
    /// When the range reaches beyond the region.
    #[must_use]
    pub unsafe fn equals(&self, offset: usize, iovs: &[IoVec]) -> bool {
        let mut from = offset;
        for iov in iovs {
            let ours = self.at(from, iov.len());
            // SAFETY: `at` checked the range.
            let ours = unsafe { std::slice::from_raw_parts(ours, iov.len()) };
            // SAFETY: the caller vouches for the entry; an entry of no bytes may have no address.
            let theirs = unsafe { raw_slice(iov) };
            if ours != theirs {
                return false;
            }
            from += iov.len();
        }
        true
    }

    /// Fills a range with one byte value.
    ///
    /// # Panics
    /// When the range reaches beyond the region.
    pub fn fill(&self, offset: usize, len: usize, value: u8) {
        let target = self.at(offset, len);
        // SAFETY: `at` checked the range.
        unsafe { std::ptr::write_bytes(target, value, len) };
    }

    /// Copies inside the region; the ranges may overlap.
    ///
    /// # Panics
    /// When a range reaches beyond the region.
    pub fn copy_within(&self, from: usize, to: usize, len: usize) {
        let (source, target) = (self.at(from, len), self.at(to, len));
        // SAFETY: `at` checked both ranges.
        unsafe { std::ptr::copy(source, target, len) };
    }

    /// Copies the whole content of `other` that fits to the start of this region.
    pub fn copy_from_region(&self, other: &SharedRegion) {
        let len = self.len.min(other.len);
        // SAFETY: both ranges lie inside their regions, which are different mappings.
        unsafe { std::ptr::copy_nonoverlapping(other.at(0, len), self.at(0, len), len) };
    }

    /// Asks the CPU to bring the first bytes of a range near. A hint: any range is allowed.
    #[inline(always)]
    pub fn prefetch(&self, offset: usize, len: usize) {
        const LINE: usize = 64;
        let base = self.region.as_ptr().wrapping_add(offset);
        let mut at = 0;
        while at < len {
            prefetch_line(base.wrapping_add(at));
            at += LINE;
        }
    }
}

/// The bytes of an entry as a slice.
///
/// # Safety
/// The entry must describe readable memory that nobody writes to while the slice lives.
unsafe fn raw_slice<'a>(iov: &IoVec) -> &'a [u8] {
    if iov.is_empty() {
        return &[];
    }
    // SAFETY: the caller vouches for it.
    unsafe { std::slice::from_raw_parts(iov.base(), iov.len()) }
}

#[inline(always)]
fn prefetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint; it never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_return() {
        let memory = Memory::ordinary(4 << 20).unwrap();
        let before = memory.report().free_bytes;
        {
            let one = memory.alloc(512).unwrap();
            let two = memory.alloc_aligned(64 << 10, 1 << 20).unwrap();
            assert_eq!(one.as_ptr().addr() % PAGE_BYTES, 0);
            assert_eq!(two.as_ptr().addr() % (1 << 20), 0);
            assert_eq!((one.len(), two.len()), (512, 64 << 10));
        }
        assert_eq!(memory.report().free_bytes, before);
    }

    #[test]
    fn refusals_name_the_numbers() {
        let memory = Memory::ordinary(2 << 20).unwrap();
        assert!(matches!(memory.alloc(0), Err(MemoryError::Layout { bytes: 0, .. })));
        assert!(matches!(memory.alloc_aligned(1, 3), Err(MemoryError::Layout { align: 3, .. })));
        let _all = memory.alloc(2 << 20).unwrap();
        let refused = memory.alloc(4096).unwrap_err().to_string();
        assert!(refused.contains("4096 bytes") && refused.contains("-s MIB"), "{refused}");
    }

    #[test]
    fn a_region_beyond_the_machine_is_refused_before_it_is_mapped() {
        for huge in [HugePolicy::Never, HugePolicy::Prefer] {
            let backing = hugepage::MemoryOptions { huge, ..Default::default() };
            let sized = |size_bytes| MemoryOptions { size_bytes, backing: backing.clone() };
            let error = Memory::new(&sized(1 << 50)).unwrap_err();
            assert!(matches!(error, MemoryError::Unavailable { bytes: 0x4_0000_0000_0000, .. }));
            let memory = Memory::new(&sized(2 << 20)).unwrap();
            let error = memory.map_region(1 << 50).unwrap_err();
            assert!(matches!(error, MemoryError::Unavailable { bytes, available }
                if bytes == 1 << 50 && available > 0 && available < 1 << 50));
            let words = error.to_string();
            assert!(words.contains("1125899906842624 bytes are wanted"), "{words}");
            assert!(memory.map_region(1 << 20).is_ok());
        }
    }

    #[test]
    fn a_region_checks_its_end() {
        let memory = Memory::ordinary(2 << 20).unwrap();
        let region = memory.map_region(1 << 20).unwrap();
        region.fill((1 << 20) - 8, 8, 7);
        let beyond = std::panic::AssertUnwindSafe(|| region.fill((1 << 20) - 8, 9, 7));
        let over = std::panic::catch_unwind(beyond);
        assert!(over.is_err());
        let mut out = [0u8; 8];
        let iov = [IoVec::new(out.as_mut_ptr(), 8)];
        // SAFETY: `out` outlives the copy.
        unsafe { region.read_into((1 << 20) - 8, &iov) };
        assert_eq!(out, [7; 8]);
    }
}
