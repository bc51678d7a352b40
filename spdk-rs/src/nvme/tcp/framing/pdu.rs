//! The PDUs by their content (section 3.6).

use std::mem::offset_of;

use zerocopy::FromBytes;

use crate::nvme::spec::pdu::{self as wire, dgst, hlen, pdu_flag, pdu_type};
use crate::nvme::spec::{Cqe, Sqe};

/// The types of PDUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PduType {
    /// Initialize connection request.
    IcReq = pdu_type::ICREQ,
    /// Initialize connection response.
    IcResp = pdu_type::ICRESP,
    /// The host ends the connection.
    H2cTermReq = pdu_type::H2C_TERM_REQ,
    /// The controller ends the connection.
    C2hTermReq = pdu_type::C2H_TERM_REQ,
    /// A command, with or without data.
    CapsuleCmd = pdu_type::CAPSULE_CMD,
    /// A completion.
    CapsuleResp = pdu_type::CAPSULE_RESP,
    /// Data from the host.
    H2cData = pdu_type::H2C_DATA,
    /// Data from the controller.
    C2hData = pdu_type::C2H_DATA,
    /// Ready to transfer: the controller asks for data.
    R2t = pdu_type::R2T,
}

/// Offsets of header fields in bytes, as termination requests name them.
pub(crate) mod offset {
    use super::{offset_of, wire};

    /// Headers have at most 128 bytes.
    #[expect(clippy::cast_possible_truncation, reason = "offsets are below 128")]
    const fn small(offset: usize) -> u32 {
        offset as u32
    }

    pub(crate) const TYPE: u32 = small(offset_of!(wire::CommonHeader, pdu_type));
    pub(crate) const FLAGS: u32 = small(offset_of!(wire::CommonHeader, flags));
    pub(crate) const HLEN: u32 = small(offset_of!(wire::CommonHeader, hlen));
    pub(crate) const PDO: u32 = small(offset_of!(wire::CommonHeader, pdo));
    pub(crate) const PLEN: u32 = small(offset_of!(wire::CommonHeader, plen));
    pub(crate) const PFV: u32 = small(offset_of!(wire::IcReq, pfv));
    pub(crate) const PDA: u32 = small(offset_of!(wire::IcReq, hpda));
    pub(crate) const MAXH2CDATA: u32 = small(offset_of!(wire::IcResp, maxh2cdata));
    pub(crate) const CCCID: u32 = small(offset_of!(wire::H2cData, cccid));
    pub(crate) const TTAG: u32 = small(offset_of!(wire::H2cData, ttag));
    pub(crate) const DATAL: u32 = small(offset_of!(wire::H2cData, datal));
    pub(crate) const R2TL: u32 = small(offset_of!(wire::R2t, r2tl));
}

impl PduType {
    /// The type of a type field; none for a value that the specification does not know.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            pdu_type::ICREQ => Self::IcReq,
            pdu_type::ICRESP => Self::IcResp,
            pdu_type::H2C_TERM_REQ => Self::H2cTermReq,
            pdu_type::C2H_TERM_REQ => Self::C2hTermReq,
            pdu_type::CAPSULE_CMD => Self::CapsuleCmd,
            pdu_type::CAPSULE_RESP => Self::CapsuleResp,
            pdu_type::H2C_DATA => Self::H2cData,
            pdu_type::C2H_DATA => Self::C2hData,
            pdu_type::R2T => Self::R2t,
            _ => return None,
        })
    }

    /// The bytes of its header (HLEN), without digest and padding.
    #[must_use]
    pub const fn header_bytes(self) -> usize {
        let bytes = match self {
            Self::IcReq | Self::IcResp => hlen::IC,
            Self::H2cTermReq | Self::C2hTermReq => hlen::TERM_REQ,
            Self::CapsuleCmd => hlen::CAPSULE_CMD,
            Self::CapsuleResp => hlen::CAPSULE_RESP,
            Self::H2cData | Self::C2hData => hlen::DATA,
            Self::R2t => hlen::R2T,
        };
        bytes as usize
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

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// The header at the start of bytes that are as long, which the caller has checked.
fn header_of<T: FromBytes>(bytes: &[u8]) -> T {
    T::read_from_prefix(bytes).map_or_else(|_| T::new_zeroed(), |(header, _)| header)
}

impl Pdu {
    /// Reads a header of `kind`, whose length was checked.
    pub(super) fn read(kind: PduType, header: &[u8]) -> Self {
        match kind {
            PduType::IcReq => {
                let request: wire::IcReq = header_of(header);
                Self::IcReq(IcReq {
                    pfv: request.pfv.get(),
                    hpda: request.hpda,
                    header_digest: request.dgst & dgst::HEADER != 0,
                    data_digest: request.dgst & dgst::DATA != 0,
                    maxr2t: request.maxr2t.get(),
                })
            }
            PduType::IcResp => {
                let response: wire::IcResp = header_of(header);
                Self::IcResp(IcResp {
                    pfv: response.pfv.get(),
                    cpda: response.cpda,
                    header_digest: response.dgst & dgst::HEADER != 0,
                    data_digest: response.dgst & dgst::DATA != 0,
                    maxh2cdata: response.maxh2cdata.get(),
                })
            }
            PduType::H2cTermReq | PduType::C2hTermReq => {
                let request: wire::TermReq = header_of(header);
                Self::TermReq(TermReq { fes: request.fes.get(), fei: request.fei.get() })
            }
            PduType::CapsuleCmd => Self::Command(header_of::<wire::CapsuleCmd>(header).sqe),
            PduType::CapsuleResp => Self::Response(header_of::<wire::CapsuleResp>(header).cqe),
            // Both have the same fields; the tag is reserved in C2HData.
            PduType::H2cData | PduType::C2hData => {
                let data: wire::H2cData = header_of(header);
                Self::Data(DataPdu {
                    cccid: data.cccid.get(),
                    ttag: data.ttag.get(),
                    datao: data.datao.get(),
                    datal: data.datal.get(),
                    last: data.header.has(pdu_flag::LAST),
                    success: kind == PduType::C2hData && data.header.has(pdu_flag::SUCCESS),
                })
            }
            PduType::R2t => {
                let request: wire::R2t = header_of(header);
                Self::R2t(R2t {
                    cccid: request.cccid.get(),
                    ttag: request.ttag.get(),
                    offset: request.r2to.get(),
                    length: request.r2tl.get(),
                })
            }
        }
    }
}
