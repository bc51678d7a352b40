//! The stores of a process, by the names of their devices.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::{BlockApiError, BlockStore, CreateOptions};
use crate::core::Engine;

/// The stores of a process. A device has one at the most: the store claims it.
#[derive(Debug, Default)]
pub struct BlockStores(Mutex<BTreeMap<String, Arc<BlockStore>>>);

impl BlockStores {
    /// Creates a store.
    ///
    /// # Errors
    /// As [`BlockStore::create`].
    pub async fn create(
        &self,
        engine: &Engine,
        options: &CreateOptions,
    ) -> Result<Arc<BlockStore>, BlockApiError> {
        let store = BlockStore::create(engine, options).await?;
        self.0.lock().await.insert(store.name().to_owned(), Arc::clone(&store));
        Ok(store)
    }

    /// The store on a device, by its name.
    ///
    /// # Errors
    /// [`BlockApiError::NotFound`].
    pub async fn get(&self, name: &str) -> Result<Arc<BlockStore>, BlockApiError> {
        let found = self.0.lock().await.get(name).cloned();
        found.ok_or_else(|| BlockApiError::NotFound { name: name.to_owned() })
    }

    /// Every store, in order of the names.
    pub async fn all(&self) -> Vec<Arc<BlockStore>> {
        self.0.lock().await.values().cloned().collect()
    }

    /// Closes a store.
    ///
    /// # Errors
    /// [`BlockApiError::NotFound`], and as [`BlockStore::close`].
    pub async fn delete(&self, engine: &Engine, name: &str) -> Result<(), BlockApiError> {
        let removed = self.0.lock().await.remove(name);
        let store = removed.ok_or_else(|| BlockApiError::NotFound { name: name.to_owned() })?;
        store.close(engine).await
    }
}
