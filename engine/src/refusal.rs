//! Refusals: the first broken rule, in order of checking. Names and numbers are stable for ever:
//! keys, snapshots and SQL hold them.

use wincode::{SchemaRead, SchemaWrite};

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $tag:literal, $code:literal;)*) => {
        /// Why a command was refused. Declared in the order in which the rules are checked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaWrite, SchemaRead)]
        pub enum Refusal { $($(#[$doc])* #[wincode(tag = $tag)] $name,)* }

        impl Refusal {
            /// All refusals, in order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable code of the refusal, as clients read it.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The stable number of the refusal, as snapshots and SQL hold it.
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $tag,)* }
            }

            /// The refusal whose code is `code`.
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
        }
    };
}

refusals! {
    // Bids, accepts and limits, in order of checking (auction rules, section 11).
    /// There is no such lot, or the organisation may not see it.
    LotNotFound = 1, "lot_not_found";
    /// The organisation is not a bidder of this tender, or was disqualified.
    NotAdmitted = 2, "not_admitted";
    /// A buyer may not bid in its own tender.
    OwnTender = 3, "own_tender";
    /// The bidder was invited and has not accepted the tender's terms.
    TermsNotAccepted = 4, "terms_not_accepted";
    /// The lot has not opened yet.
    LotNotOpen = 5, "lot_not_open";
    /// The lot is paused.
    LotPaused = 6, "lot_paused";
    /// The lot has closed.
    LotClosed = 7, "lot_closed";
    /// The lot was cancelled.
    LotCancelled = 8, "lot_cancelled";
    /// The command reached the leader after its `expires_at`.
    Expired = 9, "expired";
    /// `seen_seq` is missing or older than the lot's `max_view_age` allows.
    StaleView = 10, "stale_view";
    /// The lot's format has no such action.
    WrongAction = 11, "wrong_action";
    /// It is another bidder's turn.
    NotYourTurn = 12, "not_your_turn";
    /// The named step or level is not the current one.
    StaleStep = 13, "stale_step";
    /// The bidder dropped out at an earlier level.
    AlreadyOut = 14, "already_out";
    /// The lot takes bids only from those who placed one before it opened.
    PrebidRequired = 15, "prebid_required";
    /// The price has more digits behind the point than the lot allows.
    PriceScale = 16, "price_scale";
    /// The price is zero or negative.
    PriceNotPositive = 17, "price_not_positive";
    /// The price is no whole multiple of the lot's tick.
    PriceTick = 18, "price_tick";
    /// The price is above the ceiling.
    AboveCeiling = 19, "above_ceiling";
    /// The price is below the floor.
    BelowFloor = 20, "below_floor";
    /// The price does not beat what it has to beat.
    NotImproved = 21, "not_improved";
    /// The price drops by more than `max_step`.
    StepTooLarge = 22, "step_too_large";
    /// Another bidder stands at this price at a rank that must stay free of ties.
    TieNotAllowed = 23, "tie_not_allowed";
    /// The price drops by more than `guard_percent` and `confirm` was not given.
    DropTooLarge = 24, "drop_too_large";
    /// The lot takes no automatic limits.
    LimitNotAllowed = 25, "limit_not_allowed";
    /// The bidder used up its bids in this lot.
    BidsExhausted = 26, "bids_exhausted";

    // Actions of buyers, in order of checking (`lot_not_found` and `own_tender` are shared).
    /// There is no such tender, or the organisation may not see it.
    TenderNotFound = 40, "tender_not_found";
    /// The tender belongs to another organisation.
    NotOwner = 41, "not_owner";
    /// The lot was awarded already.
    AlreadyAwarded = 42, "already_awarded";
    /// The tender or lot is not in a stage that allows this.
    WrongStage = 43, "wrong_stage";
    /// The tender's rules were frozen at its publication.
    RulesFrozen = 44, "rules_frozen";
    /// There is no such bidder in this tender.
    BidderNotFound = 45, "bidder_not_found";
    /// There is no such standing bid.
    BidNotFound = 46, "bid_not_found";
    /// This action needs a reason.
    ReasonRequired = 47, "reason_required";
    /// The bid does not meet the lot's reserve.
    ReserveNotMet = 48, "reserve_not_met";
    /// The rules are invalid by themselves or together.
    InvalidRules = 49, "invalid_rules";
    /// The tender changed since the version the sender saw.
    VersionMismatch = 50, "version_mismatch";

    // Accounts.
    /// The e-mail address belongs to an account already.
    EmailTaken = 60, "email_taken";
    /// There is no such person in this organisation.
    MemberNotFound = 61, "member_not_found";
    /// An organisation keeps at least one admin.
    LastAdmin = 62, "last_admin";
    /// The session has ended, or the refresh token was used before (which ends its session).
    SessionEnded = 63, "session_ended";

    // Keys.
    /// The idempotency key was used with another body.
    IdempotencyKeyReused = 80, "idempotency_key_reused";
}
