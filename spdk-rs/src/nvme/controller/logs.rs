//! Log pages that the host acts on: ANA states, and what a discovery controller knows.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use zerocopy::FromBytes;

use super::error::LinkError;
use super::link::{Link, read};
use crate::nvme::spec::log::{
    AnaLog, AnaLogHeader, AnaState, DiscoveryEntry, DiscoveryLogHeader, GetLogPage, lid, subtype,
    trtype,
};
use crate::nvme::{TransportId, TransportIdError};

/// Bytes of one Get Log Page command.
const PIECE_BYTES: u64 = 64 * 1024;

/// Bytes of a page that are read at the most.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// How often a page that changes while it is read is read again.
const ATTEMPTS_MAX: usize = 8;

/// Bytes of an entry of the discovery log page, and of its header.
const ENTRY_BYTES: u64 = 1024;

/// ANA states of a controller's namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnaStates {
    groups: BTreeMap<u32, AnaState>,
    namespaces: BTreeMap<u32, AnaState>,
}

impl AnaStates {
    /// The state of a namespace that is in a group; optimized where nothing is reported.
    pub(crate) fn of(&self, nsid: u32, group: u32) -> AnaState {
        let named = self.namespaces.get(&nsid).or_else(|| self.groups.get(&group));
        named.copied().unwrap_or(AnaState::Optimized)
    }

    /// Whether a group is between two states.
    pub(crate) fn is_changing(&self) -> bool {
        self.groups.values().any(|&state| state == AnaState::Change)
    }

    /// The states in the data of the page.
    fn read(data: &[u8]) -> Result<Self, LinkError> {
        let wrong = |error| LinkError::data("ANA log page", &error);
        let mut states = Self::default();
        for group in AnaLog::read(data).map_err(wrong)?.groups() {
            let group = group.map_err(wrong)?;
            // A reserved state serves no I/O that one could rely on.
            let state = group.descriptor.state().unwrap_or(AnaState::Inaccessible);
            states.groups.insert(group.descriptor.grpid.get(), state);
            for nsid in group.nsids {
                states.namespaces.insert(nsid.get(), state);
            }
        }
        Ok(states)
    }
}

/// A subsystem that a discovery controller names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovered {
    /// Where it is.
    pub trid: TransportId,
    /// Whether it is a discovery subsystem itself (a referral, or the one that was asked).
    pub is_discovery: bool,
    /// The port's identifier.
    pub portid: u16,
}

impl Link {
    /// Part of a page, in as many commands as it takes.
    async fn log_page(
        &self,
        page: GetLogPage,
        bytes: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, LinkError> {
        let piece = PIECE_BYTES.min(self.info().transfer_max());
        let mut data = Vec::new();
        while (data.len() as u64) < bytes {
            let at = data.len() as u64;
            let len = (bytes - at).min(piece);
            let part = GetLogPage { bytes: len, offset: page.offset + at, ..page };
            let buf = self.buffer(usize::try_from(len).unwrap_or(4096))?;
            let (_, buf) = self.admin(part.to_sqe(u32::MAX), Some(buf), what).await?;
            data.extend_from_slice(buf.ok_or(LinkError::Closed { what })?.as_slice());
        }
        Ok(data)
    }

    /// The ANA states of the namespaces.
    pub(crate) async fn ana_states(&self) -> Result<AnaStates, LinkError> {
        let what = "ANA log page";
        let identify = &self.info().identify;
        let groups = u64::from(identify.nanagrpid.get());
        let namespaces = match identify.mnan.get() {
            0 => identify.nn.get(),
            some => some,
        };
        let bytes = size_of::<AnaLogHeader>() as u64 + groups * 32 + u64::from(namespaces) * 4;
        let bytes = bytes.min(PAGE_BYTES_MAX).next_multiple_of(4);
        for _ in 0..ATTEMPTS_MAX {
            let data = self.log_page(GetLogPage::new(lid::ANA, bytes), bytes, what).await?;
            if bytes <= PIECE_BYTES {
                return AnaStates::read(&data);
            }
            let again = self.log_page(GetLogPage::new(lid::ANA, 16), 16, what).await?;
            if again.get(..8) == data.get(..8) {
                return AnaStates::read(&data);
            }
        }
        Err(LinkError::Data { what, why: "it changes faster than it can be read".to_owned() })
    }

    /// The subsystems behind NVMe/TCP that a discovery controller names. The page is read until
    /// its generation is the same before and after.
    pub(crate) async fn discovery_log(&self) -> Result<Vec<Discovered>, LinkError> {
        let what = "discovery log page";
        let header = GetLogPage::new(lid::DISCOVERY, ENTRY_BYTES);
        for _ in 0..ATTEMPTS_MAX {
            let before = self.discovery_header(header).await?;
            let entries = before.numrec.get().min(PAGE_BYTES_MAX / ENTRY_BYTES - 1);
            let from = GetLogPage { offset: ENTRY_BYTES, ..header };
            let data = self.log_page(from, entries * ENTRY_BYTES, what).await?;
            let after = self.discovery_header(header).await?;
            if before.genctr == after.genctr {
                return Ok(entries_of(&data, self.trid()));
            }
        }
        Err(LinkError::Data { what, why: "it changes faster than it can be read".to_owned() })
    }

    async fn discovery_header(&self, page: GetLogPage) -> Result<DiscoveryLogHeader, LinkError> {
        let what = "discovery log page";
        let buf = self.buffer(usize::try_from(ENTRY_BYTES).unwrap_or(1024))?;
        let (_, buf) = self.admin(page.to_sqe(u32::MAX), Some(buf), what).await?;
        let header: DiscoveryLogHeader = read(buf.as_ref(), what)?;
        match header.recfmt.get() {
            0 => Ok(header),
            other => Err(LinkError::Data { what, why: format!("its format is {other}") }),
        }
    }
}

/// The entries that can be connected to; the others are named in the log.
fn entries_of(data: &[u8], asked: &TransportId) -> Vec<Discovered> {
    let mut found = Vec::new();
    for bytes in data.chunks_exact(size_of::<DiscoveryEntry>()) {
        let Ok(entry) = DiscoveryEntry::read_from_bytes(bytes) else { continue };
        if entry.trtype != trtype::TCP {
            continue;
        }
        match transport_id(&entry, asked) {
            Ok(trid) => {
                let is_discovery = entry.subtype != subtype::NVM;
                found.push(Discovered { trid, is_discovery, portid: entry.portid.get() });
            }
            Err(why) => tracing::warn!(why, "an entry of a discovery log page is left out"),
        }
    }
    found
}

fn transport_id(entry: &DiscoveryEntry, asked: &TransportId) -> Result<TransportId, String> {
    let words = |error: crate::nvme::spec::ReadError| error.to_string();
    let (traddr, trsvcid) =
        (entry.traddr().map_err(words)?.trim(), entry.trsvcid().map_err(words)?.trim());
    let ip: IpAddr =
        traddr.parse().map_err(|_| format!("'{traddr}' is not an IP address (TRADDR)"))?;
    let port: u16 = trsvcid.parse().map_err(|_| format!("'{trsvcid}' is no port (TRSVCID)"))?;
    // A target that listens on every address is behind the one that was asked.
    let ip = if ip.is_unspecified() { asked.address.ip() } else { ip };
    let address = SocketAddr::new(ip, port);
    let trid = TransportId::tcp(address, entry.subnqn().map_err(words)?);
    let trid = trid.map_err(|error: TransportIdError| error.to_string())?;
    Ok(TransportId { source: asked.source, priority: asked.priority, ..trid })
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::nvme::spec::log::AnaGroupDescriptor;
    use crate::nvme::spec::text;

    #[test]
    fn states_of_groups_and_namespaces() {
        let mut data = vec![0; 16];
        data[8] = 2;
        data.extend_from_slice(AnaGroupDescriptor::new(1, 1, 0, AnaState::Optimized).as_bytes());
        data.extend_from_slice(&5_u32.to_le_bytes());
        data.extend_from_slice(AnaGroupDescriptor::new(2, 0, 0, AnaState::Inaccessible).as_bytes());
        let states = AnaStates::read(&data).unwrap();
        assert_eq!(states.of(5, 2), AnaState::Optimized, "the page names the namespace");
        assert_eq!(states.of(6, 2), AnaState::Inaccessible);
        assert_eq!(states.of(6, 0), AnaState::Optimized);
        assert!(AnaStates::read(&data[..40]).is_err());
    }

    #[test]
    fn entries_that_can_be_used() {
        let asked = TransportId::tcp("127.0.0.1:8009".parse().unwrap(), crate::nvme::DISCOVERY_NQN)
            .unwrap();
        let entry = |kind, traddr: &str, trsvcid: &str| {
            let mut entry =
                DiscoveryEntry { trtype: kind, subtype: subtype::NVM, ..Default::default() };
            text::set_padded(&mut entry.traddr, traddr);
            text::set_padded(&mut entry.trsvcid, trsvcid);
            text::set_terminated(&mut entry.subnqn, "nqn.2016-06.io.spdk:a");
            entry
        };
        let page: Vec<u8> = [
            entry(trtype::TCP, "10.0.0.1", "4420"),
            entry(trtype::TCP, "0.0.0.0", "4421"),
            entry(trtype::RDMA, "10.0.0.1", "4420"),
            entry(trtype::TCP, "somewhere", "4420"),
            entry(trtype::TCP, "10.0.0.1", "x"),
        ]
        .iter()
        .flat_map(|entry| entry.as_bytes().to_vec())
        .collect();
        let found = entries_of(&page, &asked);
        let addresses: Vec<_> = found.iter().map(|e| e.trid.address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1:4420", "127.0.0.1:4421"]);
    }
}
