//! A method: its name, how its parameters are read, and what it does.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::Context;
use super::errors::{self, RpcResult};
use super::params::{self, Given, ParamError, Request};

/// When a method may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At any time.
    Always,
    /// Before the engine has started, which is over when the socket is served.
    Startup,
}

type Check = fn(&Given) -> Result<(), ParamError>;
type Call = Box<dyn Fn(Arc<Context>, &Given) -> BoxFuture<'static, RpcResult<Value>> + Send + Sync>;

/// A method of the management interface.
pub struct Method {
    name: &'static str,
    when: When,
    subsystem: Option<&'static str>,
    parameters: &'static [&'static str],
    check: Check,
    call: Call,
}

impl Method {
    /// A method that reads a `P` and answers an `R`.
    pub fn new<P, R, F, Fut>(name: &'static str, run: F) -> Self
    where
        P: Request + Send + 'static,
        R: Serialize,
        F: Fn(Arc<Context>, P) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = RpcResult<R>> + Send + 'static,
    {
        let call: Call = Box::new(move |context, given| match params::read::<P>(given) {
            Ok(request) => {
                let answer = run(context, request);
                Box::pin(async move { to_json(&answer.await?) })
            }
            Err(error) => Box::pin(std::future::ready(Err(errors::params(&error)))),
        });
        let check: Check = |given| params::read::<P>(given).map(drop);
        Self { name, when: When::Always, subsystem: None, parameters: P::NAMES, check, call }
    }

    /// The same as a step of a configuration file, in the section of `subsystem`.
    #[must_use]
    pub fn in_config(mut self, subsystem: &'static str) -> Self {
        self.subsystem = Some(subsystem);
        self
    }

    /// The same, callable at start-up only.
    #[must_use]
    pub fn at_startup(mut self) -> Self {
        self.when = When::Startup;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The names of its parameters.
    #[must_use]
    pub fn parameters(&self) -> &'static [&'static str] {
        self.parameters
    }

    /// When it may be called.
    #[must_use]
    pub fn when(&self) -> When {
        self.when
    }

    /// The section of a configuration file that it may stand in.
    #[must_use]
    pub fn subsystem(&self) -> Option<&'static str> {
        self.subsystem
    }

    /// Reads the parameters and does nothing.
    ///
    /// # Errors
    /// As a call would refuse them.
    pub fn check(&self, given: &Given) -> Result<(), ParamError> {
        (self.check)(given)
    }

    /// Calls the method.
    ///
    /// # Errors
    /// The error as it is answered to a client.
    pub fn call(
        &self,
        context: Arc<Context>,
        given: &Given,
    ) -> BoxFuture<'static, RpcResult<Value>> {
        (self.call)(context, given)
    }
}

fn to_json(answer: &impl Serialize) -> RpcResult<Value> {
    serde_json::to_value(answer)
        .map_err(|error| jsonrpc::codes::internal_error(format!("the answer is no JSON: {error}")))
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Method({})", self.name)
    }
}
