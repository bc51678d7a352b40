//! Reactors as threads: one per core, started and ended together; and a reactor on this thread.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use spdk_rs_sys::cpu::{self, CoreId, CoreSet};
use thiserror::Error;

use super::config::ReactorConfig;
use super::handle::ReactorHandle;
use super::offload::Offload;
use super::ring::ReactorRing;
use super::task::{self, ExecutorGuard};
use super::{PollMode, Reactor};
use crate::env::{BufferCache, Memory};

/// Threads for blocking work per process.
const OFFLOAD_THREADS: usize = 4;

/// A reactor that lives on the thread that made it: for tests, tools and simulations.
pub struct LocalReactor {
    reactor: Rc<Reactor>,
    // Dropped in this order, after the reactor was shut down.
    _executor: ExecutorGuard,
    _cache: crate::env::CacheGuard,
}

impl LocalReactor {
    /// Makes this thread a reactor. The thread is not pinned.
    ///
    /// # Errors
    /// When the kernel gives no event descriptors.
    pub fn new(config: ReactorConfig, memory: Memory) -> std::io::Result<Self> {
        let local =
            Self::with_offload(config, memory, Offload::new(OFFLOAD_THREADS, CoreSet::new()))?;
        if let Some(ring) = local.ring() {
            // Without registered buffers the ring works too.
            let _ = ring.register_buffers();
        }
        Ok(local)
    }

    fn with_offload(
        config: ReactorConfig,
        memory: Memory,
        offload: Offload,
    ) -> std::io::Result<Self> {
        let cache = BufferCache::enable();
        let reactor = Reactor::build(config, memory, offload)?;
        let executor = task::enter(reactor.id());
        Ok(Self { reactor, _executor: executor, _cache: cache })
    }
}

impl Deref for LocalReactor {
    type Target = Rc<Reactor>;

    fn deref(&self) -> &Rc<Reactor> {
        &self.reactor
    }
}

impl Drop for LocalReactor {
    fn drop(&mut self) {
        self.reactor.shut_down();
    }
}

/// Why the reactors could not be started.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// The set of cores is not usable.
    #[error("the reactors' cores cannot be used")]
    Cores(#[source] cpu::CpuError),
    /// The set is empty.
    #[error("no core was named for the reactors; name at least one")]
    NoCores,
    /// A thread, its pinning or its descriptors failed.
    #[error("cannot start the reactor on core {core}")]
    Start {
        /// The core.
        core: CoreId,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// How the reactors of a process are made.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// One reactor for each of these.
    pub cores: CoreSet,
    /// Busy or adaptive.
    pub mode: PollMode,
    /// Use io_uring when the kernel allows it.
    pub ring: bool,
}

/// The reactors of a process. Dropping it ends them.
pub struct Runtime {
    handles: Vec<ReactorHandle>,
    threads: Vec<JoinHandle<()>>,
    memory: Memory,
    offload: Offload,
    allowed: CoreSet,
    helpers: CoreSet,
    ring_refusal: Option<String>,
    fixed_buffers: Arc<AtomicU8>,
}

struct Started {
    handle: ReactorHandle,
    ring_refusal: Option<String>,
}

/// Whether the rings know the I/O buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FixedBuffers {
    /// Not yet; the pages are being brought in the background.
    Pending = 0,
    /// Every ring has them registered.
    Registered = 1,
    /// Some ring has not, and maps buffers anew for every I/O.
    Refused = 2,
}

impl Runtime {
    /// Starts a pinned reactor thread per core and waits until all of them run.
    ///
    /// # Errors
    /// [`RuntimeError`]; then none of them is left running.
    pub fn start(options: &RuntimeOptions, memory: Memory) -> Result<Self, RuntimeError> {
        if options.cores.is_empty() {
            return Err(RuntimeError::NoCores);
        }
        cpu::check_cores(&options.cores).map_err(RuntimeError::Cores)?;
        let allowed = cpu::allowed();
        let others = allowed.iter().filter(|core| !options.cores.contains(*core));
        let mut helpers: CoreSet = others.collect();
        if helpers.is_empty() {
            helpers.clone_from(&allowed);
        }
        let offload = Offload::new(OFFLOAD_THREADS, helpers.clone());
        let (handles, threads) = (Vec::new(), Vec::new());
        let mut runtime = Self {
            handles,
            threads,
            memory,
            offload,
            allowed,
            helpers,
            ring_refusal: None,
            fixed_buffers: Arc::default(),
        };
        for core in options.cores.iter() {
            runtime
                .start_one(core, options)
                .map_err(|source| RuntimeError::Start { core, source })?;
        }
        runtime.register_buffers();
        Ok(runtime)
    }

    /// Brings the arena's pages on a helper thread, and then has every ring register them. Doing
    /// both at the start would hold the reactors for as long as the kernel needs for the pages.
    fn register_buffers(&self) {
        let (memory, handles) = (self.memory.clone(), self.handles.clone());
        let outcome = Arc::clone(&self.fixed_buffers);
        self.offload.run(move || {
            let populated = memory.populate();
            let registered = populated.is_ok()
                && handles.iter().all(|handle| {
                    let call = handle
                        .call(|reactor| reactor.ring().is_some_and(ReactorRing::register_buffers));
                    futures::executor::block_on(call).unwrap_or(false)
                });
            let found = if registered { FixedBuffers::Registered } else { FixedBuffers::Refused };
            outcome.store(found as u8, Ordering::Release);
            if let Err(error) = populated {
                tracing::warn!(%error, "the I/O buffers' pages are not all there");
            }
        });
    }

    fn start_one(&mut self, core: CoreId, options: &RuntimeOptions) -> std::io::Result<()> {
        let (mode, ring) = (options.mode, options.ring);
        let (memory, offload) = (self.memory.clone(), self.offload.clone());
        let (tell, told) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name(format!("reactor_{core}")).spawn(move || {
                let config = ReactorConfig { mode, ring, ..ReactorConfig::new(core) };
                let made = cpu::pin_current_thread(core)
                    .and_then(|()| LocalReactor::with_offload(config, memory, offload));
                match made {
                    Ok(reactor) => {
                        let _ = tell.send(Ok(Started {
                            handle: reactor.handle(),
                            ring_refusal: reactor.ring_refusal().map(str::to_owned),
                        }));
                        reactor.run();
                    }
                    Err(error) => drop(tell.send(Err(error))),
                }
            })?;
        let gone = || std::io::Error::other("the reactor's thread ended at once");
        let started = told.recv().map_err(|_| gone())??;
        self.handles.push(started.handle);
        self.threads.push(thread);
        self.ring_refusal = self.ring_refusal.take().or(started.ring_refusal);
        Ok(())
    }

    /// The reactors, in order of their cores.
    #[must_use]
    pub fn reactors(&self) -> &[ReactorHandle] {
        &self.handles
    }

    /// The first reactor: where work without a place of its own runs.
    #[must_use]
    pub fn first(&self) -> Option<&ReactorHandle> {
        self.handles.first()
    }

    /// The memory that buffers come from.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The helper threads for work that may block.
    #[must_use]
    pub fn offload(&self) -> &Offload {
        &self.offload
    }

    /// The cores that the process might use when the reactors started.
    #[must_use]
    pub fn allowed_cores(&self) -> &CoreSet {
        &self.allowed
    }

    /// Keeps the calling thread, and the threads that it starts from now on, off the reactors'
    /// cores, where the process may use others. When it is the main thread, these are all that
    /// [`cpu::allowed`] has afterwards, and that reactors can be started on.
    pub fn keep_off(&self) {
        if let Err(error) = cpu::bind_current_thread(&self.helpers) {
            tracing::debug!(%error, cores = %self.helpers, "the thread runs where it may");
        }
    }

    /// Why some reactor has no io_uring, in words; none when all have.
    #[must_use]
    pub fn ring_refusal(&self) -> Option<&str> {
        self.ring_refusal.as_deref()
    }

    /// Whether every reactor's ring has the buffer arena registered.
    #[must_use]
    pub fn fixed_buffers(&self) -> FixedBuffers {
        match self.fixed_buffers.load(Ordering::Acquire) {
            0 => FixedBuffers::Pending,
            1 => FixedBuffers::Registered,
            _ => FixedBuffers::Refused,
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for handle in &self.handles {
            let mut stop = handle.try_send(|reactor| reactor.stop());
            while let Err(refused) = stop {
                // A full mailbox empties at the reactor's next turn; a closed one has ended.
                if handle.has_ended() {
                    break;
                }
                std::thread::yield_now();
                stop = handle.try_send(refused.0);
            }
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reactor's thread panicked");
            }
        }
    }
}
