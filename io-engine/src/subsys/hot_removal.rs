//! Removes devices whose I/O takes too long, where that was asked for.

use std::future::Future;
use std::sync::Arc;

use crate::bdev;
use crate::core::Engine;
use crate::rpc::errors::with_causes;

/// Removes what the engine's monitor wants removed, until the engine ends. A task of the management
/// plane: the engine must not end on a reactor.
pub fn hot_removal(engine: &Arc<Engine>) -> impl Future<Output = ()> + Send + 'static {
    let (removals, engine) = (engine.take_removals(), Arc::downgrade(engine));
    async move {
        let Some(mut removals) = removals else { return };
        while let Some(removal) = removals.recv().await {
            let Some(engine) = engine.upgrade() else { return };
            let name = &removal.name;
            if engine.registry().find(name).is_ok_and(|bdev| bdev.id() == removal.id) {
                tracing::warn!(device = name, "removed, since its I/O takes too long");
                // One after the other: what belongs together goes with the first of them.
                if let Err(error) = bdev::destroy(&engine, name).await {
                    tracing::error!(device = name, error = with_causes(&error), "not removed");
                }
            }
        }
    }
}
