//! What an I/O carries: no buffer, one, or a list. Owned by the operation while it is in flight.

use super::lent::Lent;
use crate::env::{DmaBuf, IoVec};

/// The buffers of one I/O.
///
/// They move into the operation at submission and come back with its result.
#[derive(Debug, Default)]
pub enum IoBuf {
    /// No data.
    #[default]
    None,
    /// One contiguous buffer.
    One(DmaBuf),
    /// A scatter-gather list.
    List(Box<SgList>),
    /// Memory of the device that a read lends: see [`IoFlags::LEND`](super::IoFlags::LEND).
    Lent(Lent),
}

impl IoBuf {
    /// The total number of bytes.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(buf) => buf.len(),
            Self::List(list) => list.len(),
            Self::Lent(lent) => lent.len(),
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table for the device. It stays where it is when the value is moved.
    #[inline(always)]
    pub(crate) fn io_vecs(&self) -> &[IoVec] {
        match self {
            Self::None => &[],
            Self::One(buf) => buf.io_vecs(),
            Self::List(list) => list.iovs(),
            Self::Lent(lent) => lent.io_vecs(),
        }
    }

    /// The one buffer, if it is one.
    #[must_use]
    pub fn into_one(self) -> Option<DmaBuf> {
        match self {
            Self::One(buf) => Some(buf),
            Self::None | Self::List(_) | Self::Lent(_) => None,
        }
    }

    /// The list, if it is one.
    #[must_use]
    pub fn into_list(self) -> Option<Box<SgList>> {
        match self {
            Self::List(list) => Some(list),
            Self::None | Self::One(_) | Self::Lent(_) => None,
        }
    }
}

impl From<DmaBuf> for IoBuf {
    fn from(buf: DmaBuf) -> Self {
        Self::One(buf)
    }
}

impl From<Box<SgList>> for IoBuf {
    fn from(list: Box<SgList>) -> Self {
        Self::List(list)
    }
}

/// A scatter-gather list: buffers in the order of the blocks they hold.
///
/// It is built once and used for many I/Os; the table for the device is kept beside the buffers.
#[derive(Debug, Default)]
pub struct SgList {
    bufs: Vec<DmaBuf>,
    iovs: Vec<IoVec>,
    len: usize,
    /// The lengths of all pieces or-ed together: its low bits tell the common alignment.
    length_bits: usize,
}

impl SgList {
    /// A list of these buffers; empty ones are left out.
    #[must_use]
    pub fn new(bufs: Vec<DmaBuf>) -> Box<Self> {
        let bufs: Vec<_> = bufs.into_iter().filter(|buf| !buf.is_empty()).collect();
        let iovs: Vec<_> = bufs.iter().map(DmaBuf::io_vec).collect();
        let len = iovs.iter().map(IoVec::len).sum();
        let length_bits = iovs.iter().fold(0, |bits, iov| bits | iov.len());
        Box::new(Self { bufs, iovs, len, length_bits })
    }

    /// The total number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The buffers.
    #[must_use]
    pub fn bufs(&self) -> &[DmaBuf] {
        &self.bufs
    }

    /// The bytes of one buffer, to be changed.
    pub fn buf_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        self.bufs.get_mut(index).map(DmaBuf::as_mut_slice)
    }

    /// The buffers themselves.
    #[must_use]
    pub fn into_bufs(self) -> Vec<DmaBuf> {
        self.bufs
    }

    #[inline(always)]
    pub(super) fn iovs(&self) -> &[IoVec] {
        &self.iovs
    }

    #[inline(always)]
    pub(super) fn length_bits(&self) -> usize {
        self.length_bits
    }
}
