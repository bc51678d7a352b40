//! The log pages, each as a whole.

use std::collections::BTreeMap;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64, U128};

use super::super::{AdminQueue, capabilities, identify};
use crate::NvmeStatus;
use crate::bdev::{IoStats, IoType};
use crate::nvme::spec::log::{
    AnaGroupDescriptor, AnaLogHeader, AnaState, ChangedNamespaces, CommandEffects,
    CommandsSupportedAndEffects, FirmwareSlots, GetLogPage, ReservationNotification, SmartHealth,
    SupportedLogPage, SupportedLogPages, ana_lsp, lid,
};
use crate::nvme::spec::opcode::{FABRICS, admin as opcode, nvm};
use crate::nvme::spec::{NSID_ALL, text};
use crate::nvmf::discovery;

/// Bytes of a data unit of the SMART page.
const DATA_UNIT_BYTES: u128 = 512_000;

/// The page that a command asks for.
pub(super) fn page(
    admin: &AdminQueue,
    wanted: &GetLogPage,
    nsid: u32,
) -> Result<Vec<u8>, NvmeStatus> {
    match wanted.lid {
        lid::SUPPORTED_LOG_PAGES => Ok(supported(admin)),
        lid::ERROR => Ok(admin.errors.borrow().page()),
        // There is no page per namespace.
        lid::SMART if !matches!(nsid, 0 | NSID_ALL) => Err(NvmeStatus::INVALID_FIELD),
        lid::SMART => Ok(smart(admin)),
        lid::FIRMWARE_SLOT => Ok(firmware()),
        lid::CHANGED_NAMESPACES => Ok(changed(admin, !wanted.rae)),
        lid::COMMAND_EFFECTS => Ok(effects(admin)),
        lid::ANA => ana(admin, wanted.lsp & ana_lsp::GROUPS_ONLY != 0),
        lid::RESERVATION => Ok(reservation(admin, !wanted.rae)),
        lid::DISCOVERY => Ok(discovery::log_page(&admin.target, &admin.controller)),
        _ => Err(NvmeStatus::INVALID_LOG_PAGE),
    }
}

fn supported(admin: &AdminQueue) -> Vec<u8> {
    let mut page = SupportedLogPages::default();
    for lid in capabilities::log_pages(admin.controller.subsystem()) {
        page.lids[usize::from(lid)].set(SupportedLogPage(0).with_lsupp(true).0);
    }
    page.as_bytes().to_vec()
}

/// What the devices have done since they were made, for all of their users.
fn smart(admin: &AdminQueue) -> Vec<u8> {
    let mut all = IoStats::default();
    for namespace in admin.controller.subsystem().namespaces() {
        all.merge(&namespace.bdev().stats());
    }
    let (read, write) = (all.of(IoType::Read), all.of(IoType::Write));
    let units = |bytes: u64| U128::new(u128::from(bytes).div_ceil(DATA_UNIT_BYTES));
    let count = |count: u64| U128::new(count.into());
    let (ticks, hz) = admin.target.uptime(&admin.reactor);
    let page = SmartHealth {
        available_spare: 100,
        data_units_read: units(read.bytes),
        data_units_written: units(write.bytes),
        host_reads: count(read.ops),
        host_writes: count(write.ops),
        power_cycles: count(1),
        power_on_hours: count(ticks / hz.max(1) / 3600),
        media_errors: count(read.errors + write.errors),
        error_entries: count(admin.errors.borrow().count()),
        ..SmartHealth::default()
    };
    page.as_bytes().to_vec()
}

/// One slot, which is active and read-only.
fn firmware() -> Vec<u8> {
    let mut page = FirmwareSlots { afi: 1, ..FirmwareSlots::default() };
    text::set_padded(&mut page.frs[0], identify::FIRMWARE);
    page.as_bytes().to_vec()
}

fn changed(admin: &AdminQueue, clear: bool) -> Vec<u8> {
    let nsids = admin.events.borrow_mut().changed(clear);
    let page = match nsids {
        Some(nsids) => ChangedNamespaces::of(nsids),
        None => ChangedNamespaces::of([ChangedNamespaces::TOO_MANY]),
    };
    page.as_bytes().to_vec()
}

fn effects(admin: &AdminQueue) -> Vec<u8> {
    let subsystem = admin.controller.subsystem();
    let supported = |changes| U32::new(CommandEffects(0).with_csupp(true).with_lbcc(changes).0);
    let mut page = CommandsSupportedAndEffects::default();
    for &command in capabilities::admin_opcodes(subsystem.kind()) {
        page.acs[usize::from(command)] = supported(false);
    }
    page.acs[usize::from(opcode::FABRICS)] = supported(false);
    for &(command, changes) in capabilities::IO_COMMANDS {
        page.iocs[usize::from(command)] = supported(changes);
    }
    if capabilities::can_deallocate(&subsystem.namespaces()) {
        page.iocs[usize::from(nvm::DATASET_MANAGEMENT)] = supported(true);
    }
    page.iocs[usize::from(FABRICS)] = supported(false);
    page.as_bytes().to_vec()
}

/// The groups that have namespaces, as they are reached through the controller's listener.
fn ana(admin: &AdminQueue, groups_only: bool) -> Result<Vec<u8>, NvmeStatus> {
    let subsystem = admin.controller.subsystem();
    let changes = subsystem.ana_changes();
    let mut groups = BTreeMap::<u32, Vec<u32>>::new();
    for namespace in subsystem.namespaces() {
        groups.entry(namespace.ana_group()).or_default().push(namespace.nsid());
    }
    let listeners = subsystem.listeners();
    let states = listeners.iter().find(|one| one.listener.id() == admin.controller.listener());
    let count = u16::try_from(groups.len()).map_err(|_| NvmeStatus::INTERNAL_ERROR)?;
    let header = AnaLogHeader {
        chgcnt: U64::new(changes),
        ngrps: U16::new(count),
        ..AnaLogHeader::default()
    };
    let mut page = header.as_bytes().to_vec();
    for (group, nsids) in groups {
        // A listener that is being removed leads nowhere.
        let state = states.map_or(AnaState::Inaccessible, |one| one.ana.of(group));
        let nsids = if groups_only { Vec::new() } else { nsids };
        let count = u32::try_from(nsids.len()).unwrap_or(0);
        let descriptor = AnaGroupDescriptor::new(group, count, changes, state);
        page.extend_from_slice(descriptor.as_bytes());
        page.extend(nsids.iter().flat_map(|nsid| nsid.to_le_bytes()));
    }
    Ok(page)
}

fn reservation(admin: &AdminQueue, take: bool) -> Vec<u8> {
    let oldest = admin.events.borrow_mut().reservation(take);
    let page = oldest.map_or_else(ReservationNotification::default, |(count, event, more)| {
        ReservationNotification {
            lpc: U64::new(count),
            kind: event.kind as u8,
            available: u8::try_from(more).unwrap_or(u8::MAX),
            nsid: U32::new(event.nsid),
            ..ReservationNotification::default()
        }
    });
    page.as_bytes().to_vec()
}
