//! Reading the one-value files of `/sys` and `/proc`.
//!
//! Every function answers `None` when the file is missing, unreadable or not of the expected form:
//! containers often hide parts of these trees, and each caller has a documented fallback.

use std::fs;
use std::path::Path;

/// The trimmed contents of a one-value file.
pub(crate) fn read_text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// A decimal number from a one-value file.
pub(crate) fn read_u64(path: impl AsRef<Path>) -> Option<u64> {
    read_text(path)?.parse().ok()
}

/// A switch from a one-value file: `0` is off and any other number is on.
pub(crate) fn read_bool(path: impl AsRef<Path>) -> Option<bool> {
    read_u64(path).map(|value| value != 0)
}

/// What would help against a refused write, in words that follow the error's own.
pub(crate) fn hint(error: &std::io::Error) -> &'static str {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    if denied { "; root is needed for that" } else { "" }
}
