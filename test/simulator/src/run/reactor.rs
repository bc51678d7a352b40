//! One reactor on virtual time per run.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use spdk_rs::env::{Clock, Memory, VirtualClock};
use spdk_rs::reactor::{LocalReactor, Reactor, ReactorConfig, sleep};
use spdk_rs_sys::cpu::CoreId;

use crate::oracle::{Failure, Rule};

/// Virtual time that a run may take. A run of some dozen operations takes milliseconds.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Turns that a run may take: what spins for ever does not let time pass fast.
const TURNS_MAX: u64 = 20_000_000;
/// Bytes of memory for I/O buffers: for all that runs at a time.
const MEMORY_BYTES: usize = 32 << 20;

/// The memory that the runs of a thread share.
///
/// # Errors
/// When there is none.
pub fn memory() -> Result<Memory, Failure> {
    Memory::ordinary(MEMORY_BYTES).map_err(|error| simulator(&error))
}

/// An error of the simulator's own surroundings.
pub(crate) fn simulator(error: &dyn std::error::Error) -> Failure {
    Failure::new(Rule::Simulator, error.to_string())
}

/// Runs a future on a reactor of its own, on virtual time and in an order by the seed.
///
/// # Errors
/// [`Rule::Hang`] when it does not end, [`Rule::Panic`] when it panics.
pub fn run<T, F, Make>(seed: u64, memory: &Memory, make: Make) -> Result<T, Failure>
where
    T: 'static,
    F: Future<Output = Result<T, Failure>> + 'static,
    Make: FnOnce(Rc<Reactor>) -> F,
{
    let config = ReactorConfig {
        clock: Clock::Virtual(VirtualClock::default()),
        seed,
        shuffle: true,
        ring: false,
        stall_limit: Duration::MAX,
        ..ReactorConfig::new(CoreId(0))
    };
    let reactor = LocalReactor::new(config, memory.clone()).map_err(|error| simulator(&error))?;
    let ran = catch_unwind(AssertUnwindSafe(|| drive(&reactor, make)));
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(reactor)));
    match (ran, dropped) {
        (Ok(result), Ok(())) => result,
        (Err(panic), _) | (_, Err(panic)) => Err(Failure::new(Rule::Panic, words(&*panic))),
    }
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn drive<T, F, Make>(reactor: &LocalReactor, make: Make) -> Result<T, Failure>
where
    T: 'static,
    F: Future<Output = Result<T, Failure>> + 'static,
    Make: FnOnce(Rc<Reactor>) -> F,
{
    let result = Rc::new(RefCell::new(None));
    let place = Rc::clone(&result);
    let future = make(Rc::clone(reactor));
    reactor.spawn("run", async move {
        let value = future.await;
        *place.borrow_mut() = Some(value);
    });
    // There is always a deadline, so the reactor never waits for the world outside.
    let late = Rc::new(Cell::new(false));
    let tell = Rc::clone(&late);
    reactor.spawn("watchdog", async move {
        sleep(TIME_MAX).await;
        tell.set(true);
    });
    for _ in 0..TURNS_MAX {
        reactor.turn();
        if let Some(value) = result.borrow_mut().take() {
            return value;
        }
        if late.get() {
            return Err(Failure::new(Rule::Hang, "nothing goes on, and something still waits"));
        }
    }
    Err(Failure::new(Rule::Hang, format!("{TURNS_MAX} turns were not enough")))
}

/// Wakes tasks that wait for a condition.
#[derive(Default)]
pub struct Changed(RefCell<Vec<Waker>>);

impl Changed {
    /// Something has changed: all who wait look again.
    pub fn tell(&self) {
        for waker in self.0.take() {
            waker.wake();
        }
    }

    /// Waits until a condition holds.
    pub async fn until(&self, mut condition: impl FnMut() -> bool) {
        std::future::poll_fn(|cx| {
            if condition() {
                return Poll::Ready(());
            }
            self.0.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_waits_for_ever_or_panics_is_a_failure() {
        let memory = memory().unwrap();
        let hang = run(1, &memory, |_| std::future::pending::<Result<(), Failure>>());
        assert_eq!(hang.unwrap_err().rule, Rule::Hang);
        let panic = run::<(), _, _>(1, &memory, |_| async { panic!("said so") }).unwrap_err();
        assert_eq!(panic, Failure::new(Rule::Panic, "said so"));
        assert_eq!(run(1, &memory, |_| async { Ok(7) }), Ok(7));
    }
}
