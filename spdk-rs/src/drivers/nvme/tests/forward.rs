//! Two cores, and a controller that grants one I/O queue.

use std::sync::atomic::Ordering::SeqCst;

use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::join_all;

use super::*;
use crate::drivers::nvme::core::NvmeCore;
use crate::nvme::spec::opcode::nvm;

/// A reactor on a thread of its own.
struct Core {
    handle: ReactorHandle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Core {
    fn start(memory: Memory) -> Self {
        let (tell, told) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let reactor = LocalReactor::new(ReactorConfig::new(CoreId(1)), memory).unwrap();
            tell.send(reactor.handle()).unwrap();
            reactor.run();
        });
        Self { handle: block_on(told).unwrap(), thread: Some(thread) }
    }

    /// What a future with an I/O handle of this core comes to.
    fn run<T, F, Fut>(&self, host: &Host, f: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(IoHandle, Memory) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
    {
        let bdev = host.registry.find("dn1").unwrap();
        let (core, memory) = (self.handle.clone(), host.memory.clone());
        // The host's own core has to turn meanwhile.
        host.reactor.block_on(async move {
            let task = core.spawn(move |_| async move {
                let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None).unwrap();
                f(desc.io_handle().unwrap(), memory).await
            });
            task.await.unwrap()
        })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let _ = block_on(self.handle.call(|reactor| reactor.stop()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A host of two cores, whose first has the only queue.
fn one_queue() -> (FakeTarget, Host, Core, IoHandle) {
    let memory = Memory::ordinary(16 << 20).unwrap();
    let core = Core::start(memory.clone());
    let (target, host) =
        (FakeTarget::start(), Host::with(memory, std::slice::from_ref(&core.handle)));
    target.shared.queues.store(1, SeqCst);
    let mut options = options();
    options.controller.io_queue_size = 8;
    let handle = host.attach(&target, options);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    (target, host, core, handle)
}

fn end(host: Host, core: Core) {
    host.detach_all();
    drop(core);
    host.finish();
}

fn filled(memory: &Memory, blocks: usize, value: u8) -> DmaBuf {
    let mut buf = memory.alloc(blocks * BLOCK).unwrap();
    buf.fill(value);
    buf
}

/// Writes a block for each of `count` values from this core, all at once, and reads them.
async fn write_and_read(handle: IoHandle, memory: Memory, count: u8) {
    let writes = (0..count).map(|i| handle.write(filled(&memory, 1, i), u64::from(i), 1));
    let done = join_all(writes).await;
    assert!(done.iter().all(|done| done.status.is_success()));
    drop(done);
    for i in 0..count {
        let done = handle.read(filled(&memory, 1, !i), u64::from(i), 1).await;
        let found = done.ok().unwrap().into_one().unwrap();
        assert!(found.as_slice().iter().all(|&byte| byte == i));
    }
}

#[test]
fn a_core_without_a_queue_uses_another_cores() {
    let (target, host, core, handle) = one_queue();
    // Many more than the queue holds, while the first core has its own.
    let own: Vec<_> = (0..50).map(|i| handle.write(host.buf(1, i), 500, 1)).collect();
    core.run(&host, |handle, memory| write_and_read(handle, memory, 100));
    let done = host.reactor.block_on(join_all(own));
    assert!(done.iter().all(|done| done.status.is_success()));
    drop(done);
    host.expect(&handle, 99, 1, 99);
    let queues: Vec<_> = target.shared.seen.lock().unwrap().iter().map(|&(qid, _)| qid).collect();
    assert!(queues.iter().all(|&qid| qid == 1), "{queues:?}");
    drop(handle);
    end(host, core);
}

#[test]
fn a_forwarded_pair_stays_together() {
    let (target, host, core, handle) = one_queue();
    let own: Vec<_> = (0..100).map(|i| handle.write(host.buf(1, i), 500, 1)).collect();
    let swaps = core.run(&host, |handle, memory| async move {
        let swap =
            |at, i| handle.compare_and_write(filled(&memory, 1, 0), filled(&memory, 1, i), at, 1);
        let wrong = handle.write(filled(&memory, 1, 9), 20, 1).await.status;
        assert_eq!(wrong, NvmeStatus::SUCCESS);
        let all = join_all((10..=20).map(|at| swap(at, 7))).await;
        all.into_iter().map(|done| done.status).collect::<Vec<_>>()
    });
    assert_eq!(swaps[..10], [NvmeStatus::SUCCESS; 10]);
    assert_eq!(swaps[10], NvmeStatus::COMPARE_FAILURE);
    host.expect(&handle, 10, 1, 7);
    host.expect(&handle, 20, 1, 9);
    assert_eq!(target.shared.count(nvm::COMPARE), 11);
    drop(host.reactor.block_on(join_all(own)));
    drop(handle);
    end(host, core);
}

#[test]
fn forwarded_io_survives_the_end_of_the_connection() {
    for fault in [Fault::Close { executed: false }, Fault::Close { executed: true }] {
        let (target, host, core, handle) = one_queue();
        core.run(&host, |handle, memory| write_and_read(handle, memory, 3));
        target.shared.fault(fault);
        core.run(&host, |handle, memory| write_and_read(handle, memory, 50));
        assert_eq!(host.reconnects(), 1);
        host.expect(&handle, 49, 1, 49);
        drop(handle);
        end(host, core);
    }
}

#[test]
fn the_queue_stays_for_its_guests() {
    let (_target, host, core, handle) = one_queue();
    let (go, told) = oneshot::channel();
    let bdev = host.registry.find("dn1").unwrap();
    let (remote, memory) = (core.handle.clone(), host.memory.clone());
    let ended = std::thread::spawn(move || {
        block_on(remote.spawn(move |_| async move {
            let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None).unwrap();
            let handle = desc.io_handle().unwrap();
            assert!(handle.write(filled(&memory, 1, 1), 0, 1).await.status.is_success());
            told.await.unwrap();
            // It ends with an error when its queue is gone, since it cannot be repeated.
            let (old, new) = (filled(&memory, 1, 1), filled(&memory, 1, 2));
            assert!(handle.compare_and_write(old, new, 0, 1).await.status.is_success());
            write_and_read(handle, memory, 20).await;
        }))
    });
    host.until("a guest", || NvmeCore::of(&host.reactor).guests() == 1);
    // The first core closes its channel while the other one has its own open.
    drop(handle);
    go.send(()).unwrap();
    host.until("the end", || ended.is_finished());
    ended.join().unwrap().unwrap();
    host.until("no guest", || NvmeCore::of(&host.reactor).guests() == 0);
    assert_eq!(host.reconnects(), 0);
    end(host, core);
}
