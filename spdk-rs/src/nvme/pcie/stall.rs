//! Queues with shadows of doorbells never wait for ever.
//!
//! The host leaves a doorbell out when the controller does not ask for it. A controller that lacks
//! the barrier between asking and looking at the shadow once more goes to sleep although there is a
//! command, and nobody would wake it. The doorbell may be rung at any time, so it is rung when
//! commands are outstanding and nothing has happened for a while.

use std::rc::Rc;
use std::time::Duration;

use super::pair::PciePair;
use crate::reactor::{Reactor, sleep};

/// How long nothing may happen before the doorbells are rung.
const STALL: Duration = Duration::from_millis(100);

/// Watches a queue pair for as long as it is open, if it has shadows.
pub(super) fn watch(reactor: &Rc<Reactor>, pair: &Rc<PciePair>) {
    if !pair.inner.borrow().rings.is_shadowed() {
        return;
    }
    let weak = Rc::downgrade(pair);
    reactor.spawn("nvme shadow doorbells", async move {
        let mut before = None;
        loop {
            sleep(STALL).await;
            let Some(pair) = weak.upgrade().filter(|pair| pair.open.get()) else { return };
            let inner = pair.inner.borrow();
            let now = (inner.commands.len() > 0).then(|| inner.rings.progress());
            if now.is_some() && now == before {
                inner.rings.tell_again();
            }
            before = now;
        }
    });
}
