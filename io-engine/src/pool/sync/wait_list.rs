//! Tasks that wait for something to change.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Wakers of the tasks that wait.
#[derive(Default)]
pub(in crate::pool) struct WaitList(RefCell<Vec<Waker>>);

impl WaitList {
    /// Lets everybody look again.
    pub(in crate::pool) fn wake_all(&self) {
        for waker in self.0.take() {
            waker.wake();
        }
    }

    /// Waits until `ready` gives a value; it is asked at first and after each wake-up.
    pub(in crate::pool) async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        poll_fn(|cx| {
            if let Some(value) = ready() {
                return Poll::Ready(value);
            }
            let mut wakers = self.0.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
