//! Asynchronous events of a controller (section 5.2).

use std::rc::Rc;

use super::link::{Link, low};
use super::signal::Events;
use crate::nvme::spec::identify::{IdentifyController, oaes};
use crate::nvme::spec::log::{GetLogPage, lid};
use crate::nvme::spec::{Sqe, opcode};

/// Requests that wait for events at the most.
const REQUESTS_MAX: u8 = 4;

/// The configuration (feature 0Bh) of the events that this code heeds and a controller knows.
pub(super) fn known(identify: &IdentifyController) -> u32 {
    let heeded = oaes::NAMESPACE_ATTRIBUTE | oaes::ANA_CHANGE | oaes::DISCOVERY_LOG;
    identify.oaes.get() & heeded
}

/// Asks for events from now on, for as long as the association lasts.
pub(super) fn listen(link: &Rc<Link>) {
    let requests = link.info().identify.aerl.saturating_add(1).min(REQUESTS_MAX);
    for _ in 0..requests {
        let weak = Rc::downgrade(link);
        link.reactor().spawn("nvme events", async move {
            while let Some(link) = weak.upgrade() {
                // The request holds no pointer to the association: it may take for ever.
                let waiting = request(&link);
                drop(link);
                let Some(result) = waiting.await else { return };
                let Some(link) = weak.upgrade() else { return };
                heed(&link, result).await;
            }
        });
    }
}

/// Waits for one event; none when the controller gives none.
fn request(link: &Rc<Link>) -> impl Future<Output = Option<u32>> + use<> {
    let (awaited, queue) = link.parts();
    async move {
        let sqe = Sqe::new(opcode::admin::ASYNC_EVENT_REQUEST, 0);
        awaited.execute(&queue, sqe, None).await.ok().ok().map(|(result, _)| low(result))
    }
}

/// What an event is about: type in bits 2:0, information in 15:8, log page in 23:16.
fn meaning(result: u32) -> (Events, u8) {
    let [kind, info, page, _] = result.to_le_bytes();
    let events = match (kind & 7, info, page) {
        (2, 0x00, _) => Events::NAMESPACES,
        (2, 0x03, _) => Events::ANA,
        (2, 0xf0, _) => Events::DISCOVERY,
        _ => Events::empty(),
    };
    (events, page)
}

/// Clears an event by reading its page, and passes it on. Pages that the receiver of the event
/// reads anyway are left to it.
async fn heed(link: &Rc<Link>, result: u32) {
    let (events, page) = meaning(result);
    tracing::debug!(event = format_args!("{result:#x}"), "an event of an NVMe controller");
    let read_by_receiver = events.intersects(Events::ANA | Events::DISCOVERY);
    if page != 0 && !read_by_receiver {
        // The list of changed namespaces is not relied on: it may have overflowed, and what is
        // there is compared with what is known.
        let bytes = if page == lid::CHANGED_NAMESPACES { 4096 } else { 512 };
        if let Ok(buf) = link.buffer(bytes) {
            let sqe = GetLogPage::new(page, bytes as u64).to_sqe(u32::MAX);
            let _ = link.admin(sqe, Some(buf), "log page of an event").await;
        }
    }
    if !events.is_empty() {
        link.signal().raise(events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_have_a_meaning() {
        assert_eq!(meaning(0x0004_0002), (Events::NAMESPACES, 4));
        assert_eq!(meaning(0x000c_0302), (Events::ANA, 0x0c));
        assert_eq!(meaning(0x0070_f002), (Events::DISCOVERY, 0x70));
        assert_eq!(meaning(0x0002_0101), (Events::empty(), 2), "a SMART event");
    }
}
