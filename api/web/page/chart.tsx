// The price over time, drawn from the steps of a lot: the lead (or the price of step and level) as a line, single bids
// as dots.

import type { LotView } from "../feed.ts";
import { compare, show, thousandths } from "../decimal.ts";
import { clock } from "../format.ts";
import { t } from "../texts.ts";

const [WIDTH, HEIGHT] = [1_000, 240];

/** The plot; text beside it tells the same to those who don't see it. */
export function Chart(props: { view: LotView }) {
  const { steps, state } = props.view;
  const bids = steps.flatMap((step) =>
    step.ev.flatMap((event) => (event.type === "bid" && event.price !== undefined ? [{ at: Date.parse(step.at), price: event.price, seq: step.seq }] : [])),
  );
  // In dutch and japanese lots the line is the price of the step or level.
  const laddered = state?.format === "dutch" || state?.format === "japanese";
  const leads = steps.flatMap((step) => {
    const offered = step.ev.find((event) => event.type === "step" || event.type === "level");
    const price = laddered ? offered?.price : step.lead;
    return price == null ? [] : [{ at: Date.parse(step.at), price }];
  });
  const points = leads.length > 0 ? leads : bids;
  const scale = state?.price_scale ?? 2;
  if (points.length === 0 || state === undefined) return <p class="soft">{laddered ? t.lot.chartPriceNone : t.lot.chartNone}</p>;
  const prices = [...points, ...bids].map((point) => point.price);
  const high = prices.reduce((a, b) => (compare(a, b) < 0 ? b : a));
  const low = prices.reduce((a, b) => (compare(a, b) > 0 ? b : a));
  const start = Math.min(...[...points, ...bids].map((point) => point.at));
  const end = Math.max(start + 1_000, ...[...points, ...bids].map((point) => point.at));
  const x = (at: number) => Math.round(((at - start) / (end - start)) * WIDTH);
  const y = (price: string) => HEIGHT - Math.round((thousandths(price, low, high) / 1_000) * HEIGHT);
  const line = points.map((point, at) => (at === 0 ? `M${x(point.at)} ${y(point.price)}` : `H${x(point.at)}V${y(point.price)}`)).join("") + `H${WIDTH}`;
  return (
    <figure class="chart" role="img" aria-label={`${t.lot.chart}: ${show(high, scale)} → ${show(low, scale)}`}>
      <div class="axis" aria-hidden="true">
        <span>{show(high, scale)}</span>
        <span>{show(low, scale)}</span>
      </div>
      <svg viewBox={`0 -8 ${WIDTH} ${HEIGHT + 16}`} preserveAspectRatio="none" aria-hidden="true">
        {[0, 0.5, 1].map((part) => (
          <line key={part} class="rule" x1="0" x2={WIDTH} y1={part * HEIGHT} y2={part * HEIGHT} />
        ))}
        {leads.length > 0 && <path class="under" d={`${line}V${HEIGHT}H${x(points[0]?.at ?? start)}Z`} />}
        {leads.length > 0 && <path class="line" d={line} />}
        {bids.map((bid) => (
          // A dot that stays round however wide the plot is: a line of no length with a round cap.
          <path key={`${bid.seq}-${bid.price}`} class="dot" d={`M${x(bid.at)} ${y(bid.price)}h0.01`} />
        ))}
      </svg>
      <div class="axis times" aria-hidden="true">
        <span>{clock(start)}</span>
        <span>{clock(end)}</span>
      </div>
    </figure>
  );
}
