//! Stories of sealed, dutch, japanese and rounds auctions, of limits, pre-bids, adjustments and lots one after
//! another. The language is that of `script/dsl.rs`; after every line the invariants hold and a restored state is equal.

#[path = "script/dsl.rs"]
mod dsl;

use dsl::check;

// Sealed.

#[test]
fn sealed_bids_show_nothing_until_the_close_and_the_last_counts() {
    check(
        "
        tender format=sealed ceiling=1000 max_bids=2
        open A B
        steps                           -> -, opened
        1s bid A 500 as=a               -> no_ranks seq=2 next=1000
        2s bid A 600                    -> no_ranks seq=2 next=none
        3s bid A 400                    -> bids_exhausted
        bid B 1000.01                   -> above_ceiling
        bid B 0                         -> price_not_positive
        bid B 500 limit=400             -> limit_not_allowed
        accept B                        -> wrong_action
        bid B none                      -> wrong_action
        auto B 400                      -> limit_not_allowed
        4s bid B 600                    -> seq=2
        lot                             -> order= count=0 lead=none seq=2
        steps                           ->
        600s tick
        steps                           -> closed+bid A lead+bid B
        lot                             -> order=A,B stage=closed winner=A pays=600 closed=600s
        ",
    );
}

#[test]
fn the_second_price_is_the_next_ones() {
    check(
        "
        tender format=sealed second ceiling=1000 reserve=700 award=automatic
        open A B
        bid A 500
        bid B 650.5
        600s tick
        lot                             -> stage=awarded winner=A pays=650.50
        ",
    );
    check(
        "
        tender format=sealed second ceiling=1000
        open A B C
        bid A 500
        bid B 600
        bid C 700
        600s tick
        reject A reason=no              -> ok
        lot                             -> winner=B pays=700
        reject C reason=no              -> ok
        lot                             -> winner=B pays=1000
        ",
    );
}

#[test]
fn a_sealed_bid_can_be_voided_by_its_id_without_a_step() {
    check(
        "
        tender format=sealed
        open A B
        bid A 500 as=a                  -> seq=2
        void a                          -> reason_required
        void a reason=mistake           -> ok
        void a reason=again             -> bid_not_found
        disqualify B reason=fraud       -> ok
        600s tick
        lot                             -> order= stage=unsuccessful history=voided
        ",
    );
}

#[test]
fn a_sealed_lot_that_never_closed_stays_empty() {
    check(
        "
        tender format=sealed
        open A
        bid A 500
        cancel reason=over
        lot                             -> order= stage=cancelled
        ",
    );
}

// Pre-bids.

#[test]
fn prebids_are_taken_before_the_opening_and_stand_at_it() {
    check(
        "
        tender prebid=required ceiling=1000 decrement=10 opens=100s
        admit A
        admit B
        admit C
        publish
        1s bid A 900                    -> no_ranks seq=1 next=1000
        2s bid A 950 as=a               -> seq=1           # higher is free before the opening
        bid A none                      -> wrong_action
        accept A                        -> lot_not_open
        auto A 900                      -> lot_not_open
        3s bid B 900                    -> no_ranks
        lot                             -> order= count=0 seq=1
        100s tick
        steps                           -> -, opened+bid A+bid B lead
        lot                             -> order=B,A history=accepted,accepted,wrong_action,lot_not_open,accepted
        bid C 800                       -> prebid_required next=none
        bid C 0.001                     -> prebid_required
        bid A 945                       -> not_improved next=940
        bid A 940                       -> rank=2
        ",
    );
}

#[test]
fn too_few_prebids_fail_the_lot_and_show_nothing() {
    check(
        "
        tender prebid=required min_bidders=2 opens=100s
        admit A
        admit B
        publish
        bid A 900
        100s tick
        steps                           -> -, unsuccessful
        lot                             -> order= opened=none closed=100s
        ",
    );
}

// Limits.

#[test]
fn two_limits_meet_in_one_pass() {
    check(
        "
        tender auto_bid improvement=free tick=0.25 decrement=0.25
        open S T
        1s bid S 2.00                   -> rank=1
        auto S 1.00                     -> ok              # a leader's own limit never moves it
        2s bid T 2.00                   -> rank=2 seq=4
        auto T 1.50                     -> ok
        steps                           -> -, opened, bid S lead, bid T+bid S lead auto, bid S lead auto+bid T auto
        lot                             -> order=S,T lead=S@1.25 history=accepted,accepted,automatic,automatic,automatic
        auto T                          -> ok
        auto T 3.001                    -> price_scale
        auto T 0                        -> price_not_positive
        auto T 1.10                     -> price_tick
        auto C 1                        -> lot_not_found
        bid T 1.3 limit=0.001           -> price_scale
        bid T 1.30 limit=1              -> price_tick
        ",
    );
}

#[test]
fn alone_a_limit_enters_at_the_ceiling_and_falls_with_a_void() {
    check(
        "
        tender auto_bid ceiling=1000 decrement=50
        open A B
        auto A 700                      -> seq=3
        lot                             -> lead=A@1000 count=1
        bid B 900                       -> rank=2 seq=4
        lot                             -> lead=A@850 order=A,B
        disqualify B reason=no          -> ok
        lot                             -> lead=A@850
        ",
    );
}

#[test]
fn automatic_bids_extend_like_others() {
    check(
        "
        tender auto_bid ceiling=1000 decrement=10 overtime=60/60 trigger=any
        open A B
        auto A 500
        550s bid B 900                  -> closes=610s
        lot                             -> lead=A@890 extensions=1
        ",
    );
}

// Dutch.

#[test]
fn the_first_accept_of_the_current_step_wins() {
    check(
        "
        tender format=dutch dutch=50/5/60 ceiling=57
        open A B
        steps                           -> -, opened+step 0 to 60000ms
        lot                             -> closes=180s
        bid A 50                        -> wrong_action next=50
        bid A none                      -> wrong_action
        accept A 1                      -> stale_step
        59.999s accept A 1              -> stale_step next=50
        60s accept A 0                  -> stale_step next=55
        auto A 58                       -> above_ceiling
        auto A 0                        -> price_not_positive
        120s tick
        accept A 1                      -> stale_step next=57
        pause reason=why                -> ok
        accept A 2                      -> lot_paused next=none
        130s resume reason=on           -> ok
        steps                           -> step 1 to 120000ms, step 2 to 180000ms, paused why, resumed to 190000ms+step 2 to 190000ms
        extend 60 reason=why            -> wrong_stage
        189s accept A 2                 -> rank=1 next=none seq=7
        accept B 2                      -> lot_closed
        lot                             -> winner=A pays=57 closed=189s
        ",
    );
}

#[test]
fn the_earliest_limit_that_a_step_reaches_wins_at_the_steps_time() {
    check(
        "
        tender format=dutch dutch=50/5/120 ceiling=100 opens=60s
        admit A
        admit B
        admit C
        publish
        30s auto A 72                   -> ok
        40s auto B 64                   -> ok
        41s auto C 62                   -> ok
        1000s tick
        steps                           -> -, opened+step 0 to 180000ms, step 1 to 300000ms, step 2 to 420000ms, step 3 to 540000ms+bid B lead auto+closed
        lot                             -> winner=B pays=65 closed=420s
        ",
    );
    check(
        "
        tender format=dutch dutch=50/5/120 ceiling=55 decision=10
        open A
        130s auto A 51                  -> next=none
        lot                             -> winner=A pays=55 closed=130s stage=closed
        due                             -> 140s
        140s tick
        lot                             -> stage=unsuccessful
        ",
    );
}

#[test]
fn a_dutch_lot_that_nobody_takes_is_unsuccessful() {
    check(
        "
        tender format=dutch dutch=50/5/60 ceiling=55
        open A
        500s tick
        lot                             -> stage=unsuccessful closed=120s
        ",
    );
}

// Japanese.

#[test]
fn who_does_not_accept_a_level_is_out() {
    check(
        "
        tender format=japanese japanese=100/10/60/75
        open A B C
        steps                           -> -, opened+level 0 to 60000ms
        accept A 0                      -> no_ranks seq=2 next=100
        2s accept B 0                   -> ok
        3s accept A 0                   -> ok              # again is fine
        bid A 90                        -> wrong_action
        auto A 90                       -> limit_not_allowed
        lot                             -> order= count=0
        60s accept C 1                  -> already_out next=none
        accept C 0                      -> stale_step
        accept B 1                      -> ok
        61s accept A 1                  -> ok
        steps                           -> bid A lead+bid B+out C+level 1 to 120000ms
        120s pause reason=why           -> ok
        130s resume reason=on           -> ok
        lot                             -> order=B,A lead=B@90
        accept A 2                      -> next=80
        140s pause reason=again         -> ok
        150s resume reason=on           -> ok              # what was given is dropped
        209s accept B 2                 -> ok
        210s tick
        lot                             -> stage=closed winner=B pays=80 order=B,A closed=210s
        ",
    );
}

#[test]
fn the_last_level_is_the_floor_and_ties_go_by_time() {
    check(
        "
        tender format=japanese japanese=100/20/60/75
        open A B
        accept A 0
        accept B 0
        60s accept B 1
        61s accept A 1
        120s accept A 2
        121s accept B 2
        180s tick
        lot                             -> order=A,B lead=A@75 closed=180s
        ",
    );
    check(
        "
        tender format=japanese japanese=100/20/60/75
        open A
        60s tick
        lot                             -> stage=unsuccessful closed=60s
        ",
    );
}

// Rounds.

#[test]
fn turns_go_worst_first_and_show_nothing_until_they_end() {
    check(
        "
        tender format=rounds rounds=2/60/30/10/5 ceiling=1000 decrement=10 opens=100s
        admit A
        admit B
        admit C
        publish
        1s bid A 500                    -> seq=1
        2s bid B 600 as=b               -> seq=1
        lot                             -> closes=none
        100s tick
        steps                           -> -, opened+bid A lead+bid B
        lot                             -> closes=385s order=A,B
        bid A 490                       -> not_your_turn next=490
        bid C 490                       -> not_your_turn next=none
        accept A                        -> wrong_action
        auto B 400                      -> not_your_turn
        110s bid B none                 -> seq=3 next=590
        bid B 591                       -> not_improved
        bid B 400                       -> seq=3 no_ranks next=590
        bid B 450                       -> seq=3           # inside a turn it may go up again
        auto B 400                      -> limit_not_allowed
        lot                             -> order=A,B
        170s tick
        steps                           -> turn 1.1 B to 170000ms, bid B lead+turn 1.2 A to 230000ms
        lot                             -> order=B,A
        171s bid A 440                  -> ok
        bid A none                      -> ok
        230s tick
        steps                           -> withdrawn A
        259s bid B 400                  -> not_your_turn next=440
        260s bid A 445                  -> ok
        320s tick
        380s bid B 400                  -> not_your_turn next=none
        385s tick
        steps                           -> turn 2.1 A to 320000ms, bid A lead+turn 2.2 B to 380000ms, -, closed
        lot                             -> order=A,B winner=A closed=385s
        ",
    );
}

#[test]
fn a_paused_turn_starts_again_and_a_paused_lead_in_is_frozen() {
    check(
        "
        tender format=rounds rounds=1/60/0/10/0 opens=100s
        admit A
        admit B
        publish
        bid A 500
        bid B 600
        104s pause reason=why           -> ok
        200s resume reason=on           -> ok
        lot                             -> closes=326s
        210s bid B 400                  -> ok
        220s pause reason=why           -> ok
        230s resume reason=on           -> ok
        lot                             -> closes=350s order=A,B history=accepted,accepted,dropped
        240s takeover
        lot                             -> closes=360s
        disqualify B reason=no          -> ok
        bid B 300                       -> not_admitted
        300s bid A 400                  -> ok
        360s tick
        lot                             -> order=A lead=A@400 closed=360s
        ",
    );
}

#[test]
fn one_bidder_alone_stands_at_the_opening() {
    check(
        "
        tender format=rounds opens=100s
        admit A
        publish
        bid A 500
        100s tick
        steps                           -> -, opened+bid A lead+closed
        lot                             -> winner=A closed=100s
        ",
    );
}

// Adjustments.

#[test]
fn effective_prices_are_compared_exactly() {
    check(
        "
        tender format=sealed features weights=0.2
        admit A won=0.05
        admit B won=0.1 addend=-0.01
        admit C factor=19/17
        admit A won=0.11                -> invalid_rules pointer=/features/0/value
        admit A won=0.01 factor=2       -> invalid_rules pointer=/features/0/lot
        admit A factor=0                -> invalid_rules pointer=/adjustments/0/factor
        admit A addend=0.001            -> invalid_rules pointer=/adjustments/0/addend
        open
        admit A                         -> rules_frozen
        bid A 950                       -> ok
        bid B 1000                      -> ok
        600s tick
        lot                             -> order=B,A
        ",
    );
    check(
        "
        tender improvement=lead ceiling=1000 decrement=10
        admit A factor=2
        admit B factor=1/3
        open
        bid A 100                       -> rank=1 next=95
        bid B 571                       -> not_improved next=570
        bid B 570                       -> rank=1 next=540
        bid A 90.01                     -> not_improved next=90
        bid A 90                        -> rank=1
        ",
    );
}

// Lots one after another, and together.

#[test]
fn serial_lots_follow_after_the_gap() {
    check(
        "
        tender lot_mode=serial gap=25 lots=3 duration=60
        open A
        lot 2                           -> opens=none closes=none stage=pending
        bid A 5 lot=2                   -> lot_not_open
        60s tick
        lot 2                           -> opens=85s closes=145s stage=pending
        85s bid A 5 lot=2               -> ok
        145s tick
        lot 3                           -> opens=170s
        1000s tick
        lot 3                           -> opened=170s closed=230s stage=unsuccessful
        ",
    );
    check(
        "
        tender lot_mode=serial lots=2 format=dutch dutch=5/1/10 ceiling=9
        open A
        3s accept A 0                   -> ok
        lot 2                           -> stage=open opened=3s closes=53s
        ",
    );
}

#[test]
fn staggered_lots_close_one_after_another_and_follow() {
    check(
        "
        tender lot_mode=staggered stagger=60 lots=3 duration=600 overtime=30/30
        open A
        lot 3                           -> closes=720s
        590s bid A 5                    -> ok
        lot 1                           -> closes=620s extensions=1
        lot 2                           -> closes=680s extensions=0
        steps                           -> -, -, -, opened, opened, opened, bid A lead+extended overtime to 620000ms by 20000ms, extended staggered to 680000ms by 20000ms, extended staggered to 740000ms by 20000ms
        ",
    );
}

#[test]
fn overtime_of_scope_tender_extends_every_open_lot_under_its_own_caps() {
    check(
        "
        tender lots=2 duration=600 overtime=30/30 scope=tender max_count=1
        open A B
        590s bid A 5                    -> ok
        lot 2                           -> closes=620s extensions=1
        615s bid B 4                    -> ok
        lot 1                           -> closes=620s extensions=1
        ",
    );
}

#[test]
fn a_bid_may_be_bound_where_the_rules_say_so() {
    check(
        "
        tender format=sealed all_or_nothing
        open A
        bid A 500 bound                 -> ok
        600s tick
        lot                             -> order=A bound=1
        ",
    );
    check(
        "
        tender format=sealed
        open A
        bid A 500 bound                 -> wrong_action
        ",
    );
}
