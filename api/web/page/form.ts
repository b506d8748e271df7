// The form of a lot's rules as data: which rule has which kind of field, and the way from what was typed to a rules
// object and back. Which rule goes with which format, its words and defaults come from the server's table of rules.
// Prices and percentages stay strings; only times and counts become numbers.

import { read } from "../decimal.ts";
import { fromSeconds, toSeconds, whole } from "../format.ts";
import type { RuleRow, Rules, RuleTemplate } from "../rest.ts";
import { t } from "../texts.ts";

/** What was typed or chosen, by the rule's name in the table. */
export type Values = Record<string, string>;
export type Errors = Record<string, string>;
/** A set of rules as the server takes it. */
export type RulesObject = Record<string, unknown>;

/** How a rule is asked for. A flag is `"true"` or `""`. */
export type Kind = "minutes" | "seconds" | "count" | "price" | "percent" | "word" | "flag";

export interface RuleField {
  name: string;
  kind: Kind;
  /** Whether it matters, given the others. */
  when?: (values: Values) => boolean;
}

const field = (name: string, kind: Kind, when?: RuleField["when"]): RuleField => (when === undefined ? { name, kind } : { name, kind, when });
const late = (values: Values) => values["overtime"] === "true";

/** The rules that all lots of the form share, by part of the form. */
export const PARTS: { part: string; fields: RuleField[] }[] = [
  {
    part: "time",
    fields: [
      field("duration_s", "minutes"),
      field("dutch.interval_s", "seconds"),
      field("japanese.interval_s", "seconds"),
      field("rounds.count", "count"),
      field("rounds.turn_s", "seconds"),
      field("rounds.pause_s", "seconds"),
      field("rounds.lead_in_s", "seconds"),
      field("rounds.announce_s", "seconds"),
      field("overtime", "flag"),
      field("overtime.window_s", "minutes", late),
      field("overtime.length_s", "minutes", late),
      field("overtime.trigger", "word", late),
      field("overtime.rank", "count", (values) => late(values) && values["overtime.trigger"] === "rank"),
      field("overtime.mode", "word", late),
      field("overtime.scope", "word", late),
    ],
  },
  {
    part: "bids",
    fields: [
      field("sealed.pricing", "word"),
      field("improvement", "word"),
      field("buffer.front", "price", (values) => values["improvement"] === "own_and_buffer"),
      field("buffer.back", "price", (values) => values["improvement"] === "own_and_buffer"),
      field("decrement.kind", "word"),
      field("decrement.value", "percent", (values) => values["decrement.kind"] === "percent"),
      field("prebid", "word"),
      field("auto_bid", "flag"),
      field("all_or_nothing", "flag"),
    ],
  },
  {
    part: "sees",
    fields: [
      field("visibility.lead", "word"),
      field("visibility.rank", "flag"),
      field("visibility.bidder_count", "flag"),
      field("visibility.board", "flag"),
      field("visibility.light", "flag"),
      field("near_percent", "percent", (values) => values["visibility.light"] === "true"),
      field("reserve.shown", "flag"),
    ],
  },
  {
    part: "award",
    fields: [field("award", "word"), field("decision_s", "minutes", (values) => values["award"] === "manual"), field("min_bidders", "count")],
  },
  {
    part: "more",
    fields: [
      field("tick", "price"),
      field("max_step", "price"),
      field("max_bids", "count"),
      field("guard_percent", "percent"),
      field("tie_rank", "word"),
      field("tie_free_ranks", "count"),
    ],
  },
];

/** The prices that each lot has of its own. */
export const LOT_PRICES = ["dutch.start", "japanese.start", "dutch.step", "japanese.step", "ceiling", "japanese.floor", "decrement.value", "reserve.price"];

const ALL_FIELDS = PARTS.flatMap(({ fields }) => fields);

/** The server's table of rules, by name. */
export class Table {
  readonly #rows: Map<string, RuleRow>;

  constructor(rows: RuleRow[]) {
    this.#rows = new Map(rows.map((row) => [row.name, row]));
  }
  row(name: string): RuleRow | undefined {
    return this.#rows.get(name);
  }
  allows(name: string, format: string): boolean {
    // Rounds always begin with bids of before the opening.
    if (name === "prebid" && format === "rounds") return false;
    return this.row(name)?.formats.includes(format) === true;
  }
  /** Whether a lot of this format can't be without it. */
  needs(name: string, format: string): boolean {
    return (this.row(name)?.required === true && name !== "reserve.price" && name !== "decrement.value") || (name === "ceiling" && format === "dutch");
  }
  /** The shared fields that matter now. */
  shown(fields: RuleField[], format: string, values: Values): RuleField[] {
    return fields.filter(({ name, when }) => this.allows(name, format) && (when === undefined || when(values)));
  }
  /** The prices of a lot that matter now. */
  prices(format: string, values: Values): string[] {
    return LOT_PRICES.filter((name) => this.allows(name, format) && (name !== "decrement.value" || values["decrement.kind"] === "amount"));
  }
}

function get(rules: RulesObject, name: string): unknown {
  return name.split(".").reduce<unknown>((at, part) => (at as RulesObject | null | undefined)?.[part], rules);
}

function set(rules: RulesObject, name: string, value: unknown): void {
  const [block = "", member] = name.split(".");
  if (member === undefined) rules[block] = value;
  else rules[block] = { ...((rules[block] as RulesObject | null | undefined) ?? {}), [member]: value };
}

/** A rule as it stands in its field. */
function typed(value: unknown, kind: Kind): string {
  if (value === undefined || value === null || value === false) return "";
  if (kind === "minutes" && typeof value === "number") return fromSeconds(value);
  return String(value);
}

/** What the shared fields show for a set of rules. */
export function valuesOf(rules: RulesObject, table: Table): Values {
  const values: Values = {};
  for (const { name, kind } of ALL_FIELDS) {
    const there = get(rules, name);
    // A block that is not there has no members: its fields show what they would be by default.
    const value = there === undefined && name !== "overtime" ? table.row(name)?.default : there;
    values[name] = typed(value, kind);
  }
  values["overtime"] = rules["overtime"] == null ? "" : "true";
  values["decrement.kind"] = typed(get(rules, "decrement.kind"), "word") || "amount";
  if (values["decrement.kind"] !== "percent") values["decrement.value"] = "";
  return values;
}

/** What the price fields of a lot show. */
export function pricesOf(rules: RulesObject): Values {
  const values: Values = {};
  for (const name of LOT_PRICES) values[name] = typed(get(rules, name), "price");
  if (get(rules, "decrement.kind") !== "amount") values["decrement.value"] = "";
  return values;
}

function value(text: string, kind: Kind): unknown {
  if (kind === "flag") return text === "true";
  if (kind === "word") return text;
  if (kind === "price" || kind === "percent") return read(text);
  return kind === "minutes" ? toSeconds(text) : whole(text);
}

const WRONG: Partial<Record<Kind, string>> = { price: t.create.priceForm, percent: t.create.priceForm, minutes: t.create.wholeNumber, seconds: t.create.wholeNumber, count: t.create.wholeNumber };

/** Where a rule's error is shown: `/rules/…` for what all lots share. */
export function pointerOf(name: string): string {
  return `/rules/${name.replace(".", "/")}`;
}

/**
 * The rules of a lot: those of `base`, with what the fields say. What the form does not ask for stays as it is in
 * `base`. Mistakes are told under the pointer of their field; `lot` is the lot's place.
 */
export function build(base: RulesObject, table: Table, format: string, shared: Values, prices: Values, lot: number, errors: Errors): RulesObject {
  const rules: RulesObject = structuredClone(base);
  const put = (name: string, kind: Kind, text: string, pointer: string) => {
    if (text.trim() === "" && kind !== "flag") {
      if (table.needs(name, format)) errors[pointer] = t.create.needed;
      else set(rules, name, null);
      return;
    }
    const read = value(text, kind);
    if (read === undefined) errors[pointer] = WRONG[kind] ?? t.create.needed;
    else set(rules, name, read);
  };
  if (shared["overtime"] !== "true") delete rules["overtime"];
  if (shared["improvement"] !== "own_and_buffer") delete rules["buffer"];
  if (shared["award"] === "automatic") delete rules["decision_s"];
  const kind = shared["decrement.kind"] ?? "amount";
  if (!table.allows("decrement", format)) delete rules["decrement"];
  // A table of steps is kept as it is.
  else if (kind !== "table") rules["decrement"] = { kind };
  for (const { name, kind: asked } of ALL_FIELDS.filter(({ name }) => !["overtime", "decrement.kind", "decrement.value", "reserve.shown"].includes(name))) {
    const { when } = ALL_FIELDS.find((other) => other.name === name) as RuleField;
    if (table.allows(name, format) && (when === undefined || when(shared))) put(name, asked, shared[name] ?? "", pointerOf(name));
  }
  if (kind === "percent") put("decrement.value", "percent", shared["decrement.value"] ?? "", pointerOf("decrement.value"));
  for (const name of table.prices(format, shared)) {
    const text = prices[name] ?? "";
    const pointer = `/lots/${lot}${pointerOf(name)}`;
    if (name === "reserve.price" && text.trim() === "") delete rules["reserve"];
    else if (name === "decrement.value" && text.trim() === "") delete rules["decrement"];
    else put(name, "price", text, pointer);
  }
  if (rules["reserve"] != null) set(rules, "reserve.shown", shared["reserve.shown"] === "true");
  return rules;
}

/** Plain rules to begin with, before a ready set is chosen. */
export const PLAIN: RuleTemplate = {
  name: "plain",
  title: t.create.plain,
  used: t.create.plainUsed,
  rules: {
    format: "english",
    duration_s: 1_200,
    improvement: "own",
    overtime: { window_s: 120, length_s: 120, mode: "reset", trigger: "lead", rank: 1, scope: "lot" },
    visibility: { lead: "always", rank: true, board: false, light: false, bidder_count: true },
    decrement: { kind: "amount" },
    prebid: "none",
    auto_bid: false,
    award: "manual",
  } as Rules,
};
