//! From the command line to a report: makes the devices, runs a job per device and core, and
//! takes everything apart again.
//!
//! Invariants:
//!
//! - Every URI and every option is checked before the first I/O; what was created for a run that
//!   does not start is destroyed again.
//! - All jobs are prepared, buffers included, before the first one starts.
//! - Every submitted I/O is waited for, however the run ends; only a second interrupt abandons
//!   what is in flight.
//!
//! CPU time per I/O is that of the core's thread for a job or a device, shared by the number of
//! I/Os where several jobs run on one core. The total has the time of the whole process: helper
//! threads, also those of io_uring, are in it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::join_all;
use spdk_rs::bdev::{HistogramOptions, IoStats, IoType, QosLimits, RegistryError};
use spdk_rs::env::{Clock, os};
use spdk_rs::reactor::{Counter, ReactorGone, ReactorHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use error::PerfError;

use self::job::{JobLinks, JobPlan, Outcome};
use self::management::Management;
use crate::bdev::{BdevError, create, destroy, plan};
use crate::core::{BlockDevice, BlockDeviceDescriptor, CoreError, Engine};
use crate::perf::options::{Geometry, PerfArgs, Place};
use crate::perf::report::{Job, JobStats, Limit, Progress, RunReport, Sample};
use crate::perf::workload::{Op, Pattern};

mod check;
mod error;
mod job;
mod lane;
mod management;
mod stream;
#[cfg(test)]
mod tests;

/// How often the progress line is drawn.
const PROGRESS_PERIOD: Duration = Duration::from_millis(500);

/// SIGINT and SIGTERM.
struct Interrupts {
    int: Signal,
    term: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, PerfError> {
        let of = |kind| signal(kind).map_err(PerfError::Wait);
        Ok(Self { int: of(SignalKind::interrupt())?, term: of(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}

/// Runs the load that `args` describe.
///
/// # Errors
///
/// [`PerfError`] when the run cannot start or was abandoned. Failed I/O is no error here but a
/// part of the report.
pub fn run(args: &PerfArgs) -> Result<RunReport, PerfError> {
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(PerfError::Wait)?;
    control.block_on(async {
        let mut interrupts = Interrupts::new()?;
        for uri in &args.uris {
            plan(&uri.to_string())?;
        }
        let management = Management::bind(args)?;
        let engine = Engine::start(&args.env.engine_options()?)?;
        let mut created = Vec::new();
        let load = async {
            let names = create_all(&engine, args, &mut created).await?;
            run_on(&engine, args, &names, &mut interrupts).await
        };
        let result = match management {
            Some(management) => management.beside(&engine, load).await,
            None => load.await,
        };
        if matches!(result, Err(PerfError::Abandoned)) {
            // Destroying a device waits for its I/O.
            return result;
        }
        for name in created.iter().rev() {
            match destroy(&engine, name).await {
                // Namespaces of one controller go together.
                Err(BdevError::Registry(RegistryError::NotFound { .. })) => {}
                other => other?,
            }
        }
        // A volume's URI may have imported its pool.
        for pool in engine.pools().all().iter().rev() {
            crate::bdev::pool::export(&engine, pool.name(), true).await?;
        }
        result
    })
}

/// Makes the devices; `created` has those that are the run's own, also after an error.
async fn create_all(
    engine: &Engine,
    args: &PerfArgs,
    created: &mut Vec<String>,
) -> Result<Vec<String>, PerfError> {
    let mut names = Vec::new();
    for uri in &args.uris {
        let before = engine.registry().all().len();
        let name = create(engine, &uri.to_string()).await?;
        // `bdev:///name` names a device that is there already.
        if engine.registry().all().len() > before {
            created.push(name.clone());
        }
        prepare(engine, args, &name).await?;
        names.push(name);
    }
    Ok(names)
}

/// Sets a device up as the options want it.
async fn prepare(engine: &Engine, args: &PerfArgs, name: &str) -> Result<(), PerfError> {
    let bdev = engine.registry().find(name).map_err(CoreError::from)?;
    if let Some(rw_ios_per_sec) = args.qos_ios {
        bdev.set_qos_limits(QosLimits { rw_ios_per_sec, ..QosLimits::default() }).await;
    }
    if args.device_histograms {
        let options = HistogramOptions {
            kinds: bdev.io_types(),
            granularity: HistogramOptions::GRANULARITY_MAX,
            min: Duration::ZERO,
            max: Duration::MAX,
        };
        bdev.enable_histograms(options).await;
    }
    Ok(())
}

/// A job as the control thread knows it.
struct Running {
    job: Job,
    wrong: Arc<Counter>,
    reactor: ReactorHandle,
    ready: oneshot::Receiver<Result<(), CoreError>>,
    start: oneshot::Sender<()>,
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<Outcome>,
}

async fn run_on(
    engine: &Engine,
    args: &PerfArgs,
    names: &[String],
    interrupts: &mut Interrupts,
) -> Result<RunReport, PerfError> {
    let mut jobs = Vec::new();
    for (plan, job, reactor) in plan_jobs(engine, args, names)? {
        jobs.push(send_job(plan, job, reactor).await?);
    }
    let limit = args.limit();
    let ios = limit.ios.map(|ios| ios.saturating_mul(jobs.len() as u64));
    let mut names: Vec<&String> = names.iter().collect();
    names.sort_unstable();
    names.dedup();
    let devices = names.into_iter().map(|name| engine.device_lookup(name));
    let watch = Watch::new(Limit { ios, ..limit }, devices.collect::<Result<_, _>>()?);
    run_jobs(jobs, watch, interrupts).await
}

/// Checks every device against the options, and opens it.
fn plan_jobs(
    engine: &Engine,
    args: &PerfArgs,
    names: &[String],
) -> Result<Vec<(JobPlan, Job, ReactorHandle)>, PerfError> {
    let reactors = engine.runtime().reactors();
    let limit = args.limit();
    let mut jobs = Vec::new();
    for (device_index, name) in (0_u32..).zip(names) {
        let device = engine.device_lookup(name)?;
        check_device(&*device, args)?;
        let block_len = u32::try_from(device.block_len()).unwrap_or(u32::MAX);
        let geometry = Geometry { name, block_len, num_blocks: device.num_blocks() };
        let descriptor = device.open(args.pattern.destroys_data(), "io-engine perf")?;
        let descriptor: Arc<dyn BlockDeviceDescriptor> = Arc::from(descriptor);
        let cores = u32::try_from(reactors.len()).unwrap_or(u32::MAX);
        for (core, reactor) in (0_u32..).zip(reactors) {
            let spec = args.spec(geometry, Place { device: device_index, core, cores })?;
            let io_size = args.io_size(block_len);
            let plan = JobPlan {
                descriptor: Arc::clone(&descriptor),
                spec,
                block_len,
                depth: args.queue_depth,
                io_size: usize::try_from(io_size).unwrap_or(usize::MAX),
                fua: args.fua,
                time: limit.time,
                ios: limit.ios,
                wrong: Arc::default(),
            };
            let job = Job {
                device: name.clone(),
                core: reactor.core().0,
                pattern: args.pattern,
                io_size,
                queue_depth: args.queue_depth,
            };
            jobs.push((plan, job, reactor.clone()));
        }
    }
    Ok(jobs)
}

/// Refuses what the device cannot do at all.
fn check_device(device: &dyn BlockDevice, args: &PerfArgs) -> Result<(), PerfError> {
    let name = || device.device_name().to_owned();
    if args.pattern == Pattern::Verify && device.driver_name() == "null" {
        return Err(PerfError::NothingStored { device: name() });
    }
    let flush = args.flush_every.is_some().then_some(Op::Flush);
    for op in args.pattern.ops().iter().copied().chain(flush) {
        let kind = match op {
            Op::Read => IoType::Read,
            Op::Write => IoType::Write,
            Op::Flush => IoType::Flush,
            Op::Unmap => IoType::Unmap,
            Op::WriteZeroes => IoType::WriteZeroes,
        };
        if !device.io_type_supported(kind) {
            return Err(PerfError::Unsupported { device: name(), op });
        }
    }
    Ok(())
}

/// Has the reactor prepare a job.
async fn send_job(plan: JobPlan, job: Job, reactor: ReactorHandle) -> Result<Running, PerfError> {
    let wrong = Arc::clone(&plan.wrong);
    let ((ready, is_ready), (start, starts)) = (oneshot::channel(), oneshot::channel());
    let ((stop, stops), (done, is_done)) = (oneshot::channel(), oneshot::channel());
    let links = JobLinks { ready, start: starts, stop: stops, done };
    let sent = reactor.send(move |reactor| {
        reactor.spawn("perf job", job::run(Rc::clone(reactor), plan, links));
    });
    sent.await.map_err(CoreError::from)?;
    Ok(Running { job, wrong, reactor, ready: is_ready, start, stop, done: is_done })
}

/// Starts the jobs when all of them are prepared, and waits for their end.
async fn run_jobs(
    jobs: Vec<Running>,
    mut watch: Watch,
    interrupts: &mut Interrupts,
) -> Result<RunReport, PerfError> {
    let (mut started, mut stops, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    // A start that is dropped on the way out of here ends its job without an I/O.
    for Running { job, wrong, reactor, ready, start, stop, done } in jobs {
        let core = reactor.core();
        let gone = move |_| CoreError::from(ReactorGone(core));
        ready.await.map_err(gone)?.map_err(|source| prepare_error(&job, source))?;
        watch.wrong.push(wrong);
        started.push((job, start));
        stops.push(stop);
        ends.push(async move { done.await.map_err(gone) });
    }
    let cpu_start = os::process_cpu_time();
    let jobs: Vec<Job> = started.into_iter().map(|(job, start)| start_job(job, start)).collect();
    let mut all_ended = std::pin::pin!(join_all(ends));
    let mut tick = tokio::time::interval(PROGRESS_PERIOD);
    watch.begin();
    tracing::info!(jobs = jobs.len(), "the load runs");
    let outcomes = loop {
        tokio::select! {
            biased;
            outcomes = &mut all_ended => break outcomes,
            () = interrupts.next() => {
                if stops.is_empty() {
                    return Err(PerfError::Abandoned);
                }
                tracing::info!("interrupted: waiting for the I/O in flight");
                for stop in stops.drain(..) {
                    // A job that has ended already does not listen any more.
                    let _ = stop.send(());
                }
            }
            _ = tick.tick() => watch.show(),
        }
    };
    let cpu_ns = os::process_cpu_time().saturating_sub(cpu_start);
    watch.finish();
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(report(jobs, outcomes, cpu_ns))
}

fn start_job(job: Job, start: oneshot::Sender<()>) -> Job {
    // The job waits for this; should its reactor have ended, its end tells so.
    let _ = start.send(());
    job
}

fn prepare_error(job: &Job, source: CoreError) -> PerfError {
    PerfError::Prepare {
        device: job.device.clone(),
        core: job.core,
        depth: job.queue_depth,
        io_size: job.io_size,
        source,
    }
}

/// Turns what the jobs have counted into figures.
fn report(jobs: Vec<Job>, outcomes: Vec<Outcome>, process_cpu_ns: u64) -> RunReport {
    let on_cores: Vec<_> = jobs.iter().map(|job| job.core).zip(outcomes.iter()).collect();
    let shares: Vec<u64> =
        on_cores.iter().map(|(core, outcome)| cpu_share(&on_cores, *core, outcome)).collect();
    let stats: Vec<(Job, JobStats)> = jobs
        .into_iter()
        .zip(outcomes)
        .zip(shares)
        .map(|((job, outcome), cpu_ns)| (job, outcome.stats.with_cpu(cpu_ns)))
        .collect();
    let ns_per_tick = 1e9 / Clock::Real.hz() as f64;
    let mut report = RunReport::new(&stats, ns_per_tick);
    report.set_process_cpu(process_cpu_ns);
    report
}

/// A job's share of the CPU time of its core's thread, by the number of I/Os.
fn cpu_share(on_cores: &[(u32, &Outcome)], core: u32, of: &Outcome) -> u64 {
    let same = || on_cores.iter().filter(|(other, _)| *other == core).map(|(_, outcome)| outcome);
    let start = same().map(|outcome| outcome.cpu_ns.0).min().unwrap_or(0);
    let end = same().map(|outcome| outcome.cpu_ns.1).max().unwrap_or(0);
    let all: u128 = same().map(|outcome| u128::from(outcome.stats.ios())).sum();
    let spent = u128::from(end.saturating_sub(start));
    let share = (spent * u128::from(of.stats.ios())).checked_div(all).unwrap_or(0);
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// The progress line and what it shows: the devices' own statistics, which cost the load nothing.
struct Watch {
    progress: Progress,
    /// The devices, each with what it had counted before the run.
    devices: Vec<(Box<dyn BlockDevice>, Sample)>,
    wrong: Vec<Arc<Counter>>,
    started_ns: u64,
}

/// The I/Os, bytes and errors of all kinds together.
fn sum(stats: &IoStats) -> Sample {
    let mut sum = Sample::default();
    for kind in IoType::ALL {
        let of_kind = stats.of(kind);
        sum.ios += of_kind.ops;
        sum.errors += of_kind.errors;
        if kind != IoType::Flush {
            sum.bytes += of_kind.bytes;
        }
    }
    sum
}

impl Watch {
    fn new(limit: Limit, devices: Vec<Box<dyn BlockDevice>>) -> Self {
        let devices = devices.into_iter().map(|device| {
            let before = sum(&device.io_stats());
            (device, before)
        });
        let (devices, progress) = (devices.collect(), Progress::new(limit));
        Self { progress, devices, wrong: Vec::new(), started_ns: 0 }
    }

    fn begin(&mut self) {
        self.started_ns = os::monotonic_ns();
    }

    fn sample(&self) -> Sample {
        let elapsed = Duration::from_nanos(os::monotonic_ns().saturating_sub(self.started_ns));
        let errors = self.wrong.iter().map(|wrong| wrong.get()).sum();
        let mut now = Sample { elapsed, errors, ..Sample::default() };
        for (device, before) in &self.devices {
            let after = sum(&device.io_stats());
            now.ios += after.ios.saturating_sub(before.ios);
            now.bytes += after.bytes.saturating_sub(before.bytes);
            now.errors += after.errors.saturating_sub(before.errors);
        }
        now
    }

    fn show(&mut self) {
        self.progress.update(self.sample());
    }

    fn finish(self) {
        self.progress.finish();
    }
}
