//! Headers of PDUs that go out.

use zerocopy::IntoBytes;

use super::error::FatalError;
use super::pdu::{DataPdu, IcReq, IcResp, PduType, R2t};
use crate::nvme::spec::pdu::pdu_flag;
use crate::nvme::spec::{Cqe, Sqe};
use crate::nvme::tcp::digest::{Crc32c, DIGEST_BYTES};

/// Bytes that hold any header with its digest and padding, and any PDU without data.
pub const HEADER_SPACE_BYTES: usize = 24 + TERMINATED_MAX;

/// Bytes that a termination request repeats of the PDU that caused it, at the most.
const TERMINATED_MAX: usize = 128;

/// Room for a header, with what comes before the data.
pub type HeaderSpace = [u8; HEADER_SPACE_BYTES];

/// Writes headers as was agreed for the PDUs that are sent.
///
/// Every method fills the start of `out` and returns how many bytes of it go out. For PDUs with data
/// these are header, header digest and padding; the data follow, then the data digest where
/// [`Framer::data_digest`] is on: four bytes, little endian, over the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framer {
    /// Header digests are added.
    pub header_digest: bool,
    /// Data digests follow data.
    pub data_digest: bool,
    /// Data start at a multiple of this many bytes from the PDU's start: 4 to
    /// [`super::ALIGNMENT_MAX`].
    pub alignment_bytes: u32,
}

impl Default for Framer {
    /// What holds before the first two PDUs.
    fn default() -> Self {
        Self { header_digest: false, data_digest: false, alignment_bytes: 4 }
    }
}

impl Framer {
    /// A command, with `data_bytes` of data inside its capsule.
    pub fn command(&self, sqe: &Sqe, data_bytes: u32, out: &mut HeaderSpace) -> usize {
        out[8..72].copy_from_slice(sqe.as_bytes());
        self.finish(PduType::CapsuleCmd, 0, data_bytes, out)
    }

    /// A completion.
    #[inline]
    pub fn response(&self, cqe: &Cqe, out: &mut HeaderSpace) -> usize {
        out[8..24].copy_from_slice(cqe.as_bytes());
        self.finish(PduType::CapsuleResp, 0, 0, out)
    }

    /// Data from the host.
    pub fn h2c_data(&self, data: &DataPdu, out: &mut HeaderSpace) -> usize {
        self.data(PduType::H2cData, data, out)
    }

    /// Data from the controller.
    #[inline]
    pub fn c2h_data(&self, data: &DataPdu, out: &mut HeaderSpace) -> usize {
        self.data(PduType::C2hData, data, out)
    }

    fn data(&self, kind: PduType, data: &DataPdu, out: &mut HeaderSpace) -> usize {
        out[8..10].copy_from_slice(&data.cccid.to_le_bytes());
        out[10..12].copy_from_slice(&data.ttag.to_le_bytes());
        out[12..16].copy_from_slice(&data.datao.to_le_bytes());
        out[16..20].copy_from_slice(&data.datal.to_le_bytes());
        out[20..24].fill(0);
        let last = if data.last { pdu_flag::LAST } else { 0 };
        let success = if data.success { pdu_flag::SUCCESS } else { 0 };
        self.finish(kind, last | success, data.datal, out)
    }

    /// Ready to transfer.
    pub fn r2t(&self, r2t: &R2t, out: &mut HeaderSpace) -> usize {
        out[8..10].copy_from_slice(&r2t.cccid.to_le_bytes());
        out[10..12].copy_from_slice(&r2t.ttag.to_le_bytes());
        out[12..16].copy_from_slice(&r2t.offset.to_le_bytes());
        out[16..20].copy_from_slice(&r2t.length.to_le_bytes());
        out[20..24].fill(0);
        self.finish(PduType::R2t, 0, 0, out)
    }

    /// Initialize connection request.
    pub fn ic_req(request: &IcReq, out: &mut HeaderSpace) -> usize {
        let digests = (request.header_digest, request.data_digest);
        Self::ic(PduType::IcReq, request.pfv, request.hpda, digests, request.maxr2t, out)
    }

    /// Initialize connection response.
    pub fn ic_resp(response: &IcResp, out: &mut HeaderSpace) -> usize {
        let digests = (response.header_digest, response.data_digest);
        Self::ic(PduType::IcResp, response.pfv, response.cpda, digests, response.maxh2cdata, out)
    }

    fn ic(
        kind: PduType,
        pfv: u16,
        alignment: u8,
        (header_digest, data_digest): (bool, bool),
        limit: u32,
        out: &mut HeaderSpace,
    ) -> usize {
        out[8..128].fill(0);
        out[8..10].copy_from_slice(&pfv.to_le_bytes());
        out[10] = alignment;
        out[11] = u8::from(header_digest) | u8::from(data_digest) << 1;
        out[12..16].copy_from_slice(&limit.to_le_bytes());
        common(kind, 0, 0, 128, out);
        128
    }

    /// A termination request of this end (`kind` is H2CTermReq or C2HTermReq), with the header of
    /// the PDU that caused it, at most 128 bytes.
    pub fn term_req(
        kind: PduType,
        error: &FatalError,
        cause: &[u8],
        out: &mut HeaderSpace,
    ) -> usize {
        let cause = &cause[..cause.len().min(TERMINATED_MAX)];
        let len = 24 + cause.len();
        out[8..24].fill(0);
        out[8..10].copy_from_slice(&error.status.bits().to_le_bytes());
        out[10..14].copy_from_slice(&error.info.to_le_bytes());
        out[24..len].copy_from_slice(cause);
        common(kind, 0, 0, u32::try_from(len).unwrap_or(0), out);
        len
    }

    /// Writes the common header and the header digest, and clears the padding.
    #[inline]
    fn finish(&self, kind: PduType, flags: u8, data: u32, out: &mut HeaderSpace) -> usize {
        let header = kind.header_bytes();
        let headed = header + if self.header_digest { DIGEST_BYTES } else { 0 };
        let mut flags = flags | if self.header_digest { pdu_flag::HDGST } else { 0 };
        // The alignment is at most 128 and the header at most 76, so 128 is enough.
        let (mut before, mut pdo, mut behind) = (headed, 0_u8, 0);
        if data != 0 {
            let alignment = usize::try_from(self.alignment_bytes).unwrap_or(4);
            before = headed.next_multiple_of(alignment.clamp(4, 128));
            pdo = u8::try_from(before).unwrap_or(u8::MAX);
            if self.data_digest {
                flags |= pdu_flag::DDGST;
                behind = 4;
            }
        }
        let plen = u32::try_from(before).unwrap_or(0).saturating_add(data).saturating_add(behind);
        common(kind, flags, pdo, plen, out);
        if self.header_digest {
            let digest = Crc32c::of(&out[..header]);
            out[header..headed].copy_from_slice(&digest.to_le_bytes());
        }
        out[headed..before].fill(0);
        before
    }
}

fn common(kind: PduType, flags: u8, pdo: u8, plen: u32, out: &mut HeaderSpace) {
    out[0] = kind as u8;
    out[1] = flags;
    out[2] = u8::try_from(kind.header_bytes()).unwrap_or(0);
    out[3] = pdo;
    out[4..8].copy_from_slice(&plen.to_le_bytes());
}
