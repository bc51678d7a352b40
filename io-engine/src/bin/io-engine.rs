//! The daemon and its sub-commands.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::io::Write as _;

use io_engine::cli::{ExitCode, Invocation, config, exit, remote};
use io_engine::daemon;
use io_engine::perf::options::PerfArgs;
use io_engine::perf::runner;

fn main() -> std::process::ExitCode {
    let code = match Invocation::parse(std::env::args_os()) {
        Ok(Invocation::Daemon(args)) => daemon::run(&args),
        Ok(Invocation::Perf(args)) => perf(&args),
        Ok(Invocation::Export(args)) => daemon::export(&args),
        Ok(Invocation::Rpc(args)) => remote::rpc(&args),
        Ok(Invocation::Bdev(args)) => remote::bdev(&args),
        Ok(Invocation::Config(args)) => config(&args),
        Ok(Invocation::Client(command)) => command.run(),
        Err(error) => exit::usage(&error),
    };
    code.into()
}

/// Says what went wrong and with which cause, and gives the code to end with.
fn fail(error: impl Into<anyhow::Error>, code: ExitCode) -> ExitCode {
    // Nothing is left to tell anyone when standard error is closed.
    let _ = writeln!(std::io::stderr(), "io-engine: {:#}", error.into());
    code
}

fn perf(args: &PerfArgs) -> ExitCode {
    if let Err(error) = args.log.install("warn") {
        return fail(error, ExitCode::Usage);
    }
    let report = match runner::run(args) {
        Ok(report) => report,
        Err(error) => {
            let code = error.exit_code();
            return fail(error, code);
        }
    };
    let mut text = String::new();
    let printed = if args.json {
        serde_json::to_string_pretty(&report).map(|json| text = json).map_err(anyhow::Error::from)
    } else {
        write!(text, "{}", report.to_table()).map_err(anyhow::Error::from)
    };
    let printed =
        printed.and_then(|()| writeln!(std::io::stdout(), "{text}").map_err(anyhow::Error::from));
    if let Err(error) = printed {
        return fail(error.context("cannot print the results"), ExitCode::Failure);
    }
    match (report.has_mismatches(), report.has_failures()) {
        (true, _) => ExitCode::WrongData,
        (false, true) => ExitCode::Failure,
        (false, false) => ExitCode::Success,
    }
}
