//! Asynchronous events (section 5.2): what happened, until a host has asked for it and read the
//! log page that belongs to it.
//!
//! Invariants:
//! * of each kind of event at most one is reported until its log page has been read;
//! * an event that finds no request outstanding waits for one; the memory for it is bounded.

use std::collections::{BTreeSet, VecDeque};

use crate::nvme::spec::aer::{AsyncEvent, event_type, io_command_set_event, notice};
use crate::nvme::spec::identify::oaes;
use crate::nvme::spec::log::lid;
use crate::nvmf::reservation::NoticeKind;

/// Changed namespaces that the log page names; more are reported as "more than this".
const CHANGED_MAX: usize = 1024;

/// Reservation notifications that are kept for a host (the log page counts the lost ones).
const RESERVATIONS_MAX: usize = 255;

/// Something a host may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A namespace came, went, or changed.
    NamespaceChanged(u32),
    /// The ANA log page has changed.
    AnaChanged,
    /// The discovery log page has changed.
    DiscoveryChanged,
    /// Something happened to a reservation.
    Reservation(ReservationEvent),
}

/// What happened to a reservation (reservation notification log page).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationEvent {
    /// The namespace.
    pub nsid: u32,
    /// What happened.
    pub kind: NoticeKind,
}

/// What the host wants to be told of: features 0Bh and 82h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nvmf) struct Masks {
    /// Notices by the bits of [`oaes`].
    pub(in crate::nvmf) notices: u32,
    /// Whether the reservation notice at hand is wanted.
    pub(in crate::nvmf) reservation: bool,
}

/// A kind of event, in the order in which waiting ones are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Namespaces,
    Ana,
    Discovery,
    Reservation,
}

impl Kind {
    const ALL: [Kind; 4] = [Self::Namespaces, Self::Ana, Self::Discovery, Self::Reservation];

    fn event(self) -> AsyncEvent {
        let (notice, info, page) = match self {
            Self::Namespaces => (true, notice::NAMESPACE_ATTRIBUTE, lid::CHANGED_NAMESPACES),
            Self::Ana => (true, notice::ANA_CHANGE, lid::ANA),
            Self::Discovery => (true, notice::DISCOVERY_LOG, lid::DISCOVERY),
            Self::Reservation => (false, io_command_set_event::RESERVATION_LOG, lid::RESERVATION),
        };
        let kind = if notice { event_type::NOTICE } else { event_type::IO_COMMAND_SET };
        AsyncEvent::new(kind, info, page)
    }

    fn of_page(page: u8) -> Option<Self> {
        match page {
            lid::CHANGED_NAMESPACES => Some(Self::Namespaces),
            lid::ANA => Some(Self::Ana),
            lid::DISCOVERY => Some(Self::Discovery),
            lid::RESERVATION => Some(Self::Reservation),
            _ => None,
        }
    }
}

/// Events of a controller. `R` is an asynchronous event request.
#[derive(Debug)]
pub(in crate::nvmf) struct Events<R> {
    requests: VecDeque<R>,
    waiting: BTreeSet<Kind>,
    /// Reported, and the log page has not been read since.
    reported: BTreeSet<Kind>,
    changed: BTreeSet<u32>,
    /// More namespaces changed than the log page can name.
    changed_overflow: bool,
    reservations: VecDeque<ReservationEvent>,
    /// Counts reservation notifications; also those that were lost.
    reservation_count: u64,
}

impl<R> Default for Events<R> {
    fn default() -> Self {
        Self {
            requests: VecDeque::new(),
            waiting: BTreeSet::new(),
            reported: BTreeSet::new(),
            changed: BTreeSet::new(),
            changed_overflow: false,
            reservations: VecDeque::new(),
            reservation_count: 0,
        }
    }
}

/// Requests to be answered, each with its event.
pub(in crate::nvmf) type Answers<R> = Vec<(R, AsyncEvent)>;

impl<R> Events<R> {
    /// Takes a request; given back when `limit` are outstanding.
    pub(in crate::nvmf) fn request(&mut self, request: R, limit: usize) -> Result<Answers<R>, R> {
        if self.requests.len() >= limit {
            return Err(request);
        }
        self.requests.push_back(request);
        Ok(self.flush())
    }

    /// Notes what happened.
    pub(in crate::nvmf) fn raise(&mut self, notice: Notice, masks: Masks) -> Answers<R> {
        let wants = |bit: u32| masks.notices & bit != 0;
        let (kind, wanted) = match notice {
            Notice::NamespaceChanged(nsid) => {
                self.note_changed(nsid);
                (Kind::Namespaces, wants(oaes::NAMESPACE_ATTRIBUTE))
            }
            Notice::AnaChanged => (Kind::Ana, wants(oaes::ANA_CHANGE)),
            Notice::DiscoveryChanged => (Kind::Discovery, wants(oaes::DISCOVERY_LOG)),
            Notice::Reservation(notice) => {
                if masks.reservation {
                    self.note_reservation(notice);
                }
                (Kind::Reservation, masks.reservation)
            }
        };
        if wanted && !self.reported.contains(&kind) {
            self.waiting.insert(kind);
        }
        self.flush()
    }

    /// The host has read a log page and wants to be told of changes again.
    pub(in crate::nvmf) fn page_read(&mut self, page: u8) -> Answers<R> {
        let Some(kind) = Kind::of_page(page) else { return Vec::new() };
        self.reported.remove(&kind);
        // What happened before the page was read is in it; a reservation page holds one at a time.
        if kind == Kind::Reservation && !self.reservations.is_empty() {
            self.waiting.insert(kind);
        } else {
            self.waiting.remove(&kind);
        }
        self.flush()
    }

    /// The namespaces that changed; none when they are too many to name. `clear` forgets them.
    pub(in crate::nvmf) fn changed(&mut self, clear: bool) -> Option<Vec<u32>> {
        let list = (!self.changed_overflow).then(|| self.changed.iter().copied().collect());
        if clear {
            self.changed.clear();
            self.changed_overflow = false;
        }
        list
    }

    /// The oldest reservation notification: its count, itself, and how many more there are.
    /// `take` forgets it.
    pub(in crate::nvmf) fn reservation(
        &mut self,
        take: bool,
    ) -> Option<(u64, ReservationEvent, usize)> {
        let first = *self.reservations.front()?;
        let more = self.reservations.len() - 1;
        let count = self.reservation_count - more as u64;
        if take {
            self.reservations.pop_front();
        }
        Some((count, first, more))
    }

    /// Gives every outstanding request back, and forgets what happened.
    pub(in crate::nvmf) fn clear(&mut self) -> Vec<R> {
        std::mem::take(self).requests.into()
    }

    /// Takes an outstanding request that meets a condition.
    pub(in crate::nvmf) fn take(&mut self, is: impl Fn(&R) -> bool) -> Option<R> {
        let at = self.requests.iter().position(is)?;
        self.requests.remove(at)
    }

    fn flush(&mut self) -> Answers<R> {
        let mut answers = Vec::new();
        for kind in Kind::ALL {
            if self.requests.is_empty() {
                break;
            }
            if self.waiting.remove(&kind)
                && let Some(request) = self.requests.pop_front()
            {
                self.reported.insert(kind);
                answers.push((request, kind.event()));
            }
        }
        answers
    }

    fn note_changed(&mut self, nsid: u32) {
        if self.changed.len() < CHANGED_MAX || self.changed.contains(&nsid) {
            self.changed.insert(nsid);
        } else {
            self.changed_overflow = true;
        }
    }

    fn note_reservation(&mut self, notice: ReservationEvent) {
        self.reservation_count += 1;
        self.reservations.push_back(notice);
        if self.reservations.len() > RESERVATIONS_MAX {
            self.reservations.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Masks = Masks { notices: u32::MAX, reservation: true };
    const NS: AsyncEvent = AsyncEvent(0x04_00_02);
    const ANA: AsyncEvent = AsyncEvent(0x0c_03_02);
    const DISCOVERY: AsyncEvent = AsyncEvent(0x70_f0_02);
    const RESERVATION: AsyncEvent = AsyncEvent(0x80_00_06);

    fn changed(nsid: u32) -> Notice {
        Notice::NamespaceChanged(nsid)
    }

    #[test]
    fn an_event_answers_a_request_once_until_its_page_is_read() {
        let mut events = Events::default();
        assert_eq!(events.request('a', 4), Ok(vec![]));
        assert_eq!(events.request('b', 4), Ok(vec![]));
        assert_eq!(events.raise(changed(1), ALL), [('a', NS)]);
        assert_eq!(events.raise(changed(2), ALL), []);
        assert_eq!(events.raise(Notice::AnaChanged, ALL), [('b', ANA)]);
        assert_eq!(events.changed(true), Some(vec![1, 2]));
        assert_eq!(events.page_read(lid::CHANGED_NAMESPACES), []);
        assert_eq!(events.request('c', 4), Ok(vec![]));
        assert_eq!(events.raise(changed(3), ALL), [('c', NS)]);
    }

    #[test]
    fn events_wait_for_requests_and_come_one_per_request() {
        let mut events = Events::default();
        assert_eq!(events.raise(Notice::DiscoveryChanged, ALL), []);
        assert_eq!(events.raise(changed(7), ALL), []);
        assert_eq!(events.request('a', 4), Ok(vec![('a', NS)]));
        assert_eq!(events.request('b', 4), Ok(vec![('b', DISCOVERY)]));
        assert_eq!(events.request('c', 4), Ok(vec![]));
    }

    #[test]
    fn a_page_that_is_read_takes_back_what_waits() {
        let mut events = Events::default();
        assert_eq!(events.raise(changed(7), ALL), []);
        assert_eq!(events.changed(true), Some(vec![7]));
        assert_eq!(events.page_read(lid::CHANGED_NAMESPACES), []);
        assert_eq!(events.request('a', 4), Ok(vec![]));
    }

    #[test]
    fn masked_events_are_not_reported_but_stand_in_the_page() {
        let mut events = Events::default();
        assert_eq!(events.request('a', 4), Ok(vec![]));
        let none = Masks { notices: 0, reservation: false };
        assert_eq!(events.raise(changed(7), none), []);
        assert_eq!(events.raise(Notice::AnaChanged, none), []);
        assert_eq!(events.raise(Notice::DiscoveryChanged, none), []);
        assert_eq!(events.changed(false), Some(vec![7]));
        assert_eq!(events.clear(), ['a']);
    }

    #[test]
    fn the_limit_of_requests_is_exact() {
        let mut events = Events::default();
        for request in 0..4 {
            assert_eq!(events.request(request, 4), Ok(vec![]));
        }
        assert_eq!(events.request(4, 4), Err(4));
        assert_eq!(events.take(|&request| request == 2), Some(2));
        assert_eq!(events.request(5, 4), Ok(vec![]));
        assert_eq!(events.clear(), [0, 1, 3, 5]);
    }

    #[test]
    fn more_changed_namespaces_than_the_page_has_room_for() {
        let mut events = Events::<()>::default();
        for nsid in 1..=1024 {
            assert_eq!(events.raise(changed(nsid), ALL), []);
        }
        assert_eq!(events.changed(false).map(|list| list.len()), Some(1024));
        let _ = events.raise(changed(1024), ALL);
        assert!(events.changed(false).is_some());
        let _ = events.raise(changed(1025), ALL);
        assert_eq!(events.changed(true), None);
        assert_eq!(events.changed(true), Some(vec![]));
    }

    #[test]
    fn reservation_notices_are_read_one_by_one_and_are_bounded() {
        let mut events = Events::default();
        let notice = |kind| Notice::Reservation(ReservationEvent { nsid: 1, kind });
        for _ in 0..300 {
            let _ = events.raise(notice(NoticeKind::ReservationReleased), ALL);
        }
        let _ = events.raise(notice(NoticeKind::ReservationPreempted), ALL);
        let (count, first, more) = events.reservation(true).unwrap();
        assert_eq!((count, more), (47, 254));
        assert_eq!(first.kind, NoticeKind::ReservationReleased);
        assert_eq!(events.request('a', 4), Ok(vec![('a', RESERVATION)]));
        assert_eq!(events.request('b', 4), Ok(vec![]));
        assert_eq!(events.page_read(lid::RESERVATION), [('b', RESERVATION)]);
    }
}
