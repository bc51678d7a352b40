//! The limits on one core: tokens that were fetched, and I/O that waits for more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::super::channel::{Channel, Gate};
use super::super::slot::IoSlot;
use super::super::{BdevIo, IoType};
use super::{LIMITS, SharedLimits};
use crate::reactor::{Sleep, sleep_until};

/// Which way data go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read = 0,
    Write = 1,
}

/// Tokens that a core has fetched.
#[derive(Clone, Copy, Default)]
struct Fetched {
    tokens: u64,
    /// The tick from which on they may be used.
    from: u64,
}

/// The limits of one channel.
pub(in super::super) struct Throttle {
    shared: Arc<SharedLimits>,
    hz: u64,
    fetched: [Cell<Fetched>; LIMITS],
    /// What waits, reads and writes apart.
    queues: [RefCell<VecDeque<BdevIo>>; 2],
    /// The queue that is looked at first the next time.
    turn: Cell<usize>,
    /// The task that lets I/O go when its time has come.
    waker: Cell<Option<Waker>>,
}

impl Throttle {
    pub(super) fn new(shared: Arc<SharedLimits>, hz: u64) -> Self {
        Self {
            shared,
            hz,
            fetched: Default::default(),
            queues: Default::default(),
            turn: Cell::new(0),
            waker: Cell::new(None),
        }
    }

    /// The I/O back when it may go on now; else it waits in here.
    pub(super) fn admit(&self, io: BdevIo, now: u64) -> Option<BdevIo> {
        let Some((way, bytes)) = demand(&io) else { return Some(io) };
        let queue = &self.queues[way as usize];
        if queue.borrow().is_empty() && self.take(way, bytes, now).is_ok() {
            return Some(io);
        }
        queue.borrow_mut().push_back(io);
        if queue.borrow().len() == 1 {
            self.wake();
        }
        None
    }

    /// Takes the tokens of one I/O, or tells the tick to ask again.
    fn take(&self, way: Way, bytes: u64, now: u64) -> Result<(), u64> {
        let needs = match way {
            Way::Read => [1, bytes, bytes, 0],
            Way::Write => [1, bytes, 0, bytes],
        };
        let mut due = 0;
        for ((bucket, fetched), need) in self.shared.buckets.iter().zip(&self.fetched).zip(needs) {
            let Some(bucket) = bucket else { continue };
            let mut own = fetched.get();
            if own.tokens < need {
                let more = bucket.chunk().max(need - own.tokens);
                own.from = bucket.reserve(now, self.hz, more);
                own.tokens += more;
                fetched.set(own);
            }
            if need != 0 {
                due = own.from.max(due);
            }
        }
        if due > now {
            return Err(due);
        }
        for (fetched, need) in self.fetched.iter().zip(needs) {
            let own = fetched.get();
            fetched.set(Fetched { tokens: own.tokens.saturating_sub(need), ..own });
        }
        Ok(())
    }

    /// The next I/O that may go now, or the tick at which one may; none when nothing waits.
    fn next(&self, now: u64) -> Option<Result<BdevIo, u64>> {
        let mut due = None;
        for offset in 0..2 {
            let index = (self.turn.get() + offset) % 2;
            let mut queue = self.queues[index].borrow_mut();
            let Some(wanted) = queue.front().map(demand) else { continue };
            let taken = wanted.map_or(Ok(()), |(way, bytes)| self.take(way, bytes, now));
            match taken {
                Ok(()) => {
                    // Reads and writes take turns where both wait for the same tokens.
                    self.turn.set(1 - index);
                    return queue.pop_front().map(Ok);
                }
                Err(at) => due = Some(due.map_or(at, |due: u64| due.min(at))),
            }
        }
        due.map(Err)
    }

    /// Lets the task look again.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.borrow().len()).sum()
    }

    /// What waits, reads first, each in order.
    pub(super) fn take_all(&self) -> Vec<BdevIo> {
        self.queues.iter().flat_map(RefCell::take).collect()
    }

    /// Whether the I/O of a slot waits in here.
    pub(in super::super) fn holds(&self, slot: &IoSlot) -> bool {
        self.queues.iter().any(|queue| queue.borrow().iter().any(|io| io.is_in(slot)))
    }

    /// Has I/O wait that waited elsewhere before.
    pub(super) fn append(&self, waiting: Vec<BdevIo>) {
        for io in waiting {
            let way = demand(&io).map_or(Way::Read, |(way, _)| way);
            self.queues[way as usize].borrow_mut().push_back(io);
        }
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // The task ends, since it does not find the throttle any more.
        self.wake();
    }
}

/// What an I/O asks of the limits; none when it is free.
fn demand(io: &BdevIo) -> Option<(Way, u64)> {
    let way = match io.kind() {
        IoType::Read | IoType::Compare => Way::Read,
        IoType::Write | IoType::CompareAndWrite | IoType::ZoneAppend => Way::Write,
        // Bit 0 of an opcode: data go to the controller (NVMe Base Specification 2.0, figure 88).
        IoType::NvmeIo if io.nvme_command().opcode() & 1 == 1 => Way::Write,
        IoType::NvmeIo => Way::Read,
        _ => return None,
    };
    let bytes = match io.kind() {
        IoType::NvmeIo => io.iovs().iter().map(|iov| iov.len() as u64).sum(),
        _ => io.num_blocks() * u64::from(io.block_len()),
    };
    Some((way, bytes))
}

/// Starts the task that lets the I/O of a throttle go when its time has come.
pub(super) fn start(channel: &Channel, throttle: &Rc<Throttle>) {
    let Some(shared) = channel.shared() else { return };
    let pump =
        Pump { channel: Rc::downgrade(&shared), throttle: Rc::downgrade(throttle), sleep: None };
    channel.reactor().spawn("quality of service", pump);
}

/// The task. It ends when its throttle has gone.
struct Pump {
    channel: std::rc::Weak<Channel>,
    throttle: std::rc::Weak<Throttle>,
    sleep: Option<(u64, Sleep)>,
}

impl Future for Pump {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(channel), Some(throttle)) = (self.channel.upgrade(), self.throttle.upgrade())
        else {
            return Poll::Ready(());
        };
        throttle.waker.set(Some(cx.waker().clone()));
        let now = channel.reactor().clock().ticks();
        // While a reset or an atomic change holds I/O back, so does the throttle.
        while !channel.gate.get().contains(Gate::HELD) {
            match throttle.next(now) {
                Some(Ok(mut io)) => {
                    io.waited_until(now);
                    channel.pass_limits(io);
                }
                Some(Err(due)) => {
                    if self.sleep.as_ref().is_none_or(|(at, _)| *at != due) {
                        self.sleep = Some((due, sleep_until(due)));
                    }
                    let Some((_, sleep)) = &mut self.sleep else { break };
                    if Pin::new(sleep).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    // Its time came while this ran: everybody else has a turn first.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                None => break,
            }
        }
        self.sleep = None;
        Poll::Pending
    }
}
