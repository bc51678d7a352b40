//! Zoned namespaces (NVMe Zoned Namespace Command Set Specification 1.1): commands, the report of
//! zones, and what identifies controllers and namespaces.
//!
//! Sections are those of that specification.

use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::error::{ReadError, front, front_slice};
use super::nvm::BlockControl;
use super::{Sqe, opcode};
use crate::bdev::Zone;
pub use crate::bdev::{ZoneAction, ZoneState};

wire! {
    /// Identify Namespace of the zoned namespace command set (CNS 05h, CSI 02h; section 4.1.5.1).
    pub struct IdentifyNamespaceZoned: 4096 {
        /// Zone operation characteristics, see [`zoc`].
        0 => zoc: U16,
        /// Optional zoned command support, see [`ozcs`].
        2 => ozcs: U16,
        /// Zones that can be active, 0's based; all ones for no limit.
        4 => mar: U32,
        /// Zones that can be open, 0's based; all ones for no limit.
        8 => mor: U32,
        /// Reset recommended limit in seconds; 0 when not reported.
        12 => rrl: U32,
        /// Finish recommended limit in seconds; 0 when not reported.
        16 => frl: U32,
        /// Further reset recommended limits, and further finish recommended limits.
        20 => limits: [U32; 6],
        /// Zone random write area resources; all ones for no limit.
        44 => numzrwa: U32,
        /// Granularity of a flush of the zone random write area in blocks.
        48 => zrwafg: U16,
        /// Size of a zone random write area in blocks.
        50 => zrwasz: U16,
        /// Capabilities of zone random write areas.
        52 => zrwacap: u8,
        /// Reserved.
        53 => reserved53: [u8; 2763],
        /// Extensions of the LBA formats, by the index of the format.
        2816 => lbafe: [LbaFormatExtension; 64],
        /// Vendor specific.
        3840 => vendor: [u8; 256],
    }
}

flags! {
    /// Bits of [`IdentifyNamespaceZoned::zoc`].
    pub mod zoc: u16 {
        VARIABLE_CAPACITY = 0, "the capacities of zones may change when they are reset";
        ACTIVE_EXCURSIONS = 1, "the controller may finish zones of its own accord";
    }
}

flags! {
    /// Bits of [`IdentifyNamespaceZoned::ozcs`].
    pub mod ozcs: u16 {
        READ_ACROSS = 0, "reads may cross from one zone to the next";
        RANDOM_WRITE_AREA = 1, "zone random write areas";
    }
}

wire! {
    /// Extension of an LBA format.
    #[derive(Copy)]
    pub struct LbaFormatExtension: 16 {
        /// Size of every zone in blocks.
        0 => zsze: U64,
        /// Bytes of a zone descriptor extension, in units of 64; 0 when there are none.
        8 => zdes: u8,
        /// Reserved.
        9 => reserved9: [u8; 7],
    }
}

wire! {
    /// Identify Controller of the zoned namespace command set (CNS 06h, CSI 02h; section 4.1.5.2).
    pub struct IdentifyControllerZoned: 4096 {
        /// Longest zone append as a power of two in units of the smallest memory page; 0 when it is
        /// the longest transfer.
        0 => zasl: u8,
        /// Reserved.
        1 => reserved1: [u8; 4095],
    }
}

bits! {
    /// Command dword 13 of zone management send.
    pub struct ZoneSendControl(u32) {
        /// Action, see [`ZoneAction`].
        zsa, with_zsa: u8 = 7 : 0;
        /// All zones whose state allows it, whatever the first block is.
        select_all, with_select_all: bool = 8 : 8;
    }
}

bits! {
    /// Command dword 13 of zone management receive.
    pub struct ZoneReceiveControl(u32) {
        /// Action (ZRA), see [`zra`].
        zra, with_zra: u8 = 7 : 0;
        /// Which zones (ZRASF): 0 for all, see [`zrasf`].
        zrasf, with_zrasf: u8 = 15 : 8;
        /// The count of the report is that of the descriptors which it has room for.
        partial, with_partial: bool = 16 : 16;
    }
}

numbers! {
    /// Actions of zone management receive.
    pub mod zra: u8 {
        REPORT = 0x00, "report zones";
        EXTENDED_REPORT = 0x01, "extended report zones";
    }
}

numbers! {
    /// Which zones a report has.
    pub mod zrasf: u8 {
        ALL = 0x00, "all zones";
        EMPTY = 0x01, "empty zones";
        IMPLICITLY_OPEN = 0x02, "implicitly opened zones";
        EXPLICITLY_OPEN = 0x03, "explicitly opened zones";
        CLOSED = 0x04, "closed zones";
        FULL = 0x05, "full zones";
        READ_ONLY = 0x06, "read only zones";
        OFFLINE = 0x07, "offline zones";
    }
}

impl Sqe {
    /// A zone management send command for the zone that begins at a block, or for all zones.
    #[must_use]
    pub fn zone_send(nsid: u32, slba: u64, action: ZoneAction, all: bool) -> Self {
        let mut sqe = Self::new(opcode::nvm::ZONE_MANAGEMENT_SEND, nsid);
        sqe.set_cdw10_11(slba);
        sqe.cdw13.set(ZoneSendControl(0).with_zsa(action.bits()).with_select_all(all).0);
        sqe
    }

    /// A report of all zones from the one with a block on, in `bytes` bytes (a multiple of 4, at
    /// least 4). Its count is that of the descriptors in it.
    #[must_use]
    pub fn zone_report(nsid: u32, slba: u64, bytes: u32) -> Self {
        let mut sqe = Self::new(opcode::nvm::ZONE_MANAGEMENT_RECEIVE, nsid);
        sqe.set_cdw10_11(slba);
        sqe.cdw12.set((bytes / 4).max(1) - 1);
        sqe.cdw13.set(ZoneReceiveControl(0).with_zra(zra::REPORT).with_partial(true).0);
        sqe
    }

    /// A zone append of 1 to 65536 blocks to the zone that begins at a block. The completion has
    /// the block that was written first.
    #[must_use]
    pub fn zone_append(nsid: u32, zslba: u64, blocks: u32) -> Self {
        Self::block(opcode::nvm::ZONE_APPEND, nsid, zslba, blocks)
    }
}

/// A view of a zone management send command.
#[derive(Clone, Copy, Debug)]
pub struct ZoneSendCommand<'a>(pub &'a Sqe);

impl ZoneSendCommand<'_> {
    /// The first block of the zone.
    #[must_use]
    pub fn slba(self) -> u64 {
        self.0.cdw10_11()
    }

    /// The other fields.
    #[must_use]
    pub fn control(self) -> ZoneSendControl {
        ZoneSendControl(self.0.cdw13.get())
    }
}

/// A view of a zone management receive command.
#[derive(Clone, Copy, Debug)]
pub struct ZoneReceiveCommand<'a>(pub &'a Sqe);

impl ZoneReceiveCommand<'_> {
    /// A block of the first zone.
    #[must_use]
    pub fn slba(self) -> u64 {
        self.0.cdw10_11()
    }

    /// Bytes asked for, 4 to 2^34.
    #[must_use]
    pub fn bytes(self) -> u64 {
        (u64::from(self.0.cdw12.get()) + 1) * 4
    }

    /// The other fields.
    #[must_use]
    pub fn control(self) -> ZoneReceiveControl {
        ZoneReceiveControl(self.0.cdw13.get())
    }
}

/// A view of a zone append command.
#[derive(Clone, Copy, Debug)]
pub struct ZoneAppendCommand<'a>(pub &'a Sqe);

impl ZoneAppendCommand<'_> {
    /// The first block of the zone.
    #[must_use]
    pub fn zslba(self) -> u64 {
        self.0.cdw10_11()
    }

    /// The number of blocks, 1 to 65536.
    #[must_use]
    pub fn blocks(self) -> u32 {
        u32::from(BlockControl(self.0.cdw12.get()).nlb()) + 1
    }
}

/// The type of a zone that takes sequential writes only: the only one there is.
pub const SEQUENTIAL_WRITE_REQUIRED: u8 = 2;

wire! {
    /// Zone descriptor (section 3.4.2.2.3).
    #[derive(Copy)]
    pub struct ZoneDescriptor: 64 {
        /// Type in bits 3:0, see [`SEQUENTIAL_WRITE_REQUIRED`].
        0 => zt: u8,
        /// State in bits 7:4, see [`ZoneState`].
        1 => zs: u8,
        /// Attributes, see [`za`].
        2 => za: u8,
        /// Attributes information: which limits [`za`] means.
        3 => zai: u8,
        /// Reserved.
        4 => reserved4: [u8; 4],
        /// Blocks that can be written.
        8 => zcap: U64,
        /// The first block.
        16 => zslba: U64,
        /// Where the next write has to begin; of some states without meaning.
        24 => wp: U64,
        /// Reserved.
        32 => reserved32: [u8; 32],
    }
}

flags! {
    /// Bits of [`ZoneDescriptor::za`].
    pub mod za: u8 {
        FINISHED_BY_CONTROLLER = 0, "the controller has finished the zone";
        FINISH_RECOMMENDED = 1, "the zone should be finished";
        RESET_RECOMMENDED = 2, "the zone should be reset";
        RANDOM_WRITE_AREA = 3, "the zone has a random write area";
        EXTENSION_VALID = 7, "the zone descriptor extension has data";
    }
}

impl ZoneDescriptor {
    /// The type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.zt & 0xf
    }

    /// The state.
    ///
    /// # Errors
    /// [`ReadError::Value`] when it is a reserved one.
    pub fn state(&self) -> Result<ZoneState, ReadError> {
        let bits = self.zs >> 4;
        let wrong = ReadError::Value { what: "zone state", value: bits.into() };
        ZoneState::from_bits(bits).ok_or(wrong)
    }

    /// The zone that it describes.
    ///
    /// # Errors
    /// [`ReadError::Value`] when the state is a reserved one.
    pub fn zone(&self) -> Result<Zone, ReadError> {
        let wrong = ReadError::Value { what: "zone state", value: (self.zs >> 4).into() };
        Zone::read(zerocopy::transmute_ref!(self)).ok_or(wrong)
    }
}

wire! {
    /// Header of a report of zones (section 3.4.2.2.1).
    #[derive(Copy)]
    pub struct ZoneReportHeader: 64 {
        /// Zones that are reported: in this report if it is a partial one, else in all.
        0 => nr_zones: U64,
        /// Reserved.
        8 => reserved8: [u8; 56],
    }
}

/// The zones of a report, as received.
#[derive(Clone, Copy, Debug)]
pub struct ZoneReport<'a> {
    /// Zones that there are, as the header says.
    pub nr_zones: u64,
    /// Those that there was room for.
    pub zones: &'a [ZoneDescriptor],
}

impl<'a> ZoneReport<'a> {
    /// The structure in the data of a report command, with as many descriptors as are whole.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when there is no whole header.
    pub fn read(data: &'a [u8]) -> Result<Self, ReadError> {
        let what = "zone report";
        let (header, rest) = front::<ZoneReportHeader>(what, data)?;
        let nr_zones = header.nr_zones.get();
        let room = rest.len() / size_of::<ZoneDescriptor>();
        let count = usize::try_from(nr_zones).map_or(room, |zones| zones.min(room));
        Ok(Self { nr_zones, zones: front_slice(what, rest, count)?.0 })
    }
}

#[cfg(test)]
mod tests;
