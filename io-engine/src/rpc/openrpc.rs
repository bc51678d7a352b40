//! `rpc.discover`: the methods as an OpenRPC document (OpenRPC 1.3.2), made of the definitions that
//! requests are checked against.

use std::sync::Arc;

use serde_json::{Value, json};

use super::errors::RpcResult;
use super::params::def::{Need, each};
use super::params::{Nothing, schema};
use super::{Context, Method, When};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("rpc.discover", "Describes every method (ours).", discover)
            .at(When::Always)
            .answers("an OpenRPC document"),
    ]
}

async fn discover(_: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    Ok(document())
}

/// The OpenRPC document of all methods.
#[must_use]
pub fn document() -> Value {
    json!({
        "openrpc": "1.3.2",
        "info": {
            "title": "io-engine",
            "description": "The management interface of a userspace storage engine, in SPDK's \
                            JSON-RPC dialect.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "methods": super::methods().iter().map(of_method).collect::<Vec<_>>(),
    })
}

fn of_method(method: &Method) -> Value {
    let done = each(method.params()).filter(|def| def.is_done());
    // The document wants what is required first.
    let required = |def: &&_| is_required(def);
    let params: Vec<Value> = (done.clone().filter(required))
        .chain(done.clone().filter(|def| !is_required(def)))
        .map(|def| {
            json!({
                "name": def.name,
                "description": def.about,
                "required": is_required(def),
                "schema": schema::of_def(def),
            })
        })
        .collect();
    let refused: Vec<Value> = each(method.params())
        .filter_map(|def| match def.need {
            Need::NotDone { reason } => Some(json!({ "name": def.name, "reason": reason })),
            _ => None,
        })
        .collect();
    let mut shown = json!({
        "name": method.name(),
        "summary": method.summary(),
        "tags": [{ "name": method.group() }],
        "paramStructure": "by-name",
        "params": params,
        "result": {
            "name": "result",
            "description": method.answer(),
            "schema": method.answer_schema(),
        },
        "x-callable": match method.when() {
            When::Always => "always",
            When::Startup => "startup",
            When::Runtime => "runtime",
        },
    });
    if let Some(shape) = method.subscribes() {
        shown["x-transport"] = "websocket".into();
        shown["x-notification"] = shape.notification.into();
        shown["x-unsubscribe"] = shape.end.into();
    }
    if !refused.is_empty() {
        shown["x-refused-parameters"] = refused.into();
    }
    if let Some(subsystem) = method.subsystem() {
        shown["x-configuration-subsystem"] = subsystem.into();
    }
    shown
}

fn is_required(def: &super::params::Def) -> bool {
    matches!(def.need, Need::Required)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::params::Given;

    /// Reads `json` as parameters of `method` and says whether they are taken.
    fn taken(method: &Method, params: &Value) -> Result<(), String> {
        let given: Given = serde_json::from_value(params.clone()).map_err(|e| e.to_string())?;
        method.check(&given).map_err(|error| error.to_string())
    }

    #[test]
    fn the_document_is_one() {
        let text = include_str!("../../tests/data/openrpc-meta-schema.json");
        // The meta-schema leaves schemas to a page on the web; what is in this document is draft 7.
        let text = text.replace(
            "https://meta.json-schema.tools/#/definitions/JSONSchemaObject/properties/$ref",
            "http://json-schema.org/draft-07/schema#/properties/$ref",
        );
        let text = text
            .replace("https://meta.json-schema.tools/", "http://json-schema.org/draft-07/schema#")
            .replace("https://meta.json-schema.tools", "http://json-schema.org/draft-07/schema#");
        let meta: Value = serde_json::from_str(&text).expect("the meta-schema is JSON");
        let validator = jsonschema::validator_for(&meta).expect("the meta-schema is a schema");
        let document = document();
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
        let broken = json!({ "openrpc": "1.3.2", "info": {}, "methods": [{ "name": 5 }] });
        assert!(!validator.is_valid(&broken), "the validator sees what is wrong");
    }

    #[test]
    fn what_its_schemas_refuse_is_refused() {
        // Only what a schema can say; the generator of bad input goes further.
        for method in crate::rpc::methods() {
            let schema = schema::of_object(method.params());
            let validator = jsonschema::validator_for(&schema).expect("a schema");
            for def in each(method.params()).filter(|def| def.is_done()) {
                for value in [json!(null), json!(-1), json!(1.5), json!([]), json!({}), json!("")] {
                    let params = json!({ def.name: value });
                    if !validator.is_valid(&params) {
                        let error = taken(&method, &params).expect_err(&params.to_string());
                        assert!(!error.is_empty(), "{}: {params}", method.name());
                    }
                }
            }
        }
    }

    #[test]
    fn every_method_says_what_it_does_and_answers() {
        for method in crate::rpc::methods() {
            let name = method.name();
            assert!(method.summary().ends_with('.'), "summary of {name}");
            assert!(!method.answer().is_empty(), "answer of {name}");
            assert!(!method.group().is_empty(), "group of {name}");
            let mut names: Vec<_> = each(method.params()).map(|def| def.name).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(names.len(), count, "{name} defines a parameter twice");
            for def in each(method.params()) {
                assert!(!def.about.is_empty(), "{} of {name}", def.name);
                if let Need::Only { neutral, .. } = def.need {
                    let value: Value = serde_json::from_str(neutral).expect(def.name);
                    assert_eq!(value.to_string(), neutral, "{} of {name}", def.name);
                }
            }
        }
    }
}
