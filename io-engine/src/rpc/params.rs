//! The parameters of a method, each to be asked for.
//!
//! A request says which parameters it has, and takes them one by one; [`read`] refuses the rest.
//! Asking for a name that is not in the list is a bug that panics in tests, so the list of allowed
//! parameters in an error cannot differ from what the code reads.
//! Nothing is converted: a number in a string, or `null`, is refused by name.

mod given;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

pub use given::Given;

/// The longest piece of a value that an error quotes, in characters.
const QUOTE_CHARS_MAX: usize = 100;

/// The longest name of a device, in bytes.
const NAME_BYTES_MAX: usize = 255;

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
    /// The names of the parameters.
    const NAMES: &'static [&'static str];

    /// Takes the parameters. What is not taken is refused by [`read`].
    ///
    /// # Errors
    /// [`ParamError`] for the first parameter that is missing or cannot be used.
    fn take(params: &Params<'_>) -> Result<Self, ParamError>;
}

/// Reads a request out of its parameters.
///
/// # Errors
/// [`ParamError`].
pub fn read<R: Request>(given: &Given) -> Result<R, ParamError> {
    check_names(given, R::NAMES)?;
    R::take(&Params { given, allowed: R::NAMES })
}

/// Refuses what the method does not have.
fn check_names(given: &Given, allowed: &[&str]) -> Result<(), ParamError> {
    let names = given.0.iter().map(|(name, _)| name);
    let unknown: Vec<String> = names
        .filter(|name| !allowed.contains(&name.as_str()))
        .map(|name| format!("`{}`", shorten(name)))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
    Err(ParamError::Unknown { unknown: unknown.join(", "), allowed })
}

/// The request of a method without parameters.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Request for Nothing {
    const NAMES: &'static [&'static str] = &[];

    fn take(_: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

/// A type that a parameter can have.
pub trait Param: Sized {
    /// What a value has to be, as the rest of a sentence that begins with "it has to be".
    const EXPECTED: &'static str;

    /// The value, if it is one of this type.
    fn of(value: &Value) -> Option<Self>;
}

impl Param for String {
    const EXPECTED: &'static str = "a string that is not empty";

    fn of(value: &Value) -> Option<Self> {
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

impl Param for bool {
    const EXPECTED: &'static str = "true or false";

    fn of(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Param for Uuid {
    const EXPECTED: &'static str =
        "a UUID other than nil, like \"0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60\"";

    fn of(value: &Value) -> Option<Self> {
        Self::parse_str(value.as_str()?).ok().filter(|uuid| !uuid.is_nil())
    }
}

/// The name of a device: 1 to 255 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

impl Param for Name {
    const EXPECTED: &'static str =
        "a string of 1 to 255 bytes that names a device, without control characters";

    fn of(value: &Value) -> Option<Self> {
        let text = value.as_str()?;
        let fits =
            (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        fits.then(|| Self(text.to_owned()))
    }
}

/// Parameters on their way into a request.
#[derive(Debug)]
pub struct Params<'p> {
    given: &'p Given,
    allowed: &'static [&'static str],
}

impl<'p> Params<'p> {
    /// Takes a parameter that may be left out.
    ///
    /// # Errors
    /// [`ParamError::Value`] when the value has another type.
    pub fn optional<T: Param>(&self, name: &'static str) -> Result<Option<T>, ParamError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        T::of(value).map(Some).ok_or_else(|| refused(name, value, must_be(T::EXPECTED)))
    }

    /// Takes a parameter that has to be given.
    ///
    /// # Errors
    /// [`ParamError::Missing`], or as [`Params::optional`].
    pub fn required<T: Param>(&self, name: &'static str) -> Result<T, ParamError> {
        self.optional(name)?
            .ok_or_else(|| ParamError::Missing { name, allowed: must_be(T::EXPECTED) })
    }

    /// Takes a whole number that may be left out.
    ///
    /// # Errors
    /// [`ParamError::Value`] when it is no whole number or lies outside of `range`.
    pub fn optional_u64(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ParamError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.as_u64().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| refused(name, value, whole_number(&range)))
    }

    /// Takes a whole number that has to be given.
    ///
    /// # Errors
    /// [`ParamError::Missing`], or as [`Params::optional_u64`].
    pub fn required_u64(
        &self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ParamError> {
        let allowed = whole_number(&range);
        self.optional_u64(name, range)?.ok_or(ParamError::Missing { name, allowed })
    }

    /// Takes a number that may be left out and that has to be one of a list.
    ///
    /// # Errors
    /// [`ParamError::Value`] when it is none of them.
    pub fn optional_one_of(
        &self,
        name: &'static str,
        allowed: &[u32],
    ) -> Result<Option<u32>, ParamError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| allowed.contains(number));
        number.map(Some).ok_or_else(|| refused(name, value, one_of(allowed)))
    }

    /// Takes a number that has to be given and to be one of a list.
    ///
    /// # Errors
    /// [`ParamError::Missing`], or as [`Params::optional_one_of`].
    pub fn required_one_of(&self, name: &'static str, allowed: &[u32]) -> Result<u32, ParamError> {
        self.optional_one_of(name, allowed)?
            .ok_or_else(|| ParamError::Missing { name, allowed: one_of(allowed) })
    }

    /// Takes a word that has to be given, and returns what stands beside it.
    ///
    /// # Errors
    /// [`ParamError::Missing`], or [`ParamError::Value`] when the word is not in the list.
    pub fn required_choice<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<T, ParamError> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let allowed = must_be(&format!("one of {}", words.join(", ")));
        let Some(value) = self.value(name) else {
            return Err(ParamError::Missing { name, allowed });
        };
        let found = choices.iter().find(|(word, _)| value.as_str() == Some(*word));
        found.map(|(_, choice)| *choice).ok_or_else(|| refused(name, value, allowed))
    }

    /// Takes a word that may be left out, and returns what stands beside it. Case is ignored when
    /// `any_case` is set, as SPDK does with kinds of transports and addresses.
    ///
    /// # Errors
    /// [`ParamError::Value`] when the word is not in the list.
    pub fn optional_choice<T: Copy>(
        &self,
        name: &'static str,
        choices: &[(&str, T)],
        any_case: bool,
    ) -> Result<Option<T>, ParamError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = value.as_str().unwrap_or_default();
        let same = |word: &str| word == text || (any_case && word.eq_ignore_ascii_case(text));
        let found = choices.iter().find(|(word, _)| same(word));
        found.map(|(_, choice)| Some(*choice)).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            refused(name, value, must_be(&format!("one of {}", words.join(", "))))
        })
    }

    /// Takes a whole number, perhaps below zero, that may be left out.
    ///
    /// # Errors
    /// [`ParamError::Value`] when it is no whole number or lies outside of `range`.
    pub fn optional_i64(
        &self,
        name: &'static str,
        range: RangeInclusive<i64>,
    ) -> Result<Option<i64>, ParamError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let number = value.as_i64().filter(|number| range.contains(number));
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| refused(name, value, must_be(&allowed())))
    }

    /// Takes a 32-bit number that may be left out.
    ///
    /// # Errors
    /// As [`Params::optional_u64`].
    pub fn optional_u32(
        &self,
        name: &'static str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ParamError> {
        let (least, most) = range.into_inner();
        let number = self.optional_u64(name, least.into()..=most.into())?;
        Ok(number.map(|number| u32::try_from(number).unwrap_or(most)))
    }

    /// Takes a 16-bit number that may be left out.
    ///
    /// # Errors
    /// As [`Params::optional_u64`].
    pub fn optional_u16(
        &self,
        name: &'static str,
        range: RangeInclusive<u16>,
    ) -> Result<Option<u16>, ParamError> {
        let (least, most) = range.into_inner();
        let number = self.optional_u64(name, least.into()..=most.into())?;
        Ok(number.map(|number| u16::try_from(number).unwrap_or(most)))
    }

    /// Takes an object that may be left out, with parameters of its own.
    ///
    /// # Errors
    /// [`ParamError::Value`] when it is no object, [`ParamError::Member`] for what is in it.
    pub fn optional_object<R: Request>(&self, name: &'static str) -> Result<Option<R>, ParamError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let Some(members) = value.as_object() else {
            return Err(refused(name, value, must_be(&object_of(R::NAMES))));
        };
        let pairs = members.iter().map(|(name, value)| (name.clone(), value.clone()));
        let read = read(&Given(pairs.collect()));
        read.map(Some).map_err(|error| ParamError::Member { name, source: Box::new(error) })
    }

    /// Takes an object that has to be given, with parameters of its own.
    ///
    /// # Errors
    /// [`ParamError::Missing`], or as [`Params::optional_object`].
    pub fn required_object<R: Request>(&self, name: &'static str) -> Result<R, ParamError> {
        let allowed = || must_be(&object_of(R::NAMES));
        self.optional_object(name)?.ok_or_else(|| ParamError::Missing { name, allowed: allowed() })
    }

    /// A parameter of SPDK's method that asks for what the engine does not do with any value.
    ///
    /// # Errors
    /// [`ParamError::NotDone`] when it is given.
    pub fn not_done(&self, name: &'static str, reason: &'static str) -> Result<(), ParamError> {
        self.value(name).map_or(Ok(()), |_| Err(ParamError::NotDone { name, reason }))
    }

    /// Whether a parameter is given.
    #[must_use]
    pub fn has(&self, name: &'static str) -> bool {
        self.value(name).is_some()
    }

    /// A parameter of SPDK's method that asks for what the engine does not do: only the value
    /// that asks for nothing is taken.
    ///
    /// # Errors
    /// [`ParamError::Unsupported`] for any other value.
    pub fn only(
        &self,
        name: &'static str,
        neutral: &Value,
        reason: &'static str,
    ) -> Result<(), ParamError> {
        match self.value(name) {
            Some(value) if value != neutral => {
                let (value, neutral) = (quote(value), quote(neutral));
                Err(ParamError::Unsupported { name, value, reason, neutral })
            }
            _ => Ok(()),
        }
    }

    /// The error for a value that a check beyond its type refuses.
    #[must_use]
    pub fn refuse(&self, name: &'static str, allowed: impl Into<String>) -> ParamError {
        let value = self.get(name).map_or_else(|| "left out".to_owned(), quote);
        ParamError::Value { name, value, allowed: allowed.into() }
    }

    fn value(&self, name: &'static str) -> Option<&'p Value> {
        debug_assert!(self.allowed.contains(&name), "`{name}` is in the request's list");
        self.get(name)
    }

    fn get(&self, name: &str) -> Option<&'p Value> {
        self.given.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

fn object_of(names: &[&str]) -> String {
    format!("an object of {}", names.join(", "))
}

fn must_be(expected: &str) -> String {
    format!("it has to be {expected}")
}

fn whole_number(range: &RangeInclusive<u64>) -> String {
    must_be(&format!("a whole number from {} to {}", range.start(), range.end()))
}

fn one_of(allowed: &[u32]) -> String {
    let allowed: Vec<String> = allowed.iter().map(u32::to_string).collect();
    must_be(&format!("one of {}", allowed.join(", ")))
}

fn refused(name: &'static str, value: &Value, allowed: String) -> ParamError {
    ParamError::Value { name, value: quote(value), allowed }
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
