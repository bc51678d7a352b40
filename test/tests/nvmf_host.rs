//! The initiator against the engine's own target, over loopback: what happens while I/O goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use anyhow::{Result, anyhow, ensure};
use futures::executor::block_on;
use io_engine::bdev;
use io_engine::core::Engine;
use io_engine_test::fixture;
use io_engine_test::nvmf::{BACKING, Rig, RigOptions, SUBNQN, attach_options};
use io_engine_test::rng::Rng;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{BdevDesc, OpenMode};
use spdk_rs::nvme::{DISCOVERY_NQN, TransportId};
use spdk_rs::nvmf::AnaState;
use spdk_rs::reactor::{ReactorHandle, yield_now};

const URI: &str = "malloc:///backing?size_mb=16&blk_size=512";

/// Writes and verifies until it is told to stop; counts its rounds.
struct Load {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    result: futures::channel::oneshot::Receiver<Result<()>>,
}

impl Load {
    fn start(engine: &Engine, device: &str, reactor: &ReactorHandle, seed: u64) -> Result<Self> {
        let bdev = engine.registry().find(device)?;
        let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "load", None)?;
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (own_stop, own_rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
        let (tell, result) = futures::channel::oneshot::channel();
        let task = reactor.send(move |reactor| {
            let memory = reactor.memory().clone();
            reactor.spawn("load", async move {
                let work = async {
                    let handle = desc.io_handle()?;
                    let mut random = Rng::new(seed);
                    while !own_stop.load(SeqCst) {
                        let blocks = 1 + random.below(40);
                        // Each load has a quarter of the device for itself.
                        let from = seed * 8000 + random.below(7900);
                        let round = own_rounds.fetch_add(1, SeqCst);
                        let len = usize::try_from(blocks * 512)?;
                        let mut buf = memory.alloc(len)?;
                        Rng::new(round).fill(buf.as_mut_slice());
                        let expected = buf.as_slice().to_vec();
                        let done = handle.write(buf, from, blocks).await;
                        ensure!(done.status.is_success(), "write: {}", done.status);
                        let mut buf =
                            done.buf.into_one().ok_or_else(|| anyhow!("the buffer is lost"))?;
                        buf.fill(0);
                        let done = handle.read(buf, from, blocks).await;
                        ensure!(done.status.is_success(), "read: {}", done.status);
                        let buf =
                            done.buf.into_one().ok_or_else(|| anyhow!("the buffer is lost"))?;
                        ensure!(buf.as_slice() == expected, "round {round}: other data");
                        if round % 16 == 0 {
                            let status = handle.flush().await.status;
                            ensure!(status.is_success(), "flush: {status}");
                        }
                        yield_now().await;
                    }
                    anyhow::Ok(())
                };
                let _ = tell.send(work.await);
            });
        });
        block_on(task)?;
        Ok(Self { stop, rounds, result })
    }

    /// Waits until it has come some rounds further.
    fn goes_on(&mut self, what: &str) -> Result<()> {
        let until = self.rounds.load(SeqCst) + 20;
        while self.rounds.load(SeqCst) < until {
            if let Some(ended) = self.result.try_recv()? {
                ended?;
                return Err(anyhow!("{what}: it ended"));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        self.stop.store(true, SeqCst);
        block_on(self.result)?
    }
}

fn first(engine: &Engine) -> Result<ReactorHandle> {
    engine.runtime().first().cloned().ok_or_else(|| anyhow!("no reactor"))
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..20_000_000 {
        if holds() {
            return Ok(());
        }
        std::thread::yield_now();
    }
    Err(anyhow!("{what} did not come to be"))
}

#[test]
fn the_target_goes_and_comes_back_under_load() -> Result<()> {
    let engine = fixture::engine(1)?;
    let rig =
        Rig::new(&engine, URI, RigOptions { hdgst: true, ddgst: true, ..Default::default() })?;
    let listener = rig.listen()?;
    rig.attach("c", listener)?;
    let mut loads = (0..3)
        .map(|seed| Load::start(&engine, "cn1", &first(&engine)?, seed))
        .collect::<Result<Vec<_>>>()?;
    for _ in 0..3 {
        loads.iter_mut().try_for_each(|load| load.goes_on("before"))?;
        block_on(rig.subsystem.remove_listener(listener))?;
        rig.listen_at(listener.address)?;
        loads.iter_mut().try_for_each(|load| load.goes_on("after"))?;
    }
    let reconnects = rig.driver.controllers(None)[0].paths[0].reconnects;
    ensure!(reconnects >= 3, "it was connected anew {reconnects} times");
    loads.into_iter().try_for_each(Load::finish)?;
    rig.close(&engine)
}

#[test]
fn another_path_takes_over_as_the_states_say() -> Result<()> {
    let engine = fixture::engine(1)?;
    let rig = Rig::new(&engine, URI, RigOptions { ana: true, ..Default::default() })?;
    let paths = [rig.listen()?, rig.listen()?];
    rig.attach("c", paths[0])?;
    ensure!(rig.attach("c", paths[1])? == ["cn1"], "the same namespace");
    let mut load = Load::start(&engine, "cn1", &first(&engine)?, 0)?;
    let states = || rig.driver.io_paths(None).iter().map(|p| p.ana_state).collect::<Vec<_>>();
    let set = |path: usize, state| rig.subsystem.set_ana_state(paths[path], None, state);
    load.goes_on("at first")?;
    for round in 0..4 {
        let (from, to) = (round % 2, 1 - round % 2);
        block_on(set(to, AnaState::Optimized))?;
        block_on(set(from, AnaState::Inaccessible))?;
        until("the states", || states()[from] == "inaccessible" && states()[to] == "optimized")?;
        load.goes_on("on the other path")?;
    }
    // A whole path goes.
    block_on(set(1, AnaState::Optimized))?;
    block_on(rig.subsystem.remove_listener(paths[0]))?;
    load.goes_on("without the first path")?;
    let reconnects = rig.driver.controllers(None)[0].paths[1].reconnects;
    ensure!(reconnects == 0, "the second path was never lost");
    load.finish()?;
    rig.close(&engine)
}

#[test]
fn namespaces_come_go_and_grow_under_load() -> Result<()> {
    let engine = fixture::engine(1)?;
    let rig = Rig::new(&engine, URI, RigOptions::default())?;
    rig.attach("c", rig.listen()?)?;
    let mut load = Load::start(&engine, "cn1", &first(&engine)?, 0)?;
    let other = block_on(bdev::create(&engine, "malloc:///other?size_mb=4&blk_size=4096"))?;
    rig.add_namespace(&engine, &other, 2)?;
    until("the second namespace", || engine.registry().find("cn2").is_ok())?;
    let second = engine.registry().find("cn2")?;
    ensure!((second.num_blocks(), second.info().block_len) == (1024, 4096), "{second:?}");
    drop(second);
    let backing = engine.registry().find(BACKING)?;
    let before = backing.num_blocks();
    block_on(backing.resize(before / 2 + before / 4));
    until("the new size", || {
        engine.registry().find("cn1").is_ok_and(|d| d.num_blocks() == before / 2 + before / 4)
    })?;
    load.goes_on("with another size")?;
    block_on(backing.resize(before));
    block_on(rig.subsystem.remove_namespace(2))?;
    until("the second is gone", || engine.registry().find("cn2").is_err())?;
    load.goes_on("without the second")?;
    load.finish()?;
    // The first one goes under load: every I/O ends, with a status that says why.
    let load = Load::start(&engine, "cn1", &first(&engine)?, 0)?;
    block_on(rig.subsystem.remove_namespace(1))?;
    let ended = block_on(load.result)?;
    let words = ended.err().map(|error| error.to_string()).unwrap_or_default();
    let gone = NvmeStatus::INVALID_NAMESPACE.to_string();
    ensure!(words.contains(&gone), "it ended with '{words}'");
    until("the first is gone", || engine.registry().find("cn1").is_err())?;
    drop(backing);
    block_on(bdev::destroy(&engine, "other"))?;
    rig.close(&engine)
}

#[test]
fn subsystems_are_discovered_and_followed() -> Result<()> {
    let engine = fixture::engine(1)?;
    let rig = Rig::new(&engine, URI, RigOptions::default())?;
    let listener = rig.listen()?;
    let trid = TransportId::tcp(listener.address, DISCOVERY_NQN)?;
    let options = attach_options(&RigOptions::default());
    let found = block_on(rig.driver.discover(&trid, &options))?;
    let named: Vec<_> = found.iter().filter(|entry| !entry.is_discovery).collect();
    ensure!(named.len() == 1 && named[0].trid.subnqn == SUBNQN, "{found:?}");
    block_on(rig.driver.start_discovery("d", &trid, &options))?;
    ensure!(engine.registry().find("d0n1").is_ok(), "what was discovered is attached");
    let second = rig.listen()?;
    until("the second path", || rig.driver.io_paths(Some("d0n1")).len() == 2)?;
    block_on(rig.subsystem.remove_listener(second))?;
    until("one path", || rig.driver.io_paths(Some("d0n1")).len() == 1)?;
    block_on(rig.driver.stop_discovery("d"))?;
    ensure!(rig.driver.controllers(None).is_empty(), "nothing is left");
    rig.close(&engine)
}

#[test]
fn a_host_that_is_not_allowed_is_told_so() -> Result<()> {
    let engine = fixture::engine(1)?;
    let rig = Rig::new(&engine, URI, RigOptions::default())?;
    let listener = rig.listen()?;
    block_on(rig.subsystem.set_allow_any_host(false));
    let refused = rig.attach("c", listener).map_err(|error| error.to_string());
    ensure!(refused.as_ref().is_err_and(|e| e.contains("host not allowed")), "{refused:?}");
    ensure!(rig.driver.controllers(None).is_empty(), "nothing is left");
    rig.close(&engine)
}
