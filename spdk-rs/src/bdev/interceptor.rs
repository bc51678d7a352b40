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

    /// What is to become of the I/O that the interceptor keeps.
    fn told(&self, _notice: Notice) {}
}

/// What an interceptor is told about the I/O that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It goes on now: somebody asked for that, or the interceptor is being removed.
    Release,
    /// It ends now, as aborted: the device is being reset, or the reactor ends.
    Abandon,
    /// It ends now: the device was removed.
    Removed,
}

impl Notice {
    /// The status of what ends; none when it goes on.
    #[must_use]
    pub const fn status(self) -> Option<NvmeStatus> {
        match self {
            Self::Release => None,
            Self::Abandon => Some(NvmeStatus::ABORTED_SQ_DELETION),
            Self::Removed => Some(NvmeStatus::INVALID_NAMESPACE),
        }
    }
}
