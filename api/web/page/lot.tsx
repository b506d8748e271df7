// One lot, live: for its bidders where they stand and what they can do, for its buyer the board and the decision.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { compare, percent, subtract } from "../decimal.ts";
import type { LotEvent, LotState, LotView, Phase, You } from "../feed.ts";
import { clock, day, money } from "../format.ts";
import { link, loadHistory, lotView, placed, serverTime, tick, watch } from "../live.ts";
import { type Bidder, call, type Rules, type Tender } from "../rest.ts";
import { me } from "../session.ts";
import { refusal, t } from "../texts.ts";
import { ActBox, Turns } from "./act.tsx";
import { MyBids } from "./bid.tsx";
import { Chart } from "./chart.tsx";
import { Decision, whoIs } from "./decide.tsx";
import { Entry } from "./entry.tsx";
import { EndsAt, PhaseLeft, Stage, Stale, TimeLeft, Trouble, useTitle } from "./parts.tsx";
import { inWords } from "./rules.ts";
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
      <p aria-live="assertive">{state.phase?.kind === "turn" && state.phase.bidder === view.you?.number ? t.act.yourTurn : ""}</p>
      <p aria-live="polite">
        {rank == null ? "" : t.lot.rankSaid(rank, tied === true)} {lead === true ? t.lot.leading : ""}
      </p>
      <p aria-live="polite">{mark === 0 ? "" : t.lot.soon(mark)}</p>
    </div>
  );
}

/** What runs, in words: `Round 1, turn 2`. */
function phaseWords(phase: Phase): string {
  if (phase.kind === "turn") return t.act.roundTurn(phase.round ?? 0, phase.turn ?? 0);
  if (phase.kind === "step") return t.act.step(phase.step ?? 0);
  if (phase.kind === "level") return t.act.level(phase.step ?? 0);
  return t.act.kinds[phase.kind] ?? phase.kind;
}

function Clock(props: { view: LotView; state: LotState }) {
  const { view, state } = props;
  tick.value;
  const extension = lastExtension(view);
  const overtime = state.extensions > 0 && (state.stage === "open" || state.stage === "paused");
  const phase = state.stage === "open" && state.phase != null ? state.phase : undefined;
  return (
    <div class={`tile time ${overtime ? "overtime" : ""}`} data-part="time" data-phase={phase?.kind ?? ""}>
      <span class="tile-label">
        {state.stage === "pending" ? t.lot.opensIn : ENDED.has(state.stage) ? t.lot.state : phase === undefined ? t.lot.timeLeft : phaseWords(phase)}
      </span>
      <span class="tile-figure figure" role="timer">
        {ENDED.has(state.stage) ? t.stage[state.stage] : phase === undefined ? <TimeLeft lot={state} /> : <PhaseLeft phase={phase} />}
      </span>
      <span class="tile-note">
        {state.stage === "paused" ? t.lot.paused : state.stage === "pending" && state.opens_at === null ? t.lot.notScheduled : state.stage === "open" ? phase !== undefined && state.closes_at !== null ? t.act.latest(clock(state.closes_at)) : <EndsAt at={state.closes_at} /> : state.closes_at === null ? "" : clock(state.closes_at)}
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

function Tile(props: { part: string; label: string; look?: string; note?: string | undefined; data?: Record<string, string>; children: ComponentChildren }) {
  return (
    <div class={`tile ${props.look ?? ""}`} data-part={props.part} {...props.data}>
      <span class="tile-label">{props.label}</span>
      <span class="tile-figure figure">{props.children}</span>
      <span class="tile-note">{props.note}</span>
    </div>
  );
}

/** The price and, where an adjustment makes it another one, the price that ranks. */
function priceNote(lead: NonNullable<LotState["lead"]>, state: LotState): string {
  return lead.effective === undefined || compare(lead.effective, lead.price) === 0 ? "" : t.lot.ranksAs(money(lead.effective, state.currency, state.price_scale));
}

/** The best price, as far as this reader may see it. */
function LeadTile(props: { state: LotState; rules: Rules | undefined; owner: boolean }) {
  const { state, rules, owner } = props;
  const { lead } = state;
  const sealed = state.format === "sealed" && !ENDED.has(state.stage);
  const saved = lead != null && state.ceiling != null && owner ? percent(subtract(state.ceiling, lead.price), state.ceiling) : undefined;
  const reserve = state.reserve_met == null || sealed || lead == null ? "" : owner ? (state.reserve_met ? t.lot.reserveMet : t.lot.reserveNotMet) : state.reserve_met ? t.lot.targetMet : t.lot.targetNotMet;
  const note = sealed
    ? t.act.sealedUntil
    : lead === null
      ? t.lot.leadNone
      : lead === undefined
        ? rules?.visibility.lead === "after_own_bid" ? t.lot.leadAfterOwn : t.lot.leadHidden
        : [priceNote(lead, state), saved === undefined ? "" : t.lot.saving(saved), reserve].filter(Boolean).join(" · ");
  return (
    <Tile part="lead" label={t.lot.lead} note={note}>
      {lead == null ? "–" : money(lead.price, state.currency, state.price_scale)}
    </Tile>
  );
}

function RankTile(props: { you: You; state: LotState }) {
  const { you, state } = props;
  const light = you.light ?? undefined;
  const look = light !== undefined ? `light-${light}` : you.lead === true ? "leads" : you.rank == null ? "" : "trails";
  const data = { "data-lead": String(you.lead ?? ""), "data-light": light ?? "" };
  if (state.format === "sealed" && !ENDED.has(state.stage)) {
    return (
      <Tile part="rank" label={t.lot.rank} note={t.act.sealedUntil} data={data}>
        –
      </Tile>
    );
  }
  if (you.rank === undefined && you.light !== undefined) {
    return (
      <Tile part="rank" label={t.lightTile} look={look} note={t.lot.rankHidden} data={data}>
        {light === undefined ? "–" : t.light[light]}
      </Tile>
    );
  }
  const words = you.rank === undefined ? t.lot.rankHidden : you.rank === null ? t.lot.rankNone : light !== undefined ? t.light[light] : you.lead === true ? t.lot.leading : t.lot.notLeading;
  return (
    <Tile part="rank" label={t.lot.rank} look={look} note={words} data={data}>
      <span data-rank={you.rank ?? ""}>{you.rank ?? "–"}</span>
      {you.tied === true && <span class="badge">{t.lot.tied}</span>}
    </Tile>
  );
}

function NowTile(props: { state: LotState; phase: Phase | null | undefined }) {
  const { state, phase } = props;
  return (
    <Tile part="now" label={t.act.priceNow} note={phase?.step === undefined ? "" : phaseWords(phase)}>
      {phase?.price === undefined ? "–" : money(phase.price, state.currency, state.price_scale)}
    </Tile>
  );
}

function CeilingTile(props: { state: LotState; note?: string }) {
  const { state, note } = props;
  return (
    <Tile part="ceiling" label={t.lot.ceiling} note={note}>
      {state.ceiling == null ? "–" : money(state.ceiling, state.currency, state.price_scale)}
    </Tile>
  );
}

function OwnTiles(props: { you: You; state: LotState; rules: Rules | undefined }) {
  const { you, state, rules } = props;
  const price = (value: string) => money(value, state.currency, state.price_scale);
  const hidden = !ENDED.has(state.stage) && (state.format === "sealed" || state.stage === "pending");
  const standing = (label: string) => (
    <Tile part="own" label={label} note={you.best_at == null ? t.lot.rankNone : [you.effective == null ? "" : t.lot.ranksAs(price(you.effective)), hidden ? t.act.limitOnly : clock(you.best_at)].filter(Boolean).join(" · ")}>
      {you.standing == null ? t.lot.ownNone : price(you.standing)}
    </Tile>
  );
  if (state.format === "dutch" && !ENDED.has(state.stage)) {
    return (
      <>
        <NowTile state={state} phase={state.phase} />
        <CeilingTile state={state} />
        <Tile part="limit" label={t.act.limitTile} note={you.auto_limit == null ? t.act.limitNone : t.act.limitOnly}>
          {you.auto_limit == null ? "–" : price(you.auto_limit)}
        </Tile>
      </>
    );
  }
  if (state.format === "japanese" && !ENDED.has(state.stage)) {
    return (
      <>
        <NowTile state={state} phase={state.phase} />
        <Tile part="in" label={t.act.yourPlace} look={you.in === true ? "leads" : you.in === false ? "trails" : ""} data={{ "data-in": String(you.in ?? "") }}>
          {you.in === undefined ? "–" : you.in ? t.act.inside : t.act.outside}
        </Tile>
        {standing(t.act.lastAccepted)}
      </>
    );
  }
  return (
    <>
      <RankTile you={you} state={state} />
      <LeadTile state={state} rules={rules} owner={false} />
      {standing(t.lot.own)}
    </>
  );
}

function WatchTiles(props: { state: LotState; owner: boolean; rules: Rules | undefined }) {
  const { state, owner, rules } = props;
  const price = (value: string | undefined) => (value === undefined ? "–" : money(value, state.currency, state.price_scale));
  const ended = ENDED.has(state.stage);
  const sealed = state.format === "sealed" && !ended;
  const count = (
    <Tile part="count" label={t.tender.colBidders} note={sealed ? t.act.sealedUntil : ""}>
      {sealed ? "–" : (state.bidder_count ?? "–")}
    </Tile>
  );
  if (state.format === "dutch" && !ended) {
    return (
      <>
        <NowTile state={state} phase={state.phase} />
        <CeilingTile state={state} />
        <Tile part="start" label={t.act.start}>
          {price(rules?.dutch?.start)}
        </Tile>
      </>
    );
  }
  if (state.format === "japanese" && !ended) {
    return (
      <>
        <NowTile state={state} phase={state.phase} />
        <Tile part="floor" label={t.act.floor}>
          {price(rules?.japanese?.floor)}
        </Tile>
        {count}
      </>
    );
  }
  return (
    <>
      <LeadTile state={state} rules={rules} owner={owner} />
      {rules?.japanese == null ? (
        <CeilingTile state={state} />
      ) : (
        <Tile part="start" label={t.act.firstLevel}>
          {price(rules.japanese.start)}
        </Tile>
      )}
      {count}
    </>
  );
}

function Board(props: { state: LotState; who: (number: number) => string }) {
  const { state, who } = props;
  if (state.board === undefined || ENDED.has(state.stage)) return null;
  // Whoever accepts a dutch step ends the lot: nothing ever stands in a running one.
  if (state.format === "dutch") return null;
  const sealed = state.format === "sealed";
  // A scored price is shown beside the price where one differs.
  const scored = state.board.some((row) => row.effective !== undefined && compare(row.effective, row.price) !== 0);
  const price = (value: string) => money(value, state.currency, state.price_scale);
  return (
    <section class="card" data-part="board">
      <h2>{t.lot.board}</h2>
      {state.board.length === 0 ? (
        <p class="soft">{sealed ? t.lot.boardSealed : t.lot.boardNone}</p>
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
                <td class="figure">
                  {price(row.price)}
                  {scored && row.effective !== undefined && <span class="soft block effective">{t.lot.ranksAs(price(row.effective))}</span>}
                </td>
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
      return [t.event.bid(who(event.bidder), price), event.auto === true ? t.event.auto : "", event.lead === true ? t.event.takesLead : ""].filter(Boolean).join(", ");
    case "withdrawn":
      return t.event.withdrawn(who(event.bidder));
    case "turn":
      return t.event.turn(who(event.bidder), event.round ?? 0);
    case "step":
      return t.event.step(price);
    case "level":
      return t.event.level(event.step ?? 0, price);
    case "out":
      return t.event.out(who(event.bidder));
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
            {words(event, props.state, event.type === "bid" && event.bidder === undefined && step.ev.length === 1 && own.has(step.seq) ? () => t.youBid : props.who)}
          </li>
        ))}
      </ol>
    </section>
  );
}

function About(props: { tender: Tender; number: number }) {
  const lot = props.tender.lots[props.number - 1];
  if (lot === undefined) return null;
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
        {inWords(lot.rules, (value) => money(value, props.tender.currency, lot.rules.price_scale ?? 0)).map((line) => (
          <li key={line}>{line}</li>
        ))}
        {(props.tender.bidder?.adjustments ?? [])
          .filter((adjusted) => adjusted.lot === props.number)
          .map((adjusted) => (
            <li key={adjusted.lot}>{t.rule.adjusted(adjusted.factor, adjusted.addend)}</li>
          ))}
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
  const rules = tender?.lots[state.number - 1]?.rules;
  const chartless = state.format === "sealed" && !ENDED.has(state.stage);
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
        <span class="row">
          <span class="format" data-format={state.format}>
            {t.format[state.format] ?? state.format}
          </span>
          <Stage stage={state.stage} />
        </span>
      </header>
      <Stale />
      <Trouble problem={problem} />
      {state.stage === "paused" && <p class="notice warn">{t.lot.paused}</p>}
      <Announcer view={view} state={state} />
      <div class="tiles">
        <Clock view={view} state={state} />
        {view.you !== undefined ? <OwnTiles you={view.you} state={state} rules={rules} /> : <WatchTiles state={state} owner={owner} rules={rules} />}
      </div>
      <div class="columns">
        <div>
          {ended && <Decision view={view} state={state} owner={owner} bidders={bidders} rules={rules} />}
          {view.you !== undefined && !ended && <ActBox view={view} state={state} rules={rules} />}
          {view.you === undefined && !owner && !ended && (
            <p class="notice">
              {t.lot.notBidder} <a href={`/tenders/${state.tender}`}>{t.lot.seeTender}</a>
            </p>
          )}
          <Turns view={view} state={state} who={who} />
          <Board state={state} who={who} />
          {view.you !== undefined && <MyBids view={view} state={state} />}
          {tender !== undefined && <About tender={tender} number={state.number} />}
        </div>
        <div>
          <section class="card">
            <h2>{state.format === "dutch" || state.format === "japanese" ? t.lot.chartPrice : t.lot.chart}</h2>
            {chartless ? <p class="soft">{t.lot.boardSealed}</p> : <Chart view={view} />}
            {view.you !== undefined && state.bidder_count !== undefined && !chartless && state.format !== "dutch" && state.stage !== "pending" && <p class="soft">{t.lot.bidding(state.bidder_count)}</p>}
          </section>
          <Events view={view} state={state} who={who} />
        </div>
      </div>
      {state.stage === "pending" && state.opens_at !== null && <p class="soft">{t.tender.opensAt(day(state.opens_at))}</p>}
    </div>
  );
}
