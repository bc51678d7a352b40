//! The free space of an arena, in pages: best fit by a map of sizes, coalescing on free.
//!
//! A pure data structure for the slow path (opening a device, filling a per-core cache).

use std::collections::{BTreeMap, BTreeSet};

/// Free runs of pages. Invariants: runs do not touch or overlap, and both maps hold the same runs.
#[derive(Debug, Default)]
pub(super) struct FreeMap {
    by_start: BTreeMap<usize, usize>,
    by_size: BTreeSet<(usize, usize)>,
    free_pages: usize,
}

impl FreeMap {
    /// A map with one free run of `pages` pages from page 0.
    pub(super) fn new(pages: usize) -> Self {
        let mut map = Self::default();
        if pages > 0 {
            map.insert(0, pages);
        }
        map
    }

    /// Takes `pages` pages whose first page number is a multiple of `align` (in pages).
    pub(super) fn take(&mut self, pages: usize, align: usize) -> Option<usize> {
        let (size, start, first) =
            self.by_size.range((pages, 0)..).find_map(|&(size, start)| {
                let first = start.next_multiple_of(align);
                (first - start + pages <= size).then_some((size, start, first))
            })?;
        self.remove(start, size);
        if first > start {
            self.insert(start, first - start);
        }
        let end = first + pages;
        if start + size > end {
            self.insert(end, start + size - end);
        }
        Some(first)
    }

    /// Gives pages back and joins them with free neighbours.
    pub(super) fn give(&mut self, start: usize, pages: usize) {
        let (mut start, mut pages) = (start, pages);
        if let Some((&before, &len)) = self.by_start.range(..start).next_back() {
            debug_assert!(before + len <= start, "page {start} is free already");
            if before + len == start {
                self.remove(before, len);
                (start, pages) = (before, pages + len);
            }
        }
        if let Some(&len) = self.by_start.get(&(start + pages)) {
            self.remove(start + pages, len);
            pages += len;
        }
        self.insert(start, pages);
    }

    /// The number of free pages.
    pub(super) fn free_pages(&self) -> usize {
        self.free_pages
    }

    /// The longest free run, in pages.
    pub(super) fn largest_run(&self) -> usize {
        self.by_size.last().map_or(0, |&(size, _)| size)
    }

    fn insert(&mut self, start: usize, pages: usize) {
        self.by_start.insert(start, pages);
        self.by_size.insert((pages, start));
        self.free_pages += pages;
    }

    fn remove(&mut self, start: usize, pages: usize) {
        self.by_start.remove(&start);
        self.by_size.remove(&(pages, start));
        self.free_pages -= pages;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn alignment_leaves_the_head_free() {
        let mut map = FreeMap::new(16);
        assert_eq!(map.take(1, 1), Some(0));
        assert_eq!(map.take(4, 8), Some(8));
        assert_eq!(map.free_pages(), 11);
        map.give(0, 1);
        map.give(8, 4);
        assert_eq!((map.free_pages(), map.largest_run()), (16, 16));
    }

    proptest! {
        #[test]
        fn runs_never_overlap_and_all_comes_back(ops in prop::collection::vec((1usize..9, 0usize..3), 1..200)) {
            const PAGES: usize = 64;
            let mut map = FreeMap::new(PAGES);
            let mut owner = [false; PAGES];
            let mut held: Vec<(usize, usize)> = Vec::new();
            for (pages, kind) in ops {
                if kind == 0 && !held.is_empty() {
                    let (start, len) = held.swap_remove(pages % held.len());
                    owner[start..start + len].fill(false);
                    map.give(start, len);
                } else if let Some(start) = map.take(pages, 1 << kind) {
                    prop_assert_eq!(start % (1 << kind), 0);
                    prop_assert!(owner[start..start + pages].iter().all(|&taken| !taken));
                    owner[start..start + pages].fill(true);
                    held.push((start, pages));
                }
                prop_assert_eq!(map.free_pages(), owner.iter().filter(|&&taken| !taken).count());
            }
            for (start, len) in held {
                map.give(start, len);
            }
            prop_assert_eq!(map.largest_run(), PAGES);
        }
    }
}
