//! `uring:///path?name=&blk_size=&uuid=&size_mb=&readonly=&direct=&iopoll=`: a file or block device
//! by io_uring. With `size_mb`, a file that does not exist is created.

use std::sync::Arc;

use async_trait::async_trait;
use spdk_rs::bdev::Bdev;
use spdk_rs::drivers::uring::{self, UringOptions};

use super::dev::{BdevError, Factory};
use super::{BdevUri, file_params};
use crate::core::Engine;

struct Uring(UringOptions);

pub(super) fn parse(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    let mut params = uri.params();
    let mut options = UringOptions::new(file_params::take(uri, &mut params)?);
    options.file.direct = params.take_bool("direct")?;
    options.iopoll = params.take_bool("iopoll")?;
    params.finish()?;
    if options.iopoll == Some(true) && options.file.direct == Some(false) {
        return Err(BdevError::Parameter {
            name: options.file.name,
            parameter: "iopoll",
            value: "true".to_owned(),
            allowed: "completions can be polled for with direct I/O only; leave direct out"
                .to_owned(),
        });
    }
    Ok(Box::new(Uring(options)))
}

#[async_trait]
impl Factory for Uring {
    fn name(&self) -> &str {
        &self.0.file.name
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        Ok(create(engine, self.0.clone()).await?.name().to_owned())
    }
}

/// Makes and registers an io_uring device.
///
/// # Errors
/// [`BdevError`]; then nothing was created.
pub async fn create(engine: &Engine, options: UringOptions) -> Result<Arc<Bdev>, BdevError> {
    let file = options.file.clone();
    file_params::create(engine, &file, move || uring::create(&options)).await
}
