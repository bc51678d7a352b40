//! A drive in memory over an [`Image`]. It can log what it is told, as QEMU's drive does.

use std::rc::Rc;
use std::sync::{Arc, MutexGuard, PoisonError};

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{
    Bdev, BdevChannel, BdevInfo, BdevIo, BdevOps, IoLimits, IoList, IoType, IoTypes,
};
use spdk_rs::reactor::{Reactor, Rest};
use uuid::Uuid;

use super::SECTOR_BYTES;
use super::image::Image;
use super::log::LogWriter;

const SECTOR: u64 = SECTOR_BYTES as u64;

struct State {
    image: Image,
    log: Option<LogWriter>,
}

#[expect(clippy::disallowed_types, reason = "a device is shared by rule; here one thread uses it")]
type Shared = Arc<std::sync::Mutex<State>>;

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a drive with these contents, with sectors of 512 bytes and a volatile cache.
#[must_use]
pub fn create(image: Image, log: Option<LogWriter>) -> Arc<Bdev> {
    let info = BdevInfo {
        name: "drive".to_owned(),
        aliases: Vec::new(),
        uuid: Uuid::nil(),
        product_name: "Power cut drive".to_owned(),
        driver_name: "power_cut",
        block_len: 512,
        phys_block_len: 512,
        num_blocks: image.size_bytes() / SECTOR,
        alignment: 1,
        write_cache: true,
        read_only: false,
        limits: IoLimits::default(),
    };
    let shared = Shared::new(State { image, log }.into());
    Bdev::new(info, Box::new(Drive(shared)))
}

struct Drive(Shared);

impl BdevOps for Drive {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[IoType::Read, IoType::Write, IoType::Flush])
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(Channel { shared: Arc::clone(&self.0), pending: IoList::new() }))
    }
}

struct Channel {
    shared: Shared,
    pending: IoList,
}

impl Channel {
    fn perform(&self, io: &mut BdevIo) -> NvmeStatus {
        let mut state = lock(&self.shared);
        let (sector, count) = (io.offset_blocks(), io.num_blocks());
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0) * SECTOR_BYTES];
        let logged = match io.kind() {
            IoType::Read => {
                state.image.read(sector * SECTOR, &mut bytes);
                io.copy_in(0, &bytes);
                Ok(())
            }
            IoType::Write => {
                io.copy_out(0, &mut bytes);
                state.image.write(sector * SECTOR, &bytes);
                state.log.as_mut().map_or(Ok(()), |log| log.write(sector, &bytes))
            }
            IoType::Flush => state.log.as_mut().map_or(Ok(()), LogWriter::flush),
            _ => return NvmeStatus::INVALID_OPCODE,
        };
        if logged.is_ok() { NvmeStatus::SUCCESS } else { NvmeStatus::INTERNAL_ERROR }
    }
}

impl BdevChannel for Channel {
    fn submit(&mut self, io: BdevIo) {
        self.pending.push(io);
    }

    fn poll(&mut self) -> usize {
        let mut done = 0;
        let mut pending = std::mem::take(&mut self.pending);
        while let Some(mut io) = pending.pop() {
            let status = self.perform(&mut io);
            io.complete(status);
            done += 1;
        }
        done
    }

    fn is_polled(&self) -> bool {
        true
    }

    fn rest(&self) -> Rest {
        if self.pending.is_empty() { Rest::Sleep } else { Rest::Poll }
    }
}
