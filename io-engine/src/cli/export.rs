//! `io-engine export`: devices to other hosts with one command.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueHint};
use spdk_rs::nvmf::subsystem::Nqn;

use super::{DaemonArgs, EnvArgs, HttpArgs, LogArgs, RPC_SOCKET_DEFAULT, RpcServerArgs};
use crate::bdev::BdevUri;

/// The port that IANA assigned to NVMe over Fabrics.
const PORT_DEFAULT: u16 = 4420;

/// `io-engine export URI… [--listen ADDR:PORT]… [--nqn NQN] [--host NQN]…`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Devices to create and export, as URIs; the first is namespace 1
    #[arg(required = true, value_name = "URI", value_parser = BdevUri::parse)]
    pub uris: Vec<BdevUri>,
    /// Address to listen at, the port is 4420 unless given; may be repeated
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listen,
          default_value = "127.0.0.1:4420")]
    pub listen: Vec<SocketAddr>,
    /// Name of the subsystem; made out of this machine, the devices and the addresses otherwise,
    /// and the same at every start
    #[arg(long, value_name = "NQN", value_parser = parse_nqn)]
    pub nqn: Option<Nqn>,
    /// Name of a host that may connect; may be repeated. Without it, every host may
    #[arg(long, value_name = "NQN", value_parser = parse_nqn)]
    pub host: Vec<Nqn>,
    /// Cores, memory and polling.
    #[command(flatten)]
    pub env: EnvArgs,
    /// Where to listen for JSON-RPC; nowhere without it
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub rpc_socket: Option<PathBuf>,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

impl ExportArgs {
    /// The options of a daemon that makes the devices.
    #[must_use]
    pub fn daemon(&self) -> DaemonArgs {
        let Self { uris, env, rpc_socket, log, .. } = self.clone();
        let rpc_socket = rpc_socket.unwrap_or_else(|| RPC_SOCKET_DEFAULT.into());
        let rpc = RpcServerArgs::default();
        let http = HttpArgs::default();
        let (json, wait_for_rpc) = (None, false);
        DaemonArgs { env, rpc_socket, json, wait_for_rpc, rpc, bdev: uris, http, log }
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip: Result<IpAddr, _> = bare.parse();
    ip.map(|ip| SocketAddr::new(ip, PORT_DEFAULT))
        .map_err(|_| "it has to be an address of this machine, like 192.0.2.1:4420 or [::1]".into())
}

fn parse_nqn(text: &str) -> Result<Nqn, String> {
    Nqn::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port_or_the_usual_one() {
        let listen = |text: &str| parse_listen(text).map(|address| address.to_string());
        assert_eq!(listen("10.0.0.1:1").as_deref(), Ok("10.0.0.1:1"));
        assert_eq!(listen("10.0.0.1").as_deref(), Ok("10.0.0.1:4420"));
        assert_eq!(listen("::1").as_deref(), Ok("[::1]:4420"));
        assert_eq!(listen("[::1]").as_deref(), Ok("[::1]:4420"));
        assert_eq!(listen("[::1]:7").as_deref(), Ok("[::1]:7"));
        for wrong in ["", "localhost", ":4420", "10.0.0.1:", "10.0.0.1:65536", "[::1", "4420"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }
}
