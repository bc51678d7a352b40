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
    /// The data did not arrive whole.
    DATA_TRANSFER_ERROR = GENERIC, 0x04, false, "data transfer error";
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
    /// Buffers and length do not belong together.
    DATA_SGL_LENGTH_INVALID = GENERIC, 0x0f, true, "buffer length does not match the block count";
    /// A command came when it must not.
    COMMAND_SEQUENCE_ERROR = GENERIC, 0x0c, true, "command sequence error";
    /// Host identifiers of 64 and 128 bits are mixed.
    HOST_ID_INCONSISTENT_FORMAT = GENERIC, 0x18, true, "host identifiers of both lengths are mixed";
    /// The device is write protected.
    WRITE_PROTECTED = GENERIC, 0x20, true, "the device is write protected";
    /// The range reaches beyond the end of the device.
    LBA_OUT_OF_RANGE = GENERIC, 0x80, true, "the block range reaches beyond the end of the device";
    /// The medium has no room for the data.
    CAPACITY_EXCEEDED = GENERIC, 0x81, true, "capacity exceeded";
    /// The device cannot serve the command now.
    NOT_READY = GENERIC, 0x82, false, "the device is not ready";
    /// A reservation forbids it.
    RESERVATION_CONFLICT = GENERIC, 0x83, true, "a reservation of another host forbids it";
    /// Attributes of a command contradict each other.
    CONFLICTING_ATTRIBUTES = COMMAND_SPECIFIC, 0x80, true, "conflicting attributes";
    /// Protection information is asked for where there is none.
    INVALID_PROTECTION_INFO = COMMAND_SPECIFIC, 0x81, true, "invalid protection information";
    /// A write to a range that may only be read.
    WRITE_TO_READ_ONLY = COMMAND_SPECIFIC, 0x82, true, "write to a range that is read-only";
    /// A copy is larger than the limits that were told.
    COMMAND_SIZE_LIMIT_EXCEEDED = COMMAND_SPECIFIC, 0x83, true, "command size limit exceeded";
    /// The medium refused the data.
    WRITE_FAULT = MEDIA, 0x80, false, "write fault";
    /// The medium could not return the data.
    UNRECOVERED_READ_ERROR = MEDIA, 0x81, false, "unrecovered read error";
    /// A compare found other data.
    COMPARE_FAILURE = MEDIA, 0x85, true, "compare failure";
    /// The medium denied access.
    ACCESS_DENIED = MEDIA, 0x86, true, "access denied";
    /// The path to the device failed inside the engine.
    INTERNAL_PATH_ERROR = PATH, 0x00, false, "internal path error";
    /// The namespace cannot be reached on this path any more.
    ANA_PERSISTENT_LOSS = PATH, 0x01, false, "asymmetric access: persistent loss";
    /// The namespace cannot be reached on this path now.
    ANA_INACCESSIBLE = PATH, 0x02, false, "asymmetric access: inaccessible";
    /// The state of the path is changing.
    ANA_TRANSITION = PATH, 0x03, false, "asymmetric access: in transition";
    /// The host aborted the command because of a path problem.
    ABORTED_BY_HOST = PATH, 0x71, false, "aborted by the host";
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
        } else if same(Self::COMPARE_FAILURE) {
            Errno::EILSEQ as i32
        } else if same(Self::ABORTED_BY_REQUEST) || same(Self::ABORTED_SQ_DELETION) {
            Errno::ECANCELED as i32
        } else {
            Errno::EIO as i32
        }
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
        let words = words.unwrap_or("NVMe status");
        write!(f, "{words} (SCT {:#x}, SC {:#04x}", self.sct(), self.sc())?;
        f.write_str(if self.do_not_retry() { ", do not retry)" } else { ")" })
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

    fn libc_enospc() -> i32 {
        nix::errno::Errno::ENOSPC as i32
    }
}
