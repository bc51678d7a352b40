//! A target and an initiator in one engine, over loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use futures::executor::block_on;
use io_engine::bdev;
use io_engine::core::Engine;
use spdk_rs::drivers::nvme::{AttachOptions, MultipathMode, MultipathPolicy, NvmeDriver};
use spdk_rs::nvme::TransportId;
use spdk_rs::nvme::controller::ControllerOptions;
use spdk_rs::nvmf::tcp::{TcpOptions, TcpTransport};
use spdk_rs::nvmf::{
    ListenAddress, NamespaceOptions, Nqn, Subsystem, SubsystemOptions, Target, TargetOptions,
    Transport, TransportKind,
};
use uuid::Uuid;

/// The subsystem's name.
pub const SUBNQN: &str = "nqn.2024-01.io.io-engine:dut";
/// The initiator's name.
pub const HOSTNQN: &str = "nqn.2014-08.org.nvmexpress:uuid:b7c5ae42-2d4f-4a5e-9c6b-0f8f6a1d2e3c";
/// The name of the device that is exported.
pub const BACKING: &str = "backing";

/// What is different about a rig.
#[derive(Clone, Copy, Debug, Default)]
pub struct RigOptions {
    /// Header digests.
    pub hdgst: bool,
    /// Data digests.
    pub ddgst: bool,
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
    /// Whether the target reports ANA.
    pub ana: bool,
    /// Options of the transport; the defaults when none.
    pub tcp: Option<TcpOptions>,
}

/// A target with one subsystem, and an initiator.
pub struct Rig {
    /// The target.
    pub target: Arc<Target>,
    /// Its subsystem.
    pub subsystem: Arc<Subsystem>,
    /// The initiator.
    pub driver: Arc<NvmeDriver>,
    options: RigOptions,
}

/// The options that rigs attach with.
#[must_use]
pub fn attach_options(options: &RigOptions) -> AttachOptions {
    let hostid = Uuid::from_u128(0xb7c5_ae42_2d4f_4a5e_9c6b_0f8f_6a1d_2e3c);
    let controller = ControllerOptions {
        hdgst: options.hdgst,
        ddgst: options.ddgst,
        ctrlr_loss_timeout_sec: -1,
        reconnect_delay_sec: 1,
        ..ControllerOptions::new(HOSTNQN, hostid)
    };
    let (multipath, policy) = (MultipathMode::Multipath, MultipathPolicy::ActivePassive);
    AttachOptions { controller, multipath, policy }
}

impl Rig {
    /// Exports the device of a URI (its name has to be [`BACKING`]) as namespace 1.
    ///
    /// # Errors
    /// When a part of it cannot be made.
    pub fn new(engine: &Engine, uri: &str, options: RigOptions) -> Result<Self> {
        let name = block_on(bdev::create(engine, uri)).with_context(|| uri.to_owned())?;
        ensure!(name == BACKING, "the device is called '{name}'");
        let reactors = engine.runtime().reactors();
        let target = block_on(Target::start(reactors.to_vec(), TargetOptions::default()))?;
        let tcp = TcpTransport::new(options.tcp.unwrap_or_default(), reactors.to_vec())?;
        let transport: Arc<dyn Transport> = tcp;
        target.add_transport(transport)?;
        let subsystem = SubsystemOptions {
            allow_any_host: true,
            ana_reporting: options.ana,
            ..SubsystemOptions::new(Nqn::new(SUBNQN)?)
        };
        let subsystem = block_on(target.create_subsystem(subsystem))?;
        let driver = NvmeDriver::new(engine.registry(), reactors);
        let rig = Self { target, subsystem, driver, options };
        rig.add_namespace(engine, BACKING, 1)?;
        Ok(rig)
    }

    /// Exports a device under a number, with a UUID that no device here has.
    ///
    /// # Errors
    /// The target's.
    pub fn add_namespace(&self, engine: &Engine, device: &str, nsid: u32) -> Result<()> {
        let bdev = engine.registry().find(device)?;
        let uuid = Some(Uuid::from_u128(0x1000 + u128::from(nsid)));
        let options = NamespaceOptions { nsid: Some(nsid), uuid, ..NamespaceOptions::new(bdev) };
        block_on(self.subsystem.add_namespace(options))?;
        Ok(())
    }

    /// Listens on a free port.
    ///
    /// # Errors
    /// The target's.
    pub fn listen(&self) -> Result<ListenAddress> {
        let ip = if self.options.ipv6 { "[::1]:0" } else { "127.0.0.1:0" };
        self.listen_at(ip.parse()?)
    }

    /// Listens at an address.
    ///
    /// # Errors
    /// The target's.
    pub fn listen_at(&self, address: SocketAddr) -> Result<ListenAddress> {
        let address = ListenAddress { transport: TransportKind::Tcp, address };
        Ok(block_on(self.subsystem.add_listener(address))?.address())
    }

    /// The identifier of the path through a listener.
    ///
    /// # Errors
    /// Never: the name is right.
    pub fn trid(&self, listener: ListenAddress) -> Result<TransportId> {
        Ok(TransportId::tcp(listener.address, SUBNQN)?)
    }

    /// Attaches the path through a listener as controller `name`.
    ///
    /// # Errors
    /// The initiator's.
    pub fn attach(&self, name: &str, listener: ListenAddress) -> Result<Vec<String>> {
        let options = attach_options(&self.options);
        Ok(block_on(self.driver.attach(name, &self.trid(listener)?, &options))?)
    }

    /// Detaches every controller and ends the target.
    ///
    /// # Errors
    /// The initiator's.
    pub fn close(self, engine: &Engine) -> Result<()> {
        for info in self.driver.controllers(None) {
            block_on(self.driver.detach(&info.name, None))?;
        }
        block_on(self.target.stop());
        block_on(bdev::destroy(engine, BACKING))?;
        Ok(())
    }
}
