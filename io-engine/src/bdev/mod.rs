//! Block devices as users name them.
//!
//! A device is described by a URI; [`uri`] takes it apart and leaves nothing in it unread: a part
//! or a parameter that nobody asked for is an error, because a misspelt option that is silently
//! dropped is found only after the data is written.

pub mod uri;

pub use uri::{BdevUri, Params, UriError};
