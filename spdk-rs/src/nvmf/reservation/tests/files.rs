//! What persists.

use super::*;

#[test]
fn what_persists_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ptpl.json");
    let device = uuid::Uuid::from_u128(5);
    let load = || persist::load(&path, device);
    assert_eq!(load().unwrap(), ReservationState::default(), "no file yet");
    for kind in TYPES {
        let mut state = three();
        state.acq(2, racqa::ACQUIRE, kind, 0).unwrap();
        state.persists = true;
        persist::store(&path, &state, device).unwrap();
        state.generation = 0;
        assert_eq!(load().unwrap(), state);
        state.persists = false;
        persist::store(&path, &state, device).unwrap();
        assert_eq!(load().unwrap(), ReservationState::default());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ptpl.json");
    let device = uuid::Uuid::from_u128(5);
    let mut state = three();
    state.acq(2, racqa::ACQUIRE, WriteExclusive, 0).unwrap();
    state.persists = true;
    persist::store(&path, &state, device).unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let error = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let words = persist::load(&path, device).unwrap_err().to_string();
        assert!(words.contains("ptpl.json"), "{words}");
        words
    };
    let host2 = uuid::Uuid::from_bytes([2; 16]).to_string();
    let host9 = uuid::Uuid::from_bytes([9; 16]).to_string();
    let changes = [
        ("\"ptpl\": true", "\"ptpl\": 1", "ptpl has to be a boolean"),
        ("\"rtype\": 1", "\"rtype\": 7", "rtype has to be"),
        ("\"rtype\": 1", "\"rtype\": 257", "rtype has to be"),
        ("\"rkey\": 20", "\"rkey\": 0", "rkey has to be"),
        ("\"rkey\": 20", "\"rkey\": -1", "rkey has to be"),
        ("\"registrants\": [", "\"registrants\": [1,", "rkey has to be"),
    ];
    for (from, to, words) in changes {
        assert!(good.contains(from), "{from} in {good}");
        assert!(error(&good.replace(from, to)).contains(words));
    }
    let holder = format!("\"holder_uuid\": \"{host2}\"");
    let moved = good.replace(&holder, &format!("\"holder_uuid\": \"{host9}\""));
    assert!(error(&moved).contains("holder_uuid has to be one of the registrants"));
    let host3 = uuid::Uuid::from_bytes([3; 16]).to_string();
    assert!(error(&good.replace(&host3, &host2)).contains("once"));
    assert!(error("{").contains("no JSON"));
    assert!(error("[]").contains("ptpl"));
    std::fs::write(&path, &good).unwrap();
    let other = persist::load(&path, uuid::Uuid::from_u128(6)).unwrap_err();
    assert!(matches!(other, PersistError::Device { .. }), "{other}");
    std::fs::write(&path, " \n").unwrap();
    assert_eq!(persist::load(&path, device).unwrap(), ReservationState::default());
    let missing = folder.path().join("no/such/file");
    assert!(persist::store(&missing, &state, device).is_err());
}
