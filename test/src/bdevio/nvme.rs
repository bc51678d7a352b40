//! NVMe commands as they are: done by NVMe devices, refused by all others.

use anyhow::{Result, anyhow, ensure};
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoType, NvmeCommand};

use crate::fixture::Dut;

/// Opcodes (NVM Command Set Specification 1.0, section 3.2; the last is of the vendor's range).
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const VENDOR_SPECIFIC: u8 = 0xff;

/// A write and a read of block 1 as commands.
pub async fn nvme_passthru_rw(dut: Dut) -> Result<()> {
    dut.write(0, 3, 1).await?;
    let command = |opcode| NvmeCommand::new(opcode).with_cdw(10, 1);
    let buf = dut.pattern(1, 2)?.into();
    let written = dut.handle.io_passthru_async(&command(WRITE), buf).await;
    let mut buf = written.buf.into_one().ok_or_else(|| anyhow!("the write lost its buffer"))?;
    buf.fill(0xa5);
    let read = dut.handle.io_passthru_async(&command(READ), buf.into()).await;
    if dut.handle.get_device().io_type_supported(IoType::NvmeIo) {
        ensure!(written.status.is_success(), "write command: {}", written.status);
        ensure!(read.status.is_success(), "read command: {}", read.status);
        let found = read.buf.into_one().ok_or_else(|| anyhow!("the read lost its buffer"))?;
        dut.same(1, found.as_slice(), dut.pattern(1, 2)?.as_slice())
    } else {
        refused(written.status)?;
        refused(read.status)?;
        dut.expect(0, 3, 1).await
    }
}

/// A command that nobody knows.
pub async fn nvme_passthru_vendor_specific(dut: Dut) -> Result<()> {
    let command = NvmeCommand::new(VENDOR_SPECIFIC);
    refused(dut.handle.io_passthru_async(&command, dut.pattern(1, 1)?.into()).await.status)
}

/// The controller's identify data.
pub async fn nvme_admin_passthru(dut: Dut) -> Result<()> {
    let buf = dut.handle.dma_malloc(4096)?;
    let done = dut.handle.nvme_identify_ctrlr_async(buf).await;
    if dut.handle.get_device().io_type_supported(IoType::NvmeAdmin) {
        ensure!(done.status.is_success(), "identify: {}", done.status);
        Ok(())
    } else {
        refused(done.status)
    }
}

fn refused(status: NvmeStatus) -> Result<()> {
    ensure!(status == NvmeStatus::INVALID_OPCODE, "not refused as an unknown opcode: {status}");
    Ok(())
}
