//! The data of the Identify command (section 5.17): controllers, namespaces, descriptors, lists.

mod controller;
mod lists;
mod namespace;
mod ns_id;
#[cfg(test)]
mod tests;

use super::{Sqe, opcode};

pub use controller::{
    IdentifyController, IdentifyControllerNvm, PowerState, anacap, cmic, cntrltype, ctrattr, fna,
    frmw, fuses, lpa, oacs, oaes, ocfs, ofcs, oncs, sgls, vwc,
};
pub use lists::{
    ActiveNamespaces, ControllerList, IoCommandSetCombinations, NamespaceList, io_command_set,
};
pub use namespace::{
    ExtendedLbaFormat, Flbas, IdentifyNamespace, IdentifyNamespaceIndependent,
    IdentifyNamespaceNvm, LbaFormat, dlfeat, nmic, nsattr, nsfeat, nstat, rescap,
};
pub use ns_id::{NamespaceId, NamespaceIdHeader, NamespaceIds, nidt};

numbers! {
    /// Controller or namespace structure: what to identify (section 5.17.1).
    pub mod cns: u8 {
        NAMESPACE = 0x00, "namespace";
        CONTROLLER = 0x01, "controller";
        ACTIVE_NAMESPACES = 0x02, "active namespace list";
        NAMESPACE_IDS = 0x03, "namespace identification descriptors";
        NVM_SETS = 0x04, "NVM set list";
        NAMESPACE_CSI = 0x05, "namespace, specific to an I/O command set";
        CONTROLLER_CSI = 0x06, "controller, specific to an I/O command set";
        ACTIVE_NAMESPACES_CSI = 0x07, "active namespace list of an I/O command set";
        NAMESPACE_INDEPENDENT = 0x08, "namespace, independent of the I/O command set";
        ALLOCATED_NAMESPACES = 0x10, "allocated namespace list";
        ALLOCATED_NAMESPACE = 0x11, "allocated namespace";
        NAMESPACE_CONTROLLERS = 0x12, "controllers that a namespace is attached to";
        CONTROLLERS = 0x13, "controllers of the subsystem";
        PRIMARY_CONTROLLER = 0x14, "primary controller capabilities";
        SECONDARY_CONTROLLERS = 0x15, "secondary controller list";
        NAMESPACE_GRANULARITY = 0x16, "namespace granularity list";
        UUIDS = 0x17, "UUID list";
        DOMAINS = 0x18, "domain list";
        ENDURANCE_GROUPS = 0x19, "endurance group list";
        ALLOCATED_NAMESPACES_CSI = 0x1a, "allocated namespace list of an I/O command set";
        ALLOCATED_NAMESPACE_CSI = 0x1b, "allocated namespace, specific to an I/O command set";
        IO_COMMAND_SETS = 0x1c, "I/O command set combinations";
    }
}

numbers! {
    /// I/O command set identifiers.
    pub mod csi: u8 {
        NVM = 0x00, "NVM command set";
        KEY_VALUE = 0x01, "key value command set";
        ZONED = 0x02, "zoned namespace command set";
    }
}

/// Bytes of the data of every Identify command.
pub const IDENTIFY_LEN: usize = 4096;

bits! {
    /// Command dword 10 of Identify.
    pub struct IdentifyCdw10(u32) {
        /// What to identify (CNS), see [`cns`].
        cns, with_cns: u8 = 7 : 0;
        /// Controller identifier (CNTID), of those that ask for one.
        cntid, with_cntid: u16 = 31 : 16;
    }
}

bits! {
    /// Command dword 11 of Identify.
    pub struct IdentifyCdw11(u32) {
        /// CNS specific identifier.
        cnssid, with_cnssid: u16 = 15 : 0;
        /// I/O command set identifier, see [`csi`].
        csi, with_csi: u8 = 31 : 24;
    }
}

impl Sqe {
    /// An Identify command.
    #[must_use]
    pub fn identify(what: u8, nsid: u32, csi: u8) -> Self {
        let mut sqe = Self::new(opcode::admin::IDENTIFY, nsid);
        sqe.cdw10.set(IdentifyCdw10(0).with_cns(what).0);
        sqe.cdw11.set(IdentifyCdw11(0).with_csi(csi).0);
        sqe
    }
}
