//! The commands of the NVM command set (NVM Command Set Specification 1.0, section 3.2).

use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::error::{ReadError, front_slice};
use super::{Sqe, opcode};

bits! {
    /// Command dword 12 of read, write, compare, verify, write zeroes and write uncorrectable.
    pub struct BlockControl(u32) {
        /// Number of blocks, 0's based (NLB).
        nlb, with_nlb: u16 = 15 : 0;
        /// Directive type, of write.
        dtype, with_dtype: u8 = 23 : 20;
        /// Storage tag check.
        stc, with_stc: bool = 24 : 24;
        /// Deallocate, of write zeroes (DEAC).
        deac, with_deac: bool = 25 : 25;
        /// Protection information, see [`prinfo`].
        prinfo, with_prinfo: u8 = 29 : 26;
        /// Force unit access.
        fua, with_fua: bool = 30 : 30;
        /// Limited retry.
        lr, with_lr: bool = 31 : 31;
    }
}

flags! {
    /// Bits of [`BlockControl::prinfo`].
    pub mod prinfo: u8 {
        CHECK_REFERENCE = 0, "check the logical block reference tag";
        CHECK_APPLICATION = 1, "check the logical block application tag";
        CHECK_GUARD = 2, "check the guard field";
        ACTION = 3, "insert or strip the protection information (PRACT)";
    }
}

bits! {
    /// Command dword 13 of read and write: hints, and the directive.
    pub struct BlockHints(u32) {
        /// Access frequency: 0 unknown, 1 typical, 2 to 8 see the specification.
        frequency, with_frequency: u8 = 3 : 0;
        /// Access latency: 0 none, 1 idle, 2 normal, 3 low.
        latency, with_latency: u8 = 5 : 4;
        /// Part of a sequence of accesses.
        sequential, with_sequential: bool = 6 : 6;
        /// The data are not compressible.
        incompressible, with_incompressible: bool = 7 : 7;
        /// Directive specific, of write.
        dspec, with_dspec: u16 = 31 : 16;
    }
}

/// A view of a command on a range of blocks: read, write, compare, verify, write zeroes or write
/// uncorrectable.
#[derive(Clone, Copy, Debug)]
pub struct BlockCommand<'a>(pub &'a Sqe);

impl BlockCommand<'_> {
    /// The first block.
    #[inline(always)]
    #[must_use]
    pub fn slba(self) -> u64 {
        self.0.cdw10_11()
    }

    /// The number of blocks, 1 to 65536.
    #[inline(always)]
    #[must_use]
    pub fn blocks(self) -> u32 {
        u32::from(self.control().nlb()) + 1
    }

    /// The other fields of command dword 12.
    #[inline(always)]
    #[must_use]
    pub fn control(self) -> BlockControl {
        BlockControl(self.0.cdw12.get())
    }

    /// The hints, of read and write.
    #[must_use]
    pub fn hints(self) -> BlockHints {
        BlockHints(self.0.cdw13.get())
    }

    /// The (expected) initial logical block reference tag.
    #[must_use]
    pub fn reference_tag(self) -> u32 {
        self.0.cdw14.get()
    }

    /// The (expected) logical block application tag.
    #[must_use]
    pub fn application_tag(self) -> u16 {
        BlockTags(self.0.cdw15.get()).tag()
    }

    /// The mask of the application tag.
    #[must_use]
    pub fn application_tag_mask(self) -> u16 {
        BlockTags(self.0.cdw15.get()).mask()
    }
}

bits! {
    /// Command dword 15: the application tag and its mask.
    pub struct BlockTags(u32) {
        /// (Expected) logical block application tag.
        tag, with_tag: u16 = 15 : 0;
        /// Logical block application tag mask.
        mask, with_mask: u16 = 31 : 16;
    }
}

impl Sqe {
    /// A command on a range of `blocks` blocks (1 to 65536; others are brought into that range).
    #[inline]
    #[must_use]
    pub fn block(opcode: u8, nsid: u32, slba: u64, blocks: u32) -> Self {
        let mut sqe = Self::new(opcode, nsid);
        sqe.set_cdw10_11(slba);
        // Command dword 12 without flags is the 0's based count alone.
        sqe.cdw12.set(blocks.clamp(1, 1 << 16) - 1);
        sqe
    }

    /// Sets command dwords 10 and 11 as one value.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a value are taken")]
    pub fn set_cdw10_11(&mut self, value: u64) {
        self.cdw10.set(value as u32);
        self.cdw11.set((value >> 32) as u32);
    }
}

flags! {
    /// Attributes of dataset management: bits of command dword 11.
    pub mod dsm_attribute: u32 {
        INTEGRAL_READ = 0, "the ranges are read as one unit";
        INTEGRAL_WRITE = 1, "the ranges are written as one unit";
        DEALLOCATE = 2, "the host does not need the blocks any more";
    }
}

wire! {
    /// A range of dataset management.
    #[derive(Copy)]
    pub struct DsmRange: 16 {
        /// Context attributes.
        0 => attributes: U32,
        /// Number of blocks; 0 for a range that has no effect.
        4 => blocks: U32,
        /// First block.
        8 => slba: U64,
    }
}

impl DsmRange {
    /// The most ranges of a command.
    pub const COUNT_MAX: u32 = 256;

    /// A range without context attributes.
    #[must_use]
    pub const fn new(slba: u64, blocks: u32) -> Self {
        Self { attributes: U32::ZERO, blocks: U32::new(blocks), slba: U64::new(slba) }
    }

    /// The first `count` ranges in the data of a command.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when there are fewer.
    pub fn read(data: &[u8], count: u32) -> Result<&[Self], ReadError> {
        Ok(front_slice("dataset management range", data, count as usize)?.0)
    }
}

/// A view of a dataset management command.
#[derive(Clone, Copy, Debug)]
pub struct DsmCommand<'a>(pub &'a Sqe);

impl DsmCommand<'_> {
    /// The number of ranges, 1 to 256.
    #[must_use]
    pub fn ranges(self) -> u32 {
        (self.0.cdw10.get() & 0xff) + 1
    }

    /// The attributes, see [`dsm_attribute`].
    #[must_use]
    pub fn attributes(self) -> u32 {
        self.0.cdw11.get()
    }
}

impl Sqe {
    /// A dataset management command of 1 to 256 ranges, see [`dsm_attribute`].
    #[must_use]
    pub fn dataset_management(nsid: u32, ranges: u32, attributes: u32) -> Self {
        let mut sqe = Self::new(opcode::nvm::DATASET_MANAGEMENT, nsid);
        sqe.cdw10.set(ranges.clamp(1, DsmRange::COUNT_MAX) - 1);
        sqe.cdw11.set(attributes);
        sqe
    }
}

bits! {
    /// Command dword 12 of copy.
    pub struct CopyControl(u32) {
        /// Number of source ranges, 0's based (NR).
        nr, with_nr: u8 = 7 : 0;
        /// Descriptor format.
        format, with_format: u8 = 11 : 8;
        /// Protection information of the reads, see [`prinfo`].
        prinfor, with_prinfor: u8 = 15 : 12;
        /// Directive type.
        dtype, with_dtype: u8 = 23 : 20;
        /// Protection information of the writes, see [`prinfo`].
        prinfow, with_prinfow: u8 = 29 : 26;
        /// Force unit access.
        fua, with_fua: bool = 30 : 30;
        /// Limited retry.
        lr, with_lr: bool = 31 : 31;
    }
}

/// A view of a copy command.
#[derive(Clone, Copy, Debug)]
pub struct CopyCommand<'a>(pub &'a Sqe);

impl CopyCommand<'_> {
    /// The first block of the destination.
    #[must_use]
    pub fn sdlba(self) -> u64 {
        self.0.cdw10_11()
    }

    /// The number of source ranges, 1 to 256.
    #[must_use]
    pub fn ranges(self) -> u32 {
        u32::from(self.control().nr()) + 1
    }

    /// The fields of command dword 12.
    #[must_use]
    pub fn control(self) -> CopyControl {
        CopyControl(self.0.cdw12.get())
    }
}

impl Sqe {
    /// A copy command of 1 to 256 source ranges of a format.
    #[must_use]
    pub fn copy(nsid: u32, sdlba: u64, ranges: u32, format: u8) -> Self {
        let mut sqe = Self::new(opcode::nvm::COPY, nsid);
        sqe.set_cdw10_11(sdlba);
        sqe.cdw12.set(CopyControl(ranges.clamp(1, 256) - 1).with_format(format).0);
        sqe
    }
}

wire! {
    /// Source range of copy descriptor formats 0 and, with namespace and options, 2.
    #[derive(Copy)]
    pub struct CopyRange32: 32 {
        /// Source namespace, of format 2.
        0 => snsid: U32,
        /// Reserved.
        4 => reserved4: [u8; 4],
        /// First block.
        8 => slba: U64,
        /// Number of blocks, 0's based.
        16 => nlb: U16,
        /// Reserved.
        18 => reserved18: [u8; 4],
        /// Source options, of format 2.
        22 => sopt: U16,
        /// Expected initial logical block reference tag.
        24 => eilbrt: U32,
        /// Expected logical block application tag.
        28 => elbat: U16,
        /// Expected logical block application tag mask.
        30 => elbatm: U16,
    }
}

wire! {
    /// Source range of copy descriptor formats 1 and, with namespace and options, 3: for
    /// protection information with a 32-bit or 64-bit guard.
    #[derive(Copy)]
    pub struct CopyRange40: 40 {
        /// Source namespace, of format 3.
        0 => snsid: U32,
        /// Reserved.
        4 => reserved4: [u8; 4],
        /// First block.
        8 => slba: U64,
        /// Number of blocks, 0's based.
        16 => nlb: U16,
        /// Reserved.
        18 => reserved18: [u8; 4],
        /// Source options, of format 3.
        22 => sopt: U16,
        /// Reserved.
        24 => reserved24: [u8; 2],
        /// Expected logical block tags: storage and reference.
        26 => elbt: [u8; 10],
        /// Expected logical block application tag.
        36 => elbat: U16,
        /// Expected logical block application tag mask.
        38 => elbatm: U16,
    }
}

impl CopyRange32 {
    /// A range of 1 to 65536 blocks (others are brought into that range) of the namespace of the
    /// command.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the count is brought into range")]
    pub fn new(slba: u64, blocks: u32) -> Self {
        let nlb = (blocks.clamp(1, 1 << 16) - 1) as u16;
        Self { slba: U64::new(slba), nlb: U16::new(nlb), ..Self::default() }
    }
}

/// What to copy: a source range of any format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySource {
    /// The namespace; `None` when it is that of the command.
    pub nsid: Option<u32>,
    /// First block.
    pub slba: u64,
    /// Number of blocks, 1 to 65536.
    pub blocks: u32,
    /// Source options, of formats 2 and 3.
    pub options: u16,
}

/// The source ranges of a copy command.
#[derive(Clone, Copy, Debug)]
pub enum CopyRanges<'a> {
    /// Formats 0 and 2; whether the ranges name a namespace.
    Short(&'a [CopyRange32], bool),
    /// Formats 1 and 3; whether the ranges name a namespace.
    Long(&'a [CopyRange40], bool),
}

impl<'a> CopyRanges<'a> {
    /// The first `count` source ranges of a format in the data of a command.
    ///
    /// # Errors
    /// [`ReadError::Value`] for a format other than 0 to 3, [`ReadError::Truncated`] when there
    /// are fewer ranges.
    pub fn read(data: &'a [u8], format: u8, count: u32) -> Result<Self, ReadError> {
        let (what, count) = ("copy source range", count as usize);
        match format {
            0 | 2 => Ok(Self::Short(front_slice(what, data, count)?.0, format == 2)),
            1 | 3 => Ok(Self::Long(front_slice(what, data, count)?.0, format == 3)),
            _ => Err(ReadError::Value { what: "copy descriptor format", value: format.into() }),
        }
    }

    /// The number of ranges.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Short(ranges, _) => ranges.len(),
            Self::Long(ranges, _) => ranges.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A range; `None` beyond the last.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<CopySource> {
        let source = |named: bool, nsid: U32, slba: U64, nlb: U16, sopt: U16| CopySource {
            nsid: named.then_some(nsid.get()),
            slba: slba.get(),
            blocks: u32::from(nlb.get()) + 1,
            options: if named { sopt.get() } else { 0 },
        };
        match self {
            Self::Short(ranges, named) => {
                ranges.get(index).map(|r| source(*named, r.snsid, r.slba, r.nlb, r.sopt))
            }
            Self::Long(ranges, named) => {
                ranges.get(index).map(|r| source(*named, r.snsid, r.slba, r.nlb, r.sopt))
            }
        }
    }

    /// All ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = CopySource> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}
