//! The namespace identification descriptors (CNS 03h, section 5.17.2.3).

use crate::nvme::spec::error::{ReadError, front, split};

/// Types of a descriptor (NIDT).
pub mod nidt {
    /// IEEE extended unique identifier, 8 bytes.
    pub const EUI64: u8 = 1;
    /// Namespace globally unique identifier, 16 bytes.
    pub const NGUID: u8 = 2;
    /// Namespace UUID, 16 bytes.
    pub const UUID: u8 = 3;
    /// I/O command set identifier, 1 byte.
    pub const CSI: u8 = 4;
}

wire! {
    /// What every descriptor begins with.
    #[derive(Copy)]
    pub struct NamespaceIdHeader: 4 {
        /// Type, see [`nidt`].
        0 => nidt: u8,
        /// Bytes of the identifier that follows; 0 ends the list.
        1 => nidl: u8,
        /// Reserved.
        2 => reserved2: [u8; 2],
    }
}

/// An identifier of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceId<'a> {
    /// IEEE extended unique identifier.
    Eui64([u8; 8]),
    /// Globally unique identifier.
    Nguid([u8; 16]),
    /// UUID, in network byte order.
    Uuid([u8; 16]),
    /// I/O command set, see [`csi`](super::csi).
    Csi(u8),
    /// A type this code does not know.
    Other {
        /// The type.
        kind: u8,
        /// The identifier.
        id: &'a [u8],
    },
}

impl NamespaceId<'_> {
    /// Appends the descriptor to a list; an identifier of more than 255 bytes is cut off.
    pub fn append_to(&self, list: &mut Vec<u8>) {
        let (kind, id): (u8, &[u8]) = match self {
            Self::Eui64(id) => (nidt::EUI64, id),
            Self::Nguid(id) => (nidt::NGUID, id),
            Self::Uuid(id) => (nidt::UUID, id),
            Self::Csi(id) => (nidt::CSI, std::slice::from_ref(id)),
            Self::Other { kind, id } => (*kind, id),
        };
        let len = u8::try_from(id.len()).unwrap_or(u8::MAX);
        list.extend_from_slice(&[kind, len, 0, 0]);
        list.extend_from_slice(&id[..usize::from(len)]);
    }
}

/// The descriptors of a list, up to the first without an identifier or the end of the bytes.
///
/// After an error the iteration ends.
#[derive(Clone, Debug)]
pub struct NamespaceIds<'a> {
    rest: &'a [u8],
}

impl<'a> NamespaceIds<'a> {
    /// The descriptors in the data of an Identify command.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    fn read(&mut self) -> Result<Option<NamespaceId<'a>>, ReadError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let what = "namespace identification descriptor";
        let (header, rest) = front::<NamespaceIdHeader>(what, self.rest)?;
        if header.nidl == 0 {
            return Ok(None);
        }
        let (id, rest) = split(what, rest, usize::from(header.nidl))?;
        self.rest = rest;
        let wrong = |_| ReadError::Value { what: "NIDL", value: header.nidl.into() };
        Ok(Some(match header.nidt {
            nidt::EUI64 => NamespaceId::Eui64(id.try_into().map_err(wrong)?),
            nidt::NGUID => NamespaceId::Nguid(id.try_into().map_err(wrong)?),
            nidt::UUID => NamespaceId::Uuid(id.try_into().map_err(wrong)?),
            nidt::CSI => {
                let [csi] = <[u8; 1]>::try_from(id).map_err(wrong)?;
                NamespaceId::Csi(csi)
            }
            kind => NamespaceId::Other { kind, id },
        }))
    }
}

impl<'a> Iterator for NamespaceIds<'a> {
    type Item = Result<NamespaceId<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read().transpose();
        if !matches!(read, Some(Ok(_))) {
            self.rest = &[];
        }
        read
    }
}
