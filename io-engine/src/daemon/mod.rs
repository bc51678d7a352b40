//! The daemon: starts an engine, serves the management interface, and ends in good order.
//!
//! Start-up order: the command line and the configuration are read whole → the socket is taken →
//! memory and reactors → devices → what is exported → the start-up report → requests are answered.
//! Whatever fails ends the process with nothing left behind, and a socket in use is refused before
//! anything that the running daemon could notice. The end goes the other way: hosts of the NVMe-oF
//! target are disconnected before devices are flushed and removed.
//!
//! The management plane is one thread, which no reactor waits for: it sends closures to reactors
//! and awaits the answers.

mod error;
mod export;
mod flush;
mod http;
mod panics;
mod report;
mod signals;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use jsonrpc::Server;
use jsonrpc::http::HttpOptions;
use jsonrpsee::RpcModule;
use spdk_rs::env::cpu;
use tracing::Level;

use crate::bdev;
use crate::bdev::dev::Factory;
use crate::cli::{DaemonArgs, ExitCode, ExportArgs, RpcServerArgs};
use crate::core::{Engine, EngineOptions};
use crate::rpc::{self, Context};
use crate::subsys::{self, Config};
pub use error::DaemonError;
pub(crate) use flush::Unflushed;
use http::Http;
use signals::Signals;

/// Runs the daemon until it is asked to end.
#[must_use]
pub fn run(args: &DaemonArgs) -> ExitCode {
    guarded(args, "info", None)
}

/// Exports devices until it is asked to end.
#[must_use]
pub fn export(args: &ExportArgs) -> ExitCode {
    guarded(&args.daemon(), "warn", Some(args))
}

fn guarded(args: &DaemonArgs, filter: &str, export: Option<&ExportArgs>) -> ExitCode {
    if let Err(error) = args.log.install(filter) {
        say(&error);
        return ExitCode::Usage;
    }
    panics::install();
    match Plan::of(args, export).and_then(Plan::run) {
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
    http: Option<HttpOptions>,
    /// What is exported from the first moment on, beside the configuration.
    export: Option<&'a ExportArgs>,
}

/// How serving ended.
enum Outcome {
    /// As asked; devices that could not be flushed are named.
    Ended(Result<(), DaemonError>),
    /// A second signal cut the end short.
    Cut,
}

impl<'a> Plan<'a> {
    fn of(args: &'a DaemonArgs, export: Option<&'a ExportArgs>) -> Result<Self, DaemonError> {
        let options = args.env.engine_options()?;
        // Checked again at the start of the reactors; here nothing has happened yet.
        cpu::check_cores(&options.runtime.cores)?;
        let config = args.json.as_deref().map(Config::read).transpose()?;
        let plan = |uri: &bdev::BdevUri| {
            let uri = uri.to_string();
            match bdev::plan(&uri) {
                Ok(factory) => Ok((uri, factory)),
                Err(source) => Err(DaemonError::Bdev { uri, source }),
            }
        };
        let devices = args.bdev.iter().map(plan).collect::<Result<_, _>>()?;
        let http = http::plan(&args.http)?;
        Ok(Self { args, options, config, devices, http, export })
    }

    fn run(mut self) -> Result<ExitCode, DaemonError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(DaemonError::Management)?;
        // From here on a signal is an orderly end, also of the start-up.
        let signals =
            runtime.block_on(async { Signals::listen() }).map_err(DaemonError::Management)?;
        let (context, module, server) = management(&self.args.rpc, self.socket())?;
        let rpc_stats = server.as_ref().map(Server::stats);
        let http = self.http.take();
        let http =
            http.map(|http| Http::start(http, &runtime, &context, module.clone(), rpc_stats));
        let http = http.transpose()?;
        let engine = Engine::start(&self.options)?;
        context.set_engine(Arc::clone(&engine));
        runtime.spawn(subsys::hot_removal(&engine));
        if self.args.wait_for_rpc {
            return self.serve_held(runtime, (server, http), signals, context, engine);
        }
        let mut asked_to_end = signals.clone();
        let made = runtime.block_on(async {
            tokio::select! {
                made = self.make_devices(&context, &engine) => made.map(|()| true),
                () = asked_to_end.received(1) => Ok(false),
            }
        });
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                // Hosts may be connected already to what was made until then.
                runtime.block_on(context.nvmf().stop());
                return Err(error);
            }
        };
        if made {
            report::print(&engine, &self.options, self.args.env.no_huge);
            http.iter().for_each(|http| http.opener()());
        }

        let unflushed = Unflushed::default();
        let served = serve((server, http), &signals, &context, &engine, &unflushed);
        let outcome = runtime.block_on(served);
        end(outcome, runtime, signals, context, engine, &unflushed)
    }

    /// As [`Plan::run`] goes on, but requests are answered before the devices are made: they wait
    /// for `framework_start_init`.
    fn serve_held(
        &self,
        runtime: tokio::runtime::Runtime,
        (server, http): (Option<Server>, Option<Http>),
        signals: Signals,
        context: Arc<Context>,
        engine: Arc<Engine>,
    ) -> Result<ExitCode, DaemonError> {
        context.phase().hold();
        http.iter().for_each(Http::hold);
        tracing::info!("waiting for framework_start_init");
        let unflushed = Unflushed::default();
        let opener = http.as_ref().map(Http::opener);
        let outcome = runtime.block_on(async {
            let start = async {
                context.phase().begun().await;
                self.make_devices(&context, &engine).await?;
                report::print(&engine, &self.options, self.args.env.no_huge);
                context.phase().done();
                opener.into_iter().for_each(|open| open());
                Ok::<(), DaemonError>(())
            };
            tokio::select! {
                outcome = serve((server, http), &signals, &context, &engine, &unflushed) => Ok(outcome),
                Err(error) = start => Err(error),
            }
        });
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                runtime.block_on(context.nvmf().stop());
                return Err(error);
            }
        };
        end(outcome, runtime, signals, context, engine, &unflushed)
    }

    /// Where to answer requests; an export does so only when it is told to.
    fn socket(&self) -> Option<&Path> {
        match self.export {
            Some(export) => export.rpc_socket.as_deref(),
            None => Some(&self.args.rpc_socket),
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
        let mut names = Vec::new();
        for (uri, factory) in &self.devices {
            let made = factory.create(engine).await;
            let name = made.map_err(|source| DaemonError::Bdev { uri: uri.clone(), source })?;
            tracing::info!("device '{name}' is there ({uri})");
            names.push(name);
        }
        if let Some(args) = self.export {
            let text = export::run(args, context, engine, &names).await?;
            // Who has closed standard output does not want to know.
            let _ = writeln!(std::io::stdout(), "{text}");
        }
        Ok(())
    }
}

/// Ends the process after serving has ended.
fn end(
    outcome: Outcome,
    runtime: tokio::runtime::Runtime,
    signals: Signals,
    context: Arc<Context>,
    engine: Arc<Engine>,
    unflushed: &Unflushed,
) -> Result<ExitCode, DaemonError> {
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

/// Answers requests until a signal comes, and then ends what there is.
async fn serve(
    (server, http): (Option<Server>, Option<Http>),
    signals: &Signals,
    context: &Context,
    engine: &Engine,
    unflushed: &Unflushed,
) -> Outcome {
    let (mut first, mut second) = (signals.clone(), signals.clone());
    let work = async {
        let end = async {
            first.received(1).await;
            http.iter().for_each(Http::close);
        };
        let served = match server {
            Some(server) => server.run(end).await,
            None => {
                end.await;
                Ok(())
            }
        };
        if let Some(http) = http {
            http.end().await;
        }
        end_all(context, engine, unflushed).await?;
        Ok(served?)
    };
    tokio::select! {
        ended = work => Outcome::Ended(ended),
        () = second.received(2) => Outcome::Cut,
    }
}

/// The methods, and what they work on.
type Methods = RpcModule<Arc<Context>>;

/// The management interface before there is an engine: what its methods work on, the methods, and
/// the socket, which is taken.
pub(crate) fn management(
    args: &RpcServerArgs,
    socket: Option<&Path>,
) -> Result<(Arc<Context>, Methods, Option<Server>), DaemonError> {
    let context = Context::new();
    let module = rpc::module(&context);
    if let Some(dir) = &args.rpc_root {
        let confined = context.roots().confine(dir);
        confined.map_err(|source| DaemonError::Root { dir: dir.clone(), source })?;
    }
    let bind = |path| Server::bind(path, module.clone(), args.limits());
    let server = socket.map(bind).transpose()?;
    Ok((context, module, server))
}

/// Ends what there is: the target before the devices that it exports.
pub(crate) async fn end_all(
    context: &Context,
    engine: &Engine,
    unflushed: &Unflushed,
) -> Result<(), DaemonError> {
    context.nvmf().stop().await;
    // What is plugged in now comes too late.
    context.hotplug().stop().await;
    flush::end_devices(engine, unflushed).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Invocation;

    #[test]
    fn cores_that_cannot_be_are_refused_before_anything_happens() {
        for (option, value, code, words) in [
            ("--reactor-mask", "0xg", ExitCode::Usage, "--reactor-mask 0xg"),
            ("--reactor-mask", "0", ExitCode::Usage, "--reactor-mask 0"),
            ("--core-list", "1-", ExitCode::Usage, "--core-list 1-"),
            ("--core-list", "4000", ExitCode::Config, "core 4000 does not exist"),
        ] {
            let Ok(Invocation::Daemon(args)) = Invocation::parse(["io-engine", option, value])
            else {
                panic!("{option} {value} is not refused by the command line itself");
            };
            let Err(error) = Plan::of(&args, None) else { panic!("{option} {value}: a plan") };
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.exit_code(), code);
        }
        let Ok(Invocation::Daemon(args)) = Invocation::parse(["io-engine"]) else {
            panic!("no options are needed");
        };
        let plan = Plan::of(&args, None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(plan.options.runtime.cores.len(), 1);
    }
}
