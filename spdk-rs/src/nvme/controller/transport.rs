//! From a transport identifier to a connected queue pair.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::admin::Awaited;
use super::error::LinkError;
use super::link::LinkInfo;
use super::options::ControllerOptions;
use super::queue::{QueueListener, QueuePair};
use super::setup::{configuration, connect_command};
use crate::nvme::pcie::{self, PcieController};
use crate::nvme::tcp::host;
use crate::nvme::{TransportId, TransportType};
use crate::reactor::Reactor;

/// What a queue pair is made with.
#[derive(Clone, Debug)]
pub(crate) struct QueueParameters {
    /// Entries of the queue, at least 2; one fewer commands are outstanding at a time.
    pub(crate) entries: u16,
    /// Bytes of data that the controller takes inside a command's capsule.
    pub(crate) in_capsule_max: u32,
    /// Ask for header digests.
    pub(crate) header_digest: bool,
    /// Ask for data digests.
    pub(crate) data_digest: bool,
    /// How long it may take.
    pub(crate) timeout: Duration,
}

/// An admin queue as far as the transport goes.
pub(super) struct AdminQueue {
    pub(super) queue: Rc<dyn QueuePair>,
    /// The controller, when it is on this machine: it is enabled then. On fabrics the Connect
    /// command comes first.
    pub(super) pcie: Option<Arc<PcieController>>,
}

/// Connects an admin queue.
pub(super) async fn connect_admin(
    reactor: &Rc<Reactor>,
    trid: &TransportId,
    options: &ControllerOptions,
    parameters: &QueueParameters,
    listener: Rc<dyn QueueListener>,
) -> Result<AdminQueue, LinkError> {
    match trid.trtype {
        TransportType::Tcp => {
            let queue = host::connect(reactor, trid, parameters, listener).await?;
            Ok(AdminQueue { queue, pcie: None })
        }
        TransportType::Pcie(address) => {
            let made = pcie::connect_admin(reactor, address, options, configuration, listener);
            let (queue, controller) = made.await?;
            Ok(AdminQueue { queue, pcie: Some(controller) })
        }
    }
}

/// Connects an I/O queue of a controller on this reactor.
pub(crate) async fn connect_io_queue(
    reactor: &Rc<Reactor>,
    info: &LinkInfo,
    qid: u16,
    listener: Rc<dyn QueueListener>,
) -> Result<Rc<dyn QueuePair>, LinkError> {
    if let Some(controller) = &info.pcie {
        let gone = LinkError::Closed { what: "create I/O queue" };
        let controller = controller.upgrade().ok_or(gone)?;
        return pcie::connect_io(reactor, &controller, info, qid, listener).await;
    }
    let options = &*info.options;
    let in_capsule = info.identify.in_capsule_data_bytes();
    let parameters = QueueParameters {
        entries: info.io_queue_entries,
        in_capsule_max: u32::try_from(in_capsule).unwrap_or(u32::MAX),
        header_digest: options.hdgst,
        data_digest: options.ddgst,
        timeout: options.connect_timeout(),
    };
    let queue = host::connect(reactor, &info.trid, &parameters, listener).await?;
    let awaited: Rc<Awaited> = Rc::default();
    let data = (&info.trid, options, info.cntlid);
    let limit = options.connect_timeout();
    let ids = (qid, parameters.entries, 0);
    match connect_command(reactor, &queue, &awaited, ids, data, limit).await {
        Ok(cntlid) if cntlid == info.cntlid => Ok(queue),
        Ok(cntlid) => {
            queue.close("connected to another controller");
            let why = format!("the I/O queue belongs to controller {cntlid}");
            Err(LinkError::Data { what: "answer to connect", why })
        }
        Err(error) => {
            queue.close("the I/O queue could not be connected");
            Err(error)
        }
    }
}
