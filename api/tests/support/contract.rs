//! Holds every answer that a test gets against the OpenAPI document: its status is listed for its route, and its body
//! is what the schema says, without a field that the schema does not know.

use std::sync::OnceLock;

use api::rest::openapi;
use api::rest::routes::{ROUTES, Route};
use serde_json::Value;

use super::Answer;

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(openapi::document)
}

/// The route that takes `method` at `path`, if it is one of the table.
fn route(method: &str, path: &str) -> Option<&'static Route> {
    let path = path.split('?').next().unwrap_or("");
    let fits = |route: &&Route| {
        let (mut template, mut parts) = (route.path.split('/'), path.split('/'));
        let same = template.by_ref().zip(parts.by_ref()).all(|(wanted, part)| {
            wanted == part
                || (wanted.starts_with('{') && !part.is_empty() && !part.contains("%ff") && !part.contains("%c0"))
        });
        same && route.path.split('/').count() == path.split('/').count()
    };
    let method = if method == "HEAD" { "GET" } else { method };
    ROUTES.iter().filter(fits).find(|route| route.verb.word() == method)
}

/// Checks `answer` against the document.
///
/// # Panics
/// When the document does not say so.
#[track_caller]
pub fn check(method: &str, path: &str, answer: &Answer) {
    let Some(route) = route(method, path) else { return };
    let status = answer.status.as_u16().to_string();
    let responses = &document()["paths"][route.path][route.verb.word().to_lowercase()]["responses"];
    let response = &responses[&status];
    assert!(response.is_object(), "{method} {path} answered {status}, which its description does not list");
    if answer.body.is_empty() {
        return;
    }
    let (media, content) =
        response["content"].as_object().and_then(|all| all.iter().next()).expect("a described body");
    assert_eq!(answer.header("content-type"), media, "{method} {path}");
    if let Err(error) = conforms(&answer.json(), &content["schema"], "") {
        panic!("{method} {path} {status}: {error} in {}", answer.json());
    }
}

fn conforms(value: &Value, schema: &Value, place: &str) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document().pointer(&reference[1..]).ok_or_else(|| format!("{reference} is nowhere"))?;
        return conforms(value, target, place);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let errors: Vec<String> =
            choices.iter().filter_map(|choice| conforms(value, choice, place).err()).collect();
        return if errors.len() < choices.len() {
            Ok(())
        } else {
            Err(format!("{place}: {}", errors.join(" | ")))
        };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&is) {
        return Err(format!("{place} is {is}, not {types:?}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        return Err(format!("{place} is {value}, not one of {words:?}"));
    }
    if let Value::Array(items) = value {
        return items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| conforms(item, &schema["items"], &format!("{place}/{i}")));
    }
    let (Value::Object(fields), Some(known)) = (value, schema["properties"].as_object()) else { return Ok(()) };
    for (name, field) in fields {
        let schema = known.get(name).ok_or_else(|| format!("{place}/{name} is not described"))?;
        conforms(field, schema, &format!("{place}/{name}"))?;
    }
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match required.into_iter().find(|name| !fields.contains_key(*name)) {
        Some(missing) => Err(format!("{place}/{missing} is missing")),
        None => Ok(()),
    }
}

/// Checks that the check above finds what it is there for.
///
/// # Panics
/// When it does not.
pub fn check_itself() {
    use serde_json::json;
    let time = json!({ "$ref": "#/components/schemas/Time" });
    let kind = json!({ "$ref": "#/components/schemas/Organisation" });
    assert_eq!(conforms(&json!({ "now": "2026-01-29T13:00:00.000Z" }), &time, ""), Ok(()));
    for wrong in [json!({}), json!({ "now": 5 }), json!({ "now": "x", "then": "y" }), json!([]), json!(null)] {
        assert!(conforms(&wrong, &time, "").is_err(), "{wrong}");
    }
    assert_eq!(conforms(&json!({ "id": "x", "name": "n", "kind": "buyer" }), &kind, ""), Ok(()));
    assert!(conforms(&json!({ "id": "x", "name": "n", "kind": "seller" }), &kind, "").is_err());
    assert!(route("POST", "/v1/lots/x/bids?y").is_some() && route("POST", "/v1/lots/x").is_none());
}
