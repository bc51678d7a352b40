//! Registers in memory, and registers that go away.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use super::*;

#[test]
fn registers_keep_what_is_written() {
    let window = Arc::new(Mmio::in_memory(8192).unwrap());
    window.write64(8, 0x1122_3344_5566_7788);
    assert_eq!((window.read32(8), window.read32(12)), (0x5566_7788, 0x1122_3344));
    window.write32(4, 7);
    assert_eq!((window.read64(0), window.len()), (7 << 32, 8192));
    window.doorbell(0x1004).ring(9);
    assert_eq!(window.read32(0x1004), 9);
}

#[test]
fn registers_outside_the_window_are_refused() {
    let window = Arc::new(Mmio::in_memory(4096).unwrap());
    let refused = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
    assert!(refused(&|| window.write32(4096, 0)));
    assert!(refused(&|| window.write64(4092, 0)));
    assert!(refused(&|| drop(window.doorbell(usize::MAX))));
    assert!(refused(&|| window.write32(2, 0)));
    assert!(!refused(&|| window.write32(4092, 0)));
}

const PAGE: usize = 4096;

/// Registers behind a file, which can be cut off as the kernel takes those of a device away.
fn behind_a_file(pages: usize) -> (File, Arc<Mmio>) {
    let file = tempfile::tempfile().unwrap();
    file.set_len((pages * PAGE) as u64).unwrap();
    let window = Arc::new(Mmio::map(file.as_fd(), 0, pages * PAGE).unwrap());
    (file, window)
}

#[test]
fn registers_of_a_device_that_is_pulled_out_read_as_ones() {
    let (file, window) = behind_a_file(18);
    let (_other_file, other) = behind_a_file(2);
    let doorbell = window.doorbell(17 * PAGE + 8);
    window.write32(4, 7);
    doorbell.ring(9);
    assert_eq!((window.read32(4), window.read32(17 * PAGE + 8)), (7, 9));
    assert!(!window.is_lost());
    file.set_len(0).unwrap();
    assert_eq!((window.read32(4), window.read64(8)), (u32::MAX, u64::MAX));
    assert!(window.is_lost());
    // What is written goes nowhere, in a part of the window that nobody has read before too.
    doorbell.ring(1);
    assert_eq!(window.read32(17 * PAGE + 16), u32::MAX);
    // Other devices are none the wiser.
    other.write32(0, 5);
    assert_eq!((other.read32(0), other.is_lost()), (5, false));
}

#[test]
fn threads_that_read_meanwhile_see_the_device_or_ones() {
    let (file, window) = behind_a_file(1);
    let start = std::sync::Barrier::new(5);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                window.write32(64, 3);
                start.wait();
                while window.read32(64) == 3 {}
                assert_eq!(window.read32(64), u32::MAX);
            });
        }
        start.wait();
        file.set_len(0).unwrap();
    });
    assert!(window.is_lost());
}

#[test]
fn a_place_is_used_again() {
    for _ in 0..3 {
        let (file, window) = behind_a_file(1);
        assert!(!window.is_lost(), "what the one before has lost is not this one's");
        file.set_len(0).unwrap();
        assert_eq!(window.read32(0), u32::MAX);
    }
}

/// Runs one of the cases below in a process of its own.
fn in_a_child(case: &str) -> ExitStatus {
    let program = std::env::current_exe().unwrap();
    let name = "mmio::tests::a_fault_of_others_is_theirs";
    let run = Command::new(program).args([name, "--exact"]).env("MMIO_CASE", case).output();
    run.unwrap().status
}

extern "C" fn end_with_7(_: i32) {
    // SAFETY: the call ends the process; it may be made in a handler.
    unsafe { libc::_exit(7) };
}

/// A fault that is about no register, or a signal that somebody sent.
fn trouble(case: &str) {
    let handler: extern "C" fn(i32) = end_with_7;
    let action = match case.split('-').next() {
        Some("default") => libc::SIG_DFL,
        Some("ignored") => libc::SIG_IGN,
        _ => handler as *const () as usize,
    };
    // SAFETY: the handler may run at any time.
    unsafe { libc::signal(libc::SIGBUS, action) };
    let (file, _window) = behind_a_file(1);
    if case.ends_with("sent") {
        // SAFETY: the call takes a number.
        unsafe { libc::raise(libc::SIGBUS) };
    } else {
        let plain = tempfile::tempfile().unwrap();
        plain.set_len(1).unwrap();
        let fd = plain.as_raw_fd();
        // SAFETY: the kernel chooses the place.
        let place =
            unsafe { libc::mmap(ptr::null_mut(), PAGE, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
        plain.set_len(0).unwrap();
        // SAFETY: it is mapped, though nothing is behind it: the fault is what is wanted.
        let _ = unsafe { place.cast::<u8>().read_volatile() };
    }
    drop(file);
}

#[test]
fn a_fault_of_others_is_theirs() {
    if let Ok(case) = std::env::var("MMIO_CASE") {
        return trouble(&case);
    }
    for case in ["default-fault", "default-sent", "ignored-fault"] {
        assert_eq!(in_a_child(case).signal(), Some(libc::SIGBUS), "{case}");
    }
    assert!(in_a_child("ignored-sent").success());
    assert_eq!(in_a_child("handler-fault").code(), Some(7));
    assert_eq!(in_a_child("handler-sent").code(), Some(7));
}
