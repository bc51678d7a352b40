//! Work that may block, done on helper threads: opening files, hole punching, BLKDISCARD.
//!
//! Threads start when there is work for them and stay; a process that offloads nothing has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use spdk_rs_sys::cpu::{self, CoreSet};

use super::registry;

/// Jobs that wait for a thread before submitters are told to come back.
const QUEUE: usize = 1024;

/// A system call with plain numbers for arguments: what a driver offloads per I/O, without an
/// allocation. The result is not negative, or a negated errno.
pub type FileOp = fn([u64; 4]) -> i32;

enum Job {
    Call(Box<dyn FnOnce() + Send>),
    File { run: FileOp, args: [u64; 4], reactor: u16, client: u16, token: u64 },
}

/// The helper threads of a process or a test.
#[derive(Clone)]
pub struct Offload(Arc<Inner>);

struct Inner {
    jobs: Sender<Job>,
    source: Receiver<Job>,
    threads: AtomicUsize,
    busy: Arc<AtomicUsize>,
    threads_max: usize,
    cores: CoreSet,
}

/// The queue of offloaded work is full; try again after some of it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadFull;

impl Offload {
    /// A pool of at most `threads_max` threads (at least 1) on these cores; none is started yet.
    /// Without cores, a thread runs where the one that had the first work for it may run.
    #[must_use]
    pub fn new(threads_max: usize, cores: CoreSet) -> Self {
        let (jobs, source) = bounded(QUEUE);
        let (threads, busy, threads_max) =
            (AtomicUsize::new(0), Arc::default(), threads_max.max(1));
        Self(Arc::new(Inner { jobs, source, threads, busy, threads_max, cores }))
    }

    /// Runs a closure on a helper thread. When the queue is full the caller waits, so this is for
    /// the control plane.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.ensure_thread();
        // The receiver lives in `self`, so the channel is never disconnected.
        let _ = self.0.jobs.send(Job::Call(Box::new(job)));
    }

    /// Runs a closure on a helper thread and returns its result.
    ///
    /// # Errors
    /// [`futures::channel::oneshot::Canceled`] when the closure panicked.
    pub async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, futures::channel::oneshot::Canceled> {
        let (tell, told) = futures::channel::oneshot::channel();
        self.run(move || {
            let _ = tell.send(job());
        });
        told.await
    }

    pub(super) fn submit(
        &self,
        run: FileOp,
        args: [u64; 4],
        reactor: u16,
        client: u16,
        token: u64,
    ) -> Result<(), OffloadFull> {
        self.ensure_thread();
        let job = Job::File { run, args, reactor, client, token };
        match self.0.jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(OffloadFull),
        }
    }

    /// Starts one more thread when all that there are have work.
    fn ensure_thread(&self) {
        let threads = self.0.threads.load(Ordering::Relaxed);
        if threads > self.0.busy.load(Ordering::Relaxed) || threads >= self.0.threads_max {
            return;
        }
        let taken = self.0.threads.compare_exchange(
            threads,
            threads + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if taken.is_err() {
            return;
        }
        let (source, busy) = (self.0.source.clone(), Arc::clone(&self.0.busy));
        let named = std::thread::Builder::new().name(format!("ioe-file-{threads}"));
        let cores = self.0.cores.clone();
        let run = move || {
            bind(&cores);
            work(&source, &busy);
        };
        if let Err(error) = named.spawn(run) {
            self.0.threads.fetch_sub(1, Ordering::Relaxed);
            tracing::error!(%error, "cannot start a helper thread for blocking work");
        }
    }
}

/// Keeps a helper to its cores: a reactor that starts one would else have it on its own core.
fn bind(cores: &CoreSet) {
    if cores.is_empty() {
        return;
    }
    if let Err(error) = cpu::bind_current_thread(cores) {
        tracing::debug!(%error, %cores, "a helper thread runs where it may");
    }
}

fn work(source: &Receiver<Job>, busy: &AtomicUsize) {
    while let Ok(job) = source.recv() {
        busy.fetch_add(1, Ordering::Relaxed);
        match job {
            Job::Call(call) => {
                // A panic ends the job, not the thread; whoever waits sees the answer's end.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
            }
            Job::File { run, args, reactor, client, token } => {
                registry::deliver(reactor, client, token, run(args));
            }
        }
        busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Offload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let threads = self.0.threads.load(Ordering::Relaxed);
        write!(f, "Offload({threads} of {} threads)", self.0.threads_max)
    }
}
