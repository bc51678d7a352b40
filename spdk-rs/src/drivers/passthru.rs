//! A device that is another device: for trying what a layer costs, and what lies on one.

use std::any::Any;
use std::sync::Arc;

use uuid::Uuid;

use super::layer::{self, LayerError, LayerOptions, LayerPart};
use crate::bdev::{Bdev, Registry};
use crate::reactor::ReactorHandle;

/// The driver's name.
pub const DRIVER: &str = "passthru";

struct Nothing;

impl LayerPart for Nothing {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Makes a passthru device over a device, and registers it.
///
/// # Errors
/// [`LayerError`].
pub fn create(
    registry: &Arc<Registry>,
    reactor: &ReactorHandle,
    base: &str,
    name: &str,
    uuid: Option<Uuid>,
) -> Result<Arc<Bdev>, LayerError> {
    let options = LayerOptions {
        name: name.to_owned(),
        uuid,
        driver_name: DRIVER,
        product_name: "passthru",
        part: Arc::new(Nothing),
    };
    layer::create(registry, reactor, base, options)
}
