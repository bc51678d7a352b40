//! Errors, health, firmware slots and changed namespaces (log pages 01h to 04h).

use zerocopy::FromZeros;
use zerocopy::byteorder::little_endian::{U16, U32, U64, U128};

use crate::nvme::spec::identify::ActiveNamespaces;

wire! {
    /// An entry of the error information page (log page 01h, section 5.16.1.2).
    #[derive(Copy)]
    pub struct ErrorEntry: 64 {
        /// Number of the error, from 1; 0 for an entry that is not valid.
        0 => error_count: U64,
        /// Submission queue; `0xffff` when the error belongs to no queue.
        8 => sqid: U16,
        /// Command; `0xffff` when the error belongs to no command.
        10 => cid: U16,
        /// Status in bits 15:1, phase tag in bit 0.
        12 => status: U16,
        /// Where the parameter is wrong: byte in bits 7:0, bit in 10:8; `0xffff` when nowhere.
        14 => location: U16,
        /// First block with the error.
        16 => lba: U64,
        /// Namespace.
        24 => nsid: U32,
        /// Vendor specific log page with more; 0 for none.
        28 => vendor_page: u8,
        /// Transport type, see [`trtype`](super::trtype); 0 when the error is not of a transport.
        29 => trtype: u8,
        /// I/O command set, of later versions.
        30 => csi: u8,
        /// Opcode, of later versions.
        31 => opcode: u8,
        /// Command specific information.
        32 => command_specific: U64,
        /// Transport specific information.
        40 => transport_specific: U16,
        /// Reserved.
        42 => reserved42: [u8; 22],
    }
}

wire! {
    /// SMART / health information (log page 02h, section 5.16.1.3).
    #[derive(Copy)]
    pub struct SmartHealth: 512 {
        /// Critical warnings, see [`critical_warning`].
        0 => critical_warning: u8,
        /// Composite temperature in kelvins.
        1 => temperature: U16,
        /// Available spare in percent, 0 to 100.
        3 => available_spare: u8,
        /// Available spare threshold in percent.
        4 => spare_threshold: u8,
        /// Percentage used, up to 255.
        5 => percentage_used: u8,
        /// Critical warnings of the endurance groups.
        6 => endurance_group_warning: u8,
        /// Reserved.
        7 => reserved7: [u8; 25],
        /// Data read by the host, in 1000 × 512 bytes, rounded up.
        32 => data_units_read: U128,
        /// Data written by the host, in 1000 × 512 bytes, rounded up.
        48 => data_units_written: U128,
        /// Read commands completed.
        64 => host_reads: U128,
        /// Write commands completed.
        80 => host_writes: U128,
        /// Time with I/O commands outstanding, in minutes.
        96 => busy_time: U128,
        /// Power cycles.
        112 => power_cycles: U128,
        /// Power on hours.
        128 => power_on_hours: U128,
        /// Shutdowns without notification.
        144 => unsafe_shutdowns: U128,
        /// Media and data integrity errors.
        160 => media_errors: U128,
        /// Entries that were ever in the error log.
        176 => error_entries: U128,
        /// Minutes above the warning temperature.
        192 => warning_temperature_time: U32,
        /// Minutes above the critical temperature.
        196 => critical_temperature_time: U32,
        /// Temperature sensors 1 to 8 in kelvins; 0 for none.
        200 => sensors: [U16; 8],
        /// Transitions of thermal management temperatures 1 and 2.
        216 => thermal_transitions: [U32; 2],
        /// Seconds under thermal management temperatures 1 and 2.
        224 => thermal_time: [U32; 2],
        /// Reserved.
        232 => reserved232: [u8; 280],
    }
}

flags! {
    /// Bits of [`SmartHealth::critical_warning`], and of the low byte of feature 0Bh.
    pub mod critical_warning: u8 {
        SPARE = 0, "the available spare is below its threshold";
        TEMPERATURE = 1, "a temperature is beyond a threshold";
        RELIABILITY = 2, "reliability is degraded";
        READ_ONLY = 3, "all media are read-only";
        BACKUP = 4, "the volatile memory backup has failed";
        PERSISTENT_MEMORY = 5, "the persistent memory region is read-only or unreliable";
    }
}

wire! {
    /// Firmware slot information (log page 03h, section 5.16.1.4).
    #[derive(Copy)]
    pub struct FirmwareSlots: 512 {
        /// Active slot in bits 2:0, slot active after the next reset in bits 6:4.
        0 => afi: u8,
        /// Reserved.
        1 => reserved1: [u8; 7],
        /// Revisions in slots 1 to 7, ASCII; zero when empty.
        8 => frs: [[u8; 8]; 7],
        /// Reserved.
        64 => reserved64: [u8; 448],
    }
}

wire! {
    /// Changed namespace list (log page 04h, section 5.16.1.5).
    pub struct ChangedNamespaces: 4096 {
        /// Identifiers in ascending order, zero behind the last; or [`Self::TOO_MANY`] and zeroes.
        0 => nsid: [U32; 1024],
    }
}

impl ChangedNamespaces {
    /// The only entry of a list when more namespaces changed than it holds.
    pub const TOO_MANY: u32 = 0xffff_ffff;

    /// A list of the identifiers, in the order given; [`Self::TOO_MANY`] when they have no room.
    pub fn of(nsids: impl IntoIterator<Item = u32>) -> Self {
        let mut list = Self::new_zeroed();
        for (at, nsid) in nsids.into_iter().enumerate() {
            let Some(entry) = list.nsid.get_mut(at) else {
                list = Self::new_zeroed();
                list.nsid[0].set(Self::TOO_MANY);
                break;
            };
            entry.set(nsid);
        }
        list
    }

    /// The identifiers in the data of a Get Log Page command, up to the first zero; `None` when
    /// too many changed to be listed.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<ActiveNamespaces<'_>> {
        let list = ActiveNamespaces::new(data);
        if list.clone().next() == Some(Self::TOO_MANY) { None } else { Some(list) }
    }
}
