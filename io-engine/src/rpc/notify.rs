//! `notify_get_types`, `notify_get_notifications`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::errors::RpcResult;
use super::params::{Nothing, ParamError, Params, Request};
use super::{Context, Method};
use crate::core::events::{Event, EventType};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("notify_get_types", get_types),
        Method::new("notify_get_notifications", get_notifications),
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
    const NAMES: &'static [&'static str] = &["id", "max"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let max = params.optional_u64("max", 0..=u64::MAX)?;
        Ok(Self {
            id: params.optional_u64("id", 0..=u64::MAX)?.unwrap_or(0),
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
