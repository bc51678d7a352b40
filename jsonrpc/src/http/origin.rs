//! Which requests a browser may have been talked into.
//!
//! A page of another site can send requests here with a browser's help. What it cannot do is lie
//! about two things: the name by which the browser addresses this server (`Host`, RFC 9110 section
//! 7.2), which stays the foreign one when a name is rebound to this machine's address, and the site
//! that the page is from (`Origin`, RFC 6454).

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap, ORIGIN};

/// Checks the host and the origin of a request.
///
/// # Errors
///
/// What is wrong, for the answer.
pub(super) fn check(headers: &HeaderMap, allowed: &[String]) -> Result<(), String> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => return Err("a request has exactly one Host header".to_owned()),
    };
    let name = name_of(host);
    let known = |name: &str| {
        is_address(name)
            || name.eq_ignore_ascii_case("localhost")
            || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    };
    if !name.is_some_and(known) {
        return Err(format!(
            "the host '{}' is not allowed; an address and localhost are, and what --http-host names",
            host.escape_debug()
        ));
    }
    for origin in headers.get_all(ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !from.is_some_and(|from| from.eq_ignore_ascii_case(host)) {
            return Err(format!("the origin '{}' is another site", origin.escape_debug()));
        }
    }
    Ok(())
}

/// The host without its port.
fn name_of(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(_) => match host.split_once(']') {
            Some((_, "")) => (host, ""),
            Some((name, port)) => (&host[..name.len() + 1], port.strip_prefix(':')?),
            None => return None,
        },
        None => host.split_once(':').unwrap_or((host, "")),
    };
    port.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

/// Whether a host is an address, which nobody can rebind.
fn is_address(name: &str) -> bool {
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn checked(host: &str, origin: Option<&str>) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        check(&headers, &["storage.example".to_owned()])
    }

    #[test]
    fn names_that_can_be_rebound_are_refused() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:80",
            "10.1.2.3:8080",
            "[::1]",
            "[::1]:80",
            "localhost",
            "LocalHost:9",
            "storage.example",
            "Storage.Example:8080",
        ] {
            assert_eq!(checked(host, None), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":80",
            "[::1",
            "[evil]",
            "::1",
            "storage.example.",
            "localhost:80:80",
            "localhost:x",
            "[::1]x",
            "127.1",
        ] {
            assert!(checked(host, None).is_err(), "{host}");
        }
        assert!(check(&HeaderMap::new(), &[]).is_err(), "none");
        let mut twice = HeaderMap::new();
        twice.append(HOST, HeaderValue::from_static("localhost"));
        twice.append(HOST, HeaderValue::from_static("localhost"));
        assert!(check(&twice, &[]).is_err(), "two");
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        for origin in ["http://127.0.0.1:80", "https://127.0.0.1:80"] {
            assert_eq!(checked("127.0.0.1:80", Some(origin)), Ok(()), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://127.0.0.1",
            "http://127.0.0.1:81",
            "http://localhost:80",
            "https://evil.example",
            "ftp://127.0.0.1:80",
            "127.0.0.1:80",
        ] {
            assert!(checked("127.0.0.1:80", Some(origin)).is_err(), "{origin}");
        }
    }
}
