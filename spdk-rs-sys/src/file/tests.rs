use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::*;

const BUFFERED: OpenOptions = OpenOptions { read_only: false, direct: false, exclusive: false };

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn refused(path: &Path, options: &OpenOptions) -> String {
    open(path, options).unwrap_err().to_string()
}

#[test]
fn what_is_no_storage_is_refused_by_name() {
    let dir = dir();
    let absent = dir.path().join("absent");
    assert_eq!(refused(&absent, &BUFFERED), format!("{absent:?} does not exist"));
    for read_only in [false, true] {
        let options = OpenOptions { read_only, ..BUFFERED };
        let error = refused(dir.path(), &options);
        assert!(error.contains("is a directory; allowed: a regular file or a block"), "{error}");
        let error = refused(Path::new("/dev/null"), &options);
        assert!(error.contains("is a character device"), "{error}");
    }
    let file = dir.path().join("file");
    File::create(&file).unwrap();
    let below = file.join("below");
    assert!(refused(&below, &BUFFERED).contains("cannot open"));
}

#[test]
fn a_pipe_is_refused_without_waiting_for_its_other_end() {
    let dir = dir();
    let path = dir.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for read_only in [false, true] {
        let error = refused(&path, &OpenOptions { read_only, ..BUFFERED });
        assert!(error.contains("is a pipe"), "{error}");
    }
}

#[test]
fn a_file_is_opened_as_it_is() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, vec![7; 5000]).unwrap();
    let file = open(&path, &BUFFERED).unwrap();
    assert_eq!(size(&file).unwrap(), 5000);
    let info = probe(&file).unwrap();
    assert_eq!((info.kind, info.size_bytes, info.read_only), (FileKind::Regular, 5000, false));
    assert!(info.write_cache && !info.direct && !info.supports_discard);
    assert!(info.logical_block.is_power_of_two() && info.physical_block >= info.logical_block);
    assert!(info.dio_offset_align.is_power_of_two() && info.dio_mem_align.is_power_of_two());
    assert_eq!(fs::read(&path).unwrap(), vec![7; 5000]);
    let flags = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & libc::O_NONBLOCK, 0);

    let file = open(&path, &OpenOptions { read_only: true, ..BUFFERED }).unwrap();
    let info = probe(&file).unwrap();
    assert!(info.read_only && !info.supports_punch_hole);
    assert!(file.write_at(b"x", 0).is_err());
}

#[test]
fn direct_files_are_told_from_buffered_ones() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, vec![7; 8192]).unwrap();
    match open(&path, &OpenOptions::default()) {
        Ok(file) => assert!(probe(&file).unwrap().direct),
        Err(FileError::NoDirect { filesystem, .. }) => println!("skipped: {filesystem}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn missing_permission_is_named() {
    let dir = dir();
    let path = dir.path().join("file");
    File::create(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    match open(&path, &BUFFERED) {
        Ok(_) if crate::os::uid() == 0 => println!("skipped: root may open anything"),
        other => {
            let error = other.unwrap_err().to_string();
            assert!(error.contains("no permission to open"), "{error}");
            assert!(error.ends_with("for reading and writing"), "{error}");
        }
    }
    open(&path, &OpenOptions { read_only: true, ..BUFFERED }).unwrap();
}

#[test]
fn an_exclusive_file_is_opened_once() {
    let dir = dir();
    let path = dir.path().join("file");
    File::create(&path).unwrap();
    let exclusive = OpenOptions { exclusive: true, ..BUFFERED };
    let first = open(&path, &exclusive).unwrap();
    let error = refused(&path, &exclusive);
    assert!(error.contains("is in use"), "{error}");
    open(&path, &BUFFERED).unwrap();
    drop(first);
    open(&path, &exclusive).unwrap();
}

#[test]
fn a_created_file_has_its_length_and_its_blocks() {
    let dir = dir();
    let path = dir.path().join("file");
    let file = create(&path, 1 << 20, &BUFFERED).unwrap();
    assert_eq!(size(&file).unwrap(), 1 << 20);
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    if allocate(&file, 2 << 20).unwrap() == Allocation::Reserved {
        assert!(file.metadata().unwrap().blocks() * 512 >= 2 << 20);
    }
    assert_eq!(size(&file).unwrap(), 2 << 20);
    // Asking for less changes nothing.
    allocate(&file, 4096).unwrap();
    assert_eq!(size(&file).unwrap(), 2 << 20);
    let error = create(&path, 4096, &BUFFERED).unwrap_err().to_string();
    assert_eq!(error, format!("{path:?} exists already"));
    assert_eq!(size(&file).unwrap(), 2 << 20);
}

#[test]
fn a_file_that_does_not_fit_leaves_nothing_behind() {
    let dir = dir();
    let path = dir.path().join("file");
    for len in [1_u64 << 62, u64::MAX] {
        let error = create(&path, len, &BUFFERED).unwrap_err();
        assert!(matches!(error, FileError::NoSpace { .. }), "{error}: {error:?}");
        assert!(!path.exists());
    }
    let file = create(&path, 8192, &BUFFERED).unwrap();
    let blocks = file.metadata().unwrap().blocks();
    assert!(matches!(allocate(&file, 1 << 62), Err(FileError::NoSpace { .. })));
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.len(), metadata.blocks()), (8192, blocks));
}

#[test]
fn holes_and_zeroes_keep_the_length() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, vec![9; 64 << 10]).unwrap();
    let file = open(&path, &BUFFERED).unwrap();
    fdatasync(&file).unwrap();
    let info = probe(&file).unwrap();
    if !info.supports_punch_hole {
        assert_eq!(info.discard_granularity, 0);
        return println!("skipped: no holes on {:?}", info.filesystem);
    }
    assert!(info.discard_granularity > 0);
    assert_eq!(fs::read(&path).unwrap(), vec![9; 64 << 10]);
    punch_hole(&file, 16 << 10, 16 << 10).unwrap();
    if let Err(error) = zero_range(&file, 48 << 10, 8 << 10) {
        assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        file.write_all_at(&[0; 8 << 10], 48 << 10).unwrap();
    }
    let data = fs::read(&path).unwrap();
    assert_eq!(data.len(), 64 << 10);
    let zero =
        |byte: usize| (16 << 10..32 << 10).contains(&byte) || (48 << 10..56 << 10).contains(&byte);
    let wrong = data.iter().enumerate().find(|(byte, value)| (**value == 0) != zero(*byte));
    assert_eq!(wrong, None);
    assert!(file.metadata().unwrap().blocks() * 512 <= 48 << 10);
    for impossible in [u64::MAX, 1 << 63] {
        let error = punch_hole(&file, impossible, 4096).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    }
}

#[test]
fn a_regular_file_takes_no_block_device_calls() {
    let file = tempfile::tempfile().unwrap();
    for result in [blk_discard(&file, 0, 4096), blk_zeroout(&file, 0, 4096)] {
        assert!(result.is_err());
    }
}

#[test]
fn file_systems_are_named() {
    let file = tempfile::tempfile().unwrap();
    let found = probe(&file).unwrap().filesystem.unwrap();
    println!("{found:?}");
    assert_ne!(found.magic, 0);
    let proc = File::open("/proc/version").unwrap();
    assert_eq!(probe(&proc).unwrap().filesystem.unwrap().name, "unknown");
}

/// A loop device over a file of 8 MiB, detached when dropped.
struct LoopDevice {
    path: String,
    _file: tempfile::NamedTempFile,
}

impl LoopDevice {
    /// `None` with a line that says why where there are no loop devices or no right to them.
    fn new() -> Option<Self> {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8 << 20).unwrap();
        let output = std::process::Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file.path())
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let path = String::from_utf8(output.stdout).unwrap().trim().to_owned();
                Some(Self { path, _file: file })
            }
            other => {
                println!("skipped: no loop device: {other:?}");
                None
            }
        }
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

#[test]
fn a_block_device_is_probed_claimed_and_discarded() {
    let Some(device) = LoopDevice::new() else { return };
    let path = Path::new(&device.path);
    let exclusive = OpenOptions { exclusive: true, ..BUFFERED };
    let file = open(path, &exclusive).unwrap();
    let info = probe(&file).unwrap();
    assert_eq!((info.kind, info.size_bytes), (FileKind::Block, 8 << 20));
    assert_eq!(size(&file).unwrap(), 8 << 20);
    assert!(info.logical_block >= 512 && info.filesystem.is_none() && !info.read_only);
    assert!(info.max_sectors.is_some());
    let error = refused(path, &exclusive);
    assert!(error.contains("it is mounted, or another program claims it"), "{error}");

    file.write_all_at(&[5; 16 << 10], 0).unwrap();
    blk_zeroout(&file, 0, 4096).unwrap();
    let mut data = [1; 8192];
    file.read_exact_at(&mut data, 0).unwrap();
    assert!(data[..4096].iter().all(|byte| *byte == 0));
    assert!(data[4096..].iter().all(|byte| *byte == 5));
    if info.supports_discard {
        blk_discard(&file, 8192, 4096).unwrap();
    }
    let error = blk_zeroout(&file, 100, 50).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    drop(file);

    let read_only = OpenOptions { read_only: true, ..BUFFERED };
    assert!(probe(&open(path, &read_only).unwrap()).unwrap().read_only);
    let direct = File::options().read(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
    assert!(probe(&direct).unwrap().direct);
}
