//! Stories of english auctions: what buyers do, what a repeat is told, what comes out, which rules are refused.
//! The language is that of `script/dsl.rs`.

#[path = "script/dsl.rs"]
mod dsl;

use dsl::{check, errors};

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
        admit C factor=0                -> invalid_rules pointer=/adjustments/0/factor
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
        ("format=dutch ceiling=9", "/lots/0/rules/dutch"),
        ("format=dutch dutch=5/1/10", "/lots/0/rules/ceiling"),
        ("format=dutch dutch=5/1/10 ceiling=4", "/lots/0/rules/dutch/start"),
        ("format=dutch dutch=5/1/0 ceiling=9", "/lots/0/rules/dutch/interval_s"),
        ("format=dutch dutch=1/0.01/10 ceiling=99999", "/lots/0/rules/dutch/step"),
        ("format=dutch dutch=5/1/10 ceiling=9 auto_bid", "/lots/0/rules/auto_bid"),
        ("format=dutch dutch=5/1/10 ceiling=9 duration=60", "/lots/0/rules/duration_s"),
        ("format=dutch dutch=5/1/10 ceiling=9 prebid=allowed", "/lots/0/rules/prebid"),
        ("format=dutch dutch=5/1/10 ceiling=9 floor=1", "/lots/0/rules/floor"),
        ("format=dutch dutch=5/1/10 ceiling=9 decrement=1", "/lots/0/rules/decrement"),
        ("format=japanese", "/lots/0/rules/japanese"),
        ("format=japanese japanese=5/1/10/6", "/lots/0/rules/japanese/floor"),
        ("format=japanese japanese=5/1/10/1 ceiling=4", "/lots/0/rules/japanese/start"),
        ("format=japanese japanese=5/1/10/1 features", "/lots/0/rules/features"),
        ("format=japanese japanese=5/1/10/1 overtime=1/1", "/lots/0/rules/overtime"),
        ("format=sealed improvement=lead", "/lots/0/rules/improvement"),
        ("format=sealed decrement=5", "/lots/0/rules/decrement"),
        ("format=sealed guard=20", "/lots/0/rules/guard_percent"),
        ("format=sealed tie_free=1", "/lots/0/rules/tie_free_ranks"),
        ("format=sealed max_step=5", "/lots/0/rules/max_step"),
        ("format=sealed overtime=1/1", "/lots/0/rules/overtime"),
        ("format=sealed auto_bid", "/lots/0/rules/auto_bid"),
        ("format=rounds improvement=free", "/lots/0/rules/improvement"),
        ("format=rounds prebid=allowed", "/lots/0/rules/prebid"),
        ("format=rounds auto_bid", "/lots/0/rules/auto_bid"),
        ("format=rounds rounds=0/1/1/1", "/lots/0/rules/rounds/count"),
        ("format=rounds rounds=1/0/1/1", "/lots/0/rules/rounds/turn_s"),
        ("format=rounds lot_mode=staggered stagger=5", "/lot_mode"),
        ("sealed", "/lots/0/rules/sealed"),
        ("dutch=5/1/10", "/lots/0/rules/dutch"),
        ("decision=0", "/lots/0/rules/decision_s"),
        ("decision=60 award=automatic", "/lots/0/rules/decision_s"),
        ("features weights=0.05", "/lots/0/rules/features"),
        ("weights=0.2", "/lots/0/rules/max_weight_sum"),
        ("features weights=1", "/lots/0/rules/max_weight_sum"),
        ("overtime=1/5 max_count=2 max_total=10", "/lots/0/rules/overtime/max_total_s"),
        ("all_or_nothing award=automatic", "/lots/0/rules/all_or_nothing"),
        ("stagger=5", "/stagger_s"),
        ("gap=5", "/serial_gap_s"),
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
