//! NVMe commands that are passed to a device as they are.

/// A submission queue entry (NVMe Base Specification 2.0, section 3.3.3.1): sixteen dwords in
/// host order, with the data pointer, the command identifier and the namespace left to the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NvmeCommand(pub [u32; 16]);

impl NvmeCommand {
    /// A command of an opcode, all else zero.
    #[must_use]
    pub const fn new(opcode: u8) -> Self {
        let mut dwords = [0; 16];
        dwords[0] = opcode as u32;
        Self(dwords)
    }

    /// The same with command dword `index` (10 to 15) set.
    #[must_use]
    pub const fn with_cdw(mut self, index: usize, value: u32) -> Self {
        self.0[index] = value;
        self
    }

    /// The opcode (CDW0 bits 7:0).
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        self.0[0].to_le_bytes()[0]
    }
}
