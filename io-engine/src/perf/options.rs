//! The command line of `io-engine perf`, and the checks that need no device and those that do.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};

use super::report::Limit;
use super::verify::{UnsupportedBlockLen, Verifier};
use super::workload::{Pattern, Spec, TooSmall};
use crate::bdev::BdevUri;
use crate::cli::{EnvArgs, LogArgs, RpcServerArgs};
use crate::size::{Size, parse_size};

#[cfg(test)]
mod tests;

/// The default length of an I/O in bytes, unless the device's blocks are larger.
pub const IO_SIZE_DEFAULT: u64 = 4096;

/// The longest I/O: what a 32-bit byte count of the wire and disk formats holds, rounded down.
const IO_SIZE_MAX: u64 = 2 << 30;

/// How long to run when neither a time nor a number of I/Os is given.
pub const TIME_DEFAULT: Duration = Duration::from_secs(5);

/// The share of reads in a mix unless `-M` is given, in percent.
pub const READ_PERCENT_DEFAULT: u8 = 50;

/// What the CPU times of a report are.
const CPU_HELP: &str = "\
CPU time per I/O is that of the core's thread, and where several devices share a core, the share \
of each by its number of I/Os. The total has the CPU time of the whole process, the kernel's \
helper threads for io_uring included.

SIGINT and SIGTERM end a run early: the I/O in flight is waited for and the report is printed. A \
second signal abandons it.";

/// Options of `io-engine perf`.
///
/// Every device is driven on every core of the mask. The patterns that write destroy what the
/// devices hold.
#[derive(Debug, Args)]
#[command(after_help = CPU_HELP)]
pub struct PerfArgs {
    /// Devices to drive, as URIs; they are created for the run
    #[arg(required = true, value_name = "URI", value_parser = BdevUri::parse)]
    pub uris: Vec<BdevUri>,
    /// I/Os in flight per device and core: two devices on two cores at 32 make 128 in all
    #[arg(short = 'q', long = "queue-depth", value_name = "DEPTH", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub queue_depth: u32,
    /// Length of an I/O: 512, 4k, 1M [default: 4k, or a block where blocks are larger]
    #[arg(short = 'o', long = "io-size", value_name = "SIZE", value_parser = parse_io_size)]
    pub io_size: Option<u64>,
    /// What to do; everything but read, randread and flush destroys data
    #[arg(short = 'w', long = "workload", value_enum, value_name = "PATTERN",
          default_value_t = Pattern::RandRead)]
    pub pattern: Pattern,
    /// Share of reads in rw and randrw, in percent [default: 50]
    #[arg(short = 'M', long = "read-percent", value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub read_percent: Option<u8>,
    /// How long to run, in seconds [default: 5, without -n]
    #[arg(short = 't', long = "time", value_name = "SECONDS", value_parser = parse_seconds)]
    pub time: Option<Duration>,
    /// How many I/Os to do per device and core; with -t, whichever comes first. verify checks
    /// what it wrote beyond either
    #[arg(short = 'n', long = "number", value_name = "IOS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub ios: Option<u64>,
    /// Seed of the addresses, the mix and the patterns; the same seed gives the same I/Os
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write with FUA: each write is durable when it completes
    #[arg(long)]
    pub fua: bool,
    /// Flush after every so many writes, per device and core
    #[arg(long, value_name = "WRITES", value_parser = clap::value_parser!(u64).range(1..))]
    pub flush_every: Option<u64>,
    /// Limit each device to so many I/Os per second, all cores together, as bdev_set_qos_limit does
    #[arg(long, value_name = "IOS", value_parser = clap::value_parser!(u64).range(1..))]
    pub qos_ios: Option<u64>,
    /// Have the devices count latencies in histograms, as bdev_enable_histogram does: shows what
    /// that costs
    #[arg(long)]
    pub device_histograms: bool,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    /// Cores, memory and polling.
    #[command(flatten)]
    pub env: EnvArgs,
    /// Where to answer JSON-RPC during the run, all methods of the daemon; nowhere without it
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub rpc_socket: Option<PathBuf>,
    /// Who may use the socket, and how.
    #[command(flatten)]
    pub rpc: RpcServerArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

fn parse_io_size(text: &str) -> Result<u64, String> {
    match parse_size(text) {
        Ok(bytes @ 1..=IO_SIZE_MAX) => Ok(bytes),
        Ok(_) => Err(format!("it has to be from 1 to {}", Size(IO_SIZE_MAX))),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.001..=1e9).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        "it has to be a number of seconds from 0.001 to 1000000000, like 5 or 0.5".to_owned()
    })
}

/// Options that do not fit each other, or do not fit a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// A share of reads for a pattern that has no mix.
    #[error("-M sets the share of reads in rw and randrw, and -w {pattern} has no mix")]
    NoMix {
        /// The pattern.
        pattern: Pattern,
    },
    /// A length for an operation that has none.
    #[error("-o sets the length of an I/O, and a flush has none")]
    NoLength,
    /// Options of a socket that is not there.
    #[error("--rpc-… options are about the socket of -r, which is not given")]
    NoSocket,
    /// FUA without a write.
    #[error("--fua makes writes durable, and -w {pattern} writes no data")]
    FuaWithoutWrites {
        /// The pattern.
        pattern: Pattern,
    },
    /// Flushes after writes, without writes.
    #[error("--flush-every counts writes, and -w {pattern} does none")]
    FlushWithoutWrites {
        /// The pattern.
        pattern: Pattern,
    },
    /// A length that is not a whole number of blocks.
    #[error(
        "-o {} is not a multiple of the block size of {device}, {block_len} bytes",
        Size(*io_size)
    )]
    NotWholeBlocks {
        /// The device's name.
        device: String,
        /// The length of an I/O in bytes.
        io_size: u64,
        /// The block length in bytes.
        block_len: u32,
    },
    /// The device holds fewer I/Os than are needed.
    #[error("{device}: {figures}")]
    TooSmall {
        /// The device's name.
        device: String,
        /// The figures.
        figures: TooSmall,
    },
    /// The device's blocks cannot carry the pattern of `verify`.
    #[error("{device}: {figures}")]
    BlockLen {
        /// The device's name.
        device: String,
        /// The figures.
        figures: UnsupportedBlockLen,
    },
}

/// A device as far as the checks need to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry<'n> {
    /// The device's name.
    pub name: &'n str,
    /// The block length in bytes, not 0.
    pub block_len: u32,
    /// The size in blocks.
    pub num_blocks: u64,
}

/// The place of a job in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The device's index in the run.
    pub device: u32,
    /// The core's index in the run, below `cores`.
    pub core: u32,
    /// The number of cores in the run, at least 1.
    pub cores: u32,
}

impl PerfArgs {
    /// Checks what can be checked before a device is opened.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] names the option and the pattern that do not go together.
    pub fn check(&self) -> Result<(), OptionsError> {
        let pattern = self.pattern;
        if self.read_percent.is_some() && !pattern.is_mix() {
            return Err(OptionsError::NoMix { pattern });
        }
        if self.io_size.is_some() && pattern == Pattern::Flush {
            return Err(OptionsError::NoLength);
        }
        if self.rpc_socket.is_none() && self.rpc != RpcServerArgs::default() {
            return Err(OptionsError::NoSocket);
        }
        if self.fua && !pattern.writes_data() {
            return Err(OptionsError::FuaWithoutWrites { pattern });
        }
        if self.flush_every.is_some() && !pattern.destroys_data() {
            return Err(OptionsError::FlushWithoutWrites { pattern });
        }
        Ok(())
    }

    /// The length of an I/O in bytes on a device with this block length: as given, else 4 KiB, or
    /// a block where that is longer or 4 KiB is not a whole number of blocks.
    #[must_use]
    pub fn io_size(&self, block_len: u32) -> u64 {
        let block_len = u64::from(block_len);
        self.io_size.unwrap_or(match IO_SIZE_DEFAULT.checked_rem(block_len) {
            Some(0) => IO_SIZE_DEFAULT,
            _ => block_len,
        })
    }

    /// When to stop.
    #[must_use]
    pub fn limit(&self) -> Limit {
        let time = match (self.time, self.ios) {
            (None, None) => Some(TIME_DEFAULT),
            (time, _) => time,
        };
        Limit { time, ios: self.ios }
    }

    /// The load of one job, checked against its device.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] when the length of an I/O is not a whole number of the device's blocks,
    /// the device is too small, or its blocks cannot carry the pattern of `verify`.
    pub fn spec(&self, device: Geometry<'_>, place: Place) -> Result<Spec, OptionsError> {
        let Geometry { name, block_len, num_blocks } = device;
        let name = || name.to_owned();
        let io_size = self.io_size(block_len);
        let blocks_per_io = match io_size.checked_rem(u64::from(block_len)) {
            Some(0) => io_size / u64::from(block_len),
            _ => return Err(OptionsError::NotWholeBlocks { device: name(), io_size, block_len }),
        };
        if self.pattern == Pattern::Verify {
            Verifier::new(block_len, self.seed)
                .map_err(|figures| OptionsError::BlockLen { device: name(), figures })?;
        }
        let spec = Spec {
            pattern: self.pattern,
            read_percent: self.read_percent.unwrap_or(READ_PERCENT_DEFAULT),
            blocks_per_io,
            num_blocks,
            seed: self.seed,
            device: place.device,
            core: place.core,
            cores: place.cores,
            flush_every: self.flush_every,
        };
        spec.check().map_err(|figures| OptionsError::TooSmall { device: name(), figures })?;
        Ok(spec)
    }
}
