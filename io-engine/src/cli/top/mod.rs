//! `io-engine top`: the load of a running daemon, per reactor and per device.
//!
//! On a terminal it is a screen that is drawn anew every interval (feature `top`); elsewhere, and
//! with `-b`, the same tables are printed one after the other.

mod sample;
#[cfg(feature = "top")]
mod screen;
mod table;

#[cfg(feature = "top")]
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jsonrpc::{Client, ClientError};

use super::remote::{answered, fail};
use super::{ClientArgs, ExitCode};
use sample::{Load, Sample};

/// `io-engine top`.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Where to find the daemon.
    #[command(flatten)]
    pub client: ClientArgs,
    /// Seconds from one look to the next
    #[arg(short = 'd', long, value_name = "SECONDS", default_value_t = 1.0, value_parser = parse_seconds)]
    pub delay: f64,
    /// End after so many tables
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub iterations: Option<u64>,
    /// Print tables one after the other, as where there is no terminal
    #[arg(short, long)]
    pub batch: bool,
    /// What devices are ordered by
    #[arg(short, long, value_enum, value_name = "ORDER", default_value_t)]
    pub sort: Sort,
}

/// What devices are ordered by, most first but for the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// I/Os per second
    #[default]
    Iops,
    /// Bytes per second
    Throughput,
    /// Mean latency
    Latency,
    /// Name
    Name,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "it has to be a number".to_owned())?;
    let allowed = 0.1..=3600.0;
    if allowed.contains(&seconds) { Ok(seconds) } else { Err("0.1 to 3600 are allowed".into()) }
}

/// Shows the load until it is told to end.
pub(super) fn run(args: &TopArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(ExitCode::Resources, &format!("cannot start a runtime: {error}"));
        }
    };
    let shown = runtime.block_on(async {
        let mut watch = Watch::begin(args).await?;
        #[cfg(feature = "top")]
        if !args.batch && std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
            return screen::run(&mut watch, args).await;
        }
        lines(&mut watch, args).await
    });
    match shown {
        Ok(()) => ExitCode::Success,
        Err(TopError::Client(error)) => answered("top", &error),
        Err(TopError::Answer(error)) => {
            fail(ExitCode::Failure, &format!("unexpected result: {error}"))
        }
        Err(TopError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::Success
        }
        Err(TopError::Output(error)) => {
            fail(ExitCode::Failure, &format!("cannot write to the terminal: {error}"))
        }
    }
}

/// Why the load cannot be shown.
#[derive(Debug, thiserror::Error)]
enum TopError {
    /// The daemon does not answer, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It answers something else.
    #[error(transparent)]
    Answer(#[from] serde_json::Error),
    /// The load cannot be printed.
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

/// Looks at the daemon.
struct Watch {
    client: Client,
    last: Sample,
    delay: Duration,
}

impl Watch {
    async fn begin(args: &TopArgs) -> Result<Self, TopError> {
        let mut client = Client::connect(&args.client.rpc_socket).await?;
        let last = Sample::take(&mut client).await?;
        Ok(Self { client, last, delay: Duration::from_secs_f64(args.delay) })
    }

    /// What was done since the look before.
    async fn look(&mut self) -> Result<Load, TopError> {
        let now = Sample::take(&mut self.client).await?;
        let load = Load::between(&self.last, &now);
        self.last = now;
        Ok(load)
    }
}

async fn lines(watch: &mut Watch, args: &TopArgs) -> Result<(), TopError> {
    let mut left = args.iterations;
    while left != Some(0) {
        tokio::time::sleep(watch.delay).await;
        let load = watch.look().await?;
        writeln!(std::io::stdout(), "{}\n", table::text(&load, args.sort))?;
        left = left.map(|left| left - 1);
    }
    Ok(())
}
