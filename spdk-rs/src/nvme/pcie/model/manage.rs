//! The model's commands that change namespaces, media and firmware, and its log pages.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U128};

use super::{Model, State};
use crate::NvmeStatus;
use crate::nvme::spec::identify::{ControllerList, Flbas, IdentifyNamespace};
use crate::nvme::spec::log::{FirmwareSlots, SmartHealth, lid};
use crate::nvme::spec::manage::{
    FirmwareCommitCdw10, FormatCdw10, SanitizeStatus, commit_action, sanitize_state,
};
use crate::nvme::spec::opcode::admin;
use crate::nvme::spec::{NSID_ALL, Sqe};

/// A namespace: blocks of 512 bytes (LBA format 0, or 2 with metadata) or 4096 (1).
pub(super) struct Namespace {
    pub(super) lbaf: u8,
    pub(super) attached: bool,
    pub(super) data: Vec<u8>,
}

impl Namespace {
    /// Bytes of a block.
    pub(super) fn block(&self) -> usize {
        if self.lbaf == 1 { 4096 } else { 512 }
    }
}

impl State {
    /// What the namespace of a command stores; the command was checked.
    pub(super) fn disk(&mut self, sqe: &Sqe) -> &mut Vec<u8> {
        &mut self.namespaces.get_mut(&sqe.nsid.get()).unwrap().data
    }
}

impl Model {
    /// The data of a log page.
    pub(super) fn log(state: &State, page: u8) -> Vec<u8> {
        match page {
            lid::SMART => {
                let power_cycles = U128::new(3);
                let temperature = U16::new(300);
                SmartHealth { power_cycles, temperature, ..Default::default() }.as_bytes().to_vec()
            }
            lid::FIRMWARE_SLOT => {
                let mut slots = FirmwareSlots { afi: 1, ..Default::default() };
                slots.frs[0] = *b"1.0     ";
                slots.as_bytes().to_vec()
            }
            lid::SANITIZE => {
                let done = !state.seen.sanitized.is_empty();
                let now = if done { sanitize_state::COMPLETED } else { sanitize_state::NEVER };
                let (sprog, sstat) = (U16::new(0xffff), U16::new(now));
                SanitizeStatus { sprog, sstat, ..Default::default() }.as_bytes().to_vec()
            }
            _ => Vec::new(),
        }
    }

    /// Does a command as if another host had sent it.
    pub(crate) fn obey(&self, sqe: &Sqe) -> Result<u64, NvmeStatus> {
        self.manage(&mut self.lock(), sqe)
    }

    pub(super) fn manage(&self, state: &mut State, sqe: &Sqe) -> Result<u64, NvmeStatus> {
        match sqe.opcode {
            admin::FORMAT_NVM => Self::format(state, sqe),
            admin::NAMESPACE_MANAGEMENT if sqe.cdw10.get() == 0 => self.make(state, sqe),
            admin::NAMESPACE_MANAGEMENT => {
                let gone = state.namespaces.remove(&sqe.nsid.get());
                gone.map(|_| 0).ok_or(NvmeStatus::INVALID_NAMESPACE)
            }
            admin::NAMESPACE_ATTACHMENT => {
                let list = self.fetch(state, sqe, 4096).ok_or(NvmeStatus::INTERNAL_ERROR)?;
                let list: Vec<u16> =
                    ControllerList::read(&list).unwrap().iter().map(|id| id.get()).collect();
                assert_eq!(list, [7], "the controller's own identifier");
                let attach = sqe.cdw10.get() == 0;
                let found = state.namespaces.get_mut(&sqe.nsid.get());
                found.ok_or(NvmeStatus::INVALID_NAMESPACE)?.attached = attach;
                Ok(0)
            }
            admin::FIRMWARE_DOWNLOAD => {
                let bytes = (usize::try_from(sqe.cdw10.get()).unwrap() + 1) * 4;
                let piece = self.fetch(state, sqe, bytes).ok_or(NvmeStatus::INTERNAL_ERROR)?;
                assert_eq!(sqe.cdw11.get() as usize * 4, state.image.len(), "pieces follow");
                state.image.extend(piece);
                Ok(0)
            }
            admin::FIRMWARE_COMMIT => {
                let how = FirmwareCommitCdw10(sqe.cdw10.get());
                state.seen.firmware = std::mem::take(&mut state.image);
                // Into slot 2 what is committed waits for a conventional reset.
                let waits = how.slot() == 2 && how.action() == commit_action::REPLACE_AND_ACTIVATE;
                if waits { Err(NvmeStatus::FIRMWARE_NEEDS_RESET) } else { Ok(0) }
            }
            admin::SANITIZE => {
                state.seen.sanitized.push(sqe.cdw10.get());
                state.namespaces.values_mut().for_each(|one| one.data.fill(0));
                Ok(0)
            }
            admin::DOORBELL_BUFFER_CONFIG if self.shape.shadows => {
                let bytes: [u8; 16] = sqe.dptr.as_bytes().try_into().unwrap();
                let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap());
                state.bells.configure(word(&bytes[..8]), word(&bytes[8..]));
                Ok(0)
            }
            _ => Err(NvmeStatus::INVALID_OPCODE),
        }
    }

    fn format(state: &mut State, sqe: &Sqe) -> Result<u64, NvmeStatus> {
        let how = FormatCdw10(sqe.cdw10.get());
        let (lbaf, nsid) = (how.lbafu() << 4 | how.lbafl(), sqe.nsid.get());
        if lbaf > 2 {
            return Err(NvmeStatus::INVALID_FORMAT);
        }
        let wanted: Vec<u32> = match nsid {
            NSID_ALL => state.namespaces.keys().copied().collect(),
            one => vec![one],
        };
        for nsid in wanted {
            let namespace = state.namespaces.get_mut(&nsid).ok_or(NvmeStatus::INVALID_NAMESPACE)?;
            namespace.lbaf = lbaf;
            namespace.data.fill(0);
        }
        state.seen.formats.push((lbaf, how.ses()));
        Ok(0)
    }

    fn make(&self, state: &mut State, sqe: &Sqe) -> Result<u64, NvmeStatus> {
        let data = self.fetch(state, sqe, 4096).ok_or(NvmeStatus::INTERNAL_ERROR)?;
        let data: IdentifyNamespace = zerocopy::FromBytes::read_from_bytes(&data).unwrap();
        let lbaf = Flbas(data.flbas).index();
        let mut made = Namespace { lbaf, attached: false, data: Vec::new() };
        made.data = vec![0; usize::try_from(data.nsze.get()).unwrap() * made.block()];
        let free = (1..=4).find(|nsid| !state.namespaces.contains_key(nsid));
        let nsid = free.ok_or(NvmeStatus::new(1, 0x16))?;
        state.namespaces.insert(nsid, made);
        Ok(nsid.into())
    }
}
