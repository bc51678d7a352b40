//! What a store holds, volume by volume.

use std::rc::Rc;

use spdk_rs::env::{DmaBuf, Memory};

use super::reactor::simulator;
use crate::device::{BLOCK_BYTES, to_usize};
use crate::oracle::{Content, Failure, Found, Observed};
use crate::plan::Name;
use crate::store::{Store, Volume};

/// Blocks that are read at a time.
const STEP: u64 = 32;

/// A buffer of whole blocks.
///
/// # Errors
/// When there is no memory.
pub fn buffer(memory: &Memory, blocks: u64) -> Result<DmaBuf, Failure> {
    memory.alloc(to_usize(blocks) * BLOCK_BYTES).map_err(|error| simulator(&error))
}

/// Reads all of a volume.
///
/// # Errors
/// When there is no memory.
pub async fn contents(memory: &Memory, volume: &Rc<dyn Volume>) -> Result<Found, Failure> {
    let blocks = volume.blocks();
    let mut contents = Vec::with_capacity(to_usize(blocks));
    let mut at = 0;
    while at < blocks {
        let count = STEP.min(blocks - at);
        // What is not overwritten by the read is seen.
        let mut buf = buffer(memory, count)?;
        for block in buf.as_mut_slice().chunks_exact_mut(BLOCK_BYTES) {
            block[0] = 0xee;
        }
        let (status, buf) = volume.read(at, buf).await;
        if status.is_success() {
            contents.extend(buf.as_slice().chunks_exact(BLOCK_BYTES).map(|b| Ok(Content::of(b))));
        } else {
            // One bad block must not hide its neighbours, nor a good second try the failed first.
            let first = contents.len();
            for block in at..at + count {
                let (status, buf) = volume.read(block, buffer(memory, 1)?).await;
                let found = status.is_success().then(|| Content::of(buf.as_slice()));
                contents.push(found.ok_or(status));
            }
            if contents[first..].iter().all(Result::is_ok) {
                contents[first] = Err(status);
            }
        }
        at += count;
    }
    Ok(Found { contents })
}

/// Reads all volumes.
///
/// # Errors
/// When there is no memory.
pub async fn everything(memory: &Memory, store: &Rc<dyn Store>) -> Result<Observed, Failure> {
    let mut all = Observed::new();
    for name in Name::all() {
        if let Some(volume) = store.volume(&name.to_string()) {
            all.insert(name, contents(memory, &volume).await?);
        }
    }
    Ok(all)
}
