//! `notify_get_types`, `notify_get_notifications`, `notify_subscribe`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use jsonrpsee::SubscriptionSink;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::errors::RpcResult;
use super::params::def::{choice, int, optional, words};
use super::params::{Defs, Kind, Nothing, ParamError, Params, Request};
use super::{Context, Feed, Method, Subscription};
use crate::core::events::{Event, EventLog, EventType};

/// Events that are fetched for a subscriber at once.
const BATCH: usize = 64;

/// The types of events with their names.
const TYPES: [(&str, EventType); EventType::ALL.len()] = {
    let mut all = [("", EventType::Lost); EventType::ALL.len()];
    let mut index = 0;
    while index < all.len() {
        let kind = EventType::ALL[index];
        all[index] = (kind.name(), kind);
        index += 1;
    }
    all
};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("notify_get_types", "Lists the kinds of events.", get_types).answers("names"),
        Method::new("notify_get_notifications", "Lists events.", get_notifications).answers(
            "list: `type`, `ctx` (what it is about), `id`; ours: `time_us` since 1970, `details`",
        ),
        Method::subscription(
            "notify_subscribe",
            "Has events sent as they come (ours).",
            Subscription { notification: "notify_event", end: "notify_unsubscribe" },
            |context, request| Ok(feed(context.engine()?.events(), request)),
        )
        .answers(
            "the subscription's number; each message is an event, as `notify_get_notifications` \
             lists it",
        ),
    ]
}

async fn get_types(_: Arc<Context>, _: Nothing) -> RpcResult<Vec<&'static str>> {
    Ok(EventType::ALL.map(EventType::name).to_vec())
}

struct GetNotifications {
    id: u64,
    max: usize,
}

impl Request for GetNotifications {
    const PARAMS: Defs = &[&[
        optional("id", int(0, u64::MAX as i128), "The first event to list.").or_int(0),
        optional("max", int(0, u64::MAX as i128), "The most events to list; else all there are."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let max: Option<u64> = params.optional("max")?;
        Ok(Self {
            id: params.required("id")?,
            max: max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX),
        })
    }
}

async fn get_notifications(
    context: Arc<Context>,
    request: GetNotifications,
) -> RpcResult<Vec<Value>> {
    let events = context.engine()?.events().since(request.id, request.max);
    Ok(events.iter().map(|event| of_event(event)).collect())
}

#[derive(Clone, Debug, Default)]
struct Subscribe {
    id: Option<u64>,
    kinds: Option<Vec<EventType>>,
}

impl Request for Subscribe {
    const PARAMS: Defs = &[&[
        optional("id", int(0, u64::MAX as i128), "The first event to send; else the next."),
        optional(
            "types",
            Kind::List { item: &choice(&words(&TYPES)), min: 1, max: TYPES.len() },
            "Only these kinds, as `notify_get_types` names them; that events are lost is always told.",
        ),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let names: Option<Vec<String>> = params.optional("types")?;
        let kind = |name: &String| TYPES.iter().find(|(word, _)| word == name).map(|found| found.1);
        let kinds = names.map(|names| names.iter().filter_map(kind).collect());
        Ok(Self { id: params.optional("id")?, kinds })
    }
}

/// What sends a subscriber its events. Nothing is kept for it beside what the log keeps for all: who
/// is slower than the log forgets is told how many events it missed.
fn feed(log: &Arc<EventLog>, request: Subscribe) -> Feed {
    let log = Arc::clone(log);
    let next = request.id.unwrap_or_else(|| log.count());
    Box::new(move |sink| Box::pin(send(log, next, request.kinds, sink)))
}

async fn send(
    log: Arc<EventLog>,
    mut next: u64,
    kinds: Option<Vec<EventType>>,
    sink: SubscriptionSink,
) {
    let mut news = log.subscribe();
    loop {
        let events = log.since(next, BATCH);
        for event in &events {
            next = event.id.saturating_add(1);
            let wanted = event.kind == EventType::Lost
                || kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind));
            let Some(message) = wanted.then(|| to_raw_value(&of_event(event)).ok()).flatten()
            else {
                continue;
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        if !events.is_empty() {
            continue;
        }
        tokio::select! {
            () = sink.closed() => return,
            // Having missed some news is news.
            woken = news.recv() => match woken {
                Ok(_) | Err(RecvError::Lagged(_)) => news = news.resubscribe(),
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// An event as clients see it: SPDK's members, and ours beyond.
#[must_use]
pub fn of_event(event: &Event) -> Value {
    let at = event.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "type": event.kind.name(),
        "ctx": event.ctx,
        "id": event.id,
        "time_us": u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
        "details": event.details,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonrpsee::RpcModule;
    use jsonrpsee::core::EmptyServerParams;

    /// A subscriber of a log that has room for one message.
    async fn subscriber(
        log: &Arc<EventLog>,
        request: Subscribe,
    ) -> jsonrpsee::core::server::Subscription {
        let mut module = RpcModule::new(Arc::clone(log));
        let begin =
            move |_, pending: jsonrpsee::PendingSubscriptionSink, log: Arc<Arc<EventLog>>, _| {
                let feed = feed(&log, request.clone());
                async move { feed(pending.accept().await.expect("accepted")).await }
            };
        module.register_subscription("begin", "event", "end", begin).expect("new names");
        module.subscribe("begin", EmptyServerParams::new(), 1).await.expect("subscribed")
    }

    async fn next(from: &mut jsonrpsee::core::server::Subscription) -> Value {
        let wait = std::time::Duration::from_secs(60);
        let event = tokio::time::timeout(wait, from.next::<Value>()).await.expect("in time");
        event.expect("an event").expect("of this form").0
    }

    #[tokio::test]
    async fn a_subscriber_is_sent_what_comes_and_told_what_it_missed() {
        let log = Arc::new(EventLog::default());
        let add = |ctx: &str| log.add(EventType::Resized, ctx, json!({}));
        add("before");
        let mut all = subscriber(&log, Subscribe::default()).await;
        add("m0");
        let event = next(&mut all).await;
        assert_eq!((&event["id"], &event["ctx"]), (&json!(1), &json!("m0")));
        assert_eq!(event["type"], "bdev_resize");
        // More than the log keeps, before the subscriber takes one.
        (0..2000).for_each(|_| add("m1"));
        let (mut id, mut missed) = (2, 0);
        while id < 2002 {
            let event = next(&mut all).await;
            if event["type"] == "events_lost" {
                assert_eq!(event["details"]["first_id"], id);
                let count = event["details"]["count"].as_u64().expect("a number");
                (id, missed) = (id + count, missed + count);
            } else {
                assert_eq!(event["id"], id);
                id += 1;
            }
        }
        assert!((900..=976).contains(&missed), "{missed}");
    }

    #[tokio::test]
    async fn a_subscriber_can_begin_earlier_and_choose() {
        let log = Arc::new(EventLog::default());
        for kind in [EventType::Registered, EventType::Resized, EventType::Unregistered] {
            log.add(kind, "m0", json!({}));
        }
        let kinds = Some(vec![EventType::Unregistered, EventType::Health]);
        let mut some = subscriber(&log, Subscribe { id: Some(0), kinds }).await;
        log.add(EventType::Resized, "m0", json!({}));
        log.add(EventType::Health, "m0", json!({}));
        assert_eq!(next(&mut some).await["id"], 2);
        assert_eq!(next(&mut some).await["id"], 4);
    }
}
