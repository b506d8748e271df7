// The form that writes a tender: lots, and one set of rules for all of them, in plain words. What the server finds
// wrong is shown at the field its pointer names.

import { useState } from "preact/hooks";
import { read } from "../decimal.ts";
import { call, newKey, Problem, type Tender } from "../rest.ts";
import { go } from "../router.ts";
import { t } from "../texts.ts";
import { Field, Trouble, useTitle } from "./parts.tsx";

interface LotDraft {
  key: number;
  title: string;
  description: string;
  quantity: string;
  unit: string;
  ceiling: string;
  reserve: string;
  step: string;
}

const CURRENCIES = ["SAR", "AED", "USD", "EUR", "GBP", "EGP", "KWD", "BHD", "QAR", "OMR", "JOD", "INR", "CNY", "TRY"];

let lastKey = 0;
function emptyLot(): LotDraft {
  return { key: ++lastKey, title: "", description: "", quantity: "1", unit: t.create.unitDefault, ceiling: "", reserve: "", step: "" };
}

/** Where a pointer of the server's is shown: rules that all lots share are shown once. */
function place(pointer: string): string {
  return pointer.replace(/^\/lots\/\d+\/rules\/(duration_s|improvement|overtime|visibility|award)(\/.*)?$/, "/rules/$1$2");
}

type Errors = Record<string, string>;

function errorsOf(problem: unknown): Errors {
  const errors: Errors = {};
  if (problem instanceof Problem) for (const { pointer, detail } of problem.errors) errors[place(pointer)] ??= detail;
  return errors;
}

/** Pointers that have a field of their own, where their error is shown. */
const FIELDS = [
  /^\/(title|currency|description|reference|opens_at|terms)$/,
  /^\/lots\/\d+\/(title|items\/0\/(description|quantity|unit)|rules\/(ceiling|decrement(\/value)?|reserve(\/price)?))$/,
  /^\/rules\/(duration_s|overtime\/(window_s|length_s)|visibility(\/lead)?)$/,
];

/** The body of the request, or what is plainly missing. */
function build(form: FormData, lots: LotDraft[]): { body: object } | { errors: Errors } {
  const errors: Errors = {};
  const text = (name: string) => String(form.get(name) ?? "").trim();
  const price = (typed: string, pointer: string) => {
    if (typed.trim() === "") return undefined;
    const value = read(typed);
    if (value === undefined) errors[pointer] = t.create.priceForm;
    return value;
  };
  const seconds = (name: string, pointer: string) => {
    const minutes = Number(text(name));
    if (!Number.isFinite(minutes) || minutes <= 0) errors[pointer] = t.create.wholeNumber;
    return Math.round(minutes * 60);
  };
  if (text("title") === "") errors["/title"] = t.create.needed;
  const rules = {
    format: "english",
    duration_s: seconds("duration", "/rules/duration_s"),
    improvement: text("improvement"),
    award: text("award"),
    visibility: {
      lead: text("lead"),
      rank: form.get("rank") !== null,
      board: form.get("board") !== null,
      bidder_count: form.get("count") !== null,
    },
    ...(form.get("overtime") === null
      ? {}
      : {
          overtime: {
            window_s: seconds("window", "/rules/overtime/window_s"),
            length_s: seconds("length", "/rules/overtime/length_s"),
            mode: "reset",
            trigger: "lead",
          },
        }),
  };
  let opensAt: string | null = null;
  if (text("when") === "time") {
    const at = new Date(text("opens_at"));
    if (Number.isNaN(at.getTime())) errors["/opens_at"] = t.create.needed;
    else opensAt = at.toISOString();
  }
  const body = {
    title: text("title"),
    description: text("description"),
    reference: text("reference"),
    currency: text("currency"),
    access: text("access"),
    opens_at: opensAt,
    terms: text("terms") === "" ? null : text("terms"),
    lots: lots.map((lot, at) => {
      if (lot.title.trim() === "") errors[`/lots/${at}/title`] = t.create.needed;
      const quantity = read(lot.quantity);
      if (quantity === undefined) errors[`/lots/${at}/items/0/quantity`] = t.create.priceForm;
      const ceiling = price(lot.ceiling, `/lots/${at}/rules/ceiling`);
      const reserve = price(lot.reserve, `/lots/${at}/rules/reserve/price`);
      const step = price(lot.step, `/lots/${at}/rules/decrement/value`);
      return {
        title: lot.title.trim(),
        items: [{ description: lot.description.trim() || lot.title.trim(), quantity, unit: lot.unit.trim() }],
        rules: {
          ...rules,
          ...(ceiling === undefined ? {} : { ceiling }),
          ...(reserve === undefined ? {} : { reserve: { price: reserve, shown: false } }),
          ...(step === undefined ? {} : { decrement: { kind: "amount", value: step } }),
        },
      };
    }),
  };
  return Object.keys(errors).length > 0 ? { errors } : { body };
}

function LotFields(props: { lot: LotDraft; at: number; errors: Errors; change: (lot: LotDraft) => void; remove?: () => void }) {
  const { lot, at, errors, change } = props;
  const bind = (name: Exclude<keyof LotDraft, "key">) => ({
    value: lot[name],
    onInput: (event: Event) => change({ ...lot, [name]: (event.currentTarget as HTMLInputElement).value }),
    autocomplete: "off",
  });
  const price = { inputMode: "decimal" as const, class: "figure" };
  const error = (rest: string) => errors[`/lots/${at}${rest}`];
  return (
    <fieldset class="card lot-fields" data-lot={at}>
      <legend>{t.create.lot(at + 1)}</legend>
      <div class="grid two">
        <Field label={t.create.lotTitle} name={`lot-${at}-title`} error={error("/title")} input={bind("title")} />
        <Field label={t.create.item} name={`lot-${at}-item`} error={error("/items/0/description")} input={bind("description")} />
        <div class="grid pair">
          <Field label={t.create.quantity} name={`lot-${at}-quantity`} error={error("/items/0/quantity")} input={{ ...bind("quantity"), ...price }} />
          <Field label={t.create.unit} name={`lot-${at}-unit`} error={error("/items/0/unit")} input={bind("unit")} />
        </div>
        <Field label={t.create.ceiling} name={`lot-${at}-ceiling`} hint={t.create.ceilingHint} error={error("/rules/ceiling")} input={{ ...bind("ceiling"), ...price }} />
        <Field
          label={t.create.step}
          name={`lot-${at}-step`}
          hint={t.create.stepHint}
          error={error("/rules/decrement/value") ?? error("/rules/decrement")}
          input={{ ...bind("step"), ...price }}
        />
        <Field
          label={t.create.reserve}
          name={`lot-${at}-reserve`}
          hint={t.create.reserveHint}
          error={error("/rules/reserve/price") ?? error("/rules/reserve")}
          input={{ ...bind("reserve"), ...price }}
        />
      </div>
      {props.remove !== undefined && (
        <button type="button" class="quiet" onClick={props.remove}>
          {t.create.removeLot}
        </button>
      )}
    </fieldset>
  );
}

function Choice(props: { legend: string; name: string; options: readonly (readonly [string, string])[]; change?: (value: string) => void }) {
  return (
    <fieldset>
      <legend>{props.legend}</legend>
      {props.options.map(([value, words], at) => (
        <label class="check" key={value}>
          <input type="radio" name={props.name} value={value} defaultChecked={at === 0} onChange={() => props.change?.(value)} /> {words}
        </label>
      ))}
    </fieldset>
  );
}

/** The page «New tender». */
export function CreateTender() {
  useTitle(t.create.title);
  const [lots, setLots] = useState<LotDraft[]>([emptyLot()]);
  const [errors, setErrors] = useState<Errors>({});
  const [problem, setProblem] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const [when, setWhen] = useState("hand");
  const [overtime, setOvertime] = useState(true);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const built = build(new FormData(form), lots);
    setProblem(undefined);
    if ("errors" in built) {
      setErrors(built.errors);
      requestAnimationFrame(() => form.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
      return;
    }
    setErrors({});
    setBusy(true);
    try {
      const tender = await call<Tender>("POST", "/v1/tenders", { body: built.body, key: newKey() });
      go(`/tenders/${tender.id}`);
    } catch (failure) {
      setErrors(errorsOf(failure));
      setProblem(failure);
      setBusy(false);
      requestAnimationFrame(() => form.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
    }
  };
  const elsewhere = Object.entries(errors).filter(([pointer]) => !FIELDS.some((field) => field.test(pointer)));
  const minutes = { type: "number" as const, min: 0.1, step: "any", inputMode: "decimal" as const, class: "figure" };
  return (
    <form class="create" onSubmit={submit} noValidate data-form="create">
      <p>
        <a href="/">{t.tender.back}</a>
      </p>
      <h1>{t.create.title}</h1>
      <p class="lede">{t.create.lede}</p>
      <section class="card">
        <h2>{t.create.about}</h2>
        <div class="grid halves">
          <Field label={t.create.tenderTitle} name="title" error={errors["/title"]} input={{ maxLength: 200, placeholder: t.create.tenderTitleExample, autocomplete: "off" }} />
          <Field label={t.create.currency} name="currency" error={errors["/currency"]}>
            {(ids) => (
              <select name="currency" {...ids}>
                {CURRENCIES.map((code) => (
                  <option key={code}>{code}</option>
                ))}
              </select>
            )}
          </Field>
          <Field label={t.create.description} name="description" error={errors["/description"]} input={{ maxLength: 10_000, autocomplete: "off" }} />
          <Field label={t.create.reference} name="reference" error={errors["/reference"]} input={{ maxLength: 200, autocomplete: "off" }} />
        </div>
        <div class="grid two">
          <Choice legend={t.create.who} name="access" options={[["invited", t.create.invited], ["open", t.create.open]]} />
          <div>
            <Choice legend={t.create.when} name="when" options={[["hand", t.create.byHand], ["time", t.create.atTime]]} change={setWhen} />
            {when === "time" && <Field label={t.create.opensAt} name="opens_at" error={errors["/opens_at"]} input={{ type: "datetime-local", step: 1 }} />}
          </div>
        </div>
        <Field label={t.create.terms} name="terms" error={errors["/terms"]}>
          {(ids) => <textarea name="terms" rows={2} maxLength={10_000} {...ids} />}
        </Field>
      </section>
      <section>
        <h2>{t.create.lots}</h2>
        <p class="soft">{t.create.lotsHint}</p>
        {lots.map((lot, at) => (
          <LotFields
            key={lot.key}
            lot={lot}
            at={at}
            errors={errors}
            change={(changed) => setLots((old) => old.map((other) => (other.key === lot.key ? changed : other)))}
            {...(lots.length > 1 ? { remove: () => setLots((old) => old.filter((other) => other.key !== lot.key)) } : {})}
          />
        ))}
        <button type="button" onClick={() => setLots((old) => [...old, emptyLot()])} data-action="add-lot">
          {t.create.addLot}
        </button>
      </section>
      <section class="card">
        <h2>{t.create.rules}</h2>
        <p class="soft">{t.create.rulesHint}</p>
        <div class="grid two">
          <div>
            <Field label={t.create.duration} name="duration" error={errors["/rules/duration_s"]} input={{ ...minutes, defaultValue: "20" }} />
            <Choice legend={t.create.beat} name="improvement" options={[["own", t.create.beatOwn], ["lead", t.create.beatLead]]} />
            <Choice legend={t.create.award} name="award" options={[["manual", t.create.awardManual], ["automatic", t.create.awardAutomatic]]} />
          </div>
          <div>
            <fieldset>
              <legend>{t.create.overtime}</legend>
              <label class="check">
                <input type="checkbox" name="overtime" defaultChecked onChange={(event) => setOvertime(event.currentTarget.checked)} /> {t.create.overtimeOn}
              </label>
              {overtime && (
                <div class="grid pair">
                  <Field label={t.create.window} name="window" error={errors["/rules/overtime/window_s"]} input={{ ...minutes, defaultValue: "2" }} />
                  <Field label={t.create.length} name="length" error={errors["/rules/overtime/length_s"]} input={{ ...minutes, defaultValue: "2" }} />
                </div>
              )}
            </fieldset>
            <fieldset>
              <legend>{t.create.sees}</legend>
              <Field label={t.create.seesLead} name="lead" error={errors["/rules/visibility/lead"] ?? errors["/rules/visibility"]}>
                {(ids) => (
                  <select name="lead" {...ids}>
                    <option value="always">{t.create.seesLeadAlways}</option>
                    <option value="after_own_bid">{t.create.seesLeadAfter}</option>
                    <option value="never">{t.create.seesLeadNever}</option>
                  </select>
                )}
              </Field>
              {([["rank", t.create.seesRank, true], ["count", t.create.seesCount, true], ["board", t.create.seesBoard, false]] as const).map(
                ([name, words, on]) => (
                  <label class="check" key={name}>
                    <input type="checkbox" name={name} defaultChecked={on} /> {words}
                  </label>
                ),
              )}
            </fieldset>
          </div>
        </div>
      </section>
      {Object.keys(errors).length === 0 ? (
        <Trouble problem={problem} />
      ) : (
        <div class="notice bad" role="alert">
          {t.create.failed}
          {elsewhere.length > 0 && (
            <ul>
              {elsewhere.map(([pointer, said]) => (
                <li key={pointer}>
                  <code>{pointer}</code> {said}
                </li>
              ))}
            </ul>
          )}
        </div>
      )}
      <div class="row end">
        <a class="button quiet" href="/">
          {t.cancel}
        </a>
        <button type="submit" class="primary" disabled={busy}>
          {t.create.submit}
        </button>
      </div>
    </form>
  );
}
