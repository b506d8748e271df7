//! Windows and renderings without sockets: what is serialised how often, what a window still has, and that no reader
//! is shown more, or less, than the table of the auction rules (section 10) says.

use std::collections::BTreeSet;

use crate::market::{BIDDER, BUYER, Market};
use api::feed::{BYTES_MAX, Hub, Missed, STEPS_MAX};
use api::render::{self, Audience};
use engine::{
    Action, BidderNumber, BidderRef, Lot, LotId, OrganisationId, Reader, RequestId, Step, Tender, sight,
};
use serde_json::{Value, json};

const NO_BID: BidderNumber = BidderNumber(3);

fn rules(lead: &str, rank: bool, board: bool, count: bool) -> Value {
    json!({
        "format": "english", "duration_s": 600, "ceiling": "1000.00",
        "reserve": { "price": "700.00", "shown": false },
        "decrement": { "kind": "amount", "value": "5.00" },
        "overtime": { "window_s": 600, "length_s": 600, "mode": "reset", "trigger": "any" },
        "visibility": { "lead": lead, "rank": rank, "board": board, "bidder_count": count },
    })
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("a frame is JSON")
}

/// All frames behind `after`, through as many calls as it takes.
fn all_since(market: &Market, lot: LotId, reader: Reader, after: u64) -> Option<Vec<Value>> {
    let (tender, found, feed) = market.lot(lot);
    let sight = sight(tender, found, reader)?;
    let audience = Audience::of(&sight);
    let (mut seq, mut frames) = (after, Vec::new());
    loop {
        match feed.since(&audience, sight.own(), seq, 7, usize::MAX) {
            Missed::Gone => return None,
            Missed::Steps { frames: more, seq: reached, .. } => {
                if more.is_empty() {
                    assert_eq!(reached, feed.seq());
                    return Some(frames);
                }
                frames.extend(more.iter().map(|text| parsed(text)));
                seq = reached;
            }
        }
    }
}

/// A lot with everything that can happen to one, three bidders of which the third never bids. `each` sees every step.
fn eventful(
    market: &mut Market,
    public: bool,
    rules: &Value,
    each: &mut dyn FnMut(&Tender, &Lot, &Step),
) -> LotId {
    let lot = market.opened(1, public, rules, 3);
    let tender = lot.tender();
    let reason = Some("a reason".to_owned());
    let bidder = |number: u128| OrganisationId(BIDDER + number);
    let mut story: Vec<(OrganisationId, Action)> = vec![
        (bidder(0), Market::bid_action(lot, "900.00")),
        (bidder(1), Market::bid_action(lot, "950.00")),
        (bidder(1), Market::bid_action(lot, "890.00")),
        (BUYER, Action::Extend { tender, lot: None, seconds: 30, reason: reason.clone() }),
        (BUYER, Action::Pause { tender, reason: reason.clone() }),
        (BUYER, Action::Resume { tender, reason: reason.clone() }),
        (bidder(0), Market::bid_action(lot, "650.00")),
    ];
    for (organisation, action) in story.drain(..) {
        market.wait(1_000);
        market.apply_each(organisation, action, each);
    }
    let bid = market.lot(lot).1.standing(BidderNumber(2)).expect("the second stands").bid;
    market.apply_each(BUYER, Action::Void { lot, bid, reason: reason.clone() }, each);
    market.wait(1_000);
    market.apply_each(bidder(1), Market::bid_action(lot, "600.00"), each);
    market.wait(2_000_000);
    market.apply_each(BUYER, Action::Tick, each);
    let to = BidderRef::Number(2);
    market.apply_each(BUYER, Action::RejectAward { lot, bidder: to, reason: reason.clone() }, each);
    market.apply_each(BUYER, Action::Award { lot, bidder: BidderRef::Number(1), reason }, each);
    assert_eq!(market.lot(lot).1.stage, engine::LotStage::Awarded);
    lot
}

#[test]
fn a_step_is_serialised_once_for_each_audience() {
    // Buyer, bidders with the lead, bidders without it, observers; and the bidder that the step is about, alone.
    let cases = [
        ("always", true, false, 3),        // buyer | everybody else
        ("always", false, false, 3),       // a tender that is not public: buyer | bidders
        ("after_own_bid", true, false, 5), // buyer | who has bid | who has not | observers: no winning price
        ("after_own_bid", false, false, 4),
        ("never", true, false, 3),
        ("always", true, true, 3), // buyer | bidders with the board | observers without it
    ];
    for (lead, public, board, audiences) in cases {
        let hub = Hub::new();
        let mut market = Market::new(hub.clone());
        let lot = market.opened(1, public, &rules(lead, true, board, true), 50);
        market.bid(lot, 0, "900.00");
        for bid in 0..10 {
            let before = hub.serialisations();
            market.bid(lot, 0, &format!("{}.00", 890 - bid * 5));
            assert_eq!(hub.serialisations() - before, audiences, "{lead}, public {public}, board {board}");
        }
    }
}

#[test]
fn every_position_in_the_window_goes_on_without_hole_or_double() {
    let mut market = Market::new(Hub::new());
    let lot = market.opened(1, true, &rules("always", true, true, true), 2);
    for bid in 0..40 {
        market.bid(lot, bid % 2, &format!("{}.00", 900 - bid * 6));
    }
    let last = market.lot(lot).1.seq;
    assert_eq!(last, 42, "publication, opening, 40 bids");
    for reader in [Reader::Buyer, Reader::Bidder(BidderNumber(1)), Reader::Member, Reader::Observer] {
        for after in 0..=last {
            // The publication found nobody who saw the lot before.
            let frames = all_since(&market, lot, reader, after).expect("the window holds all");
            let seqs: Vec<u64> = frames.iter().map(|frame| frame["seq"].as_u64().expect("a seq")).collect();
            assert_eq!(seqs, (after + 1..=last).collect::<Vec<_>>(), "{reader:?} behind {after}");
        }
        assert!(all_since(&market, lot, reader, last + 1).is_none(), "a position that never was");
    }
}

#[test]
fn the_window_keeps_the_last_steps_within_its_bounds() {
    let hub = Hub::new();
    let mut market = Market::new(hub.clone());
    let rules = json!({ "format": "english", "duration_s": 600, "ceiling": "1000.00" });
    let lot = market.opened(1, false, &rules, 2);
    let mut price = 99_999;
    while market.lot(lot).1.seq < STEPS_MAX as u64 + 50 {
        market.bid(lot, 0, &format!("{}.{:02}", price / 100, price % 100));
        price -= 1;
    }
    let (tender, found, feed) = market.lot(lot);
    assert!(feed.steps() <= STEPS_MAX);
    assert!(hub.windows_bytes() <= BYTES_MAX, "{}", hub.windows_bytes());
    let last = found.seq;
    let first = last - feed.steps() as u64;
    let audience = Audience::of(&sight(tender, found, Reader::Buyer).expect("the buyer sees it"));
    assert!(feed.recovers(&audience, None, first, None));
    assert!(!feed.recovers(&audience, None, first - 1, None), "it has left the window");
    assert!(matches!(feed.since(&audience, None, first - 1, 10, usize::MAX), Missed::Gone));
}

#[test]
fn all_windows_together_keep_to_their_budget_and_the_oldest_lot_gives_way() {
    const BUDGET: usize = 64 << 10;
    let hub = Hub::with_budget(BUDGET);
    let mut market = Market::new(hub.clone());
    let lots: Vec<LotId> = (1..=8)
        .map(|number| {
            let lot = market.opened(number, false, &rules("always", true, false, true), 2);
            for bid in 0..30 {
                market.bid(lot, bid % 2, &format!("{}.00", 950 - bid * 6));
            }
            assert!(hub.windows_bytes() <= BUDGET, "{}", hub.windows_bytes());
            lot
        })
        .collect();
    assert!(all_since(&market, lots[7], Reader::Buyer, 2).is_some(), "the youngest is whole");
    assert!(all_since(&market, lots[0], Reader::Buyer, 2).is_none(), "the oldest gave way");
    let last = market.lot(lots[0]).1.seq;
    assert_eq!(all_since(&market, lots[0], Reader::Buyer, last), Some(vec![]), "who missed nothing goes on");
    // Its window begins anew with the next step.
    market.bid(lots[0], 0, "500.00");
    assert_eq!(all_since(&market, lots[0], Reader::Buyer, last).map(|frames| frames.len()), Some(1));
}

#[test]
fn the_windows_of_lots_that_are_gone_are_not_counted() {
    let hub = Hub::new();
    let mut market = Market::new(hub.clone());
    market.opened(1, false, &rules("always", true, false, true), 1);
    assert!(hub.windows_bytes() > 0);
    drop(market);
    assert_eq!(hub.windows_bytes(), 0);
}

#[test]
fn a_first_own_bid_under_after_own_bid_tells_the_lead_and_nothing_of_before() {
    let mut market = Market::new(Hub::new());
    let lot = market.opened(1, false, &rules("after_own_bid", true, false, true), 3);
    market.bid(lot, 0, "900.00");
    let before = market.lot(lot).1.seq;
    market.bid(lot, 1, "950.00");
    market.bid(lot, 0, "880.00");
    let second = Reader::Bidder(BidderNumber(2));
    assert!(
        all_since(&market, lot, second, before - 1).is_none(),
        "what it could not see then it is not told now"
    );
    let told = all_since(&market, lot, second, before).expect("its own bid is told as a step");
    assert_eq!(told.len(), 2);
    assert_eq!(told[0]["ev"][0]["price"], "950.00");
    assert_eq!(told[0]["set"]["lead"], json!({ "price": "900.00" }), "what it sees from now on is told");
    assert_eq!(told[1]["set"]["lead"], json!({ "price": "880.00" }));
    let first = Reader::Bidder(BidderNumber(1));
    let seen = all_since(&market, lot, first, before).expect("all steps");
    assert!(seen[0]["set"].get("lead").is_none(), "that it was a first bid is not for others: {}", seen[0]);
    assert_eq!(all_since(&market, lot, second, before + 1).map(|frames| frames.len()), Some(1));
    assert_eq!(
        all_since(&market, lot, Reader::Bidder(BidderNumber(1)), before).map(|frames| frames.len()),
        Some(2)
    );
    assert_eq!(all_since(&market, lot, Reader::Bidder(NO_BID), before).map(|frames| frames.len()), Some(2));
    // A bid that was taken out takes the lead from sight again; what lies between is never told later.
    let bid = market.lot(lot).1.standing(BidderNumber(2)).expect("it stands").bid;
    let at = market.lot(lot).1.seq;
    market.apply(BUYER, Action::Void { lot, bid, reason: Some("typing error".into()) });
    market.bid(lot, 0, "870.00");
    market.bid(lot, 1, "860.00");
    assert!(all_since(&market, lot, second, at).is_none());
}

#[test]
fn a_place_from_before_the_admission_needs_a_snap() {
    let mut market = Market::new(Hub::new());
    let lot = market.opened(1, true, &rules("always", true, true, true), 2);
    market.bid(lot, 0, "900.00");
    market.wait(1_000);
    let organisation = OrganisationId(BIDDER + 7);
    let tender = lot.tender();
    let seen = market.lot(lot).1.seq;
    market.apply(
        BUYER,
        Action::Admit { tender, organisation, adjustments: vec![], features: vec![], accepted: false },
    );
    let (tender, found, feed) = market.lot(lot);
    let bidder = tender.bidder_of(organisation).expect("it was admitted");
    let audience = Audience::of(&sight(tender, found, Reader::Bidder(bidder.number)).expect("a bidder sees it"));
    let since = Some(bidder.admitted_at);
    assert!(!feed.recovers(&audience, Some(bidder.number), seen, since), "it was an observer when it saw that");
    market.wait(1_000);
    market.bid(lot, 0, "890.00");
    let feed = market.lot(lot).2;
    assert!(feed.recovers(&audience, Some(BidderNumber(3)), seen + 1, since));
}

/// The table of section 10, for the public fields, written apart from the code that it judges.
fn may_see(rules: &Value, public: bool, reader: &str, has_bid: bool) -> Option<BTreeSet<&'static str>> {
    let seen = &rules["visibility"];
    let flag = |name: &str| seen[name].as_bool().expect("a flag");
    let lead = seen["lead"].as_str().expect("a word");
    let mut fields = BTreeSet::from(["reserve_met"]);
    let mut add = |yes: bool, field| {
        if yes {
            fields.insert(field);
        }
    };
    match reader {
        "buyer" => {
            for field in ["lead", "lead.bidder", "board", "bidder_count"] {
                add(true, field);
            }
        }
        "bidder" => {
            let sees_lead = lead == "always" || (lead == "after_own_bid" && has_bid);
            add(sees_lead, "lead");
            add(sees_lead && flag("board"), "lead.bidder");
            add(flag("board"), "board");
            add(flag("bidder_count"), "bidder_count");
            add(true, "you");
            add(flag("rank"), "you.rank");
        }
        _ if public => {
            add(lead == "always", "lead");
            add(flag("bidder_count"), "bidder_count");
        }
        _ => return None,
    }
    Some(fields)
}

/// What of the hidden things a snapshot shows.
fn shown(snap: &Value) -> BTreeSet<&'static str> {
    let state = &snap["state"];
    let has = |value: &Value, field: &str| value.as_object().is_some_and(|fields| fields.contains_key(field));
    let mut fields = BTreeSet::new();
    for field in ["lead", "board", "bidder_count", "reserve_met"] {
        if has(state, field) {
            fields.insert(field);
        }
    }
    if has(&state["lead"], "bidder") {
        fields.insert("lead.bidder");
    }
    if has(snap, "you") {
        fields.insert("you");
        for field in ["standing", "best_at", "max_next", "number"] {
            assert!(has(&snap["you"], field), "{field} is always told: {snap}");
        }
        let ranks = ["rank", "award_rank", "tied", "lead"].map(|field| has(&snap["you"], field));
        assert!(ranks.iter().all(|there| *there == ranks[0]), "all or none of the ranks: {snap}");
        if ranks[0] {
            fields.insert("you.rank");
        }
    }
    fields
}

/// Every combination of the rules of visibility.
fn combinations() -> Vec<(Value, bool)> {
    let mut all = Vec::new();
    for lead in ["always", "after_own_bid", "never"] {
        for bits in 0..16u8 {
            let flag = |bit: u8| bits & (1 << bit) != 0;
            all.push((rules(lead, flag(0), flag(1), flag(2)), flag(3)));
        }
    }
    all
}

const READERS: [(&str, Reader); 6] = [
    ("buyer", Reader::Buyer),
    ("bidder", Reader::Bidder(BidderNumber(1))),
    ("bidder", Reader::Bidder(BidderNumber(2))),
    ("bidder", Reader::Bidder(NO_BID)),
    ("member", Reader::Member),
    ("observer", Reader::Observer),
];

#[test]
fn nobody_is_shown_more_or_less_than_the_table_says() {
    for (rules, public) in combinations() {
        let mut market = Market::new(Hub::new());
        let mut seen = 0;
        eventful(&mut market, public, &rules, &mut |tender, lot, step| {
            for (name, reader) in READERS {
                let sight = sight(tender, lot, reader);
                let has_bid = sight.and_then(|sight| sight.own()).is_some_and(|own| lot.standing(own).is_some());
                let expected = may_see(&rules, public, name, has_bid);
                let snap =
                    sight.map(|sight| serde_json::to_value(render::snap(tender, lot, &sight, "e")).expect("JSON"));
                let mut shown = snap.as_ref().map(shown);
                // A lead that is not there has no bidder to name.
                if let (Some(shown), Some(expected)) = (&mut shown, &expected)
                    && lot.lead().is_none()
                    && expected.contains("lead.bidder")
                {
                    shown.insert("lead.bidder");
                }
                assert_eq!(shown, expected, "{name} {reader:?} at {step:?} under {rules}");
                seen += 1;
            }
        });
        assert!(seen > 6 * 10);
    }
}

#[test]
fn events_show_numbers_prices_and_reasons_only_to_who_may_see_them() {
    for (rules, public) in combinations() {
        let mut market = Market::new(Hub::new());
        let lead_rule = rules["visibility"]["lead"].as_str().expect("a word").to_owned();
        eventful(&mut market, public, &rules, &mut |tender, lot, step| {
            for (name, reader) in READERS {
                let Some(sight) = sight(tender, lot, reader) else { continue };
                let audience = Audience::of(&sight);
                let frame = parsed(&render::update(lot, step, &audience, None, false));
                let board = name == "buyer" || sight.board;
                for event in frame["ev"].as_array().expect("a list") {
                    let has = |field: &str| event.as_object().is_some_and(|fields| fields.contains_key(field));
                    let context = format!("{name} {reader:?}: {event} under {rules}");
                    match event["type"].as_str().expect("a type") {
                        "bid" => {
                            assert_eq!(has("bidder"), board, "{context}");
                            assert_eq!(has("lead"), board || sight.lead, "{context}");
                            let lead =
                                step.events.iter().any(|e| matches!(e, engine::Event::Bid { lead: true, .. }));
                            assert_eq!(has("price"), board || (sight.lead && lead), "{context}");
                        }
                        "voided" => {
                            assert_eq!(has("bidder"), board, "{context}");
                            assert_eq!(has("reason"), name == "buyer", "{context}");
                        }
                        "paused" | "resumed" | "cancelled" => assert!(has("reason"), "{context}"),
                        "rejected" => assert_eq!(has("bidder"), board, "{context}"),
                        "awarded" => {
                            assert_eq!(has("bidder"), board, "{context}");
                            let sees = match name {
                                "buyer" => true,
                                "bidder" => board || lead_rule != "never",
                                _ => lead_rule == "always",
                            };
                            assert_eq!(has("price"), sees, "{context}");
                        }
                        "opened" | "closed" | "extended" | "unsuccessful" => {}
                        other => panic!("an event that this test doesn't know: {other}"),
                    }
                }
            }
        });
    }
}

#[test]
fn a_bidder_recognises_what_is_about_itself() {
    let mut market = Market::new(Hub::new());
    let lot = eventful(&mut market, false, &rules("never", false, false, false), &mut |_, _, _| {});
    // (type, bidder, price, reason) of the events about a bidder, as the bidder `reader` gets them.
    let told = |reader: u16| -> Vec<(String, Option<u64>, Option<String>, bool)> {
        let frames = all_since(&market, lot, Reader::Bidder(BidderNumber(reader)), 1).expect("all steps");
        let events = frames.iter().flat_map(|frame| frame["ev"].as_array().expect("a list"));
        let about = events
            .filter(|event| matches!(event["type"].as_str(), Some("bid" | "voided" | "rejected" | "awarded")));
        about
            .map(|event| {
                let price = event["price"].as_str().map(str::to_owned);
                let kind = event["type"].as_str().expect("a type").to_owned();
                (kind, event["bidder"].as_u64(), price, event.get("reason").is_some())
            })
            .collect()
    };
    let story = [
        ("bid", 1, Some("900.00"), false),
        ("bid", 2, Some("950.00"), false),
        ("bid", 2, Some("890.00"), false),
        ("bid", 1, Some("650.00"), false),
        ("voided", 2, None, true),
        ("bid", 2, Some("600.00"), false),
        ("rejected", 2, None, false),
        ("awarded", 1, Some("650.00"), false),
    ];
    for reader in 1..=3 {
        let expected = story.map(|(kind, bidder, price, reason)| {
            let own = bidder == u64::from(reader);
            (kind.to_owned(), own.then_some(bidder), price.filter(|_| own).map(str::to_owned), own && reason)
        });
        assert_eq!(told(reader), expected, "bidder {reader}");
    }
}

#[test]
fn two_readers_streams_differ_only_in_fields_that_one_may_not_see() {
    // The widest view is the buyer's: whatever another reader gets is in it, with the same value.
    fn contained(part: &Value, whole: &Value, path: &str) {
        match (part, whole) {
            (Value::Object(part), Value::Object(whole)) => {
                for (field, value) in part {
                    let there = whole.get(field).unwrap_or_else(|| panic!("{path}/{field} is told to one only"));
                    contained(value, there, &format!("{path}/{field}"));
                }
            }
            (Value::Array(part), Value::Array(whole)) => {
                assert_eq!(part.len(), whole.len(), "{path}");
                for (index, (part, whole)) in part.iter().zip(whole).enumerate() {
                    contained(part, whole, &format!("{path}/{index}"));
                }
            }
            _ => assert_eq!(part, whole, "{path}"),
        }
    }
    for (rules, public) in combinations() {
        let mut market = Market::new(Hub::new());
        eventful(&mut market, public, &rules, &mut |tender, lot, step| {
            let frame = |reader| {
                let audience = Audience::of(&sight(tender, lot, reader)?);
                Some(parsed(&render::update(lot, step, &audience, None, false)))
            };
            let widest = frame(Reader::Buyer).expect("the buyer sees it");
            for (_, reader) in READERS {
                if let Some(frame) = frame(reader) {
                    contained(&frame, &widest, "");
                }
            }
        });
    }
}

#[test]
fn a_snap_and_the_steps_behind_it_make_the_next_snap() {
    for (rules, public) in combinations() {
        let mut market = Market::new(Hub::new());
        let mut last: [Option<(Audience, Value)>; READERS.len()] = Default::default();
        let mut compared = 0;
        eventful(&mut market, public, &rules, &mut |tender, lot, step| {
            for ((name, reader), last) in READERS.into_iter().zip(&mut last) {
                let Some(sight) = sight(tender, lot, reader) else { continue };
                let audience = Audience::of(&sight);
                let now = serde_json::to_value(render::state(tender, lot, &audience)).expect("JSON");
                if let Some((before, state)) = last
                    && *before == audience
                {
                    let frame = parsed(&render::update(lot, step, &audience, None, false));
                    for (field, value) in frame["set"].as_object().expect("an object") {
                        state[field] = value.clone();
                    }
                    assert_eq!(*state, now, "{name} {reader:?} at {step:?} under {rules}");
                    compared += 1;
                }
                *last = Some((audience, now));
            }
        });
        assert!(compared > 10);
    }
}

#[test]
fn the_result_shows_everybody_its_part() {
    for (rules, public) in combinations() {
        let mut market = Market::new(Hub::new());
        let lot = eventful(&mut market, public, &rules, &mut |_, _, _| {});
        let board = rules["visibility"]["board"] == json!(true);
        let lead = rules["visibility"]["lead"].as_str().expect("a word");
        let (_, found, _) = market.lot(lot);
        for (name, reader) in READERS {
            let Some(sight) = market.sight(lot, reader) else { continue };
            let result = render::result(found, &sight, |number| Some(format!("Organisation {}", number.0)));
            let result = serde_json::to_value(result).expect("JSON");
            let context = format!("{name} {reader:?}: {result} under {rules}");
            let own = sight.own().map(|own| own.0);
            let ranking: Vec<u64> = result["ranking"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|row| row["bidder"].as_u64().expect("a number"))
                .collect();
            let all = name == "buyer" || (name == "bidder" && board);
            match own {
                _ if all => assert_eq!(ranking.len(), 2, "{context}"),
                Some(own) if own != NO_BID.0 => assert_eq!(ranking, [u64::from(own)], "{context}"),
                _ => assert!(ranking.is_empty(), "{context}"),
            }
            assert_eq!(result["stage"], "awarded");
            assert_eq!(result["winner_name"], "Organisation 1", "{context}");
            assert_eq!(result.get("winner").is_some(), all || own == Some(1), "{context}");
            assert_eq!(result.get("won").and_then(Value::as_bool), own.map(|own| own == 1), "{context}");
            let price = all || own == Some(1) || (name == "bidder" && lead != "never") || lead == "always";
            assert_eq!(result.get("pays").is_some(), price, "{context}");
            assert_eq!(result.get("flags").is_some(), name == "buyer", "{context}");
        }
    }
}

#[test]
fn the_history_has_a_line_for_every_decision() {
    let mut market = Market::new(Hub::new());
    let lot = market.opened(1, false, &rules("always", true, false, true), 2);
    market.bid(lot, 0, "900");
    let refused = market.apply(OrganisationId(BIDDER + 1), Market::bid_action(lot, "1000.01"));
    assert!(render::bid_answer(&refused).is_none());
    market.bid(lot, 1, "800.00");
    let bid = market.lot(lot).1.standing(BidderNumber(2)).expect("it stands").bid;
    market.apply(BUYER, Action::Void { lot, bid, reason: Some("a reason".into()) });
    let (tender, found, _) = market.lot(lot);
    let sight = engine::sight(tender, found, engine::Reader::Buyer).expect("its lot");
    let lines: Vec<Value> = found
        .decisions()
        .map(|line| serde_json::to_value(render::bid_line(found, &line, &sight)).expect("JSON"))
        .collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            (line["bidder"].as_u64(), line["price"].as_str(), line["status"].as_str(), line["code"].as_str())
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some(1), Some("900.00"), Some("accepted"), None),
            (Some(2), Some("1000.01"), Some("refused"), Some("above_ceiling")),
            (Some(2), Some("800.00"), Some("voided"), None),
        ]
    );
    assert!(RequestId(0) != bid);
}
