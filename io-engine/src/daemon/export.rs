//! The export of devices with one command: one subsystem, and what its users have to type.

use std::fmt::Write as _;
use std::net::SocketAddr;

use spdk_rs::bdev::RegistryError;
use spdk_rs::nvmf::TransportKind;
use spdk_rs::nvmf::subsystem::{
    NAMESPACES_DEFAULT, NamespaceOptions, Nqn, Subsystem, SubsystemOptions,
};
use spdk_rs::nvmf::target::{ListenAddress, NvmfError, NvmfErrorKind};
use spdk_rs::nvmf::tcp::{TcpOptions, TcpOptionsError, TcpTransport};
use thiserror::Error;
use uuid::Uuid;

use super::DaemonError;
use crate::cli::ExportArgs;
use crate::core::Engine;
use crate::rpc::Context;
use crate::size::Size;

/// Under which names of subsystems are made.
const NAMES: Uuid = Uuid::from_u128(0x3b0c_91f4_52e8_4d7a_9a34_77c1_0d2f_86be);
/// Files that say which machine this is, the best first.
const MACHINE: [&str; 3] =
    ["/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/hostname"];

/// Why devices cannot be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The target refused.
    #[error(transparent)]
    Nvmf(#[from] NvmfError),
    /// The transport's options.
    #[error(transparent)]
    Transport(#[from] TcpOptionsError),
    /// A device is gone again.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl ExportError {
    /// Whether the command line is to blame, and not what can be had.
    pub(super) fn is_config(&self) -> bool {
        let kinds = [NvmfErrorKind::Invalid, NvmfErrorKind::Exists, NvmfErrorKind::Full];
        matches!(self, Self::Nvmf(error) if kinds.contains(&error.kind()))
    }
}

/// Exports devices; returns what to tell the user.
pub(super) async fn run(
    args: &ExportArgs,
    context: &Context,
    engine: &Engine,
    names: &[String],
) -> Result<String, DaemonError> {
    let exported = start(args, context, engine, names).await;
    let (subsystem, addresses) = exported.map_err(|source| DaemonError::Export { source })?;
    for address in open_to_all(&addresses, &args.host) {
        tracing::warn!("any host that reaches {address} may connect; --host NQN limits it");
    }
    Ok(describe(&subsystem, &addresses, &args.host))
}

async fn start(
    args: &ExportArgs,
    context: &Context,
    engine: &Engine,
    names: &[String],
) -> Result<(std::sync::Arc<Subsystem>, Vec<SocketAddr>), ExportError> {
    let target = context.nvmf().target(engine).await?;
    let reactors = engine.runtime().reactors().to_vec();
    target.add_transport(TcpTransport::new(TcpOptions::default(), reactors)?)?;
    let id = derive(&machine(), names, &args.listen);
    let nqn = match &args.nqn {
        Some(nqn) => nqn.clone(),
        None => Nqn::new(&format!("nqn.2014-08.org.nvmexpress:uuid:{id}"))?,
    };
    let mut options = SubsystemOptions::new(nqn);
    options.serial = id.simple().to_string().to_uppercase()[..20].to_owned();
    options.allow_any_host = args.host.is_empty();
    let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
    options.max_namespaces = NAMESPACES_DEFAULT.max(count);
    let subsystem = target.create_subsystem(options).await?;
    for host in &args.host {
        subsystem.add_host(host.clone()).await?;
    }
    for name in names {
        let bdev = engine.registry().find(name)?;
        subsystem.add_namespace(NamespaceOptions::new(bdev)).await?;
    }
    // Last, so that the first host sees everything.
    let mut addresses = Vec::new();
    for &address in &args.listen {
        let place = ListenAddress { transport: TransportKind::Tcp, address };
        addresses.push(subsystem.add_listener(place).await?.address().address);
    }
    Ok((subsystem, addresses))
}

/// The addresses at which hosts of other machines may connect whoever they are.
fn open_to_all<'a>(addresses: &'a [SocketAddr], hosts: &[Nqn]) -> Vec<&'a SocketAddr> {
    let open = |address: &&SocketAddr| hosts.is_empty() && !address.ip().is_loopback();
    addresses.iter().filter(open).collect()
}

/// What tells this machine from others.
fn machine() -> String {
    let text = MACHINE.iter().find_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        (!text.trim().is_empty()).then(|| text.trim().to_owned())
    });
    text.unwrap_or_default()
}

/// The identity of an export: the same for the same command on the same machine, another one for
/// any other, so that a host never takes two for paths to one.
fn derive(machine: &str, names: &[String], listen: &[SocketAddr]) -> Uuid {
    let mut text = machine.to_owned();
    for name in names {
        let _ = write!(text, "\0{name}");
    }
    for address in listen {
        let _ = write!(text, "\0\0{address}");
    }
    Uuid::new_v5(&NAMES, text.as_bytes())
}

fn describe(subsystem: &Subsystem, addresses: &[SocketAddr], hosts: &[Nqn]) -> String {
    let nqn = subsystem.nqn();
    let mut text = format!("subsystem {nqn}\n");
    for namespace in subsystem.namespaces() {
        let (bdev, nsid) = (namespace.bdev(), namespace.nsid());
        let (size, block) = (Size(bdev.size_bytes()), bdev.info().block_len);
        let name = bdev.name();
        let _ = writeln!(text, "  namespace {nsid}: {name}, {size}, blocks of {block} bytes");
    }
    let host = match hosts {
        [] => String::new(),
        [one] => format!(" -q {one}"),
        several => {
            let names = several.iter().map(Nqn::as_str).collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "  hosts: {names}");
            " -q HOSTNQN".to_owned()
        }
    };
    for address in addresses {
        let (ip, port) = (address.ip(), address.port());
        let ip = if ip.is_unspecified() { "ADDRESS".to_owned() } else { ip.to_string() };
        let _ = writeln!(text, "nvme discover -t tcp -a {ip} -s {port}{host}");
        let _ = writeln!(text, "nvme connect -t tcp -a {ip} -s {port} -n {nqn}{host}");
    }
    text.push_str("exported until SIGINT or SIGTERM");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_other_machines_are_open_without_a_list_of_hosts() {
        let all: Vec<SocketAddr> = ["127.0.0.1:1", "[::1]:1", "0.0.0.0:1", "192.0.2.1:1"]
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect();
        assert_eq!(open_to_all(&all, &[]), [&all[2], &all[3]]);
        let host = Nqn::new("nqn.2016-06.io.spdk:h").expect("a name");
        assert!(open_to_all(&all, &[host]).is_empty());
    }

    #[test]
    fn an_export_has_a_name_that_stays_and_that_no_other_has() {
        let names = |all: &[&str]| -> Vec<String> { all.iter().map(|&n| n.to_owned()).collect() };
        let one: SocketAddr = "127.0.0.1:4420".parse().expect("an address");
        let two: SocketAddr = "127.0.0.1:4421".parse().expect("an address");
        let id = derive("m", &names(&["a"]), &[one]);
        assert_eq!(id, derive("m", &names(&["a"]), &[one]));
        for other in [
            derive("n", &names(&["a"]), &[one]),
            derive("m", &names(&["b"]), &[one]),
            derive("m", &names(&["a", "b"]), &[one]),
            derive("m", &names(&["a"]), &[two]),
            derive("m", &names(&["a"]), &[one, two]),
        ] {
            assert_ne!(id, other);
        }
    }
}
