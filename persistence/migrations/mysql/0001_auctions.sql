-- Projection of the log into MySQL 8.0 or later. Written by the program alone; times are milliseconds since 1970 UTC.

CREATE TABLE projection (
  shard BIGINT NOT NULL COMMENT 'shard of the log; 0 holds the accounts',
  history CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'history of the log, the epoch of the feed',
  entry BIGINT NOT NULL COMMENT 'last entry whose rows are here',
  at_ms BIGINT NOT NULL COMMENT 'stamp of its last command, ms since 1970 UTC',
  gap_to BIGINT COMMENT 'events up to this entry are missing: the log no longer held them',
  PRIMARY KEY (shard)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='How far each shard of the log has come here; written in the transaction of its rows';

CREATE TABLE organisations (
  id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'organisation',
  name VARCHAR(1000) NOT NULL COMMENT 'its name',
  kind VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'buyer, supplier or both',
  PRIMARY KEY (id),
  INDEX organisations_kind (kind)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='Buyers and suppliers';

CREATE TABLE members (
  id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'person',
  organisation CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'where',
  role VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'admin, trader or auditor',
  PRIMARY KEY (id),
  INDEX members_organisation (organisation)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='Who works where; names and addresses are not kept here';

CREATE TABLE tenders (
  id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'tender',
  buyer CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'organisation that runs it',
  title VARCHAR(1000) NOT NULL COMMENT 'title',
  reference VARCHAR(1000) NOT NULL COMMENT 'the buyer''s own reference',
  description TEXT NOT NULL COMMENT 'description',
  search TEXT NOT NULL COMMENT 'title and reference in lower case, for searching',
  currency VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'ISO 4217',
  access VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'invited or open',
  is_public BIGINT NOT NULL COMMENT '1: anybody may watch',
  lot_mode VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'parallel, serial or staggered',
  is_anonymous BIGINT NOT NULL COMMENT '1: the buyer learns only after the close who bid',
  stage VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'draft, published, open, closed, awarded, unsuccessful or cancelled',
  version BIGINT NOT NULL COMMENT 'counts every change',
  lots BIGINT NOT NULL COMMENT 'number of lots',
  created_at_ms BIGINT NOT NULL COMMENT 'ms since 1970 UTC',
  published_at_ms BIGINT COMMENT 'rules frozen',
  opens_at_ms BIGINT COMMENT 'planned, then as it was',
  opened BIGINT NOT NULL COMMENT '1: it has opened',
  PRIMARY KEY (id),
  INDEX tenders_created_at_ms_id (created_at_ms, id),
  INDEX tenders_buyer_created_at_ms (buyer, created_at_ms),
  INDEX tenders_stage_created_at_ms (stage, created_at_ms)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='One procurement event of one buyer';

CREATE TABLE lots (
  id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'lot',
  tender CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'tender',
  number BIGINT NOT NULL COMMENT 'number in the tender, from 1',
  title VARCHAR(1000) NOT NULL COMMENT 'title',
  format VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'english, sealed, dutch, japanese or rounds',
  price_scale BIGINT NOT NULL COMMENT 'digits behind the point',
  price_unit BIGINT NOT NULL COMMENT '10 to the price_scale',
  ceiling BIGINT COMMENT 'highest price taken',
  reserve BIGINT COMMENT 'highest price awarded; may be secret from bidders',
  stage VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'pending, open, paused, closed, awarded, unsuccessful or cancelled',
  opens_at_ms BIGINT COMMENT 'planned or real opening',
  opened_at_ms BIGINT COMMENT 'real opening',
  closes_at_ms BIGINT COMMENT 'planned or real end',
  closed_at_ms BIGINT COMMENT 'real end',
  extensions BIGINT NOT NULL COMMENT 'how often overtime moved the end',
  seq BIGINT NOT NULL COMMENT 'newest step',
  bidder_count BIGINT NOT NULL COMMENT 'bidders with a standing bid',
  first_price BIGINT COMMENT 'first accepted price',
  lead_price BIGINT COMMENT 'price of the lead',
  lead_bidder BIGINT COMMENT 'number of its bidder',
  winner BIGINT COMMENT 'bidder number awarded or, while closed, first in order',
  pays BIGINT COMMENT 'what the winner is paid',
  is_abnormally_low BIGINT NOT NULL COMMENT '1: so low that the buyer should ask',
  PRIMARY KEY (id),
  INDEX lots_tender_number (tender, number),
  INDEX lots_stage_closed_at_ms (stage, closed_at_ms)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='What is auctioned and awarded as one thing. Prices are whole numbers: price / price_unit is the amount';

CREATE TABLE bidders (
  tender CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'tender',
  id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'bidder',
  number BIGINT COMMENT 'number in the tender',
  organisation CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'organisation',
  status VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'invited, admitted or disqualified',
  admitted_at_ms BIGINT NOT NULL COMMENT 'since',
  PRIMARY KEY (tender, id),
  INDEX bidders_organisation (organisation),
  INDEX bidders_tender_number (tender, number)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='Suppliers of a tender. Number and organisation meet only where the buyer may know both';

CREATE TABLE bids (
  lot CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'lot',
  n BIGINT NOT NULL COMMENT 'place in the history of the lot, from 0',
  bid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'bid',
  bidder BIGINT COMMENT 'number of the bidder',
  price BIGINT COMMENT 'price in units of the lot',
  price_sent VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin COMMENT 'price as sent',
  status VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'accepted, refused, voided or withdrawn',
  code VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin COMMENT 'why it was refused',
  max_next BIGINT COMMENT 'highest price that would have been taken next; null: none, or no limit',
  seq BIGINT NOT NULL COMMENT 'step at which it stood or was refused',
  shown_rank BIGINT COMMENT 'rank it got',
  award_rank BIGINT COMMENT 'place in award order it got',
  is_auto BIGINT NOT NULL COMMENT '1: made by a limit',
  at_ms BIGINT NOT NULL COMMENT 'stamp',
  PRIMARY KEY (lot, n),
  INDEX bids_lot_at_ms (lot, at_ms),
  INDEX bids_bid (bid)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='Every decision about a bid that others than its bidder may see, accepted and refused';

CREATE TABLE lot_states (
  lot CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'lot',
  second BIGINT NOT NULL COMMENT 'second since 1970 UTC',
  is_end BIGINT NOT NULL COMMENT '1: as of the step that ended it',
  at_ms BIGINT NOT NULL COMMENT 'stamp of the step',
  seq BIGINT NOT NULL COMMENT 'step',
  stage VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'stage',
  closes_at_ms BIGINT COMMENT 'end',
  extensions BIGINT NOT NULL COMMENT 'extensions so far',
  lead_price BIGINT COMMENT 'price of the lead',
  lead_bidder BIGINT COMMENT 'number of its bidder',
  bidder_count BIGINT NOT NULL COMMENT 'bidders with a standing bid',
  book MEDIUMTEXT NOT NULL COMMENT 'JSON: [[bidder, price, rank], ...] in award order',
  PRIMARY KEY (lot, second, is_end)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='The book of a lot when it changed: at most one row a second, the last of it, and one at the end';

CREATE TABLE extensions (
  lot CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'lot',
  seq BIGINT NOT NULL COMMENT 'step',
  n BIGINT NOT NULL COMMENT 'place in the step',
  at_ms BIGINT NOT NULL COMMENT 'when',
  reason VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'overtime, buyer, outage or staggered',
  added_ms BIGINT NOT NULL COMMENT 'by how much',
  closes_at_ms BIGINT COMMENT 'new end; null while paused',
  PRIMARY KEY (lot, seq, n)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='Every time the end of a lot moved';

CREATE TABLE awards (
  lot CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'lot',
  seq BIGINT NOT NULL COMMENT 'step',
  n BIGINT NOT NULL COMMENT 'place in the step',
  at_ms BIGINT NOT NULL COMMENT 'when',
  kind VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'awarded or rejected',
  bidder BIGINT NOT NULL COMMENT 'number of the bidder',
  price BIGINT COMMENT 'what the winner is paid',
  PRIMARY KEY (lot, seq, n),
  INDEX awards_at_ms (at_ms)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='Awards, and bidders passed by';

CREATE TABLE events (
  lot CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'lot',
  seq BIGINT NOT NULL COMMENT 'step',
  n BIGINT NOT NULL COMMENT 'place in the step',
  at_ms BIGINT NOT NULL COMMENT 'when',
  kind VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'type of the event, as in the feed',
  bidder BIGINT COMMENT 'number of the bidder it is about',
  price BIGINT COMMENT 'price',
  is_lead BIGINT COMMENT '1: the bid became the lead',
  detail TEXT COMMENT 'reason given, or round.turn',
  PRIMARY KEY (lot, seq, n),
  INDEX events_lot_at_ms (lot, at_ms)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='Everything that happened in a lot, step by step, as its widest reader saw it';
