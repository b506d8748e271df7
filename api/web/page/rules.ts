// The rules of a lot in sentences, for whoever bids under them.

import { minutes } from "../format.ts";
import type { Rules } from "../rest.ts";
import { t } from "../texts.ts";

/** Short times in seconds, longer ones in minutes. */
function lasting(seconds: number): string {
  return seconds < 120 ? t.seconds(seconds) : t.minutes(minutes(seconds));
}

function steps(rules: Rules, money: (price: string) => string): string | undefined {
  const { kind, value } = rules.decrement ?? {};
  if (kind === "table") return t.rule.stepTable;
  if (value === undefined) return undefined;
  return kind === "percent" ? t.rule.stepPercent(value) : t.rule.step(money(value));
}

/** One sentence a rule. `money` writes a price with its currency. */
export function inWords(rules: Rules, money: (price: string) => string): string[] {
  const { format, dutch, japanese, rounds, overtime } = rules;
  const bids = format === "english" || format === "rounds";
  const improvement = bids ? [t.rule.improvement[rules.improvement] ?? rules.improvement, steps(rules, money)].filter(Boolean).join(", ") : undefined;
  const late = overtime == null ? t.rule.noOvertime : (overtime.mode === "add" ? t.rule.overtimeAdd : t.rule.overtime)(lasting(overtime.window_s), lasting(overtime.length_s));
  return [
    format === "sealed" ? t.rule.sealed[rules.sealed?.pricing ?? "first"] : undefined,
    dutch == null ? undefined : t.rule.dutch(money(dutch.start), money(dutch.step), lasting(dutch.interval_s)),
    japanese == null ? undefined : t.rule.japanese(money(japanese.start), money(japanese.step), lasting(japanese.interval_s), money(japanese.floor)),
    format === "rounds" ? t.rule.rounds(rounds?.count ?? 3, lasting(rounds?.turn_s ?? 120), lasting(rounds?.pause_s ?? 120)) : undefined,
    improvement,
    rules.ceiling == null ? undefined : t.rule.ceiling(money(rules.ceiling)),
    rules.floor == null ? undefined : t.rule.floor(money(rules.floor)),
    rules.reserve == null ? undefined : t.rule.target(money(rules.reserve.price)),
    rules.tick == null ? undefined : t.rule.tick(money(rules.tick)),
    rules.max_bids == null ? undefined : t.rule.maxBids(rules.max_bids),
    format === "english" ? late : undefined,
    rules.auto_bid ? t.rule.autoBid : undefined,
    format === "dutch" || format === "japanese" ? undefined : t.rule.prebid[rules.prebid],
    rules.award === "automatic" ? t.rule.automatic : undefined,
    rules.decision_s == null ? undefined : t.rule.decision(lasting(rules.decision_s)),
  ].filter((line) => line !== undefined);
}
