//! The routes of lots: state, bids, events, result, award. What a reader sees comes from the visibility function and
//! the one renderer that the feed uses too.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use axum::http::{Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::{
    Action, Answer, BidderNumber, BidderRef, Decision, Key, Lot, LotId, LotStage, Reader, Refusal, RequestId,
    Sight, Tender, sight,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::call::{Call, json as json_response, raw_json};
use super::lists::{Page, Position};
use super::problem::{Code, Problem};
use super::routes::Op;
use crate::body::{AcceptBody, AutoBidBody, AwardBody, BidBody, ReasonBody};
use crate::feed::Missed;
use crate::render::{self, Audience};
use crate::text;

/// Most and usual steps in one answer of the long poll, and bytes after which no more are added.
const EVENTS_MAX: usize = 200;
const EVENTS_DEFAULT: usize = 50;
const EVENTS_BYTES: usize = 1 << 20;
/// Longest wait of the long poll, in seconds.
const WAIT_MAX_S: u64 = 30;
/// The language of the texts, part of what an ETag covers.
const LANGUAGE: &str = "en";

type Answered = Result<Response<Body>, Problem>;

/// Answers a request about lots.
///
/// # Errors
/// The problem to answer with.
pub async fn answer(call: Call<'_>) -> Answered {
    call.check_query()?;
    match call.route.op {
        Op::Lot => get(call).await,
        Op::PlaceBid | Op::Accept => place_bid(call).await,
        Op::SetAutoBid | Op::DropAutoBid => auto_bid(call).await,
        Op::Bids => bids(call).await,
        Op::Void => void(call).await,
        Op::Events => events(call).await,
        Op::Result => result(call).await,
        Op::Award | Op::RejectAward => award(call).await,
        other => unreachable!("{other:?} is no route of lots"),
    }
}

fn reader(call: &Call<'_>, tender: &Tender) -> Reader {
    let caller = call.caller.as_ref();
    let supplies = caller.is_some_and(|caller| caller.kind.supplies());
    engine::reader(tender, caller.map(|caller| caller.organisation), supplies)
}

fn sight_of(call: &Call<'_>, tender: &Tender, lot: &Lot) -> Option<Sight> {
    sight(tender, lot, reader(call, tender))
}

async fn get(call: Call<'_>) -> Answered {
    let id = call.lot()?;
    let view = call.view().await?;
    let epoch = call.app.node.epoch();
    let snap = view.lot(id, |tender, lot, _| {
        let sight = sight_of(&call, tender, lot)?;
        let snap = render::snap(tender, lot, &sight, epoch);
        Some(serde_json::to_vec(&snap).expect("a snapshot is JSON"))
    });
    let body = snap.flatten().ok_or_else(|| call.hidden(Refusal::LotNotFound))?;
    let etag = etag(&body);
    let known = call.parts.headers.get_all(IF_NONE_MATCH).iter().any(|tags| names(tags, &etag));
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        raw_json(StatusCode::OK, body)
    };
    response.headers_mut().insert(ETAG, HeaderValue::from_str(&etag).expect("base64 in quotes"));
    Ok(response)
}

/// Covers all that the body does: the history, the step, the reader's own part; and the language.
fn etag(body: &[u8]) -> String {
    let hash = Sha256::new().chain_update(LANGUAGE).chain_update(body).finalize();
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash[..15]))
}

/// Whether a list of tags in `If-None-Match` names `etag`; weak ones count, as RFC 9110 says.
fn names(tags: &HeaderValue, etag: &str) -> bool {
    let tags = tags.to_str().unwrap_or("");
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

async fn place_bid(mut call: Call<'_>) -> Answered {
    let lot = call.lot()?;
    let action = match call.route.op {
        Op::Accept => call.read::<AcceptBody>()?.action(lot),
        _ => call.read::<BidBody>()?.action(lot),
    };
    let key = lot_key(&call, lot, &action);
    let reply = call.submit(action, key).await?;
    let answer = render::bid_answer(&reply).ok_or_else(|| Code::Internal.problem(super::problem::GENERIC))?;
    Ok(call.decided(&answer, reply.replayed))
}

/// Bids, accepts and limits of an organisation have one space of keys in a lot, shared with the feed's `cid`.
fn lot_key(call: &Call<'_>, lot: LotId, action: &Action) -> Option<Key> {
    let organisation = call.member().organisation;
    call.key.as_deref().map(|text| crate::key::of_lot(organisation, lot, text, action))
}

async fn auto_bid(mut call: Call<'_>) -> Answered {
    let lot = call.lot()?;
    let limit = match call.route.op {
        Op::SetAutoBid => Some(call.read::<AutoBidBody>()?.limit.0),
        _ => None,
    };
    let action = Action::AutoBid { lot, limit };
    let key = lot_key(&call, lot, &action);
    let reply = call.submit(action, key).await?;
    let answer = render::limit_answer(&reply).ok_or_else(|| Code::Internal.problem(super::problem::GENERIC))?;
    Ok(call.decided(&answer, reply.replayed))
}

async fn bids(call: Call<'_>) -> Answered {
    let id = call.lot()?;
    let page = Page::read(&call)?;
    let view = call.view().await?;
    let found = view.lot(id, |tender, lot, _| {
        let sight = sight_of(&call, tender, lot).ok_or(Refusal::LotNotFound)?;
        let own = sight.own();
        if !sight.decisions && own.is_none() {
            return Err(Refusal::NotAdmitted);
        }
        let mine = |decision: &Decision| sight.decisions || decision.bidder == own;
        // Positions count what this reader sees, so that a cursor tells nothing of what is hidden.
        let seen: Vec<(Position, Decision)> = (1..).zip(lot.decisions_seen(own).filter(mine)).collect();
        let seen = seen.into_iter().rev().filter(|(position, _)| page.after.is_none_or(|after| *position < after));
        let items = seen.map(|(position, decision)| {
            let line = render::bid_line(lot, &decision, &sight);
            (position, serde_json::to_value(line).expect("a line is JSON"))
        });
        Ok(page.take(items))
    });
    let taken = found.unwrap_or(Err(Refusal::LotNotFound)).map_err(Problem::refusal)?;
    Ok(Page::answer(&call, taken))
}

async fn void(mut call: Call<'_>) -> Answered {
    let lot = call.lot()?;
    let reason = call.read_optional::<ReasonBody>()?.reason;
    // What is no id is the id of no bid.
    let bid = RequestId(text::parse_id(call.param("bid")).unwrap_or(0));
    let action = Action::Void { lot, bid, reason };
    let key = call.route_key(&action);
    let reply = call.submit(action, key).await?;
    let voided = call.expect(&reply, |answer| match answer {
        Answer::Voided(voided) => Some(*voided),
        _ => None,
    })?;
    let answer = json!({
        "bid": text::id(voided.bid.0),
        "lot": text::id(voided.lot.0),
        "bidder": Some(voided.bidder).filter(|bidder| *bidder != BidderNumber::NONE).map(|bidder| bidder.0),
        "price": text::price(voided.price, voided.price_scale),
        "status": "voided",
        "seq": voided.seq,
        "at": text::time(reply.at),
    });
    Ok(call.decided(&answer, reply.replayed))
}

async fn award(mut call: Call<'_>) -> Answered {
    let lot = call.lot()?;
    let body: AwardBody = call.read()?;
    let bidder = BidderRef::Number(body.bidder);
    let action = match call.route.op {
        Op::Award => Action::Award { lot, bidder, reason: body.reason },
        _ => Action::RejectAward { lot, bidder, reason: body.reason },
    };
    let key = call.route_key(&action);
    let reply = call.submit(action, key).await?;
    let award = call.expect(&reply, |answer| match answer {
        Answer::Award(award) => Some(*award),
        _ => None,
    })?;
    let answer = json!({
        "lot": text::id(award.lot.0),
        "stage": award.stage.word(),
        "bidder": award.bidder.0,
        "pays": award.pays.map(|price| text::price(price, award.price_scale)),
        "seq": award.seq,
        "at": text::time(reply.at),
    });
    Ok(call.decided(&answer, reply.replayed))
}

async fn result(call: Call<'_>) -> Answered {
    let id = call.lot()?;
    let view = call.view().await?;
    let winner = view.lot(id, |tender, lot, _| {
        sight_of(&call, tender, lot).ok_or(Refusal::LotNotFound)?;
        if matches!(lot.stage, LotStage::Pending | LotStage::Open | LotStage::Paused) {
            return Err(Refusal::WrongStage);
        }
        let winner = lot.result().winner;
        Ok(winner.and_then(|number| Some((number, tender.bidder(number)?.organisation))))
    });
    let winner = winner.unwrap_or(Err(Refusal::LotNotFound)).map_err(|refusal| match refusal {
        Refusal::LotNotFound => call.hidden(refusal),
        other => Problem::refusal(other),
    })?;
    let name = winner.and_then(|(number, organisation)| {
        let name =
            view.accounts(|accounts| accounts.organisation(organisation).map(|found| found.name.clone()))?;
        Some((number, name))
    });
    let written = view.lot(id, |tender, lot, _| {
        let sight = sight_of(&call, tender, lot)?;
        let named = |number| name.filter(|(winner, _)| *winner == number).map(|(_, name)| name);
        Some(json_response(StatusCode::OK, &render::result(lot, &sight, named)))
    });
    written.flatten().ok_or_else(|| call.hidden(Refusal::LotNotFound))
}

async fn events(call: Call<'_>) -> Answered {
    let id = call.lot()?;
    let number = |name: &str, default: u64, most: u64| match call.query(name)? {
        None => Ok(default),
        Some(text) => text.parse().ok().filter(|number| *number <= most).ok_or_else(|| {
            Code::Malformed.problem(format!("{name} is a whole number up to {most}.")).at(format!("?{name}"))
        }),
    };
    let after = number("after", 0, u64::MAX)?;
    let limit = number("limit", EVENTS_DEFAULT as u64, EVENTS_MAX as u64)?.max(1) as usize;
    let wait = Duration::from_secs(number("wait", 0, WAIT_MAX_S)?);
    let mut view = call.view().await?;
    let hidden = || call.hidden(Refusal::LotNotFound);
    let feed = view.lot(id, |tender, lot, feed| sight_of(&call, tender, lot).map(|_| feed.clone()));
    let feed = feed.flatten().ok_or_else(hidden)?;
    if !wait.is_zero() && feed.seq() <= after {
        // A step, the end of the wait or of the node, whichever comes first; each is answered with what there is.
        let _timed_out = tokio::time::timeout(wait, feed.beyond(after)).await;
        view = call.view().await?;
    }
    let epoch = call.app.node.epoch();
    let written = view.lot(id, |tender, lot, feed| {
        let sight = sight_of(&call, tender, lot)?;
        let missed = feed.since(&Audience::of(&sight), sight.own(), after, limit, EVENTS_BYTES);
        let mut value = json!({ "lot": text::id(lot.id.0), "epoch": epoch });
        match missed {
            Missed::Steps { frames, seq, .. } => {
                let read = |frame: &axum::extract::ws::Utf8Bytes| {
                    let mut step: Value = serde_json::from_str(frame).expect("a frame is JSON");
                    if let Some(fields) = step.as_object_mut() {
                        fields.remove("p");
                    }
                    step
                };
                value["seq"] = seq.into();
                value["recovered"] = true.into();
                value["items"] = frames.iter().map(read).collect::<Vec<Value>>().into();
            }
            Missed::Gone => {
                value["seq"] = lot.seq.into();
                value["recovered"] = false.into();
                value["items"] = json!([]);
                value["snap"] =
                    serde_json::to_value(render::snap(tender, lot, &sight, epoch)).expect("a snapshot is JSON");
            }
        }
        Some(value)
    });
    Ok(call.ok(&written.flatten().ok_or_else(hidden)?))
}
