//! One buffer at a time, limits of the range, reset and copy.

use anyhow::{Result, ensure};
use spdk_rs::NvmeStatus;

use crate::fixture::Dut;

/// The size that once was the largest I/O of many devices.
pub(super) const LARGE_BYTES: usize = 128 << 10;

async fn write_read(dut: &Dut, offset: u64, blocks: u64) -> Result<()> {
    // What is there before is something else, so that a write that does nothing is seen.
    dut.write(offset, blocks, 1).await?;
    dut.write(offset, blocks, 2).await?;
    dut.expect(offset, blocks, 2).await
}

/// One block.
pub async fn write_read_block(dut: Dut) -> Result<()> {
    dut.write(0, 3, 9).await?;
    write_read(&dut, 1, 1).await?;
    let around = dut.pattern(3, 9)?;
    let found = dut.read(0, 3).await?;
    let len = dut.block_len;
    dut.same(0, &found.as_slice()[..len], &around.as_slice()[..len])?;
    dut.same(2, &found.as_slice()[2 * len..], &around.as_slice()[2 * len..])
}

/// Eight blocks.
pub async fn write_read_8_blocks(dut: Dut) -> Result<()> {
    write_read(&dut, 0, 8).await
}

/// More than 128 KiB.
pub async fn write_read_size_over_128k(dut: Dut) -> Result<()> {
    write_read(&dut, 5, dut.blocks_of(LARGE_BYTES) + 8).await
}

/// A length that is not a multiple of the block is refused, and nothing is written.
pub async fn write_read_invalid_size(dut: Dut) -> Result<()> {
    dut.write(0, 16, 1).await?;
    for bytes in [0x1015, dut.block_len - 1, dut.block_len + 1] {
        for blocks in [dut.blocks_of(bytes), dut.blocks_of(bytes) - 1] {
            let mut buf = dut.handle.dma_malloc(bytes)?;
            buf.fill(0x77);
            let done = dut.handle.writev_blocks_async(buf.into(), 0, blocks).await;
            let refused = NvmeStatus::DATA_SGL_LENGTH_INVALID;
            ensure!(done.status == refused, "write of {bytes} bytes: {}", done.status);
            ensure!(done.buf.len() == bytes, "the refused buffer did not come back");
            let done = dut.handle.readv_blocks_async(done.buf, 0, blocks).await;
            ensure!(done.status == refused, "read of {bytes} bytes: {}", done.status);
        }
    }
    dut.expect(0, 16, 1).await
}

/// The last blocks of the device.
pub async fn write_read_offset_nbytes_equals_size_of_blockdev(dut: Dut) -> Result<()> {
    write_read(&dut, dut.num_blocks - 1, 1).await?;
    write_read(&dut, dut.num_blocks - 8, 8).await
}

/// One block too far; the blocks before the end stay as they are.
pub async fn write_read_offset_nbytes_beyond_size_of_blockdev(dut: Dut) -> Result<()> {
    let end = dut.num_blocks;
    dut.write(end - 8, 8, 1).await?;
    for (offset, blocks) in [(end - 7, 8), (end - 1, 2), (end, 1), (0, end + 1)] {
        refused_beyond_end(&dut, offset, blocks).await?;
    }
    dut.expect(end - 8, 8, 1).await
}

/// Offsets at which a sum or a product runs over.
pub async fn write_read_max_offset(dut: Dut) -> Result<()> {
    let in_blocks = u64::MAX / dut.block_len as u64;
    for offset in [u64::MAX, u64::MAX - 1, in_blocks, in_blocks + 1, 1 << 63] {
        refused_beyond_end(&dut, offset, 1).await?;
        refused_beyond_end(&dut, offset, 8).await?;
    }
    Ok(())
}

/// Every kind of I/O with a range must refuse this one.
async fn refused_beyond_end(dut: &Dut, offset: u64, blocks: u64) -> Result<()> {
    let expected = NvmeStatus::LBA_OUT_OF_RANGE;
    // The buffer cannot be as large as a range beyond a whole device; the range is checked first.
    let buf = || dut.pattern(blocks.min(8), 3);
    let handle = &dut.handle;
    let done = [
        ("write", handle.writev_blocks_async(buf()?.into(), offset, blocks).await.status),
        ("read", handle.readv_blocks_async(buf()?.into(), offset, blocks).await.status),
        ("compare", handle.comparev_blocks_async(buf()?.into(), offset, blocks).await.status),
        ("write zeroes", handle.write_zeroes_async(offset, blocks).await.status),
        ("copy to", dut.copy(offset, 0, blocks).await.status),
    ];
    for (kind, status) in done {
        ensure!(status == expected, "{kind} of {blocks} at {offset}: {status}");
    }
    if offset > 0 {
        let status = dut.copy(0, offset, blocks).await.status;
        ensure!(status == expected, "copy of {blocks} from {offset}: {status}");
    }
    Ok(())
}

/// The second write covers half of the first.
pub async fn write_read_2_blocks_on_overlapped_address_offset(dut: Dut) -> Result<()> {
    dut.write(0, 2, 1).await?;
    dut.write(1, 2, 2).await?;
    dut.expect(1, 2, 2).await?;
    let first = dut.pattern(2, 1)?;
    let found = dut.read(0, 1).await?;
    dut.same(0, found.as_slice(), &first.as_slice()[..dut.block_len])
}

/// A reset succeeds, also with I/O in flight, and leaves what was written.
pub async fn reset(dut: Dut) -> Result<()> {
    dut.write(0, 8, 1).await?;
    let status = dut.handle.reset_async().await.status;
    ensure!(status.is_success(), "reset: {status}");
    dut.expect(0, 8, 1).await?;
    let write = dut.handle.writev_blocks_async(dut.pattern(8, 2)?.into(), 8, 8);
    let reset = dut.handle.reset_async();
    let second = dut.handle.reset_async();
    let late = dut.handle.writev_blocks_async(dut.pattern(8, 3)?.into(), 16, 8);
    let (write, reset, second, late) = futures::join!(write, reset, second, late);
    ensure!(reset.status.is_success(), "reset under load: {}", reset.status);
    ensure!(second.status.is_success(), "second reset: {}", second.status);
    ensure!(late.status.is_success(), "write behind a reset: {}", late.status);
    // What was in flight may have been abandoned, and says so then.
    if write.status.is_success() {
        dut.expect(8, 8, 2).await?;
    }
    dut.expect(16, 8, 3).await?;
    dut.expect(0, 8, 1).await
}

/// Blocks to other blocks, apart and overlapping in both directions.
pub async fn copy(dut: Dut) -> Result<()> {
    // More than one step of the emulation.
    let blocks = dut.blocks_of(600 << 10);
    for (to, from) in [(blocks + 7, 0), (0, blocks + 3), (20, 0), (0, 20), (4, 4)] {
        dut.write(from, blocks, 6).await?;
        let status = dut.copy(to, from, blocks).await.status;
        ensure!(status.is_success(), "copy of {blocks} from {from} to {to}: {status}");
        dut.expect(to, blocks, 6).await?;
    }
    Ok(())
}
