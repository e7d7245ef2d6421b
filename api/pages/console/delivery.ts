/** One delivery: its attempts, and what is known of its message. */
import { html } from "hono/html";
import type { Config } from "../../../shared/config.ts";
import type { Delivery } from "../../../shared/contract/delivery.ts";
import type { EndpointPause } from "../../../shared/store/endpoint-pauses.ts";
import type { Html } from "../html.ts";
import { button, doneNote, queryOf, table } from "./parts.ts";
import { deliveryMark } from "./states.ts";
import { countOf, foreign, relativeTime } from "./words.ts";

/** What the header of a stored message says. */
export type Letter = {
  subject: string | null;
  from: string;
  to: string;
  date: string | null;
  messageId: string | null;
  /** All header lines, in their order. */
  headers: [name: string, value: string][];
};

export type DeliveryPageView = {
  base: string;
  query: URLSearchParams;
  delivery: Delivery;
  /** Undefined if the mailbox is gone. */
  target: { address: string; url: string } | undefined;
  /** The pause that holds it. */
  pause: EndpointPause | undefined;
  /** Undefined if the message is no longer stored, or must not be shown. */
  letter: Letter | undefined;
  bodies: Config["CONSOLE_BODIES"];
  mayManage: boolean;
};

export function deliveryBody({
  base,
  query,
  delivery,
  target,
  pause,
  letter,
  bodies,
  mayManage: may,
}: DeliveryPageView): Html {
  const { id, state, attempts, attemptCount, mailbox, endpoint, ref, reason, nextAttemptAt, giveUpAt } = delivery;
  const path = `${base}/deliveries/${encodeURIComponent(id)}`;
  const rows = attempts
    .toReversed()
    .map(({ at, status, problem, ms }) => [
      relativeTime(at),
      status === null ? "no answer" : String(status),
      `${Math.round(ms)} ms`,
      problem === null ? "accepted" : foreign(problem),
    ]);
  return html`${doneNote(query)}
    <div id="delivery" data-live>
      <p class="verdict">
        ${deliveryMark(state)} ${state === "delivered" ? "The endpoint accepted it." : foreign(reason)}
      </p>
      ${pause ? pausedNote(pause, base) : ""}
      ${state === "retrying" && !pause ? html`<p>Next attempt ${relativeTime(nextAttemptAt)}, given up ${relativeTime(giveUpAt)}.</p>` : ""}
      ${letter ? letterFacts(letter) : knownFacts(delivery, bodies)}
      <h2>Attempts</h2>
      ${
        rows.length === 0
          ? html`<p>None yet.</p>`
          : table(["When", "Status", "Time #", "Answer"], rows, `${countOf(attemptCount, "attempt")}, the newest first`)
      }
    </div>
    <div class="buttons">
      ${button({ path: `${path}/replay`, label: "Replay", may, look: "main", because: pause ? "its endpoint is paused" : undefined })}
      ${bodies === "off" ? "" : html`<a class="button" href="${path}/raw" download>Download the message</a>`}
    </div>
    ${letter ? headerLines(letter) : ""} ${letter && bodies === "on" ? bodyFrame(path) : ""}
    <h2>About it</h2>
    <dl>
      <dt>Mailbox</dt>
      <dd><a href="${base}/mailboxes/${encodeURIComponent(mailbox)}">${target?.address ?? mailbox}</a></dd>
      <dt>Endpoint</dt>
      <dd>
        ${target ? html`<a href="${base}/endpoints/one${queryOf({ url: target.url })}">${target.url}</a>` : endpoint}
      </dd>
      <dt>Lies in</dt>
      <dd>${foreign(ref.folder)}, uid ${ref.uid}, ${countOf(ref.size, "byte")}</dd>
      <dt>Received by the mail server</dt>
      <dd>${relativeTime(ref.receivedAt)}</dd>
      <dt>Delivery id</dt>
      <dd><code>${id}</code></dd>
    </dl>`;
}

function pausedNote({ by, at, url }: EndpointPause, base: string): Html {
  return html`<p class="note bad">
    ${by} paused the deliveries to <a href="${base}/endpoints/one${queryOf({ url })}">${url}</a> ${relativeTime(at)}. It
    waits without an attempt until somebody resumes them.
  </p>`;
}

/** What the record keeps of a message that is no longer stored. */
function knownFacts({ message }: Delivery, bodies: Config["CONSOLE_BODIES"]): Html {
  const note = html`<p class="soft">${bodies === "off" ? HIDDEN : NOT_STORED}</p>`;
  if (!message) return note;
  return html`<dl>
      <dt>Subject</dt>
      <dd>${foreign(message.subject ?? "(none)")}</dd>
      <dt>From</dt>
      <dd>${foreign(message.from ?? "(none)")}</dd>
      <dt>Message-ID</dt>
      <dd>${foreign(message.messageId === null ? "(none)" : `<${message.messageId}>`)}</dd>
    </dl>
    ${note}`;
}

const NOT_STORED = "The message is stored only while it waits or is parked. Its mail server has it.";
const HIDDEN = "This service does not show messages here (CONSOLE_BODIES=off).";
const MAX_HEADER_LINES = 300;

function headerLines({ headers }: Letter): Html {
  const rows = headers.slice(0, MAX_HEADER_LINES).map(([name, value]) => [foreign(name), foreign(value)]);
  return html`<details>
    <summary>Header lines</summary>
    ${table(["Name", "Value"], rows, countOf(headers.length, "line"))}
  </details>`;
}

function bodyFrame(path: string): Html {
  return html`<h2>Body</h2>
    <iframe
      class="message"
      title="The body of the message"
      sandbox=""
      referrerpolicy="no-referrer"
      src="${path}/body"
    ></iframe>`;
}

function letterFacts({ subject, from, to, date, messageId }: Letter): Html {
  return html`<dl>
    <dt>Subject</dt>
    <dd>${foreign(subject ?? "(none)")}</dd>
    <dt>From</dt>
    <dd>${foreign(from)}</dd>
    <dt>To</dt>
    <dd>${foreign(to)}</dd>
    <dt>Date</dt>
    <dd>${date === null ? "(none)" : relativeTime(date)}</dd>
    <dt>Message-ID</dt>
    <dd>${foreign(messageId ?? "(none)")}</dd>
  </dl>`;
}
