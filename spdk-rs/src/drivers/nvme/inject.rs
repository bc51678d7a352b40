//! Errors that are injected into the commands of a controller.

use std::rc::Rc;
use std::sync::Arc;

use super::NvmeDriver;
use super::api::NvmeError;
use super::controller::RuleChange;
use super::core::{NvmeCore, on_all};
use crate::nvme::controller::ErrorInjection;
use crate::nvme::controller::inject::Rule;
use crate::reactor::Reactor;

impl NvmeDriver {
    /// Injects an error into commands of a controller, on all its paths and all cores; its count
    /// is that of all of them together. Several for one opcode follow each other.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`].
    pub async fn add_error_injection(
        &self,
        name: &str,
        error: ErrorInjection,
    ) -> Result<(), NvmeError> {
        self.change_injections(name, &RuleChange::Add(Rule::new(error))).await
    }

    /// Ends the injections into commands of an opcode; that there are none is no error.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`].
    pub async fn remove_error_injection(
        &self,
        name: &str,
        admin: bool,
        opcode: u8,
    ) -> Result<(), NvmeError> {
        self.change_injections(name, &RuleChange::Remove { admin, opcode }).await
    }

    async fn change_injections(&self, name: &str, change: &RuleChange) -> Result<(), NvmeError> {
        let _turn = self.turn.lock().await;
        for controller in self.find(name, None)? {
            controller.change_rules(change);
            let id = controller.id;
            on_all(&self.shared.reactors, move |reactor: &Rc<Reactor>| {
                let core = NvmeCore::of(reactor);
                if let Some(queue) = core.find_queue(id) {
                    queue.inject();
                }
                let home = core.home(id);
                if let Some((home, link)) = home.and_then(|home| Some((home.clone(), home.link()?)))
                {
                    link.inject(Arc::clone(home.controller()).rules(true));
                }
            })
            .await;
        }
        Ok(())
    }
}
