//! Loads on a reactor of their own, over a device that can be made to fail.

use std::cell::Cell;
use std::rc::Rc;

use futures::channel::oneshot;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoBuf, IoCompletion, IoConsumer, IoFuture, IoRequest, NvmeCommand, Refused};
use spdk_rs::drivers::malloc::{self, MallocOptions};
use spdk_rs::env::cpu::CoreId;
use spdk_rs::env::{DmaBuf, Memory};
use spdk_rs::reactor::{LocalReactor, ReactorConfig};

use super::*;
use crate::core::BlockDeviceHandle;
use crate::perf::workload::Spec;

/// What a handle does wrong; the number counts I/Os of that kind from 0.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// Flips a bit of what a read brought.
    FlipBit(u64),
    /// Reads from the blocks behind the right ones.
    Misdirect(u64),
    /// Completes a write without writing.
    LoseWrite(u64),
    /// Ends an I/O of any kind with an error.
    Fail(u64),
    /// Does not accept an I/O of any kind.
    Refuse(u64),
    /// The device is gone from this I/O on.
    Vanish(u64),
}

struct Faulty {
    inner: Box<dyn BlockDeviceHandle>,
    fault: Fault,
    all: Cell<u64>,
    reads: Cell<u64>,
    writes: Cell<u64>,
    fua: Rc<Cell<u64>>,
}

/// Changes a completion on its way.
struct Changed {
    inner: Rc<dyn IoConsumer>,
    change: fn(&mut IoCompletion),
}

impl IoConsumer for Changed {
    fn io_done(&self, tag: u64, status: NvmeStatus, buf: IoBuf, latency_ticks: u64) {
        let mut done = IoCompletion { status, buf, latency_ticks, result: 0 };
        (self.change)(&mut done);
        self.inner.io_done(tag, done.status, done.buf, latency_ticks);
    }
}

fn flip(done: &mut IoCompletion) {
    if let IoBuf::One(buf) = &mut done.buf {
        buf.as_mut_slice()[1000] ^= 0x10;
    }
}

fn next(counter: &Cell<u64>) -> u64 {
    counter.replace(counter.get() + 1)
}

impl BlockDeviceHandle for Faulty {
    fn get_device(&self) -> &dyn BlockDevice {
        self.inner.get_device()
    }

    fn dma_malloc(&self, len: usize) -> Result<DmaBuf, CoreError> {
        self.inner.dma_malloc(len)
    }

    fn submit(
        &self,
        mut io: IoRequest,
        done: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        let number = next(&self.all);
        let of_kind = match io.kind {
            IoType::Read => next(&self.reads),
            IoType::Write => next(&self.writes),
            _ => 0,
        };
        self.fua.set(self.fua.get() + u64::from(io.flags.contains(spdk_rs::bdev::IoFlags::FUA)));
        let (read, write) = (io.kind == IoType::Read, io.kind == IoType::Write);
        let changed =
            |change| -> Rc<dyn IoConsumer> { Rc::new(Changed { inner: Rc::clone(done), change }) };
        match self.fault {
            Fault::FlipBit(at) if read && of_kind == at => {
                self.inner.submit(io, &changed(flip), tag)
            }
            Fault::Misdirect(at) if read && of_kind == at => {
                io.offset_blocks += io.num_blocks;
                self.inner.submit(io, done, tag)
            }
            Fault::LoseWrite(at) if write && of_kind == at => {
                io.kind = IoType::Read;
                self.inner.submit(io, done, tag)
            }
            Fault::Fail(at) if number == at => {
                let fail = |done: &mut IoCompletion| done.status = NvmeStatus::WRITE_FAULT;
                self.inner.submit(io, &changed(fail), tag)
            }
            Fault::Vanish(at) if number >= at => {
                let gone = |done: &mut IoCompletion| done.status = NvmeStatus::INVALID_NAMESPACE;
                self.inner.submit(io, &changed(gone), tag)
            }
            Fault::Refuse(at) if number >= at => {
                Err(Box::new(Refused { status: NvmeStatus::NOT_READY, buf: io.buf }))
            }
            _ => self.inner.submit(io, done, tag),
        }
    }

    fn submit_async(&self, io: IoRequest) -> IoFuture {
        self.inner.submit_async(io)
    }

    fn submit_batch(
        &self,
        ios: &mut Vec<(IoRequest, u64)>,
        done: &Rc<dyn IoConsumer>,
    ) -> Result<(), (Box<Refused>, u64)> {
        self.inner.submit_batch(ios, done)
    }

    fn nvme_command_async(&self, kind: IoType, command: &NvmeCommand, buf: IoBuf) -> IoFuture {
        self.inner.nvme_command_async(kind, command, buf)
    }
}

/// A load of 4 KiB I/Os on a malloc device of 1 MiB.
#[derive(Clone, Copy)]
struct Case {
    pattern: Pattern,
    depth: u32,
    ios: Option<u64>,
    flush_every: Option<u64>,
    fua: bool,
    fault: Fault,
}

const CASE: Case = Case {
    pattern: Pattern::RandRead,
    depth: 8,
    ios: Some(1000),
    flush_every: None,
    fua: false,
    fault: Fault::None,
};

/// The counters of the job, and the number of I/Os with FUA.
fn run_case(case: Case) -> (JobStats, u64) {
    let memory = Memory::ordinary(4 << 20).expect("memory");
    let options = MallocOptions {
        name: "m0".to_owned(),
        uuid: None,
        block_len: 512,
        phys_block_len: 512,
        num_blocks: 2048,
    };
    let bdev = malloc::create(&memory, options).expect("a device");
    let reactor = LocalReactor::new(ReactorConfig::new(CoreId(0)), memory).expect("a reactor");
    let descriptor = Engine::device(bdev).open(true, "test").expect("the device is free");
    let (fua, wrong) = (Rc::new(Cell::new(0)), Arc::<Counter>::default());
    let watch = Watch::new(Limit { time: None, ios: case.ios }, vec![descriptor.get_device()]);
    let inner = descriptor.get_io_handle().expect("a channel");
    let (all, reads, writes) = Default::default();
    let handle = Faulty { inner, fault: case.fault, all, reads, writes, fua: Rc::clone(&fua) };
    let spec = Spec {
        pattern: case.pattern,
        read_percent: 50,
        blocks_per_io: 8,
        num_blocks: 2048,
        seed: 7,
        device: 0,
        core: 0,
        cores: 1,
        flush_every: case.flush_every,
        zones: None,
    };
    let plan = JobPlan {
        descriptor: Arc::from(descriptor),
        spec,
        block_len: 512,
        depth: case.depth,
        io_size: 4096,
        fua: case.fua,
        time: None,
        ios: case.ios,
        wrong: Arc::clone(&wrong),
    };
    let on = Rc::clone(&reactor);
    let stats = reactor.block_on(async move {
        let load = job::build(&on, plan, Box::new(handle)).await.expect("all fits");
        let (stop, stops) = oneshot::channel();
        // Without a number of I/Os, the load is told to stop as soon as it runs.
        let _running = case.ios.map(|_| stop);
        load.start();
        job::drive(&*load, None, stops).await;
        let stats = load.finish();
        assert_eq!(Rc::strong_count(&load), 1, "the load does not keep itself alive");
        stats
    });
    assert_eq!(wrong.get(), stats.mismatches);
    if matches!(case.fault, Fault::None) {
        let (shown, flushes) = (watch.sample(), ios_of(&stats, Op::Flush));
        let figures = (shown.ios, shown.bytes, shown.errors);
        assert_eq!(figures, (stats.ios(), (stats.ios() - flushes) * 4096, 0));
    }
    (stats, fua.get())
}

fn ios_of(stats: &JobStats, op: Op) -> u64 {
    stats.op(op).latency.count()
}

fn errors(stats: &JobStats) -> u64 {
    Op::ALL.iter().map(|op| stats.op(*op).errors).sum()
}

#[test]
fn the_number_of_ios_is_exact() {
    for pattern in [
        Pattern::Read,
        Pattern::Write,
        Pattern::RandRead,
        Pattern::RandWrite,
        Pattern::Rw,
        Pattern::RandRw,
        Pattern::Flush,
        Pattern::Unmap,
        Pattern::WriteZeroes,
    ] {
        for (depth, ios) in [(1, 7), (8, 1000), (32, 32), (32, 5)] {
            let (stats, fua) = run_case(Case { pattern, depth, ios: Some(ios), ..CASE });
            let done: u64 = pattern.ops().iter().map(|op| ios_of(&stats, *op)).sum();
            assert_eq!((done, errors(&stats), fua), (ios, 0, 0), "{pattern}, {depth} deep");
            assert!(stats.first_error.is_none());
        }
    }
}

#[test]
fn flushes_come_between_writes() {
    for pattern in [Pattern::Write, Pattern::RandRw, Pattern::Unmap] {
        let (stats, _) = run_case(Case { pattern, flush_every: Some(4), ..CASE });
        assert_eq!((stats.ios(), errors(&stats)), (1000, 0), "{:?}", stats.first_error);
        let changes = ios_of(&stats, Op::Write) + ios_of(&stats, Op::Unmap);
        let flushes = ios_of(&stats, Op::Flush);
        assert!(flushes == changes / 4 || flushes + 1 == changes / 4, "{flushes} of {changes}");
    }
}

#[test]
fn writes_carry_fua_when_asked() {
    let (stats, fua) = run_case(Case { pattern: Pattern::RandRw, fua: true, ..CASE });
    assert_eq!(fua, ios_of(&stats, Op::Write));
    assert!(fua > 0 && ios_of(&stats, Op::Read) > 0);
}

#[test]
fn a_stop_waits_for_what_is_in_flight() {
    for pattern in [Pattern::RandRead, Pattern::Write, Pattern::Verify] {
        let (stats, _) = run_case(Case { pattern, ios: None, ..CASE });
        assert!(stats.ios() >= u64::from(CASE.depth), "{pattern}: {}", stats.ios());
        assert_eq!((errors(&stats), stats.mismatches), (0, 0), "{:?}", stats.first_error);
    }
}

#[test]
fn errors_are_counted_and_the_first_is_kept() {
    let (stats, _) = run_case(Case { fault: Fault::Fail(500), ..CASE });
    assert_eq!((ios_of(&stats, Op::Read), errors(&stats)), (999, 1));
    assert!(!stats.device_gone, "one that fails otherwise goes on");
    let words = stats.first_error.expect("an I/O failed");
    assert!(words.starts_with("read: write fault"), "{words}");
}

#[test]
fn a_refused_submission_ends_the_job() {
    for pattern in [Pattern::RandRead, Pattern::Flush, Pattern::Verify] {
        for at in [0, 3, 500] {
            let (stats, _) = run_case(Case { pattern, fault: Fault::Refuse(at), ..CASE });
            let accepted: u64 = Op::ALL.iter().map(|op| ios_of(&stats, *op)).sum();
            assert_eq!(accepted, at, "{pattern}: {:?}", stats.first_error);
            assert!((1..=u64::from(CASE.depth)).contains(&errors(&stats)), "{}", errors(&stats));
            let words = stats.first_error.expect("an I/O was refused");
            assert!(words.contains("not accepted, the job ended"), "{words}");
        }
    }
}

#[test]
fn a_device_that_goes_ends_its_job() {
    for pattern in [Pattern::RandRead, Pattern::RandRw, Pattern::Flush, Pattern::Verify] {
        for at in [0, 3, 500] {
            let (stats, _) = run_case(Case { pattern, fault: Fault::Vanish(at), ..CASE });
            let succeeded: u64 = Op::ALL.iter().map(|op| ios_of(&stats, *op)).sum();
            assert_eq!(succeeded, at, "{pattern}: {:?}", stats.first_error);
            assert!((1..=u64::from(CASE.depth)).contains(&errors(&stats)), "{}", errors(&stats));
            assert!(stats.device_gone, "{pattern}");
            let words = stats.first_error.expect("an I/O failed");
            assert!(words.contains("the device is gone"), "{words}");
        }
    }
}

#[test]
fn verify_accepts_what_is_right() {
    for flush_every in [None, Some(3)] {
        let (stats, _) =
            run_case(Case { pattern: Pattern::Verify, ios: Some(2000), flush_every, ..CASE });
        assert!(stats.ios() >= 2000, "what was written is checked beyond the number");
        assert!(ios_of(&stats, Op::Read) >= ios_of(&stats, Op::Write));
        assert_eq!(ios_of(&stats, Op::Flush) > 0, flush_every.is_some());
        assert_eq!((errors(&stats), stats.mismatches), (0, 0), "{:?}", stats.first_error);
    }
}

#[test]
fn verify_finds_what_is_wrong() {
    for (fault, words) in [
        (Fault::FlipBit(5), "corrupt: 1 bits"),
        (Fault::Misdirect(5), "misdirected"),
        (Fault::LoseWrite(5), "zeroes"),
        (Fault::LoseWrite(300), "stale: generation 1"),
    ] {
        let (stats, _) = run_case(Case { pattern: Pattern::Verify, fault, ..CASE });
        assert!(stats.mismatches > 0, "{fault:?}");
        let first = stats.first_error.as_deref().unwrap_or_default();
        assert!(first.contains(words), "{fault:?}: {first}");
        assert_eq!(errors(&stats), 0, "wrong data is no failed I/O");
    }
}

#[test]
fn a_failed_write_is_an_error_and_not_wrong_data() {
    let (stats, _) = run_case(Case { pattern: Pattern::Verify, fault: Fault::Fail(5), ..CASE });
    assert_eq!((errors(&stats), stats.mismatches), (1, 0), "{:?}", stats.first_error);
}

#[test]
fn cpu_time_is_shared_by_ios() {
    let outcome = |ios: u64, cpu_ns| {
        let mut stats = JobStats::default();
        (0..ios).for_each(|_| stats.record(Op::Read, 1));
        Outcome { stats, cpu_ns }
    };
    let (one, two, other) = (outcome(30, (100, 500)), outcome(10, (0, 400)), outcome(5, (7, 9)));
    let all = [(0, &one), (0, &two), (1, &other)];
    assert_eq!(cpu_share(&all, 0, &one), 375);
    assert_eq!(cpu_share(&all, 0, &two), 125);
    assert_eq!(cpu_share(&all, 1, &other), 2);
}

#[test]
fn a_second_interrupt_abandons_what_does_not_end() {
    let memory = Memory::ordinary(2 << 20).expect("memory");
    let reactor = LocalReactor::new(ReactorConfig::new(CoreId(0)), memory).expect("a reactor");
    let ((tell, ready), (start, starts)) = (oneshot::channel(), oneshot::channel());
    let ((stop, stops), (_never, done)) = (oneshot::channel(), oneshot::channel());
    tell.send(Ok(())).expect("the receiver is there");
    let job = Job {
        device: "m0".to_owned(),
        core: 0,
        pattern: Pattern::Read,
        io_size: 512,
        queue_depth: 1,
    };
    let wrong = Arc::default();
    let running = Running { job, wrong, reactor: reactor.handle(), ready, start, stop, done };
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = control.expect("a runtime").block_on(async {
        let mut interrupts = Interrupts::new().expect("signals can be watched");
        let interrupt = || nix::sys::signal::raise(nix::sys::signal::Signal::SIGINT);
        let twice = async {
            starts.await.expect("the job is started");
            interrupt().expect("a signal to this process");
            stops.await.expect("the job is told to stop");
            interrupt().expect("a signal to this process");
        };
        let watch = Watch::new(Limit { time: None, ios: None }, Vec::new());
        futures::join!(run_jobs(vec![running], watch, &mut interrupts), twice).0
    });
    assert!(matches!(result, Err(PerfError::Abandoned)));
}
