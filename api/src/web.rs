//! The page: hands out the built files of `web/dist`, which are part of the program, with the headers that keep a
//! browser honest. Never answers for `/v1` or for files that are not there, and knows nothing about tenders.

use std::borrow::Cow;
use std::fmt::Write as _;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{Response, StatusCode};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

/// The committed build of the page; `npm run build` in `api/web` makes it.
#[derive(RustEmbed)]
#[folder = "web/dist/"]
struct Dist;

/// Scripts, styles and images come from here and nowhere else, and nothing is inline; the page may talk to its own
/// origin only (`'self'` covers its web socket) and may not be framed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// Headers of every answer of the page.
const GUARDS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    ),
];

/// The pages that the script of the page shows by itself; each is the same document.
pub const PAGES: [&str; 6] = ["/", "/sign-in", "/sign-up", "/tenders/new", "/tenders/{tender}", "/lots/{lot}"];

/// The routes of the page: its documents and `/assets/{file}`. Merge them with the routes of `/v1`.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    PAGES
        .iter()
        .fold(Router::new(), |router, page| router.route(page, get(document)))
        .route("/assets/{file}", get(asset))
}

async fn document(headers: HeaderMap) -> Response<Body> {
    give("index.html", &headers)
}

async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Response<Body> {
    // The document has its own addresses.
    if file == "index.html" { missing() } else { give(&file, &headers) }
}

fn give(name: &str, headers: &HeaderMap) -> Response<Body> {
    let Some(file) = Dist::get(name) else { return missing() };
    let tag = tag(&file);
    if headers.get_all(IF_NONE_MATCH).iter().any(|known| matches(known, &tag)) {
        let mut response = guarded(Response::new(Body::empty()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return tagged(response, &tag);
    }
    let body = match file.data {
        Cow::Borrowed(bytes) => Body::from(bytes),
        Cow::Owned(bytes) => Body::from(bytes),
    };
    let mut response = guarded(Response::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    tagged(response, &tag)
}

/// The file's hash as an entity tag. The name of a file says nothing about its version, so a browser asks each time
/// and is told «not modified»: after an update no page is left with parts of two versions.
fn tag(file: &EmbeddedFile) -> String {
    let mut tag = String::with_capacity(34);
    tag.push('"');
    for byte in &file.metadata.sha256_hash()[..16] {
        write!(tag, "{byte:02x}").expect("a string takes it");
    }
    tag.push('"');
    tag
}

/// Whether `If-None-Match` names `tag`, weakly or strongly.
fn matches(known: &HeaderValue, tag: &str) -> bool {
    let list = known.to_str().unwrap_or("");
    list.split(',').map(|entry| entry.trim().trim_start_matches("W/")).any(|entry| entry == "*" || entry == tag)
}

fn tagged(mut response: Response<Body>, tag: &str) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(tag).expect("hexadecimal digits"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn guarded(mut response: Response<Body>) -> Response<Body> {
    for (name, value) in GUARDS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn missing() -> Response<Body> {
    let mut response = guarded(Response::new(Body::from("There is no such file.\n")));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str, known: Option<&str>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = Request::get(path);
        if let Some(known) = known {
            request = request.header(IF_NONE_MATCH, known);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = routes::<()>().with_state(()).oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        (parts.status, parts.headers, body.to_vec())
    }

    #[tokio::test]
    async fn every_page_is_the_document_and_every_asset_it_names_is_there() {
        let (_, _, index) = ask("/", None).await;
        let text = String::from_utf8(index.clone()).expect("text");
        for page in ["/sign-in", "/sign-up", "/tenders/new", "/tenders/0198", "/lots/0198"] {
            let (status, headers, body) = ask(page, None).await;
            assert_eq!((status, &body), (StatusCode::OK, &index), "{page}");
            assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
        }
        let named: Vec<&str> = text.split('"').filter(|part| part.starts_with("/assets/")).collect();
        assert_eq!(named.len(), 3, "icon, style and script");
        for asset in named {
            let (status, headers, body) = ask(asset, None).await;
            assert_eq!(status, StatusCode::OK, "{asset}");
            assert!(!body.is_empty());
            assert_ne!(headers[CONTENT_TYPE], "application/octet-stream");
        }
    }

    #[tokio::test]
    async fn what_is_known_is_not_sent_again() {
        let (_, headers, _) = ask("/assets/app.js", None).await;
        assert_eq!(headers[CACHE_CONTROL], "no-cache");
        let tag = headers[ETAG].to_str().expect("text");
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let (status, _, body) = ask("/assets/app.js", Some(&known)).await;
            assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0), "{known}");
        }
        let (status, _, _) = ask("/assets/app.js", Some("\"x\"")).await;
        assert_eq!(status, StatusCode::OK);
    }

    #[tokio::test]
    async fn unknown_files_are_not_the_page() {
        for path in [
            "/assets/none.js",
            "/assets/index.html",
            "/assets/..%2fapp.tsx",
            "/assets/%2e%2e%2f%2e%2e%2fCargo.toml",
        ] {
            let (status, headers, body) = ask(path, None).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            assert!(headers.contains_key(CONTENT_SECURITY_POLICY));
            assert!(!body.starts_with(b"<!doctype"), "{path}");
        }
        let (status, _, _) = ask("/elsewhere", None).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn nothing_inline_and_nothing_from_elsewhere() {
        let (_, headers, body) = ask("/", None).await;
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(!policy.contains("unsafe") && policy.contains("default-src 'none'"), "{policy}");
        let text = String::from_utf8(body).expect("text");
        assert!(!text.contains("<style") && !text.contains("style=") && !text.contains("http"), "{text}");
        assert!(text.matches("<script").count() == text.matches("<script type=\"module\" src=").count());
        for (name, value) in GUARDS {
            assert_eq!(headers[&name], value);
        }
    }
}
