//! What a panic does to the daemon.
//!
//! A panic on a reactor ends the process at once: its devices would never complete an I/O again,
//! and whoever waits for one would wait for ever. Elsewhere a panic is contained by whoever runs
//! the work (a method costs one error answer), so it is logged and left at that.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::process::abort;
use std::thread;

/// How the threads of reactors are named.
const REACTOR_PREFIX: &str = "reactor_";

/// Puts the hook in place of the present one.
pub(super) fn install() {
    std::panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let words = describe(info, name);
        let backtrace = Backtrace::capture();
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!("{words}\n{backtrace}");
        } else {
            eprintln!("{words}\n{backtrace}");
        }
        if ends_process(name) {
            abort();
        }
    }));
}

fn describe(info: &PanicHookInfo<'_>, thread: &str) -> String {
    let what = info.payload_as_str().unwrap_or("a value that is no text");
    let place = info.location().map_or_else(String::new, |place| format!(" at {place}"));
    let end =
        if ends_process(thread) { "; the process ends, its devices are not flushed" } else { "" };
    format!("panic on thread '{thread}'{place}: {what}{end}")
}

fn ends_process(thread: &str) -> bool {
    thread.starts_with(REACTOR_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reactors_take_the_process_with_them_and_helpers_do_not() {
        assert!(ends_process("reactor_0") && ends_process("reactor_17"));
        assert!(!ends_process("main") && !ends_process("ioe-file-1"));
    }
}
