//! A file system without room: a tmpfs of 2 MiB in a mount namespace of its own.

use std::process::Command;

use super::*;
use crate::NvmeStatus;

/// Tells the test below where the small file system is.
const PLACE: &str = "SPDK_RS_TEST_FULL_DIR";

#[test]
fn a_full_disk_is_reported_and_leaves_nothing_behind() {
    let dir = dir();
    let exe = std::env::current_exe().unwrap();
    let inner = "drivers::tests::full::inside_a_small_file_system";
    let script = format!(
        "mount -t tmpfs -o size=2m none \"${PLACE}\" && exec \"$0\" --exact {inner} --nocapture"
    );
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(exe)
        .env(PLACE, dir.path())
        .output();
    let Ok(child) = child else { return println!("skipped: there is no unshare(1)") };
    let (out, err) =
        (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    if !out.contains("running 1 test") {
        return println!("skipped: no mount namespace: {err}");
    }
    print!("{out}");
    assert!(child.status.success(), "{out}{err}");
}

/// Does nothing unless the test above runs it.
#[test]
fn inside_a_small_file_system() {
    let Some(dir) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    for driver in BOTH {
        let path = dir.join("disk");
        let sized = FileOptions { create_size: Some(16 << 20), ..options(&path) };
        let error = create(driver, sized).unwrap_err();
        if matches!(error, FileBdevError::NoAio(_) | FileBdevError::NoUring(_)) {
            continue;
        }
        assert!(!path.exists(), "{error}");
        if let FileBdevError::AioNeedsDirect { .. } = error {
            println!("skipped: {error}");
            continue;
        }
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains("16777216") && text.contains("no space"), "{text}");
        // A sparse file promises what is not there.
        std::fs::File::create(&path).unwrap().set_len(8 << 20).unwrap();
        let bdev = create(driver, options(&path)).unwrap();
        let reactor = reactor();
        let handle = open(&bdev);
        let memory = reactor.memory().clone();
        let blocks = (256 << 10) / u64::from(bdev.info().block_len);
        reactor.block_on(async move {
            let mut statuses = Vec::new();
            for part in 0..32 {
                let mut buf = memory.alloc(256 << 10).unwrap();
                buf.fill(1);
                statuses.push(handle.write(buf, part * blocks, blocks).await.status);
            }
            assert!(statuses[0].is_success());
            assert!(statuses.contains(&NvmeStatus::CAPACITY_EXCEEDED), "{statuses:?}");
        });
        drop(bdev);
        std::fs::remove_file(&path).unwrap();
    }
}
