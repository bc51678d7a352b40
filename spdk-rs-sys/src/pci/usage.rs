//! Who uses the disks of a controller.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Pci, PciAddress};
use crate::sysfs;

impl Pci {
    /// The block devices of a controller that the kernel's driver has, by name.
    #[must_use]
    pub fn disks(&self, address: PciAddress) -> Vec<String> {
        let controllers = self.directory(address).join("nvme");
        let mut disks = Vec::new();
        for controller in Self::names(&controllers) {
            let names = Self::names(&controllers.join(&controller));
            disks.extend(names.iter().filter_map(|name| disk_of(name)));
        }
        disks.sort_unstable();
        disks.dedup();
        disks
    }

    /// What uses the disks of a controller, in words; empty when it can be taken away.
    #[must_use]
    pub fn uses(&self, address: PciAddress) -> Vec<String> {
        let mut uses = Vec::new();
        for disk in self.disks(address) {
            let block = self.root.join("sys/block").join(&disk);
            let mut parts = vec![(disk.clone(), block.clone())];
            // A partition is a directory in its disk's that has a number of its own.
            let inside =
                Self::names(&block).into_iter().map(|name| (name.clone(), block.join(name)));
            parts.extend(
                inside.filter(|(name, path)| {
                    name.starts_with(&disk) && path.join("partition").exists()
                }),
            );
            for (name, path) in parts {
                self.uses_of(&name, &path, &mut uses);
            }
        }
        uses
    }

    /// What uses one disk or partition.
    fn uses_of(&self, name: &str, path: &Path, uses: &mut Vec<String>) {
        let before = uses.len();
        for holder in Self::names(&path.join("holders")) {
            uses.push(format!("{name} is held by {holder}"));
        }
        let number = sysfs::read_text(path.join("dev")).unwrap_or_default();
        let mounts = fs::read_to_string(self.root.join("proc/self/mountinfo")).unwrap_or_default();
        for place in mounts.lines().filter_map(|line| mount_of(line, name, &number)) {
            uses.push(format!("{name} is mounted at {place}"));
        }
        let swaps = fs::read_to_string(self.root.join("proc/swaps")).unwrap_or_default();
        let device = format!("/dev/{name}");
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&device)) {
            uses.push(format!("{name} is swap space"));
        }
        // Whoever else has it for himself (a file system in another mount name space, ZFS) is found
        // by asking for the same.
        if uses.len() == before && self.is_taken(name) {
            uses.push(format!("{name} is opened exclusively by somebody"));
        }
    }

    fn is_taken(&self, name: &str) -> bool {
        let path = self.root.join("dev").join(name);
        let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(path);
        opened.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
    }
}

/// The disk that a namespace's directory stands for: `nvme0n1` is one itself, `nvme0c1n1` is the
/// path of controller 1 to it.
fn disk_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix("nvme")?;
    let (subsystem, namespace) = rest.rsplit_once('n')?;
    let subsystem = subsystem.split_once('c').map_or(subsystem, |(subsystem, _)| subsystem);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(subsystem) && is_number(namespace)).then(|| format!("nvme{subsystem}n{namespace}"))
}

/// Where a line of mountinfo (proc(5)) mounts a device, known by its number or by its name.
fn mount_of<'a>(line: &'a str, name: &str, number: &str) -> Option<&'a str> {
    let fields: Vec<&str> = line.split(' ').collect();
    let dash = fields.iter().position(|field| *field == "-")?;
    let source = fields.get(dash + 2)?.strip_prefix("/dev/");
    // File systems with numbers of their own, like btrfs, are known by the source alone.
    let same = (!number.is_empty() && fields.get(2) == Some(&number)) || source == Some(name);
    if same { fields.get(4).copied() } else { None }
}
