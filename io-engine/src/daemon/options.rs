//! From the options of the command line to those of an engine.

use std::time::Duration;

use spdk_rs::env::system::cpu::{self, CoreSet};
use spdk_rs::env::{HugePolicy, MemoryOptions};
use spdk_rs::reactor::{PollMode, RuntimeOptions};

use super::DaemonError;
use crate::cli;
use crate::core::EngineOptions;

/// What an engine is made of, by the command line: cores that can be used, memory, polling.
///
/// # Errors
/// [`DaemonError::Cores`] or [`DaemonError::Cpu`] for cores that cannot be read or used.
pub fn engine_options(env: &cli::EnvArgs) -> Result<EngineOptions, DaemonError> {
    let cores = cores(env)?;
    cpu::check_cores(&cores)?;
    let mut memory = MemoryOptions {
        size_bytes: usize::try_from(u64::from(env.mem_size) << 20).unwrap_or(usize::MAX),
        backing: Default::default(),
    };
    memory.backing.huge = match (&env.huge_dir, env.no_huge) {
        (_, true) => HugePolicy::Never,
        // Who names a directory wants its pages, or to hear why not.
        (Some(_), false) => HugePolicy::Require,
        (None, false) => HugePolicy::Prefer,
    };
    memory.backing.huge_dir.clone_from(&env.huge_dir);
    memory.backing.numa_node = common_node(&cores);
    let mode = match (env.poll_mode, env.spin_us) {
        (cli::PollMode::Busy, _) => PollMode::Busy,
        (cli::PollMode::Adaptive, None) => PollMode::default(),
        (cli::PollMode::Adaptive, Some(us)) => {
            PollMode::Adaptive { spin: Duration::from_micros(us.into()) }
        }
    };
    let runtime = RuntimeOptions { cores, mode, ring: true };
    Ok(EngineOptions { memory, runtime })
}

/// The cores asked for; without a wish, the first one that the process may use.
fn cores(env: &cli::EnvArgs) -> Result<CoreSet, DaemonError> {
    match (&env.reactor_mask, &env.core_list) {
        (Some(mask), _) => Ok(CoreSet::parse_mask(mask)?),
        (None, Some(list)) => Ok(CoreSet::parse_list(list)?),
        (None, None) => Ok(cpu::allowed().first().into_iter().collect()),
    }
}

/// The NUMA node that all cores belong to, on a machine that has several.
pub(super) fn common_node(cores: &CoreSet) -> Option<u32> {
    if cpu::numa_nodes().len() < 2 {
        return None;
    }
    let mut nodes = cores.iter().map(cpu::numa_node_of);
    let first = nodes.next()??;
    nodes.all(|node| node == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::EnvArgs;

    fn env() -> EnvArgs {
        EnvArgs { mem_size: 8, ..EnvArgs::default() }
    }

    #[test]
    fn the_default_is_the_first_core_that_may_be_used() {
        let options = engine_options(&env()).expect("defaults");
        assert_eq!(options.runtime.cores.len(), 1);
        assert_eq!(options.runtime.cores.first(), cpu::allowed().first());
        assert_eq!(options.memory.size_bytes, 8 << 20);
        assert_eq!(options.memory.backing.huge, HugePolicy::Prefer);
        assert_eq!(options.runtime.mode, PollMode::default());
    }

    #[test]
    fn options_become_what_they_say() {
        let core = cpu::allowed().first().expect("a core");
        let list = Some(core.to_string());
        let busy =
            EnvArgs { core_list: list, no_huge: true, poll_mode: cli::PollMode::Busy, ..env() };
        let busy = engine_options(&busy).expect("busy");
        assert_eq!(busy.runtime.mode, PollMode::Busy);
        assert_eq!(busy.memory.backing.huge, HugePolicy::Never);
        let spin = EnvArgs { spin_us: Some(7), huge_dir: Some("/mnt".into()), ..env() };
        let spin = engine_options(&spin).expect("spin");
        let seven = Duration::from_micros(7);
        assert_eq!(spin.runtime.mode, PollMode::Adaptive { spin: seven });
        assert_eq!(spin.memory.backing.huge, HugePolicy::Require);
    }

    #[test]
    fn cores_that_cannot_be_are_refused() {
        for (mask, list, words) in [
            (Some("0xg"), None, "not a hexadecimal digit"),
            (Some("0"), None, "names no core"),
            (None, Some("1-"), "neither a core number nor a range"),
            (None, Some("4000"), "core 4000 does not exist"),
        ] {
            let env = EnvArgs {
                reactor_mask: mask.map(str::to_owned),
                core_list: list.map(str::to_owned),
                ..env()
            };
            let error = engine_options(&env).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.exit_code(), cli::ExitCode::Config);
        }
    }
}
