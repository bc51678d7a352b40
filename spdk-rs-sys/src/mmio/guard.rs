//! What becomes of registers whose device is pulled out while somebody reads them.
//!
//! The kernel takes the mapping's pages away then, and whoever touches one gets `SIGBUS`, which
//! ends the process. A handler puts ordinary memory of ones in their place instead: that is what
//! the bus answers for a device that is not there, and what every driver looks for.
//!
//! Invariants:
//!
//! * The handler only reads atomics and makes system calls: it may run in the middle of anything.
//! * A reader sees the register of the device or ones, never a page that is being filled.
//! * A fault outside the windows known here is whose it was before: the handler that was there
//!   gets it, and without one it ends the process as it would have.
//! * A window is forgotten before its mapping goes, and nobody reads a register of a window that
//!   is going, so that the handler never replaces what others have mapped there since.

use std::ffi::c_void;
use std::io;
use std::ptr::{self, NonNull};
#[expect(clippy::disallowed_types, reason = "devices are opened by the control plane")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError};

/// As much as one fault replaces at the most: the registers of most devices, and no more memory
/// than that for one with a large window.
const CHUNK: usize = 64 << 10;

/// A window of registers that is watched, or the place of one. Places are used again and never
/// freed, so that the handler can walk them without a lock.
#[derive(Debug, Default)]
struct Window {
    /// The address; 0 when the place is free.
    start: AtomicUsize,
    len: AtomicUsize,
    lost: AtomicBool,
    next: OnceLock<Box<Self>>,
}

/// The first place.
static WINDOWS: Window = Window {
    start: AtomicUsize::new(0),
    len: AtomicUsize::new(0),
    lost: AtomicBool::new(false),
    next: OnceLock::new(),
};

/// What was done about `SIGBUS` before. Set before the handler can run.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Held while a window is added. Tells whether the handler is there.
#[expect(clippy::disallowed_types, reason = "devices are opened by the control plane")]
static INSTALLED: Mutex<bool> = Mutex::new(false);

/// The watch over one window.
#[derive(Debug)]
pub(super) struct Guard {
    window: &'static Window,
}

impl Guard {
    /// Watches a mapping of registers from now on.
    ///
    /// # Errors
    /// The error of sigaction(2) when the handler cannot be installed.
    pub(super) fn new(start: NonNull<u8>, len: usize) -> io::Result<Self> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if !*installed {
            install()?;
            *installed = true;
        }
        let mut window = &WINDOWS;
        while window.start.load(Ordering::Relaxed) != 0 {
            window = window.next.get_or_init(Box::default);
        }
        window.lost.store(false, Ordering::Relaxed);
        window.len.store(len, Ordering::Relaxed);
        window.start.store(start.as_ptr().expose_provenance(), Ordering::Release);
        Ok(Self { window })
    }

    /// Whether registers were replaced.
    pub(super) fn is_lost(&self) -> bool {
        self.window.lost.load(Ordering::Acquire)
    }

    /// Ends the watch, before the mapping goes.
    pub(super) fn end(&self) {
        self.window.start.store(0, Ordering::Release);
    }
}

impl Window {
    /// The watched window that an address is in, and the part of it to be replaced.
    fn find(address: usize) -> Option<(&'static Self, usize, usize)> {
        let mut next = Some(&WINDOWS);
        while let Some(window) = next {
            let start = window.start.load(Ordering::Acquire);
            let len = window.len.load(Ordering::Relaxed);
            if start != 0 && address.wrapping_sub(start) < len {
                let chunk = (address - start) / CHUNK * CHUNK;
                return Some((window, start + chunk, CHUNK.min(len - chunk)));
            }
            next = window.next.get().map(|window| &**window);
        }
        None
    }
}

fn install() -> io::Result<()> {
    // SAFETY: all zeros are a valid value of this structure.
    let mut previous: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the call writes the structure, which lives until it returns.
    check(unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) })?;
    let _ = PREVIOUS.set(previous);
    // SAFETY: all zeros are a valid value of this structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = (on_sigbus as *const ()).expose_provenance();
    // On the alternate stack, where there is one: the handler before may need it.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature that the flags name, and may run at any time.
    check(unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) })
}

fn check(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The handler.
extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the call takes nothing and returns the place of this thread's number.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the place is this thread's.
    let before = unsafe { errno.read() };
    // SAFETY: the kernel passes a structure that is valid while the handler runs.
    let told = unsafe { &*info };
    // SAFETY: the field is there for every SIGBUS; one that somebody sent has another in its place,
    // which is looked at for faults only.
    let address = unsafe { told.si_addr() }.addr();
    let fault = told.si_code > 0;
    let window = if fault { Window::find(address) } else { None };
    match window {
        Some((window, start, len)) if replace(start, len) => {
            window.lost.store(true, Ordering::Release);
        }
        _ => pass_on(signal, info, context, fault),
    }
    // SAFETY: as above.
    unsafe { errno.write(before) };
}

/// Puts memory of ones where registers were; false when there is none.
fn replace(start: usize, len: usize) -> bool {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: the kernel chooses the place, so nothing of the process is replaced.
    let fresh = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
    if fresh == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: the memory was mapped just now, and nobody else knows of it.
    unsafe { fresh.cast::<u8>().write_bytes(0xff, len) };
    let place = ptr::with_exposed_provenance_mut::<c_void>(start);
    let how = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the place is a part of a window that is mapped, whose registers are gone; it goes
    // from them to the new memory in one step.
    let moved = unsafe { libc::mremap(fresh, len, len, how, place) };
    if moved == libc::MAP_FAILED {
        // SAFETY: the memory is still where it was mapped, and nobody else knows of it.
        unsafe { libc::munmap(fresh, len) };
    }
    moved != libc::MAP_FAILED
}

/// Leaves a signal to whoever would have had it.
fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut c_void, fault: bool) {
    let (handler, flags) =
        PREVIOUS.get().map_or((libc::SIG_DFL, 0), |one| (one.sa_sigaction, one.sa_flags));
    let function = ptr::with_exposed_provenance::<()>(handler);
    match handler {
        // A fault cannot be ignored: the instruction would fault for ever.
        libc::SIG_IGN if !fault => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: the call takes numbers. A fault happens again with the default action.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            if !fault {
                // SAFETY: the call takes a number; the signal comes when the handler has ended.
                unsafe { libc::raise(signal) };
            }
        }
        _ if flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void);
            // SAFETY: whoever installed it said by the flag that it has this signature.
            let handler = unsafe { std::mem::transmute::<*const (), Handler>(function) };
            handler(signal, info, context);
        }
        _ => {
            // SAFETY: whoever installed it said by the flag's absence that it has this signature.
            let handler = unsafe { std::mem::transmute::<*const (), extern "C" fn(i32)>(function) };
            handler(signal);
        }
    }
}
