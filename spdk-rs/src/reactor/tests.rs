//! Reactors by themselves: turns, tasks, messages, time, sleep.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use spdk_rs_sys::cpu::{self, CoreId, CoreSet};

use super::*;
use crate::env::{Clock, Memory, VirtualClock};

fn memory() -> Memory {
    Memory::ordinary(4 << 20).unwrap()
}

fn virtual_reactor() -> (LocalReactor, VirtualClock) {
    let time = VirtualClock::default();
    let config = ReactorConfig {
        clock: Clock::Virtual(time.clone()),
        ring: false,
        ..ReactorConfig::new(CoreId(0))
    };
    (LocalReactor::new(config, memory()).unwrap(), time)
}

fn real_reactor(ring: bool) -> LocalReactor {
    let config = ReactorConfig { ring, ..ReactorConfig::new(CoreId(0)) };
    LocalReactor::new(config, memory()).unwrap()
}

#[test]
fn virtual_time_goes_straight_to_the_next_deadline() {
    let (reactor, time) = virtual_reactor();
    let order = Rc::new(RefCell::new(Vec::new()));
    for (name, delay) in [("late", 3600), ("early", 60)] {
        let order = Rc::clone(&order);
        reactor.spawn(name, async move {
            sleep(Duration::from_secs(delay)).await;
            order.borrow_mut().push(name);
        });
    }
    reactor.block_on(async { sleep(Duration::from_secs(7200)).await });
    assert_eq!(*order.borrow(), ["early", "late"]);
    let hours = time.now_ns() / 1_000_000_000;
    assert!((7200..7201).contains(&hours), "{hours} s of virtual time");
    assert_eq!(reactor.live_tasks(), 0);
}

#[test]
fn a_dropped_wait_leaves_no_timer() {
    let (reactor, _) = virtual_reactor();
    let mut wait = Box::pin(sleep(Duration::from_secs(5)));
    reactor.block_on(async move {
        std::future::poll_fn(|cx| {
            assert!(wait.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        drop(wait);
    });
    assert_eq!(reactor.timers().earliest(), None);
}

#[test]
fn periodic_pollers_run_on_time_and_end_with_their_handles() {
    let (reactor, time) = virtual_reactor();
    let runs = Rc::new(RefCell::new(Vec::new()));
    let (seen, clock) = (Rc::clone(&runs), time.clone());
    let poller = reactor.register_poller("tick", Some(Duration::from_millis(10)), move || {
        seen.borrow_mut().push(clock.now_ns() / 1_000_000);
        Progress::Busy
    });
    reactor.block_on(async { sleep(Duration::from_millis(45)).await });
    assert_eq!(*runs.borrow(), [10, 20, 30, 40]);
    assert_eq!(reactor.poller_stats()[0].runs, 4);
    drop(poller);
    reactor.block_on(async { sleep(Duration::from_millis(50)).await });
    assert_eq!(runs.borrow().len(), 4);
}

#[test]
fn a_stall_is_named_after_what_held_the_core() {
    let (reactor, time) = virtual_reactor();
    let slow = time.clone();
    let once = Cell::new(true);
    let _quick =
        reactor.register_poller("quick", Some(Duration::from_millis(1)), || Progress::Busy);
    let _poller = reactor.register_poller("slow disk", Some(Duration::from_millis(1)), move || {
        if once.replace(false) {
            slow.advance(Duration::from_millis(80));
        }
        Progress::Busy
    });
    reactor.block_on(async { sleep(Duration::from_millis(200)).await });
    let (name, ticks) = reactor.last_stall().unwrap();
    assert_eq!(name, "slow disk");
    assert!(ticks >= 80_000_000);
    assert_eq!(reactor.handle().stats().stalls, 1);
}

#[test]
fn messages_from_other_threads_wake_a_sleeping_reactor_with_and_without_a_ring() {
    for ring in [true, false] {
        let reactor = real_reactor(ring);
        let handle = reactor.handle();
        let sender = std::thread::spawn(move || {
            futures::executor::block_on(async {
                let mut sum = 0;
                for i in 0..200u64 {
                    sum += handle.call(move |_| i).await.unwrap();
                }
                // A task that itself waits is answered too.
                sum += handle
                    .spawn(|_| async {
                        sleep(Duration::from_millis(1)).await;
                        1
                    })
                    .await
                    .unwrap();
                handle.send(|reactor| reactor.stop()).await.unwrap();
                sum
            })
        });
        reactor.run();
        assert_eq!(sender.join().unwrap(), 199 * 200 / 2 + 1);
    }
}

#[test]
fn an_idle_reactor_sleeps_instead_of_turning() {
    for ring in [true, false] {
        let reactor = real_reactor(ring);
        reactor.block_on(async { sleep(Duration::from_millis(30)).await });
        let stats = reactor.handle().stats();
        assert!(stats.sleeps > 0, "ring {ring}: {stats:?}");
        let slept = Duration::from_nanos(stats.sleep_ns());
        assert!(slept > Duration::from_millis(10), "ring {ring}: slept {slept:?}");
    }
}

#[test]
fn a_full_mailbox_makes_the_sender_wait_and_drops_nothing() {
    let reactor = real_reactor(false);
    let handle = reactor.handle();
    let count = Arc::new(AtomicUsize::new(0));
    let mut accepted = 0;
    let refused = loop {
        let count = Arc::clone(&count);
        match handle.try_send(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        }) {
            Ok(()) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    let sender = std::thread::spawn(move || {
        futures::executor::block_on(async {
            handle.send(refused.0).await.unwrap();
            handle.send(|reactor| reactor.stop()).await.unwrap();
        });
    });
    reactor.run();
    sender.join().unwrap();
    assert_eq!(count.load(Ordering::Relaxed), accepted + 1);
}

#[test]
fn senders_learn_that_a_reactor_has_ended() {
    let reactor = real_reactor(false);
    let handle = reactor.handle();
    drop(reactor);
    let answer = futures::executor::block_on(handle.call(|_| ()));
    assert_eq!(answer, Err(ReactorGone(CoreId(0))));
    assert!(handle.try_send(|_| ()).is_err());
}

#[test]
fn tasks_end_with_their_reactor() {
    let token = Rc::new(());
    let reactor = real_reactor(false);
    let held = Rc::clone(&token);
    reactor.spawn("for ever", async move {
        std::future::pending::<()>().await;
        drop(held);
    });
    reactor.turn();
    assert_eq!((Rc::strong_count(&token), reactor.live_tasks()), (2, 1));
    drop(reactor);
    assert_eq!(Rc::strong_count(&token), 1);
}

#[test]
fn a_late_wake_up_of_a_finished_task_is_ignored() {
    let reactor = real_reactor(false);
    let kept = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&kept);
    reactor.spawn("short", async move {
        std::future::poll_fn(|cx| {
            *keep.borrow_mut() = Some(cx.waker().clone());
            std::task::Poll::Ready(())
        })
        .await;
    });
    reactor.turn();
    let polls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&polls);
    reactor.spawn("takes the place of the other", async move {
        std::future::poll_fn(|_| {
            counted.set(counted.get() + 1);
            std::task::Poll::<()>::Pending
        })
        .await;
    });
    reactor.turn();
    let waker = kept.take().unwrap();
    waker.wake_by_ref();
    std::thread::spawn(move || waker.wake()).join().unwrap();
    reactor.turn();
    reactor.turn();
    assert_eq!(polls.get(), 1);
}

#[test]
fn offloaded_work_comes_back_to_its_client() {
    struct Client(RefCell<Vec<(u64, i32)>>);
    impl CompletionClient for Client {
        fn completed(&self, token: u64, result: i32, _flags: u32) {
            self.0.borrow_mut().push((token, result));
        }
    }
    fn negate(args: [u64; 4]) -> i32 {
        -i32::try_from(args[0]).unwrap()
    }
    let reactor = real_reactor(true);
    let client = Rc::new(Client(RefCell::default()));
    let shared: Rc<dyn CompletionClient> = Rc::<Client>::clone(&client);
    let id = reactor.add_client(shared).unwrap();
    for token in 0..10 {
        reactor.offload_file_op(id, token, negate, [token * 2, 0, 0, 0]).unwrap();
    }
    while client.0.borrow().len() < 10 {
        reactor.turn();
    }
    let mut results = client.0.take();
    results.sort_unstable();
    assert!(results.iter().all(|&(token, result)| i64::from(result) == -2 * token.cast_signed()));
}

#[test]
fn a_runtime_has_a_pinned_reactor_per_core() {
    let cores: CoreSet = cpu::allowed().iter().take(2).collect();
    let options = RuntimeOptions { cores: cores.clone(), mode: PollMode::default(), ring: true };
    let runtime = Runtime::start(&options, memory()).unwrap();
    assert_eq!(runtime.reactors().len(), cores.len());
    for handle in runtime.reactors() {
        let here = futures::executor::block_on(handle.call(|_| cpu::current_core())).unwrap();
        assert_eq!(here, handle.core());
    }
    let handles: Vec<_> = runtime.reactors().to_vec();
    drop(runtime);
    assert!(handles.iter().all(ReactorHandle::has_ended));
}

#[test]
fn helpers_keep_off_the_reactors_cores() {
    let allowed = cpu::allowed();
    let cores: CoreSet = allowed.iter().take(1).collect();
    let others: CoreSet = allowed.iter().skip(1).collect();
    let options = RuntimeOptions { cores, mode: PollMode::default(), ring: true };
    let runtime = Runtime::start(&options, memory()).unwrap();
    assert_eq!(runtime.allowed_cores(), &allowed);
    let wanted = if others.is_empty() { allowed } else { others };
    // Asked for by a reactor, which may have nobody else on its core.
    let (tell, told) = std::sync::mpsc::channel();
    let offload = runtime.offload().clone();
    let asked = runtime.first().unwrap().call(move |_| {
        offload.run(move || tell.send(cpu::current_thread_cores().unwrap()).unwrap());
    });
    futures::executor::block_on(asked).unwrap();
    assert_eq!(told.recv().unwrap(), wanted);
    runtime.keep_off();
    assert_eq!(cpu::current_thread_cores().unwrap(), wanted);
}

#[test]
fn a_core_that_does_not_exist_is_refused_by_number() {
    let cores: CoreSet = [CoreId(4000)].into_iter().collect();
    let options = RuntimeOptions { cores, mode: PollMode::Busy, ring: false };
    let Err(error) = Runtime::start(&options, memory()) else { panic!("core 4000 was accepted") };
    let RuntimeError::Cores(source) = error else { panic!("{error}") };
    assert!(source.to_string().contains("4000"), "{source}");
}

/// Ends the run of its reactor when something completed.
struct Stop(Rc<Reactor>);

impl CompletionClient for Stop {
    fn completed(&self, _: u64, _: i32, _: u32) {
        self.0.stop();
    }
}

/// A descriptor of somebody else (kernel AIO has one) must not make a sleeping reactor deaf to its
/// own ring, nor the other way round. A timer wakes a deaf one, so that the test can say so.
#[test]
fn a_reactor_with_a_watched_descriptor_is_woken_by_both() {
    use std::io::Write as _;
    use std::os::fd::{AsFd as _, AsRawFd as _};
    use std::sync::atomic::AtomicBool;

    let reactor = real_reactor(true);
    let Some(ring) = reactor.ring() else { return };
    let client = reactor.add_client(Rc::new(Stop(Rc::clone(&reactor)))).unwrap();
    let (guest, mut guest_writer) = std::io::pipe().unwrap();
    reactor.watch(guest.as_fd()).unwrap();
    let deaf = Rc::new(Cell::new(false));
    let (same, timer) = (Rc::clone(&deaf), Rc::clone(&reactor));
    reactor.spawn("limit", async move {
        sleep(Duration::from_secs(20)).await;
        same.set(true);
        timer.stop();
    });
    for round in 0..20 {
        let (own, mut writer) = std::io::pipe().unwrap();
        let user_data = ReactorRing::user_data(client, 7);
        assert!(ring.push_late(|ring| ring.poll_once(own.as_raw_fd(), 1, user_data).is_ok()));
        let thread = std::thread::spawn(move || {
            // Long after the reactor has fallen asleep.
            std::thread::park_timeout(Duration::from_millis(20));
            writer.write_all(&[1]).unwrap();
            writer
        });
        reactor.run();
        assert!(!deaf.get(), "round {round}: the ring did not wake the reactor");
        drop(thread.join());
    }
    let written = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&written);
    let thread = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(20));
        told.store(true, Ordering::SeqCst);
        guest_writer.write_all(&[1]).unwrap();
        guest_writer
    });
    while !written.load(Ordering::SeqCst) {
        reactor.turn();
    }
    assert!(!deaf.get(), "the guest did not wake the reactor");
    drop(thread.join());
    reactor.unwatch(guest.as_fd());
}
