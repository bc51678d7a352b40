//! The PDUs by their content (section 3.6).

use zerocopy::FromBytes;

use crate::nvme::spec::{Cqe, Sqe};

/// The types of PDUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PduType {
    /// Initialize connection request.
    IcReq = 0x00,
    /// Initialize connection response.
    IcResp = 0x01,
    /// The host ends the connection.
    H2cTermReq = 0x02,
    /// The controller ends the connection.
    C2hTermReq = 0x03,
    /// A command, with or without data.
    CapsuleCmd = 0x04,
    /// A completion.
    CapsuleResp = 0x05,
    /// Data from the host.
    H2cData = 0x06,
    /// Data from the controller.
    C2hData = 0x07,
    /// Ready to transfer: the controller asks for data.
    R2t = 0x09,
}

/// Bits of the flags in the common header.
pub(super) mod flag {
    /// A header digest follows the header.
    pub(crate) const HEADER_DIGEST: u8 = 1 << 0;
    /// A data digest follows the data.
    pub(crate) const DATA_DIGEST: u8 = 1 << 1;
    /// The last data PDU of a transfer.
    pub(crate) const LAST: u8 = 1 << 2;
    /// The command succeeded; no response follows.
    pub(crate) const SUCCESS: u8 = 1 << 3;
}

/// Offsets of header fields in bytes, as termination requests name them.
pub(crate) mod offset {
    pub(crate) const TYPE: u32 = 0;
    pub(crate) const FLAGS: u32 = 1;
    pub(crate) const HLEN: u32 = 2;
    pub(crate) const PDO: u32 = 3;
    pub(crate) const PLEN: u32 = 4;
    pub(crate) const PFV: u32 = 8;
    pub(crate) const PDA: u32 = 10;
    pub(crate) const MAXH2CDATA: u32 = 12;
    pub(crate) const CCCID: u32 = 8;
    pub(crate) const TTAG: u32 = 10;
    pub(crate) const DATAL: u32 = 16;
    pub(crate) const R2TL: u32 = 16;
}

impl PduType {
    /// The type of a type field; none for a value that the specification does not know.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x00 => Self::IcReq,
            0x01 => Self::IcResp,
            0x02 => Self::H2cTermReq,
            0x03 => Self::C2hTermReq,
            0x04 => Self::CapsuleCmd,
            0x05 => Self::CapsuleResp,
            0x06 => Self::H2cData,
            0x07 => Self::C2hData,
            0x09 => Self::R2t,
            _ => return None,
        })
    }

    /// The bytes of its header (HLEN), without digest and padding.
    #[must_use]
    pub const fn header_bytes(self) -> usize {
        match self {
            Self::IcReq | Self::IcResp => 128,
            Self::CapsuleCmd => 72,
            _ => 24,
        }
    }

    /// Whether it has digests when they were agreed on: all but those that come before the
    /// agreement or end the connection.
    #[must_use]
    pub const fn has_digests(self) -> bool {
        !matches!(self, Self::IcReq | Self::IcResp | Self::H2cTermReq | Self::C2hTermReq)
    }

    /// Whether it may carry data that have a place of their own.
    #[must_use]
    pub const fn may_have_data(self) -> bool {
        matches!(self, Self::CapsuleCmd | Self::H2cData | Self::C2hData)
    }
}

/// Initialize connection request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IcReq {
    /// PDU format version; 0 is the only one.
    pub pfv: u16,
    /// Alignment of data that the host wants to get, in dwords, 0's based (HPDA), 0 to 31.
    pub hpda: u8,
    /// Header digest wanted.
    pub header_digest: bool,
    /// Data digest wanted.
    pub data_digest: bool,
    /// Outstanding R2Ts per command, 0's based (MAXR2T).
    pub maxr2t: u32,
}

/// Initialize connection response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IcResp {
    /// PDU format version; 0 is the only one.
    pub pfv: u16,
    /// Alignment of data that the controller wants to get, in dwords, 0's based (CPDA), 0 to 31.
    pub cpda: u8,
    /// Header digest used.
    pub header_digest: bool,
    /// Data digest used.
    pub data_digest: bool,
    /// Bytes of data of one H2CData PDU at the most; at least 4096, a multiple of 4.
    pub maxh2cdata: u32,
}

/// A termination request, without the header of the PDU that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermReq {
    /// Fatal error status, as it came: see [`super::FatalStatus`].
    pub fes: u16,
    /// Fatal error information.
    pub fei: u32,
}

/// H2CData or C2HData.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataPdu {
    /// Command capsule identifier.
    pub cccid: u16,
    /// Transfer tag; reserved in C2HData.
    pub ttag: u16,
    /// Offset of the data in the command's data, in bytes.
    pub datao: u32,
    /// Bytes of data; never 0.
    pub datal: u32,
    /// The last of the transfer.
    pub last: bool,
    /// The command succeeded and no response follows; only in C2HData.
    pub success: bool,
}

/// Ready to transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct R2t {
    /// Command capsule identifier.
    pub cccid: u16,
    /// Transfer tag, to be repeated in the data.
    pub ttag: u16,
    /// Offset of the data that are asked for, in bytes.
    pub offset: u32,
    /// Bytes that are asked for.
    pub length: u32,
}

/// A PDU whose header is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pdu {
    /// Initialize connection request.
    IcReq(IcReq),
    /// Initialize connection response.
    IcResp(IcResp),
    /// The peer ends the connection: H2CTermReq for a controller, C2HTermReq for a host.
    TermReq(TermReq),
    /// A command.
    Command(Sqe),
    /// A completion.
    Response(Cqe),
    /// Data: H2CData for a controller, C2HData for a host.
    Data(DataPdu),
    /// Ready to transfer.
    R2t(R2t),
}

pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

impl Pdu {
    /// Reads a header of `kind`, whose length was checked.
    pub(super) fn read(kind: PduType, header: &[u8]) -> Self {
        let flags = header.get(1).copied().unwrap_or(0);
        let byte = |at: usize| header.get(at).copied().unwrap_or(0);
        match kind {
            PduType::IcReq => Self::IcReq(IcReq {
                pfv: le16(header, 8),
                hpda: byte(10),
                header_digest: byte(11) & 1 != 0,
                data_digest: byte(11) & 2 != 0,
                maxr2t: le32(header, 12),
            }),
            PduType::IcResp => Self::IcResp(IcResp {
                pfv: le16(header, 8),
                cpda: byte(10),
                header_digest: byte(11) & 1 != 0,
                data_digest: byte(11) & 2 != 0,
                maxh2cdata: le32(header, 12),
            }),
            PduType::H2cTermReq | PduType::C2hTermReq => {
                // FEI is not aligned to its size.
                Self::TermReq(TermReq { fes: le16(header, 8), fei: le32(header, 10) })
            }
            PduType::CapsuleCmd => {
                let sqe = header.get(8..).and_then(|rest| Sqe::read_from_prefix(rest).ok());
                Self::Command(sqe.map_or_else(Sqe::default, |(sqe, _)| sqe))
            }
            PduType::CapsuleResp => {
                let cqe = header.get(8..).and_then(|rest| Cqe::read_from_prefix(rest).ok());
                Self::Response(cqe.map_or_else(Cqe::default, |(cqe, _)| cqe))
            }
            PduType::H2cData | PduType::C2hData => Self::Data(DataPdu {
                cccid: le16(header, 8),
                ttag: le16(header, 10),
                datao: le32(header, 12),
                datal: le32(header, 16),
                last: flags & flag::LAST != 0,
                success: kind == PduType::C2hData && flags & flag::SUCCESS != 0,
            }),
            PduType::R2t => Self::R2t(R2t {
                cccid: le16(header, 8),
                ttag: le16(header, 10),
                offset: le32(header, 12),
                length: le32(header, 16),
            }),
        }
    }
}
