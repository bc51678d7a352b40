//! `io-engine events`.

use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use clap::Args;
use jsonrpc::client::DEFAULT_TIMEOUT;
use jsonrpc::{Client, ClientError};
use serde_json::{Value, json};

use super::{ManageArgs, view};
use crate::cli::remote::{answered, fail};
use crate::cli::{ExitCode, OutputFormat};

/// The pause between two questions with `--follow`.
const PAUSE: Duration = Duration::from_millis(500);

const METHOD: &str = "notify_get_notifications";

/// `io-engine events`.
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// The daemon and the format.
    #[command(flatten)]
    pub manage: ManageArgs,
    /// Print events as they come, until interrupted
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with the event of this number
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub from: u64,
}

/// Prints what has happened.
#[must_use]
pub fn run(args: &EventsArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => match runtime.block_on(watch(args)) {
            Ok(code) => code,
            Err(error) => answered(METHOD, &error),
        },
        Err(error) => fail(ExitCode::Resources, &format!("cannot start a runtime: {error}")),
    }
}

/// What the daemon is asked: the events from a number on.
pub(super) fn question(next: u64) -> (&'static str, Value) {
    (METHOD, json!({ "id": next }))
}

async fn watch(args: &EventsArgs) -> Result<ExitCode, ClientError> {
    let mut client = Client::connect(&args.manage.client.rpc_socket).await?;
    client.set_timeout(Some(DEFAULT_TIMEOUT));
    let mut next = args.from;
    loop {
        let (method, params) = question(next);
        let answer = client.call(method, Some(params)).await?;
        let Some(events) = answer.as_array() else {
            let words = format!("{METHOD}: unexpected result: {answer}");
            return Ok(fail(ExitCode::Failure, &words));
        };
        for event in events {
            match writeln!(std::io::stdout(), "{}", line(event, args.manage.output)) {
                Ok(()) => {}
                // A reader that has gone (`| head`) has seen enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Ok(ExitCode::Success);
                }
                Err(error) => {
                    let words = format!("cannot write to standard output: {error}");
                    return Ok(fail(ExitCode::Failure, &words));
                }
            }
            next = event["id"].as_u64().map_or(next, |id| next.max(id.saturating_add(1)));
        }
        if !args.follow {
            return Ok(ExitCode::Success);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// An event in a line: number, type, subject, and whatever else there is.
fn line(event: &Value, output: OutputFormat) -> String {
    let Some(members) = event.as_object().filter(|_| output == OutputFormat::Table) else {
        return event.to_string();
    };
    let text = |name: &str| members.get(name).map(view::text).unwrap_or_default();
    let mut line = format!("{:>6}  {:<24} {}", text("id"), text("type"), text("ctx"));
    for (name, value) in members {
        if !matches!(name.as_str(), "id" | "type" | "ctx") && !value.is_null() {
            line.push_str(&format!("  {name}={}", view::text(value)));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event =
            json!({ "id": 7, "type": "bdev_register", "ctx": "m0", "details": null, "time_us": 5 });
        let shown = line(&event, OutputFormat::Table);
        assert!(
            shown.contains("     7  bdev_register") && shown.contains(" m0  time_us=5"),
            "{shown}"
        );
        assert!(!shown.contains("details"), "{shown}");
        assert_eq!(line(&event, OutputFormat::Json), event.to_string());
    }
}
