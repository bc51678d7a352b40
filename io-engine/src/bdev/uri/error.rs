//! What can be wrong with a device URI.

/// Why a device URI is refused. Every text names the part, its value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// The text as a whole cannot be read.
    #[error(
        "`{uri}` is not a device URI: {reason}; the form is scheme://[host[:port]]/name[?parameter=value&…]"
    )]
    Syntax {
        /// The text as given, with control characters escaped.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No factory is registered for the scheme.
    #[error("unknown scheme `{scheme}`; known are {known}")]
    UnknownScheme {
        /// The scheme as given.
        scheme: String,
        /// The registered schemes, separated by commas.
        known: String,
    },
    /// A host or port is given where there is none, most often because a slash is missing.
    #[error(
        "`{scheme}:` takes no host, but `{host}` stands where one would be; did you mean {scheme}:///{host}{path}?"
    )]
    Host {
        /// The scheme.
        scheme: String,
        /// What was read as a host.
        host: String,
        /// The path behind it.
        path: String,
    },
    /// The path is empty, or ends in `/` where a file is needed.
    #[error("`{scheme}:` needs a name after the third slash; write {scheme}:///name")]
    NoName {
        /// The scheme.
        scheme: String,
    },
    /// A parameter is given twice.
    #[error("parameter `{name}` is given twice, as `{first}` and as `{second}`; give it once")]
    Duplicate {
        /// The parameter.
        name: String,
        /// Its first value.
        first: String,
        /// Its second value.
        second: String,
    },
    /// A parameter's value cannot be used.
    #[error("parameter `{name}` cannot be `{value}`: {allowed}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// The value as given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Parameters that nobody asked for.
    #[error("unknown parameter {unknown} for `{scheme}:`; allowed are {allowed}")]
    UnknownParameter {
        /// The scheme.
        scheme: String,
        /// The parameters, quoted and separated by commas.
        unknown: String,
        /// The allowed ones, separated by commas.
        allowed: String,
    },
    /// A parameter that has to be given is not.
    #[error("`{scheme}:` needs the parameter {needed}")]
    Missing {
        /// The scheme.
        scheme: String,
        /// The parameter, or the choice of parameters.
        needed: String,
    },
    /// Parameters that exclude each other are given together.
    #[error("parameters {given} exclude each other; give one of them")]
    Conflict {
        /// The parameters given, separated by commas.
        given: String,
    },
}

impl UriError {
    pub(super) fn syntax(uri: &str, reason: &str) -> Self {
        let uri = uri.chars().fold(String::with_capacity(uri.len()), |mut shown, c| {
            if c.is_control() {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
            shown
        });
        Self::Syntax { uri, reason: reason.to_owned() }
    }
}
