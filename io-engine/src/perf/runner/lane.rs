//! What every kind of load has: a handle, its counters, and the end of the job.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoBuf, IoConsumer, IoRequest, IoType, Refused, ZoneAction};
use spdk_rs::env::Clock;
use spdk_rs::reactor::Counter;

use crate::core::BlockDeviceHandle;
use crate::perf::report::JobStats;
use crate::perf::workload::{Io, Op};

/// A load that runs on this reactor.
pub(super) trait Load {
    /// Submits the first I/Os.
    fn start(&self);
    /// Submits nothing new from now on, but what a check still needs.
    fn stop(&self);
    /// Ready when nothing is in flight any more; only the last waker is woken.
    fn poll_finished(&self, waker: &Waker) -> Poll<()>;
    /// Lets go of the device and the buffers, and gives the counters.
    fn finish(&self) -> JobStats;
}

/// The I/O of one job.
pub(super) struct Lane {
    handle: Box<dyn BlockDeviceHandle>,
    /// The load itself, for the submissions; a stand-in before and after the run, so that the load
    /// does not keep itself alive.
    own: Rc<dyn IoConsumer>,
    wrong: Arc<Counter>,
    clock: Clock,
    started: u64,
    waker: Option<Waker>,
    blocks_per_io: u64,
    /// I/Os that may still be submitted; 0 once the job was stopped.
    pub(super) left: u64,
    pub(super) in_flight: u32,
    fua: bool,
    pub(super) finished: bool,
    stats: JobStats,
}

/// What a lane is made of.
pub(super) struct LaneOptions {
    pub(super) handle: Box<dyn BlockDeviceHandle>,
    /// Counts reads with wrong data, for the thread that shows progress.
    pub(super) wrong: Arc<Counter>,
    pub(super) clock: Clock,
    pub(super) blocks_per_io: u64,
    pub(super) fua: bool,
    pub(super) ios_max: u64,
}

/// Stands in for the load while no I/O is submitted.
struct Nobody;

impl IoConsumer for Nobody {
    fn io_done(&self, _tag: u64, _status: NvmeStatus, buf: IoBuf, _latency_ticks: u64) {
        drop(buf);
    }
}

impl Lane {
    pub(super) fn new(options: LaneOptions) -> Self {
        let LaneOptions { handle, wrong, clock, blocks_per_io, fua, ios_max } = options;
        Self {
            handle,
            own: Rc::new(Nobody),
            wrong,
            clock,
            started: 0,
            waker: None,
            blocks_per_io,
            left: ios_max,
            in_flight: 0,
            fua,
            finished: false,
            stats: JobStats::default(),
        }
    }

    /// The run begins; `own` is told of completions.
    pub(super) fn begin(&mut self, own: Rc<dyn IoConsumer>) {
        self.own = own;
        self.started = self.clock.ticks();
    }

    /// Submits an I/O. `buf` is what the operation carries.
    #[inline(always)]
    pub(super) fn submit(&self, io: Io, buf: IoBuf, tag: u64) -> Result<(), Box<Refused>> {
        let Self { handle, own, blocks_per_io: blocks, fua, .. } = self;
        match io.op {
            Op::Read => handle.readv_blocks(buf, io.lba, *blocks, own, tag),
            Op::Write if !fua => handle.writev_blocks(buf, io.lba, *blocks, own, tag),
            Op::Write => {
                let write = IoRequest::new(IoType::Write, io.lba, *blocks, buf).fua(true);
                handle.submit(write, own, tag)
            }
            Op::Flush => handle.flush_io(own, tag),
            Op::Unmap => handle.unmap_blocks(io.lba, *blocks, own, tag),
            Op::WriteZeroes => handle.write_zeroes(io.lba, *blocks, own, tag),
        }
    }

    /// Makes the zone that begins at a block empty.
    pub(super) fn reset_zone(&self, first_block: u64, tag: u64) -> Result<(), Box<Refused>> {
        // The blocks that follow are not looked at by the device, but are known to be there.
        let reset = IoRequest::zone(first_block, 1, ZoneAction::Reset);
        self.handle.submit(reset, &self.own, tag)
    }

    /// Counts a zone that could not be made empty, for the write that was to follow.
    #[cold]
    pub(super) fn reset_failed(&mut self, status: NvmeStatus) {
        self.stats.record_error(Op::Write, || format!("reset of a zone: {status}"));
    }

    /// Counts an I/O that succeeded.
    #[inline(always)]
    pub(super) fn succeeded(&mut self, op: Op, ticks: u64) {
        self.stats.record(op, ticks);
    }

    /// Counts an I/O that failed. Of a device that is gone every other one would fail as well, so
    /// the job ends; returns whether it does.
    #[cold]
    pub(super) fn failed(&mut self, op: Op, status: NvmeStatus) -> bool {
        self.stats.record_error(op, || format!("{}: {status}", op.name()));
        let gone = status.with_do_not_retry(true) == NvmeStatus::INVALID_NAMESPACE;
        if gone {
            self.stats.device_gone = true;
            self.left = 0;
        }
        gone
    }

    /// Counts a submission that was refused. It would be refused again, so the job ends.
    #[cold]
    pub(super) fn refused(&mut self, op: Op, status: NvmeStatus) {
        let name = op.name();
        self.stats.record_error(op, || format!("{name} not accepted, the job ended: {status}"));
        self.left = 0;
    }

    /// Counts a read that brought wrong data.
    #[cold]
    pub(super) fn mismatch(&mut self, words: impl FnOnce() -> String) {
        self.wrong.add(1);
        self.stats.record_mismatch(words);
    }

    /// The last I/O has ended.
    #[cold]
    pub(super) fn end(&mut self) {
        let ticks = self.clock.ticks().wrapping_sub(self.started);
        let elapsed = self.clock.duration_of(ticks).as_nanos();
        self.stats.elapsed_ns = u64::try_from(elapsed).unwrap_or(u64::MAX);
        self.finished = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn poll_finished(&mut self, waker: &Waker) -> Poll<()> {
        if self.finished {
            return Poll::Ready(());
        }
        self.waker = Some(waker.clone());
        Poll::Pending
    }

    /// Lets go of the load and gives the counters.
    pub(super) fn release(&mut self) -> (Rc<dyn IoConsumer>, JobStats) {
        (std::mem::replace(&mut self.own, Rc::new(Nobody)), std::mem::take(&mut self.stats))
    }
}
