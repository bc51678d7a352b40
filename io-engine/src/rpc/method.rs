//! A method: its name, how its parameters are read, and what it does.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use jsonrpsee::SubscriptionSink;
use nix::errno::Errno;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Context;
use super::errors::{self, RpcResult};
use super::params::{self, Defs, Given, ParamError, Request};

/// When a method may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At any time.
    Always,
    /// Before `framework_start_init` only.
    Startup,
    /// After `framework_start_init` only.
    Runtime,
}

type Check = fn(&Given) -> Result<(), ParamError>;
type Call = Box<dyn Fn(Arc<Context>, &Given) -> BoxFuture<'static, RpcResult<Value>> + Send + Sync>;
type Begin = Box<dyn Fn(&Context, &Given) -> RpcResult<Feed> + Send + Sync>;

/// What sends to a subscriber, until the subscriber is gone.
pub type Feed = Box<dyn FnOnce(SubscriptionSink) -> BoxFuture<'static, ()> + Send>;

/// How a method that is no call goes on: over a WebSocket only, what is subscribed to is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The name that messages are sent under.
    pub notification: &'static str,
    /// The method that ends it.
    pub end: &'static str,
}

/// What a method does.
enum Run {
    Call(Call),
    Subscribe(Subscription, Begin),
}

/// A method of the management interface.
pub struct Method {
    name: &'static str,
    summary: &'static str,
    answer: &'static str,
    answer_schema: fn() -> Value,
    when: When,
    group: &'static str,
    subsystem: Option<&'static str>,
    params: Defs,
    check: Check,
    run: Run,
}

impl Method {
    /// A method that reads a `P` and answers an `R`. The summary is a sentence about what it does;
    /// it may be called after the engine has started.
    pub fn new<P, R, F, Fut>(name: &'static str, summary: &'static str, run: F) -> Self
    where
        P: Request + Send + 'static,
        R: Answer,
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
        Self::of::<P, R>(name, summary, Run::Call(call))
    }

    /// A method that reads a `P` and subscribes its caller to something.
    pub fn subscription<P>(
        name: &'static str,
        summary: &'static str,
        shape: Subscription,
        begin: impl Fn(&Context, P) -> RpcResult<Feed> + Send + Sync + 'static,
    ) -> Self
    where
        P: Request + 'static,
    {
        let begin: Begin = Box::new(move |context, given| {
            begin(context, params::read::<P>(given).map_err(|error| errors::params(&error))?)
        });
        Self::of::<P, Value>(name, summary, Run::Subscribe(shape, begin))
    }

    fn of<P: Request, R: Answer>(name: &'static str, summary: &'static str, run: Run) -> Self {
        Self {
            name,
            summary,
            answer: R::USUAL,
            answer_schema: R::schema,
            when: When::Runtime,
            group: "",
            subsystem: None,
            params: P::PARAMS,
            check: |given| params::read::<P>(given).map(drop),
            run,
        }
    }

    /// The same, and what it answers.
    #[must_use]
    pub fn answers(mut self, answer: &'static str) -> Self {
        self.answer = answer;
        self
    }

    /// The same as a step of a configuration file, in the section of `subsystem`.
    #[must_use]
    pub fn in_config(mut self, subsystem: &'static str) -> Self {
        self.subsystem = Some(subsystem);
        self
    }

    /// The same, in a group of the reference.
    #[must_use]
    pub(super) fn in_group(mut self, group: &'static str) -> Self {
        self.group = group;
        self
    }

    /// The same, callable at a time.
    #[must_use]
    pub fn at(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it does, in a sentence.
    #[must_use]
    pub fn summary(&self) -> &'static str {
        self.summary
    }

    /// What it answers.
    #[must_use]
    pub fn answer(&self) -> &'static str {
        self.answer
    }

    /// The JSON schema of what it answers.
    #[must_use]
    pub fn answer_schema(&self) -> Value {
        (self.answer_schema)()
    }

    /// The group of the reference that it is in.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.group
    }

    /// Its parameters.
    #[must_use]
    pub fn params(&self) -> Defs {
        self.params
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

    /// How it goes on, if it is a subscription.
    #[must_use]
    pub fn subscribes(&self) -> Option<Subscription> {
        match self.run {
            Run::Call(_) => None,
            Run::Subscribe(shape, _) => Some(shape),
        }
    }

    /// Calls the method.
    ///
    /// # Errors
    /// The error as it is answered to a client; always one for a subscription.
    pub fn call(
        &self,
        context: Arc<Context>,
        given: &Given,
    ) -> BoxFuture<'static, RpcResult<Value>> {
        match &self.run {
            Run::Call(call) => call(context, given),
            Run::Subscribe(..) => {
                let words = format!("{} sends to who asks, which needs a WebSocket", self.name);
                Box::pin(std::future::ready(Err(errors::errno(Errno::EOPNOTSUPP, words))))
            }
        }
    }

    /// Begins a subscription: what is to be given the subscriber.
    ///
    /// # Errors
    /// The error as it is answered to a client; always one for a call.
    pub fn begin(&self, context: &Context, given: &Given) -> RpcResult<Feed> {
        match &self.run {
            Run::Subscribe(_, begin) => begin(context, given),
            Run::Call(_) => {
                let words = format!("{} is called, and sends nothing later", self.name);
                Err(errors::errno(Errno::EOPNOTSUPP, words))
            }
        }
    }
}

/// What a method can answer.
pub trait Answer: Serialize {
    /// What an answer of this type says if the method says nothing else of it.
    const USUAL: &'static str = "";

    /// The JSON schema of it.
    fn schema() -> Value;
}

impl Answer for bool {
    const USUAL: &'static str = "`true`";

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

impl Answer for String {
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl Answer for &'static str {
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl Answer for Uuid {
    const USUAL: &'static str = "UUID";

    fn schema() -> Value {
        json!({ "type": "string", "format": "uuid" })
    }
}

impl Answer for u32 {
    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
    }
}

impl Answer for u64 {
    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0 })
    }
}

/// Objects of any members; which ones the reference says.
impl Answer for Value {
    fn schema() -> Value {
        json!({ "type": ["object", "array", "string", "number", "boolean", "null"] })
    }
}

impl<T: Answer> Answer for Vec<T> {
    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
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
