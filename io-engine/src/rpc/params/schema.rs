//! JSON Schema (draft 7) of parameters, for the OpenRPC document.

use serde_json::{Map, Value, json};

use super::def::{Def, Defs, Kind, NAME_BYTES_MAX, Need, each};

/// What a parameter's value may be.
#[must_use]
pub fn of_def(def: &Def) -> Value {
    if let Need::Only { neutral, .. } = def.need {
        // A neutral value that is no JSON is a bug that the test of the document finds.
        let neutral: Value = serde_json::from_str(neutral).unwrap_or_default();
        return json!({ "const": neutral, "description": def.about });
    }
    let mut schema = of_kind(&def.kind);
    if let (Need::Optional(default), Some(members)) = (def.need, schema.as_object_mut()) {
        members.extend(default.value().map(|value| ("default".to_owned(), value)));
    }
    schema
}

/// What an object of parameters may be. What is refused whatever its value is not in it.
#[must_use]
pub fn of_object(defs: Defs) -> Value {
    let done = each(defs).filter(|def| def.is_done());
    let properties: Map<String, Value> = done
        .clone()
        .map(|def| {
            let mut schema = of_def(def);
            schema["description"] = def.about.into();
            (def.name.to_owned(), schema)
        })
        .collect();
    let required = done.filter(|def| matches!(def.need, Need::Required));
    let required: Vec<&str> = required.map(|def| def.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn of_kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string", "minLength": 1 }),
        Kind::Name => json!({
            "type": "string",
            "minLength": 1,
            "maxLength": NAME_BYTES_MAX,
            "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Uuid => json!({ "type": "string", "format": "uuid" }),
        Kind::Int { min, max } => {
            json!({ "type": "integer", "minimum": number(*min), "maximum": number(*max) })
        }
        Kind::Number => json!({ "type": "number", "minimum": 0 }),
        Kind::OneOf(numbers) => json!({ "type": "integer", "enum": numbers }),
        Kind::Choice { words, any_case: false } => json!({ "type": "string", "enum": words }),
        Kind::Choice { words, any_case: true } => json!({
            "type": "string",
            "examples": words,
            "description": format!("One of {}, in upper or lower case.", words.join(", ")),
        }),
        Kind::Format(format) => json!({
            "type": "string",
            "examples": [format.example],
            "description": format.expected,
        }),
        Kind::Object(defs) => of_object(defs),
        Kind::List { item, min, max } => json!({
            "type": "array", "items": of_kind(item), "minItems": min, "maxItems": max,
        }),
        Kind::AnyObject => json!({ "type": "object" }),
    }
}

/// A number as JSON; one beyond 64 bits is a bug that the test of the document finds.
fn number(number: i128) -> Value {
    let unsigned = u64::try_from(number).map(Value::from);
    unsigned.or_else(|_| i64::try_from(number).map(Value::from)).unwrap_or_default()
}
