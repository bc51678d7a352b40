//! Which I/O a fault is for: its kinds and its stage.

use spdk_rs::bdev::{IoType, IoTypes};

/// When a fault happens to an I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// On its way to the device, which may never see it.
    Submission,
    /// On its way back: the device has done it.
    Completion,
}

impl Stage {
    /// Mayastor's spellings.
    pub(super) const WORDS: [(&'static str, Self); 8] = [
        ("submission", Self::Submission),
        ("completion", Self::Completion),
        ("submit", Self::Submission),
        ("compl", Self::Completion),
        ("s", Self::Submission),
        ("c", Self::Completion),
        ("Submission", Self::Submission),
        ("Completion", Self::Completion),
    ];

    /// The word in URIs and listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submission => "submission",
            Self::Completion => "completion",
        }
    }
}

/// The kinds of I/O that are both read and write, which is what Mayastor means unless told more.
pub(super) const READ_WRITE: IoTypes = IoTypes::of(&[IoType::Read, IoType::Write]);

/// Every kind.
pub(super) const ALL: IoTypes = IoTypes::of(&IoType::ALL);

/// Further spellings of kinds.
const ALIASES: [(&str, IoType); 4] = [
    ("r", IoType::Read),
    ("w", IoType::Write),
    ("zone_report", IoType::ZoneReport),
    ("ZoneReport", IoType::ZoneReport),
];

/// Reads `read`, `rw`, `all`, or several separated by commas; none when a word is unknown.
pub(super) fn parse(text: &str) -> Option<IoTypes> {
    text.split(',').try_fold(IoTypes::default(), |ops, word| Some(ops.with(of_word(word)?)))
}

fn of_word(word: &str) -> Option<IoTypes> {
    if ["all", "All"].contains(&word) {
        return Some(ALL);
    }
    if ["read_write", "rw", "ReadWrite"].contains(&word) {
        return Some(READ_WRITE);
    }
    let alias = ALIASES.iter().find(|(alias, _)| *alias == word).map(|&(_, kind)| kind);
    let named = || IoType::ALL.into_iter().find(|kind| kind.name() == word || camel(*kind) == word);
    alias.or_else(named).map(|kind| IoTypes::of(&[kind]))
}

/// A kind in Mayastor's other spelling: `compare_and_write` is `CompareAndWrite`.
fn camel(kind: IoType) -> String {
    let upper = |word: &str| {
        let (head, tail) = word.split_at(word.len().min(1));
        head.to_ascii_uppercase() + tail
    };
    kind.name().split('_').map(upper).collect()
}

/// The kinds as they are written in a URI.
pub(super) fn show(ops: IoTypes) -> String {
    if ops == ALL {
        return "all".to_owned();
    }
    ops.iter().map(IoType::name).collect::<Vec<_>>().join(",")
}

/// What may be written, for messages.
pub(super) fn allowed() -> String {
    let names: Vec<_> = IoType::ALL.iter().map(|kind| kind.name()).collect();
    format!(
        "it has to be all, read_write or out of {}, several separated by commas",
        names.join(", ")
    )
}

/// Whether a kind of I/O names the blocks that it touches.
pub(super) fn has_range(kind: IoType) -> bool {
    let without = [IoType::Flush, IoType::Reset, IoType::Abort, IoType::NvmeAdmin, IoType::NvmeIo];
    !without.contains(&kind)
}

/// The kinds of both sets.
pub(super) fn both(a: IoTypes, b: IoTypes) -> IoTypes {
    a.without(ALL.without(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_words() {
        for kind in IoType::ALL {
            let one = Some(IoTypes::of(&[kind]));
            assert_eq!(parse(kind.name()), one, "{kind}");
            assert_eq!(parse(&camel(kind)), one, "{kind}");
        }
        assert_eq!(parse("rw"), Some(READ_WRITE));
        assert_eq!(parse("r,w"), Some(READ_WRITE));
        assert_eq!(parse("all").map(show).as_deref(), Some("all"));
        assert_eq!(parse("ReadWrite").map(show).as_deref(), Some("read,write"));
        assert_eq!(parse("reed"), None);
        assert_eq!(parse("read,"), None);
    }

    #[test]
    fn what_is_in_both() {
        let some = IoTypes::of(&[IoType::Read, IoType::Flush]);
        assert_eq!(both(some, READ_WRITE), IoTypes::of(&[IoType::Read]));
        assert_eq!(both(some, IoTypes::of(&[IoType::Copy])), IoTypes::default());
    }
}
