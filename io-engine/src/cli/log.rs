//! Options of the log and its set-up: always on standard error, so that standard output stays
//! free for results.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::log_control::{NoLog, installed};

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// A JSON object per line
    Json,
}

/// Options of the log.
#[derive(Debug, Clone, Default, Args)]
pub struct LogArgs {
    /// What to log: a level, or target=level; may be repeated, or separated by commas
    #[arg(short = 'L', long = "log", value_name = "FILTER", value_parser = parse_filter)]
    pub filters: Vec<String>,
    /// How a log line looks
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
}

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A filter cannot be read.
    #[error(
        "log filter `{filter}`: {source}; write a level (error, warn, info, debug, trace, off) or target=level"
    )]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Another log is set up already.
    #[error("the log is set up already")]
    Twice(#[from] TryInitError),
}

fn parse_filter(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) => Err("it is empty; write a level, or target=level".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl LogArgs {
    /// The filter in force: what was given, or `default`.
    #[must_use]
    pub fn filter(&self, default: &str) -> String {
        if self.filters.is_empty() { default.to_owned() } else { self.filters.join(",") }
    }

    /// Sends the log to standard error, at `default` unless a filter was given.
    ///
    /// # Errors
    ///
    /// [`LogError`] when `default` is not a filter, or a log is set up already.
    pub fn install(&self, default: &str) -> Result<(), LogError> {
        let filter = self.filter(default);
        let parsed = EnvFilter::builder()
            .parse(&filter)
            .map_err(|source| LogError::Filter { filter: filter.clone(), source })?;
        let log = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => {
                let log = log.with_filter_reloading();
                let handle = log.reload_handle();
                log.finish().try_init()?;
                installed(&filter, Box::new(move |new| handle.reload(new).map_err(|_| NoLog)));
            }
            LogFormat::Json => {
                let log = log.json().with_filter_reloading();
                let handle = log.reload_handle();
                log.finish().try_init()?;
                installed(&filter, Box::new(move |new| handle.reload(new).map_err(|_| NoLog)));
            }
        }
        Ok(())
    }
}
