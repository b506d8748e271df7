// The bid box of a format with free prices: the highest valid price stands in it until the bidder types; what becomes of each bid is always told.

import { useEffect, useState } from "preact/hooks";
import type { LotState, LotView, Phase, PlacedBid } from "../feed.ts";
import { compare, percent, read, show, subtract } from "../decimal.ts";
import { clock, money } from "../format.ts";
import { placeBid, placed } from "../live.ts";
import { type BidRow, call, type Page } from "../rest.ts";
import { refusal, t } from "../texts.ts";
import { Dialog, PhaseLeft } from "./parts.tsx";

function stepLower(state: LotState, from: string): string | undefined {
  const decrement = state.decrement as { kind?: string; value?: string } | null | undefined;
  if (decrement?.kind !== "amount" || decrement.value === undefined) return undefined;
  const lower = subtract(from, decrement.value);
  return compare(lower, "0") > 0 ? lower : undefined;
}

function Confirm(props: { price: string; highest: string | undefined; state: LotState; onClose: () => void; place: () => void }) {
  const { price, highest, state } = props;
  const shown = money(price, state.currency, state.price_scale);
  const drop = highest === undefined ? undefined : percent(subtract(highest, price), highest);
  return (
    <Dialog title={t.bid.confirmTitle} onClose={props.onClose}>
      <p class="big figure">{shown}</p>
      <p>{drop === undefined ? t.bid.confirmPlain(shown) : t.bid.confirm(shown, drop)}</p>
      <div class="row end">
        <button type="button" class="quiet" onClick={props.onClose}>
          {t.bid.notPlace}
        </button>
        <button
          type="button"
          class="danger"
          data-action="confirm-bid"
          onClick={() => {
            props.place();
            props.onClose();
          }}
        >
          {t.bid.placeAgain}
        </button>
      </div>
    </Dialog>
  );
}

/** The box in which a bidder bids; whether bids are taken now is the caller's to know. */
export function BidBox(props: { view: LotView; state: LotState; title?: string; note?: string; phase?: Phase; binds?: boolean | undefined }) {
  const { view, state, title, note, phase, binds } = props;
  const [bound, setBound] = useState(false);
  const { you } = view;
  const [typed, setTyped] = useState<string>();
  const [wrong, setWrong] = useState<string>();
  const [last, setLast] = useState<string>();
  const [dismissed, setDismissed] = useState<string>();
  const highest = you?.max_next ?? undefined;
  const value = typed ?? (highest === undefined ? "" : show(highest, state.price_scale));
  const mine = placed.value.find((bid) => bid.cid === last);
  const pending = mine !== undefined && (mine.outcome === "waiting" || mine.outcome === "sent" || mine.outcome === "unknown");
  // An accepted bid has done its work: the box shows the next highest price again.
  useEffect(() => {
    if (mine?.outcome === "accepted") setTyped(undefined);
  }, [mine?.outcome, mine?.cid]);
  const place = (price: string, confirm: boolean) => {
    setWrong(undefined);
    setLast(placeBid(state.lot, price, confirm, binds === true && bound));
  };
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const price = read(value);
    if (price === undefined) setWrong(t.bid.form);
    else place(price, false);
  };
  const lower = highest === undefined || state.stage === "pending" || state.format === "sealed" ? undefined : stepLower(state, highest);
  const refused = mine?.outcome === "refused" || mine?.outcome === "lost" ? mine : undefined;
  const asked = refused?.code === "drop_too_large" && dismissed !== refused.cid ? refused : undefined;
  const asking = asked?.price == null ? undefined : { price: asked.price, cid: asked.cid, maxNext: asked.maxNext };
  return (
    <form class="card bid-box" onSubmit={submit} data-part="bid-box" noValidate>
      <h2 class="row between">
        <span>{title ?? t.bid.title}</span>
        {phase !== undefined && (
          <span class="figure">
            <PhaseLeft phase={phase} />
          </span>
        )}
      </h2>
      {note !== undefined && <p class="soft">{note}</p>}
      <label class="field">
        <span>{t.bid.price}</span>
        <span class="with-unit">
          <input
            name="price"
            class="figure big"
            inputMode="decimal"
            autocomplete="off"
            enterkeyhint="send"
            value={value}
            aria-invalid={wrong !== undefined}
            aria-describedby="bid-hint bid-said"
            onInput={(event) => setTyped(event.currentTarget.value)}
            onFocus={(event) => event.currentTarget.select()}
          />
          <span class="unit">{state.currency}</span>
        </span>
      </label>
      <p class="said" id="bid-hint" data-max-next={highest ?? ""}>
        {highest !== undefined ? t.bid.highest(money(highest, state.currency, state.price_scale)) : you?.max_next_unlimited === true ? t.bid.anyPrice : t.bid.noneValid}
      </p>
      <div class="row">
        {highest !== undefined && typed !== undefined && (
          <button type="button" class="quiet" onClick={() => setTyped(undefined)}>
            {t.bid.useHighest}
          </button>
        )}
        {lower !== undefined && (
          <button type="button" class="quiet" onClick={() => setTyped(show(lower, state.price_scale))}>
            {t.bid.stepLower}
          </button>
        )}
      </div>
      {binds === true && (
        <label class="check">
          <input type="checkbox" name="bound" checked={bound} onChange={(event) => setBound(event.currentTarget.checked)} /> {t.bid.bound}
        </label>
      )}
      <button type="submit" class="primary wide big" disabled={pending} data-action="place-bid">
        {t.bid.place}
      </button>
      <div id="bid-said" aria-live="assertive" class="bid-said">
        {wrong !== undefined && <p class="wrong">{wrong}</p>}
        {wrong === undefined && mine !== undefined && <Outcome bid={mine} state={state} />}
      </div>
      {asking !== undefined && (
        <Confirm
          price={asking.price}
          highest={asking.maxNext ?? highest}
          state={state}
          onClose={() => setDismissed(asking.cid)}
          place={() => place(asking.price, true)}
        />
      )}
    </form>
  );
}

/** What a bid, accept or withdrawal was about. */
function aim(bid: Pick<PlacedBid, "price" | "step">, state: LotState): string {
  if (bid.price === null) return t.bid.withdrawal;
  const price = money(bid.price, state.currency, state.price_scale);
  return bid.step === undefined ? price : t.bid.ofStep(state.format === "dutch", bid.step, price);
}

/** What became of something that was done here. */
export function Outcome(props: { bid: PlacedBid; state: LotState }) {
  const { bid, state } = props;
  const why = bid.code === undefined ? "" : ` ${refusal(bid.code, bid.detail)}`;
  const next = bid.outcome === "refused" && bid.maxNext != null ? ` ${t.bid.next(money(bid.maxNext, state.currency, state.price_scale))}` : "";
  return (
    <p class={`outcome ${bid.outcome}`} data-outcome={bid.outcome} data-code={bid.code ?? ""}>
      <strong>{aim(bid, state)}</strong> {t.bid.outcome[bid.outcome]}.{why}
      {next}
    </p>
  );
}

/** All bids of this bidder in the lot: what was placed here and what the server remembers. */
export function MyBids(props: { view: LotView; state: LotState }) {
  const { view, state } = props;
  const [rows, setRows] = useState<BidRow[]>([]);
  const here = placed.value.filter((bid) => bid.lot === state.lot);
  const decided = here.filter((bid) => bid.outcome === "accepted" || bid.outcome === "refused").length;
  useEffect(() => {
    call<Page<BidRow>>("GET", `/v1/lots/${state.lot}/bids?limit=50`).then((page) => setRows(page.items), () => undefined);
  }, [state.lot, decided, view.you?.standing, state.stage]);
  const open = here.filter((bid) => bid.outcome !== "accepted" && bid.outcome !== "refused").reverse();
  return (
    <section class="card" data-part="my-bids">
      <h2>{t.bid.mine}</h2>
      {rows.length + open.length === 0 && <p class="soft">{t.bid.mineNone}</p>}
      <ul class="plain lines">
        {open.map((bid) => (
          <li class="row between" key={bid.cid}>
            <span class="figure">{aim(bid, state)}</span>
            <span class="soft">{t.bid.outcome[bid.outcome]}</span>
          </li>
        ))}
        {rows.map((row) => (
          <li class="row between" key={row.bid}>
            <span>
              <span class="soft time">{clock(row.at)}</span>{" "}
              <span class="figure">{row.price === null ? (row.status === "withdrawn" ? t.bid.withdrawal : "–") : money(row.price, state.currency, state.price_scale)}</span>
              {row.auto && <span class="badge">{t.bid.auto}</span>}
            </span>
            <span class={row.status === "accepted" ? "good" : "soft"}>
              {row.status === "withdrawn" && row.price === null ? t.bid.outcome["accepted"] : (t.bid.outcome[row.status] ?? row.status)}
              {row.code !== undefined && <span class="block">{refusal(row.code)}</span>}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}
