//! The state of the kernel's huge-page pools.

use once_cell::sync::OnceCell;

use crate::sysfs;

const POOL_DIR: &str = "/sys/kernel/mm/hugepages";

/// The state of one pool of reserved huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePageStats {
    /// Bytes of a page.
    pub size_bytes: u64,
    /// Pages in the pool.
    pub total: u64,
    /// Pages that nobody has touched yet.
    pub free: u64,
    /// Pages of [`Self::free`] that are promised to a mapping.
    pub reserved: u64,
}

impl HugePageStats {
    /// Pages that a new mapping can have.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.free.saturating_sub(self.reserved)
    }
}

/// The pools of the machine, smallest pages first; empty where the kernel has none or hides them.
#[must_use]
pub fn huge_page_stats() -> Vec<HugePageStats> {
    let Ok(entries) = std::fs::read_dir(POOL_DIR) else { return Vec::new() };
    let mut pools: Vec<HugePageStats> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name();
            let kib = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            pool(kib.parse().ok()?)
        })
        .collect();
    pools.sort_by_key(|pool| pool.size_bytes);
    pools
}

/// The pool with pages of `kib` KiB.
pub(super) fn pool(kib: u64) -> Option<HugePageStats> {
    let dir = format!("{POOL_DIR}/hugepages-{kib}kB");
    Some(HugePageStats {
        size_bytes: kib * 1024,
        total: sysfs::read_u64(format!("{dir}/nr_hugepages"))?,
        free: sysfs::read_u64(format!("{dir}/free_hugepages"))?,
        reserved: sysfs::read_u64(format!("{dir}/resv_hugepages"))?,
    })
}

/// A pool's state for an error text.
pub(super) fn describe(stats: Option<HugePageStats>) -> String {
    match stats {
        Some(stats) => format!("{} of {} pages available", stats.available(), stats.total),
        None => "the kernel shows no such pool".to_owned(),
    }
}

/// Bytes of an ordinary page.
#[must_use]
pub fn base_page_size() -> usize {
    static SIZE: OnceCell<usize> = OnceCell::new();
    *SIZE.get_or_init(|| {
        // SAFETY: the call takes a constant and returns a number.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        // POSIX makes the value mandatory; 4 KiB is the smallest page of every supported processor.
        usize::try_from(size).unwrap_or(4096)
    })
}

/// Whether the kernel gives transparent huge pages to memory that asks for them.
pub(super) fn transparent_pages_enabled() -> bool {
    sysfs::read_text("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_some_and(|modes| !modes.contains("[never]"))
}
