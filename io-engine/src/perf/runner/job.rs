//! One device on one core: prepared, started together with the others, run, and taken apart.

use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Either, select};
use spdk_rs::bdev::IoBuf;
use spdk_rs::env::os;
use spdk_rs::reactor::{Counter, Reactor, sleep, yield_now};

use super::check::Checker;
use super::lane::{Lane, LaneOptions, Load};
use super::stream::Streamer;
use super::zoned::ZoneWriter;
use crate::core::{BlockDeviceDescriptor, BlockDeviceHandle, CoreError};
use crate::perf::report::JobStats;
use crate::perf::verify::Verifier;
use crate::perf::workload::{Op, Spec, VerifyPlan, Workload, WorkloadVisitor, ZoneWriters, mix64};

/// Bytes of buffers that are filled before others have a turn: some 100 µs.
const FILL_BYTES: usize = 1 << 20;

/// What a reactor needs to know to run a job.
pub(super) struct JobPlan {
    pub(super) descriptor: Arc<dyn BlockDeviceDescriptor>,
    pub(super) spec: Spec,
    pub(super) block_len: u32,
    pub(super) depth: u32,
    /// The length of an I/O in bytes.
    pub(super) io_size: usize,
    pub(super) fua: bool,
    pub(super) time: Option<Duration>,
    pub(super) ios: Option<u64>,
    /// Counts reads with wrong data, for the thread that shows progress.
    pub(super) wrong: Arc<Counter>,
}

/// How the control thread and a job speak to each other.
pub(super) struct JobLinks {
    /// Told once everything is prepared, or why it cannot be.
    pub(super) ready: oneshot::Sender<Result<(), CoreError>>,
    /// Starts the job; dropped, the job ends without an I/O.
    pub(super) start: oneshot::Receiver<()>,
    /// Ends the submissions early.
    pub(super) stop: oneshot::Receiver<()>,
    /// Told what was counted.
    pub(super) done: oneshot::Sender<Outcome>,
}

/// What a job has measured.
pub(super) struct Outcome {
    pub(super) stats: JobStats,
    /// CPU time of the reactor's thread at the start and at the end, in nanoseconds.
    pub(super) cpu_ns: (u64, u64),
}

/// Runs a job on this reactor.
pub(super) async fn run(reactor: Rc<Reactor>, plan: JobPlan, links: JobLinks) {
    let JobLinks { ready, start, stop, done } = links;
    let time = plan.time;
    let load = match prepare(&reactor, plan).await {
        Ok(load) => load,
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok(())).is_err() || start.await.is_err() {
        return;
    }
    let cpu_start = os::thread_cpu_time();
    load.start();
    drive(&*load, time, stop).await;
    let cpu_ns = (cpu_start, os::thread_cpu_time());
    let stats = load.finish();
    // The device is let go of before anyone is told: it may be destroyed then.
    drop(load);
    let _ = done.send(Outcome { stats, cpu_ns });
}

/// Waits for the end: by itself, when the time is over, or when told to.
pub(super) async fn drive(load: &dyn Load, time: Option<Duration>, stop: oneshot::Receiver<()>) {
    let finished = || poll_fn(|cx| load.poll_finished(cx.waker()));
    let deadline = std::pin::pin!(async {
        match time {
            Some(time) => sleep(time).await,
            None => pending().await,
        }
    });
    if let Either::Right(_) = select(finished(), select(deadline, stop)).await {
        load.stop();
        finished().await;
    }
}

async fn prepare(reactor: &Rc<Reactor>, plan: JobPlan) -> Result<Rc<dyn Load>, CoreError> {
    let handle = plan.descriptor.get_io_handle_nonblock().await?;
    build(reactor, plan, handle).await
}

/// Makes the load of a plan over a handle.
pub(super) async fn build(
    reactor: &Rc<Reactor>,
    plan: JobPlan,
    handle: Box<dyn BlockDeviceHandle>,
) -> Result<Rc<dyn Load>, CoreError> {
    let spec = plan.spec;
    let bufs = buffers(&*handle, &plan).await?;
    let lane = Lane::new(LaneOptions {
        handle,
        wrong: plan.wrong,
        clock: reactor.clock().clone(),
        blocks_per_io: spec.blocks_per_io,
        fua: plan.fua,
        ios_max: plan.ios.unwrap_or(u64::MAX),
    });
    let (name, block_len) = (plan.descriptor.device_name(), plan.block_len);
    let refused = |words: String| CoreError::Channel {
        device: name.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, words),
    };
    let verifier = Verifier::new(block_len, spec.seed).ok();
    // The options were checked against the device; this is where both checks would show.
    spec.visit(Build { lane, bufs, verifier })
        .map_err(|small| refused(small.to_string()))?
        .ok_or_else(|| refused(format!("blocks of {block_len} bytes cannot be verified")))
}

/// A buffer per slot, with pseudo-random content where it is going to be written.
async fn buffers(handle: &dyn BlockDeviceHandle, plan: &JobPlan) -> Result<Vec<IoBuf>, CoreError> {
    let pattern = plan.spec.pattern;
    if !pattern.ops().iter().copied().any(Op::has_data) {
        return Ok((0..plan.depth).map(|_| IoBuf::None).collect());
    }
    let mut bufs = Vec::with_capacity(plan.depth as usize);
    let mut filled = 0;
    for slot in 0..plan.depth {
        let mut buf = handle.dma_malloc(plan.io_size)?;
        if pattern.writes_data() {
            fill(buf.as_mut_slice(), mix64(plan.spec.seed) ^ u64::from(slot));
            filled += plan.io_size;
        }
        bufs.push(buf.into());
        if filled >= FILL_BYTES {
            filled = 0;
            yield_now().await;
        }
    }
    Ok(bufs)
}

/// Fills a buffer with numbers that no device can compress or deduplicate.
fn fill(buf: &mut [u8], seed: u64) {
    let mut word = mix64(seed);
    for bytes in buf.chunks_mut(8) {
        word = mix64(word);
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
    }
}

struct Build {
    lane: Lane,
    bufs: Vec<IoBuf>,
    verifier: Option<Verifier>,
}

impl WorkloadVisitor for Build {
    type Output = Option<Rc<dyn Load>>;

    fn stream<W: Workload>(self, workload: W) -> Self::Output {
        Some(Streamer::new(self.lane, workload, self.bufs))
    }

    fn verify(self, plan: VerifyPlan) -> Self::Output {
        Some(Checker::new(self.lane, plan, self.verifier?, self.bufs))
    }

    fn zones(self, writers: ZoneWriters) -> Self::Output {
        Some(ZoneWriter::new(self.lane, writers, self.bufs))
    }
}
