//! Digests of blocks, many at once.
//!
//! SHA-256 of one block is a long chain of steps that wait for each other; of sixteen blocks side by
//! side it costs little more. So what is asked for by several operations in one turn of the
//! reactor is done together at its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures::channel::oneshot;
use spdk_rs::env::DmaBuf;
use spdk_rs::reactor::Reactor;

use super::digest::{Digest, DigestKind, digest_blocks};
use super::layout::BLOCK_BYTES;

/// Blocks from which an operation does not wait for others: it fills the lanes by itself.
const ALONE_FROM: usize = 16;

/// Makes digests for the operations of a reactor.
pub(super) struct Digester {
    kind: DigestKind,
    queue: RefCell<Vec<Asked>>,
    scheduled: Cell<bool>,
    /// Operations that are on their way: a single one has nobody to wait for.
    operations: Cell<usize>,
}

struct Asked {
    buf: DmaBuf,
    tell: oneshot::Sender<(DmaBuf, Vec<Digest>)>,
}

/// Counts an operation.
pub(super) struct Operation<'a>(&'a Digester);

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.0.operations.set(self.0.operations.get() - 1);
    }
}

impl Digester {
    pub(super) fn new(kind: DigestKind) -> Rc<Self> {
        Rc::new(Self {
            kind,
            queue: RefCell::default(),
            scheduled: Cell::new(false),
            operations: Cell::new(0),
        })
    }

    /// An operation begins, which will ask for digests.
    pub(super) fn operation(&self) -> Operation<'_> {
        self.operations.set(self.operations.get() + 1);
        Operation(self)
    }

    /// The digests of the blocks in a buffer.
    pub(super) async fn digests(self: &Rc<Self>, buf: DmaBuf) -> (DmaBuf, Vec<Digest>) {
        let blocks = buf.len() / BLOCK_BYTES;
        if blocks >= ALONE_FROM || self.operations.get() <= 1 {
            let digests = of_buffers(self.kind, std::slice::from_ref(&buf));
            return (buf, digests);
        }
        let (tell, told) = oneshot::channel();
        self.queue.borrow_mut().push(Asked { buf, tell });
        if !self.scheduled.replace(true)
            && let Some(reactor) = Reactor::current()
        {
            let own = Rc::clone(self);
            reactor.spawn("pool digests", async move { own.answer() });
        }
        match told.await {
            Ok(answer) => answer,
            Err(_) => unreachable!("everybody who asks is answered"),
        }
    }

    /// Digests all that was asked for.
    fn answer(&self) {
        self.scheduled.set(false);
        let (bufs, tells): (Vec<_>, Vec<_>) =
            self.queue.take().into_iter().map(|asked| (asked.buf, asked.tell)).unzip();
        let mut digests = of_buffers(self.kind, &bufs);
        for (buf, tell) in bufs.into_iter().zip(tells) {
            let rest = digests.split_off(buf.len() / BLOCK_BYTES);
            // Who has lost interest gets nothing.
            let _ = tell.send((buf, std::mem::replace(&mut digests, rest)));
        }
    }
}

/// The digests of all blocks of some buffers.
fn of_buffers(kind: DigestKind, bufs: &[DmaBuf]) -> Vec<Digest> {
    let blocks: Vec<&[u8]> =
        bufs.iter().flat_map(|buf| buf.as_slice().chunks_exact(BLOCK_BYTES)).collect();
    let mut digests = vec![[0; 32]; blocks.len()];
    digest_blocks(kind, &blocks, &mut digests);
    digests
}
