//! Reading: look up the pointers, read what they lead to, compare the digests.

use std::ops::Range;
use std::rc::Rc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use spdk_rs::env::DmaBuf;
use spdk_rs::reactor::Reactor;

use super::super::dataset::Dataset;
use super::super::digest::{Digest, digest_blocks};
use super::super::layout::{BLOCK_BYTES, BlockPtr};
use super::super::mutant::Mutant;
use super::super::stats::Counters;
use super::super::tree::{leaf_over, slot};
use super::super::{Pool, PoolError};
use super::blocks_in;

/// Reads of the device at once for one read of a volume.
const READS_MAX: usize = 32;

impl Pool {
    pub(super) async fn read(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
        offset: u64,
        buf: DmaBuf,
    ) -> (Result<(), PoolError>, DmaBuf) {
        let begun = Counters::now();
        if let Some(leaves) =
            self.trees.note_read(dataset, offset, offset.saturating_add(blocks_in(&buf)))
        {
            self.read_ahead(dataset, leaves);
        }
        let (result, buf) = self.read_verified(dataset, offset, buf).await;
        if result.is_ok() {
            self.counters.read(begun, buf.len() as u64);
        }
        (result, buf)
    }

    /// Reads nodes of the map in the background.
    fn read_ahead(self: &Rc<Self>, dataset: &Rc<Dataset>, leaves: Range<u64>) {
        let Some(reactor) = Reactor::current() else { return };
        let (own, dataset) = (Rc::clone(self), Rc::clone(dataset));
        reactor.spawn("pool read-ahead", async move {
            // The pool is not exported under way.
            let _pass = own.gate.enter().await;
            if !own.closed.get() && dataset.is_live() {
                // Whoever needs a node that cannot be read will say so.
                let _ = own.trees.read_ahead(&own.device, &dataset, leaves).await;
            }
        });
    }

    /// A read that is not counted as a host's.
    pub(in super::super) async fn read_verified(
        self: &Rc<Self>,
        dataset: &Dataset,
        offset: u64,
        mut buf: DmaBuf,
    ) -> (Result<(), PoolError>, DmaBuf) {
        let blocks = blocks_in(&buf);
        if let Err(error) = self.check_range(dataset, offset, blocks) {
            return (Err(error), buf);
        }
        let _operation = self.digester.operation();
        let mut suspect: Option<BlockPtr> = None;
        loop {
            let ptrs = match self.pointers(dataset, offset, blocks).await {
                Ok(ptrs) => ptrs,
                Err(error) => return (Err(error), buf),
            };
            let result;
            (result, buf) = self.fetch(&ptrs, buf).await;
            if let Err(error) = result {
                return (Err(error), buf);
            }
            let wrong;
            (wrong, buf) = self.verify_together(&ptrs, buf).await;
            let Some(wrong) = wrong else {
                return (Ok(()), buf);
            };
            // The block may have been replaced, and its place used again, while it was read: then
            // the pointer is another one now. If it is the same, the block is bad.
            let ptr = ptrs[wrong];
            if suspect == Some(ptr) {
                self.trees.invalid_blocks.set(self.trees.invalid_blocks.get() + 1);
                let block = offset + wrong as u64;
                let what = format!("'{}': block {block}", dataset.name.borrow());
                return (Err(PoolError::Corrupt { what, address: ptr.address() }), buf);
            }
            suspect = Some(ptr);
        }
    }

    /// The pointers of blocks.
    pub(in super::super) async fn pointers(
        &self,
        dataset: &Dataset,
        offset: u64,
        blocks: u64,
    ) -> Result<Vec<BlockPtr>, PoolError> {
        let leaves = self.trees.leaves(&self.device, dataset, offset, offset + blocks).await?;
        let ptr =
            |block| leaf_over(&leaves, block).map_or(BlockPtr::HOLE, |node| node.ptrs[slot(block)]);
        Ok((offset..offset + blocks).map(ptr).collect())
    }

    /// Fills a buffer from where pointers lead.
    pub(in super::super) async fn fetch(
        &self,
        ptrs: &[BlockPtr],
        buf: DmaBuf,
    ) -> (Result<(), PoolError>, DmaBuf) {
        let runs = runs_of(ptrs);
        if let [(Some(address), _)] = runs[..] {
            let (status, buf) = self.device.read(address, buf).await;
            return (status.ok().map_err(|status| PoolError::device("read", address, status)), buf);
        }
        let mut buf = buf;
        let reads = runs.iter().map(|&(address, count)| async move {
            match address {
                Some(address) => self.device.read_blocks(address, count).await.map(Some),
                None => Ok(None),
            }
        });
        let pieces: Result<Vec<Option<DmaBuf>>, PoolError> =
            stream::iter(reads).buffered(READS_MAX).try_collect().await;
        let pieces = match pieces {
            Ok(pieces) => pieces,
            Err(error) => return (Err(error), buf),
        };
        let mut rest = buf.as_mut_slice();
        for (piece, (_, count)) in pieces.iter().zip(&runs) {
            let bytes = usize::try_from(*count).unwrap_or(0) * BLOCK_BYTES;
            let (own, after) = rest.split_at_mut(bytes);
            match piece {
                Some(piece) => own.copy_from_slice(piece.as_slice()),
                None => own.fill(0),
            }
            rest = after;
        }
        (Ok(()), buf)
    }

    /// The first block that does not match its pointer; digested with those of other operations.
    async fn verify_together(&self, ptrs: &[BlockPtr], buf: DmaBuf) -> (Option<usize>, DmaBuf) {
        if Mutant::NoReadDigest.is_on() || ptrs.iter().all(BlockPtr::is_hole) {
            return (None, buf);
        }
        let (buf, digests) = self.digester.digests(buf).await;
        (first_wrong(ptrs, &digests), buf)
    }

    /// The first block that does not match its pointer.
    pub(in super::super) fn verify(&self, ptrs: &[BlockPtr], buf: &DmaBuf) -> Option<usize> {
        if Mutant::NoReadDigest.is_on() {
            return None;
        }
        let blocks: Vec<&[u8]> = buf.as_slice().chunks_exact(BLOCK_BYTES).collect();
        let mut digests = vec![[0; 32]; blocks.len()];
        digest_blocks(self.digest, &blocks, &mut digests);
        first_wrong(ptrs, &digests)
    }
}

fn first_wrong(ptrs: &[BlockPtr], digests: &[Digest]) -> Option<usize> {
    ptrs.iter().zip(digests).position(|(ptr, digest)| !ptr.is_hole() && ptr.digest != *digest)
}

/// Neighbouring blocks together: the address of the first, or none for holes; how many.
fn runs_of(ptrs: &[BlockPtr]) -> Vec<(Option<u64>, u64)> {
    let mut runs: Vec<(Option<u64>, u64)> = Vec::with_capacity(1);
    for ptr in ptrs {
        let address = (!ptr.is_hole()).then(|| ptr.address());
        match runs.last_mut() {
            Some((last, count)) if last.map(|last| last + *count) == address => *count += 1,
            _ => runs.push((address, 1)),
        }
    }
    runs
}
