//! Volumes, snapshots and clones come and go. Each change is made with nobody else inside, and is
//! durable when it returns: a checkpoint is part of it.

use std::rc::Rc;

use serde::Serialize;
use spdk_rs::env::Clock;
use spdk_rs::reactor::{Reactor, yield_now};
use uuid::Uuid;

use super::dataset::{Dataset, height_for};
use super::layout::{BLOCK_BYTES, BlockPtr, DatasetState, VolumeRecord};
use super::open::check_name;
use super::sync::Closed;
use super::volume::Volume;
use super::{Pool, PoolError};

/// The largest volume: 2⁴⁸ bytes, six levels.
const SIZE_BYTES_MAX: u64 = 1 << 48;

/// What a volume is made of.
#[derive(Clone, Debug)]
pub struct VolumeOptions {
    /// Take space only when blocks are written. Otherwise all of it is kept for the volume; a
    /// snapshot of the volume ends that.
    pub thin: bool,
    /// UUID; random when none.
    pub uuid: Option<Uuid>,
    /// Bytes per block that hosts see: 512 or 4096.
    pub block_len: u32,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        Self { thin: true, uuid: None, block_len: 4096 }
    }
}

/// A volume or snapshot in listings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeInfo {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: Uuid,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Bytes per block that hosts see.
    pub block_len: u32,
    /// Bytes that are not holes, shared ones included.
    pub mapped_bytes: u64,
    /// Whether space is taken only when blocks are written.
    pub thin: bool,
    /// Whether it is a snapshot.
    pub snapshot: bool,
    /// Whether hosts may only read it.
    pub read_only: bool,
    /// The snapshot that it was made from or that was last made of it.
    pub parent: Option<String>,
    /// Volumes and snapshots that depend on it.
    pub children: Vec<String>,
}

impl Pool {
    /// The live volume or snapshot with a name or UUID.
    #[must_use]
    pub fn volume(self: &Rc<Self>, name: &str) -> Option<Rc<Volume>> {
        let datasets = self.datasets.borrow();
        let is_it = |one: &&Rc<Dataset>| {
            one.is_live() && (*one.name.borrow() == name || one.uuid.to_string() == name)
        };
        datasets.values().find(is_it).map(|one| Rc::new(Volume::new(self, Rc::clone(one))))
    }

    /// All live volumes and snapshots, in the order in which they were made.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        let datasets = self.datasets.borrow();
        let live = datasets.values().filter(|one| one.is_live());
        live.map(|one| {
            let block = BLOCK_BYTES as u64;
            let children = datasets.values().filter(|c| c.is_live() && c.parent.get() == one.id);
            let parent = datasets.get(&one.parent.get()).filter(|parent| parent.is_live());
            VolumeInfo {
                name: one.name.borrow().clone(),
                uuid: one.uuid,
                size_bytes: one.size_blocks.get() * block,
                block_len: 1 << one.block_shift,
                mapped_bytes: one.mapped.get() * block,
                thin: one.thin.get(),
                snapshot: one.snapshot,
                read_only: one.read_only.get() || one.snapshot,
                parent: parent.map(|parent| parent.name.borrow().clone()),
                children: children.map(|child| child.name.borrow().clone()).collect(),
            }
        })
        .collect()
    }

    fn check_free_name(&self, name: &str, uuid: Option<Uuid>) -> Result<(), PoolError> {
        check_name("volume name", name)?;
        let datasets = self.datasets.borrow();
        let taken = |what, value| Err(PoolError::Taken { what, value, pool: self.name.clone() });
        if datasets.values().any(|one| one.is_live() && *one.name.borrow() == name) {
            return taken("the name", name.to_owned());
        }
        match uuid {
            Some(uuid) if datasets.values().any(|one| one.uuid == uuid) => {
                taken("the UUID", uuid.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Adds a dataset to the table; the next checkpoint writes it.
    fn add(&self, record: VolumeRecord) -> Rc<Dataset> {
        let mut datasets = self.datasets.borrow_mut();
        let used: std::collections::BTreeSet<u64> = datasets.values().map(|one| one.slot).collect();
        let gone = self.gone.borrow();
        let slot = (0..).find(|slot| !used.contains(slot) && !gone.contains(slot)).unwrap_or(0);
        drop(gone);
        self.table_slots.set(self.table_slots.get().max(slot + 1));
        let dataset = Rc::new(Dataset::of(record, slot, &self.changed));
        dataset.touch();
        datasets.insert(dataset.id, Rc::clone(&dataset));
        dataset
    }

    fn take_id(&self) -> u64 {
        let id = self.next_dataset.get();
        self.next_dataset.set(id + 1);
        id
    }

    /// Refuses when there is not even room for the records of a change.
    fn check_room(&self, blocks: u64) -> Result<(), PoolError> {
        let needed = blocks + self.checkpoint_needs() + 8;
        if self.space.free_blocks() >= needed {
            return Ok(());
        }
        let (pool, available) = (self.name.clone(), self.space.free_blocks());
        Err(PoolError::NoSpace { pool, available, needed })
    }

    /// Begins a change: nobody else is inside, and what was freed before can be used.
    pub(super) async fn begin_change(&self) -> Result<Closed<'_>, PoolError> {
        let closed = self.gate.close().await;
        self.check_writable()?;
        if self.closed.get() {
            let (pool, reason) = (self.name.clone(), "it is being exported".to_owned());
            return Err(PoolError::ReadOnly { pool, reason });
        }
        if self.check_room(0).is_err() {
            self.commit(&closed, false).await?;
        }
        Ok(closed)
    }

    /// Makes an empty volume of `size_bytes`, a multiple of 4096.
    ///
    /// # Errors
    /// When the name, the UUID or the size cannot be, or there is no room.
    pub async fn create_volume(
        self: &Rc<Self>,
        name: &str,
        size_bytes: u64,
        options: &VolumeOptions,
    ) -> Result<Rc<Volume>, PoolError> {
        let size_blocks = check_size(size_bytes)?;
        let block_shift = match options.block_len {
            512 => 9,
            4096 => 12,
            other => {
                return Err(PoolError::Parameter {
                    parameter: "block size",
                    value: other.to_string(),
                    allowed: "512 or 4096".to_owned(),
                });
            }
        };
        let closed = self.begin_change().await?;
        self.check_free_name(name, options.uuid)?;
        self.check_room(0)?;
        let available = self.available_blocks();
        if !options.thin && available < size_blocks {
            let (pool, needed) = (self.name.clone(), size_blocks);
            return Err(PoolError::NoSpace { pool, available, needed });
        }
        let dataset = self.add(VolumeRecord {
            id: self.take_id(),
            uuid: options.uuid.unwrap_or_else(new_uuid),
            name: name.to_owned(),
            snapshot: false,
            state: DatasetState::Live,
            thin: options.thin,
            read_only: false,
            block_shift,
            size_blocks,
            parent: 0,
            txn: 0,
            cursor: 0,
            mapped: 0,
            height: height_for(size_blocks),
            root: BlockPtr::HOLE,
            tail: 0,
        });
        self.commit(&closed, true).await?;
        Ok(Rc::new(Volume::new(self, dataset)))
    }

    /// Makes a snapshot of a volume: what the volume holds now, for ever. Everything that was
    /// completed before is in it and durable.
    ///
    /// # Errors
    /// When the volume is a snapshot, the name is taken, or there is no room.
    pub async fn snapshot(
        self: &Rc<Self>,
        volume: &Volume,
        name: &str,
    ) -> Result<Rc<Volume>, PoolError> {
        let own = volume.dataset();
        let closed = self.begin_trimmed(own).await?;
        self.check_live(own)?;
        self.check_free_name(name, None)?;
        if own.snapshot {
            let problem = "a snapshot of a snapshot would be the same; make a clone".to_owned();
            return Err(PoolError::Refused { name: own.name.borrow().clone(), problem });
        }
        self.check_room(4)?;
        // The snapshot shares what is on the medium, so all of the volume has to be there.
        if let Err(error) = self.write_trees().await {
            self.stop(format!("a snapshot failed: {error}"));
            return Err(error);
        }
        let record = VolumeRecord {
            id: self.take_id(),
            uuid: new_uuid(),
            name: name.to_owned(),
            snapshot: true,
            txn: self.journal.take_txn(),
            thin: true,
            ..own.record(own.root.get())
        };
        let snapshot = self.add(record);
        own.parent.set(snapshot.id);
        own.thin.set(true);
        own.touch();
        self.commit(&closed, true).await?;
        Ok(Rc::new(Volume::new(self, snapshot)))
    }

    /// Makes a volume that begins as a snapshot.
    ///
    /// # Errors
    /// When it is no snapshot, the name is taken, or there is no room.
    pub async fn clone_volume(
        self: &Rc<Self>,
        snapshot: &Volume,
        name: &str,
    ) -> Result<Rc<Volume>, PoolError> {
        let closed = self.begin_change().await?;
        let own = snapshot.dataset();
        self.check_live(own)?;
        self.check_free_name(name, None)?;
        if !own.snapshot {
            let problem = "only a snapshot can be cloned; make a snapshot first".to_owned();
            return Err(PoolError::Refused { name: own.name.borrow().clone(), problem });
        }
        self.check_room(4)?;
        let clone = self.add(VolumeRecord {
            id: self.take_id(),
            uuid: new_uuid(),
            name: name.to_owned(),
            snapshot: false,
            read_only: false,
            parent: own.id,
            txn: 0,
            ..own.record(own.root.get())
        });
        self.commit(&closed, true).await?;
        Ok(Rc::new(Volume::new(self, clone)))
    }

    /// Deletes a volume or snapshot. Its name is free at once; its space returns in the background
    /// ([`Pool::reclaimed`]). The blocks of a snapshot that more than one other depends on return
    /// when only one is left.
    ///
    /// # Errors
    /// When there is no such volume.
    pub async fn delete_volume(self: &Rc<Self>, name: &str) -> Result<(), PoolError> {
        let closed = self.begin_change().await?;
        let Some(volume) = self.volume(name) else {
            let (pool, name) = (self.name.clone(), name.to_owned());
            return Err(PoolError::NoSuchVolume { pool, name });
        };
        let own = volume.dataset();
        own.state.set(DatasetState::Hidden);
        own.touch();
        self.promote_hidden();
        self.commit(&closed, true).await?;
        drop(closed);
        self.start_reaper();
        Ok(())
    }

    /// Hidden datasets on which at most one other depends can be deleted now.
    pub(super) fn promote_hidden(&self) {
        for dataset in self.deleted() {
            if dataset.state.get() == DatasetState::Hidden && self.children(dataset.id).len() <= 1 {
                dataset.state.set(DatasetState::Deleting);
                dataset.cursor.set(0);
                dataset.touch();
            }
        }
    }

    /// The datasets that have a parent.
    pub(super) fn children(&self, id: u64) -> Vec<Rc<Dataset>> {
        self.datasets.borrow().values().filter(|one| one.parent.get() == id).cloned().collect()
    }

    /// Gives a volume or snapshot another name.
    ///
    /// # Errors
    /// When the name cannot be or is taken.
    pub async fn rename_volume(
        self: &Rc<Self>,
        volume: &Volume,
        name: &str,
    ) -> Result<(), PoolError> {
        let closed = self.begin_change().await?;
        self.check_live(volume.dataset())?;
        self.check_free_name(name, None)?;
        *volume.dataset().name.borrow_mut() = name.to_owned();
        volume.dataset().touch();
        self.commit(&closed, true).await
    }

    /// Lets hosts write a volume or not.
    ///
    /// # Errors
    /// When it is a snapshot, which nobody can write.
    pub async fn set_read_only(
        self: &Rc<Self>,
        volume: &Volume,
        on: bool,
    ) -> Result<(), PoolError> {
        let closed = self.begin_change().await?;
        let own = volume.dataset();
        self.check_live(own)?;
        if own.snapshot && !on {
            let problem = "a snapshot is always read-only; make a clone".to_owned();
            return Err(PoolError::Refused { name: own.name.borrow().clone(), problem });
        }
        own.read_only.set(on);
        own.touch();
        self.commit(&closed, true).await
    }

    /// Makes a clone independent of its snapshot, by copying what it shares. Until it has returned,
    /// nothing but space has changed.
    ///
    /// # Errors
    /// When it is a snapshot, or there is no room.
    pub async fn decouple(self: &Rc<Self>, volume: &Volume) -> Result<(), PoolError> {
        let own = volume.dataset();
        self.check_live(own)?;
        if own.snapshot {
            let problem = "a snapshot cannot be decoupled".to_owned();
            return Err(PoolError::Refused { name: own.name.borrow().clone(), problem });
        }
        loop {
            self.own_blocks(own).await?;
            let closed = self.begin_trimmed(own).await?;
            self.check_live(own)?;
            // A snapshot that was made meanwhile has taken everything over again.
            if self.shares(own).await? {
                continue;
            }
            own.parent.set(0);
            own.touch();
            self.promote_hidden();
            self.commit(&closed, true).await?;
            drop(closed);
            self.start_reaper();
            return Ok(());
        }
    }

    /// Whether any block of a dataset belongs to a snapshot.
    async fn shares(self: &Rc<Self>, own: &Dataset) -> Result<bool, PoolError> {
        let mut at = 0;
        while at < own.size_blocks.get() {
            yield_now().await;
            let hole = self.hole_end(own, at).await?;
            if hole > at {
                at = hole;
                continue;
            }
            let end = ((at / 64 + 1) * 64).min(own.size_blocks.get());
            let ptrs = self.pointers(own, at, end - at).await?;
            let shared = |(block, ptr): (u64, &BlockPtr)| {
                !ptr.is_hole() && ptr.birth() <= self.prev(own, block + 1)
            };
            if (at..).zip(&ptrs).any(shared) {
                return Ok(true);
            }
            at = end;
        }
        Ok(false)
    }

    pub(super) fn check_live(&self, dataset: &Dataset) -> Result<(), PoolError> {
        if dataset.is_live() {
            return Ok(());
        }
        let name = dataset.name.borrow().clone();
        Err(PoolError::NoSuchVolume { pool: self.name.clone(), name })
    }
}

/// A UUID for something new: random, but by the reactor's seed in virtual time, so that such a run
/// repeats bit for bit.
pub(super) fn new_uuid() -> Uuid {
    match Reactor::current() {
        Some(reactor) if matches!(reactor.clock(), Clock::Virtual(_)) => {
            let random = u128::from(reactor.random()) << 64 | u128::from(reactor.random());
            uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
        }
        _ => Uuid::new_v4(),
    }
}

pub(super) fn check_size(size_bytes: u64) -> Result<u64, PoolError> {
    if size_bytes == 0
        || !size_bytes.is_multiple_of(BLOCK_BYTES as u64)
        || size_bytes > SIZE_BYTES_MAX
    {
        return Err(PoolError::Parameter {
            parameter: "size",
            value: format!("{size_bytes} bytes"),
            allowed: format!("a multiple of {BLOCK_BYTES} from {BLOCK_BYTES} to {SIZE_BYTES_MAX}"),
        });
    }
    Ok(size_bytes / BLOCK_BYTES as u64)
}
