//! Time for the I/O path: the processor's time-stamp counter where it can be trusted.
//!
//! [`ticks`] is what a reactor reads once a turn. It costs one `rdtsc` behind a branch that never
//! changes, or one `clock_gettime` where the counter cannot be trusted. [`ticks_hz`] is its rate.
//!
//! Invariants:
//!
//! * The source is chosen once per process and never changes, so two readings are comparable.
//! * The counter is used only if the kernel itself keeps time with it, or the processor promises
//!   an invariant rate and the kernel has not given up on it.

use std::sync::atomic::{AtomicU8, Ordering};

use once_cell::sync::OnceCell;

use crate::{os, sysfs};

/// Where [`ticks`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickSource {
    /// The processor's time-stamp counter.
    Tsc,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    Monotonic,
}

/// One second of a clock that counts nanoseconds.
const NANOSECONDS_HZ: u64 = 1_000_000_000;
/// How long the rate is measured when the processor does not tell it.
const CALIBRATION_NS: u64 = 5_000_000;
/// How long the rate is measured to confirm what the processor tells.
const CONFIRMATION_NS: u64 = 1_000_000;
/// The told rate is believed when the short measurement differs by less than 1 in 200.
const CONFIRMATION_TOLERANCE: u64 = 200;

const UNKNOWN: u8 = 0;
const TSC: u8 = 1;
const MONOTONIC: u8 = 2;

/// The chosen source, as [`ticks`] reads it.
static SOURCE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The time-stamp counter of the present core.
///
/// On processors other than x86-64 this is `CLOCK_MONOTONIC` in nanoseconds.
#[inline(always)]
#[must_use]
pub fn rdtsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has the instruction, and Linux leaves it to user space.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        os::monotonic_ns()
    }
}

/// The rate of [`rdtsc`] in Hz.
///
/// The first call takes 1 ms when the processor tells its rate (CPUID leaf 0x15, or leaf
/// 0x4000_0010 of a hypervisor) and a short measurement confirms it, otherwise up to 6 ms.
#[must_use]
pub fn tsc_hz() -> u64 {
    static HZ: OnceCell<u64> = OnceCell::new();
    *HZ.get_or_init(|| {
        if cfg!(not(target_arch = "x86_64")) {
            return NANOSECONDS_HZ;
        }
        if let Some(told) = told_hz()
            && told.abs_diff(measure_hz(CONFIRMATION_NS)) < told / CONFIRMATION_TOLERANCE
        {
            return told;
        }
        measure_hz(CALIBRATION_NS)
    })
}

/// Whether the processor promises a counter that runs at one rate through all power states
/// (CPUID leaf 0x8000_0007, EDX bit 8).
#[must_use]
pub fn tsc_is_invariant() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        const POWER_LEAF: u32 = 0x8000_0007;
        cpuid(0x8000_0000).eax >= POWER_LEAF && cpuid(POWER_LEAF).edx & (1 << 8) != 0
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Where [`ticks`] come from in this process.
#[must_use]
pub fn tick_source() -> TickSource {
    match SOURCE.load(Ordering::Relaxed) {
        TSC => TickSource::Tsc,
        MONOTONIC => TickSource::Monotonic,
        _ => choose_source(),
    }
}

/// The present time in ticks; their zero is arbitrary and their rate is [`ticks_hz`].
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    if SOURCE.load(Ordering::Relaxed) == TSC { rdtsc() } else { slow_ticks() }
}

/// How many ticks there are in a second.
#[must_use]
pub fn ticks_hz() -> u64 {
    match tick_source() {
        TickSource::Tsc => tsc_hz(),
        TickSource::Monotonic => NANOSECONDS_HZ,
    }
}

/// The first reading of a process, and all of them where the counter cannot be trusted.
#[cold]
#[inline(never)]
fn slow_ticks() -> u64 {
    match tick_source() {
        TickSource::Tsc => rdtsc(),
        TickSource::Monotonic => os::monotonic_ns(),
    }
}

/// Chooses the source; several threads may do so at once and come to the same result.
#[cold]
fn choose_source() -> TickSource {
    static CHOSEN: OnceCell<TickSource> = OnceCell::new();
    let source = *CHOSEN.get_or_init(|| {
        let clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let kernel_clock = sysfs::read_text(clock);
        let is_x86 = cfg!(target_arch = "x86_64");
        decide_source(is_x86, tsc_is_invariant(), kernel_clock.as_deref())
    });
    let value = if source == TickSource::Tsc { TSC } else { MONOTONIC };
    SOURCE.store(value, Ordering::Relaxed);
    source
}

/// The decision of [`tick_source`]: the processor, its promise, and the clock that the kernel uses.
///
/// A kernel that finds the counter unstable falls back to `hpet`, `acpi_pm` or `jiffies`; it then
/// must not be used here either, whatever the processor promises.
fn decide_source(is_x86: bool, invariant: bool, kernel_clock: Option<&str>) -> TickSource {
    let trusted = match kernel_clock {
        Some("tsc" | "tsc-early") => true,
        Some("hpet" | "acpi_pm" | "jiffies" | "refined-jiffies" | "pit") => false,
        _ => invariant,
    };
    if is_x86 && trusted { TickSource::Tsc } else { TickSource::Monotonic }
}

/// Measures the counter against the raw monotonic clock for about `duration_ns`.
fn measure_hz(duration_ns: u64) -> u64 {
    let (start_ns, start_ticks) = paired_reading();
    let deadline = start_ns + duration_ns;
    let (mut end_ns, mut end_ticks) = paired_reading();
    while end_ns < deadline {
        std::hint::spin_loop();
        (end_ns, end_ticks) = paired_reading();
    }
    let elapsed_ns = u128::from(end_ns - start_ns);
    let elapsed_ticks = u128::from(end_ticks.wrapping_sub(start_ticks));
    u64::try_from(elapsed_ticks * u128::from(NANOSECONDS_HZ) / elapsed_ns).unwrap_or(u64::MAX)
}

/// The raw monotonic clock and the counter at one moment.
///
/// The counter is read on both sides of the clock. The tightest of a few tries is kept, so that an
/// interrupt between the readings does not spoil the pair.
fn paired_reading() -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..8 {
        let before = rdtsc();
        let now_ns = os::clock_ns(libc::CLOCK_MONOTONIC_RAW);
        let width = rdtsc().wrapping_sub(before);
        if width < best.0 {
            best = (width, now_ns, before.wrapping_add(width / 2));
        }
    }
    (best.1, best.2)
}

/// The rate that the processor or the hypervisor tells, or `None`.
fn told_hz() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        crystal_hz().or_else(hypervisor_hz)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        None
    }
}

#[cfg(target_arch = "x86_64")]
fn cpuid(leaf: u32) -> std::arch::x86_64::CpuidResult {
    std::arch::x86_64::__cpuid(leaf)
}

/// CPUID leaf 0x15: crystal frequency times the ratio of counter to crystal (Intel SDM, CPUID).
///
/// Leaf 0x16 (nominal frequency) is deliberately not used: it is rounded to a MHz, which is less
/// exact than a measurement of some milliseconds.
#[cfg(target_arch = "x86_64")]
fn crystal_hz() -> Option<u64> {
    const CRYSTAL_LEAF: u32 = 0x15;
    if cpuid(0).eax < CRYSTAL_LEAF {
        return None;
    }
    let leaf = cpuid(CRYSTAL_LEAF);
    if leaf.eax == 0 || leaf.ebx == 0 || leaf.ecx == 0 {
        return None;
    }
    Some(u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax))
}

/// Leaf 0x4000_0010 of a hypervisor: the counter's rate in kHz.
#[cfg(target_arch = "x86_64")]
fn hypervisor_hz() -> Option<u64> {
    const HYPERVISOR_LEAF: u32 = 0x4000_0000;
    const TIMING_LEAF: u32 = 0x4000_0010;
    let in_hypervisor = cpuid(1).ecx & (1 << 31) != 0;
    if !in_hypervisor || cpuid(HYPERVISOR_LEAF).eax < TIMING_LEAF {
        return None;
    }
    let khz = cpuid(TIMING_LEAF).eax;
    (khz != 0).then(|| u64::from(khz) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_advance_on_one_thread() {
        let first = ticks();
        let mut last = first;
        for _ in 0..1000 {
            let now = ticks();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
        assert!(last > first);
    }

    #[test]
    fn rates_are_plausible_and_stable() {
        let hz = tsc_hz();
        assert!((100_000_000..20_000_000_000).contains(&hz), "{hz}");
        assert_eq!(hz, tsc_hz());
        let ticks_hz = ticks_hz();
        match tick_source() {
            TickSource::Tsc => assert_eq!(ticks_hz, hz),
            TickSource::Monotonic => assert_eq!(ticks_hz, 1_000_000_000),
        }
    }

    #[test]
    fn the_source_follows_the_kernel_then_the_processor() {
        use TickSource::{Monotonic, Tsc};
        for (is_x86, invariant, clock, expected) in [
            (true, false, Some("tsc"), Tsc),
            (true, true, Some("kvm-clock"), Tsc),
            (true, false, Some("kvm-clock"), Monotonic),
            (true, true, Some("hpet"), Monotonic),
            (true, true, Some("acpi_pm"), Monotonic),
            (true, true, None, Tsc),
            (true, false, None, Monotonic),
            (false, true, Some("tsc"), Monotonic),
            (false, false, Some("arch_sys_counter"), Monotonic),
        ] {
            let chosen = decide_source(is_x86, invariant, clock);
            assert_eq!(chosen, expected, "{is_x86} {invariant} {clock:?}");
        }
    }

    #[test]
    fn ticks_follow_the_wall_clock() {
        let start = ticks();
        let start_ns = os::monotonic_ns();
        while os::monotonic_ns() - start_ns < 2_000_000 {
            std::hint::spin_loop();
        }
        // The counter is read outside of the clock's readings, so that the lower bound holds however
        // late the thread is scheduled; 5 % cover the calibration.
        let elapsed_ns = u128::from(ticks() - start) * 1_000_000_000 / u128::from(ticks_hz());
        assert!(elapsed_ns > 1_900_000, "{elapsed_ns} ns");
    }
}
