//! A piece of memory by address and length, laid out as the kernel's `struct iovec`.

use std::ptr;

/// One entry of a scatter-gather list: where, and how many bytes.
///
/// A description of memory, not a claim on it: the memory belongs to the operation that carries
/// the entry. The layout is that of `struct iovec` (readv(2)).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IoVec {
    base: *mut u8,
    len: usize,
}

const _: () = assert!(size_of::<IoVec>() == size_of::<nix::libc::iovec>());
const _: () = assert!(align_of::<IoVec>() == align_of::<nix::libc::iovec>());

impl IoVec {
    /// An entry of no bytes.
    pub const EMPTY: IoVec = IoVec { base: ptr::null_mut(), len: 0 };

    /// The entry for `len` bytes at `base`.
    #[inline(always)]
    #[must_use]
    pub const fn new(base: *mut u8, len: usize) -> Self {
        Self { base, len }
    }

    /// The address of the first byte.
    #[inline(always)]
    #[must_use]
    pub const fn base(&self) -> *mut u8 {
        self.base
    }

    /// The number of bytes.
    #[inline(always)]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry without its first `skip` bytes; at most all of them are skipped.
    #[inline(always)]
    #[must_use]
    pub const fn advanced(&self, skip: usize) -> Self {
        let skip = if skip < self.len { skip } else { self.len };
        Self { base: self.base.wrapping_add(skip), len: self.len - skip }
    }

    /// The entry cut to at most `len` bytes.
    #[inline(always)]
    #[must_use]
    pub const fn truncated(&self, len: usize) -> Self {
        Self { base: self.base, len: if len < self.len { len } else { self.len } }
    }
}

/// The total number of bytes of a scatter-gather list.
#[inline]
#[must_use]
pub fn total_len(iovs: &[IoVec]) -> usize {
    iovs.iter().map(IoVec::len).sum()
}
