//! What a command's SGL asks of the transport.

use crate::NvmeStatus;
use crate::nvme::spec::{DataDirection, SglKind, Sqe};

/// What is to be done before a command can be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing; so many bytes may be sent to the host.
    Execute(u32),
    /// Take so many bytes from the capsule.
    TakeInCapsule(u32),
    /// Ask the host for so many bytes.
    Fetch(u32),
    /// The command ends with this status.
    Refuse(NvmeStatus),
}

/// The limits for a command's data.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataLimits {
    /// Bytes of one command.
    pub(super) io: u32,
    /// Bytes inside a capsule.
    pub(super) in_capsule: u32,
}

/// Which way a command's data go. The type of a fabrics command tells it, not its opcode (NVMe
/// Base Specification 2.0, section 6.1).
pub(super) fn direction(sqe: &Sqe) -> DataDirection {
    if !sqe.is_fabrics() {
        return sqe.direction();
    }
    match sqe.fctype() & 3 {
        0 => DataDirection::None,
        1 => DataDirection::HostToController,
        2 => DataDirection::ControllerToHost,
        _ => DataDirection::Bidirectional,
    }
}

/// Judges a command that came with `capsule_bytes` bytes of data.
pub(super) fn plan(sqe: &Sqe, capsule_bytes: u32, limits: DataLimits) -> Plan {
    let length = sqe.dptr.length.get();
    let kind = sqe.dptr.kind();
    let stray = Plan::Refuse(NvmeStatus::DATA_SGL_LENGTH_INVALID);
    match direction(sqe) {
        DataDirection::None if capsule_bytes != 0 => stray,
        DataDirection::None => Plan::Execute(0),
        DataDirection::Bidirectional => Plan::Refuse(NvmeStatus::INVALID_FIELD),
        DataDirection::ControllerToHost => match kind {
            _ if capsule_bytes != 0 => stray,
            SglKind::Transport if length > limits.io => stray,
            SglKind::Transport => Plan::Execute(length),
            _ if length == 0 => Plan::Execute(0),
            _ => Plan::Refuse(NvmeStatus::SGL_TYPE_INVALID),
        },
        DataDirection::HostToController => match kind {
            SglKind::InCapsule if sqe.dptr.address.get() != 0 => {
                Plan::Refuse(NvmeStatus::SGL_OFFSET_INVALID)
            }
            SglKind::InCapsule if length != capsule_bytes => stray,
            SglKind::InCapsule if length > limits.in_capsule => stray,
            SglKind::InCapsule if length == 0 => Plan::Execute(0),
            SglKind::InCapsule => Plan::TakeInCapsule(length),
            _ if capsule_bytes != 0 => stray,
            _ if length == 0 => Plan::Execute(0),
            SglKind::Transport if length > limits.io => stray,
            SglKind::Transport => Plan::Fetch(length),
            _ => Plan::Refuse(NvmeStatus::SGL_TYPE_INVALID),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::spec::SglDescriptor;

    const LIMITS: DataLimits = DataLimits { io: 131_072, in_capsule: 4096 };

    fn judge(opcode: u8, dptr: SglDescriptor, capsule_bytes: u32) -> Plan {
        plan(&Sqe { dptr, ..Sqe::new(opcode, 1) }, capsule_bytes, LIMITS)
    }

    fn refusal(status: NvmeStatus) -> Plan {
        Plan::Refuse(status)
    }

    #[test]
    fn data_come_as_the_descriptor_says() {
        let (inside, moved) = (SglDescriptor::in_capsule, SglDescriptor::transport);
        assert_eq!(judge(1, inside(0, 4096), 4096), Plan::TakeInCapsule(4096));
        assert_eq!(judge(1, moved(131_072), 0), Plan::Fetch(131_072));
        assert_eq!(judge(2, moved(131_072), 0), Plan::Execute(131_072));
        assert_eq!(judge(0, moved(0), 0), Plan::Execute(0));
        // What has no data may have any descriptor.
        assert_eq!(judge(0, SglDescriptor::default(), 0), Plan::Execute(0));
        assert_eq!(judge(1, moved(0), 0), Plan::Execute(0));
        assert_eq!(judge(1, inside(0, 0), 0), Plan::Execute(0));
    }

    #[test]
    fn what_is_wrong_gets_its_status() {
        let (inside, moved) = (SglDescriptor::in_capsule, SglDescriptor::transport);
        let length = refusal(NvmeStatus::DATA_SGL_LENGTH_INVALID);
        let kind = refusal(NvmeStatus::SGL_TYPE_INVALID);
        assert_eq!(judge(1, inside(16, 512), 512), refusal(NvmeStatus::SGL_OFFSET_INVALID));
        assert_eq!(judge(1, inside(0, 512), 1024), length);
        assert_eq!(judge(1, inside(0, 1024), 512), length);
        assert_eq!(judge(1, inside(0, 4112), 4112), length);
        assert_eq!(judge(1, moved(131_073), 0), length);
        assert_eq!(judge(2, moved(131_073), 0), length);
        assert_eq!(judge(1, moved(512), 512), length);
        assert_eq!(judge(2, moved(512), 512), length);
        assert_eq!(judge(0, moved(0), 4), length);
        assert_eq!(judge(2, inside(0, 512), 0), kind);
        let block = SglDescriptor { identifier: 0, ..moved(512) };
        assert_eq!(judge(1, block, 0), kind);
        assert_eq!(judge(2, block, 0), kind);
        assert_eq!(judge(3, moved(512), 0), refusal(NvmeStatus::INVALID_FIELD));
    }

    #[test]
    fn fabrics_commands_tell_the_direction_by_their_type() {
        let of = |kind: u8| direction(&Sqe::fabrics(kind));
        // Property Set, Connect, Property Get, Authentication Send and Receive, Disconnect.
        assert_eq!(of(0x00), DataDirection::None);
        assert_eq!(of(0x01), DataDirection::HostToController);
        assert_eq!(of(0x04), DataDirection::None);
        assert_eq!(of(0x05), DataDirection::HostToController);
        assert_eq!(of(0x06), DataDirection::ControllerToHost);
        assert_eq!(of(0x08), DataDirection::None);
    }
}
