//! Every case of [`io_engine_test::bdevio`] on every device: one test for each pair.

use io_engine_test::{bdevio, devices, fixture, for_each_bdevio_case};

macro_rules! tests_of_device {
    ($($case:ident $title:literal)+) => {
        $(#[test]
        fn $case() {
            fixture::run_case(&DEVICE, |dut| {
                Box::pin(async move {
                    if let Some(why) = dut.zones.and(bdevio::not_on_zones(stringify!($case))) {
                        eprintln!("skipped: {} on a zoned device: {why}", stringify!($case));
                        return Ok(());
                    }
                    bdevio::$case(dut).await
                })
            });
        })+
    };
}

macro_rules! devices {
    ($($module:ident = $device:ident;)+) => {
        $(mod $module {
            use super::*;
            const DEVICE: devices::DeviceSpec = devices::$device;
            for_each_bdevio_case!(tests_of_device);
        })+
    };
}

devices! {
    malloc_512 = MALLOC_512;
    malloc_4096 = MALLOC_4096;
    vol_512 = VOL_512;
    vol_4096 = VOL_4096;
    null = NULL;
    split = SPLIT;
    limited = LIMITED;
    aio_file = AIO_FILE;
    aio_file_4096 = AIO_FILE_4096;
    uring_file = URING_FILE;
    uring_buffered = URING_BUFFERED;
    aio_loop = AIO_LOOP;
    uring_loop = URING_LOOP;
    nvmf_512 = NVMF_512;
    nvmf_4096 = NVMF_4096;
    pcie = PCIE;
}
