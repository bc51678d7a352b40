//! Controller properties: their offsets, and the bit fields of those that both sides use.

numbers! {
    /// Offsets of the properties in bytes (section 3.1.3).
    pub mod offset: u32 {
        CAP = 0x00, "controller capabilities";
        VS = 0x08, "version";
        INTMS = 0x0c, "interrupt mask set";
        INTMC = 0x10, "interrupt mask clear";
        CC = 0x14, "controller configuration";
        CSTS = 0x1c, "controller status";
        NSSR = 0x20, "NVM subsystem reset";
        AQA = 0x24, "admin queue attributes";
        ASQ = 0x28, "admin submission queue base address";
        ACQ = 0x30, "admin completion queue base address";
        CMBLOC = 0x38, "controller memory buffer location";
        CMBSZ = 0x3c, "controller memory buffer size";
        BPINFO = 0x40, "boot partition information";
        BPRSEL = 0x44, "boot partition read select";
        BPMBL = 0x48, "boot partition memory buffer location";
        CMBMSC = 0x50, "controller memory buffer memory space control";
        CMBSTS = 0x58, "controller memory buffer status";
        NSSD = 0x64, "NVM subsystem shutdown";
        CRTO = 0x68, "controller ready timeouts";
    }
}

bits! {
    /// Controller capabilities (section 3.1.3.1).
    pub struct Cap(u64) {
        /// Maximum queue entries supported, 0's based (MQES).
        mqes, with_mqes: u16 = 15 : 0;
        /// Contiguous queues required (CQR); 1 on fabrics.
        cqr, with_cqr: bool = 16 : 16;
        /// Arbitration mechanisms supported beside round robin (AMS).
        ams, with_ams: u8 = 18 : 17;
        /// Worst time to become ready, in 500 ms (TO).
        to, with_to: u8 = 31 : 24;
        /// Doorbell stride, `4 << dstrd` bytes (DSTRD).
        dstrd, with_dstrd: u8 = 35 : 32;
        /// NVM subsystem reset supported (NSSRS).
        nssrs, with_nssrs: bool = 36 : 36;
        /// Command sets supported (CSS), see [`css`].
        css, with_css: u8 = 44 : 37;
        /// Boot partition support (BPS).
        bps, with_bps: bool = 45 : 45;
        /// Controller power scope (CPS).
        cps, with_cps: u8 = 47 : 46;
        /// Smallest memory page, `4096 << mpsmin` bytes (MPSMIN).
        mpsmin, with_mpsmin: u8 = 51 : 48;
        /// Largest memory page, `4096 << mpsmax` bytes (MPSMAX).
        mpsmax, with_mpsmax: u8 = 55 : 52;
        /// Persistent memory region supported (PMRS).
        pmrs, with_pmrs: bool = 56 : 56;
        /// Controller memory buffer supported (CMBS).
        cmbs, with_cmbs: bool = 57 : 57;
        /// NVM subsystem shutdown supported (NSSS).
        nsss, with_nsss: bool = 58 : 58;
        /// Controller ready modes supported (CRMS): bit 0 with media, bit 1 independent of media.
        crms, with_crms: u8 = 60 : 59;
    }
}

flags! {
    /// Bits of [`Cap::css`].
    pub mod css: u8 {
        NVM = 0, "the NVM command set";
        IO_COMMAND_SETS = 6, "one or more I/O command sets, chosen by CC.CSS = 110b";
        NO_IO_COMMAND_SET = 7, "no I/O command set";
    }
}

bits! {
    /// Version of the base specification (section 3.1.3.2).
    pub struct Vs(u32) {
        /// Tertiary version (TER).
        tertiary, with_tertiary: u8 = 7 : 0;
        /// Minor version (MNR).
        minor, with_minor: u8 = 15 : 8;
        /// Major version (MJR).
        major, with_major: u16 = 31 : 16;
    }
}

impl Vs {
    /// Version 1.3.0.
    pub const V1_3: Self = Self(0x1_0300);
    /// Version 1.4.0.
    pub const V1_4: Self = Self(0x1_0400);
    /// Version 2.0.0.
    pub const V2_0: Self = Self(0x2_0000);
}

bits! {
    /// Controller configuration (section 3.1.3.5).
    pub struct Cc(u32) {
        /// Enable (EN).
        en, with_en: bool = 0 : 0;
        /// I/O command set selected (CSS): 0 NVM, 6 all that are supported, 7 admin only.
        css, with_css: u8 = 6 : 4;
        /// Memory page size, `4096 << mps` bytes (MPS).
        mps, with_mps: u8 = 10 : 7;
        /// Arbitration mechanism selected (AMS).
        ams, with_ams: u8 = 13 : 11;
        /// Shutdown notification (SHN): 0 none, 1 normal, 2 abrupt.
        shn, with_shn: u8 = 15 : 14;
        /// I/O submission queue entry size as a power of two (IOSQES), 6 for the NVM command set.
        iosqes, with_iosqes: u8 = 19 : 16;
        /// I/O completion queue entry size as a power of two (IOCQES), 4 for the NVM command set.
        iocqes, with_iocqes: u8 = 23 : 20;
        /// Controller ready independent of media enable (CRIME).
        crime, with_crime: bool = 24 : 24;
    }
}

/// Values of [`Cc::shn`].
pub mod shn {
    /// No notification.
    pub const NONE: u8 = 0;
    /// Normal shutdown.
    pub const NORMAL: u8 = 1;
    /// Abrupt shutdown.
    pub const ABRUPT: u8 = 2;
}

bits! {
    /// Controller memory buffer location (section 3.1.3.11).
    pub struct Cmbloc(u32) {
        /// Base address register (BIR).
        bir, with_bir: u8 = 2 : 0;
        /// Offset in units of [`Cmbsz::szu`] (OFST).
        ofst, with_ofst: u32 = 31 : 12;
    }
}

bits! {
    /// Controller memory buffer size (section 3.1.3.12).
    pub struct Cmbsz(u32) {
        /// Submission queues may be in it (SQS).
        sqs, with_sqs: bool = 0 : 0;
        /// Completion queues may be in it (CQS).
        cqs, with_cqs: bool = 1 : 1;
        /// PRP and SGL lists may be in it (LISTS).
        lists, with_lists: bool = 2 : 2;
        /// Data from the controller may be in it (RDS).
        rds, with_rds: bool = 3 : 3;
        /// Data to the controller may be in it (WDS).
        wds, with_wds: bool = 4 : 4;
        /// Size of a unit: `4096 << 4 * szu` bytes (SZU).
        szu, with_szu: u8 = 11 : 8;
        /// Size in units (SZ).
        sz, with_sz: u32 = 31 : 12;
    }
}

bits! {
    /// Controller status (section 3.1.3.6).
    pub struct Csts(u32) {
        /// Ready (RDY).
        rdy, with_rdy: bool = 0 : 0;
        /// Controller fatal status (CFS).
        cfs, with_cfs: bool = 1 : 1;
        /// Shutdown status (SHST), see [`shst`].
        shst, with_shst: u8 = 3 : 2;
        /// NVM subsystem reset occurred (NSSRO).
        nssro, with_nssro: bool = 4 : 4;
        /// Processing paused (PP).
        pp, with_pp: bool = 5 : 5;
        /// Shutdown type (ST): 1 when the whole NVM subsystem is shut down.
        st, with_st: bool = 6 : 6;
    }
}

/// Values of [`Csts::shst`].
pub mod shst {
    /// No shutdown was requested.
    pub const NORMAL: u8 = 0;
    /// Shutdown is under way.
    pub const OCCURRING: u8 = 1;
    /// Shutdown is complete.
    pub const COMPLETE: u8 = 2;
}
