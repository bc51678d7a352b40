//! What others give a reactor to poll and to deliver to.

/// Something that is polled at every turn: the channels of the block device layer.
pub trait Source {
    /// Polls what has work; returns how much was found.
    fn poll(&self) -> usize;
    /// Runs the callbacks of what has completed; returns 0 when there was nothing.
    fn dispatch(&self) -> usize;
    /// I/O that was accepted and has not ended.
    fn outstanding(&self) -> usize;
    /// Whether the reactor may sleep as far as this source is concerned. Asked when it is about
    /// to: entries that are queued on the ring now are submitted by the call that it sleeps in.
    fn rest(&self) -> Rest;
    /// The reactor ends: what would wait for the world outside is to end too. Turns go on until
    /// nothing is outstanding, but not for long.
    fn end(&self) {}
}

/// What a source needs while nothing is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Another turn at once: there is work, or a device that can only be polled.
    Poll,
    /// Nothing: the kernel wakes the reactor through its ring or a watched descriptor.
    Sleep,
}

/// Receives the results of ring entries and offloaded work that carry its client number.
pub trait CompletionClient {
    /// A result. `token` is the number given at submission (48 bits); `result` is not negative
    /// or a negated errno; `flags` are the flags of the completion entry, 0 for offloaded work.
    fn completed(&self, token: u64, result: i32, flags: u32);
}

/// Names a client of the reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId(pub(super) u16);
