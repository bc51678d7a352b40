//! Facts about the machine and the process, for options and reports.

pub use spdk_rs_sys::file::FileError;
pub use spdk_rs_sys::hugepage::{
    HugePageStats, HugePool, HugePools, PageKind, ReserveError, base_page_size, huge_page_stats,
};
pub use spdk_rs_sys::tsc;
