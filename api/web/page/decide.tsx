// After the close: the result, and the buyer's decision.

import { useEffect, useState } from "preact/hooks";
import type { LotState, LotView } from "../feed.ts";
import { compare } from "../decimal.ts";
import { day, money } from "../format.ts";
import { type Bidder, call, type Result, type Rules } from "../rest.ts";
import { t } from "../texts.ts";
import { Ask, Trouble } from "./parts.tsx";
import { nameOf } from "./tender.tsx";

/** Who a number is, as far as this reader knows. */
export function whoIs(number: number | undefined | null, bidders: Bidder[], own?: number): string {
  if (number == null) return t.event.somebody;
  const bidder = bidders.find((candidate) => candidate.number === number);
  const name = bidder === undefined ? t.bidder(number) : nameOf(bidder);
  return number === own ? `${name} (${t.you})` : name;
}

/** The result of a lot that has ended; for its buyer with the buttons to decide. */
export function Decision(props: { view: LotView; state: LotState; owner: boolean; bidders: Bidder[]; rules: Rules | undefined }) {
  const { view, state, owner, bidders, rules } = props;
  const [result, setResult] = useState<Result>();
  const [problem, setProblem] = useState<unknown>();
  const [asking, setAsking] = useState<{ action: "award" | "reject"; bidder: number; first: boolean }>();
  const load = () => call<Result>("GET", `/v1/lots/${state.lot}/result`).then((loaded) => (setResult(loaded), setProblem(undefined)), setProblem);
  useEffect(() => void load(), [state.lot, state.stage, view.seq]);
  const price = (value: string) => money(value, state.currency, state.price_scale);
  const who = (number: number) => whoIs(number, bidders, view.you?.number);
  const ranking = result?.ranking ?? [];
  const first = ranking.find((row) => row.rejected !== true)?.bidder;
  const own = ranking.find((row) => row.bidder === view.you?.number);
  const winner = result?.winner ?? undefined;
  const name = result?.winner_name;
  const won = result?.won === true || (state.stage === "awarded" && winner !== undefined && winner === view.you?.number);
  const pays = result?.pays ?? undefined;
  const verdict =
    state.stage === "cancelled" ? t.decide.cancelled
    : state.stage === "unsuccessful" ? t.decide.noResult
    : state.stage === "closed" ? (owner ? t.decide.hint : t.decide.waiting)
    : !owner && won ? (pays === undefined ? t.decide.wonPlain : t.decide.won(price(pays)))
    : winner !== undefined && pays !== undefined ? t.decide.winner(name ?? who(winner), price(pays))
    : name !== undefined && pays !== undefined ? t.decide.winner(name, price(pays))
    : t.decide.lost;
  const until =
    state.stage === "closed" && rules?.decision_s != null && result?.closed_at != null ? Date.parse(result.closed_at) + rules.decision_s * 1_000 : undefined;
  const scored = ranking.some((row) => row.effective !== undefined && row.price !== undefined && compare(row.effective, row.price) !== 0);
  const act = async (reason: string) => {
    if (asking === undefined) return;
    const path = asking.action === "award" ? "award" : "award/reject";
    await call("POST", `/v1/lots/${state.lot}/${path}`, { body: { bidder: asking.bidder, ...(reason === "" ? {} : { reason }) } });
    await load();
  };
  return (
    <section class={`card decision ${won ? "won" : ""}`} data-part="decision" data-stage={state.stage}>
      <h2>{state.stage === "closed" && owner ? t.decide.title : t.decide.result}</h2>
      <p role="status" class={won ? "verdict good" : "verdict"}>
        {verdict}
      </p>
      {until !== undefined && <p class="soft">{t.decide.until(day(until))}</p>}
      {owner && (result?.flags ?? []).includes("abnormally_low") && <p class="notice warn">{t.decide.abnormallyLow}</p>}
      {!owner && own?.rank !== undefined && ranking.length === 1 && <p class="soft">{t.decide.place(own.rank)}</p>}
      {ranking.length > 0 && (owner || ranking.length > 1) && (
        <table class="ranking">
          <thead>
            <tr>
              <th scope="col">{t.lot.boardRank}</th>
              <th scope="col">{t.lot.boardBidder}</th>
              <th scope="col" class="figure">
                {t.lot.boardPrice}
              </th>
              {owner && state.stage === "closed" && <th />}
            </tr>
          </thead>
          <tbody>
            {ranking.map((row) => (
              <tr key={row.bidder} class={row.rejected === true ? "rejected" : ""}>
                <td>
                  {row.rank}
                  {row.tied === true && <span class="badge">{t.lot.tied}</span>}
                </td>
                <td>
                  {who(row.bidder ?? 0)}
                  {row.rejected === true && <span class="badge">{t.decide.rejected}</span>}
                  {state.stage === "awarded" && row.bidder === winner && <span class="badge good">{t.stage["awarded"]}</span>}
                </td>
                <td class="figure">
                  {row.price === undefined ? "–" : price(row.price)}
                  {scored && row.effective !== undefined && <span class="soft block effective">{t.lot.ranksAs(price(row.effective))}</span>}
                </td>
                {owner && state.stage === "closed" && (
                  <td class="row end">
                    {row.rejected !== true && row.bidder !== undefined && (
                      <>
                        <button
                          type="button"
                          class={row.bidder === first ? "primary" : ""}
                          data-action="award"
                          onClick={() => setAsking({ action: "award", bidder: row.bidder ?? 0, first: row.bidder === first })}
                        >
                          {t.decide.award}
                        </button>
                        <button type="button" class="quiet" data-action="reject" onClick={() => setAsking({ action: "reject", bidder: row.bidder ?? 0, first: false })}>
                          {t.decide.reject}
                        </button>
                      </>
                    )}
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <Trouble problem={problem} again={() => void load()} />
      {asking !== undefined && (
        <Ask
          title={asking.action === "award" ? t.decide.awardTitle(who(asking.bidder)) : t.decide.rejectTitle(who(asking.bidder))}
          action={asking.action === "award" ? t.decide.doAward : t.decide.doReject}
          danger={asking.action === "reject"}
          reason={asking.action === "award" && asking.first ? "optional" : "needed"}
          onClose={() => setAsking(undefined)}
          act={({ reason }) => act(reason)}
        />
      )}
    </section>
  );
}
