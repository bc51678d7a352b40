//! Making a pool and opening one: superblocks, recovery.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::IoHandle;
use uuid::Uuid;

use super::dataset::{Dataset, TABLE};
use super::device::Device;
use super::digest::{DigestKind, digest};
use super::journal::{Journal, Scan, Start, scan};
use super::layout::{
    BLOCK_BYTES, BlockPtr, DatasetState, Entry, EntryKind, Extent, FANOUT_BITS, Geometry,
    NAME_BYTES_MAX, PtrKind, Superblock, SuperblockError, VolumeRecord,
};
use super::manage::new_uuid;
use super::mutant::Mutant;
use super::space::Space;
use super::stats::Counters;
use super::tree::Trees;
use super::{Pool, PoolError};

/// Bytes of clean nodes in memory unless told otherwise.
const CACHE_BYTES: u64 = 64 << 20;

/// What a pool is made of.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Name, 1 to 255 bytes.
    pub name: String,
    /// UUID; random when none.
    pub uuid: Option<Uuid>,
    /// How blocks are digested.
    pub digest: DigestKind,
    /// Bytes of the journal, a multiple of 4 KiB; chosen by the size of the device when none.
    pub journal_bytes: Option<u64>,
    /// Bytes of clean nodes in memory at the most.
    pub cache_bytes: u64,
    /// Overwrite a pool that is there already.
    pub force: bool,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            uuid: None,
            digest: DigestKind::Sha256,
            journal_bytes: None,
            cache_bytes: CACHE_BYTES,
            force: false,
        }
    }
}

/// How a pool is opened.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Bytes of clean nodes in memory at the most.
    pub cache_bytes: u64,
    /// Look only: nothing is written, changes are refused.
    pub read_only: bool,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { cache_bytes: CACHE_BYTES, read_only: false }
    }
}

/// Checks a name of a pool or volume.
pub(super) fn check_name(parameter: &'static str, name: &str) -> Result<(), PoolError> {
    let possible = (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.chars().any(|c| c.is_control() || c == '/');
    if possible {
        return Ok(());
    }
    let allowed = format!("1 to {NAME_BYTES_MAX} bytes without '/' and control characters");
    Err(PoolError::Parameter { parameter, value: format!("{name:?}"), allowed })
}

impl Pool {
    /// Makes a pool on a device.
    ///
    /// # Errors
    /// When the device already holds a pool (unless forced), is too small, or fails.
    pub async fn create(device: IoHandle, options: &PoolOptions) -> Result<Rc<Self>, PoolError> {
        check_name("pool name", &options.name)?;
        let device = Rc::new(Device::new(device)?);
        let journal_blocks = options.journal_bytes.map(|bytes| bytes / BLOCK_BYTES as u64);
        let geometry = Geometry::new(device.blocks(), journal_blocks)?;
        let older = find_superblock(&device).await;
        if !options.force {
            refuse_existing(&device, &older)?;
        }
        // What is left of an older pool must neither be newer nor pass for records of this one.
        let (generation, epoch) =
            older.map_or((0, 0), |older| (older.generation + 1, older.epoch + 1));
        let superblock = Superblock {
            uuid: options.uuid.unwrap_or_else(new_uuid),
            name: options.name.clone(),
            digest: options.digest,
            compatible: 0,
            read_only: 0,
            generation,
            epoch: epoch + 1,
            geometry,
            journal_position: 0,
            next_record: 1,
            next_txn: 1,
            next_dataset: 1,
            table_height: 1,
            table_slots: 0,
            table_root: BlockPtr::HOLE,
            space_root: BlockPtr::HOLE.with_aux(geometry.usable()),
            clean: false,
        };
        let pool = Self::of(device, &superblock, options.cache_bytes);
        // The first two checkpoints write both pairs, so that nothing of an older pool is left.
        pool.commit_forced().await?;
        pool.commit_forced().await?;
        Ok(pool)
    }

    /// Opens the pool on a device, and brings it to the state that was acknowledged as durable.
    ///
    /// # Errors
    /// When there is no pool, it is damaged where it cannot be told from its digests what was
    /// there, its format is not known, or the device fails.
    pub async fn import(device: IoHandle, options: &ImportOptions) -> Result<Rc<Self>, PoolError> {
        let device = Rc::new(Device::new(device)?);
        let superblock = find_superblock(&device).await?;
        if device.blocks() < superblock.geometry.total_blocks {
            return Err(PoolError::Shrunk {
                device: device.name().to_owned(),
                device_blocks: device.blocks(),
                pool_blocks: superblock.geometry.total_blocks,
            });
        }
        let begun = Counters::now();
        let pool = Self::of(device, &superblock, options.cache_bytes);
        pool.load_table().await?;
        let start = pool.journal.start_after();
        let found = scan(&pool.device, pool.uuid, pool.digest, superblock.geometry, start).await?;
        let unknown = superblock.unknown_read_only();
        if unknown != 0 {
            pool.stop(format!(
                "its format has features {unknown:#x}, which this build cannot write"
            ));
        }
        let replayed = pool.replay(&found).await?;
        pool.counters.recovered(begun, found.records, replayed);
        let (name, records) = (&pool.name, found.records);
        if superblock.clean {
            tracing::info!(pool = name, "the pool was exported in good order");
        } else {
            let words = "the pool was not exported, its journal was replayed";
            tracing::warn!(pool = name, records, transactions = replayed, "{words}");
        }
        if options.read_only {
            pool.end_changes("it was imported to be read only");
        }
        if pool.is_read_only().is_none() {
            pool.begin_life(&found, superblock.epoch + 1).await?;
        }
        pool.start_reaper();
        Ok(pool)
    }

    /// The pool of a superblock, with nothing read yet.
    fn of(device: Rc<Device>, superblock: &Superblock, cache_bytes: u64) -> Rc<Self> {
        let start = Start {
            epoch: superblock.epoch,
            generation: superblock.generation,
            position: superblock.journal_position,
            next_record: superblock.next_record,
            next_txn: superblock.next_txn,
        };
        let (uuid, geometry, kind) = (superblock.uuid, superblock.geometry, superblock.digest);
        let journal = Rc::new(Journal::new(Rc::clone(&device), uuid, kind, geometry, start));
        Rc::new(Self {
            device,
            name: superblock.name.clone(),
            uuid,
            digest: kind,
            compatible: superblock.compatible,
            digester: super::Digester::new(kind),
            geometry: Cell::new(geometry),
            space: Space::open(geometry, kind, superblock.space_root),
            trees: Trees::new(kind, cache_bytes),
            journal,
            gate: super::Gate::default(),
            datasets: RefCell::new(BTreeMap::new()),
            changed: Rc::default(),
            thick: RefCell::default(),
            table: Dataset::table(superblock.table_root, superblock.table_height),
            gone: RefCell::default(),
            next_dataset: Cell::new(superblock.next_dataset),
            table_slots: Cell::new(superblock.table_slots),
            stopped: RefCell::default(),
            closed: Cell::new(false),
            flusher: RefCell::default(),
            flushed: super::WaitList::default(),
            checkpoint_wanted: Cell::new(false),
            checkpoints: Cell::new(0),
            checkpointed: super::WaitList::default(),
            reaping: Cell::new(false),
            reaped: super::WaitList::default(),
            scrub: super::scrub::Scrub::default(),
            counters: Counters::default(),
        })
    }

    /// Reads the records of all volumes and snapshots.
    async fn load_table(&self) -> Result<(), PoolError> {
        for leaf in 0..self.table_slots.get().div_ceil(1 << FANOUT_BITS) {
            let Some(node) = self.trees.node(&self.device, &self.table, 1, leaf).await? else {
                continue;
            };
            for (slot, ptr) in node.ptrs.iter().enumerate() {
                if ptr.is_hole() {
                    continue;
                }
                let place = (leaf << FANOUT_BITS) + slot as u64;
                let record = self.load_record(place, ptr).await?;
                let dataset = Rc::new(Dataset::of(record, place, &self.changed));
                self.table.mapped.set(self.table.mapped.get() + 1);
                self.datasets.borrow_mut().insert(dataset.id, dataset);
            }
        }
        Ok(())
    }

    async fn load_record(&self, place: u64, ptr: &BlockPtr) -> Result<VolumeRecord, PoolError> {
        let buf = self.device.read_blocks(ptr.address(), 1).await?;
        let right = digest(self.digest, buf.as_slice()) == ptr.digest;
        VolumeRecord::parse(buf.as_slice())
            .filter(|record| right && ptr.kind() == Some(PtrKind::Record) && record.id != TABLE)
            .ok_or_else(|| PoolError::Corrupt {
                what: format!("the record of volume {place}"),
                address: ptr.address(),
            })
    }

    /// Applies what the journal says to what the superblock says. Nothing is written.
    async fn replay(&self, found: &Scan) -> Result<u64, PoolError> {
        let aborted: Vec<u64> = found
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Abort && !Mutant::ReplayAborted.is_on())
            .map(|entry| entry.txn)
            .collect();
        let mut replayed = 0;
        for entry in found.entries.iter().filter(|entry| entry.kind == EntryKind::Map) {
            let durable = entry.txn <= found.durable_txn;
            if aborted.contains(&entry.txn) || !(durable || self.is_whole(entry).await?) {
                continue;
            }
            self.replay_entry(entry).await?;
            replayed += 1;
        }
        Ok(replayed)
    }

    /// Whether the blocks of a transaction are what it says. If not, the transaction was not on
    /// the medium when power failed, and never happened.
    async fn is_whole(&self, entry: &Entry) -> Result<bool, PoolError> {
        if Mutant::NoDataDigestAtRecovery.is_on() {
            return Ok(true);
        }
        for extent in &entry.extents {
            let Some(address) = extent.address else { continue };
            for (address, expected) in (address..).zip(&extent.digests) {
                let read = self.device.read_blocks(address, 1).await;
                let media = |status: &NvmeStatus| status.sct() == 2;
                match read {
                    Ok(buf) if digest(self.digest, buf.as_slice()) == *expected => {}
                    Ok(_) => return Ok(false),
                    // A block that was being written when power failed may be unreadable.
                    Err(PoolError::Device { status, .. }) if media(&status) => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(true)
    }

    async fn replay_entry(&self, entry: &Entry) -> Result<(), PoolError> {
        let unknown = || {
            let (txn, id) = (entry.txn, entry.dataset);
            PoolError::Inconsistent(format!(
                "transaction {txn} is of volume {id}, which is not there"
            ))
        };
        let dataset = self.dataset(entry.dataset).ok_or_else(unknown)?;
        for extent in &entry.extents {
            if extent.offset.saturating_add(extent.count) > dataset.reach() {
                let problem = format!("transaction {} reaches beyond its volume", entry.txn);
                return Err(PoolError::Inconsistent(problem));
            }
            if let Some(address) = extent.address {
                self.space.mark_used(&self.device, (address, extent.count)).await?;
            }
            self.replay_extent(&dataset, extent, entry.txn).await?;
        }
        Ok(())
    }

    async fn replay_extent(
        &self,
        dataset: &Rc<Dataset>,
        extent: &Extent,
        txn: u64,
    ) -> Result<(), PoolError> {
        let end = extent.offset + extent.count;
        let leaves = self.trees.leaves(&self.device, dataset, extent.offset, end).await?;
        let ptrs = extent.ptrs(txn);
        for (block, ptr) in (extent.offset..end).zip(ptrs) {
            self.map_block(dataset, block, ptr, &leaves, txn, !Mutant::ReplayLeaks.is_on());
        }
        Ok(())
    }

    /// Begins a new life: records of the old one count no more once the superblock is written.
    async fn begin_life(&self, found: &Scan, epoch: u64) -> Result<(), PoolError> {
        let last = found.entries.iter().map(|entry| entry.txn + 1).max().unwrap_or(0);
        self.journal.restart(found.position, found.next_record, last, epoch);
        self.commit_forced().await
    }

    /// Datasets that are being deleted or wait for it.
    pub(super) fn deleted(&self) -> Vec<Rc<Dataset>> {
        let datasets = self.datasets.borrow();
        datasets.values().filter(|one| one.state.get() != DatasetState::Live).cloned().collect()
    }
}

impl Extent {
    /// The pointers of its blocks.
    pub(super) fn ptrs(&self, txn: u64) -> impl Iterator<Item = BlockPtr> + '_ {
        (0..self.count).map(move |at| {
            let digest = usize::try_from(at).ok().and_then(|at| self.digests.get(at));
            match (self.address, digest) {
                (Some(address), Some(digest)) => {
                    BlockPtr::new(PtrKind::Data, 0, address + at, txn, *digest)
                }
                _ => BlockPtr::HOLE,
            }
        })
    }
}

/// The superblocks at the places of a pool of so many blocks.
pub(super) async fn read_superblocks(
    device: &Device,
    total_blocks: u64,
) -> Vec<(u64, Result<Superblock, SuperblockError>)> {
    let mut found = Vec::new();
    for place in (Geometry { total_blocks, journal_blocks: 0 }).superblocks() {
        let read = device.read_blocks(place, 1).await;
        let parsed = match read {
            Ok(buf) => Superblock::parse(buf.as_slice()),
            Err(_) => Err(SuperblockError::Damaged),
        };
        found.push((place, parsed));
    }
    found
}

/// Finds the newest whole superblock.
pub(super) async fn find_superblock(device: &Device) -> Result<Superblock, PoolError> {
    let own = Geometry::total_of(device.blocks());
    if own < 1024 {
        return Err(PoolError::NotAPool { device: device.name().to_owned() });
    }
    let mut found = read_superblocks(device, own).await;
    // A pool that has not grown with its device has its last superblocks further in front.
    let first = found.iter().find_map(|(_, parsed)| parsed.as_ref().ok().cloned());
    if let Some(first) = first
        && first.geometry.total_blocks < own
    {
        let total = first.geometry.total_blocks;
        found.extend(read_superblocks(device, total).await.split_off(2));
    }
    let pick = |best: Option<Superblock>, next: &Superblock| match best {
        Some(best) if Mutant::OldestSuperblock.is_on() => Some(best),
        Some(best) if best.generation >= next.generation => Some(best),
        _ => Some(next.clone()),
    };
    let newest = found.iter().filter_map(|(_, parsed)| parsed.as_ref().ok()).fold(None, pick);
    if let Some(newest) = newest {
        return Ok(newest);
    }
    let device_name = device.name().to_owned();
    for (_, parsed) in &found {
        if let Err(SuperblockError::Format(what, found, allowed)) = parsed {
            let (found, allowed) = (found.clone(), allowed.clone());
            return Err(PoolError::Format { device: device_name, what, found, allowed });
        }
    }
    if found.iter().all(|(_, parsed)| *parsed == Err(SuperblockError::Absent)) {
        return Err(PoolError::NotAPool { device: device_name });
    }
    let words = |(place, parsed): &(u64, Result<Superblock, SuperblockError>)| {
        let what =
            if *parsed == Err(SuperblockError::Absent) { "something else" } else { "damaged" };
        format!("block {place}: {what}")
    };
    let found = found.iter().map(words).collect::<Vec<_>>().join(", ");
    Err(PoolError::NoSuperblock { device: device_name, found })
}

/// Refuses a device that holds a pool, or what was one.
fn refuse_existing(
    device: &Device,
    found: &Result<Superblock, PoolError>,
) -> Result<(), PoolError> {
    match found {
        Err(PoolError::NotAPool { .. }) => Ok(()),
        Err(error) => Err(error.clone()),
        Ok(found) => Err(PoolError::HoldsPool {
            device: device.name().to_owned(),
            pool: found.name.clone(),
            uuid: found.uuid,
        }),
    }
}
