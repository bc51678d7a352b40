//! Adding, removing and regrouping namespaces.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::events::listener_of;
use super::{Namespace, NamespaceOptions, Subsystem, SubsystemKind};
use crate::bdev::{BdevDesc, ClaimKind, OpenMode};
use crate::nvmf::controller::Notice;
use crate::nvmf::core_view::NsConfig;
use crate::nvmf::reservation::{NsReservations, ReservationOptions};
use crate::nvmf::target::{Change, NvmfError};

impl Subsystem {
    /// Adds a device as a namespace and tells connected hosts. Returns its number.
    ///
    /// # Errors
    /// [`NvmfError`]: a number or group out of range or taken, the device claimed by somebody
    /// else, blocks that NVMe cannot have, no channel on some reactor. Nothing was added then.
    pub async fn add_namespace(
        self: &Arc<Self>,
        options: NamespaceOptions,
    ) -> Result<u32, NvmfError> {
        let _control = self.control.lock().await;
        if self.kind == SubsystemKind::Discovery || self.state.lock().deleting {
            return Err(NvmfError::not_found("NVM subsystem", self.nqn()));
        }
        let nsid = self.choose_nsid(options.nsid)?;
        let namespace = Arc::new(self.make_namespace(nsid, options).await?);
        if let Err(error) = self.open_on_reactors(namespace.config()).await {
            self.close_on_reactors(nsid).await;
            return Err(error);
        }
        {
            let mut state = self.state.lock();
            state.namespaces.insert(nsid, namespace);
            state.ana_changes += 1;
        }
        self.notify(Notice::NamespaceChanged(nsid), |_| true).await;
        Ok(nsid)
    }

    /// Removes a namespace: hosts are told, commands that come from now on are refused, and when
    /// this returns none is in flight and the device is free.
    ///
    /// # Errors
    /// [`NvmfError::NotFound`].
    pub async fn remove_namespace(self: &Arc<Self>, nsid: u32) -> Result<(), NvmfError> {
        let _control = self.control.lock().await;
        self.take_namespace(nsid).await
    }

    /// Moves a namespace to another ANA group, 1 to `max_namespaces`, and tells hosts.
    ///
    /// # Errors
    /// [`NvmfError`] when there is no such namespace or the group is out of range.
    pub async fn set_namespace_ana_group(
        self: &Arc<Self>,
        nsid: u32,
        group: u32,
    ) -> Result<(), NvmfError> {
        let _control = self.control.lock().await;
        self.check_ana_group(group)?;
        {
            let mut state = self.state.lock();
            let old = state.namespaces.get(&nsid);
            let old = old.ok_or_else(|| NvmfError::not_found("namespace", nsid))?;
            if old.ana_group == group {
                return Ok(());
            }
            let moved = Arc::new(Namespace { ana_group: group, ..Namespace::clone(old) });
            state.namespaces.insert(nsid, moved);
            state.ana_changes += 1;
        }
        self.on_views(move |view| {
            if let Some(namespace) = view.namespace(nsid) {
                namespace.set_ana_group(group);
            }
        })
        .await?;
        if self.options.ana_reporting {
            self.notify(Notice::AnaChanged, |_| true).await;
        }
        Ok(())
    }

    /// Takes a namespace away; the control lock is held.
    pub(super) async fn take_namespace(self: &Arc<Self>, nsid: u32) -> Result<(), NvmfError> {
        let taken = {
            let mut state = self.state.lock();
            state.ana_changes += 1;
            state.namespaces.remove(&nsid)
        };
        let namespace = taken.ok_or_else(|| NvmfError::not_found("namespace", nsid))?;
        self.notify(Notice::NamespaceChanged(nsid), |_| true).await;
        self.close_on_reactors(nsid).await;
        namespace.desc.unclaim();
        Ok(())
    }

    fn choose_nsid(&self, wanted: Option<u32>) -> Result<u32, NvmfError> {
        let (state, max) = (self.state.lock(), self.options.max_namespaces);
        match wanted {
            Some(nsid) if !(1..=max).contains(&nsid) => {
                Err(NvmfError::invalid("nsid", nsid, format!("1 to {max}")))
            }
            Some(nsid) if state.namespaces.contains_key(&nsid) => {
                Err(NvmfError::exists("namespace", nsid))
            }
            Some(nsid) => Ok(nsid),
            None => first_free(&state.namespaces, max)
                .ok_or(NvmfError::Full { what: "namespaces", limit: max }),
        }
    }

    pub(super) fn check_ana_group(&self, group: u32) -> Result<(), NvmfError> {
        let max = self.options.max_namespaces;
        if (1..=max).contains(&group) {
            return Ok(());
        }
        Err(NvmfError::invalid("anagrpid", group, format!("1 to {max}")))
    }

    async fn make_namespace(
        self: &Arc<Self>,
        nsid: u32,
        options: NamespaceOptions,
    ) -> Result<Namespace, NvmfError> {
        let ana_group = options.ana_group.unwrap_or(nsid);
        self.check_ana_group(ana_group)?;
        let NamespaceOptions { bdev, uuid, nguid, eui64, ptpl_file, .. } = options;
        let info = bdev.info();
        if !info.block_len.is_power_of_two() || info.block_len < 512 {
            let value = format!("a device with blocks of {} bytes", info.block_len);
            return Err(NvmfError::invalid("bdev_name", value, "a power of two from 512 bytes"));
        }
        if bdev.zones().is_some() {
            let value = format!("the zoned device '{}'", bdev.name());
            let allowed = "a device without zones: this target has no zoned namespaces";
            return Err(NvmfError::invalid("bdev_name", value, allowed));
        }
        if nguid == Some([0; 16]) {
            return Err(NvmfError::invalid("nguid", "zero", "a value that is not zero"));
        }
        if eui64 == Some([0; 8]) {
            return Err(NvmfError::invalid("eui64", "zero", "a value that is not zero"));
        }
        let (mode, claim) = if info.read_only {
            (OpenMode::Read, ClaimKind::ReadOnly)
        } else {
            (OpenMode::ReadWrite, ClaimKind::ExclusiveWrite)
        };
        let owner = format!("NVMe-oF subsystem {}", self.nqn());
        let uuid = uuid.unwrap_or(info.uuid);
        let listener = listener_of(self, nsid);
        let desc = BdevDesc::open(&bdev, mode, &owner, Some(listener))?;
        desc.claim(claim)?;
        let reservations = self.open_reservations(nsid, info.uuid, ptpl_file.clone()).await?;
        let nguid = nguid.unwrap_or(*uuid.as_bytes());
        Ok(Namespace { nsid, desc, uuid, nguid, eui64, ana_group, ptpl_file, reservations })
    }

    async fn open_reservations(
        &self,
        nsid: u32,
        device: Uuid,
        ptpl_file: Option<PathBuf>,
    ) -> Result<Arc<NsReservations>, NvmfError> {
        let target = self.target().ok_or_else(|| NvmfError::not_found("target of", self.nqn()))?;
        let told = Arc::downgrade(&target);
        let options = ReservationOptions {
            subsystem: self.id,
            nsid,
            device,
            ptpl_file,
            reactors: self.reactors.to_vec(),
            offload: target.offload().clone(),
            notify: Arc::new(move |notice| {
                if let Some(target) = told.upgrade() {
                    target.report(Change::Reservation(notice));
                }
            }),
        };
        Ok(NsReservations::open(options).await?)
    }

    async fn open_on_reactors(&self, config: NsConfig) -> Result<(), NvmfError> {
        let name = config.desc.bdev().name().to_owned();
        let opened = self.on_views(move |view| view.add_namespace(&config)).await?;
        for result in opened {
            result.map_err(|source| NvmfError::Open { device: name.clone(), source })?;
        }
        Ok(())
    }

    async fn close_on_reactors(&self, nsid: u32) {
        self.on_views_until(move |view| view.remove_namespace(nsid)).await;
    }
}

/// The lowest number from 1 to `max` that is not taken.
fn first_free<T>(taken: &BTreeMap<u32, T>, max: u32) -> Option<u32> {
    (1..=max).find(|nsid| !taken.contains_key(nsid))
}
