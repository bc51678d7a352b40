//! `io-engine config save|load`: the configuration of a running daemon, in a file of the caller's.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueHint};
use serde_json::{Value, json};

use super::remote::{call, fail, print};
use super::{ClientArgs, ExitCode};

/// `io-engine config …`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Where to find the daemon.
    #[command(flatten)]
    pub client: ClientArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the configuration of a running daemon.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Write the configuration that would make everything again
    Save {
        /// Where to write it; without it, it goes to standard output
        #[arg(value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// Only this subsystem
        #[arg(long, value_name = "NAME")]
        subsystem: Option<String>,
    },
    /// Make the calls of a configuration
    Load {
        /// The file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

/// Saves or loads the configuration.
#[must_use]
pub fn config(args: &ConfigArgs) -> ExitCode {
    match &args.command {
        ConfigCommand::Save { file, subsystem } => save(&args.client, file.as_deref(), subsystem),
        ConfigCommand::Load { file } => load(&args.client, file),
    }
}

fn save(client: &ClientArgs, file: Option<&Path>, subsystem: &Option<String>) -> ExitCode {
    let saved = match subsystem {
        None => call(client, "save_config", None),
        Some(name) => call(client, "save_subsystem_config", Some(json!({ "name": name }))),
    };
    let config = match saved {
        Ok(config) => config,
        Err(code) => return code,
    };
    let Some(file) = file else { return print(&format!("{config:#}")) };
    match std::fs::write(file, format!("{config:#}\n")) {
        Ok(()) => ExitCode::Success,
        Err(error) => fail(ExitCode::Failure, &format!("cannot write {file:?}: {error}")),
    }
}

fn load(client: &ClientArgs, file: &Path) -> ExitCode {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) => return fail(ExitCode::Resources, &format!("cannot read {file:?}: {error}")),
    };
    let config: Value = match serde_json::from_slice(&text) {
        Ok(config) => config,
        Err(error) => return fail(ExitCode::Config, &format!("{file:?}: {error}")),
    };
    match call(client, "load_config", Some(json!({ "config": config }))) {
        Ok(_) => ExitCode::Success,
        Err(code) => code,
    }
}
