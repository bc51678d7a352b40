//! The process: build, what the kernel says of it, and the servers of the management interface.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonrpc::ServerStats;
use jsonrpc::http::HttpStats;
use nix::unistd::{SysconfVar, sysconf};

use super::Sources;
use super::text::{Exposition, Figure, Kind, KindFigure};

/// Counts of the Unix socket.
const RPC: &[KindFigure<ServerStats, u64>] = &[
    ("io_engine_rpc_connections", Kind::Gauge, "Open connections of the Unix socket.", |rpc| {
        rpc.connections() as u64
    }),
    (
        "io_engine_rpc_accepted_total",
        Kind::Counter,
        "Connections of the Unix socket that were served.",
        ServerStats::accepted,
    ),
    (
        "io_engine_rpc_refused_total",
        Kind::Counter,
        "Connections of the Unix socket that were refused, for their number or their user.",
        ServerStats::refused,
    ),
    (
        "io_engine_rpc_stalled_total",
        Kind::Counter,
        "Connections of the Unix socket that were closed because their peer read nothing.",
        ServerStats::stalled,
    ),
    (
        "io_engine_rpc_calls_total",
        Kind::Counter,
        "Methods called over the Unix socket.",
        ServerStats::requests,
    ),
    (
        "io_engine_rpc_panics_total",
        Kind::Counter,
        "Methods called over the Unix socket that panicked.",
        ServerStats::panics,
    ),
    (
        "io_engine_rpc_buffered_bytes",
        Kind::Gauge,
        "Responses that wait for peers of the Unix socket to read them.",
        |rpc| rpc.buffered_bytes() as u64,
    ),
];

/// Counts of the HTTP server.
const HTTP: &[Figure<HttpStats, u64>] = &[
    ("io_engine_http_accepted_total", "HTTP connections that were served.", HttpStats::accepted),
    (
        "io_engine_http_refused_total",
        "HTTP connections that were refused for their number.",
        HttpStats::refused,
    ),
    (
        "io_engine_http_stalled_total",
        "HTTP connections that were closed because their peer read nothing.",
        HttpStats::stalled,
    ),
    ("io_engine_http_requests_total", "HTTP requests.", HttpStats::requests),
    (
        "io_engine_http_forbidden_total",
        "HTTP requests and calls refused for their host, origin or token.",
        HttpStats::forbidden,
    ),
    ("io_engine_http_calls_total", "Methods called over HTTP.", HttpStats::calls),
    ("io_engine_http_panics_total", "Methods called over HTTP that panicked.", HttpStats::panics),
];

pub(super) fn write(out: &mut Exposition, sources: &Sources) {
    out.family("io_engine_build_info", Kind::Gauge, "The build that runs.").sample(
        &[
            ("version", env!("CARGO_PKG_VERSION")),
            ("profile", if cfg!(debug_assertions) { "dev" } else { "release" }),
            ("target", std::env::consts::ARCH),
        ],
        1u64,
    );
    kernel(out, sources.started);
    if let Some(rpc) = &sources.rpc {
        for (name, kind, help, value) in RPC {
            out.single(name, *kind, help, value(rpc));
        }
    }
    for (name, help, value) in HTTP {
        out.single(name, Kind::Counter, help, value(&sources.http));
    }
}

/// What the kernel says of the process, under the names that every exporter has for it.
fn kernel(out: &mut Exposition, started: SystemTime) {
    let since = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let help = "Start of the process, in seconds since 1970.";
    out.single("process_start_time_seconds", Kind::Gauge, help, since.as_secs_f64());
    // Where /proc is not there, neither are these.
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::of(&text))
    {
        let help = "CPU time of the process in user and kernel mode, in seconds.";
        out.single("process_cpu_seconds_total", Kind::Counter, help, stat.cpu_seconds);
        let help = "Resident memory, huge pages not included, in bytes.";
        out.single("process_resident_memory_bytes", Kind::Gauge, help, stat.resident_bytes);
        out.single(
            "process_virtual_memory_bytes",
            Kind::Gauge,
            "Address space, in bytes.",
            stat.virtual_bytes,
        );
        out.single("process_threads", Kind::Gauge, "Threads.", stat.threads);
    }
    if let Ok(fds) = fs::read_dir("/proc/self/fd") {
        out.single("process_open_fds", Kind::Gauge, "Open file descriptors.", fds.count());
    }
}

/// What is taken of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    fn of(text: &str) -> Option<Self> {
        let conf = |what| sysconf(what).ok().flatten().and_then(|value| u64::try_from(value).ok());
        let (hz, page) = (conf(SysconfVar::CLK_TCK)?, conf(SysconfVar::PAGE_SIZE)?);
        // The name, field 2, may hold anything; the last parenthesis ends it.
        let (_, rest) = text.rsplit_once(')')?;
        let field =
            |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) as f64 / hz as f64,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_no_trouble() {
        let text = "7 (a ) (b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 99 4096 2 0";
        let stat = Stat::of(text).expect("a line of the kernel's");
        assert_eq!((stat.threads, stat.virtual_bytes), (3, 4096));
        assert!(stat.cpu_seconds > 0.0 && stat.resident_bytes >= 8192);
        assert_eq!(Stat::of("7 (a) S 1"), None);
        let own = fs::read_to_string("/proc/self/stat").expect("/proc");
        assert!(Stat::of(&own).expect("this process").threads >= 1);
    }
}
