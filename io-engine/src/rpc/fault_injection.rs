//! `fault_injection_create`, `fault_injection_list`, `fault_injection_remove`,
//! `fault_injection_clear`, `fault_injection_release`.

use std::sync::Arc;

use jsonrpsee::types::ErrorObjectOwned;
use nix::errno::Errno;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use spdk_rs::bdev::{IoType, IoTypes};

use super::errors::{self, RpcResult};
use super::params::def::{int, optional, required};
use super::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::core::fault_injection::{FaultError, InjectionInfo, InjectionSpec, SCHEME, Stage};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "fault_injection_create",
            "Injects a fault into the I/O of a device. Ours.",
            create,
        )
        .in_config("bdev")
        .answers(INJECTION),
        Method::new("fault_injection_list", "Lists the fault injections. Ours.", list)
            .answers(INJECTIONS),
        Method::new(
            "fault_injection_remove",
            "Removes a fault injection; what hangs because of it goes on. Ours.",
            remove,
        )
        .answers("the injection as it was, as in the list"),
        Method::new("fault_injection_clear", "Removes fault injections. Ours.", clear)
            .answers("how many were removed"),
        Method::new(
            "fault_injection_release",
            "Lets I/O go on that hangs because of a fault injection, which stays. Ours.",
            release,
        )
        .answers("how many I/Os hung"),
    ]
}

/// What is answered for an injection.
const INJECTION: &str = "the injection, as in the list";
/// What is answered for all of them.
const INJECTIONS: &str = "list: `id`, `device`, `uri`, `type`, `stage` (null: the one that fits), \
     `at_submission` and `at_completion`: lists of operations, `retries`, `seed`, `matched`, \
     `hits`, `held`, `active`, `power_off`";

/// Any whole number: what it may be is said where URIs are read.
const WHOLE: Kind = int(0, u64::MAX as i128);

/// Parameters that are text, as in a URI.
const TEXTS: &[Def] = &[
    optional("domain", Kind::Text, "`block_device` or `bdev_io`, which are the same."),
    optional(
        "op",
        Kind::Text,
        "The I/O, several kinds separated by commas; `read_write` when left out.",
    ),
    optional("stage", Kind::Text, "`submission` or `completion`; the one that fits when left out."),
    optional("type", Kind::Text, "What happens; `status` when left out."),
    optional("method", Kind::Text, "The same as `type`."),
    optional(
        "delay_distribution",
        Kind::Text,
        "In place of `delay_us`: `uniform:100:500`, for example.",
    ),
];

/// Parameters that are whole numbers.
const NUMBERS: &[Def] = &[
    optional("begin", WHOLE, "The same as `begin_at`."),
    optional("begin_at", WHOLE, "From so many milliseconds after the add."),
    optional("end", WHOLE, "The same as `end_at`."),
    optional("end_at", WHOLE, "Until so many milliseconds after the add."),
    optional("offset", WHOLE, "The first block."),
    optional("num_blk", WHOLE, "How many blocks; all from there on when left out."),
    optional("num_blocks", WHOLE, "The same as `num_blk`."),
    optional("retries", WHOLE, "How often at the most, over all cores; always when left out."),
    optional("seed", WHOLE, "What everything random is made from."),
    optional("after", WHOLE, "So many I/Os that fit pass first."),
    optional("every", WHOLE, "Of the others each so many-th."),
    optional("corrupt_offset", WHOLE, "The byte that `data` changes."),
    optional("corrupt_value", WHOLE, "What it is combined with by exclusive or."),
    optional("window", WHOLE, "How many I/Os `reorder` gathers."),
    optional("distance", WHOLE, "How many blocks further on `misdirected` writes."),
    optional("delay_us", WHOLE, "How much longer it takes, in microseconds."),
];

struct Create(InjectionSpec);

impl Request for Create {
    const PARAMS: Defs = &[
        &[
            optional("uri", Kind::Text, "All of it as `inject://DEVICE?...`."),
            optional("device", Kind::Name, "In place of `uri`: the device's name, alias or UUID."),
            optional("probability", Kind::Number, "How likely it is, from 0 to 1."),
        ],
        TEXTS,
        NUMBERS,
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let uri: Option<String> = params.optional("uri")?;
        let device: Option<Name> = params.optional("device")?;
        let fields = fields(params)?;
        let (name, uri) = match (uri, device) {
            (Some(uri), None) if fields.is_empty() => ("uri", uri),
            (Some(_), _) => {
                let allowed = "give either the uri, or the device and the other parameters";
                return Err(params.refuse("uri", allowed));
            }
            (None, Some(Name(device))) => {
                let device = utf8_percent_encode(&device, NON_ALPHANUMERIC);
                ("device", format!("{SCHEME}:///{device}?{}", fields.join("&")))
            }
            (None, None) => {
                let allowed = "an inject:// URI, or else the device".to_owned();
                return Err(ParamError::Missing { name: "uri", allowed });
            }
        };
        let spec = InjectionSpec::parse(&uri);
        spec.map(Self).map_err(|error| params.refuse(name, error.to_string()))
    }
}

/// The parameters as they stand in a URI.
fn fields(params: &Params<'_>) -> Result<Vec<String>, ParamError> {
    let mut fields = Vec::new();
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            fields.push(format!("{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)));
        }
    };
    let (us, distribution) = ("delay_us", "delay_distribution");
    if params.has(us) && params.has(distribution) {
        return Err(params.refuse(distribution, "give either this or delay_us"));
    }
    for def in TEXTS {
        let name = if def.name == distribution { us } else { def.name };
        field(name, params.optional(def.name)?);
    }
    for def in NUMBERS {
        field(def.name, params.optional(def.name)?.map(|number: u64| number.to_string()));
    }
    let chance: Option<f64> = params.optional("probability")?;
    field("probability", chance.map(|chance| format!("{chance:.9}")));
    Ok(fields)
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<Value> {
    let added = context.engine()?.faults().add(request.0).await;
    added.map(|info| show(&info)).map_err(|error| refused(&error))
}

fn refused(error: &FaultError) -> ErrorObjectOwned {
    match error {
        FaultError::Uri(_) | FaultError::Never { .. } | FaultError::Beyond { .. } => {
            jsonrpc::codes::invalid_params(error.to_string())
        }
        FaultError::Registry(error) => errors::failed(error),
        FaultError::Unsupported { .. } => errors::errno(Errno::EOPNOTSUPP, error.to_string()),
        FaultError::NotFound { .. } => errors::errno(Errno::ENOENT, error.to_string()),
        _ => errors::errno(Errno::EIO, error.to_string()),
    }
}

fn show(info: &InjectionInfo) -> Value {
    let spec = &info.spec;
    let names = |ops: IoTypes| ops.iter().map(IoType::name).collect::<Vec<_>>();
    json!({
        "id": info.id,
        "device": info.device,
        "uri": spec.to_string(),
        "type": spec.kind.name(),
        "stage": spec.stage.map(Stage::name),
        "at_submission": names(info.at_submission),
        "at_completion": names(info.at_completion),
        "retries": spec.retries,
        "seed": spec.seed,
        "matched": info.matched,
        "hits": info.hits,
        "held": info.held,
        "active": info.active,
        "power_off": info.power_off,
    })
}

/// The injections of a device, or all of them.
struct OfDevice(Option<Name>);

impl Request for OfDevice {
    const PARAMS: Defs =
        &[&[optional("device", Kind::Name, "The device; all of them when left out.")]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.optional("device").map(Self)
    }
}

async fn list(context: Arc<Context>, request: OfDevice) -> RpcResult<Vec<Value>> {
    let device = request.0.as_ref().map(|Name(name)| name.as_str());
    Ok(context.engine()?.faults().list(device).iter().map(show).collect())
}

async fn clear(context: Arc<Context>, request: OfDevice) -> RpcResult<u64> {
    let device = request.0.as_ref().map(|Name(name)| name.as_str());
    Ok(context.engine()?.faults().clear(device).await as u64)
}

struct ById(u64);

impl Request for ById {
    const PARAMS: Defs = &[&[required("id", int(1, u64::MAX as i128), "Number of the injection.")]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("id").map(Self)
    }
}

async fn remove(context: Arc<Context>, request: ById) -> RpcResult<Value> {
    let removed = context.engine()?.faults().remove(request.0).await;
    removed.map(|info| show(&info)).map_err(|error| refused(&error))
}

async fn release(context: Arc<Context>, request: ById) -> RpcResult<u64> {
    context.engine()?.faults().release(request.0).await.map_err(|error| refused(&error))
}
