-- Projection of the log into SQLite. Written by the program alone; times are milliseconds since 1970 UTC.

-- How far each shard of the log has come here; written in the transaction of its rows.
CREATE TABLE projection (
  shard INTEGER NOT NULL, -- shard of the log; 0 holds the accounts
  history TEXT NOT NULL, -- history of the log, the epoch of the feed
  entry INTEGER NOT NULL, -- last entry whose rows are here
  at_ms INTEGER NOT NULL, -- stamp of its last command, ms since 1970 UTC
  gap_to INTEGER, -- events up to this entry are missing: the log no longer held them
  PRIMARY KEY (shard)
) STRICT, WITHOUT ROWID;

-- Buyers and suppliers.
CREATE TABLE organisations (
  id TEXT NOT NULL, -- organisation
  name TEXT NOT NULL, -- its name
  kind TEXT NOT NULL, -- buyer, supplier or both
  PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX organisations_kind ON organisations (kind);

-- Who works where; names and addresses are not kept here.
CREATE TABLE members (
  id TEXT NOT NULL, -- person
  organisation TEXT NOT NULL, -- where
  role TEXT NOT NULL, -- admin, trader or auditor
  PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_organisation ON members (organisation);

-- One procurement event of one buyer.
CREATE TABLE tenders (
  id TEXT NOT NULL, -- tender
  buyer TEXT NOT NULL, -- organisation that runs it
  title TEXT NOT NULL, -- title
  reference TEXT NOT NULL, -- the buyer's own reference
  description TEXT NOT NULL, -- description
  search TEXT NOT NULL, -- title and reference in lower case, for searching
  currency TEXT NOT NULL, -- ISO 4217
  access TEXT NOT NULL, -- invited or open
  is_public INTEGER NOT NULL, -- 1: anybody may watch
  lot_mode TEXT NOT NULL, -- parallel, serial or staggered
  is_anonymous INTEGER NOT NULL, -- 1: the buyer learns only after the close who bid
  stage TEXT NOT NULL, -- draft, published, open, closed, awarded, unsuccessful or cancelled
  version INTEGER NOT NULL, -- counts every change
  lots INTEGER NOT NULL, -- number of lots
  created_at_ms INTEGER NOT NULL, -- ms since 1970 UTC
  published_at_ms INTEGER, -- rules frozen
  opens_at_ms INTEGER, -- planned, then as it was
  opened INTEGER NOT NULL, -- 1: it has opened
  PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tenders_created_at_ms_id ON tenders (created_at_ms, id);
CREATE INDEX tenders_buyer_created_at_ms ON tenders (buyer, created_at_ms);
CREATE INDEX tenders_stage_created_at_ms ON tenders (stage, created_at_ms);

-- What is auctioned and awarded as one thing. Prices are whole numbers: price / price_unit is the amount.
CREATE TABLE lots (
  id TEXT NOT NULL, -- lot
  tender TEXT NOT NULL, -- tender
  number INTEGER NOT NULL, -- number in the tender, from 1
  title TEXT NOT NULL, -- title
  format TEXT NOT NULL, -- english, sealed, dutch, japanese or rounds
  price_scale INTEGER NOT NULL, -- digits behind the point
  price_unit INTEGER NOT NULL, -- 10 to the price_scale
  ceiling INTEGER, -- highest price taken
  reserve INTEGER, -- highest price awarded; may be secret from bidders
  stage TEXT NOT NULL, -- pending, open, paused, closed, awarded, unsuccessful or cancelled
  opens_at_ms INTEGER, -- planned or real opening
  opened_at_ms INTEGER, -- real opening
  closes_at_ms INTEGER, -- planned or real end
  closed_at_ms INTEGER, -- real end
  extensions INTEGER NOT NULL, -- how often overtime moved the end
  seq INTEGER NOT NULL, -- newest step
  bidder_count INTEGER NOT NULL, -- bidders with a standing bid
  first_price INTEGER, -- first accepted price
  lead_price INTEGER, -- price of the lead
  lead_bidder INTEGER, -- number of its bidder
  winner INTEGER, -- bidder number awarded or, while closed, first in order
  pays INTEGER, -- what the winner is paid
  is_abnormally_low INTEGER NOT NULL, -- 1: so low that the buyer should ask
  PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX lots_tender_number ON lots (tender, number);
CREATE INDEX lots_stage_closed_at_ms ON lots (stage, closed_at_ms);

-- Suppliers of a tender. Number and organisation meet only where the buyer may know both.
CREATE TABLE bidders (
  tender TEXT NOT NULL, -- tender
  id TEXT NOT NULL, -- bidder
  number INTEGER, -- number in the tender
  organisation TEXT NOT NULL, -- organisation
  status TEXT NOT NULL, -- invited, admitted or disqualified
  admitted_at_ms INTEGER NOT NULL, -- since
  PRIMARY KEY (tender, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX bidders_organisation ON bidders (organisation);
CREATE INDEX bidders_tender_number ON bidders (tender, number);

-- Every decision about a bid that others than its bidder may see, accepted and refused.
CREATE TABLE bids (
  lot TEXT NOT NULL, -- lot
  n INTEGER NOT NULL, -- place in the history of the lot, from 0
  bid TEXT NOT NULL, -- bid
  bidder INTEGER, -- number of the bidder
  price INTEGER, -- price in units of the lot
  price_sent TEXT, -- price as sent
  status TEXT NOT NULL, -- accepted, refused, voided or withdrawn
  code TEXT, -- why it was refused
  max_next INTEGER, -- highest price that would have been taken next; null: none, or no limit
  seq INTEGER NOT NULL, -- step at which it stood or was refused
  shown_rank INTEGER, -- rank it got
  award_rank INTEGER, -- place in award order it got
  is_auto INTEGER NOT NULL, -- 1: made by a limit
  at_ms INTEGER NOT NULL, -- stamp
  PRIMARY KEY (lot, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX bids_lot_at_ms ON bids (lot, at_ms);
CREATE INDEX bids_bid ON bids (bid);

-- The book of a lot when it changed: at most one row a second, the last of it, and one at the end.
CREATE TABLE lot_states (
  lot TEXT NOT NULL, -- lot
  second INTEGER NOT NULL, -- second since 1970 UTC
  is_end INTEGER NOT NULL, -- 1: as of the step that ended it
  at_ms INTEGER NOT NULL, -- stamp of the step
  seq INTEGER NOT NULL, -- step
  stage TEXT NOT NULL, -- stage
  closes_at_ms INTEGER, -- end
  extensions INTEGER NOT NULL, -- extensions so far
  lead_price INTEGER, -- price of the lead
  lead_bidder INTEGER, -- number of its bidder
  bidder_count INTEGER NOT NULL, -- bidders with a standing bid
  book TEXT NOT NULL, -- JSON: [[bidder, price, rank], ...] in award order
  PRIMARY KEY (lot, second, is_end)
) STRICT, WITHOUT ROWID;

-- Every time the end of a lot moved.
CREATE TABLE extensions (
  lot TEXT NOT NULL, -- lot
  seq INTEGER NOT NULL, -- step
  n INTEGER NOT NULL, -- place in the step
  at_ms INTEGER NOT NULL, -- when
  reason TEXT NOT NULL, -- overtime, buyer, outage or staggered
  added_ms INTEGER NOT NULL, -- by how much
  closes_at_ms INTEGER, -- new end; null while paused
  PRIMARY KEY (lot, seq, n)
) STRICT, WITHOUT ROWID;

-- Awards, and bidders passed by.
CREATE TABLE awards (
  lot TEXT NOT NULL, -- lot
  seq INTEGER NOT NULL, -- step
  n INTEGER NOT NULL, -- place in the step
  at_ms INTEGER NOT NULL, -- when
  kind TEXT NOT NULL, -- awarded or rejected
  bidder INTEGER NOT NULL, -- number of the bidder
  price INTEGER, -- what the winner is paid
  PRIMARY KEY (lot, seq, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX awards_at_ms ON awards (at_ms);

-- Everything that happened in a lot, step by step, as its widest reader saw it.
CREATE TABLE events (
  lot TEXT NOT NULL, -- lot
  seq INTEGER NOT NULL, -- step
  n INTEGER NOT NULL, -- place in the step
  at_ms INTEGER NOT NULL, -- when
  kind TEXT NOT NULL, -- type of the event, as in the feed
  bidder INTEGER, -- number of the bidder it is about
  price INTEGER, -- price
  is_lead INTEGER, -- 1: the bid became the lead
  detail TEXT, -- reason given, or round.turn
  PRIMARY KEY (lot, seq, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_lot_at_ms ON events (lot, at_ms);
