//! The parameters of a method, each to be asked for.
//!
//! A request defines its parameters ([`def`]): [`read`] checks all that is given against the
//! definitions, and the request then takes the values one by one. Asking for a name that is not
//! defined is a bug that panics in tests.
//! Nothing is converted: a number in a string, or `null`, is refused by name.

mod check;
pub mod def;
mod given;
pub mod schema;
#[cfg(test)]
mod tests;
mod types;

use serde_json::Value;
use thiserror::Error;

use check::{must_be, refused, same_word};
pub use def::{Def, Defs, Kind};
pub use given::Given;
pub use types::{Name, Param};

/// The longest piece of a value that an error quotes, in characters.
const QUOTE_CHARS_MAX: usize = 100;

/// Why parameters are refused. Every text names the parameter, its value and what is allowed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParamError {
    /// A parameter that has to be given is not.
    #[error("parameter `{name}` is missing: {allowed}")]
    Missing {
        /// The parameter.
        name: &'static str,
        /// What it has to be.
        allowed: String,
    },
    /// A parameter has a value of another type, or one that is not allowed.
    #[error("parameter `{name}` cannot be {value}: {allowed}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// The value as JSON.
        value: String,
        /// What it has to be.
        allowed: String,
    },
    /// Parameters that the method does not have.
    #[error("unknown parameter {unknown}; allowed are {allowed}")]
    Unknown {
        /// The parameters, quoted and separated by commas.
        unknown: String,
        /// What the method has, separated by commas.
        allowed: String,
    },
    /// A parameter asks for something that the engine does not do.
    #[error("parameter `{name}` cannot be {value}: {reason}; leave it out or give {neutral}")]
    Unsupported {
        /// The parameter.
        name: &'static str,
        /// The value as JSON.
        value: String,
        /// Why it is refused.
        reason: &'static str,
        /// The value that asks for nothing.
        neutral: String,
    },
    /// A parameter asks for something that the engine does not do, whatever its value. The value
    /// is not quoted: it may be a secret.
    #[error("parameter `{name}` is not supported: {reason}; leave it out")]
    NotDone {
        /// The parameter.
        name: &'static str,
        /// Why it is refused.
        reason: &'static str,
    },
    /// A member of a parameter that is an object is refused.
    #[error("in `{name}`: {source}")]
    Member {
        /// The parameter.
        name: &'static str,
        /// What is wrong with the member.
        source: Box<ParamError>,
    },
}

/// What a method is asked to do: its parameters, checked one by one.
pub trait Request: Sized {
    /// The parameters.
    const PARAMS: Defs;

    /// Takes the parameters, which were checked against [`Request::PARAMS`].
    ///
    /// # Errors
    /// [`ParamError`] for what the definitions cannot say: parameters that exclude each other, or
    /// a value that depends on another one.
    fn take(params: &Params<'_>) -> Result<Self, ParamError>;
}

/// Reads a request out of its parameters.
///
/// # Errors
/// [`ParamError`].
pub fn read<R: Request>(given: &Given) -> Result<R, ParamError> {
    check::check(given, R::PARAMS)?;
    R::take(&Params { given, defs: R::PARAMS })
}

/// The request of a method without parameters.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Request for Nothing {
    const PARAMS: Defs = &[];

    fn take(_: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

/// Parameters on their way into a request.
#[derive(Debug)]
pub struct Params<'p> {
    given: &'p Given,
    defs: Defs,
}

impl<'p> Params<'p> {
    /// Takes a parameter that may be left out.
    ///
    /// # Errors
    /// [`ParamError::Value`] when the value cannot be read.
    pub fn optional<T: Param>(&self, name: &'static str) -> Result<Option<T>, ParamError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let read = T::of(value).map(Some);
        read.ok_or_else(|| refused(name, value, self.allowed(name)))
    }

    /// Takes a parameter that is required or has a default.
    ///
    /// # Errors
    /// [`ParamError::Missing`], or as [`Params::optional`].
    pub fn required<T: Param>(&self, name: &'static str) -> Result<T, ParamError> {
        if let Some(value) = self.optional(name)? {
            return Ok(value);
        }
        let default = self.def(name).and_then(|def| match def.need {
            def::Need::Optional(default) => default.value(),
            _ => None,
        });
        let read = default.as_ref().and_then(T::of);
        read.ok_or_else(|| ParamError::Missing { name, allowed: self.allowed(name) })
    }

    /// Takes a word that is required or has a default, and returns what stands beside it in the
    /// table that the definition's words are from.
    ///
    /// # Errors
    /// As [`Params::required`].
    pub fn required_choice<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<T, ParamError> {
        let word: String = self.required(name)?;
        self.beside(name, &word, choices)
    }

    /// Takes a word that may be left out, and returns what stands beside it in the table that the
    /// definition's words are from.
    ///
    /// # Errors
    /// As [`Params::optional`].
    pub fn optional_choice<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ParamError> {
        let word: Option<String> = self.optional(name)?;
        word.map(|word| self.beside(name, &word, choices)).transpose()
    }

    fn beside<T: Copy>(
        &self,
        name: &'static str,
        text: &str,
        choices: &[(&str, T)],
    ) -> Result<T, ParamError> {
        let kind = self.def(name).map(|def| def.kind);
        let any_case = matches!(kind, Some(Kind::Choice { any_case: true, .. }));
        let found = choices.iter().find(|(word, _)| same_word(word, text, any_case));
        found.map(|(_, choice)| *choice).ok_or_else(|| self.refuse(name, self.allowed(name)))
    }

    /// Takes an object that may be left out, with parameters of its own.
    ///
    /// # Errors
    /// [`ParamError::Member`] for what is in it.
    pub fn optional_object<R: Request>(&self, name: &'static str) -> Result<Option<R>, ParamError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let read = read(&Given::of_object(value));
        read.map(Some).map_err(|error| ParamError::Member { name, source: Box::new(error) })
    }

    /// Takes an object that has to be given, with parameters of its own.
    ///
    /// # Errors
    /// [`ParamError::Missing`], or as [`Params::optional_object`].
    pub fn required_object<R: Request>(&self, name: &'static str) -> Result<R, ParamError> {
        let allowed = || self.allowed(name);
        self.optional_object(name)?.ok_or_else(|| ParamError::Missing { name, allowed: allowed() })
    }

    /// Whether a parameter is given.
    #[must_use]
    pub fn has(&self, name: &'static str) -> bool {
        self.value(name).is_some()
    }

    /// The error for a value that a check beyond its definition refuses.
    #[must_use]
    pub fn refuse(&self, name: &'static str, allowed: impl Into<String>) -> ParamError {
        let value = self.given.get(name).map_or_else(|| "left out".to_owned(), quote);
        ParamError::Value { name, value, allowed: allowed.into() }
    }

    fn value(&self, name: &'static str) -> Option<&'p Value> {
        debug_assert!(self.def(name).is_some(), "`{name}` is defined");
        self.given.get(name)
    }

    fn def(&self, name: &str) -> Option<&'static Def> {
        def::each(self.defs).find(|def| def.name == name)
    }

    fn allowed(&self, name: &str) -> String {
        self.def(name).map(|def| must_be(&def.kind)).unwrap_or_default()
    }
}

/// A value as JSON, cut to a length that fits a message.
fn quote(value: &Value) -> String {
    shorten(&value.to_string())
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
