//! Who sees what, as the table of the auction rules says: each reader, each setting, each stage.

use engine::*;

const TENDER: TenderId = TenderId::new(1 << 20);
const BUYER: u128 = 1;
const A: u128 = 10;
const B: u128 = 11;
const SUPPLIER: u128 = 12;

fn play(visibility: VisibilitySpec, public: bool, access: Access, actions: &[(i64, u128, Action)]) -> Engine {
    play_as(false, visibility, public, access, actions)
}

fn play_as(
    anonymous_to_buyer: bool,
    visibility: VisibilitySpec,
    public: bool,
    access: Access,
    actions: &[(i64, u128, Action)],
) -> Engine {
    let rules = RulesSpec {
        duration_s: Some(600),
        reserve: Some(ReserveSpec { price: Decimal { mantissa: 1_000, scale: 0 }, shown: public }),
        min_bidders: Some(0),
        visibility,
        ..RulesSpec::default(Format::English)
    };
    let spec = TenderSpec {
        title: "parts".into(),
        description: String::new(),
        reference: String::new(),
        currency: "EUR".into(),
        currency_exponent: 2,
        access,
        public,
        opens_at: Some(LogTime(100)),
        terms: None,
        lot_mode: LotMode::Parallel,
        stagger_s: 0,
        stagger_follows: true,
        serial_gap_s: 0,
        anonymous_to_buyer,
        lots: vec![LotSpec { title: "lot".into(), items: vec![], rules }],
    };
    let mut engine = Engine::new();
    let create = (0, BUYER, Action::CreateTender { tender: TENDER, spec: Box::new(spec) });
    let admit = |organisation| {
        let organisation = OrganisationId(organisation);
        let (adjustments, features) = (vec![], vec![]);
        (0, BUYER, Action::Admit { tender: TENDER, organisation, adjustments, features, accepted: true })
    };
    for (at, organisation, action) in [create, admit(A), admit(B)].iter().chain(actions) {
        let index = engine.index() + 1;
        let envelope = Envelope {
            at: LogTime(*at),
            organisation: OrganisationId(*organisation),
            request: RequestId(u128::from(index)),
            salt: [8; 16],
            ..Envelope::default()
        };
        let commands = vec![Command { envelope, action: action.clone(), secret: None }];
        engine.apply(&Entry { index, commands }, &mut ());
    }
    engine
}

fn publish() -> (i64, u128, Action) {
    (0, BUYER, Action::Publish { tender: TENDER })
}

fn bid(organisation: u128, price: i64) -> (i64, u128, Action) {
    let price = Some(Decimal { mantissa: price, scale: 0 });
    let (lot, confirm, expires_at, seen_seq, auto_limit, all_or_nothing) =
        (TENDER.lot(1), true, None, None, None, None);
    (200, organisation, Action::Bid { lot, price, confirm, expires_at, seen_seq, auto_limit, all_or_nothing })
}

fn see(engine: &Engine, organisation: u128, supplies: bool) -> Option<Sight> {
    let (tender, lot) = engine.lot(TENDER.lot(1)).expect("it was created");
    let organisation = (organisation != 0).then_some(OrganisationId(organisation));
    sight(tender, lot, reader(tender, organisation, supplies))
}

#[test]
fn the_lead_is_seen_always_after_the_own_bid_or_never() {
    for (lead, of_a, of_b, of_observer) in [
        (LeadVisibility::Always, true, true, true),
        (LeadVisibility::AfterOwnBid, true, false, false),
        (LeadVisibility::Never, false, false, false),
    ] {
        let visibility = VisibilitySpec { lead, ..VisibilitySpec::default() };
        let engine = play(visibility, true, Access::Invited, &[publish(), bid(A, 500)]);
        for (organisation, wanted) in [(A, of_a), (B, of_b), (0, of_observer), (BUYER, true)] {
            let seen = see(&engine, organisation, true).expect("a public lot");
            assert_eq!(seen.lead, wanted, "{lead:?} {organisation}");
            assert_eq!(seen.lead_bidder, organisation == BUYER, "numbers come with the board only");
        }
        let seen = see(&engine, B, true).expect("a bidder");
        assert_eq!(seen.winning_price, lead != LeadVisibility::Never);
        assert_eq!(see(&engine, 0, false).expect("public").winning_price, lead == LeadVisibility::Always);
        assert_eq!(seen.price(BidderNumber(1), true), of_b);
        assert!(!seen.price(BidderNumber(1), false) && seen.price(BidderNumber(2), false));
        assert!(!seen.names(BidderNumber(1)) && seen.names(BidderNumber(2)));
    }
}

#[test]
fn rank_board_and_count_are_shown_as_the_lot_says() {
    for flag in [false, true] {
        let visibility =
            VisibilitySpec { rank: flag, board: flag, bidder_count: flag, ..VisibilitySpec::default() };
        let engine = play(visibility, true, Access::Invited, &[publish(), bid(A, 500)]);
        let bidder = see(&engine, B, true).expect("a bidder");
        let seen = (bidder.rank, bidder.board, bidder.bidder_count, bidder.ranking, bidder.lead_bidder);
        assert_eq!(seen, (flag, flag, flag, flag, flag));
        let observer = see(&engine, 0, false).expect("a public lot");
        let seen = (observer.rank, observer.board, observer.bidder_count, observer.ranking, observer.lead_bidder);
        assert_eq!(seen, (false, false, flag, false, false));
        let buyer = see(&engine, BUYER, true).expect("its lot");
        assert!(buyer.board && buyer.bidder_count && buyer.ranking && buyer.decisions && !buyer.rank);
    }
}

#[test]
fn a_lot_is_hidden_from_those_who_may_not_see_it() {
    for (public, access, tender_of_supplier, lot_of_supplier, lot_of_nobody) in [
        (false, Access::Invited, false, false, false),
        (false, Access::Open, true, false, false),
        (true, Access::Invited, true, true, true),
        (true, Access::Open, true, true, true),
    ] {
        let engine = play(VisibilitySpec::default(), public, access, &[publish()]);
        let tender = engine.tender(TENDER).expect("it was created");
        let supplier = Some((OrganisationId(SUPPLIER), true));
        assert_eq!(tender.visible_to(supplier), tender_of_supplier, "{public} {access:?}");
        assert_eq!(tender.visible_to(Some((OrganisationId(SUPPLIER), false))), public);
        assert_eq!(tender.visible_to(None), public);
        assert!(tender.visible_to(Some((OrganisationId(A), true))));
        assert_eq!(see(&engine, SUPPLIER, true).is_some(), lot_of_supplier);
        assert_eq!(see(&engine, 0, false).is_some(), lot_of_nobody);
        assert_eq!(see(&engine, A, true).expect("a bidder").reserve, public, "the reserve is shown as it says");
        assert!(see(&engine, BUYER, false).expect("its lot").reserve);
    }
    let draft = play(VisibilitySpec::default(), true, Access::Open, &[]);
    for organisation in [A, SUPPLIER, 0] {
        assert_eq!(see(&draft, organisation, true), None, "a draft is its buyer's");
    }
    assert!(see(&draft, BUYER, false).is_some());
    let cancel = (0, BUYER, Action::Cancel { tender: TENDER, reason: Some("x".into()) });
    let cancelled = play(VisibilitySpec::default(), true, Access::Open, &[cancel]);
    assert_eq!(see(&cancelled, A, true), None, "what was never published stays hidden");
}

#[test]
fn numbers_meet_names_at_the_opening_and_the_winner_at_the_award() {
    let award = Action::Award { lot: TENDER.lot(1), bidder: BidderRef::Number(1), reason: None };
    let steps = [publish(), bid(A, 500), (700_000, BUYER, award)];
    for (count, opened, awarded) in [(1, false, false), (2, true, false), (3, true, true)] {
        let engine = play(VisibilitySpec::default(), true, Access::Invited, &steps[..count]);
        let buyer = see(&engine, BUYER, false).expect("its lot");
        assert_eq!((buyer.organisations, buyer.winner), (opened, awarded));
        for organisation in [A, B, 0] {
            let seen = see(&engine, organisation, true).expect("a public lot");
            assert_eq!((seen.organisations, seen.winner), (false, awarded));
        }
    }
}

#[test]
fn an_anonymous_tender_shows_numbers_at_the_opening_and_names_at_the_close() {
    let award = Action::Award { lot: TENDER.lot(1), bidder: BidderRef::Number(2), reason: None };
    let steps = [publish(), bid(A, 500), (700_000, BUYER, Action::Tick), (700_001, BUYER, award)];
    // By SHA-256 of the salt and their ids, 3 (B) comes before 2 (A).
    for (count, numbered, named, awarded) in
        [(1, false, false, false), (2, true, false, false), (3, true, true, false), (4, true, true, true)]
    {
        let engine = play_as(true, VisibilitySpec::default(), true, Access::Invited, &steps[..count]);
        let tender = engine.tender(TENDER).expect("it was created");
        assert_eq!((tender.is_numbered(), tender.shows_names()), (numbered, named), "{count}");
        let buyer = see(&engine, BUYER, false).expect("its lot");
        assert_eq!((buyer.numbers, buyer.organisations, buyer.winner), (numbered, named, awarded), "{count}");
        assert_eq!(buyer.names(BidderNumber(1)), numbered);
        for organisation in [A, B] {
            let seen = see(&engine, organisation, true).expect("a bidder");
            assert_eq!((seen.numbers, seen.organisations, seen.winner), (numbered, false, awarded));
            let own = tender.bidder_of(OrganisationId(organisation)).expect("a bidder").number;
            assert_eq!(seen.own(), Some(own));
            assert_eq!(seen.names(own), numbered);
            let drawn = if organisation == A { 2 } else { 1 };
            assert!(!numbered || own == BidderNumber(drawn), "{organisation} drew {drawn}");
        }
        let order: Vec<u128> = tender.bidders_by_admission().iter().map(|it| it.organisation.0).collect();
        assert_eq!(order, [A, B], "a list of bidders tells nothing of their numbers");
        if count > 1 {
            let (_, lot) = engine.lot(TENDER.lot(1)).expect("a lot");
            assert_eq!(lot.lead().map(|lead| lead.bidder), Some(BidderNumber(2)));
        }
    }
}
