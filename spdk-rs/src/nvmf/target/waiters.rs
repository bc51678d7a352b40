//! Waiting for a condition that somebody else brings about.

use std::task::{Poll, Waker};

use super::ControlLock;

/// Those who wait for a condition on shared state.
#[derive(Debug, Default)]
pub(in crate::nvmf) struct Waiters(ControlLock<Vec<Waker>>);

impl Waiters {
    /// Wakes all of them, to look again.
    pub(in crate::nvmf) fn wake(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        all.into_iter().for_each(Waker::wake);
    }

    /// Waits until `met`; it is asked again after every [`Waiters::wake`].
    pub(in crate::nvmf) async fn until(&self, met: impl Fn() -> bool) {
        std::future::poll_fn(|cx| {
            if met() {
                return Poll::Ready(());
            }
            self.0.lock().push(cx.waker().clone());
            // What came about before the waker was there has woken nobody.
            if met() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
