//! Commands that somebody else made, for a controller by its name.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};

use super::NvmeDriver;
use super::api::{ControllerState, NvmeError};
use super::command;
use super::controller::Controller;
use super::core::NvmeCore;
use super::manage::told;
use crate::NvmeStatus;
use crate::bdev::{BdevDesc, IoBuf, IoType, NvmeCommand, OpenMode};
use crate::env::DmaBuf;
use crate::nvme::controller::LinkError;
use crate::nvme::controller::link::Link;
use crate::nvme::spec::feature::{SetFeaturesCdw10, fid};
use crate::nvme::spec::opcode::admin;
use crate::nvme::spec::{NSID_ALL, Sqe};
use crate::reactor::sleep;

/// The data of a command that is passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// None.
    #[default]
    None,
    /// To the controller.
    Out(Vec<u8>),
    /// So many bytes from the controller.
    In(usize),
}

/// Which queue a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// The admin queue.
    Admin,
    /// An I/O queue: the command is for the namespace that it names.
    Io,
}

/// How a command that was passed on ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status.
    pub status: NvmeStatus,
    /// Completion dwords 0 and 1.
    pub result: u64,
    /// What the controller sent.
    pub data: Vec<u8>,
}

/// Whether an admin command would change what the driver relies on: its queues, its events, the
/// memory that the controller may use.
pub(super) fn is_drivers_own(sqe: &Sqe) -> bool {
    let feature = SetFeaturesCdw10(sqe.cdw10.get()).fid();
    match sqe.opcode {
        admin::CREATE_IO_SQ
        | admin::CREATE_IO_CQ
        | admin::DELETE_IO_SQ
        | admin::DELETE_IO_CQ
        | admin::ASYNC_EVENT_REQUEST
        | admin::DOORBELL_BUFFER_CONFIG
        | admin::KEEP_ALIVE => true,
        admin::SET_FEATURES => [
            fid::NUMBER_OF_QUEUES,
            fid::HOST_MEMORY_BUFFER,
            fid::ASYNC_EVENTS,
            fid::KEEP_ALIVE_TIMER,
        ]
        .contains(&feature),
        _ => false,
    }
}

/// Whether an admin command changes namespaces or what is in them.
fn changes_namespaces(sqe: &Sqe) -> bool {
    let codes = [
        admin::FORMAT_NVM,
        admin::SANITIZE,
        admin::NAMESPACE_MANAGEMENT,
        admin::NAMESPACE_ATTACHMENT,
        admin::FIRMWARE_COMMIT,
    ];
    codes.contains(&sqe.opcode)
}

impl NvmeDriver {
    /// The first path of a controller that is connected.
    pub(super) fn connected(
        &self,
        name: &str,
        what: &'static str,
    ) -> Result<Arc<Controller>, NvmeError> {
        let found = self.find(name, None)?;
        let working = found.iter().find(|one| one.state() == ControllerState::Enabled);
        working.cloned().ok_or_else(|| {
            let trouble = found.first().and_then(|one| one.trouble());
            let why = trouble.unwrap_or_else(|| "it is not connected".to_owned());
            NvmeError::Failed { what, name: name.to_owned(), why }
        })
    }

    /// Passes a command on and waits for its end, for `timeout` at the most. A command that is
    /// late stays with the controller.
    ///
    /// Commands that would change what the driver relies on end with
    /// [`NvmeStatus::INVALID_OPCODE`] and are not sent. Those that change namespaces need the
    /// devices for themselves, and the devices are in line with the namespaces when this returns.
    /// I/O commands, whatever they do, need a device that can be opened for writing.
    ///
    /// # Errors
    /// [`NvmeError`] when the command was not sent, or its end is not known.
    pub async fn pass(
        &self,
        name: &str,
        queue: Passed,
        command: &NvmeCommand,
        data: Transfer,
        timeout: Option<Duration>,
    ) -> Result<Outcome, NvmeError> {
        let what = "passed command";
        let sqe = match entry_of(queue, command) {
            Ok(sqe) => sqe,
            Err(status) => return Ok(refused(status)),
        };
        if queue == Passed::Io {
            return self.pass_io(name, command, sqe, data, timeout).await;
        }
        let run = move |link: Rc<Link>| send(link, sqe, data, timeout);
        let outcome = if changes_namespaces(&sqe) {
            let nsid = Some(sqe.nsid.get()).filter(|&nsid| nsid != 0 && nsid != NSID_ALL);
            self.alone(name, (nsid, what), run, |_| false).await?
        } else {
            self.at_link(name, what, run).await?
        };
        outcome.ok_or_else(|| NvmeError::TimedOut { what, name: name.to_owned() })
    }

    async fn pass_io(
        &self,
        name: &str,
        command: &NvmeCommand,
        sqe: Sqe,
        data: Transfer,
        timeout: Option<Duration>,
    ) -> Result<Outcome, NvmeError> {
        let what = "passed I/O command";
        let controller = self.connected(name, what)?;
        let nsid = sqe.nsid.get();
        let Some(bdev) = self.shared.bdevs_of(name, Some(nsid)).pop() else {
            return Ok(refused(NvmeStatus::INVALID_NAMESPACE));
        };
        let in_use = |error: crate::bdev::ClaimError| NvmeError::InUse {
            what,
            device: bdev.name().to_owned(),
            users: error.to_string(),
        };
        let desc =
            BdevDesc::open(&bdev, OpenMode::ReadWrite, "nvme passthrough", None).map_err(in_use)?;
        let command = *command;
        let run = move || async move {
            let failed = |why: String| Err(why);
            let handle = match desc.io_handle() {
                Ok(handle) => handle,
                Err(error) => return failed(error.to_string()),
            };
            let buf = match buffer(&data, |len| handle.dma_malloc(len)) {
                Ok(buf) => buf.map_or(IoBuf::None, IoBuf::One),
                Err(error) => return failed(error.to_string()),
            };
            let sent = handle.nvme_command(IoType::NvmeIo, &command, buf);
            let done = match timeout {
                None => sent.await,
                Some(limit) => match select(sent, Box::pin(sleep(limit))).await {
                    Either::Left((done, _)) => done,
                    Either::Right(_) => return Ok(None),
                },
            };
            let data = received(&data, done.status, done.buf.into_one());
            Ok(Some(Outcome { status: done.status, result: done.result, data }))
        };
        let done = controller.home.spawn(move |_| run()).await;
        let outcome = done.map_err(|_| NvmeError::NoReactor)?;
        let name = name.to_owned();
        match outcome {
            Ok(Some(outcome)) => Ok(outcome),
            Ok(None) => Err(NvmeError::TimedOut { what, name }),
            Err(why) => Err(NvmeError::Failed { what, name, why }),
        }
    }

    /// Runs something with the association of a controller's first path that is connected.
    pub(super) async fn at_link<T, F, Fut>(
        &self,
        name: &str,
        what: &'static str,
        run: F,
    ) -> Result<T, NvmeError>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Link>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, LinkError>> + 'static,
    {
        let controller = self.connected(name, what)?;
        let id = controller.id;
        let asked = controller.home.spawn(move |reactor| async move {
            match NvmeCore::of(&reactor).home(id).and_then(|home| home.link()) {
                Some(link) => run(link).await,
                None => Err(LinkError::Closed { what }),
            }
        });
        let done = asked.await.map_err(|_| NvmeError::NoReactor)?;
        done.map_err(|error| told(name, what, error))
    }
}

/// Sends an admin command; nothing when it is not answered in time.
async fn send(
    link: Rc<Link>,
    sqe: Sqe,
    data: Transfer,
    timeout: Option<Duration>,
) -> Result<Option<Outcome>, LinkError> {
    let memory = link.reactor().memory().clone();
    let buf = buffer(&data, |len| memory.alloc(len))?;
    let sent = Box::pin(link.passthrough(sqe, buf));
    let late = async {
        match timeout {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    match select(sent, Box::pin(late)).await {
        Either::Left((answer, _)) if !answer.end.answered => {
            Err(LinkError::Closed { what: "passed command" })
        }
        Either::Left((answer, _)) => {
            let end = answer.end;
            let data = received(&data, end.status, answer.buf);
            Ok(Some(Outcome { status: end.status, result: end.result, data }))
        }
        // The buffer is the command's until that has ended.
        Either::Right(_) => Ok(None),
    }
}

/// The entry of a command that may be passed on.
fn entry_of(queue: Passed, command: &NvmeCommand) -> Result<Sqe, NvmeStatus> {
    let (sqe, _) = command::passthrough(command, None, &[])?;
    let own = queue == Passed::Admin && is_drivers_own(&sqe);
    if own { Err(NvmeStatus::INVALID_OPCODE) } else { Ok(sqe) }
}

/// The end of a command that was not sent.
fn refused(status: NvmeStatus) -> Outcome {
    Outcome { status, result: 0, data: Vec::new() }
}

/// A buffer for the data of a command.
fn buffer<E>(
    data: &Transfer,
    alloc: impl FnOnce(usize) -> Result<DmaBuf, E>,
) -> Result<Option<DmaBuf>, E> {
    match data {
        Transfer::None | Transfer::In(0) => Ok(None),
        Transfer::Out(bytes) if bytes.is_empty() => Ok(None),
        Transfer::Out(bytes) => {
            let mut buf = alloc(bytes.len())?;
            buf.as_mut_slice().copy_from_slice(bytes);
            Ok(Some(buf))
        }
        Transfer::In(len) => {
            let mut buf = alloc(*len)?;
            buf.fill(0);
            Ok(Some(buf))
        }
    }
}

/// What the controller sent.
fn received(data: &Transfer, status: NvmeStatus, buf: Option<DmaBuf>) -> Vec<u8> {
    match (data, buf) {
        (Transfer::In(_), Some(buf)) if status.is_success() => buf.as_slice().to_vec(),
        _ => Vec::new(),
    }
}
