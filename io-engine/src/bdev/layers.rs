//! `passthru:///name?base=`, `delay:///name?base=&avg_read_latency=…` and `error:///name?base=`:
//! devices over a device that is there already.

use async_trait::async_trait;
use spdk_rs::bdev::Bdev;
use spdk_rs::drivers::delay::{self, LATENCY_US_MAX, Latencies};
#[cfg(feature = "fault-injection")]
use spdk_rs::drivers::error;
use spdk_rs::drivers::layer::LayerError;
use spdk_rs::drivers::passthru;
use spdk_rs::reactor::ReactorHandle;
use std::sync::Arc;
use uuid::Uuid;

use super::dev::{BdevError, Factory};
use super::{BdevUri, Params, UriError};
use crate::core::Engine;

/// What a layer does.
#[derive(Clone, Debug)]
pub enum LayerKind {
    /// Nothing.
    Passthru,
    /// It takes time.
    Delay(Latencies),
    /// It fails when it is told to.
    #[cfg(feature = "fault-injection")]
    Error,
}

/// A layer that is to be made.
#[derive(Clone, Debug)]
pub struct LayerRequest {
    /// Its name; none for SPDK's, which only an error device has.
    pub name: Option<String>,
    /// The device below.
    pub base: String,
    /// Its UUID.
    pub uuid: Option<Uuid>,
    /// What it does.
    pub kind: LayerKind,
}

pub(super) fn parse_passthru(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    parse(uri, |_| Ok(LayerKind::Passthru))
}

pub(super) fn parse_delay(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    parse(uri, |params| {
        let mut latency = |name| -> Result<u64, UriError> {
            Ok(params.take_u64(name, 0..=LATENCY_US_MAX)?.unwrap_or(0))
        };
        Ok(LayerKind::Delay(Latencies {
            avg_read_us: latency("avg_read_latency")?,
            p99_read_us: latency("p99_read_latency")?,
            avg_write_us: latency("avg_write_latency")?,
            p99_write_us: latency("p99_write_latency")?,
        }))
    })
}

#[cfg(feature = "fault-injection")]
pub(super) fn parse_error(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    parse(uri, |_| Ok(LayerKind::Error))
}

fn parse(
    uri: &BdevUri,
    kind: impl FnOnce(&mut Params<'_>) -> Result<LayerKind, UriError>,
) -> Result<Box<dyn Factory>, BdevError> {
    let name = uri.name()?.to_owned();
    let mut params = uri.params();
    let base = params.take_str("base").map(str::to_owned);
    let uuid = params.take_uuid("uuid")?;
    let kind = kind(&mut params)?;
    let missing = params.missing("base: the name of the device below");
    params.finish()?;
    let base = base.ok_or(missing)?;
    if base.contains("://") {
        let allowed = "it has to be the name of a device; make that first".to_owned();
        return Err(UriError::Value { name: "base", value: base, allowed }.into());
    }
    Ok(Box::new(Layer(LayerRequest { name: Some(name.clone()), base, uuid, kind }, name)))
}

struct Layer(LayerRequest, String);

#[async_trait]
impl Factory for Layer {
    fn name(&self) -> &str {
        &self.1
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        create(engine, &self.0).await
    }
}

/// Makes and registers a layer; returns its name.
///
/// # Errors
/// [`BdevError`]; then the device below is as it was.
pub async fn create(engine: &Engine, request: &LayerRequest) -> Result<String, BdevError> {
    let shown = request.name.as_deref().unwrap_or(&request.base);
    let Some(reactor) = engine.runtime().first().cloned() else {
        return Err(BdevError::driver(shown, "no reactor is running"));
    };
    let made = make(engine, &reactor, request).await;
    made.map(|bdev| bdev.name().to_owned()).map_err(|error| BdevError::driver(shown, error))
}

async fn make(
    engine: &Engine,
    reactor: &ReactorHandle,
    request: &LayerRequest,
) -> Result<Arc<Bdev>, LayerError> {
    let LayerRequest { name, base, uuid, kind } = request;
    let named = name.as_deref().unwrap_or(base);
    match kind {
        LayerKind::Passthru => passthru::create(engine.registry(), reactor, base, named, *uuid),
        LayerKind::Delay(latencies) => {
            delay::create(engine.registry(), reactor, base, named, *uuid, *latencies).await
        }
        #[cfg(feature = "fault-injection")]
        LayerKind::Error => {
            error::create(engine.registry(), reactor, base, name.as_deref(), *uuid).await
        }
    }
}

#[cfg(test)]
mod tests {
    fn refusal(uri: &str) -> String {
        crate::bdev::plan(uri).map(drop).expect_err(uri).to_string()
    }

    #[test]
    fn a_layer_names_its_base() {
        for uri in [
            "passthru:///p?base=m",
            "error:///EE_m?base=m&uuid=0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60",
            "delay:///d?base=m&avg_read_latency=1&p99_read_latency=2&avg_write_latency=3&p99_write_latency=4",
        ] {
            crate::bdev::plan(uri).map(drop).expect(uri);
        }
        assert!(refusal("passthru:///p").contains("base"));
        assert!(refusal("error:///p?base=null%3A%2F%2F%2Fn").contains("make that first"));
        assert!(refusal("delay:///p?base=m&avg_read_latency=x").contains("avg_read_latency"));
        assert!(refusal("passthru:///p?base=m&avg_read_latency=1").contains("unknown parameter"));
    }
}
