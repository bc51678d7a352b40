//! The record of a volume or snapshot.

use uuid::Uuid;
use zerocopy::byteorder::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BLOCK_BYTES, BlockPtr};

const MAGIC: [u8; 8] = *b"IOEVOL1\n";
/// Bytes of a name at the most.
pub const NAME_BYTES_MAX: usize = 255;

/// Where a volume or snapshot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DatasetState {
    /// It can be used.
    Live = 0,
    /// Deleted by name; more than one other depends on it, so its blocks stay for now.
    Hidden = 1,
    /// Deleted by name; its blocks are being freed.
    Deleting = 2,
}

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    id: U64,
    uuid: [u8; 16],
    size_blocks: U64,
    parent: U64,
    txn: U64,
    cursor: U64,
    mapped: U64,
    height: u8,
    snapshot: u8,
    state: u8,
    thin: u8,
    read_only: u8,
    name_len: u8,
    block_shift: u8,
    reserved: u8,
    root: BlockPtr,
    name: [u8; 256],
    tail: U64,
}

const _: () = assert!(size_of::<Raw>() == 8 + 8 + 16 + 40 + 8 + 64 + 256 + 8);

/// A volume or snapshot as the table of volumes has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Number in the pool, never used again.
    pub id: u64,
    /// UUID.
    pub uuid: Uuid,
    /// Name, 1 to 255 bytes.
    pub name: String,
    /// Whether it is a snapshot.
    pub snapshot: bool,
    /// Where it is in its life.
    pub state: DatasetState,
    /// Whether space is taken only when blocks are written.
    pub thin: bool,
    /// Whether hosts may only read it.
    pub read_only: bool,
    /// Logarithm of the bytes per block that hosts see: 9 or 12.
    pub block_shift: u8,
    /// Size in blocks of 4 KiB.
    pub size_blocks: u64,
    /// The snapshot that it was made from or that was last made of it; 0 for none.
    pub parent: u64,
    /// For a snapshot: the transaction at which it was made.
    pub txn: u64,
    /// While it is deleted: how far that has come, in blocks.
    pub cursor: u64,
    /// Blocks that are not holes.
    pub mapped: u64,
    /// Levels of its tree, at least 1.
    pub height: u8,
    /// Its tree.
    pub root: BlockPtr,
    /// After it was made smaller: where what lies behind the new size and is not freed yet ends, in
    /// blocks; 0 when there is nothing.
    pub tail: u64,
}

impl VolumeRecord {
    /// The block.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut name = [0; 256];
        let len = self.name.len().min(NAME_BYTES_MAX);
        name[..len].copy_from_slice(&self.name.as_bytes()[..len]);
        let raw = Raw {
            magic: MAGIC,
            id: U64::new(self.id),
            uuid: *self.uuid.as_bytes(),
            size_blocks: U64::new(self.size_blocks),
            parent: U64::new(self.parent),
            txn: U64::new(self.txn),
            cursor: U64::new(self.cursor),
            mapped: U64::new(self.mapped),
            height: self.height,
            snapshot: u8::from(self.snapshot),
            state: self.state as u8,
            thin: u8::from(self.thin),
            read_only: u8::from(self.read_only),
            name_len: u8::try_from(len).unwrap_or(u8::MAX),
            block_shift: self.block_shift,
            reserved: 0,
            root: self.root,
            name,
            tail: U64::new(self.tail),
        };
        let mut block = vec![0; BLOCK_BYTES];
        block[..size_of::<Raw>()].copy_from_slice(raw.as_bytes());
        block
    }

    /// Reads a block whose digest was verified; none when it makes no sense.
    #[must_use]
    pub fn parse(block: &[u8]) -> Option<Self> {
        let (raw, _) = Raw::read_from_prefix(block).ok()?;
        let name = std::str::from_utf8(&raw.name[..usize::from(raw.name_len)]).ok()?;
        let state = [DatasetState::Live, DatasetState::Hidden, DatasetState::Deleting]
            .into_iter()
            .find(|state| *state as u8 == raw.state)?;
        let sound = raw.magic == MAGIC
            && matches!(raw.block_shift, 9 | 12)
            && (1..=8).contains(&raw.height)
            && raw.size_blocks.get().max(raw.tail.get()) <= 1 << (6 * u32::from(raw.height));
        sound.then(|| Self {
            id: raw.id.get(),
            uuid: Uuid::from_bytes(raw.uuid),
            name: name.to_owned(),
            snapshot: raw.snapshot != 0,
            state,
            thin: raw.thin != 0,
            read_only: raw.read_only != 0,
            block_shift: raw.block_shift,
            size_blocks: raw.size_blocks.get(),
            parent: raw.parent.get(),
            txn: raw.txn.get(),
            cursor: raw.cursor.get(),
            mapped: raw.mapped.get(),
            height: raw.height,
            root: raw.root,
            tail: raw.tail.get(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was() {
        let record = VolumeRecord {
            id: 3,
            uuid: Uuid::from_u128(4),
            name: "größe".to_owned(),
            snapshot: true,
            state: DatasetState::Deleting,
            thin: true,
            read_only: false,
            block_shift: 9,
            size_blocks: 4096,
            parent: 2,
            txn: 77,
            cursor: 64,
            mapped: 5,
            height: 2,
            root: BlockPtr::HOLE,
            tail: 4095,
        };
        assert_eq!(VolumeRecord::parse(&record.encode()), Some(record.clone()));
        let too_large = VolumeRecord { size_blocks: 4097, ..record };
        assert_eq!(VolumeRecord::parse(&too_large.encode()), None);
        let long_tail = VolumeRecord { tail: 4097, size_blocks: 1, ..too_large };
        assert_eq!(VolumeRecord::parse(&long_tail.encode()), None);
    }
}
