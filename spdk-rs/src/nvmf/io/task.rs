//! Commands of several steps.

use std::rc::Rc;
use std::time::Duration;

use super::super::core_view::NsView;
use super::super::qpair::{Attached, Qpair, SlotRef};
use super::super::request::Request;
use super::start::{Command, Outcome};
use super::transfer::{Range, data_range, range};
use super::{dataset, flush, for_host, reservation};
use crate::NvmeStatus;
use crate::bdev::{IoBuf, IoHandle};
use crate::env::DmaBuf;
use crate::nvme::spec::opcode::nvm;
use crate::reactor::sleep;

/// How long a task waits before it looks for memory or a slot again.
const PATIENCE: Duration = Duration::from_micros(50);

/// Bytes that one step of a verify reads.
const VERIFY_STEP_BYTES: u64 = 128 << 10;

/// How a task ended: status, dwords 0 and 1 of the completion entry, data for the host.
pub(super) type Ended = (NvmeStatus, u64, IoBuf);

/// A status alone.
pub(super) fn ended(status: NvmeStatus) -> Ended {
    (for_host(status), 0, IoBuf::None)
}

/// Runs a command as a task of the reactor.
pub(super) fn start(
    qpair: &Rc<Qpair>,
    at: SlotRef,
    ns: Option<&Rc<NsView>>,
    command: Command,
) -> Outcome {
    let Some(attached) = qpair.attached_shared() else {
        return Outcome::failed(NvmeStatus::INTERNAL_ERROR, command);
    };
    let Command { sqe, data, data_len } = command;
    let request = Request::new(qpair, at, sqe, data, data_len);
    let ns = ns.cloned();
    qpair.reactor().spawn("nvmf command", async move {
        let (status, result, data) = match &ns {
            Some(ns) => steps(&request, &attached, ns).await,
            None => ended(flush::all(&attached).await),
        };
        request.complete(status, result, data);
    });
    Outcome::Task
}

async fn steps(request: &Request, attached: &Attached, ns: &Rc<NsView>) -> Ended {
    match request.sqe().opcode {
        nvm::READ => read_fua(request, ns).await,
        nvm::WRITE_ZEROES => ended(write_zeroes_fua(request, ns).await),
        nvm::VERIFY => ended(verify(request, ns).await),
        nvm::DATASET_MANAGEMENT => ended(dataset::manage(request, ns).await),
        nvm::COPY => dataset::copy(request, ns).await,
        _ => reservation::execute(request, attached, ns).await,
    }
}

/// Waits until the core has a slot for one more I/O.
pub(super) async fn slot(handle: &IoHandle) {
    while !handle.has_slot() {
        sleep(PATIENCE).await;
    }
}

/// A buffer, waited for.
pub(super) async fn buffer(handle: &IoHandle, len: usize) -> DmaBuf {
    loop {
        match handle.dma_malloc(len) {
            Ok(buf) => return buf,
            Err(_) => sleep(PATIENCE).await,
        }
    }
}

/// What the checks of a command want of it.
pub(super) fn command(request: &Request) -> Command {
    Command { sqe: *request.sqe(), data: IoBuf::None, data_len: request.data_len() }
}

/// A read that returns only what is on the medium: what was written before is brought there.
async fn read_fua(request: &Request, ns: &Rc<NsView>) -> Ended {
    let range = match data_range(request.qpair(), ns, &command(request)) {
        Ok(range) => range,
        Err(status) => return ended(status),
    };
    let handle = ns.handle();
    let status = flush::device(handle).await;
    if !status.is_success() {
        return ended(status);
    }
    let stats = request.qpair().stats();
    stats.reads.add(1);
    stats.read_bytes.add(range.bytes);
    let buf = buffer(handle, usize::try_from(range.bytes).unwrap_or(usize::MAX)).await;
    slot(handle).await;
    let done = handle.read(buf, range.slba, range.blocks).await;
    (for_host(done.status), 0, done.buf)
}

async fn write_zeroes_fua(request: &Request, ns: &Rc<NsView>) -> NvmeStatus {
    let handle = ns.handle();
    let Range { slba, blocks, .. } = match range(ns, &command(request)) {
        Ok(range) => range,
        Err(status) => return status,
    };
    slot(handle).await;
    let status = handle.write_zeroes(slba, blocks).await.status;
    if status.is_success() { flush::device(handle).await } else { status }
}

/// Reads the blocks and drops them, step by step.
async fn verify(request: &Request, ns: &Rc<NsView>) -> NvmeStatus {
    let handle = ns.handle();
    let Range { slba, blocks, .. } = match range(ns, &command(request)) {
        Ok(range) => range,
        Err(status) => return status,
    };
    let inside = slba.checked_add(blocks).is_some_and(|end| end <= handle.num_blocks());
    if !inside {
        return NvmeStatus::LBA_OUT_OF_RANGE;
    }
    let step_blocks = (VERIFY_STEP_BYTES >> ns.block_shift()).clamp(1, blocks);
    let mut at = 0;
    while at < blocks {
        let count = step_blocks.min(blocks - at);
        let bytes = usize::try_from(count << ns.block_shift()).unwrap_or(usize::MAX);
        let buf = buffer(handle, bytes).await;
        slot(handle).await;
        let status = handle.read(buf, slba + at, count).await.status;
        if !status.is_success() {
            return status;
        }
        at += count;
    }
    NvmeStatus::SUCCESS
}
