//! Every reactor of the process by number, so that a waker or a helper thread can find it.

use std::sync::{Arc, RwLock, Weak};

use super::mailbox::{Mailbox, Message};
use super::task::TaskId;

/// Read on cross-thread wake-ups and deliveries, never per I/O of a reactor.
static MAILBOXES: RwLock<Vec<Weak<Mailbox>>> = RwLock::new(Vec::new());

/// Gives a new reactor its number; numbers of ended reactors are used again.
pub(super) fn register(mailbox: &Arc<Mailbox>) -> u16 {
    let mut all = MAILBOXES.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let slot = all.iter().position(|slot| slot.strong_count() == 0).unwrap_or_else(|| {
        all.push(Weak::new());
        all.len() - 1
    });
    all[slot] = Arc::downgrade(mailbox);
    u16::try_from(slot).unwrap_or(u16::MAX)
}

fn find(reactor: u16) -> Option<Arc<Mailbox>> {
    let all = MAILBOXES.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    all.get(usize::from(reactor))?.upgrade()
}

pub(super) fn wake_remote(reactor: u16, task: TaskId) {
    if let Some(mailbox) = find(reactor) {
        mailbox.push_wake(task);
    }
}

/// Delivers the result of offloaded work. Called on helper threads, which may wait for room.
pub(super) fn deliver(reactor: u16, client: u16, token: u64, result: i32) {
    let Some(mailbox) = find(reactor) else { return };
    let mut message = Message::Offloaded { client, token, result };
    while let Err(full) = mailbox.try_push(message) {
        if mailbox.is_closed() {
            return;
        }
        message = full.0;
        std::thread::yield_now();
    }
}
