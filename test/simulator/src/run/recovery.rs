//! Opens what a cut left, and looks at all of it.

use std::rc::Rc;

use spdk_rs::bdev::{BdevDesc, IoHandle, OpenMode};
use spdk_rs::env::Memory;
use spdk_rs::reactor::Reactor;

use super::reactor::{run, simulator};
use super::{ballast, observe};
use crate::device::driver::{self, Control, DeviceOptions};
use crate::device::image::Image;
use crate::device::recording::Recording;
use crate::oracle::{Failure, Observed, Rule};
use crate::plan::Name;
use crate::store::{Cause, Store, StoreKind};

/// What is done with a store after it was opened.
#[derive(Clone, Debug, Default)]
pub struct RecoveryOptions {
    /// The device.
    pub device: DeviceOptions,
    /// Whether the store is asked what is wrong with it.
    pub check: bool,
    /// Whether all volumes are deleted; so many bytes must then remain.
    pub empty_remaining_bytes: Option<u64>,
}

/// What a recovery found.
#[derive(Debug)]
pub struct Recovered {
    /// All volumes.
    pub observed: Observed,
    /// The device's events, from the start of the import to the end of reading.
    pub recording: Recording,
}

/// A device over an image, open for reading and writing.
pub(super) fn open(image: Image, options: &DeviceOptions) -> Result<(IoHandle, Control), Failure> {
    let (bdev, control) = driver::create(image, options);
    let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "simulator", None);
    let handle = desc.map_err(|error| simulator(&error))?.io_handle();
    Ok((handle.map_err(|error| simulator(&error))?, control))
}

/// Imports what an image holds, and reads it.
///
/// # Errors
/// The rule that is broken: the import fails, hangs or panics, or the store finds fault with
/// itself.
pub fn recover(
    kind: &'static dyn StoreKind,
    memory: &Memory,
    image: Image,
    options: &RecoveryOptions,
) -> Result<Recovered, Failure> {
    let options = options.clone();
    run(options.device.seed, memory, move |reactor| async move {
        recover_on(kind, &reactor, image, &options).await
    })
}

async fn recover_on(
    kind: &'static dyn StoreKind,
    reactor: &Rc<Reactor>,
    image: Image,
    options: &RecoveryOptions,
) -> Result<Recovered, Failure> {
    let (device, control) = open(image, &options.device)?;
    let store =
        kind.import(device).await.map_err(|error| Failure::new(Rule::Import, error.to_string()))?;
    if let Some(reason) = store.read_only() {
        return Err(Failure::new(Rule::Import, format!("read-only after the import: {reason}")));
    }
    let observed = observe::everything(reactor.memory(), &store).await?;
    let recording = control.take_recording();
    if options.check {
        check(&store).await?;
    }
    if let Some(expected) = options.empty_remaining_bytes {
        delete_all(&store).await?;
        let remaining = store.remaining_bytes();
        if remaining != expected {
            let text = format!("{remaining} bytes remain without any volume, {expected} at first");
            return Err(Failure::new(Rule::Space, text));
        }
    }
    Ok(Recovered { observed, recording })
}

/// Asks a store what is wrong with it.
///
/// # Errors
/// [`Rule::Check`] with its words.
pub async fn check(store: &Rc<dyn Store>) -> Result<(), Failure> {
    let errors = store.check().await;
    if errors.is_empty() {
        return Ok(());
    }
    // Whether it lasts tells a leak from one that is being worked on.
    let later = match store.reclaimed().await {
        Ok(()) => store.check().await.join("; "),
        Err(error) => error.to_string(),
    };
    let text = format!("{}. When deleted space is back: {later}", errors.join("; "));
    Err(Failure::new(Rule::Check, text))
}

/// Deletes all volumes, clones before their snapshots.
async fn delete_all(store: &Rc<dyn Store>) -> Result<(), Failure> {
    let there = || Name::all().filter(|name| store.volume(&name.to_string()).is_some());
    // Each round frees at least the volumes that nothing depends on.
    for _ in 0..=Name::COUNT {
        for name in there() {
            if let Err(error) = store.delete_volume(&name.to_string()).await
                && error.cause != Cause::Refused
            {
                let text = format!("{name} cannot be deleted: {error}");
                return Err(Failure::new(Rule::Status, text));
            }
        }
    }
    ballast::delete(store).await?;
    let left: Vec<String> = there().map(|name| name.to_string()).collect();
    if !left.is_empty() {
        return Err(Failure::new(Rule::Names, format!("{left:?} cannot be deleted")));
    }
    let result = store.reclaimed().await;
    result.map_err(|error| Failure::new(Rule::Status, format!("space does not come back: {error}")))
}
