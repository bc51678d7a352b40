//! `notify_get_types`, `notify_get_notifications`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::errors::RpcResult;
use super::params::def::{int, optional};
use super::params::{Defs, Nothing, ParamError, Params, Request};
use super::{Context, Method};
use crate::core::events::{Event, EventType};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("notify_get_types", "Lists the kinds of events.", get_types).answers("names"),
        Method::new("notify_get_notifications", "Lists events.", get_notifications).answers(
            "list: `type`, `ctx` (what it is about), `id`; ours: `time_us` since 1970, `details`",
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
