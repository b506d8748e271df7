// The reference client of the live feed (subprotocol `auction.v1.json`): a state machine without a socket, a clock,
// chance or a page. Inputs come as calls that carry the local time; each returns what is to be done. It never decides
// from its own clock whether a lot is open, and never touches a price: prices are strings from the server.

/** What the caller is to do after an input, in order. */
export type Output =
  /** Get an access token that is not about to expire (`token()`, where somebody is signed in), then open a socket. */
  | { do: "connect" }
  /** Send this text frame. */
  | { do: "send"; text: string }
  /** Close the socket if there is one, and report nothing more about it. */
  | { do: "close"; code: number }
  /** Call `timer()` at this local time (milliseconds), instead of any earlier request; `null`: no timer. */
  | { do: "timer"; at: number | null }
  /** Get a fresh access token and call `token()`. */
  | { do: "renew" }
  /** What is shown changed: of one lot, or (without) of the connection or the bids. */
  | { do: "changed"; lot?: string };

/** A lot as this reader may see it; fields that this client does not know are kept. */
export interface LotState {
  tender: string;
  lot: string;
  number: number;
  title: string;
  currency: string;
  price_scale: number;
  format: string;
  stage: "pending" | "open" | "paused" | "closed" | "awarded" | "unsuccessful" | "cancelled";
  opens_at: string | null;
  closes_at: string | null;
  extensions: number;
  ceiling?: string | null;
  decrement?: unknown;
  lead?: { price: string; effective?: string; bidder?: number } | null;
  board?: { bidder: number; price: string; effective?: string; rank: number }[];
  bidder_count?: number;
  reserve_met?: boolean | null;
  /** What runs inside the lot, in formats that have phases; null or absent when nothing does. */
  phase?: Phase | null;
}

/** The phase that runs in a lot: of rounds `lead_in`, `turn`, `pause`, `announce`; of dutch `step`; of japanese `level`. */
export interface Phase {
  kind: "lead_in" | "turn" | "pause" | "announce" | "step" | "level";
  round?: number;
  turn?: number;
  /** Whose turn it is, by number. */
  bidder?: number;
  /** The step or level, from 0, and its price. */
  step?: number;
  price?: string;
  /** When it ends; null while the lot is paused. */
  ends_at: string | null;
}

/** The reader's private part. */
export interface You {
  number?: number;
  standing?: string | null;
  /** The price that ranks, where the reader's prices are adjusted. */
  effective?: string | null;
  best_at?: string | null;
  rank?: number | null;
  award_rank?: number | null;
  tied?: boolean;
  lead?: boolean;
  max_next?: string | null;
  max_next_unlimited?: boolean;
  /** The traffic light; null without a standing bid, absent where there is none. */
  light?: "green" | "yellow" | "red" | null;
  /** The own secret limit; absent without one. */
  auto_limit?: string | null;
  /** Whether the reader is still in; japanese lots only. */
  in?: boolean;
}

/** One thing that happened in a step. */
export interface LotEvent {
  type: string;
  bidder?: number;
  price?: string;
  effective?: string;
  round?: number;
  turn?: number;
  step?: number;
  ends_at?: string;
  lead?: boolean;
  auto?: boolean;
  reason?: string;
  closes_at?: string | null;
  added_s?: number;
  text?: string;
}

/** One step of a lot. */
export interface LotStep {
  seq: number;
  at: string;
  ev: LotEvent[];
  /** The lead's price after the step, where it changed and this reader may see it. */
  lead?: string | null;
}

/** What is known of a watched lot. */
export interface LotView {
  lot: string;
  /** `loading`: nothing yet; `live`; `behind`: a hole is being filled; `failed`: the server refused, see `code`. */
  sync: "loading" | "live" | "behind" | "failed";
  code?: string;
  epoch?: string;
  seq: number;
  state?: LotState;
  you?: You;
  /** The newest steps, oldest first, without holes and without doubles. */
  steps: LotStep[];
}

/** What a bidder does in a lot under a key (`cid`) that is used for nothing else, ever. */
export interface Wish {
  cid: string;
  lot: string;
  /** The price; `null` takes back what was given in the own turn. With `step`: the price that was shown beside it. */
  price: string | null;
  /** The dutch step or japanese level that is accepted, and no other. */
  step?: number;
  confirm: boolean;
  /** Wanted only together with the bidder's other bids that are marked so. */
  bound?: boolean;
}

/** A bid, accept or withdrawal that was made here, and what became of it. */
export interface PlacedBid extends Wish {
  /** When the person placed it, local time. */
  placedAt: number;
  /** The step of the lot that was shown then: some lots want to know. */
  seen?: number;
  /**
   * `waiting`: not sent; `sent`; `unknown`: sent, the link was lost before the answer; `accepted`; `refused`;
   * `lost`: certainly never taken.
   */
  outcome: "waiting" | "sent" | "unknown" | "accepted" | "refused" | "lost";
  code?: string;
  detail?: string;
  /** The highest price that would be accepted next, where the answer told. */
  maxNext?: string | null;
  seq?: number;
  rank?: number | null;
}

/** The connection as a person wants to know it. */
export interface Link {
  phase: "idle" | "connecting" | "live" | "waiting" | "ended";
  /** The local time of the next try, while `waiting`. */
  retryAt?: number;
  /** Why it ended for good: `signed_out`, `forbidden`, `protocol`. */
  why?: "signed_out" | "forbidden" | "protocol";
}

type Request =
  | { op: "hello" | "auth.refresh" }
  | { op: "sub" | "unsub"; lot: string }
  | { op: "time"; sentAt: number }
  | { op: "bid.place" | "bid.accept" | "bid.query"; cid: string };

interface Answer {
  re?: number;
  ok?: Record<string, unknown>;
  err?: { code: string; detail?: string; retry?: string; after_ms?: number; seq?: number; max_next?: string | null };
  p?: string;
  [field: string]: unknown;
}

/** How long a bid stays the person's wish; later its outcome is asked for, but it is not sent again. */
export const BID_FRESH_MS = 45_000;
const RETRY_MIN_MS = 250;
const RETRY_MAX_MS = 5_000;
/** A socket that has lived this long was a good one: the next loss is answered at once again. */
const STEADY_MS = 5_000;
/** Heartbeats come every 5 s; without any frame for this long the socket is dead. */
const DEAF_MS = 12_000;
const GREET_MS = 10_000;
const TIME_SAMPLES = 5;
const TIME_EVERY_MS = 30_000;
/** Below the server's limits (20 a second, burst 40; 32 unanswered). */
const RATE_PER_S = 16;
const BURST = 32;
const UNANSWERED_MAX = 28;
const STEPS_KEPT = 500;
const BIDS_KEPT = 200;
const FINAL_STAGES = new Set(["awarded", "unsuccessful", "cancelled"]);

/** The feed of one person: one connection, any number of lots. */
export class Feed {
  readonly lots = new Map<string, LotView>();
  readonly bids: PlacedBid[] = [];
  link: Link = { phase: "idle" };

  #random: () => number;
  #client: string;
  #token: string | null = null;
  #renewing = false;
  #out: Output[] = [];
  #timerAt: number | null = null;
  #nextId = 1;
  /** The local time of the input that is being handled. */
  #clock = 0;
  #requests = new Map<number, Request>();
  #outbox: { request: Request; d: () => Record<string, unknown> | undefined }[] = [];
  #allowance = BURST;
  #allowanceAt = 0;
  #attempt = 0;
  #welcomeAt: number | undefined;
  #retryAt: number | undefined;
  #lateAt: number | undefined;
  #timeAt: number | undefined;
  #drainMs: number | undefined;
  #samples: { offset: number; trip: number }[] = [];
  #offset: number | undefined;
  #later = new Map<string, number>();
  #behindSince = new Map<string, number>();

  /** `random` gives numbers from 0 to 1 for the jitter; `client` names the program to the server. */
  constructor(options: { random: () => number; client: string }) {
    this.#random = options.random;
    this.#client = options.client;
  }

  /** The server's time (milliseconds since 1970) at a local time; `undefined` before the server said anything. */
  serverTime(local: number): number | undefined {
    return this.#offset === undefined ? undefined : local + this.#offset;
  }

  // Inputs: what a person wants.

  /** Follow a lot. The first one opens the connection. */
  watch(lot: string, now: number): Output[] {
    if (!this.lots.has(lot)) {
      this.lots.set(lot, { lot, sync: "loading", seq: 0, steps: [] });
      this.#changed(lot);
      if (this.link.phase === "live") this.#subscribe(lot);
    }
    if (this.link.phase === "idle") this.#connect(now);
    return this.#done(now);
  }

  /** No longer follow a lot. Bids that were sent are still answered. */
  unwatch(lot: string, now: number): Output[] {
    if (this.lots.delete(lot)) {
      this.#later.delete(lot);
      this.#behindSince.delete(lot);
      if (this.link.phase === "live") this.#ask({ op: "unsub", lot }, () => ({ lot }));
      this.#changed(lot);
    }
    return this.#done(now);
  }

  /** Place a bid, accept a step or level, or withdraw. */
  place(bid: Wish, now: number): Output[] {
    const seen = this.lots.get(bid.lot)?.seq;
    this.bids.push({ ...bid, placedAt: now, outcome: "waiting", ...(seen ? { seen } : {}) });
    if (this.bids.length > BIDS_KEPT) {
      const done = this.bids.findIndex((old) => isFinal(old));
      if (done >= 0) this.bids.splice(done, 1);
    }
    if (this.link.phase === "live") this.#pursue(bid.cid);
    this.#changed();
    return this.#done(now);
  }

  /** Who is reading: an access token, or `null` for nobody. Call it before `connect` is carried out and on `renew`. */
  token(token: string | null, now: number): Output[] {
    const renewed = token !== null && token !== this.#token;
    this.#token = token;
    this.#renewing = false;
    if (renewed && this.link.phase === "live") this.#ask({ op: "auth.refresh" }, () => ({ token }));
    return this.#done(now);
  }

  /** The network is back, or the page is seen again: do not wait for the next try. */
  wake(now: number): Output[] {
    if (this.link.phase === "waiting" && this.#drainMs === undefined) this.#retryAt = now;
    return this.#done(now);
  }

  /** There is a good token again after the server ended the session: connect once more. */
  revive(now: number): Output[] {
    if (this.link.phase === "ended" && this.#wanted()) this.#connect(now);
    return this.#done(now);
  }

  /** End everything, for example at sign-out. */
  stop(now: number): Output[] {
    const open = this.link.phase === "live" || this.link.phase === "connecting";
    this.#dropSocket();
    this.lots.clear();
    this.link = { phase: "idle" };
    this.#token = null;
    if (open) this.#out.push({ do: "close", code: 1000 });
    this.#changed();
    return this.#done(now);
  }

  // Inputs: what the socket and the clock do.

  /** The socket is open. */
  opened(now: number): Output[] {
    if (this.link.phase !== "connecting") return this.#done(now);
    this.#lateAt = now + GREET_MS;
    const resume = [...this.lots.values()].map((view) => position(view));
    const d = { ...(this.#token === null ? {} : { token: this.#token }), client: this.#client, resume };
    this.#write({ op: "hello" }, d);
    return this.#done(now);
  }

  /** A text frame arrived. */
  frame(text: string, now: number): Output[] {
    this.#clock = now;
    let frame: Answer;
    try {
      frame = JSON.parse(text) as Answer;
    } catch {
      this.#hangUp(4000, now);
      return this.#done(now);
    }
    if (this.link.phase === "live") this.#lateAt = now + DEAF_MS;
    if (typeof frame.re === "number") this.#answered(frame.re, frame, now);
    else if (typeof frame.p === "string") this.#pushed(frame.p, frame, now);
    return this.#done(now);
  }

  /** The socket closed, or could not be opened. */
  closed(code: number, now: number): Output[] {
    this.#lost(code, now);
    return this.#done(now);
  }

  /** The time asked for has come. */
  timer(now: number): Output[] {
    this.#timerAt = null;
    if (this.#lateAt !== undefined && this.#lateAt <= now) this.#hangUp(1000, now);
    return this.#done(now);
  }

  // The connection.

  /** Gives a socket up that is silent or talks nonsense; handled like any other loss. */
  #hangUp(code: number, now: number): void {
    this.#out.push({ do: "close", code });
    this.#lost(1006, now);
  }

  #lost(code: number, now: number): void {
    if (this.link.phase === "idle" || this.link.phase === "ended") return;
    const steady = this.#welcomeAt !== undefined && now - this.#welcomeAt >= STEADY_MS;
    const drainMs = this.#drainMs;
    this.#dropSocket();
    if (steady) this.#attempt = 0;
    const why = ({ 4001: "signed_out", 4003: "forbidden", 4000: "protocol", 4004: "protocol", 4008: "protocol" } as const)[code];
    if (why !== undefined) {
      this.link = { phase: "ended", why };
    } else if (!this.#wanted()) {
      this.link = { phase: "idle" };
    } else {
      const backOff = code >= 4100 && code <= 4199;
      if (backOff) this.#attempt = Math.max(this.#attempt, 3);
      this.#retryAt = now + (drainMs ?? this.#delay());
      this.#attempt += 1;
      this.link = { phase: "waiting", retryAt: this.#retryAt };
      if (this.#retryAt === now) this.#connect(now);
    }
    this.#changed();
  }

  #delay(): number {
    if (this.#attempt === 0) return 0; // At once, the first time.
    const cap = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** this.#attempt);
    return Math.round(RETRY_MIN_MS + this.#random() * (cap - RETRY_MIN_MS));
  }

  #connect(now: number): void {
    this.link = { phase: "connecting" };
    this.#retryAt = undefined;
    this.#lateAt = now + GREET_MS;
    this.#out.push({ do: "connect" });
    this.#changed();
  }

  #dropSocket(): void {
    this.#requests.clear();
    this.#outbox = [];
    this.#allowance = BURST;
    this.#welcomeAt = this.#lateAt = this.#timeAt = this.#drainMs = this.#retryAt = undefined;
    this.#renewing = false;
    this.#later.clear();
    this.#behindSince.clear();
    for (const bid of this.bids) if (bid.outcome === "sent") bid.outcome = "unknown";
  }

  /** Whether there is a reason to be connected: a lot that may still change, or a bid without an outcome. */
  #wanted(): boolean {
    return (
      [...this.lots.values()].some((view) => view.sync !== "failed" && !FINAL_STAGES.has(view.state?.stage ?? "")) ||
      this.bids.some((bid) => !isFinal(bid))
    );
  }

  #welcomed(ok: Record<string, unknown>, now: number): void {
    this.link = { phase: "live" };
    this.#welcomeAt = now;
    this.#lateAt = now + DEAF_MS;
    this.#samples = [];
    this.#timeAt = now;
    const said = instant(ok["now"]);
    if (said !== undefined && this.#offset === undefined) this.#offset = said - now;
    const subs = Array.isArray(ok["subs"]) ? (ok["subs"] as Record<string, unknown>[]) : [];
    for (const sub of subs) this.#subscribed(String(sub["lot"]), sub);
    const told = new Set(subs.map((sub) => String(sub["lot"])));
    // What was asked for while `hello` was under way.
    for (const lot of this.lots.keys()) if (!told.has(lot)) this.#subscribe(lot);
    for (const bid of this.bids) if (!isFinal(bid)) this.#pursue(bid.cid);
    this.#changed();
  }

  // Requests and answers.

  #ask(request: Request, d: () => Record<string, unknown> | undefined): void {
    const item = { request, d };
    // Bids go first.
    if (isWish(request)) {
      const at = this.#outbox.findIndex((other) => !isWish(other.request));
      this.#outbox.splice(at < 0 ? this.#outbox.length : at, 0, item);
    } else {
      this.#outbox.push(item);
    }
  }

  #write(request: Request, d: Record<string, unknown>): void {
    const id = this.#nextId++;
    this.#requests.set(id, request);
    this.#out.push({ do: "send", text: JSON.stringify({ id, op: request.op, d }) });
  }

  #flush(now: number): number | undefined {
    if (this.link.phase !== "live") return undefined;
    this.#allowance = Math.min(BURST, this.#allowance + ((now - this.#allowanceAt) * RATE_PER_S) / 1000);
    this.#allowanceAt = now;
    while (this.#outbox.length > 0 && this.#requests.size < UNANSWERED_MAX) {
      if (this.#allowance < 1) return now + Math.ceil(((1 - this.#allowance) * 1000) / RATE_PER_S);
      const next = this.#outbox.shift();
      const d = next?.d();
      if (next === undefined || d === undefined) continue;
      this.#allowance -= 1;
      if (next.request.op === "time") next.request.sentAt = now;
      this.#write(next.request, d);
    }
    return undefined;
  }

  #answered(id: number, answer: Answer, now: number): void {
    const request = this.#requests.get(id);
    if (request === undefined) return;
    this.#requests.delete(id);
    const { ok, err } = answer;
    switch (request.op) {
      case "hello":
        if (ok !== undefined) this.#welcomed((ok["welcome"] as Record<string, unknown> | undefined) ?? ok, now);
        // Otherwise the server closes, and the code says whether to come back.
        break;
      case "auth.refresh":
        if (ok !== undefined) for (const bid of this.bids) if (bid.code === "after_auth") this.#pursue(bid.cid);
        break;
      case "sub":
        if (ok !== undefined) this.#subscribed(request.lot, ok);
        else if (err?.retry === "later" || err?.retry === "same") this.#later.set(request.lot, now + (err.after_ms ?? 500));
        else this.#failed(request.lot, err?.code ?? "internal");
        break;
      case "time":
        if (ok !== undefined) this.#timed(ok, request.sentAt, now);
        break;
      case "bid.place":
      case "bid.accept":
        this.#decided(request.cid, answer, now);
        break;
      case "bid.query":
        this.#queried(request.cid, answer, now);
        break;
      case "unsub":
        break;
    }
  }

  #pushed(kind: string, frame: Answer, now: number): void {
    const lot = String(frame["lot"]);
    switch (kind) {
      case "snap":
        this.#snap(lot, frame);
        break;
      case "upd":
        this.#update(lot, frame);
        break;
      case "you":
        this.#you(lot, frame);
        break;
      case "resync": {
        const view = this.lots.get(lot);
        if (view !== undefined) view.sync = "behind";
        this.#changed(lot);
        break;
      }
      case "hb":
        this.#heartbeat(frame, now);
        break;
      case "expiring":
        this.#renew();
        break;
      case "drain":
        this.#drainMs = typeof frame["reconnect_in_ms"] === "number" ? frame["reconnect_in_ms"] : 0;
        break;
      default:
        // A later server may say more than this client knows.
        break;
    }
  }

  #renew(): void {
    if (this.#renewing) return;
    this.#renewing = true;
    this.#out.push({ do: "renew" });
  }

  // Lots.

  #subscribe(lot: string): void {
    this.#later.delete(lot);
    this.#ask({ op: "sub", lot }, () => {
      const view = this.lots.get(lot);
      return view === undefined ? undefined : position(view);
    });
  }

  #subscribed(lot: string, ok: Record<string, unknown>): void {
    const view = this.lots.get(lot);
    if (view === undefined) return;
    const err = ok["err"] as { code?: string } | undefined;
    if (err !== undefined) return this.#failed(lot, err.code ?? "internal");
    // Recovered: the missed steps follow, from the one behind our position. Otherwise a snap follows, unless it was
    // faster than this answer.
    const here = view.state !== undefined && view.epoch === ok["epoch"] && view.seq >= Number(ok["seq"]);
    view.sync = ok["recovered"] === true || here ? "live" : view.state === undefined ? "loading" : "behind";
    this.#changed(lot);
  }

  #failed(lot: string, code: string): void {
    const view = this.lots.get(lot);
    if (view === undefined) return;
    Object.assign(view, { sync: "failed", code });
    this.#changed(lot);
  }

  #snap(lot: string, frame: Answer): void {
    const view = this.lots.get(lot);
    if (view === undefined) return;
    const [epoch, seq] = [String(frame["epoch"]), Number(frame["seq"])];
    if (view.epoch !== epoch) view.steps = [];
    view.steps = view.steps.filter((step) => step.seq <= seq);
    // Steps are shown without holes: what lies before a jump is loaded again, not shown beside it.
    if (view.seq !== seq) view.steps = [];
    Object.assign(view, { sync: "live", epoch, seq, state: frame["state"] as LotState });
    if (frame["you"] === undefined || frame["you"] === null) delete view.you;
    else view.you = frame["you"] as You;
    delete view.code;
    this.#behindSince.delete(lot);
    this.#changed(lot);
  }

  #update(lot: string, frame: Answer): void {
    const view = this.lots.get(lot);
    if (view === undefined || view.state === undefined) return;
    const seq = Number(frame["seq"]);
    if (seq <= view.seq) return;
    if (seq > view.seq + 1) {
      // While a recovery is under way the missing steps are coming already.
      if (view.sync === "live") {
        view.sync = "behind";
        this.#subscribe(lot);
        this.#changed(lot);
      }
      return;
    }
    const set = (frame["set"] ?? {}) as Partial<LotState>;
    view.seq = seq;
    view.state = { ...view.state, ...set };
    if (frame["you"] !== undefined && frame["you"] !== null) view.you = frame["you"] as You;
    const step: LotStep = { seq, at: String(frame["at"]), ev: (frame["ev"] ?? []) as LotEvent[] };
    if (set.lead !== undefined) step.lead = set.lead?.price ?? null;
    view.steps = [...view.steps.slice(-(STEPS_KEPT - 1)), step];
    this.#behindSince.delete(lot);
    this.#changed(lot);
  }

  #you(lot: string, frame: Answer): void {
    const view = this.lots.get(lot);
    if (view === undefined || Number(frame["seq"]) < view.seq || frame["you"] === undefined) return;
    view.you = frame["you"] as You;
    this.#changed(lot);
  }

  #heartbeat(frame: Answer, now: number): void {
    for (const entry of (frame["lots"] ?? []) as { lot: string; seq: number }[]) {
      const view = this.lots.get(entry.lot);
      if (view === undefined || view.sync === "failed") continue;
      if (entry.seq <= view.seq) {
        this.#behindSince.delete(entry.lot);
        continue;
      }
      // Steps may be on their way; the same hole at two heartbeats means that they are not.
      if (this.#behindSince.get(entry.lot) === view.seq) {
        this.#behindSince.delete(entry.lot);
        view.sync = view.state === undefined ? "loading" : "behind";
        this.#subscribe(entry.lot);
        this.#changed(entry.lot);
      } else {
        this.#behindSince.set(entry.lot, view.seq);
      }
    }
    if (this.#offset === undefined) {
      const said = instant(frame["now"]);
      if (said !== undefined) this.#offset = said - now;
    }
  }

  /** Steps from before the connection, loaded over REST; those that join on without a hole are shown. */
  history(lot: string, epoch: string, steps: LotStep[], now: number): Output[] {
    const view = this.lots.get(lot);
    if (view !== undefined && view.epoch === epoch) {
      const known = new Map([...steps, ...view.steps].map((step) => [step.seq, step]));
      const joined: LotStep[] = [];
      for (let seq = view.seq; known.has(seq) && joined.length < STEPS_KEPT; seq--) {
        joined.push(known.get(seq) as LotStep);
      }
      if (joined.length > view.steps.length) {
        view.steps = joined.reverse();
        this.#changed(lot);
      }
    }
    return this.#done(now);
  }

  // The clock.

  #timed(ok: Record<string, unknown>, sentAt: number, now: number): void {
    const [t1, t2] = [instant(ok["t1"]), instant(ok["t2"])];
    if (t1 === undefined || t2 === undefined) return;
    const trip = Math.max(0, now - sentAt - (t2 - t1));
    this.#samples = [...this.#samples.slice(-7), { offset: (t1 - sentAt + t2 - now) / 2, trip }];
    // The shortest trip is wrong by the least.
    const best = this.#samples.reduce((left, right) => (right.trip < left.trip ? right : left));
    this.#offset = Math.round(best.offset);
    this.#timeAt = now + (this.#samples.length < TIME_SAMPLES ? 200 : TIME_EVERY_MS);
    this.#changed();
  }

  // Bids.

  #bid(cid: string): PlacedBid | undefined {
    return this.bids.find((bid) => bid.cid === cid);
  }

  /** Sends a bid, again under the same key, or asks what became of it when it is too old to be sent again. */
  #pursue(cid: string): void {
    const bid = this.#bid(cid);
    if (bid === undefined || isFinal(bid)) return;
    this.#later.delete(cid);
    this.#ask({ op: bid.step === undefined ? "bid.place" : "bid.accept", cid }, () => {
      const { lot, price, step, confirm, bound, seen } = bid;
      if (bid.outcome === "waiting" || this.#fresh(bid)) {
        bid.outcome = "sent";
        delete bid.code;
        return step === undefined ? { lot, cid, price, ...(seen === undefined ? {} : { seen_seq: seen }), ...(confirm ? { confirm } : {}), ...(bound === true ? { all_or_nothing: true } : {}) } : { lot, cid, step };
      }
      this.#ask({ op: "bid.query", cid }, () => ({ lot, cid }));
      return undefined;
    });
  }

  #fresh(bid: PlacedBid): boolean {
    return this.#clock - bid.placedAt <= BID_FRESH_MS;
  }

  #settle(bid: PlacedBid, outcome: PlacedBid["outcome"], from: Record<string, unknown>): void {
    bid.outcome = outcome;
    if (typeof from["code"] === "string") bid.code = from["code"];
    else delete bid.code;
    if (typeof from["detail"] === "string") bid.detail = from["detail"];
    if ("max_next" in from) bid.maxNext = (from["max_next"] as string | null) ?? null;
    if (typeof from["seq"] === "number") bid.seq = from["seq"];
    if (typeof from["rank"] === "number") bid.rank = from["rank"];
    this.#changed();
  }

  #decided(cid: string, answer: Answer, now: number): void {
    const bid = this.#bid(cid);
    if (bid === undefined || isFinal(bid)) return;
    if (answer.ok !== undefined) return this.#settle(bid, "accepted", answer.ok);
    const err = answer.err ?? { code: "internal", retry: "no" };
    const after = now + Math.max(100, err.after_ms ?? 500);
    if (err.retry === "same") {
      bid.outcome = "unknown";
      this.#later.set(cid, after);
    } else if (err.retry === "later" && this.#fresh(bid)) {
      bid.outcome = "waiting";
      this.#later.set(cid, after);
    } else if (err.retry === "after_auth" && this.#fresh(bid)) {
      bid.outcome = "waiting";
      bid.code = "after_auth";
      this.#renew();
    } else {
      this.#settle(bid, "refused", err as unknown as Record<string, unknown>);
    }
    this.#changed();
  }

  #queried(cid: string, answer: Answer, now: number): void {
    const bid = this.#bid(cid);
    if (bid === undefined || isFinal(bid)) return;
    const status = answer.ok?.["status"];
    if (status === "accepted" || status === "refused") this.#settle(bid, status, answer.ok ?? {});
    else if (status === "unknown" || answer.err?.retry === "no") this.#settle(bid, "lost", {});
    else this.#later.set(cid, now + (answer.err?.after_ms ?? 500));
  }

  // After every input.

  #changed(lot?: string): void {
    const known = this.#out.some((output) => output.do === "changed" && output.lot === lot);
    if (!known) this.#out.push(lot === undefined ? { do: "changed" } : { do: "changed", lot });
  }

  #done(now: number): Output[] {
    this.#clock = now;
    for (const bid of this.bids) {
      // Never sent in all this time: it is no longer what the person wants.
      if (bid.outcome === "waiting" && !this.#fresh(bid)) this.#settle(bid, "lost", { code: "not_sent" });
    }
    if (this.link.phase === "waiting" && this.#retryAt !== undefined && this.#retryAt <= now) this.#connect(now);
    if (this.link.phase === "live") {
      if (this.#timeAt !== undefined && this.#timeAt <= now) {
        this.#timeAt = undefined;
        this.#ask({ op: "time", sentAt: now }, () => ({ t0: Math.round(this.#clock) }));
      }
      for (const [what, at] of [...this.#later]) {
        if (at > now) continue;
        if (this.lots.has(what)) this.#subscribe(what);
        else if (this.#bid(what) !== undefined) this.#pursue(what);
        else this.#later.delete(what);
      }
    }
    const sendAt = this.#flush(now);
    const waiting = this.bids.filter((bid) => bid.outcome === "waiting").map((bid) => bid.placedAt + BID_FRESH_MS + 1);
    const times = [sendAt, this.#retryAt, this.#lateAt, this.#timeAt, ...this.#later.values(), ...waiting];
    const due = times.filter((at) => at !== undefined);
    const at = due.length === 0 ? null : Math.max(now, Math.min(...due));
    if (at !== this.#timerAt) {
      this.#timerAt = at;
      this.#out.push({ do: "timer", at });
    }
    const out = this.#out;
    this.#out = [];
    return out;
  }
}

function isWish(request: Request): boolean {
  return request.op === "bid.place" || request.op === "bid.accept";
}

function isFinal(bid: PlacedBid): boolean {
  return bid.outcome === "accepted" || bid.outcome === "refused" || bid.outcome === "lost";
}

function position(view: LotView): Record<string, unknown> {
  return view.epoch === undefined ? { lot: view.lot } : { lot: view.lot, epoch: view.epoch, seq: view.seq };
}

/** A time as the server writes it, in milliseconds since 1970. */
function instant(value: unknown): number | undefined {
  const at = typeof value === "number" ? value : typeof value === "string" ? Date.parse(value) : Number.NaN;
  return Number.isFinite(at) ? at : undefined;
}
