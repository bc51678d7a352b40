//! An open device: who opened it, and whether it may write.

use std::sync::Arc;

use super::Bdev;
use super::claim::{ClaimError, ClaimKind};
use super::core::BdevCore;
use super::events::EventListener;
use super::handle::IoHandle;
use crate::reactor::Reactor;

/// An open device. Closed when the last handle and the last clone of the pointer are gone.
pub struct BdevDesc {
    bdev: Arc<Bdev>,
    id: u64,
    writable: bool,
}

/// Whether a descriptor may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Read only.
    Read,
    /// Read and write.
    ReadWrite,
}

impl BdevDesc {
    /// Opens a device; `owner` says who does, in words that an error can quote.
    ///
    /// # Errors
    /// [`ClaimError`] when a claim, the device itself or its removal forbids it.
    pub fn open(
        bdev: &Arc<Bdev>,
        mode: OpenMode,
        owner: &str,
        listener: Option<EventListener>,
    ) -> Result<Arc<Self>, ClaimError> {
        let device = || bdev.name().to_owned();
        if bdev.is_removed() {
            return Err(ClaimError::Removed { device: device() });
        }
        let writable = mode == OpenMode::ReadWrite;
        if writable && bdev.info().read_only {
            return Err(ClaimError::ReadOnlyDevice { device: device() });
        }
        let mut state = bdev.lock();
        let id = state.serial();
        state.claims.open(bdev.name(), id, owner, writable)?;
        if let Some(listener) = listener {
            state.listeners.push((id, listener));
        }
        drop(state);
        Ok(Arc::new(Self { bdev: Arc::clone(bdev), id, writable }))
    }

    /// The device.
    #[must_use]
    pub fn bdev(&self) -> &Arc<Bdev> {
        &self.bdev
    }

    /// Whether the descriptor may write.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Claims the device until [`BdevDesc::unclaim`] or the descriptor's end.
    ///
    /// # Errors
    /// [`ClaimError`] when another claim or writer is in the way.
    pub fn claim(&self, kind: ClaimKind) -> Result<(), ClaimError> {
        self.bdev.lock().claims.claim(self.bdev.name(), self.id, kind)
    }

    /// Gives the descriptor's claim up.
    pub fn unclaim(&self) {
        self.bdev.lock().claims.release(self.id);
    }

    /// A handle for I/O from the reactor of this thread.
    ///
    /// # Errors
    /// When the thread is no reactor, or the driver cannot open a channel here.
    pub fn io_handle(self: &Arc<Self>) -> std::io::Result<IoHandle> {
        let reactor = Reactor::current()
            .ok_or_else(|| std::io::Error::other("I/O handles are opened on a reactor"))?;
        let channel = BdevCore::of(&reactor).channel(&self.bdev)?;
        Ok(IoHandle::new(channel, Arc::clone(self)))
    }
}

impl Drop for BdevDesc {
    fn drop(&mut self) {
        let mut state = self.bdev.lock();
        state.claims.close(self.id);
        state.listeners.retain(|(id, _)| *id != self.id);
    }
}

impl Bdev {
    /// Who has the device open, in words; the same name as often as it has it open.
    #[must_use]
    pub fn openers(&self) -> Vec<String> {
        self.lock().claims.openers()
    }

    /// The claims that are held on the device, with their owners.
    #[must_use]
    pub fn claims(&self) -> Vec<(String, ClaimKind)> {
        self.lock().claims.held()
    }
}
