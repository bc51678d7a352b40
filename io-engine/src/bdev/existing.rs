//! `bdev:///name` and `loopback:///name`: a device that is there already.

use async_trait::async_trait;

use super::BdevUri;
use super::dev::{BdevError, Factory};
use crate::core::Engine;

struct Existing(String);

pub(super) fn parse(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    let name = uri.name()?.to_owned();
    uri.params().finish()?;
    Ok(Box::new(Existing(name)))
}

#[async_trait]
impl Factory for Existing {
    fn name(&self) -> &str {
        &self.0
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        Ok(engine.registry().find(&self.0)?.name().to_owned())
    }
}
