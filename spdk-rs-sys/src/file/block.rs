//! Control calls of block devices, from `<linux/fs.h>`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;

use super::retry;

nix::ioctl_read!(get_size, 0x12, 114, u64);
nix::ioctl_read_bad!(get_logical_block, nix::request_code_none!(0x12, 104), libc::c_int);
nix::ioctl_read_bad!(get_physical_block, nix::request_code_none!(0x12, 123), libc::c_uint);
nix::ioctl_read_bad!(get_read_only, nix::request_code_none!(0x12, 94), libc::c_int);
nix::ioctl_write_ptr_bad!(discard, nix::request_code_none!(0x12, 119), [u64; 2]);
nix::ioctl_write_ptr_bad!(zeroout, nix::request_code_none!(0x12, 127), [u64; 2]);

/// The size of a regular file or block device in bytes.
///
/// # Errors
///
/// The error of fstat(2) or of the `BLKGETSIZE64` ioctl.
pub fn size(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if !metadata.file_type().is_block_device() {
        return Ok(metadata.len());
    }
    let mut bytes = 0_u64;
    // SAFETY: the descriptor is open and the call fills one number.
    unsafe { get_size(file.as_raw_fd(), &raw mut bytes) }?;
    Ok(bytes)
}

/// The logical block of a block device in bytes (`BLKSSZGET`).
pub(super) fn logical_block(file: &File) -> io::Result<u32> {
    let mut bytes = 0;
    // SAFETY: the descriptor is open and the call fills one number.
    unsafe { get_logical_block(file.as_raw_fd(), &raw mut bytes) }?;
    Ok(u32::try_from(bytes).unwrap_or(0))
}

/// The physical block of a block device in bytes (`BLKPBSZGET`).
pub(super) fn physical_block(file: &File) -> io::Result<u32> {
    let mut bytes = 0;
    // SAFETY: the descriptor is open and the call fills one number.
    unsafe { get_physical_block(file.as_raw_fd(), &raw mut bytes) }?;
    Ok(bytes)
}

/// Whether a block device is write-protected (`BLKROGET`).
pub(super) fn read_only(file: &File) -> io::Result<bool> {
    let mut flag = 0;
    // SAFETY: the descriptor is open and the call fills one number.
    unsafe { get_read_only(file.as_raw_fd(), &raw mut flag) }?;
    Ok(flag != 0)
}

/// Tells a block device that `len` bytes at byte `off` are no longer needed (`BLKDISCARD`). What
/// they read as afterwards is not defined. Blocks the calling thread.
///
/// # Errors
///
/// `EOPNOTSUPP` when the device cannot, `EINVAL` for a range that is not in whole logical blocks
/// or beyond the end, `ENOTTY` for a regular file.
pub fn blk_discard(file: &File, off: u64, len: u64) -> io::Result<()> {
    let range = [off, len];
    // SAFETY: the descriptor is open and the call reads two numbers.
    retry(|| unsafe { discard(file.as_raw_fd(), &raw const range) }.unwrap_or(-1)).map(|_| ())
}

/// Zeroes `len` bytes at byte `off` of a block device (`BLKZEROOUT`), by command if the device has
/// one, by writing if not. Blocks the calling thread.
///
/// # Errors
///
/// `EINVAL` for a range that is not in whole logical blocks or beyond the end, `ENOTTY` for a
/// regular file.
pub fn blk_zeroout(file: &File, off: u64, len: u64) -> io::Result<()> {
    let range = [off, len];
    // SAFETY: the descriptor is open and the call reads two numbers.
    retry(|| unsafe { zeroout(file.as_raw_fd(), &raw const range) }.unwrap_or(-1)).map(|_| ())
}
