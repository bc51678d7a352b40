//! Addresses as people write them, and their resolution off the reactor.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::str::FromStr;

use super::NetError;
use crate::reactor::Reactor;

/// The longest name of a host: 253 characters (RFC 1035, without the closing dot).
const HOST_CHARS_MAX: usize = 253;

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// A host by name or address (an IPv6 address without brackets) and a port.
    ///
    /// # Errors
    /// [`NetError::Address`] when the host is empty, too long, or has characters that neither
    /// names nor addresses have.
    pub fn new(host: &str, port: u16) -> Result<Self, NetError> {
        let refuse = |reason| Err(NetError::Address { text: host.to_owned(), reason });
        if host.is_empty() {
            return refuse("the host is missing");
        }
        if host.len() > HOST_CHARS_MAX {
            return refuse("the host name is longer than 253 characters");
        }
        // A zone, as in fe80::1%eth0, is part of an address.
        let address = host.parse::<IpAddr>().is_ok() || scoped(host).is_some();
        let in_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !address && !host.chars().all(in_name) {
            return refuse("the host is neither an address nor a name");
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, when the host is one and needs no resolver.
    #[must_use]
    pub fn literal(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// The address and the zone of a link-local address.
fn scoped(host: &str) -> Option<(Ipv6Addr, &str)> {
    let (ip, zone) = host.split_once('%')?;
    let in_zone = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let ip = ip.parse().ok()?;
    (!zone.is_empty() && zone.chars().all(in_zone)).then_some((ip, zone))
}

impl FromStr for HostPort {
    type Err = NetError;

    /// Reads `HOST:PORT` or `[IPV6]:PORT`.
    fn from_str(text: &str) -> Result<Self, NetError> {
        let refuse = |reason| NetError::Address { text: text.to_owned(), reason };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(|| refuse("no ] after ["))?;
                if host.parse::<Ipv6Addr>().is_err() && scoped(host).is_none() {
                    return Err(refuse("what is in brackets is no IPv6 address"));
                }
                (host, rest.strip_prefix(':').ok_or_else(|| refuse("the port is missing"))?)
            }
            None => {
                let (host, port) =
                    text.rsplit_once(':').ok_or_else(|| refuse("the port is missing"))?;
                if host.contains(':') {
                    return Err(refuse("an IPv6 address needs brackets"));
                }
                (host, port)
            }
        };
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let number = port.parse().ok().filter(|_| digits);
        let number = number.ok_or_else(|| refuse("the port is no number from 0 to 65535"))?;
        Self::new(host, number).map_err(|error| match error {
            NetError::Address { reason, .. } => refuse(reason),
            other => other,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The addresses of a host, in the resolver's order. A name is looked up on a helper thread; an
/// address is taken as it is.
///
/// # Errors
/// [`NetError::Resolve`].
pub async fn resolve(reactor: &Rc<Reactor>, at: &HostPort) -> Result<Vec<SocketAddr>, NetError> {
    if let Some(addr) = at.literal() {
        return Ok(vec![addr]);
    }
    let (host, port) = (at.host.clone(), at.port);
    let lookup = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let found = reactor.offload().call(lookup).await;
    let fail = |source| NetError::Resolve { host: at.host.clone(), source };
    let addrs = found.map_err(|_| fail(io::Error::other("the lookup failed")))?.map_err(fail)?;
    if addrs.is_empty() {
        return Err(fail(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addrs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, host, port) in [
            ("127.0.0.1:4420", "127.0.0.1", 4420),
            ("[::1]:8009", "::1", 8009),
            ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
            ("storage-1.example.org:0", "storage-1.example.org", 0),
        ] {
            let read: HostPort = text.parse().unwrap();
            assert_eq!((read.host(), read.port()), (host, port));
            assert_eq!(read.to_string(), text);
        }
        assert_eq!("[::1]:5".parse::<HostPort>().unwrap().literal(), "[::1]:5".parse().ok());
        assert_eq!("name:5".parse::<HostPort>().unwrap().literal(), None);
    }

    #[test]
    fn bad_addresses_are_refused_with_the_reason() {
        let long = format!("{}:1", "a".repeat(254));
        for (text, reason) in [
            ("", "the port is missing"),
            ("host", "the port is missing"),
            (":1", "the host is missing"),
            ("host:", "the port is no number"),
            ("host:+1", "the port is no number"),
            ("host:65536", "the port is no number"),
            ("::1:4420", "needs brackets"),
            ("[::1]", "the port is missing"),
            ("[::1:4420", "no ]"),
            ("[host]:4420", "no IPv6 address"),
            ("ho st:1", "neither an address nor a name"),
            ("h%eth0:1", "neither an address nor a name"),
            (long.as_str(), "longer than 253"),
        ] {
            let error = text.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
