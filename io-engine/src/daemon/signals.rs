//! SIGTERM and SIGINT: the first asks for an orderly end, the second for an immediate one.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Counts the signals since it was made.
#[derive(Clone)]
pub(super) struct Signals {
    count: watch::Receiver<usize>,
    task: AbortHandle,
}

impl Signals {
    /// Takes over both signals. Call inside of the runtime.
    pub(super) fn listen() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (tell, count) = watch::channel(0);
        let task = tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    Some(()) = terminate.recv() => "SIGTERM",
                    Some(()) = interrupt.recv() => "SIGINT",
                    else => return,
                };
                tell.send_modify(|count| *count += 1);
                if *tell.borrow() == 1 {
                    tracing::info!("{name}: ending; another one ends at once");
                }
            }
        });
        Ok(Self { count, task: task.abort_handle() })
    }

    /// Waits until `count` signals have come in all.
    pub(super) async fn received(&mut self, count: usize) {
        if self.count.wait_for(|got| *got >= count).await.is_err() {
            // Nobody counts any more: no signal will come.
            std::future::pending().await
        }
    }

    /// Stops counting.
    pub(super) fn close(&self) {
        self.task.abort();
    }
}
