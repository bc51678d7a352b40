//! The parameters of a device URI, each to be asked for.
//!
//! A factory takes what it understands and calls [`Params::finish`]; the getters register the
//! names, so the list of allowed parameters in an error cannot differ from what the code reads.

use std::ops::RangeInclusive;

use uuid::Uuid;

use super::UriError;
use crate::size::{Size, parse_size};

/// Parameters that have not been taken yet, and the names asked for so far.
#[derive(Debug)]
pub struct Params<'u> {
    scheme: &'u str,
    pairs: &'u [(String, String)],
    allowed: Vec<&'static str>,
}

impl<'u> Params<'u> {
    pub(super) fn new(scheme: &'u str, pairs: &'u [(String, String)]) -> Self {
        Self { scheme, pairs, allowed: Vec::new() }
    }

    /// Takes a parameter as text, or nothing when it is not given.
    pub fn take_str(&mut self, name: &'static str) -> Option<&'u str> {
        if !self.allowed.contains(&name) {
            self.allowed.push(name);
        }
        self.get(name)
    }

    /// Takes a whole number within `range`.
    ///
    /// # Errors
    ///
    /// [`UriError::Value`] when the text is not a decimal number or lies outside of `range`.
    pub fn take_u64(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, UriError> {
        self.take_with(name, |text| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let value = digits.then(|| text.parse().ok()).flatten();
            value.filter(|value| range.contains(value)).ok_or_else(|| {
                format!("it has to be a whole number from {} to {}", range.start(), range.end())
            })
        })
    }

    /// Takes a size in bytes within `range`: `4096`, `4k`, `1M`, `1GiB`; see [`parse_size`].
    ///
    /// # Errors
    ///
    /// [`UriError::Value`] when the text is not a size or lies outside of `range`.
    pub fn take_size(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, UriError> {
        self.take_with(name, |text| {
            let value = parse_size(text).map_err(|error| error.to_string())?;
            if range.contains(&value) {
                return Ok(value);
            }
            let (least, most) = (Size(*range.start()), Size(*range.end()));
            Err(format!("it has to be a size from {least} to {most}"))
        })
    }

    /// Takes `blk_size`, a block length in bytes that has to be one of `allowed`.
    ///
    /// # Errors
    ///
    /// [`UriError::Value`] when it is none of them.
    pub fn take_block_size(&mut self, allowed: &[u32]) -> Result<Option<u32>, UriError> {
        self.take_with("blk_size", |text| {
            let value = parse_size(text).ok().and_then(|bytes| u32::try_from(bytes).ok());
            value.filter(|value| allowed.contains(value)).ok_or_else(|| {
                let allowed: Vec<String> = allowed.iter().map(u32::to_string).collect();
                format!("the block sizes are {}", allowed.join(", "))
            })
        })
    }

    /// Takes a UUID in any of its usual spellings.
    ///
    /// # Errors
    ///
    /// [`UriError::Value`] when the text is not a UUID, or is the nil UUID, which names nothing.
    pub fn take_uuid(&mut self, name: &'static str) -> Result<Option<Uuid>, UriError> {
        self.take_with(name, |text| {
            Uuid::parse_str(text).ok().filter(|uuid| !uuid.is_nil()).ok_or_else(|| {
                "it has to be a UUID other than nil, like 0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60"
                    .to_owned()
            })
        })
    }

    /// Takes a switch: `true` or `1`, `false` or `0`.
    ///
    /// # Errors
    ///
    /// [`UriError::Value`] for any other text.
    pub fn take_bool(&mut self, name: &'static str) -> Result<Option<bool>, UriError> {
        self.take_with(name, |text| match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("it has to be true, 1, false or 0".to_owned()),
        })
    }

    /// Takes a word out of a list and returns what stands beside it.
    ///
    /// # Errors
    ///
    /// [`UriError::Value`] when the word is not in the list.
    pub fn take_choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, UriError> {
        self.take_with(name, |text| {
            let found = choices.iter().find(|(word, _)| *word == text);
            found.map(|(_, choice)| *choice).ok_or_else(|| {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                format!("it has to be one of {}", words.join(", "))
            })
        })
    }

    /// Refuses more than one parameter of a group that exclude each other.
    ///
    /// # Errors
    ///
    /// [`UriError::Conflict`] when two or more are given.
    pub fn at_most_one_of(&self, names: &[&'static str]) -> Result<Option<&'static str>, UriError> {
        let given: Vec<&'static str> =
            names.iter().copied().filter(|name| self.get(name).is_some()).collect();
        match given.as_slice() {
            [] => Ok(None),
            [name] => Ok(Some(*name)),
            _ => Err(UriError::Conflict { given: quoted(given.iter().copied()) }),
        }
    }

    /// Asks for exactly one parameter of a group, and returns its name.
    ///
    /// # Errors
    ///
    /// [`UriError::Missing`] when none is given, [`UriError::Conflict`] when several are.
    pub fn require_one_of(&self, names: &[&'static str]) -> Result<&'static str, UriError> {
        self.at_most_one_of(names)?.ok_or_else(|| self.missing(&names.join(" or ")))
    }

    /// The error for a parameter that has to be given.
    #[must_use]
    pub fn missing(&self, needed: &str) -> UriError {
        UriError::Missing { scheme: self.scheme.to_owned(), needed: needed.to_owned() }
    }

    /// Refuses what no getter asked for.
    ///
    /// # Errors
    ///
    /// [`UriError::UnknownParameter`] with the left-over names and the allowed ones.
    pub fn finish(self) -> Result<(), UriError> {
        let left = self.pairs.iter().map(|(name, _)| name.as_str());
        let unknown = quoted(left.filter(|name| !self.allowed.contains(name)));
        if unknown.is_empty() {
            return Ok(());
        }
        let allowed = match self.allowed.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        Err(UriError::UnknownParameter { scheme: self.scheme.to_owned(), unknown, allowed })
    }

    fn get(&self, name: &str) -> Option<&'u str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn take_with<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, UriError> {
        let Some(text) = self.take_str(name) else { return Ok(None) };
        read(text).map(Some).map_err(|allowed| UriError::Value {
            name,
            value: text.to_owned(),
            allowed,
        })
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
