//! Requests that are answered while a load runs.

use std::sync::Arc;

use futures::channel::oneshot;
use futures::future::join;
use jsonrpc::Server;

use super::PerfError;
use crate::core::Engine;
use crate::daemon::{self, DaemonError, Unflushed};
use crate::perf::options::PerfArgs;
use crate::rpc::Context;

/// The management interface beside a load.
pub(super) struct Management {
    context: Arc<Context>,
    server: Server,
}

impl Management {
    /// Takes the socket, if there is to be one: before the engine is there, as the daemon does, so
    /// that a path in use is refused before anything has happened.
    pub(super) fn bind(args: &PerfArgs) -> Result<Option<Self>, PerfError> {
        let Some(path) = args.rpc_socket.as_deref() else { return Ok(None) };
        let (context, _, server) = daemon::management(&args.rpc, Some(path))?;
        Ok(server.map(|server| Self { context, server }))
    }

    /// Answers requests until `load` has ended, and then ends what was made by requests.
    pub(super) async fn beside<R>(
        self,
        engine: &Arc<Engine>,
        load: impl Future<Output = Result<R, PerfError>>,
    ) -> Result<R, PerfError> {
        let Self { context, server } = self;
        context.set_engine(Arc::clone(engine));
        let (end, ended) = oneshot::channel::<()>();
        let load = async {
            let result = load.await;
            drop(end);
            result
        };
        let serving = server.run(async {
            let _ = ended.await;
        });
        let (result, served) = join(load, serving).await;
        if matches!(result, Err(PerfError::Abandoned)) {
            // The end of a device waits for its I/O.
            return result;
        }
        let ended = daemon::end_all(&context, engine, &Unflushed::default()).await;
        let result = result?;
        served.map_err(DaemonError::from)?;
        ended?;
        Ok(result)
    }
}
