//! The tables of the projection as the program writes them: names, columns and keys. What is in them is said in the
//! migrations; a test holds both together.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A signed 64-bit number.
    Int,
    /// A text.
    Text,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
}

/// A table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// How many of the first columns are its primary key.
    pub key: usize,
    /// Its columns, in order.
    pub columns: &'static [Column],
}

macro_rules! kind {
    (int) => {
        Kind::Int
    };
    (text) => {
        Kind::Text
    };
}

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $key:literal, [$($kind:ident $column:ident),*];)*) => {
        $($(#[$doc])* pub static $name: Table = Table {
            name: $text,
            key: $key,
            columns: &[$(Column { name: stringify!($column), kind: kind!($kind) }),*],
        };)*

        /// All of them.
        pub static TABLES: &[&Table] = &[$(&$name),*];
    };
}

tables! {
    /// How far each shard of the log has come here; written in the transaction of its rows.
    PROJECTION = "projection", 1, [int shard, text history, int entry, int at_ms, int gap_to];
    /// Buyers and suppliers.
    ORGANISATIONS = "organisations", 1, [text id, text name, text kind];
    /// Who works where; names and addresses are not kept here.
    MEMBERS = "members", 1, [text id, text organisation, text role];
    /// One procurement event of one buyer.
    TENDERS = "tenders", 1, [text id, text buyer, text title, text reference, text description, text search, text currency, text access, int is_public, text lot_mode, int is_anonymous, text stage, int version, int lots, int created_at_ms, int published_at_ms, int opens_at_ms, int opened];
    /// What is auctioned and awarded as one thing. Prices are whole numbers: price / price_unit is the amount.
    LOTS = "lots", 1, [text id, text tender, int number, text title, text format, int price_scale, int price_unit, int ceiling, int reserve, text stage, int opens_at_ms, int opened_at_ms, int closes_at_ms, int closed_at_ms, int extensions, int seq, int bidder_count, int first_price, int lead_price, int lead_bidder, int winner, int pays, int is_abnormally_low];
    /// Suppliers of a tender. Number and organisation meet only where the buyer may know both.
    BIDDERS = "bidders", 2, [text tender, text id, int number, text organisation, text status, int admitted_at_ms];
    /// Every decision about a bid that others than its bidder may see, accepted and refused.
    BIDS = "bids", 2, [text lot, int n, text bid, int bidder, int price, text price_sent, text status, text code, int max_next, int seq, int shown_rank, int award_rank, int is_auto, int at_ms];
    /// The book of a lot when it changed: at most one row a second, the last of it, and one at the end.
    LOT_STATES = "lot_states", 3, [text lot, int second, int is_end, int at_ms, int seq, text stage, int closes_at_ms, int extensions, int lead_price, int lead_bidder, int bidder_count, text book];
    /// Every time the end of a lot moved.
    EXTENSIONS = "extensions", 3, [text lot, int seq, int n, int at_ms, text reason, int added_ms, int closes_at_ms];
    /// Awards, and bidders passed by.
    AWARDS = "awards", 3, [text lot, int seq, int n, int at_ms, text kind, int bidder, int price];
    /// Everything that happened in a lot, step by step, as its widest reader saw it.
    EVENTS = "events", 3, [text lot, int seq, int n, int at_ms, text kind, int bidder, int price, int is_lead, text detail];
}
