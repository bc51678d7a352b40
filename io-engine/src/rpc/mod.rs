//! The methods of the management interface, in SPDK's dialect: its names, parameters, results
//! and error codes where SPDK has the method. One file per group.
//!
//! A method runs on the management thread, never on a reactor. What needs a reactor is sent there
//! and awaited; what may block goes to helper threads.

mod accel;
mod bdev;
mod bdev_delay;
#[cfg(feature = "fault-injection")]
mod bdev_error;
mod bdev_nvme;
mod bdev_passthru;
mod bdev_split;
mod block;
mod config;
pub mod docs;
pub mod errors;
#[cfg(feature = "fault-injection")]
mod fault_injection;
mod file;
mod framework;
mod health;
mod histogram;
mod iostat;
mod log;
mod lvol;
mod malloc;
mod memory;
mod method;
pub mod notify;
mod null;
mod nvmf;
pub mod openrpc;
pub mod params;
mod pci;
mod phase;
mod pool;
mod qos;
mod roots;
mod saved;
mod settings;
mod sock;
mod thread;
mod vol;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use jsonrpsee::types::Params as RawParams;
use jsonrpsee::{PendingSubscriptionSink, RpcModule};
use nix::errno::Errno;
use spdk_rs::nvme::controller::ControllerOptions;

use crate::core::Engine;
use crate::pool::block_api::BlockStores;
use crate::subsys::{Hotplug, Nvmf};
use errors::RpcResult;
pub use method::{Feed, Method, Subscription, When};
pub use phase::{Phase, Phases};
pub use roots::Roots;
pub use saved::names as subsystem_names;

/// What methods work on.
#[derive(Default)]
pub struct Context {
    engine: OnceLock<Arc<Engine>>,
    /// The number of the next malloc device without a name.
    malloc_next: AtomicU64,
    /// What NVMe controllers are attached with.
    nvme_defaults: bdev_nvme::Defaults,
    hotplug: Hotplug,
    nvmf: Nvmf,
    /// Devices that blocks are allocated from.
    blocks: BlockStores,
    /// How far the start has come.
    phase: Phases,
    /// Where methods may read and write files.
    roots: Roots,
}

/// SPDK's code for a method that may not be called now.
const INVALID_STATE: i32 = -1;

impl Context {
    /// A context without an engine: the socket is taken before the engine starts.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Gives the context its engine; the first one stays.
    pub fn set_engine(&self, engine: Arc<Engine>) {
        let _ = self.engine.set(engine);
    }

    /// The engine.
    ///
    /// # Errors
    /// EAGAIN while it starts.
    pub fn engine(&self) -> RpcResult<&Arc<Engine>> {
        self.engine.get().ok_or_else(|| errors::errno(Errno::EAGAIN, "the engine is starting"))
    }

    /// How far the start has come.
    #[must_use]
    pub fn phase(&self) -> &Phases {
        &self.phase
    }

    /// Where methods may read and write files.
    #[must_use]
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Hot plug of NVMe controllers.
    #[must_use]
    pub fn hotplug(&self) -> &Hotplug {
        &self.hotplug
    }

    /// What NVMe controllers are attached with when nothing else is said.
    pub(crate) fn nvme_options(&self, engine: &Engine) -> ControllerOptions {
        self.nvme_defaults.options(engine.host())
    }

    /// The NVMe-oF target.
    #[must_use]
    pub fn nvmf(&self) -> &Nvmf {
        &self.nvmf
    }

    /// The devices that blocks are allocated from.
    #[must_use]
    pub fn blocks(&self) -> &BlockStores {
        &self.blocks
    }
}

/// Every method, in order of their names.
#[must_use]
pub fn methods() -> Vec<Method> {
    let groups = [
        ("framework", framework::methods()),
        ("framework", openrpc::methods()),
        ("config", config::methods()),
        ("log", log::methods()),
        ("settings", settings::methods()),
        ("settings", memory::methods()),
        ("settings", sock::methods()),
        ("settings", accel::methods()),
        ("framework", thread::methods()),
        ("framework", pci::methods()),
        ("bdev", bdev::methods()),
        ("stats", iostat::methods()),
        ("stats", histogram::methods()),
        ("stats", qos::methods()),
        ("stats", health::methods()),
        ("stats", notify::methods()),
        ("bdev", malloc::methods()),
        ("bdev", null::methods()),
        ("bdev", file::methods()),
        ("layer", bdev_passthru::methods()),
        ("layer", bdev_split::methods()),
        ("layer", bdev_delay::methods()),
        #[cfg(feature = "fault-injection")]
        ("layer", bdev_error::methods()),
        #[cfg(feature = "fault-injection")]
        ("fault", fault_injection::methods()),
        ("bdev_nvme", bdev_nvme::methods()),
        ("block", block::methods()),
        ("pool", pool::methods()),
        ("pool", vol::methods()),
        ("lvol", lvol::methods()),
        ("nvmf", nvmf::methods()),
    ];
    let grouped = groups
        .into_iter()
        .flat_map(|(group, methods)| methods.into_iter().map(move |method| method.in_group(group)));
    let mut all: Vec<Method> = grouped.collect();
    all.sort_by_key(Method::name);
    all
}

/// The methods as a module that the JSON-RPC server, or any other of jsonrpsee's, can serve.
#[must_use]
pub fn module(context: &Arc<Context>) -> RpcModule<Arc<Context>> {
    let mut module = RpcModule::new(Arc::clone(context));
    for method in methods() {
        let (name, method) = (method.name(), Arc::new(method));
        if let Some(shape) = method.subscribes() {
            register_subscription(&mut module, method, shape);
            continue;
        }
        let registered = module.register_async_method(name, move |params, context, _| {
            let (method, given) = (Arc::clone(&method), given(&params));
            async move {
                context.phase.check(method.when())?;
                method.call(Arc::clone(&context), &given?).await
            }
        });
        debug_assert!(registered.is_ok(), "{name} is registered once");
    }
    module
}

fn register_subscription(
    module: &mut RpcModule<Arc<Context>>,
    method: Arc<Method>,
    Subscription { notification, end }: Subscription,
) {
    let name = method.name();
    let subscribe = move |params: RawParams<'static>,
                          pending: PendingSubscriptionSink,
                          context: Arc<Arc<Context>>,
                          _| {
        // What sends does not hold the context, which must not outlive the daemon.
        let begun = context.phase.check(method.when());
        let begun = begun.and_then(|()| method.begin(&context, &given(&params)?));
        async move {
            match begun {
                // A subscriber who is gone before its answer misses nothing.
                Ok(feed) => match pending.accept().await {
                    Ok(sink) => feed(sink).await,
                    Err(_) => tracing::debug!("a subscriber has gone at once"),
                },
                Err(error) => pending.reject(error).await,
            }
        }
    };
    let registered = module.register_subscription(name, notification, end, subscribe);
    debug_assert!(registered.is_ok(), "{name} and {end} are registered once");
}

fn given(params: &RawParams<'_>) -> RpcResult<params::Given> {
    let text = params.as_str().unwrap_or("null");
    serde_json::from_str(text).map_err(|error| {
        // The position counts within the parameters, which is of no use to a caller.
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or_default();
        jsonrpc::codes::invalid_params(words)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: Vec<_> = methods().iter().map(Method::name).collect();
        let mut unique = names.clone();
        unique.dedup();
        assert_eq!(names, unique);
        // A subscription is ended by a method beside its own.
        let ends = methods().iter().filter(|method| method.subscribes().is_some()).count();
        assert_eq!(module(&Context::new()).method_names().count(), names.len() + ends);
    }

    #[tokio::test]
    async fn methods_wait_for_the_engine() {
        let error = module(&Context::new())
            .call::<_, serde_json::Value>(
                "bdev_get_bdevs",
                jsonrpsee::core::EmptyServerParams::new(),
            )
            .await
            .expect_err("no engine");
        assert!(error.to_string().contains("the engine is starting"), "{error}");
    }
}
