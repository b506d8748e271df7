//! Stories of english auctions, rule by rule: what is taken, what is refused and in which order, what happens when.
//! The language is that of `script/dsl.rs`.

#[path = "script/dsl.rs"]
mod dsl;

use dsl::{check, errors};

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
    assert_eq!(errors("prebid=required")[0].pointer, "/lots/0/rules/prebid");
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

// What buyers do.

#[test]
fn buyers_refusals_in_order() {
    check(
        "
        publish                         -> tender_not_found
        award A                         -> lot_not_found
        tender lots=2
        publish by=A                    -> tender_not_found
        admit A
        publish
        publish by=A                    -> not_owner
        extend 1 lot=3 by=A             -> lot_not_found
        extend 1 lot=2 by=A             -> not_owner
        void x lot=3                    -> lot_not_found
        void x by=A                     -> not_owner
        start
        bid A 500 as=one
        void x                          -> bid_not_found
        void one                        -> reason_required
        award A                         -> wrong_stage
        600s award A by=A               -> not_owner
        award B                         -> bidder_not_found
        award A
        award B                         -> already_awarded
        void one                        -> wrong_stage
        reject A                        -> already_awarded
        lot 2                           -> stage=unsuccessful
        award A lot=2                   -> wrong_stage
        tender-stage                    -> awarded
        disqualify A                    -> wrong_stage
        cancel                          -> wrong_stage
        ",
    );
}

#[test]
fn the_buyer_awards_in_order_or_says_why_not() {
    check(
        "
        tender reserve=450
        open A B C
        bid A 400
        bid B 300
        bid C 460
        lot                             -> reserve_met=true
        600s lot                        -> winner=none
        tick
        lot                             -> stage=closed winner=B pays=300
        award A                         -> reason_required
        award C reason=x                -> reserve_not_met
        award C                         -> reason_required
        reject B                        -> reason_required
        reject B reason=x
        lot                             -> winner=A order=B,A,C
        reject B reason=x               -> bid_not_found
        award B reason=x                -> bid_not_found
        award A                         -> ok
        lot                             -> stage=awarded winner=A pays=400
        steps -> -, opened, bid A lead, bid B lead, bid C, closed, rejected B, awarded A
        tender-stage                    -> awarded
        ",
    );
    check(
        "
        tender reserve=100
        open A B
        bid A 400
        600s tick
        lot                             -> winner=none pays=none reserve_met=false stage=closed
        reject A reason=x
        lot                             -> stage=unsuccessful winner=none
        tender-stage                    -> unsuccessful
        ",
    );
}

#[test]
fn automatic_award_takes_the_first_that_meets_the_reserve() {
    check(
        "
        tender reserve=350 award=automatic lots=2
        open A
        bid A 400 lot=2
        bid A 350
        600s tick
        lot 1                           -> stage=awarded winner=A pays=350
        lot 2                           -> stage=unsuccessful winner=none
        tender-stage                    -> awarded
        steps -> -, -, opened, opened, bid A lead, bid A lead, closed+awarded A, closed+unsuccessful
        ",
    );
    check(
        "
        tender
        open A
        600s tick
        lot                             -> stage=unsuccessful closed=600s
        steps                           -> -, opened, closed+unsuccessful
        ",
    );
}

#[test]
fn a_voided_bid_leaves_nobody_in_its_place() {
    check(
        "
        tender max_bids=2 overtime=120/120
        open A B
        bid A 500 as=one
        bid A 400 as=two
        bid B 450
        590s void one reason=x          -> bid_not_found
        void two reason=x
        lot                             -> lead=B@450 count=1 closes=600s history=accepted,voided,accepted
        bid A 480                       -> bids_exhausted next=none   # voided ones count too
        void two reason=x               -> bid_not_found
        steps -> -, opened, bid A lead, bid A lead, bid B, voided A
        ",
    );
    check(
        "
        tender ceiling=1000
        open A
        bid A 500 as=one
        void one reason=x
        bid A 1000                      -> ok     # a first bid again
        lot                             -> lead=A@1000
        ",
    );
    check(
        "
        tender
        open A
        bid A 500 as=one
        600s void one reason=x
        lot                             -> stage=unsuccessful
        tender-stage                    -> unsuccessful
        steps                           -> -, opened, bid A lead, closed, voided A+unsuccessful
        ",
    );
}

#[test]
fn a_disqualified_bidder_leaves_all_lots_for_ever() {
    check(
        "
        tender lots=2
        open A B
        bid A 500
        bid A 500 lot=2
        bid B 600
        disqualify 9 reason=x           -> bidder_not_found
        disqualify -1 reason=x          -> bidder_not_found
        disqualify 99999999 reason=x    -> bidder_not_found
        disqualify A                    -> reason_required
        disqualify 1 reason=x           -> status=disqualified number=1
        disqualify 1 reason=x           -> bidder_not_found
        lot 1                           -> lead=B@600 history=accepted,accepted
        lot 2                           -> count=0
        bid A 100                       -> not_admitted next=none
        admit A                         -> rules_frozen
        join A                          -> not_admitted
        600s award A reason=x           -> bidder_not_found
        steps -> -, -, opened, opened, bid A lead, bid A lead, bid B, disqualified A, disqualified A, closed, closed+unsuccessful
        ",
    );
    check(
        "
        tender
        admit A
        disqualify A reason=x
        lot                             -> seq=0
        admit A                         -> rules_frozen
        publish
        start
        lot                             -> stage=unsuccessful
        ",
    );
}

#[test]
fn admission_and_joining() {
    check(
        "
        tender terms
        join A                          -> tender_not_found
        admit A                         -> status=invited number=none
        admit A accepted                -> status=admitted number=none
        admit B                         -> status=invited
        admit C adjusted                -> invalid_rules pointer=/adjustments
        publish
        join buyer                      -> own_tender
        join C                          -> tender_not_found
        join B                          -> status=admitted number=2
        join B                          -> status=admitted number=2
        start
        admit B                         -> rules_frozen
        admit C                         -> status=invited number=3
        bid C 5                         -> terms_not_accepted
        join C                          -> status=admitted
        bid C 5                         -> rank=1
        600s join C                     -> wrong_stage
        admit D                         -> wrong_stage
        ",
    );
    check(
        "
        tender public
        publish
        join A                          -> not_admitted
        ",
    );
}

#[test]
fn cancelling_is_final_and_keeps_the_ranking() {
    check(
        "
        tender lots=2
        open A
        bid A 500
        cancel                          -> reason_required
        5s cancel reason=x
        lot                             -> stage=cancelled closed=none closes=none order=A winner=none
        tender-stage                    -> cancelled
        due
        cancel reason=x                 -> wrong_stage
        pause reason=x                  -> wrong_stage
        steps                           -> -, -, opened, opened, bid A lead, cancelled, cancelled
        ",
    );
    check(
        "
        tender opens=60s
        cancel reason=x
        lot                             -> stage=cancelled seq=0
        publish                         -> wrong_stage
        100s join A                     -> tender_not_found
        steps                           ->
        ",
    );
    check(
        "
        tender opens=60s
        admit A
        publish
        50s cancel reason=x
        due
        70s bid A 5                     -> lot_cancelled
        ",
    );
}

#[test]
fn changing_a_tender() {
    check(
        "
        tender opens=100s ceiling=500
        update opens=100s version=9     -> version_mismatch
        update opens=200s ceiling=400 lots=2
        tender-stage                    -> draft v2
        update duration=0               -> invalid_rules pointer=/lots/0/rules/duration_s
        admit A
        publish
        update opens=200s ceiling=500 lots=2 -> rules_frozen
        update opens=150s ceiling=400 lots=2
        lot 2                           -> opens=150s closes=750s seq=2
        due                             -> 150s
        update opens=150s ceiling=400 lots=2 by=A -> not_owner
        update ceiling=400 lots=2
        due
        120s update opens=110s ceiling=400 lots=2
        lot                             -> opened=120s stage=open seq=5
        update opens=110s ceiling=400 lots=2 -> wrong_stage
        steps -> -, -, -, -, -, -, -, -, opened, opened
        ",
    );
}

// Keys.

#[test]
fn a_repeat_gets_the_first_answer_whatever_happened_since() {
    check(
        "
        tender key=create
        tender key=create               -> replayed
        admit A key=admit               -> number=none
        admit B
        publish key=publish
        start
        admit A key=admit               -> replayed number=none
        1s bid A 500 key=a as=one       -> fresh rank=1 seq=3 next=499.99
        2s bid B 400 key=b
        3s bid A 500 key=a              -> replayed rank=1 seq=3 next=499.99
        3s bid A 450 key=a body=1       -> idempotency_key_reused fresh
        3s bid A 500 key=a              -> replayed
        4s bid A 600 key=c              -> not_improved fresh seq=4 closes=600s
        5s void one reason=x key=void
        6s bid A 500 key=a              -> replayed rank=1 seq=3
        void one reason=x key=void      -> replayed
        lot                             -> history=voided,accepted,not_improved
        700s bid A 600 key=c            -> not_improved replayed seq=4 closes=600s
        publish key=publish             -> replayed
        auto A 5 key=limit              -> lot_closed
        auto A 5 key=limit              -> lot_closed replayed
        ",
    );
}

#[test]
fn refused_creations_are_kept_and_hidden_things_are_not() {
    check(
        "
        tender duration=0 key=k         -> invalid_rules
        tender duration=5 key=k         -> invalid_rules replayed
        tender duration=5 key=k body=2  -> idempotency_key_reused
        bid A 5 key=b                   -> lot_not_found
        tender
        tender key=other                -> idempotency_key_reused
        bid A 5 key=b                   -> lot_not_found fresh
        open A
        bid A 5 key=b                   -> ok fresh
        bid A 5 key=b                   -> ok replayed
        ",
    );
}

#[test]
fn what_a_buyer_tries_on_its_draft_leaves_no_dangling_key() {
    check(
        "
        tender lots=2
        bid buyer 5 lot=2 key=b         -> not_admitted
        update ceiling=5
        bid buyer 5 lot=2 key=b         -> not_admitted replayed
        bid buyer 5 lot=2 key=c         -> lot_not_found
        ",
    );
}

// Results.

#[test]
fn abnormally_low_by_the_others_initial_bids_or_the_next() {
    for (price, low) in [("599.99", true), ("600", true), ("600.01", false)] {
        check(&format!(
            "
            tender
            open A B C
            bid A 999
            bid B 1100
            bid B 700
            bid C 900
            bid C 701
            bid A {price}
            600s tick
            lot                         -> winner=A low={low}
            "
        ));
    }
    for (price, low) in [("490", true), ("490.01", false)] {
        check(&format!(
            "
            tender
            open A B
            bid B 700
            bid A {price}
            600s tick
            lot                         -> winner=A low={low}
            "
        ));
    }
    check(
        "
        tender
        open A
        bid A 1
        600s tick
        lot                             -> winner=A low=false    # nobody to compare with
        ",
    );
}

// Rules.

#[test]
fn wrong_rules_are_told_with_a_pointer_and_what_would_be_right() {
    for (rules, pointer) in [
        ("format=dutch", "/lots/0/rules/format"),
        ("format=sealed", "/lots/0/rules/format"),
        ("sealed", "/lots/0/rules/sealed"),
        ("auto_bid", "/lots/0/rules/auto_bid"),
        ("prebid=allowed", "/lots/0/rules/prebid"),
        ("decision=60", "/lots/0/rules/decision_s"),
        ("light", "/lots/0/rules/visibility/light"),
        ("show_adjustments", "/lots/0/rules/visibility/adjustments"),
        ("features", "/lots/0/rules/features"),
        ("weights=0.3", "/lots/0/rules/max_weight_sum"),
        ("all_or_nothing", "/lots/0/rules/all_or_nothing"),
        ("overtime=1/1 scope=tender", "/lots/0/rules/overtime/scope"),
        ("lot_mode=serial", "/lot_mode"),
        ("lot_mode=staggered stagger=5", "/lot_mode"),
        ("stagger=5", "/stagger_s"),
        ("gap=5", "/serial_gap_s"),
        ("anonymous", "/anonymous_to_buyer"),
        ("lots=0", "/lots"),
        ("lots=501", "/lots"),
        ("items=101", "/lots/0/items"),
        ("title=201", "/title"),
        ("description=10001", "/description"),
        ("currency=eur", "/currency"),
        ("currency=EURO", "/currency"),
        ("opens=99999999999s", "/opens_at"),
        ("no_duration", "/lots/0/rules/duration_s"),
        ("duration=0", "/lots/0/rules/duration_s"),
        ("duration=31622401", "/lots/0/rules/duration_s"),
        ("scale=7", "/lots/0/rules/price_scale"),
        ("scale=-1", "/lots/0/rules/price_scale"),
        ("ceiling=0", "/lots/0/rules/ceiling"),
        ("ceiling=-5", "/lots/0/rules/ceiling"),
        ("ceiling=1.001", "/lots/0/rules/ceiling"),
        ("ceiling=10000000000000.01", "/lots/0/rules/ceiling"),
        ("ceiling=99999999999999999999", "/lots/0/rules/ceiling"),
        ("ceiling=5 floor=6", "/lots/0/rules/floor"),
        ("ceiling=5 reserve=6", "/lots/0/rules/reserve/price"),
        ("floor=5 reserve=4", "/lots/0/rules/reserve/price"),
        ("tick=0", "/lots/0/rules/tick"),
        ("ceiling=5 tick=6", "/lots/0/rules/tick"),
        ("ceiling=19 floor=11 tick=10", "/lots/0/rules/tick"),
        ("improvement=lead lead=never", "/lots/0/rules/visibility/lead"),
        ("improvement=lead lead=after_own_bid", "/lots/0/rules/visibility/lead"),
        ("improvement=own_and_buffer", "/lots/0/rules/buffer"),
        ("buffer=1/1", "/lots/0/rules/buffer"),
        ("improvement=own_and_buffer buffer=-1/1", "/lots/0/rules/buffer/front"),
        ("improvement=free max_step=5", "/lots/0/rules/max_step"),
        ("max_step=4 decrement=5", "/lots/0/rules/max_step"),
        ("max_step=0", "/lots/0/rules/max_step"),
        ("decrement=0", "/lots/0/rules/decrement/value"),
        ("decrement=0%", "/lots/0/rules/decrement/value"),
        ("decrement=101%", "/lots/0/rules/decrement/value"),
        ("decrement=0.0000001%", "/lots/0/rules/decrement/value"),
        ("decrement=1:5", "/lots/0/rules/decrement/rows"),
        ("decrement=0:5,0:6", "/lots/0/rules/decrement/rows"),
        ("decrement=0:0", "/lots/0/rules/decrement/rows/0/step"),
        ("guard=0", "/lots/0/rules/guard_percent"),
        ("guard=100.1", "/lots/0/rules/guard_percent"),
        ("tie_free=-1", "/lots/0/rules/tie_free_ranks"),
        ("tie_free=1001", "/lots/0/rules/tie_free_ranks"),
        ("max_bids=0", "/lots/0/rules/max_bids"),
        ("min_bidders=-1", "/lots/0/rules/min_bidders"),
        ("min_bidders=1001", "/lots/0/rules/min_bidders"),
        ("overtime=0/1", "/lots/0/rules/overtime/window_s"),
        ("overtime=1/0", "/lots/0/rules/overtime/length_s"),
        ("overtime=9223372036854775807/1", "/lots/0/rules/overtime/window_s"),
        ("overtime=1/1 overtime_rank=2", "/lots/0/rules/overtime/rank"),
        ("overtime=1/1 trigger=rank overtime_rank=0", "/lots/0/rules/overtime/rank"),
        ("overtime=1/1 max_count=0", "/lots/0/rules/overtime/max_count"),
        ("overtime=1/1 max_total=0", "/lots/0/rules/overtime/max_total_s"),
        ("grace=-1", "/lots/0/rules/outage_grace_s"),
        ("view_age=-1", "/lots/0/rules/max_view_age"),
    ] {
        let errors = errors(rules);
        assert!(!errors.is_empty(), "{rules} is taken");
        assert_eq!(errors[0].pointer, pointer, "{rules}: {errors:?}");
        assert!(errors.iter().all(|error| !error.detail.is_empty() && !error.valid.is_empty()), "{errors:?}");
    }
}

#[test]
fn everything_wrong_is_told_at_once_and_bounded() {
    let found = errors("ceiling=0 tick=0 title=201 lots=2");
    let pointers: Vec<&str> = found.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        ["/title", "/lots/0/rules/ceiling", "/lots/0/rules/tick", "/lots/1/rules/ceiling", "/lots/1/rules/tick"]
    );
    assert_eq!(errors("ceiling=0 lots=500").len(), 100);
}

#[test]
fn rules_at_the_edge_of_their_range_are_taken() {
    for rules in [
        "scale=0 ceiling=1 floor=1 tick=1 reserve=1",
        "scale=6 ceiling=1000000000.000000",
        "ceiling=10000000000000.00",
        "improvement=own_and_buffer buffer=0/0",
        "improvement=own_and_buffer buffer=1.00/0.00",
        "decrement=100%",
        "guard=100",
        "guard=0.000001",
        "overtime=1/1 trigger=rank overtime_rank=1000",
        "duration=31622400 grace=0 min_bidders=0 view_age=0 max_bids=1 tie_free=1000",
        "lots=500 items=1",
        "items=100 title=200 description=10000",
    ] {
        assert_eq!(errors(rules), [], "{rules}");
    }
}
