use std::fs;

use super::*;

/// Reads a byte of a region.
fn byte(region: &Region, offset: usize) -> u8 {
    assert!(offset < region.len());
    // SAFETY: the offset is inside the region and nobody else has its pointer.
    unsafe { region.as_ptr().wrapping_add(offset).read() }
}

/// Writes a byte of a region.
fn set_byte(region: &Region, offset: usize, value: u8) {
    assert!(offset < region.len());
    // SAFETY: the offset is inside the region and nobody else has its pointer.
    unsafe { region.as_ptr().wrapping_add(offset).write(value) }
}

/// Resident bytes of a region, from mincore(2).
fn resident_bytes(region: &Region) -> usize {
    let mut pages = vec![0_u8; region.len().div_ceil(base_page_size())];
    // SAFETY: the call writes one byte per page of the region.
    let result = unsafe { libc::mincore(region.as_ptr().cast(), region.len(), pages.as_mut_ptr()) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    pages.iter().filter(|page| **page & 1 != 0).count() * base_page_size()
}

/// Bytes of address space that the process has, from `/proc/self/status`.
fn address_space_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    value.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

fn ordinary() -> MemoryOptions {
    MemoryOptions { huge: HugePolicy::Never, ..MemoryOptions::default() }
}

#[test]
fn ordinary_memory_is_aligned_zeroed_and_lazy() {
    let region = Region::map(64 << 20, &ordinary()).unwrap();
    assert_eq!(region.len(), 64 << 20);
    assert_eq!(region.as_ptr() as usize % HUGE_2M, 0);
    assert!(!region.page_kind().is_reserved());
    assert!(region.fallback_reason().is_none());
    assert_eq!(resident_bytes(&region), 0);
    for offset in [0, 4095, 4096, (64 << 20) - 1] {
        assert_eq!(byte(&region, offset), 0);
        set_byte(&region, offset, 0xA5);
        assert_eq!(byte(&region, offset), 0xA5);
    }
    assert!(resident_bytes(&region) < 64 << 20);
}

#[test]
fn odd_lengths_round_up_to_pages() {
    let page = base_page_size();
    let region = Region::map(page + 1, &ordinary()).unwrap();
    assert_eq!(region.len(), 2 * page);
    assert_eq!(region.page_kind(), PageKind::Base);
    set_byte(&region, 2 * page - 1, 1);
}

#[test]
fn impossible_lengths_are_refused() {
    assert!(matches!(Region::map(0, &ordinary()), Err(MemoryError::ZeroLength)));
    for len in [usize::MAX, usize::MAX / 2, isize::MAX as usize] {
        let error = Region::map(len, &ordinary()).unwrap_err();
        let matched = matches!(error, MemoryError::TooLarge { .. } | MemoryError::Map { .. });
        assert!(matched, "{error}");
    }
}

#[test]
fn populate_commits_exactly_the_pages_asked_for() {
    let region = zeroed_region(1 << 20).unwrap();
    let page = base_page_size();
    match region.populate(page + 1..2 * page + 1) {
        Ok(()) => assert_eq!(resident_bytes(&region), 2 * page),
        Err(error) => println!("skipped: {error} (kernel before 5.14)"),
    }
    region.populate(7..7).unwrap();
    for range in [0..(1 << 20) + 1, (1 << 20) + 1..(1 << 20) + 1] {
        assert!(matches!(region.populate(range), Err(MemoryError::OutOfRange { .. })));
    }
    #[expect(clippy::reversed_empty_ranges, reason = "the refusal is what is tested")]
    let reversed = 9..3;
    let error = region.populate(reversed).unwrap_err().to_string();
    assert_eq!(error, "bytes 9..3 are outside the memory region of 1048576 bytes");
}

#[test]
fn locking_follows_the_limit() {
    let region = Region::map(1 << 20, &ordinary()).unwrap();
    let permitted = crate::os::privileges().ipc_lock || memlock_limit().unwrap().admits(1 << 20);
    if permitted {
        assert!(region.locked(), "{:?}", region.lock_error());
        assert!(region.lock_error().is_none());
    } else {
        assert!(!region.locked());
        let error = region.lock_error().unwrap().to_string();
        assert!(error.contains("CAP_IPC_LOCK"), "{error}");
    }
    assert!(!zeroed_region(4096).unwrap().locked());
}

#[test]
fn huge_pages_are_used_or_their_lack_is_told() {
    let region = Region::map(4 << 20, &MemoryOptions::default()).unwrap();
    if region.page_kind() == PageKind::Huge2M {
        assert!(region.locked());
        set_byte(&region, (4 << 20) - 1, 9);
    } else {
        let reason = region.fallback_reason().unwrap().to_string();
        assert!(reason.contains("2048 KiB huge pages"), "{reason}");
        assert!(reason.contains("nr_hugepages"), "{reason}");
        println!("no huge pages here: {reason}");
    }
}

#[test]
fn required_huge_pages_fail_at_map_when_the_pool_is_too_small() {
    let pool = huge_page_stats().into_iter().find(|pool| pool.size_bytes == HUGE_2M as u64);
    let available = pool.map_or(0, |pool| pool.available());
    let len = (usize::try_from(available).unwrap() + 100_000) * HUGE_2M;
    let options = MemoryOptions { huge: HugePolicy::Require, ..MemoryOptions::default() };
    let error = Region::map(len, &options).unwrap_err();
    assert!(matches!(error, MemoryError::HugeUnavailable { .. }), "{error}");
}

#[test]
fn a_huge_directory_must_be_a_hugetlbfs() {
    let dir = tempfile::tempdir().unwrap();
    for huge in [HugePolicy::Prefer, HugePolicy::Require] {
        let options =
            MemoryOptions { huge, huge_dir: Some(dir.path().to_owned()), numa_node: None };
        let error = Region::map(4 << 20, &options).unwrap_err();
        assert!(matches!(error, MemoryError::NotHugetlbfs { .. }), "{error}");
    }
    let absent = MemoryOptions { huge_dir: Some(dir.path().join("none")), ..Default::default() };
    let error = Region::map(4 << 20, &absent).unwrap_err();
    assert!(matches!(error, MemoryError::HugeDir { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_mounted_hugetlbfs_is_used_and_left_empty() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let dir = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        words.next().filter(|_| words.next() == Some("hugetlbfs"))
    });
    let Some(dir) = dir else { return println!("skipped: no hugetlbfs is mounted") };
    let options = MemoryOptions { huge_dir: Some(dir.into()), ..Default::default() };
    match Region::map(2 << 20, &options) {
        Ok(region) if region.page_kind().is_reserved() => {
            set_byte(&region, 12345, 7);
            assert_eq!(byte(&region, 12345), 7);
        }
        Ok(region) => println!("no huge pages here: {}", region.fallback_reason().unwrap()),
        Err(error) => println!("skipped: {error}"),
    }
    let own = format!(".io-engine-{}-", std::process::id());
    if let Ok(entries) = fs::read_dir(dir) {
        let mut names = entries.map(|entry| entry.unwrap().file_name());
        assert!(!names.any(|name| name.to_string_lossy().starts_with(&own)));
    }
}

#[test]
fn numa_nodes_are_checked() {
    let node = crate::cpu::numa_nodes().first().map_or(0, |node| node.id);
    let on = |node| MemoryOptions { numa_node: Some(node), ..ordinary() };
    let region = Region::map(1 << 20, &on(node)).unwrap();
    if let Some(error) = region.placement_error() {
        println!("the kernel refused to place memory: {error}");
    }
    let error = Region::map(1 << 20, &on(1023)).unwrap_err().to_string();
    assert!(error.starts_with("NUMA node 1023 does not exist"), "{error}");
}

#[test]
fn the_advice_counts_what_is_missing() {
    let stats = |total, free, reserved| {
        Some(HugePageStats { size_bytes: HUGE_2M as u64, total, free, reserved })
    };
    assert_eq!(pages_wanted(8 << 20, 2048, None), 4);
    assert_eq!(pages_wanted(8 << 20, 2048, stats(0, 0, 0)), 4);
    assert_eq!(pages_wanted(8 << 20, 2048, stats(10, 3, 2)), 13);
    assert_eq!(pages_wanted((8 << 20) + 1, 2048, stats(10, 10, 0)), 10);
}

#[test]
fn a_region_is_unmapped_when_dropped() {
    // Large enough that other tests in the same process cannot hide the difference.
    let region = zeroed_region(1 << 30).unwrap();
    let before = address_space_bytes();
    drop(region);
    let after = address_space_bytes();
    assert!(after + (512 << 20) < before, "{before} bytes before, {after} bytes after");
}
