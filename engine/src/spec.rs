//! What a buyer asks for: a tender, its lots and their rules, as sent and before any check.
//!
//! The specification of every format is here, so that the log's schema doesn't change when a format arrives;
//! which rules are valid, alone and together, is decided when a command is applied.

use wincode::{SchemaRead, SchemaWrite};

use crate::{Decimal, LogTime};

/// Declares an enum that has a word on the wire for each variant.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $tag:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaWrite, SchemaRead)]
        pub enum $name { $($(#[$vdoc])* #[wincode(tag = $tag)] $variant,)* }

        impl $name {
            /// All words, in order of declaration.
            pub const WORDS: &[&str] = &[$($word,)*];

            /// The word on the wire.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The variant whose word is `word`.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// Who may become a bidder.
    Access {
        /// Only whom the buyer admits.
        Invited = 0, "invited";
        /// Any supplier may join until the close.
        Open = 1, "open";
    }
}
words! {
    /// How the lots of a tender open and close together.
    LotMode {
        /// All open together.
        Parallel = 0, "parallel";
        /// The next opens when the one before has closed.
        Serial = 1, "serial";
        /// All open together and close one after another.
        Staggered = 2, "staggered";
    }
}
words! {
    /// The format of a lot.
    Format {
        /// Continuous bidding, the price falls.
        English = 0, "english";
        /// Nobody sees a bid before the close.
        Sealed = 1, "sealed";
        /// The price rises by steps; the first to accept wins.
        Dutch = 2, "dutch";
        /// The price falls by levels; who stays silent is out.
        Japanese = 3, "japanese";
        /// Bidders take turns.
        Rounds = 4, "rounds";
    }
}
words! {
    /// What a bid must beat.
    Improvement {
        /// The bidder's own standing bid.
        Own = 0, "own";
        /// The lead.
        Lead = 1, "lead";
        /// The own bid, and stay clear of the lead.
        OwnAndBuffer = 2, "own_and_buffer";
        /// Nothing but the ceiling.
        Free = 3, "free";
    }
}
words! {
    /// The rank that is shown to tied bidders.
    TieRank {
        /// The place in award order.
        ByTime = 0, "by_time";
        /// All tied share the best of their places.
        Best = 1, "best";
        /// All tied share the worst of their places.
        Worst = 2, "worst";
    }
}
words! {
    /// When overtime moves the end.
    OvertimeMode {
        /// The end becomes the bid's stamp plus the length.
        Reset = 0, "reset";
        /// The length is added to the end.
        Add = 1, "add";
    }
}
words! {
    /// Which bids inside the window extend.
    OvertimeTrigger {
        /// Every accepted bid.
        Any = 0, "any";
        /// A bid whose bidder ranks first after it.
        Lead = 1, "lead";
        /// A bid that ranks well enough and changes somebody's rank.
        Rank = 2, "rank";
    }
}
words! {
    /// What overtime extends.
    OvertimeScope {
        /// The lot itself.
        Lot = 0, "lot";
        /// Every open lot of the tender that has overtime.
        Tender = 1, "tender";
    }
}
words! {
    /// Which bidders see the lead price.
    LeadVisibility {
        /// All.
        Always = 0, "always";
        /// Those who have a standing bid.
        AfterOwnBid = 1, "after_own_bid";
        /// None.
        Never = 2, "never";
    }
}
words! {
    /// Whether bids may be left before the opening.
    Prebid {
        /// No.
        None = 0, "none";
        /// Yes.
        Allowed = 1, "allowed";
        /// Only who left one may bid later.
        Required = 2, "required";
    }
}
words! {
    /// How a closed lot is awarded.
    AwardMode {
        /// By the buyer.
        Manual = 0, "manual";
        /// To the first in order that meets the reserve, at the close.
        Automatic = 1, "automatic";
    }
}
words! {
    /// What the winner of a sealed lot is paid.
    SealedPricing {
        /// Its own price.
        First = 0, "first";
        /// The highest price with which it would still have won.
        Second = 1, "second";
    }
}

/// A tender as its buyer described it.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct TenderSpec {
    /// At most 200 characters.
    pub title: String,
    /// At most 10 000 characters.
    pub description: String,
    /// The buyer's own reference, at most 200 characters.
    pub reference: String,
    /// ISO 4217 code.
    pub currency: String,
    /// Digits behind the point of the currency (2 where ISO 4217 is silent), looked up at the edge.
    pub currency_exponent: u8,
    /// Who may become a bidder.
    pub access: Access,
    /// Whether anybody may watch.
    pub public: bool,
    /// When the tender opens; without it the buyer starts it by hand.
    pub opens_at: Option<LogTime>,
    /// The terms a bidder accepts by joining, at most 10 000 characters.
    pub terms: Option<String>,
    /// How the lots open and close together.
    pub lot_mode: LotMode,
    /// Seconds between the ends of staggered lots.
    pub stagger_s: i64,
    /// Whether overtime moves the ends of the later staggered lots too.
    pub stagger_follows: bool,
    /// Seconds between serial lots.
    pub serial_gap_s: i64,
    /// Whether the buyer learns only after the close who bid.
    pub anonymous_to_buyer: bool,
    /// 1 to [`LOTS_MAX`](crate::LOTS_MAX) lots; the number of a lot is its place, from 1.
    pub lots: Vec<LotSpec>,
}

/// A lot as its buyer described it.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct LotSpec {
    /// At most 200 characters.
    pub title: String,
    /// At most 100 items.
    pub items: Vec<Item>,
    /// The rules.
    pub rules: RulesSpec,
}

/// One item of a lot.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Item {
    /// At most 10 000 characters.
    pub description: String,
    /// A positive decimal.
    pub quantity: Decimal,
    /// At most 200 characters.
    pub unit: String,
}

/// The rules of a lot as sent; what was left out has its default ([`RulesSpec::default`]).
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct RulesSpec {
    /// The format. Its block (`dutch` …) is required where it has one without defaults.
    pub format: Format,
    /// Seconds from opening to the first end; required in english and sealed.
    pub duration_s: Option<i64>,
    /// Digits behind the point, 0 to 6; default: the currency's.
    pub price_scale: Option<i64>,
    /// The highest price taken.
    pub ceiling: Option<Decimal>,
    /// The lowest price taken.
    pub floor: Option<Decimal>,
    /// The highest price awarded.
    pub reserve: Option<ReserveSpec>,
    /// What a bid must beat.
    pub improvement: Improvement,
    /// The buffer around the lead, for `own_and_buffer`.
    pub buffer: Option<BufferSpec>,
    /// The least improvement; absent: one unit.
    pub decrement: Option<DecrementSpec>,
    /// Prices are whole multiples of it.
    pub tick: Option<Decimal>,
    /// The largest drop of one bid.
    pub max_step: Option<Decimal>,
    /// The drop in percent below `max_next` that needs `confirm`; `None` is off.
    pub guard_percent: Option<Decimal>,
    /// The rank that tied bidders are shown.
    pub tie_rank: TieRank,
    /// Down to which rank ties are forbidden; 0 allows them.
    pub tie_free_ranks: i64,
    /// The most accepted bids of a bidder.
    pub max_bids: Option<i64>,
    /// The fewest admitted bidders with which the lot opens; default 1, with open access 0.
    pub min_bidders: Option<i64>,
    /// Overtime; absent: none.
    pub overtime: Option<OvertimeSpec>,
    /// Who sees what.
    pub visibility: VisibilitySpec,
    /// The traffic light is yellow within this percentage of the lead.
    pub near_percent: Decimal,
    /// Bids before the opening.
    pub prebid: Prebid,
    /// Whether bidders may leave secret limits.
    pub auto_bid: bool,
    /// How the lot is awarded.
    pub award: AwardMode,
    /// Seconds after the close in which the buyer must award.
    pub decision_s: Option<i64>,
    /// Seconds a lot stays open after an interruption.
    pub outage_grace_s: i64,
    /// How many steps `seen_seq` may be behind.
    pub max_view_age: Option<i64>,
    /// Whether bids may be bound together across lots.
    pub all_or_nothing: bool,
    /// Weighted features.
    pub features: Vec<FeatureSpec>,
    /// The largest sum of feature weights; default 0.30.
    pub max_weight_sum: Option<Decimal>,
    /// The block of format `dutch`.
    pub dutch: Option<DutchSpec>,
    /// The block of format `japanese`.
    pub japanese: Option<JapaneseSpec>,
    /// The block of format `rounds`.
    pub rounds: Option<RoundsSpec>,
    /// The block of format `sealed`.
    pub sealed: Option<SealedSpec>,
}

impl RulesSpec {
    /// The rules of a lot of `format` about which nothing else was said.
    pub fn default(format: Format) -> Self {
        Self {
            format,
            duration_s: None,
            price_scale: None,
            ceiling: None,
            floor: None,
            reserve: None,
            improvement: Improvement::Own,
            buffer: None,
            decrement: None,
            tick: None,
            max_step: None,
            guard_percent: Some(Decimal { mantissa: 30, scale: 0 }),
            tie_rank: TieRank::ByTime,
            tie_free_ranks: 0,
            max_bids: None,
            min_bidders: None,
            overtime: None,
            visibility: VisibilitySpec::default(),
            near_percent: Decimal { mantissa: 3, scale: 0 },
            prebid: Prebid::None,
            auto_bid: false,
            award: AwardMode::Manual,
            decision_s: None,
            outage_grace_s: 120,
            max_view_age: None,
            all_or_nothing: false,
            features: Vec::new(),
            max_weight_sum: None,
            dutch: None,
            japanese: None,
            rounds: None,
            sealed: None,
        }
    }
}

/// The highest price that is awarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct ReserveSpec {
    /// The price.
    pub price: Decimal,
    /// Whether bidders and observers see it.
    pub shown: bool,
}

/// The distance a bid keeps from another bidder's lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct BufferSpec {
    /// At least this much below it …
    pub front: Decimal,
    /// … or at least this much above it.
    pub back: Decimal,
}

/// The least improvement.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum DecrementSpec {
    /// A fixed amount.
    #[wincode(tag = 0)]
    Amount(Decimal),
    /// A percentage of the base, rounded up to the scale, at least one unit.
    #[wincode(tag = 1)]
    Percent(Decimal),
    /// By price range: the row with the highest `from` at or below the base.
    #[wincode(tag = 2)]
    Table(Vec<DecrementRow>),
}

/// One row of a decrement table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct DecrementRow {
    /// The lowest base the row is for.
    pub from: Decimal,
    /// The step.
    pub step: Decimal,
}

/// Overtime as sent.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct OvertimeSpec {
    /// Seconds before the end in which a bid may extend.
    pub window_s: i64,
    /// Seconds that an extension gives.
    pub length_s: i64,
    /// How the end moves.
    pub mode: OvertimeMode,
    /// Which bids extend.
    pub trigger: OvertimeTrigger,
    /// The worst rank that extends, for trigger `rank`; default 1.
    pub rank: i64,
    /// Whether a bidder's first bid extends too.
    pub first_bid_triggers: bool,
    /// The most extensions.
    pub max_count: Option<i64>,
    /// The most seconds added altogether.
    pub max_total_s: Option<i64>,
    /// What is extended.
    pub scope: OvertimeScope,
}

impl OvertimeSpec {
    /// Overtime of `length_s` in the last `window_s`, everything else at its default.
    pub fn default(window_s: i64, length_s: i64) -> Self {
        Self {
            window_s,
            length_s,
            mode: OvertimeMode::Reset,
            trigger: OvertimeTrigger::Lead,
            rank: 1,
            first_bid_triggers: false,
            max_count: None,
            max_total_s: None,
            scope: OvertimeScope::Lot,
        }
    }
}

/// Who sees what, as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct VisibilitySpec {
    /// Which bidders see the lead price.
    pub lead: LeadVisibility,
    /// Whether a bidder sees its own rank.
    pub rank: bool,
    /// Whether all standing prices are shown under bidder numbers.
    pub board: bool,
    /// Whether a traffic light is shown.
    pub light: bool,
    /// Whether adjustments of others are shown.
    pub adjustments: bool,
    /// Whether the number of bidders is shown.
    pub bidder_count: bool,
}

impl Default for VisibilitySpec {
    fn default() -> Self {
        Self {
            lead: LeadVisibility::Always,
            rank: true,
            board: false,
            light: false,
            adjustments: false,
            bidder_count: true,
        }
    }
}

/// A weighted feature.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct FeatureSpec {
    /// Its name.
    pub id: String,
    /// Its largest weight.
    pub max: Decimal,
}

/// The block of format `dutch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct DutchSpec {
    /// The price of step 0.
    pub start: Decimal,
    /// By how much the price rises.
    pub step: Decimal,
    /// Seconds a step lasts.
    pub interval_s: i64,
}

/// The block of format `japanese`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct JapaneseSpec {
    /// The price of level 0.
    pub start: Decimal,
    /// By how much the price falls.
    pub step: Decimal,
    /// Seconds a level lasts.
    pub interval_s: i64,
    /// The price of the last level.
    pub floor: Decimal,
}

/// The block of format `rounds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct RoundsSpec {
    /// How many rounds; default 3.
    pub count: i64,
    /// Seconds of a turn; default 120.
    pub turn_s: i64,
    /// Seconds between rounds; default 120.
    pub pause_s: i64,
    /// Seconds before the first round; default 300.
    pub lead_in_s: i64,
    /// Seconds of the announcement; default `pause_s`.
    pub announce_s: Option<i64>,
}

/// The block of format `sealed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct SealedSpec {
    /// What the winner is paid.
    pub pricing: SealedPricing,
}
