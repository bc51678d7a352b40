//! I/O that does not begin or end at a multiple of 4 KiB, for volumes with blocks of 512 bytes.
//!
//! A write brings whole blocks, of which some bytes at the edges are not its own. They are filled in
//! while its range is locked, so that two writes to the same block do not undo each other; then it
//! goes the way of every other write and is as atomic.

use std::rc::Rc;

use spdk_rs::NvmeStatus;
use spdk_rs::env::DmaBuf;

use super::super::dataset::Dataset;
use super::super::layout::BLOCK_BYTES;
use super::super::stats::Counters;
use super::super::{Pool, PoolError};
use super::Volume;
use super::write::{Pieces, needs_of};

/// Bytes of a block as the type of offsets.
const BLOCK: u64 = BLOCK_BYTES as u64;

/// A range of bytes, and the blocks of 4 KiB that cover it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first block.
    pub block: u64,
    /// The number of blocks.
    pub blocks: u64,
    /// Bytes of the first block in front of the range.
    pub head: usize,
    /// Bytes of the last block behind the range.
    pub tail: usize,
}

impl Span {
    /// The blocks that cover `len` bytes from `offset` on.
    #[must_use]
    pub fn of(offset: u64, len: u64) -> Self {
        let end = offset.saturating_add(len);
        let (block, last) = (offset / BLOCK, end.div_ceil(BLOCK));
        let edge = |bytes: u64| usize::try_from(bytes).unwrap_or(0);
        Self {
            block,
            blocks: last - block,
            head: edge(offset % BLOCK),
            tail: edge(last.saturating_mul(BLOCK) - end),
        }
    }

    /// Whether the range is all of its blocks.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.head == 0 && self.tail == 0
    }

    /// The blocks that lie in the range as a whole, `(first, end)`; `end` is not above `first` when
    /// there are none.
    fn inner(&self) -> (u64, u64) {
        let end = self.block + self.blocks;
        (self.block + u64::from(self.head > 0), end - u64::from(self.tail > 0))
    }

    /// The blocks that lie in the range in part, each with the bytes that do.
    fn edges(&self) -> Vec<Self> {
        let last = self.block + self.blocks - 1;
        let edge = |block, head, tail| Self { block, blocks: 1, head, tail };
        match (self.head > 0, self.tail > 0) {
            (false, false) => Vec::new(),
            _ if self.blocks == 1 => vec![*self],
            (true, false) => vec![edge(self.block, self.head, 0)],
            (false, true) => vec![edge(last, 0, self.tail)],
            (true, true) => vec![edge(self.block, self.head, 0), edge(last, 0, self.tail)],
        }
    }
}

impl Volume {
    /// Writes a range of bytes: `buf` has the blocks of the span, and what lies outside of the range
    /// is filled in. As atomic as [`Volume::write`].
    pub async fn write_span(&self, span: Span, buf: DmaBuf, fua: bool) -> NvmeStatus {
        if span.is_whole() {
            return self.write(span.block, buf, fua).await.0;
        }
        let mut result = self.pool.write_span(&self.dataset, span, buf).await;
        if result.is_ok() && fua {
            result = self.pool.flush().await;
        }
        self.report(&result)
    }

    /// Makes a range of bytes read as zeroes. Blocks that lie in it as a whole give their space
    /// back, the edges are written.
    pub async fn zero_span(&self, span: Span, fua: bool) -> NvmeStatus {
        let mut result = self.pool.zero_edges(&self.dataset, span).await;
        let (first, end) = span.inner();
        if result.is_ok() && first < end {
            result = self.pool.clear(&self.dataset, first, end - first, false).await;
        }
        if result.is_ok() && fua {
            result = self.pool.flush().await;
        }
        self.report(&result)
    }

    /// Gives the space of the blocks back that lie in a range as a whole; they read as zeroes from
    /// then on. The edges stay as they are.
    pub async fn unmap_span(&self, span: Span) -> NvmeStatus {
        let (first, end) = span.inner();
        if first >= end {
            return NvmeStatus::SUCCESS;
        }
        self.unmap(first, end - first).await
    }
}

impl Pool {
    async fn write_span(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
        span: Span,
        buf: DmaBuf,
    ) -> Result<(), PoolError> {
        let begun = Counters::now();
        let bytes = (buf.len() - span.head - span.tail) as u64;
        let range = [(span.block, span.block + span.blocks)];
        let mut pieces: Pieces = vec![(span.block, buf)];
        self.check_pieces(dataset, &pieces, &range)?;
        let admitted = self.admit(dataset, &range, needs_of(&range)).await?;
        // From here on nobody else changes these blocks.
        for edge in span.edges() {
            let Some(old) = self.edge_block(dataset, edge.block).await? else {
                fill_edge(&mut pieces, &span, &edge, None);
                continue;
            };
            fill_edge(&mut pieces, &span, &edge, Some(old.as_slice()));
        }
        let (result, _) = self.write_admitted(dataset, admitted, pieces).await;
        self.consider_checkpoint();
        self.counters.write(begun, bytes);
        result
    }

    /// What a block has now, verified; none when it is a hole.
    async fn edge_block(
        self: &Rc<Self>,
        dataset: &Dataset,
        block: u64,
    ) -> Result<Option<DmaBuf>, PoolError> {
        let ptrs = self.pointers(dataset, block, 1).await?;
        let Some(ptr) = ptrs.first().filter(|ptr| !ptr.is_hole()) else { return Ok(None) };
        let old = self.device.read_blocks(ptr.address(), 1).await?;
        if self.verify(&ptrs, &old).is_some() {
            let what = format!("'{}': block {block}", dataset.name.borrow());
            return Err(PoolError::Corrupt { what, address: ptr.address() });
        }
        Ok(Some(old))
    }

    /// Writes zeroes to the edges of a range; a hole is zeroes already.
    async fn zero_edges(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
        span: Span,
    ) -> Result<(), PoolError> {
        for edge in span.edges() {
            self.check_range(dataset, edge.block, 1)?;
            let ptrs = self.pointers(dataset, edge.block, 1).await?;
            let writable = !dataset.snapshot && !dataset.read_only.get();
            if writable && ptrs.first().is_some_and(super::BlockPtr::is_hole) {
                continue;
            }
            let no_memory = |status| PoolError::device("buffer for a write", edge.block, status);
            let mut zeroes = self.device.buffer(1).await.map_err(no_memory)?;
            zeroes.fill(0);
            self.write_span(dataset, edge, zeroes).await?;
        }
        Ok(())
    }
}

/// Fills in what an edge has outside of the range: what it had before, or zeroes.
fn fill_edge(pieces: &mut Pieces, span: &Span, edge: &Span, old: Option<&[u8]>) {
    let Some((_, buf)) = pieces.first_mut() else { return };
    let at = usize::try_from(edge.block - span.block).unwrap_or(0) * BLOCK_BYTES;
    let block = &mut buf.as_mut_slice()[at..at + BLOCK_BYTES];
    for part in [0..edge.head, BLOCK_BYTES - edge.tail..BLOCK_BYTES] {
        match old {
            Some(old) => block[part.clone()].copy_from_slice(&old[part]),
            None => block[part].fill(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_their_ranges() {
        let span = |block, blocks, head, tail| Span { block, blocks, head, tail };
        assert_eq!(Span::of(8192, 4096), span(2, 1, 0, 0));
        assert_eq!(Span::of(8704, 512), span(2, 1, 512, 3072));
        assert_eq!(Span::of(3584, 1024), span(0, 2, 3584, 3584));
        assert!(Span::of(0, 8192).is_whole() && !Span::of(0, 512).is_whole());
        let of = Span::of(512, 3 * 4096);
        assert_eq!((of.inner(), of.edges().len()), ((1, 3), 2));
        let inside = Span::of(512, 512);
        assert_eq!(inside.edges(), [inside]);
        assert!(inside.inner().0 >= inside.inner().1);
    }
}
