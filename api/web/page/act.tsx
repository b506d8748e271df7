// What a bidder can do in a lot now, by its format and phase: bid, accept, stay in, wait for its turn, leave a secret
// limit. It offers only what the feed says is possible; whether it is taken, the server decides.

import { useEffect, useState } from "preact/hooks";
import { compare, read, show } from "../decimal.ts";
import type { LotState, LotView, Phase } from "../feed.ts";
import { money } from "../format.ts";
import { acceptStep, placeBid, placed } from "../live.ts";
import { call, Problem, type Rules } from "../rest.ts";
import { refusal, t } from "../texts.ts";
import { BidBox, Outcome } from "./bid.tsx";
import { PhaseLeft } from "./parts.tsx";

interface Box {
  view: LotView;
  state: LotState;
}

/** How long a button that names a level rests after the level changed: nobody accepts what they had no time to read. */
const REST_MS = 400;

/** True for a moment after `step` changed. */
function useRest(step: number | undefined): boolean {
  const [rested, setRested] = useState(step);
  useEffect(() => {
    const later = setTimeout(() => setRested(step), REST_MS);
    return () => clearTimeout(later);
  }, [step]);
  return rested !== step;
}

/** The newest accept that was made here, and whether its answer is still awaited. */
function useAccept(lot: string) {
  const [cid, setCid] = useState<string>();
  const mine = placed.value.find((bid) => bid.cid === cid);
  const pending = mine !== undefined && (mine.outcome === "waiting" || mine.outcome === "sent" || mine.outcome === "unknown");
  return { mine, pending, accept: (step: number, price: string) => setCid(acceptStep(lot, step, price)) };
}

function Said(props: { bid: ReturnType<typeof useAccept>["mine"]; state: LotState }) {
  return (
    <div aria-live="assertive" class="bid-said">
      {props.bid !== undefined && <Outcome bid={props.bid} state={props.state} />}
    </div>
  );
}

/** The rising price, and the button that takes it. The step is the one that is shown, never a later one. */
function DutchBox(props: Box & { phase: Phase }) {
  const { view, state, phase } = props;
  const { mine, pending, accept } = useAccept(state.lot);
  const { step, price } = phase;
  const rests = useRest(step);
  if (step === undefined || price === undefined) return null;
  const shown = money(price, state.currency, state.price_scale);
  return (
    <section class="card bid-box accept-box" data-part="dutch-box" data-step={step}>
      <h2>{t.act.priceNow}</h2>
      <p class="huge figure" data-price={price}>
        {shown}
      </p>
      <p class="soft">
        {t.act.risesIn} <PhaseLeft phase={phase} />
      </p>
      <button
        key={step}
        type="button"
        class="primary wide big"
        data-action="accept"
        data-step={step}
        disabled={pending || rests || view.you?.max_next == null}
        onClick={() => accept(step, price)}
      >
        {t.act.accept(shown)}
      </button>
      <p class="said">{t.act.acceptHint}</p>
      <Said bid={mine} state={state} />
    </section>
  );
}

/** The falling level, and the choice to stay or to let it pass. */
function JapaneseBox(props: Box & { phase: Phase }) {
  const { view, state, phase } = props;
  const { mine, pending, accept } = useAccept(state.lot);
  const { step, price } = phase;
  const rests = useRest(step);
  const [passed, setPassed] = useState<number>();
  if (step === undefined || price === undefined) return null;
  const shown = money(price, state.currency, state.price_scale);
  const inside = view.you?.in === true;
  const stays = inside && view.you?.standing != null && compare(view.you.standing, price) <= 0;
  const passing = passed === step && !stays;
  return (
    <section class={`card bid-box accept-box ${stays ? "stays" : ""}`} data-part="japanese-box" data-step={step} data-in={String(inside)} data-stays={String(stays)}>
      <h2>{t.act.level(step)}</h2>
      <p class="huge figure" data-price={price}>
        {shown}
      </p>
      {!inside ? (
        <p class="notice" data-part="out">
          {t.act.out}
        </p>
      ) : (
        <>
          <p class="soft">
            {t.act.levelEnds} <PhaseLeft phase={phase} />
          </p>
          {stays ? (
            <p class="verdict good" role="status">
              {t.act.stays}
            </p>
          ) : passing ? (
            <>
              <p class="notice warn" role="status">
                {t.act.passing}
              </p>
              <button type="button" class="quiet wide" onClick={() => setPassed(undefined)}>
                {t.act.notPassing}
              </button>
            </>
          ) : (
            <div class="choice" key={step}>
              <button
                type="button"
                class="primary big"
                data-action="accept"
                data-step={step}
                disabled={pending || rests || view.you?.max_next == null}
                onClick={() => accept(step, price)}
              >
                {t.act.stay(shown)}
              </button>
              <button type="button" class="big" data-action="let-pass" disabled={pending || rests} onClick={() => setPassed(step)}>
                {t.act.pass}
              </button>
            </div>
          )}
          <p class="said">{t.act.stayHint}</p>
          <Said bid={mine?.step === step ? mine : undefined} state={state} />
        </>
      )}
    </section>
  );
}

/** Takes back what was given in the running turn. */
function Withdraw(props: { state: LotState }) {
  const { state } = props;
  const [cid, setCid] = useState<string>();
  const mine = placed.value.find((bid) => bid.cid === cid);
  return (
    <div class="card withdraw">
      <div class="row between">
        <span class="soft">{t.act.withdrawHint}</span>
        <button type="button" data-action="withdraw" onClick={() => setCid(placeBid(state.lot, null, false))}>
          {t.act.withdraw}
        </button>
      </div>
      {mine !== undefined && <Outcome bid={mine} state={state} />}
    </div>
  );
}

function RoundsBox(props: Box & { phase: Phase; binds: boolean | undefined }) {
  const { view, state, phase } = props;
  const { you } = view;
  const waits = (words: string) => (
    <section class="card waits" data-part="waits" data-kind={phase.kind}>
      <h2>{words}</h2>
      <p class="huge figure">
        <PhaseLeft phase={phase} />
      </p>
      {phase.kind !== "announce" && (
        <p class="soft">
          {you?.max_next != null ? t.act.inYourTurn(money(you.max_next, state.currency, state.price_scale)) : you?.max_next_unlimited === true ? "" : t.act.noTurnLeft}
        </p>
      )}
      {phase.kind === "lead_in" && <p class="soft">{t.act.order}</p>}
    </section>
  );
  switch (phase.kind) {
    case "lead_in":
      return waits(t.act.leadIn);
    case "pause":
      return waits(t.act.pause(phase.round ?? 0));
    case "announce":
      return waits(t.act.announce);
    default:
      if (phase.bidder === undefined || phase.bidder !== you?.number) return waits(t.act.turnOf(t.bidder(phase.bidder ?? 0)));
      return (
        <div data-part="own-turn" data-turn={`${phase.round}.${phase.turn}`}>
          <BidBox view={view} state={state} binds={props.binds} title={t.act.yourTurn} note={t.act.turnNote} phase={phase} />
          <Withdraw state={state} />
        </div>
      );
  }
}

/** A secret limit: shown to its bidder alone. */
function LimitBox(props: Box) {
  const { view, state } = props;
  const limit = view.you?.auto_limit ?? undefined;
  const dutch = state.format === "dutch";
  const [typed, setTyped] = useState("");
  const [wrong, setWrong] = useState<string>();
  const [busy, setBusy] = useState(false);
  const path = `/v1/lots/${state.lot}/auto-bid`;
  const send = async (value: string | null) => {
    setBusy(true);
    setWrong(undefined);
    try {
      if (value === null) await call("DELETE", path);
      else await call("PUT", path, { body: { limit: value } });
      setTyped("");
    } catch (problem) {
      setWrong(problem instanceof Problem ? refusal(problem.code, problem.message) : String(problem));
    }
    setBusy(false);
  };
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const value = read(typed);
    if (value === undefined) setWrong(t.bid.form);
    else void send(value);
  };
  return (
    <form class="card limit-box" onSubmit={submit} data-part="limit-box" data-limit={limit ?? ""} noValidate>
      <h2>{t.limit.title}</h2>
      <p class="soft">{dutch ? t.limit.dutch : t.limit.english}</p>
      {limit !== undefined && (
        <p class="row between">
          <span>
            {t.limit.now} <strong class="figure">{money(limit, state.currency, state.price_scale)}</strong>
          </span>
          <button type="button" class="quiet" disabled={busy} data-action="clear-limit" onClick={() => void send(null)}>
            {t.limit.clear}
          </button>
        </p>
      )}
      <div class="row inline">
        <span class="with-unit">
          <input
            name="limit"
            class="figure"
            inputMode="decimal"
            autocomplete="off"
            aria-label={t.limit.label}
            aria-invalid={wrong !== undefined}
            placeholder={limit === undefined ? t.limit.label : show(limit, state.price_scale)}
            value={typed}
            onInput={(event) => setTyped(event.currentTarget.value)}
          />
          <span class="unit">{state.currency}</span>
        </span>
        <button type="submit" disabled={busy || typed.trim() === ""} data-action="set-limit">
          {limit === undefined ? t.limit.set : t.limit.change}
        </button>
      </div>
      {wrong !== undefined && (
        <p class="wrong" role="alert">
          {wrong}
        </p>
      )}
    </form>
  );
}

function Bidding(props: Box & { rules: Rules | undefined }) {
  const { view, state, rules } = props;
  const { stage, format, phase } = state;
  const { you } = view;
  const binds = rules?.all_or_nothing;
  if (stage === "paused") return <p class="notice warn">{t.bid.paused}</p>;
  if (stage === "pending") {
    const takes = you?.max_next != null || you?.max_next_unlimited === true;
    if (!takes) return <p class="notice">{t.bid.pending}</p>;
    const needed = format === "rounds" || rules?.prebid === "required";
    return <BidBox view={view} state={state} binds={binds} title={t.act.prebid} note={needed ? t.act.prebidNeeded : t.act.prebidNote} />;
  }
  if (stage !== "open") return <p class="notice">{t.bid.closed}</p>;
  if (phase == null || format === "english" || format === "sealed") {
    return format === "sealed" ? <BidBox view={view} state={state} binds={binds} title={t.act.sealed} note={t.act.sealedNote} /> : format === "english" ? <BidBox view={view} state={state} binds={binds} /> : null;
  }
  return format === "dutch" ? (
    <DutchBox view={view} state={state} phase={phase} />
  ) : format === "japanese" ? (
    <JapaneseBox view={view} state={state} phase={phase} />
  ) : (
    <RoundsBox view={view} state={state} phase={phase} binds={binds} />
  );
}

/** Everything that a bidder can do in the lot now. */
export function ActBox(props: Box & { rules: Rules | undefined }) {
  const { state, rules } = props;
  const limits = state.format === "dutch" || (state.format === "english" && rules?.auto_bid === true);
  return (
    <>
      <Bidding {...props} />
      {limits && (state.stage === "open" || state.stage === "pending") && <LimitBox view={props.view} state={state} />}
    </>
  );
}

/** Whose turn it was and is, round by round, as far as the feed told. */
export function Turns(props: Box & { who: (number?: number) => string }) {
  const { view, state, who } = props;
  if (state.format !== "rounds") return null;
  const rounds = new Map<number, { turn: number; bidder: number }[]>();
  for (const step of view.steps) {
    for (const event of step.ev) {
      if (event.type !== "turn" || event.round === undefined || event.turn === undefined || event.bidder === undefined) continue;
      const turns = (rounds.get(event.round) ?? []).filter((known) => known.turn !== event.turn);
      rounds.set(event.round, [...turns, { turn: event.turn, bidder: event.bidder }]);
    }
  }
  const { phase } = state;
  return (
    <section class="card" data-part="turns">
      <h2>{t.act.turns}</h2>
      {rounds.size === 0 && <p class="soft">{t.act.order}</p>}
      <ul class="plain lines">
        {[...rounds].map(([round, turns]) => (
          <li key={round} class="turns">
            <span class="soft">{t.act.round(round)}</span>
            <ol class="plain">
              {turns.map(({ turn, bidder }) => {
                const now = phase?.kind === "turn" && phase.round === round && phase.turn === turn;
                return (
                  <li key={turn} class={`chip ${now ? "now" : ""} ${bidder === view.you?.number ? "own" : ""}`} aria-current={now ? "step" : undefined}>
                    {who(bidder)}
                  </li>
                );
              })}
            </ol>
          </li>
        ))}
      </ul>
    </section>
  );
}
