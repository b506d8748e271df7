//! Which commands make an entry, and where a deadline stands among them.

use engine::{Access, Decimal, Entry, Format, LotMode, LotSpec, OrganisationId, RulesSpec, TenderId, TenderSpec};

use super::*;

const START: LogTime = LogTime(1_700_000_000_000);

fn command(at: LogTime, action: Action) -> Command {
    let mut command = system_command(action, at, [7; 16]);
    command.envelope.organisation = OrganisationId(1);
    command
}

/// A shard in which one lot runs, and when it ends.
fn running() -> (Shard, LogTime) {
    let tender = TenderId::new(5);
    let rules = RulesSpec { duration_s: Some(60), ..RulesSpec::default(Format::English) };
    let spec = Box::new(TenderSpec {
        title: "Bumper".into(),
        description: String::new(),
        reference: String::new(),
        currency: "SAR".into(),
        currency_exponent: 2,
        access: Access::Open,
        public: false,
        opens_at: None,
        terms: None,
        lot_mode: LotMode::Parallel,
        stagger_s: 0,
        stagger_follows: true,
        serial_gap_s: 0,
        anonymous_to_buyer: false,
        lots: vec![LotSpec { title: "Bumper".into(), items: Vec::new(), rules }],
    });
    let actions = [Action::CreateTender { tender, spec }, Action::Publish { tender }, Action::Start { tender }];
    let commands = actions.map(|action| command(START, action)).into();
    let mut machine = Machine::new(1);
    machine.apply(&Entry { index: 1, commands }, &mut ());
    let shard = Shard::new(machine);
    let ends = shard.due_next().expect("the lot runs and ends");
    assert!(ends > START);
    (shard, ends)
}

fn bid(at: LogTime) -> Pending {
    let price = Some(Decimal { mantissa: 100, scale: 2 });
    let action = Action::Bid {
        lot: TenderId::new(5).lot(1),
        price,
        confirm: false,
        expires_at: None,
        seen_seq: None,
        auto_limit: None,
        all_or_nothing: None,
    };
    Pending { command: command(at, action), answer: None }
}

#[test]
fn a_deadline_waits_for_what_found_no_room_in_the_entry() {
    let (mut shard, ends) = running();
    let (before, now) = (LogTime(ends.0 - 1), ends.plus_ms(5));
    // Five in time, one late, in any order.
    for at in [before, before, now, before, before, before] {
        shard.pending.push_back(bid(at));
    }
    let mut next = || {
        let (commands, _) = shard.next_commands(now, 3, || [0; 16], |_| Ok(()))?;
        let ticks = commands.iter().map(|command| matches!(command.action, Action::Tick));
        let stamps: Vec<_> = commands.iter().map(|command| command.envelope.at).zip(ticks).collect();
        Some(stamps)
    };
    assert_eq!(next(), Some(vec![(before, false); 3]), "no room is left, and no tick is written");
    // The late bid itself ends the lot as of the deadline.
    assert_eq!(next(), Some(vec![(before, false), (before, false), (now, false)]));
}

#[test]
fn a_deadline_behind_everything_that_was_in_time_is_written_with_it() {
    let (mut shard, ends) = running();
    let (before, now) = (LogTime(ends.0 - 1), ends.plus_ms(5));
    shard.pending.extend([bid(before), bid(now.plus_ms(1))]);
    let (commands, _) = shard.next_commands(now, 3, || [0; 16], |_| Ok(())).expect("written");
    let stamps: Vec<_> = commands.iter().map(|command| command.envelope.at).collect();
    assert_eq!(stamps, [before, now]);
    assert!(matches!(commands[1].action, Action::Tick));
    assert_eq!(shard.pending.len(), 1, "what was stamped later comes later");
}
