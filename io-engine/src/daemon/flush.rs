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
use crate::rpc::errors::with_causes;

/// Devices whose completed writes may not be on the medium yet, and what is known about each.
/// Nothing is there before the end of the devices has begun.
#[derive(Default)]
#[expect(clippy::disallowed_types, reason = "see the import")]
pub(super) struct Unflushed(Mutex<Option<BTreeMap<String, &'static str>>>);

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
    let devices = engine.registry().all();
    let ends = devices.iter().map(|bdev| end_device(engine, bdev, unflushed));
    let failed: Vec<String> = join_all(ends).await.into_iter().flatten().collect();
    if failed.is_empty() { Ok(()) } else { Err(DaemonError::Unflushed(failed.join("; "))) }
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
