//! Access tokens: short-lived EdDSA JWTs, issued and checked. One issuer, one algorithm, fixed here and never by the
//! token. Holds the signing key of this node; the public keys of all nodes come from the accounts in the log.

use std::collections::HashMap;
use std::sync::RwLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::{LogTime, OrganisationId, OrganisationKind, RequestId, Role, SessionId, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How long an access token lasts, in seconds.
pub const ACCESS_S: i64 = 15 * 60;
/// How long a refresh token lasts, in milliseconds.
pub const REFRESH_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// By how many seconds a token may be past its end, or ahead of its beginning, for clocks that differ.
const LEEWAY_S: i64 = 5;
/// Who our tokens are for.
const AUDIENCE: &str = "reversetender";
/// The kind of token in `typ`, so that no other token is taken for one.
const ACCESS: &str = "access";
/// Longest token that is looked at, in bytes.
const TOKEN_MAX: usize = 2048;
/// Longest key id that is looked up, in bytes; a thumbprint has 43.
const KID_MAX: usize = 64;

/// A signed-in person, as the accounts know it now, not as the token once said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The person.
    pub user: UserId,
    /// Its organisation.
    pub organisation: OrganisationId,
    /// What the organisation does.
    pub kind: OrganisationKind,
    /// What the person may do.
    pub role: Role,
    /// The sign-in.
    pub session: SessionId,
    /// When the token ends; no command is taken after it.
    pub expires_at: LogTime,
}

/// Why a token was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is not one of ours, or its session or person is gone.
    Invalid,
    /// It was ours and its time is over.
    Expired,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    org: Uuid,
    role: String,
    sid: Uuid,
    exp: i64,
    iat: i64,
    jti: Uuid,
    typ: String,
}

/// All that a header may say: `jwk`, `jku`, `x5u`, `x5c`, `crit` and the rest are unknown fields, and so refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: String,
    typ: String,
    kid: String,
}

/// Who and which sign-in a token is about, once its signature and claims are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The person.
    pub user: UserId,
    /// The organisation the token was issued for.
    pub organisation: OrganisationId,
    /// The sign-in.
    pub session: SessionId,
    /// When the token ends.
    pub expires_at: LogTime,
}

/// The signer and checker of access tokens.
pub struct Tokens {
    issuer: String,
    kid: String,
    public: [u8; 32],
    signing: EncodingKey,
    validation: Validation,
    /// Keys that were found in the accounts, so that a token does not wait for a lock of the view.
    known: RwLock<HashMap<String, DecodingKey>>,
}

impl Tokens {
    /// A signer with the Ed25519 key in `pkcs8` that speaks as `issuer`; `None` when that is no such key.
    pub fn new(pkcs8: &[u8], issuer: &str) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().ok()?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are checked against the clock of the node, below.
        validation.validate_exp = false;
        Some(Self {
            issuer: issuer.to_owned(),
            kid: thumbprint(&public),
            public,
            signing: EncodingKey::from_ed_der(pkcs8),
            validation,
            known: RwLock::default(),
        })
    }

    /// The id of this node's key in token headers: its RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half of this node's key.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// An access token of [`ACCESS_S`] from `at`. The same arguments give the same token, so that a repeat does.
    ///
    /// # Panics
    /// Never: the claims are plain strings and numbers, and the key was made here.
    pub fn issue(
        &self,
        user: UserId,
        organisation: OrganisationId,
        role: Role,
        session: SessionId,
        at: LogTime,
        request: RequestId,
    ) -> String {
        let iat = at.0.div_euclid(1000);
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: Uuid::from_u128(user.0),
            org: Uuid::from_u128(organisation.0),
            role: role.word().to_owned(),
            sid: Uuid::from_u128(session.0),
            exp: iat + ACCESS_S,
            iat,
            jti: Uuid::from_u128(request.0),
            typ: ACCESS.to_owned(),
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, &claims, &self.signing).expect("claims and key are ours")
    }

    /// What `token` proves at `now`. `find` gives the public key announced under a key id.
    ///
    /// # Errors
    /// [`TokenError::Expired`] for a token that is right but over, [`TokenError::Invalid`] for anything else.
    pub fn prove(
        &self,
        token: &str,
        now: LogTime,
        find: impl FnOnce(&str) -> Option<[u8; 32]>,
    ) -> Result<Proven, TokenError> {
        let kid = strict_kid(token).ok_or(TokenError::Invalid)?;
        let key = self.key(&kid, find).ok_or(TokenError::Invalid)?;
        let claims =
            jsonwebtoken::decode::<Claims>(token, &key, &self.validation).map_err(|_| TokenError::Invalid)?.claims;
        let now_s = now.0.div_euclid(1000);
        let plausible = claims.typ == ACCESS
            && claims.iat <= now_s.saturating_add(LEEWAY_S)
            && claims.exp.checked_sub(claims.iat).is_some_and(|life| (1..=ACCESS_S).contains(&life))
            && matches!(claims.role.as_str(), "admin" | "trader" | "auditor");
        if !plausible {
            return Err(TokenError::Invalid);
        }
        if claims.exp.saturating_add(LEEWAY_S) <= now_s {
            return Err(TokenError::Expired);
        }
        Ok(Proven {
            user: UserId(claims.sub.as_u128()),
            organisation: OrganisationId(claims.org.as_u128()),
            session: SessionId(claims.sid.as_u128()),
            expires_at: LogTime(claims.exp.saturating_mul(1000)),
        })
    }

    fn key(&self, kid: &str, find: impl FnOnce(&str) -> Option<[u8; 32]>) -> Option<DecodingKey> {
        if let Some(key) = self.known.read().expect("no holder of this lock panics").get(kid) {
            return Some(key.clone());
        }
        let key = DecodingKey::from_ed_der(&find(kid)?);
        // Only announced keys get here, so the map is as small as the list of announced keys.
        self.known.write().expect("no holder of this lock panics").insert(kid.to_owned(), key.clone());
        Some(key)
    }
}

/// The key id of a token whose header says exactly what our headers say.
fn strict_kid(token: &str) -> Option<String> {
    if token.len() > TOKEN_MAX || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
        return None;
    }
    let (header, _) = token.split_once('.')?;
    let header: StrictHeader = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    let charset = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let right = header.alg == "EdDSA"
        && header.typ == "JWT"
        && (1..=KID_MAX).contains(&header.kid.len())
        && header.kid.bytes().all(charset);
    right.then_some(header.kid)
}

/// One key of the published key set.
pub fn jwk(kid: &str, public: &[u8; 32]) -> serde_json::Value {
    serde_json::json!({
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": URL_SAFE_NO_PAD.encode(public),
    })
}

/// RFC 7638: SHA-256 over the required members in lexical order.
fn thumbprint(public: &[u8; 32]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: LogTime = LogTime(1_800_000_000_000);

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed")
    }

    fn tokens_of(seed: u8) -> Tokens {
        let pkcs8 = pair(seed).to_pkcs8().expect("a key");
        Tokens::new(pkcs8.as_ref(), "https://auctions.example").expect("a key")
    }

    fn tokens() -> Tokens {
        tokens_of(7)
    }

    fn prove(tokens: &Tokens, token: &str, now: LogTime) -> Result<Proven, TokenError> {
        tokens.prove(token, now, |kid| (kid == tokens.kid()).then_some(tokens.public()))
    }

    fn issue(tokens: &Tokens) -> String {
        tokens.issue(UserId(1), OrganisationId(2), Role::Trader, SessionId(3), NOW, RequestId(4))
    }

    /// A token with these parts, signed with our own key.
    fn signed(tokens: &Tokens, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let pair = pair(7);
        assert_eq!(pair.public_key().as_ref(), tokens.public());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(pair.sign(message.as_bytes())))
    }

    fn claims_of(token: &str) -> serde_json::Value {
        let part = token.split('.').nth(1).expect("three parts");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
    }

    fn header(tokens: &Tokens) -> serde_json::Value {
        serde_json::json!({"alg": "EdDSA", "typ": "JWT", "kid": tokens.kid()})
    }

    #[test]
    fn what_is_issued_is_taken_until_it_ends() {
        let tokens = tokens();
        let token = issue(&tokens);
        assert_eq!(token, issue(&tokens), "a repeat gives the same token");
        let proven = prove(&tokens, &token, NOW).expect("our token");
        assert_eq!(
            (proven.user, proven.organisation, proven.session),
            (UserId(1), OrganisationId(2), SessionId(3))
        );
        assert_eq!(proven.expires_at, NOW.plus_ms(ACCESS_S * 1000));
        assert!(prove(&tokens, &token, NOW.plus_ms((ACCESS_S + 4) * 1000)).is_ok());
        assert_eq!(prove(&tokens, &token, NOW.plus_ms((ACCESS_S + 5) * 1000)), Err(TokenError::Expired));
        assert_eq!(prove(&tokens, &token, NOW.plus_ms(-6000)), Err(TokenError::Invalid), "issued in the future");
    }

    #[test]
    fn headers_that_are_not_ours_are_refused() {
        let tokens = tokens();
        let claims = claims_of(&issue(&tokens)).to_string();
        assert!(
            prove(&tokens, &signed(&tokens, &header(&tokens).to_string(), &claims), NOW).is_ok(),
            "the baseline"
        );
        let kid = tokens.kid();
        let with = |name: &str, value: serde_json::Value| {
            let mut changed = header(&tokens);
            changed[name] = value;
            changed.to_string()
        };
        let bad = [
            with("alg", "none".into()),
            with("alg", "NONE".into()),
            with("alg", "HS256".into()),
            with("alg", "ES256".into()),
            with("alg", "RS256".into()),
            with("alg", "eddsa".into()),
            with("alg", 1.into()),
            with("typ", "at+jwt".into()),
            with("typ", serde_json::Value::Null),
            with("kid", "../../etc/passwd".into()),
            with("kid", "' OR 1=1 --".into()),
            with("kid", "k".repeat(10_000).into()),
            with("kid", "".into()),
            with("kid", 5.into()),
            with("jwk", serde_json::json!({"kty": "OKP"})),
            with("jku", "https://evil.example/keys".into()),
            with("x5u", "https://evil.example/cert".into()),
            with("x5c", serde_json::json!(["MIIB"])),
            with("crit", serde_json::json!(["exp"])),
            with("b64", false.into()),
            format!(r#"{{"alg":"none","alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"EdDSA","Alg":"none","typ":"JWT","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}","kid":"{kid}"}}"#),
            r#"{"alg":"EdDSA","typ":"JWT"}"#.to_owned(),
            "[]".to_owned(),
        ];
        for header in bad {
            let token = signed(&tokens, &header, &claims);
            assert_eq!(prove(&tokens, &token, NOW), Err(TokenError::Invalid), "{:.120}", header);
        }
    }

    #[test]
    fn claims_that_are_not_ours_are_refused() {
        let tokens = tokens();
        let good = claims_of(&issue(&tokens));
        let header = header(&tokens).to_string();
        let values = [
            serde_json::json!("x"),
            serde_json::json!(""),
            serde_json::json!(1.5),
            serde_json::json!(-1),
            serde_json::json!(u64::MAX),
            serde_json::json!(i64::MAX),
            serde_json::json!(true),
            serde_json::json!(null),
            serde_json::json!([]),
            serde_json::json!({}),
        ];
        for name in ["iss", "aud", "sub", "org", "role", "sid", "exp", "iat", "jti", "typ"] {
            for value in &values {
                let mut claims = good.clone();
                claims[name] = value.clone();
                let answer = prove(&tokens, &signed(&tokens, &header, &claims.to_string()), NOW);
                assert!(answer.is_err(), "{name} = {value}");
            }
            let mut claims = good.clone();
            claims.as_object_mut().expect("claims").remove(name);
            let answer = prove(&tokens, &signed(&tokens, &header, &claims.to_string()), NOW);
            assert_eq!(answer, Err(TokenError::Invalid), "without {name}");
        }
        for (name, value) in [
            ("iss", serde_json::json!(["https://auctions.example", "x"])),
            ("aud", serde_json::json!(["reversetender"])),
            ("typ", serde_json::json!("refresh")),
            ("typ", serde_json::json!("id")),
            ("role", serde_json::json!("root")),
            ("exp", serde_json::json!(good["exp"].as_i64().expect("a number") + 3600)),
            ("exp", serde_json::json!(format!("{}", good["exp"]))),
            ("extra", serde_json::json!(1)),
        ] {
            let mut claims = good.clone();
            claims[name] = value.clone();
            let answer = prove(&tokens, &signed(&tokens, &header, &claims.to_string()), NOW);
            assert_eq!(answer, Err(TokenError::Invalid), "{name} = {value}");
        }
    }

    #[test]
    fn signatures_that_are_not_ours_are_refused() {
        let tokens = tokens();
        let token = issue(&tokens);
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let other = tokens_of(8);
        let hs256 = {
            // The public key as a shared secret: the classic swap of algorithms.
            let mut header = Header::new(Algorithm::HS256);
            header.kid = Some(tokens.kid().to_owned());
            let secret = EncodingKey::from_secret(&tokens.public());
            jsonwebtoken::encode(&header, &claims_of(&token), &secret).expect("a token")
        };
        let forged = [
            format!("{message}."),
            message.to_owned(),
            format!("{message}.{}", &signature[1..]),
            format!("{message}.{signature}."),
            format!("{token}{}", "A".repeat(TOKEN_MAX)),
            issue(&other),
            hs256,
            String::new(),
            "..".to_owned(),
            "a.b.c".to_owned(),
        ];
        for token in forged {
            assert_eq!(prove(&tokens, &token, NOW), Err(TokenError::Invalid), "{token:.80}");
        }
        let mut bytes = signature.as_bytes().to_vec();
        bytes[10] = if bytes[10] == b'A' { b'B' } else { b'A' };
        let bent = format!("{message}.{}", String::from_utf8(bytes).expect("ASCII"));
        assert_eq!(prove(&tokens, &bent, NOW), Err(TokenError::Invalid));
    }
}
