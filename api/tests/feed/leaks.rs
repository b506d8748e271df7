//! What is hidden makes no step, no `seq`, no count and no other answer: two runs that differ only in it are the same
//! bytes to everybody but its bidder, in every format and under every rule of visibility.

use std::fmt::Write as _;

use crate::market::{BIDDER, BUYER, Market};
use api::feed::Hub;
use api::render::{self, Audience};
use engine::{
    Action, AdjustmentSpec, Answer, BidderNumber, Decimal, FeatureValue, LotId, LotStage, OrganisationId, Reader,
    RequestId,
};
use serde_json::{Value, json};

/// Who has something to hide. The others must not notice.
const ACTOR: u128 = 0;

/// Everybody else.
const OTHERS: [Reader; 5] = [
    Reader::Buyer,
    Reader::Bidder(BidderNumber(2)),
    Reader::Bidder(BidderNumber(3)),
    Reader::Member,
    Reader::Observer,
];

/// All that `reader` can find out about the lot now: every step since the publication, the lot, its result, the bids.
fn look(market: &Market, lot: LotId, reader: Reader) -> String {
    let (tender, found, feed) = market.lot(lot);
    let mut seen = format!("{reader:?} version {} stage {:?}", tender.version, tender.stage);
    let Some(sight) = market.sight(lot, reader) else { return seen };
    let own = sight.own();
    let frames = feed.since(&Audience::of(&sight), own, 0, usize::MAX, usize::MAX);
    let api::feed::Missed::Steps { frames, seq, .. } = frames else { return seen + " gone" };
    for frame in &frames {
        let _infallible = write!(seen, "\n  {frame}");
    }
    let snap = serde_json::to_string(&render::snap(tender, found, &sight, "e")).expect("JSON");
    let _infallible = write!(seen, "\n  seq {seq} snap {snap}");
    if !matches!(found.stage, LotStage::Pending | LotStage::Open | LotStage::Paused) {
        let result = render::result(found, &sight, |number| Some(format!("Organisation {}", number.0)));
        let _infallible = write!(seen, "\n  result {}", serde_json::to_string(&result).expect("JSON"));
    }
    for decision in found.decisions_seen(own).filter(|line| sight.decisions || line.bidder == own) {
        let line = serde_json::to_string(&render::bid_line(found, &decision, &sight)).expect("JSON");
        let _infallible = write!(seen, "\n  {line}");
    }
    seen
}

/// What the others are answered to what is refused in any case; `buyer`: whether the buyer must not notice either.
fn provoke(market: &mut Market, lot: LotId, buyer: bool) -> String {
    let mut seen = String::new();
    let bad_price = Market::bid_action(lot, "1.00001");
    let accept = Action::Accept { lot, step: 77 };
    let limit = Action::AutoBid { lot, limit: Decimal::parse("0") };
    for bidder in [1, 2, 55] {
        for action in [&bad_price, &accept, &limit] {
            let answer = market.apply(OrganisationId(BIDDER + bidder), action.clone()).answer;
            let _infallible = writeln!(seen, "{bidder}: {answer:?}");
        }
    }
    let reason = Some("no such bid".to_owned());
    for action in [
        Action::Void { lot, bid: RequestId(5), reason },
        Action::Pause { tender: lot.tender(), reason: None },
        Action::Award { lot, bidder: engine::BidderRef::Number(9), reason: None },
    ] {
        let answer = market.apply(BUYER, action).answer;
        if buyer {
            let _infallible = writeln!(seen, "buyer: {answer:?}");
        }
    }
    seen
}

/// What the actor hides: each row is another run.
type Secret = Vec<(Action, bool)>;

/// A lot and what is done in it.
struct Play {
    market: Market,
    lot: LotId,
    /// What everybody else saw, so far.
    seen: Vec<String>,
    readers: Vec<Reader>,
}

impl Play {
    fn probe(&mut self) {
        for reader in &self.readers {
            self.seen.push(look(&self.market, self.lot, *reader));
        }
        let buyer = self.readers.contains(&Reader::Buyer);
        self.seen.push(provoke(&mut self.market, self.lot, buyer));
        for reader in &self.readers {
            self.seen.push(look(&self.market, self.lot, *reader));
        }
    }

    /// Does `secret` in the actor's name; true in a row: it must be taken.
    fn hide(&mut self, secret: &Secret) {
        self.market.wait(1_000);
        for (action, taken) in secret {
            let actor = OrganisationId(BIDDER + ACTOR);
            let reply = self.market.secretly(|market| market.apply(actor, action.clone()));
            assert_eq!(!matches!(reply.answer, Answer::Refused(_)), *taken, "{action:?}: {reply:?}");
        }
        self.market.wait(1_000);
    }

    fn tick(&mut self, ms: i64) {
        self.market.wait(ms);
        self.market.apply(BUYER, Action::Tick);
    }

    fn act(&mut self, organisation: OrganisationId, action: Action) {
        let reply = self.market.apply(organisation, action);
        assert!(!matches!(reply.answer, Answer::Refused(_)), "{reply:?}");
    }

    fn start(&mut self) {
        self.act(BUYER, Action::Start { tender: self.lot.tender() });
    }

    fn bid(&mut self, bidder: u128, price: &str) {
        self.act(OrganisationId(BIDDER + bidder), Market::bid_action(self.lot, price));
    }

    fn pause(&mut self) {
        self.act(BUYER, Action::Pause { tender: self.lot.tender(), reason: Some("a reason".into()) });
    }

    fn resume(&mut self) {
        self.act(BUYER, Action::Resume { tender: self.lot.tender(), reason: Some("a reason".into()) });
    }
}

/// A scenario: rules without visibility, the runs, and what happens around what is hidden.
struct Scenario {
    name: &'static str,
    rules: Value,
    secrets: fn(LotId) -> Vec<Secret>,
    story: fn(&mut Play, &Secret),
}

fn bid(lot: LotId, price: &str) -> (Action, bool) {
    (Market::bid_action(lot, price), true)
}

fn refused(lot: LotId) -> (Action, bool) {
    (Market::bid_action(lot, "700.00001"), false)
}

fn with_limit(lot: LotId, price: &str, limit: &str) -> (Action, bool) {
    let Action::Bid { price, confirm, expires_at, seen_seq, all_or_nothing, .. } = Market::bid_action(lot, price)
    else {
        unreachable!("a bid is a bid")
    };
    let auto_limit = Decimal::parse(limit);
    (Action::Bid { lot, price, confirm, expires_at, seen_seq, auto_limit, all_or_nothing }, true)
}

fn limit(lot: LotId, limit: Option<&str>) -> (Action, bool) {
    (Action::AutoBid { lot, limit: limit.and_then(Decimal::parse) }, true)
}

fn withdrawal(lot: LotId) -> (Action, bool) {
    let (mut action, taken) = bid(lot, "1");
    if let Action::Bid { price, .. } = &mut action {
        *price = None;
    }
    (action, taken)
}

fn bids(lot: LotId) -> Vec<Secret> {
    vec![
        vec![],
        vec![bid(lot, "700.00")],
        vec![bid(lot, "613.37")],
        vec![bid(lot, "650.00"), bid(lot, "720.00"), bid(lot, "720.00")],
        vec![refused(lot)],
    ]
}

fn limits(lot: LotId) -> Vec<Secret> {
    vec![
        vec![],
        vec![limit(lot, Some("613.37"))],
        vec![limit(lot, Some("700.00")), limit(lot, Some("650.00"))],
        vec![limit(lot, Some("700.00")), limit(lot, None)],
    ]
}

fn before_the_opening(play: &mut Play, secret: &Secret) {
    play.hide(secret);
    play.probe();
    play.bid(1, "800.00");
    play.probe();
}

fn scenarios() -> Vec<Scenario> {
    let sealed = |pricing: &str| {
        json!({ "format": "sealed", "duration_s": 600, "ceiling": "1000.00", "sealed": { "pricing": pricing },
            "reserve": { "price": "750.00", "shown": false } })
    };
    let in_envelope = |play: &mut Play, secret: &Secret| {
        play.start();
        play.bid(1, "800.00");
        play.hide(secret);
        play.probe();
        play.pause();
        play.probe();
        play.resume();
        play.bid(2, "750.00");
        play.tick(500_000);
        play.probe();
    };
    let english = |more: Value| {
        let mut rules = json!({ "format": "english", "duration_s": 600, "ceiling": "1000.00",
            "reserve": { "price": "750.00", "shown": false },
            "overtime": { "window_s": 600, "length_s": 600, "trigger": "any" } });
        rules.as_object_mut().expect("rules").extend(more.as_object().expect("rules").clone());
        rules
    };
    let rounds = json!({ "format": "rounds", "ceiling": "1000.00", "decrement": { "kind": "amount", "value": "5.00" },
        "rounds": { "count": 2, "turn_s": 60, "pause_s": 60, "lead_in_s": 60, "announce_s": 60 } });
    vec![
        Scenario { name: "sealed, first price", rules: sealed("first"), secrets: bids, story: in_envelope },
        Scenario { name: "sealed, second price", rules: sealed("second"), secrets: bids, story: in_envelope },
        Scenario {
            name: "sealed, pre-bids",
            rules: {
                let mut rules = sealed("first");
                rules["prebid"] = "allowed".into();
                rules
            },
            secrets: bids,
            story: |play, secret| {
                play.hide(secret);
                play.probe();
                play.bid(1, "800.00");
                play.start();
                play.probe();
            },
        },
        Scenario {
            name: "english, pre-bids",
            rules: english(json!({ "prebid": "allowed", "auto_bid": true })),
            secrets: |lot| {
                let mut secrets = bids(lot);
                secrets.extend(limits(lot));
                secrets.push(vec![with_limit(lot, "700.00", "613.37")]);
                secrets
            },
            story: before_the_opening,
        },
        Scenario {
            name: "english, pre-bids required",
            rules: english(json!({ "prebid": "required", "min_bidders": 2 })),
            secrets: bids,
            story: before_the_opening,
        },
        Scenario {
            name: "english, the leader's limit",
            rules: english(json!({ "auto_bid": true })),
            secrets: limits,
            story: |play, secret| {
                play.start();
                play.bid(1, "850.00");
                play.bid(ACTOR, "800.00");
                play.hide(secret);
                play.probe();
                play.pause();
                play.probe();
                play.resume();
                play.tick(10_000);
                play.probe();
            },
        },
        Scenario {
            name: "english, a limit with the leading bid",
            rules: english(json!({ "auto_bid": true, "improvement": "own" })),
            secrets: |lot| {
                vec![
                    vec![bid(lot, "800.00")],
                    vec![with_limit(lot, "800.00", "613.37")],
                    vec![with_limit(lot, "800.00", "900.00")],
                ]
            },
            story: |play, secret| {
                play.start();
                play.bid(1, "850.00");
                play.hide(secret);
                play.probe();
            },
        },
        Scenario {
            name: "dutch, limits",
            rules: json!({ "format": "dutch", "ceiling": "1000.00", "award": "automatic",
                "dutch": { "start": "500.00", "step": "50.00", "interval_s": 60 } }),
            secrets: limits,
            story: |play, secret| {
                play.hide(secret);
                play.probe();
                play.start();
                play.probe();
                play.tick(61_000);
                play.probe();
                play.pause();
                play.probe();
                play.resume();
                play.tick(61_000);
                play.probe();
            },
        },
        Scenario {
            name: "japanese, accepts",
            rules: json!({ "format": "japanese",
                "japanese": { "start": "1000.00", "step": "50.00", "interval_s": 60, "floor": "500.00" } }),
            secrets: |lot| {
                let accept = |step, taken| (Action::Accept { lot, step }, taken);
                vec![vec![], vec![accept(0, true)], vec![accept(0, true), accept(0, true)], vec![accept(1, false)]]
            },
            story: |play, secret| {
                play.start();
                play.act(OrganisationId(BIDDER + 1), Action::Accept { lot: play.lot, step: 0 });
                play.hide(secret);
                play.probe();
                play.act(OrganisationId(BIDDER + 2), Action::Accept { lot: play.lot, step: 0 });
                play.tick(30_000);
                play.probe();
                play.pause();
                play.probe();
                play.resume();
                play.probe();
            },
        },
        Scenario { name: "rounds, pre-bids", rules: rounds.clone(), secrets: bids, story: before_the_opening },
        Scenario {
            name: "rounds, inside the turn",
            rules: rounds,
            secrets: |lot| {
                let mut secrets = bids(lot);
                secrets.push(vec![withdrawal(lot)]);
                secrets.push(vec![bid(lot, "700.00"), withdrawal(lot)]);
                secrets
            },
            story: |play, secret| {
                for (bidder, price) in [(ACTOR, "900.00"), (1, "850.00"), (2, "800.00")] {
                    play.bid(bidder, price);
                }
                play.start();
                play.tick(61_000);
                play.hide(secret);
                play.probe();
                play.tick(30_000);
                play.probe();
                play.pause();
                play.probe();
                play.resume();
                play.probe();
            },
        },
    ]
}

/// All settings of visibility; what a format does not know is refused, and left out.
pub fn visibilities() -> Vec<Value> {
    let mut all = Vec::new();
    for lead in ["always", "after_own_bid", "never"] {
        for bits in 0..32u8 {
            let flag = |bit: u8| bits & (1 << bit) != 0;
            all.push(json!({ "lead": lead, "rank": flag(0), "board": flag(1), "bidder_count": flag(2),
                "light": flag(3), "adjustments": flag(4) }));
        }
    }
    all
}

type Admission = (Vec<AdjustmentSpec>, Vec<FeatureValue>);

fn play(rules: &Value, admissions: Vec<Admission>, readers: &[Reader]) -> Option<Play> {
    let mut market = Market::new(Hub::new());
    let lot = market.try_tender(1, true, rules, admissions)?;
    Some(Play { market, lot, seen: Vec::new(), readers: readers.to_vec() })
}

/// Compares two runs, and says where they part.
#[track_caller]
fn same(one: &[String], other: &[String], context: &str) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        assert!(one == other, "{context}:\n{one}\n--- differs from ---\n{other}");
    }
}

#[test]
fn what_is_hidden_is_seen_by_nobody_else() {
    for scenario in scenarios() {
        let mut settings = 0;
        for visibility in visibilities() {
            let mut rules = scenario.rules.clone();
            rules["visibility"] = visibility;
            let run = |number: usize| {
                let mut play = play(&rules, vec![(vec![], vec![]); 3], &OTHERS)?;
                let secrets = (scenario.secrets)(play.lot);
                (scenario.story)(&mut play, secrets.get(number)?);
                Some(play.seen)
            };
            let Some(first) = run(0) else { continue };
            let mut runs = 1;
            while let Some(seen) = run(runs) {
                same(&first, &seen, &format!("{}, run {runs} under {rules}", scenario.name));
                runs += 1;
            }
            assert!(runs > 2, "{}", scenario.name);
            settings += 1;
        }
        assert!(settings >= 16, "{} was tried under {settings} settings", scenario.name);
    }
}

/// Bids are seen, but not by everybody and not all of them: what a rule hides is the same bytes too.
#[test]
fn what_a_rule_of_visibility_hides_is_not_seen_another_way() {
    let all = [Reader::Bidder(BidderNumber(2)), Reader::Bidder(BidderNumber(3)), Reader::Member, Reader::Observer];
    // (visibility, the actor's price in each run, who must not notice)
    let cases: [(Value, [&str; 2], &[Reader]); 5] = [
        (json!({ "lead": "never", "light": false }), ["700.00", "710.00"], &all),
        (json!({ "lead": "never", "rank": false }), ["700.00", "900.00"], &all),
        (json!({ "lead": "never", "rank": false, "bidder_count": false }), ["700.00", "900.00"], &all),
        (json!({ "lead": "after_own_bid" }), ["700.00", "900.00"], &all[1..]),
        (json!({ "lead": "always" }), ["900.00", "910.00"], &all),
    ];
    for (visibility, prices, readers) in cases {
        let rules =
            json!({ "format": "english", "duration_s": 600, "ceiling": "1000.00", "visibility": visibility });
        let runs = prices.map(|price| {
            let mut play = play(&rules, vec![(vec![], vec![]); 3], readers).expect("valid rules");
            play.start();
            play.market.wait(1_000);
            play.bid(1, "800.00");
            play.market.wait(1_000);
            play.bid(ACTOR, price);
            play.probe();
            // The result tells the own place, whatever the rules hide before, and what is paid unless they never do.
            if rules["visibility"]["rank"] != json!(false) && rules["visibility"]["lead"] != json!("after_own_bid")
            {
                play.tick(700_000);
                play.probe();
            }
            play.seen
        });
        same(&runs[0], &runs[1], &format!("{prices:?} under {rules}"));
    }
}

#[test]
fn adjustments_of_others_are_told_by_nothing_but_the_ranking() {
    let rivals =
        [Reader::Bidder(BidderNumber(2)), Reader::Bidder(BidderNumber(3)), Reader::Member, Reader::Observer];
    let adjusted = |factor: &str| {
        let adjustment = AdjustmentSpec { lot: 1, factor: Some(factor.into()), addend: Decimal::parse("1.00") };
        vec![(vec![adjustment], vec![]), (vec![], vec![]), (vec![], vec![])]
    };
    let run = |rules: &Value, admissions: Vec<Admission>| {
        let mut play = play(rules, admissions, &rivals).expect("valid rules");
        play.probe();
        play.start();
        play.probe();
        play.market.wait(1_000);
        play.bid(ACTOR, "700.00");
        play.probe();
        play.bid(1, "990.00");
        play.probe();
        play.tick(700_000);
        play.probe();
        play.seen
    };
    for visibility in visibilities() {
        let shown = visibility["adjustments"] == json!(true);
        // A light tells how far the lead is, which is the effective one.
        if visibility["light"] == json!(true) {
            continue;
        }
        let board = visibility["board"] == json!(true) && visibility["lead"] == json!("always");
        let rules =
            json!({ "format": "english", "duration_s": 600, "ceiling": "1000.00", "visibility": visibility });
        let (one, other) = (run(&rules, adjusted("0.9")), run(&rules, adjusted("17/19")));
        if shown {
            // Whoever sees the board sees its effective prices too.
            assert!(!board || one != other, "{rules}");
        } else {
            same(&one, &other, &format!("under {rules}"));
        }
    }
}

/// Two draws of the numbers, and bids by number: the buyer reads the same until the tender has closed, whoever is who.
#[test]
fn an_anonymous_tender_does_not_tell_its_buyer_who_is_who() {
    let run = |salt: u8, factors: [&str; 3], order: &[(u16, &str)]| {
        let mut market = Market::new(Hub::new());
        (market.anonymous, market.salt) = (true, [salt; 16]);
        let adjusted =
            |factor: &str| (vec![AdjustmentSpec { lot: 1, factor: Some(factor.into()), addend: None }], vec![]);
        let rules = json!({ "format": "english", "duration_s": 600, "ceiling": "1000.00", "prebid": "allowed" });
        let admissions = factors.map(adjusted).into();
        let lot = market.try_tender(1, true, &rules, admissions).expect("valid rules");
        let readers = [Reader::Buyer, Reader::Member, Reader::Observer].to_vec();
        let mut play = Play { market, lot, seen: Vec::new(), readers };
        let number = |play: &Play, bidder: u128| {
            let (tender, _, _) = play.market.lot(lot);
            tender.bidder_of(OrganisationId(BIDDER + bidder)).expect("it was admitted").number.0
        };
        play.start();
        let numbers: Vec<u16> = (0..3).map(|bidder| number(&play, bidder)).collect();
        for (wanted, price) in order {
            let bidder = numbers.iter().position(|number| number == wanted).expect("a number") as u128;
            play.market.wait(1_000);
            play.bid(bidder, price);
            for reader in play.readers.clone() {
                play.seen.push(look(&play.market, lot, reader));
            }
        }
        let void = |play: &mut Play| {
            let (_, found, _) = play.market.lot(lot);
            let bid = found.standing(BidderNumber(3)).expect("it stands").bid;
            let reply = play.market.apply(BUYER, Action::Void { lot, bid, reason: Some("a reason".into()) });
            assert!(matches!(reply.answer, Answer::Voided(_)), "{reply:?}");
        };
        void(&mut play);
        for reader in play.readers.clone() {
            play.seen.push(look(&play.market, lot, reader));
        }
        let before = play.seen.clone();
        play.tick(700_000);
        let sight = play.market.sight(lot, Reader::Buyer).expect("a buyer sees its lots");
        assert!(sight.organisations && sight.adjustments, "all is known after the close");
        (before, numbers)
    };
    let order = [(1, "900.00"), (2, "880.00"), (3, "860.00"), (1, "400.00")];
    // Everybody's effective prices are far apart, in the order of their prices whoever has which factor.
    let (first, numbers) = run(0, ["1", "1", "1"], &order);
    let other = (1..=255).find_map(|salt| {
        let (seen, drawn) = run(salt, ["1", "1", "1"], &order);
        (drawn != numbers).then_some(seen)
    });
    same(&first, &other.expect("another draw"), "another draw");
    // What the buyer gave to whom would tell who it is.
    let (seen, _) = run(0, ["1.001", "1", "0.999"], &order);
    same(&first, &seen, "other factors");
}
