//! The decisions about the bids of one lot, in order of time, as compact records.
//!
//! Records lie in chunks that are added between batches, so that recording a decision allocates nothing and moves
//! nothing. A record holds exactly what rebuilds the first answer and the line of the history.

use wincode::{SchemaRead, SchemaWrite};

use crate::{
    BidAnswer, BidderNumber, Decimal, Decision, Key, LogTime, LotId, MaxNext, Outcome, Price, Ranks, Refusal,
    Refused, RequestId, Rules, WithdrawAnswer,
};

/// One decision, packed into 80 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub(crate) struct Record {
    request: [u64; 2],
    /// The scoped key; zero is none.
    scoped: [u64; 2],
    body: u64,
    at: LogTime,
    mantissa: i64,
    /// [`NO_NEXT`], [`ANY_NEXT`] or a price.
    max_next: i64,
    /// After a refusal the lot's end or [`NO_TIME`], else the ranks (bits 0–15 shown, 16–31 award, 32 tied) or
    /// [`NO_RANKS`]; bit 33 tells a bid that is bound to bids in other lots, as [`NO_RANKS_BOUND`] does.
    extra: i64,
    seq: u32,
    /// 0: no bidder.
    bidder: u16,
    /// [`NO_PRICE`]: there was no price.
    scale: u8,
    /// [`ACCEPTED`], [`VOIDED`] … or the number of a refusal.
    outcome: u8,
}

const _: () = assert!(size_of::<Record>() == 80, "the memory of a standing bid is counted on this");

const NO_NEXT: i64 = i64::MIN;
const ANY_NEXT: i64 = i64::MAX;
const NO_TIME: i64 = i64::MIN;
const NO_PRICE: u8 = u8::MAX;
const ACCEPTED: u8 = 0;
const VOIDED: u8 = u8::MAX;
const AUTOMATIC: u8 = 254;
const VOIDED_AUTOMATIC: u8 = 253;
const DROPPED: u8 = 252;
const WITHDRAWAL: u8 = 251;
const NO_RANKS: i64 = -1;
const NO_RANKS_BOUND: i64 = -2;
const BOUND: i64 = 1 << 33;

/// What is known of a bid whatever was decided.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    pub request: RequestId,
    pub key: Option<Key>,
    pub at: LogTime,
    pub bidder: Option<BidderNumber>,
    pub price: Option<Decimal>,
    /// Whether the bid is bound to the bidder's bids in other lots.
    pub is_bound: bool,
}

fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

fn whole(halves: [u64; 2]) -> u128 {
    u128::from(halves[0]) << 64 | u128::from(halves[1])
}

impl Record {
    fn new(sent: &Sent, outcome: u8, seq: u64, max_next: MaxNext, extra: i64) -> Self {
        let key = sent.key.unwrap_or(Key { scoped: 0, body: 0 });
        let price = sent.price.unwrap_or(Decimal { mantissa: 0, scale: NO_PRICE });
        let max_next = match max_next {
            MaxNext::None => NO_NEXT,
            MaxNext::Unlimited => ANY_NEXT,
            MaxNext::At(price) => price.0,
        };
        Self {
            request: halves(sent.request.0),
            scoped: halves(key.scoped),
            body: key.body,
            at: sent.at,
            mantissa: price.mantissa,
            max_next,
            extra,
            seq: u32::try_from(seq).expect("a lot makes fewer than 2^32 steps"),
            bidder: sent.bidder.map_or(0, |bidder| bidder.0),
            scale: price.scale,
            outcome,
        }
    }

    /// A bid that was accepted.
    pub fn accepted(sent: &Sent, seq: u64, ranks: Ranks, max_next: MaxNext) -> Self {
        let extra = i64::from(ranks.rank) | i64::from(ranks.award_rank) << 16 | i64::from(ranks.tied) << 32;
        let bound = if sent.is_bound { BOUND } else { 0 };
        Self::new(sent, ACCEPTED, seq, max_next, extra | bound)
    }

    /// A bid that nobody else sees yet.
    pub fn hidden(sent: &Sent, seq: u64, max_next: MaxNext) -> Self {
        Self::new(sent, ACCEPTED, seq, max_next, if sent.is_bound { NO_RANKS_BOUND } else { NO_RANKS })
    }

    /// A bid that a limit made.
    pub fn automatic(sent: &Sent, seq: u64, ranks: Ranks, max_next: MaxNext) -> Self {
        Self { outcome: AUTOMATIC, ..Self::accepted(sent, seq, ranks, max_next) }
    }

    /// What was given in a turn, taken back.
    pub fn withdrawal(sent: &Sent, seq: u64, max_next: MaxNext) -> Self {
        Self::new(sent, WITHDRAWAL, seq, max_next, NO_RANKS)
    }

    /// A bid that was refused.
    pub fn refused(
        sent: &Sent,
        refusal: Refusal,
        seq: u64,
        closes_at: Option<LogTime>,
        max_next: MaxNext,
    ) -> Self {
        let number = u8::try_from(refusal.number()).expect("refusals have small numbers");
        assert!(number != ACCEPTED && number < WITHDRAWAL);
        Self::new(sent, number, seq, max_next, closes_at.map_or(NO_TIME, |time| time.0))
    }

    pub fn request(&self) -> RequestId {
        RequestId(whole(self.request))
    }

    pub fn key(&self) -> Option<Key> {
        let scoped = whole(self.scoped);
        (scoped != 0).then_some(Key { scoped, body: self.body })
    }

    pub fn at(&self) -> LogTime {
        self.at
    }

    /// The price in units of the lot's scale; only of bids that were accepted.
    pub fn price(&self, rules: &Rules) -> Price {
        let sent = Decimal { mantissa: self.mantissa, scale: self.scale };
        Price(sent.units(rules.price_scale).expect("an accepted price is on the scale"))
    }

    /// Whether it was accepted and not voided later.
    pub fn is_accepted(&self) -> bool {
        self.outcome == ACCEPTED || self.outcome == AUTOMATIC
    }

    /// Whether a limit made it.
    pub fn is_automatic(&self) -> bool {
        self.outcome == AUTOMATIC || self.outcome == VOIDED_AUTOMATIC
    }

    /// Whose it is.
    pub fn bidder(&self) -> Option<BidderNumber> {
        (self.bidder != 0).then_some(BidderNumber(self.bidder))
    }

    /// Gives its bidder the number that was drawn; `moves` has the new index by the old one.
    pub fn renumber(&mut self, moves: &[usize]) {
        if let Some(bidder) = self.bidder() {
            self.bidder = BidderNumber::from_index(moves[bidder.index()]).0;
        }
    }

    /// Whether it was accepted, whatever came later.
    pub fn was_accepted(&self) -> bool {
        matches!(self.outcome, ACCEPTED | VOIDED | AUTOMATIC | VOIDED_AUTOMATIC | DROPPED)
    }

    /// Whether an accepted bid is bound to the bidder's bids in other lots.
    fn is_bound(&self) -> bool {
        let bound = if self.extra < 0 { self.extra == NO_RANKS_BOUND } else { self.extra & BOUND != 0 };
        bound && self.was_accepted()
    }

    /// Drops an accepted bid of a turn or level.
    pub fn drop_out(&mut self) {
        assert_eq!(self.outcome, ACCEPTED, "only what was given is dropped");
        self.outcome = DROPPED;
    }

    pub fn void(&mut self) {
        self.outcome = match self.outcome {
            ACCEPTED => VOIDED,
            AUTOMATIC => VOIDED_AUTOMATIC,
            _ => panic!("only an accepted bid is voided"),
        };
    }

    fn max_next(&self) -> MaxNext {
        match self.max_next {
            NO_NEXT => MaxNext::None,
            ANY_NEXT => MaxNext::Unlimited,
            price => MaxNext::At(Price(price)),
        }
    }

    /// What the sender was told.
    pub fn outcome(&self, lot: LotId, rules: &Rules) -> Outcome {
        if self.outcome == WITHDRAWAL {
            return Outcome::Withdrawal(WithdrawAnswer {
                lot,
                bidder: BidderNumber(self.bidder),
                seq: u64::from(self.seq),
                max_next: self.max_next(),
                price_scale: rules.price_scale,
            });
        }
        if self.was_accepted() {
            let ranks = Ranks {
                rank: self.extra as u16,
                award_rank: (self.extra >> 16) as u16,
                tied: self.extra >> 32 & 1 != 0,
            };
            let answer = BidAnswer {
                lot,
                bidder: BidderNumber(self.bidder),
                price: self.price(rules),
                price_scale: rules.price_scale,
                seq: u64::from(self.seq),
                ranks: (rules.rank && self.extra >= 0).then_some(ranks),
                max_next: self.max_next(),
            };
            return match self.outcome {
                ACCEPTED => Outcome::Accepted(answer),
                AUTOMATIC => Outcome::Automatic(answer),
                DROPPED => Outcome::Dropped(answer),
                _ => Outcome::Voided(answer),
            };
        }
        let number = u16::from(self.outcome);
        let refusal = Refusal::ALL.iter().find(|refusal| refusal.number() == number);
        Outcome::Refused(Refused {
            refusal: *refusal.expect("a recorded refusal is a known one"),
            lot: Some(lot),
            seq: u64::from(self.seq),
            closes_at: (self.extra != NO_TIME).then_some(LogTime(self.extra)),
            max_next: self.max_next(),
            price_scale: rules.price_scale,
        })
    }

    /// The line of the history.
    pub fn decision(&self, lot: LotId, rules: &Rules) -> Decision {
        Decision {
            bid: self.request(),
            bidder: (self.bidder != 0).then_some(BidderNumber(self.bidder)),
            price: (self.scale != NO_PRICE).then_some(Decimal { mantissa: self.mantissa, scale: self.scale }),
            at: self.at,
            outcome: self.outcome(lot, rules),
            all_or_nothing: self.is_bound(),
        }
    }
}

/// Records in a chunk, and records that have room after upkeep: a batch is no larger.
const ROOM_MIN: usize = 8;
const ROOM_MAX: usize = 512;

#[derive(Clone, Debug)]
struct Chunk {
    start: u32,
    records: Vec<Record>,
}

/// All decisions of one lot.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The older records.
    full: Vec<Chunk>,
    /// The newest records; never grows beyond its capacity.
    tail: Vec<Record>,
    /// The next tail, empty; without capacity when there is room enough.
    spare: Vec<Record>,
    /// The place of the tail's first record.
    start: u32,
    /// The length at the last upkeep.
    marked: u32,
}

impl History {
    pub fn len(&self) -> u32 {
        self.start + self.tail.len() as u32
    }

    fn room(&self) -> usize {
        self.tail.capacity() - self.tail.len() + self.spare.capacity()
    }

    /// Makes room for a batch as large as the one since the last upkeep.
    pub fn maintain(&mut self) {
        let recent = self.len() - self.marked;
        self.marked = self.len();
        self.make_room(recent as usize);
    }

    fn make_room(&mut self, wanted: usize) {
        let wanted = wanted.clamp(ROOM_MIN, ROOM_MAX);
        if self.room() < wanted {
            let size = (self.len() as usize / 8).max(wanted).min(ROOM_MAX);
            self.spare = Vec::with_capacity(size);
            self.full.reserve(2);
        }
    }

    /// Adds a record; its place is answered.
    pub fn push(&mut self, record: Record) -> u32 {
        if self.tail.len() == self.tail.capacity() {
            self.turn();
        }
        let place = self.len();
        self.tail.push(record);
        place
    }

    /// Adds records that were read; the list itself is kept where the history is empty.
    pub fn extend(&mut self, records: Vec<Record>) {
        if self.len() == 0 {
            (self.tail, self.marked) = (records, 0);
            return;
        }
        for record in records {
            self.push(record);
        }
    }

    /// Begins the next chunk.
    fn turn(&mut self) {
        if self.spare.capacity() == 0 {
            self.make_room(1);
        }
        let (start, records) = (self.start, std::mem::replace(&mut self.tail, std::mem::take(&mut self.spare)));
        self.start += records.len() as u32;
        if !records.is_empty() {
            self.full.push(Chunk { start, records });
        }
    }

    /// The chunk among the full ones that holds a place.
    fn chunk(&self, index: u32) -> usize {
        self.full.partition_point(|chunk| chunk.start <= index) - 1
    }

    pub fn get(&self, index: u32) -> &Record {
        if index >= self.start {
            return &self.tail[(index - self.start) as usize];
        }
        let chunk = &self.full[self.chunk(index)];
        &chunk.records[(index - chunk.start) as usize]
    }

    pub fn get_mut(&mut self, index: u32) -> &mut Record {
        if index >= self.start {
            return &mut self.tail[(index - self.start) as usize];
        }
        let place = self.chunk(index);
        let chunk = &mut self.full[place];
        &mut chunk.records[(index - chunk.start) as usize]
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> + ExactSizeIterator {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Reads where the next record will lie, or close to it.
    pub fn glance(&self) -> u64 {
        self.tail.last().map_or(0, |record| u64::from(record.seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: u128) -> Sent {
        Sent {
            request: RequestId(number),
            key: Some(Key { scoped: number + 1, body: 7 }),
            at: LogTime(number as i64),
            bidder: Some(BidderNumber(3)),
            price: Some(Decimal { mantissa: 500, scale: 1 }),
            is_bound: number == 9,
        }
    }

    #[test]
    fn places_stay_and_chunks_grow_with_the_history() {
        let mut history = History::default();
        for number in 0..5_000u32 {
            let record = Record::refused(&sent(u128::from(number)), Refusal::Expired, 1, None, MaxNext::None);
            assert_eq!(history.push(record), number);
        }
        assert_eq!(history.len(), 5_000);
        for number in [0, 7, 8, 9, 100, 4_999u32] {
            assert_eq!(history.get(number).request(), RequestId(u128::from(number)));
        }
        assert!(history.iter().is_sorted_by_key(Record::at));
        assert!(history.room() <= 2 * ROOM_MAX);
    }

    #[test]
    fn maintained_history_has_room_for_a_batch() {
        let mut history = History::default();
        for number in 0..10_000u128 {
            if number % 512 == 0 {
                history.maintain();
            }
            if number >= 512 {
                assert!(history.room() > 0, "{number}");
            }
            let ranks = Ranks { rank: 1, award_rank: 2, tied: true };
            history.push(Record::accepted(&sent(number), 1, ranks, MaxNext::Unlimited));
        }
    }

    #[test]
    fn a_record_gives_back_what_was_told() {
        let record = Record::refused(&sent(9), Refusal::LotClosed, 12, Some(LogTime(77)), MaxNext::At(Price(41)));
        let rules = Rules { price_scale: 2, ..Rules::plain() };
        let Outcome::Refused(refused) = record.outcome(LotId(5), &rules) else { panic!("it was refused") };
        assert_eq!(refused.refusal, Refusal::LotClosed);
        assert_eq!((refused.seq, refused.closes_at), (12, Some(LogTime(77))));
        assert_eq!(refused.max_next, MaxNext::At(Price(41)));
        let record = Record::accepted(&sent(9), 3, Ranks { rank: 4, award_rank: 5, tied: true }, MaxNext::None);
        let Outcome::Accepted(answer) = record.outcome(LotId(5), &rules) else { panic!("it was accepted") };
        assert_eq!(answer.price, Price(5_000));
        assert_eq!(answer.ranks, Some(Ranks { rank: 4, award_rank: 5, tied: true }));
        assert!(record.decision(LotId(5), &rules).all_or_nothing);
        assert_eq!(record.key(), Some(Key { scoped: 10, body: 7 }));
        for (number, is_bound) in [(9, true), (8, false)] {
            let record = Record::hidden(&sent(number), 3, MaxNext::None);
            let Outcome::Accepted(answer) = record.outcome(LotId(5), &rules) else { panic!("it was accepted") };
            assert_eq!((answer.ranks, record.decision(LotId(5), &rules).all_or_nothing), (None, is_bound));
        }
    }
}
