//! `malloc:///name?size_mb=|num_blocks=&blk_size=&uuid=`: a device in memory.

use std::sync::Arc;

use async_trait::async_trait;
use spdk_rs::bdev::Bdev;
use spdk_rs::drivers::malloc::{self, MallocOptions};

use super::BdevUri;
use super::dev::{BdevError, Factory};
use super::memory_params::MemoryParams;
use crate::core::Engine;

struct Malloc(MallocOptions);

pub(super) fn parse(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    let MemoryParams { name, uuid, block_len, num_blocks } = MemoryParams::take(uri)?;
    let phys_block_len = block_len;
    Ok(Box::new(Malloc(MallocOptions { name, uuid, block_len, phys_block_len, num_blocks })))
}

#[async_trait]
impl Factory for Malloc {
    fn name(&self) -> &str {
        &self.0.name
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        create(engine, self.0.clone()).await
    }
}

/// Makes and registers a malloc device; returns its name.
///
/// # Errors
/// [`BdevError`]; then nothing was created.
pub async fn create(engine: &Engine, options: MallocOptions) -> Result<String, BdevError> {
    let (memory, name) = (engine.memory().clone(), options.name.clone());
    // Checked again at registration; here it saves the memory.
    engine.registry().check_free(&name, options.uuid)?;
    let made = engine.runtime().offload().call(move || malloc::create(&memory, options)).await;
    let bdev: Arc<Bdev> = made
        .map_err(|cancelled| BdevError::driver(&name, cancelled))?
        .map_err(|source| BdevError::driver(&name, source))?;
    engine.registry().register(&bdev)?;
    Ok(name)
}
