//! The parameters of a method, each to be asked for.
//!
//! A request says which parameters it has, and takes them one by one; [`read`] refuses the rest.
//! Asking for a name that is not in the list is a bug that panics in tests, so the list of allowed
//! parameters in an error cannot differ from what the code reads.
//! Nothing is converted: a number in a string, or `null`, is refused by name.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

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
}

/// The members of a `params` object as they were given, in order and without duplicates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of parameters, like {\"name\": \"disk0\"}")
            }

            fn visit_unit<E>(self) -> Result<Given, E> {
                Ok(Given::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Given, A::Error> {
                // A list of no parameters says the same as none.
                match list.next_element::<IgnoredAny>()? {
                    None => Ok(Given::default()),
                    Some(_) => Err(A::Error::invalid_type(Unexpected::Seq, &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
                let mut members: Vec<(String, Value)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.iter().any(|(other, _)| *other == name) {
                        let name = quote(&Value::String(name));
                        return Err(A::Error::custom(format!("parameter {name} is given twice")));
                    }
                    members.push((name, value));
                }
                Ok(Given(members))
            }
        }
        deserializer.deserialize_any(Members)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq)]
    struct Sample {
        name: String,
        blocks: u64,
        uuid: Option<Uuid>,
        size: Option<u32>,
        on: bool,
    }

    impl Request for Sample {
        const NAMES: &'static [&'static str] = &["name", "blocks", "uuid", "size", "on", "md_size"];

        fn take(params: &Params<'_>) -> Result<Self, ParamError> {
            params.only("md_size", &json!(0), "there is no metadata")?;
            Ok(Self {
                name: params.required::<Name>("name")?.0,
                blocks: params.required_u64("blocks", 1..=100)?,
                uuid: params.optional("uuid")?,
                size: params.optional_one_of("size", &[512, 4096])?,
                on: params.optional("on")?.unwrap_or(false),
            })
        }
    }

    fn sample(params: &Value) -> Result<Sample, String> {
        let given = Given::deserialize(params).map_err(|error| error.to_string())?;
        read(&given).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_is_read_whole() {
        let full = json!({"name": "a", "blocks": 100, "size": 4096, "on": true, "md_size": 0,
            "uuid": "0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60"});
        let full = sample(&full).expect("full");
        assert_eq!((full.name.as_str(), full.blocks, full.size), ("a", 100, Some(4096)));
        assert!(full.on && full.uuid.is_some());
        let least = sample(&json!({"name": "a", "blocks": 1})).expect("least");
        assert_eq!((least.uuid, least.size, least.on), (None, None, false));
    }

    #[test]
    fn refusals_name_parameter_value_and_what_is_allowed() {
        for (params, words) in [
            (json!({}), "parameter `name` is missing: it has to be a string of 1 to 255"),
            (json!({"name": "a"}), "parameter `blocks` is missing: it has to be a whole number"),
            (json!({"name": 5, "blocks": 1}), "parameter `name` cannot be 5: it has to be a str"),
            (json!({"name": "", "blocks": 1}), "parameter `name` cannot be \"\""),
            (json!({"name": "a\n", "blocks": 1}), "without control characters"),
            (json!({"name": null, "blocks": 1}), "parameter `name` cannot be null"),
            (json!({"name": "a", "blocks": 0}), "cannot be 0: it has to be a whole number from 1"),
            (json!({"name": "a", "blocks": 101}), "from 1 to 100"),
            (json!({"name": "a", "blocks": -1}), "cannot be -1"),
            (json!({"name": "a", "blocks": 1.5}), "cannot be 1.5"),
            (json!({"name": "a", "blocks": "1"}), "cannot be \"1\""),
            (json!({"name": "a", "blocks": 1, "size": 513}), "one of 512, 4096"),
            (json!({"name": "a", "blocks": 1, "on": 1}), "`on` cannot be 1: it has to be true or"),
            (json!({"name": "a", "blocks": 1, "uuid": "x"}), "`uuid` cannot be \"x\""),
            (json!({"name": "a", "blocks": 1, "uuid": Uuid::nil()}), "other than nil"),
            (
                json!({"name": "a", "blocks": 1, "md_size": 8}),
                "parameter `md_size` cannot be 8: there is no metadata; leave it out or give 0",
            ),
            (
                json!({"name": "a", "block": 1}),
                "unknown parameter `block`; allowed are name, blocks",
            ),
            (json!({"x": 1}), "unknown parameter `x`; allowed are name, blocks, uuid, size, on"),
            (json!({"name": "a", "blocks": 1, "x": 1, "y": 2}), "unknown parameter `x`, `y`"),
            (json!([1]), "an object of parameters"),
            (json!("a"), "an object of parameters"),
        ] {
            let error = sample(&params).expect_err(&params.to_string());
            assert!(error.contains(words), "{params}: {error}");
        }
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        let error =
            serde_json::from_str::<Given>(r#"{"a": 1, "b": 2, "a": 3}"#).expect_err("twice");
        assert!(error.to_string().contains("parameter \"a\" is given twice"), "{error}");
        for nothing in ["null", "{}", "[]"] {
            let given = serde_json::from_str::<Given>(nothing).expect(nothing);
            assert_eq!(given, Given::default());
        }
    }

    #[test]
    fn long_values_are_cut() {
        let long = "é".repeat(1000);
        let error =
            sample(&json!({"name": "a", "blocks": long, long.clone(): 1})).expect_err("long");
        assert!(error.len() < 600, "{error}");
    }
}
