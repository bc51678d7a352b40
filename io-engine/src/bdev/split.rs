//! `split:///BASE?split_count=&split_size_mb=|num_blocks=`: devices that are parts of a device that is
//! there already.

use async_trait::async_trait;
use spdk_rs::bdev::Bdev;
use spdk_rs::drivers::split::{self, COUNT_MAX, PartSize};

use super::dev::{BdevError, Factory};
use super::{BdevUri, UriError};
use crate::core::Engine;

/// The largest part in MiB: what fits a signed 64-bit number of bytes.
pub const SIZE_MB_MAX: u64 = (1 << 43) - 1;

/// Parts that are to be made.
#[derive(Clone, Debug)]
pub struct SplitRequest {
    /// The device below.
    pub base: String,
    /// How many parts, 1 to 1024.
    pub count: u32,
    /// How long each is.
    pub size: PartSize,
}

pub(super) fn parse(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    let base = uri.name()?.to_owned();
    let mut params = uri.params();
    let count = params.take_u64("split_count", 1..=COUNT_MAX.into())?;
    params.at_most_one_of(&["split_size_mb", "num_blocks"])?;
    let mib = params.take_u64("split_size_mb", 0..=SIZE_MB_MAX)?;
    let blocks = params.take_u64("num_blocks", 1..=u64::MAX)?;
    let missing: UriError = params.missing("split_count: the number of parts");
    params.finish()?;
    let count = count.and_then(|count| u32::try_from(count).ok()).ok_or(missing)?;
    let size = blocks.map_or_else(|| size_of(mib.unwrap_or(0)), PartSize::Blocks);
    let first = format!("{base}p0");
    Ok(Box::new(Split(SplitRequest { base, count, size }, first)))
}

/// A size as SPDK says it: 0 MiB is an even one.
#[must_use]
pub fn size_of(mib: u64) -> PartSize {
    if mib == 0 { PartSize::Even } else { PartSize::MiB(mib) }
}

struct Split(SplitRequest, String);

#[async_trait]
impl Factory for Split {
    fn name(&self) -> &str {
        &self.1
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        create(engine, &self.0).await.map(|_| self.1.clone())
    }
}

/// Makes and registers the parts; returns their names, in order.
///
/// # Errors
/// [`BdevError`]; then the device below is as it was.
pub async fn create(engine: &Engine, request: &SplitRequest) -> Result<Vec<String>, BdevError> {
    let SplitRequest { base, count, size } = request;
    let Some(reactor) = engine.runtime().first().cloned() else {
        return Err(BdevError::driver(base, "no reactor is running"));
    };
    let made = split::create(engine.registry(), &reactor, base, *count, *size).await;
    let parts = made.map_err(|error| BdevError::driver(base, error))?;
    Ok(parts.iter().map(|part| part.name().to_owned()).collect())
}

/// Removes all parts of a device; returns how many there were.
///
/// # Errors
/// [`BdevError::Registry`] when one is removed by somebody else at the same time.
pub async fn delete(engine: &Engine, base: &Bdev) -> Result<usize, BdevError> {
    let ids: Vec<u64> =
        split::parts_of(engine.registry(), base).iter().map(|part| part.id()).collect();
    let deleted = split::delete(engine.registry(), base).await;
    #[cfg(feature = "fault-injection")]
    for id in &ids {
        engine.faults().device_removed(*id).await;
    }
    deleted?;
    Ok(ids.len())
}

/// Removes a part, and with it the others, of which none may be in use.
pub(super) async fn delete_with_others(
    engine: &Engine,
    part: &str,
    base: &Bdev,
) -> Result<(), BdevError> {
    let parts = split::parts_of(engine.registry(), base);
    let claimed =
        |other: &&std::sync::Arc<Bdev>| other.name() != part && !other.claims().is_empty();
    let used: Vec<&str> = parts.iter().filter(claimed).map(|other| other.name()).collect();
    if !used.is_empty() {
        let verb = if used.len() == 1 { "is" } else { "are" };
        return Err(BdevError::Parts {
            name: part.to_owned(),
            base: base.name().to_owned(),
            others: format!("{} {verb}", used.join(", ")),
        });
    }
    drop(parts);
    delete(engine, base).await.map(drop)
}

#[cfg(test)]
mod tests {
    fn refusal(uri: &str) -> String {
        crate::bdev::plan(uri).map(drop).expect_err(uri).to_string()
    }

    #[test]
    fn a_split_says_how_many_parts_it_has() {
        for uri in [
            "split:///m0?split_count=2",
            "split:///m0?split_count=1024&split_size_mb=7",
            "split:///m0?split_count=1&num_blocks=9",
        ] {
            assert_eq!(crate::bdev::plan(uri).expect(uri).name(), "m0p0");
        }
        assert!(refusal("split:///m0").contains("split_count"));
        assert!(refusal("split:///m0?split_count=0").contains("1 to 1024"));
        assert!(refusal("split:///m0?split_count=1025").contains("1 to 1024"));
        assert!(refusal("split:///m0?split_count=2&size_mb=1").contains("unknown parameter"));
        let both = refusal("split:///m0?split_count=2&split_size_mb=1&num_blocks=8");
        assert!(both.contains("num_blocks"), "{both}");
    }
}
