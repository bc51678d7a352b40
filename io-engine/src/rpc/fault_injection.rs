//! `fault_injection_create`, `fault_injection_list`, `fault_injection_remove`,
//! `fault_injection_clear`, `fault_injection_release`.

use std::sync::Arc;

use jsonrpsee::types::ErrorObjectOwned;
use nix::errno::Errno;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use spdk_rs::bdev::{IoType, IoTypes};

use super::errors::{self, RpcResult};
use super::params::{Name, Param, ParamError, Params, Request};
use super::{Context, Method};
use crate::core::fault_injection::{FaultError, InjectionInfo, InjectionSpec, SCHEME, Stage};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("fault_injection_create", create).in_config("bdev"),
        Method::new("fault_injection_list", list),
        Method::new("fault_injection_remove", remove),
        Method::new("fault_injection_clear", clear),
        Method::new("fault_injection_release", release),
    ]
}

/// Parameters that are text, as in a URI.
const TEXTS: [&str; 5] = ["domain", "op", "stage", "type", "method"];
/// Parameters that are whole numbers.
const NUMBERS: [&str; 15] = [
    "begin",
    "begin_at",
    "end",
    "end_at",
    "offset",
    "num_blk",
    "num_blocks",
    "retries",
    "seed",
    "after",
    "every",
    "corrupt_offset",
    "corrupt_value",
    "window",
    "distance",
];

/// Microseconds, or a distribution of them.
struct DelayText(String);

impl Param for DelayText {
    const EXPECTED: &'static str = "microseconds, or the text of a distribution";

    fn of(value: &Value) -> Option<Self> {
        let number = value.as_u64().map(|us| us.to_string());
        number.or_else(|| value.as_str().map(str::to_owned)).map(Self)
    }
}

/// A number from 0 to 1.
struct Probability(String);

impl Param for Probability {
    const EXPECTED: &'static str = "a number from 0 to 1";

    fn of(value: &Value) -> Option<Self> {
        let number = value.as_f64().filter(|number| (0.0..=1.0).contains(number))?;
        Some(Self(format!("{number:.9}")))
    }
}

struct Create(InjectionSpec);

impl Request for Create {
    const NAMES: &'static [&'static str] = &[
        "uri",
        "device",
        "domain",
        "op",
        "stage",
        "type",
        "method",
        "begin",
        "begin_at",
        "end",
        "end_at",
        "offset",
        "num_blk",
        "num_blocks",
        "retries",
        "seed",
        "after",
        "every",
        "corrupt_offset",
        "corrupt_value",
        "window",
        "distance",
        "delay_us",
        "probability",
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
    for name in TEXTS {
        field(name, params.optional(name)?);
    }
    for name in NUMBERS {
        field(name, params.optional_u64(name, 0..=u64::MAX)?.map(|number| number.to_string()));
    }
    field("delay_us", params.optional("delay_us")?.map(|DelayText(text)| text));
    field("probability", params.optional("probability")?.map(|Probability(text)| text));
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
    const NAMES: &'static [&'static str] = &["device"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.optional("device").map(Self)
    }
}

async fn list(context: Arc<Context>, request: OfDevice) -> RpcResult<Vec<Value>> {
    let device = request.0.as_ref().map(|Name(name)| name.as_str());
    Ok(context.engine()?.faults().list(device).iter().map(show).collect())
}

async fn clear(context: Arc<Context>, request: OfDevice) -> RpcResult<usize> {
    let device = request.0.as_ref().map(|Name(name)| name.as_str());
    Ok(context.engine()?.faults().clear(device).await)
}

struct ById(u64);

impl Request for ById {
    const NAMES: &'static [&'static str] = &["id"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required_u64("id", 1..=u64::MAX).map(Self)
    }
}

async fn remove(context: Arc<Context>, request: ById) -> RpcResult<Value> {
    let removed = context.engine()?.faults().remove(request.0).await;
    removed.map(|info| show(&info)).map_err(|error| refused(&error))
}

async fn release(context: Arc<Context>, request: ById) -> RpcResult<u64> {
    context.engine()?.faults().release(request.0).await.map_err(|error| refused(&error))
}
