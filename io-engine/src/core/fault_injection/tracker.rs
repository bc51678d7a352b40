//! Faults that need to know what was there before: stale reads and the power cut. Every change of
//! the device goes through here while such an injection exists.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{BdevIo, IoType};
use spdk_rs::reactor::Reactor;

use super::injection::Injection;
use super::kind::Kind;
use super::shadow::{Run, Shadow, Shadows};

/// How I/O ends without power.
const NO_POWER: NvmeStatus = NvmeStatus::ABORTED_POWER_LOSS;

/// An I/O on its way to the device, which the fault happens to, or not.
pub(super) fn submission(
    injection: &Arc<Injection>,
    reactor: &Rc<Reactor>,
    io: BdevIo,
    hit: bool,
) -> Option<BdevIo> {
    let cuts = injection.spec.kind == Kind::PowerCut;
    if cuts && injection.cut.load(Ordering::Acquire) {
        io.complete(NO_POWER);
        return None;
    }
    let own = Arc::clone(injection);
    if cuts && hit {
        injection.cut.store(true, Ordering::Release);
        reactor.spawn("power cut", async move {
            cut(&own).await;
            io.complete(NO_POWER);
        });
    } else if Kind::is_change(io.kind()) && (cuts || injection.touches(&io)) {
        reactor.spawn("watched change", async move { change(&own, io).await });
    } else if cuts && io.kind() == IoType::Flush {
        reactor.spawn("watched flush", async move { flush(&own, io).await });
    } else {
        return Some(io);
    }
    None
}

/// An I/O on its way back.
pub(super) fn completion(
    injection: &Arc<Injection>,
    reactor: &Rc<Reactor>,
    io: BdevIo,
    status: NvmeStatus,
    hit: bool,
) -> Option<(BdevIo, NvmeStatus)> {
    let own = Arc::clone(injection);
    if injection.spec.kind == Kind::PowerCut {
        if injection.cut.load(Ordering::Acquire) {
            return Some((io, NO_POWER));
        }
        if hit {
            injection.cut.store(true, Ordering::Release);
            reactor.spawn("power cut", async move {
                cut(&own).await;
                io.complete(NO_POWER);
            });
            return None;
        }
    } else if hit {
        let mut io = io;
        reactor.spawn("stale read", async move {
            make_stale(&own, &mut io).await;
            io.complete(status);
        });
        return None;
    }
    Some((io, status))
}

/// The injection ends, or its device has gone: what was saved is not needed any more.
pub(super) fn forget(reactor: &Rc<Reactor>, injection: &Arc<Injection>) {
    if injection.spec.kind.watches_changes() {
        let own = Arc::clone(injection);
        reactor.spawn("forget old blocks", async move {
            let id = own.id;
            // A reactor that has ended has forgotten already.
            let _ = own.home.call(move |reactor| Shadows::of(reactor).remove(id)).await;
        });
    }
}

/// Runs `f` where the shadow is.
async fn at_home<F, Fut, R>(injection: &Arc<Injection>, f: F) -> Option<R>
where
    F: FnOnce(Rc<Reactor>, Rc<Shadow>, Arc<Injection>) -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    let own = Arc::clone(injection);
    let answer = injection.home.spawn(move |reactor| {
        let shadow = Shadows::of(&reactor).get(own.id);
        f(reactor, shadow, own)
    });
    answer.await.ok()
}

async fn cut(injection: &Arc<Injection>) {
    let device = injection.bdev.name();
    tracing::warn!(id = injection.id, device, "a fault injection cuts the power of a device");
    at_home(injection, |reactor, shadow, own| async move {
        shadow.cut(&reactor, &own.bdev).await;
    })
    .await;
}

async fn change(injection: &Arc<Injection>, io: BdevIo) {
    let run: Run = (io.offset_blocks(), io.num_blocks());
    let first = injection.spec.kind == Kind::PowerCut;
    at_home(injection, move |reactor, shadow, own| async move {
        shadow.begin_change(&reactor, &own.bdev, run, first).await;
    })
    .await;
    // The power may have gone while it waited.
    let (io, status) =
        if injection.cut.load(Ordering::Acquire) { (io, NO_POWER) } else { io.perform().await };
    let durable = first && io.fua() && status.is_success();
    at_home(injection, move |_, shadow, _| async move { shadow.end_change(run, durable) }).await;
    io.complete(status);
}

async fn flush(injection: &Arc<Injection>, io: BdevIo) {
    at_home(injection, |_, shadow, _| async move { shadow.begin_flush().await }).await;
    let (io, status) =
        if injection.cut.load(Ordering::Acquire) { (io, NO_POWER) } else { io.perform().await };
    let durable = status.is_success();
    at_home(injection, move |_, shadow, _| async move { shadow.end_flush(durable) }).await;
    io.complete(status);
}

/// Replaces what a read has read by what was there before the last write.
async fn make_stale(injection: &Arc<Injection>, io: &mut BdevIo) {
    let run: Run = (io.offset_blocks(), io.num_blocks());
    let old = at_home(injection, move |_, shadow, _| async move { shadow.old(run) }).await;
    let block_len = u64::from(injection.bdev.info().block_len);
    for (block, data) in old.into_iter().flatten() {
        if let Ok(at) = usize::try_from((block - run.0) * block_len) {
            io.copy_in(at, &data);
        }
    }
}
