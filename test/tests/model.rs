//! Random I/O against a shadow copy, on every device that stores data.
//!
//! Each run takes one fixed seed and a fresh one; a failure names its seed, and
//! `IO_ENGINE_TEST_SEED` runs that one alone.

use io_engine_test::devices::{self, DeviceSpec};
use io_engine_test::{fixture, model, rng};

const IOS: u64 = 3000;

fn random_io(device: &DeviceSpec) {
    assert!(device.stores_data, "a model of a device that stores nothing proves nothing");
    let seeds = match rng::seed_from_env() {
        Some(seed) => vec![seed],
        None => vec![1, uuid::Uuid::new_v4().as_u64_pair().0],
    };
    for seed in seeds {
        // Shown by the test runner when the test fails.
        eprintln!("IO_ENGINE_TEST_SEED={seed:#x}");
        fixture::run_case(device, move |dut| Box::pin(model::run(dut, seed, IOS)));
    }
}

macro_rules! devices {
    ($($test:ident = $device:ident;)+) => {
        $(#[test]
        fn $test() {
            random_io(&devices::$device);
        })+
    };
}

devices! {
    malloc_512 = MALLOC_512;
    malloc_4096 = MALLOC_4096;
    vol_512 = VOL_512;
    vol_4096 = VOL_4096;
    limited = LIMITED;
    aio_file = AIO_FILE;
    aio_file_4096 = AIO_FILE_4096;
    uring_file = URING_FILE;
    uring_buffered = URING_BUFFERED;
    aio_loop = AIO_LOOP;
    uring_loop = URING_LOOP;
    nvmf_512 = NVMF_512;
    nvmf_4096 = NVMF_4096;
}
