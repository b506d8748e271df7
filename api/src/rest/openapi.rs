//! The OpenAPI document, made from the table of routes and the types of bodies and answers. Nothing in it is written
//! by hand that the code knows.

use std::sync::OnceLock;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, HeaderValue};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApiBuilder, PathItem, PathsBuilder, Ref, RefOr, Required, Schema,
};

use super::call::raw_json;
use super::routes::{KeyUse, Op, Policy, ROUTES, Route, Verb};
use super::schema;
use crate::{body, render};

/// The document as an answer.
pub fn response() -> Response<Body> {
    static TEXT: OnceLock<bytes::Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| serde_json::to_vec(&document()).expect("the document is JSON").into());
    let mut response = raw_json(StatusCode::OK, text.clone());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

/// The document.
pub fn document() -> Value {
    let info = InfoBuilder::new()
        .title("Reverse auctions")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Tenders, lots and bids. The live feed is described elsewhere."));
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = components().security_scheme("token", scheme).build();
    let paths = ROUTES.iter().fold(PathsBuilder::new(), |paths, route| {
        paths.path(route.path, PathItem::new(method(route.verb), operation(route)))
    });
    let api = OpenApiBuilder::new().info(info.build()).paths(paths.build()).components(Some(components)).build();
    let mut document = serde_json::to_value(api).expect("the document is JSON");
    let schemas = document["components"]["schemas"].as_object_mut().expect("there are schemas");
    for schema in schemas.values_mut() {
        join_words(schema);
    }
    let tender = tender_schema(schemas);
    schemas.insert("Tender".to_owned(), tender);
    document
}

/// The generator writes a word that has a comment as «this word, and an object with that comment», which nothing can
/// be. Joins the two.
fn join_words(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(join_words),
        Value::Object(fields) => {
            fields.values_mut().for_each(join_words);
            let Some([Value::Object(word), Value::Object(comment)]) =
                fields.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
            else {
                return;
            };
            if word.contains_key("enum") && comment["type"] == "object" && !comment.contains_key("properties") {
                let mut joined = word.clone();
                joined.extend(
                    comment.iter().filter(|(name, _)| *name != "type").map(|(k, v)| (k.clone(), v.clone())),
                );
                *fields = joined;
            }
        }
        _ => {}
    }
}

fn components() -> ComponentsBuilder {
    let mut schemas = Vec::new();
    add::<schema::RegisterBody>(&mut schemas);
    add::<schema::TokenBody>(&mut schemas);
    add::<schema::RefreshBody>(&mut schemas);
    add::<schema::MemberBody>(&mut schemas);
    add::<schema::Registered>(&mut schemas);
    add::<schema::Tokens>(&mut schemas);
    add::<schema::Me>(&mut schemas);
    add::<schema::Jwks>(&mut schemas);
    add::<schema::Member>(&mut schemas);
    add::<schema::Members>(&mut schemas);
    add::<schema::Organisations>(&mut schemas);
    add::<schema::Tenders>(&mut schemas);
    add::<schema::Bidder>(&mut schemas);
    add::<schema::Bidders>(&mut schemas);
    add::<schema::Bids>(&mut schemas);
    add::<schema::Voided>(&mut schemas);
    add::<schema::Award>(&mut schemas);
    add::<schema::Events>(&mut schemas);
    add::<schema::Receipt>(&mut schemas);
    add::<schema::AuditExport>(&mut schemas);
    add::<schema::Time>(&mut schemas);
    add::<schema::Rules>(&mut schemas);
    add::<schema::RuleTemplates>(&mut schemas);
    add::<schema::Problem>(&mut schemas);
    add::<body::TenderBody>(&mut schemas);
    add::<body::EmptyBody>(&mut schemas);
    add::<body::ReasonBody>(&mut schemas);
    add::<body::ExtendBody>(&mut schemas);
    add::<body::AdmitBody>(&mut schemas);
    add::<body::BidBody>(&mut schemas);
    add::<body::AcceptBody>(&mut schemas);
    add::<body::AutoBidBody>(&mut schemas);
    add::<body::AwardBody>(&mut schemas);
    add::<render::SnapBody>(&mut schemas);
    add::<render::BidBodyAnswer>(&mut schemas);
    add::<render::LimitBody>(&mut schemas);
    add::<render::ResultBody>(&mut schemas);
    ComponentsBuilder::new().schemas_from_iter(schemas)
}

/// A type and all types it is made of.
fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// The answer about a tender is its body and what became of it.
fn tender_schema(schemas: &serde_json::Map<String, Value>) -> Value {
    let id = json!({ "type": "string" });
    let time = json!({ "type": ["string", "null"], "format": "date-time" });
    let stage = json!({ "type": "string" });
    let add = |object: &Value, fields: Value| {
        let mut object = object.clone();
        object.as_object_mut().expect("a schema is an object").remove("additionalProperties");
        for (name, schema) in fields.as_object().expect("fields are an object") {
            object["properties"][name] = schema.clone();
        }
        object
    };
    let facts = json!({
        "id": id, "number": { "type": "integer" }, "stage": stage, "opens_at": time, "closes_at": time,
    });
    let lot = add(&schemas["LotBody"], facts);
    let facts = json!({
        "id": id, "buyer": id, "stage": stage, "version": { "type": "integer" },
        "created_at": { "type": "string", "format": "date-time" },
        "opens_at": time,
        "lots": { "type": "array", "items": lot },
        "bidder": { "$ref": "#/components/schemas/Bidder" },
    });
    add(&schemas["TenderBody"], facts)
}

fn method(verb: Verb) -> HttpMethod {
    match verb {
        Verb::Get => HttpMethod::Get,
        Verb::Post => HttpMethod::Post,
        Verb::Put => HttpMethod::Put,
        Verb::Patch => HttpMethod::Patch,
        Verb::Delete => HttpMethod::Delete,
    }
}

/// The name under which the type of an answer is in the document.
fn component(name: &'static str) -> &'static str {
    match name {
        "Snap" => "SnapBody",
        "Bid" => "BidBodyAnswer",
        "Limit" => "LimitBody",
        "LotResult" => "ResultBody",
        other => other,
    }
}

fn operation(route: &Route) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(operation_id(route.op)))
        .summary(Some(route.summary))
        .tag(route.path.trim_start_matches("/v1/").split('/').next().unwrap_or("").to_owned());
    for name in path_parameters(route.path) {
        operation = operation.parameter(parameter(name, ParameterIn::Path, Required::True, Type::String));
    }
    for name in route.query {
        let kind = match *name {
            "limit" | "after" | "wait" => Type::Integer,
            "mine" => Type::Boolean,
            _ => Type::String,
        };
        operation = operation.parameter(parameter(name, ParameterIn::Query, Required::False, kind));
    }
    match route.key {
        KeyUse::None => {}
        KeyUse::Optional => operation = operation.parameter(header("Idempotency-Key", Required::False)),
        KeyUse::Required => operation = operation.parameter(header("Idempotency-Key", Required::True)),
    }
    match route.op {
        Op::UpdateTender => operation = operation.parameter(header("If-Match", Required::True)),
        Op::Lot => operation = operation.parameter(header("If-None-Match", Required::False)),
        _ => {}
    }
    if let Some(name) = route.body {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build();
        let media = if route.verb == Verb::Patch { "application/merge-patch+json" } else { "application/json" };
        let optional = matches!(name, "EmptyBody" | "ReasonBody");
        let required = if optional { Required::False } else { Required::True };
        operation = operation.request_body(Some(
            RequestBodyBuilder::new().content(media, content).required(Some(required)).build(),
        ));
    }
    let (status, answer) = route.answer;
    let mut done = ResponseBuilder::new().description(route.summary);
    if let Some(name) = answer {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(component(name)))).build();
        done = done.content("application/json", content);
    } else if route.op == Op::OpenApi {
        let any = ObjectBuilder::new().schema_type(Type::Object).build();
        done = done.content("application/json", ContentBuilder::new().schema(Some(any)).build());
    }
    operation = operation.response(status.to_string(), done.build());
    if route.op == Op::Lot {
        operation = operation.response("304", ResponseBuilder::new().description("It is as you know it.").build());
    }
    for status in problems(route) {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("");
        let problem =
            ResponseBuilder::new().description(reason).content("application/problem+json", content).build();
        operation = operation.response(status.to_string(), problem);
    }
    match route.policy {
        Policy::Open => operation.security(SecurityRequirement::default()),
        Policy::Public => {
            operation.security(SecurityRequirement::default()).security(SecurityRequirement::new("token", [""; 0]))
        }
        _ => operation.security(SecurityRequirement::new("token", [""; 0])),
    }
}

/// `CreateTender` → `create_tender`.
fn operation_id(op: Op) -> String {
    let mut id = String::new();
    for letter in format!("{op:?}").chars() {
        if letter.is_uppercase() && !id.is_empty() {
            id.push('_');
        }
        id.extend(letter.to_lowercase());
    }
    id
}

/// All statuses of problems that a route may answer with.
pub fn problems(route: &Route) -> Vec<u16> {
    let mut all = vec![400, 405, 413, 429, 500, 503];
    if route.policy != Policy::Open {
        all.push(401);
    }
    if !matches!(route.policy, Policy::Open | Policy::Public) {
        all.push(403);
    }
    if route.body.is_some() {
        all.extend([408, 415, 422]);
    }
    // A query parameter that the route does not know is an unknown field.
    all.push(422);
    all.extend(route.problems);
    all.sort_unstable();
    all.dedup();
    all
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn header(name: &str, required: Required) -> ParameterBuilder {
    parameter(name, ParameterIn::Header, required, Type::String)
}

fn parameter(name: &str, place: ParameterIn, required: Required, kind: Type) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .schema(Some(ObjectBuilder::new().schema_type(kind).build()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(text) if name == "$ref" => found.push(text.to_owned()),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_resolves() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > ROUTES.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a reference into this document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn words_are_strings_with_their_comment() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        let lead = &schemas["VisibilityBody"]["properties"]["lead"];
        assert_eq!(lead["type"], "string");
        assert_eq!(lead["enum"][0], "always");
        assert_eq!(lead["default"], "always");
        assert!(lead["description"].is_string());
        assert!(!document.to_string().contains("\"allOf\""), "nothing is two things at once");
        assert_eq!(schemas["BidBody"]["required"], json!(["price"]));
    }

    #[test]
    fn every_route_is_there_with_all_it_may_answer() {
        let document = document();
        let mut operations = 0;
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.verb.word().to_lowercase()];
            assert_eq!(operation["operationId"], operation_id(route.op).as_str(), "{}", route.path);
            for status in problems(route).into_iter().chain([route.answer.0]) {
                assert!(operation["responses"][status.to_string()].is_object(), "{} {status}", route.path);
            }
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for name in path_parameters(route.path) {
                assert!(
                    parameters.iter().any(|parameter| parameter["name"] == name && parameter["required"] == true)
                );
            }
            operations += 1;
        }
        let paths = document["paths"].as_object().expect("paths");
        let documented: usize = paths.values().map(|item| item.as_object().expect("methods").len()).sum();
        assert_eq!(documented, operations, "nothing is documented that is no route");
    }
}
