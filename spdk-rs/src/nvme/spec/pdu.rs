//! NVMe/TCP protocol data units (NVMe/TCP Transport Specification 1.0, section 3.6).
//!
//! The structures are the headers, without digests and data. Which header lengths, offsets and
//! flags are allowed is checked by the framing, not here.

use zerocopy::byteorder::little_endian::{U16, U32};

use super::{Cqe, Sqe};

numbers! {
    /// Types of PDUs.
    pub mod pdu_type: u8 {
        ICREQ = 0x00, "initialize connection request";
        ICRESP = 0x01, "initialize connection response";
        H2C_TERM_REQ = 0x02, "host to controller terminate connection request";
        C2H_TERM_REQ = 0x03, "controller to host terminate connection request";
        CAPSULE_CMD = 0x04, "command capsule";
        CAPSULE_RESP = 0x05, "response capsule";
        H2C_DATA = 0x06, "host to controller data";
        C2H_DATA = 0x07, "controller to host data";
        R2T = 0x09, "ready to transfer";
    }
}

flags! {
    /// Bits of [`CommonHeader::flags`].
    pub mod pdu_flag: u8 {
        HDGST = 0, "a header digest follows the header";
        DDGST = 1, "a data digest follows the data";
        LAST = 2, "the last data PDU of its sequence";
        SUCCESS = 3, "the command succeeded, no response capsule follows (C2HData with LAST)";
    }
}

/// Header lengths (HLEN) of the types.
pub mod hlen {
    /// Common header.
    pub const COMMON: u8 = 8;
    /// ICReq and ICResp.
    pub const IC: u8 = 128;
    /// H2CTermReq and C2HTermReq.
    pub const TERM_REQ: u8 = 24;
    /// CapsuleCmd.
    pub const CAPSULE_CMD: u8 = 72;
    /// CapsuleResp.
    pub const CAPSULE_RESP: u8 = 24;
    /// H2CData and C2HData.
    pub const DATA: u8 = 24;
    /// R2T.
    pub const R2T: u8 = 24;

    /// The header length of a type; `None` for an unknown one.
    #[must_use]
    pub const fn of(pdu_type: u8) -> Option<u8> {
        use super::pdu_type as kind;
        Some(match pdu_type {
            kind::ICREQ | kind::ICRESP => IC,
            kind::H2C_TERM_REQ | kind::C2H_TERM_REQ => TERM_REQ,
            kind::CAPSULE_CMD => CAPSULE_CMD,
            kind::CAPSULE_RESP => CAPSULE_RESP,
            kind::H2C_DATA | kind::C2H_DATA => DATA,
            kind::R2T => R2T,
            _ => return None,
        })
    }
}

/// Bytes of a header or data digest.
pub const DIGEST_LEN: u32 = 4;

/// The largest terminate request in bytes: the header, and 128 bytes of the offending PDU.
pub const TERM_REQ_LEN_MAX: u32 = 152;

wire! {
    /// What every PDU begins with.
    #[derive(Copy)]
    pub struct CommonHeader: 8 {
        /// Type, see [`pdu_type`].
        0 => pdu_type: u8,
        /// Flags, see [`pdu_flag`].
        1 => flags: u8,
        /// Header length in bytes, without the header digest.
        2 => hlen: u8,
        /// Data offset in bytes from the start of the PDU; 0 without data.
        3 => pdo: u8,
        /// Length in bytes of the whole PDU, digests and padding included.
        4 => plen: U32,
    }
}

impl CommonHeader {
    /// A header.
    #[inline(always)]
    #[must_use]
    pub const fn new(pdu_type: u8, flags: u8, hlen: u8, pdo: u8, plen: u32) -> Self {
        Self { pdu_type, flags, hlen, pdo, plen: U32::new(plen) }
    }

    /// Whether a flag is set, see [`pdu_flag`].
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

flags! {
    /// Bits of [`IcReq::dgst`] and [`IcResp::dgst`].
    pub mod dgst: u8 {
        HEADER = 0, "header digest";
        DATA = 1, "data digest";
    }
}

wire! {
    /// Initialize connection request.
    #[derive(Copy)]
    pub struct IcReq: 128 {
        /// Common header.
        0 => header: CommonHeader,
        /// PDU format version, 0.
        8 => pfv: U16,
        /// Alignment of data that the host wants, `4 * (hpda + 1)` bytes; 0 to 31.
        10 => hpda: u8,
        /// Digests that the host wants, see [`dgst`].
        11 => dgst: u8,
        /// Most R2Ts outstanding per command, 0's based.
        12 => maxr2t: U32,
        /// Reserved.
        16 => reserved16: [u8; 112],
    }
}

wire! {
    /// Initialize connection response.
    #[derive(Copy)]
    pub struct IcResp: 128 {
        /// Common header.
        0 => header: CommonHeader,
        /// PDU format version, 0.
        8 => pfv: U16,
        /// Alignment of data that the controller wants, `4 * (cpda + 1)` bytes; 0 to 31.
        10 => cpda: u8,
        /// Digests in use, see [`dgst`].
        11 => dgst: u8,
        /// Most data bytes of one H2CData; a multiple of 4, at least 4096.
        12 => maxh2cdata: U32,
        /// Reserved.
        16 => reserved16: [u8; 112],
    }
}

wire! {
    /// Terminate connection request, of either side; the offending header follows as data.
    #[derive(Copy)]
    pub struct TermReq: 24 {
        /// Common header.
        0 => header: CommonHeader,
        /// Fatal error status, see [`fes`].
        8 => fes: U16,
        /// Fatal error information: the offset of the field for [`fes::INVALID_HEADER_FIELD`] and
        /// [`fes::UNSUPPORTED_PARAMETER`], the digest received for [`fes::HEADER_DIGEST`].
        10 => fei: U32,
        /// Reserved.
        14 => reserved14: [u8; 10],
    }
}

numbers! {
    /// Fatal error statuses.
    pub mod fes: u16 {
        INVALID_HEADER_FIELD = 1, "invalid PDU header field";
        PDU_SEQUENCE = 2, "PDU sequence error";
        HEADER_DIGEST = 3, "header digest error";
        DATA_OUT_OF_RANGE = 4, "data transfer out of range";
        LIMIT_EXCEEDED = 5, "R2T or data transfer limit exceeded";
        UNSUPPORTED_PARAMETER = 6, "unsupported parameter";
    }
}

wire! {
    /// Command capsule; in-capsule data may follow.
    #[derive(Copy)]
    pub struct CapsuleCmd: 72 {
        /// Common header.
        0 => header: CommonHeader,
        /// The command.
        8 => sqe: Sqe,
    }
}

wire! {
    /// Response capsule.
    #[derive(Copy)]
    pub struct CapsuleResp: 24 {
        /// Common header.
        0 => header: CommonHeader,
        /// The completion.
        8 => cqe: Cqe,
    }
}

wire! {
    /// Host to controller data.
    #[derive(Copy)]
    pub struct H2cData: 24 {
        /// Common header.
        0 => header: CommonHeader,
        /// Command identifier of the command.
        8 => cccid: U16,
        /// Transfer tag of the R2T.
        10 => ttag: U16,
        /// Offset in bytes of these data in those of the command.
        12 => datao: U32,
        /// Bytes of data.
        16 => datal: U32,
        /// Reserved.
        20 => reserved20: [u8; 4],
    }
}

wire! {
    /// Controller to host data.
    #[derive(Copy)]
    pub struct C2hData: 24 {
        /// Common header.
        0 => header: CommonHeader,
        /// Command identifier of the command.
        8 => cccid: U16,
        /// Reserved.
        10 => reserved10: [u8; 2],
        /// Offset in bytes of these data in those of the command.
        12 => datao: U32,
        /// Bytes of data.
        16 => datal: U32,
        /// Reserved.
        20 => reserved20: [u8; 4],
    }
}

wire! {
    /// Ready to transfer.
    #[derive(Copy)]
    pub struct R2t: 24 {
        /// Common header.
        0 => header: CommonHeader,
        /// Command identifier of the command.
        8 => cccid: U16,
        /// Transfer tag, which the data repeat.
        10 => ttag: U16,
        /// Offset in bytes of the data asked for.
        12 => r2to: U32,
        /// Bytes of data asked for.
        16 => r2tl: U32,
        /// Reserved.
        20 => reserved20: [u8; 4],
    }
}
