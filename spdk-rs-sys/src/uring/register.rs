//! Registered files and buffers: looked up and pinned once instead of for every request.

use std::io;
use std::os::fd::RawFd;

use super::{BUFFER_BYTES_MAX, Ring, UringError};

impl Ring {
    /// Makes a file table of `n` empty slots.
    ///
    /// # Errors
    ///
    /// [`UringError::Register`]: `EBUSY` when there is a table already, `EMFILE` when `n` is
    /// beyond `RLIMIT_NOFILE`.
    pub fn register_files_sparse(&mut self, n: u32) -> Result<(), UringError> {
        let submitter = self.ring.submitter();
        let mut result = submitter.register_files_sparse(n);
        if matches!(&result, Err(error) if error.raw_os_error() == Some(libc::EINVAL)) {
            // Before 5.19 empty slots are spelled out.
            result = submitter.register_files(&vec![-1; n as usize]);
        }
        result.map_err(|source| register_error(format!("make a table of {n} files"), source))
    }

    /// Puts a file into a slot of the file table; the slot keeps the file open.
    ///
    /// # Errors
    ///
    /// [`UringError::Register`].
    pub fn register_file(&mut self, slot: u32, fd: RawFd) -> Result<(), UringError> {
        let result = self.ring.submitter().register_files_update(slot, &[fd]);
        result.map(|_| ()).map_err(|source| {
            register_error(format!("put descriptor {fd} into file slot {slot}"), source)
        })
    }

    /// Empties a slot of the file table; requests in flight keep the file open until they end.
    ///
    /// # Errors
    ///
    /// [`UringError::Register`].
    pub fn unregister_file(&mut self, slot: u32) -> Result<(), UringError> {
        let result = self.ring.submitter().register_files_update(slot, &[-1]);
        result
            .map(|_| ())
            .map_err(|source| register_error(format!("empty file slot {slot}"), source))
    }

    /// Makes a buffer table of `n` empty slots (Linux 5.19).
    ///
    /// # Errors
    ///
    /// [`UringError::Register`].
    pub fn register_buffers_sparse(&mut self, n: u32) -> Result<(), UringError> {
        self.ring
            .submitter()
            .register_buffers_sparse(n)
            .map_err(|source| register_error(format!("make a table of {n} buffers"), source))
    }

    /// Pins a buffer of at most [`BUFFER_BYTES_MAX`] bytes and puts it into a slot of the table.
    ///
    /// # Errors
    ///
    /// [`UringError::Register`]; `ENOMEM` when the limit on locked memory is reached, `EFAULT`
    /// when the memory is not there.
    ///
    /// # Safety
    ///
    /// The memory must stay mapped until the slot is emptied or replaced, or the ring is dropped.
    pub unsafe fn update_buffer(
        &mut self,
        slot: u32,
        ptr: *mut u8,
        len: usize,
    ) -> Result<(), UringError> {
        let what = || format!("put a buffer of {len} bytes into buffer slot {slot}");
        if len > BUFFER_BYTES_MAX {
            let text = format!("a registered buffer has at most {BUFFER_BYTES_MAX} bytes");
            let source = io::Error::new(io::ErrorKind::InvalidInput, text);
            return Err(register_error(what(), source));
        }
        let buffer = libc::iovec { iov_base: ptr.cast(), iov_len: len };
        let submitter = self.ring.submitter();
        // SAFETY: the caller keeps the memory mapped as demanded.
        let result = unsafe { submitter.register_buffers_update(slot, &[buffer], None) };
        result.map_err(|source| register_error(what(), source))
    }

    /// Empties a slot of the buffer table.
    ///
    /// # Errors
    ///
    /// [`UringError::Register`].
    pub fn clear_buffer(&mut self, slot: u32) -> Result<(), UringError> {
        // SAFETY: an empty entry names no memory.
        unsafe { self.update_buffer(slot, std::ptr::null_mut(), 0) }
    }
}

fn register_error(what: String, source: io::Error) -> UringError {
    UringError::Register { what, source }
}
