//! The namespaces of a controller, and what they are.

use uuid::Uuid;

use super::error::LinkError;
use super::link::{Link, read};
use crate::nvme::spec::Sqe;
use crate::nvme::spec::identify::{
    ActiveNamespaces, Flbas, IDENTIFY_LEN, IdentifyNamespace, NamespaceId, NamespaceIds, cns, csi,
    nsattr, nsfeat,
};
use crate::nvme::spec::register::Vs;
use crate::nvme::spec::zns::{IdentifyControllerZoned, IdentifyNamespaceZoned, ozcs};

/// Namespaces of one controller that are looked at, at the most.
const NAMESPACES_MAX: usize = 8192;

/// Entries of one list of namespaces.
const LIST_ENTRIES: usize = 1024;

/// Unique names of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UniqueIds {
    /// IEEE EUI-64; all zero when none.
    pub eui64: [u8; 8],
    /// Globally unique identifier; all zero when none.
    pub nguid: [u8; 16],
    /// UUID; nil when none.
    pub uuid: Uuid,
}

impl UniqueIds {
    /// Whether there is any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The UUID, or one that stands for the other names.
    #[must_use]
    pub fn as_uuid(&self) -> Option<Uuid> {
        if !self.uuid.is_nil() {
            Some(self.uuid)
        } else if self.nguid != [0; 16] {
            Some(Uuid::from_bytes(self.nguid))
        } else if self.eui64 != [0; 8] {
            let mut bytes = [0; 16];
            bytes[8..].copy_from_slice(&self.eui64);
            Some(Uuid::from_bytes(bytes))
        } else {
            None
        }
    }
}

/// A namespace as a controller describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace {
    pub(crate) nsid: u32,
    pub(crate) ids: UniqueIds,
    /// Bytes per block.
    pub(crate) block_len: u32,
    /// Bytes that the medium prefers to write as one; the block when it does not tell.
    pub(crate) phys_block_len: u32,
    /// Size in blocks.
    pub(crate) num_blocks: u64,
    /// ANA group; 0 for none.
    pub(crate) group: u32,
    pub(crate) read_only: bool,
    /// Whether other controllers may have it too.
    pub(crate) shared: bool,
    /// Reservation capabilities.
    pub(crate) rescap: u8,
    /// Blocks of an atomic compare and write, 0's based; none when the controller's holds.
    pub(crate) nacwu: Option<u16>,
    /// Blocks of one source range of a copy; 0 when it cannot copy.
    pub(crate) copy_blocks_max: u16,
    /// Its zones, when it is of the zoned namespace command set.
    pub(crate) zones: Option<Zones>,
}

/// The zones of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Zones {
    /// Blocks from the beginning of one zone to that of the next; not 0.
    pub(crate) zone_blocks: u64,
    /// Bytes of one append at the most; none when it is the longest transfer.
    pub(crate) append_bytes_max: Option<u64>,
    /// Zones that can be open; none for all.
    pub(crate) open_max: Option<u32>,
    /// Zones that can be active; none for all.
    pub(crate) active_max: Option<u32>,
    /// Reads may cross from one zone to the next.
    pub(crate) reads_cross: bool,
}

impl Link {
    /// The namespaces that this code can use. What it cannot is named in the log and left out.
    pub(crate) async fn namespaces(&self) -> Result<Vec<Namespace>, LinkError> {
        let mut found = Vec::new();
        for nsid in self.active().await? {
            match self.namespace(nsid).await {
                Ok(Some(namespace)) => found.push(namespace),
                Ok(None) => {}
                // It may have gone since the list was made.
                Err(LinkError::Refused { status, .. }) => {
                    tracing::warn!(nsid, %status, "a namespace cannot be identified");
                }
                Err(LinkError::Data { what, why }) => {
                    tracing::warn!(nsid, what, why, "a namespace cannot be used");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn identify(
        &self,
        sqe: Sqe,
        what: &'static str,
    ) -> Result<crate::env::DmaBuf, LinkError> {
        let (_, buf) = self.admin(sqe, Some(self.buffer(IDENTIFY_LEN)?), what).await?;
        buf.ok_or(LinkError::Closed { what })
    }

    /// The identifiers of the active namespaces.
    async fn active(&self) -> Result<Vec<u32>, LinkError> {
        let what = "active namespace list";
        let mut all: Vec<u32> = Vec::new();
        loop {
            let after = all.last().copied().unwrap_or(0);
            let sqe = Sqe::identify(cns::ACTIVE_NAMESPACES, after, 0);
            let buf = self.identify(sqe, what).await?;
            let before = all.len();
            for nsid in ActiveNamespaces::new(buf.as_slice()).take(LIST_ENTRIES) {
                if nsid <= all.last().copied().unwrap_or(0) {
                    let why = format!("namespace {nsid} is not in ascending order");
                    return Err(LinkError::Data { what, why });
                }
                all.push(nsid);
            }
            if all.len() - before < LIST_ENTRIES || all.last() >= Some(&0xffff_fffd) {
                return Ok(all);
            }
            if all.len() >= NAMESPACES_MAX {
                tracing::warn!(limit = NAMESPACES_MAX, "further namespaces are not looked at");
                return Ok(all);
            }
        }
    }

    /// One namespace; none when it is gone or of another I/O command set.
    async fn namespace(&self, nsid: u32) -> Result<Option<Namespace>, LinkError> {
        let what = "identify namespace";
        let (ids, set) = self.unique_ids(nsid).await?;
        if set != csi::NVM && set != csi::ZONED {
            tracing::warn!(nsid, set, "a namespace of another I/O command set is left out");
            return Ok(None);
        }
        let buf = self.identify(Sqe::identify(cns::NAMESPACE, nsid, 0), what).await?;
        let data: IdentifyNamespace = read(Some(&buf), what)?;
        if data.ncap.get() == 0 && data.nsze.get() == 0 {
            return Ok(None);
        }
        let mut found = describe(nsid, ids, &data)?;
        if set == csi::ZONED {
            found.zones = Some(self.zones(nsid, &data).await?);
        }
        Ok(Some(found))
    }

    /// The zones of a namespace (Zoned Namespace Command Set Specification 1.1, section 4.1.5).
    async fn zones(&self, nsid: u32, data: &IdentifyNamespace) -> Result<Zones, LinkError> {
        let what = "identify namespace, zoned namespace command set";
        let sqe = Sqe::identify(cns::NAMESPACE_CSI, nsid, csi::ZONED);
        let zoned: IdentifyNamespaceZoned = read(Some(&self.identify(sqe, what).await?), what)?;
        let what = "identify controller, zoned namespace command set";
        let sqe = Sqe::identify(cns::CONTROLLER_CSI, 0, csi::ZONED);
        let limits: IdentifyControllerZoned = read(Some(&self.identify(sqe, what).await?), what)?;
        zones_of(data, &zoned, (limits.zasl, self.info().cap.mpsmin()))
    }

    /// The unique names, and the I/O command set.
    async fn unique_ids(&self, nsid: u32) -> Result<(UniqueIds, u8), LinkError> {
        let what = "namespace identification descriptors";
        let (mut ids, mut set) = (UniqueIds::default(), csi::NVM);
        if self.info().vs.0 < Vs::V1_3.0 {
            return Ok((ids, set));
        }
        let buf = match self.identify(Sqe::identify(cns::NAMESPACE_IDS, nsid, 0), what).await {
            // A controller may have none; the data structure of the namespace names it then.
            Err(LinkError::Refused { status, .. }) if status.do_not_retry() => {
                return Ok((ids, set));
            }
            other => other?,
        };
        for id in NamespaceIds::new(buf.as_slice()) {
            match id.map_err(|error| LinkError::data(what, &error))? {
                NamespaceId::Eui64(id) => ids.eui64 = id,
                NamespaceId::Nguid(id) => ids.nguid = id,
                NamespaceId::Uuid(id) => ids.uuid = Uuid::from_bytes(id),
                NamespaceId::Csi(id) => set = id,
                NamespaceId::Other { .. } => {}
            }
        }
        Ok((ids, set))
    }
}

/// What the data structure says, checked.
fn describe(nsid: u32, ids: UniqueIds, data: &IdentifyNamespace) -> Result<Namespace, LinkError> {
    let what = "namespace";
    let mut ids = ids;
    if ids.nguid == [0; 16] {
        ids.nguid = data.nguid;
    }
    if ids.eui64 == [0; 8] {
        ids.eui64 = data.eui64;
    }
    let format = data.format();
    let Some(block_len) = format.block_bytes() else {
        let why = format!("a block of 2^{} bytes", format.lbads);
        return Err(LinkError::Data { what, why });
    };
    if format.ms.get() != 0 {
        let why = format!("blocks have {} bytes of metadata", format.ms);
        return Err(LinkError::Data { what, why });
    }
    let num_blocks = data.nsze.get();
    if num_blocks == 0 || num_blocks.checked_mul(block_len.into()).is_none() {
        return Err(LinkError::Data { what, why: format!("a size of {num_blocks} blocks") });
    }
    let optimal = data.nsfeat & nsfeat::OPTIMAL_FIELDS != 0;
    let physical = optimal.then(|| block_len.checked_mul(u32::from(data.npwg.get()) + 1)).flatten();
    let physical = physical.filter(|len| len.is_power_of_two());
    let own_atomics = data.nsfeat & nsfeat::ATOMIC_FIELDS != 0;
    Ok(Namespace {
        nsid,
        ids,
        block_len,
        phys_block_len: physical.unwrap_or(block_len),
        num_blocks,
        group: data.anagrpid.get(),
        read_only: data.nsattr & nsattr::WRITE_PROTECTED != 0,
        shared: data.nmic & 1 != 0,
        rescap: data.rescap,
        nacwu: own_atomics.then_some(data.nacwu.get()),
        copy_blocks_max: data.mssrl.get(),
        zones: None,
    })
}

/// What the zoned command set says of a namespace, checked. `(zasl, mpsmin)`: the longest append as
/// a power of two of the smallest page, and that page as one of 4096 bytes.
fn zones_of(
    data: &IdentifyNamespace,
    zoned: &IdentifyNamespaceZoned,
    (zasl, mpsmin): (u8, u8),
) -> Result<Zones, LinkError> {
    let what = "zoned namespace";
    let zone_blocks = zoned.lbafe[usize::from(Flbas(data.flbas).index())].zsze.get();
    let num_blocks = data.nsze.get();
    if zone_blocks == 0 || zone_blocks > num_blocks {
        let why = format!("zones of {zone_blocks} blocks where there are {num_blocks}");
        return Err(LinkError::Data { what, why });
    }
    // 0's based; all ones for no limit, which has no successor.
    let limit = |field: u32| field.checked_add(1);
    let append_bytes_max = match zasl {
        0 => None,
        shift => 4096_u64.checked_shl(u32::from(shift) + u32::from(mpsmin)).filter(|&max| max != 0),
    };
    Ok(Zones {
        zone_blocks,
        append_bytes_max,
        open_max: limit(zoned.mor.get()),
        active_max: limit(zoned.mar.get()),
        reads_cross: zoned.ozcs.get() & ozcs::READ_ACROSS != 0,
    })
}

#[cfg(test)]
mod tests {
    use zerocopy::byteorder::little_endian::{U16, U32, U64};

    use super::*;
    use crate::nvme::spec::identify::LbaFormat;

    fn data() -> IdentifyNamespace {
        let mut data = IdentifyNamespace { nsze: U64::new(1000), ..Default::default() };
        data.lbaf[0] = LbaFormat::new(9, 0);
        data
    }

    #[test]
    fn a_namespace_is_described() {
        let mut data = data();
        data.nguid = [7; 16];
        data.nsfeat = nsfeat::OPTIMAL_FIELDS;
        data.npwg = U16::new(7);
        let found = describe(3, UniqueIds::default(), &data).unwrap();
        assert_eq!((found.block_len, found.phys_block_len, found.num_blocks), (512, 4096, 1000));
        assert_eq!(found.ids.as_uuid(), Some(Uuid::from_bytes([7; 16])));
    }

    #[test]
    fn zones_are_described() {
        let mut zoned = IdentifyNamespaceZoned { mar: U32::new(u32::MAX), ..Default::default() };
        zoned.mor = U32::new(13);
        zoned.lbafe[0].zsze = U64::new(100);
        zoned.ozcs = U16::new(ozcs::READ_ACROSS);
        let found = zones_of(&data(), &zoned, (3, 1)).unwrap();
        assert_eq!((found.open_max, found.active_max), (Some(14), None));
        assert_eq!((found.zone_blocks, found.append_bytes_max), (100, Some(64 << 10)));
        assert!(found.reads_cross);
        assert_eq!(zones_of(&data(), &zoned, (0, 0)).unwrap().append_bytes_max, None);
        assert_eq!(zones_of(&data(), &zoned, (200, 0)).unwrap().append_bytes_max, None);
        for blocks in [0, 1001] {
            zoned.lbafe[0].zsze = U64::new(blocks);
            let refused = zones_of(&data(), &zoned, (0, 0)).unwrap_err().to_string();
            assert!(refused.contains(&format!("zones of {blocks} blocks")), "{refused}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let refused = |data: &IdentifyNamespace| describe(1, UniqueIds::default(), data).is_err();
        assert!(!refused(&data()));
        let mut metadata = data();
        metadata.lbaf[0] = LbaFormat::new(9, 8);
        let mut tiny = data();
        tiny.lbaf[0] = LbaFormat::new(3, 0);
        let empty = IdentifyNamespace { nsze: U64::new(0), ..data() };
        let huge = IdentifyNamespace { nsze: U64::new(u64::MAX), ..data() };
        assert!(refused(&metadata) && refused(&tiny) && refused(&empty) && refused(&huge));
    }
}
