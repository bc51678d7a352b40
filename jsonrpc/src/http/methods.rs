//! The methods as HTTP serves them: with a look at the caller, in tasks of their own, and each
//! request answered.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::core::server::{
    BatchResponseBuilder, Extensions, MethodCallback, MethodResponse, Methods,
};
use jsonrpsee::server::middleware::rpc::RpcService;
use jsonrpsee::types::{ErrorObject, ErrorObjectOwned, Id, Params, Request};

use super::Site;
use super::caller::Caller;
use super::limits::HttpStats;
use crate::codes;

/// The errno of a caller who may not do this.
const EACCES: i32 = 13;

/// Checks calls before they are made.
#[derive(Clone)]
struct Gate {
    site: Arc<dyn Site>,
    stats: Arc<HttpStats>,
    name: &'static str,
}

impl Gate {
    fn check(&self, params: &Params<'_>, extensions: &Extensions) -> Result<(), ErrorObjectOwned> {
        self.stats.calls.fetch_add(1, Ordering::Relaxed);
        let how = match extensions.get::<Caller>() {
            Some(Caller::Trusted) => return Ok(()),
            Some(Caller::Anyone) => "send it in an Authorization header",
            Some(Caller::NoToken) | None => {
                "the server has none (--http-token-file), so it is read-only over HTTP"
            }
        };
        if self.site.only_reads(self.name, params.as_str()) {
            return Ok(());
        }
        self.stats.forbidden.fetch_add(1, Ordering::Relaxed);
        let text = format!(
            "Permission denied: this call of {} may change something and needs the bearer token; \
             {how}",
            self.name
        );
        Err(codes::from_errno(EACCES, text))
    }

    fn panicked(&self) -> ErrorObjectOwned {
        self.stats.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(method = self.name, "an RPC method panicked");
        let data = format!("the method {} panicked; the cause is in the server's log", self.name);
        ErrorObject::owned(codes::INTERNAL_ERROR, "Internal error", Some(data))
    }
}

/// The methods behind gates.
pub(super) fn guarded(methods: &Methods, site: &Arc<dyn Site>, stats: &Arc<HttpStats>) -> Methods {
    let mut guarded = Methods::new();
    for name in methods.method_names() {
        let Some(method) = methods.method(name) else { continue };
        let gate = Gate { site: Arc::clone(site), stats: Arc::clone(stats), name };
        let inserted = guarded.verify_and_insert(name, wrapped(method, gate));
        debug_assert!(inserted.is_ok(), "a module has a name once");
    }
    guarded
}

/// A method behind a gate.
fn wrapped(method: &MethodCallback, gate: Gate) -> MethodCallback {
    match method {
        MethodCallback::Sync(call) => {
            let call = Arc::clone(call);
            MethodCallback::Sync(Arc::new(move |id, params, max, extensions| {
                if let Err(error) = gate.check(&params, &extensions) {
                    return MethodResponse::error(id, error);
                }
                let kept = id.clone();
                catch_unwind(AssertUnwindSafe(|| call(id, params, max, extensions)))
                    .unwrap_or_else(|_| MethodResponse::error(kept, gate.panicked()))
            }))
        }
        MethodCallback::Async(call) => {
            let call = Arc::clone(call);
            MethodCallback::Async(Arc::new(move |id, params, connection, max, extensions| {
                let (call, gate) = (Arc::clone(&call), gate.clone());
                Box::pin(async move {
                    if let Err(error) = gate.check(&params, &extensions) {
                        return MethodResponse::error(id, error);
                    }
                    let kept = id.clone();
                    // A task of its own contains a panic, and outlives the connection.
                    let task =
                        tokio::spawn(
                            async move { call(id, params, connection, max, extensions).await },
                        );
                    task.await.unwrap_or_else(|_| MethodResponse::error(kept, gate.panicked()))
                })
            }))
        }
        MethodCallback::Subscription(call) => {
            let call = Arc::clone(call);
            MethodCallback::Subscription(Arc::new(move |id, params, sink, state, extensions| {
                if let Err(error) = gate.check(&params, &extensions) {
                    let refused = MethodResponse::error(id, error);
                    return Box::pin(std::future::ready(refused));
                }
                call(id, params, sink, state, extensions)
            }))
        }
        // Whoever ends a subscription has it.
        MethodCallback::Unsubscription(call) => MethodCallback::Unsubscription(Arc::clone(call)),
    }
}

/// jsonrpsee's service, but for one thing. It passes notifications over in silence, and takes a
/// request for one whose id it cannot hold (-1, 1.5); nobody would learn that nothing was done.
/// Here both are answered with an error.
#[derive(Clone)]
pub(super) struct Answering {
    inner: RpcService,
    response_bytes_max: usize,
}

impl Answering {
    pub(super) fn new(inner: RpcService, response_bytes_max: usize) -> Self {
        Self { inner, response_bytes_max }
    }
}

fn refused() -> MethodResponse {
    let words =
        "over HTTP a request has an \"id\": a string, null, or a whole number from 0 to 2^64-1";
    MethodResponse::error(Id::Null, codes::invalid_request(words))
}

impl RpcServiceT for Answering {
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.inner.call(request)
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            let mut answers = BatchResponseBuilder::new_with_limit(this.response_bytes_max);
            for entry in batch {
                let answer = match entry {
                    Ok(BatchEntry::Call(request)) => this.call(request).await,
                    Ok(BatchEntry::Notification(_)) => refused(),
                    Err(error) => {
                        let (error, id) = error.into_parts();
                        MethodResponse::error(id, error)
                    }
                };
                if let Err(too_long) = answers.append(answer) {
                    return too_long;
                }
            }
            MethodResponse::from_batch(answers.finish())
        }
    }

    fn notification<'a>(
        &self,
        _: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        std::future::ready(refused())
    }
}
