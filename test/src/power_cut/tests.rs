//! The whole way without a guest: the load on a drive in memory that logs, then cuts of that log.

use std::path::Path;

use spdk_rs::env::Memory;
use spdk_rs::env::cpu::CoreId;
use spdk_rs::reactor::{LocalReactor, ReactorConfig};

use super::image::Image;
use super::load::{self, Until};
use super::log::{Log, LogWriter};
use super::states::Recording;
use super::{ACK_OFFSET, DRIVE_BYTES, SECTOR_BYTES, device};

fn record(path: &Path, seed: u64, rounds: u64) -> Log {
    let log = LogWriter::create(path).unwrap();
    let config = ReactorConfig { ring: false, ..ReactorConfig::new(CoreId(0)) };
    let reactor = LocalReactor::new(config, Memory::ordinary(64 << 20).unwrap()).unwrap();
    let bdev = device::create(Image::new(DRIVE_BYTES), Some(log));
    let done = reactor.block_on(load::run(bdev, seed, Until::Rounds(rounds))).unwrap();
    assert_eq!(done.rounds, rounds);
    assert!(done.checkpoints > rounds / 4, "{done:?}");
    Log::open(path).unwrap()
}

#[test]
fn cuts_of_a_logged_load_leave_what_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::new(record(&dir.path().join("log"), 1, 60)).unwrap();
    let cuts = recording.choose(60, 7).unwrap();
    let totals = recording.verify(&cuts, |_| {}).unwrap();
    assert!(totals.states == 60 && totals.twice > 5, "{totals:?}");
    let seen = totals.seen;
    assert!(totals.kept > 0 && totals.lost > 0, "{totals:?}");
    assert!(seen.with_replay > 10 && seen.present > 0 && seen.absent > 10, "{totals:?}");
    // A state is found again by its name.
    let cut = cuts[30];
    assert_eq!(recording.cut(cut.flush, cut.seed).unwrap(), cut);
    assert!(recording.cut(0, 1).is_err());
}

#[test]
fn a_drive_that_loses_what_it_flushed_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = record(&dir.path().join("log"), 2, 20);
    let (from, ack_sector) = (log.entries.len() * 2 / 3, ACK_OFFSET / SECTOR_BYTES as u64);
    for entry in log.entries[from..].iter_mut().filter(|entry| entry.sector != ack_sector) {
        entry.sectors = 0;
    }
    let recording = Recording::new(log).unwrap();
    let cut = recording.cut(recording.sizes().0 - 1, 3).unwrap();
    let error = recording.verify(&[cut], |_| {}).unwrap_err();
    assert!(error.to_string().contains(&format!("state {cut}:")), "{error:#}");
}
