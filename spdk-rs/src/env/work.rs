//! How much each thread has digested: counted with plain stores, asked for on the thread itself.

use std::cell::Cell;

/// A kind of digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// CRC-32C: of NVMe/TCP, and of pools that were made with it.
    Crc32c,
    /// SHA-256 of blocks of pools.
    Sha256,
    /// BLAKE3 of blocks of pools.
    Blake3,
}

/// How much of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkCount {
    /// Digests that were made or continued.
    pub times: u64,
    /// The bytes that they are of.
    pub bytes: u64,
}

thread_local! {
    static COUNTS: [Cell<WorkCount>; Work::ALL.len()] =
        const { [const { Cell::new(WorkCount { times: 0, bytes: 0 }) }; Work::ALL.len()] };
}

impl Work {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Crc32c, Self::Sha256, Self::Blake3];

    /// The name (`crc32c` is SPDK's).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32c => "crc32c",
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }

    /// Counts digests of this kind of so many bytes in all.
    #[inline]
    pub fn count(self, times: usize, bytes: usize) {
        COUNTS.with(|counts| {
            let place = &counts[self as usize];
            let so_far = place.get();
            place.set(WorkCount {
                times: so_far.times + times as u64,
                bytes: so_far.bytes + bytes as u64,
            });
        });
    }

    /// What this thread has counted, in the order of [`Work::ALL`].
    #[must_use]
    pub fn counted() -> [WorkCount; Self::ALL.len()] {
        COUNTS.with(|counts| std::array::from_fn(|kind| counts[kind].get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_counts_for_itself() {
        std::thread::spawn(|| {
            Work::Sha256.count(2, 8192);
            Work::Sha256.count(1, 4096);
            Work::Crc32c.count(1, 5);
            let [crc, sha, blake] = Work::counted();
            assert_eq!(crc, WorkCount { times: 1, bytes: 5 });
            assert_eq!(sha, WorkCount { times: 3, bytes: 12_288 });
            assert_eq!(blake, WorkCount::default());
        })
        .join()
        .unwrap();
        assert_eq!(Work::counted(), [WorkCount::default(); 3]);
    }
}
