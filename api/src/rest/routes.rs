//! The routes of `/v1`: one table that the router, the policy, the idempotency rules and the OpenAPI document are made
//! from, so that none of them can forget a route. Decides nothing itself.

use engine::{OrganisationKind, Role};

use super::tokens::Caller;

/// What is asked for; every route has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The table below says what each does.
pub enum Op {
    Register,
    Token,
    Refresh,
    Logout,
    Me,
    Jwks,
    Members,
    AddMember,
    RemoveMember,
    Organisations,
    Tenders,
    CreateTender,
    Tender,
    UpdateTender,
    Publish,
    Start,
    Pause,
    Resume,
    Cancel,
    Extend,
    Bidders,
    Admit,
    Disqualify,
    Join,
    Lot,
    PlaceBid,
    Accept,
    SetAutoBid,
    DropAutoBid,
    Bids,
    Void,
    Events,
    Result,
    Receipt,
    Audit,
    Award,
    RejectAward,
    Time,
    Rules,
    RuleTemplates,
    OpenApi,
}

/// A method of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    /// The method as it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Whether a route takes an `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// It changes nothing, or is idempotent by itself.
    None,
    /// It may have one.
    Optional,
    /// Without one: 400 `idempotency_key_required`.
    Required,
}

/// Who asks, as far as the policy looks: the columns of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Without a token.
    Anonymous,
    /// A person of an organisation.
    Member(Role, OrganisationKind),
}

/// All parties there are.
pub const PARTIES: [Party; 10] = {
    use OrganisationKind as K;
    use Party::Member as M;
    [
        Party::Anonymous,
        M(Role::Admin, K::Buyer),
        M(Role::Trader, K::Buyer),
        M(Role::Auditor, K::Buyer),
        M(Role::Admin, K::Supplier),
        M(Role::Trader, K::Supplier),
        M(Role::Auditor, K::Supplier),
        M(Role::Admin, K::Both),
        M(Role::Trader, K::Both),
        M(Role::Auditor, K::Both),
    ]
};

impl Party {
    /// The party that `caller` is.
    pub fn of(caller: Option<&Caller>) -> Self {
        caller.map_or(Self::Anonymous, |caller| Self::Member(caller.role, caller.kind))
    }
}

/// Who may use a route. What the engine decides (ownership, admission, stages) is not decided here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Anybody; a token is not looked at.
    Open,
    /// Anybody; a token, where there is one, must be right, and shows more.
    Public,
    /// Any member of any organisation.
    Member,
    /// Members who trade (admin, trader), of any organisation.
    Trader,
    /// Any member of an organisation that buys.
    Buyer,
    /// Members who trade, of an organisation that buys.
    BuyerTrader,
    /// Admins of an organisation.
    Admin,
}

/// What the policy says to a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// It may.
    Allow,
    /// It must sign in first: 401 `token_missing`.
    SignIn,
    /// It may not: 403 `forbidden`.
    Forbid,
}

impl Policy {
    /// The cell of `party` in this row.
    pub fn cell(self, party: Party) -> Cell {
        let Party::Member(role, kind) = party else {
            return match self {
                Self::Open | Self::Public => Cell::Allow,
                _ => Cell::SignIn,
            };
        };
        let may = match self {
            Self::Open | Self::Public | Self::Member => true,
            Self::Trader => role.trades(),
            Self::Buyer => kind.buys(),
            Self::BuyerTrader => kind.buys() && role.trades(),
            Self::Admin => role == Role::Admin,
        };
        if may { Cell::Allow } else { Cell::Forbid }
    }
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// What is asked for; also the operation id of the OpenAPI document.
    pub op: Op,
    /// Its method.
    pub verb: Verb,
    /// Its path, with parameters in braces.
    pub path: &'static str,
    /// Who may use it.
    pub policy: Policy,
    /// Whether it takes an idempotency key.
    pub key: KeyUse,
    /// The name of its body's schema, if it has a body.
    pub body: Option<&'static str>,
    /// The status of success and the name of the answer's schema.
    pub answer: (u16, Option<&'static str>),
    /// The statuses of the problems it may answer with, besides those that any route may.
    pub problems: &'static [u16],
    /// Its query parameters.
    pub query: &'static [&'static str],
    /// What it does, in one line.
    pub summary: &'static str,
}

const LIST: &[&str] = &["limit", "cursor"];

/// All routes.
#[rustfmt::skip] // A table is read by its columns.
pub const ROUTES: &[Route] = {
    use KeyUse::{None as NoKey, Optional as MayKey, Required as MustKey};
    use Policy::{Admin, Buyer, BuyerTrader, Member, Open, Public, Trader};
    use Verb::{Delete, Get, Patch, Post, Put};
    #[allow(clippy::too_many_arguments)] // One a column.
    const fn route(
        op: Op, verb: Verb, path: &'static str, policy: Policy, key: KeyUse, body: Option<&'static str>,
        answer: (u16, Option<&'static str>), problems: &'static [u16], query: &'static [&'static str], summary: &'static str,
    ) -> Route {
        Route { op, verb, path, policy, key, body, answer, problems, query, summary }
    }
    &[
        route(Op::Register, Post, "/v1/auth/register", Open, MayKey, Some("RegisterBody"), (201, Some("Registered")), &[422], &[], "Signs up a person with a new organisation."),
        route(Op::Token, Post, "/v1/auth/token", Open, MayKey, Some("TokenBody"), (200, Some("Tokens")), &[401, 422], &[], "Signs in."),
        route(Op::Refresh, Post, "/v1/auth/refresh", Open, MayKey, Some("RefreshBody"), (200, Some("Tokens")), &[401, 422], &[], "Exchanges a refresh token, which works once; its reuse ends the sign-in."),
        route(Op::Logout, Post, "/v1/auth/logout", Member, MayKey, None, (204, None), &[422], &[], "Ends the sign-in and its live feeds."),
        route(Op::Me, Get, "/v1/me", Member, NoKey, None, (200, Some("Me")), &[], &[], "The person that the token is about."),
        route(Op::Jwks, Get, "/.well-known/jwks.json", Open, NoKey, None, (200, Some("Jwks")), &[], &[], "The public keys of all nodes."),
        route(Op::Members, Get, "/v1/organisation/members", Member, NoKey, None, (200, Some("Members")), &[], LIST, "The members of the organisation."),
        route(Op::AddMember, Post, "/v1/organisation/members", Admin, MayKey, Some("MemberBody"), (201, Some("Member")), &[422], &[], "Adds a member."),
        route(Op::RemoveMember, Delete, "/v1/organisation/members/{user}", Admin, NoKey, None, (204, None), &[404, 422], &[], "Takes a member out and ends its sign-ins."),
        route(Op::Organisations, Get, "/v1/organisations", Buyer, NoKey, None, (200, Some("Organisations")), &[], &["kind", "q", "limit", "cursor"], "The organisations, to find suppliers."),
        route(Op::Tenders, Get, "/v1/tenders", Public, NoKey, None, (200, Some("Tenders")), &[], &["stage", "mine", "q", "limit", "cursor"], "The tenders that the reader may see, newest first."),
        route(Op::CreateTender, Post, "/v1/tenders", BuyerTrader, MayKey, Some("TenderBody"), (201, Some("Tender")), &[422], &[], "Makes a draft."),
        route(Op::Tender, Get, "/v1/tenders/{tender}", Public, NoKey, None, (200, Some("Tender")), &[404], &[], "A tender."),
        route(Op::UpdateTender, Patch, "/v1/tenders/{tender}", Trader, NoKey, Some("TenderBody"), (200, Some("Tender")), &[404, 409, 412, 422, 428], &[], "Changes a draft; once it is published only `opens_at`. JSON Merge Patch."),
        route(Op::Publish, Post, "/v1/tenders/{tender}/publish", Trader, MustKey, Some("EmptyBody"), (200, Some("Tender")), &[404, 409, 422], &[], "Freezes the rules and shows the tender to its bidders."),
        route(Op::Start, Post, "/v1/tenders/{tender}/start", Trader, MustKey, Some("EmptyBody"), (200, Some("Tender")), &[404, 409, 422], &[], "Opens a published tender that has no `opens_at`."),
        route(Op::Pause, Post, "/v1/tenders/{tender}/pause", Trader, MustKey, Some("ReasonBody"), (200, Some("Tender")), &[404, 409, 422], &[], "Freezes the remaining time of the open lots."),
        route(Op::Resume, Post, "/v1/tenders/{tender}/resume", Trader, MustKey, Some("ReasonBody"), (200, Some("Tender")), &[404, 409, 422], &[], "Lets paused lots run on."),
        route(Op::Cancel, Post, "/v1/tenders/{tender}/cancel", Trader, MustKey, Some("ReasonBody"), (200, Some("Tender")), &[404, 409, 422], &[], "Ends the tender without a result."),
        route(Op::Extend, Post, "/v1/tenders/{tender}/extend", Trader, MustKey, Some("ExtendBody"), (200, Some("Tender")), &[404, 409, 422], &[], "Adds time to one lot, or to all that are open or paused."),
        route(Op::Bidders, Get, "/v1/tenders/{tender}/bidders", Member, NoKey, None, (200, Some("Bidders")), &[404], LIST, "The bidders, for the buyer."),
        route(Op::Admit, Post, "/v1/tenders/{tender}/bidders", Trader, MayKey, Some("AdmitBody"), (201, Some("Bidder")), &[404, 409, 422], &[], "Admits a supplier."),
        route(Op::Disqualify, Post, "/v1/tenders/{tender}/bidders/{bidder}/disqualify", Trader, MayKey, Some("ReasonBody"), (200, Some("Bidder")), &[404, 409, 422], &[], "Takes a bidder out of all lots; by id or number."),
        route(Op::Join, Post, "/v1/tenders/{tender}/join", Trader, MayKey, Some("EmptyBody"), (200, Some("Bidder")), &[404, 409, 422], &[], "Accepts the terms of an invitation, or joins an open tender."),
        route(Op::Lot, Get, "/v1/lots/{lot}", Public, NoKey, None, (200, Some("Snap")), &[404], &[], "The lot as the reader may see it; the same as the feed's `snap`."),
        route(Op::PlaceBid, Post, "/v1/lots/{lot}/bids", Trader, MustKey, Some("BidBody"), (201, Some("Bid")), &[404, 409, 422], &[], "Places a bid."),
        route(Op::Accept, Post, "/v1/lots/{lot}/accept", Trader, MustKey, Some("AcceptBody"), (201, Some("Bid")), &[404, 409, 422], &[], "Accepts the current step of a dutch lot, or the current level of a japanese one."),
        route(Op::SetAutoBid, Put, "/v1/lots/{lot}/auto-bid", Trader, MayKey, Some("AutoBidBody"), (200, Some("Limit")), &[404, 409, 422], &[], "Leaves or replaces the own secret limit."),
        route(Op::DropAutoBid, Delete, "/v1/lots/{lot}/auto-bid", Trader, MayKey, None, (200, Some("Limit")), &[404, 409, 422], &[], "Takes the own secret limit back."),
        route(Op::Bids, Get, "/v1/lots/{lot}/bids", Member, NoKey, None, (200, Some("Bids")), &[404], LIST, "The decisions about bids, newest first: all for the buyer, the own for a bidder."),
        route(Op::Void, Post, "/v1/lots/{lot}/bids/{bid}/void", Trader, MustKey, Some("ReasonBody"), (200, Some("Voided")), &[404, 409, 422], &[], "Takes a standing bid out."),
        route(Op::Events, Get, "/v1/lots/{lot}/events", Public, NoKey, None, (200, Some("Events")), &[404], &["after", "limit", "wait"], "The steps after `after`; waits up to `wait` seconds for the first."),
        route(Op::Result, Get, "/v1/lots/{lot}/result", Public, NoKey, None, (200, Some("LotResult")), &[404, 409], &[], "The result, after the close."),
        route(Op::Receipt, Get, "/v1/lots/{lot}/bids/{bid}/receipt", Member, NoKey, None, (200, Some("Receipt")), &[404], &[], "An own bid as the log has it: leaf hash, chain head, and a proof that it is in a signed root."),
        route(Op::Audit, Get, "/v1/tenders/{tender}/audit", Member, NoKey, None, (200, Some("AuditExport")), &[404, 409], &["sizes"], "The tender's commands with proofs and signed roots: all for the buyer after the close, the own for a bidder."),
        route(Op::Award, Post, "/v1/lots/{lot}/award", Trader, MustKey, Some("AwardBody"), (200, Some("Award")), &[404, 409, 422], &[], "Awards a closed lot."),
        route(Op::RejectAward, Post, "/v1/lots/{lot}/award/reject", Trader, MustKey, Some("AwardBody"), (200, Some("Award")), &[404, 409, 422], &[], "Passes a bidder by; the next stands up."),
        route(Op::Time, Get, "/v1/time", Open, NoKey, None, (200, Some("Time")), &[], &[], "The leader's time."),
        route(Op::Rules, Get, "/v1/rules", Open, NoKey, None, (200, Some("Rules")), &[], &[], "The table of all rules."),
        route(Op::RuleTemplates, Get, "/v1/rule-templates", Open, NoKey, None, (200, Some("RuleTemplates")), &[], &[], "Ready sets of rules, each with where it is used."),
        route(Op::OpenApi, Get, "/v1/openapi.json", Open, NoKey, None, (200, None), &[], &[], "This document."),
    ]
};

/// The routes of `path`, in the order of the table.
pub fn of_path(path: &str) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |route| route.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line a route: who may (`+`), must sign in (`?`), may not (`-`); the columns are [`PARTIES`].
    #[test]
    fn the_policy_table_is_as_decided() {
        let row = |route: &Route| {
            let cells = PARTIES.map(|party| match route.policy.cell(party) {
                Cell::Allow => '+',
                Cell::SignIn => '?',
                Cell::Forbid => '-',
            });
            format!("{:?} {}", route.op, cells.iter().collect::<String>())
        };
        let table: Vec<String> = ROUTES.iter().map(row).collect();
        let expected = [
            "Register ++++++++++",
            "Token ++++++++++",
            "Refresh ++++++++++",
            "Logout ?+++++++++",
            "Me ?+++++++++",
            "Jwks ++++++++++",
            "Members ?+++++++++",
            "AddMember ?+--+--+--",
            "RemoveMember ?+--+--+--",
            "Organisations ?+++---+++",
            "Tenders ++++++++++",
            "CreateTender ?++----++-",
            "Tender ++++++++++",
            "UpdateTender ?++-++-++-",
            "Publish ?++-++-++-",
            "Start ?++-++-++-",
            "Pause ?++-++-++-",
            "Resume ?++-++-++-",
            "Cancel ?++-++-++-",
            "Extend ?++-++-++-",
            "Bidders ?+++++++++",
            "Admit ?++-++-++-",
            "Disqualify ?++-++-++-",
            "Join ?++-++-++-",
            "Lot ++++++++++",
            "PlaceBid ?++-++-++-",
            "Accept ?++-++-++-",
            "SetAutoBid ?++-++-++-",
            "DropAutoBid ?++-++-++-",
            "Bids ?+++++++++",
            "Void ?++-++-++-",
            "Events ++++++++++",
            "Result ++++++++++",
            "Receipt ?+++++++++",
            "Audit ?+++++++++",
            "Award ?++-++-++-",
            "RejectAward ?++-++-++-",
            "Time ++++++++++",
            "Rules ++++++++++",
            "RuleTemplates ++++++++++",
            "OpenApi ++++++++++",
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn no_route_is_there_twice() {
        for (i, one) in ROUTES.iter().enumerate() {
            assert!(ROUTES[i + 1..].iter().all(|other| other.op != one.op), "{:?}", one.op);
            let same = |other: &&Route| other.verb == one.verb && other.path == one.path;
            assert_eq!(ROUTES.iter().filter(same).count(), 1, "{} {}", one.verb.word(), one.path);
        }
    }

    #[test]
    fn only_posts_and_limits_take_keys() {
        for route in ROUTES {
            let takes = route.verb == Verb::Post || matches!(route.op, Op::SetAutoBid | Op::DropAutoBid);
            assert_eq!(route.key != KeyUse::None, takes, "{:?}", route.op);
        }
    }
}
