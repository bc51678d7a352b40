//! I/O that is done by the controllers' admin queues, which may be on another reactor.

use std::rc::Rc;

use super::channel::ChannelCore;
use super::command;
use super::controller::Controller;
use super::core::NvmeCore;
use super::passthrough::is_drivers_own;
use crate::NvmeStatus;
use crate::bdev::BdevIo;
use crate::env::DmaBuf;
use crate::env::iovec::total_len;
use crate::nvme::controller::queue::CommandEnd;
use crate::nvme::spec::{DataDirection, Sqe};

/// Passes an admin command to the controller of the first path that is connected.
pub(super) fn passthrough(channel: &Rc<ChannelCore>, io: BdevIo) {
    let made = command::passthrough(io.nvme_command(), None, io.iovs());
    let sqe = match made {
        Ok((sqe, _)) if !is_drivers_own(&sqe) => sqe,
        Ok(_) => return io.complete(NvmeStatus::INVALID_OPCODE),
        Err(status) => return io.complete(status),
    };
    let Some(controller) = connected(channel) else {
        return io.complete(NvmeStatus::INTERNAL_PATH_ERROR);
    };
    let mut buf = None;
    let bytes = total_len(io.iovs());
    if bytes != 0 {
        let Ok(mut made) = channel.reactor.memory().alloc(bytes) else {
            return io.complete(NvmeStatus::NOT_READY);
        };
        if sqe.direction() == DataDirection::HostToController {
            io.copy_out(0, made.as_mut_slice());
        } else {
            made.fill(0);
        }
        buf = Some(made);
    }
    channel.reactor.spawn("nvme admin command", async move {
        let mut io = io;
        let (end, buf) = execute(&controller, sqe, buf).await;
        if let Some(buf) = buf
            && sqe.direction() == DataDirection::ControllerToHost
            && end.status.is_success()
        {
            io.copy_in(0, buf.as_slice());
        }
        io.set_result(end.result);
        io.complete(end.status);
    });
}

/// A controller of the namespace that is connected.
fn connected(channel: &ChannelCore) -> Option<std::sync::Arc<Controller>> {
    let paths = channel.paths.borrow();
    let mut working = paths.iter().map(|path| &path.controller).filter(|c| !c.io_fails());
    working.next().cloned()
}

/// Runs a command where the controller's admin queue is.
async fn execute(
    controller: &Controller,
    sqe: Sqe,
    buf: Option<DmaBuf>,
) -> (CommandEnd, Option<DmaBuf>) {
    let id = controller.id;
    let answer = controller.home.spawn(move |reactor| async move {
        let link = NvmeCore::of(&reactor).home(id).and_then(|home| home.link());
        match link {
            Some(link) => {
                let answer = link.passthrough(sqe, buf).await;
                (answer.end, answer.buf)
            }
            None => (CommandEnd::LOST, buf),
        }
    });
    answer.await.unwrap_or((CommandEnd::LOST, None))
}

/// Resets every controller of the namespace; succeeds when one of them comes back.
pub(super) fn reset(channel: &Rc<ChannelCore>, io: BdevIo) {
    let controllers: Vec<_> =
        channel.paths.borrow().iter().map(|path| std::sync::Arc::clone(&path.controller)).collect();
    channel.reactor.spawn("nvme reset", async move {
        let mut status = NvmeStatus::INTERNAL_PATH_ERROR;
        for controller in controllers {
            if super::home::reset(&controller).await.is_ok() {
                status = NvmeStatus::SUCCESS;
            }
        }
        io.complete(status);
    });
}
