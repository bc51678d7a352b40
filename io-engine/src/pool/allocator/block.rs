//! Blocks and their four sizes.

use std::fmt;
use std::ops::Deref;

/// The size class of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BlockType {
    /// 4 KiB.
    K4,
    /// 64 KiB.
    K64,
    /// 256 KiB.
    K256,
    /// 1 MiB.
    M1,
}

impl BlockType {
    /// The number of classes.
    pub const COUNT: usize = 4;
    /// Every class, the smallest first.
    pub const ALL: [Self; Self::COUNT] = [Self::K4, Self::K64, Self::K256, Self::M1];

    /// The logarithm of the size to base 2.
    #[inline(always)]
    #[must_use]
    pub const fn shift(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K64 => 16,
            Self::K256 => 18,
            Self::M1 => 20,
        }
    }

    /// The size in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// The place in [`BlockType::ALL`], which is the class's number on interfaces.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The class of a number, see [`BlockType::index`].
    #[must_use]
    pub fn from_index(index: usize) -> Option<Self> {
        Self::ALL.get(index).copied()
    }

    /// The smallest class that holds `size_bytes`, or the largest class when none does.
    #[inline]
    #[must_use]
    pub const fn holding(size_bytes: u64) -> Self {
        if size_bytes <= Self::K4.bytes() {
            Self::K4
        } else if size_bytes <= Self::K64.bytes() {
            Self::K64
        } else if size_bytes <= Self::K256.bytes() {
            Self::K256
        } else {
            Self::M1
        }
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::K4 => "4 KiB",
            Self::K64 => "64 KiB",
            Self::K256 => "256 KiB",
            Self::M1 => "1 MiB",
        })
    }
}

/// An allocated piece of the space.
///
/// It is a plain description: whoever gives one back is believed only after the allocator has
/// compared all of it with what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its size in bytes, that of its class.
    pub size: u64,
    /// Its class.
    pub block_type: BlockType,
}

impl Block {
    /// The block of a class at an offset in bytes.
    #[inline(always)]
    #[must_use]
    pub const fn new(offset: u64, block_type: BlockType) -> Self {
        Self { offset, size: block_type.bytes(), block_type }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block at {} of {} bytes, type {}", self.offset, self.size, self.block_type)
    }
}

/// The blocks of one request, in order of their offsets. The common one lies inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks(Inner);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Inner {
    One(Block),
    Many(Vec<Block>),
}

impl Blocks {
    /// All blocks as a vector.
    #[must_use]
    pub fn into_vec(self) -> Vec<Block> {
        match self.0 {
            Inner::One(block) => vec![block],
            Inner::Many(blocks) => blocks,
        }
    }
}

impl From<Block> for Blocks {
    #[inline(always)]
    fn from(block: Block) -> Self {
        Self(Inner::One(block))
    }
}

impl From<Vec<Block>> for Blocks {
    fn from(blocks: Vec<Block>) -> Self {
        Self(Inner::Many(blocks))
    }
}

impl Deref for Blocks {
    type Target = [Block];

    #[inline(always)]
    fn deref(&self) -> &[Block] {
        match &self.0 {
            Inner::One(block) => std::slice::from_ref(block),
            Inner::Many(blocks) => blocks,
        }
    }
}

impl<'a> IntoIterator for &'a Blocks {
    type Item = &'a Block;
    type IntoIter = std::slice::Iter<'a, Block>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
