//! `log_*`: the level of the log, in SPDK's words. There is one log, on standard error, so SPDK's
//! two levels (of what is printed, and of what goes to syslog) are one here.

use std::sync::Arc;

use async_trait::async_trait;
use nix::errno::Errno;
use serde_json::{Map, Value, json};

use super::errors::{self, RpcResult};
use super::method::When;
use super::params::def::{choice_any_case, required, words};
use super::params::{Def, Defs, Nothing, ParamError, Params, Request};
use super::saved::{Call, Subsystem};
use super::{Context, Method};
use crate::cli::log_control::{self, FLAGS, LEVELS, Level};

pub(super) fn methods() -> Vec<Method> {
    let set = "Sets the level of the log. There is one log: `log_set_level` and \
               `log_set_print_level` are the same.";
    let get = "Tells the level of the log.";
    let level = "level, as `log_set_level` takes it";
    vec![
        Method::new("log_set_level", set, set_level).at(When::Always).in_config("log"),
        Method::new("log_get_level", get, get_level).at(When::Always).answers(level),
        Method::new("log_set_print_level", set, set_level).at(When::Always).in_config("log"),
        Method::new("log_get_print_level", get, get_level).at(When::Always).answers(level),
        Method::new("log_set_flag", "Logs everything of a part of the engine.", set_flag)
            .at(When::Always)
            .in_config("log"),
        Method::new("log_clear_flag", "Logs a part of the engine at the level of all.", clear_flag)
            .at(When::Always),
        Method::new("log_get_flags", "Tells which parts are logged with everything.", get_flags)
            .at(When::Always)
            .answers("an object: by the name of the part, `true` or `false`"),
    ]
}

struct SetLevel(Level);

impl Request for SetLevel {
    const PARAMS: Defs = &[&[required(
        "level",
        choice_any_case(&words(&LEVELS)),
        "The least important lines that are logged; `NOTICE` and `INFO` are the same.",
    )]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required_choice("level", &LEVELS).map(Self)
    }
}

fn done(result: Result<(), log_control::NoLog>) -> RpcResult<bool> {
    result.map(|()| true).map_err(|error| errors::errno(Errno::ENOTSUP, error.to_string()))
}

async fn set_level(_: Arc<Context>, request: SetLevel) -> RpcResult<bool> {
    done(log_control::set_level(request.0))
}

async fn get_level(_: Arc<Context>, _: Nothing) -> RpcResult<&'static str> {
    Ok(log_control::level().name())
}

struct Flag(String);

/// A part of the engine.
const FLAG: Def = required("flag", choice_any_case(&words(&FLAGS)), "The part, or all of them.");

impl Request for Flag {
    const PARAMS: Defs = &[&[FLAG]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let flag: String = params.required("flag")?;
        Ok(Self(flag.to_lowercase()))
    }
}

async fn set_flag(_: Arc<Context>, request: Flag) -> RpcResult<bool> {
    done(log_control::set_flag(&request.0, true))
}

async fn clear_flag(_: Arc<Context>, request: Flag) -> RpcResult<bool> {
    done(log_control::set_flag(&request.0, false))
}

async fn get_flags(_: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    let flags = log_control::flags();
    let parts = FLAGS.iter().filter(|(name, _)| *name != "all");
    let shown: Map<String, Value> =
        parts.map(|(name, _)| ((*name).to_owned(), flags.contains(name).into())).collect();
    Ok(shown.into())
}

/// The subsystem `log`: what differs from the command line.
pub(super) struct Log;

#[async_trait]
impl Subsystem for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn depends_on(&self) -> &'static [&'static str] {
        &[]
    }

    async fn calls(&self, _: &Context) -> RpcResult<Vec<Call>> {
        let mut all = Vec::new();
        if let Some(level) = log_control::level_set() {
            all.push(Call::new("log_set_level", json!({ "level": level.name() })));
        }
        let flag = |flag: &&str| Call::new("log_set_flag", json!({ "flag": flag }));
        all.extend(log_control::flags().iter().map(flag));
        Ok(all)
    }
}
