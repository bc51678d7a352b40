//! How long a sleeping reactor takes to run a message from another thread.
//!
//! `cargo bench -p spdk-rs --bench wakeup`: a thread sends a closure to an idle reactor a thousand
//! times, with a pause before each in which the reactor falls asleep; the time from the send to
//! the closure's first instruction is taken with the clock that both share. Busy polling is shown
//! beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use spdk_rs::env::{Clock, Memory};
use spdk_rs::reactor::{PollMode, Runtime, RuntimeOptions};
use spdk_rs_sys::cpu;

const ROUNDS: usize = 1000;

fn main() {
    let cores = cpu::allowed();
    let Some(core) = cores.iter().next_back() else { return };
    println!("reactor on core {core} of {cores}; {ROUNDS} messages, each to a reactor at rest");
    for (name, mode) in [("adaptive", PollMode::default()), ("busy", PollMode::Busy)] {
        let mut times = measure(core, mode);
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        println!(
            "{name:9} median {:>7.1} µs   p90 {:>7.1} µs   p99 {:>7.1} µs   max {:>7.1} µs",
            micros(at(50)),
            micros(at(90)),
            micros(at(99)),
            micros(at(100)),
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "the pause lets the reactor fall asleep")]
fn measure(core: cpu::CoreId, mode: PollMode) -> Vec<u64> {
    let options = RuntimeOptions { cores: [core].into_iter().collect(), mode, ring: true };
    let memory = Memory::ordinary(2 << 20).expect("2 MiB of memory");
    let runtime = Runtime::start(&options, memory).expect("a reactor");
    let reactor = runtime.first().expect("one reactor").clone();
    let arrived = Arc::new(AtomicU64::new(0));
    (0..ROUNDS)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(2));
            let arrive = Arc::clone(&arrived);
            let sent = Clock::Real.ticks();
            let call = reactor.call(move |_| {
                arrive.store(Clock::Real.ticks(), Ordering::Release);
            });
            futures::executor::block_on(call).expect("the reactor runs");
            Clock::Real.duration_of(arrived.load(Ordering::Acquire).saturating_sub(sent))
        })
        .map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        .collect()
}

fn micros(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64() * 1e6
}
