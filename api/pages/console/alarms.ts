/** The page of alarms: what is wrong now, who is told, what could not be told, and a test. */
import { html } from "hono/html";
import type { Alarm, Notice } from "../../alarms/book.ts";
import type { AlarmsView, TestReport } from "../../alarms/views.ts";
import type { Html } from "../html.ts";
import { table } from "./parts.ts";
import { toneMark } from "./states.ts";
import { clockTime, foreign, relativeTime } from "./words.ts";

const DENIED_ID = "needs-admin";

/** Without a view the caller may not see it. */
export function alarmsBody(base: string, view: AlarmsView | undefined, tested?: TestReport): Html {
  if (!view)
    return html`<p class="note" id="${DENIED_ID}">This view needs a token with the scope admin.</p>
      <button type="button" disabled aria-describedby="${DENIED_ID}">Send a test</button>`;
  if (view.channels.length === 0)
    return html`<p class="verdict off">Nobody is told, and nobody looks.</p>
      <p>
        Set <code>ALARM_URL</code> and <code>ALARM_SECRET</code> for a webhook, or <code>ALARM_MAILBOX</code> and
        <code>ALARM_TO</code> for a mail, and start the service again.
      </p>`;
  return html`${sentenceOf(view)}
    <form class="plain" method="post" action="${base}/alarms"><button class="main">Send a test</button></form>
    ${tested ? testNote(tested) : ""} ${view.alarms.length > 0 ? alarmTable(view.alarms) : ""}
    ${view.undelivered.length > 0 ? noticeTable(view.undelivered) : ""}`;
}

function sentenceOf({ channels, lookedAt, alarms }: AlarmsView): Html {
  const begun = alarms.filter(({ begunAt }) => begunAt !== null).length;
  const told = html`<p class="soft">
    Told by ${channels.join(" and ")}. ${lookedAt === null ? "" : html`Looked at ${clockTime(lookedAt)}.`}
  </p>`;
  if (lookedAt === null)
    return html`<p class="verdict off">Nobody has looked yet.</p>
      ${told}`;
  const text =
    begun === 0 ? "Nothing is wrong that would be told." : begun === 1 ? "One alarm is on." : `${begun} alarms are on.`;
  return html`<p class="verdict ${begun === 0 ? "good" : "bad"}">${text}</p>
    ${told}`;
}

function testNote({ channels }: TestReport): Html {
  const failed = channels.some(({ ok }) => !ok);
  return html`<div class="note ${failed ? "bad" : "good"}" role="status">
    ${channels.map(({ channel, ok, cause }) =>
      ok ? html`<p>The ${channel} took the test.</p>` : html`<p>The ${channel} did not take it: ${foreign(cause)}</p>`,
    )}
  </div>`;
}

function alarmTable(alarms: Alarm[]): Html {
  const rows = alarms.map(({ code, place, count, cause, fix, firstSeenAt, begunAt }) => [
    begunAt === null ? toneMark("warn", "may begin") : toneMark("bad", "on"),
    html`<code>${code}</code> at ${foreign(place)}`,
    String(count),
    relativeTime(begunAt ?? firstSeenAt),
    html`${foreign(cause)} <span class="fix">${foreign(fix)}</span>`,
  ]);
  return html`<h2>Now</h2>
    ${table(["State", "What", "How often #", "Since", "Cause and fix"], rows)}`;
}

function noticeTable(notices: Notice[]): Html {
  const rows = notices.map(({ type, at, alarm, pending, attempts, nextAttemptAt, problem }) => [
    html`<code>${type}</code>`,
    html`<code>${alarm.code}</code> at ${foreign(alarm.place)}, ${relativeTime(at)}`,
    pending.join(" and "),
    html`${String(attempts)}, next ${relativeTime(nextAttemptAt)}`,
    foreign(problem ?? "not tried yet"),
  ]);
  return html`<h2>Not told yet</h2>
    ${table(["Message", "About", "By", "Attempts", "Why not"], rows)}`;
}
