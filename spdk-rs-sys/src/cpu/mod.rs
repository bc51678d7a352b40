//! Processor cores: which exist, which the process may use, where they sit, and pinning to them.
//!
//! Invariants:
//!
//! * Topology comes from `/sys/devices/system`; where that is hidden, the functions answer with
//!   what the scheduler tells, never with a guess.
//! * A core that [`check_cores`] accepts can be pinned to by [`pin_current_thread`], as long as
//!   nobody narrows the cpuset in between.

mod set;

use std::io;
use std::path::Path;

pub use set::{CORES_MAX, CoreId, CoreSet, CoreSetError};

use crate::sysfs;

const CPU_DIR: &str = "/sys/devices/system/cpu";
const NODE_DIR: &str = "/sys/devices/system/node";
const MASK_WORDS: usize = CORES_MAX as usize / 64;

/// A scheduler mask wide enough for every kernel; `libc::cpu_set_t` stops at 1024 cores.
type Mask = [u64; MASK_WORDS];

/// Why a set of cores cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// No core was asked for.
    #[error("no core was given; allowed: {allowed}")]
    NoCore {
        /// The cores that the process may use.
        allowed: CoreSet,
    },
    /// The machine has no such core.
    #[error("core {core} does not exist (present: {present})")]
    Absent {
        /// The core asked for.
        core: CoreId,
        /// The cores that the machine has.
        present: CoreSet,
    },
    /// The core exists and is switched off.
    #[error("core {core} is offline (online: {online})")]
    Offline {
        /// The core asked for.
        core: CoreId,
        /// The cores that are switched on.
        online: CoreSet,
    },
    /// The core is there but a cgroup cpuset or taskset(1) keeps the process off it.
    #[error("core {core} is outside the process's cpuset (allowed: {allowed})")]
    OutsideCpuset {
        /// The core asked for.
        core: CoreId,
        /// The cores that the process may use.
        allowed: CoreSet,
    },
    /// The scheduler could not be asked.
    #[error("cannot read the process's CPU affinity")]
    Affinity(#[source] io::Error),
}

/// A NUMA node and its cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumaNode {
    /// Number of the node, as the kernel counts it.
    pub id: u32,
    /// The node's cores; empty for a node that has memory only.
    pub cores: CoreSet,
}

/// The cores that are switched on, from `/sys/devices/system/cpu/online`.
///
/// Where sysfs is hidden, the cores that the process may use are all that is known to be online.
#[must_use]
pub fn online() -> CoreSet {
    read_list(&Path::new(CPU_DIR).join("online")).unwrap_or_else(allowed_or_current)
}

/// The cores that the machine has, switched on or not.
fn present() -> CoreSet {
    read_list(&Path::new(CPU_DIR).join("present")).unwrap_or_else(online)
}

/// The cores that the process may run on: what taskset(1) or a cgroup cpuset leaves of the
/// machine, from sched_getaffinity(2) of the process's main thread.
///
/// Ask before the main thread pins itself, or the answer is the core it is pinned to. Should the
/// scheduler not answer, the core that the caller runs on is all that is certain.
#[must_use]
pub fn allowed() -> CoreSet {
    allowed_or_current()
}

fn allowed_or_current() -> CoreSet {
    try_allowed().unwrap_or_else(|_| std::iter::once(current_core()).collect())
}

/// As [`allowed`], with the error of sched_getaffinity(2).
fn try_allowed() -> io::Result<CoreSet> {
    affinity_of(i32::try_from(std::process::id()).unwrap_or(0))
}

/// The cores that the calling thread may run on.
///
/// # Errors
///
/// The error of sched_getaffinity(2).
pub fn current_thread_cores() -> io::Result<CoreSet> {
    affinity_of(0)
}

/// The cores that a thread may run on; 0 is the calling one.
fn affinity_of(pid: i32) -> io::Result<CoreSet> {
    let mut mask: Mask = [0; MASK_WORDS];
    // SAFETY: `mask` has `size_of::<Mask>()` writable bytes, which is the length passed.
    let result = unsafe {
        libc::sched_getaffinity(pid, size_of::<Mask>(), (&raw mut mask).cast::<libc::cpu_set_t>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let in_mask = |core: &u32| mask[*core as usize / 64] & (1 << (core % 64)) != 0;
    Ok((0..CORES_MAX).filter(in_mask).map(CoreId).collect())
}

/// Checks that every core of the set exists, is online and may be used by this process.
///
/// # Errors
///
/// [`CpuError`] for the first core that cannot be used, naming the ones that can.
pub fn check_cores(cores: &CoreSet) -> Result<(), CpuError> {
    let allowed = try_allowed().map_err(CpuError::Affinity)?;
    check_against(cores, &present(), &online(), &allowed)
}

/// The decision of [`check_cores`] over given sets.
fn check_against(
    cores: &CoreSet,
    present: &CoreSet,
    online: &CoreSet,
    allowed: &CoreSet,
) -> Result<(), CpuError> {
    if cores.is_empty() {
        return Err(CpuError::NoCore { allowed: allowed.clone() });
    }
    for core in cores {
        if allowed.contains(core) {
            continue;
        }
        if !present.contains(core) {
            return Err(CpuError::Absent { core, present: present.clone() });
        }
        if !online.contains(core) {
            return Err(CpuError::Offline { core, online: online.clone() });
        }
        return Err(CpuError::OutsideCpuset { core, allowed: allowed.clone() });
    }
    Ok(())
}

/// The NUMA node of a core, or `None` on a kernel without NUMA and where sysfs is hidden.
#[must_use]
pub fn numa_node_of(core: CoreId) -> Option<u32> {
    let entries = std::fs::read_dir(Path::new(CPU_DIR).join(format!("cpu{core}"))).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| node_number(&entry.file_name()))
}

/// The NUMA nodes in ascending order; empty on a kernel without NUMA and where sysfs is hidden.
#[must_use]
pub fn numa_nodes() -> Vec<NumaNode> {
    let Ok(entries) = std::fs::read_dir(NODE_DIR) else { return Vec::new() };
    let mut nodes: Vec<NumaNode> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let id = node_number(&entry.file_name())?;
            let cores = read_list(&entry.path().join("cpulist")).unwrap_or_default();
            Some(NumaNode { id, cores })
        })
        .collect();
    nodes.sort_by_key(|node| node.id);
    nodes
}

/// The number in a directory name such as `node3`.
fn node_number(name: &std::ffi::OsStr) -> Option<u32> {
    name.to_str()?.strip_prefix("node")?.parse().ok()
}

/// A core list from a sysfs file.
fn read_list(path: &Path) -> Option<CoreSet> {
    CoreSet::parse_list(&sysfs::read_text(path)?).ok()
}

/// Binds the calling thread to one core, see sched_setaffinity(2).
///
/// # Errors
///
/// `InvalidInput` for a core that cannot exist, otherwise the kernel's error: `EINVAL` when the
/// core is offline or outside the cpuset.
pub fn pin_current_thread(core: CoreId) -> io::Result<()> {
    bind_current_thread(&std::iter::once(core).collect())
}

/// Binds the calling thread to some cores, and with it the threads that it starts from now on.
///
/// # Errors
///
/// `InvalidInput` for a core that cannot exist, otherwise the kernel's error: `EINVAL` when every
/// core is offline or outside the cpuset, or when there is none.
pub fn bind_current_thread(cores: &CoreSet) -> io::Result<()> {
    let mut mask: Mask = [0; MASK_WORDS];
    for core in cores {
        let Some(word) = mask.get_mut(core.0 as usize / 64) else {
            let last = CORES_MAX - 1;
            let text = format!("core {core} is beyond the largest possible core {last}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        *word |= 1 << (core.0 % 64);
    }
    // SAFETY: `mask` has `size_of::<Mask>()` readable bytes, which is the length passed.
    let result = unsafe {
        libc::sched_setaffinity(0, size_of::<Mask>(), (&raw const mask).cast::<libc::cpu_set_t>())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The core that the calling thread runs on at this moment.
#[must_use]
pub fn current_core() -> CoreId {
    // SAFETY: the call takes nothing. It only fails on kernels without getcpu(2), before 2.6.19.
    let core = unsafe { libc::sched_getcpu() };
    CoreId(u32::try_from(core).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> CoreSet {
        CoreSet::parse_list(text).unwrap()
    }

    #[test]
    fn the_machine_has_cores_and_the_process_may_use_some() {
        let (online, allowed) = (online(), allowed());
        assert!(!allowed.is_empty());
        assert!(allowed.iter().all(|core| online.contains(core)), "{allowed} in {online}");
        check_cores(&allowed).unwrap();
    }

    #[test]
    fn pinning_moves_the_thread() {
        for core in allowed().iter() {
            std::thread::spawn(move || {
                pin_current_thread(core).unwrap();
                assert_eq!(current_core(), core);
            })
            .join()
            .unwrap();
        }
    }

    #[test]
    fn pinning_to_an_impossible_core_fails() {
        let error = pin_current_thread(CoreId(CORES_MAX)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let absent = CoreId(CORES_MAX - 1);
        assert_eq!(pin_current_thread(absent).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn refusals_say_why() {
        let check = |cores: &str| {
            check_against(&list(cores), &list("0-7"), &list("0-5"), &list("2-3"))
                .map_err(|error| error.to_string())
        };
        assert_eq!(check("2-3"), Ok(()));
        assert_eq!(check("2,9"), Err("core 9 does not exist (present: 0-7)".into()));
        assert_eq!(check("6"), Err("core 6 is offline (online: 0-5)".into()));
        let outside = "core 4 is outside the process's cpuset (allowed: 2-3)";
        assert_eq!(check("3,4"), Err(outside.into()));
        let none = check_against(&CoreSet::new(), &list("0"), &list("0"), &list("0"));
        assert_eq!(none.unwrap_err().to_string(), "no core was given; allowed: 0");
    }

    #[test]
    fn numa_nodes_hold_their_cores() {
        for node in numa_nodes() {
            for core in node.cores.iter() {
                assert_eq!(numa_node_of(core), Some(node.id), "core {core}");
            }
        }
        assert_eq!(numa_node_of(CoreId(CORES_MAX - 1)), None);
        assert_eq!(node_number("node12".as_ref()), Some(12));
        assert_eq!(node_number("nodes".as_ref()), None);
    }
}
