//! Changes of namespaces, media and firmware, one command or a few of them each.
//!
//! They may take as long as the controller needs: the time-out of admin commands does not hold for
//! them, because its end is the end of the association, in the middle of a format.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::U64;

use super::error::LinkError;
use super::link::{Link, low, read};
use crate::NvmeStatus;
use crate::env::DmaBuf;
use crate::nvme::spec::identify::{ControllerList, IDENTIFY_LEN, IdentifyNamespace, cns, nmic};
use crate::nvme::spec::log::{FirmwareSlots, GetLogPage, SmartHealth, lid};
use crate::nvme::spec::manage::{SanitizeCdw10, SanitizeStatus};
use crate::nvme::spec::{NSID_ALL, Sqe};

/// Bytes of a piece of a firmware image, when the controller does not ask for less.
const PIECE_BYTES: usize = 64 << 10;

/// A namespace that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNamespace {
    /// Size in blocks.
    pub num_blocks: u64,
    /// How many of them may be allocated.
    pub capacity_blocks: u64,
    /// Index of the LBA format, 0 to 63.
    pub lbaf: u8,
    /// Whether more than one controller may have it.
    pub shared: bool,
}

/// When firmware that was committed is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// At once, or with the next reset of the controller, as was asked for.
    AsAsked,
    /// With a reset of a kind that the driver cannot make; the status names it.
    NeedsReset(NvmeStatus),
}

impl Link {
    /// Sends a command that may take any time, and waits for its end.
    async fn lasting(
        &self,
        sqe: Sqe,
        buf: Option<DmaBuf>,
        what: &'static str,
    ) -> Result<u64, LinkError> {
        let answer = self.passthrough(sqe, buf).await;
        if !answer.end.answered {
            return Err(LinkError::Closed { what });
        }
        answer.ok().map(|(result, _)| result).map_err(|status| LinkError::Refused { what, status })
    }

    /// A buffer with these bytes in front, of whole pages.
    fn filled(&self, bytes: &[u8]) -> Result<DmaBuf, LinkError> {
        let mut buf = self.buffer(bytes.len())?;
        buf.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
        Ok(buf)
    }

    /// What a namespace is; with [`NSID_ALL`], what all have in common.
    pub(crate) async fn identify_namespace(
        &self,
        nsid: u32,
    ) -> Result<IdentifyNamespace, LinkError> {
        let what = "identify namespace";
        let buf = self.buffer(IDENTIFY_LEN)?;
        let (_, buf) = self.admin(Sqe::identify(cns::NAMESPACE, nsid, 0), Some(buf), what).await?;
        read(buf.as_ref(), what)
    }

    /// The health of the controller.
    pub(crate) async fn health(&self) -> Result<SmartHealth, LinkError> {
        self.page(lid::SMART, "health log page").await
    }

    /// The firmware in the slots of the controller.
    pub(crate) async fn firmware_slots(&self) -> Result<FirmwareSlots, LinkError> {
        self.page(lid::FIRMWARE_SLOT, "firmware slot log page").await
    }

    /// How far a sanitize operation is.
    pub(crate) async fn sanitize_status(&self) -> Result<SanitizeStatus, LinkError> {
        self.page(lid::SANITIZE, "sanitize log page").await
    }

    /// A log page of 512 bytes.
    async fn page<T: zerocopy::FromBytes>(
        &self,
        page: u8,
        what: &'static str,
    ) -> Result<T, LinkError> {
        let sqe = GetLogPage::new(page, 512).to_sqe(NSID_ALL);
        let (_, buf) = self.admin(sqe, Some(self.buffer(512)?), what).await?;
        read(buf.as_ref(), what)
    }

    /// Formats a namespace, or all of them.
    pub(crate) async fn format(&self, nsid: u32, lbaf: u8, erase: u8) -> Result<(), LinkError> {
        self.lasting(Sqe::format(nsid, lbaf, erase), None, "format").await.map(drop)
    }

    /// Starts to sanitize the whole subsystem; it goes on after this.
    pub(crate) async fn sanitize(&self, how: SanitizeCdw10, pattern: u32) -> Result<(), LinkError> {
        self.lasting(Sqe::sanitize(how, pattern), None, "sanitize").await.map(drop)
    }

    /// Makes a namespace; returns its number.
    pub(crate) async fn create_namespace(&self, new: NewNamespace) -> Result<u32, LinkError> {
        let data = IdentifyNamespace {
            nsze: U64::new(new.num_blocks),
            ncap: U64::new(new.capacity_blocks),
            // Bits 3:0 and 6:5, as in the data of Identify.
            flbas: new.lbaf & 0xf | (new.lbaf >> 4 & 3) << 5,
            nmic: if new.shared { nmic::SHARED } else { 0 },
            ..IdentifyNamespace::default()
        };
        let buf = self.filled(data.as_bytes())?;
        self.lasting(Sqe::create_namespace(), Some(buf), "create namespace").await.map(low)
    }

    /// Deletes a namespace with all that is in it.
    pub(crate) async fn delete_namespace(&self, nsid: u32) -> Result<(), LinkError> {
        self.lasting(Sqe::delete_namespace(nsid), None, "delete namespace").await.map(drop)
    }

    /// Attaches a namespace to this controller, or detaches it.
    pub(crate) async fn attach_namespace(&self, nsid: u32, attach: bool) -> Result<(), LinkError> {
        let list = ControllerList::of([self.info().cntlid]);
        let buf = self.filled(list.as_bytes())?;
        let what = if attach { "attach namespace" } else { "detach namespace" };
        self.lasting(Sqe::attach_namespace(nsid, attach), Some(buf), what).await.map(drop)
    }

    /// Bytes of one piece of a firmware image: a multiple of the granularity that the controller
    /// asks for, and not more than one command transfers.
    fn piece_bytes(&self) -> usize {
        let most = usize::try_from(self.info().transfer_max()).unwrap_or(PIECE_BYTES);
        let most = most.min(PIECE_BYTES);
        // 0 is not told, and 255 is none.
        let granule = match self.info().identify.fwug {
            0 | 255 => 4096,
            units => 4096 * usize::from(units),
        };
        (most / granule * granule).max(granule)
    }

    /// Gives the controller a firmware image, in pieces.
    pub(crate) async fn download_firmware(&self, image: &[u8]) -> Result<(), LinkError> {
        let what = "firmware image download";
        let mut offset = 0_u32;
        for piece in image.chunks(self.piece_bytes()) {
            let dwords = u32::try_from(piece.len() / 4).unwrap_or(u32::MAX);
            let sqe = Sqe::firmware_download(offset, dwords);
            self.lasting(sqe, Some(self.filled(piece)?), what).await?;
            offset = offset.saturating_add(dwords);
        }
        Ok(())
    }

    /// Commits a firmware image.
    pub(crate) async fn commit_firmware(
        &self,
        slot: u8,
        action: u8,
    ) -> Result<Activation, LinkError> {
        let sqe = Sqe::firmware_commit(slot, action);
        match self.lasting(sqe, None, "firmware commit").await {
            Ok(_) => Ok(Activation::AsAsked),
            // The commit is done, and a conventional, subsystem or controller level reset is what
            // it waits for (section 5.12.1).
            Err(LinkError::Refused { status, .. })
                if status.sct() == 1 && [0x0b, 0x10].contains(&status.sc()) =>
            {
                Ok(Activation::NeedsReset(status))
            }
            Err(LinkError::Refused { status, .. }) if (status.sct(), status.sc()) == (1, 0x11) => {
                Ok(Activation::AsAsked)
            }
            Err(error) => Err(error),
        }
    }
}
