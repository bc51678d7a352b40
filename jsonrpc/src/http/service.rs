//! From a request to its answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use jsonrpsee::core::server::Methods;
use jsonrpsee::server::middleware::rpc::{RpcService, RpcServiceBuilder};
use jsonrpsee::server::{
    BatchRequestConfig, HttpBody, PingConfig, Server, ServerConfig, StopHandle,
};
use tokio::time::timeout;
use tower_service::Service as _;

use super::caller::{Caller, WrongToken};
use super::methods::{Answering, guarded};
use super::{BearerToken, HttpLimits, HttpOptions, HttpStats, Page, Site, origin};

/// The path of the methods.
const RPC: &str = "/rpc";

/// What every answer tells a browser: to load nothing from elsewhere, to show this in no frame, to
/// believe the media type and to keep nothing.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

type Answer = Response<HttpBody>;
type AnswerFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// jsonrpsee's service, which answers a POST and upgrades to a WebSocket.
type Rpc = dyn Fn(Request<HttpBody>) -> AnswerFuture + Send + Sync;

/// What all connections share.
pub(super) struct Service {
    make_rpc: Box<dyn Fn() -> Arc<Rpc> + Send + Sync>,
    site: Arc<dyn Site>,
    token: Option<BearerToken>,
    hosts: Vec<String>,
    limits: HttpLimits,
    stats: Arc<HttpStats>,
}

/// One connection.
pub(super) struct Connection {
    shared: Arc<Service>,
    rpc: Arc<Rpc>,
}

impl Service {
    pub(super) fn new(
        methods: Methods,
        site: Arc<dyn Site>,
        options: &HttpOptions,
        stats: Arc<HttpStats>,
        stop: StopHandle,
    ) -> Self {
        let methods = guarded(&methods, &site, &stats);
        let make_rpc = Box::new(rpc(methods, &options.limits, stop));
        let HttpOptions { token, hosts, limits, .. } = options.clone();
        Self { make_rpc, site, token, hosts, limits, stats }
    }

    /// A new connection.
    pub(super) fn connection(self: &Arc<Self>) -> Connection {
        Connection { shared: Arc::clone(self), rpc: (self.make_rpc)() }
    }
}

/// What makes the service of each connection.
fn rpc(methods: Methods, limits: &HttpLimits, stop: StopHandle) -> impl Fn() -> Arc<Rpc> + use<> {
    // Missing one sign of life is missing all of them.
    let ping = PingConfig::new()
        .ping_interval(limits.idle_timeout / 2)
        .inactive_limit(limits.idle_timeout)
        .max_failures(1);
    // As many as there are connections: each has one request at a time or is a WebSocket.
    let connections = u32::try_from(limits.max_connections).unwrap_or(u32::MAX);
    let config = ServerConfig::builder()
        .max_request_body_size(limits.max_request_bytes)
        .max_response_body_size(limits.max_response_bytes)
        .max_connections(connections)
        .max_subscriptions_per_connection(limits.max_subscriptions)
        .set_batch_request_config(BatchRequestConfig::Limit(limits.max_batch_requests))
        .set_message_buffer_capacity(limits.max_buffered_messages)
        .enable_ws_ping(ping)
        .build();
    let response_bytes_max = limits.max_response_bytes as usize;
    let layer = RpcServiceBuilder::new()
        .layer_fn(move |inner: RpcService| Answering::new(inner, response_bytes_max));
    let builder =
        Server::builder().set_config(config).to_service_builder().set_rpc_middleware(layer);
    move || {
        let service = builder.clone().build(methods.clone(), stop.clone());
        Arc::new(move |request| -> AnswerFuture {
            let mut service = service.clone();
            Box::pin(async move {
                let answered = service.call(request).await;
                answered.unwrap_or_else(|error| plain(StatusCode::INTERNAL_SERVER_ERROR, error))
            })
        })
    }
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (shared, rpc) = (Arc::clone(&self.shared), Arc::clone(&self.rpc));
        Box::pin(async move {
            shared.stats.requests.fetch_add(1, Ordering::Relaxed);
            let mut answer = shared.answer(request, &rpc).await;
            let headers = answer.headers_mut();
            for (name, value) in HEADERS {
                headers.insert(name, HeaderValue::from_static(value));
            }
            Ok(answer)
        })
    }
}

impl Service {
    async fn answer(&self, mut request: Request<Incoming>, rpc: &Arc<Rpc>) -> Answer {
        let caller = match self.caller(&request) {
            Ok(caller) => caller,
            Err(refusal) => {
                self.stats.forbidden.fetch_add(1, Ordering::Relaxed);
                return *refusal;
            }
        };
        if request.uri().path() == RPC {
            if let Some(why) = self.site.closed() {
                return plain(StatusCode::SERVICE_UNAVAILABLE, why);
            }
            request.extensions_mut().insert(caller);
            return match self.received(request).await {
                Ok(request) => rpc(request).await,
                Err(refusal) => refusal,
            };
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD here");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match self.site.page(request.uri().path()).await {
            Some(Page { status, content_type, body }) => {
                let mut answer = Response::new(HttpBody::from(body));
                *answer.status_mut() =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let content_type = HeaderValue::from_static(content_type);
                answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
                answer
            }
            None => plain(StatusCode::NOT_FOUND, "there is nothing at this path"),
        }
    }

    /// Who a request is from, if it may be from anybody.
    fn caller(&self, request: &Request<Incoming>) -> Result<Caller, Box<Answer>> {
        let headers = request.headers();
        origin::check(headers, &self.hosts)
            .map_err(|why| Box::new(plain(StatusCode::FORBIDDEN, why)))?;
        Caller::of(headers, self.token.as_ref()).map_err(|WrongToken| {
            let mut refusal = plain(StatusCode::UNAUTHORIZED, "this is not the bearer token");
            let scheme = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            refusal.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            Box::new(refusal)
        })
    }

    /// The request with all of its body, which a peer has a limited time and length for.
    async fn received(&self, request: Request<Incoming>) -> Result<Request<HttpBody>, Answer> {
        let (parts, body) = request.into_parts();
        let max = self.limits.max_request_bytes;
        let too_long =
            || plain(StatusCode::PAYLOAD_TOO_LARGE, format!("a request may have {max} bytes"));
        let announced = parts.headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > max.into()) {
            return Err(too_long());
        }
        let body = Limited::new(body, max as usize).collect();
        match timeout(self.limits.body_timeout, body).await {
            Ok(Ok(body)) => {
                Ok(Request::from_parts(parts, HttpBody::from(Vec::from(body.to_bytes()))))
            }
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
            Ok(Err(error)) => Err(plain(StatusCode::BAD_REQUEST, error)),
            Err(_) => Err(plain(StatusCode::REQUEST_TIMEOUT, "the request took too long")),
        }
    }
}

/// An answer of one line. Its connection is closed: what the peer still sends is of no use.
fn plain(status: StatusCode, line: impl std::fmt::Display) -> Answer {
    let Page { content_type, body, .. } = Page::text(status.as_u16(), line);
    let mut answer = Response::new(HttpBody::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if status != StatusCode::NOT_FOUND {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
