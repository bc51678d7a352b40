//! The one NVMe-oF target of a process.
//!
//! It is started by the first method that needs it, so that its limits can be set before; and it
//! ends before the devices do: hosts are disconnected and their I/O has ended when [`Nvmf::stop`]
//! returns.

use std::sync::{Arc, OnceLock};

use spdk_rs::nvmf::target::{NvmfError, Target, TargetOptions};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::core::Engine;

/// The target, and what it will be started with.
#[derive(Default)]
pub struct Nvmf {
    options: Mutex<TargetOptions>,
    target: OnceLock<Arc<Target>>,
}

/// The target is there already.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the target has started: this has to be set before the first transport or subsystem")]
pub struct Started;

impl Nvmf {
    /// The target, started now if it is not yet.
    ///
    /// # Errors
    /// [`NvmfError`]; then it is not started.
    pub async fn target(&self, engine: &Engine) -> Result<Arc<Target>, NvmfError> {
        // Held while it starts, so that it starts once.
        let options = self.options.lock().await;
        if let Some(target) = self.target.get() {
            return Ok(Arc::clone(target));
        }
        let reactors = engine.runtime().reactors().to_vec();
        let target = Target::start(reactors, *options).await?;
        Ok(Arc::clone(self.target.get_or_init(|| target)))
    }

    /// The target, if it is started.
    #[must_use]
    pub fn started(&self) -> Option<Arc<Target>> {
        self.target.get().cloned()
    }

    /// What the target is, or will be, started with.
    pub async fn options(&self) -> TargetOptions {
        *self.options.lock().await
    }

    /// Changes what the target will be started with.
    ///
    /// # Errors
    /// [`Started`], unless nothing would change.
    pub async fn configure(&self, change: impl FnOnce(&mut TargetOptions)) -> Result<(), Started> {
        let mut options = self.options.lock().await;
        let mut changed = *options;
        change(&mut changed);
        if self.target.get().is_some() && changed != *options {
            return Err(Started);
        }
        *options = changed;
        Ok(())
    }

    /// Ends the target: listeners are closed, hosts disconnected, and none of their I/O is in
    /// flight any more.
    pub async fn stop(&self) {
        // Nobody starts it while it ends.
        let _options = self.options.lock().await;
        if let Some(target) = self.target.get() {
            target.stop().await;
            tracing::info!("the NVMe-oF target has ended");
        }
    }
}
