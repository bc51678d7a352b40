//! The namespace's data structures (CNS 00h, 05h, 08h).

use zerocopy::byteorder::little_endian::{U16, U32, U64, U128};

wire! {
    /// LBA format (NVM Command Set Specification 1.0).
    #[derive(Copy)]
    pub struct LbaFormat: 4 {
        /// Metadata bytes per block.
        0 => ms: U16,
        /// Block size as a power of two; 0 when the format is not there.
        2 => lbads: u8,
        /// Relative performance in bits 1:0, 0 is best.
        3 => rp: u8,
    }
}

impl LbaFormat {
    /// A format of blocks of `1 << lbads` bytes with `ms` bytes of metadata, best performance.
    #[must_use]
    pub const fn new(lbads: u8, ms: u16) -> Self {
        Self { ms: U16::new(ms), lbads, rp: 0 }
    }

    /// The block size in bytes; `None` when it is not 512 to 2^31 bytes.
    #[must_use]
    pub const fn block_bytes(&self) -> Option<u32> {
        match self.lbads {
            9..=31 => Some(1 << self.lbads),
            _ => None,
        }
    }
}

wire! {
    /// Identify Namespace of the NVM command set (CNS 00h; NVM Command Set Specification 1.0,
    /// section 4.1.5).
    pub struct IdentifyNamespace: 4096 {
        /// Size in blocks.
        0 => nsze: U64,
        /// Capacity in blocks: how many may be allocated.
        8 => ncap: U64,
        /// Utilisation in blocks.
        16 => nuse: U64,
        /// Features, see [`nsfeat`].
        24 => nsfeat: u8,
        /// Number of LBA formats, 0's based.
        25 => nlbaf: u8,
        /// Formatted LBA size, see [`Flbas`].
        26 => flbas: u8,
        /// Metadata capabilities: bit 0 extended LBA, bit 1 separate buffer.
        27 => mc: u8,
        /// End-to-end data protection capabilities.
        28 => dpc: u8,
        /// End-to-end data protection type settings: type in bits 2:0.
        29 => dps: u8,
        /// Multi-path I/O and sharing, see [`nmic`].
        30 => nmic: u8,
        /// Reservation capabilities, see [`rescap`].
        31 => rescap: u8,
        /// Format progress indicator.
        32 => fpi: u8,
        /// Deallocate features, see [`dlfeat`].
        33 => dlfeat: u8,
        /// Namespace atomic write unit normal, 0's based.
        34 => nawun: U16,
        /// Namespace atomic write unit at power failure, 0's based.
        36 => nawupf: U16,
        /// Namespace atomic compare and write unit, 0's based.
        38 => nacwu: U16,
        /// Namespace atomic boundary size normal, 0's based.
        40 => nabsn: U16,
        /// Namespace atomic boundary offset.
        42 => nabo: U16,
        /// Namespace atomic boundary size at power failure, 0's based.
        44 => nabspf: U16,
        /// Optimal I/O boundary in blocks; 0 when not reported.
        46 => noiob: U16,
        /// NVM capacity in bytes.
        48 => nvmcap: U128,
        /// Preferred write granularity in blocks, 0's based.
        64 => npwg: U16,
        /// Preferred write alignment in blocks, 0's based.
        66 => npwa: U16,
        /// Preferred deallocate granularity in blocks, 0's based.
        68 => npdg: U16,
        /// Preferred deallocate alignment in blocks, 0's based.
        70 => npda: U16,
        /// Optimal write size in blocks, 0's based.
        72 => nows: U16,
        /// Maximum length of one source range of a copy, in blocks.
        74 => mssrl: U16,
        /// Maximum length of a copy, in blocks.
        76 => mcl: U32,
        /// Maximum number of source ranges of a copy, 0's based.
        80 => msrc: u8,
        /// Key per I/O status (version 1.1).
        81 => kpios: u8,
        /// Number of unique attribute LBA formats, 0's based (version 1.1).
        82 => nulbaf: u8,
        /// Reserved.
        83 => reserved83: u8,
        /// Key per I/O data access alignment and granularity (version 1.1).
        84 => kpiodaag: U32,
        /// Reserved.
        88 => reserved88: [u8; 4],
        /// ANA group identifier; 0 when there is none.
        92 => anagrpid: U32,
        /// Reserved.
        96 => reserved96: [u8; 3],
        /// Attributes, see [`nsattr`].
        99 => nsattr: u8,
        /// NVM set identifier.
        100 => nvmsetid: U16,
        /// Endurance group identifier.
        102 => endgid: U16,
        /// Globally unique identifier, most significant byte first; zero when there is none.
        104 => nguid: [u8; 16],
        /// IEEE extended unique identifier, most significant byte first; zero when there is none.
        120 => eui64: [u8; 8],
        /// LBA formats.
        128 => lbaf: [LbaFormat; 64],
        /// Vendor specific.
        384 => vendor: [u8; 3712],
    }
}

impl IdentifyNamespace {
    /// The LBA format in use.
    #[must_use]
    pub fn format(&self) -> LbaFormat {
        self.lbaf[usize::from(Flbas(self.flbas).index())]
    }
}

bits! {
    /// Formatted LBA size.
    pub struct Flbas(u8) {
        /// Index of the format, low four bits.
        low, with_low: u8 = 3 : 0;
        /// Metadata lie behind each block's data instead of in a buffer of their own.
        extended, with_extended: bool = 4 : 4;
        /// Index of the format, high two bits.
        high, with_high: u8 = 6 : 5;
    }
}

impl Flbas {
    /// Index into the LBA formats, 0 to 63.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.high() << 4 | self.low()
    }
}

flags! {
    /// Bits of [`IdentifyNamespace::nsfeat`].
    pub mod nsfeat: u8 {
        THIN = 0, "thin provisioning";
        ATOMIC_FIELDS = 1, "NAWUN, NAWUPF and NACWU are the namespace's own";
        DEALLOCATED_ERROR = 2, "deallocated or unwritten block error";
        ID_NOT_REUSED = 3, "NGUID and EUI64 are never reused";
        OPTIMAL_FIELDS = 4, "NPWG, NPWA, NPDG, NPDA and NOWS are defined";
    }
}

flags! {
    /// Bits of the field NMIC.
    pub mod nmic: u8 {
        SHARED = 0, "the namespace may be attached to more than one controller";
    }
}

flags! {
    /// Bits of the field RESCAP.
    pub mod rescap: u8 {
        PERSIST = 0, "persist through power loss";
        WRITE_EXCLUSIVE = 1, "write exclusive";
        EXCLUSIVE_ACCESS = 2, "exclusive access";
        WRITE_EXCLUSIVE_REGISTRANTS_ONLY = 3, "write exclusive, registrants only";
        EXCLUSIVE_ACCESS_REGISTRANTS_ONLY = 4, "exclusive access, registrants only";
        WRITE_EXCLUSIVE_ALL_REGISTRANTS = 5, "write exclusive, all registrants";
        EXCLUSIVE_ACCESS_ALL_REGISTRANTS = 6, "exclusive access, all registrants";
        IGNORE_EXISTING_KEY = 7, "ignore existing key, as of version 1.3";
    }
}

/// Values and bits of the field DLFEAT.
pub mod dlfeat {
    /// Bits 2:0: what deallocated blocks read as is not reported.
    pub const READ_NOT_REPORTED: u8 = 0;
    /// Bits 2:0: deallocated blocks read as zeroes.
    pub const READ_ZEROES: u8 = 1;
    /// Bits 2:0: deallocated blocks read as ones.
    pub const READ_ONES: u8 = 2;
    /// Bit 3: write zeroes can deallocate.
    pub const WRITE_ZEROES_DEALLOCATE: u8 = 1 << 3;
    /// Bit 4: the guard field of a deallocated block is the CRC of its data.
    pub const GUARD_CRC: u8 = 1 << 4;
}

flags! {
    /// Bits of the field NSATTR.
    pub mod nsattr: u8 {
        WRITE_PROTECTED = 0, "the namespace is write protected";
    }
}

wire! {
    /// Identify Namespace independent of the I/O command set (CNS 08h, section 5.17.2.8).
    pub struct IdentifyNamespaceIndependent: 4096 {
        /// Features: bit 3 identifiers are not reused, bit 4 rotational medium.
        0 => nsfeat: u8,
        /// Multi-path I/O and sharing, see [`nmic`].
        1 => nmic: u8,
        /// Reservation capabilities, see [`rescap`].
        2 => rescap: u8,
        /// Format progress indicator.
        3 => fpi: u8,
        /// ANA group identifier.
        4 => anagrpid: U32,
        /// Attributes, see [`nsattr`].
        8 => nsattr: u8,
        /// Reserved.
        9 => reserved9: u8,
        /// NVM set identifier.
        10 => nvmsetid: U16,
        /// Endurance group identifier.
        12 => endgid: U16,
        /// Status, see [`nstat`].
        14 => nstat: u8,
        /// Reserved.
        15 => reserved15: [u8; 4081],
    }
}

flags! {
    /// Bits of [`IdentifyNamespaceIndependent::nstat`].
    pub mod nstat: u8 {
        READY = 0, "the namespace is ready (NRDY)";
    }
}

bits! {
    /// Extended LBA format (NVM Command Set Specification 1.0).
    pub struct ExtendedLbaFormat(u32) {
        /// Storage tag size in bits.
        sts, with_sts: u8 = 6 : 0;
        /// Protection information format: 0 16-bit, 1 32-bit, 2 64-bit guard.
        pif, with_pif: u8 = 8 : 7;
    }
}

wire! {
    /// Identify Namespace of the NVM command set, extended (CNS 05h, CSI 00h; NVM Command Set
    /// Specification 1.0, section 4.1.5).
    pub struct IdentifyNamespaceNvm: 4096 {
        /// Logical block storage tag mask.
        0 => lbstm: U64,
        /// Protection information capabilities.
        8 => pic: u8,
        /// Reserved.
        9 => reserved9: [u8; 3],
        /// Extended LBA formats, see [`ExtendedLbaFormat`].
        12 => elbaf: [U32; 64],
        /// Reserved, and fields of later versions.
        268 => reserved268: [u8; 3828],
    }
}
