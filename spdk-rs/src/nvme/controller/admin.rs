//! Commands that are awaited: those of the admin queue, and the first ones of every queue.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Either, select};

use super::error::LinkError;
use super::queue::{Command, CommandData, CommandEnd, CommandOwner, QueuePair};
use crate::NvmeStatus;
use crate::env::DmaBuf;
use crate::nvme::spec::Sqe;
use crate::reactor::sleep;

/// The commands of one queue that somebody awaits. A buffer belongs to its command until that has
/// ended, also when nobody waits any more.
#[derive(Default)]
pub(crate) struct Awaited {
    commands: RefCell<BTreeMap<u64, Waiting>>,
    next_tag: Cell<u64>,
    room: RefCell<Vec<oneshot::Sender<()>>>,
}

struct Waiting {
    tell: oneshot::Sender<Answer>,
    buf: Option<DmaBuf>,
}

/// How an awaited command ended, with the buffer that went in.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) end: CommandEnd,
    pub(crate) buf: Option<DmaBuf>,
}

impl Answer {
    /// The result and the buffer of a command that succeeded.
    pub(crate) fn ok(self) -> Result<(u64, Option<DmaBuf>), NvmeStatus> {
        self.end.status.ok().map(|()| (self.end.result, self.buf))
    }
}

impl CommandOwner for Awaited {
    fn command_done(&self, tag: u64, end: &CommandEnd) {
        let waiting = self.commands.borrow_mut().remove(&tag);
        if let Some(Waiting { tell, buf }) = waiting {
            // Whoever waited may be gone; the buffer goes with the answer then.
            let _ = tell.send(Answer { end: *end, buf });
        }
        for waiter in self.room.take() {
            let _ = waiter.send(());
        }
    }
}

impl Awaited {
    /// Sends a command and waits for its end; first for room, when the queue is full.
    #[expect(unsafe_code, reason = "hands the buffer's memory to the queue")]
    pub(crate) async fn execute(
        self: &Rc<Self>,
        queue: &Rc<dyn QueuePair>,
        sqe: Sqe,
        buf: Option<DmaBuf>,
    ) -> Answer {
        let mut buf = buf;
        loop {
            let tag = self.next_tag.replace(self.next_tag.get() + 1);
            let data = CommandData::of(buf.as_ref().map_or(&[], DmaBuf::io_vecs));
            let (tell, told) = oneshot::channel();
            self.commands.borrow_mut().insert(tag, Waiting { tell, buf });
            let owner: Rc<dyn CommandOwner> = Rc::<Self>::clone(self);
            // SAFETY: the buffer stays in the table until the command has ended; a queue that
            // never ends keeps its owner, and with it the table.
            let taken = unsafe { queue.submit(Command { sqe, data, tag, owner }) };
            if taken.is_ok() {
                return told.await.unwrap_or(Answer { end: CommandEnd::LOST, buf: None });
            }
            buf = self.commands.borrow_mut().remove(&tag).and_then(|waiting| waiting.buf);
            if queue.outstanding() == 0 {
                return Answer { end: CommandEnd::LOST, buf };
            }
            let (tell, told) = oneshot::channel();
            self.room.borrow_mut().push(tell);
            let _ = told.await;
        }
    }

    /// As [`Awaited::execute`], with a limit of time. What is late then closes the queue, because
    /// the buffer can only come back when the controller no longer has it.
    pub(crate) async fn execute_within(
        self: &Rc<Self>,
        queue: &Rc<dyn QueuePair>,
        sqe: Sqe,
        buf: Option<DmaBuf>,
        limit: Option<Duration>,
        what: &'static str,
    ) -> Result<Answer, LinkError> {
        let answer = match limit {
            None => self.execute(queue, sqe, buf).await,
            Some(limit) => {
                let executing = Box::pin(self.execute(queue, sqe, buf));
                match select(executing, Box::pin(sleep(limit))).await {
                    Either::Left((answer, _)) => answer,
                    Either::Right(_) => {
                        queue.close("a command was not answered in time");
                        return Err(LinkError::Timeout { what, after: limit });
                    }
                }
            }
        };
        if answer.end.answered { Ok(answer) } else { Err(LinkError::Closed { what }) }
    }
}
