/** Endpoints: how each is, how many mailboxes it has, and what waits for it. */
import { html } from "hono/html";
import type { Html } from "../html.ts";
import { type Cell, queryOf, table } from "./parts.ts";
import { toneMark } from "./states.ts";
import { countOf, foreign, relativeTime } from "./words.ts";

export type EndpointPause = { url: string; mailboxPrefix: string; pausedAt: string; pausedBy: string };
/** `last` is the newest attempt among the deliveries that were looked at. `isGone`: it answered 410 to one of its mailboxes. */
export type EndpointRow = {
  url: string;
  host: string;
  mailboxes: number;
  isGone: boolean;
  retrying: number;
  parked: number;
  oldest: string | null;
  last: { at: string; status: number | null; problem: string | null } | undefined;
  /** A person has paused the deliveries to it. */
  pause?: EndpointPause;
};

export function endpointsBody(base: string, rows: EndpointRow[], isWhole: boolean): Html {
  if (rows.length === 0) return html`<p>No endpoint yet: no mailbox is registered.</p>`;
  const columns = ["Endpoint", "State", "Mailboxes #", "Retrying #", "Parked #", "Oldest waiting", "Newest attempt"];
  const cells = rows.map((row): Cell[] => [
    html`<a href="${base}/endpoints/one${queryOf({ url: row.url })}">${row.url}</a>`,
    endpointMark(row),
    html`<a href="${base}/mailboxes${queryOf({ host: row.host })}">${row.mailboxes.toLocaleString("en")}</a>`,
    row.retrying > 0
      ? html`<a href="${base}/deliveries${queryOf({ state: "retrying", host: row.host })}">${row.retrying}</a>`
      : "0",
    row.parked > 0
      ? html`<a href="${base}/deliveries${queryOf({ state: "parked", host: row.host })}">${row.parked}</a>`
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

export function endpointMark({ isGone, retrying, parked, last, pause }: EndpointRow): Html {
  if (pause) return toneMark("warn", "paused by a person");
  if (isGone) return toneMark("bad", "gone");
  if (retrying > 0) return toneMark("warn", "being retried");
  if (last === undefined) return toneMark("off", "not used yet");
  if (last.problem !== null) return toneMark("bad", "refused the newest");
  return parked > 0 ? toneMark("warn", "accepts, some are parked") : toneMark("good", "accepts");
}
