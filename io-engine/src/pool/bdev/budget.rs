//! How much buffer memory the I/O of one core may have at once.

use std::cell::Cell;
use std::rc::Rc;

use super::super::sync::WaitList;

/// Bytes that may be in use; whoever finds too many in use waits.
pub(super) struct Budget {
    bytes_max: usize,
    used: Cell<usize>,
    waiters: WaitList,
}

/// A part of the budget, given back when it is dropped.
pub(super) struct Share {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new(Self { bytes_max, used: Cell::new(0), waiters: WaitList::default() })
    }

    /// Waits until so many bytes are there. One I/O always passes, however large it is.
    pub(super) async fn take(self: &Rc<Self>, bytes: usize) -> Share {
        self.waiters
            .until(|| {
                let used = self.used.get();
                let fits = used == 0 || used + bytes <= self.bytes_max;
                fits.then(|| self.used.set(used + bytes))
            })
            .await;
        Share { budget: Rc::clone(self), bytes }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.set(self.budget.used.get() - self.bytes);
        self.budget.waiters.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn what_is_too_much_waits_and_one_always_passes() {
        let budget = Budget::new(10);
        let large = budget.take(100).now_or_never().expect("nothing is in use");
        assert!(budget.take(1).now_or_never().is_none());
        drop(large);
        let small = budget.take(6).now_or_never().expect("it fits");
        assert!(budget.take(5).now_or_never().is_none());
        assert!(budget.take(4).now_or_never().is_some());
        drop(small);
        assert_eq!(budget.used.get(), 0);
    }
}
