//! The kinds of operation a block device can be asked for.

use std::fmt;

/// The kind of an I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum IoType {
    /// Blocks to memory.
    Read = 0,
    /// Memory to blocks.
    Write,
    /// All completed writes to the medium.
    Flush,
    /// The content of blocks is no longer needed.
    Unmap,
    /// Zeroes to blocks, without a buffer.
    WriteZeroes,
    /// Compare blocks with memory.
    Compare,
    /// Compare blocks with memory and, if equal, write other memory to them, as one change.
    CompareAndWrite,
    /// Blocks to other blocks of the same device.
    Copy,
    /// Abandon what is in flight and start afresh.
    Reset,
    /// Abort one earlier I/O.
    Abort,
    /// An NVMe admin command, as it is.
    NvmeAdmin,
    /// An NVMe I/O command, as it is.
    NvmeIo,
    /// Open, close, finish or reset zones.
    ZoneManagement,
    /// Write to a zone at a place that the device chooses.
    ZoneAppend,
    /// Report the state of zones.
    ZoneReport,
}

impl IoType {
    /// How many kinds there are.
    pub const COUNT: usize = 15;

    /// Every kind.
    pub const ALL: [IoType; Self::COUNT] = [
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::Unmap,
        Self::WriteZeroes,
        Self::Compare,
        Self::CompareAndWrite,
        Self::Copy,
        Self::Reset,
        Self::Abort,
        Self::NvmeAdmin,
        Self::NvmeIo,
        Self::ZoneManagement,
        Self::ZoneAppend,
        Self::ZoneReport,
    ];

    /// The name in statistics, RPC results and error texts (SPDK's).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Unmap => "unmap",
            Self::WriteZeroes => "write_zeroes",
            Self::Compare => "compare",
            Self::CompareAndWrite => "compare_and_write",
            Self::Copy => "copy",
            Self::Reset => "reset",
            Self::Abort => "abort",
            Self::NvmeAdmin => "nvme_admin",
            Self::NvmeIo => "nvme_io",
            Self::ZoneManagement => "zone_management",
            Self::ZoneAppend => "zone_append",
            Self::ZoneReport => "get_zone_info",
        }
    }

    /// Whether the device's content may change.
    #[must_use]
    pub const fn modifies(self) -> bool {
        matches!(
            self,
            Self::Write
                | Self::Unmap
                | Self::WriteZeroes
                | Self::CompareAndWrite
                | Self::Copy
                | Self::NvmeIo
                | Self::NvmeAdmin
                | Self::ZoneManagement
                | Self::ZoneAppend
        )
    }

    /// Whether the I/O carries buffers of as many bytes as its blocks have.
    #[must_use]
    pub const fn has_data(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Compare | Self::ZoneAppend)
    }
}

impl fmt::Display for IoType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of kinds.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct IoTypes(u32);

impl IoTypes {
    /// The set of these kinds.
    #[must_use]
    pub const fn of(kinds: &[IoType]) -> Self {
        let (mut bits, mut i) = (0, 0);
        while i < kinds.len() {
            bits |= 1 << kinds[i] as u32;
            i += 1;
        }
        Self(bits)
    }

    /// Whether a kind is in the set.
    #[inline(always)]
    #[must_use]
    pub const fn contains(self, kind: IoType) -> bool {
        self.0 >> kind as u32 & 1 == 1
    }

    /// The kinds of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The kinds of this set that are not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The kinds, in order.
    pub fn iter(self) -> impl Iterator<Item = IoType> {
        IoType::ALL.into_iter().filter(move |&kind| self.contains(kind))
    }
}

impl fmt::Debug for IoTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(IoType::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_of_the_numbers() {
        for (index, kind) in IoType::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn sets() {
        let set = IoTypes::of(&[IoType::Read, IoType::Flush]);
        assert!(set.contains(IoType::Flush) && !set.contains(IoType::Write));
        let more = set.with(IoTypes::of(&[IoType::Write]));
        assert_eq!(more.iter().count(), 3);
        assert_eq!(more.without(set).iter().collect::<Vec<_>>(), [IoType::Write]);
    }
}
