//! The stream of every format: what a step changes is in its frame, nobody reads more than the buyer does, and each
//! format tells what is its own.

use std::collections::BTreeSet;

use crate::leaks::visibilities;
use crate::market::{BIDDER, BUYER, Market};
use api::feed::Hub;
use api::render::{self, Audience};
use engine::{
    Action, AdjustmentSpec, Answer, BidderNumber, Decimal, FeatureValue, Lot, LotId, OrganisationId, Reader, Step,
    Tender, sight,
};
use serde_json::{Value, json};

const READERS: [Reader; 6] = [
    Reader::Buyer,
    Reader::Bidder(BidderNumber(1)),
    Reader::Bidder(BidderNumber(2)),
    Reader::Bidder(BidderNumber(3)),
    Reader::Member,
    Reader::Observer,
];

/// One thing that happens: after how many milliseconds, who does it (0: the buyer), what.
type Deed = (i64, u128, Action);

fn start(lot: LotId) -> Deed {
    (1_000, 0, Action::Start { tender: lot.tender() })
}

fn tick(ms: i64) -> Deed {
    (ms, 0, Action::Tick)
}

fn bid(lot: LotId, bidder: u128, price: &str) -> Deed {
    (1_000, bidder, Market::bid_action(lot, price))
}

fn withdrawal(lot: LotId, bidder: u128) -> Deed {
    let (ms, bidder, mut action) = bid(lot, bidder, "1");
    if let Action::Bid { price, .. } = &mut action {
        *price = None;
    }
    (ms, bidder, action)
}

fn accept(lot: LotId, bidder: u128, step: u64) -> Deed {
    (1_000, bidder, Action::Accept { lot, step })
}

fn limit(lot: LotId, bidder: u128, limit: &str) -> Deed {
    (1_000, bidder, Action::AutoBid { lot, limit: Decimal::parse(limit) })
}

fn pause(lot: LotId) -> [Deed; 2] {
    let (tender, reason) = (lot.tender(), Some("a reason".to_owned()));
    [(1_000, 0, Action::Pause { tender, reason: reason.clone() }), (1_000, 0, Action::Resume { tender, reason })]
}

fn award(lot: LotId, bidder: i64) -> Deed {
    let reason = Some("a reason".to_owned());
    (1_000, 0, Action::Award { lot, bidder: engine::BidderRef::Number(bidder), reason })
}

/// Rules without visibility, what happens, and the events that must come.
struct Story {
    rules: Value,
    deeds: fn(LotId) -> Vec<Deed>,
    events: &'static [&'static str],
}

fn stories() -> [Story; 6] {
    [
        Story {
            rules: json!({ "format": "sealed", "duration_s": 600, "ceiling": "1000.00", "prebid": "allowed",
                "sealed": { "pricing": "second" }, "reserve": { "price": "800.00", "shown": false } }),
            deeds: |lot| {
                let [pause, resume] = pause(lot);
                vec![
                    bid(lot, 1, "900.00"),
                    start(lot),
                    bid(lot, 2, "700.00"),
                    pause,
                    resume,
                    bid(lot, 1, "650.00"),
                    tick(600_000),
                    award(lot, 1),
                ]
            },
            events: &["opened", "paused", "resumed", "closed", "bid", "awarded"],
        },
        Story {
            rules: json!({ "format": "dutch", "ceiling": "600.00", "award": "automatic",
                "dutch": { "start": "500.00", "step": "10.00", "interval_s": 60 } }),
            deeds: |lot| {
                let [pause, resume] = pause(lot);
                vec![limit(lot, 3, "590.00"), start(lot), tick(60_000), pause, resume, accept(lot, 2, 1)]
            },
            events: &["opened", "step", "paused", "resumed", "bid", "closed", "awarded"],
        },
        Story {
            rules: json!({ "format": "dutch", "ceiling": "600.00",
                "dutch": { "start": "500.00", "step": "10.00", "interval_s": 60 } }),
            deeds: |lot| vec![limit(lot, 3, "525.00"), start(lot), tick(200_000), award(lot, 3)],
            events: &["opened", "step", "bid", "closed", "awarded"],
        },
        Story {
            rules: json!({ "format": "japanese",
                "japanese": { "start": "1000.00", "step": "10.00", "interval_s": 60, "floor": "500.00" } }),
            deeds: |lot| {
                let [pause, resume] = pause(lot);
                vec![
                    start(lot),
                    accept(lot, 1, 0),
                    accept(lot, 2, 0),
                    tick(60_000),
                    accept(lot, 2, 1),
                    pause,
                    resume,
                    accept(lot, 1, 1),
                    accept(lot, 2, 1),
                    tick(61_000),
                    accept(lot, 2, 2),
                    tick(61_000),
                    award(lot, 2),
                ]
            },
            events: &["opened", "level", "paused", "resumed", "bid", "out", "closed", "awarded"],
        },
        Story {
            rules: json!({ "format": "rounds", "ceiling": "1000.00",
                "rounds": { "count": 2, "turn_s": 60, "pause_s": 60, "lead_in_s": 60, "announce_s": 60 } }),
            deeds: |lot| {
                let [pause, resume] = pause(lot);
                vec![
                    bid(lot, 1, "900.00"),
                    bid(lot, 2, "850.00"),
                    bid(lot, 3, "800.00"),
                    start(lot),
                    tick(60_000),
                    bid(lot, 1, "790.00"),
                    pause,
                    resume,
                    bid(lot, 1, "780.00"),
                    tick(60_000),
                    bid(lot, 2, "700.00"),
                    withdrawal(lot, 2),
                    tick(60_000),
                    tick(60_000),
                    tick(60_000),
                    tick(400_000),
                    award(lot, 1),
                ]
            },
            events: &["opened", "turn", "paused", "resumed", "bid", "withdrawn", "closed", "awarded"],
        },
        Story {
            rules: json!({ "format": "english", "duration_s": 600, "ceiling": "1000.00", "prebid": "allowed",
                "auto_bid": true, "overtime": { "window_s": 600, "length_s": 600, "trigger": "any" } }),
            deeds: |lot| {
                vec![
                    bid(lot, 1, "900.00"),
                    limit(lot, 2, "700.00"),
                    start(lot),
                    bid(lot, 3, "800.00"),
                    limit(lot, 1, "600.00"),
                    bid(lot, 3, "500.00"),
                    tick(700_000),
                    award(lot, 3),
                ]
            },
            events: &["opened", "bid", "extended", "closed", "awarded"],
        },
    ]
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("a frame is JSON")
}

/// Whatever is in `part` is in `whole`, with the same value.
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

#[test]
fn a_frame_holds_what_its_step_changed_and_no_more_than_the_buyers() {
    for story in stories() {
        let mut settings = 0;
        for visibility in visibilities() {
            let mut rules = story.rules.clone();
            rules["visibility"] = visibility;
            let mut market = Market::new(Hub::new());
            let adjusts = matches!(rules["format"].as_str(), Some("english" | "sealed" | "rounds"));
            let admitted = |addend: &str| -> (Vec<AdjustmentSpec>, Vec<FeatureValue>) {
                let adjustment = AdjustmentSpec { lot: 1, factor: None, addend: Decimal::parse(addend) };
                (if adjusts { vec![adjustment] } else { vec![] }, vec![])
            };
            let admissions = ["0.00", "1.00", "2.00"].map(admitted).into();
            let Some(lot) = market.try_tender(1, true, &rules, admissions) else { continue };
            settings += 1;
            let mut last: [Option<(Audience, Value)>; READERS.len()] = Default::default();
            let mut told = BTreeSet::new();
            let mut each = |tender: &Tender, lot: &Lot, step: &Step| {
                let frame = |reader| {
                    let audience = Audience::of(&sight(tender, lot, reader)?);
                    Some((audience, parsed(&render::update(lot, step, &audience, None, false))))
                };
                let (_, widest) = frame(Reader::Buyer).expect("the buyer sees it");
                let kinds = widest["ev"].as_array().expect("a list").iter();
                told.extend(kinds.map(|event| event["type"].as_str().expect("a type").to_owned()));
                for (reader, last) in READERS.into_iter().zip(&mut last) {
                    let Some((audience, frame)) = frame(reader) else { continue };
                    contained(&frame, &widest, "");
                    let now = serde_json::to_value(render::state(tender, lot, &audience)).expect("JSON");
                    if let Some((before, state)) = last
                        && *before == audience
                    {
                        for (field, value) in frame["set"].as_object().expect("an object") {
                            state[field] = value.clone();
                        }
                        // A phase that is over is null in a frame, and left out of a state.
                        if state["phase"].is_null() {
                            state.as_object_mut().expect("an object").remove("phase");
                        }
                        assert_eq!(*state, now, "{reader:?} at {step:?} under {rules}");
                    }
                    *last = Some((audience, now));
                }
            };
            for (ms, who, action) in (story.deeds)(lot) {
                market.wait(ms);
                let organisation = if who == 0 { BUYER } else { OrganisationId(BIDDER + who - 1) };
                let reply = market.apply_each(organisation, action.clone(), &mut each);
                assert!(!matches!(reply.answer, Answer::Refused(_)), "{action:?}: {reply:?} under {rules}");
            }
            for kind in story.events {
                assert!(told.contains(*kind), "{kind} in {told:?} under {rules}");
            }
        }
        assert!(settings >= 16, "{} settings of {}", settings, story.rules);
    }
}

#[test]
fn each_format_tells_a_bidder_what_is_its_own() {
    let you = |market: &Market, lot: LotId, number: u16| {
        let sight = market.sight(lot, Reader::Bidder(BidderNumber(number))).expect("a bidder sees it");
        let (tender, found, _) = market.lot(lot);
        serde_json::to_value(render::snap(tender, found, &sight, "e")).expect("JSON")["you"].clone()
    };
    let mut market = Market::new(Hub::new());
    let japanese = json!({ "format": "japanese",
        "japanese": { "start": "1000.00", "step": "10.00", "interval_s": 60, "floor": "500.00" } });
    let lot = market.opened(1, false, &japanese, 3);
    for bidder in [1, 2] {
        market.apply(OrganisationId(BIDDER + bidder - 1), Action::Accept { lot, step: 0 });
    }
    assert_eq!(you(&market, lot, 1)["standing"], "1000.00", "the own accept is seen at once");
    assert_eq!(you(&market, lot, 3)["in"], true);
    market.wait(60_000);
    market.apply(BUYER, Action::Tick);
    let (first, third) = (you(&market, lot, 1), you(&market, lot, 3));
    assert_eq!((&first["in"], &first["max_next"]), (&json!(true), &json!("990.00")));
    assert_eq!((&third["in"], &third["max_next"]), (&json!(false), &Value::Null));

    let light =
        json!({ "format": "english", "duration_s": 600, "visibility": { "lead": "never", "light": true } });
    let lot = market.opened(2, false, &light, 4);
    for (bidder, price) in [(0, "100.00"), (1, "103.00"), (2, "103.01")] {
        market.bid(lot, bidder, price);
    }
    for (number, light) in [(1, json!("green")), (2, json!("yellow")), (3, json!("red")), (4, Value::Null)] {
        assert_eq!(you(&market, lot, number)["light"], light);
    }
    let plain = market.opened(3, false, &json!({ "format": "english", "duration_s": 600 }), 1);
    market.bid(plain, 0, "100.00");
    let own = you(&market, plain, 1);
    for field in ["light", "in", "auto_limit", "effective"] {
        assert!(own.get(field).is_none(), "{field} in {own}");
    }
}
