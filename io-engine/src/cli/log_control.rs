//! The filter of the log while the process runs: what the command line said, with a level and parts
//! that were set since.

use std::sync::OnceLock;
#[expect(clippy::disallowed_types, reason = "management plane only")]
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// A level in SPDK's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing.
    Disabled,
    /// What went wrong.
    Error,
    /// What may go wrong, and what was given up.
    Warning,
    /// What happened.
    Notice,
    /// The same as [`Level::Notice`]: the engine does not tell them apart.
    Info,
    /// Everything that may help to find a fault.
    Debug,
}

/// The levels by SPDK's names.
pub const LEVELS: [(&str, Level); 6] = [
    ("DISABLED", Level::Disabled),
    ("ERROR", Level::Error),
    ("WARNING", Level::Warning),
    ("NOTICE", Level::Notice),
    ("INFO", Level::Info),
    ("DEBUG", Level::Debug),
];

/// The parts of the engine, and where in the code they are.
pub const FLAGS: [(&str, &str); 10] = [
    ("all", ""),
    ("bdev", "spdk_rs::bdev"),
    ("drivers", "spdk_rs::drivers"),
    ("nvme", "spdk_rs::nvme"),
    ("nvmf", "spdk_rs::nvmf"),
    ("reactor", "spdk_rs::reactor"),
    ("env", "spdk_rs::env"),
    ("pool", "io_engine::pool"),
    ("rpc", "io_engine::rpc"),
    ("jsonrpc", "jsonrpc"),
];

impl Level {
    /// SPDK's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        LEVELS.iter().find(|(_, level)| *level == self).map_or("NOTICE", |(name, _)| name)
    }

    /// The filter's word for it.
    const fn directive(self) -> &'static str {
        match self {
            Self::Disabled => "off",
            Self::Error => "error",
            Self::Warning => "warn",
            Self::Notice | Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    fn of_directive(word: &str) -> Option<Self> {
        let word = word.trim().to_ascii_lowercase();
        let word = if word == "trace" { "debug" } else { word.as_str() };
        LEVELS.iter().map(|(_, level)| *level).find(|level| level.directive() == word)
    }
}

/// The process has no log that could be changed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the log of this process cannot be changed while it runs")]
pub struct NoLog;

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), NoLog> + Send + Sync>;

/// What is logged.
#[derive(Debug, Default)]
struct Filter {
    /// What the command line said.
    given: String,
    level: Option<Level>,
    flags: Vec<&'static str>,
}

#[expect(clippy::disallowed_types, reason = "see the import")]
static FILTER: Mutex<Filter> =
    Mutex::new(Filter { given: String::new(), level: None, flags: Vec::new() });
static RELOAD: OnceLock<Reload> = OnceLock::new();

impl Filter {
    /// The words of the filter. A later directive for the same target counts.
    fn text(&self) -> String {
        let given = self.given.split(',').filter(|word| !word.trim().is_empty());
        // A level of all takes the place of the one on the command line.
        let kept = given.filter(|word| self.level.is_none() || word.contains(['=', '[']));
        let mut words: Vec<String> = kept.map(str::to_owned).collect();
        words.extend(self.level.map(|level| level.directive().to_owned()));
        let targets = FLAGS.iter().filter(|(name, _)| self.flags.contains(name));
        words.extend(targets.map(|(_, target)| format!("{target}=debug")));
        words.join(",")
    }

    fn level(&self) -> Level {
        let given = || self.given.split(',').filter_map(Level::of_directive).next_back();
        self.level.or_else(given).unwrap_or(Level::Error)
    }
}

fn lock() -> MutexGuard<'static, Filter> {
    FILTER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes the filter that the log was set up with, and how to change it.
pub(super) fn installed(given: &str, reload: Reload) {
    given.clone_into(&mut lock().given);
    let _ = RELOAD.set(reload);
}

fn change(change: impl FnOnce(&mut Filter)) -> Result<(), NoLog> {
    let mut filter = lock();
    change(&mut filter);
    let parsed = EnvFilter::builder().parse(filter.text()).map_err(|_| NoLog)?;
    RELOAD.get().ok_or(NoLog)?(parsed)
}

/// Sets the level of everything that has none of its own.
///
/// # Errors
/// [`NoLog`].
pub fn set_level(level: Level) -> Result<(), NoLog> {
    change(|filter| filter.level = Some(level))
}

/// The level of everything that has none of its own.
#[must_use]
pub fn level() -> Level {
    lock().level()
}

/// The level, if it was set since the start.
#[must_use]
pub fn level_set() -> Option<Level> {
    lock().level
}

/// Logs everything of a part, or no longer. `all` is every part.
///
/// # Errors
/// [`NoLog`].
pub fn set_flag(flag: &str, on: bool) -> Result<(), NoLog> {
    let chosen = FLAGS.iter().map(|(name, _)| *name);
    let chosen: Vec<_> =
        chosen.filter(|name| *name != "all" && [name, "all"].contains(&flag)).collect();
    change(|filter| {
        filter.flags.retain(|name| !chosen.contains(name));
        if on {
            filter.flags.extend(chosen);
        }
    })
}

/// The parts of which everything is logged, in the order of [`FLAGS`].
#[must_use]
pub fn flags() -> Vec<&'static str> {
    let filter = lock();
    FLAGS.iter().map(|(name, _)| *name).filter(|name| filter.flags.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_what_was_given_and_set() {
        let mut filter =
            Filter { given: "warn,io_engine::pool=trace".to_owned(), ..Filter::default() };
        assert_eq!(
            (filter.text().as_str(), filter.level()),
            ("warn,io_engine::pool=trace", Level::Warning)
        );
        filter.level = Some(Level::Info);
        filter.flags = vec!["nvmf", "bdev"];
        let text = "io_engine::pool=trace,info,spdk_rs::bdev=debug,spdk_rs::nvmf=debug";
        assert_eq!((filter.text().as_str(), filter.level().name()), (text, "INFO"));
        EnvFilter::builder().parse(filter.text()).expect("it is a filter");
        let trace = Filter { given: "trace".to_owned(), ..Filter::default() };
        assert_eq!(trace.level(), Level::Debug);
    }

    #[test]
    fn every_level_is_a_filter() {
        for (name, level) in LEVELS {
            assert_eq!(level.name(), name);
            EnvFilter::builder().parse(level.directive()).expect(name);
        }
    }
}
