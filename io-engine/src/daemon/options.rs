//! From the options of the command line to those of an engine.

use spdk_rs::env::cpu::{self, CoreSet};

use super::DaemonError;
use crate::cli::EnvArgs;
use crate::core::EngineOptions;

/// What the daemon's engine is made of: cores that can be used, and memory near them.
///
/// # Errors
/// [`DaemonError::Cores`] or [`DaemonError::Cpu`] for cores that cannot be read or used.
pub(crate) fn engine_options(env: &EnvArgs) -> Result<EngineOptions, DaemonError> {
    let mut options = env.engine_options()?;
    // Checked again at the start of the reactors; here nothing has happened yet.
    cpu::check_cores(&options.runtime.cores)?;
    options.memory.backing.numa_node = common_node(&options.runtime.cores);
    Ok(options)
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
    use crate::cli::ExitCode;

    #[test]
    fn cores_that_cannot_be_are_refused() {
        for (mask, list, code, words) in [
            (Some("0xg"), None, ExitCode::Usage, "--reactor-mask 0xg"),
            (Some("0"), None, ExitCode::Usage, "--reactor-mask 0"),
            (None, Some("1-"), ExitCode::Usage, "--core-list 1-"),
            (None, Some("4000"), ExitCode::Config, "core 4000 does not exist"),
        ] {
            let env = EnvArgs {
                reactor_mask: mask.map(str::to_owned),
                core_list: list.map(str::to_owned),
                mem_size: 1,
                ..EnvArgs::default()
            };
            let error = engine_options(&env).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.exit_code(), code);
        }
        let first = EnvArgs { mem_size: 1, ..EnvArgs::default() };
        let first = engine_options(&first).expect("a core that may be used");
        assert_eq!(first.runtime.cores.len(), 1);
    }
}
