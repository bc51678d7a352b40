//! Zoned devices: zones that are written from their first block on, and reset as a whole.
//!
//! The data of a report are those of NVMe (Zoned Namespace Command Set Specification 1.1, section
//! 3.4.2.2), whatever the driver. What a device below another one does is passed as it is.
//!
//! Invariants:
//! * a write is never done out of order by this layer: the parts of a large one follow each other,
//!   and one that would cross from a zone to the next is refused before its first part;
//! * an append is one command or none;
//! * nothing is emulated that writes: unmap, write zeroes and copy are the device's or are refused.

use super::buf::IoBuf;
use super::channel::Channel;
use super::future::IoFuture;
use super::handle::{IoHandle, IoRequest};
use super::io::BdevIo;
use super::{Bdev, IoType};
use crate::NvmeStatus;
use crate::env::DmaBuf;

mod kinds;

pub use kinds::{ZoneAction, ZoneState};

/// Bytes of the header of a report, and of each zone in it.
const HEADER_BYTES: usize = 64;
const ZONE_BYTES: usize = 64;

/// Bytes of the buffer with which zones are asked for, where the device takes as many.
const REPORT_BYTES: u64 = 64 << 10;

/// The bit of an I/O's argument that means all zones, beside the number of the action.
const ALL_ZONES: u64 = 1 << 8;

/// The zones of a device, as far as they are the same as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneGeometry {
    /// From the first block of a zone to that of the next, in blocks; not 0.
    pub zone_blocks: u64,
    /// Blocks of one append at the most.
    pub append_blocks_max: u64,
    /// Zones that can be open at a time; `None` for all.
    pub open_max: Option<u32>,
    /// Zones that can be active (open or closed) at a time; `None` for all.
    pub active_max: Option<u32>,
    /// Whether a read may cross from one zone to the next.
    pub reads_cross: bool,
}

impl ZoneGeometry {
    /// The number of zones of a device of so many blocks.
    #[must_use]
    pub fn zones(&self, num_blocks: u64) -> u64 {
        num_blocks.div_ceil(self.zone_blocks)
    }

    /// Whether blocks are of more than one zone.
    #[must_use]
    pub fn crosses(&self, offset_blocks: u64, num_blocks: u64) -> bool {
        num_blocks > self.zone_blocks - offset_blocks % self.zone_blocks
    }
}

/// A zone as its device reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The first block.
    pub first_block: u64,
    /// Blocks from there on that can be written.
    pub capacity_blocks: u64,
    /// The block at which the next write has to begin; `None` in states without one.
    pub write_pointer: Option<u64>,
    /// The state.
    pub state: ZoneState,
}

impl Zone {
    /// The zone that a descriptor describes; `None` when its state is a reserved one.
    #[must_use]
    pub fn read(descriptor: &[u8; ZONE_BYTES]) -> Option<Self> {
        let word = |at: usize| le64(&descriptor[at..]);
        let state = ZoneState::from_bits(descriptor[1] >> 4)?;
        Some(Self {
            first_block: word(16),
            capacity_blocks: word(8),
            write_pointer: state.has_write_pointer().then(|| word(24)),
            state,
        })
    }
}

/// The number at the front of at least eight bytes.
fn le64(bytes: &[u8]) -> u64 {
    bytes[..8].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

impl Bdev {
    /// What keeps a consumer from using a device that needs blocks which can be written in any
    /// order; `Ok` for one that is not zoned.
    ///
    /// # Errors
    /// The words, for `what` ("a pool").
    pub fn refuse_zoned(&self, what: &str) -> Result<(), String> {
        let words = |_| {
            let name = self.name();
            let why = "its zones can only be written in order, and be reset as a whole";
            format!("{what} cannot be on the zoned device '{name}': {why}")
        };
        self.zones().map_or(Ok(()), |zones| Err(words(zones)))
    }
}

impl IoRequest {
    /// What a device is to do with the zone that begins at a block and has `zone_blocks` blocks.
    #[must_use]
    pub fn zone(first_block: u64, zone_blocks: u64, action: ZoneAction) -> Self {
        let mut request = Self::new(IoType::ZoneManagement, first_block, zone_blocks, IoBuf::None);
        request.source_blocks = action.bits().into();
        request
    }

    /// What a device of so many blocks is to do with all zones whose state allows it.
    #[must_use]
    pub fn all_zones(num_blocks: u64, action: ZoneAction) -> Self {
        let mut request = Self::zone(0, num_blocks, action);
        request.source_blocks |= ALL_ZONES;
        request
    }
}

impl BdevIo {
    /// Of a zone management: what is to be done, and whether with all zones. `None` when the
    /// number is that of no action.
    #[must_use]
    pub fn zone_action(&self) -> Option<(ZoneAction, bool)> {
        let argument = self.source_blocks();
        let action = u8::try_from(argument & !ALL_ZONES).ok().and_then(ZoneAction::from_bits)?;
        Some((action, argument & ALL_ZONES != 0))
    }
}

impl IoHandle {
    /// Reads a report of the zones from the one with a block on into a buffer: see
    /// [`ZoneReport::read`](crate::nvme::spec::zns::ZoneReport::read). Its count is that of the zones in the buffer.
    pub fn zone_report(&self, buf: DmaBuf, first_block: u64) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::ZoneReport, first_block, 0, buf.into()))
    }

    /// The zones from the one with a block on, `count_max` at the most.
    ///
    /// # Errors
    /// The status of the report that failed; [`NvmeStatus::INVALID_OPCODE`] of a device that is
    /// not zoned, [`NvmeStatus::INTERNAL_ERROR`] when a report makes no sense.
    pub fn zones(
        &self,
        first_block: u64,
        count_max: u64,
    ) -> impl Future<Output = Result<Vec<Zone>, NvmeStatus>> + use<> {
        let handle = self.clone();
        async move { handle.read_zones(first_block, count_max).await }
    }

    async fn read_zones(&self, first_block: u64, count_max: u64) -> Result<Vec<Zone>, NvmeStatus> {
        let (bdev, blocks) = (self.bdev(), self.num_blocks());
        let geometry = *bdev.zones().ok_or(NvmeStatus::INVALID_OPCODE)?;
        let longest = bdev.info().limits.blocks_max.saturating_mul(bdev.info().block_len.into());
        let bytes = usize::try_from(REPORT_BYTES.min(longest)).unwrap_or(usize::MAX);
        let (mut zones, mut next) = (Vec::new(), first_block);
        while (zones.len() as u64) < count_max && next < blocks {
            let mut buf = self.dma_malloc(bytes).map_err(|_| NvmeStatus::NOT_READY)?;
            buf.fill(0);
            let done = self.zone_report(buf, next).await.ok()?;
            let buf = done.into_one().ok_or(NvmeStatus::INTERNAL_ERROR)?;
            let before = next;
            for zone in read(buf.as_slice())? {
                let end = zone.first_block.saturating_add(geometry.zone_blocks);
                // A report that does not go on would never end.
                if end <= next {
                    return Err(NvmeStatus::INTERNAL_ERROR);
                }
                next = end;
                zones.push(zone);
            }
            if next == before {
                break;
            }
        }
        zones.truncate(usize::try_from(count_max).unwrap_or(usize::MAX));
        Ok(zones)
    }

    /// Does something with the zone that begins at a block.
    pub fn zone_manage(&self, first_block: u64, action: ZoneAction) -> IoFuture {
        let rest = self.num_blocks().saturating_sub(first_block);
        let zone_blocks = self.bdev().zones().map_or(rest, |zones| zones.zone_blocks.min(rest));
        self.submit_async(IoRequest::zone(first_block, zone_blocks, action))
    }

    /// Does something with all zones whose state allows it.
    pub fn zone_manage_all(&self, action: ZoneAction) -> IoFuture {
        self.submit_async(IoRequest::all_zones(self.num_blocks(), action))
    }

    /// Writes a buffer to the zone that begins at a block, where the device likes; the result is
    /// the first block that was written.
    pub fn zone_append(
        &self,
        buf: impl Into<IoBuf>,
        first_block: u64,
        num_blocks: u64,
    ) -> IoFuture {
        let kind = IoType::ZoneAppend;
        self.submit_async(IoRequest::new(kind, first_block, num_blocks, buf.into()))
    }
}

/// The zones of a report: as many as its header says and there is room for.
fn read(data: &[u8]) -> Result<Vec<Zone>, NvmeStatus> {
    let (header, rest) = data.split_at_checked(HEADER_BYTES).ok_or(NvmeStatus::INTERNAL_ERROR)?;
    let count = usize::try_from(le64(header)).unwrap_or(usize::MAX);
    let (descriptors, _) = rest.as_chunks::<ZONE_BYTES>();
    let zones = descriptors.iter().take(count).map(Zone::read);
    zones.collect::<Option<_>>().ok_or(NvmeStatus::INTERNAL_ERROR)
}

/// Whether a buffer can hold a report, with one zone at least, in one command.
pub(super) fn check_report(channel: &Channel, bytes: usize) -> Result<(), NvmeStatus> {
    let least = HEADER_BYTES + ZONE_BYTES;
    let most = channel.blocks_max.saturating_mul(channel.block_len.into());
    if bytes < least || !bytes.is_multiple_of(4) || bytes as u64 > most {
        return Err(NvmeStatus::DATA_SGL_LENGTH_INVALID);
    }
    Ok(())
}

/// Why an I/O that would have to be done in parts cannot be: with zones the parts of one write
/// could end in two of them, and those of an append anywhere.
pub(super) fn check_split(channel: &Channel, io: &BdevIo) -> Result<(), NvmeStatus> {
    let Some(zones) = channel.bdev().zones() else { return Ok(()) };
    match io.kind() {
        IoType::ZoneAppend => Err(NvmeStatus::INVALID_FIELD),
        IoType::Write | IoType::WriteZeroes
            if zones.crosses(io.offset_blocks(), io.num_blocks()) =>
        {
            Err(NvmeStatus::ZONE_BOUNDARY_ERROR)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::zoned as zoned_double;
