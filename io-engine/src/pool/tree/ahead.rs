//! Reading nodes of the map before they are needed.
//!
//! A sequential read of a volume whose map is not in memory would wait for a lowest node at every
//! 256 KiB, and for one above it at every 16 MiB. Once a few reads have followed one another, the
//! nodes in front of them are read while the data are: many at once, since nodes that were written
//! together mostly lie together.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use futures::stream::{self, StreamExt as _};

use super::super::PoolError;
use super::super::dataset::Dataset;
use super::super::device::Device;
use super::super::digest::digest_blocks;
use super::super::layout::{BLOCK_BYTES, BlockPtr, FANOUT_BITS, Node};
use super::Trees;

/// Lowest nodes that are read ahead at the most: those of 8 MiB. And the part of the memory for
/// nodes that they may take.
const LEAVES_MAX: u64 = 32;
const CACHE_PART: usize = 8;
/// Reads that follow one another before anything is read ahead, and how far from where the last
/// one ended a read may begin to follow it, in blocks: several that are on their way at once need
/// not come in order.
const STREAK_MIN: u32 = 2;
const NEAR_BLOCKS: u64 = 128;
/// Reads of the device at once.
const READS_MAX: usize = 8;

/// How the reads of a volume follow one another.
#[derive(Default)]
pub(in super::super) struct Ahead {
    /// Where the next read begins if it goes on like this, in blocks.
    next: Cell<u64>,
    streak: Cell<u32>,
    /// Up to which lowest node was read ahead.
    until: Cell<u64>,
}

impl Ahead {
    /// Notes a read of blocks. The lowest nodes that should be read ahead now, at most `most`.
    fn note(&self, start: u64, end: u64, most: u64) -> Option<Range<u64>> {
        if start.abs_diff(self.next.get()) > NEAR_BLOCKS {
            self.next.set(end);
            self.streak.set(0);
            self.until.set(0);
            return None;
        }
        self.next.set(self.next.get().max(end));
        self.streak.set(self.streak.get().saturating_add(1));
        let here = self.next.get() >> FANOUT_BITS;
        // Half of it is left when more is read, so that reads of nodes are few and none is late.
        if self.streak.get() < STREAK_MIN || most == 0 || self.until.get() > here + most / 2 {
            return None;
        }
        let first = self.until.get().max(here);
        self.until.set(here + most);
        Some(first..here + most)
    }
}

impl Trees {
    /// Notes a read of a dataset. The lowest nodes that should be read ahead now.
    pub(in super::super) fn note_read(
        &self,
        dataset: &Dataset,
        start: u64,
        end: u64,
    ) -> Option<Range<u64>> {
        let part = u64::try_from(self.cache.capacity() / CACHE_PART).unwrap_or(LEAVES_MAX);
        let ahead = dataset.ahead.note(start, end, LEAVES_MAX.min(part))?;
        let leaves = dataset.size_blocks.get().div_ceil(1 << FANOUT_BITS);
        let ahead = ahead.start..ahead.end.min(leaves);
        (!ahead.is_empty()).then_some(ahead)
    }

    /// Brings lowest nodes into memory. One that cannot be read, or is not right, is left to whoever
    /// needs it.
    ///
    /// # Errors
    /// When a node above them cannot be read.
    pub(in super::super) async fn read_ahead(
        &self,
        device: &Device,
        dataset: &Dataset,
        leaves: Range<u64>,
    ) -> Result<(), PoolError> {
        let mut runs: Vec<Vec<BlockPtr>> = Vec::new();
        for index in leaves {
            if self.is_marked((dataset.id, 1, index)) {
                continue;
            }
            let ptr = self.pointer(device, dataset, 1, index).await?;
            if ptr.is_hole() || self.cache.get(&ptr).is_some() {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run[0].address() + run.len() as u64 == ptr.address() => run.push(ptr),
                _ => runs.push(vec![ptr]),
            }
        }
        let reads = runs.iter().map(|run| self.read_run(device, run));
        stream::iter(reads).buffered(READS_MAX).collect::<()>().await;
        Ok(())
    }

    /// Reads nodes that lie together.
    async fn read_run(&self, device: &Device, run: &[BlockPtr]) {
        let Ok(buf) = device.read_blocks(run[0].address(), run.len() as u64).await else { return };
        let blocks: Vec<&[u8]> = buf.as_slice().chunks_exact(BLOCK_BYTES).collect();
        let mut digests = vec![[0; 32]; blocks.len()];
        digest_blocks(self.digest, &blocks, &mut digests);
        for ((ptr, block), digest) in run.iter().zip(blocks).zip(digests) {
            if digest == ptr.digest
                && let Some(node) = Node::parse(block)
            {
                self.cache.put(ptr, Rc::new(node));
                self.nodes_ahead.set(self.nodes_ahead.get() + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_ahead_is_read_in_halves_and_once() {
        let ahead = Ahead::default();
        let mut seen = Vec::new();
        for read in 0..400 {
            let start = 100_000 + read * 32;
            seen.extend(ahead.note(start, start + 32, 32));
        }
        let first = (100_000 + 3 * 32) >> FANOUT_BITS;
        assert_eq!(seen[0], first..first + 32);
        assert!(seen.windows(2).all(|pair| pair[1].start == pair[0].end), "{seen:?}");
        assert!((12..=16).contains(&seen.len()), "{seen:?}");
    }

    #[test]
    fn random_reads_read_nothing_ahead() {
        let ahead = Ahead::default();
        for read in 0..1000_u64 {
            let start = read * 7_777 % 1_000_000;
            assert_eq!(ahead.note(start, start + 32, 32), None, "read {read}");
        }
        assert_eq!(ahead.note(5_000_000, 5_000_032, 32), None);
        assert_eq!(ahead.note(5_000_032, 5_000_064, 32), None);
        assert_eq!(ahead.note(5_000_064, 5_000_096, 0), None, "no room for any");
    }
}
