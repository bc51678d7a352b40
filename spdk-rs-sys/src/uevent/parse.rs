//! What an announcement says: `ACTION@DEVPATH`, then `KEY=VALUE` pairs, each ended by a zero byte.

use crate::pci::PciAddress;

use super::MESSAGE_BYTES_MAX;

/// What has happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is there.
    Add,
    /// It is gone.
    Remove,
    /// Something of it is another.
    Change,
    /// It has another name.
    Move,
    /// It is switched on.
    Online,
    /// It is switched off.
    Offline,
    /// A driver has it.
    Bind,
    /// A driver has let go of it.
    Unbind,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 8] = [
        Self::Add,
        Self::Remove,
        Self::Change,
        Self::Move,
        Self::Online,
        Self::Offline,
        Self::Bind,
        Self::Unbind,
    ];

    /// The kernel's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Change => "change",
            Self::Move => "move",
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Bind => "bind",
            Self::Unbind => "unbind",
        }
    }
}

/// Why a message is no announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UeventError {
    /// It is longer than any.
    #[error("{0} bytes are more than the 8192 that an announcement has at the most")]
    TooLong(usize),
    /// It does not end with a zero byte.
    #[error("it does not end with a zero byte")]
    NotEnded,
    /// It is not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// It does not begin with an action and a path.
    #[error("it does not begin with ACTION@/PATH, with an action that is known")]
    Head,
    /// Something is not a pair.
    #[error("part {0} is not KEY=VALUE")]
    NotAPair(usize),
    /// A key is there twice.
    #[error("the key of part {0} was there before")]
    Twice(usize),
    /// A key that every announcement has is missing, or its value is another than can be.
    #[error("{0} is missing or wrong")]
    Wrong(&'static str),
}

/// An announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uevent<'a> {
    /// What has happened.
    pub action: Action,
    /// The device's path below `/sys`, with a slash in front.
    pub devpath: &'a str,
    /// The subsystem that the device belongs to.
    pub subsystem: &'a str,
    /// The number of the announcement; each has a larger one.
    pub sequence: u64,
    /// All pairs, in the order in which they came.
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Uevent<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`UeventError`] when it is not exactly what the kernel sends.
    pub fn parse(message: &'a [u8]) -> Result<Self, UeventError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(UeventError::TooLong(message.len()));
        }
        let text = message.strip_suffix(&[0]).ok_or(UeventError::NotEnded)?;
        let text = std::str::from_utf8(text).map_err(|_| UeventError::NotText)?;
        let mut parts = text.split('\0');
        let (action, devpath) = read_head(parts.next().unwrap_or_default())?;
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for (index, part) in parts.enumerate() {
            let pair = part.split_once('=').filter(|(key, _)| is_key(key));
            let (key, value) = pair.ok_or(UeventError::NotAPair(index))?;
            if pairs.iter().any(|(other, _)| *other == key) {
                return Err(UeventError::Twice(index));
            }
            pairs.push((key, value));
        }
        let mut event = Self { action, devpath, subsystem: "", sequence: 0, pairs };
        let same = |key, value| event.value(key) == Some(value);
        if !same("ACTION", action.name()) {
            return Err(UeventError::Wrong("ACTION"));
        }
        if !same("DEVPATH", devpath) {
            return Err(UeventError::Wrong("DEVPATH"));
        }
        let subsystem = event.value("SUBSYSTEM").filter(|text| !text.is_empty());
        event.subsystem = subsystem.ok_or(UeventError::Wrong("SUBSYSTEM"))?;
        let sequence = event.value("SEQNUM").filter(|text| is_number(text));
        let sequence = sequence.and_then(|text| text.parse().ok());
        event.sequence = sequence.ok_or(UeventError::Wrong("SEQNUM"))?;
        Ok(event)
    }

    /// All pairs, in the order in which they came.
    #[must_use]
    pub fn pairs(&self) -> &[(&'a str, &'a str)] {
        &self.pairs
    }

    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(own, _)| *own == key).map(|(_, value)| *value)
    }

    /// The PCI function that it is about, if it is an NVMe controller.
    #[must_use]
    pub fn nvme_controller(&self) -> Option<PciAddress> {
        if self.subsystem != "pci" {
            return None;
        }
        let class = u32::from_str_radix(self.value("PCI_CLASS")?, 16).ok()?;
        let slot = self.value("PCI_SLOT_NAME")?;
        let address: PciAddress = slot.parse().ok()?;
        let same = self.devpath.rsplit('/').next() == Some(slot);
        (same && crate::pci::is_nvm_class(class)).then_some(address)
    }
}

fn read_head(head: &str) -> Result<(Action, &str), UeventError> {
    let (word, path) = head.split_once('@').ok_or(UeventError::Head)?;
    let action = Action::ALL.into_iter().find(|action| action.name() == word);
    let action = action.ok_or(UeventError::Head)?;
    if path.starts_with('/') { Ok((action, path)) } else { Err(UeventError::Head) }
}

fn is_key(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux 6.12 announces when vfio-pci has taken a drive.
    const BIND: &str = "bind@/devices/pci0000:00/0000:00:02.0/0000:01:00.0\0\
         ACTION=bind\0\
         DEVPATH=/devices/pci0000:00/0000:00:02.0/0000:01:00.0\0\
         SUBSYSTEM=pci\0\
         DRIVER=vfio-pci\0\
         PCI_CLASS=10802\0\
         PCI_ID=1B36:0010\0\
         PCI_SUBSYS_ID=1AF4:1100\0\
         PCI_SLOT_NAME=0000:01:00.0\0\
         MODALIAS=pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02\0\
         SEQNUM=1234\0";

    #[test]
    fn an_announcement_is_read_whole() {
        let event = Uevent::parse(BIND.as_bytes()).unwrap();
        assert_eq!((event.action, event.subsystem, event.sequence), (Action::Bind, "pci", 1234));
        assert_eq!(event.value("DRIVER"), Some("vfio-pci"));
        assert_eq!((event.value("NOTHING"), event.pairs().len()), (None, 10));
        assert_eq!(event.nvme_controller(), "0000:01:00.0".parse().ok());
    }

    #[test]
    fn what_is_not_exactly_one_is_refused() {
        let cases: [(&str, &str, UeventError); 12] = [
            ("bind@/", "bind@", UeventError::Head),
            ("bind@/", "bound@/", UeventError::Head),
            ("bind@/", "libudev/", UeventError::Head),
            ("DRIVER=", "DRIVER", UeventError::NotAPair(3)),
            ("DRIVER=", "=", UeventError::NotAPair(3)),
            ("DRIVER=", "DRI VER=", UeventError::NotAPair(3)),
            ("DRIVER=", "SUBSYSTEM=", UeventError::Twice(3)),
            ("ACTION=bind", "ACTION=add", UeventError::Wrong("ACTION")),
            ("DEVPATH=/", "DEVPATH=/x", UeventError::Wrong("DEVPATH")),
            ("SUBSYSTEM=pci", "SUBSYSTEM=", UeventError::Wrong("SUBSYSTEM")),
            ("SEQNUM=1234", "SEQNUM=+1", UeventError::Wrong("SEQNUM")),
            ("SEQNUM=1234\0", "", UeventError::Wrong("SEQNUM")),
        ];
        for (from, to, expected) in cases {
            let text = BIND.replacen(from, to, 1);
            assert_eq!(Uevent::parse(text.as_bytes()), Err(expected), "{from} as {to}");
        }
        let refused = |bytes: &[u8]| Uevent::parse(bytes).unwrap_err();
        assert_eq!(refused(&BIND.as_bytes()[..BIND.len() - 1]), UeventError::NotEnded);
        assert_eq!(refused(b""), UeventError::NotEnded);
        assert_eq!(refused(b"add@/\xff\0"), UeventError::NotText);
        assert_eq!(refused(&[b'a'; MESSAGE_BYTES_MAX + 1]), UeventError::TooLong(8193));
        let doubled = format!("{BIND}\0");
        assert_eq!(refused(doubled.as_bytes()), UeventError::NotAPair(10));
    }

    #[test]
    fn only_nvme_controllers_are_told_as_such() {
        for (from, to) in [
            ("PCI_CLASS=10802", "PCI_CLASS=10601"),
            ("PCI_CLASS=10802", "PCI_CLASS=x"),
            ("SUBSYSTEM=pci", "SUBSYSTEM=vfio"),
            ("PCI_SLOT_NAME=0000:01:00.0", "PCI_SLOT_NAME=0000:01:00.1"),
            ("PCI_SLOT_NAME=0000:01:00.0\0", ""),
        ] {
            let text = BIND.replacen(from, to, 1);
            assert_eq!(Uevent::parse(text.as_bytes()).unwrap().nvme_controller(), None, "{to}");
        }
    }
}
