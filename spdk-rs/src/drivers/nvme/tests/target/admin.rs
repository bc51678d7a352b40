//! Fabrics and admin commands.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::connection::{Connection, Done, End};
use super::{Fault, lock};
use crate::NvmeStatus;
use crate::nvme::spec::Sqe;
use crate::nvme::spec::fabrics::{Connect, ConnectData, Property};
use crate::nvme::spec::identify::{
    IdentifyCdw10, IdentifyController, IdentifyNamespace, LbaFormat, NamespaceId, NamespaceList,
    cmic, cns, fuses, oaes, oncs, vwc,
};
use crate::nvme::spec::log::{
    AnaGroupDescriptor, AnaLogHeader, DiscoveryEntry, DiscoveryLogHeader, GetLogPage, lid, subtype,
    trtype,
};
use crate::nvme::spec::opcode::{admin, fctype};
use crate::nvme::spec::register::{Cap, Cc, Csts, Vs, offset};
use crate::nvme::spec::text;

impl Connection {
    pub(super) fn fabrics(&mut self, sqe: &Sqe, data: &[u8]) -> Done {
        let cid = sqe.cid.get();
        match sqe.fctype() {
            fctype::CONNECT => self.connect(sqe, data),
            fctype::PROPERTY_GET => {
                let value = match Property::of(sqe).offset {
                    offset::CAP => Cap(0).with_mqes(127).with_to(1).with_css(1).0,
                    offset::VS => Vs::V1_4.0.into(),
                    offset::CC => self.cc.0.into(),
                    offset::CSTS => {
                        let ready = self.cc.en() && !self.never_ready;
                        Csts(0).with_rdy(ready).with_cfs(self.fatal).0.into()
                    }
                    _ => 0,
                };
                self.respond(cid, NvmeStatus::SUCCESS, value)
            }
            fctype::PROPERTY_SET => {
                self.cc = Cc(u32::try_from(Property::of(sqe).value).unwrap());
                self.never_ready |= self.shared.take(|f| *f == Fault::NeverReady).is_some();
                self.fatal |= self.shared.take(|f| *f == Fault::FatalStatus).is_some();
                self.respond(cid, NvmeStatus::SUCCESS, 0)
            }
            _ => self.respond(cid, NvmeStatus::INVALID_FIELD, 0),
        }
    }

    pub(super) fn connect(&mut self, sqe: &Sqe, data: &[u8]) -> Done {
        let connect = Connect::of(sqe);
        let given = ConnectData::read_from_bytes(data).map_err(|_| End)?;
        self.qid = connect.qid;
        self.discovery = given.subnqn() == Ok(crate::nvme::DISCOVERY_NQN);
        self.shared.connects.fetch_add(1, SeqCst);
        let wanted = |f: &Fault| matches!(f, Fault::Connect { io, .. } if *io == (self.qid != 0));
        if let Some(Fault::Connect { status, .. }) = self.shared.take(wanted) {
            return self.respond(sqe.cid.get(), status, 0);
        }
        let cntlid = match self.qid {
            0 => self.shared.next_cntlid.fetch_add(1, SeqCst),
            _ => given.cntlid.get(),
        };
        self.cntlid = cntlid;
        self.respond(sqe.cid.get(), NvmeStatus::SUCCESS, cntlid.into())
    }

    pub(super) fn admin(&mut self, sqe: &Sqe) -> Done {
        let cid = sqe.cid.get();
        match sqe.opcode {
            admin::IDENTIFY => match self.identify(sqe) {
                Some(data) => self.answer_data(sqe, &data),
                None => self.respond(cid, NvmeStatus::INVALID_NAMESPACE, 0),
            },
            admin::SET_FEATURES => {
                let more = u64::from(self.shared.queues.load(SeqCst)) - 1;
                self.respond(cid, NvmeStatus::SUCCESS, more << 16 | more)
            }
            admin::GET_LOG_PAGE => {
                let page = self.log_page(sqe);
                self.answer_data(sqe, &page)
            }
            admin::KEEP_ALIVE => {
                self.deaf |= self.shared.take(|f| *f == Fault::NoKeepAlive).is_some();
                self.shared.keep_alives.fetch_add(1, SeqCst);
                if self.deaf { Ok(()) } else { self.respond(cid, NvmeStatus::SUCCESS, 0) }
            }
            admin::ASYNC_EVENT_REQUEST => {
                let waiting = (Arc::clone(&self.out), cid, self.framer);
                lock(&self.shared.waiting).push(waiting);
                Ok(())
            }
            admin::ABORT => {
                self.shared.aborts.fetch_add(1, SeqCst);
                self.respond(cid, NvmeStatus::SUCCESS, 1)
            }
            _ => self.respond(cid, NvmeStatus::INVALID_OPCODE, 0),
        }
    }

    pub(super) fn identify(&self, sqe: &Sqe) -> Option<Vec<u8>> {
        let nsid = sqe.nsid.get();
        let namespaces = lock(&self.shared.namespaces).clone();
        let found = namespaces.iter().find(|(own, ..)| *own == nsid);
        let mut data = match IdentifyCdw10(sqe.cdw10.get()).cns() {
            cns::CONTROLLER => self.controller().as_bytes().to_vec(),
            cns::ACTIVE_NAMESPACES => {
                let after = namespaces.iter().map(|(own, ..)| *own).filter(|own| *own > nsid);
                NamespaceList::of(after).as_bytes().to_vec()
            }
            cns::NAMESPACE_IDS => {
                let mut list = Vec::new();
                let foreign = u128::from(self.shared.foreign.load(SeqCst)) << 64;
                let (nsid, ..) = *found?;
                NamespaceId::Uuid((u128::from(nsid) + foreign).to_be_bytes()).append_to(&mut list);
                list
            }
            cns::NAMESPACE => {
                let &(nsid, blocks, _) = found?;
                let mut namespace = IdentifyNamespace::default();
                (namespace.nsze, namespace.ncap) = (U64::new(blocks), U64::new(blocks));
                namespace.lbaf[0] = LbaFormat::new(9, 0);
                namespace.anagrpid = U32::new(nsid);
                namespace.nmic = 1;
                namespace.as_bytes().to_vec()
            }
            _ => return None,
        };
        data.resize(4096, 0);
        Some(data)
    }

    pub(super) fn controller(&self) -> IdentifyController {
        let in_capsule = u32::try_from(self.shared.in_capsule.load(SeqCst)).unwrap();
        let events = oaes::NAMESPACE_ATTRIBUTE | oaes::ANA_CHANGE | oaes::DISCOVERY_LOG;
        let commands = oncs::COMPARE | oncs::DATASET_MANAGEMENT | oncs::WRITE_ZEROES;
        let mut data = IdentifyController {
            cntlid: U16::new(self.cntlid),
            mdts: 3,
            aerl: 1,
            ioccsz: U32::new((64 + in_capsule) / 16),
            iorcsz: U32::new(1),
            oaes: U32::new(events),
            oncs: U16::new(commands),
            fuses: U16::new(fuses::COMPARE_AND_WRITE),
            acwu: U16::new(7),
            nn: U32::new(16),
            nanagrpid: U32::new(16),
            anagrpmax: U32::new(16),
            anatt: 1,
            kas: U16::new(1),
            ..Default::default()
        };
        if self.shared.ana.load(SeqCst) {
            data.cmic |= cmic::ANA;
        }
        if self.shared.write_cache.load(SeqCst) {
            data.vwc = vwc::PRESENT;
        }
        data
    }

    pub(super) fn log_page(&self, sqe: &Sqe) -> Vec<u8> {
        let page = GetLogPage::of(sqe);
        let mut data = match page.lid {
            lid::ANA => {
                let namespaces = lock(&self.shared.namespaces).clone();
                let ngrps = U16::new(u16::try_from(namespaces.len()).unwrap());
                let header = AnaLogHeader { ngrps, ..Default::default() };
                let mut data = header.as_bytes().to_vec();
                for (nsid, _, state) in namespaces {
                    let group = AnaGroupDescriptor::new(nsid, 1, 0, state);
                    data.extend_from_slice(group.as_bytes());
                    data.extend_from_slice(&nsid.to_le_bytes());
                }
                data
            }
            lid::DISCOVERY => self.discovery_log(page.offset),
            _ => Vec::new(),
        };
        let (at, len) =
            (usize::try_from(page.offset).unwrap(), usize::try_from(page.bytes).unwrap());
        data.resize((at + len).max(data.len()), 0);
        data[at..at + len].to_vec()
    }

    pub(super) fn discovery_log(&self, at: u64) -> Vec<u8> {
        let log = lock(&self.shared.log).clone();
        let changes = &self.shared.log_changes;
        if at != 0 && changes.load(SeqCst) != 0 {
            changes.fetch_sub(1, SeqCst);
        }
        let genctr = U64::new(100 - changes.load(SeqCst) as u64);
        let numrec = U64::new(log.len() as u64);
        let header = DiscoveryLogHeader { genctr, numrec, ..Default::default() };
        let mut data = header.as_bytes().to_vec();
        for address in log {
            let mut entry = DiscoveryEntry {
                trtype: trtype::TCP,
                adrfam: 1,
                subtype: subtype::NVM,
                cntlid: U16::new(0xffff),
                ..Default::default()
            };
            text::set_padded(&mut entry.traddr, &address.ip().to_string());
            text::set_padded(&mut entry.trsvcid, &address.port().to_string());
            let nqn = format!("{}-{}", super::super::SUBNQN, address.port());
            text::set_terminated(&mut entry.subnqn, &nqn);
            data.extend_from_slice(entry.as_bytes());
        }
        data
    }
}
