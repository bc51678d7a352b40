//! The gate: changes pass it one beside the other, a checkpoint closes it.

use std::cell::Cell;

use super::WaitList;

/// Lets many pass, or one alone. Who wants to be alone is waited for by all that come later.
#[derive(Default)]
pub(in crate::pool) struct Gate {
    inside: Cell<usize>,
    closed: Cell<bool>,
    closing: Cell<usize>,
    waiters: WaitList,
}

/// Someone is inside.
pub(in crate::pool) struct Pass<'a>(&'a Gate);

/// Someone is inside alone.
pub(in crate::pool) struct Closed<'a>(&'a Gate);

/// Counts who wants to be alone, also when the wait is given up.
struct Closing<'a>(&'a Gate);

impl Gate {
    /// Waits until the gate is open, and passes.
    pub(in crate::pool) async fn enter(&self) -> Pass<'_> {
        self.waiters
            .until(|| {
                let open = !self.closed.get() && self.closing.get() == 0;
                open.then(|| self.inside.set(self.inside.get() + 1))
            })
            .await;
        Pass(self)
    }

    /// Waits until nobody is inside, and keeps it so.
    pub(in crate::pool) async fn close(&self) -> Closed<'_> {
        self.closing.set(self.closing.get() + 1);
        let closing = Closing(self);
        self.waiters
            .until(|| {
                let free = !self.closed.get() && self.inside.get() == 0;
                free.then(|| self.closed.set(true))
            })
            .await;
        drop(closing);
        Closed(self)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get() - 1);
        if self.0.inside.get() == 0 {
            self.0.waiters.wake_all();
        }
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.closed.set(false);
        self.0.waiters.wake_all();
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.closing.set(self.0.closing.get() - 1);
        self.0.waiters.wake_all();
    }
}
