//! `pool:///name?disk=<uri or device>[&create=true&journal_mb=&cache_mb=&digest=&uuid=&readonly=]`:
//! imports a pool, or makes one when that is asked for; and what management and URIs do with pools.
//!
//! A pool is no device itself: its volumes are, as `name/volume`. Nothing is formatted without
//! `create=true`, and not even then where a pool is already.

use async_trait::async_trait;
use uuid::Uuid;

use super::dev::{BdevError, Factory, create as create_device, destroy as destroy_device, plan};
use super::{BdevUri, UriError};
use crate::core::Engine;
use crate::pool::{
    Base, DigestKind, Exported, ImportOptions, ImportRequest, Imported, ManagerError, PoolOptions,
};
use std::sync::Arc;

/// The largest cache of a pool in MiB.
pub(crate) const CACHE_MB_MAX: u64 = 1 << 20;
/// The largest journal in MiB.
pub(crate) const JOURNAL_MB_MAX: u64 = 64;

/// A pool that a URI describes.
#[derive(Debug)]
struct Pool {
    name: String,
    disk: String,
    cache_mb: Option<u64>,
    read_only: bool,
    /// What the pool is made of, when it is to be made.
    create: Option<PoolOptions>,
}

pub(super) fn parse(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    Ok(Box::new(read(uri)?))
}

fn read(uri: &BdevUri) -> Result<Pool, BdevError> {
    let name = uri.name()?.to_owned();
    let mut params = uri.params();
    let disk = params.take_str("disk").map(str::to_owned);
    let create = params.take_bool("create")?.unwrap_or(false);
    let journal_mb = params.take_u64("journal_mb", 1..=JOURNAL_MB_MAX)?;
    let cache_mb = params.take_u64("cache_mb", 1..=CACHE_MB_MAX)?;
    let kinds = DigestKind::ALL.map(|kind| (kind.name(), kind));
    let digest = params.take_choice("digest", &kinds)?;
    let uuid = params.take_uuid("uuid")?;
    let read_only = params.take_bool("readonly")?.unwrap_or(false);
    let missing = params.missing("disk: a device's name, or its URI with `&`, `?`, … escaped");
    params.finish()?;
    let disk = disk.ok_or(missing)?;
    if disk.contains("://") {
        plan(&disk)?;
    }
    let of_new = [
        ("journal_mb", journal_mb.map(|mb| mb.to_string())),
        ("digest", digest.map(|kind| kind.name().to_owned())),
        ("uuid", uuid.map(|uuid| uuid.to_string())),
    ];
    for (name, value) in of_new {
        if let Some(value) = value.filter(|_| !create) {
            let allowed = "it belongs to a new pool; give create=true, or leave it out".to_owned();
            return Err(UriError::Value { name, value, allowed }.into());
        }
    }
    if create && read_only {
        let allowed = "a pool that is made is written; leave out create or readonly".to_owned();
        let (name, value) = ("readonly", "true".to_owned());
        return Err(UriError::Value { name, value, allowed }.into());
    }
    let options = create.then(|| pool_options(&name, uuid, digest, journal_mb, cache_mb));
    Ok(Pool { name, disk, cache_mb, read_only, create: options })
}

/// The options of a new pool.
pub(crate) fn pool_options(
    name: &str,
    uuid: Option<Uuid>,
    digest: Option<DigestKind>,
    journal_mb: Option<u64>,
    cache_mb: Option<u64>,
) -> PoolOptions {
    let defaults = PoolOptions::default();
    PoolOptions {
        name: name.to_owned(),
        uuid,
        digest: digest.unwrap_or(defaults.digest),
        journal_bytes: journal_mb.map(|mb| mb << 20),
        cache_bytes: cache_mb.map_or(defaults.cache_bytes, |mb| mb << 20),
        force: false,
    }
}

/// How a pool is imported.
pub(crate) fn import_request(
    name: Option<&str>,
    cache_mb: Option<u64>,
    read_only: bool,
) -> ImportRequest {
    let defaults = ImportOptions::default();
    let cache_bytes = cache_mb.map_or(defaults.cache_bytes, |mb| mb << 20);
    let options = ImportOptions { cache_bytes, read_only };
    ImportRequest { name: name.map(str::to_owned), options }
}

#[async_trait]
impl Factory for Pool {
    fn name(&self) -> &str {
        &self.name
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        let made = match &self.create {
            Some(options) => create(engine, &self.disk, options.clone()).await,
            None => {
                let request = import_request(Some(&self.name), self.cache_mb, self.read_only);
                import(engine, &self.disk, request).await
            }
        };
        made.map(|pool| pool.name().to_owned())
    }
}

/// Makes a pool on a disk, a device's name or URI, and imports it.
///
/// # Errors
/// [`BdevError`]; then nothing is left behind.
pub async fn create(
    engine: &Engine,
    disk: &str,
    options: PoolOptions,
) -> Result<Arc<Imported>, BdevError> {
    let base = base(engine, disk).await?;
    let name = options.name.clone();
    let made = engine.pools().create(base.clone(), options).await;
    or_undo(engine, &base, &name, made).await
}

/// Imports the pool of a disk, a device's name or URI.
///
/// # Errors
/// [`BdevError`]; then nothing is left behind.
pub async fn import(
    engine: &Engine,
    disk: &str,
    request: ImportRequest,
) -> Result<Arc<Imported>, BdevError> {
    let base = base(engine, disk).await?;
    let name = request.name.clone().unwrap_or_else(|| base.device.clone());
    let made = engine.pools().import(base.clone(), request).await;
    or_undo(engine, &base, &name, made).await
}

/// Exports a pool, and removes its device if that was made for it.
///
/// # Errors
/// [`BdevError`]; when the pool could not be brought to its medium, it is gone all the same.
pub async fn export(engine: &Engine, name: &str, forced: bool) -> Result<Exported, BdevError> {
    let base = engine.pools().find(name).map_err(|error| refused(name, error))?.base().clone();
    let exported = engine.pools().export(name, forced).await;
    if exported.is_ok() || engine.pools().find(name).is_err() {
        release(engine, &base).await;
    }
    exported.map_err(|error| refused(name, error))
}

/// Ends a pool for ever, and removes its device if that was made for it.
///
/// # Errors
/// [`BdevError`].
pub async fn destroy(engine: &Engine, name: &str) -> Result<(), BdevError> {
    let base = engine.pools().find(name).map_err(|error| refused(name, error))?.base().clone();
    let destroyed = engine.pools().destroy(name).await;
    if engine.pools().find(name).is_err() {
        release(engine, &base).await;
    }
    destroyed.map(drop).map_err(|error| refused(name, error))
}

/// The refusal of the manager as an error of a device.
pub(super) fn refused(name: &str, error: ManagerError) -> BdevError {
    BdevError::Pool { name: name.to_owned(), source: Box::new(error) }
}

/// The device of a disk, made if it is described by a URI and not there yet.
async fn base(engine: &Engine, disk: &str) -> Result<Base, BdevError> {
    let disk = disk.to_owned();
    if !disk.contains("://") {
        let device = engine.registry().find(&disk)?.name().to_owned();
        return Ok(Base { device, disk, owned: false });
    }
    let planned = plan(&disk)?;
    let scheme = BdevUri::parse(&disk)?.scheme().to_owned();
    // What these schemes name is there already, or stays when the pool goes.
    let lent = ["bdev", "loopback", "vol", "lvol"].contains(&scheme.as_str());
    drop(planned);
    let device = Box::pin(create_device(engine, &disk)).await?;
    Ok(Base { device, disk, owned: !lent })
}

async fn or_undo(
    engine: &Engine,
    base: &Base,
    name: &str,
    made: Result<Arc<Imported>, ManagerError>,
) -> Result<Arc<Imported>, BdevError> {
    if made.is_err() {
        release(engine, base).await;
    }
    made.map_err(|error| refused(name, error))
}

/// Removes a device that was made for a pool.
async fn release(engine: &Engine, base: &Base) {
    if base.owned
        && let Err(error) = Box::pin(destroy_device(engine, &base.device)).await
    {
        tracing::debug!("device '{}' of a pool: {error}", base.device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(uri: &str) -> String {
        read(&BdevUri::parse(uri).expect(uri)).expect_err(uri).to_string()
    }

    #[test]
    fn a_uri_is_read_whole() {
        let uri = "pool:///tank?disk=malloc%3A%2F%2F%2Fm%3Fsize_mb%3D16&create=true&journal_mb=1&\
                   cache_mb=8&digest=crc32c";
        let pool = read(&BdevUri::parse(uri).expect("a URI")).expect("a pool");
        assert_eq!((pool.name.as_str(), pool.disk.as_str()), ("tank", "malloc:///m?size_mb=16"));
        let options = pool.create.expect("create");
        assert_eq!((options.journal_bytes, options.cache_bytes), (Some(1 << 20), 8 << 20));
        assert_eq!((options.digest, options.force), (DigestKind::Crc32c, false));
        let import = read(&BdevUri::parse("pool:///t?disk=m").expect("a URI")).expect("a pool");
        assert!(import.create.is_none() && !import.read_only);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refusal("pool:///t").contains("disk"));
        assert!(refusal("pool:///t?disk=m&digest=md5&create=true").contains("sha256, blake3"));
        assert!(refusal("pool:///t?disk=m&journal_mb=8").contains("give create=true"));
        assert!(refusal("pool:///t?disk=m&create=1&readonly=1").contains("readonly"));
        assert!(refusal("pool:///t?disk=melt%3A%2F%2F%2Fx").contains("unknown scheme `melt`"));
        assert!(refusal("pool:///t?disk=m&size=1").contains("`size`"));
    }
}
