use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

const NVME: &str = "0000:01:00.0";

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A function in a tree, without a driver.
fn add(root: &Path, address: &str, class: &str) {
    let device = format!("sys/bus/pci/devices/{address}");
    put(root, &format!("{device}/class"), &format!("0x{class}\n"));
    put(root, &format!("{device}/vendor"), "0x1b36\n");
    put(root, &format!("{device}/device"), "0x0010\n");
    put(root, &format!("{device}/numa_node"), "-1\n");
    put(root, &format!("{device}/driver_override"), "(null)\n");
    put(root, "sys/bus/pci/drivers_probe", "");
}

fn set_driver(root: &Path, address: &str, driver: &str) {
    put(root, &format!("sys/bus/pci/drivers/{driver}/unbind"), "");
    let link = root.join(format!("sys/bus/pci/devices/{address}/driver"));
    let _ = fs::remove_file(&link);
    symlink(format!("../../drivers/{driver}"), link).unwrap();
}

fn tree() -> (tempfile::TempDir, Pci, PciAddress) {
    let dir = tempfile::tempdir().unwrap();
    add(dir.path(), NVME, "010802");
    set_driver(dir.path(), NVME, "nvme");
    fs::create_dir_all(dir.path().join("sys/kernel/iommu_groups/7")).unwrap();
    let link = dir.path().join(format!("sys/bus/pci/devices/{NVME}/iommu_group"));
    symlink("../../../../kernel/iommu_groups/7", link).unwrap();
    let pci = Pci::at(dir.path());
    (dir, pci, NVME.parse().unwrap())
}

/// A disk with one partition, as the kernel shows it with its multipath on.
fn add_disk(root: &Path) {
    put(root, &format!("sys/bus/pci/devices/{NVME}/nvme/nvme0/nvme0c3n1/x"), "");
    put(root, &format!("sys/bus/pci/devices/{NVME}/nvme/nvme0/model"), "");
    put(root, "sys/block/nvme0n1/dev", "259:0\n");
    put(root, "sys/block/nvme0n1/nvme0n1p1/dev", "259:1\n");
    put(root, "sys/block/nvme0n1/nvme0n1p1/partition", "1\n");
    put(root, "sys/block/nvme0n1/queue/x", "");
}

#[test]
fn controllers_are_found_by_class_and_filter() {
    let (dir, pci, address) = tree();
    add(dir.path(), "0000:02:00.0", "020000");
    add(dir.path(), "0000:00:1f.0", "010800");
    let all = pci.controllers(&PciFilter::default()).unwrap();
    let addresses: Vec<String> = all.iter().map(|f| f.address.to_string()).collect();
    assert_eq!(addresses, ["0000:00:1f.0", NVME]);
    let nvme = &all[1];
    assert_eq!((nvme.vendor, nvme.device, nvme.class), (0x1b36, 0x10, 0x01_0802));
    assert_eq!((nvme.driver.as_deref(), nvme.iommu_group), (Some("nvme"), Some(7)));
    assert_eq!((nvme.numa_node, nvme.no_iommu), (None, false));
    let count = |filter: PciFilter| pci.controllers(&filter).unwrap().len();
    assert_eq!(count(PciFilter { blocked: vec![address], ..PciFilter::default() }), 1);
    assert_eq!(count(PciFilter { allowed: vec![address], ..PciFilter::default() }), 1);
    assert_eq!(count(PciFilter { allowed: vec![address], blocked: vec![address] }), 0);
    let both = PciFilter { allowed: vec!["0000:02:00.0".parse().unwrap()], blocked: vec![address] };
    let words = |address: &str| both.check(address.parse().unwrap()).unwrap_err().to_string();
    assert_eq!(words(NVME), format!("{NVME}: it is blocked (--pci-blocked)"));
    assert!(words("0000:00:1f.0").contains("not among those that are allowed (--pci-allowed)"));
    assert!(both.check("0000:02:00.0".parse().unwrap()).is_ok());
    let error = pci.controller("0000:02:00.0".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("class 020000 is no NVMe"), "{error}");
    let error = pci.controller("0000:03:00.0".parse().unwrap()).unwrap_err();
    assert!(matches!(error, PciError::Absent { .. }));
}

#[test]
fn uses_of_a_disk_are_named() {
    let (dir, pci, address) = tree();
    let root = dir.path();
    assert!(pci.uses(address).is_empty());
    add_disk(root);
    assert_eq!(pci.disks(address), ["nvme0n1"]);
    assert!(pci.uses(address).is_empty());
    let other = "30 1 259:7 / /other rw - ext4 /dev/nvme9n1 rw\n";
    put(root, "proc/self/mountinfo", other);
    assert!(pci.uses(address).is_empty());
    let mounts = "31 1 259:1 / /boot rw shared:1 - ext4 /dev/root rw\n\
                  32 1 0:44 / /data rw - btrfs /dev/nvme0n1 rw\n";
    put(root, "proc/self/mountinfo", &format!("{other}{mounts}"));
    let expected = ["nvme0n1 is mounted at /data", "nvme0n1p1 is mounted at /boot"];
    assert_eq!(pci.uses(address), expected);
    put(root, "proc/self/mountinfo", "");
    put(root, "proc/swaps", "Filename Type Size\n/dev/nvme0n1p1 partition 1 0 -2\n");
    assert_eq!(pci.uses(address), ["nvme0n1p1 is swap space"]);
    put(root, "proc/swaps", "");
    put(root, "sys/block/nvme0n1/holders/dm-0/x", "");
    assert_eq!(pci.uses(address), ["nvme0n1 is held by dm-0"]);
    let refused = pci.bind(address, "nvme").and_then(|()| {
        put(root, "sys/bus/pci/drivers/vfio-pci/unbind", "");
        pci.bind(address, VFIO_DRIVER)
    });
    let words = refused.unwrap_err().to_string();
    assert!(words.contains(NVME) && words.contains("held by dm-0; nothing was changed"), "{words}");
    let unbound = fs::read_to_string(root.join("sys/bus/pci/drivers/nvme/unbind")).unwrap();
    assert_eq!(unbound, "", "nothing was taken away");
}

#[test]
fn a_function_goes_to_another_driver() {
    let (dir, pci, address) = tree();
    let root = dir.path();
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let error = pci.bind(address, VFIO_DRIVER).unwrap_err();
    assert!(error.to_string().ends_with("modprobe vfio-pci"), "{error}");
    put(root, "sys/bus/pci/drivers/vfio-pci/unbind", "");
    // Nobody heeds what is written to these files, so the function stays where it is.
    let error = pci.bind(address, VFIO_DRIVER).unwrap_err();
    assert!(error.to_string().contains("did not take it (nvme has it)"), "{error}");
    assert_eq!(text("sys/bus/pci/drivers/nvme/unbind"), NVME);
    assert_eq!(text(&format!("sys/bus/pci/devices/{NVME}/driver_override")), VFIO_DRIVER);
    assert_eq!(text("sys/bus/pci/drivers_probe"), NVME);
    set_driver(root, NVME, VFIO_DRIVER);
    pci.bind(address, VFIO_DRIVER).unwrap();
    pci.unbind(address).unwrap();
    assert_eq!(text("sys/bus/pci/drivers/vfio-pci/unbind"), NVME);
    assert_eq!(text(&format!("sys/bus/pci/devices/{NVME}/driver_override")), "\n");
}
