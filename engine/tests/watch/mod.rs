//! Looks at every step and every answer of an engine and panics when the state machine breaks a promise: prices only
//! improve, nothing counts at or after a close, a lot closes once, time and steps never run back, every bid is decided
//! once, and the award is what the log up to the close says. Knows no rule beyond that.

use std::collections::BTreeMap;

use engine::{
    Answer, Engine, Event, Format, Improvement, LogTime, Lot, LotId, LotStage, Outcome, Price, Reply, Step, Tender,
};

/// What is remembered of a lot.
#[derive(Clone, Debug, Default)]
struct Seen {
    seq: u64,
    at: LogTime,
    /// The lead's effective price, and the end, as of the last step.
    lead: Option<Price>,
    closes_at: Option<LogTime>,
    stage: Option<LotStage>,
    closed: Option<LogTime>,
    extensions: u32,
    /// Bids and accepts that were decided.
    decided: usize,
}

/// What is remembered of an engine.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    lots: BTreeMap<LotId, Seen>,
}

impl Watch {
    /// A step was told; tender and lot are as of it.
    pub fn step(&mut self, tender: &Tender, lot: &Lot, step: &Step) {
        let seen = self.lots.entry(lot.id).or_default();
        let has = |wanted: fn(&Event) -> bool| step.events.iter().any(wanted);
        let closes = has(|event| matches!(event, Event::Closed));
        // A5, A8: steps come one after another, and time never runs back.
        assert_eq!(step.seq, seen.seq + 1, "a step is left out");
        assert!(step.at >= seen.at, "time ran back");
        // A3: the best price only improves, unless the buyer takes a bid out or the rules let prices rise.
        let taken = has(|event| matches!(event, Event::Voided { .. } | Event::Disqualified { .. }));
        let lead = lot.lead().map(|lead| lead.effective);
        if lot.rules().improvement != Improvement::Free && !taken {
            assert!(seen.lead.is_none_or(|old| lead.is_some_and(|new| new <= old)), "{:?} to {lead:?}", seen.lead);
        }
        for ranked in lot.ranking() {
            let price = ranked.standing.price;
            assert!(price.0 > 0 && lot.rules().ceiling.is_none_or(|ceiling| price <= ceiling));
            assert!(lot.rules().floor.is_none_or(|floor| price >= floor));
        }
        // A4: what was offered counts before the end only; a lot closes once, and its end stays.
        let shows = has(|event| matches!(event, Event::Bid { .. } | Event::Withdrawn { .. } | Event::Out { .. }));
        if shows && !closes && seen.stage == Some(LotStage::Open) {
            assert!(seen.closes_at.is_some_and(|end| step.at < end), "a bid at or after the end");
        }
        if let Some(closed) = seen.closed {
            assert!(!closes && !shows, "something counts after the close, or it closes twice");
            assert!(lot.closed_at().is_none_or(|at| at == closed), "the time of the close stays");
        } else if closes {
            assert_eq!(lot.closed_at(), Some(step.at));
            seen.closed = Some(step.at);
            Self::closed(lot, step.at);
        }
        assert!(lot.extensions >= seen.extensions, "overtime is not taken back");
        if lot.extensions > seen.extensions {
            assert!(lot.rules().overtime.is_some() && lot.closes_at() > seen.closes_at);
        }
        if has(|event| matches!(event, Event::Opened)) {
            assert!(tender.opened() && lot.opened_at() == Some(step.at));
        }
        Self::award(lot);
        (seen.seq, seen.at, seen.lead) = (step.seq, step.at, lead);
        (seen.closes_at, seen.stage, seen.extensions) = (lot.closes_at(), Some(lot.stage), lot.extensions);
    }

    /// What a lot has accepted was all stamped before its end, but for the accept that ended it; a lot that closes as it
    /// opens has pre-bids only.
    fn closed(lot: &Lot, at: LogTime) {
        let accepted = |outcome: &Outcome| matches!(outcome, Outcome::Accepted(_) | Outcome::Withdrawal(_));
        for decision in lot.decisions().filter(|decision| accepted(&decision.outcome)) {
            let may_end = lot.rules().format == Format::Dutch || lot.opened_at() == Some(at);
            assert!(decision.at < at || (may_end && decision.at == at), "accepted at or after the close");
        }
    }

    /// A6: the award is that of the ranking, and the ranking is that of effective prices and of the times of amounts.
    fn award(lot: &Lot) {
        let ranking: Vec<_> = lot.ranking().map(|ranked| ranked.standing).collect();
        for pair in ranking.windows(2) {
            let (first, second) = (&pair[0], &pair[1]);
            assert!(first.effective <= second.effective, "the best effective price is first");
            // What is told of adjusted prices is rounded, and says nothing of ties.
            let ties = first.price == second.price && !lot.is_adjusted();
            assert!(!ties || (first.at, first.seq) <= (second.at, second.seq), "the earlier of equals is first");
        }
        let result = lot.result();
        let meets = |price: Price| lot.rules().reserve.is_none_or(|reserve| price <= reserve.price);
        let first = ranking.iter().find(|standing| !standing.rejected && meets(standing.price));
        match lot.stage {
            LotStage::Closed => assert_eq!(result.winner, first.map(|first| first.bidder)),
            LotStage::Awarded => {
                let winner = ranking.iter().find(|standing| Some(standing.bidder) == result.winner);
                assert!(winner.is_some_and(|winner| !winner.rejected && meets(winner.price)));
            }
            _ => assert_eq!((result.winner, result.pays), (None, None)),
        }
    }

    /// A bid or accept was answered.
    pub fn decided(&mut self, reply: &Reply) {
        let lot = match &reply.answer {
            Answer::Bid(bid) => Some(bid.lot),
            Answer::Withdrawn(withdrawn) => Some(withdrawn.lot),
            Answer::Refused(refused) => refused.lot,
            _ => None,
        };
        if let Some(lot) = lot.filter(|_| !reply.replayed) {
            self.lots.entry(lot).or_default().decided += 1;
        }
    }

    /// A7: what was submitted is accepted or refused, each once, by its bidder too.
    pub fn counts(&self, engine: &Engine) {
        for lot in engine.tenders().flat_map(Tender::lots) {
            let sent = lot.decisions().filter(|decision| !matches!(decision.outcome, Outcome::Automatic(_)));
            // An automatic bid that was voided is told like any other that was.
            let voided = lot.decisions().filter(|decision| matches!(decision.outcome, Outcome::Voided(_))).count();
            let decided = self.lots.get(&lot.id).map_or(0, |seen| seen.decided);
            let sent = sent.count();
            assert!((decided..=decided + voided).contains(&sent), "{decided} decided, {sent} in the history");
        }
    }
}
