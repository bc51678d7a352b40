//! Commands that change namespaces, media and firmware: Format NVM (section 5.14), Sanitize (5.24),
//! Namespace Management and Attachment (5.23, 5.22), Firmware Image Download and Commit (5.13, 5.12),
//! and Doorbell Buffer Config (5.8).

use zerocopy::byteorder::little_endian::{U16, U32};

use super::identify::{IdentifyCdw11, csi};
use super::{Sqe, opcode};

bits! {
    /// Command dword 10 of Format NVM.
    pub struct FormatCdw10(u32) {
        /// Index of the LBA format, low four bits (LBAFL).
        lbafl, with_lbafl: u8 = 3 : 0;
        /// Metadata lie behind each block's data (MSET).
        mset, with_mset: bool = 4 : 4;
        /// Protection information (PI); 0 for none.
        pi, with_pi: u8 = 7 : 5;
        /// Protection information lies first in the metadata (PIL).
        pil, with_pil: bool = 8 : 8;
        /// Secure erase settings (SES), see [`ses`].
        ses, with_ses: u8 = 11 : 9;
        /// Index of the LBA format, high two bits (LBAFU).
        lbafu, with_lbafu: u8 = 13 : 12;
    }
}

numbers! {
    /// Values of [`FormatCdw10::ses`].
    pub mod ses: u8 {
        NONE = 0, "no secure erase";
        USER_DATA = 1, "user data erase";
        CRYPTO = 2, "cryptographic erase";
    }
}

bits! {
    /// Command dword 10 of Sanitize.
    pub struct SanitizeCdw10(u32) {
        /// What to do (SANACT), see [`sanitize_action`].
        action, with_action: u8 = 2 : 0;
        /// A failure need not be final (AUSE).
        ause, with_ause: bool = 3 : 3;
        /// Passes of an overwrite (OWPASS); 0 for 16.
        passes, with_passes: u8 = 7 : 4;
        /// Each pass inverts the pattern of the one before (OIPBP).
        invert, with_invert: bool = 8 : 8;
        /// Do not deallocate afterwards (NDAS).
        no_deallocate, with_no_deallocate: bool = 9 : 9;
    }
}

numbers! {
    /// Values of [`SanitizeCdw10::action`].
    pub mod sanitize_action: u8 {
        EXIT_FAILURE = 1, "exit failure mode";
        BLOCK_ERASE = 2, "block erase";
        OVERWRITE = 3, "overwrite";
        CRYPTO_ERASE = 4, "crypto erase";
    }
}

flags! {
    /// Bits of the field SANICAP of a controller.
    pub mod sanicap: u32 {
        CRYPTO_ERASE = 0, "crypto erase";
        BLOCK_ERASE = 1, "block erase";
        OVERWRITE = 2, "overwrite";
    }
}

wire! {
    /// Sanitize status (log page 81h, section 5.16.1.25).
    pub struct SanitizeStatus: 512 {
        /// Progress in parts of 65536; `0xffff` when none is under way.
        0 => sprog: U16,
        /// Status: state in bits 2:0 (see [`sanitize_state`]), overwrite passes done in 7:3, bit 8
        /// when nothing was written since.
        2 => sstat: U16,
        /// Command dword 10 of the command.
        4 => scdw10: U32,
        /// Estimated seconds of an overwrite, a block erase and a crypto erase; `0xffff_ffff` when
        /// there is no estimate.
        8 => estimates: [U32; 3],
        /// The same without deallocation.
        20 => estimates_no_deallocate: [U32; 3],
        /// Reserved.
        32 => reserved32: [u8; 480],
    }
}

numbers! {
    /// States of a sanitize operation: bits 2:0 of [`SanitizeStatus::sstat`].
    pub mod sanitize_state: u16 {
        NEVER = 0, "never sanitized";
        COMPLETED = 1, "completed";
        IN_PROGRESS = 2, "in progress";
        FAILED = 3, "failed";
        COMPLETED_UNDEALLOCATED = 4, "completed without the deallocation that was asked for";
    }
}

bits! {
    /// Command dword 10 of Firmware Commit.
    pub struct FirmwareCommitCdw10(u32) {
        /// Slot (FS); 0 for the controller's choice.
        slot, with_slot: u8 = 2 : 0;
        /// What to do (CA), see [`commit_action`].
        action, with_action: u8 = 5 : 3;
    }
}

numbers! {
    /// Values of [`FirmwareCommitCdw10::action`].
    pub mod commit_action: u8 {
        REPLACE = 0, "put the image into the slot";
        REPLACE_AND_ACTIVATE = 1, "put the image into the slot, active after the next reset";
        ACTIVATE = 2, "the slot's image is active after the next reset";
        ACTIVATE_NOW = 3, "activate the slot's image at once";
    }
}

impl Sqe {
    /// Format NVM with an LBA format (index 0 to 63) and a secure erase, see [`ses`].
    #[must_use]
    pub fn format(nsid: u32, lbaf: u8, erase: u8) -> Self {
        let how = FormatCdw10(0).with_lbafl(lbaf).with_lbafu(lbaf >> 4).with_ses(erase);
        let mut sqe = Self::new(opcode::admin::FORMAT_NVM, nsid);
        sqe.cdw10.set(how.0);
        sqe
    }

    /// Sanitize, with the pattern of an overwrite.
    #[must_use]
    pub fn sanitize(how: SanitizeCdw10, pattern: u32) -> Self {
        let mut sqe = Self::new(opcode::admin::SANITIZE, 0);
        sqe.cdw10.set(how.0);
        sqe.cdw11.set(pattern);
        sqe
    }

    /// Makes a namespace of the NVM command set as its data say; the result is its number.
    #[must_use]
    pub fn create_namespace() -> Self {
        let mut sqe = Self::new(opcode::admin::NAMESPACE_MANAGEMENT, 0);
        sqe.cdw11.set(IdentifyCdw11(0).with_csi(csi::NVM).0);
        sqe
    }

    /// Deletes a namespace.
    #[must_use]
    pub fn delete_namespace(nsid: u32) -> Self {
        let mut sqe = Self::new(opcode::admin::NAMESPACE_MANAGEMENT, nsid);
        sqe.cdw10.set(1);
        sqe
    }

    /// Attaches a namespace to the controllers of a list, or detaches it.
    #[must_use]
    pub fn attach_namespace(nsid: u32, attach: bool) -> Self {
        let mut sqe = Self::new(opcode::admin::NAMESPACE_ATTACHMENT, nsid);
        sqe.cdw10.set(u32::from(!attach));
        sqe
    }

    /// A piece of a firmware image: where it begins and how long it is, in dwords; at least one.
    #[must_use]
    pub fn firmware_download(offset_dwords: u32, dwords: u32) -> Self {
        let mut sqe = Self::new(opcode::admin::FIRMWARE_DOWNLOAD, 0);
        sqe.cdw10.set(dwords.max(1) - 1);
        sqe.cdw11.set(offset_dwords);
        sqe
    }

    /// Commits a firmware image, see [`commit_action`].
    #[must_use]
    pub fn firmware_commit(slot: u8, action: u8) -> Self {
        let mut sqe = Self::new(opcode::admin::FIRMWARE_COMMIT, 0);
        sqe.cdw10.set(FirmwareCommitCdw10(0).with_slot(slot).with_action(action).0);
        sqe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let format = Sqe::format(3, 0x25, ses::CRYPTO);
        assert_eq!((format.opcode, format.nsid.get()), (0x80, 3));
        assert_eq!(format.cdw10.get(), 0x2405, "LBAFU 2, SES 2, LBAFL 5");
        let how = SanitizeCdw10(0)
            .with_action(sanitize_action::OVERWRITE)
            .with_passes(3)
            .with_invert(true);
        let sanitize = Sqe::sanitize(how, 0xaa55_aa55);
        assert_eq!((sanitize.cdw10.get(), sanitize.cdw11.get()), (0x133, 0xaa55_aa55));
        let load = Sqe::firmware_download(1024, 1024);
        assert_eq!((load.cdw10.get(), load.cdw11.get()), (1023, 1024));
        assert_eq!(Sqe::firmware_commit(2, commit_action::ACTIVATE_NOW).cdw10.get(), 0x1a);
        assert_eq!(Sqe::attach_namespace(4, false).cdw10.get(), 1);
        assert_eq!(Sqe::delete_namespace(4).cdw10.get(), 1);
    }
}
