//! FLUSH: everything that was completed before is on the medium.

use super::super::mutant::Mutant;
use super::super::{Pool, PoolError};

impl Pool {
    /// Flushes the device; everybody who asks meanwhile shares the next flush. After a failure the
    /// pool takes no more changes: nobody can know what the device still has.
    pub(super) async fn flush(&self) -> Result<(), PoolError> {
        self.check_writable()?;
        if Mutant::NoFlushOnFlush.is_on() {
            return Ok(());
        }
        if !Mutant::NoWaitForRecords.is_on()
            && let Err(status) = self.journal.settled().await
        {
            return self.stop_without_journal(status);
        }
        let wanted = self.flusher.borrow().begun + 1;
        loop {
            let turn = self.flushed.until(|| self.next_flush(wanted)).await;
            let Some(number) = turn else { break };
            let point = self.journal.flush_point();
            let result = self.flush_device("flush").await;
            let mut flusher = self.flusher.borrow_mut();
            (flusher.running, flusher.ended) = (false, number);
            drop(flusher);
            match result {
                Ok(()) => self.journal.flushed(point),
                Err(error) if Mutant::ForgiveFlushError.is_on() => {
                    self.flushed.wake_all();
                    return Err(error);
                }
                Err(error) => self.stop(format!("a flush failed: {error}")),
            }
            self.flushed.wake_all();
        }
        self.check_writable()
    }

    /// The number of the flush that the asker is to do, none when the wanted one has ended, and
    /// nothing while another one is running.
    fn next_flush(&self, wanted: u64) -> Option<Option<u64>> {
        let mut flusher = self.flusher.borrow_mut();
        if flusher.ended >= wanted || self.stopped.borrow().is_some() {
            return Some(None);
        }
        if flusher.running {
            return None;
        }
        flusher.running = true;
        flusher.begun += 1;
        Some(Some(flusher.begun))
    }
}
