/**
 * Small pictures that the server draws: the bar of a mailbox's last day, and the line of a number's last hours. Each has
 * its text. Heights and gaps say the same as colours, for those who see no colours.
 */
import { html } from "hono/html";
import { TICK_MS, TICK_STATES, type TickState } from "../../../../shared/store/measured/state-entries.ts";
import type { Html } from "../../html.ts";
import type { Tick } from "./day.ts";
import { type Tone, wordOf } from "../states.ts";

/** What a bar and its ticks show. */
export const BAR_SPAN = "last 24 h, 15 min per tick";

const TICK_WIDTH = 2;
const HEIGHT = 16;
/** `boxes`: top and height of each. `dashed`: with gaps between the ticks. */
type Look = { tone: Tone; boxes: readonly (readonly [top: number, height: number])[]; dashed?: true };
const GOOD: Look = { tone: "good", boxes: [[8, 8]] };
const WARN: Look = { tone: "warn", boxes: [[4, 12]] };
const UNKNOWN: Look = { tone: "off", boxes: [[13, 3]] };
const LOOKS: Record<TickState, Look> = {
  syncing: GOOD,
  listening: GOOD,
  polling: GOOD,
  initializing: UNKNOWN,
  unverified: UNKNOWN,
  throttled: WARN,
  reconnecting: WARN,
  needs_attention: { tone: "bad", boxes: [[0, 16]] },
  paused: {
    tone: "off",
    boxes: [
      [8, 2],
      [14, 2],
    ],
  },
  nobody: { ...UNKNOWN, dashed: true },
};

/** What the looks of a bar mean, in words. */
export const BAR_LEGEND =
  "Each tick shows the worst state in it. Half as high: listening. Higher: throttled or reconnecting. Full: needs attention. " +
  "Two lines: paused. One line: not verified. Dashes: nobody was there. Empty: no record.";

const wordOfTick = (state: TickState): string => (state === "nobody" ? "nobody was there" : wordOf(state));

/** "listening 23 h 15 min, throttled 45 min": the ticks of each state, the best state first, and last those without a record. */
export function wordsOfDay(ticks: readonly Tick[]): string {
  const counts = Map.groupBy(ticks, (tick) => tick);
  const known = TICK_STATES.flatMap((state) => {
    const count = counts.get(state)?.length ?? 0;
    return count === 0 ? [] : [`${wordOfTick(state)} ${hoursOf(count)}`];
  });
  const unknown = counts.get(null)?.length ?? 0;
  return [...known, ...(unknown > 0 ? [`no record ${hoursOf(unknown)}`] : [])].join(", ");
}

function hoursOf(ticks: number): string {
  const minutes = (ticks * TICK_MS) / 60_000;
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  return [hours > 0 ? `${hours} h` : "", rest > 0 ? `${rest} min` : ""].filter(Boolean).join(" ");
}

/** The bar of a day. Ticks that look the same are one box, so that a page of many bars stays small. */
export function dayBar(ticks: readonly Tick[]): Html {
  const paths = new Map<Tone, string>();
  for (const { state, from, to } of stretchesOf(ticks)) {
    const { tone, boxes, dashed } = LOOKS[state];
    const starts = dashed ? Array.from({ length: to - from }, (_, n) => from + n) : [from];
    const width = dashed ? TICK_WIDTH / 2 : (to - from) * TICK_WIDTH;
    const drawn = starts.flatMap((start) =>
      boxes.map(([top, height]) => `M${start * TICK_WIDTH} ${top}h${width}v${height}h-${width}z`),
    );
    paths.set(tone, (paths.get(tone) ?? "") + drawn.join(""));
  }
  const shapes = [...paths].map(([tone, d]) => html`<path class="${tone}" d="${d}" />`);
  return html`<svg
    class="day"
    viewBox="0 0 ${ticks.length * TICK_WIDTH} ${HEIGHT}"
    preserveAspectRatio="none"
    role="img"
  >
    <title>${BAR_SPAN}: ${wordsOfDay(ticks)}</title>
    ${shapes}
  </svg>`;
}

/** Ticks of one state in a row, without those of which nothing is known. */
function stretchesOf(ticks: readonly Tick[]): { state: TickState; from: number; to: number }[] {
  const stretches: { state: TickState; from: number; to: number }[] = [];
  for (const [n, state] of ticks.entries()) {
    const last = stretches.at(-1);
    if (last && last.state === state && last.to === n) last.to = n + 1;
    else if (state !== null) stretches.push({ state, from: n, to: n + 1 });
  }
  return stretches;
}

const LINE_WIDTH = 120;
const LINE_HEIGHT = 24;

/** A line over the last hours, one point for each period; null where nothing was counted. `text` says it in words. */
export function sparkline(points: readonly (number | null)[], text: string): Html {
  const top = Math.max(1, ...points.map((point) => point ?? 0));
  const step = LINE_WIDTH / Math.max(1, points.length - 1);
  let path = "";
  for (const [n, point] of points.entries()) {
    if (point === null) continue;
    const [x, y] = [n * step, LINE_HEIGHT - 1 - (point / top) * (LINE_HEIGHT - 2)].map((value) => value.toFixed(1));
    // A point between two gaps is a dot: a line of no length with round ends.
    path += (points[n - 1] ?? null) === null ? `M${x} ${y}h0` : `L${x} ${y}`;
  }
  return html`<svg class="line" viewBox="0 0 ${LINE_WIDTH} ${LINE_HEIGHT}" preserveAspectRatio="none" role="img">
    <title>${text}</title>
    <path d="${path}" />
  </svg>`;
}
