//! The synchronisation that loom replaces in its tests.

#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

#[cfg(loom)]
type Mutex<T> = loom::sync::Mutex<T>;
#[cfg(not(loom))]
#[expect(clippy::disallowed_types, reason = "taken when a magazine is filled or emptied")]
type Mutex<T> = std::sync::Mutex<T>;

/// A value that one thread at a time may use.
#[derive(Debug)]
pub(super) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Uses the value. It stays usable after a panic: everything is checked before it is changed.
    pub(super) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        use_it(&mut value)
    }
}

/// Zeroes that the kernel gives page by page when they are touched; `None` when there is no memory.
#[cfg(not(loom))]
pub(super) fn zeroes(count: usize) -> Option<Box<[AtomicU8]>> {
    use zerocopy::FromZeros;
    <[AtomicU8]>::new_box_zeroed_with_elems(count).ok()
}

#[cfg(loom)]
pub(super) fn zeroes(count: usize) -> Option<Box<[AtomicU8]>> {
    Some((0..count).map(|_| AtomicU8::new(0)).collect())
}
