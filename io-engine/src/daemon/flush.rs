//! The end of the devices: everything in flight completes, every volatile cache is flushed, and
//! only then a device goes.

use std::collections::BTreeMap;
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "management plane only")]
use std::sync::Mutex;

use futures::future::join_all;
use spdk_rs::bdev::Bdev;

use super::DaemonError;
use crate::core::{CoreError, Engine};
use crate::pool::bdev::DRIVER;
use crate::rpc::errors::with_causes;

/// The driver of namespaces of NVMe controllers.
const NVME: &str = "nvme";

/// Devices whose completed writes may not be on the medium yet, and what is known about each.
/// Nothing is there before the end of the devices has begun.
#[derive(Default)]
#[expect(clippy::disallowed_types, reason = "see the import")]
pub(crate) struct Unflushed(Mutex<Option<BTreeMap<String, &'static str>>>);

impl Unflushed {
    /// The devices that a sudden end leaves unflushed, in words.
    pub(super) fn names(&self, engine: &Engine) -> String {
        let left = self.lock().clone().unwrap_or_else(|| cached(engine));
        if left.is_empty() {
            return "no device has a volatile cache that was not flushed".to_owned();
        }
        let each = left.iter().map(|(name, what)| format!("'{name}' ({what})"));
        format!("not flushed: {}", each.collect::<Vec<_>>().join(", "))
    }

    fn begin(&self, engine: &Engine) {
        *self.lock() = Some(cached(engine));
    }

    fn set(&self, name: &str, what: &'static str) {
        self.lock().get_or_insert_default().insert(name.to_owned(), what);
    }

    fn clear(&self, name: &str) {
        self.lock().get_or_insert_default().remove(name);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<BTreeMap<String, &'static str>>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The devices with a volatile cache.
fn cached(engine: &Engine) -> BTreeMap<String, &'static str> {
    let devices = engine.registry().all();
    let cached = devices.iter().filter(|bdev| bdev.info().write_cache);
    cached.map(|bdev| (bdev.name().to_owned(), "I/O may be in flight")).collect()
}

/// Ends every device: waits for what is in flight, flushes, removes.
pub(super) async fn end_devices(engine: &Engine, unflushed: &Unflushed) -> Result<(), DaemonError> {
    unflushed.begin(engine);
    // What is discovered from now on is not attached any more.
    for discovery in engine.nvme().discoveries() {
        if let Err(error) = engine.nvme().stop_discovery(&discovery.name).await {
            tracing::debug!("discovery '{}': {error}", discovery.name);
        }
    }
    let mut failed = end_pools(engine, unflushed).await;
    let devices = engine.registry().all();
    let ends = devices.iter().map(|bdev| end_device(engine, bdev, unflushed));
    failed.extend(join_all(ends).await.into_iter().flatten());
    // Namespaces of a controller go together, when the last of them is flushed.
    for controller in engine.nvme().controllers(None) {
        if let Err(error) = engine.nvme().detach(&controller.name, None).await {
            tracing::debug!("NVMe controller '{}': {error}", controller.name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(DaemonError::Unflushed(failed.join("; "))) }
}

/// Exports every pool, those on volumes of others first; the words say what is not on its medium.
async fn end_pools(engine: &Engine, unflushed: &Unflushed) -> Vec<String> {
    let mut failed = Vec::new();
    for pool in engine.pools().all().iter().rev() {
        let name = pool.name();
        let prefix = format!("{name}/");
        let devices = engine.registry().all();
        let volumes: Vec<_> = devices
            .iter()
            .filter(|bdev| bdev.info().driver_name == DRIVER && bdev.name().starts_with(&prefix))
            .collect();
        volumes.iter().for_each(|bdev| unflushed.set(bdev.name(), "export of its pool under way"));
        let problem = match engine.pools().export(name, true).await {
            Ok(exported) => exported.stopped,
            Err(error) => Some(with_causes(&error)),
        };
        match problem {
            None => volumes.iter().for_each(|bdev| unflushed.clear(bdev.name())),
            Some(problem) => {
                volumes.iter().for_each(|bdev| unflushed.set(bdev.name(), "its pool has failed"));
                failed.push(format!("pool '{name}': {problem}"));
            }
        }
    }
    failed
}

/// Ends one device; the words say why it is not flushed.
async fn end_device(engine: &Engine, bdev: &Arc<Bdev>, unflushed: &Unflushed) -> Option<String> {
    let name = bdev.name();
    bdev.drained().await;
    let mut failure = None;
    if bdev.info().write_cache {
        unflushed.set(name, "flush under way");
        match flush(engine, bdev).await {
            Ok(()) => {
                unflushed.clear(name);
                tracing::info!("device '{name}' is flushed");
            }
            Err(error) => {
                unflushed.set(name, "flush failed");
                failure = Some(format!("device '{name}': {}", with_causes(&error)));
            }
        }
    }
    if bdev.info().driver_name == NVME {
        return failure;
    }
    // A device that is gone already was removed by a method that was still under way.
    if let Err(error) = crate::bdev::destroy(engine, name).await {
        tracing::debug!("device '{name}': {error}");
    }
    failure
}

/// Brings a device's completed writes to its medium.
async fn flush(engine: &Engine, bdev: &Arc<Bdev>) -> Result<(), CoreError> {
    let Some(reactor) = engine.runtime().first() else { return Ok(()) };
    let device = Arc::clone(bdev);
    let flushed = reactor.spawn(move |_| async move {
        let name = device.name().to_owned();
        let handle = Engine::device(device).open(false, "the daemon's end")?.into_handle()?;
        let done = handle.flush_io_async().await;
        done.status.ok().map_err(|status| CoreError::Command { device: name, status })
    });
    flushed.await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use spdk_rs::NvmeStatus;
    use spdk_rs::bdev::{BdevChannel, BdevInfo, BdevIo, BdevOps, IoLimits, IoType, IoTypes};
    use spdk_rs::reactor::Reactor;
    use uuid::Uuid;

    use crate::cli::EnvArgs;

    /// A device that counts flushes and ends them as told.
    #[derive(Clone)]
    struct Medium {
        flushes: Arc<AtomicUsize>,
        status: NvmeStatus,
    }

    impl BdevOps for Medium {
        fn io_types(&self) -> IoTypes {
            IoTypes::of(&[IoType::Read, IoType::Write, IoType::Flush])
        }

        fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
            Ok(Box::new(self.clone()))
        }
    }

    impl BdevChannel for Medium {
        fn submit(&mut self, io: BdevIo) {
            assert_eq!(io.kind(), IoType::Flush);
            self.flushes.fetch_add(1, Ordering::Relaxed);
            io.complete(self.status);
        }
    }

    /// Registers a device; returns the count of its flushes.
    fn add(engine: &Engine, name: &str, cache: bool, status: NvmeStatus) -> Arc<AtomicUsize> {
        let flushes = Arc::<AtomicUsize>::default();
        let info = BdevInfo {
            name: name.to_owned(),
            aliases: Vec::new(),
            uuid: Uuid::new_v4(),
            product_name: "medium".to_owned(),
            driver_name: "medium",
            block_len: 512,
            phys_block_len: 512,
            num_blocks: 8,
            alignment: 1,
            write_cache: cache,
            read_only: false,
            limits: IoLimits::default(),
        };
        let medium = Medium { flushes: Arc::clone(&flushes), status };
        engine.registry().register(&Bdev::new(info, Box::new(medium))).expect("registered");
        flushes
    }

    fn engine() -> Arc<Engine> {
        let env = EnvArgs { mem_size: 2, no_huge: true, ..EnvArgs::default() };
        Engine::start(&env.engine_options().expect("options")).expect("an engine")
    }

    #[tokio::test]
    async fn every_volatile_cache_is_flushed_once_and_every_device_goes() {
        let engine = engine();
        let cached = add(&engine, "cached", true, NvmeStatus::SUCCESS);
        let plain = add(&engine, "plain", false, NvmeStatus::SUCCESS);
        let unflushed = Unflushed::default();
        assert_eq!(unflushed.names(&engine), "not flushed: 'cached' (I/O may be in flight)");
        end_devices(&engine, &unflushed).await.expect("flushed");
        assert_eq!(cached.load(Ordering::Relaxed), 1);
        assert_eq!(plain.load(Ordering::Relaxed), 0);
        assert!(engine.registry().all().is_empty());
        assert!(unflushed.names(&engine).starts_with("no device"));
    }

    #[tokio::test]
    async fn a_failed_flush_is_told_and_holds_nothing_up() {
        let engine = engine();
        let bad = add(&engine, "bad", true, NvmeStatus::WRITE_FAULT);
        let good = add(&engine, "good", true, NvmeStatus::SUCCESS);
        let unflushed = Unflushed::default();
        let error = end_devices(&engine, &unflushed).await.expect_err("unflushed");
        let words = error.to_string();
        assert!(words.contains("'bad'") && words.contains("write fault"), "{words}");
        assert!(!words.contains("'good'"), "{words}");
        assert_eq!(error.exit_code(), crate::cli::ExitCode::Failure);
        assert_eq!((bad.load(Ordering::Relaxed), good.load(Ordering::Relaxed)), (1, 1));
        assert!(engine.registry().all().is_empty());
        assert_eq!(unflushed.names(&engine), "not flushed: 'bad' (flush failed)");
    }
}
