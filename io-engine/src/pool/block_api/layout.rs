//! Where a volume says which of its blocks are allocated.
//!
//! ```text
//! block of 4 KiB
//! 0          header: what the store was made with
//! 1 ...      map: a byte for every 4 KiB behind it
//! start      what blocks are cut from, from a multiple of 1 MiB on
//! ```
//!
//! A byte of the map is 0 where no block begins, and otherwise the block's class, counted from 1.
//! Numbers are little endian. There are no digests: the pool below has one of each block.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::pool::allocator::{Block, BlockType};

/// Bytes of the header, of a block of the map, and of what one byte of the map stands for.
pub(super) const UNIT: u64 = 4096;
/// The same as the size of a buffer.
pub(super) const UNIT_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"IOEBLKS\n";
const VERSION: u32 = 1;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    reserved: U32,
    start: U64,
    size: U64,
    alignment: U64,
}

const _: () = assert!(size_of::<Raw>() == 40);

/// What the header of a volume says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The first byte that blocks are cut from.
    pub(super) start: u64,
    /// The number of these bytes.
    pub(super) size: u64,
    /// What blocks begin at multiples of, in bytes.
    pub(super) alignment: u64,
}

/// What the first block of a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Zeroes: nobody has used the volume.
    Blank,
    /// That of a store.
    Store(Layout),
    /// Something else, in words.
    Other(String),
}

impl Layout {
    /// The layout of a new store that ends at byte `end` of its volume; none when there is no room
    /// for a block.
    pub(super) fn new(end: u64, alignment: u64) -> Option<Self> {
        let map_blocks = (end / UNIT).div_ceil(UNIT);
        let start = (UNIT * (1 + map_blocks)).next_multiple_of(BlockType::M1.bytes());
        let size = end.checked_sub(start).filter(|size| *size >= alignment.max(UNIT))?;
        Some(Self { start, size: size - size % UNIT, alignment })
    }

    /// The header.
    pub(super) fn encode(&self, block: &mut [u8]) {
        let raw = Raw {
            magic: MAGIC,
            version: U32::new(VERSION),
            reserved: U32::ZERO,
            start: U64::new(self.start),
            size: U64::new(self.size),
            alignment: U64::new(self.alignment),
        };
        block.fill(0);
        block[..size_of::<Raw>()].copy_from_slice(raw.as_bytes());
    }

    /// The number of blocks of the map.
    pub(super) fn map_blocks(&self) -> u64 {
        (self.size / UNIT).div_ceil(UNIT)
    }

    /// The block of the map, counted from its first, and the byte of it that stand for a block.
    pub(super) fn place(&self, block: &Block) -> (u64, usize) {
        let unit = block.offset.saturating_sub(self.start) / UNIT;
        (unit / UNIT, usize::try_from(unit % UNIT).unwrap_or(0))
    }

    /// The blocks that bytes of the map stand for, from a block of the map on. An error is the offset
    /// of a byte that makes no sense.
    pub(super) fn blocks(&self, first: u64, bytes: &[u8]) -> Result<Vec<Block>, u64> {
        let mut found = Vec::new();
        for (at, byte) in (first * UNIT..).zip(bytes).filter(|(_, byte)| **byte != 0) {
            let offset = self.start + at * UNIT;
            let class = BlockType::from_index(usize::from(*byte) - 1);
            let class = class.filter(|_| offset < self.start + self.size).ok_or(UNIT + at)?;
            found.push(Block::new(offset, class));
        }
        Ok(found)
    }
}

/// The byte of the map for a block that is allocated.
pub(super) fn mark(class: BlockType) -> u8 {
    // There are four classes.
    u8::try_from(class.index() + 1).unwrap_or(u8::MAX)
}

impl Header {
    /// Reads the first block of a volume.
    pub(super) fn parse(block: &[u8]) -> Self {
        if block.iter().all(|byte| *byte == 0) {
            return Self::Blank;
        }
        let Ok((raw, _)) = Raw::read_from_prefix(block) else {
            return Self::Other("something short".to_owned());
        };
        if raw.magic != MAGIC {
            return Self::Other("other data".to_owned());
        }
        if raw.version.get() != VERSION {
            return Self::Other(format!("blocks of format version {}", raw.version));
        }
        let (start, size, alignment) = (raw.start.get(), raw.size.get(), raw.alignment.get());
        let made = start.checked_add(size).and_then(|end| Layout::new(end, alignment));
        match made {
            Some(made) if made == (Layout { start, size, alignment }) => Self::Store(made),
            _ => Self::Other(format!("blocks of {size} bytes from {start} on, which cannot be")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_others_are_named() {
        let mut block = [0; UNIT_BYTES];
        assert_eq!(Header::parse(&block), Header::Blank);
        for (end, alignment, start) in [
            (16 << 20, 4096, 1 << 20),
            (1 << 40, 1 << 20, 257 << 20),
            ((2 << 20) + 4096, 65_536, 1 << 20),
        ] {
            let layout = Layout::new(end, alignment).expect("room");
            assert_eq!((layout.start, layout.size), (start, end - start));
            layout.encode(&mut block);
            assert_eq!(Header::parse(&block), Header::Store(layout));
            assert!(UNIT * (1 + layout.map_blocks()) <= layout.start);
        }
        assert_eq!(Layout::new(1 << 20, 4096), None);
        for (byte, words) in [(0, "other data"), (8, "version 0"), (17, "cannot be")] {
            let mut wrong = block;
            wrong[byte] ^= 1;
            let Header::Other(told) = Header::parse(&wrong) else { panic!("byte {byte}") };
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn the_map_says_where_blocks_begin() {
        let layout = Layout::new(64 << 20, 4096).expect("room");
        let block = |unit: u64, class| Block::new(layout.start + unit * UNIT, class);
        let last = layout.size / UNIT - 1;
        let blocks =
            [block(0, BlockType::K64), block(16, BlockType::K4), block(last, BlockType::K4)];
        let mut map = vec![0; usize::try_from(layout.map_blocks() * UNIT).expect("small")];
        for block in &blocks {
            let (number, byte) = layout.place(block);
            map[usize::try_from(number * UNIT).expect("small") + byte] = mark(block.block_type);
        }
        assert_eq!(layout.blocks(0, &map), Ok(blocks.to_vec()));
        assert_eq!(layout.blocks(1, &map[UNIT_BYTES..]), Ok(vec![blocks[2]]));
        map[70] = 5;
        assert_eq!(layout.blocks(0, &map), Err(4096 + 70), "no such class");
        map[70] = 0;
        *map.last_mut().expect("a byte") = 1;
        assert!(layout.blocks(0, &map).is_err(), "behind the end");
    }
}
