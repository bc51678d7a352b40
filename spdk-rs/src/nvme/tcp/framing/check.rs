//! The checks of a common header, before anything else of the PDU has to be there.

use super::error::{FatalError, FatalStatus};
use super::pdu::{Pdu, PduType, le32, offset};
use crate::nvme::spec::pdu::pdu_flag;
use crate::nvme::tcp::digest::DIGEST_BYTES;

/// Which end of the connection receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The target's end.
    Controller,
    /// The initiator's end.
    Host,
}

/// The largest alignment of data, in bytes (CPDA and HPDA 31).
pub const ALIGNMENT_MAX: u32 = 128;

/// What was agreed on for the PDUs that are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveRules {
    /// Header digests are there.
    pub header_digest: bool,
    /// Data digests are there.
    pub data_digest: bool,
    /// Data start at a multiple of this many bytes from the PDU's start: 4 to [`ALIGNMENT_MAX`].
    pub alignment_bytes: u32,
    /// Bytes of data inside a command capsule at the most.
    pub in_capsule_max: u32,
    /// Bytes of data of one data PDU at the most (MAXH2CDATA at a controller).
    pub data_max: u32,
}

impl ReceiveRules {
    /// What holds before the first two PDUs: no digests and no data.
    pub(super) const UNAGREED: Self = Self {
        header_digest: false,
        data_digest: false,
        alignment_bytes: 4,
        in_capsule_max: 0,
        data_max: 0,
    };
}

/// The measures of a PDU whose common header is right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) kind: PduType,
    /// Bytes of the header without digest and padding.
    pub(super) header: usize,
    pub(super) header_digest: bool,
    /// Bytes up to the data, or of the whole PDU without data.
    pub(super) before_data: usize,
    /// Bytes of data.
    pub(super) data: u32,
}

/// Bytes of the part that all PDUs begin with.
pub(super) const COMMON_BYTES: usize = 8;

impl Shape {
    /// Checks the first eight bytes of a PDU.
    pub(super) fn of(
        common: &[u8; COMMON_BYTES],
        role: Role,
        agreed: bool,
        rules: &ReceiveRules,
    ) -> Result<Self, FatalError> {
        let kind = expected(common[0], role, agreed)?;
        let header = kind.header_bytes();
        if usize::from(common[2]) != header {
            return Err(FatalError::field(offset::HLEN));
        }
        let plen = le32(common, 4);
        if !kind.has_digests() {
            return Self::plain(kind, header, plen);
        }
        let header_digest = common[1] & pdu_flag::HDGST != 0;
        if header_digest != rules.header_digest {
            return Err(FatalError::field(offset::FLAGS));
        }
        let headed = header + if header_digest { DIGEST_BYTES } else { 0 };
        let bare = usize::try_from(plen).is_ok_and(|plen| plen == headed);
        if usize::try_from(plen).is_ok_and(|plen| plen < headed) {
            return Err(FatalError::field(offset::PLEN));
        }
        if !kind.may_have_data() || (kind == PduType::CapsuleCmd && bare) {
            return match bare {
                true => Ok(Self { kind, header, header_digest, before_data: headed, data: 0 }),
                false => Err(FatalError::field(offset::PLEN)),
            };
        }
        let (before_data, data) = Self::with_data(common, plen, headed, rules)?;
        let max = if kind == PduType::CapsuleCmd { rules.in_capsule_max } else { u32::MAX };
        if data > max {
            return Err(FatalError::field(offset::PLEN));
        }
        Ok(Self { kind, header, header_digest, before_data, data })
    }

    /// A PDU outside the agreement: of its exact length, or a termination request with what it
    /// complains about.
    fn plain(kind: PduType, header: usize, plen: u32) -> Result<Self, FatalError> {
        let max = match kind {
            PduType::IcReq | PduType::IcResp => header,
            _ => header + 128,
        };
        let fits = usize::try_from(plen).is_ok_and(|plen| (header..=max).contains(&plen));
        if !fits {
            return Err(FatalError::field(offset::PLEN));
        }
        Ok(Self { kind, header, header_digest: false, before_data: header, data: 0 })
    }

    /// Where the data begin, and how many they are.
    fn with_data(
        common: &[u8; COMMON_BYTES],
        plen: u32,
        headed: usize,
        rules: &ReceiveRules,
    ) -> Result<(usize, u32), FatalError> {
        let pdo = u32::from(common[3]);
        if usize::from(common[3]) < headed || !pdo.is_multiple_of(rules.alignment_bytes) {
            return Err(FatalError::field(offset::PDO));
        }
        let digest = common[1] & pdu_flag::DDGST != 0;
        if digest != rules.data_digest {
            return Err(FatalError::field(offset::FLAGS));
        }
        let behind = if digest { 4 } else { 0 };
        let data = plen.checked_sub(pdo).and_then(|rest| rest.checked_sub(behind));
        match data {
            Some(data @ 1..) => Ok((usize::from(common[3]), data)),
            _ => Err(FatalError::field(offset::PLEN)),
        }
    }
}

/// The type, if it is one that this end gets, in this phase.
fn expected(bits: u8, role: Role, agreed: bool) -> Result<PduType, FatalError> {
    let wrong = FatalError::field(offset::TYPE);
    let kind = PduType::from_bits(bits).ok_or(wrong)?;
    let first = match role {
        Role::Controller => PduType::IcReq,
        Role::Host => PduType::IcResp,
    };
    let own = match role {
        Role::Controller => {
            matches!(kind, PduType::H2cTermReq | PduType::CapsuleCmd | PduType::H2cData)
        }
        Role::Host => matches!(
            kind,
            PduType::C2hTermReq | PduType::CapsuleResp | PduType::C2hData | PduType::R2t
        ),
    };
    if kind != first && !own {
        return Err(wrong);
    }
    let ends = matches!(kind, PduType::H2cTermReq | PduType::C2hTermReq);
    if !ends && (kind == first) == agreed {
        return Err(FatalError::SEQUENCE);
    }
    Ok(kind)
}

/// Checks what the header says of its data against their bytes in the PDU.
pub(super) fn check_data(pdu: &Pdu, shape: &Shape, rules: &ReceiveRules) -> Result<(), FatalError> {
    let Pdu::Data(data) = pdu else { return Ok(()) };
    if data.datal != shape.data {
        return Err(FatalError::field(offset::DATAL));
    }
    if data.datal > rules.data_max {
        return Err(FatalError::of(FatalStatus::LimitExceeded));
    }
    if data.success && !data.last {
        return Err(FatalError::field(offset::FLAGS));
    }
    Ok(())
}
