//! The status that every operation ends in.

use std::fmt;

/// An NVMe completion status: status code type, status code and the do-not-retry bit.
///
/// Sixteen bits, without the phase bit: SC in bits 7:0, SCT in bits 10:8, MORE in bit 13, DNR in
/// bit 14 (NVMe Base Specification 2.0, section 3.3.3.2.1, shifted down by one). It is what the
/// data path carries; no error is reduced to EIO on the way to a consumer.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "a status tells whether the data are there"]
pub struct NvmeStatus(u16);

const DNR: u16 = 1 << 14;

/// Status code types (NVMe Base Specification 2.0, figure 93).
mod sct {
    pub(super) const GENERIC: u16 = 0;
    pub(super) const COMMAND_SPECIFIC: u16 = 1;
    pub(super) const MEDIA: u16 = 2;
    pub(super) const PATH: u16 = 3;
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $sct:ident, $sc:literal, $dnr:literal, $text:literal;)+) => {
        impl NvmeStatus {
            $($(#[$doc])* pub const $name: NvmeStatus =
                NvmeStatus(sct::$sct << 8 | $sc | if $dnr { DNR } else { 0 });)+
        }
        /// Every status that has a name of its own, with its words.
        const NAMED: &[(NvmeStatus, &str)] = &[$((NvmeStatus::$name, $text)),+];
    };
}

statuses! {
    /// The command completed without error.
    SUCCESS = GENERIC, 0x00, false, "success";
    /// The device does not know the operation.
    INVALID_OPCODE = GENERIC, 0x01, true, "operation not supported by this device";
    /// A field of the command has a value that is not allowed.
    INVALID_FIELD = GENERIC, 0x02, true, "invalid field in command";
    /// The command identifier is already in use.
    COMMAND_ID_CONFLICT = GENERIC, 0x03, true, "command identifier conflict";
    /// The data did not arrive whole.
    DATA_TRANSFER_ERROR = GENERIC, 0x04, false, "data transfer error";
    /// The command was aborted because of a power loss notification.
    ABORTED_POWER_LOSS = GENERIC, 0x05, false, "aborted because of a power loss notification";
    /// An error inside the engine or the device; a retry may help.
    INTERNAL_ERROR = GENERIC, 0x06, false, "internal error";
    /// The command was aborted on request.
    ABORTED_BY_REQUEST = GENERIC, 0x07, false, "aborted by request";
    /// The command was aborted because its queue was deleted or reset.
    ABORTED_SQ_DELETION = GENERIC, 0x08, false, "aborted because its queue was deleted";
    /// The other half of a fused pair failed.
    ABORTED_FAILED_FUSED = GENERIC, 0x09, false, "aborted because its fused command failed";
    /// The other half of a fused pair did not come.
    ABORTED_MISSING_FUSED = GENERIC, 0x0a, true, "aborted because its fused command is missing";
    /// The namespace is gone or was never there.
    INVALID_NAMESPACE = GENERIC, 0x0b, true, "the device is gone";
    /// The command came when it was not allowed, such as before Connect.
    COMMAND_SEQUENCE_ERROR = GENERIC, 0x0c, true, "command sequence error";
    /// An SGL segment descriptor is invalid.
    INVALID_SGL_SEGMENT = GENERIC, 0x0d, true, "invalid SGL segment descriptor";
    /// A segment has a wrong number of descriptors.
    INVALID_SGL_COUNT = GENERIC, 0x0e, true, "invalid number of SGL descriptors";
    /// Buffers and length do not belong together.
    DATA_SGL_LENGTH_INVALID = GENERIC, 0x0f, true, "buffer length does not match the block count";
    /// Metadata buffer and length do not belong together.
    METADATA_SGL_LENGTH_INVALID =
        GENERIC, 0x10, true, "metadata length does not match the block count";
    /// A descriptor has a type that is not allowed.
    SGL_TYPE_INVALID = GENERIC, 0x11, true, "SGL descriptor type invalid";
    /// The controller memory buffer is used in a way that is not allowed.
    INVALID_CMB_USE = GENERIC, 0x12, true, "invalid use of controller memory buffer";
    /// A PRP entry has an offset that is not allowed.
    PRP_OFFSET_INVALID = GENERIC, 0x13, true, "PRP offset invalid";
    /// A write is longer than the atomic write unit.
    ATOMIC_WRITE_UNIT_EXCEEDED = GENERIC, 0x14, true, "atomic write unit exceeded";
    /// The host lacks the right.
    OPERATION_DENIED = GENERIC, 0x15, true, "operation denied";
    /// An offset into the capsule is not allowed.
    SGL_OFFSET_INVALID = GENERIC, 0x16, true, "SGL offset invalid";
    /// Host identifiers of 8 and 16 bytes are mixed.
    HOST_ID_INCONSISTENT = GENERIC, 0x18, true, "host identifier inconsistent format";
    /// The keep alive timer expired.
    KEEP_ALIVE_EXPIRED = GENERIC, 0x19, false, "keep alive timer expired";
    /// The keep alive timeout is not allowed.
    KEEP_ALIVE_INVALID = GENERIC, 0x1a, true, "keep alive timeout invalid";
    /// The command was aborted by a preempt and abort.
    ABORTED_PREEMPT = GENERIC, 0x1b, true, "aborted because its reservation was preempted";
    /// The last sanitize operation failed.
    SANITIZE_FAILED = GENERIC, 0x1c, true, "sanitize failed";
    /// A sanitize operation is under way.
    SANITIZE_IN_PROGRESS = GENERIC, 0x1d, false, "sanitize in progress";
    /// A data block has an address or length that is not allowed.
    SGL_GRANULARITY_INVALID = GENERIC, 0x1e, true, "SGL data block granularity invalid";
    /// The queue lies in the controller memory buffer.
    NOT_SUPPORTED_IN_CMB =
        GENERIC, 0x1f, true, "command not supported for a queue in controller memory";
    /// The device is write protected.
    WRITE_PROTECTED = GENERIC, 0x20, true, "the device is write protected";
    /// The command was interrupted; it can be sent again.
    COMMAND_INTERRUPTED = GENERIC, 0x21, false, "command interrupted";
    /// The data did not arrive whole, such as with a wrong data digest; the command can be sent
    /// again.
    TRANSIENT_TRANSPORT_ERROR = GENERIC, 0x22, false, "transient transport error";
    /// The command is prohibited by a lockdown.
    PROHIBITED_BY_LOCKDOWN = GENERIC, 0x23, true, "command prohibited by lockdown";
    /// The media are not ready.
    ADMIN_MEDIA_NOT_READY = GENERIC, 0x24, false, "media not ready for an admin command";
    /// The range reaches beyond the end of the device.
    LBA_OUT_OF_RANGE = GENERIC, 0x80, true, "the block range reaches beyond the end of the device";
    /// The medium has no room for the data.
    CAPACITY_EXCEEDED = GENERIC, 0x81, true, "capacity exceeded";
    /// The device cannot serve the command now.
    NOT_READY = GENERIC, 0x82, false, "the device is not ready";
    /// Another host's reservation forbids the command, or the key does not match.
    RESERVATION_CONFLICT = GENERIC, 0x83, true, "reservation conflict";
    /// The namespace is being formatted.
    FORMAT_IN_PROGRESS = GENERIC, 0x84, false, "format in progress";
    /// The completion queue does not exist.
    COMPLETION_QUEUE_INVALID = COMMAND_SPECIFIC, 0x00, true, "completion queue invalid";
    /// The queue identifier is not allowed.
    INVALID_QUEUE_ID = COMMAND_SPECIFIC, 0x01, true, "invalid queue identifier";
    /// The queue size is not allowed.
    INVALID_QUEUE_SIZE = COMMAND_SPECIFIC, 0x02, true, "invalid queue size";
    /// Too many aborts are outstanding.
    ABORT_LIMIT_EXCEEDED = COMMAND_SPECIFIC, 0x03, true, "abort command limit exceeded";
    /// Too many asynchronous event requests are outstanding.
    AER_LIMIT_EXCEEDED = COMMAND_SPECIFIC, 0x05, true, "asynchronous event request limit exceeded";
    /// The firmware slot does not exist or is read-only.
    INVALID_FIRMWARE_SLOT = COMMAND_SPECIFIC, 0x06, true, "invalid firmware slot";
    /// The firmware image is not valid.
    INVALID_FIRMWARE_IMAGE = COMMAND_SPECIFIC, 0x07, true, "invalid firmware image";
    /// The interrupt vector is not allowed.
    INVALID_INTERRUPT_VECTOR = COMMAND_SPECIFIC, 0x08, true, "invalid interrupt vector";
    /// The log page does not exist.
    INVALID_LOG_PAGE = COMMAND_SPECIFIC, 0x09, true, "invalid log page";
    /// The LBA format is not allowed.
    INVALID_FORMAT = COMMAND_SPECIFIC, 0x0a, true, "invalid format";
    /// The firmware is active after a conventional reset.
    FIRMWARE_NEEDS_RESET =
        COMMAND_SPECIFIC, 0x0b, false, "firmware activation requires a conventional reset";
    /// The queue cannot be deleted.
    INVALID_QUEUE_DELETION = COMMAND_SPECIFIC, 0x0c, true, "invalid queue deletion";
    /// The feature cannot be saved.
    FEATURE_NOT_SAVEABLE = COMMAND_SPECIFIC, 0x0d, true, "feature identifier not saveable";
    /// The feature cannot be changed.
    FEATURE_NOT_CHANGEABLE = COMMAND_SPECIFIC, 0x0e, true, "feature not changeable";
    /// The feature is not specific to a namespace.
    FEATURE_NOT_NAMESPACE_SPECIFIC = COMMAND_SPECIFIC, 0x0f, true, "feature not namespace specific";
    /// The firmware is active after a subsystem reset.
    FIRMWARE_NEEDS_SUBSYSTEM_RESET =
        COMMAND_SPECIFIC, 0x10, false, "firmware activation requires a subsystem reset";
    /// The firmware is active after a controller reset.
    FIRMWARE_NEEDS_CONTROLLER_RESET =
        COMMAND_SPECIFIC, 0x11, false, "firmware activation requires a controller reset";
    /// Activation would take longer than the controller's maximum.
    FIRMWARE_TIME_VIOLATION =
        COMMAND_SPECIFIC, 0x12, true, "firmware activation requires a maximum time violation";
    /// The firmware must not be activated.
    FIRMWARE_PROHIBITED = COMMAND_SPECIFIC, 0x13, true, "firmware activation prohibited";
    /// Ranges overlap.
    OVERLAPPING_RANGE = COMMAND_SPECIFIC, 0x14, true, "overlapping range";
    /// There is no room for the namespace.
    NAMESPACE_INSUFFICIENT_CAPACITY =
        COMMAND_SPECIFIC, 0x15, true, "namespace insufficient capacity";
    /// No namespace identifier is left.
    NAMESPACE_ID_UNAVAILABLE = COMMAND_SPECIFIC, 0x16, true, "namespace identifier unavailable";
    /// The namespace is already attached.
    NAMESPACE_ALREADY_ATTACHED = COMMAND_SPECIFIC, 0x18, true, "namespace already attached";
    /// The namespace can be attached to one controller only.
    NAMESPACE_IS_PRIVATE = COMMAND_SPECIFIC, 0x19, true, "namespace is private";
    /// The namespace is not attached.
    NAMESPACE_NOT_ATTACHED = COMMAND_SPECIFIC, 0x1a, true, "namespace not attached";
    /// The controller has no thin provisioning.
    THIN_PROVISIONING_UNSUPPORTED = COMMAND_SPECIFIC, 0x1b, true, "thin provisioning not supported";
    /// The controller list is not valid.
    CONTROLLER_LIST_INVALID = COMMAND_SPECIFIC, 0x1c, true, "controller list invalid";
    /// A self-test is under way.
    SELF_TEST_IN_PROGRESS = COMMAND_SPECIFIC, 0x1d, false, "device self-test in progress";
    /// The boot partition is locked.
    BOOT_PARTITION_WRITE_PROHIBITED =
        COMMAND_SPECIFIC, 0x1e, true, "boot partition write prohibited";
    /// The controller identifier is not allowed.
    INVALID_CONTROLLER_ID = COMMAND_SPECIFIC, 0x1f, true, "invalid controller identifier";
    /// The secondary controller is in another state.
    INVALID_SECONDARY_STATE = COMMAND_SPECIFIC, 0x20, true, "invalid secondary controller state";
    /// The number of resources is not allowed.
    INVALID_RESOURCE_COUNT = COMMAND_SPECIFIC, 0x21, true, "invalid number of controller resources";
    /// The resource does not exist.
    INVALID_RESOURCE_ID = COMMAND_SPECIFIC, 0x22, true, "invalid resource identifier";
    /// A sanitize operation is prohibited.
    SANITIZE_PROHIBITED =
        COMMAND_SPECIFIC, 0x23, true, "sanitize prohibited while the persistent memory region is enabled";
    /// The ANA group is not allowed.
    ANA_GROUP_INVALID = COMMAND_SPECIFIC, 0x24, true, "ANA group identifier invalid";
    /// The namespace is not attached because of its ANA state.
    ANA_ATTACH_FAILED = COMMAND_SPECIFIC, 0x25, true, "ANA attach failed";
    /// There is not enough capacity.
    INSUFFICIENT_CAPACITY = COMMAND_SPECIFIC, 0x26, true, "insufficient capacity";
    /// Too many namespaces are attached.
    ATTACHMENT_LIMIT_EXCEEDED = COMMAND_SPECIFIC, 0x27, true, "namespace attachment limit exceeded";
    /// The command cannot be locked down.
    LOCKDOWN_UNSUPPORTED =
        COMMAND_SPECIFIC, 0x28, true, "prohibition of command execution not supported";
    /// The I/O command set does not exist.
    IO_COMMAND_SET_UNSUPPORTED = COMMAND_SPECIFIC, 0x29, true, "I/O command set not supported";
    /// The I/O command set is not enabled.
    IO_COMMAND_SET_NOT_ENABLED = COMMAND_SPECIFIC, 0x2a, true, "I/O command set not enabled";
    /// The combination cannot be chosen.
    IO_COMMAND_SETS_REJECTED = COMMAND_SPECIFIC, 0x2b, true, "I/O command set combination rejected";
    /// The I/O command set is not that of the namespace.
    INVALID_IO_COMMAND_SET = COMMAND_SPECIFIC, 0x2c, true, "invalid I/O command set";
    /// No identifier is left.
    ID_UNAVAILABLE = COMMAND_SPECIFIC, 0x2d, true, "identifier unavailable";
    /// Attributes of a command contradict each other.
    CONFLICTING_ATTRIBUTES = COMMAND_SPECIFIC, 0x80, true, "conflicting attributes";
    /// The protection information does not fit the format.
    INVALID_PROTECTION_INFORMATION = COMMAND_SPECIFIC, 0x81, true, "invalid protection information";
    /// A write to a range that may only be read.
    WRITE_TO_READ_ONLY = COMMAND_SPECIFIC, 0x82, true, "write to a range that is read-only";
    /// The command reaches over more blocks or ranges than the controller allows.
    COMMAND_SIZE_LIMIT_EXCEEDED = COMMAND_SPECIFIC, 0x83, true, "command size limit exceeded";
    /// Source and destination of a copy have formats that do not fit.
    INCOMPATIBLE_NAMESPACE = COMMAND_SPECIFIC, 0x85, true, "incompatible namespace or format";
    /// The copy cannot be done fast.
    FAST_COPY_NOT_POSSIBLE = COMMAND_SPECIFIC, 0x86, true, "fast copy not possible";
    /// Source and destination of a copy overlap.
    OVERLAPPING_IO_RANGE = COMMAND_SPECIFIC, 0x87, true, "overlapping I/O range";
    /// Resources are missing.
    INSUFFICIENT_RESOURCES = COMMAND_SPECIFIC, 0x89, true, "insufficient resources";
    /// The command reaches beyond a zone.
    ZONE_BOUNDARY_ERROR = COMMAND_SPECIFIC, 0xb8, true, "zone boundary error";
    /// The zone is full.
    ZONE_FULL = COMMAND_SPECIFIC, 0xb9, true, "zone is full";
    /// The zone can only be read.
    ZONE_READ_ONLY = COMMAND_SPECIFIC, 0xba, true, "zone is read only";
    /// The zone can be neither read nor written.
    ZONE_OFFLINE = COMMAND_SPECIFIC, 0xbb, true, "zone is offline";
    /// The write is not at the zone's write pointer.
    ZONE_INVALID_WRITE = COMMAND_SPECIFIC, 0xbc, true, "zone invalid write";
    /// Too many zones are active.
    TOO_MANY_ACTIVE_ZONES = COMMAND_SPECIFIC, 0xbd, false, "too many active zones";
    /// Too many zones are open.
    TOO_MANY_OPEN_ZONES = COMMAND_SPECIFIC, 0xbe, false, "too many open zones";
    /// The zone cannot change to the state.
    ZONE_INVALID_TRANSITION = COMMAND_SPECIFIC, 0xbf, true, "invalid zone state transition";
    /// The medium refused the data.
    WRITE_FAULT = MEDIA, 0x80, false, "write fault";
    /// The medium could not return the data.
    UNRECOVERED_READ_ERROR = MEDIA, 0x81, false, "unrecovered read error";
    /// The guard field does not match the data.
    GUARD_CHECK = MEDIA, 0x82, true, "end-to-end guard check error";
    /// The application tag does not match.
    APPLICATION_TAG_CHECK = MEDIA, 0x83, true, "end-to-end application tag check error";
    /// The reference tag does not match.
    REFERENCE_TAG_CHECK = MEDIA, 0x84, true, "end-to-end reference tag check error";
    /// A compare found other data.
    COMPARE_FAILURE = MEDIA, 0x85, true, "compare failure";
    /// The medium denied access.
    ACCESS_DENIED = MEDIA, 0x86, true, "access denied";
    /// A block that was not written was read.
    DEALLOCATED_BLOCK = MEDIA, 0x87, true, "deallocated or unwritten block";
    /// The storage tag does not match.
    STORAGE_TAG_CHECK = MEDIA, 0x88, true, "end-to-end storage tag check error";
    /// The path to the device failed inside the engine.
    INTERNAL_PATH_ERROR = PATH, 0x00, false, "internal path error";
    /// The namespace is lost for good on this path.
    ANA_PERSISTENT_LOSS = PATH, 0x01, false, "ANA persistent loss";
    /// The namespace is inaccessible on this path.
    ANA_INACCESSIBLE = PATH, 0x02, false, "ANA inaccessible";
    /// The namespace's state on this path is about to change.
    ANA_TRANSITION = PATH, 0x03, false, "ANA transition";
    /// The controller found the path broken.
    CONTROLLER_PATHING_ERROR = PATH, 0x60, false, "controller pathing error";
    /// The host found the path broken.
    HOST_PATHING_ERROR = PATH, 0x70, false, "host pathing error";
    /// The host aborted the command because of a path problem.
    ABORTED_BY_HOST = PATH, 0x71, false, "aborted by the host";
}

/// Statuses of fabrics commands, whose codes mean something else there than elsewhere; their words
/// are those of [`FabricsStatus`](crate::nvme::spec::fabrics::FabricsStatus).
///
/// Only what no change of the target's configuration can mend is not to be retried: a host that
/// reconnects while a target starts must not give up because a subsystem is not there yet.
impl NvmeStatus {
    /// Fabrics: the record format of a Connect or Disconnect is not supported.
    pub const CONNECT_INCOMPATIBLE_FORMAT: NvmeStatus =
        NvmeStatus(sct::COMMAND_SPECIFIC << 8 | 0x80 | DNR);
    /// Fabrics: the controller, or the subsystem, cannot take the connection now.
    pub const CONTROLLER_BUSY: NvmeStatus = NvmeStatus(sct::COMMAND_SPECIFIC << 8 | 0x81);
    /// Fabrics: a parameter of Connect is not allowed; the result says which.
    pub const CONNECT_INVALID_PARAMETERS: NvmeStatus =
        NvmeStatus(sct::COMMAND_SPECIFIC << 8 | 0x82);
    /// Fabrics: the host should ask the discovery service again.
    pub const CONNECT_RESTART_DISCOVERY: NvmeStatus = NvmeStatus(sct::COMMAND_SPECIFIC << 8 | 0x83);
    /// Fabrics: the host is not allowed to connect.
    pub const HOST_NOT_ALLOWED: NvmeStatus = NvmeStatus(sct::COMMAND_SPECIFIC << 8 | 0x84);
    /// Fabrics: the command is not allowed on a queue of this type.
    pub const INVALID_QUEUE_TYPE: NvmeStatus = NvmeStatus(sct::COMMAND_SPECIFIC << 8 | 0x85 | DNR);
    /// Fabrics: the discovery log page changed while it was read.
    pub const DISCOVER_RESTART: NvmeStatus = NvmeStatus(sct::COMMAND_SPECIFIC << 8 | 0x90);
    /// Fabrics: the host must authenticate first.
    pub const AUTHENTICATION_REQUIRED: NvmeStatus =
        NvmeStatus(sct::COMMAND_SPECIFIC << 8 | 0x91 | DNR);
}

impl NvmeStatus {
    /// The status with the given code type (0 to 7) and code.
    pub const fn new(sct: u8, sc: u8) -> Self {
        Self(((sct & 7) as u16) << 8 | sc as u16)
    }

    /// The sixteen bits as the transport carries them, without the phase bit.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The status of sixteen bits without the phase bit.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & 0x7fff)
    }

    /// Whether the operation did all that was asked.
    #[inline(always)]
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 & 0x7ff == 0
    }

    /// The status code type, 0 to 7.
    #[must_use]
    pub const fn sct(self) -> u8 {
        (self.0 >> 8 & 7) as u8
    }

    /// The status code.
    #[must_use]
    pub const fn sc(self) -> u8 {
        (self.0 & 0xff) as u8
    }

    /// Whether the same command would fail again.
    #[must_use]
    pub const fn do_not_retry(self) -> bool {
        self.0 & DNR != 0
    }

    /// The same status with the do-not-retry bit set or cleared.
    pub const fn with_do_not_retry(self, on: bool) -> Self {
        Self(if on { self.0 | DNR } else { self.0 & !DNR })
    }

    /// The status for a failed system call of a data transfer; `write` tells its direction.
    pub fn from_errno(errno: i32, write: bool) -> Self {
        use nix::errno::Errno;
        match Errno::from_raw(errno) {
            Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG => Self::CAPACITY_EXCEEDED,
            Errno::EINVAL => Self::INVALID_FIELD,
            Errno::EOPNOTSUPP | Errno::ENOSYS => Self::INVALID_OPCODE,
            Errno::ENODEV | Errno::ENXIO | Errno::EBADF => Self::INVALID_NAMESPACE,
            Errno::EROFS | Errno::EPERM => Self::WRITE_PROTECTED,
            Errno::EACCES => Self::ACCESS_DENIED,
            Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM => Self::NOT_READY,
            Errno::ECANCELED => Self::ABORTED_BY_REQUEST,
            Errno::ETIMEDOUT => Self::INTERNAL_PATH_ERROR,
            Errno::EIO | Errno::EILSEQ | Errno::ENODATA if write => Self::WRITE_FAULT,
            Errno::EIO | Errno::EILSEQ | Errno::ENODATA => Self::UNRECOVERED_READ_ERROR,
            _ => Self::INTERNAL_ERROR,
        }
    }

    /// The errno that says the same to a caller who speaks in errnos; 0 for success.
    #[must_use]
    pub fn errno(self) -> i32 {
        use nix::errno::Errno;
        let same = |other: Self| self.0 & 0x7ff == other.0 & 0x7ff;
        if self.is_success() {
            0
        } else if same(Self::INVALID_OPCODE) {
            Errno::EOPNOTSUPP as i32
        } else if same(Self::INVALID_FIELD) || same(Self::LBA_OUT_OF_RANGE) {
            Errno::EINVAL as i32
        } else if same(Self::CAPACITY_EXCEEDED) {
            Errno::ENOSPC as i32
        } else if same(Self::INVALID_NAMESPACE) {
            Errno::ENODEV as i32
        } else if same(Self::WRITE_PROTECTED) || same(Self::WRITE_TO_READ_ONLY) {
            Errno::EROFS as i32
        } else if same(Self::NOT_READY) {
            Errno::EAGAIN as i32
        } else if same(Self::RESERVATION_CONFLICT) {
            Errno::EBADE as i32
        } else if same(Self::COMPARE_FAILURE) {
            Errno::EILSEQ as i32
        } else if same(Self::ABORTED_BY_REQUEST) || same(Self::ABORTED_SQ_DELETION) {
            Errno::ECANCELED as i32
        } else {
            Errno::EIO as i32
        }
    }

    /// Writes the status with words that fit the command it is of.
    pub(crate) fn fmt_with(self, words: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{words} (SCT {:#x}, SC {:#04x}", self.sct(), self.sc())?;
        f.write_str(if self.do_not_retry() { ", do not retry)" } else { ")" })
    }

    /// `Ok` for success, the status itself otherwise.
    ///
    /// # Errors
    /// Returns the status when it is not success.
    pub fn ok(self) -> Result<(), NvmeStatus> {
        if self.is_success() { Ok(()) } else { Err(self) }
    }
}

impl Default for NvmeStatus {
    fn default() -> Self {
        Self::SUCCESS
    }
}

impl fmt::Display for NvmeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words =
            NAMED.iter().find(|(s, _)| s.0 & 0x7ff == self.0 & 0x7ff).map(|&(_, text)| text);
        self.fmt_with(words.unwrap_or("NVMe status"), f)
    }
}

impl fmt::Debug for NvmeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NvmeStatus({self})")
    }
}

impl std::error::Error for NvmeStatus {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_sixteen_bits() {
        let s = NvmeStatus::LBA_OUT_OF_RANGE;
        assert_eq!((s.sct(), s.sc(), s.do_not_retry()), (0, 0x80, true));
        let s = NvmeStatus::new(2, 0x81);
        assert_eq!(s, NvmeStatus::UNRECOVERED_READ_ERROR);
        assert_eq!(NvmeStatus::from_bits(s.bits()), s);
        assert!(s.with_do_not_retry(true).do_not_retry());
        assert!(NvmeStatus::SUCCESS.is_success() && !s.is_success());
    }

    #[test]
    fn errnos_keep_their_meaning() {
        assert_eq!(NvmeStatus::from_errno(libc_enospc(), true), NvmeStatus::CAPACITY_EXCEEDED);
        assert_eq!(NvmeStatus::from_errno(5, true), NvmeStatus::WRITE_FAULT);
        assert_eq!(NvmeStatus::from_errno(5, false), NvmeStatus::UNRECOVERED_READ_ERROR);
        assert_eq!(NvmeStatus::CAPACITY_EXCEEDED.errno(), libc_enospc());
        assert_eq!(NvmeStatus::SUCCESS.errno(), 0);
    }

    #[test]
    fn words_name_the_cause() {
        let text = NvmeStatus::COMPARE_FAILURE.to_string();
        assert_eq!(text, "compare failure (SCT 0x2, SC 0x85, do not retry)");
        assert_eq!(NvmeStatus::new(7, 3).to_string(), "NVMe status (SCT 0x7, SC 0x03)");
    }

    #[test]
    fn every_name_has_a_number_and_words_of_its_own() {
        let named = NAMED;
        for (at, (status, words)) in named.iter().enumerate() {
            for (other, other_words) in &named[at + 1..] {
                assert_ne!(status.bits() & 0x7ff, other.bits() & 0x7ff, "{words}");
                assert_ne!(words, other_words);
            }
        }
        assert_eq!(NvmeStatus::ANA_INACCESSIBLE.to_string(), "ANA inaccessible (SCT 0x3, SC 0x02)");
    }

    fn libc_enospc() -> i32 {
        nix::errno::Errno::ENOSPC as i32
    }
}
