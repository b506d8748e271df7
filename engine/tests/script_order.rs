//! The order of the refusals in every format: for every two that follow each other and can both hold, a story in which
//! both do and the earlier is the answer, and the later once the cause of the earlier is gone.

#[path = "script/dsl.rs"]
mod dsl;

use dsl::check;

/// The order of checking, as the auction rules have it. What a lot is when it takes no bids is one place: of those only
/// one can hold.
const ORDER: &[&str] = &[
    "lot_not_found",
    "not_admitted",
    "own_tender",
    "terms_not_accepted",
    "lot_not_open|lot_paused|lot_closed|lot_cancelled",
    "expired",
    "stale_view",
    "wrong_action",
    "not_your_turn",
    "stale_step",
    "already_out",
    "prebid_required",
    "price_scale",
    "price_not_positive",
    "price_tick",
    "above_ceiling",
    "below_floor",
    "not_improved",
    "step_too_large",
    "tie_not_allowed",
    "drop_too_large",
    "limit_not_allowed",
    "bids_exhausted",
];

fn place(code: &str) -> usize {
    let found = ORDER.iter().position(|codes| codes.split('|').any(|other| other == code));
    found.unwrap_or_else(|| panic!("{code} is no refusal of a bid"))
}

/// Plays a story, then each pair: in the first line both hold, in the last only the later; between them the cause of
/// the earlier may go.
fn pairs(begin: &str, rows: &[(&str, &str, &str)]) {
    let code = |line: &str| {
        let told = line.split("->").nth(1).expect("a line says what comes");
        told.split_whitespace().next().expect("a code").to_owned()
    };
    let mut story = begin.to_owned();
    for (first, between, last) in rows {
        let (earlier, later) = (code(first), code(last));
        assert!(place(&earlier) < place(&later), "{earlier} comes before {later}");
        for line in [first, between, last] {
            story.push('\n');
            story.push_str(line);
        }
    }
    check(&story);
}

/// Every format at its plainest.
const FORMATS: [&str; 5] = [
    "ceiling=1000",
    "format=sealed ceiling=1000",
    "format=dutch dutch=500/50/60 ceiling=700",
    "format=japanese japanese=500/50/60/100",
    "format=rounds ceiling=1000 rounds=1/60/0/60/0",
];

#[test]
fn who_and_where_are_checked_before_what_in_every_format() {
    for rules in FORMATS {
        let rules = format!("{rules} view_age=0 min_bidders=0");
        // Until the opening an accept is early in every format.
        pairs(
            &format!("tender {rules} terms public\nadmit A\nadmit buyer\npublish"),
            &[
                ("accept B 0 lot=2 -> lot_not_found", "", "accept B 0 -> not_admitted"),
                ("accept buyer 0 -> own_tender", "", "accept A 0 -> terms_not_accepted"),
                ("accept A 0 -> terms_not_accepted", "join A", "accept A 0 -> lot_not_open"),
            ],
        );
        // A buyer that was taken out of its own tender is not admitted in the first place.
        check(&format!(
            "tender {rules} public\nadmit buyer\npublish\naccept buyer 0 -> own_tender\n\
             disqualify buyer reason=x\naccept buyer 0 -> not_admitted"
        ));
        let (early, offer) = match rules.as_str() {
            it if it.contains("rounds") => ("bid A 500 seen=1\nbid B 400 seen=1", "accept A 9"),
            it if it.contains("dutch") || it.contains("japanese") => ("", "bid A 5"),
            _ => ("", "accept A 9"),
        };
        let begin = format!("tender {rules}\nadmit A\nadmit B\npublish\n{early}\nstart");
        // An accept says itself what its sender saw: what is stale there is a bid.
        let wrong = if offer == "bid A 5" { "bid A 5 seen=4" } else { "bid A 5 bound seen=4" };
        pairs(
            &begin,
            &[
                (
                    "10s pause reason=x\nbid A 5 expires=0s -> lot_paused",
                    "resume reason=x",
                    "bid A 5 expires=0s -> expired",
                ),
                ("bid A 5 expires=9s -> expired", "", "bid A 5 expires=11s -> stale_view"),
                ("bid A 5 bound -> stale_view", "", &format!("{wrong} -> wrong_action")),
            ],
        );
        check(&format!(
            "{begin}\n10s cancel reason=x\nbid A 5 expires=0s -> lot_cancelled\n{offer} -> lot_cancelled"
        ));
        check(&format!("{begin}\n900s bid A 5 expires=0s -> lot_closed\n{offer} -> lot_closed"));
    }
}

#[test]
fn a_sealed_bid() {
    pairs(
        "tender format=sealed ceiling=1000 floor=100 tick=0.50 max_bids=1 prebid=required
         admit A
         admit B
         publish
         bid A 500
         start",
        &[
            ("bid B none -> wrong_action", "", "bid B 500 -> prebid_required"),
            ("bid B 9.999 -> prebid_required", "", "bid A 9.999 -> price_scale"),
            ("bid A -0.001 -> price_scale", "", "bid A -0.3 -> price_not_positive"),
            ("bid A -0.3 -> price_not_positive", "", "bid A 50.20 -> price_tick"),
            ("bid A 1000.20 -> price_tick", "", "bid A 1000.50 -> above_ceiling"),
            ("bid A 50.20 -> price_tick", "", "bid A 99.50 -> below_floor"),
            ("bid A 1000.50 limit=500 -> above_ceiling", "", "bid A 500 limit=500 -> limit_not_allowed"),
            ("bid A 99.50 limit=500 -> below_floor", "", "bid A 500 limit=500 -> limit_not_allowed"),
            ("bid A 500 limit=500 -> limit_not_allowed", "", "bid A 500 -> bids_exhausted"),
        ],
    );
}

#[test]
fn a_bid_in_a_turn() {
    let rules = "tender format=rounds ceiling=1000 floor=100 tick=0.50 decrement=5 max_step=100 guard=10 tie_free=1 \
                 rounds=1/60/0/0 max_bids=3";
    // The worst has the first turn. Who has used up its bids has no `max_next`, and so no guard.
    let opened =
        |b: u16| format!("{rules}\nadmit A\nadmit B\nadmit C\npublish\nbid B {b}\nbid A 700\nbid A 600\nstart");
    pairs(
        &opened(500),
        &[
            ("accept B 0 -> wrong_action", "", "bid B 400 -> not_your_turn"),
            ("bid C none limit=5 -> not_your_turn", "", "bid A none limit=5 -> limit_not_allowed"),
            ("bid B 9.999 -> not_your_turn", "", "bid A 9.999 -> price_scale"),
            ("bid A -0.001 -> price_scale", "", "bid A -0.3 -> price_not_positive"),
            ("bid A -0.3 -> price_not_positive", "", "bid A 50.20 -> price_tick"),
            ("bid A 1000.20 -> price_tick", "", "bid A 1000.50 -> above_ceiling"),
            ("bid A 1000.50 -> above_ceiling", "", "bid A 1000 -> not_improved"),
            ("bid A 50.20 -> price_tick", "", "bid A 99.50 -> below_floor"),
            ("bid A 99.50 -> below_floor", "", "bid A 100 -> step_too_large"),
            ("bid A 600 limit=5 -> not_improved", "", "bid A 590 limit=5 -> limit_not_allowed"),
            ("bid A 499.50 limit=5 -> step_too_large", "", "bid A 505 limit=5 -> drop_too_large"),
            ("bid A 500 -> tie_not_allowed", "", "bid A 505 -> drop_too_large"),
            ("bid A 505 limit=5 -> drop_too_large", "", "bid A 505 confirm limit=5 -> limit_not_allowed"),
            ("bid A 590\nbid A 590 limit=5 -> limit_not_allowed", "", "bid A 590 -> bids_exhausted"),
        ],
    );
    pairs(&opened(400), &[("bid A 400 -> step_too_large", "", "bid A 500 -> drop_too_large")]);
    // Who came with nothing has no turn, and is told that first.
    pairs(&opened(597), &[("bid A 597 -> not_improved", "", "bid A 505 -> drop_too_large")]);
}

#[test]
fn an_accept_of_a_step_and_a_limit_beside_it() {
    pairs(
        "tender format=dutch dutch=500/50/60 ceiling=700
         open A",
        &[
            ("10s pause reason=x\naccept A 9 -> lot_paused", "resume reason=x", "accept A 9 -> stale_step"),
            ("10s pause reason=x\nauto A 9.999 -> lot_paused", "resume reason=x", "auto A 9.999 -> price_scale"),
            ("auto A -0.001 -> price_scale", "", "auto A -0.3 -> price_not_positive"),
            ("auto A 700.001 -> price_scale", "", "auto A 700.01 -> above_ceiling"),
        ],
    );
}

#[test]
fn an_accept_of_a_level() {
    pairs(
        "tender format=japanese japanese=500/50/60/100
         open A B C
         accept A 0
         accept B 0",
        &[
            ("60s pause reason=x\naccept C 0 -> lot_paused", "resume reason=x", "accept C 0 -> stale_step"),
            ("accept C 0 -> stale_step", "", "accept C 1 -> already_out"),
        ],
    );
}

#[test]
fn an_english_bid_with_a_limit() {
    pairs(
        "tender ceiling=1000 floor=100 tick=0.50 decrement=5 max_step=300 guard=10 tie_free=1 max_bids=3 prebid=required \
         auto_bid view_age=3
         admit A
         admit B
         admit C
         publish
         bid A 700 seen=1
         bid A 600 seen=1
         bid B 400 seen=1
         start",
        &[
            ("bid C 500 bound seen=2 -> wrong_action", "", "bid C 500 seen=2 -> prebid_required"),
            ("bid C 9.999 seen=2 -> prebid_required", "", "bid A 9.999 seen=2 -> price_scale"),
            ("auto C 9.999 -> prebid_required", "", "auto A 9.999 -> price_scale"),
            // Price and limit are checked together.
            ("bid A -5 limit=9.999 seen=2 -> price_scale", "", "bid A -5 limit=9.20 seen=2 -> price_not_positive"),
            ("bid A 50.20 limit=-5 seen=2 -> price_not_positive", "", "bid A 99.50 limit=50.20 seen=2 -> price_tick"),
            ("bid A 1000.50 limit=50.20 seen=2 -> price_tick", "", "bid A 1000.50 limit=99.50 seen=2 -> above_ceiling"),
            ("bid A 99.50 limit=1000.50 seen=2 -> above_ceiling", "", "bid A 1000 limit=99.50 seen=2 -> below_floor"),
            ("bid A 1000 limit=99.50 seen=2 -> below_floor", "", "bid A 1000 limit=500 seen=2 -> not_improved"),
            ("bid A 600 seen=2 -> not_improved", "", "bid A 299.50 seen=2 -> step_too_large"),
            ("bid A 299.50 seen=2 -> step_too_large", "", "bid A 400 seen=2 -> tie_not_allowed"),
            ("bid A 400 seen=2 -> tie_not_allowed", "", "bid A 450 seen=2 -> drop_too_large"),
            ("bid A 590 seen=2\nbid A 590 seen=3 -> not_improved", "", "bid A 500 seen=3 -> bids_exhausted"),
        ],
    );
}

#[test]
fn every_refusal_of_a_buyer_in_order() {
    for rules in ["", "format=sealed", "format=rounds rounds=1/60/0/0/0"] {
        let early = if rules.contains("rounds") { "bid A 500\nbid B 400" } else { "" };
        let late = if rules.contains("rounds") { "" } else { "bid A 500\nbid B 400" };
        check(&format!(
            "tender {rules} ceiling=1000 reserve=450 public
             admit A
             admit B
             admit C
             publish
             {early}
             start
             {late}
             award A by=C lot=2                  -> lot_not_found
             award A by=C                        -> not_owner
             award Z                             -> wrong_stage
             reject Z                            -> wrong_stage
             700s tick
             award Z                             -> bidder_not_found
             award C                             -> bid_not_found
             award A                             -> reason_required
             award A reason=x                    -> reserve_not_met
             reject C                            -> bid_not_found
             reject B                            -> reason_required
             void none                           -> bid_not_found
             disqualify Z                        -> bidder_not_found
             disqualify C                        -> reason_required
             admit D                             -> wrong_stage
             award B                             -> ok
             award Z                             -> already_awarded
             award B by=C                        -> not_owner
             void none                           -> wrong_stage
             disqualify Z                        -> wrong_stage
             extend 5                            -> wrong_stage
             lot                                 -> stage=awarded winner=B"
        ));
    }
}
