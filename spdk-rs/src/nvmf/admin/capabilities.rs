//! What controllers can do: the one list that Identify, the log pages and the execution of
//! commands all follow.

use crate::bdev::IoType;
use crate::nvme::spec::identify::{fuses, oaes, oncs, vwc};
use crate::nvme::spec::log::lid;
use crate::nvme::spec::opcode::{admin, nvm};
use crate::nvmf::subsystem::{Namespace, Subsystem, SubsystemKind};

const NVM_ADMIN: &[u8] = &[
    admin::GET_LOG_PAGE,
    admin::IDENTIFY,
    admin::ABORT,
    admin::SET_FEATURES,
    admin::GET_FEATURES,
    admin::ASYNC_EVENT_REQUEST,
    admin::KEEP_ALIVE,
];

const DISCOVERY_ADMIN: &[u8] = &[
    admin::GET_LOG_PAGE,
    admin::IDENTIFY,
    admin::SET_FEATURES,
    admin::GET_FEATURES,
    admin::ASYNC_EVENT_REQUEST,
    admin::KEEP_ALIVE,
];

/// I/O commands of every controller, and whether they may change data.
pub(super) const IO_COMMANDS: &[(u8, bool)] = &[
    (nvm::FLUSH, false),
    (nvm::WRITE, true),
    (nvm::READ, false),
    (nvm::COMPARE, false),
    (nvm::WRITE_ZEROES, true),
    (nvm::VERIFY, false),
    (nvm::RESERVATION_REGISTER, false),
    (nvm::RESERVATION_REPORT, false),
    (nvm::RESERVATION_ACQUIRE, false),
    (nvm::RESERVATION_RELEASE, false),
    (nvm::COPY, true),
];

/// Admin commands, but for the fabrics commands.
pub(super) fn admin_opcodes(kind: SubsystemKind) -> &'static [u8] {
    match kind {
        SubsystemKind::Nvm => NVM_ADMIN,
        SubsystemKind::Discovery => DISCOVERY_ADMIN,
    }
}

/// Log pages of a subsystem's controllers.
pub(super) fn log_pages(subsystem: &Subsystem) -> Vec<u8> {
    match subsystem.kind() {
        SubsystemKind::Discovery => vec![lid::SUPPORTED_LOG_PAGES, lid::ERROR, lid::DISCOVERY],
        SubsystemKind::Nvm => {
            let mut pages = vec![
                lid::SUPPORTED_LOG_PAGES,
                lid::ERROR,
                lid::SMART,
                lid::FIRMWARE_SLOT,
                lid::CHANGED_NAMESPACES,
                lid::COMMAND_EFFECTS,
                lid::RESERVATION,
            ];
            if subsystem.options().ana_reporting {
                pages.push(lid::ANA);
            }
            pages
        }
    }
}

/// Notices that a subsystem's controllers can give (OAES).
pub(super) fn notices(subsystem: &Subsystem) -> u32 {
    match (subsystem.kind(), subsystem.options().ana_reporting) {
        (SubsystemKind::Discovery, _) => oaes::DISCOVERY_LOG,
        (SubsystemKind::Nvm, false) => oaes::NAMESPACE_ATTRIBUTE,
        (SubsystemKind::Nvm, true) => oaes::NAMESPACE_ATTRIBUTE | oaes::ANA_CHANGE,
    }
}

/// Whether every namespace that can be written can deallocate: with none there is none that
/// cannot.
pub(super) fn can_deallocate(namespaces: &[impl AsRef<Namespace>]) -> bool {
    let writable = namespaces.iter().map(AsRef::as_ref).filter(|one| !one.is_read_only());
    writable.into_iter().all(|one| one.bdev().io_types().contains(IoType::Unmap))
}

/// Optional I/O commands (ONCS). All but deallocation the block device layer can do with any
/// device.
pub(super) fn io_commands(namespaces: &[impl AsRef<Namespace>]) -> u16 {
    let always = oncs::COMPARE
        | oncs::WRITE_ZEROES
        | oncs::SAVE_SELECT
        | oncs::RESERVATIONS
        | oncs::VERIFY
        | oncs::COPY;
    if can_deallocate(namespaces) { always | oncs::DATASET_MANAGEMENT } else { always }
}

/// Fused operations (FUSES).
pub(super) fn fused() -> u16 {
    fuses::COMPARE_AND_WRITE
}

/// Whether some device has a volatile write cache.
pub(super) fn has_write_cache(namespaces: &[impl AsRef<Namespace>]) -> bool {
    namespaces.iter().any(|one| one.as_ref().bdev().info().write_cache)
}

/// Volatile write cache (VWC); a flush may always name all namespaces.
pub(super) fn write_cache(namespaces: &[impl AsRef<Namespace>]) -> u8 {
    vwc::FLUSH_ALL | if has_write_cache(namespaces) { vwc::PRESENT } else { 0 }
}
