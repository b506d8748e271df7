//! Lists: how much of one is asked for, where it goes on, and how a page of it is written.

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{HeaderValue, LINK};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::call::Call;
use super::problem::{Code, Problem};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;

/// A position in a list that is sorted by one number, highest first or lowest first.
pub type Position = u128;

/// What part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most so many items.
    pub limit: usize,
    /// Only what comes behind this position.
    pub after: Option<Position>,
}

impl Page {
    /// Reads `?limit` and `?cursor`.
    ///
    /// # Errors
    /// 400 `malformed` for a limit outside 1 to 200 and for a cursor that no answer gave.
    pub fn read(call: &Call<'_>) -> Result<Self, Problem> {
        let limit = match call.query("limit")? {
            None => LIMIT_DEFAULT,
            Some(text) => match text.parse() {
                Ok(limit @ 1..=LIMIT_MAX) => limit,
                _ => return Err(Code::Malformed.problem(format!("limit is 1 to {LIMIT_MAX}.")).at("?limit")),
            },
        };
        let bad = || Code::Malformed.problem("The cursor is one that an earlier page gave.").at("?cursor");
        let after = match call.query("cursor")? {
            None => None,
            Some(text) => {
                let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
                Some(Position::from_be_bytes(bytes.try_into().map_err(|_| bad())?))
            }
        };
        Ok(Self { limit, after })
    }

    /// Takes a page out of `items`, which come in order with their positions and already behind the cursor.
    pub fn take(self, items: impl Iterator<Item = (Position, Value)>) -> (Vec<Value>, Option<String>) {
        let mut taken: Vec<(Position, Value)> = items.take(self.limit + 1).collect();
        let more = taken.len() > self.limit;
        taken.truncate(self.limit);
        let next =
            taken.last().filter(|_| more).map(|(position, _)| URL_SAFE_NO_PAD.encode(position.to_be_bytes()));
        (taken.into_iter().map(|(_, item)| item).collect(), next)
    }

    /// The answer with a page of a list.
    pub fn answer(call: &Call<'_>, (items, next): (Vec<Value>, Option<String>)) -> Response<Body> {
        let mut response = call.ok(&serde_json::json!({ "items": items, "next": next }));
        if let Some(link) = next.and_then(|next| link(call, &next)) {
            response.headers_mut().insert(LINK, link);
        }
        response
    }
}

/// The same request with another cursor.
fn link(call: &Call<'_>, next: &str) -> Option<HeaderValue> {
    let uri = &call.parts.uri;
    let kept =
        uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let query: Vec<String> = kept.map(str::to_owned).chain([format!("cursor={next}")]).collect();
    HeaderValue::from_str(&format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))).ok()
}
