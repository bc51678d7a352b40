//! `io-engine nvme`: NVMe controllers, what they tell of themselves, and changes of what they store.
//!
//! A controller is named as the daemon knows it, by one of its devices, or by a URI. One that the
//! daemon has is asked through it. Behind a URI that no daemon has, an engine in this process
//! attaches it for the time of the command, and runs the same methods.

mod access;
mod show;
mod zns;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use serde_json::{Map, Value, json};
use spdk_rs::nvme::spec::identify::{Flbas, IdentifyController, IdentifyNamespace, cns};
use spdk_rs::nvme::spec::log::{ErrorEntry, FirmwareSlots, GetLogPage, lid};
use spdk_rs::nvme::spec::{NSID_ALL, Sqe};
use zerocopy::FromBytes;

use super::manage::view::{self, Column, Form};
use super::remote::{call, fail, print};
use super::{ExitCode, ManageArgs, OutputFormat};
use access::Target;
pub use zns::{ZnsCommand, ZoneArgs};

/// Entries of the error log that are read at the most, whatever the controller has.
const ERRORS_MAX: u64 = 256;

const CONTROLLERS: &[Column] = &[
    ("name", "/name", Form::Text),
    ("state", "/ctrlrs/0/state", Form::Text),
    ("transport", "/ctrlrs/0/trid/trtype", Form::Text),
    ("address", "/ctrlrs/0/trid/traddr", Form::Text),
    ("port", "/ctrlrs/0/trid/trsvcid", Form::Text),
    ("subsystem", "/ctrlrs/0/trid/subnqn", Form::Text),
    ("I/O queues", "/ctrlrs/0/io_queues", Form::Count),
    ("paths", "/ctrlrs", Form::Length),
    ("devices", "/bdevs", Form::Text),
];

const ERRORS: &[Column] = &[
    ("number", "/error_count", Form::Count),
    ("queue", "/sqid", Form::Count),
    ("command", "/cid", Form::Count),
    ("namespace", "/nsid", Form::Count),
    ("block", "/lba", Form::Count),
    ("status", "/status", Form::Text),
];

const SLOTS: &[Column] = &[
    ("slot", "/slot", Form::Count),
    ("revision", "/revision", Form::Text),
    ("active", "/active", Form::Text),
    ("after a reset", "/active_next", Form::Text),
];

const FORMATS: &[Column] = &[
    ("lbaf", "/index", Form::Count),
    ("block", "/block_size", Form::Size),
    ("metadata", "/metadata_size", Form::Size),
    ("performance", "/performance", Form::Text),
    ("in use", "/in_use", Form::Text),
];

/// `io-engine nvme …`.
#[derive(Debug, Clone, Args)]
pub struct NvmeArgs {
    /// The daemon and the format.
    #[command(flatten)]
    pub manage: ManageArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: NvmeCommand,
}

/// Which controller.
#[derive(Debug, Clone, Args)]
pub struct ControllerArgs {
    /// The controller: its name, a device of it, or a URI (pcie:///0000:01:00.0, nvmf://host/nqn)
    pub controller: String,
    /// The namespace; else the one of the device or the URI
    #[arg(short, long, value_name = "NSID", value_parser = clap::value_parser!(u32).range(1..=0xffff_fffe))]
    pub nsid: Option<u32>,
}

/// What destroys data is done when this says so, or the name was typed.
#[derive(Debug, Clone, Args)]
pub struct ForceArgs {
    /// Do not ask for the name to be typed
    #[arg(long)]
    pub force: bool,
}

/// What to do with NVMe controllers.
#[derive(Debug, Clone, Subcommand)]
pub enum NvmeCommand {
    /// List the controllers of a running daemon
    List,
    /// Show what a controller, or one of its namespaces, tells of itself
    Identify(ControllerArgs),
    /// Show the health of a controller
    Smart(ControllerArgs),
    /// Show the error log of a controller
    ErrorLog(ControllerArgs),
    /// Format a namespace; all data in it are lost
    Format {
        /// The namespace.
        #[command(flatten)]
        target: ControllerArgs,
        /// All namespaces of the controller
        #[arg(long, conflicts_with = "nsid")]
        all: bool,
        /// Bytes per block, in the fastest format without metadata; else the present format
        #[arg(long, value_name = "BYTES")]
        block_size: Option<u32>,
        /// Index of the LBA format instead, as identify lists them
        #[arg(long, conflicts_with = "block_size")]
        lbaf: Option<u8>,
        /// How the data are erased
        #[arg(long, value_enum, value_name = "HOW", default_value_t)]
        erase: Erase,
        /// Whether to ask.
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Start to sanitize all that the controller's subsystem stores
    Sanitize {
        /// The controller.
        #[command(flatten)]
        target: ControllerArgs,
        /// What is done
        #[arg(value_enum)]
        action: SanitizeAction,
        /// Whether to ask.
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Show how far a sanitize operation is
    SanitizeStatus(ControllerArgs),
    /// Show the firmware of a controller, or give it another one
    Fw {
        /// The controller.
        #[command(flatten)]
        target: ControllerArgs,
        /// The new image
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        image: Option<PathBuf>,
        /// Its slot; else the controller's choice
        #[arg(long, value_name = "SLOT", requires = "image",
              value_parser = clap::value_parser!(u8).range(1..=7))]
        slot: Option<u8>,
        /// Do not activate it
        #[arg(long, requires = "image")]
        no_activate: bool,
        /// Whether to ask.
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Make a namespace and print its number
    CreateNs {
        /// The controller.
        #[command(flatten)]
        target: ControllerArgs,
        /// Its size in blocks
        blocks: u64,
        /// Bytes per block
        #[arg(long, value_name = "BYTES")]
        block_size: Option<u32>,
        /// Let more than one controller have it
        #[arg(long)]
        shared: bool,
        /// Do not attach it
        #[arg(long)]
        no_attach: bool,
    },
    /// Delete a namespace; all data in it are lost
    DeleteNs {
        /// The namespace.
        #[command(flatten)]
        target: ControllerArgs,
        /// Whether to ask.
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Attach a namespace to the controller
    AttachNs(ControllerArgs),
    /// Detach a namespace from the controller
    DetachNs(ControllerArgs),
    /// Show and manage the zones of a zoned namespace
    #[command(subcommand)]
    Zns(ZnsCommand),
}

/// How data are erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Erase {
    /// As the controller likes
    #[default]
    None,
    /// User data are overwritten or erased
    #[value(name = "user_data")]
    UserData,
    /// The key is forgotten
    Crypto,
}

/// What a sanitize operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SanitizeAction {
    /// Erases blocks by the medium's own means
    BlockErase,
    /// Overwrites the medium
    Overwrite,
    /// Forgets the key
    CryptoErase,
    /// Leaves the failure mode after one that failed
    ExitFailure,
}

/// The name that a value has on the command line, which is the method's.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// What a command comes to: an answer, and how it is shown to people.
type Done = Result<(Value, fn(&Value) -> String), ExitCode>;

/// Does what the command says.
#[must_use]
pub fn run(args: &NvmeArgs) -> ExitCode {
    let done = execute(args);
    match (done, args.manage.output) {
        (Err(code), _) => code,
        (Ok((answer, _)), OutputFormat::Json) => print(&format!("{answer:#}")),
        (Ok((answer, shown)), OutputFormat::Table) => match shown(&answer) {
            text if text.is_empty() => ExitCode::Success,
            text => print(&text),
        },
    }
}

fn execute(args: &NvmeArgs) -> Done {
    let client = &args.manage.client;
    let place = match &args.command {
        NvmeCommand::List => {
            let answer = call(client, "bdev_nvme_get_controllers", None)?;
            return Ok((answer, |answer| listed(answer, CONTROLLERS)));
        }
        NvmeCommand::Identify(place)
        | NvmeCommand::Smart(place)
        | NvmeCommand::ErrorLog(place)
        | NvmeCommand::SanitizeStatus(place)
        | NvmeCommand::AttachNs(place)
        | NvmeCommand::DetachNs(place) => place,
        NvmeCommand::Format { target, .. }
        | NvmeCommand::Sanitize { target, .. }
        | NvmeCommand::Fw { target, .. }
        | NvmeCommand::CreateNs { target, .. }
        | NvmeCommand::DeleteNs { target, .. } => target,
        NvmeCommand::Zns(command) => command.place(),
    };
    // Before anything is attached.
    confirmed(&args.command, &place.controller)?;
    let target = Target::open(client, place)?;
    let done = execute_on(&target, &args.command);
    target.close();
    done
}

fn execute_on(target: &Target, command: &NvmeCommand) -> Done {
    let plain: fn(&Value) -> String = view::text;
    let nothing: fn(&Value) -> String = |_| String::new();
    let name = target.controller.as_str();
    match command {
        NvmeCommand::List => Ok((Value::Null, nothing)),
        NvmeCommand::Identify(_) => match target.nsid {
            Some(nsid) => identify_namespace(target, nsid),
            None => identify(target),
        },
        NvmeCommand::Smart(_) => {
            let health =
                target.call("bdev_nvme_get_controller_health_info", json!({ "name": name }))?;
            Ok((health, facts))
        }
        NvmeCommand::ErrorLog(_) => error_log(target),
        NvmeCommand::SanitizeStatus(_) => {
            Ok((target.call("nvme_get_sanitize_status", json!({ "name": name }))?, facts))
        }
        NvmeCommand::Format { all, block_size, lbaf, erase, .. } => {
            let mut params = json!({ "name": name, "secure_erase": name_of(erase) });
            if !*all {
                params["nsid"] = target.namespace()?.into();
            }
            set(&mut params, "block_size", *block_size);
            set(&mut params, "lbaf", *lbaf);
            Ok((target.call("nvme_format", params)?, nothing))
        }
        NvmeCommand::Sanitize { action, .. } => {
            let params = json!({ "name": name, "action": name_of(action) });
            Ok((target.call("nvme_sanitize", params)?, nothing))
        }
        NvmeCommand::Fw { image: None, .. } => firmware(target),
        NvmeCommand::Fw { image: Some(image), slot, no_activate, .. } => {
            let image = std::path::absolute(image).unwrap_or_else(|_| image.clone());
            let mut params = json!({
                "bdev_name": name, "filename": image.to_string_lossy(), "activate": !*no_activate,
            });
            set(&mut params, "slot", *slot);
            Ok((target.call("bdev_nvme_apply_firmware", params)?, plain))
        }
        NvmeCommand::CreateNs { blocks, block_size, shared, no_attach, .. } => {
            let mut params = json!({
                "name": name, "num_blocks": blocks, "shared": shared, "attach": !*no_attach,
            });
            set(&mut params, "block_size", *block_size);
            Ok((target.call("nvme_namespace_create", params)?, plain))
        }
        NvmeCommand::DeleteNs { .. } => of_namespace(target, "nvme_namespace_delete"),
        NvmeCommand::AttachNs(_) => of_namespace(target, "nvme_namespace_attach"),
        NvmeCommand::DetachNs(_) => of_namespace(target, "nvme_namespace_detach"),
        NvmeCommand::Zns(command) => zns::execute(target, command),
    }
}

fn of_namespace(target: &Target, method: &'static str) -> Done {
    let params = json!({ "name": target.controller, "nsid": target.namespace()? });
    Ok((target.call(method, params)?, |_| String::new()))
}

fn set(params: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        params[name] = value.into();
    }
}

/// Whether what destroys data was confirmed: by the option, or by the name typed on a terminal.
fn confirmed(command: &NvmeCommand, name: &str) -> Result<(), ExitCode> {
    let (what, force) = match command {
        NvmeCommand::Format { force, .. } => ("lose all data in the namespace", force),
        NvmeCommand::Sanitize { force, .. } => ("lose all data of the subsystem", force),
        NvmeCommand::DeleteNs { force, .. } => ("lose the namespace with all data", force),
        NvmeCommand::Fw { image: Some(_), force, .. } => ("change the firmware", force),
        NvmeCommand::Zns(command) => match command.destroys() {
            Some(what) => what,
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    if force.force {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        let words = format!("this will {what}: --force is needed where nobody can be asked");
        return Err(fail(ExitCode::Usage, &words));
    }
    // Without a terminal for the question the answer will not be the name.
    let _ = write!(std::io::stderr(), "This will {what}. Type {name} to go on: ");
    let mut typed = String::new();
    let read = std::io::stdin().lock().read_line(&mut typed);
    if read.is_ok() && typed.trim() == name {
        return Ok(());
    }
    Err(fail(ExitCode::Usage, "nothing was done"))
}

fn facts(answer: &Value) -> String {
    answer.as_object().map_or_else(|| view::text(answer), view::facts)
}

fn listed(answer: &Value, columns: &[Column]) -> String {
    view::table(columns, answer.as_array().map_or(&[], Vec::as_slice))
}

/// A structure at the front of data.
fn read<T: FromBytes>(data: &[u8], what: &str) -> Result<T, ExitCode> {
    T::read_from_prefix(data)
        .map(|(value, _)| value)
        .map_err(|_| fail(ExitCode::Failure, &format!("{what}: {} bytes are too few", data.len())))
}

fn controller_data(target: &Target) -> Result<IdentifyController, ExitCode> {
    let what = "identify controller";
    let data = target.admin(&Sqe::identify(cns::CONTROLLER, 0, 0), 4096, what)?;
    read(&data, what)
}

fn identify(target: &Target) -> Done {
    Ok((show::controller(&controller_data(target)?), facts))
}

fn identify_namespace(target: &Target, nsid: u32) -> Done {
    let what = "identify namespace";
    let data = target.admin(&Sqe::identify(cns::NAMESPACE, nsid, 0), 4096, what)?;
    let data: IdentifyNamespace = read(&data, what)?;
    let shown = show::namespace(&data, Flbas(data.flbas).index());
    Ok((shown, |answer| {
        let mut members: Map<String, Value> = answer.as_object().cloned().unwrap_or_default();
        let formats = members.remove("lbafs").unwrap_or_default();
        format!("{}\n{}", view::facts(&members), listed(&formats, FORMATS))
    }))
}

fn error_log(target: &Target) -> Done {
    let what = "error log";
    let entries = (u64::from(controller_data(target)?.elpe) + 1).min(ERRORS_MAX);
    let bytes = entries * size_of::<ErrorEntry>() as u64;
    let sqe = GetLogPage::new(lid::ERROR, bytes).to_sqe(NSID_ALL);
    let data = target.admin(&sqe, bytes, what)?;
    let entries = data.chunks_exact(size_of::<ErrorEntry>());
    let entries = entries.filter_map(|bytes| ErrorEntry::read_from_bytes(bytes).ok());
    // The number of an entry that is none is 0.
    let valid = entries.filter(|entry| entry.error_count.get() != 0);
    let shown: Vec<Value> = valid.map(|entry| show::error(&entry)).collect();
    Ok((shown.into(), |answer| listed(answer, ERRORS)))
}

fn firmware(target: &Target) -> Done {
    let what = "firmware slots";
    let frmw = controller_data(target)?.frmw;
    let sqe = GetLogPage::new(lid::FIRMWARE_SLOT, 512).to_sqe(NSID_ALL);
    let slots: FirmwareSlots = read(&target.admin(&sqe, 512, what)?, what)?;
    Ok((show::slots(&slots, frmw), |answer| listed(answer, SLOTS)))
}

#[cfg(test)]
mod tests;
