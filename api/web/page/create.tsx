// The form that writes a tender, new or a draft: lots, and one set of rules for all of them, begun from a ready set. What
// the server finds wrong is shown at the field its pointer names.

import { useEffect, useState } from "preact/hooks";
import { read } from "../decimal.ts";
import { whole } from "../format.ts";
import { call, type Item, newKey, type Page, Problem, type RuleRow, type RuleTemplate, type Tender } from "../rest.ts";
import { go } from "../router.ts";
import { t } from "../texts.ts";
import { build, type Errors, PARTS, PLAIN, pointerOf, pricesOf, type RuleField, type RulesObject, Table, type Values, valuesOf } from "./form.ts";
import { Field, Trouble, useTitle } from "./parts.tsx";

interface LotDraft {
  key: number;
  title: string;
  description: string;
  quantity: string;
  unit: string;
  prices: Values;
  /** The lot as it was loaded: what the form does not ask for is kept. */
  base?: RulesObject;
  items: Item[];
}

const CURRENCIES = ["SAR", "AED", "USD", "EUR", "GBP", "EGP", "KWD", "BHD", "QAR", "OMR", "JOD", "INR", "CNY", "TRY"];

let lastKey = 0;
function emptyLot(): LotDraft {
  return { key: ++lastKey, title: "", description: "", quantity: "1", unit: t.create.unitDefault, prices: {}, items: [] };
}

function lotsOf(tender: Tender): LotDraft[] {
  return tender.lots.map((lot) => {
    const { description = "", quantity = "1", unit = t.create.unitDefault } = lot.items[0] ?? {};
    const base = lot.rules as unknown as RulesObject;
    return { key: ++lastKey, title: lot.title, description, quantity, unit, prices: pricesOf(base), base, items: lot.items };
  });
}

/** Where a pointer of the server's is shown: rules that all lots share are shown once. */
function place(pointer: string, prices: string[]): string {
  const match = /^\/lots\/\d+(\/rules\/.*)$/.exec(pointer);
  const rule = match?.[1];
  if (rule === undefined) return pointer;
  const own = prices.some((name) => pointerOf(name) === rule || (name.split(".")[0] ?? "") === rule.slice("/rules/".length));
  return own ? pointer : rule;
}

function errorsOf(problem: unknown, prices: string[]): Errors {
  const errors: Errors = {};
  if (problem instanceof Problem) for (const { pointer, detail } of problem.errors) errors[place(pointer, prices)] ??= detail;
  return errors;
}

const label = (name: string): string => t.create.field[name]?.[0] ?? name;
const hint = (name: string): string | undefined => t.create.field[name]?.[1];

/** One rule that all lots share. */
function RuleInput(props: { field: RuleField; table: Table; values: Values; errors: Errors; change: (name: string, value: string) => void }) {
  const { field, table, values, errors, change } = props;
  const { name, kind } = field;
  const value = values[name] ?? "";
  const pointer = pointerOf(name);
  const error = errors[pointer] ?? (name === "overtime" ? undefined : Object.entries(errors).find(([at]) => at.startsWith(`${pointer}/`))?.[1]);
  if (kind === "flag") {
    return (
      <div data-field={name}>
        <label class="check">
          <input type="checkbox" name={name} checked={value === "true"} onChange={(event) => change(name, event.currentTarget.checked ? "true" : "")} /> {label(name)}
        </label>
        {error !== undefined && <p class="said wrong">{error}</p>}
      </div>
    );
  }
  if (kind === "word") {
    const words = (table.row(name)?.words ?? []).filter((word) => word !== "table" || value === "table");
    return (
      <Field label={label(name)} name={name} error={error}>
        {(ids) => (
          <select name={name} {...ids} value={value} onChange={(event) => change(name, event.currentTarget.value)}>
            {words.map((word) => (
              <option value={word} key={word}>
                {t.create.word[name]?.[word] ?? word}
              </option>
            ))}
          </select>
        )}
      </Field>
    );
  }
  const { minimum, maximum } = table.row(name) ?? {};
  const range = kind === "count" && minimum !== undefined && maximum !== undefined && hint(name) === undefined ? undefined : hint(name);
  return (
    <Field
      label={label(name)}
      name={name}
      error={error}
      {...(range === undefined ? {} : { hint: range })}
      input={{
        value,
        class: "figure",
        inputMode: kind === "count" || kind === "seconds" ? "numeric" : "decimal",
        autocomplete: "off",
        onInput: (event) => change(name, event.currentTarget.value),
      }}
    />
  );
}

function LotFields(props: { lot: LotDraft; at: number; format: string; names: string[]; examples: Values; errors: Errors; change: (lot: LotDraft) => void; remove?: () => void }) {
  const { lot, at, format, names, examples, errors, change } = props;
  const bind = (name: "title" | "description" | "quantity" | "unit") => ({
    value: lot[name],
    onInput: (event: Event) => change({ ...lot, [name]: (event.currentTarget as HTMLInputElement).value }),
    autocomplete: "off",
  });
  const figure = { inputMode: "decimal" as const, class: "figure" };
  const error = (rest: string) => errors[`/lots/${at}${rest}`];
  const price = (name: string) => {
    const [words = name, said] = t.create.lotField[`${format}:${name}`] ?? t.create.lotField[name] ?? t.create.field[name] ?? [];
    const pointer = pointerOf(name);
    const block = `/rules/${name.split(".")[0] ?? ""}`;
    const example = examples[name] ?? "";
    return (
      <Field
        key={name}
        label={words}
        name={`lot-${at}-${name}`}
        {...(said === undefined ? {} : { hint: said })}
        error={error(pointer) ?? error(block)}
        input={{
          ...figure,
          value: lot.prices[name] ?? "",
          placeholder: example === "" ? "" : t.create.example(example),
          autocomplete: "off",
          onInput: (event: Event) => change({ ...lot, prices: { ...lot.prices, [name]: (event.currentTarget as HTMLInputElement).value } }),
        }}
      />
    );
  };
  return (
    <fieldset class="card lot-fields" data-lot={at}>
      <legend>{t.create.lot(at + 1)}</legend>
      <div class="grid two">
        <Field label={t.create.lotTitle} name={`lot-${at}-title`} error={error("/title")} input={bind("title")} />
        <Field label={t.create.item} name={`lot-${at}-item`} error={error("/items/0/description")} input={bind("description")} />
        <div class="grid pair">
          <Field label={t.create.quantity} name={`lot-${at}-quantity`} error={error("/items/0/quantity")} input={{ ...bind("quantity"), ...figure }} />
          <Field label={t.create.unit} name={`lot-${at}-unit`} error={error("/items/0/unit")} input={bind("unit")} />
        </div>
        {names.map(price)}
      </div>
      {props.remove !== undefined && (
        <button type="button" class="quiet" onClick={props.remove}>
          {t.create.removeLot}
        </button>
      )}
    </fieldset>
  );
}

function Choice(props: { legend: string; name: string; chosen: string; options: readonly (readonly [string, string])[]; change?: (value: string) => void }) {
  return (
    <fieldset>
      <legend>{props.legend}</legend>
      {props.options.map(([value, words]) => (
        <label class="check" key={value}>
          <input type="radio" name={props.name} value={value} defaultChecked={value === props.chosen} onChange={() => props.change?.(value)} /> {words}
        </label>
      ))}
    </fieldset>
  );
}

/** The cards of the ready sets of rules. */
function Begin(props: { templates: RuleTemplate[]; chosen: string; choose: (template: RuleTemplate) => void }) {
  return (
    <section class="card">
      <h2>{t.create.begin}</h2>
      <p class="soft">{t.create.beginHint}</p>
      <div class="templates" role="radiogroup" aria-label={t.create.begin}>
        {props.templates.map((template) => (
          <label class="template" key={template.name} data-template={template.name}>
            <input type="radio" name="template" checked={template.name === props.chosen} onChange={() => props.choose(template)} />
            <span>
              <strong>{template.title}</strong>{" "}
              {!template.title.includes(t.format[template.rules.format] ?? "") && <span class="format">{t.format[template.rules.format]}</span>}
              <span class="soft block">{template.used}</span>
            </span>
          </label>
        ))}
      </div>
    </section>
  );
}

/** A time for a field of local time. */
function localTime(at: string): string {
  const date = new Date(at);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** What belongs to the tender, from its plain fields. */
function head(form: FormData, errors: Errors): Record<string, unknown> {
  const text = (name: string) => String(form.get(name) ?? "").trim();
  if (text("title") === "") errors["/title"] = t.create.needed;
  let opensAt: string | null = null;
  if (text("when") === "time") {
    const at = new Date(text("opens_at"));
    if (Number.isNaN(at.getTime())) errors["/opens_at"] = t.create.needed;
    else opensAt = at.toISOString();
  }
  const seconds = (mode: string, name: string) => {
    if (text("lot_mode") !== mode) return 0;
    const value = whole(text(name));
    if (value === undefined) errors[`/${name}`] = t.create.wholeNumber;
    return value ?? 0;
  };
  return {
    title: text("title"),
    description: text("description"),
    reference: text("reference"),
    currency: text("currency"),
    access: text("access"),
    public: form.get("public") !== null,
    anonymous_to_buyer: form.get("anonymous_to_buyer") !== null,
    opens_at: opensAt,
    terms: text("terms") === "" ? null : text("terms"),
    lot_mode: text("lot_mode") || "parallel",
    stagger_s: seconds("staggered", "stagger_s"),
    serial_gap_s: seconds("serial", "serial_gap_s"),
  };
}

function Form(props: { table: Table; templates: RuleTemplate[]; draft?: Tender }) {
  const { table, templates, draft } = props;
  const first = templates[0] ?? PLAIN;
  const [chosen, setChosen] = useState(first);
  const [values, setValues] = useState(() => valuesOf(first.rules as unknown as RulesObject, table));
  const [lots, setLots] = useState<LotDraft[]>(() => (draft === undefined ? [emptyLot()] : lotsOf(draft)));
  const [errors, setErrors] = useState<Errors>({});
  const [problem, setProblem] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const [when, setWhen] = useState(draft?.opens_at == null ? "hand" : "time");
  const [mode, setMode] = useState(draft?.lot_mode ?? "parallel");
  const { format } = chosen.rules;
  const names = table.prices(format, values);
  const choose = (template: RuleTemplate) => {
    setChosen(template);
    setValues(valuesOf(template.rules as unknown as RulesObject, table));
    setErrors({});
    setProblem(undefined);
  };
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const found: Errors = {};
    const tender = head(new FormData(form), found);
    const body = {
      ...tender,
      lots: lots.map((lot, at) => {
        if (lot.title.trim() === "") found[`/lots/${at}/title`] = t.create.needed;
        const quantity = read(lot.quantity);
        if (quantity === undefined) found[`/lots/${at}/items/0/quantity`] = t.create.priceForm;
        const base = chosen.name === "kept" && lot.base !== undefined ? lot.base : (chosen.rules as unknown as RulesObject);
        const item = { description: lot.description.trim() || lot.title.trim(), quantity, unit: lot.unit.trim() };
        return { title: lot.title.trim(), items: [item, ...lot.items.slice(1)], rules: build(base, table, format, values, lot.prices, at, found) };
      }),
    };
    const look = () => requestAnimationFrame(() => form.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
    setProblem(undefined);
    setErrors(found);
    if (Object.keys(found).length > 0) return void look();
    setBusy(true);
    try {
      const saved =
        draft === undefined
          ? await call<Tender>("POST", "/v1/tenders", { body, key: newKey() })
          : await call<Tender>("PATCH", `/v1/tenders/${draft.id}`, { body, version: draft.version });
      go(`/tenders/${saved.id}`);
    } catch (failure) {
      setErrors(errorsOf(failure, names));
      setProblem(failure);
      setBusy(false);
      look();
    }
  };
  // Errors of fields that are on the page are shown there, all others in one list.
  const shared = PARTS.flatMap(({ fields }) => table.shown(fields, format, values)).map(({ name }) => pointerOf(name));
  const here = (pointer: string) =>
    /^\/(title|currency|description|reference|opens_at|terms|lot_mode|stagger_s|serial_gap_s)$/.test(pointer) ||
    /^\/lots\/\d+\/(title|items\/0\/(description|quantity|unit))$/.test(pointer) ||
    shared.some((known) => pointer === known || pointer.startsWith(`${known}/`)) ||
    (/^\/lots\/\d+\//.test(pointer) && place(pointer, names) === pointer && pointer.includes("/rules/"));
  const elsewhere = Object.entries(errors).filter(([pointer]) => !here(pointer));
  const same = (lot: LotDraft) => lot.base === undefined || JSON.stringify(valuesOf(lot.base, table)) === JSON.stringify(valuesOf(lots[0]?.base ?? lot.base, table));
  const change = (name: string, value: string) => setValues((old) => ({ ...old, [name]: value }));
  const part = (name: string) => {
    const fields = table.shown(PARTS.find((candidate) => candidate.part === name)?.fields ?? [], format, values);
    return fields.map((field) => <RuleInput key={field.name} field={field} table={table} values={values} errors={errors} change={change} />);
  };
  const moreWrong = table.shown(PARTS.find((candidate) => candidate.part === "more")?.fields ?? [], format, values).some(({ name }) => errors[pointerOf(name)] !== undefined);
  return (
    <form class="create" onSubmit={submit} noValidate data-form="create" data-format={format}>
      <p>
        <a href={draft === undefined ? "/" : `/tenders/${draft.id}`}>{draft === undefined ? t.tender.back : draft.title}</a>
      </p>
      <h1>{draft === undefined ? t.create.title : t.create.editTitle}</h1>
      <p class="lede">{t.create.lede}</p>
      {lots.some((lot) => !same(lot)) && <p class="notice warn">{t.create.mixedRules}</p>}
      <Begin templates={templates} chosen={chosen.name} choose={choose} />
      <section class="card">
        <h2>{t.create.about}</h2>
        <div class="grid halves">
          <Field label={t.create.tenderTitle} name="title" error={errors["/title"]} input={{ maxLength: 200, placeholder: t.create.tenderTitleExample, autocomplete: "off", defaultValue: draft?.title ?? "" }} />
          <Field label={t.create.currency} name="currency" error={errors["/currency"]}>
            {(ids) => (
              <select name="currency" {...ids}>
                {[...new Set([draft?.currency ?? "SAR", ...CURRENCIES])].map((code) => (
                  <option key={code}>{code}</option>
                ))}
              </select>
            )}
          </Field>
          <Field label={t.create.description} name="description" error={errors["/description"]} input={{ maxLength: 10_000, autocomplete: "off", defaultValue: draft?.description ?? "" }} />
          <Field label={t.create.reference} name="reference" error={errors["/reference"]} input={{ maxLength: 200, autocomplete: "off", defaultValue: draft?.reference ?? "" }} />
        </div>
        <div class="grid two">
          <div>
            <Choice legend={t.create.who} name="access" chosen={draft?.access ?? "invited"} options={[["invited", t.create.invited], ["open", t.create.open]]} />
            <label class="check">
              <input type="checkbox" name="public" defaultChecked={draft?.public ?? false} /> {t.create.publicTender}
            </label>
            <label class="check">
              <input type="checkbox" name="anonymous_to_buyer" defaultChecked={draft?.anonymous_to_buyer ?? false} /> {t.create.anonymous}
            </label>
          </div>
          <div>
            <Choice legend={t.create.when} name="when" chosen={when} options={[["hand", t.create.byHand], ["time", t.create.atTime]]} change={setWhen} />
            {when === "time" && (
              <Field label={t.create.opensAt} name="opens_at" error={errors["/opens_at"]} input={{ type: "datetime-local", step: 1, defaultValue: draft?.opens_at == null ? "" : localTime(draft.opens_at) }} />
            )}
          </div>
        </div>
        <Field label={t.create.terms} name="terms" error={errors["/terms"]}>
          {(ids) => <textarea name="terms" rows={2} maxLength={10_000} {...ids} defaultValue={draft?.terms ?? ""} />}
        </Field>
      </section>
      <section>
        <h2>{t.tender.lots}</h2>
        <p class="soft">{t.create.lotsHint}</p>
        {lots.map((lot, at) => (
          <LotFields
            key={lot.key}
            lot={lot}
            at={at}
            format={format}
            names={names}
            examples={pricesOf(chosen.rules as unknown as RulesObject)}
            errors={errors}
            change={(changed) => setLots((old) => old.map((other) => (other.key === lot.key ? changed : other)))}
            {...(lots.length > 1 ? { remove: () => setLots((old) => old.filter((other) => other.key !== lot.key)) } : {})}
          />
        ))}
        <div class="row top">
          <button type="button" onClick={() => setLots((old) => [...old, emptyLot()])} data-action="add-lot">
            {t.create.addLot}
          </button>
        </div>
        {lots.length > 1 && (
          <div class="grid two">
            <Field label={t.create.lotMode} name="lot_mode" error={errors["/lot_mode"]}>
              {(ids) => (
                <select name="lot_mode" {...ids} value={mode} onChange={(event) => setMode(event.currentTarget.value)}>
                  {Object.entries(t.create.word["lot_mode"] ?? {}).map(([word, words]) => (
                    <option value={word} key={word}>
                      {words}
                    </option>
                  ))}
                </select>
              )}
            </Field>
            {mode === "staggered" && <Field label={t.create.stagger} name="stagger_s" error={errors["/stagger_s"]} input={{ class: "figure", inputMode: "numeric", defaultValue: String(draft?.stagger_s ?? 60) }} />}
            {mode === "serial" && <Field label={t.create.serialGap} name="serial_gap_s" error={errors["/serial_gap_s"]} input={{ class: "figure", inputMode: "numeric", defaultValue: String(draft?.serial_gap_s ?? 0) }} />}
          </div>
        )}
      </section>
      <section class="card">
        <h2>
          {t.create.rules} <span class="format">{t.format[format]}</span>
        </h2>
        <p class="soft">{t.create.rulesHint}</p>
        <div class="grid two">
          <div>
            <h3>{t.create.parts["time"]}</h3>
            {part("time")}
            {part("bids").length > 0 && <h3>{t.create.parts["bids"]}</h3>}
            {part("bids")}
          </div>
          <div>
            <h3>{t.create.parts["sees"]}</h3>
            {part("sees")}
            <h3>{t.create.parts["award"]}</h3>
            {part("award")}
            <details open={moreWrong}>
              <summary>{t.create.parts["more"]}</summary>
              {part("more")}
            </details>
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
        <a class="button quiet" href={draft === undefined ? "/" : `/tenders/${draft.id}`}>
          {t.cancel}
        </a>
        <button type="submit" class="primary" disabled={busy}>
          {draft === undefined ? t.create.submit : t.create.save}
        </button>
      </div>
    </form>
  );
}

/** The pages «New tender» and «Edit the draft». */
export function CreateTender(props: { id?: string }) {
  const { id } = props;
  useTitle(id === undefined ? t.create.title : t.create.editTitle);
  const [loaded, setLoaded] = useState<{ table: Table; templates: RuleTemplate[]; draft?: Tender }>();
  const [problem, setProblem] = useState<unknown>();
  const load = async () => {
    setProblem(undefined);
    try {
      const [{ items: rules }, { items: templates }, draft] = await Promise.all([
        call<Page<RuleRow>>("GET", "/v1/rules"),
        call<Page<RuleTemplate>>("GET", "/v1/rule-templates"),
        id === undefined ? undefined : call<Tender>("GET", `/v1/tenders/${id}`),
      ]);
      const own = draft?.lots[0]?.rules;
      const kept = own === undefined ? [] : [{ name: "kept", title: t.create.kept, used: t.create.keptUsed, rules: own }];
      setLoaded({ table: new Table(rules), templates: [...kept, PLAIN, ...templates], ...(draft === undefined ? {} : { draft }) });
    } catch (failure) {
      setProblem(failure);
    }
  };
  useEffect(() => void load(), [id]);
  if (loaded === undefined) return problem === undefined ? <p class="soft">{t.loading}</p> : <Trouble problem={problem} again={() => void load()} />;
  const formats = new Set((loaded.draft?.lots ?? []).map((lot) => lot.rules.format));
  if (formats.size > 1) return <p class="notice">{t.create.mixedFormats}</p>;
  return <Form {...loaded} />;
}
