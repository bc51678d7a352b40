//! What the running kernel's io_uring can do.

use io_uring::{IoUring, Probe, opcode};

use super::setup::Flags;

/// What a ring was set up with and which operations it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UringFeatures {
    /// `IORING_OP_READ`.
    pub read: bool,
    /// `IORING_OP_WRITE`.
    pub write: bool,
    /// `IORING_OP_READV`.
    pub readv: bool,
    /// `IORING_OP_WRITEV`.
    pub writev: bool,
    /// `IORING_OP_READ_FIXED` and `IORING_OP_WRITE_FIXED`: registered buffers.
    pub fixed_buffers: bool,
    /// `IORING_OP_FSYNC`.
    pub fsync: bool,
    /// `IORING_OP_FALLOCATE`: allocating, punching holes and zeroing.
    pub fallocate: bool,
    /// `IORING_OP_POLL_ADD` that stays armed (Linux 5.13).
    pub poll_multishot: bool,
    /// `IORING_OP_URING_CMD`: commands to a driver, such as NVMe passthrough or discard.
    pub uring_cmd: bool,
    /// `IORING_OP_ASYNC_CANCEL`.
    pub cancel: bool,
    /// Receives and sends take hints, and tell whether they left bytes (Linux 5.19).
    pub socket_hints: bool,
    /// Waiting with a timeout in the same call (`IORING_FEAT_EXT_ARG`).
    pub ext_arg: bool,
    /// Waiting is not accounted as waiting for I/O (`IORING_FEAT_NO_IOWAIT`).
    pub no_iowait: bool,
    /// `IORING_SETUP_IOPOLL` is on.
    pub iopoll: bool,
    /// `IORING_SETUP_SINGLE_ISSUER` is on.
    pub single_issuer: bool,
    /// `IORING_SETUP_DEFER_TASKRUN` is on.
    pub defer_taskrun: bool,
    /// `IORING_SETUP_COOP_TASKRUN` is on.
    pub coop_taskrun: bool,
    /// `IORING_SETUP_TASKRUN_FLAG` is on: shared memory tells when an enter would yield anything.
    pub taskrun_flag: bool,
    /// `IORING_SETUP_SUBMIT_ALL` is on: a bad request does not stop those behind it.
    pub submit_all: bool,
    /// `IORING_SETUP_NO_SQARRAY` is on.
    pub no_sqarray: bool,
}

impl UringFeatures {
    /// Asks the kernel which operations it has; one that cannot be asked has the first few only.
    pub(super) fn probe(ring: &IoUring, flags: Flags, iopoll: bool) -> Self {
        let mut probe = Probe::new();
        let probed = ring.submitter().register_probe(&mut probe).is_ok();
        let has = |code: u8| probed && probe.is_supported(code);
        let params = ring.params();
        Self {
            read: has(opcode::Read::CODE),
            write: has(opcode::Write::CODE),
            readv: !probed || has(opcode::Readv::CODE),
            writev: !probed || has(opcode::Writev::CODE),
            fixed_buffers: !probed || has(opcode::ReadFixed::CODE) && has(opcode::WriteFixed::CODE),
            fsync: !probed || has(opcode::Fsync::CODE),
            fallocate: has(opcode::Fallocate::CODE),
            // Multishot polling came with resource tagging, in 5.13, and has no bit of its own.
            poll_multishot: has(opcode::PollAdd::CODE) && params.is_feature_resource_tagging(),
            uring_cmd: has(opcode::UringCmd16::CODE),
            cancel: has(opcode::AsyncCancel::CODE),
            // The hints have no bit of their own; this operation came with them.
            socket_hints: has(opcode::Socket::CODE),
            ext_arg: params.is_feature_ext_arg(),
            no_iowait: params.is_feature_no_iowait(),
            iopoll,
            single_issuer: flags.single_issuer,
            defer_taskrun: flags.defer_taskrun,
            coop_taskrun: flags.coop_taskrun,
            taskrun_flag: flags.taskrun_flag,
            submit_all: flags.submit_all,
            no_sqarray: flags.no_sqarray,
        }
    }
}
