//! A namespace as the control plane keeps it, and what reactors are given of it.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::bdev::{Bdev, BdevDesc};
use crate::nvmf::core_view::NsConfig;
use crate::nvmf::reservation::NsReservations;

/// A device under a number of a subsystem. Its facts do not change; a change makes a new one.
#[derive(Clone)]
pub struct Namespace {
    pub(super) nsid: u32,
    pub(super) desc: Arc<BdevDesc>,
    pub(super) uuid: Uuid,
    pub(super) nguid: [u8; 16],
    pub(super) eui64: Option<[u8; 8]>,
    pub(super) ana_group: u32,
    pub(super) ptpl_file: Option<PathBuf>,
    pub(super) reservations: Arc<NsReservations>,
}

impl Namespace {
    /// Its number, from 1.
    #[must_use]
    pub fn nsid(&self) -> u32 {
        self.nsid
    }

    /// The open and claimed device.
    #[must_use]
    pub fn desc(&self) -> &Arc<BdevDesc> {
        &self.desc
    }

    /// The device.
    #[must_use]
    pub fn bdev(&self) -> &Arc<Bdev> {
        self.desc.bdev()
    }

    /// Its UUID.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Its NGUID.
    #[must_use]
    pub fn nguid(&self) -> [u8; 16] {
        self.nguid
    }

    /// Its EUI-64, if it has one.
    #[must_use]
    pub fn eui64(&self) -> Option<[u8; 8]> {
        self.eui64
    }

    /// Its ANA group, from 1.
    #[must_use]
    pub fn ana_group(&self) -> u32 {
        self.ana_group
    }

    /// Where its persistent reservations are kept, if they are.
    #[must_use]
    pub fn ptpl_file(&self) -> Option<&PathBuf> {
        self.ptpl_file.as_ref()
    }

    /// Its reservations.
    #[must_use]
    pub fn reservations(&self) -> &Arc<NsReservations> {
        &self.reservations
    }

    /// What reactors are given of it.
    pub(super) fn config(&self) -> NsConfig {
        NsConfig {
            nsid: self.nsid,
            desc: Arc::clone(&self.desc),
            ana_group: self.ana_group,
            reservations: Arc::clone(&self.reservations),
        }
    }

    /// Whether hosts may only read.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        !self.desc.is_writable()
    }
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Namespace({} {:?})", self.nsid, self.bdev())
    }
}
