//! Submission queue entries and their data pointer.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A submission queue entry (section 3.3.3.1, figure 87).
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
pub struct Sqe {
    /// Opcode (CDW0 bits 7:0); its two low bits tell the direction of the data.
    pub opcode: u8,
    /// CDW0 bits 15:8: FUSE in bits 1:0, PSDT in bits 7:6.
    pub flags: u8,
    /// Command identifier.
    pub cid: U16,
    /// Namespace identifier; `0xffff_ffff` for all.
    pub nsid: U32,
    /// Command dword 2.
    pub cdw2: U32,
    /// Command dword 3.
    pub cdw3: U32,
    /// Metadata pointer.
    pub mptr: U64,
    /// Data pointer: on fabrics always an SGL descriptor.
    pub dptr: SglDescriptor,
    /// Command dword 10.
    pub cdw10: U32,
    /// Command dword 11.
    pub cdw11: U32,
    /// Command dword 12.
    pub cdw12: U32,
    /// Command dword 13.
    pub cdw13: U32,
    /// Command dword 14.
    pub cdw14: U32,
    /// Command dword 15.
    pub cdw15: U32,
}

const _: () = assert!(size_of::<Sqe>() == 64);

/// Which way a command's data go (the two low bits of the opcode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataDirection {
    /// No data.
    None,
    /// Host to controller.
    HostToController,
    /// Controller to host.
    ControllerToHost,
    /// Both ways.
    Bidirectional,
}

/// A command's place in a fused operation (CDW0 bits 9:8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FusedPart {
    /// Not part of one.
    None,
    /// The first command.
    First,
    /// The second command.
    Second,
    /// The reserved value.
    Reserved,
}

impl Sqe {
    /// A command of an opcode for a namespace, all else zero.
    #[must_use]
    pub fn new(opcode: u8, nsid: u32) -> Self {
        Self { opcode, nsid: U32::new(nsid), ..Self::default() }
    }

    /// Which way the data go: the two low bits of the opcode, of a fabrics command of its type.
    #[inline(always)]
    #[must_use]
    pub fn direction(&self) -> DataDirection {
        let bits = if self.is_fabrics() { self.fctype() } else { self.opcode };
        match bits & 3 {
            0 => DataDirection::None,
            1 => DataDirection::HostToController,
            2 => DataDirection::ControllerToHost,
            _ => DataDirection::Bidirectional,
        }
    }

    /// The place in a fused operation.
    #[inline(always)]
    #[must_use]
    pub const fn fused(&self) -> FusedPart {
        match self.flags & 3 {
            0 => FusedPart::None,
            1 => FusedPart::First,
            2 => FusedPart::Second,
            _ => FusedPart::Reserved,
        }
    }

    /// PRP or SGL for data transfer (PSDT, CDW0 bits 15:14): 0 PRP, 1 and 2 SGL.
    #[must_use]
    pub const fn psdt(&self) -> u8 {
        self.flags >> 6
    }

    /// Command dwords 10 and 11 as one value, the first block of many commands.
    #[inline(always)]
    #[must_use]
    pub fn cdw10_11(&self) -> u64 {
        u64::from(self.cdw10.get()) | u64::from(self.cdw11.get()) << 32
    }
}

/// An SGL descriptor (section 4.1.2, figure 112 and following).
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
pub struct SglDescriptor {
    /// Address, or an offset into the capsule.
    pub address: U64,
    /// Length in bytes; of a keyed descriptor only three bytes, the key follows in `rest`.
    pub length: U32,
    /// Reserved or key.
    pub rest: [u8; 3],
    /// Type in bits 7:4, sub type in bits 3:0.
    pub identifier: u8,
}

const _: () = assert!(size_of::<SglDescriptor>() == 16);

/// What a descriptor describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SglKind {
    /// Data block with an address (type 0, sub type 0).
    DataBlock,
    /// Data inside the capsule, `address` is their offset (type 0, sub type 1).
    InCapsule,
    /// The transport moves the data (type 5, sub type A): NVMe/TCP's own transfers.
    Transport,
    /// A keyed data block (type 4): RDMA.
    Keyed,
    /// Anything else.
    Other(u8),
}

impl SglDescriptor {
    /// The data follow in the capsule at an offset in bytes.
    #[must_use]
    pub fn in_capsule(offset: u64, length: u32) -> Self {
        Self { address: U64::new(offset), length: U32::new(length), rest: [0; 3], identifier: 0x01 }
    }

    /// The transport moves the data.
    #[must_use]
    pub fn transport(length: u32) -> Self {
        Self { length: U32::new(length), identifier: 0x5a, ..Self::default() }
    }

    /// What the descriptor describes.
    #[inline(always)]
    #[must_use]
    pub const fn kind(&self) -> SglKind {
        match self.identifier {
            0x00 => SglKind::DataBlock,
            0x01 => SglKind::InCapsule,
            0x5a => SglKind::Transport,
            0x40..=0x4f => SglKind::Keyed,
            other => SglKind::Other(other),
        }
    }
}
