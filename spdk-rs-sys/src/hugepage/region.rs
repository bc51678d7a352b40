//! [`Region`]: one mapping of memory and what is known of it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use super::stats::{self, base_page_size};
use super::{HUGE_1G, HUGE_2M, HugePolicy, MemoryError, MemoryOptions, PageKind};
use crate::{cpu, os};

/// A mapping of zeroed memory, unmapped when dropped.
///
/// The region only hands out a raw pointer. Whoever dereferences it answers for the usual rules:
/// within [`Region::len`], before the drop, and without racing another access.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    kind: PageKind,
    lock_error: Option<MemoryError>,
    locked: bool,
    fallback_reason: Option<MemoryError>,
    placement_error: Option<MemoryError>,
}

// SAFETY: the region owns its mapping, which belongs to the process and to no thread.
unsafe impl Send for Region {}
// SAFETY: no method reads or writes the memory through a shared reference; system calls on the
// mapping may run concurrently.
unsafe impl Sync for Region {}

impl Region {
    /// Maps at least `len` bytes, rounded up to whole pages of the kind that is used.
    ///
    /// The memory is pinned as far as the process may: reserved huge pages always are, ordinary
    /// pages when `RLIMIT_MEMLOCK` or `CAP_IPC_LOCK` permits. A refusal is no error; see
    /// [`Region::locked`] and [`Region::lock_error`].
    ///
    /// # Errors
    ///
    /// [`MemoryError`]; with [`HugePolicy::Prefer`] a lack of huge pages is none, but an unusable
    /// `huge_dir` is.
    pub fn map(len: usize, options: &MemoryOptions) -> Result<Self, MemoryError> {
        let mut region = Self::map_unlocked(len, options)?;
        if region.kind.is_reserved() {
            region.locked = true;
        } else {
            match region.lock(0..region.len) {
                Ok(()) => region.locked = true,
                Err(error) => region.lock_error = Some(error),
            }
        }
        Ok(region)
    }

    /// As [`Region::map`] without pinning ordinary memory.
    fn map_unlocked(len: usize, options: &MemoryOptions) -> Result<Self, MemoryError> {
        if len == 0 {
            return Err(MemoryError::ZeroLength);
        }
        check_node(options.numa_node)?;
        let mut region = match map_huge(len, options) {
            Ok(Some(region)) => region,
            Ok(None) => map_ordinary(len)?,
            Err(error @ MemoryError::HugeUnavailable { .. })
                if options.huge == HugePolicy::Prefer =>
            {
                let mut region = map_ordinary(len)?;
                region.fallback_reason = Some(error);
                region
            }
            Err(error) => return Err(error),
        };
        region.advise_whole(libc::MADV_DONTFORK);
        if let Some(node) = options.numa_node {
            region.placement_error = region.place(node).err();
        }
        Ok(region)
    }

    /// The first byte; aligned to 2 MiB at least.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The length in bytes: what was asked for, rounded up to whole pages.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The kind of pages.
    #[must_use]
    pub fn page_kind(&self) -> PageKind {
        self.kind
    }

    /// Whether every page, once touched, stays in memory.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.locked
    }

    /// Why the memory is not pinned.
    #[must_use]
    pub fn lock_error(&self) -> Option<&MemoryError> {
        self.lock_error.as_ref()
    }

    /// Why there are no reserved huge pages although they were preferred.
    #[must_use]
    pub fn fallback_reason(&self) -> Option<&MemoryError> {
        self.fallback_reason.as_ref()
    }

    /// Why the memory is not on the NUMA node that was asked for.
    #[must_use]
    pub fn placement_error(&self) -> Option<&MemoryError> {
        self.placement_error.as_ref()
    }

    /// Gives pages to a range now, so that the first access does not fault.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfRange`], or [`MemoryError::Populate`] when the kernel has no pages or
    /// is older than 5.14.
    pub fn populate(&self, range: Range<usize>) -> Result<(), MemoryError> {
        let (start, len) = self.page_span(range)?;
        if len == 0 {
            return Ok(());
        }
        loop {
            // SAFETY: the span lies inside this mapping; populating changes no content.
            let result = unsafe { libc::madvise(start.cast(), len, libc::MADV_POPULATE_WRITE) };
            if result == 0 {
                return Ok(());
            }
            let source = io::Error::last_os_error();
            if source.kind() != io::ErrorKind::Interrupted {
                return Err(MemoryError::Populate { len, source });
            }
        }
    }

    /// Pins a range: its pages stay in memory from their first touch on, see mlock2(2) with
    /// `MLOCK_ONFAULT`. No page is touched now.
    ///
    /// # Errors
    ///
    /// [`MemoryError::OutOfRange`], or [`MemoryError::Lock`] naming the limit.
    pub fn lock(&self, range: Range<usize>) -> Result<(), MemoryError> {
        let (start, len) = self.page_span(range)?;
        if len == 0 || self.kind.is_reserved() {
            return Ok(());
        }
        // SAFETY: the span lies inside this mapping; locking changes no content.
        let result = unsafe { libc::mlock2(start.cast(), len, MLOCK_ONFAULT) };
        if result == 0 {
            return Ok(());
        }
        let source = io::Error::last_os_error();
        Err(MemoryError::Lock { len, limit: os::memlock_limit().ok(), source })
    }

    /// The pages that hold a range of bytes.
    fn page_span(&self, range: Range<usize>) -> Result<(*mut u8, usize), MemoryError> {
        if range.start > range.end || range.end > self.len {
            let (start, end) = (range.start, range.end);
            return Err(MemoryError::OutOfRange { start, end, len: self.len });
        }
        if range.is_empty() {
            return Ok((self.as_ptr(), 0));
        }
        let page = self.kind.page_bytes();
        let first = range.start / page * page;
        let end = range.end.next_multiple_of(page);
        Ok((self.as_ptr().wrapping_add(first), end - first))
    }

    /// Tells the kernel something about the whole region; a refusal loses an optimisation only.
    fn advise_whole(&self, advice: i32) -> bool {
        // SAFETY: the range is this mapping; the advices used here change no content.
        unsafe { libc::madvise(self.as_ptr().cast(), self.len, advice) == 0 }
    }

    /// Asks for pages from a NUMA node, see mbind(2).
    ///
    /// The policy is a preference and no binding: a bound huge page that the node does not have
    /// would be a `SIGBUS` at its first touch.
    fn place(&self, node: u32) -> Result<(), MemoryError> {
        if cpu::numa_nodes().len() < 2 {
            return Ok(());
        }
        let mut mask = [0_u64; NODES_MAX / 64];
        mask[node as usize / 64] |= 1 << (node % 64);
        // SAFETY: the range is this mapping, and the mask has the bits that its length states
        // (the kernel reads one bit less than the number passed).
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.as_ptr(),
                self.len,
                libc::MPOL_PREFERRED,
                mask.as_ptr(),
                NODES_MAX,
                0,
            )
        };
        if result == 0 {
            return Ok(());
        }
        Err(MemoryError::Placement { node, source: io::Error::last_os_error() })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned by this value, and whoever got its pointer answers for not
        // using it beyond the value's life.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Maps zeroed ordinary memory that is neither reserved nor pinned, for contents that are no
/// target of a device.
///
/// # Errors
///
/// [`MemoryError::ZeroLength`], [`MemoryError::TooLarge`] or [`MemoryError::Map`].
pub fn zeroed_region(len: usize) -> Result<Region, MemoryError> {
    let options = MemoryOptions { huge: HugePolicy::Never, ..MemoryOptions::default() };
    Region::map_unlocked(len, &options)
}

/// `MLOCK_ONFAULT` of mlock2(2).
const MLOCK_ONFAULT: u32 = 1;
/// Bits in the node mask passed to mbind(2); the kernel's largest `MAX_NUMNODES` is 1024.
const NODES_MAX: usize = 1024;

/// Refuses a NUMA node that the machine does not have.
fn check_node(node: Option<u32>) -> Result<(), MemoryError> {
    let Some(node) = node else { return Ok(()) };
    let present: Vec<u32> = cpu::numa_nodes().iter().map(|node| node.id).collect();
    // A kernel without NUMA shows no node; its whole memory is node 0.
    let known = if present.is_empty() { node == 0 } else { present.contains(&node) };
    if known && (node as usize) < NODES_MAX {
        Ok(())
    } else {
        Err(MemoryError::NoSuchNode { node, present })
    }
}

/// Maps reserved huge pages; `None` when the policy leaves them alone.
fn map_huge(len: usize, options: &MemoryOptions) -> Result<Option<Region>, MemoryError> {
    if options.huge == HugePolicy::Never {
        return Ok(None);
    }
    if let Some(dir) = &options.huge_dir {
        return map_huge_file(len, dir).map(Some);
    }
    if len.is_multiple_of(HUGE_1G)
        && let Ok(region) = map_huge_anonymous(len, PageKind::Huge1G)
    {
        return Ok(Some(region));
    }
    map_huge_anonymous(len, PageKind::Huge2M).map(Some)
}

/// Maps anonymous pages of a reserved pool.
fn map_huge_anonymous(len: usize, kind: PageKind) -> Result<Region, MemoryError> {
    let size_flag = if kind == PageKind::Huge1G { libc::MAP_HUGE_1GB } else { libc::MAP_HUGE_2MB };
    let rounded = round_up(len, kind.page_bytes())?;
    // MAP_NORESERVE is left out on purpose: without it the pool promises the pages now.
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | size_flag;
    let start = mmap(rounded, flags, -1).map_err(|source| unavailable(len, kind, source))?;
    Ok(Region::new(start, rounded, kind))
}

/// Maps a file on a hugetlbfs and unlinks it at once, so that no crash leaves pages behind.
fn map_huge_file(len: usize, dir: &Path) -> Result<Region, MemoryError> {
    let dir_error = |source| MemoryError::HugeDir { dir: dir.to_owned(), source };
    let kind = hugetlbfs_kind(dir)?;
    let rounded = round_up(len, kind.page_bytes())?;
    let file = unlinked_file(dir).map_err(dir_error)?;
    let failed = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENOMEM | libc::ENOSPC) => unavailable(len, kind, source),
        _ => dir_error(source),
    };
    file.set_len(rounded as u64).map_err(failed)?;
    let start = mmap(rounded, libc::MAP_SHARED, file.as_raw_fd()).map_err(failed)?;
    Ok(Region::new(start, rounded, kind))
}

/// The page size of a hugetlbfs, from statfs(2).
fn hugetlbfs_kind(dir: &Path) -> Result<PageKind, MemoryError> {
    let path = CString::new(dir.as_os_str().as_bytes())
        .map_err(|error| MemoryError::HugeDir { dir: dir.to_owned(), source: error.into() })?;
    // SAFETY: all-zero is a valid value of this plain structure of integers.
    let mut info: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is zero-terminated and `info` is a valid structure that the call fills.
    let result = unsafe { libc::statfs(path.as_ptr(), &raw mut info) };
    if result != 0 {
        let source = io::Error::last_os_error();
        return Err(MemoryError::HugeDir { dir: dir.to_owned(), source });
    }
    if info.f_type != libc::HUGETLBFS_MAGIC {
        return Err(MemoryError::NotHugetlbfs { dir: dir.to_owned() });
    }
    let page_bytes = u64::try_from(info.f_bsize).unwrap_or(0);
    match usize::try_from(page_bytes) {
        Ok(HUGE_2M) => Ok(PageKind::Huge2M),
        Ok(HUGE_1G) => Ok(PageKind::Huge1G),
        _ => Err(MemoryError::HugePageSize { dir: dir.to_owned(), page_bytes }),
    }
}

/// Creates a file and removes its name; its space goes back when the last mapping goes.
fn unlinked_file(dir: &Path) -> io::Result<File> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".io-engine-{}-{number}", std::process::id()));
    let name = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    // SAFETY: `name` is a zero-terminated path.
    let fd = unsafe { libc::open(name.as_ptr(), flags, 0o600) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nothing else owns it.
    let file = unsafe { File::from_raw_fd(fd) };
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Maps ordinary memory on a 2 MiB boundary and asks for transparent huge pages.
fn map_ordinary(len: usize) -> Result<Region, MemoryError> {
    let page = base_page_size();
    let rounded = round_up(len, page)?;
    // 2 MiB more than needed surely holds an aligned start; the rest is given back.
    let padded = rounded.checked_add(HUGE_2M).ok_or(MemoryError::TooLarge { len })?;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let raw = mmap(padded, flags, -1).map_err(|source| MemoryError::Map { len, source })?;
    let head = raw.as_ptr().align_offset(HUGE_2M);
    let start = raw.as_ptr().wrapping_add(head);
    let tail = padded - head - rounded;
    unmap_part(raw.as_ptr(), head);
    unmap_part(start.wrapping_add(rounded), tail);
    // `start` lies inside the mapping, so it is not null.
    let start = NonNull::new(start).ok_or(MemoryError::TooLarge { len })?;
    let mut region = Region::new(start, rounded, PageKind::Base);
    if rounded >= HUGE_2M
        && region.advise_whole(libc::MADV_HUGEPAGE)
        && stats::transparent_pages_enabled()
    {
        region.kind = PageKind::Transparent;
    }
    Ok(region)
}

/// Gives back a part of a fresh mapping that nobody has a pointer to.
fn unmap_part(start: *mut u8, len: usize) {
    if len > 0 {
        // SAFETY: the part belongs to a mapping that was just made here and is not used.
        unsafe { libc::munmap(start.cast(), len) };
    }
}

/// Maps readable and writable memory at an address of the kernel's choice.
fn mmap(len: usize, flags: i32, fd: RawFd) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: without a wanted address the call only makes a new mapping.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

fn round_up(len: usize, page: usize) -> Result<usize, MemoryError> {
    len.checked_next_multiple_of(page)
        .filter(|rounded| isize::try_from(*rounded).is_ok())
        .ok_or(MemoryError::TooLarge { len })
}

fn unavailable(len: usize, kind: PageKind, source: io::Error) -> MemoryError {
    let page_kib = kind.page_bytes() / 1024;
    MemoryError::HugeUnavailable { len, page_kib, stats: stats::pool(page_kib as u64), source }
}

impl Region {
    fn new(start: NonNull<u8>, len: usize, kind: PageKind) -> Self {
        Self {
            start,
            len,
            kind,
            lock_error: None,
            locked: false,
            fallback_reason: None,
            placement_error: None,
        }
    }
}
