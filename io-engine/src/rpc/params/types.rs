//! What values of parameters are read into.

use serde_json::Value;
use uuid::Uuid;

/// A type that a checked value can be read into. A definition says what is allowed; where a value
/// cannot be read although it is allowed, it is refused with the definition's words.
pub trait Param: Sized {
    /// The value, if it is one of this type.
    fn of(value: &Value) -> Option<Self>;
}

impl Param for String {
    fn of(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl Param for bool {
    fn of(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Param for Uuid {
    fn of(value: &Value) -> Option<Self> {
        Self::parse_str(value.as_str()?).ok()
    }
}

impl Param for Value {
    fn of(value: &Value) -> Option<Self> {
        Some(value.clone())
    }
}

impl Param for u64 {
    fn of(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl Param for i64 {
    fn of(value: &Value) -> Option<Self> {
        value.as_i64()
    }
}

impl Param for f64 {
    fn of(value: &Value) -> Option<Self> {
        value.as_f64()
    }
}

impl Param for u32 {
    fn of(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl Param for i32 {
    fn of(value: &Value) -> Option<Self> {
        value.as_i64()?.try_into().ok()
    }
}

impl Param for u16 {
    fn of(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl Param for u8 {
    fn of(value: &Value) -> Option<Self> {
        value.as_u64()?.try_into().ok()
    }
}

impl<T: Param> Param for Vec<T> {
    fn of(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(T::of).collect()
    }
}

/// The name of a device: 1 to 255 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

impl Param for Name {
    fn of(value: &Value) -> Option<Self> {
        value.as_str().map(|text| Self(text.to_owned()))
    }
}
