use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

use super::*;
use crate::hugepage::{Region, zeroed_region};

/// A context, or `None` with a line that says why, where the kernel refuses one.
fn context(depth: u32) -> Option<AioContext> {
    match AioContext::new(depth) {
        Ok(context) => Some(context),
        Err(error @ (AioError::Unavailable(_) | AioError::Limit { .. })) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}: {error:?}"),
    }
}

/// A file of `len` zero bytes, opened with `O_DIRECT` where the file system has it.
fn file(len: u64) -> (tempfile::NamedTempFile, File) {
    let named = tempfile::NamedTempFile::new().unwrap();
    named.as_file().set_len(len).unwrap();
    let mut options = File::options();
    options.read(true).write(true);
    let direct = options.clone().custom_flags(libc::O_DIRECT).open(named.path());
    let file = direct.unwrap_or_else(|_| options.open(named.path()).unwrap());
    (named, file)
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

/// Submits one request and polls for its completion.
fn run(context: &mut AioContext, mut iocb: Iocb) -> AioEvent {
    // SAFETY: the caller's buffers live beyond this call, which ends after the completion.
    let taken = unsafe { context.submit(&mut [&raw mut iocb]) };
    assert_eq!(taken.unwrap(), 1);
    assert_eq!(context.in_flight(), 1);
    let mut event = [AioEvent::default()];
    while context.reap(&mut event) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(context.in_flight(), 0);
    assert_eq!(event[0].obj, &raw const iocb as u64);
    event[0]
}

fn round_trip(context: &mut AioContext) {
    let (source, target) = (zeroed_region(16_384).unwrap(), zeroed_region(16_384).unwrap());
    fill(&source, 0x3C);
    let (named, file) = file(32_768);
    let fd = file.as_raw_fd();
    let write =
        Iocb::pwrite(fd, source.as_ptr(), 16_384, 8192).with_rw_flags(libc::RWF_DSYNC).with_data(5);
    let event = run(context, write);
    assert_eq!((event.data, event.res, event.res2), (5, 16_384, 0));
    let event = run(context, Iocb::pread(fd, target.as_ptr(), 16_384, 8192).with_data(6));
    assert_eq!((event.data, event.result().unwrap()), (6, 16_384));
    assert_eq!(contents(&target), contents(&source));
    let mut stored = vec![0; 32_768];
    named.as_file().read_exact_at(&mut stored, 0).unwrap();
    assert!(stored[..8192].iter().chain(&stored[24_576..]).all(|byte| *byte == 0));
    assert_eq!(stored[8192..24_576], contents(&source));
    assert_eq!(run(context, Iocb::fdsync(fd)).res, 0);
    assert_eq!(run(context, Iocb::fsync(fd)).res, 0);
}

#[test]
fn data_round_trips_through_the_user_ring() {
    let Some(mut context) = context(8) else { return };
    assert!(context.has_user_ring());
    round_trip(&mut context);
}

#[test]
fn data_round_trips_without_the_user_ring() {
    let Some(mut context) = context(8) else { return };
    context.forget_user_ring();
    assert!(!context.is_ready());
    round_trip(&mut context);
}

#[test]
fn vectors_are_scattered_and_gathered() {
    let Some(mut context) = context(8) else { return };
    let (source, target) = (zeroed_region(12_288).unwrap(), zeroed_region(12_288).unwrap());
    fill(&source, 0x42);
    let (_named, file) = file(12_288);
    let vector = |region: &Region| {
        [(0, 4096), (4096, 8192)].map(|(start, len)| libc::iovec {
            iov_base: region.as_ptr().wrapping_add(start).cast(),
            iov_len: len,
        })
    };
    let (from, to) = (vector(&source), vector(&target));
    let event = run(&mut context, Iocb::pwritev(file.as_raw_fd(), from.as_ptr(), 2, 0));
    assert_eq!(event.res, 12_288);
    let event = run(&mut context, Iocb::preadv(file.as_raw_fd(), to.as_ptr(), 2, 0));
    assert_eq!(event.res, 12_288);
    assert_eq!(contents(&target), contents(&source));
}

#[test]
fn the_ring_wraps_around_many_times() {
    let Some(mut context) = context(4) else { return };
    let region = zeroed_region(4096).unwrap();
    let (_named, file) = file(4096);
    for round in 0..2000 {
        let iocb = Iocb::pread(file.as_raw_fd(), region.as_ptr(), 4096, 0).with_data(round);
        let event = run(&mut context, iocb);
        assert_eq!((event.data, event.res), (round, 4096));
        assert!(!context.is_ready());
    }
}

#[test]
fn a_batch_completes_as_a_whole() {
    let Some(mut context) = context(64) else { return };
    let region = zeroed_region(64 * 4096).unwrap();
    let (_named, file) = file(64 * 4096);
    let mut iocbs: Vec<Iocb> = (0..64_u64)
        .map(|number| {
            let offset = number * 4096;
            let start = region.as_ptr().wrapping_add(usize::try_from(offset).unwrap());
            Iocb::pread(file.as_raw_fd(), start, 4096, offset).with_data(number)
        })
        .collect();
    let mut pointers: Vec<*mut Iocb> = iocbs.iter_mut().map(ptr_to).collect();
    let mut submitted = 0;
    let mut seen = Vec::new();
    let mut events = [AioEvent::default(); 10];
    while seen.len() < 64 {
        // SAFETY: requests and region live until all completions were reaped below.
        submitted += unsafe { context.submit(&mut pointers[submitted..]) }.unwrap();
        let count = context.reap_wait(&mut events, 1, Some(Duration::from_secs(10))).unwrap();
        assert!(count > 0, "no completion within 10 s");
        seen.extend(events[..count].iter().map(|event| (event.data, event.res)));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..64).map(|number| (number, 4096)).collect::<Vec<_>>());
    assert_eq!(context.in_flight(), 0);
}

fn ptr_to(iocb: &mut Iocb) -> *mut Iocb {
    iocb
}

#[test]
fn a_bad_request_ends_the_series_and_then_tells_its_error() {
    let Some(mut context) = context(8) else { return };
    let region = zeroed_region(4096).unwrap();
    let (_named, file) = file(4096);
    let mut good = Iocb::pread(file.as_raw_fd(), region.as_ptr(), 4096, 0);
    let mut bad = Iocb::pread(-1, region.as_ptr(), 4096, 0);
    let mut pointers = [&raw mut good, &raw mut bad];
    // SAFETY: requests and region live until the completion was reaped below.
    assert_eq!(unsafe { context.submit(&mut pointers) }.unwrap(), 1);
    // SAFETY: as above.
    let error = unsafe { context.submit(&mut pointers[1..]) }.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    let mut events = [AioEvent::default(); 2];
    let count = context.reap_wait(&mut events, 1, Some(Duration::from_secs(10))).unwrap();
    assert_eq!((count, events[0].res, context.in_flight()), (1, 4096, 0));
    let negative = Iocb::pread(file.as_raw_fd(), region.as_ptr(), 4096, u64::MAX);
    let mut negative = negative;
    // SAFETY: the kernel refuses the request.
    let error = unsafe { context.submit(&mut [&raw mut negative]) }.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn a_completion_signals_its_eventfd() {
    let Some(mut context) = context(8) else { return };
    let region = zeroed_region(4096).unwrap();
    let (_named, file) = file(4096);
    let event_fd = nix::sys::eventfd::EventFd::from_value_and_flags(
        0,
        nix::sys::eventfd::EfdFlags::EFD_CLOEXEC,
    )
    .unwrap();
    let iocb =
        Iocb::pread(file.as_raw_fd(), region.as_ptr(), 4096, 0).with_eventfd(event_fd.as_raw_fd());
    assert_eq!(run(&mut context, iocb).res, 4096);
    assert_eq!(event_fd.read().unwrap(), 1);
}

#[test]
fn waiting_ends_with_its_timeout() {
    let Some(mut context) = context(8) else { return };
    let start_ns = crate::os::monotonic_ns();
    let mut events = [AioEvent::default(); 2];
    let count = context.reap_wait(&mut events, 1, Some(Duration::from_millis(5))).unwrap();
    assert_eq!(count, 0);
    assert!(crate::os::monotonic_ns() - start_ns >= 5_000_000);
}

#[test]
fn refusals_are_told_apart() {
    assert!(matches!(AioContext::new(0), Err(AioError::Depth { depth: 0 })));
    assert!(matches!(AioContext::new(u32::MAX), Err(AioError::Depth { .. })));
    let classify = |number| context::classify(8, io::Error::from_raw_os_error(number));
    assert!(matches!(classify(libc::EAGAIN), AioError::Limit { .. }));
    assert!(classify(libc::EAGAIN).to_string().contains("/proc/sys/fs/aio-max-nr"));
    assert!(matches!(classify(libc::ENOSYS), AioError::Unavailable(_)));
    assert!(matches!(classify(libc::ENOMEM), AioError::Setup { depth: 8, .. }));
    match AioContext::new(i32::MAX.cast_unsigned()) {
        Err(AioError::Limit { .. } | AioError::Setup { .. } | AioError::Unavailable(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn results_turn_into_errors() {
    let event = AioEvent { res: -i64::from(libc::EIO), ..AioEvent::default() };
    assert_eq!(event.result().unwrap_err().raw_os_error(), Some(libc::EIO));
}
