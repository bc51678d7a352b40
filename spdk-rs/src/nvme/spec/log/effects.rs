//! The log pages that say what is supported (00h and 05h).

use zerocopy::byteorder::little_endian::U32;

bits! {
    /// What a command does (section 5.16.1.6).
    pub struct CommandEffects(u32) {
        /// The command is supported (CSUPP).
        csupp, with_csupp: bool = 0 : 0;
        /// Blocks' content may change (LBCC).
        lbcc, with_lbcc: bool = 1 : 1;
        /// A namespace's capability may change (NCC).
        ncc, with_ncc: bool = 2 : 2;
        /// The inventory of namespaces may change (NIC).
        nic, with_nic: bool = 3 : 3;
        /// The controller's capability may change (CCC).
        ccc, with_ccc: bool = 4 : 4;
        /// Submission and execution (CSE): 0 no restriction, 1 alone in the namespace, 2 alone.
        cse, with_cse: u8 = 18 : 16;
        /// UUID selection is supported.
        uss, with_uss: bool = 19 : 19;
        /// Scope of the command (CSP).
        csp, with_csp: u16 = 31 : 20;
    }
}

wire! {
    /// Commands supported and effects (log page 05h).
    pub struct CommandsSupportedAndEffects: 4096 {
        /// Of admin commands, by opcode, see [`CommandEffects`].
        0 => acs: [U32; 256],
        /// Of I/O commands, by opcode.
        1024 => iocs: [U32; 256],
        /// Reserved.
        2048 => reserved2048: [u8; 2048],
    }
}

bits! {
    /// Whether a log page is supported (section 5.16.1.1).
    pub struct SupportedLogPage(u32) {
        /// The page is supported (LSUPP).
        lsupp, with_lsupp: bool = 0 : 0;
        /// An offset may be an index (IOS).
        ios, with_ios: bool = 1 : 1;
        /// Specific to the page.
        specific, with_specific: u16 = 31 : 16;
    }
}

wire! {
    /// Supported log pages (log page 00h).
    pub struct SupportedLogPages: 1024 {
        /// By log page identifier, see [`SupportedLogPage`].
        0 => lids: [U32; 256],
    }
}
