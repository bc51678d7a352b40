//! What a method's parameters are, said once: the checks of a request, the words of its refusals,
//! the OpenRPC document, the reference in `docs/rpc.md` and the command line's help are all made
//! from these definitions.

use serde_json::Value;

/// The longest name of a device, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// A list of parameters, in the order in which they are checked and shown. It is a list of lists,
/// so that methods can share some of them.
pub type Defs = &'static [&'static [Def]];

/// The parameters of a list, one after the other.
pub fn each(defs: Defs) -> impl Iterator<Item = &'static Def> + Clone {
    defs.iter().flat_map(|group| group.iter())
}

/// What a value has to be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string that is not empty.
    Text,
    /// The name of a device: 1 to 255 bytes without control characters.
    Name,
    /// `true` or `false`.
    Bool,
    /// A UUID other than nil, as a string.
    Uuid,
    /// A whole number of a range, both ends included.
    Int {
        /// The least.
        min: i128,
        /// The most.
        max: i128,
    },
    /// A number that is not below zero, with or without a fraction.
    Number,
    /// One of a list of whole numbers.
    OneOf(&'static [u32]),
    /// One of a list of words.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// Whether upper and lower case are the same, as with SPDK's kinds of transports.
        any_case: bool,
    },
    /// A string of a form of its own.
    Format(Format),
    /// An object with parameters of its own.
    Object(Defs),
    /// A list.
    List {
        /// What each item is.
        item: &'static Kind,
        /// The least number of items.
        min: usize,
        /// The largest number of items.
        max: usize,
    },
    /// Any JSON object; what is in it is checked by the method.
    AnyObject,
}

/// A string of a form of its own. Whether a text has the form is decided where it is read
/// ([`super::Param::of`]).
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// What it is, as the rest of a sentence that begins with "it has to be".
    pub expected: &'static str,
    /// A text of that form.
    pub example: &'static str,
}

/// Whether a parameter has to be given, and what is taken.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// It has to be given.
    Required,
    /// It may be left out; then it is this.
    Optional(Default),
    /// It asks for something that the engine does not do: only the value that asks for nothing is
    /// taken.
    Only {
        /// That value as JSON.
        neutral: &'static str,
        /// Why there is no other.
        reason: &'static str,
    },
    /// It asks for something that the engine does not do, whatever its value.
    NotDone {
        /// Why it is refused.
        reason: &'static str,
    },
}

/// What a parameter is when it is left out.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// What the description says.
    Said,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A text.
    Text(&'static str),
}

impl Default {
    /// The default as JSON.
    #[must_use]
    pub fn value(self) -> Option<Value> {
        match self {
            Self::Said => None,
            Self::Bool(value) => Some(value.into()),
            Self::Int(value) => Some(value.into()),
            Self::Text(value) => Some(value.into()),
        }
    }
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub struct Def {
    /// Its name.
    pub name: &'static str,
    /// What its value has to be.
    pub kind: Kind,
    /// Whether it has to be given.
    pub need: Need,
    /// What it means, in one sentence, with its unit.
    pub about: &'static str,
}

impl Def {
    /// The same with a default. It is what [`super::Params::required`] answers for a parameter
    /// that is left out.
    #[must_use]
    pub const fn or(mut self, default: Default) -> Self {
        self.need = Need::Optional(default);
        self
    }

    /// The same with a truth value as its default.
    #[must_use]
    pub const fn or_bool(self, default: bool) -> Self {
        self.or(Default::Bool(default))
    }

    /// The same with a whole number as its default.
    #[must_use]
    pub const fn or_int(self, default: i64) -> Self {
        self.or(Default::Int(default))
    }

    /// The same with a text as its default.
    #[must_use]
    pub const fn or_text(self, default: &'static str) -> Self {
        self.or(Default::Text(default))
    }

    /// Whether it can be given at all.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        !matches!(self.need, Need::NotDone { .. })
    }
}

/// A parameter that has to be given.
#[must_use]
pub const fn required(name: &'static str, kind: Kind, about: &'static str) -> Def {
    Def { name, kind, need: Need::Required, about }
}

/// A parameter that may be left out.
#[must_use]
pub const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Def {
    Def { name, kind, need: Need::Optional(Default::Said), about }
}

/// A parameter of SPDK's that may only have the value that asks for nothing, given as JSON.
#[must_use]
pub const fn only(name: &'static str, neutral: &'static str, reason: &'static str) -> Def {
    Def { name, kind: Kind::AnyObject, need: Need::Only { neutral, reason }, about: reason }
}

/// A parameter of SPDK's that is refused whatever its value.
#[must_use]
pub const fn not_done(name: &'static str, reason: &'static str) -> Def {
    Def { name, kind: Kind::AnyObject, need: Need::NotDone { reason }, about: reason }
}

/// A whole number of a range, both ends included.
#[must_use]
pub const fn int(min: i128, max: i128) -> Kind {
    Kind::Int { min, max }
}

/// One of a list of words.
#[must_use]
pub const fn choice(words: &'static [&'static str]) -> Kind {
    Kind::Choice { words, any_case: false }
}

/// One of a list of words, in upper or lower case.
#[must_use]
pub const fn choice_any_case(words: &'static [&'static str]) -> Kind {
    Kind::Choice { words, any_case: true }
}

/// A string of a form of its own.
#[must_use]
pub const fn form(expected: &'static str, example: &'static str) -> Kind {
    Kind::Format(Format { expected, example })
}

/// The words of a table of choices, so that the table is the only list of them.
#[must_use]
pub const fn words<T: Copy, const N: usize>(
    table: &'static [(&'static str, T); N],
) -> [&'static str; N] {
    let mut words = [""; N];
    let mut index = 0;
    while index < N {
        words[index] = table[index].0;
        index += 1;
    }
    words
}

impl Kind {
    /// What a value has to be, as the rest of a sentence that begins with "it has to be".
    #[must_use]
    pub fn expected(&self) -> String {
        match self {
            Self::Text => "a string that is not empty".to_owned(),
            Self::Name => format!(
                "a string of 1 to {NAME_BYTES_MAX} bytes that names a device, without control \
                 characters"
            ),
            Self::Bool => "true or false".to_owned(),
            Self::Uuid => {
                "a UUID other than nil, like \"0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60\"".to_owned()
            }
            Self::Int { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number => "a number from 0 on".to_owned(),
            Self::OneOf(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
                format!("one of {}", numbers.join(", "))
            }
            Self::Choice { words, .. } => format!("one of {}", words.join(", ")),
            Self::Format(format) => format.expected.to_owned(),
            Self::Object(defs) => format!("an object of {}", names(defs)),
            Self::List { item, min, max } => {
                format!("a list of {min} to {max}, each {}", item.expected())
            }
            Self::AnyObject => "an object".to_owned(),
        }
    }
}

/// The names of parameters, separated by commas.
pub(super) fn names(defs: Defs) -> String {
    let names: Vec<&str> = each(defs).map(|def| def.name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
