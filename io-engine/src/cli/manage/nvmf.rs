//! `io-engine nvmf …`.

use std::net::SocketAddr;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::view::{Column, Form};
use super::{Call, Manage, Show};

const SUBSYSTEMS: &[Column] = &[
    ("nqn", "/nqn", Form::Text),
    ("subtype", "/subtype", Form::Text),
    ("serial", "/serial_number", Form::Text),
    ("namespaces", "/namespaces", Form::Length),
    ("any host", "/allow_any_host", Form::Text),
    ("hosts", "/hosts", Form::Length),
    ("listeners", "/listen_addresses", Form::Length),
];

const LISTENERS: &[Column] = &[
    ("transport", "/address/trtype", Form::Text),
    ("address", "/address/traddr", Form::Text),
    ("port", "/address/trsvcid", Form::Count),
    ("ANA", "/ana_states", Form::Text),
];

const CONTROLLERS: &[Column] = &[
    ("id", "/cntlid", Form::Count),
    ("host", "/hostnqn", Form::Text),
    ("host id", "/hostid", Form::Text),
    ("I/O queues", "/num_io_qpairs", Form::Count),
];

const QPAIRS: &[Column] = &[
    ("controller", "/cntlid", Form::Count),
    ("queue", "/qid", Form::Count),
    ("thread", "/thread", Form::Text),
    ("host", "/hostnqn", Form::Text),
    ("from", "/peer_address/traddr", Form::Text),
    ("port", "/peer_address/trsvcid", Form::Count),
];

/// What to do with the NVMe-oF target of a running daemon.
#[derive(Debug, Clone, Subcommand)]
pub enum NvmfCommand {
    /// List the subsystems
    List {
        /// Only this one
        nqn: Option<String>,
    },
    /// Make the target ready for NVMe/TCP; needed once, before the first listener
    Start,
    /// Make a subsystem
    Create {
        /// Its name
        nqn: String,
        /// Serial number
        #[arg(long)]
        serial: Option<String>,
        /// Model
        #[arg(long)]
        model: Option<String>,
        /// Namespaces at the most
        #[arg(long, value_name = "COUNT")]
        max_namespaces: Option<u32>,
        /// Let every host connect
        #[arg(long)]
        allow_any_host: bool,
        /// Report asymmetric namespace access
        #[arg(long)]
        ana: bool,
    },
    /// Delete a subsystem; its hosts are disconnected
    Delete {
        /// Its name
        nqn: String,
    },
    /// Export a device as a namespace and print its number
    AddNs {
        /// The subsystem
        nqn: String,
        /// The device
        bdev: String,
        /// The namespace's number; else the lowest that is free
        #[arg(long)]
        nsid: Option<u32>,
        /// The namespace's UUID; else the device's
        #[arg(long)]
        uuid: Option<String>,
    },
    /// Take a namespace away
    RemoveNs {
        /// The subsystem
        nqn: String,
        /// The namespace
        nsid: u32,
    },
    /// List where a subsystem listens
    Listeners {
        /// The subsystem
        nqn: String,
    },
    /// Listen for hosts of a subsystem
    Listen {
        /// The subsystem
        nqn: String,
        /// Where, like 192.0.2.1:4420
        address: SocketAddr,
    },
    /// Listen there no more
    Unlisten {
        /// The subsystem
        nqn: String,
        /// Where
        address: SocketAddr,
    },
    /// Let a host connect
    AllowHost {
        /// The subsystem
        nqn: String,
        /// The host's name
        host: String,
    },
    /// Let a host connect no more, and disconnect it
    DenyHost {
        /// The subsystem
        nqn: String,
        /// The host's name
        host: String,
    },
    /// Let every host connect
    AllowAnyHost {
        /// The subsystem
        nqn: String,
        /// Only those that were named, again
        #[arg(long)]
        off: bool,
    },
    /// List the hosts that are connected
    Hosts {
        /// The subsystem
        nqn: String,
    },
    /// List the queues of the hosts that are connected
    Queues {
        /// The subsystem
        nqn: String,
    },
}

fn listen_address(address: &SocketAddr) -> Value {
    let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
    json!({
        "trtype": "TCP",
        "adrfam": family,
        "traddr": address.ip().to_string(),
        "trsvcid": address.port().to_string(),
    })
}

fn of(method: &'static str, show: Show, nqn: &str) -> Call {
    Call::new(method, show).with("nqn", nqn)
}

impl Manage for NvmfCommand {
    fn call(&self) -> Call {
        let done = Show::Nothing;
        match self {
            Self::List { nqn } => Call::new("nvmf_get_subsystems", Show::List(SUBSYSTEMS))
                .with_some("nqn", nqn.as_deref()),
            Self::Start => Call::new("nvmf_create_transport", done).with("trtype", "TCP"),
            Self::Create { nqn, serial, model, max_namespaces, allow_any_host, ana } => {
                of("nvmf_create_subsystem", done, nqn)
                    .with_some("serial_number", serial.as_deref())
                    .with_some("model_number", model.as_deref())
                    .with_some("max_namespaces", *max_namespaces)
                    .with_flag("allow_any_host", *allow_any_host)
                    .with_flag("ana_reporting", *ana)
            }
            Self::Delete { nqn } => of("nvmf_delete_subsystem", done, nqn),
            Self::AddNs { nqn, bdev, nsid, uuid } => {
                let mut namespace = Map::new();
                namespace.insert("bdev_name".to_owned(), bdev.as_str().into());
                namespace.extend(nsid.map(|nsid| ("nsid".to_owned(), nsid.into())));
                namespace.extend(uuid.as_deref().map(|uuid| ("uuid".to_owned(), uuid.into())));
                of("nvmf_subsystem_add_ns", Show::Plain, nqn).with("namespace", namespace)
            }
            Self::RemoveNs { nqn, nsid } => {
                of("nvmf_subsystem_remove_ns", done, nqn).with("nsid", *nsid)
            }
            Self::Listeners { nqn } => {
                of("nvmf_subsystem_get_listeners", Show::List(LISTENERS), nqn)
            }
            Self::Listen { nqn, address } => of("nvmf_subsystem_add_listener", done, nqn)
                .with("listen_address", listen_address(address)),
            Self::Unlisten { nqn, address } => of("nvmf_subsystem_remove_listener", done, nqn)
                .with("listen_address", listen_address(address)),
            Self::AllowHost { nqn, host } => {
                of("nvmf_subsystem_add_host", done, nqn).with("host", host.as_str())
            }
            Self::DenyHost { nqn, host } => {
                of("nvmf_subsystem_remove_host", done, nqn).with("host", host.as_str())
            }
            Self::AllowAnyHost { nqn, off } => {
                of("nvmf_subsystem_allow_any_host", done, nqn).with("allow_any_host", !*off)
            }
            Self::Hosts { nqn } => {
                of("nvmf_subsystem_get_controllers", Show::List(CONTROLLERS), nqn)
            }
            Self::Queues { nqn } => of("nvmf_subsystem_get_qpairs", Show::List(QPAIRS), nqn),
        }
    }
}
