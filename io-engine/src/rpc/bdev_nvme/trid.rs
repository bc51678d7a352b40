//! Where a controller is: SPDK's five strings, and the host's end.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use spdk_rs::nvme::{TransportId, TransportIdError};

use crate::rpc::params::{ParamError, Params};

/// The names of the parameters that [`take`] and [`take_source`] ask for.
pub(super) const NAMES: [&str; 7] =
    ["trtype", "adrfam", "traddr", "trsvcid", "subnqn", "hostaddr", "hostsvcid"];

/// Takes a subsystem's place out of the parameters; `subnqn` when the method has none.
pub(super) fn take(
    params: &Params<'_>,
    subnqn: Option<&'static str>,
) -> Result<TransportId, ParamError> {
    let trtype: String = params.required("trtype")?;
    let traddr: String = params.required("traddr")?;
    let adrfam: Option<String> = params.optional("adrfam")?;
    if adrfam.as_deref() == Some("") {
        return Err(params.refuse("adrfam", "it has to be IPv4 or IPv6"));
    }
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
