/** Endpoints: how each is, how many mailboxes it has, and what waits for it. */
import { html } from "hono/html";
import { type EndpointRow, endpointState } from "../../endpoints/overview.ts";
import type { Html } from "../html.ts";
import { type Cell, queryOf, table } from "./parts.ts";
import { endpointHost } from "./shown-mailbox.ts";
import { type Tone, toneMark } from "./states.ts";
import { countOf, foreign, relativeTime } from "./words.ts";

export function endpointsBody(base: string, rows: EndpointRow[], isWhole: boolean): Html {
  if (rows.length === 0) return html`<p>No endpoint yet: no mailbox is registered.</p>`;
  const columns = ["Endpoint", "State", "Mailboxes #", "Retrying #", "Parked #", "Oldest waiting", "Newest attempt"];
  const cells = rows.map((row): Cell[] => [
    html`<a href="${base}/endpoints/one${queryOf({ url: row.url })}">${row.url}</a>`,
    endpointMark(row),
    html`<a href="${base}/mailboxes${queryOf({ host: endpointHost(row.url) })}"
      >${row.mailboxes.toLocaleString("en")}</a
    >`,
    row.retrying > 0
      ? html`<a href="${base}/deliveries${queryOf({ state: "retrying", host: endpointHost(row.url) })}"
          >${row.retrying}</a
        >`
      : "0",
    row.parked > 0
      ? html`<a href="${base}/deliveries${queryOf({ state: "parked", host: endpointHost(row.url) })}">${row.parked}</a>`
      : "0",
    row.oldest === null ? "none" : relativeTime(row.oldest),
    row.last
      ? html`${relativeTime(row.last.at)}:
        ${row.last.problem === null ? `accepted, ${row.last.status}` : foreign(row.last.problem)}`
      : "none",
  ]);
  const about = `${countOf(rows.length, "endpoint")}${isWhole ? "" : ", counted over the newest 500 deliveries of each state and the first 5,000 mailboxes"}`;
  return html`<div id="endpoints" data-live>${table(columns, cells, about)}</div>`;
}

export function endpointMark(row: EndpointRow): Html {
  const state = endpointState(row);
  const isPartly = state === "accepts" && row.parked > 0;
  return isPartly ? toneMark("warn", "accepts, some are parked") : toneMark(...MARKS[state]);
}

const MARKS: Record<ReturnType<typeof endpointState>, [tone: Tone, word: string]> = {
  paused: ["warn", "paused by a person"],
  gone: ["bad", "gone"],
  retrying: ["warn", "being retried"],
  unused: ["off", "not used yet"],
  refused: ["bad", "refused the newest"],
  accepts: ["good", "accepts"],
};
