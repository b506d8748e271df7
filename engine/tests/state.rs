//! The state as a whole: snapshots in small parts, broken ones refused, commands passed by, sizes in memory.

use engine::*;

fn entry(index: u64, at: i64, organisation: u128, action: Action) -> Entry {
    let scoped = u128::from(index) * 7 + 3;
    let envelope = Envelope {
        at: LogTime(at),
        organisation: OrganisationId(organisation),
        request: RequestId(u128::from(index)),
        key: Some(Key { scoped, body: 1 }),
        ..Envelope::default()
    };
    Entry { index, commands: vec![Command { envelope, action, secret: None }] }
}

fn tender(lots: usize) -> Action {
    let rules = RulesSpec { duration_s: Some(600), min_bidders: Some(0), ..RulesSpec::default(Format::English) };
    let item =
        Item { description: "x".repeat(300), quantity: Decimal { mantissa: 1, scale: 0 }, unit: "pc".into() };
    let spec = TenderSpec {
        title: "parts".into(),
        description: String::new(),
        reference: String::new(),
        currency: "EUR".into(),
        currency_exponent: 2,
        access: Access::Open,
        public: true,
        opens_at: None,
        terms: None,
        lot_mode: LotMode::Parallel,
        stagger_s: 0,
        stagger_follows: true,
        serial_gap_s: 0,
        anonymous_to_buyer: false,
        lots: vec![LotSpec { title: "lot".into(), items: vec![item], rules }; lots],
    };
    Action::CreateTender { tender: TenderId::new(1 << 20), spec: Box::new(spec) }
}

fn bid(lot: u16, price: i64) -> Action {
    Action::Bid {
        lot: TenderId::new(1 << 20).lot(lot),
        price: Some(Decimal { mantissa: price, scale: 0 }),
        confirm: true,
        expires_at: None,
        seen_seq: None,
        auto_limit: None,
        all_or_nothing: None,
    }
}

/// An engine with one tender of 500 lots, 1 000 bidders and 20 000 bids.
fn full() -> Engine {
    let id = TenderId::new(1 << 20);
    let mut engine = Engine::new();
    let mut index = 0;
    let mut send = |engine: &mut Engine, organisation: u128, action: Action| {
        index += 1;
        engine.apply(&entry(index, 1, organisation, action), &mut ());
    };
    send(&mut engine, 1, tender(500));
    send(&mut engine, 1, Action::Publish { tender: id });
    for organisation in 2..1_002 {
        send(&mut engine, organisation, Action::Join { tender: id });
    }
    send(&mut engine, 1, Action::Start { tender: id });
    for number in 0..20_000i64 {
        let organisation = 2 + number as u128 % 1_000;
        send(&mut engine, organisation, bid(1 + (number % 3) as u16, 1_000_000 - number));
    }
    engine
}

#[test]
fn parts_are_small_and_give_the_same_state() {
    let engine = full();
    engine.check_invariants();
    let mut whole = 0;
    for part in engine.snapshot() {
        let bytes = wincode::serialize(&part).expect("a part is written");
        assert!(bytes.len() <= 1 << 20, "a part of {} bytes", bytes.len());
        assert_eq!(wincode::deserialize_exact::<EnginePart>(&bytes).expect("a part is read"), part);
        whole += bytes.len();
    }
    assert!(whole > 2 << 20, "the state is larger than a part: {whole}");
    let again = Engine::restore(engine.snapshot()).expect("a snapshot restores");
    again.check_invariants();
    assert_eq!(again.state_hash(), engine.state_hash());
    for scoped in [10, 17, 14_003, 147_000] {
        let key = Key { scoped, body: 1 };
        assert_eq!(again.recall(key), engine.recall(key));
    }
}

#[test]
fn the_1001st_bidder_is_refused() {
    let mut engine = full();
    let id = TenderId::new(1 << 20);
    let index = engine.index() + 1;
    let organisation = OrganisationId(5_000);
    let (adjustments, features) = (vec![], vec![]);
    let admit = Action::Admit { tender: id, organisation, adjustments, features, accepted: true };
    struct Refuses(bool);
    impl Sink for Refuses {
        fn reply(&mut self, _: usize, reply: &Reply) {
            self.0 = matches!(&reply.answer, Answer::InvalidRules(errors) if errors[0].pointer == "/organisation");
        }
    }
    let mut refuses = Refuses(false);
    engine.apply(&entry(index, 1, 1, admit), &mut refuses);
    assert!(refuses.0);
}

#[test]
fn a_snapshot_that_lacks_a_part_is_refused() {
    let mut engine = Engine::new();
    let id = TenderId::new(1 << 20);
    for (index, action) in [tender(2), Action::Publish { tender: id }].into_iter().enumerate() {
        engine.apply(&entry(index as u64 + 1, 1, 1, action), &mut ());
    }
    engine.apply(&entry(3, 1, 9, Action::Join { tender: id }), &mut ());
    engine.apply(&entry(4, 1, 1, Action::Start { tender: id }), &mut ());
    engine.apply(&entry(5, 1, 9, bid(1, 5)), &mut ());
    let parts: Vec<EnginePart> = engine.snapshot().collect();
    let words: Vec<String> = parts.iter().map(|part| format!("{part:?}")).collect();
    for (lacking, word) in words.iter().enumerate() {
        let rest = parts.iter().enumerate().filter(|(place, _)| *place != lacking).map(|(_, part)| part.clone());
        // Bidders and kept answers are lists that may be empty; the state hash tells that they are gone.
        let restored = Engine::restore(rest);
        let is_list = word.contains("Bidders(") || word.contains("Kept(");
        match restored {
            Ok(other) => assert!(is_list && other.state_hash() != engine.state_hash(), "without {word}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let twice = parts.iter().chain(parts.iter()).cloned();
    assert!(Engine::restore(twice).is_err());
}

#[test]
fn a_command_that_panicked_is_passed_by_on_every_replica() {
    let mut engines = [Engine::new(), Engine::new()];
    let id = TenderId::new(1 << 20);
    let entries = [
        entry(1, 1, 1, tender(1)),
        entry(2, 2, 1, Action::Publish { tender: id }),
        entry(3, 3, 1, Action::Skip { index: 2, position: 0, place: "tender.rs:1".into() }),
    ];
    for engine in &mut engines {
        engine.pass_by(2, 0);
        for entry in &entries {
            engine.apply(entry, &mut ());
            engine.check_invariants();
        }
        assert_eq!(engine.tender(id).map(|tender| tender.stage), Some(TenderStage::Draft));
        let key = entries[1].commands[0].envelope.key.expect("it has a key");
        let Some(Recall::Reply(reply)) = engine.recall(key) else { panic!("it is known under its key") };
        assert_eq!(reply.answer, Answer::Internal);
    }
    assert_eq!(engines[0].state_hash(), engines[1].state_hash());
}

#[test]
fn the_same_entries_give_the_same_state_however_they_are_batched() {
    let id = TenderId::new(1 << 20);
    let mut commands: Vec<Command> = Vec::new();
    let mut push = |at, organisation, action| {
        let index = commands.len() as u64 + 1;
        commands.extend(entry(index, at, organisation, action).commands);
    };
    push(1, 1, tender(3));
    push(1, 1, Action::Publish { tender: id });
    push(1, 9, Action::Join { tender: id });
    push(1, 1, Action::Start { tender: id });
    for number in 0..50 {
        push(2 + number, 9, bid(1 + (number % 3) as u16, 900 - number));
    }
    push(700_000, 0, Action::Tick);
    let mut hashes = Vec::new();
    for size in [1, 7, 1_000] {
        let mut engine = Engine::new();
        for (place, chunk) in commands.chunks(size).enumerate() {
            engine.apply(&Entry { index: place as u64 + 1, commands: chunk.to_vec() }, &mut ());
        }
        // The index is part of the state; the same one for all.
        while engine.index() < 100 {
            let index = engine.index() + 1;
            engine.apply(&Entry { index, commands: vec![] }, &mut ());
        }
        hashes.push(engine.state_hash());
    }
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn an_open_lot_is_small() {
    // The specification and the first chunk of the history come on top.
    assert!(size_of::<Lot>() <= 768, "{} bytes", size_of::<Lot>());
}

/// The parts that a program of snapshot version 1 wrote: two lots, bids with ties and repeats, one lot without any.
#[test]
fn parts_of_version_1_restore() {
    let mut bytes: &[u8] = include_bytes!("samples/parts-v1.bin");
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (part, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        parts.push(wincode::deserialize_exact::<EnginePart>(part).expect("a part of version 1 is read"));
        bytes = rest;
    }
    let mut engine = Engine::restore(parts.into_iter()).expect("version 1 restores");
    engine.check_invariants();
    let id = TenderId::new(1 << 20);
    let (_, lot) = engine.lot(id.lot(1)).expect("the first lot");
    let ranking: Vec<_> = lot.ranking().map(|it| (it.standing.bidder.0, it.standing.price.0)).collect();
    assert_eq!(ranking, [(2, 40_000), (3, 48_000), (1, 48_000)]);
    assert_eq!(engine.lot(id.lot(2)).expect("the second lot").1.stage, LotStage::Unsuccessful);
    let again = Engine::restore(engine.snapshot()).expect("and is written as it is now");
    assert_eq!(again.state_hash(), engine.state_hash());
    let index = engine.index() + 1;
    engine.apply(&entry(index, 610_001, 2, Action::Tick), &mut ());
    engine.check_invariants();
}

#[test]
fn what_a_log_must_not_show_is_moved_into_the_sealed_part() {
    let mut engine = Engine::new();
    let id = TenderId::new(1 << 20);
    engine.apply(&entry(1, 1, 1, tender(1)), &mut ());
    engine.apply(&entry(2, 1, 1, Action::Publish { tender: id }), &mut ());
    let concealed = |engine: &Engine, action: Action| {
        let mut command = entry(9, 9, 5, action).commands.remove(0);
        engine.conceal(&mut command);
        command
    };
    let offer = |price: Option<i64>, limit: Option<i64>| {
        let decimal = |mantissa| Decimal { mantissa, scale: 0 };
        let (price, limit) = (price.map(decimal), limit.map(decimal));
        Some(Secret::Offer { organisation: OrganisationId(5), price, limit })
    };
    // A lot that is not open yet, and one that nobody knows.
    for lot in [1, 2] {
        let command = concealed(&engine, bid(lot, 77));
        assert_eq!(command.secret, offer(Some(77), None));
        assert!(matches!(command.action, Action::Bid { price: None, auto_limit: None, .. }));
    }
    let limit = Action::AutoBid { lot: id.lot(1), limit: Some(Decimal { mantissa: 66, scale: 0 }) };
    let command = concealed(&engine, limit);
    assert_eq!(command.secret, offer(None, Some(66)));
    assert!(matches!(command.action, Action::AutoBid { limit: None, .. }));
    engine.apply(&entry(3, 1, 1, Action::Start { tender: id }), &mut ());
    let command = concealed(&engine, bid(1, 77));
    assert_eq!(command.secret, None, "a bid in an open english lot is public");
    let Action::Bid { lot, price, .. } = bid(1, 77) else { unreachable!("it is a bid") };
    let auto_limit = Some(Decimal { mantissa: 66, scale: 0 });
    let (confirm, expires_at, seen_seq, all_or_nothing) = (true, None, None, None);
    let with_limit = Action::Bid { lot, price, confirm, expires_at, seen_seq, auto_limit, all_or_nothing };
    let command = concealed(&engine, with_limit);
    assert_eq!(command.secret, offer(None, Some(66)));
    assert!(matches!(command.action, Action::Bid { price: Some(_), auto_limit: None, .. }));
}

/// A sealed tender of two bidders that opens at 100 and draws numbers, before its opening, with a pre-bid of each.
fn anonymous(salt: u8) -> Engine {
    let Action::CreateTender { tender: id, mut spec } = tender(1) else { unreachable!("it makes a tender") };
    spec.anonymous_to_buyer = true;
    spec.opens_at = Some(LogTime(100));
    spec.lots[0].rules.format = Format::Sealed;
    spec.lots[0].rules.prebid = Prebid::Allowed;
    let mut engine = Engine::new();
    let mut send = |organisation: u128, action: Action| {
        let mut entry = entry(engine.index() + 1, 1, organisation, action);
        entry.commands[0].envelope.salt = [salt; 16];
        engine.apply(&entry, &mut ());
    };
    send(1, Action::CreateTender { tender: id, spec });
    send(1, Action::Publish { tender: id });
    for organisation in 5..9 {
        send(organisation, Action::Join { tender: id });
        send(organisation, bid(1, 1_000 + organisation as i64));
    }
    engine
}

fn numbers(engine: &Engine) -> Vec<u128> {
    let tender = engine.tender(TenderId::new(1 << 20)).expect("it was created");
    tender.bidders().iter().map(|bidder| bidder.organisation.0).collect()
}

#[test]
fn numbers_are_drawn_from_the_salt_of_the_command_that_opens_unless_it_goes_with_a_key() {
    let secret = Some(Secret::Offer { organisation: OrganisationId(5), price: None, limit: None });
    let mut seen = Vec::new();
    for (of_publication, of_opening, secret) in
        [(3, 3, None), (3, 4, None), (9, 3, None), (3, 4, secret.clone()), (3, 0, secret)]
    {
        let mut engine = anonymous(of_publication);
        let mut again = Engine::restore(engine.snapshot()).expect("a snapshot restores");
        assert_eq!(again.state_hash(), engine.state_hash());
        let mut opening = entry(engine.index() + 1, 100, 5, bid(1, 900));
        opening.commands[0].envelope.salt = [of_opening; 16];
        opening.commands[0].secret = secret;
        // A bid in the same batch was looked up before the numbers were drawn.
        opening.commands.push(entry(77, 100, 6, bid(1, 901)).commands.remove(0));
        for engine in [&mut engine, &mut again] {
            engine.apply(&opening, &mut ());
            engine.check_invariants();
            let (tender, lot) = engine.lot(TenderId::new(1 << 20).lot(1)).expect("its lot");
            for (organisation, price) in [(5, 900), (6, 901), (7, 1_007), (8, 1_008)] {
                let bidder = tender.bidder_of(OrganisationId(organisation)).expect("it joined");
                let own = lot.own_standing(bidder.number).map(|(price, _)| price.0);
                assert_eq!(own, Some(price * 100), "what was left before the opening is its bidder's still");
            }
        }
        assert_eq!(again.state_hash(), engine.state_hash(), "the salt of the publication is in the snapshot");
        seen.push(numbers(&engine));
    }
    assert_eq!(seen[0], seen[2], "the salt of the opening decides");
    assert_ne!(seen[0], seen[1]);
    assert_eq!((&seen[3], &seen[4]), (&seen[0], &seen[0]), "else that of the publication");
}

#[test]
fn an_offer_whose_key_was_destroyed_has_no_effect_and_is_known_under_its_key() {
    let id = TenderId::new(1 << 20);
    let mut engine = anonymous(1);
    let index = engine.index() + 1;
    let mut erased = entry(index, 2, 6, bid(1, 900));
    let Action::Bid { price, .. } = &mut erased.commands[0].action else { unreachable!("it is a bid") };
    *price = None;
    let (email, name, password) = Default::default();
    let organisation = OrganisationId(6);
    erased.commands[0].secret = Some(Secret::Person { organisation, email, name, password });
    engine.apply(&erased, &mut ());
    let mut limit = entry(index + 1, 3, 6, Action::AutoBid { lot: id.lot(1), limit: None });
    limit.commands[0].secret.clone_from(&erased.commands[0].secret);
    engine.apply(&limit, &mut ());
    engine.check_invariants();
    for entry in [&erased, &limit] {
        let recalled = engine.recall(entry.commands[0].envelope.key.expect("it has one"));
        assert!(matches!(recalled, Some(Recall::Reply(Reply { answer: Answer::Internal, replayed: true, .. }))));
    }
    let (tender, lot) = engine.lot(id.lot(1)).expect("its lot");
    let bidder = tender.bidder_of(organisation).expect("it joined");
    assert_eq!(lot.own_standing(bidder.number).map(|(price, _)| price), Some(Price(100_600)), "the bid before it");
    let again = Engine::restore(engine.snapshot()).expect("a snapshot restores");
    assert_eq!(again.state_hash(), engine.state_hash());
}
