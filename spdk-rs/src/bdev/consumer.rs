//! Who asks for I/O: a callback object, or a future.

use super::buf::IoBuf;
use crate::NvmeStatus;

/// The end of an I/O.
#[derive(Debug)]
#[must_use = "the status tells whether the data are there"]
pub struct IoCompletion {
    /// How it ended.
    pub status: NvmeStatus,
    /// The buffers that went in.
    pub buf: IoBuf,
    /// From submission to completion, in ticks of the reactor's clock.
    pub latency_ticks: u64,
    /// The second result of a command (NVMe completion dwords 0 and 1), else 0.
    pub result: u64,
}

impl IoCompletion {
    /// The buffers when all went well.
    ///
    /// # Errors
    /// The status otherwise; the buffers are then freed.
    pub fn ok(self) -> Result<IoBuf, NvmeStatus> {
        self.status.ok().map(|()| self.buf)
    }
}

/// Learns of completions. One object serves any number of I/Os; the tag tells them apart.
pub trait IoConsumer {
    /// An I/O has ended with `status`, `latency_ticks` of the reactor's clock after its submission;
    /// its buffers are back. Called from the reactor with no device or channel locked: it may
    /// submit.
    ///
    /// The arguments are what fits the registers of a call. The second result of a command is
    /// part of [`IoCompletion`], which the future form gives.
    fn io_done(&self, tag: u64, status: NvmeStatus, buf: IoBuf, latency_ticks: u64);
}

/// An I/O that was not accepted: nothing was submitted and no callback will come.
///
/// It travels in a box, so that the answer to an accepted I/O is one register; refusing is not
/// the fast path.
#[derive(Debug)]
#[must_use = "the I/O was not submitted"]
pub struct Refused {
    /// Why.
    pub status: NvmeStatus,
    /// The buffers, back.
    pub buf: IoBuf,
}

impl Refused {
    #[cold]
    #[inline(never)]
    pub(super) fn boxed(status: NvmeStatus, buf: IoBuf) -> Box<Self> {
        Box::new(Self { status, buf })
    }
}
