//! Reservations: which hosts may use a namespace (NVMe Base 2.0, section 8.19).

/// Who may do what with a namespace: what an I/O is checked against, on every core.
#[derive(Clone, Debug, Default)]
pub struct AccessView {
    kind: Option<u8>,
}

impl AccessView {
    /// Whether a reservation is held.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.kind.is_some()
    }
}

/// The reservations of one namespace, for all cores.
#[derive(Debug, Default)]
pub struct NsReservations {}

impl NsReservations {
    /// Who may do what now.
    #[must_use]
    pub fn access(&self) -> AccessView {
        AccessView::default()
    }
}
