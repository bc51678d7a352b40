//! The injections of an engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
#[expect(clippy::disallowed_types, reason = "adding, listing and removing are control plane")]
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use spdk_rs::bdev::{Bdev, IoType, IoTypes, Notice, Registry, RegistryError};
use spdk_rs::reactor::ReactorHandle;

use super::error::FaultError;
use super::hook::Make;
use super::injection::Injection;
use super::operation::{self, Stage, both};
use super::shadow::Shadows;
use super::spec::InjectionSpec;

/// An injection as listings show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionInfo {
    /// Its number.
    pub id: u64,
    /// The device's name.
    pub device: String,
    /// What was asked for, with the seed that is used.
    pub spec: InjectionSpec,
    /// The I/O that it happens to on its way to the device.
    pub at_submission: IoTypes,
    /// The I/O that it happens to on its way back.
    pub at_completion: IoTypes,
    /// I/Os that fitted.
    pub matched: u64,
    /// I/Os that it happened to.
    pub hits: u64,
    /// I/Os that hang.
    pub held: u64,
    /// Whether it may happen again.
    pub active: bool,
    /// Whether the power is off.
    pub power_off: bool,
}

#[expect(clippy::disallowed_types, reason = "see the import")]
type List = Mutex<Vec<Arc<Injection>>>;

/// The injections of an engine, in the order in which they were added.
pub struct FaultInjections {
    registry: Arc<Registry>,
    reactors: Vec<ReactorHandle>,
    list: List,
    next_id: AtomicU64,
}

impl FaultInjections {
    /// No injections, for the devices and the reactors of an engine.
    #[must_use]
    pub fn new(registry: &Arc<Registry>, reactors: &[ReactorHandle]) -> Self {
        let (registry, reactors) = (Arc::clone(registry), reactors.to_vec());
        Self { registry, reactors, list: List::default(), next_id: AtomicU64::new(1) }
    }

    /// Adds an injection; its time begins now. I/O passes those of a device in the order in which
    /// they were added, and on its way back in the reverse.
    ///
    /// # Errors
    /// [`FaultError`]; then nothing was added.
    pub async fn add(&self, spec: InjectionSpec) -> Result<InjectionInfo, FaultError> {
        let bdev = self.find(&spec.device)?;
        check_device(&spec, &bdev)?;
        let home = self.reactors.first().ok_or(FaultError::NoReactor)?.clone();
        let (begin, end) = (spec.begin, spec.end);
        let window = home.call(move |reactor| {
            let (clock, now) = (reactor.clock(), reactor.clock().ticks());
            let tick = |after: Duration| now.saturating_add(clock.ticks_in(after));
            // What begins at once is for all I/O from now on, also of turns that have begun before.
            let begin = if begin.is_zero() { 0 } else { tick(begin) };
            begin..end.map_or(u64::MAX, tick)
        });
        let window = window.await?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let registry = Arc::clone(&self.registry);
        let injection = Injection::new(id, spec, bdev, registry, home, window);
        self.lock().push(Arc::clone(&injection));
        let factory = Arc::new(Make(Arc::clone(&injection)));
        let hook = injection.bdev.add_interceptor(factory).await;
        injection.hook_id.store(hook, Ordering::Release);
        let info = info(&injection);
        tracing::warn!(id, uri = %info.spec, "a fault injection was added");
        Ok(info)
    }

    /// The injections, or those of a device.
    #[must_use]
    pub fn list(&self, device: Option<&str>) -> Vec<InjectionInfo> {
        self.of(device).iter().map(info).collect()
    }

    /// What is left of the injections, as they would be added again: with the `retries` and the
    /// `after` that they still have, and times that count anew. Those that happen no more are left
    /// out.
    pub async fn remaining(&self) -> Vec<InjectionSpec> {
        let Some(home) = self.reactors.first() else { return Vec::new() };
        // When the reactor has ended, so has its clock.
        let now = home.call(|reactor| reactor.clock().ticks()).await.unwrap_or(0);
        let all = self.of(None);
        let left = all.iter().filter(|injection| now < injection.window.end).map(info);
        left.filter(|info| info.active)
            .map(|info| InjectionSpec {
                device: info.device,
                retries: info.spec.retries.map(|retries| retries.saturating_sub(info.hits)),
                after: info.spec.after.saturating_sub(info.matched),
                ..info.spec
            })
            .collect()
    }

    /// Removes an injection; what hangs because of it goes on.
    ///
    /// # Errors
    /// [`FaultError::NotFound`].
    pub async fn remove(&self, id: u64) -> Result<InjectionInfo, FaultError> {
        let found = self.take(|injection| injection.id == id);
        let injection = found.into_iter().next().ok_or(FaultError::NotFound { id })?;
        Ok(Self::end(&injection).await)
    }

    /// Removes all injections, or those of a device; returns how many that were.
    pub async fn clear(&self, device: Option<&str>) -> usize {
        let ids: Vec<u64> = self.of(device).iter().map(|injection| injection.id).collect();
        let found = self.take(|injection| ids.contains(&injection.id));
        for injection in &found {
            Self::end(injection).await;
        }
        found.len()
    }

    /// Removes the injections of a device that was removed, so that nothing keeps what it lies on.
    pub async fn device_removed(&self, bdev_id: u64) {
        for injection in self.take(|injection| injection.bdev.id() == bdev_id) {
            Self::end(&injection).await;
        }
    }

    /// Lets go what hangs, is delayed or gathered because of an injection, which stays; returns
    /// how many I/Os hung.
    ///
    /// # Errors
    /// [`FaultError::NotFound`].
    pub async fn release(&self, id: u64) -> Result<u64, FaultError> {
        let found = self.of(None).into_iter().find(|injection| injection.id == id);
        let injection = found.ok_or(FaultError::NotFound { id })?;
        let held = injection.held.load(Ordering::Relaxed);
        let hook = injection.hook_id.load(Ordering::Acquire);
        injection.bdev.tell_interceptors(hook, Notice::Release).await;
        tracing::info!(id, held, "I/O that a fault injection held goes on");
        Ok(held)
    }

    /// The device of a name; a name with a leading slash is tried without it, too.
    fn find(&self, name: &str) -> Result<Arc<Bdev>, RegistryError> {
        let found = self.registry.find(name);
        match name.strip_prefix('/') {
            Some(rest) if found.is_err() => self.registry.find(rest),
            _ => found,
        }
    }

    fn of(&self, device: Option<&str>) -> Vec<Arc<Injection>> {
        let found = device.map(|name| self.find(name).ok());
        let of_device = |injection: &&Arc<Injection>| match (&found, device) {
            (Some(Some(bdev)), _) => bdev.id() == injection.bdev.id(),
            // The device has gone; its injections stay until they are removed.
            (Some(None), Some(name)) => injection.bdev.name() == name,
            _ => true,
        };
        self.lock().iter().filter(of_device).cloned().collect()
    }

    fn take(&self, wanted: impl Fn(&Injection) -> bool) -> Vec<Arc<Injection>> {
        self.lock().extract_if(.., |injection| wanted(injection)).collect()
    }

    async fn end(injection: &Arc<Injection>) -> InjectionInfo {
        injection.end();
        injection.bdev.remove_interceptor(injection.hook_id.load(Ordering::Acquire)).await;
        let id = injection.id;
        // A reactor that has ended has forgotten what it kept.
        let _ = injection.home.call(move |reactor| Shadows::of(reactor).remove(id)).await;
        let info = info(injection);
        tracing::warn!(id, uri = %info.spec, hits = info.hits, "a fault injection was removed");
        info
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Injection>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses what could never happen on a device.
fn check_device(spec: &InjectionSpec, bdev: &Bdev) -> Result<(), FaultError> {
    let device = || bdev.name().to_owned();
    let blocks = bdev.num_blocks();
    if spec.offset_blocks >= blocks {
        return Err(FaultError::Beyond { device: device(), offset: spec.offset_blocks, blocks });
    }
    let wanted = spec.ops_at(Stage::Submission).with(spec.ops_at(Stage::Completion));
    if both(wanted, bdev.io_types()) == IoTypes::default() {
        let does: Vec<_> = bdev.io_types().iter().map(IoType::name).collect();
        let (ops, allowed) = (operation::show(wanted), does.join(", "));
        return Err(FaultError::Unsupported { device: device(), ops, allowed });
    }
    Ok(())
}

fn info(injection: &Arc<Injection>) -> InjectionInfo {
    let spec = InjectionSpec { seed: Some(injection.seed), ..injection.spec.clone() };
    InjectionInfo {
        id: injection.id,
        device: injection.bdev.name().to_owned(),
        spec,
        at_submission: injection.at_submission,
        at_completion: injection.at_completion,
        matched: injection.matched(),
        hits: injection.hits(),
        held: injection.held.load(Ordering::Relaxed),
        active: !injection.is_spent() && !injection.bdev.is_removed(),
        power_off: injection.cut.load(Ordering::Acquire),
    }
}
