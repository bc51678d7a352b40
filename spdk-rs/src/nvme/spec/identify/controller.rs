//! The controller's data structure, common (CNS 01h) and of the NVM command set (CNS 06h).

use zerocopy::byteorder::little_endian::{U16, U32, U64, U128};

use crate::nvme::spec::{ReadError, text};

wire! {
    /// Power state descriptor.
    #[derive(Copy)]
    pub struct PowerState: 32 {
        /// Maximum power, in centiwatts or, with `flags` bit 0, in 0.1 mW.
        0 => mp: U16,
        /// Reserved.
        2 => reserved2: u8,
        /// Bit 0 scale of `mp` (MXPS), bit 1 non-operational state (NOPS).
        3 => flags: u8,
        /// Entry latency in µs.
        4 => enlat: U32,
        /// Exit latency in µs.
        8 => exlat: U32,
        /// Relative read throughput.
        12 => rrt: u8,
        /// Relative read latency.
        13 => rrl: u8,
        /// Relative write throughput.
        14 => rwt: u8,
        /// Relative write latency.
        15 => rwl: u8,
        /// Idle power.
        16 => idlp: U16,
        /// Idle power scale in bits 7:6.
        18 => ips: u8,
        /// Reserved.
        19 => reserved19: u8,
        /// Active power.
        20 => actp: U16,
        /// Active power workload in bits 2:0, scale in bits 7:6.
        22 => apws: u8,
        /// Reserved.
        23 => reserved23: [u8; 9],
    }
}

wire! {
    /// Identify Controller (CNS 01h, section 5.17.2.1).
    pub struct IdentifyController: 4096 {
        /// PCI vendor identifier.
        0 => vid: U16,
        /// PCI subsystem vendor identifier.
        2 => ssvid: U16,
        /// Serial number, ASCII padded with spaces.
        4 => sn: [u8; 20],
        /// Model number, ASCII padded with spaces.
        24 => mn: [u8; 40],
        /// Firmware revision, ASCII padded with spaces.
        64 => fr: [u8; 8],
        /// Recommended arbitration burst, as a power of two.
        72 => rab: u8,
        /// IEEE OUI, least significant byte first.
        73 => ieee: [u8; 3],
        /// Multi-path I/O and namespace sharing, see [`cmic`].
        76 => cmic: u8,
        /// Largest data transfer, `4096 << CAP.MPSMIN << mdts` bytes; 0 for no limit.
        77 => mdts: u8,
        /// Controller identifier.
        78 => cntlid: U16,
        /// Version, see [`Vs`](crate::nvme::spec::Vs).
        80 => ver: U32,
        /// RTD3 resume latency in µs.
        84 => rtd3r: U32,
        /// RTD3 entry latency in µs: how long a shutdown may take.
        88 => rtd3e: U32,
        /// Optional asynchronous events supported, see [`oaes`].
        92 => oaes: U32,
        /// Controller attributes, see [`ctrattr`].
        96 => ctratt: U32,
        /// Read recovery levels supported.
        100 => rrls: U16,
        /// Reserved.
        102 => reserved102: [u8; 9],
        /// Controller type, see [`cntrltype`].
        111 => cntrltype: u8,
        /// FRU globally unique identifier.
        112 => fguid: [u8; 16],
        /// Command retry delay time 1, in 100 ms.
        128 => crdt1: U16,
        /// Command retry delay time 2, in 100 ms.
        130 => crdt2: U16,
        /// Command retry delay time 3, in 100 ms.
        132 => crdt3: U16,
        /// Reserved.
        134 => reserved134: [u8; 119],
        /// NVM subsystem report: bit 0 storage device, bit 1 enclosure.
        253 => nvmsr: u8,
        /// VPD write cycle information.
        254 => vwci: u8,
        /// Management endpoint capabilities.
        255 => mec: u8,
        /// Optional admin commands supported, see [`oacs`].
        256 => oacs: U16,
        /// Abort command limit, 0's based.
        258 => acl: u8,
        /// Asynchronous event request limit, 0's based.
        259 => aerl: u8,
        /// Firmware updates, see [`frmw`].
        260 => frmw: u8,
        /// Log page attributes, see [`lpa`].
        261 => lpa: u8,
        /// Error log page entries, 0's based.
        262 => elpe: u8,
        /// Number of power states, 0's based.
        263 => npss: u8,
        /// Admin vendor specific command configuration.
        264 => avscc: u8,
        /// Autonomous power state transition attributes.
        265 => apsta: u8,
        /// Warning composite temperature threshold in kelvins.
        266 => wctemp: U16,
        /// Critical composite temperature threshold in kelvins.
        268 => cctemp: U16,
        /// Maximum time for firmware activation, in 100 ms.
        270 => mtfa: U16,
        /// Host memory buffer preferred size, in 4 KiB.
        272 => hmpre: U32,
        /// Host memory buffer minimum size, in 4 KiB.
        276 => hmmin: U32,
        /// Total NVM capacity in bytes.
        280 => tnvmcap: U128,
        /// Unallocated NVM capacity in bytes.
        296 => unvmcap: U128,
        /// Replay protected memory block support.
        312 => rpmbs: U32,
        /// Extended device self-test time in minutes.
        316 => edstt: U16,
        /// Device self-test options.
        318 => dsto: u8,
        /// Firmware update granularity, in 4 KiB.
        319 => fwug: u8,
        /// Granularity of the keep alive timer, in 100 ms; 0 when there is no keep alive.
        320 => kas: U16,
        /// Host controlled thermal management attributes.
        322 => hctma: U16,
        /// Minimum thermal management temperature in kelvins.
        324 => mntmt: U16,
        /// Maximum thermal management temperature in kelvins.
        326 => mxtmt: U16,
        /// Sanitize capabilities.
        328 => sanicap: U32,
        /// Host memory buffer minimum descriptor entry size, in 4 KiB.
        332 => hmminds: U32,
        /// Host memory maximum descriptors entries.
        336 => hmmaxd: U16,
        /// NVM set identifier maximum.
        338 => nsetidmax: U16,
        /// Endurance group identifier maximum.
        340 => endgidmax: U16,
        /// Longest time in the ANA state *change*, in seconds.
        342 => anatt: u8,
        /// Asymmetric namespace access capabilities, see [`anacap`].
        343 => anacap: u8,
        /// Largest ANA group identifier.
        344 => anagrpmax: U32,
        /// Number of ANA groups.
        348 => nanagrpid: U32,
        /// Persistent event log size, in 64 KiB.
        352 => pels: U32,
        /// Domain identifier.
        356 => domainid: U16,
        /// Reserved.
        358 => reserved358: [u8; 10],
        /// Max endurance group capacity in bytes.
        368 => megcap: U128,
        /// Reserved.
        384 => reserved384: [u8; 128],
        /// Submission queue entry size: required in bits 3:0, maximum in bits 7:4, powers of two.
        512 => sqes: u8,
        /// Completion queue entry size: required in bits 3:0, maximum in bits 7:4, powers of two.
        513 => cqes: u8,
        /// Most commands outstanding per I/O queue; mandatory on fabrics.
        514 => maxcmd: U16,
        /// Largest namespace identifier of the subsystem.
        516 => nn: U32,
        /// Optional NVM commands supported, see [`oncs`].
        520 => oncs: U16,
        /// Fused operations supported, see [`fuses`].
        522 => fuses: U16,
        /// Format NVM attributes, see [`fna`].
        524 => fna: u8,
        /// Volatile write cache, see [`vwc`].
        525 => vwc: u8,
        /// Atomic write unit normal in blocks, 0's based.
        526 => awun: U16,
        /// Atomic write unit at power failure in blocks, 0's based.
        528 => awupf: U16,
        /// I/O command set vendor specific command configuration.
        530 => icsvscc: u8,
        /// Namespace write protection capabilities.
        531 => nwpc: u8,
        /// Atomic compare and write unit in blocks, 0's based.
        532 => acwu: U16,
        /// Copy descriptor formats supported: bit n for format n.
        534 => ocfs: U16,
        /// SGL support, see [`sgls`].
        536 => sgls: U32,
        /// Maximum number of allowed namespaces; 0 for the value of `nn`.
        540 => mnan: U32,
        /// Maximum domain namespace attachments.
        544 => maxdna: U128,
        /// Maximum I/O controller namespace attachments.
        560 => maxcna: U32,
        /// Reserved.
        564 => reserved564: [u8; 204],
        /// NQN of the subsystem, UTF-8 ended by a zero.
        768 => subnqn: [u8; 256],
        /// Reserved.
        1024 => reserved1024: [u8; 768],
        /// I/O queue command capsule size, in 16 bytes: entry and in-capsule data.
        1792 => ioccsz: U32,
        /// I/O queue response capsule size, in 16 bytes.
        1796 => iorcsz: U32,
        /// In-capsule data offset, in 16 bytes behind the entry.
        1800 => icdoff: U16,
        /// Fabrics controller attributes: bit 0 static controller model.
        1802 => fcatt: u8,
        /// Maximum SGL data block descriptors in a command; 0 for no limit.
        1803 => msdbd: u8,
        /// Optional fabrics commands supported, see [`ofcs`].
        1804 => ofcs: U16,
        /// Discovery controller type.
        1806 => dctype: u8,
        /// Reserved.
        1807 => reserved1807: [u8; 241],
        /// Power state descriptors.
        2048 => psd: [PowerState; 32],
        /// Vendor specific.
        3072 => vendor: [u8; 1024],
    }
}

impl IdentifyController {
    /// The NQN of the subsystem.
    ///
    /// # Errors
    /// [`ReadError::Text`] when the field holds none.
    pub fn subnqn(&self) -> Result<&str, ReadError> {
        text::nqn("SUBNQN", &self.subnqn)
    }

    /// Bytes of data that an I/O command capsule can hold; 0 when it holds none.
    #[must_use]
    pub const fn in_capsule_data_bytes(&self) -> u64 {
        (self.ioccsz.get() as u64 * 16).saturating_sub(64)
    }

    /// The largest data transfer in bytes with memory pages of `4096 << mpsmin` bytes; `None`
    /// without a limit, or one beyond 64 bits.
    #[must_use]
    pub const fn data_transfer_max_bytes(&self, mpsmin: u8) -> Option<u64> {
        let shift = 12 + mpsmin as u32 + self.mdts as u32;
        if self.mdts == 0 || shift > 63 { None } else { Some(1 << shift) }
    }
}

wire! {
    /// Identify Controller of the NVM command set (CNS 06h, CSI 00h; NVM Command Set
    /// Specification 1.0, section 4.1.5): limits of commands without a data transfer.
    pub struct IdentifyControllerNvm: 4096 {
        /// Verify size limit as a power of two of minimum memory pages; 0 for no limit.
        0 => vsl: u8,
        /// Write zeroes size limit, likewise.
        1 => wzsl: u8,
        /// Write uncorrectable size limit, likewise.
        2 => wusl: u8,
        /// Dataset management ranges limit; 0 for none.
        3 => dmrl: u8,
        /// Dataset management range size limit in blocks; 0 for none.
        4 => dmrsl: U32,
        /// Dataset management size limit in blocks over all ranges; 0 for none.
        8 => dmsl: U64,
        /// Reserved, and fields of later versions.
        16 => reserved16: [u8; 4080],
    }
}

flags! {
    /// Bits of [`IdentifyController::cmic`].
    pub mod cmic: u8 {
        MULTI_PORT = 0, "the subsystem may have more than one port";
        MULTI_CONTROLLER = 1, "the subsystem may have more than one controller";
        SR_IOV = 2, "the controller is of an SR-IOV virtual function";
        ANA = 3, "asymmetric namespace access reporting";
    }
}

/// Values of [`IdentifyController::cntrltype`].
pub mod cntrltype {
    /// Not reported.
    pub const NOT_REPORTED: u8 = 0;
    /// I/O controller.
    pub const IO: u8 = 1;
    /// Discovery controller.
    pub const DISCOVERY: u8 = 2;
    /// Administrative controller.
    pub const ADMIN: u8 = 3;
}

flags! {
    /// Bits of [`IdentifyController::oaes`], and of feature 0Bh above its low byte.
    pub mod oaes: u32 {
        NAMESPACE_ATTRIBUTE = 8, "namespace attribute notices";
        FIRMWARE_ACTIVATION = 9, "firmware activation notices";
        TELEMETRY_LOG = 10, "telemetry log notices (feature 0Bh only)";
        ANA_CHANGE = 11, "asymmetric namespace access change notices";
        PREDICTABLE_LATENCY = 12, "predictable latency event aggregate log change notices";
        LBA_STATUS = 13, "LBA status information alert notices";
        ENDURANCE_GROUP = 14, "endurance group event aggregate log change notices";
        NORMAL_SHUTDOWN = 15, "normal NVM subsystem shutdown notices";
        ZONE_DESCRIPTOR = 27, "zone descriptor changed notices";
        DISCOVERY_LOG = 31, "discovery log page change notices";
    }
}

flags! {
    /// Bits of [`IdentifyController::ctratt`].
    pub mod ctrattr: u32 {
        HOST_ID_128 = 0, "128-bit host identifier";
        NON_OPERATIONAL_PERMISSIVE = 1, "non-operational power state permissive mode";
        NVM_SETS = 2, "NVM sets";
        READ_RECOVERY_LEVELS = 3, "read recovery levels";
        ENDURANCE_GROUPS = 4, "endurance groups";
        PREDICTABLE_LATENCY = 5, "predictable latency mode";
        TRAFFIC_KEEP_ALIVE = 6, "traffic based keep alive (TBKAS)";
        NAMESPACE_GRANULARITY = 7, "namespace granularity";
        SQ_ASSOCIATIONS = 8, "submission queue associations";
        UUID_LIST = 9, "UUID list";
        MULTI_DOMAIN = 10, "multi-domain subsystem";
        FIXED_CAPACITY = 11, "fixed capacity management";
        VARIABLE_CAPACITY = 12, "variable capacity management";
        DELETE_ENDURANCE_GROUP = 13, "delete endurance group";
        DELETE_NVM_SET = 14, "delete NVM set";
        EXTENDED_LBA_FORMATS = 15, "extended LBA formats";
    }
}

flags! {
    /// Bits of [`IdentifyController::oacs`].
    pub mod oacs: u16 {
        SECURITY = 0, "security send and receive";
        FORMAT = 1, "format NVM";
        FIRMWARE = 2, "firmware commit and download";
        NAMESPACE_MANAGEMENT = 3, "namespace management and attachment";
        SELF_TEST = 4, "device self-test";
        DIRECTIVES = 5, "directives";
        MI = 6, "NVMe-MI send and receive";
        VIRTUALIZATION = 7, "virtualization management";
        DOORBELL_BUFFER = 8, "doorbell buffer config";
        GET_LBA_STATUS = 9, "get LBA status";
        LOCKDOWN = 10, "command and feature lockdown";
    }
}

flags! {
    /// Bits of [`IdentifyController::frmw`]; bits 3:1 are the number of slots.
    pub mod frmw: u8 {
        SLOT_1_READ_ONLY = 0, "slot 1 is read-only";
        ONE_SLOT = 1, "one slot (a number of slots of 1)";
        ACTIVATE_WITHOUT_RESET = 4, "activation without a reset";
        MULTIPLE_UPDATE_DETECTION = 5, "overlapping updates are detected";
    }
}

flags! {
    /// Bits of [`IdentifyController::lpa`].
    pub mod lpa: u8 {
        SMART_PER_NAMESPACE = 0, "SMART log page per namespace";
        COMMAND_EFFECTS = 1, "commands supported and effects log page";
        EXTENDED_DATA = 2, "extended data: offsets and 32-bit lengths";
        TELEMETRY = 3, "telemetry log pages";
        PERSISTENT_EVENTS = 4, "persistent event log page";
        SUPPORTED_LOG_PAGES = 5, "supported log pages and feature effects log pages";
        TELEMETRY_AREA_4 = 6, "telemetry data area 4";
    }
}

flags! {
    /// Bits of [`IdentifyController::anacap`].
    pub mod anacap: u8 {
        OPTIMIZED = 0, "reports the state optimized";
        NON_OPTIMIZED = 1, "reports the state non-optimized";
        INACCESSIBLE = 2, "reports the state inaccessible";
        PERSISTENT_LOSS = 3, "reports the state persistent loss";
        CHANGE = 4, "reports the state change";
        GROUP_ID_STATIC = 6, "a namespace's ANA group does not change while it is attached";
        GROUP_ID_SETTABLE = 7, "a non-zero ANA group may be given at namespace management";
    }
}

flags! {
    /// Bits of [`IdentifyController::oncs`].
    pub mod oncs: u16 {
        COMPARE = 0, "compare";
        WRITE_UNCORRECTABLE = 1, "write uncorrectable";
        DATASET_MANAGEMENT = 2, "dataset management";
        WRITE_ZEROES = 3, "write zeroes";
        SAVE_SELECT = 4, "saved feature values, and the select field of get features";
        RESERVATIONS = 5, "reservations";
        TIMESTAMP = 6, "timestamp feature";
        VERIFY = 7, "verify";
        COPY = 8, "copy";
    }
}

flags! {
    /// Bits of [`IdentifyController::fuses`].
    pub mod fuses: u16 {
        COMPARE_AND_WRITE = 0, "compare and write";
    }
}

flags! {
    /// Bits of [`IdentifyController::fna`].
    pub mod fna: u8 {
        FORMAT_ALL = 0, "a format changes all namespaces";
        ERASE_ALL = 1, "a secure erase erases all namespaces";
        CRYPTO_ERASE = 2, "cryptographic erase";
        NO_BROADCAST = 3, "namespace identifier FFFFFFFFh is not supported";
    }
}

/// Bits of [`IdentifyController::vwc`].
pub mod vwc {
    /// Bit 0: a volatile write cache is present.
    pub const PRESENT: u8 = 1;
    /// Bits 2:1: flush of namespace identifier FFFFFFFFh is not supported.
    pub const FLUSH_ALL_NOT_SUPPORTED: u8 = 2 << 1;
    /// Bits 2:1: flush of namespace identifier FFFFFFFFh flushes all namespaces.
    pub const FLUSH_ALL: u8 = 3 << 1;
}

flags! {
    /// Bits of [`IdentifyController::ocfs`]: descriptor formats of the copy command.
    pub mod ocfs: u16 {
        FORMAT_0 = 0, "format 0";
        FORMAT_1 = 1, "format 1";
        FORMAT_2 = 2, "format 2";
        FORMAT_3 = 3, "format 3";
    }
}

flags! {
    /// Bits of [`IdentifyController::sgls`].
    pub mod sgls: u32 {
        SUPPORTED = 0, "SGLs without alignment or granularity (bits 1:0 are 01b)";
        SUPPORTED_DWORD = 1, "SGLs with dword alignment and granularity (bits 1:0 are 10b)";
        KEYED = 2, "keyed data block descriptor";
        BIT_BUCKET = 16, "bit bucket descriptor";
        BYTE_ALIGNED_METADATA = 17, "metadata of any byte alignment";
        LONGER = 18, "an SGL longer than the data";
        METADATA_SGL = 19, "metadata pointer to an SGL";
        OFFSET = 20, "an address that is an offset into the capsule";
        TRANSPORT = 21, "transport SGL data block descriptor";
    }
}

flags! {
    /// Bits of [`IdentifyController::ofcs`].
    pub mod ofcs: u16 {
        DISCONNECT = 0, "disconnect of I/O queues";
    }
}
