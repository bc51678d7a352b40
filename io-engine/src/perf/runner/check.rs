//! `-w verify`: writes blocks that say what they are, reads them back and checks them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoBuf, IoCompletion, IoConsumer};

use super::lane::{Lane, Load};
use crate::perf::report::JobStats;
use crate::perf::verify::Verifier;
use crate::perf::workload::{Io, Op, Step, VerifyPlan};

/// What a buffer holds before a read, so that data which did not arrive is not taken for data that
/// did: the buffer may have been used to write the very blocks that are read.
const POISON: u8 = 0xa5;

/// Goes through a plan of writes and checks.
pub(super) struct Checker {
    state: RefCell<State>,
    own: Weak<Self>,
}

struct State {
    lane: Lane,
    plan: VerifyPlan,
    verifier: Verifier,
    slots: Vec<Slot>,
    /// The slots that do nothing.
    free: Vec<usize>,
    /// Blocks whose last write failed: what they hold is open.
    unsure: HashSet<u64>,
    /// Nothing is asked of the plan until nothing is in flight.
    draining: bool,
    /// A submission was refused, or the device is gone: the rest of the plan would fail, too.
    aborted: bool,
}

struct Slot {
    io: Io,
    generation: u64,
    /// It resets a zone instead, the one of the I/O.
    resets: bool,
    /// The buffer, unless an operation has it.
    buf: IoBuf,
}

impl Checker {
    /// A check that keeps as many I/Os in flight as there are buffers.
    pub(super) fn new(
        lane: Lane,
        plan: VerifyPlan,
        verifier: Verifier,
        bufs: Vec<IoBuf>,
    ) -> Rc<Self> {
        let io = Io { op: Op::Flush, lba: 0 };
        let slots: Vec<_> =
            bufs.into_iter().map(|buf| Slot { io, generation: 0, resets: false, buf }).collect();
        let state = RefCell::new(State {
            lane,
            plan,
            verifier,
            free: (0..slots.len()).rev().collect(),
            slots,
            unsure: HashSet::new(),
            draining: false,
            aborted: false,
        });
        Rc::new_cyclic(|own| Self { state, own: Weak::clone(own) })
    }
}

impl State {
    /// Submits what the plan has next, as far as there are slots.
    fn pump(&mut self) {
        loop {
            if self.aborted || self.draining {
                if self.lane.in_flight > 0 {
                    return;
                }
                self.draining = false;
            }
            if self.aborted {
                return self.lane.end();
            }
            if self.free.is_empty() {
                return;
            }
            match self.plan.next_step() {
                Step::Write { lba, generation } => {
                    self.submit(Io { op: Op::Write, lba }, generation);
                }
                Step::Read { lba, generation } => {
                    self.submit(Io { op: Op::Read, lba }, generation);
                }
                Step::Reset { lba } => {
                    self.draining = true;
                    self.reset(lba);
                }
                Step::Flush => {
                    // The reads that follow are to find what the flush left behind.
                    self.draining = true;
                    self.submit(Io { op: Op::Flush, lba: 0 }, 0);
                }
                Step::Drain => self.draining = true,
                Step::Done => return self.lane.end(),
            }
        }
    }

    fn submit(&mut self, io: Io, generation: u64) {
        let Some(index) = self.free.pop() else { return };
        let slot = &mut self.slots[index];
        (slot.io, slot.generation) = (io, generation);
        if let IoBuf::One(buf) = &mut slot.buf {
            match io.op {
                Op::Write => self.verifier.fill(buf.as_mut_slice(), io.lba, generation),
                Op::Read => buf.fill(POISON),
                Op::Flush | Op::Unmap | Op::WriteZeroes => {}
            }
        }
        let buf = if io.op.has_data() { std::mem::take(&mut slot.buf) } else { IoBuf::None };
        match self.lane.submit(io, buf, index as u64) {
            Ok(()) => self.lane.in_flight += 1,
            Err(refused) => {
                self.lane.refused(io.op, refused.status);
                self.aborted = true;
            }
        }
        self.lane.left = self.lane.left.saturating_sub(1);
        if self.lane.left == 0 {
            self.plan.stop();
        }
    }

    fn reset(&mut self, lba: u64) {
        let Some(index) = self.free.pop() else { return };
        (self.slots[index].io, self.slots[index].resets) = (Io { op: Op::Write, lba }, true);
        match self.lane.reset_zone(lba, index as u64) {
            Ok(()) => self.lane.in_flight += 1,
            Err(refused) => {
                self.lane.refused(Op::Write, refused.status);
                self.aborted = true;
            }
        }
    }

    fn ended(&mut self, index: usize, done: IoCompletion) {
        let &Slot { io, generation, .. } = &self.slots[index];
        self.lane.in_flight -= 1;
        if std::mem::take(&mut self.slots[index].resets) {
            if !done.status.is_success() {
                self.lane.reset_failed(done.status);
            }
            return self.free.push(index);
        }
        let succeeded = done.status.is_success();
        if succeeded {
            self.lane.succeeded(io.op, done.latency_ticks);
        } else {
            self.aborted |= self.lane.failed(io.op, done.status);
        }
        match io.op {
            Op::Write if !succeeded => {
                self.unsure.insert(io.lba);
            }
            Op::Write if !self.unsure.is_empty() => {
                self.unsure.remove(&io.lba);
            }
            Op::Read if succeeded && !self.unsure.contains(&io.lba) => {
                if let IoBuf::One(buf) = &done.buf
                    && let Err(wrong) = self.verifier.check(buf.as_slice(), io.lba, generation)
                {
                    self.lane.mismatch(|| wrong.to_string());
                }
            }
            _ => {}
        }
        if io.op.has_data() {
            self.slots[index].buf = done.buf;
        }
        self.free.push(index);
    }
}

impl IoConsumer for Checker {
    fn io_done(&self, tag: u64, status: NvmeStatus, buf: IoBuf, latency_ticks: u64) {
        let state = &mut *self.state.borrow_mut();
        let index = usize::try_from(tag).ok().filter(|index| *index < state.slots.len());
        if let Some(index) = index {
            let done = IoCompletion { status, buf, latency_ticks, result: 0 };
            state.ended(index, done);
            state.pump();
        }
    }
}

impl Load for Checker {
    fn start(&self) {
        let Some(own) = self.own.upgrade() else { return };
        let state = &mut *self.state.borrow_mut();
        state.lane.begin(own);
        state.pump();
    }

    fn stop(&self) {
        self.state.borrow_mut().plan.stop();
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
