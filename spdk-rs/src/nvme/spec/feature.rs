//! Features: their identifiers, values and data (sections 5.15 and 5.27).

use zerocopy::byteorder::little_endian::U16;

numbers! {
    /// Feature identifiers, with those of the NVM command set.
    pub mod fid: u8 {
        ARBITRATION = 0x01, "arbitration";
        POWER_MANAGEMENT = 0x02, "power management";
        LBA_RANGE_TYPE = 0x03, "LBA range type";
        TEMPERATURE_THRESHOLD = 0x04, "temperature threshold";
        ERROR_RECOVERY = 0x05, "error recovery";
        VOLATILE_WRITE_CACHE = 0x06, "volatile write cache";
        NUMBER_OF_QUEUES = 0x07, "number of queues";
        INTERRUPT_COALESCING = 0x08, "interrupt coalescing";
        INTERRUPT_VECTOR = 0x09, "interrupt vector configuration";
        WRITE_ATOMICITY = 0x0a, "write atomicity normal";
        ASYNC_EVENTS = 0x0b, "asynchronous event configuration";
        AUTONOMOUS_POWER_STATE = 0x0c, "autonomous power state transition";
        HOST_MEMORY_BUFFER = 0x0d, "host memory buffer";
        TIMESTAMP = 0x0e, "timestamp";
        KEEP_ALIVE_TIMER = 0x0f, "keep alive timer";
        THERMAL_MANAGEMENT = 0x10, "host controlled thermal management";
        NON_OPERATIONAL_POWER_STATE = 0x11, "non-operational power state config";
        READ_RECOVERY_LEVEL = 0x12, "read recovery level config";
        PREDICTABLE_LATENCY = 0x13, "predictable latency mode config";
        PREDICTABLE_LATENCY_WINDOW = 0x14, "predictable latency mode window";
        LBA_STATUS_INTERVAL = 0x15, "LBA status information report interval";
        HOST_BEHAVIOR = 0x16, "host behavior support";
        SANITIZE = 0x17, "sanitize config";
        ENDURANCE_GROUP_EVENTS = 0x18, "endurance group event configuration";
        IO_COMMAND_SET_PROFILE = 0x19, "I/O command set profile";
        SPINUP = 0x1a, "spinup control";
        CONTROLLER_METADATA = 0x7e, "controller metadata";
        NAMESPACE_METADATA = 0x7f, "namespace metadata";
        SOFTWARE_PROGRESS = 0x80, "software progress marker";
        HOST_IDENTIFIER = 0x81, "host identifier";
        RESERVATION_MASK = 0x82, "reservation notification mask";
        RESERVATION_PERSISTENCE = 0x83, "reservation persistence";
        WRITE_PROTECTION = 0x84, "namespace write protection config";
    }
}

bits! {
    /// Command dword 10 of Get Features.
    pub struct GetFeaturesCdw10(u32) {
        /// Feature identifier, see [`fid`].
        fid, with_fid: u8 = 7 : 0;
        /// Which value, see [`select`].
        sel, with_sel: u8 = 10 : 8;
    }
}

bits! {
    /// Command dword 10 of Set Features.
    pub struct SetFeaturesCdw10(u32) {
        /// Feature identifier, see [`fid`].
        fid, with_fid: u8 = 7 : 0;
        /// Save the value, so that it survives a reset and a loss of power.
        sv, with_sv: bool = 31 : 31;
    }
}

/// Values of [`GetFeaturesCdw10::sel`].
pub mod select {
    /// The value in force.
    pub const CURRENT: u8 = 0;
    /// The value after manufacture.
    pub const DEFAULT: u8 = 1;
    /// The value that was saved.
    pub const SAVED: u8 = 2;
    /// What can be done with the feature, see [`capability`](super::capability).
    pub const CAPABILITIES: u8 = 3;
}

flags! {
    /// Bits of the result of Get Features for [`select::CAPABILITIES`].
    pub mod capability: u32 {
        SAVEABLE = 0, "the value can be saved";
        NAMESPACE_SPECIFIC = 1, "the feature is specific to a namespace";
        CHANGEABLE = 2, "the value can be changed";
    }
}

bits! {
    /// Arbitration (01h).
    pub struct Arbitration(u32) {
        /// Arbitration burst as a power of two; 7 for no limit.
        ab, with_ab: u8 = 2 : 0;
        /// Low priority weight, 0's based.
        lpw, with_lpw: u8 = 15 : 8;
        /// Medium priority weight, 0's based.
        mpw, with_mpw: u8 = 23 : 16;
        /// High priority weight, 0's based.
        hpw, with_hpw: u8 = 31 : 24;
    }
}

bits! {
    /// Power management (02h).
    pub struct PowerManagement(u32) {
        /// Power state.
        ps, with_ps: u8 = 4 : 0;
        /// Workload hint.
        wh, with_wh: u8 = 7 : 5;
    }
}

bits! {
    /// Temperature threshold (04h).
    pub struct TemperatureThreshold(u32) {
        /// Threshold in kelvins.
        tmpth, with_tmpth: u16 = 15 : 0;
        /// Sensor: 0 composite, 1 to 8, 15 all (Set Features only).
        tmpsel, with_tmpsel: u8 = 19 : 16;
        /// Kind: 0 over, 1 under.
        thsel, with_thsel: u8 = 21 : 20;
    }
}

bits! {
    /// Error recovery (05h).
    pub struct ErrorRecovery(u32) {
        /// Time limited error recovery, in 100 ms; 0 for no limit.
        tler, with_tler: u16 = 15 : 0;
        /// Deallocated or unwritten logical block error enable.
        dulbe, with_dulbe: bool = 16 : 16;
    }
}

bits! {
    /// Volatile write cache (06h).
    pub struct VolatileWriteCache(u32) {
        /// Enabled.
        wce, with_wce: bool = 0 : 0;
    }
}

bits! {
    /// Number of queues (07h), asked for and allotted; both 0's based, `0xffff` is not allowed.
    pub struct NumberOfQueues(u32) {
        /// I/O submission queues.
        submission, with_submission: u16 = 15 : 0;
        /// I/O completion queues.
        completion, with_completion: u16 = 31 : 16;
    }
}

bits! {
    /// Interrupt vector configuration (09h).
    pub struct InterruptVector(u32) {
        /// Vector.
        iv, with_iv: u16 = 15 : 0;
        /// Coalescing disabled.
        cd, with_cd: bool = 16 : 16;
    }
}

bits! {
    /// Write atomicity normal (0Ah).
    pub struct WriteAtomicity(u32) {
        /// AWUN and NAWUN need not be kept (DN).
        dn, with_dn: bool = 0 : 0;
    }
}

bits! {
    /// Asynchronous event configuration (0Bh): which events are reported. The bits above the low
    /// byte are those of [`oaes`](crate::nvme::spec::identify::oaes).
    pub struct AsyncEventConfig(u32) {
        /// Critical warnings, see [`critical_warning`](crate::nvme::spec::log::critical_warning).
        critical_warnings, with_critical_warnings: u8 = 7 : 0;
        /// Namespace attribute notices.
        namespace_attribute, with_namespace_attribute: bool = 8 : 8;
        /// Firmware activation notices.
        firmware_activation, with_firmware_activation: bool = 9 : 9;
        /// Telemetry log notices.
        telemetry, with_telemetry: bool = 10 : 10;
        /// Asymmetric namespace access change notices.
        ana_change, with_ana_change: bool = 11 : 11;
        /// Discovery log page change notices.
        discovery_log, with_discovery_log: bool = 31 : 31;
    }
}

bits! {
    /// Timestamp (0Eh): the eight bytes of its data as a little endian number.
    pub struct Timestamp(u64) {
        /// Milliseconds since 1970.
        milliseconds, with_milliseconds: u64 = 47 : 0;
        /// The time may have stopped for a while.
        synch, with_synch: bool = 48 : 48;
        /// Origin: 0 cleared at reset, 1 set by the host.
        origin, with_origin: u8 = 51 : 49;
    }
}

bits! {
    /// Command dword 11 of the host identifier feature (81h).
    pub struct HostIdentifier(u32) {
        /// The identifier has 16 bytes instead of 8 (EXHID); always on fabrics.
        exhid, with_exhid: bool = 0 : 0;
    }
}

bits! {
    /// Reservation notification mask (82h): a set bit keeps the notification back.
    pub struct ReservationMask(u32) {
        /// Registration preempted.
        regpre, with_regpre: bool = 1 : 1;
        /// Reservation released.
        resrel, with_resrel: bool = 2 : 2;
        /// Reservation preempted.
        respre, with_respre: bool = 3 : 3;
    }
}

bits! {
    /// Reservation persistence (83h).
    pub struct ReservationPersistence(u32) {
        /// Persist through power loss.
        ptpl, with_ptpl: bool = 0 : 0;
    }
}

bits! {
    /// Namespace write protection (84h).
    pub struct WriteProtection(u32) {
        /// State: 0 none, 1 protected, 2 until a power cycle, 3 permanent.
        state, with_state: u8 = 2 : 0;
    }
}

bits! {
    /// I/O command set profile (19h).
    pub struct IoCommandSetProfile(u32) {
        /// Index of the combination.
        iocsci, with_iocsci: u16 = 8 : 0;
    }
}

wire! {
    /// Host behavior support (16h, section 5.27.1.18).
    #[derive(Copy)]
    pub struct HostBehavior: 512 {
        /// Advanced command retry enable: 1 when the host heeds the retry delay of a status.
        0 => acre: u8,
        /// Extended telemetry data area 4 supported.
        1 => etdas: u8,
        /// LBA format extension enable: 1 when the host knows more than 16 formats.
        2 => lbafee: u8,
        /// Host dispersed namespace support.
        3 => hdisns: u8,
        /// Copy descriptor formats enable: bit n for format n, of 2 and above.
        4 => cdfe: U16,
        /// Reserved.
        6 => reserved6: [u8; 506],
    }
}
