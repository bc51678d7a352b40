//! Volumes and snapshots as block devices.
//!
//! A pool lives on one reactor, its home. An I/O from there is a task of that reactor; from another
//! core it is sent to the home, and its answer comes back. Data are copied once, on the core of the
//! I/O and from or to its memory: the pool needs them in a buffer of its own.
//!
//! Invariants:
//!
//! * A device never holds its pool: when the pool is exported, I/O ends with "the device is gone".
//! * An I/O that was accepted is completed, also when the home's reactor has ended.
//! * The buffers that the I/O of one core has at once are bounded, so that the pool itself always
//!   has memory for its journal.

mod budget;
mod home;
mod lane;

use std::rc::Rc;
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "facts for listings are control plane")]
use std::sync::Mutex;

use serde_json::Value;
use spdk_rs::bdev::{Bdev, BdevChannel, BdevInfo, BdevIo, BdevOps, IoLimits, IoType, IoTypes};
use spdk_rs::reactor::{Reactor, ReactorHandle};

use super::VolumeInfo;
use super::layout::BLOCK_BYTES;
pub(super) use home::Home;
use lane::Lane;

/// The driver of volumes and snapshots, as SPDK calls it.
pub const DRIVER: &str = "lvol";

/// Facts of a volume for listings, as they were after the last change.
#[derive(Clone, Default)]
#[expect(clippy::disallowed_types, reason = "see the import")]
pub(super) struct Facts(Arc<Mutex<Value>>);

impl Facts {
    pub(super) fn set(&self, facts: Value) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = facts;
    }

    fn get(&self) -> Value {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// Where a volume lives and what its writes may be.
#[derive(Clone)]
pub(super) struct Place {
    /// The reactor of its pool.
    pub(super) home: ReactorHandle,
    /// The volume's key there.
    pub(super) key: u64,
    /// The name of its pool.
    pub(super) pool: String,
    /// See [`super::Pool::write_blocks_max`].
    pub(super) write_blocks_max: u64,
    /// Whether the pool takes no changes.
    pub(super) read_only: bool,
}

/// The device of a volume or snapshot; it is not registered yet.
pub(super) fn device(volume: &VolumeInfo, place: Place, facts: Facts) -> Arc<Bdev> {
    let per_block = BLOCK_BYTES as u64 / u64::from(volume.block_len);
    // A write that begins inside of a block covers one block more than it has.
    let covered = if per_block == 1 { 0 } else { 1 };
    let blocks_max = place.write_blocks_max.saturating_sub(covered).max(1) * per_block;
    let info = BdevInfo {
        name: format!("{}/{}", place.pool, volume.name),
        aliases: Vec::new(),
        uuid: volume.uuid,
        product_name: "Logical Volume".to_owned(),
        driver_name: DRIVER,
        block_len: volume.block_len,
        phys_block_len: u32::try_from(BLOCK_BYTES).unwrap_or(volume.block_len),
        num_blocks: volume.size_bytes / u64::from(volume.block_len),
        alignment: 1,
        // The journal is on the medium only once it is flushed.
        write_cache: true,
        read_only: volume.read_only || place.read_only,
        limits: IoLimits { blocks_max, ..IoLimits::default() },
    };
    let block_len = volume.block_len;
    Bdev::new(info, Box::new(Lvol { place, block_len, facts }))
}

struct Lvol {
    place: Place,
    block_len: u32,
    facts: Facts,
}

impl BdevOps for Lvol {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[
            IoType::Read,
            IoType::Write,
            IoType::Flush,
            IoType::Unmap,
            IoType::WriteZeroes,
        ])
    }

    fn create_channel(&self, reactor: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        let lane = Lane::new(reactor, &self.place, self.block_len);
        Ok(Box::new(LvolChannel { lane: Rc::new(lane), reactor: Rc::clone(reactor) }))
    }

    fn driver_info(&self) -> Value {
        self.facts.get()
    }
}

struct LvolChannel {
    lane: Rc<Lane>,
    reactor: Rc<Reactor>,
}

impl BdevChannel for LvolChannel {
    fn submit(&mut self, io: BdevIo) {
        self.reactor.spawn("lvol", Rc::clone(&self.lane).serve(io));
    }
}
