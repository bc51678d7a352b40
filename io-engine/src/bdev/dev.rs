//! From a URI to a device: finds the factory of a scheme.

use async_trait::async_trait;
use spdk_rs::bdev::RegistryError;
use thiserror::Error;

use super::{
    BdevUri, UriError, aio, existing, layers, malloc, null, nvmf, pcie, pool, split, uring, vol,
};
use crate::core::Engine;
use crate::pool::ManagerError;

/// A device that a URI describes completely, and that is not there yet.
///
/// Reading the URI and making the device are two steps, so that a wrong URI is refused before
/// anything is created.
#[async_trait]
pub trait Factory: Send + Sync {
    /// The name the device will have.
    fn name(&self) -> &str;

    /// Makes and registers the device; returns its name. On an error nothing is left behind.
    ///
    /// # Errors
    /// [`BdevError`].
    async fn create(&self, engine: &Engine) -> Result<String, BdevError>;
}

/// Why a device could not be made or removed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BdevError {
    /// The URI is wrong.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The name or UUID is taken, or there is no such device.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The driver refused.
    #[error("cannot create device '{name}'")]
    Driver {
        /// The device.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A parameter has a value that the device cannot have.
    #[error("device '{name}': {parameter} {value}: {allowed}")]
    Parameter {
        /// The device.
        name: String,
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A pool or volume is not what was asked for.
    #[error("cannot have '{name}'")]
    Pool {
        /// The pool or volume.
        name: String,
        /// Why.
        #[source]
        source: Box<ManagerError>,
    },
    /// A device can only go together with others that are in use.
    #[error("device '{name}' goes with its controller '{controller}', of which {others} in use")]
    Shared {
        /// The device.
        name: String,
        /// What it belongs to.
        controller: String,
        /// The others, with a verb.
        others: String,
    },
    /// A part of a device can only go together with the other parts, and some are in use.
    #[error("device '{name}' goes with the other parts of '{base}', of which {others} in use")]
    Parts {
        /// The device.
        name: String,
        /// What it is a part of.
        base: String,
        /// The others, with a verb.
        others: String,
    },
}

impl BdevError {
    /// A driver's refusal.
    pub fn driver(name: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Driver { name: name.to_owned(), source: source.into() }
    }
}

type Parse = fn(&BdevUri) -> Result<Box<dyn Factory>, BdevError>;

/// Every scheme and who reads its URIs.
const SCHEMES: &[(&str, Parse)] = &[
    ("malloc", malloc::parse),
    ("null", null::parse),
    ("aio", aio::parse),
    ("uring", uring::parse),
    ("nvmf", nvmf::parse),
    ("nvmf+tcp", nvmf::parse),
    ("pcie", pcie::parse),
    ("pool", pool::parse),
    ("vol", vol::parse),
    ("lvol", vol::parse),
    ("passthru", layers::parse_passthru),
    ("delay", layers::parse_delay),
    #[cfg(feature = "fault-injection")]
    ("error", layers::parse_error),
    ("split", split::parse),
    ("bdev", existing::parse),
    ("loopback", existing::parse),
];

/// The schemes, for messages and help.
#[must_use]
pub fn schemes() -> Vec<&'static str> {
    SCHEMES.iter().map(|(scheme, _)| *scheme).collect()
}

/// Reads a URI completely; nothing is created.
///
/// # Errors
/// [`BdevError::Uri`] or [`BdevError::Parameter`], naming the part and what is allowed.
pub fn plan(uri: &str) -> Result<Box<dyn Factory>, BdevError> {
    let uri = BdevUri::parse(uri)?;
    let found = SCHEMES.iter().find(|(scheme, _)| *scheme == uri.scheme());
    match found {
        Some((_, parse)) => parse(&uri),
        None => Err(uri.unknown_scheme(&schemes()).into()),
    }
}

/// Makes the device that a URI describes; returns its name.
///
/// # Errors
/// [`BdevError`]; then nothing was created.
pub async fn create(engine: &Engine, uri: &str) -> Result<String, BdevError> {
    plan(uri)?.create(engine).await
}

/// Attaches the NVMe controller that a URI names, whatever its namespaces are; returns its name, and
/// the number of the namespace if the URI has one.
///
/// # Errors
/// [`BdevError`]; then nothing was attached.
pub async fn attach_controller(
    engine: &Engine,
    uri: &str,
) -> Result<(String, Option<u32>), BdevError> {
    let uri = BdevUri::parse(uri)?;
    match uri.scheme() {
        "pcie" => pcie::attach(engine, &uri).await,
        "nvmf" | "nvmf+tcp" => nvmf::attach(engine, &uri).await,
        _ => Err(uri.unknown_scheme(&["pcie", "nvmf", "nvmf+tcp"]).into()),
    }
}

/// Detaches the NVMe controllers that have no device, as those whose attachment is under way: whoever
/// waits for it is told that it failed.
pub async fn detach_unfinished(engine: &Engine) {
    let controllers = engine.nvme().controllers(None);
    let unfinished = controllers.iter().filter(|controller| {
        let discovery = controller.paths.iter().any(|path| path.trid.is_discovery());
        controller.bdevs.is_empty() && !discovery
    });
    let ends = unfinished.map(|controller| engine.nvme().detach(&controller.name, None));
    // Somebody else may be faster.
    let _ = futures::future::join_all(ends).await;
}

/// Detaches every NVMe controller, also those whose attachment is under way: whoever waits for it is
/// told that it failed.
pub async fn detach_controllers(engine: &Engine) {
    for controller in engine.nvme().controllers(None) {
        if let Err(error) = engine.nvme().detach(&controller.name, None).await {
            // Somebody else was faster.
            tracing::debug!("NVMe controller '{}': {error}", controller.name);
        }
    }
}

/// Removes a device by name, alias or UUID. A namespace of an NVMe controller goes by detaching
/// the controller, and with it go the controller's other namespaces, as does a part of a device with
/// the other parts. No data are destroyed: a volume
/// stays in its pool, and a pool, by its name, is exported.
///
/// # Errors
/// [`BdevError::Registry`] when there is none, [`BdevError::Shared`] or [`BdevError::Parts`] when one
/// of those that it goes with is claimed.
pub async fn destroy(engine: &Engine, name: &str) -> Result<(), BdevError> {
    #[cfg(feature = "fault-injection")]
    let id = engine.registry().find(name).map(|bdev| bdev.id());
    remove(engine, name).await?;
    #[cfg(feature = "fault-injection")]
    if let Ok(id) = id {
        engine.faults().device_removed(id).await;
    }
    Ok(())
}

async fn remove(engine: &Engine, name: &str) -> Result<(), BdevError> {
    let bdev = match engine.registry().find(name) {
        Err(_) if engine.pools().find(name).is_ok() => {
            return pool::export(engine, name, false).await.map(drop);
        }
        found => found?,
    };
    let name = bdev.name().to_owned();
    if bdev.info().driver_name == crate::pool::bdev::DRIVER {
        let closed = engine.pools().close_volume(&name).await;
        return closed.map_err(|error| pool::refused(&name, error));
    }
    if let Some(part) = spdk_rs::drivers::split::part_of(&bdev) {
        drop(bdev);
        return split::delete_with_others(engine, &name, &part.base).await;
    }
    drop(bdev);
    if let Some(controller) = nvmf::controller_of(engine, &name) {
        return nvmf::detach(engine, &name, &controller).await;
    }
    let bdev = engine.registry().unregister(&name).await?;
    // The driver's last part may unmap memory or close files: not on a reactor. Waited for, so that
    // what the device stood on is not in use any more when this returns; a panic there was logged.
    let _ = engine.runtime().offload().call(move || drop(bdev)).await;
    Ok(())
}

/// The size in blocks from `num_blocks` or a size in bytes, one of which is there.
pub(super) fn blocks_of(
    name: &str,
    num_blocks: Option<u64>,
    size_bytes: Option<u64>,
    block_len: u32,
) -> Result<u64, BdevError> {
    let Some(bytes) = size_bytes else { return Ok(num_blocks.unwrap_or(0)) };
    let block_len = u64::from(block_len);
    if bytes == 0 || bytes % block_len != 0 {
        return Err(BdevError::Parameter {
            name: name.to_owned(),
            parameter: "size",
            value: format!("{bytes} bytes"),
            allowed: format!("a multiple of the block size, {block_len} bytes"),
        });
    }
    Ok(bytes / block_len)
}
