//! Identities: opaque 128-bit numbers outside, dense numbers inside a tender.
//!
//! Ids are made at the edge (they need randomness) and come in with the command. A lot's id is its
//! tender's id plus the lot's number, so any node can route a lot without asking anybody.

use wincode::{SchemaRead, SchemaWrite};

/// How many low bits of a tender's id are zero, kept for the number of a lot.
pub const LOT_BITS: u32 = 12;

/// Highest number of lots a tender may have; fits [`LOT_BITS`] with room.
pub const LOTS_MAX: usize = 500;
const _: () = assert!(LOTS_MAX < 1 << LOT_BITS);

/// Highest number of bidders a tender may have.
pub const BIDDERS_MAX: usize = 1_000;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaWrite, SchemaRead)]
        pub struct $name(pub u128);
    };
}

id! {
    /// One procurement event of one buyer. The low [`LOT_BITS`] bits are zero.
    TenderId
}
id! {
    /// One lot: its tender's id plus the lot's number (from 1).
    LotId
}
id! {
    /// An organisation: a buyer, a supplier, or both.
    OrganisationId
}
id! {
    /// A person.
    UserId
}
id! {
    /// One sign-in of a person: the family of refresh tokens that descend from it.
    SessionId
}
id! {
    /// The request that carried a command. The id of a bid is the id of the request that placed it.
    RequestId
}

impl TenderId {
    /// The tender id made of `bits`, whose low bits are cleared to leave room for lot numbers.
    pub const fn new(bits: u128) -> Self {
        Self(bits & !((1 << LOT_BITS) - 1))
    }

    /// The id of lot `number`, from 1.
    pub const fn lot(self, number: u16) -> LotId {
        LotId(self.0 | number as u128)
    }

    /// The shard among `shards` that owns this tender. Fixed for ever: it is a hash of the id.
    pub const fn shard(self, shards: u16) -> u16 {
        let mixed = ((self.0 >> 64) as u64 ^ (self.0 as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed >> 32) % shards as u64) as u16
    }
}

impl LotId {
    /// The tender this lot belongs to.
    pub const fn tender(self) -> TenderId {
        TenderId::new(self.0)
    }

    /// The lot's number inside its tender, from 1; 0 is no lot.
    pub const fn number(self) -> u16 {
        (self.0 & ((1 << LOT_BITS) - 1)) as u16
    }
}

/// A bidder's number inside its tender, from 1, in order of admission. Shown where names are hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaWrite, SchemaRead)]
pub struct BidderNumber(pub u16);

impl BidderNumber {
    /// The number of who has none yet; it belongs to nobody.
    pub const NONE: Self = Self(0);

    /// The dense index of this bidder inside its tender.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// The number of the bidder with dense index `index`.
    pub const fn from_index(index: usize) -> Self {
        Self(index as u16 + 1)
    }
}
