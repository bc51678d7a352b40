//! The ground: everything unsafe that touches the kernel or the hardware.
//!
//! This crate is mechanism without policy. It wraps what the Linux kernel and the processor offer
//! to a polled-mode storage engine, checks every answer, and gives each failure a typed error
//! that names the offending value. Which mechanism is used, and what is given up when one is
//! missing, is decided above it.
//!
//! Invariants of the whole crate:
//!
//! * `unsafe` code lives only in the modules below that are marked for it; every block states why
//!   it is sound.
//! * No function on an I/O path allocates, locks or logs.
//! * Nothing here depends on a privilege: where one is missing, the error or the returned report
//!   says which one, and the caller may carry on without.
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "completions are read from a ring that the kernel writes")]
pub mod aio;
#[expect(unsafe_code, reason = "scheduler system calls take raw CPU masks")]
pub mod cpu;
#[cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "vector instructions need a processor that was asked for them")
)]
pub mod digest;
#[expect(unsafe_code, reason = "descriptors are made, read and waited for by system calls")]
pub mod event;
#[expect(unsafe_code, reason = "files are examined and changed by raw system calls")]
pub mod file;
#[expect(unsafe_code, reason = "memory is mapped, locked and unmapped by system calls")]
pub mod hugepage;
pub mod iova;
#[expect(unsafe_code, reason = "registers are read and written by address")]
pub mod mmio;
#[expect(unsafe_code, reason = "clock and resource-limit system calls fill raw structures")]
pub mod os;
pub mod pci;
#[expect(unsafe_code, reason = "socket calls take raw addresses, options and vectors")]
pub mod socket;
#[expect(unsafe_code, reason = "the time-stamp counter is read with an intrinsic")]
pub mod tsc;
#[expect(unsafe_code, reason = "socket calls take raw addresses and buffers")]
pub mod uevent;
#[expect(unsafe_code, reason = "requests name memory that the kernel reads and writes")]
pub mod uring;
#[expect(unsafe_code, reason = "devices are handed over by ioctl(2) and mmap(2)")]
pub mod vfio;

mod sysfs;
