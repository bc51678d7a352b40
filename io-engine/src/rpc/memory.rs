//! The memory for I/O: `iobuf_*`, `env_dpdk_get_mem_stats`, `engine_get_memory_stats`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonrpc::codes;
use nix::errno::Errno;
use serde_json::{Value, json};
use spdk_rs::env::{BufferCache, BufferCounts, BufferStats};
use spdk_rs::reactor::ReactorHandle;

use super::errors::{self, RpcResult};
use super::method::When;
use super::params::def::{not_done, only};
use super::params::{Defs, Nothing, ParamError, Params, Request};
use super::thread::thread_name;
use super::{Context, Method};

/// Why there are no pools of buffers of one size.
pub(super) const NO_IOBUF: &str = "buffers of any size come from one memory, whose size is the \
                                   option -s; every reactor has caches of its own";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("iobuf_set_options", "Takes nothing: memory is set with -s.", iobuf_options)
            .at(When::Always),
        Method::new(
            "iobuf_get_stats",
            "Tells where the buffers of the reactors came from.",
            iobuf_stats,
        )
        .answers(
            "list of one: `module` `io-engine`, `small_pool` (buffers of at most 8 KiB) and \
             `large_pool`: `cache` (out of the cache of a reactor), `main` (out of the memory that \
             all share), `retry` (refused, since there was no room)",
        ),
        Method::new(
            "env_dpdk_get_mem_stats",
            "Writes what is known of the memory for I/O to a new file, in the directory of \
             `--rpc-root` or for temporary files.",
            dump,
        )
        .answers("`filename`"),
        Method::new("engine_get_memory_stats", "Tells about the memory for I/O (ours).", memory)
            .answers(
                "`size_bytes`, `free_bytes` (what caches of cores hold is not free), \
                 `largest_free_bytes`, `page_kind`, `locked`, `lock_error` (why it is not locked, \
                 or `null`)",
            ),
    ]
}

struct IobufOptions;

impl Request for IobufOptions {
    const PARAMS: Defs = &[&[
        not_done("small_pool_count", NO_IOBUF),
        not_done("large_pool_count", NO_IOBUF),
        not_done("small_bufsize", NO_IOBUF),
        not_done("large_bufsize", NO_IOBUF),
        only("enable_numa", "false", "memory is where the kernel puts it"),
    ]];

    fn take(_: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

async fn iobuf_options(_: Arc<Context>, _: IobufOptions) -> RpcResult<bool> {
    Ok(true)
}

/// What each reactor was given; one that has ended was given nothing.
async fn stats(reactors: &[ReactorHandle]) -> Vec<(&ReactorHandle, BufferStats)> {
    let mut all = Vec::with_capacity(reactors.len());
    for reactor in reactors {
        if let Ok(stats) = reactor.call(|_| BufferCache::stats()).await {
            all.push((reactor, stats));
        }
    }
    all
}

async fn iobuf_stats(context: Arc<Context>, _: Nothing) -> RpcResult<Vec<Value>> {
    let all = stats(context.engine()?.runtime().reactors()).await;
    let sum = |counts: fn(&BufferStats) -> BufferCounts, of: fn(&BufferCounts) -> u64| -> u64 {
        all.iter().map(|(_, stats)| of(&counts(stats))).sum()
    };
    let pool = |counts: fn(&BufferStats) -> BufferCounts| {
        json!({
            "cache": sum(counts, |counts| counts.cached),
            "main": sum(counts, |counts| counts.arena),
            "retry": sum(counts, |counts| counts.refused),
        })
    };
    Ok(vec![json!({
        "module": "io-engine",
        "small_pool": pool(|stats| stats.small),
        "large_pool": pool(|stats| stats.large),
    })])
}

async fn memory(context: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    let report = context.engine()?.memory().report();
    Ok(json!({
        "size_bytes": report.size_bytes,
        "free_bytes": report.free_bytes,
        "largest_free_bytes": report.largest_free_bytes,
        "page_kind": report.pages.to_string(),
        "locked": report.locked,
        "lock_error": report.lock_error,
    }))
}

async fn dump(context: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    let engine = context.engine()?;
    let report = engine.memory().report();
    let mut text = String::new();
    // A string takes what is written into it.
    let _ = writeln!(text, "size_bytes {}", report.size_bytes);
    let _ = writeln!(text, "free_bytes {}", report.free_bytes);
    let _ = writeln!(text, "largest_free_bytes {}", report.largest_free_bytes);
    let _ = writeln!(text, "page_kind {}", report.pages);
    let _ = writeln!(text, "locked {}", report.locked);
    for (reactor, stats) in stats(engine.runtime().reactors()).await {
        let (name, all) = (thread_name(reactor), stats.all());
        let _ = writeln!(text, "{name} cached_bytes {}", stats.cached_bytes);
        let _ = writeln!(text, "{name} buffers_from_cache {}", all.cached);
        let _ = writeln!(text, "{name} buffers_from_memory {}", all.arena);
        let _ = writeln!(text, "{name} buffers_refused {}", all.refused);
    }
    let dir = context.roots().dir().map_or_else(std::env::temp_dir, Path::to_path_buf);
    let path = dir.join(format!("io-engine_mem_dump.{}.txt", std::process::id()));
    let shown = path.display().to_string();
    let written = tokio::task::spawn_blocking(move || write_anew(&path, &text)).await;
    let written = written.map_err(|error| codes::internal_error(error.to_string()))?;
    written.map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        errors::errno(errno, format!("cannot write {shown:?}: {error}"))
    })?;
    Ok(json!({ "filename": shown }))
}

/// Writes a file that was not there, or replaces one that an earlier call left. Others may write to
/// the directory too, so nothing that stands there is written to or followed.
fn write_anew(path: &PathBuf, text: &str) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let options = std::fs::OpenOptions::new();
    let mut file = { options }.write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
