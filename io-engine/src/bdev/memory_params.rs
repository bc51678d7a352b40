//! What the URIs of devices without a file have in common.

use uuid::Uuid;

use super::BdevUri;
use super::dev::{BdevError, blocks_of};

/// Block sizes of memory devices in bytes.
const BLOCK_SIZES: &[u32] = &[512, 4096];
/// The block size when none is given.
const BLOCK_SIZE_DEFAULT: u32 = 512;
/// The largest size in MiB: what fits a signed 64-bit number of bytes.
const SIZE_MB_MAX: u64 = 1 << 43;

/// The parameters of `malloc:` and `null:`.
pub(super) struct MemoryParams {
    pub(super) name: String,
    pub(super) uuid: Option<Uuid>,
    pub(super) block_len: u32,
    pub(super) num_blocks: u64,
}

impl MemoryParams {
    pub(super) fn take(uri: &BdevUri) -> Result<Self, BdevError> {
        let name = uri.name()?.to_owned();
        let mut params = uri.params();
        let block_len = params.take_block_size(BLOCK_SIZES)?.unwrap_or(BLOCK_SIZE_DEFAULT);
        let size_mb = params.take_u64("size_mb", 1..=SIZE_MB_MAX - 1)?;
        let num_blocks = params.take_u64("num_blocks", 1..=(i64::MAX.unsigned_abs() / 4096))?;
        let uuid = params.take_uuid("uuid")?;
        // A misspelt parameter is named before the one that is missing because of it.
        let size_is_there = params.require_one_of(&["size_mb", "num_blocks"]);
        params.finish()?;
        size_is_there?;
        let num_blocks = blocks_of(&name, num_blocks, size_mb.map(|mb| mb << 20), block_len)?;
        Ok(Self { name, uuid, block_len, num_blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(uri: &str) -> String {
        let uri = BdevUri::parse(uri).unwrap();
        match MemoryParams::take(&uri) {
            Ok(_) => panic!("{uri} was accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refusal("malloc:///a?sizemb=1").contains("`sizemb`"));
        assert!(refusal("malloc:///a").contains("size_mb or num_blocks"));
        assert!(refusal("malloc:///a?size_mb=1&num_blocks=2").contains("num_blocks"));
        assert!(refusal("null:///a?size_mb=1&blk_size=513").contains("513"));
        assert!(refusal("null:///a?size_mb=0").contains("size_mb"));
    }
}
