//! From a transport identifier to a connected queue pair.

use std::rc::Rc;
use std::time::Duration;

use super::admin::Awaited;
use super::error::LinkError;
use super::link::LinkInfo;
use super::queue::{QueueListener, QueuePair};
use super::setup::connect_command;
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

/// Connects a queue pair, as far as the transport goes; Fabrics Connect is the first command.
pub(super) async fn connect(
    reactor: &Rc<Reactor>,
    trid: &TransportId,
    parameters: &QueueParameters,
    listener: Rc<dyn QueueListener>,
) -> Result<Rc<dyn QueuePair>, LinkError> {
    match trid.trtype {
        TransportType::Tcp => host::connect(reactor, trid, parameters, listener).await,
    }
}

/// Connects an I/O queue of a controller on this reactor.
pub(crate) async fn connect_io_queue(
    reactor: &Rc<Reactor>,
    info: &LinkInfo,
    qid: u16,
    listener: Rc<dyn QueueListener>,
) -> Result<Rc<dyn QueuePair>, LinkError> {
    let options = &*info.options;
    let in_capsule = info.identify.in_capsule_data_bytes();
    let parameters = QueueParameters {
        entries: info.io_queue_entries,
        in_capsule_max: u32::try_from(in_capsule).unwrap_or(u32::MAX),
        header_digest: options.hdgst,
        data_digest: options.ddgst,
        timeout: options.connect_timeout(),
    };
    let queue = connect(reactor, &info.trid, &parameters, listener).await?;
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
