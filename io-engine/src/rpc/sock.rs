//! `sock_get_default_impl`, `sock_set_default_impl`, `sock_impl_get_options`,
//! `sock_impl_set_options`: how the reactors do their networking.
//!
//! There is one way, chosen at the start: the reactor's ring, or epoll where the kernel gives none,
//! which SPDK calls `posix`. Its options are what the engine does; nothing else can be set.

use std::sync::Arc;

use nix::errno::Errno;
use serde_json::{Value, json};

use super::errors::{self, RpcResult};
use super::method::When;
use super::params::def::{choice, not_done, only, required, words};
use super::params::{Def, Defs, Nothing, ParamError, Params, Request};
use super::{Context, Method};

/// Why a buffer has no size.
const KERNELS: &str = "the kernel has buffers grow with the connection";
/// Why data are copied.
const COPIED: &str = "data are copied to the kernel";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("sock_get_default_impl", "Tells how networking is done.", get_default)
            .answers("`impl_name`: `uring`, or `posix` where the kernel gives no io_uring"),
        Method::new(
            "sock_set_default_impl",
            "Takes what it is; another one is refused with -95.",
            set_default,
        ),
        Method::new("sock_impl_get_options", "Tells how sockets are set.", get_options).answers(
            "`recv_buf_size` and `send_buf_size` (0: the kernel has them grow), \
             `enable_recv_pipe`, `enable_quickack`, `enable_placement_id`, \
             `enable_zerocopy_send_server`, `enable_zerocopy_send_client`, `zerocopy_threshold`, \
             `tls_version`, `enable_ktls`",
        ),
        Method::new(
            "sock_impl_set_options",
            "Takes the options that are as they are; others are refused by name.",
            set_options,
        )
        .at(When::Always),
    ]
}

/// A way of networking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Impl {
    Uring,
    Posix,
}

/// SPDK's words.
pub(super) const IMPLS: [(&str, Impl); 2] = [("uring", Impl::Uring), ("posix", Impl::Posix)];

impl Impl {
    fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Posix => "posix",
        }
    }

    /// What the reactors use.
    fn used(context: &Context) -> RpcResult<Self> {
        let refused = context.engine()?.runtime().ring_refusal();
        Ok(if refused.is_none() { Self::Uring } else { Self::Posix })
    }
}

async fn get_default(context: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    Ok(json!({ "impl_name": Impl::used(&context)?.name() }))
}

const NAME: Def = required("impl_name", choice(&words(&IMPLS)), "The way of networking.");

struct ByName(Impl);

impl Request for ByName {
    const PARAMS: Defs = &[&[NAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required_choice("impl_name", &IMPLS).map(Self)
    }
}

/// Refuses what the reactors do not use.
pub(super) fn check(context: &Context, asked: Impl) -> RpcResult<()> {
    let used = Impl::used(context)?;
    if asked == used {
        return Ok(());
    }
    let why = match used {
        Impl::Uring => "the kernel gives io_uring",
        Impl::Posix => "the kernel gives no io_uring",
    };
    let words = format!("networking is not done by {} but by {}: {why}", asked.name(), used.name());
    Err(errors::errno(Errno::EOPNOTSUPP, words))
}

async fn set_default(context: Arc<Context>, request: ByName) -> RpcResult<bool> {
    check(&context, request.0).map(|()| true)
}

async fn get_options(context: Arc<Context>, request: ByName) -> RpcResult<Value> {
    check(&context, request.0)?;
    Ok(json!({
        "recv_buf_size": 0,
        "send_buf_size": 0,
        "enable_recv_pipe": true,
        "enable_quickack": false,
        "enable_placement_id": 0,
        "enable_zerocopy_send_server": false,
        "enable_zerocopy_send_client": false,
        "zerocopy_threshold": 0,
        "tls_version": 0,
        "enable_ktls": false,
    }))
}

struct SetOptions;

impl Request for SetOptions {
    const PARAMS: Defs = &[&[
        NAME,
        only("recv_buf_size", "0", KERNELS),
        only("send_buf_size", "0", KERNELS),
        only("enable_recv_pipe", "true", "what was received is read in as few calls as possible"),
        only("enable_quickack", "false", "the kernel decides when it acknowledges"),
        only("enable_placement_id", "0", "connections are spread over the reactors in turn"),
        only("enable_zerocopy_send_server", "false", COPIED),
        only("enable_zerocopy_send_client", "false", COPIED),
        only("zerocopy_threshold", "0", COPIED),
        only("tls_version", "0", "there is no TLS for this way of networking"),
        only("enable_ktls", "false", "there is no TLS for this way of networking"),
        not_done("psk_key", "there is no TLS for this way of networking"),
        not_done("psk_identity", "there is no TLS for this way of networking"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required_choice("impl_name", &IMPLS).map(|_| Self)
    }
}

async fn set_options(_: Arc<Context>, _: SetOptions) -> RpcResult<bool> {
    Ok(true)
}
