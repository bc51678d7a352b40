//! From the options of cores, memory and polling to an engine's options.

use std::time::Duration;

use spdk_rs::env::cpu::{self, CoreSet, CoreSetError};
use spdk_rs::env::pci::PciFilter;
use spdk_rs::env::{HugePolicy, MemoryBacking, MemoryOptions};
use spdk_rs::reactor::{self, RuntimeOptions};

use super::{EnvArgs, PollMode};
use crate::core::EngineOptions;

/// Cores that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{option} {text}")]
pub struct CoresError {
    /// The option.
    pub option: &'static str,
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub source: CoreSetError,
}

impl EnvArgs {
    /// What an engine is made of: the cores that were named, or the first one that the process
    /// may use, and memory near them.
    ///
    /// # Errors
    ///
    /// [`CoresError`] when the mask or the list cannot be read. Whether the cores can be used is
    /// for the start of the engine to find, or for `check_cores` before it.
    pub fn engine_options(&self) -> Result<EngineOptions, CoresError> {
        let mode = match self.poll_mode {
            PollMode::Busy => reactor::PollMode::Busy,
            PollMode::Adaptive => reactor::PollMode::Adaptive {
                spin: self.spin_us.map_or(reactor::PollMode::DEFAULT_SPIN, |us| {
                    Duration::from_micros(u64::from(us))
                }),
            },
        };
        let huge = match (self.no_huge, &self.huge_dir) {
            (true, _) => HugePolicy::Never,
            // Who names a directory wants these pages and no others.
            (false, Some(_)) => HugePolicy::Require,
            (false, None) => HugePolicy::Prefer,
        };
        let cores = self.cores()?;
        let numa_node = common_node(&cores);
        let backing = MemoryBacking { huge, huge_dir: self.huge_dir.clone(), numa_node };
        let memory = MemoryOptions { size_bytes: (self.mem_size as usize) << 20, backing };
        let runtime = RuntimeOptions { cores, mode, ring: true };
        let pci =
            PciFilter { allowed: self.pci_allowed.clone(), blocked: self.pci_blocked.clone() };
        Ok(EngineOptions { memory, runtime, pci })
    }

    fn cores(&self) -> Result<CoreSet, CoresError> {
        let (option, text, parsed) = match (&self.reactor_mask, &self.core_list) {
            (Some(mask), _) => ("--reactor-mask", mask, CoreSet::parse_mask(mask)),
            (None, Some(list)) => ("--core-list", list, CoreSet::parse_list(list)),
            (None, None) => return Ok(cpu::allowed().first().into_iter().collect()),
        };
        parsed.map_err(|source| CoresError { option, text: text.clone(), source })
    }
}

/// The NUMA node that all cores belong to, on a machine that has several.
fn common_node(cores: &CoreSet) -> Option<u32> {
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

    #[test]
    fn cores_come_from_the_mask_the_list_or_the_process() {
        let cores = |mask: Option<&str>, list: Option<&str>| {
            let (reactor_mask, core_list) = (mask.map(str::to_owned), list.map(str::to_owned));
            let args = EnvArgs { reactor_mask, core_list, mem_size: 1, ..EnvArgs::default() };
            args.engine_options().map(|options| options.runtime.cores.to_string())
        };
        assert_eq!(cores(Some("0x5"), None).expect("a mask"), "0,2");
        assert_eq!(cores(None, Some("1-3")).expect("a list"), "1-3");
        let first = cpu::allowed().first().expect("the process runs somewhere");
        assert_eq!(cores(None, None).expect("a core"), first.to_string());
        let refused = cores(Some("0xzz"), None).expect_err("no mask").to_string();
        assert!(refused.contains("--reactor-mask 0xzz"), "{refused}");
        assert!(cores(None, Some("3-1")).is_err());
    }

    #[test]
    fn memory_and_polling_are_those_of_the_options() {
        let args = EnvArgs { mem_size: 3, no_huge: true, spin_us: Some(7), ..EnvArgs::default() };
        let options = args.engine_options().expect("no cores are named");
        assert_eq!(options.memory.size_bytes, 3 << 20);
        assert_eq!(options.memory.backing.huge, HugePolicy::Never);
        let spin = Duration::from_micros(7);
        assert_eq!(options.runtime.mode, reactor::PollMode::Adaptive { spin });
        let args = EnvArgs { huge_dir: Some("/mnt/huge".into()), ..EnvArgs::default() };
        let options = args.engine_options().expect("no cores are named");
        assert_eq!(options.memory.backing.huge, HugePolicy::Require);
        assert_eq!(options.memory.backing.huge_dir, Some("/mnt/huge".into()));
        let args = EnvArgs { poll_mode: PollMode::Busy, ..EnvArgs::default() };
        let options = args.engine_options().expect("no cores are named");
        assert_eq!(options.runtime.mode, reactor::PollMode::Busy);
    }
}
