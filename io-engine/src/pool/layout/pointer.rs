//! Pointers to blocks, and the nodes that are made of them.

use zerocopy::byteorder::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::digest::Digest;
use super::BLOCK_BYTES;

/// Pointers in a node.
pub const FANOUT: usize = 64;
/// Its logarithm.
pub const FANOUT_BITS: u32 = 6;

/// What a pointer points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PtrKind {
    /// Nothing: the blocks below read as zeroes.
    Hole = 0,
    /// A block of a volume.
    Data = 1,
    /// A node of a volume's tree or of the table of volumes.
    Node = 2,
    /// A volume record.
    Record = 3,
    /// A bitmap or a node of the space tree.
    Space = 4,
}

/// A pointer to a block, with the digest of what is there.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct BlockPtr {
    /// The digest of the block.
    pub digest: Digest,
    /// Address in blocks; the upper 16 bits are the device in the pool, 0 so far.
    address: U64,
    /// The transaction that made the block.
    birth: U64,
    /// For the space tree: free blocks below.
    aux: U64,
    kind: u8,
    /// Levels of nodes below and including this one; 0 for what is no node.
    level: u8,
    reserved: [u8; 6],
}

const _: () = assert!(size_of::<BlockPtr>() == 64);

impl BlockPtr {
    /// A pointer to nothing.
    pub const HOLE: Self = Self {
        digest: [0; 32],
        address: U64::ZERO,
        birth: U64::ZERO,
        aux: U64::ZERO,
        kind: PtrKind::Hole as u8,
        level: 0,
        reserved: [0; 6],
    };

    /// A pointer to a block.
    #[must_use]
    pub fn new(kind: PtrKind, level: u8, address: u64, birth: u64, digest: Digest) -> Self {
        Self {
            digest,
            address: U64::new(address),
            birth: U64::new(birth),
            kind: kind as u8,
            level,
            ..Self::HOLE
        }
    }

    /// The same with a count of free blocks.
    #[must_use]
    pub fn with_aux(mut self, aux: u64) -> Self {
        self.aux = U64::new(aux);
        self
    }

    /// Whether it points to nothing.
    #[inline]
    #[must_use]
    pub fn is_hole(&self) -> bool {
        self.kind == PtrKind::Hole as u8
    }

    /// The kind, unless it is unknown.
    #[must_use]
    pub fn kind(&self) -> Option<PtrKind> {
        [PtrKind::Hole, PtrKind::Data, PtrKind::Node, PtrKind::Record, PtrKind::Space]
            .into_iter()
            .find(|kind| *kind as u8 == self.kind)
    }

    /// The address in blocks.
    #[inline]
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address.get()
    }

    /// The transaction that made the block.
    #[inline]
    #[must_use]
    pub fn birth(&self) -> u64 {
        self.birth.get()
    }

    /// Free blocks below, in the space tree.
    #[must_use]
    pub fn aux(&self) -> u64 {
        self.aux.get()
    }

    /// Levels of nodes below and including this one.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }
}

/// A node: 64 pointers.
#[derive(Clone, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Node {
    /// The pointers in order of what they cover.
    pub ptrs: [BlockPtr; FANOUT],
}

const _: () = assert!(size_of::<Node>() == BLOCK_BYTES);

impl Node {
    /// A node of holes.
    #[must_use]
    pub const fn empty() -> Self {
        Self { ptrs: [BlockPtr::HOLE; FANOUT] }
    }

    /// Whether it has holes only.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ptrs.iter().all(BlockPtr::is_hole)
    }

    /// Reads a node whose digest was verified.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Self::read_from_bytes(bytes).ok()
    }
}
