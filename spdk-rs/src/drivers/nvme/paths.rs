//! What is asked about the paths of namespaces, and said of them: which is in use on which core,
//! what went over each, which is preferred, and which controllers are to be connected at all.

use std::sync::Arc;

use super::api::{IoPathInfo, NvmeError};
use super::channel::ChannelCore;
use super::command::WORD_CONTROLLER;
use super::controller::Controller;
use super::core::NvmeCore;
use super::head::Head;
use super::{NvmeDriver, home};
use crate::NvmeStatus;
use crate::bdev::{BdevIo, ChannelCounters, IoStats};
use crate::env::cpu::CoreId;
use crate::nvme::TransportId;

impl NvmeDriver {
    /// The paths of the block devices, or of the one of a name, as each core sees them.
    pub async fn io_paths_by_core(&self, bdev: Option<&str>) -> Vec<(CoreId, Vec<IoPathInfo>)> {
        let mut heads = self.shared.heads();
        heads.retain(|head| bdev.is_none_or(|name| name == head.name));
        let ids: Vec<u64> = heads.iter().map(|head| head.id).collect();
        let mut all = Vec::with_capacity(self.shared.reactors.len());
        for reactor in &self.shared.reactors {
            let ids = ids.clone();
            let asked = reactor.call(move |reactor| {
                let nvme = NvmeCore::of(reactor);
                let current = |id: &u64| nvme.channel(*id).and_then(|channel| channel.current());
                ids.iter().map(current).collect::<Vec<Option<u64>>>()
            });
            // A reactor that has ended uses no path.
            let current = asked.await.unwrap_or_default();
            let mut paths = Vec::new();
            for (index, head) in heads.iter().enumerate() {
                let used = current.get(index).copied().flatten();
                paths.extend(
                    head.path_infos()
                        .into_iter()
                        .map(|path| IoPathInfo { current: Some(path.controller) == used, ..path }),
                );
            }
            all.push((reactor.core(), paths));
        }
        all
    }

    /// What went over each path of a block device, over all cores. Paths whose controller was
    /// attached without `io_path_stat` are left out.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`].
    pub async fn path_stats(&self, bdev: &str) -> Result<Vec<(TransportId, IoStats)>, NvmeError> {
        let head = self.head(bdev)?;
        let (mut paths, _) = head.paths();
        paths.retain(|path| path.controller.options.io_path_stat);
        let kept = |path: &super::head::Path| head.kept_stats(path.controller.id);
        let mut sums: Vec<IoStats> = paths.iter().map(kept).collect();
        for reactor in &self.shared.reactors {
            let id = head.id;
            let asked = reactor.call(move |reactor| {
                NvmeCore::of(reactor).channel(id).map(|channel| channel.path_stats())
            });
            let Ok(Some(counted)) = asked.await else { continue };
            for (controller, stats) in counted {
                let index = paths.iter().position(|path| path.controller.id == controller);
                if let Some(sum) = index.and_then(|index| sums.get_mut(index)) {
                    sum.merge(&stats);
                }
            }
        }
        let trids = paths.into_iter().map(|path| path.controller.trid.clone());
        Ok(trids.zip(sums).collect())
    }

    /// Has a block device use a path whenever it is among the best and one path is used at a time:
    /// the path of the controller with an identifier.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`], [`NvmeError::NoPath`].
    pub async fn set_preferred_path(&self, bdev: &str, cntlid: u16) -> Result<(), NvmeError> {
        let head = self.head(bdev)?;
        let (paths, _) = head.paths();
        let has_id = |c: &Controller| c.info().is_some_and(|info| info.cntlid == cntlid);
        let wanted = paths.iter().find(|path| has_id(&path.controller));
        let path = format!("controller {cntlid}");
        let wanted = wanted.ok_or_else(|| NvmeError::NoPath { name: bdev.to_owned(), path })?;
        head.prefer(wanted.controller.id);
        self.shared.refresh(&head).await;
        Ok(())
    }

    /// Ends the connections of a controller (all its paths, or the one with a controller
    /// identifier), which then stays disconnected until it is enabled. I/O without another path
    /// fails. That it is disabled already is no error.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`], [`NvmeError::NoPath`], or [`NvmeError::Failed`] when it is being
    /// detached.
    pub async fn disable(&self, name: &str, cntlid: Option<u16>) -> Result<(), NvmeError> {
        for controller in self.find_by_id(name, cntlid)? {
            let disabled = home::disable(&controller).await;
            disabled.map_err(|why| failed("disabling", name, why))?;
        }
        Ok(())
    }

    /// Connects a controller that was disabled, or one of its paths, and returns when that is
    /// done. That it is enabled is no error.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`], [`NvmeError::NoPath`], or [`NvmeError::Failed`] when a path was
    /// given up.
    pub async fn enable(&self, name: &str, cntlid: Option<u16>) -> Result<(), NvmeError> {
        let mut found = self.find_by_id(name, cntlid)?;
        found.retain(|controller| controller.is_disabled());
        for controller in found {
            controller.set_disabled(false);
            let connected = home::reset(&controller).await;
            connected.map_err(|why| failed("enabling", name, why))?;
        }
        Ok(())
    }

    fn head(&self, bdev: &str) -> Result<Arc<Head>, NvmeError> {
        let head = self.shared.heads().into_iter().find(|head| head.name == bdev);
        head.ok_or_else(|| NvmeError::NotFound { name: bdev.to_owned() })
    }
}

fn failed(what: &'static str, name: &str, why: String) -> NvmeError {
    NvmeError::Failed { what, name: name.to_owned(), why }
}

impl ChannelCore {
    /// The counters of a path that is taken over: those that it has had, or new ones; none when it
    /// is not to be counted.
    pub(super) fn stats_of(&self, controller: &Controller) -> Option<Arc<ChannelCounters>> {
        if !controller.options.io_path_stat {
            return None;
        }
        let paths = self.paths.borrow();
        let known = paths.iter().find(|path| path.controller.id == controller.id);
        let known = known.and_then(|path| path.stats.clone());
        let fresh = || {
            let block_len = self.head.first().map_or(1, |first| first.namespace.block_len);
            Arc::new(ChannelCounters::new(block_len))
        };
        Some(known.unwrap_or_else(fresh))
    }

    /// Counts an I/O that has ended, or one of its tries, for its path.
    #[inline(never)]
    pub(super) fn count(&self, io: &mut BdevIo, status: NvmeStatus) {
        let controller = io.driver_context()[WORD_CONTROLLER];
        let paths = self.paths.borrow();
        let path = paths.iter().find(|path| path.controller.id == controller);
        let Some(stats) = path.and_then(|path| path.stats.as_ref()) else { return };
        let ticks = self.reactor.now().saturating_sub(io.submit_ticks());
        if status.is_success() {
            stats.succeeded(io.kind(), io.num_blocks(), ticks);
        } else {
            stats.failed(io.kind(), ticks);
        }
    }

    /// What went over each path from this core, by the number of its controller.
    fn path_stats(&self) -> Vec<(u64, IoStats)> {
        let paths = self.paths.borrow();
        let counted = paths.iter().filter_map(|path| {
            let stats = path.stats.as_ref()?;
            Some((path.controller.id, stats.snapshot()))
        });
        counted.collect()
    }

    /// The number of the controller whose path I/O of this core takes.
    fn current(&self) -> Option<u64> {
        let paths = self.paths.borrow();
        let last = self.last.get();
        let index = self.pick(&paths);
        // Whoever asks takes no path.
        self.last.set(last);
        paths.get(index?).map(|path| path.controller.id)
    }
}

impl Drop for ChannelCore {
    fn drop(&mut self) {
        for (controller, stats) in self.path_stats() {
            self.head.keep_stats(controller, &stats);
        }
    }
}
