//! What a controller's task waits for: a set of reasons that fill up until it looks.

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

bitflags::bitflags! {
    /// Something that a controller's task has to look at.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Events: u16 {
        /// The admin queue has ended.
        const CLOSED = 1;
        /// Namespaces came, went or changed.
        const NAMESPACES = 1 << 1;
        /// ANA states changed.
        const ANA = 1 << 2;
        /// The discovery log page changed.
        const DISCOVERY = 1 << 3;
        /// An I/O queue was lost, or is waited for.
        const QUEUE_LOST = 1 << 4;
        /// Somebody asks for a reset.
        const RESET = 1 << 5;
        /// Somebody asks for the end.
        const STOP = 1 << 6;
        /// The controller's device is to be given back, or is there no longer.
        const LEAVING = 1 << 7;
    }
}

/// A set of events with one waiter. However many events come, it takes no more memory.
#[derive(Default)]
pub(crate) struct Signal {
    raised: Cell<Events>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// Adds events and wakes the waiter.
    pub(crate) fn raise(&self, events: Events) {
        self.raised.set(self.raised.get() | events);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes the events of a set that were raised.
    pub(crate) fn take(&self, of: Events) -> Events {
        let raised = self.raised.get();
        self.raised.set(raised - of);
        raised & of
    }

    /// Whether one of a set was raised.
    pub(crate) fn has(&self, of: Events) -> bool {
        self.raised.get().intersects(of)
    }

    /// Waits until one of a set is raised, and takes those of the set that were.
    pub(crate) async fn wait(&self, of: Events) -> Events {
        std::future::poll_fn(|cx| {
            let taken = self.take(of);
            if taken.is_empty() {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            } else {
                Poll::Ready(taken)
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn events_wait_until_they_are_taken() {
        let signal = Signal::default();
        signal.raise(Events::ANA);
        signal.raise(Events::ANA | Events::RESET);
        assert!(signal.has(Events::RESET | Events::STOP));
        let now = signal.wait(Events::ANA | Events::CLOSED).now_or_never();
        assert_eq!(now, Some(Events::ANA));
        assert_eq!(signal.wait(Events::ANA).now_or_never(), None);
        assert_eq!(signal.take(Events::all()), Events::RESET);
    }
}
