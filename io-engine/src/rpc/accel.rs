//! `accel_get_opc_assignments`, `accel_get_module_info`, `accel_get_stats`: who makes digests, and how
//! many were made.
//!
//! There is one module, the processor's own instructions, chosen once per process.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use spdk_rs::env::digest::Sha256Impl;
use spdk_rs::env::{Work, WorkCount};

use super::errors::RpcResult;
use super::params::Nothing;
use super::{Context, Method};

/// SPDK's name for what the processor does.
const MODULE: &str = "software";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("accel_get_opc_assignments", "Tells who makes digests.", assignments).answers(
            "object: the operation and `software`; `crc32c` is SPDK's, `sha256` and `blake3` are \
             ours",
        ),
        Method::new("accel_get_module_info", "Lists who could make digests.", modules).answers(
            "list of one: `module` `software`, `supported ops`; ours: `implementations`, the \
             instructions that each is made with here, for many blocks at once",
        ),
        Method::new("accel_get_stats", "Tells how many digests the reactors made.", stats).answers(
            "`operations`: `opcode`, `module_name`, `executed`, `failed` (none can), `num_bytes`; \
             SPDK's counts of sequences, which there are none of: 0",
        ),
    ]
}

async fn assignments(_: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    let one = |work: Work| (work.name().to_owned(), MODULE.into());
    Ok(Value::Object(Work::ALL.into_iter().map(one).collect()))
}

/// What a digest is made with on this processor.
fn implementation(work: Work) -> String {
    match work {
        Work::Crc32c => crc_fast::get_calculator_target(crc_fast::CrcAlgorithm::Crc32Iscsi),
        Work::Sha256 => Sha256Impl::chosen(Sha256Impl::Avx512.width()).name().to_owned(),
        // Its crate does not say.
        Work::Blake3 => MODULE.to_owned(),
    }
}

async fn modules(_: Arc<Context>, _: Nothing) -> RpcResult<Vec<Value>> {
    let made = |work: Work| (work.name().to_owned(), implementation(work).into());
    let implementations: Map<String, Value> = Work::ALL.into_iter().map(made).collect();
    Ok(vec![json!({
        "module": MODULE,
        "supported ops": Work::ALL.map(Work::name),
        "implementations": implementations,
    })])
}

async fn stats(context: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    let mut all = [WorkCount::default(); Work::ALL.len()];
    for reactor in context.engine()?.runtime().reactors() {
        // One that has ended has forgotten what it made.
        let counted = reactor.call(|_| Work::counted()).await.unwrap_or_default();
        for (sum, one) in all.iter_mut().zip(counted) {
            *sum = WorkCount { times: sum.times + one.times, bytes: sum.bytes + one.bytes };
        }
    }
    let made = Work::ALL.into_iter().zip(all).filter(|(_, count)| count.times != 0);
    let operations: Vec<Value> = made
        .map(|(work, count)| {
            json!({
                "opcode": work.name(),
                "module_name": MODULE,
                "executed": count.times,
                "failed": 0,
                "num_bytes": count.bytes,
            })
        })
        .collect();
    Ok(json!({
        "sequence_executed": 0,
        "sequence_failed": 0,
        "sequence_outstanding": 0,
        "task_outstanding": 0,
        "operations": operations,
        "retry_task": 0,
        "retry_sequence": 0,
        "retry_iobuf": 0,
        "retry_bufdesc": 0,
    }))
}
