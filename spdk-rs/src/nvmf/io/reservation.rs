//! Reservation commands.

use std::rc::Rc;

use super::super::core_view::NsView;
use super::super::qpair::Attached;
use super::super::request::Request;
use super::task::{Ended, buffer, ended};
use crate::NvmeStatus;
use crate::bdev::IoBuf;
use crate::nvme::spec::error::front;
use crate::nvme::spec::opcode::nvm;
use crate::nvme::spec::reservation::{
    AcquireControl, AcquireData, RegisterControl, RegisterData, ReleaseControl, ReleaseData,
    ReportCommand,
};

/// Carries out a reservation command.
pub(super) async fn execute(request: &Request, attached: &Attached, ns: &Rc<NsView>) -> Ended {
    if request.sqe().opcode == nvm::RESERVATION_REPORT {
        return report(request, ns).await;
    }
    ended(change(request, attached, ns).await.err().unwrap_or(NvmeStatus::SUCCESS))
}

async fn change(request: &Request, attached: &Attached, ns: &NsView) -> Result<(), NvmeStatus> {
    let (host, reservations) = (attached.host, ns.reservations());
    // A host that has not told who it is cannot be told from another one.
    if host.is_zero() {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    let (control, data) = (request.sqe().cdw10.get(), request.data());
    let short = |_| NvmeStatus::DATA_SGL_LENGTH_INVALID;
    match request.sqe().opcode {
        nvm::RESERVATION_REGISTER => {
            let data = *front::<RegisterData>("reservation register", data).map_err(short)?.0;
            reservations.register(host, RegisterControl(control), data).await
        }
        nvm::RESERVATION_ACQUIRE => {
            let data = *front::<AcquireData>("reservation acquire", data).map_err(short)?.0;
            reservations.acquire(host, AcquireControl(control), data).await
        }
        nvm::RESERVATION_RELEASE => {
            let data = *front::<ReleaseData>("reservation release", data).map_err(short)?.0;
            reservations.release(host, ReleaseControl(control), data).await
        }
        _ => Err(NvmeStatus::INVALID_OPCODE),
    }
}

/// Host identifiers have 16 bytes on fabrics, so only the extended structure can be told.
async fn report(request: &Request, ns: &Rc<NsView>) -> Ended {
    let command = ReportCommand(request.sqe());
    if !command.extended() {
        return ended(NvmeStatus::HOST_ID_INCONSISTENT);
    }
    let room = u64::from(request.data_len().min(request.qpair().max_data_len()));
    if command.bytes() > room {
        return ended(NvmeStatus::DATA_SGL_LENGTH_INVALID);
    }
    let len = usize::try_from(command.bytes()).unwrap_or(0);
    let mut buf = buffer(ns.handle(), len).await;
    buf.fill(0);
    let report = ns.reservations().report();
    let count = report.len().min(len);
    buf.as_mut_slice()[..count].copy_from_slice(&report[..count]);
    (NvmeStatus::SUCCESS, 0, IoBuf::One(buf))
}
