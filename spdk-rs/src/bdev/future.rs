//! The end of an I/O as a future. It allocates nothing: the I/O's own slot holds the result.
#![allow(unsafe_code, reason = "the future shares the slot with the driver; see the invariants")]

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::channel::Channel;
use super::consumer::{IoCompletion, Refused};
use super::core::BdevCore;
use super::io::BdevIo;
use super::slot::{Done, IoSlot};

/// Resolves when the I/O has ended, with its status and its buffers.
///
/// Invariants: while the future is unanswered it keeps the slot from being freed; it touches only
/// the fields `waker` and `done`, which the driver does not; all of this is on one thread.
#[must_use = "the I/O runs, but its status would be lost"]
pub struct IoFuture {
    inner: Inner,
}

enum Inner {
    Running { slot: NonNull<IoSlot>, core: Rc<BdevCore> },
    Refused(Option<Box<Refused>>),
    Answered,
}

impl IoFuture {
    #[inline]
    pub(super) fn submit(channel: &Rc<Channel>, mut io: BdevIo, direct: bool) -> Self {
        let slot = NonNull::from(io.get_mut());
        let core = Rc::clone(channel.core());
        BdevCore::submit(channel, io, direct);
        Self { inner: Inner::Running { slot, core } }
    }

    pub(super) fn refused(refused: Box<Refused>) -> Self {
        Self { inner: Inner::Refused(Some(refused)) }
    }
}

impl Future for IoFuture {
    type Output = IoCompletion;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<IoCompletion> {
        match &mut self.inner {
            Inner::Running { slot, core } => {
                let slot = *slot;
                // SAFETY: the future is unanswered, and it gives the slot up when answered.
                if let Some(done) = unsafe { core.take_result(slot) } {
                    self.inner = Inner::Answered;
                    return Poll::Ready(done);
                }
                // SAFETY: the slot is live; no driver is running, since this is one thread.
                let waker = unsafe { &mut (*slot.as_ptr()).waker };
                match waker {
                    Some(same) => same.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Inner::Refused(refused) => match refused.take() {
                Some(refused) => {
                    let Refused { status, buf } = *refused;
                    self.inner = Inner::Answered;
                    Poll::Ready(IoCompletion { status, buf, latency_ticks: 0, result: 0 })
                }
                None => Poll::Pending,
            },
            // Polled again after its answer: it has none any more.
            Inner::Answered => Poll::Pending,
        }
    }
}

impl Drop for IoFuture {
    fn drop(&mut self) {
        let Inner::Running { slot, core } = &self.inner else { return };
        // SAFETY: the future is unanswered; the slot is given up here when the result is there.
        let answered = unsafe { core.take_result(*slot) }.is_some();
        if !answered {
            // SAFETY: the slot is live until the I/O ends; from now on it ends for nobody, and
            // then frees its buffers and itself.
            let fields = unsafe { &mut *slot.as_ptr() };
            fields.done = ManuallyDrop::new(Done::Nobody);
            fields.waker = None;
        }
    }
}
