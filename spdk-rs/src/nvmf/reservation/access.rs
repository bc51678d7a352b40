//! What commands are checked against.

use super::super::core_view::HostId;
use super::super::io::Access;
use crate::nvme::spec::reservation::ReservationType;

/// Who may do what with a namespace, as one core knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessView {
    pub(super) held: Option<(ReservationType, HostId)>,
    /// In order.
    pub(super) registrants: Vec<HostId>,
}

impl AccessView {
    /// Whether a reservation is held.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.held.is_some()
    }

    /// Whether a host may do it (figure "Command Behavior in the Presence of a Reservation").
    #[must_use]
    pub fn permits(&self, host: &HostId, access: Access) -> bool {
        let Some((kind, holder)) = &self.held else { return true };
        let shared = || kind.registrants() && self.registrants.binary_search(host).is_ok();
        match access {
            Access::Free => true,
            // Whoever holds "all registrants" is a registrant.
            _ if !kind.all_registrants() && holder == host => true,
            _ if shared() => true,
            Access::Read => !kind.excludes_reads(),
            Access::Write => false,
        }
    }
}
