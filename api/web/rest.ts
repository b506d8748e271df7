// The REST door: JSON in and out, problems as values, one key for one wish however often it has to be sent.

import type { LotEvent, LotState, You } from "./feed.ts";

/** What the server said no to, as `application/problem+json` tells it. */
export class Problem extends Error {
  readonly status: number;
  readonly code: string;
  readonly errors: { pointer: string; code: string; detail: string }[];

  constructor(status: number, body: Record<string, unknown>) {
    super(String(body["detail"] ?? body["title"] ?? body["code"] ?? status));
    this.status = status;
    this.code = String(body["code"] ?? (status === 0 ? "offline" : "internal"));
    this.errors = (body["errors"] ?? []) as Problem["errors"];
  }
}

/** An item of what is bought. */
export interface Item {
  description: string;
  quantity: string;
  unit: string;
}

/** The rules of a lot that this page shows; the server's answer carries all. */
export interface Rules {
  format: string;
  price_scale?: number | null;
  duration_s?: number | null;
  ceiling?: string | null;
  floor?: string | null;
  reserve?: { price: string; shown: boolean } | null;
  improvement: string;
  buffer?: { front: string; back: string } | null;
  decrement?: { kind: string; value?: string; rows?: { from: string; step: string }[] } | null;
  tick?: string | null;
  max_step?: string | null;
  max_bids?: number | null;
  overtime?: { window_s: number; length_s: number; mode: string; trigger: string; rank: number; scope: string } | null;
  visibility: { lead: string; rank: boolean; board: boolean; light: boolean; bidder_count: boolean };
  prebid: string;
  auto_bid: boolean;
  all_or_nothing?: boolean;
  award: string;
  decision_s?: number | null;
  dutch?: { start: string; step: string; interval_s: number };
  japanese?: { start: string; step: string; interval_s: number; floor: string };
  rounds?: { count: number; turn_s: number; pause_s: number; lead_in_s: number; announce_s?: number | null };
  sealed?: { pricing: string };
}

/** One row of the server's table of rules. */
export interface RuleRow {
  name: string;
  type: string;
  default: unknown;
  required: boolean;
  valid: string;
  formats: string[];
  minimum?: number;
  maximum?: number;
  words?: string[];
}

/** A ready set of rules. */
export interface RuleTemplate {
  name: string;
  title: string;
  used: string;
  rules: Rules;
}

/** A lot inside its tender. */
export interface Lot {
  id: string;
  number: number;
  title: string;
  items: Item[];
  stage: LotState["stage"];
  opens_at: string | null;
  closes_at: string | null;
  /** Absent in lists, which tell `format` instead. */
  rules: Rules;
  format?: string;
}

/** A tender. */
export interface Tender {
  id: string;
  title: string;
  description: string;
  reference: string;
  currency: string;
  access: "invited" | "open";
  public: boolean;
  opens_at: string | null;
  terms: string | null;
  lot_mode: string;
  stagger_s: number;
  serial_gap_s: number;
  anonymous_to_buyer: boolean;
  /** The buyer's organisation. */
  buyer: string;
  /** The reader's own place among the bidders, if it has one. */
  bidder?: Bidder;
  stage: "draft" | "published" | "open" | "closed" | "awarded" | "unsuccessful" | "cancelled";
  version: number;
  created_at: string;
  lots: Lot[];
}

/** A bidder of a tender, as the buyer or the bidder itself sees it. */
export interface Bidder {
  id: string;
  number?: number | null;
  organisation: string;
  /** The organisation's name; in lists. */
  name?: string | null;
  status: "invited" | "admitted" | "disqualified";
  /** How its prices are adjusted, lot by lot. */
  adjustments?: { lot: number; factor: string; addend: string }[];
}

/** One organisation of the search. */
export interface Organisation {
  id: string;
  name: string;
  kind: "buyer" | "supplier" | "both";
}

/** One line of a lot's history of bids. */
export interface BidRow {
  bid: string;
  bidder?: number | null;
  price: string | null;
  status: string;
  code?: string;
  seq: number;
  at: string;
  auto: boolean;
  cid?: string;
}

/** The result of a lot, as far as this reader may see it. */
export interface Result {
  stage: string;
  closed_at?: string | null;
  ranking?: { bidder?: number; price?: string; effective?: string; rank?: number; award_rank?: number; tied?: boolean; rejected?: boolean }[];
  winner?: number | null;
  winner_name?: string;
  won?: boolean;
  pays?: string | null;
  flags?: string[];
}

/** One step of the events list. */
export interface StepRow {
  seq: number;
  at: string;
  ev: LotEvent[];
  set?: Partial<LotState>;
  you?: You;
}

/** A page of a list. */
export interface Page<T> {
  items: T[];
  next: string | null;
}

/** A key that is used for one wish only; works without a secure context too. */
export function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Gives the access token for a request, or `null`; `stale` is a token the server has just refused. */
export type TokenSource = (stale?: string) => Promise<string | null>;
let tokenSource: TokenSource = async () => null;

/** Where requests get their token from. */
export function useTokens(source: TokenSource): void {
  tokenSource = source;
}

interface Options {
  body?: unknown;
  /** Without it a change gets a key of its own; the same key makes a repeat harmless. */
  key?: string;
  /** The version that a change of a tender was made from. */
  version?: number;
  anonymous?: boolean;
  /** Sent instead of the token of whoever is signed in. */
  token?: string;
}

const PATIENCE = [400, 1_200, 3_000];

/**
 * One request. A change that may or may not have been taken (no answer, 503) is sent again under its key; a refusal
 * is thrown as a `Problem`.
 */
export async function call<T>(method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE", path: string, options: Options = {}): Promise<T> {
  const key = options.key ?? newKey();
  let renewed = false;
  for (let attempt = 0; ; attempt++) {
    const token = options.token ?? (options.anonymous === true ? null : await tokenSource());
    const headers: Record<string, string> = { Accept: "application/json" };
    if (token !== null) headers["Authorization"] = `Bearer ${token}`;
    if (options.version !== undefined) headers["If-Match"] = `"${options.version}"`;
    if (method !== "GET" && method !== "PATCH" && options.anonymous !== true) headers["Idempotency-Key"] = key;
    if (options.body !== undefined) headers["Content-Type"] = "application/json";
    let response: Response;
    try {
      const body = options.body === undefined ? null : JSON.stringify(options.body);
      response = await fetch(path, { method, headers, body, cache: "no-store" });
    } catch {
      if (attempt < PATIENCE.length && options.anonymous !== true) {
        await pause(PATIENCE[attempt] ?? 0);
        continue;
      }
      throw new Problem(0, {});
    }
    if (response.ok) return (response.status === 204 ? undefined : await response.json()) as T;
    const problem = new Problem(response.status, await response.json().catch(() => ({})));
    if (response.status === 401 && token !== null && options.token === undefined && !renewed) {
      renewed = true;
      await tokenSource(token);
      continue;
    }
    if (response.status === 503 && attempt < PATIENCE.length) {
      await pause(PATIENCE[attempt] ?? 0);
      continue;
    }
    throw problem;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
