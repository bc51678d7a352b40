//! What a cut may leave, and what it must.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::device::SECTOR_BYTES;

/// A write of sectors that hold its number.
fn write(id: u64, sector: u64, sectors: usize, fua: bool) -> Event {
    let data = vec![u8::try_from(id).unwrap(); sectors * SECTOR_BYTES];
    Event::WriteSubmitted { id, sector, data: Data::Bytes(Arc::from(data)), fua }
}

fn done(id: u64) -> Event {
    Event::WriteCompleted { id, applied: Applied::All }
}

fn flush(id: u64) -> Event {
    Event::FlushSubmitted { id }
}

fn flushed(id: u64) -> Event {
    Event::FlushCompleted { id, succeeded: true, drops: false }
}

fn recording(events: Vec<Event>) -> Recording {
    Recording { base: Image::new(1 << 20), write_cache: true, events }
}

/// The first bytes of the first sectors.
fn sectors(image: &Image, count: u64) -> Vec<u8> {
    let read = |sector| {
        let mut bytes = [0; SECTOR_BYTES];
        image.read(sector * SECTOR_BYTES as u64, &mut bytes);
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a sector is torn");
        bytes[0]
    };
    (0..count).map(read).collect()
}

/// Everything that a cut at the end can leave in the first sectors.
fn outcomes(recording: &Recording, count: u64) -> BTreeSet<Vec<u8>> {
    let mut cursor = recording.cursor();
    cursor.advance(recording.events.len());
    let loose = u32::try_from(cursor.disk().loose_sectors()).unwrap();
    (0..1u64 << loose)
        .map(|mask| sectors(&cursor.cut(CutMode::SectorMask(mask), 0), count))
        .collect()
}

fn set<const N: usize>(all: [&[u8]; N]) -> BTreeSet<Vec<u8>> {
    all.into_iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn any_subset_of_sectors_survives_and_any_version_of_each() {
    let run = recording(vec![write(1, 0, 2, false), done(1), write(2, 1, 1, false), done(2)]);
    let all = set([&[0, 0], &[0, 1], &[0, 2], &[1, 0], &[1, 1], &[1, 2]]);
    assert_eq!(outcomes(&run, 2), all);
}

#[test]
fn a_flush_covers_what_completed_before_it_was_submitted() {
    let early = vec![write(1, 0, 1, false), done(1), flush(9), flushed(9)];
    assert_eq!(outcomes(&recording(early), 1), set([&[1]]));
    let late = vec![write(1, 0, 1, false), flush(9), done(1), flushed(9)];
    assert_eq!(outcomes(&recording(late), 1), set([&[0], &[1]]));
    let unfinished = vec![write(1, 0, 1, false), done(1), flush(9)];
    assert_eq!(outcomes(&recording(unfinished), 1), set([&[0], &[1]]));
}

#[test]
fn a_failed_flush_promises_nothing_and_may_forget() {
    let failed = |drops| Event::FlushCompleted { id: 9, succeeded: false, drops };
    let again = [flush(8), flushed(8)];
    let start = vec![write(1, 0, 1, false), done(1), flush(9)];
    let keeps = [start.clone(), vec![failed(false)], again.to_vec()].concat();
    assert_eq!(outcomes(&recording(keeps), 1), set([&[1]]));
    let drops = [start, vec![failed(true)], again.to_vec()].concat();
    assert_eq!(outcomes(&recording(drops), 1), set([&[0]]));
}

#[test]
fn a_write_with_fua_survives_and_outlives_older_ones_in_the_cache() {
    let run = recording(vec![write(1, 0, 2, false), done(1), write(2, 0, 1, true), done(2)]);
    assert_eq!(outcomes(&run, 2), set([&[2, 0], &[2, 1]]));
    let in_flight = recording(vec![write(2, 0, 2, true)]);
    assert_eq!(outcomes(&in_flight, 2), set([&[0, 0], &[0, 2], &[2, 0], &[2, 2]]));
}

#[test]
fn without_a_cache_a_completed_write_survives() {
    let mut run = recording(vec![write(1, 0, 1, false), done(1), write(2, 1, 1, false)]);
    run.write_cache = false;
    assert_eq!(outcomes(&run, 2), set([&[1, 0], &[1, 2]]));
}

#[test]
fn lost_and_failed_writes_do_as_much_as_they_say() {
    let lost = Event::WriteCompleted { id: 1, applied: Applied::Nothing };
    assert_eq!(outcomes(&recording(vec![write(1, 0, 2, true), lost]), 2), set([&[0, 0]]));
    let half = Event::WriteCompleted { id: 1, applied: Applied::Sectors(1) };
    let run = recording(vec![write(1, 0, 2, true), half]);
    assert_eq!(outcomes(&run, 2), set([&[0, 0], &[1, 0]]));
}

#[test]
fn modes_are_what_their_names_say() {
    let events = (1..=3).flat_map(|id| [write(id, id - 1, 1, false), done(id)]).collect();
    let run = recording(events);
    let cut = |mode, seed| {
        let cut = Cut { at_event: 6, mode, seed };
        sectors(&run.cut(cut), 3)
    };
    assert_eq!(cut(CutMode::All, 0), [1, 2, 3]);
    assert_eq!(cut(CutMode::Nothing, 0), [0, 0, 0]);
    assert_eq!(cut(CutMode::OnlyLast, 0), [0, 0, 3]);
    let lost = |seed| cut(CutMode::AllButOne, seed).iter().filter(|&&id| id == 0).count();
    assert!((0..20).all(|seed| lost(seed) == 1));
    let kinds: BTreeSet<_> = (0..100).map(|seed| cut(CutMode::Sectors(500), seed)).collect();
    assert_eq!(kinds.len(), 8);
    assert_eq!(run.cut(Cut { at_event: 2, mode: CutMode::All, seed: 0 }).digest(), {
        let mut image = Image::new(1 << 20);
        image.write(0, &[1; SECTOR_BYTES]);
        image.digest()
    });
}

#[test]
fn a_reader_sees_completed_writes_and_perhaps_those_in_flight() {
    let mut disk = Disk::new(Image::new(1 << 20), true).readable();
    for event in [write(1, 0, 1, false), done(1), write(2, 0, 1, false)] {
        event.apply(&mut disk);
    }
    let mut rng = Rng::new(3);
    let seen: BTreeSet<u8> = (0..50)
        .map(|_| {
            let mut bytes = [0; SECTOR_BYTES];
            disk.read(0, &mut bytes, &mut rng);
            bytes[0]
        })
        .collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2]);
}
