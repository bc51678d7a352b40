//! Options of the daemon's management socket: who may use it, and how much.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use jsonrpc::Limits;

/// The default of `--rpc-max-connections`, which is SPDK's.
const CONNECTIONS_DEFAULT: u32 = 64;
/// The default of `--rpc-max-size` in MiB, which is SPDK's.
const SIZE_MIB_DEFAULT: u32 = 32;

/// Who may use the socket, and how.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RpcServerArgs {
    /// User who may connect to the socket, by number; may be repeated
    #[arg(long, value_name = "UID")]
    pub rpc_allow_uid: Vec<u32>,
    /// Connections to the socket at once
    #[arg(long, value_name = "COUNT", default_value_t = CONNECTIONS_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub rpc_max_connections: u32,
    /// The longest request and response, in MiB
    #[arg(long, value_name = "MIB", default_value_t = SIZE_MIB_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub rpc_max_size: u32,
    /// Directory outside of which methods open and create no files
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub rpc_root: Option<PathBuf>,
}

impl Default for RpcServerArgs {
    fn default() -> Self {
        Self {
            rpc_allow_uid: Vec::new(),
            rpc_max_connections: CONNECTIONS_DEFAULT,
            rpc_max_size: SIZE_MIB_DEFAULT,
            rpc_root: None,
        }
    }
}

impl RpcServerArgs {
    /// What the socket takes from its peers.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let bytes =
            usize::try_from(self.rpc_max_size).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        Limits {
            max_request_bytes: bytes,
            max_response_bytes: bytes,
            max_connections: usize::try_from(self.rpc_max_connections).unwrap_or(usize::MAX),
            allow_uids: (!self.rpc_allow_uid.is_empty()).then(|| self.rpc_allow_uid.clone()),
            ..Limits::default()
        }
    }
}
