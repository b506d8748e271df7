//! The routes of the audit: exports for buyers and bidders, receipts for bids. Decides who is given what; what is in it
//! is made in [`crate::audit`].

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use engine::{Lot, LotStage, Refusal, RequestId, TenderId, sight};
use persistence::AuditError;
use serde_json::json;
use tokio::sync::mpsc;

use super::call::{Call, raw_json};
use super::problem::{Code, GENERIC, Problem};
use super::routes::Op;
use crate::audit::document::{Hex, Kind, ReaderWord};
use crate::audit::export::{Asked, Export, Told, lots_of};
use crate::node::Audit;
use crate::render;
use crate::text;

/// Most sizes that can be asked for at once.
const SIZES_MAX: usize = 64;
/// An export is sent in pieces of about so many bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// Pieces that may wait for a slow reader.
const CHUNKS: usize = 4;

type Answered = Result<Response<Body>, Problem>;

/// Answers a request about the audit.
///
/// # Errors
/// The problem to answer with.
pub async fn answer(call: Call<'_>) -> Answered {
    call.check_query()?;
    match call.route.op {
        Op::Audit => export(call).await,
        Op::Receipt => receipt(call).await,
        other => unreachable!("{other:?} is no route of the audit"),
    }
}

/// What a reader is told when files of the audit are damaged; the file's name is in the program's log alone.
const DAMAGED: &str = "The files that this proof is made from are damaged or missing on this node. Who runs it finds them named in its log, and restores the folder audit that belongs to its data folder. Bids and results are not touched, and what comes from now on can be proved.";

fn broken(error: &AuditError) -> Problem {
    tracing::error!("The audit can't be read: {error}");
    match error {
        AuditError::Damaged { .. } => Code::Internal.problem(DAMAGED),
        _ => Code::Internal.problem(GENERIC),
    }
}

async fn audit(call: &Call<'_>, tender: TenderId) -> Result<Arc<Audit>, Problem> {
    let behind = |_| Code::Behind.problem("The audit has not caught up with what was answered; try again.");
    call.app.node.audit(tender).await.map(Arc::clone).map_err(behind)
}

fn sizes(call: &Call<'_>) -> Result<Vec<u64>, Problem> {
    let Some(list) = call.query("sizes")? else { return Ok(Vec::new()) };
    let sizes: Option<Vec<u64>> = list.split(',').map(|size| size.parse().ok()).collect();
    sizes.filter(|sizes| sizes.len() <= SIZES_MAX).ok_or_else(|| {
        Code::Malformed.problem(format!("sizes is a list of up to {SIZES_MAX} whole numbers.")).at("?sizes")
    })
}

async fn export(call: Call<'_>) -> Answered {
    let id = call.tender()?;
    let sizes = sizes(&call)?;
    let view = call.view().await?;
    let (organisation, supplies) = (call.member().organisation, call.member().kind.supplies());
    let told = view.engine(id, |engine| {
        let tender = engine.tender(id).filter(|tender| tender.visible_to(Some((organisation, supplies))))?;
        let (index, at) = (engine.index(), engine.now());
        if tender.buyer != organisation {
            let is_veiled = tender.lots().iter().any(Lot::is_veiled);
            let told = Told { index, at, lots: Vec::new(), open: HashSet::new(), decision: None, is_veiled };
            let is_bidder = tender.bidder_of(organisation).is_some();
            return Some(if is_bidder { Ok((ReaderWord::Bidder, told)) } else { Err(Refusal::NotAdmitted) });
        }
        let runs = |stage| matches!(stage, LotStage::Pending | LotStage::Open | LotStage::Paused);
        if tender.lots().iter().any(|lot| runs(lot.stage)) {
            return Some(Err(Refusal::WrongStage));
        }
        // Who is who stays hidden for ever when an anonymous tender never opened, and every command says whose it is.
        if tender.spec().anonymous_to_buyer && !tender.shows_names() {
            return Some(Err(Refusal::WrongStage));
        }
        let (lots, open) = lots_of(tender);
        Some(Ok((ReaderWord::Buyer, Told { index, at, lots, open, decision: None, is_veiled: false })))
    });
    let (reader, told) = told.unwrap_or(Err(Refusal::TenderNotFound)).map_err(Problem::refusal)?;
    let asked = Asked {
        kind: Kind::Export,
        reader,
        organisation,
        tender: id,
        epoch: call.app.node.epoch().to_owned(),
        shard: call.app.node.shard_of_tender(id),
        bid: None,
        sizes,
    };
    let made = make(audit(&call, id).await?, asked, told).await?;
    let export = made.ok_or_else(|| Problem::refusal(Refusal::TenderNotFound))?;
    Ok(stream(export))
}

/// Collects an export, away from the tasks that serve others.
async fn make(audit: Arc<Audit>, asked: Asked, told: Told) -> Result<Option<Export>, Problem> {
    let collect = move || {
        // An export is of no use without a root that covers all of it; a receipt waits for the next. While something
        // is hidden in a lot, a bidder gets the first root that covers its newest command and no later one: the size of
        // a tree counts what others do.
        let is_held = asked.reader == ReaderWord::Bidder && told.is_veiled;
        let cover = asked.kind == Kind::Export && !is_held;
        let Some(mut sealed) = audit.seal(asked.tender, cover)? else { return Ok(None) };
        if is_held {
            let mut covering = Export::covering(&asked, &told, &mut sealed)?;
            if covering.is_none() && asked.kind == Kind::Export {
                let Some(again) = audit.seal(asked.tender, true)? else { return Ok(None) };
                sealed = again;
                covering = Export::covering(&asked, &told, &mut sealed)?;
            }
            sealed.checkpoint = covering.or(sealed.checkpoint.filter(|_| asked.kind == Kind::Export));
        }
        Export::new(asked, told, sealed, &audit.signer())
    };
    let made = tokio::task::spawn_blocking(collect).await;
    made.map_err(|_| Code::Internal.problem(GENERIC))?.map_err(|error| broken(&error))
}

/// Sends an export piece by piece: it may be much larger than what one reader may hold in memory. One that can't be
/// finished breaks off, and is no JSON.
fn stream(mut export: Export) -> Response<Body> {
    let (pieces, sent) = mpsc::channel::<Result<Bytes, std::io::Error>>(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut buffer = export.head().to_string().into_bytes();
        // The head is an object; the commands are its last member.
        buffer.pop();
        buffer.extend_from_slice(b",\"commands\":[");
        for number in 0..export.len() {
            let line = match export.command(number) {
                Ok(line) => line,
                Err(error) => {
                    tracing::error!("An export breaks off: {error}");
                    let _gone = pieces.blocking_send(Err(std::io::Error::other(error)));
                    return;
                }
            };
            if number > 0 {
                buffer.push(b',');
            }
            serde_json::to_writer(&mut buffer, &line).expect("a command is JSON");
            if buffer.len() >= CHUNK_BYTES && pieces.blocking_send(Ok(std::mem::take(&mut buffer).into())).is_err()
            {
                return;
            }
        }
        buffer.extend_from_slice(b"]}");
        let _gone = pieces.blocking_send(Ok(buffer.into()));
    });
    let pieces = futures_util::stream::unfold(sent, |mut sent| async move {
        let piece = sent.recv().await?;
        Some((piece, sent))
    });
    raw_json(StatusCode::OK, Body::from_stream(pieces))
}

async fn receipt(call: Call<'_>) -> Answered {
    let id = call.lot()?;
    let tender_id = id.tender();
    // What is no id is the id of no bid.
    let bid = RequestId(text::parse_id(call.param("bid")).unwrap_or(0));
    let view = call.view().await?;
    let (organisation, supplies) = (call.member().organisation, call.member().kind.supplies());
    let found = view.engine(tender_id, |engine| {
        let (tender, lot) = engine.lot(id)?;
        let sight = sight(tender, lot, engine::reader(tender, Some(organisation), supplies))?;
        let Some(own) = sight.own() else { return Some(Err(Refusal::NotAdmitted)) };
        let decision = lot.decisions_seen(Some(own)).find(|found| found.bid == bid && found.bidder == Some(own));
        let Some(decision) = decision else { return Some(Ok(None)) };
        let line = serde_json::to_value(render::bid_line(lot, &decision, &sight)).expect("a line is JSON");
        let (index, at) = (engine.index(), engine.now());
        let is_veiled = tender.lots().iter().any(Lot::is_veiled);
        let told = Told { index, at, lots: Vec::new(), open: HashSet::new(), decision: Some(line), is_veiled };
        Some(Ok(Some((told, decision.at))))
    });
    let missing = || Code::NotFound.problem("You made no such bid in this lot.");
    let found = found.unwrap_or(Err(Refusal::LotNotFound)).map_err(Problem::refusal)?;
    let (told, at) = found.ok_or_else(missing)?;
    let decision = told.decision.clone().expect("a receipt has a decision");
    let (epoch, shard) = (call.app.node.epoch().to_owned(), call.app.node.shard_of_tender(tender_id));
    let asked = Asked {
        kind: Kind::Receipt,
        reader: ReaderWord::Bidder,
        organisation,
        tender: tender_id,
        epoch: epoch.clone(),
        shard,
        bid: Some((at, bid)),
        sizes: Vec::new(),
    };
    let made = make(audit(&call, tender_id).await?, asked, told).await?;
    let mut export = made.ok_or_else(missing)?;
    let line = export.command(0).map_err(|error| broken(&error))?;
    let kid = export.checkpoint().map(|root| call.app.node.kid_of_signer(root)).unwrap_or_default();
    let mut document = export.head().clone();
    document["commands"] = json!([line]);
    Ok(call.ok(&json!({
        "bid": decision["bid"],
        "lot": decision["lot"],
        "status": decision["status"],
        "seq": decision["seq"],
        "at": decision["at"],
        "leaf": line.leaf,
        "leaf_index": line.leaf_index,
        "head": line.head,
        "checkpoint": export.checkpoint().map(|checkpoint| render::checkpoint(checkpoint, &epoch, &kid)),
        "proof": line.proof as Option<Vec<Hex<32>>>,
        "audit": document,
    })))
}
