//! A target with one namespace in memory, on one or two reactors.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::executor::block_on;
use spdk_rs_sys::cpu::{self, CoreSet};

use super::host::{Digests, Host};
use crate::drivers::malloc::{self, MallocOptions};
use crate::env::Memory;
use crate::nvmf::subsystem::{NamespaceOptions, Nqn, SubsystemOptions};
use crate::nvmf::target::{ListenAddress, Target, TargetOptions};
use crate::nvmf::tcp::{TcpOptions, TcpTransport};
use crate::nvmf::transport::TransportKind;
use crate::reactor::{PollMode, Runtime, RuntimeOptions};

pub(super) const SUBSYSTEM: &str = "nqn.2024-01.io.engine:test";
/// Blocks of 512 bytes of the namespace.
pub(super) const BLOCKS: u64 = 8192;

pub(super) struct Rig {
    pub(super) transport: Arc<TcpTransport>,
    pub(super) address: SocketAddr,
    target: Option<Arc<Target>>,
    runtime: Option<Runtime>,
    pub(super) memory: Memory,
}

impl Rig {
    pub(super) fn new(options: TcpOptions) -> Self {
        Self::with(options, 64 << 20, 2, "127.0.0.1:0")
    }

    pub(super) fn with(options: TcpOptions, bytes: usize, cores: usize, listen: &str) -> Self {
        let memory = Memory::ordinary(bytes).unwrap();
        let cores: CoreSet = cpu::allowed().iter().take(cores).collect();
        let runtime = RuntimeOptions { cores, mode: PollMode::default(), ring: true };
        let runtime = Runtime::start(&runtime, memory.clone()).unwrap();
        let reactors = runtime.reactors().to_vec();
        let target = Target::start(reactors.clone(), TargetOptions::default());
        let target = block_on(target).unwrap();
        let transport = TcpTransport::new(options, reactors).unwrap();
        target.add_transport(Arc::clone(&transport) as _).unwrap();
        let mut subsystem = SubsystemOptions::new(Nqn::new(SUBSYSTEM).unwrap());
        subsystem.allow_any_host = true;
        let subsystem = block_on(target.create_subsystem(subsystem)).unwrap();
        let device = MallocOptions {
            name: "m0".to_owned(),
            uuid: None,
            block_len: 512,
            phys_block_len: 512,
            num_blocks: BLOCKS,
        };
        let bdev = malloc::create(&memory, device).unwrap();
        block_on(subsystem.add_namespace(NamespaceOptions::new(bdev))).unwrap();
        let address =
            ListenAddress { transport: TransportKind::Tcp, address: listen.parse().unwrap() };
        let listener = block_on(subsystem.add_listener(address)).unwrap();
        let address = listener.address().address;
        let (target, runtime) = (Some(target), Some(runtime));
        Self { transport, address, target, runtime, memory }
    }

    /// A host that has not said anything.
    pub(super) fn silent(&self) -> Host {
        Host::open(self.address)
    }

    /// A host with an admin queue, enabled, and the number of its controller.
    pub(super) fn admin(&self, digests: Digests) -> (Host, u16) {
        let mut host = Host::greeted(self.address, digests, 0);
        let cntlid = host.connect(0, 31, 0xffff).ok().unwrap();
        let cntlid = u16::try_from(cntlid & 0xffff).unwrap();
        host.enable();
        (host, cntlid)
    }

    /// A host with an admin queue and an I/O queue of `entries` entries.
    pub(super) fn host(&self, digests: Digests, entries: u16) -> (Host, Host) {
        let (admin, cntlid) = self.admin(digests);
        let mut io = Host::greeted(self.address, digests, 0);
        io.connect(1, entries - 1, cntlid).ok().unwrap();
        (admin, io)
    }

    /// Waits until so many connections are left.
    pub(super) fn until_connections(&self, count: u64) {
        while self.transport.stats().current != count {
            std::thread::yield_now();
        }
    }

    /// Ends everything, and finds all memory free.
    pub(super) fn end(mut self) {
        self.until_connections(0);
        if let Some(target) = self.target.take() {
            block_on(target.stop());
        }
        drop(self.runtime.take());
        let report = self.memory.report();
        assert_eq!(report.free_bytes, report.size_bytes, "buffers were lost");
    }
}
