//! Counts what every thread of the unit tests allocates, for tests of what may allocate nothing.
#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn add() {
    // A thread that ends counts no more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        add();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, new_size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Allocations of this thread so far.
pub(crate) fn count() -> u64 {
    COUNT.with(Cell::get)
}

/// Runs what may allocate as it likes, such as the other side of a test.
pub(crate) fn uncounted<T>(run: impl FnOnce() -> T) -> T {
    let before = count();
    let result = run();
    COUNT.with(|count| count.set(before));
    result
}

#[test]
fn allocations_are_counted() {
    let before = count();
    let mut bytes = std::hint::black_box(Vec::<u8>::with_capacity(10));
    bytes.reserve_exact(1000);
    drop(bytes);
    assert_eq!(count() - before, 2);
    uncounted(|| drop(std::hint::black_box(vec![0_u8; 10])));
    assert_eq!(count() - before, 2);
}
