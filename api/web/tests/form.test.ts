// The form of rules: what is shown goes with the format, what is typed arrives exactly, what it does not ask for stays.
import assert from "node:assert/strict";
import { test } from "node:test";
import { build, type Errors, pricesOf, type RulesObject, Table, valuesOf } from "../page/form.ts";
import type { RuleRow } from "../rest.ts";

const row = (name: string, formats: string[], more: Partial<RuleRow> = {}): RuleRow => ({ name, type: "", default: null, required: false, valid: "", formats, ...more });
const table = new Table([
  row("duration_s", ["english", "sealed"], { required: true }),
  row("ceiling", ["english", "dutch"]),
  row("reserve", ["english", "dutch"]),
  row("reserve.price", ["english", "dutch"], { required: true }),
  row("reserve.shown", ["english", "dutch"], { default: false }),
  row("improvement", ["english"], { default: "own" }),
  row("buffer.front", ["english"], { required: true }),
  row("buffer.back", ["english"], { required: true }),
  row("decrement", ["english"]),
  row("decrement.kind", ["english"]),
  row("decrement.value", ["english"], { required: true }),
  row("overtime", ["english"]),
  row("overtime.window_s", ["english"], { required: true }),
  row("tick", ["english"]),
  row("award", ["english", "dutch"], { default: "manual" }),
  row("decision_s", ["english", "dutch"]),
  row("dutch.start", ["dutch"], { required: true }),
  row("dutch.step", ["dutch"], { required: true }),
  row("dutch.interval_s", ["dutch"], { required: true }),
]);

test("what the form shows and nobody changes is built again as it was", () => {
  const rules: RulesObject = {
    format: "english", duration_s: 37, ceiling: "90071992547409.93", reserve: { price: "700.10", shown: true }, improvement: "own_and_buffer",
    buffer: { front: "10.00", back: "0.00" }, decrement: { kind: "amount", value: "0.25" }, overtime: { window_s: 45, rank: 2 }, tick: "0.25",
    award: "manual", decision_s: 90, outage_grace_s: 5, features: [{ id: "q", max: "0.1" }],
  };
  const errors: Errors = {};
  assert.deepEqual(build(rules, table, "english", valuesOf(rules, table), pricesOf(rules), 0, errors), rules);
  assert.deepEqual(errors, {});
});

test("what is missing or no price is told at its field", () => {
  const rules: RulesObject = { format: "dutch", dutch: { interval_s: 60 }, award: "automatic" };
  const errors: Errors = {};
  const shared = { ...valuesOf(rules, table), "dutch.interval_s": "1.5" };
  build(rules, table, "dutch", shared, { "dutch.start": "1,5", ceiling: "", "reserve.price": "" }, 2, errors);
  assert.deepEqual(Object.keys(errors).sort(), ["/lots/2/rules/ceiling", "/lots/2/rules/dutch/start", "/lots/2/rules/dutch/step", "/rules/dutch/interval_s"]);
});

test("what no longer matters is left out", () => {
  const rules: RulesObject = { format: "english", duration_s: 60, improvement: "own_and_buffer", buffer: { front: "1", back: "0" }, overtime: { window_s: 5 }, decision_s: 60, award: "manual", decrement: { kind: "percent", value: "0.5" } };
  const values = { ...valuesOf(rules, table), improvement: "own", overtime: "", award: "automatic", "decrement.kind": "amount" };
  const built = build(rules, table, "english", values, { ceiling: " 1,250.50 ", "decrement.value": "" }, 0, {});
  assert.deepEqual(built, { format: "english", duration_s: 60, improvement: "own", award: "automatic", ceiling: "1250.50", tick: null });
});
