//! A bid in steady state allocates nothing: counted by the allocator itself, not timed.

#![allow(unsafe_code)] // An allocator that counts cannot be written without.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use engine::*;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // While a thread ends its counter is gone; nothing is measured there.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BIDDERS: u128 = 8;
const BATCH: usize = 64;

struct Tally {
    accepted: usize,
    refused: usize,
    extended: usize,
}

impl Sink for Tally {
    fn reply(&mut self, _: usize, reply: &Reply) {
        match reply.answer {
            Answer::Bid(_) => self.accepted += 1,
            Answer::Refused(_) => self.refused += 1,
            _ => {}
        }
    }

    fn step(&mut self, _: &Tender, _: &Lot, step: &Step) {
        self.extended += step.events.iter().filter(|event| matches!(event, Event::Extended { .. })).count();
    }
}

fn tender(number: u128) -> TenderId {
    TenderId::new(number << LOT_BITS)
}

fn command(at: i64, organisation: u128, request: u128, action: Action) -> Command {
    let scoped = request.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    let envelope = Envelope {
        at: LogTime(at),
        organisation: OrganisationId(organisation),
        request: RequestId(request),
        key: Some(Key { scoped, body: 1 }),
        ..Envelope::default()
    };
    Command { envelope, action, secret: None }
}

fn spec() -> Box<TenderSpec> {
    let rules = RulesSpec {
        duration_s: Some(3_600),
        decrement: Some(DecrementSpec::Percent(Decimal { mantissa: 1, scale: 3 })),
        guard_percent: Some(Decimal { mantissa: 90, scale: 0 }),
        ceiling: Some(Decimal { mantissa: 1_000_000_000, scale: 0 }),
        // Every bid that leads moves the end.
        overtime: Some(OvertimeSpec::default(7_200, 3_600)),
        ..RulesSpec::default(Format::English)
    };
    Box::new(TenderSpec {
        title: "parts".into(),
        description: String::new(),
        reference: String::new(),
        currency: "EUR".into(),
        currency_exponent: 2,
        access: Access::Invited,
        public: false,
        opens_at: Some(LogTime(0)),
        terms: None,
        lot_mode: LotMode::Parallel,
        stagger_s: 0,
        stagger_follows: true,
        serial_gap_s: 0,
        anonymous_to_buyer: false,
        lots: vec![LotSpec { title: "lot".into(), items: vec![], rules }],
    })
}

/// An engine with open lots, and the bids of `rounds` batches, alternating between the lots.
fn play(lots: u128, rounds: usize) -> (Tally, u64) {
    let mut engine = Engine::new();
    let mut request = 0;
    let mut index = 0;
    let mut next = || {
        request += 1;
        request
    };
    let mut batch = |engine: &mut Engine, commands: Vec<Command>, sink: &mut Tally| {
        index += 1;
        let entry = Entry { index, commands };
        engine.maintain();
        let before = COUNT.get();
        engine.apply(&entry, sink);
        COUNT.get() - before
    };
    let mut tally = Tally { accepted: 0, refused: 0, extended: 0 };
    for number in 1..=lots {
        let id = tender(number);
        let mut commands = vec![command(1, 1, next(), Action::CreateTender { tender: id, spec: spec() })];
        for organisation in 10..10 + BIDDERS {
            let organisation = OrganisationId(organisation);
            let (adjustments, features) = (vec![], vec![]);
            let admit = Action::Admit { tender: id, organisation, adjustments, features, accepted: true };
            commands.push(command(1, 1, next(), admit));
        }
        commands.push(command(1, 1, next(), Action::Publish { tender: id }));
        batch(&mut engine, commands, &mut tally);
    }
    let mut allocations = 0;
    let mut price = 900_000_000i64;
    let mut at = 2;
    for round in 0..rounds {
        let commands = (0..BATCH)
            .map(|place| {
                let bid = (round * BATCH + place) as u128;
                let lot = tender(1 + bid % lots).lot(1);
                if (bid / lots).is_multiple_of(8) {
                    price = price / 1_000 * 999 - 7;
                }
                at += 1;
                // One bid in four repeats the price of the round and is refused.
                let organisation = 10 + if place % 4 == 3 { bid % 2 } else { (bid / lots) % BIDDERS };
                let action = Action::Bid {
                    lot,
                    price: Some(Decimal { mantissa: price.max(1), scale: 0 }),
                    confirm: true,
                    expires_at: None,
                    seen_seq: None,
                    auto_limit: None,
                    all_or_nothing: None,
                };
                command(at, organisation, next(), action)
            })
            .collect();
        let counted = batch(&mut engine, commands, &mut tally);
        // Until every bidder of every lot has a place of its own.
        if round * BATCH >= 16 * lots as usize {
            allocations += counted;
        }
    }
    engine.check_invariants();
    (tally, allocations)
}

#[test]
fn a_bid_in_steady_state_allocates_nothing() {
    for lots in [1, 50] {
        let (tally, allocations) = play(lots, 100);
        assert!(tally.accepted > 2_000, "{} accepted", tally.accepted);
        assert!(tally.refused > 100, "{} refused", tally.refused);
        assert!(tally.extended > 500, "{} extended", tally.extended);
        assert_eq!(allocations, 0, "with {lots} lots");
    }
}
