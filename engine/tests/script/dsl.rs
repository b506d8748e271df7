//! The small language of the script tests: a story in data, one line a command and what must come of it.
//!
//! ```text
//! tender ceiling=1000 decrement=5      a draft of one lot (lots=n for more); the rules of every lot
//! open A B                             admits A and B, publishes, starts
//! 25s bid A 900 -> rank=1 closes=600s  at 25 s after the beginning; what must be so afterwards
//! bid A 898 -> not_improved next=895   a refusal by its code
//! lot -> stage=open lead=A             looks at lot 1
//! steps -> opened, bid A lead          the steps since the last look: events of one step joined by +
//! ```
//! After every line the invariants are checked (the engine's own and those of `watch/mod.rs`), and the state is taken
//! apart, put together again and must have the same hash, give the same answers and make the same steps from then on; so
//! must a replay from the first line.

#[path = "../watch/mod.rs"]
mod watch;

use std::collections::BTreeMap;

use engine::*;
use watch::Watch;

/// Where stories begin: 2024-01-01T00:00:00Z.
const START: i64 = 1_704_067_200_000;
const BUYER: OrganisationId = OrganisationId(1);
const TENDER: TenderId = TenderId::new(0x0190_0000_0000_7000_8000_0000_0000_1000);

/// Plays a story.
pub fn check(story: &str) {
    let mut stage = Play::default();
    for (number, line) in story.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            stage.line = format!("line {}: {line}", number + 1);
            stage.play(line);
        }
    }
}

/// The errors that a specification gets, as `pointer`.
#[allow(dead_code)] // Not every file of stories is about rules.
pub fn errors(rules: &str) -> Vec<RuleError> {
    let mut play = Play { line: rules.to_owned(), ..Play::default() };
    let words: Vec<&str> = rules.split_whitespace().collect();
    let spec = Box::new(play.spec(&words));
    let reply = play.send(BUYER, Action::CreateTender { tender: TENDER, spec }, None);
    match reply.answer {
        Answer::InvalidRules(errors) => errors,
        Answer::Tender(_) => Vec::new(),
        other => panic!("{rules}: {other:?}"),
    }
}

#[derive(Default)]
struct Play {
    line: String,
    now: i64,
    request: u128,
    /// Applies every entry.
    engine: Engine,
    /// Is taken apart and put together before every entry.
    twin: Engine,
    names: BTreeMap<String, OrganisationId>,
    bids: BTreeMap<String, RequestId>,
    steps: Vec<String>,
    last: Option<Reply>,
    watch: Watch,
    /// Everything that was applied.
    log: Vec<Entry>,
}

#[derive(Default)]
struct Heard {
    replies: Vec<Reply>,
    steps: Vec<Step>,
    watch: Watch,
}

impl Sink for Heard {
    fn reply(&mut self, position: usize, reply: &Reply) {
        assert_eq!(position, self.replies.len());
        self.replies.push(reply.clone());
    }

    fn step(&mut self, tender: &Tender, lot: &Lot, step: &Step) {
        assert_eq!((lot.id, lot.seq), (step.lot, step.seq), "the lot is as of the step");
        assert_eq!(tender.lot(lot.number).map(|lot| lot.seq), Some(step.seq));
        self.steps.push(step.clone());
        self.watch.step(tender, lot, step);
    }
}

fn time(word: &str) -> Option<i64> {
    if let Some(ms) = word.strip_suffix("ms") {
        return ms.parse().ok();
    }
    let seconds = word.strip_suffix('s')?;
    Decimal::parse(seconds)?.units(3)
}

fn decimal(word: &str) -> Decimal {
    Decimal::parse(word).unwrap_or_else(|| panic!("{word} is no decimal"))
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.parse().ok().unwrap_or_else(|| panic!("{word} is no number"))
}

impl Play {
    fn play(&mut self, line: &str) {
        let (command, wanted) = match line.split_once("->") {
            Some((command, wanted)) => (command.trim(), Some(wanted.trim())),
            None => (line, None),
        };
        let mut words: Vec<&str> = command.split_whitespace().collect();
        if let Some(at) = time(words[0]) {
            assert!(at >= self.now, "{}: time runs back", self.line);
            self.now = at;
            words.remove(0);
        }
        let verb = words.remove(0);
        match verb {
            "lot" => return self.look(words.first().map_or(1, |word| number(word)), wanted.unwrap_or_default()),
            "steps" => {
                let seen = std::mem::take(&mut self.steps).join(", ");
                assert_eq!(seen, wanted.unwrap_or_default(), "{}", self.line);
                return;
            }
            "due" => {
                let due = self.engine.next_deadline().map_or(-1, |at| at.0 - START);
                assert_eq!(due, wanted.map_or(-1, |word| time(word).expect("a time")), "{}", self.line);
                return;
            }
            "tender-stage" => {
                let tender = self.tender();
                let seen = format!("{} v{}", tender.stage.word(), tender.version);
                assert!(seen.starts_with(wanted.unwrap_or_default()), "{}: {seen}", self.line);
                return;
            }
            "open" => {
                for name in words {
                    self.command("admit", &[name]);
                }
                self.command("publish", &[]);
                self.command("start", &[]);
            }
            _ => self.command(verb, &words),
        }
        self.expect(wanted.unwrap_or("ok"));
    }

    fn tender(&self) -> &Tender {
        self.engine.tender(TENDER).expect("the tender was created")
    }

    fn lot(&self, number: u16) -> &Lot {
        self.tender().lot(number).unwrap_or_else(|| panic!("{}: there is no lot {number}", self.line))
    }

    fn organisation(&mut self, name: &str) -> OrganisationId {
        if name == "buyer" {
            return BUYER;
        }
        let next = OrganisationId(self.names.len() as u128 + 10);
        *self.names.entry(name.to_owned()).or_insert(next)
    }

    fn name(&self, bidder: BidderNumber) -> String {
        let organisation = self.tender().bidder(bidder).expect("events name bidders").organisation;
        let found = self.names.iter().find(|(_, id)| **id == organisation);
        found.map_or_else(|| "buyer".to_owned(), |(name, _)| name.clone())
    }

    /// Sends one command to both engines.
    fn send(&mut self, organisation: OrganisationId, action: Action, key: Option<Key>) -> Reply {
        self.request += 1;
        let envelope = Envelope {
            at: LogTime(START + self.now),
            organisation,
            request: RequestId(self.request),
            key,
            ..Envelope::default()
        };
        let is_bid = matches!(action, Action::Bid { .. } | Action::Accept { .. });
        let commands = vec![Command { envelope, action, secret: None }];
        let entry = Entry { index: self.engine.index() + 1, commands };
        let (mut heard, mut again) = (Heard::default(), Heard::default());
        heard.watch = std::mem::take(&mut self.watch);
        again.watch = heard.watch.clone();
        self.engine.maintain();
        self.engine.apply(&entry, &mut heard);
        self.engine.check_invariants();
        self.twin = Engine::restore(self.twin.snapshot()).expect("a snapshot restores");
        self.twin.check_invariants();
        self.twin.apply(&entry, &mut again);
        assert_eq!(heard.replies, again.replies, "{}", self.line);
        assert_eq!(heard.steps, again.steps, "{}", self.line);
        assert_eq!(self.engine.state_hash(), self.twin.state_hash(), "{}", self.line);
        assert_eq!(self.engine.next_deadline(), self.twin.next_deadline(), "{}", self.line);
        self.watch = std::mem::take(&mut heard.watch);
        if is_bid {
            self.watch.decided(&heard.replies[0]);
        }
        self.watch.counts(&self.engine);
        self.log.push(entry);
        self.replay();
        for step in &heard.steps {
            let events: Vec<String> = step.events.iter().map(|event| self.event(event)).collect();
            self.steps.push(if events.is_empty() { "-".into() } else { events.join("+") });
        }
        heard.replies.remove(0)
    }

    /// From the first entry on everything comes to the same, awards included.
    fn replay(&self) {
        let mut cold = Engine::new();
        for entry in &self.log {
            cold.apply(entry, &mut ());
        }
        assert_eq!(cold.state_hash(), self.engine.state_hash(), "{}: replay from zero", self.line);
        for (cold, warm) in cold.tenders().zip(self.engine.tenders()) {
            let results = |tender: &Tender| tender.lots().iter().map(Lot::result).collect::<Vec<_>>();
            assert_eq!(results(cold), results(warm), "{}", self.line);
        }
    }

    fn event(&self, event: &Event) -> String {
        let at = |time: Option<LogTime>| time.map_or("none".into(), |at| format!("{}ms", at.0 - START));
        match event {
            Event::Opened => "opened".into(),
            Event::Bid { bidder, lead, auto, .. } => {
                let auto = if *auto { " auto" } else { "" };
                format!("bid {}{}{auto}", self.name(*bidder), if *lead { " lead" } else { "" })
            }
            Event::Withdrawn { bidder } => format!("withdrawn {}", self.name(*bidder)),
            Event::Turn { round, turn, bidder, ends_at } => {
                format!("turn {round}.{turn} {} to {}", self.name(*bidder), at(Some(*ends_at)))
            }
            Event::Step { step, ends_at, .. } => format!("step {step} to {}", at(Some(*ends_at))),
            Event::Level { step, ends_at, .. } => format!("level {step} to {}", at(Some(*ends_at))),
            Event::Out { bidder } => format!("out {}", self.name(*bidder)),
            Event::Voided { bidder, .. } => format!("voided {}", self.name(*bidder)),
            Event::Extended { closes_at, added_ms, reason } => {
                format!("extended {} to {} by {added_ms}ms", reason.word(), at(*closes_at))
            }
            Event::Paused { reason } => format!("paused {reason}"),
            Event::Resumed { closes_at, .. } => format!("resumed to {}", at(Some(*closes_at))),
            Event::Disqualified { bidder } => {
                format!("disqualified {}", bidder.map_or_else(|| "nobody".to_owned(), |bidder| self.name(bidder)))
            }
            Event::Closed => "closed".into(),
            Event::Awarded { bidder, .. } => format!("awarded {}", self.name(*bidder)),
            Event::Rejected { bidder } => format!("rejected {}", self.name(*bidder)),
            Event::Unsuccessful => "unsuccessful".into(),
            Event::Cancelled { .. } => "cancelled".into(),
        }
    }

    /// The value of `name=value` among the words.
    fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
        words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn command(&mut self, verb: &str, words: &[&str]) {
        let value = |name: &str| Self::value(words, name);
        let has = |flag: &str| words.contains(&flag);
        let reason = value("reason").map(str::to_owned);
        let lot_number = value("lot").map(number::<u16>);
        let lot = TENDER.lot(lot_number.unwrap_or(1));
        let tender = value("id").map_or(TENDER, |id| TenderId::new(number(id)));
        // Who sends: `by=NAME`, else the supplier that a bid names first, else the buyer.
        let by = value("by").map(|name| self.organisation(name));
        let first = words.first().copied().unwrap_or_default();
        let bidder = |play: &mut Self, name: &str| match name.parse() {
            Ok(number) => BidderRef::Number(number),
            Err(_) => {
                let organisation = play.organisation(name);
                let found = play.engine.tender(TENDER).and_then(|tender| tender.bidder_of(organisation));
                found.map_or(BidderRef::Id(RequestId(0)), |bidder| BidderRef::Id(bidder.id))
            }
        };
        let key = value("key").map(|key| Key {
            scoped: key.bytes().fold(1, |hash: u128, byte| hash * 257 + u128::from(byte)),
            body: value("body").map_or(0, number),
        });
        let by_supplier = matches!(verb, "bid" | "accept" | "auto" | "join");
        let default = if by_supplier { self.organisation(first) } else { BUYER };
        let sender = by.unwrap_or(default);
        let action = match verb {
            "tender" => Action::CreateTender { tender: TENDER, spec: Box::new(self.spec(words)) },
            "update" => {
                let version = value("version").map_or_else(|| self.tender().version, number);
                Action::UpdateTender { tender, spec: Box::new(self.spec(words)), version }
            }
            "publish" => Action::Publish { tender },
            "start" => Action::Start { tender },
            "pause" => Action::Pause { tender, reason },
            "resume" => Action::Resume { tender, reason },
            "cancel" => Action::Cancel { tender, reason },
            "extend" => Action::Extend { tender, lot: lot_number, seconds: number(first), reason },
            "admit" => {
                let organisation = self.organisation(first);
                let lot = 1;
                let factor = value("factor").map(str::to_owned);
                let adjusted = AdjustmentSpec { lot, factor, addend: value("addend").map(decimal) };
                let is_adjusted = adjusted.factor.is_some() || adjusted.addend.is_some();
                let adjustments = if is_adjusted { vec![adjusted] } else { vec![] };
                let won = value("won").map(|won| FeatureValue { lot, id: "warranty".into(), value: decimal(won) });
                let features = won.into_iter().collect();
                Action::Admit { tender, organisation, adjustments, features, accepted: has("accepted") }
            }
            "join" => Action::Join { tender },
            "disqualify" => Action::Disqualify { tender, bidder: bidder(self, first), reason },
            "bid" => Action::Bid {
                lot,
                price: words.get(1).filter(|word| **word != "none").map(|word| decimal(word)),
                confirm: has("confirm"),
                expires_at: value("expires").map(|at| LogTime(START + time(at).expect("a time"))),
                seen_seq: value("seen").map(number),
                auto_limit: value("limit").map(decimal),
                all_or_nothing: has("bound").then_some(true),
            },
            "accept" => Action::Accept { lot, step: words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0) },
            "auto" => {
                let limit = words.get(1).filter(|word| !word.contains('='));
                Action::AutoBid { lot, limit: limit.map(|word| decimal(word)) }
            }
            "void" => {
                let bid = self.bids.get(first).copied().unwrap_or_default();
                Action::Void { lot, bid, reason }
            }
            "award" => Action::Award { lot, bidder: bidder(self, first), reason },
            "reject" => Action::RejectAward { lot, bidder: bidder(self, first), reason },
            "tick" => Action::Tick,
            "takeover" => Action::Takeover { planned: has("planned") },
            other => panic!("{}: {other} is no verb", self.line),
        };
        let reply = self.send(sender, action, key);
        if let Some(name) = value("as") {
            self.bids.insert(name.to_owned(), reply.request);
        }
        self.last = Some(reply);
    }

    /// A specification: every lot has the same rules.
    fn spec(&mut self, words: &[&str]) -> TenderSpec {
        let value = |name: &str| Self::value(words, name);
        let has = |flag: &str| words.contains(&flag);
        let mut rules = RulesSpec::default(Format::English);
        if let Some(format) = value("format") {
            rules.format = Format::from_word(format).expect("a format");
        }
        let is_timed = matches!(rules.format, Format::English | Format::Sealed) || value("duration").is_some();
        rules.duration_s =
            if has("no_duration") || !is_timed { None } else { Some(value("duration").map_or(600, number)) };
        rules.price_scale = value("scale").map(number);
        rules.ceiling = value("ceiling").map(decimal);
        rules.floor = value("floor").map(decimal);
        rules.reserve = value("reserve").map(|price| ReserveSpec { price: decimal(price), shown: false });
        if let Some(word) = value("improvement") {
            rules.improvement = Improvement::from_word(word).expect("an improvement");
        }
        rules.buffer = value("buffer").map(|word| {
            let (front, back) = word.split_once('/').expect("front/back");
            BufferSpec { front: decimal(front), back: decimal(back) }
        });
        rules.decrement = value("decrement").map(|word| match (word.strip_suffix('%'), word.contains(':')) {
            (Some(percent), _) => DecrementSpec::Percent(decimal(percent)),
            (None, false) => DecrementSpec::Amount(decimal(word)),
            (None, true) => {
                let rows = word.split(',').map(|row| row.split_once(':').expect("from:step"));
                let rows = rows.map(|(from, step)| DecrementRow { from: decimal(from), step: decimal(step) });
                DecrementSpec::Table(rows.collect())
            }
        });
        rules.tick = value("tick").map(decimal);
        rules.max_step = value("max_step").map(decimal);
        rules.guard_percent = value("guard").map(decimal);
        if let Some(word) = value("tie_rank") {
            rules.tie_rank = TieRank::from_word(word).expect("a tie rank");
        }
        rules.tie_free_ranks = value("tie_free").map_or(0, number);
        rules.max_bids = value("max_bids").map(number);
        rules.min_bidders = value("min_bidders").map(number);
        rules.overtime = value("overtime").map(|word| {
            let (window, length) = word.split_once('/').expect("window/length");
            let mut overtime = OvertimeSpec::default(number(window), number(length));
            overtime.mode = value("mode").and_then(OvertimeMode::from_word).unwrap_or(overtime.mode);
            overtime.trigger = value("trigger").and_then(OvertimeTrigger::from_word).unwrap_or(overtime.trigger);
            overtime.rank = value("overtime_rank").map_or(1, number);
            overtime.first_bid_triggers = has("first_bid");
            overtime.max_count = value("max_count").map(number);
            overtime.max_total_s = value("max_total").map(number);
            overtime.scope = value("scope").and_then(OvertimeScope::from_word).unwrap_or(overtime.scope);
            overtime
        });
        if let Some(word) = value("lead") {
            rules.visibility.lead = LeadVisibility::from_word(word).expect("a visibility");
        }
        rules.visibility.rank = !has("no_rank");
        rules.visibility.board = has("board");
        rules.visibility.light = has("light");
        rules.visibility.adjustments = has("show_adjustments");
        if let Some(word) = value("prebid") {
            rules.prebid = Prebid::from_word(word).expect("a prebid");
        }
        rules.auto_bid = has("auto_bid");
        if let Some(word) = value("award") {
            rules.award = AwardMode::from_word(word).expect("an award");
        }
        rules.decision_s = value("decision").map(number);
        rules.outage_grace_s = value("grace").map_or(120, number);
        rules.max_view_age = value("view_age").map(number);
        rules.all_or_nothing = has("all_or_nothing");
        if has("features") {
            rules.features = vec![FeatureSpec { id: "warranty".into(), max: decimal("0.1") }];
        }
        rules.max_weight_sum = value("weights").map(decimal);
        rules.sealed = has("sealed").then_some(SealedSpec { pricing: SealedPricing::First });
        if has("second") {
            rules.sealed = Some(SealedSpec { pricing: SealedPricing::Second });
        }
        rules.dutch = value("dutch").map(|word| {
            let parts: Vec<&str> = word.split('/').collect();
            DutchSpec { start: decimal(parts[0]), step: decimal(parts[1]), interval_s: number(parts[2]) }
        });
        rules.japanese = value("japanese").map(|word| {
            let parts: Vec<&str> = word.split('/').collect();
            let (start, step, interval_s) = (decimal(parts[0]), decimal(parts[1]), number(parts[2]));
            JapaneseSpec { start, step, interval_s, floor: decimal(parts[3]) }
        });
        rules.rounds = value("rounds").map(|word| {
            let parts: Vec<i64> = word.split('/').map(number).collect();
            RoundsSpec {
                count: parts[0],
                turn_s: parts[1],
                pause_s: parts[2],
                lead_in_s: parts[3],
                announce_s: parts.get(4).copied(),
            }
        });
        let count = value("lots").map_or(1, number::<usize>);
        let items = value("items").map_or(0, number::<usize>);
        let item = Item { description: "part".into(), quantity: decimal("1"), unit: "piece".into() };
        let title = "x".repeat(value("title").map_or(3, number));
        let lot = LotSpec { title: "lot".into(), items: vec![item; items], rules };
        TenderSpec {
            title,
            description: "y".repeat(value("description").map_or(3, number)),
            reference: String::new(),
            currency: value("currency").unwrap_or("EUR").into(),
            currency_exponent: 2,
            access: value("access").and_then(Access::from_word).unwrap_or(Access::Invited),
            public: has("public"),
            opens_at: value("opens").map(|at| LogTime(START + time(at).expect("a time"))),
            terms: has("terms").then(|| "terms".into()),
            lot_mode: value("lot_mode").and_then(LotMode::from_word).unwrap_or(LotMode::Parallel),
            stagger_s: value("stagger").map_or(0, number),
            stagger_follows: true,
            serial_gap_s: value("gap").map_or(0, number),
            anonymous_to_buyer: has("anonymous"),
            lots: vec![lot; count],
        }
    }

    /// Compares the last reply with what must have come.
    fn expect(&self, wanted: &str) {
        let reply = self.last.clone().expect("something was sent");
        let refused = match &reply.answer {
            Answer::Refused(refused) => Some(*refused),
            Answer::InvalidRules(_) => None,
            Answer::Internal => panic!("{}: internal", self.line),
            _ => None,
        };
        let code = match &reply.answer {
            Answer::Refused(refused) => refused.refusal.code(),
            Answer::InvalidRules(_) => Refusal::InvalidRules.code(),
            _ => "ok",
        };
        let bid = match &reply.answer {
            Answer::Bid(bid) => Some(*bid),
            _ => None,
        };
        let told = match &reply.answer {
            Answer::Limit(limit) => Some((limit.max_next, limit.seq)),
            Answer::Withdrawn(withdrawn) => Some((withdrawn.max_next, withdrawn.seq)),
            _ => None,
        };
        let first = wanted.split_whitespace().next().unwrap_or_default();
        let is_refusal = Refusal::from_code(first).is_some();
        assert_eq!(code, if is_refusal { first } else { "ok" }, "{}: {reply:?}", self.line);
        let ranks = bid.and_then(|bid| bid.ranks);
        let max_next =
            bid.map(|bid| bid.max_next).or(refused.map(|refused| refused.max_next)).or(told.map(|told| told.0));
        let seq = bid.map(|bid| bid.seq).or(refused.map(|refused| refused.seq)).or(told.map(|told| told.1));
        for word in wanted.split_whitespace() {
            let Some((name, value)) = word.split_once('=') else {
                match word {
                    "tied" => assert!(ranks.is_some_and(|ranks| ranks.tied), "{}", self.line),
                    "no_ranks" => assert!(ranks.is_none() && bid.is_some(), "{}", self.line),
                    "replayed" => assert!(reply.replayed, "{}", self.line),
                    "fresh" => assert!(!reply.replayed, "{}", self.line),
                    "no_lot" => assert!(refused.is_some_and(|refused| refused.lot.is_none()), "{}", self.line),
                    _ => assert!(word == "ok" || is_refusal, "{}: {word}", self.line),
                }
                continue;
            };
            let seen = match name {
                "rank" => format!("{:?}", ranks.map(|ranks| ranks.rank)),
                "award" => format!("{:?}", ranks.map(|ranks| ranks.award_rank)),
                "next" => {
                    let next = max_next.unwrap_or_else(|| panic!("{}: no max_next", self.line));
                    assert_eq!(Self::next(next, value), value, "{}: {next:?}", self.line);
                    continue;
                }
                "seq" => format!("{seq:?}"),
                "status" => match &reply.answer {
                    Answer::Bidder(bidder) => format!("Some({})", bidder.status.word()),
                    _ => "None".into(),
                },
                "number" => match &reply.answer {
                    Answer::Bidder(bidder) => {
                        bidder.number.map_or("Some(none)".into(), |n| format!("Some({})", n.0))
                    }
                    _ => "None".into(),
                },
                "pointer" => match &reply.answer {
                    Answer::InvalidRules(errors) => format!("Some({})", errors[0].pointer),
                    _ => "None".into(),
                },
                "closes" => {
                    let closes_at = refused.map_or_else(|| self.lot(1).closes_at(), |refused| refused.closes_at);
                    assert_eq!(closes_at.map(|at| at.0 - START), time(value), "{}", self.line);
                    continue;
                }
                _ => panic!("{}: {name} cannot be expected", self.line),
            };
            assert_eq!(seen, format!("Some({value})"), "{}: {name}", self.line);
        }
    }

    /// `max_next` written like `like`.
    fn next(next: MaxNext, like: &str) -> String {
        match next {
            MaxNext::None => "none".into(),
            MaxNext::Unlimited => "any".into(),
            MaxNext::At(price) => {
                let scale = like.split_once('.').map_or(0, |(_, digits)| digits.len() as u32);
                let unit = 10i64.pow(2 - scale);
                assert_eq!(price.0 % unit, 0, "{price:?}");
                price
                    .decimal(2)
                    .units(scale as u8)
                    .map_or_else(String::new, |units| Decimal { mantissa: units, scale: scale as u8 }.to_string())
            }
        }
    }

    /// Looks at a lot.
    fn look(&self, number: u16, wanted: &str) {
        let lot = self.lot(number);
        let result = lot.result();
        let at = |time: Option<LogTime>| time.map_or("none".into(), |at| format!("{}ms", at.0 - START));
        let cut =
            |price: Price| price.decimal(2).to_string().trim_end_matches("00").trim_end_matches('.').to_owned();
        let name = |bidder: Option<BidderNumber>| bidder.map_or("none".into(), |bidder| self.name(bidder));
        for word in wanted.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, "true"));
            let value = time(value).map_or(value.to_owned(), |ms| format!("{ms}ms"));
            let seen = match key {
                "stage" => lot.stage.word().to_owned(),
                "opens" => at(lot.opens_at()),
                "closes" => at(lot.closes_at()),
                "opened" => at(lot.opened_at()),
                "closed" => at(lot.closed_at()),
                "seq" => lot.seq.to_string(),
                "extensions" => lot.extensions.to_string(),
                "count" => lot.bidder_count().to_string(),
                "lead" => lot
                    .lead()
                    .map_or("none".into(), |lead| format!("{}@{}", self.name(lead.bidder), cut(lead.price))),
                "order" => {
                    let names: Vec<String> = lot.ranking().map(|place| self.name(place.standing.bidder)).collect();
                    names.join(",")
                }
                "ranks" => {
                    let ranks: Vec<String> = lot.ranking().map(|place| place.ranks.rank.to_string()).collect();
                    ranks.join(",")
                }
                "winner" => name(result.winner),
                "pays" => result.pays.map_or("none".into(), cut),
                "low" => result.abnormally_low.to_string(),
                "reserve_met" => lot.reserve_met().map_or("none".into(), |met| met.to_string()),
                "bound" => lot.decisions().filter(|decision| decision.all_or_nothing).count().to_string(),
                "history" => {
                    let lines = lot.decisions().map(|decision| match decision.outcome {
                        Outcome::Accepted(_) => "accepted",
                        Outcome::Voided(_) => "voided",
                        Outcome::Automatic(_) => "automatic",
                        Outcome::Dropped(_) => "dropped",
                        Outcome::Withdrawal(_) => "withdrawal",
                        Outcome::Refused(refused) => refused.refusal.code(),
                    });
                    lines.collect::<Vec<_>>().join(",")
                }
                _ => panic!("{}: {key} cannot be looked at", self.line),
            };
            assert_eq!(seen, value, "{}: {key}", self.line);
        }
    }
}
