//! Who may do what while there is a reservation.

use super::*;

/// What a column of the table stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Stranger,
    Registrant,
    Holder,
}

/// A type of reservation, and who may read and write.
type Row = (ReservationType, [(Who, bool, bool); 3]);

/// "Command Behavior in the Presence of a Reservation": per type, for a host that is not
/// registered, for a registrant and for the holder, whether reads and writes are allowed.
#[rustfmt::skip]
const TABLE: [Row; 6] = {
    use Who::{Holder, Registrant, Stranger};
    [
        (WriteExclusive,                 [(Stranger, true,  false), (Registrant, true,  false), (Holder, true, true)]),
        (ExclusiveAccess,                [(Stranger, false, false), (Registrant, false, false), (Holder, true, true)]),
        (WriteExclusiveRegistrantsOnly,  [(Stranger, true,  false), (Registrant, true,  true),  (Holder, true, true)]),
        (ExclusiveAccessRegistrantsOnly, [(Stranger, false, false), (Registrant, true,  true),  (Holder, true, true)]),
        (WriteExclusiveAllRegistrants,   [(Stranger, true,  false), (Registrant, true,  true),  (Holder, true, true)]),
        (ExclusiveAccessAllRegistrants,  [(Stranger, false, false), (Registrant, true,  true),  (Holder, true, true)]),
    ]
};

/// The command groups of the specification.
const READS: &[u8] = &[nvm::READ, nvm::COMPARE, nvm::VERIFY];
const WRITES: &[u8] = &[
    nvm::WRITE,
    nvm::WRITE_ZEROES,
    nvm::WRITE_UNCORRECTABLE,
    nvm::DATASET_MANAGEMENT,
    nvm::COPY,
    nvm::FLUSH,
];
const FREE: &[u8] = &[
    nvm::RESERVATION_REGISTER,
    nvm::RESERVATION_REPORT,
    nvm::RESERVATION_ACQUIRE,
    nvm::RESERVATION_RELEASE,
];

#[test]
fn the_table_of_rights() {
    for (kind, rows) in TABLE {
        let mut state = three();
        state.acq(1, racqa::ACQUIRE, kind, 0).unwrap();
        let access = state.access();
        assert!(access.is_reserved());
        for (who, reads, writes) in rows {
            let id = match who {
                Who::Holder => 1,
                Who::Registrant => 2,
                Who::Stranger => 9,
            };
            let may = |opcode: &u8| access.permits(&host(id), Access::of(*opcode));
            for opcode in READS {
                assert_eq!(may(opcode), reads, "{kind:?} {who:?} reads by {opcode:#x}");
            }
            for opcode in WRITES {
                assert_eq!(may(opcode), writes, "{kind:?} {who:?} writes by {opcode:#x}");
            }
            assert!(FREE.iter().all(may));
        }
    }
    let free = three().access();
    assert!(!free.is_reserved());
    assert!(READS.iter().chain(WRITES).all(|&opcode| free.permits(&host(9), Access::of(opcode))));
}
