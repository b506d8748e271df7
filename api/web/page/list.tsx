// The tenders of the person that is signed in.

import { useEffect, useRef, useState } from "preact/hooks";
import { day } from "../format.ts";
import { call, type Page, type Tender } from "../rest.ts";
import { buys, me, supplies } from "../session.ts";
import { t } from "../texts.ts";
import { Stage, Trouble, useTitle } from "./parts.tsx";

function Card(props: { tender: Tender }) {
  const { tender } = props;
  const when = tender.opens_at === null ? null : (tender.stage === "draft" || tender.stage === "published" ? t.tender.opensAt : t.tender.openedAt)(day(tender.opens_at));
  return (
    <li>
      <a class="card tender-card" href={`/tenders/${tender.id}`}>
        <span class="tender-title">{tender.title}</span>
        <Stage stage={tender.stage} />
        <span class="soft">
          {[[...new Set(tender.lots.map((lot) => t.format[lot.format ?? ""] ?? ""))].filter(Boolean).join(", "), t.list.lots(tender.lots.length), tender.currency, tender.reference && t.list.reference(tender.reference), when]
            .filter(Boolean)
            .join(" · ")}
        </span>
      </a>
    </li>
  );
}

function Section(props: { title: string; tenders: Tender[]; none: string; create?: boolean }) {
  return (
    <section>
      <div class="row between">
        <h1>{props.title}</h1>
        {props.create === true && (
          <a class="button primary" href="/tenders/new">
            {t.list.create}
          </a>
        )}
      </div>
      {props.tenders.length === 0 ? (
        <p class="card empty">{props.none}</p>
      ) : (
        <ul class="cards">
          {props.tenders.map((tender) => (
            <Card tender={tender} key={tender.id} />
          ))}
        </ul>
      )}
    </section>
  );
}

/** The list of tenders. */
export function TenderList() {
  const [tenders, setTenders] = useState<Tender[]>();
  const [next, setNext] = useState<string | null>(null);
  const [problem, setProblem] = useState<unknown>();
  const further = useRef(false);
  useTitle(t.home);
  const load = async (cursor: string | null) => {
    setProblem(undefined);
    try {
      const query = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const page = await call<Page<Tender>>("GET", `/v1/tenders?limit=50${query}`);
      setTenders((old) => (cursor === null ? page.items : [...(old ?? []), ...page.items]));
      setNext(page.next);
    } catch (failure) {
      setProblem(failure);
    }
  };
  useEffect(() => {
    void load(null);
    // An invitation or a new tender is seen without a reload; lots themselves are live.
    const again = setInterval(() => document.visibilityState === "visible" && !further.current && void load(null), 20_000);
    return () => clearInterval(again);
  }, []);
  const organisation = me.value?.organisation.id;
  const mine = (tenders ?? []).filter((tender) => tender.buyer === organisation);
  const others = (tenders ?? []).filter((tender) => tender.buyer !== organisation);
  return (
    <>
      <Trouble problem={problem} again={() => void load(null)} />
      {tenders === undefined && problem === undefined && <p class="soft">{t.loading}</p>}
      {tenders !== undefined && buys.value && <Section title={t.list.yours} tenders={mine} none={t.list.noneBuyer} create />}
      {tenders !== undefined && supplies.value && <Section title={t.list.forYou} tenders={others} none={t.list.noneSupplier} />}
      {next !== null && (
        <button type="button" class="quiet" onClick={() => ((further.current = true), void load(next))}>
          {t.list.more}
        </button>
      )}
    </>
  );
}
