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

    /// What is left of the injections of every controller, by its name.
    #[must_use]
    pub fn error_injections(&self) -> Vec<(String, ErrorInjection)> {
        let groups = self.shared.groups();
        let mut all = Vec::new();
        for (name, group) in groups.iter() {
            // Paths share their injections; one that was attached later lacks the earlier ones.
            let mut rules: Vec<Arc<Rule>> = Vec::new();
            for rule in group.controllers.iter().flat_map(|c| [c.rules(true), c.rules(false)]) {
                for rule in rule {
                    if !rules.iter().any(|known| Arc::ptr_eq(known, &rule)) {
                        rules.push(rule);
                    }
                }
            }
            all.extend(rules.iter().filter_map(|r| r.remaining()).map(|one| (name.clone(), one)));
        }
        all
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
