//! Waiting inside a task: for time to pass, or for others to have a turn.

use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::Reactor;
use super::timer::TimerKey;

/// A wait for a tick of the reactor's clock.
#[must_use = "a wait does nothing unless it is awaited"]
pub struct Sleep {
    reactor: Weak<Reactor>,
    deadline: u64,
    key: Option<TimerKey>,
}

/// Waits for `duration` on this thread's reactor; ends at once on a thread that is none.
pub fn sleep(duration: Duration) -> Sleep {
    let deadline = Reactor::current().map_or(0, |reactor| {
        reactor.clock().ticks().saturating_add(reactor.clock().ticks_in(duration))
    });
    sleep_until(deadline)
}

/// Waits for a tick of the clock of this thread's reactor.
pub(crate) fn sleep_until(deadline: u64) -> Sleep {
    let reactor = Reactor::current();
    Sleep { reactor: reactor.as_ref().map_or_else(Weak::new, Rc::downgrade), deadline, key: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(reactor) = self.reactor.upgrade() else { return Poll::Ready(()) };
        if reactor.clock().ticks() >= self.deadline {
            return Poll::Ready(());
        }
        match self.key {
            Some(key) => reactor.timers().update(key, cx.waker()),
            None => self.key = Some(reactor.timers().set(self.deadline, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(key), Some(reactor)) = (self.key, self.reactor.upgrade()) {
            reactor.timers().cancel(key);
        }
    }
}

/// Lets everything else on the reactor have a turn.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
