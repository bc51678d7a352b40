//! Lists of namespaces and controllers, and the I/O command set combinations.

use zerocopy::FromZeros;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use crate::nvme::spec::error::{ReadError, front, front_slice};

wire! {
    /// A namespace list: identifiers in ascending order, zero behind the last.
    pub struct NamespaceList: 4096 {
        /// The identifiers.
        0 => nsid: [U32; 1024],
    }
}

impl NamespaceList {
    /// The most identifiers that one list holds.
    pub const LEN_MAX: usize = 1024;

    /// A list of the identifiers, in the order given; those beyond the room are left out.
    pub fn of(nsids: impl IntoIterator<Item = u32>) -> Self {
        let mut list = Self::new_zeroed();
        for (entry, nsid) in list.nsid.iter_mut().zip(nsids) {
            entry.set(nsid);
        }
        list
    }
}

/// The identifiers of a namespace list of any length, up to the first zero.
#[derive(Clone, Debug)]
pub struct ActiveNamespaces<'a> {
    rest: &'a [U32],
}

impl<'a> ActiveNamespaces<'a> {
    /// The identifiers in the data of an Identify command; bytes behind the last whole entry
    /// are left out.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        let rest = front_slice("namespace list", data, data.len() / 4).map_or(&[][..], |(s, _)| s);
        Self { rest }
    }
}

impl Iterator for ActiveNamespaces<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first.get()).filter(|&nsid| nsid != 0).or_else(|| {
            self.rest = &[];
            None
        })
    }
}

wire! {
    /// A controller list: identifiers in ascending order.
    pub struct ControllerList: 4096 {
        /// How many identifiers follow, at most 2047.
        0 => count: U16,
        /// The identifiers.
        2 => cntlid: [U16; 2047],
    }
}

impl ControllerList {
    /// A list of the identifiers, in the order given; those beyond the room are left out.
    pub fn of(cntlids: impl IntoIterator<Item = u16>) -> Self {
        let mut list = Self::new_zeroed();
        let mut count = 0;
        for (entry, cntlid) in list.cntlid.iter_mut().zip(cntlids) {
            entry.set(cntlid);
            count += 1;
        }
        list.count.set(count);
        list
    }

    /// The identifiers of a list in the data of an Identify command.
    ///
    /// # Errors
    /// [`ReadError::Truncated`] when there are fewer than the list says.
    pub fn read(data: &[u8]) -> Result<&[U16], ReadError> {
        let (count, rest) = front::<U16>("controller list", data)?;
        Ok(front_slice("controller list", rest, usize::from(count.get()))?.0)
    }
}

wire! {
    /// I/O command set combinations (CNS 1Ch): vectors of bits, see [`io_command_set`].
    pub struct IoCommandSetCombinations: 4096 {
        /// The combinations; the first that is zero ends the list.
        0 => vector: [U64; 512],
    }
}

flags! {
    /// Bits of an entry of [`IoCommandSetCombinations`]: bit n is CSI n.
    pub mod io_command_set: u64 {
        NVM = 0, "NVM command set";
        KEY_VALUE = 1, "key value command set";
        ZONED = 2, "zoned namespace command set";
    }
}
