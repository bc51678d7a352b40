//! What is seen of a device: statistics, histograms, queue depth, errors, time limits.
#![expect(clippy::disallowed_types, reason = "a listener may be called on any thread")]

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::reactor::sleep;

fn virtual_reactor() -> LocalReactor {
    let config = ReactorConfig {
        clock: Clock::Virtual(VirtualClock::default()),
        ring: false,
        ..ReactorConfig::new(CoreId(0))
    };
    LocalReactor::new(config, Memory::ordinary(16 << 20).unwrap()).unwrap()
}

fn pass(reactor: &LocalReactor, time: Duration) {
    reactor.block_on(async move { sleep(time).await });
}

/// A device whose I/O takes the time that is set, and then ends as is set; until it is reset.
struct Slow;

thread_local! {
    static TAKES: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static ENDS: Cell<NvmeStatus> = const { Cell::new(NvmeStatus::SUCCESS) };
    static RESETS: Cell<u32> = const { Cell::new(0) };
}

#[derive(Default)]
struct SlowChannel(Rc<RefCell<Vec<(u64, BdevIo)>>>);

impl BdevOps for Slow {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[IoType::Read, IoType::Write])
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::<SlowChannel>::default())
    }
}

impl BdevChannel for SlowChannel {
    fn submit(&mut self, io: BdevIo) {
        let (serial, status) = (io.submit_ticks(), ENDS.get());
        self.0.borrow_mut().push((serial, io));
        let all = Rc::clone(&self.0);
        Reactor::current().unwrap().spawn("slow I/O", async move {
            sleep(TAKES.get()).await;
            let at = all.borrow().iter().position(|(other, _)| *other == serial);
            if let Some(at) = at {
                let (_, io) = all.borrow_mut().remove(at);
                io.complete(status);
            }
        });
    }

    fn reset(&mut self) -> NvmeStatus {
        RESETS.set(RESETS.get() + 1);
        self.0.take().into_iter().for_each(|(_, io)| io.complete(NvmeStatus::ABORTED_BY_REQUEST));
        NvmeStatus::SUCCESS
    }
}

fn slow(takes: Duration) -> Arc<Bdev> {
    TAKES.set(takes);
    ENDS.set(NvmeStatus::SUCCESS);
    RESETS.set(0);
    Bdev::new(held(IoLimits::default()).info().clone(), Box::new(Slow))
}

/// One read, whose status is returned.
fn read(reactor: &LocalReactor, bdev: &Arc<Bdev>) -> NvmeStatus {
    let (handle, buf) = (open(bdev), reactor.memory().alloc(512).unwrap());
    reactor.block_on(async move { handle.read(buf, 7, 1).await.status })
}

#[test]
fn statistics_are_taken_and_set_back_with_nothing_lost() {
    let reactor = virtual_reactor();
    let bdev = slow(Duration::from_micros(10));
    let _ = read(&reactor, &bdev);
    // The idle channel of the first read is let go of; that of the second is kept open.
    pass(&reactor, Duration::from_millis(1));
    let keep = open(&bdev);
    let _ = read(&reactor, &bdev);
    let same = Arc::clone(&bdev);
    let (first, second) = reactor.block_on(async move {
        let first = same.take_stats(ResetMode::All).await;
        (first, same.take_stats(ResetMode::None).await)
    });
    assert_eq!((first.of(IoType::Read).ops, first.of(IoType::Read).bytes), (2, 1024));
    assert!(first.of(IoType::Read).ticks_min >= 10_000);
    assert_eq!(second, IoStats::default());
    let _ = read(&reactor, &bdev);
    assert_eq!(bdev.stats().of(IoType::Read).ops, 1);
    drop(keep);
}

#[test]
fn histograms_of_closed_and_open_channels_are_merged() {
    let reactor = virtual_reactor();
    let bdev = slow(Duration::from_micros(10));
    let _ = read(&reactor, &bdev);
    assert!(bdev.histograms().is_none());
    let keep = open(&bdev);
    let enable = |kinds: &[IoType]| {
        let bdev = Arc::clone(&bdev);
        let options = HistogramOptions {
            kinds: IoTypes::of(kinds),
            granularity: 7,
            min: Duration::ZERO,
            max: Duration::from_secs(100),
        };
        reactor.block_on(async move { bdev.enable_histograms(options).await });
    };
    enable(&[IoType::Read, IoType::Write]);
    let _ = read(&reactor, &bdev);
    drop(keep);
    // The idle channel is let go of.
    pass(&reactor, Duration::from_millis(1));
    TAKES.set(Duration::from_millis(5));
    let _ = read(&reactor, &bdev);
    let (_, all) = bdev.histograms().unwrap();
    let (kind, reads) = &all[0];
    assert_eq!((*kind, reads.total(), all[1].1.total()), (IoType::Read, 2, 0));
    let near = |found: Option<u64>, wanted: u64| {
        let found = found.unwrap();
        assert!(found >= wanted && found <= wanted + wanted / 20, "{found} for {wanted}");
    };
    near(reads.percentile(50_000), 10_000);
    near(reads.percentile(99_990), 5_000_000);
    enable(&[IoType::Read]);
    assert_eq!(bdev.histograms().unwrap().1[0].1.total(), 0, "it begins afresh");
    let same = Arc::clone(&bdev);
    reactor.block_on(async move { same.disable_histograms().await });
    assert!(bdev.histograms().is_none());
}

#[test]
fn the_queue_depth_is_sampled() {
    let reactor = virtual_reactor();
    let bdev = slow(Duration::from_millis(10));
    let sample = |period| {
        let bdev = Arc::clone(&bdev);
        reactor.block_on(async move { bdev.set_queue_depth_sampling(period).await });
    };
    assert!(bdev.queue_depth().is_none());
    sample(Some(Duration::from_micros(100)));
    let handle = open(&bdev);
    let both = [0, 1].map(|at| handle.read(reactor.memory().alloc(512).unwrap(), at, 1));
    pass(&reactor, Duration::from_millis(5));
    assert_eq!(bdev.queue_depth().unwrap().depth, 2);
    reactor.block_on(async move { futures::future::join_all(both).await });
    pass(&reactor, Duration::from_millis(30));
    let seen = bdev.queue_depth().unwrap();
    assert_eq!((seen.period, seen.depth), (Duration::from_micros(100), 0));
    let near = |found: Duration, wanted: f64| {
        let ms = found.as_secs_f64() * 1e3;
        assert!((ms - wanted).abs() < wanted * 0.03, "{ms} ms for {wanted} ms");
    };
    near(seen.io_time, 10.0);
    near(seen.weighted_io_time, 20.0);
    sample(None);
    assert!(bdev.queue_depth().is_none());
}

/// The events of a device.
fn listen(bdev: &Arc<Bdev>) -> (Arc<BdevDesc>, Arc<Mutex<Vec<DeviceEvent>>>) {
    let events: Arc<Mutex<Vec<DeviceEvent>>> = Arc::default();
    let told = Arc::clone(&events);
    let listener: EventListener =
        Arc::new(move |_, event| told.lock().unwrap().push(event.clone()));
    (BdevDesc::open(bdev, OpenMode::Read, "listener", Some(listener)).unwrap(), events)
}

#[test]
fn a_storm_of_media_errors_is_told_of_in_a_few_events_that_count_all() {
    let reactor = virtual_reactor();
    let bdev = slow(Duration::from_millis(1));
    let (_listens, events) = listen(&bdev);
    ENDS.set(NvmeStatus::COMPARE_FAILURE);
    assert_eq!(read(&reactor, &bdev), NvmeStatus::COMPARE_FAILURE);
    assert!(events.lock().unwrap().is_empty(), "no fault of the device");
    ENDS.set(NvmeStatus::UNRECOVERED_READ_ERROR);
    let keep = open(&bdev);
    for _ in 0..150 {
        let _ = read(&reactor, &bdev);
    }
    pass(&reactor, Duration::from_millis(500));
    let _ = read(&reactor, &bdev);
    drop(keep);
    let mut counts = Vec::new();
    for event in events.lock().unwrap().iter() {
        let DeviceEvent::MediaError { kind, offset_blocks, num_blocks, status, count } = event
        else {
            panic!("{event:?}");
        };
        assert_eq!((*kind, *offset_blocks, *num_blocks), (IoType::Read, 7, 1));
        assert_eq!(*status, NvmeStatus::UNRECOVERED_READ_ERROR);
        counts.push(*count);
    }
    assert_eq!((counts.len(), counts[0], counts[3]), (4, 1, 1), "{counts:?}");
    assert_eq!(counts.iter().sum::<u64>(), 151);
}

fn limit(reactor: &LocalReactor, bdev: &Arc<Bdev>, action: IoTimeoutAction) {
    let timeout = IoTimeout { after: Duration::from_millis(20), action };
    let bdev = Arc::clone(bdev);
    reactor.block_on(async move { bdev.set_io_timeout(Some(timeout)).await });
}

#[test]
fn io_beyond_its_time_limit_is_told_of_once() {
    let reactor = virtual_reactor();
    let bdev = slow(Duration::from_millis(200));
    let (_listens, events) = listen(&bdev);
    limit(&reactor, &bdev, IoTimeoutAction::Ignore);
    assert!(read(&reactor, &bdev).is_success());
    TAKES.set(Duration::from_millis(19));
    assert!(read(&reactor, &bdev).is_success());
    let events = events.lock().unwrap();
    let [DeviceEvent::IoTimeout { kind, offset_blocks, waited, count, action, .. }] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*kind, *offset_blocks, *count), (IoType::Read, 7, 1));
    assert_eq!(*action, IoTimeoutAction::Ignore);
    assert!((20..=26).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(RESETS.get(), 0);
}

#[test]
fn io_beyond_its_time_limit_is_ended_by_a_reset() {
    let reactor = virtual_reactor();
    let bdev = slow(Duration::from_secs(3600));
    limit(&reactor, &bdev, IoTimeoutAction::Reset);
    assert_eq!(read(&reactor, &bdev), NvmeStatus::ABORTED_BY_REQUEST);
    assert_eq!(RESETS.get(), 1);
    TAKES.set(Duration::from_millis(1));
    assert!(read(&reactor, &bdev).is_success(), "the device goes on");
    limit(&reactor, &bdev, IoTimeoutAction::Remove);
    TAKES.set(Duration::from_secs(3600));
    assert_eq!(read(&reactor, &bdev), NvmeStatus::ABORTED_BY_REQUEST);
}

#[test]
fn the_wait_for_a_limit_of_the_rate_is_no_time_of_the_device() {
    let reactor = virtual_reactor();
    let bdev = slow(Duration::from_millis(12));
    let (_listens, events) = listen(&bdev);
    limit(&reactor, &bdev, IoTimeoutAction::Reset);
    let same = Arc::clone(&bdev);
    let limits = QosLimits { r_bytes_per_sec: 1024, ..QosLimits::default() };
    reactor.block_on(async move { same.set_qos_limits(limits).await });
    let handle = open(&bdev);
    let three = [0, 1, 2].map(|at| handle.read(reactor.memory().alloc(512).unwrap(), at, 1));
    let ended = reactor.block_on(async move { futures::future::join_all(three).await });
    assert!(ended.iter().all(|done| done.status.is_success()));
    assert!(ended[2].latency_ticks > 900_000_000, "they did wait: {}", ended[2].latency_ticks);
    assert!(events.lock().unwrap().is_empty());
}

#[test]
fn a_registry_has_its_monitor_told_of_every_device() {
    struct Monitor(Mutex<Vec<String>>);
    impl DeviceMonitor for Monitor {
        fn added(&self, bdev: &Arc<Bdev>) {
            self.0.lock().unwrap().push(format!("added {}", bdev.name()));
        }
        fn event(&self, bdev: &Bdev, event: &DeviceEvent) {
            self.0.lock().unwrap().push(format!("{} {event:?}", bdev.name()));
        }
    }
    let reactor = virtual_reactor();
    let registry = Registry::new();
    let monitor = Arc::new(Monitor(Mutex::default()));
    assert!(registry.set_monitor(Arc::<Monitor>::clone(&monitor)));
    assert!(!registry.set_monitor(Arc::<Monitor>::clone(&monitor)));
    let bdev = slow(Duration::ZERO);
    registry.register(&bdev).unwrap();
    assert!(registry.register(&bdev).is_err(), "and not of one that is refused");
    reactor.block_on(async move {
        bdev.resize(2000).await;
        registry.unregister("held").await.unwrap();
    });
    let wanted = ["added held", "held Resized { before: 1000, now: 2000 }", "held Removed"];
    assert_eq!(*monitor.0.lock().unwrap(), wanted);
}
