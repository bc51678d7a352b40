//! Hooks on every I/O of a device: for fault injection, tracing, limits.
//!
//! A device without interceptors pays one test of a flag word that is tested anyway.

use super::BdevIo;
use crate::NvmeStatus;

/// Makes the interceptor of each core.
pub trait InterceptorFactory: Send + Sync {
    /// An interceptor for one channel; called on the channel's core.
    fn make(&self) -> Box<dyn Interceptor>;
}

/// Sees each I/O of a channel on its way to the driver and back.
///
/// Several on one channel see submissions in the order in which they were added, completions in
/// the reverse order. Who returns `None` keeps the token and owes the I/O: it goes on with
/// [`BdevIo::resume`], or ends with [`BdevIo::complete`].
pub trait Interceptor {
    /// An I/O on its way to the driver.
    fn submission(&self, io: BdevIo) -> Option<BdevIo> {
        Some(io)
    }

    /// An I/O that has ended, on its way to its consumer; the status may be changed. After
    /// [`BdevIo::complete`] a kept I/O goes on to the next interceptor.
    fn completion(&self, io: BdevIo, status: NvmeStatus) -> Option<(BdevIo, NvmeStatus)> {
        Some((io, status))
    }
}
