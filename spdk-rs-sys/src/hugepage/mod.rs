//! Memory for I/O buffers: huge pages where there are some, ordinary pinned pages where not.
//!
//! [`Region::map`] tries, in this order, 1 GiB pages, 2 MiB pages (both from the kernel's reserved
//! pools, see the kernel's hugetlbpage document), and ordinary memory that the kernel may back
//! with transparent huge pages. What was chosen, and why nothing better, stays readable on the
//! region, so that a start-up report can say it.
//!
//! Invariants:
//!
//! * A region's address and length never change; its memory reads as zero until written.
//! * Mapping touches no page: the cost does not depend on the length.
//! * Reserved huge pages are reserved when they are mapped, so running out of them is an error of
//!   [`Region::map`] and not a `SIGBUS` later. A cgroup's `hugetlb` limit is the one exception:
//!   it counts pages at first touch, and [`Region::populate`] turns that into an error, too.

mod region;
mod reserve;
mod stats;

use std::io;
use std::path::PathBuf;

pub use region::{Region, zeroed_region};
pub use reserve::{HugePool, HugePools, ReserveError};
pub use stats::{HugePageStats, base_page_size, huge_page_stats};

pub use crate::os::memlock_limit;
use crate::os::{Limit, limit_text};

/// Bytes of a small huge page.
pub const HUGE_2M: usize = 2 << 20;
/// Bytes of a large huge page.
pub const HUGE_1G: usize = 1 << 30;

/// Whether reserved huge pages are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePolicy {
    /// Use them when there are enough, ordinary memory otherwise.
    #[default]
    Prefer,
    /// Leave the reserved pools alone; transparent huge pages are still asked for.
    Never,
    /// Fail when there are not enough.
    Require,
}

/// Where the memory of a region comes from.
#[derive(Clone, Debug, Default)]
pub struct MemoryOptions {
    /// Whether reserved huge pages are used.
    pub huge: HugePolicy,
    /// A mounted hugetlbfs to take the pages from, instead of anonymous ones. Its page size
    /// decides that of the region.
    pub huge_dir: Option<PathBuf>,
    /// The NUMA node that the memory should come from. The kernel may take it elsewhere when the
    /// node has none left.
    pub numa_node: Option<u32>,
}

/// What kind of pages a region has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Reserved pages of 1 GiB.
    Huge1G,
    /// Reserved pages of 2 MiB.
    Huge2M,
    /// Ordinary memory that the kernel backs with transparent huge pages as far as it can.
    Transparent,
    /// Ordinary memory in pages of the base size.
    Base,
}

impl PageKind {
    /// Bytes up to which memory of this kind is certainly contiguous.
    #[must_use]
    pub fn page_bytes(self) -> usize {
        match self {
            Self::Huge1G => HUGE_1G,
            Self::Huge2M => HUGE_2M,
            Self::Transparent | Self::Base => base_page_size(),
        }
    }

    /// Whether the pages come from a reserved pool; such pages are never moved or swapped.
    #[must_use]
    pub fn is_reserved(self) -> bool {
        matches!(self, Self::Huge1G | Self::Huge2M)
    }
}

impl std::fmt::Display for PageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Huge1G => "1 GiB huge pages",
            Self::Huge2M => "2 MiB huge pages",
            Self::Transparent => "ordinary memory with transparent huge pages",
            Self::Base => "ordinary memory in base pages",
        })
    }
}

/// Why memory could not be had, placed, populated or locked.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A region without a byte was asked for.
    #[error("a memory region must have at least one byte")]
    ZeroLength,
    /// The length cannot be rounded up to whole pages.
    #[error("a memory region of {len} bytes is beyond the address space")]
    TooLarge {
        /// The length asked for, in bytes.
        len: usize,
    },
    /// The kernel has no ordinary memory of that size.
    #[error("cannot map {len} bytes of ordinary memory")]
    Map {
        /// The length asked for, in bytes.
        len: usize,
        /// The error of mmap(2).
        #[source]
        source: io::Error,
    },
    /// The pool of reserved huge pages is too small.
    #[error(
        "cannot map {len} bytes of {page_kib} KiB huge pages ({}); reserve pages with \
         `echo {} > /sys/kernel/mm/hugepages/hugepages-{page_kib}kB/nr_hugepages`",
        stats::describe(*.stats), pages_wanted(*.len, *.page_kib, *.stats)
    )]
    HugeUnavailable {
        /// The length asked for, in bytes.
        len: usize,
        /// Size of the pages in KiB.
        page_kib: usize,
        /// The pool's state, unless sysfs is hidden.
        stats: Option<HugePageStats>,
        /// The error of mmap(2).
        #[source]
        source: io::Error,
    },
    /// The directory for huge pages cannot be used.
    #[error("cannot create a file in the huge-page directory {dir:?}")]
    HugeDir {
        /// The directory as given.
        dir: PathBuf,
        /// The error of the file system.
        #[source]
        source: io::Error,
    },
    /// The directory for huge pages is on another kind of file system.
    #[error("{dir:?} is not on a hugetlbfs; mount one with `mount -t hugetlbfs none {}`", .dir.display())]
    NotHugetlbfs {
        /// The directory as given.
        dir: PathBuf,
    },
    /// The hugetlbfs has pages of a size that is not supported.
    #[error("the hugetlbfs {dir:?} has pages of {page_bytes} bytes; allowed: 2 MiB and 1 GiB")]
    HugePageSize {
        /// The directory as given.
        dir: PathBuf,
        /// The size of its pages in bytes.
        page_bytes: u64,
    },
    /// The machine has no such NUMA node.
    #[error("NUMA node {node} does not exist (present: {present:?})")]
    NoSuchNode {
        /// The node asked for.
        node: u32,
        /// The nodes that the machine has.
        present: Vec<u32>,
    },
    /// The kernel refused to place the memory on a node.
    #[error("cannot place memory on NUMA node {node}")]
    Placement {
        /// The node asked for.
        node: u32,
        /// The error of mbind(2).
        #[source]
        source: io::Error,
    },
    /// A part of a region that it does not have.
    #[error("bytes {start}..{end} are outside the memory region of {len} bytes")]
    OutOfRange {
        /// First byte asked for.
        start: usize,
        /// End of the bytes asked for.
        end: usize,
        /// Length of the region in bytes.
        len: usize,
    },
    /// The kernel could not give pages to a range of a region.
    #[error("cannot populate {len} bytes of memory")]
    Populate {
        /// Bytes of the range.
        len: usize,
        /// The error of madvise(2); `InvalidInput` on a kernel before 5.14.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to pin memory.
    #[error("cannot lock {len} bytes of memory ({}); raise `ulimit -l` or grant CAP_IPC_LOCK", limit_text(*.limit))]
    Lock {
        /// Bytes of the range.
        len: usize,
        /// The process's limit, unless it could not be read.
        limit: Option<Limit>,
        /// The error of mlock2(2).
        #[source]
        source: io::Error,
    },
}

/// How many pages the pool needs in all for the request to succeed.
fn pages_wanted(len: usize, page_kib: usize, stats: Option<HugePageStats>) -> u64 {
    let needed = len.div_ceil(page_kib * 1024) as u64;
    stats.map_or(needed, |stats| stats.total + needed.saturating_sub(stats.available()))
}

#[cfg(test)]
mod tests;
