//! Where a subsystem is, and who asks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use spdk_rs_sys::pci::PciAddress;
use thiserror::Error;

use super::spec::text::NQN_LEN_MAX;

pub use super::spec::fabrics::DISCOVERY_NQN;

/// The transport to a controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TransportType {
    /// NVMe/TCP.
    #[default]
    Tcp,
    /// NVMe over PCIe, on this machine.
    Pcie(PciAddress),
}

impl TransportType {
    /// The name in RPC parameters and results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Pcie(_) => "PCIe",
        }
    }
}

/// The family of a transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    /// None.
    None,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl AddressFamily {
    /// The name in RPC parameters and results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }
}

/// Why a transport identifier is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TransportIdError {
    /// Another transport.
    #[error("transport '{0}' is not known; allowed are TCP and PCIe")]
    Transport(String),
    /// Another address family.
    #[error("address family '{0}' is not known; allowed are IPv4 and IPv6")]
    Family(String),
    /// The address is no PCI address.
    #[error("{0}")]
    PciAddress(#[from] spdk_rs_sys::pci::PciAddressError),
    /// The transport has no such thing.
    #[error("{0} '{1}' means nothing for a PCIe controller")]
    NotForPcie(&'static str, String),
    /// The address is no IP address, or not of the family.
    #[error("'{0}' is not an {1} address")]
    Address(String, &'static str),
    /// The service is no port.
    #[error("service '{0}' is not a TCP port; allowed are 1 to 65535")]
    Service(String),
    /// The name is no NVMe qualified name.
    #[error("'{0}' is not an NVMe qualified name: 'nqn.…' of at most 223 bytes")]
    Nqn(String),
}

/// A subsystem behind one address: the identity of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TransportId {
    /// The transport.
    pub trtype: TransportType,
    /// The address and port of the target; all zero for PCIe, where `trtype` has the address.
    pub address: SocketAddr,
    /// The subsystem's NVMe qualified name; empty for PCIe, where nobody asks for one.
    pub subnqn: String,
    /// The local address to connect from; the kernel's choice when none.
    pub source: Option<SocketAddr>,
    /// The socket's priority (SO_PRIORITY), 0 to 6; the kernel's default when none.
    pub priority: Option<u8>,
}

impl TransportId {
    /// A subsystem behind an NVMe/TCP address.
    ///
    /// # Errors
    /// [`TransportIdError::Nqn`] when `subnqn` is no NVMe qualified name.
    pub fn tcp(address: SocketAddr, subnqn: &str) -> Result<Self, TransportIdError> {
        check_nqn(subnqn)?;
        Ok(Self {
            trtype: TransportType::Tcp,
            address,
            subnqn: subnqn.to_owned(),
            source: None,
            priority: None,
        })
    }

    /// A controller on this machine.
    #[must_use]
    pub fn pcie(address: PciAddress) -> Self {
        Self {
            trtype: TransportType::Pcie(address),
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            subnqn: String::new(),
            source: None,
            priority: None,
        }
    }

    /// The address of a PCIe controller.
    #[must_use]
    pub fn pci_address(&self) -> Option<PciAddress> {
        match self.trtype {
            TransportType::Pcie(address) => Some(address),
            TransportType::Tcp => None,
        }
    }

    /// The identifier of SPDK's five strings. An empty `adrfam` is told by the address.
    ///
    /// # Errors
    /// [`TransportIdError`] for the first string that is not allowed.
    pub fn parse(
        trtype: &str,
        adrfam: &str,
        traddr: &str,
        trsvcid: &str,
        subnqn: &str,
    ) -> Result<Self, TransportIdError> {
        if trtype.eq_ignore_ascii_case("pcie") {
            for (name, given) in [("adrfam", adrfam), ("trsvcid", trsvcid), ("subnqn", subnqn)] {
                if !given.is_empty() {
                    return Err(TransportIdError::NotForPcie(name, given.to_owned()));
                }
            }
            return Ok(Self::pcie(traddr.parse()?));
        }
        if !trtype.eq_ignore_ascii_case("tcp") {
            return Err(TransportIdError::Transport(trtype.to_owned()));
        }
        let family = match adrfam.to_ascii_lowercase().as_str() {
            "" => None,
            "ipv4" => Some(AddressFamily::Ipv4),
            "ipv6" => Some(AddressFamily::Ipv6),
            _ => return Err(TransportIdError::Family(adrfam.to_owned())),
        };
        Self::tcp(SocketAddr::new(parse_ip(family, traddr)?, parse_port(trsvcid)?), subnqn)
    }

    /// The family of the address; a PCI address has none.
    #[must_use]
    pub fn adrfam(&self) -> AddressFamily {
        if self.pci_address().is_some() {
            AddressFamily::None
        } else if self.address.is_ipv4() {
            AddressFamily::Ipv4
        } else {
            AddressFamily::Ipv6
        }
    }

    /// The address as a string.
    #[must_use]
    pub fn traddr(&self) -> String {
        match self.trtype {
            TransportType::Tcp => self.address.ip().to_string(),
            TransportType::Pcie(address) => address.to_string(),
        }
    }

    /// The port as a string; empty for PCIe.
    #[must_use]
    pub fn trsvcid(&self) -> String {
        match self.trtype {
            TransportType::Tcp => self.address.port().to_string(),
            TransportType::Pcie(_) => String::new(),
        }
    }

    /// Whether it names a discovery controller.
    #[must_use]
    pub fn is_discovery(&self) -> bool {
        self.subnqn == DISCOVERY_NQN
    }
}

impl fmt::Display for TransportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let TransportType::Pcie(address) = self.trtype {
            return write!(f, "the PCIe controller {address}");
        }
        write!(f, "{} at {} {}", self.subnqn, self.trtype.name(), self.address)
    }
}

fn parse_ip(family: Option<AddressFamily>, traddr: &str) -> Result<IpAddr, TransportIdError> {
    let name = family.map_or("IP", AddressFamily::name);
    let refuse = || TransportIdError::Address(traddr.to_owned(), name);
    let ip = IpAddr::from_str(traddr).map_err(|_| refuse())?;
    match family {
        Some(AddressFamily::Ipv4) if !ip.is_ipv4() => Err(refuse()),
        Some(AddressFamily::Ipv6) if !ip.is_ipv6() => Err(refuse()),
        Some(AddressFamily::None) => Err(refuse()),
        _ => Ok(ip),
    }
}

fn parse_port(trsvcid: &str) -> Result<u16, TransportIdError> {
    let port = trsvcid.parse().ok().filter(|&port: &u16| port != 0);
    port.ok_or_else(|| TransportIdError::Service(trsvcid.to_owned()))
}

/// Checks that a string can be an NVMe qualified name.
///
/// # Errors
/// [`TransportIdError::Nqn`].
pub fn check_nqn(nqn: &str) -> Result<(), TransportIdError> {
    let fits = nqn.len() <= NQN_LEN_MAX && nqn.len() > 4;
    if fits && nqn.starts_with("nqn.") && !nqn.contains('\0') {
        Ok(())
    } else {
        Err(TransportIdError::Nqn(nqn.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NQN: &str = "nqn.2016-06.io.spdk:cnode1";

    #[test]
    fn spdks_strings_make_an_identifier() {
        let id = TransportId::parse("tcp", "IPv4", "127.0.0.1", "4420", NQN).unwrap();
        assert_eq!((id.traddr().as_str(), id.trsvcid().as_str()), ("127.0.0.1", "4420"));
        assert_eq!(id.adrfam(), AddressFamily::Ipv4);
        assert!(!id.is_discovery());
        let id = TransportId::parse("TCP", "", "::1", "8009", DISCOVERY_NQN).unwrap();
        assert_eq!(id.adrfam(), AddressFamily::Ipv6);
        assert!(id.is_discovery());
    }

    #[test]
    fn a_pcie_controller_has_a_pci_address_only() {
        let id = TransportId::parse("PCIe", "", "0000:01:00.0", "", "").unwrap();
        assert_eq!(id.to_string(), "the PCIe controller 0000:01:00.0");
        assert_eq!((id.traddr().as_str(), id.trsvcid().as_str()), ("0000:01:00.0", ""));
        assert_eq!((id.trtype.name(), id.adrfam().name()), ("PCIe", ""));
        assert!(!id.is_discovery());
        let text = |traddr, trsvcid, nqn| {
            TransportId::parse("pcie", "", traddr, trsvcid, nqn).unwrap_err().to_string()
        };
        assert!(text("127.0.0.1", "", "").contains("'127.0.0.1' is not a PCI address"));
        assert!(text("01:00.0", "4420", "").contains("trsvcid '4420' means nothing"));
        assert!(text("01:00.0", "", NQN).contains("subnqn"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let parse = TransportId::parse;
        let text = |result: Result<TransportId, TransportIdError>| result.unwrap_err().to_string();
        assert!(text(parse("rdma", "", "::1", "1", NQN)).contains("'rdma'"));
        assert!(text(parse("tcp", "ib", "::1", "1", NQN)).contains("'ib'"));
        assert!(text(parse("tcp", "ipv4", "::1", "1", NQN)).contains("'::1' is not an IPv4"));
        assert!(text(parse("tcp", "ipv6", "1.2.3.4", "1", NQN)).contains("IPv6"));
        assert!(text(parse("tcp", "", "host", "1", NQN)).contains("'host'"));
        assert!(text(parse("tcp", "", "::1", "0", NQN)).contains("'0'"));
        assert!(text(parse("tcp", "", "::1", "65536", NQN)).contains("65536"));
        for nqn in ["", "nqn.", "eui.0123456789", "nqn.a\0b", &format!("nqn.{:220}", "x")] {
            assert!(matches!(parse("tcp", "", "::1", "1", nqn), Err(TransportIdError::Nqn(_))));
        }
    }
}
