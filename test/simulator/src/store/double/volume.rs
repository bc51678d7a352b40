//! The double behind the simulator's traits.

use std::rc::Rc;

use async_trait::async_trait;
use spdk_rs::NvmeStatus;
use spdk_rs::env::DmaBuf;

use super::Bug;
use super::open::Opened;
use super::state::Change;
use crate::device::BLOCK_BYTES;
use crate::store::{Cause, Part, Store, StoreError, StoreResult, Volume};

/// The open double.
pub(super) struct Handle(pub(super) Rc<Opened>);

impl Handle {
    async fn change(&self, change: Change) -> StoreResult {
        self.0.append(change, &[]).await?;
        if self.0.has(Bug::NamesNotFlushed) { Ok(()) } else { self.0.flush().await }
    }

    fn must_be(&self, name: &str, there: bool) -> StoreResult {
        if self.0.state.borrow().volumes.contains_key(name) == there {
            return Ok(());
        }
        let text = format!("{name} {}", if there { "is not there" } else { "is there already" });
        Err(StoreError::new(Cause::Refused, text))
    }
}

#[async_trait(?Send)]
impl Store for Handle {
    async fn create_volume(&self, name: &str, blocks: u64, _thin: bool) -> StoreResult {
        self.must_be(name, false)?;
        self.change(Change::Create { name: name.to_owned(), blocks, snapshot: false }).await
    }

    fn volume(&self, name: &str) -> Option<Rc<dyn Volume>> {
        self.0.state.borrow().volumes.get(name)?;
        Some(Rc::new(Open { store: Rc::clone(&self.0), name: name.to_owned() }))
    }

    async fn delete_volume(&self, name: &str) -> StoreResult {
        self.must_be(name, true)?;
        self.change(Change::Delete { name: name.to_owned() }).await
    }

    async fn snapshot(&self, volume: &str, snapshot: &str) -> StoreResult {
        self.must_be(snapshot, false)?;
        let (from, to) = (volume.to_owned(), snapshot.to_owned());
        self.change(Change::Copy { from, to, snapshot: true }).await
    }

    async fn clone_volume(&self, snapshot: &str, volume: &str) -> StoreResult {
        self.must_be(volume, false)?;
        let (from, to) = (snapshot.to_owned(), volume.to_owned());
        self.change(Change::Copy { from, to, snapshot: false }).await
    }

    async fn resize_volume(&self, name: &str, blocks: u64) -> StoreResult {
        self.must_be(name, true)?;
        self.change(Change::Resize { name: name.to_owned(), blocks }).await
    }

    async fn rename_volume(&self, from: &str, to: &str) -> StoreResult {
        self.must_be(to, false)?;
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned() }).await
    }

    async fn decouple(&self, name: &str) -> StoreResult {
        self.must_be(name, true)
    }

    async fn checkpoint(&self) -> StoreResult {
        self.0.checkpoint().await
    }

    async fn reclaimed(&self) -> StoreResult {
        self.0.checkpoint().await
    }

    async fn export(&self) -> StoreResult {
        self.0.checkpoint().await
    }

    async fn check(&self) -> Vec<String> {
        let complains = self.0.has(Bug::CheckComplains) && self.0.state.borrow().volumes.len() >= 3;
        if complains { vec!["three volumes are too many".to_owned()] } else { Vec::new() }
    }

    fn remaining_bytes(&self) -> u64 {
        self.0.state.borrow().remaining_bytes()
    }

    fn read_only(&self) -> Option<String> {
        self.0.stopped.borrow().clone()
    }
}

/// An open volume of the double.
struct Open {
    store: Rc<Opened>,
    name: String,
}

fn status(result: StoreResult) -> NvmeStatus {
    match result {
        Ok(()) => NvmeStatus::SUCCESS,
        Err(error) if error.cause == Cause::NoSpace => NvmeStatus::CAPACITY_EXCEEDED,
        Err(_) => NvmeStatus::INTERNAL_ERROR,
    }
}

impl Open {
    async fn change(&self, change: Change, data: &[u8], fua: bool) -> NvmeStatus {
        if let Err(error) = self.store.append(change, data).await {
            return status(Err(error));
        }
        if fua && !self.store.has(Bug::FuaIgnored) {
            return status(self.store.flush().await);
        }
        NvmeStatus::SUCCESS
    }

    async fn write_ranges(&self, parts: Vec<Part>, fua: bool) -> NvmeStatus {
        let count = |buf: &DmaBuf| (buf.len() / BLOCK_BYTES) as u64;
        if self.store.has(Bug::SplitWrites) {
            for (first, buf) in &parts {
                for (block, data) in (*first..).zip(buf.as_slice().chunks_exact(BLOCK_BYTES)) {
                    let (name, ranges) = (self.name.clone(), vec![(block, 1)]);
                    let done = self.change(Change::Write { name, ranges }, data, fua).await;
                    if !done.is_success() {
                        return done;
                    }
                }
            }
            return NvmeStatus::SUCCESS;
        }
        let ranges = parts.iter().map(|(first, buf)| (*first, count(buf))).collect();
        let data: Vec<u8> = parts.iter().flat_map(|(_, buf)| buf.as_slice()).copied().collect();
        self.change(Change::Write { name: self.name.clone(), ranges }, &data, fua).await
    }
}

#[async_trait(?Send)]
impl Volume for Open {
    fn blocks(&self) -> u64 {
        self.store.state.borrow().volumes.get(&self.name).map_or(0, |stored| stored.blocks)
    }

    async fn read(&self, offset: u64, mut buf: DmaBuf) -> (NvmeStatus, DmaBuf) {
        assert!(!self.store.has(Bug::Panic) || self.blocks() % 5 != 4, "an odd size");
        if self.store.has(Bug::SpuriousError) && self.store.now_and_then(20) {
            return (NvmeStatus::INTERNAL_ERROR, buf);
        }
        let mut offset = offset;
        let blocks = (buf.len() / BLOCK_BYTES) as u64;
        let wrong = self.store.has(Bug::WrongRead) && self.store.now_and_then(20);
        if wrong && offset + blocks < self.blocks() {
            offset += 1;
        }
        let found = self.store.state.borrow().read(&self.name, offset, buf.as_mut_slice());
        let status = if found { NvmeStatus::SUCCESS } else { NvmeStatus::LBA_OUT_OF_RANGE };
        (status, buf)
    }

    async fn write(&self, offset: u64, buf: DmaBuf, fua: bool) -> NvmeStatus {
        self.write_ranges(vec![(offset, buf)], fua).await
    }

    async fn transaction(&self, parts: Vec<Part>, fua: bool) -> NvmeStatus {
        self.write_ranges(parts, fua).await
    }

    async fn write_zeroes(&self, offset: u64, blocks: u64, fua: bool) -> NvmeStatus {
        let change = Change::Zero { name: self.name.clone(), range: (offset, blocks) };
        self.change(change, &[], fua).await
    }

    async fn unmap(&self, offset: u64, blocks: u64) -> NvmeStatus {
        self.write_zeroes(offset, blocks, false).await
    }

    async fn flush(&self) -> NvmeStatus {
        status(self.store.flush().await)
    }
}
