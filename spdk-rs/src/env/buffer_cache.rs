//! A core's cache of free buffers: no lock and no system call in the common case.

use std::cell::RefCell;
use std::sync::Arc;

use super::DmaBuf;
use super::memory::{Arena, PAGE_BYTES};

/// The largest buffer that is cached; larger ones go to the arena directly.
const CACHED_BYTES_MAX: usize = 1 << 20;
/// Classes 4 KiB, 8 KiB, … 1 MiB.
const CLASSES: usize = (CACHED_BYTES_MAX / PAGE_BYTES).ilog2() as usize + 1;

/// The class of a buffer by its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum SizeClass {
    K4,
    K8,
    K16,
    K32,
    K64,
    K128,
    K256,
    K512,
    M1,
    /// Not cached: larger, or not a power of two.
    Uncached,
}

impl SizeClass {
    const CACHED: [Self; CLASSES] = [
        Self::K4,
        Self::K8,
        Self::K16,
        Self::K32,
        Self::K64,
        Self::K128,
        Self::K256,
        Self::K512,
        Self::M1,
    ];

    /// The class of a capacity in bytes.
    pub(super) fn of(capacity: usize) -> Self {
        let cached =
            capacity.is_power_of_two() && (PAGE_BYTES..=CACHED_BYTES_MAX).contains(&capacity);
        if cached { Self::CACHED[(capacity / PAGE_BYTES).ilog2() as usize] } else { Self::Uncached }
    }

    fn index(self) -> Option<usize> {
        (self != Self::Uncached).then_some(self as usize)
    }
}

/// Where buffers came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferCounts {
    /// Buffers out of the core's cache.
    pub cached: u64,
    /// Buffers out of the memory that all cores share.
    pub arena: u64,
    /// Buffers that were refused, since there was no room.
    pub refused: u64,
}

/// The buffers that a core was given since its cache exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferStats {
    /// Of at most [`BufferStats::SMALL_BYTES_MAX`].
    pub small: BufferCounts,
    /// All others.
    pub large: BufferCounts,
    /// Free bytes in the cache.
    pub cached_bytes: u64,
}

impl BufferStats {
    /// The largest buffer that is a small one, in bytes (SPDK's `small_bufsize`).
    pub const SMALL_BYTES_MAX: usize = 8 << 10;

    /// Small and large ones together.
    #[must_use]
    pub fn all(&self) -> BufferCounts {
        BufferCounts {
            cached: self.small.cached + self.large.cached,
            arena: self.small.arena + self.large.arena,
            refused: self.small.refused + self.large.refused,
        }
    }
}

/// What one core keeps per class, in bytes; the rest goes back to the arena for other cores.
const KEPT_BYTES_PER_CLASS: usize = 4 << 20;

thread_local! {
    static CACHE: RefCell<Option<BufferCache>> = const { RefCell::new(None) };
}

/// Free buffers of this thread, by power-of-two size.
#[derive(Debug, Default)]
pub struct BufferCache {
    classes: [Vec<DmaBuf>; CLASSES],
    /// Buffers that each class has given.
    given: [u64; CLASSES],
    /// What was fetched or refused beside the cache: small, and large.
    beside: [BufferCounts; 2],
}

impl BufferCache {
    /// Gives this thread a cache until the guard is dropped. A reactor holds one while it runs.
    #[must_use = "the cache ends with the guard"]
    pub fn enable() -> CacheGuard {
        let classes = std::array::from_fn(|class| Vec::with_capacity(kept(class)));
        CACHE.with_borrow_mut(|cache| *cache = Some(Self { classes, ..Self::default() }));
        CacheGuard(())
    }

    /// The bytes that a buffer of `len` bytes takes: a power of two up to 1 MiB, then whole pages.
    pub(super) fn capacity_for(len: usize) -> usize {
        if len <= CACHED_BYTES_MAX {
            len.next_power_of_two().max(PAGE_BYTES)
        } else {
            len.next_multiple_of(PAGE_BYTES)
        }
    }

    /// A cached buffer of exactly that capacity.
    pub(super) fn take(arena: &Arc<Arena>, capacity: usize, len: usize) -> Option<DmaBuf> {
        let class = SizeClass::of(capacity).index()?;
        CACHE.with_borrow_mut(|cache| {
            let cache = cache.as_mut()?;
            let free = &mut cache.classes[class];
            if !free.last()?.is_from(arena) {
                return None;
            }
            let mut buf = free.pop()?;
            cache.given[class] += 1;
            // The length is at most the capacity by the choice of the class.
            buf.set_len(len).ok()?;
            Some(buf)
        })
    }

    /// Counts a buffer of a capacity in bytes that the cache was passed by for.
    pub(super) fn passed_by(capacity: usize, refused: bool) {
        CACHE.with_borrow_mut(|cache| {
            let Some(cache) = cache else { return };
            let small = capacity <= BufferStats::SMALL_BYTES_MAX;
            let counts = &mut cache.beside[usize::from(!small)];
            if refused { counts.refused += 1 } else { counts.arena += 1 }
        });
    }

    /// What this thread was given; nothing where it has no cache.
    #[must_use]
    pub fn stats() -> BufferStats {
        CACHE.with_borrow(|cache| {
            let Some(cache) = cache else { return BufferStats::default() };
            let [small, large] = cache.beside;
            let mut stats = BufferStats { small, large, cached_bytes: 0 };
            for (class, given) in cache.given.iter().enumerate() {
                let bytes = PAGE_BYTES << class;
                let small = bytes <= BufferStats::SMALL_BYTES_MAX;
                let counts = if small { &mut stats.small } else { &mut stats.large };
                counts.cached += given;
                stats.cached_bytes += (cache.classes[class].len() * bytes) as u64;
            }
            stats
        })
    }

    /// Keeps a free buffer, or hands it back when there is no cache or no room.
    pub(super) fn put(buf: DmaBuf) -> Option<DmaBuf> {
        let Some(class) = buf.class().index() else { return Some(buf) };
        let mut rest = Some(buf);
        // A thread that is going away has no cache any more: the arena takes the buffer.
        let _ = CACHE.try_with(|cache| {
            if let Ok(mut cache) = cache.try_borrow_mut()
                && let Some(cache) = cache.as_mut()
            {
                let free = &mut cache.classes[class];
                if free.len() < kept(class)
                    && let Some(buf) = rest.take()
                {
                    free.push(buf);
                }
            }
        });
        rest
    }
}

/// Ends the thread's cache when dropped; what it held goes back to the arena.
#[derive(Debug)]
pub struct CacheGuard(());

impl Drop for CacheGuard {
    fn drop(&mut self) {
        let cache = CACHE.try_with(RefCell::take);
        if let Ok(Some(cache)) = cache {
            for buf in cache.classes.into_iter().flatten() {
                buf.release();
            }
        }
    }
}

fn kept(class: usize) -> usize {
    KEPT_BYTES_PER_CLASS / (PAGE_BYTES << class)
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    #[test]
    fn a_freed_buffer_is_found_again_on_its_core() {
        let memory = Memory::ordinary(4 << 20).unwrap();
        let all = memory.report().free_bytes;
        let guard = BufferCache::enable();
        let first = memory.alloc(5000).unwrap();
        let at = first.as_ptr();
        drop(first);
        assert_eq!(memory.report().free_bytes, all - 8192, "the cache keeps it");
        let again = memory.alloc(8000).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (at, 8000));
        drop(again);
        drop(guard);
        assert_eq!(memory.report().free_bytes, all);
    }

    #[test]
    fn a_cache_keeps_a_bounded_amount() {
        let memory = Memory::ordinary(16 << 20).unwrap();
        let all = memory.report().free_bytes;
        let _guard = BufferCache::enable();
        let many: Vec<_> = (0..10).map(|_| memory.alloc(1 << 20).unwrap()).collect();
        drop(many);
        assert_eq!(memory.report().free_bytes, all - KEPT_BYTES_PER_CLASS);
    }

    #[test]
    fn where_buffers_come_from_is_counted() {
        let memory = Memory::ordinary(2 << 20).unwrap();
        assert_eq!(BufferCache::stats(), BufferStats::default());
        drop(memory.alloc(4096).unwrap());
        let _guard = BufferCache::enable();
        drop(memory.alloc(8192).unwrap());
        for _ in 0..3 {
            drop(memory.alloc(5000).unwrap());
        }
        drop(memory.alloc(8193).unwrap());
        drop(memory.alloc(16_384).unwrap());
        assert!(memory.alloc(2 << 20).is_err());
        let stats = BufferCache::stats();
        assert_eq!(stats.small, BufferCounts { cached: 3, arena: 1, refused: 0 });
        assert_eq!(stats.large, BufferCounts { cached: 1, arena: 1, refused: 1 });
        assert_eq!(stats.cached_bytes, 8192 + 16_384);
        assert_eq!(stats.all(), BufferCounts { cached: 4, arena: 2, refused: 1 });
    }

    #[test]
    fn another_arena_is_not_served_from_the_cache() {
        let one = Memory::ordinary(2 << 20).unwrap();
        let two = Memory::ordinary(2 << 20).unwrap();
        let _guard = BufferCache::enable();
        drop(one.alloc(4096).unwrap());
        let before = two.report().free_bytes;
        let _buf = two.alloc(4096).unwrap();
        assert_eq!(two.report().free_bytes, before - 4096);
    }
}
