//! Options of the HTTP server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Options of the HTTP server.
#[derive(Debug, Clone, Default, Args)]
pub struct HttpArgs {
    /// Serve metrics, the dashboard and JSON-RPC over HTTP: 8080 listens at 127.0.0.1, for other
    /// machines give an address of this one, 192.0.2.1:8080, `[::1]:8080` or 0.0.0.0:8080
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    pub http: Option<SocketAddr>,
    /// File with the bearer token that whoever changes something over HTTP has to know, mode 0600;
    /// without it, HTTP is read-only
    #[arg(long, value_name = "FILE", requires = "http", value_hint = ValueHint::FilePath)]
    pub http_token_file: Option<PathBuf>,
    /// Name by which browsers may address the HTTP server, beside localhost and addresses; may be
    /// repeated
    #[arg(long, value_name = "NAME", requires = "http", value_parser = parse_host)]
    pub http_host: Vec<String>,
}

/// Where a text says to listen: a port alone is one of this machine only.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if digits => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        _ => Err("it has to be a port, like 8080, or an address with a port, like 192.0.2.1:8080 \
                  or [::1]:8080"
            .into()),
    }
}

fn parse_host(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if text.is_empty() || !text.bytes().all(allowed) {
        return Err("it has to be a name without a port, like storage.example".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_that_is_named_is_open_to_others() {
        let parse = |text: &str| parse_address(text).map(|address| address.to_string());
        for (text, address) in [
            ("8080", "127.0.0.1:8080"),
            (":8080", "127.0.0.1:8080"),
            ("0", "127.0.0.1:0"),
            ("localhost:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:80", "[::1]:80"),
            ("[::]:80", "[::]:80"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(address), "{text}");
        }
        for text in
            ["", ":", "+80", "65536", "127.0.0.1", "::1", "*:80", "host:80", "80:", "localhost"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_have_no_port() {
        assert_eq!(parse_host("a.b-c").as_deref(), Ok("a.b-c"));
        for text in ["", "a:80", "http://a", "a b", "[::1]"] {
            assert!(parse_host(text).is_err(), "{text}");
        }
    }
}
