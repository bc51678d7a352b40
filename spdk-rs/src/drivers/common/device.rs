//! Opening, checking, creating and rescanning the file behind a device.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use spdk_rs_sys::file::{self, FileError, FileInfo, FileKind, OpenOptions};
use uuid::Uuid;

use super::FileBdevError;
use crate::bdev::{Bdev, BdevInfo, IoLimits, IoType, IoTypes};
use crate::reactor::Offload;

/// The smallest block where the file system has no demands: a sector.
const BLOCK_LEN_MIN: u32 = 512;
/// The largest block.
const BLOCK_LEN_MAX: u32 = 64 << 10;
/// Entries that the kernel takes in one vectored request (`UIO_MAXIOV`).
const SEGMENTS_MAX: usize = 1024;

/// What a device over a file is made of.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Unique name.
    pub name: String,
    /// A regular file or a block device.
    pub path: PathBuf,
    /// Bytes per block; when none, the logical block of a block device, and for a file 512 or
    /// what direct I/O demands.
    pub block_len: Option<u32>,
    /// Unique identifier; when none, one made from the path (UUIDv5), the same at every start.
    pub uuid: Option<Uuid>,
    /// Create a file of so many bytes, with its space reserved, when there is none; refuse one of
    /// another size.
    pub create_size: Option<u64>,
    /// Open for reading only.
    pub read_only: bool,
    /// Bypass the page cache (`O_DIRECT`); when none, if the file system can.
    pub direct: Option<bool>,
}

impl FileOptions {
    /// A device of that name over an existing file, with the default settings.
    #[must_use]
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            block_len: None,
            uuid: None,
            create_size: None,
            read_only: false,
            direct: None,
        }
    }
}

/// Whether a driver does I/O through the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drivers) enum Buffered {
    /// It is asynchronous in this driver.
    Allowed,
    /// It would hold up the reactor.
    Refused,
}

/// How a driver is called.
#[derive(Clone, Copy, Debug)]
pub(in crate::drivers) struct DriverNames {
    /// In listings.
    pub(in crate::drivers) driver: &'static str,
    /// In words.
    pub(in crate::drivers) product: &'static str,
}

/// The open file behind a device.
#[derive(Debug)]
pub(in crate::drivers) struct FileDevice {
    file: File,
    path: PathBuf,
    info: FileInfo,
    block_len: u32,
    read_only: bool,
    /// Whether the block size was given and not found out.
    block_len_given: bool,
    /// Whether the page cache is bypassed, when that was said.
    direct_given: Option<bool>,
    /// Why the page cache is used, when nobody asked for it.
    direct_refusal: Option<String>,
    /// Whether requests use registered buffers, once a channel was opened.
    pub(in crate::drivers) fixed_buffers: OnceLock<bool>,
    /// Why completions are not polled, when that was to be.
    pub(in crate::drivers) iopoll_refusal: OnceLock<String>,
}

/// Removes a file that was created for a device, unless the device was made.
struct Created(Option<PathBuf>);

impl Drop for Created {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(?path, %error, "a file that was created in vain cannot be removed");
        }
    }
}

impl FileDevice {
    /// Opens the file, creating it when that is asked for, and checks that it can be a device.
    /// Blocks: not for a reactor.
    pub(in crate::drivers) fn open(
        options: &FileOptions,
        buffered: Buffered,
    ) -> Result<Self, FileBdevError> {
        let path = &options.path;
        if let Some(block_len) = options.block_len {
            check_block_len(path, block_len, BLOCK_LEN_MIN)?;
        }
        if options.direct == Some(false) && buffered == Buffered::Refused {
            let reason = "it was switched off".to_owned();
            return Err(FileBdevError::AioNeedsDirect { path: path.clone(), reason });
        }
        let mut direct_refusal = None;
        let opened = match open_or_create(options, options.direct != Some(false)) {
            Err(FileBdevError::Open(FileError::NoDirect { filesystem, .. }))
                if options.direct.is_none() || buffered == Buffered::Refused =>
            {
                let reason = format!("{filesystem} has none");
                if buffered == Buffered::Refused {
                    return Err(FileBdevError::AioNeedsDirect { path: path.clone(), reason });
                }
                direct_refusal = Some(reason);
                open_or_create(options, false)
            }
            other => other,
        };
        let (file, mut created) = opened?;
        let device = Self::examine(file, options, direct_refusal)?;
        if created.0.is_some() {
            device.make_durable()?;
            created.0 = None;
        }
        Ok(device)
    }

    fn examine(
        file: File,
        options: &FileOptions,
        direct_refusal: Option<String>,
    ) -> Result<Self, FileBdevError> {
        let path = &options.path;
        let info = file::probe(&file).map_err(|source| io_error("examine", path, source))?;
        if info.read_only && !options.read_only {
            return Err(FileBdevError::WriteProtected { path: path.clone() });
        }
        let direct_min = if info.direct { info.dio_offset_align } else { 1 };
        let device_min = if info.kind == FileKind::Block { info.logical_block } else { 1 };
        let min = BLOCK_LEN_MIN.max(direct_min).max(device_min);
        let block_len = options.block_len.unwrap_or(min);
        check_block_len(path, block_len, min)?;
        check_size(path, info.size_bytes, block_len)?;
        Ok(Self {
            file,
            path: path.clone(),
            info,
            block_len,
            read_only: options.read_only,
            block_len_given: options.block_len.is_some(),
            direct_given: options.direct,
            direct_refusal,
            fixed_buffers: OnceLock::new(),
            iopoll_refusal: OnceLock::new(),
        })
    }

    /// Brings a new file's size and its name to the medium.
    fn make_durable(&self) -> Result<(), FileBdevError> {
        let failed = |source| io_error("make durable", &self.path, source);
        self.file.sync_all().map_err(failed)?;
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
    }

    /// The facts for the block device layer.
    pub(in crate::drivers) fn bdev_info(
        &self,
        options: &FileOptions,
        names: DriverNames,
    ) -> BdevInfo {
        let info = &self.info;
        // Pieces of a list are whole units of the device too, as kernels before 6.18 demand.
        let alignment = if info.direct { info.dio_mem_align.max(info.dio_offset_align) } else { 1 };
        BdevInfo {
            name: options.name.clone(),
            aliases: Vec::new(),
            uuid: options.uuid.unwrap_or_else(|| uuid_of(&options.path)),
            product_name: names.product.to_owned(),
            driver_name: names.driver,
            block_len: self.block_len,
            phys_block_len: info.physical_block.max(self.block_len),
            num_blocks: info.size_bytes / u64::from(self.block_len),
            alignment: (alignment as usize).next_power_of_two(),
            write_cache: info.write_cache || !info.direct,
            read_only: self.read_only,
            limits: IoLimits { segments_max: SEGMENTS_MAX, ..IoLimits::default() },
        }
    }

    /// What the file or device does itself. The rest is emulated or refused by the layer above.
    pub(in crate::drivers) fn io_types(&self) -> IoTypes {
        let mut kinds = IoTypes::of(&[IoType::Read, IoType::Write, IoType::Flush]);
        if self.info.supports_punch_hole || self.info.supports_discard {
            kinds = kinds.with(IoTypes::of(&[IoType::Unmap]));
        }
        // A file system that punches holes can make a range zero in one of two ways, and the
        // kernel zeroes a range of any block device.
        if self.info.supports_punch_hole || self.is_block_device() {
            kinds = kinds.with(IoTypes::of(&[IoType::WriteZeroes]));
        }
        kinds
    }

    pub(in crate::drivers) fn is_block_device(&self) -> bool {
        self.info.kind == FileKind::Block
    }

    #[inline(always)]
    pub(in crate::drivers) fn raw_fd(&self) -> i32 {
        self.file.as_raw_fd()
    }

    pub(in crate::drivers) fn file(&self) -> &File {
        &self.file
    }

    /// Bytes per block.
    #[inline(always)]
    pub(in crate::drivers) fn block_len(&self) -> u32 {
        self.block_len
    }

    /// The unit of offsets and lengths in bytes, a power of two.
    pub(in crate::drivers) fn unit(&self) -> u64 {
        if self.info.direct { u64::from(self.info.dio_offset_align.max(1)) } else { 1 }
    }

    /// Whether completions can be polled for: direct I/O on a device with poll queues.
    pub(in crate::drivers) fn has_poll_queues(&self) -> bool {
        self.info.direct && self.info.poll_queues
    }

    pub(in crate::drivers) fn is_direct(&self) -> bool {
        self.info.direct
    }

    /// The facts of the file for listings: SPDK's names first.
    pub(in crate::drivers) fn describe(&self) -> serde_json::Map<String, serde_json::Value> {
        let info = &self.info;
        let filesystem = info.filesystem.map(|filesystem| filesystem.name);
        let facts = serde_json::json!({
            "filename": self.path.display().to_string(),
            "block_size_override": self.block_len_given,
            "readonly": self.read_only,
            "fallocate": info.supports_punch_hole,
            "direct": info.direct,
            "direct_override": self.direct_given,
            "direct_refusal": self.direct_refusal,
            "filesystem": filesystem,
            "discard": info.supports_discard,
            "discard_granularity": info.discard_granularity,
            "rotational": info.rotational,
        });
        match facts {
            serde_json::Value::Object(facts) => facts,
            _ => serde_json::Map::new(),
        }
    }

    fn size(&self) -> Result<u64, FileBdevError> {
        let bytes = file::size(&self.file)
            .map_err(|source| io_error("find out the size of", &self.path, source))?;
        check_size(&self.path, bytes, self.block_len)?;
        Ok(bytes)
    }
}

impl Drop for FileDevice {
    fn drop(&mut self) {
        // A ring may hold the file open for a moment longer; the lock ends here.
        let _ = self.file.unlock();
    }
}

/// Whether a device is over a file, so that [`rescan`] works.
#[must_use]
pub fn is_file_device(bdev: &Bdev) -> bool {
    file_of(bdev).is_some()
}

/// Reads the size of the file or block device anew and passes a change on to all who use the
/// device. Returns the size in blocks. I/O beyond a new, smaller end fails from then on.
///
/// # Errors
/// [`FileBdevError`] when the size cannot be read, is less than a block or is no whole number of
/// blocks, and for a device that is not over a file; then nothing has changed.
pub async fn rescan(bdev: &Arc<Bdev>, offload: &Offload) -> Result<u64, FileBdevError> {
    let not_a_file = || FileBdevError::NotAFile {
        device: bdev.name().to_owned(),
        driver: bdev.info().driver_name,
    };
    let device = file_of(bdev).ok_or_else(not_a_file)?;
    let path = device.path.clone();
    let bytes = offload.call(move || device.size()).await.map_err(|_| {
        let source = std::io::Error::other("the helper thread panicked");
        io_error("find out the size of", &path, source)
    })??;
    let blocks = bytes / u64::from(bdev.info().block_len);
    bdev.resize(blocks).await;
    Ok(blocks)
}

/// The file of a device; the drivers give it as their own type.
fn file_of(bdev: &Bdev) -> Option<Arc<FileDevice>> {
    bdev.ops().as_any()?.downcast_ref::<Arc<FileDevice>>().cloned()
}

/// Opens the file, or creates it when there is none and a size is given.
fn open_or_create(options: &FileOptions, direct: bool) -> Result<(File, Created), FileBdevError> {
    let path = &options.path;
    let how = OpenOptions { read_only: options.read_only, direct, exclusive: !options.read_only };
    let wanted = options.create_size;
    match (file::open(path, &how), wanted) {
        (Err(FileError::NotFound { .. }), Some(wanted)) if !options.read_only => {
            let block_len = options.block_len.unwrap_or(BLOCK_LEN_MIN);
            check_size(path, wanted, block_len)?;
            let file = file::create(path, wanted, &how).map_err(|source| match source {
                FileError::NoDirect { .. } => FileBdevError::Open(source),
                _ => FileBdevError::Create { path: path.clone(), bytes: wanted, source },
            })?;
            Ok((file, Created(Some(path.clone()))))
        }
        (Err(error), _) => Err(FileBdevError::Open(error)),
        (Ok(file), wanted) => {
            if options.read_only {
                share(&file, path)?;
            }
            let found = file::size(&file).map_err(|source| io_error("examine", path, source))?;
            match wanted {
                Some(wanted) if wanted != found => {
                    Err(FileBdevError::SizeDiffers { path: path.clone(), found, wanted })
                }
                _ => Ok((file, Created(None))),
            }
        }
    }
}

/// Locks a file against writers; readers share it.
fn share(file: &File, path: &Path) -> Result<(), FileBdevError> {
    file.try_lock_shared().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => FileBdevError::Open(FileError::InUse {
            path: path.to_owned(),
            by: "another opener holds its lock for writing",
        }),
        std::fs::TryLockError::Error(source) => io_error("lock", path, source),
    })
}

fn check_block_len(path: &Path, block_len: u32, min: u32) -> Result<(), FileBdevError> {
    let max = BLOCK_LEN_MAX;
    if block_len.is_power_of_two() && (min..=max).contains(&block_len) {
        return Ok(());
    }
    Err(FileBdevError::BlockLen { path: path.to_owned(), block_len, min, max })
}

fn check_size(path: &Path, bytes: u64, block_len: u32) -> Result<(), FileBdevError> {
    let path = || path.to_owned();
    if bytes < u64::from(block_len) {
        return Err(FileBdevError::TooSmall { path: path(), bytes, block_len });
    }
    if !bytes.is_multiple_of(u64::from(block_len)) {
        return Err(FileBdevError::PartialBlock { path: path(), bytes, block_len });
    }
    Ok(())
}

/// A name of the file that stays the same over restarts.
fn uuid_of(path: &Path) -> Uuid {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let url = [b"file://", path.as_os_str().as_encoded_bytes()].concat();
    Uuid::new_v5(&Uuid::NAMESPACE_URL, &url)
}

fn io_error(what: &'static str, path: &Path, source: std::io::Error) -> FileBdevError {
    FileBdevError::Io { what, path: path.to_owned(), source }
}
