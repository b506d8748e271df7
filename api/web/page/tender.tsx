// One tender: its lots live, its suppliers, and what its buyer can do with it.

import { useEffect, useState } from "preact/hooks";
import { day, money, toSeconds } from "../format.ts";
import { lotView, watch } from "../live.ts";
import { type Bidder, call, type Lot, type Organisation, type Page, type Tender } from "../rest.ts";
import { me } from "../session.ts";
import { t } from "../texts.ts";
import { Entry } from "./entry.tsx";
import { Ask, PhaseLeft, Stage, Stale, TimeLeft, Trouble, useTitle } from "./parts.tsx";

const LIVE_LOTS_MAX = 100;

function LotRow(props: { lot: Lot; currency: string; owner: boolean }) {
  const { lot, currency, owner } = props;
  const view = lotView(lot.id).value;
  const state = view?.state;
  const you = view?.you;
  const shown = state ?? lot;
  const price = (value: string | null | undefined) => (value == null ? "–" : money(value, currency, state?.price_scale ?? 2));
  return (
    <tr data-lot={lot.number}>
      <th scope="row">
        <a href={`/lots/${lot.id}`}>
          <span class="soft">{lot.number}</span> {lot.title}
        </a>
      </th>
      <td data-label={t.tender.colStage}>
        <Stage stage={shown.stage} />
      </td>
      <td class="figure" data-label={t.tender.colTime}>
        {state?.phase != null && state.stage === "open" ? <PhaseLeft phase={state.phase} /> : <TimeLeft lot={shown} />}
        {(state?.extensions ?? 0) > 0 && <span class="badge">{t.lot.overtime(state?.extensions ?? 0)}</span>}
      </td>
      <td class="figure" data-label={t.tender.colLead}>
        {price(state?.phase?.price ?? state?.lead?.price)}
      </td>
      {owner ? (
        <td class="figure" data-label={t.tender.colBidders}>
          {state?.bidder_count ?? "–"}
        </td>
      ) : (
        <>
          <td class="figure" data-label={t.tender.colRank}>
            {you?.rank == null ? "–" : <span class={you.lead === true ? "rank leads" : "rank"}>{you.rank}</span>}
          </td>
          <td class="figure" data-label={t.tender.colOwn}>
            {price(you?.standing)}
          </td>
          <td class="figure" data-label={t.tender.colNext}>
            {price(you?.max_next)}
          </td>
        </>
      )}
    </tr>
  );
}

function Suppliers(props: { tender: Tender; bidders: Bidder[]; reload: () => Promise<void> }) {
  const { tender, bidders, reload } = props;
  const [found, setFound] = useState<Organisation[]>();
  const [problem, setProblem] = useState<unknown>();
  const [q, setQ] = useState("");
  const [adjust, setAdjust] = useState({ factor: "", addend: "" });
  const adjusts = tender.stage !== "open" && tender.lots.every((lot) => lot.rules.format !== "dutch" && lot.rules.format !== "japanese");
  const admits = tender.stage === "draft" || tender.stage === "published" || tender.stage === "open";
  useEffect(() => {
    if (!admits || q.trim() === "") return setFound(undefined);
    const later = setTimeout(() => {
      call<Page<Organisation>>("GET", `/v1/organisations?kind=supplier&q=${encodeURIComponent(q.trim())}&limit=20`)
        .then((page) => setFound(page.items), setProblem);
    }, 200);
    return () => clearTimeout(later);
  }, [q, admits]);
  const admit = async (organisation: Organisation) => {
    setProblem(undefined);
    try {
      const [factor, addend] = [adjust.factor.trim(), adjust.addend.trim()];
      const how = { ...(factor === "" ? {} : { factor }), ...(addend === "" ? {} : { addend }) };
      const adjustments = Object.keys(how).length === 0 ? [] : tender.lots.map((lot) => ({ lot: lot.number, ...how }));
      await call("POST", `/v1/tenders/${tender.id}/bidders`, { body: { organisation: organisation.id, adjustments } });
      await reload();
    } catch (failure) {
      setProblem(failure);
    }
  };
  const inside = new Set(bidders.map((bidder) => bidder.organisation));
  return (
    <section class="card" data-part="suppliers">
      <h2>{t.tender.suppliers}</h2>
      {bidders.length === 0 ? (
        <p class="soft">{t.tender.nobody}</p>
      ) : (
        <ul class="plain lines">
          {bidders.map((bidder) => (
            <li class="row between" key={bidder.id}>
              <span>
                {nameOf(bidder)} {bidder.number != null && <span class="soft">{t.tender.number(bidder.number)}</span>}
                {bidder.adjustments?.[0] !== undefined && <span class="badge">{t.tender.adjusted(bidder.adjustments[0].factor, bidder.adjustments[0].addend)}</span>}
              </span>
              <span class={bidder.status === "disqualified" ? "wrong" : "soft"}>{t.tender.bidderStatus[bidder.status]}</span>
            </li>
          ))}
        </ul>
      )}
      {admits && (
        <>
          <label class="field">
            <span>{t.tender.admit}</span>
            <input type="search" name="supplier" placeholder={t.tender.search} value={q} onInput={(event) => setQ(event.currentTarget.value)} />
          </label>
          {adjusts && (
            <details>
              <summary>{t.tender.adjust}</summary>
              <p class="soft">{t.tender.adjustHint}</p>
              <div class="grid two">
                {(["factor", "addend"] as const).map((name) => (
                  <label class="field" key={name}>
                    <span>{t.tender[name]}</span>
                    <input name={name} class="figure" autocomplete="off" value={adjust[name]} onInput={(event) => setAdjust({ ...adjust, [name]: event.currentTarget.value })} />
                  </label>
                ))}
              </div>
            </details>
          )}
          <Trouble problem={problem} />
          {found !== undefined && (
            <ul class="plain lines" aria-live="polite">
              {found.length === 0 && <li class="soft">{t.tender.noMatch}</li>}
              {found.map((organisation) => (
                <li class="row between" key={organisation.id}>
                  <span>{organisation.name}</span>
                  {inside.has(organisation.id) ? (
                    <span class="soft">{t.tender.onTheList}</span>
                  ) : (
                    <button type="button" onClick={() => void admit(organisation)} data-admit={organisation.name}>
                      {t.tender.admitOne}
                    </button>
                  )}
                </li>
              ))}
            </ul>
          )}
        </>
      )}
    </section>
  );
}

/** The name of a bidder's organisation, as far as it is known. */
export function nameOf(bidder: Bidder): string {
  return bidder.name ?? bidder.organisation;
}

/** The bidders of an own tender. */
export async function loadBidders(tender: string): Promise<Bidder[]> {
  const bidders: Bidder[] = [];
  let query = "";
  for (let turns = 0; turns < 5; turns++) {
    const page = await call<Page<Bidder>>("GET", `/v1/tenders/${tender}/bidders?limit=200${query}`);
    bidders.push(...page.items);
    if (page.next === null) break;
    query = `&cursor=${encodeURIComponent(page.next)}`;
  }
  return bidders;
}

type Action = "publish" | "start" | "pause" | "resume" | "extend" | "cancel";

function Actions(props: { tender: Tender; stages: Set<string>; bidders: Bidder[]; reload: () => Promise<void> }) {
  const { tender, stages, bidders, reload } = props;
  const [asking, setAsking] = useState<Action>();
  const [problem, setProblem] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const post = async (action: Action, body?: object) => {
    await call("POST", `/v1/tenders/${tender.id}/${action}`, { body: body ?? {} });
    await reload();
  };
  const now = async (action: Action) => {
    setBusy(true);
    setProblem(undefined);
    await post(action).catch(setProblem);
    setBusy(false);
  };
  const running = stages.has("open") || stages.has("paused");
  // Only formats with a duration take more time.
  const timed = tender.lots.some((lot) => lot.rules.format === "english" || lot.rules.format === "sealed");
  const ended = ["awarded", "unsuccessful", "cancelled"].includes(tender.stage);
  const button = (action: Action, words: string, look = "") => (
    <button type="button" class={look} disabled={busy} data-action={action} onClick={() => setAsking(action)}>
      {words}
    </button>
  );
  const direct = (action: Action, words: string) => (
    <button type="button" class="primary" disabled={busy} data-action={action} onClick={() => void now(action)}>
      {words}
    </button>
  );
  const close = () => setAsking(undefined);
  return (
    <>
      <div class="row actions">
        {tender.stage === "draft" && direct("publish", t.tender.publish)}
        {tender.stage === "draft" && (
          <a class="button" href={`/tenders/${tender.id}/edit`} data-action="edit">
            {t.tender.edit}
          </a>
        )}
        {tender.stage === "published" && tender.opens_at === null && direct("start", t.tender.start)}
        {stages.has("open") && button("pause", t.tender.pause)}
        {stages.has("paused") && button("resume", t.tender.resume, "primary")}
        {running && timed && button("extend", t.tender.extend)}
        {!ended && button("cancel", t.tender.cancel, "danger quiet")}
      </div>
      {tender.stage === "published" && tender.access === "invited" && !bidders.some((bidder) => bidder.status === "admitted") && (
        <p class="notice warn" data-part="nobody-yet">
          {t.tender.nobodyYet}
        </p>
      )}
      {tender.stage === "draft" && <p class="soft">{t.tender.publishHint}</p>}
      <Trouble problem={problem} />
      {asking === "pause" && <Ask title={t.tender.doPause} action={t.tender.pause} reason="needed" onClose={close} act={({ reason }) => post("pause", { reason })} />}
      {asking === "resume" && <Ask title={t.tender.doResume} action={t.tender.resume} reason="needed" onClose={close} act={({ reason }) => post("resume", { reason })} />}
      {asking === "extend" && (
        <Ask
          title={t.tender.doExtend}
          action={t.tender.extend}
          reason="needed"
          minutes
          onClose={close}
          act={({ reason, minutes }) => post("extend", { reason, seconds: toSeconds(minutes) ?? 0 })}
        />
      )}
      {asking === "cancel" && (
        <Ask title={t.tender.cancel} text={t.tender.cancelWarning} action={t.tender.doCancel} danger reason="needed" onClose={close} act={({ reason }) => post("cancel", { reason })} />
      )}
    </>
  );
}

function Join(props: { tender: Tender; reload: () => Promise<void> }) {
  const { tender } = props;
  const [problem, setProblem] = useState<unknown>();
  const admitted = tender.bidder?.status === "admitted";
  const join = async () => {
    setProblem(undefined);
    try {
      await call("POST", `/v1/tenders/${tender.id}/join`, { body: {} });
      await props.reload();
    } catch (failure) {
      setProblem(failure);
    }
  };
  if (tender.bidder?.status === "disqualified") return <p class="notice bad">{t.tender.disqualified}</p>;
  if (tender.stage !== "published" && tender.stage !== "open") return null;
  return (
    <section class="card" data-part="join">
      {tender.terms !== null && (
        <details open={!admitted}>
          <summary>{t.tender.terms}</summary>
          <p class="pre">{tender.terms}</p>
        </details>
      )}
      {admitted ? (
        <p class="good" data-joined>
          {t.tender.joined}
        </p>
      ) : (
        <div class="row between">
          <span class="soft">{t.tender.joinHint}</span>
          <button type="button" class="primary" data-action="join" onClick={() => void join()}>
            {tender.terms === null ? t.tender.join : t.tender.accept}
          </button>
        </div>
      )}
      <Trouble problem={problem} />
    </section>
  );
}

/** The page of a tender. */
export function TenderPage(props: { id: string }) {
  const { id } = props;
  const [tender, setTender] = useState<Tender>();
  const [problem, setProblem] = useState<unknown>();
  const [bidders, setBidders] = useState<Bidder[]>([]);
  const load = async () => {
    try {
      const loaded = await call<Tender>("GET", `/v1/tenders/${id}`);
      setTender(loaded);
      setProblem(undefined);
      if (loaded.buyer === me.value?.organisation.id) setBidders(await loadBidders(id));
    } catch (failure) {
      setProblem(failure);
    }
  };
  useEffect(() => void load(), [id, me.value?.organisation.id]);
  // Whoever accepts the terms meanwhile is seen without a reload.
  const waiting = tender?.stage === "published" || tender?.stage === "open";
  useEffect(() => {
    if (!waiting) return;
    const again = setInterval(() => document.visibilityState === "visible" && void load(), 10_000);
    return () => clearInterval(again);
  }, [id, waiting]);
  const live = tender !== undefined && tender.stage !== "draft" ? tender.lots.slice(0, LIVE_LOTS_MAX) : [];
  const ids = live.map((lot) => lot.id).join(" ");
  useEffect(() => {
    const stops = ids === "" ? [] : ids.split(" ").map(watch);
    return () => stops.forEach((stop) => stop());
  }, [ids]);
  // The tender's own stage follows from its lots': ask again when one of them moves.
  const stages = (tender?.lots ?? []).map((lot) => lotView(lot.id).value?.state?.stage ?? lot.stage);
  const known = stages.join(" ");
  useEffect(() => {
    if (tender !== undefined && live.some((lot) => (lotView(lot.id).value?.state?.stage ?? lot.stage) !== lot.stage)) void load();
  }, [known]);
  useTitle(tender?.title);
  if (tender === undefined && problem !== undefined && me.value === null) return <Entry signUp={false} />;
  if (tender === undefined) return problem === undefined ? <p class="soft">{t.loading}</p> : <Trouble problem={problem} again={() => void load()} />;
  const owner = tender.buyer === me.value?.organisation.id;
  return (
    <div class="tender" data-stage={tender.stage}>
      <p>
        <a href="/">{t.tender.back}</a>
      </p>
      <header class="row between top">
        <div>
          <h1>{tender.title}</h1>
          <p class="soft">
            {[
              tender.reference === "" ? "" : t.list.reference(tender.reference),
              t.tender.access[tender.access],
              tender.lots.length > 1 ? (t.tender.lotMode[tender.lot_mode] ?? "") : "",
              tender.stage === "draft" || tender.stage === "published" ? (tender.opens_at === null ? t.tender.opensByHand : t.tender.opensAt(day(tender.opens_at))) : "",
            ]
              .filter(Boolean)
              .join(" · ")}
          </p>
        </div>
        <Stage stage={tender.stage} />
      </header>
      {tender.description !== "" && <p class="pre">{tender.description}</p>}
      <Trouble problem={problem} again={() => void load()} />
      <Stale />
      {owner && <Actions tender={tender} stages={new Set(stages)} bidders={bidders} reload={load} />}
      {!owner && me.value != null && <Join tender={tender} reload={load} />}
      <section class="card">
        <h2>{t.tender.lots}</h2>
        <table class="lots">
          <thead>
            <tr>
              <th scope="col">{t.tender.colLot}</th>
              <th scope="col">{t.tender.colStage}</th>
              <th scope="col" class="figure">
                {t.tender.colTime}
              </th>
              <th scope="col" class="figure">
                {t.tender.colLead}
              </th>
              {(owner ? [t.tender.colBidders] : [t.tender.colRank, t.tender.colOwn, t.tender.colNext]).map((words) => (
                <th scope="col" class="figure" key={words}>
                  {words}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {tender.lots.map((lot) => (
              <LotRow lot={lot} currency={tender.currency} owner={owner} key={lot.id} />
            ))}
          </tbody>
        </table>
      </section>
      {owner && <Suppliers tender={tender} bidders={bidders} reload={load} />}
    </div>
  );
}
