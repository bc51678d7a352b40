//! A connection from the socket to the exchange of parameters.

use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::{Either, select};

use super::pair::TcpPair;
use crate::net::{self, ConnectOptions, SocketOptions, Stream, StreamHandler, StreamOptions};
use crate::nvme::TransportId;
use crate::nvme::controller::LinkError;
use crate::nvme::controller::queue::{QueueListener, QueuePair};
use crate::nvme::controller::transport::QueueParameters;
use crate::nvme::tcp::framing::{Framer, HEADER_SPACE_BYTES, IcReq};
use crate::reactor::{Reactor, sleep};

/// Bytes of headers per command that may wait to be sent: a capsule, and a data PDU.
const HEADER_BYTES_PER_COMMAND: usize = 256;

/// Pieces per command that may wait to be sent.
const PIECES_PER_COMMAND: usize = 4;

/// What a connection has room for beyond that, so that data PDUs go while commands wait.
const EXTRA: StreamOptions = StreamOptions { copy_bytes: 16 * 1024, pieces: 256 };

/// Connects a queue pair: the socket, then ICReq and ICResp (section 3.1).
pub(crate) async fn connect(
    reactor: &Rc<Reactor>,
    trid: &TransportId,
    parameters: &QueueParameters,
    listener: Rc<dyn QueueListener>,
) -> Result<Rc<dyn QueuePair>, LinkError> {
    let limit = parameters.timeout;
    let options = ConnectOptions {
        timeout: limit,
        local_addr: trid.source,
        socket: SocketOptions { priority: trid.priority, ..SocketOptions::default() },
    };
    let socket = net::connect(reactor, trid.address, &options).await?;
    let (tell, told) = oneshot::channel();
    let pair = TcpPair::new(reactor, parameters, tell, listener);
    let depth = usize::from(parameters.entries);
    let room = StreamOptions {
        copy_bytes: EXTRA.copy_bytes + depth * HEADER_BYTES_PER_COMMAND,
        pieces: EXTRA.pieces + depth * PIECES_PER_COMMAND,
    };
    let handler: Rc<dyn StreamHandler> = Rc::<TcpPair>::clone(&pair);
    let stream = Stream::open(reactor, socket, &room, handler)?;
    let request = IcReq {
        pfv: 0,
        hpda: 0,
        header_digest: parameters.header_digest,
        data_digest: parameters.data_digest,
        maxr2t: 0,
    };
    let mut space = [0; HEADER_SPACE_BYTES];
    let len = Framer::ic_req(&request, &mut space);
    // The queue is empty: there is room.
    let _ = stream.send(&space[..len], None);
    let stream = pair.stream.get_or_init(|| stream);
    let guard = GiveUp(Some(stream));
    let answer = match select(told, Box::pin(sleep(limit))).await {
        Either::Left((answer, _)) => answer.unwrap_or_else(|_| Err("it ended".to_owned())),
        Either::Right(_) => {
            return Err(LinkError::Timeout { what: "connection request", after: limit });
        }
    };
    match answer {
        Ok(()) => {
            guard.keep();
            Ok(pair)
        }
        Err(why) => Err(LinkError::Handshake { why }),
    }
}

/// Ends a connection when whoever sets it up gives up.
struct GiveUp<'a>(Option<&'a Rc<Stream>>);

impl GiveUp<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.0 {
            stream.abort();
        }
    }
}
