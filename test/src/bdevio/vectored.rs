//! Lists of buffers, compare, and compare-and-write.

use anyhow::{Result, anyhow, ensure};
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoBuf, SgList};

use super::scalar::LARGE_BYTES;
use crate::fixture::Dut;

/// Writes from and reads into lists of pieces of so many blocks each.
async fn writev_readv(dut: &Dut, offset: u64, write: &[u64], read: &[u64]) -> Result<()> {
    let blocks = write.iter().sum();
    ensure!(blocks == read.iter().sum::<u64>(), "the pieces make the same range");
    dut.prepare(offset, blocks).await?;
    let data = dut.pattern(blocks, 2)?;
    let mut rest = data.as_slice();
    let mut pieces = Vec::new();
    for &piece in write {
        let mut buf = dut.handle.dma_malloc(dut.bytes_of(piece)?)?;
        let (mine, others) = rest.split_at(buf.len());
        buf.as_mut_slice().copy_from_slice(mine);
        rest = others;
        pieces.push(buf);
    }
    let done = dut.handle.writev_blocks_async(SgList::new(pieces).into(), offset, blocks).await;
    ensure!(done.status.is_success(), "writev of {write:?}: {}", done.status);
    let mut pieces = Vec::new();
    for &piece in read {
        let mut buf = dut.handle.dma_malloc(dut.bytes_of(piece)?)?;
        buf.fill(0xa5);
        pieces.push(buf);
    }
    let done = dut.handle.readv_blocks_async(SgList::new(pieces).into(), offset, blocks).await;
    ensure!(done.status.is_success(), "readv of {read:?}: {}", done.status);
    let found = done.buf.into_list().ok_or_else(|| anyhow!("the read lost its list"))?;
    ensure!(found.bufs().len() == read.len(), "the list came back with other pieces");
    let found: Vec<u8> = found.bufs().iter().flat_map(|b| b.as_slice()).copied().collect();
    dut.same(offset, &found, data.as_slice())?;
    dut.expect(offset, blocks, 2).await
}

/// Eight blocks in one piece.
pub async fn writev_readv_8_blocks(dut: Dut) -> Result<()> {
    writev_readv(&dut, 0, &[8], &[8]).await?;
    writev_readv(&dut, 3, &[1, 5, 2], &[4, 4]).await
}

/// Thirty pieces of a block.
pub async fn writev_readv_30_x_1_block(dut: Dut) -> Result<()> {
    writev_readv(&dut, 1, &[1; 30], &[1; 30]).await
}

/// One piece of a block.
pub async fn writev_readv_block(dut: Dut) -> Result<()> {
    writev_readv(&dut, 1, &[1], &[1]).await
}

/// More than 128 KiB in one piece.
pub async fn writev_readv_size_over_128k(dut: Dut) -> Result<()> {
    let blocks = dut.blocks_of(LARGE_BYTES) + 8;
    writev_readv(&dut, 0, &[blocks], &[blocks]).await
}

/// More than 128 KiB in two pieces, cut at different places.
pub async fn writev_readv_size_over_128k_in_two_iovs(dut: Dut) -> Result<()> {
    let blocks = dut.blocks_of(LARGE_BYTES);
    writev_readv(&dut, 0, &[1, blocks], &[blocks, 1]).await?;
    writev_readv(&dut, 7, &[blocks / 2 + 3, blocks / 2], &[blocks / 2, blocks / 2 + 3]).await
}

/// Compares equal and other data, in one piece and several; then changes blocks only when they
/// hold what is expected.
pub async fn comparev_and_writev(dut: Dut) -> Result<()> {
    dut.write(2, 2, 1).await?;
    let done = dut.handle.comparev_blocks_async(dut.pattern(2, 1)?.into(), 2, 2).await;
    dut.compared(&done, true)?;
    // The last byte counts, in a list too.
    let mut pieces: Vec<_> = Vec::new();
    let whole = dut.pattern(2, 1)?;
    for half in whole.as_slice().chunks(dut.block_len) {
        let mut buf = dut.handle.dma_malloc(half.len())?;
        buf.as_mut_slice().copy_from_slice(half);
        pieces.push(buf);
    }
    let done = dut.handle.comparev_blocks_async(SgList::new(pieces).into(), 2, 2).await;
    dut.compared(&done, true)?;
    let mut list = done.buf.into_list().ok_or_else(|| anyhow!("the compare lost its list"))?;
    if let Some(last) = list.buf_mut(1).and_then(<[u8]>::last_mut) {
        *last ^= 1;
    }
    let done = dut.handle.comparev_blocks_async(IoBuf::from(list), 2, 2).await;
    dut.compared(&done, false)?;

    let mut blocks = 2;
    let mut done = dut.compare_and_write(dut.pattern(2, 1)?, dut.pattern(2, 2)?, 2, 2).await;
    // A device behind a fabric does as many blocks as one as its controller says, at least one.
    if done.status == NvmeStatus::ATOMIC_WRITE_UNIT_EXCEEDED {
        dut.expect(2, 2, 1).await?;
        blocks = 1;
        dut.write(2, 1, 1).await?;
        done = dut.compare_and_write(dut.pattern(1, 1)?, dut.pattern(1, 2)?, 2, 1).await;
    }
    dut.compared(&done, true)?;
    dut.expect(2, blocks, 2).await?;
    let (old, new) = (dut.pattern(blocks, 1)?, dut.pattern(blocks, 3)?);
    let done = dut.compare_and_write(old, new, 2, blocks).await;
    dut.compared(&done, false)?;
    dut.expect(2, blocks, 2).await?;
    // Two halves of different lengths are no compare-and-write.
    let done = dut.compare_and_write(dut.pattern(1, 2)?, dut.pattern(3, 2)?, 2, 2).await;
    let refused = NvmeStatus::DATA_SGL_LENGTH_INVALID;
    ensure!(done.status == refused, "uneven compare-and-write: {}", done.status);
    Ok(())
}
