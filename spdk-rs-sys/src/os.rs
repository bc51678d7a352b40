//! The process and its thread as the kernel sees them: identity, limits, clocks, memory.

use std::io;

use crate::sysfs;

/// Bit of `CAP_IPC_LOCK` in a capability set, see capabilities(7).
const CAP_IPC_LOCK: u32 = 14;
/// Bit of `CAP_SYS_ADMIN` in a capability set, see capabilities(7).
const CAP_SYS_ADMIN: u32 = 21;
/// Bit of `CAP_SYS_NICE` in a capability set, see capabilities(7).
const CAP_SYS_NICE: u32 = 23;
/// Longest thread name that the kernel keeps, without its terminating zero, see prctl(2).
const THREAD_NAME_BYTES_MAX: usize = 15;

/// A resource limit in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// At most this many bytes.
    Bytes(u64),
    /// No limit.
    Unlimited,
}

impl Limit {
    /// Whether `bytes` is within the limit.
    #[must_use]
    pub fn admits(self, bytes: u64) -> bool {
        match self {
            Self::Bytes(limit) => bytes <= limit,
            Self::Unlimited => true,
        }
    }
}

/// A limit on locked memory for an error text.
pub(crate) fn limit_text(limit: Option<Limit>) -> String {
    match limit {
        Some(Limit::Bytes(bytes)) => format!("the limit on locked memory is {bytes} bytes"),
        Some(Limit::Unlimited) => "locked memory is not limited".to_owned(),
        None => "the limit on locked memory is unknown".to_owned(),
    }
}

/// How much memory the process may lock: the soft `RLIMIT_MEMLOCK`, see getrlimit(2).
///
/// A process that holds `CAP_IPC_LOCK` is not bound by it, see [`Privileges::ipc_lock`].
///
/// # Errors
///
/// The error of getrlimit(2).
pub fn memlock_limit() -> io::Result<Limit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid structure that the call fills.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(if limit.rlim_cur == libc::RLIM_INFINITY {
        Limit::Unlimited
    } else {
        Limit::Bytes(limit.rlim_cur)
    })
}

/// The effective user id of the process.
#[must_use]
pub fn uid() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// The effective capabilities that matter to a storage engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// `CAP_IPC_LOCK`: memory may be locked beyond `RLIMIT_MEMLOCK`.
    pub ipc_lock: bool,
    /// `CAP_SYS_ADMIN`: physical addresses are visible in `/proc/self/pagemap`.
    pub sys_admin: bool,
    /// `CAP_SYS_NICE`: memory and threads may be placed freely.
    pub sys_nice: bool,
}

impl Privileges {
    /// Decodes a capability bit mask.
    fn from_mask(mask: u64) -> Self {
        let has = |bit: u32| mask & (1 << bit) != 0;
        Self {
            ipc_lock: has(CAP_IPC_LOCK),
            sys_admin: has(CAP_SYS_ADMIN),
            sys_nice: has(CAP_SYS_NICE),
        }
    }
}

/// The effective capabilities of the process, from `CapEff` in `/proc/self/status`.
///
/// Where `/proc` is not mounted nothing is claimed: every capability reads as missing.
#[must_use]
pub fn privileges() -> Privileges {
    status_field("CapEff:")
        .and_then(|text| u64::from_str_radix(&text, 16).ok())
        .map(Privileges::from_mask)
        .unwrap_or_default()
}

/// The first word that follows `name` in `/proc/self/status`.
fn status_field(name: &str) -> Option<String> {
    let status = sysfs::read_text("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// The largest resident set the process ever had, in bytes, see getrusage(2).
///
/// # Errors
///
/// The error of getrusage(2).
pub fn max_rss() -> io::Result<u64> {
    // SAFETY: all-zero is a valid value of this plain structure of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid structure that the call fills.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024)
}

/// The present resident set of the process in bytes, from `VmRSS` in `/proc/self/status`.
#[must_use]
pub fn current_rss() -> Option<u64> {
    status_field("VmRSS:")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Bytes of ordinary memory that can be taken without swapping, `MemAvailable` in proc(5).
///
/// An estimate of the kernel for the whole machine: neither the limit of a control group nor free
/// pages in the pools of huge pages are part of it. `None` where `/proc` is not mounted.
#[must_use]
pub fn available_memory() -> Option<u64> {
    available_in(&sysfs::read_text("/proc/meminfo")?)
}

/// The bytes of `MemAvailable` in the text of `/proc/meminfo`.
fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

/// Reads a clock in nanoseconds.
///
/// The clocks used here exist on every kernel that this crate supports and never fail; a failure
/// would read as 0.
#[inline]
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid structure that the call fills.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// `CLOCK_MONOTONIC` in nanoseconds: never goes back, stands still while the machine is suspended.
#[inline]
#[must_use]
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_REALTIME` in nanoseconds since 1970-01-01 UTC; may jump.
#[inline]
#[must_use]
pub fn realtime_ns() -> u64 {
    clock_ns(libc::CLOCK_REALTIME)
}

/// Processor time of the calling thread in nanoseconds, user and system.
#[inline]
#[must_use]
pub fn thread_cpu_time() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time of the whole process in nanoseconds, user and system.
#[inline]
#[must_use]
pub fn process_cpu_time() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Names the calling thread, as `top -H` and a debugger show it.
///
/// The kernel keeps 15 bytes; a longer name is cut at the last character that fits, and the name
/// ends at the first zero byte.
///
/// # Errors
///
/// The error of prctl(2).
pub fn set_thread_name(name: &str) -> io::Result<()> {
    let name = name.split('\0').next().unwrap_or_default();
    let mut end = name.len().min(THREAD_NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let mut text = [0_u8; THREAD_NAME_BYTES_MAX + 1];
    text[..end].copy_from_slice(&name.as_bytes()[..end]);
    // SAFETY: `text` is a zero-terminated string of at most 16 bytes, as PR_SET_NAME demands.
    let result = unsafe { libc::prctl(libc::PR_SET_NAME, text.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_advance_and_cpu_time_is_counted() {
        let (wall, thread, process) = (monotonic_ns(), thread_cpu_time(), process_cpu_time());
        let mut sum = 0_u64;
        for value in 0..2_000_000_u64 {
            sum = std::hint::black_box(sum ^ value);
        }
        assert!(monotonic_ns() > wall);
        assert!(thread_cpu_time() > thread);
        assert!(process_cpu_time() > process);
        // 2020-01-01: the machine's wall clock is set.
        assert!(realtime_ns() > 1_577_836_800_000_000_000);
    }

    #[test]
    fn resident_set_grows_with_touched_memory() {
        let memory = vec![1_u8; 8 << 20];
        std::hint::black_box(&memory);
        assert!(max_rss().unwrap() >= 8 << 20);
        assert!(current_rss().unwrap() >= 8 << 20);
    }

    #[test]
    fn available_memory_is_read_from_its_line() {
        let text = "MemTotal:       16315336 kB\nMemFree:   12 kB\nMemAvailable:   11534336 kB\n";
        assert_eq!(available_in(text), Some(11_534_336 * 1024));
        for without in ["", "MemFree: 12 kB", "MemAvailable: 12", "MemAvailable: -1 kB"] {
            assert_eq!(available_in(without), None, "{without:?}");
        }
        let available = available_memory().unwrap();
        assert!(available > 1 << 20 && available < 1 << 50, "{available}");
    }

    #[test]
    fn thread_name_is_cut_at_a_character() {
        let shown = |name: &str| {
            set_thread_name(name).unwrap();
            std::fs::read_to_string("/proc/thread-self/comm").unwrap().trim().to_owned()
        };
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    assert_eq!(shown("reactor_7"), "reactor_7");
                    assert_eq!(shown("a_name_that_is_too_long"), "a_name_that_is_");
                    assert_eq!(shown("fourteen_bytesé"), "fourteen_bytes");
                    assert_eq!(shown("cut\0here"), "cut");
                })
                .join()
                .unwrap();
        });
    }

    #[test]
    fn capability_bits_are_decoded() {
        assert_eq!(Privileges::from_mask(0), Privileges::default());
        let lock = Privileges::from_mask(1 << 14);
        assert!(lock.ipc_lock && !lock.sys_admin && !lock.sys_nice);
        let admin = Privileges::from_mask(1 << 21);
        assert!(!admin.ipc_lock && admin.sys_admin && !admin.sys_nice);
        let nice = Privileges::from_mask(1 << 23);
        assert!(!nice.ipc_lock && !nice.sys_admin && nice.sys_nice);
    }

    #[test]
    fn limits_admit_up_to_their_value() {
        assert!(Limit::Bytes(4096).admits(4096));
        assert!(!Limit::Bytes(4096).admits(4097));
        assert!(Limit::Unlimited.admits(u64::MAX));
        memlock_limit().unwrap();
    }
}
