//! `null:///name?size_mb=|num_blocks=&blk_size=&uuid=`: a device that stores nothing.

use async_trait::async_trait;
use spdk_rs::drivers::null::{self, NullOptions};

use super::BdevUri;
use super::dev::{BdevError, Factory};
use super::memory_params::MemoryParams;
use crate::core::Engine;

struct Null(NullOptions);

pub(super) fn parse(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    let MemoryParams { name, uuid, block_len, num_blocks } = MemoryParams::take(uri)?;
    let phys_block_len = block_len;
    Ok(Box::new(Null(NullOptions { name, uuid, block_len, phys_block_len, num_blocks })))
}

#[async_trait]
impl Factory for Null {
    fn name(&self) -> &str {
        &self.0.name
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        let bdev = null::create(self.0.clone());
        engine.registry().register(&bdev)?;
        Ok(self.0.name.clone())
    }
}
