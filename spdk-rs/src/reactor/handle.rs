//! How other threads reach a reactor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::channel::oneshot;
use spdk_rs_sys::cpu::CoreId;
use thiserror::Error;

use super::Reactor;
use super::mailbox::{Call, Full, Mailbox, Message};
use super::stats::{ReactorCounters, ReactorStats};

/// The reactor has ended, or the work panicked there: no answer will come.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the reactor on core {0} has ended")]
pub struct ReactorGone(pub CoreId);

/// A reactor as seen from any thread.
#[derive(Clone)]
pub struct ReactorHandle {
    core: CoreId,
    mailbox: Arc<Mailbox>,
    counters: Arc<ReactorCounters>,
}

impl ReactorHandle {
    pub(super) fn new(core: CoreId, mailbox: Arc<Mailbox>, counters: Arc<ReactorCounters>) -> Self {
        Self { core, mailbox, counters }
    }

    /// The core the reactor stands for.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// What the reactor counted so far. Reads memory only; the reactor is not disturbed.
    #[must_use]
    pub fn stats(&self) -> ReactorStats {
        self.counters.snapshot()
    }

    /// Whether the reactor has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// Runs `f` on the reactor if its mailbox has room now.
    ///
    /// # Errors
    /// Gives `f` back when the mailbox is full or the reactor has ended.
    pub fn try_send<F>(&self, f: F) -> Result<(), Refused>
    where
        F: FnOnce(&Rc<Reactor>) + Send + 'static,
    {
        let call: Call = Box::new(f);
        if self.mailbox.is_closed() {
            return Err(Refused(call));
        }
        self.mailbox.try_push(Message::Call(call)).map_err(|Full(message)| match message {
            Message::Call(call) => Refused(call),
            Message::Offloaded { .. } => Refused(Box::new(|_| {})),
        })
    }

    /// Runs `f` on the reactor; waits while its mailbox is full.
    ///
    /// # Errors
    /// [`ReactorGone`] when the reactor has ended.
    pub async fn send<F>(&self, f: F) -> Result<(), ReactorGone>
    where
        F: FnOnce(&Rc<Reactor>) + Send + 'static,
    {
        let call: Call = Box::new(f);
        SendFuture { handle: self, call: Some(call) }.await
    }

    /// Runs `f` on the reactor and returns its result.
    ///
    /// # Errors
    /// [`ReactorGone`] when the reactor ended before it answered.
    pub async fn call<R, F>(&self, f: F) -> Result<R, ReactorGone>
    where
        R: Send + 'static,
        F: FnOnce(&Rc<Reactor>) -> R + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.send(move |reactor| {
            let _ = tell.send(f(reactor));
        })
        .await?;
        told.await.map_err(|_| ReactorGone(self.core))
    }

    /// Runs the future that `f` makes as a task of the reactor and returns its result.
    ///
    /// # Errors
    /// [`ReactorGone`] when the reactor ended before it answered.
    pub async fn spawn<R, F, Fut>(&self, f: F) -> Result<R, ReactorGone>
    where
        R: Send + 'static,
        F: FnOnce(Rc<Reactor>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.send(move |reactor| {
            let future = f(Rc::clone(reactor));
            reactor.spawn("cross-core task", async move {
                let _ = tell.send(future.await);
            });
        })
        .await?;
        told.await.map_err(|_| ReactorGone(self.core))
    }
}

impl fmt::Debug for ReactorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReactorHandle(core {})", self.core)
    }
}

/// A closure that a reactor did not take; it can be sent again.
pub struct Refused(pub Call);

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refused(the mailbox is full or the reactor has ended)")
    }
}

/// A send that waits for room.
struct SendFuture<'a> {
    handle: &'a ReactorHandle,
    call: Option<Call>,
}

impl Future for SendFuture<'_> {
    type Output = Result<(), ReactorGone>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mailbox = &self.handle.mailbox;
        if mailbox.is_closed() {
            return Poll::Ready(Err(ReactorGone(self.handle.core)));
        }
        let Some(call) = self.call.take() else { return Poll::Ready(Ok(())) };
        match self.handle.mailbox.try_push(Message::Call(call)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Full(message)) => {
                if let Message::Call(call) = message {
                    self.call = Some(call);
                }
                self.handle.mailbox.wait_for_room(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
