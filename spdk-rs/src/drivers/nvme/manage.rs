//! Changes of an attached controller's namespaces, media and firmware.
//!
//! What destroys data needs the block devices for itself: it does not begin while somebody has one
//! open, nobody can open one for writing while it runs, and the I/O of a reader waits for its end. The block devices are in line with
//! the namespaces when it returns; where the size of a block has changed, a device of the old
//! blocks is removed and one of the new comes in its place.

use std::rc::Rc;
use std::sync::Arc;

use super::NvmeDriver;
use super::api::NvmeError;
use super::core::NvmeCore;
use super::driver::Shared;
use super::formats::{best_format, formats};
use super::home;
use crate::bdev::{BdevDesc, ClaimKind, OpenMode};
use crate::nvme::controller::link::{Link, LinkInfo};
use crate::nvme::controller::{Activation, LinkError, NewNamespace};
use crate::nvme::spec::identify::{fna, oacs};
use crate::nvme::spec::log::{FirmwareSlots, SmartHealth};
use crate::nvme::spec::manage::{
    SanitizeCdw10, SanitizeStatus, commit_action, sanicap, sanitize_action, ses,
};
use crate::nvme::spec::{NSID_ALL, text};

/// Who opens devices here, as errors quote it.
const OWNER: &str = "NVMe management";

/// Bytes of a firmware image at the most: what 32 bits of dwords name, and no image is near it.
const IMAGE_BYTES_MAX: usize = 1 << 30;

/// Which LBA format a namespace gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FormatChoice {
    /// The one that it has.
    #[default]
    Present,
    /// The one of an index, 0 to 63.
    Index(u8),
    /// Blocks of so many bytes, without metadata; the best of them.
    BlockLen(u32),
}

/// How the data that were there are erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecureErase {
    /// As the controller likes.
    #[default]
    None,
    /// User data are overwritten or erased.
    UserData,
    /// The key that they are encrypted with is forgotten.
    Crypto,
}

impl SecureErase {
    const fn setting(self) -> u8 {
        match self {
            Self::None => ses::NONE,
            Self::UserData => ses::USER_DATA,
            Self::Crypto => ses::CRYPTO,
        }
    }
}

/// A format of a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// The LBA format.
    pub choice: FormatChoice,
    /// What becomes of the data.
    pub erase: SecureErase,
}

/// A sanitize operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sanitize {
    /// Leaves the failure mode after one that failed.
    ExitFailure,
    /// Erases blocks by the medium's own means.
    BlockErase,
    /// Forgets the key.
    CryptoErase,
    /// Overwrites the medium.
    Overwrite {
        /// Passes, 1 to 16.
        passes: u8,
        /// What is written.
        pattern: u32,
        /// Each pass inverts the pattern.
        invert: bool,
    },
}

/// A firmware image, and what is to be done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// The image, a multiple of four bytes.
    pub image: Vec<u8>,
    /// The slot, 1 to 7; 0 for the controller's choice.
    pub slot: u8,
    /// Whether it is activated, by a reset of the controller.
    pub activate: bool,
}

/// Block devices that nobody else may use while their namespaces are changed: the I/O of whoever
/// opens one meanwhile waits. A block of a new format may be longer than the buffer of a read that
/// was made for the old one.
pub(super) struct Alone(Vec<Arc<BdevDesc>>);

impl Alone {
    /// Takes the devices of a controller's namespaces, or of one of them.
    pub(super) fn take(
        shared: &Shared,
        name: &str,
        nsid: Option<u32>,
        what: &'static str,
    ) -> Result<Self, NvmeError> {
        let mut taken = Vec::new();
        for bdev in shared.bdevs_of(name, nsid) {
            let in_use = |users: String| {
                let device = bdev.name().to_owned();
                NvmeError::InUse { what, device, users }
            };
            let writes = !bdev.info().read_only;
            let mode = if writes { OpenMode::ReadWrite } else { OpenMode::Read };
            let desc = BdevDesc::open(&bdev, mode, OWNER, None);
            let desc = desc.map_err(|error| in_use(error.to_string()))?;
            // The claim first: whoever comes after it cannot write, who came before is seen.
            let kind = if writes { ClaimKind::ExclusiveWrite } else { ClaimKind::ReadOnly };
            desc.claim(kind).map_err(|error| in_use(error.to_string()))?;
            let mut others = bdev.openers();
            if let Some(own) = others.iter().position(|owner| owner == OWNER) {
                let _ = others.swap_remove(own);
            }
            if !others.is_empty() {
                return Err(in_use(format!("{} has it open", others.join(", "))));
            }
            taken.push(desc);
        }
        taken.iter().for_each(|desc| desc.bdev().hold_newcomers());
        Ok(Self(taken))
    }

    /// Gives the devices back.
    async fn end(self) {
        for desc in self.0 {
            desc.bdev().let_go().await;
        }
    }
}

impl NvmeDriver {
    /// Has the namespaces of a controller looked at anew; their devices are in line with them when
    /// this returns.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`], or [`NvmeError::Failed`] when one cannot be used.
    pub async fn rescan(&self, name: &str) -> Result<(), NvmeError> {
        let what = "look at the namespaces";
        for controller in self.find(name, None)? {
            home::rescan(&controller).await.map_err(|why| {
                let name = name.to_owned();
                NvmeError::Failed { what, name, why }
            })?;
        }
        Ok(())
    }

    /// Runs something that changes namespaces with the association of a controller, alone with the
    /// devices of these; resets the controller afterwards if the outcome `resets`; returns when the
    /// devices are in line with the namespaces.
    pub(super) async fn alone<T, F, Fut>(
        &self,
        name: &str,
        (nsid, what): (Option<u32>, &'static str),
        run: F,
        resets: fn(&T) -> bool,
    ) -> Result<T, NvmeError>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Link>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, LinkError>> + 'static,
    {
        let controller = self.connected(name, what)?;
        let (shared, own) = (Arc::clone(&self.shared), Arc::clone(&controller));
        // A task of its reactor: it goes on when nobody waits for it any more.
        let task = controller.home.spawn(move |reactor| async move {
            let name = own.name.as_str();
            let failed = |why| NvmeError::Failed { what, name: name.to_owned(), why };
            let alone = Alone::take(&shared, name, nsid, what)?;
            let link = NvmeCore::of(&reactor).home(own.id).and_then(|home| home.link());
            let done = match link {
                Some(link) => run(link).await,
                None => Err(LinkError::Closed { what }),
            };
            let mut done = done.map_err(|error| told(name, what, error));
            if done.as_ref().is_ok_and(resets)
                && let Err(why) = home::reset(&own).await
            {
                done = Err(failed(why));
            }
            // Also after a failure: nobody knows how far it came.
            if let Err(why) = home::rescan(&own).await
                && done.is_ok()
            {
                done = Err(failed(why));
            }
            alone.end().await;
            done
        });
        task.await.map_err(|_| NvmeError::NoReactor)?
    }

    /// What the controller says of its health, and who it is: model, serial number, firmware.
    ///
    /// # Errors
    /// [`NvmeError`].
    pub async fn health(&self, name: &str) -> Result<(SmartHealth, [String; 3]), NvmeError> {
        let run = |link: Rc<Link>| async move {
            let health = link.health().await?;
            let identify = &link.info().identify;
            let words =
                |field: &[u8]| String::from_utf8_lossy(text::padded(field)).trim().to_owned();
            Ok((health, [words(&identify.mn), words(&identify.sn), words(&identify.fr)]))
        };
        self.at_link(name, "health", run).await
    }

    /// The firmware in the controller's slots.
    ///
    /// # Errors
    /// [`NvmeError`].
    pub async fn firmware_slots(&self, name: &str) -> Result<FirmwareSlots, NvmeError> {
        let run = |link: Rc<Link>| async move { link.firmware_slots().await };
        self.at_link(name, "firmware slots", run).await
    }

    /// How far a sanitize operation is.
    ///
    /// # Errors
    /// [`NvmeError`].
    pub async fn sanitize_status(&self, name: &str) -> Result<SanitizeStatus, NvmeError> {
        let run = |link: Rc<Link>| async move { link.sanitize_status().await };
        self.at_link(name, "sanitize status", run).await
    }

    /// Formats a namespace, or all of them without a number. All data in it are lost.
    ///
    /// # Errors
    /// [`NvmeError::InUse`] while a device that loses its data is open; others of [`NvmeError`].
    pub async fn format(
        &self,
        name: &str,
        nsid: Option<u32>,
        how: Format,
    ) -> Result<(), NvmeError> {
        let what = "format";
        let info = self.able(name, what, oacs::FORMAT, "it has no Format NVM command")?;
        let attributes = info.identify.fna;
        let crypto = how.erase == SecureErase::Crypto;
        if crypto && attributes & fna::CRYPTO_ERASE == 0 {
            return Err(unsupported(name, what, "it has no cryptographic erase (FNA)"));
        }
        if nsid.is_none() && attributes & fna::NO_BROADCAST != 0 {
            return Err(unsupported(name, what, "it formats one namespace at a time (FNA)"));
        }
        let erases = how.erase != SecureErase::None && attributes & fna::ERASE_ALL != 0;
        let wide = attributes & fna::FORMAT_ALL != 0 || erases;
        let lbaf = self.choose_format(name, what, nsid, how.choice).await?;
        let erase = how.erase.setting();
        let affected = nsid.filter(|_| !wide);
        let nsid = nsid.unwrap_or(NSID_ALL);
        let run = move |link: Rc<Link>| async move { link.format(nsid, lbaf, erase).await };
        self.alone(name, (affected, what), run, |()| false).await
    }

    /// The index of the LBA format that is asked for.
    async fn choose_format(
        &self,
        name: &str,
        what: &'static str,
        nsid: Option<u32>,
        choice: FormatChoice,
    ) -> Result<u8, NvmeError> {
        if let FormatChoice::Index(index) = choice {
            return Ok(index);
        }
        if choice == FormatChoice::Present && nsid.is_none() {
            let why = "several namespaces at once need an LBA format or a block size to be named";
            return Err(unsupported(name, what, why));
        }
        // Without a number the formats are those that all namespaces can have.
        let of = nsid.unwrap_or(NSID_ALL);
        let run = move |link: Rc<Link>| async move { link.identify_namespace(of).await };
        let data = self.at_link(name, what, run).await?;
        match choice {
            FormatChoice::BlockLen(bytes) => best_format(&data, bytes).ok_or_else(|| {
                let there = formats(&data);
                unsupported(name, what, &format!("no blocks of {bytes} bytes; there are {there}"))
            }),
            _ => Ok(crate::nvme::spec::identify::Flbas(data.flbas).index()),
        }
    }

    /// Starts to sanitize the subsystem of a controller: everything in all of its namespaces is
    /// lost. It goes on after this, and until its end I/O fails.
    ///
    /// # Errors
    /// As [`NvmeDriver::format`], for all namespaces.
    pub async fn sanitize(
        &self,
        name: &str,
        how: Sanitize,
        no_deallocate: bool,
    ) -> Result<(), NvmeError> {
        let what = "sanitize";
        let info = self.info_of(name, what)?;
        let (action, needs) = match how {
            Sanitize::ExitFailure => (sanitize_action::EXIT_FAILURE, u32::MAX),
            Sanitize::BlockErase => (sanitize_action::BLOCK_ERASE, sanicap::BLOCK_ERASE),
            Sanitize::CryptoErase => (sanitize_action::CRYPTO_ERASE, sanicap::CRYPTO_ERASE),
            Sanitize::Overwrite { .. } => (sanitize_action::OVERWRITE, sanicap::OVERWRITE),
        };
        if info.identify.sanicap.get() & needs == 0 {
            return Err(unsupported(name, what, "it has no such operation (SANICAP)"));
        }
        let how_words = SanitizeCdw10(0).with_action(action).with_no_deallocate(no_deallocate);
        let (words, pattern) = match how {
            Sanitize::Overwrite { passes, pattern, invert } => {
                // 16 passes are written as 0.
                (how_words.with_passes(passes & 0xf).with_invert(invert), pattern)
            }
            _ => (how_words, 0),
        };
        let run = move |link: Rc<Link>| async move { link.sanitize(words, pattern).await };
        self.alone(name, (None, what), run, |()| false).await
    }

    /// Makes a namespace and attaches it to the controller, if that is asked for; returns its
    /// number.
    ///
    /// # Errors
    /// [`NvmeError`].
    pub async fn create_namespace(
        &self,
        name: &str,
        mut new: NewNamespace,
        choice: FormatChoice,
        attach: bool,
    ) -> Result<u32, NvmeError> {
        let what = "create namespace";
        self.able(name, what, oacs::NAMESPACE_MANAGEMENT, "it has no namespace management")?;
        new.lbaf = match choice {
            FormatChoice::Present => new.lbaf,
            other => self.choose_format(name, what, None, other).await?,
        };
        let run = move |link: Rc<Link>| async move {
            let nsid = link.create_namespace(new).await?;
            if attach {
                link.attach_namespace(nsid, true).await?;
            }
            Ok(nsid)
        };
        let nsid = self.at_link(name, what, run).await?;
        self.rescan(name).await?;
        Ok(nsid)
    }

    /// Deletes a namespace with all that is in it.
    ///
    /// # Errors
    /// [`NvmeError::InUse`] while its device is open; others of [`NvmeError`].
    pub async fn delete_namespace(&self, name: &str, nsid: u32) -> Result<(), NvmeError> {
        let what = "delete namespace";
        self.able(name, what, oacs::NAMESPACE_MANAGEMENT, "it has no namespace management")?;
        let run = move |link: Rc<Link>| async move { link.delete_namespace(nsid).await };
        self.alone(name, (Some(nsid), what), run, |()| false).await
    }

    /// Attaches a namespace to a controller, or detaches it.
    ///
    /// # Errors
    /// [`NvmeError::InUse`] while the device of one that is to go is open; others of
    /// [`NvmeError`].
    pub async fn attach_namespace(
        &self,
        name: &str,
        nsid: u32,
        attach: bool,
    ) -> Result<(), NvmeError> {
        let what = if attach { "attach namespace" } else { "detach namespace" };
        self.able(name, what, oacs::NAMESPACE_MANAGEMENT, "it has no namespace management")?;
        let run = move |link: Rc<Link>| async move { link.attach_namespace(nsid, attach).await };
        self.alone(name, (Some(nsid), what), run, |()| false).await
    }

    /// Gives a controller a firmware image, commits it and has it activated by a reset.
    ///
    /// # Errors
    /// [`NvmeError::InUse`] while one of the controller's devices is open; others of
    /// [`NvmeError`].
    pub async fn update_firmware(
        &self,
        name: &str,
        firmware: Firmware,
    ) -> Result<Activation, NvmeError> {
        let what = "firmware update";
        self.able(name, what, oacs::FIRMWARE, "it has no firmware commands")?;
        let Firmware { image, slot, activate } = firmware;
        let fits = (4..=IMAGE_BYTES_MAX).contains(&image.len()) && image.len().is_multiple_of(4);
        if !fits {
            let why = format!(
                "an image of {} bytes; it has to be a multiple of 4, up to 1 GiB",
                image.len()
            );
            return Err(unsupported(name, what, &why));
        }
        let action =
            if activate { commit_action::REPLACE_AND_ACTIVATE } else { commit_action::REPLACE };
        let run = move |link: Rc<Link>| async move {
            link.download_firmware(&image).await?;
            link.commit_firmware(slot, action).await
        };
        let resets: fn(&Activation) -> bool =
            if activate { |done| *done == Activation::AsAsked } else { |_| false };
        self.alone(name, (None, what), run, resets).await
    }

    fn info_of(&self, name: &str, what: &'static str) -> Result<Arc<LinkInfo>, NvmeError> {
        let controller = self.connected(name, what)?;
        controller.info().ok_or_else(|| {
            let why = LinkError::Closed { what }.to_string();
            NvmeError::Failed { what, name: name.to_owned(), why }
        })
    }

    /// What is known of a controller that has an optional admin command.
    fn able(
        &self,
        name: &str,
        what: &'static str,
        bit: u16,
        otherwise: &str,
    ) -> Result<Arc<LinkInfo>, NvmeError> {
        let info = self.info_of(name, what)?;
        if info.identify.oacs.get() & bit == 0 {
            return Err(unsupported(name, what, otherwise));
        }
        Ok(info)
    }
}

/// An association's error, of a controller.
pub(super) fn told(name: &str, what: &'static str, error: LinkError) -> NvmeError {
    let name = name.to_owned();
    match error {
        LinkError::Refused { what, status } => NvmeError::Refused { what, name, status },
        other => NvmeError::Failed { what, name, why: other.to_string() },
    }
}

fn unsupported(name: &str, what: &'static str, why: &str) -> NvmeError {
    NvmeError::NotSupported { what, name: name.to_owned(), why: why.to_owned() }
}
