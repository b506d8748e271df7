//! Idempotency keys: which requests are the same request, whatever door they came through.
//! Pure: hashes only. Texts of keys and bodies never leave this file; the engine keeps what it returns.

use engine::{Action, Key, LotId, OrganisationId, TenderId};
use sha2::{Digest, Sha256};

/// Longest idempotency key or `cid`, in characters.
pub const KEY_MAX: usize = 255;

/// Whether `text` may be an idempotency key or `cid`: 1 to [`KEY_MAX`] visible ASCII characters.
pub fn is_valid(text: &str) -> bool {
    (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The key of a bid, accept or limit: one space per organisation and lot, shared by REST (`Idempotency-Key`) and the
/// feed (`cid`).
pub fn of_lot(organisation: OrganisationId, lot: LotId, text: &str, action: &Action) -> Key {
    let scope = lot.0.to_be_bytes();
    Key { scoped: scoped(&[b"lot", &organisation.0.to_be_bytes(), &scope], text), body: body_of(action) }
}

/// The key of any other request: organisation and route, the route being method and concrete path.
pub fn of_route(organisation: OrganisationId, route: &str, text: &str, action: &Action) -> Key {
    Key { scoped: route_scope(organisation, route, text), body: body_of(action) }
}

/// As [`of_route`], for a body that holds a secret or ids made at the edge: the caller brings the body's hash, which
/// must be keyed where a secret could be guessed from it.
pub fn of_route_with_body(organisation: OrganisationId, route: &str, text: &str, body: [u8; 32]) -> Key {
    Key { scoped: route_scope(organisation, route, text), body: first_eight(&body) }
}

/// The id of the tender that `organisation` creates under `text`, so that a repeat through any node meets the first.
/// Looks like a UUIDv7, as every id does.
pub fn tender_id(organisation: OrganisationId, text: &str) -> TenderId {
    let hash = scoped(&[b"tender", &organisation.0.to_be_bytes()], text);
    TenderId::new(as_uuid_v7(hash))
}

/// Sets the version and variant bits of a UUIDv7 in 128 hashed bits.
pub fn as_uuid_v7(bits: u128) -> u128 {
    const VERSION: u128 = 0xF << 76;
    const VARIANT: u128 = 0b11 << 62;
    (bits & !VERSION & !VARIANT) | (7 << 76) | (0b10 << 62)
}

fn route_scope(organisation: OrganisationId, route: &str, text: &str) -> u128 {
    scoped(&[b"route", &organisation.0.to_be_bytes(), route.as_bytes()], text)
}

/// Every part is preceded by its length, so that no two scopes can be written as the same bytes.
fn scoped(scope: &[&[u8]], text: &str) -> u128 {
    let mut hash = Sha256::new();
    for part in scope.iter().copied().chain([text.as_bytes()]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    u128::from_be_bytes(digest[..16].try_into().expect("16 of 32 bytes"))
}

/// The decoded command stands for the body: whitespace, order of fields and defaults that were written out do not
/// matter, the writing of a price does.
fn body_of(action: &Action) -> u64 {
    let bytes = wincode::serialize(action).expect("an action that fits a request fits the codec");
    first_eight(&Sha256::digest(bytes).into())
}

fn first_eight(digest: &[u8; 32]) -> u64 {
    u64::from_be_bytes(digest[..8].try_into().expect("8 of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use engine::Decimal;

    use super::*;

    fn bid(price: &str) -> Action {
        Action::Bid {
            lot: LotId(1),
            price: Decimal::parse(price),
            confirm: false,
            expires_at: None,
            seen_seq: None,
            auto_limit: None,
            all_or_nothing: None,
        }
    }

    #[test]
    fn scopes_are_apart() {
        let (a, b) = (OrganisationId(1), OrganisationId(2));
        let keys = [
            of_lot(a, LotId(1), "k", &bid("1")).scoped,
            of_lot(b, LotId(1), "k", &bid("1")).scoped,
            of_lot(a, LotId(2), "k", &bid("1")).scoped,
            of_lot(a, LotId(1), "l", &bid("1")).scoped,
            of_route(a, "POST /v1/x", "k", &bid("1")).scoped,
            of_route(a, "POST /v1/xk", "", &bid("1")).scoped,
        ];
        for (i, one) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|other| other != one), "key {i} is met twice");
        }
    }

    #[test]
    fn another_price_is_another_body() {
        let lot = |price| of_lot(OrganisationId(1), LotId(1), "k", &bid(price));
        assert_eq!(lot("5.00"), lot("5.00"));
        assert_ne!(lot("5.00").body, lot("5.01").body);
        assert_eq!(lot("5.00").scoped, lot("5.01").scoped);
    }

    #[test]
    fn derived_tender_ids_look_like_any_id() {
        let id = tender_id(OrganisationId(7), "order-1");
        assert_eq!(id, tender_id(OrganisationId(7), "order-1"));
        assert_ne!(id, tender_id(OrganisationId(8), "order-1"));
        let uuid = uuid::Uuid::from_u128(id.0);
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(id, TenderId::new(id.0));
    }

    #[test]
    fn keys_are_visible_and_bounded() {
        assert!(is_valid("a") && is_valid(&"x".repeat(255)));
        for bad in ["", " ", "a b", "a\n", "é", &"x".repeat(256)] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }
}
