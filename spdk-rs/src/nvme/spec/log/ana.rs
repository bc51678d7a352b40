//! The asymmetric namespace access log page (log page 0Ch, section 5.16.1.13).

use zerocopy::byteorder::little_endian::{U16, U32, U64};

use crate::nvme::spec::error::{ReadError, front, front_slice};

/// State of an ANA group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AnaState {
    /// The best path.
    #[default]
    Optimized = 0x1,
    /// A path that works, but not the best.
    NonOptimized = 0x2,
    /// No I/O on this path.
    Inaccessible = 0x3,
    /// No I/O on this path, and it will not come back.
    PersistentLoss = 0x4,
    /// Between two states.
    Change = 0xf,
}

impl AnaState {
    /// The state of the low four bits of a number; `None` for a reserved one.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits & 0xf {
            0x1 => Some(Self::Optimized),
            0x2 => Some(Self::NonOptimized),
            0x3 => Some(Self::Inaccessible),
            0x4 => Some(Self::PersistentLoss),
            0xf => Some(Self::Change),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// Whether I/O commands are served in this state.
    #[must_use]
    pub const fn serves_io(self) -> bool {
        matches!(self, Self::Optimized | Self::NonOptimized)
    }
}

flags! {
    /// Bits of the log specific field.
    pub mod ana_lsp: u8 {
        GROUPS_ONLY = 0, "return groups only, without namespaces (RGO)";
    }
}

wire! {
    /// Header of the page.
    #[derive(Copy)]
    pub struct AnaLogHeader: 16 {
        /// Change count of the page.
        0 => chgcnt: U64,
        /// Number of group descriptors.
        8 => ngrps: U16,
        /// Reserved.
        10 => reserved10: [u8; 6],
    }
}

wire! {
    /// Group descriptor; the namespace identifiers follow, 4 bytes each.
    #[derive(Copy)]
    pub struct AnaGroupDescriptor: 32 {
        /// ANA group identifier, from 1.
        0 => grpid: U32,
        /// Number of namespace identifiers that follow.
        4 => nnsids: U32,
        /// Change count of the group; 0 when not reported.
        8 => chgcnt: U64,
        /// State in bits 3:0, see [`AnaState`].
        16 => state: u8,
        /// Reserved.
        17 => reserved17: [u8; 15],
    }
}

impl AnaGroupDescriptor {
    /// A descriptor.
    #[must_use]
    pub fn new(grpid: u32, nnsids: u32, chgcnt: u64, state: AnaState) -> Self {
        Self {
            grpid: U32::new(grpid),
            nnsids: U32::new(nnsids),
            chgcnt: U64::new(chgcnt),
            state: state.bits(),
            ..Self::default()
        }
    }

    /// The state; `None` when it is reserved.
    #[must_use]
    pub const fn state(&self) -> Option<AnaState> {
        AnaState::from_bits(self.state)
    }
}

/// The page as received.
#[derive(Clone, Copy, Debug)]
pub struct AnaLog<'a> {
    header: &'a AnaLogHeader,
    rest: &'a [u8],
}

/// A group with its namespaces.
#[derive(Clone, Copy, Debug)]
pub struct AnaGroup<'a> {
    /// The descriptor.
    pub descriptor: &'a AnaGroupDescriptor,
    /// The namespaces; empty when only groups were asked for.
    pub nsids: &'a [U32],
}

impl<'a> AnaLog<'a> {
    /// The page in the data of a Get Log Page command.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when the header is not whole.
    pub fn read(data: &'a [u8]) -> Result<Self, ReadError> {
        let (header, rest) = front("ANA log page", data)?;
        Ok(Self { header, rest })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &'a AnaLogHeader {
        self.header
    }

    /// The groups, as many as the header says; after an error the iteration ends.
    #[must_use]
    pub const fn groups(&self) -> AnaGroups<'a> {
        AnaGroups { left: self.header.ngrps.get(), rest: self.rest }
    }
}

/// Iterator of [`AnaLog::groups`].
#[derive(Clone, Debug)]
pub struct AnaGroups<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> AnaGroups<'a> {
    fn read(&mut self) -> Result<AnaGroup<'a>, ReadError> {
        let what = "ANA group descriptor";
        let (descriptor, rest) = front::<AnaGroupDescriptor>(what, self.rest)?;
        let count = descriptor.nnsids.get() as usize;
        let (nsids, rest) = front_slice(what, rest, count)?;
        self.rest = rest;
        Ok(AnaGroup { descriptor, nsids })
    }
}

impl<'a> Iterator for AnaGroups<'a> {
    type Item = Result<AnaGroup<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let read = self.read();
        if read.is_err() {
            self.left = 0;
        }
        Some(read)
    }
}
