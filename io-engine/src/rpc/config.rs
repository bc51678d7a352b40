//! `framework_get_subsystems`, `framework_get_config`, `save_config`, `load_config`,
//! `save_subsystem_config`, `load_subsystem_config`.
//!
//! SPDK's `rpc.py` does the last four itself, with the first two and `rpc_get_methods`; the methods
//! are for those who have no `rpc.py`.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonrpc::codes;
use jsonrpsee::types::ErrorObjectOwned;
use nix::errno::Errno;
use serde_json::{Value, json};

use super::errors::{self, RpcResult};
use super::method::When;
use super::params::def::{optional, required};
use super::params::{Def, Defs, Kind, Nothing, ParamError, Params, Request};
use super::phase::Phase;
use super::saved::{Call, Subsystem, subsystems};
use super::{Context, INVALID_STATE, Method};
use crate::subsys::{Config, ConfigError};

/// What a configuration that came with a request is called in errors.
const INLINE: &str = "config";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("framework_get_subsystems", "Lists the subsystems.", get_subsystems)
            .at(When::Always)
            .answers("list, each after what it depends on: `subsystem`, `depends_on`"),
        Method::new(
            "framework_get_config",
            "Tells the calls that would make a subsystem again.",
            get_config,
        )
        .answers("list: `method`, `params`"),
        Method::new(
            "save_config",
            "Tells or writes the configuration file that would make everything again (ours).",
            save,
        )
        .answers("the configuration, or `true` when it was written"),
        Method::new("save_subsystem_config", "The same for one subsystem (ours).", save_subsystem)
            .answers("the section of the subsystem, or `true` when it was written"),
        Method::new(
            "load_config",
            "Makes the calls of a configuration file (ours). Nothing is done when any of it cannot \
             be read; a call that fails ends it, and what was made before stays. After \
             `--wait-for-rpc` it starts the engine, as `rpc.py` does.",
            load,
        )
        .at(When::Always)
        .answers("how many calls were made"),
        Method::new(
            "load_subsystem_config",
            "The same for the section of one subsystem (ours).",
            load,
        )
        .answers("how many calls were made"),
    ]
}

async fn get_subsystems(_: Arc<Context>, _: Nothing) -> RpcResult<Vec<Value>> {
    let all = subsystems();
    let show =
        all.iter().map(|one| json!({ "subsystem": one.name(), "depends_on": one.depends_on() }));
    Ok(show.collect())
}

/// The subsystem of a name, with SPDK's error.
fn find(name: &str) -> RpcResult<Box<dyn Subsystem>> {
    subsystems().into_iter().find(|one| one.name() == name).ok_or_else(|| {
        let name: String = name.escape_debug().take(64).collect();
        let known = super::subsystem_names().join(", ");
        codes::invalid_params(format!("Subsystem '{name}' not found; there are {known}"))
    })
}

struct GetConfig {
    name: String,
}

/// The subsystem that a method is for.
const NAME: Def = required("name", Kind::Text, "The subsystem.");

impl Request for GetConfig {
    const PARAMS: Defs = &[&[
        NAME,
        optional("with_batches", Kind::Bool, "No calls are batched, so the list is the same.")
            .or_bool(false),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let _: bool = params.required("with_batches")?;
        Ok(Self { name: params.required("name")? })
    }
}

async fn get_config(context: Arc<Context>, request: GetConfig) -> RpcResult<Value> {
    to_json(&find(&request.name)?.calls(&context).await?)
}

fn to_json(calls: &[Call]) -> RpcResult<Value> {
    serde_json::to_value(calls)
        .map_err(|error| codes::internal_error(format!("the calls are no JSON: {error}")))
}

async fn section(context: &Context, subsystem: &dyn Subsystem) -> RpcResult<Value> {
    let calls = to_json(&subsystem.calls(context).await?)?;
    Ok(json!({ "subsystem": subsystem.name(), "config": calls }))
}

/// A file to write.
const FILENAME: Def = optional(
    "filename",
    Kind::Text,
    "Where to write it, a path on the daemon's machine; the file is replaced at once, or not at \
     all. Without it, the configuration is answered.",
);

struct Save {
    filename: Option<PathBuf>,
}

impl Request for Save {
    const PARAMS: Defs = &[&[FILENAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { filename: take_path(params)? })
    }
}

fn take_path(params: &Params<'_>) -> Result<Option<PathBuf>, ParamError> {
    let Some(path) = params.optional::<String>("filename")? else { return Ok(None) };
    if path.contains('\0') {
        return Err(params.refuse("filename", "a path has no zero byte"));
    }
    Ok(Some(path.into()))
}

async fn save(context: Arc<Context>, request: Save) -> RpcResult<Value> {
    let mut sections = Vec::new();
    for subsystem in subsystems() {
        sections.push(section(&context, &*subsystem).await?);
    }
    keep(&context, json!({ "subsystems": sections }), request.filename).await
}

struct SaveSubsystem {
    name: String,
    filename: Option<PathBuf>,
}

impl Request for SaveSubsystem {
    const PARAMS: Defs = &[&[NAME, FILENAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, filename: take_path(params)? })
    }
}

async fn save_subsystem(context: Arc<Context>, request: SaveSubsystem) -> RpcResult<Value> {
    let config = section(&context, &*find(&request.name)?).await?;
    keep(&context, config, request.filename).await
}

/// Answers a configuration, or writes it to a file.
async fn keep(context: &Context, config: Value, path: Option<PathBuf>) -> RpcResult<Value> {
    let Some(path) = path else { return Ok(config) };
    context.roots().check(&path)?;
    let text = format!("{config:#}\n");
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || replace(&path, &text)).await;
    let written = written.map_err(|error| codes::internal_error(error.to_string()))?;
    written.map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        errors::errno(errno, format!("cannot write the configuration to {shown:?}: {error}"))
    })?;
    Ok(true.into())
}

/// Writes a file beside another and puts it in its place: a power cut leaves the one or the other.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let write = || {
        // It may hold names that are nobody's business.
        let options = std::fs::OpenOptions::new();
        let mut file = { options }.write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        std::fs::File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().inspect_err(|_| {
        // It may be in its place already, or never have been made.
        let _ = std::fs::remove_file(&beside);
    })
}

enum Source {
    File(PathBuf),
    Inline(Value),
}

struct Load(Source);

impl Request for Load {
    const PARAMS: Defs = &[&[
        optional("filename", Kind::Text, "The file, a path on the daemon's machine."),
        optional("config", Kind::AnyObject, "The configuration itself, instead of `filename`."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        match (take_path(params)?, params.optional("config")?) {
            (Some(path), None) => Ok(Self(Source::File(path))),
            (None, Some(config)) => Ok(Self(Source::Inline(config))),
            (None, None) => Err(params.refuse("filename", "it or `config` has to be given")),
            (Some(_), Some(_)) => {
                Err(params.refuse("filename", "`config` is given already; leave one of them out"))
            }
        }
    }
}

async fn load(context: Arc<Context>, request: Load) -> RpcResult<u64> {
    let config = match request.0 {
        Source::File(path) => {
            context.roots().check(&path)?;
            let read = tokio::task::spawn_blocking(move || Config::read(&path)).await;
            read.map_err(|error| codes::internal_error(error.to_string()))?
        }
        Source::Inline(config) => Config::parse(Path::new(INLINE), config.to_string().as_bytes()),
    };
    let config = config.map_err(|error| refused(&error))?;
    if context.phase().now() == Phase::Running && config.has_startup_calls() {
        let words = "the configuration has calls of methods that may be called before the start \
                     only: start the daemon with --json, or with --wait-for-rpc";
        return Err(ErrorObjectOwned::owned(INVALID_STATE, words, None::<()>));
    }
    config.apply_startup(&context).await.map_err(|error| refused(&error))?;
    context.phase().begin();
    context.phase().running().await;
    config.apply_runtime(&context).await.map_err(|error| refused(&error))?;
    Ok(config.len() as u64)
}

fn refused(error: &ConfigError) -> ErrorObjectOwned {
    match error {
        ConfigError::Read { source, .. } => {
            let errno = source.raw_os_error().map_or(Errno::EFBIG, Errno::from_raw);
            errors::errno(errno, error.to_string())
        }
        ConfigError::Failed { code, .. } => {
            ErrorObjectOwned::owned(*code, error.to_string(), None::<()>)
        }
        _ => codes::invalid_params(error.to_string()),
    }
}
