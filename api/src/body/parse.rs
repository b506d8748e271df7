//! Reads a body and says where and why it cannot be read: a JSON pointer and one of three kinds.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use super::scalar::UNKNOWN_WORD;

/// Why a body is refused before it becomes a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON, a wrong type, a missing field, no decimal string or no time: 400 `malformed`.
    #[error("{pointer}: {detail}")]
    Malformed {
        /// JSON pointer to the place; empty for the whole body.
        pointer: String,
        /// What is wrong.
        detail: String,
    },
    /// A field that does not exist here: 422 `unknown_field`.
    #[error("{pointer}: there is no such field")]
    UnknownField {
        /// JSON pointer to the field.
        pointer: String,
    },
    /// A word that is not in the list of those allowed here: 422 `invalid_rules`.
    #[error("{pointer}: {detail}; valid: {valid}")]
    InvalidRules {
        /// JSON pointer to the word.
        pointer: String,
        /// What is wrong.
        detail: String,
        /// What would have been valid.
        valid: String,
    },
}

impl BodyError {
    /// The code of the error, as clients read it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::UnknownField { .. } => "unknown_field",
            Self::InvalidRules { .. } => "invalid_rules",
        }
    }

    /// The JSON pointer to the place of the error.
    pub fn pointer(&self) -> &str {
        match self {
            Self::Malformed { pointer, .. }
            | Self::UnknownField { pointer }
            | Self::InvalidRules { pointer, .. } => pointer,
        }
    }
}

/// Reads a body.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = read(&mut json).map_err(|error| match (error, serde_json::from_slice(bytes)) {
        // What is no JSON is that first, whatever stands before the place where it breaks off.
        (BodyError::UnknownField { .. } | BodyError::InvalidRules { .. }, Err(broken)) => not_json(&broken),
        (error, Ok(serde::de::IgnoredAny) | Err(_)) => error,
    })?;
    json.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> BodyError {
    BodyError::Malformed { pointer: String::new(), detail: error.to_string() }
}

/// Reads a body that may be left out altogether: no bytes are an empty object.
pub fn parse_optional<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    if bytes.trim_ascii().is_empty() { parse(b"{}") } else { parse(bytes) }
}

/// Reads a body out of JSON that was read before.
pub fn parse_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, BodyError> {
    read(value)
}

fn read<'de, T, D>(json: D) -> Result<T, BodyError>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de, Error = serde_json::Error>,
{
    serde_path_to_error::deserialize(json).map_err(|error| {
        let pointer = pointer(error.path());
        classify(pointer, &error.into_inner().to_string())
    })
}

/// Sorts an error of the JSON reader by its message; its messages are those of `serde::de::Error`.
fn classify(mut pointer: String, message: &str) -> BodyError {
    let detail = without_place(message);
    let mut points_to = |field: &str| {
        if pointer.rsplit('/').next() != Some(&escape(field)) {
            pointer = format!("{pointer}/{}", escape(field));
        }
        pointer.clone()
    };
    if let Some(field) = quoted(detail, "unknown field `") {
        return BodyError::UnknownField { pointer: points_to(field) };
    }
    if let Some(field) = quoted(detail, "missing field `").or_else(|| quoted(detail, "duplicate field `")) {
        let pointer = points_to(field);
        return BodyError::Malformed { pointer, detail: detail.to_owned() };
    }
    if let Some((detail, valid)) = detail.strip_prefix(UNKNOWN_WORD).and_then(|rest| rest.rsplit_once('\n')) {
        return BodyError::InvalidRules { pointer, detail: detail.to_owned(), valid: valid.to_owned() };
    }
    BodyError::Malformed { pointer, detail: detail.to_owned() }
}

/// The message without the line and column that the reader appends; the pointer says it better.
fn without_place(message: &str) -> &str {
    let Some(end) = message.rfind(" at line ") else { return message };
    let place = &message[end + " at line ".len()..];
    let is_place = place.split(" column ").all(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    if is_place { &message[..end] } else { message }
}

/// The name between `start` and the next backtick, if `message` begins with `start`.
fn quoted<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    let rest = message.strip_prefix(start)?;
    // A name may hold backticks itself; the reader's own text behind it holds them in pairs after ", expected".
    let end = rest.find("`, expected").or_else(|| rest.find("`, there are")).or_else(|| rest.rfind('`'))?;
    Some(&rest[..end])
}

fn escape(field: &str) -> String {
    field.replace('~', "~0").replace('/', "~1")
}

fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::super::{BidBody, TenderBody};
    use super::*;

    const RULES: &str = r#""format":"english","duration_s":60"#;

    fn tender_with(rules: &str) -> String {
        format!(r#"{{"title":"T","currency":"SAR","lots":[{{"title":"L","rules":{{{rules}}}}}]}}"#)
    }

    fn refused(body: &str) -> (&'static str, String) {
        let error = parse::<TenderBody>(body.as_bytes()).expect_err(body);
        (error.code(), error.pointer().to_owned())
    }

    #[test]
    fn the_place_of_an_error_is_a_pointer() {
        let cases = [
            ("{", "malformed", ""),
            ("[]", "malformed", ""),
            ("{} {}", "malformed", "/title"),
            (r#"{"title":1}"#, "malformed", "/title"),
            (r#"{"titel":"x"}"#, "unknown_field", "/titel"),
            (r#"{"a/b~`c":"x"}"#, "unknown_field", "/a~1b~0`c"),
            (r#"{"title":"T","lots":[]}"#, "malformed", "/currency"),
            (r#"{"title":"T","title":"U"}"#, "malformed", "/title"),
        ];
        for (body, code, pointer) in cases {
            assert_eq!(refused(body), (code, pointer.to_owned()), "{body}");
        }
    }

    #[test]
    fn rules_are_read_strictly() {
        let cases = [
            (r#""duration_s":60"#, "malformed", "/lots/0/rules/format"),
            (r#""format":"foo""#, "invalid_rules", "/lots/0/rules/format"),
            (r#""format":7"#, "malformed", "/lots/0/rules/format"),
            (&format!(r#"{RULES},"ceiling":1000"#), "malformed", "/lots/0/rules/ceiling"),
            (&format!(r#"{RULES},"ceiling":"1,000""#), "malformed", "/lots/0/rules/ceiling"),
            (&format!(r#"{RULES},"duration":5"#), "unknown_field", "/lots/0/rules/duration"),
            (&format!(r#"{RULES},"reserve":{{"shown":true}}"#), "malformed", "/lots/0/rules/reserve/price"),
            (&format!(r#"{RULES},"decrement":{{"kind":"amount"}}"#), "malformed", "/lots/0/rules/decrement/value"),
            (
                &format!(r#"{RULES},"decrement":{{"kind":"amount","value":"1","rows":[]}}"#),
                "unknown_field",
                "/lots/0/rules/decrement/rows",
            ),
            (
                &format!(r#"{RULES},"decrement":{{"kind":"factor","value":"1"}}"#),
                "invalid_rules",
                "/lots/0/rules/decrement/kind",
            ),
            (
                &format!(r#"{RULES},"decrement":{{"kind":"table","rows":[{{"from":"0","step":1}}]}}"#),
                "malformed",
                "/lots/0/rules/decrement/rows/0/step",
            ),
            (&format!(r#"{RULES},"overtime":{{"window_s":60}}"#), "malformed", "/lots/0/rules/overtime/length_s"),
            (
                &format!(r#"{RULES},"overtime":{{"window_s":60,"length_s":60,"mode":"x"}}"#),
                "invalid_rules",
                "/lots/0/rules/overtime/mode",
            ),
            (
                &format!(r#"{RULES},"visibility":{{"lead":"sometimes"}}"#),
                "invalid_rules",
                "/lots/0/rules/visibility/lead",
            ),
            (&format!(r#"{RULES},"auto_bid":"yes""#), "malformed", "/lots/0/rules/auto_bid"),
            (&format!(r#"{RULES},"max_bids":1.5"#), "malformed", "/lots/0/rules/max_bids"),
        ];
        for (rules, code, pointer) in cases {
            assert_eq!(refused(&tender_with(rules)), (code, pointer.to_owned()), "{rules}");
        }
    }

    #[test]
    fn an_unknown_word_tells_the_valid_ones() {
        let error = parse::<TenderBody>(tender_with(r#""format":"foo""#).as_bytes()).expect_err("no such format");
        let BodyError::InvalidRules { detail, valid, .. } = error else { panic!("{error:?}") };
        assert_eq!(detail, "\"foo\" is not one of the valid words");
        assert_eq!(valid, "english, sealed, dutch, japanese, rounds");
    }

    #[test]
    fn a_price_is_required_but_may_be_null() {
        assert_eq!(parse::<BidBody>(b"{}").expect_err("missing").pointer(), "/price");
        assert_eq!(parse::<BidBody>(br#"{"price":null}"#).expect("null is a withdrawal").price, None);
        assert_eq!(
            parse::<BidBody>(br#"{"price":"-1"}"#).expect("readable").price.map(|p| p.0.mantissa),
            Some(-1)
        );
        assert_eq!(
            parse::<BidBody>(br#"{"price":"1","expires_at":"soon"}"#).expect_err("no time").pointer(),
            "/expires_at"
        );
        assert_eq!(parse::<BidBody>(br#"{"price":"1","cid":"c"}"#).expect_err("unknown").code(), "unknown_field");
    }

    #[test]
    fn what_is_no_json_is_malformed_before_anything_else() {
        for body in [r#"{"foo":1"#, r#"{"foo"}"#, r#"{"price":"1","foo":2,}"#, r#"{"foo":1} x"#] {
            assert_eq!(parse::<BidBody>(body.as_bytes()).expect_err(body).code(), "malformed", "{body}");
        }
    }

    #[test]
    fn a_body_may_be_left_out_where_all_of_it_is_optional() {
        use super::super::ReasonBody;
        assert_eq!(parse_optional::<ReasonBody>(b" ").expect("empty"), ReasonBody { reason: None });
        assert_eq!(parse_optional::<ReasonBody>(b"null").expect_err("not an object").code(), "malformed");
    }
}
