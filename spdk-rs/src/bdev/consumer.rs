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
    /// An I/O has ended. Called from the reactor with no device or channel locked: it may submit.
    fn io_done(&self, tag: u64, done: IoCompletion);
}

/// An I/O that was not accepted: nothing was submitted and no callback will come.
#[derive(Debug)]
#[must_use = "the I/O was not submitted"]
pub struct Refused {
    /// Why.
    pub status: NvmeStatus,
    /// The buffers, back.
    pub buf: IoBuf,
}
