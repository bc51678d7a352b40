//! From a PCI address to a controller with an admin queue, and to its I/O queues.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use spdk_rs_sys::pci::PciAddress;

use super::controller::PcieController;
use super::core::PcieCore;
use super::data::{SglSupport, prp};
use super::pair::{PairOptions, PciePair};
use super::stall;
use crate::nvme::controller::link::LinkInfo;
use crate::nvme::controller::queue::{QueueListener, QueuePair};
use crate::nvme::controller::{ControllerOptions, LinkError};
use crate::nvme::spec::register::Cc;
use crate::nvme::spec::{Sqe, opcode};
use crate::reactor::{Reactor, sleep};

/// How often the status of a controller that works is looked at.
const WATCH: Duration = Duration::from_millis(250);

/// Bytes that an admin command transfers at the most before the controller has told its limit:
/// what is asked then is a page, and what is passed through is refused beyond this.
const ADMIN_TRANSFER_MAX: u64 = 256 << 10;

/// Physically contiguous (PC), in command dword 11 of the commands that make queues.
const CONTIGUOUS: u32 = 1;

/// Opens a controller, resets it and enables it with an admin queue. `configuration` makes the
/// value of CC out of what it can.
pub(crate) async fn connect_admin(
    reactor: &Rc<Reactor>,
    address: PciAddress,
    options: &ControllerOptions,
    configuration: fn(crate::nvme::spec::register::Cap) -> Cc,
    listener: Rc<dyn QueueListener>,
) -> Result<(Rc<dyn QueuePair>, Arc<PcieController>), LinkError> {
    let controller = PcieController::open(reactor, address, options.allow_noiommu).await?;
    controller.disable(reactor).await?;
    let pair = PairOptions {
        qid: 0,
        entries: options.admin_queue_size,
        transfer_max: ADMIN_TRANSFER_MAX,
        sgl: SglSupport::None,
    };
    let pair = PciePair::new(reactor, &controller, &pair, listener)?;
    let cc = configuration(controller.cap());
    if let Err(error) = controller.enable(reactor, cc, pair.places()).await {
        controller.halt().await;
        // Nobody has heard of this queue, so nobody is told of its end.
        drop(pair.listener.borrow_mut().take());
        return Err(error);
    }
    if options.cmb_sqs
        && let Err(error) = controller.use_memory(reactor).await
    {
        controller.halt().await;
        drop(pair.listener.borrow_mut().take());
        return Err(error);
    }
    if let Some(event) = controller.function().admin_event()
        && let Err(error) = reactor.watch(event.as_fd())
    {
        tracing::info!(%address, %error, "no interrupt for events");
    }
    let core = PcieCore::of(reactor);
    core.add(&pair);
    core.add_admin(controller.id, &pair);
    watch(reactor, &pair);
    Ok((pair, controller))
}

/// Looks at the status of a controller for as long as its admin queue is there.
fn watch(reactor: &Rc<Reactor>, pair: &Rc<PciePair>) {
    let weak = Rc::downgrade(pair);
    reactor.spawn("nvme controller status", async move {
        loop {
            sleep(WATCH).await;
            let Some(pair) = weak.upgrade().filter(|pair| pair.open.get()) else { return };
            if let Some(why) = pair.controller.leaving() {
                tracing::warn!(address = %pair.controller.address, why, "an NVMe controller leaves");
                pair.device_leaves(why);
            }
            if let Some(trouble) = pair.controller.trouble() {
                tracing::error!(address = %pair.controller.address, trouble, "an NVMe controller fails");
                pair.close(trouble);
                return;
            }
        }
    });
}

/// Makes an I/O queue of a controller on this reactor.
pub(crate) async fn connect_io(
    reactor: &Rc<Reactor>,
    controller: &Arc<PcieController>,
    info: &LinkInfo,
    qid: u16,
    listener: Rc<dyn QueueListener>,
) -> Result<Rc<dyn QueuePair>, LinkError> {
    let pair = PairOptions {
        qid,
        entries: info.io_queue_entries,
        transfer_max: info.transfer_max(),
        sgl: if info.options.sgl {
            SglSupport::of(info.identify.sgls.get())
        } else {
            SglSupport::None
        },
    };
    let pair = PciePair::new(reactor, controller, &pair, listener)?;
    // From here on whoever gives up leaves a queue that is deleted, or a controller that is
    // stopped.
    let guard = Unfinished(Some(Rc::clone(&pair)));
    let (entries, sq, cq) = pair.places();
    let size = u32::from(qid) | u32::from(entries - 1) << 16;
    let mut make_cq = Sqe::new(opcode::admin::CREATE_IO_CQ, 0);
    make_cq.dptr = prp(cq, 0);
    make_cq.cdw10.set(size);
    make_cq.cdw11.set(CONTIGUOUS);
    controller.queue_command(make_cq, "create I/O completion queue").await?;
    let mut make_sq = Sqe::new(opcode::admin::CREATE_IO_SQ, 0);
    make_sq.dptr = prp(sq, 0);
    make_sq.cdw10.set(size);
    make_sq.cdw11.set(CONTIGUOUS | u32::from(qid) << 16);
    controller.queue_command(make_sq, "create I/O submission queue").await?;
    guard.keep();
    PcieCore::of(reactor).add(&pair);
    stall::watch(reactor, &pair);
    Ok(pair)
}

/// Ends a queue pair when whoever makes it gives up.
struct Unfinished(Option<Rc<PciePair>>);

impl Unfinished {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(pair) = self.0.take() {
            pair.close("the I/O queue could not be made");
        }
    }
}
