// One lot, live: for its bidders where they stand and the bid box, for its buyer the board and the decision.

import { useEffect, useRef, useState } from "preact/hooks";
import { percent, subtract } from "../decimal.ts";
import type { LotEvent, LotState, LotView, You } from "../feed.ts";
import { clock, day, minutes, money } from "../format.ts";
import { link, loadHistory, lotView, placed, serverTime, tick, watch } from "../live.ts";
import { type Bidder, call, type Tender } from "../rest.ts";
import { me } from "../session.ts";
import { refusal, t } from "../texts.ts";
import { BidBox, MyBids } from "./bid.tsx";
import { Chart } from "./chart.tsx";
import { Decision, whoIs } from "./decide.tsx";
import { Entry } from "./entry.tsx";
import { EndsAt, Stage, Stale, TimeLeft, Trouble, useTitle } from "./parts.tsx";
import { loadBidders } from "./tender.tsx";

const ENDED = new Set(["closed", "awarded", "unsuccessful", "cancelled"]);

/** The newest movement of the end, while it is news. */
function lastExtension(view: LotView): { event: LotEvent; seq: number } | undefined {
  for (const step of view.steps.slice(-8).reverse()) {
    const event = step.ev.find((candidate) => candidate.type === "extended");
    if (event !== undefined) return serverTime() - Date.parse(step.at) < 20_000 ? { event, seq: step.seq } : undefined;
  }
  return undefined;
}

function extensionWords(event: LotEvent): string {
  const time = event.closes_at == null ? "–" : clock(event.closes_at);
  return event.reason === "buyer" ? t.lot.extendedByBuyer(time) : event.reason === "outage" ? t.lot.extendedByOutage(time) : t.lot.overtimeSaid(time);
}

/** Says to a screen reader what the eye sees change: rank, lead, overtime, the last minute. */
function Announcer(props: { view: LotView; state: LotState }) {
  const { view, state } = props;
  tick.value;
  const { rank, tied, lead } = view.you ?? {};
  const extension = lastExtension(view);
  const left = state.stage === "open" && state.closes_at !== null ? Date.parse(state.closes_at) - serverTime() : Number.POSITIVE_INFINITY;
  const mark = left <= 10_000 ? 10 : left <= 60_000 ? 60 : 0;
  return (
    <div class="unseen">
      <p aria-live="assertive">{extension === undefined ? "" : extensionWords(extension.event)}</p>
      <p aria-live="polite">
        {rank == null ? "" : t.lot.rankSaid(rank, tied === true)} {lead === true ? t.lot.leading : ""}
      </p>
      <p aria-live="polite">{mark === 0 ? "" : t.lot.soon(mark)}</p>
    </div>
  );
}

function Clock(props: { view: LotView; state: LotState }) {
  const { view, state } = props;
  tick.value;
  const extension = lastExtension(view);
  const overtime = state.extensions > 0 && (state.stage === "open" || state.stage === "paused");
  return (
    <div class={`tile time ${overtime ? "overtime" : ""}`} data-part="time">
      <span class="tile-label">{state.stage === "pending" ? t.lot.opensIn : ENDED.has(state.stage) ? t.lot.state : t.lot.timeLeft}</span>
      <span class="tile-figure figure" role="timer">
        {ENDED.has(state.stage) ? t.stage[state.stage] : <TimeLeft lot={state} />}
      </span>
      <span class="tile-note">
        {state.stage === "paused" ? t.lot.paused : state.stage === "pending" && state.opens_at === null ? t.lot.notScheduled : state.stage === "open" ? <EndsAt at={state.closes_at} /> : state.closes_at === null ? "" : clock(state.closes_at)}
        {state.extensions > 0 && <span class="badge hot">{t.lot.overtime(state.extensions)}</span>}
      </span>
      {extension !== undefined && !ENDED.has(state.stage) && (
        <span class="tile-news" data-part="overtime" key={extension.seq}>
          {extensionWords(extension.event)}
        </span>
      )}
    </div>
  );
}

function OwnTiles(props: { you: You; state: LotState; tender: Tender | undefined }) {
  const { you, state, tender } = props;
  const price = (value: string) => money(value, state.currency, state.price_scale);
  const look = you.lead === true ? "leads" : you.rank == null ? "" : "trails";
  return (
    <>
      <div class={`tile rank-tile ${look}`} data-part="rank" data-lead={String(you.lead ?? "")}>
        <span class="tile-label">{t.lot.rank}</span>
        <span class="tile-figure figure" data-rank={you.rank ?? ""}>
          {you.rank ?? "–"}
          {you.tied === true && <span class="badge">{t.lot.tied}</span>}
        </span>
        <span class="tile-note">
          {you.rank === undefined ? t.lot.rankHidden : you.rank === null ? t.lot.rankNone : you.lead === true ? t.lot.leading : t.lot.notLeading}
        </span>
      </div>
      <div class="tile" data-part="lead">
        <span class="tile-label">{t.lot.lead}</span>
        <span class="tile-figure figure">{state.lead == null ? "–" : price(state.lead.price)}</span>
        <span class="tile-note">
          {state.lead === null ? t.lot.leadNone : state.lead === undefined ? (tender?.lots[state.number - 1]?.rules.visibility.lead === "after_own_bid" ? t.lot.leadAfterOwn : t.lot.leadHidden) : ""}
        </span>
      </div>
      <div class="tile" data-part="own">
        <span class="tile-label">{t.lot.own}</span>
        <span class="tile-figure figure">{you.standing == null ? t.lot.ownNone : price(you.standing)}</span>
        <span class="tile-note">{you.best_at == null ? t.lot.rankNone : clock(you.best_at)}</span>
      </div>
    </>
  );
}

function WatchTiles(props: { state: LotState; owner: boolean }) {
  const { state, owner } = props;
  const price = (value: string) => money(value, state.currency, state.price_scale);
  const saved = state.lead != null && state.ceiling != null ? percent(subtract(state.ceiling, state.lead.price), state.ceiling) : undefined;
  return (
    <>
      <div class="tile" data-part="lead">
        <span class="tile-label">{t.lot.lead}</span>
        <span class="tile-figure figure">{state.lead == null ? "–" : price(state.lead.price)}</span>
        <span class="tile-note">{state.lead == null ? t.lot.leadNone : saved === undefined ? "" : t.lot.saving(saved)}</span>
      </div>
      <div class="tile">
        <span class="tile-label">{t.lot.ceiling}</span>
        <span class="tile-figure figure">{state.ceiling == null ? "–" : price(state.ceiling)}</span>
        <span class="tile-note">{owner && state.reserve_met != null ? (state.reserve_met ? t.lot.reserveMet : t.lot.reserveNotMet) : ""}</span>
      </div>
      <div class="tile" data-part="count">
        <span class="tile-label">{t.tender.colBidders}</span>
        <span class="tile-figure figure">{state.bidder_count ?? "–"}</span>
        <span class="tile-note" />
      </div>
    </>
  );
}

function Board(props: { state: LotState; who: (number: number) => string }) {
  const { state, who } = props;
  if (state.board === undefined || ENDED.has(state.stage)) return null;
  return (
    <section class="card" data-part="board">
      <h2>{t.lot.board}</h2>
      {state.board.length === 0 ? (
        <p class="soft">{t.lot.boardNone}</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">{t.lot.boardRank}</th>
              <th scope="col">{t.lot.boardBidder}</th>
              <th scope="col" class="figure">
                {t.lot.boardPrice}
              </th>
            </tr>
          </thead>
          <tbody>
            {state.board.map((row) => (
              <tr key={row.bidder}>
                <td>{row.rank}</td>
                <td>{who(row.bidder)}</td>
                <td class="figure">{money(row.price, state.currency, state.price_scale)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function words(event: LotEvent, state: LotState, who: (number?: number) => string): string {
  const price = event.price === undefined ? "" : money(event.price, state.currency, state.price_scale);
  const reason = event.reason === undefined || event.type === "extended" ? "" : `: ${event.reason}`;
  switch (event.type) {
    case "opened":
      return t.event.opened;
    case "bid":
      return t.event.bid(who(event.bidder), price) + (event.lead === true ? `, ${t.event.takesLead}` : "");
    case "voided":
      return t.event.voided(who(event.bidder)) + reason;
    case "extended":
      return (t.event.extended[event.reason ?? ""] ?? t.event.extended["staggered"])?.(event.closes_at == null ? "–" : clock(event.closes_at)) ?? "";
    case "paused":
      return t.event.paused + reason;
    case "resumed":
      return t.event.resumed + reason;
    case "closed":
      return t.event.closed;
    case "awarded":
      return t.event.awarded(event.bidder === undefined ? "" : who(event.bidder), price);
    case "rejected":
      return t.event.rejected(who(event.bidder));
    case "disqualified":
      return t.event.disqualified(who(event.bidder));
    case "unsuccessful":
      return t.event.unsuccessful;
    case "cancelled":
      return t.event.cancelled + reason;
    case "message":
      return `${t.event.message}: ${event.text ?? ""}`;
    default:
      return event.type;
  }
}

function Events(props: { view: LotView; state: LotState; who: (number?: number) => string }) {
  const own = new Set(placed.value.filter((bid) => bid.lot === props.state.lot && bid.outcome === "accepted").map((bid) => bid.seq));
  const lines = props.view.steps.flatMap((step) => step.ev.map((event, at) => ({ step, event, at }))).reverse();
  return (
    <section class="card" data-part="events">
      <h2>{t.lot.events}</h2>
      {lines.length === 0 && <p class="soft">{t.lot.eventsNone}</p>}
      <ol class="plain lines events" tabIndex={lines.length > 8 ? 0 : -1} aria-label={t.lot.events}>
        {lines.slice(0, 100).map(({ step, event, at }) => (
          <li key={`${step.seq}-${at}`} class={event.type}>
            <span class="soft time">{clock(step.at)}</span>{" "}
            {words(event, props.state, event.type === "bid" && own.has(step.seq) ? () => t.youBid : props.who)}
          </li>
        ))}
      </ol>
    </section>
  );
}

function About(props: { tender: Tender; number: number }) {
  const lot = props.tender.lots[props.number - 1];
  if (lot === undefined) return null;
  const { rules } = lot;
  const step = rules.decrement?.kind === "amount" && rules.decrement.value !== undefined ? money(rules.decrement.value, props.tender.currency, 0) : undefined;
  return (
    <details class="card about">
      <summary>
        {t.lot.items} · {t.lot.rules}
      </summary>
      <ul>
        {lot.items.map((item, at) => (
          <li key={at}>
            {item.description}: {item.quantity} {item.unit}
          </li>
        ))}
      </ul>
      <ul>
        <li>
          {String(t.rule[rules.improvement] ?? rules.improvement)}
          {step !== undefined && `, ${t.rule.step(step)}`}
        </li>
        <li>
          {rules.overtime == null
            ? t.rule.noOvertime
            : t.rule.overtime(t.minutes(minutes(rules.overtime.window_s)), t.minutes(minutes(rules.overtime.length_s)))}
        </li>
      </ul>
    </details>
  );
}

/** The page of a lot. */
export function LotPage(props: { id: string }) {
  const { id } = props;
  const view = lotView(id).value;
  const state = view?.state;
  const [tender, setTender] = useState<Tender>();
  const [problem, setProblem] = useState<unknown>();
  const [bidders, setBidders] = useState<Bidder[]>([]);
  useEffect(() => watch(id), [id]);
  // The steps of before: once for each history, and again when a jump has cut the list.
  const loaded = useRef("");
  const cut = view !== undefined && view.sync === "live" && view.steps.length === 0 && view.seq > 0;
  useEffect(() => {
    const mark = `${id} ${view?.epoch} ${view?.seq}`;
    if (!cut || loaded.current === mark) return;
    loaded.current = mark;
    void loadHistory(id).catch(() => undefined);
  }, [cut, id, view?.epoch, view?.seq]);
  const owner = tender !== undefined && tender.buyer === me.value?.organisation.id;
  useEffect(() => {
    if (state?.tender === undefined) return;
    call<Tender>("GET", `/v1/tenders/${state.tender}`).then(setTender, setProblem);
  }, [state?.tender, state?.stage === "pending"]);
  useEffect(() => {
    if (owner && tender !== undefined) void loadBidders(tender.id).then(setBidders, () => undefined);
  }, [owner, tender?.id, state?.stage === "pending", state?.bidder_count]);
  useTitle(state?.title);
  if (view?.sync === "failed" && me.value === null) return <Entry signUp={false} />;
  if (view?.sync === "failed") return <p class="notice bad">{refusal(view.code) || t.notFound}</p>;
  if (view === undefined || state === undefined) {
    return (
      <>
        <p class="soft">{link.value.phase === "ended" ? t.notFound : t.loading}</p>
        <Stale />
      </>
    );
  }
  const own = view.you?.number;
  const who = (number?: number) => whoIs(number, bidders, own);
  const ended = ENDED.has(state.stage);
  return (
    <div class="lot" data-stage={state.stage} data-seq={view.seq}>
      <p>
        <a href={`/tenders/${state.tender}`}>{tender?.title ?? t.lot.seeTender}</a>
      </p>
      <header class="row between top">
        <h1>
          <span class="soft">{state.number}</span> {state.title}
        </h1>
        <Stage stage={state.stage} />
      </header>
      <Stale />
      <Trouble problem={problem} />
      {state.stage === "paused" && <p class="notice warn">{t.lot.paused}</p>}
      <Announcer view={view} state={state} />
      <div class="tiles">
        <Clock view={view} state={state} />
        {view.you !== undefined ? <OwnTiles you={view.you} state={state} tender={tender} /> : <WatchTiles state={state} owner={owner} />}
      </div>
      <div class="columns">
        <div>
          {ended && <Decision view={view} state={state} owner={owner} bidders={bidders} />}
          {view.you !== undefined && !ended && <BidBox view={view} state={state} />}
          {view.you === undefined && !owner && !ended && (
            <p class="notice">
              {t.lot.notBidder} <a href={`/tenders/${state.tender}`}>{t.lot.seeTender}</a>
            </p>
          )}
          <Board state={state} who={who} />
          {view.you !== undefined && <MyBids view={view} state={state} />}
          {tender !== undefined && <About tender={tender} number={state.number} />}
        </div>
        <div>
          <section class="card">
            <h2>{t.lot.chart}</h2>
            <Chart view={view} />
            {view.you !== undefined && state.bidder_count !== undefined && <p class="soft">{t.lot.bidding(state.bidder_count)}</p>}
          </section>
          <Events view={view} state={state} who={who} />
        </div>
      </div>
      {state.stage === "pending" && state.opens_at !== null && <p class="soft">{t.tender.opensAt(day(state.opens_at))}</p>}
    </div>
  );
}
