//! Identify (section 5.17).

use std::rc::Rc;
use std::sync::Arc;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64, U128};

use super::{AdminQueue, Answer, EVENT_REQUESTS_MAX, abort, capabilities, errors};
use crate::NvmeStatus;
use crate::nvme::spec::identify::{
    ControllerList, IDENTIFY_LEN, IdentifyCdw10, IdentifyCdw11, IdentifyController,
    IdentifyControllerNvm, IdentifyNamespace, IdentifyNamespaceIndependent, IdentifyNamespaceNvm,
    IoCommandSetCombinations, LbaFormat, NamespaceId, NamespaceList, anacap, cmic, cns, cntrltype,
    csi, ctrattr, frmw, io_command_set, lpa, nmic, nsattr, nsfeat, nstat, ofcs, rescap, sgls,
};
use crate::nvme::spec::text;
use crate::nvmf::controller::{KEEP_ALIVE_GRANULARITY_MS, VERSION};
use crate::nvmf::io::limits::{COPY_BLOCKS_MAX, COPY_RANGE_BLOCKS_MAX, COPY_RANGES_MAX};
use crate::nvmf::request::Request;
use crate::nvmf::subsystem::{Namespace, Subsystem};

/// How long an ANA state *change* may last, in seconds (ANATT).
const ANA_TRANSITION_S: u8 = 10;

/// Executes an Identify.
pub(super) fn identify(admin: &Rc<AdminQueue>, request: &Request) -> Result<Answer, NvmeStatus> {
    let sqe = request.sqe();
    let (low, high) = (IdentifyCdw10(sqe.cdw10.get()), IdentifyCdw11(sqe.cdw11.get()));
    let nsid = sqe.nsid.get();
    let page = if admin.is_discovery() {
        match low.cns() {
            cns::CONTROLLER => controller(admin),
            _ => return Err(NvmeStatus::INVALID_FIELD),
        }
    } else {
        of_nvm(admin, low, high, nsid)?
    };
    Ok(page.into())
}

fn of_nvm(
    admin: &AdminQueue,
    low: IdentifyCdw10,
    high: IdentifyCdw11,
    nsid: u32,
) -> Result<Vec<u8>, NvmeStatus> {
    let subsystem = admin.controller.subsystem();
    let needs_csi =
        matches!(low.cns(), cns::NAMESPACE_CSI | cns::CONTROLLER_CSI | cns::ACTIVE_NAMESPACES_CSI);
    if needs_csi && high.csi() != csi::NVM {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    match low.cns() {
        cns::CONTROLLER => Ok(controller(admin)),
        cns::CONTROLLER_CSI => Ok(IdentifyControllerNvm::default().as_bytes().to_vec()),
        cns::NAMESPACE => of_namespace(subsystem, nsid, namespace),
        cns::NAMESPACE_CSI => of_namespace(subsystem, nsid, namespace_nvm),
        cns::NAMESPACE_INDEPENDENT => of_namespace(subsystem, nsid, namespace_independent),
        cns::ACTIVE_NAMESPACES | cns::ACTIVE_NAMESPACES_CSI => active(subsystem, nsid),
        cns::NAMESPACE_IDS => {
            let namespace = subsystem.namespace(nsid).ok_or(NvmeStatus::INVALID_NAMESPACE)?;
            Ok(descriptors(&namespace))
        }
        cns::NAMESPACE_CONTROLLERS => {
            subsystem.namespace(nsid).ok_or(NvmeStatus::INVALID_NAMESPACE)?;
            Ok(controllers(subsystem, low.cntid()))
        }
        cns::CONTROLLERS => Ok(controllers(subsystem, low.cntid())),
        cns::IO_COMMAND_SETS => {
            if ![admin.controller.cntlid(), 0xffff].contains(&low.cntid()) {
                return Err(NvmeStatus::INVALID_FIELD);
            }
            let mut page = IoCommandSetCombinations::default();
            page.vector[0].set(io_command_set::NVM);
            Ok(page.as_bytes().to_vec())
        }
        _ => Err(NvmeStatus::INVALID_FIELD),
    }
}

/// A page on a namespace: zero when it could exist and does not.
fn of_namespace(
    subsystem: &Subsystem,
    nsid: u32,
    page: fn(&Subsystem, &Namespace) -> Vec<u8>,
) -> Result<Vec<u8>, NvmeStatus> {
    if !(1..=subsystem.options().max_namespaces).contains(&nsid) {
        return Err(NvmeStatus::INVALID_NAMESPACE);
    }
    let found = subsystem.namespace(nsid);
    Ok(found.map_or_else(|| vec![0; IDENTIFY_LEN], |namespace| page(subsystem, &namespace)))
}

fn active(subsystem: &Subsystem, above: u32) -> Result<Vec<u8>, NvmeStatus> {
    // The two highest numbers cannot be the one before the first of a list.
    if above >= 0xffff_fffe {
        return Err(NvmeStatus::INVALID_NAMESPACE);
    }
    let all = subsystem.namespaces();
    let nsids = all.iter().map(|namespace| namespace.nsid()).filter(|&nsid| nsid > above);
    Ok(NamespaceList::of(nsids).as_bytes().to_vec())
}

fn controllers(subsystem: &Subsystem, from: u16) -> Vec<u8> {
    let all = subsystem.controllers();
    let cntlids = all.iter().map(|one| one.cntlid()).filter(|&cntlid| cntlid >= from);
    ControllerList::of(cntlids).as_bytes().to_vec()
}

fn descriptors(namespace: &Namespace) -> Vec<u8> {
    let mut list = Vec::new();
    if let Some(eui64) = namespace.eui64() {
        NamespaceId::Eui64(eui64).append_to(&mut list);
    }
    NamespaceId::Nguid(namespace.nguid()).append_to(&mut list);
    NamespaceId::Uuid(*namespace.uuid().as_bytes()).append_to(&mut list);
    NamespaceId::Csi(csi::NVM).append_to(&mut list);
    list.resize(IDENTIFY_LEN, 0);
    list
}

/// What one group of Identify Controller's fields is about.
fn controller(admin: &AdminQueue) -> Vec<u8> {
    let (controller, subsystem) = (&admin.controller, admin.controller.subsystem());
    let (options, info) = (subsystem.options(), controller.info());
    let mut page = IdentifyController {
        rab: 6,
        mdts: u8::try_from((info.io_bytes_max / 4096).max(1).ilog2()).unwrap_or(0),
        cntlid: U16::new(controller.cntlid()),
        ver: U32::new(VERSION.0),
        oaes: U32::new(capabilities::notices(subsystem)),
        ctratt: U32::new(ctrattr::HOST_ID_128),
        cntrltype: cntrltype::DISCOVERY,
        aerl: u8::try_from(EVENT_REQUESTS_MAX - 1).unwrap_or(0),
        frmw: frmw::SLOT_1_READ_ONLY | frmw::ONE_SLOT,
        lpa: lpa::EXTENDED_DATA | lpa::SUPPORTED_LOG_PAGES,
        elpe: u8::try_from(errors::ERROR_ENTRIES - 1).unwrap_or(0),
        kas: U16::new(u16::try_from(KEEP_ALIVE_GRANULARITY_MS / 100).unwrap_or(1)),
        maxcmd: U16::new(u16::try_from(info.queue_depth_max).unwrap_or(u16::MAX)),
        sgls: U32::new(sgls::SUPPORTED | sgls::OFFSET | sgls::TRANSPORT),
        // An entry alone, in units of 16 bytes.
        ioccsz: U32::new(4),
        iorcsz: U32::new(1),
        msdbd: 1,
        ..IdentifyController::default()
    };
    text::set_padded(&mut page.sn, &options.serial);
    text::set_padded(&mut page.mn, &options.model);
    text::set_padded(&mut page.fr, FIRMWARE);
    text::set_terminated(&mut page.subnqn, subsystem.nqn().as_str());
    if !admin.is_discovery() {
        io_controller(admin, &mut page);
    }
    page.as_bytes().to_vec()
}

/// The firmware revision: the version of this engine.
pub(super) const FIRMWARE: &str = env!("CARGO_PKG_VERSION");

/// The fields of controllers with I/O queues.
fn io_controller(admin: &AdminQueue, page: &mut IdentifyController) {
    let subsystem = admin.controller.subsystem();
    let (options, namespaces) = (subsystem.options(), subsystem.namespaces());
    page.cntrltype = cntrltype::IO;
    page.cmic = cmic::MULTI_PORT | cmic::MULTI_CONTROLLER;
    page.acl = abort::ABORTS_MAX - 1;
    page.lpa |= lpa::COMMAND_EFFECTS;
    page.nn.set(options.max_namespaces);
    page.mnan.set(options.max_namespaces);
    page.sqes = 0x66;
    page.cqes = 0x44;
    page.oncs.set(capabilities::io_commands(&namespaces));
    page.fuses.set(capabilities::fused());
    page.vwc = capabilities::write_cache(&namespaces);
    page.ocfs.set(crate::nvme::spec::identify::ocfs::FORMAT_0);
    page.ofcs.set(ofcs::DISCONNECT);
    page.ioccsz.set((64 + admin.controller.info().in_capsule_bytes) / 16);
    let capacity = |namespace: &Arc<Namespace>| u128::from(namespace.bdev().size_bytes());
    page.tnvmcap = U128::new(namespaces.iter().map(capacity).sum());
    if options.ana_reporting {
        page.cmic |= cmic::ANA;
        page.anatt = ANA_TRANSITION_S;
        page.anacap = anacap::OPTIMIZED
            | anacap::NON_OPTIMIZED
            | anacap::INACCESSIBLE
            | anacap::PERSISTENT_LOSS
            | anacap::CHANGE;
        page.anagrpmax.set(options.max_namespaces);
        page.nanagrpid.set(options.max_namespaces);
    }
}

/// The ANA group as Identify tells it: 0 without ANA reporting.
fn told_group(subsystem: &Subsystem, namespace: &Namespace) -> u32 {
    if subsystem.options().ana_reporting { namespace.ana_group() } else { 0 }
}

/// Kinds of reservations: all.
fn reservations(namespace: &Namespace) -> u8 {
    let kinds = rescap::WRITE_EXCLUSIVE
        | rescap::EXCLUSIVE_ACCESS
        | rescap::WRITE_EXCLUSIVE_REGISTRANTS_ONLY
        | rescap::EXCLUSIVE_ACCESS_REGISTRANTS_ONLY
        | rescap::WRITE_EXCLUSIVE_ALL_REGISTRANTS
        | rescap::EXCLUSIVE_ACCESS_ALL_REGISTRANTS
        | rescap::IGNORE_EXISTING_KEY;
    if namespace.ptpl_file().is_some() { kinds | rescap::PERSIST } else { kinds }
}

fn attributes(namespace: &Namespace) -> u8 {
    if namespace.is_read_only() { nsattr::WRITE_PROTECTED } else { 0 }
}

fn namespace(subsystem: &Subsystem, namespace: &Namespace) -> Vec<u8> {
    let bdev = namespace.bdev();
    let (info, blocks) = (bdev.info(), bdev.num_blocks());
    let per_physical = (info.phys_block_len / info.block_len).max(1);
    let granularity = U16::new(u16::try_from(per_physical - 1).unwrap_or(0));
    let boundary = u16::try_from(info.limits.boundary_blocks).unwrap_or(0);
    let mut page = IdentifyNamespace {
        nsze: U64::new(blocks),
        ncap: U64::new(blocks),
        nuse: U64::new(blocks),
        nsfeat: nsfeat::OPTIMAL_FIELDS,
        nmic: nmic::SHARED,
        rescap: reservations(namespace),
        noiob: U16::new(boundary),
        nvmcap: U128::new(bdev.size_bytes().into()),
        npwg: granularity,
        npwa: granularity,
        npdg: granularity,
        npda: granularity,
        nows: granularity,
        mssrl: U16::new(COPY_RANGE_BLOCKS_MAX),
        mcl: U32::new(COPY_BLOCKS_MAX),
        msrc: u8::try_from(COPY_RANGES_MAX - 1).unwrap_or(u8::MAX),
        anagrpid: U32::new(told_group(subsystem, namespace)),
        nsattr: attributes(namespace),
        nguid: namespace.nguid(),
        eui64: namespace.eui64().unwrap_or_default(),
        ..IdentifyNamespace::default()
    };
    page.lbaf[0] = LbaFormat::new(u8::try_from(info.block_len.ilog2()).unwrap_or(9), 0);
    page.as_bytes().to_vec()
}

/// No metadata, no protection information: all of it is zero.
fn namespace_nvm(_: &Subsystem, _: &Namespace) -> Vec<u8> {
    IdentifyNamespaceNvm::default().as_bytes().to_vec()
}

fn namespace_independent(subsystem: &Subsystem, namespace: &Namespace) -> Vec<u8> {
    let page = IdentifyNamespaceIndependent {
        nmic: nmic::SHARED,
        rescap: reservations(namespace),
        anagrpid: U32::new(told_group(subsystem, namespace)),
        nsattr: attributes(namespace),
        nstat: nstat::READY,
        ..IdentifyNamespaceIndependent::default()
    };
    page.as_bytes().to_vec()
}
