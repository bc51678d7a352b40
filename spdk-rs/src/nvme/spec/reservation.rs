//! Reservations (sections 7.2 to 7.5): command fields, data, and the status data structure.

use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::error::{ReadError, front, front_slice};
use super::{Sqe, opcode};

/// Type of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReservationType {
    /// Only the holder writes, everybody reads.
    WriteExclusive = 1,
    /// Only the holder writes and reads.
    ExclusiveAccess = 2,
    /// Registrants write, everybody reads.
    WriteExclusiveRegistrantsOnly = 3,
    /// Registrants write and read.
    ExclusiveAccessRegistrantsOnly = 4,
    /// Registrants write, everybody reads; every registrant is a holder.
    WriteExclusiveAllRegistrants = 5,
    /// Registrants write and read; every registrant is a holder.
    ExclusiveAccessAllRegistrants = 6,
}

impl ReservationType {
    /// The type with a number; `None` when there is none: 0 is no reservation.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            1 => Self::WriteExclusive,
            2 => Self::ExclusiveAccess,
            3 => Self::WriteExclusiveRegistrantsOnly,
            4 => Self::ExclusiveAccessRegistrantsOnly,
            5 => Self::WriteExclusiveAllRegistrants,
            6 => Self::ExclusiveAccessAllRegistrants,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// Whether hosts without the reservation may not read either.
    #[must_use]
    pub const fn excludes_reads(self) -> bool {
        matches!(
            self,
            Self::ExclusiveAccess
                | Self::ExclusiveAccessRegistrantsOnly
                | Self::ExclusiveAccessAllRegistrants
        )
    }

    /// Whether every registrant has access.
    #[must_use]
    pub const fn registrants(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    /// Whether every registrant is a holder.
    #[must_use]
    pub const fn all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAllRegistrants | Self::ExclusiveAccessAllRegistrants)
    }
}

bits! {
    /// Command dword 10 of reservation register (section 7.3).
    pub struct RegisterControl(u32) {
        /// Action (RREGA), see [`rrega`].
        rrega, with_rrega: u8 = 2 : 0;
        /// Ignore existing key.
        iekey, with_iekey: bool = 3 : 3;
        /// Change persist through power loss state, see [`cptpl`].
        cptpl, with_cptpl: u8 = 31 : 30;
    }
}

numbers! {
    /// Actions of reservation register.
    pub mod rrega: u8 {
        REGISTER = 0, "register a key";
        UNREGISTER = 1, "unregister the key";
        REPLACE = 2, "replace the key";
    }
}

numbers! {
    /// Values of [`RegisterControl::cptpl`].
    pub mod cptpl: u8 {
        NO_CHANGE = 0, "no change";
        CLEAR = 2, "released and unregistered at a loss of power";
        SET = 3, "persist through a loss of power";
    }
}

bits! {
    /// Command dword 10 of reservation acquire (section 7.2).
    pub struct AcquireControl(u32) {
        /// Action (RACQA), see [`racqa`].
        racqa, with_racqa: u8 = 2 : 0;
        /// Ignore existing key.
        iekey, with_iekey: bool = 3 : 3;
        /// Type, see [`ReservationType`].
        rtype, with_rtype: u8 = 15 : 8;
    }
}

numbers! {
    /// Actions of reservation acquire.
    pub mod racqa: u8 {
        ACQUIRE = 0, "acquire";
        PREEMPT = 1, "preempt";
        PREEMPT_AND_ABORT = 2, "preempt and abort";
    }
}

bits! {
    /// Command dword 10 of reservation release (section 7.4).
    pub struct ReleaseControl(u32) {
        /// Action (RRELA), see [`rrela`].
        rrela, with_rrela: u8 = 2 : 0;
        /// Ignore existing key.
        iekey, with_iekey: bool = 3 : 3;
        /// Type, see [`ReservationType`].
        rtype, with_rtype: u8 = 15 : 8;
    }
}

numbers! {
    /// Actions of reservation release.
    pub mod rrela: u8 {
        RELEASE = 0, "release";
        CLEAR = 1, "clear";
    }
}

wire! {
    /// Data of reservation register.
    #[derive(Copy)]
    pub struct RegisterData: 16 {
        /// Current key.
        0 => crkey: U64,
        /// New key.
        8 => nrkey: U64,
    }
}

wire! {
    /// Data of reservation acquire.
    #[derive(Copy)]
    pub struct AcquireData: 16 {
        /// Current key.
        0 => crkey: U64,
        /// Key to preempt.
        8 => prkey: U64,
    }
}

wire! {
    /// Data of reservation release.
    #[derive(Copy)]
    pub struct ReleaseData: 8 {
        /// Current key.
        0 => crkey: U64,
    }
}

impl Sqe {
    /// A reservation report of `bytes` bytes (a multiple of 4, at least 4), with the extended
    /// data structure or without.
    #[must_use]
    pub fn reservation_report(nsid: u32, bytes: u32, extended: bool) -> Self {
        let mut sqe = Self::new(opcode::nvm::RESERVATION_REPORT, nsid);
        sqe.cdw10.set((bytes / 4).max(1) - 1);
        sqe.cdw11.set(u32::from(extended));
        sqe
    }
}

/// A view of a reservation report command (section 7.5).
#[derive(Clone, Copy, Debug)]
pub struct ReportCommand<'a>(pub &'a Sqe);

impl ReportCommand<'_> {
    /// Bytes asked for, 4 to 2^34.
    #[must_use]
    pub fn bytes(self) -> u64 {
        (u64::from(self.0.cdw10.get()) + 1) * 4
    }

    /// Whether the extended data structure is asked for (EDS).
    #[must_use]
    pub fn extended(self) -> bool {
        self.0.cdw11.get() & 1 == 1
    }
}

wire! {
    /// Header of the reservation status data structure.
    #[derive(Copy)]
    pub struct ReservationStatus: 24 {
        /// Generation: counts register, preempting acquire and clear commands.
        0 => generation: U32,
        /// Type, see [`ReservationType`]; 0 without a reservation.
        4 => rtype: u8,
        /// Number of registered controllers that follow.
        5 => regctl: U16,
        /// Reserved.
        7 => reserved7: [u8; 2],
        /// Persist through power loss state.
        9 => ptpls: u8,
        /// Reserved.
        10 => reserved10: [u8; 14],
    }
}

wire! {
    /// Header of the extended reservation status data structure.
    #[derive(Copy)]
    pub struct ReservationStatusExtended: 64 {
        /// What the other structure has too.
        0 => status: ReservationStatus,
        /// Reserved.
        24 => reserved24: [u8; 40],
    }
}

wire! {
    /// Registered controller.
    #[derive(Copy)]
    pub struct RegisteredController: 24 {
        /// Controller; `0xffff` of a dynamic one that is not connected.
        0 => cntlid: U16,
        /// Bit 0: its host holds the reservation.
        2 => rcsts: u8,
        /// Reserved.
        3 => reserved3: [u8; 5],
        /// Host identifier.
        8 => hostid: [u8; 8],
        /// Key.
        16 => rkey: U64,
    }
}

wire! {
    /// Registered controller with a host identifier of 16 bytes.
    #[derive(Copy)]
    pub struct RegisteredControllerExtended: 64 {
        /// Controller; `0xffff` of a dynamic one that is not connected.
        0 => cntlid: U16,
        /// Bit 0: its host holds the reservation.
        2 => rcsts: u8,
        /// Reserved.
        3 => reserved3: [u8; 5],
        /// Key.
        8 => rkey: U64,
        /// Host identifier.
        16 => hostid: [u8; 16],
        /// Reserved.
        32 => reserved32: [u8; 32],
    }
}

/// The registered controllers of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registrants<'a> {
    /// Those of the data structure with host identifiers of 8 bytes.
    Short(&'a [RegisteredController]),
    /// Those of the extended data structure.
    Extended(&'a [RegisteredControllerExtended]),
}

/// The answer to a reservation report, as received.
#[derive(Clone, Copy, Debug)]
pub struct ReservationReport<'a> {
    /// The header.
    pub status: &'a ReservationStatus,
    /// The registered controllers.
    pub registrants: Registrants<'a>,
}

impl<'a> ReservationReport<'a> {
    /// The structure in the data of a report command, whole.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when there are fewer controllers than the header says.
    pub fn read(data: &'a [u8], extended: bool) -> Result<Self, ReadError> {
        let what = "reservation status";
        if extended {
            let (header, rest) = front::<ReservationStatusExtended>(what, data)?;
            let status = &header.status;
            let list = front_slice(what, rest, usize::from(status.regctl.get()))?.0;
            return Ok(Self { status, registrants: Registrants::Extended(list) });
        }
        let (status, rest) = front::<ReservationStatus>(what, data)?;
        let list = front_slice(what, rest, usize::from(status.regctl.get()))?.0;
        Ok(Self { status, registrants: Registrants::Short(list) })
    }
}
