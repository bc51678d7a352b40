//! What the URIs of devices over a file have in common, and how such a device is made.

use std::sync::Arc;

use spdk_rs::bdev::Bdev;
use spdk_rs::drivers::common::{FileBdevError, FileOptions};

use super::dev::BdevError;
use super::{BdevUri, Params};
use crate::core::Engine;

/// Block sizes of files and block devices in bytes; which of them a device does is up to it.
pub(crate) const BLOCK_SIZES: &[u32] = &[512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];
/// The largest size in MiB: what fits a signed 64-bit number of bytes.
const SIZE_MB_MAX: u64 = (1 << 43) - 1;

/// Takes what `aio:` and `uring:` both have. Without a name, a device is named by its path.
pub(super) fn take(uri: &BdevUri, params: &mut Params<'_>) -> Result<FileOptions, BdevError> {
    let path = uri.file_path()?;
    let mut options = FileOptions::new(params.take_str("name").unwrap_or(path), path);
    options.block_len = params.take_block_size(BLOCK_SIZES)?;
    options.uuid = params.take_uuid("uuid")?;
    options.create_size = params.take_u64("size_mb", 1..=SIZE_MB_MAX)?.map(|mb| mb << 20);
    options.read_only = params.take_bool("readonly")?.unwrap_or(false);
    Ok(options)
}

/// Makes a device over a file on a helper thread and registers it; returns the device.
pub(super) async fn create(
    engine: &Engine,
    file: &FileOptions,
    make: impl FnOnce() -> Result<Arc<Bdev>, FileBdevError> + Send + 'static,
) -> Result<Arc<Bdev>, BdevError> {
    let name = &file.name;
    // Checked again at registration; here it saves the file from being created.
    engine.registry().check_free(name, file.uuid)?;
    let made = engine.runtime().offload().call(make).await;
    let bdev = made
        .map_err(|cancelled| BdevError::driver(name, cancelled))?
        .map_err(|source| BdevError::driver(name, source))?;
    if let Err(error) = engine.registry().register(&bdev) {
        // Closing a file may block.
        engine.runtime().offload().run(move || drop(bdev));
        return Err(error.into());
    }
    Ok(bdev)
}
