//! What ends a connection, in the words of a termination request.

use thiserror::Error;

/// Fatal error status (FES, figures "C2HTermReq" and "H2CTermReq" of section 3.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum FatalStatus {
    /// A field of a header has a value that is not allowed; FEI is its offset in bytes.
    InvalidHeaderField = 0x01,
    /// A PDU or a piece of data came in the wrong order.
    SequenceError = 0x02,
    /// A header digest is wrong; FEI is the digest as it came.
    HeaderDigest = 0x03,
    /// Data outside the range that was asked for.
    DataOutOfRange = 0x04,
    /// More data in one PDU than was agreed (from a controller), or more R2Ts (from a host).
    LimitExceeded = 0x05,
    /// A parameter that the peer does not support; FEI is its offset in bytes.
    UnsupportedParameter = 0x06,
}

impl FatalStatus {
    /// The status of a FES field; none for a reserved value.
    #[must_use]
    pub const fn from_bits(fes: u16) -> Option<Self> {
        Some(match fes {
            0x01 => Self::InvalidHeaderField,
            0x02 => Self::SequenceError,
            0x03 => Self::HeaderDigest,
            0x04 => Self::DataOutOfRange,
            0x05 => Self::LimitExceeded,
            0x06 => Self::UnsupportedParameter,
            _ => return None,
        })
    }

    /// The FES field.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self as u16
    }
}

/// An error that ends the connection: what a termination request says about it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{status:?}, information {info:#x}")]
pub struct FatalError {
    /// What is wrong (FES).
    pub status: FatalStatus,
    /// Where, or which value (FEI).
    pub info: u32,
}

impl FatalError {
    /// A PDU in the wrong order.
    pub const SEQUENCE: Self = Self { status: FatalStatus::SequenceError, info: 0 };

    /// A wrong value of the header field at `offset` bytes.
    #[must_use]
    pub const fn field(offset: u32) -> Self {
        Self { status: FatalStatus::InvalidHeaderField, info: offset }
    }

    /// An unsupported value of the header field at `offset` bytes.
    #[must_use]
    pub const fn unsupported(offset: u32) -> Self {
        Self { status: FatalStatus::UnsupportedParameter, info: offset }
    }

    /// An error that has no more information.
    #[must_use]
    pub const fn of(status: FatalStatus) -> Self {
        Self { status, info: 0 }
    }
}
