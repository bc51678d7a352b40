//! `aio:///path?name=&blk_size=&uuid=&size_mb=&readonly=&depth=`: a file or block device by Linux
//! AIO. With `size_mb`, a file that does not exist is created.

use std::sync::Arc;

use async_trait::async_trait;
use spdk_rs::bdev::Bdev;
use spdk_rs::drivers::aio::{self, AioOptions};

use super::dev::{BdevError, Factory};
use super::{BdevUri, file_params};
use crate::core::Engine;

struct Aio(AioOptions);

pub(super) fn parse(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    let mut params = uri.params();
    let mut options = AioOptions::new(file_params::take(uri, &mut params)?);
    let depth = params.take_u64("depth", 1..=AioOptions::DEPTH_MAX.into())?;
    if let Some(depth) = depth.and_then(|depth| u32::try_from(depth).ok()) {
        options.depth = depth;
    }
    params.finish()?;
    Ok(Box::new(Aio(options)))
}

#[async_trait]
impl Factory for Aio {
    fn name(&self) -> &str {
        &self.0.file.name
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        Ok(create(engine, self.0.clone()).await?.name().to_owned())
    }
}

/// Makes and registers an AIO device.
///
/// # Errors
/// [`BdevError`]; then nothing was created.
pub async fn create(engine: &Engine, options: AioOptions) -> Result<Arc<Bdev>, BdevError> {
    let file = options.file.clone();
    file_params::create(engine, &file, move || aio::create(&options)).await
}
