//! Opcodes of the admin, NVM and fabrics commands.
//!
//! They are plain numbers, as a command carries them; every number can be represented, and `name`
//! gives the words for those that are known.

numbers! {
    /// Admin commands (section 5).
    pub mod admin: u8 {
        DELETE_IO_SQ = 0x00, "delete I/O submission queue";
        CREATE_IO_SQ = 0x01, "create I/O submission queue";
        GET_LOG_PAGE = 0x02, "get log page";
        DELETE_IO_CQ = 0x04, "delete I/O completion queue";
        CREATE_IO_CQ = 0x05, "create I/O completion queue";
        IDENTIFY = 0x06, "identify";
        ABORT = 0x08, "abort";
        SET_FEATURES = 0x09, "set features";
        GET_FEATURES = 0x0a, "get features";
        ASYNC_EVENT_REQUEST = 0x0c, "asynchronous event request";
        NAMESPACE_MANAGEMENT = 0x0d, "namespace management";
        FIRMWARE_COMMIT = 0x10, "firmware commit";
        FIRMWARE_DOWNLOAD = 0x11, "firmware image download";
        DEVICE_SELF_TEST = 0x14, "device self-test";
        NAMESPACE_ATTACHMENT = 0x15, "namespace attachment";
        KEEP_ALIVE = 0x18, "keep alive";
        DIRECTIVE_SEND = 0x19, "directive send";
        DIRECTIVE_RECEIVE = 0x1a, "directive receive";
        VIRTUALIZATION_MANAGEMENT = 0x1c, "virtualization management";
        MI_SEND = 0x1d, "NVMe-MI send";
        MI_RECEIVE = 0x1e, "NVMe-MI receive";
        CAPACITY_MANAGEMENT = 0x20, "capacity management";
        LOCKDOWN = 0x24, "lockdown";
        DOORBELL_BUFFER_CONFIG = 0x7c, "doorbell buffer config";
        FABRICS = 0x7f, "fabrics";
        FORMAT_NVM = 0x80, "format NVM";
        SECURITY_SEND = 0x81, "security send";
        SECURITY_RECEIVE = 0x82, "security receive";
        SANITIZE = 0x84, "sanitize";
        GET_LBA_STATUS = 0x86, "get LBA status";
    }
}

numbers! {
    /// I/O commands (section 7, and the NVM Command Set Specification 1.0, section 3.2).
    pub mod nvm: u8 {
        FLUSH = 0x00, "flush";
        WRITE = 0x01, "write";
        READ = 0x02, "read";
        WRITE_UNCORRECTABLE = 0x04, "write uncorrectable";
        COMPARE = 0x05, "compare";
        WRITE_ZEROES = 0x08, "write zeroes";
        DATASET_MANAGEMENT = 0x09, "dataset management";
        VERIFY = 0x0c, "verify";
        RESERVATION_REGISTER = 0x0d, "reservation register";
        RESERVATION_REPORT = 0x0e, "reservation report";
        RESERVATION_ACQUIRE = 0x11, "reservation acquire";
        IO_MANAGEMENT_RECEIVE = 0x12, "I/O management receive";
        RESERVATION_RELEASE = 0x15, "reservation release";
        CANCEL = 0x18, "cancel";
        COPY = 0x19, "copy";
        IO_MANAGEMENT_SEND = 0x1d, "I/O management send";
        ZONE_MANAGEMENT_SEND = 0x79, "zone management send";
        ZONE_MANAGEMENT_RECEIVE = 0x7a, "zone management receive";
        ZONE_APPEND = 0x7d, "zone append";
        FABRICS = 0x7f, "fabrics";
    }
}

numbers! {
    /// Command types of the fabrics opcode (section 6): byte 4 of the command.
    pub mod fctype: u8 {
        PROPERTY_SET = 0x00, "property set";
        CONNECT = 0x01, "connect";
        PROPERTY_GET = 0x04, "property get";
        AUTHENTICATION_SEND = 0x05, "authentication send";
        AUTHENTICATION_RECEIVE = 0x06, "authentication receive";
        DISCONNECT = 0x08, "disconnect";
    }
}

/// The opcode of every fabrics command, on admin and I/O queues.
pub const FABRICS: u8 = 0x7f;
