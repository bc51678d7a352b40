//! How far the start has come, and which methods may be called then.

use jsonrpsee::types::ErrorObjectOwned;
use tokio::sync::watch;

use super::errors::RpcResult;
use super::{INVALID_STATE, When};

/// How far the start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// `--wait-for-rpc` was given: the rest waits for `framework_start_init`.
    Startup,
    /// What was held back is being done.
    Starting,
    /// Everything that was asked for at the start is there.
    Running,
}

/// The phase, and those who wait for the next one.
#[derive(Debug)]
pub struct Phases(watch::Sender<Phase>);

impl Default for Phases {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Running))
    }
}

impl Phases {
    /// The phase.
    #[must_use]
    pub fn now(&self) -> Phase {
        *self.0.borrow()
    }

    /// Holds the start back until [`Phases::begin`].
    pub fn hold(&self) {
        self.0.send_replace(Phase::Startup);
    }

    /// Goes on with the start, unless it goes on already.
    pub fn begin(&self) {
        self.0.send_if_modified(|phase| {
            let held = *phase == Phase::Startup;
            if held {
                *phase = Phase::Starting;
            }
            held
        });
    }

    /// The start is done.
    pub fn done(&self) {
        self.0.send_replace(Phase::Running);
    }

    /// Waits until somebody goes on with the start.
    pub async fn begun(&self) {
        // It does not fail: the sender lives as long as this.
        let _ = self.0.subscribe().wait_for(|phase| *phase != Phase::Startup).await;
    }

    /// Waits until the start is done.
    pub async fn running(&self) {
        let _ = self.0.subscribe().wait_for(|phase| *phase == Phase::Running).await;
    }

    /// Whether a method may be called now.
    ///
    /// # Errors
    /// SPDK's code -1 with its words.
    pub fn check(&self, when: When) -> RpcResult<()> {
        let words = match (when, self.now()) {
            (When::Always, _)
            | (When::Startup, Phase::Startup | Phase::Starting)
            | (When::Runtime, Phase::Running) => return Ok(()),
            (When::Startup, Phase::Running) => {
                "Method may only be called before framework is initialized. Use --wait-for-rpc \
                 command line parameter and then issue this RPC before the framework_start_init() \
                 RPC."
            }
            (When::Runtime, _) => {
                "Method may only be called after framework is initialized using \
                 framework_start_init RPC."
            }
        };
        Err(ErrorObjectOwned::owned(INVALID_STATE, words, None::<()>))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_their_time() {
        let phases = Phases::default();
        let allowed =
            || [When::Always, When::Startup, When::Runtime].map(|w| phases.check(w).is_ok());
        assert_eq!(allowed(), [true, false, true]);
        phases.begin();
        assert_eq!(phases.now(), Phase::Running, "nothing is held back");
        phases.hold();
        assert_eq!(allowed(), [true, true, false]);
        phases.begin();
        assert_eq!(phases.now(), Phase::Starting);
        phases.done();
        assert_eq!(phases.check(When::Startup).expect_err("running").code(), -1);
    }
}
