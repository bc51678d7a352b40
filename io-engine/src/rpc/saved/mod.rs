//! What would make the engine's state again: the calls of a configuration file.
//!
//! Every subsystem answers for itself ([`Subsystem`]), and within the subsystem of devices every
//! driver does ([`Remake`]), out of what it has now and not out of a record of what was asked for.
//! A device of a driver that cannot answer makes saving fail, naming the device: a file that
//! silently lacks one would lose it at the next start.

mod bdev;
mod device_settings;
#[cfg(feature = "fault-injection")]
mod faults;
mod layers;
mod nvme;
mod nvmf;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Context;
use super::errors::RpcResult;
pub(in crate::rpc) use bdev::Remake;

/// One call of a configuration file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Call {
    method: &'static str,
    params: Map<String, Value>,
}

impl Call {
    /// A call. Parameters that are `null` are left out.
    pub(crate) fn new(method: &'static str, params: Value) -> Self {
        let mut params = match params {
            Value::Object(params) => params,
            _ => Map::new(),
        };
        params.retain(|_, value| !value.is_null());
        Self { method, params }
    }
}

/// A part of the engine that can be configured.
#[async_trait]
pub(crate) trait Subsystem: Send + Sync {
    /// Its name in a configuration file.
    fn name(&self) -> &'static str;

    /// The subsystems that have to be there before it.
    fn depends_on(&self) -> &'static [&'static str];

    /// The calls that would make all of it again, in order.
    ///
    /// # Errors
    /// When something of it cannot be made again by a call, or cannot be asked.
    async fn calls(&self, context: &Context) -> RpcResult<Vec<Call>>;
}

/// The subsystems, in the order in which they are configured.
pub(crate) fn subsystems() -> Vec<Box<dyn Subsystem>> {
    vec![Box::new(super::log::Log), Box::new(bdev::Bdevs), Box::new(nvmf::NvmfTarget)]
}

/// The names of the subsystems, in the order in which they are configured.
pub fn names() -> Vec<&'static str> {
    subsystems().iter().map(|subsystem| subsystem.name()).collect()
}
