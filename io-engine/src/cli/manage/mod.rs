//! The sub-commands that manage a running daemon. Each is one call of a method, and a way to show
//! what it answers: a table for people, or the JSON as the daemon sent it (`-o json`).

mod events;
mod inject;
mod nvmf;
mod pool;
mod stats;
pub(super) mod view;
mod vol;

use clap::Args;
use serde_json::{Map, Value};

use super::remote::{call, fail, print};
use super::{ClientArgs, ExitCode, OutputFormat};
pub use events::EventsArgs;
pub use events::run as events;
pub use inject::InjectCommand;
pub use nvmf::NvmfCommand;
pub use pool::PoolCommand;
pub use stats::StatsCommand;
use view::Column;
pub use vol::VolCommand;

/// Where to find the daemon, and how to print what it answers.
#[derive(Debug, Clone, Args)]
pub struct ManageArgs {
    /// Where to find the daemon.
    #[command(flatten)]
    pub client: ClientArgs,
    /// How to print the answer
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t, global = true)]
    pub output: OutputFormat,
}

/// How an answer is shown to people.
#[derive(Clone, Copy, Debug)]
enum Show {
    /// It says no more than that it was done.
    Nothing,
    /// A name, a number: by itself.
    Plain,
    /// A list of objects: a line for each.
    List(&'static [Column]),
    /// A list of objects that is a member of the answer.
    Member(&'static str, &'static [Column]),
    /// An object: a line for each of its members.
    Facts,
}

/// A call of a method.
#[derive(Clone, Debug)]
struct Call {
    method: &'static str,
    params: Map<String, Value>,
    show: Show,
}

impl Call {
    fn new(method: &'static str, show: Show) -> Self {
        Self { method, params: Map::new(), show }
    }

    /// The same with a parameter.
    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.insert(name.to_owned(), value.into());
        self
    }

    /// The same with a parameter, if it was given.
    fn with_some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The same with a parameter that is true, if it was asked for.
    fn with_flag(self, name: &str, on: bool) -> Self {
        if on { self.with(name, true) } else { self }
    }

    fn run(self, args: &ManageArgs) -> ExitCode {
        let Self { method, params, show } = self;
        let params = (!params.is_empty()).then_some(Value::Object(params));
        let answer = match call(&args.client, method, params) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        match (args.output, show) {
            (OutputFormat::Json, _) => print(&format!("{answer:#}")),
            (OutputFormat::Table, Show::Nothing) => ExitCode::Success,
            (OutputFormat::Table, show) => match shown(&answer, show) {
                Some(text) => print(&text),
                None => fail(ExitCode::Failure, &format!("{method}: unexpected result: {answer}")),
            },
        }
    }
}

/// An answer for people; nothing when it is of another kind than it should be.
fn shown(answer: &Value, show: Show) -> Option<String> {
    match show {
        Show::Nothing => Some(String::new()),
        Show::Plain => Some(view::text(answer)),
        Show::List(columns) => Some(view::table(columns, answer.as_array()?)),
        Show::Member(name, columns) => Some(view::table(columns, answer.get(name)?.as_array()?)),
        Show::Facts => Some(view::facts(answer.as_object()?)),
    }
}

/// What a command comes to.
trait Manage {
    fn call(&self) -> Call;
}

macro_rules! commands {
    ($($(#[$doc:meta])* $args:ident($command:ident) $run:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Args)]
        pub struct $args {
            /// The daemon and the format.
            #[command(flatten)]
            pub manage: ManageArgs,
            /// What to do.
            #[command(subcommand)]
            pub command: $command,
        }

        /// Does what the command says.
        #[must_use]
        pub fn $run(args: &$args) -> ExitCode {
            args.command.call().run(&args.manage)
        }
    )*};
}

commands! {
    /// `io-engine pool …`.
    PoolArgs(PoolCommand) pool;
    /// `io-engine vol …`.
    VolArgs(VolCommand) vol;
    /// `io-engine nvmf …`.
    NvmfArgs(NvmfCommand) nvmf;
    /// `io-engine inject …`.
    InjectArgs(InjectCommand) inject;
    /// `io-engine stats …`.
    StatsArgs(StatsCommand) stats;
}

#[cfg(test)]
mod tests;
