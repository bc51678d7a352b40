//! `block_*`: the block API.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jsonrpsee::types::ErrorObjectOwned;
use nix::errno::Errno;
use serde_json::{Value, json};

use super::errors::{self, RpcResult};
use super::params::def::{form, int, optional, required};
use super::params::{Def, Defs, Kind, Name, Param, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev::BdevError;
use crate::pool::allocator::{Block, BlockType, Fragmentation};
use crate::pool::block_api::{BlockApiError, BlockStore, CreateOptions, PerfMetrics};

/// The most bytes that one call allocates, 1 GiB: an answer lists at most 1024 blocks.
const ALLOCATE_BYTES_MAX: u64 = 1 << 30;
/// The most blocks that one call lists.
const LISTED_MAX: i64 = 1024;
/// The most blocks that one call frees.
const FREE_BLOCKS_MAX: usize = 1024;
/// The most bytes that one call writes or reads, 1 MiB: no block is larger.
const DATA_BYTES_MAX: u64 = BlockType::M1.bytes();
/// Sizes and offsets: what fits a signed 64-bit number.
const BYTES: Kind = int(0, i64::MAX as i128);

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("block_create", "Allocates blocks from a device from now on (ours).", create)
            .in_config("bdev")
            .answers("name of the device"),
        Method::new(
            "block_delete",
            "Gives a device up, when no I/O is in flight (ours). A device that `block_create` \
             made is removed; a file stays.",
            delete,
        ),
        Method::new("block_get", "Lists the devices that blocks are allocated from (ours).", get)
            .answers(
                "list: `name`, `made_device`, `recorded` (whether what is allocated is durable), \
                 `block_size` of the device, `alignment`, \
                 `io_depth`, `capacity`, `remaining` (free bytes, of which `cached` wait in the \
                 magazines of cores), `free_blocks` (by `block_type`, each free byte in the \
                 largest block that it is part of), `largest_free` bytes, `split_share` (of the \
                 free bytes, what is not in free 1 MiB)",
            ),
        Method::new("block_allocate", "Allocates blocks (ours).", allocate).answers(
            "list of blocks: `offset` on the device, `size`, `block_type` (0 to 3 for 4 KiB, \
             64 KiB, 256 KiB, 1 MiB)",
        ),
        Method::new("block_free", "Frees blocks; when one is refused none is freed (ours).", free),
        Method::new("block_write", "Writes to a block (ours).", write).answers("bytes written"),
        Method::new("block_read", "Reads from a block (ours).", read).answers("data in base64"),
        Method::new(
            "block_get_stats",
            "Tells what a device is said to do and does (ours).",
            get_stats,
        )
        .answers("`declared`, `measured`, `remaining` bytes"),
        Method::new("block_get_blocks", "Lists allocated blocks (ours).", get_blocks)
            .answers("list of the allocated blocks from that offset on, in their order"),
        Method::new("block_flush", "Waits until what was written is on the medium (ours).", flush),
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

/// What a device is said to do.
const METRICS: Defs = &[&[
    optional("read_bandwidth_mbps", Kind::Number, "10⁶ bytes read per second.").or_int(0),
    optional("write_bandwidth_mbps", Kind::Number, "10⁶ bytes written per second.").or_int(0),
    optional("read_latency_us", Kind::Number, "Mean time of a read in microseconds.").or_int(0),
    optional("write_latency_us", Kind::Number, "Mean time of a write in microseconds.").or_int(0),
    optional("iops", Kind::Number, "I/Os per second.").or_int(0),
]];

impl Request for PerfMetrics {
    const PARAMS: Defs = METRICS;

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            read_bandwidth_mbps: params.required("read_bandwidth_mbps")?,
            write_bandwidth_mbps: params.required("write_bandwidth_mbps")?,
            read_latency_us: params.required("read_latency_us")?,
            write_latency_us: params.required("write_latency_us")?,
            iops: params.required("iops")?,
        })
    }
}

/// A block as `block_allocate` answers it.
const BLOCK: Kind = Kind::Object(&[&[
    required("offset", BYTES, "Where it is on the device, in bytes."),
    required("size", BYTES, "Its size in bytes."),
    required("block_type", int(0, 3), "0 to 3 for 4 KiB, 64 KiB, 256 KiB, 1 MiB."),
]]);

impl Param for Block {
    fn of(value: &Value) -> Option<Self> {
        let number = |name| value.get(name).and_then(Value::as_u64);
        let class = usize::try_from(number("block_type")?).ok()?;
        let block_type = BlockType::from_index(class)?;
        Some(Self { offset: number("offset")?, size: number("size")?, block_type })
    }
}

/// Bytes in base64.
struct Data(Vec<u8>);

/// The form of [`Data`].
const DATA: Kind =
    form("1 to 1048576 bytes in base64 (RFC 4648, section 4, padded)", "AAECAwQFBgc=");

impl Param for Data {
    fn of(value: &Value) -> Option<Self> {
        let bytes = BASE64.decode(value.as_str()?).ok()?;
        (1..=DATA_BYTES_MAX).contains(&(bytes.len() as u64)).then_some(Self(bytes))
    }
}

/// Where in a block.
const OFFSET: Def =
    optional("offset", int(0, DATA_BYTES_MAX as i128), "Where in the block, in bytes.").or_int(0);

/// The name that the block API knows a device by.
const STORE: Def = required("name", Kind::Name, "The device, as `block_create` named it.");

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
    const PARAMS: Defs = &[&[
        required(
            "name",
            Kind::Text,
            "The name, an alias or the UUID of a device, or a URI that makes one, or the absolute \
             path of a file or block device, which is opened with Linux AIO.",
        ),
        optional(
            "total_size",
            BYTES,
            "How much of the device to use, in bytes, a multiple of 4096; 0 is all of it. A file \
             that does not exist is created with it.",
        )
        .or_int(0),
        optional(
            "io_depth",
            int(1, CreateOptions::IO_DEPTH_MAX as i128),
            "I/Os in flight per core; more wait.",
        )
        .or_int(CreateOptions::IO_DEPTH as i64),
        optional(
            "alignment",
            int(0, DATA_BYTES_MAX as i128),
            "Alignment of blocks in bytes, a power of two from the device's block size on; 0 is \
             4096 or the device's block size.",
        )
        .or_int(0),
        optional(
            "perf_metrics",
            Kind::Object(METRICS),
            "What the device is said to do; 0 is unknown.",
        ),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let mut options = CreateOptions::new(params.required::<String>("name")?);
        options.total_size = params.required("total_size")?;
        options.io_depth = params.required("io_depth")?;
        let alignment: u64 = params.required("alignment")?;
        if alignment != 0 && !alignment.is_power_of_two() {
            return Err(params.refuse("alignment", "it has to be a power of two, or 0"));
        }
        options.alignment = alignment;
        options.declared = params.optional_object("perf_metrics")?.unwrap_or_default();
        if !options.total_size.is_multiple_of(BlockType::K4.bytes()) {
            let allowed = "it has to be a multiple of 4096, or 0 for the whole device";
            return Err(params.refuse("total_size", allowed));
        }
        Ok(Self(options))
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<String> {
    context.roots().check_uri(&request.0.name)?;
    let made = context.blocks.create(context.engine()?, &request.0).await;
    made.map(|store| store.name().to_owned()).map_err(|error| refused(&error))
}

struct OfName(Name);

impl Request for OfName {
    const PARAMS: Defs = &[&[STORE]];

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
    const PARAMS: Defs = &[&[optional("name", Kind::Name, "Only this device.")]];

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
    const PARAMS: Defs = &[&[
        STORE,
        required("size", int(1, ALLOCATE_BYTES_MAX as i128), "How much to allocate, in bytes."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, size: params.required("size")? })
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
    const PARAMS: Defs = &[&[
        STORE,
        required(
            "blocks",
            Kind::List { item: &BLOCK, min: 1, max: FREE_BLOCKS_MAX },
            "The blocks, as they were answered.",
        ),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, blocks: params.required("blocks")? })
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
    const PARAMS: Defs = &[&[
        STORE,
        required("block", BLOCK, "The block, as it was answered."),
        OFFSET,
        required("data", DATA, "What to write, up to 1 MiB in base64."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            name: params.required("name")?,
            block: params.required("block")?,
            offset: params.required("offset")?,
            data: params.required::<Data>("data")?.0,
        })
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
    const PARAMS: Defs = &[&[
        STORE,
        required("block", BLOCK, "The block, as it was answered."),
        OFFSET,
        optional(
            "length",
            int(1, DATA_BYTES_MAX as i128),
            "How much to read, in bytes; the rest of the block when left out.",
        ),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let block: Block = params.required("block")?;
        let offset: u64 = params.required("offset")?;
        let rest = block.size.saturating_sub(offset).min(DATA_BYTES_MAX);
        let length = params.optional("length")?.unwrap_or(rest);
        Ok(Self { name: params.required("name")?, block, offset, length })
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
    const PARAMS: Defs = &[&[
        STORE,
        optional("offset", BYTES, "Where on the device to begin, in bytes.").or_int(0),
        optional("count", int(1, LISTED_MAX as i128), "The most blocks to list.")
            .or_int(LISTED_MAX),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            name: params.required("name")?,
            offset: params.required("offset")?,
            count: params.required("count")?,
        })
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
