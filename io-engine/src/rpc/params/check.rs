//! A request's parameters against their definitions, before anything is read out of them.

use serde_json::Value;
use uuid::Uuid;

use super::def::{Def, Defs, Kind, NAME_BYTES_MAX, Need, each, names};
use super::{Given, ParamError, quote, shorten};

/// Checks all of the parameters of a request: first that each is known and can be what it is, then
/// that none is missing.
pub(super) fn check(given: &Given, defs: Defs) -> Result<(), ParamError> {
    check_names(given, defs)?;
    for def in each(defs) {
        if let Some(value) = given.get(def.name) {
            check_one(def, value)?;
        }
    }
    let missing =
        each(defs).find(|def| matches!(def.need, Need::Required) && given.get(def.name).is_none());
    missing.map_or(Ok(()), |def| {
        Err(ParamError::Missing { name: def.name, allowed: must_be(&def.kind) })
    })
}

/// Refuses what the method does not have.
fn check_names(given: &Given, defs: Defs) -> Result<(), ParamError> {
    let unknown: Vec<String> = given
        .names()
        .filter(|&name| each(defs).all(|def| def.name != name))
        .map(|name| format!("`{}`", shorten(name)))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(ParamError::Unknown { unknown: unknown.join(", "), allowed: names(defs) })
}

fn check_one(def: &Def, value: &Value) -> Result<(), ParamError> {
    let name = def.name;
    match def.need {
        Need::NotDone { reason } => Err(ParamError::NotDone { name, reason }),
        Need::Only { neutral, reason } => {
            let asked = value.to_string();
            if asked == neutral {
                return Ok(());
            }
            let (value, neutral) = (shorten(&asked), neutral.to_owned());
            Err(ParamError::Unsupported { name, value, reason, neutral })
        }
        Need::Required | Need::Optional(_) => check_value(name, &def.kind, value),
    }
}

/// Checks a value, and what is inside of it.
fn check_value(name: &'static str, kind: &Kind, value: &Value) -> Result<(), ParamError> {
    let inside = |error: ParamError| ParamError::Member { name, source: Box::new(error) };
    match kind {
        Kind::Object(defs) if value.is_object() => {
            check(&Given::of_object(value), defs).map_err(inside)
        }
        Kind::List { item, min, max } => match value.as_array() {
            Some(list) if (*min..=*max).contains(&list.len()) => {
                list.iter().try_for_each(|value| check_value(name, item, value))
            }
            _ => Err(refused(name, value, must_be(kind))),
        },
        _ if fits(kind, value) => Ok(()),
        _ => Err(refused(name, value, must_be(kind))),
    }
}

/// Whether a value that has nothing inside of it is of a kind. The form of a
/// [`Kind::Format`] is checked where it is read.
fn fits(kind: &Kind, value: &Value) -> bool {
    let text = value.as_str();
    match kind {
        Kind::Text => text.is_some_and(|text| !text.is_empty()),
        Kind::Name => text.is_some_and(|text| {
            (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
        }),
        Kind::Bool => value.is_boolean(),
        Kind::Uuid => {
            let uuid = text.and_then(|text| Uuid::parse_str(text).ok());
            uuid.is_some_and(|uuid| !uuid.is_nil())
        }
        Kind::Int { min, max } => {
            let number = value.as_u64().map(i128::from).or(value.as_i64().map(i128::from));
            number.is_some_and(|number| (*min..=*max).contains(&number))
        }
        Kind::Number => value.as_f64().is_some_and(|number| number >= 0.0),
        Kind::OneOf(allowed) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.is_some_and(|number| allowed.contains(&number))
        }
        Kind::Choice { words, any_case } => {
            text.is_some_and(|text| words.iter().any(|word| same_word(word, text, *any_case)))
        }
        Kind::Format(_) => text.is_some(),
        Kind::AnyObject => value.is_object(),
        Kind::Object(_) | Kind::List { .. } => false,
    }
}

/// Whether a text is a word of a choice.
pub(super) fn same_word(word: &str, text: &str, any_case: bool) -> bool {
    word == text || (any_case && word.eq_ignore_ascii_case(text))
}

pub(super) fn must_be(kind: &Kind) -> String {
    format!("it has to be {}", kind.expected())
}

pub(super) fn refused(name: &'static str, value: &Value, allowed: String) -> ParamError {
    ParamError::Value { name, value: quote(value), allowed }
}
