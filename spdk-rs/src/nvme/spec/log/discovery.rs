//! The discovery log page (log page 70h, section 5.16.1.23).

use zerocopy::FromBytes;
use zerocopy::byteorder::little_endian::{U16, U64};

use crate::nvme::spec::error::{ReadError, front, front_slice};
use crate::nvme::spec::text;

wire! {
    /// Header of the page; entries follow.
    #[derive(Copy)]
    pub struct DiscoveryLogHeader: 1024 {
        /// Generation counter: changes with the page.
        0 => genctr: U64,
        /// Number of entries.
        8 => numrec: U64,
        /// Record format, 0.
        16 => recfmt: U16,
        /// Reserved.
        18 => reserved18: [u8; 1006],
    }
}

wire! {
    /// An entry of the page: one way to a subsystem.
    #[derive(Copy)]
    pub struct DiscoveryEntry: 1024 {
        /// Transport type, see [`trtype`].
        0 => trtype: u8,
        /// Address family, see [`adrfam`].
        1 => adrfam: u8,
        /// What kind of subsystem, see [`subtype`].
        2 => subtype: u8,
        /// Transport requirements, see [`treq`].
        3 => treq: u8,
        /// Port of the subsystem.
        4 => portid: U16,
        /// Controller to connect to, see [`cntlid`].
        6 => cntlid: U16,
        /// Largest admin submission queue in entries, at least 32.
        8 => asqsz: U16,
        /// Flags, see [`eflags`].
        10 => eflags: U16,
        /// Reserved.
        12 => reserved12: [u8; 20],
        /// Transport service identifier, ASCII padded with spaces: of TCP the port number.
        32 => trsvcid: [u8; 32],
        /// Reserved.
        64 => reserved64: [u8; 192],
        /// NQN of the subsystem, ended by a zero.
        256 => subnqn: [u8; 256],
        /// Transport address, ASCII padded with spaces.
        512 => traddr: [u8; 256],
        /// Transport specific address subtype: of TCP a [`TsasTcp`].
        768 => tsas: [u8; 256],
    }
}

impl DiscoveryEntry {
    /// The NQN of the subsystem.
    ///
    /// # Errors
    /// [`ReadError::Text`] when the field holds none.
    pub fn subnqn(&self) -> Result<&str, ReadError> {
        text::nqn("discovery entry SUBNQN", &self.subnqn)
    }

    /// The address, without padding.
    ///
    /// # Errors
    /// [`ReadError::Text`] when it is not UTF-8.
    pub fn traddr(&self) -> Result<&str, ReadError> {
        let what = "discovery entry TRADDR";
        std::str::from_utf8(text::padded(&self.traddr)).map_err(|_| ReadError::Text { what })
    }

    /// The service identifier, without padding.
    ///
    /// # Errors
    /// [`ReadError::Text`] when it is not UTF-8.
    pub fn trsvcid(&self) -> Result<&str, ReadError> {
        let what = "discovery entry TRSVCID";
        std::str::from_utf8(text::padded(&self.trsvcid)).map_err(|_| ReadError::Text { what })
    }

    /// The address subtype of the transport TCP.
    #[must_use]
    pub fn tsas_tcp(&self) -> TsasTcp {
        TsasTcp::read_from_prefix(&self.tsas).map(|(tsas, _)| tsas).unwrap_or_default()
    }
}

wire! {
    /// Transport specific address subtype of TCP.
    #[derive(Copy)]
    pub struct TsasTcp: 256 {
        /// Security type, see [`sectype`].
        0 => sectype: u8,
        /// Reserved.
        1 => reserved1: [u8; 255],
    }
}

numbers! {
    /// Values of [`TsasTcp::sectype`].
    pub mod sectype: u8 {
        NONE = 0, "no transport security";
        TLS_1_2 = 1, "TLS 1.2";
        TLS_1_3 = 2, "TLS 1.3";
    }
}

numbers! {
    /// Transport types; also of the error information log page.
    pub mod trtype: u8 {
        RDMA = 1, "RDMA";
        FC = 2, "Fibre Channel";
        TCP = 3, "TCP";
        LOOP = 254, "intra-host";
    }
}

numbers! {
    /// Address families.
    pub mod adrfam: u8 {
        IPV4 = 1, "IPv4";
        IPV6 = 2, "IPv6";
        IB = 3, "InfiniBand";
        FC = 4, "Fibre Channel";
        LOOP = 254, "intra-host";
    }
}

numbers! {
    /// Subsystem types.
    pub mod subtype: u8 {
        REFERRAL = 1, "referral to another discovery service";
        NVM = 2, "NVM subsystem";
        CURRENT = 3, "the discovery subsystem that reports";
    }
}

/// Values and bits of [`DiscoveryEntry::treq`].
pub mod treq {
    /// Bits 1:0: whether a secure channel is needed is not specified.
    pub const NOT_SPECIFIED: u8 = 0;
    /// Bits 1:0: a secure channel is required.
    pub const REQUIRED: u8 = 1;
    /// Bits 1:0: no secure channel is required.
    pub const NOT_REQUIRED: u8 = 2;
    /// Bit 2: submission queue flow control can be disabled.
    pub const SQ_FLOW_CONTROL_DISABLE: u8 = 1 << 2;
}

/// Values of the controller identifier that name no controller.
pub mod cntlid {
    /// Any controller, of the dynamic controller model.
    pub const DYNAMIC: u16 = 0xffff;
    /// Any controller, of the static controller model.
    pub const STATIC: u16 = 0xfffe;
    /// The largest identifier of a controller.
    pub const MAX: u16 = 0xffef;
}

flags! {
    /// Bits of [`DiscoveryEntry::eflags`].
    pub mod eflags: u16 {
        DUPLICATE = 0, "the information is returned by another entry too (DUPRETINFO)";
        EXPLICIT_PERSISTENT = 1, "explicit persistent connections are supported (EPCSD)";
        NO_CDC = 2, "no central discovery controller connectivity (NCC)";
    }
}

/// The page as received.
#[derive(Clone, Copy, Debug)]
pub struct DiscoveryLog<'a> {
    header: &'a DiscoveryLogHeader,
    entries: &'a [DiscoveryEntry],
}

impl<'a> DiscoveryLog<'a> {
    /// The page in the data of a Get Log Page command, whole.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when there are fewer entries than the header says, and
    /// [`ReadError::Value`] for a record format other than 0.
    pub fn read(data: &'a [u8]) -> Result<Self, ReadError> {
        let what = "discovery log page";
        let (header, rest) = front::<DiscoveryLogHeader>(what, data)?;
        if header.recfmt.get() != 0 {
            return Err(ReadError::Value { what: "RECFMT", value: header.recfmt.get().into() });
        }
        let count = usize::try_from(header.numrec.get()).unwrap_or(usize::MAX);
        let (entries, _) = front_slice(what, rest, count)?;
        Ok(Self { header, entries })
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &'a DiscoveryLogHeader {
        self.header
    }

    /// The entries.
    #[must_use]
    pub const fn entries(&self) -> &'a [DiscoveryEntry] {
        self.entries
    }
}
