//! A device that lies on another one and hands every I/O on to it: what `passthru`, `delay` and
//! `error` are made of.
//!
//! Invariants:
//! * the device below is claimed: nobody else writes to it while the layer exists;
//! * everything that the device below can do, the layer can do, and in the same way;
//! * the layer follows its base: it is resized with it, and removed when it is removed.

use std::any::Any;
use std::rc::Rc;
use std::sync::{Arc, OnceLock, Weak};

use thiserror::Error;
use uuid::Uuid;

use crate::bdev::{
    Bdev, BdevChannel, BdevDesc, BdevInfo, BdevIo, BdevOps, ClaimError, ClaimKind, DeviceEvent,
    IoHandle, IoLimits, IoTypes, OpenMode, Registry, RegistryError, ZoneGeometry,
};
use crate::reactor::{Reactor, ReactorHandle};

/// What a layer is made of.
pub struct LayerOptions {
    /// Unique name.
    pub name: String,
    /// Unique identifier; made from the base's when none, so that it stays the same.
    pub uuid: Option<Uuid>,
    /// The driver ("passthru").
    pub driver_name: &'static str,
    /// What it is, in words ("passthru").
    pub product_name: &'static str,
    /// What only this driver has: its facts and its operations.
    pub part: Arc<dyn LayerPart>,
}

/// What a driver adds to a layer.
pub trait LayerPart: Send + Sync + 'static {
    /// Facts for `driver_specific`, beside the names of the layer and its base.
    fn facts(&self) -> serde_json::Map<String, serde_json::Value> {
        serde_json::Map::new()
    }

    /// The driver's own type.
    fn as_any(&self) -> &dyn Any;
}

/// Why a layer cannot be made.
#[derive(Debug, Error)]
pub enum LayerError {
    /// The device below is in use.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The name or the UUID is taken, or there is no such base.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Makes a layer over a device, and registers it.
///
/// `reactor` does what a change of the base asks for.
///
/// # Errors
/// [`LayerError`]; then the base is as it was.
pub fn create(
    registry: &Arc<Registry>,
    reactor: &ReactorHandle,
    base: &str,
    options: LayerOptions,
) -> Result<Arc<Bdev>, LayerError> {
    let base = registry.find(base)?;
    let below = base.info();
    let uuid = options.uuid.unwrap_or_else(|| {
        let name = format!("{}:{}", options.driver_name, options.name);
        Uuid::new_v5(&below.uuid, name.as_bytes())
    });
    registry.check_free(&options.name, Some(uuid))?;
    let mode = if below.read_only { OpenMode::Read } else { OpenMode::ReadWrite };
    let owner = format!("{} device '{}'", options.driver_name, options.name);
    let made: Arc<OnceLock<Weak<Bdev>>> = Arc::default();
    let listener = {
        let (made, registry, reactor) =
            (Arc::clone(&made), Arc::downgrade(registry), reactor.clone());
        Arc::new(move |_: &Bdev, event: &DeviceEvent| {
            if let Some(layer) = made.get().and_then(Weak::upgrade) {
                follow(&layer, event, &registry, &reactor);
            }
        })
    };
    let desc = BdevDesc::open(&base, mode, &owner, Some(listener))?;
    let kind = if below.read_only { ClaimKind::ReadOnly } else { ClaimKind::ExclusiveWrite };
    desc.claim(kind)?;
    let info = BdevInfo {
        name: options.name,
        aliases: Vec::new(),
        uuid,
        product_name: options.product_name.to_owned(),
        driver_name: options.driver_name,
        num_blocks: base.num_blocks(),
        limits: IoLimits::default(),
        ..below.clone()
    };
    let layer = Bdev::new(info, Box::new(Layer { desc, part: options.part }));
    let _ = made.set(Arc::downgrade(&layer));
    registry.register(&layer)?;
    if base.is_removed() {
        // It went before the listener knew of the layer.
        follow(&layer, &DeviceEvent::Removed, &Arc::downgrade(registry), reactor);
    }
    Ok(layer)
}

/// The driver's own part of a layer; none when the device is no layer or another driver's.
#[must_use]
pub fn part_of<P: 'static>(bdev: &Bdev) -> Option<&P> {
    bdev.ops().as_any()?.downcast_ref::<Layer>()?.part.as_any().downcast_ref()
}

/// Does what has happened to the base to the layer, on a reactor.
pub(super) fn follow(
    layer: &Arc<Bdev>,
    event: &DeviceEvent,
    registry: &Weak<Registry>,
    reactor: &ReactorHandle,
) {
    let resized = match event {
        DeviceEvent::Resized { now, .. } => Some(*now),
        DeviceEvent::Removed => None,
        // What else happens to the base the layer's consumers see in their I/O.
        _ => return,
    };
    let (layer, registry) = (Arc::clone(layer), Weak::clone(registry));
    let name = layer.name().to_owned();
    let work = move |reactor: &Rc<Reactor>| {
        reactor.spawn("change of a base", async move {
            if let Some(num_blocks) = resized {
                return layer.resize(num_blocks).await;
            }
            let Some(registry) = registry.upgrade() else { return };
            let same = registry.find(layer.name()).is_ok_and(|b| b.id() == layer.id());
            if same && let Err(error) = registry.unregister(layer.name()).await {
                tracing::debug!(%error, "a layer has gone before its base");
            }
        });
    };
    if let Some(own) = Reactor::current() {
        return work(&own);
    }
    let mut sent = reactor.try_send(work);
    while let Err(refused) = sent {
        if reactor.has_ended() {
            tracing::error!(device = name, "no reactor is there to follow a base");
            return;
        }
        // A full mailbox empties at the reactor's next turn, and this is no reactor's thread.
        std::thread::yield_now();
        sent = reactor.try_send(refused.0);
    }
}

/// The device for all cores.
struct Layer {
    desc: Arc<BdevDesc>,
    part: Arc<dyn LayerPart>,
}

impl BdevOps for Layer {
    fn io_types(&self) -> IoTypes {
        self.desc.bdev().io_types()
    }

    fn create_channel(&self, _reactor: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(LayerChannel(self.desc.io_handle()?)))
    }

    fn zones(&self) -> Option<ZoneGeometry> {
        self.desc.bdev().zones().copied()
    }

    fn driver_info(&self) -> serde_json::Value {
        let mut facts = self.part.facts();
        facts.insert("base_bdev_name".to_owned(), self.desc.bdev().name().into());
        facts.into()
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// The base on one core.
struct LayerChannel(IoHandle);

impl BdevChannel for LayerChannel {
    #[inline]
    fn submit(&mut self, io: BdevIo) {
        self.0.forward(io);
    }
}

#[cfg(test)]
mod tests;
