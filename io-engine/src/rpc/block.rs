//! `block_*`: the block API.

use std::ops::RangeInclusive;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jsonrpsee::types::ErrorObjectOwned;
use nix::errno::Errno;
use serde_json::{Value, json};

use super::errors::{self, RpcResult};
use super::params::{Name, Param, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev::BdevError;
use crate::pool::allocator::{Block, BlockType, Fragmentation};
use crate::pool::block_api::{BlockApiError, BlockStore, CreateOptions, PerfMetrics};

/// The most bytes that one call allocates, 1 GiB: an answer lists at most 1024 blocks.
const ALLOCATE_BYTES_MAX: u64 = 1 << 30;
/// The most blocks that one call lists.
const LISTED_MAX: u64 = 1024;
/// The most blocks that one call frees.
const FREE_BLOCKS_MAX: usize = 1024;
/// The most bytes that one call writes or reads, 1 MiB: no block is larger.
const DATA_BYTES_MAX: u64 = BlockType::M1.bytes();
/// Sizes and offsets: what fits a signed 64-bit number.
const BYTES: RangeInclusive<u64> = 0..=i64::MAX.unsigned_abs();

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("block_create", create).in_config("bdev"),
        Method::new("block_delete", delete),
        Method::new("block_get", get),
        Method::new("block_allocate", allocate),
        Method::new("block_free", free),
        Method::new("block_write", write),
        Method::new("block_read", read),
        Method::new("block_get_stats", get_stats),
        Method::new("block_get_blocks", get_blocks),
        Method::new("block_flush", flush),
    ]
}

/// An error of the block API. A wrong device URI is a wrong parameter.
fn refused(error: &BlockApiError) -> ErrorObjectOwned {
    match error {
        BlockApiError::Bdev(BdevError::Uri(uri)) => {
            jsonrpc::codes::invalid_params(format!("parameter `name`: {uri}"))
        }
        BlockApiError::Bdev(error) => errors::bdev(error),
        other => errors::failed(other),
    }
}

impl Param for PerfMetrics {
    const EXPECTED: &'static str = "an object of numbers from 0 on: read_bandwidth_mbps, \
                                    write_bandwidth_mbps, read_latency_us, write_latency_us, iops";

    fn of(value: &Value) -> Option<Self> {
        let mut metrics = Self::default();
        for (name, value) in value.as_object()? {
            let place = match name.as_str() {
                "read_bandwidth_mbps" => &mut metrics.read_bandwidth_mbps,
                "write_bandwidth_mbps" => &mut metrics.write_bandwidth_mbps,
                "read_latency_us" => &mut metrics.read_latency_us,
                "write_latency_us" => &mut metrics.write_latency_us,
                "iops" => &mut metrics.iops,
                _ => return None,
            };
            *place = value.as_f64().filter(|number| *number >= 0.0)?;
        }
        Some(metrics)
    }
}

impl Param for Block {
    const EXPECTED: &'static str =
        "a block as block_allocate answers it: an object of offset, size and block_type";

    fn of(value: &Value) -> Option<Self> {
        let members = value.as_object().filter(|members| members.len() == 3)?;
        let number = |name| members.get(name).and_then(Value::as_u64);
        let class = usize::try_from(number("block_type")?).ok()?;
        let block_type = BlockType::from_index(class)?;
        Some(Self { offset: number("offset")?, size: number("size")?, block_type })
    }
}

/// A list of blocks.
struct BlockList(Vec<Block>);

impl Param for BlockList {
    const EXPECTED: &'static str = "a list of 1 to 1024 blocks as block_allocate answers them: \
                                    objects of offset, size and block_type";

    fn of(value: &Value) -> Option<Self> {
        let list = value.as_array()?;
        let fits = (1..=FREE_BLOCKS_MAX).contains(&list.len());
        fits.then(|| list.iter().map(Block::of).collect::<Option<_>>().map(Self))?
    }
}

/// Bytes in base64.
struct Data(Vec<u8>);

impl Param for Data {
    const EXPECTED: &'static str = "1 to 1048576 bytes in base64 (RFC 4648, section 4, padded)";

    fn of(value: &Value) -> Option<Self> {
        let bytes = BASE64.decode(value.as_str()?).ok()?;
        (1..=DATA_BYTES_MAX).contains(&(bytes.len() as u64)).then_some(Self(bytes))
    }
}

fn of_block(block: &Block) -> Value {
    json!({
        "offset": block.offset,
        "size": block.size,
        "block_type": block.block_type.index(),
    })
}

async fn store(context: &Context, name: &Name) -> RpcResult<Arc<BlockStore>> {
    context.blocks.get(&name.0).await.map_err(|error| refused(&error))
}

struct Create(CreateOptions);

impl Request for Create {
    const NAMES: &'static [&'static str] =
        &["name", "total_size", "io_depth", "alignment", "perf_metrics"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let mut options = CreateOptions::new(params.required::<String>("name")?);
        options.total_size = params.optional_u64("total_size", BYTES)?.unwrap_or(0);
        let depth = params.optional_u32("io_depth", 1..=CreateOptions::IO_DEPTH_MAX)?;
        options.io_depth = depth.unwrap_or(CreateOptions::IO_DEPTH);
        let alignment = params.optional_u64("alignment", 0..=BlockType::M1.bytes())?.unwrap_or(0);
        if alignment != 0 && !alignment.is_power_of_two() {
            return Err(params.refuse("alignment", "it has to be a power of two, or 0"));
        }
        options.alignment = alignment;
        options.declared = params.optional("perf_metrics")?.unwrap_or_default();
        if !options.total_size.is_multiple_of(BlockType::K4.bytes()) {
            let allowed = "it has to be a multiple of 4096, or 0 for the whole device";
            return Err(params.refuse("total_size", allowed));
        }
        Ok(Self(options))
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<String> {
    let made = context.blocks.create(context.engine()?, &request.0).await;
    made.map(|store| store.name().to_owned()).map_err(|error| refused(&error))
}

struct OfName(Name);

impl Request for OfName {
    const NAMES: &'static [&'static str] = &["name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("name").map(Self)
    }
}

async fn delete(context: Arc<Context>, request: OfName) -> RpcResult<bool> {
    let deleted = context.blocks.delete(context.engine()?, &request.0.0).await;
    deleted.map(|()| true).map_err(|error| refused(&error))
}

struct Get(Option<Name>);

impl Request for Get {
    const NAMES: &'static [&'static str] = &["name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.optional("name").map(Self)
    }
}

async fn get(context: Arc<Context>, request: Get) -> RpcResult<Vec<Value>> {
    let stores = match request.0 {
        Some(name) => vec![store(&context, &name).await?],
        None => context.blocks.all().await,
    };
    Ok(stores.iter().map(|store| describe(store)).collect())
}

fn describe(store: &BlockStore) -> Value {
    let Fragmentation { free_blocks, free_bytes, cached_bytes, largest, split_share } =
        store.fragmentation();
    json!({
        "name": store.name(),
        "made_device": store.made_device(),
        "recorded": store.is_recorded(),
        "block_size": store.block_len(),
        "alignment": store.alignment(),
        "io_depth": store.io_depth(),
        "capacity": store.capacity(),
        "remaining": free_bytes,
        "cached": cached_bytes,
        "free_blocks": free_blocks,
        "largest_free": largest.map_or(0, BlockType::bytes),
        "split_share": split_share,
    })
}

struct Allocate {
    name: Name,
    size: u64,
}

impl Request for Allocate {
    const NAMES: &'static [&'static str] = &["name", "size"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.required("name")?;
        Ok(Self { name, size: params.required_u64("size", 1..=ALLOCATE_BYTES_MAX)? })
    }
}

async fn allocate(context: Arc<Context>, request: Allocate) -> RpcResult<Vec<Value>> {
    let blocks = store(&context, &request.name).await?.allocate_blocks(request.size).await;
    let blocks = blocks.map_err(|error| refused(&error))?;
    Ok(blocks.iter().map(of_block).collect())
}

struct Free {
    name: Name,
    blocks: Vec<Block>,
}

impl Request for Free {
    const NAMES: &'static [&'static str] = &["name", "blocks"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.required("name")?;
        Ok(Self { name, blocks: params.required::<BlockList>("blocks")?.0 })
    }
}

async fn free(context: Arc<Context>, request: Free) -> RpcResult<bool> {
    let freed = store(&context, &request.name).await?.free_blocks(&request.blocks).await;
    freed.map(|()| true).map_err(|error| refused(&error))
}

struct Write {
    name: Name,
    block: Block,
    offset: u64,
    data: Vec<u8>,
}

impl Request for Write {
    const NAMES: &'static [&'static str] = &["name", "block", "offset", "data"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.required("name")?;
        let block = params.required("block")?;
        let offset = params.optional_u64("offset", 0..=DATA_BYTES_MAX)?.unwrap_or(0);
        Ok(Self { name, block, offset, data: params.required::<Data>("data")?.0 })
    }
}

async fn write(context: Arc<Context>, request: Write) -> RpcResult<u64> {
    let store = store(&context, &request.name).await?;
    let written = async {
        let data = store.buffer_of(&request.data)?;
        store.write(&request.block, request.offset, data).await
    };
    let buf = written.await.map_err(|error: BlockApiError| refused(&error))?;
    Ok(buf.len() as u64)
}

struct Read {
    name: Name,
    block: Block,
    offset: u64,
    length: u64,
}

impl Request for Read {
    const NAMES: &'static [&'static str] = &["name", "block", "offset", "length"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.required("name")?;
        let block: Block = params.required("block")?;
        let offset = params.optional_u64("offset", 0..=DATA_BYTES_MAX)?.unwrap_or(0);
        let length = params.optional_u64("length", 1..=DATA_BYTES_MAX)?;
        let rest = block.size.saturating_sub(offset).min(DATA_BYTES_MAX);
        Ok(Self { name, block, offset, length: length.unwrap_or(rest) })
    }
}

async fn read(context: Arc<Context>, request: Read) -> RpcResult<String> {
    let store = store(&context, &request.name).await?;
    if request.length == 0 {
        let words = format!("nothing of the {} lies behind {}", request.block, request.offset);
        return Err(errors::errno(Errno::EINVAL, words));
    }
    let len = usize::try_from(request.length).unwrap_or(usize::MAX);
    let done = async {
        let buf = store.buffer(len)?;
        store.read(&request.block, request.offset, buf).await
    };
    let buf = done.await.map_err(|error: BlockApiError| refused(&error))?;
    Ok(BASE64.encode(buf.as_slice()))
}

async fn get_stats(context: Arc<Context>, request: OfName) -> RpcResult<Value> {
    let stats = store(&context, &request.0).await?.get_stats();
    Ok(json!({
        "declared": stats.declared,
        "measured": stats.measured,
        "remaining": stats.remaining,
    }))
}

struct GetBlocks {
    name: Name,
    offset: u64,
    count: u64,
}

impl Request for GetBlocks {
    const NAMES: &'static [&'static str] = &["name", "offset", "count"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.required("name")?;
        let offset = params.optional_u64("offset", BYTES)?.unwrap_or(0);
        let count = params.optional_u64("count", 1..=LISTED_MAX)?.unwrap_or(LISTED_MAX);
        Ok(Self { name, offset, count })
    }
}

async fn get_blocks(context: Arc<Context>, request: GetBlocks) -> RpcResult<Vec<Value>> {
    let store = store(&context, &request.name).await?;
    let count = usize::try_from(request.count).unwrap_or(usize::MAX);
    Ok(store.allocated(request.offset, count).iter().map(of_block).collect())
}

async fn flush(context: Arc<Context>, request: OfName) -> RpcResult<bool> {
    let flushed = store(&context, &request.0).await?.flush().await;
    flushed.map(|()| true).map_err(|error| refused(&error))
}
