//! From an I/O to the kernel's request.

use spdk_rs_sys::aio::Iocb;

use crate::drivers::common::{Pieces, Transfer};

/// A read or write.
#[inline(always)]
pub(super) fn transfer(fd: i32, transfer: &Transfer) -> Iocb {
    let offset = transfer.offset;
    let iocb = match (transfer.pieces, transfer.write) {
        (Pieces::One(iov), false) => Iocb::pread(fd, iov.base(), iov.len(), offset),
        (Pieces::One(iov), true) => Iocb::pwrite(fd, iov.base(), iov.len(), offset),
        // An entry is laid out as the kernel's, see `IoVec`.
        (Pieces::Many { first, count }, false) => Iocb::preadv(fd, first.cast(), count, offset),
        (Pieces::Many { first, count }, true) => Iocb::pwritev(fd, first.cast(), count, offset),
    };
    iocb.with_rw_flags(transfer.rw_flags)
}
