//! Device URIs: `scheme://[host[:port]]/name[?parameter=value&…]`.
//!
//! Invariants:
//!
//! - A [`BdevUri`] holds decoded text; what it prints parses back to an equal value.
//! - Parsing never alters meaning. What the URL rules would silently rewrite (tabs and line ends
//!   dropped, `.` and `..` resolved without looking at symbolic links, blanks trimmed) is refused,
//!   and so are the browser's schemes (`file:`, `http:`, …), for which it rewrites much more.
//! - Every parameter is either taken by a getter of [`Params`] or refused by [`Params::finish`],
//!   which lists the names that the getters asked for.
//!
//! The syntax is RFC 3986 as read by the `url` crate. A `+` in a parameter is a plus and not a
//! blank (that rule belongs to HTML forms), so that `nvmf+tcp://…` can be a value.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

pub use error::UriError;
pub use params::Params;

mod error;
mod params;
#[cfg(test)]
mod tests;

/// What has to be escaped in a path so that it reads back as the same text.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What has to be escaped in a parameter's value.
const VALUE: &AsciiSet = &PATH.add(b'&').add(b'\'').add(b'+');

/// What has to be escaped in a parameter's name.
const KEY: &AsciiSet = &VALUE.add(b'=');

/// A device URI, taken apart and decoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BdevUri {
    scheme: String,
    host: Option<String>,
    port: Option<u16>,
    path: String,
    params: Vec<(String, String)>,
}

impl BdevUri {
    /// Takes a URI apart.
    ///
    /// The scheme is not looked up here; see [`BdevUri::unknown_scheme`].
    ///
    /// # Errors
    ///
    /// [`UriError`] when the text is not a URI, has a part that no device uses (user name,
    /// password, fragment), text that is not UTF-8 once decoded, or a parameter that is empty,
    /// has no value or is given twice.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        check_text(text)?;
        let url = url::Url::parse(text).map_err(|error| match error {
            url::ParseError::RelativeUrlWithoutBase => UriError::syntax(text, "it has no scheme"),
            url::ParseError::InvalidPort => {
                UriError::syntax(text, "the port is not a number from 0 to 65535")
            }
            other => UriError::syntax(text, &other.to_string()),
        })?;
        if url.is_special() {
            let hint = "file:, ftp:, http: and ws: name no device; a file is aio:///path or \
                        uring:///path";
            return Err(UriError::syntax(text, hint));
        }
        if url.cannot_be_a_base() {
            let hint = format!("`{}:` has to be followed by `//` or `/`", url.scheme());
            return Err(UriError::syntax(text, &hint));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UriError::syntax(text, "a user name or password has no meaning here"));
        }
        if url.fragment().is_some() {
            return Err(UriError::syntax(text, "`#` starts a fragment; write it as %23"));
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        if host.is_some_and(|host| host.contains('%') || host == "." || host == "..") {
            return Err(UriError::syntax(text, "the host is neither a name nor an address"));
        }
        Ok(Self {
            scheme: url.scheme().to_owned(),
            host: host.map(str::to_owned),
            port: url.port(),
            path: decode(text, "path", url.path())?,
            params: parse_query(text, url.query().unwrap_or_default())?,
        })
    }

    /// The scheme, in lower case: `malloc`, `aio`, `nvmf+tcp`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The host, if one is given. An IPv6 address comes without its brackets.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref().map(|host| {
            host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
        })
    }

    /// The port, if one is given.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The decoded path with its leading `/`; empty when the URI has none.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The path as a name: `malloc:///disk0` gives `disk0`.
    ///
    /// # Errors
    ///
    /// [`UriError::Host`] when a host is given (as in `malloc://disk0`, which has one slash too
    /// few), [`UriError::NoName`] when the name is empty.
    pub fn name(&self) -> Result<&str, UriError> {
        self.no_host()?;
        match self.path.strip_prefix('/').unwrap_or(&self.path) {
            "" => Err(UriError::NoName { scheme: self.scheme.clone() }),
            name => Ok(name),
        }
    }

    /// The path as the absolute path of a file or device node: `aio:///dev/sdb` gives `/dev/sdb`.
    ///
    /// # Errors
    ///
    /// [`UriError::Host`] when a host is given (as in `aio://dev/sdb`, which has one slash too
    /// few), [`UriError::NoName`] when the path is empty or names a directory by its last `/`.
    pub fn file_path(&self) -> Result<&str, UriError> {
        self.no_host()?;
        if self.path.ends_with('/') || self.path.is_empty() {
            return Err(UriError::NoName { scheme: self.scheme.clone() });
        }
        Ok(&self.path)
    }

    /// The parameters, to be taken one by one and then [finished](Params::finish).
    #[must_use]
    pub fn params(&self) -> Params<'_> {
        Params::new(&self.scheme, &self.params)
    }

    /// The error for a scheme that is not among the `known` ones.
    #[must_use]
    pub fn unknown_scheme(&self, known: &[&str]) -> UriError {
        UriError::UnknownScheme { scheme: self.scheme.clone(), known: known.join(", ") }
    }

    fn no_host(&self) -> Result<(), UriError> {
        match (&self.host, self.port) {
            (None, None) => Ok(()),
            (host, _) => Err(UriError::Host {
                scheme: self.scheme.clone(),
                host: host.clone().unwrap_or_default(),
                path: self.path.clone(),
            }),
        }
    }
}

impl FromStr for BdevUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(text)
    }
}

impl fmt::Display for BdevUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if let Some(host) = &self.host {
            f.write_str(host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", utf8_percent_encode(&self.path, PATH))?;
        for (index, (key, value)) in self.params.iter().enumerate() {
            let (key, value) = (utf8_percent_encode(key, KEY), utf8_percent_encode(value, VALUE));
            write!(f, "{}{key}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// Refuses what the URL rules would rewrite without a word.
fn check_text(text: &str) -> Result<(), UriError> {
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        let hint = format!("it holds the control character {}", control.escape_unicode());
        return Err(UriError::syntax(text, &hint));
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(UriError::syntax(text, "it starts or ends with a blank; write it as %20"));
    }
    for (at, _) in text.match_indices('%') {
        let escape = text.as_bytes().get(at + 1..at + 3);
        if !escape.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            let hint = "`%` is not followed by two hexadecimal digits; write it as %25";
            return Err(UriError::syntax(text, hint));
        }
    }
    let head = text.split(['?', '#']).next().unwrap_or_default();
    let head = decode(text, "path", head)?;
    if head.split(['/', '\\']).any(|segment| segment == "." || segment == "..") {
        let hint = "`.` and `..` in a path would be resolved without regard to symbolic links; \
                    write the path without them";
        return Err(UriError::syntax(text, hint));
    }
    Ok(())
}

fn decode(uri: &str, part: &'static str, text: &str) -> Result<String, UriError> {
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| UriError::syntax(uri, &format!("the {part} is not UTF-8 once decoded")))?;
    if let Some(control) = decoded.chars().find(|c| c.is_control()) {
        let hint = format!("the {part} holds the control character {}", control.escape_unicode());
        return Err(UriError::syntax(uri, &hint));
    }
    Ok(decoded.into_owned())
}

fn parse_query(uri: &str, query: &str) -> Result<Vec<(String, String)>, UriError> {
    let mut params: Vec<(String, String)> = Vec::new();
    if query.is_empty() {
        return Ok(params);
    }
    for pair in query.split('&') {
        let Some((key, value)) = pair.split_once('=') else {
            let hint = format!("the parameter `{pair}` has no value; write name=value");
            return Err(UriError::syntax(uri, &hint));
        };
        let key = decode(uri, "parameter name", key)?;
        let value = decode(uri, "parameter value", value)?;
        if key.is_empty() {
            let hint = format!("the value `{value}` has no parameter name; write name=value");
            return Err(UriError::syntax(uri, &hint));
        }
        if let Some((_, first)) = params.iter().find(|(name, _)| *name == key) {
            return Err(UriError::Duplicate { name: key, first: first.clone(), second: value });
        }
        params.push((key, value));
    }
    Ok(params)
}
