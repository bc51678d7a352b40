//! Requests that are answered while a load runs.

use std::path::Path;
use std::sync::Arc;

use futures::channel::oneshot;
use futures::future::join;
use jsonrpc::{Limits, Server};

use super::PerfError;
use crate::core::Engine;
use crate::daemon::{self, Unflushed};
use crate::rpc::{self, Context};

/// The management interface beside a load.
pub(super) struct Management {
    context: Arc<Context>,
    server: Server,
}

impl Management {
    /// Takes the socket: before the engine is there, as the daemon does, so that a path in use is
    /// refused before anything has happened.
    pub(super) fn bind(path: &Path) -> Result<Self, PerfError> {
        let context = Context::new();
        let module = rpc::module(&context);
        let server = Server::bind(path, module, Limits::default()).map_err(PerfError::Serve)?;
        Ok(Self { context, server })
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
        served.map_err(PerfError::Serve)?;
        ended.map_err(|error| PerfError::End(Box::new(error)))?;
        Ok(result)
    }
}
