//! Zeroes without a buffer, from one block to more than any driver writes at once.

use anyhow::{Result, ensure};

use crate::fixture::Dut;

/// The buffer from which SPDK writes zeroes; its cases are sized by it, and so are ours.
const ZERO_BUFFER_BYTES: usize = 1 << 20;

async fn zeroes(dut: &Dut, offset: u64, blocks: u64) -> Result<()> {
    let (first, last) = (offset - 1, offset + blocks);
    // All of the range holds something before, and the blocks beside it go on doing so.
    let step = dut.blocks_of(ZERO_BUFFER_BYTES);
    let mut at = first;
    while at <= last {
        let part = step.min(last + 1 - at);
        dut.write(at, part, at).await?;
        at += part;
    }
    dut.write(first, 1, 1).await?;
    dut.write(last, 1, 2).await?;
    let status = dut.handle.write_zeroes_async(offset, blocks).await.status;
    ensure!(status.is_success(), "write zeroes of {blocks} at {offset}: {status}");
    let mut at = offset;
    while at < last {
        let part = step.min(last - at);
        dut.expect_zeroes(at, part).await?;
        at += part;
    }
    dut.expect(first, 1, 1).await?;
    dut.expect(last, 1, 2).await
}

/// One block.
pub async fn write_zeroes_read_block(dut: Dut) -> Result<()> {
    zeroes(&dut, 3, 1).await
}

/// As much as is written at once.
pub async fn write_zeroes_read_no_split(dut: Dut) -> Result<()> {
    zeroes(&dut, 1, dut.blocks_of(ZERO_BUFFER_BYTES)).await
}

/// Three times as much.
pub async fn write_zeroes_read_split(dut: Dut) -> Result<()> {
    zeroes(&dut, 1, 3 * dut.blocks_of(ZERO_BUFFER_BYTES)).await
}

/// Three and a half times as much, and one block.
pub async fn write_zeroes_read_split_partial(dut: Dut) -> Result<()> {
    zeroes(&dut, 1, dut.blocks_of(ZERO_BUFFER_BYTES * 7 / 2) + 1).await
}
