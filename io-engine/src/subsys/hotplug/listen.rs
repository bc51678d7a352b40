//! Hears of controllers that come and go.

use spdk_rs::env::uevent::{Action, MESSAGE_BYTES_MAX, Uevent, UeventSocket};
use tokio::io::unix::AsyncFd;

/// The kernel's announcements, where they can be had.
pub(super) struct Listener {
    socket: Option<AsyncFd<UeventSocket>>,
    buf: Vec<u8>,
}

impl Listener {
    /// Listens from now on.
    pub(super) fn new() -> Self {
        // What has replaced it is unsafe, since a type could name a descriptor that is not its own.
        // This one owns what it names.
        #[expect(deprecated, reason = "see above")]
        let socket = UeventSocket::new().and_then(AsyncFd::new);
        if let Err(error) = &socket {
            tracing::warn!(%error, "the kernel's announcements of devices cannot be had");
        }
        Self { socket: socket.ok(), buf: vec![0; MESSAGE_BYTES_MAX] }
    }

    /// Whether there is something to listen to.
    pub(super) fn hears(&self) -> bool {
        self.socket.is_some()
    }

    /// Waits until a controller has come or gone, or may have.
    pub(super) async fn change(&mut self) {
        let Some(socket) = &self.socket else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = socket.readable().await else {
                return std::future::pending().await;
            };
            match ready.try_io(|inner| Ok(inner.get_ref().receive(&mut self.buf)?.map(is_change))) {
                Ok(Ok(Some(true))) => return,
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(error)) => {
                    // Some were lost: whoever waits has to look for himself.
                    tracing::debug!(%error, "announcements of devices were lost");
                    return;
                }
            }
        }
    }
}

/// Whether a message is about a controller that came or went.
fn is_change(message: &[u8]) -> bool {
    match Uevent::parse(message) {
        Ok(event) => {
            let about = matches!(
                event.action,
                Action::Add | Action::Remove | Action::Bind | Action::Unbind
            );
            if let Some(address) = event.nvme_controller().filter(|_| about) {
                tracing::debug!(%address, action = event.action.name(), "an NVMe controller");
                return true;
            }
            false
        }
        Err(error) => {
            tracing::debug!(%error, "an announcement of a device cannot be read");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_controllers_that_come_or_go_are_changes() {
        let event = |action: &str, class: &str| {
            let path = "/devices/pci0000:00/0000:01:00.0";
            let text = format!(
                "{action}@{path}\0ACTION={action}\0DEVPATH={path}\0SUBSYSTEM=pci\0\
                 PCI_CLASS={class}\0PCI_SLOT_NAME=0000:01:00.0\0SEQNUM=1\0"
            );
            is_change(text.as_bytes())
        };
        assert!(["add", "remove", "bind", "unbind"].iter().all(|action| event(action, "10802")));
        assert!(!event("change", "10802") && !event("add", "20000"));
        assert!(!is_change(b"add@/\0"));
    }
}
