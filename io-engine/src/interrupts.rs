//! SIGINT and SIGTERM, for programs that do one thing and end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals. From the first one on that was listened for, neither ends the process by itself.
pub(crate) struct Interrupts {
    int: Signal,
    term: Signal,
}

impl Interrupts {
    /// Takes over both signals. Call inside of a runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new() -> io::Result<Self> {
        let (int, term) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Self { int: signal(int)?, term: signal(term)? })
    }

    /// Waits for the next of them.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}
