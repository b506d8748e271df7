//! The routes of tenders: drafts, stages, bidders. Builds commands and writes answers; the engine decides.

use std::cmp::Reverse;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{ETAG, HeaderValue, IF_MATCH, LOCATION};
use engine::{
    Action, Adjust, Answer, Bidder, BidderAnswer, BidderRef, LogTime, LotAnswer, OrganisationId, Price, Refusal,
    Reply, RequestId, Tender, TenderAnswer, TenderId, TenderSpec, TenderStage,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::Call;
use super::lists::{Page, Position};
use super::problem::{Code, Problem};
use super::routes::Op;
use crate::body::{AdmitBody, EmptyBody, ExtendBody, ReasonBody, TenderBody};
use crate::text;

type Answered = Result<Response<Body>, Problem>;

/// Answers a request about tenders.
///
/// # Errors
/// The problem to answer with.
pub async fn answer(call: Call<'_>) -> Answered {
    call.check_query()?;
    match call.route.op {
        Op::Tenders => list(call).await,
        Op::CreateTender => create(call).await,
        Op::Tender => get(call).await,
        Op::UpdateTender => update(call).await,
        Op::Publish | Op::Start | Op::Pause | Op::Resume | Op::Cancel | Op::Extend => change_stage(call).await,
        Op::Bidders => bidders(call).await,
        Op::Admit => admit(call).await,
        Op::Disqualify => disqualify(call).await,
        Op::Join => join(call).await,
        other => unreachable!("{other:?} is no route of tenders"),
    }
}

/// What is told of a tender beside its specification.
struct Facts {
    id: TenderId,
    buyer: OrganisationId,
    stage: TenderStage,
    version: u32,
    created_at: LogTime,
    opens_at: Option<LogTime>,
    lots: Vec<LotAnswer>,
}

impl Facts {
    fn of(tender: &Tender) -> Self {
        let lots = tender.lots().iter().map(|lot| LotAnswer {
            stage: lot.stage,
            opens_at: lot.opens_at(),
            closes_at: lot.closes_at(),
        });
        Self {
            id: tender.id,
            buyer: tender.buyer,
            stage: tender.stage,
            version: tender.version,
            created_at: tender.created_at,
            opens_at: tender.opens_at,
            lots: lots.collect(),
        }
    }

    /// The facts as an answer tells them, which may be older than the tender is now.
    fn answered(answer: &TenderAnswer, buyer: OrganisationId, created_at: LogTime) -> Self {
        Self {
            id: answer.tender,
            buyer,
            stage: answer.stage,
            version: answer.version,
            created_at,
            opens_at: answer.opens_at,
            lots: answer.lots.clone(),
        }
    }

    /// The whole tender. Only its buyer sees reserves that are not shown.
    fn write(&self, spec: &TenderSpec, for_buyer: bool) -> Value {
        let mut body = TenderBody::filled(spec);
        if !for_buyer {
            body.hide_reserves();
        }
        let mut value = serde_json::to_value(&body).expect("a body is JSON");
        value["id"] = text::id(self.id.0).into();
        value["buyer"] = text::id(self.buyer.0).into();
        value["stage"] = self.stage.word().into();
        value["version"] = self.version.into();
        value["created_at"] = text::time(self.created_at).into();
        value["opens_at"] = time(self.opens_at);
        let written = value["lots"].as_array_mut().expect("lots are a list");
        for ((lot, facts), number) in written.iter_mut().zip(&self.lots).zip(1u16..) {
            self.write_lot(lot, *facts, number);
        }
        value
    }

    /// A tender in a list: without terms, items and rules.
    fn write_short(&self, spec: &TenderSpec) -> Value {
        let lots = spec.lots.iter().zip(&self.lots).zip(1u16..).map(|((lot, facts), number)| {
            let mut value = json!({ "title": lot.title, "format": lot.rules.format.word() });
            self.write_lot(&mut value, *facts, number);
            value
        });
        json!({
            "id": text::id(self.id.0),
            "buyer": text::id(self.buyer.0),
            "title": spec.title,
            "reference": spec.reference,
            "currency": spec.currency,
            "access": spec.access.word(),
            "public": spec.public,
            "stage": self.stage.word(),
            "version": self.version,
            "created_at": text::time(self.created_at),
            "opens_at": time(self.opens_at),
            "lots": lots.collect::<Vec<Value>>(),
        })
    }

    fn write_lot(&self, lot: &mut Value, facts: LotAnswer, number: u16) {
        lot["id"] = text::id(self.id.lot(number).0).into();
        lot["number"] = number.into();
        lot["stage"] = facts.stage.word().into();
        lot["opens_at"] = time(facts.opens_at);
        lot["closes_at"] = time(facts.closes_at);
    }

    fn etag(&self) -> HeaderValue {
        HeaderValue::from_str(&format!("\"{}\"", self.version)).expect("digits in quotes")
    }
}

fn time(at: Option<LogTime>) -> Value {
    at.map_or(Value::Null, |at| text::time(at).into())
}

/// The organisation that asks and whether it supplies, as visibility wants it.
fn reader(call: &Call<'_>) -> Option<(OrganisationId, bool)> {
    call.caller.as_ref().map(|caller| (caller.organisation, caller.kind.supplies()))
}

async fn list(call: Call<'_>) -> Answered {
    let page = Page::read(&call)?;
    let stage = match call.query("stage")?.as_deref() {
        None | Some("") => None,
        Some(word) => Some(stage_of(word).ok_or_else(|| {
            let words = STAGES.map(TenderStage::word).join(", ");
            Code::Malformed.problem(format!("stage is one of {words}.")).at("?stage")
        })?),
    };
    let mine = match call.query("mine")?.as_deref() {
        None | Some("false") => false,
        Some("true" | "1" | "") => true,
        Some(_) => return Err(Code::Malformed.problem("mine is true or false.").at("?mine")),
    };
    let wanted = call.query("q")?.unwrap_or_default().to_lowercase();
    let reader = reader(&call);
    let is_mine = |tender: &Tender| {
        reader.is_some_and(|(organisation, _)| {
            tender.buyer == organisation || tender.bidder_of(organisation).is_some()
        })
    };
    let view = call.view().await?;
    let mut found: Vec<(Reverse<Position>, TenderId)> = view
        .engines(|engine| {
            let fitting = engine.tenders().filter(|tender| {
                let spec = tender.spec();
                tender.visible_to(reader)
                    && stage.is_none_or(|stage| tender.stage == stage)
                    && (!mine || is_mine(tender))
                    && (spec.title.to_lowercase().contains(&wanted)
                        || spec.reference.to_lowercase().contains(&wanted))
                    && page.after.is_none_or(|after| position(tender) < after)
            });
            fitting.map(|tender| (Reverse(position(tender)), tender.id)).collect::<Vec<_>>()
        })
        .concat();
    found.sort_unstable();
    let items = found.into_iter().filter_map(|(Reverse(position), id)| {
        let item = view.tender(id, |tender| Facts::of(tender).write_short(tender.spec()))?;
        Some((position, item))
    });
    let taken = page.take(items);
    Ok(Page::answer(&call, taken))
}

/// Where a tender stands in the list of all: by its time of creation, then by its id.
fn position(tender: &Tender) -> Position {
    const ID_BITS: u32 = 80;
    let id = (tender.id.0 >> engine::LOT_BITS) & ((1 << ID_BITS) - 1);
    ((tender.created_at.0.max(0) as u128) << ID_BITS) | id
}

const STAGES: [TenderStage; 7] = [
    TenderStage::Draft,
    TenderStage::Published,
    TenderStage::Open,
    TenderStage::Closed,
    TenderStage::Awarded,
    TenderStage::Unsuccessful,
    TenderStage::Cancelled,
];

fn stage_of(word: &str) -> Option<TenderStage> {
    STAGES.into_iter().find(|stage| stage.word() == word)
}

async fn create(mut call: Call<'_>) -> Answered {
    let spec = TenderBody::parse(&call.body).map_err(super::call::unreadable)?.to_spec();
    let buyer = call.member().organisation;
    let tender = match &call.key {
        Some(key) => crate::key::tender_id(buyer, key),
        None => TenderId::new(Uuid::now_v7().as_u128()),
    };
    let action = Action::CreateTender { tender, spec: Box::new(spec.clone()) };
    let key = call.route_key(&action);
    let reply = call.submit(action, key).await?;
    let answer = tender_answer(&call, &reply)?;
    let facts = Facts::answered(&answer, buyer, reply.at);
    let mut response = call.decided(&facts.write(&spec, true), reply.replayed);
    let location = format!("/v1/tenders/{}", text::id(facts.id.0));
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(&location).expect("an id is visible characters"));
    headers.insert(ETAG, facts.etag());
    Ok(response)
}

async fn get(call: Call<'_>) -> Answered {
    let id = call.tender()?;
    let view = call.view().await?;
    let reader = reader(&call);
    let found = view.tender(id, |tender| {
        if !tender.visible_to(reader) {
            return None;
        }
        let facts = Facts::of(tender);
        let organisation = reader.map(|(organisation, _)| organisation);
        let mut value = facts.write(tender.spec(), organisation == Some(tender.buyer));
        if let Some(own) = organisation.and_then(|organisation| tender.bidder_of(organisation)) {
            value["bidder"] = bidder_value(tender, own, tender.is_numbered());
        }
        Some((value, facts.etag()))
    });
    let (value, etag) = found.flatten().ok_or_else(|| call.hidden(Refusal::TenderNotFound))?;
    let mut response = call.ok(&value);
    response.headers_mut().insert(ETAG, etag);
    Ok(response)
}

async fn update(mut call: Call<'_>) -> Answered {
    let id = call.tender()?;
    // Reading the present state waits; the change is stamped when it is complete.
    call.stamp = None;
    let mut versions = call.parts.headers.get_all(IF_MATCH).iter();
    let Some(seen) = versions.next() else {
        return Err(Code::PreconditionRequired.problem("Send the tender's ETag in If-Match."));
    };
    if versions.next().is_some() {
        return Err(Code::Malformed.problem("Send If-Match once."));
    }
    let view = call.view().await?;
    let reader = reader(&call);
    let found = view.tender(id, |tender| {
        tender.visible_to(reader).then(|| (tender.spec().clone(), tender.version, tender.created_at))
    });
    let (spec, present, created_at) = found.flatten().ok_or_else(|| call.hidden(Refusal::TenderNotFound))?;
    let version = match seen.to_str().unwrap_or("").trim() {
        "*" => Some(present),
        quoted => {
            quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|digits| digits.parse().ok())
        }
    };
    let patched = TenderBody::patch(&spec, &call.body).map_err(super::call::unreadable)?.to_spec();
    // What is no version of ours matches none: 0 is the version of nothing.
    let action =
        Action::UpdateTender { tender: id, spec: Box::new(patched.clone()), version: version.unwrap_or(0) };
    let reply = call.submit(action, None).await?;
    let answer = tender_answer(&call, &reply)?;
    let facts = Facts::answered(&answer, call.member().organisation, created_at);
    let mut response = call.decided(&facts.write(&patched, true), reply.replayed);
    response.headers_mut().insert(ETAG, facts.etag());
    Ok(response)
}

async fn change_stage(mut call: Call<'_>) -> Answered {
    let tender = call.tender()?;
    let action = match call.route.op {
        Op::Publish => {
            call.read_optional::<EmptyBody>()?;
            Action::Publish { tender }
        }
        Op::Start => {
            call.read_optional::<EmptyBody>()?;
            Action::Start { tender }
        }
        Op::Pause => Action::Pause { tender, reason: call.read_optional::<ReasonBody>()?.reason },
        Op::Resume => Action::Resume { tender, reason: call.read_optional::<ReasonBody>()?.reason },
        Op::Cancel => Action::Cancel { tender, reason: call.read_optional::<ReasonBody>()?.reason },
        Op::Extend => {
            let body: ExtendBody = call.read()?;
            // A number that cannot be a lot's is a lot that is not there.
            let lot = body.lot.map(|lot| u16::try_from(lot.number(tender)).unwrap_or(0));
            Action::Extend { tender, lot, seconds: body.seconds, reason: body.reason }
        }
        other => unreachable!("{other:?} changes no stage"),
    };
    let key = call.route_key(&action);
    let reply = call.submit(action, key).await?;
    let answer = tender_answer(&call, &reply)?;
    let view = call.view().await?;
    let written = view.tender(tender, |tender| {
        let facts = Facts::answered(&answer, tender.buyer, tender.created_at);
        let spec = if answer.as_created { tender.created_spec() } else { tender.spec() };
        (facts.write(spec, true), facts.etag())
    });
    let (value, etag) = written.ok_or_else(|| Problem::refusal(Refusal::TenderNotFound))?;
    let mut response = call.decided(&value, reply.replayed);
    response.headers_mut().insert(ETAG, etag);
    Ok(response)
}

fn tender_answer(call: &Call<'_>, reply: &Reply) -> Result<TenderAnswer, Problem> {
    call.expect(reply, |answer| match answer {
        Answer::Tender(tender) => Some(TenderAnswer::clone(tender)),
        _ => None,
    })
}

async fn bidders(call: Call<'_>) -> Answered {
    let id = call.tender()?;
    let page = Page::read(&call)?;
    let view = call.view().await?;
    let reader = reader(&call);
    let buyer = call.member().organisation;
    let found = view.tender(id, |tender| {
        if !tender.visible_to(reader) {
            return Err(Refusal::TenderNotFound);
        }
        if tender.buyer != buyer {
            return Err(Refusal::NotOwner);
        }
        let of = |bidder: &Bidder| {
            let mut value = bidder_value(tender, bidder, tender.shows_names());
            value["admitted_at"] = text::time(bidder.admitted_at).into();
            value
        };
        let behind = |position: &Position| page.after.is_none_or(|after| *position > after);
        let items = (1..).zip(tender.bidders_by_admission()).filter(|(position, _)| behind(position));
        Ok(page.take(items.map(|(position, bidder)| (position, of(bidder)))))
    });
    let (mut items, next) = found.unwrap_or(Err(Refusal::TenderNotFound)).map_err(Problem::refusal)?;
    for item in &mut items {
        let organisation = item["organisation"].as_str().and_then(text::parse_id).map(OrganisationId);
        let name = view.accounts(|accounts| Some(accounts.organisation(organisation?)?.name.clone()));
        item["name"] = name.into();
    }
    Ok(Page::answer(&call, (items, next)))
}

/// A bidder with its adjustments, as the buyer who gave them and the bidder itself may see it.
fn bidder_value(tender: &Tender, bidder: &Bidder, number: bool) -> Value {
    let mut value = write_bidder(&BidderAnswer {
        id: bidder.id,
        number: number.then_some(bidder.number),
        organisation: bidder.organisation,
        status: bidder.status,
    });
    let adjusted = tender.lots().iter().filter_map(|lot| {
        let adjust = lot.adjust(bidder.number);
        let scale = lot.rules().price_scale;
        (adjust != Adjust::NONE).then(|| {
            json!({
                "lot": lot.number,
                "factor": match adjust.denominator {
                    1 => adjust.numerator.to_string(),
                    denominator => format!("{}/{denominator}", adjust.numerator),
                },
                "addend": text::price(Price(adjust.addend), scale),
            })
        })
    });
    value["adjustments"] = adjusted.collect::<Vec<Value>>().into();
    value
}

fn write_bidder(bidder: &BidderAnswer) -> Value {
    let mut value = json!({
        "id": text::id(bidder.id.0),
        "organisation": text::id(bidder.organisation.0),
        "status": bidder.status.word(),
    });
    if let Some(number) = bidder.number {
        value["number"] = number.0.into();
    }
    value
}

async fn admit(mut call: Call<'_>) -> Answered {
    let tender = call.tender()?;
    let body: AdmitBody = call.read()?;
    let organisation = OrganisationId(body.organisation.0);
    let supplies = |call: &Call<'_>| {
        let view = call.app.node.view();
        view.accounts(|accounts| accounts.organisation(organisation).is_some_and(|found| found.kind.supplies()))
    };
    if !supplies(&call) {
        // It may have signed up a moment ago.
        call.stamp = None;
        call.view().await?;
        if !supplies(&call) {
            return Err(Code::NotFound.problem("There is no such supplier.").at("/organisation"));
        }
    }
    let (adjustments, features) = body.scoring(tender);
    let action = Action::Admit { tender, organisation, adjustments, features, accepted: false };
    let key = call.route_key(&action);
    decide_bidder(&mut call, action, key).await
}

async fn disqualify(mut call: Call<'_>) -> Answered {
    let tender = call.tender()?;
    let reason = call.read_optional::<ReasonBody>()?.reason;
    let bidder = bidder_ref(call.param("bidder"));
    let action = Action::Disqualify { tender, bidder, reason };
    let key = call.route_key(&action);
    decide_bidder(&mut call, action, key).await
}

/// A bidder as a path names it: by number or id. What is neither is a number that nobody has.
fn bidder_ref(text: &str) -> BidderRef {
    match (text.parse(), text::parse_id(text)) {
        (Ok(number), _) => BidderRef::Number(number),
        (_, Some(id)) => BidderRef::Id(RequestId(id)),
        _ => BidderRef::Number(0),
    }
}

async fn join(mut call: Call<'_>) -> Answered {
    let tender = call.tender()?;
    call.read_optional::<EmptyBody>()?;
    let caller = call.member().clone();
    if !caller.kind.supplies() {
        // The engine does not know kinds. It does know owners, so a buyer's own tender goes on to it.
        call.stamp = None;
        let view = call.view().await?;
        let reader = Some((caller.organisation, false));
        let seen = view.tender(tender, |tender| (tender.visible_to(reader), tender.buyer == caller.organisation));
        match seen {
            Some((true, true)) => {}
            Some((true, false)) => return Err(Code::Forbidden.problem("Only suppliers join a tender.")),
            _ => return Err(Problem::refusal(Refusal::TenderNotFound)),
        }
    }
    let action = Action::Join { tender };
    let key = call.route_key(&action);
    decide_bidder(&mut call, action, key).await
}

async fn decide_bidder(call: &mut Call<'_>, action: Action, key: Option<engine::Key>) -> Answered {
    let reply = call.submit(action, key).await?;
    let bidder = call.expect(&reply, |answer| match answer {
        Answer::Bidder(bidder) => Some(*bidder),
        _ => None,
    })?;
    Ok(call.decided(&write_bidder(&bidder), reply.replayed))
}
