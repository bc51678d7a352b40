//! Controller identifiers: unique in a subsystem, handed out in turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::State;
use super::{ConnectRefusal, Controller, Subsystem};
use crate::nvmf::transport::ListenerId;

impl Subsystem {
    /// Makes a controller with a free identifier for a host that came through a listener.
    ///
    /// Whether it may is checked under the same lock: what is removed meanwhile finds either the
    /// controller, to disconnect it, or is found missing here.
    ///
    /// # Errors
    /// [`ConnectRefusal`].
    pub(in crate::nvmf) fn create_controller(
        &self,
        host: &str,
        listener: ListenerId,
        make: impl FnOnce(u16) -> Arc<Controller>,
    ) -> Result<Arc<Controller>, ConnectRefusal> {
        let state = &mut *self.state.lock();
        state.check_access(self.kind, host, listener)?;
        let (min, max) = (self.options.min_cntlid, self.options.max_cntlid);
        let State { controllers, next_cntlid, .. } = state;
        let free = next_free(controllers, *next_cntlid, min, max);
        let cntlid = free.ok_or(ConnectRefusal::NoIdentifier)?;
        *next_cntlid = if cntlid == max { min } else { cntlid + 1 };
        let controller = make(cntlid);
        controllers.insert(cntlid, Arc::clone(&controller));
        Ok(controller)
    }

    /// Frees the identifier of a controller whose last queue pair is gone.
    pub(in crate::nvmf) fn controller_gone(&self, controller: &Controller) {
        {
            let controllers = &mut self.state.lock().controllers;
            let same = |one: &Arc<Controller>| std::ptr::eq(Arc::as_ptr(one), controller);
            if controllers.get(&controller.cntlid()).is_some_and(same) {
                controllers.remove(&controller.cntlid());
            }
        }
        self.controller_gone.wake();
    }
}

/// The first identifier that is not taken, from `from` to `max` and then from `min`. An
/// identifier that was freed is used again as late as possible.
fn next_free<T>(taken: &BTreeMap<u16, T>, from: u16, min: u16, max: u16) -> Option<u16> {
    if taken.len() > usize::from(max - min) {
        return None;
    }
    let free = |cntlid: &u16| !taken.contains_key(cntlid);
    (from..=max).find(free).or_else(|| (min..from).find(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_go_round_and_run_out() {
        let mut taken = BTreeMap::new();
        let mut from = 3;
        let mut got = Vec::new();
        while let Some(cntlid) = next_free(&taken, from, 3, 6) {
            taken.insert(cntlid, ());
            got.push(cntlid);
            from = if cntlid == 6 { 3 } else { cntlid + 1 };
        }
        assert_eq!(got, [3, 4, 5, 6]);
        taken.remove(&4);
        assert_eq!(next_free(&taken, 5, 3, 6), Some(4));
        taken.remove(&6);
        assert_eq!(next_free(&taken, 5, 3, 6), Some(6));
    }
}
