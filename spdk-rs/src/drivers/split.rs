//! Devices that are equal parts of another one, side by side from its beginning on.
//!
//! Invariants:
//! * the device below is claimed once, for all of its parts, until the last of them is gone;
//! * a part is a range of blocks that does not change, whatever becomes of the device below; when
//!   that is removed its parts are, too;
//! * every I/O goes to the device below as it is, but for its place: FUA and flushes, too. A reset
//!   is one of the whole device below, and NVMe commands and zones, which name places of their own,
//!   are not passed.

use std::any::Any;
use std::rc::Rc;
use std::sync::{Arc, OnceLock, Weak};

use thiserror::Error;
use uuid::Uuid;

use super::layer::{LayerError, follow};
use crate::bdev::{
    Bdev, BdevChannel, BdevDesc, BdevInfo, BdevIo, BdevOps, ClaimKind, DeviceEvent, IoHandle,
    IoLimits, IoType, IoTypes, OpenMode, Registry, RegistryError,
};
use crate::reactor::{Reactor, ReactorHandle};

/// The driver's name.
pub const DRIVER: &str = "split";

/// The most parts of a device.
pub const COUNT_MAX: u32 = 1024;

/// What names places of its own.
const NOT_PASSED: IoTypes = IoTypes::of(&[
    IoType::NvmeAdmin,
    IoType::NvmeIo,
    IoType::ZoneManagement,
    IoType::ZoneAppend,
    IoType::ZoneReport,
]);

/// How long a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartSize {
    /// The device below by the number of parts; what remains is not used.
    Even,
    /// So many MiB.
    MiB(u64),
    /// So many blocks.
    Blocks(u64),
}

/// Why a device cannot be split.
#[derive(Debug, Error)]
pub enum SplitError {
    /// The device below is not there or in use, or a name or UUID is taken.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The device below has zones.
    #[error("{words}")]
    Zoned {
        /// Which device, and why that cannot be.
        words: String,
    },
    /// There is no room for one part.
    #[error(
        "device '{base}' has {blocks} blocks of {block_len} bytes, and a part would have {part}: \
         it has to have 1 to {blocks}"
    )]
    Room {
        /// The device below.
        base: String,
        /// Its blocks.
        blocks: u64,
        /// The length of a block in bytes.
        block_len: u32,
        /// Blocks that a part was to have.
        part: u64,
    },
    /// A part would not end with a block.
    #[error(
        "a part of {mib} MiB is no multiple of the {block_len} bytes of a block of device '{base}'"
    )]
    Uneven {
        /// The device below.
        base: String,
        /// The length of a block in bytes.
        block_len: u32,
        /// MiB that a part was to have.
        mib: u64,
    },
}

/// Makes the parts of a device, `p0` and so on behind its name, and registers them. With a size that
/// is given there are as many as there is room for, and `count` at the most.
///
/// `reactor` removes the parts when the device below is removed.
///
/// # Errors
/// [`SplitError`]; then the device below is as it was.
pub async fn create(
    registry: &Arc<Registry>,
    reactor: &ReactorHandle,
    base: &str,
    count: u32,
    size: PartSize,
) -> Result<Vec<Arc<Bdev>>, SplitError> {
    let base = registry.find(base).map_err(LayerError::from)?;
    base.refuse_zoned("parts").map_err(|words| SplitError::Zoned { words })?;
    let part_blocks = part_blocks(&base, count, size)?;
    let room = base.num_blocks() / part_blocks;
    let made = room.min(u64::from(count.clamp(1, COUNT_MAX)));
    if made < u64::from(count) {
        tracing::warn!(device = base.name(), count, made, "there is room for fewer parts");
    }
    let names: Vec<(String, Uuid)> = (0..made)
        .map(|index| {
            let name = format!("{}p{index}", base.name());
            let uuid = Uuid::new_v5(&base.info().uuid, format!("{DRIVER}:{name}").as_bytes());
            (name, uuid)
        })
        .collect();
    for (name, uuid) in &names {
        registry.check_free(name, Some(*uuid)).map_err(LayerError::from)?;
    }
    let all: AllParts = Arc::default();
    let desc = open(registry, reactor, &base, &all)?;
    let parts: Vec<Arc<Bdev>> = (0..)
        .zip(names)
        .map(|(index, (name, uuid))| {
            let limits = IoLimits::default();
            let product_name = "Split Disk".to_owned();
            let (aliases, driver_name, num_blocks) = (Vec::new(), DRIVER, part_blocks);
            let info = BdevInfo {
                name,
                aliases,
                uuid,
                product_name,
                driver_name,
                num_blocks,
                limits,
                ..base.info().clone()
            };
            let desc = Arc::clone(&desc);
            Bdev::new(info, Box::new(Part { desc, first: index * part_blocks, count: made, size }))
        })
        .collect();
    let _ = all.set(parts.iter().map(Arc::downgrade).collect());
    for (index, part) in parts.iter().enumerate() {
        if let Err(error) = registry.register(part) {
            for made in &parts[..index] {
                // One that is gone already is what is wanted.
                let _ = registry.unregister(made.name()).await;
            }
            return Err(LayerError::from(error).into());
        }
    }
    if base.is_removed() {
        // It went before the listener knew of the parts.
        for part in &parts {
            follow(part, &DeviceEvent::Removed, &Arc::downgrade(registry), reactor);
        }
    }
    Ok(parts)
}

/// The parts, for whoever is told that the device below was removed.
type AllParts = Arc<OnceLock<Vec<Weak<Bdev>>>>;

/// Opens and claims the device below.
fn open(
    registry: &Arc<Registry>,
    reactor: &ReactorHandle,
    base: &Arc<Bdev>,
    all: &AllParts,
) -> Result<Arc<BdevDesc>, LayerError> {
    let (mode, kind) = if base.info().read_only {
        (OpenMode::Read, ClaimKind::ReadOnly)
    } else {
        (OpenMode::ReadWrite, ClaimKind::ExclusiveWrite)
    };
    let listener = {
        let (all, registry, reactor) = (Arc::clone(all), Arc::downgrade(registry), reactor.clone());
        Arc::new(move |_: &Bdev, event: &DeviceEvent| {
            if matches!(event, DeviceEvent::Removed) {
                for part in all.get().into_iter().flatten().filter_map(Weak::upgrade) {
                    follow(&part, event, &registry, &reactor);
                }
            }
        })
    };
    let owner = format!("split of device '{}'", base.name());
    let desc = BdevDesc::open(base, mode, &owner, Some(listener))?;
    desc.claim(kind)?;
    Ok(desc)
}

/// The blocks of a part.
fn part_blocks(base: &Bdev, count: u32, size: PartSize) -> Result<u64, SplitError> {
    let (blocks, block_len) = (base.num_blocks(), base.info().block_len);
    let part = match size {
        PartSize::Even => blocks / u64::from(count.max(1)),
        PartSize::Blocks(part) => part,
        PartSize::MiB(mib) => {
            // More bytes than can be counted are more than there is room for.
            let bytes = mib.checked_mul(1 << 20).unwrap_or(u64::MAX << 20);
            if !bytes.is_multiple_of(u64::from(block_len)) {
                let base = base.name().to_owned();
                return Err(SplitError::Uneven { base, block_len, mib });
            }
            bytes / u64::from(block_len)
        }
    };
    if part == 0 || part > blocks {
        let base = base.name().to_owned();
        return Err(SplitError::Room { base, blocks, block_len, part });
    }
    Ok(part)
}

/// What a part is of.
#[derive(Clone, Debug)]
pub struct PartOf {
    /// The device below.
    pub base: Arc<Bdev>,
    /// How many parts there were made.
    pub count: u64,
    /// What was asked for as their size.
    pub size: PartSize,
}

/// What a device is a part of; none when it is no part.
#[must_use]
pub fn part_of(bdev: &Bdev) -> Option<PartOf> {
    let part = bdev.ops().as_any()?.downcast_ref::<Part>()?;
    let base = Arc::clone(part.desc.bdev());
    Some(PartOf { base, count: part.count, size: part.size })
}

/// The parts of a device, in order.
#[must_use]
pub fn parts_of(registry: &Registry, base: &Bdev) -> Vec<Arc<Bdev>> {
    let all = registry.all_in_order().into_iter();
    all.filter(|part| part_of(part).is_some_and(|part| part.base.id() == base.id())).collect()
}

/// Removes the parts of a device; returns how many there were. When it returns their claim is gone,
/// unless somebody still has one of them open.
///
/// # Errors
/// [`RegistryError::NotFound`] when somebody else removed one at the same time.
pub async fn delete(registry: &Registry, base: &Bdev) -> Result<usize, RegistryError> {
    let parts = parts_of(registry, base);
    for part in &parts {
        registry.unregister(part.name()).await?;
    }
    Ok(parts.len())
}

/// A part for all cores.
struct Part {
    desc: Arc<BdevDesc>,
    first: u64,
    count: u64,
    size: PartSize,
}

impl BdevOps for Part {
    fn io_types(&self) -> IoTypes {
        self.desc.bdev().io_types().without(NOT_PASSED)
    }

    fn create_channel(&self, _reactor: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(PartChannel { base: self.desc.io_handle()?, first: self.first }))
    }

    fn driver_info(&self) -> serde_json::Value {
        serde_json::json!({
            "base_bdev": self.desc.bdev().name(),
            "offset_blocks": self.first,
        })
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// The base on one core.
struct PartChannel {
    base: IoHandle,
    first: u64,
}

impl BdevChannel for PartChannel {
    #[inline]
    fn submit(&mut self, io: BdevIo) {
        self.base.forward_at(io, self.first);
    }
}

#[cfg(test)]
mod tests;
