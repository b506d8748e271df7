//! Stories of english auctions, rule by rule: which bids are taken, which refused and in which order, what happens when.
//! The language is that of `script/dsl.rs`.

#[path = "script/dsl.rs"]
mod dsl;

use dsl::check;

// How a bid is refused: every code, and when two rules are broken the earlier is answered.

#[test]
fn lot_not_found_comes_first() {
    check(
        "
        bid A 900                       -> lot_not_found no_lot
        tender ceiling=1000
        bid A 900                       -> lot_not_found   # a draft is its buyer's
        open B
        bid B 900 lot=2                 -> lot_not_found
        bid A 900                       -> lot_not_found   # invited tenders are hidden from others
        accept A                        -> lot_not_found
        auto A 900                      -> lot_not_found
        ",
    );
}

#[test]
fn not_admitted_before_own_tender_before_terms() {
    check(
        "
        tender terms access=open public opens=100s
        admit A
        publish
        bid B 900                       -> not_admitted seq=1
        bid buyer 900                   -> not_admitted    # not a bidder in the first place
        admit buyer
        bid buyer 900                   -> own_tender      # though it has not accepted terms either
        bid A 900                       -> terms_not_accepted   # before lot_not_open
        join A                          -> status=admitted number=1
        bid A 900                       -> lot_not_open
        join B                          -> status=admitted number=3
        bid B 900                       -> lot_not_open
        disqualify B reason=x           -> status=disqualified
        bid B 900                       -> not_admitted
        ",
    );
}

#[test]
fn a_supplier_outside_a_closed_circle_learns_nothing_of_the_lot() {
    check(
        "
        tender access=open opens=100s
        publish
        bid B 900                       -> not_admitted no_lot
        lot                             -> history=
        join B
        bid B 900                       -> lot_not_open seq=1 closes=700s next=none
        lot                             -> history=lot_not_open
        ",
    );
}

#[test]
fn the_stage_of_the_lot_refuses_before_the_bid_is_looked_at() {
    check(
        "
        tender opens=10s lots=2
        admit A
        publish
        bid A -1 expires=0s             -> lot_not_open
        10s bid A 900                   -> ok
        20s pause reason=x
        30s bid A -1 expires=0s         -> lot_paused closes=none
        30s resume reason=x
        40s cancel reason=x
        40s bid A -1 expires=0s         -> lot_cancelled closes=none
        ",
    );
    check(
        "
        tender
        open A
        600s bid A -1 expires=0s        -> lot_closed
        ",
    );
}

#[test]
fn expired_before_stale_view_before_wrong_action() {
    check(
        "
        tender view_age=1 ceiling=1000
        open A B
        10s bid A 900 expires=9999ms    -> expired
        10s bid A 900 expires=10s seen=2 -> ok seq=3
        10s bid B none expires=9999ms   -> expired
        10s bid B none                  -> stale_view
        10s bid B none seen=1           -> stale_view
        10s bid B none seen=2           -> wrong_action
        10s bid B 9.999 bound seen=3    -> wrong_action
        10s accept B                    -> wrong_action
        10s bid B 890 seen=99           -> ok
        10s bid B 880                   -> stale_view
        ",
    );
}

#[test]
fn price_rules_in_order() {
    check(
        "
        tender ceiling=1000 floor=100 tick=0.50
        open A B
        bid A -0.001                    -> price_scale
        bid A 0.000000000000000000001   -> price_scale
        bid A -0.3                      -> price_not_positive
        bid A 0                         -> price_not_positive
        bid A 1000.20                   -> price_tick
        bid A 50.20                     -> price_tick
        bid A 1000.50                   -> above_ceiling next=1000.00
        bid A 99.50                     -> below_floor
        bid A 100                       -> ok next=none
        bid A 100                       -> not_improved
        bid B 1000.0000                 -> ok next=999.50
        bid B 99.50                     -> below_floor
        ",
    );
    check(
        "
        tender
        open A
        bid A 10000000000000.01         -> above_ceiling next=any
        bid A 10000000000000.00         -> ok
        bid A 99999999999999999999999   -> above_ceiling
        ",
    );
}

#[test]
fn not_improved_before_step_too_large_before_ties_and_guard() {
    check(
        "
        tender ceiling=1000 decrement=10 max_step=200 tie_free=1 guard=10 max_bids=2
        open A B
        bid A 900 confirm               -> ok next=890
        bid B 900                       -> tie_not_allowed next=1000
        bid B 900 confirm limit=1       -> tie_not_allowed
        bid B 950 limit=1               -> limit_not_allowed
        bid B 850 limit=1               -> drop_too_large
        bid B 950                       -> ok next=940
        bid B 945 confirm               -> not_improved
        bid B 749.99 confirm            -> step_too_large
        bid B 900                       -> tie_not_allowed
        bid B 846                       -> drop_too_large
        bid B 846.01                    -> ok next=none
        bid B 845 confirm               -> not_improved
        bid B 800 limit=1               -> limit_not_allowed
        bid B 800                       -> bids_exhausted next=none
        ",
    );
}

#[test]
fn limits_are_not_allowed_and_are_in_no_history() {
    check(
        "
        tender opens=10s
        admit A
        publish
        auto A 900                      -> lot_not_open
        10s auto A 900                  -> limit_not_allowed next=any seq=2
        10s auto A                      -> limit_not_allowed
        10s auto A 0.0001               -> limit_not_allowed
        lot                             -> history=
        ",
    );
}

#[test]
fn codes_of_other_formats_cannot_come_from_english_lots() {
    // `not_your_turn`, `stale_step`, `already_out` and `prebid_required` need turns, steps, levels or pre-bids, and
    // an english lot without pre-bids knows none of them: an accept is a wrong action whatever it names.
    for code in ["not_your_turn", "stale_step", "already_out", "prebid_required"] {
        assert!(engine::Refusal::from_code(code).is_some(), "{code} is a stable name");
    }
}

// What a bid must beat.

#[test]
fn own_asks_for_improvement_on_ones_own_bid_only() {
    check(
        "
        tender ceiling=1000 decrement=5
        open A B
        bid A 500                       -> rank=1 next=495
        bid B 1000                      -> rank=2 next=995
        bid B 995.01                    -> not_improved next=995
        bid B 995                       -> ok next=990
        bid B 4                         -> ok next=none
        bid B 0.01                      -> not_improved next=none
        ",
    );
}

#[test]
fn lead_asks_for_improvement_on_the_lead_even_if_it_is_ones_own() {
    check(
        "
        tender ceiling=1000 decrement=1% improvement=lead max_step=300
        open A B
        bid A 1000.01                   -> above_ceiling next=1000
        bid A 950.01                    -> next=940.50
        bid B 940.51                    -> not_improved next=940.50
        bid A 940.51                    -> not_improved
        bid B 640.50                    -> step_too_large
        bid B 650.01                    -> rank=1 next=643.50
        bid A 643.50                    -> rank=1
        ",
    );
}

#[test]
fn the_buffer_keeps_bids_away_from_anothers_lead() {
    check(
        "
        tender ceiling=1000 improvement=own_and_buffer buffer=10/20 decrement=1
        open A B
        bid A 900                       -> next=899
        bid B 919.99                    -> not_improved next=1000
        bid B 920                       -> next=890
        bid B 919                       -> not_improved
        bid B 890.01                    -> not_improved
        bid B 890                       -> rank=1 next=889
        bid A 880                       -> rank=1
        ",
    );
}

#[test]
fn free_lots_take_higher_prices_too() {
    check(
        "
        tender ceiling=1000 improvement=free
        open A B
        1s bid A 500 as=first           -> rank=1 next=1000
        2s bid B 500                    -> rank=2 tied next=1000
        3s bid A 500                    -> rank=1 tied      # the same amount keeps its time
        4s bid A 600                    -> rank=2
        5s bid A 500                    -> rank=2 tied      # left it, so back behind
        lot                             -> lead=B@500 order=B,A
        void first reason=x             -> bid_not_found
        ",
    );
}

#[test]
fn steps_by_price_range() {
    check(
        "
        tender decrement=0:30,800.01:70,1000.01:200
        open A
        bid A 1100                      -> next=900
        bid A 900                       -> next=830
        bid A 830.01                    -> not_improved
        bid A 800                       -> next=770
        ",
    );
}

#[test]
fn tie_free_ranks_look_at_others_without_the_own_old_bid() {
    check(
        "
        tender ceiling=1000 tie_free=2
        open A B C D
        bid A 900
        bid B 800
        bid C 900                       -> tie_not_allowed   # A stands at rank 2
        bid C 850                       -> rank=2
        bid D 900                       -> ok                # now rank 3
        bid C 800                       -> tie_not_allowed
        bid D 850                       -> tie_not_allowed next=899.99
        bid B 700
        lot                             -> order=B,C,A,D ranks=1,2,3,4
        ",
    );
}

#[test]
fn the_guard_counts_from_max_next_and_confirm_passes_it() {
    check(
        "
        tender ceiling=1000 guard=30 decrement=1
        open A B
        bid A 700                       -> drop_too_large next=1000
        bid A 700.01                    -> next=699.01
        bid A 489.30                    -> drop_too_large
        bid A 489.31                    -> ok
        bid B 1 confirm                 -> rank=1
        ",
    );
    check(
        "
        tender guard=30
        open A
        bid A 1                         -> ok next=0.99   # without a limit above there is nothing to fall from
        ",
    );
}

// Ranks.

#[test]
fn tied_bidders_are_shown_what_the_lot_says() {
    for (shown, ranks) in [("by_time", "1,2,3,4"), ("best", "1,2,2,4"), ("worst", "1,3,3,4")] {
        check(&format!(
            "
            tender tie_rank={shown}
            open A B C D
            bid A 500
            bid B 400                   -> rank=1 award=1
            bid C 500                   -> award=3 tied
            bid D 600
            lot                         -> order=B,A,C,D ranks={ranks}
            "
        ));
    }
    check(
        "
        tender no_rank
        open A
        bid A 500                       -> no_ranks
        ",
    );
}

// Time.

#[test]
fn a_bid_at_the_end_is_late_and_the_deadline_keeps_its_time() {
    check(
        "
        tender
        open A B
        due                             -> 600s
        599999ms bid A 500              -> ok
        700s bid B 400                  -> lot_closed closes=600s
        lot                             -> stage=closed closed=600s seq=4 winner=A pays=500
        steps                           -> -, opened, bid A lead, closed
        due
        ",
    );
}

#[test]
fn the_tender_opens_at_its_time_or_at_once_or_by_hand() {
    check(
        "
        tender opens=100s
        admit A
        publish
        lot                             -> stage=pending opens=100s closes=700s opened=none seq=1
        start                           -> wrong_stage
        99999ms bid A 5                 -> lot_not_open
        250s bid A 5                    -> ok
        lot                             -> opened=100s closes=700s
        steps                           -> -, opened, bid A lead
        ",
    );
    check(
        "
        tender opens=5s
        admit A
        7s publish
        lot                             -> opened=7s closes=607s seq=2
        start                           -> wrong_stage
        ",
    );
    check(
        "
        tender
        start                           -> wrong_stage
        admit A
        publish
        publish                         -> wrong_stage
        lot                             -> opens=none closes=none
        30s start
        lot                             -> opened=30s closes=630s
        ",
    );
}

#[test]
fn min_bidders_count_admitted_ones_at_the_opening() {
    check(
        "
        tender terms min_bidders=2 lots=2 opens=60s
        admit A
        admit B
        publish
        join A
        60s tick
        lot                             -> stage=unsuccessful opened=none closed=60s seq=2
        tender-stage                    -> unsuccessful
        steps                           -> -, -, unsuccessful, unsuccessful
        join B                          -> wrong_stage
        ",
    );
    check(
        "
        tender access=open
        publish
        start
        lot                             -> stage=open
        join A
        bid A 5                         -> rank=1
        ",
    );
    check(
        "
        tender
        publish
        start
        lot                             -> stage=unsuccessful
        ",
    );
}

#[test]
fn overtime_resets_the_end_from_the_stamp() {
    check(
        "
        tender overtime=120/120
        open A B
        479999ms bid A 500              -> closes=600s       # one millisecond before the window
        480s bid B 600                  -> closes=600s       # in it, but not the lead
        480s bid A 490                  -> closes=600s       # would not move the end later
        lot                             -> extensions=0
        481s bid A 480                  -> closes=601s
        600999ms bid B 600              -> not_improved closes=601s
        600999ms bid B 480              -> closes=720999ms   # ties the best price: rank 1
        lot                             -> extensions=2 seq=7
        due                             -> 720999ms
        720999ms bid A 1                -> lot_closed
        steps -> -, opened, bid A lead, bid B, bid A lead, bid A lead+extended overtime to 601000ms by 1000ms, bid B+extended overtime to 720999ms by 119999ms, closed
        ",
    );
}

#[test]
fn overtime_adds_to_the_end_under_caps() {
    check(
        "
        tender overtime=120/100 mode=add trigger=any max_count=2 max_total=150
        open A B
        590s bid A 500                  -> closes=700s
        595s bid B 600                  -> closes=750s       # shortened to the total
        740s bid A 400                  -> closes=750s
        lot                             -> extensions=2
        ",
    );
}

#[test]
fn overtime_by_rank_wants_a_rank_to_move() {
    check(
        "
        tender overtime=120/120 trigger=rank overtime_rank=2
        open A B C
        1s bid A 500
        2s bid B 400
        590s bid B 399                  -> closes=600s       # nobody's rank moved
        590s bid C 550                  -> closes=600s       # rank 3
        590s bid C 450                  -> closes=710s       # rank 2, A fell
        lot                             -> extensions=1
        591s bid C 399                  -> closes=711s       # meets B: its own rank moved
        ",
    );
}

#[test]
fn first_bids_extend_where_the_lot_says_so() {
    for (flag, closes) in [("", "600s"), ("first_bid", "715s")] {
        check(&format!(
            "
            tender overtime=120/120 {flag}
            open A B
            1s bid A 500
            595s bid B 600              -> closes={closes}
            "
        ));
    }
}

#[test]
fn pause_freezes_and_resume_gives_at_least_the_window() {
    check(
        "
        tender overtime=120/120 lots=2
        open A
        10s bid A 500
        590s pause                      -> reason_required
        590s pause reason=lunch
        lot                             -> stage=paused closes=none
        due
        700s extend 5 lot=1 reason=x
        800s resume                     -> reason_required
        800s resume reason=x
        lot 1                           -> stage=open closes=920s
        lot 2                           -> closes=920s
        800s resume reason=x            -> wrong_stage
        steps -> -, -, opened, opened, bid A lead, paused lunch, paused lunch, extended buyer to none by 5000ms, resumed to 920000ms, resumed to 920000ms
        ",
    );
}

#[test]
fn the_buyer_adds_time_with_a_reason() {
    check(
        "
        tender
        extend 60 reason=x              -> wrong_stage
        open A
        extend 60                       -> reason_required
        extend 60 reason=x lot=9        -> lot_not_found
        extend 0 reason=x               -> invalid_rules pointer=/seconds
        extend 2592001 reason=x         -> invalid_rules
        extend 60 reason=x
        lot                             -> closes=660s extensions=0
        659s bid A 5                    -> ok
        660s extend 60 reason=x         -> wrong_stage
        ",
    );
}

#[test]
fn an_interruption_gives_grace_to_what_it_touched() {
    check(
        "
        tender overtime=60/60 lots=2
        open A
        extend 1000 lot=2 reason=x
        540s takeover                   # the window of lot 1 began just now
        lot 1                           -> closes=660s extensions=0
        lot 2                           -> closes=1600s
        900s takeover
        lot 1                           -> stage=open closes=1020s
        901s bid A 5                    -> ok
        1100s takeover planned
        lot 1                           -> stage=closed closed=1020s
        steps -> -, -, opened, opened, extended buyer to 1600000ms by 1000000ms, extended outage to 660000ms by 60000ms, extended outage to 1020000ms by 360000ms, bid A lead, closed
        ",
    );
    check(
        "
        tender grace=0
        open A
        bid A 5
        700s takeover
        lot                             -> stage=closed closed=700s
        ",
    );
    check(
        "
        tender opens=100s duration=50
        admit A
        publish
        300s takeover                   # opened and would have ended while nobody served
        lot                             -> opened=100s closes=420s stage=open
        ",
    );
}
