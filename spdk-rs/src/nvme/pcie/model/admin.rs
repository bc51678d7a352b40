//! The model's admin commands.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::{Cq, Fault, Model, Sq, State, zones};
use crate::NvmeStatus;
use crate::nvme::spec::identify::{
    IdentifyCdw10, IdentifyCdw11, IdentifyController, IdentifyNamespace, LbaFormat, NamespaceId,
    NamespaceList, cns, csi, fuses, oacs, oaes, oncs, vwc,
};
use crate::nvme::spec::log::GetLogPage;
use crate::nvme::spec::manage::sanicap;
use crate::nvme::spec::opcode::admin;
use crate::nvme::spec::{NSID_ALL, Sqe};

/// Status of a queue number that cannot be (command specific).
const INVALID_QUEUE: NvmeStatus = NvmeStatus::new(1, 1);

impl Model {
    pub(super) fn admin(&self, state: &mut State, sqe: &Sqe) {
        let (cid, opcode) = (sqe.cid.get(), sqe.opcode);
        if Self::take(state, |f| *f == Fault::Deaf(opcode)).is_some() {
            return;
        }
        let [what, ..] = sqe.cdw10.get().to_le_bytes();
        let scan =
            opcode == admin::IDENTIFY && ![cns::CONTROLLER, cns::CONTROLLER_CSI].contains(&what);
        if scan && Self::take(state, |f| *f == Fault::DeafToScan).is_some() {
            return;
        }
        let failing = |f: &Fault| matches!(f, Fault::Fails(own, _) if *own == opcode);
        if let Some(Fault::Fails(_, status)) = Self::take(state, failing) {
            return self.complete(state, 0, cid, status, 0);
        }
        let answer = match opcode {
            admin::IDENTIFY => match self.identify(state, sqe) {
                Some(data) => {
                    self.deliver(state, sqe, &data);
                    Ok(0)
                }
                None => Err(NvmeStatus::INVALID_FIELD),
            },
            admin::SET_FEATURES => {
                let more = u64::from(self.shape.queues) - 1;
                Ok(more << 16 | more)
            }
            admin::GET_LOG_PAGE => {
                let page = GetLogPage::of(sqe);
                let mut data = Self::log(state, page.lid);
                data.resize(usize::try_from(page.bytes).unwrap(), 0);
                self.deliver(state, sqe, &data);
                Ok(0)
            }
            admin::ASYNC_EVENT_REQUEST => return state.waiting.push(cid),
            admin::ABORT => Ok(self.abort(state, sqe)),
            admin::CREATE_IO_CQ | admin::CREATE_IO_SQ => self.create(state, sqe),
            admin::DELETE_IO_SQ | admin::DELETE_IO_CQ => self.delete(state, sqe),
            _ => self.manage(state, sqe),
        };
        match answer {
            Ok(result) => self.complete(state, 0, cid, NvmeStatus::SUCCESS, result),
            Err(status) => self.complete(state, 0, cid, status, 0),
        }
    }

    /// Ends a command that is held; others have ended already.
    fn abort(&self, state: &mut State, sqe: &Sqe) -> u64 {
        state.seen.aborts += 1;
        let wanted = sqe.cdw10.get();
        let held = |(qid, cid): &(u16, u16)| u32::from(*qid) | u32::from(*cid) << 16 == wanted;
        let Some(at) = state.held.iter().position(held) else { return 1 };
        let (qid, cid) = state.held.remove(at);
        self.complete(state, qid, cid, NvmeStatus::new(0, 0x07), 0);
        0
    }

    fn create(&self, state: &mut State, sqe: &Sqe) -> Result<u64, NvmeStatus> {
        let [qid, size] = [sqe.cdw10.get() & 0xffff, sqe.cdw10.get() >> 16];
        let (qid, entries) = (u16::try_from(qid).unwrap(), u16::try_from(size).unwrap() + 1);
        assert_eq!(sqe.cdw11.get() & 1, 1, "physically contiguous");
        let iova = sqe.dptr.address.get();
        assert_eq!(iova % 4096, 0, "a ring starts at a page");
        if qid == 0 || qid > self.shape.queues {
            return Err(INVALID_QUEUE);
        }
        if sqe.opcode == admin::CREATE_IO_CQ {
            let known = state.cqs.insert(qid, Cq { iova, entries, tail: 0, phase: true });
            assert!(known.is_none(), "a completion queue twice");
        } else {
            let cqid = u16::try_from(sqe.cdw11.get() >> 16).unwrap();
            assert!(state.cqs.contains_key(&cqid), "a submission queue before its other half");
            let known = state.sqs.insert(qid, Sq { iova, entries, head: 0, cqid });
            assert!(known.is_none(), "a submission queue twice");
            self.reset_doorbell(state, qid);
        }
        Ok(0)
    }

    fn delete(&self, state: &mut State, sqe: &Sqe) -> Result<u64, NvmeStatus> {
        let qid = u16::try_from(sqe.cdw10.get() & 0xffff).unwrap();
        if sqe.opcode == admin::DELETE_IO_CQ {
            assert!(!state.sqs.contains_key(&qid), "a completion queue before its other half");
            return state.cqs.remove(&qid).map(|_| 0).ok_or(INVALID_QUEUE);
        }
        // What it has not done it aborts.
        let (held, rest) = state.held.iter().copied().partition(|(own, _)| *own == qid);
        state.held = rest;
        let held: Vec<(u16, u16)> = held;
        for (_, cid) in held {
            self.complete(state, qid, cid, NvmeStatus::ABORTED_SQ_DELETION, 0);
        }
        state.sqs.remove(&qid).map(|_| 0).ok_or(INVALID_QUEUE)
    }

    fn identify(&self, state: &State, sqe: &Sqe) -> Option<Vec<u8>> {
        let nsid = sqe.nsid.get();
        let set = IdentifyCdw11(sqe.cdw11.get()).csi();
        let mut data = match IdentifyCdw10(sqe.cdw10.get()).cns() {
            cns::NAMESPACE_CSI if set == csi::ZONED && state.zones.contains_key(&nsid) => {
                zones::namespace()
            }
            cns::CONTROLLER_CSI if set == csi::ZONED && self.shape.zoned => zones::controller(),
            cns::CONTROLLER => self.controller().as_bytes().to_vec(),
            cns::ACTIVE_NAMESPACES => {
                let there = state.namespaces.iter().filter(|(_, one)| one.attached);
                let after = there.map(|(own, _)| *own).filter(|own| *own > nsid);
                NamespaceList::of(after).as_bytes().to_vec()
            }
            cns::NAMESPACE_IDS => {
                let mut list = Vec::new();
                let own = u128::from(self.address.domain) << 64 | u128::from(nsid);
                NamespaceId::Uuid(own.to_be_bytes()).append_to(&mut list);
                if state.zones.contains_key(&nsid) {
                    NamespaceId::Csi(csi::ZONED).append_to(&mut list);
                }
                list
            }
            cns::NAMESPACE => {
                let mut data = IdentifyNamespace { nlbaf: 2, ..Default::default() };
                (data.lbaf[0], data.lbaf[1]) = (LbaFormat::new(9, 0), LbaFormat::new(12, 0));
                data.lbaf[2] = LbaFormat::new(9, 8);
                if let Some(namespace) = state.namespaces.get(&nsid) {
                    let blocks = U64::new((namespace.data.len() / namespace.block()) as u64);
                    (data.nsze, data.ncap, data.flbas) = (blocks, blocks, namespace.lbaf);
                } else if nsid != NSID_ALL {
                    return None;
                }
                data.as_bytes().to_vec()
            }
            _ => return None,
        };
        data.resize(4096, 0);
        Some(data)
    }

    fn controller(&self) -> IdentifyController {
        let commands = oncs::DATASET_MANAGEMENT | oncs::WRITE_ZEROES | oncs::COMPARE;
        let mut admin = oacs::FORMAT | oacs::FIRMWARE | oacs::NAMESPACE_MANAGEMENT;
        if self.shape.shadows {
            admin |= oacs::DOORBELL_BUFFER;
        }
        IdentifyController {
            mn: *b"model                                   ",
            oacs: U16::new(admin),
            sanicap: U32::new(sanicap::BLOCK_ERASE | sanicap::OVERWRITE),
            frmw: 2 << 1,
            cntlid: U16::new(7),
            mdts: self.shape.mdts,
            aerl: 1,
            oaes: U32::new(oaes::NAMESPACE_ATTRIBUTE),
            oncs: U16::new(commands),
            fuses: U16::new(fuses::COMPARE_AND_WRITE),
            acwu: U16::new(7),
            nn: U32::new(4),
            sgls: U32::new(self.shape.sgls),
            vwc: if self.shape.cache { vwc::PRESENT } else { 0 },
            ..Default::default()
        }
    }
}
