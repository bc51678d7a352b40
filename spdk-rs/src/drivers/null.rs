//! A device that stores nothing: writes vanish, reads leave the buffer as it was.
//!
//! It shows what the engine itself costs per I/O.

use std::rc::Rc;
use std::sync::Arc;

use uuid::Uuid;

use crate::NvmeStatus;
use crate::bdev::{
    Bdev, BdevChannel, BdevInfo, BdevIo, BdevOps, IoLimits, IoList, IoType, IoTypes,
};
use crate::reactor::Reactor;

/// What a null device is made of.
#[derive(Clone, Debug)]
pub struct NullOptions {
    /// Unique name.
    pub name: String,
    /// Unique identifier; random when none.
    pub uuid: Option<Uuid>,
    /// Bytes per block.
    pub block_len: u32,
    /// Bytes per physical block.
    pub phys_block_len: u32,
    /// Size in blocks.
    pub num_blocks: u64,
}

/// Makes a null device.
#[must_use]
pub fn create(options: NullOptions) -> Arc<Bdev> {
    let info = BdevInfo {
        name: options.name,
        aliases: Vec::new(),
        uuid: options.uuid.unwrap_or_else(Uuid::new_v4),
        product_name: "Null disk".to_owned(),
        driver_name: "null",
        block_len: options.block_len,
        phys_block_len: options.phys_block_len,
        num_blocks: options.num_blocks,
        alignment: 1,
        write_cache: false,
        read_only: false,
        limits: IoLimits::default(),
    };
    Bdev::new(info, Box::new(Null))
}

struct Null;

impl BdevOps for Null {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[
            IoType::Read,
            IoType::Write,
            IoType::Flush,
            IoType::Unmap,
            IoType::WriteZeroes,
        ])
    }

    fn create_channel(&self, _reactor: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(NullChannel))
    }
}

struct NullChannel;

impl BdevChannel for NullChannel {
    #[inline]
    fn submit(&mut self, io: BdevIo) {
        io.complete(NvmeStatus::SUCCESS);
    }

    fn submit_batch(&mut self, batch: &mut IoList) {
        while let Some(io) = batch.pop() {
            io.complete(NvmeStatus::SUCCESS);
        }
    }
}
