//! The daemon: starts an engine, serves the management interface, and ends in good order.
//!
//! Start-up order: the command line and the configuration are read whole → the socket is taken →
//! memory and reactors → devices → the start-up report → requests are answered. Whatever fails
//! ends the process with nothing left behind, and a socket in use is refused before anything that
//! the running daemon could notice.
//!
//! The management plane is one thread, which no reactor waits for: it sends closures to reactors
//! and awaits the answers.

mod error;
mod flush;
mod options;
mod panics;
mod report;
mod signals;

use std::sync::Arc;

use jsonrpc::{Limits, Server};
use tracing::Level;

use crate::bdev;
use crate::bdev::dev::Factory;
use crate::cli::{DaemonArgs, ExitCode};
use crate::core::{Engine, EngineOptions};
use crate::rpc::{self, Context};
use crate::subsys::Config;
pub use error::DaemonError;
use flush::Unflushed;
pub(crate) use options::engine_options;
use signals::Signals;

/// Runs the daemon until it is asked to end.
#[must_use]
pub fn run(args: &DaemonArgs) -> ExitCode {
    if let Err(error) = args.log.install("info") {
        say(&error);
        return ExitCode::Usage;
    }
    panics::install();
    match Plan::of(args).and_then(Plan::run) {
        Ok(code) => code,
        Err(error) => {
            say(&error);
            error.exit_code()
        }
    }
}

/// Says why the daemon ends: in the log, or beside it where the log is silenced.
fn say(error: &(dyn std::error::Error + 'static)) {
    let words = rpc::errors::with_causes(error);
    if tracing::enabled!(Level::ERROR) {
        tracing::error!("{words}");
    } else {
        eprintln!("io-engine: {words}");
    }
}

/// What the daemon is going to do: checked, and nothing of it done.
struct Plan<'a> {
    args: &'a DaemonArgs,
    options: EngineOptions,
    config: Option<Config>,
    /// The devices of the command line: the URI, and what makes it.
    devices: Vec<(String, Box<dyn Factory>)>,
}

/// How serving ended.
enum Outcome {
    /// As asked; devices that could not be flushed are named.
    Ended(Result<(), DaemonError>),
    /// A second signal cut the end short.
    Cut,
}

impl<'a> Plan<'a> {
    fn of(args: &'a DaemonArgs) -> Result<Self, DaemonError> {
        let options = engine_options(&args.env)?;
        let config = args.json.as_deref().map(Config::read).transpose()?;
        let plan = |uri: &bdev::BdevUri| {
            let uri = uri.to_string();
            match bdev::plan(&uri) {
                Ok(factory) => Ok((uri, factory)),
                Err(source) => Err(DaemonError::Bdev { uri, source }),
            }
        };
        let devices = args.bdev.iter().map(plan).collect::<Result<_, _>>()?;
        Ok(Self { args, options, config, devices })
    }

    fn run(self) -> Result<ExitCode, DaemonError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DaemonError::Management)?;
        // From here on a signal is an orderly end, also of the start-up.
        let signals =
            runtime.block_on(async { Signals::listen() }).map_err(DaemonError::Management)?;
        let context = Context::new();
        let module = rpc::module(&context);
        let server = Server::bind(&self.args.rpc_socket, module, Limits::default())?;
        let engine = Engine::start(&self.options)?;
        context.set_engine(Arc::clone(&engine));
        let mut asked_to_end = signals.clone();
        let made = runtime.block_on(async {
            tokio::select! {
                made = self.make_devices(&context, &engine) => made.map(|()| true),
                () = asked_to_end.received(1) => Ok(false),
            }
        })?;
        if made {
            report::print(&engine, &self.options, self.args.env.no_huge);
        }

        let unflushed = Unflushed::default();
        let outcome = runtime.block_on(async {
            let (mut first, mut second) = (signals.clone(), signals.clone());
            let work = async {
                let served = server.run(async { first.received(1).await }).await;
                flush::end_devices(&engine, &unflushed).await?;
                Ok(served?)
            };
            tokio::select! {
                ended = work => Outcome::Ended(ended),
                () = second.received(2) => Outcome::Cut,
            }
        });
        signals.close();
        match outcome {
            Outcome::Ended(ended) => {
                // Methods that are still under way hold the engine.
                drop(runtime);
                drop((context, engine));
                ended?;
                tracing::info!("ended");
                Ok(ExitCode::Success)
            }
            Outcome::Cut => {
                let left = unflushed.names(&engine);
                tracing::error!("a second signal: ended at once; {left}");
                // A reactor that hangs would be waited for: the process ends with it instead.
                runtime.shutdown_background();
                std::mem::forget((context, engine));
                Ok(ExitCode::Failure)
            }
        }
    }

    async fn make_devices(
        &self,
        context: &Arc<Context>,
        engine: &Engine,
    ) -> Result<(), DaemonError> {
        if let Some(config) = &self.config {
            config.apply(context).await?;
            tracing::info!(steps = config.len(), "the configuration is applied");
        }
        for (uri, factory) in &self.devices {
            let made = factory.create(engine).await;
            let name = made.map_err(|source| DaemonError::Bdev { uri: uri.clone(), source })?;
            tracing::info!("device '{name}' is there ({uri})");
        }
        Ok(())
    }
}
