//! What is done with zones, and the states that they are in, by the numbers of NVMe.

/// What is done with a zone (Zoned Namespace Command Set Specification 1.1, section 3.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ZoneAction {
    /// Gives up the resources of an open zone.
    Close = 1,
    /// Makes a zone full.
    Finish = 2,
    /// Opens a zone for writes, explicitly.
    Open = 3,
    /// Makes a zone empty: its data are lost.
    Reset = 4,
    /// Takes a zone that can only be read out of use.
    Offline = 5,
}

impl ZoneAction {
    /// Every action.
    pub const ALL: [Self; 5] = [Self::Close, Self::Finish, Self::Open, Self::Reset, Self::Offline];

    /// The action with a number; `None` when there is none, or none for a whole zone.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.bits() == bits)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Finish => "finish",
            Self::Open => "open",
            Self::Reset => "reset",
            Self::Offline => "offline",
        }
    }
}

/// State of a zone (Zoned Namespace Command Set Specification 1.1, section 2.1.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ZoneState {
    /// Nothing is written.
    Empty = 0x1,
    /// Opened by a write.
    ImplicitlyOpen = 0x2,
    /// Opened by a command.
    ExplicitlyOpen = 0x3,
    /// Written in part, without the resources of an open zone.
    Closed = 0x4,
    /// Can only be read, for good.
    ReadOnly = 0xd,
    /// Written to its end, or finished.
    Full = 0xe,
    /// Can be neither read nor written, for good.
    Offline = 0xf,
}

impl ZoneState {
    /// The state with a number; `None` when it is reserved.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x1 => Self::Empty,
            0x2 => Self::ImplicitlyOpen,
            0x3 => Self::ExplicitlyOpen,
            0x4 => Self::Closed,
            0xd => Self::ReadOnly,
            0xe => Self::Full,
            0xf => Self::Offline,
            _ => return None,
        })
    }

    /// The number on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// The words for it, as nvme-cli and SPDK have them.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::ImplicitlyOpen => "imp_open",
            Self::ExplicitlyOpen => "exp_open",
            Self::Closed => "closed",
            Self::ReadOnly => "read_only",
            Self::Full => "full",
            Self::Offline => "offline",
        }
    }

    /// Whether the zone has a write pointer that means something.
    #[must_use]
    pub const fn has_write_pointer(self) -> bool {
        matches!(self, Self::Empty | Self::ImplicitlyOpen | Self::ExplicitlyOpen | Self::Closed)
    }
}
