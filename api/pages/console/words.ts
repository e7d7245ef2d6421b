/** How the console writes times, counts and the words of strangers. */
import { html } from "hono/html";
import { clock } from "../../../shared/time.ts";
import type { Html } from "../html.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** "12:31:04 UTC", with the date if it is of another day. */
export function clockTime(iso: string): string {
  const time = `${iso.slice(11, 19)} UTC`;
  return iso.slice(0, 10) === new Date(clock.now()).toISOString().slice(0, 10) ? time : `${iso.slice(0, 10)} ${time}`;
}

/** A time as "3 min ago" or "in 3 min". The exact one is in its title. */
export function relativeTime(iso: string | null): Html | string {
  if (iso === null) return "never";
  const at = Date.parse(iso);
  if (Number.isNaN(at)) return iso;
  const ms = clock.now() - at;
  const text = ms >= 0 ? `${spanOf(ms)} ago` : `in ${spanOf(-ms)}`;
  return html`<time datetime="${iso}" title="${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC">${text}</time>`;
}

/** "4 s", "3 min", "5 h", "12 days". */
export function spanOf(ms: number): string {
  if (ms < MINUTE) return `${Math.round(ms / SECOND)} s`;
  if (ms < HOUR) return `${Math.round(ms / MINUTE)} min`;
  if (ms < 2 * DAY) return `${Math.round(ms / HOUR)} h`;
  return `${Math.round(ms / DAY)} days`;
}

/** How long something took: "32 ms", "5 s". */
export function durationOf(ms: number): string {
  return ms < SECOND ? `${Math.round(ms)} ms` : spanOf(ms);
}

const LONGEST_IN_MS = 10 * SECOND;

/** The latency of a delivery: "1,240 ms", and from ten seconds on as other times. */
export function latencyText(ms: number): string {
  return ms < LONGEST_IN_MS ? `${Math.round(ms).toLocaleString("en")} ms` : spanOf(ms);
}

/** "1 mailbox", "4,812 mailboxes". */
export function countOf(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** Control characters, and those that change the direction of the text around them. */
const INVISIBLE = /[\p{Cc}\u200E\u200F\u202A-\u202E\u2066-\u2069]/gu;
const LONGEST_FOREIGN = 500;

/** The words of somebody else, such as a subject: inert, in one line, in a direction of their own. */
export function foreign(text: string | null | undefined): Html {
  const shown = (text ?? "").replaceAll(INVISIBLE, "\uFFFD");
  return html`<bdi>${shown.length > LONGEST_FOREIGN ? `${shown.slice(0, LONGEST_FOREIGN)}…` : shown}</bdi>`;
}

/** A host or an address that may be broken after its dots and its signs, so that it is not broken inside a word. */
export function breakable(host: string): Html {
  return html`${host.split(/(?<=[.@:/])/).map((part, n) => (n > 0 ? html`<wbr />${part}` : part))}`;
}
