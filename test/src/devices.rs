//! The devices that the tests run on.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use io_engine::bdev;
use io_engine::core::Engine;

use crate::faulty::{Behaviour, FaultyOptions};
use crate::nvmf::{Rig, RigOptions};

/// Size of every device under test in MiB.
pub const SIZE_MB: u64 = 16;

/// A kind of device under test.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSpec {
    /// Name in messages.
    pub name: &'static str,
    /// Whether what is written can be read. A device that stores nothing still runs every case:
    /// data are then not compared, statuses are.
    pub stores_data: bool,
    /// How it is made.
    pub backing: Backing,
}

/// What a device under test lies on.
#[derive(Clone, Copy, Debug)]
pub enum Backing {
    /// Memory or nothing: a complete URI.
    Uri(&'static str),
    /// The second of three equal parts of memory: two complete URIs, and the part's name.
    Part {
        /// What is split.
        base: &'static str,
        /// How.
        split: &'static str,
        /// The part.
        name: &'static str,
    },
    /// A new file in a scratch directory, by a scheme and with further parameters.
    File {
        /// The scheme.
        scheme: &'static str,
        /// Further parameters, each with a leading `&`.
        params: &'static str,
    },
    /// A loop device over a new file; needs root and a kernel that has them.
    Loop {
        /// The scheme.
        scheme: &'static str,
    },
    /// A namespace of an NVMe controller of this machine, by an environment variable: its contents
    /// are destroyed, so nothing is chosen by itself.
    Pcie {
        /// The variable, with what follows `pcie:///`, like `0000:01:00.0/1`.
        variable: &'static str,
    },
    /// A namespace of the engine's own target, over loopback.
    Nvmf {
        /// The URI of the exported device.
        uri: &'static str,
        /// Header and data digests.
        digests: bool,
        /// IPv6 instead of IPv4.
        ipv6: bool,
    },
    /// The test's own driver: small limits, reads and writes only, completes late and out of
    /// order; all else is splitting and emulation by the block device layer.
    Limited,
}

const fn uri(name: &'static str, stores_data: bool, uri: &'static str) -> DeviceSpec {
    DeviceSpec { name, stores_data, backing: Backing::Uri(uri) }
}

const fn file(name: &'static str, scheme: &'static str, params: &'static str) -> DeviceSpec {
    DeviceSpec { name, stores_data: true, backing: Backing::File { scheme, params } }
}

/// Memory in blocks of 512 bytes.
pub const MALLOC_512: DeviceSpec = uri("malloc_512", true, "malloc:///dut?size_mb=16&blk_size=512");
/// Memory in blocks of 4096 bytes.
pub const MALLOC_4096: DeviceSpec =
    uri("malloc_4096", true, "malloc:///dut?size_mb=16&blk_size=4096");
/// Nothing.
pub const NULL: DeviceSpec = uri("null", false, "null:///dut?size_mb=16&blk_size=512");
/// Linux AIO on a file.
pub const AIO_FILE: DeviceSpec = file("aio_file", "aio", "&blk_size=512");
/// Linux AIO on a file in blocks of 4096 bytes.
pub const AIO_FILE_4096: DeviceSpec = file("aio_file_4096", "aio", "&blk_size=4096");
/// io_uring on a file.
pub const URING_FILE: DeviceSpec = file("uring_file", "uring", "&blk_size=512");
/// io_uring on a file through the page cache.
pub const URING_BUFFERED: DeviceSpec =
    file("uring_buffered", "uring", "&blk_size=512&direct=false");
/// Linux AIO on a block device.
pub const AIO_LOOP: DeviceSpec =
    DeviceSpec { name: "aio_loop", stores_data: true, backing: Backing::Loop { scheme: "aio" } };
/// io_uring on a block device.
pub const URING_LOOP: DeviceSpec = DeviceSpec {
    name: "uring_loop",
    stores_data: true,
    backing: Backing::Loop { scheme: "uring" },
};
/// A volume of a pool in memory, in blocks of 512 bytes: smaller than what the pool writes.
pub const VOL_512: DeviceSpec = uri(
    "vol_512",
    true,
    "vol:///dut?pool=pool%3A%2F%2F%2Ftank%3Fdisk%3Dmalloc%253A%252F%252F%252Fbacking%253Fsize_mb%253D64%26create%3Dtrue&size=16M&blk_size=512",
);
/// A volume of a pool in memory, in blocks of 4096 bytes.
pub const VOL_4096: DeviceSpec = uri(
    "vol_4096",
    true,
    "vol:///dut?pool=pool%3A%2F%2F%2Ftank%3Fdisk%3Dmalloc%253A%252F%252F%252Fbacking%253Fsize_mb%253D64%26create%3Dtrue&size=16M&blk_size=4096",
);
/// The second of three parts of memory.
pub const SPLIT: DeviceSpec = DeviceSpec {
    name: "split",
    stores_data: true,
    backing: Backing::Part {
        base: "malloc:///whole?size_mb=48&blk_size=512",
        split: "split:///whole?split_count=3",
        name: "wholep1",
    },
};
/// The test's own driver.
pub const LIMITED: DeviceSpec =
    DeviceSpec { name: "limited", stores_data: true, backing: Backing::Limited };

/// Memory in blocks of 512 bytes, over NVMe/TCP.
pub const NVMF_512: DeviceSpec = nvmf("nvmf_512", "512", false, false);
/// Memory in blocks of 4096 bytes, over NVMe/TCP with digests and IPv6.
pub const NVMF_4096: DeviceSpec = nvmf("nvmf_4096", "4096", true, true);

/// A disk of this machine.
pub const PCIE: DeviceSpec = DeviceSpec {
    name: "pcie",
    stores_data: true,
    backing: Backing::Pcie { variable: "IO_ENGINE_TEST_PCIE" },
};

const fn nvmf(name: &'static str, blk_size: &str, digests: bool, ipv6: bool) -> DeviceSpec {
    let uri = match blk_size.as_bytes() {
        b"512" => "malloc:///backing?size_mb=16&blk_size=512",
        _ => "malloc:///backing?size_mb=16&blk_size=4096",
    };
    DeviceSpec { name, stores_data: true, backing: Backing::Nvmf { uri, digests, ipv6 } }
}

/// A device under test, with what has to live as long.
pub struct Made {
    /// The device's name.
    pub name: String,
    /// What is behind it.
    pub rig: Option<Rig>,
}

impl Made {
    fn plain(name: String) -> Self {
        Self { name, rig: None }
    }
}

/// Makes the device; or says in words why this machine cannot have it.
///
/// # Errors
/// When it can and does not work.
pub fn create(spec: &DeviceSpec, engine: &Engine, scratch: &Path) -> Result<Result<Made, String>> {
    let make = |uri: &str| -> Result<String> {
        futures::executor::block_on(bdev::create(engine, uri)).with_context(|| uri.to_owned())
    };
    match spec.backing {
        Backing::Uri(uri) => Ok(Ok(Made::plain(make(uri)?))),
        Backing::Part { base, split, name } => {
            make(base)?;
            make(split)?;
            Ok(Ok(Made::plain(name.to_owned())))
        }
        Backing::File { scheme, params } => {
            let path = scratch.join("dut");
            let path = path.display();
            let made = make(&format!("{scheme}://{path}?size_mb={SIZE_MB}{params}"))?;
            Ok(Ok(Made::plain(made)))
        }
        Backing::Loop { scheme } => {
            let node = match attach_loop(scratch)? {
                Ok(node) => node,
                Err(why) => return Ok(Err(why)),
            };
            let made = make(&format!("{scheme}://{node}"));
            // The kernel detaches it when the last one closes it, however this process ends.
            ensure!(losetup(&["-d", &node])?.0, "losetup -d {node}");
            Ok(Ok(Made::plain(made?)))
        }
        Backing::Pcie { variable } => match std::env::var(variable) {
            Ok(place) => Ok(Ok(Made::plain(make(&format!("pcie:///{place}"))?))),
            Err(_) => Ok(Err(format!("{variable} names no disk that may be overwritten"))),
        },
        Backing::Nvmf { uri, digests, ipv6 } => {
            let options = RigOptions { hdgst: digests, ddgst: digests, ipv6, ..Default::default() };
            let rig = Rig::new(engine, uri, options)?;
            let names = rig.attach("dut", rig.listen()?)?;
            ensure!(names == ["dutn1"], "attached as {names:?}");
            Ok(Ok(Made { name: "dutn1".to_owned(), rig: Some(rig) }))
        }
        Backing::Limited => {
            let options = FaultyOptions {
                block_len: 512,
                num_blocks: (SIZE_MB << 20) / 512,
                limits: spdk_rs::bdev::IoLimits {
                    blocks_max: 32,
                    segments_max: 4,
                    boundary_blocks: 48,
                    ..Default::default()
                },
                ..FaultyOptions::new("dut")
            };
            let behaviour = Behaviour { shuffle: Some(1), ..Behaviour::default() };
            let (bdev, _) = crate::faulty::create(engine.memory(), options, behaviour)?;
            engine.registry().register(&bdev)?;
            Ok(Ok(Made::plain(Arc::clone(&bdev).name().to_owned())))
        }
    }
}

/// Attaches a new file to a free loop device; the reason in words when that is not possible here.
fn attach_loop(scratch: &Path) -> Result<Result<String, String>> {
    let image = scratch.join("loop.img");
    std::fs::File::create(&image)?.set_len(SIZE_MB << 20)?;
    let image = image.display().to_string();
    match losetup(&["--direct-io=on", "--show", "-f", &image]) {
        Ok((true, node)) => Ok(Ok(node.trim().to_owned())),
        Ok((false, why)) => Ok(Err(format!("no loop device: {}", why.trim()))),
        Err(error) => Ok(Err(format!("losetup cannot be run: {error}"))),
    }
}

/// Runs losetup: whether it succeeded, and its output or its complaint.
fn losetup(args: &[&str]) -> Result<(bool, String)> {
    let output = Command::new("losetup").args(args).output()?;
    let text = if output.status.success() { output.stdout } else { output.stderr };
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}
