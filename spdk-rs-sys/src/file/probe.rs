//! What a file or block device is and can do.

use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::{block, retry, space};
use crate::hugepage::base_page_size;
use crate::sysfs;

/// Kind of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file in a file system.
    Regular,
    /// A block device or a partition of one.
    Block,
}

/// The file system that a regular file is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// The number from statfs(2).
    pub magic: u64,
    /// Its name, `unknown` for one that is not known here.
    pub name: &'static str,
}

/// What [`probe`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent capabilities")]
pub struct FileInfo {
    /// Kind of storage.
    pub kind: FileKind,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block in bytes: of the device, or of the device below the file system.
    pub logical_block: u32,
    /// Physical block in bytes: writing less makes the device read, modify and write.
    pub physical_block: u32,
    /// Whether this file is open for direct I/O.
    pub direct: bool,
    /// Alignment in bytes that direct I/O demands of memory.
    pub dio_mem_align: u32,
    /// Alignment in bytes that direct I/O demands of offsets and lengths.
    pub dio_offset_align: u32,
    /// The file system; `None` for a block device.
    pub filesystem: Option<Filesystem>,
    /// Whether writing is impossible: opened so, or the device is write-protected.
    pub read_only: bool,
    /// Whether completed writes may be lost in a power cut unless flushed. Always true for a
    /// regular file, whose metadata needs fdatasync(2) in any case.
    pub write_cache: bool,
    /// Whether the device has queues that can be polled (`IORING_SETUP_IOPOLL`).
    pub poll_queues: bool,
    /// Whether the block device takes discards.
    pub supports_discard: bool,
    /// Unit of discarding or hole punching in bytes; 0 when neither is possible.
    pub discard_granularity: u32,
    /// Whether the block device zeroes by command, without data.
    pub supports_write_zeroes: bool,
    /// Whether [`super::punch_hole`] works on this regular file.
    pub supports_punch_hole: bool,
    /// Whether the device has moving parts.
    pub rotational: bool,
    /// The most 512-byte sectors of one request to the device; larger ones are split by the
    /// kernel.
    pub max_sectors: Option<u32>,
}

/// Examines an open regular file or block device. Nothing is changed.
///
/// # Errors
///
/// The error of the system call that told neither size nor kind; `InvalidInput` for anything that
/// is no storage.
pub fn probe(file: &File) -> io::Result<FileInfo> {
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_block_device() {
        probe_block(file, &metadata)
    } else if kind.is_file() {
        probe_regular(file, &metadata)
    } else {
        let text = "neither a regular file nor a block device";
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

fn probe_block(file: &File, metadata: &Metadata) -> io::Result<FileInfo> {
    let logical_block = block::logical_block(file)?;
    let physical_block = block::physical_block(file).unwrap_or(logical_block).max(logical_block);
    let queue = Queue::of(metadata.rdev());
    let alignment = direct_alignment(file);
    let (direct, opened_read_only) = open_flags(file)?;
    let supports_discard = queue.number("discard_max_bytes") > 0;
    Ok(FileInfo {
        kind: FileKind::Block,
        size_bytes: block::size(file)?,
        logical_block,
        physical_block,
        direct,
        dio_mem_align: alignment.map_or(logical_block, |alignment| alignment.memory),
        dio_offset_align: alignment.map_or(logical_block, |alignment| alignment.offset),
        filesystem: None,
        read_only: opened_read_only || block::read_only(file).unwrap_or(false),
        write_cache: queue.text("write_cache").as_deref() != Some("write through"),
        poll_queues: queue.flag("io_poll"),
        supports_discard,
        discard_granularity: if supports_discard { queue.number("discard_granularity") } else { 0 },
        supports_write_zeroes: queue.number("write_zeroes_max_bytes") > 0,
        supports_punch_hole: false,
        rotational: queue.flag("rotational"),
        max_sectors: queue.max_sectors(),
    })
}

fn probe_regular(file: &File, metadata: &Metadata) -> io::Result<FileInfo> {
    let filesystem = filesystem_of_file(file);
    let queue = Queue::of(metadata.dev());
    let block_of = |name| Some(queue.number(name)).filter(|bytes| *bytes > 0);
    // A file system without a device of its own hides the block; 4096 suits all of them.
    let logical_block = block_of("logical_block_size").unwrap_or(4096);
    let physical_block =
        block_of("physical_block_size").unwrap_or(logical_block).max(logical_block);
    let alignment = direct_alignment(file);
    let (direct, read_only) = open_flags(file)?;
    let supports_punch_hole = !read_only && can_punch(file, metadata.len());
    let unit = u32::try_from(metadata.blksize()).unwrap_or(4096);
    let iopoll_filesystem = filesystem.is_some_and(|found| matches!(found.name, "ext4" | "xfs"));
    Ok(FileInfo {
        kind: FileKind::Regular,
        size_bytes: metadata.len(),
        logical_block,
        physical_block,
        direct,
        dio_mem_align: alignment.map_or(logical_block, |alignment| alignment.memory),
        dio_offset_align: alignment.map_or(logical_block, |alignment| alignment.offset),
        filesystem,
        read_only,
        write_cache: true,
        poll_queues: iopoll_filesystem && queue.flag("io_poll"),
        supports_discard: false,
        discard_granularity: if supports_punch_hole { unit } else { 0 },
        supports_write_zeroes: false,
        supports_punch_hole,
        rotational: queue.flag("rotational"),
        max_sectors: queue.max_sectors(),
    })
}

/// Tries whether holes can be punched, on a range behind the end of the file, where there is
/// nothing to lose.
fn can_punch(file: &File, len: u64) -> bool {
    let page = base_page_size() as u64;
    let Some(behind) = len.checked_next_multiple_of(page) else { return false };
    space::punch_hole(file, behind, page).is_ok()
}

/// Whether the file is open with `O_DIRECT`, and whether for reading only.
fn open_flags(file: &File) -> io::Result<(bool, bool)> {
    // SAFETY: the call takes a descriptor that is open.
    let flags = retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    Ok((flags & libc::O_DIRECT != 0, flags & libc::O_ACCMODE == libc::O_RDONLY))
}

/// What direct I/O demands, in bytes.
#[derive(Clone, Copy, Debug)]
struct Alignment {
    memory: u32,
    offset: u32,
}

/// The alignment from statx(2) (`STATX_DIOALIGN`, Linux 6.1), if it is told.
fn direct_alignment(file: &File) -> Option<Alignment> {
    // SAFETY: all-zero is a valid value of this plain structure of integers.
    let mut info: libc::statx = unsafe { std::mem::zeroed() };
    let (fd, mask) = (file.as_raw_fd(), libc::STATX_DIOALIGN);
    let path = c"".as_ptr();
    // SAFETY: the path is zero-terminated and empty, so that the descriptor is meant; `info` is a
    // valid structure that the call fills.
    let result = unsafe { libc::statx(fd, path, libc::AT_EMPTY_PATH, mask, &raw mut info) };
    let told = result == 0 && info.stx_mask & mask != 0;
    // Zeroes say that the file has no direct I/O.
    if !told || info.stx_dio_mem_align == 0 || info.stx_dio_offset_align == 0 {
        return None;
    }
    Some(Alignment { memory: info.stx_dio_mem_align, offset: info.stx_dio_offset_align })
}

/// The request queue of a device in sysfs.
struct Queue {
    dir: PathBuf,
}

impl Queue {
    /// The queue of a device number; a partition has that of its disk.
    fn of(device: u64) -> Self {
        let (major, minor) = (libc::major(device), libc::minor(device));
        let dir = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        let queue = if dir.join("partition").exists() { "../queue" } else { "queue" };
        Self { dir: dir.join(queue) }
    }

    fn text(&self, name: &str) -> Option<String> {
        sysfs::read_text(self.dir.join(name))
    }

    /// A number, 0 when it is not told.
    fn number(&self, name: &str) -> u32 {
        let value = sysfs::read_u64(self.dir.join(name)).unwrap_or(0);
        u32::try_from(value).unwrap_or(u32::MAX)
    }

    fn flag(&self, name: &str) -> bool {
        sysfs::read_bool(self.dir.join(name)).unwrap_or(false)
    }

    fn max_sectors(&self) -> Option<u32> {
        let kib = self.number("max_sectors_kb");
        (kib > 0).then(|| kib.saturating_mul(2))
    }
}

/// The file system that a path is in; that of its directory when it does not exist.
pub(super) fn filesystem_of(path: &Path) -> Option<Filesystem> {
    let name = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: all-zero is a valid value of this plain structure of integers.
    let mut info: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is zero-terminated and `info` is a valid structure that the call fills.
    let result = unsafe { libc::statfs(name.as_ptr(), &raw mut info) };
    (result == 0).then(|| filesystem(&info))
}

fn filesystem_of_file(file: &File) -> Option<Filesystem> {
    // SAFETY: all-zero is a valid value of this plain structure of integers.
    let mut info: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `info` is a valid structure that the call fills.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut info) };
    (result == 0).then(|| filesystem(&info))
}

/// Names a file system by its number in `<linux/magic.h>`.
fn filesystem(info: &libc::statfs) -> Filesystem {
    // The field is signed on some architectures, and some numbers have the highest of 32 bits set.
    let magic = u64::from(u32::from_ne_bytes(low_half(info.f_type.to_ne_bytes())));
    let name = match magic {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x0102_1994 => "tmpfs",
        0x8584_58F6 => "ramfs",
        0x794C_7630 => "overlayfs",
        0x6969 => "nfs",
        0x2FC1_2FC1 => "zfs",
        0xF2F5_2010 => "f2fs",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0xFE53_4D42 | 0xFF53_4D42 => "cifs",
        0x00C3_6400 => "ceph",
        0xCA45_1A4E => "bcachefs",
        0x7371_7368 => "squashfs",
        0x4D44 => "vfat",
        0x2011_BAB0 => "exfat",
        _ => "unknown",
    };
    Filesystem { magic, name }
}

/// The lower 32 bits of a number in the machine's byte order.
fn low_half<const N: usize>(bytes: [u8; N]) -> [u8; 4] {
    let start = if cfg!(target_endian = "little") { 0 } else { N - 4 };
    let mut half = [0; 4];
    half.copy_from_slice(&bytes[start..start + 4]);
    half
}
