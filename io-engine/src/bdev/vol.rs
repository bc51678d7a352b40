//! `vol:///name?pool=<pool or pool URI>[&size=&thin=&blk_size=&uuid=]`, also `lvol:`: a volume or
//! snapshot of a pool, or a new volume when `size` is given and there is none of that name.

use async_trait::async_trait;

use super::dev::{BdevError, Factory, create as create_device, plan};
use super::pool::{export, refused};
use super::{BdevUri, UriError};
use crate::core::Engine;
use crate::pool::{ManagerError, PoolError, VolumeInfo, VolumeOptions};

/// Block sizes of volumes in bytes.
const BLOCK_SIZES: &[u32] = &[512, 4096];
/// The largest volume in bytes.
const SIZE_MAX: u64 = 1 << 48;

#[derive(Debug)]
struct Vol {
    /// The volume, without its pool.
    volume: String,
    /// `POOL/VOLUME`.
    device: String,
    pool: String,
    /// The pool's URI, when it may have to be imported.
    pool_uri: Option<String>,
    size_bytes: Option<u64>,
    thin: Option<bool>,
    block_len: Option<u32>,
    uuid: Option<uuid::Uuid>,
}

pub(super) fn parse(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    Ok(Box::new(read(uri)?))
}

fn read(uri: &BdevUri) -> Result<Vol, BdevError> {
    let volume = uri.name()?.to_owned();
    let mut params = uri.params();
    let named = params.take_str("pool").map(str::to_owned);
    let size_bytes = params.take_size("size", 4096..=SIZE_MAX)?;
    let thin = params.take_bool("thin")?;
    let block_len = params.take_block_size(BLOCK_SIZES)?;
    let uuid = params.take_uuid("uuid")?;
    let missing = params.missing("pool: the name of an imported pool, or a `pool:` URI, escaped");
    params.finish()?;
    let named = named.ok_or(missing)?;
    if let (None, Some(uuid)) = (size_bytes, uuid) {
        let allowed = "it belongs to a new volume; give size, or leave it out".to_owned();
        return Err(UriError::Value { name: "uuid", value: uuid.to_string(), allowed }.into());
    }
    let (pool, pool_uri) = if named.contains("://") {
        let inner = BdevUri::parse(&named)?;
        if inner.scheme() != "pool" {
            let allowed = "it has to be the name of a pool, or a `pool:` URI".to_owned();
            return Err(UriError::Value { name: "pool", value: named, allowed }.into());
        }
        (plan(&named)?.name().to_owned(), Some(named))
    } else {
        (named, None)
    };
    let device = format!("{pool}/{volume}");
    Ok(Vol { volume, device, pool, pool_uri, size_bytes, thin, block_len, uuid })
}

#[async_trait]
impl Factory for Vol {
    fn name(&self) -> &str {
        &self.device
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        let mut imported = false;
        if let Some(uri) = &self.pool_uri
            && engine.pools().find(&self.pool).is_err()
        {
            Box::pin(create_device(engine, uri)).await?;
            imported = true;
        }
        let opened = self.open(engine).await;
        if opened.is_err() && imported {
            export(engine, &self.pool, true).await?;
        }
        opened
    }
}

impl Vol {
    async fn open(&self, engine: &Engine) -> Result<String, BdevError> {
        let pools = engine.pools();
        let refused = |error| refused(&self.device, error);
        pools.find(&self.pool).map_err(refused)?;
        match (pools.locate(&self.device).await, self.size_bytes) {
            (Ok((_, volume)), _) => {
                self.check(&volume)?;
                pools.open_volume(&self.device).await.map_err(refused)
            }
            (Err(ManagerError::NoSuchVolume { .. }), Some(size_bytes)) => {
                let defaults = VolumeOptions::default();
                let options = VolumeOptions {
                    thin: self.thin.unwrap_or(defaults.thin),
                    uuid: self.uuid,
                    block_len: self.block_len.unwrap_or(defaults.block_len),
                };
                let made = pools.create_volume(&self.pool, &self.volume, size_bytes, options).await;
                made.map(|_| self.device.clone()).map_err(refused)
            }
            (Err(ManagerError::NoSuchVolume { .. }), None) => {
                let (pool, name) = (self.pool.clone(), self.volume.clone());
                let missing = PoolError::NoSuchVolume { pool, name };
                Err(refused(missing.into()))
            }
            (Err(error), _) => Err(refused(error)),
        }
    }

    /// Refuses a volume that is there and is not what the URI says.
    fn check(&self, volume: &VolumeInfo) -> Result<(), BdevError> {
        let facts = [
            (
                "size",
                self.size_bytes
                    .filter(|size| *size != volume.size_bytes)
                    .map(|size| size.to_string()),
                volume.size_bytes.to_string(),
            ),
            (
                "blk_size",
                self.block_len.filter(|len| *len != volume.block_len).map(|len| len.to_string()),
                volume.block_len.to_string(),
            ),
            (
                "thin",
                self.thin.filter(|thin| *thin != volume.thin).map(|thin| thin.to_string()),
                volume.thin.to_string(),
            ),
            (
                "uuid",
                self.uuid.filter(|uuid| *uuid != volume.uuid).map(|uuid| uuid.to_string()),
                volume.uuid.to_string(),
            ),
        ];
        for (parameter, wrong, actual) in facts {
            if let Some(value) = wrong {
                let allowed = format!("the volume is there and has {actual}");
                return Err(BdevError::Parameter {
                    name: self.device.clone(),
                    parameter,
                    value,
                    allowed,
                });
            }
        }
        Ok(())
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
        let uri = "vol:///v?pool=tank&size=8M&thin=false&blk_size=512";
        let vol = read(&BdevUri::parse(uri).expect("a URI")).expect("a volume");
        assert_eq!((vol.device.as_str(), vol.pool_uri.as_deref()), ("tank/v", None));
        assert_eq!(
            (vol.size_bytes, vol.thin, vol.block_len),
            (Some(8 << 20), Some(false), Some(512))
        );
        let uri = "lvol:///v?pool=pool%3A%2F%2F%2Ft%3Fdisk%3Dm";
        let vol = read(&BdevUri::parse(uri).expect("a URI")).expect("a volume");
        assert_eq!(
            (vol.device.as_str(), vol.pool_uri.as_deref()),
            ("t/v", Some("pool:///t?disk=m"))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refusal("vol:///v").contains("pool"));
        assert!(refusal("vol:///v?pool=null%3A%2F%2F%2Fn%3Fsize_mb%3D1").contains("`pool:` URI"));
        assert!(refusal("vol:///v?pool=t&size=1").contains("size"));
        assert!(refusal("vol:///v?pool=t&blk_size=1024").contains("512, 4096"));
        assert!(
            refusal("vol:///v?pool=t&uuid=0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60").contains("size")
        );
    }
}
