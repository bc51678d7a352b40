//! The last events, and who waits for the next.

use std::collections::VecDeque;
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "events are errors and changes, not I/O")]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::{Event, EventType};

/// Events that are kept (as many as SPDK keeps).
pub const EVENTS_MAX: usize = 1024;

/// The events of an engine.
pub struct EventLog {
    ring: Ring,
    live: broadcast::Sender<Arc<Event>>,
}

#[expect(clippy::disallowed_types, reason = "events are errors and changes, not I/O")]
type Ring = Mutex<Kept>;

#[derive(Default)]
struct Kept {
    next: u64,
    events: VecDeque<Arc<Event>>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { ring: Ring::default(), live: broadcast::channel(EVENTS_MAX).0 }
    }
}

impl EventLog {
    /// Adds an event; `details` is an object. Never waits for a listener.
    pub fn add(&self, kind: EventType, ctx: &str, details: Value) {
        let mut kept = self.lock();
        let (id, ctx, at) = (kept.next, ctx.to_owned(), SystemTime::now());
        let event = Arc::new(Event { id, kind, ctx, at, details });
        kept.next += 1;
        if kept.events.len() == EVENTS_MAX {
            kept.events.pop_front();
        }
        kept.events.push_back(Arc::clone(&event));
        // Sent under the lock, so that every subscriber sees the order of the numbers. Nobody
        // listening is no error.
        let _ = self.live.send(event);
    }

    /// The events from number `id` on, at most `max`. When some of them are not kept any more, the
    /// first is one of the type [`EventType::Lost`] with the number of the last that is gone.
    #[must_use]
    pub fn since(&self, id: u64, max: usize) -> Vec<Arc<Event>> {
        let kept = self.lock();
        let first = kept.events.front().map_or(kept.next, |event| event.id);
        let lost = first.checked_sub(id).filter(|lost| *lost != 0).map(|count| {
            Arc::new(Event {
                id: first - 1,
                kind: EventType::Lost,
                ctx: count.to_string(),
                at: SystemTime::now(),
                details: json!({ "count": count, "first_id": id }),
            })
        });
        let rest = kept.events.iter().filter(|event| event.id >= id).cloned();
        lost.into_iter().chain(rest).take(max).collect()
    }

    /// How many events there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.lock().next
    }

    /// Has every event from now on sent. Who is slower than 1024 events is told how many it missed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.live.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
