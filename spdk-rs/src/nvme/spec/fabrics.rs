//! Fabrics commands (section 6): connect, properties, disconnect.

use std::fmt;

use zerocopy::byteorder::little_endian::{U16, U32};

use super::{ReadError, SglDescriptor, Sqe, opcode, opcode::fctype, text};
use crate::NvmeStatus;

/// NQN of the well-known discovery service.
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// The fewest entries of an admin queue on fabrics.
pub const ADMIN_QUEUE_ENTRIES_MIN: u16 = 32;

impl Sqe {
    /// A fabrics command of a type.
    #[must_use]
    pub fn fabrics(fctype: u8) -> Self {
        Self::new(opcode::FABRICS, u32::from(fctype))
    }

    /// Whether it is a fabrics command.
    #[inline(always)]
    #[must_use]
    pub const fn is_fabrics(&self) -> bool {
        self.opcode == opcode::FABRICS
    }

    /// The type of a fabrics command (byte 4), see [`fctype`].
    #[inline(always)]
    #[must_use]
    pub fn fctype(&self) -> u8 {
        self.nsid.get().to_le_bytes()[0]
    }
}

/// Offsets in the connect command and its data, as [`ConnectInvalid`] reports them.
pub mod connect_offset {
    /// Record format, in the command.
    pub const RECFMT: u16 = 40;
    /// Queue identifier, in the command.
    pub const QID: u16 = 42;
    /// Queue size, in the command.
    pub const SQSIZE: u16 = 44;
    /// Attributes, in the command.
    pub const CATTR: u16 = 46;
    /// Keep alive timeout, in the command.
    pub const KATO: u16 = 48;
    /// Host identifier, in the data.
    pub const HOSTID: u16 = 0;
    /// Controller identifier, in the data.
    pub const CNTLID: u16 = 16;
    /// Subsystem NQN, in the data.
    pub const SUBNQN: u16 = 256;
    /// Host NQN, in the data.
    pub const HOSTNQN: u16 = 512;
}

bits! {
    /// Attributes of a connect command (CATTR).
    pub struct ConnectAttributes(u8) {
        /// Priority class of the queue: 0 urgent, 1 high, 2 medium, 3 low.
        priority, with_priority: u8 = 1 : 0;
        /// Disable submission queue flow control.
        disable_sq_flow_control, with_disable_sq_flow_control: bool = 2 : 2;
        /// The host can delete this I/O queue by a disconnect command.
        individual_deletion, with_individual_deletion: bool = 3 : 3;
    }
}

/// The fields of a connect command (section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Format of the command and its data; 0.
    pub recfmt: u16,
    /// Queue identifier: 0 the admin queue.
    pub qid: u16,
    /// Entries of the queue, 0's based; at least 1, of the admin queue at least 31.
    pub sqsize: u16,
    /// Attributes.
    pub cattr: ConnectAttributes,
    /// Keep alive timeout in ms, of the admin queue; 0 for none.
    pub kato: u32,
}

impl Connect {
    /// The fields of a command.
    #[must_use]
    pub fn of(sqe: &Sqe) -> Self {
        let (low, high) = halves(sqe.cdw10.get());
        let (sqsize, rest) = halves(sqe.cdw11.get());
        let cattr = ConnectAttributes(rest.to_le_bytes()[0]);
        Self { recfmt: low, qid: high, sqsize, cattr, kato: sqe.cdw12.get() }
    }

    /// The command; the data follow in the capsule.
    #[must_use]
    pub fn to_sqe(&self) -> Sqe {
        let mut sqe = Sqe::fabrics(fctype::CONNECT);
        sqe.flags = SGL;
        sqe.dptr = SglDescriptor::in_capsule(0, CONNECT_DATA_LEN);
        sqe.cdw10.set(u32::from(self.recfmt) | u32::from(self.qid) << 16);
        sqe.cdw11.set(u32::from(self.sqsize) | u32::from(self.cattr.0) << 16);
        sqe.cdw12.set(self.kato);
        sqe
    }
}

/// CDW0 bits 15:8 of a command with an SGL and no metadata SGL (PSDT 01b).
const SGL: u8 = 1 << 6;

/// Bytes of [`ConnectData`].
pub const CONNECT_DATA_LEN: u32 = 1024;

#[expect(clippy::cast_possible_truncation, reason = "the halves of a value are taken")]
const fn halves(value: u32) -> (u16, u16) {
    (value as u16, (value >> 16) as u16)
}

wire! {
    /// Data of a connect command.
    pub struct ConnectData: 1024 {
        /// Host identifier; a UUID that must not be zero.
        0 => hostid: [u8; 16],
        /// Controller: of the admin queue `0xffff` for a new one, of an I/O queue its own.
        16 => cntlid: U16,
        /// Reserved.
        18 => reserved18: [u8; 238],
        /// NQN of the subsystem, ended by a zero.
        256 => subnqn: [u8; 256],
        /// NQN of the host, ended by a zero.
        512 => hostnqn: [u8; 256],
        /// Reserved.
        768 => reserved768: [u8; 256],
    }
}

impl ConnectData {
    /// The data for a host and a subsystem; NQNs of more than 223 bytes are cut off.
    #[must_use]
    pub fn new(hostid: [u8; 16], cntlid: u16, subnqn: &str, hostnqn: &str) -> Self {
        let mut data = Self { hostid, cntlid: U16::new(cntlid), ..Self::default() };
        text::set_terminated(&mut data.subnqn[..text::NQN_LEN_MAX], subnqn);
        text::set_terminated(&mut data.hostnqn[..text::NQN_LEN_MAX], hostnqn);
        data
    }

    /// The NQN of the subsystem.
    ///
    /// # Errors
    /// [`ReadError::Text`] when the field holds none.
    pub fn subnqn(&self) -> Result<&str, ReadError> {
        text::nqn("connect SUBNQN", &self.subnqn)
    }

    /// The NQN of the host.
    ///
    /// # Errors
    /// [`ReadError::Text`] when the field holds none.
    pub fn hostnqn(&self) -> Result<&str, ReadError> {
        text::nqn("connect HOSTNQN", &self.hostnqn)
    }
}

bits! {
    /// Result of a connect command that succeeded: dword 0 of the completion.
    pub struct ConnectSuccess(u32) {
        /// The controller.
        cntlid, with_cntlid: u16 = 15 : 0;
        /// Authentication transaction required (ATR).
        atr, with_atr: bool = 17 : 17;
        /// Authentication and secure channel required (ASCR).
        ascr, with_ascr: bool = 18 : 18;
    }
}

bits! {
    /// Result of a connect command with invalid parameters: dword 0 of the completion.
    pub struct ConnectInvalid(u32) {
        /// Offset in bytes of the parameter, see [`connect_offset`] (IPO).
        ipo, with_ipo: u16 = 15 : 0;
        /// Whether the offset is in the data instead of the command (IATTR bit 0).
        in_data, with_in_data: bool = 16 : 16;
    }
}

impl ConnectInvalid {
    /// A field of the command is wrong.
    #[must_use]
    pub const fn command(ipo: u16) -> Self {
        Self(0).with_ipo(ipo)
    }

    /// A field of the data is wrong.
    #[must_use]
    pub const fn data(ipo: u16) -> Self {
        Self(0).with_ipo(ipo).with_in_data(true)
    }
}

/// The fields of a property get or set command (sections 6.5 and 6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// Attributes (ATTRIB): bits 2:0 are the size, see [`Property::bytes`].
    pub attrib: u8,
    /// Offset of the property, see [`offset`](super::register::offset).
    pub offset: u32,
    /// The value to set; of four bytes the low half.
    pub value: u64,
}

impl Property {
    /// The fields of a command.
    #[must_use]
    pub fn of(sqe: &Sqe) -> Self {
        Self {
            attrib: sqe.cdw10.get().to_le_bytes()[0],
            offset: sqe.cdw11.get(),
            value: u64::from(sqe.cdw12.get()) | u64::from(sqe.cdw13.get()) << 32,
        }
    }

    /// The size of the property in bytes: 4 or 8; `None` when the attributes name another.
    #[must_use]
    pub const fn bytes(&self) -> Option<u8> {
        match self.attrib & 7 {
            0 => Some(4),
            1 => Some(8),
            _ => None,
        }
    }

    /// A command that gets a property of 4 bytes, or of 8 when `wide`.
    #[must_use]
    pub fn get(offset: u32, wide: bool) -> Sqe {
        Self { attrib: u8::from(wide), offset, value: 0 }.to_sqe(fctype::PROPERTY_GET)
    }

    /// A command that sets a property of 4 bytes, or of 8 when `wide`.
    #[must_use]
    pub fn set(offset: u32, wide: bool, value: u64) -> Sqe {
        Self { attrib: u8::from(wide), offset, value }.to_sqe(fctype::PROPERTY_SET)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the halves of a value are taken")]
    fn to_sqe(self, fctype: u8) -> Sqe {
        let mut sqe = Sqe::fabrics(fctype);
        sqe.flags = SGL;
        sqe.cdw10.set(self.attrib.into());
        sqe.cdw11.set(self.offset);
        sqe.cdw12.set(self.value as u32);
        sqe.cdw13.set((self.value >> 32) as u32);
        sqe
    }
}

/// The fields of a disconnect command (section 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Format of the command; 0.
    pub recfmt: u16,
}

impl Disconnect {
    /// The fields of a command.
    #[must_use]
    pub fn of(sqe: &Sqe) -> Self {
        Self { recfmt: halves(sqe.cdw10.get()).0 }
    }

    /// The command.
    #[must_use]
    pub fn to_sqe(self) -> Sqe {
        let mut sqe = Sqe::fabrics(fctype::DISCONNECT);
        sqe.flags = SGL;
        sqe.cdw10 = U32::new(self.recfmt.into());
        sqe
    }
}

/// Shows the status of a fabrics command.
///
/// Command specific codes from 80h on mean something else there than for an I/O command, so that
/// the words of [`NvmeStatus`] do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FabricsStatus(pub NvmeStatus);

impl FabricsStatus {
    /// The words, when the code has a meaning of its own for fabrics commands.
    #[must_use]
    pub const fn words(self) -> Option<&'static str> {
        if self.0.sct() != 1 {
            return None;
        }
        match self.0.sc() {
            0x80 => Some("connect incompatible format"),
            0x81 => Some("controller busy"),
            0x82 => Some("connect invalid parameters"),
            0x83 => Some("connect restart discovery"),
            0x84 => Some("host not allowed"),
            0x85 => Some("invalid queue type"),
            0x90 => Some("discover restart"),
            0x91 => Some("authentication required"),
            _ => None,
        }
    }
}

impl fmt::Display for FabricsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words() {
            None => self.0.fmt(f),
            Some(words) => self.0.fmt_with(words, f),
        }
    }
}
