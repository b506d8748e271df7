// Joins the feed's state machine to a real socket, the real clock and the page: inputs in, outputs done, signals out.

import { effect, type Signal, signal } from "@preact/signals";
import { Feed, type Link, type LotView, type PlacedBid } from "./feed.ts";
import { call, newKey, type Page, type StepRow } from "./rest.ts";
import { accessToken, me } from "./session.ts";

const feed = new Feed({ random: Math.random, client: "reversetender-page/1" });

/** The connection, as it is shown. */
export const link = signal<Link>(feed.link);
/** Whether figures are shown that the connection no longer keeps up to date. */
export const lost = signal(false);
/** Bids that were placed on this page, oldest first. */
export const placed = signal<PlacedBid[]>([]);
/** Ticks four times a second, for countdowns. */
export const tick = signal(0);

const views = new Map<string, Signal<LotView | undefined>>();
const watchers = new Map<string, number>();
let socket: WebSocket | undefined;
let timer: ReturnType<typeof setTimeout> | undefined;
/** Counts connections, so that a late event of an old one is not taken for the present one's. */
let generation = 0;

/** Milliseconds since 1970 by a clock that nobody sets while the page is open. */
export function localTime(): number {
  return performance.timeOrigin + performance.now();
}

/** The server's time, or the local one as long as the server said nothing. */
export function serverTime(): number {
  const now = localTime();
  return feed.serverTime(now) ?? Date.now();
}

type Outputs = ReturnType<Feed["timer"]>;

function take(outputs: Outputs): void {
  for (const output of outputs) {
    switch (output.do) {
      case "connect":
        void connect();
        break;
      case "send":
        socket?.send(output.text);
        break;
      case "close":
        generation += 1;
        socket?.close(output.code === 1000 ? 1000 : undefined);
        socket = undefined;
        break;
      case "timer":
        clearTimeout(timer);
        if (output.at !== null) timer = setTimeout(() => take(feed.timer(localTime())), output.at - localTime());
        break;
      case "renew":
        void renew();
        break;
      case "changed":
        if (output.lot === undefined) {
          link.value = { ...feed.link };
          lost.value = feed.link.phase !== "live" && [...feed.lots.values()].some((view) => view.state !== undefined);
          if (feed.link.phase === "ended" && feed.link.why !== "protocol") void appeal();
          placed.value = feed.bids.map((bid) => ({ ...bid }));
        } else {
          const view = feed.lots.get(output.lot);
          lotView(output.lot).value = view === undefined ? undefined : { ...view };
        }
        break;
    }
  }
}

async function connect(): Promise<void> {
  const mine = ++generation;
  const current = () => mine === generation;
  try {
    const token = await accessToken();
    if (!current()) return;
    take(feed.token(token, localTime()));
  } catch {
    if (current()) take(feed.closed(1006, localTime()));
    return;
  }
  const url = new URL("/v1/feed", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const opening = new WebSocket(url, "auction.v1.json");
  socket = opening;
  opening.onopen = () => current() && take(feed.opened(localTime()));
  opening.onmessage = (event) => current() && take(feed.frame(String(event.data), localTime()));
  opening.onclose = (event) => {
    if (!current()) return;
    socket = undefined;
    take(feed.closed(event.code, localTime()));
  };
}

async function renew(): Promise<void> {
  const mine = generation;
  const kept = await accessToken().catch(() => null);
  // The server says that this token is about to end, whatever the local clock thinks.
  const fresh = kept === null ? null : await accessToken(kept).catch(() => null);
  if (mine === generation && fresh !== null) take(feed.token(fresh, localTime()));
}

/** The server ended the session: asks over REST, which renews the tokens or signs out. */
async function appeal(): Promise<void> {
  const refused = await accessToken().catch(() => null);
  await call("GET", "/v1/me").catch(() => undefined);
  const now = await accessToken().catch(() => null);
  if (now !== null && now !== refused) take(feed.revive(localTime()));
}

/** What is known of a lot; changes as the feed does. */
export function lotView(lot: string): Signal<LotView | undefined> {
  let view = views.get(lot);
  if (view === undefined) views.set(lot, (view = signal(undefined)));
  return view;
}

/** Follows a lot until the returned function is called. */
export function watch(lot: string): () => void {
  watchers.set(lot, (watchers.get(lot) ?? 0) + 1);
  take(feed.watch(lot, localTime()));
  let on = true;
  return () => {
    if (!on) return;
    on = false;
    const left = (watchers.get(lot) ?? 1) - 1;
    watchers.set(lot, left);
    // A page that replaces another often wants the same lots: the change is left to settle.
    setTimeout(() => {
      if ((watchers.get(lot) ?? 0) === 0) take(feed.unwatch(lot, localTime()));
    }, 1_000);
  };
}

/** Loads the steps from before the page was opened. */
export async function loadHistory(lot: string): Promise<void> {
  const view = feed.lots.get(lot);
  if (view?.epoch === undefined) return;
  const { epoch, seq } = view;
  const rows: StepRow[] = [];
  let after = Math.max(0, seq - 400);
  for (let turns = 0; turns < 3 && after < seq; turns++) {
    const page = await call<Page<StepRow>>("GET", `/v1/lots/${lot}/events?after=${after}&limit=200`);
    rows.push(...page.items);
    const last = page.items.at(-1);
    if (last === undefined) break;
    after = last.seq;
  }
  const steps = rows.map(({ seq, at, ev, set }) =>
    set?.lead === undefined ? { seq, at, ev } : { seq, at, ev, lead: set.lead?.price ?? null },
  );
  take(feed.history(lot, epoch, steps, localTime()));
}

/** Places a bid (`price: null` withdraws; `bound`: all lots that are marked so, or none) and returns its key. */
export function placeBid(lot: string, price: string | null, confirm: boolean, bound = false): string {
  const cid = newKey();
  take(feed.place({ lot, cid, price, confirm, bound }, localTime()));
  return cid;
}

/** Accepts a step or level, and only that one, and returns the key. `price`: what was shown beside it. */
export function acceptStep(lot: string, step: number, price: string): string {
  const cid = newKey();
  take(feed.place({ lot, cid, price, step, confirm: false }, localTime()));
  return cid;
}

/** Starts what is joined to the window. */
export function begin(): void {
  setInterval(() => (tick.value += 1), 250);
  const wake = () => take(feed.wake(localTime()));
  addEventListener("online", wake);
  document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && wake());
  // What one person saw is not shown to the next, and the connection is theirs no longer.
  let reader: string | undefined;
  effect(() => {
    const now = me.value?.user.id;
    if (now === reader) return;
    reader = now;
    watchers.clear();
    take(feed.stop(localTime()));
    for (const view of views.values()) view.value = undefined;
  });
}
