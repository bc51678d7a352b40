//! Results of asynchronous event requests (section 5.2.1).

bits! {
    /// Dword 0 of the completion of an asynchronous event request.
    pub struct AsyncEvent(u32) {
        /// Type, see [`event_type`].
        kind, with_kind: u8 = 2 : 0;
        /// Information, see [`error`], [`health`], [`notice`] and [`io_command_set_event`].
        info, with_info: u8 = 15 : 8;
        /// The log page that tells more; reading it without RAE allows the next event.
        lid, with_lid: u8 = 23 : 16;
    }
}

impl AsyncEvent {
    /// An event.
    #[must_use]
    pub const fn new(kind: u8, info: u8, lid: u8) -> Self {
        Self(0).with_kind(kind).with_info(info).with_lid(lid)
    }

    /// The event as the result of a completion.
    #[must_use]
    pub const fn result(self) -> u64 {
        self.0 as u64
    }
}

numbers! {
    /// Types of events (AET).
    pub mod event_type: u8 {
        ERROR = 0, "error status";
        HEALTH = 1, "SMART / health status";
        NOTICE = 2, "notice";
        IMMEDIATE = 3, "immediate";
        ONE_SHOT = 4, "one-shot";
        IO_COMMAND_SET = 6, "I/O command specific status";
        VENDOR = 7, "vendor specific";
    }
}

numbers! {
    /// Information of errors.
    pub mod error: u8 {
        INVALID_DOORBELL_REGISTER = 0, "write to an invalid doorbell register";
        INVALID_DOORBELL_VALUE = 1, "invalid doorbell write value";
        DIAGNOSTIC_FAILURE = 2, "diagnostic failure";
        PERSISTENT_INTERNAL = 3, "persistent internal error";
        TRANSIENT_INTERNAL = 4, "transient internal error";
        FIRMWARE_IMAGE_LOAD = 5, "firmware image load error";
    }
}

numbers! {
    /// Information of SMART / health events.
    pub mod health: u8 {
        RELIABILITY = 0, "NVM subsystem reliability";
        TEMPERATURE = 1, "temperature threshold";
        SPARE = 2, "spare below threshold";
    }
}

numbers! {
    /// Information of notices.
    pub mod notice: u8 {
        NAMESPACE_ATTRIBUTE = 0x00, "namespace attribute changed";
        FIRMWARE_ACTIVATION = 0x01, "firmware activation starting";
        TELEMETRY_LOG = 0x02, "telemetry log changed";
        ANA_CHANGE = 0x03, "asymmetric namespace access change";
        PREDICTABLE_LATENCY = 0x04, "predictable latency event aggregate log change";
        LBA_STATUS = 0x05, "LBA status information alert";
        ENDURANCE_GROUP = 0x06, "endurance group event aggregate log page change";
        ZONE_DESCRIPTOR = 0xef, "zone descriptor changed";
        DISCOVERY_LOG = 0xf0, "discovery log page change";
    }
}

numbers! {
    /// Information of I/O command specific events.
    pub mod io_command_set_event: u8 {
        RESERVATION_LOG = 0, "reservation log page available";
        SANITIZE_COMPLETED = 1, "sanitize operation completed";
        SANITIZE_DEALLOCATION = 2, "sanitize operation completed with unexpected deallocation";
    }
}
