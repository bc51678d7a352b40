//! `io-engine inject …`.

use clap::Subcommand;

use super::view::{Column, Form};
use super::{Call, Manage, Show};

const INJECTIONS: &[Column] =
    &[("id", "/id", Form::Count), ("uri", "/uri", Form::Text), ("hits", "/hits", Form::Count)];

/// What to do with faults that a running daemon injects.
#[derive(Debug, Clone, Subcommand)]
pub enum InjectCommand {
    /// List the injections and how often they have struck
    List {
        /// Only those of this device
        device: Option<String>,
    },
    /// Inject a fault and print what it is
    Add {
        /// The fault, for example inject://disk0?op=read&type=status&retries=1
        uri: String,
    },
    /// End an injection
    Remove {
        /// Its number
        id: u64,
    },
    /// Let the I/Os go on that an injection holds, and print how many they were
    Release {
        /// Its number
        id: u64,
    },
    /// End all injections, and print how many they were
    Clear {
        /// Only those of this device
        device: Option<String>,
    },
}

impl Manage for InjectCommand {
    fn call(&self) -> Call {
        match self {
            Self::List { device } => Call::new("fault_injection_list", Show::List(INJECTIONS))
                .with_some("device", device.as_deref()),
            Self::Add { uri } => {
                Call::new("fault_injection_create", Show::Facts).with("uri", uri.as_str())
            }
            Self::Remove { id } => {
                Call::new("fault_injection_remove", Show::Nothing).with("id", *id)
            }
            Self::Release { id } => {
                Call::new("fault_injection_release", Show::Plain).with("id", *id)
            }
            Self::Clear { device } => Call::new("fault_injection_clear", Show::Plain)
                .with_some("device", device.as_deref()),
        }
    }
}
