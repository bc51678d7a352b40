//! Where something listens: SPDK's `{trtype, adrfam, traddr, trsvcid}`.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use spdk_rs::nvmf::TransportKind;
use spdk_rs::nvmf::target::ListenAddress;

use crate::rpc::params::def::{choice_any_case, form, optional, required, words};
use crate::rpc::params::{Def, Defs, ParamError, Params, Request};

/// The transports there are.
pub(super) const TRANSPORTS: [(&str, TransportKind); 1] = [("TCP", TransportKind::Tcp)];

/// The kinds of addresses, and whether they are IPv4.
const FAMILIES: [(&str, bool); 2] = [("IPv4", true), ("IPv6", false)];

/// A kind of transport that has to be given.
pub(super) const TRTYPE: Def =
    required("trtype", choice_any_case(&words(&TRANSPORTS)), "The transport.");

/// An address out of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) ListenAddress);

impl Request for Address {
    const PARAMS: Defs = &[&[
        TRTYPE,
        optional(
            "adrfam",
            choice_any_case(&words(&FAMILIES)),
            "The kind of address; by `traddr` when left out.",
        ),
        required("traddr", form("an IPv4 or IPv6 address", "127.0.0.1"), "The address."),
        required(
            "trsvcid",
            form("a port as text, \"1\" to \"65535\"", "4420"),
            "The port; `\"0\"` is any free one (ours).",
        ),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let transport = params.required_choice("trtype", &TRANSPORTS)?;
        let ipv4 = params.optional_choice("adrfam", &FAMILIES)?;
        let traddr: String = params.required("traddr")?;
        let words = || match ipv4 {
            Some(true) => "it has to be an IPv4 address like \"127.0.0.1\"",
            Some(false) => "it has to be an IPv6 address like \"::1\"",
            None => "it has to be an IPv4 or IPv6 address",
        };
        let ip: Option<IpAddr> = traddr.parse().ok();
        let ip = ip.filter(|ip| ipv4.is_none_or(|ipv4| ip.is_ipv4() == ipv4));
        let ip = ip.ok_or_else(|| params.refuse("traddr", words()))?;
        let trsvcid: String = params.required("trsvcid")?;
        let digits = trsvcid.bytes().all(|byte| byte.is_ascii_digit());
        let port = trsvcid.parse().ok().filter(|_| digits);
        let port: u16 = port.ok_or_else(|| {
            params.refuse("trsvcid", "it has to be a port as text, \"1\" to \"65535\"")
        })?;
        Ok(Self(ListenAddress { transport, address: SocketAddr::new(ip, port) }))
    }
}

/// An address as SPDK shows it.
pub(in crate::rpc) fn show(transport: TransportKind, address: SocketAddr) -> Value {
    let TransportKind::Tcp = transport;
    json!({
        "trtype": "TCP",
        "adrfam": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "traddr": address.ip().to_string(),
        "trsvcid": address.port().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::params::{Given, read};

    fn address(text: &str) -> Result<Address, String> {
        let given: Given = serde_json::from_str(text).expect("an object");
        read(&given).map_err(|error| error.to_string())
    }

    #[test]
    fn spdks_strings_make_an_address() {
        let full =
            r#"{"trtype": "tcp", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": "4420"}"#;
        let Address(full) = address(full).expect("full");
        assert_eq!(full.address.to_string(), "127.0.0.1:4420");
        let shown = json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1",
            "trsvcid": "4420"});
        assert_eq!(show(full.transport, full.address), shown);
        let Address(least) =
            address(r#"{"trtype": "TCP", "traddr": "::1", "trsvcid": "0"}"#).expect("least");
        assert_eq!(least.address.to_string(), "[::1]:0");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let tcp = |rest: &str| address(&format!(r#"{{"trtype": "TCP", {rest}}}"#)).expect_err(rest);
        assert!(address("{}").expect_err("none").contains("`trtype` is missing"));
        assert!(address(r#"{"trtype": "RDMA"}"#).expect_err("rdma").contains("one of TCP"));
        assert!(tcp(r#""adrfam": "ib""#).contains("one of IPv4, IPv6"));
        assert!(
            tcp(r#""adrfam": "IPv4", "traddr": "::1", "trsvcid": "1""#).contains("an IPv4 address")
        );
        assert!(
            tcp(r#""adrfam": "IPv6", "traddr": "1.2.3.4", "trsvcid": "1""#)
                .contains("an IPv6 address")
        );
        assert!(
            tcp(r#""traddr": "localhost", "trsvcid": "1""#)
                .contains("`traddr` cannot be \"localhost\"")
        );
        assert!(tcp(r#""trsvcid": "1""#).contains("`traddr` is missing"));
        assert!(tcp(r#""traddr": "::1""#).contains("`trsvcid` is missing"));
        for port in ["65536", "-1", "+1", "", "http"] {
            let words = tcp(&format!(r#""traddr": "::1", "trsvcid": "{port}""#));
            assert!(words.contains("`trsvcid` cannot be"), "{words}");
        }
        assert!(tcp(r#""traddr": "::1", "trsvcid": 4420"#).contains("`trsvcid` cannot be 4420"));
    }
}
