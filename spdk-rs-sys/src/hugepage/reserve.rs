//! Reserving huge pages: the kernel's pools, of each NUMA node or of the machine.
//!
//! The root directory can be another one than `/`, so that all of this runs on a tree of files.
//!
//! Invariants:
//!
//! * A pool is never made smaller but by [`HugePools::release`].
//! * What the kernel gave is read back and told; less than was asked for is an error.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::sysfs;

/// A pool of huge pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePool {
    /// The NUMA node; none on a machine that shows no nodes.
    pub node: Option<u32>,
    /// Size of a page in KiB.
    pub page_kib: u64,
    /// Pages in the pool.
    pub total: u64,
    /// Pages that nobody has touched.
    pub free: u64,
}

/// Why pages cannot be reserved.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// There is no such node.
    #[error("NUMA node {node} does not exist; there are {}", list(there))]
    NoNode {
        /// The node asked for.
        node: u32,
        /// The nodes there are.
        there: Vec<u32>,
    },
    /// There are no pages of that size.
    #[error("there are no huge pages of {page_kib} KiB; there are pages of {} KiB", list(there))]
    NoSize {
        /// The size asked for.
        page_kib: u64,
        /// The sizes there are.
        there: Vec<u64>,
    },
    /// More than there is memory.
    #[error("{pages} pages of {page_kib} KiB are more than the {memory_kib} KiB of memory {place}")]
    TooMany {
        /// Pages asked for.
        pages: u64,
        /// Size of a page in KiB.
        page_kib: u64,
        /// Memory there is, in KiB.
        memory_kib: u64,
        /// Where, in words.
        place: String,
    },
    /// The kernel's file cannot be written.
    #[error("cannot write {pages} to {path}{}", sysfs::hint(source))]
    Write {
        /// The number.
        pages: u64,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel found fewer.
    #[error(
        "the pool {place} has {got} of {pages} pages of {page_kib} KiB; memory is in use or in pieces: reserve \
         after a boot, or free caches (sysctl vm.drop_caches=3, vm.compact_memory=1)"
    )]
    Short {
        /// Where, in words.
        place: String,
        /// Pages asked for.
        pages: u64,
        /// Pages in the pool now, which stay.
        got: u64,
        /// Size of a page in KiB.
        page_kib: u64,
    },
}

fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// The pools of this machine, or of a tree of files.
#[derive(Clone, Debug)]
pub struct HugePools {
    root: PathBuf,
}

impl HugePools {
    /// This machine's.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/")
    }

    /// Those of a tree that looks like this machine's `/sys` and `/proc`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The NUMA nodes; none on a machine that shows none.
    #[must_use]
    pub fn nodes(&self) -> Vec<u32> {
        let number = |name: &str| name.strip_prefix("node")?.parse().ok();
        numbers(&self.root.join("sys/devices/system/node"), number)
    }

    /// Every pool: by node, and by the size of its pages.
    #[must_use]
    pub fn all(&self) -> Vec<HugePool> {
        let nodes = self.nodes();
        let places: Vec<Option<u32>> =
            if nodes.is_empty() { vec![None] } else { nodes.into_iter().map(Some).collect() };
        let of = |node: Option<u32>| {
            let sizes = self.sizes(node);
            sizes.into_iter().filter_map(move |page_kib| self.pool(node, page_kib))
        };
        places.into_iter().flat_map(of).collect()
    }

    /// Makes a pool at least as large as `pages`. Without a node it is the machine's, whose pages
    /// the kernel spreads over the nodes.
    ///
    /// # Errors
    /// [`ReserveError`]; only with [`ReserveError::Short`] something was changed.
    pub fn reserve(
        &self,
        node: Option<u32>,
        page_kib: u64,
        pages: u64,
    ) -> Result<HugePool, ReserveError> {
        let before = self.find(node, page_kib)?;
        let memory_kib = self.memory_kib(node).unwrap_or(u64::MAX);
        if pages.checked_mul(page_kib).is_none_or(|kib| kib > memory_kib) {
            let place = place(node);
            return Err(ReserveError::TooMany { pages, page_kib, memory_kib, place });
        }
        if before.total >= pages {
            return Ok(before);
        }
        self.write(node, page_kib, pages)?;
        enough(self.find(node, page_kib)?, pages)
    }

    /// Gives the pages of a pool back that nobody uses, and says what is left of it.
    ///
    /// # Errors
    /// [`ReserveError`].
    pub fn release(&self, node: Option<u32>, page_kib: u64) -> Result<HugePool, ReserveError> {
        self.find(node, page_kib)?;
        self.write(node, page_kib, 0)?;
        self.find(node, page_kib)
    }

    fn write(&self, node: Option<u32>, page_kib: u64, pages: u64) -> Result<(), ReserveError> {
        let path = self.directory(node).join(format!("hugepages-{page_kib}kB/nr_hugepages"));
        let written = fs::write(&path, pages.to_string());
        written.map_err(|source| ReserveError::Write { pages, path, source })
    }

    fn directory(&self, node: Option<u32>) -> PathBuf {
        match node {
            Some(node) => self.root.join(format!("sys/devices/system/node/node{node}/hugepages")),
            None => self.root.join("sys/kernel/mm/hugepages"),
        }
    }

    fn sizes(&self, node: Option<u32>) -> Vec<u64> {
        let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok();
        numbers(&self.directory(node), size)
    }

    fn pool(&self, node: Option<u32>, page_kib: u64) -> Option<HugePool> {
        let directory = self.directory(node).join(format!("hugepages-{page_kib}kB"));
        let total = sysfs::read_u64(directory.join("nr_hugepages"))?;
        let free = sysfs::read_u64(directory.join("free_hugepages"))?;
        Some(HugePool { node, page_kib, total, free })
    }

    fn find(&self, node: Option<u32>, page_kib: u64) -> Result<HugePool, ReserveError> {
        if let Some(node) = node {
            let there = self.nodes();
            if !there.contains(&node) {
                return Err(ReserveError::NoNode { node, there });
            }
        }
        self.pool(node, page_kib)
            .ok_or_else(|| ReserveError::NoSize { page_kib, there: self.sizes(node) })
    }

    /// The memory of a node, or of the machine.
    fn memory_kib(&self, node: Option<u32>) -> Option<u64> {
        let path = match node {
            Some(node) => format!("sys/devices/system/node/node{node}/meminfo"),
            None => "proc/meminfo".to_owned(),
        };
        let text = sysfs::read_text(self.root.join(path))?;
        let (_, rest) = text.split_once("MemTotal:")?;
        rest.split_whitespace().next()?.parse().ok()
    }
}

/// A pool after pages were asked for, if it has as many.
fn enough(now: HugePool, pages: u64) -> Result<HugePool, ReserveError> {
    let HugePool { node, page_kib, total: got, .. } = now;
    if got >= pages {
        return Ok(now);
    }
    Err(ReserveError::Short { place: place(node), pages, got, page_kib })
}

/// A place in words.
fn place(node: Option<u32>) -> String {
    node.map_or_else(|| "of this machine".to_owned(), |node| format!("of NUMA node {node}"))
}

/// The numbers that the names in a directory stand for, in order.
fn numbers<T: Ord>(path: &std::path::Path, number: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut numbers: Vec<T> = names.filter_map(|name| number(&name)).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &std::path::Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A machine of two nodes with 1 GiB each.
    fn machine() -> (tempfile::TempDir, HugePools) {
        let dir = tempfile::tempdir().unwrap();
        for node in [0, 1] {
            let base = format!("sys/devices/system/node/node{node}");
            let memory =
                format!("Node {node} MemTotal:       1048576 kB\nNode {node} MemFree: 7 kB");
            put(dir.path(), &format!("{base}/meminfo"), &memory);
            for (kib, pages) in [(2048, 4 * node), (1_048_576, 0)] {
                let pool = format!("{base}/hugepages/hugepages-{kib}kB");
                put(dir.path(), &format!("{pool}/nr_hugepages"), &format!("{pages}\n"));
                put(dir.path(), &format!("{pool}/free_hugepages"), "0\n");
            }
        }
        put(dir.path(), "sys/devices/system/node/possible", "0-1");
        put(dir.path(), "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "4");
        put(dir.path(), "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "4");
        let pools = HugePools::at(dir.path());
        (dir, pools)
    }

    #[test]
    fn pools_are_listed_by_node() {
        let (dir, pools) = machine();
        assert_eq!(pools.nodes(), [0, 1]);
        let all = pools.all();
        let shape: Vec<_> = all.iter().map(|one| (one.node, one.page_kib, one.total)).collect();
        let gib = 1_048_576;
        let both = [(Some(0), 2048, 0), (Some(0), gib, 0), (Some(1), 2048, 4), (Some(1), gib, 0)];
        assert_eq!(shape, both);
        fs::remove_dir_all(dir.path().join("sys/devices")).unwrap();
        let one = HugePool { node: None, page_kib: 2048, total: 4, free: 4 };
        assert_eq!(pools.all(), [one]);
    }

    #[test]
    fn pages_are_reserved_and_given_back() {
        let (_dir, pools) = machine();
        assert_eq!(pools.reserve(Some(0), 2048, 8).unwrap().total, 8);
        // A pool that is large enough stays as it is.
        assert_eq!(pools.reserve(Some(1), 2048, 3).unwrap().total, 4);
        assert_eq!(pools.reserve(None, 2048, 6).unwrap().total, 6);
        assert_eq!(pools.release(Some(0), 2048).unwrap().total, 0);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let (dir, pools) = machine();
        let refused = |node, kib, pages| pools.reserve(node, kib, pages).unwrap_err().to_string();
        assert_eq!(refused(Some(2), 2048, 1), "NUMA node 2 does not exist; there are 0, 1");
        let words = refused(Some(0), 64, 1);
        assert!(words.ends_with("there are pages of 2048, 1048576 KiB"), "{words}");
        let words = refused(Some(0), 2048, 513);
        assert!(words.contains("more than the 1048576 KiB of memory of NUMA node 0"), "{words}");
        assert!(refused(Some(0), 2048, u64::MAX).contains("more than"));
        let got = HugePool { node: Some(1), page_kib: 2048, total: 5, free: 5 };
        assert_eq!(enough(got, 5).unwrap(), got);
        let words = enough(got, 6).unwrap_err().to_string();
        assert!(
            words.starts_with("the pool of NUMA node 1 has 5 of 6 pages of 2048 KiB"),
            "{words}"
        );
        let file = dir.path().join("sys/devices/system/node/node0/hugepages/hugepages-2048kB");
        fs::remove_file(file.join("nr_hugepages")).unwrap();
        let words = refused(Some(0), 2048, 1);
        assert!(words.contains("there are no huge pages of 2048 KiB"), "{words}");
    }
}
