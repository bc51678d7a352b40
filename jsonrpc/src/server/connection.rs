//! One connection: a reader that executes requests in order, and a writer that sends their answers.
//!
//! Both run in one task. Answers pass between them through a queue bounded in bytes: when the peer
//! does not read, the queue fills, the reader waits in [`Output::send`], and nothing more is read
//! or executed.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::time::timeout;

use super::dispatch::{Dispatcher, Flow, Reply};
use super::limits::{Limits, ServerStats};
use crate::codes;
use crate::framing::{Framer, FramingError};

/// Bytes asked of the kernel at once.
const READ_BYTES: usize = 16 * 1024;

/// Answers that may wait beside the limit in bytes; small answers cost more than their bytes.
const QUEUE_ANSWERS: usize = 256;

/// How long input is read and dropped after a refusal. Closing a Unix socket with input unread
/// makes the peer's next write fail, and a peer in the midst of a long request would never look at
/// the answer.
const LINGER: Duration = Duration::from_secs(1);

/// The connection's writing side is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// Why the reader ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The peer ended the stream, or the server shuts down.
    Done,
    /// The stream is of no use any more, and the peer may still be sending.
    Refused,
}

/// Serves one connection until it ends or `stop` turns true.
pub(super) async fn serve(
    mut stream: UnixStream,
    dispatcher: Dispatcher<'_>,
    mut stop: watch::Receiver<bool>,
) {
    let (limits, stats) = (dispatcher.limits, dispatcher.stats);
    let budget = Budget::new(limits);
    let (queue, answers) = mpsc::channel(QUEUE_ANSWERS);
    let (read_half, write_half) = stream.split();
    let reader = async {
        let out = Output { queue, budget: &budget, stats };
        read(read_half, &dispatcher, &out, &mut stop).await
    };
    // When this ends early it drops the queue, and with it the answers that take up room: whoever
    // waits for either learns that there is no use.
    let writer = write(write_half, answers, limits.write_timeout);
    let (end, written) = tokio::join!(reader, writer);
    let connection = dispatcher.connection.0;
    match written {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            stats.stalled.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(connection, "an RPC peer reads nothing; disconnected");
        }
        Err(error) => tracing::debug!(connection, %error, "an RPC peer is gone"),
        Ok(()) if end == End::Refused => {
            tokio::select! {
                () = linger(&mut stream) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
        Ok(()) => {}
    }
}

/// Answers `reply` on a connection that is not served, and closes it.
pub(super) async fn refuse(mut stream: UnixStream, reply: Reply) {
    let mut bytes = reply.json.into_bytes();
    bytes.push(b'\n');
    // A new connection's buffer holds far more than this, so a peer cannot make this wait long.
    if let Ok(Ok(())) = timeout(LINGER, stream.write_all(&bytes)).await {
        linger(&mut stream).await;
    }
}

/// Ends our side and drops what the peer still sends, until it ends too or [`LINGER`] is over.
async fn linger(stream: &mut UnixStream) {
    let drain = async {
        let mut chunk = vec![0; READ_BYTES];
        stream.shutdown().await?;
        while stream.read(&mut chunk).await? > 0 {}
        io::Result::Ok(())
    };
    // Neither a peer that is gone nor one that goes on sending is owed anything more.
    drop(timeout(LINGER, drain).await);
}

/// Reads requests and executes them, one after the other.
async fn read(
    mut half: ReadHalf<'_>,
    dispatcher: &Dispatcher<'_>,
    out: &Output<'_>,
    stop: &mut watch::Receiver<bool>,
) -> End {
    let limits = dispatcher.limits;
    let mut framer = Framer::new(limits.max_request_bytes, limits.max_depth);
    let mut chunk = vec![0; READ_BYTES];
    let mut ended = false;
    loop {
        match framer.next_value() {
            Ok(Some(_)) if *stop.borrow() => return End::Done,
            Ok(Some(value)) => match dispatcher.serve(value, out).await {
                Ok(Flow::Next) => continue,
                Ok(Flow::Close) => return End::Refused,
                Err(Closed) => return End::Done,
            },
            Ok(None) if ended => return End::Done,
            Ok(None) => {}
            Err(error) => {
                // When the peer is gone too, there is nobody to tell.
                drop(out.send(refusal(error)).await);
                return End::Refused;
            }
        }
        let result = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return End::Done,
            () = out.queue.closed() => return End::Done,
            result = half.read(&mut chunk) => result,
        };
        match result {
            Ok(0) => {
                framer.finish();
                ended = true;
            }
            Ok(length) => framer.push(&chunk[..length]),
            Err(error) => {
                tracing::debug!(connection = dispatcher.connection.0, %error, "an RPC peer is gone");
                return End::Done;
            }
        }
    }
}

/// The answer to a stream that cannot be cut into values.
fn refusal(error: FramingError) -> Reply {
    let error = match error {
        FramingError::TooLarge { limit } => jsonrpsee::types::ErrorObject::owned(
            codes::REQUEST_TOO_LARGE,
            "Request is too big",
            Some(format!("a request may have {limit} bytes")),
        ),
        error => codes::parse_error(error),
    };
    Reply::error("null", &error)
}

/// Sends answers until the reader has dropped its side of the queue.
async fn write(
    mut half: WriteHalf<'_>,
    mut answers: mpsc::Receiver<Answer<'_>>,
    patience: Duration,
) -> io::Result<()> {
    while let Some(answer) = answers.recv().await {
        let mut rest = answer.bytes.as_slice();
        while !rest.is_empty() {
            let length = timeout(patience, half.write(rest)).await??;
            if length == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[length..];
        }
        if let Some((notify, success)) = answer.notify {
            notify.notify(success);
        }
    }
    Ok(())
}

/// Room for answers, in bytes.
#[derive(Debug)]
struct Budget {
    permits: Semaphore,
    total: u32,
}

impl Budget {
    fn new(limits: &Limits) -> Self {
        let total = u32::try_from(limits.max_buffered_bytes)
            .unwrap_or(u32::MAX)
            .min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self { permits: Semaphore::new(total as usize), total }
    }
}

/// The reader's side of the queue of answers.
#[derive(Debug)]
pub(super) struct Output<'a> {
    queue: mpsc::Sender<Answer<'a>>,
    budget: &'a Budget,
    stats: &'a ServerStats,
}

impl Output<'_> {
    /// Queues an answer, once there is room for it.
    pub(super) async fn send(&self, mut reply: Reply) -> Result<(), Closed> {
        reply.json.push('\n');
        self.send_part(reply).await
    }

    /// As [`Output::send`], without the line end that follows a whole answer.
    pub(super) async fn send_part(&self, reply: Reply) -> Result<(), Closed> {
        let bytes = reply.json.into_bytes();
        let counted = Counted::new(self.stats, bytes.len());
        let wanted = u32::try_from(bytes.len()).unwrap_or(u32::MAX).min(self.budget.total);
        let permit = self.budget.permits.acquire_many(wanted).await.map_err(|_| Closed)?;
        let answer = Answer { bytes, notify: reply.notify, _permit: permit, _counted: counted };
        self.queue.send(answer).await.map_err(|_| Closed)
    }
}

/// An answer on its way, with the room that it takes up.
#[derive(Debug)]
struct Answer<'a> {
    bytes: Vec<u8>,
    notify: Option<(jsonrpsee::core::server::MethodResponseNotifyTx, bool)>,
    _permit: SemaphorePermit<'a>,
    _counted: Counted<'a>,
}

/// Keeps [`ServerStats::buffered_bytes`] right, however an answer ends.
#[derive(Debug)]
struct Counted<'a> {
    stats: &'a ServerStats,
    bytes: usize,
}

impl<'a> Counted<'a> {
    fn new(stats: &'a ServerStats, bytes: usize) -> Self {
        stats.buffered_bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { stats, bytes }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.stats.buffered_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
