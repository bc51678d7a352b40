//! Fabrics commands on a connected queue (section 6): properties and Disconnect.

use std::rc::Rc;

use super::properties::Change;
use super::service::succeed;
use super::{AdminQueue, Controller};
use crate::NvmeStatus;
use crate::bdev::{BdevDesc, IoHandle};
use crate::nvme::spec::fabrics::{Disconnect, Property};
use crate::nvme::spec::opcode::fctype;
use crate::nvme::spec::register::offset;
use crate::nvmf::admin::Features;
use crate::nvmf::request::Request;
use crate::nvmf::transport::DisconnectReason;

/// A record format that is not known.
const INCOMPATIBLE_FORMAT: NvmeStatus = NvmeStatus::new(1, 0x80).with_do_not_retry(true);

/// Disconnect is for I/O queues.
const INVALID_QUEUE_TYPE: NvmeStatus = NvmeStatus::new(1, 0x85).with_do_not_retry(true);

/// A fabrics command on an admin queue.
pub(super) fn on_admin_queue(admin: &Rc<AdminQueue>, request: Request) {
    let property = Property::of(request.sqe());
    let answer = match request.sqe().fctype() {
        fctype::PROPERTY_GET => admin.get_property(property),
        fctype::PROPERTY_SET => admin.set_property(property).map(|()| 0),
        fctype::CONNECT => Err(NvmeStatus::COMMAND_SEQUENCE_ERROR),
        fctype::DISCONNECT => Err(INVALID_QUEUE_TYPE),
        _ => Err(NvmeStatus::INVALID_OPCODE),
    };
    match answer {
        Ok(value) => succeed(request, value),
        Err(status) => admin.refuse(request, status),
    }
}

/// A fabrics command on an I/O queue.
pub(super) fn on_io_queue(request: Request) {
    let status = match request.sqe().fctype() {
        fctype::DISCONNECT if Disconnect::of(request.sqe()).recfmt != 0 => INCOMPATIBLE_FORMAT,
        fctype::DISCONNECT => {
            let qpair = Rc::clone(request.qpair());
            request.finish(NvmeStatus::SUCCESS);
            return qpair.disconnect(DisconnectReason::Host);
        }
        fctype::CONNECT => NvmeStatus::COMMAND_SEQUENCE_ERROR,
        _ => NvmeStatus::INVALID_OPCODE,
    };
    request.finish(status);
}

impl AdminQueue {
    fn get_property(&self, property: Property) -> Result<u64, NvmeStatus> {
        let bytes = property.bytes().ok_or(NvmeStatus::INVALID_FIELD)?;
        let io_queues = self.controller.io_queue_count() > 0;
        self.registers.get().get(property.offset, bytes, io_queues)
    }

    fn set_property(self: &Rc<Self>, property: Property) -> Result<(), NvmeStatus> {
        let (Some(4), offset::CC) = (property.bytes(), property.offset) else {
            return Err(NvmeStatus::INVALID_FIELD);
        };
        // A property of four bytes: the upper half is reserved.
        let value = u32::try_from(property.value).map_err(|_| NvmeStatus::INVALID_FIELD)?;
        let mut registers = self.registers.get();
        let change = registers.set_cc(value)?;
        registers.flushing |= change == Change::ShutDown;
        self.registers.set(registers);
        self.controller.set_enabled(registers.takes_io_queues());
        self.set_idle(registers.is_idle());
        match change {
            Change::None | Change::Enable => {}
            Change::Disable => self.reset(),
            Change::ShutDown => self.shut_down(),
        }
        Ok(())
    }

    /// CC.EN went to 0: the I/O queues are deleted, and all is as after Connect.
    fn reset(self: &Rc<Self>) {
        self.abort_events();
        *self.features.borrow_mut() = Features::new(self.controller.subsystem().kind());
        self.controller.reset_allotment();
        let controller = std::sync::Arc::clone(&self.controller);
        self.spawn(async move { controller.disconnect_io(DisconnectReason::Host).await });
    }

    /// CC.SHN was set: the I/O queues are deleted and everything is brought to the medium.
    fn shut_down(self: &Rc<Self>) {
        let admin = Rc::clone(self);
        self.spawn(async move {
            let controller = &admin.controller;
            controller.disconnect_io(DisconnectReason::Host).await;
            controller.io_queues_gone().await;
            let flushed = flush_all(controller).await;
            let mut registers = admin.registers.get();
            registers.flushing = false;
            registers.fatal |= !flushed;
            admin.registers.set(registers);
        });
    }
}

/// Flushes every device with a volatile cache; false when one of them failed.
async fn flush_all(controller: &Controller) -> bool {
    let mut all = true;
    for namespace in controller.subsystem().namespaces() {
        let device = namespace.bdev();
        if !device.info().write_cache || device.is_removed() {
            continue;
        }
        let desc: &std::sync::Arc<BdevDesc> = namespace.desc();
        let opened: std::io::Result<IoHandle> = desc.io_handle();
        let status = match opened {
            Ok(handle) => handle.flush().await.status,
            Err(_) => NvmeStatus::INTERNAL_ERROR,
        };
        if !status.is_success() {
            tracing::error!(device = device.name(), %status, "flush at shutdown failed");
            all = false;
        }
    }
    all
}
