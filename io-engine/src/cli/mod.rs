//! The command line of the `io-engine` binary.
//!
//! Without a sub-command the binary is the daemon, so its options stand at the top; sub-commands
//! bring their own. What `clap` can check, it checks; the rest is checked by [`Invocation::parse`]
//! before anything is started, and ends in the same kind of message and the same exit code.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use spdk_rs::env::pci::PciAddress;

use crate::bdev::BdevUri;
use crate::perf::options::PerfArgs;

pub use bdev_list::BdevList;
pub use config::{ConfigArgs, ConfigCommand, config};
pub use env::CoresError;
pub use exit::ExitCode;
pub use export::ExportArgs;
pub use generate::{CompletionsArgs, ManArgs};
pub use http::HttpArgs;
pub use log::{LogArgs, LogError, LogFormat};
pub use manage::{EventsArgs, InjectArgs, ManageArgs, NvmfArgs, PoolArgs, StatsArgs, VolArgs};
pub use nvme::{NvmeArgs, NvmeCommand};
pub use pci::{PciArgs, PciCommand};
pub use rpc_server::RpcServerArgs;
pub use top::TopArgs;

mod bdev_list;
mod config;
mod env;
pub mod exit;
mod export;
mod generate;
mod http;
mod hugepages;
mod log;
pub mod log_control;
pub mod manage;
pub mod nvme;
pub mod pci;
pub mod remote;
mod rpc_server;
#[cfg(test)]
mod tests;
mod top;

/// Where the daemon listens for JSON-RPC unless told otherwise; SPDK's path, so that its tools
/// find it.
pub const RPC_SOCKET_DEFAULT: &str = "/var/tmp/spdk.sock";

/// A userspace, polled-mode storage engine.
///
/// Without a sub-command, starts the daemon. It runs without root, without huge pages and without
/// a configuration file, and says at start-up what it gave up.
#[derive(Debug, Parser)]
#[command(
    name = "io-engine",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_long_help = exit::help()
)]
struct Cli {
    #[command(flatten)]
    daemon: DaemonArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put load on devices and measure it
    Perf(Box<PerfArgs>),
    /// Export devices to other hosts over NVMe/TCP, until told to end
    Export(Box<ExportArgs>),
    /// Call a JSON-RPC method of a running daemon and print its result
    Rpc(RpcArgs),
    /// List, create or destroy block devices of a running daemon
    Bdev(BdevArgs),
    /// Save or load the configuration of a running daemon
    Config(ConfigArgs),
    #[command(flatten)]
    Client(ClientCommand),
}

/// Sub-commands that do their work in this module.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Manage pools of a running daemon
    Pool(PoolArgs),
    /// Manage volumes, snapshots and clones of a running daemon
    Vol(VolArgs),
    /// Manage the NVMe-oF target of a running daemon
    Nvmf(NvmfArgs),
    /// Ask NVMe controllers, format their namespaces, change their firmware
    Nvme(NvmeArgs),
    /// Inject faults into the devices of a running daemon
    Inject(InjectArgs),
    /// List the NVMe controllers of this machine, and give them to user space or back
    Pci(PciArgs),
    /// Show what a running daemon has counted
    Stats(StatsArgs),
    /// Show what has happened in a running daemon
    Events(EventsArgs),
    /// Show the load of a running daemon, live
    Top(TopArgs),
    /// Print a script that completes command lines in a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

impl ClientCommand {
    /// Does what the command says.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        match self {
            Self::Pool(args) => manage::pool(args),
            Self::Vol(args) => manage::vol(args),
            Self::Nvmf(args) => manage::nvmf(args),
            Self::Nvme(args) => nvme::run(args),
            Self::Inject(args) => manage::inject(args),
            Self::Pci(args) => pci::run(args),
            Self::Stats(args) => manage::stats(args),
            Self::Events(args) => manage::events(args),
            Self::Top(args) => top::run(args),
            Self::Completions(args) => generate::completions(args),
            Self::Man(args) => generate::man(args),
        }
    }
}

/// What the binary was asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// Run the daemon.
    Daemon(Box<DaemonArgs>),
    /// Put load on devices in this process.
    Perf(Box<PerfArgs>),
    /// Export devices in this process.
    Export(Box<ExportArgs>),
    /// Call a method of a running daemon.
    Rpc(RpcArgs),
    /// Manage devices of a running daemon.
    Bdev(BdevArgs),
    /// Save or load a configuration.
    Config(ConfigArgs),
    /// Anything else that needs no engine in this process.
    Client(ClientCommand),
}

impl Invocation {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    ///
    /// `clap`'s error, which is also how help and version come out; see [`exit::usage`].
    pub fn parse<T>(args: impl IntoIterator<Item = T>) -> Result<Self, clap::Error>
    where
        T: Into<OsString> + Clone,
    {
        let Cli { daemon, command } = Cli::try_parse_from(args)?;
        let invocation = match command {
            None => Self::Daemon(Box::new(daemon)),
            Some(Command::Perf(args)) => Self::Perf(args),
            Some(Command::Export(args)) => Self::Export(args),
            Some(Command::Rpc(args)) => Self::Rpc(args),
            Some(Command::Bdev(args)) => Self::Bdev(args),
            Some(Command::Config(args)) => Self::Config(args),
            Some(Command::Client(command)) => Self::Client(command),
        };
        match &invocation {
            Self::Daemon(args) => args.env.check(None)?,
            Self::Perf(args) => {
                let perf = Some("perf");
                args.env.check(perf)?;
                args.check().map_err(|error| refuse(perf, ErrorKind::ArgumentConflict, error))?;
            }
            Self::Export(args) => args.env.check(Some("export"))?,
            Self::Rpc(_) | Self::Bdev(_) | Self::Config(_) | Self::Client(_) => {}
        }
        Ok(invocation)
    }
}

/// An error as `clap` would have made it, with the usage of the sub-command.
fn refuse(
    subcommand: Option<&str>,
    kind: ErrorKind,
    message: impl std::fmt::Display,
) -> clap::Error {
    let mut root = Cli::command();
    root.build();
    match subcommand.and_then(|name| root.find_subcommand(name).cloned()) {
        Some(mut command) => command.error(kind, message),
        None => root.error(kind, message),
    }
}

/// Options of the daemon.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Cores, memory and polling.
    #[command(flatten)]
    pub env: EnvArgs,
    /// Where to listen for JSON-RPC; the socket gets mode 0600
    #[arg(short, long, value_name = "PATH", default_value = RPC_SOCKET_DEFAULT,
          value_hint = ValueHint::FilePath)]
    pub rpc_socket: PathBuf,
    /// Configuration to apply at start: SPDK's JSON format, the subsystems bdev and nvmf
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub json: Option<PathBuf>,
    /// Answer methods of the start only until framework_start_init is called
    #[arg(long, conflicts_with = "json")]
    pub wait_for_rpc: bool,
    /// Who may use the socket, and how.
    #[command(flatten)]
    pub rpc: RpcServerArgs,
    /// Block device to create at start, as a URI; may be repeated
    #[arg(long, value_name = "URI", value_parser = BdevUri::parse)]
    pub bdev: Vec<BdevUri>,
    /// HTTP.
    #[command(flatten)]
    pub http: HttpArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Cores, memory and polling, alike for the daemon and `perf`.
#[derive(Debug, Clone, Default, Args)]
pub struct EnvArgs {
    /// Cores to run on, as a hexadecimal mask: 0x3
    #[arg(short = 'm', long, value_name = "MASK", conflicts_with = "core_list")]
    pub reactor_mask: Option<String>,
    /// Cores to run on, as a list: 0,2-3
    #[arg(short = 'l', long, value_name = "LIST")]
    pub core_list: Option<String>,
    /// Memory for I/O buffers, in MiB
    #[arg(short = 's', long, value_name = "MIB", default_value_t = Self::MEM_SIZE_MIB_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    pub mem_size: u32,
    /// Directory of a mounted hugetlbfs; without it, anonymous huge pages are used
    #[arg(long, value_name = "DIR", conflicts_with = "no_huge", value_hint = ValueHint::DirPath)]
    pub huge_dir: Option<PathBuf>,
    /// Use ordinary pages without trying huge ones
    #[arg(long)]
    pub no_huge: bool,
    /// What a core does when there is nothing to do
    #[arg(long, value_enum, value_name = "MODE", default_value_t)]
    pub poll_mode: PollMode,
    /// How long an idle core spins before it sleeps, in microseconds (adaptive only)
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub spin_us: Option<u32>,
    /// NVMe controller of this machine that may be used, by PCI address, and no other; may be
    /// repeated
    #[arg(short = 'A', long, value_name = "ADDRESS", conflicts_with = "pci_blocked")]
    pub pci_allowed: Vec<PciAddress>,
    /// NVMe controller of this machine that may not be used, by PCI address; may be repeated
    #[arg(short = 'B', long, value_name = "ADDRESS")]
    pub pci_blocked: Vec<PciAddress>,
}

impl EnvArgs {
    /// The default of `--mem-size`, in MiB.
    pub const MEM_SIZE_MIB_DEFAULT: u32 = 256;

    /// Checks what depends on a value and not only on an option being there.
    fn check(&self, subcommand: Option<&str>) -> Result<(), clap::Error> {
        if self.poll_mode == PollMode::Busy && self.spin_us.is_some() {
            let message = "--spin-us has no meaning with --poll-mode busy, which never sleeps";
            return Err(refuse(subcommand, ErrorKind::ArgumentConflict, message));
        }
        Ok(())
    }
}

/// What a core does when there is nothing to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PollMode {
    /// Spins: the shortest latency, and a whole core all the time
    Busy,
    /// Spins for a while, then sleeps in the kernel until there is work
    #[default]
    Adaptive,
}

/// Where to find the daemon.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// The socket of the daemon
    #[arg(short, long, value_name = "PATH", default_value = RPC_SOCKET_DEFAULT, global = true,
          value_hint = ValueHint::FilePath)]
    pub rpc_socket: PathBuf,
}

/// `io-engine rpc METHOD [JSON]`.
#[derive(Debug, Clone, Args)]
pub struct RpcArgs {
    /// Where to find the daemon.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Describe the method instead of calling it
    #[arg(long, conflicts_with = "params")]
    pub describe: bool,
    /// The method; rpc_get_methods lists them all
    pub method: String,
    /// The parameters, as a JSON object or array
    #[arg(value_name = "JSON", value_parser = parse_params)]
    pub params: Option<serde_json::Value>,
}

fn parse_params(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str(text) {
        Ok(params @ (serde_json::Value::Object(_) | serde_json::Value::Array(_))) => Ok(params),
        Ok(_) => Err("parameters are a JSON object or array, like {\"name\": \"disk0\"}".into()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    }
}

/// `io-engine bdev …`.
#[derive(Debug, Clone, Args)]
pub struct BdevArgs {
    /// Where to find the daemon.
    #[command(flatten)]
    pub client: ClientArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: BdevCommand,
}

/// What to do with block devices of a running daemon.
#[derive(Debug, Clone, Subcommand)]
pub enum BdevCommand {
    /// List the block devices
    List {
        /// Only the device with this name or UUID
        name: Option<String>,
        /// How to print them
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: OutputFormat,
    },
    /// Create a block device and print its name
    Create {
        /// What to create, for example malloc:///disk0?size_mb=64
        #[arg(value_parser = BdevUri::parse)]
        uri: BdevUri,
    },
    /// Destroy a block device
    Destroy {
        /// The device's name
        name: String,
    },
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A table for people
    #[default]
    Table,
    /// JSON as the daemon sent it
    Json,
}
