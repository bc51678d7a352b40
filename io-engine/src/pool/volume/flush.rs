//! FLUSH: everything that was completed before is on the medium.
//!
//! One flush is under way at a time, also those of checkpoints. A flush that fails may have lost
//! what it was for, and the next one succeeds without it, as on Linux: if both were under way, the
//! second could say that the first one's data are there, and a superblock would lead to them.

use super::super::mutant::Mutant;
use super::super::stats::Counters;
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
            let result = self.flush_now("flush").await;
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

    /// A flush of the pool's own, for a checkpoint. It does not count when one of the others has
    /// failed.
    pub(in crate::pool) async fn flush_device(
        &self,
        operation: &'static str,
    ) -> Result<(), PoolError> {
        if Mutant::FlushBesideOthers.is_on() {
            return self.flush_now(operation).await;
        }
        let begin = || {
            let mut flusher = self.flusher.borrow_mut();
            (!std::mem::replace(&mut flusher.running, true)).then_some(())
        };
        self.flushed.until(begin).await;
        let result = match self.check_writable() {
            Ok(()) => self.flush_now(operation).await,
            stopped => stopped,
        };
        if let Err(error @ PoolError::Device { .. }) = &result {
            self.stop(format!("a flush failed: {error}"));
        }
        self.flusher.borrow_mut().running = false;
        self.flushed.wake_all();
        result
    }

    async fn flush_now(&self, operation: &'static str) -> Result<(), PoolError> {
        let begun = Counters::now();
        let status = self.device.flush().await;
        self.counters.flush(begun);
        status.ok().map_err(|status| PoolError::device(operation, 0, status))
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
