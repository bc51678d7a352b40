//! Parameters as they were given: nothing is dropped, and a name given twice is refused, also in
//! the objects inside of them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::Value;

use super::quote;

/// The members of a `params` object as they were given, in order and without duplicates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given(Vec<(String, Value)>);

impl Given {
    /// The members of an object; none of any other value.
    pub(super) fn of_object(value: &Value) -> Self {
        let members = value.as_object().into_iter().flatten();
        Self(members.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The names, in the order in which they were given.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The value of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

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
                while let Some((name, Strict(value))) = map.next_entry()? {
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

/// A JSON value, read without losing members of objects that are given twice: they are refused.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Strict;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Strict, A::Error> {
                let mut all = Vec::new();
                while let Some(Strict(value)) = list.next_element()? {
                    all.push(value);
                }
                Ok(Strict(all.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                let mut members = serde_json::Map::new();
                while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
                    if members.contains_key(&name) {
                        let name = quote(&Value::String(name));
                        return Err(A::Error::custom(format!("parameter {name} is given twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Strict(members.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
