use std::os::unix::net::{UnixDatagram, UnixStream};
use std::sync::Barrier;
use std::thread;

use tempfile::{TempDir, tempdir};

use super::*;

fn dir() -> (TempDir, PathBuf) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("rpc.sock");
    (dir, path)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn socket_and_lock_are_private_and_go_away() {
    let (dir, path) = dir();
    let (_listener, file) = take(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&dir.path().join("rpc.sock.lock")), 0o600);
    UnixStream::connect(&path).unwrap();
    drop(file);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_mode_is_right_from_the_bind_on() {
    let (_dir, path) = dir();
    let _fd = bind_private(&path).unwrap();
    assert_eq!(mode(&path) & !0o600, 0);
    assert!(UnixStream::connect(&path).is_err(), "a socket that does not listen was connected to");
}

#[test]
fn a_path_of_our_own_process_is_refused_with_its_pid() {
    let (_dir, path) = dir();
    let (_listener, _file) = take(&path).unwrap();
    let error = take(&path).unwrap_err();
    let me = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(&error, ServerError::InUse { pid: Some(pid), .. } if *pid == me), "{error}");
    assert!(error.to_string().contains("rpc.sock"), "{error}");
    UnixStream::connect(&path).expect("the socket in use still serves");
}

#[test]
fn a_live_listener_without_a_lock_is_refused() {
    let (dir, path) = dir();
    let _live = UnixListener::bind(&path).unwrap();
    let error = take(&path).unwrap_err();
    assert!(matches!(error, ServerError::InUse { pid: Some(_), .. }), "{error}");
    assert!(path.exists());
    assert!(!dir.path().join("rpc.sock.lock").exists(), "a refused start left its lock file");
}

#[test]
fn a_live_socket_of_another_type_is_refused() {
    let (_dir, path) = dir();
    let _live = UnixDatagram::bind(&path).unwrap();
    assert!(matches!(take(&path), Err(ServerError::InUse { pid: None, .. })));
    assert!(path.exists());
}

#[test]
fn a_dead_socket_is_taken_over() {
    let (_dir, path) = dir();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std removed the socket");
    let (_listener, _file) = take(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_lock_file_left_by_a_dead_process_is_no_obstacle() {
    let (dir, path) = dir();
    fs::write(dir.path().join("rpc.sock.lock"), "4194304999\n").unwrap();
    take(&path).unwrap();
}

#[test]
fn what_is_not_a_socket_is_refused_and_kept() {
    let (dir, path) = dir();
    let refused = |found: &str| match take(&path).unwrap_err() {
        ServerError::NotASocket { found: actual, .. } => assert_eq!(actual, found),
        error => panic!("{error}"),
    };
    fs::write(&path, "precious").unwrap();
    refused("a regular file");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    fs::create_dir(&path).unwrap();
    refused("a directory");
    fs::remove_dir(&path).unwrap();

    let target = dir.path().join("target");
    drop(UnixListener::bind(&target).unwrap());
    std::os::unix::fs::symlink(&target, &path).unwrap();
    refused("a symbolic link");
    assert!(target.exists());
}

#[test]
fn bad_paths_are_named() {
    let (dir, _) = dir();
    let base = dir.path();
    let long = base.join("x".repeat(PATH_BYTES_MAX));
    for (path, expected) in [
        (PathBuf::new(), "empty"),
        (long, "a Unix socket allows 107"),
        (base.join("a\0b"), "zero byte"),
        (PathBuf::from("/"), "names a directory"),
        (base.join("sock/"), "names a directory"),
        (base.join("missing/sock"), "not an existing directory"),
    ] {
        let text = take(&path).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    fs::write(base.join("file"), "").unwrap();
    let text = take(&base.join("file/sock")).unwrap_err().to_string();
    assert!(text.contains("not an existing directory"), "{text}");
}

#[test]
fn the_longest_path_works() {
    let (dir, _) = dir();
    let used = dir.path().as_os_str().len() + 1;
    let path = dir.path().join("x".repeat(PATH_BYTES_MAX - used));
    let (_listener, _file) = take(&path).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_socket_replaced_by_another_file_is_left_alone() {
    let (_dir, path) = dir();
    let (_listener, file) = take(&path).unwrap();
    fs::rename(&path, path.with_extension("old")).unwrap();
    fs::write(&path, "somebody else's").unwrap();
    drop(file);
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody else's");
}

#[test]
fn of_many_that_race_for_a_stale_path_one_wins() {
    const RACERS: usize = 8;
    for _ in 0..20 {
        let (_dir, path) = dir();
        drop(UnixListener::bind(&path).unwrap());
        let barrier = Barrier::new(RACERS);
        let wins: Vec<_> = thread::scope(|scope| {
            let race = || {
                barrier.wait();
                take(&path)
            };
            let racers: Vec<_> = (0..RACERS).map(|_| scope.spawn(race)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        for error in wins.iter().filter_map(|result| result.as_ref().err()) {
            assert!(matches!(error, ServerError::InUse { .. }), "{error}");
        }
        assert_eq!(wins.iter().filter(|result| result.is_ok()).count(), 1);
        UnixStream::connect(&path).unwrap();
    }
}

#[test]
fn a_lock_on_a_file_that_was_removed_or_replaced_does_not_count() {
    let (dir, path) = dir();
    let lock_path = dir.path().join("rpc.sock.lock");
    let held = LockFile::take(&path).unwrap();
    let opened = LockFile::open(&lock_path).unwrap();
    drop(held);
    let again = opened.try_clone().unwrap();
    assert!(LockFile::claim(&path, lock_path.clone(), opened).unwrap().is_none());
    // Another process has made a new file, and holds it.
    let _held = LockFile::take(&path).unwrap();
    assert!(LockFile::claim(&path, lock_path.clone(), again).unwrap().is_none());
    assert!(lock_path.exists(), "the other holder's lock file was removed");
}

#[test]
fn the_path_can_be_taken_again_and_again_under_contention() {
    // Holders that come and go must never hold at the same time, though each removes the lock file.
    let (_dir, path) = dir();
    let holders = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    if let Ok(held) = take(&path) {
                        assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        thread::yield_now();
                        holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(held);
                    }
                }
            });
        }
    });
}
