//! A list that may grow and shrink while it is walked: sources, active channels.

use std::cell::{Cell, RefCell};

/// Items in order of their arrival.
///
/// Walking costs a borrow flag and no copying. What arrives during a walk joins at its end; what
/// leaves is taken out after it.
pub(crate) struct LiveList<T> {
    items: RefCell<Vec<T>>,
    arrived: RefCell<Vec<T>>,
    has_arrived: Cell<bool>,
}

impl<T> Default for LiveList<T> {
    fn default() -> Self {
        Self {
            items: RefCell::default(),
            arrived: RefCell::default(),
            has_arrived: Cell::new(false),
        }
    }
}

impl<T> LiveList<T> {
    /// Adds an item, also during a walk.
    pub(crate) fn push(&self, item: T) {
        match self.items.try_borrow_mut() {
            Ok(mut items) => items.push(item),
            Err(_) => {
                self.arrived.borrow_mut().push(item);
                self.has_arrived.set(true);
            }
        }
    }

    /// Calls `f` with every item.
    #[inline(always)]
    pub(crate) fn each(&self, mut f: impl FnMut(&T)) {
        for item in self.items.borrow().iter() {
            f(item);
        }
        if self.has_arrived.get() {
            self.settle();
        }
    }

    /// Whether `f` holds for any item. The first walk that answers ends.
    pub(crate) fn any(&self, f: impl FnMut(&T) -> bool) -> bool {
        self.items.borrow().iter().any(f)
    }

    /// Takes out what `keep` refuses. Not during a walk.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&T) -> bool) {
        loop {
            let Ok(mut items) = self.items.try_borrow_mut() else { return };
            let Some(index) = items.iter().position(|item| !keep(item)) else { return };
            let removed = items.remove(index);
            // Its destructor may come back here.
            drop(items);
            drop(removed);
        }
    }

    /// Empties the list. Not during a walk.
    pub(crate) fn clear(&self) {
        let items = self.items.try_borrow_mut().map(|mut items| std::mem::take(&mut *items));
        drop(items);
        drop(self.arrived.take());
    }

    #[cold]
    fn settle(&self) {
        // Inside a nested walk the outer one settles.
        if let Ok(mut items) = self.items.try_borrow_mut() {
            items.append(&mut self.arrived.borrow_mut());
            self.has_arrived.set(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_during_a_walk_wait_for_its_end() {
        let list = LiveList::default();
        list.push(1);
        let mut seen = Vec::new();
        list.each(|&item| {
            seen.push(item);
            list.push(item + 1);
            list.each(|_| ());
        });
        assert_eq!(seen, [1]);
        let mut seen = Vec::new();
        list.each(|&item| seen.push(item));
        assert_eq!(seen, [1, 2]);
        list.retain(|&item| item == 2);
        assert!(list.any(|&item| item == 2) && !list.any(|&item| item == 1));
        list.clear();
        assert!(!list.any(|_| true));
    }
}
