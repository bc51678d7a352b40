//! Memory of a device, lent to whoever reads it.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::env::{IoVec, SharedRegion};

/// A range of a memory device's own memory, as the answer to a read.
///
/// To be read by address only, and never through a reference: other I/O may write the blocks at
/// any time, and what is read then is a mixture, as of two hosts that use one block of a disk at
/// once. The memory stays mapped until the value is dropped, also when the device is removed.
///
/// The value is one pointer. Its record comes from the pool of the device's channel and goes back
/// there, so that a loan costs no allocation and no atomic operation.
pub struct Lent(Option<Box<Loan>>);

struct Loan {
    iov: IoVec,
    pool: Option<Rc<LendPool>>,
}

/// What a channel lends from: the device's memory, and records for loans.
pub struct LendPool {
    region: SharedRegion,
    // Boxes, since a loan is handed out as one pointer and comes back without an allocation.
    #[expect(clippy::vec_box, reason = "the boxes themselves are what is kept")]
    free: RefCell<Vec<Box<Loan>>>,
}

impl LendPool {
    /// A pool of a memory device's region.
    #[must_use]
    pub fn new(region: SharedRegion) -> Rc<Self> {
        Rc::new(Self { region, free: RefCell::default() })
    }

    /// Lends `len` bytes from `offset` on.
    ///
    /// # Panics
    /// When the range reaches beyond the region.
    #[inline]
    #[must_use]
    pub fn lend(self: &Rc<Self>, offset: usize, len: usize) -> Lent {
        let (iov, pool) = (self.region.io_vec(offset, len), Some(Rc::clone(self)));
        let free = self.free.borrow_mut().pop();
        Lent(Some(match free {
            Some(mut loan) => {
                (loan.iov, loan.pool) = (iov, pool);
                loan
            }
            None => Box::new(Loan { iov, pool }),
        }))
    }
}

impl Lent {
    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |loan| loan.iov.len())
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the bytes are, to be read only. They stay there while the value lives, also when it
    /// is moved.
    #[inline(always)]
    #[must_use]
    pub fn io_vecs(&self) -> &[IoVec] {
        self.0.as_ref().map_or(&[], |loan| std::slice::from_ref(&loan.iov))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(mut loan) = self.0.take()
            && let Some(pool) = loan.pool.take()
        {
            pool.free.borrow_mut().push(loan);
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lent({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests;
