//! Buffers for I/O when there may be none at the moment.

use std::time::Duration;

use spdk_rs::NvmeStatus;
use spdk_rs::env::DmaBuf;
use spdk_rs::reactor::sleep;

/// How often a buffer is asked for when others have all the memory, and how long is waited between:
/// a second in all.
const ATTEMPTS: usize = 1000;
const PAUSE: Duration = Duration::from_millis(1);

/// A buffer; when there is none, others give theirs back soon. That memory is short for a moment
/// is no reason to fail an I/O, let alone to stop a pool.
///
/// # Errors
/// [`NvmeStatus::NOT_READY`] when there was none for a second.
pub(super) async fn buffer(alloc: impl Fn() -> Option<DmaBuf>) -> Result<DmaBuf, NvmeStatus> {
    for _ in 0..ATTEMPTS {
        if let Some(buf) = alloc() {
            return Ok(buf);
        }
        sleep(PAUSE).await;
    }
    Err(NvmeStatus::NOT_READY)
}
