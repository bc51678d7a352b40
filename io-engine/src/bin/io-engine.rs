//! The daemon and its sub-commands.

use io_engine::cli::{Invocation, exit, remote};
use io_engine::daemon;

mod perf {
    pub(super) fn run(_: io_engine::perf::options::PerfArgs) -> io_engine::cli::ExitCode {
        eprintln!("io-engine: perf is not in this build");
        io_engine::cli::ExitCode::Failure
    }
}

fn main() -> std::process::ExitCode {
    let invocation = match Invocation::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(error) => return exit::usage(&error).into(),
    };
    let code = match invocation {
        Invocation::Daemon(args) => daemon::run(args),
        Invocation::Perf(args) => perf::run(*args),
        Invocation::Rpc(args) => remote::rpc(&args),
        Invocation::Bdev(args) => remote::bdev(&args),
    };
    code.into()
}
