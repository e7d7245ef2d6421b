/** Deliveries: the list with its filters, the parked ones grouped by reason, and one delivery with its attempts. */
import { html } from "hono/html";
import type { Config } from "../../../shared/config.ts";
import type { Delivery } from "../../../shared/contract/delivery.ts";
import type { ParkedTask } from "../../../shared/queue/queue.ts";
import type { EndpointPause } from "../../../shared/store/endpoint-pauses.ts";
import type { Html } from "../html.ts";
import { button, doneNote, hiddenFields, pager, queryOf, select, table, textInput } from "./parts.ts";
import { endpointHost } from "./shown-mailbox.ts";
import { deliveryMark } from "./states.ts";
import { countOf, foreign, relativeTime } from "./words.ts";

/** What a list of deliveries is filtered by. An empty text is no filter. `text` is null where nobody may ask for it. */
export type DeliveryFilter = { text: string | null; state: string; mailbox: string; host: string; reason: string };
export type DeliveryGroup = { host: string; reason: string; count: number; newest: string };
export type DeliveryListView = {
  base: string;
  query: URLSearchParams;
  filter: DeliveryFilter;
  items: Delivery[];
  next: string | null;
  total: number | undefined;
  /** The addresses of their mailboxes, by id. */
  addresses: ReadonlyMap<string, string>;
  /** Of parked ones: those with one endpoint and one reason together. */
  groups: DeliveryGroup[];
  /** Parked tasks, or why they cannot be listed. */
  tasks: ParkedTask[] | string;
  mayManage: boolean;
};

const STATES: [string, string][] = [
  ["retrying", "retrying"],
  ["parked", "parked"],
  ["delivered", "delivered"],
];

export function deliveryListBody(view: DeliveryListView): Html {
  const { base, filter, items, next, total, query, groups, addresses, mayManage } = view;
  const count = total === undefined ? `${items.length} shown` : countOf(total, "delivery", "deliveries");
  return html`${doneNote(query)} ${filterForm(base, filter)}
    ${groups.length > 1 ? groupTable(base, filter, groups) : ""}
    <div id="list" data-live>
      ${
        items.length === 0
          ? html`<p>
              ${next === null ? "No delivery matches." : "None among those looked at so far; the next page goes on."}
            </p>`
          : deliveryTable(items, { base, caption: count, addresses, selectedBy: mayManage ? SELECTION : undefined })
      }
      ${pager(`${base}/deliveries`, filter, next)} ${items.length > 0 ? replays(view) : ""} ${taskPart(view)}
    </div>`;
}

/** The form that has the check boxes of the list. */
const SELECTION = "selected";

function filterForm(base: string, { text, state, mailbox, host, reason }: DeliveryFilter): Html {
  return html`<form class="row" action="${base}/deliveries">
    ${text === null ? "" : textInput("text", "Subject, sender or Message-ID", text)}
    ${select({ name: "state", label: "State", any: "any state", value: state, options: STATES })}
    ${textInput("mailbox", "Mailbox id", mailbox)} ${textInput("host", "Endpoint host", host)}
    ${textInput("reason", "Reason", reason)}
    <button>Filter</button>
    <a class="button" href="${base}/deliveries">Clear</a>
  </form>`;
}

type DeliveryTableOptions = {
  base: string;
  caption?: string;
  addresses?: ReadonlyMap<string, string>;
  selectedBy?: string | undefined;
};

/**
 * With `addresses`, by the id of the mailbox, a column names each mailbox. With `selectedBy` each row has a check box
 * that belongs to the form with this id.
 */
export function deliveryTable(items: Delivery[], { base, caption, addresses, selectedBy }: DeliveryTableOptions): Html {
  const mailboxColumn = addresses ? ["Mailbox"] : [];
  const columns = [
    "Message",
    "State",
    "Received",
    ...mailboxColumn,
    "Endpoint",
    "Tries #",
    "Newest answer",
    "Next try",
  ];
  const mailboxCell = (id: string) =>
    html`<a href="${base}/mailboxes/${encodeURIComponent(id)}">${addresses?.get(id) ?? id}</a>`;
  const rows = items.map((one) => [
    html`${selectedBy === undefined ? "" : checkBox(one, selectedBy)} ${messageLink(one, base)}`,
    deliveryMark(one.state),
    relativeTime(one.createdAt),
    ...(addresses ? [mailboxCell(one.mailbox)] : []),
    endpointHost(one.endpoint),
    String(one.attemptCount),
    one.state === "delivered" ? String(one.attempts.at(-1)?.status ?? "") : foreign(one.reason),
    one.nextAttemptAt === null ? "none" : relativeTime(one.nextAttemptAt),
  ]);
  return table(columns, rows, caption);
}

function checkBox({ id, message }: Delivery, form: string): Html {
  const label = `Select ${message?.subject ?? id}`;
  return html`<input type="checkbox" name="id" value="${id}" form="${form}" aria-label="${label}" />`;
}

/** The subject and the sender if the record has them, else the beginning of the id. */
export function messageLink({ id, message }: Delivery, base: string): Html {
  const name = message ? foreign(message.subject ?? "(no subject)") : html`<code>${id.slice(0, 16)}</code>`;
  const sender = message?.from ? html`<div class="soft">${foreign(message.from)}</div>` : "";
  return html`<a href="${base}/deliveries/${encodeURIComponent(id)}">${name}</a>${sender}`;
}

function groupTable(base: string, { text, state, mailbox }: DeliveryFilter, groups: DeliveryGroup[]): Html {
  const rows = groups.map(({ host, reason, count, newest }) => [
    html`<a href="${base}/deliveries${queryOf({ text, state, mailbox, host, reason })}">${foreign(reason)}</a>`,
    host,
    String(count),
    relativeTime(newest),
  ]);
  return html`<h2>By reason</h2>
    ${table(["Reason", "Endpoint", "Messages #", "Newest"], rows, "Of the newest 200")}`;
}

/** Replays what is selected, or all that match if a filter says which state they have. */
function replays({ base, filter, query, mayManage }: DeliveryListView): Html {
  const all = "Replay all that match…";
  const selection = "Replay the selected";
  if (!mayManage) return html`<div class="buttons">${button({ path: `${base}/bulk`, label: all, may: false })}</div>`;
  const place = { ...filter, text: filter.text ?? "", after: query.get("after") ?? "" };
  const hasAll = filter.state === "parked" || filter.state === "retrying";
  return html`<div class="buttons">
    <form id="${SELECTION}" class="plain" method="post" action="${base}/deliveries/replay">
      ${hiddenFields(place)}<button>${selection}</button>
    </form>
    ${hasAll ? html`<a class="button" href="${base}/bulk/new${queryOf({ action: "replay", ...filter })}">${all}</a>` : ""}
    <a class="button" href="${base}/bulk">Bulk actions</a>
  </div>`;
}

function taskPart({ base, filter, tasks, mayManage: may }: DeliveryListView): Html | string {
  if (filter.state !== "parked") return "";
  if (typeof tasks === "string")
    return html`<h2 id="tasks">Parked tasks</h2>
      <p class="note bad">${tasks}</p>`;
  if (tasks.length === 0) return "";
  const rows = tasks.map(({ task, reason, tries, parkedAt }) => [
    task?.kind ?? "unknown to this version",
    task?.mailbox ?? "",
    foreign(reason ?? "a worker died during it, or the broker gave it up"),
    String(tries),
    relativeTime(parkedAt),
  ]);
  return html`<h2 id="tasks">Parked tasks</h2>
    ${table(["Task", "Mailbox", "Reason", "Tries #", "Parked"], rows, "At most 50, the oldest first")}
    ${button({ path: `${base}/deliveries/tasks`, label: "Replay all parked tasks", may })}`;
}

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
  /** The pause that holds it. */
  pause: EndpointPause | undefined;
  /** Undefined if the message is no longer stored, or must not be shown. */
  letter: Letter | undefined;
  bodies: Config["CONSOLE_BODIES"];
  mayManage: boolean;
};

export function deliveryBody({ base, query, delivery, pause, letter, bodies, mayManage: may }: DeliveryPageView): Html {
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
      ${button({ path: `${path}/replay`, label: "Replay", may, look: "main" })}
      ${bodies === "off" ? "" : html`<a class="button" href="${path}/raw" download>Download the message</a>`}
    </div>
    ${letter ? headerLines(letter) : ""} ${letter && bodies === "on" ? bodyFrame(path) : ""}
    <h2>About it</h2>
    <dl>
      <dt>Mailbox</dt>
      <dd><a href="${base}/mailboxes/${encodeURIComponent(mailbox)}">${mailbox}</a></dd>
      <dt>Endpoint</dt>
      <dd>${endpoint}</dd>
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
      <dd>${foreign(message.messageId ?? "(none)")}</dd>
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
    <dd>${date ?? "(none)"}</dd>
    <dt>Message-ID</dt>
    <dd>${foreign(messageId ?? "(none)")}</dd>
  </dl>`;
}
