//! An endless stream of I/Os: what has ended is followed by the next at once, with its buffer.
//!
//! This is the loop that is measured with. For every I/O it records a latency, counts, draws the
//! next address and submits; there is no allocation, no clock and no lookup by operation where
//! the pattern has only one.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoBuf, IoConsumer, Refused};

use super::lane::{Lane, Load};
use crate::perf::report::JobStats;
use crate::perf::workload::{Op, Workload};

/// The bits of a tag below the slot's number, for the operation; a stream of one operation has no
/// need of them, and its tag is the slot.
const OP_BITS: u32 = 3;

/// A stream of I/Os at a fixed depth.
pub(super) struct Streamer<W> {
    state: RefCell<State<W>>,
    own: Weak<Self>,
}

struct State<W> {
    lane: Lane,
    workload: W,
    /// The buffers of slots that are not in flight, or whose present operation carries none.
    parked: Vec<IoBuf>,
}

/// The operation that a tag carries.
#[inline(always)]
fn op_of(tag: u64) -> Op {
    match tag & ((1 << OP_BITS) - 1) {
        0 => Op::Read,
        1 => Op::Write,
        2 => Op::Flush,
        3 => Op::Unmap,
        _ => Op::WriteZeroes,
    }
}

impl<W: Workload> Streamer<W> {
    /// A stream that keeps as many I/Os in flight as there are buffers; a buffer is `None` where
    /// no operation of the workload carries data.
    pub(super) fn new(lane: Lane, workload: W, bufs: Vec<IoBuf>) -> Rc<Self> {
        let state = RefCell::new(State { lane, workload, parked: bufs });
        Rc::new_cyclic(|own| Self { state, own: Weak::clone(own) })
    }
}

impl<W: Workload> State<W> {
    /// Submits the next I/O of a slot; at least one is left to submit.
    #[inline(always)]
    fn next(&mut self, slot: u64, buf: IoBuf) {
        self.lane.left -= 1;
        let io = self.workload.next_io();
        let tag = if W::ONLY.is_some() { slot } else { slot << OP_BITS | io.op as u64 };
        let buf = if W::ONLY.is_none() && !io.op.has_data() { self.park(slot, buf) } else { buf };
        if let Err(refused) = self.lane.submit(io, buf, tag) {
            self.refused(io.op, *refused);
        }
    }

    /// Keeps a buffer while its slot does without.
    fn park(&mut self, slot: u64, buf: IoBuf) -> IoBuf {
        if let Some(place) = usize::try_from(slot).ok().and_then(|slot| self.parked.get_mut(slot)) {
            *place = buf;
        }
        IoBuf::None
    }

    fn unpark(&mut self, slot: u64) -> IoBuf {
        let place = usize::try_from(slot).ok().and_then(|slot| self.parked.get_mut(slot));
        place.map(std::mem::take).unwrap_or_default()
    }

    #[cold]
    fn retire(&mut self) {
        self.lane.in_flight -= 1;
        if self.lane.in_flight == 0 {
            self.lane.end();
        }
    }
}

impl<W: Workload> State<W> {
    /// Goes on with the slot of an I/O that was counted.
    #[inline(always)]
    fn go_on(&mut self, op: Op, tag: u64, buf: IoBuf) {
        if self.lane.left == 0 {
            return self.end_slot(buf);
        }
        let slot = if W::ONLY.is_some() { tag } else { tag >> OP_BITS };
        let buf = if W::ONLY.is_none() && !op.has_data() { self.unpark(slot) } else { buf };
        self.next(slot, buf);
    }

    #[cold]
    #[inline(never)]
    fn refused(&mut self, op: Op, refused: Refused) {
        self.lane.refused(op, refused.status);
        self.end_slot(refused.buf);
    }

    #[cold]
    #[inline(never)]
    fn end_slot(&mut self, buf: IoBuf) {
        drop(buf);
        self.retire();
    }

    /// Apart from the straight path, so that this one has no call before its submission and
    /// keeps no register for it.
    #[cold]
    #[inline(never)]
    fn failed(&mut self, op: Op, tag: u64, status: NvmeStatus, buf: IoBuf) {
        let _ends = self.lane.failed(op, status);
        self.go_on(op, tag, buf);
    }
}

impl<W: Workload> IoConsumer for Streamer<W> {
    fn io_done(&self, tag: u64, status: NvmeStatus, buf: IoBuf, latency_ticks: u64) {
        // A submission never calls back at once, so the state may stay borrowed across it.
        let state = &mut *self.state.borrow_mut();
        let op = W::ONLY.unwrap_or_else(|| op_of(tag));
        if !status.is_success() {
            return state.failed(op, tag, status, buf);
        }
        state.lane.succeeded(op, latency_ticks);
        state.go_on(op, tag, buf);
    }
}

impl<W: Workload> Load for Streamer<W> {
    fn start(&self) {
        let Some(own) = self.own.upgrade() else { return };
        let state = &mut *self.state.borrow_mut();
        state.lane.begin(own);
        for slot in 0..state.parked.len() as u64 {
            if state.lane.left == 0 {
                break;
            }
            let buf = state.unpark(slot);
            state.lane.in_flight += 1;
            state.next(slot, buf);
        }
    }

    fn stop(&self) {
        self.state.borrow_mut().lane.left = 0;
    }

    fn poll_finished(&self, waker: &Waker) -> Poll<()> {
        self.state.borrow_mut().lane.poll_finished(waker)
    }

    fn finish(&self) -> JobStats {
        let (own, stats) = self.state.borrow_mut().lane.release();
        drop(own);
        stats
    }
}
