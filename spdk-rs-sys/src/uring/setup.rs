//! Making a ring: the most capable set of flags that the kernel takes.

use std::io;

use io_uring::{Builder, IoUring};

use super::{CQ_ENTRIES_MAX, ENTRIES_MAX, RingOptions, UringError};
use crate::{os, sysfs};

/// What a ring was set up with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) single_issuer: bool,
    pub(super) defer_taskrun: bool,
    pub(super) coop_taskrun: bool,
    pub(super) taskrun_flag: bool,
    pub(super) submit_all: bool,
    pub(super) no_sqarray: bool,
}

const PLAIN: Flags = Flags {
    single_issuer: false,
    defer_taskrun: false,
    coop_taskrun: false,
    taskrun_flag: false,
    submit_all: false,
    no_sqarray: false,
};

/// The sets of flags, best first, each with the Linux version that brought it.
const LADDER: [Flags; 6] = [
    // 6.6
    Flags {
        single_issuer: true,
        defer_taskrun: true,
        coop_taskrun: true,
        taskrun_flag: true,
        submit_all: true,
        no_sqarray: true,
    },
    // 6.1
    Flags {
        single_issuer: true,
        defer_taskrun: true,
        coop_taskrun: true,
        taskrun_flag: true,
        submit_all: true,
        no_sqarray: false,
    },
    // 6.0
    Flags {
        single_issuer: true,
        coop_taskrun: true,
        taskrun_flag: true,
        submit_all: true,
        ..PLAIN
    },
    // 5.19
    Flags { coop_taskrun: true, taskrun_flag: true, submit_all: true, ..PLAIN },
    // 5.18
    Flags { submit_all: true, ..PLAIN },
    PLAIN,
];

/// Makes a ring with the first set of flags that the kernel takes.
pub(super) fn build(options: &RingOptions) -> Result<(IoUring, Flags), UringError> {
    check_sizes(options)?;
    let mut refused = None;
    for flags in LADDER {
        match builder(options, flags).build(options.entries) {
            Ok(ring) => return check_features(&ring).map(|()| (ring, flags)),
            // An unknown flag is EINVAL; with fewer flags it may still work.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = Some(error),
            Err(error) => return Err(classify(options.entries, error)),
        }
    }
    let source = refused.unwrap_or_else(|| io::Error::from_raw_os_error(libc::EINVAL));
    Err(classify(options.entries, source))
}

fn check_sizes(options: &RingOptions) -> Result<(), UringError> {
    let (value, max) = (options.entries, ENTRIES_MAX);
    if !(1..=max).contains(&value) {
        return Err(UringError::Size { what: "entries", value, min: 1, max });
    }
    if let Some(value) = options.cq_entries {
        let (min, max) = (options.entries, CQ_ENTRIES_MAX);
        if !(min..=max).contains(&value) {
            return Err(UringError::Size { what: "cq_entries", value, min, max });
        }
    }
    Ok(())
}

fn builder(options: &RingOptions, flags: Flags) -> Builder {
    let mut builder = IoUring::builder();
    builder.dontfork();
    if let Some(entries) = options.cq_entries {
        builder.setup_cqsize(entries);
    }
    if options.iopoll {
        builder.setup_iopoll();
    }
    if flags.single_issuer {
        builder.setup_single_issuer();
    }
    if flags.defer_taskrun {
        builder.setup_defer_taskrun();
    }
    if flags.coop_taskrun {
        builder.setup_coop_taskrun();
    }
    if flags.taskrun_flag {
        builder.setup_taskrun_flag();
    }
    if flags.submit_all {
        builder.setup_submit_all();
    }
    if flags.no_sqarray {
        builder.setup_no_sqarray();
    }
    builder
}

/// Refuses a kernel that lacks what this wrapper relies on.
fn check_features(ring: &IoUring) -> Result<(), UringError> {
    let params = ring.params();
    let missing = if !params.is_feature_nodrop() {
        "IORING_FEAT_NODROP"
    } else if !params.is_feature_ext_arg() {
        "IORING_FEAT_EXT_ARG"
    } else {
        return Ok(());
    };
    Err(UringError::TooOld { missing })
}

/// Tells apart why io_uring_setup(2) failed.
pub(super) fn classify(entries: u32, source: io::Error) -> UringError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            let switch = sysfs::read_u64("/proc/sys/kernel/io_uring_disabled");
            UringError::NotPermitted { reason: forbidden_by(switch).to_owned(), source }
        }
        Some(libc::ENOSYS) => UringError::TooOld { missing: "io_uring_setup(2)" },
        Some(libc::ENOMEM) => {
            UringError::NoMemory { entries, limit: os::memlock_limit().ok(), source }
        }
        _ => UringError::Setup { entries, source },
    }
}

/// What forbids io_uring, judging by the sysctl `kernel.io_uring_disabled`.
pub(super) fn forbidden_by(switch: Option<u64>) -> &'static str {
    match switch {
        Some(2) => "kernel.io_uring_disabled is 2; set it to 0",
        Some(1) => {
            "kernel.io_uring_disabled is 1; set it to 0, add the process's group as \
             kernel.io_uring_group, or grant CAP_SYS_ADMIN"
        }
        _ => {
            "a seccomp filter denies it, as containers do by default; allow io_uring_setup, \
              io_uring_enter and io_uring_register in its profile"
        }
    }
}
