//! What the simulator tests: a store of volumes on a block device, behind a trait, so that doubles
//! can stand in for the pool and show that the model notices what is wrong with them.
//!
//! * [`pool`]: the pool of io-engine.
//! * [`double`]: a small correct store, and one broken in a way of choice per [`double::Bug`].

use std::rc::Rc;

use async_trait::async_trait;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::IoHandle;
use spdk_rs::env::DmaBuf;
use thiserror::Error;

pub mod double;
pub mod pool;

/// Why an operation on a store as a whole failed, as far as the model cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There is no room. The operation has done nothing.
    NoSpace,
    /// The store does not allow it in its present state. The operation has done nothing.
    Refused,
    /// The device failed, or what it holds is damaged.
    Device,
}

/// An operation on a store as a whole failed.
#[derive(Clone, Debug, Error)]
#[error("{text}")]
pub struct StoreError {
    /// What the model has to know.
    pub cause: Cause,
    /// The store's own words.
    pub text: String,
}

impl StoreError {
    /// An error in words.
    #[must_use]
    pub fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into() }
    }
}

/// The result of an operation on a store as a whole.
pub type StoreResult<T = ()> = Result<T, StoreError>;

/// How a store is made.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The seed of its identifiers.
    pub seed: u64,
    /// Blocks of its journal, where it has one.
    pub journal_blocks: u64,
}

/// A kind of store: the pool, or a double.
#[async_trait(?Send)]
pub trait StoreKind: Send + Sync {
    /// Its name in messages.
    fn name(&self) -> &str;
    /// Whether a scenario may begin with a store that is nearly full.
    fn can_be_filled(&self) -> bool {
        false
    }
    /// Makes an empty store on a device.
    async fn create(&self, device: IoHandle, options: &StoreOptions) -> StoreResult<Rc<dyn Store>>;
    /// Opens what is on a device, after a cut or not.
    async fn import(&self, device: IoHandle) -> StoreResult<Rc<dyn Store>>;
}

/// An open store.
#[async_trait(?Send)]
pub trait Store {
    /// Makes a volume of zeroes.
    async fn create_volume(&self, name: &str, blocks: u64, thin: bool) -> StoreResult;
    /// A volume or snapshot, if there is one of that name.
    fn volume(&self, name: &str) -> Option<Rc<dyn Volume>>;
    /// Removes a volume or snapshot.
    async fn delete_volume(&self, name: &str) -> StoreResult;
    /// Makes an immutable copy of a volume.
    async fn snapshot(&self, volume: &str, snapshot: &str) -> StoreResult;
    /// Makes a volume with the contents of a snapshot.
    async fn clone_volume(&self, snapshot: &str, volume: &str) -> StoreResult;
    /// Changes the size of a volume. New blocks are zeroes.
    async fn resize_volume(&self, name: &str, blocks: u64) -> StoreResult;
    /// Changes the name of a volume.
    async fn rename_volume(&self, from: &str, to: &str) -> StoreResult;
    /// Makes a clone independent of its snapshot.
    async fn decouple(&self, name: &str) -> StoreResult;
    /// Brings the store's state to the medium and releases its journal.
    async fn checkpoint(&self) -> StoreResult;
    /// Waits until the space of all that was deleted is free, and checkpoints.
    async fn reclaimed(&self) -> StoreResult;
    /// Closes the store. All that was completed is then on the medium.
    async fn export(&self) -> StoreResult;
    /// What the store finds wrong with itself, in words.
    async fn check(&self) -> Vec<String>;
    /// Bytes that can still be allocated.
    fn remaining_bytes(&self) -> u64;
    /// Why the store takes no more changes; none when it does.
    fn read_only(&self) -> Option<String>;
}

/// A part of a transaction: the first block, and the data.
pub type Part = (u64, DmaBuf);

/// An open volume or snapshot. Offsets and lengths are in blocks of 4 KiB.
#[async_trait(?Send)]
pub trait Volume {
    /// Its size.
    fn blocks(&self) -> u64;
    /// Reads a buffer full.
    async fn read(&self, offset: u64, buf: DmaBuf) -> (NvmeStatus, DmaBuf);
    /// Writes a buffer.
    async fn write(&self, offset: u64, buf: DmaBuf, fua: bool) -> NvmeStatus;
    /// Writes all parts, or none.
    async fn transaction(&self, parts: Vec<Part>, fua: bool) -> NvmeStatus;
    /// Writes zeroes.
    async fn write_zeroes(&self, offset: u64, blocks: u64, fua: bool) -> NvmeStatus;
    /// Gives blocks back; they read as zeroes afterwards.
    async fn unmap(&self, offset: u64, blocks: u64) -> NvmeStatus;
    /// Brings all completed writes of the volume to the medium.
    async fn flush(&self) -> NvmeStatus;
}
