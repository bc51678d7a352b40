//! Freeing what was deleted.
//!
//! A block of a deleted dataset is free when neither its parent nor its one child uses it. Since
//! trees have no two ways to a block but the same place of several datasets, that is decided place
//! by place: what was born before the parent was made is the parent's; what the child has at the
//! same place is the child's. So no lists of dead blocks have to be kept.
//!
//! The cursor says how far this has come; it goes to the medium with the bitmaps, so that after a
//! power cut the work goes on where the bitmaps say it is. What the child replaces in front of the
//! cursor, it frees itself ([`Pool::prev`]).

use std::cell::Cell;
use std::rc::Rc;

use spdk_rs::reactor::Reactor;

use super::dataset::{Dataset, span};
use super::layout::{BlockPtr, DatasetState, FANOUT_BITS};
use super::mutant::Mutant;
use super::{Pool, PoolError};

/// Lowest nodes that are freed before others may make a checkpoint.
const STEPS_PER_PASS: usize = 16;

impl Pool {
    /// Starts to free the blocks of what was deleted, if anything was.
    pub(super) fn start_reaper(self: &Rc<Self>) {
        let any = self.deleted().iter().any(|one| one.state.get() == DatasetState::Deleting);
        if !(any || self.has_tails()) || self.reaping.replace(true) {
            return;
        }
        let Some(reactor) = Reactor::current() else { return };
        let own = Rc::clone(self);
        reactor.spawn("pool reaper", async move {
            if let Err(error) = own.free_all().await
                && own.is_read_only().is_none()
            {
                tracing::error!(pool = own.name, %error, "deleted space cannot be freed");
            }
            own.reaping.set(false);
            own.reaped.wake_all();
        });
    }

    /// Waits until the space of everything that was deleted is free, and makes a checkpoint.
    ///
    /// # Errors
    /// As [`Pool::checkpoint`].
    pub async fn reclaimed(self: &Rc<Self>) -> Result<(), PoolError> {
        let idle: &Cell<bool> = &self.reaping;
        self.reaped.until(|| (!idle.get()).then_some(())).await;
        self.checkpoint().await
    }

    /// Frees what was cut off of volumes before the pool was imported, and what was deleted.
    async fn free_all(self: &Rc<Self>) -> Result<(), PoolError> {
        self.trim_all().await?;
        self.reap_all().await
    }

    /// Frees everything that was deleted, one dataset after the other.
    pub(super) async fn reap_all(self: &Rc<Self>) -> Result<(), PoolError> {
        loop {
            // What was begun is finished first: another one would not know what it has passed.
            let deleting = self
                .deleted()
                .into_iter()
                .filter(|one| one.state.get() == DatasetState::Deleting)
                .max_by_key(|one| (one.cursor.get(), std::cmp::Reverse(one.id)));
            let Some(dataset) = deleting else { return Ok(()) };
            while dataset.cursor.get() < dataset.reach() {
                if self.closed.get() {
                    return Ok(());
                }
                let pass = self.gate.enter().await;
                self.check_writable()?;
                for _ in 0..STEPS_PER_PASS {
                    if dataset.cursor.get() < dataset.reach() {
                        self.reap_step(&dataset).await?;
                    }
                }
                drop(pass);
                if self.space.pending_blocks() > self.space.free_blocks() {
                    self.checkpoint().await?;
                }
                spdk_rs::reactor::yield_now().await;
            }
            self.forget(&dataset).await?;
        }
    }

    /// The dataset has no blocks left: whoever depends on it depends on its parent now.
    async fn forget(&self, dataset: &Dataset) -> Result<(), PoolError> {
        let closed = self.gate.close().await;
        self.check_writable()?;
        for child in self.children(dataset.id) {
            child.parent.set(dataset.parent.get());
            child.touch();
        }
        self.datasets.borrow_mut().remove(&dataset.id);
        dataset.settle();
        self.gone.borrow_mut().push(dataset.slot);
        self.promote_hidden();
        self.commit(&closed, true).await
    }

    /// Frees what lies under the cursor, and moves it.
    async fn reap_step(&self, dataset: &Dataset) -> Result<(), PoolError> {
        let start = dataset.cursor.get();
        let children = self.children(dataset.id);
        let child = children.first().map(|child| &**child);
        // The child does not change between the look at it and the move of the cursor.
        let _guard = match child {
            Some(child) => Some(child.locks.lock(vec![(start, u64::MAX)]).await),
            None => None,
        };
        let parent = self.dataset(dataset.parent.get());
        let kept = match &parent {
            Some(parent) if !Mutant::ReapIgnoresParent.is_on() => parent.txn,
            _ => 0,
        };
        let top = dataset.height.get();
        let mut level = top;
        let mut end = start;
        while level >= 1 {
            let index = start / span(level);
            let ptr = self.trees.pointer(&self.device, dataset, level, index).await?;
            if ptr.is_hole()
                || ptr.birth() <= kept
                || self.is_shared(child, level, index, &ptr).await?
            {
                end = (index + 1).saturating_mul(span(level));
                break;
            }
            level -= 1;
        }
        if level == 0 {
            end = (start / span(1) + 1) * span(1);
            self.reap_leaf(dataset, child, start >> FANOUT_BITS, kept).await?;
        }
        let end = end.min(dataset.reach());
        // Nodes are free when everything below them is. Those above where the descent ended were
        // found to be the dataset's own.
        let mut own = Vec::new();
        for above in level + 1..=top {
            let index = start / span(above);
            let last = (index + 1).saturating_mul(span(above)).min(dataset.reach());
            if end == last {
                own.push(self.trees.pointer(&self.device, dataset, above, index).await?);
            }
        }
        if !Mutant::ReapLeaksNodes.is_on() {
            own.iter().for_each(|ptr| self.space.free(ptr.address(), 1));
        }
        dataset.cursor.set(end);
        dataset.touch();
        Ok(())
    }

    /// Whether the child has the same at the same place.
    async fn is_shared(
        &self,
        child: Option<&Dataset>,
        level: u8,
        index: u64,
        ptr: &BlockPtr,
    ) -> Result<bool, PoolError> {
        let Some(child) = child else { return Ok(false) };
        if self.trees.is_marked((child.id, level, index)) || Mutant::ReapIgnoresChild.is_on() {
            return Ok(false);
        }
        let other = self.trees.pointer(&self.device, child, level, index).await?;
        Ok(other == *ptr)
    }

    /// Frees the blocks of a lowest node that nobody else has.
    async fn reap_leaf(
        &self,
        dataset: &Dataset,
        child: Option<&Dataset>,
        index: u64,
        kept: u64,
    ) -> Result<(), PoolError> {
        let Some(node) = self.trees.node(&self.device, dataset, 1, index).await? else {
            return Ok(());
        };
        let other = match child {
            Some(child) => self.trees.node(&self.device, child, 1, index).await?,
            None => None,
        };
        for (slot, ptr) in node.ptrs.iter().enumerate() {
            let shared = other.as_ref().is_some_and(|other| other.ptrs[slot] == *ptr)
                && !Mutant::ReapIgnoresChild.is_on();
            if !ptr.is_hole() && ptr.birth() > kept && !shared {
                self.space.free(ptr.address(), 1);
            }
        }
        Ok(())
    }
}
