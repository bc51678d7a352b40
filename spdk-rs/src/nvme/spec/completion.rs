//! Completion queue entries.

use zerocopy::byteorder::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::NvmeStatus;

/// A completion queue entry (section 3.3.3.2, figure 90).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Cqe {
    /// Command specific: dwords 0 and 1.
    pub result: U64,
    /// Submission queue head.
    pub sqhd: U16,
    /// Submission queue identifier; reserved on fabrics.
    pub sqid: U16,
    /// Command identifier.
    pub cid: U16,
    /// Status in bits 15:1; bit 0 is the phase, reserved on fabrics.
    pub status_phase: U16,
}

const _: () = assert!(size_of::<Cqe>() == 16);

impl Cqe {
    /// A completion of command `cid`.
    #[inline(always)]
    #[must_use]
    pub fn new(cid: u16, sqhd: u16, status: NvmeStatus, result: u64) -> Self {
        Self {
            result: U64::new(result),
            sqhd: U16::new(sqhd),
            sqid: U16::new(0),
            cid: U16::new(cid),
            status_phase: U16::new(status.bits() << 1),
        }
    }

    /// The status.
    #[inline(always)]
    pub const fn status(&self) -> NvmeStatus {
        NvmeStatus::from_bits(self.status_phase.get() >> 1)
    }

    /// The phase tag, of completion queues in memory.
    #[inline(always)]
    #[must_use]
    pub const fn phase(&self) -> bool {
        self.status_phase.get() & 1 == 1
    }
}
