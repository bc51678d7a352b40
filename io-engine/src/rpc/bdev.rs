//! `bdev_get_bdevs`, `bdev_create`, `bdev_destroy`, and what the drivers' methods share.

use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use serde_json::{Map, Value, json};
use spdk_rs::bdev::{Bdev, ClaimKind, IoType};

use super::errors::{self, RpcResult};
use super::params::def::{int, only, optional, required};
use super::params::{Def, Defs, Kind, Name, Nothing, ParamError, Params, Request};
use super::{Context, Method, qos};
use crate::bdev;

/// Block sizes of devices in memory, in bytes.
const BLOCK_SIZES: &[u32] = &[512, 4096];
/// Physical block sizes of devices in memory, in bytes.
const PHYS_BLOCK_SIZES: &[u32] = &[512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];
/// The largest device in bytes: what fits a signed 64-bit number.
pub(super) const BYTES_MAX: u64 = i64::MAX.unsigned_abs();
/// Why metadata is refused.
pub(super) const NO_METADATA: &str = "blocks carry no metadata";
/// How often a caller's wait for a device looks again.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// The longest wait for a device, in milliseconds: a day.
const WAIT_MS_MAX: i128 = 86_400_000;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_get_bdevs", "Lists the devices.", get_bdevs)
            .answers("list of devices, see below"),
        Method::new("bdev_create", "Creates a device of any kind (ours).", create)
            .in_config("bdev")
            .answers("name of the device"),
        Method::new(
            "bdev_destroy",
            "Removes a device of any kind (ours). No data are destroyed: a volume stays in its \
             pool, and a pool is exported.",
            destroy,
        ),
        Method::new(
            "bdev_wait_for_examine",
            "Waits until new devices were looked at; no driver looks for devices on devices.",
            wait_for_examine,
        )
        .in_config("bdev"),
    ]
}

/// The parameters that describe a device in memory.
pub(super) struct MemoryShape {
    pub(super) block_len: u32,
    pub(super) phys_block_len: u32,
    pub(super) num_blocks: u64,
}

impl MemoryShape {
    pub(super) const PARAMS: &'static [Def] = &[
        required("num_blocks", int(1, BYTES_MAX as i128), "Size in blocks."),
        required("block_size", Kind::OneOf(BLOCK_SIZES), "Size of a block in bytes."),
        optional(
            "physical_block_size",
            Kind::OneOf(PHYS_BLOCK_SIZES),
            "Physical block size in bytes, at least `block_size`, which it is when left out.",
        ),
        optional("uuid", Kind::Uuid, "The device's UUID; a random one when left out."),
        only("md_size", "0", NO_METADATA),
        only("dif_type", "0", NO_METADATA),
        only("dif_is_head_of_md", "false", NO_METADATA),
        only("dif_pi_format", "0", NO_METADATA),
    ];

    pub(super) fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let block_len: u32 = params.required("block_size")?;
        let num_blocks: u64 = params.required("num_blocks")?;
        let blocks_max = BYTES_MAX / u64::from(block_len);
        if num_blocks > blocks_max {
            let allowed = format!("it has to be a whole number from 1 to {blocks_max}");
            return Err(params.refuse("num_blocks", allowed));
        }
        let phys_block_len = params.optional("physical_block_size")?.unwrap_or(block_len);
        if phys_block_len < block_len {
            let allowed = format!("it has to be at least block_size, {block_len}");
            return Err(params.refuse("physical_block_size", allowed));
        }
        Ok(Self { block_len, phys_block_len, num_blocks })
    }
}

/// The parameter of a method that names a device.
pub(super) const NAME: Def = required("name", Kind::Name, "The device's name, alias or UUID.");

/// The parameters of a method that names a device.
pub(super) struct Delete(Name);

impl Request for Delete {
    const PARAMS: Defs = &[&[NAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self(params.required("name")?))
    }
}

/// The device of a name, alias or UUID.
pub(super) fn find(context: &Context, name: &Name) -> RpcResult<Arc<Bdev>> {
    context.engine()?.registry().find(&name.0).map_err(|error| errors::failed(&error))
}

/// As [`find`], refusing devices of other drivers.
pub(super) fn find_of(context: &Context, name: &Name, driver: &str) -> RpcResult<Arc<Bdev>> {
    let bdev = find(context, name)?;
    let actual = bdev.info().driver_name;
    if actual == driver {
        return Ok(bdev);
    }
    let words = format!("device '{}' is a {actual} device, not a {driver} device", bdev.name());
    Err(errors::errno(Errno::ENODEV, words))
}

/// Removes a device of one driver.
pub(super) async fn delete(
    context: Arc<Context>,
    request: Delete,
    driver: &'static str,
) -> RpcResult<bool> {
    let bdev = find_of(&context, &request.0, driver)?;
    remove(&context, bdev.name()).await
}

async fn remove(context: &Context, name: &str) -> RpcResult<bool> {
    let removed = bdev::destroy(context.engine()?, name).await;
    removed.map_err(|error| errors::bdev(&error))?;
    Ok(true)
}

struct Create(String);

impl Request for Create {
    const PARAMS: Defs = &[&[required("uri", Kind::Text, "What to create, as a URI.")]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let uri: String = params.required("uri")?;
        if let Err(bdev::BdevError::Uri(error)) = bdev::plan(&uri) {
            return Err(params.refuse("uri", error.to_string()));
        }
        Ok(Self(uri))
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<String> {
    context.roots().check_uri(&request.0)?;
    let made = bdev::create(context.engine()?, &request.0).await;
    made.map_err(|error| errors::bdev(&error))
}

async fn destroy(context: Arc<Context>, request: Delete) -> RpcResult<bool> {
    remove(&context, &request.0.0).await
}

/// No driver looks for more devices on a new one, so there is nothing to wait for.
async fn wait_for_examine(_: Arc<Context>, _: Nothing) -> RpcResult<bool> {
    Ok(true)
}

struct GetBdevs {
    name: Option<Name>,
    timeout: Duration,
}

impl Request for GetBdevs {
    const PARAMS: Defs = &[&[
        optional("name", Kind::Name, "Only the device with this name, alias or UUID."),
        optional(
            "timeout",
            int(0, WAIT_MS_MAX),
            "How long to wait for the device in `name` to appear, in milliseconds.",
        )
        .or_int(0),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name: Option<Name> = params.optional("name")?;
        let timeout_ms: u64 = params.required("timeout")?;
        if name.is_none() && timeout_ms > 0 {
            return Err(
                params.refuse("timeout", "it waits for the device in `name`, which is missing")
            );
        }
        Ok(Self { name, timeout: Duration::from_millis(timeout_ms) })
    }
}

async fn get_bdevs(context: Arc<Context>, request: GetBdevs) -> RpcResult<Vec<Value>> {
    let Some(name) = request.name else {
        return Ok(context.engine()?.registry().all().iter().map(|bdev| describe(bdev)).collect());
    };
    let appears = async {
        while find(&context, &name).is_err() {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    if find(&context, &name).is_err() {
        // Whether the wait ended or ran out is what the look-up below tells.
        let _ = tokio::time::timeout(request.timeout, appears).await;
    }
    let bdev = find(&context, &name)?;
    Ok(vec![describe(&bdev)])
}

/// A device as `bdev_get_bdevs` shows it.
fn describe(bdev: &Bdev) -> Value {
    let info = bdev.info();
    let claims = bdev.claims();
    let mut shown = json!({
        "name": info.name,
        "aliases": aliases(bdev),
        "product_name": info.product_name,
        "block_size": info.block_len,
        "physical_block_size": info.phys_block_len,
        "num_blocks": bdev.num_blocks(),
        "uuid": info.uuid,
        "assigned_rate_limits": qos::of_device(bdev),
        "claimed": !claims.is_empty(),
        "zoned": bdev.zones().is_some(),
        "supported_io_types": supported_io_types(bdev),
        "memory_domains": [],
        "driver": info.driver_name,
        "required_alignment": info.alignment,
        "write_cache": info.write_cache,
        "read_only": info.read_only,
        "driver_specific": driver_specific(bdev),
    });
    if let (Some(members), Some(zones)) = (shown.as_object_mut(), bdev.zones()) {
        // SPDK's words: a limit of 0 is none, and no optimum is told.
        let limit = |zones: Option<u32>| zones.unwrap_or(0).into();
        let facts: [(&str, Value); 6] = [
            ("zone_size", zones.zone_blocks.into()),
            ("num_zones", zones.zones(bdev.num_blocks()).into()),
            ("max_zone_append_size", zones.append_blocks_max.into()),
            ("max_open_zones", limit(zones.open_max)),
            ("max_active_zones", limit(zones.active_max)),
            ("optimal_open_zones", 0.into()),
        ];
        members.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    }
    if let (Some(members), Some((owner, kind))) = (shown.as_object_mut(), claims.first()) {
        let kind = match kind {
            ClaimKind::ReadOnly => "read_many_write_none",
            ClaimKind::ExclusiveWrite => "exclusive_write",
        };
        members.insert("claim_type".to_owned(), kind.into());
        members.insert("claimed_by".to_owned(), owner.as_str().into());
    }
    shown
}

/// Other names of a device. SPDK's volumes have `STORE/VOLUME` for theirs, which its clients read
/// the two names from; here that is the first name, and is shown in both places.
fn aliases(bdev: &Bdev) -> Vec<&str> {
    let info = bdev.info();
    let volume = info.driver_name == crate::pool::bdev::DRIVER;
    volume.then_some(&info.name).into_iter().chain(&info.aliases).map(String::as_str).collect()
}

/// SPDK's list of kinds; what the engine does not know is `false`.
fn supported_io_types(bdev: &Bdev) -> Value {
    let supported = bdev.io_types();
    let mut kinds: Map<String, Value> = IoType::ALL
        .iter()
        .map(|&kind| (kind.name().to_owned(), supported.contains(kind).into()))
        .collect();
    for unknown in ["nvme_io_md", "nvme_iov_md", "zcopy", "seek_hole", "seek_data"] {
        kinds.insert(unknown.to_owned(), false.into());
    }
    kinds.into()
}

/// The driver's own facts under the driver's name, as SPDK does.
fn driver_specific(bdev: &Bdev) -> Value {
    match bdev.ops().driver_info() {
        Value::Null => json!({}),
        facts if facts.get(bdev.info().driver_name).is_some() => facts,
        facts => json!({ bdev.info().driver_name: facts }),
    }
}
