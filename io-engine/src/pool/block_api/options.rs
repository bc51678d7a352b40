//! What a store is made of, and the device that its name means.

use std::path::Path;

use spdk_rs::bdev::RegistryError;
use spdk_rs::drivers::aio::AioOptions;
use spdk_rs::drivers::common::FileOptions;

use super::{BlockApiError, PerfMetrics};
use crate::bdev;
use crate::core::{BlockDevice, CoreError, Engine};
use crate::pool::allocator::{BlockType, Space};

/// What a store is made of.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// The name, an alias or the UUID of a device; or else a URI that makes one; or else the
    /// absolute path of a file or block device, which is opened with Linux AIO.
    pub name: String,
    /// How much of the device is used, in bytes, a multiple of 4096; 0 for all of it. A file that
    /// does not exist is created with this size.
    pub total_size: u64,
    /// I/Os in flight per core, 1 to 65536; what goes beyond waits.
    pub io_depth: u32,
    /// Blocks begin at multiples of this many bytes: a power of two up to 1 MiB, at least the
    /// device's block size; 0 for 4096 or, if that is larger, the device's block size.
    pub alignment: u64,
    /// What the device is said to do.
    pub declared: PerfMetrics,
}

impl CreateOptions {
    /// The default of `io_depth`.
    pub const IO_DEPTH: u32 = 256;
    /// The largest `io_depth`.
    pub const IO_DEPTH_MAX: u32 = 65_536;

    /// All of a device.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let (total_size, io_depth, alignment) = (0, Self::IO_DEPTH, 0);
        let declared = PerfMetrics::default();
        Self { name: name.into(), total_size, io_depth, alignment, declared }
    }

    /// Refuses what no device can have.
    pub(super) fn check(&self) -> Result<(), BlockApiError> {
        if !(1..=Self::IO_DEPTH_MAX).contains(&self.io_depth) {
            let allowed = format!("it has to be from 1 to {}", Self::IO_DEPTH_MAX);
            return Err(refused("io_depth", self.io_depth, allowed));
        }
        if !self.total_size.is_multiple_of(BlockType::K4.bytes()) {
            let allowed = "it has to be a multiple of 4096, or 0 for the whole device";
            return Err(refused("total_size", self.total_size, allowed));
        }
        let wrong = |(_, value): &(&str, f64)| !value.is_finite() || *value < 0.0;
        if let Some((option, value)) = self.declared.named().into_iter().find(wrong) {
            return Err(refused(option, value, "it has to be a number from 0 on"));
        }
        Ok(())
    }

    /// The space on a device.
    pub(super) fn space(&self, device: &dyn BlockDevice) -> Result<Space, BlockApiError> {
        let (block_len, size) = (device.block_len(), device.size_in_bytes());
        if !block_len.is_power_of_two() || block_len > BlockType::M1.bytes() {
            let allowed = "blocks can be managed on devices whose block size is a power of two up \
                           to 1048576";
            return Err(refused("a device's block size of", block_len, allowed));
        }
        let size_bytes = match self.total_size {
            0 => size - size % BlockType::K4.bytes(),
            total if total <= size => total,
            total => {
                let allowed = format!("device '{}' has {size} bytes", device.device_name());
                return Err(refused("total_size", total, allowed));
            }
        };
        let alignment = match self.alignment {
            0 => BlockType::K4.bytes().max(block_len),
            less if less < block_len => {
                let allowed = format!("it has to be at least the device's block size, {block_len}");
                return Err(refused("alignment", less, allowed));
            }
            given => given,
        };
        Ok(Space { base_offset: 0, size_bytes, alignment })
    }

    /// Finds the device or makes it: its name, and whether it was made.
    pub(super) async fn device(&self, engine: &Engine) -> Result<(String, bool), BlockApiError> {
        let name = &self.name;
        if let Ok(device) = engine.device_lookup(name) {
            return Ok((device.device_name().to_owned(), false));
        }
        if name.contains("://") {
            let factory = bdev::plan(name)?;
            // `bdev:///name` names a device that is there already.
            let is_there = engine.device_lookup(factory.name()).is_ok();
            return Ok((factory.create(engine).await?, !is_there));
        }
        if !Path::new(name).is_absolute() {
            let missing = RegistryError::NotFound { name: name.clone() };
            return Err(CoreError::from(missing).into());
        }
        let mut file = FileOptions::new(name, name);
        if self.total_size != 0 && !Path::new(name).exists() {
            file.create_size = Some(self.total_size);
        }
        let made = bdev::aio::create(engine, AioOptions::new(file)).await?;
        Ok((made.name().to_owned(), true))
    }
}

pub(super) fn refused(
    option: &'static str,
    value: impl ToString,
    allowed: impl Into<String>,
) -> BlockApiError {
    BlockApiError::Option { option, value: value.to_string(), allowed: allowed.into() }
}
