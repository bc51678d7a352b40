//! The namespaces of a controller, and what they are.

use uuid::Uuid;

use super::error::LinkError;
use super::link::{Link, read};
use crate::nvme::spec::Sqe;
use crate::nvme::spec::identify::{
    ActiveNamespaces, IDENTIFY_LEN, IdentifyNamespace, NamespaceId, NamespaceIds, cns, csi, nsattr,
    nsfeat,
};
use crate::nvme::spec::register::Vs;

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
        if set != csi::NVM {
            tracing::warn!(nsid, set, "a namespace of another I/O command set is left out");
            return Ok(None);
        }
        let buf = self.identify(Sqe::identify(cns::NAMESPACE, nsid, 0), what).await?;
        let data: IdentifyNamespace = read(Some(&buf), what)?;
        if data.ncap.get() == 0 && data.nsze.get() == 0 {
            return Ok(None);
        }
        describe(nsid, ids, &data).map(Some)
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
    })
}

#[cfg(test)]
mod tests {
    use zerocopy::byteorder::little_endian::{U16, U64};

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
