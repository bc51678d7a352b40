//! Hot plug: NVMe controllers of this machine that come are attached, those that go are detached.
//!
//! A task of the management plane looks at sysfs whenever the kernel announces a change, and does
//! what the difference to what is attached asks for. Nothing is concluded from an announcement
//! alone, so a lost one costs time and nothing else.
//!
//! Invariants:
//!
//! * Only controllers that `vfio-pci` has and that the daemon may use are attached.
//! * A controller that somebody has detached stays so until it was pulled out and came back.
//! * A controller that is being attached is never given up in between.

mod listen;
mod slots;

use std::sync::{Arc, Weak};
#[expect(clippy::disallowed_types, reason = "management plane only")]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use spdk_rs::drivers::nvme::{AttachOptions, MultipathMode, MultipathPolicy};
use spdk_rs::env::pci::{Pci, PciAddress, PciError, PciFilter, VFIO_DRIVER};
use spdk_rs::nvme::TransportId;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::core::Engine;
use crate::core::events::EventType;
use crate::rpc::Context;
use crate::rpc::errors::with_causes;
use listen::Listener;
use slots::{Slots, Step};

/// Time between two looks unless another is set (SPDK's).
pub const PERIOD_DEFAULT: Duration = Duration::from_millis(100);
/// The longest time between two looks (SPDK's).
pub const PERIOD_MAX: Duration = Duration::from_secs(10);

/// Hot plug of an engine: off until it is started.
#[derive(Default)]
pub struct Hotplug {
    /// One change at a time.
    running: tokio::sync::Mutex<Option<Running>>,
    facts: Arc<Facts>,
}

#[expect(clippy::disallowed_types, reason = "management plane only")]
type Facts = Mutex<State>;

#[derive(Default)]
struct State {
    /// The period, while it is on.
    period: Option<Duration>,
    slots: Slots,
}

/// The task.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Hotplug {
    /// Starts it, or changes its period: controllers are looked at when the kernel announces a
    /// change, and once per `period` while one could not be attached or the kernel announces
    /// nothing. Returns after the first look.
    ///
    /// # Errors
    /// [`PciError::Read`] when this machine shows no PCI bus.
    pub async fn start(&self, context: &Arc<Context>, period: Duration) -> Result<(), PciError> {
        let mut running = self.running.lock().await;
        Pci::system().controllers(&PciFilter::default())?;
        end(running.take()).await;
        self.facts().period = Some(period);
        let (stop, stopped) = oneshot::channel();
        let (tell, looked) = oneshot::channel();
        let (context, facts) = (Arc::downgrade(context), Arc::clone(&self.facts));
        let task = tokio::spawn(run(context, facts, period, stopped, tell));
        *running = Some(Running { stop, task });
        let _ = looked.await;
        Ok(())
    }

    /// Stops it. What is attached stays.
    pub async fn stop(&self) {
        let mut running = self.running.lock().await;
        end(running.take()).await;
        *self.facts() = State::default();
    }

    /// The period, while it is on.
    #[must_use]
    pub fn period(&self) -> Option<Duration> {
        self.facts().period
    }

    /// Whether it has attached a controller, which so comes back without being asked for.
    #[must_use]
    pub fn has_attached(&self, address: PciAddress) -> bool {
        self.facts().slots.is_own(address)
    }

    fn facts(&self) -> MutexGuard<'_, State> {
        lock(&self.facts)
    }
}

fn lock(facts: &Facts) -> MutexGuard<'_, State> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a task, which ends what it has begun.
async fn end(running: Option<Running>) {
    if let Some(Running { stop, task }) = running {
        let _ = stop.send(());
        let _ = task.await;
    }
}

async fn run(
    context: Weak<Context>,
    facts: Arc<Facts>,
    period: Duration,
    mut stopped: oneshot::Receiver<()>,
    looked: oneshot::Sender<()>,
) {
    // From before the first look on, so that nothing is missed in between.
    let mut listener = Listener::new();
    let mut looked = Some(looked);
    loop {
        let Some(own) = context.upgrade() else { return };
        // An attachment that is under way is given up.
        tokio::select! {
            _ = &mut stopped => return,
            () = look(&own, &facts) => {}
        }
        drop(own);
        if let Some(looked) = looked.take() {
            let _ = looked.send(());
        }
        let again = lock(&facts).slots.is_waiting() || !listener.hears();
        tokio::select! {
            _ = &mut stopped => return,
            () = listener.change() => {}
            () = tokio::time::sleep(period), if again => {}
        }
    }
}

/// Looks at what is there, and does what it asks for.
async fn look(context: &Context, facts: &Facts) {
    let Ok(engine) = context.engine() else { return };
    let filter = engine.nvme().pci_filter();
    let found = engine.runtime().offload().call(move || ready(&Pci::system(), &filter)).await;
    let there = match found {
        Ok(Ok(there)) => there,
        Ok(Err(error)) => return tracing::warn!("{}", with_causes(&error)),
        Err(_) => return,
    };
    let steps = lock(facts).slots.plan(&there, &attached(engine));
    for step in steps {
        match step {
            Step::Attach(address) => attach(context, engine, facts, address).await,
            Step::Gone { address, attached } => {
                engine.events().add(EventType::ControllerRemoved, &address.to_string(), json!({}));
                tracing::info!(%address, "an NVMe controller is gone");
                if attached {
                    detach(engine, address).await;
                }
            }
        }
    }
}

/// The controllers that the engine could drive now.
fn ready(pci: &Pci, filter: &PciFilter) -> Result<Vec<PciAddress>, PciError> {
    let all = pci.controllers(filter)?;
    let ready = all.into_iter().filter(|one| one.driver.as_deref() == Some(VFIO_DRIVER));
    Ok(ready.map(|one| one.address).collect())
}

/// The controllers of this machine that are attached, or are being.
fn attached(engine: &Engine) -> Vec<PciAddress> {
    let controllers = engine.nvme().controllers(None);
    let paths = controllers.iter().flat_map(|one| &one.paths);
    paths.filter_map(|path| path.trid.pci_address()).collect()
}

async fn attach(context: &Context, engine: &Engine, facts: &Facts, address: PciAddress) {
    let name = address.to_string();
    let options = AttachOptions {
        controller: context.nvme_options(engine),
        multipath: MultipathMode::Disable,
        policy: MultipathPolicy::ActivePassive,
    };
    let trid = TransportId::pcie(address);
    match engine.nvme().attach(&name, &trid, &options).await {
        Ok(bdevs) => {
            tracing::info!(%address, ?bdevs, "an NVMe controller was plugged in");
            engine.events().add(EventType::ControllerAdded, &name, json!({ "bdevs": bdevs }));
            lock(facts).slots.attached(address);
        }
        Err(error) => {
            let (tries, last) = lock(facts).slots.failed(address);
            let why = with_causes(&error);
            if last {
                tracing::error!(%address, tries, why, "an NVMe controller stays unattached");
            } else {
                tracing::warn!(%address, tries, why, "an NVMe controller is not attached yet");
            }
        }
    }
}

async fn detach(engine: &Engine, address: PciAddress) {
    for controller in engine.nvme().controllers(None) {
        if controller.paths.iter().any(|path| path.trid.pci_address() == Some(address))
            && let Err(error) = engine.nvme().detach(&controller.name, None).await
        {
            // The driver itself was faster.
            tracing::debug!(%address, %error, "not detached");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_vfio_has_and_may_be_used_is_ready() {
        let dir = tempfile::tempdir().expect("a directory");
        for (address, driver) in
            [("0000:01:00.0", "nvme"), ("0000:02:00.0", VFIO_DRIVER), ("0000:03:00.0", VFIO_DRIVER)]
        {
            let device = dir.path().join("sys/bus/pci/devices").join(address);
            fs::create_dir_all(&device).expect("a device");
            for (name, text) in [("class", "0x010802"), ("vendor", "0x1b36"), ("device", "0x10")] {
                fs::write(device.join(name), text).expect("a file");
            }
            symlink(format!("../../drivers/{driver}"), device.join("driver")).expect("a link");
        }
        let pci = Pci::at(dir.path());
        let ready = |filter: PciFilter| {
            let ready = ready(&pci, &filter).expect("a bus");
            ready.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(ready(PciFilter::default()), ["0000:02:00.0", "0000:03:00.0"]);
        let blocked = vec!["0000:02:00.0".parse().expect("an address")];
        assert_eq!(ready(PciFilter { blocked, ..PciFilter::default() }), ["0000:03:00.0"]);
    }
}
