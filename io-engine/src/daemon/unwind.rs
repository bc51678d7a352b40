//! The end of a daemon that is its own host: an NVMe controller that it has attached may be one of
//! its own target. Such a controller's devices are flushed and detached while the target still
//! serves, or their last writes would have nowhere to go.
//!
//! What nobody uses any more ends first: subsystems that no controller of this daemon is attached to,
//! whose hosts are disconnected; then pools, devices and controllers that nobody has open, layer by
//! layer; and so on, until no controller of this daemon depends on its target.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use spdk_rs::drivers::nvme::ControllerInfo;
use spdk_rs::nvmf::target::Target;

use super::flush::{
    Unflushed, end_device, end_pool, is_namespace, is_volume, stop_discoveries, volumes_of,
};
use crate::core::Engine;
use crate::subsys::Nvmf;

/// What a connection or a subsystem had open may be closed a moment after it has ended: so long is
/// waited for that, and so often it is looked at.
const CLOSING_MAX: Duration = Duration::from_secs(2);
const CLOSING_LOOK: Duration = Duration::from_millis(5);

/// Ends what the daemon has of its own target, and then the target. The words say what is not
/// flushed.
pub(super) async fn end_target(nvmf: &Nvmf, engine: &Engine, unflushed: &Unflushed) -> Vec<String> {
    let mut failed = Vec::new();
    if let Some(target) = nvmf.started() {
        unflushed.begin(engine);
        stop_discoveries(engine).await;
        let mut waited = Duration::ZERO;
        loop {
            let served = served_to_itself(engine, &target);
            if served.is_empty() {
                break;
            }
            for subsystem in target.subsystems() {
                let nqn = subsystem.nqn().as_str();
                if !served.contains(nqn)
                    && let Err(error) = target.delete_subsystem(nqn).await
                {
                    tracing::debug!(nqn, "subsystem: {error}");
                }
            }
            if end_unused(engine, unflushed, &mut failed).await {
                waited = Duration::ZERO;
            } else if waited < CLOSING_MAX {
                tokio::time::sleep(CLOSING_LOOK).await;
                waited += CLOSING_LOOK;
            } else {
                tracing::info!("controllers that may be of this daemon's own target are in use");
                break;
            }
        }
    }
    nvmf.stop().await;
    failed
}

/// The subsystems of the target that controllers of this daemon may be attached to. A subsystem of
/// that name elsewhere does no harm: its controllers end a little earlier than they would.
fn served_to_itself(engine: &Engine, target: &Target) -> BTreeSet<String> {
    let controllers = engine.nvme().controllers(None);
    let paths = controllers.iter().flat_map(|controller| &controller.paths);
    let attached: BTreeSet<_> = paths.map(|path| path.trid.subnqn.clone()).collect();
    let own = target.subsystems();
    let own = own.iter().map(|subsystem| subsystem.nqn().as_str());
    own.filter(|nqn| attached.contains(*nqn)).map(str::to_owned).collect()
}

/// Ends the pools, devices and controllers that nobody uses; whether there were any.
async fn end_unused(engine: &Engine, unflushed: &Unflushed, failed: &mut Vec<String>) -> bool {
    let mut ended = false;
    for pool in engine.pools().all().iter().rev() {
        let volumes = volumes_of(engine, pool.name());
        if volumes.iter().all(|bdev| bdev.openers().is_empty()) {
            failed.extend(end_pool(engine, pool.name(), unflushed).await);
            ended = true;
        }
    }
    let unused = engine.registry().all();
    let unused: Vec<_> = unused
        .iter()
        .filter(|bdev| !is_volume(bdev) && !is_namespace(bdev) && bdev.openers().is_empty())
        .collect();
    ended |= !unused.is_empty();
    let ends = unused.iter().map(|bdev| end_device(engine, bdev, unflushed));
    failed.extend(join_all(ends).await.into_iter().flatten());
    for controller in engine.nvme().controllers(None) {
        ended |= end_controller(engine, &controller, unflushed, failed).await;
    }
    ended
}

/// Flushes the namespaces of a controller and detaches it, if nobody uses them; whether it did.
async fn end_controller(
    engine: &Engine,
    controller: &ControllerInfo,
    unflushed: &Unflushed,
    failed: &mut Vec<String>,
) -> bool {
    let found = controller.bdevs.iter().filter_map(|name| engine.registry().find(name).ok());
    let devices: Vec<_> = found.collect();
    if devices.iter().any(|bdev| !bdev.openers().is_empty()) {
        return false;
    }
    let ends = devices.iter().map(|bdev| end_device(engine, bdev, unflushed));
    failed.extend(join_all(ends).await.into_iter().flatten());
    let name = &controller.name;
    if let Err(error) = engine.nvme().detach(name, None).await {
        tracing::debug!("NVMe controller '{name}': {error}");
    }
    true
}
