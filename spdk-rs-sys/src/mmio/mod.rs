//! Registers of a device: memory that is read and written with volatile accesses of a fixed width.
//!
//! Invariants:
//!
//! * Every access is inside the mapping and aligned to its width; one that is not panics, because
//!   offsets are constants of the code or were checked against what the device says.
//! * What was written to memory before a register is written is there for the device to see.
//! * A device may be pulled out at any time: its registers read as ones from then on, and writing
//!   them does nothing.

mod guard;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crate::hugepage::{MemoryError, Region, zeroed_region};
use guard::Guard;

/// A window of registers. Any thread may use it: each access is one access of the device's.
#[derive(Debug)]
pub struct Mmio {
    start: NonNull<u8>,
    len: usize,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    /// A mapping of its own, unmapped at the end, and who watches that its device is there.
    Mapped(Guard),
    /// Ordinary memory, for a device that is a program.
    Memory(#[expect(dead_code, reason = "keeps the memory mapped")] Box<Region>),
}

// SAFETY: the window belongs to the process and to no thread; accesses are volatile and as wide as
// a register, which the device takes one by one.
unsafe impl Send for Mmio {}
// SAFETY: as above.
unsafe impl Sync for Mmio {}

impl Mmio {
    /// Maps `len` bytes of a file, from a multiple of the page size on: registers of the device that
    /// the file stands for.
    ///
    /// When the device goes away, what is behind the mapping reads as ones, and
    /// [`Mmio::is_lost`] tells so. The first mapping of a process installs a handler of `SIGBUS`,
    /// which passes on what is not about such registers.
    ///
    /// # Errors
    /// The error of mmap(2) or sigaction(2).
    pub fn map(file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset)
            .map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: the kernel chooses the place, so nothing of the process is replaced.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, offset) };
        let start = NonNull::new(start.cast::<u8>())
            .filter(|_| start != libc::MAP_FAILED)
            .ok_or_else(io::Error::last_os_error)?;
        match Guard::new(start, len) {
            Ok(guard) => Ok(Self { start, len, backing: Backing::Mapped(guard) }),
            Err(error) => {
                // SAFETY: it is the whole of a mapping that was made just now.
                unsafe { libc::munmap(start.as_ptr().cast(), len) };
                Err(error)
            }
        }
    }

    /// Registers of a device that is a program of this process: `len` bytes of zeroes.
    ///
    /// # Errors
    /// [`MemoryError`] when there is no memory.
    pub fn in_memory(len: usize) -> Result<Self, MemoryError> {
        let region = zeroed_region(len)?;
        let start = NonNull::new(region.as_ptr()).unwrap_or(NonNull::dangling());
        Ok(Self { start, len, backing: Backing::Memory(Box::new(region)) })
    }

    /// The length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a window is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the device was found to be gone, by a register that is not there any more. It never
    /// comes back through this window.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(&self.backing, Backing::Mapped(guard) if guard.is_lost())
    }

    fn at(&self, offset: usize, width: usize) -> *mut u8 {
        let inside = offset.checked_add(width).is_some_and(|end| end <= self.len);
        assert!(
            inside && offset.is_multiple_of(width),
            "a register of {width} bytes at {offset:#x} of a window of {:#x}",
            self.len
        );
        self.start.as_ptr().wrapping_add(offset)
    }

    /// Reads a register of four bytes.
    ///
    /// # Panics
    /// When it is outside the window or not aligned.
    #[must_use]
    pub fn read32(&self, offset: usize) -> u32 {
        #[expect(clippy::cast_ptr_alignment, reason = "`at` checks the alignment")]
        let register = self.at(offset, 4).cast::<u32>();
        // SAFETY: `at` checked that the register is inside the mapping and aligned.
        u32::from_le(unsafe { register.read_volatile() })
    }

    /// Reads a register of eight bytes.
    ///
    /// # Panics
    /// As [`Mmio::read32`].
    #[must_use]
    pub fn read64(&self, offset: usize) -> u64 {
        #[expect(clippy::cast_ptr_alignment, reason = "`at` checks the alignment")]
        let register = self.at(offset, 8).cast::<u64>();
        // SAFETY: as in `read32`.
        u64::from_le(unsafe { register.read_volatile() })
    }

    /// Writes a register of four bytes.
    ///
    /// # Panics
    /// As [`Mmio::read32`].
    pub fn write32(&self, offset: usize, value: u32) {
        #[expect(clippy::cast_ptr_alignment, reason = "`at` checks the alignment")]
        let register = self.at(offset, 4).cast::<u32>();
        before_write();
        // SAFETY: as in `read32`; the window is writable.
        unsafe { register.write_volatile(value.to_le()) };
    }

    /// Writes a register of eight bytes.
    ///
    /// # Panics
    /// As [`Mmio::read32`].
    pub fn write64(&self, offset: usize, value: u64) {
        #[expect(clippy::cast_ptr_alignment, reason = "`at` checks the alignment")]
        let register = self.at(offset, 8).cast::<u64>();
        before_write();
        // SAFETY: as in `write32`.
        unsafe { register.write_volatile(value.to_le()) };
    }

    /// A register of four bytes that is only written, for a fast path.
    ///
    /// # Panics
    /// As [`Mmio::read32`].
    #[must_use]
    pub fn doorbell(self: &Arc<Self>, offset: usize) -> Doorbell {
        #[expect(clippy::cast_ptr_alignment, reason = "`at` checks the alignment")]
        let register = self.at(offset, 4).cast::<u32>();
        Doorbell { register, _window: Arc::clone(self) }
    }
}

impl Drop for Mmio {
    fn drop(&mut self) {
        if let Backing::Mapped(guard) = &self.backing {
            guard.end();
            // SAFETY: the mapping was handed over whole, and every doorbell keeps the window.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

/// A register of four bytes that is only written.
#[derive(Debug)]
pub struct Doorbell {
    register: *mut u32,
    _window: Arc<Mmio>,
}

impl Doorbell {
    /// Writes it. What was written to memory before is there for the device to see.
    #[inline(always)]
    pub fn ring(&self, value: u32) {
        before_write();
        // SAFETY: the register was checked when this was made, and the window is kept mapped.
        unsafe { self.register.write_volatile(value.to_le()) };
    }
}

/// Orders earlier writes to memory before a write to a register. On x86 stores stay in order and
/// this holds the compiler back only; elsewhere the processor needs to be told.
#[inline(always)]
fn before_write() {
    fence(Ordering::Release);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier has no operands and changes no state that the compiler knows of.
    unsafe {
        std::arch::asm!("dmb oshst", options(nostack, preserves_flags));
    }
}
