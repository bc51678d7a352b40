//! The device below a pool, in blocks of 4 KiB.

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{DeviceEvent, IoBuf, IoCompletion, IoHandle};
use spdk_rs::env::DmaBuf;
use spdk_rs::reactor::yield_now;

use super::layout::BLOCK_BYTES;
use super::{PoolError, memory};

/// Reads, writes and flushes whole blocks.
pub(super) struct Device {
    handle: IoHandle,
    /// Blocks of the device per block of the pool.
    ratio: u64,
}

impl Device {
    /// The device behind a handle.
    ///
    /// # Errors
    /// When its blocks do not fit into 4 KiB.
    pub(super) fn new(handle: IoHandle) -> Result<Self, PoolError> {
        let block_len = u64::from(handle.bdev().info().block_len);
        let ratio = BLOCK_BYTES as u64 / block_len.max(1);
        if ratio == 0 || ratio * block_len != BLOCK_BYTES as u64 {
            return Err(PoolError::Parameter {
                parameter: "block size of the device",
                value: format!("{block_len} bytes"),
                allowed: "512, 1024, 2048 or 4096 bytes".to_owned(),
            });
        }
        Ok(Self { handle, ratio })
    }

    pub(super) fn name(&self) -> &str {
        self.handle.bdev().name()
    }

    /// Tells whoever watches the device that what is kept on it takes no more changes.
    pub(super) fn tell_read_only(&self, user: &str, reason: &str) {
        let (user, reason) = (user.into(), reason.into());
        self.handle.bdev().notify(&DeviceEvent::ReadOnly { user, reason });
    }

    /// The present size in blocks of 4 KiB.
    pub(super) fn blocks(&self) -> u64 {
        self.handle.num_blocks() / self.ratio
    }

    /// A buffer of whole blocks, as soon as there is one.
    pub(super) async fn buffer(&self, blocks: u64) -> Result<DmaBuf, NvmeStatus> {
        let bytes = usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(BLOCK_BYTES);
        memory::buffer(|| self.handle.dma_malloc(bytes).ok()).await
    }

    /// Waits until the core can take one more I/O.
    async fn slot(&self) {
        while !self.handle.has_slot() {
            yield_now().await;
        }
    }

    /// Reads as many blocks as fit the buffer.
    pub(super) async fn read(&self, address: u64, buf: DmaBuf) -> (NvmeStatus, DmaBuf) {
        self.slot().await;
        let blocks = (buf.len() / BLOCK_BYTES) as u64 * self.ratio;
        parts(self.handle.read(buf, address * self.ratio, blocks).await)
    }

    /// Writes a buffer of whole blocks.
    pub(super) async fn write(&self, address: u64, buf: DmaBuf) -> (NvmeStatus, DmaBuf) {
        self.slot().await;
        let blocks = (buf.len() / BLOCK_BYTES) as u64 * self.ratio;
        parts(self.handle.write(buf, address * self.ratio, blocks).await)
    }

    /// Writes bytes, a multiple of a block.
    pub(super) async fn write_bytes(&self, address: u64, bytes: &[u8]) -> Result<(), PoolError> {
        let error = |status| PoolError::device("write", address, status);
        let mut buf = self.buffer((bytes.len() / BLOCK_BYTES) as u64).await.map_err(error)?;
        buf.as_mut_slice().copy_from_slice(bytes);
        self.write(address, buf).await.0.ok().map_err(error)
    }

    /// Reads blocks into memory of their own.
    pub(super) async fn read_blocks(&self, address: u64, blocks: u64) -> Result<DmaBuf, PoolError> {
        let error = |status| PoolError::device("read", address, status);
        let buf = self.buffer(blocks).await.map_err(error)?;
        let (status, buf) = self.read(address, buf).await;
        status.ok().map(|()| buf).map_err(error)
    }

    /// Fills blocks with zeroes.
    pub(super) async fn zero(&self, address: u64, blocks: u64) -> Result<(), PoolError> {
        self.slot().await;
        let done = self.handle.write_zeroes(address * self.ratio, blocks * self.ratio).await;
        done.status.ok().map_err(|status| PoolError::device("write of zeroes", address, status))
    }

    /// Brings everything that was written to the medium.
    pub(super) async fn flush(&self) -> NvmeStatus {
        self.slot().await;
        self.handle.flush().await.status
    }
}

fn parts(done: IoCompletion) -> (NvmeStatus, DmaBuf) {
    match done.buf {
        IoBuf::One(buf) => (done.status, buf),
        IoBuf::None | IoBuf::List(_) | IoBuf::Lent(_) => {
            unreachable!("a buffer that went in as one comes back as one")
        }
    }
}
