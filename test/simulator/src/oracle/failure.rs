//! What the model objects to.

use std::fmt;

/// A rule of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A block holds only what was written to it, whole.
    Content,
    /// A write is wholly there or wholly absent.
    Atomicity,
    /// What a flush or FUA covers is there after a cut.
    Durability,
    /// What ended before another began does not come after it.
    Order,
    /// Volumes are there or not as the operations on them say.
    Names,
    /// A volume has the size it was given.
    Size,
    /// A snapshot never changes.
    Snapshot,
    /// A read returns what may be there at its time.
    Read,
    /// An operation fails only where there is a reason.
    Status,
    /// Space comes back.
    Space,
    /// The store finds nothing wrong with itself.
    Check,
    /// A store can be opened after a cut.
    Import,
    /// A second import finds what the first one found.
    Idempotence,
    /// A failed flush is the end of all changes, and is said so.
    FailStop,
    /// Everything ends.
    Hang,
    /// Nothing panics.
    Panic,
    /// The same seed gives the same run.
    Repeat,
    /// The simulator itself could not go on.
    Simulator,
}

/// The model objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// To what.
    pub rule: Rule,
    /// In words.
    pub text: String,
}

impl Failure {
    /// An objection in words.
    #[must_use]
    pub fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.text = format!("{place}: {}", self.text);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}
