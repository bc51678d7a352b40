//! A volume that leaves little room for all others.

use std::rc::Rc;

use spdk_rs::NvmeStatus;
use spdk_rs::env::Memory;

use super::observe::buffer;
use crate::device::BLOCK_BYTES;
use crate::oracle::{Failure, Rule};
use crate::store::{Cause, Store};

/// The volume's name, which no plan uses.
const NAME: &str = "ballast";
/// Blocks of one write.
const STEP: u64 = 32;

fn failed(text: String) -> Failure {
    Failure::new(Rule::Simulator, text)
}

/// Writes to a volume until so many blocks are left of those that the store gives away.
///
/// # Errors
/// When the store refuses it for any other reason than that it is full.
pub async fn fill(memory: &Memory, store: &Rc<dyn Store>, left: u64) -> Result<(), Failure> {
    let all = store.remaining_bytes() / BLOCK_BYTES as u64;
    let created = store.create_volume(NAME, all, true).await;
    created.map_err(|error| failed(format!("the ballast cannot be made: {error}")))?;
    let volume = store.volume(NAME).ok_or_else(|| failed("the ballast is not there".to_owned()))?;
    let (mut at, mut step) = (0, STEP);
    while step > 0 && at + step <= all {
        let mut buf = buffer(memory, step)?;
        buf.fill(0xba);
        match volume.write(at, buf, false).await {
            NvmeStatus::SUCCESS => at += step,
            // The last blocks one by one.
            NvmeStatus::CAPACITY_EXCEEDED => step /= 2,
            status => return Err(failed(format!("the ballast cannot be written: {status}"))),
        }
    }
    let freed = left.min(at);
    let status = volume.unmap(at - freed, freed.max(1)).await;
    let checkpointed = store.checkpoint().await;
    if !status.is_success() || checkpointed.is_err() {
        return Err(failed(format!("the ballast cannot be cut: {status}, {checkpointed:?}")));
    }
    Ok(())
}

/// Removes it, if it is there.
///
/// # Errors
/// When the store does not do that.
pub async fn delete(store: &Rc<dyn Store>) -> Result<(), Failure> {
    match store.delete_volume(NAME).await {
        Err(error) if error.cause != Cause::Refused => {
            Err(Failure::new(Rule::Status, format!("the ballast cannot be deleted: {error}")))
        }
        _ => Ok(()),
    }
}
