use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use super::*;
use crate::hugepage::{Region, zeroed_region};

/// A ring, or `None` with a line that says why, where the kernel refuses one.
fn ring_with(options: RingOptions) -> Option<Ring> {
    match Ring::new(options) {
        Ok(ring) => Some(ring),
        Err(error) if error.is_unavailable() || lacks_locked_memory(&error) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}: {error:?}"),
    }
}

/// Whether a small limit on locked memory is what the kernel refused for.
fn lacks_locked_memory(error: &UringError) -> bool {
    let source = match error {
        UringError::NoMemory { source, .. } | UringError::Register { source, .. } => source,
        _ => return false,
    };
    let limited = !crate::os::memlock_limit().unwrap().admits(8 << 20);
    source.raw_os_error() == Some(libc::ENOMEM) && limited && !crate::os::privileges().ipc_lock
}

fn ring(entries: u32) -> Option<Ring> {
    ring_with(RingOptions { entries, ..RingOptions::default() })
}

/// Waits until `count` completions were reaped.
fn wait_for(ring: &mut Ring, count: usize) -> Vec<Cqe> {
    let mut cqes = vec![Cqe::default(); count];
    let mut reaped = 0;
    while reaped < count {
        let wanted = u32::try_from(count - reaped).unwrap();
        ring.submit_and_wait(wanted, Some(std::time::Duration::from_secs(10))).unwrap();
        let new = ring.reap(&mut cqes[reaped..]);
        assert!(new > 0, "no completion within 10 s");
        reaped += new;
    }
    cqes
}

fn fill(region: &Region, seed: u8) {
    for index in 0..region.len() {
        let value = (index % 251).to_ne_bytes()[0] ^ seed;
        // SAFETY: the index is inside the region, which only this test uses.
        unsafe { region.as_ptr().wrapping_add(index).write(value) };
    }
}

fn contents(region: &Region) -> Vec<u8> {
    // SAFETY: the region is mapped and no request that writes it is in flight.
    unsafe { std::slice::from_raw_parts(region.as_ptr(), region.len()) }.to_vec()
}

/// A file of `len` zero bytes.
fn file(len: u64) -> std::fs::File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    file
}

#[test]
fn completion_entries_have_the_kernels_size() {
    assert_eq!(size_of::<Cqe>(), 16);
    assert_eq!(size_of::<io_uring::squeue::Entry>(), 64);
    assert_eq!(size_of::<io_uring::cqueue::Entry>(), 16);
}

#[test]
fn bad_sizes_are_refused_by_name() {
    for (entries, cq_entries, message) in [
        (0, None, "entries is 0; allowed: 1 to 32768"),
        (32_769, None, "entries is 32769; allowed: 1 to 32768"),
        (8, Some(4), "cq_entries is 4; allowed: 8 to 65536"),
        (8, Some(65_537), "cq_entries is 65537; allowed: 8 to 65536"),
    ] {
        let options = RingOptions { entries, cq_entries, iopoll: false };
        let error = Ring::new(options).unwrap_err().to_string();
        assert_eq!(error, format!("io_uring: {message}"));
    }
}

#[test]
fn refusals_are_told_apart() {
    let classify = |number| setup::classify(8, io::Error::from_raw_os_error(number));
    assert!(matches!(classify(libc::EPERM), UringError::NotPermitted { .. }));
    assert!(matches!(classify(libc::ENOSYS), UringError::TooOld { .. }));
    assert!(matches!(classify(libc::ENOMEM), UringError::NoMemory { .. }));
    assert!(matches!(classify(libc::EMFILE), UringError::Setup { .. }));
    assert!(classify(libc::EPERM).is_unavailable() && !classify(libc::ENOMEM).is_unavailable());
    assert!(setup::forbidden_by(Some(2)).contains("io_uring_disabled is 2"));
    assert!(setup::forbidden_by(Some(1)).contains("io_uring_group"));
    assert!(setup::forbidden_by(Some(0)).contains("seccomp"));
}

#[test]
fn requests_are_counted_from_push_to_reap() {
    let Some(mut ring) = ring(8) else { return };
    assert_eq!((ring.entries(), ring.cq_entries()), (8, 16));
    for number in 0..8 {
        ring.nop(number).unwrap();
    }
    assert_eq!(ring.nop(8), Err(SqFull));
    assert_eq!((ring.queued(), ring.in_flight()), (8, 0));
    assert!(!ring.cq_ready());
    assert_eq!(ring.submit().unwrap(), 8);
    assert_eq!((ring.queued(), ring.in_flight()), (0, 8));
    ring.nop(8).unwrap();
    let cqes = wait_for(&mut ring, 9);
    assert_eq!((ring.queued(), ring.in_flight()), (0, 0));
    let numbers: Vec<u64> = cqes.iter().map(|cqe| cqe.user_data).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    assert!(cqes.iter().all(|cqe| cqe.res == 0));
}

#[test]
fn an_overflowing_completion_queue_loses_nothing() {
    let options = RingOptions { entries: 4, cq_entries: Some(4), iopoll: false };
    let Some(mut ring) = ring_with(options) else { return };
    for round in 0..8 {
        for number in 0..4 {
            ring.nop(round * 4 + number).unwrap();
        }
        ring.submit().unwrap();
    }
    let mut seen = Vec::new();
    let mut cqes = [Cqe::default(); 3];
    while seen.len() < 32 {
        let count = ring.reap(&mut cqes);
        seen.extend(cqes[..count].iter().map(|cqe| cqe.user_data));
        if count == 0 {
            assert!(ring.needs_enter() || ring.queued() > 0, "stuck after {} of 32", seen.len());
            ring.submit().unwrap();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..32).collect::<Vec<_>>());
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn data_round_trips_through_a_plain_descriptor() {
    let Some(mut ring) = ring(8) else { return };
    let (source, target) = (zeroed_region(8192).unwrap(), zeroed_region(8192).unwrap());
    fill(&source, 0x5A);
    let mut file = file(0);
    let fd = Target::Fd(file.as_raw_fd());
    // SAFETY: the region lives until the completion was reaped below.
    unsafe { ring.write(fd, source.as_ptr(), 8192, 4096, libc::RWF_DSYNC, None, 1) }.unwrap();
    assert_eq!(wait_for(&mut ring, 1)[0].result().unwrap(), 8192);
    // SAFETY: the region lives until the completion was reaped below.
    unsafe { ring.read(fd, target.as_ptr(), 8192, 4096, 0, None, 2) }.unwrap();
    assert_eq!(wait_for(&mut ring, 1)[0].result().unwrap(), 8192);
    assert_eq!(contents(&target), contents(&source));
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 12_288);
    assert!(all[..4096].iter().all(|byte| *byte == 0));
    assert_eq!(all[4096..], contents(&source));
}

#[test]
fn vectors_are_scattered_and_gathered() {
    let Some(mut ring) = ring(8) else { return };
    let (source, target) = (zeroed_region(12_288).unwrap(), zeroed_region(12_288).unwrap());
    fill(&source, 0x11);
    let file = file(12_288);
    let fd = Target::Fd(file.as_raw_fd());
    let vector = |region: &Region, parts: &[(usize, usize)]| -> Vec<libc::iovec> {
        let part = |(start, len): &(usize, usize)| libc::iovec {
            iov_base: region.as_ptr().wrapping_add(*start).cast(),
            iov_len: *len,
        };
        parts.iter().map(part).collect()
    };
    let gathered = vector(&source, &[(0, 512), (512, 7680), (8192, 4096)]);
    // SAFETY: vector and region live until the completion was reaped below.
    unsafe { ring.writev(fd, gathered.as_ptr(), 3, 0, 0, 1) }.unwrap();
    assert_eq!(wait_for(&mut ring, 1)[0].res, 12_288);
    let scattered = vector(&target, &[(0, 4096), (4096, 8192)]);
    // SAFETY: vector and region live until the completion was reaped below.
    unsafe { ring.readv(fd, scattered.as_ptr(), 2, 0, 0, 2) }.unwrap();
    assert_eq!(wait_for(&mut ring, 1)[0].res, 12_288);
    assert_eq!(contents(&target), contents(&source));
}

#[test]
fn fixed_files_and_buffers_round_trip() {
    let Some(mut ring) = ring(8) else { return };
    let (source, target) = (zeroed_region(16_384).unwrap(), zeroed_region(16_384).unwrap());
    fill(&source, 0x77);
    let file = file(16_384);
    ring.register_files_sparse(4).unwrap();
    ring.register_file(2, file.as_raw_fd()).unwrap();
    if let Err(error) = ring.register_buffers_sparse(2) {
        return println!("skipped: {error} (Linux before 5.19)");
    }
    for (slot, region) in [(0, &source), (1, &target)] {
        // SAFETY: both regions outlive the ring's table, which is emptied below.
        match unsafe { ring.update_buffer(slot, region.as_ptr(), region.len()) } {
            Err(error) if lacks_locked_memory(&error) => return println!("skipped: {error}"),
            result => result.unwrap(),
        }
    }
    let slot = Target::Fixed(2);
    let inner = source.as_ptr().wrapping_add(4096);
    // SAFETY: the region lives until the completion was reaped below.
    unsafe { ring.write(slot, inner, 8192, 0, 0, Some(0), 1) }.unwrap();
    assert_eq!(wait_for(&mut ring, 1)[0].res, 8192);
    // SAFETY: the region lives until the completion was reaped below.
    unsafe { ring.read(slot, target.as_ptr(), 8192, 0, 0, Some(1), 2) }.unwrap();
    assert_eq!(wait_for(&mut ring, 1)[0].res, 8192);
    assert_eq!(contents(&target)[..8192], contents(&source)[4096..12_288]);
    // A pointer outside its registered buffer is refused by the kernel, not written through.
    // SAFETY: the region lives until the completion was reaped below.
    unsafe { ring.read(slot, source.as_ptr(), 4096, 0, 0, Some(1), 3) }.unwrap();
    assert_eq!(wait_for(&mut ring, 1)[0].res, -libc::EFAULT);
    ring.clear_buffer(0).unwrap();
    ring.clear_buffer(1).unwrap();
    ring.unregister_file(2).unwrap();
    ring.fsync(slot, true, 4).unwrap();
    assert_eq!(wait_for(&mut ring, 1)[0].res, -libc::EBADF);
}

#[test]
fn registrations_out_of_range_are_named() {
    let Some(mut ring) = ring(8) else { return };
    ring.register_files_sparse(1).unwrap();
    let error = ring.register_file(7, 0).unwrap_err().to_string();
    assert_eq!(error, "io_uring: cannot put descriptor 0 into file slot 7");
    // SAFETY: the call refuses the length before it looks at the memory.
    let error = unsafe { ring.update_buffer(0, std::ptr::null_mut(), BUFFER_BYTES_MAX + 1) };
    let UringError::Register { source, .. } = error.unwrap_err() else { panic!("another error") };
    assert_eq!(source.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn sync_and_hole_punching_complete() {
    let Some(mut ring) = ring(8) else { return };
    let mut file = file(0);
    file.write_all(&[0xEE; 16_384]).unwrap();
    let fd = Target::Fd(file.as_raw_fd());
    ring.fsync(fd, false, 1).unwrap();
    assert_eq!(wait_for(&mut ring, 1)[0], Cqe { user_data: 1, res: 0, flags: 0 });
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    ring.fallocate(fd, mode, 4096, 8192, 2).unwrap();
    let cqe = wait_for(&mut ring, 1)[0];
    if cqe.res == -libc::EOPNOTSUPP {
        return println!("skipped: the temporary directory's file system has no holes");
    }
    assert_eq!(cqe, Cqe { user_data: 2, res: 0, flags: 0 });
    let mut all = Vec::new();
    io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 16_384);
    assert!(all[..4096].iter().all(|byte| *byte == 0xEE));
    assert!(all[4096..12_288].iter().all(|byte| *byte == 0));
    assert!(all[12_288..].iter().all(|byte| *byte == 0xEE));
}

#[test]
fn a_multishot_poll_tells_readiness_without_a_system_call() {
    let Some(mut ring) = ring(8) else { return };
    if !ring.features().poll_multishot {
        return println!("skipped: no multishot poll (Linux before 5.13)");
    }
    let (mut reader, mut writer) = io::pipe().unwrap();
    ring.poll_multishot(reader.as_raw_fd(), libc::POLLIN, 7).unwrap();
    ring.submit().unwrap();
    assert!(!ring.cq_ready() && !ring.needs_enter());
    for round in 0..3_u8 {
        writer.write_all(&[round]).unwrap();
        if ring.features().taskrun_flag {
            assert!(ring.needs_enter() || ring.cq_ready(), "round {round}");
        }
        let cqe = wait_for(&mut ring, 1)[0];
        assert!(cqe.has_more() && cqe.user_data == 7, "{cqe:?}");
        assert_eq!(cqe.res & i32::from(libc::POLLIN), i32::from(libc::POLLIN));
        assert_eq!(ring.in_flight(), 1);
        let mut byte = [0xFF];
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [round]);
        assert!(!ring.cq_ready() && !ring.needs_enter());
    }
    ring.cancel(7, 8).unwrap();
    let mut cqes = wait_for(&mut ring, 2);
    cqes.sort_by_key(|cqe| cqe.user_data);
    assert_eq!((cqes[0].user_data, cqes[0].res), (7, -libc::ECANCELED));
    assert_eq!((cqes[1].user_data, cqes[1].res), (8, 0));
    assert!(!cqes[0].has_more());
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn everything_in_flight_can_be_cancelled() {
    let Some(mut ring) = ring(8) else { return };
    let (reader, _writer) = io::pipe().unwrap();
    for number in 0..3 {
        ring.poll_multishot(reader.as_raw_fd(), libc::POLLIN, number).unwrap();
    }
    ring.submit().unwrap();
    ring.cancel_all(9).unwrap();
    let cqes = wait_for(&mut ring, 4);
    let result = |number| cqes.iter().find(|cqe| cqe.user_data == number).unwrap().res;
    if result(9) == -libc::EINVAL {
        return println!("skipped: Linux before 5.19");
    }
    assert_eq!((0..3).map(result).collect::<Vec<_>>(), [-libc::ECANCELED; 3]);
    assert_eq!((result(9), ring.in_flight()), (3, 0));
}

#[test]
fn waiting_ends_with_its_timeout() {
    let Some(mut ring) = ring(8) else { return };
    let start_ns = crate::os::monotonic_ns();
    ring.submit_and_wait(1, Some(std::time::Duration::from_millis(5))).unwrap();
    assert!(crate::os::monotonic_ns() - start_ns >= 5_000_000);
    assert!(!ring.cq_ready());
}

#[test]
fn a_bad_request_does_not_stop_those_behind_it() {
    let Some(mut ring) = ring(8) else { return };
    ring.fsync(Target::Fd(-1), true, 1).unwrap();
    ring.fsync(Target::Fixed(3), true, 2).unwrap();
    ring.nop(3).unwrap();
    let mut cqes = wait_for(&mut ring, 3);
    cqes.sort_by_key(|cqe| cqe.user_data);
    let results: Vec<i32> = cqes.iter().map(|cqe| cqe.res).collect();
    assert_eq!(results, [-libc::EBADF, -libc::EBADF, 0]);
    assert_eq!(cqes[0].result().unwrap_err().raw_os_error(), Some(libc::EBADF));
}

#[test]
fn the_features_match_the_kernel() {
    let Some(ring) = ring(8) else { return };
    let features = ring.features();
    println!("{features:?}");
    assert!(features.read && features.write && features.readv && features.writev);
    assert!(features.fsync && features.fallocate && features.ext_arg && !features.iopoll);
    // A ring that defers completions without telling when they are due could not be polled.
    assert!(!features.defer_taskrun || features.taskrun_flag);
}
