//! Commands: what is logged. Everything the engine may know comes in here, time and randomness included.

use wincode::{SchemaRead, SchemaWrite};

use crate::{Decimal, LogTime, LotId, OrganisationId, RequestId, SessionId, TenderId, TenderSpec, UserId};

/// One entry of a shard's log: a batch of commands that became durable together.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Entry {
    /// Place in the shard's log, from 1 without gaps.
    pub index: u64,
    /// The commands, in order; their stamps never run backwards.
    pub commands: Vec<Command>,
}

/// One command with all that is known of its sender.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Command {
    /// Who sent it, when and under which key.
    pub envelope: Envelope,
    /// What is asked, readable by everyone who may read the log.
    pub action: Action,
    /// What must stay secret: sealed in log, snapshots and archive.
    pub secret: Option<Secret>,
}

/// Who sent a command, when, and under which key.
#[derive(Clone, Debug, Default, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct Envelope {
    /// The leader's stamp.
    pub at: LogTime,
    /// The sender's organisation; zero for the system itself and for who has none yet.
    pub organisation: OrganisationId,
    /// The sender.
    pub user: UserId,
    /// The sign-in whose token was used.
    pub session: SessionId,
    /// The node that took the request.
    pub node: u16,
    /// The request; also the id of a bid or bidder made by it, and the trace id of a problem.
    pub request: RequestId,
    /// Hash of the sender's address.
    pub source: u64,
    /// Blinds the leaf hash of the secret part.
    pub salt: [u8; 16],
    /// The idempotency key, hashed with its scope.
    pub key: Option<Key>,
}

/// An idempotency key as the engine keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, SchemaWrite, SchemaRead)]
pub struct Key {
    /// First 16 bytes of SHA-256 over scope and key. Scope: organisation and route; for bids organisation and lot.
    pub scoped: u128,
    /// First 8 bytes of SHA-256 over the body.
    pub body: u64,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
#[allow(clippy::large_enum_variant)] // A bid is the common case and must not be boxed.
pub enum Action {
    /// Nothing happened but time.
    #[wincode(tag = 0)]
    Tick,
    /// A leader begins to serve: nobody served since the entry before, unless it was a planned hand-over.
    #[wincode(tag = 1)]
    Takeover {
        /// A hand-over of less than a second in which no deadline passed: no interruption.
        planned: bool,
    },
    /// The command at `position` of entry `index` panicked: every replica passes it by without effect.
    #[wincode(tag = 2)]
    Skip {
        /// The entry.
        index: u64,
        /// The command's place in the entry, from 0.
        position: u32,
        /// Where it panicked.
        place: String,
    },
    /// A buyer makes a tender.
    #[wincode(tag = 10)]
    CreateTender {
        /// Its id, made at the edge.
        tender: TenderId,
        /// What it shall be.
        spec: Box<TenderSpec>,
    },
    /// A buyer changes a tender: anything in draft, `opens_at` until the opening.
    #[wincode(tag = 11)]
    UpdateTender {
        /// The tender.
        tender: TenderId,
        /// What it shall be.
        spec: Box<TenderSpec>,
        /// The version the buyer saw.
        version: u32,
    },
    /// Freezes the rules and lets bidders see the tender.
    #[wincode(tag = 12)]
    Publish {
        /// The tender.
        tender: TenderId,
    },
    /// Opens a published tender that has no `opens_at`.
    #[wincode(tag = 13)]
    Start {
        /// The tender.
        tender: TenderId,
    },
    /// Freezes the remaining time of the open lots.
    #[wincode(tag = 14)]
    Pause {
        /// The tender.
        tender: TenderId,
        /// Why.
        reason: Option<String>,
    },
    /// Lets paused lots run on.
    #[wincode(tag = 15)]
    Resume {
        /// The tender.
        tender: TenderId,
        /// Why.
        reason: Option<String>,
    },
    /// Ends a tender without a result.
    #[wincode(tag = 16)]
    Cancel {
        /// The tender.
        tender: TenderId,
        /// Why.
        reason: Option<String>,
    },
    /// Adds time.
    #[wincode(tag = 17)]
    Extend {
        /// The tender.
        tender: TenderId,
        /// One lot, or all that are open or paused.
        lot: Option<u16>,
        /// How much, from 1.
        seconds: i64,
        /// Why.
        reason: Option<String>,
    },
    /// A buyer admits a supplier.
    #[wincode(tag = 18)]
    Admit {
        /// The tender.
        tender: TenderId,
        /// The supplier.
        organisation: OrganisationId,
        /// Its adjustments.
        adjustments: Vec<AdjustmentSpec>,
        /// Weights won.
        features: Vec<FeatureValue>,
        /// Whether admission counts as acceptance of the terms (rehearsals only).
        accepted: bool,
    },
    /// A supplier accepts the terms of an invitation, or joins an open tender.
    #[wincode(tag = 19)]
    Join {
        /// The tender.
        tender: TenderId,
    },
    /// A buyer takes a bidder out of all lots.
    #[wincode(tag = 20)]
    Disqualify {
        /// The tender.
        tender: TenderId,
        /// The bidder.
        bidder: BidderRef,
        /// Why.
        reason: Option<String>,
    },
    /// A bidder names a price.
    #[wincode(tag = 30)]
    Bid {
        /// The lot.
        lot: LotId,
        /// The price; none withdraws, where the format knows turns.
        price: Option<Decimal>,
        /// Whether a large drop is meant.
        confirm: bool,
        /// Not to be taken after this time.
        expires_at: Option<LogTime>,
        /// The last step the bidder saw.
        seen_seq: Option<u64>,
        /// A secret limit left with the bid.
        auto_limit: Option<Decimal>,
        /// Whether the bid is bound to the bidder's bids in other lots.
        all_or_nothing: Option<bool>,
    },
    /// A bidder accepts the current step or level.
    #[wincode(tag = 31)]
    Accept {
        /// The lot.
        lot: LotId,
        /// The step or level it saw.
        step: u64,
    },
    /// A bidder leaves, replaces or takes back a secret limit.
    #[wincode(tag = 32)]
    AutoBid {
        /// The lot.
        lot: LotId,
        /// The limit; none deletes.
        limit: Option<Decimal>,
    },
    /// A buyer takes a standing bid out.
    #[wincode(tag = 33)]
    Void {
        /// The lot.
        lot: LotId,
        /// The bid.
        bid: RequestId,
        /// Why.
        reason: Option<String>,
    },
    /// A buyer awards a closed lot.
    #[wincode(tag = 34)]
    Award {
        /// The lot.
        lot: LotId,
        /// To whom.
        bidder: BidderRef,
        /// Why; required for another than the first.
        reason: Option<String>,
    },
    /// A buyer passes a bidder by; the next stands up.
    #[wincode(tag = 35)]
    RejectAward {
        /// The lot.
        lot: LotId,
        /// Whom.
        bidder: BidderRef,
        /// Why.
        reason: Option<String>,
    },
    /// Something about accounts; belongs to the system shard.
    #[wincode(tag = 100)]
    Account(AccountAction),
}

impl Action {
    /// The tender it is about; none for what concerns a whole shard, or accounts.
    pub const fn tender(&self) -> Option<TenderId> {
        match self {
            Self::CreateTender { tender, .. }
            | Self::UpdateTender { tender, .. }
            | Self::Publish { tender }
            | Self::Start { tender }
            | Self::Pause { tender, .. }
            | Self::Resume { tender, .. }
            | Self::Cancel { tender, .. }
            | Self::Extend { tender, .. }
            | Self::Admit { tender, .. }
            | Self::Join { tender }
            | Self::Disqualify { tender, .. } => Some(*tender),
            Self::Bid { lot, .. }
            | Self::Accept { lot, .. }
            | Self::AutoBid { lot, .. }
            | Self::Void { lot, .. }
            | Self::Award { lot, .. }
            | Self::RejectAward { lot, .. } => Some(lot.tender()),
            Self::Tick | Self::Takeover { .. } | Self::Skip { .. } | Self::Account(_) => None,
        }
    }
}

/// A bidder as a buyer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum BidderRef {
    /// By the id that admission answered.
    #[wincode(tag = 0)]
    Id(RequestId),
    /// By the number in the tender; also one that cannot exist.
    #[wincode(tag = 1)]
    Number(i64),
}

/// How a bidder's prices are adjusted in a lot: effective = price × factor + addend.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct AdjustmentSpec {
    /// The lot's number.
    pub lot: i64,
    /// `"19/17"` or `"0.5"`, as sent.
    pub factor: Option<String>,
    /// Added to the price.
    pub addend: Option<Decimal>,
}

/// The weight a bidder won in a feature.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub struct FeatureValue {
    /// The lot's number.
    pub lot: i64,
    /// The feature.
    pub id: String,
    /// The weight.
    pub value: Decimal,
}

/// The part of a command that is always sealed where it is stored.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Secret {
    /// Personal data, under the key of the organisation.
    #[wincode(tag = 0)]
    Person {
        /// The organisation under whose key it is sealed.
        organisation: OrganisationId,
        /// E-mail address, lower case.
        email: String,
        /// Name.
        name: String,
        /// Argon2id hash of the password, in PHC form.
        password: String,
    },
    /// What a bidder offers where others may not see it, under the key of the bidder's organisation. What is here is
    /// not in the action.
    #[wincode(tag = 1)]
    Offer {
        /// The organisation under whose key it is sealed.
        organisation: OrganisationId,
        /// The price of a bid.
        price: Option<Decimal>,
        /// The secret limit.
        limit: Option<Decimal>,
    },
}

impl Secret {
    /// The organisation under whose key it is sealed.
    pub const fn organisation(&self) -> OrganisationId {
        match self {
            Self::Person { organisation, .. } | Self::Offer { organisation, .. } => *organisation,
        }
    }
}

/// What an organisation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum OrganisationKind {
    /// Runs tenders.
    #[wincode(tag = 0)]
    Buyer,
    /// Bids.
    #[wincode(tag = 1)]
    Supplier,
    /// Both.
    #[wincode(tag = 2)]
    Both,
}

impl OrganisationKind {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Buyer => "buyer",
            Self::Supplier => "supplier",
            Self::Both => "both",
        }
    }

    /// Whether it may run tenders.
    pub const fn buys(self) -> bool {
        matches!(self, Self::Buyer | Self::Both)
    }

    /// Whether it may bid.
    pub const fn supplies(self) -> bool {
        matches!(self, Self::Supplier | Self::Both)
    }
}

/// What a person may do in its organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum Role {
    /// Everything, members included.
    #[wincode(tag = 0)]
    Admin,
    /// Tenders and bids.
    #[wincode(tag = 1)]
    Trader,
    /// Reads.
    #[wincode(tag = 2)]
    Auditor,
}

impl Role {
    /// The word on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Trader => "trader",
            Self::Auditor => "auditor",
        }
    }

    /// Whether it may run tenders and bid.
    pub const fn trades(self) -> bool {
        matches!(self, Self::Admin | Self::Trader)
    }
}

/// What is asked about accounts.
#[derive(Clone, Debug, PartialEq, Eq, SchemaWrite, SchemaRead)]
pub enum AccountAction {
    /// A person signs up with a new organisation; the person's data is the command's secret.
    #[wincode(tag = 0)]
    Register {
        /// The person's id, made at the edge.
        user: UserId,
        /// The organisation's id, made at the edge.
        organisation: OrganisationId,
        /// The organisation's name.
        organisation_name: String,
        /// What it does.
        kind: OrganisationKind,
    },
    /// An admin adds a person; the person's data is the command's secret.
    #[wincode(tag = 1)]
    AddMember {
        /// The person's id, made at the edge.
        user: UserId,
        /// What it may do.
        role: Role,
    },
    /// An admin takes a person out; ends the person's sessions.
    #[wincode(tag = 2)]
    RemoveMember {
        /// The person.
        user: UserId,
    },
    /// A person signed in; the envelope's session begins.
    #[wincode(tag = 3)]
    OpenSession {
        /// SHA-256 of the refresh token.
        token: [u8; 32],
        /// When the refresh token ends.
        expires_at: LogTime,
    },
    /// A refresh token of the envelope's session is exchanged for the next.
    #[wincode(tag = 4)]
    Refresh {
        /// SHA-256 of the token that was shown.
        token: [u8; 32],
        /// SHA-256 of the next.
        next: [u8; 32],
        /// When the next ends.
        expires_at: LogTime,
    },
    /// The envelope's session ends.
    #[wincode(tag = 5)]
    CloseSession,
    /// A node announces the public key it signs tokens with.
    #[wincode(tag = 6)]
    AnnounceKey {
        /// The key's id in token headers.
        kid: String,
        /// The Ed25519 public key.
        public: [u8; 32],
    },
    /// An organisation's personal data is forgotten: its persons go and their sessions end. From the operator, who then
    /// destroys its key.
    #[wincode(tag = 7)]
    Erase {
        /// The organisation; its name and what it does stay.
        organisation: OrganisationId,
        /// Why, as the operator wrote it; names no person.
        reason: String,
    },
}
