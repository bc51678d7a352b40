//! Making a clone independent: what it shares with its snapshot is written again as its own.

use std::rc::Rc;

use spdk_rs::reactor::yield_now;

use super::super::dataset::Dataset;
use super::super::{Pool, PoolError};
use super::write::needs_of;

/// Blocks that are looked at together: what one lowest node covers.
const STEP: u64 = 64;

impl Pool {
    /// Copies everything in a range that belongs to a snapshot.
    pub(in super::super) async fn own_blocks(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
    ) -> Result<u64, PoolError> {
        let mut copied = 0;
        let mut at = 0;
        while at < dataset.size_blocks.get() {
            // Most of a large volume may be holes, which are passed without any I/O to wait for.
            yield_now().await;
            let hole = self.hole_end(dataset, at).await?;
            if hole > at {
                at = hole;
                continue;
            }
            let end = ((at / STEP + 1) * STEP).min(dataset.size_blocks.get());
            copied += self.own_step(dataset, at, end).await?;
            self.consider_checkpoint();
            at = end;
        }
        Ok(copied)
    }

    async fn own_step(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
        start: u64,
        end: u64,
    ) -> Result<u64, PoolError> {
        let shared = |ptrs: &[super::BlockPtr]| -> Vec<u64> {
            let own = |(block, ptr): &(u64, &super::BlockPtr)| {
                !ptr.is_hole() && ptr.birth() <= self.prev(dataset, block + 1)
            };
            (start..).zip(ptrs).filter(own).map(|(block, _)| block).collect()
        };
        if shared(&self.pointers(dataset, start, end - start).await?).is_empty() {
            return Ok(0);
        }
        // Room for all of them; what is shared is looked at again when nobody else is here.
        let admitted = self.admit(dataset, &[(start, end)], needs_of(&[(start, end)])).await?;
        let ptrs = self.pointers(dataset, start, end - start).await?;
        let blocks = shared(&ptrs);
        let mut pieces = Vec::with_capacity(blocks.len());
        for block in &blocks {
            let ptr = ptrs[usize::try_from(block - start).unwrap_or(0)];
            let buf = self.device.read_blocks(ptr.address(), 1).await?;
            if self.verify(&[ptr], &buf).is_some() {
                let what = format!("'{}': block {block}", dataset.name.borrow());
                return Err(PoolError::Corrupt { what, address: ptr.address() });
            }
            pieces.push((*block, buf));
        }
        let count = blocks.len() as u64;
        if count == 0 {
            return Ok(0);
        }
        let mut admitted = admitted;
        self.space.unpromise(admitted.blocks - count);
        admitted.blocks = count;
        admitted.leaves = vec![admitted.leaves.concat()];
        self.write_admitted(dataset, admitted, pieces).await.0.map(|()| count)
    }
}
