//! A small store that keeps everything in memory and writes every change to a log, and the same
//! store broken in a way of choice.
//!
//! The log lies in one of two areas. A checkpoint writes all contents to the other area and then a
//! superblock that names it; an import does the same, so that nothing behind the end of the old
//! log can come back. A flush waits for the records before it and then for the device. None of
//! this is fast; it only has to be right, and [`Bug`] by bug wrong.

use std::rc::Rc;

use async_trait::async_trait;
use spdk_rs::bdev::IoHandle;

use super::{Store, StoreKind, StoreOptions, StoreResult};

mod log;
mod open;
mod state;
mod volume;

use log::Superblock;
use open::Opened;
use state::State;
use volume::Handle;

/// A way in which the double can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A flush does not reach the device.
    FlushNotSent,
    /// A flush does not wait for earlier records that are still being written.
    FlushDoesNotWait,
    /// A write with FUA is acknowledged like any other.
    FuaIgnored,
    /// A change of names is acknowledged before it is on the medium.
    NamesNotFlushed,
    /// A failed flush is reported as a good one.
    FlushErrorHidden,
    /// A failed flush is reported, and the next one tried as if nothing had been.
    FlushErrorForgiven,
    /// A log record is believed without looking at its checksum.
    NoChecksum,
    /// A write of several blocks is several records.
    SplitWrites,
    /// Two records that follow one another are replayed in the wrong order.
    ReplayOutOfOrder,
    /// The log of an earlier time is read on behind its end.
    OldRecordsReturn,
    /// A checkpoint does not flush before it writes the superblock.
    SuperblockTooEarly,
    /// An import rewrites the log in the area that holds it.
    ImportInPlace,
    /// An import is refused when zeroes are the last record of the log.
    ImportRefuses,
    /// What zeroes at the end of the log did is there after the first import only.
    ImportForgets,
    /// A write goes to the snapshots of its volume too.
    SnapshotShares,
    /// The same, when it is replayed.
    SnapshotSharesReplayed,
    /// A block that was cut off is back after the volume has grown again.
    RegrowShowsOld,
    /// A volume that is made has one block more than asked for, when it is recovered.
    WrongSize,
    /// Deleting a volume keeps a block.
    SpaceLeak,
    /// The store finds something wrong with itself.
    CheckComplains,
    /// A read returns its neighbour's block, now and then.
    WrongRead,
    /// A read fails for no reason, now and then.
    SpuriousError,
    /// A flush waits for ever, now and then.
    Hang,
    /// Reading a volume of odd size panics.
    Panic,
    /// What a run does depends on the runs before it.
    DoesNotRepeat,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 25] = [
        Self::FlushNotSent,
        Self::FlushDoesNotWait,
        Self::FuaIgnored,
        Self::NamesNotFlushed,
        Self::FlushErrorHidden,
        Self::FlushErrorForgiven,
        Self::NoChecksum,
        Self::SplitWrites,
        Self::ReplayOutOfOrder,
        Self::OldRecordsReturn,
        Self::SuperblockTooEarly,
        Self::ImportInPlace,
        Self::ImportRefuses,
        Self::ImportForgets,
        Self::SnapshotShares,
        Self::SnapshotSharesReplayed,
        Self::RegrowShowsOld,
        Self::WrongSize,
        Self::SpaceLeak,
        Self::CheckComplains,
        Self::WrongRead,
        Self::SpuriousError,
        Self::Hang,
        Self::Panic,
        Self::DoesNotRepeat,
    ];
}

/// The double, right or with a bug.
pub struct Double {
    bug: Option<Bug>,
    name: String,
}

impl Double {
    /// The double that is right, or one with a bug. It lives as long as the process.
    #[must_use]
    pub fn new(bug: Option<Bug>) -> &'static Self {
        let name = bug.map_or_else(|| "double".to_owned(), |bug| format!("{bug:?}"));
        Box::leak(Box::new(Self { bug, name }))
    }
}

#[async_trait(?Send)]
impl StoreKind for Double {
    fn name(&self) -> &str {
        &self.name
    }

    async fn create(&self, device: IoHandle, _: &StoreOptions) -> StoreResult<Rc<dyn Store>> {
        let opened = Opened::new(device, self.bug, State::default(), Superblock::default());
        opened.checkpoint().await?;
        Ok(Rc::new(Handle(Rc::new(opened))))
    }

    async fn import(&self, device: IoHandle) -> StoreResult<Rc<dyn Store>> {
        let superblock = Superblock::load(&device).await?;
        let replayed = log::replay(&device, superblock, self.bug).await?;
        let opened = Opened::new(device, self.bug, replayed.state, superblock);
        opened.go_on(replayed.tail, replayed.next_record);
        if let Some(lasting) = replayed.lasting {
            let shown = opened.state.replace(lasting);
            opened.checkpoint().await?;
            opened.state.replace(shown);
            return Ok(Rc::new(Handle(Rc::new(opened))));
        }
        if self.bug != Some(Bug::OldRecordsReturn) {
            opened.checkpoint().await?;
        }
        Ok(Rc::new(Handle(Rc::new(opened))))
    }
}
