//! Reservation events, from one host's command to another host's event.

use super::bench::{Bench, Connecting, Host};
use crate::nvme::spec::Sqe;
use crate::nvme::spec::log::{GetLogPage, lid};
use crate::nvme::spec::opcode::{admin as opcode, nvm};

/// A reservation command with two keys.
fn reserve(host: &Host<'_>, command: u8, cdw10: u32, keys: [u64; 2]) {
    let mut sqe = Sqe::new(command, 1);
    sqe.cdw10.set(cdw10);
    let data: Vec<u8> = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
    let (status, _) = host.bring(sqe, &data);
    assert!(status.is_success(), "{status}");
}

#[test]
fn a_preempted_host_is_told_and_can_read_why() {
    let bench = Bench::new();
    bench.namespace("a");
    let [one, two] = [[1; 16], [2; 16]];
    let ((first, first_id), (second, second_id)) = (bench.admin_of(one), bench.admin_of(two));
    let queue = |cntlid, host_id| {
        let host = bench.host();
        let io = Connecting { host_id, ..Connecting::io(cntlid, 1) };
        assert!(host.connect(&io).0.is_success());
        host
    };
    let (first_io, second_io) = (queue(first_id, one), queue(second_id, two));
    let event = Sqe::new(opcode::ASYNC_EVENT_REQUEST, 0);
    let (told, not_told) = (first.send(event, &[], 0), second.send(event, &[], 0));
    reserve(&first_io, nvm::RESERVATION_REGISTER, 0, [0, 11]);
    reserve(&first_io, nvm::RESERVATION_ACQUIRE, 1 << 8, [11, 0]);
    reserve(&second_io, nvm::RESERVATION_REGISTER, 0, [0, 22]);
    // Preempt, write exclusive.
    reserve(&second_io, nvm::RESERVATION_ACQUIRE, 1 << 8 | 1, [22, 11]);
    assert_eq!(first.wait(told).0.result.get(), 0x80_00_06);
    bench.settle();
    assert!(second.take(not_told).is_none());
    let page = GetLogPage::new(lid::RESERVATION, 64);
    let read = first.ask(page.to_sqe(0), 64).unwrap();
    assert_eq!((read[0], read[8], read[9], read[12]), (1, 1, 0, 1));
    assert_eq!(first.ask(page.to_sqe(0), 64).unwrap(), [0; 64]);
}
