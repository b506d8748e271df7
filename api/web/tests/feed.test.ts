// The state machine of the feed, driven by recorded frames: holes, doubles, resync, lost answers, close codes, time.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BID_FRESH_MS, Feed, type Output } from "../feed.ts";

const LOT = "01981a2e-0000-7000-8000-000000000001";
const T0 = Date.parse("2026-01-29T13:00:00.000Z");
const state = {
  tender: "01981a2e-0000-7000-8000-000000000000", lot: LOT, number: 1, title: "Bumper", currency: "SAR", price_scale: 2,
  format: "english", stage: "open", opens_at: "2026-01-29T13:00:00.000Z", closes_at: "2026-01-29T13:10:00.000Z",
  extensions: 0, ceiling: "1000.00", decrement: { kind: "amount", value: "5.00" }, lead: { price: "900.00" }, bidder_count: 2,
};

/** A feed with a local clock that is 1 500 ms behind the server's. */
class Bench {
  now = T0 - 1_500;
  feed = new Feed({ random: () => 0.5, client: "test" });
  sent: { id: number; op: string; d: Record<string, unknown> }[] = [];
  connects = 0;
  closes: number[] = [];
  renewals = 0;
  timerAt: number | null = null;
  auto = true;

  take(outputs: Output[]): void {
    for (const output of outputs) {
      if (output.do === "send") this.sent.push(JSON.parse(output.text));
      if (output.do === "connect") this.connects += 1;
      if (output.do === "close") this.closes.push(output.code);
      if (output.do === "renew") this.renewals += 1;
      if (output.do === "timer") this.timerAt = output.at;
    }
  }
  /** Lets time pass, with every timer on the way. */
  pass(ms: number): void {
    const end = this.now + ms;
    for (let turns = 0; this.timerAt !== null && this.timerAt <= end; turns++) {
      assert.ok(turns < 1_000, "a timer that never moves on");
      this.now = Math.max(this.now, this.timerAt);
      this.take(this.feed.timer(this.now));
    }
    this.now = end;
  }
  push(frame: object): void {
    this.take(this.feed.frame(JSON.stringify(frame), this.now));
  }
  reply(op: string, body: object): void {
    const request = this.sent.findLast((candidate) => candidate.op === op);
    assert.ok(request, `no ${op} was sent`);
    this.push({ re: request.id, ...body });
  }
  upd(seq: number, price: string, you?: object): void {
    this.push({
      p: "upd", lot: LOT, seq, at: "2026-01-29T13:01:00.000Z", ev: [{ type: "bid", price, lead: true }],
      set: { lead: { price } }, ...(you === undefined ? {} : { you }),
    });
  }
  /** Connects, says hello, is welcomed. */
  greet(recovered: boolean): void {
    this.take(this.feed.token("token", this.now));
    this.take(this.feed.opened(this.now));
    this.reply("hello", { ok: { conn: "c1", now: "2026-01-29T13:00:00.000Z", hb_ms: 5000, subs: [{ lot: LOT, recovered }] } });
  }
  live(): this {
    this.take(this.feed.watch(LOT, this.now));
    this.greet(false);
    this.push({ p: "snap", lot: LOT, epoch: "e1", seq: 7, state, you: { number: 3, standing: "900.00", rank: 1, lead: true, max_next: "895.00" } });
    return this;
  }
  get view() {
    const view = this.feed.lots.get(LOT);
    assert.ok(view);
    return view;
  }
  ops(): string[] {
    return this.sent.map((request) => request.op);
  }
  bid(cid: string, price = "880.00"): void {
    this.take(this.feed.place({ lot: LOT, cid, price, confirm: false }, this.now));
  }
}

test("the first lot connects; hello carries token and lots; the snap is shown", () => {
  const bench = new Bench().live();
  assert.equal(bench.connects, 1);
  assert.deepEqual(bench.sent[0]?.d, { token: "token", client: "test", resume: [{ lot: LOT }] });
  assert.equal(bench.feed.link.phase, "live");
  assert.equal(bench.view.sync, "live");
  assert.equal(bench.view.seq, 7);
  assert.equal(bench.view.you?.rank, 1);
});

test("steps apply in order; doubles and older ones are dropped", () => {
  const bench = new Bench().live();
  bench.upd(8, "890.00");
  bench.upd(8, "1.00");
  bench.upd(5, "2.00");
  bench.upd(9, "880.00", { number: 3, rank: 2, lead: false, max_next: "875.00" });
  assert.equal(bench.view.seq, 9);
  assert.equal(bench.view.state?.lead?.price, "880.00");
  assert.equal(bench.view.state?.title, "Bumper");
  assert.equal(bench.view.you?.rank, 2);
  assert.deepEqual(bench.view.steps.map((step) => [step.seq, step.lead]), [[8, "890.00"], [9, "880.00"]]);
});

test("a hole asks once, on the same socket, with the position; the replay fills it", () => {
  const bench = new Bench().live();
  bench.upd(10, "870.00");
  bench.upd(11, "860.00");
  assert.equal(bench.view.seq, 7);
  assert.equal(bench.view.sync, "behind");
  const subs = bench.sent.filter((request) => request.op === "sub");
  assert.deepEqual(subs.map((request) => request.d), [{ lot: LOT, epoch: "e1", seq: 7 }]);
  bench.reply("sub", { ok: { lot: LOT, epoch: "e1", seq: 11, recovered: true } });
  for (const [seq, price] of [[8, "890.00"], [9, "880.00"], [10, "870.00"], [11, "860.00"]] as const) bench.upd(seq, price);
  bench.upd(11, "860.00");
  assert.equal(bench.view.seq, 11);
  assert.equal(bench.view.sync, "live");
  assert.deepEqual(bench.view.steps.map((step) => step.seq), [8, 9, 10, 11]);
  assert.equal(bench.connects, 1);
});

test("a snap or steps that overtake the answer to their subscription are taken all the same", () => {
  const bench = new Bench();
  bench.take(bench.feed.watch(LOT, bench.now));
  bench.take(bench.feed.token("token", bench.now));
  bench.take(bench.feed.opened(bench.now));
  bench.push({ p: "snap", lot: LOT, epoch: "e1", seq: 7, state });
  bench.reply("hello", { ok: { conn: "c1", subs: [{ lot: LOT, epoch: "e1", seq: 7, recovered: false }] } });
  assert.equal(bench.view.sync, "live");
  bench.upd(9, "880.00");
  assert.equal(bench.view.sync, "behind");
  bench.upd(8, "890.00");
  bench.upd(9, "880.00");
  bench.reply("sub", { ok: { lot: LOT, epoch: "e1", seq: 9, recovered: true } });
  assert.deepEqual([bench.view.sync, bench.view.seq], ["live", 9]);
});

test("a failed recovery and a resync end in a snap; steps of before the jump go", () => {
  const bench = new Bench().live();
  bench.upd(8, "890.00");
  bench.push({ p: "resync", lot: LOT, why: "slow" });
  assert.equal(bench.view.sync, "behind");
  bench.upd(300, "500.00");
  assert.equal(bench.ops().filter((op) => op === "sub").length, 0, "the snap is coming already");
  bench.push({ p: "snap", lot: LOT, epoch: "e1", seq: 301, state: { ...state, lead: { price: "499.00" } } });
  assert.equal(bench.view.sync, "live");
  assert.equal(bench.view.seq, 301);
  assert.equal(bench.view.you, undefined);
  assert.deepEqual(bench.view.steps, []);
  bench.upd(302, "498.00");
  assert.equal(bench.view.state?.lead?.price, "498.00");
});

test("a new epoch replaces everything, even with a lower seq", () => {
  const bench = new Bench().live();
  bench.take(bench.feed.closed(1006, bench.now));
  bench.greet(false);
  assert.deepEqual(bench.sent.findLast((request) => request.op === "hello")?.d["resume"], [{ lot: LOT, epoch: "e1", seq: 7 }]);
  bench.push({ p: "snap", lot: LOT, epoch: "e2", seq: 2, state: { ...state, lead: null } });
  assert.equal(bench.view.seq, 2);
  bench.upd(3, "999.00");
  assert.equal(bench.view.seq, 3);
});

test("you without a step, and never an older one", () => {
  const bench = new Bench().live();
  bench.push({ p: "you", lot: LOT, seq: 7, you: { number: 3, rank: 1, max_next: "800.00" } });
  assert.equal(bench.view.you?.max_next, "800.00");
  bench.push({ p: "you", lot: LOT, seq: 6, you: { number: 3, max_next: "1.00" } });
  assert.equal(bench.view.you?.max_next, "800.00");
});

test("a hole that two heartbeats show is asked for", () => {
  const bench = new Bench().live();
  bench.push({ p: "hb", lots: [{ lot: LOT, seq: 9 }], now: "2026-01-29T13:00:05.000Z" });
  assert.ok(!bench.ops().includes("sub"));
  bench.push({ p: "hb", lots: [{ lot: LOT, seq: 9 }], now: "2026-01-29T13:00:10.000Z" });
  assert.deepEqual(bench.sent.findLast((request) => request.op === "sub")?.d, { lot: LOT, epoch: "e1", seq: 7 });
});

test("unknown pushes, fields and answers are ignored", () => {
  const bench = new Bench().live();
  bench.push({ p: "weather", lot: LOT, sun: true });
  bench.push({ re: 4711, ok: {} });
  bench.push({ p: "checkpoint", size: 1, root: "r", at: "2026-01-29T13:00:05.000Z", sig: "s" });
  assert.equal(bench.view.seq, 7);
  assert.equal(bench.feed.link.phase, "live");
});

test("a bid is sent, answered, and its refusal tells the next price", () => {
  const bench = new Bench().live();
  bench.bid("c1");
  assert.deepEqual(bench.sent.findLast((request) => request.op === "bid.place")?.d, { lot: LOT, cid: "c1", price: "880.00", seen_seq: 7 });
  assert.equal(bench.feed.bids[0]?.outcome, "sent");
  bench.reply("bid.place", { ok: { bid: "b", lot: LOT, price: "880.00", status: "accepted", seq: 8, rank: 1, max_next: "875.00", cid: "c1", dup: false } });
  assert.equal(bench.feed.bids[0]?.outcome, "accepted");
  bench.bid("c2", "879.00");
  bench.reply("bid.place", { err: { code: "not_improved", detail: "…", retry: "no", seq: 8, max_next: "875.00", closes_at: null } });
  assert.deepEqual([bench.feed.bids[1]?.outcome, bench.feed.bids[1]?.code, bench.feed.bids[1]?.maxNext], ["refused", "not_improved", "875.00"]);
});

test("an answer that was lost: the same cid is sent again after the reconnect, once", () => {
  const bench = new Bench().live();
  bench.bid("c1");
  bench.take(bench.feed.closed(1006, bench.now));
  assert.equal(bench.feed.bids[0]?.outcome, "unknown");
  assert.equal(bench.connects, 2, "the first try is at once");
  bench.greet(true);
  const places = bench.sent.filter((request) => request.op === "bid.place");
  assert.deepEqual(places.map((request) => request.d), [places[0]?.d, places[0]?.d]);
  assert.equal(places.length, 2);
  bench.reply("bid.place", { ok: { bid: "b", price: "880.00", status: "accepted", seq: 8, cid: "c1", dup: true } });
  assert.equal(bench.feed.bids[0]?.outcome, "accepted");
});

test("a bid that is no longer fresh is not sent again but asked for", () => {
  for (const [answer, outcome] of [
    [{ ok: { status: "accepted", seq: 8, price: "880.00" } }, "accepted"],
    [{ ok: { status: "refused", code: "not_improved", max_next: "875.00" } }, "refused"],
    [{ ok: { status: "unknown" } }, "lost"],
  ] as const) {
    const bench = new Bench().live();
    bench.bid("c1");
    bench.take(bench.feed.closed(1006, bench.now));
    bench.pass(1_000);
    bench.now += BID_FRESH_MS;
    bench.take(bench.feed.timer(bench.now));
    while (bench.feed.link.phase !== "connecting") bench.pass(1_000);
    bench.greet(true);
    assert.equal(bench.ops().filter((op) => op === "bid.place").length, 1);
    assert.deepEqual(bench.sent.findLast((request) => request.op === "bid.query")?.d, { lot: LOT, cid: "c1" });
    bench.reply("bid.query", answer);
    assert.equal(bench.feed.bids[0]?.outcome, outcome);
  }
});

test("retry `later` waits, `same` repeats the cid, `after_auth` renews first", () => {
  const bench = new Bench().live();
  bench.bid("c1");
  bench.reply("bid.place", { err: { code: "busy", detail: "", retry: "later", after_ms: 700 } });
  bench.pass(600);
  assert.equal(bench.ops().filter((op) => op === "bid.place").length, 1);
  bench.pass(200);
  assert.equal(bench.ops().filter((op) => op === "bid.place").length, 2);
  bench.reply("bid.place", { err: { code: "outcome_unknown", detail: "", retry: "same" } });
  assert.equal(bench.feed.bids[0]?.outcome, "unknown");
  bench.pass(600);
  assert.equal(bench.ops().filter((op) => op === "bid.place").length, 3);
  bench.reply("bid.place", { err: { code: "token_expired", detail: "", retry: "after_auth" } });
  assert.equal(bench.renewals, 1);
  bench.take(bench.feed.token("token-2", bench.now));
  assert.deepEqual(bench.sent.findLast((request) => request.op === "auth.refresh")?.d, { token: "token-2" });
  bench.reply("auth.refresh", { ok: { exp: "2026-01-29T13:30:00.000Z" } });
  const cids = bench.sent.filter((request) => request.op === "bid.place").map((request) => request.d["cid"]);
  assert.deepEqual(cids, ["c1", "c1", "c1", "c1"]);
});

test("a bid placed while offline is sent when the link is back, or given up when it is stale", () => {
  const bench = new Bench().live();
  bench.take(bench.feed.closed(1006, bench.now));
  bench.bid("c1");
  bench.greet(true);
  assert.equal(bench.feed.bids[0]?.outcome, "sent");
  bench.take(bench.feed.closed(1006, bench.now));
  bench.bid("c2");
  bench.pass(BID_FRESH_MS + 1_000);
  assert.deepEqual([bench.feed.bids[1]?.outcome, bench.feed.bids[1]?.code], ["lost", "not_sent"]);
});

test("reconnects at once, then with full jitter up to 5 s, and never gives up while a lot is open", () => {
  const bench = new Bench().live();
  bench.pass(100); // not long enough to count as a steady link
  const waits: number[] = [];
  for (let n = 0; n < 40; n++) {
    bench.take(bench.feed.closed(1006, bench.now));
    const { retryAt } = bench.feed.link;
    waits.push(retryAt === undefined ? 0 : retryAt - bench.now);
    bench.pass(5_000);
    assert.equal(bench.feed.link.phase, "connecting");
  }
  assert.equal(waits[0], 0);
  assert.ok(waits.slice(1).every((wait) => wait >= 250 && wait <= 5_000), String(waits));
  assert.equal(waits.at(-1), 2_625);
});

test("close codes: some never come back, 42xx come back now, 41xx back off", () => {
  for (const [code, why] of [[4000, "protocol"], [4001, "signed_out"], [4003, "forbidden"], [4004, "protocol"], [4008, "protocol"]] as const) {
    const bench = new Bench().live();
    bench.take(bench.feed.closed(code, bench.now));
    bench.pass(60_000);
    assert.deepEqual(bench.feed.link, { phase: "ended", why });
    assert.equal(bench.connects, 1);
  }
  for (const code of [4200, 4201, 4202]) {
    const bench = new Bench().live();
    bench.take(bench.feed.closed(code, bench.now));
    assert.equal(bench.connects, 2, `${code} comes back now`);
  }
  for (const code of [4100, 4101, 4102, 4103, 4104]) {
    const bench = new Bench().live();
    bench.take(bench.feed.closed(code, bench.now));
    assert.equal(bench.feed.link.phase, "waiting", `${code} waits`);
  }
});

test("a session that was renewed connects once more", () => {
  const bench = new Bench().live();
  bench.take(bench.feed.closed(4001, bench.now));
  bench.take(bench.feed.revive(bench.now));
  assert.equal(bench.connects, 2);
  bench.greet(true);
  assert.equal(bench.feed.link.phase, "live");
});

test("a drain says when to come back", () => {
  const bench = new Bench().live();
  bench.push({ p: "drain", reconnect_in_ms: 3_000, deadline_ms: 10_000 });
  bench.take(bench.feed.closed(4200, bench.now));
  assert.equal(bench.feed.link.retryAt, bench.now + 3_000);
  bench.pass(3_000);
  assert.equal(bench.connects, 2);
});

test("when every lot has a result there is nothing to come back for", () => {
  const bench = new Bench().live();
  bench.push({ p: "upd", lot: LOT, seq: 8, at: "2026-01-29T13:10:00.000Z", ev: [{ type: "closed" }], set: { stage: "closed" } });
  bench.push({ p: "upd", lot: LOT, seq: 9, at: "2026-01-29T13:11:00.000Z", ev: [{ type: "awarded" }], set: { stage: "awarded" } });
  bench.take(bench.feed.closed(4200, bench.now));
  assert.equal(bench.feed.link.phase, "idle");
  assert.equal(bench.connects, 1);
});

test("a silent socket is given up, and a garbled one", () => {
  const bench = new Bench().live();
  bench.pass(12_001);
  assert.deepEqual(bench.closes, [1000]);
  assert.equal(bench.connects, 2);
  bench.greet(true);
  bench.take(bench.feed.frame("{", bench.now));
  assert.deepEqual(bench.closes, [1000, 4000]);
  assert.notEqual(bench.feed.link.phase, "live");
});

test("the clock takes the sample with the shortest trip", () => {
  const bench = new Bench().live();
  const answer = (there: number, back: number) => {
    const sentAt = bench.now;
    const t1 = sentAt + 1_500 + there;
    bench.now += there + back;
    bench.reply("time", { ok: { t0: sentAt, t1: new Date(t1).toISOString(), t2: new Date(t1).toISOString() } });
    bench.pass(200);
  };
  answer(400, 10); // lopsided: 195 ms wrong
  answer(5, 5);
  answer(10, 300);
  assert.equal(bench.feed.serverTime(bench.now), bench.now + 1_500);
});

test("never more than 28 unanswered, never faster than the server allows", () => {
  const bench = new Bench();
  const lots = Array.from({ length: 100 }, (_, n) => `lot-${n}`);
  bench.take(bench.feed.watch(LOT, bench.now));
  bench.greet(false);
  for (const lot of lots) bench.take(bench.feed.watch(lot, bench.now));
  assert.ok(bench.sent.length <= 1 + 28, String(bench.sent.length));
  bench.bid("c1");
  for (let turns = 0; turns < 400 && bench.ops().filter((op) => op === "sub").length < 100; turns++) {
    for (const request of bench.sent.splice(0)) {
      if (request.op === "sub") bench.push({ re: request.id, ok: { lot: request.d["lot"], epoch: "e1", seq: 1, recovered: false } });
      if (request.op === "bid.place") assert.ok(turns < 5, "a bid goes before subscriptions");
    }
    const before = bench.sent.length;
    bench.pass(100);
    assert.ok(bench.sent.length - before <= 3, "16 a second");
  }
});

test("history joins on without a hole, or is left out", () => {
  const bench = new Bench().live();
  bench.upd(8, "890.00");
  const step = (seq: number) => ({ seq, at: "2026-01-29T13:00:30.000Z", ev: [] });
  bench.take(bench.feed.history(LOT, "e1", [step(2), step(4), step(5), step(6), step(7)], bench.now));
  assert.deepEqual(bench.view.steps.map((known) => known.seq), [4, 5, 6, 7, 8]);
  bench.take(bench.feed.history(LOT, "e0", [step(1), step(2), step(3)], bench.now));
  assert.deepEqual(bench.view.steps.map((known) => known.seq), [4, 5, 6, 7, 8]);
});

test("a lot that the reader may not see fails alone", () => {
  const bench = new Bench().live();
  bench.take(bench.feed.watch("lot-2", bench.now));
  bench.reply("sub", { err: { code: "lot_not_found", detail: "", retry: "no" } });
  assert.deepEqual([bench.feed.lots.get("lot-2")?.sync, bench.feed.lots.get("lot-2")?.code], ["failed", "lot_not_found"]);
  assert.equal(bench.view.sync, "live");
});

test("sign-out closes, forgets, and nothing more happens", () => {
  const bench = new Bench().live();
  bench.take(bench.feed.stop(bench.now));
  assert.deepEqual(bench.closes, [1000]);
  bench.pass(60_000);
  assert.equal(bench.feed.lots.size, 0);
  assert.equal(bench.connects, 1);
});

test("an accept names its step, also when it is sent again after a lost link; a withdrawal has no price", () => {
  const bench = new Bench().live();
  bench.take(bench.feed.place({ lot: LOT, cid: "a1", price: "550.00", step: 1, confirm: false }, bench.now));
  assert.deepEqual(bench.sent.at(-1)?.d, { lot: LOT, cid: "a1", step: 1 });
  assert.equal(bench.sent.at(-1)?.op, "bid.accept");
  bench.take(bench.feed.closed(1006, bench.now));
  assert.equal(bench.feed.bids[0]?.outcome, "unknown");
  bench.greet(true);
  assert.deepEqual(bench.sent.findLast((request) => request.op === "bid.accept")?.d, { lot: LOT, cid: "a1", step: 1 });
  bench.reply("bid.accept", { err: { code: "stale_step", detail: "", retry: "no", max_next: "600.00" } });
  assert.deepEqual([bench.feed.bids[0]?.outcome, bench.feed.bids[0]?.code, bench.feed.bids[0]?.maxNext], ["refused", "stale_step", "600.00"]);
  bench.take(bench.feed.place({ lot: LOT, cid: "w1", price: null, confirm: false }, bench.now));
  assert.deepEqual(bench.sent.at(-1)?.d, { lot: LOT, cid: "w1", price: null, seen_seq: 7 });
  bench.take(bench.feed.place({ lot: LOT, cid: "b1", price: "880.00", confirm: false, bound: true }, bench.now));
  assert.deepEqual(bench.sent.at(-1)?.d, { lot: LOT, cid: "b1", price: "880.00", seen_seq: 7, all_or_nothing: true });
});

test("the phase comes and goes with the steps", () => {
  const bench = new Bench().live();
  const phase = { kind: "step", step: 3, price: "550.00", ends_at: "2026-01-29T13:02:00.000Z" };
  bench.push({ p: "upd", lot: LOT, seq: 8, at: "2026-01-29T13:01:00.000Z", ev: [], set: { phase } });
  assert.deepEqual(bench.view.state?.phase, phase);
  bench.push({ p: "upd", lot: LOT, seq: 9, at: "2026-01-29T13:02:00.000Z", ev: [{ type: "closed" }], set: { stage: "closed", phase: null } });
  assert.equal(bench.view.state?.phase, null);
});
