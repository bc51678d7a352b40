//! System calls on a file's space that may block, as work for the helper threads.
//!
//! Each takes `[descriptor, byte offset, length in bytes, flags]` and returns 0 or a negated error
//! number. The descriptor stays open meanwhile, since the channel that asked for it does: it lives
//! as long as it has I/O outstanding.
#![allow(unsafe_code, reason = "a descriptor comes as a number, and is borrowed as a file")]

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

use spdk_rs_sys::file;

/// The descriptor is a block device.
pub(in crate::drivers) const FLAG_BLOCK_DEVICE: u64 = 1;
/// The change is made durable before the call returns.
pub(in crate::drivers) const FLAG_SYNC: u64 = 2;

/// Bytes written at once where zeroes have to be written.
const ZEROES_BYTES: usize = 256 << 10;

/// Zeroes at an address that direct I/O takes.
#[repr(align(4096))]
struct Zeroes([u8; ZEROES_BYTES]);

static ZEROES: Zeroes = Zeroes([0; ZEROES_BYTES]);

/// Punches a hole into a regular file.
pub(in crate::drivers) fn punch([fd, off, len, flags]: [u64; 4]) -> i32 {
    with_file(fd, flags, |file| file::punch_hole(file, off, len))
}

/// Discards blocks of a block device.
pub(in crate::drivers) fn discard([fd, off, len, flags]: [u64; 4]) -> i32 {
    with_file(fd, flags, |file| file::blk_discard(file, off, len))
}

/// Makes a range read as zero, by whatever way the file or device has.
pub(in crate::drivers) fn zero([fd, off, len, flags]: [u64; 4]) -> i32 {
    with_file(fd, flags, |file| zero_file(file, off, len, flags & FLAG_BLOCK_DEVICE != 0))
}

/// An fdatasync(2).
pub(in crate::drivers) fn sync([fd, ..]: [u64; 4]) -> i32 {
    with_file(fd, FLAG_SYNC, |_| Ok(()))
}

fn with_file(fd: u64, flags: u64, act: impl FnOnce(&File) -> io::Result<()>) -> i32 {
    let Ok(fd) = i32::try_from(fd) else { return -nix::libc::EBADF };
    // SAFETY: the descriptor is open, see the head of this file, and is not closed here.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    let mut result = act(&file);
    if result.is_ok() && flags & FLAG_SYNC != 0 {
        result = file::fdatasync(&file);
    }
    result.map_or_else(|error| -error.raw_os_error().unwrap_or(nix::libc::EIO), |()| 0)
}

fn zero_file(file: &File, off: u64, len: u64, block_device: bool) -> io::Result<()> {
    let by_command = if block_device {
        file::blk_zeroout(file, off, len)
    } else {
        file::zero_range(file, off, len).or_else(|error| {
            if is_unsupported(&error) { punch_and_extend(file, off, len) } else { Err(error) }
        })
    };
    match by_command {
        Err(error) if is_unsupported(&error) => write_zeroes(file, off, len),
        other => other,
    }
}

/// A hole reads as zero too. Like a write it makes a file longer that was cut meanwhile.
pub(super) fn punch_and_extend(file: &File, off: u64, len: u64) -> io::Result<()> {
    file::punch_hole(file, off, len)?;
    let end = off.saturating_add(len);
    if file.metadata()?.len() < end { file.set_len(end) } else { Ok(()) }
}

/// The last resort.
pub(super) fn write_zeroes(file: &File, off: u64, len: u64) -> io::Result<()> {
    let end = off.saturating_add(len);
    let mut at = off;
    while at < end {
        let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
        let piece = &ZEROES.0[..rest.min(ZEROES_BYTES)];
        match file.write_at(piece, at) {
            Ok(0) => return Err(io::Error::from_raw_os_error(nix::libc::EIO)),
            Ok(written) => at += written as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EOPNOTSUPP | nix::libc::ENOSYS))
}
