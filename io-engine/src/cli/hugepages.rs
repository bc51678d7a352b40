//! `io-engine pci hugepages`: shows the kernel's pools of huge pages, and reserves pages.

use std::fmt::Write as _;

use clap::Args;
use comfy_table::{Table, presets};
use spdk_rs::env::system::{HugePool, HugePools};

use crate::size::Size;

/// Size of the pages unless another is asked for.
const PAGE_KIB_DEFAULT: u64 = 2048;

/// `io-engine pci hugepages [--hugemem MIB | --nrhuge PAGES | --clear] [--hugenode NODE,…]`. The
/// words are those of the environment variables of SPDK's `setup.sh`.
#[derive(Debug, Clone, Args)]
pub struct HugepagesArgs {
    /// Memory to reserve, in MiB, in all
    #[arg(long, value_name = "MIB", conflicts_with_all = ["nrhuge", "clear"],
          value_parser = clap::value_parser!(u64).range(1..=1 << 34))]
    pub hugemem: Option<u64>,
    /// Pages to reserve, in all
    #[arg(long, value_name = "PAGES", conflicts_with = "clear",
          value_parser = clap::value_parser!(u64).range(1..=1 << 44))]
    pub nrhuge: Option<u64>,
    /// NUMA nodes to reserve them on, evenly; the kernel spreads them otherwise
    #[arg(long, value_name = "NODE", value_delimiter = ',')]
    pub hugenode: Vec<u32>,
    /// Size of a page in KiB
    #[arg(long, value_name = "KIB", default_value_t = PAGE_KIB_DEFAULT)]
    pub hugepgsz: u64,
    /// Give back what nobody uses
    #[arg(long)]
    pub clear: bool,
}

/// Does it.
pub(super) fn execute(pools: &HugePools, args: &HugepagesArgs) -> anyhow::Result<String> {
    let mut nodes = args.hugenode.clone();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.len() != args.hugenode.len() {
        anyhow::bail!("--hugenode names a node twice");
    }
    let places: Vec<Option<u32>> =
        if nodes.is_empty() { vec![None] } else { nodes.into_iter().map(Some).collect() };
    let page_kib = args.hugepgsz;
    let wanted = match (args.hugemem, args.nrhuge) {
        (Some(mib), _) => Some((mib * 1024).div_ceil(page_kib.max(1))),
        (None, pages) => pages,
    };
    let mut text = String::new();
    if args.clear {
        for place in places {
            describe(&mut text, &pools.release(place, page_kib)?);
        }
        return Ok(text);
    }
    let Some(wanted) = wanted else { return Ok(table(&pools.all())) };
    // The first nodes get what does not come out even.
    let count = places.len() as u64;
    for (place, index) in places.into_iter().zip(0..) {
        let pages = wanted / count + u64::from(index < wanted % count);
        // A node of which none are wanted is checked all the same.
        describe(&mut text, &pools.reserve(place, page_kib, pages)?);
    }
    Ok(text)
}

fn describe(text: &mut String, pool: &HugePool) {
    let HugePool { node, page_kib, total, free } = *pool;
    let place = node.map_or_else(|| "this machine".to_owned(), |node| format!("NUMA node {node}"));
    let size = Size(total * page_kib * 1024);
    let _ =
        writeln!(text, "{place}: {total} pages of {}, {size}, {free} free", Size(page_kib * 1024));
}

fn table(pools: &[HugePool]) -> String {
    if pools.is_empty() {
        return "the kernel shows no pools of huge pages".to_owned();
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(["node", "page", "pages", "free"]);
    for pool in pools {
        table.add_row([
            pool.node.map_or_else(|| "-".to_owned(), |node| node.to_string()),
            Size(pool.page_kib * 1024).to_string(),
            pool.total.to_string(),
            pool.free.to_string(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A machine of two nodes without reserved pages.
    fn machine() -> (tempfile::TempDir, HugePools) {
        let dir = tempfile::tempdir().expect("a directory");
        for place in ["devices/system/node/node0", "devices/system/node/node1", "kernel/mm"] {
            let pool = dir.path().join("sys").join(place).join("hugepages/hugepages-2048kB");
            fs::create_dir_all(&pool).expect("a pool");
            for file in ["nr_hugepages", "free_hugepages"] {
                fs::write(pool.join(file), "0").expect("a file");
            }
        }
        let pools = HugePools::at(dir.path());
        (dir, pools)
    }

    fn args(hugemem: Option<u64>, nrhuge: Option<u64>, hugenode: &[u32]) -> HugepagesArgs {
        let (hugenode, hugepgsz, clear) = (hugenode.to_vec(), PAGE_KIB_DEFAULT, false);
        HugepagesArgs { hugemem, nrhuge, hugenode, hugepgsz, clear }
    }

    #[test]
    fn pages_are_spread_over_the_nodes_that_are_named() {
        let (_dir, pools) = machine();
        let run = |args: HugepagesArgs| execute(&pools, &args).expect("pages");
        let said = run(args(Some(7), None, &[1, 0]));
        assert_eq!(said.lines().next(), Some("NUMA node 0: 2 pages of 2MiB, 4MiB, 0 free"));
        let totals = |pools: &HugePools| pools.all().iter().map(|p| p.total).collect::<Vec<_>>();
        assert_eq!(totals(&pools), [2, 2]);
        run(args(None, Some(9), &[0, 1]));
        assert_eq!(totals(&pools), [5, 4]);
        assert!(run(args(None, Some(3), &[])).starts_with("this machine: 3 pages"));
        let shown = run(args(None, None, &[]));
        assert!(shown.contains("2MiB") && shown.lines().count() == 6, "{shown}");
        let clear = HugepagesArgs { clear: true, ..args(None, None, &[1]) };
        assert_eq!(run(clear), "NUMA node 1: 0 pages of 2MiB, 0, 0 free\n");
    }

    #[test]
    fn nonsense_is_refused() {
        let (_dir, pools) = machine();
        let refused =
            |args: HugepagesArgs| execute(&pools, &args).expect_err("it cannot be").to_string();
        assert!(refused(args(Some(2), None, &[0, 0])).contains("twice"));
        assert!(refused(args(Some(2), None, &[7])).contains("NUMA node 7 does not exist"));
        let odd = HugepagesArgs { hugepgsz: 3, ..args(Some(2), None, &[]) };
        assert!(refused(odd).contains("no huge pages of 3 KiB"));
        let none = HugepagesArgs { hugepgsz: 0, ..args(Some(2), None, &[]) };
        assert!(refused(none).contains("no huge pages of 0 KiB"));
    }
}
