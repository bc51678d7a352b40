//! Zoned devices: what a load may be on one, what it has to be told of it, and its writes.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{BdevDesc, IoBuf, IoConsumer, OpenMode, ZoneAction, ZoneGeometry};

use super::PerfError;
use super::lane::{Lane, Load};
use crate::core::{CoreError, Engine};
use crate::perf::options::PerfArgs;
use crate::perf::report::JobStats;
use crate::perf::workload::{Io, Op, Pattern, ZoneShape, ZoneStep, ZoneWriters};

/// Looks at the zones of a device, after it was checked that the load can be on them; a load that
/// writes finds them empty. `None` when the device is not zoned.
pub(super) async fn look(
    engine: &Engine,
    args: &PerfArgs,
    name: &str,
) -> Result<Option<ZoneShape>, PerfError> {
    let bdev = engine.registry().find(name).map_err(CoreError::from)?;
    let Some(geometry) = bdev.zones().copied() else { return Ok(None) };
    let refused = |why| PerfError::Zoned { device: name.to_owned(), why };
    let reactors = engine.runtime().reactors();
    let blocks = args.io_size(bdev.info().block_len) / u64::from(bdev.info().block_len.max(1));
    check(args, &geometry, (blocks, reactors.len() as u64)).map_err(refused)?;
    let writes = args.pattern.destroys_data();
    let mode = if writes { OpenMode::ReadWrite } else { OpenMode::Read };
    let desc = BdevDesc::open(&bdev, mode, "io-engine perf", None).map_err(CoreError::from)?;
    let (reactor, own) = (&reactors[0], Arc::clone(&desc));
    let looked = reactor.spawn(move |_| async move {
        let handle = own.io_handle().map_err(|error| error.to_string())?;
        if writes {
            let reset = handle.zone_manage_all(ZoneAction::Reset).await.status;
            reset.ok().map_err(|status| format!("its zones cannot be reset: {status}"))?;
        }
        let zones = handle.zones(0, u64::MAX).await;
        zones.map_err(|status| format!("its zones cannot be reported: {status}"))
    });
    let gone = |_| CoreError::from(spdk_rs::reactor::ReactorGone(reactor.core()));
    let zones = looked.await.map_err(gone)?.map_err(refused)?;
    let capacity_blocks = zones.iter().map(|zone| zone.capacity_blocks).min().unwrap_or(0);
    let (zone_blocks, zones) = (geometry.zone_blocks, zones.len() as u64);
    Ok(Some(ZoneShape { zone_blocks, capacity_blocks, zones }))
}

/// Whether a load can be on zones: `(blocks per I/O, cores)`.
fn check(
    args: &PerfArgs,
    geometry: &ZoneGeometry,
    (blocks, cores): (u64, u64),
) -> Result<(), String> {
    let pattern = args.pattern;
    let open = match pattern {
        Pattern::Read | Pattern::RandRead => {
            if !geometry.reads_cross && blocks != 0 && !geometry.zone_blocks.is_multiple_of(blocks)
            {
                let zone = geometry.zone_blocks;
                return Err(format!(
                    "an I/O of {blocks} blocks would cross from a zone of {zone} blocks to the \
                     next; -o has to be a part of a zone"
                ));
            }
            0
        }
        Pattern::Flush => 0,
        Pattern::Verify => cores,
        Pattern::Write => cores.saturating_mul(args.queue_depth.into()),
        _ => {
            return Err(format!(
                "zones are written in order, which -w {pattern} does not do; read, randread, \
                 write, verify and flush can be"
            ));
        }
    };
    let most = [geometry.open_max, geometry.active_max].into_iter().flatten().min();
    match most {
        Some(most) if open > u64::from(most) => Err(format!(
            "-w {pattern} at this depth writes to {open} zones at a time, and the device can have \
             {most} open; -q has to be {} at the most",
            u64::from(most) / cores.max(1)
        )),
        _ => Ok(()),
    }
}

/// Writes to several zones at a time, one write after the other in each.
pub(super) struct ZoneWriter {
    state: RefCell<State>,
    own: Weak<Self>,
}

struct State {
    lane: Lane,
    writers: ZoneWriters,
    slots: Vec<Slot>,
}

struct Slot {
    /// The buffer, unless a write has it.
    buf: IoBuf,
    doing: ZoneStep,
}

impl ZoneWriter {
    /// A load of as many writers as there are buffers and zones.
    pub(super) fn new(lane: Lane, mut writers: ZoneWriters, bufs: Vec<IoBuf>) -> Rc<Self> {
        let count = usize::try_from(writers.start(bufs.len() as u64)).unwrap_or(usize::MAX);
        let slot = |buf| Slot { buf, doing: ZoneStep::Flush };
        let slots = bufs.into_iter().take(count).map(slot).collect();
        let state = RefCell::new(State { lane, writers, slots });
        Rc::new_cyclic(|own| Self { state, own: Weak::clone(own) })
    }
}

impl State {
    /// Has a writer do what comes next; it has nothing in flight.
    fn go_on(&mut self, index: usize) {
        let step = if self.lane.left == 0 { None } else { self.writers.next_step(index) };
        let (Some(step), Some(slot)) = (step, self.slots.get_mut(index)) else {
            return self.retire();
        };
        slot.doing = step;
        let tag = index as u64;
        let (op, sent) = match step {
            ZoneStep::Reset { lba } => (Op::Write, self.lane.reset_zone(lba, tag)),
            ZoneStep::Write { lba } => {
                self.lane.left -= 1;
                let buf = std::mem::take(&mut slot.buf);
                (Op::Write, self.lane.submit(Io { op: Op::Write, lba }, buf, tag))
            }
            ZoneStep::Flush => {
                self.lane.left -= 1;
                (Op::Flush, self.lane.submit(Io { op: Op::Flush, lba: 0 }, IoBuf::None, tag))
            }
        };
        match sent {
            Ok(()) => self.lane.in_flight += 1,
            Err(refused) => {
                self.lane.refused(op, refused.status);
                self.retire();
            }
        }
    }

    fn retire(&mut self) {
        if self.lane.in_flight == 0 && !self.lane.finished {
            self.lane.end();
        }
    }

    fn ended(&mut self, index: usize, status: NvmeStatus, buf: IoBuf, ticks: u64) {
        self.lane.in_flight -= 1;
        let Some(slot) = self.slots.get_mut(index) else { return self.retire() };
        let op = match slot.doing {
            ZoneStep::Write { .. } => {
                slot.buf = buf;
                Some(Op::Write)
            }
            ZoneStep::Flush => Some(Op::Flush),
            ZoneStep::Reset { .. } => None,
        };
        match op {
            Some(op) if status.is_success() => self.lane.succeeded(op, ticks),
            Some(op) => {
                self.lane.failed(op, status);
                self.writers.leave_zone(index);
            }
            None if status.is_success() => {}
            None => {
                // It would fail again and again.
                self.lane.reset_failed(status);
                return self.retire();
            }
        }
        self.go_on(index);
    }
}

impl IoConsumer for ZoneWriter {
    fn io_done(&self, tag: u64, status: NvmeStatus, buf: IoBuf, latency_ticks: u64) {
        if let Ok(index) = usize::try_from(tag) {
            self.state.borrow_mut().ended(index, status, buf, latency_ticks);
        }
    }
}

impl Load for ZoneWriter {
    fn start(&self) {
        let Some(own) = self.own.upgrade() else { return };
        let state = &mut *self.state.borrow_mut();
        state.lane.begin(own);
        for index in 0..state.slots.len() {
            state.go_on(index);
        }
    }

    fn stop(&self) {
        self.state.borrow_mut().lane.left = 0;
    }

    fn poll_finished(&self, waker: &Waker) -> Poll<()> {
        self.state.borrow_mut().lane.poll_finished(waker)
    }

    fn finish(&self) -> JobStats {
        let (own, stats) = self.state.borrow_mut().lane.release();
        drop(own);
        stats
    }
}

#[cfg(test)]
mod tests;
