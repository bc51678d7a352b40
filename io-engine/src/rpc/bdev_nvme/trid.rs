//! Where a controller is: SPDK's five strings, and the host's end.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use spdk_rs::nvme::{TransportId, TransportIdError};

use crate::rpc::params::def::{choice_any_case, form, optional, required};
use crate::rpc::params::{Def, Kind, ParamError, Params};

/// Where a subsystem is; the subsystem itself is in [`SUBNQN`].
pub(super) const PLACE: &[Def] = &[
    required("trtype", choice_any_case(&["TCP", "PCIe"]), "The transport."),
    optional(
        "adrfam",
        choice_any_case(&["IPv4", "IPv6"]),
        "The kind of address; by `traddr` when left out.",
    ),
    required(
        "traddr",
        form("an address; names are for URIs", "192.0.2.1"),
        "Address of the subsystem, or of the PCI function as `0000:01:00.0`.",
    ),
    optional(
        "trsvcid",
        form("a port as text", "4420"),
        "Port of the subsystem; required with `TCP`, without meaning for `PCIe`.",
    ),
];
/// The name of a subsystem.
pub(super) const SUBNQN: Def = optional(
    "subnqn",
    form("an NVMe qualified name", "nqn.2016-06.io.spdk:cnode1"),
    "The subsystem; required with `TCP`.",
);
/// The host's end.
pub(super) const SOURCE: &[Def] = &[
    optional(
        "hostaddr",
        form("an address of this machine, of the same kind as traddr", "192.0.2.2"),
        "Where to connect from.",
    ),
    optional(
        "hostsvcid",
        form("a port as text, \"1\" to \"65535\"", "50000"),
        "The port to connect from; needs `hostaddr`.",
    ),
];

/// Parameters that choose paths: only those that all of them fit.
pub(super) const CHOSEN: &[Def] = &[
    optional("trtype", Kind::Text, "Only paths of this transport."),
    optional("adrfam", Kind::Text, "Only paths to addresses of this kind."),
    optional("traddr", Kind::Text, "Only paths to this address."),
    optional("trsvcid", Kind::Text, "Only paths to this port."),
    optional("subnqn", Kind::Text, "Only paths to this subsystem."),
    optional("hostaddr", Kind::Text, "Only paths from this address."),
    optional("hostsvcid", Kind::Text, "Only paths from this port."),
];

/// Takes a subsystem's place out of the parameters; `subnqn` when the method has none.
pub(super) fn take(
    params: &Params<'_>,
    subnqn: Option<&'static str>,
) -> Result<TransportId, ParamError> {
    let trtype: String = params.required("trtype")?;
    let traddr: String = params.required("traddr")?;
    let adrfam: Option<String> = params.optional("adrfam")?;
    for name in ["hostaddr", "hostsvcid"] {
        if trtype.eq_ignore_ascii_case("pcie") && params.has(name) {
            return Err(params.refuse(name, "it means nothing for a PCIe controller"));
        }
    }
    // A controller on this machine has an address and nothing else. It is no discovery service.
    let local = trtype.eq_ignore_ascii_case("pcie") && subnqn.is_none();
    if subnqn.is_some() && !trtype.eq_ignore_ascii_case("tcp") {
        return Err(params.refuse("trtype", "a discovery service is reached by TCP"));
    }
    let trsvcid: String = match local {
        true => params.optional("trsvcid")?.unwrap_or_default(),
        false => params.required("trsvcid")?,
    };
    let given: String = match subnqn {
        Some(fixed) => fixed.to_owned(),
        None if local => params.optional("subnqn")?.unwrap_or_default(),
        None => params.required("subnqn")?,
    };
    let adrfam = adrfam.unwrap_or_default();
    let parsed = TransportId::parse(&trtype, &adrfam, &traddr, &trsvcid, &given);
    let mut trid = parsed.map_err(|error| {
        let name = match error {
            TransportIdError::Transport(_) => "trtype",
            TransportIdError::Family(_) => "adrfam",
            TransportIdError::Address(..) => "traddr",
            TransportIdError::Service(_) => "trsvcid",
            TransportIdError::Nqn(_) => "subnqn",
            TransportIdError::PciAddress(_) => "traddr",
            TransportIdError::NotForPcie(name, _) => name,
        };
        params.refuse(name, error.to_string())
    })?;
    trid.source = take_source(params, &trid)?;
    Ok(trid)
}

/// Takes the address to connect from.
fn take_source(params: &Params<'_>, trid: &TransportId) -> Result<Option<SocketAddr>, ParamError> {
    let port = match params.optional::<String>("hostsvcid")? {
        None => 0,
        Some(_) if !params.has("hostaddr") => {
            return Err(params.refuse("hostsvcid", "it needs `hostaddr`, which is missing"));
        }
        Some(text) => text.parse().ok().filter(|&port: &u16| port != 0).ok_or_else(|| {
            params.refuse("hostsvcid", "it has to be a port as text, \"1\" to \"65535\"")
        })?,
    };
    let Some(text) = params.optional::<String>("hostaddr")? else { return Ok(None) };
    let ip = text.parse().ok().filter(|ip: &IpAddr| ip.is_ipv4() == trid.address.is_ipv4());
    let allowed = "it has to be an address of this machine, of the same kind as traddr";
    Ok(Some(SocketAddr::new(ip.ok_or_else(|| params.refuse("hostaddr", allowed))?, port)))
}

/// A subsystem's place as SPDK shows it.
pub(super) fn show(trid: &TransportId) -> Value {
    if trid.pci_address().is_some() {
        return json!({ "trtype": trid.trtype.name(), "traddr": trid.traddr() });
    }
    json!({
        "trtype": trid.trtype.name(),
        "adrfam": trid.adrfam().name(),
        "traddr": trid.traddr(),
        "trsvcid": trid.trsvcid(),
        "subnqn": trid.subnqn,
    })
}
