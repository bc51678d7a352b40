//! The log pages (section 5.16).

mod ana;
mod discovery;
mod effects;
mod health;
#[cfg(test)]
mod tests;

use zerocopy::byteorder::little_endian::{U32, U64};

use super::{Sqe, opcode};

pub use ana::{AnaGroup, AnaGroupDescriptor, AnaGroups, AnaLog, AnaLogHeader, AnaState, ana_lsp};
pub use discovery::{
    DiscoveryEntry, DiscoveryLog, DiscoveryLogHeader, TsasTcp, adrfam, cntlid, eflags, sectype,
    subtype, treq, trtype,
};
pub use effects::{
    CommandEffects, CommandsSupportedAndEffects, SupportedLogPage, SupportedLogPages,
};
pub use health::{ChangedNamespaces, ErrorEntry, FirmwareSlots, SmartHealth, critical_warning};

numbers! {
    /// Log page identifiers, with those of fabrics.
    pub mod lid: u8 {
        SUPPORTED_LOG_PAGES = 0x00, "supported log pages";
        ERROR = 0x01, "error information";
        SMART = 0x02, "SMART / health information";
        FIRMWARE_SLOT = 0x03, "firmware slot information";
        CHANGED_NAMESPACES = 0x04, "changed namespace list";
        COMMAND_EFFECTS = 0x05, "commands supported and effects";
        SELF_TEST = 0x06, "device self-test";
        TELEMETRY_HOST = 0x07, "telemetry, host-initiated";
        TELEMETRY_CONTROLLER = 0x08, "telemetry, controller-initiated";
        ENDURANCE_GROUP = 0x09, "endurance group information";
        PREDICTABLE_LATENCY = 0x0a, "predictable latency per NVM set";
        PREDICTABLE_LATENCY_EVENTS = 0x0b, "predictable latency event aggregate";
        ANA = 0x0c, "asymmetric namespace access";
        PERSISTENT_EVENTS = 0x0d, "persistent event log";
        LBA_STATUS = 0x0e, "LBA status information";
        ENDURANCE_GROUP_EVENTS = 0x0f, "endurance group event aggregate";
        MEDIA_UNIT_STATUS = 0x10, "media unit status";
        CAPACITY_CONFIGURATIONS = 0x11, "supported capacity configuration list";
        FEATURE_EFFECTS = 0x12, "feature identifiers supported and effects";
        MI_EFFECTS = 0x13, "NVMe-MI commands supported and effects";
        LOCKDOWN = 0x14, "command and feature lockdown";
        BOOT_PARTITION = 0x15, "boot partition";
        DISCOVERY = 0x70, "discovery";
        RESERVATION = 0x80, "reservation notification";
        SANITIZE = 0x81, "sanitize status";
    }
}

bits! {
    /// Command dword 10 of Get Log Page.
    pub struct GetLogCdw10(u32) {
        /// Log page identifier, see [`lid`].
        lid, with_lid: u8 = 7 : 0;
        /// Log specific field.
        lsp, with_lsp: u8 = 14 : 8;
        /// Retain asynchronous event.
        rae, with_rae: bool = 15 : 15;
        /// Number of dwords, low part, 0's based over both parts.
        numdl, with_numdl: u16 = 31 : 16;
    }
}

bits! {
    /// Command dword 11 of Get Log Page.
    pub struct GetLogCdw11(u32) {
        /// Number of dwords, high part.
        numdu, with_numdu: u16 = 15 : 0;
        /// Log specific identifier.
        lsi, with_lsi: u16 = 31 : 16;
    }
}

bits! {
    /// Command dword 14 of Get Log Page.
    pub struct GetLogCdw14(u32) {
        /// UUID index.
        uuid_index, with_uuid_index: u8 = 6 : 0;
        /// Offset type: 0 bytes, 1 index.
        ot, with_ot: bool = 23 : 23;
        /// I/O command set identifier.
        csi, with_csi: u8 = 31 : 24;
    }
}

/// The fields of a Get Log Page command (section 5.16.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetLogPage {
    /// Log page identifier, see [`lid`].
    pub lid: u8,
    /// Log specific field, 7 bits.
    pub lsp: u8,
    /// Retain asynchronous event: do not clear the event that the page tells about.
    pub rae: bool,
    /// Log specific identifier.
    pub lsi: u16,
    /// Bytes asked for, a multiple of 4 from 4 to 2^34.
    pub bytes: u64,
    /// Where in the page to begin: bytes, or an index when `offset_is_index`.
    pub offset: u64,
    /// Whether `offset` is an index of data structures.
    pub offset_is_index: bool,
    /// I/O command set identifier, see [`csi`](super::identify::csi).
    pub csi: u8,
}

impl GetLogPage {
    /// The first `bytes` of a page; rounded up to a multiple of 4, at least 4.
    #[must_use]
    pub fn new(lid: u8, bytes: u64) -> Self {
        Self {
            lid,
            lsp: 0,
            rae: false,
            lsi: 0,
            bytes: bytes.next_multiple_of(4).max(4),
            offset: 0,
            offset_is_index: false,
            csi: 0,
        }
    }

    /// The fields of a command.
    #[must_use]
    pub fn of(sqe: &Sqe) -> Self {
        let low = GetLogCdw10(sqe.cdw10.get());
        let high = GetLogCdw11(sqe.cdw11.get());
        let rest = GetLogCdw14(sqe.cdw14.get());
        let dwords = u64::from(high.numdu()) << 16 | u64::from(low.numdl());
        Self {
            lid: low.lid(),
            lsp: low.lsp(),
            rae: low.rae(),
            lsi: high.lsi(),
            bytes: (dwords + 1) * 4,
            offset: u64::from(sqe.cdw12.get()) | u64::from(sqe.cdw13.get()) << 32,
            offset_is_index: rest.ot(),
            csi: rest.csi(),
        }
    }

    /// The command for a namespace, or `0xffff_ffff` for the controller.
    ///
    /// `bytes` is used as a multiple of 4 of at most 2^34.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the parts of a value are taken")]
    pub fn to_sqe(&self, nsid: u32) -> Sqe {
        let dwords = (self.bytes / 4).clamp(1, 1 << 32) - 1;
        let low = GetLogCdw10(0).with_lid(self.lid).with_lsp(self.lsp).with_rae(self.rae);
        let high = GetLogCdw11(0).with_lsi(self.lsi).with_numdu((dwords >> 16) as u16);
        let mut sqe = Sqe::new(opcode::admin::GET_LOG_PAGE, nsid);
        sqe.cdw10.set(low.with_numdl(dwords as u16).0);
        sqe.cdw11.set(high.0);
        sqe.cdw12.set(self.offset as u32);
        sqe.cdw13.set((self.offset >> 32) as u32);
        sqe.cdw14.set(GetLogCdw14(0).with_ot(self.offset_is_index).with_csi(self.csi).0);
        sqe
    }
}

wire! {
    /// Reservation notification (log page 80h, section 5.16.1.24).
    #[derive(Copy)]
    pub struct ReservationNotification: 64 {
        /// Log page count; wraps from the largest value to 1, 0 means there never was one.
        0 => lpc: U64,
        /// Type, see [`reservation_notification`].
        8 => kind: u8,
        /// Number of further pages that wait, at most 255.
        9 => available: u8,
        /// Reserved.
        10 => reserved10: [u8; 2],
        /// The namespace.
        12 => nsid: U32,
        /// Reserved.
        16 => reserved16: [u8; 48],
    }
}

numbers! {
    /// Types of [`ReservationNotification::kind`].
    pub mod reservation_notification: u8 {
        EMPTY = 0, "no notification";
        REGISTRATION_PREEMPTED = 1, "registration preempted";
        RESERVATION_RELEASED = 2, "reservation released";
        RESERVATION_PREEMPTED = 3, "reservation preempted";
    }
}
