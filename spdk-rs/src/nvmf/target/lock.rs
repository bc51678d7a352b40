//! The lock of control-plane state.

#[expect(
    clippy::disallowed_types,
    reason = "control plane: connects, management, admin commands"
)]
use std::sync::{Mutex, MutexGuard, PoisonError};

/// State that the control plane and, for a connect or an admin command, a reactor look at. It is
/// held for a few instructions and never across an await.
#[derive(Debug, Default)]
#[expect(clippy::disallowed_types, reason = "see the import")]
pub(in crate::nvmf) struct ControlLock<T>(Mutex<T>);

impl<T> ControlLock<T> {
    pub(in crate::nvmf) fn new(value: T) -> Self {
        #[expect(clippy::disallowed_types, reason = "see the import")]
        Self(Mutex::new(value))
    }

    /// Takes the lock; a panic of an earlier holder does not matter, every change is whole.
    pub(in crate::nvmf) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
